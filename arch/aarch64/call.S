/*
 * aarch64: a call of a C function with arguments that are known at run time.
 *
 *              | caller of archCall      |
 *     CFA  ->  +-------------------------+
 *              | padding                 |
 *              | caller's x19            |
 *     fp   ->  | caller's fp lr          |
 *              +-------------------------+
 *              | a word, if they are odd |
 *     sp   ->  | stack arguments         |
 *              +-------------------------+
 */
#include "asm.h"

#define CALL_CFA (RECORD + 2 * WORD)

.macro LOAD_INTEGERS first, second
        ldp     x\first, x\second, [x19, #FRAME_INTEGERS + \first * WORD]
.endm

.macro LOAD_FLOATS first, second
        ldp     d\first, d\second, [x19, #FRAME_FLOATS + \first * WORD]
.endm

/* void archCall(StgFunPtr fn, ArchFrame *frame)
 * In: x0 = fn, x1 = frame. Out: the frame's results. Clobbers: what a call clobbers.
 * Stack: above at the call of fn; as it was on return. */
FUNC archCall
        ENTER_SIGNED
        stp     x29, x30, [sp, #-CALL_CFA]!
        .cfi_def_cfa_offset CALL_CFA
        .cfi_offset x29, -CALL_CFA
        .cfi_offset x30, WORD - CALL_CFA
        mov     x29, sp
        .cfi_def_cfa_register x29
        str     x19, [sp, #RECORD]
        .cfi_offset x19, RECORD - CALL_CFA
        mov     x19, x1                         /* x19 = frame */
        mov     x16, x0                         /* x16 = fn */
        ldr     x9, [x19, #FRAME_STACK_WORDS]
        cbz     x9, .Lfloats
        lsl     x10, x9, #3                     /* room for the stack's words, aligned */
        add     x10, x10, #STACK_ALIGNMENT - 1
        and     x10, x10, #-STACK_ALIGNMENT
        sub     sp, sp, x10
        add     x11, x19, #FRAME_STACK
        mov     x12, sp
.Lnext:
        ldr     x13, [x11], #WORD
        str     x13, [x12], #WORD
        subs    x9, x9, #1
        b.ne    .Lnext
.Lfloats:
        ldr     x9, [x19, #FRAME_FLOATS_USED]
        cbz     x9, .Lintegers
        LOAD_FLOATS 0, 1
        LOAD_FLOATS 2, 3
        LOAD_FLOATS 4, 5
        LOAD_FLOATS 6, 7
.Lintegers:
        LOAD_INTEGERS 0, 1
        LOAD_INTEGERS 2, 3
        LOAD_INTEGERS 4, 5
        LOAD_INTEGERS 6, 7
        blr     x16                             /* fn(...) */
        str     x0, [x19, #FRAME_INTEGER_RESULT]
        str     d0, [x19, #FRAME_FLOAT_RESULT]
        mov     sp, x29                         /* without the stack's words */
        .cfi_def_cfa_register sp
        ldr     x19, [sp, #RECORD]
        .cfi_restore x19
        ldp     x29, x30, [sp], #CALL_CFA
        .cfi_def_cfa_offset 0
        .cfi_restore x29
        .cfi_restore x30
        CHECK_SIGNED
        ret
END archCall

END_FILE

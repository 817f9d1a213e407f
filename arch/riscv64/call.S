/*
 * riscv64: a call of a C function with arguments that are known at run time.
 *
 *              | caller of archCall      |
 *     CFA  ->  +-------------------------+  = s0
 *              | return address          |  a CallFrame
 *              | caller's s0, s1         |
 *              | padding                 |
 *              +-------------------------+
 *              | a word, if they are odd |
 *     sp   ->  | stack arguments         |
 *              +-------------------------+
 */
#include "asm.h"

/* void archCall(StgFunPtr fn, ArchFrame *frame)
 * In: a0 = fn, a1 = frame. Out: the frame's results. Clobbers: what a call clobbers.
 * Stack: above at the call of fn; as it was on return. */
FUNC archCall
        PUSH_FRAME CALL_CFA
        sd      ra, CALL_RA(sp)
        sd      s0, CALL_S0(sp)
        sd      s1, CALL_S1(sp)
        .cfi_offset ra, CALL_RA - CALL_CFA
        .cfi_offset s0, CALL_S0 - CALL_CFA
        .cfi_offset s1, CALL_S1 - CALL_CFA
        addi    s0, sp, CALL_CFA
        .cfi_def_cfa s0, 0
        mv      s1, a1                          /* s1 = frame */
        mv      t1, a0                          /* t1 = fn */
        ld      t2, FRAME_STACK_WORDS(s1)
        bnez    t2, .Lpush
.Lregisters:
        ld      t2, FRAME_FLOATS_USED(s1)
        beqz    t2, .Lintegers
        .irp i, 0, 1, 2, 3, 4, 5, 6, 7
        fld     fa\i, FRAME_FLOATS + \i * WORD(s1)
        .endr
.Lintegers:
        .irp i, 0, 1, 2, 3, 4, 5, 6, 7
        ld      a\i, FRAME_INTEGERS + \i * WORD(s1)
        .endr
        jalr    t1                              /* fn(...) */
        sd      a0, FRAME_INTEGER_RESULT(s1)
        fsd     fa0, FRAME_FLOAT_RESULT(s1)
        addi    sp, s0, -CALL_CFA               /* the stack's words are gone */
        .cfi_def_cfa sp, CALL_CFA
        ld      s1, CALL_S1(sp)
        .cfi_restore s1
        ld      s0, CALL_S0(sp)
        .cfi_restore s0
        ld      ra, CALL_RA(sp)
        .cfi_restore ra
        POP_FRAME CALL_CFA
        ret
        .cfi_def_cfa s0, 0
        .cfi_offset ra, CALL_RA - CALL_CFA
        .cfi_offset s0, CALL_S0 - CALL_CFA
        .cfi_offset s1, CALL_S1 - CALL_CFA
.Lpush:                                         /* the stack's words, the first one first */
        slli    t2, t2, WORD_SHIFT
        sub     sp, sp, t2
        andi    sp, sp, -STACK_ALIGNMENT
        addi    t3, s1, FRAME_STACK             /* from here */
        add     t4, t3, t2                      /* to here */
        mv      t5, sp
.Lnext:
        ld      t6, 0(t3)
        sd      t6, 0(t5)
        addi    t3, t3, WORD
        addi    t5, t5, WORD
        bne     t3, t4, .Lnext
        j       .Lregisters
END archCall

END_FILE

/*
 * aarch64: adjustors.
 *
 * archAdjustorEntry's frame is an ArchFrame; the frame record is its last two words:
 *
 *              | the caller's stack args |  frame->stack
 *     CFA  ->  +-------------------------+
 *     fp   ->  | caller's fp lr          |  frame->floatsUsed, frame->stackWords
 *              | results                 |
 *              | d0-d7                   |  frame->floats
 *     sp   ->  | x0-x7                   |  frame->integers
 *              +-------------------------+
 */
#include "asm.h"

.macro SAVE_INTEGERS first, second
        stp     x\first, x\second, [sp, #FRAME_INTEGERS + \first * WORD]
.endm

.macro SAVE_FLOATS first, second
        stp     d\first, d\second, [sp, #FRAME_FLOATS + \first * WORD]
.endm

/* Not callable: where adjustors go on.
 * In: x16 = the record, everything else as the adjustor's caller left it. Out: x0 and d0, one of them the result.
 * Clobbers: what a call clobbers. Stack: above at the handler's call; as it was on return. */
FUNC archAdjustorEntry
        ENTER_SIGNED
        PUSH_FRAME ADJUSTOR_CFA
        stp     x29, x30, [sp, #ADJUSTOR_RECORD]
        .cfi_offset x29, ADJUSTOR_RECORD - ADJUSTOR_CFA
        .cfi_offset x30, ADJUSTOR_RECORD + WORD - ADJUSTOR_CFA
        add     x29, sp, #ADJUSTOR_RECORD
        SAVE_INTEGERS 0, 1
        SAVE_INTEGERS 2, 3
        SAVE_INTEGERS 4, 5
        SAVE_INTEGERS 6, 7
        SAVE_FLOATS 0, 1
        SAVE_FLOATS 2, 3
        SAVE_FLOATS 4, 5
        SAVE_FLOATS 6, 7
        mov     x0, x16
        mov     x1, sp
        adrp    x9, archAdjustorHandler
        ldr     x9, [x9, #:lo12:archAdjustorHandler]
        blr     x9                              /* handler(record, frame) */
        ldr     x0, [sp, #FRAME_INTEGER_RESULT]
        ldr     d0, [sp, #FRAME_FLOAT_RESULT]
        ldp     x29, x30, [sp, #ADJUSTOR_RECORD]
        .cfi_restore x29
        .cfi_restore x30
        POP_FRAME ADJUSTOR_CFA
        CHECK_SIGNED
        ret
END archAdjustorEntry

/* void (*archAdjustorHandler)(ArchAdjustor *record, ArchFrame *frame) */
        .bss
        .balign WORD
        .globl  archAdjustorHandler
        .hidden archAdjustorHandler
        .type   archAdjustorHandler, %object
        .size   archAdjustorHandler, WORD
archAdjustorHandler:
        .zero   WORD

/* The template. Entry i stands at i * ADJUSTOR_STEP and loads the address of record i, which lies behind the head, which lies behind the code. By x16 and
 * x17, as a linker's veneer would, and so that the jump may land where a call may. Executed in copies only, where the data is. */
#define TEMPLATE_DATA (.Ltemplate + ADJUSTOR_CODE_BYTES)

        .section .text.archAdjustorTemplate, "ax", %progbits
        .balign ADJUSTOR_CODE_BYTES
        .globl  archAdjustorTemplate
        .hidden archAdjustorTemplate
        .type   archAdjustorTemplate, %object
        .size   archAdjustorTemplate, ADJUSTOR_CODE_BYTES
archAdjustorTemplate:
.Ltemplate:
        .set    entry, 0
        .rept   ADJUSTOR_COUNT
        BTI_CALL
        adr     x16, TEMPLATE_DATA + ADJUSTOR_HEAD_BYTES + entry * ADJUSTOR_RECORD_BYTES
        ldr     x17, TEMPLATE_DATA + ADJUSTOR_HEAD_ENTRY
        br      x17
        .set    entry, entry + 1
        .endr
        .balign ADJUSTOR_CODE_BYTES

END_FILE

/*
 * x86-64: adjustors.
 *
 * archAdjustorEntry's frame is an ArchFrame; the return address is its last word:
 *
 *              | the caller's stack args |  frame->stack
 *     CFA  ->  +-------------------------+
 *              | return address          |  frame->stackWords
 *              | padding                 |  frame->floatsUsed
 *              | results                 |
 *              | xmm0-xmm7, low halves   |  frame->floats
 *     rsp  ->  | rdi rsi rdx rcx r8 r9   |  frame->integers
 *              +-------------------------+
 */
#include "asm.h"

.macro SAVE_FLOAT number
        movsd   %xmm\number, FRAME_FLOATS + \number * WORD(%rsp)
.endm

/* Not callable: where adjustors go on.
 * In: r11 = the record, everything else as the adjustor's caller left it. Out: rax and xmm0, one of them the result.
 * Clobbers: what a call clobbers. Stack: above at the handler's call; as it was on return. */
FUNC archAdjustorEntry
        ENDBR
        PUSH_FRAME ADJUSTOR_CFA
        movq    %rdi, FRAME_INTEGERS + 0 * WORD(%rsp)
        movq    %rsi, FRAME_INTEGERS + 1 * WORD(%rsp)
        movq    %rdx, FRAME_INTEGERS + 2 * WORD(%rsp)
        movq    %rcx, FRAME_INTEGERS + 3 * WORD(%rsp)
        movq    %r8, FRAME_INTEGERS + 4 * WORD(%rsp)
        movq    %r9, FRAME_INTEGERS + 5 * WORD(%rsp)
        movq    ADJUSTOR_LAYOUT(%r11), %rax
        cmpb    $0, LAYOUT_FLOATS(%rax)
        jne     .Lfloats
.Lcall:
        movq    %r11, %rdi
        movq    %rsp, %rsi
        call    *archAdjustorHandler(%rip)      /* handler(record, frame) */
        movq    FRAME_INTEGER_RESULT(%rsp), %rax
        movsd   FRAME_FLOAT_RESULT(%rsp), %xmm0
        POP_FRAME ADJUSTOR_CFA
        ret
        .cfi_def_cfa_offset ADJUSTOR_CFA
.Lfloats:
        SAVE_FLOAT 0
        SAVE_FLOAT 1
        SAVE_FLOAT 2
        SAVE_FLOAT 3
        SAVE_FLOAT 4
        SAVE_FLOAT 5
        SAVE_FLOAT 6
        SAVE_FLOAT 7
        jmp     .Lcall
END archAdjustorEntry

/* void (*archAdjustorHandler)(ArchAdjustor *record, ArchFrame *frame) */
        .bss
        .balign WORD
        .globl  archAdjustorHandler
        .hidden archAdjustorHandler
        .type   archAdjustorHandler, @object
        .size   archAdjustorHandler, WORD
archAdjustorHandler:
        .zero   WORD

/* The template. Entry i stands at i * ADJUSTOR_STEP and loads the address of record i, which lies behind the head, which lies behind the code. The last
 * step's place holds the jump out. Executed in copies only, where the data is. */
#define TEMPLATE_DATA (archAdjustorTemplate + ADJUSTOR_CODE_BYTES)

        .section .text.archAdjustorTemplate, "ax", @progbits
        .balign ADJUSTOR_CODE_BYTES
        .globl  archAdjustorTemplate
        .hidden archAdjustorTemplate
        .type   archAdjustorTemplate, @object
        .size   archAdjustorTemplate, ADJUSTOR_CODE_BYTES
archAdjustorTemplate:
        .set    entry, 0
        .rept   ADJUSTOR_COUNT
        ENDBR
        leaq    TEMPLATE_DATA + ADJUSTOR_HEAD_BYTES + entry * ADJUSTOR_RECORD_BYTES(%rip), %r11
        jmp     .Lout
        .balign ADJUSTOR_STEP, 0xcc
        .set    entry, entry + 1
        .endr
.Lout:
        jmp     *TEMPLATE_DATA + ADJUSTOR_HEAD_ENTRY(%rip)
        .balign ADJUSTOR_CODE_BYTES, 0xcc

END_FILE

/*
 * x86-64: a call of a C function with arguments that are known at run time.
 *
 *              | caller of archCall      |
 *     CFA  ->  +-------------------------+
 *              | return address          |
 *     rbp  ->  | caller's rbp            |
 *              | caller's rbx            |
 *              | padding                 |
 *              +-------------------------+
 *              | a word, if they are odd |
 *              | stack arguments         |
 *     rsp  ->  +-------------------------+
 *              | return address          |  into archCall
 */
#include "asm.h"

.macro LOAD_FLOAT number
        movsd   FRAME_FLOATS + \number * WORD(%rbx), %xmm\number
.endm

/* void archCall(StgFunPtr fn, ArchFrame *frame)
 * In: rdi = fn, rsi = frame. Out: the frame's results. Clobbers: what a call clobbers.
 * Stack: above at the call of fn; as it was on return. */
FUNC archCall
        ENDBR
        pushq   %rbp
        .cfi_adjust_cfa_offset WORD
        .cfi_rel_offset %rbp, 0
        movq    %rsp, %rbp
        .cfi_def_cfa_register %rbp
        pushq   %rbx
        .cfi_offset %rbx, -3 * WORD
        pushq   %rax                            /* padding */
        movq    %rsi, %rbx                      /* rbx = frame */
        movq    %rdi, %r11                      /* r11 = fn */
        movq    FRAME_STACK_WORDS(%rbx), %rcx
        testq   %rcx, %rcx
        jnz     .Lpush
.Lregisters:
        movq    FRAME_FLOATS_USED(%rbx), %rax   /* al: what a variadic function wants to know */
        testl   %eax, %eax
        jnz     .Lfloats
.Lintegers:
        movq    FRAME_INTEGERS + 0 * WORD(%rbx), %rdi
        movq    FRAME_INTEGERS + 1 * WORD(%rbx), %rsi
        movq    FRAME_INTEGERS + 2 * WORD(%rbx), %rdx
        movq    FRAME_INTEGERS + 3 * WORD(%rbx), %rcx
        movq    FRAME_INTEGERS + 4 * WORD(%rbx), %r8
        movq    FRAME_INTEGERS + 5 * WORD(%rbx), %r9
        call    *%r11                           /* fn(...) */
        movq    %rax, FRAME_INTEGER_RESULT(%rbx)
        movsd   %xmm0, FRAME_FLOAT_RESULT(%rbx)
        movq    -WORD(%rbp), %rbx
        movq    %rbp, %rsp
        popq    %rbp
        .cfi_def_cfa %rsp, WORD
        .cfi_restore %rbp
        .cfi_restore %rbx
        ret
        .cfi_def_cfa %rbp, 2 * WORD
        .cfi_offset %rbp, -2 * WORD
        .cfi_offset %rbx, -3 * WORD
.Lpush:                                         /* the stack's words, the last one first */
        leaq    (, %rcx, WORD), %rax
        subq    %rax, %rsp
        andq    $-STACK_ALIGNMENT, %rsp
.Lnext:
        movq    FRAME_STACK - WORD(%rbx, %rcx, WORD), %rax
        movq    %rax, -WORD(%rsp, %rcx, WORD)
        decq    %rcx
        jnz     .Lnext
        jmp     .Lregisters
.Lfloats:
        LOAD_FLOAT 0
        LOAD_FLOAT 1
        LOAD_FLOAT 2
        LOAD_FLOAT 3
        LOAD_FLOAT 4
        LOAD_FLOAT 5
        LOAD_FLOAT 6
        LOAD_FLOAT 7
        jmp     .Lintegers
END archCall

END_FILE

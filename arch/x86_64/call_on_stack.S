/*
 * x86-64: a call on another stack.
 *
 *        the calling stack                         the other stack
 *              | caller                |               | what lives there |
 *     CFA  ->  +-----------------------+    os_sp  ->  +------------------+
 *              | return address        |               | return address   |  into callAcross
 *     rbp  ->  | caller's rbp          |               | fn's frame       |
 *              | return address        |  into archCallOnStack
 *              +-----------------------+
 *
 * Two routines, because gdb takes a frame that lies on the wrong side of the one it called for a corrupt stack,
 * unless it is marked as a signal frame; but unwinders look up the *caller* of a signal frame without stepping back
 * into the call, which is harmless only where we know the instruction after it. gdb shows the frame of callAcross as
 * <signal handler called>.
 */
#include "asm.h"

/* rbp = the calling stack's pointer before this was called, which is its CFA from the first to the last instruction.
 * In: rdi = os_sp, rsi = fn, rdx = arg. Out: rax = the result of fn. */
LOCAL_FUNC callAcross
        .cfi_signal_frame
        .cfi_def_cfa %rbp, 0
        andq    $-STACK_ALIGNMENT, %rdi
        movq    %rdi, %rsp                      /* on the other stack */
        movq    %rdx, %rdi
        call    *%rsi                           /* fn(arg) */
        leaq    -WORD(%rbp), %rsp               /* back */
        ret
END callAcross

/* void *archCallOnStack(void *os_sp, void *(*fn)(void *), void *arg)
 * In: rdi = os_sp, rsi = fn, rdx = arg. Out: rax = the result of fn. Clobbers: what a call clobbers.
 * Stack: above at the call of fn; as it was on return. */
FUNC archCallOnStack
        ENDBR
        pushq   %rbp
        .cfi_adjust_cfa_offset WORD
        .cfi_rel_offset %rbp, 0
        movq    %rsp, %rbp
        .cfi_def_cfa_register %rbp
        call    callAcross
        popq    %rbp
        .cfi_def_cfa %rsp, WORD
        .cfi_restore %rbp
        ret
END archCallOnStack

END_FILE

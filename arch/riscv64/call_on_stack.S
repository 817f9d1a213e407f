/*
 * riscv64: a call on another stack.
 *
 *        the calling stack                         the other stack
 *              | caller                |               | what lives there |
 *     s0   ->  +-----------------------+    os_sp  ->  +------------------+
 *              | return address        |               | fn's frame       |
 *              | caller's s0           |
 *     CFA  ->  +-----------------------+  of callAcross
 *              | return address        |  into archCallOnStack
 *              | unused                |
 *              +-----------------------+
 *
 * Two routines, because gdb takes a frame that lies on the wrong side of the one it called for a corrupt stack,
 * unless it is marked as a signal frame; but unwinders look up the *caller* of a signal frame without stepping back
 * into the call, which is harmless only where we know the instruction after it. gdb shows the frame of callAcross as
 * <signal handler called>.
 */
#include "asm.h"

/* s0 = LINK_CFA above the stack pointer before this was called, which is its CFA from the first to the last
 * instruction. In: a0 = os_sp, a1 = fn, a2 = arg. Out: a0 = the result of fn. */
LOCAL_FUNC callAcross
        .cfi_signal_frame
        .cfi_def_cfa s0, -LINK_CFA
        addi    sp, sp, -LINK_CFA
        sd      ra, LINK_RA(sp)
        .cfi_offset ra, LINK_RA - LINK_CFA
        andi    sp, a0, -STACK_ALIGNMENT        /* on the other stack */
        mv      a0, a2
        jalr    a1                              /* fn(arg) */
        addi    sp, s0, -2 * LINK_CFA           /* back */
        ld      ra, LINK_RA(sp)
        .cfi_restore ra
        addi    sp, sp, LINK_CFA
        ret
END callAcross

/* void *archCallOnStack(void *os_sp, void *(*fn)(void *), void *arg)
 * In: a0 = os_sp, a1 = fn, a2 = arg. Out: a0 = the result of fn. Clobbers: what a call clobbers.
 * Stack: above at the call of fn; as it was on return. */
FUNC archCallOnStack
        PUSH_FRAME LINK_CFA
        sd      s0, LINK_S0(sp)
        sd      ra, LINK_RA(sp)
        .cfi_offset s0, LINK_S0 - LINK_CFA
        .cfi_offset ra, LINK_RA - LINK_CFA
        addi    s0, sp, LINK_CFA
        .cfi_def_cfa s0, 0
        jal     callAcross
        ld      ra, LINK_RA(sp)
        .cfi_restore ra
        .cfi_def_cfa sp, LINK_CFA
        ld      s0, LINK_S0(sp)
        .cfi_restore s0
        POP_FRAME LINK_CFA
        ret
END archCallOnStack

END_FILE

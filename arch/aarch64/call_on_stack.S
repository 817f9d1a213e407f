/*
 * aarch64: a call on another stack.
 *
 *        the calling stack                         the other stack
 *              | caller                |               | what lives there |
 *     CFA  ->  +-----------------------+    os_sp  ->  +------------------+
 *              | caller's lr           |               | fn's frame       |
 *     fp   ->  | caller's fp           |
 *              | padding               |
 *              | lr                    |  into archCallOnStack
 *              +-----------------------+
 *
 * Two routines, because gdb takes a frame that lies on the wrong side of the one it called for a corrupt stack,
 * unless it is marked as a signal frame; but unwinders look up the *caller* of a signal frame without stepping back
 * into the call, which is harmless only where we know the instruction after it. gdb shows the frame of callAcross as
 * <signal handler called>.
 */
#include "asm.h"

/* fp = the calling stack's pointer before this was called, which is its CFA from the first to the last instruction.
 * In: x0 = os_sp, x1 = fn, x2 = arg. Out: x0 = the result of fn. */
LOCAL_FUNC callAcross
        .cfi_signal_frame
        .cfi_def_cfa x29, 0
        ENTER_SIGNED
        str     x30, [sp, #-RECORD]!
        .cfi_offset x30, -RECORD
        and     sp, x0, #-STACK_ALIGNMENT       /* on the other stack */
        mov     x0, x2
        blr     x1                              /* fn(arg) */
        ldr     x30, [x29, #-RECORD]
        .cfi_restore x30
        mov     sp, x29                         /* back */
        CHECK_SIGNED
        ret
END callAcross

/* void *archCallOnStack(void *os_sp, void *(*fn)(void *), void *arg)
 * In: x0 = os_sp, x1 = fn, x2 = arg. Out: x0 = the result of fn. Clobbers: what a call clobbers.
 * Stack: above at the call of fn; as it was on return. */
FUNC archCallOnStack
        ENTER_SIGNED
        stp     x29, x30, [sp, #-RECORD]!
        .cfi_def_cfa_offset RECORD
        .cfi_offset x29, -RECORD
        .cfi_offset x30, WORD - RECORD
        mov     x29, sp
        .cfi_def_cfa_register x29
        bl      callAcross
        ldp     x29, x30, [sp], #RECORD
        .cfi_def_cfa sp, 0
        .cfi_restore x29
        .cfi_restore x30
        CHECK_SIGNED
        ret
END archCallOnStack

END_FILE

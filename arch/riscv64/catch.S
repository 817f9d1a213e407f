/*
 * riscv64: catching and raising.
 *
 * A catch frame (CatchStackFrame in frames.h), at the call of the body:
 *
 *              | caller of archCatch     |
 *     CFA  ->  +-------------------------+
 *              | fs11 ... fs0            |
 *              | s11 ... s0              |  for a raise; a return finds them in place
 *              | return address          |
 *              | mask, roots             |  what a raise puts back into the Stack
 *              | stack                   |
 *              | prev                    |
 *     sp   ->  | handler = archLand      |  <- stack->trap
 *              +-------------------------+
 *              | frames of the body      |
 */
#include "asm.h"

#if !RAISE_BY_LONGJMP

/* In: a0 = stack, a1 = body, a2 = arg. Out: a0 = value, a1 = 0, the frame popped. Leaves by archLand when the body
 * raises. */
.macro CALL_BODY_IN_CATCH_FRAME
        PUSH_FRAME CATCH_CFA
        SAVE_REGISTERS CATCH_SAVED, CATCH_CFA
        lla     t1, archLand
        sd      t1, CATCH_HANDLER(sp)
        ld      t2, STACK_TRAP(a0)
        sd      t2, CATCH_PREV(sp)
        sd      a0, CATCH_STACK(sp)
        ld      t3, STACK_ROOTS(a0)
        sd      t3, CATCH_ROOTS(sp)
        lw      t4, STACK_MASK(a0)
        sw      t4, CATCH_MASK(sp)
        sd      sp, STACK_TRAP(a0)              /* the frame is complete: link it */
        mv      t1, a1
        mv      a1, a2
        jalr    t1                              /* body(stack, arg) */
        ld      t1, CATCH_STACK(sp)
        ld      t2, CATCH_PREV(sp)
        sd      t2, STACK_TRAP(t1)              /* unlink */
        li      a1, 0                           /* not raised */
        ld      ra, CATCH_SAVED + SAVED_RA(sp)
        CFI_RESTORED                            /* the body kept the other registers */
        POP_FRAME CATCH_CFA
        ret
.endm

/* CatchResult archCatch(Stack *stack, HaskellObj (*body)(Stack *, void *), void *arg)
 * In: a0 = stack, a1 = body, a2 = arg. Out: a0 = value or exception, a1 = whether raised.
 * Clobbers: what a call clobbers. Stack: above at the body's call; as it was on return. */
FUNC archCatch
        CALL_BODY_IN_CATCH_FRAME
END archCatch

/* CatchResult archEnter(Stack *stack, HaskellObj (*body)(Stack *, void *), void *arg)
 * As archCatch, but the unwinder calls archPersonality for this frame. */
FUNC archEnter
        .cfi_personality DWARF_INDIRECT_PCREL, DW.ref.archPersonality
        CALL_BODY_IN_CATCH_FRAME
END archEnter

/* _Noreturn void archRaise(Stack *stack, HaskellObj exception)
 * In: a0 = stack, a1 = exception; both are handed on to the handler. Does not come back.
 * Stack: anything below the innermost catch frame before, that frame after. The jump goes by t1: by ra or t0 it would
 * count as a return in the processor's prediction. */
FUNC archRaise
        ld      sp, STACK_TRAP(a0)              /* everything inside the catch frame is gone */
        .cfi_def_cfa sp, CATCH_CFA
        CFI_SAVED CATCH_SAVED, CATCH_CFA
        ld      t1, CATCH_HANDLER(sp)
        jr      t1
END archRaise

/* Not callable: where archRaise jumps to.
 * In: a0 = stack, a1 = exception, sp at the catch frame. Out: the frame popped, and archCatch returns {exception, 1}.
 * It jumps to the return address: the processor's prediction of returns still expects those of the frames that are
 * gone, so `ret` would be sure to go wrong. */
FUNC archLand
        .cfi_def_cfa sp, CATCH_CFA
        CFI_SAVED CATCH_SAVED, CATCH_CFA
        ld      t1, CATCH_PREV(sp)
        sd      t1, STACK_TRAP(a0)              /* unlink */
        ld      t2, CATCH_ROOTS(sp)
        sd      t2, STACK_ROOTS(a0)
        lw      t3, CATCH_MASK(sp)
        sw      t3, STACK_MASK(a0)
        LOAD_REGISTERS CATCH_SAVED
        mv      a0, a1                          /* the exception */
        li      a1, RAISED
        CFI_RESTORED
        POP_FRAME CATCH_CFA
        mv      t1, ra
        jr      t1                              /* back to the caller of archCatch */
END archLand

#else /* RAISE_BY_LONGJMP: see catch_longjmp.c */

/* CatchResult archEnter(Stack *stack, HaskellObj (*body)(Stack *, void *), void *arg)
 * Calls catchWithJumpFrame(stack, body, arg, frame), which catches; here is only the frame that archPersonality is
 * called for.
 *
 *     CFA  ->  +-------------------------+
 *              | return address, padding |  a LinkFrame
 *     sp   ->  | JumpFrame               |  <- stack->trap
 *              +-------------------------+
 *              | catchWithJumpFrame      |
 */
FUNC archEnter
        .cfi_personality DWARF_INDIRECT_PCREL, DW.ref.archPersonality
        PUSH_FRAME JUMP_FRAME_SIZE + LINK_CFA
        sd      ra, JUMP_FRAME_SIZE + LINK_RA(sp)
        .cfi_offset ra, LINK_RA - LINK_CFA
        mv      a3, sp
        call    catchWithJumpFrame
        ld      ra, JUMP_FRAME_SIZE + LINK_RA(sp)
        .cfi_restore ra
        POP_FRAME JUMP_FRAME_SIZE + LINK_CFA
        ret
END archEnter

/* Not callable, and never jumped to in this build: its address marks catch frames. */
FUNC archLand
        unimp
END archLand

#endif

/* The personality routine's address, in memory: so shared libraries need no text relocation for it. */
        .hidden archPersonality
        .section .data.rel.ro.local, "aw"
        .balign WORD
        .type   DW.ref.archPersonality, @object
        .size   DW.ref.archPersonality, WORD
DW.ref.archPersonality:
        .dword  archPersonality

END_FILE

/*
 * aarch64: catching and raising.
 *
 * A catch frame (CatchStackFrame in frames.h), at the call of the body:
 *
 *              | caller of archCatch     |
 *     CFA  ->  +-------------------------+
 *              | d15 … d8                |
 *              | x28 … x19               |  for a raise; a return finds them in place
 *     fp   ->  | fp lr                   |
 *              | padding                 |
 *              | mask, roots             |  what a raise puts back into the Stack
 *              | stack                   |
 *              | prev                    |
 *     sp   ->  | handler = archLand      |  <- stack->trap
 *              +-------------------------+
 *              | frames of the body      |
 */
#include "asm.h"

#if !RAISE_BY_LONGJMP

/* In: x0 = stack, x1 = body, x2 = arg. Out: x0 = value, x1 = 0, the frame popped. Leaves by archLand when the body
 * raises. */
.macro CALL_BODY_IN_CATCH_FRAME
        ENTER_SIGNED
        PUSH_FRAME CATCH_CFA
        SAVE_REGISTERS CATCH_SAVED, CATCH_CFA
        add     x29, sp, #CATCH_SAVED + SAVED_FP
        adr     x9, archLand
        ldr     x10, [x0, #STACK_TRAP]
        str     x9, [sp, #CATCH_HANDLER]
        str     x10, [sp, #CATCH_PREV]
        str     x0, [sp, #CATCH_STACK]
        ldr     x11, [x0, #STACK_ROOTS]
        str     x11, [sp, #CATCH_ROOTS]
        ldr     w12, [x0, #STACK_MASK]
        str     w12, [sp, #CATCH_MASK]
        mov     x13, sp
        str     x13, [x0, #STACK_TRAP]          /* the frame is complete: link it */
        mov     x9, x1
        mov     x1, x2
        blr     x9                              /* body(stack, arg) */
        ldr     x9, [sp, #CATCH_STACK]
        ldr     x10, [sp, #CATCH_PREV]
        str     x10, [x9, #STACK_TRAP]          /* unlink */
        mov     x1, #0                          /* not raised */
        ldp     x29, x30, [sp, #CATCH_SAVED + SAVED_FP]
        CFI_RESTORED                            /* the body kept the others */
        POP_FRAME CATCH_CFA
        CHECK_SIGNED
        ret
.endm

/* CatchResult archCatch(Stack *stack, HaskellObj (*body)(Stack *, void *), void *arg)
 * In: x0 = stack, x1 = body, x2 = arg. Out: x0 = value or exception, x1 = whether raised.
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
 * In: x0 = stack, x1 = exception; both are handed on to the handler. Does not come back.
 * Stack: anything below the innermost catch frame before, that frame after. */
FUNC archRaise
        BTI_CALL
        ldr     x9, [x0, #STACK_TRAP]
        mov     sp, x9                          /* everything inside the catch frame is gone */
        .cfi_def_cfa sp, CATCH_CFA
        CFI_SAVED CATCH_SAVED, CATCH_CFA
        CFI_SIGNED
        ldr     x16, [sp, #CATCH_HANDLER]
        br      x16
END archRaise

/* Not callable: where archRaise jumps to.
 * In: x0 = stack, x1 = exception, sp at the catch frame. Out: the frame popped, and archCatch returns {exception, 1}.
 * The processor's prediction of returns still expects those of the frames that are gone, so this one goes wrong; but
 * nothing else than `ret` may land there. */
FUNC archLand
        .cfi_def_cfa sp, CATCH_CFA
        CFI_SAVED CATCH_SAVED, CATCH_CFA
        CFI_SIGNED
        BTI_JUMP
        ldr     x9, [sp, #CATCH_PREV]
        str     x9, [x0, #STACK_TRAP]           /* unlink */
        ldr     x10, [sp, #CATCH_ROOTS]
        str     x10, [x0, #STACK_ROOTS]
        ldr     w11, [sp, #CATCH_MASK]
        str     w11, [x0, #STACK_MASK]
        LOAD_REGISTERS CATCH_SAVED
        mov     x0, x1                          /* the exception */
        mov     x1, #RAISED
        CFI_RESTORED
        POP_FRAME CATCH_CFA
        CHECK_SIGNED
        ret                                     /* to the caller of archCatch */
END archLand

#else /* RAISE_BY_LONGJMP: see catch_longjmp.c */

/* CatchResult archEnter(Stack *stack, HaskellObj (*body)(Stack *, void *), void *arg) Calls catchWithJumpFrame(stack,
 * body, arg, frame), which catches; here is only the frame that archPersonality is called for.
 *
 *     CFA  ->  +-------------------------+
 *     fp   ->  | fp lr                   |
 *     sp   ->  | JumpFrame               |  <- stack->trap
 *              +-------------------------+
 *              | catchWithJumpFrame      |
 */
FUNC archEnter
        .cfi_personality DWARF_INDIRECT_PCREL, DW.ref.archPersonality
        ENTER_SIGNED
        stp     x29, x30, [sp, #-RECORD]!
        .cfi_def_cfa_offset RECORD
        .cfi_offset x29, -RECORD
        .cfi_offset x30, WORD - RECORD
        mov     x29, sp
        sub     sp, sp, #JUMP_FRAME_SIZE
        .cfi_def_cfa_offset RECORD + JUMP_FRAME_SIZE
        mov     x3, sp
        bl      catchWithJumpFrame
        add     sp, sp, #JUMP_FRAME_SIZE
        .cfi_def_cfa_offset RECORD
        ldp     x29, x30, [sp], #RECORD
        .cfi_def_cfa_offset 0
        .cfi_restore x29
        .cfi_restore x30
        CHECK_SIGNED
        ret
END archEnter

/* Not callable, and never jumped to in this build: its address marks catch frames. */
FUNC archLand
        BTI_JUMP
        brk     #1
END archLand

#endif

/* The personality routine's address, in memory: so shared libraries need no text relocation for it. */
        .hidden archPersonality
        .section .data.rel.ro.local, "aw"
        .balign WORD
        .type   DW.ref.archPersonality, %object
        .size   DW.ref.archPersonality, WORD
DW.ref.archPersonality:
        .quad   archPersonality

END_FILE

/*
 * x86-64: catching and raising.
 *
 * A catch frame (CatchStackFrame in frames.h), at the call of the body:
 *
 *              | caller of archCatch     |
 *     CFA  ->  +-------------------------+
 *              | return address          |
 *              | rbp rbx r12 r13 r14 r15 |  for a raise; a return finds them in place
 *              | mask, roots             |  what a raise puts back into the Stack
 *              | stack                   |
 *              | prev                    |
 *     rsp  ->  | handler = archLand      |  <- stack->trap
 *              +-------------------------+
 *              | frames of the body      |
 */
#include "asm.h"

#if !RAISE_BY_LONGJMP

/* In: rdi = stack, rsi = body, rdx = arg. Out: rax = value, rdx = 0, the frame popped. Leaves by archLand when the
 * body raises. */
.macro CALL_BODY_IN_CATCH_FRAME
        PUSH_FRAME CATCH_CFA
        SAVE_REGISTERS CATCH_SAVED, CATCH_CFA
        leaq    archLand(%rip), %rax
        movq    %rax, CATCH_HANDLER(%rsp)
        movq    STACK_TRAP(%rdi), %rcx
        movq    %rcx, CATCH_PREV(%rsp)
        movq    %rdi, CATCH_STACK(%rsp)
        movq    STACK_ROOTS(%rdi), %r8
        movq    %r8, CATCH_ROOTS(%rsp)
        movl    STACK_MASK(%rdi), %r9d
        movl    %r9d, CATCH_MASK(%rsp)
        movq    %rsp, STACK_TRAP(%rdi)          /* the frame is complete: link it */
        movq    %rsi, %rax
        movq    %rdx, %rsi
        call    *%rax                           /* body(stack, arg) */
        movq    CATCH_STACK(%rsp), %rcx
        movq    CATCH_PREV(%rsp), %r8
        movq    %r8, STACK_TRAP(%rcx)           /* unlink */
        xorl    %edx, %edx                      /* not raised */
        CFI_RESTORED                            /* the body kept the registers */
        POP_FRAME CATCH_CFA
        ret
.endm

/* CatchResult archCatch(Stack *stack, HaskellObj (*body)(Stack *, void *), void *arg)
 * In: rdi = stack, rsi = body, rdx = arg. Out: rax = value or exception, rdx = whether raised.
 * Clobbers: what a call clobbers. Stack: above at the body's call; as it was on return. */
FUNC archCatch
        ENDBR
        CALL_BODY_IN_CATCH_FRAME
END archCatch

/* CatchResult archEnter(Stack *stack, HaskellObj (*body)(Stack *, void *), void *arg)
 * As archCatch, but the unwinder calls archPersonality for this frame. */
FUNC archEnter
        .cfi_personality DWARF_INDIRECT_PCREL, DW.ref.archPersonality
        ENDBR
        CALL_BODY_IN_CATCH_FRAME
END archEnter

/* _Noreturn void archRaise(Stack *stack, HaskellObj exception)
 * In: rdi = stack, rsi = exception; both are handed on to the handler. Does not come back.
 * Stack: anything below the innermost catch frame before, that frame after. */
FUNC archRaise
        ENDBR
        movq    STACK_TRAP(%rdi), %rsp          /* everything inside the catch frame is gone */
        .cfi_def_cfa %rsp, CATCH_CFA
        CFI_SAVED CATCH_SAVED, CATCH_CFA
        jmp     *CATCH_HANDLER(%rsp)
END archRaise

/* Not callable: where archRaise jumps to.
 * In: rdi = stack, rsi = exception, rsp at the catch frame. Out: the frame popped, and archCatch returns {exception,
 * 1}. It jumps to the return address: the processor's prediction of returns still expects those of the frames that
 * are gone, so `ret` would be sure to go wrong (a raise and catch in a loop took 14 ns that way, 4 ns this way).
 * notrack: no endbr64 stands there. */
FUNC archLand
        .cfi_def_cfa %rsp, CATCH_CFA
        CFI_SAVED CATCH_SAVED, CATCH_CFA
        ENDBR
        movq    CATCH_PREV(%rsp), %rcx
        movq    %rcx, STACK_TRAP(%rdi)          /* unlink */
        movq    CATCH_ROOTS(%rsp), %r8
        movq    %r8, STACK_ROOTS(%rdi)
        movl    CATCH_MASK(%rsp), %r9d
        movl    %r9d, STACK_MASK(%rdi)
        LOAD_REGISTERS CATCH_SAVED
        movq    %rsi, %rax                      /* the exception */
        movl    $RAISED, %edx
        CFI_RESTORED
        POP_FRAME CATCH_CFA
        popq    %rcx
        .cfi_def_cfa_offset 0
        .cfi_register %rip, %rcx
        notrack jmp *%rcx                       /* back to the caller of archCatch */
END archLand

#else /* RAISE_BY_LONGJMP: see catch_longjmp.c */

/* CatchResult archEnter(Stack *stack, HaskellObj (*body)(Stack *, void *), void *arg) Calls catchWithJumpFrame(stack,
 * body, arg, frame), which catches; here is only the frame that archPersonality is called for.
 *
 *     CFA  ->  +-------------------------+
 *              | return address          |
 *              | padding                 |
 *     rsp  ->  | JumpFrame               |  <- stack->trap
 *              +-------------------------+
 *              | catchWithJumpFrame      |
 * / */
FUNC archEnter
        .cfi_personality DWARF_INDIRECT_PCREL, DW.ref.archPersonality
        ENDBR
        PUSH_FRAME JUMP_FRAME_SIZE + STACK_ALIGNMENT
        movq    %rsp, %rcx
        call    catchWithJumpFrame
        POP_FRAME JUMP_FRAME_SIZE + STACK_ALIGNMENT
        ret
END archEnter

/* Not callable, and never jumped to in this build: its address marks catch frames. */
FUNC archLand
        ENDBR
        ud2
END archLand

#endif

/* The personality routine's address, in memory: so shared libraries need no text relocation for it. */
        .hidden archPersonality
        .section .data.rel.ro.local, "aw"
        .balign WORD
        .type   DW.ref.archPersonality, @object
        .size   DW.ref.archPersonality, WORD
DW.ref.archPersonality:
        .quad   archPersonality

END_FILE

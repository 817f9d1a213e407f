/*
 * x86-64: switching stacks.
 *
 * A sleeping stack (SwitchFrame in frames.h):
 *
 *              | caller of archSwitch    |
 *     CFA  ->  +-------------------------+
 *              | return address          |
 *     sp   ->  | rbp rbx r12 r13 r14 r15 |  <- stack->sp
 *              +-------------------------+
 *
 * Both stacks have this shape when the stack pointer changes, so one set of CFI holds before and after.
 */
#include "asm.h"

/* void archSwitch(Stack *from, Stack *to)
 * In: rdi = from, rsi = to. Out: nothing. Clobbers: what a call clobbers.
 * Stack: the caller's before; after, that of whoever switched away from `to`, returned to by `ret`, which keeps the
 * processor's prediction of return addresses in step (to pop the address and jump to it would cost every switch). */
FUNC archSwitch
        ENDBR
        PUSH_FRAME SWITCH_CFA
        SAVE_REGISTERS SWITCH_SAVED, SWITCH_CFA
        movq    %rsp, STACK_SP(%rdi)            /* `from` sleeps */
        movq    STACK_SP(%rsi), %rsp            /* `to` runs */
        LOAD_REGISTERS SWITCH_SAVED
        CFI_RESTORED
        POP_FRAME SWITCH_CFA
        ret
END archSwitch

/* Not callable: the outermost frame of a stack that archInitStack made. Its first switch returns to archBootAddress.
 * In: rbx = fn, r12 = arg, rsp aligned, rbp = 0. Does not come back. The byte before the return address belongs to
 * this routine, for unwinders look a return address up one byte earlier. */
FUNC archBootStack
        .cfi_undefined %rip                     /* nobody called */
        nop
.Lboot:
        movq    %r12, %rdi
        call    *%rbx                           /* fn(arg) */
        ud2                                     /* it must not return */
END archBootStack

/* const uintptr_t archBootAddress */
        .section .data.rel.ro.local, "aw"
        .balign WORD
        .globl  archBootAddress
        .hidden archBootAddress
        .type   archBootAddress, @object
        .size   archBootAddress, WORD
archBootAddress:
        .quad   .Lboot

END_FILE

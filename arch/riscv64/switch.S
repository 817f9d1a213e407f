/*
 * riscv64: switching stacks.
 *
 * A sleeping stack (SwitchFrame in frames.h):
 *
 *              | caller of archSwitch    |
 *     CFA  ->  +-------------------------+
 *              | spare                   |
 *              | fs11 ... fs0            |
 *              | s11 ... s0              |
 *     sp   ->  | return address          |  <- stack->sp
 *              +-------------------------+
 *
 * Both stacks have this shape when the stack pointer changes, so one set of CFI holds before and after.
 */
#include "asm.h"

/* void archSwitch(Stack *from, Stack *to)
 * In: a0 = from, a1 = to. Out: nothing. Clobbers: what a call clobbers.
 * Stack: the caller's before; after, that of whoever switched away from `to`, returned to by `ret`, which keeps the
 * processor's prediction of return addresses in step. */
FUNC archSwitch
        PUSH_FRAME SWITCH_CFA
        SAVE_REGISTERS SWITCH_SAVED, SWITCH_CFA
        sd      sp, STACK_SP(a0)                /* `from` sleeps */
        ld      sp, STACK_SP(a1)                /* `to` runs */
        LOAD_REGISTERS SWITCH_SAVED
        CFI_RESTORED
        POP_FRAME SWITCH_CFA
        ret
END archSwitch

/* Not callable: the outermost frame of a stack that archInitStack made. Its first switch returns to archBootAddress.
 * In: s1 = fn, s2 = arg, sp aligned, s0 = 0. Does not come back. The byte before the return address belongs to this
 * routine, for unwinders look a return address up one byte earlier. */
FUNC archBootStack
        .cfi_undefined ra                       /* nobody called */
        nop
.Lboot:
        mv      a0, s2
        jalr    s1                              /* fn(arg) */
        unimp                                   /* it must not return */
END archBootStack

/* const uintptr_t archBootAddress */
        .section .data.rel.ro.local, "aw"
        .balign WORD
        .globl  archBootAddress
        .hidden archBootAddress
        .type   archBootAddress, @object
        .size   archBootAddress, WORD
archBootAddress:
        .dword  .Lboot

END_FILE

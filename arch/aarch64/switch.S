/*
 * aarch64: switching stacks.
 *
 * A sleeping stack (SwitchFrame in frames.h):
 *
 *              | caller of archSwitch    |
 *     CFA  ->  +-------------------------+
 *              | d15 … d8                |
 *              | x28 … x19               |
 *     sp   ->  | fp lr                   |  <- stack->sp
 *              +-------------------------+
 *
 * Both stacks have this shape when the stack pointer changes, so one set of CFI holds before and after.
 */
#include "asm.h"

/* void archSwitch(Stack *from, Stack *to)
 * In: x0 = from, x1 = to. Out: nothing. Clobbers: what a call clobbers.
 * Stack: the caller's before; after, that of whoever switched away from `to`. */
FUNC archSwitch
        ENTER_SIGNED
        PUSH_FRAME SWITCH_CFA
        SAVE_REGISTERS SWITCH_SAVED, SWITCH_CFA
        mov     x9, sp
        str     x9, [x0, #STACK_SP]             /* `from` sleeps */
        ldr     x10, [x1, #STACK_SP]
        mov     sp, x10                         /* `to` runs */
        LOAD_REGISTERS SWITCH_SAVED
        CFI_RESTORED
        POP_FRAME SWITCH_CFA
        CHECK_SIGNED
        ret
END archSwitch

/* Not callable: the outermost frame of a stack that archInitStack made. Its first switch returns to archBootAddress.
 * In: x19 = fn, x20 = arg, sp aligned, fp = 0. Does not come back. The instruction before the return address belongs
 * to this routine, for unwinders look a return address up a little earlier. */
FUNC archBootStack
        .cfi_undefined x30                      /* nobody called */
        nop
.Lboot:
        mov     x0, x20
        blr     x19                             /* fn(arg) */
        brk     #1                              /* it must not return */
END archBootStack

/* const uintptr_t archBootAddress */
        .section .data.rel.ro.local, "aw"
        .balign WORD
        .globl  archBootAddress
        .hidden archBootAddress
        .type   archBootAddress, %object
        .size   archBootAddress, WORD
archBootAddress:
        .quad   .Lboot

END_FILE

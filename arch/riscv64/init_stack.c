#include "arch.h"
#include "riscv64/frames.h"

_Static_assert(sizeof(SwitchFrame) + ARCH_STACK_ALIGNMENT <= ARCH_INITIAL_STACK, "as arch_inline.h says");

/* s0, the frame pointer, is 0: there ends a walk by frame pointers. */
void archInitStack(Stack *stack, void *top, void (*fn)(void *), void *arg)
{
    uintptr_t end = (uintptr_t)top & -(uintptr_t)ARCH_STACK_ALIGNMENT;
    SwitchFrame *initial = (SwitchFrame *)(end - sizeof(SwitchFrame));

    *initial = (SwitchFrame){
        .saved.ra = archBootAddress,
        .saved.s[1] = (uintptr_t)fn,
        .saved.s[2] = (uintptr_t)arg,
    };
    stack->sp = initial;
}

#include "arch.h"
#include "x86_64/frames.h"

/* Two zero words above the frame end a walk by frame pointers. */
typedef struct {
    SwitchFrame frame;
    uintptr_t end[2];
} InitialStack;

_Static_assert(sizeof(InitialStack) + ARCH_STACK_ALIGNMENT <= ARCH_INITIAL_STACK, "as arch_inline.h says");

void archInitStack(Stack *stack, void *top, void (*fn)(void *), void *arg)
{
    uintptr_t end = (uintptr_t)top & -(uintptr_t)ARCH_STACK_ALIGNMENT;
    InitialStack *initial = (InitialStack *)(end - sizeof(InitialStack));

    *initial = (InitialStack){
        .frame.saved.rbx = (uintptr_t)fn,
        .frame.saved.r12 = (uintptr_t)arg,
        .frame.return_address = archBootAddress,
    };
    stack->sp = initial;
}

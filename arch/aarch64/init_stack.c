#include "arch.h"
#include "aarch64/frames.h"

/* Two zero words above the frame end a walk by frame pointers. */
typedef struct {
    SwitchFrame frame;
    uintptr_t end[2];
} InitialStack;

_Static_assert(sizeof(InitialStack) + ARCH_STACK_ALIGNMENT <= ARCH_INITIAL_STACK, "as arch_inline.h says");

/* The address as archSwitch stores it, for a frame whose CFA this is. */
static uintptr_t signAddress(uintptr_t address, const void *cfa)
{
#if ARCH_SIGNS_RETURN_ADDRESSES
    register uintptr_t signed_address __asm__("x17") = address;
    register uintptr_t modifier __asm__("x16") = (uintptr_t)cfa;

    __asm__("hint #8" /* pacia1716 */ : "+r"(signed_address) : "r"(modifier));
    return signed_address;
#else
    (void)cfa;
    return address;
#endif
}

void archInitStack(Stack *stack, void *top, void (*fn)(void *), void *arg)
{
    uintptr_t end = (uintptr_t)top & -(uintptr_t)ARCH_STACK_ALIGNMENT;
    InitialStack *initial = (InitialStack *)(end - sizeof(InitialStack));

    *initial = (InitialStack){
        .frame.saved.x19 = (uintptr_t)fn,
        .frame.saved.x20 = (uintptr_t)arg,
        .frame.saved.lr = signAddress(archBootAddress, initial->end),
    };
    stack->sp = initial;
}

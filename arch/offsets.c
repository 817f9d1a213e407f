/*
 * Source of arch_offsets.h. Compiled to assembly, never linked: the build turns each marked line of the output into a
 * #define, so that the assembly sees the numbers of the very compiler and flags in use, cross builds included.
 */
#include "arch.h"
#include "catch_longjmp.h"

#if defined(__x86_64__)
#include "x86_64/frames.h"
#elif defined(__aarch64__)
#include "aarch64/frames.h"
#elif defined(__riscv)
#include "riscv64/frames.h"
#endif

#define EMIT(name, value) __asm__ volatile("\n.ascii \"@OFFSET " #name " %c0 @\"" : : "i"(value));

void emitOffsets(void);

void emitOffsets(void)
{
    EMIT(STACK_ROOTS, offsetof(Stack, roots))
    EMIT(STACK_TRAP, offsetof(Stack, trap))
    EMIT(STACK_MASK, offsetof(Stack, mask))
    EMIT(STACK_SP, offsetof(Stack, sp))
    EMIT(JUMP_FRAME_SIZE, sizeof(JumpFrame))
    EMIT(RAISE_BY_LONGJMP, ARCH_RAISE_BY_LONGJMP)
    EMIT(WORD, sizeof(uintptr_t))
    EMIT(STACK_ALIGNMENT, ARCH_STACK_ALIGNMENT)
    FRAME_OFFSETS(EMIT)
}

/* What the assembly takes for granted. */
_Static_assert(sizeof(((Stack *)0)->mask) == sizeof(uint32_t), "the mask is moved as 32 bits");
_Static_assert(sizeof(JumpFrame) % ARCH_STACK_ALIGNMENT == 0, "archEnter reserves it on the stack");
_Static_assert(offsetof(CatchFrame, trap) == 0 && offsetof(JumpFrame, head) == 0, "the trap frame comes first");

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

#define EMIT(name, value) __asm__ volatile("\n.ascii \"@OFFSET " #name " %0 @\"" : : "i"(value));

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
    EMIT(FRAME_INTEGERS, offsetof(ArchFrame, integers))
    EMIT(FRAME_FLOATS, offsetof(ArchFrame, floats))
    EMIT(FRAME_INTEGER_RESULT, offsetof(ArchFrame, integerResult))
    EMIT(FRAME_FLOAT_RESULT, offsetof(ArchFrame, floatResult))
    EMIT(FRAME_FLOATS_USED, offsetof(ArchFrame, floatsUsed))
    EMIT(FRAME_STACK_WORDS, offsetof(ArchFrame, stackWords))
    EMIT(FRAME_STACK, offsetof(ArchFrame, stack))
    EMIT(LAYOUT_FLOATS, offsetof(ArchLayout, floats))
    EMIT(ADJUSTOR_LAYOUT, offsetof(ArchAdjustor, layout))
    EMIT(ADJUSTOR_RECORD_BYTES, sizeof(ArchAdjustor))
    EMIT(ADJUSTOR_HEAD_ENTRY, offsetof(ArchAdjustorHead, entry))
    EMIT(ADJUSTOR_HEAD_BYTES, sizeof(ArchAdjustorHead))
    EMIT(ADJUSTOR_CODE_BYTES, ARCH_ADJUSTOR_CODE_BYTES)
    EMIT(ADJUSTOR_STEP, ARCH_ADJUSTOR_STEP)
    EMIT(ADJUSTOR_COUNT, ARCH_ADJUSTOR_COUNT)
    FRAME_OFFSETS(EMIT)
}

/* What the assembly takes for granted. */
_Static_assert(sizeof(((Stack *)0)->mask) == sizeof(uint32_t), "the mask is moved as 32 bits");
_Static_assert(sizeof(((ArchLayout *)0)->floats) == 1, "it is looked at as a byte");
_Static_assert(sizeof(ArchAdjustor) == sizeof(ArchAdjustorHead), "records lie in a row with the head");
_Static_assert(sizeof(JumpFrame) % ARCH_STACK_ALIGNMENT == 0, "archEnter reserves it on the stack");
_Static_assert(offsetof(CatchFrame, trap) == 0 && offsetof(JumpFrame, head) == 0, "the trap frame comes first");

/*
 * x86-64, System V ABI: what must be inline.
 */
#ifndef CAPSTAN_ARCH_X86_64_INLINE_H
#define CAPSTAN_ARCH_X86_64_INLINE_H

#include <stdint.h>

#define ARCH_NAME "x86_64"

/* Bytes below the stack pointer that running code may use without saying so. */
#define ARCH_RED_ZONE 128

/* Alignment of the stack pointer at every call. */
#define ARCH_STACK_ALIGNMENT 16

/* What archInitStack may write below the top. */
#define ARCH_INITIAL_STACK 128

/* A cache line, and what the adjacent-line prefetcher makes of two. */
#define ARCH_CACHE_LINE 64
#define ARCH_FALSE_SHARING 128

/* Tell the processor that this is a spinning wait. */
static inline void archRelax(void)
{
    __asm__ volatile("pause" : : : "memory");
}

/* The stack pointer, somewhere inside the caller's frame. */
static inline __attribute__((always_inline)) uintptr_t archStackPointer(void)
{
    uintptr_t sp;

    __asm__ volatile("movq %%rsp, %0" : "=r"(sp));
    return sp;
}

/* The registers that C passes arguments in. */
#define ARCH_INTEGER_ARGS 6
#define ARCH_FLOAT_ARGS 8
/* Floats beyond those go on the stack, variadic ones are no exception (System V ABI, 3.2.3; that their count is in al is archCall's business). */
#define ARCH_FLOATS_AS_INTEGERS 0

/* GHC's stubs for adjustors take a parameter that means nothing after so many that are integers, if there are so many; 0: never. */
#define ARCH_STUB_DUMMY_AFTER 6

/* Adjustors: see arch.h. */
#define ARCH_ADJUSTOR_CODE_BYTES 4096
#define ARCH_CODE_RIGHTS 0 /* beyond read and execute */
#define ARCH_ADJUSTOR_STEP 16
#define ARCH_ADJUSTOR_COUNT 255

/* An integer of the type that the letter says, extended to 64 bits by it, as the caller of a C function passes it.  The ABI asks for nothing here, but
 * clang counts on 32 bits being right. */
static inline uint64_t archExtend(char type, uint64_t v)
{
    return v;
}

/* A float as the caller of a C function passes it. */
static inline uint64_t archFloatWord(uint32_t bits)
{
    return bits;
}

#endif

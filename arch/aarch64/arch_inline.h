/*
 * aarch64, AAPCS64 as Linux has it: what must be inline.
 */
#ifndef CAPSTAN_ARCH_AARCH64_INLINE_H
#define CAPSTAN_ARCH_AARCH64_INLINE_H

#include <stdint.h>

#define ARCH_NAME "aarch64"

/* Bytes below the stack pointer that running code may use without saying so: the ABI has none. */
#define ARCH_RED_ZONE 0

/* Alignment of the stack pointer, always: the processor checks it at each access. */
#define ARCH_STACK_ALIGNMENT 16

/* What archInitStack may write below the top. */
#define ARCH_INITIAL_STACK 192

/* A cache line of most; and of the largest, which is also what prefetchers make of two of the others. */
#define ARCH_CACHE_LINE 64
#define ARCH_FALSE_SHARING 128

/* Tell the processor that this is a spinning wait. Not `yield`, which does nothing where a core runs one thread: isb
 * empties the pipeline, and takes about as long as x86's pause. */
static inline void archRelax(void)
{
    __asm__ volatile("isb" : : : "memory");
}

/* The stack pointer, somewhere inside the caller's frame. */
static inline __attribute__((always_inline)) uintptr_t archStackPointer(void)
{
    uintptr_t sp;

    __asm__ volatile("mov %0, sp" : "=r"(sp));
    return sp;
}

#endif

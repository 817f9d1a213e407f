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

#endif

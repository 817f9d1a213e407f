/*
 * riscv64, LP64D ABI: what must be inline.
 */
#ifndef CAPSTAN_ARCH_RISCV64_INLINE_H
#define CAPSTAN_ARCH_RISCV64_INLINE_H

#include <stdint.h>

/* The frames hold fs0-fs11, and arguments travel in fa0-fa7. */
#if __riscv_xlen != 64 || !defined(__riscv_float_abi_double)
#error "of RISC-V only the ABI LP64D is served"
#endif

#define ARCH_NAME "riscv64"

/* Bytes below the stack pointer that running code may use without saying so. */
#define ARCH_RED_ZONE 0

/* Alignment of the stack pointer at every call. */
#define ARCH_STACK_ALIGNMENT 16

/* What archInitStack may write below the top. */
#define ARCH_INITIAL_STACK 256

/* A cache line of the cores that run Linux, and what may travel together. */
#define ARCH_CACHE_LINE 64
#define ARCH_FALSE_SHARING 128

/* Tell the processor that this is a spinning wait. By number: it is `pause` (Zihintpause), which assemblers take only for
 * cores that have it; the others run it as a fence that orders nothing. */
static inline void archRelax(void)
{
    __asm__ volatile(".4byte 0x0100000f" : : : "memory");
}

/* The stack pointer, somewhere inside the caller's frame. */
static inline __attribute__((always_inline)) uintptr_t archStackPointer(void)
{
    uintptr_t sp;

    __asm__ volatile("mv %0, sp" : "=r"(sp));
    return sp;
}

#endif

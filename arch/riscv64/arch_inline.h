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

/* The registers that C passes arguments in. */
#define ARCH_INTEGER_ARGS 8
#define ARCH_FLOAT_ARGS 8
/* Floats beyond those, and all variadic ones, go where integers go (LP64D). */
#define ARCH_FLOATS_AS_INTEGERS 1

/* Stubs of adjustors never have GHC's parameter that means nothing: its text has it on x86-64 only. */
#define ARCH_STUB_DUMMY_AFTER 0

/* Adjustors: see arch.h. */
#define ARCH_ADJUSTOR_CODE_BYTES 4096
#define ARCH_CODE_RIGHTS 0 /* beyond read and execute */
#define ARCH_ADJUSTOR_STEP 16
#define ARCH_ADJUSTOR_COUNT 255

/* An integer of the type that the letter says, extended to 64 bits by it, as the caller of a C function passes it: 32 bits are sign-extended, be they
 * signed or not. */
static inline uint64_t archExtend(char type, uint64_t v)
{
    return type == 'w' ? (uint64_t)(int64_t)(int32_t)v : v;
}

/* A float as the caller of a C function passes it: in a register of 64 bits, all above it ones. */
static inline uint64_t archFloatWord(uint32_t bits)
{
    return UINT64_C(0xffffffff00000000) | bits;
}

#endif

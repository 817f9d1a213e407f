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

/* Whether return addresses in memory are signed: as in the compiler's own functions (-mbranch-protection=pac-ret). The
 * assembly takes the key A, whichever the compiler takes; the modifier is the CFA, so a frame says by itself what its
 * signature is, wherever it sleeps and whoever wakes it. */
#if defined(__ARM_FEATURE_PAC_DEFAULT) && (__ARM_FEATURE_PAC_DEFAULT & 3) != 0
#define ARCH_SIGNS_RETURN_ADDRESSES 1
#else
#define ARCH_SIGNS_RETURN_ADDRESSES 0
#endif

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

/* The registers that C passes arguments in. */
#define ARCH_INTEGER_ARGS 8
#define ARCH_FLOAT_ARGS 8
/* Floats beyond those go on the stack, variadic ones are no exception (AAPCS64, 6.8.2).  A word each there: so it is on Linux, other systems pack them. */
#define ARCH_FLOATS_AS_INTEGERS 0

/* Stubs of adjustors never have GHC's parameter that means nothing: its text has it on x86-64 only. */
#define ARCH_STUB_DUMMY_AFTER 0

/* Adjustors: see arch.h. Pages have 4, 16 or 64 KiB, as the kernel was built; the code is right for all of them. */
#define ARCH_ADJUSTOR_CODE_BYTES 65536
/* For osMapCode: PROT_BTI, so that the template is guarded as the library is.  Kernels and processors without it pay no heed. */
#define ARCH_CODE_RIGHTS 0x10
#define ARCH_ADJUSTOR_STEP 16
#define ARCH_ADJUSTOR_COUNT 4095

/* An integer of the type that the letter says, extended to 64 bits by it, as the caller of a C function passes it: the ABI asks for nothing. */
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

/*
 * aarch64: what the tests need to see of the machine (probe.h). Not part of the library.
 */
#include "asm.h"

/* The registers that are probed, with their numbers. */
.macro EACH_PROBED do
        \do     x19, 1
        \do     x20, 2
        \do     x21, 3
        \do     x22, 4
        \do     x23, 5
        \do     x24, 6
        \do     x25, 7
        \do     x26, 8
        \do     x27, 9
        \do     x28, 10
        \do     x29, 11
.endm

.macro EACH_PROBED_VECTOR do
        \do     d8, 12
        \do     d9, 13
        \do     d10, 14
        \do     d11, 15
        \do     d12, 16
        \do     d13, 17
        \do     d14, 18
        \do     d15, 19
.endm

/* The register becomes the seed in x2 plus `number`. */
.macro SEED register, number
        add     \register, x2, #\number
.endm

.macro SEED_VECTOR register, number
        add     x9, x2, #\number
        fmov    \register, x9
.endm

/* Count the register in w0 if it does not hold the seed in x2 plus `number`. */
.macro COUNT_IF_CHANGED register, number
        add     x9, x2, #\number
        cmp     \register, x9
        cinc    w0, w0, ne
.endm

.macro COUNT_VECTOR_IF_CHANGED register, number
        fmov    x10, \register
        COUNT_IF_CHANGED x10, \number
.endm

/* unsigned archProbeRegisters(void (*fn)(void *), void *arg, uintptr_t seed)
 * In: x0 = fn, x1 = arg, x2 = seed. Out: w0 = how many changed. Clobbers: what a call clobbers.
 * Stack at the call: the saved registers, padding, the seed. */
FUNC archProbeRegisters
        ENTER_SIGNED
        PUSH_FRAME SWITCH_CFA
        SAVE_REGISTERS SWITCH_SAVED, SWITCH_CFA
        str     x2, [sp, #-STACK_ALIGNMENT]!
        .cfi_adjust_cfa_offset STACK_ALIGNMENT
        EACH_PROBED SEED
        EACH_PROBED_VECTOR SEED_VECTOR
        mov     x9, x0
        mov     x0, x1
        blr     x9                              /* fn(arg) */
        ldr     x2, [sp], #STACK_ALIGNMENT      /* the seed */
        .cfi_adjust_cfa_offset -STACK_ALIGNMENT
        mov     w0, #0
        EACH_PROBED COUNT_IF_CHANGED
        EACH_PROBED_VECTOR COUNT_VECTOR_IF_CHANGED
        LOAD_REGISTERS SWITCH_SAVED
        CFI_RESTORED
        POP_FRAME SWITCH_CFA
        CHECK_SIGNED
        ret
END archProbeRegisters

/* int archProbeAlignment(void)
 * In: nothing. Out: w0 = 1 if the caller's stack was aligned. Clobbers: x9. */
FUNC archProbeAlignment
        BTI_CALL
        mov     x9, sp
        tst     x9, #STACK_ALIGNMENT - 1
        cset    w0, eq
        ldr     x9, [sp]                        /* the processor looks too */
        ret
END archProbeAlignment

END_FILE

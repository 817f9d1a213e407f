/*
 * riscv64: what the tests need to see of the machine (probe.h). Not part of the library.
 */
#include "asm.h"

/* Count in a0 if a register, moved into t1, does not hold the seed plus `number`. */
.macro COUNT_IF_CHANGED number
        addi    t0, a2, \number
        xor     t0, t0, t1
        snez    t0, t0
        add     a0, a0, t0
.endm

/* unsigned archProbeRegisters(void (*fn)(void *), void *arg, uintptr_t seed)
 * In: a0 = fn, a1 = arg, a2 = seed. Out: a0 = how many changed. Clobbers: what a call clobbers.
 * s0-s11 get the seed plus 1 to 12, fs0-fs11 the bits of the seed plus 13 to 24.
 * Stack at the call: a SwitchFrame with the seed in its spare word. */
FUNC archProbeRegisters
        PUSH_FRAME SWITCH_CFA
        SAVE_REGISTERS SWITCH_SAVED, SWITCH_CFA
        sd      a2, SWITCH_SPARE(sp)
        .irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
        addi    s\i, a2, \i + 1
        addi    t0, a2, \i + 13
        fmv.d.x fs\i, t0
        .endr
        mv      t1, a0
        mv      a0, a1
        jalr    t1                              /* fn(arg) */
        ld      a2, SWITCH_SPARE(sp)            /* the seed */
        li      a0, 0
        .irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
        mv      t1, s\i
        COUNT_IF_CHANGED \i + 1
        fmv.x.d t1, fs\i
        COUNT_IF_CHANGED \i + 13
        .endr
        LOAD_REGISTERS SWITCH_SAVED
        CFI_RESTORED
        POP_FRAME SWITCH_CFA
        ret
END archProbeRegisters

/* int archProbeAlignment(void)
 * In: nothing. Out: a0 = 1 if the caller's stack was aligned. Clobbers: t0. No access of this processor asks for 16
 * bytes; an atomic one asks for its own width. */
FUNC archProbeAlignment
        addi    t0, sp, -STACK_ALIGNMENT
        lr.d    zero, (t0)                      /* faults if it is not even aligned to a word */
        andi    t0, sp, STACK_ALIGNMENT - 1
        seqz    a0, t0
        ret
END archProbeAlignment

END_FILE

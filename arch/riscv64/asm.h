/*
 * riscv64 assembly macros: symbols, call frame information, saved registers, notes. Every .S of this port begins with
 * it.
 *
 * No landing pads: RISC-V has them (Zicfilp), but neither the toolchains that this is built with nor the kernels that
 * it runs on do yet. When they do, `lpad 0` goes where the x86-64 port has ENDBR. The same holds for the shadow stack.
 */
#ifndef CAPSTAN_ARCH_RISCV64_ASM_H
#define CAPSTAN_ARCH_RISCV64_ASM_H

#include "arch_offsets.h"

/* A number of words in bytes. */
#define WORD_SHIFT 3
.if (1 << WORD_SHIFT) - WORD
.error "WORD_SHIFT is wrong"
.endif

/* CatchResult.raised. */
#define RAISED 1

/* How .cfi_personality finds its routine: DW_EH_PE_indirect | DW_EH_PE_pcrel | DW_EH_PE_sdata4. */
#define DWARF_INDIRECT_PCREL 0x9b

/* A routine that the rest of the library sees, and no one else. */
.macro FUNC name
        .text
        .p2align 2
        .globl  \name
        .hidden \name
        .type   \name, @function
\name:
        .cfi_startproc
.endm

.macro END name
        .cfi_endproc
        .size   \name, . - \name
.endm

/* A routine of this file only. */
.macro LOCAL_FUNC name
        .text
        .p2align 2
        .type   \name, @function
\name:
        .cfi_startproc
.endm

/* Where the caller's registers are while a SavedRegisters lies `at` bytes above the stack pointer and the CFA `cfa`
 * bytes above. */
.macro CFI_SAVED at, cfa
        .cfi_offset ra, \at + SAVED_RA - \cfa
        .irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
        .cfi_offset s\i, \at + SAVED_S + \i * WORD - \cfa
        .cfi_offset fs\i, \at + SAVED_FS + \i * WORD - \cfa
        .endr
.endm

/* The caller's registers are in the registers again. */
.macro CFI_RESTORED
        .cfi_restore ra
        .irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
        .cfi_restore s\i
        .cfi_restore fs\i
        .endr
.endm

.macro PUSH_FRAME cfa
        addi    sp, sp, -(\cfa)
        .cfi_def_cfa_offset \cfa
.endm

.macro POP_FRAME cfa
        addi    sp, sp, \cfa
        .cfi_def_cfa_offset 0
.endm

.macro SAVE_REGISTERS at, cfa
        sd      ra, \at + SAVED_RA(sp)
        .irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
        sd      s\i, \at + SAVED_S + \i * WORD(sp)
        .endr
        .irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
        fsd     fs\i, \at + SAVED_FS + \i * WORD(sp)
        .endr
        CFI_SAVED \at, \cfa
.endm

/* The saved copies stay what the CFI says until the frame is popped. */
.macro LOAD_REGISTERS at
        ld      ra, \at + SAVED_RA(sp)
        .irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
        ld      s\i, \at + SAVED_S + \i * WORD(sp)
        .endr
        .irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
        fld     fs\i, \at + SAVED_FS + \i * WORD(sp)
        .endr
.endm

/* Last line of every file: the stack need not be executable. */
.macro END_FILE
        .section .note.GNU-stack, "", @progbits
.endm

#endif

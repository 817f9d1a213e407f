/*
 * aarch64 assembly macros: symbols, call frame information, saved registers, notes. Every .S of this port begins with
 * it.
 *
 * Landing pads are always there: they are hints, which older processors skip. Return addresses are signed where the
 * compiler signs them (SIGN_RETURN_ADDRESSES, see arch_inline.h). An address is signed with the stack pointer at its
 * routine's entry, and checked when the stack pointer is there again; so a switch needs nothing special, the sleeping
 * frame carries an address signed for its own place, and the key is the process's. What is gone back to outside a call
 * (archLand) goes by `ret` as well: only a return may land where no landing pad is.
 */
#ifndef CAPSTAN_ARCH_AARCH64_ASM_H
#define CAPSTAN_ARCH_AARCH64_ASM_H

#include "arch_offsets.h"

/* Where an indirect call may land, and where a jump may (by number: an assembler may be told of a processor that has
 * no names for them). */
#define BTI_CALL hint #34
#define BTI_JUMP hint #36

/* CatchResult.raised. */
#define RAISED 1

/* The frame record: fp, then lr. */
#define RECORD (WORD * 2)

/* How .cfi_personality finds its routine: DW_EH_PE_indirect | DW_EH_PE_pcrel | DW_EH_PE_sdata4. */
#define DWARF_INDIRECT_PCREL 0x9b

/* A routine that the rest of the library sees, and no one else. */
.macro FUNC name
        .text
        .p2align 4
        .globl  \name
        .hidden \name
        .type   \name, %function
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
        .p2align 4
        .type   \name, %function
\name:
        .cfi_startproc
.endm

/* First line of a routine that keeps its return address in memory. Signing is a landing pad too. */
.macro ENTER_SIGNED
#if SIGN_RETURN_ADDRESSES
        hint    #25                             /* paciasp */
        .cfi_negate_ra_state
#else
        BTI_CALL
#endif
.endm

/* The return address is in lr again, and the stack pointer where it was at the entry. */
.macro CHECK_SIGNED
#if SIGN_RETURN_ADDRESSES
        hint    #29                             /* autiasp */
        .cfi_negate_ra_state
#endif
.endm

/* From here on the return address that the CFI finds is a signed one; and from here on no more. */
.macro CFI_SIGNED
#if SIGN_RETURN_ADDRESSES
        .cfi_negate_ra_state
#endif
.endm

/* Where the caller's registers are while a SavedRegisters lies `at` bytes above the stack pointer and the CFA `cfa`
 * bytes above. */
.macro CFI_SAVED at, cfa
        .cfi_offset x29, \at + SAVED_FP - \cfa
        .cfi_offset x30, \at + SAVED_LR - \cfa
        .cfi_offset x19, \at + SAVED_X19 - \cfa
        .cfi_offset x20, \at + SAVED_X19 + WORD - \cfa
        .cfi_offset x21, \at + SAVED_X21 - \cfa
        .cfi_offset x22, \at + SAVED_X21 + WORD - \cfa
        .cfi_offset x23, \at + SAVED_X23 - \cfa
        .cfi_offset x24, \at + SAVED_X23 + WORD - \cfa
        .cfi_offset x25, \at + SAVED_X25 - \cfa
        .cfi_offset x26, \at + SAVED_X25 + WORD - \cfa
        .cfi_offset x27, \at + SAVED_X27 - \cfa
        .cfi_offset x28, \at + SAVED_X27 + WORD - \cfa
        .cfi_offset d8, \at + SAVED_D8 - \cfa
        .cfi_offset d9, \at + SAVED_D8 + WORD - \cfa
        .cfi_offset d10, \at + SAVED_D10 - \cfa
        .cfi_offset d11, \at + SAVED_D10 + WORD - \cfa
        .cfi_offset d12, \at + SAVED_D12 - \cfa
        .cfi_offset d13, \at + SAVED_D12 + WORD - \cfa
        .cfi_offset d14, \at + SAVED_D14 - \cfa
        .cfi_offset d15, \at + SAVED_D14 + WORD - \cfa
.endm

/* The caller's registers are in the registers again. */
.macro CFI_RESTORED
        .irp    register, x29, x30, x19, x20, x21, x22, x23, x24, x25, x26, x27, x28, d8, d9, d10, d11, d12, d13, d14, d15
        .cfi_restore \register
        .endr
.endm

.macro PUSH_FRAME cfa
        sub     sp, sp, #\cfa
        .cfi_def_cfa_offset \cfa
.endm

.macro POP_FRAME cfa
        add     sp, sp, #\cfa
        .cfi_def_cfa_offset 0
.endm

.macro SAVE_REGISTERS at, cfa
        stp     x29, x30, [sp, #\at + SAVED_FP]
        stp     x19, x20, [sp, #\at + SAVED_X19]
        stp     x21, x22, [sp, #\at + SAVED_X21]
        stp     x23, x24, [sp, #\at + SAVED_X23]
        stp     x25, x26, [sp, #\at + SAVED_X25]
        stp     x27, x28, [sp, #\at + SAVED_X27]
        stp     d8, d9, [sp, #\at + SAVED_D8]
        stp     d10, d11, [sp, #\at + SAVED_D10]
        stp     d12, d13, [sp, #\at + SAVED_D12]
        stp     d14, d15, [sp, #\at + SAVED_D14]
        CFI_SAVED \at, \cfa
.endm

/* The saved copies stay what the CFI says until the frame is popped. */
.macro LOAD_REGISTERS at
        ldp     x29, x30, [sp, #\at + SAVED_FP]
        ldp     x19, x20, [sp, #\at + SAVED_X19]
        ldp     x21, x22, [sp, #\at + SAVED_X21]
        ldp     x23, x24, [sp, #\at + SAVED_X23]
        ldp     x25, x26, [sp, #\at + SAVED_X25]
        ldp     x27, x28, [sp, #\at + SAVED_X27]
        ldp     d8, d9, [sp, #\at + SAVED_D8]
        ldp     d10, d11, [sp, #\at + SAVED_D10]
        ldp     d12, d13, [sp, #\at + SAVED_D12]
        ldp     d14, d15, [sp, #\at + SAVED_D14]
.endm

/* Last line of every file: the stack need not be executable, indirect branches land on landing pads only, and return
 * addresses are signed or not. The numbers are those of the ELF note NT_GNU_PROPERTY_TYPE_0. */
.macro END_FILE
        .section .note.gnu.property, "a"
        .p2align 3
        .word   1f - 0f                 /* size of the name */
        .word   3f - 2f                 /* size of the properties */
        .word   5                       /* NT_GNU_PROPERTY_TYPE_0 */
0:      .asciz  "GNU"
1:      .p2align 3
2:      .word   0xc0000000              /* GNU_PROPERTY_AARCH64_FEATURE_1_AND */
        .word   5f - 4f
4:      .word   1 + 2 * SIGN_RETURN_ADDRESSES   /* GNU_PROPERTY_AARCH64_FEATURE_1_BTI, and _PAC */
5:      .p2align 3
3:
        .section .note.GNU-stack, "", %progbits
.endm

#endif

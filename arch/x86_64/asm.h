/*
 * x86-64 assembly macros: symbols, call frame information, saved registers, notes. Every .S of this port begins with
 * it.
 */
#ifndef CAPSTAN_ARCH_X86_64_ASM_H
#define CAPSTAN_ARCH_X86_64_ASM_H

#include "arch_offsets.h"

/* endbr64: where an indirect jump or call may land, if the kernel enforces it; otherwise a no-op. */
#define ENDBR .byte 0xf3, 0x0f, 0x1e, 0xfa

/* CatchResult.raised. */
#define RAISED 1

/* How .cfi_personality finds its routine: DW_EH_PE_indirect | DW_EH_PE_pcrel | DW_EH_PE_sdata4. */
#define DWARF_INDIRECT_PCREL 0x9b

/* A routine that the rest of the library sees, and no one else. */
.macro FUNC name
        .text
        .p2align 4
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
        .p2align 4
        .type   \name, @function
\name:
        .cfi_startproc
.endm

/* Where the caller's registers are while a SavedRegisters lies `at` bytes above the stack pointer and the CFA `cfa`
 * bytes above. */
.macro CFI_SAVED at, cfa
        .cfi_offset %r15, \at + SAVED_R15 - \cfa
        .cfi_offset %r14, \at + SAVED_R14 - \cfa
        .cfi_offset %r13, \at + SAVED_R13 - \cfa
        .cfi_offset %r12, \at + SAVED_R12 - \cfa
        .cfi_offset %rbx, \at + SAVED_RBX - \cfa
        .cfi_offset %rbp, \at + SAVED_RBP - \cfa
.endm

/* The caller's registers are in the registers again. */
.macro CFI_RESTORED
        .cfi_restore %r15
        .cfi_restore %r14
        .cfi_restore %r13
        .cfi_restore %r12
        .cfi_restore %rbx
        .cfi_restore %rbp
.endm

/* Reserve a frame that ends at the return address, which is there already. */
.macro PUSH_FRAME cfa
        subq    $(\cfa - WORD), %rsp
        .cfi_def_cfa_offset \cfa
.endm

.macro POP_FRAME cfa
        addq    $(\cfa - WORD), %rsp
        .cfi_def_cfa_offset WORD
.endm

.macro SAVE_REGISTERS at, cfa
        movq    %r15, \at + SAVED_R15(%rsp)
        movq    %r14, \at + SAVED_R14(%rsp)
        movq    %r13, \at + SAVED_R13(%rsp)
        movq    %r12, \at + SAVED_R12(%rsp)
        movq    %rbx, \at + SAVED_RBX(%rsp)
        movq    %rbp, \at + SAVED_RBP(%rsp)
        CFI_SAVED \at, \cfa
.endm

/* The saved copies stay what the CFI says until the frame is popped. */
.macro LOAD_REGISTERS at
        movq    \at + SAVED_R15(%rsp), %r15
        movq    \at + SAVED_R14(%rsp), %r14
        movq    \at + SAVED_R13(%rsp), %r13
        movq    \at + SAVED_R12(%rsp), %r12
        movq    \at + SAVED_RBX(%rsp), %rbx
        movq    \at + SAVED_RBP(%rsp), %rbp
.endm

/* Last line of every file: the stack need not be executable, and indirect branches land on endbr64 only. Shadow
 * stacks are not claimed: a switch or a raise would have to move the shadow too. The numbers are those of the ELF
 * note NT_GNU_PROPERTY_TYPE_0. */
.macro END_FILE
        .section .note.gnu.property, "a"
        .p2align 3
        .long   1f - 0f                 /* size of the name */
        .long   3f - 2f                 /* size of the properties */
        .long   5                       /* NT_GNU_PROPERTY_TYPE_0 */
0:      .asciz  "GNU"
1:      .p2align 3
2:      .long   0xc0000002              /* GNU_PROPERTY_X86_FEATURE_1_AND */
        .long   5f - 4f
4:      .long   1                       /* GNU_PROPERTY_X86_FEATURE_1_IBT */
5:      .p2align 3
3:
        .section .note.GNU-stack, "", @progbits
.endm

#endif

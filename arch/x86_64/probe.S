/*
 * x86-64: what the tests need to see of the machine (probe.h). Not part of the library.
 */
#include "asm.h"

/* Count the register in eax if it does not hold the seed plus `number`. */
.macro COUNT_IF_CHANGED register, number
        leaq    \number(%rcx), %rdx
        xorl    %esi, %esi
        cmpq    %rdx, \register
        setne   %sil
        addl    %esi, %eax
.endm

/* unsigned archProbeRegisters(void (*fn)(void *), void *arg, uintptr_t seed)
 * In: rdi = fn, rsi = arg, rdx = seed. Out: eax = how many changed. Clobbers: what a call clobbers.
 * Stack at the call: return address, the six saved registers, the seed. */
FUNC archProbeRegisters
        ENDBR
        PUSH_FRAME SWITCH_CFA
        SAVE_REGISTERS SWITCH_SAVED, SWITCH_CFA
        pushq   %rdx
        .cfi_adjust_cfa_offset WORD
        leaq    1(%rdx), %rbx
        leaq    2(%rdx), %rbp
        leaq    3(%rdx), %r12
        leaq    4(%rdx), %r13
        leaq    5(%rdx), %r14
        leaq    6(%rdx), %r15
        movq    %rdi, %rax
        movq    %rsi, %rdi
        call    *%rax                           /* fn(arg) */
        popq    %rcx                            /* the seed */
        .cfi_adjust_cfa_offset -WORD
        xorl    %eax, %eax
        COUNT_IF_CHANGED %rbx, 1
        COUNT_IF_CHANGED %rbp, 2
        COUNT_IF_CHANGED %r12, 3
        COUNT_IF_CHANGED %r13, 4
        COUNT_IF_CHANGED %r14, 5
        COUNT_IF_CHANGED %r15, 6
        LOAD_REGISTERS SWITCH_SAVED
        CFI_RESTORED
        POP_FRAME SWITCH_CFA
        ret
END archProbeRegisters

/* int archProbeAlignment(void)
 * In: nothing. Out: eax = 1 if the caller's stack was aligned. Clobbers: xmm0. */
FUNC archProbeAlignment
        ENDBR
        xorl    %eax, %eax
        leaq    WORD(%rsp), %rcx                /* the stack pointer at the call */
        testq   $(STACK_ALIGNMENT - 1), %rcx
        sete    %al
        movaps  -(STACK_ALIGNMENT + WORD)(%rsp), %xmm0   /* in the red zone */
        ret
END archProbeAlignment

END_FILE

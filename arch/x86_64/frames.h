/*
 * x86-64: the frames that the assembly builds, lowest address first.
 */
#ifndef CAPSTAN_ARCH_X86_64_FRAMES_H
#define CAPSTAN_ARCH_X86_64_FRAMES_H

#include "arch.h"

/* The callee-saved registers of the ABI but rsp. */
typedef struct {
    uintptr_t r15, r14, r13, r12, rbx, rbp;
} SavedRegisters;

/* archCatch and archEnter, at the call of the body. */
typedef struct {
    CatchFrame head;
    SavedRegisters saved;
    uintptr_t return_address;
} CatchStackFrame;

/* What a sleeping stack's sp points at. */
typedef struct {
    SavedRegisters saved;
    uintptr_t return_address;
} SwitchFrame;

/* An adjustor's frame is an ArchFrame whose last word is the return address, so that the caller's stack follows. */
#define ADJUSTOR_FRAME_CFA sizeof(ArchFrame)

_Static_assert(offsetof(ArchFrame, stack) == sizeof(ArchFrame) && offsetof(ArchFrame, stackWords) + sizeof(uint64_t) == sizeof(ArchFrame),
               "the return address is where stackWords is");
_Static_assert(sizeof(ArchFrame) % ARCH_STACK_ALIGNMENT == 0, "the handler is called with an aligned stack");
_Static_assert(sizeof(CatchStackFrame) % ARCH_STACK_ALIGNMENT == 0, "the body is called with an aligned stack");

/* *_CFA: from the frame to what the stack pointer was before the routine was called, the base of all CFI. */
#define FRAME_OFFSETS(EMIT)                                                      \
    EMIT(CATCH_HANDLER, offsetof(CatchStackFrame, head.trap.handler))            \
    EMIT(CATCH_PREV, offsetof(CatchStackFrame, head.trap.prev))                  \
    EMIT(CATCH_STACK, offsetof(CatchStackFrame, head.stack))                     \
    EMIT(CATCH_ROOTS, offsetof(CatchStackFrame, head.roots))                     \
    EMIT(CATCH_MASK, offsetof(CatchStackFrame, head.mask))                       \
    EMIT(CATCH_SAVED, offsetof(CatchStackFrame, saved))                          \
    EMIT(CATCH_CFA, sizeof(CatchStackFrame))                                     \
    EMIT(SWITCH_SAVED, offsetof(SwitchFrame, saved))                             \
    EMIT(SWITCH_CFA, sizeof(SwitchFrame))                                        \
    EMIT(ADJUSTOR_CFA, ADJUSTOR_FRAME_CFA)                                        \
    EMIT(SAVED_R15, offsetof(SavedRegisters, r15))                               \
    EMIT(SAVED_R14, offsetof(SavedRegisters, r14))                               \
    EMIT(SAVED_R13, offsetof(SavedRegisters, r13))                               \
    EMIT(SAVED_R12, offsetof(SavedRegisters, r12))                               \
    EMIT(SAVED_RBX, offsetof(SavedRegisters, rbx))                               \
    EMIT(SAVED_RBP, offsetof(SavedRegisters, rbp))

#endif

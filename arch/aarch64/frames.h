/*
 * aarch64: the frames that the assembly builds, lowest address first.
 */
#ifndef CAPSTAN_ARCH_AARCH64_FRAMES_H
#define CAPSTAN_ARCH_AARCH64_FRAMES_H

#include "arch.h"

/* The callee-saved registers of the ABI but sp. fp and lr together are what a walk by frame pointers looks at; of the
 * vector registers the ABI keeps the lower halves. */
typedef struct {
    uintptr_t fp, lr;
    uintptr_t x19, x20, x21, x22, x23, x24, x25, x26, x27, x28;
    double d8, d9, d10, d11, d12, d13, d14, d15;
} SavedRegisters;

/* archCatch and archEnter, at the call of the body. */
typedef struct {
    CatchFrame head;
    uintptr_t padding;
    SavedRegisters saved;
} CatchStackFrame;

/* What a sleeping stack's sp points at. */
typedef struct {
    SavedRegisters saved;
} SwitchFrame;

/* archAdjustorEntry: the frame record's place in its ArchFrame. */
_Static_assert(offsetof(ArchFrame, stackWords) == offsetof(ArchFrame, floatsUsed) + sizeof(uintptr_t), "fp, then lr");
_Static_assert(sizeof(ArchFrame) % ARCH_STACK_ALIGNMENT == 0, "the caller's stack arguments follow the frame");
_Static_assert(sizeof(CatchStackFrame) % ARCH_STACK_ALIGNMENT == 0, "the body is called with an aligned stack");
_Static_assert(sizeof(SwitchFrame) % ARCH_STACK_ALIGNMENT == 0, "the stack pointer is always aligned");

/* *_CFA: from the frame to what the stack pointer was before the routine was called, the base of all CFI. */
#define FRAME_OFFSETS(EMIT)                                                      \
    EMIT(SIGN_RETURN_ADDRESSES, ARCH_SIGNS_RETURN_ADDRESSES)                     \
    EMIT(CATCH_HANDLER, offsetof(CatchStackFrame, head.trap.handler))            \
    EMIT(CATCH_PREV, offsetof(CatchStackFrame, head.trap.prev))                  \
    EMIT(CATCH_STACK, offsetof(CatchStackFrame, head.stack))                     \
    EMIT(CATCH_ROOTS, offsetof(CatchStackFrame, head.roots))                     \
    EMIT(CATCH_MASK, offsetof(CatchStackFrame, head.mask))                       \
    EMIT(CATCH_SAVED, offsetof(CatchStackFrame, saved))                          \
    EMIT(CATCH_CFA, sizeof(CatchStackFrame))                                     \
    EMIT(SWITCH_SAVED, offsetof(SwitchFrame, saved))                             \
    EMIT(SWITCH_CFA, sizeof(SwitchFrame))                                        \
    EMIT(ADJUSTOR_RECORD, offsetof(ArchFrame, floatsUsed))                       \
    EMIT(ADJUSTOR_CFA, sizeof(ArchFrame))                                        \
    EMIT(SAVED_FP, offsetof(SavedRegisters, fp))                                 \
    EMIT(SAVED_LR, offsetof(SavedRegisters, lr))                                 \
    EMIT(SAVED_X19, offsetof(SavedRegisters, x19))                               \
    EMIT(SAVED_X21, offsetof(SavedRegisters, x21))                               \
    EMIT(SAVED_X23, offsetof(SavedRegisters, x23))                               \
    EMIT(SAVED_X25, offsetof(SavedRegisters, x25))                               \
    EMIT(SAVED_X27, offsetof(SavedRegisters, x27))                               \
    EMIT(SAVED_D8, offsetof(SavedRegisters, d8))                                 \
    EMIT(SAVED_D10, offsetof(SavedRegisters, d10))                               \
    EMIT(SAVED_D12, offsetof(SavedRegisters, d12))                               \
    EMIT(SAVED_D14, offsetof(SavedRegisters, d14))

#endif

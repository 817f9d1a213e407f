/*
 * riscv64: the frames that the assembly builds, lowest address first.
 */
#ifndef CAPSTAN_ARCH_RISCV64_FRAMES_H
#define CAPSTAN_ARCH_RISCV64_FRAMES_H

#include "arch.h"

/* The callee-saved registers of the ABI but sp, and the return address. gp and tp belong to the program and the OS
 * thread, and fcsr (rounding mode, flags) to nobody: a switch leaves all three alone. */
typedef struct {
    uintptr_t ra;
    uintptr_t s[12];
    double fs[12];
} SavedRegisters;

/* archCatch and archEnter, at the call of the body. */
typedef struct {
    CatchFrame head;
    SavedRegisters saved;
} CatchStackFrame;

/* What a sleeping stack's sp points at. */
typedef struct {
    SavedRegisters saved;
    uintptr_t spare;
} SwitchFrame;

/* archCallOnStack and its inner routine, on the calling stack. */
typedef struct {
    uintptr_t s0;
    uintptr_t ra;
} LinkFrame;

/* archCall, above the arguments on the stack. */
typedef struct {
    uintptr_t padding;
    uintptr_t s1;
    uintptr_t s0;
    uintptr_t ra;
} CallFrame;

/* archAdjustorEntry, at the call of the handler. */
#define ADJUSTOR_FRAME_CFA sizeof(ArchFrame)

_Static_assert(sizeof(CatchStackFrame) % ARCH_STACK_ALIGNMENT == 0, "the body is called with an aligned stack");
_Static_assert(sizeof(SwitchFrame) % ARCH_STACK_ALIGNMENT == 0, "the stack pointer is aligned at all times");
_Static_assert(sizeof(LinkFrame) % ARCH_STACK_ALIGNMENT == 0, "the stack pointer is aligned at all times");
_Static_assert(sizeof(CallFrame) % ARCH_STACK_ALIGNMENT == 0, "the stack pointer is aligned at all times");
_Static_assert(ADJUSTOR_FRAME_CFA % ARCH_STACK_ALIGNMENT == 0, "the handler is called with an aligned stack");

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
    EMIT(SWITCH_SPARE, offsetof(SwitchFrame, spare))                             \
    EMIT(SWITCH_CFA, sizeof(SwitchFrame))                                        \
    EMIT(SAVED_RA, offsetof(SavedRegisters, ra))                                 \
    EMIT(SAVED_S, offsetof(SavedRegisters, s))                                   \
    EMIT(SAVED_FS, offsetof(SavedRegisters, fs))                                 \
    EMIT(CALL_S1, offsetof(CallFrame, s1))                                       \
    EMIT(CALL_S0, offsetof(CallFrame, s0))                                       \
    EMIT(CALL_RA, offsetof(CallFrame, ra))                                       \
    EMIT(CALL_CFA, sizeof(CallFrame))                                            \
    EMIT(ADJUSTOR_CFA, ADJUSTOR_FRAME_CFA)                                       \
    EMIT(LINK_S0, offsetof(LinkFrame, s0))                                       \
    EMIT(LINK_RA, offsetof(LinkFrame, ra))                                       \
    EMIT(LINK_CFA, sizeof(LinkFrame))

#endif

/*
 * Catching and raising by setjmp and longjmp, for builds with ARCH_RAISE_BY_LONGJMP. See arch.h for why.
 */
#ifndef CAPSTAN_ARCH_CATCH_LONGJMP_H
#define CAPSTAN_ARCH_CATCH_LONGJMP_H

#include "arch.h"

#include <setjmp.h>

/* In these builds the frame that stack->trap points at. Aligned so that the assembly may put it at a call's stack
 * pointer. */
typedef struct {
    _Alignas(ARCH_STACK_ALIGNMENT) CatchFrame head;
    HaskellObj exception; /* written by the raise */
    jmp_buf registers;
} JumpFrame;

/* archCatch with the frame's memory given by the caller: archEnter's assembly keeps it at its own stack pointer,
 * where the personality routine finds it. */
CatchResult catchWithJumpFrame(Stack *stack, ArchBody *body, void *arg, JumpFrame *frame);

#endif

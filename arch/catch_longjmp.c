#include "catch_longjmp.h"

#if ARCH_RAISE_BY_LONGJMP

static void pushFrame(JumpFrame *frame, Stack *stack)
{
    frame->head.trap.handler = (void *)archLand; /* never jumped to; says what kind of frame this is */
    frame->head.trap.prev = stack->trap;
    frame->head.stack = stack;
    frame->head.roots = stack->roots;
    frame->head.mask = stack->mask;
    stack->trap = &frame->head.trap;
}

static CatchResult landInFrame(JumpFrame *frame)
{
    Stack *stack = frame->head.stack;

    stack->trap = frame->head.trap.prev;
    stack->roots = frame->head.roots;
    __atomic_store_n(&stack->mask, frame->head.mask, __ATOMIC_RELAXED); /* others look whether the thread is deaf */
    return (CatchResult){ .value = frame->exception, .raised = 1 };
}

CatchResult catchWithJumpFrame(Stack *stack, ArchBody *body, void *arg, JumpFrame *frame)
{
    pushFrame(frame, stack);
    if (setjmp(frame->registers) != 0)
        return landInFrame(frame);

    HaskellObj value = body(stack, arg);
    stack->trap = frame->head.trap.prev;
    return (CatchResult){ .value = value, .raised = 0 };
}

CatchResult archCatch(Stack *stack, ArchBody *body, void *arg)
{
    JumpFrame frame;

    return catchWithJumpFrame(stack, body, arg, &frame);
}

_Noreturn void archRaise(Stack *stack, HaskellObj exception)
{
    JumpFrame *frame = (JumpFrame *)stack->trap;

    frame->exception = exception;
    longjmp(frame->registers, 1);
}

#else

/* An empty translation unit is not C. */
extern int archRaisesByJump;

#endif

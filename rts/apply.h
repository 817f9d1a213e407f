/* apply.h: calling managed functions with the number of arguments that there happens to be. */
#ifndef APPLY_H
#define APPLY_H

#include "arch.h"
#include "rts/Managed.h"
#include "stack.h"

/* Raise StackOverflow if there is less left than the headroom. */
void checkStackSlow(Stack *stack);
static inline void checkStack(Stack *stack)
{
    if (CAPSTAN_UNLIKELY(archStackPointer() < stack->limit)) checkStackSlow(stack);
}

/* rts_call1 for who has just come from a safepoint and passes the result on: it may be CAPSTAN_TAILCALL. */
HaskellObj passCall1(Stack *stack, HaskellObj f, HaskellObj arg);

/* The result of a call, its tail call done. */
HaskellObj runPending(Stack *stack);
static inline HaskellObj finishCall(Stack *stack, HaskellObj result)
{
    return CAPSTAN_LIKELY(result != CAPSTAN_TAILCALL) ? result : runPending(stack);
}

/* Run a thunk's code; a tail call that it left is done. */
HaskellObj enterThunk(Stack *stack, HaskellObj thunk);

/* What an application that is not yet begun amounts to if it has too few arguments to run: a partial application, and the thunk is
 * updated with it.  NULL: it has enough. */
HaskellObj partialApplication(Stack *stack, HaskellObj ap);

#endif

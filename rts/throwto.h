/* throwto.h: exceptions from other threads, and from outside. */
#ifndef THROWTO_H
#define THROWTO_H

#include "run.h"

/* Raise what is pending, if the mask lets it: unmasked, or (interrupted: in an operation that waits) not uninterruptible.  Returns if there was nothing, or
 * may not be. */
void deliverPending(Stack *stack, bool interrupted);

/* An exception of the runtime's own for a thread, from outside (no capability), bits of PENDING_*. */
void pendFromOutside(StgTSO *tso, uint32_t bits);
/* The same by who holds cap. */
void pendException(Capability *cap, StgTSO *tso, uint32_t bits);

/* Nothing polls for what is pending, as its prod came before, or was masked: let the next safepoint look.  Context: the stack's own thread. */
static inline void noticePending(Stack *stack)
{
    /* Pairs with the barrier of who adds to pending: it stores poll afterwards. */
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&stack->tso->pending, memory_order_relaxed) != 0) __atomic_store_n(&stack->poll, 1, __ATOMIC_RELAXED);
}

/* The thread ends: its ThreadId is cut off, and who waits for an exception to reach it goes on.  Context: the caller holds cap. */
void endThread(Capability *cap, StgTSO *tso, uint8_t how);

/* The thread is left without its frames being run, in the midst of a wait or behind it: nobody is to find it where it waits.  Not for descriptors:
 * forgetBoundWaits sees to those. */
void leaveWait(StgTSO *tso);

/* Raise as an asynchronous exception: thunks under evaluation are re-armed. */
_Noreturn void raiseAsync(Stack *stack, HaskellObj exception);

/* After a wait that was interrupted: raises; comes back if the exception is gone: then wait again. */
static inline void raiseInterrupted(Stack *stack) { deliverPending(stack, true); }

/* Managed code runs on this stack, and not C that it or the runtime called. */
static inline bool mayWait(Stack *stack)
{
    return CAPSTAN_LIKELY(regsOf(stack->cap)->stack == stack && !holderOf(stack->cap)->finalizing);
}
/* Raise an ErrorCall that names the operation, if the thread must not wait or call out here. */
void forbidInsideUnsafe(Stack *stack, const char *what);

#endif

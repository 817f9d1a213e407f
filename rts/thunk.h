/* thunk.h: evaluating each thunk once.
 *
 * A thunk's second word is its state: 0 not begun; a value when done (acquire to read, release to write: the value's
 * contents come with it); otherwise the evaluator, a StgTSO with low bits 100, set by compare-and-swap from 0.  The payload stays
 * until the thunk is done, so that it can be re-armed by writing 0 again. */
#ifndef THUNK_H
#define THUNK_H

#include "gc/heap.h"
#include "rts/Managed.h"
#include "run.h"

static inline StgWord thunkState(HaskellObj thunk)
{
    return __atomic_load_n(&((StgThunk *)thunk)->state, __ATOMIC_ACQUIRE);
}

/* A wait for what the evaluator's thread evaluates was interrupted: nobody is to find the waiter in its list. */
void stopWaitingFor(StgTSO *evaluator, StgTSO *me);

/* The evaluator's: done (a value), or to be evaluated again (0).  Wakes who waits for it. */
void wakeThunkWaiters(Stack *stack, HaskellObj thunk);
static inline void setThunkState(Stack *stack, HaskellObj thunk, StgWord state)
{
    rememberIfOld(&stack->cap->nursery, thunk, (HaskellObj *)&((StgThunk *)thunk)->state, (HaskellObj)state);
    /* Release: pairs with thunkState. */
    __atomic_store_n(&((StgThunk *)thunk)->state, state, __ATOMIC_RELEASE);
    /* Pairs with waitForEvaluator. */
    atomic_signal_fence(memory_order_seq_cst);
    if (CAPSTAN_UNLIKELY(stack->cap->attention & ATTENTION_SLOW)) atomic_thread_fence(memory_order_seq_cst);
    if (CAPSTAN_UNLIKELY(atomic_load_explicit(&stack->tso->hasWaiters, memory_order_relaxed) != 0)) wakeThunkWaiters(stack, thunk);
}
static inline void rearmThunk(Stack *stack, HaskellObj thunk) { setThunkState(stack, thunk, 0); }

#endif

#include "thunk.h"

#include "apply.h"
#include "arch.h"
#include "exception.h"
#include "rts/Threads.h"
#include "schedule.h"
#include "statics.h"
#include "throwto.h"

/* ---- Evaluation ---- */

/* Make this thread the evaluator.  false: somebody else is, or it is done. */
static bool claimThunk(Stack *stack, StgThunk *thunk)
{
    StgWord expected = 0;
    if (thunk->info->flags & INFO_STATIC) noteStatic((StgStaticThunk *)thunk);
    /* Release: who finds the mark looks into the evaluator's record (waitForEvaluator). */
    return __atomic_compare_exchange_n(&thunk->state, &expected, (StgWord)stack->tso | 4, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_RELAXED);
}

/* Run the code of a thunk that this thread has claimed, and update it. */
static HaskellObj runThunk(Stack *stack, HaskellObj thunk)
{
    UpdateFrame frame = { { updateFrameTag, stack->trap }, thunk };
    stack->trap = &frame.trap;
    HaskellObj value;
    if (thunk->info->kind == CLOSURE_AP) {
        StgAP *ap = (StgAP *)thunk;
        value = rts_call1(stack, ap->fun, ap->arg);
    } else {
        value = enterThunk(stack, thunk);
    }
    value = rts_force(stack, value);
    stack->trap = frame.trap.prev;
    setThunkState(stack, frame.thunk, (StgWord)value);
    return value;
}

/* ---- Waiting for another thread's evaluation ---- */

/* Is the evaluator one of the threads that wait on this very OS thread for this one?  Then it waits for us. */
static bool isOwnMark(Stack *stack, StgWord mark)
{
    if (((StgWord)stack->tso | 4) == mark) return true;
    if (!isBound(stack->tso)) return false;
    Task *task = incallOfStack(stack)->task;
    for (InCall *i = task->incall; i != NULL; i = i->prev)
        if (((StgWord)&i->tso | 4) == mark) return true;
    return task->calling != NULL && ((StgWord)task->calling | 4) == mark;
}

void stopWaitingFor(StgTSO *evaluator, StgTSO *me)
{
    lockTSO(evaluator);
    unlinkBack(&evaluator->waiters, me);
    if (evaluator->waiters == NULL) atomic_store_explicit(&evaluator->hasWaiters, 0, memory_order_relaxed);
    unlockTSO(evaluator);
    me->waitRecord = NULL;
}

/* Stand in the evaluator's list and wait.  What the evaluator does first is to change the state, then to look at hasWaiters; we do it the other way round,
 * with membarrier in between. */
static void waitForEvaluator(Stack *stack, HaskellObj thunk, StgWord mark)
{
    StgTSO *me = stack->tso, *evaluator = (StgTSO *)(mark & ~(StgWord)7);
    setBlockedOn(me, thunk);
    lockTSO(evaluator);
    uint64_t word = beginWait(me, ThreadBlockedOnBlackHole);
    setWaitsAt(me, evaluator);
    me->back = evaluator->waiters;
    evaluator->waiters = me;
    atomic_store_explicit(&evaluator->hasWaiters, 1, memory_order_relaxed);
    unlockTSO(evaluator);
    heavyBarrier();
    if (thunkState(thunk) != mark && endWait(me, word, WAIT_INTERRUPTED)) {
        setWhy(me, ThreadRunning);
    } else {
        threadBlock(stack);
    }
    bool handed = waitState(me) == WAIT_HANDED;
    if (!handed) stopWaitingFor(evaluator, me);
    me->waitRecord = NULL;
    clearWaitRoots(me);
    if (!handed) raiseInterrupted(stack);
}

/* The waiters for this thunk, out of the list and on their way. */
void wakeThunkWaiters(Stack *stack, HaskellObj thunk)
{
    StgTSO *me = stack->tso;
    lockTSO(me);
    for (StgTSO **link = &me->waiters; *link != NULL;) {
        StgTSO *waiter = *link;
        if (waiter->blockedOn != thunk) {
            link = &waiter->back;
            continue;
        }
        *link = waiter->back;
        uint64_t word = atomic_load_explicit(&waiter->wait, memory_order_acquire);
        if (word % WAIT_STATES == WAIT_WAITING && endWait(waiter, word, WAIT_HANDED)) wakeThread(stack->cap, waiter);
    }
    if (me->waiters == NULL) atomic_store_explicit(&me->hasWaiters, 0, memory_order_relaxed);
    unlockTSO(me);
}

/* Another thread evaluates the thunk: it may be done soon; else wait for it. */
static HaskellObj waitForThunk(Stack *stack, HaskellObj thunk, StgWord mark, unsigned tries)
{
    if (isOwnMark(stack, mark)) rts_raise(stack, &capstan_NonTermination_closure);
    forbidInsideUnsafe(stack, "evaluating what another thread evaluates");
    CAPSTAN_ROOTS(stack, thunk);
    if (tries < 4 && numCapabilities > 1) {
        for (unsigned i = 0; i < 20u << tries; i++) archRelax();
        safepoint(stack);
    } else {
        waitForEvaluator(stack, thunk, mark);
        rts_poll(stack);
    }
    CAPSTAN_UNROOT(stack);
    return thunk;
}

static HaskellObj stepThunk(Stack *stack, HaskellObj v, unsigned *tries)
{
    StgWord state = thunkState(v);
    if (state == 0) {
        if (rts_info(v) == &raisingThunk_info) rts_raise(stack, ((StgThunk *)v)->payload[0]);
        if (rts_info(v)->kind == CLOSURE_AP) {
            HaskellObj partial = partialApplication(stack, v);
            if (partial != NULL) return partial;
        }
        return claimThunk(stack, (StgThunk *)v) ? runThunk(stack, v) : v;
    }
    return isBlackHoleMark(state) ? waitForThunk(stack, v, state, (*tries)++) : (HaskellObj)state;
}

HaskellObj rts_evaluate(Stack *stack, HaskellObj v)
{
    for (unsigned tries = 0;;) {
        if (rts_isImmediate(v)) {
            if (CAPSTAN_UNLIKELY(v == CAPSTAN_POISON)) rts_raise(stack, &capstan_HeapOverflow_closure);
            return v;
        }
        switch (rts_info(v)->kind) {
        case CLOSURE_IND:
            v = __atomic_load_n(&((StgInd *)v)->value, __ATOMIC_ACQUIRE);
            break;
        case CLOSURE_AP:
        case CLOSURE_THUNK:
            checkStack(stack);
            v = stepThunk(stack, v, &tries);
            break;
        default:
            return v;
        }
    }
}

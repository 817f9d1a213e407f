#include "throwto.h"

#include "arch.h"
#include "exception.h"
#include "interrupt.h"
#include "language.h"
#include "rts/Threads.h"
#include "schedule.h"
#include "thunk.h"
#include "timeout.h"
#include "weak.h"

CAPSTAN_STATIC_CON(capstan_ThreadKilled, 5);
CAPSTAN_STATIC_CON(capstan_BlockedIndefinitelyOnMVar, 6);
CAPSTAN_STATIC_CON(capstan_AllocationLimitExceeded, 7);
CAPSTAN_STATIC_CON(capstan_TimedOut, 8);
CAPSTAN_STATIC_CON(capstan_Cancelled, 9);

void raiseAsync(Stack *stack, HaskellObj exception)
{
    while (isUpdateFrame(stack->trap)) {
        rearmThunk(stack, ((UpdateFrame *)stack->trap)->thunk);
        stack->trap = stack->trap->prev;
    }
    archRaise(stack, exception);
}

/* ---- The target's side ---- */

/* The bits of the runtime's own exceptions, the first to be raised first. */
static const struct {
    uint32_t bit;
    HaskellObj exception;
} ownKinds[] = {
    /* Of the wait that just ended: the others would leave them behind for a later one. */
    { PENDING_DEADLOCK, &capstan_BlockedIndefinitelyOnMVar_closure },
    { PENDING_LOOP, &capstan_NonTermination_closure },
    { PENDING_CANCEL, &capstan_Cancelled_closure },
    { PENDING_TIMEOUT, &capstan_TimedOut_closure },
    { PENDING_LIMIT, &capstan_AllocationLimitExceeded_closure },
};

static HaskellObj takeOwnKind(StgTSO *tso)
{
    uint32_t pending = atomic_load_explicit(&tso->pending, memory_order_relaxed);
    for (size_t i = 0; i < sizeof ownKinds / sizeof *ownKinds; i++) {
        if (!(pending & ownKinds[i].bit)) continue;
        atomic_fetch_and_explicit(&tso->pending, ~ownKinds[i].bit, memory_order_relaxed);
        return ownKinds[i].exception;
    }
    return pending & PENDING_TIMER ? takeTimeout(tso) : NULL;
}

/* The exception of the oldest of those that wait in throwTo, who goes on.  One that was interrupted meanwhile finds itself out of the list, and knows by
 * that that its exception was taken. */
static HaskellObj takeThrown(Capability *cap, StgTSO *tso)
{
    HaskellObj exception = NULL;
    lockTSO(tso);
    StgTSO **link = &tso->throwers;
    while (*link != NULL && (*link)->back != NULL) link = &(*link)->back;
    StgTSO *thrower = *link;
    if (thrower != NULL) {
        *link = NULL;
        exception = thrower->value; /* before its wait is over: it may go on by itself then */
        uint64_t word = atomic_load_explicit(&thrower->wait, memory_order_acquire);
        if (word % WAIT_STATES == WAIT_WAITING && endWait(thrower, word, WAIT_HANDED)) wakeThread(cap, thrower);
    }
    if (tso->throwers == NULL) atomic_fetch_and_explicit(&tso->pending, ~(uint32_t)PENDING_THROW, memory_order_relaxed);
    unlockTSO(tso);
    return exception;
}

/* What the nursery owed to it when it left a capability.  true: HeapOverflow is due, whatever the mask.  Where there is no room still, and another
 * collection may find some, the nursery that it has now owes it the same. */
#define PENDING_DEBTS (PENDING_OVERFLOWED | PENDING_REFUSED)
static bool takeDebts(StgTSO *tso, Nursery *nursery)
{
    uint32_t before = atomic_fetch_and_explicit(&tso->pending, ~(uint32_t)PENDING_DEBTS, memory_order_relaxed);
    if (before & PENDING_REFUSED) return true;
    if (!isHeapOverLimit()) return false;
    if (isHeapFullForGood()) return true;
    nursery->overflowed = true;
    nursery->wantCollection(nursery);
    return false;
}

/* The exception that is to be raised now; NULL: none, or none that may. */
static HaskellObj takePending(Stack *stack, bool interrupted)
{
    StgTSO *tso = stack->tso;
    if (atomic_load_explicit(&tso->pending, memory_order_relaxed) & PENDING_DEBTS && takeDebts(tso, &stack->cap->nursery)) {
        noteReleased();
        return &capstan_HeapOverflow_closure;
    }
    /* Who waits for ever cannot be left to wait. */
    bool lost = interrupted && atomic_load_explicit(&tso->pending, memory_order_relaxed) & (PENDING_DEADLOCK | PENDING_LOOP);
    if (!lost && (stack->mask == MASKED_UNINTERRUPTIBLE || (stack->mask != UNMASKED && !interrupted))) return NULL;
    HaskellObj exception = takeOwnKind(tso);
    if (exception == NULL && atomic_load_explicit(&tso->pending, memory_order_relaxed) & PENDING_THROW)
        exception = takeThrown(stack->cap, tso);
    return exception;
}

static _Noreturn void raisePending(Stack *stack, HaskellObj exception)
{
    /* Those were about the wait that this ends. */
    atomic_fetch_and_explicit(&stack->tso->pending, ~(uint32_t)(PENDING_DEADLOCK | PENDING_LOOP), memory_order_relaxed);
    if (atomic_load_explicit(&stack->tso->pending, memory_order_relaxed) != 0) __atomic_store_n(&stack->poll, 1, __ATOMIC_RELAXED);
    clearWaitRoots(stack->tso); /* of the wait that this ends, if any */
    raiseAsync(stack, exception);
}

void deliverPending(Stack *stack, bool interrupted)
{
    HaskellObj exception = takePending(stack, interrupted);
    if (exception != NULL) raisePending(stack, exception);
}

/* ---- The thrower's side ---- */

static bool isDeaf(const Stack *stack)
{
    return stack != NULL && __atomic_load_n(&stack->mask, __ATOMIC_RELAXED) == MASKED_UNINTERRUPTIBLE;
}

/* pending was added to: end the wait of the thread, break off its call, or let it poll. */
static void prodThread(Capability *cap, StgTSO *tso)
{
    heavyBarrier();
    Stack *stack = stackOf(tso);
    bool deaf = isDeaf(stack);
    if (isWaiting(tso) && !deaf && interruptWait(tso)) wakeThread(cap, tso);
    if (stack != NULL) __atomic_store_n(&stack->poll, 1, __ATOMIC_RELAXED);
    if (!deaf) breakCall(tso, false);
}

void pendException(Capability *cap, StgTSO *tso, uint32_t bits)
{
    atomic_fetch_or_explicit(&tso->pending, bits, memory_order_seq_cst);
    prodThread(cap, tso);
}

void pendFromOutside(StgTSO *tso, uint32_t bits)
{
    atomic_fetch_or_explicit(&tso->pending, bits, memory_order_seq_cst);
    heavyBarrier();
    Stack *stack = stackOf(tso);
    if (stack != NULL) __atomic_store_n(&stack->poll, 1, __ATOMIC_RELAXED);
    if (!isDeaf(stack)) breakCall(tso, true);
    if (isBound(tso)) postThread(tso);
}

/* The wait in throwTo was interrupted: nobody is to find the thrower in the list.  false: somebody had; the exception was taken. */
static bool withdraw(StgTSO *target, StgTSO *me)
{
    lockTSO(target);
    bool found = unlinkBack(&target->throwers, me);
    if (target->throwers == NULL) atomic_fetch_and_explicit(&target->pending, ~(uint32_t)PENDING_THROW, memory_order_relaxed);
    unlockTSO(target);
    me->waitRecord = NULL;
    return found;
}

/* The other's record is a record still, be it another thread's by now. */
void leaveWait(StgTSO *tso)
{
    StgTSO *at = waitsAt(tso);
    interruptWait(tso);
    if (whyOf(tso) == ThreadBlockedOnDelay) cancelTimer(&tso->timer);
    if (at == NULL) return;
    withdraw(at, tso);
    stopWaitingFor(at, tso);
}

/* Put the thrower into the target's list.  false: the target has ended. */
static bool enlist(StgTSO *target, HaskellObj threadId, StgTSO *me)
{
    lockTSO(target);
    bool alive = threadOf(threadId) == target; /* cut off under this lock */
    if (alive) {
        setWaitsAt(me, target);
        me->back = target->throwers;
        target->throwers = me;
        beginWait(me, ThreadBlockedOnThrowTo);
        atomic_fetch_or_explicit(&target->pending, PENDING_THROW, memory_order_seq_cst);
    }
    unlockTSO(target);
    return alive;
}

void rts_throwTo(Stack *stack, HaskellObj threadId, HaskellObj exception)
{
    if (rts_isImmediate(threadId) || rts_info(threadId)->kind != CLOSURE_TSO) rts_raise(stack, &capstan_WrongKind_closure);
    if (isPolled(stack)) {
        CAPSTAN_ROOTS(stack, threadId, exception);
        safepoint(stack);
        CAPSTAN_UNROOT(stack);
    }
    StgTSO *me = stack->tso, *target = threadOf(threadId);
    if (target == me) raiseAsync(stack, exception);
    if (target == NULL) return;
    forbidInsideUnsafe(stack, "rts_throwTo");
    me->value = exception;
    setBlockedOn(me, threadId);
    for (;;) {
        if (!enlist(target, threadId, me)) break;
        prodThread(stack->cap, target);
        threadBlock(stack);
        if (waitState(me) == WAIT_HANDED) break;
        /* First what is thrown at this one: two that throw at each other, and both withdrew first, would find nothing and begin again for ever. */
        HaskellObj mine = takePending(stack, true);
        /* The target's record is a record still, be it somebody else's by now. */
        bool taken = !withdraw(target, me);
        if (mine != NULL) raisePending(stack, mine);
        threadId = me->blockedOn; /* it may have moved */
        if (taken || (target = threadOf(threadId)) == NULL) break;
    }
    me->waitRecord = NULL;
    clearWaitRoots(me);
    setWhy(me, ThreadRunning);
    safepoint(stack);
}

void rts_killThread(Stack *stack, HaskellObj threadId) { rts_throwTo(stack, threadId, &capstan_ThreadKilled_closure); }

void endThread(Capability *cap, StgTSO *tso, uint8_t how)
{
    lockTSO(tso);
    closeThread(tso, how);
    StgTSO *throwers = tso->throwers;
    tso->throwers = NULL;
    atomic_store_explicit(&tso->pending, 0, memory_order_relaxed);
    for (StgTSO *t = throwers, *next; t != NULL; t = next) {
        next = t->back;
        uint64_t word = atomic_load_explicit(&t->wait, memory_order_acquire);
        if (word % WAIT_STATES == WAIT_WAITING && endWait(t, word, WAIT_HANDED)) wakeThread(cap, t);
    }
    unlockTSO(tso);
    if (isBound(tso) && tso->flags & TSO_KEPT) forgetNamed(tso);
    dropTimeouts(tso);
    dropExtras(tso);
    if (tso->flags & TSO_COUNTED) stopCounting(cap);
    tso->flags = 0;
}

/* ---- Masks ---- */

RtsMaskingState rts_getMaskingState(Stack *stack) { return (RtsMaskingState)stack->mask; }

HaskellObj rts_withMask(Stack *stack, RtsMaskingState state, HaskellObj (*body)(Stack *stack, void *arg), void *arg)
{
    uint32_t before = stack->mask;
    setMask(stack, (uint32_t)state);
    if (state == RtsUnmasked && atomic_load_explicit(&stack->tso->pending, memory_order_relaxed) != 0) safepoint(stack);
    HaskellObj result = body(stack, arg);
    setMask(stack, before);
    if (before == UNMASKED && CAPSTAN_UNLIKELY(atomic_load_explicit(&stack->tso->pending, memory_order_relaxed) != 0)) {
        CAPSTAN_ROOTS(stack, result);
        safepoint(stack);
        CAPSTAN_UNROOT(stack);
    }
    return result;
}

void rts_allowInterrupt(Stack *stack)
{
    rts_poll(stack);
    deliverPending(stack, true);
}

/* Managed code runs on this stack, and not C that it called: a later in-call of the OS thread would be on top. */
void forbidInsideUnsafe(Stack *stack, const char *what)
{
    if (!mayWait(stack)) rts_raiseError(stack, "%s is not allowed inside an unsafe call or a finalizer", what);
}

#include "throwto.h"

#include "arch.h"
#include "exception.h"
#include "rts/Threads.h"
#include "schedule.h"
#include "thunk.h"

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
    { PENDING_CANCEL, &capstan_Cancelled_closure },
    { PENDING_TIMEOUT, &capstan_TimedOut_closure },
    { PENDING_LIMIT, &capstan_AllocationLimitExceeded_closure },
    { PENDING_DEADLOCK, &capstan_BlockedIndefinitelyOnMVar_closure },
    { PENDING_LOOP, &capstan_NonTermination_closure },
};

static HaskellObj takeOwnKind(StgTSO *tso)
{
    uint32_t pending = atomic_load_explicit(&tso->pending, memory_order_relaxed);
    for (size_t i = 0; i < sizeof ownKinds / sizeof *ownKinds; i++) {
        if (!(pending & ownKinds[i].bit)) continue;
        atomic_fetch_and_explicit(&tso->pending, ~ownKinds[i].bit, memory_order_relaxed);
        return ownKinds[i].exception;
    }
    return NULL;
}

/* The oldest of those that wait in throwTo, and were not interrupted meanwhile, taken out.  NULL: none. */
static StgTSO *takeThrower(StgTSO *tso, HaskellObj *thrown)
{
    while (tso->throwers != NULL) {
        StgTSO **link = &tso->throwers;
        while ((*link)->back != NULL) link = &(*link)->back;
        StgTSO *thrower = *link;
        *link = NULL;
        uint64_t word = atomic_load_explicit(&thrower->wait, memory_order_acquire);
        HaskellObj exception = thrower->value;
        if (word % WAIT_STATES != WAIT_WAITING || !endWait(thrower, word, WAIT_HANDED)) continue;
        *thrown = exception; /* a bound thrower goes on by itself now */
        return thrower;
    }
    return NULL;
}

/* Its exception; the thrower goes on. */
static HaskellObj takeThrown(Capability *cap, StgTSO *tso)
{
    HaskellObj exception = NULL;
    lockTSO(tso);
    StgTSO *thrower = takeThrower(tso, &exception);
    if (thrower != NULL) wakeThread(cap, thrower);
    if (tso->throwers == NULL) atomic_fetch_and_explicit(&tso->pending, ~(uint32_t)PENDING_THROW, memory_order_relaxed);
    unlockTSO(tso);
    return exception;
}

void deliverPending(Stack *stack, bool interrupted)
{
    StgTSO *tso = stack->tso;
    /* Who waits for ever cannot be left to wait. */
    bool lost = interrupted && atomic_load_explicit(&tso->pending, memory_order_relaxed) & (PENDING_DEADLOCK | PENDING_LOOP);
    if (!lost && (stack->mask == MASKED_UNINTERRUPTIBLE || (stack->mask != UNMASKED && !interrupted))) return;
    HaskellObj exception = takeOwnKind(tso);
    if (exception == NULL && atomic_load_explicit(&tso->pending, memory_order_relaxed) & PENDING_THROW)
        exception = takeThrown(stack->cap, tso);
    if (exception == NULL) return;
    if (atomic_load_explicit(&tso->pending, memory_order_relaxed) != 0) __atomic_store_n(&stack->poll, 1, __ATOMIC_RELAXED);
    raiseAsync(stack, exception);
}

/* ---- The thrower's side ---- */

/* pending was added to: end the wait of the thread, or let it poll. */
static void prodThread(Capability *cap, StgTSO *tso)
{
    heavyBarrier();
    Stack *stack = tso->stack;
    if (isWaiting(tso)) {
        bool deaf = stack != NULL && __atomic_load_n(&stack->mask, __ATOMIC_RELAXED) == MASKED_UNINTERRUPTIBLE;
        if (!deaf && interruptWait(tso)) wakeThread(cap, tso);
    }
    if (stack != NULL) __atomic_store_n(&stack->poll, 1, __ATOMIC_RELAXED);
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
    Stack *stack = __atomic_load_n(&tso->stack, __ATOMIC_RELAXED);
    if (stack != NULL) __atomic_store_n(&stack->poll, 1, __ATOMIC_RELAXED);
    if (isBound(tso)) postThread(tso);
}

/* The wait in throwTo was interrupted: nobody is to find the thrower in the list. */
static void withdraw(StgTSO *target, StgTSO *me)
{
    lockTSO(target);
    for (StgTSO **link = &target->throwers; *link != NULL; link = &(*link)->back)
        if (*link == me) {
            *link = me->back;
            break;
        }
    if (target->throwers == NULL) atomic_fetch_and_explicit(&target->pending, ~(uint32_t)PENDING_THROW, memory_order_relaxed);
    unlockTSO(target);
}

/* Put the thrower into the target's list.  false: the target has ended. */
static bool enlist(StgTSO *target, HaskellObj threadId, StgTSO *me)
{
    lockTSO(target);
    bool alive = threadOf(threadId) == target; /* cut off under this lock */
    if (alive) {
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
    {
        CAPSTAN_ROOTS(stack, threadId, exception);
        rts_poll(stack);
        CAPSTAN_UNROOT(stack);
    }
    StgTSO *me = stack->tso, *target = threadOf(threadId);
    if (target == me) raiseAsync(stack, exception);
    if (target == NULL) return;
    forbidInsideUnsafe(stack, "rts_throwTo");
    for (;;) {
        me->value = exception;
        me->blockedOn = threadId;
        if (!enlist(target, threadId, me)) break;
        prodThread(stack->cap, target);
        threadBlock(stack);
        if (waitState(me) == WAIT_HANDED) break;
        /* The target's record stays one while its ThreadId is in blockedOn, or is somebody else's by now: harmless. */
        withdraw(target, me);
        exception = me->value;
        threadId = me->blockedOn;
        CAPSTAN_ROOTS(stack, exception, threadId);
        raiseInterrupted(stack);
        CAPSTAN_UNROOT(stack);
        if ((target = threadOf(threadId)) == NULL) break;
    }
    me->value = me->blockedOn = CAPSTAN_UNIT;
    setWhy(me, ThreadRunning);
    rts_poll(stack);
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
    tso->flags = 0;
}

/* ---- Masks ---- */

RtsMaskingState rts_getMaskingState(Stack *stack) { return (RtsMaskingState)stack->mask; }

HaskellObj rts_withMask(Stack *stack, RtsMaskingState state, HaskellObj (*body)(Stack *stack, void *arg), void *arg)
{
    uint32_t before = stack->mask;
    stack->mask = (uint32_t)state;
    if (state == RtsUnmasked && atomic_load_explicit(&stack->tso->pending, memory_order_relaxed) != 0) safepoint(stack);
    HaskellObj result = body(stack, arg);
    stack->mask = before;
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
    Task *task = holderOf(stack->cap);
    if (CAPSTAN_LIKELY(regsOf(stack->cap)->stack == stack && !task->finalizing)) return;
    rts_raiseError(stack, "%s is not allowed inside an unsafe call or a finalizer", what);
}

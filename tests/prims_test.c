/* Looking at threads; masks and catch; rts_timeout; the operations as managed functions; hosting switched off. */
#include "sched.h"

#include "capability.h"
#include "os/memory.h"
#include "os/os.h"

/* ---- Looking at threads ---- */

static RtsThreadCounts countsNow(void)
{
    RtsThreadCounts counts;
    rts_getThreadCounts(&counts);
    return counts;
}

static bool isListed(HaskellObj list, HaskellObj id)
{
    for (size_t i = 0; i < rts_arrayLength(list); i++)
        if (rts_getElem(list, i) == id) return true;
    return false;
}

CAPSTAN_IO(takeForEver, mvar) { return rts_takeMVar(stack, mvar); }

CAPSTAN_IO(listThem)
{
    HaskellObj mvar = rts_mkMVar(stack->cap), me = CAPSTAN_UNIT, a = CAPSTAN_UNIT, b = CAPSTAN_UNIT, list = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, mvar, me, a, b, list);
    a = FORK(stack, takeForEver, mvar);
    b = FORK(stack, takeForEver, mvar);
    me = rts_myThreadId(stack);
    rts_yield(stack);
    list = rts_listThreads(stack->cap);
    CHECK(rts_arrayLength(list) == 3);
    CHECK(isListed(list, me) && isListed(list, a) && isListed(list, b));
    RtsThreadCounts counts = countsNow();
    CHECK(counts.threads == 2 && counts.created >= 2 && counts.stacks_in_use <= counts.stacks);
    rts_killThread(stack, a);
    awaitEnd(stack, &a);
    list = rts_listThreads(stack->cap);
    CHECK(rts_arrayLength(list) == 2 && isListed(list, me) && isListed(list, b) && !isListed(list, a));
    rts_putMVar(stack, mvar, CAPSTAN_UNIT);
    awaitEnd(stack, &b);
    CHECK(rts_arrayLength(rts_listThreads(stack->cap)) == 1);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

static void testList(void **state)
{
    run(&listThem_closure);
    assert_int_equal(countsNow().threads, 0);
    Capability *cap = rts_lock();
    assert_int_equal(rts_arrayLength(rts_listThreads(cap)), 0); /* of an ended in-call nothing is left */
    rts_unlock(cap);
}

/* Threads that nobody has the ThreadId of: made by C, or their ThreadId is dead. */
static void testListUnknown(void **state)
{
    Capability *cap = rts_lock();
    HaskellObj value, mvar = rts_mkMVar(cap);
    HsStablePtr keep = getStablePtr((StgPtr)mvar);
    scheduleThread(cap, createIOThread(cap, 0, APPLY(cap, takeForEver, mvar)));
    HaskellObj id;
    do {
        rts_evalIO(&cap, rts_apply(cap, &capstan_threadDelay_closure, CAPSTAN_SMALL_INT(200)), &value);
        assert_int_equal(rts_arrayLength(rts_listThreads(cap)), 1);
        id = rts_getElem(rts_listThreads(cap), 0);
    } while (rts_threadStatus(id) != ThreadBlockedOnMVar);
    rts_unlock(cap);
    hs_perform_gc(); /* the ThreadId dies, the thread does not */
    cap = rts_lock();
    id = rts_getElem(rts_listThreads(cap), 0);
    assert_int_equal(rts_threadStatus(id), ThreadBlockedOnMVar);
    HsStablePtr keepId = getStablePtr((StgPtr)id);
    rts_evalIO(&cap, rts_apply(cap, &capstan_killThread_closure, id), &value);
    assert_int_equal(rts_getSchedStatus(cap), Success);
    rts_evalIO(&cap, &capstan_yield_closure, &value);
    rts_unlock(cap);
    while (countsNow().threads != 0) sleepMs(1);
    cap = rts_lock();
    assert_int_equal(rts_threadStatus((HaskellObj)deRefStablePtr(keepId)), ThreadDied);
    rts_unlock(cap);
    hs_free_stable_ptr(keep);
    hs_free_stable_ptr(keepId);
}

/* Lists while threads come and go elsewhere; each ThreadId in them can be used. */
CAPSTAN_IO(comeAndGo, mvar)
{
    CAPSTAN_ROOTS(stack, mvar);
    for (int i = 0; i < 20; i++) {
        rts_fork(stack, &capstan_yield_closure);
        rts_yield(stack);
    }
    rts_putMVar(stack, mvar, CAPSTAN_UNIT);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(listManyTimes)
{
    HaskellObj mvar = rts_mkMVar(stack->cap), list = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, mvar, list);
    for (HsInt i = 0, n = many(500); i < n; i++) {
        for (int j = 0; j < 4; j++) FORK(stack, comeAndGo, mvar);
        list = rts_listThreads(stack->cap);
        for (size_t j = 0; j < rts_arrayLength(list); j++) CHECK(rts_threadStatus(rts_getElem(list, j)) <= ThreadBlockedOnOther);
        if (rts_arrayLength(list) > 0) rts_killThread(stack, rts_getElem(list, 0)); /* somebody, or nobody any more */
        for (int j = 0; j < 4; j++) {
            HaskellObj v;
            for (int tries = 0; tries < 100 && !rts_tryTakeMVar(stack, mvar, &v); tries++) rts_yield(stack);
        }
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

static void testListMoving(void **state) { run(&listManyTimes_closure); }

static void *askOften(void *stop)
{
    while (!atomic_load((_Atomic int *)stop)) {
        RtsThreadCounts counts = countsNow();
        if (counts.idle_workers > counts.workers || counts.in_safe_calls > counts.workers) return "workers";
    }
    return NULL;
}

static void testCountsFromOutside(void **state)
{
    _Atomic int stop = 0;
    pthread_t thread = spawn(askOften, &stop);
    run(&listManyTimes_closure);
    atomic_store(&stop, 1);
    assert_null(joinThread(thread));
    assert_true(countsNow().created > 0);
}

/* ---- Masks ---- */

static HaskellObj maskNow(Stack *stack) { return CAPSTAN_SMALL_INT(rts_getMaskingState(stack)); }
CAPSTAN_IO(tellMask) { return maskNow(stack); }
CAPSTAN_IO(tellMaskOf, exception) { return maskNow(stack); }
CAPSTAN_IO(raiseTen) { rts_raise(stack, CAPSTAN_SMALL_INT(10)); }
CAPSTAN_IO(raiseAgain, exception) { rts_raise(stack, CAPSTAN_SMALL_INT(rts_smallIntValue(exception) + 1)); }
CAPSTAN_IO(giveBack, exception) { return exception; }

static HsInt callInt(Stack *stack, HaskellObj io) { return rts_intValue(rts_runIO(stack, io)); }
static HaskellObj applied(Stack *stack, HaskellObj f, HaskellObj x) { return rts_apply(stack->cap, f, x); }

CAPSTAN_IO(tryMasks)
{
    Capability *cap = stack->cap;
    HaskellObj tell = &tellMask_closure;
    CHECK(callInt(stack, tell) == RtsUnmasked);
    CHECK(callInt(stack, applied(stack, &capstan_mask_closure, tell)) == RtsMaskedInterruptible);
    CHECK(callInt(stack, applied(stack, &capstan_uninterruptibleMask_closure, tell)) == RtsMaskedUninterruptible);
    CHECK(callInt(stack, applied(stack, &capstan_unmask_closure, tell)) == RtsUnmasked);
    cap = stack->cap;
    HaskellObj inner = rts_apply(cap, &capstan_unmask_closure, tell);
    CHECK(callInt(stack, applied(stack, &capstan_mask_closure, inner)) == RtsUnmasked);
    inner = applied(stack, &capstan_mask_closure, tell); /* weaker: changes nothing */
    CHECK(callInt(stack, applied(stack, &capstan_uninterruptibleMask_closure, inner)) == RtsMaskedUninterruptible);
    CHECK(rts_getMaskingState(stack) == RtsUnmasked);
    return CAPSTAN_UNIT;
}

static HaskellObj catching(Stack *stack, HaskellObj action, HaskellObj handler)
{
    return rts_apply(stack->cap, rts_apply(stack->cap, &capstan_catch_closure, action), handler);
}

CAPSTAN_IO(tryHandlers)
{
    HaskellObj raise = &raiseTen_closure, tell = &tellMaskOf_closure;
    CHECK(callInt(stack, catching(stack, raise, tell)) == RtsMaskedInterruptible);
    CHECK(rts_getMaskingState(stack) == RtsUnmasked);
    CHECK(callInt(stack, applied(stack, &capstan_mask_closure, catching(stack, raise, tell))) == RtsMaskedInterruptible);
    CHECK(callInt(stack, applied(stack, &capstan_uninterruptibleMask_closure, catching(stack, raise, tell))) == RtsMaskedUninterruptible);
    /* The state at catch counts, not that at raise. */
    CHECK(callInt(stack, catching(stack, applied(stack, &capstan_uninterruptibleMask_closure, raise), tell)) == RtsMaskedInterruptible);
    /* A handler that raises. */
    HaskellObj nested = catching(stack, raise, &raiseAgain_closure);
    CHECK(callInt(stack, catching(stack, nested, &giveBack_closure)) == 11);
    CHECK(rts_getMaskingState(stack) == RtsUnmasked);
    CHECK(callInt(stack, catching(stack, &tellMask_closure, tell)) == RtsUnmasked);
    return CAPSTAN_UNIT;
}

/* A second exception waits until the handler of the first is through. */
CAPSTAN_IO(handleSlowly, done, exception)
{
    CAPSTAN_ROOTS(stack, done, exception);
    CHECK(exception == CAPSTAN_SMALL_INT(1));
    while ((stack->tso->pending & PENDING_THROW) == 0) rts_yield(stack); /* a safepoint, but no wait */
    rts_putMVar(stack, done, CAPSTAN_SMALL_INT(100));
    for (int i = 0; i < 20; i++) rts_yield(stack);
    CAPSTAN_UNROOT(stack);
    return exception;
}

CAPSTAN_IO(waitAndHandle, mvar, done)
{
    HaskellObj action = applied(stack, &takeForEver_closure, mvar);
    return rts_runIO(stack, catching(stack, action, applied(stack, &handleSlowly_closure, done)));
}

CAPSTAN_IO(throwTwice)
{
    HaskellObj mvar = rts_mkMVar(stack->cap), done = rts_mkMVar(stack->cap), out = rts_mkMVar(stack->cap), id = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, mvar, done, out, id);
    id = FORK(stack, schedReport, APPLY(stack->cap, waitAndHandle, mvar, done), out);
    CHECK(awaitStatus(stack, &id, ThreadBlockedOnMVar));
    rts_throwTo(stack, id, CAPSTAN_SMALL_INT(1));
    rts_throwTo(stack, id, CAPSTAN_SMALL_INT(2)); /* returns when it was raised: after the handler */
    HaskellObj v = CAPSTAN_UNIT;
    CHECK(rts_tryTakeMVar(stack, done, &v) && v == CAPSTAN_SMALL_INT(100));
    CHECK(rts_takeMVar(stack, out) == CAPSTAN_SMALL_INT(2));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

static void testMasks(void **state)
{
    run(&tryMasks_closure);
    runInThread(&tryMasks_closure, NULL);
}
static void testHandlers(void **state)
{
    run(&tryHandlers_closure);
    runInThread(&tryHandlers_closure, NULL);
    for (HsInt i = 0, n = many(200); i < n; i++) run(&throwTwice_closure);
}

/* A loop through handlers, or masks that are there already, does not grow the stack. */
CAPSTAN_IO(countDownMasked, n)
{
    HsInt left = rts_intValue(n);
    if (left == 0) return maskNow(stack);
    HaskellObj next = applied(stack, &countDownMasked_closure, rts_int(stack, left - 1));
    return rts_tailCall(stack, &capstan_mask_closure, next, CAPSTAN_WORLD);
}

static void testDeepMasks(void **state)
{
    assert_int_equal(runWith(&countDownMasked_closure, CAPSTAN_SMALL_INT(many(1000000))), RtsMaskedInterruptible);
}

/* ---- The operations as managed functions ---- */

CAPSTAN_FUN(same, x) { return x; }
/* x, but as a thunk. */
static HaskellObj lazily(Stack *stack, HaskellObj x) { return rts_apply(stack->cap, &same_closure, x); }

CAPSTAN_IO(putSeven, mvar)
{
    HaskellObj put = rts_apply(stack->cap, &capstan_putMVar_closure, lazily(stack, mvar));
    return rts_tailCall(stack, put, CAPSTAN_SMALL_INT(7), CAPSTAN_WORLD);
}

CAPSTAN_IO(useAll)
{
    HaskellObj mvar = rts_runIO(stack, &capstan_newMVar_closure), id = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, mvar, id);
    id = rts_runIO(stack, applied(stack, &capstan_fork_closure, lazily(stack, applied(stack, &putSeven_closure, mvar))));
    CHECK(callInt(stack, applied(stack, &capstan_readMVar_closure, lazily(stack, mvar))) == 7);
    CHECK(callInt(stack, applied(stack, &capstan_takeMVar_closure, lazily(stack, mvar))) == 7);
    CHECK(rts_isEmptyMVar(mvar));
    rts_runIO(stack, &capstan_yield_closure);
    uint64_t began = nowMs();
    rts_runIO(stack, applied(stack, &capstan_threadDelay_closure, lazily(stack, CAPSTAN_SMALL_INT(5000))));
    CHECK(nowMs() - began >= 4);
    id = FORK(stack, takeForEver, mvar);
    rts_runIO(stack, applied(stack, &capstan_killThread_closure, lazily(stack, id)));
    awaitEnd(stack, &id);
    CHECK(rts_threadStatus(id) == ThreadDied);
    id = FORK(stack, schedReport, APPLY(stack->cap, takeForEver, rts_mkMVar(stack->cap)), mvar);
    CHECK(awaitStatus(stack, &id, ThreadBlockedOnMVar));
    HaskellObj throw = applied(stack, &capstan_throwTo_closure, lazily(stack, id));
    rts_runIO(stack, applied(stack, throw, CAPSTAN_SMALL_INT(3)));
    CHECK(rts_takeMVar(stack, mvar) == CAPSTAN_SMALL_INT(3));
    id = rts_runIO(stack, &capstan_myThreadId_closure);
    CHECK(id == rts_myThreadId(stack));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

static HaskellObj tryIO(Stack *stack, void *io) { return rts_runIO(stack, *(HaskellObj *)io); }
static HaskellObj exceptionOf(Stack *stack, HaskellObj io)
{
    HaskellObj result = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, io);
    bool ok = rts_try(stack, tryIO, &io, &result);
    CAPSTAN_UNROOT(stack);
    return ok ? CAPSTAN_UNIT : result;
}

CAPSTAN_IO(misuseAll)
{
    HaskellObj one[] = { &capstan_takeMVar_closure, &capstan_readMVar_closure, &capstan_threadDelay_closure, &capstan_killThread_closure };
    for (int i = 0; i < 4; i++)
        CHECK(exceptionOf(stack, applied(stack, one[i], lazily(stack, CAPSTAN_UNIT))) == &capstan_WrongKind_closure);
    CHECK(exceptionOf(stack, APPLY(stack->cap, capstan_putMVar, CAPSTAN_SMALL_INT(1), CAPSTAN_UNIT)) == &capstan_WrongKind_closure);
    CHECK(exceptionOf(stack, APPLY(stack->cap, capstan_throwTo, &same_closure, CAPSTAN_UNIT)) == &capstan_WrongKind_closure);
    return CAPSTAN_UNIT;
}

static void testFunctions(void **state)
{
    run(&useAll_closure);
    runInThread(&useAll_closure, NULL);
    run(&misuseAll_closure);
}

/* ---- rts_timeout ---- */

#define SHORT 5000
#define LONG 20000000

CAPSTAN_IO(waitForEver) { return rts_takeMVar(stack, rts_mkMVar(stack->cap)); }
CAPSTAN_IO(sleepForEver)
{
    rts_threadDelay(stack, INT64_MAX);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(spinForEver)
{
    for (;;) rts_poll(stack);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(waitRooted, mvar)
{
    HaskellObj result = rts_takeMVar(stack, mvar);
    return result;
}
CAPSTAN_IO(answer) { return CAPSTAN_SMALL_INT(42); }

/* The result, or -1 when time was up. */
static HsInt timed(Stack *stack, HsInt64 us, HaskellObj io)
{
    HaskellObj result = CAPSTAN_UNIT;
    return rts_timeout(stack, us, io, &result) ? rts_intValue(result) : -1;
}
CAPSTAN_IO(timedIO, us, io) { return rts_int(stack, timed(stack, rts_intValue(us), io)); }

CAPSTAN_IO(tryTimeouts)
{
    HaskellObj mvar = rts_mkMVar(stack->cap), waits = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, mvar, waits);
    waits = APPLY(stack->cap, waitRooted, mvar);
    CHECK(timed(stack, LONG, &answer_closure) == 42);
    CHECK(timed(stack, -1, &answer_closure) == 42);
    CHECK(timed(stack, INT64_MAX, &answer_closure) == 42);
    CHECK(timed(stack, 0, &spinForEver_closure) == -1);
    uint64_t began = nowMs();
    CHECK(timed(stack, SHORT, waits) == -1);
    CHECK(timed(stack, SHORT, &sleepForEver_closure) == -1);
    CHECK(timed(stack, SHORT, &spinForEver_closure) == -1);
    CHECK(nowMs() - began >= 3 * SHORT / 1000 - 1);
    CHECK(rts_getMaskingState(stack) == RtsUnmasked);
    CHECK(stack->tso->timeouts == NULL && (stack->tso->pending & PENDING_TIMER) == 0);
    CHECK(exceptionOf(stack, APPLY(stack->cap, timedIO, CAPSTAN_SMALL_INT(LONG), &raiseTen_closure)) == CAPSTAN_SMALL_INT(10));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* Each catches its own, whichever comes first. */
CAPSTAN_IO(addHundred, io) { return rts_int(stack, 100 + rts_intValue(rts_runIO(stack, io))); }
CAPSTAN_IO(nestTimeouts)
{
    HaskellObj spin = &spinForEver_closure;
    HaskellObj inner = APPLY(stack->cap, addHundred, APPLY(stack->cap, timedIO, CAPSTAN_SMALL_INT(SHORT), spin));
    CHECK(timed(stack, LONG, inner) == 99);
    inner = APPLY(stack->cap, addHundred, APPLY(stack->cap, timedIO, CAPSTAN_SMALL_INT(LONG), spin));
    CHECK(timed(stack, SHORT, inner) == -1);
    /* Both at once: the outer one ends it all, or the inner one first and then the outer. */
    for (HsInt i = 0, n = many(100); i < n; i++) {
        inner = APPLY(stack->cap, addHundred, APPLY(stack->cap, timedIO, CAPSTAN_SMALL_INT(1000 + i % 3), spin));
        HsInt got = timed(stack, 1001, inner);
        CHECK(got == -1 || got == 99);
    }
    CHECK(stack->tso->timeouts == NULL);
    return CAPSTAN_UNIT;
}

/* What a timer that comes before the catch is there ends is the action itself: once more then, with more time. */
#define FOR_TIMES(us) for (HsInt us = SHORT; us < 50 * SHORT; us *= 2)

/* Who catches all has caught this one as well; then the action goes on. */
CAPSTAN_IO(showIt, exception)
{
    CHECK(strcmp(textOf(stack->cap, exception), "Timeout") == 0);
    CHECK(rts_getMaskingState(stack) == RtsMaskedInterruptible);
    return CAPSTAN_SMALL_INT(5);
}
CAPSTAN_IO(catchTimeout)
{
    HsInt got = -1;
    FOR_TIMES(us)
        if (got == -1) got = timed(stack, us, catching(stack, &spinForEver_closure, &showIt_closure));
    CHECK(got == 5);
    return CAPSTAN_UNIT;
}

/* Once it was raised and caught, nobody comes to end the next wait, which is found to be for ever. */
CAPSTAN_IO(waitOn, exception) { return rts_takeMVar(stack, rts_mkMVar(stack->cap)); }
CAPSTAN_IO(loseAfterTimeout)
{
    HaskellObj exception = CAPSTAN_UNIT;
    FOR_TIMES(us)
        if (exception == CAPSTAN_UNIT) {
            HaskellObj io = catching(stack, &waitForEver_closure, &waitOn_closure);
            exception = exceptionOf(stack, APPLY(stack->cap, timedIO, CAPSTAN_SMALL_INT(us), io));
        }
    CHECK(exception == &capstan_BlockedIndefinitelyOnMVar_closure);
    CHECK(stack->tso->timeouts == NULL);
    return CAPSTAN_UNIT;
}

/* Masked: only where the thread really waits.  Not at all: in an uninterruptible mask it ends when the action does. */
CAPSTAN_IO(spinAndPoll, ms)
{
    uint64_t until = nowMs() + (uint64_t)rts_intValue(ms);
    while (nowMs() < until) rts_poll(stack);
    return CAPSTAN_SMALL_INT(7);
}
CAPSTAN_IO(timeMasked)
{
    HaskellObj mvar = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, mvar);
    HaskellObj io = applied(stack, &capstan_mask_closure, APPLY(stack->cap, spinAndPoll, CAPSTAN_SMALL_INT(10)));
    HsInt got = timed(stack, 2000, io);
    CHECK(got == 7 || got == -1); /* it is raised when the mask ends, or a moment too late */
    io = applied(stack, &capstan_uninterruptibleMask_closure, APPLY(stack->cap, timedIO, CAPSTAN_SMALL_INT(2000),
                                                                     APPLY(stack->cap, spinAndPoll, CAPSTAN_SMALL_INT(10))));
    CHECK(callInt(stack, io) == 7);
    CHECK(timed(stack, SHORT, applied(stack, &capstan_mask_closure, APPLY(stack->cap, waitRooted, mvar))) == -1);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* Actions that end at about the same time as their timer. */
CAPSTAN_IO(raceTimeouts, n)
{
    HsInt rounds = rts_intValue(n), late = 0;
    for (HsInt i = 0; i < rounds; i++) {
        HaskellObj io = applied(stack, &capstan_threadDelay_closure, rts_int(stack, 50 + i % 20));
        HaskellObj result = CAPSTAN_SMALL_INT(1);
        late += !rts_timeout(stack, 60, io, &result);
        CHECK(stack->tso->timeouts == NULL);
        rts_poll(stack); /* what was not raised in time is not raised at all */
    }
    CHECK(late <= rounds);
    return CAPSTAN_UNIT;
}

static void testTimeouts(void **state)
{
    run(&tryTimeouts_closure);
    runInThread(&tryTimeouts_closure, NULL);
}
static void testNestedTimeouts(void **state)
{
    run(&nestTimeouts_closure);
    runInThread(&nestTimeouts_closure, NULL);
    run(&catchTimeout_closure);
    run(&loseAfterTimeout_closure);
    run(&timeMasked_closure);
    runInThread(&timeMasked_closure, NULL);
}
static void testRacingTimeouts(void **state)
{
    runWith(&raceTimeouts_closure, CAPSTAN_SMALL_INT(many(500)));
    runInThread(&raceTimeouts_closure, CAPSTAN_SMALL_INT(many(500)));
}

/* Many threads with timeouts at once. */
CAPSTAN_IO(raceManyTimeouts)
{
    HaskellObj done = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, done);
    for (int i = 0; i < 20; i++) FORK(stack, schedReport, APPLY(stack->cap, raceTimeouts, rts_int(stack, many(100))), done);
    for (int i = 0; i < 20; i++) CHECK(rts_takeMVar(stack, done) == CAPSTAN_UNIT);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
static void testManyTimeouts(void **state) { run(&raceManyTimeouts_closure); }

/* An exception of somebody else goes through; threads end and runtimes exit with timers running. */
CAPSTAN_IO(killTimed)
{
    HaskellObj out = rts_mkMVar(stack->cap), id = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, out, id);
    id = FORK(stack, schedReport, APPLY(stack->cap, timedIO, CAPSTAN_SMALL_INT(LONG), &sleepForEver_closure), out);
    CHECK(awaitStatus(stack, &id, ThreadBlockedOnDelay));
    rts_killThread(stack, id);
    CHECK(rts_takeMVar(stack, out) == &capstan_ThreadKilled_closure);
    for (int i = 0; i < 50; i++) FORK(stack, timedIO, CAPSTAN_SMALL_INT(1000 + i * 200), &sleepForEver_closure);
    rts_threadDelay(stack, 5000);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

static _Atomic int isTimed;
CAPSTAN_IO(sleepTimed)
{
    isTimed = 1;
    return rts_runIO(stack, &sleepForEver_closure);
}
CAPSTAN_IO(timeNested)
{
    HaskellObj inner = APPLY(stack->cap, timedIO, CAPSTAN_SMALL_INT(LONG), &sleepTimed_closure);
    return rts_int(stack, timed(stack, LONG, inner));
}
static void *timeToTheEnd(void *unused)
{
    return runStatus(&timeNested_closure, NULL, NULL, NULL, 0) == Interrupted ? NULL : "not interrupted";
}

static void testTimeoutsAtExit(void **state)
{
    run(&killTimed_closure);
    isTimed = 0;
    pthread_t thread = spawn(timeToTheEnd, NULL);
    waitFor(&isTimed);
    hs_exit();
    assert_null(joinThread(thread));
    setUpTwo(state);
    run(&tryTimeouts_closure);
}

/* A thunk that a timeout left is evaluated anew by the next who needs it. */
static _Atomic int slowTurns;
CAPSTAN_CAF(slowOnce)
{
    if (slowTurns++ == 0)
        for (;;) rts_poll(stack);
    return CAPSTAN_SMALL_INT(8);
}
CAPSTAN_IO(forceSlow) { return rts_force(stack, &slowOnce_closure); }
CAPSTAN_IO(timeThunk)
{
    slowTurns = 0;
    FOR_TIMES(us)
        if (slowTurns == 0) CHECK(timed(stack, us, &forceSlow_closure) == -1);
    CHECK(slowTurns == 1);
    CHECK(timed(stack, LONG, &forceSlow_closure) == 8);
    return CAPSTAN_UNIT;
}
static void testTimedThunk(void **state) { run(&timeThunk_closure); }

/* No memory: an exception, and nothing is left. */
CAPSTAN_IO(timeWithout)
{
    bool made = false;
    for (long n = 1; n < 20 && !made; n++) {
        HaskellObj io = APPLY(stack->cap, timedIO, CAPSTAN_SMALL_INT(LONG), &answer_closure), result = CAPSTAN_UNIT;
        osFailAllAfter(n);
        CAPSTAN_ROOTS(stack, io);
        made = rts_try(stack, tryIO, &io, &result);
        osFailAllAfter(0);
        CAPSTAN_UNROOT(stack);
        CHECK(made ? n > 1 && result == CAPSTAN_SMALL_INT(42) : true);
        CHECK(stack->tso->timeouts == NULL);
    }
    CHECK(made);
    return CAPSTAN_UNIT;
}
static void testTimeoutWithoutMemory(void **state)
{
    run(&timeWithout_closure);
    run(&tryTimeouts_closure);
}

/* ---- Hosting ---- */

static _Atomic uint64_t ranOn;
CAPSTAN_IO(noteThread, mvar)
{
    ranOn = osThreadId();
    rts_putMVar(stack, mvar, CAPSTAN_UNIT);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(forkAndWait)
{
    HaskellObj mvar = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, mvar);
    FORK(stack, noteThread, mvar);
    rts_takeMVar(stack, mvar);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

static void testHosting(void **state)
{
    run(&forkAndWait_closure);
    assert_int_equal(ranOn, osThreadId());
    rts_setInCallHosting(false);
    for (int i = 0; i < 20; i++) {
        run(&forkAndWait_closure);
        assert_int_not_equal(ranOn, osThreadId());
    }
    rts_setInCallHosting(true);
    run(&forkAndWait_closure);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ONE(testList), TWO(testList), ONE(testListUnknown), TWO(testListUnknown), ALL(testListMoving), TWO(testCountsFromOutside),
        ALL(testMasks), ALL(testHandlers), ONE(testDeepMasks), ALL(testFunctions),
        ALL(testTimeouts), ALL(testNestedTimeouts), ALL(testRacingTimeouts), ALL(testManyTimeouts),
        TWO(testTimeoutsAtExit), ONE(testTimedThunk), ONE(testTimeoutWithoutMemory), ONE(testHosting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

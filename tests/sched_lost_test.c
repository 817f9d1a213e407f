/*
 * Threads that nobody can wake any more are found by a collection, also by the one that happens when all rests; those that somebody can are not.
 */
#include "sched.h"

static const char lostText[] = "thread blocked indefinitely in an MVar operation";

static void *stable(HaskellObj obj) { return getStablePtr((StgPtr)obj); }
static HaskellObj behind(HsStablePtr sp) { return (HaskellObj)deRefStablePtr(sp); }

/* ---- In-calls: a status and a text ---- */

CAPSTAN_IO(loseTake)
{
    return rts_takeMVar(stack, rts_mkMVar(stack->cap));
}
CAPSTAN_IO(loseRead)
{
    return rts_readMVar(stack, rts_mkMVar(stack->cap));
}
CAPSTAN_IO(losePut)
{
    HaskellObj mvar = rts_mkMVar(stack->cap);
    CHECK(rts_tryPutMVar(stack, mvar, CAPSTAN_UNIT));
    rts_putMVar(stack, mvar, CAPSTAN_UNIT);
    return CAPSTAN_UNIT;
}
static HaskellObj takeFresh(Stack *stack, void *unused) { return rts_takeMVar(stack, rts_mkMVar(stack->cap)); }
CAPSTAN_IO(loseMasked)
{
    return rts_withMask(stack, RtsMaskedInterruptible, takeFresh, NULL);
}

static void expectLost(HaskellObj io)
{
    char text[200] = "";
    uint64_t began = nowMs();
    assert_int_equal(runStatus(io, NULL, NULL, text, sizeof text), Killed);
    assert_string_equal(text, lostText);
    assert_true(nowMs() - began < 20000);
}
static void testLostInCall(void **state)
{
    HaskellObj each[] = { &loseTake_closure, &loseRead_closure, &losePut_closure, &loseMasked_closure };
    for (int i = 0; i < 4; i++) expectLost(each[i]);
    assert_int_equal(callWell(), 42);
}

static void *loseOnThread(void *io)
{
    char text[200] = "";
    SchedulerStatus status = runStatus(io, NULL, NULL, text, sizeof text);
    return (void *)(intptr_t)(status == Killed && strcmp(text, lostText) == 0);
}
static void testLostInCalls(void **state)
{
    pthread_t threads[8];
    for (int i = 0; i < 8; i++) threads[i] = spawn(loseOnThread, i % 2 ? &loseTake_closure : &losePut_closure);
    for (int i = 0; i < 8; i++) assert_int_equal((intptr_t)joinThread(threads[i]), 1);
}

/* ---- With a budget: found once nothing of it can come any more ---- */

static _Atomic bool firstWait, lastWait;
static HaskellObj loseBody(Stack *stack, void *unused)
{
    firstWait = true;
    return rts_takeMVar(stack, rts_mkMVar(stack->cap));
}
/* The first wait ends by the deadline, which it catches; the second is nobody's but the collector's. */
CAPSTAN_IO(loseTwice)
{
    HaskellObj result = CAPSTAN_UNIT;
    CHECK(!rts_try(stack, loseBody, NULL, &result) && result == &capstan_TimedOut_closure);
    lastWait = true;
    return loseBody(stack, NULL);
}
CAPSTAN_IO(loseDeaf)
{
    return rts_withMask(stack, RtsMaskedUninterruptible, takeFresh, NULL);
}
CAPSTAN_IO(loseDeafInTime)
{
    HaskellObj result = CAPSTAN_UNIT;
    rts_timeout(stack, 60 * 1000 * 1000, &loseDeaf_closure, &result);
    return result;
}

static SchedulerStatus runWithin(HaskellObj io, HsInt64 us, RtsInCallHandle *handle, char text[200])
{
    Capability *cap;
    RtsLockOpts opts = RTS_LOCK_OPTS_INIT;
    opts.deadline_us = us;
    opts.handle = handle;
    firstWait = false;
    RtsStatus entered = rts_lockOpt(&cap, &opts);
    assert_true(entered == RTS_OK || entered == RTS_TIMED_OUT);
    if (entered == RTS_OK) rts_evalIO(&cap, io, NULL);
    SchedulerStatus status = rts_getSchedStatus(cap);
    rts_showException(cap, rts_getException(cap), text, 200);
    rts_unlock(cap);
    return status;
}
/* loseTwice, with a deadline that it has begun its first wait before. */
static SchedulerStatus loseTwiceWithin(HsInt64 us, RtsInCallHandle *handle, char text[200])
{
    SchedulerStatus status = NoStatus;
    for (firstWait = false; !firstWait && us < 20 * 1000 * 1000; us *= 2) status = runWithin(&loseTwice_closure, us, handle, text);
    return status;
}
static void testLostInTime(void **state)
{
    char text[200] = "";
    uint64_t began = nowMs();
    assert_int_equal(loseTwiceWithin(100000, NULL, text), Killed);
    assert_string_equal(text, lostText);
    /* Nothing ends a wait that is deaf: a deadline to come does not count. */
    assert_int_equal(runWithin(&loseDeaf_closure, 60 * 1000 * 1000, NULL, text), Killed);
    assert_string_equal(text, lostText);
    expectLost(&loseDeafInTime_closure);
    assert_true(nowMs() - began < 40000); /* no deadline was so early */
    /* One that is to come does. */
    assert_int_equal(runWithin(&loseTake_closure, 200000, NULL, text), TimedOut);
    assert_int_equal(failedChecks, 0);
}

static void *cancelLate(void *ptr)
{
    RtsInCallHandle handle;
    while (!lastWait || (handle = __atomic_load_n((RtsInCallHandle *)ptr, __ATOMIC_ACQUIRE)) == 0) sleepMs(1);
    sleepMs(100);
    hs_perform_gc();
    sleepMs(50);
    rts_cancel(handle);
    return NULL;
}
/* Who has the handle may end it, also when the deadline has passed. */
static void testHandleKeeps(void **state)
{
    for (int i = 0; i < 2; i++) {
        char text[200];
        RtsInCallHandle handle = 0;
        lastWait = i == 0;
        pthread_t canceller = spawn(cancelLate, &handle);
        assert_int_equal(i == 0 ? runWithin(&loseTake_closure, -1, &handle, text) : loseTwiceWithin(100000, &handle, text), Cancelled);
        joinThread(canceller);
    }
    assert_int_equal(failedChecks, 0);
}

/* ---- Unbound threads: an exception that they can catch ---- */

static _Atomic int told, ended;

CAPSTAN_IO(loseAndTell, mvar)
{
    HaskellObj result = CAPSTAN_UNIT, io = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, result, io);
    io = mvar == CAPSTAN_UNIT ? &loseTake_closure : APPLY(stack->cap, loseAndTell, CAPSTAN_UNIT);
    told += !rts_try(stack, schedRunBody, &io, &result) && result == &capstan_BlockedIndefinitelyOnMVar_closure;
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(forkLost, n)
{
    HsInt count = rts_intValue(n);
    for (HsInt i = 0; i < count; i++) FORK(stack, loseAndTell, CAPSTAN_UNIT);
    return CAPSTAN_UNIT;
}
static void testLostThreads(void **state)
{
    for (int round = 0; round < 3; round++) {
        told = 0;
        runWith(&forkLost_closure, CAPSTAN_SMALL_INT(50));
        if (round == 2) hs_perform_gc();
        for (int i = 0; i < 5000 && told < 50; i++) sleepMs(1);
        assert_int_equal(told, 50);
    }
}

/* ---- Found only when it is so ---- */

CAPSTAN_IO(takeIt, mvar)
{
    HaskellObj value = rts_takeMVar(stack, mvar);
    ended++;
    return value;
}

static HsStablePtr keptBox, keptId;

/* The MVar is behind a stable pointer: the thread can still be woken. */
CAPSTAN_IO(forkKeptBox)
{
    HaskellObj box = rts_mkMVar(stack->cap);
    keptBox = stable(box);
    FORK(stack, takeIt, box);
    rts_yield(stack);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(putKeptBox)
{
    rts_putMVar(stack, behind(keptBox), CAPSTAN_UNIT);
    return CAPSTAN_UNIT;
}
/* Its ThreadId is: somebody may still throw at it. */
CAPSTAN_IO(forkKeptId)
{
    HaskellObj box = rts_mkMVar(stack->cap);
    keptId = stable(FORK(stack, takeIt, box));
    rts_yield(stack);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(askKeptId)
{
    return rts_int(stack, rts_threadStatus(behind(keptId)));
}
CAPSTAN_IO(killKeptId)
{
    rts_killThread(stack, behind(keptId));
    return CAPSTAN_UNIT;
}

static void awaitBlocked(void)
{
    for (int i = 0; i < 5000 && run(&askKeptId_closure) != ThreadBlockedOnMVar; i++) sleepMs(1);
}

static void testNotLost(void **state)
{
    ended = 0;
    run(&forkKeptBox_closure);
    run(&forkKeptId_closure);
    awaitBlocked();
    for (int i = 0; i < 3; i++) {
        hs_perform_gc();
        sleepMs(50);
        assert_int_equal(run(&askKeptId_closure), ThreadBlockedOnMVar);
    }
    assert_int_equal(ended, 0);
    run(&putKeptBox_closure);
    for (int i = 0; i < 5000 && ended == 0; i++) sleepMs(1);
    assert_int_equal(ended, 1);
    run(&killKeptId_closure);
    for (int i = 0; i < 5000 && run(&askKeptId_closure) != ThreadDied; i++) sleepMs(1);
    assert_int_equal(run(&askKeptId_closure), ThreadDied);
    assert_int_equal(ended, 1);
    hs_free_stable_ptr(keptBox);
    hs_free_stable_ptr(keptId);
}
/* With the last reference gone it is lost. */
static void testLostWithItsName(void **state)
{
    ended = 0;
    run(&forkKeptId_closure);
    awaitBlocked();
    hs_perform_gc();
    assert_int_equal(run(&askKeptId_closure), ThreadBlockedOnMVar);
    hs_free_stable_ptr(keptId);
    hs_perform_gc();
    hs_perform_gc();
    assert_int_equal(ended, 0);
}

/* Waiting for time or a descriptor is not being lost, nor is waiting for who does. */
CAPSTAN_IO(sleepThenPut, box)
{
    CAPSTAN_ROOTS(stack, box);
    rts_threadDelay(stack, 200000);
    rts_putMVar(stack, box, CAPSTAN_SMALL_INT(3));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(waitForSleeper)
{
    HaskellObj box = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, box);
    FORK(stack, sleepThenPut, box);
    HaskellObj value = rts_takeMVar(stack, box);
    CAPSTAN_UNROOT(stack);
    return value;
}
static void *sleepInC(void *unused)
{
    sleepMs(200);
    return NULL;
}
CAPSTAN_IO(callThenPut, box)
{
    CAPSTAN_ROOTS(stack, box);
    rts_safeCall(stack, sleepInC, NULL);
    rts_putMVar(stack, box, CAPSTAN_SMALL_INT(4));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(waitForCaller)
{
    HaskellObj box = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, box);
    FORK(stack, callThenPut, box);
    HaskellObj value = rts_takeMVar(stack, box);
    CAPSTAN_UNROOT(stack);
    return value;
}
static void testPatience(void **state)
{
    for (int i = 0; i < 2; i++) {
        assert_int_equal(run(&waitForSleeper_closure), 3);
        assert_int_equal(run(&waitForCaller_closure), 4);
        assert_int_equal(runInThread(&waitForSleeper_closure, NULL), 3);
        assert_int_equal(runInThread(&waitForCaller_closure, NULL), 4);
    }
}

/* ---- Below safe calls: the in-call that is lost ends, and the threads below it go on ---- */

typedef struct {
    int depth;
    bool asThread;
} Below;
static _Atomic int lostBelow;

static void *loseBelow(void *arg);

/* A safe call, whose C calls in, which is lost. */
static HaskellObj callBelow(Stack *stack, Below *below)
{
    HaskellObj mine = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, mine);
    rts_safeCall(stack, loseBelow, below);
    rts_putMVar(stack, mine, CAPSTAN_UNIT); /* still there */
    CHECK(rts_takeMVar(stack, mine) == CAPSTAN_UNIT);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_SMALL_INT(1);
}
CAPSTAN_IO(goBelow, ptr)
{
    return callBelow(stack, rts_getPtr(ptr));
}

static void *loseBelow(void *arg)
{
    Below *below = arg;
    HaskellObj value = CAPSTAN_POISON;
    char text[200];
    if (--below->depth == 0) {
        SchedulerStatus status = runStatus(&loseTake_closure, NULL, NULL, text, sizeof text);
        if (status == Killed && strcmp(text, lostText) == 0) lostBelow++;
        else fprintf(stderr, "status %d: %s\n", (int)status, text);
        return NULL;
    }
    Capability *cap = rts_lock();
    HaskellObj io = APPLY(cap, goBelow, rts_mkPtr(cap, below));
    rts_evalIO(&cap, below->asThread ? APPLY(cap, schedInThread, io) : io, &value);
    if (rts_getSchedStatus(cap) == Success && value == CAPSTAN_SMALL_INT(1)) lostBelow++;
    else fprintf(stderr, "at %d: status %d: %s\n", below->depth, (int)rts_getSchedStatus(cap), textOf(cap, rts_getException(cap)));
    rts_unlock(cap);
    return NULL;
}
static void testLostBelow(void **state)
{
    for (int depth = 1; depth <= 5; depth++)
        for (int asThread = 0; asThread < 2; asThread++) {
            Below below = { depth, asThread };
            lostBelow = 0;
            loseBelow(&below);
            assert_int_equal(lostBelow, depth);
        }
}

/* A thread in a safe call below a blocked in-call is itself waited for: the in-call waits for an MVar that only it knows. */
static HsStablePtr handedDown;
CAPSTAN_IO(takeHandedDown)
{
    HaskellObj box = behind(handedDown);
    freeStablePtr(handedDown);
    return rts_takeMVar(stack, box);
}
static void *callTakeHandedDown(void *unused)
{
    char text[200];
    SchedulerStatus status = runStatus(&takeHandedDown_closure, NULL, NULL, text, sizeof text);
    lostBelow += status == Killed && strcmp(text, lostText) == 0;
    return NULL;
}
CAPSTAN_IO(handDown)
{
    HaskellObj box = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, box);
    handedDown = stable(box);
    rts_safeCall(stack, callTakeHandedDown, NULL);
    /* We could have put it only after the call. */
    CHECK(rts_tryPutMVar(stack, box, CAPSTAN_UNIT));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_SMALL_INT(1);
}
static void testLostAbove(void **state)
{
    lostBelow = 0;
    assert_int_equal(run(&handDown_closure), 1);
    assert_int_equal(runInThread(&handDown_closure, NULL), 1);
    assert_int_equal(lostBelow, 2);
}

/* ---- Thunks ---- */

CAPSTAN_FUN(takeLazily, box)
{
    return rts_takeMVar(stack, box);
}
/* Two values that need each other, and two threads that want one each. */
CAPSTAN_FUN(forceVar, var, meet)
{
    CAPSTAN_ROOTS(stack, var);
    rts_readMVar(stack, meet);
    HaskellObj value = rts_force(stack, rts_readMutVar(var));
    CAPSTAN_UNROOT(stack);
    return value;
}
static HaskellObj forceBody(Stack *stack, void *v) { return rts_force(stack, *(HaskellObj *)v); }
CAPSTAN_IO(forceAndTell, thunk)
{
    HaskellObj result = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, thunk, result);
    bool ok = rts_try(stack, forceBody, &thunk, &result);
    told += !ok && result == &capstan_NonTermination_closure;
    ended++;
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(tieKnot)
{
    HaskellObj meet = rts_mkMVar(stack->cap), a = rts_mkMutVar(stack->cap, CAPSTAN_UNIT), b = rts_mkMutVar(stack->cap, CAPSTAN_UNIT),
               x = CAPSTAN_UNIT, y = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, meet, a, b, x, y);
    x = APPLY(stack->cap, forceVar, b, meet);
    y = APPLY(stack->cap, forceVar, a, meet);
    rts_writeMutVar(stack->cap, a, x);
    rts_writeMutVar(stack->cap, b, y);
    x = FORK(stack, forceAndTell, x);
    y = FORK(stack, forceAndTell, y);
    CHECK(awaitStatus(stack, &x, ThreadBlockedOnMVarRead) && awaitStatus(stack, &y, ThreadBlockedOnMVarRead));
    rts_putMVar(stack, meet, CAPSTAN_UNIT);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
static void testKnot(void **state)
{
    for (int round = 0; round < 3; round++) {
        told = ended = 0;
        run(&tieKnot_closure);
        for (int i = 0; i < 10000 && ended < 2; i++) sleepMs(1);
        assert_int_equal(ended, 2);
        assert_true(told >= 1);
    }
}

/* The evaluator is lost in an MVar that only it and its thunk know, and with it those who wait for the value: all hear of it. */
CAPSTAN_IO(loseEvaluator, n)
{
    HsInt count = rts_intValue(n);
    HaskellObj thunk = CAPSTAN_UNIT, id = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, thunk, id);
    thunk = APPLY(stack->cap, takeLazily, rts_mkMVar(stack->cap));
    id = FORK(stack, forceAndTell, thunk);
    CHECK(awaitStatus(stack, &id, ThreadBlockedOnMVar));
    for (HsInt i = 1; i < count; i++) id = FORK(stack, forceAndTell, thunk);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
static void testLostEvaluator(void **state)
{
    for (int round = 0; round < 3; round++) {
        told = ended = 0;
        runWith(&loseEvaluator_closure, CAPSTAN_SMALL_INT(6));
        for (int i = 0; i < 10000 && ended < 6; i++) sleepMs(1);
        assert_int_equal(ended, 6);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ALL(testLostInCall), ALL(testLostInCalls), ALL(testLostInTime), ALL(testHandleKeeps), ALL(testLostThreads), ALL(testNotLost), ALL(testLostWithItsName), ALL(testPatience),
        ALL(testLostBelow), ALL(testLostAbove), ALL(testKnot), ALL(testLostEvaluator),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

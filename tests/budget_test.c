/* Deadlines, rts_cancel, allocation limits. */
#include "misuse.h"

#include "endless.h"

#include <cmocka.h>

#include "os/memory.h"
#include "os/os.h"

/* ---- Managed code that goes on ---- */

CAPSTAN_IO(answer) { return rts_int(stack, 42); }
CAPSTAN_IO(answerFlag, flag) { return rts_int(stack, 43); }

/* ---- In-calls ---- */

typedef struct {
    RtsStatus entered;
    SchedulerStatus status;
    HsInt result;
    uint64_t ms;
} Ending;

/* One in-call with a budget into action, applied to flag if there is one. */
static Ending callWithin(const RtsLockOpts *opts, HaskellObj action, _Atomic int *flag)
{
    Ending e = { .status = NoStatus, .result = -1 };
    uint64_t began = nowMs();
    Capability *cap;
    e.entered = rts_lockOpt(&cap, opts);
    assert_non_null(cap);
    assert_int_equal(rts_isDead(cap), e.entered != RTS_OK);
    if (e.entered == RTS_OK) {
        HaskellObj result = CAPSTAN_POISON;
        rts_evalIO(&cap, flag == NULL ? action : rts_apply(cap, action, rts_mkPtr(cap, flag)), &result);
        e.status = rts_getSchedStatus(cap);
        if (e.status == Success && rts_isSmallInt(result)) e.result = rts_getInt(result);
    }
    rts_unlock(cap);
    e.ms = nowMs() - began;
    return e;
}

static _Atomic int unused;

static Ending callUntil(HsInt64 us, HaskellObj action, _Atomic int *flag)
{
    RtsLockOpts opts = RTS_LOCK_OPTS_INIT;
    opts.deadline_us = us;
    return callWithin(&opts, action, flag);
}

/* The same, until one has begun in time. */
static Ending runUntil(HsInt64 us, HaskellObj action, _Atomic int *flag)
{
    Ending e;
    do e = callUntil(us, action, flag);
    while (e.entered == RTS_TIMED_OUT);
    return e;
}

static _Atomic int isWithin;

/* The same, until it has come to where it says so before its deadline. */
static Ending runWithin(HsInt64 us, HaskellObj action)
{
    Ending e;
    for (isWithin = 0; !isWithin; us *= 2) e = runUntil(us, action, NULL);
    return e;
}

static void stopWithBox(void)
{
    assert_int_equal(callWell(), 42);
    freeStablePtr(quietBox);
    hs_exit();
    assert_int_equal(heardOtherErrors(), 0);
}

/* ---- Without a budget ---- */

static void testPlain(void **state)
{
    Capability *cap;
    assert_int_equal(rts_lockOpt(&cap, NULL), RTS_NOT_STARTED);
    assert_int_equal(rts_getRefusal(cap), RTS_NOT_STARTED);
    rts_unlock(cap);
    assert_int_equal(startHooked(1), RTS_OK);
    Ending e = callWithin(NULL, &answer_closure, NULL);
    assert_int_equal(e.status, Success);
    assert_int_equal(e.result, 42);
    RtsLockOpts opts = RTS_LOCK_OPTS_INIT;
    e = callWithin(&opts, &answer_closure, NULL);
    assert_int_equal(e.result, 42);
    opts.size = 3;
    assert_int_equal(rts_lockOpt(&cap, &opts), RTS_BAD_ARGUMENT);
    assert_true(rts_isDead(cap));
    opts.size = sizeof opts;
    Capability *held = rts_lock();
    assert_int_equal(rts_lockOpt(&cap, &opts), RTS_HOLDS_CAPABILITY);
    rts_unlock(held);
    hs_exit();
    assert_int_equal(heardOtherErrors(), 0);
}

static void testGenerous(void **state)
{
    startWithBox(1);
    RtsInCallHandle first, handle;
    RtsLockOpts opts = RTS_LOCK_OPTS_INIT;
    opts.deadline_us = INT64_MAX;
    opts.alloc_limit_bytes = UINT64_MAX;
    opts.handle = &first;
    Ending e = callWithin(&opts, &answer_closure, NULL);
    assert_int_equal(e.result, 42);
    assert_true(first != 0);
    assert_false(rts_cancel(first));
    opts.handle = &handle;
    opts.deadline_us = 60 * 1000000;
    for (int i = 0; i < 1000; i++) {
        e = callWithin(&opts, &answer_closure, NULL);
        assert_int_equal(e.result, 42);
        assert_true(handle != 0 && handle != first);
        assert_false(rts_cancel(first));
    }
    assert_false(rts_cancel(0));
    assert_false(rts_cancel(handle));
    assert_false(rts_cancel(handle + 1));
    assert_false(rts_cancel(UINT64_MAX));
    stopWithBox();
}

/* ---- Deadlines ---- */

static void testDeadlineRunning(void **state)
{
    startWithBox(1);
    HaskellObj actions[] = { &spin_closure, &waitForBox_closure, &sleepLong_closure, &callOut_closure };
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++) {
        Ending e = runUntil(20000, actions[i], &unused);
        assert_int_equal(e.entered, RTS_OK);
        assert_int_equal(e.status, TimedOut);
        assert_true(e.ms >= 19);
        assert_int_equal(callWell(), 42);
    }
    stopWithBox();
}

/* It ends the evaluations that come after it as well. */
static void testDeadlineStays(void **state)
{
    startWithBox(1);
    Capability *cap;
    HaskellObj result = CAPSTAN_UNIT;
    RtsLockOpts opts = RTS_LOCK_OPTS_INIT;
    opts.deadline_us = 300000;
    assert_int_equal(rts_lockOpt(&cap, &opts), RTS_OK);
    rts_evalIO(&cap, &answer_closure, &result);
    if (rts_getSchedStatus(cap) == Success) assert_int_equal(rts_getInt(result), 42);
    for (; rts_getSchedStatus(cap) == Success; rts_pollCap(&cap)) sleepMs(1);
    for (int i = 0; i < 3; i++) {
        rts_pollCap(&cap);
        assert_int_equal(rts_getSchedStatus(cap), TimedOut);
        rts_evalIO(&cap, &answer_closure, &result);
        assert_int_equal(rts_getSchedStatus(cap), TimedOut);
        assert_ptr_equal(result, CAPSTAN_POISON);
        assert_ptr_equal(rts_getException(cap), &capstan_TimedOut_closure);
    }
    char text[64];
    rts_showException(cap, rts_getException(cap), text, sizeof text);
    assert_string_equal(text, "timed out");
    rts_unlock(cap);
    stopWithBox();
}

static HaskellObj runSpin(Stack *stack, void *unused)
{
    isWithin = 1;
    return rts_call(stack, &spin_closure, rts_mkPtr(stack->cap, NULL), CAPSTAN_WORLD);
}

CAPSTAN_IO(catchAll)
{
    HaskellObj exception;
    bool ok = rts_try(stack, runSpin, NULL, &exception);
    return rts_int(stack, !ok && exception == &capstan_TimedOut_closure ? 1 : 0);
}

static HaskellObj pauseBody(Stack *stack, void *unused)
{
    isWithin = 1;
    uint64_t began = nowMs();
    while (nowMs() - began < 40) rts_poll(stack);
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(maskedPause)
{
    rts_withMask(stack, RtsMaskedUninterruptible, pauseBody, NULL);
    return rts_int(stack, 1);
}

static HaskellObj raiseBody(Stack *stack, void *unused)
{
    pauseBody(stack, NULL);
    rts_raise(stack, rts_mkInt(stack->cap, 5));
}
static HaskellObj raiseMasked(Stack *stack, void *unused)
{
    return rts_withMask(stack, RtsMaskedUninterruptible, raiseBody, NULL);
}

/* The mask goes with the frame that is left by another exception: what it held back comes after that. */
CAPSTAN_IO(escapeMask)
{
    HaskellObj exception;
    rts_try(stack, raiseMasked, NULL, &exception);
    return runSpin(stack, NULL);
}

static void testDeadlineHandled(void **state)
{
    startWithBox(1);
    Ending e = runWithin(10000, &catchAll_closure);
    assert_int_equal(e.status, Success);
    assert_int_equal(e.result, 1);
    e = runWithin(10000, &maskedPause_closure);
    assert_int_equal(e.status, TimedOut);
    assert_true(e.ms >= 39);
    e = runWithin(10000, &escapeMask_closure);
    assert_int_equal(e.status, TimedOut);
    stopWithBox();
}

/* A thunk under evaluation is left to be evaluated by the next. */
static _Atomic int slowly;
CAPSTAN_CAF(slowValue)
{
    while (slowly) rts_poll(stack);
    return rts_int(stack, 11);
}
CAPSTAN_IO(forceSlow) { return rts_force(stack, &slowValue_closure); }

static void testThunkRearmed(void **state)
{
    startWithBox(1);
    slowly = 1;
    Ending e = runUntil(10000, &forceSlow_closure, NULL);
    assert_int_equal(e.status, TimedOut);
    slowly = 0;
    e = callWithin(NULL, &forceSlow_closure, NULL);
    assert_int_equal(e.result, 11);
    stopWithBox();
}

/* ---- Waiting ---- */

#ifdef CAPSTAN_TORTURE
enum { HELD = 1 }; /* who takes a second one may collect first, and waits for who holds the other */
#else
enum { HELD = 2 };
#endif

static void testDeadlineWaiting(void **state)
{
    startWithBox(HELD);
    Holder holders[HELD];
    for (int i = 0; i < HELD; i++) beginHolding(&holders[i]);
    for (int i = 0; i < 10; i++) {
        Ending e = callUntil(10000, &answerFlag_closure, &unused);
        assert_int_equal(e.entered, RTS_TIMED_OUT);
        assert_true(e.ms >= 9);
        assert_true(e.ms < 20000);
    }
    Capability *cap;
    RtsLockOpts opts = RTS_LOCK_OPTS_INIT;
    opts.no_wait = true;
    assert_int_equal(rts_lockOpt(&cap, &opts), RTS_BUSY);
    opts.deadline_us = 0;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(rts_lockOpt(&cap, &opts), RTS_TIMED_OUT);
        assert_int_equal(rts_getSchedStatus(cap), TimedOut);
        opts.no_wait = false;
    }
    holders[HELD - 1].stop = 1;
    opts.deadline_us = 10 * 1000000;
    Ending e = callWithin(&opts, &answer_closure, NULL);
    assert_int_equal(e.result, 42);
    opts.no_wait = true;
    e = callWithin(&opts, &answer_closure, NULL);
    assert_int_equal(e.result, 42);
    opts.deadline_us = 0; /* though one is free */
    assert_int_equal(rts_lockOpt(&cap, &opts), RTS_TIMED_OUT);
    for (int i = 0; i < HELD; i++) endHolding(&holders[i]);
    stopWithBox();
}

/* ---- Cancelling ---- */

typedef struct {
    RtsLockOpts opts;
    RtsInCallHandle handle;
    HaskellObj action;
    _Atomic int flag;
    Ending ending;
} Victim;

static void *beVictim(void *arg)
{
    Victim *v = arg;
    v->opts.handle = &v->handle;
    v->ending = callWithin(&v->opts, v->action, &v->flag);
    return NULL;
}

static pthread_t startVictim(Victim *v, HaskellObj action)
{
    *v = (Victim){ .opts = RTS_LOCK_OPTS_INIT, .action = action };
    return spawn(beVictim, v);
}

static RtsInCallHandle awaitHandle(Victim *v)
{
    RtsInCallHandle handle;
    while ((handle = __atomic_load_n(&v->handle, __ATOMIC_ACQUIRE)) == 0) sleepMs(1);
    return handle;
}

static void testCancelRunning(void **state)
{
    startWithBox(1);
    HaskellObj actions[] = { &spin_closure, &waitForBox_closure, &sleepLong_closure, &callOut_closure };
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++) {
        Victim v;
        pthread_t thread = startVictim(&v, actions[i]);
        waitFor(&v.flag);
        if (i % 2) sleepMs(5);
        RtsInCallHandle handle = awaitHandle(&v);
        assert_true(rts_cancel(handle));
        joinThread(thread);
        assert_int_equal(v.ending.entered, RTS_OK);
        assert_int_equal(v.ending.status, Cancelled);
        assert_false(rts_cancel(handle));
    }
    stopWithBox();
}

static void testCancelWaiting(void **state)
{
    startWithBox(1);
    for (int i = 0; i < 5; i++) {
        Holder holder;
        beginHolding(&holder);
        Victim victims[3];
        pthread_t threads[3];
        for (int j = 0; j < 3; j++) threads[j] = startVictim(&victims[j], &answerFlag_closure);
        for (int j = 0; j < 3; j++) awaitHandle(&victims[j]);
        sleepMs(i);
        assert_true(rts_cancel(victims[i % 3].handle));
        joinThread(threads[i % 3]);
        assert_int_equal(victims[i % 3].ending.entered, RTS_CANCELLED);
        holder.stop = 1;
        for (int j = 0; j < 3; j++) {
            if (j == i % 3) continue;
            joinThread(threads[j]);
            assert_int_equal(victims[j].ending.entered, RTS_OK);
            assert_int_equal(victims[j].ending.result, 43);
        }
        joinThread(holder.thread);
    }
    stopWithBox();
}

/* From within: the next evaluation does not begin. */
static void testCancelBetween(void **state)
{
    startWithBox(1);
    Capability *cap;
    HaskellObj result;
    RtsInCallHandle handle;
    RtsLockOpts opts = RTS_LOCK_OPTS_INIT;
    opts.handle = &handle;
    assert_int_equal(rts_lockOpt(&cap, &opts), RTS_OK);
    assert_true(rts_cancel(handle));
    assert_true(rts_cancel(handle));
    for (int i = 0; i < 2; i++) {
        rts_evalIO(&cap, &answer_closure, &result);
        assert_int_equal(rts_getSchedStatus(cap), Cancelled);
    }
    rts_unlock(cap);
    assert_false(rts_cancel(handle));
    assert_int_equal(rts_lockOpt(&cap, &opts), RTS_OK);
    rts_evalIO(&cap, &answer_closure, &result);
    assert_int_equal(rts_getSchedStatus(cap), Success);
    assert_true(rts_cancel(handle));
    rts_unlock(cap);
    stopWithBox();
}

/* The blocked in-call runs others meanwhile, who never let go by themselves. */
CAPSTAN_IO(hostSpinners, flag)
{
    CAPSTAN_ROOTS(stack, flag);
    for (int i = 0; i < 2; i++) rts_fork(stack, rts_apply(stack->cap, &spin_closure, flag));
    CAPSTAN_UNROOT(stack);
    return rts_takeMVar(stack, (HaskellObj)deRefStablePtr(quietBox));
}

static void testCancelHost(void **state)
{
    startWithBox(1);
    Ending e = runUntil(30000, &hostSpinners_closure, &unused);
    assert_int_equal(e.status, TimedOut);
    Victim v;
    pthread_t thread = startVictim(&v, &hostSpinners_closure);
    waitFor(&v.flag);
    assert_true(rts_cancel(v.handle));
    joinThread(thread);
    assert_int_equal(v.ending.status, Cancelled);
    stopWithBox();
}

/* ---- Allocation ---- */

CAPSTAN_IO(allocate, bytes)
{
    HsInt words = rts_intValue(bytes) / 8;
    for (; words > 0; words -= 2) {
        if (rts_mkDouble(stack->cap, 1.5) == CAPSTAN_POISON) break;
        if (words / 2 % 256 == 0) rts_poll(stack);
    }
    return CAPSTAN_UNIT;
}

static SchedulerStatus allocateWithin(StgWord64 limit, HsInt bytes)
{
    Capability *cap;
    RtsLockOpts opts = RTS_LOCK_OPTS_INIT;
    opts.alloc_limit_bytes = limit;
    assert_int_equal(rts_lockOpt(&cap, &opts), RTS_OK);
    rts_evalIO(&cap, rts_apply(cap, &allocate_closure, rts_mkInt(cap, bytes)), NULL);
    SchedulerStatus status = rts_getSchedStatus(cap);
    rts_unlock(cap);
    return status;
}

static void testLimit(void **state)
{
    startWithBox(1);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(allocateWithin(1000000, 900000), Success);
        assert_int_equal(allocateWithin(1000000, 1100000), LimitExceeded);
        assert_int_equal(allocateWithin(0, 3000000), Success);
        assert_int_equal(allocateWithin(20000000, 19000000), Success);
    }
    /* What C makes between evaluations counts as well. */
    Capability *cap;
    RtsLockOpts opts = RTS_LOCK_OPTS_INIT;
    opts.alloc_limit_bytes = 500000;
    assert_int_equal(rts_lockOpt(&cap, &opts), RTS_OK);
    assert_ptr_not_equal(rts_mkBytes(cap, NULL, 600000), CAPSTAN_POISON);
    rts_evalIO(&cap, &answer_closure, NULL);
    assert_int_equal(rts_getSchedStatus(cap), LimitExceeded);
    rts_unlock(cap);
    stopWithBox();
}

/* Exactly: 100 doubles of 16 bytes. */
CAPSTAN_IO(countSmall)
{
    rts_setAllocationCounter(stack, 10000);
    for (int i = 0; i < 100; i++) rts_mkDouble(stack->cap, 1.5);
    HsInt left = rts_getAllocationCounter(stack);
    rts_mkBytes(stack->cap, NULL, 100000);
    HsInt after = rts_getAllocationCounter(stack);
    return rts_int(stack, left == 10000 - 1600 && left - after >= 100000 && left - after < 101000 ? 1 : left);
}

/* Without a limit a counter just goes down. */
CAPSTAN_IO(countDown)
{
    rts_setAllocationCounter(stack, 1000);
    rts_runIO(stack, rts_apply(stack->cap, &allocate_closure, rts_int(stack, 300000)));
    HsInt left = rts_getAllocationCounter(stack);
    return rts_int(stack, left < 1000 - 300000 && left > 1000 - 310000 ? 1 : left);
}

static HaskellObj allocateBody(Stack *stack, void *bytes)
{
    return rts_runIO(stack, rts_apply(stack->cap, &allocate_closure, rts_int(stack, (HsInt)(intptr_t)bytes)));
}

/* Caught; then it may go on for so long. */
CAPSTAN_IO(limitTwice)
{
    HaskellObj exception = CAPSTAN_UNIT;
    HsInt score = 0;
    rts_setAllocationCounter(stack, 200000);
    rts_enableAllocationLimit(stack, true);
    score += !rts_try(stack, allocateBody, (void *)(intptr_t)400000, &exception) &&
             exception == &capstan_AllocationLimitExceeded_closure;
    score += 2 * rts_try(stack, allocateBody, (void *)(intptr_t)60000, &exception);
    score += 4 * (!rts_try(stack, allocateBody, (void *)(intptr_t)100000, &exception) &&
                  exception == &capstan_AllocationLimitExceeded_closure);
    rts_enableAllocationLimit(stack, false);
    score += 8 * rts_try(stack, allocateBody, (void *)(intptr_t)400000, &exception);
    return rts_int(stack, score);
}

static void testCounter(void **state)
{
    startWithBox(1);
    HaskellObj counters[] = { &countSmall_closure, &countDown_closure };
    for (int i = 0; i < 2; i++) {
        HsInt result = -1;
        assert_int_equal(callAction(counters[i], NULL, &result), Success);
        assert_int_equal(result, 1);
    }
    HsInt result = -1;
    assert_int_equal(callAction(&limitTwice_closure, NULL, &result), Success);
    assert_int_equal(result, 15);
    stopWithBox();
}

/* Several threads that take turns: each pays for itself. */
#define TURNS 200
CAPSTAN_IO(countInTurns, done)
{
    HaskellObj each = rts_int(stack, 1600);
    CAPSTAN_ROOTS(stack, done, each);
    rts_setAllocationCounter(stack, 0);
    for (int i = 0; i < TURNS; i++) {
        for (int j = 0; j < 100; j++) rts_mkDouble(stack->cap, 1.5);
        if (i % 50 == 49) rts_threadDelay(stack, 1000);
        else rts_yield(stack);
    }
    HsInt used = -rts_getAllocationCounter(stack);
    rts_putMVar(stack, done, rts_int(stack, used));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* Allocates as well, and is not counted. */
CAPSTAN_IO(allocateInTurns, done)
{
    CAPSTAN_ROOTS(stack, done);
    for (int i = 0; i < TURNS; rts_yield(stack), i++)
        for (int j = 0; j < 300; j++) rts_mkDouble(stack->cap, 1.5);
    rts_putMVar(stack, done, rts_int(stack, 0));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(turns)
{
    HaskellObj done = rts_mkMVar(stack->cap);
    HsInt worst = 0;
    CAPSTAN_ROOTS(stack, done);
    rts_setAllocationCounter(stack, 1 << 30);
    for (int i = 0; i < 6; i++)
        rts_fork(stack, rts_apply(stack->cap, i % 3 == 2 ? &allocateInTurns_closure : &countInTurns_closure, done));
    for (int i = 0; i < 6; i++) {
        HsInt used = rts_intValue(rts_takeMVar(stack, done)), off = used - TURNS * 1600;
        if (used != 0 && (off < 0 ? -off : off) > worst) worst = off < 0 ? -off : off;
    }
    CAPSTAN_UNROOT(stack);
    /* The main thread has made a few small objects. */
    return rts_int(stack, (1 << 30) - rts_getAllocationCounter(stack) < 20000 ? worst : -1);
}

static void testCounterTurns(void **state)
{
    for (unsigned n = 1; n <= 2; n++) {
        startWithBox(n);
        HsInt worst = -1;
        assert_int_equal(callAction(&turns_closure, NULL, &worst), Success);
        assert_int_equal(worst, 0);
        stopWithBox();
    }
}

/* ---- Many at once ---- */

#define STORM_THREADS 6
#define STORM_CALLS (shortLoad() ? 150 : 1500)

static _Atomic RtsInCallHandle stormHandles[STORM_THREADS];
static _Atomic int stormDone;

static void *stormCaller(void *arg)
{
    int me = (int)(intptr_t)arg;
    unsigned seed = 77u + (unsigned)me;
    int bad = 0;
    for (int i = 0; i < STORM_CALLS; i++) {
        static _Atomic int flag;
        RtsInCallHandle handle = 0;
        RtsLockOpts opts = RTS_LOCK_OPTS_INIT;
        opts.handle = &handle;
        seed = seed * 1103515245u + 12345u;
        unsigned dice = seed >> 16;
        if (dice % 4 != 0) opts.deadline_us = dice % 3000;
        HaskellObj actions[] = { &answer_closure, &waitForBox_closure, &spin_closure, &sleepLong_closure };
        HaskellObj action = actions[opts.deadline_us < 0 ? 0 : dice / 16 % 4];
        Capability *cap;
        RtsStatus entered = rts_lockOpt(&cap, &opts);
        atomic_store(&stormHandles[me], handle);
        SchedulerStatus status = NoStatus;
        if (entered == RTS_OK) {
            rts_evalIO(&cap, action == &answer_closure ? action : rts_apply(cap, action, rts_mkPtr(cap, &flag)), NULL);
            status = rts_getSchedStatus(cap);
        }
        rts_unlock(cap);
        if (entered != RTS_OK && entered != RTS_TIMED_OUT && entered != RTS_CANCELLED) bad++;
        if (entered == RTS_OK && status != Success && status != TimedOut && status != Cancelled) bad++;
        /* Whatever was under way hits nobody else. */
        if (callWell() != 42) bad++;
    }
    return (void *)(intptr_t)bad;
}

static void *stormCanceller(void *unused)
{
    unsigned seed = 5;
    while (!stormDone) {
        seed = seed * 1103515245u + 12345u;
        rts_cancel(atomic_load(&stormHandles[(seed >> 16) % STORM_THREADS]));
        if ((seed >> 8) % 8 == 0) osSleepNanos(100000);
    }
    return NULL;
}

static void testStorm(void **state)
{
    for (unsigned n = 1; n <= 4; n++) {
        withoutMembarrier = n == 4;
        startWithBox(n == 4 ? 1 : n);
        stormDone = 0;
        pthread_t canceller = spawn(stormCanceller, NULL), threads[STORM_THREADS];
        for (intptr_t i = 0; i < STORM_THREADS; i++) threads[i] = spawn(stormCaller, (void *)i);
        for (int i = 0; i < STORM_THREADS; i++) assert_ptr_equal(joinThread(threads[i]), NULL);
        stormDone = 1;
        joinThread(canceller);
        stopWithBox();
    }
    withoutMembarrier = false;
}

/* ---- Ends ---- */

static void *waitWithDeadline(void *arg)
{
    Victim *v = arg;
    v->opts.deadline_us = 60 * 1000000;
    return beVictim(v);
}

/* At exit those who wait are sent home, those who run are interrupted, and the next start knows nothing of them. */
static void testExit(void **state)
{
    for (int i = 0; i < 3; i++) {
        startWithBox(1);
        Victim running = { .opts = RTS_LOCK_OPTS_INIT, .action = &spin_closure };
        Victim waiting = { .opts = RTS_LOCK_OPTS_INIT, .action = &answerFlag_closure };
        Victim calling = { .opts = RTS_LOCK_OPTS_INIT, .action = &callOutLong_closure };
        pthread_t threads[3];
        threads[0] = spawn(waitWithDeadline, &calling);
        waitFor(&calling.flag);
        threads[1] = spawn(waitWithDeadline, &running);
        waitFor(&running.flag);
        threads[2] = spawn(waitWithDeadline, &waiting);
        awaitHandle(&waiting);
        if (i > 0) sleepMs(5);
        hs_exit();
        assert_int_equal(startHooked(1), RTS_OK);
        calling.flag = 2;
        for (int j = 0; j < 3; j++) joinThread(threads[j]);
        assert_int_equal(running.ending.status, Interrupted);
        assert_int_equal(calling.ending.status, Interrupted);
        /* It may have been in time for the end, or for the next start. */
        if (waiting.ending.entered != RTS_OK) assert_int_equal(waiting.ending.entered, RTS_CLOSED);
        else if (waiting.ending.status != Success) assert_int_equal(waiting.ending.status, Interrupted);
        assert_false(rts_cancel(running.handle));
        assert_false(rts_cancel(calling.handle));
        assert_int_equal(callWell(), 42);
        hs_exit();
    }
}

/* The threads of these leave in the midst of it. */
static void *leaveInside(void *unused)
{
    RtsInCallHandle handle;
    RtsLockOpts opts = RTS_LOCK_OPTS_INIT;
    opts.deadline_us = 1000000;
    opts.alloc_limit_bytes = 1 << 20;
    opts.handle = &handle;
    Capability *cap;
    if (rts_lockOpt(&cap, &opts) != RTS_OK) return (void *)1;
    pthread_exit((void *)(uintptr_t)handle);
}

static void testLeaving(void **state)
{
    startWithBox(1);
    for (int i = 0; i < 10; i++) {
        RtsInCallHandle handle = (RtsInCallHandle)(uintptr_t)onThread(leaveInside, NULL);
        assert_true(handle > 1);
        assert_false(rts_cancel(handle));
    }
    stopWithBox();
}

/* Every allocation that can fail is an answer. */
static void testNoMemory(void **state)
{
    startWithBox(1);
    int refused = 0;
    for (long n = 1; n < 40; n++) {
        RtsInCallHandle handles[3];
        Capability *cap;
        RtsLockOpts opts = RTS_LOCK_OPTS_INIT;
        opts.deadline_us = 3000 * INT64_C(1000000);
        opts.handle = &handles[0];
        osFailAfter(n);
        RtsStatus status = rts_lockOpt(&cap, &opts);
        bool failed = osFailuresInjected() != 0;
        osFailAfter(0);
        if (status != RTS_OK) {
            assert_int_equal(status, RTS_NO_MEMORY);
            assert_true(failed);
            assert_true(rts_isDead(cap));
            assert_false(rts_cancel(handles[0]));
            refused++;
        } else {
            rts_evalIO(&cap, &answer_closure, NULL);
            assert_int_equal(rts_getSchedStatus(cap), Success);
        }
        rts_unlock(cap);
        assert_int_equal(callWell(), 42);
        if (!failed && n > 10) break;
    }
    assert_true(refused > 0);
    stopWithBox();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(testNoMemory), TEST(testPlain), TEST(testGenerous), TEST(testDeadlineRunning), TEST(testDeadlineStays),
        TEST(testDeadlineHandled), TEST(testThunkRearmed), TEST(testDeadlineWaiting), TEST(testCancelRunning), TEST(testCancelWaiting),
        TEST(testCancelBetween), TEST(testCancelHost), TEST(testLimit), TEST(testCounter), TEST(testCounterTurns), TEST(testStorm),
        TEST(testExit), TEST(testLeaving),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

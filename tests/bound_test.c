/* Bound threads of the runtime's own, and calls that a signal breaks off. */
#include "sched.h"

#include "os/memory.h"
#include "os/os.h"
#include "task.h"

#include <errno.h>

/* ---- What threads are told to do ---- */

static _Atomic uint64_t ranOn;
static _Atomic int maskSeen, boundSeen, ended;

CAPSTAN_IO(lookAround)
{
    ranOn = osThreadId();
    maskSeen = (int)rts_getMaskingState(stack);
    boundSeen = rts_isCurrentThreadBound(stack);
    return CAPSTAN_SMALL_INT(21);
}
CAPSTAN_IO(raiseNine) { rts_raise(stack, CAPSTAN_SMALL_INT(9)); }
CAPSTAN_IO(takeForEver, mvar) { return rts_takeMVar(stack, mvar); }
CAPSTAN_IO(sleepForEver)
{
    rts_threadDelay(stack, INT64_MAX);
    return CAPSTAN_UNIT;
}
static HaskellObj tryIO(Stack *stack, void *io) { return rts_runIO(stack, *(HaskellObj *)io); }

/* ---- rts_forkOS ---- */

CAPSTAN_IO(forkLooking)
{
    HaskellObj done = rts_mkMVar(stack->cap), id = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, done, id);
    boundSeen = maskSeen = -1;
    id = rts_forkOS(stack, APPLY(stack->cap, schedReport, &lookAround_closure, done));
    CHECK(rts_threadStatus(id) <= ThreadBlockedOnOther);
    CHECK(rts_takeMVar(stack, done) == CAPSTAN_SMALL_INT(21));
    CHECK(boundSeen == 1 && ranOn != osThreadId());
    CHECK(maskSeen == (int)rts_getMaskingState(stack));
    awaitEnd(stack, &id);
    CHECK(rts_threadStatus(id) == ThreadFinished);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(forkLookingMasked)
{
    rts_runIO(stack, rts_apply(stack->cap, &capstan_mask_closure, &forkLooking_closure));
    rts_runIO(stack, rts_apply(stack->cap, &capstan_uninterruptibleMask_closure, &forkLooking_closure));
    return CAPSTAN_UNIT;
}

static void testForkOS(void **state)
{
    run(&forkLooking_closure);
    runInThread(&forkLooking_closure, NULL);
    run(&forkLookingMasked_closure);
}

/* A bound thread stays on its OS thread, whatever it does. */
CAPSTAN_IO(stayHere, n)
{
    uint64_t here = osThreadId();
    for (HsInt i = rts_intValue(n); i > 0; i--) {
        rts_yield(stack);
        if (i % 8 == 0) rts_threadDelay(stack, 100);
        CHECK(osThreadId() == here);
    }
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(forkMany)
{
    HaskellObj done = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, done);
    HsInt n = SLOW_BUILD ? 10 : 60;
    for (HsInt i = 0; i < n; i++)
        rts_forkOS(stack, APPLY(stack->cap, schedReport, APPLY(stack->cap, stayHere, CAPSTAN_SMALL_INT(40)), done));
    for (HsInt i = 0; i < n; i++) CHECK(rts_takeMVar(stack, done) == CAPSTAN_UNIT);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
static void testForkManyOS(void **state) { run(&forkMany_closure); }

/* How it ended reaches the host, and whoever throws at it. */
static _Atomic int uncaught;
static void noteUncaught(void *ctx, StgWord64 id, const char *label, HaskellObj exception, const char *text)
{
    if (exception == CAPSTAN_SMALL_INT(9)) uncaught += 1;
    if (exception == &capstan_ThreadKilled_closure) uncaught += 100;
}
static int setUpUncaught(void **state)
{
    RtsConfig config = schedConfig(2);
    config.uncaughtHook = noteUncaught;
    uncaught = 0;
    return setUpWith(state, &config);
}
CAPSTAN_IO(endBadly)
{
    HaskellObj id = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, id);
    id = rts_forkOS(stack, &raiseNine_closure);
    awaitEnd(stack, &id);
    CHECK(rts_threadStatus(id) == ThreadDied);
    id = rts_forkOS(stack, APPLY(stack->cap, takeForEver, rts_mkMVar(stack->cap)));
    rts_killThread(stack, id);
    awaitEnd(stack, &id);
    CHECK(rts_threadStatus(id) == ThreadDied);
    rts_killThread(stack, id);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
static void testUncaught(void **state)
{
    run(&endBadly_closure);
    assert_int_equal(uncaught, 101);
}

/* The system refuses: an exception here, at whatever place it happens. */
CAPSTAN_IO(forkWithout, n)
{
    HaskellObj result = CAPSTAN_UNIT, io = &forkLooking_closure;
    osFailAllAfter(rts_intValue(n));
    bool ok = rts_try(stack, tryIO, &io, &result);
    osFailAllAfter(0);
    if (!ok && result != &capstan_HeapOverflow_closure) {
        const char *text = textOf(stack->cap, result);
        CHECK(strstr(text, "refuses") != NULL || strstr(text, "no memory") != NULL);
    }
    return CAPSTAN_SMALL_INT(ok);
}
static void testRefused(void **state)
{
    HsInt n = 1;
    while (n < 40 && runWith(&forkWithout_closure, CAPSTAN_SMALL_INT(n)) == 0) n++;
    assert_in_range(n, 2, 39);
    heardOtherErrors();
    run(&forkLooking_closure);
}

/* ---- At the end of the runtime ---- */

static _Atomic int mayReturn;
static void *stayInC(void *unused)
{
    waitFor(&mayReturn);
    return NULL;
}
CAPSTAN_IO(callStay)
{
    rts_safeCall(stack, stayInC, NULL);
    ended = 1; /* not reached */
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(spinForEver)
{
    for (;;) rts_poll(stack);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(forkForEver)
{
    HaskellObj mvar = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, mvar);
    for (int i = 0; i < 3; i++) {
        rts_forkOS(stack, APPLY(stack->cap, takeForEver, mvar));
        rts_forkOS(stack, &sleepForEver_closure);
        rts_forkOS(stack, &spinForEver_closure);
        rts_forkOS(stack, &callStay_closure);
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
static void testExit(void **state)
{
    ended = mayReturn = 0;
    run(&forkForEver_closure);
    hs_exit(); /* waits for none of those in C */
    setUpTwo(state);
    run(&forkLooking_closure);
    mayReturn = 1; /* they come back to another runtime */
    for (int i = 0; i < 10000 && tasksNow() > 1; i++) sleepMs(1);
    run(&forkLooking_closure);
    sleepMs(300);
    run(&forkLooking_closure);
    hs_exit();
    assert_int_equal(ended, 0);
    for (int i = 0; i < 600 && tasksNow() > 1; i++) sleepMs(10);
    assert_true(tasksNow() <= 1);
}

/* ---- rts_runInBoundThread ---- */

static HaskellObj inBound(Stack *stack, HaskellObj io) { return rts_runInBoundThread(stack, io); }
CAPSTAN_IO(runBound, io) { return inBound(stack, io); }
CAPSTAN_IO(runBoundTwice, io)
{
    HaskellObj inner = APPLY(stack->cap, schedInThread, APPLY(stack->cap, runBound, io));
    return inBound(stack, inner);
}
CAPSTAN_IO(tryBound)
{
    HaskellObj result = CAPSTAN_UNIT, io = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, result, io);
    boundSeen = maskSeen = -1;
    CHECK(inBound(stack, &lookAround_closure) == CAPSTAN_SMALL_INT(21) && boundSeen == 1 && maskSeen == RtsUnmasked);
    io = APPLY(stack->cap, runBound, &lookAround_closure);
    CHECK(rts_runIO(stack, rts_apply(stack->cap, &capstan_mask_closure, io)) == CAPSTAN_SMALL_INT(21) && maskSeen == RtsMaskedInterruptible);
    CHECK(rts_getMaskingState(stack) == RtsUnmasked);
    io = APPLY(stack->cap, runBound, &raiseNine_closure);
    CHECK(!rts_try(stack, tryIO, &io, &result) && result == CAPSTAN_SMALL_INT(9));
    CHECK(rts_getMaskingState(stack) == RtsUnmasked);
    CHECK(rts_runIO(stack, APPLY(stack->cap, runBoundTwice, &lookAround_closure)) == CAPSTAN_SMALL_INT(21));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_SMALL_INT(rts_isCurrentThreadBound(stack));
}
static void testRunInBound(void **state)
{
    assert_int_equal(run(&tryBound_closure), 1);
    assert_int_equal(runInThread(&tryBound_closure, NULL), 0);
}

/* A kill that comes meanwhile is raised afterwards; what it would lose is freed. */
CAPSTAN_IO(boundWait, mvar) { return inBound(stack, APPLY(stack->cap, takeForEver, mvar)); }
CAPSTAN_IO(killBound)
{
    HaskellObj mvar = rts_mkMVar(stack->cap), out = rts_mkMVar(stack->cap), id = CAPSTAN_UNIT, killer = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, mvar, out, id, killer);
    id = FORK(stack, schedReport, APPLY(stack->cap, boundWait, mvar), out);
    CHECK(awaitStatus(stack, &id, ThreadBlockedOnCCall));
    killer = FORK(stack, capstan_killThread, id);
    CHECK(awaitStatus(stack, &killer, ThreadBlockedOnThrowTo));
    rts_putMVar(stack, mvar, CAPSTAN_SMALL_INT(1));
    CHECK(rts_takeMVar(stack, out) == &capstan_ThreadKilled_closure);
    awaitEnd(stack, &killer);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
static void testKillBound(void **state)
{
    for (HsInt i = 0, n = many(50); i < n; i++) run(&killBound_closure);
    RtsCounts counts;
    rts_getCounts(&counts);
    assert_int_equal(counts.stable_ptrs, 0);
}

/* ---- Interruptible calls ---- */

#define SIGNAL SIGUSR2

static int setUpSignal(void **state)
{
    RtsConfig config = schedConfig(2);
    config.interrupt_signal = SIGNAL;
    return setUpWith(state, &config);
}

static int pipeEnds[2];
static _Atomic int inC, calls, before, mayRead;

enum { UNTIL_TOLD = -1 };

/* Reads what never comes; first works for so many milliseconds, or until told, so that a signal may come too early. */
static void *readForEver(void *arg)
{
    char c;
    int fd = pipeEnds[0];
    intptr_t ms = (intptr_t)arg;
    uint64_t began = nowMs();
    inC = 1;
    while (ms == UNTIL_TOLD ? !mayRead : nowMs() < began + (uint64_t)ms) before++;
    ssize_t n = read(fd, &c, 1);
    calls++;
    return (void *)(intptr_t)(n == -1 && errno == EINTR ? 1 : 0);
}
CAPSTAN_IO(callRead, ms)
{
    return CAPSTAN_SMALL_INT((intptr_t)rts_interruptibleCall(stack, readForEver, (void *)(intptr_t)rts_intValue(ms)));
}
/* Masked, it comes back with EINTR, and the exception waits. */
CAPSTAN_IO(callReadMasked, ms)
{
    CHECK(rts_interruptibleCall(stack, readForEver, (void *)(intptr_t)rts_intValue(ms)) != NULL);
    ended = 1;
    rts_allowInterrupt(stack);
    ended = 2; /* not reached */
    return CAPSTAN_UNIT;
}

static HaskellObj breakOff(Stack *stack, HaskellObj io, bool own)
{
    HaskellObj out = rts_mkMVar(stack->cap), id = CAPSTAN_UNIT, result = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, io, out, id, result);
    inC = 0;
    HaskellObj body = APPLY(stack->cap, schedReport, io, out);
    id = own ? rts_forkOS(stack, body) : rts_fork(stack, body);
    while (!inC) rts_threadDelay(stack, 200);
    rts_killThread(stack, id);
    result = rts_takeMVar(stack, out);
    awaitEnd(stack, &id);
    CAPSTAN_UNROOT(stack);
    return result;
}
CAPSTAN_IO(breakReads, ms)
{
    calls = ended = 0;
    HsInt n = rts_intValue(ms);
    CHECK(breakOff(stack, APPLY(stack->cap, callRead, rts_int(stack, n)), false) == &capstan_ThreadKilled_closure);
    CHECK(breakOff(stack, APPLY(stack->cap, callRead, rts_int(stack, n)), true) == &capstan_ThreadKilled_closure);
    HaskellObj masked = rts_apply(stack->cap, &capstan_mask_closure, APPLY(stack->cap, callReadMasked, rts_int(stack, n)));
    CHECK(breakOff(stack, masked, false) == &capstan_ThreadKilled_closure && ended == 1);
    CHECK(calls == 3);
    return CAPSTAN_UNIT;
}

static bool isBlocked(int signal)
{
    sigset_t set;
    pthread_sigmask(SIG_BLOCK, NULL, &set);
    return sigismember(&set, signal) == 1;
}
static bool isPending(int signal)
{
    sigset_t set;
    sigpending(&set);
    return sigismember(&set, signal) == 1;
}

static void testInterrupt(void **state)
{
    assert_int_equal(pipe(pipeEnds), 0);
    runWith(&breakReads_closure, CAPSTAN_SMALL_INT(0));
    runWith(&breakReads_closure, CAPSTAN_SMALL_INT(30)); /* the first signals come before the call of the system */
    struct sigaction action;
    sigaction(SIGNAL, NULL, &action);
    assert_true(action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN && !(action.sa_flags & SA_RESTART));
    close(pipeEnds[0]);
    close(pipeEnds[1]);
}

/* A host's thread in an in-call, killed by another; its mask is as before, and no signal is left. */
static HsStablePtr victim;
CAPSTAN_IO(publishAndRead, ms)
{
    victim = getStablePtr((StgPtr)rts_myThreadId(stack));
    return CAPSTAN_SMALL_INT((intptr_t)rts_interruptibleCall(stack, readForEver, (void *)(intptr_t)rts_intValue(ms)));
}
static void *callAsHost(void *blocks)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGNAL);
    pthread_sigmask(blocks != NULL ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
    HaskellObj value;
    Capability *cap = rts_lock();
    rts_evalIO(&cap, APPLY(cap, publishAndRead, CAPSTAN_SMALL_INT(5)), &value);
    bool right = rts_getSchedStatus(cap) == Killed && rts_getException(cap) == &capstan_ThreadKilled_closure;
    rts_unlock(cap);
    right = right && isBlocked(SIGNAL) == (blocks != NULL) && !isPending(SIGNAL);
    struct timespec moment = { 0, 30 * 1000 * 1000 };
    right = right && nanosleep(&moment, NULL) == 0; /* no late signal */
    return right ? NULL : "wrong";
}
CAPSTAN_IO(killVictim)
{
    rts_killThread(stack, (HaskellObj)deRefStablePtr(victim));
    hs_free_stable_ptr(victim);
    return CAPSTAN_UNIT;
}
static void testInterruptHost(void **state)
{
    assert_int_equal(pipe(pipeEnds), 0);
    for (intptr_t i = 0; i < 20; i++) {
        inC = 0;
        pthread_t thread = spawn(callAsHost, (void *)(i % 2));
        waitFor(&inC);
        run(&killVictim_closure);
        assert_null(joinThread(thread));
    }
    close(pipeEnds[0]);
    close(pipeEnds[1]);
}

/* rts_timeout breaks calls off as well, from the timekeeper, bound or not. */
CAPSTAN_IO(timeRead, ms)
{
    HaskellObj result, io = APPLY(stack->cap, callRead, ms);
    uint64_t began = nowMs();
    CHECK(!rts_timeout(stack, 5000, io, &result));
    CHECK(nowMs() - began >= 4);
    return CAPSTAN_UNIT;
}
static void testTimedCall(void **state)
{
    assert_int_equal(pipe(pipeEnds), 0);
    for (HsInt i = 0, n = many(50); i < n; i++) {
        runWith(&timeRead_closure, CAPSTAN_SMALL_INT(i % 2 * 8));
        runInThread(&timeRead_closure, CAPSTAN_SMALL_INT(i % 2 * 8));
    }
    close(pipeEnds[0]);
    close(pipeEnds[1]);
}

/* An exception that was there before, with the mask keeping it out; and one that nothing may let in. */
static void *sleepUnlessBroken(void *ms)
{
    struct timespec time = { (intptr_t)ms / 1000, (intptr_t)ms % 1000 * 1000 * 1000 };
    inC = 1;
    return (void *)(intptr_t)(nanosleep(&time, NULL) != 0);
}
CAPSTAN_IO(callLate, ready)
{
    rts_putMVar(stack, ready, CAPSTAN_UNIT);
    while ((stack->tso->pending & PENDING_THROW) == 0) rts_yield(stack);
    CHECK(rts_interruptibleCall(stack, sleepUnlessBroken, (void *)1000000) != NULL);
    CHECK(rts_getMaskingState(stack) == RtsMaskedInterruptible);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(callDeaf, ready)
{
    CHECK(rts_interruptibleCall(stack, sleepUnlessBroken, (void *)30) == NULL);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(breakLate)
{
    HaskellObj ready = rts_mkMVar(stack->cap), id = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, ready, id);
    id = FORK(stack, capstan_mask, APPLY(stack->cap, callLate, ready));
    rts_takeMVar(stack, ready);
    rts_killThread(stack, id);
    inC = 0;
    id = FORK(stack, capstan_uninterruptibleMask, APPLY(stack->cap, callDeaf, ready));
    while (!inC) rts_threadDelay(stack, 100);
    rts_killThread(stack, id);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
static void testInterruptLate(void **state) { run(&breakLate_closure); }

/* A call inside a call: each is broken off for its own thread only.  What timed out before it began is done again, with more time. */
CAPSTAN_IO(innerRead)
{
    HaskellObj result;
    for (HsInt64 us = 3000; calls == 0; us *= 2)
        CHECK(!rts_timeout(stack, us, APPLY(stack->cap, callRead, CAPSTAN_SMALL_INT(0)), &result));
    return CAPSTAN_SMALL_INT(4);
}
static _Atomic int outside;
static void *callInAndRead(void *unused)
{
    outside = 1;
    intptr_t inner = runStatus(&innerRead_closure, NULL, NULL, NULL, 0) == Success;
    return (void *)(inner + 2 * (intptr_t)readForEver(0));
}
CAPSTAN_IO(outerRead) { return CAPSTAN_SMALL_INT((intptr_t)rts_interruptibleCall(stack, callInAndRead, NULL)); }
CAPSTAN_IO(breakNested)
{
    HaskellObj result;
    calls = outside = 0;
    for (HsInt64 us = 30000; !outside; us *= 2) CHECK(!rts_timeout(stack, us, &outerRead_closure, &result));
    CHECK(calls == 2);
    return CAPSTAN_UNIT;
}
static void testInterruptNested(void **state)
{
    assert_int_equal(pipe(pipeEnds), 0);
    run(&breakNested_closure);
    runInThread(&breakNested_closure, NULL);
    close(pipeEnds[0]);
    close(pipeEnds[1]);
}

/* What the host did about the signal stays; without a signal it is a safe call; others are refused. */
static _Atomic int hostSaw;
static void hostsHandler(int signal) { hostSaw++; }

static void testHostsHandler(void **state)
{
    struct sigaction action = { .sa_handler = hostsHandler }, now;
    RtsConfig config = schedConfig(2);
    config.interrupt_signal = SIGRTMIN + 3;
    sigaction(config.interrupt_signal, &action, NULL);
    assert_int_equal(setUpWith(state, &config), 0);
    assert_int_equal(pipe(pipeEnds), 0);
    hostSaw = 0;
    runWith(&breakReads_closure, CAPSTAN_SMALL_INT(1));
    assert_true(hostSaw >= 3);
    sigaction(config.interrupt_signal, NULL, &now);
    assert_true(now.sa_handler == hostsHandler);
    close(pipeEnds[0]);
    close(pipeEnds[1]);
}

CAPSTAN_IO(callPlain) { return CAPSTAN_SMALL_INT((intptr_t)rts_interruptibleCall(stack, sleepUnlessBroken, (void *)5)); }
static void testNoSignal(void **state)
{
    assert_int_equal(run(&callPlain_closure), 0);
    hs_exit();
    static const int unfit[] = { -1, SIGKILL, SIGSTOP, SIGSEGV, 32, 1000 };
    for (size_t i = 0; i < sizeof unfit / sizeof *unfit; i++) {
        RtsConfig config = schedConfig(1);
        config.interrupt_signal = unfit[i];
        assert_int_equal(rts_start(&config, NULL, 0), RTS_BAD_OPTION);
    }
}

/* The runtime ends and begins while calls are inside, and one is being broken off. */
CAPSTAN_IO(leaveReading)
{
    HaskellObj id = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, id);
    inC = 0;
    id = FORK(stack, capstan_uninterruptibleMask, APPLY(stack->cap, callRead, CAPSTAN_SMALL_INT(0)));
    while (!inC) rts_threadDelay(stack, 100);
    inC = mayRead = 0;
    id = FORK(stack, callRead, CAPSTAN_SMALL_INT(UNTIL_TOLD));
    while (!inC) rts_threadDelay(stack, 100);
    FORK(stack, capstan_killThread, id);
    rts_yield(stack);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
static void testExitInCall(void **state)
{
    assert_int_equal(pipe(pipeEnds), 0);
    calls = 0;
    run(&leaveReading_closure);
    hs_exit();
    setUpSignal(state);
    int old[2] = { pipeEnds[0], pipeEnds[1] };
    assert_int_equal(pipe(pipeEnds), 0);
    mayRead = 1;
    runWith(&breakReads_closure, CAPSTAN_SMALL_INT(1));
    assert_int_equal(write(old[1], "xy", 2), 2); /* nobody breaks them off any more */
    for (int i = 0; i < 10000 && calls < 5; i++) sleepMs(1);
    assert_int_equal(calls, 5);
    runWith(&breakReads_closure, CAPSTAN_SMALL_INT(1));
    for (int i = 0; i < 2; i++) {
        close(old[i]);
        close(pipeEnds[i]);
    }
}

/* Leaving by pthread_exit from inside. */
static void *leaveInside(void *unused)
{
    pthread_exit("left");
}
CAPSTAN_IO(callLeave) { return rts_interruptibleCall(stack, leaveInside, NULL) == NULL ? CAPSTAN_UNIT : CAPSTAN_UNIT; }
static void *runLeave(void *unused)
{
    runStatus(&callLeave_closure, NULL, NULL, NULL, 0);
    return NULL;
}
static void testLeaveInside(void **state)
{
    assert_int_equal(pipe(pipeEnds), 0);
    for (int i = 0; i < 5; i++) {
        assert_string_equal(onThread(runLeave, NULL), "left");
        runWith(&breakReads_closure, CAPSTAN_SMALL_INT(0));
    }
    close(pipeEnds[0]);
    close(pipeEnds[1]);
}

#define SIGNALLED(f) { #f, f, setUpSignal, disarmTest, NULL }

int main(void)
{
    const struct CMUnitTest tests[] = {
        ALL(testForkOS), ALL(testForkManyOS), { "testUncaught", testUncaught, setUpUncaught, disarmTest, NULL },
        ONE(testRefused), TWO(testRefused), ONE(testExit), TWO(testExit), ALL(testRunInBound), ALL(testKillBound),
        SIGNALLED(testInterrupt), SIGNALLED(testInterruptHost), SIGNALLED(testTimedCall), SIGNALLED(testInterruptLate),
        SIGNALLED(testInterruptNested), TEST(testHostsHandler), TWO(testNoSignal), SIGNALLED(testExitInCall),
        SIGNALLED(testLeaveInside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

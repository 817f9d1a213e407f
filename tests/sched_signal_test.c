/*
 * Signals: handlers that call in, whatever their thread was doing; interruptible calls, whose signal must not be lost.
 * After GHC's foreignInterruptible and T27113.
 */
#include "sched.h"

#include <errno.h>
#include <poll.h>

/* ---- A handler that calls in ---- */

#if defined(CAPSTAN_TSAN)
/* The first in-call of a thread allocates, and so does one within another.  Where a handler does that here it runs inside raise(), which interrupts nobody's
 * malloc; TSan objects to any. */
const char *__tsan_default_options(void);
__attribute__((used)) const char *__tsan_default_options(void) { return "report_signal_unsafe=0"; }
#endif

static _Atomic int handled, answered, refusedHolds, refusedOtherwise;

CAPSTAN_IO(answer)
{
    return CAPSTAN_SMALL_INT(1);
}
static void callFromHandler(int signal)
{
    int e = errno;
    HaskellObj value = CAPSTAN_POISON;
    Capability *cap = rts_lock();
    if (rts_isDead(cap)) {
        if (rts_getRefusal(cap) == RTS_HOLDS_CAPABILITY) refusedHolds++;
        else refusedOtherwise++;
    }
    rts_evalIO(&cap, &answer_closure, &value);
    if (value == CAPSTAN_SMALL_INT(1)) answered++;
    rts_unlock(cap);
    handled++;
    errno = e;
}
static void listen(int signal, void (*handler)(int))
{
    struct sigaction action = { .sa_handler = handler, .sa_flags = SA_RESTART };
    assert_int_equal(sigaction(signal, &action, NULL), 0);
    handled = answered = refusedHolds = refusedOtherwise = 0;
}
static void *raiseHere(void *unused)
{
    raise(SIGUSR1);
    return NULL;
}
CAPSTAN_IO(raiseUnsafe)
{
    rts_unsafeCall(stack, raiseHere, NULL);
    return CAPSTAN_SMALL_INT(1);
}
CAPSTAN_IO(raiseSafe)
{
    HaskellObj box = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, box);
    rts_safeCall(stack, raiseHere, NULL);
    CHECK(rts_isEmptyMVar(box));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_SMALL_INT(1);
}

static void testHandler(void **state)
{
    listen(SIGUSR1, callFromHandler);
    raise(SIGUSR1); /* no capability: a call like any other */
    assert_int_equal(answered, 1);
    assert_int_equal(run(&raiseSafe_closure), 1);
    assert_int_equal(answered, 2);
    /* Workers block it. */
    assert_int_equal(runInThread(&raiseSafe_closure, NULL), 1);
    assert_int_equal(answered, 2);
    assert_int_equal(heardOtherErrors(), 0);
    /* One is held: refused, and the holder goes on. */
    assert_int_equal(run(&raiseUnsafe_closure), 1);
    assert_int_equal(refusedHolds, 1);
    assert_int_equal(heardError(RTS_HOLDS_CAPABILITY), 1);
    Capability *cap = rts_lock();
    raise(SIGUSR1);
    rts_unlock(cap);
    assert_int_equal(refusedHolds, 2);
    assert_int_equal(handled, 4);
    assert_int_equal(answered, 2);
    assert_int_equal(refusedOtherwise, 0);
    assert_int_equal(callWell(), 42);
    signal(SIGUSR1, SIG_DFL);
}
static void testHandlerWithoutRuntime(void **state)
{
    listen(SIGUSR1, callFromHandler);
    raise(SIGUSR1);
    assert_int_equal(answered, 0);
    assert_int_equal(refusedOtherwise, 1);
    assert_int_equal(handled, 1);
    signal(SIGUSR1, SIG_DFL);
}

/* At any moment of managed code that computes: refused each time, and the sum comes out right.  (Not inside the runtime itself, which may hold a
 * lock then: where safepoints have much to do, a handler must not call in.) */
static _Atomic int summing; /* 0: not yet, 1: now, 2: not any more, which the pesterer may be late for */
CAPSTAN_IO(sumUp, n)
{
    HsInt count = rts_intValue(n), sum = 0;
    summing = 1;
    for (HsInt i = 0; i < count; i++) {
        sum += i & 3;
        rts_poll(stack);
    }
    summing = 2;
    return rts_int(stack, sum);
}
static void *pester(void *target)
{
    useconds_t gap = isEmulated() ? 5000 : 50; /* handling one takes longer than that there: nothing else would be done */
    while (summing == 0) {}
    while (summing == 1) {
        if (handled < 100000) pthread_kill(*(pthread_t *)target, SIGUSR1);
        usleep(gap);
    }
    return NULL;
}
static void testHandlerAnywhere(void **state)
{
    if (SLOW_BUILD) skip();
    pthread_t me = pthread_self();
    HsInt n = many(20000000) / 4 * 4;
    listen(SIGUSR1, callFromHandler);
    summing = 0;
    pthread_t pesterer = spawn(pester, &me);
    assert_int_equal(runWith(&sumUp_closure, CAPSTAN_SMALL_INT(n)), n / 4 * 6);
    joinThread(pesterer);
    assert_in_range(answered, 0, 1); /* the last signal may have been on its way when the sum was ready */
    signal(SIGUSR1, SIG_DFL);
}

/* ---- Interruptible calls ---- */

static int idlePipe[2];
static _Atomic int callBegun, callErrno, callReturned, patience;

static void *readIdle(void *unused)
{
    char c;
    callBegun = 1;
    errno = 0;
    ssize_t n = read(idlePipe[0], &c, 1);
    callErrno = n < 0 ? errno : 0;
    callReturned++;
    return NULL;
}
static void *pollIdle(void *unused)
{
    struct pollfd fd = { idlePipe[0], POLLIN, 0 };
    callBegun = 1;
    callErrno = poll(&fd, 1, -1) < 0 ? errno : 0;
    callReturned++;
    return NULL;
}
static void *sleepIdle(void *unused)
{
    struct timespec hour = { 3600, 0 };
    callBegun = 1;
    callErrno = nanosleep(&hour, NULL) < 0 ? errno : 0;
    callReturned++;
    return NULL;
}
/* T27113: busy when the first signal comes, which is lost on it; a later one finds it in the system call. */
static void *readLate(void *unused)
{
    callBegun = 1;
    uint64_t until = nowMs() + 60;
    while (nowMs() < until) {}
    return readIdle(NULL);
}
/* Ignores a few. */
static void *readStubbornly(void *unused)
{
    for (patience = 5; patience > 0; patience--) readIdle(NULL);
    return NULL;
}

typedef void *OutCall(void *);
static OutCall *const outCalls[] = { readIdle, pollIdle, sleepIdle, readLate, readStubbornly };
enum { OUT_CALLS = sizeof outCalls / sizeof *outCalls };

static HaskellObj callOut(Stack *stack, void *fn)
{
    rts_interruptibleCall(stack, *(OutCall **)fn, NULL);
    CHECK(!"the exception comes when the call is over");
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(callAndTell, which, done)
{
    OutCall *fn = outCalls[rts_intValue(which)];
    HaskellObj result = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, done, result);
    bool ok = rts_try(stack, callOut, &fn, &result);
    rts_putMVar(stack, done, rts_int(stack, !ok && result == &capstan_ThreadKilled_closure));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(breakOff, which)
{
    HaskellObj done = rts_mkMVar(stack->cap), id = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, done, id);
    callBegun = 0;
    id = FORK(stack, callAndTell, which, done);
    while (!callBegun) rts_threadDelay(stack, 200);
    uint64_t began = nowMs();
    rts_killThread(stack, id);
    CHECK(nowMs() - began < 10000);
    CHECK(callErrno == EINTR);
    HaskellObj result = rts_takeMVar(stack, done);
    CAPSTAN_UNROOT(stack);
    return result;
}

/* Of a bound thread. */
static HsStablePtr nameBox;
CAPSTAN_IO(boundCall, which)
{
    OutCall *fn = outCalls[rts_intValue(which)];
    HaskellObj result = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, result);
    rts_putMVar(stack, (HaskellObj)deRefStablePtr(nameBox), rts_myThreadId(stack));
    bool ok = rts_try(stack, callOut, &fn, &result);
    CHECK(!ok && result == &capstan_ThreadKilled_closure);
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, ok);
}
static void *callBound(void *which)
{
    sigset_t before, after;
    bool same = true;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    SchedulerStatus status = runStatus(&boundCall_closure, CAPSTAN_SMALL_INT((HsInt)(intptr_t)which), NULL, NULL, 0);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    for (int i = 1; i < SIGRTMAX; i++) same &= sigismember(&before, i) == sigismember(&after, i);
    CHECK(same);
    return (void *)(intptr_t)status;
}
CAPSTAN_IO(makeName)
{
    nameBox = getStablePtr((StgPtr)rts_mkMVar(stack->cap));
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(breakOffBound)
{
    HaskellObj id = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, id);
    id = rts_takeMVar(stack, (HaskellObj)deRefStablePtr(nameBox));
    while (!callBegun) rts_threadDelay(stack, 200);
    rts_killThread(stack, id);
    CHECK(callErrno == EINTR);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_SMALL_INT(1);
}

static int setUpInterrupts(void **state, unsigned capabilities)
{
    RtsConfig config = schedConfig(capabilities);
    config.interrupt_signal = SIGUSR2;
    return pipe(idlePipe) == 0 ? setUpWith(state, &config) : -1;
}
static int setUpInterruptsOne(void **state) { return setUpInterrupts(state, 1); }
static int setUpInterruptsTwo(void **state) { return setUpInterrupts(state, 2); }
static int tearDownInterrupts(void **state)
{
    close(idlePipe[0]);
    close(idlePipe[1]);
    return disarmTest(state);
}
#define INTERRUPTS(f) \
    { #f, f, setUpInterruptsOne, tearDownInterrupts, NULL }, { #f " on two", f, setUpInterruptsTwo, tearDownInterrupts, NULL }

static void testInterruptible(void **state)
{
    for (int which = 0; which < OUT_CALLS; which++) {
        assert_int_equal(runWith(&breakOff_closure, CAPSTAN_SMALL_INT(which)), 1);
        assert_int_equal(runInThread(&breakOff_closure, CAPSTAN_SMALL_INT(which)), 1);
    }
}
static void testInterruptibleBound(void **state)
{
    run(&makeName_closure);
    for (int which = 0; which < OUT_CALLS; which++) {
        callBegun = 0;
        pthread_t caller = spawn(callBound, (void *)(intptr_t)which);
        if (which % 2 == 0) run(&breakOffBound_closure);
        else runInThread(&breakOffBound_closure, NULL);
        assert_int_equal((intptr_t)joinThread(caller), Success);
    }
    hs_free_stable_ptr(nameBox);
}

/* No signal comes after the call is over, and none to calls that are not interruptible. */
static _Atomic int disturbed;
static void *sleepUndisturbed(void *unused)
{
    struct timespec while_ = { 0, 40000000 };
    disturbed += nanosleep(&while_, NULL) != 0;
    return NULL;
}
static HaskellObj sleepSafely(Stack *stack, void *unused)
{
    rts_safeCall(stack, sleepUndisturbed, NULL);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(callThenSleep, done)
{
    OutCall *fn = readIdle;
    HaskellObj result = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, done, result);
    CHECK(!rts_try(stack, callOut, &fn, &result));
    CHECK(rts_try(stack, sleepSafely, NULL, &result));
    rts_putMVar(stack, done, CAPSTAN_UNIT);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(breakThenSleep)
{
    HaskellObj done = rts_mkMVar(stack->cap), id = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, done, id);
    callBegun = 0;
    id = FORK(stack, callThenSleep, done);
    while (!callBegun) rts_threadDelay(stack, 200);
    rts_killThread(stack, id);
    rts_takeMVar(stack, done);
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, disturbed);
}
static void testUndisturbed(void **state)
{
    disturbed = 0;
    for (int i = 0; i < (SLOW_BUILD ? 2 : 10); i++) assert_int_equal(run(&breakThenSleep_closure), 0);
    assert_int_equal(runInThread(&breakThenSleep_closure, NULL), 0);
}

/* Uninterruptible: the call is left in peace, though somebody throws. */
static _Atomic int mayEnd;
static void *readForAWhile(void *unused)
{
    struct pollfd fd = { idlePipe[0], POLLIN, 0 };
    callErrno = 0;
    callBegun = 1;
    while (!mayEnd)
        if (poll(&fd, 1, 10) < 0) callErrno = errno;
    return NULL;
}
static HaskellObj callInPeace(Stack *stack, void *unused)
{
    rts_interruptibleCall(stack, readForAWhile, NULL);
    return CAPSTAN_UNIT;
}
static HaskellObj callUninterruptibly(Stack *stack, void *unused)
{
    return rts_withMask(stack, RtsMaskedUninterruptible, callInPeace, NULL);
}
CAPSTAN_IO(callMasked, done)
{
    HaskellObj result = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, done, result);
    bool ok = rts_try(stack, callUninterruptibly, NULL, &result);
    rts_putMVar(stack, done, rts_int(stack, !ok && result == &capstan_ThreadKilled_closure && callErrno == 0));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(breakMasked)
{
    HaskellObj done = rts_mkMVar(stack->cap), id = CAPSTAN_UNIT, killer = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, done, id, killer);
    callBegun = mayEnd = 0;
    id = FORK(stack, callMasked, done);
    while (!callBegun) rts_threadDelay(stack, 200);
    killer = FORK(stack, capstan_killThread, id);
    CHECK(awaitStatus(stack, &killer, ThreadBlockedOnThrowTo));
    rts_threadDelay(stack, 50000);
    mayEnd = 1;
    HaskellObj result = rts_takeMVar(stack, done);
    CAPSTAN_UNROOT(stack);
    return result;
}
static void testMasked(void **state)
{
    assert_int_equal(run(&breakMasked_closure), 1);
    assert_int_equal(runInThread(&breakMasked_closure, NULL), 1);
}

/* Between two runtimes the host has put the signal back to its default, which would end the process. */
static void testInterruptAnew(void **state)
{
    for (int round = 0; round < 3; round++) {
        assert_int_equal(runWith(&breakOff_closure, CAPSTAN_SMALL_INT(0)), 1);
        hs_exit();
        signal(SIGUSR2, SIG_DFL);
        RtsConfig config = schedConfig(2);
        config.interrupt_signal = SIGUSR2;
        assert_int_equal(rts_start(&config, NULL, 0), RTS_OK);
    }
    assert_int_equal(runInThread(&breakOff_closure, CAPSTAN_SMALL_INT(0)), 1);
    struct sigaction action;
    assert_int_equal(sigaction(SIGUSR2, NULL, &action), 0);
    assert_true(action.sa_handler != SIG_DFL);
}

/* Many at once. */
CAPSTAN_IO(breakMany, n)
{
    size_t count = (size_t)rts_intValue(n);
    HsInt killed = 0;
    HaskellObj done = rts_mkMVar(stack->cap), ids = rts_mkArray(stack->cap, count, CAPSTAN_UNIT), id = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, done, ids, id);
    for (size_t i = 0; i < count; i++) {
        id = FORK(stack, callAndTell, CAPSTAN_SMALL_INT((HsInt)(i % 4)), done);
        rts_setElem(stack->cap, ids, i, id);
    }
    for (size_t i = 0; i < count; i++) {
        /* Not before it is in its handler's reach. */
        id = rts_getElem(ids, i);
        CHECK(awaitStatus(stack, &id, ThreadBlockedOnCCall));
        rts_killThread(stack, id);
    }
    for (size_t i = 0; i < count; i++) killed += rts_intValue(rts_takeMVar(stack, done));
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, killed);
}
static void testInterruptMany(void **state)
{
    HsInt n = SLOW_BUILD ? 6 : 40;
    assert_int_equal(runWith(&breakMany_closure, CAPSTAN_SMALL_INT(n)), n);
    assert_int_equal(runInThread(&breakMany_closure, CAPSTAN_SMALL_INT(n)), n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ALL(testHandler), { "testHandlerWithoutRuntime", testHandlerWithoutRuntime, armTest, disarmTest, NULL }, ONE(testHandlerAnywhere),
        INTERRUPTS(testInterruptible), INTERRUPTS(testInterruptibleBound), INTERRUPTS(testUndisturbed), INTERRUPTS(testMasked), INTERRUPTS(testInterruptAnew),
        INTERRUPTS(testInterruptMany),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * C that ends its OS thread (pthread_exit, cancellation) inside an unbound thread: what runs there is killed, the capability is free again, nobody waits for ever,
 * and exit finds nothing missing.
 */
#include "sched.h"

/* ---- On workers ---- */

static void *leave(void *unused) { pthread_exit(NULL); }

CAPSTAN_IO(leaveUnsafely)
{
    rts_unsafeCall(stack, leave, NULL);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(leaveSafely)
{
    rts_safeCall(stack, leave, NULL);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(leaveInterruptibly)
{
    rts_interruptibleCall(stack, leave, NULL);
    return CAPSTAN_UNIT;
}
static void *callAndLeave(void *io)
{
    Capability *cap = rts_lock();
    rts_evalIO(&cap, (HaskellObj)io, NULL);
    rts_unlock(cap);
    return NULL;
}
/* From an in-call inside a safe call, and from one inside that. */
CAPSTAN_IO(leaveBelow)
{
    rts_safeCall(stack, callAndLeave, &leaveUnsafely_closure);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(leaveFarBelow)
{
    rts_safeCall(stack, callAndLeave, &leaveBelow_closure);
    return CAPSTAN_UNIT;
}
/* There it hosts who leaves; if that one finds itself on a worker it says so, for the next one to be tried. */
static void *leaveIfHosted(void *host)
{
    if (pthread_equal(pthread_self(), *(pthread_t *)host)) pthread_exit(NULL);
    return NULL;
}
CAPSTAN_IO(leaveHosted, host, box)
{
    rts_unsafeCall(stack, leaveIfHosted, rts_getPtr(host));
    rts_putMVar(stack, box, CAPSTAN_UNIT);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(hostLeaver)
{
    HaskellObj box = rts_mkMVar(stack->cap);
    pthread_t here = pthread_self();
    CAPSTAN_ROOTS(stack, box);
    for (int i = 0; i < 100000; i++) {
        FORK(stack, leaveHosted, rts_mkPtr(stack->cap, &here), box);
        rts_takeMVar(stack, box);
    }
    CHECK(!"it never hosted");
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(hostBelow)
{
    rts_safeCall(stack, callAndLeave, &hostLeaver_closure);
    return CAPSTAN_UNIT;
}

/* TSan's pthread_exit must not be called on a fiber, which the stacks of unbound threads are for it. */
#ifdef MISUSE_TSAN
#define ON_FIBERS(...)
#else
#define ON_FIBERS(...) __VA_ARGS__
#endif

static HaskellObj const leavers[] = { &leaveSafely_closure, &leaveInterruptibly_closure, &leaveBelow_closure, &leaveFarBelow_closure,
                                      ON_FIBERS(&leaveUnsafely_closure, &hostBelow_closure) };
enum { LEAVERS = sizeof leavers / sizeof *leavers };

/* A value whose first evaluator leaves. */
static _Atomic int starts;
CAPSTAN_FUN(abandonedValue, io)
{
    if (starts++ == 0) rts_runIO(stack, io);
    return CAPSTAN_SMALL_INT(7);
}
CAPSTAN_IO(forceIt, thunk)
{
    return rts_force(stack, thunk);
}
CAPSTAN_IO(forceInto, thunk, box)
{
    CAPSTAN_ROOTS(stack, box);
    HaskellObj value = rts_force(stack, thunk);
    rts_putMVar(stack, box, value);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
static HaskellObj forceMasked(Stack *stack, void *thunk) { return rts_force(stack, *(HaskellObj *)thunk); }
CAPSTAN_IO(forceDeaf, thunk)
{
    CAPSTAN_ROOTS(stack, thunk);
    HaskellObj value = rts_withMask(stack, RtsMaskedUninterruptible, forceMasked, &thunk);
    CAPSTAN_UNROOT(stack);
    return value;
}
CAPSTAN_IO(killIt, id, box)
{
    CAPSTAN_ROOTS(stack, box);
    rts_killThread(stack, id);
    rts_putMVar(stack, box, CAPSTAN_UNIT);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* What a thread that forces it into box has got, or NULL: all of them have ended, and nothing is left in the box. */
static HaskellObj nextFrom(Stack *stack, HaskellObj *box, const HaskellObj *ids, int count)
{
    for (;;) {
        bool over = true;
        for (int i = 0; i < count; i++) over &= hasEnded(ids[i]);
        HaskellObj got;
        if (rts_tryTakeMVar(stack, *box, &got)) return got;
        if (over) return NULL;
        rts_threadDelay(stack, 200);
    }
}

/* Threads wait for its value, and for it to hear of an exception; all of them go on but the first evaluator, which may be any of those that force it. */
CAPSTAN_IO(leaveOthersWaiting, which)
{
    enum { DEAF, INTO, KILLER = INTO + 3, THREADS };
    HaskellObj thunk = CAPSTAN_UNIT, box = rts_mkMVar(stack->cap), ids[THREADS];
    for (int i = 0; i < THREADS; i++) ids[i] = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, thunk, box, ids[0], ids[1], ids[2], ids[3], ids[4]);
    starts = 0;
    thunk = APPLY(stack->cap, abandonedValue, leavers[rts_intValue(which)]);
    ids[DEAF] = FORK(stack, forceDeaf, thunk);
    for (int i = INTO; i < KILLER; i++) ids[i] = FORK(stack, forceInto, thunk, box);
    ids[KILLER] = FORK(stack, killIt, ids[DEAF], box);
    int answers = 0;
    for (HaskellObj got; (got = nextFrom(stack, &box, ids, THREADS)) != NULL; answers++) CHECK(got == CAPSTAN_SMALL_INT(7) || got == CAPSTAN_UNIT);
    int died = 0;
    for (int i = INTO; i < KILLER; i++) died += rts_threadStatus(ids[i]) == ThreadDied;
    CHECK(died == 0 ? rts_threadStatus(ids[DEAF]) == ThreadDied : died == 1);
    CHECK(answers == 4 - died);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(seeThemDie, which)
{
    HaskellObj id = CAPSTAN_UNIT;
    HsInt way = rts_intValue(which);
    CAPSTAN_ROOTS(stack, id);
    for (int i = 0; i < 5; i++) {
        id = rts_fork(stack, leavers[way]);
        awaitEnd(stack, &id);
        CHECK(rts_threadStatus(id) == ThreadDied);
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_SMALL_INT(1);
}

static void expectQuiet(unsigned tasks)
{
    RtsThreadCounts counts;
    assert_int_equal(callWell(), 42);
    hs_perform_gc();
    for (int i = 0; i < 5000 && tasksNow() != tasks; i++) sleepMs(1);
    assert_int_equal(tasksNow(), tasks);
    rts_getThreadCounts(&counts);
    for (int i = 0; i < 5000 && counts.stacks_in_use + counts.in_safe_calls + counts.hosts != 0; i++) {
        sleepMs(1);
        rts_getThreadCounts(&counts);
    }
    assert_int_equal(counts.stacks_in_use, 0);
    assert_int_equal(counts.in_safe_calls, 0);
    assert_int_equal(counts.hosts, 0);
    assert_int_equal(failedChecks, 0);
}

static void testWorkers(void **state)
{
    rts_setInCallHosting(false); /* the test's own thread is to stay */
    assert_int_equal(callWell(), 42);
    unsigned tasks = tasksNow();
    for (int which = 0; which < LEAVERS; which++)
        for (int i = 0; i < (SLOW_BUILD ? 2 : 10); i++) {
            assert_int_equal(runWith(&seeThemDie_closure, CAPSTAN_SMALL_INT(which)), 1);
            runWith(&leaveOthersWaiting_closure, CAPSTAN_SMALL_INT(which));
        }
    expectQuiet(tasks);
    rts_setInCallHosting(true);
}

/* ---- On the OS thread of a host ---- */

enum { WAIT_TAKE, WAIT_PUT, WAIT_READ, WAIT_DELAY, WAIT_THROW, WAIT_THUNK, WAIT_PIPE, WAITS };

static pthread_t hostThread;
static _Atomic int cancellable;
static HsStablePtr keptBox;
static int pipeEnds[2];

static HaskellObj kept(void) { return (HaskellObj)deRefStablePtr(keptBox); }

/* Until somebody cancels it, or at once. */
static void *leaveHost(void *cancelled)
{
    CHECK(pthread_equal(pthread_self(), hostThread));
    if (cancelled == NULL) pthread_exit("left");
    cancellable = 1;
    for (;;) pauseCancellably();
    return NULL;
}
CAPSTAN_IO(leaveHostIn, cancelled)
{
    rts_unsafeCall(stack, leaveHost, cancelled == CAPSTAN_SMALL_INT(0) ? NULL : &cancellable);
    return CAPSTAN_UNIT;
}
/* A thread that nothing reaches until the box is filled, and a value that it evaluates. */
CAPSTAN_FUN(valueOfBox, box) { return rts_readMVar(stack, box); }
CAPSTAN_IO(waitAsHost, how, cancelled)
{
    HaskellObj box = kept(), other = CAPSTAN_UNIT, id = CAPSTAN_UNIT;
    HsInt wait = rts_intValue(how);
    CAPSTAN_ROOTS(stack, box, other, id, cancelled);
    if (wait == WAIT_PUT) CHECK(rts_tryPutMVar(stack, box, CAPSTAN_SMALL_INT(1)));
    if (wait == WAIT_THROW || wait == WAIT_THUNK) {
        other = APPLY(stack->cap, valueOfBox, box);
        id = FORK(stack, forceDeaf, other);
        CHECK(awaitStatus(stack, &id, ThreadBlockedOnMVarRead));
    }
    FORK(stack, leaveHostIn, cancelled);
    switch (wait) {
    case WAIT_TAKE: rts_takeMVar(stack, box); break;
    case WAIT_PUT: rts_putMVar(stack, box, CAPSTAN_SMALL_INT(2)); break;
    case WAIT_READ: rts_readMVar(stack, box); break;
    case WAIT_DELAY: rts_threadDelay(stack, 1000000000); break;
    case WAIT_THROW: rts_killThread(stack, id); break;
    case WAIT_THUNK: rts_force(stack, other); break;
    default: rts_threadWaitRead(stack, pipeEnds[0]);
    }
    CHECK(!"it is gone");
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
typedef struct {
    int wait;
    bool cancelled;
} Host;
static void *runHost(void *arg)
{
    Host *host = arg;
    hostThread = pthread_self();
    Capability *cap = rts_lock();
    rts_evalIO(&cap, APPLY(cap, waitAsHost, CAPSTAN_SMALL_INT(host->wait), CAPSTAN_SMALL_INT(host->cancelled)), NULL);
    rts_unlock(cap);
    return NULL;
}

CAPSTAN_IO(makeKept)
{
    keptBox = getStablePtr((StgPtr)rts_mkMVar(stack->cap));
    return CAPSTAN_UNIT;
}
/* What is put now is there for whoever comes; and who waited would have taken it. */
CAPSTAN_IO(fillKept)
{
    rts_tryPutMVar(stack, kept(), CAPSTAN_SMALL_INT(1));
    for (int i = 0; i < 3; i++) rts_yield(stack);
    rts_threadDelay(stack, 2000);
    HaskellObj value;
    CHECK(rts_tryReadMVar(stack, kept(), &value) && value == CAPSTAN_SMALL_INT(1));
    rts_takeMVar(stack, kept());
    CHECK(rts_isEmptyMVar(kept()));
    return CAPSTAN_SMALL_INT(1);
}

static void leaveAsHost(int wait, bool cancelled)
{
    Host host = { wait, cancelled };
    run(&makeKept_closure);
    assert_int_equal(pipe(pipeEnds), 0);
    unsigned tasks = tasksNow();
    cancellable = 0;
    pthread_t thread = spawn(runHost, &host);
    if (cancelled) {
        waitFor(&cancellable);
        pthread_cancel(thread);
    }
    void *result = joinThread(thread);
    if (cancelled) assert_true(result == PTHREAD_CANCELED);
    else assert_string_equal(result, "left");
    assert_int_equal(write(pipeEnds[1], "x", 1), 1);
    assert_int_equal(run(&fillKept_closure), 1);
    expectQuiet(tasks);
    freeStablePtr(keptBox);
    close(pipeEnds[0]);
    close(pipeEnds[1]);
}
__attribute__((unused)) static void testHosts(void **state)
{
    assert_int_equal(callWell(), 42);
    for (int round = 0; round < 3; round++)
        for (int wait = 0; wait < WAITS; wait++) leaveAsHost(wait, false);
}
__attribute__((unused)) static void testCancelledHosts(void **state)
{
    assert_int_equal(callWell(), 42);
    for (int wait = 0; wait < WAITS; wait++) leaveAsHost(wait, true);
}

/* ---- OS threads of rts_forkOS ---- */

CAPSTAN_IO(forkLeavers)
{
    HaskellObj id = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, id);
    HaskellObj const ways[] = { &leaveUnsafely_closure, &leaveSafely_closure, &leaveFarBelow_closure, ON_FIBERS(&hostLeaver_closure) };
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        id = rts_forkOS(stack, ways[i]);
        awaitEnd(stack, &id);
        CHECK(rts_threadStatus(id) == ThreadDied);
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_SMALL_INT(1);
}
static void testForkOS(void **state)
{
    rts_setInCallHosting(false);
    assert_int_equal(callWell(), 42);
    unsigned tasks = tasksNow();
    for (int i = 0; i < 3; i++) assert_int_equal(run(&forkLeavers_closure), 1);
    expectQuiet(tasks);
    rts_setInCallHosting(true);
}

/* ---- Submissions ---- */

static _Atomic int doneKilled, doneOtherwise;
static void noteDone(void *ctx, const RtsResult *result)
{
    if (result->status == Killed && strstr(result->text, "OS thread") != NULL) doneKilled++;
    else doneOtherwise++;
}
static void testSubmissions(void **state)
{
    doneKilled = doneOtherwise = 0;
    for (int which = 0; which < LEAVERS; which++) {
        RtsSubmission submission = RTS_SUBMISSION_INIT;
        submission.function = leavers[which];
        submission.done = noteDone;
        assert_int_equal(rts_submit(&submission, NULL), RTS_OK);
        for (int i = 0; i < 20000 && doneKilled + doneOtherwise <= which; i++) sleepMs(1);
        assert_int_equal(doneKilled, which + 1);
    }
    assert_int_equal(doneOtherwise, 0);
    expectQuiet(tasksNow());
}

/* ---- Exit comes while one has left, or is about to ---- */

static _Atomic int late;
static void *leaveLate(void *unused)
{
    late = 1;
    sleepMs(30);
    pthread_exit(NULL);
}
CAPSTAN_IO(leaveLateSafely)
{
    rts_safeCall(stack, leaveLate, NULL);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(forkLate)
{
    late = 0;
    FORK(stack, leaveLateSafely);
    while (!late) rts_threadDelay(stack, 200);
    return CAPSTAN_UNIT;
}
static void testExit(void **state)
{
    for (int i = 0; i < 3; i++) {
        rts_setInCallHosting(false);
        run(&forkLate_closure);
        hs_exit();
        if (i == 1) sleepMs(60); /* else it comes back to the next runtime */
        setUpTwo(state);
        assert_int_equal(callWell(), 42);
        sleepMs(60);
    }
    rts_setInCallHosting(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ALL(testWorkers), ON_FIBERS(ONE(testHosts), ONE(testCancelledHosts),) ALL(testForkOS), ALL(testSubmissions), TWO(testExit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

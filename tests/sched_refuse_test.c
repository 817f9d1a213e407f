/*
 * The system refuses memory, addresses or OS threads: an exception for who asked, nothing lost, and it works again afterwards.
 */
#include "sched.h"

#include "os/memory.h"
#include "timekeeper.h"

#include <sys/resource.h>
#include <sys/wait.h>

/* ---- What became of the threads of a case ---- */

static _Atomic HsInt ran, overflowed, diedOtherwise, refused;

static void noteDeath(void *ctx, StgWord64 threadId, const char *label, HaskellObj exception, const char *text)
{
    if (exception == &capstan_HeapOverflow_closure) overflowed++;
    else diedOtherwise++;
}
static RtsConfig refusalConfig(unsigned capabilities)
{
    RtsConfig config = schedConfig(capabilities);
    config.uncaughtHook = noteDeath;
    config.verify_heap = false; /* takes memory itself */
    ran = overflowed = diedOtherwise = refused = 0;
    return config;
}
static int setUpRefusal(void **state)
{
    RtsConfig config = refusalConfig(1);
    return setUpWith(state, &config);
}
static int setUpRefusalOnTwo(void **state)
{
    RtsConfig config = refusalConfig(2);
    return setUpWith(state, &config);
}
static int tearDownRefusal(void **state)
{
    osFailAllAfter(0);
    return disarmTest(state);
}
#define REFUSAL(f) { #f, f, setUpRefusal, tearDownRefusal, NULL }, { #f " on two", f, setUpRefusalOnTwo, tearDownRefusal, NULL }

CAPSTAN_IO(runOnce)
{
    ran++;
    return CAPSTAN_UNIT;
}
static HsStablePtr gate;
static _Atomic HsInt parked;
CAPSTAN_IO(waitAtGate)
{
    parked++;
    rts_readMVar(stack, (HaskellObj)deRefStablePtr(gate));
    ran++;
    return CAPSTAN_UNIT;
}
static HaskellObj forkBody(Stack *stack, void *io) { return rts_fork(stack, *(HaskellObj *)io); }

/* Forks n times; counts what was refused. */
static void forkMany(Stack *stack, HaskellObj io, HsInt n)
{
    HaskellObj result;
    for (HsInt i = 0; i < n; i++) {
        if (rts_try(stack, forkBody, &io, &result)) continue;
        CHECK(result == &capstan_HeapOverflow_closure);
        refused++;
    }
}
static void awaitAll(HsInt n)
{
    for (int i = 0; i < 20000 && ran + overflowed + diedOtherwise + refused < n; i++) sleepMs(1);
    assert_int_equal(ran + overflowed + diedOtherwise + refused, n);
    assert_int_equal(diedOtherwise, 0);
}

/* Also where nobody knows how many there are. */
static void awaitEnds(void)
{
    RtsThreadCounts counts = { .threads = 1 };
    for (int i = 0; i < 20000 && (rts_getThreadCounts(&counts), counts.threads != 0); i++) sleepMs(1);
    assert_int_equal(counts.threads, 0);
}

/* ---- Fault injection: the n-th request of memory fails, or all from there on ---- */

static long failAt;
static bool failAll;
CAPSTAN_IO(forkUnderFaults)
{
    if (failAll) osFailAllAfter(failAt);
    else osFailAfter(failAt);
    forkMany(stack, &runOnce_closure, 300);
    rts_yield(stack);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(forkAgain)
{
    forkMany(stack, &runOnce_closure, 300);
    return CAPSTAN_UNIT;
}
static void testFaults(void **state)
{
    for (failAt = 1; failAt < 40; failAt += 1 + failAt / 8)
        for (int all = 0; all < 2; all++) {
            failAll = all;
            ran = overflowed = refused = 0;
            /* Where no memory is for its own needs the in-call itself may end. */
            SchedulerStatus status = runStatus(&forkUnderFaults_closure, NULL, NULL, NULL, 0);
            osFailAllAfter(0);
            assert_true(status == Success || status == HeapExhausted);
            if (status == Success) awaitAll(300);
            awaitEnds();
            ran = overflowed = refused = 0;
            run(&forkAgain_closure);
            awaitAll(300);
            assert_int_equal(ran, 300);
        }
}

/* The same while many wait, so that each one needs a record and a stack of its own. */
CAPSTAN_IO(openGate)
{
    rts_putMVar(stack, (HaskellObj)deRefStablePtr(gate), CAPSTAN_UNIT);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(parkUnderFaults)
{
    gate = getStablePtr((StgPtr)rts_mkMVar(stack->cap));
    forkMany(stack, &waitAtGate_closure, 500);
    while (parked < 500) rts_threadDelay(stack, 100);
    osFailAllAfter(1);
    forkMany(stack, &waitAtGate_closure, 500);
    for (int i = 0; i < 3; i++) rts_yield(stack);
    return CAPSTAN_UNIT;
}
static void testParkedUnderFaults(void **state)
{
    for (int round = 0; round < 3; round++) {
        ran = overflowed = refused = parked = 0;
        run(&parkUnderFaults_closure);
        sleepMs(5);
        osFailAllAfter(0);
        run(&openGate_closure);
        awaitAll(1000);
        assert_true(ran >= 500);
        hs_free_stable_ptr(gate);
        ran = overflowed = refused = 0;
        run(&forkAgain_closure);
        awaitAll(300);
        assert_int_equal(ran, 300);
    }
}

/* ---- No addresses left: in a process of its own, with a limit ---- */

static size_t addressSpace(void)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL || fscanf(file, "%lu", &pages) != 1) pages = 0;
    if (file != NULL) fclose(file);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}
static void limitAddresses(size_t more)
{
    struct rlimit limit;
    getrlimit(RLIMIT_AS, &limit);
    limit.rlim_cur = more == 0 ? limit.rlim_max : addressSpace() + more;
    setrlimit(RLIMIT_AS, &limit);
}
static HsInt parkCount;
CAPSTAN_IO(parkBeyond)
{
    gate = getStablePtr((StgPtr)rts_mkMVar(stack->cap));
    forkMany(stack, &waitAtGate_closure, parkCount);
    for (int i = 0; i < 5; i++) rts_yield(stack);
    return CAPSTAN_UNIT;
}

/* In a child: cmocka's own answer would be lost there.  What is not as it should be gives the line as status. */
#define REQUIRE(x) do if (!(x)) { fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #x); _exit(1); } while (0)

static void requireAll(HsInt n)
{
    for (int i = 0; i < 20000 && ran + overflowed + diedOtherwise + refused < n; i++) sleepMs(1);
    REQUIRE(ran + overflowed + diedOtherwise + refused == n && diedOtherwise == 0);
}
static void parkUnderLimit(size_t stackBytes, size_t room)
{
    RtsConfig config = refusalConfig(1);
    config.stack_bytes = stackBytes;
    config.nursery_bytes = 0;
    REQUIRE(rts_start(&config, NULL, 0) == RTS_OK);
    REQUIRE(callWell() == 42);
    for (int round = 0; round < 3; round++) {
        ran = overflowed = refused = 0;
        limitAddresses(room);
        REQUIRE(runStatus(&parkBeyond_closure, NULL, NULL, NULL, 0) == Success);
        for (int i = 0; i < 5000 && overflowed + refused == 0; i++) sleepMs(1);
        REQUIRE(overflowed + refused > 0);
        REQUIRE(callWell() == 42);
        limitAddresses(0);
        REQUIRE(runStatus(&openGate_closure, NULL, NULL, NULL, 0) == Success);
        requireAll(parkCount);
        hs_free_stable_ptr(gate);
        ran = overflowed = refused = 0;
        REQUIRE(runStatus(&forkAgain_closure, NULL, NULL, NULL, 0) == Success);
        requireAll(300);
        REQUIRE(ran == 300);
        parkCount *= 2; /* the pool has kept what it got */
    }
    hs_exit();
    _exit(failedChecks == 0 ? 0 : 1);
}
static void inChild(size_t stackBytes, size_t room)
{
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(TEST_SECONDS);
        parkUnderLimit(stackBytes, room);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}
static void testNoAddresses(void **state)
{
#if defined(MISUSE_ASAN) || defined(MISUSE_TSAN)
    skip(); /* their shadows need more addresses than any limit leaves */
#endif
    SKIP_EMULATED(LIMITS_NO_ADDRESSES);
    parkCount = 2000;
    inChild(256 << 10, (size_t)128 << 20);
    /* Stacks that are huge. */
    parkCount = 200;
    inChild((size_t)1 << 30, (size_t)20 << 30);
}

/* ---- No OS threads: who is there does the work; later there are more ---- */

static HsStablePtr doneBox;
CAPSTAN_IO(makeDone)
{
    doneBox = getStablePtr((StgPtr)rts_mkMVar(stack->cap));
    return CAPSTAN_UNIT;
}
static void *nap(void *unused)
{
    usleep(200);
    return NULL;
}
CAPSTAN_IO(napAndPut)
{
    rts_safeCall(stack, nap, NULL);
    rts_putMVar(stack, (HaskellObj)deRefStablePtr(doneBox), CAPSTAN_UNIT);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(justPut)
{
    rts_putMVar(stack, (HaskellObj)deRefStablePtr(doneBox), CAPSTAN_UNIT);
    return CAPSTAN_UNIT;
}
/* Hosting needs no worker. */
CAPSTAN_IO(hostWithoutWorkers)
{
    osFailAllAfter(1);
    for (int i = 0; i < 50; i++) FORK(stack, justPut);
    for (int i = 0; i < 50; i++) rts_takeMVar(stack, (HaskellObj)deRefStablePtr(doneBox));
    osFailAllAfter(0);
    return CAPSTAN_SMALL_INT(1);
}
/* Nor where a thread stands in front that does: that one waits until there is a worker. */
static HsStablePtr nappedBox;
CAPSTAN_IO(makeNapped)
{
    nappedBox = getStablePtr((StgPtr)rts_mkMVar(stack->cap));
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(napAndTell)
{
    rts_safeCall(stack, nap, NULL);
    rts_putMVar(stack, (HaskellObj)deRefStablePtr(nappedBox), CAPSTAN_UNIT);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(yieldAndPut)
{
    for (int i = 0; i < 20; i++) rts_yield(stack);
    rts_putMVar(stack, (HaskellObj)deRefStablePtr(doneBox), CAPSTAN_UNIT);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(hostPastNapper)
{
    osFailAllAfter(1);
    for (int i = 0; i < 40; i++) {
        if (i % 20 == 0) FORK(stack, napAndTell);
        FORK(stack, yieldAndPut);
    }
    for (int i = 0; i < 40; i++) rts_takeMVar(stack, (HaskellObj)deRefStablePtr(doneBox));
    HsInt napped = !rts_isEmptyMVar((HaskellObj)deRefStablePtr(nappedBox));
    osFailAllAfter(0);
    for (int i = 0; i < 2; i++) rts_takeMVar(stack, (HaskellObj)deRefStablePtr(nappedBox));
    return rts_int(stack, napped);
}
/* And where a host sleeps already when something is posted that it can do. */
static void *putFromOutside(void *unused)
{
    sleepMs(20);
    hs_try_putmvar(0, nappedBox); /* wakes a thread, which wakes the host */
    return NULL;
}
CAPSTAN_IO(passOn)
{
    rts_takeMVar(stack, (HaskellObj)deRefStablePtr(nappedBox));
    rts_putMVar(stack, (HaskellObj)deRefStablePtr(doneBox), CAPSTAN_SMALL_INT(1));
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(hostInSleep)
{
    FORK(stack, passOn);
    return rts_takeMVar(stack, (HaskellObj)deRefStablePtr(doneBox));
}

/* These need one; that it was refused is forgotten soon. */
CAPSTAN_IO(forkNapping)
{
    for (int i = 0; i < 20; i++) FORK(stack, napAndPut);
    osFailAllAfter(1);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(takeOne)
{
    return rts_takeMVar(stack, (HaskellObj)deRefStablePtr(doneBox));
}
CAPSTAN_IO(takeTwenty)
{
    for (int i = 0; i < 20; i++) rts_takeMVar(stack, (HaskellObj)deRefStablePtr(doneBox));
    return CAPSTAN_SMALL_INT(1);
}
static int setUpNoWorker(void **state)
{
    RtsConfig config = refusalConfig(1);
    config.max_workers = 1;
    return setUpWith(state, &config);
}
/* The only worker is in a safe call for as long as the host is at work. */
static _Atomic int longCall;
static void *callLong(void *unused)
{
    longCall = 1;
    while (longCall == 1) sleepMs(1);
    return NULL;
}
CAPSTAN_IO(callForLong)
{
    rts_safeCall(stack, callLong, NULL);
    rts_putMVar(stack, (HaskellObj)deRefStablePtr(doneBox), CAPSTAN_UNIT);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(forkLong)
{
    FORK(stack, callForLong);
    while (longCall == 0) rts_threadDelay(stack, 200);
    return CAPSTAN_UNIT;
}
static void testBusyWorker(void **state)
{
    run(&makeDone_closure);
    run(&makeNapped_closure);
    for (int round = 0; round < 3; round++) {
        longCall = 0;
        run(&forkLong_closure);
        for (int i = 0; i < 3; i++) {
            HsStablePtr saved = nappedBox;
            run(&makeNapped_closure);
            pthread_t putter = spawn(putFromOutside, NULL);
            assert_int_equal(run(&hostInSleep_closure), 1);
            joinThread(putter);
            nappedBox = saved;
        }
        longCall = 2;
        run(&takeOne_closure);
    }
    hs_free_stable_ptr(nappedBox);
    hs_free_stable_ptr(doneBox);
}
static void testNoThreads(void **state)
{
    run(&makeDone_closure);
    run(&makeNapped_closure);
#ifndef CAPSTAN_TORTURE
    /* There the in-call changes its capability all the time, and what it leaves behind would need a worker. */
    run(&hostWithoutWorkers_closure);
    /* On two it comes to a nursery that has to ask for memory. */
    for (int i = 0; i < 3 && getNumCapabilities() == 1; i++) run(&hostPastNapper_closure);
#endif
    for (int round = 0; round < 3; round++) {
        run(&forkNapping_closure);
        sleepMs(10);
        osFailAllAfter(0);
        assert_int_equal(run(&takeTwenty_closure), 1);
    }
    hs_free_stable_ptr(nappedBox);
    hs_free_stable_ptr(doneBox);
}

/* What comes while no worker can be had is done when one can, though nobody calls in: time that has passed, what C puts, what it submits. */
static _Atomic int told;
CAPSTAN_IO(tellAfterDelay)
{
    rts_threadDelay(stack, 3000);
    told++;
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(tellAfterPut)
{
    rts_takeMVar(stack, (HaskellObj)deRefStablePtr(nappedBox));
    told++;
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(leaveWaiters)
{
    HaskellObj ids[2] = { CAPSTAN_UNIT, CAPSTAN_UNIT };
    CAPSTAN_ROOTS(stack, ids[0], ids[1]);
    ids[0] = FORK(stack, tellAfterDelay);
    ids[1] = FORK(stack, tellAfterPut);
    /* Until both wait: it may be another capability that runs them. */
    for (int i = 0; i < 2; i++)
        while (rts_threadStatus(ids[i]) == ThreadRunning) rts_yield(stack);
    CAPSTAN_UNROOT(stack);
    osFailAllAfter(1);
    return CAPSTAN_UNIT;
}
static void noteDone(void *ctx, const RtsResult *result) { told += result->status == Success || result->status == HeapExhausted; }
static void expectTold(int n)
{
    osFailAllAfter(0);
    for (int i = 0; i < 20000 && told < n; i++) sleepMs(1);
    assert_int_equal(told, n);
}
static void doNothing(Timer *timer) {}
static void testNobodyCallsIn(void **state)
{
    run(&makeNapped_closure);
    told = 0;
    Timer timer = { .fire = doNothing };
    assert_true(startTimer(&timer, UINT64_MAX)); /* so there is a timekeeper, with room for a timer */
    cancelTimer(&timer);
    run(&leaveWaiters_closure);
    sleepMs(20);
    expectTold(1);
    do { /* its record it gets, unless somebody else asked for memory just then */
        osFailAllAfter(2);
        hs_try_putmvar(0, nappedBox);
    } while (heardError(RTS_NO_MEMORY) != 0);
    sleepMs(5);
    expectTold(2);
}
/* From the n-th on all that memory is needed for is refused.  What was accepted then ends. */
static void testNobodyAwaitsSubmission(void **state)
{
    int accepted = 0, notAccepted = 0;
    hs_exit();
    for (long n = 1; n < 12; n++) {
        RtsConfig config = refusalConfig(1);
        assert_int_equal(rts_start(&config, NULL, 0), RTS_OK); /* has no worker yet */
        RtsSubmission s = RTS_SUBMISSION_INIT;
        s.function = &runOnce_closure;
        s.done = noteDone;
        told = 0;
        osFailAllAfter(n);
        RtsStatus status = rts_submit(&s, NULL);
        sleepMs(5);
        expectTold(status == RTS_OK);
        if (status != RTS_OK) assert_int_equal(status, RTS_NO_MEMORY);
        *(status == RTS_OK ? &accepted : &notAccepted) += 1;
        hs_exit();
    }
    assert_true(accepted > 0 && notAccepted > 0);
}

/* One worker at most: calls wait for each other, and none for ever. */
static int setUpOneWorker(void **state)
{
    RtsConfig config = refusalConfig(2);
    config.max_workers = 1;
    return setUpWith(state, &config);
}
static void testOneWorker(void **state)
{
    RtsThreadCounts counts;
    run(&makeDone_closure);
    for (int round = 0; round < 5; round++) {
        run(&forkNapping_closure);
        osFailAllAfter(0);
        assert_int_equal(run(&takeTwenty_closure), 1);
    }
    rts_getThreadCounts(&counts);
    assert_in_range(counts.workers, 0, 1);
    hs_free_stable_ptr(doneBox);
}

/* ---- Stacks that overflow ---- */

CAPSTAN_FUN(descend, n)
{
    HaskellObj rest = rts_call(stack, &descend_closure, rts_int(stack, rts_intValue(n) + 1));
    return rts_int(stack, rts_intValue(rest) + 1);
}
static HaskellObj descendBody(Stack *stack, void *unused) { return rts_call(stack, &descend_closure, CAPSTAN_SMALL_INT(0)); }
CAPSTAN_IO(overflow)
{
    HaskellObj result;
    bool ok = rts_try(stack, descendBody, NULL, &result);
    return rts_int(stack, !ok && result == &capstan_StackOverflow_closure);
}
CAPSTAN_IO(overflowUncaught)
{
    return rts_call(stack, &descend_closure, CAPSTAN_SMALL_INT(0));
}
CAPSTAN_IO(overflowAll)
{
    HaskellObj id = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, id);
    for (int i = 0; i < 10; i++) {
        id = FORK(stack, overflowUncaught);
        awaitEnd(stack, &id);
        CHECK(rts_threadStatus(id) == ThreadDied);
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_SMALL_INT(1);
}
static void testOverflow(void **state)
{
    for (int i = 0; i < 3; i++) assert_int_equal(runInThread(&overflow_closure, NULL), 1);
    assert_int_equal(run(&overflowAll_closure), 1);
    assert_int_equal(diedOtherwise, 10);
    diedOtherwise = 0;
    run(&forkAgain_closure);
    awaitAll(300);
}

/* ---- A thread's first in-call, where little is left of its stack ---- */

enum { LITTLE_STACK = 256 * 1024, LITTLE_LEFT = 12 * 1024 };

static SchedulerStatus littleStatus;
static char littleText[100];
static __attribute__((noinline)) void callWithLittle(const char *lowest)
{
    volatile char room[1024];
    room[0] = 0;
    if ((const char *)room - lowest > LITTLE_LEFT + 1024) callWithLittle(lowest);
    else littleStatus = runStatus(&overflowUncaught_closure, NULL, NULL, littleText, sizeof littleText);
    room[1] = 0;
}
static void *callDeep(void *unused)
{
    pthread_attr_t attr;
    void *lowest;
    size_t size;
    pthread_getattr_np(pthread_self(), &attr);
    pthread_attr_getstack(&attr, &lowest, &size);
    pthread_attr_destroy(&attr);
    callWithLittle(lowest);
    return NULL;
}
static void testLittleStack(void **state)
{
    if (SLOW_BUILD) skip(); /* their frames are larger */
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    assert_int_equal(pthread_attr_setstacksize(&attr, LITTLE_STACK), 0);
    assert_int_equal(pthread_create(&thread, &attr, callDeep, NULL), 0);
    joinThread(thread);
    pthread_attr_destroy(&attr);
    assert_int_equal(littleStatus, Killed);
    assert_string_equal(littleText, "stack overflow");
    assert_int_equal(callWell(), 42);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        REFUSAL(testFaults), REFUSAL(testParkedUnderFaults), { "testNoAddresses", testNoAddresses, armTest, tearDownRefusal, NULL },
        REFUSAL(testNoThreads), REFUSAL(testNobodyCallsIn), { "testNobodyAwaitsSubmission", testNobodyAwaitsSubmission, setUpRefusal, tearDownRefusal, NULL },
        { "testBusyWorker", testBusyWorker, setUpNoWorker, tearDownRefusal, NULL }, { "testOneWorker", testOneWorker, setUpOneWorker, tearDownRefusal, NULL }, REFUSAL(testOverflow),
        { "testLittleStack", testLittleStack, setUpRefusal, tearDownRefusal, NULL },
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * Calls out of threads and calls in from anywhere: at the end of the runtime, with as few OS threads as it takes, collections meanwhile,
 * and hs_try_putmvar.  After GHC's conc059, T4850, performGC and hs_try_putmvar001 to 003.
 */
#include "sched.h"

#include <dirent.h>

/* ---- conc059: safe calls return after the runtime has ended ---- */

static _Atomic int inside, mayReturn, returned, wentOn;

static void *returnLate(void *unused)
{
    inside++;
    while (!mayReturn) sleepMs(1);
    /* C may still call in; it gets a defined answer, of this runtime's end or the next one's life. */
    Capability *cap;
    RtsStatus status = rts_tryLock(&cap);
    if (status == RTS_OK) rts_unlock(cap);
    returned++;
    return NULL;
}
CAPSTAN_IO(callLate)
{
    rts_safeCall(stack, returnLate, NULL);
    wentOn++;
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(forkLate, n)
{
    HsInt count = rts_intValue(n);
    for (HsInt i = 0; i < count; i++) FORK(stack, callLate);
    return CAPSTAN_UNIT;
}
static void *boundLate(void *unused)
{
    return (void *)(intptr_t)runStatus(&callLate_closure, NULL, NULL, NULL, 0);
}

enum { LATE = 6 };
/* again: a new runtime is there when they return. */
static void returnAfterExit(unsigned capabilities, bool again)
{
    pthread_t threads[LATE];
    RtsConfig config = schedConfig(capabilities);
    inside = mayReturn = returned = wentOn = 0;
    assert_int_equal(rts_start(&config, NULL, 0), RTS_OK);
    runWith(&forkLate_closure, CAPSTAN_SMALL_INT(LATE));
    for (int i = 0; i < LATE; i++) threads[i] = spawn(boundLate, NULL);
    while (inside < 2 * LATE) sleepMs(1);
    hs_exit();
    if (again) {
        assert_int_equal(rts_start(&config, NULL, 0), RTS_OK);
        assert_int_equal(callWell(), 42);
    }
    mayReturn = 1;
    for (int i = 0; i < LATE; i++) assert_int_equal((intptr_t)joinThread(threads[i]), Interrupted);
    while (returned < 2 * LATE) sleepMs(1);
    if (again) {
        assert_int_equal(callWell(), 42);
        hs_perform_gc();
        runInThread(&forkLate_closure, CAPSTAN_SMALL_INT(0));
        hs_exit();
    }
    assert_int_equal(wentOn, 0);
}
static void testReturnAfterExit(void **state)
{
    for (unsigned i = 1; i <= (SLOW_BUILD ? 2 : 6); i++) {
        returnAfterExit(1 + i % 3, false);
        returnAfterExit(1 + i % 3, true);
    }
    sleepMs(10); /* the workers' last steps */
}

/* ---- T4850: no more OS threads than needed ---- */

static bool isWorker(const char *task)
{
    char path[300], name[32] = "";
    snprintf(path, sizeof path, "/proc/self/task/%s/comm", task);
    FILE *file = fopen(path, "r");
    if (file == NULL) return false;
    if (fgets(name, sizeof name, file) == NULL) name[0] = 0;
    fclose(file);
    return strncmp(name, "capstan-worker", 14) == 0;
}
/* As the system sees them. */
static unsigned workersNow(void)
{
    unsigned n = 0;
    DIR *dir = opendir("/proc/self/task");
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir)) != NULL;) n += e->d_name[0] != '.' && isWorker(e->d_name);
    closedir(dir);
    return n;
}
static _Atomic unsigned mostWorkers;
static void noteWorkers(void)
{
    unsigned now = workersNow(), most = mostWorkers;
    while (now > most && !atomic_compare_exchange_weak(&mostWorkers, &most, now)) {}
}

static void *doNothing(void *unused) { return NULL; }
static void *countThem(void *unused)
{
    noteWorkers();
    return NULL;
}
CAPSTAN_IO(beBack)
{
    return CAPSTAN_SMALL_INT(1);
}
static void *callBack(void *unused)
{
    if (runStatus(&beBack_closure, NULL, NULL, NULL, 0) != Success) abort();
    return NULL;
}

/* One unbound thread, many short calls, some of which call back. */
CAPSTAN_IO(callOften, n)
{
    HsInt count = rts_intValue(n);
    for (HsInt i = 0; i < count; i++) {
        rts_safeCall(stack, i % 3 == 0 ? callBack : doNothing, NULL);
        if (i % 64 == 0) rts_safeCall(stack, countThem, NULL);
    }
    return CAPSTAN_SMALL_INT(1);
}
CAPSTAN_IO(severalCallOften, threads, n)
{
    HsInt count = rts_intValue(threads);
    HaskellObj done = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, done, n);
    for (HsInt i = 0; i < count; i++) FORK(stack, schedReport, APPLY(stack->cap, callOften, n), done);
    for (HsInt i = 0; i < count; i++) CHECK(rts_takeMVar(stack, done) == CAPSTAN_SMALL_INT(1));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
static void callFrom(HsInt threads, HsInt n)
{
    Capability *cap = rts_lock();
    rts_evalIO(&cap, APPLY(cap, severalCallOften, rts_mkInt(cap, threads), rts_mkInt(cap, n)), NULL);
    assert_int_equal(rts_getSchedStatus(cap), Success);
    rts_unlock(cap);
    assert_int_equal(failedChecks, 0);
}

/* Each thread can be in a call on a worker; others, as many as capabilities and one on its way, run what is left. */
static void testFewWorkers(void **state)
{
    RtsThreadCounts counts;
    unsigned caps = getNumCapabilities();
    for (int i = 0; i < 2000 && workersNow() > 0; i++) sleepMs(1); /* of the runtime before */
    for (HsInt threads = 1; threads <= 8; threads *= 2) {
        mostWorkers = 0;
        callFrom(threads, many(3000));
        unsigned most = mostWorkers;
        if (most > threads + caps + 1) print_message("%d threads in calls, %u capabilities: %u workers\n", (int)threads, caps, most);
        assert_true(most <= threads + caps + 1);
        rts_getThreadCounts(&counts);
        assert_int_equal(counts.in_safe_calls, 0);
    }
}

/* Many that block in C at once: each needs a worker; afterwards as many stay as are to stay. */
enum { BLOCKING = 40 };
static void *blockInC(void *unused)
{
    inside++;
    while (!mayReturn) usleep(500);
    return NULL;
}
CAPSTAN_IO(blockOnce)
{
    rts_safeCall(stack, blockInC, NULL);
    returned++;
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(forkBlocking, n)
{
    HsInt count = rts_intValue(n);
    for (HsInt i = 0; i < count; i++) FORK(stack, blockOnce);
    return CAPSTAN_UNIT;
}
static void testManyWorkers(void **state)
{
    RtsThreadCounts counts;
    for (int round = 0; round < 3; round++) {
        inside = mayReturn = returned = 0;
        runWith(&forkBlocking_closure, CAPSTAN_SMALL_INT(BLOCKING));
        while (inside < BLOCKING) sleepMs(1);
        rts_getThreadCounts(&counts);
        assert_int_equal(counts.in_safe_calls, BLOCKING);
        assert_in_range(counts.workers, BLOCKING, BLOCKING + getNumCapabilities() + 1);
        assert_int_equal(callWell(), 42);
        mayReturn = 1;
        while (returned < BLOCKING) sleepMs(1);
        for (int i = 0; i < 10000; i++) {
            rts_getThreadCounts(&counts);
            if (counts.workers <= 6 + getNumCapabilities() && counts.idle_workers <= 6 && counts.in_safe_calls == 0) break;
            sleepMs(1);
        }
        assert_in_range(counts.workers, 0, 6 + getNumCapabilities());
        assert_int_equal(counts.in_safe_calls, 0);
    }
}

/* ---- performGC: requests from everywhere at once ---- */

static _Atomic int collecting, collected;
static void *requestGc(void *unused)
{
    do {
        hs_perform_gc();
        collected++;
    } while (collecting);
    return NULL;
}
static void *requestOne(void *unused)
{
    hs_perform_gc();
    return NULL;
}
CAPSTAN_IO(requestSafely, n)
{
    HsInt count = rts_intValue(n);
    HaskellObj box = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, box);
    for (HsInt i = 0; i < count; i++) {
        rts_putMVar(stack, box, rts_mkMutVar(stack->cap, rts_int(stack, i)));
        rts_safeCall(stack, requestOne, NULL);
        CHECK(rts_intValue(rts_readMutVar(rts_takeMVar(stack, box))) == i);
        for (int j = 0; j < 100; j++) rts_mkMVar(stack->cap);
        rts_yield(stack);
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_SMALL_INT(1);
}
CAPSTAN_IO(severalRequest, n)
{
    HaskellObj done = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, done, n);
    for (int i = 0; i < 4; i++) FORK(stack, schedReport, APPLY(stack->cap, requestSafely, n), done);
    rts_runIO(stack, APPLY(stack->cap, requestSafely, n));
    for (int i = 0; i < 4; i++) CHECK(rts_takeMVar(stack, done) == CAPSTAN_SMALL_INT(1));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_SMALL_INT(1);
}
static void *requestInCalls(void *unused)
{
    return (void *)(intptr_t)runStatus(&severalRequest_closure, CAPSTAN_SMALL_INT(many(100)), NULL, NULL, 0);
}
static void testPerformGc(void **state)
{
    pthread_t requesters[3], callers[3];
    collecting = 1;
    collected = 0;
    for (int i = 0; i < 3; i++) {
        requesters[i] = spawn(requestGc, NULL);
        callers[i] = spawn(requestInCalls, NULL);
    }
    for (int i = 0; i < 3; i++) assert_int_equal((intptr_t)joinThread(callers[i]), Success);
    collecting = 0;
    for (int i = 0; i < 3; i++) joinThread(requesters[i]);
    assert_int_equal(failedChecks, 0);
    assert_true(collected > 0);
    assert_int_equal(heardOtherErrors(), 0);
}

/* ---- hs_try_putmvar ---- */

enum { PUTTERS = 4 };
typedef struct {
    HsStablePtr *boxes;
    size_t n;
    int cap;
} Puts;

static void *putAll(void *arg)
{
    Puts *puts = arg;
    for (size_t i = 0; i < puts->n; i++) hs_try_putmvar(puts->cap, puts->boxes[i]);
    return NULL;
}
static void *putValues(void *arg)
{
    Puts *puts = arg;
    for (size_t i = 0; i < puts->n; i++)
        hs_try_putmvar_with_value(puts->cap, puts->boxes[i], CAPSTAN_SMALL_INT((HsInt)i), NULL);
    return NULL;
}

static _Atomic HsInt taken;
CAPSTAN_IO(takeOne, box, done)
{
    CAPSTAN_ROOTS(stack, done);
    HaskellObj value = rts_takeMVar(stack, box);
    taken += rts_isSmallInt(value) ? rts_smallIntValue(value) : value == CAPSTAN_UNIT ? 1 : -1000000;
    rts_putMVar(stack, done, CAPSTAN_UNIT);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* Threads that wait, and C threads that put; each box is put to once by this one or that. */
CAPSTAN_IO(beServed, ptr)
{
    Puts *puts = rts_getPtr(ptr);
    pthread_t threads[PUTTERS];
    HaskellObj done = rts_mkMVar(stack->cap), box = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, done, box);
    for (int p = 0; p < PUTTERS; p++)
        for (size_t i = 0; i < puts[p].n; i++) {
            box = rts_mkMVar(stack->cap);
            puts[p].boxes[i] = getStablePtr((StgPtr)box);
            FORK(stack, takeOne, box, done);
        }
    for (int p = 0; p < PUTTERS; p++) threads[p] = spawn(p % 2 == 0 ? putAll : putValues, &puts[p]);
    for (size_t i = 0; i < PUTTERS * puts->n; i++) rts_takeMVar(stack, done);
    for (int p = 0; p < PUTTERS; p++) rts_safeCall(stack, schedJoin, &threads[p]);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_SMALL_INT(1);
}

static StgWord64 stablePtrsNow(void)
{
    RtsCounts counts;
    rts_getCounts(&counts);
    return counts.stable_ptrs;
}
/* They are freed soon after the value has been put, which may be taken by then. */
static void expectStablePtrs(StgWord64 n)
{
    for (int i = 0; i < 10000 && stablePtrsNow() != n; i++) sleepMs(1);
    assert_int_equal(stablePtrsNow(), n);
}

static void testTryPut(void **state)
{
    static HsStablePtr boxes[PUTTERS][2000];
    size_t n = (size_t)many(2000);
    StgWord64 before = stablePtrsNow();
    pthread_t collector;
    for (int round = 0; round < 4; round++) {
        Puts puts[PUTTERS];
        for (int p = 0; p < PUTTERS; p++) puts[p] = (Puts){ boxes[p], n < 2000 ? n : 2000, round == 0 ? -1 : round == 1 ? p : round == 2 ? 0 : 1000 };
        taken = 0;
        collecting = 1;
        collector = spawn(requestGc, NULL);
        HaskellObj value = CAPSTAN_POISON;
        Capability *cap = rts_lock();
        HaskellObj io = APPLY(cap, beServed, rts_mkPtr(cap, puts));
        rts_evalIO(&cap, round % 2 ? APPLY(cap, schedInThread, io) : io, &value);
        assert_int_equal(rts_getSchedStatus(cap), Success);
        rts_unlock(cap);
        collecting = 0;
        joinThread(collector);
        assert_int_equal(taken, PUTTERS / 2 * (HsInt)puts->n + PUTTERS / 2 * (HsInt)(puts->n * (puts->n - 1) / 2));
        expectStablePtrs(before);
    }
}

/* Full, or no MVar at all, or a value behind a stable pointer: nothing is lost, every stable pointer is freed. */
static HsStablePtr oddBoxes[4];
CAPSTAN_IO(makeOddBoxes)
{
    HaskellObj full = rts_mkMVar(stack->cap), empty = rts_mkMVar(stack->cap);
    CHECK(rts_tryPutMVar(stack, full, CAPSTAN_SMALL_INT(3)));
    oddBoxes[0] = getStablePtr((StgPtr)full);
    oddBoxes[1] = getStablePtr((StgPtr)CAPSTAN_SMALL_INT(1));
    oddBoxes[2] = getStablePtr((StgPtr)empty);
    oddBoxes[3] = getStablePtr((StgPtr)empty);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(takeOdd)
{
    HaskellObj value = rts_takeMVar(stack, (HaskellObj)deRefStablePtr(oddBoxes[3]));
    HaskellObj inner = rts_readMutVar(value);
    return inner;
}
CAPSTAN_IO(makeValue)
{
    oddBoxes[0] = getStablePtr((StgPtr)rts_mkMutVar(stack->cap, CAPSTAN_SMALL_INT(66)));
    return CAPSTAN_UNIT;
}
static void testOddPuts(void **state)
{
    StgWord64 before = stablePtrsNow();
    run(&makeOddBoxes_closure);
    hs_try_putmvar(0, oddBoxes[0]);
    hs_try_putmvar(0, oddBoxes[1]);
    run(&makeValue_closure);
    hs_try_putmvar_with_value(-1, oddBoxes[2], CAPSTAN_POISON, oddBoxes[0]);
    assert_int_equal(run(&takeOdd_closure), 66);
    hs_free_stable_ptr(oddBoxes[3]);
    expectStablePtrs(before);
}

/* Also with no runtime, before the first and after the last, and while one ends. */
CAPSTAN_IO(makeBoxes, ptr)
{
    Puts *puts = rts_getPtr(ptr);
    for (size_t i = 0; i < puts->n; i++) puts->boxes[i] = getStablePtr((StgPtr)rts_mkMVar(stack->cap));
    return CAPSTAN_UNIT;
}
static void testPutAtTheEnd(void **state)
{
    static HsStablePtr boxes[3][1000];
    for (int round = 0; round < 10; round++) {
        pthread_t threads[3];
        RtsConfig config = schedConfig(1 + (unsigned)round % 2);
        Puts puts[3];
        assert_int_equal(rts_start(&config, NULL, 0), RTS_OK);
        for (int p = 0; p < 3; p++) {
            puts[p] = (Puts){ boxes[p], 1000, p - 1 };
            Capability *cap = rts_lock();
            rts_evalIO(&cap, APPLY(cap, makeBoxes, rts_mkPtr(cap, &puts[p])), NULL);
            rts_unlock(cap);
        }
        for (int p = 0; p < 3; p++) threads[p] = spawn(putAll, &puts[p]);
        if (round % 3 == 0) sleepMs(1);
        hs_exit();
        for (int p = 0; p < 3; p++) joinThread(threads[p]);
    }
    hs_try_putmvar(-1, NULL);
    hs_try_putmvar(0, boxes[0][0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        { "testReturnAfterExit", testReturnAfterExit, armTest, disarmTest, NULL },
        ALL(testFewWorkers), FOUR(testFewWorkers), ALL(testManyWorkers), ALL(testPerformGc), FOUR(testPerformGc), ALL(testTryPut), FOUR(testTryPut),
        ALL(testOddPuts), { "testPutAtTheEnd", testPutAtTheEnd, armTest, disarmTest, NULL },
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

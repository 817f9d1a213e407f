/*
 * Threads that wait: many at once, in order, fairly, without waking anybody while nothing happens.
 */
#include "sched.h"

#include "stack_pool.h"

#include <dirent.h>

/* ---- A stable pointer to an MVar that nobody is to find lost ---- */

static HsStablePtr kept;
static HaskellObj keepMVar(Stack *stack)
{
    HaskellObj mvar = rts_mkMVar(stack->cap);
    kept = getStablePtr((StgPtr)mvar);
    return mvar;
}
static HaskellObj keptMVar(void) { return (HaskellObj)deRefStablePtr(kept); }

/* ---- 20000 threads, woken in random order, collections meanwhile ---- */

#define PARKED 20000
static uint32_t order[PARKED];
static _Atomic HsInt wokenSum;

CAPSTAN_IO(parkAndAdd, box, done)
{
    CAPSTAN_ROOTS(stack, done);
    wokenSum += rts_intValue(rts_takeMVar(stack, box));
    rts_putMVar(stack, done, CAPSTAN_UNIT);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

static void shuffle(uint32_t n, uint64_t seed)
{
    for (uint32_t i = 0; i < n; i++) order[i] = i;
    for (uint32_t i = n - 1; i > 0; i--) {
        uint32_t j = nextRandom(&seed) % (i + 1), x = order[i];
        order[i] = order[j];
        order[j] = x;
    }
}

CAPSTAN_IO(parkMany, n)
{
    size_t count = (size_t)rts_intValue(n);
    HaskellObj boxes = rts_mkArray(stack->cap, count, CAPSTAN_UNIT), done = rts_mkMVar(stack->cap), box = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, boxes, done, box);
    for (size_t i = 0; i < count; i++) {
        box = rts_mkMVar(stack->cap);
        rts_setElem(stack->cap, boxes, i, box);
        FORK(stack, parkAndAdd, box, done);
        if (i % 16 == 0) rts_yield(stack);
    }
    for (size_t i = 0; i < count; i++) {
        rts_putMVar(stack, rts_getElem(boxes, order[i]), rts_int(stack, order[i]));
        if (order[i] % 64 == 0) rts_yield(stack);
    }
    for (size_t i = 0; i < count; i++) rts_takeMVar(stack, done);
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, wokenSum);
}

static _Atomic int collecting;
static void *collectOften(void *unused)
{
    while (collecting) {
        hs_perform_gc();
        sleepMs(20);
    }
    return NULL;
}

static void testParkMany(void **state)
{
    HsInt n = SLOW_BUILD ? 200 : shortLoad() ? 4000 : PARKED;
    for (int i = 0; i < 2; i++) {
        shuffle((uint32_t)n, (uint64_t)i + 5);
        wokenSum = 0;
        collecting = 1;
        pthread_t collector = spawn(collectOften, NULL);
        HsInt sum = i == 0 ? runWith(&parkMany_closure, CAPSTAN_SMALL_INT(n)) : runInThread(&parkMany_closure, CAPSTAN_SMALL_INT(n));
        collecting = 0;
        joinThread(collector);
        assert_int_equal(sum, n * (n - 1) / 2);
    }
}

/* ---- First come, first served ---- */

CAPSTAN_IO(takeAndTell, box, me, log)
{
    CAPSTAN_ROOTS(stack, me, log);
    HsInt value = rts_intValue(rts_takeMVar(stack, box));
    rts_putMVar(stack, log, rts_int(stack, value * 100 + rts_intValue(me)));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(putMine, box, me)
{
    rts_putMVar(stack, box, me);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(readAndTell, box, log)
{
    CAPSTAN_ROOTS(stack, log);
    HaskellObj value = rts_readMVar(stack, box);
    rts_putMVar(stack, log, value);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* Ten takers get the values in the order in which they came. */
CAPSTAN_IO(serveTakers)
{
    HaskellObj box = rts_mkMVar(stack->cap), log = rts_mkMVar(stack->cap), id = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, box, log, id);
    for (HsInt i = 0; i < 10; i++) {
        id = FORK(stack, takeAndTell, box, rts_int(stack, i), log);
        CHECK(awaitStatus(stack, &id, ThreadBlockedOnMVar));
    }
    for (HsInt i = 0; i < 10; i++) {
        rts_putMVar(stack, box, rts_int(stack, i));
        CHECK(rts_isEmptyMVar(box)); /* handed over */
        CHECK(rts_intValue(rts_takeMVar(stack, log)) == i * 100 + i);
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_SMALL_INT(1);
}
/* Ten putters get rid of theirs in the order in which they came. */
CAPSTAN_IO(servePutters)
{
    HaskellObj box = rts_mkMVar(stack->cap), id = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, box, id);
    rts_putMVar(stack, box, CAPSTAN_SMALL_INT(0));
    for (HsInt i = 1; i <= 10; i++) {
        id = FORK(stack, putMine, box, rts_int(stack, i));
        CHECK(awaitStatus(stack, &id, ThreadBlockedOnMVar));
    }
    for (HsInt i = 0; i <= 10; i++) {
        CHECK(!rts_isEmptyMVar(box));
        CHECK(rts_intValue(rts_takeMVar(stack, box)) == i);
    }
    CHECK(rts_isEmptyMVar(box));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_SMALL_INT(1);
}
/* All readers see the next value, though a taker came first; the taker gets it. */
CAPSTAN_IO(serveReaders)
{
    HaskellObj box = rts_mkMVar(stack->cap), log = rts_mkMVar(stack->cap), id = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, box, log, id);
    id = FORK(stack, takeAndTell, box, CAPSTAN_SMALL_INT(3), log);
    CHECK(awaitStatus(stack, &id, ThreadBlockedOnMVar));
    for (int i = 0; i < 5; i++) {
        id = FORK(stack, readAndTell, box, log);
        CHECK(awaitStatus(stack, &id, ThreadBlockedOnMVarRead));
    }
    rts_putMVar(stack, box, CAPSTAN_SMALL_INT(8));
    HsInt sum = 0;
    for (int i = 0; i < 6; i++) sum += rts_intValue(rts_takeMVar(stack, log));
    CHECK(sum == 5 * 8 + 803);
    CHECK(rts_isEmptyMVar(box));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_SMALL_INT(1);
}
static void testOrder(void **state)
{
    HaskellObj each[] = { &serveTakers_closure, &servePutters_closure, &serveReaders_closure };
    for (int i = 0; i < 3; i++) {
        assert_int_equal(run(each[i]), 1);
        assert_int_equal(runInThread(each[i], NULL), 1);
    }
}

/* ---- A channel of one place: nothing lost, nothing twice, whoever is bound ---- */

#define PRODUCERS 4
static _Atomic HsInt producedSum, consumedSum, consumed;
CAPSTAN_IO(produce, box, first, n, done)
{
    HsInt from = rts_intValue(first), count = rts_intValue(n);
    CAPSTAN_ROOTS(stack, box, done);
    for (HsInt i = 0; i < count; i++) {
        rts_putMVar(stack, box, rts_int(stack, from + i));
        producedSum += from + i;
    }
    rts_putMVar(stack, done, CAPSTAN_UNIT);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(consume, box, n, done)
{
    HsInt count = rts_intValue(n);
    CAPSTAN_ROOTS(stack, box, done);
    for (HsInt i = 0; i < count; i++) {
        consumedSum += rts_intValue(rts_takeMVar(stack, box));
        consumed++;
    }
    rts_putMVar(stack, done, CAPSTAN_UNIT);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(boundConsume, n)
{
    HaskellObj done = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, done);
    rts_runIO(stack, APPLY(stack->cap, consume, keptMVar(), n, done));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
static HsInt eachMany;
static void *consumeBound(void *unused)
{
    return (void *)(intptr_t)runStatus(&boundConsume_closure, CAPSTAN_SMALL_INT(eachMany), NULL, NULL, 0);
}

/* Half of the consumers are unbound threads, half in-calls of other OS threads. */
CAPSTAN_IO(channel, n)
{
    pthread_t callers[PRODUCERS / 2];
    HaskellObj box = CAPSTAN_UNIT, done = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, box, done, n);
    box = keepMVar(stack);
    eachMany = rts_intValue(n);
    for (int i = 0; i < PRODUCERS / 2; i++) {
        callers[i] = spawn(consumeBound, NULL);
        FORK(stack, consume, box, n, done);
    }
    for (HsInt i = 0; i < PRODUCERS; i++) FORK(stack, produce, box, rts_int(stack, i * 1000000), n, done);
    for (int i = 0; i < PRODUCERS + PRODUCERS / 2; i++) rts_takeMVar(stack, done);
    for (int i = 0; i < PRODUCERS / 2; i++) rts_safeCall(stack, schedJoin, &callers[i]);
    CAPSTAN_UNROOT(stack);
    freeStablePtr(kept);
    return CAPSTAN_SMALL_INT(1);
}
static void testChannel(void **state)
{
    HsInt n = many(5000);
    for (int i = 0; i < 2; i++) {
        producedSum = consumedSum = consumed = 0;
        if (i == 0) runWith(&channel_closure, CAPSTAN_SMALL_INT(n));
        else runInThread(&channel_closure, CAPSTAN_SMALL_INT(n));
        assert_int_equal(consumed, n * PRODUCERS);
        assert_int_equal(consumedSum, producedSum);
    }
}

/* ---- Fairness: threads that only compute share a capability ---- */

static _Atomic uint64_t turns[8];
static _Atomic int computing;

CAPSTAN_IO(compute, me)
{
    HsInt no = rts_intValue(me);
    while (computing) {
        for (int i = 0; i < 1000; i++) rts_poll(stack);
        atomic_store_explicit(&turns[no], turns[no] + 1, memory_order_relaxed);
    }
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(letCompute, threads, ms)
{
    HsInt count = rts_intValue(threads);
    memset((void *)turns, 0, sizeof turns);
    computing = 1;
    for (HsInt i = 0; i < count; i++) FORK(stack, compute, rts_int(stack, i));
    rts_threadDelay(stack, rts_intValue(ms) * 1000);
    computing = 0;
    return CAPSTAN_UNIT;
}

/* Percent that the one who had least had of what the one with the most had. */
static HsInt worstShare(int threads, HsInt ms)
{
    uint64_t least = UINT64_MAX, most = 1;
    Capability *cap = rts_lock();
    rts_evalIO(&cap, APPLY(cap, letCompute, rts_mkInt(cap, threads), rts_mkInt(cap, ms)), NULL);
    assert_int_equal(rts_getSchedStatus(cap), Success);
    rts_unlock(cap);
    for (int i = 0; i < threads; i++) {
        if (turns[i] < least) least = turns[i];
        if (turns[i] > most) most = turns[i];
    }
    return (HsInt)(least * 100 / most);
}

/* A machine that is busy with other things may spoil a try. */
static bool isSharedBy(int threads, HsInt percent, HsInt ms)
{
    HsInt share = 0;
    for (int tries = 0; tries < 5 && share < percent; tries++) share = worstShare(threads, ms);
    if (share < percent) print_message("of %d threads one had %ld%% of another's turns\n", threads, (long)share);
    return share >= percent;
}
static void testFairness(void **state)
{
    if (SLOW_BUILD) skip();
    assert_true(isSharedBy(2, 60, 400));
    assert_true(isSharedBy(5, 50, 600));
}

/* An in-call that computes is no better off than a thread that does, nor worse. */
CAPSTAN_IO(stopComputing, us)
{
    rts_threadDelay(stack, rts_intValue(us));
    computing = 0;
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(computeBoth, ms)
{
    memset((void *)turns, 0, sizeof turns);
    computing = 1;
    FORK(stack, compute, CAPSTAN_SMALL_INT(1));
    FORK(stack, stopComputing, rts_int(stack, rts_intValue(ms) * 1000));
    return rts_tailCall(stack, &compute_closure, CAPSTAN_SMALL_INT(0), CAPSTAN_WORLD);
}
static void testFairToBound(void **state)
{
    if (SLOW_BUILD) skip();
    uint64_t share = 0;
    for (int tries = 0; tries < 5 && share < 60; tries++) {
        runWith(&computeBoth_closure, CAPSTAN_SMALL_INT(400));
        uint64_t a = turns[0], b = turns[1];
        share = 100 * (a < b ? a : b) / (a < b ? b + 1 : a + 1);
    }
    if (share < 60) print_message("in-call %lu, thread %lu\n", (unsigned long)turns[0], (unsigned long)turns[1]);
    assert_in_range(share, 60, 100);
}

/* ---- Nothing to do: nobody wakes up ---- */

static uint64_t switchesOf(const char *task)
{
    char path[300], line[200];
    unsigned long n = 0;
    snprintf(path, sizeof path, "/proc/self/task/%s/status", task);
    FILE *file = fopen(path, "r");
    if (file == NULL) return 0;
    while (fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "voluntary_ctxt_switches: %lu", &n) == 1) break;
    fclose(file);
    return n;
}
/* Of all threads but the caller's. */
static uint64_t countSwitches(void)
{
    uint64_t sum = 0;
    DIR *dir = opendir("/proc/self/task");
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir)) != NULL;)
        if (e->d_name[0] != '.' && atoi(e->d_name) != gettid()) sum += switchesOf(e->d_name);
    closedir(dir);
    return sum;
}

static void printSwitches(void)
{
    DIR *dir = opendir("/proc/self/task");
    for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;) {
        char path[300], name[20] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", e->d_name);
        FILE *file = fopen(path, "r");
        if (file == NULL) continue;
        if (fgets(name, sizeof name, file) != NULL) print_message("%s %lu %s", e->d_name, (unsigned long)switchesOf(e->d_name), name);
        fclose(file);
    }
    if (dir != NULL) closedir(dir);
}

static _Atomic int arrived;
CAPSTAN_IO(waitForKept)
{
    arrived++;
    return rts_readMVar(stack, keptMVar());
}
CAPSTAN_IO(delayFar)
{
    rts_threadDelay(stack, 3600 * 1000000L);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(forkWaiters)
{
    HaskellObj mvar = keepMVar(stack);
    CAPSTAN_ROOTS(stack, mvar);
    for (int i = 0; i < 100; i++) FORK(stack, waitForKept);
    for (int i = 0; i < 10; i++) FORK(stack, delayFar);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
static void *waitInCall(void *unused)
{
    return (void *)(intptr_t)runStatus(&waitForKept_closure, NULL, NULL, NULL, 0);
}
CAPSTAN_IO(putKept)
{
    HaskellObj mvar = keptMVar();
    rts_putMVar(stack, mvar, CAPSTAN_SMALL_INT(4));
    return CAPSTAN_UNIT;
}

/* CAPSTAN_IDLE_SECONDS: for how long nobody must wake up; 1. */
static void testIdle(void **state)
{
    const char *seconds = getenv("CAPSTAN_IDLE_SECONDS");
#ifdef CAPSTAN_TSAN /* has a thread of its own, which wakes ten times a second */
    skip();
#endif
    pthread_t callers[3];
    arrived = 0;
    run(&forkWaiters_closure);
    for (int i = 0; i < 3; i++) callers[i] = spawn(waitInCall, NULL);
    /* Beyond the collection that looks for threads that are lost, and the look that gives stacks back, wherever a busy machine lets them be. */
    while (arrived < 100 + 3) sleepMs(1);
    int quiet = 0;
    for (uint64_t last = 0, now; quiet < 2; last = now) {
        sleepMs(600);
        now = countSwitches();
        quiet = now == last ? quiet + 1 : 0;
    }
    uint64_t before = countSwitches();
    if (seconds != NULL) printSwitches();
    sleepMs(1000 * (seconds == NULL ? 1 : atoi(seconds)));
    uint64_t after = countSwitches();
    if (after != before) printSwitches();
    run(&putKept_closure);
    for (int i = 0; i < 3; i++) assert_int_equal((intptr_t)joinThread(callers[i]), Success);
    freeStablePtr(kept);
    assert_int_equal(after - before, 0);
}

/* ---- And stacks that were in use give their memory back ---- */

CAPSTAN_IO(forkManyWaiters)
{
    HaskellObj mvar = keepMVar(stack), id = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, mvar, id);
    for (int i = 0; i < 300; i++) id = FORK(stack, waitForKept);
    CHECK(awaitStatus(stack, &id, ThreadBlockedOnMVarRead));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
static void testTrim(void **state)
{
    RtsThreadCounts counts = { .stacks_in_use = 1 };
    for (int round = 0; round < 2; round++) {
        run(&forkManyWaiters_closure);
        /* Those that went to another capability may still have to begin. */
        for (int i = 0; i < 10000 && (rts_getThreadCounts(&counts), counts.stacks_in_use < 300); i++) sleepMs(1);
        assert_true(counts.stacks_in_use >= 300);
        run(&putKept_closure);
        freeStablePtr(kept);
        for (int i = 0; i < 10000 && counts.stacks_in_use != 0; i++) {
            sleepMs(1);
            rts_getThreadCounts(&counts);
        }
        assert_int_equal(counts.stacks_in_use, 0);
        for (int i = 0; i < 20000 && stacksHolding() != 0; i++) sleepMs(1);
        assert_int_equal(stacksHolding(), 0);
        assert_int_equal(callWell(), 42);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ALL(testParkMany), ALL(testOrder), ALL(testChannel), FOUR(testChannel), ONE(testFairness), ONE(testFairToBound), ALL(testIdle),
        ALL(testTrim),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

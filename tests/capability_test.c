/* exception: longer than a file should be: the cases share one set of workers and counters. */
/*
 * Many C threads on few capabilities: counts that come out exactly, preference, NUMA nodes real and pretended, the way
 * without membarrier, and that nobody waits for ever.
 */
#include <Rts.h>
#include <rts/Managed.h>

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- The runtime of these tests: each starts its own ---- */

static _Atomic unsigned errors;

static void noteError(void *ctx, RtsStatus status, const char *message)
{
    atomic_fetch_add(&errors, 1);
}

static RtsConfig configOf(unsigned capabilities)
{
    RtsConfig config = RTS_CONFIG_INIT;

    config.capabilities = capabilities;
    config.errorHook = noteError;
    return config;
}

static void startWith(RtsConfig config)
{
    char message[256] = "";

    atomic_store(&errors, 0);
    if (rts_start(&config, message, sizeof message) != RTS_OK) fail_msg("%s", message);
}

static void start(unsigned capabilities)
{
    startWith(configOf(capabilities));
}

/* A test that failed must not leave its runtime to the next. */
static int endRuntime(void **state)
{
    if (getNumCapabilities() != 0) hs_exit();
    return 0;
}

static bool isShort(void)
{
    const char *scale = getenv("CAPSTAN_TEST_SCALE");
    return scale != NULL && strcmp(scale, "short") == 0;
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- A counter that all threads share ---- */

CAPSTAN_CAF(counter)
{
    return rts_mkMutVar(stack->cap, CAPSTAN_SMALL_INT(0));
}

/* Adds n by compare-and-swap; gives the new value. */
CAPSTAN_IO(count, n)
{
    HsInt step = rts_intValue(rts_force(stack, n));
    HaskellObj var = rts_force(stack, &counter_closure), old, new;
    do {
        old = rts_readMutVar(var);
        new = rts_int(stack, rts_intValue(old) + step);
    } while (!rts_casMutVar(stack->cap, var, old, new));
    return new;
}

static SchedulerStatus callCount(HsInt n, HsInt *result)
{
    Capability *cap = rts_lock();
    HaskellObj value;

    rts_inCall(&cap, rts_apply(cap, &count_closure, rts_mkInt(cap, n)), &value);
    SchedulerStatus status = rts_getSchedStatus(cap);
    *result = rts_getInt(value);
    rts_unlock(cap);
    return status;
}

static HsInt countNow(void)
{
    HsInt value = -1;

    assert_int_equal(callCount(0, &value), Success);
    return value;
}

/* ---- Threads that begin together ---- */

typedef struct {
    pthread_barrier_t *begin;
    int number;
    HsInt iterations;
    unsigned wrong;
    HsInt done;
    _Atomic int *stop;
} Worker;

static void *countMany(void *arg)
{
    Worker *me = arg;

    pthread_barrier_wait(me->begin);
    for (HsInt i = 0; i < me->iterations; i++) {
        HsInt value;
        if (callCount(1 + me->number, &value) != Success || value <= 0) me->wrong++;
    }
    return NULL;
}

enum { MOST_WORKERS = 64 };

static unsigned runWorkers(void *(*body)(void *), int threads, HsInt iterations, Worker *workers, _Atomic int *stop)
{
    pthread_t ids[MOST_WORKERS];
    pthread_barrier_t barrier;
    unsigned wrong = 0;

    pthread_barrier_init(&barrier, NULL, (unsigned)threads);
    for (int i = 0; i < threads; i++) {
        workers[i] = (Worker){ .begin = &barrier, .number = i, .iterations = iterations, .stop = stop };
        assert_int_equal(pthread_create(&ids[i], NULL, body, &workers[i]), 0);
    }
    for (int i = 0; i < threads; i++) {
        pthread_join(ids[i], NULL);
        wrong += workers[i].wrong;
    }
    pthread_barrier_destroy(&barrier);
    return wrong;
}

static void checkExact(RtsConfig config, int threads)
{
    Worker workers[MOST_WORKERS];
    const HsInt iterations = (isShort() ? 20000 : 200000) / threads;

    startWith(config);
    assert_int_equal(runWorkers(countMany, threads, iterations, workers, NULL), 0);
    assert_int_equal(countNow(), iterations * threads * (threads + 1) / 2);
    assert_int_equal(errors, 0);
    hs_exit();
}

static void testOneCapability(void **state)
{
    checkExact(configOf(1), 1);
    checkExact(configOf(1), 2);
    checkExact(configOf(1), 8);
}

static void testTwoCapabilities(void **state)
{
    checkExact(configOf(2), 1);
    checkExact(configOf(2), 2);
    checkExact(configOf(2), 8);
    checkExact(configOf(2), 32);
}

static void testFourCapabilities(void **state)
{
    checkExact(configOf(4), 4);
    checkExact(configOf(4), 16);
}

static void testWithoutMembarrier(void **state)
{
    for (unsigned capabilities = 1; capabilities <= 4; capabilities *= 2) {
        RtsConfig config = configOf(capabilities);
        config.no_membarrier = true;
        checkExact(config, 8);
    }
}

static void testSmallQuantum(void **state)
{
    RtsConfig config = configOf(2);

    config.quantum_us = 1;
    checkExact(config, 8);
}

/* Collections in between: a nursery that is full after a few hundred calls. */
static void testWithCollections(void **state)
{
    RtsConfig config = configOf(2);

    config.nursery_bytes = 64 * 1024;
    config.verify_heap = true;
    config.poison_from_space = true;
    checkExact(config, 8);
}

/* ---- How many ---- */

static void testNumCapabilities(void **state)
{
    for (unsigned n = 1; n <= 9; n += 2) {
        start(n);
        assert_int_equal(getNumCapabilities(), n);
        RtsCounts counts;
        rts_getCounts(&counts);
        assert_int_equal(counts.capabilities, n);
        hs_exit();
    }
    start(0);
    assert_in_range(getNumCapabilities(), 1, sysconf(_SC_NPROCESSORS_CONF));
    hs_exit();
}

/* As many may be held as there are, each by another thread. */
static void *holdOne(void *arg)
{
    Worker *me = arg;
    Capability *cap = rts_lock();

    pthread_barrier_wait(me->begin); /* all hold one */
    if (rts_isDead(cap)) me->wrong++;
    rts_unlock(cap);
    return NULL;
}

static void testAllAtOnce(void **state)
{
    Worker workers[MOST_WORKERS];

#ifdef CAPSTAN_TORTURE
    skip(); /* rts_lock collects there, and waits for those who hold a capability, who wait for it here */
#endif
    start(5);
    assert_int_equal(runWorkers(holdOne, 5, 1, workers, NULL), 0);
    hs_exit();
}

/* ---- rts_tryLock ---- */

typedef struct {
    pthread_barrier_t barrier;
    RtsStatus status;
    Capability *cap;
} Try;

static void *tryIt(void *arg)
{
    Try *t = arg;

    t->status = rts_tryLock(&t->cap);
    if (t->status == RTS_OK) rts_unlock(t->cap);
    return NULL;
}

static RtsStatus tryFromAnother(Try *t)
{
    pthread_t id;

    assert_int_equal(pthread_create(&id, NULL, tryIt, t), 0);
    pthread_join(id, NULL);
    return t->status;
}

static void testTryLock(void **state)
{
    Try t = { .cap = NULL };
    Capability *cap, *again = NULL;

    assert_int_equal(rts_tryLock(&cap), RTS_NOT_STARTED);
    start(1);
    assert_int_equal(rts_tryLock(&cap), RTS_OK);
    assert_int_equal(tryFromAnother(&t), RTS_BUSY);
    assert_int_equal(rts_tryLock(&again), RTS_HOLDS_CAPABILITY);
    rts_unlock(cap);
    assert_int_equal(tryFromAnother(&t), RTS_OK);
    hs_exit();
    assert_int_equal(rts_tryLock(&cap), RTS_NOT_STARTED);
    assert_int_equal(errors, 0);
}

/* ---- Preference ---- */

static Capability *lockedOne(void)
{
    Capability *cap = rts_lock();

    rts_unlock(cap);
    return cap; /* rootcheck: only compared */
}

/* Torture builds change the capability whenever they may. */
#ifdef CAPSTAN_TORTURE
#define SKIP_IN_TORTURE() skip()
#else
#define SKIP_IN_TORTURE() (void)0
#endif

static void testPreference(void **state)
{
    Capability *caps[3];

    SKIP_IN_TORTURE();
    start(3);
    for (int n = 0; n < 3; n++) {
        rts_setInCallCapability(n, 0);
        caps[n] = lockedOne();
        for (int i = 0; i < 5; i++) assert_ptr_equal(lockedOne(), caps[n]);
    }
    assert_true(caps[0] != caps[1] && caps[1] != caps[2] && caps[0] != caps[2]);
    rts_setInCallCapability(4, 0);
    assert_ptr_equal(lockedOne(), caps[1]);
    rts_setInCallCapability(-1, 0);
    assert_false(rts_isDead(lockedOne()));
    hs_exit();
}

/* Without contention a thread comes back to the one that it had. */
static void testLastUsed(void **state)
{
    SKIP_IN_TORTURE();
    start(4);
    Capability *first = lockedOne();
    for (int i = 0; i < 100; i++) assert_ptr_equal(lockedOne(), first);
    hs_exit();
}

/* A preferred capability that is held by somebody else is no reason to wait. */
static void *preferTaken(void *arg)
{
    Try *t = arg;

    rts_setInCallCapability(0, 0);
    t->cap = rts_lock();
    rts_unlock(t->cap);
    return NULL;
}

static void testPreferenceIsNoReservation(void **state)
{
    Try t = { .cap = NULL };
    pthread_t id;

    SKIP_IN_TORTURE(); /* the other one may collect first, and wait for who holds a capability here */
    start(2);
    rts_setInCallCapability(0, 0);
    Capability *mine = rts_lock();
    assert_int_equal(pthread_create(&id, NULL, preferTaken, &t), 0);
    pthread_join(id, NULL);
    assert_true(t.cap != NULL && t.cap != mine && !rts_isDead(t.cap));
    rts_unlock(mine);
    rts_setInCallCapability(-1, 0);
    hs_exit();
}

/* Six threads, two capabilities, each thread bound to one of them. */
static void *countBound(void *arg)
{
    Worker *me = arg;
    cpu_set_t set;

    rts_setInCallCapability(me->number, 1);
    countMany(me);
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0 || CPU_COUNT(&set) == 0) me->wrong++;
    return NULL;
}

static void testAffinity(void **state)
{
    Worker workers[MOST_WORKERS];

    start(2);
    assert_int_equal(runWorkers(countBound, 6, 1000, workers, NULL), 0);
    assert_int_equal(countNow(), 1000 * 21);
    hs_exit();
}

/* ---- Nodes ---- */

static void testDebugNuma(void **state)
{
    for (unsigned nodes = 1; nodes <= 4; nodes++) {
        RtsConfig config = configOf(4);
        RtsCounts counts;
        config.debug_numa_nodes = nodes;
        startWith(config);
        rts_getCounts(&counts);
        assert_int_equal(counts.nodes, nodes);
        hs_exit();
        checkExact(config, 8);
    }
}

static void testDebugNumaOption(void **state)
{
    RtsConfig config = configOf(2);
    RtsCounts counts;

    config.rts_opts = "--debug-numa=2";
    startWith(config);
    rts_getCounts(&counts);
    assert_int_equal(counts.nodes, 2);
    hs_exit();
}

static void testSyntheticTopology(void **state)
{
    RtsCounts counts;

    setenv("HWLOC_SYNTHETIC", "node:2 core:2 pu:1", 1);
    start(4);
    rts_getCounts(&counts);
    hs_exit();
#ifdef HAVE_HWLOC
    assert_int_equal(counts.nodes, 2);
#else
    assert_in_range(counts.nodes, 1, 64);
#endif
    checkExact(configOf(4), 8);
    setenv("HWLOC_SYNTHETIC", "this is no topology", 1);
    checkExact(configOf(2), 4);
    unsetenv("HWLOC_SYNTHETIC");
}

/* ---- Fairness ---- */

enum { SOME = 10, HAMMERING = 8 };
static _Atomic int satisfied; /* threads that have had more than some calls */

static void *countUntilStopped(void *arg)
{
    Worker *me = arg;

    pthread_barrier_wait(me->begin);
    while (!atomic_load_explicit(me->stop, memory_order_relaxed)) {
        HsInt value;
        if (callCount(1, &value) != Success) me->wrong++;
        if (me->done++ == SOME) atomic_fetch_add(&satisfied, 1);
    }
    return NULL;
}

/* After a while; on a machine that is busy with other things later, but not for ever. */
static void *stopLater(void *arg)
{
    usleep(isShort() ? 300000 : 1000000);
    for (int i = 0; i < 30000 && atomic_load(&satisfied) < HAMMERING; i++) usleep(1000);
    atomic_store((_Atomic int *)arg, 1);
    return NULL;
}

static void checkFairness(RtsConfig config)
{
    Worker workers[MOST_WORKERS];
    _Atomic int stop = 0;
    pthread_t stopper;
    HsInt total = 0;

    startWith(config);
    atomic_store(&satisfied, 0);
    assert_int_equal(pthread_create(&stopper, NULL, stopLater, &stop), 0);
    assert_int_equal(runWorkers(countUntilStopped, HAMMERING, 0, workers, &stop), 0);
    pthread_join(stopper, NULL);
    for (int i = 0; i < HAMMERING; i++) {
        assert_true(workers[i].done > SOME);
        total += workers[i].done;
    }
    assert_int_equal(countNow(), total);
    hs_exit();
}

static void testEveryoneProgresses(void **state)
{
    RtsConfig config = configOf(1);

    checkFairness(config);
    config.no_membarrier = true;
    checkFairness(config);
    checkFairness(configOf(2));
}

/* Hundreds of threads that wait: what they do meanwhile must not take the processor from the one that runs. */
CAPSTAN_IO(spinFor, rounds)
{
    HsInt n = rts_intValue(rts_force(stack, rounds));
    for (HsInt i = 0; i < n; i++) {
        for (volatile int k = 0; k < 100; k++) continue;
        rts_poll(stack);
    }
    return CAPSTAN_UNIT;
}

static void spin(HsInt rounds)
{
    Capability *cap = rts_lock();

    rts_evalIO(&cap, rts_apply(cap, &spinFor_closure, rts_mkInt(cap, rounds)), NULL);
    if (rts_getSchedStatus(cap) != Success) atomic_fetch_add(&errors, 1);
    rts_unlock(cap);
}

static void *spinSome(void *arg)
{
    for (int i = 0; i < 50; i++) spin((HsInt)(intptr_t)arg);
    return NULL;
}

static double timeCrowd(int threads, HsInt rounds)
{
    pthread_t *ids = malloc((size_t)threads * sizeof *ids);
    double begin = now();

    for (int i = 0; i < threads; i++) assert_int_equal(pthread_create(&ids[i], NULL, spinSome, (void *)(intptr_t)rounds), 0);
    for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);
    free(ids);
    return now() - begin;
}

static void testCrowd(void **state)
{
    enum { THREADS = 300 };
    const HsInt rounds = isShort() ? 20 : 100;
    double alone, together;

#ifdef CAPSTAN_TORTURE
    skip(); /* it collects and changes the capability at each of millions of safepoints: nothing about time can be said */
#endif
    start(1);
    alone = now();
    for (int i = 0; i < THREADS; i++) spinSome((void *)(intptr_t)rounds);
    alone = now() - alone;
    together = timeCrowd(THREADS, rounds);
    if (together > 5 * alone + 2.0) fail_msg("one after the other %.2f s, together %.2f s", alone, together);
    hs_exit();
    assert_int_equal(errors, 0);
}

/* Threads end, and with them their records, while others ask the holders of capabilities to give way. */
static void *spinOnce(void *arg)
{
    spin((HsInt)(intptr_t)arg % 7 * 20);
    return NULL;
}

static void testThreadsEndUnderRequests(void **state)
{
    enum { CROWD = 150 };
    RtsConfig config = configOf(2);
    pthread_t ids[CROWD];

    config.quantum_us = 50;
    startWith(config);
    for (int round = 0; round < (isShort() ? 3 : 10); round++) {
        for (int i = 0; i < CROWD; i++) assert_int_equal(pthread_create(&ids[i], NULL, spinOnce, (void *)(intptr_t)i), 0);
        for (int i = 0; i < 10; i++) hs_perform_gc();
        for (int i = 0; i < CROWD; i++) pthread_join(ids[i], NULL);
    }
    hs_exit();
    assert_int_equal(errors, 0);
}

/* A call that polls until another call has happened: on one capability it must be given up in between. */
static _Atomic int otherWasHere;

CAPSTAN_IO(pollUntilOther)
{
    while (!atomic_load(&otherWasHere)) rts_poll(stack);
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(beTheOther)
{
    atomic_store(&otherWasHere, 1);
    return CAPSTAN_UNIT;
}

static SchedulerStatus runAction(HaskellObj action)
{
    Capability *cap = rts_lock();

    rts_evalIO(&cap, action, NULL);
    SchedulerStatus status = rts_getSchedStatus(cap);
    rts_unlock(cap);
    return status;
}

static void *runPolling(void *arg)
{
    *(SchedulerStatus *)arg = runAction(&pollUntilOther_closure);
    return NULL;
}

static void checkWaiterGetsIn(RtsConfig config)
{
    SchedulerStatus status = NoStatus;
    pthread_t id;

    startWith(config);
    atomic_store(&otherWasHere, 0);
    assert_int_equal(pthread_create(&id, NULL, runPolling, &status), 0);
    usleep(20000);
    assert_int_equal(runAction(&beTheOther_closure), Success); /* nothing else ends the polling */
    pthread_join(id, NULL);
    assert_int_equal(status, Success);
    hs_exit();
}

static void testWaiterGetsIn(void **state)
{
    RtsConfig config = configOf(1);

    for (int i = 0; i < 5; i++) checkWaiterGetsIn(config);
    config.no_membarrier = true;
    checkWaiterGetsIn(config);
}

/* The same between rts_lock and rts_unlock, by rts_pollCap. */
static void *pollCapUntilOther(void *arg)
{
    Capability *cap = rts_lock();

    while (!atomic_load(&otherWasHere)) rts_pollCap(&cap);
    rts_unlock(cap);
    return NULL;
}

static void testPollCapYields(void **state)
{
    pthread_t id;

    start(1);
    atomic_store(&otherWasHere, 0);
    assert_int_equal(pthread_create(&id, NULL, pollCapUntilOther, NULL), 0);
    usleep(20000);
    assert_int_equal(runAction(&beTheOther_closure), Success);
    pthread_join(id, NULL);
    hs_exit();
}

/* ---- Safe calls give the capability up ---- */

typedef struct {
    pthread_barrier_t barrier;
} Meeting;

static void *meet(void *arg)
{
    pthread_barrier_wait(&((Meeting *)arg)->barrier);
    return NULL;
}

CAPSTAN_IO(meetOutside, pointer)
{
    rts_safeCall(stack, meet, rts_getPtr(pointer));
    return CAPSTAN_UNIT;
}

static void *callMeeting(void *arg)
{
    Capability *cap = rts_lock();

    rts_evalIO(&cap, rts_apply(cap, &meetOutside_closure, rts_mkPtr(cap, arg)), NULL);
    rts_unlock(cap);
    return NULL;
}

/* Ten threads in safe calls at once, one capability: all must be outside at the same time. */
static void testSafeCallsOverlap(void **state)
{
    enum { THREADS = 10 };
    pthread_t ids[THREADS];
    Meeting meeting;

    start(1);
    pthread_barrier_init(&meeting.barrier, NULL, THREADS);
    for (int i = 0; i < THREADS; i++) assert_int_equal(pthread_create(&ids[i], NULL, callMeeting, &meeting), 0);
    for (int i = 0; i < THREADS; i++) pthread_join(ids[i], NULL);
    pthread_barrier_destroy(&meeting.barrier);
    hs_exit();
}

/* In-calls in safe calls in in-calls; each level adds one on its way back. */
CAPSTAN_EXTERN(nest);

static void *nestInside(void *arg)
{
    Capability *cap = rts_lock();
    HaskellObj result;

    rts_evalIO(&cap, rts_apply(cap, &nest_closure, rts_mkInt(cap, (HsInt)(intptr_t)arg)), &result);
    HsInt value = rts_getSchedStatus(cap) == Success ? rts_getInt(result) : INT32_MIN;
    rts_unlock(cap);
    return (void *)(intptr_t)value;
}

CAPSTAN_IO(nest, depth)
{
    HsInt left = rts_intValue(rts_force(stack, depth));
    HaskellObj kept = rts_mkInt(stack->cap, INT64_MAX - left);
    if (left == 0) return CAPSTAN_SMALL_INT(0);
    CAPSTAN_ROOTS(stack, kept);
    HsInt below = (HsInt)(intptr_t)rts_safeCall(stack, nestInside, (void *)(intptr_t)(left - 1));
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, rts_getInt(kept) == INT64_MAX - left ? below + 1 : INT32_MIN);
}

static void *nestDeep(void *arg)
{
    Worker *me = arg;

    pthread_barrier_wait(me->begin);
    for (HsInt i = 0; i < me->iterations; i++)
        if ((intptr_t)nestInside((void *)(intptr_t)300) != 300) me->wrong++;
    return NULL;
}

static void testNesting(void **state)
{
    Worker workers[MOST_WORKERS];

    start(1);
    assert_int_equal((intptr_t)nestInside((void *)(intptr_t)300), 300);
    hs_exit();
    start(2);
    assert_int_equal(runWorkers(nestDeep, 4, 5, workers, NULL), 0);
    hs_exit();
    assert_int_equal(errors, 0);
}

/* ---- Threads that come and go ---- */

static void *callOnceAndEnd(void *arg)
{
    HsInt value;

    *(SchedulerStatus *)arg = callCount(1, &value);
    return NULL;
}

static void testThreadsLeaveNothing(void **state)
{
    const int threads = isShort() ? 500 : 3000;
    RtsCounts before, after;

    start(2);
    countNow();
    rts_getCounts(&before);
    for (int i = 0; i < threads; i++) {
        SchedulerStatus status = NoStatus;
        pthread_t id;
        assert_int_equal(pthread_create(&id, NULL, callOnceAndEnd, &status), 0);
        pthread_join(id, NULL);
        assert_int_equal(status, Success);
    }
    rts_getCounts(&after);
    assert_int_equal(after.tasks, before.tasks);
    assert_int_equal(countNow(), threads);
    hs_exit();
}

static void testThreadDone(void **state)
{
    hs_thread_done();
    start(1);
    hs_thread_done();
    for (int i = 0; i < 100; i++) {
        HsInt value;
        assert_int_equal(callCount(1, &value), Success);
        assert_int_equal(value, i + 1);
        hs_thread_done();
        hs_thread_done();
    }
    RtsCounts counts;
    rts_getCounts(&counts);
    assert_int_equal(counts.tasks, 0);
    hs_exit();
    assert_int_equal(errors, 0);
}

#define test(name) cmocka_unit_test_teardown(name, endRuntime)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(testOneCapability),
        test(testTwoCapabilities),
        test(testFourCapabilities),
        test(testWithoutMembarrier),
        test(testSmallQuantum),
        test(testWithCollections),
        test(testNumCapabilities),
        test(testAllAtOnce),
        test(testTryLock),
        test(testPreference),
        test(testLastUsed),
        test(testPreferenceIsNoReservation),
        test(testAffinity),
        test(testDebugNuma),
        test(testDebugNumaOption),
        test(testSyntheticTopology),
        test(testEveryoneProgresses),
        test(testCrowd),
        test(testThreadsEndUnderRequests),
        test(testWaiterGetsIn),
        test(testPollCapYields),
        test(testSafeCallsOverlap),
        test(testNesting),
        test(testThreadsLeaveNothing),
        test(testThreadDone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * Looking at threads: numbers, labels, statuses, lists and counts.
 */
#include "sched.h"

#include <limits.h>

/* ---- Numbers and names ---- */

CAPSTAN_IO(tellMe, box)
{
    CAPSTAN_ROOTS(stack, box);
    HaskellObj me = rts_myThreadId(stack);
    rts_putMVar(stack, box, me);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

static _Atomic int heardUncaught;
static char heardLabel[64], heardText[64];
static StgWord64 heardId;

/* A thread knows itself by the same ThreadId that its maker got; numbers are never used twice, records are. */
CAPSTAN_IO(compareIds, n)
{
    HsInt count = rts_intValue(n);
    StgWord64 last = rts_getThreadId(rts_myThreadId(stack));
    HaskellObj box = rts_mkMVar(stack->cap), id = CAPSTAN_UNIT, told = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, box, id, told);
    CHECK(rts_myThreadId(stack) == rts_myThreadId(stack));
    for (HsInt i = 0; i < count; i++) {
        id = FORK(stack, tellMe, box);
        told = rts_takeMVar(stack, box);
        CHECK(told == id);
        CHECK(rts_getThreadId(id) == rts_getThreadId(told) && rts_getThreadId(id) != last && rts_getThreadId(id) != 0);
        last = rts_getThreadId(id);
        awaitEnd(stack, &id);
        CHECK(rts_threadStatus(told) == ThreadFinished);
        CHECK(rts_getThreadId(told) == last); /* also afterwards */
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_SMALL_INT(1);
}
static void testIds(void **state)
{
    HaskellObj n = CAPSTAN_SMALL_INT(many(300));
    assert_int_equal(runWith(&compareIds_closure, n), 1);
    assert_int_equal(runInThread(&compareIds_closure, n), 1);
}

CAPSTAN_IO(tellNumber)
{
    return rts_int(stack, (HsInt)rts_getThreadId(rts_myThreadId(stack)));
}
static void *callNumber(void *unused)
{
    HsInt number = 0;
    runStatus(&tellNumber_closure, NULL, &number, NULL, 0);
    return (void *)number;
}
/* In-calls too, each of them. */
static void testIdsOfInCalls(void **state)
{
    HsInt numbers[20];
    for (int i = 0; i < 20; i++) numbers[i] = i % 2 == 0 ? run(&tellNumber_closure) : (HsInt)onThread(callNumber, NULL);
    for (int i = 0; i < 20; i++)
        for (int j = 0; j < i; j++) assert_int_not_equal(numbers[i], numbers[j]);
}

/* ---- Statuses ---- */

CAPSTAN_IO(endWell)
{
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(endBadly)
{
    rts_raiseError(stack, "on purpose");
}
CAPSTAN_IO(seeEnds)
{
    HaskellObj id = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, id);
    CHECK(rts_threadStatus(rts_myThreadId(stack)) == ThreadRunning);
    id = FORK(stack, endWell);
    CHECK(rts_threadStatus(id) == ThreadRunning || hasEnded(id));
    awaitEnd(stack, &id);
    CHECK(rts_threadStatus(id) == ThreadFinished);
    id = FORK(stack, endBadly);
    rts_labelThread(id, "a label of more than thirty-one bytes, cut");
    awaitEnd(stack, &id);
    CHECK(rts_threadStatus(id) == ThreadDied);
    StgWord64 number = rts_getThreadId(id);
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, (HsInt)number);
}
static void noteUncaught(void *ctx, StgWord64 threadId, const char *label, HaskellObj exception, const char *text)
{
    pthread_mutex_lock(&heard.lock);
    snprintf(heardLabel, sizeof heardLabel, "%s", label);
    snprintf(heardText, sizeof heardText, "%s", text);
    heardId = threadId;
    pthread_mutex_unlock(&heard.lock);
    heardUncaught++;
}
static int setUpHook(void **state)
{
    RtsConfig config = schedConfig(2);
    config.uncaughtHook = noteUncaught;
    return setUpWith(state, &config);
}
static void testStatuses(void **state)
{
    heardUncaught = 0;
    HsInt number = run(&seeEnds_closure);
    assert_int_equal(heardUncaught, 1);
    assert_int_equal(heardId, number);
    assert_string_equal(heardText, "on purpose");
    assert_string_equal(heardLabel, "a label of more than thirty-one");
    run(&seeEnds_closure);
    assert_int_equal(heardUncaught, 2);
}

/* What is no ThreadId. */
CAPSTAN_IO(askNonsense)
{
    CHECK(rts_threadStatus(CAPSTAN_UNIT) == ThreadFinished);
    CHECK(rts_threadStatus(rts_mkMVar(stack->cap)) == ThreadFinished);
    CHECK(rts_getThreadId(CAPSTAN_SMALL_INT(4)) == 0);
    rts_labelThread(CAPSTAN_TRUE, "nobody");
    rts_labelThread(rts_myThreadId(stack), NULL);
    CHECK(rts_threadCapability(CAPSTAN_UNIT, NULL) == 0);
    return CAPSTAN_UNIT;
}
static void testNonsense(void **state)
{
    run(&askNonsense_closure);
    assert_int_equal(heardError(RTS_WRONG_KIND), 5);
}

/* ---- Where a thread is ---- */

CAPSTAN_IO(tellPlace, box, rounds)
{
    HsInt n = rts_intValue(rounds), moved = 0;
    CAPSTAN_ROOTS(stack, box);
    bool movable;
    unsigned place = rts_threadCapability(rts_myThreadId(stack), &movable);
    for (HsInt i = 0; i < n; i++) {
        rts_yield(stack);
        if (i % 10 == 0) rts_threadDelay(stack, 50);
        moved += rts_threadCapability(rts_myThreadId(stack), NULL) != place;
    }
    rts_putMVar(stack, box, rts_int(stack, (HsInt)place * 10 + movable + (moved ? 1000 : 0)));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
/* Pinned ones are where they were put, and stay there. */
CAPSTAN_IO(pinAll)
{
    HaskellObj box = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, box);
    unsigned n = getNumCapabilities();
    for (unsigned i = 0; i < 3 * n; i++) {
        rts_forkOn(stack, i, APPLY(stack->cap, tellPlace, box, CAPSTAN_SMALL_INT(200)));
        CHECK(rts_intValue(rts_takeMVar(stack, box)) == (HsInt)(i % n) * 10);
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_SMALL_INT(1);
}
CAPSTAN_IO(forkMovable)
{
    HaskellObj box = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, box);
    FORK(stack, tellPlace, box, CAPSTAN_SMALL_INT(0));
    HsInt told = rts_intValue(rts_takeMVar(stack, box));
    CHECK(told % 10 == 1);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_SMALL_INT(1);
}
static void testPlaces(void **state)
{
    assert_int_equal(run(&forkMovable_closure), 1);
    assert_int_equal(run(&pinAll_closure), 1);
    assert_int_equal(runInThread(&pinAll_closure, NULL), 1);
}

/* From C: scheduleThreadOn, with each number. */
static _Atomic int ranOn[4];
CAPSTAN_IO(noteCapability)
{
    ranOn[rts_threadCapability(rts_myThreadId(stack), NULL)]++;
    return CAPSTAN_UNIT;
}
static void testSchedule(void **state)
{
    memset((void *)ranOn, 0, sizeof ranOn);
    Capability *cap = rts_lock();
    for (unsigned i = 0; i < 40; i++) {
        StgTSO *tso = createIOThread(cap, 0, &noteCapability_closure);
        assert_non_null(tso);
        assert_true(rts_threadId(cap, tso) != CAPSTAN_POISON);
        scheduleThreadOn(cap, i, tso);
    }
    StgTSO *never = createIOThread(cap, 0, &noteCapability_closure); /* never scheduled: it is let be */
    assert_non_null(never);
    rts_unlock(cap);
    for (int i = 0; i < 5000 && ranOn[0] + ranOn[1] + ranOn[2] + ranOn[3] < 40; i++) sleepMs(1);
    for (int i = 0; i < 4; i++) assert_int_equal(ranOn[i], 10);
    hs_perform_gc();
}

/* Threads of each kind of body, from C. */
static _Atomic int evaluatedResults;
CAPSTAN_FUN(evaluateLate, x)
{
    evaluatedResults++;
    return x;
}
CAPSTAN_IO(returnLazily)
{
    return rts_apply(stack->cap, &evaluateLate_closure, CAPSTAN_UNIT);
}
static void testBodies(void **state)
{
    evaluatedResults = 0;
    Capability *cap = rts_lock();
    scheduleThread(cap, createIOThread(cap, 0, &returnLazily_closure));
    scheduleThread(cap, createStrictIOThread(cap, 0, &returnLazily_closure));
    scheduleThread(cap, createGenThread(cap, 0, rts_apply(cap, &evaluateLate_closure, CAPSTAN_UNIT)));
    scheduleThread(cap, createThread(cap, 0));
    scheduleThread(cap, NULL);
    rts_unlock(cap);
    for (int i = 0; i < 5000 && evaluatedResults < 2; i++) sleepMs(1);
    sleepMs(20);
    assert_int_equal(evaluatedResults, 2);
    cap = rts_lock();
    assert_true(rts_threadId(cap, NULL) == CAPSTAN_POISON);
    rts_unlock(cap);
}

/* ---- Lists and counts ---- */

static StgWord64 threadsNow(void)
{
    RtsThreadCounts counts;
    rts_getThreadCounts(&counts);
    return counts.threads;
}
static void awaitThreads(StgWord64 n)
{
    for (int i = 0; i < 5000 && threadsNow() != n; i++) sleepMs(1);
    assert_int_equal(threadsNow(), n);
}

CAPSTAN_IO(waitFor1, box)
{
    rts_readMVar(stack, box);
    return CAPSTAN_UNIT;
}
static bool isListed(HaskellObj list, HaskellObj id)
{
    for (size_t i = 0; i < rts_arrayLength(list); i++)
        if (rts_getElem(list, i) == id) return true;
    return false;
}
CAPSTAN_IO(listThem, n)
{
    size_t count = (size_t)rts_intValue(n), found = 0;
    HaskellObj box = rts_mkMVar(stack->cap), ids = rts_mkArray(stack->cap, count, CAPSTAN_UNIT), list = CAPSTAN_UNIT, id = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, box, ids, list, id);
    for (size_t i = 0; i < count; i++) {
        id = FORK(stack, waitFor1, box);
        rts_setElem(stack->cap, ids, i, id);
    }
    list = rts_listThreads(stack->cap);
    CHECK(list != CAPSTAN_POISON && rts_arrayLength(list) >= count);
    for (size_t i = 0; i < count; i++) found += isListed(list, rts_getElem(ids, i));
    CHECK(found == count);
    rts_putMVar(stack, box, CAPSTAN_UNIT);
    for (size_t i = 0; i < count; i++) {
        id = rts_getElem(ids, i);
        awaitEnd(stack, &id);
    }
    list = rts_listThreads(stack->cap);
    for (size_t i = 0; i < count; i++) CHECK(!isListed(list, rts_getElem(ids, i)));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_SMALL_INT(1);
}
static void testList(void **state)
{
    assert_int_equal(runWith(&listThem_closure, CAPSTAN_SMALL_INT(200)), 1);
    assert_int_equal(runInThread(&listThem_closure, CAPSTAN_SMALL_INT(200)), 1);
    awaitThreads(0);
}

static HsStablePtr countBox;
CAPSTAN_IO(forkCounted, n)
{
    HsInt count = rts_intValue(n);
    HaskellObj box = rts_mkMVar(stack->cap);
    countBox = getStablePtr((StgPtr)box);
    for (HsInt i = 0; i < count; i++) FORK(stack, waitFor1, box);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(releaseCounted)
{
    rts_putMVar(stack, (HaskellObj)deRefStablePtr(countBox), CAPSTAN_UNIT);
    return CAPSTAN_UNIT;
}
static void testCounts(void **state)
{
    RtsThreadCounts counts;
    rts_getThreadCounts(&counts);
    StgWord64 made = counts.created;
    assert_int_equal(counts.threads, 0);
    runWith(&forkCounted_closure, CAPSTAN_SMALL_INT(100));
    awaitThreads(100);
    rts_getThreadCounts(&counts);
    assert_int_equal(counts.created, made + 100);
    assert_in_range(counts.workers, 0, getNumCapabilities() + 1);
    assert_int_equal(counts.in_safe_calls, 0);
    run(&releaseCounted_closure);
    awaitThreads(0);
    rts_getThreadCounts(&counts);
    assert_int_equal(counts.created, made + 100);
    hs_free_stable_ptr(countBox);
}
static void testCountsWithoutRuntime(void **state)
{
    RtsThreadCounts counts;
    rts_getThreadCounts(&counts);
    assert_int_equal(counts.threads, 0);
    assert_int_equal(counts.workers, 0);
}

/* ---- Starts with other nodes, while threads are made known that ask on which they are ---- */

static _Atomic bool asking;
static void *askForNodes(void *unused)
{
    while (asking) {
        rts_setInCallHosting(true);
        hs_thread_done();
    }
    return NULL;
}
static void testOtherNodes(void **state)
{
    pthread_t threads[2];
    asking = true;
    for (int i = 0; i < 2; i++) threads[i] = spawn(askForNodes, NULL);
    for (HsInt i = 0; i < many(200); i++) {
        hs_exit();
        RtsConfig config = schedConfig(2);
        config.debug_numa_nodes = 1 + (unsigned)i % 4;
        assert_int_equal(rts_start(&config, NULL, 0), RTS_OK);
        assert_int_equal(callWell(), 42);
    }
    asking = false;
    for (int i = 0; i < 2; i++) joinThread(threads[i]);
}

/* ---- A thread whose first in-call comes in the last round of its key destructors: the record stays, no more ---- */

static pthread_key_t lastKey;
static _Atomic int calledLast;
static void callInLastRound(void *round)
{
    if ((intptr_t)round < PTHREAD_DESTRUCTOR_ITERATIONS) pthread_setspecific(lastKey, (void *)((intptr_t)round + 1));
    else calledLast += callWell() == 42;
}
static void *endThere(void *unused)
{
    pthread_setspecific(lastKey, (void *)1);
    return NULL;
}
static void testLastRound(void **state)
{
    enum { THREADS = 5 };
#ifdef MISUSE_TSAN
    skip(); /* has taken leave of the thread by then, and comes to harm */
#endif
    assert_int_equal(callWell(), 42);
    assert_int_equal(pthread_key_create(&lastKey, callInLastRound), 0);
    calledLast = 0;
    unsigned tasks = tasksNow();
    for (int i = 0; i < THREADS; i++) onThread(endThere, NULL);
    assert_int_equal(calledLast, THREADS);
    assert_int_equal(tasksNow(), tasks + THREADS);
    /* They are in nobody's way. */
    for (int i = 0; i < 3; i++) {
        hs_perform_gc();
        assert_int_equal(callWell(), 42);
        hs_exit();
        setUpTwo(state);
    }
    assert_int_equal(tasksNow(), tasks + THREADS);
    pthread_key_delete(lastKey);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ALL(testIds), ALL(testIdsOfInCalls), { "testStatuses", testStatuses, setUpHook, disarmTest, NULL }, ONE(testNonsense),
        ALL(testPlaces), FOUR(testSchedule), ALL(testBodies), ALL(testList), ALL(testCounts),
        { "testCountsWithoutRuntime", testCountsWithoutRuntime, armTest, disarmTest, NULL },
        TWO(testOtherNodes), TWO(testLastRound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

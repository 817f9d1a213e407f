/*
 * Weak pointers: when they die, what they keep alive until then, who runs their finalizers, when and how often.
 */
#define IDLE_COLLECTION_US 1000000000 /* nobody collects but who is told to */
#include "keeping.h"

#include <sys/wait.h>

static void removeAll(unsigned n, const HsStablePtr *all)
{
    for (unsigned i = 0; i < n; i++) hs_free_stable_ptr(all[i]);
}

static bool isAlive(HsStablePtr weak)
{
    HaskellObj value;
    Capability *cap = rts_lock();
    bool alive = rts_deRefWeak(kept(weak), &value);
    assert_true(alive == (value != CAPSTAN_POISON));
    rts_unlock(cap);
    return alive;
}

/* The weak pointer's value is a box with this number. */
static void assertValue(HsStablePtr weak, HsInt n)
{
    HaskellObj value;
    Capability *cap = rts_lock();
    assert_true(rts_deRefWeak(kept(weak), &value));
    assert_int_equal(rts_getInt(value), n);
    rts_unlock(cap);
}

/* key: NULL: nobody keeps it. */
static HsStablePtr makeWeak(HsStablePtr *key, HsInt n)
{
    Capability *cap = rts_lock();
    HaskellObj k = thing(cap, n);
    HsStablePtr weak = keep(rts_mkWeakNoFinalizer(cap, k, rts_mkInt(cap, INT64_MIN + n)));
    if (key != NULL) *key = keep(k);
    rts_unlock(cap);
    return weak;
}

/* ---- Life and death ---- */

static void testLivesWithItsKey(void **state)
{
    HsStablePtr key, weak = makeWeak(&key, 7);
    for (int i = 0; i < 8; i++) {
        assertValue(weak, INT64_MIN + 7);
        if (i % 3 == 2) hs_perform_gc();
        else rts_performMinorGC();
    }
    hs_free_stable_ptr(key);
    hs_perform_gc();
    assert_false(isAlive(weak));
    hs_perform_gc();
    assert_false(isAlive(weak));
    hs_free_stable_ptr(weak);
}

static void testYoungKeyDiesInMinorCollection(void **state)
{
    HsStablePtr weak = makeWeak(NULL, 1);
#ifndef CAPSTAN_TORTURE
    assert_true(isAlive(weak)); /* nothing was collected */
#endif
    rts_performMinorGC();
    assert_false(isAlive(weak));
    hs_free_stable_ptr(weak);
}

static void testOldKeyDiesInMajorCollection(void **state)
{
    HsStablePtr key, weak = makeWeak(&key, 1);
    growOld();
    hs_free_stable_ptr(key);
    hs_perform_gc();
    assert_false(isAlive(weak));
    hs_free_stable_ptr(weak);
}

/* A young value of an old key, and the other way round, through several minor collections. */
static void testMixedAges(void **state)
{
    Capability *cap = rts_lock();
    HsStablePtr key = keep(thing(cap, 1));
    rts_unlock(cap);
    growOld();
    cap = rts_lock();
    HsStablePtr weak = keep(rts_mkWeakNoFinalizer(cap, kept(key), rts_mkInt(cap, INT64_MIN + 5)));
    HsStablePtr value = keep(rts_mkInt(cap, INT64_MIN + 6));
    rts_unlock(cap);
    for (int i = 0; i < 4; i++) {
        rts_performMinorGC();
        assertValue(weak, INT64_MIN + 5);
    }
    cap = rts_lock();
    HaskellObj young = thing(cap, 2);
    HsStablePtr youngKey = keep(young), other = keep(rts_mkWeakNoFinalizer(cap, young, kept(value)));
    rts_unlock(cap);
    for (int i = 0; i < 4; i++) {
        rts_performMinorGC();
        assertValue(other, INT64_MIN + 6);
    }
    removeAll(5, (HsStablePtr[]){ key, weak, value, youngKey, other });
}

static HaskellObj bytesOf(Capability *cap, int kind)
{
    static char foreign[64];
    switch (kind) {
    case 0: return rts_mkBytes(cap, NULL, 100000);
    case 1: return rts_mkBytesPinned(cap, NULL, 64);
    case 2: return rts_mkBytesExternal(cap, foreign, sizeof foreign, NULL, NULL);
    case 3: return rts_mkArray(cap, 20000, CAPSTAN_UNIT);
    default: return rts_mkMVar(cap);
    }
}

/* Large, pinned and foreign keys. */
static void testKindsOfKeys(void **state)
{
    HsStablePtr keys[5], weaks[5];
    Capability *cap = rts_lock();
    for (int i = 0; i < 5; i++) {
        HaskellObj key = bytesOf(cap, i);
        keys[i] = keep(key);
        weaks[i] = keep(rts_mkWeakNoFinalizer(cap, key, rts_mkInt(cap, i)));
    }
    rts_unlock(cap);
    for (int round = 0; round < 4; round++) {
        if (round == 2) hs_perform_gc();
        else rts_performMinorGC();
        for (int i = 0; i < 5; i++) assertValue(weaks[i], i);
    }
    removeAll(5, keys);
    hs_perform_gc();
    for (int i = 0; i < 5; i++) assert_false(isAlive(weaks[i]));
    removeAll(5, weaks);
}

static void testImmediateAndStaticKeysNeverDie(void **state)
{
    HaskellObj keys[] = { CAPSTAN_SMALL_INT(5), CAPSTAN_UNIT, CAPSTAN_TRUE, &capstan_catch_closure };
    HsStablePtr weaks[4];
    Capability *cap = rts_lock();
    for (int i = 0; i < 4; i++) weaks[i] = keep(rts_mkWeak(cap, keys[i], rts_mkInt(cap, INT64_MIN + i), noteAction(cap, i)));
    rts_unlock(cap);
    clearNotes();
    growOld();
    hs_perform_gc();
    for (int i = 0; i < 4; i++) assertValue(weaks[i], INT64_MIN + i);
    removeAll(4, weaks);
    hs_perform_gc();
    sleepMs(20);
    assert_int_equal(noteCount, 0);
}

/* ---- What is reachable ---- */

CAPSTAN_CON(Pair, 1, first, second)

/* The value refers to its own key: that keeps neither. */
static void testKeyInItsOwnValue(void **state)
{
    Capability *cap = rts_lock();
    HaskellObj key = thing(cap, 1);
    HsStablePtr weak = keep(rts_mkWeakNoFinalizer(cap, key, Pair_new(cap, key, key)));
    HsStablePtr keeper = keep(key);
    rts_unlock(cap);
    growOld();
    assert_true(isAlive(weak));
    hs_free_stable_ptr(keeper);
    hs_perform_gc();
    assert_false(isAlive(weak));
    hs_free_stable_ptr(weak);
}

/* Two whose values refer to the other's key. */
static void testCircle(void **state)
{
    Capability *cap = rts_lock();
    HaskellObj a = thing(cap, 1), b = thing(cap, 2);
    HsStablePtr weaks[] = { keep(rts_mkWeakNoFinalizer(cap, a, Pair_new(cap, b, b))), keep(rts_mkWeakNoFinalizer(cap, b, Pair_new(cap, a, a))) };
    HsStablePtr keeper = keep(a);
    rts_unlock(cap);
    rts_performMinorGC();
    hs_perform_gc();
    assert_true(isAlive(weaks[0]) && isAlive(weaks[1]));
    hs_free_stable_ptr(keeper);
    hs_perform_gc();
    assert_false(isAlive(weaks[0]) || isAlive(weaks[1]));
    removeAll(2, weaks);
}

/* Each value leads to the next key, made in a random order: all live by the first. */
static void testChain(void **state)
{
    enum { LENGTH = 400 };
    HsStablePtr weaks[LENGTH];
    uint64_t seed = 1;
    Capability *cap = rts_lock();
    HaskellObj keys[LENGTH + 1];
    unsigned order[LENGTH];
    for (unsigned i = 0; i <= LENGTH; i++) keys[i] = thing(cap, (HsInt)i);
    for (unsigned i = 0; i < LENGTH; i++) order[i] = i;
    for (unsigned i = LENGTH; i-- > 1;) {
        unsigned j = nextRandom(&seed) % (i + 1), t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
    for (unsigned i = 0; i < LENGTH; i++) {
        unsigned n = order[i];
        weaks[n] = keep(rts_mkWeakNoFinalizer(cap, keys[n], Pair_new(cap, keys[n + 1], CAPSTAN_UNIT)));
    }
    HsStablePtr keeper = keep(keys[0]);
    rts_unlock(cap);
    for (int round = 0; round < 3; round++) {
        if (round == 1) hs_perform_gc();
        else rts_performMinorGC();
        for (unsigned i = 0; i < LENGTH; i++) assert_true(isAlive(weaks[i]));
    }
    cap = rts_lock();
    HaskellObj value, key = kept(keeper);
    for (unsigned i = 0; i < LENGTH; i++) {
        assert_int_equal(numberOf(key), i);
        assert_true(rts_deRefWeak(kept(weaks[i]), &value));
        key = CAPSTAN_GET(Pair, value, first);
    }
    rts_unlock(cap);
    hs_free_stable_ptr(keeper);
    hs_perform_gc();
    for (unsigned i = 0; i < LENGTH; i++) assert_false(isAlive(weaks[i]));
    removeAll(LENGTH, weaks);
}

CAPSTAN_THUNK(lazyThing, 0) { return thing(stack->cap, 3); }
CAPSTAN_IO(forceIt, v) { return rts_force(stack, v); }

/* A thunk's weak pointer becomes its value's. */
static void testThunkAsKey(void **state)
{
    Capability *cap = rts_lock();
    HaskellObj thunk = rts_mkClosure(cap, &lazyThing_info, NULL), value;
    HsStablePtr weak = keep(rts_mkWeakNoFinalizer(cap, thunk, rts_mkInt(cap, 9))), keeper = keep(thunk);
    rts_unlock(cap);
    rts_performMinorGC();
    assertValue(weak, 9);
    cap = rts_lock();
    rts_evalIO(&cap, rts_apply(cap, &forceIt_closure, kept(keeper)), &value);
    assert_int_equal(rts_getSchedStatus(cap), Success);
    HsStablePtr result = keep(value);
    rts_unlock(cap);
    hs_free_stable_ptr(keeper);
    for (int i = 0; i < 4; i++) {
        rts_performMinorGC();
        assertValue(weak, 9);
    }
    hs_perform_gc();
    assertValue(weak, 9);
    hs_free_stable_ptr(result);
    hs_perform_gc();
    assert_false(isAlive(weak));
    hs_free_stable_ptr(weak);
}

/* ---- Finalizers ---- */

static void makeDying(Capability *cap, HsInt n)
{
    rts_mkWeak(cap, thing(cap, n), CAPSTAN_UNIT, noteAction(cap, n));
}

/* Once, though nobody knows the weak pointer. */
static void testFinalizerRunsOnce(void **state)
{
    Capability *cap = rts_lock();
    makeDying(cap, 42);
    rts_unlock(cap);
    clearNotes();
    rts_performMinorGC();
    AWAIT_NOTES(1);
    for (int i = 0; i < 3; i++) hs_perform_gc();
    sleepMs(10);
    assert_int_equal(noteCount, 1);
    assert_int_equal(notes[0], 42);
}

static void testOrderOfCreation(void **state)
{
    enum { COUNT = 1000 };
    Capability *cap = rts_lock();
    for (int i = 0; i < COUNT; i++) makeDying(cap, i);
    rts_unlock(cap);
    clearNotes();
    rts_performMinorGC();
    AWAIT_NOTES(COUNT);
    for (int i = 0; i < COUNT; i++) assert_int_equal(notes[i], i);
}

/* Of those that grew old between others. */
static void testOrderAcrossAges(void **state)
{
    enum { COUNT = 40 };
    HsStablePtr keys[COUNT];
    for (int i = 0; i < COUNT; i++) {
        Capability *cap = rts_lock();
        HaskellObj key = thing(cap, i);
        keys[i] = keep(key);
        rts_mkWeak(cap, key, CAPSTAN_UNIT, noteAction(cap, i));
        rts_unlock(cap);
        if (i % 7 == 6) rts_performMinorGC();
    }
    removeAll(COUNT, keys);
    clearNotes();
    hs_perform_gc();
    AWAIT_NOTES(COUNT);
    for (int i = 0; i < COUNT; i++) assert_int_equal(notes[i], i);
}

static _Atomic bool wasBound;
static _Atomic(pthread_t) ranOn;

CAPSTAN_IO(tellThread)
{
    ranOn = pthread_self();
    wasBound = rts_isCurrentThreadBound(stack);
    makeNote(1);
    return CAPSTAN_UNIT;
}

/* Waits, as a host, for what its finalizer brings. */
CAPSTAN_IO(awaitFinalizer, box)
{
    HaskellObj action = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, box, action);
    action = &tellThread_closure;
    rts_mkWeak(stack->cap, thing(stack->cap, 1), CAPSTAN_UNIT, action);
    rts_mkWeak(stack->cap, thing(stack->cap, 2), CAPSTAN_UNIT,
               rts_apply(stack->cap, rts_apply(stack->cap, &capstan_putMVar_closure, box), CAPSTAN_SMALL_INT(5)));
    rts_collect(stack, true);
    HaskellObj result = rts_takeMVar(stack, box);
    CAPSTAN_UNROOT(stack);
    return result;
}

static void testNeverOnAHost(void **state)
{
    clearNotes();
    Capability *cap = rts_lock();
    HaskellObj result;
    rts_evalIO(&cap, rts_apply(cap, &awaitFinalizer_closure, rts_mkMVar(cap)), &result);
    assert_int_equal(rts_getSchedStatus(cap), Success);
    assert_int_equal(rts_getInt(result), 5);
    rts_unlock(cap);
    assert_int_equal(noteCount, 1);
    assert_false(wasBound);
    assert_false(pthread_equal(ranOn, pthread_self()));
}

CAPSTAN_IO(raiseSomething) { rts_raiseError(stack, "finalizer went wrong"); }
static _Atomic unsigned uncaught;
static void countUncaught(void *ctx, StgWord64 id, const char *label, HaskellObj exception, const char *text)
{
    if (strcmp(label, "finalizers") == 0 && strstr(text, "went wrong") != NULL) uncaught++;
}

static int setUpUncaught(void **state)
{
    RtsConfig config = schedConfig(2);
    config.uncaughtHook = countUncaught;
    uncaught = 0;
    return setUpWith(state, &config);
}

/* One that raises, one that leaves its mask behind, one that is killed: those behind them run all the same. */
CAPSTAN_IO(killMyself)
{
    rts_killThread(stack, rts_myThreadId(stack));
    return CAPSTAN_UNIT;
}
static void testFinalizersThatRaise(void **state)
{
    Capability *cap = rts_lock();
    makeDying(cap, 1);
    rts_mkWeak(cap, thing(cap, 0), CAPSTAN_UNIT, &raiseSomething_closure);
    makeDying(cap, 2);
    rts_mkWeak(cap, thing(cap, 0), CAPSTAN_UNIT, &killMyself_closure);
    makeDying(cap, 3);
    rts_mkWeak(cap, thing(cap, 0), CAPSTAN_UNIT, CAPSTAN_SMALL_INT(9)); /* no action at all */
    makeDying(cap, 4);
    rts_unlock(cap);
    clearNotes();
    rts_performMinorGC();
    AWAIT_NOTES(4);
    for (int i = 0; i < 4; i++) assert_int_equal(notes[i], i + 1);
    assert_int_equal(uncaught, 1);
}

/* A finalizer that waits holds up its batch, and no other. */
static void testFinalizerThatWaits(void **state)
{
    Capability *cap = rts_lock();
    HaskellObj box = rts_mkMVar(cap);
    HsStablePtr keeper = keep(box);
    makeDying(cap, 1);
    rts_mkWeak(cap, thing(cap, 0), CAPSTAN_UNIT, rts_apply(cap, &capstan_takeMVar_closure, box));
    makeDying(cap, 2);
    rts_unlock(cap);
    clearNotes();
    rts_performMinorGC();
    AWAIT_NOTES(1);
    cap = rts_lock();
    makeDying(cap, 3);
    rts_unlock(cap);
    rts_performMinorGC();
    AWAIT_NOTES(2);
    hs_perform_gc();
    assert_int_equal(notes[0], 1);
    assert_int_equal(notes[1], 3);
    hs_try_putmvar(-1, keeper); /* frees it */
    AWAIT_NOTES(3);
    assert_int_equal(notes[2], 2);
}

/* ---- A finalizer that revives its key ---- */

CAPSTAN_STATIC_MUTVAR(refuge, CAPSTAN_UNIT);
CAPSTAN_IO(saveKey, key)
{
    rts_writeMutVar(stack->cap, &refuge_closure, key);
    makeNote(1);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(emptyRefuge)
{
    rts_writeMutVar(stack->cap, &refuge_closure, CAPSTAN_UNIT);
    return CAPSTAN_UNIT;
}

/* Its weak pointers are dead, but memory that C finalizers give back stays until it can not be reached at all. */
static void testRevivedKey(void **state)
{
    Capability *cap = rts_lock();
    HaskellObj key = thing(cap, 77);
    HsStablePtr weak = keep(rts_mkWeak(cap, key, CAPSTAN_UNIT, rts_apply(cap, &saveKey_closure, key)));
    HsStablePtr other = keep(rts_mkWeakNoFinalizer(cap, key, CAPSTAN_UNIT));
    assert_true(rts_addCFinalizerToWeak(cap, kept(other), noteInC, NULL, (void *)5));
    rts_unlock(cap);
    clearNotes();
    rts_performMinorGC();
    AWAIT_NOTES(1);
    assert_false(isAlive(weak) || isAlive(other));
    for (int i = 0; i < 4; i++) rts_performMinorGC();
    hs_perform_gc();
    assert_int_equal(noteCount, 1);
    cap = rts_lock();
    assert_int_equal(numberOf(rts_readMutVar(&refuge_closure)), 77);
    rts_unlock(cap);
    run(&emptyRefuge_closure);
    hs_perform_gc();
    AWAIT_NOTES(2);
    assert_int_equal(notes[1], 5);
    removeAll(2, (HsStablePtr[]){ weak, other });
}

/* ---- By hand ---- */

CAPSTAN_IO(finalizeTwice, weak)
{
    HaskellObj value;
    CAPSTAN_ROOTS(stack, weak);
    rts_finalizeWeak(stack, weak);
    CHECK(!rts_deRefWeak(weak, &value));
    CHECK(noteCount == 3);
    rts_finalizeWeak(stack, weak);
    CHECK(noteCount == 3);
    CHECK(!rts_addCFinalizerToWeak(stack->cap, weak, noteInC, NULL, NULL));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

static void testByHand(void **state)
{
    for (int inThread = 0; inThread < 2; inThread++) {
        Capability *cap = rts_lock();
        HaskellObj key = thing(cap, 1), result;
        HsStablePtr keeper = keep(key), weak = keep(rts_mkWeak(cap, key, CAPSTAN_UNIT, noteAction(cap, 3)));
        assert_true(rts_addCFinalizerToWeak(cap, kept(weak), noteInC, NULL, (void *)2));
        assert_true(rts_addCFinalizerToWeak(cap, kept(weak), noteInC, NULL, (void *)1));
        clearNotes();
        HaskellObj action = rts_apply(cap, &finalizeTwice_closure, kept(weak));
        rts_evalIO(&cap, inThread ? APPLY(cap, schedInThread, action) : action, &result);
        assert_int_equal(rts_getSchedStatus(cap), Success);
        rts_unlock(cap);
        assert_int_equal(failedChecks, 0);
        for (int i = 0; i < 3; i++) assert_int_equal(notes[i], i + 1);
        removeAll(2, (HsStablePtr[]){ keeper, weak });
        hs_perform_gc();
        sleepMs(5);
        assert_int_equal(noteCount, 3);
    }
}

CAPSTAN_IO(viaClosures)
{
    HaskellObj key = thing(stack->cap, 1), weak = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, key, weak);
    weak = rts_call(stack, &capstan_mkWeak_closure, key, CAPSTAN_SMALL_INT(8), noteAction(stack->cap, 1), CAPSTAN_WORLD);
    CHECK(rts_call(stack, &capstan_deRefWeak_closure, weak, CAPSTAN_UNIT, CAPSTAN_WORLD) == CAPSTAN_SMALL_INT(8));
    rts_call(stack, &capstan_finalizeWeak_closure, weak, CAPSTAN_WORLD);
    CHECK(rts_call(stack, &capstan_deRefWeak_closure, weak, CAPSTAN_UNIT, CAPSTAN_WORLD) == CAPSTAN_UNIT);
    weak = rts_call(stack, &capstan_mkWeakNoFinalizer_closure, key, CAPSTAN_SMALL_INT(8), CAPSTAN_WORLD);
    CHECK(rts_call(stack, &capstan_deRefWeak_closure, weak, CAPSTAN_UNIT, CAPSTAN_WORLD) == CAPSTAN_SMALL_INT(8));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
static void testClosures(void **state)
{
    clearNotes();
    run(&viaClosures_closure);
    assert_int_equal(noteCount, 1);
}

/* ---- C finalizers ---- */

static void testCFinalizersInReverse(void **state)
{
    _Atomic unsigned count = 0;
    Capability *cap = rts_lock();
    for (intptr_t w = 0; w < 20; w++) {
        HaskellObj weak = rts_mkWeakNoFinalizer(cap, thing(cap, w), CAPSTAN_UNIT);
        for (intptr_t i = 3; i-- > 0;) assert_true(rts_addCFinalizerToWeak(cap, weak, noteInC, &count, (void *)(w * 3 + i)));
    }
    rts_unlock(cap);
    clearNotes();
    rts_performMinorGC(); /* by this thread, before it returns */
    assert_int_equal(count, 60);
    for (int i = 0; i < 60; i++) assert_int_equal(notes[i], i);
}

static RtsStatus refusals[4];
static void tryThings(void *ctx, void *ptr)
{
    Capability *cap = rts_lock();
    refusals[0] = rts_getRefusal(cap);
    rts_unlock(cap);
    refusals[1] = rts_tryLock(&cap);
    hs_perform_gc();
    refusals[2] = heardError(RTS_IN_FINALIZER) != 0 ? RTS_IN_FINALIZER : RTS_OK;
    hs_exit();
    ranOn = pthread_self();
    makeNote(1);
}

/* Collected by this thread; and inside managed code, where the collecting thread holds a capability. */
CAPSTAN_IO(collectInside)
{
    rts_collect(stack, true);
    return CAPSTAN_UNIT;
}
static void testCFinalizersCannotCallIn(void **state)
{
    for (int inside = 0; inside < 2; inside++) {
        memset(refusals, 0, sizeof refusals);
        Capability *cap = rts_lock();
        rts_addCFinalizerToWeak(cap, rts_mkWeakNoFinalizer(cap, thing(cap, 1), CAPSTAN_UNIT), tryThings, NULL, NULL);
        rts_unlock(cap);
        clearNotes();
        if (inside) run(&collectInside_closure);
        else hs_perform_gc();
        AWAIT_NOTES(1);
        assert_int_equal(refusals[0], RTS_IN_FINALIZER);
        assert_int_equal(refusals[1], RTS_IN_FINALIZER);
        assert_int_equal(refusals[2], RTS_IN_FINALIZER);
        assert_int_equal(heardError(RTS_INSIDE_INCALL), 1);
        assert_int_equal(!pthread_equal(ranOn, pthread_self()), inside);
        heardOtherErrors();
    }
}

static _Atomic bool begun;
static void slowFinalizer(void *ctx, void *ptr)
{
    begun = true;
    while (!atomic_load((_Atomic int *)ctx)) sleepMs(1);
    makeNote(1);
}

/* One that takes long holds no capability: others go on, and collect. */
static void testSlowCFinalizerHoldsNobodyUp(void **state)
{
    _Atomic int go = 0;
    Capability *cap = rts_lock();
    rts_addCFinalizerToWeak(cap, rts_mkWeakNoFinalizer(cap, thing(cap, 1), CAPSTAN_UNIT), slowFinalizer, &go, NULL);
    rts_unlock(cap);
    clearNotes();
    begun = false;
    run(&collectInside_closure);
    AWAIT(begun); /* else this thread would take it upon itself */
    for (int i = 0; i < 20; i++) {
        assert_int_equal(callWell(), 42);
        hs_perform_gc();
    }
    assert_int_equal(noteCount, 0);
    go = 1;
    AWAIT_NOTES(1);
}

/* Finalizers that end the OS thread that they run on: those behind them are not lost. */
static void endThread(void *ctx, void *ptr) { pthread_exit(NULL); }
CAPSTAN_IO(endMyThread)
{
    endThread(NULL, NULL);
    return CAPSTAN_UNIT;
}
static void testFinalizersThatEndTheirThread(void **state)
{
    Capability *cap = rts_lock();
    for (intptr_t i = 0; i < 3; i++) {
        HaskellObj weak = rts_mkWeak(cap, thing(cap, 1), CAPSTAN_UNIT, i == 1 ? &endMyThread_closure : noteAction(cap, i));
        rts_addCFinalizerToWeak(cap, weak, i == 1 ? endThread : noteInC, NULL, (void *)(i + 10));
    }
    rts_unlock(cap);
    clearNotes();
    run(&collectInside_closure);
    AWAIT_NOTES(4);
    assert_int_equal(callWell(), 42);
    hs_exit();
    assert_int_equal(noteCount, 4);
}

/* ---- Exit ---- */

static void testExit(void **state)
{
    _Atomic unsigned count = 0;
    HsStablePtr key;
    makeWeak(&key, 1);
    Capability *cap = rts_lock();
    for (intptr_t i = 0; i < 10; i++) {
        HaskellObj weak = rts_mkWeak(cap, i % 2 ? kept(key) : thing(cap, i), CAPSTAN_UNIT, noteAction(cap, 100 + i));
        rts_addCFinalizerToWeak(cap, weak, noteInC, &count, (void *)i);
    }
    rts_unlock(cap);
    clearNotes();
    hs_exit();
    assert_int_equal(count, 10);
    assert_int_equal(noteCount, 10);
    for (int i = 0; i < 10; i++) assert_int_equal(notes[i], i);
}

/* Exit while batches are running, waiting, and not begun. */
static void testExitAmongFinalizers(void **state)
{
    Capability *cap = rts_lock();
    for (int i = 0; i < 200; i++) {
        rts_mkWeak(cap, thing(cap, i), CAPSTAN_UNIT, i % 50 == 25 ? rts_apply(cap, &capstan_takeMVar_closure, rts_mkMVar(cap)) : noteAction(cap, i));
    }
    rts_unlock(cap);
    rts_performMinorGC();
    cap = rts_lock();
    for (int i = 0; i < 200; i++) makeDying(cap, i);
    rts_unlock(cap);
    rts_performMinorGC();
    hs_exit();
    assert_false(isRunning());
    assert_int_equal(rts_start(NULL, NULL, 0), RTS_OK);
    assert_int_equal(callWell(), 42);
    hs_exit();
}

/* In a forked child the parent's finalizers are not run, and weak pointers work anew. */
static int inChild(void)
{
    _Atomic unsigned count = 0;
    if (rts_start(NULL, NULL, 0) != RTS_OK) return 1;
    Capability *cap = rts_lock();
    rts_addCFinalizerToWeak(cap, rts_mkWeakNoFinalizer(cap, thing(cap, 1), CAPSTAN_UNIT), noteInC, &count, NULL);
    rts_unlock(cap);
    hs_perform_gc();
    if (count != 1) return 2;
    hs_exit();
    return noteCount == 1 ? 0 : 3;
}
static void testFork(void **state)
{
    _Atomic unsigned count = 0;
    Capability *cap = rts_lock();
    HsStablePtr key = keep(thing(cap, 1));
    rts_addCFinalizerToWeak(cap, rts_mkWeak(cap, kept(key), CAPSTAN_UNIT, noteAction(cap, 1)), noteInC, &count, (void *)9);
    rts_unlock(cap);
    growOld();
    clearNotes();
    pid_t child = fork();
    if (child == 0) _exit(inChild());
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(count, 0);
    hs_exit();
    assert_int_equal(count, 1);
}

/* ---- Bad input, no memory ---- */

static void testBadInput(void **state)
{
    HaskellObj value = CAPSTAN_UNIT;
    Capability *cap = rts_lock();
    assert_false(rts_deRefWeak(CAPSTAN_SMALL_INT(1), &value));
    assert_int_equal(heardError(RTS_WRONG_KIND), 1);
    assert_ptr_equal(value, CAPSTAN_POISON);
    assert_false(rts_addCFinalizerToWeak(cap, thing(cap, 1), noteInC, NULL, NULL));
    assert_int_equal(heardError(RTS_WRONG_KIND), 1);
    assert_ptr_equal(rts_mkWeak(cap, CAPSTAN_POISON, CAPSTAN_UNIT, NULL), CAPSTAN_POISON);
    assert_ptr_equal(rts_mkWeak(cap, CAPSTAN_UNIT, CAPSTAN_POISON, NULL), CAPSTAN_POISON);
    assert_ptr_equal(rts_mkWeak(cap, NULL, CAPSTAN_UNIT, NULL), CAPSTAN_POISON);
    assert_int_equal(heardError(RTS_BAD_ARGUMENT), 1);
    assert_false(rts_deRefWeak(CAPSTAN_POISON, &value));
    assert_int_equal(heardOtherErrors(), 0);
    rts_unlock(cap);
    char text[200];
    assert_int_equal(runStatus(&capstan_finalizeWeak_closure, CAPSTAN_SMALL_INT(3), NULL, text, sizeof text), Killed);
}

void osFailAfter(long n);
long osFailuresInjected(void);

static void testNoMemory(void **state)
{
    Capability *cap = rts_lock();
    HaskellObj weak = rts_mkWeakNoFinalizer(cap, &note_closure, CAPSTAN_UNIT), value, other;
    osFailAfter(1);
    other = rts_mkWeakNoFinalizer(cap, &note_closure, CAPSTAN_UNIT);
    assert_int_equal(osFailuresInjected(), 1);
    osFailAfter(1);
    bool added = rts_addCFinalizerToWeak(cap, weak, noteInC, NULL, NULL);
    osFailAfter(0);
    assert_ptr_equal(other, CAPSTAN_POISON);
    assert_false(added);
    assert_true(rts_deRefWeak(weak, &value));
    rts_evalIO(&cap, &collectInside_closure, NULL);
    assert_int_equal(rts_getSchedStatus(cap), HeapExhausted);
    rts_unlock(cap);
}

#define on(f) TWO(f)
/* Sanitizers take a thread's end for the end of the stack that it runs on. */
#if SLOW_BUILD
static void leaveOut(void **state) { skip(); }
#define LEAVING(f) ((void)(f), leaveOut)
#else
#define LEAVING(f) f
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        on(testLivesWithItsKey), on(testYoungKeyDiesInMinorCollection), on(testOldKeyDiesInMajorCollection), on(testMixedAges),
        on(testKindsOfKeys), on(testImmediateAndStaticKeysNeverDie), on(testKeyInItsOwnValue), on(testCircle), on(testChain),
        on(testThunkAsKey), ALL(testFinalizerRunsOnce), ONE(testOrderOfCreation), on(testOrderOfCreation), on(testOrderAcrossAges),
        ALL(testNeverOnAHost), { "testFinalizersThatRaise", testFinalizersThatRaise, setUpUncaught, disarmTest, NULL },
        ONE(testFinalizerThatWaits), on(testFinalizerThatWaits), on(testRevivedKey), ONE(testByHand), on(testByHand), on(testClosures), on(testCFinalizersInReverse),
        ONE(testCFinalizersCannotCallIn), on(testCFinalizersCannotCallIn), ONE(testSlowCFinalizerHoldsNobodyUp), on(testSlowCFinalizerHoldsNobodyUp), { "testFinalizersThatEndTheirThread", LEAVING(testFinalizersThatEndTheirThread), setUpTwo, disarmTest, NULL },
        ALL(testExit),
        ONE(testExitAmongFinalizers), on(testExitAmongFinalizers), on(testFork), on(testBadInput), on(testNoMemory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

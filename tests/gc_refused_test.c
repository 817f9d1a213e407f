/*
 * Collections for which the operating system has no memory: nothing is copied, what lives becomes old where it is, and what is dead goes. All the memory
 * that the heap has free is taken away before, and none is added.
 */
#define IDLE_COLLECTION_US 1000000000 /* nobody collects but who is told to */
#include "generation.h"
#include "refuse.h"

#include "capability.h"
#include "gc/heap.h"

/* A collection that was asked for may come after others, which had memory; and what is dead becomes inaccessible: to undo that is what is refused. */
#ifdef CAPSTAN_TORTURE
#define COLLECTS_MORE true
#else
#define COLLECTS_MORE false
#endif

static void collectWithout(Stack *stack)
{
    refuseMemory();
    rts_collect(stack, true);
    allowMemory();
    litter(stack);
}

/* Where four objects are. */
static uintptr_t places[4];
static void notePlaces(const HaskellObj objects[4]) { memcpy(places, objects, sizeof places); }
static bool areThereStill(const HaskellObj objects[4]) { return memcmp(places, objects, sizeof places) == 0; }

/* In each kind of object that changes: what is young when nothing can be copied stays where it is, and is old from then on. */
CASE(variablesBecomeOld)
{
    HaskellObj var = rts_mkMutVar(stack->cap, fresh(stack->cap, 1)), array = rts_mkArray(stack->cap, 9, fresh(stack->cap, 2));
    HaskellObj large = rts_mkArray(stack->cap, 3000, fresh(stack->cap, 3)), mvar = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, var, array, large, mvar);
    rts_putMVar(stack, mvar, fresh(stack->cap, 4));
    notePlaces((HaskellObj[]){ var, array, large, mvar });
    collectWithout(stack);
    CHECK(COLLECTS_MORE || areThereStill((HaskellObj[]){ var, array, large, mvar }));
    CHECK(isFresh(rts_readMutVar(var), 1) && isFresh(rts_getElem(array, 8), 2) && isFresh(rts_getElem(large, 2999), 3));
    CHECK(isFresh(rts_takeMVar(stack, mvar), 4));
    rts_writeMutVar(stack->cap, var, fresh(stack->cap, 5));
    rts_setElem(stack->cap, array, 4, fresh(stack->cap, 6));
    rts_setElem(stack->cap, large, 1500, fresh(stack->cap, 7));
    rts_putMVar(stack, mvar, fresh(stack->cap, 8));
    CHECK_THROUGH(stack, isFresh(rts_readMutVar(var), 5) && isFresh(rts_getElem(array, 4), 6) && isFresh(rts_getElem(large, 1500), 7));
    CHECK(isFresh(rts_takeMVar(stack, mvar), 8));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* Objects of all ages, again and again: among the dead, which make room for others. */
CASE(allAges)
{
    enum { COUNT = 200, ROUNDS = 5 };
    HaskellObj array = rts_mkArray(stack->cap, COUNT, CAPSTAN_UNIT);
    CAPSTAN_ROOTS(stack, array);
    for (HsInt round = 0; round < ROUNDS; round++) {
        for (HsInt i = round; i < COUNT; i += 1 + round) {
            rts_setElem(stack->cap, array, (size_t)i, fresh(stack->cap, round * COUNT + i));
            if (i % 61 == 0) minor(stack);
        }
        collectWithout(stack);
        for (HsInt i = round; i < COUNT; i += 1 + round) CHECK(isFresh(rts_getElem(array, (size_t)i), round * COUNT + i));
        if (round == 3) major(stack);
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

static bool isAnythingRemembered(const RememberedSet *set) { return set->blocks != NULL; }

/* Slots of what has died must not be looked at again: others will lie there. */
CASE(nothingIsRemembered)
{
    HaskellObj array = rts_mkArray(stack->cap, 300, CAPSTAN_UNIT);
    CAPSTAN_ROOTS(stack, array);
    makeOld(stack);
    for (size_t i = 0; i < 300; i++) rts_setElem(stack->cap, array, i, fresh(stack->cap, (HsInt)i));
    CHECK(isAnythingRemembered(&stack->cap->nursery.remembered));
    refuseMemory();
    rts_collect(stack, true);
    CHECK(COLLECTS_MORE || !isAnythingRemembered(&stack->cap->nursery.remembered));
    allowMemory();
    CHECK_THROUGH(stack, isFresh(rts_getElem(array, 299), 299));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* Slots that nobody has the memory to remember: the next collection looks at everything. */
CASE(slotsAreForgotten)
{
    enum { SLOTS = 20000 };
    HaskellObj old = rts_mkArray(stack->cap, SLOTS, CAPSTAN_UNIT), young = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, old, young);
    makeOld(stack);
    young = rts_mkArray(stack->cap, SLOTS, CAPSTAN_UNIT);
    for (size_t i = 0; i < SLOTS; i++) rts_setElem(stack->cap, young, i, fresh(stack->cap, (HsInt)i));
    refuseMemory();
    for (size_t i = 0; i < SLOTS; i++) rts_setElem(stack->cap, old, i, rts_getElem(young, i));
    allowMemory();
    young = CAPSTAN_UNIT;
    CHECK(heap.forgot);
    minor(stack);
    CHECK(!heap.forgot);
    for (size_t i = 0; i < SLOTS; i++) CHECK(isFresh(rts_getElem(old, i), (HsInt)i));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* What was asked for is a minor one; it is counted as what it was. */
CASE(countsAsMajor)
{
    RTSStats stats;
    HaskellObj kept = fresh(stack->cap, 1);
    CAPSTAN_ROOTS(stack, kept);
    refuseMemory();
    rts_collect(stack, false);
    getRTSStats(&stats);
    allowMemory();
    CHECK(COLLECTS_MORE || (stats.gc.gen == 1 && stats.gc.threads == 1 && stats.gc.copied_bytes == 0 && stats.gc.live_bytes != 0));
    CHECK_THROUGH(stack, isFresh(kept, 1));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

static uint64_t liveBytes(void)
{
    RTSStats stats;
    getRTSStats(&stats);
    return stats.gc.live_bytes;
}

/* Far more than can be put aside without memory waits to be looked into, and leads to more of that kind. */
CASE(wideAndDeep)
{
    enum { WIDTH = 5000, INNER = 3 };
    HaskellObj wide = rts_mkArray(stack->cap, WIDTH, CAPSTAN_UNIT), last = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, wide, last);
    for (HsInt i = 0; i < WIDTH; i++) {
        HaskellObj inner = rts_mkArray(stack->cap, INNER, fresh(stack->cap, i));
        rts_setElem(stack->cap, inner, 0, last);
        if (i % 100 == 99) last = inner;
        rts_setElem(stack->cap, wide, (size_t)i, inner);
        rts_poll(stack);
    }
    last = CAPSTAN_UNIT;
    for (int round = 0; round < 2; round++) {
        refuseMemory();
        rts_collect(stack, true);
        uint64_t live = liveBytes();
        allowMemory();
        rts_collect(stack, true);
        CHECK(COLLECTS_MORE || live >= liveBytes());
        litter(stack);
        for (HsInt i = 0; i < WIDTH; i++) {
            HaskellObj inner = rts_getElem(wide, (size_t)i), before = i < 100 ? CAPSTAN_UNIT : rts_getElem(wide, (size_t)(i / 100 * 100 - 1));
            CHECK(isFresh(rts_getElem(inner, 2), i) && rts_getElem(inner, 0) == before);
        }
    }
    CHECK_THROUGH(stack, isFresh(rts_getElem(rts_getElem(wide, WIDTH - 1), 1), WIDTH - 1));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* Of the same number, but what changes: each is old from then on, and remembers what is stored into it. */
CASE(wideChanges)
{
    enum { WIDTH = 1300, LENGTH = 520 }; /* of large arrays */
    HaskellObj wide = rts_mkArray(stack->cap, 2 * WIDTH, CAPSTAN_UNIT);
    CAPSTAN_ROOTS(stack, wide);
    for (size_t i = 0; i < WIDTH; i++) {
        rts_setElem(stack->cap, wide, 2 * i, rts_mkMutVar(stack->cap, CAPSTAN_UNIT));
        HaskellObj large = rts_mkArray(stack->cap, LENGTH, CAPSTAN_UNIT);
        rts_setElem(stack->cap, wide, 2 * i + 1, large);
        rts_setElem(stack->cap, large, i % LENGTH, fresh(stack->cap, (HsInt)i));
    }
    collectWithout(stack);
    for (size_t i = 0; i < WIDTH; i++) {
        HaskellObj large = rts_getElem(wide, 2 * i + 1);
        CHECK(isFresh(rts_getElem(large, i % LENGTH), (HsInt)i));
        rts_writeMutVar(stack->cap, rts_getElem(wide, 2 * i), fresh(stack->cap, (HsInt)i + 1));
        rts_setElem(stack->cap, large, (i + 1) % LENGTH, fresh(stack->cap, (HsInt)i + 2));
    }
    minor(stack);
    for (size_t i = 0; i < WIDTH; i++) {
        HaskellObj large = rts_getElem(wide, 2 * i + 1);
        CHECK(isFresh(rts_readMutVar(rts_getElem(wide, 2 * i)), (HsInt)i + 1) && isFresh(rts_getElem(large, (i + 1) % LENGTH), (HsInt)i + 2));
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* Old objects were being marked: that is given up, with all that it still wanted to look at. */
CASE(markingIsGivenUp)
{
    enum { MANY = COLLECTS_MORE ? 3000 : 80000, ASIDE = 1000 }; /* more than 8 MiB; torture builds mark less */
    HaskellObj all = rts_mkArray(stack->cap, MANY, CAPSTAN_UNIT), aside = rts_mkArray(stack->cap, ASIDE, CAPSTAN_UNIT);
    CAPSTAN_ROOTS(stack, all, aside);
    for (size_t i = 0; i < MANY; i++) {
        rts_setElem(stack->cap, all, i, fresh(stack->cap, (HsInt)i));
        rts_poll(stack);
    }
    rts_collect(stack, true);
    for (size_t i = ASIDE; !heap.marking && i < MANY; i++) {
        rts_setElem(stack->cap, all, i, fresh(stack->cap, (HsInt)i));
        rts_poll(stack);
    }
    CHECK(COLLECTS_MORE || heap.marking); /* which is what becomes of a large heap */
    /* What the first elements refer to is looked at last. */
    for (size_t i = 0; i < ASIDE; i++) rts_setElem(stack->cap, aside, i, CAPSTAN_GET(Fresh, rts_getElem(all, i), text));
    CHECK(COLLECTS_MORE || isAnythingRemembered(&stack->cap->nursery.shaded));
    refuseMemory();
    rts_collect(stack, false);
    CHECK(COLLECTS_MORE || !(heap.marking || isAnythingRemembered(&stack->cap->nursery.shaded)));
    allowMemory();
    minor(stack);
    for (size_t i = 0; i < MANY; i++) CHECK(isFresh(rts_getElem(all, i), (HsInt)i));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* Evaluated thunks are left out, those that are not are still to be evaluated. */
CAPSTAN_FUN(makeFresh, n) { return fresh(stack->cap, rts_smallIntValue(n)); }

CASE(thunksStay)
{
    HaskellObj done = rts_apply(stack->cap, &makeFresh_closure, CAPSTAN_SMALL_INT(1));
    HaskellObj later = rts_apply(stack->cap, &makeFresh_closure, CAPSTAN_SMALL_INT(2)), var = rts_mkMutVar(stack->cap, done);
    CAPSTAN_ROOTS(stack, done, later, var);
    rts_force(stack, done);
    collectWithout(stack);
    CHECK(isFresh(rts_readMutVar(var), 1));
    rts_writeMutVar(stack->cap, var, later);
    rts_force(stack, later);
    CHECK_THROUGH(stack, isFresh(rts_force(stack, rts_readMutVar(var)), 2));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

static _Atomic int finalized, released;
static void noteFinalizer(void *ctx, void *ptr) { finalized++; }
static void noteRelease(void *ctx, void *bytes) { released++; }

/* Who has died is told, who lives is not; tables know objects as before. */
CASE(tablesAreKept)
{
    HaskellObj key = fresh(stack->cap, 1), value = CAPSTAN_UNIT, external = rts_mkBytesExternal(stack->cap, "kept", 4, noteRelease, NULL);
    HaskellObj live = rts_mkWeakNoFinalizer(stack->cap, key, fresh(stack->cap, 2)), dead = rts_mkWeakNoFinalizer(stack->cap, fresh(stack->cap, 3), key);
    HaskellObj pinned = rts_mkBytesPinned(stack->cap, "pinned", 6);
    StgWord hash = rts_identityHash(stack->cap, key);
    HsStablePtr stable = getStablePtr((StgPtr)fresh(stack->cap, 4));
    finalized = released = 0;
    CAPSTAN_ROOTS(stack, key, external, live, dead, pinned);
    CHECK(rts_addCFinalizerToWeak(stack->cap, live, noteFinalizer, NULL, NULL) && rts_addCFinalizerToWeak(stack->cap, dead, noteFinalizer, NULL, NULL));
    rts_mkBytesExternal(stack->cap, "dead", 4, noteRelease, NULL);
    collectWithout(stack);
    /* They need a thread, which may have been refused as well. */
    while (finalized == 0 || released == 0) {
        minor(stack);
        rts_threadDelay(stack, 1000);
    }
    CHECK(rts_deRefWeak(live, &value) && isFresh(value, 2) && !rts_deRefWeak(dead, &value));
    CHECK(finalized == 1 && released == 1 && rts_identityHash(stack->cap, key) == hash);
    CHECK(isFresh((HaskellObj)deRefStablePtr(stable), 4) && memcmp(rts_bytes(pinned, NULL), "pinned", 6) == 0);
    hs_free_stable_ptr(stable);
    CHECK_THROUGH(stack, rts_deRefWeak(live, &value) && isFresh(value, 2) && rts_identityHash(stack->cap, key) == hash);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

static HaskellObj mkSmall(Capability *cap) { return rts_mkBytes(cap, NULL, 2000); }
static HaskellObj mkPinned(Capability *cap) { return rts_mkBytesPinned(cap, NULL, 2000); }
static HaskellObj mkLarge(Capability *cap) { return rts_mkBytes(cap, NULL, 5000); }
static HaskellObj (*const makers[])(Capability *cap) = { mkSmall, mkPinned, mkLarge };

/* From C: nothing lives, so there is room again. */
static void deadMakeRoom(void **state)
{
    RtsCounts counts;
    if (COLLECTS_MORE) skip();
    for (int kind = 0; kind < 3; kind++) {
        Capability *cap = rts_lock();
        for (int i = 0; i < 2000; i++) makers[kind](cap);
        rts_unlock(cap);
        refuseMemory();
        for (int i = 0; i < 3; i++) {
            hs_perform_gc();
            rts_getCounts(&counts);
            assert_true(counts.live_bytes < 100000);
            cap = rts_lock();
            for (int k = 0; k < 500; k++) assert_ptr_not_equal(makers[kind](cap), CAPSTAN_POISON);
            rts_unlock(cap);
        }
        allowMemory();
    }
}

/* Threads that C had not come back from when their runtime ended: their roots are the business of no later one. */
static HaskellObj *rootsOfLeft[2];
static _Atomic int inC, letGo;

static void *stayInC(void *unused)
{
    inC++;
    while (!letGo) sleepMs(1);
    return NULL;
}
CAPSTAN_IO(callStay, n)
{
    HaskellObj root = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, root);
    rootsOfLeft[rts_intValue(n)] = &root;
    rts_safeCall(stack, stayInC, NULL);
    CHECK(false); /* not reached */
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(leaveTwo)
{
    FORK(stack, callStay, CAPSTAN_SMALL_INT(0));
    rts_forkOS(stack, APPLY(stack->cap, callStay, CAPSTAN_SMALL_INT(1)));
    while (inC < 2) rts_threadDelay(stack, 100);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(collectBesideLeft)
{
    HaskellObj weak = CAPSTAN_UNIT, found = CAPSTAN_UNIT, key = fresh(stack->cap, 1);
    CAPSTAN_ROOTS(stack, weak);
    weak = rts_mkWeakNoFinalizer(stack->cap, key, CAPSTAN_UNIT);
    for (int i = 0; i < 2; i++) *rootsOfLeft[i] = key; /* as if it lay where something of the last heap was */
    collectWithout(stack);
    CHECK(!rts_deRefWeak(weak, &found));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
static void rootsOfTheLastRuntime(void **state)
{
    unsigned n = numCapabilities;
    inC = letGo = 0;
    run(&leaveTwo_closure);
    hs_exit();
    assert_int_equal(setUpOn(state, n, false), 0);
    run(&collectBesideLeft_closure);
    hs_exit();
    letGo = 1;
    for (int i = 0; i < 600 && tasksNow() > 1; i++) sleepMs(10);
    assert_true(tasksNow() <= 1);
    assert_int_equal(failedChecks, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(variablesBecomeOld), BOTH(allAges), BOTH(nothingIsRemembered), BOTH(slotsAreForgotten), BOTH(countsAsMajor), BOTH(wideAndDeep),
        BOTH(wideChanges), BOTH(markingIsGivenUp), BOTH(thunksStay), BOTH(tablesAreKept), BOTH(deadMakeRoom),
        BOTH(rootsOfTheLastRuntime),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

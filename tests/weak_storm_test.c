/*
 * Weak pointers made, looked at, finalized by hand and dying on many threads at once: each finalizer runs once.  Long chains of them; pinned keys.
 */
#include "chain.h"

enum { STORM_SLOTS = 64, STORM_THREADS = 4, STORM_MOST = 40000 };
static struct {
    _Atomic uint32_t managed[STORM_MOST], inC[STORM_MOST]; /* how often each finalizer ran */
    _Atomic unsigned made, seed, managedRan, cRan;
    HsStablePtr keys, weaks; /* arrays of STORM_SLOTS */
    HsInt rounds;
} st;

CAPSTAN_IO(stormFinalizer, n)
{
    CHECK(st.managed[rts_getInt(rts_force(stack, n))]++ == 0);
    st.managedRan++;
    return CAPSTAN_UNIT;
}
static void stormCFinalizer(void *ctx, void *ptr)
{
    CHECK(st.inC[(uintptr_t)ptr]++ == 0);
    st.cRan++;
}

static void stormMake(Stack *stack, unsigned slot)
{
    HsInt n = st.made++;
    if (n >= STORM_MOST) {
        st.made--;
        return;
    }
    Capability *cap = stack->cap;
    HaskellObj key = thing(cap, n), value = rts_mkMutVar(cap, rts_mkInt(cap, n));
    HaskellObj weak = rts_mkWeak(cap, key, value, rts_apply(cap, &stormFinalizer_closure, rts_mkInt(cap, n)));
    CHECK(rts_addCFinalizerToWeak(cap, weak, stormCFinalizer, NULL, (void *)(uintptr_t)n));
    rts_setElem(cap, kept(st.keys), slot, key);
    rts_setElem(cap, kept(st.weaks), slot, weak);
}

/* The key first: while it is held the weak pointer must not die by itself.  Another capability may finalize it by hand; then it is dead before its
 * finalizer runs. */
static void stormLook(unsigned slot)
{
    HaskellObj key = rts_getElem(kept(st.keys), slot), weak = rts_getElem(kept(st.weaks), slot), value;
    if (key == CAPSTAN_UNIT || weak == CAPSTAN_UNIT || !rts_deRefWeak(weak, &value)) return;
    HsInt n = numberOf(value);
    CHECK(n >= 0 && n < (HsInt)st.made);
    CHECK(st.managed[n] == 0 || !rts_deRefWeak(weak, &value));
}

CAPSTAN_IO(stormUse)
{
    uint64_t seed = st.seed++;
    for (HsInt i = 0; i < st.rounds; i++) {
        unsigned slot = nextRandom(&seed) % STORM_SLOTS;
        switch (nextRandom(&seed) % 8) {
        case 0:
        case 1:
        case 2: stormMake(stack, slot); break;
        case 3: rts_setElem(stack->cap, kept(st.keys), slot, CAPSTAN_UNIT); break;
        case 4: {
            HaskellObj weak = rts_getElem(kept(st.weaks), slot);
            if (weak != CAPSTAN_UNIT) rts_finalizeWeak(stack, weak);
            break;
        }
        case 5:
            if (nextRandom(&seed) % 8 == 0) rts_collect(stack, nextRandom(&seed) % 8 == 0);
            break;
        default: stormLook(slot); break;
        }
        rts_poll(stack);
    }
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(stormAll)
{
    HaskellObj done = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, done);
    for (int i = 0; i < STORM_THREADS; i++) FORK(stack, schedReport, &stormUse_closure, done);
    for (int i = 0; i < STORM_THREADS; i++) CHECK(rts_takeMVar(stack, done) == CAPSTAN_UNIT);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
static void *stormCall(void *unused)
{
    for (int i = 0; i < 3; i++) {
        HsInt ignored;
        CHECK(runStatus(&stormAll_closure, NULL, &ignored, NULL, 0) == Success);
        hs_perform_gc();
    }
    return NULL;
}

static void testStorm(void **state)
{
    memset(&st, 0, sizeof st);
    st.seed = 1;
    st.rounds = many(1000);
    Capability *cap = rts_lock();
    st.keys = keep(rts_mkArray(cap, STORM_SLOTS, CAPSTAN_UNIT));
    st.weaks = keep(rts_mkArray(cap, STORM_SLOTS, CAPSTAN_UNIT));
    rts_unlock(cap);
    pthread_t other = spawn(stormCall, NULL);
    stormCall(NULL);
    joinThread(other);
    hs_free_stable_ptr(st.keys);
    hs_free_stable_ptr(st.weaks);
    hs_perform_gc();
    AWAIT(st.managedRan >= st.made);
    hs_perform_gc(); /* what the managed ones kept */
    AWAIT(st.cRan >= st.made);
    assert_int_equal(failedChecks, 0);
    assert_int_equal(st.managedRan, st.made);
    assert_int_equal(st.cRan, st.made);
}

/* ---- A heap that is large enough to be marked a little at a time ---- */

#ifdef CAPSTAN_TORTURE /* marks all the time, and collects at every fourth safepoint */
enum { MARKED_KEYS = 100, BULK = 1000, CHURN = 100 };
#else
enum { MARKED_KEYS = 1000, BULK = 400000, CHURN = 20000 };
#endif
static HsStablePtr bulk, markedKeys, markedWeaks, markedTable;
static StgWord markedHashes[MARKED_KEYS];

CAPSTAN_IO(makeMarked)
{
    HaskellObj large = rts_mkArray(stack->cap, BULK, CAPSTAN_UNIT), keys = rts_mkArray(stack->cap, MARKED_KEYS, CAPSTAN_UNIT);
    HaskellObj weaks = rts_mkArray(stack->cap, MARKED_KEYS, CAPSTAN_UNIT), table = rts_mkWeakTable(stack->cap);
    CAPSTAN_ROOTS(stack, large, keys, weaks, table);
    for (HsInt i = 0; i < BULK; i++) {
        rts_setElem(stack->cap, large, (size_t)i, thing(stack->cap, i));
        rts_poll(stack);
    }
    for (HsInt i = 0; i < MARKED_KEYS; i++) {
        HaskellObj key = thing(stack->cap, i);
        rts_setElem(stack->cap, keys, (size_t)i, key);
        rts_setElem(stack->cap, weaks, (size_t)i, rts_mkWeak(stack->cap, key, thing(stack->cap, i), noteAction(stack->cap, i)));
        CHECK(rts_weakTableInsert(stack->cap, table, key, rts_mkMutVar(stack->cap, key)));
        markedHashes[i] = rts_identityHash(stack->cap, key);
    }
    bulk = keep(large);
    markedKeys = keep(keys);
    markedWeaks = keep(weaks);
    markedTable = keep(table);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* Replaces a part of what lives, so that there is always more that has become old. */
CAPSTAN_IO(churnMarked, seedValue)
{
    uint64_t seed = (uint64_t)rts_getInt(seedValue);
    for (int i = 0; i < CHURN; i++) {
        size_t at = nextRandom(&seed) % BULK;
        rts_setElem(stack->cap, kept(bulk), at, thing(stack->cap, (HsInt)at));
        rts_poll(stack);
    }
    return CAPSTAN_UNIT;
}

static unsigned countWrong(bool *allDead)
{
    unsigned wrong = 0, alive = 0;
    Capability *cap = rts_lock();
    for (HsInt i = 0; i < MARKED_KEYS; i++) {
        HaskellObj key = rts_getElem(kept(markedKeys), (size_t)i), value = CAPSTAN_UNIT;
        bool lives = rts_deRefWeak(rts_getElem(kept(markedWeaks), (size_t)i), &value);
        if (lives) wrong += numberOf(value) != i;
        if (key == CAPSTAN_UNIT) {
            alive += lives;
            continue;
        }
        wrong += !lives || rts_identityHash(cap, key) != markedHashes[i];
        wrong += !rts_weakTableLookup(cap, kept(markedTable), key, &value) || rts_readMutVar(value) != key;
    }
    *allDead = alive == 0;
    rts_unlock(cap);
    return wrong;
}

CAPSTAN_IO(dropOdd)
{
    for (size_t i = 1; i < MARKED_KEYS; i += 2) rts_setElem(stack->cap, kept(markedKeys), i, CAPSTAN_UNIT);
    return CAPSTAN_UNIT;
}

static void testMarkedALittleAtATime(void **state)
{
    bool allDead = false;
    run(&makeMarked_closure);
    for (int i = 0; i < 3; i++) rts_performMinorGC();
    assert_int_equal(countWrong(&allDead), 0);
    clearNotes();
    run(&dropOdd_closure);
    allDead = false;
    for (HsInt round = 0; round < 3000 && !allDead; round++) {
        runWith(&churnMarked_closure, CAPSTAN_SMALL_INT(round));
        assert_int_equal(countWrong(&allDead), 0);
    }
    assert_true(allDead);
    AWAIT_NOTES(MARKED_KEYS / 2);
    Capability *cap = rts_lock();
    assert_int_equal(rts_weakTableSize(kept(markedTable)), MARKED_KEYS / 2);
    rts_unlock(cap);
    hs_perform_gc();
    assert_int_equal(countWrong(&allDead), 0);
}

static int setUpMarked(void **state)
{
    RtsConfig config = hookedConfig(2); /* the heap is too large to be checked each time */
    return setUpWith(state, &config);
}

/* ---- Chains ---- */

/* The value of weak pointer i leads to key i + 1; of all, only the last weak pointer is returned, behind key 0. */
CAPSTAN_IO(makeChain, count, backwards)
{
    HsInt n = rts_getInt(count);
    bool back = rts_getInt(backwards) != 0;
    HaskellObj keys = rts_mkArray(stack->cap, (size_t)n + 1, CAPSTAN_UNIT), ends = rts_mkArray(stack->cap, 2, CAPSTAN_UNIT);
    CAPSTAN_ROOTS(stack, keys, ends);
    for (HsInt i = 0; i <= n; i++) rts_setElem(stack->cap, keys, (size_t)i, thing(stack->cap, i));
    rts_setElem(stack->cap, ends, 0, rts_getElem(keys, 0));
    for (HsInt j = 0; j < n; j++) {
        HsInt i = back ? n - 1 - j : j;
        HaskellObj next = rts_mkMutVar(stack->cap, rts_getElem(keys, (size_t)i + 1));
        HaskellObj weak = rts_mkWeakNoFinalizer(stack->cap, rts_getElem(keys, (size_t)i), next);
        CHECK(weak != CAPSTAN_POISON);
        if (i == n - 1) rts_setElem(stack->cap, ends, 1, weak);
        rts_poll(stack);
    }
    CAPSTAN_UNROOT(stack);
    return ends;
}

static void checkChain(HsInt n, bool backwards)
{
    Capability *cap = rts_lock();
    HaskellObj ends = NULL, value;
    rts_evalIO(&cap, APPLY(cap, makeChain, rts_mkInt(cap, n), rts_mkInt(cap, backwards)), &ends);
    assert_int_equal(rts_getSchedStatus(cap), Success);
    HsStablePtr first = keep(rts_getElem(ends, 0)), last = keep(rts_getElem(ends, 1));
    rts_unlock(cap);
    for (int i = 0; i < 4; i++) {
        collectChain(i % 2 != 0, n);
        cap = rts_lock();
        assert_true(rts_deRefWeak(kept(last), &value));
        assert_int_equal(numberOf(rts_readMutVar(value)), n);
        rts_unlock(cap);
    }
    hs_free_stable_ptr(first);
    hs_perform_gc();
    cap = rts_lock();
    assert_false(rts_deRefWeak(kept(last), &value));
    rts_unlock(cap);
    hs_free_stable_ptr(last);
}

static void testChains(void **state)
{
    checkChain(many(20000), false);
    checkChain(many(20000), true);
    assert_int_equal(failedChecks, 0);
}

/* ---- Pinned keys ---- */

enum { PINNED = 600 };

/* Each second one is kept. */
static void makePinned(HsStablePtr *keys, HsStablePtr *weaks)
{
    Capability *cap = rts_lock();
    for (int i = 0; i < PINNED; i++) {
        HaskellObj key = rts_mkBytesPinned(cap, &i, sizeof i);
        weaks[i] = keep(rts_mkWeakNoFinalizer(cap, key, rts_mkInt(cap, i)));
        if (i % 2 == 0) keys[i / 2] = keep(key);
    }
    rts_unlock(cap);
}

static void checkPinned(const HsStablePtr *keys, const HsStablePtr *weaks)
{
    HaskellObj value;
    Capability *cap = rts_lock();
    for (int i = 0; i < PINNED; i++) {
        assert_true(rts_deRefWeak(kept(weaks[i]), &value) == (i % 2 == 0));
        if (i % 2 == 0) assert_memory_equal(rts_bytes(kept(keys[i / 2]), NULL), &i, sizeof i);
    }
    rts_unlock(cap);
}

static void dropPinned(const HsStablePtr *keys, const HsStablePtr *weaks)
{
    for (int i = 0; i < PINNED / 2; i++) hs_free_stable_ptr(keys[i]);
    for (int i = 0; i < PINNED; i++) hs_free_stable_ptr(weaks[i]);
}

static HsStablePtr keepBytes(size_t length)
{
    Capability *cap = rts_lock();
    HsStablePtr sp = keep(rts_mkBytes(cap, NULL, length));
    rts_unlock(cap);
    return sp;
}

/* Pinned arrays die one by one, though their blocks stay: found by copying, and by marking. */
static void testPinnedAmongLivingOnes(void **state)
{
    HsStablePtr keys[PINNED / 2], weaks[PINNED], large = keepBytes(24u << 20);
    RTSStats before, after;
    makePinned(keys, weaks);
    growOld();
    hs_perform_gc();
    checkPinned(keys, weaks);
    dropPinned(keys, weaks);
    makePinned(keys, weaks);
    growOld();
    getRTSStats(&before);
    HsStablePtr more = keepBytes(64u << 20); /* so much that has become old lets a marking begin */
    for (int i = 0; i < 20; i++) rts_performMinorGC();
    checkPinned(keys, weaks);
    getRTSStats(&after);
#ifndef CAPSTAN_TORTURE
    assert_int_equal(after.major_gcs, before.major_gcs);
#endif
    dropPinned(keys, weaks);
    hs_free_stable_ptr(large);
    hs_free_stable_ptr(more);
}

static int setUpQuiet(void **state)
{
    RtsConfig config = schedConfig(2);
    config.idle_collection_us = 1000000000; /* major ones are counted */
    return setUpWith(state, &config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ONE(testChains), TWO(testChains), { "testPinnedAmongLivingOnes", testPinnedAmongLivingOnes, setUpQuiet, disarmTest, NULL },
        ALL(testStorm), FOUR(testStorm), { "testMarkedALittleAtATime", testMarkedALittleAtATime, setUpMarked, disarmTest, NULL },
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

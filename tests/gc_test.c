/*
 * What a collection must leave as it was: graphs of every kind by shape and content, large and pinned objects, memory of
 * the host, roots of C. And what it must not do: hold anybody up, or keep what is dead.
 */
#include <Rts.h>
#include <rts/Managed.h>

#include <pthread.h>
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

/* ---- The runtime of these tests: two capabilities, everything checked and poisoned ---- */

static _Atomic unsigned errors;
static _Atomic unsigned collections; /* as the hook counts them */
static pthread_mutex_t lastLock = PTHREAD_MUTEX_INITIALIZER;
static RtsCollection lastCollection; /* under lastLock: the hook may run on several threads at once */
static Capability *cap;

static void noteError(void *ctx, RtsStatus status, const char *message)
{
    atomic_fetch_add(&errors, 1);
}

static void noteCollection(void *ctx, const RtsCollection *collection)
{
    pthread_mutex_lock(&lastLock);
    if (collection->number > lastCollection.number) lastCollection = *collection;
    pthread_mutex_unlock(&lastLock);
    atomic_fetch_add((_Atomic unsigned *)ctx, 1);
}

static int setUp(void **state)
{
    RtsConfig config = RTS_CONFIG_INIT;

    config.capabilities = 2;
    config.nursery_bytes = 256 * 1024;
    config.verify_heap = true;
    config.poison_from_space = true;
    config.errorHook = noteError;
    config.gcDoneHook = noteCollection;
    config.idle_collection_us = 1000000000; /* collections are counted */
    config.gcDoneCtx = &collections;
    atomic_store(&errors, 0);
    memset(&lastCollection, 0, sizeof lastCollection);
    if (rts_start(&config, NULL, 0) != RTS_OK) return -1;
    cap = rts_lock();
    return rts_isDead(cap) ? -1 : 0;
}

static int tearDown(void **state)
{
    rts_unlock(cap);
    hs_exit();
    return atomic_load(&errors) == 0 ? 0 : -1;
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

static void *collectNow(void *arg)
{
    hs_perform_gc();
    return NULL;
}

/* A collection within this in-call. */
CAPSTAN_IO(collectAction)
{
    rts_safeCall(stack, collectNow, NULL);
    return CAPSTAN_UNIT;
}

static void collect(void)
{
    rts_evalIO(&cap, &collectAction_closure, NULL);
    assert_int_equal(rts_getSchedStatus(cap), Success);
}

/* A collection between two in-calls: nothing is kept but what stable pointers keep. */
static void collectBetween(void)
{
    rts_unlock(cap);
    hs_perform_gc();
    cap = rts_lock();
}

#define small CAPSTAN_SMALL_INT

CAPSTAN_CON(Node, 1, left, value, right)
CAPSTAN_STATIC_CON(Leaf, 0);
CAPSTAN_FUN(triple, a, b, c)
{
    return rts_int(stack, rts_intValue(a) * 100 + rts_intValue(b) * 10 + rts_intValue(c));
}
CAPSTAN_LAMBDA(withFree, 2, x)
{
    return rts_freeVar(self, 0);
}
CAPSTAN_THUNK(lazyPair, 2)
{
    return Node_new(stack->cap, rts_thunkVar(self, 0), small(1), rts_thunkVar(self, 1));
}

/* ---- Trees of every kind of value ---- */

/* A value whose kind and content follow from n. */
static HaskellObj makeValue(HsInt n)
{
    HaskellObj inner = rts_mkInt(cap, INT64_MIN + n), free[2] = { inner, small(n) };

    switch (n % 14) {
    case 0: return small(n);
    case 1: return inner;
    case 2: return rts_mkDouble(cap, (HsDouble)n / 3);
    case 3: return rts_mkFloat(cap, (HsFloat)n / 4);
    case 4: return rts_mkWord(cap, HS_WORD_MAX - (HsWord)n);
    case 5: return rts_mkPtr(cap, (HsPtr)(uintptr_t)(n * 3));
    case 6: return rts_mkBytes(cap, &n, sizeof n);
    case 7: return rts_mkBytesPinned(cap, &n, sizeof n);
    case 8: return rts_mkMutVar(cap, inner);
    case 9: return rts_mkArray(cap, (size_t)n % 50, inner);
    case 10: return rts_mkClosure(cap, &withFree_info, free);
    case 11: return rts_apply(cap, rts_apply(cap, &triple_closure, small(1)), inner);
    case 12: return rts_mkClosure(cap, &lazyPair_info, free);
    default: return rts_mkChar(cap, (HsChar)n);
    }
}

static bool isInner(HaskellObj v, HsInt n)
{
    return rts_getInt(v) == INT64_MIN + n;
}

static bool checkArray(HaskellObj v, HsInt n)
{
    if (rts_arrayLength(v) != (size_t)n % 50) return false;
    for (size_t i = 0; i < (size_t)n % 50; i++)
        if (!isInner(rts_getElem(v, i), n) || rts_getElem(v, i) != rts_getElem(v, 0)) return false;
    return true;
}

static bool checkBytes(HaskellObj v, HsInt n)
{
    HsInt found = 0;

    return rts_copyBytes(v, 0, &found, sizeof found) == sizeof found && found == n;
}

static bool checkLazyPair(HaskellObj v, HsInt n)
{
    return rts_info(v) == &lazyPair_info && isInner(rts_thunkVar(v, 0), n) && rts_thunkVar(v, 1) == small(n);
}

static bool checkValue(HaskellObj v, HsInt n)
{
    switch (n % 14) {
    case 0: return v == small(n);
    case 1: return isInner(v, n);
    case 2: return rts_getDouble(v) == (HsDouble)n / 3;
    case 3: return rts_getFloat(v) == (HsFloat)n / 4;
    case 4: return rts_getWord(v) == HS_WORD_MAX - (HsWord)n;
    case 5: return (uintptr_t)rts_getPtr(v) == (uintptr_t)(n * 3);
    case 6:
    case 7: return checkBytes(v, n);
    case 8: return isInner(rts_readMutVar(v), n);
    case 9: return checkArray(v, n);
    case 10: return rts_info(v) == &withFree_info && isInner(rts_freeVar(v, 0), n);
    case 11: return rts_isThunk(v) && isInner(((StgAP *)v)->arg, n);
    case 12: return checkLazyPair(v, n);
    default: return rts_getChar(v) == (HsChar)n;
    }
}

/* A tree of 2^depth - 1 nodes, numbered as a heap is. */
static HaskellObj makeTree(int depth, HsInt label)
{
    if (depth == 0) return &Leaf_closure;
    HaskellObj left = makeTree(depth - 1, 2 * label), right = makeTree(depth - 1, 2 * label + 1);
    return Node_new(cap, left, makeValue(label), right);
}

static HsInt countTree(HaskellObj tree, HsInt label)
{
    if (CAPSTAN_IS(Leaf, tree)) return 0;
    if (!CAPSTAN_IS(Node, tree) || !checkValue(CAPSTAN_GET(Node, tree, value), label)) return -1000000;
    return 1 + countTree(CAPSTAN_GET(Node, tree, left), 2 * label) +
           countTree(CAPSTAN_GET(Node, tree, right), 2 * label + 1);
}

static void testTreeSurvives(void **state)
{
    const int depth = 12;
    HaskellObj tree = makeTree(depth, 1);

    CAPSTAN_ROOTS(cap, tree);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(countTree(tree, 1), (1 << depth) - 1);
        collect();
    }
    CAPSTAN_UNROOT(cap);
}

static void testTreeBehindStablePtr(void **state)
{
    const int depth = 10;
    StgStablePtr tree = getStablePtr((StgPtr)makeTree(depth, 1));

    for (int i = 0; i < 6; i++) {
        collectBetween();
        assert_int_equal(countTree((HaskellObj)deRefStablePtr(tree), 1), (1 << depth) - 1);
    }
    freeStablePtr(tree);
}

/* With garbage between the living, made by evaluation so that nurseries fill and collections come by themselves. */
CAPSTAN_IO(makeGarbage, amount)
{
    HsInt n = rts_intValue(rts_force(stack, amount));
    for (HsInt i = 0; i < n; i++) {
        rts_mkBytes(stack->cap, NULL, (size_t)(i * 37 % 500));
        rts_poll(stack);
    }
    return CAPSTAN_UNIT;
}

static void churn(HsInt amount)
{
    rts_evalIO(&cap, rts_apply(cap, &makeGarbage_closure, rts_mkInt(cap, amount)), NULL);
    assert_int_equal(rts_getSchedStatus(cap), Success);
}

static void testTreeAmongGarbage(void **state)
{
    HaskellObj tree = makeTree(9, 1);
    unsigned before = atomic_load(&collections);

    CAPSTAN_ROOTS(cap, tree);
    for (int i = 0; i < 10; i++) {
        churn(20000);
        assert_int_equal(countTree(tree, 1), 511);
    }
    CAPSTAN_UNROOT(cap);
    assert_true(atomic_load(&collections) > before + 10);
}

/* ---- Shape ---- */

/* Each node has the same child twice: 60 nodes, and 2^60 of them if sharing were lost. */
static void testSharing(void **state)
{
    HaskellObj dag = &Leaf_closure;

    for (int i = 0; i < 60; i++) dag = Node_new(cap, dag, small(i), dag);
    CAPSTAN_ROOTS(cap, dag);
    for (int round = 0; round < 3; round++) {
        HaskellObj at = dag;
        collect();
        at = dag;
        for (int i = 59; i >= 0; i--) {
            assert_ptr_equal(CAPSTAN_GET(Node, at, left), CAPSTAN_GET(Node, at, right));
            assert_ptr_equal(CAPSTAN_GET(Node, at, value), small(i));
            at = CAPSTAN_GET(Node, at, left);
        }
        assert_ptr_equal(at, &Leaf_closure);
    }
    CAPSTAN_UNROOT(cap);
    assert_true(lastCollection.live_bytes < 1u << 20);
}

/* A ring of MutVars and arrays, each pointing to the next and to the first. */
static void testCycles(void **state)
{
    enum { LENGTH = 1000 };
    HaskellObj first = rts_mkMutVar(cap, CAPSTAN_UNIT), last = first;

    for (int i = 1; i < LENGTH; i++) {
        HaskellObj array = rts_mkArray(cap, 2, first), next = rts_mkMutVar(cap, CAPSTAN_UNIT);
        rts_setElem(cap, array, 1, next);
        rts_writeMutVar(cap, last, array);
        last = next;
    }
    rts_writeMutVar(cap, last, first);
    CAPSTAN_ROOTS(cap, first);
    for (int round = 0; round < 3; round++) {
        collect();
        HaskellObj at = first;
        for (int i = 1; i < LENGTH; i++) {
            HaskellObj array = rts_readMutVar(at);
            assert_ptr_equal(rts_getElem(array, 0), first);
            at = rts_getElem(array, 1);
        }
        assert_ptr_equal(rts_readMutVar(at), first);
    }
    CAPSTAN_UNROOT(cap);
}

static void testDeadCyclesGo(void **state)
{
    for (int i = 0; i < 2000; i++) {
        HaskellObj var = rts_mkMutVar(cap, CAPSTAN_UNIT), array = rts_mkArray(cap, 100, var);
        rts_writeMutVar(cap, var, array);
    }
    collectBetween();
    assert_true(lastCollection.live_bytes < 256 * 1024);
}

/* A list of a million cells: no recursion may follow it. */
static void testLongList(void **state)
{
    const HsInt length = isShort() ? 100000 : 1000000;
    HaskellObj list = &Leaf_closure;

    for (HsInt i = 0; i < length; i++) list = Node_new(cap, &Leaf_closure, small(i), list);
    CAPSTAN_ROOTS(cap, list);
    collect();
    collect();
    CAPSTAN_UNROOT(cap);
    for (HsInt i = length; i-- > 0; list = CAPSTAN_GET(Node, list, right))
        if (CAPSTAN_GET(Node, list, value) != small(i)) fail_msg("cell %ld", (long)i);
    assert_ptr_equal(list, &Leaf_closure);
}

/* What was evaluated before a collection is the value afterwards, and not evaluated again. */
static _Atomic unsigned runs;

CAPSTAN_FUN(countedBox, x)
{
    atomic_fetch_add(&runs, 1);
    return Node_new(stack->cap, x, small(2), x);
}

static void testEvaluatedThunks(void **state)
{
    HaskellObj thunk = rts_apply(cap, &countedBox_closure, rts_mkInt(cap, INT64_MAX)), value;
    HaskellObj holder = Node_new(cap, thunk, small(0), thunk);

    atomic_store(&runs, 0);
    CAPSTAN_ROOTS(cap, thunk, holder);
    rts_eval(&cap, thunk, &value);
    for (int i = 0; i < 3; i++) {
        collect();
        rts_eval(&cap, thunk, &value);
        assert_int_equal(rts_getInt(CAPSTAN_GET(Node, value, left)), INT64_MAX);
        rts_eval(&cap, CAPSTAN_GET(Node, holder, left), &value);
        assert_ptr_equal(CAPSTAN_GET(Node, value, value), small(2));
    }
    CAPSTAN_UNROOT(cap);
    assert_int_equal(runs, 1);
}

/* ---- Large and pinned objects ---- */

static void testLargeObjects(void **state)
{
    enum { LENGTH = 200000 };
    HaskellObj array = rts_mkArray(cap, LENGTH, CAPSTAN_UNIT), bytes = rts_mkBytes(cap, NULL, 3u << 20);

    memset(rts_bytes(bytes, NULL), 0x5a, 3u << 20);
    for (size_t i = 0; i < LENGTH; i += 3) rts_setElem(cap, array, i, rts_mkInt(cap, INT64_MAX - (HsInt)i));
    CAPSTAN_ROOTS(cap, array, bytes);
    for (int round = 0; round < 3; round++) {
        collect();
        assert_int_equal(rts_arrayLength(array), LENGTH);
        for (size_t i = 0; i < LENGTH; i++) {
            HaskellObj v = rts_getElem(array, i);
            if (i % 3 == 0 ? rts_getInt(v) != INT64_MAX - (HsInt)i : v != CAPSTAN_UNIT) fail_msg("element %zu", i);
        }
        const unsigned char *at = rts_bytes(bytes, NULL);
        for (size_t i = 0; i < 3u << 20; i++)
            if (at[i] != 0x5a) fail_msg("byte %zu", i);
    }
    CAPSTAN_UNROOT(cap);
}

/* Large objects that nobody needs go away; else this would need 3 GB. */
static void testLargeGarbage(void **state)
{
    for (int i = 0; i < 1000; i++) {
        HaskellObj bytes = rts_mkBytes(cap, NULL, 3000000);
        assert_ptr_not_equal(bytes, CAPSTAN_POISON);
        rts_pollCap(&cap);
    }
    RtsCounts counts;
    rts_getCounts(&counts);
    assert_true(counts.peak_heap_bytes < 512u << 20);
}

static void testPinnedStay(void **state)
{
    enum { COUNT = 300 };
    HaskellObj array = rts_mkArray(cap, COUNT, CAPSTAN_UNIT);
    char *addresses[COUNT];

    for (size_t i = 0; i < COUNT; i++) {
        HaskellObj bytes = rts_mkBytesPinned(cap, NULL, i * i);
        addresses[i] = rts_bytes(bytes, NULL);
        memset(addresses[i], (int)i, i * i);
        rts_setElem(cap, array, i, bytes);
        rts_mkBytesPinned(cap, NULL, 64); /* garbage between them */
    }
    CAPSTAN_ROOTS(cap, array);
    for (int round = 0; round < 4; round++) {
        collect();
        churn(2000);
        for (size_t i = 0; i < COUNT; i++) {
            size_t length;
            assert_ptr_equal(rts_bytes(rts_getElem(array, i), &length), addresses[i]);
            assert_int_equal(length, i * i);
            for (size_t k = 0; k < length; k++)
                if ((unsigned char)addresses[i][k] != (unsigned char)i) fail_msg("object %zu, byte %zu", i, k);
        }
    }
    CAPSTAN_UNROOT(cap);
}

/* ---- Memory of the host ---- */

static _Atomic unsigned released;

static void release(void *ctx, void *bytes)
{
    atomic_fetch_add(&released, 1);
    atomic_fetch_add((_Atomic int *)ctx, 1);
    free(bytes);
}

static void testExternalReleasedOnce(void **state)
{
    enum { COUNT = 200 };
    static _Atomic int times[COUNT];
    HaskellObj kept = rts_mkArray(cap, COUNT / 2, CAPSTAN_UNIT);

    memset(times, 0, sizeof times);
    atomic_store(&released, 0);
    for (size_t i = 0; i < COUNT; i++) {
        HaskellObj bytes = rts_mkBytesExternal(cap, calloc(1, i + 1), i + 1, release, &times[i]);
        if (i % 2 == 0) rts_setElem(cap, kept, i / 2, bytes);
    }
    StgStablePtr stable = getStablePtr((StgPtr)kept);
    for (int round = 0; round < 3; round++) {
        collectBetween();
        for (size_t i = 0; i < COUNT; i++) assert_int_equal(times[i], i % 2);
    }
    kept = (HaskellObj)deRefStablePtr(stable);
    for (size_t i = 0; i < COUNT / 2; i++) {
        size_t length;
        assert_non_null(rts_bytes(rts_getElem(kept, i), &length));
        assert_int_equal(length, 2 * i + 1);
    }
    freeStablePtr(stable);
    collectBetween();
    collectBetween();
    assert_int_equal(released, COUNT);
    for (size_t i = 0; i < COUNT; i++) assert_int_equal(times[i], 1);
}

static void testExternalReleasedAtExit(void **state)
{
    static _Atomic int times;
    StgStablePtr stable = getStablePtr((StgPtr)rts_mkBytesExternal(cap, malloc(10), 10, release, &times));

    atomic_store(&times, 0);
    collectBetween();
    assert_int_equal(times, 0);
    assert_non_null(stable);
    rts_unlock(cap);
    hs_exit();
    assert_int_equal(times, 1);
    assert_int_equal(setUp(state), 0);
}

/* ---- Roots of C ---- */

static void testRootsAreUpdated(void **state)
{
    HaskellObj a = rts_mkInt(cap, INT64_MAX), b = a, c = rts_mkString(cap, "c"), d = small(4), e = CAPSTAN_TRUE;

    CAPSTAN_ROOTS(cap, a, b, c, d, e);
    for (int i = 0; i < 4; i++) {
        HaskellObj before = a;
        collect();
#ifndef CAPSTAN_TORTURE /* where it may have moved twice, there and back */
        assert_ptr_not_equal(a, before); /* rootcheck: kept unrooted to see that the object moves */
#else
        (void)before;
#endif
        assert_ptr_equal(a, b);
        assert_int_equal(rts_getInt(a), INT64_MAX);
        assert_memory_equal(rts_bytes(c, NULL), "c", 1);
        assert_ptr_equal(d, small(4));
        assert_ptr_equal(e, CAPSTAN_TRUE);
    }
    CAPSTAN_UNROOT(cap);
}

/* Roots of the outer in-call are kept while an inner one, begun in a safe call, collects. */
static void *innerCall(void *arg)
{
    Capability *mine = rts_lock();
    HaskellObj text = rts_mkString(mine, "inner");

    CAPSTAN_ROOTS(mine, text);
    rts_evalIO(&mine, &collectAction_closure, NULL);
    if (memcmp(rts_bytes(text, NULL), "inner", 5) != 0) *(int *)arg = 1;
    CAPSTAN_UNROOT(mine);
    rts_unlock(mine);
    return NULL;
}

CAPSTAN_IO(outerCall, wrong)
{
    HaskellObj text = rts_mkString(stack->cap, "outer");
    CAPSTAN_ROOTS(stack, text);
    rts_safeCall(stack, innerCall, rts_getPtr(rts_force(stack, wrong)));
    CAPSTAN_UNROOT(stack);
    return rts_mkBool(stack->cap, memcmp(rts_bytes(text, NULL), "outer", 5) == 0);
}

static void testRootsOfNestedCalls(void **state)
{
    HaskellObj text = rts_mkString(cap, "outermost"), result;
    int wrong = 0;

    CAPSTAN_ROOTS(cap, text);
    for (int i = 0; i < 20; i++) {
        rts_evalIO(&cap, rts_apply(cap, &outerCall_closure, rts_mkPtr(cap, &wrong)), &result);
        assert_ptr_equal(result, CAPSTAN_TRUE);
        assert_memory_equal(rts_bytes(text, NULL), "outermost", 9);
    }
    CAPSTAN_UNROOT(cap);
    assert_int_equal(wrong, 0);
}

/* The result of an evaluation, and its exception, are found by the collector while they can be asked for. */
CAPSTAN_IO(raisesText)
{
    rts_raise(stack, rts_mkString(stack->cap, "raised"));
}

static void testResultIsFresh(void **state)
{
    HaskellObj result;

    rts_evalIO(&cap, &raisesText_closure, &result);
    assert_memory_equal(rts_bytes(rts_getException(cap), NULL), "raised", 6);
    for (int i = 0; i < 2000; i++) {
        rts_mkBytes(cap, NULL, 1000);
        rts_pollCap(&cap);
    }
    assert_memory_equal(rts_bytes(rts_getException(cap), NULL), "raised", 6);
}

/* ---- Who asks, who waits ---- */

static void *askOften(void *arg)
{
    for (int i = 0; i < *(int *)arg; i++) hs_perform_gc();
    return NULL;
}

/* Each of them waits for a collection that began after it asked; several may share one. */
static void testManyAsk(void **state)
{
    enum { THREADS = 8 };
    int times = isShort() ? 10 : 50;
    pthread_t ids[THREADS];
    unsigned before = atomic_load(&collections);
    StgStablePtr tree = getStablePtr((StgPtr)makeTree(8, 1));

    rts_unlock(cap);
    for (int i = 0; i < THREADS; i++) assert_int_equal(pthread_create(&ids[i], NULL, askOften, &times), 0);
    for (int i = 0; i < THREADS; i++) pthread_join(ids[i], NULL);
    cap = rts_lock();
    assert_true(atomic_load(&collections) - before >= (unsigned)times);
    assert_int_equal(countTree((HaskellObj)deRefStablePtr(tree), 1), 255);
    freeStablePtr(tree);
}

static _Atomic int isAsleep, mayWake;

/* Until it is told; or for a minute, of which nobody waits for the end. */
static void *sleepLong(void *arg)
{
    atomic_store(&isAsleep, 1);
    for (double until = now() + 60; !atomic_load(&mayWake) && now() < until;) usleep(1000);
    atomic_store(&isAsleep, 0);
    return NULL;
}

CAPSTAN_IO(sleepOutside)
{
    HaskellObj text = rts_mkString(stack->cap, "slept");
    CAPSTAN_ROOTS(stack, text);
    rts_safeCall(stack, sleepLong, NULL);
    CAPSTAN_UNROOT(stack);
    return rts_mkBool(stack->cap, memcmp(rts_bytes(text, NULL), "slept", 5) == 0);
}

static void *callSleeper(void *arg)
{
    Capability *mine = rts_lock();
    HaskellObj result;

    rts_evalIO(&mine, &sleepOutside_closure, &result);
    *(HsBool *)arg = rts_getBool(result);
    rts_unlock(mine);
    return NULL;
}

static void testSleeperDelaysNobody(void **state)
{
    HsBool slept = HS_BOOL_FALSE;
    pthread_t id;

    atomic_store(&mayWake, 0);
    rts_unlock(cap);
    assert_int_equal(pthread_create(&id, NULL, callSleeper, &slept), 0);
    while (!atomic_load(&isAsleep)) usleep(100);
    for (int i = 0; i < 20; i++) hs_perform_gc();
    assert_true(atomic_load(&isAsleep));
    atomic_store(&mayWake, 1);
    pthread_join(id, NULL);
    assert_int_equal(slept, HS_BOOL_TRUE);
    cap = rts_lock();
}

/* Collections while others allocate and mutate a shared structure, on two capabilities. */
CAPSTAN_CAF(shared)
{
    HaskellObj array = rts_mkArray(stack->cap, 64, &Leaf_closure);
    return array;
}

CAPSTAN_IO(mutateShared, seed)
{
    HsInt s = rts_intValue(rts_force(stack, seed));
    HaskellObj array = rts_force(stack, &shared_closure);
    CAPSTAN_ROOTS(stack, array);
    for (HsInt i = 0; i < 500; i++) {
        size_t at = (size_t)((s * 31 + i * 17) & 63);
        HaskellObj old = rts_getElem(array, at);
        if (CAPSTAN_IS(Node, old) && !CAPSTAN_IS(Leaf, CAPSTAN_GET(Node, old, left))) old = &Leaf_closure;
        rts_setElem(stack->cap, array, at, Node_new(stack->cap, old, rts_mkInt(stack->cap, INT64_MAX - (HsInt)at), &Leaf_closure));
        rts_poll(stack);
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

static void *mutateOften(void *arg)
{
    int times = isShort() ? 20 : 100;

    for (int i = 0; i < times; i++) {
        Capability *mine = rts_lock();
        rts_evalIO(&mine, rts_apply(mine, &mutateShared_closure, rts_mkInt(mine, (HsInt)(intptr_t)arg + i)), NULL);
        if (rts_getSchedStatus(mine) != Success) atomic_fetch_add(&errors, 1);
        rts_unlock(mine);
    }
    return NULL;
}

static void checkShared(void)
{
    HaskellObj array;

    rts_eval(&cap, &shared_closure, &array);
    for (size_t i = 0; i < 64; i++)
        for (HaskellObj v = rts_getElem(array, i); !CAPSTAN_IS(Leaf, v); v = CAPSTAN_GET(Node, v, left))
            assert_int_equal(rts_getInt(CAPSTAN_GET(Node, v, value)), INT64_MAX - (HsInt)i);
}

static void testCollectUnderMutation(void **state)
{
    enum { MUTATORS = 4 };
    pthread_t ids[MUTATORS + 1];
    int times = isShort() ? 20 : 100;

    rts_unlock(cap);
    for (int i = 0; i < MUTATORS; i++)
        assert_int_equal(pthread_create(&ids[i], NULL, mutateOften, (void *)(intptr_t)(i * 1000)), 0);
    assert_int_equal(pthread_create(&ids[MUTATORS], NULL, askOften, &times), 0);
    for (int i = 0; i <= MUTATORS; i++) pthread_join(ids[i], NULL);
    cap = rts_lock();
    checkShared();
}

/* ---- How much memory ---- */

static void testHeapIsReturned(void **state)
{
    RtsCounts full, empty;
    HaskellObj list = &Leaf_closure;

    for (int i = 0; i < 100; i++) list = Node_new(cap, list, rts_mkBytes(cap, NULL, 1u << 20), &Leaf_closure);
    for (int i = 0; i < 400000; i++) list = Node_new(cap, list, small(i), &Leaf_closure);
    CAPSTAN_ROOTS(cap, list);
    collect();
    rts_getCounts(&full);
    CAPSTAN_UNROOT(cap);
    assert_true(full.live_bytes > 100u << 20);
    assert_true(full.heap_bytes >= full.live_bytes);
    list = NULL;
    /* What is free goes back some seconds later, when it is certain that it is not needed. */
    for (int tries = 0; tries < 200 && (collectBetween(), rts_getCounts(&empty), empty.heap_bytes >= 24u << 20); tries++) usleep(50000);
    assert_true(empty.live_bytes < 1u << 20);
    assert_true(empty.heap_bytes < 24u << 20);
    assert_true(empty.peak_heap_bytes >= full.heap_bytes);
}

static void testHook(void **state)
{
    unsigned before = atomic_load(&collections);
    StgWord64 numberBefore = lastCollection.number;
    collectBetween();
    RtsCollection first = lastCollection;
    collectBetween();
    /* The torture build collects in rts_lock too. */
    assert_in_range(lastCollection.number, first.number + 1, first.number + 2);
    assert_int_equal(atomic_load(&collections) - before, lastCollection.number - numberBefore);
    assert_true(lastCollection.pause_ns > 0 && lastCollection.pause_ns >= lastCollection.stop_ns);
    assert_true(lastCollection.heap_bytes > 0);
    RtsCounts counts;
    rts_getCounts(&counts);
    assert_int_equal(counts.collections, lastCollection.number);
    assert_true(counts.max_pause_ns >= lastCollection.pause_ns);
    assert_true(counts.collection_ns >= counts.max_pause_ns);
}

static void testCountsAllocation(void **state)
{
    RtsCounts before, after;

    collectBetween();
    rts_getCounts(&before);
    for (int i = 0; i < 1000; i++) rts_mkBytes(cap, NULL, 1000);
    collectBetween();
    rts_getCounts(&after);
    assert_in_range(after.allocated_bytes - before.allocated_bytes, 1000000, 3000000);
}

#define test(name) cmocka_unit_test_setup_teardown(name, setUp, tearDown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(testTreeSurvives),
        test(testTreeBehindStablePtr),
        test(testTreeAmongGarbage),
        test(testSharing),
        test(testCycles),
        test(testDeadCyclesGo),
        test(testLongList),
        test(testEvaluatedThunks),
        test(testLargeObjects),
        test(testLargeGarbage),
        test(testPinnedStay),
        test(testExternalReleasedOnce),
        test(testExternalReleasedAtExit),
        test(testRootsAreUpdated),
        test(testRootsOfNestedCalls),
        test(testResultIsFresh),
        test(testManyAsk),
        test(testSleeperDelaysNobody),
        test(testCollectUnderMutation),
        test(testHeapIsReturned),
        test(testHook),
        test(testCountsAllocation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

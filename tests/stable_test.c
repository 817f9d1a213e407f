/*
 * The stable pointer table: it grows while others read it, entries are given back by threads that hold nothing, places
 * are used again, and what an entry names is found again after collections.
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

#include <cmocka.h>

/* ---- The runtime of these tests ---- */

static _Atomic unsigned errors;
static RtsStatus lastError;
static Capability *cap;

static void noteError(void *ctx, RtsStatus status, const char *message)
{
    lastError = status;
    atomic_fetch_add(&errors, 1);
}

static int setUp(void **state)
{
    RtsConfig config = RTS_CONFIG_INIT;

    config.capabilities = 2;
    config.verify_heap = true;
    config.poison_from_space = true;
    config.errorHook = noteError;
    atomic_store(&errors, 0);
    if (rts_start(&config, NULL, 0) != RTS_OK) return -1;
    cap = rts_lock();
    return rts_isDead(cap) ? -1 : 0;
}

static int tearDown(void **state)
{
    rts_unlock(cap);
    hs_exit();
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

static StgWord64 inUse(void)
{
    RtsCounts counts;

    rts_getCounts(&counts);
    return counts.stable_ptrs;
}

static void collect(void)
{
    rts_unlock(cap);
    hs_perform_gc();
    cap = rts_lock();
}

/* A boxed number, so that there is something to move. */
static StgStablePtr stableNumber(Capability *mine, HsInt n)
{
    return getStablePtr((StgPtr)rts_mkInt(mine, INT64_MIN + n));
}

static HsInt numberBehind(StgStablePtr sp)
{
    return rts_getInt((HaskellObj)deRefStablePtr(sp)) - INT64_MIN;
}

/* ---- One thread ---- */

static void testDeRef(void **state)
{
    StgStablePtr a = stableNumber(cap, 1), b = stableNumber(cap, 2);

    assert_non_null(a);
    assert_non_null(b);
    assert_ptr_not_equal(a, b);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(numberBehind(a), 1);
        assert_int_equal(numberBehind(b), 2);
        collect();
    }
    freeStablePtr(a);
    hs_free_stable_ptr(b);
    assert_int_equal(errors, 0);
}

/* Every making is an entry of its own, also of the same object. */
static void testSameObjectTwice(void **state)
{
    HaskellObj object = rts_mkString(cap, "once");
    StgStablePtr a = getStablePtr((StgPtr)object), b = getStablePtr((StgPtr)object);

    assert_ptr_not_equal(a, b);
    freeStablePtr(a);
    collect();
    assert_memory_equal(rts_bytes((HaskellObj)deRefStablePtr(b), NULL), "once", 4);
    freeStablePtr(b);
}

static void testSameObjectStaysSame(void **state)
{
    HaskellObj object = rts_mkString(cap, "shared");
    StgStablePtr a = getStablePtr((StgPtr)object), b = getStablePtr((StgPtr)object);

    collect();
    assert_ptr_equal(deRefStablePtr(a), deRefStablePtr(b));
    freeStablePtr(a);
    freeStablePtr(b);
}

static void testImmediatesAndStatics(void **state)
{
    StgStablePtr five = getStablePtr((StgPtr)CAPSTAN_SMALL_INT(5)), unit = getStablePtr((StgPtr)CAPSTAN_UNIT);
    StgStablePtr fixed = getStablePtr((StgPtr)&capstan_catch_closure);

    collect();
    assert_ptr_equal(deRefStablePtr(five), (StgPtr)CAPSTAN_SMALL_INT(5));
    assert_ptr_equal(deRefStablePtr(unit), (StgPtr)CAPSTAN_UNIT);
    assert_ptr_equal(deRefStablePtr(fixed), (StgPtr)&capstan_catch_closure);
    freeStablePtr(five);
    freeStablePtr(unit);
    freeStablePtr(fixed);
}

/* A stable pointer as a value and as a C pointer, there and back. */
static void testAsValue(void **state)
{
    StgStablePtr sp = stableNumber(cap, 9);
    StgStablePtr keeper = getStablePtr((StgPtr)rts_mkStablePtr(cap, sp));

    collect();
    assert_ptr_equal(rts_getStablePtr((HaskellObj)deRefStablePtr(keeper)), sp);
    assert_int_equal(numberBehind(rts_getStablePtr((HaskellObj)deRefStablePtr(keeper))), 9);
    freeStablePtr(keeper);
    freeStablePtr(sp);
}

/* Memory of this process, in pages. */
static long pagesInUse(void)
{
    long size = 0;
    FILE *f = fopen("/proc/self/statm", "r");

    if (f == NULL || fscanf(f, "%ld", &size) != 1) size = 0;
    if (f != NULL) fclose(f);
    return size;
}

static void testPlacesAreUsedAgain(void **state)
{
    StgWord64 before = inUse();
    long pages;

    for (int i = 0; i < 1000; i++) freeStablePtr(stableNumber(cap, 7));
    collect();
    pages = pagesInUse();
    for (int i = 0; i < 1000000; i++) {
        freeStablePtr(getStablePtr((StgPtr)CAPSTAN_SMALL_INT(i)));
        if (inUse() != before) fail_msg("round %d", i);
    }
    assert_true(pagesInUse() - pages < 256);
}

static StgStablePtr *makeMany(size_t count)
{
    StgStablePtr *all = malloc(count * sizeof *all);

    for (size_t i = 0; i < count; i++) {
        all[i] = stableNumber(cap, (HsInt)i);
        if (i % 1000 == 0) rts_pollCap(&cap);
    }
    return all;
}

static int compareAddresses(const void *a, const void *b)
{
    uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;
    return x < y ? -1 : x > y;
}

static void testManyEntries(void **state)
{
    enum { COUNT = 100000 };
    StgWord64 before = inUse();
    StgStablePtr *all = makeMany(COUNT);

    assert_int_equal(inUse(), before + COUNT);
    collect();
    for (size_t i = 0; i < COUNT; i++)
        if (all[i] == NULL || numberBehind(all[i]) != (HsInt)i) fail_msg("entry %zu", i);
    for (size_t i = 0; i < COUNT; i += 2) freeStablePtr(all[i]);
    collect();
    assert_int_equal(inUse(), before + COUNT / 2);
    for (size_t i = 1; i < COUNT; i += 2)
        if (numberBehind(all[i]) != (HsInt)i) fail_msg("entry %zu", i);
    for (size_t i = 0; i < COUNT; i += 2) all[i] = stableNumber(cap, (HsInt)i);
    collect();
    for (size_t i = 0; i < COUNT; i++)
        if (numberBehind(all[i]) != (HsInt)i) fail_msg("entry %zu", i);
    qsort(all, COUNT, sizeof *all, compareAddresses);
    for (size_t i = 1; i < COUNT; i++) assert_ptr_not_equal(all[i], all[i - 1]);
    for (size_t i = 0; i < COUNT; i++) freeStablePtr(all[i]);
    assert_int_equal(inUse(), before);
    free(all);
}

/* What only a freed entry kept is dead. */
static void testFreedKeepsNothing(void **state)
{
    RtsCounts counts;
    StgStablePtr sp = getStablePtr((StgPtr)rts_mkBytes(cap, NULL, 32u << 20));

    collect();
    rts_getCounts(&counts);
    assert_true(counts.live_bytes >= 32u << 20);
    freeStablePtr(sp);
    collect();
    rts_getCounts(&counts);
    assert_true(counts.live_bytes < 8u << 20);
}

static void testStale(void **state)
{
    StgStablePtr sp = stableNumber(cap, 1);

    freeStablePtr(sp);
#ifdef CAPSTAN_DEBUG
    assert_ptr_equal(deRefStablePtr(sp), (StgPtr)CAPSTAN_POISON);
    assert_int_equal(errors, 1);
    assert_int_equal(lastError, RTS_BAD_STABLE_PTR);
    freeStablePtr(sp);
    assert_int_equal(errors, 2);
    hs_free_stable_ptr((HsStablePtr)0x12345);
    assert_int_equal(errors, 3);
    assert_int_equal(lastError, RTS_BAD_STABLE_PTR);
#else
    freeStablePtr(sp);
    hs_free_stable_ptr((HsStablePtr)0x12345);
    assert_int_equal(errors, 0);
#endif
    StgStablePtr a = stableNumber(cap, 3), b = stableNumber(cap, 4);
    assert_ptr_not_equal(a, b);
    assert_int_equal(numberBehind(a), 3);
    assert_int_equal(numberBehind(b), 4);
    freeStablePtr(a);
    freeStablePtr(b);
}

/* ---- Several threads ---- */

enum { READERS = 4, FIXED = 64 };

typedef struct {
    pthread_barrier_t *begin;
    _Atomic int *stop;
    StgStablePtr *fixed;
    unsigned wrong;
    StgWord64 reads;
} Reader;

static void *readOften(void *arg)
{
    Reader *me = arg;

    pthread_barrier_wait(me->begin);
    do {
        Capability *mine = rts_lock();
        for (int i = 0; i < FIXED; i++)
            if (numberBehind(me->fixed[i]) != i) me->wrong++;
        rts_unlock(mine);
        me->reads += FIXED;
    } while (!atomic_load(me->stop));
    return NULL;
}

/* Readers read while the table doubles several times. */
static void testGrowthUnderReaders(void **state)
{
    const size_t count = isShort() ? 30000 : 200000;
    pthread_t ids[READERS];
    Reader readers[READERS];
    StgStablePtr fixed[FIXED];
    pthread_barrier_t begin;
    _Atomic int stop = 0;

    for (int i = 0; i < FIXED; i++) fixed[i] = stableNumber(cap, i);
    rts_unlock(cap);
    pthread_barrier_init(&begin, NULL, READERS + 1);
    for (int i = 0; i < READERS; i++) {
        readers[i] = (Reader){ .begin = &begin, .stop = &stop, .fixed = fixed };
        assert_int_equal(pthread_create(&ids[i], NULL, readOften, &readers[i]), 0);
    }
    pthread_barrier_wait(&begin);
    cap = rts_lock();
    StgStablePtr *all = makeMany(count);
    collect();
    for (size_t i = 0; i < count; i++)
        if (numberBehind(all[i]) != (HsInt)i) fail_msg("entry %zu", i);
    for (size_t i = 0; i < count; i++) freeStablePtr(all[i]);
    rts_unlock(cap);
    atomic_store(&stop, 1);
    for (int i = 0; i < READERS; i++) {
        pthread_join(ids[i], NULL);
        assert_int_equal(readers[i].wrong, 0);
        assert_true(readers[i].reads > 0);
    }
    pthread_barrier_destroy(&begin);
    free(all);
    cap = rts_lock();
}

/* Threads that hold no capability give back what others made, while those make more. */
typedef struct {
    pthread_barrier_t *begin;
    StgStablePtr *mine;
    size_t count;
} Freer;

static void *freeAll(void *arg)
{
    Freer *me = arg;

    pthread_barrier_wait(me->begin);
    for (size_t i = 0; i < me->count; i++) hs_free_stable_ptr(me->mine[i]);
    return NULL;
}

static void testFreeWithoutCapability(void **state)
{
    enum { FREERS = 4 };
    const size_t share = isShort() ? 3000 : 25000;
    StgWord64 before = inUse();
    StgStablePtr *all = makeMany(FREERS * share);
    pthread_t ids[FREERS];
    Freer freers[FREERS];
    pthread_barrier_t begin;

    pthread_barrier_init(&begin, NULL, FREERS + 1);
    for (int i = 0; i < FREERS; i++) {
        freers[i] = (Freer){ &begin, all + (size_t)i * share, share };
        assert_int_equal(pthread_create(&ids[i], NULL, freeAll, &freers[i]), 0);
    }
    pthread_barrier_wait(&begin);
    StgStablePtr *more = makeMany(FREERS * share);
    collect();
    for (int i = 0; i < FREERS; i++) pthread_join(ids[i], NULL);
    for (size_t i = 0; i < FREERS * share; i++)
        if (numberBehind(more[i]) != (HsInt)i) fail_msg("entry %zu", i);
    assert_int_equal(inUse(), before + FREERS * share);
    for (size_t i = 0; i < FREERS * share; i++) freeStablePtr(more[i]);
    assert_int_equal(inUse(), before);
    pthread_barrier_destroy(&begin);
    free(all);
    free(more);
}

/* Made on one thread, used on the next, freed on a third, with collections all the time. */
typedef struct {
    pthread_barrier_t *begin;
    _Atomic(StgStablePtr) *slots;
    size_t slotCount;
    unsigned seed, wrong;
    int rounds;
} Passer;

static unsigned nextRandom(unsigned *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* Whoever takes an entry out of a slot owns it. */
static void passOne(Passer *me)
{
    size_t at = nextRandom(&me->seed) % me->slotCount;
    Capability *mine = rts_lock();
    StgStablePtr fresh = stableNumber(mine, (HsInt)at), old;

    old = atomic_exchange(&me->slots[at], fresh);
    if (old != NULL && numberBehind(old) != (HsInt)at) me->wrong++;
    if (nextRandom(&me->seed) % 2) {
        rts_unlock(mine);
        if (old != NULL) hs_free_stable_ptr(old);
    } else {
        if (old != NULL) freeStablePtr(old);
        rts_unlock(mine);
    }
}

static void *passMany(void *arg)
{
    Passer *me = arg;

    pthread_barrier_wait(me->begin);
    for (int i = 0; i < me->rounds; i++) passOne(me);
    return NULL;
}

static void testPassedAround(void **state)
{
    enum { PASSERS = 4, SLOTS = 257 };
    static _Atomic(StgStablePtr) slots[SLOTS];
    StgWord64 before = inUse();
    pthread_t ids[PASSERS];
    Passer passers[PASSERS];
    pthread_barrier_t begin;

    rts_unlock(cap);
    memset((void *)slots, 0, sizeof slots);
    pthread_barrier_init(&begin, NULL, PASSERS + 1);
    for (int i = 0; i < PASSERS; i++) {
        passers[i] = (Passer){ &begin, slots, SLOTS, (unsigned)i + 1, 0, isShort() ? 3000 : 50000 };
        assert_int_equal(pthread_create(&ids[i], NULL, passMany, &passers[i]), 0);
    }
    pthread_barrier_wait(&begin);
    for (int i = 0; i < (isShort() ? 20 : 100); i++) hs_perform_gc();
    for (int i = 0; i < PASSERS; i++) {
        pthread_join(ids[i], NULL);
        assert_int_equal(passers[i].wrong, 0);
    }
    cap = rts_lock();
    for (size_t i = 0; i < SLOTS; i++)
        if (slots[i] != NULL) {
            assert_int_equal(numberBehind(slots[i]), i);
            freeStablePtr(slots[i]);
        }
    assert_int_equal(inUse(), before);
    assert_int_equal(errors, 0);
    pthread_barrier_destroy(&begin);
}

/* Giving back waits for nothing: not for the holder of a capability either, who holds a collection up. */
static void *askForCollection(void *arg)
{
    hs_perform_gc();
    return NULL;
}

static void *freeOne(void *sp)
{
    hs_free_stable_ptr(sp);
    return NULL;
}

static void testFreeWaitsForNothing(void **state)
{
    StgStablePtr sp = stableNumber(cap, 1);
    pthread_t asker, freer;

    assert_int_equal(pthread_create(&asker, NULL, askForCollection, NULL), 0);
    for (double until = now() + 0.05; now() < until;) continue;
    assert_int_equal(pthread_create(&freer, NULL, freeOne, sp), 0);
    pthread_join(freer, NULL); /* comes about while this thread holds a capability: it did not wait for that */
    rts_unlock(cap);
    pthread_join(asker, NULL);
    cap = rts_lock();
}

#define test(name) cmocka_unit_test_setup_teardown(name, setUp, tearDown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(testDeRef),
        test(testSameObjectTwice),
        test(testSameObjectStaysSame),
        test(testImmediatesAndStatics),
        test(testAsValue),
        test(testPlacesAreUsedAgain),
        test(testManyEntries),
        test(testFreedKeepsNothing),
        test(testStale),
        test(testGrowthUnderReaders),
        test(testFreeWithoutCapability),
        test(testPassedAround),
        test(testFreeWaitsForNothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

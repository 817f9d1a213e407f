/*
 * qsort and bsearch of the C library with comparators that are managed functions: from one thread and from eight, with free variables, that raise, and that
 * collect while a sort is under way.
 */
#include <Rts.h>
#include <rts/Managed.h>

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Where every call collects, 5000 take minutes on a busy machine. */
#ifdef CAPSTAN_TORTURE
enum { COUNT = 500 };
#else
enum { COUNT = 5000 };
#endif
enum { THREADS = 8 };

typedef int Compare(const void *, const void *);

static HsInt intAt(HaskellObj pointer) { return *(const int32_t *)rts_getPtr(pointer); }

static HaskellObj order(HsInt x, HsInt y) { return CAPSTAN_SMALL_INT((x > y) - (x < y)); }

/* compareInts :: Ptr Int32 -> Ptr Int32 -> IO Int */
CAPSTAN_IO(compareInts, a, b) { return order(intAt(a), intAt(b)); }

/* Objects move in the middle of a sort. */
CAPSTAN_IO(compareCollecting, a, b)
{
    HsInt x = intAt(a), y = intAt(b);
    if ((x ^ y) % 64 == 0) rts_collect(stack, x % 512 == 0);
    return order(x, y);
}

/* By the remainder of a division by a free variable, then by value; counts its calls in another one. */
CAPSTAN_LAMBDA_IO(compareByRemainder, 2, a, b)
{
    HaskellObj divisor = rts_freeVar(self, 0), calls = rts_freeVar(self, 1), old;
    HsInt x = intAt(a), y = intAt(b), n = rts_intValue(divisor);
    do old = rts_readMutVar(calls);
    while (!rts_casMutVar(stack->cap, calls, old, CAPSTAN_SMALL_INT(rts_intValue(old) + 1)));
    return x % n != y % n ? order(x % n, y % n) : order(x, y);
}

CAPSTAN_IO(compareNever, a, b) { rts_raiseError(stack, "these cannot be compared"); }

/* ---- The C side ---- */

static int plainCompare(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static int plainByRemainder(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    if (x % 97 != y % 97) return (x % 97 > y % 97) - (x % 97 < y % 97);
    return (x > y) - (x < y);
}

static void fill(int32_t *numbers, unsigned seed)
{
    for (int i = 0; i < COUNT; i++) numbers[i] = (int32_t)((seed = seed * 1103515245u + 12345u) >> 4);
}

static void *adjustorOf(HaskellObj f)
{
    Capability *cap = rts_lock();
    void *adjustor = createAdjustor(getStablePtr((StgPtr)f), NULL, (char *)"Wpp");
    rts_unlock(cap);
    assert_non_null(adjustor);
    return adjustor;
}

/* false: not sorted as plain C does it. */
static bool sortsLike(Compare *managed, Compare *plain, unsigned seed)
{
    static __thread int32_t mine[COUNT], theirs[COUNT];
    fill(mine, seed);
    memcpy(theirs, mine, sizeof mine);
    qsort(mine, COUNT, sizeof *mine, managed);
    qsort(theirs, COUNT, sizeof *theirs, plain);
    return memcmp(mine, theirs, sizeof mine) == 0;
}

static void test_qsort(void **state)
{
    Compare *compare = (Compare *)adjustorOf(&compareInts_closure);
    for (unsigned seed = 1; seed <= 5; seed++) assert_true(sortsLike(compare, plainCompare, seed));
    freeHaskellFunctionPtr((void *)compare);
}

static void test_bsearch(void **state)
{
    static int32_t numbers[COUNT];
    Compare *compare = (Compare *)adjustorOf(&compareInts_closure);
    fill(numbers, 7);
    qsort(numbers, COUNT, sizeof *numbers, compare);
    for (int i = 0; i < COUNT; i++) {
        int32_t key = numbers[i], *found = bsearch(&key, numbers, COUNT, sizeof key, compare);
        assert_true(found != NULL && *found == key);
        key = numbers[i] ^ 1;
        assert_ptr_equal(bsearch(&key, numbers, COUNT, sizeof key, compare), bsearch(&key, numbers, COUNT, sizeof key, plainCompare));
    }
    freeHaskellFunctionPtr((void *)compare);
}

static void test_collecting(void **state)
{
    Compare *compare = (Compare *)adjustorOf(&compareCollecting_closure);
    RtsCounts before, after;
    rts_getCounts(&before);
    assert_true(sortsLike(compare, plainCompare, 11));
    rts_getCounts(&after);
    assert_true(after.collections > before.collections);
    freeHaskellFunctionPtr((void *)compare);
}

typedef struct {
    Compare *compare;
    unsigned seed;
    bool right;
} Sorter;

static void *sortMany(void *arg)
{
    Sorter *sorter = arg;
    sorter->right = true;
    for (unsigned i = 0; i < 4; i++) sorter->right &= sortsLike(sorter->compare, plainByRemainder, sorter->seed + i);
    return NULL;
}

static _Atomic long plainCalls;

static int countedByRemainder(const void *a, const void *b)
{
    plainCalls++;
    return plainByRemainder(a, b);
}

/* All with the same adjustor; it is called exactly as often as plain C's would be. */
static void test_threads(void **state)
{
    Capability *cap = rts_lock();
    HaskellObj free[2] = { CAPSTAN_SMALL_INT(97), rts_mkMutVar(cap, CAPSTAN_SMALL_INT(0)) };
    HsStablePtr calls = getStablePtr((StgPtr)free[1]);
    HsStablePtr function = getStablePtr((StgPtr)rts_mkClosure(cap, &compareByRemainder_info, free));
    rts_unlock(cap);
    Compare *compare = (Compare *)createAdjustor(function, NULL, (char *)"Wpp");
    assert_non_null((void *)compare);
    pthread_t threads[THREADS];
    Sorter sorters[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        sorters[i] = (Sorter){ compare, 100 * i, false };
        assert_int_equal(pthread_create(&threads[i], NULL, sortMany, &sorters[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_true(sorters[i].right);
    }
    plainCalls = 0;
    for (unsigned i = 0; i < THREADS; i++)
        for (unsigned k = 0; k < 4; k++) sortsLike(countedByRemainder, plainByRemainder, 100 * i + k);
    cap = rts_lock();
    assert_int_equal(rts_getInt(rts_readMutVar((HaskellObj)deRefStablePtr(calls))), plainCalls);
    rts_unlock(cap);
    hs_free_stable_ptr(calls);
    freeHaskellFunctionPtr((void *)compare);
}

static _Atomic long failed;

static void countFailed(void *ctx, const char *site, Capability *cap, SchedulerStatus status, const char *text)
{
    if (status == Killed && strcmp(text, "these cannot be compared") == 0) failed++;
}

/* The status hook hears of each; for qsort all are equal, and nothing is lost. */
static void test_raising(void **state)
{
    int32_t numbers[10] = { 3, 1, 2 };
    Compare *compare = (Compare *)adjustorOf(&compareNever_closure);
    qsort(numbers, 10, sizeof *numbers, compare);
    assert_true(failed >= 9);
    qsort(numbers, 10, sizeof *numbers, plainCompare);
    assert_true(numbers[9] == 3 && numbers[8] == 2 && numbers[7] == 1 && numbers[0] == 0);
    freeHaskellFunctionPtr((void *)compare);
}

static int startHere(void **state)
{
    RtsConfig config = RTS_CONFIG_INIT;
    config.capabilities = 2;
    config.verify_heap = config.poison_from_space = true;
    config.statusHook = countFailed;
    return rts_start(&config, NULL, 0) == RTS_OK ? 0 : -1;
}

static int stopHere(void **state)
{
    RtsAdjustorCounts counts;
    rts_getAdjustorCounts(&counts);
    hs_exit();
    return counts.live == 0 ? 0 : -1;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, startHere, stopHere)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_qsort), TEST(test_bsearch), TEST(test_collecting), TEST(test_threads), TEST(test_raising),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

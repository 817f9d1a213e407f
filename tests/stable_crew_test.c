/*
 * Stable pointers are shared out among the threads that collect: each place of the table is looked at by one of them, whoever it is, while other
 * threads give some back; and more than one thread takes part in it.
 */
#include "keeping.h"

#define MOST 300000

static HsStablePtr pointers[MOST];
static size_t used;

/* [stopped] of the major collections */
static _Atomic unsigned shared, majors;

/* Nothing but stable pointers leads to what is copied here, each to one small object: copies of two threads come of two shares. */
static void lookAtBalance(void *ctx, const RtsCollection *c)
{
    if (!c->major) return;
    majors++;
    if (c->collectors > 1 && c->max_copied_bytes + ((uint64_t)64 << 10) < c->copied_bytes) shared++;
}

static int setUpMany(void **state, unsigned capabilities)
{
    RtsConfig config = schedConfig(capabilities);
    config.gcDoneHook = lookAtBalance;
    config.nursery_bytes = 4 << 20;
    config.idle_collection_us = (uint64_t)3600 * 1000000;
    shared = majors = 0;
    return setUpWith(state, &config);
}
static int setUpManyOnTwo(void **state) { return setUpMany(state, 2); }
static int setUpManyOnFour(void **state) { return setUpMany(state, 4); }

/* Some places hold immediates and some nothing. */
static void makeAll(void)
{
    used = (size_t)many(MOST);
    for (size_t from = 0; from < used; from += 5000) {
        Capability *cap = rts_lock();
        for (size_t i = from; i < used && i < from + 5000; i++) pointers[i] = keep(i % 7 == 3 ? CAPSTAN_SMALL_INT(i) : thing(cap, (HsInt)i));
        rts_unlock(cap);
    }
    for (size_t i = 0; i < used; i += 5) {
        hs_free_stable_ptr(pointers[i]);
        pointers[i] = NULL;
    }
}

static void assertAll(void)
{
    Capability *cap = rts_lock();
    size_t wrong = 0;
    for (size_t i = 0; i < used; i++) {
        if (pointers[i] == NULL) continue;
        HaskellObj v = kept(pointers[i]);
        wrong += (i % 7 == 3 ? rts_smallIntValue(v) : numberOf(v)) != (HsInt)i;
    }
    rts_unlock(cap);
    assert_int_equal(wrong, 0);
}

static void freeEach(size_t first, size_t step)
{
    for (size_t i = first; i < used; i += step) {
        if (pointers[i] != NULL) hs_free_stable_ptr(pointers[i]);
        pointers[i] = NULL;
    }
}

static void testManyAreShared(void **state)
{
    makeAll();
    rts_performMinorGC();
    assertAll();
    /* Nobody has to help; but on a machine that has time somebody does. */
    for (uint64_t until = nowMs() + 20000; majors < 5 || (shared == 0 && nowMs() < until);) hs_perform_gc();
    assertAll();
    /* The torture build, and few pointers, leave too little to share out; emulators take one thread after the other. */
    if (!SLOW_BUILD && !shortLoad() && !isEmulated()) assert_true(shared > 0);
    freeEach(0, 1);
}

static void *freeMost(void *arg)
{
    freeEach(1, 2);
    return NULL;
}

/* Who gives back needs no capability, and stops for no collection. */
static void testGivenBackMeanwhile(void **state)
{
    pthread_t thread;
    makeAll();
    size_t before = used;
    assert_int_equal(pthread_create(&thread, NULL, freeMost, NULL), 0);
    for (int i = 0; i < 6; i++) {
        if (i % 2 == 0) hs_perform_gc();
        else rts_performMinorGC();
    }
    pthread_join(thread, NULL);
    hs_perform_gc();
    assert_int_equal(used, before);
    assertAll();
    freeEach(0, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        { "shared by two", testManyAreShared, setUpManyOnTwo, disarmTest, NULL },
        { "shared by four", testManyAreShared, setUpManyOnFour, disarmTest, NULL },
        { "given back meanwhile", testGivenBackMeanwhile, setUpManyOnFour, disarmTest, NULL },
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

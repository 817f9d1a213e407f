/*
 * The stable pointer table: its list of young entries, and its lock, which holds up makers and freers but no collection.
 */
#include "keeping.h"

#include "stable_ptr.h"

/* ---- Young entries ---- */

static HaskellObj boxed(Capability *cap, HsInt n) { return rts_mkInt(cap, INT64_MIN + n); }
static HsInt numberBehind(HsStablePtr sp) { return rts_getInt(kept(sp)) - INT64_MIN; }

static void testOldEntriesAreNotListed(void **state)
{
    enum { COUNT = 1000 };
    HsStablePtr all[COUNT];
    Capability *cap = rts_lock();
    for (int i = 0; i < COUNT; i++) all[i] = keep(boxed(cap, i));
    HsStablePtr others[] = { keep(CAPSTAN_SMALL_INT(1)), keep(&capstan_catch_closure) };
    assert_int_equal(countYoungStablePtrs(), COUNT);
    rts_unlock(cap);
    growOld();
    assert_int_equal(countYoungStablePtrs(), 0);
    cap = rts_lock();
    HsStablePtr again = keep(kept(all[5])), young = keep(boxed(cap, COUNT));
    assert_int_equal(countYoungStablePtrs(), 1);
    rts_unlock(cap);
    for (int round = 0; round < 4; round++) {
        if (round == 2) hs_perform_gc();
        else rts_performMinorGC();
        cap = rts_lock();
        for (int i = 0; i < COUNT; i++) assert_int_equal(numberBehind(all[i]), i);
        assert_int_equal(numberBehind(young), COUNT);
        assert_int_equal(numberBehind(again), 5);
        rts_unlock(cap);
    }
    assert_int_equal(countYoungStablePtrs(), 0);
    for (int i = 0; i < COUNT; i++) hs_free_stable_ptr(all[i]);
    hs_free_stable_ptr(others[0]);
}

/* An entry that is freed and used again is in the list once, and what it holds is found, whatever it held before. */
static void testUsedAgainWhileListed(void **state)
{
    Capability *cap = rts_lock();
    HsStablePtr sp = NULL;
    for (int i = 0; i < 10000; i++) {
        sp = keep(boxed(cap, i));
        assert_true(countYoungStablePtrs() <= 1);
        if (i < 9999) freeStablePtr(sp);
    }
    rts_unlock(cap);
    rts_performMinorGC();
    cap = rts_lock();
    assert_int_equal(numberBehind(sp), 9999);
    freeStablePtr(sp);
    HsStablePtr old = keep(CAPSTAN_SMALL_INT(3)); /* in the same place, nothing young */
    rts_unlock(cap);
    rts_performMinorGC();
    assert_int_equal(countYoungStablePtrs(), 0);
    hs_free_stable_ptr(old);
}

/* ---- The lock ---- */

static _Atomic int done;

static void *freeOne(void *sp)
{
    hs_free_stable_ptr(sp);
    done++;
    return NULL;
}
static void *freeOneUnsafe(void *sp)
{
    hs_free_stable_ptr_unsafe(sp);
    done++;
    return NULL;
}
static void *makeOne(void *unused)
{
    Capability *cap = rts_lock();
    HsStablePtr sp = getStablePtr((StgPtr)boxed(cap, 7));
    rts_unlock(cap);
    done++;
    return sp;
}
static void *lockAndUnlock(void *unused)
{
    hs_lock_stable_ptr_table();
    done++;
    hs_unlock_stable_ptr_table();
    return NULL;
}

static void testLockHoldsUpUsers(void **state)
{
    Capability *cap = rts_lock();
    HsStablePtr sps[6];
    for (int i = 0; i < 6; i++) sps[i] = keep(boxed(cap, i));
    rts_unlock(cap);
    done = 0;
    hs_lock_stable_ptr_table();
    pthread_t freer = spawn(freeOne, sps[0]), maker = spawn(makeOne, NULL), locker = spawn(lockAndUnlock, NULL);
    joinThread(spawn(freeOneUnsafe, sps[1]));
    assert_int_equal(done, 1); /* this one never waits */
    sleepMs(30);
    assert_int_equal(done, 1);
    hs_lock_stable_tables(); /* again, by its other name: who has the lock waits for nobody */
    hs_free_stable_ptr(sps[2]);
    hs_free_stable_ptr_unsafe(sps[3]);
    hs_unlock_stable_tables();
    sleepMs(10);
    assert_int_equal(done, 1);
    hs_unlock_stable_ptr_table();
    joinThread(freer);
    joinThread(locker);
    cap = rts_lock();
    assert_int_equal(numberBehind(joinThread(maker)), 7);
    assert_int_equal(numberBehind(sps[4]), 4);
    rts_unlock(cap);
    assert_int_equal(done, 4);
}

/* The thread that has the lock collects: makers that wait with a capability give way. */
static void testLockHoldsUpNoCollection(void **state)
{
    hs_lock_stable_ptr_table();
    pthread_t makers[4];
    done = 0;
    for (int i = 0; i < 4; i++) makers[i] = spawn(makeOne, NULL);
    sleepMs(10);
    for (int i = 0; i < 10; i++) {
        rts_performMinorGC();
        hs_perform_gc();
    }
    Capability *cap = rts_lock();
    HsStablePtr mine = keep(boxed(cap, 1));
    assert_int_equal(numberBehind(mine), 1); /* reading does not wait */
    rts_unlock(cap);
    hs_unlock_stable_ptr_table();
    for (int i = 0; i < 4; i++) assert_non_null(joinThread(makers[i]));
}

static void *unlockOnly(void *unused)
{
    hs_unlock_stable_ptr_table();
    return NULL;
}
static void testUnlockByOthers(void **state)
{
    hs_unlock_stable_ptr_table();
    assert_int_equal(heardError(RTS_BAD_ARGUMENT), 1);
    hs_lock_stable_ptr_table();
    onThread(unlockOnly, NULL);
    assert_int_equal(heardError(RTS_BAD_ARGUMENT), 1);
    done = 0;
    pthread_t other = spawn(lockAndUnlock, NULL);
    sleepMs(10);
    assert_int_equal(done, 0);
    hs_unlock_stable_ptr_table();
    joinThread(other);
}

/* Nobody waits for ever for one who has ended; across an exit neither. */
static void *lockForGood(void *unused)
{
    hs_lock_stable_ptr_table();
    hs_lock_stable_ptr_table();
    return NULL;
}
static void testLockerEnds(void **state)
{
    void *(*const waiters[])(void *) = { makeOne, lockAndUnlock, NULL };
    for (int i = 0; i < 3; i++) {
        onThread(lockForGood, NULL);
        if (waiters[i] != NULL) onThread(waiters[i], NULL);
        else makeOne(NULL); /* waits with a capability */
        assert_int_equal(heardError(RTS_BAD_ARGUMENT), 1);
        hs_lock_stable_ptr_table(); /* once, and so it is open after one unlocking */
        hs_unlock_stable_ptr_table();
        onThread(lockAndUnlock, NULL);
    }
    onThread(lockForGood, NULL);
    hs_exit();
    assert_int_equal(startHooked(1), RTS_OK);
    assert_non_null(onThread(makeOne, NULL));
    assert_int_equal(heardOtherErrors(), 1);
}

/* Makers, freers, lockers and collections together; what is there at the end comes out exactly. */
enum { ACTORS = 4, SLOTS = 61 };
typedef struct {
    _Atomic(HsStablePtr) slots[SLOTS];
    _Atomic unsigned wrong, seed;
    HsInt rounds;
} Storm;

static void stormStep(Storm *s, uint64_t *seed)
{
    unsigned at = nextRandom(seed) % SLOTS, how = nextRandom(seed) % 8;
    if (how == 0) {
        hs_lock_stable_ptr_table();
        HsStablePtr sp = atomic_exchange(&s->slots[at], NULL);
        if (sp != NULL) hs_free_stable_ptr_unsafe(sp);
        hs_unlock_stable_ptr_table();
        return;
    }
    Capability *cap = rts_lock();
    HsStablePtr fresh = keep(how < 5 ? boxed(cap, (HsInt)at) : rts_mkInt(cap, INT64_MIN + (HsInt)at)), old = atomic_exchange(&s->slots[at], fresh);
    if (old != NULL && numberBehind(old) != (HsInt)at) s->wrong++;
    rts_unlock(cap);
    if (old != NULL) hs_free_stable_ptr(old);
}

static void *storm(void *arg)
{
    Storm *s = arg;
    uint64_t seed = s->seed++;
    for (HsInt i = 0; i < s->rounds; i++) {
        stormStep(s, &seed);
        if (i % 64 == 0) rts_performMinorGC();
        if (i % 512 == 0) hs_perform_gc();
    }
    return NULL;
}

static void testStorm(void **state)
{
    static Storm s;
    RtsCounts counts;
    pthread_t ids[ACTORS];
    memset(&s, 0, sizeof s);
    s.seed = 1;
    s.rounds = many(20000);
    for (int i = 0; i < ACTORS; i++) ids[i] = spawn(storm, &s);
    for (int i = 0; i < ACTORS; i++) joinThread(ids[i]);
    assert_int_equal(s.wrong, 0);
    unsigned left = 0;
    Capability *cap = rts_lock();
    for (unsigned i = 0; i < SLOTS; i++) {
        if (s.slots[i] == NULL) continue;
        left++;
        assert_int_equal(numberBehind(s.slots[i]), i);
    }
    rts_unlock(cap);
    rts_getCounts(&counts);
    assert_int_equal(counts.stable_ptrs, left);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TWO(testOldEntriesAreNotListed), TWO(testUsedAgainWhileListed), ONE(testLockHoldsUpUsers), TWO(testLockHoldsUpUsers), ONE(testLockHoldsUpNoCollection),
        TWO(testLockHoldsUpNoCollection), TWO(testUnlockByOthers), ONE(testLockerEnds), TWO(testLockerEnds), ALL(testStorm), FOUR(testStorm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * Stable names and identity hashes: the same for the same object wherever it is moved to, different for different ones, and nothing is
 * kept alive by them.
 */
#include "keeping.h"

static HsInt nameNumber(Capability *cap, HaskellObj v) { return rts_stableNameToInt(rts_makeStableName(cap, v)); }

static void testSameObjectSameName(void **state)
{
    Capability *cap = rts_lock();
    HaskellObj a = thing(cap, 1), b = thing(cap, 1);
    HsStablePtr keys[] = { keep(a), keep(b) }, names[] = { keep(rts_makeStableName(cap, a)), keep(rts_makeStableName(cap, b)) };
    HsInt numbers[] = { nameNumber(cap, a), nameNumber(cap, b) };
    StgWord hashes[] = { rts_identityHash(cap, a), rts_identityHash(cap, b) };
    rts_unlock(cap);
    assert_int_not_equal(numbers[0], numbers[1]);
    assert_int_not_equal(hashes[0], hashes[1]);
    for (int round = 0; round < 8; round++) {
        cap = rts_lock();
        for (int i = 0; i < 2; i++) {
            HaskellObj again = rts_makeStableName(cap, kept(keys[i]));
            assert_true(rts_eqStableName(again, kept(names[i])));
            assert_false(rts_eqStableName(again, kept(names[1 - i])));
            assert_int_equal(rts_stableNameToInt(again), numbers[i]);
            assert_int_equal(rts_identityHash(cap, kept(keys[i])), hashes[i]);
        }
        rts_unlock(cap);
        if (round == 5) hs_perform_gc();
        else rts_performMinorGC();
    }
}

static void testImmediatesAndStatics(void **state)
{
    HaskellObj all[] = { CAPSTAN_SMALL_INT(0), CAPSTAN_SMALL_INT(1), CAPSTAN_SMALL_INT(-1), CAPSTAN_UNIT, CAPSTAN_TRUE, CAPSTAN_FALSE,
                         &capstan_catch_closure, &capstan_fork_closure };
    enum { COUNT = sizeof all / sizeof *all };
    StgWord hashes[COUNT];
    HsInt names[COUNT];
    Capability *cap = rts_lock();
    for (int i = 0; i < COUNT; i++) {
        hashes[i] = rts_identityHash(cap, all[i]);
        names[i] = nameNumber(cap, all[i]);
        assert_int_not_equal(hashes[i], 0);
        for (int j = 0; j < i; j++) {
            assert_int_not_equal(hashes[i], hashes[j]);
            assert_int_not_equal(names[i], names[j]);
        }
    }
    rts_unlock(cap);
    hs_perform_gc();
    cap = rts_lock();
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(rts_identityHash(cap, all[i]), hashes[i]);
        assert_int_equal(nameNumber(cap, all[i]), names[i]);
    }
    rts_unlock(cap);
}

static int compareWords(const void *a, const void *b)
{
    StgWord x = *(const StgWord *)a, y = *(const StgWord *)b;
    return x < y ? -1 : x > y;
}

/* Many objects of all ages; those that die give their places to others, but not their numbers. */
static void testManyAreDifferent(void **state)
{
    const size_t count = (size_t)many(20000);
    StgWord *hashes = malloc(4 * count * sizeof *hashes), *all = malloc(4 * count * sizeof *all);
    for (size_t round = 0; round < 4; round++) {
        Capability *cap = rts_lock();
        HaskellObj array = rts_mkArray(cap, count, CAPSTAN_UNIT);
        for (size_t i = 0; i < count; i++) {
            HaskellObj t = thing(cap, (HsInt)i);
            rts_setElem(cap, array, i, t);
            hashes[round * count + i] = rts_identityHash(cap, t);
        }
        HsStablePtr keeper = keep(array);
        rts_unlock(cap);
        for (int i = 0; i < 4; i++) {
            if (i == 2) hs_perform_gc();
            else rts_performMinorGC();
            cap = rts_lock();
            for (size_t j = 0; j < count; j++)
                if (rts_identityHash(cap, rts_getElem(kept(keeper), j)) != hashes[round * count + j]) fail_msg("object %zu", j);
            rts_unlock(cap);
        }
        hs_free_stable_ptr(keeper);
        if (round % 2) hs_perform_gc();
    }
    memcpy(all, hashes, 4 * count * sizeof *all);
    qsort(all, 4 * count, sizeof *all, compareWords);
    for (size_t i = 1; i < 4 * count; i++) assert_int_not_equal(all[i - 1], all[i]);
    free(hashes);
    free(all);
}

/* Neither a name nor a hash keeps its object. */
static void testKeepsNothing(void **state)
{
    RtsCounts counts;
    Capability *cap = rts_lock();
    HaskellObj large = rts_mkBytes(cap, NULL, 32u << 20);
    HsStablePtr name = keep(rts_makeStableName(cap, large));
    rts_identityHash(cap, large);
    rts_unlock(cap);
    hs_perform_gc();
    rts_getCounts(&counts);
    assert_true(counts.live_bytes < 16u << 20);
    cap = rts_lock();
    assert_int_not_equal(rts_stableNameToInt(kept(name)), 0);
    rts_unlock(cap);
}

CAPSTAN_THUNK(lazyThing, 0) { return thing(stack->cap, 3); }

/* What is evaluated stands for its value; evaluating is not done here. */
CAPSTAN_IO(nameThunks)
{
    HaskellObj thunk = rts_mkClosure(stack->cap, &lazyThing_info, NULL), value = CAPSTAN_UNIT, name = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, thunk, value, name);
    name = rts_makeStableName(stack->cap, thunk);
    CHECK(rts_isThunk(thunk) && ((StgThunk *)thunk)->state == 0);
    CHECK(rts_eqStableName(name, rts_makeStableName(stack->cap, thunk)));
    rts_collect(stack, false);
    CHECK(rts_eqStableName(name, rts_makeStableName(stack->cap, thunk)));
    value = rts_force(stack, thunk);
    CHECK(rts_eqStableName(rts_makeStableName(stack->cap, thunk), rts_makeStableName(stack->cap, value)));
    CHECK(rts_identityHash(stack->cap, thunk) == rts_identityHash(stack->cap, value));
    rts_collect(stack, true);
    CHECK(rts_eqStableName(rts_makeStableName(stack->cap, thunk), rts_makeStableName(stack->cap, value)));
    name = rts_call(stack, &capstan_makeStableName_closure, value, CAPSTAN_WORLD);
    CHECK(rts_eqStableName(name, rts_makeStableName(stack->cap, value)));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
static void testThunks(void **state) { run(&nameThunks_closure); }

/* The same objects named by several threads at once, while they move. */
enum { SHARED = 64, NAMERS = 4 };
typedef struct {
    HsStablePtr shared[SHARED];
    _Atomic StgWord hashes[SHARED];
    _Atomic unsigned wrong;
    int rounds;
} Naming;

static void *nameOften(void *arg)
{
    Naming *n = arg;
    for (int round = 0; round < n->rounds; round++) {
        Capability *cap = rts_lock();
        for (int i = 0; i < SHARED; i++) {
            StgWord mine = rts_identityHash(cap, kept(n->shared[i])), none = 0;
            if (!atomic_compare_exchange_strong(&n->hashes[i], &none, mine) && none != mine) n->wrong++;
            if (rts_identityHash(cap, thing(cap, i)) == mine) n->wrong++;
        }
        rts_unlock(cap);
        if (round % 8 == 0) rts_performMinorGC();
        if (round % 64 == 0) hs_perform_gc();
    }
    return NULL;
}

static void testStorm(void **state)
{
    static Naming n;
    pthread_t ids[NAMERS];
    memset(&n, 0, sizeof n);
    n.rounds = (int)many(2000);
    Capability *cap = rts_lock();
    for (int i = 0; i < SHARED; i++) n.shared[i] = keep(thing(cap, i));
    rts_unlock(cap);
    for (int i = 0; i < NAMERS; i++) ids[i] = spawn(nameOften, &n);
    for (int i = 0; i < NAMERS; i++) joinThread(ids[i]);
    assert_int_equal(n.wrong, 0);
}

void osFailAfter(long n);
long osFailuresInjected(void);
CAPSTAN_IO(pollOnce)
{
    rts_poll(stack);
    return CAPSTAN_UNIT;
}
static void testNoMemory(void **state)
{
    Capability *cap = rts_lock();
    HaskellObj t = thing(cap, 1);
    osFailAfter(1);
    StgWord hash = rts_identityHash(cap, t);
    osFailAfter(0);
    assert_int_equal(hash, 0);
    rts_evalIO(&cap, &pollOnce_closure, NULL);
    assert_int_equal(rts_getSchedStatus(cap), HeapExhausted);
    rts_unlock(cap);
    assert_int_equal(callWell(), 42);
}

static void testBadInput(void **state)
{
    Capability *cap = rts_lock();
    assert_int_equal(rts_stableNameToInt(CAPSTAN_UNIT), 0);
    assert_int_equal(heardError(RTS_WRONG_KIND), 1);
    assert_false(rts_eqStableName(rts_makeStableName(cap, CAPSTAN_UNIT), CAPSTAN_UNIT));
    assert_int_equal(heardError(RTS_WRONG_KIND), 1);
    assert_ptr_equal(rts_makeStableName(cap, CAPSTAN_POISON), CAPSTAN_POISON);
    assert_int_equal(rts_identityHash(cap, CAPSTAN_POISON), 0);
    rts_unlock(cap);
}

/* Numbers are not used again after a restart either. */
static void testRestart(void **state)
{
    Capability *cap = rts_lock();
    HsInt before[200];
    for (int i = 0; i < 200; i++) before[i] = nameNumber(cap, thing(cap, i));
    rts_unlock(cap);
    hs_exit();
    assert_int_equal(setUpTwo(state), 0);
    cap = rts_lock();
    for (int i = 0; i < 200; i++) {
        HsInt now = nameNumber(cap, thing(cap, i));
        for (int j = 0; j < 200; j++) assert_int_not_equal(now, before[j]);
    }
    rts_unlock(cap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TWO(testSameObjectSameName), TWO(testImmediatesAndStatics), TWO(testManyAreDifferent), TWO(testKeepsNothing), ONE(testThunks),
        TWO(testThunks), TWO(testStorm), TWO(testNoMemory), TWO(testBadInput), TWO(testRestart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

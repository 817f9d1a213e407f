/*
 * Two threads collect, and reach the same objects, or the same slots, at the same moment: of what changes, and of everything once somebody asks for
 * identities, one copy is left.
 * Each object stands in two arrays, in different orders; in some microseconds of each collection both threads are at the same one.
 */
#include "generation.h"

#include "capability.h"
#include "gc/heap.h"

enum { MANY = 100000 }; /* more than 2 MiB, so that somebody is asked to help */

static _Atomic unsigned shared; /* collections in which both threads copied much */
static _Atomic bool countsMinor; /* the minor ones instead of the major ones */

static void lookAtBalance(void *ctx, const RtsCollection *c)
{
    if (c->major != countsMinor && c->collectors > 1 && c->max_copied_bytes + ((uint64_t)256 << 10) < c->copied_bytes) shared++;
}

static int setUpCrew(void **state)
{
    RtsConfig config = hookedConfig(2);
    config.gcDoneHook = lookAtBalance;
    config.nursery_bytes = 16 << 20;
    config.idle_collection_us = 1000000000;
    shared = 0;
    countsMinor = false;
    return setUpWith(state, &config);
}

static HaskellObj mkVariable(Capability *cap, HsInt n) { return rts_mkMutVar(cap, CAPSTAN_SMALL_INT(n)); }
static HaskellObj valueOfVariable(HaskellObj v) { return rts_readMutVar(v); }
static HaskellObj mkConstructor(Capability *cap, HsInt n) { return Fresh_new(cap, CAPSTAN_SMALL_INT(n), CAPSTAN_UNIT, CAPSTAN_UNIT); }
static HaskellObj valueOfConstructor(HaskellObj v) { return CAPSTAN_GET(Fresh, v, number); }

/* Where each number stands in the other order. */
static size_t places[MANY];
static void shuffle(void)
{
    uint64_t seed = 12;
    for (size_t i = 0; i < MANY; i++) {
        size_t other = nextRandom(&seed) % (i + 1);
        places[i] = places[other];
        places[other] = i;
    }
}

/* Nobody has to help; but on a machine that has time somebody does. */
static bool isEnough(HsInt began)
{
    HsInt took = nowMs() - began;
    if (SLOW_BUILD || shortLoad() || isEmulated()) return took > 500 && (shared >= 3 || took > 4000);
    return shared >= 200 || (shared > 0 && took > 3000) || took > 20000;
}

static void checkCopies(Stack *stack, HaskellObj (*make)(Capability *cap, HsInt n), HaskellObj (*valueOf)(HaskellObj v))
{
    HaskellObj one = rts_mkArray(stack->cap, MANY, CAPSTAN_UNIT), other = rts_mkArray(stack->cap, MANY, CAPSTAN_UNIT);
    CAPSTAN_ROOTS(stack, one, other);
    shuffle();
    for (size_t i = 0; i < MANY; i++) {
        rts_setElem(stack->cap, one, i, make(stack->cap, (HsInt)i));
        rts_setElem(stack->cap, other, places[i], rts_getElem(one, i));
    }
    size_t copies = 0, wrong = 0;
    for (HsInt began = nowMs(); copies + wrong == 0 && !isEnough(began);) {
        rts_collect(stack, true);
        for (size_t i = 0; i < MANY; i++) {
            copies += rts_getElem(other, places[i]) != rts_getElem(one, i);
            wrong += valueOf(rts_getElem(one, i)) != CAPSTAN_SMALL_INT(i);
        }
    }
    CHECK(copies == 0 && wrong == 0);
    CHECK(shared > 0 || SLOW_BUILD || shortLoad() || isEmulated());
    CAPSTAN_UNROOT(stack);
}

CASE(variables)
{
    checkCopies(stack, mkVariable, valueOfVariable);
    return CAPSTAN_UNIT;
}

CASE(constructorsWithIdentity)
{
    HaskellObj weak = rts_mkWeakNoFinalizer(stack->cap, fresh(stack->cap, 1), CAPSTAN_UNIT);
    CAPSTAN_ROOTS(stack, weak);
    CHECK(heap.identity);
    checkCopies(stack, mkConstructor, valueOfConstructor);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(rememberAll, array, done)
{
    HaskellObj young = fresh(stack->cap, 0);
    for (size_t i = 0; i < MANY; i++) rts_rememberStore(stack->cap, &((StgArray *)array)->elems[i], young);
    rts_putMVar(stack, done, CAPSTAN_UNIT);
    return CAPSTAN_UNIT;
}

/* As if threads of both capabilities had stored at the same moment: each slot stands in both sets, so both threads come by it. */
CASE(slotsRememberedTwice)
{
    HaskellObj array = rts_mkArray(stack->cap, MANY, CAPSTAN_UNIT), done = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, array, done);
    rts_collect(stack, true);
    CHECK(!rts_isYoung(array));
    countsMinor = true;
    size_t wrong = 0;
    for (HsInt began = nowMs(); wrong == 0 && !isEnough(began);) {
        for (size_t i = 0; i < MANY; i++) rts_setElem(stack->cap, array, i, CAPSTAN_UNIT);
        rts_forkOn(stack, 1 - stack->cap->no, APPLY(stack->cap, rememberAll, array, done));
        rts_takeMVar(stack, done);
        for (size_t i = 0; i < MANY; i++) rts_setElem(stack->cap, array, i, mkConstructor(stack->cap, (HsInt)i));
        rts_collect(stack, false);
        for (size_t i = 0; i < MANY; i++) wrong += valueOfConstructor(rts_getElem(array, i)) != CAPSTAN_SMALL_INT(i);
    }
    CHECK(wrong == 0);
    CHECK(shared > 0 || SLOW_BUILD || shortLoad() || isEmulated());
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* Each kind of name for an object, alone, in a runtime in which nobody has asked. */
static void mkWeakPointer(Capability *cap, HaskellObj v) { rts_mkWeakNoFinalizer(cap, v, CAPSTAN_UNIT); }
static void mkTable(Capability *cap, HaskellObj v) { rts_mkWeakTable(cap); }
static void mkName(Capability *cap, HaskellObj v) { rts_makeStableName(cap, v); }
static void mkHash(Capability *cap, HaskellObj v) { rts_identityHash(cap, v); }
static void (*const askers[])(Capability *cap, HaskellObj v) = { mkWeakPointer, mkTable, mkName, mkHash };

CAPSTAN_IO(askForIdentity, n)
{
    CHECK(!heap.identity);
    askers[rts_intValue(n)](stack->cap, fresh(stack->cap, 1));
    CHECK(heap.identity);
    return CAPSTAN_UNIT;
}

static void identityIsAskedFor(void **state)
{
    for (size_t i = 0; i < sizeof askers / sizeof *askers; i++) {
        runWith(&askForIdentity_closure, CAPSTAN_SMALL_INT(i));
        hs_exit();
        assert_int_equal(setUpCrew(state), 0);
    }
}

#define CREW(f) { #f, f, setUpCrew, disarmTest, NULL }

int main(void)
{
    const struct CMUnitTest tests[] = { CREW(variables), CREW(constructorsWithIdentity), CREW(slotsRememberedTwice),
                                        CREW(identityIsAskedFor) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

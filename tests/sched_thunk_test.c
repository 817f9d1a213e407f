/*
 * Threads that want the same value at the same time: it is computed once; anew, if who computes it is killed.
 * After GHC's T5558.
 */
#include "sched.h"

#define WANTING 12

static HsStablePtr shared; /* what the threads of a case have in common */
static HaskellObj sharedNow(void) { return (HaskellObj)deRefStablePtr(shared); }

/* ---- Wanting ---- */

static _Atomic HsInt evaluations, completions, mismatches, wanted;
static _Atomic int mayBegin;

static HaskellObj forceBody(Stack *stack, void *v) { return rts_force(stack, *(HaskellObj *)v); }

/* Forces it; puts the value, or the exception as a value, into done. */
CAPSTAN_IO(want, value, done)
{
    HaskellObj result = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, value, done, result);
    while (!mayBegin) rts_yield(stack);
    rts_try(stack, forceBody, &value, &result);
    wanted++;
    rts_putMVar(stack, done, result);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
/* From an OS thread of its own. */
CAPSTAN_IO(wantShared)
{
    HaskellObj value = sharedNow();
    while (!mayBegin) rts_poll(stack);
    value = sharedNow();
    return rts_force(stack, value);
}
static void *wantOnThread(void *unused)
{
    HaskellObj value = CAPSTAN_POISON;
    Capability *cap = rts_lock();
    rts_evalIO(&cap, &wantShared_closure, &value);
    if (rts_getSchedStatus(cap) == Success && !rts_isImmediate(value) && rts_readMutVar(value) != CAPSTAN_SMALL_INT(7)) mismatches++;
    SchedulerStatus status = rts_getSchedStatus(cap);
    rts_unlock(cap);
    return (void *)(intptr_t)status;
}

/* All of them get one and the same mutable variable, which holds 7. */
CAPSTAN_IO(wantTogether, value)
{
    HaskellObj done = rts_mkMVar(stack->cap), first = CAPSTAN_UNIT, next = CAPSTAN_UNIT;
    pthread_t callers[4];
    CAPSTAN_ROOTS(stack, value, done, first, next);
    mayBegin = 0;
    shared = getStablePtr((StgPtr)value);
    for (int i = 0; i < WANTING; i++) FORK(stack, want, value, done);
    for (int i = 0; i < 4; i++) callers[i] = spawn(wantOnThread, NULL);
    rts_threadDelay(stack, 1000);
    mayBegin = 1;
    first = rts_force(stack, value);
    CHECK(rts_readMutVar(first) == CAPSTAN_SMALL_INT(7));
    for (int i = 0; i < WANTING; i++) {
        next = rts_takeMVar(stack, done);
        CHECK(next == first);
    }
    for (int i = 0; i < 4; i++) rts_safeCall(stack, schedJoin, &callers[i]);
    freeStablePtr(shared);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_SMALL_INT(1);
}

static void workALittle(Stack *stack)
{
    for (int i = 0; i < 50; i++) {
        rts_mkMVar(stack->cap);
        rts_yield(stack);
    }
}
CAPSTAN_CAF(racedCaf)
{
    evaluations++;
    workALittle(stack);
    return rts_mkMutVar(stack->cap, CAPSTAN_SMALL_INT(7));
}
CAPSTAN_FUN(makeSeven, unused)
{
    evaluations++;
    workALittle(stack);
    return rts_mkMutVar(stack->cap, CAPSTAN_SMALL_INT(7));
}
static void *sleepShortly(void *unused)
{
    sleepMs(3);
    return NULL;
}
CAPSTAN_FUN(callForSeven, unused)
{
    evaluations++;
    rts_safeCall(stack, sleepShortly, NULL);
    return rts_mkMutVar(stack->cap, CAPSTAN_SMALL_INT(7));
}
CAPSTAN_FUN(sleepForSeven, unused)
{
    evaluations++;
    rts_threadDelay(stack, 3000);
    return rts_mkMutVar(stack->cap, CAPSTAN_SMALL_INT(7));
}
CAPSTAN_IO(raceThunk, f)
{
    return rts_tailCall(stack, &wantTogether_closure, rts_apply(stack->cap, f, CAPSTAN_UNIT), CAPSTAN_WORLD);
}

/* A runtime for each time: the constant is made anew. */
static void testRaceForCaf(void **state)
{
    HsInt rounds = many(100);
    for (HsInt i = 0; i < rounds; i++) {
        RtsConfig config = schedConfig(1 + (unsigned)i % 3);
        assert_int_equal(rts_start(&config, NULL, 0), RTS_OK);
        evaluations = mismatches = 0;
        if (i % 2 == 0) runWith(&wantTogether_closure, &racedCaf_closure);
        else runInThread(&wantTogether_closure, &racedCaf_closure);
        assert_int_equal(evaluations, 1);
        assert_int_equal(mismatches, 0);
        hs_exit();
    }
}
static void testRaceForThunk(void **state)
{
    HaskellObj makers[] = { &makeSeven_closure, &callForSeven_closure, &sleepForSeven_closure };
    HsInt rounds = many(60);
    for (HsInt i = 0; i < rounds; i++) {
        evaluations = mismatches = 0;
        if (i % 2 == 0) runWith(&raceThunk_closure, makers[i % 3]);
        else runInThread(&raceThunk_closure, makers[i % 3]);
        assert_int_equal(evaluations, 1);
        assert_int_equal(mismatches, 0);
    }
}

/* ---- The evaluator raises: everybody gets that, and nobody tries again ---- */

CAPSTAN_FUN(raiseNine, unused)
{
    evaluations++;
    workALittle(stack);
    rts_raise(stack, CAPSTAN_SMALL_INT(9));
}
CAPSTAN_IO(wantFailure)
{
    HaskellObj done = rts_mkMVar(stack->cap), value = CAPSTAN_UNIT, result = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, done, value, result);
    mayBegin = 1;
    value = rts_apply(stack->cap, &raiseNine_closure, CAPSTAN_UNIT);
    for (int i = 0; i < WANTING; i++) FORK(stack, want, value, done);
    for (int i = 0; i < WANTING; i++) CHECK(rts_takeMVar(stack, done) == CAPSTAN_SMALL_INT(9));
    CHECK(!rts_try(stack, forceBody, &value, &result) && result == CAPSTAN_SMALL_INT(9));
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, evaluations);
}
static void testFailure(void **state)
{
    for (HsInt i = many(50); i > 0; i--) {
        evaluations = 0;
        assert_int_equal(run(&wantFailure_closure), 1);
        evaluations = 0;
        assert_int_equal(runInThread(&wantFailure_closure, NULL), 1);
    }
}

/* ---- The evaluator is killed: one of those who wait takes over ---- */

static HsStablePtr gate;
static HaskellObj waitAtGate(Stack *stack)
{
    evaluations++;
    HaskellObj value = rts_takeMVar(stack, (HaskellObj)deRefStablePtr(gate));
    completions++;
    return value;
}
CAPSTAN_FUN(evaluateAtGate, unused)
{
    return waitAtGate(stack);
}
CAPSTAN_CAF(gateCaf)
{
    return waitAtGate(stack);
}

/* The one of them that waits at the gate; the others wait for it. */
static HsInt findEvaluator(Stack *stack, HaskellObj *ids, HsInt n)
{
    for (int tries = 0; tries < 20000; tries++) {
        for (HsInt i = 0; i < n; i++)
            if (rts_threadStatus(rts_getElem(*ids, (size_t)i)) == ThreadBlockedOnMVar && evaluations > wanted) return i;
        rts_threadDelay(stack, 200);
    }
    return -1;
}

CAPSTAN_IO(killEvaluators, value)
{
    HaskellObj done = rts_mkMVar(stack->cap), ids = rts_mkArray(stack->cap, WANTING, CAPSTAN_UNIT), id = CAPSTAN_UNIT, box = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, value, done, ids, id, box);
    mayBegin = 1;
    evaluations = completions = wanted = 0;
    box = rts_mkMVar(stack->cap);
    gate = getStablePtr((StgPtr)box);
    for (int i = 0; i < WANTING; i++) {
        id = FORK(stack, want, value, done);
        rts_setElem(stack->cap, ids, (size_t)i, id);
    }
    for (HsInt killed = 1; killed < WANTING; killed++) {
        HsInt victim = findEvaluator(stack, &ids, WANTING);
        CHECK(victim >= 0);
        if (victim < 0) break;
        rts_killThread(stack, rts_getElem(ids, (size_t)victim));
        CHECK(rts_takeMVar(stack, done) == &capstan_ThreadKilled_closure);
        CHECK(wanted == killed);
    }
    rts_putMVar(stack, box, CAPSTAN_SMALL_INT(5));
    CHECK(rts_takeMVar(stack, done) == CAPSTAN_SMALL_INT(5));
    CHECK(rts_force(stack, value) == CAPSTAN_SMALL_INT(5));
    CHECK(completions == 1);
    freeStablePtr(gate);
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, evaluations);
}
CAPSTAN_IO(killThunkEvaluators)
{
    return rts_tailCall(stack, &killEvaluators_closure, rts_apply(stack->cap, &evaluateAtGate_closure, CAPSTAN_UNIT), CAPSTAN_WORLD);
}
static void testKilledEvaluator(void **state)
{
    for (int i = 0; i < 3; i++) {
        assert_int_equal(run(&killThunkEvaluators_closure), WANTING);
        assert_int_equal(runInThread(&killThunkEvaluators_closure, NULL), WANTING);
    }
    assert_int_equal(runWith(&killEvaluators_closure, &gateCaf_closure), WANTING);
}

/* ---- A storm: thunks that need each other, threads that want them all, and somebody who kills ---- */

#define LINKS 40
static _Atomic HsInt linkDone[LINKS];

/* The value of a link is that of the one before, plus 1; it takes its time. */
CAPSTAN_FUN(evaluateLink, chain, no)
{
    size_t i = (size_t)rts_intValue(no);
    HsInt before = 0;
    CAPSTAN_ROOTS(stack, chain);
    for (int j = 0; j < 3; j++) rts_yield(stack);
    if (i > 0) before = rts_intValue(rts_force(stack, rts_getElem(chain, i - 1)));
    for (int j = 0; j < 20; j++) rts_poll(stack);
    CAPSTAN_UNROOT(stack);
    linkDone[i]++;
    return rts_int(stack, before + 1);
}
static HaskellObj makeChain(Stack *stack)
{
    HaskellObj chain = rts_mkArray(stack->cap, LINKS, CAPSTAN_UNIT);
    for (size_t i = 0; i < LINKS; i++) {
        linkDone[i] = 0;
        rts_setElem(stack->cap, chain, i, APPLY(stack->cap, evaluateLink, chain, rts_int(stack, (HsInt)i)));
    }
    return chain;
}
CAPSTAN_IO(wantLinks, chain, first)
{
    size_t begin = (size_t)rts_intValue(first);
    CAPSTAN_ROOTS(stack, chain);
    for (size_t j = 0; j < LINKS; j++) {
        size_t i = (begin + j * 7) % LINKS;
        CHECK(rts_intValue(rts_force(stack, rts_getElem(chain, i))) == (HsInt)i + 1);
    }
    CAPSTAN_UNROOT(stack);
    wanted++;
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(stormOverChain, seeds)
{
    uint64_t seed = (uint64_t)rts_intValue(seeds);
    HaskellObj chain = CAPSTAN_UNIT, ids = rts_mkArray(stack->cap, WANTING, CAPSTAN_UNIT), id = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, chain, ids, id);
    chain = makeChain(stack);
    wanted = 0;
    for (int i = 0; i < WANTING; i++) {
        id = FORK(stack, wantLinks, chain, rts_int(stack, nextRandom(&seed) % LINKS));
        rts_setElem(stack->cap, ids, (size_t)i, id);
    }
    for (int i = 0; i < WANTING - 2; i++) {
        for (uint32_t j = nextRandom(&seed) % 8; j > 0; j--) rts_yield(stack);
        rts_killThread(stack, rts_getElem(ids, (size_t)i));
    }
    for (size_t i = 0; i < WANTING; i++) {
        id = rts_getElem(ids, i);
        awaitEnd(stack, &id);
    }
    CHECK(wanted >= 2);
    for (size_t i = 0; i < LINKS; i++) CHECK(linkDone[i] == 1);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_SMALL_INT(1);
}
static void testStorm(void **state)
{
    for (HsInt i = many(100); i > 0; i--) {
        assert_int_equal(runWith(&stormOverChain_closure, CAPSTAN_SMALL_INT(i)), 1);
        assert_int_equal(runInThread(&stormOverChain_closure, CAPSTAN_SMALL_INT(1000 + i)), 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        { "testRaceForCaf", testRaceForCaf, armTest, disarmTest, NULL },
        ALL(testRaceForThunk), FOUR(testRaceForThunk), ALL(testFailure), ALL(testKilledEvaluator), FOUR(testKilledEvaluator), ALL(testStorm), FOUR(testStorm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

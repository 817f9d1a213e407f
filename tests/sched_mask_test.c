/*
 * Masking states: they nest, are put back on every way out, are inherited by new threads, and let exceptions in when they should.
 * After GHC's mask001, mask002, conc069 and conc070.
 */
#include "sched.h"

#define MINE CAPSTAN_SMALL_INT(77)

static HaskellObj stateNow(Stack *stack, void *unused) { return rts_int(stack, rts_getMaskingState(stack)); }
static HaskellObj raiseNow(Stack *stack, void *unused) { rts_raise(stack, MINE); }

/* ---- Nesting ---- */

typedef struct {
    int depth;
    RtsMaskingState states[8];
    HaskellObj (*inmost)(Stack *stack, void *arg);
} Nest;

static HaskellObj nestOn(Stack *stack, void *arg)
{
    Nest *nest = arg;
    if (nest->depth == 0) return nest->inmost(stack, NULL);
    RtsMaskingState before = rts_getMaskingState(stack), state = nest->states[--nest->depth];
    HaskellObj result = rts_withMask(stack, state, nestOn, nest);
    CHECK(rts_getMaskingState(stack) == before);
    return result;
}

/* Every sequence of four states. */
CAPSTAN_IO(nestAll)
{
    HaskellObj result;
    for (int code = 0; code < 81; code++) {
        Nest nest = { 0, { 0 }, stateNow }, raising = { 0, { 0 }, raiseNow };
        for (int c = code; nest.depth < 4; c /= 3) nest.states[nest.depth++] = (RtsMaskingState)(c % 3);
        raising = nest;
        raising.inmost = raiseNow;
        CHECK(rts_intValue(nestOn(stack, &nest)) == (HsInt)nest.states[0]);
        CHECK(rts_getMaskingState(stack) == RtsUnmasked);
        CHECK(!rts_try(stack, nestOn, &raising, &result) && result == MINE);
        CHECK(rts_getMaskingState(stack) == RtsUnmasked);
    }
    return CAPSTAN_SMALL_INT(1);
}
static void testNesting(void **state)
{
    assert_int_equal(run(&nestAll_closure), 1);
    assert_int_equal(runInThread(&nestAll_closure, NULL), 1);
}

/* A try inside a mask: the state inside is that of where the try stands, and so is the state after it. */
static HaskellObj raiseUnmasked(Stack *stack, void *unused) { return rts_withMask(stack, RtsUnmasked, raiseNow, NULL); }
static HaskellObj tryInside(Stack *stack, void *unused)
{
    HaskellObj result;
    RtsMaskingState state = rts_getMaskingState(stack);
    CHECK(rts_try(stack, stateNow, NULL, &result) && rts_intValue(result) == (HsInt)state);
    CHECK(!rts_try(stack, raiseUnmasked, NULL, &result) && result == MINE);
    CHECK(rts_getMaskingState(stack) == state);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(tryInsideMasks)
{
    for (int state = 0; state < 3; state++) rts_withMask(stack, (RtsMaskingState)state, tryInside, NULL);
    return CAPSTAN_SMALL_INT(1);
}
static void testTry(void **state)
{
    assert_int_equal(run(&tryInsideMasks_closure), 1);
    assert_int_equal(runInThread(&tryInsideMasks_closure, NULL), 1);
}

/* ---- What inherits, and what does not ---- */

CAPSTAN_IO(tellState, box)
{
    CAPSTAN_ROOTS(stack, box);
    rts_yield(stack);
    rts_putMVar(stack, box, rts_int(stack, rts_getMaskingState(stack)));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
static HaskellObj takeUninterruptibly(Stack *stack, void *box)
{
    return rts_takeMVar(stack, *(HaskellObj *)box);
}
static HaskellObj forkAndAsk(Stack *stack, void *unused)
{
    HaskellObj box = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, box);
    FORK(stack, tellState, box);
    HsInt state = rts_intValue(rts_withMask(stack, RtsMaskedUninterruptible, takeUninterruptibly, &box));
    CHECK(state == (HsInt)rts_getMaskingState(stack));
    rts_forkOn(stack, 1, APPLY(stack->cap, tellState, box));
    HaskellObj second = rts_takeMVar(stack, box);
    CHECK(rts_intValue(second) == state);
    CAPSTAN_UNROOT(stack);
    return second;
}
CAPSTAN_IO(forkMasked)
{
    for (int state = 0; state < 3; state++)
        CHECK(rts_intValue(rts_withMask(stack, (RtsMaskingState)state, forkAndAsk, NULL)) == state);
    return CAPSTAN_SMALL_INT(1);
}
static void testForkInherits(void **state)
{
    assert_int_equal(run(&forkMasked_closure), 1);
    assert_int_equal(runInThread(&forkMasked_closure, NULL), 1);
}

/* A record that was used by a masked thread is not masked for the next. */
CAPSTAN_IO(endMasked)
{
    return CAPSTAN_UNIT;
}
static HaskellObj forkEnding(Stack *stack, void *unused)
{
    for (int i = 0; i < 20; i++) FORK(stack, endMasked);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(forkAfterMasked)
{
    rts_withMask(stack, RtsMaskedUninterruptible, forkEnding, NULL);
    for (int i = 0; i < 3; i++) rts_yield(stack);
    rts_threadDelay(stack, 1000);
    for (int i = 0; i < 20; i++) CHECK(rts_intValue(forkAndAsk(stack, NULL)) == RtsUnmasked);
    return CAPSTAN_SMALL_INT(1);
}
static void testRecordsAreClean(void **state)
{
    assert_int_equal(run(&forkAfterMasked_closure), 1);
    assert_int_equal(runInThread(&forkAfterMasked_closure, NULL), 1);
}

/* ---- In-calls: unmasked, also below a masked thread; those by rts_evalStableIO masked ---- */

CAPSTAN_IO(myState)
{
    return rts_int(stack, rts_getMaskingState(stack));
}
static _Atomic HsInt stateInside;
static void *callMyState(void *unused)
{
    HsInt result = -1;
    runStatus(&myState_closure, NULL, &result, NULL, 0);
    stateInside = result;
    return NULL;
}
static HaskellObj callInMasked(Stack *stack, void *unused)
{
    RtsMaskingState before = rts_getMaskingState(stack);
    stateInside = -1;
    rts_safeCall(stack, callMyState, NULL);
    CHECK(stateInside == RtsUnmasked);
    CHECK(rts_getMaskingState(stack) == before);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(callInFromMasked)
{
    for (int state = 0; state < 3; state++) rts_withMask(stack, (RtsMaskingState)state, callInMasked, NULL);
    return CAPSTAN_SMALL_INT(1);
}

static HsInt evalStable(HaskellObj io)
{
    HsStablePtr result = NULL;
    Capability *cap = rts_lock();
    HsStablePtr sp = getStablePtr((StgPtr)io);
    rts_evalStableIO(&cap, sp, &result);
    HsInt value = result == NULL ? -1 : rts_getInt((HaskellObj)deRefStablePtr(result));
    freeStablePtr(result);
    freeStablePtr(sp);
    rts_unlock(cap);
    return value;
}
static void testInCalls(void **state)
{
    assert_int_equal(run(&myState_closure), RtsUnmasked);
    assert_int_equal(run(&callInFromMasked_closure), 1);
    assert_int_equal(runInThread(&callInFromMasked_closure, NULL), 1);
    assert_int_equal(evalStable(&myState_closure), RtsMaskedInterruptible);
    assert_int_equal(run(&myState_closure), RtsUnmasked);
}

/* An in-call that ended with an exception out of a mask leaves none behind. */
static HaskellObj raiseDeep(Stack *stack, void *unused) { return rts_withMask(stack, RtsMaskedUninterruptible, raiseNow, NULL); }
CAPSTAN_IO(dieMasked)
{
    return rts_withMask(stack, RtsMaskedInterruptible, raiseDeep, NULL);
}
static void testDieMasked(void **state)
{
    for (int i = 0; i < 3; i++) {
        assert_int_equal(runStatus(&dieMasked_closure, NULL, NULL, NULL, 0), Killed);
        assert_int_equal(run(&myState_closure), RtsUnmasked);
    }
}

/* ---- What is let in, and when ---- */

static _Atomic int step;

CAPSTAN_IO(throwMine, id)
{
    rts_throwTo(stack, id, MINE);
    step++;
    return CAPSTAN_UNIT;
}
static void forkThrower(Stack *stack, HaskellObj *thrower)
{
    *thrower = FORK(stack, throwMine, rts_myThreadId(stack));
    CHECK(awaitStatus(stack, thrower, ThreadBlockedOnThrowTo));
}

static HaskellObj mustNotRun(Stack *stack, void *unused)
{
    CHECK(!"the pending exception comes first");
    return CAPSTAN_UNIT;
}
static HaskellObj unmaskNow(Stack *stack, void *unused) { return rts_withMask(stack, RtsUnmasked, mustNotRun, NULL); }
static HaskellObj allowNow(Stack *stack, void *unused)
{
    rts_allowInterrupt(stack);
    CHECK(!"nothing was let in");
    return CAPSTAN_UNIT;
}
static HaskellObj blockNow(Stack *stack, void *unused) { return rts_takeMVar(stack, rts_mkMVar(stack->cap)); }
static HaskellObj delayNow(Stack *stack, void *unused)
{
    rts_threadDelay(stack, INT64_MAX);
    return CAPSTAN_UNIT;
}

/* A thrower waits while we poll, take what is there, yield and allow nothing; then way lets it in. */
typedef HaskellObj Body(Stack *stack, void *arg);
typedef struct {
    Body *way;
    RtsMaskingState during;
} Entry;

static HaskellObj waitUntouched(Stack *stack, void *arg)
{
    HaskellObj box = rts_mkMVar(stack->cap), thrower = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, box, thrower);
    *(HaskellObj **)arg = NULL;
    forkThrower(stack, &thrower);
    for (int i = 0; i < 100; i++) {
        rts_poll(stack);
        rts_yield(stack);
        rts_putMVar(stack, box, rts_int(stack, i));
        CHECK(rts_intValue(rts_takeMVar(stack, box)) == i);
    }
    CHECK(rts_threadStatus(thrower) == ThreadBlockedOnThrowTo);
    CAPSTAN_UNROOT(stack);
    return thrower;
}

static HaskellObj letIn(Stack *stack, void *arg)
{
    Entry *entry = arg;
    HaskellObj result = CAPSTAN_UNIT, thrower = CAPSTAN_UNIT, *unused;
    CAPSTAN_ROOTS(stack, result, thrower);
    /* Not while it waits for the thrower itself: that is interruptible. */
    thrower = rts_withMask(stack, RtsMaskedUninterruptible, waitUntouched, &unused);
    CHECK(!rts_try(stack, entry->way, NULL, &result) && result == MINE);
    awaitEnd(stack, &thrower);
    CHECK(rts_getMaskingState(stack) == entry->during);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(letInEach)
{
    Body *const ways[] = { unmaskNow, allowNow, blockNow, delayNow };
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        Entry entry = { ways[i], RtsMaskedInterruptible };
        rts_withMask(stack, RtsMaskedInterruptible, letIn, &entry);
    }
    Entry entry = { unmaskNow, RtsMaskedUninterruptible };
    rts_withMask(stack, RtsMaskedUninterruptible, letIn, &entry);
    return rts_int(stack, step);
}
static void testLetIn(void **state)
{
    step = 0;
    assert_int_equal(run(&letInEach_closure), 5);
    step = 0;
    assert_int_equal(runInThread(&letInEach_closure, NULL), 5);
}

/* Leaving the last mask is where a pending exception arrives. */
static HaskellObj forkThrowerMasked(Stack *stack, void *thrower)
{
    forkThrower(stack, thrower);
    return CAPSTAN_UNIT;
}
static HaskellObj leaveMask(Stack *stack, void *thrower)
{
    rts_withMask(stack, RtsMaskedUninterruptible, forkThrowerMasked, thrower);
    CHECK(!"the exception was to arrive at the end of the mask");
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(leaveMasked)
{
    HaskellObj result = CAPSTAN_UNIT, thrower = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, result, thrower);
    CHECK(!rts_try(stack, leaveMask, &thrower, &result) && result == MINE);
    awaitEnd(stack, &thrower);
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, step);
}
static void testLeavingMask(void **state)
{
    step = 0;
    assert_int_equal(run(&leaveMasked_closure), 1);
    assert_int_equal(runInThread(&leaveMasked_closure, NULL), 2);
}

/* Uninterruptible: not even a wait lets it in; an operation that need not wait never does. */
static HaskellObj sleepUninterruptibly(Stack *stack, void *arg)
{
    HaskellObj thrower = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, thrower);
    forkThrower(stack, &thrower);
    uint64_t began = nowMs();
    rts_threadDelay(stack, 20000);
    rts_allowInterrupt(stack);
    CHECK(nowMs() - began >= 20);
    CHECK(rts_threadStatus(thrower) == ThreadBlockedOnThrowTo);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
static HaskellObj sleepSo(Stack *stack, void *unused)
{
    return rts_withMask(stack, RtsMaskedUninterruptible, sleepUninterruptibly, NULL);
}
CAPSTAN_IO(sleepThrough)
{
    HaskellObj result;
    CHECK(!rts_try(stack, sleepSo, NULL, &result) && result == MINE);
    return CAPSTAN_SMALL_INT(1);
}
static void testUninterruptible(void **state)
{
    assert_int_equal(run(&sleepThrough_closure), 1);
    assert_int_equal(runInThread(&sleepThrough_closure, NULL), 1);
}

/* ---- Handlers of the managed catch ---- */

CAPSTAN_IO(raiseIt)
{
    rts_raise(stack, MINE);
}
CAPSTAN_IO(tellInHandler, exception)
{
    CHECK(exception == MINE);
    return rts_int(stack, rts_getMaskingState(stack));
}
static HaskellObj catchIt(Stack *stack, void *unused)
{
    return rts_runIO(stack, rts_apply(stack->cap, rts_apply(stack->cap, &capstan_catch_closure, &raiseIt_closure), &tellInHandler_closure));
}
/* A handler runs in the state of its catch, or stricter. */
CAPSTAN_IO(catchEverywhere)
{
    for (int state = 0; state < 3; state++) {
        HsInt inside = rts_intValue(rts_withMask(stack, (RtsMaskingState)state, catchIt, NULL));
        CHECK(inside >= state);
        CHECK(rts_getMaskingState(stack) == RtsUnmasked);
    }
    return CAPSTAN_SMALL_INT(1);
}
static void testHandlers(void **state)
{
    assert_int_equal(run(&catchEverywhere_closure), 1);
    assert_int_equal(runInThread(&catchEverywhere_closure, NULL), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ALL(testNesting), ALL(testTry), ALL(testForkInherits), ALL(testRecordsAreClean), ALL(testInCalls), ALL(testDieMasked),
        ALL(testLetIn), ALL(testLeavingMask), ALL(testUninterruptible), ALL(testHandlers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * Threads with an OS thread of their own, and masks: who inherits what.  After GHC's conc069 and conc070.
 */
#include "sched.h"

/* What a thread says of itself: its masking state, and whether it is bound. */
static HsInt aboutMe(Stack *stack) { return (HsInt)rts_getMaskingState(stack) * 10 + rts_isCurrentThreadBound(stack); }
enum { FREE = 0, BOUND = 1, MASKED = 10, DEAF = 20 };

CAPSTAN_IO(tellMe, box)
{
    CAPSTAN_ROOTS(stack, box);
    rts_yield(stack);
    rts_putMVar(stack, box, rts_int(stack, aboutMe(stack)));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(aboutMyself)
{
    rts_yield(stack);
    return rts_int(stack, aboutMe(stack));
}

/* ---- conc069: forkIO and forkOS inherit the mask; so does runInBoundThread ---- */

static HaskellObj forkOf(Stack *stack, HaskellObj io, bool os) { return os ? rts_forkOS(stack, io) : rts_fork(stack, io); }

static HaskellObj takeBox(Stack *stack, void *box) { return rts_takeMVar(stack, *(HaskellObj *)box); }

static HaskellObj askFork(Stack *stack, void *os)
{
    HaskellObj box = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, box);
    forkOf(stack, APPLY(stack->cap, tellMe, box), *(bool *)os);
    HaskellObj told = rts_withMask(stack, RtsMaskedUninterruptible, takeBox, &box);
    CAPSTAN_UNROOT(stack);
    return told;
}
static HaskellObj askRunInBound(Stack *stack, void *unused)
{
    HsInt before = aboutMe(stack);
    HaskellObj told = rts_runInBoundThread(stack, &aboutMyself_closure);
    CHECK(aboutMe(stack) == before);
    return told;
}

CAPSTAN_IO(askAll)
{
    bool os[] = { false, true };
    for (int state = 0; state < 3; state++) {
        CHECK(rts_intValue(rts_withMask(stack, (RtsMaskingState)state, askFork, &os[0])) == 10 * state + FREE);
        CHECK(rts_intValue(rts_withMask(stack, (RtsMaskingState)state, askFork, &os[1])) == 10 * state + BOUND);
        CHECK(rts_intValue(rts_withMask(stack, (RtsMaskingState)state, askRunInBound, NULL)) == 10 * state + BOUND);
    }
    return CAPSTAN_SMALL_INT(1);
}
static void testInherit(void **state)
{
    assert_int_equal(run(&askAll_closure), 1);
    assert_int_equal(runInThread(&askAll_closure, NULL), 1);
}
/* And threads made by bound ones that are masked. */
CAPSTAN_IO(askFromOS, box)
{
    CAPSTAN_ROOTS(stack, box);
    HaskellObj told = rts_runIO(stack, &askAll_closure);
    rts_putMVar(stack, box, told);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(askInOS)
{
    HaskellObj box = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, box);
    for (int i = 0; i < 5; i++) {
        rts_forkOS(stack, APPLY(stack->cap, askFromOS, box));
        CHECK(rts_takeMVar(stack, box) == CAPSTAN_SMALL_INT(1));
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_SMALL_INT(1);
}
static void testInheritFromOS(void **state)
{
    assert_int_equal(run(&askInOS_closure), 1);
    assert_int_equal(runInThread(&askInOS_closure, NULL), 1);
}

/* ---- conc070: what runInBoundThread gives back: results, exceptions, and what is thrown at who waits ---- */

CAPSTAN_IO(raiseEight)
{
    rts_yield(stack);
    rts_raise(stack, CAPSTAN_SMALL_INT(8));
}
static HaskellObj runRaising(Stack *stack, void *unused) { return rts_runInBoundThread(stack, &raiseEight_closure); }
CAPSTAN_IO(nestBound, n)
{
    HsInt depth = rts_intValue(n);
    if (depth == 0) return CAPSTAN_SMALL_INT(0);
    CHECK(rts_isCurrentThreadBound(stack));
    HaskellObj below = rts_runInBoundThread(stack, APPLY(stack->cap, nestBound, rts_int(stack, depth - 1)));
    return rts_int(stack, rts_intValue(below) + 1);
}
CAPSTAN_IO(runBoundAll)
{
    HaskellObj result = CAPSTAN_UNIT;
    bool bound = rts_isCurrentThreadBound(stack);
    for (int i = 0; i < 20; i++) {
        CHECK(rts_intValue(rts_runInBoundThread(stack, &aboutMyself_closure)) == BOUND);
        CHECK(!rts_try(stack, runRaising, NULL, &result) && result == CAPSTAN_SMALL_INT(8));
        CHECK(rts_isCurrentThreadBound(stack) == bound);
    }
    CHECK(rts_intValue(rts_runInBoundThread(stack, APPLY(stack->cap, nestBound, CAPSTAN_SMALL_INT(5)))) == 5);
    return CAPSTAN_SMALL_INT(1);
}
static void testRunInBound(void **state)
{
    assert_int_equal(run(&runBoundAll_closure), 1);
    assert_int_equal(runInThread(&runBoundAll_closure, NULL), 1);
}

/* ---- One and the same OS thread ---- */

static _Thread_local int mine;
static void *countMine(void *unused) { return (void *)(intptr_t)++mine; }
CAPSTAN_IO(countUp, n, box)
{
    HsInt count = rts_intValue(n);
    CAPSTAN_ROOTS(stack, box);
    for (HsInt i = 1; i <= count; i++) {
        CHECK((intptr_t)rts_safeCall(stack, countMine, NULL) == i);
        rts_yield(stack);
        if (i % 8 == 0) rts_threadDelay(stack, 100);
    }
    rts_putMVar(stack, box, CAPSTAN_SMALL_INT(1));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(countInOS)
{
    HaskellObj box = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, box);
    for (int i = 0; i < 6; i++) rts_forkOS(stack, APPLY(stack->cap, countUp, CAPSTAN_SMALL_INT(50), box));
    for (int i = 0; i < 6; i++) CHECK(rts_takeMVar(stack, box) == CAPSTAN_SMALL_INT(1));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_SMALL_INT(1);
}
static void testSameThread(void **state)
{
    assert_int_equal(run(&countInOS_closure), 1);
    assert_int_equal(runInThread(&countInOS_closure, NULL), 1);
}

/* ---- Bound and unbound ones hand a value round in a ring ---- */

enum { RING = 6 };
CAPSTAN_IO(handOn, from, to, n, done)
{
    HsInt count = rts_intValue(n);
    CAPSTAN_ROOTS(stack, from, to, done);
    for (HsInt i = 0; i < count; i++) {
        HaskellObj v = rts_takeMVar(stack, from);
        rts_putMVar(stack, to, rts_int(stack, rts_intValue(v) + 1));
    }
    rts_putMVar(stack, done, CAPSTAN_UNIT);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(ring, n)
{
    HaskellObj boxes = rts_mkArray(stack->cap, RING + 1, CAPSTAN_UNIT), done = rts_mkMVar(stack->cap), value = CAPSTAN_UNIT;
    HsInt count = rts_intValue(n);
    CAPSTAN_ROOTS(stack, boxes, done, value);
    for (size_t i = 0; i <= RING; i++) rts_setElem(stack->cap, boxes, i, rts_mkMVar(stack->cap));
    for (size_t i = 0; i < RING; i++)
        forkOf(stack, APPLY(stack->cap, handOn, rts_getElem(boxes, i), rts_getElem(boxes, i + 1), rts_int(stack, count), done), i % 2);
    value = CAPSTAN_SMALL_INT(0);
    for (HsInt i = 0; i < count; i++) {
        rts_putMVar(stack, rts_getElem(boxes, 0), value);
        value = rts_takeMVar(stack, rts_getElem(boxes, RING));
    }
    for (int i = 0; i < RING; i++) rts_takeMVar(stack, done);
    CAPSTAN_UNROOT(stack);
    return value;
}
static void testRing(void **state)
{
    HsInt n = many(1000);
    assert_int_equal(runWith(&ring_closure, CAPSTAN_SMALL_INT(n)), n * RING);
    assert_int_equal(runInThread(&ring_closure, CAPSTAN_SMALL_INT(n)), n * RING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ALL(testInherit), ALL(testInheritFromOS), ALL(testRunInBound), ALL(testSameThread), ALL(testRing), FOUR(testRing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

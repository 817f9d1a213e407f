/*
 * What a thread may allocate: counted for each by itself, raised at the limit, with room for the handler.
 * After GHC's allocLimit1 to allocLimit4.
 */
#include "sched.h"

#define LIMIT ((HsInt64)1 << 20)
#define GRACE ((HsInt64)100 << 10)

/* Allocates about so many bytes, in small pieces. */
static void allocate(Stack *stack, HsInt64 bytes)
{
    const HsInt64 piece = SLOW_BUILD ? 1024 : 64;
    for (HsInt64 done = 0; done < bytes; done += piece) {
        rts_mkBytes(stack->cap, NULL, (size_t)piece - 2 * sizeof(StgWord));
        rts_poll(stack);
    }
}
static HaskellObj allocateForEver(Stack *stack, void *unused)
{
    for (;;) allocate(stack, 1 << 16);
    return CAPSTAN_UNIT;
}
static HaskellObj allocateSome(Stack *stack, void *bytes)
{
    allocate(stack, *(HsInt64 *)bytes);
    return CAPSTAN_UNIT;
}

/* ---- allocLimit1: the limit raises; the handler may go on; a second time after it, if it allocates beyond its grace ---- */

CAPSTAN_IO(hitLimit)
{
    HaskellObj result = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, result);
    rts_setAllocationCounter(stack, LIMIT);
    rts_enableAllocationLimit(stack, true);
    CHECK(!rts_try(stack, allocateForEver, NULL, &result) && result == &capstan_AllocationLimitExceeded_closure);
    CHECK(rts_getAllocationCounter(stack) <= GRACE); /* what is left for handlers */
    /* Half of the grace is free. */
    HsInt64 half = GRACE / 2;
    CHECK(rts_try(stack, allocateSome, &half, &result));
    CHECK(!rts_try(stack, allocateForEver, NULL, &result) && result == &capstan_AllocationLimitExceeded_closure);
    /* A new counter is a new life. */
    rts_setAllocationCounter(stack, LIMIT);
    half = LIMIT / 2;
    CHECK(rts_try(stack, allocateSome, &half, &result));
    CHECK(rts_getAllocationCounter(stack) < LIMIT && rts_getAllocationCounter(stack) > 0);
    rts_enableAllocationLimit(stack, false);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_SMALL_INT(1);
}
static void testHit(void **state)
{
    assert_int_equal(run(&hitLimit_closure), 1);
    assert_int_equal(runInThread(&hitLimit_closure, NULL), 1);
}

/* ---- allocLimit2: without a limit the counter only counts; what others allocate is theirs ---- */

CAPSTAN_IO(allocateAndPut, box)
{
    CAPSTAN_ROOTS(stack, box);
    allocate(stack, 4 * LIMIT);
    rts_putMVar(stack, box, CAPSTAN_UNIT);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(countOnly)
{
    HaskellObj box = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, box);
    rts_enableAllocationLimit(stack, false);
    rts_setAllocationCounter(stack, LIMIT);
    allocate(stack, 3 * LIMIT);
    HsInt64 left = rts_getAllocationCounter(stack);
    CHECK(left < -LIMIT && left > -4 * LIMIT);
    rts_setAllocationCounter(stack, LIMIT);
    rts_enableAllocationLimit(stack, true);
    for (int i = 0; i < 3; i++) FORK(stack, allocateAndPut, box);
    for (int i = 0; i < 3; i++) rts_takeMVar(stack, box);
    left = rts_getAllocationCounter(stack);
    CHECK(left > LIMIT / 2 && left <= LIMIT);
    rts_enableAllocationLimit(stack, false);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_SMALL_INT(1);
}
static void testCountOnly(void **state)
{
    assert_int_equal(run(&countOnly_closure), 1);
    assert_int_equal(runInThread(&countOnly_closure, NULL), 1);
}

/* ---- allocLimit3: masked it waits; unmasked it comes ---- */

static HaskellObj allocateMasked(Stack *stack, void *bytes)
{
    allocate(stack, *(HsInt64 *)bytes);
    return CAPSTAN_UNIT;
}
static HaskellObj beyondMasked(Stack *stack, void *bytes)
{
    rts_withMask(stack, RtsMaskedInterruptible, allocateMasked, bytes);
    rts_poll(stack);
    CHECK(!"the limit was to be felt at the end of the mask");
    return CAPSTAN_UNIT;
}
/* Or not at all, if there is no limit any more by then. */
static HaskellObj beyondAndDisabled(Stack *stack, void *bytes)
{
    allocate(stack, *(HsInt64 *)bytes);
    CHECK(rts_getAllocationCounter(stack) < GRACE);
    rts_enableAllocationLimit(stack, false);
    return CAPSTAN_UNIT;
}
static HaskellObj disableMasked(Stack *stack, void *bytes)
{
    rts_withMask(stack, RtsMaskedInterruptible, beyondAndDisabled, bytes);
    rts_poll(stack);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(limitMasked)
{
    HaskellObj result = CAPSTAN_UNIT;
    HsInt64 twice = 2 * LIMIT;
    CAPSTAN_ROOTS(stack, result);
    rts_setAllocationCounter(stack, LIMIT);
    rts_enableAllocationLimit(stack, true);
    CHECK(!rts_try(stack, beyondMasked, &twice, &result) && result == &capstan_AllocationLimitExceeded_closure);
    rts_setAllocationCounter(stack, LIMIT);
    CHECK(rts_try(stack, disableMasked, &twice, &result));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_SMALL_INT(1);
}
static void testMasked(void **state)
{
    assert_int_equal(run(&limitMasked_closure), 1);
    assert_int_equal(runInThread(&limitMasked_closure, NULL), 1);
}

/* ---- allocLimit4: several threads, each with its own; uncaught it ends the thread, and an in-call with a status ---- */

CAPSTAN_IO(allocateWithin, limit, box)
{
    HaskellObj result = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, box, result);
    rts_setAllocationCounter(stack, rts_intValue(limit));
    rts_enableAllocationLimit(stack, true);
    bool ok = rts_try(stack, allocateForEver, NULL, &result);
    rts_enableAllocationLimit(stack, false);
    rts_putMVar(stack, box, rts_int(stack, !ok && result == &capstan_AllocationLimitExceeded_closure));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(severalLimits, n)
{
    HsInt count = rts_intValue(n), hits = 0;
    HaskellObj box = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, box);
    for (HsInt i = 0; i < count; i++) FORK(stack, allocateWithin, rts_int(stack, LIMIT / 4 * (i % 5)), box);
    for (HsInt i = 0; i < count; i++) hits += rts_intValue(rts_takeMVar(stack, box));
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, hits);
}
CAPSTAN_IO(exceedUncaught)
{
    rts_setAllocationCounter(stack, LIMIT / 4);
    rts_enableAllocationLimit(stack, true);
    allocateForEver(stack, NULL);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(allocateFreely)
{
    allocate(stack, 2 * LIMIT);
    return CAPSTAN_SMALL_INT(1);
}
static void testSeveral(void **state)
{
    HsInt n = SLOW_BUILD ? 4 : 20;
    assert_int_equal(runWith(&severalLimits_closure, CAPSTAN_SMALL_INT(n)), n);
    assert_int_equal(runInThread(&severalLimits_closure, CAPSTAN_SMALL_INT(n)), n);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(runStatus(&exceedUncaught_closure, NULL, NULL, NULL, 0), LimitExceeded);
        assert_int_equal(run(&allocateFreely_closure), 1); /* the next in-call has no limit */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ALL(testHit), ALL(testCountOnly), ALL(testMasked), ALL(testSeveral), FOUR(testSeveral),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * Threads and MVars that are old, and refer to what is young: values that are put, taken and handed over, roots on the stacks of parked threads,
 * exceptions that are thrown at them, threads that only their ThreadId knows, or that have not begun.
 */
#include "generation.h"

/* ---- MVars ---- */

CASE(mvarFilled)
{
    HaskellObj mvar = rts_mkMVar(stack->cap), v;
    CAPSTAN_ROOTS(stack, mvar);
    makeOld(stack);
    for (HsInt n = 0; n < 4; n++) {
        if (n % 2 == 0) rts_putMVar(stack, mvar, fresh(stack->cap, n));
        else CHECK(rts_tryPutMVar(stack, mvar, fresh(stack->cap, n)));
        CHECK_THROUGH(stack, rts_tryReadMVar(stack, mvar, &v) && isFresh(v, n));
        CHECK(isFresh(rts_takeMVar(stack, mvar), n));
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(putFresh, mvar, value)
{
    rts_putMVar(stack, mvar, value);
    return CAPSTAN_UNIT;
}

/* Parked putters: their values wait with them, and come into the old MVar one after the other. */
CASE(puttersAdvance)
{
    enum { PUTTERS = 6 };
    HaskellObj mvar = rts_mkMVar(stack->cap), v, id = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, mvar, id);
    rts_putMVar(stack, mvar, fresh(stack->cap, 0));
    makeOld(stack);
    for (HsInt n = 1; n <= PUTTERS; n++) {
        id = FORK(stack, putFresh, mvar, fresh(stack->cap, n));
        CHECK(awaitStatus(stack, &id, ThreadBlockedOnMVar));
        if (n == PUTTERS / 2) makeOld(stack);
    }
    for (HsInt n = 0; n <= PUTTERS; n++) {
        if (n % 2 == 0) minor(stack);
        CHECK(isFresh(rts_takeMVar(stack, mvar), n));
        for (int age = 0; n < PUTTERS && age < 3; age++) {
            minor(stack);
            CHECK(rts_tryReadMVar(stack, mvar, &v) && isFresh(v, n + 1));
        }
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* ---- Parked threads ---- */

CAPSTAN_CON(Answer, 2, given, first, second)

/* Answers what it is given together with what it had, and has the given one instead of the older of those. */
CAPSTAN_IO(parkedThread, in, out, first)
{
    HaskellObj second = CAPSTAN_UNIT, given;
    CAPSTAN_ROOTS(stack, in, out, first, second);
    while ((given = rts_takeMVar(stack, in)) != CAPSTAN_UNIT) {
        HaskellObj answer = Answer_new(stack->cap, given, first, second);
        second = first;
        first = given;
        rts_putMVar(stack, out, answer);
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

static bool isAnswer(HaskellObj v, HsInt given, HsInt first, HsInt second)
{
    return CAPSTAN_IS(Answer, v) && isFresh(CAPSTAN_GET(Answer, v, given), given) && isFresh(CAPSTAN_GET(Answer, v, first), first) &&
           (second < 0 || isFresh(CAPSTAN_GET(Answer, v, second), second));
}

/* Parked for several collections with a young root, given something young, parked again with that. */
CASE(threadsParked)
{
    HaskellObj in = rts_mkMVar(stack->cap), out = rts_mkMVar(stack->cap), id = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, in, out, id);
    id = FORK(stack, parkedThread, in, out, fresh(stack->cap, 0));
    for (HsInt n = 1; n < 8; n++) {
        CHECK(awaitStatus(stack, &id, ThreadBlockedOnMVar));
        for (HsInt age = 0; age < n; age++) minor(stack);
        rts_putMVar(stack, in, fresh(stack->cap, n));
        if (n % 2 == 0) minor(stack);
        if (n == 6) major(stack);
        CHECK(isAnswer(rts_takeMVar(stack, out), n, n - 1, n - 2));
    }
    rts_putMVar(stack, in, CAPSTAN_UNIT);
    awaitEnd(stack, &id);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* Many of them, all old, a few of which are woken between two collections. */
CASE(manyParked)
{
    size_t count = (size_t)many(500) + 10;
    HaskellObj ins = rts_mkArray(stack->cap, count, CAPSTAN_UNIT), outs = rts_mkArray(stack->cap, count, CAPSTAN_UNIT), id = CAPSTAN_UNIT;
    HsInt last[600] = { 0 };
    uint64_t seed = 9;
    CAPSTAN_ROOTS(stack, ins, outs, id);
    for (size_t i = 0; i < count; i++) {
        HaskellObj in = rts_mkMVar(stack->cap), out = rts_mkMVar(stack->cap);
        rts_setElem(stack->cap, ins, i, in);
        rts_setElem(stack->cap, outs, i, out);
        id = FORK(stack, parkedThread, in, out, fresh(stack->cap, (HsInt)i));
        last[i] = (HsInt)i;
    }
    makeOld(stack);
    for (HsInt n = 1000; n < 1000 + 3 * AGES; n++) {
        size_t i = nextRandom(&seed) % count;
        rts_putMVar(stack, rts_getElem(ins, i), fresh(stack->cap, n));
        minor(stack);
        CHECK(isAnswer(rts_takeMVar(stack, rts_getElem(outs, i)), n, last[i], -1));
        last[i] = n;
        if (n % 3 == 0) minor(stack);
    }
    for (size_t i = 0; i < count; i++) rts_putMVar(stack, rts_getElem(ins, i), CAPSTAN_UNIT);
    awaitEnd(stack, &id);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(readTwice, in, out)
{
    CAPSTAN_ROOTS(stack, out);
    HaskellObj read = rts_readMVar(stack, in);
    rts_putMVar(stack, out, read);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* One put is handed to all parked readers, and stays. */
CASE(readersParked)
{
    enum { READERS = 5 };
    HaskellObj in = rts_mkMVar(stack->cap), out = rts_mkMVar(stack->cap), id = CAPSTAN_UNIT, v;
    CAPSTAN_ROOTS(stack, in, out, id);
    for (int i = 0; i < READERS; i++) {
        id = FORK(stack, readTwice, in, out);
        CHECK(awaitStatus(stack, &id, ThreadBlockedOnMVarRead));
    }
    makeOld(stack);
    rts_putMVar(stack, in, fresh(stack->cap, 5));
    minor(stack);
    for (int i = 0; i < READERS; i++) CHECK(isFresh(rts_takeMVar(stack, out), 5));
    CHECK_THROUGH(stack, rts_tryReadMVar(stack, in, &v) && isFresh(v, 5));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* Put from outside the heap, into an old MVar at which an old thread waits. */
CASE(putFromOutside)
{
    HaskellObj in = rts_mkMVar(stack->cap), out = rts_mkMVar(stack->cap), id = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, in, out, id);
    id = FORK(stack, parkedThread, in, out, fresh(stack->cap, 0));
    CHECK(awaitStatus(stack, &id, ThreadBlockedOnMVar));
    makeOld(stack);
    hs_try_putmvar_with_value(-1, getStablePtr((StgPtr)in), CAPSTAN_POISON, getStablePtr((StgPtr)fresh(stack->cap, 1)));
    minor(stack);
    CHECK(isAnswer(rts_takeMVar(stack, out), 1, 0, -1));
    CHECK(awaitStatus(stack, &id, ThreadBlockedOnMVar));
    minor(stack);
    rts_putMVar(stack, in, CAPSTAN_UNIT);
    awaitEnd(stack, &id);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

static HaskellObj takeIt(Stack *stack, void *mvar) { return rts_takeMVar(stack, *(HaskellObj *)mvar); }

CAPSTAN_IO(catchOne, in, out)
{
    HaskellObj mine = fresh(stack->cap, 12), caught = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, in, out, mine);
    bool ok = rts_try(stack, takeIt, &in, &caught);
    CHECK(!ok && isFresh(mine, 12));
    rts_putMVar(stack, out, caught);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* A young exception for an old parked thread. */
CASE(thrownAtParked)
{
    HaskellObj in = rts_mkMVar(stack->cap), out = rts_mkMVar(stack->cap), id = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, in, out, id);
    id = FORK(stack, catchOne, in, out);
    CHECK(awaitStatus(stack, &id, ThreadBlockedOnMVar));
    makeOld(stack);
    rts_throwTo(stack, id, fresh(stack->cap, 11));
    minor(stack);
    CHECK(isFresh(rts_takeMVar(stack, out), 11));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* A thread that is known by an old ThreadId only lives, with its roots, as long as that does. */
CASE(knownByThreadId)
{
    HaskellObj in = rts_mkMVar(stack->cap), out = rts_mkMVar(stack->cap), id = CAPSTAN_UNIT, holder = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, in, out, id, holder);
    id = FORK(stack, catchOne, in, out);
    CHECK(awaitStatus(stack, &id, ThreadBlockedOnMVar));
    holder = Fresh_new(stack->cap, id, CAPSTAN_UNIT, CAPSTAN_UNIT);
    in = id = CAPSTAN_UNIT;
    CHECK_THROUGH(stack, rts_threadStatus(CAPSTAN_GET(Fresh, holder, number)) == ThreadBlockedOnMVar);
    rts_throwTo(stack, CAPSTAN_GET(Fresh, holder, number), fresh(stack->cap, 2));
    CHECK(isFresh(rts_takeMVar(stack, out), 2));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* ---- Threads that have not begun ---- */

CAPSTAN_IO(reportArgument, value, out)
{
    rts_putMVar(stack, out, value);
    return CAPSTAN_UNIT;
}

CASE(forkedNotBegun)
{
    enum { THREADS = 20 };
    HaskellObj outs = rts_mkArray(stack->cap, THREADS, CAPSTAN_UNIT);
    CAPSTAN_ROOTS(stack, outs);
    for (size_t i = 0; i < THREADS; i++) {
        HaskellObj out = rts_mkMVar(stack->cap);
        rts_setElem(stack->cap, outs, i, out);
        FORK(stack, reportArgument, fresh(stack->cap, (HsInt)i), out);
        if (i % 5 == 0) minor(stack);
    }
    makeOld(stack);
    for (size_t i = 0; i < THREADS; i++) CHECK(isFresh(rts_takeMVar(stack, rts_getElem(outs, i)), (HsInt)i));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* Collects before it reports, with something young on its stack. */
CAPSTAN_IO(reportLater, value, out)
{
    HaskellObj mine = fresh(stack->cap, 77);
    CAPSTAN_ROOTS(stack, value, out, mine);
    minor(stack);
    if (!isFresh(mine, 77)) value = CAPSTAN_UNIT;
    minor(stack);
    if (!isFresh(mine, 77)) value = CAPSTAN_UNIT;
    CAPSTAN_UNROOT(stack);
    rts_putMVar(stack, out, value);
    return CAPSTAN_UNIT;
}

/* They wait, without a ThreadId, until they are old; then each runs on the stack of the one before it. */
static void createdNotBegun(void **state)
{
    enum { THREADS = 12 };
    Capability *cap = rts_lock();
    HaskellObj outs[THREADS] = { NULL };

    for (HsInt i = 0; i < THREADS; i++) {
        outs[i] = rts_mkMVar(cap);
        scheduleThreadOn(cap, 0, createIOThread(cap, 0, APPLY(cap, reportLater, fresh(cap, i), outs[i])));
    }
    HaskellObj array = rts_mkArray(cap, THREADS, CAPSTAN_UNIT);
    for (size_t i = 0; i < THREADS; i++) rts_setElem(cap, array, i, outs[i]);
    CAPSTAN_ROOTS(cap, array);
    for (int age = 0; age < AGES; age++) {
        for (int i = 0; i < 400; i++) {
            rts_mkBytes(cap, NULL, 900);
            rts_pollCap(&cap);
        }
    }
    for (size_t i = 0; i < THREADS; i++) {
        HaskellObj value = CAPSTAN_UNIT;
        rts_evalIO(&cap, APPLY(cap, capstan_takeMVar, rts_getElem(array, i)), &value);
        assert_true(isFresh(value, (HsInt)i));
    }
    CAPSTAN_UNROOT(cap);
    rts_unlock(cap);
}

static HaskellObj findThread(HaskellObj list, const HaskellObj *known, RtsThreadStatus status)
{
    for (size_t i = 0; i < rts_arrayLength(list); i++) {
        HaskellObj id = rts_getElem(list, i);
        if (id != *known && rts_threadStatus(id) == status) return id;
    }
    return CAPSTAN_UNIT;
}

/* A thread gets its first ThreadId when it is old and waits: the young ThreadId stays the right one, and the only one. */
CASE(namedLate)
{
    HaskellObj in = rts_mkMVar(stack->cap), out = rts_mkMVar(stack->cap), me = rts_myThreadId(stack), id = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, in, out, me, id);
    StgTSO *tso = createIOThread(stack->cap, 0, APPLY(stack->cap, parkedThread, in, out, fresh(stack->cap, 0)));
    scheduleThread(stack->cap, tso);
    for (HsInt n = 1; n < 3; n++) {
        rts_putMVar(stack, in, fresh(stack->cap, n));
        CHECK(isAnswer(rts_takeMVar(stack, out), n, n - 1, n - 2));
        rts_threadDelay(stack, 20000); /* it waits again */
        makeOld(stack);
    }
    for (int tries = 0; id == CAPSTAN_UNIT && tries < 1000; tries++) {
        id = findThread(rts_listThreads(stack->cap), &me, ThreadBlockedOnMVar);
        if (id == CAPSTAN_UNIT) rts_threadDelay(stack, 5000);
    }
    CHECK(id != CAPSTAN_UNIT);
    CHECK_THROUGH(stack, id == findThread(rts_listThreads(stack->cap), &me, ThreadBlockedOnMVar));
    rts_putMVar(stack, in, CAPSTAN_UNIT);
    awaitEnd(stack, &id);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(mvarFilled),
        BOTH(puttersAdvance),
        BOTH(threadsParked),
        BOTH(manyParked),
        BOTH(readersParked),
        BOTH(putFromOutside),
        BOTH(thrownAtParked),
        BOTH(knownByThreadId),
        BOTH(forkedNotBegun),
        BOTH(createdNotBegun),
        BOTH(namedLate),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * Exceptions thrown at threads in every state, by bound and by unbound ones; storms of them.
 * After GHC's throwto001, throwto002 and throwto003.
 */
#include "sched.h"

#include <fcntl.h>

#define MINE CAPSTAN_SMALL_INT(77)

/* ---- At a thread that waits ---- */

enum { ON_TAKE, ON_PUT, ON_READ, ON_DELAY, ON_THUNK, ON_THROW, ON_FD_READ, ON_FD_WRITE, WAITS };

static const RtsThreadStatus statusOf[WAITS] = {
    ThreadBlockedOnMVar, ThreadBlockedOnMVar, ThreadBlockedOnMVarRead, ThreadBlockedOnDelay,
    ThreadBlockedOnBlackHole, ThreadBlockedOnThrowTo, ThreadBlockedOnRead, ThreadBlockedOnWrite,
};

typedef struct {
    HsInt kind;
    HaskellObj *thing;
} Wait;

static HaskellObj waitSomehow(Stack *stack, void *arg)
{
    Wait *wait = arg;
    switch (wait->kind) {
    case ON_TAKE: return rts_takeMVar(stack, *wait->thing);
    case ON_READ: return rts_readMVar(stack, *wait->thing);
    case ON_PUT: rts_putMVar(stack, *wait->thing, CAPSTAN_UNIT); break;
    case ON_DELAY: rts_threadDelay(stack, INT64_MAX); break;
    case ON_THUNK: return rts_force(stack, *wait->thing);
    case ON_THROW: rts_throwTo(stack, *wait->thing, CAPSTAN_SMALL_INT(1)); break;
    case ON_FD_READ: rts_threadWaitRead(stack, (int)rts_intValue(*wait->thing)); break;
    default: rts_threadWaitWrite(stack, (int)rts_intValue(*wait->thing));
    }
    return CAPSTAN_UNIT;
}

/* Puts 1 into done if its wait was ended by the right exception. */
CAPSTAN_IO(victim, kind, thing, done)
{
    HaskellObj result;
    CAPSTAN_ROOTS(stack, thing, done);
    Wait wait = { rts_intValue(kind), &thing };
    bool ok = rts_try(stack, waitSomehow, &wait, &result);
    rts_putMVar(stack, done, rts_int(stack, !ok && result == MINE));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* The same in an in-call of another OS thread, which first tells who it is. */
CAPSTAN_IO(boundVictim, kind, thing, done, name)
{
    CAPSTAN_ROOTS(stack, kind, thing, done);
    rts_putMVar(stack, name, rts_myThreadId(stack));
    HaskellObj result = rts_runIO(stack, APPLY(stack->cap, victim, kind, thing, done));
    CAPSTAN_UNROOT(stack);
    return result;
}

static void *callStable(void *sp)
{
    HaskellObj value;
    Capability *cap = rts_lock();
    rts_evalIO(&cap, (HaskellObj)deRefStablePtr(sp), &value);
    SchedulerStatus status = rts_getSchedStatus(cap);
    freeStablePtr(sp);
    rts_unlock(cap);
    return (void *)(intptr_t)status;
}

/* What the victim waits for, made so that it has to. */
CAPSTAN_FUN(takeLazily, mvar)
{
    return rts_takeMVar(stack, mvar);
}
static HaskellObj takeArg(Stack *stack, void *mvar) { return rts_takeMVar(stack, *(HaskellObj *)mvar); }
CAPSTAN_IO(takeUninterruptibly, mvar)
{
    HaskellObj result;
    CAPSTAN_ROOTS(stack, mvar);
    result = rts_withMask(stack, RtsMaskedUninterruptible, takeArg, &mvar);
    CAPSTAN_UNROOT(stack);
    return result;
}
CAPSTAN_IO(forceIt, thunk)
{
    return rts_force(stack, thunk);
}

static int pipes[2][2]; /* an empty one, a full one */

static void openPipes(void)
{
    char block[4096] = { 0 };
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pipe(pipes[i]), 0);
        assert_int_equal(fcntl(pipes[i][1], F_SETFL, O_NONBLOCK), 0);
    }
    while (write(pipes[1][1], block, sizeof block) > 0) {}
    while (write(pipes[1][1], block, 1) > 0) {}
}
static void closePipes(void)
{
    for (int i = 0; i < 4; i++) close(pipes[i / 2][i % 2]);
}

/* gate: an empty MVar.  *helper becomes the thread that has to do with it, if there is one. */
static HaskellObj makeThing(Stack *stack, HsInt kind, HaskellObj *gate, HaskellObj *helper)
{
    HaskellObj thing = *gate;
    CAPSTAN_ROOTS(stack, thing);
    switch (kind) {
    case ON_PUT: {
        thing = rts_mkMVar(stack->cap);
        rts_putMVar(stack, thing, CAPSTAN_UNIT);
        break;
    }
    case ON_THUNK:
        thing = APPLY(stack->cap, takeLazily, *gate);
        *helper = FORK(stack, forceIt, thing);
        break;
    case ON_THROW: *helper = FORK(stack, takeUninterruptibly, *gate); break;
    case ON_FD_READ: thing = rts_int(stack, pipes[0][0]); break;
    case ON_FD_WRITE: thing = rts_int(stack, pipes[1][1]); break;
    default: break;
    }
    if (kind == ON_THUNK || kind == ON_THROW) CHECK(awaitStatus(stack, helper, ThreadBlockedOnMVar));
    CAPSTAN_UNROOT(stack);
    return kind == ON_THROW ? *helper : thing;
}

/* The helper gets what it waits for, and has come to no harm. */
static void endHelper(Stack *stack, HsInt kind, HaskellObj *gate, HaskellObj *helper, HaskellObj *thing)
{
    if (*helper == CAPSTAN_UNIT) return;
    rts_putMVar(stack, *gate, CAPSTAN_SMALL_INT(5));
    awaitEnd(stack, helper);
    CHECK(rts_threadStatus(*helper) == ThreadFinished);
    if (kind == ON_THUNK) CHECK(rts_force(stack, *thing) == CAPSTAN_SMALL_INT(5));
}

CAPSTAN_IO(hitUnbound, what)
{
    HsInt kind = rts_intValue(what);
    HaskellObj gate = rts_mkMVar(stack->cap), done = rts_mkMVar(stack->cap), id = CAPSTAN_UNIT, helper = CAPSTAN_UNIT,
               thing = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, what, gate, done, id, helper, thing);
    thing = makeThing(stack, kind, &gate, &helper);
    id = FORK(stack, victim, what, thing, done);
    CHECK(awaitStatus(stack, &id, statusOf[kind]));
    rts_throwTo(stack, id, MINE);
    HsInt hit = rts_intValue(rts_takeMVar(stack, done));
    rts_throwTo(stack, id, MINE);
    awaitEnd(stack, &id);
    rts_throwTo(stack, id, MINE);
    endHelper(stack, kind, &gate, &helper, &thing);
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, hit);
}

CAPSTAN_IO(hitBound, what)
{
    HsInt kind = rts_intValue(what);
    pthread_t thread;
    HaskellObj gate = rts_mkMVar(stack->cap), done = rts_mkMVar(stack->cap), name = rts_mkMVar(stack->cap), id = CAPSTAN_UNIT,
               helper = CAPSTAN_UNIT, thing = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, what, gate, done, name, id, helper, thing);
    thing = makeThing(stack, kind, &gate, &helper);
    thread = spawn(callStable, getStablePtr((StgPtr)APPLY(stack->cap, boundVictim, what, thing, done, name)));
    id = rts_takeMVar(stack, name);
    CHECK(awaitStatus(stack, &id, statusOf[kind]));
    rts_throwTo(stack, id, MINE);
    HsInt hit = rts_intValue(rts_takeMVar(stack, done));
    rts_safeCall(stack, schedJoin, &thread);
    rts_throwTo(stack, id, MINE);
    CHECK(rts_threadStatus(id) == ThreadFinished);
    endHelper(stack, kind, &gate, &helper, &thing);
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, hit);
}

static void hitAll(HaskellObj hit)
{
    openPipes();
    for (int kind = 0; kind < WAITS; kind++) {
        if (runWith(hit, CAPSTAN_SMALL_INT(kind)) != 1) fail_msg("wait %d, thrown by a bound thread", kind);
        if (runInThread(hit, CAPSTAN_SMALL_INT(kind)) != 1) fail_msg("wait %d, thrown by an unbound thread", kind);
    }
    closePipes();
    assert_int_equal(heardOtherErrors(), 0);
}
static void testHitUnbound(void **state) { hitAll(&hitUnbound_closure); }
static void testHitBound(void **state) { hitAll(&hitBound_closure); }

/* ---- At one that has not begun, or has ended, or is the thrower itself ---- */

static _Atomic HsInt begun, finished;

CAPSTAN_IO(beginAndEnd)
{
    begun++;
    rts_yield(stack);
    finished++;
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(hitFresh)
{
    HaskellObj id = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, id);
    for (HsInt i = 0; i < 20; i++) {
        id = FORK(stack, beginAndEnd);
        rts_throwTo(stack, id, &capstan_ThreadKilled_closure);
        awaitEnd(stack, &id);
    }
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, begun);
}

static void testHitFresh(void **state)
{
    begun = finished = 0;
    run(&hitFresh_closure);
    runInThread(&hitFresh_closure, NULL);
    assert_true(finished <= begun && begun <= 40);
}

/* At many that come to their end just then: each ends exactly once, this way or that, and the thrower goes on. */
CAPSTAN_IO(hitEnding, n)
{
    HsInt count = rts_intValue(n), died = 0;
    HaskellObj id = CAPSTAN_UNIT;
    uint64_t seed = 7;
    CAPSTAN_ROOTS(stack, id);
    for (HsInt i = 0; i < count; i++) {
        id = FORK(stack, beginAndEnd);
        for (uint32_t j = nextRandom(&seed) % 4; j > 0; j--) rts_yield(stack);
        rts_killThread(stack, id);
        rts_killThread(stack, id);
        awaitEnd(stack, &id);
        died += rts_threadStatus(id) == ThreadDied;
    }
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, died);
}

static void testHitEnding(void **state)
{
    HsInt n = many(5000);
    begun = finished = 0;
    HsInt died = runWith(&hitEnding_closure, CAPSTAN_SMALL_INT(n));
    assert_int_equal(died + finished, n);
    begun = finished = 0;
    died = runInThread(&hitEnding_closure, CAPSTAN_SMALL_INT(n));
    assert_int_equal(died + finished, n);
}

static HaskellObj throwAtSelf(Stack *stack, void *unused)
{
    rts_throwTo(stack, rts_myThreadId(stack), MINE);
    CHECK(!"thrown at myself, and still here");
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(hitSelf)
{
    HaskellObj result = CAPSTAN_UNIT;
    CHECK(!rts_try(stack, throwAtSelf, NULL, &result) && result == MINE);
    /* Also masked: it is raised at once. */
    CHECK(rts_getMaskingState(stack) == RtsUnmasked);
    return CAPSTAN_SMALL_INT(1);
}
static HaskellObj throwAtSelfMasked(Stack *stack, void *unused)
{
    return rts_withMask(stack, RtsMaskedUninterruptible, throwAtSelf, NULL);
}
CAPSTAN_IO(hitSelfMasked)
{
    HaskellObj result = CAPSTAN_UNIT;
    CHECK(!rts_try(stack, throwAtSelfMasked, NULL, &result) && result == MINE);
    CHECK(rts_getMaskingState(stack) == RtsUnmasked);
    return CAPSTAN_SMALL_INT(1);
}

static void testHitSelf(void **state)
{
    assert_int_equal(run(&hitSelf_closure), 1);
    assert_int_equal(run(&hitSelfMasked_closure), 1);
    assert_int_equal(runInThread(&hitSelf_closure, NULL), 1);
    assert_int_equal(runInThread(&hitSelfMasked_closure, NULL), 1);
}

/* ---- At one in a safe call: the thrower waits until it is back ---- */

static _Atomic int inCall, mayReturn;

static void *stayAway(void *unused)
{
    inCall = 1;
    while (!mayReturn) usleep(500);
    inCall = 0;
    return NULL;
}
static HaskellObj callAway(Stack *stack, void *unused)
{
    rts_safeCall(stack, stayAway, NULL);
    /* The exception arrives before anything else happens. */
    CHECK(!"back from the call");
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(awayVictim, done)
{
    HaskellObj result = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, done);
    bool ok = rts_try(stack, callAway, NULL, &result);
    rts_putMVar(stack, done, rts_int(stack, !ok && result == MINE));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(throwAt, id, done)
{
    CAPSTAN_ROOTS(stack, done);
    rts_throwTo(stack, id, MINE);
    CHECK(inCall == 0);
    rts_putMVar(stack, done, CAPSTAN_SMALL_INT(1));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(hitInCall)
{
    HaskellObj done = rts_mkMVar(stack->cap), thrown = rts_mkMVar(stack->cap), id = CAPSTAN_UNIT, thrower = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, done, thrown, id, thrower);
    inCall = mayReturn = 0;
    id = FORK(stack, awayVictim, done);
    while (!inCall) rts_threadDelay(stack, 200);
    CHECK(rts_threadStatus(id) == ThreadBlockedOnCCall);
    thrower = FORK(stack, throwAt, id, thrown);
    CHECK(awaitStatus(stack, &thrower, ThreadBlockedOnThrowTo));
    rts_threadDelay(stack, 10000);
    CHECK(rts_threadStatus(thrower) == ThreadBlockedOnThrowTo);
    mayReturn = 1;
    HsInt hit = rts_intValue(rts_takeMVar(stack, done));
    CHECK(rts_takeMVar(stack, thrown) == CAPSTAN_SMALL_INT(1));
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, hit);
}
static void testHitInCall(void **state)
{
    assert_int_equal(run(&hitInCall_closure), 1);
    assert_int_equal(runInThread(&hitInCall_closure, NULL), 1);
}

/* ---- At a bound thread that hosts the thrower ---- */

static HaskellObj waitForHit(Stack *stack, void *never) { return rts_takeMVar(stack, *(HaskellObj *)never); }

CAPSTAN_IO(throwOften, id, n)
{
    HsInt count = rts_intValue(n);
    CAPSTAN_ROOTS(stack, id);
    for (HsInt i = 0; i < count; i++) rts_throwTo(stack, id, rts_int(stack, i));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* Hit n times by a thread that runs on its own OS thread, in order. */
CAPSTAN_IO(beHit, n)
{
    HsInt count = rts_intValue(n);
    HaskellObj never = rts_mkMVar(stack->cap), result = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, never, result);
    FORK(stack, throwOften, rts_myThreadId(stack), n);
    for (HsInt i = 0; i < count; i++) CHECK(!rts_try(stack, waitForHit, &never, &result) && rts_intValue(result) == i);
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, count);
}
static void testHitHost(void **state)
{
    HsInt n = many(3000);
    assert_int_equal(runWith(&beHit_closure, CAPSTAN_SMALL_INT(n)), n);
    assert_int_equal(runInThread(&beHit_closure, CAPSTAN_SMALL_INT(n)), n);
}

/* ---- Many throwers, one target: each exception once, first thrown first raised for each thrower ---- */

#define THROWERS 8
CAPSTAN_IO(throwNumbered, id, me, n)
{
    HsInt count = rts_intValue(n), base = rts_intValue(me) * 1000000;
    CAPSTAN_ROOTS(stack, id);
    for (HsInt i = 1; i <= count; i++) rts_throwTo(stack, id, rts_int(stack, base + i));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

static HaskellObj spin(Stack *stack, void *unused)
{
    for (;;) rts_poll(stack);
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(beHitByMany, n, blocks)
{
    HsInt count = rts_intValue(n), last[THROWERS] = { 0 };
    HaskellObj never = rts_mkMVar(stack->cap), result = CAPSTAN_UNIT;
    bool isBlocking = blocks == CAPSTAN_TRUE;
    CAPSTAN_ROOTS(stack, never, result, n);
    for (HsInt i = 0; i < THROWERS; i++) FORK(stack, throwNumbered, rts_myThreadId(stack), rts_int(stack, i), n);
    for (HsInt i = 0; i < THROWERS * count; i++) {
        CHECK(!rts_try(stack, isBlocking ? waitForHit : spin, &never, &result));
        HsInt value = rts_intValue(result), who = value / 1000000;
        CHECK(who < THROWERS && value % 1000000 == last[who] + 1);
        last[who] = value % 1000000;
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_SMALL_INT(1);
}
CAPSTAN_IO(beHitBlocked, n)
{
    return rts_tailCall(stack, &beHitByMany_closure, n, CAPSTAN_TRUE, CAPSTAN_WORLD);
}
CAPSTAN_IO(beHitSpinning, n)
{
    return rts_tailCall(stack, &beHitByMany_closure, n, CAPSTAN_FALSE, CAPSTAN_WORLD);
}
static void testHitByMany(void **state)
{
    HaskellObj n = CAPSTAN_SMALL_INT(many(300));
    assert_int_equal(runWith(&beHitBlocked_closure, n), 1);
    assert_int_equal(runInThread(&beHitBlocked_closure, n), 1);
    assert_int_equal(runWith(&beHitSpinning_closure, n), 1);
    assert_int_equal(runInThread(&beHitSpinning_closure, n), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ALL(testHitUnbound), ALL(testHitBound), ALL(testHitFresh), ALL(testHitEnding), ALL(testHitSelf),
        ALL(testHitInCall), ALL(testHitHost), ALL(testHitByMany),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

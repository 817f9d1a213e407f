/*
 * Storms of asynchronous exceptions: nothing is delivered twice, nothing is lost, nobody hangs.
 * After GHC's throwto001, throwto002 and throwto003.
 */
#include "sched.h"

/* ---- throwto001: two threads kill each other ---- */

typedef struct {
    HaskellObj *other;
    _Atomic HsInt *kills;
} Duel;

static HaskellObj killOther(Stack *stack, void *arg)
{
    Duel *duel = arg;
    rts_killThread(stack, *duel->other);
    return CAPSTAN_UNIT;
}
static HaskellObj killUnmasked(Stack *stack, void *arg) { return rts_withMask(stack, RtsUnmasked, killOther, arg); }

static _Atomic HsInt survivors, victims;

static HaskellObj takeName(Stack *stack, void *names) { return rts_takeMVar(stack, *(HaskellObj *)names); }

/* Learns who the other is, and kills him, or is killed at it. */
CAPSTAN_IO(duellist, names, done)
{
    HaskellObj other = CAPSTAN_UNIT, result = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, names, done, other, result);
    other = rts_withMask(stack, RtsMaskedUninterruptible, takeName, &names); /* a take that waits is interruptible */
    Duel duel = { &other, NULL };
    if (rts_try(stack, killUnmasked, &duel, &result)) survivors++;
    else victims += result == &capstan_ThreadKilled_closure;
    rts_putMVar(stack, done, CAPSTAN_UNIT);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

static HaskellObj fightDuels(Stack *stack, void *arg)
{
    HsInt rounds = *(HsInt *)arg;
    HaskellObj done = rts_mkMVar(stack->cap), a = CAPSTAN_UNIT, b = CAPSTAN_UNIT, namesA = CAPSTAN_UNIT, namesB = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, done, a, b, namesA, namesB);
    for (HsInt i = 0; i < rounds; i++) {
        namesA = rts_mkMVar(stack->cap);
        namesB = rts_mkMVar(stack->cap);
        a = FORK(stack, duellist, namesA, done);
        b = FORK(stack, duellist, namesB, done);
        rts_putMVar(stack, namesA, b);
        rts_putMVar(stack, namesB, a);
        for (int j = 0; j < 2; j++) rts_takeMVar(stack, done);
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(duels, n)
{
    HsInt rounds = rts_intValue(n);
    return rts_withMask(stack, RtsMaskedInterruptible, fightDuels, &rounds);
}

static void testDuels(void **state)
{
    HsInt n = many(2000);
    for (int i = 0; i < 2; i++) {
        survivors = victims = 0;
        if (i == 0) runWith(&duels_closure, CAPSTAN_SMALL_INT(n));
        else runInThread(&duels_closure, CAPSTAN_SMALL_INT(n));
        assert_int_equal(survivors + victims, 2 * n);
        assert_true(victims >= n);
    }
}

/* ---- throwto002: exceptions in both directions, each with a number; none arrives twice ---- */

#define FIGHTERS 6
typedef struct {
    _Atomic HsInt thrown, caught, sent; /* thrown: throwTo came back */
    _Atomic HsInt last[FIGHTERS];       /* number of the last one from each */
} Fighter;
static Fighter fighters[FIGHTERS];
static _Atomic int over;
static _Atomic int throwing; /* fighters that may still throw */

static void noteCatch(HsInt me, HaskellObj e)
{
    HsInt who = rts_intValue(e) % FIGHTERS, number = rts_intValue(e) / FIGHTERS;
    CHECK(rts_isSmallInt(e) && number > fighters[me].last[who]);
    fighters[me].last[who] = number;
    fighters[me].caught++;
}

typedef struct {
    HsInt me;
    HaskellObj *names; /* an array */
    uint64_t *seed;
} Fight;

static HaskellObj throwAround(Stack *stack, void *arg)
{
    Fight *fight = arg;
    Fighter *my = &fighters[fight->me];
    while (!over) {
        HsInt to = nextRandom(fight->seed) % FIGHTERS;
        if (to == fight->me) continue;
        HsInt number = ++my->sent;
        rts_throwTo(stack, rts_getElem(*fight->names, (size_t)to), rts_int(stack, number * FIGHTERS + fight->me));
        my->thrown++;
        if (nextRandom(fight->seed) % 8 == 0) rts_yield(stack);
    }
    return CAPSTAN_UNIT;
}

/* Unmasks only for the fight itself, so that no exception gets past the handler. */
static HaskellObj fightOn(Stack *stack, void *arg) { return rts_withMask(stack, RtsUnmasked, throwAround, arg); }
static HaskellObj sleepBriefly(Stack *stack, void *unused)
{
    rts_threadDelay(stack, 5000);
    return CAPSTAN_UNIT;
}
static HaskellObj rest(Stack *stack, void *unused) { return rts_withMask(stack, RtsUnmasked, sleepBriefly, NULL); }

CAPSTAN_IO(fighter, me, box, done)
{
    HsInt no = rts_intValue(me);
    uint64_t seed = (uint64_t)no + 1;
    HaskellObj names = CAPSTAN_UNIT, result = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, names, done, result);
    names = rts_readMVar(stack, box);
    Fight fight = { no, &names, &seed };
    while (!over)
        if (!rts_try(stack, fightOn, &fight, &result)) noteCatch(no, result);
    throwing--;
    /* What is still on its way: a throw that came back was caught, so the last thrower's end is the end of all. */
    for (int quiet = 0; quiet < 1;) {
        bool ended = throwing == 0;
        if (!rts_try(stack, rest, NULL, &result)) noteCatch(no, result);
        else if (ended) quiet++;
    }
    rts_putMVar(stack, done, CAPSTAN_UNIT);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

static HaskellObj holdFight(Stack *stack, void *arg)
{
    HsInt ms = *(HsInt *)arg;
    HaskellObj box = rts_mkMVar(stack->cap), done = rts_mkMVar(stack->cap), names = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, box, done, names);
    names = rts_mkArray(stack->cap, FIGHTERS, CAPSTAN_UNIT);
    for (HsInt i = 0; i < FIGHTERS; i++) {
        HaskellObj id = FORK(stack, fighter, rts_int(stack, i), box, done);
        rts_setElem(stack->cap, names, (size_t)i, id);
    }
    rts_putMVar(stack, box, names);
    rts_threadDelay(stack, ms * 1000);
    over = 1;
    for (int i = 0; i < FIGHTERS; i++) rts_takeMVar(stack, done);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(melee, n)
{
    HsInt ms = rts_intValue(n);
    return rts_withMask(stack, RtsMaskedInterruptible, holdFight, &ms);
}

/* Each throwTo that came back was caught; none was caught that was not sent. */
static void countFight(void)
{
    HsInt thrown = 0, caught = 0, sent = 0;
    for (int i = 0; i < FIGHTERS; i++) {
        thrown += fighters[i].thrown;
        caught += fighters[i].caught;
        sent += fighters[i].sent;
    }
    assert_true(caught > 0);
    assert_in_range(caught, thrown, sent);
}

static void testMelee(void **state)
{
    HaskellObj ms = CAPSTAN_SMALL_INT(shortLoad() ? 100 : 500);
    for (int i = 0; i < 2; i++) {
        memset(fighters, 0, sizeof fighters);
        over = 0;
        throwing = FIGHTERS;
        if (i == 0) runWith(&melee_closure, ms);
        else runInThread(&melee_closure, ms);
        countFight();
    }
}

/* ---- throwto003: who modifies an MVar properly never loses its value ---- */

typedef struct {
    HaskellObj *box, *value;
} Modify;

static HaskellObj burnALittle(Stack *stack, void *arg)
{
    Modify *modify = arg;
    for (int i = 0; i < 200; i++) rts_poll(stack);
    return rts_int(stack, rts_intValue(*modify->value) + 1);
}
static HaskellObj burnUnmasked(Stack *stack, void *arg) { return rts_withMask(stack, RtsUnmasked, burnALittle, arg); }

/* modifyMVar: masked, the value goes back on every way out. */
static HaskellObj modifyMasked(Stack *stack, void *arg)
{
    Modify modify = { arg, NULL };
    HaskellObj value = CAPSTAN_UNIT, result = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, value, result);
    value = rts_takeMVar(stack, *modify.box);
    modify.value = &value;
    bool ok = rts_try(stack, burnUnmasked, &modify, &result);
    CHECK(rts_tryPutMVar(stack, *modify.box, ok ? result : value));
    CAPSTAN_UNROOT(stack);
    if (!ok) rts_raise(stack, result);
    return CAPSTAN_UNIT;
}
static HaskellObj modifyOnce(Stack *stack, void *box) { return rts_withMask(stack, RtsMaskedInterruptible, modifyMasked, box); }
static HaskellObj modifyOpenly(Stack *stack, void *box) { return rts_withMask(stack, RtsUnmasked, modifyOnce, box); }

/* Begins masked: between two rounds it is not hit. */
CAPSTAN_IO(modifier, box, done)
{
    HsInt interrupted = 0;
    HaskellObj result = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, box, done, result);
    while (!over) interrupted += !rts_try(stack, modifyOpenly, &box, &result);
    rts_putMVar(stack, done, rts_int(stack, interrupted));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

#define MODIFIERS 3
/* Throws n times at them in turn; the counter must not have been lost. */
static HaskellObj throwAtThem(Stack *stack, void *n)
{
    HsInt count = *(HsInt *)n, interrupted = 0;
    HaskellObj box = rts_mkMVar(stack->cap), done = rts_mkMVar(stack->cap), ids[MODIFIERS] = { CAPSTAN_UNIT, CAPSTAN_UNIT, CAPSTAN_UNIT };
    CAPSTAN_ROOTS(stack, box, done, ids[0], ids[1], ids[2]);
    over = 0;
    rts_putMVar(stack, box, CAPSTAN_SMALL_INT(0));
    for (int i = 0; i < MODIFIERS; i++) ids[i] = FORK(stack, modifier, box, done);
    for (int i = 0; i < MODIFIERS; i++) rts_yield(stack);
    rts_threadDelay(stack, 1000);
    for (HsInt i = 0; i < count; i++) {
        if (i % 4 == 0) rts_yield(stack);
        rts_throwTo(stack, ids[i % MODIFIERS], CAPSTAN_SMALL_INT(9));
    }
    over = 1;
    for (int i = 0; i < MODIFIERS; i++) interrupted += rts_intValue(rts_takeMVar(stack, done));
    CHECK(interrupted <= count);
    HaskellObj last = rts_takeMVar(stack, box);
    CAPSTAN_UNROOT(stack);
    return last;
}
CAPSTAN_IO(throwAtModifiers, n)
{
    HsInt count = rts_intValue(n);
    return rts_withMask(stack, RtsMaskedInterruptible, throwAtThem, &count);
}

static void testModify(void **state)
{
    HaskellObj n = CAPSTAN_SMALL_INT(many(500));
    assert_true(runWith(&throwAtModifiers_closure, n) >= 0);
    assert_true(runInThread(&throwAtModifiers_closure, n) >= 0);
}

/* ---- A masked take that got its value keeps it ---- */

static HaskellObj takeBody(Stack *stack, void *box) { return rts_takeMVar(stack, *(HaskellObj *)box); }

static _Atomic HsInt taken, interruptions;
static _Atomic bool masked;

/* Masked all the time: only a take that has to wait is interrupted, and then it has got nothing. */
static HaskellObj takeAll(Stack *stack, void *arg)
{
    HaskellObj result = CAPSTAN_UNIT, **boxAndDone = arg;
    for (masked = true;;) {
        if (!rts_try(stack, takeBody, boxAndDone[0], &result)) {
            interruptions++;
            continue;
        }
        if (rts_intValue(result) == 0) break;
        taken += rts_intValue(result);
    }
    rts_putMVar(stack, *boxAndDone[1], CAPSTAN_UNIT); /* waits for the pesterer at most, who throws no more then */
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(taker, box, done)
{
    CAPSTAN_ROOTS(stack, box, done);
    rts_withMask(stack, RtsMaskedInterruptible, takeAll, (HaskellObj *[]){ &box, &done });
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(pesterer, id, done)
{
    CAPSTAN_ROOTS(stack, id, done);
    while (!over) {
        rts_throwTo(stack, id, CAPSTAN_SMALL_INT(3));
        rts_yield(stack);
    }
    rts_putMVar(stack, done, CAPSTAN_UNIT);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(putWhilePestered, n)
{
    HsInt count = rts_intValue(n);
    HaskellObj box = rts_mkMVar(stack->cap), done = rts_mkMVar(stack->cap), id = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, box, done, id);
    over = 0;
    taken = interruptions = 0;
    masked = false;
    id = FORK(stack, taker, box, done);
    while (!masked) rts_yield(stack);
    FORK(stack, pesterer, id, done);
    while (interruptions == 0) rts_yield(stack); /* it waits for what is not there yet */
    for (HsInt i = 1; i <= count; i++) {
        rts_putMVar(stack, box, rts_int(stack, i));
        if (i % 3 == 0) rts_yield(stack);
        if (i % 50 == 0) rts_threadDelay(stack, 100);
    }
    over = 1;
    rts_threadDelay(stack, 1000);
    rts_putMVar(stack, box, CAPSTAN_SMALL_INT(0));
    for (int i = 0; i < 2; i++) rts_takeMVar(stack, done);
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, taken);
}

static void testMaskedTake(void **state)
{
    HsInt n = many(3000);
    assert_int_equal(runWith(&putWhilePestered_closure, CAPSTAN_SMALL_INT(n)), n * (n + 1) / 2);
    assert_true(interruptions > 0);
    assert_int_equal(runInThread(&putWhilePestered_closure, CAPSTAN_SMALL_INT(n)), n * (n + 1) / 2);
}

/* ---- Loops are killed at their polls, wherever they run ---- */

CAPSTAN_IO(loopForEver)
{
    for (;;) rts_poll(stack);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(allocateForEver)
{
    for (;;) {
        rts_mkMVar(stack->cap);
        rts_poll(stack);
    }
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(yieldForEver)
{
    for (;;) rts_yield(stack);
    return CAPSTAN_UNIT;
}
#define LOOPS (SLOW_BUILD ? 3 : 9)
CAPSTAN_IO(killLoops)
{
    HaskellObj ids = rts_mkArray(stack->cap, LOOPS, CAPSTAN_UNIT), id = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, ids, id);
    for (size_t i = 0; i < LOOPS; i++) {
        id = i % 3 == 0 ? FORK(stack, loopForEver) : i % 3 == 1 ? FORK(stack, allocateForEver) : FORK(stack, yieldForEver);
        rts_setElem(stack->cap, ids, i, id);
    }
    rts_threadDelay(stack, 10000);
    for (size_t i = 0; i < LOOPS; i++) {
        rts_killThread(stack, rts_getElem(ids, i));
        id = rts_getElem(ids, i);
        awaitEnd(stack, &id);
        CHECK(rts_threadStatus(id) == ThreadDied);
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_SMALL_INT(1);
}
static void testKillLoops(void **state)
{
    assert_int_equal(run(&killLoops_closure), 1);
    assert_int_equal(runInThread(&killLoops_closure, NULL), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ALL(testDuels), ALL(testMelee), FOUR(testMelee), ALL(testModify), FOUR(testModify), ALL(testMaskedTake), ALL(testKillLoops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

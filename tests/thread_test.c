/* Lightweight threads: making, switching, waiting, interrupting and losing them. */
#include <Rts.h>
#include <rts/Managed.h>
#include <rts/Threads.h>

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "os/os.h"

static unsigned capabilitiesWanted = 1;

static int setUp(void **state)
{
    RtsConfig config = RTS_CONFIG_INIT;
    config.capabilities = capabilitiesWanted;
    config.nursery_bytes = 256 * 1024;
    config.verify_heap = true;
    config.poison_from_space = true;
    config.idle_collection_us = 20000;
    return rts_start(&config, NULL, 0) == RTS_OK ? 0 : -1;
}

static int setUpTwo(void **state)
{
    capabilitiesWanted = 2;
    int result = setUp(state);
    capabilitiesWanted = 1;
    return result;
}

static int tearDown(void **state)
{
    hs_exit();
    return 0;
}

/* Run an action in an in-call; its result. */
static SchedulerStatus runStatus(HaskellObj io, HsInt *result)
{
    HaskellObj value = CAPSTAN_POISON;
    Capability *cap = rts_lock();
    rts_evalIO(&cap, io, &value);
    SchedulerStatus status = rts_getSchedStatus(cap);
    if (status == Success && result != NULL) *result = rts_getInt(value);
    rts_unlock(cap);
    return status;
}

static HsInt runInt(HaskellObj io)
{
    HsInt result = -1;
    assert_int_equal(runStatus(io, &result), Success);
    return result;
}

/* ---- Forking and joining ---- */

static _Atomic int ran;

CAPSTAN_IO(countAndPut, mvar)
{
    ran++;
    rts_putMVar(stack, mvar, CAPSTAN_UNIT);
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(forkOne)
{
    HaskellObj mvar = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, mvar);
    rts_fork(stack, rts_apply(stack->cap, &countAndPut_closure, mvar));
    rts_takeMVar(stack, mvar);
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, ran);
}

static void testForkOne(void **state)
{
    ran = 0;
    assert_int_equal(runInt(&forkOne_closure), 1);
    assert_int_equal(runInt(&forkOne_closure), 2);
}

#define MANY 3000
CAPSTAN_IO(forkMany)
{
    HaskellObj mvar = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, mvar);
    for (int i = 0; i < MANY; i++) {
        rts_fork(stack, rts_apply(stack->cap, &countAndPut_closure, mvar));
    }
    for (int i = 0; i < MANY; i++) rts_takeMVar(stack, mvar);
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, ran);
}

static void testForkMany(void **state)
{
    ran = 0;
    assert_int_equal(runInt(&forkMany_closure), MANY);
}

/* ---- Ping-pong ---- */

CAPSTAN_IO(echo, from, to, n)
{
    HsInt rounds = rts_intValue(n);
    CAPSTAN_ROOTS(stack, from, to);
    for (HsInt i = 0; i < rounds; i++) {
        HaskellObj v = rts_takeMVar(stack, from);
        rts_putMVar(stack, to, rts_int(stack, rts_intValue(v) + 1));
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(pingPong, n)
{
    HsInt rounds = rts_intValue(n), sum = 0;
    HaskellObj a = rts_mkMVar(stack->cap), b = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, a, b);
    HaskellObj args[] = { a, b, n };
    HaskellObj f = &echo_closure;
    for (int i = 0; i < 3; i++) f = rts_apply(stack->cap, f, args[i]);
    rts_fork(stack, f);
    for (HsInt i = 0; i < rounds; i++) {
        rts_putMVar(stack, a, rts_int(stack, i));
        sum += rts_intValue(rts_takeMVar(stack, b));
    }
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, sum);
}

static void testPingPong(void **state)
{
    HsInt n = 20000, result = 0;
    HaskellObj value;
    Capability *cap = rts_lock();
    rts_evalIO(&cap, rts_apply(cap, &pingPong_closure, rts_mkInt(cap, n)), &value);
    assert_int_equal(rts_getSchedStatus(cap), Success);
    result = rts_getInt(value);
    rts_unlock(cap);
    assert_int_equal(result, n * (n + 1) / 2);
}

/* The same between two unbound threads, the in-call waiting for the end. */
CAPSTAN_IO(pingPongAndPut, n, done)
{
    CAPSTAN_ROOTS(stack, done);
    HaskellObj sum = rts_runIO(stack, rts_apply(stack->cap, &pingPong_closure, n));
    rts_putMVar(stack, done, sum);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(pingPongUnbound)
{
    HaskellObj done = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, done);
    rts_fork(stack, rts_apply(stack->cap, rts_apply(stack->cap, &pingPongAndPut_closure, rts_int(stack, 20000)), done));
    HaskellObj result = rts_takeMVar(stack, done);
    CAPSTAN_UNROOT(stack);
    return result;
}

static void testPingPongUnbound(void **state) { assert_int_equal(runInt(&pingPongUnbound_closure), 20000L * 20001 / 2); }

/* ---- Time ---- */

CAPSTAN_IO(delayThenPut, us, mvar)
{
    CAPSTAN_ROOTS(stack, us, mvar);
    rts_threadDelay(stack, rts_intValue(us));
    rts_putMVar(stack, mvar, us);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

enum { STEP = 20000 }; /* microseconds */

/* None comes before its time.  That they come in order can be asked only where none was so late that the next one's time had come too. */
static bool early, late;

CAPSTAN_IO(sleepSort)
{
    HaskellObj mvar = rts_mkMVar(stack->cap);
    HsInt order = 0;
    CAPSTAN_ROOTS(stack, mvar);
    uint64_t began = osMonotonicNanos();
    for (HsInt i = 5; i > 0; i--)
        rts_fork(stack, rts_apply(stack->cap, rts_apply(stack->cap, &delayThenPut_closure, rts_int(stack, i * STEP)), mvar));
    for (int i = 0; i < 5; i++) {
        HsInt us = rts_intValue(rts_takeMVar(stack, mvar)), after = (HsInt)((osMonotonicNanos() - began) / 1000);
        early |= after < us;
        late |= after >= us + STEP;
        order = order * 10 + us / STEP;
    }
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, order);
}

static void testDelays(void **state)
{
    unsigned seen = 0;
    early = late = false;
    HsInt order = runInt(&sleepSort_closure);
    assert_false(early);
    if (!late) assert_int_equal(order, 12345);
    for (; order > 0; order /= 10) seen |= 1u << order % 10;
    assert_int_equal(seen, 0x3e); /* each of them */
}

/* ---- Exceptions ---- */

CAPSTAN_IO(waitForEver, mvar)
{
    return rts_takeMVar(stack, mvar);
}

static HaskellObj runWait(Stack *stack, void *mvar) { return rts_takeMVar(stack, *(HaskellObj *)mvar); }

CAPSTAN_IO(catchKill, mvar, done)
{
    HaskellObj result;
    CAPSTAN_ROOTS(stack, mvar, done);
    bool ok = rts_try(stack, runWait, &mvar, &result);
    rts_putMVar(stack, done, rts_int(stack, !ok && result == &capstan_ThreadKilled_closure));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(killBlocked)
{
    HaskellObj mvar = rts_mkMVar(stack->cap), done = rts_mkMVar(stack->cap), id = CAPSTAN_UNIT, result = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, mvar, done, id, result);
    id = rts_fork(stack, rts_apply(stack->cap, rts_apply(stack->cap, &catchKill_closure, mvar), done));
    while (rts_threadStatus(id) != ThreadBlockedOnMVar) rts_yield(stack);
    rts_killThread(stack, id);
    result = rts_takeMVar(stack, done);
    rts_killThread(stack, id); /* again, and after its end: nothing */
    CAPSTAN_UNROOT(stack);
    return result;
}

static void testKillBlocked(void **state) { assert_int_equal(runInt(&killBlocked_closure), 1); }

CAPSTAN_IO(loseMVar)
{
    return rts_takeMVar(stack, rts_mkMVar(stack->cap));
}

static void testDeadlock(void **state)
{
    char text[100];
    HaskellObj value;
    Capability *cap = rts_lock();
    rts_evalIO(&cap, &loseMVar_closure, &value);
    assert_int_equal(rts_getSchedStatus(cap), Killed);
    rts_showException(cap, rts_getException(cap), text, sizeof text);
    assert_string_equal(text, "thread blocked indefinitely in an MVar operation");
    rts_unlock(cap);
}

/* ---- Safe calls ---- */

static void *sleepAWhile(void *arg)
{
    usleep(20000);
    return arg;
}

static void *callBack(void *arg)
{
    *(HsInt *)arg = runInt(&forkOne_closure);
    return arg;
}

CAPSTAN_IO(callOut, mvar)
{
    static HsInt result;
    CAPSTAN_ROOTS(stack, mvar);
    void *p = rts_safeCall(stack, sleepAWhile, &result);
    p = rts_safeCall(stack, callBack, p);
    rts_putMVar(stack, mvar, rts_int(stack, *(HsInt *)p));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(forkCallOut)
{
    HaskellObj mvar = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, mvar);
    rts_fork(stack, rts_apply(stack->cap, &callOut_closure, mvar));
    HaskellObj result = rts_takeMVar(stack, mvar);
    CAPSTAN_UNROOT(stack);
    return result;
}

static void testSafeCall(void **state)
{
    ran = 0;
    assert_int_equal(runInt(&forkCallOut_closure), 1);
}

/* ---- Running in parallel ---- */

#ifdef CAPSTAN_TORTURE /* collects at each poll */
#define BURN_STEPS 2000
#else
#define BURN_STEPS 20000000
#endif
CAPSTAN_IO(burn, mvar)
{
    HsInt x = 1;
    CAPSTAN_ROOTS(stack, mvar);
    for (HsInt i = 0; i < BURN_STEPS; i++) {
        x = x * 48271 % 2147483647;
        rts_poll(stack);
    }
    rts_putMVar(stack, mvar, rts_int(stack, x));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(burnFour)
{
    HsInt sum = 0;
    HaskellObj mvar = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, mvar);
    for (int i = 0; i < 4; i++) rts_fork(stack, rts_apply(stack->cap, &burn_closure, mvar));
    for (int i = 0; i < 4; i++) sum += rts_intValue(rts_takeMVar(stack, mvar)) != 0;
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, sum);
}

static void testBurn(void **state) { assert_int_equal(runInt(&burnFour_closure), 4); }

/* ---- Leaving threads behind ---- */

CAPSTAN_IO(leaveBehind)
{
    HaskellObj mvar = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, mvar);
    for (int i = 0; i < 100; i++) rts_fork(stack, rts_apply(stack->cap, &waitForEver_closure, mvar));
    rts_yield(stack);
    for (int i = 0; i < 100; i++) rts_fork(stack, rts_apply(stack->cap, rts_apply(stack->cap, &delayThenPut_closure, rts_int(stack, 1000000000)), mvar));
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, 1);
}

static void testExitWithThreads(void **state) { assert_int_equal(runInt(&leaveBehind_closure), 1); }

/* ---- From outside ---- */

static _Atomic(HsStablePtr) outsideMVar;
CAPSTAN_IO(waitOutside)
{
    HaskellObj mvar = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, mvar);
    outsideMVar = getStablePtr((StgPtr)mvar);
    HaskellObj v = rts_takeMVar(stack, (HaskellObj)deRefStablePtr(outsideMVar));
    CAPSTAN_UNROOT(stack);
    return v;
}

static void *putOutside(void *arg)
{
    while (outsideMVar == NULL) usleep(1000);
    usleep(30000);
    hs_try_putmvar_with_value(-1, outsideMVar, CAPSTAN_SMALL_INT(42), NULL);
    return NULL;
}

static void testTryPut(void **state)
{
    pthread_t thread;
    outsideMVar = NULL;
    pthread_create(&thread, NULL, putOutside, NULL);
    assert_int_equal(runInt(&waitOutside_closure), 42);
    pthread_join(thread, NULL);
}

int main(void)
{
#define ONE(f) cmocka_unit_test_setup_teardown(f, setUp, tearDown)
#define TWO(f) { #f " on two", f, setUpTwo, tearDown, NULL }
    const struct CMUnitTest tests[] = {
        ONE(testForkOne), TWO(testForkOne), ONE(testForkMany), TWO(testForkMany),
        ONE(testPingPong), TWO(testPingPong), ONE(testPingPongUnbound), TWO(testPingPongUnbound),
        ONE(testDelays), TWO(testDelays), ONE(testKillBlocked), TWO(testKillBlocked),
        ONE(testDeadlock), TWO(testDeadlock), ONE(testSafeCall), TWO(testSafeCall),
        ONE(testBurn), TWO(testBurn), ONE(testExitWithThreads), TWO(testExitWithThreads),
        ONE(testTryPut), TWO(testTryPut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

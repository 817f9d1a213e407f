/* The managed side of sched_capstan.c. Counters are C's: relaxed, because MVars order everything that is read for a check. */
#include "sched_managed.h"
#include "next.h"
#include <rts/Threads.h>
#include <stdatomic.h>

#define BATCH 1000

static _Atomic int64_t running;
static _Atomic int64_t turn, arrived;
static _Atomic int64_t parked, released;

static int64_t addTo(_Atomic int64_t *counter, int64_t n)
{
    return atomic_fetch_add_explicit(counter, n, memory_order_relaxed) + n;
}

int64_t threadsParked(void)
{
    return atomic_load_explicit(&parked, memory_order_relaxed);
}

int64_t threadsReleased(void)
{
    return atomic_load_explicit(&released, memory_order_relaxed);
}

static HsInt intArgument(Stack *stack, HaskellObj n)
{
    return rts_intValue(rts_force(stack, n));
}

/* ---- Calls of C: a poll each thousand, as a loop owes it ------------------------------------------------------- */

CAPSTAN_IO(callUnsafe, n)
{
    HsInt count = intArgument(stack, n);
    void *seen = NULL;
    for (HsInt left = count; left > 0; left -= BATCH) {
        for (HsInt i = left < BATCH ? left : BATCH; i > 0; i--) seen = rts_unsafeCall(stack, nextAddress, seen);
        rts_poll(stack);
    }
    return rts_int(stack, (HsInt)(intptr_t)seen);
}

CAPSTAN_IO(callSafe, n)
{
    HsInt count = intArgument(stack, n);
    void *seen = NULL;
    for (HsInt i = 0; i < count; i++) seen = rts_safeCall(stack, nextAddress, seen);
    return rts_int(stack, (HsInt)(intptr_t)seen);
}

enum { THREAD_FUNCTION, THREAD_N, THREAD_RESULT, THREAD_VARIABLES };

/* Runs the function of n in a thread of its own and leaves what it gives. */
CAPSTAN_LAMBDA_IO(runAndPut, THREAD_VARIABLES)
{
    HaskellObj result = rts_freeVar(self, THREAD_RESULT);
    CAPSTAN_ROOTS(stack, result);
    HaskellObj value = rts_call(stack, rts_freeVar(self, THREAD_FUNCTION), rts_freeVar(self, THREAD_N), CAPSTAN_WORLD);
    rts_putMVar(stack, result, value);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

static HaskellObj runUnbound(Stack *stack, HaskellObj function, HaskellObj n)
{
    n = rts_force(stack, n);
    HaskellObj result = rts_mkMVar(stack->cap);
    HaskellObj variables[THREAD_VARIABLES] = {
        [THREAD_FUNCTION] = function, [THREAD_N] = n, [THREAD_RESULT] = result,
    };
    rts_fork(stack, rts_mkClosure(stack->cap, &runAndPut_info, variables));
    return rts_takeMVar(stack, result);
}

CAPSTAN_IO(callUnsafeUnbound, n)
{
    return runUnbound(stack, &callUnsafe_closure, n);
}

CAPSTAN_IO(callSafeUnbound, n)
{
    return runUnbound(stack, &callSafe_closure, n);
}

/* ---- Start and finish ------------------------------------------------------------------------------------------- */

/* The last of a batch says so. */
CAPSTAN_LAMBDA_IO(countDown, 1)
{
    if (addTo(&running, -1) == 0) rts_putMVar(stack, rts_freeVar(self, 0), CAPSTAN_UNIT);
    return CAPSTAN_UNIT;
}

static void startBatch(Stack *stack, HaskellObj body, HsInt count)
{
    CAPSTAN_ROOTS(stack, body);
    atomic_store_explicit(&running, count, memory_order_relaxed);
    for (HsInt i = 0; i < count; i++) {
        rts_fork(stack, body);
        rts_poll(stack);
    }
    CAPSTAN_UNROOT(stack);
}

CAPSTAN_IO(startThreads, n)
{
    HsInt count = intArgument(stack, n), seen = 0;
    HaskellObj done = rts_mkMVar(stack->cap), body = rts_mkClosure(stack->cap, &countDown_info, &done);
    CAPSTAN_ROOTS(stack, done, body);
    rts_poll(stack);
    while (seen < count) {
        HsInt batch = count - seen < BATCH ? count - seen : BATCH;
        startBatch(stack, body, batch);
        rts_takeMVar(stack, done);
        seen += batch - atomic_load_explicit(&running, memory_order_relaxed);
    }
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, seen);
}

/* ---- Switching by yield ----------------------------------------------------------------------------------------- */

enum { YIELD_ME, YIELD_COUNT, YIELD_DONE, YIELD_VARIABLES };

/* Begins when both are there: else the first could be done before its maker comes to make the second. */
CAPSTAN_LAMBDA_IO(yieldInTurn, YIELD_VARIABLES)
{
    HsInt me = rts_intValue(rts_freeVar(self, YIELD_ME)), count = rts_intValue(rts_freeVar(self, YIELD_COUNT)), seen = 0;
    HaskellObj done = rts_freeVar(self, YIELD_DONE);
    CAPSTAN_ROOTS(stack, done);
    for (addTo(&arrived, 1); addTo(&arrived, 0) < 2; ) rts_yield(stack);
    for (HsInt i = 0; i < count; i++) {
        if (atomic_load_explicit(&turn, memory_order_relaxed) != me) {
            atomic_store_explicit(&turn, me, memory_order_relaxed);
            seen++;
        }
        rts_yield(stack);
    }
    rts_putMVar(stack, done, rts_int(stack, seen));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(switchByYield, n)
{
    HsInt count = intArgument(stack, n), seen = 0;
    HaskellObj done = rts_mkMVar(stack->cap);
    atomic_store_explicit(&arrived, 0, memory_order_relaxed);
    for (HsInt me = 1; me <= 2; me++) {
        HaskellObj variables[YIELD_VARIABLES] = {
            [YIELD_ME] = rts_int(stack, me), [YIELD_COUNT] = rts_int(stack, count / 2), [YIELD_DONE] = done,
        };
        rts_forkOn(stack, 0, rts_mkClosure(stack->cap, &yieldInTurn_info, variables));
    }
    CAPSTAN_ROOTS(stack, done);
    seen += rts_intValue(rts_takeMVar(stack, done));
    seen += rts_intValue(rts_takeMVar(stack, done));
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, seen);
}

/* ---- Switching by MVar ------------------------------------------------------------------------------------------ */

enum { BALL_THERE, BALL_BACK, BALL_ROUNDS, BALL_DONE, BALL_VARIABLES };

/* Serves rounds times; what comes back last has been counted up at each return. */
static HaskellObj serveBalls(Stack *stack, HaskellObj there, HaskellObj back, HsInt rounds)
{
    HaskellObj ball = CAPSTAN_SMALL_INT(0);
    CAPSTAN_ROOTS(stack, there, back);
    for (HsInt i = 0; i < rounds; i++) {
        rts_putMVar(stack, there, ball);
        ball = rts_takeMVar(stack, back);
    }
    CAPSTAN_UNROOT(stack);
    return ball;
}

CAPSTAN_LAMBDA_IO(serve, BALL_VARIABLES)
{
    HaskellObj done = rts_freeVar(self, BALL_DONE);
    CAPSTAN_ROOTS(stack, done);
    HaskellObj last = serveBalls(stack, rts_freeVar(self, BALL_THERE), rts_freeVar(self, BALL_BACK),
                                 rts_intValue(rts_freeVar(self, BALL_ROUNDS)));
    rts_putMVar(stack, done, last);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

CAPSTAN_LAMBDA_IO(returnBalls, BALL_VARIABLES)
{
    HaskellObj there = rts_freeVar(self, BALL_THERE), back = rts_freeVar(self, BALL_BACK);
    HsInt rounds = rts_intValue(rts_freeVar(self, BALL_ROUNDS));
    CAPSTAN_ROOTS(stack, there, back);
    for (HsInt i = 0; i < rounds; i++) {
        HsInt ball = rts_intValue(rts_takeMVar(stack, there));
        rts_putMVar(stack, back, rts_int(stack, ball + 1));
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* Not a safepoint: the variables stay where they are until a thread has them. */
static void makeGame(Stack *stack, HsInt switches, HaskellObj *variables)
{
    variables[BALL_THERE] = rts_mkMVar(stack->cap);
    variables[BALL_BACK] = rts_mkMVar(stack->cap);
    variables[BALL_ROUNDS] = rts_int(stack, switches / 2);
    variables[BALL_DONE] = rts_mkMVar(stack->cap);
}

static HaskellObj playUnbound(Stack *stack, HsInt switches, bool together)
{
    HaskellObj variables[BALL_VARIABLES];
    makeGame(stack, switches, variables);
    HaskellObj returner = rts_mkClosure(stack->cap, &returnBalls_info, variables);
    HaskellObj server = rts_mkClosure(stack->cap, &serve_info, variables);
    if (together) {
        rts_forkOn(stack, 0, returner);
        rts_forkOn(stack, 0, server);
    } else {
        rts_fork(stack, returner);
        rts_fork(stack, server);
    }
    HsInt last = rts_intValue(rts_takeMVar(stack, variables[BALL_DONE]));
    return rts_int(stack, last * 2);
}

CAPSTAN_IO(switchByMVar, n)
{
    return playUnbound(stack, intArgument(stack, n), false);
}

CAPSTAN_IO(switchByMVarTogether, n)
{
    return playUnbound(stack, intArgument(stack, n), true);
}

CAPSTAN_IO(switchBound, n)
{
    HsInt switches = intArgument(stack, n);
    HaskellObj variables[BALL_VARIABLES];
    makeGame(stack, switches, variables);
    rts_fork(stack, rts_mkClosure(stack->cap, &returnBalls_info, variables));
    HaskellObj last = serveBalls(stack, variables[BALL_THERE], variables[BALL_BACK], switches / 2);
    return rts_int(stack, rts_intValue(last) * 2);
}

/* ---- Parked threads --------------------------------------------------------------------------------------------- */

CAPSTAN_CAF(gate)
{
    return rts_mkMVar(stack->cap);
}

/* Filled by the last thread that comes to the gate, and by the last that has passed it. */
CAPSTAN_CAF(milestone)
{
    return rts_mkMVar(stack->cap);
}

/* Its free variable: how many threads there are. */
CAPSTAN_LAMBDA_IO(park, 1)
{
    CAPSTAN_ROOTS(stack, self);
    HsInt count = rts_intValue(rts_freeVar(self, 0));
    if (addTo(&parked, 1) == count) rts_putMVar(stack, rts_force(stack, &milestone_closure), CAPSTAN_UNIT);
    rts_takeMVar(stack, rts_force(stack, &gate_closure));
    count = rts_intValue(rts_freeVar(self, 0));
    if (addTo(&released, 1) == count) rts_putMVar(stack, rts_force(stack, &milestone_closure), CAPSTAN_UNIT);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(parkThreads, n)
{
    n = rts_force(stack, n);
    HsInt count = rts_intValue(n);
    HaskellObj body = rts_mkClosure(stack->cap, &park_info, &n);
    CAPSTAN_ROOTS(stack, body);
    for (HsInt i = 0; i < count; i++) {
        rts_fork(stack, body);
        rts_poll(stack);
    }
    CAPSTAN_UNROOT(stack);
    rts_takeMVar(stack, rts_force(stack, &milestone_closure));
    return rts_int(stack, threadsParked());
}

CAPSTAN_IO(releaseThreads, n)
{
    HsInt count = intArgument(stack, n);
    for (HsInt i = 0; i < count; i++) rts_putMVar(stack, rts_force(stack, &gate_closure), CAPSTAN_UNIT);
    rts_takeMVar(stack, rts_force(stack, &milestone_closure));
    return rts_int(stack, threadsReleased());
}

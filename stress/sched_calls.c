/* stress/sched: the steps of scripts that wait, call C, or come back from there. */
#include "sched.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

/* ---- Waiting, and being in the way ----------------------------------------------------------------------------------- */

uint64_t nowMicroseconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

void stepYield(Stack *stack, Actor *actor) { rts_yield(stack); }
void stepAllow(Stack *stack, Actor *actor) { rts_allowInterrupt(stack); }

void stepDelay(Stack *stack, Actor *actor)
{
    HsInt us = (HsInt)below(&actor->slot->random, oneIn(&actor->slot->random, 10) ? 5000 : 300);
    uint64_t began = nowMicroseconds();
    rts_threadDelay(stack, us);
    EXPECT(actor->scene, nowMicroseconds() + 1 >= began + (uint64_t)us, "a delay of %ld us took %ld", (long)us,
           (long)(nowMicroseconds() - began));
}

void stepSpin(Stack *stack, Actor *actor)
{
    for (unsigned i = POLLS(below(&actor->slot->random, 20000)); i > 0; i--) rts_poll(stack);
}

static HaskellObj idle(Stack *stack, void *arg)
{
    Actor *actor = arg;
    for (unsigned i = below(&actor->slot->random, 4); i > 0; i--) {
        if (oneIn(&actor->slot->random, 2)) rts_yield(stack);
        else stepSpin(stack, actor);
    }
    return CAPSTAN_UNIT;
}

void stepUnmask(Stack *stack, Actor *actor)
{
    rts_withMask(stack, RtsUnmasked, idle, actor);
    EXPECT(actor->scene, rts_getMaskingState(stack) == RtsMaskedInterruptible, "actor %d: the mask did not come back",
           actor->number);
}

/* Garbage, and a little that lives across a few safepoints. */
CAPSTAN_CON(SchedCell, 8, number, next)

void stepAllocate(Stack *stack, Actor *actor)
{
    HaskellObj list = CAPSTAN_UNIT;
    unsigned n = below(&actor->slot->random, 3000);
    CAPSTAN_ROOTS(stack, list);
    for (unsigned i = 0; i < n; i++) {
        HaskellObj cell = SchedCell_new(stack->cap, CAPSTAN_SMALL_INT(i), list);
        if (cell != CAPSTAN_POISON) list = cell;
        if (i % 64 == 0) rts_poll(stack);
    }
    HsInt last = n - 1;
    for (; CAPSTAN_IS(SchedCell, list); list = CAPSTAN_GET(SchedCell, list, next))
        EXPECT(actor->scene, rts_intValue(CAPSTAN_GET(SchedCell, list, number)) == last--, "a list has changed");
    CAPSTAN_UNROOT(stack);
}

/* Nobody but this actor knows the MVar: it is an exception, or a throw, that ends this. */
void stepLose(Stack *stack, Actor *actor)
{
    HaskellObj mvar = rts_mkMVar(stack->cap);
    if (oneIn(&actor->slot->random, 2)) rts_takeMVar(stack, mvar);
    else rts_readMVar(stack, mvar);
    fail(actor->scene, "actor %d: a value came out of an MVar that nobody knows", actor->number);
}

/* ---- Safe calls ------------------------------------------------------------------------------------------------------- */

static void *sleepInC(void *arg)
{
    Errand *errand = arg;
    Scene *scene = errand->scene;
    atomic_fetch_add(&scene->inC, 1);
    if (oneIn(&errand->random, 3)) usleep(below(&errand->random, 1500));
    errno = 1234;
    atomic_fetch_sub(&scene->inC, 1);
    return arg;
}

__attribute__((noinline)) int errnoNow(void) { return errno; }

void *callOut(Stack *stack, Actor *actor, void *(*fn)(void *), Errand *errand)
{
    *errand = (Errand){ actor->scene, nextRandom(&actor->slot->random) };
    return rts_safeCall(stack, fn, errand);
}

void stepCall(Stack *stack, Actor *actor)
{
    Errand errand;
    EXPECT(actor->scene, callOut(stack, actor, sleepInC, &errand) == &errand && errnoNow() == 1234, "a safe call lost its result");
}

static void *collectInC(void *arg)
{
    Errand *errand = arg;
    atomic_fetch_add(&errand->scene->inC, 1);
    if (game.mode == RESTART_CALM) hs_perform_gc();
    atomic_fetch_sub(&errand->scene->inC, 1);
    return arg;
}

void stepCollect(Stack *stack, Actor *actor)
{
    Errand errand;
    callOut(stack, actor, collectInC, &errand);
}

/* C that was called calls in, as an actor of its own. */
static void *nestInC(void *arg)
{
    Errand *errand = arg;
    atomic_fetch_add(&errand->scene->inC, 1);
    Capability *cap = rts_lock();
    if (!rts_isDead(cap)) joinScene(errand->scene, &cap, ACTOR_NESTED, nextRandom(&errand->random), NULL);
    rts_unlock(cap);
    atomic_fetch_sub(&errand->scene->inC, 1);
    return arg;
}

void stepNest(Stack *stack, Actor *actor)
{
    Errand errand;
    callOut(stack, actor, nestInC, &errand);
}

/* ---- From outside ----------------------------------------------------------------------------------------------------- */

typedef struct { Errand errand; HsStablePtr mvar; } Delivery;

static void *deliverInC(void *arg)
{
    Delivery *delivery = arg;
    Scene *scene = delivery->errand.scene;
    atomic_fetch_add(&scene->inC, 1);
    hs_try_putmvar_with_value((int)below(&delivery->errand.random, 4) - 1, delivery->mvar, CAPSTAN_SMALL_INT(4711), NULL);
    atomic_fetch_sub(&scene->inC, 1);
    return arg;
}

/* The answer is put from C, maybe before it is waited for. */
void stepOutside(Stack *stack, Actor *actor)
{
    HaskellObj mvar = rts_mkMVar(stack->cap);
    Delivery delivery = { { actor->scene, nextRandom(&actor->slot->random) }, getStablePtr((StgPtr)mvar) };
    if (delivery.mvar == NULL) return;
    CAPSTAN_ROOTS(stack, mvar);
    if (oneIn(&actor->slot->random, 2)) {
        rts_safeCall(stack, deliverInC, &delivery);
    } else {
        hs_try_putmvar_with_value(-1, delivery.mvar, CAPSTAN_SMALL_INT(4711), NULL);
    }
    HaskellObj answer = rts_takeMVar(stack, mvar);
    CAPSTAN_UNROOT(stack);
    EXPECT(actor->scene, answer == CAPSTAN_SMALL_INT(4711), "the answer from outside is %p", (void *)answer);
}

/* Bytes through a pipe: one is written, or one is waited for. */
void stepPipe(Stack *stack, Actor *actor)
{
    char byte = 'x';
    if (oneIn(&actor->slot->random, 2)) {
        if (oneIn(&actor->slot->random, 4)) rts_threadWaitWrite(stack, actor->scene->pipe[1]);
        if (write(actor->scene->pipe[1], &byte, 1) == 1) atomic_fetch_add(&actor->scene->written, 1);
    } else {
        rts_threadWaitRead(stack, actor->scene->pipe[0]);
        if (read(actor->scene->pipe[0], &byte, 1) == 1) atomic_fetch_add(&actor->scene->read, 1);
    }
}

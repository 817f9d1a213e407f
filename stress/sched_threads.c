/* stress/sched: the steps of scripts that need threads of other kinds, or time limits, or look at others. */
#include "sched.h"

#include <errno.h>
#include <time.h>

/* ---- Time limits -------------------------------------------------------------------------------------------------------- */

#define WITHIN_ANSWER 31337
#define MAX_WITHIN 3

/* A few steps of the same script, inside rts_timeout. */
CAPSTAN_IO(schedWithin, ptr)
{
    Actor *actor = rts_getPtr(ptr);
    for (unsigned i = 1 + below(&actor->slot->random, 3); i > 0; i--) playStep(stack, actor);
    return CAPSTAN_SMALL_INT(WITHIN_ANSWER);
}

void stepTimeout(Stack *stack, Actor *actor)
{
    if (actor->within == MAX_WITHIN) return;
    HsInt us = oneIn(&actor->slot->random, 20) ? -1 : (HsInt)below(&actor->slot->random, oneIn(&actor->slot->random, 4) ? 5000 : 300);
    uint64_t began = nowMicroseconds();
    HaskellObj result = CAPSTAN_UNIT;
    actor->within++;
    bool ok = rts_timeout(stack, us, rts_apply(stack->cap, &schedWithin_closure, rts_mkPtr(stack->cap, actor)), &result);
    actor->within--;
    if (ok) {
        EXPECT(actor->scene, result == CAPSTAN_SMALL_INT(WITHIN_ANSWER), "what ran within %ld us gave %p", (long)us, (void *)result);
    } else {
        undoStep(actor, -1);
        EXPECT(actor->scene, us >= 0 && nowMicroseconds() + 1 >= began + (uint64_t)us, "a timeout of %ld us came after %ld", (long)us,
               (long)(nowMicroseconds() - began));
    }
}

/* ---- Bound threads ------------------------------------------------------------------------------------------------------ */

void stepForkOS(Stack *stack, Actor *actor)
{
    int number = claimSlot(actor->scene, ACTOR_FORKED_OS, nextRandom(&actor->slot->random), NULL);
    if (number < 0) return;
    HaskellObj id = rts_forkOS(stack, actionOf(stack->cap, &schedActor_closure, actor->scene, number, actor->board));
    EXPECT(actor->scene, rts_getThreadId(id) != 0, "rts_forkOS gave no ThreadId");
}

void stepBound(Stack *stack, Actor *actor)
{
    bool bound = rts_isCurrentThreadBound(stack), unbound = actor->slot->kind == ACTOR_FORKED || actor->slot->kind == ACTOR_SUBMITTED;
    EXPECT(actor->scene, bound != unbound, "actor %d is %sbound", actor->number, bound ? "" : "not ");
    /* A bound one would run it itself: two actors in one thread. */
    int number = bound ? -1 : claimSlot(actor->scene, ACTOR_BOUND, nextRandom(&actor->slot->random), NULL);
    if (number < 0) return;
    HaskellObj result = rts_runInBoundThread(stack, actionOf(stack->cap, &schedActor_closure, actor->scene, number, actor->board));
    EXPECT(actor->scene, result == CAPSTAN_UNIT, "rts_runInBoundThread gave %p", (void *)result);
}

/* ---- Leaving in the middle ------------------------------------------------------------------------------------------------ */

static void *leaveFromC(void *arg)
{
    BEFORE_LEAVING();
    pthread_exit(arg);
}

/* The OS thread of a leaver was made for its in-call only. */
void stepLeave(Stack *stack, Actor *actor)
{
    if (actor->slot->kind != ACTOR_LEAVER) return;
    actor->ending = true;
    endActor(stack, actor);
    if (oneIn(&actor->slot->random, 2)) rts_safeCall(stack, leaveFromC, NULL);
    leaveFromC(NULL);
}

/* ---- Calls that can be broken off ---------------------------------------------------------------------------------------- */

static void *sleepBreakably(void *arg)
{
    Scene *scene = arg;
    struct timespec time = { 0, 300 * 1000 * 1000 };
    atomic_fetch_add(&scene->inC, 1);
    int e = nanosleep(&time, NULL) == 0 ? 0 : errno;
    atomic_fetch_sub(&scene->inC, 1);
    errno = e;
    return arg;
}

void stepBreak(Stack *stack, Actor *actor)
{
    void *result = rts_interruptibleCall(stack, sleepBreakably, actor->scene);
    int e = errnoNow();
    EXPECT(actor->scene, result == actor->scene && (e == 0 || e == EINTR), "an interruptible call ended with errno %d", e);
}

/* ---- Threads that are not prepared for anything ------------------------------------------------------------------------- */

/* Unmasked from the beginning: killed before it runs, while it runs, or while it waits for what never comes. */
CAPSTAN_IO(schedFly, how, board)
{
    CAPSTAN_ROOTS(stack, board);
    switch (rts_intValue(how)) {
    case 0: rts_takeMVar(stack, rts_mkMVar(stack->cap)); break;
    case 1: rts_threadDelay(stack, 50000); break;
    case 2: rts_force(stack, rts_getElem(board, BOARD_PAIR)); break;
    case 3: break;
    default:
        for (unsigned i = POLLS(200000); i > 0; i--) rts_poll(stack);
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

static HaskellObj forkFly(Stack *stack, void *arg)
{
    Actor *actor = arg;
    HaskellObj io = rts_apply(stack->cap, &schedFly_closure, CAPSTAN_SMALL_INT(below(&actor->slot->random, 5)));
    return rts_fork(stack, rts_apply(stack->cap, io, actor->board));
}

static bool hasEnded(HaskellObj id)
{
    RtsThreadStatus status = rts_threadStatus(id);
    return status == ThreadDied || status == ThreadFinished;
}

/* The rest of its life takes no time, but may have to wait for its turn. */
static void awaitFly(Stack *stack, Actor *actor, HaskellObj *id)
{
    for (unsigned tries = 0; tries < 3000; tries++) {
        if (hasEnded(*id)) return;
        if (tries < 10) rts_yield(stack);
        else rts_threadDelay(stack, 1000);
    }
    fail(actor->scene, "a thread that was killed has the status %d", (int)rts_threadStatus(*id));
}

void stepSwat(Stack *stack, Actor *actor)
{
    HaskellObj id = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, id);
    id = rts_withMask(stack, RtsUnmasked, forkFly, actor);
    rts_labelThread(id, FLY_LABEL);
    if (oneIn(&actor->slot->random, 2)) rts_yield(stack);
    rts_killThread(stack, id);
    awaitFly(stack, actor, &id);
    CAPSTAN_UNROOT(stack);
}

/* ---- Looking at others --------------------------------------------------------------------------------------------------- */

static void lookAt(const Scene *scene, HaskellObj id)
{
    bool movable;
    RtsThreadStatus status = rts_threadStatus(id);
    EXPECT(scene, rts_getThreadId(id) != 0, "a ThreadId has no number");
    EXPECT(scene, (unsigned)status <= ThreadBlockedOnOther, "a thread's status is %d", (int)status);
    EXPECT(scene, rts_threadCapability(id, &movable) < 1024, "a thread is on capability %u", rts_threadCapability(id, NULL));
}

void stepLook(Stack *stack, Actor *actor)
{
    Scene *scene = actor->scene;
    HaskellObj me = rts_myThreadId(stack), all = rts_listThreads(stack->cap);
    bool found = false;
    EXPECT(scene, rts_threadStatus(me) == ThreadRunning, "a running thread's status is %d", (int)rts_threadStatus(me));
    rts_labelThread(me, "actor");
    for (size_t i = 0, n = all == CAPSTAN_POISON ? 0 : rts_arrayLength(all); i < n; i++) {
        lookAt(scene, rts_getElem(all, i));
        found |= rts_getElem(all, i) == me;
    }
    EXPECT(scene, found || all == CAPSTAN_POISON, "actor %d is not in the list of all threads", actor->number);
}

/* A bound thread that waits lends its OS thread, and its capability, to others. */
#include "arch.h"
#include "exception.h"
#include "rts/Threads.h"
#include "run.h"
#include "schedule.h"
#include "throwto.h"
#include "worker.h"

/* Something to be interrupted by, and allowed to. */
static bool isToBeInterrupted(Stack *stack)
{
    return atomic_load_explicit(&stack->tso->pending, memory_order_relaxed) != 0 && stack->mask != MASKED_UNINTERRUPTIBLE;
}

/* Sleep on the Task's bell until the thread can go on, has to look at what is pending, or its runtime ended: NULL.  Or until a capability has work that no worker
 * can come for; helps: not only when rung, but at once. */
static Capability *sleepUntilRung(Stack *stack, bool helps)
{
    InCall *incall = incallOfStack(stack);
    Task *task = incall->task;
    Capability *orphaned = NULL;
    bool willing = !task->noHosting;
    for (;; helps = willing) {
        uint32_t bell = atomic_load_explicit(&task->bell, memory_order_acquire);
        /* Pairs with ringTask, and with callHost. */
        atomic_exchange_explicit(&task->sleeping, willing ? SLEEPS_WILLING : SLEEPS, memory_order_seq_cst);
        if (!isWaiting(stack->tso) || isToBeInterrupted(stack) || incall->epoch != currentEpoch || numCapabilities == 0) break;
        if (helps && (orphaned = findOrphanedWork(task)) != NULL) break;
        osFutexWait(&task->bell, bell, -1);
    }
    atomic_store_explicit(&task->sleeping, SLEEPS_NOT, memory_order_relaxed);
    return orphaned;
}

static void beginHosting(Task *task, Capability *cap, unsigned turns)
{
    cap->hostReady = false;
    atomic_store_explicit(&cap->hostNext, false, memory_order_relaxed);
    cap->hostTurns = turns;
    /* Pairs with wakeBound: it sees where we host, or we see that the wait is over. */
    atomic_exchange_explicit(&task->hosting, cap, memory_order_seq_cst);
}

void endHosting(Task *task, Capability *cap)
{
    atomic_store_explicit(&task->hosting, NULL, memory_order_relaxed);
    cap->hostReady = false;
    atomic_store_explicit(&cap->hostNext, false, memory_order_relaxed);
    cap->hostTurns = 0;
}

/* Give the capability up, sleep, and get one again. */
static void sleepWithout(Stack *stack, bool helps)
{
    Task *task = incallOfStack(stack)->task;
    endHosting(task, stack->cap);
    suspendThread(stack);
    noteIdle();
    Capability *orphaned = sleepUntilRung(stack, helps);
    if (orphaned != NULL) task->last = orphaned;
    regainThread(stack);
}

static _Noreturn void leaveEnding(Stack *stack)
{
    endHosting(incallOfStack(stack)->task, stack->cap);
    /* Other capabilities are not stopped yet: nobody there is to find the thread in a queue or list, and hand something over to a later one in its record,
     * or take its exception for another. */
    leaveWait(stack->tso);
    setRunningStack(stack->cap, stack);
    raiseToBase(stack, CAPSTAN_SHUTDOWN);
}

/* A hosted thread forked inside an unsafe call, and this is the child. */
static _Noreturn void leaveForked(Task *task, Stack *stack)
{
    task->hosting = NULL;
    stack->cap = &deadInterrupted;
    raiseToBase(stack, CAPSTAN_SHUTDOWN);
}

/* Others may sleep further down this OS thread's stack: their place to come back to stays, whichever way this one is left. */
static RunResult runHosted(Task *task, Stack *stack)
{
    void *sp = task->home.sp;
    RunResult result = runThreads(task, stack->tso);
    task->home.sp = sp;
    if (result == RUN_LEFT) leaveForked(task, stack);
    return result;
}

/* Turns for the others, the thread itself being ready to go on. */
static void takeTurns(Stack *stack)
{
    Task *task = incallOfStack(stack)->task;
    RunResult result = runHosted(task, stack);
    if (result == RUN_ENDING) leaveEnding(stack);
    endHosting(task, stack->cap);
    setRunningStack(stack->cap, stack);
    bool forWorkers = isNextForWorkers(stack->cap);
    if (!forWorkers && (result == RUN_OWN_TURN || (result == RUN_OUT && !hasWork(stack->cap)))) return;
    /* Wanted by others, or the next one is for workers: time for one to come. */
    if (!yieldFor(stack, result == RUN_MAKE_WAY ? 0 : 20000)) raiseToBase(stack, CAPSTAN_SHUTDOWN);
}

/* A stop, or a hand-over: afterwards there may still be somebody to run. */
static void makeWay(Stack *stack)
{
    endHosting(incallOfStack(stack)->task, stack->cap);
    setRunningStack(stack->cap, stack);
    if (!yieldFor(stack, 0)) raiseToBase(stack, CAPSTAN_SHUTDOWN);
}

static void hostUntilWoken(Stack *stack)
{
    Task *task = incallOfStack(stack)->task;
    while (isWaiting(stack->tso)) {
        if (isToBeInterrupted(stack) && interruptWait(stack->tso)) break;
        uint32_t switches = stack->cap->switches;
        beginHosting(task, stack->cap, 0);
        RunResult result = task->noHosting ? RUN_OUT : runHosted(task, stack);
        if (result == RUN_ENDING) leaveEnding(stack);
        /* Where it could do nothing it does not look again at once. */
        if (result == RUN_OUT) sleepWithout(stack, !task->noHosting && stack->cap->switches != switches);
        else if (result == RUN_MAKE_WAY) makeWay(stack);
    }
    endHosting(task, stack->cap);
    setRunningStack(stack->cap, stack);
}

void hostOthers(Stack *stack, unsigned turns)
{
    Task *task = incallOfStack(stack)->task;
    carryDebts(stack->cap, stack->tso);
    if (turns == 0) {
        hostUntilWoken(stack);
    } else if (task->noHosting) {
        if (!yieldFor(stack, 20000)) raiseToBase(stack, CAPSTAN_SHUTDOWN);
    } else {
        beginHosting(task, stack->cap, turns);
        takeTurns(stack);
    }
}

/* stress/sched: an actor's life. */
#include "sched.h"

Step *const stepTable[STEPS] = {
    [STEP_TAKE] = stepTake,         [STEP_PUT] = stepPut,   [STEP_TRY_TAKE] = stepTryTake, [STEP_TRY_PUT] = stepTryPut,
    [STEP_READ] = stepRead,         [STEP_MINT] = stepMint, [STEP_BURN] = stepBurn,        [STEP_THUNK] = stepThunk,
    [STEP_THROW] = stepThrow,       [STEP_FORK] = stepFork, [STEP_LOCK] = stepLock,        [STEP_UNMASK] = stepUnmask,
    [STEP_ALLOW] = stepAllow,       [STEP_YIELD] = stepYield, [STEP_DELAY] = stepDelay,    [STEP_SPIN] = stepSpin,
    [STEP_ALLOCATE] = stepAllocate, [STEP_CALL] = stepCall, [STEP_NEST] = stepNest,        [STEP_COLLECT] = stepCollect,
    [STEP_OUTSIDE] = stepOutside,   [STEP_PIPE] = stepPipe, [STEP_LOSE] = stepLose,        [STEP_LOOP] = stepLoop,
    [STEP_TIMEOUT] = stepTimeout,   [STEP_FORK_OS] = stepForkOS, [STEP_BOUND] = stepBound, [STEP_BREAK] = stepBreak,
    [STEP_LOOK] = stepLook,         [STEP_BUDGET] = stepBudget, [STEP_CANCEL] = stepCancel, [STEP_LIMIT] = stepLimit,
    [STEP_SWAT] = stepSwat,         [STEP_SUBMIT] = stepSubmit, [STEP_LEAVE] = stepLeave,
};

/* ---- The script ---------------------------------------------------------------------------------------------------- */

static StepKind drawStep(const Scene *scene, uint64_t *random)
{
    uint64_t sum = 0;
    for (int i = 0; i < STEPS; i++) sum += scene->weights[i];
    uint64_t at = nextRandom(random) % sum;
    for (int i = 0; i < STEPS; i++) {
        if (at < scene->weights[i]) return (StepKind)i;
        at -= scene->weights[i];
    }
    return STEP_YIELD;
}

void playStep(Stack *stack, Actor *actor)
{
    Slot *slot = actor->slot;
    atomic_fetch_add_explicit(&slot->done, 1, memory_order_relaxed);
    StepKind kind = drawStep(actor->scene, &slot->random);
    atomic_store_explicit(&slot->doing, (int)kind, memory_order_relaxed);
    stepTable[kind](stack, actor);
    noteStep(actor->scene->owner);
}

static HaskellObj playSteps(Stack *stack, void *arg)
{
    Actor *actor = arg;
    while (actor->slot->done < actor->slot->steps) playStep(stack, actor);
    return CAPSTAN_UNIT;
}

/* ---- What it catches ----------------------------------------------------------------------------------------------- */

CAPSTAN_CON(SchedThrow, 7, serial)

HaskellObj newThrow(Stack *stack, int serial)
{
    HaskellObj small = CAPSTAN_SMALL_INT(serial), boxed = serial % 2 == 0 ? SchedThrow_new(stack->cap, small) : small;
    return boxed == CAPSTAN_POISON ? small : boxed;
}

int throwOf(HaskellObj exception)
{
    if (CAPSTAN_IS(SchedThrow, exception)) exception = CAPSTAN_GET(SchedThrow, exception, serial);
    return rts_isSmallInt(exception) ? (int)rts_smallIntValue(exception) : -1;
}

void undoStep(Actor *actor, int received)
{
    if (actor->putting) moveToken(actor->scene, actor->token, IN_MVAR, actor->number);
    actor->putting = false;
    if (actor->throwing < 0) return;
    /* Its own throw, if that was at itself. */
    atomic_store(&actor->scene->throws[actor->throwing].outcome,
                 actor->throwing == received ? THROW_RETURNED : THROW_INTERRUPTED);
    actor->throwing = -1;
}

bool receiveThrow(Scene *scene, int number, int serial)
{
    if (serial >= (int)atomic_load(&scene->thrown) || serial >= MAX_THROWS) {
        fail(scene, "actor %d received throw %d, which there was not", number, serial);
        return false;
    }
    Throw *throw = &scene->throws[serial];
    int before = atomic_fetch_add(&throw->received, 1);
    EXPECT(scene, before == 0, "actor %d received throw %d for the %dth time", number, serial, before + 1);
    EXPECT(scene, throw->target == number || number < 0, "actor %d received throw %d, which was for actor %d", number, serial, throw->target);
    return throw->last;
}

/* The end of a budget: it may go on for a while all the same. */
static bool receiveVerdict(Actor *actor, SchedulerStatus status)
{
    if (status == LimitExceeded && actor->slot->limited) return true;
    if (!termsAllow(actor->slot->terms, status)) return false;
    if (oneIn(&actor->slot->random, 4)) return true;
    actor->slot->verdict = status;
    return actor->ending = true;
}

/* Exceptions of the runtime's own, which its step may have asked for. */
static void receiveOther(Actor *actor, Stack *stack, HaskellObj exception)
{
    char text[200];
    StepKind kind = (StepKind)atomic_load(&actor->slot->doing);
    if (exception == &capstan_BlockedIndefinitelyOnMVar_closure && kind == STEP_LOSE) return;
    if (exception == &capstan_NonTermination_closure && kind == STEP_LOOP) return;
    if (receiveVerdict(actor, statusFor(exception))) return;
    rts_showException(stack->cap, exception, text, sizeof text);
    fail(actor->scene, "actor %d (step %s) got the exception \"%s\"", actor->number, stepNames[kind], text);
}

void receiveException(Actor *actor, Stack *stack, HaskellObj exception)
{
    int serial = throwOf(exception);
    undoStep(actor, serial);
    actor->within = 0;
    if (actor->slot->limited) rts_enableAllocationLimit(stack, false);
    EXPECT(actor->scene, rts_getMaskingState(stack) == RtsMaskedInterruptible, "actor %d: the mask is %d after an exception",
           actor->number, (int)rts_getMaskingState(stack));
    if (serial >= 0) actor->ending |= receiveThrow(actor->scene, actor->number, serial) || oneIn(&actor->slot->random, 3);
    else receiveOther(actor, stack, exception);
}

/* ---- Its end ------------------------------------------------------------------------------------------------------- */

/* The owner looks again: without waiting, for it may wait for this very thread. */
void ringOwner(Stack *stack, HaskellObj board) { rts_tryPutMVar(stack, rts_getElem(board, BOARD_BELL), CAPSTAN_UNIT); }

void endActor(Stack *stack, Actor *actor)
{
    if (actor->token >= 0) retireToken(actor->scene, actor->token, actor->number);
    actor->token = -1;
    atomic_store(&actor->slot->end, actor->ending ? END_THROWN : END_SCRIPT);
    atomic_store(&actor->slot->ended, true);
    atomic_fetch_add(&actor->scene->ended, 1);
    ringOwner(stack, actor->board);
    noteStep(actor->scene->owner);
}

void playActor(Stack *stack, Scene *scene, int number, HaskellObj board)
{
    Actor actor = { .scene = scene, .slot = &scene->slots[number], .number = number, .board = board, .hand = CAPSTAN_UNIT, .token = -1,
                    .throwing = -1 };
    CAPSTAN_ROOTS(stack, actor.board, actor.hand);
    EXPECT(scene, rts_getMaskingState(stack) == RtsMaskedInterruptible, "actor %d begins with the mask %d", number,
           (int)rts_getMaskingState(stack));
    if (!scene->lost) { /* who can be thrown at is not lost */
        rts_setElem(stack->cap, actor.board, BOARD_ACTORS + (size_t)number, rts_myThreadId(stack));
        atomic_store(&actor.slot->registered, true);
    }
    while (!actor.ending && actor.slot->done < actor.slot->steps) {
        HaskellObj result;
        if (!rts_try(stack, playSteps, &actor, &result)) receiveException(&actor, stack, result);
    }
    endActor(stack, &actor);
    CAPSTAN_UNROOT(stack);
}

typedef struct { Scene *scene; int number; HaskellObj board; } Entrance;

static HaskellObj enter(Stack *stack, void *arg)
{
    Entrance *e = arg;
    playActor(stack, e->scene, e->number, e->board);
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(schedActor, scene, number, board)
{
    Entrance e = { rts_getPtr(scene), (int)rts_intValue(number), board };
    return rts_withMask(stack, RtsMaskedInterruptible, enter, &e);
}

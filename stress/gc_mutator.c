/* stress/gc: one mutator: its roots, its steps, its life. */
#include "gc.h"

#include <string.h>

Step *const stepTable[STEPS] = {
    [STEP_NEW] = stepNew,              [STEP_WRITE] = stepWrite,          [STEP_CAS] = stepCas,              [STEP_ELEM] = stepElem,
    [STEP_FILL] = stepFill,            [STEP_MOVE] = stepMove,            [STEP_COPY] = stepCopy,            [STEP_DROP] = stepDrop,
    [STEP_STABLE] = stepStable,        [STEP_GARBAGE] = stepGarbage,      [STEP_POLL] = stepPoll,            [STEP_MINOR] = stepMinor,
    [STEP_MAJOR] = stepMajor,          [STEP_COMPARE] = stepCompare,      [STEP_FORCE] = stepForce,          [STEP_CALL] = stepCall,
    [STEP_TAIL] = stepTail,            [STEP_RAISE] = stepRaise,          [STEP_PUT] = stepPut,              [STEP_TAKE] = stepTake,
    [STEP_PARK] = stepPark,            [STEP_SLEEPER] = stepSleeper,      [STEP_TALK] = stepTalk,            [STEP_THROW] = stepThrow,
    [STEP_FORK] = stepFork,            [STEP_LIST] = stepList,            [STEP_YIELD] = stepYield,          [STEP_DELAY] = stepDelay,
    [STEP_NEST] = stepNest,            [STEP_BOUND] = stepBound,          [STEP_SUBMIT] = stepSubmit,        [STEP_STABLE_IO] = stepStableIO,
    [STEP_TIMEOUT] = stepTimeout,      [STEP_LONG] = stepLong,            [STEP_BALLAST] = stepBallast,      [STEP_SEND] = stepSend,
    [STEP_RECEIVE] = stepReceive,      [STEP_PUSH] = stepPush,            [STEP_POP] = stepPop,              [STEP_STALL] = stepStall,
    [STEP_SHARED] = stepShared,        [STEP_CAF] = stepCaf,              [STEP_WEAK] = stepWeak,
};

const bool stepIsManaged[STEPS] = {
    [STEP_CALL] = true, [STEP_TAIL] = true, [STEP_RAISE] = true, [STEP_PUT] = true, [STEP_TAKE] = true, [STEP_PARK] = true,
    [STEP_SLEEPER] = true, [STEP_TALK] = true, [STEP_THROW] = true, [STEP_YIELD] = true, [STEP_DELAY] = true, [STEP_NEST] = true,
    [STEP_BOUND] = true, [STEP_SUBMIT] = true, [STEP_TIMEOUT] = true, [STEP_SEND] = true, [STEP_RECEIVE] = true,
};

/* ---- Steps --------------------------------------------------------------------------------------------------------- */

#define STEPS_TO_SWEEP 128

static StepKind drawStep(At *at)
{
    Mutator *m = at->m;
    uint64_t sum = 0;
    if (m->live > options.live / (m->isInner ? 4 : 1) && oneIn(&m->random, 2)) return STEP_DROP;
    for (int i = 0; i < STEPS; i++) sum += at->stack == NULL && stepIsManaged[i] ? 0 : options.weights[i];
    if (sum == 0) return STEP_POLL;
    uint64_t where = below(&m->random, sum);
    for (int i = 0; i < STEPS; i++) {
        uint64_t weight = at->stack == NULL && stepIsManaged[i] ? 0 : options.weights[i];
        if (where < weight) return (StepKind)i;
        where -= weight;
    }
    return STEP_POLL;
}

bool isRoundOver(const Mutator *m) { return atomic_load(&game.stop) || (options.steps != 0 && m->stepsDone >= options.steps); }

static void makeStep(At *at)
{
    Mutator *m = at->m;
    compareIfCollected(at);
    StepKind kind = drawStep(at);
    atomic_store_explicit(&m->doing, (int)kind, memory_order_relaxed);
    stepTable[kind](at);
    compareIfCollected(at);
    if (++m->stepsDone % STEPS_TO_SWEEP == 0) sweepMirror(m);
    atomic_fetch_add_explicit(&m->progress, 1, memory_order_relaxed);
}

static void makeSteps(At *at, uint64_t steps)
{
    for (; steps > 0 && !isRoundOver(at->m); steps--) {
        makeStep(at);
        pollAt(at);
    }
}

/* ---- Roots --------------------------------------------------------------------------------------------------------- */

void beginRound(Mutator *m, uint64_t seed)
{
    clearMirror(m);
    m->random = numberOf(seed, 2 * m->number + m->isInner);
    m->stepsDone = 0;
    m->compared = 0;
    atomic_store(&m->ended, false);
    if (m->inner != NULL) beginRound(m->inner, seed);
}

static void beginRoots(At *at)
{
    Mutator *m = at->m;
    uint32_t table = newNode(m, NODE_ARRAY, &capstan_ARRAY_info, TABLE);
    at->roots[0] = rts_mkArray(capOf(at), TABLE, CAPSTAN_UNIT);
    DEMAND(m, at->roots[0] != CAPSTAN_POISON, "no memory for an array");
    for (int i = 0; i < TABLE; i++) nodeAt(m, table)->edges[i] = edgeToValue(CAPSTAN_UNIT);
    m->roots[0] = edgeToNode(table);
    for (int i = 1; i < ROOTS; i++) {
        m->roots[i] = edgeToValue(CAPSTAN_UNIT);
        at->roots[i] = CAPSTAN_UNIT;
    }
}

static void loadRoots(At *at)
{
    Mutator *m = at->m;
    if (m->roots[0] == NO_EDGE) {
        beginRoots(at);
        return;
    }
    for (int i = 0; i < ROOTS; i++)
        at->roots[i] = m->keep[i] != NULL ? (HaskellObj)deRefStablePtr(m->keep[i]) : (HaskellObj)m->roots[i];
}

/* What is still the same keeps its stable pointer. */
static void storeRoots(At *at)
{
    Mutator *m = at->m;
    for (int i = 0; i < ROOTS; i++) {
        HaskellObj v = resolveValue(at->roots[i]);
        if (m->keep[i] != NULL && resolveValue((HaskellObj)deRefStablePtr(m->keep[i])) == v) continue;
        if (m->keep[i] != NULL) freeStablePtr(m->keep[i]);
        m->keep[i] = NULL;
        /* As its words are now: a thunk that is done may be gone after the next collection. */
        m->roots[i] = resolveEdge(m, m->roots[i]);
        if (isNodeEdge(m->roots[i])) m->keep[i] = getStablePtr((StgPtr)v);
    }
}

/* ---- C threads ----------------------------------------------------------------------------------------------------- */

typedef struct { Mutator *m; uint64_t steps; bool drop; } Job;

static void doJob(At *at, const Job *job)
{
    loadRoots(at);
    if (job->drop) {
        compareAll(at);
        dropAll(at);
    } else {
        makeSteps(at, job->steps);
    }
    storeRoots(at);
}

CAPSTAN_IO(gcWork, where)
{
    Job *job = rts_getPtr(where);
    HaskellObj roots[ROOTS] = { ALL_ROOTS(((HaskellObj[ROOTS]){ NULL })) };
    for (int i = 0; i < ROOTS; i++) roots[i] = CAPSTAN_UNIT;
    At at = { job->m, stack, NULL, roots };
    CAPSTAN_ROOTS(stack, ALL_ROOTS(roots));
    doJob(&at, job);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

static void workInC(Capability **cap, const Job *job)
{
    HaskellObj roots[ROOTS];
    for (int i = 0; i < ROOTS; i++) roots[i] = CAPSTAN_UNIT;
    At at = { job->m, NULL, cap, roots };
    CAPSTAN_ROOTS(*cap, ALL_ROOTS(roots));
    doJob(&at, job);
    CAPSTAN_UNROOT(*cap);
}

static void callWith(Mutator *m, Job *job, bool managed)
{
    Capability *cap = rts_lock();
    DEMAND(m, !rts_isDead(cap), "rts_lock gives a dead capability");
    if (managed) {
        HaskellObj action = rts_apply(cap, &gcWork_closure, rts_mkPtr(cap, job));
        rts_evalIO(&cap, action, NULL);
        SchedulerStatus status = rts_getSchedStatus(cap);
        if (status != Success) {
            char text[200];
            rts_showException(cap, rts_getException(cap), text, sizeof text);
            die(m, "an in-call ended with status %d: %s", (int)status, text);
        }
    } else {
        workInC(&cap, job);
    }
    rts_unlock(cap);
}

void callIn(Mutator *m, uint64_t steps)
{
    Job job = { m, steps, false };
    callWith(m, &job, !oneIn(&m->random, 3));
}

void dropKept(Mutator *m)
{
    Job job = { m, 0, true };
    callWith(m, &job, false);
    for (int i = 0; i < ROOTS; i++)
        if (m->keep[i] != NULL) freeStablePtr(m->keep[i]);
    memset(m->keep, 0, sizeof m->keep);
}

void runInCalls(Mutator *m)
{
    while (!isRoundOver(m)) {
        if (oneIn(&m->random, 8)) rts_setInCallCapability((int)below(&m->random, options.capabilities + 1) - 1, 0);
        if (oneIn(&m->random, 16)) rts_setInCallHosting(!oneIn(&m->random, 4));
        callIn(m, 1 + below(&m->random, 80));
        if (majorIn(&m->random, 400)) majorFromOutside(NULL);
        if (oneIn(&m->random, 30)) hs_thread_done();
        if (oneIn(&m->random, 20)) sleepMicroseconds(below(&m->random, 300));
    }
}

/* ---- Managed threads ----------------------------------------------------------------------------------------------- */

CAPSTAN_IO(gcManaged, where)
{
    Mutator *m = rts_getPtr(where);
    HaskellObj roots[ROOTS];
    for (int i = 0; i < ROOTS; i++) roots[i] = CAPSTAN_UNIT;
    At at = { m, stack, NULL, roots };
    CAPSTAN_ROOTS(stack, ALL_ROOTS(roots));
    beginRoots(&at);
    while (!isRoundOver(m)) {
        makeSteps(&at, 1 + below(&m->random, 80));
        if (oneIn(&m->random, 4)) rts_yield(stack);
    }
    compareAll(&at);
    if (!atomic_load(&game.abrupt)) dropAll(&at);
    CAPSTAN_UNROOT(stack);
    atomic_store(&m->ended, true);
    return CAPSTAN_UNIT;
}

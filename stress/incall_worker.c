/* stress/incall: the worker threads, and one call with its outcome. */
#include "incall.h"

/* ---- Random numbers (splitmix64: any seed will do, and neighbours give unrelated streams) --------------------------- */

uint64_t nextRandom(Worker *worker)
{
    uint64_t z = (worker->random += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

int64_t randomBetween(Worker *worker, int64_t low, int64_t high)
{
    return low + (int64_t)(nextRandom(worker) % (uint64_t)(high - low + 1));
}

bool oneIn(Worker *worker, unsigned n)
{
    return nextRandom(worker) % n == 0;
}

void noteStep(Worker *worker)
{
    for (; worker != NULL; worker = worker->host) atomic_fetch_add_explicit(&worker->steps, 1, memory_order_relaxed);
}

void seedWorker(Worker *worker, unsigned number, uint64_t stream)
{
    worker->number = number;
    worker->random = options.seed ^ (stream * 0xd1342543de82ef95u);
    nextRandom(worker);
}

/* ---- Outcomes ------------------------------------------------------------------------------------------------------ */

void addOutcomes(Outcomes *to, const Outcomes *from)
{
    to->begun += from->begun;
    to->succeeded += from->succeeded;
    to->killed += from->killed;
    to->exhausted += from->exhausted;
    to->interrupted += from->interrupted;
    to->refused += from->refused;
    to->busy += from->busy;
}

void dropVisitor(Worker *visitor, Worker *host)
{
    addOutcomes(&host->outcomes, &visitor->outcomes);
    host->committed += visitor->committed;
    host->counted += visitor->counted;
}

static void countOutcome(Outcomes *outcomes, SchedulerStatus status)
{
    switch (status) {
    case Success: outcomes->succeeded++; break;
    case Killed: outcomes->killed++; break;
    case HeapExhausted: outcomes->exhausted++; break;
    case Interrupted: outcomes->interrupted++; break;
    case Refused: outcomes->refused++; break;
    default: break;
    }
}

bool mayBeInterrupted(uint64_t phaseAtBegin)
{
    return phaseAtBegin % 2 != 0 || atomic_load(&game.phase) != phaseAtBegin;
}

bool mayBeExhausted(void)
{
    return game.limited;
}

static const char *nameStatus(SchedulerStatus status)
{
    static const char *const names[] = { "NoStatus", "Success", "Killed", "Interrupted", "HeapExhausted", "Refused" };
    return (unsigned)status < sizeof names / sizeof *names ? names[status] : "a status that is none";
}

bool judgeStatus(Call *call, SchedulerStatus expected)
{
    Worker *worker = call->worker;
    SchedulerStatus status = call->status = rts_getSchedStatus(call->cap);
    noteStep(worker);
    worker->outcomes.begun++;
    countOutcome(&worker->outcomes, status);
    EXPECT(worker, status == Success || call->result == CAPSTAN_POISON, "the result of a call that ended %s is %p",
           nameStatus(status), (void *)call->result);
    if (status == expected) return true;
    bool allowed = (status == HeapExhausted && mayBeExhausted()) ||
                   ((status == Interrupted || status == Refused) && mayBeInterrupted(call->phase));
    if (allowed) return false;
    char text[200] = "";
    if (status == Killed) rts_showException(call->cap, rts_getException(call->cap), text, sizeof text);
    fail(worker, "a call ended %s (%s) instead of %s", nameStatus(status), text, nameStatus(expected));
    return false;
}

/* ---- One call ------------------------------------------------------------------------------------------------------ */

static void noteRefusal(Worker *worker, uint64_t phase, RtsStatus why)
{
    worker->outcomes.begun++;
    worker->outcomes.refused++;
    noteStep(worker);
    EXPECT(worker, mayBeInterrupted(phase) && (why == RTS_CLOSED || why == RTS_NOT_STARTED),
           "refused a capability with %s", rts_statusName(why));
}

bool beginCall(Worker *worker, Call *call)
{
    *call = (Call){ .worker = worker, .phase = atomic_load(&game.phase), .result = CAPSTAN_UNIT };
    call->cap = rts_lock();
    if (!rts_isDead(call->cap)) return true;
    noteRefusal(worker, call->phase, rts_getRefusal(call->cap));
    /* A dead capability must bear everything. */
    rts_evalIO(&call->cap, rts_apply(call->cap, &stressCommit_closure, rts_mkInt(call->cap, 1)), &call->result);
    EXPECT(worker, rts_getSchedStatus(call->cap) == Refused && rts_getInt(call->result) == 0,
           "a dead capability evaluated something");
    rts_unlock(call->cap);
    return false;
}

void endCall(Call *call)
{
    rts_unlock(call->cap);
}

bool evalPure(Call *call, HaskellObj value, SchedulerStatus expected)
{
    rts_evalIO(&call->cap, rts_apply(call->cap, (HaskellObj)runNonIO_closure, value), &call->result);
    return judgeStatus(call, expected);
}

bool evalAction(Call *call, HaskellObj action, SchedulerStatus expected)
{
    rts_evalIO(&call->cap, rts_apply(call->cap, (HaskellObj)runIO_closure, action), &call->result);
    return judgeStatus(call, expected);
}

/* ---- A worker's life ----------------------------------------------------------------------------------------------- */

static void (*const actions[ACTIONS])(Worker *) = {
    [ACTION_PLAIN] = actPlain,     [ACTION_VALUES] = actValues, [ACTION_RAISE] = actRaise,   [ACTION_CATCH] = actCatch,
    [ACTION_HOG] = actHog,         [ACTION_NEST] = actNest,     [ACTION_BURROW] = actBurrow, [ACTION_STABLE] = actStable,
    [ACTION_GC] = actCollect,      [ACTION_SHARED] = actShared, [ACTION_CAF] = actCaf,       [ACTION_FRAGILE] = actFragile,
    [ACTION_BYTES] = actBytes,     [ACTION_COUNTER] = actCounter, [ACTION_VISIT] = actVisit, [ACTION_POLL] = actPoll,
    [ACTION_DEEP] = actDeep,       [ACTION_TRY] = actTry,       [ACTION_LIST] = actList,     [ACTION_PREFER] = actPrefer,
};

void performAction(Worker *worker, ActionKind kind)
{
    atomic_store_explicit(&worker->doing, (int)kind, memory_order_relaxed);
    actions[kind](worker);
    noteStep(worker);
}

ActionKind chooseAction(Worker *worker)
{
    uint64_t sum = 0;
    for (int i = 0; i < ACTIONS; i++) sum += options.weights[i];
    uint64_t at = nextRandom(worker) % sum;
    for (int i = 0; i < ACTIONS; i++) {
        if (at < options.weights[i]) return (ActionKind)i;
        at -= options.weights[i];
    }
    return ACTION_PLAIN;
}

void *runWorker(void *arg)
{
    Worker *worker = arg;
    do {
        while (!roundIsOver(worker)) {
            performAction(worker, chooseAction(worker));
            worker->iterations++;
            worker->roundIterations++;
            if (oneIn(worker, 500)) hs_thread_done();
        }
    } while (waitForNextRound(worker));
    return NULL;
}

/* stress/sched: in-calls with a budget, who cancels them, and allocation limits. */
#include "sched.h"

/* ---- Terms ---------------------------------------------------------------------------------------------------------------- */

/* Where an in-call's name is for who cancels it.  Used again when far more others were used than there are at a time. */
typedef struct Ticket {
    _Atomic RtsInCallHandle handle;
    _Atomic bool cancelled; /* somebody has tried */
} Ticket;
#define TICKETS 4096
#define RECENT_TICKETS 16
static Ticket tickets[TICKETS];
static _Atomic unsigned ticketsUsed;

static Ticket *newTicket(void)
{
    Ticket *ticket = &tickets[atomic_fetch_add(&ticketsUsed, 1) % TICKETS];
    atomic_store(&ticket->handle, 0);
    atomic_store(&ticket->cancelled, false);
    return ticket;
}

void drawTerms(Terms *terms, RtsLockOpts *opts, uint64_t *random)
{
    *opts = (RtsLockOpts)RTS_LOCK_OPTS_INIT;
    *terms = (Terms){ .deadline = UINT64_MAX, .ticket = oneIn(random, 3) ? NULL : newTicket() };
    if (oneIn(random, 2)) {
        opts->deadline_us = (HsInt64)below(random, oneIn(random, 3) ? 20000 : 500);
        terms->deadline = nowMicroseconds() + (uint64_t)opts->deadline_us;
    }
    if (oneIn(random, 3)) terms->limit = opts->alloc_limit_bytes = 10000 + below(random, 300000);
    opts->no_wait = terms->noWait = oneIn(random, 4);
    /* The runtime stores there while others read. */
    if (terms->ticket != NULL) opts->handle = (RtsInCallHandle *)(void *)&terms->ticket->handle;
}

static bool wasCancelled(const Terms *terms) { return terms->ticket != NULL && atomic_load(&terms->ticket->cancelled); }

bool termsAllow(const Terms *terms, SchedulerStatus status)
{
    if (terms == NULL) return false;
    switch (status) {
    case TimedOut: return nowMicroseconds() + 1 >= terms->deadline;
    case Cancelled: return wasCancelled(terms);
    case LimitExceeded: return terms->limit != 0;
    default: return false;
    }
}

SchedulerStatus statusFor(HaskellObj exception)
{
    return exception == &capstan_TimedOut_closure ? TimedOut
           : exception == &capstan_Cancelled_closure ? Cancelled
           : exception == &capstan_AllocationLimitExceeded_closure ? LimitExceeded
           : NoStatus;
}

/* ---- The in-call ---------------------------------------------------------------------------------------------------------- */

void raiseVerdict(Stack *stack, const Slot *slot)
{
    if (slot->verdict == TimedOut) rts_raise(stack, &capstan_TimedOut_closure);
    if (slot->verdict == Cancelled) rts_raise(stack, &capstan_Cancelled_closure);
    if (slot->verdict == LimitExceeded) rts_raise(stack, &capstan_AllocationLimitExceeded_closure);
}

/* An actor that ends with what ended its budget. */
CAPSTAN_IO(schedBudgeted, ptr, number, board)
{
    Slot *slot = &((Scene *)rts_getPtr(ptr))->slots[rts_intValue(number)];
    rts_runIO(stack, actionOf(stack->cap, &schedActor_closure, rts_getPtr(ptr), (int)rts_intValue(number), board));
    raiseVerdict(stack, slot);
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(schedPoll)
{
    rts_poll(stack);
    return CAPSTAN_UNIT;
}

/* Time that is up, and a cancellation, end each evaluation of the in-call. */
static void expectOver(Scene *scene, Capability **cap, SchedulerStatus first)
{
    if (first != TimedOut && first != Cancelled) return;
    rts_evalIO(cap, &schedPoll_closure, NULL);
    SchedulerStatus status = rts_getSchedStatus(*cap);
    EXPECT(scene, status == TimedOut || status == Cancelled || (status == Killed && throwOf(rts_getException(*cap)) >= 0) ||
           (status == Interrupted && mayBeInterrupted(scene->phase)),
           "an in-call's first evaluation ended with status %d, the next with %d", (int)first, (int)status);
    if (status == Killed) receiveThrow(scene, -1, throwOf(rts_getException(*cap)));
}

/* The runtime's answer, where it has none to give. */
static void judgeRefusal(Scene *scene, const Terms *terms, uint64_t phase, RtsStatus status)
{
    bool right = status == RTS_TIMED_OUT   ? nowMicroseconds() + 1 >= terms->deadline
                 : status == RTS_CANCELLED ? wasCancelled(terms)
                 : status == RTS_BUSY      ? terms->noWait
                                           : (status == RTS_CLOSED || status == RTS_NOT_STARTED) && mayBeInterrupted(phase);
    EXPECT(scene, right, "rts_lockOpt answers %s", rts_statusName(status));
}

bool joinWithin(Scene *scene, ActorKind kind, uint64_t random)
{
    Capability *cap;
    RtsLockOpts opts;
    Terms terms;
    uint64_t phase = atomic_load(&game.phase);
    drawTerms(&terms, &opts, &random);
    RtsStatus refusal = rts_lockOpt(&cap, &opts);
    bool joined = false;
    EXPECT(scene, (refusal == RTS_OK) == !rts_isDead(cap), "rts_lockOpt answers %s, with a capability that is %s",
           rts_statusName(refusal), rts_isDead(cap) ? "dead" : "alive");
    if (refusal != RTS_OK) {
        judgeRefusal(scene, &terms, phase, refusal);
    } else if ((joined = joinScene(scene, &cap, kind, random, &terms))) {
        expectOver(scene, &cap, rts_getSchedStatus(cap));
    }
    rts_unlock(cap);
    if (terms.ticket != NULL)
        EXPECT(scene, !rts_cancel(atomic_load(&terms.ticket->handle)), "an in-call that has ended can be cancelled");
    return joined;
}

static void *joinInC(void *arg)
{
    Errand *errand = arg;
    atomic_fetch_add(&errand->scene->inC, 1);
    joinWithin(errand->scene, ACTOR_NESTED, errand->random);
    atomic_fetch_sub(&errand->scene->inC, 1);
    return arg;
}

void stepBudget(Stack *stack, Actor *actor)
{
    Errand errand;
    callOut(stack, actor, joinInC, &errand);
}

void stepCancel(Stack *stack, Actor *actor)
{
    unsigned used = atomic_load(&ticketsUsed);
    Ticket *ticket = &tickets[(used - 1 - below(&actor->slot->random, RECENT_TICKETS)) % TICKETS];
    RtsInCallHandle handle = atomic_load(&ticket->handle);
    if (handle == 0) return;
    atomic_store(&ticket->cancelled, true);
    rts_cancel(handle);
}

/* ---- Allocation limits ---------------------------------------------------------------------------------------------------- */

static HaskellObj allocateMuch(Stack *stack, void *arg)
{
    for (unsigned i = 0; i < 200000; i++) {
        rts_mkBytes(stack->cap, NULL, 64);
        if (i % 32 == 0) rts_poll(stack);
    }
    return CAPSTAN_UNIT;
}

/* A budget has its own limit, which this would overwrite. */
void stepLimit(Stack *stack, Actor *actor)
{
    if (actor->slot->terms != NULL) return;
    actor->slot->limited = true;
    rts_setAllocationCounter(stack, (HsInt64)below(&actor->slot->random, 200000));
    rts_enableAllocationLimit(stack, true);
    rts_withMask(stack, RtsUnmasked, allocateMuch, NULL);
    fail(actor->scene, "actor %d allocated more than its limit", actor->number);
}

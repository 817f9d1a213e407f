#include "timeout.h"

#include "arch.h"
#include "budget.h"
#include "exception.h"
#include "os/memory.h"
#include "os/os.h"
#include "rts/Threads.h"
#include "throwto.h"

#include <string.h>

static const char *const timeoutFields[] = { "number" };
const StgInfoTable capstan_Timeout_info = { CLOSURE_CON, 0, 0, 1, 0, 10, NULL, "Timeout", timeoutFields };

/* ---- When time is up ---- */

static Timeout *timeoutOfJob(Job *job) { return (Timeout *)(void *)((char *)job - offsetof(Timeout, job)); }

/* cap: NULL: the runtime ended. */
static void runJob(Capability *cap, Job *job)
{
    Timeout *t = timeoutOfJob(job);
    uint32_t posted = TIMEOUT_POSTED;
    /* Acquire, release: pair with freeTimeout; the record, or the thread's, is the other's from here on, or ours. */
    if (!atomic_compare_exchange_strong_explicit(&t->state, &posted, TIMEOUT_AT_WORK, memory_order_acq_rel, memory_order_acquire)) {
        rtsFree(t);
        return;
    }
    if (cap != NULL) pendException(cap, t->tso, PENDING_TIMER);
    atomic_store_explicit(&t->state, TIMEOUT_QUIET, memory_order_release);
}

/* On the timekeeper. */
static void fireTimeout(Timer *timer)
{
    Timeout *t = (Timeout *)timer;
    /* Release: pairs with takeTimeout. */
    atomic_store_explicit(&t->due, true, memory_order_release);
    if (isBound(t->tso)) {
        pendFromOutside(t->tso, PENDING_TIMER);
        return;
    }
    atomic_store_explicit(&t->state, TIMEOUT_POSTED, memory_order_relaxed);
    if (!postJob(t->where, &t->job)) atomic_store_explicit(&t->state, TIMEOUT_QUIET, memory_order_relaxed);
}

HaskellObj takeTimeout(StgTSO *tso)
{
    Timeout *found = NULL;
    bool more = false;
    /* The bit first: what becomes due afterwards sets it again. */
    atomic_fetch_and_explicit(&tso->pending, ~(uint32_t)PENDING_TIMER, memory_order_seq_cst);
    for (Timeout *t = tso->timeouts; t != NULL; t = t->outer) {
        if (!atomic_load_explicit(&t->due, memory_order_acquire)) continue;
        more = found != NULL;
        found = t;
    }
    if (found == NULL) return NULL;
    atomic_store_explicit(&found->due, false, memory_order_relaxed);
    found->raised = true;
    if (more) atomic_fetch_or_explicit(&tso->pending, PENDING_TIMER, memory_order_relaxed);
    return found->exception;
}

/* ---- Records ---- */

/* Nothing comes of it any more when this returns. */
static void freeTimeout(Timeout *t)
{
    cancelTimer(&t->timer);
    for (unsigned tries = 0;; tries++) {
        uint32_t state = TIMEOUT_POSTED;
        if (atomic_compare_exchange_strong_explicit(&t->state, &state, TIMEOUT_ABANDONED, memory_order_acq_rel, memory_order_acquire))
            return;
        if (state == TIMEOUT_QUIET) break;
        /* Who has it is at a safepoint of a capability of its own, and does not wait for us. */
        if (tries < 100) archRelax();
        else osYieldThread();
    }
    rtsFree(t);
}

void freeTimeouts(StgTSO *tso)
{
    /* Exit, and the thread that comes back from C into an ended runtime, may both be here: one has them. */
    for (Timeout *t = __atomic_exchange_n(&tso->timeouts, NULL, __ATOMIC_ACQ_REL), *outer; t != NULL; t = outer) {
        outer = t->outer;
        freeTimeout(t);
    }
}

static Timeout *newTimeout(Stack *stack)
{
    static _Atomic uint64_t numbers;
    HaskellObj exception = rts_allocateCon(stack->cap, &capstan_Timeout_info, 1);
    Timeout *t = exception == CAPSTAN_POISON ? NULL : rtsMalloc(sizeof *t);
    if (t == NULL) return NULL;
    exception->payload[0] = CAPSTAN_SMALL_INT((HsInt)atomic_fetch_add_explicit(&numbers, 1, memory_order_relaxed));
    *t = (Timeout){ .timer.fire = fireTimeout, .job.run = runJob, .outer = stack->tso->timeouts, .tso = stack->tso, .where = stack->cap->no, .exception = exception };
    return t;
}

/* ---- The operation ---- */

static HaskellObj runTimed(Stack *stack, void *io) { return rts_runIO(stack, *(HaskellObj *)io); }

/* From the return of rts_try to the end of the record there is no safepoint: the exception arrives inside, or not at all. */
static bool runWithin(Stack *stack, Timeout *t, HaskellObj io, HaskellObj *result)
{
    CAPSTAN_ROOTS(stack, io);
    bool ok = rts_try(stack, runTimed, &io, result);
    CAPSTAN_UNROOT(stack);
    bool expired = !ok && *result == t->exception;
    ASSERT(stack->tso->timeouts == t);
    stack->tso->timeouts = t->outer;
    freeTimeout(t);
    if (stack->tso->timeouts == NULL) atomic_fetch_and_explicit(&stack->tso->pending, ~(uint32_t)PENDING_TIMER, memory_order_relaxed);
    if (!ok && !expired) rts_raise(stack, *result);
    return ok;
}

bool rts_timeout(Stack *stack, HsInt64 microseconds, HaskellObj io, HaskellObj *result)
{
    if (microseconds == 0) return false;
    if (microseconds < 0) {
        *result = rts_runIO(stack, io);
        return true;
    }
    Timeout *t = newTimeout(stack);
    if (t == NULL) rts_raise(stack, &capstan_HeapOverflow_closure);
    stack->tso->timeouts = t;
    if (!startTimer(&t->timer, deadlineAfter(microseconds))) {
        stack->tso->timeouts = t->outer;
        rtsFree(t);
        rts_raiseError(stack, "rts_timeout: no memory, or no thread, for a timer");
    }
    return runWithin(stack, t, io, result);
}

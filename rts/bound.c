/* Bound threads other than those of hosts' in-calls.
 *
 * rts_forkOS makes an OS thread that does what a thread of a host would do: an in-call.  rts_runInBoundThread needs none: a safe call that makes an in-call is
 * bound to the worker that it is on. */
#include "bound.h"

#include "body.h"
#include "exception.h"
#include "incall.h"
#include "language.h"
#include "os/memory.h"
#include "os/os.h"
#include "rts/Threads.h"
#include "run.h"
#include "stable_ptr.h"
#include "throwto.h"

/* What C of these threads may use: as much as on a worker. */
#define BOUND_STACK ((size_t)8 << 20)

/* One OS thread.  Made by the forker, freed by the thread. */
typedef struct OsFork_ {
    struct OsFork_ *next;         /* [lock: bound] */
    InCall *incall;               /* [lock: bound] the outermost; NULL: not yet */
    Job job;                      /* for bad news */
    HsStablePtr io, mvar;         /* what to run; where to put its ThreadId */
    HsStablePtr word;             /* the forker's thread word; NULL: none */
    uint32_t mask;
} OsFork;

static struct {
    Lock lock;
    OsFork *all;                  /* [lock: bound] */
    _Atomic uint32_t leaving;     /* futex word: rung when one ends */
} bounds = { .lock = LOCK_INIT(RANK_BOUND) };

/* ---- What both have in common ---- */

/* The maker's thread word on its way into an in-call.  false: no memory for it. */
static bool sendWord(Stack *stack, HsStablePtr *word)
{
    HaskellObj v = wordOf(stack->tso);
    *word = v == CAPSTAN_UNIT ? NULL : newStablePtr(v);
    return v == CAPSTAN_UNIT || *word != NULL;
}
static void dropWord(HsStablePtr *word)
{
    if (*word != NULL) dropStablePtr(*word);
    *word = NULL;
}
static bool receiveWord(StgTSO *tso, HsStablePtr *word)
{
    bool ok = *word == NULL || setWordSlow(tso, readStablePtr(*word));
    dropWord(word);
    return ok;
}

/* Evaluate the action io in the in-call that holds *cap, beginning in a masking state.  false: there is no capability any more. */
static bool runInMask(Capability **cap, uint32_t mask, HaskellObj io, HaskellObj *value)
{
    InCall *incall = getMyTask()->incall;
    setMask(&incall->stack, mask);
    rts_evalLazyIO(cap, io, value);
    if ((*cap)->dead != RTS_OK) return false;
    setMask(&incall->stack, UNMASKED);
    return true;
}

/* ---- The list ---- */

static void linkFork(OsFork *f)
{
    acquireLock(&bounds.lock);
    f->next = bounds.all;
    bounds.all = f;
    releaseLock(&bounds.lock);
}

/* It may not be there: a forked child has forgotten the list. */
static void unlinkFork(OsFork *f)
{
    acquireLock(&bounds.lock);
    OsFork **link = &bounds.all;
    while (*link != NULL && *link != f) link = &(*link)->next;
    if (*link != NULL) *link = f->next;
    releaseLock(&bounds.lock);
    atomic_fetch_add_explicit(&bounds.leaving, 1, memory_order_release);
    osFutexWake(&bounds.leaving, INT32_MAX);
}

static bool isAnyInside(void)
{
    bool any = false;
    acquireLock(&bounds.lock);
    for (OsFork *f = bounds.all; f != NULL && !any; f = f->next)
        any = f->incall == NULL || whyOf(&f->incall->tso) != ThreadBlockedOnCCall;
    releaseLock(&bounds.lock);
    return any;
}

void awaitBoundThreads(void)
{
    for (;;) {
        uint32_t seen = atomic_load_explicit(&bounds.leaving, memory_order_acquire);
        if (!isAnyInside()) return;
        osFutexWait(&bounds.leaving, seen, 100 * 1000 * 1000);
    }
}

void forgetBoundThreads(void)
{
    renewLock(&bounds.lock);
    bounds.all = NULL;
}

/* ---- The new thread's side ---- */

static void dropFork(OsFork *f)
{
    dropStablePtr(f->io);
    dropStablePtr(f->mvar);
    dropWord(&f->word);
    rtsFree(f);
}

/* There is not even the memory for an in-call: somebody else tells the forker. */
static void tellFailure(Capability *cap, Job *job)
{
    OsFork *f = (OsFork *)(void *)((char *)job - offsetof(OsFork, job));
    HaskellObj mvar = readStablePtr(f->mvar); /* nothing, if the runtime is another by now */
    if (cap != NULL && !rts_isImmediate(mvar) && rts_info(mvar)->kind == CLOSURE_MVAR)
        tryPutMVar(cap, (StgMVar *)mvar, CAPSTAN_UNIT);
    dropFork(f);
}

/* The in-call, from its ThreadId to the report of how it ended. */
static void runFork(Capability **cap, OsFork *f)
{
    InCall *incall = getMyTask()->incall;
    HaskellObj id = threadHandle(*cap, &incall->tso), value;
    /* Without memory for the ThreadId nothing is run, and the forker gets the exception. */
    bool known = receiveWord(&incall->tso, &f->word) && id != CAPSTAN_POISON;
    tryPutMVar(*cap, (StgMVar *)readStablePtr(f->mvar), known ? id : CAPSTAN_UNIT);
    HaskellObj io = readStablePtr(f->io);
    dropStablePtr(f->mvar);
    dropStablePtr(f->io);
    if (!known || !runInMask(cap, f->mask, io, &value)) return;
    if (incall->status <= Success || incall->status == Interrupted) return;
    reportUncaught(*cap, &incall->tso, incall->exception);
    endThread(*cap, &incall->tso, ThreadDied);
}

static void runOsFork(void *arg)
{
    OsFork *f = arg;
    Capability *cap = lockQuietly();
    RtsStatus refused = cap->dead;
    if (refused == RTS_OK) {
        acquireLock(&bounds.lock);
        f->incall = getMyTask()->incall;
        getMyTask()->fork = f;
        releaseLock(&bounds.lock);
        runFork(&cap, f);
        if (cap->dead == RTS_OK) rts_unlock(cap);
    }
    freeMyTask();
    unlinkFork(f);
    if (refused == RTS_NO_MEMORY && postJob(0, &f->job)) return;
    rtsFree(f);
}

void loseFork(Task *task)
{
    if (task->fork == NULL) return;
    unlinkFork(task->fork);
    rtsFree(task->fork);
    task->fork = NULL;
}

/* ---- The forker's side ---- */

/* NULL: no memory. */
static OsFork *newFork(Stack *stack, HaskellObj io, HaskellObj mvar)
{
    OsFork *f = rtsMalloc(sizeof *f);
    if (f == NULL) return NULL;
    *f = (OsFork){ .job.run = tellFailure, .io = newStablePtr(io), .mvar = newStablePtr(mvar), .mask = stack->mask };
    if (f->io != NULL && f->mvar != NULL && sendWord(stack, &f->word)) return f;
    dropFork(f);
    return NULL;
}

static bool startFork(OsFork *f)
{
    OsThread thread;
    linkFork(f);
    if (!osStartThread(&thread, "capstan-bound", BOUND_STACK, runOsFork, f)) {
        unlinkFork(f);
        return false;
    }
    osDetachThread(thread); /* awaitBoundThreads counts */
    return true;
}

HaskellObj rts_forkOS(Stack *stack, HaskellObj io)
{
    CAPSTAN_ROOTS(stack, io);
    rts_poll(stack);
    CAPSTAN_UNROOT(stack);
    forbidInsideUnsafe(stack, "rts_forkOS");
    HaskellObj mvar = rts_mkMVar(stack->cap);
    OsFork *f = mvar == CAPSTAN_POISON ? NULL : newFork(stack, io, mvar);
    if (f == NULL) rts_raise(stack, &capstan_HeapOverflow_closure);
    if (!startFork(f)) {
        dropFork(f);
        rts_raiseError(stack, "rts_forkOS: the system refuses an OS thread");
    }
    HaskellObj id = rts_takeMVar(stack, mvar);
    if (id == CAPSTAN_UNIT) rts_raise(stack, &capstan_HeapOverflow_closure);
    return id;
}

/* ---- rts_runInBoundThread ---- */

typedef struct {
    HsStablePtr io, word, result;  /* word: the thread's, or NULL; result: what it returned, or raised; NULL: there was no memory */
    uint32_t mask;
    bool raised;
} BoundRun;

static void *callBound(void *arg)
{
    BoundRun *run = arg;
    HaskellObj value;
    Capability *cap = lockQuietly();
    if (cap->dead != RTS_OK) return NULL;
    HaskellObj io = readStablePtr(run->io);
    if (!receiveWord(&getMyTask()->incall->tso, &run->word)) {
        rts_unlock(cap);
        return NULL; /* as without memory for the result */
    }
    if (!runInMask(&cap, run->mask, io, &value)) return NULL;
    InCall *incall = getMyTask()->incall;
    run->raised = incall->status != Success;
    run->result = newStablePtr(run->raised ? incall->exception : value);
    rts_unlock(cap);
    return NULL;
}

HaskellObj rts_runInBoundThread(Stack *stack, HaskellObj io)
{
    if (isBound(stack->tso)) return rts_runIO(stack, io);
    forbidInsideUnsafe(stack, "rts_runInBoundThread");
    BoundRun run = { .io = newStablePtr(io), .mask = stack->mask };
    if (run.io == NULL || !sendWord(stack, &run.word)) {
        if (run.io != NULL) dropStablePtr(run.io);
        rts_raise(stack, &capstan_HeapOverflow_closure);
    }
    /* Deaf meanwhile, as in any call: an exception on its way out would lose the result.  At the end of the runtime there is nothing to lose. */
    setMask(stack, MASKED_UNINTERRUPTIBLE);
    rts_safeCall(stack, callBound, &run);
    setMask(stack, run.mask);
    dropStablePtr(run.io);
    dropWord(&run.word);
    HaskellObj value = run.result == NULL ? &capstan_HeapOverflow_closure : readStablePtr(run.result);
    if (run.result != NULL) dropStablePtr(run.result);
    if (run.raised || run.result == NULL) rts_raise(stack, value);
    CAPSTAN_ROOTS(stack, value);
    if (atomic_load_explicit(&stack->tso->pending, memory_order_relaxed) != 0) safepoint(stack);
    CAPSTAN_UNROOT(stack);
    return value;
}

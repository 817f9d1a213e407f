/* MVars.  Each has a spin lock; its queue has takers and readers when it is empty, putters when it is full.  A reader stands before all takers. */
#include "exception.h"
#include "rts/Threads.h"
#include "run.h"
#include "schedule.h"
#include "base/report.h"
#include "os/memory.h"
#include "stable_ptr.h"
#include "throwto.h"

HaskellObj rts_mkMVar(Capability *cap)
{
    StgMVar *mvar = (StgMVar *)rts_allocate(cap, sizeof *mvar / sizeof(StgWord));
    if (mvar == NULL) return CAPSTAN_POISON;
    mvar->info = &capstan_MVAR_info;
    mvar->lock = 0;
    mvar->value = NULL;
    mvar->head = mvar->tail = NULL;
    return (HaskellObj)mvar;
}

static inline StgMVar *mvarOf(Stack *stack, HaskellObj v)
{
    if (CAPSTAN_UNLIKELY(rts_isImmediate(v) || rts_info(v)->kind != CLOSURE_MVAR)) rts_raise(stack, &capstan_WrongKind_closure);
    return (StgMVar *)v;
}

/* The safepoint of an operation, with what it needs afterwards.  Also for those that do not wait: a loop of them can be preempted. */
__attribute__((noinline)) static void pollKeeping(Stack *stack, HaskellObj *mvar, HaskellObj *value)
{
    CAPSTAN_ROOTS(stack, *mvar, *value);
    safepoint(stack);
    CAPSTAN_UNROOT(stack);
}
static inline void pollOperation(Stack *stack, HaskellObj *mvar, HaskellObj *value)
{
    if (CAPSTAN_UNLIKELY(isPolled(stack))) pollKeeping(stack, mvar, value);
}

/* The first waiter, taken out; NULL: none. */
static inline StgTSO *dequeueWaiter(StgMVar *mvar)
{
    StgTSO *tso = mvar->head;
    if (tso == NULL) return NULL;
    mvar->head = tso->link;
    if (mvar->head != NULL) mvar->head->back = NULL;
    else mvar->tail = NULL;
    return tso;
}

static __attribute__((noinline, cold)) void refuseWait(Stack *stack, StgMVar *mvar, const char *what)
{
    unlinkWaiter(mvar, stack->tso);
    unlockMVar(mvar);
    stack->tso->value = CAPSTAN_UNIT;
    forbidInsideUnsafe(stack, what);
}

/* Context: the lock.  Releases it, and waits; what was handed over is in the thread's value then.  false: interrupted, not in the queue any more. */
static bool waitInMVar(Stack *stack, StgMVar *mvar, uint8_t why, const char *what)
{
    StgTSO *tso = stack->tso;
    if (CAPSTAN_UNLIKELY(!mayWait(stack))) refuseWait(stack, mvar, what);
    setBlockedOn(tso, (HaskellObj)mvar);
    beginWait(tso, why);
    unlockMVar(mvar);
    threadBlock(stack);
    return waitState(tso) == WAIT_HANDED;
}

static void enqueueReader(StgMVar *mvar, StgTSO *tso)
{
    tso->back = NULL;
    tso->link = mvar->head;
    if (mvar->head != NULL) mvar->head->back = tso;
    else mvar->tail = tso;
    mvar->head = tso;
}

/* Waiting was interrupted: raise, or find the MVar where it is now. */
static StgMVar *afterInterrupt(Stack *stack)
{
    HaskellObj v = stack->tso->blockedOn;
    CAPSTAN_ROOTS(stack, v);
    raiseInterrupted(stack);
    CAPSTAN_UNROOT(stack);
    /* The operation may succeed now without waiting again, and the record outlives the thread. */
    clearWaitRoots(stack->tso);
    return (StgMVar *)v;
}

/* What a wait brought. */
static inline HaskellObj takeHanded(StgTSO *tso)
{
    HaskellObj value = tso->value;
    clearWaitRoots(tso);
    return value;
}

/* Context: the lock.  Atomic: rts_isEmptyMVar looks without it. */
static inline void storeValue(StgMVar *mvar, HaskellObj value) { __atomic_store_n(&mvar->value, value, __ATOMIC_RELAXED); }

/* With the write barrier. */
static inline void setValue(Capability *cap, StgMVar *mvar, HaskellObj value)
{
    if (CAPSTAN_UNLIKELY(mvar->info->flags & INFO_OLD)) rememberStore(&cap->nursery, &mvar->value, value);
    storeValue(mvar, value);
}

/* Context: the lock; the MVar is full.  Takes the value out, and lets the next putter in. */
static inline HaskellObj emptyMVar(Capability *cap, StgMVar *mvar)
{
    HaskellObj value = mvar->value;
    StgTSO *putter = dequeueWaiter(mvar);
    if (putter == NULL) {
        storeValue(mvar, NULL);
    } else {
        setValue(cap, mvar, putter->value);
        endWaitLocked(putter, WAIT_HANDED);
        wakeThread(cap, putter);
    }
    return value;
}

HaskellObj rts_takeMVar(Stack *stack, HaskellObj v)
{
    HaskellObj none = CAPSTAN_UNIT;
    pollOperation(stack, &v, &none);
    StgMVar *mvar = mvarOf(stack, v);
    for (;;) {
        lockMVar(mvar);
        if (CAPSTAN_LIKELY(mvar->value != NULL)) {
            HaskellObj value = emptyMVar(stack->cap, mvar);
            unlockMVar(mvar);
            return value;
        }
        enqueueWaiter(mvar, stack->tso);
        if (CAPSTAN_LIKELY(waitInMVar(stack, mvar, ThreadBlockedOnMVar, "rts_takeMVar"))) return takeHanded(stack->tso);
        mvar = afterInterrupt(stack);
    }
}

HaskellObj rts_readMVar(Stack *stack, HaskellObj v)
{
    HaskellObj none = CAPSTAN_UNIT;
    pollOperation(stack, &v, &none);
    StgMVar *mvar = mvarOf(stack, v);
    for (;;) {
        lockMVar(mvar);
        if (mvar->value != NULL) {
            HaskellObj value = mvar->value;
            unlockMVar(mvar);
            return value;
        }
        enqueueReader(mvar, stack->tso);
        if (waitInMVar(stack, mvar, ThreadBlockedOnMVarRead, "rts_readMVar")) return takeHanded(stack->tso);
        mvar = afterInterrupt(stack);
    }
}

/* Context: the lock; the MVar is empty.  Hands the value to all readers at the front and to the first taker.  They are woken under the lock: a
 * bound one goes on by itself as soon as its wait is over, and what it is linked to is nobody's business then. */
static inline void fillMVar(Capability *cap, StgMVar *mvar, HaskellObj value)
{
    for (StgTSO *tso; (tso = dequeueWaiter(mvar)) != NULL;) {
        bool reads = CAPSTAN_UNLIKELY(whyOf(tso) == ThreadBlockedOnMVarRead);
        tso->value = value;
        markDirty(cap, tso);
        endWaitLocked(tso, WAIT_HANDED);
        wakeThread(cap, tso);
        if (!reads) return;
    }
    setValue(cap, mvar, value);
}

void rts_putMVar(Stack *stack, HaskellObj v, HaskellObj value)
{
    pollOperation(stack, &v, &value);
    StgMVar *mvar = mvarOf(stack, v);
    for (;;) {
        StgTSO *tso = stack->tso;
        lockMVar(mvar);
        if (CAPSTAN_LIKELY(mvar->value == NULL)) {
            fillMVar(stack->cap, mvar, value);
            unlockMVar(mvar);
            return;
        }
        tso->value = value;
        enqueueWaiter(mvar, tso);
        if (waitInMVar(stack, mvar, ThreadBlockedOnMVar, "rts_putMVar")) {
            takeHanded(tso);
            return;
        }
        value = tso->value;
        CAPSTAN_ROOTS(stack, value);
        mvar = afterInterrupt(stack);
        CAPSTAN_UNROOT(stack);
    }
}

bool rts_tryTakeMVar(Stack *stack, HaskellObj v, HaskellObj *value)
{
    StgMVar *mvar = mvarOf(stack, v);
    lockMVar(mvar);
    bool full = mvar->value != NULL;
    if (full) *value = emptyMVar(stack->cap, mvar);
    unlockMVar(mvar);
    return full;
}

bool tryPutMVar(Capability *cap, StgMVar *mvar, HaskellObj value)
{
    lockMVar(mvar);
    bool empty = mvar->value == NULL;
    if (empty) fillMVar(cap, mvar, value);
    unlockMVar(mvar);
    return empty;
}

bool rts_tryPutMVar(Stack *stack, HaskellObj v, HaskellObj value) { return tryPutMVar(stack->cap, mvarOf(stack, v), value); }

bool rts_tryReadMVar(Stack *stack, HaskellObj v, HaskellObj *value)
{
    StgMVar *mvar = mvarOf(stack, v);
    lockMVar(mvar);
    HaskellObj found = mvar->value;
    unlockMVar(mvar);
    if (found != NULL) *value = found;
    return found != NULL;
}

bool rts_isEmptyMVar(HaskellObj v)
{
    return !rts_isImmediate(v) && rts_info(v)->kind == CLOSURE_MVAR &&
           __atomic_load_n(&((StgMVar *)v)->value, __ATOMIC_RELAXED) == NULL;
}

/* ---- From outside ---- */

typedef struct {
    Job job;
    HsStablePtr mvar, from;
    HaskellObj value;
} PutJob;

static void runPut(Capability *cap, Job *job)
{
    PutJob *put = (PutJob *)job;
    if (cap == NULL) { /* the runtime ended, and with it what the stable pointers kept */
        rtsFree(put);
        return;
    }
    HaskellObj v = readStablePtr(put->mvar), value = put->from != NULL ? readStablePtr(put->from) : put->value;
    if (v != CAPSTAN_POISON && !rts_isImmediate(v) && rts_info(v)->kind == CLOSURE_MVAR && value != CAPSTAN_POISON)
        tryPutMVar(cap, (StgMVar *)v, value);
    dropStablePtr(put->mvar);
    if (put->from != NULL) dropStablePtr(put->from);
    rtsFree(put);
}

void hs_try_putmvar_with_value(int cap, HsStablePtr mvar, HaskellObj value, HsStablePtr from)
{
    PutJob *put = rtsMalloc(sizeof *put);
    if (put == NULL) {
        reportError(RTS_NO_MEMORY, "hs_try_putmvar: %s", rts_statusText(RTS_NO_MEMORY));
        return;
    }
    *put = (PutJob){ .job.run = runPut, .mvar = mvar, .from = value == CAPSTAN_POISON ? from : NULL, .value = value };
    if (!postJob(cap < 0 ? 0 : (unsigned)cap, &put->job)) rtsFree(put);
    wantOwedTicks();
}

void hs_try_putmvar(int cap, HsStablePtr mvar) { hs_try_putmvar_with_value(cap, mvar, CAPSTAN_UNIT, NULL); }

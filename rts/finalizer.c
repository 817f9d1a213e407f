#include "finalizer.h"

#include "body.h"
#include "os/memory.h"
#include "rts/Threads.h"
#include "schedule.h"
#include "timekeeper.h"
#include "weak.h"

#include <stdio.h>

/* How many capabilities are looked at for a free one. */
#define LOOKS_FOR_FREE 16

typedef struct Batch_ Batch;
struct Batch_ {
    NativeBody body;      /* [const] what its thread runs */
    Batch *next, *prev;   /* [lock: finalizers] */
    Weak *first;          /* [owner] due records, the one that died first in front */
    bool callsC;          /* [const] begins with the C finalizers that are due */
};

static struct {
    Lock lock;
    Batch *all;                /* [lock: finalizers] */
    Job job;                   /* starts a batch on the capability that it was posted to */
    _Atomic uint32_t posted;   /* it is on its way */
    _Atomic uint32_t cComing;  /* a thread is on its way that will call C finalizers */
} finalizers = { .lock = LOCK_INIT(RANK_FINALIZERS) };

static bool isAnyDue(void)
{
    return haveDueFinalizers() || (haveDueCFinalizers() && !atomic_load_explicit(&finalizers.cComing, memory_order_relaxed));
}

/* ---- Batches ---- */

static void linkBatch(Batch *b)
{
    acquireLock(&finalizers.lock);
    b->prev = NULL;
    b->next = finalizers.all;
    if (b->next != NULL) b->next->prev = b;
    finalizers.all = b;
    releaseLock(&finalizers.lock);
}

static void freeBatch(Batch *b)
{
    acquireLock(&finalizers.lock);
    if (b->prev != NULL) b->prev->next = b->next;
    else finalizers.all = b->next;
    if (b->next != NULL) b->next->prev = b->prev;
    releaseLock(&finalizers.lock);
    rtsFree(b);
}

/* ---- In its thread ---- */

static HaskellObj callC(Stack *stack, void *unused)
{
    rts_safeCall(stack, callCFinalizers, NULL);
    return CAPSTAN_UNIT;
}

static HaskellObj runAction(Stack *stack, void *io) { return rts_runIO(stack, *(HaskellObj *)io); }

/* An exception ends this one, and not those behind it. */
static void runOne(Stack *stack, Weak *w)
{
    HaskellObj io = takeFinalizer(w), result = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, io);
    bool ok = rts_try(stack, runAction, &io, &result);
    CAPSTAN_UNROOT(stack);
    if (!ok) reportUncaught(stack->cap, stack->tso, result);
}

static HaskellObj runBatch(Stack *stack, NativeBody *body)
{
    Batch *b = container_of(body, Batch, body);
    HaskellObj ignored;
    if (b->callsC) {
        finalizers.cComing = false;
        /* What comes at the safepoint before the call is none of theirs: they stay due. */
        rts_try(stack, callC, NULL, &ignored);
    }
    for (Weak *w; (w = b->first) != NULL;) {
        b->first = w->dueNext;
        runOne(stack, w);
    }
    stack->tso->closure = CAPSTAN_UNIT; /* nothing is left to be put back */
    freeBatch(b);
    return CAPSTAN_UNIT;
}

/* ---- Starting ---- */

/* There is no memory for it: they stay due, and the next tick tries again. */
static void putBack(Batch *b)
{
    putBackDueWeaks(b->first);
    if (b->callsC) finalizers.cComing = false;
    freeBatch(b);
    wantTicks();
}

static void putBackUnborn(Capability *cap, NativeBody *body) { putBack(container_of(body, Batch, body)); }
/* A finalizer ended its OS thread: those behind it are still due. */
static void putBackKilled(NativeBody *body) { putBack(container_of(body, Batch, body)); }

static void startHere(Capability *cap)
{
    Batch *b = rtsMalloc(sizeof *b);
    if (b == NULL) {
        wantTicks();
        return;
    }
    bool callsC = haveDueCFinalizers() && !atomic_exchange(&finalizers.cComing, true);
    *b = (Batch){ .body = { runBatch, putBackUnborn, putBackKilled }, .first = takeDueWeaks(), .callsC = callsC };
    linkBatch(b);
    if (b->first == NULL && !b->callsC) {
        freeBatch(b);
        return;
    }
    StgTSO *tso = newThread(cap, nativeClosure(&b->body), BODY_NATIVE, UNMASKED);
    if (tso == NULL) {
        putBack(b);
        return;
    }
    tso->flags |= TSO_NO_HOST;
    snprintf(tso->label, sizeof tso->label, "finalizers");
    pushRunQueue(cap, tso);
}

static void runJob(Capability *cap, Job *job)
{
    finalizers.posted = false;
    if (cap != NULL && isAnyDue()) startHere(cap);
}

/* A capability that nobody holds; NULL: there seems to be none. */
static Capability *findFree(void)
{
    for (unsigned i = 0, n = numCapabilities; i < n && i < LOOKS_FOR_FREE; i++)
        if (atomic_load_explicit(&capabilities[i].holder, memory_order_relaxed) == HOLDER_FREE) return &capabilities[i];
    return NULL;
}

static void post(Capability *there)
{
    if (atomic_exchange(&finalizers.posted, true)) return;
    finalizers.job.run = runJob;
    if (!postJob(there == NULL ? 0 : there->no, &finalizers.job)) finalizers.posted = false;
}

/* After a collection.  cap: the caller's, or NULL.  Rather on another: the caller's is busy. */
static void startDue(Capability *cap)
{
    if (!isAnyDue()) return;
    Capability *there = findFree();
    if (there == NULL && cap != NULL) startHere(cap);
    else post(there);
}

bool tickFinalizers(void)
{
    if (!isAnyDue()) return false;
    post(findFree());
    return true;
}

void initFinalizers(void)
{
    /* Once: who collected in the last runtime may be about to read it. */
    if (startFinalizers != startDue) startFinalizers = startDue;
}

void endFinalizers(void)
{
    while (finalizers.all != NULL) freeBatch(finalizers.all);
    finalizers.cComing = false;
}

void forgetFinalizers(void)
{
    renewLock(&finalizers.lock);
    finalizers.all = NULL;
    finalizers.posted = finalizers.cComing = false;
}

#include "thread.h"

#include "arch.h"
#include "base/report.h"
#include "capability.h"
#include "language.h"
#include "os/memory.h"
#include "rts/Threads.h"
#include "timeout.h"

#include <string.h>

#define CHUNK_RECORDS 128
/* Records that a capability keeps to itself; beyond, half of them go to the others. */
#define MAX_FREE_RECORDS 4096

typedef struct Chunk_ {
    struct Chunk_ *next;      /* [const] */
    _Alignas(64) StgTSO records[CHUNK_RECORDS];
} Chunk;

static struct {
    _Atomic(Chunk *) chunks;     /* all there ever were */
    Lock lock;
    StgTSO *free;                /* [lock: threads] */
    InCall *named;               /* [lock: threads] in-calls whose threads have a ThreadId, through nextNamed */
    _Atomic uint64_t numbers;    /* given out in batches to the capabilities */
} threads = { .lock = LOCK_INIT(RANK_THREADS) };

/* Numbers that a capability takes at once. */
#define NUMBERS 256

uint64_t newThreadNumber(void) { return atomic_fetch_add_explicit(&threads.numbers, 1, memory_order_relaxed) + 1; }

__attribute__((noinline)) void lockWordSlow(_Atomic uint32_t *lock)
{
    for (unsigned tries = 0;; tries++) {
        if (tries < 100) archRelax();
        else osYieldThread(); /* its holder has lost its processor */
        if (atomic_load_explicit(lock, memory_order_relaxed) == 0 &&
            atomic_exchange_explicit(lock, 1, memory_order_acquire) == 0)
            return;
    }
}

/* ---- Records ---- */

static Chunk *newChunk(void)
{
    char *raw = rtsCalloc(1, sizeof(Chunk) + 64); /* never freed, so aligned by hand */
    if (raw == NULL) return NULL;
    Chunk *chunk = (Chunk *)(((uintptr_t)raw + 63) & ~(uintptr_t)63);
    for (size_t i = 0; i < CHUNK_RECORDS; i++) {
        StgTSO *tso = &chunk->records[i];
        tso->why = THREAD_FREE;
        tso->link = i + 1 < CHUNK_RECORDS ? tso + 1 : NULL;
    }
    chunk->next = atomic_load_explicit(&threads.chunks, memory_order_relaxed);
    /* Release: who walks the list finds the records made. */
    while (!atomic_compare_exchange_weak_explicit(&threads.chunks, &chunk->next, chunk, memory_order_release,
                                                  memory_order_relaxed)) {}
    return chunk;
}

/* Fill the capability's list: from what others left, or from a new chunk. */
static bool refillRecords(Capability *cap)
{
    acquireLock(&threads.lock);
    cap->freeThreads = threads.free;
    threads.free = NULL;
    releaseLock(&threads.lock);
    cap->freeThreadCount = 0;
    if (cap->freeThreads == NULL) {
        Chunk *chunk = newChunk();
        if (chunk != NULL) cap->freeThreads = chunk->records;
    }
    for (StgTSO *t = cap->freeThreads; t != NULL; t = t->link) cap->freeThreadCount++;
    return cap->freeThreads != NULL;
}

static void spillRecords(Capability *cap)
{
    StgTSO *last = cap->freeThreads, *rest;
    for (unsigned i = 1; i < MAX_FREE_RECORDS / 2; i++) last = last->link;
    rest = last->link;
    last->link = NULL;
    StgTSO *end = rest;
    while (end->link != NULL) end = end->link;
    acquireLock(&threads.lock);
    end->link = threads.free;
    threads.free = rest;
    releaseLock(&threads.lock);
    cap->freeThreadCount = MAX_FREE_RECORDS / 2;
}

StgTSO *newThread(Capability *cap, HaskellObj closure, uint8_t body, uint8_t mask)
{
    if (CAPSTAN_UNLIKELY(cap->freeThreads == NULL) && !refillRecords(cap)) return NULL;
    StgTSO *tso = cap->freeThreads;
    cap->freeThreads = tso->link;
    cap->freeThreadCount--;
    if (CAPSTAN_UNLIKELY(cap->nextNumber % NUMBERS == 0))
        /* Twice as many are taken, so that a whole batch that begins at a multiple of it is among them. */
        cap->nextNumber = atomic_fetch_add_explicit(&threads.numbers, 2 * NUMBERS, memory_order_relaxed) / NUMBERS * NUMBERS + NUMBERS;
    tso->id = cap->nextNumber++;
    tso->cap = cap;
    setStackOf(tso, NULL); /* a late prod of its last thread may look */
    tso->closure = closure;
    clearWaitRoots(tso);
    tso->handle = NULL;
    atomic_store_explicit(&tso->known, 0, memory_order_relaxed);
    tso->body = body;
    tso->mask = mask;
    tso->flags = 0;
    tso->limited = false;
    tso->allocLeft = 0;
    tso->label[0] = 0;
    /* throwers and waiters are as the last thread left them: empty, but for waiters that were interrupted and are about to leave. */
    tso->timeouts = NULL;
    atomic_store_explicit(&tso->breakable, NULL, memory_order_relaxed);
    atomic_store_explicit(&tso->pending, 0, memory_order_relaxed);
    setWhy(tso, THREAD_NEW);
    markDirty(cap, tso);
    /* Atomic: countThreadsMade reads it from outside. */
    __atomic_store_n(&cap->threadsMade, cap->threadsMade + 1, __ATOMIC_RELAXED);
    addToCensus(cap, tso, CENSUS_EXISTS);
    return tso;
}

void retireThread(Capability *cap, StgTSO *tso)
{
    ASSERT(tso->handle == NULL && tso->throwers == NULL);
    setWhy(tso, THREAD_FREE);
    addToCensus(cap, tso, -(uint64_t)CENSUS_EXISTS);
    tso->closure = CAPSTAN_UNIT;
    clearWaitRoots(tso);
    tso->link = cap->freeThreads;
    cap->freeThreads = tso;
    if (CAPSTAN_UNLIKELY(++cap->freeThreadCount > MAX_FREE_RECORDS)) spillRecords(cap);
}

/* It was dropped, or left, while it waited. */
static void forgetWait(StgTSO *tso)
{
    uint64_t word = atomic_load_explicit(&tso->wait, memory_order_relaxed);
    atomic_store_explicit(&tso->wait, word / WAIT_STATES * WAIT_STATES + WAIT_RUNNING, memory_order_relaxed);
    if (waitsAt(tso) == NULL) rtsFree(tso->waitRecord);
    tso->waitRecord = NULL;
}

/* Context: the lock.  It was ended from outside, whatever it was doing: nothing of that may be found by who uses the record next. */
static void reclaim(StgTSO *tso)
{
    forgetWait(tso);
    tso->throwers = tso->waiters = NULL;
    atomic_store_explicit(&tso->hasWaiters, 0, memory_order_relaxed);
    atomic_store_explicit(&tso->onCpu, 0, memory_order_relaxed);
    setWhy(tso, THREAD_FREE);
    tso->link = threads.free;
    threads.free = tso;
}

void recycleThread(StgTSO *tso)
{
    dropTimeouts(tso);
    dropExtras(tso);
    if (tso->flags & TSO_FORGOTTEN) return;
    acquireLock(&threads.lock);
    reclaim(tso);
    releaseLock(&threads.lock);
}

void eachThread(void (*f)(StgTSO *tso, void *ctx), void *ctx)
{
    for (Chunk *c = atomic_load_explicit(&threads.chunks, memory_order_acquire); c != NULL; c = c->next)
        for (size_t i = 0; i < CHUNK_RECORDS; i++)
            if (whyOf(&c->records[i]) != THREAD_FREE) f(&c->records[i], ctx);
}

uint64_t countThreadsMade(void)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < MAX_CAPABILITIES; i++) n += __atomic_load_n(&capabilities[i].threadsMade, __ATOMIC_RELAXED);
    return n;
}

/* The heap goes, and ThreadIds with it. */
static void forgetHandle(StgTSO *tso)
{
    tso->handle = NULL;
    atomic_store_explicit(&tso->known, 0, memory_order_relaxed);
}

static void forgetAllNamed(void)
{
    for (InCall *i = threads.named, *next; i != NULL; i = next) {
        next = i->nextNamed;
        i->nextNamed = i->prevNamed = NULL;
        forgetHandle(&i->tso);
    }
    threads.named = NULL;
}

void forgetThreads(void)
{
    renewLock(&threads.lock);
    threads.chunks = NULL;
    threads.free = NULL;
    threads.named = NULL;
}

static void dropTimeoutsOf(StgTSO *tso, void *unused)
{
    dropTimeouts(tso);
    dropExtras(tso);
}

void freeThreads(bool (*keep)(StgTSO *tso), void (*drop)(StgTSO *tso))
{
    eachThread(dropTimeoutsOf, NULL);
    acquireLock(&threads.lock);
    forgetAllNamed();
    threads.free = NULL;
    for (Chunk *c = threads.chunks; c != NULL; c = c->next) {
        for (size_t i = 0; i < CHUNK_RECORDS; i++) {
            StgTSO *tso = &c->records[i];
            forgetHandle(tso);
            if (whyOf(tso) != THREAD_FREE && keep(tso)) continue;
            if (whyOf(tso) != THREAD_FREE) drop(tso);
            reclaim(tso);
        }
    }
    releaseLock(&threads.lock);
    for (unsigned i = 0; i < MAX_CAPABILITIES; i++) {
        capabilities[i].freeThreads = NULL;
        capabilities[i].freeThreadCount = 0;
        __atomic_store_n(&capabilities[i].threadsMade, 0, __ATOMIC_RELAXED);
    }
}

/* ---- ThreadIds ---- */

/* Context: nobody else gives it one: its lock, or not yet known. */
static HaskellObj makeHandle(Capability *cap, StgTSO *tso)
{
    if (tso->handle != NULL) return tso->handle;
    StgThreadId *handle = (StgThreadId *)allocate(&cap->nursery, sizeof *handle / sizeof(StgWord));
    if (handle == NULL) return CAPSTAN_POISON;
    handle->info = &capstan_TSO_info;
    handle->tso = tso;
    handle->id = tso->id;
    handle->ended = ThreadRunning;
    /* Release: pairs with the acquire in threadHandle, if another thread made it. */
    __atomic_store_n(&tso->handle, (HaskellObj)handle, __ATOMIC_RELEASE);
    markDirty(cap, tso);
    return (HaskellObj)handle;
}

static void rememberNamed(InCall *incall)
{
    acquireLock(&threads.lock);
    incall->prevNamed = NULL;
    incall->nextNamed = threads.named;
    if (threads.named != NULL) threads.named->prevNamed = incall;
    threads.named = incall;
    releaseLock(&threads.lock);
}

/* The first ThreadId. */
static HaskellObj nameThread(Capability *cap, StgTSO *tso)
{
    if (isBound(tso)) { /* a thread for each in-call, in the same record */
        tso->id = newThreadNumber();
        tso->label[0] = 0;
    }
    HaskellObj handle = makeHandle(cap, tso);
    if (handle == CAPSTAN_POISON) return handle;
    tso->flags |= TSO_KEPT;
    /* Release: pairs with the acquire in handleOfOther. */
    atomic_store_explicit(&tso->known, 1, memory_order_release);
    if (isBound(tso)) rememberNamed(tso->incall);
    return handle;
}

HaskellObj threadHandle(Capability *cap, StgTSO *tso)
{
    HaskellObj handle = __atomic_load_n(&tso->handle, __ATOMIC_ACQUIRE);
    if (handle != NULL) return handle;
    if (atomic_load_explicit(&tso->known, memory_order_relaxed) == 0) return nameThread(cap, tso);
    lockTSO(tso);
    handle = makeHandle(cap, tso); /* a collection dropped the one that it had, or it never had one */
    unlockTSO(tso);
    return handle;
}

HaskellObj handleOfOther(Capability *cap, StgTSO *tso)
{
    HaskellObj handle = NULL;
    lockTSO(tso);
    if (atomic_load_explicit(&tso->known, memory_order_acquire) != 0) handle = makeHandle(cap, tso);
    unlockTSO(tso);
    return handle;
}

void closeThread(StgTSO *tso, uint8_t ended)
{
    StgThreadId *handle = (StgThreadId *)tso->handle;
    atomic_store_explicit(&tso->known, 0, memory_order_relaxed);
    if (handle == NULL) return;
    handle->ended = ended;
    __atomic_store_n(&handle->tso, NULL, __ATOMIC_RELEASE);
    tso->handle = NULL;
}

void forgetNamed(StgTSO *tso)
{
    InCall *incall = tso->incall;
    acquireLock(&threads.lock);
    if (incall->nextNamed != NULL) incall->nextNamed->prevNamed = incall->prevNamed;
    if (incall->prevNamed != NULL) incall->prevNamed->nextNamed = incall->nextNamed;
    else if (threads.named == incall) threads.named = incall->nextNamed;
    incall->nextNamed = incall->prevNamed = NULL;
    releaseLock(&threads.lock);
}

void forgetBound(StgTSO *tso)
{
    forgetNamed(tso);
    forgetHandle(tso);
    tso->flags = 0;
}

void forgetBoundWaits(StgTSO *tso)
{
    dropTimeouts(tso);
    dropExtras(tso);
    if (tso->waitRecord != NULL && waitsAt(tso) == NULL) cancelFdWait(tso->waitRecord); /* the timekeeper may be about to end it */
    forgetWait(tso);
    setWhy(tso, ThreadRunning);
    lockTSO(tso);
    tso->throwers = tso->waiters = NULL;
    atomic_store_explicit(&tso->hasWaiters, 0, memory_order_relaxed);
    atomic_store_explicit(&tso->pending, 0, memory_order_relaxed);
    unlockTSO(tso);
}

void eachNamedBound(void (*f)(StgTSO *tso, void *ctx), void *ctx)
{
    acquireLock(&threads.lock);
    for (InCall *i = threads.named; i != NULL; i = i->nextNamed) f(&i->tso, ctx);
    releaseLock(&threads.lock);
}

StgTSO *threadOf(HaskellObj v)
{
    if (rts_isImmediate(v) || rts_info(v)->kind != CLOSURE_TSO) return NULL;
    return __atomic_load_n(&((StgThreadId *)v)->tso, __ATOMIC_ACQUIRE);
}

static bool isThreadId(HaskellObj v, const char *what)
{
    if (!rts_isImmediate(v) && rts_info(v)->kind == CLOSURE_TSO) return true;
    reportError(RTS_WRONG_KIND, "%s: the value is no ThreadId", what);
    return false;
}

HaskellObj rts_threadId(Capability *cap, StgTSO *tso) { return tso == NULL ? CAPSTAN_POISON : threadHandle(cap, tso); }
HaskellObj rts_myThreadId(Stack *stack) { return threadHandle(stack->cap, stack->tso); }

StgWord64 rts_getThreadId(HaskellObj v) { return isThreadId(v, "rts_getThreadId") ? ((StgThreadId *)v)->id : 0; }

RtsThreadStatus rts_threadStatus(HaskellObj v)
{
    if (!isThreadId(v, "rts_threadStatus")) return ThreadFinished;
    StgTSO *tso = threadOf(v);
    if (tso == NULL) return (RtsThreadStatus)((StgThreadId *)v)->ended;
    uint8_t why = whyOf(tso);
    return why >= THREAD_FREE ? ThreadRunning : (RtsThreadStatus)why;
}

void rts_labelThread(HaskellObj v, const char *label)
{
    StgTSO *tso = isThreadId(v, "rts_labelThread") ? threadOf(v) : NULL;
    if (tso == NULL) return;
    size_t n = label == NULL ? 0 : strnlen(label, sizeof tso->label - 1);
    lockTSO(tso);
    if (threadOf(v) == tso) { /* cut off under this lock: the next thread in the record has a label of its own */
        if (n > 0) memcpy(tso->label, label, n);
        tso->label[n] = 0;
    }
    unlockTSO(tso);
}

void copyLabel(StgTSO *tso, char label[LABEL_BYTES])
{
    lockTSO(tso);
    memcpy(label, tso->label, LABEL_BYTES);
    unlockTSO(tso);
}

/* Reads what the thread's owner writes: old news will do. */
__attribute__((no_sanitize("thread"))) unsigned rts_threadCapability(HaskellObj v, bool *movable)
{
    StgTSO *tso = isThreadId(v, "rts_threadCapability") ? threadOf(v) : NULL;
    if (movable != NULL) *movable = tso == NULL || !(tso->flags & TSO_PINNED);
    Capability *cap = tso == NULL ? NULL : isBound(tso) ? tso->stack->cap : tso->cap;
    return cap == NULL ? 0 : cap->no;
}

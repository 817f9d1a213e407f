/* weak.h: weak pointers, as the collector and those who run finalizers see them.
 *
 * A weak pointer is a record in C memory and an object (CLOSURE_WEAK) that names it.  The record does the work: it lives until its key is dead and its
 * finalizers are done, whether the object is there or not; a dead one that its object still names stays as a tombstone.
 *
 * Life of a record:
 *     alive     value is not NULL.  The key is not a root; value and finalizer are visited once the key has been found alive.
 *     dead      value is NULL: the key was not reachable, or rts_finalizeWeak was faster.  In the first case it is *due* if it has a managed finalizer,
 *               which is a root then, until a thread of the runtime's takes it; and its C finalizers wait until not even what was kept for finalizers
 *               reaches the key.
 *     gone      dead, nothing due, no C finalizers, no object: freed.
 *
 * Lists.  Records of which anything is young (object, key, value, finalizer) are in the young list, all others in the old one, which minor collections
 * leave alone: what is old counts as alive then.  Fresh records are pushed by those who make them; the collector takes them over.
 *
 * Ownership: [stopped] fields and lists belong to the collector.  value changes once, from an object to NULL, by exchange; who did that (the collector, or
 * rts_finalizeWeak) has the finalizers.  finalizer and cFinalizers are guarded by the record's lock, under which there is no safepoint: a collector finds
 * it free. */
#ifndef WEAK_H
#define WEAK_H

#include "capability.h"

typedef struct CFinalizer_ CFinalizer;
struct CFinalizer_ {
    CFinalizer *next;
    void (*fn)(void *ctx, void *ptr); /* [const] */
    void *ctx, *ptr;                  /* [const] */
    const void *owner;                /* [lock: weaks] due: who runs it; NULL: anybody */
};

typedef struct Weak_ Weak;
struct Weak_ {
    Weak *next;              /* [stopped] of its list */
    Weak *dueNext;           /* [who has the due list] */
    HaskellObj object;       /* [stopped] where it is; NULL: dead */
    HaskellObj key;          /* [stopped] */
    HaskellObj value;        /* [atomic] NULL: dead */
    HaskellObj finalizer;    /* [lock: own; due: who has it] NULL: none */
    CFinalizer *cFinalizers; /* [lock: own] last added first */
    uint64_t number;         /* [const] in the order of creation */
    _Atomic uint32_t lock;
    bool due;                /* [stopped, or who holds a capability] its finalizer is to be run */
};

extern const GcTable weakPointerTable;
/* How often collections looked whether a key lives, of weak pointers and tables' entries; for tests. */
extern uint64_t keyLooks;

/* Are finalizers due?  Any thread; the answer may be old news, but for those of a collection that the caller has made. */
bool haveDueFinalizers(void);
bool haveDueCFinalizers(void);
/* Whether any are being called. */
bool isCFinalizerRunning(void);
/* The due records, the first that died first, through dueNext; they are the caller's to run (takeFinalizer).  Context: the caller holds a capability. */
Weak *takeDueWeaks(void);
/* Back to the front of the due list. */
void putBackDueWeaks(Weak *first);
/* The finalizer of a due record, for the last time: the record is not to be touched after the next safepoint. */
HaskellObj takeFinalizer(Weak *weak);

/* Call the C finalizers that are due and have this owner, in order.  Context: no lock held, no capability; the Task is marked as finalizing. */
void runCFinalizers(const void *owner);
/* The same as the function of a safe call: marks the Task. */
void *callCFinalizers(void *owner);

/* C finalizers or release functions of external bytes are due or running: what they give back is counted still. */
bool isReleasePending(void);
/* Also the function of a safe call: call those, whoever else would have, and wait (not for ever) for who is calling some.  Returns answer; NULL: that takes too long. */
void *callReleases(void *answer);
/* Is none pending, and does isHeapFull say so?  Context: holds a capability, so that no collection comes between. */
bool isHeapFullForGood(void);

/* Exit: wait for those who run C finalizers, run the C finalizers that are left, and free all records.  Context: nobody holds a capability, threads are
 * forgotten; the Task is marked as finalizing. */
void endWeaks(void);
/* In a forked child: the parent's finalizers are the parent's business. */
void forgetWeaks(void);

/* Is there a C finalizer whose code or context lies there?  Context: the world is stopped. */
bool anyCFinalizerIn(const void *lo, const void *hi);

/* ---- Shared with the other tables of this kind ---- */

/* What v stands for once indirections and finished thunks are followed.  Context: the caller holds a capability. */
HaskellObj whatItIs(HaskellObj v);
/* Where an object is now; NULL: nothing that was visited leads to it.  A thunk that was evaluated is its value; for whereTheSameIs it is no more.  Context: a
 * GcTable's functions. */
HaskellObj whereItIs(HaskellObj obj);
HaskellObj whereTheSameIs(HaskellObj obj);
/* While old objects are being marked: does obj live for certain, and is not young? */
static inline bool isMarkedAlive(HaskellObj obj) { return rts_isImmediate(obj) || !isInHeap(obj) || (!isYoung(obj) && isJudgedAlive(obj)); }
/* Who goes through many records looks so many ahead for what whereTheSameIs will need of a later one. */
#define FETCH_AHEAD 8
static inline void fetchKey(HaskellObj key)
{
    if (!rts_isImmediate(key) && isInHeap(key)) __builtin_prefetch(heap.judging ? (const void *)markWordOf(key) : key);
}
/* Spin locks of records. */
static inline void lockRecord(_Atomic uint32_t *lock)
{
    if (atomic_exchange_explicit(lock, 1, memory_order_acquire) != 0) lockWordSlow(lock);
}
static inline void unlockRecord(_Atomic uint32_t *lock) { atomic_store_explicit(lock, 0, memory_order_release); }
/* A new object of two words that names a record; NULL: no memory. */
static inline HaskellObj newNamingObject(Capability *cap, const StgInfoTable *info, StgWord record)
{
    StgStableName *p = (StgStableName *)allocate(&cap->nursery, sizeof *p / sizeof(StgWord));
    if (p == NULL) return NULL;
    p->info = info;
    p->number = record;
    return (HaskellObj)p;
}
/* The object of this kind that v is; NULL after complaining. */
HaskellObj expectKind(HaskellObj v, ClosureKind kind, const char *function);

#endif

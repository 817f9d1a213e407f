/* gc/heap.h: the heap and its collector, as the rest of the runtime sees them.  doc/gc.md tells the whole story.
 *
 * Young objects lie in the blocks of a nursery (one a capability), or, once they survived a collection, in aged blocks; what survives a second one
 * is old.  A minor collection copies the young ones only; a major one everything.  Objects of LARGE_BYTES and more get a group of blocks and
 * never move; pinned byte arrays share blocks that never move; both are old once they survived one collection.
 *
 * Remembering.  A minor collection does not look at old objects.  So whoever stores a young object into an old one remembers the slot (rememberStore,
 * the write barrier), in the remembered set of the capability that it holds.  A slot stays remembered while it holds something young.  The same for roots
 * outside the heap that rest: a thread is scanned only if it is dirty, which is to say that it ran since the last collection or still refers to something young.
 *
 * The limit.  A collection must never run out of memory half-way, so what it may need in the worst case counts as used:
 *     movable blocks * (1 + COPY_SPACE) + fixed blocks <= limit
 * Allocation that would break this falls back on the nursery's reserve, and asks for a collection; after one that did not help,
 * the thread that asked gets HeapOverflow.
 *
 * Ownership: a Nursery belongs to who holds its capability; struct heap's counters are atomic, its lists belong to the collector. */
#ifndef GC_HEAP_H
#define GC_HEAP_H

#include "gc/block.h"
#include "rts/Closures.h"
#include "rts/Config.h"

#include <stdatomic.h>

#define LARGE_BYTES  (BLOCK_BYTES / 4)
#define LARGE_WORDS  (LARGE_BYTES / sizeof(StgWord))
_Static_assert(LARGE_WORDS == CAPSTAN_LARGE_WORDS, "the inline allocation of rts/Managed.h leaves large objects alone");
/* Copying leaves less than LARGE_BYTES unused in a block: four blocks fit what three were full of. */
#define COPY_SPACE(movable) ((movable) + (movable) / 3 + 2)
#define RESERVE_BLOCKS 2
/* With less than this left after a collection the heap is full. */
static inline size_t slackOf(size_t nurseryBlocks) { return 1 + nurseryBlocks / 8; }
#define SLACK_BLOCKS slackOf(heap.nurseryBlocks)

/* Slots of old objects that hold young ones. */
typedef struct {
    HaskellObj **free, **limit; /* where the next one goes */
    Block *blocks;              /* full of slots, the one being filled first */
    unsigned node;              /* where these lie */
} RememberedSet;

typedef struct {
    CapstanRegs r;     /* where the next small object goes */
    bool overflowed;   /* [holder] the reserve was touched: HeapOverflow is due at the next safepoint */
    bool refused;      /* [holder] an allocation failed: poison went out */
    Block *blocks;     /* [holder] blocks of small objects, the one being filled first */
    Block *spare;      /* [holder] empty ones, to be filled next */
    Block *large;      /* [holder] large objects made since the last collection */
    Block *pinned;     /* [holder] blocks of pinned byte arrays, the one being filled first */
    Block *reserve;    /* [holder] for when the limit is reached */
    void (*wantCollection)(void *nursery); /* [const] told when a collection should happen at the next safepoint; NULL: dead */
    int64_t *account;  /* [holder] goes down by the bytes that are allocated; NULL: nobody counts */
    StgWord *charged;  /* [holder] with an account: where what was not yet charged to it begins */
    RememberedSet remembered; /* [holder] */
    RememberedSet shaded;     /* [holder] old objects that marking has to look at, for slots */
    StgTSO *dirty;     /* [holder] threads to be scanned by the next collection, through dirtyLink */
    unsigned node;     /* [const] NUMA node of its blocks */
    _Atomic uint32_t share; /* [atomic] its roots are still to be visited by one of the collecting threads */
} Nursery;

typedef struct {
    size_t nurseryBytes;  /* 0: as the collector sees fit */
    size_t limitBytes;
    unsigned capabilities;
    bool verify, poison;
} HeapSettings;

/* A visitor of roots gets the address of each.  The collector hands one to every scanner.  minor: only young objects are looked at, so roots that
 * hold none may be left out. */
typedef struct Visitor_ Visitor;
struct Visitor_ {
    void (*visit)(Visitor *v, HaskellObj *slot);
    bool minor;
    bool sawYoung;  /* set when a root that was visited refers to something young now: who wants to know clears it before */
    bool marks;     /* threads and what waits for MVars are visited by somebody else */
    bool checks;    /* the verifier: roots that a minor collection would leave out hold nothing young, or missed is called */
    void (*missed)(Visitor *v, const void *where, const char *what);
};
static inline void visitRoot(Visitor *v, HaskellObj *slot) { v->visit(v, slot); }
typedef void (*RootScanner)(Visitor *v);

/* A table whose entries are roots, or live only as long as some object does.  All with the world stopped, by one thread, but for visitRoots. */
typedef struct {
    /* Visit the roots: this part of so many, which several threads may visit at the same time.  NULL: it has none. */
    void (*visitRoots)(Visitor *v, unsigned part, unsigned parts);
    /* While old objects are being marked a little at a time, when what was reached has been followed: visit some of what lives because of that already, so that
     * visitLive, which has the last word, finds it done.  first: begin with the first.  false: there is no more.  NULL: nothing. */
    bool (*visitEarly)(Visitor *v, bool first);
    /* All that can be reached was visited: visit what is to live because of that (the value of a weak pointer whose key lives), and say
     * whether there was any.  Called again, after what it visited was followed, until it says no.  NULL: nothing. */
    bool (*visitLive)(Visitor *v);
    /* visitLive went on finding something: name the keys that were not reached, and what lives by them, to awaitKey; visit nothing.  NULL: there are none. */
    void (*await)(void);
    /* Called once after that, before threads that are blocked for ever are revived: what is to be kept for the last time (finalizers).  NULL: nothing. */
    void (*visitDead)(Visitor *v);
    /* At the end: forwardedTo says where an object is now, or that it is dead.  In a minor collection no old object is. */
    void (*sweep)(bool minor);
    /* Between collections: visit everything that entries keep, for who looks at the whole heap.  NULL: nothing. */
    void (*visitKept)(Visitor *v);
} GcTable;

extern struct Heap {
    /* What rts_externalMemory changes, which may be called at any time: stays in place when all else is cleared (clearHeap). */
    _Atomic size_t externalBytes;    /* [atomic] memory of the host's that objects keep (rts_externalMemory) */
    _Atomic size_t shortage;         /* [atomic] bytes that the last collection left too few (isHeapOverLimit), less what was given back since; 0: the heap is not full */
    _Atomic uint64_t eased;          /* [atomic] how often it was not full after a collection, or not any more since */
    _Atomic bool released;           /* [atomic] something happened since the last collection began that lets the next one find more: noteReleased */
    /* All else. */
    size_t nurseryBlocks;            /* [const] allocation area of one capability */
    bool adaptive;                   /* [const] it may be larger */
    size_t limitBlocks;              /* [const] 0: none */
    bool verify, poison;             /* [const] */
    const RootScanner *scanners;     /* [const] */
    const GcTable *const *tables;    /* [const] */
    _Atomic size_t movable, fixed;   /* [atomic] blocks in use */
    _Atomic size_t spare;            /* [atomic] blocks that nurseries keep */
    _Atomic size_t allocated;        /* [atomic] blocks taken by nurseries since the last collection */
    _Atomic bool wantMajor;          /* [atomic] the next collection is to be a major one */
    _Atomic RtsGcCause cause;        /* [atomic] why a collection was asked for last, if not for what was allocated */
    size_t threshold;                /* [stopped] collect when allocated reaches this */
    size_t oldWords;                 /* [stopped] of old objects, large and pinned ones included, as far as it is known that they are dead */
    size_t unseenWords;              /* [stopped] of those, what became old during the last cycle of marking */
    size_t oldAt, majorAt;           /* [stopped] it is time to look at old objects when oldWords reaches this; to copy them all, at that */
    _Atomic bool marking;            /* [stopped to write] old objects are being marked: mark.h */
    _Atomic bool identity;           /* [atomic] tables know objects by where they are: needIdentity */
    bool promotesAll;                /* [stopped] this minor collection makes everything old */
    bool judging;                    /* [stopped] marks say what lives: forwardedTo */
    size_t liveBytes;                /* [stopped] after the last collection; what a minor one did not look at counts as live */
    size_t lastAllocated;            /* [stopped] blocks, before the last collection */
    size_t lastCopied, lastYoung;    /* [stopped] bytes that the last minor collection copied, and that were young before it */
    uint64_t lastCopying;            /* [stopped] nanoseconds of the processor that this took, of its leading thread */
    uint64_t decayAfter;             /* [stopped] nanoseconds after which decayBlocks has something to do; UINT64_MAX: nothing */
    Block *aged, *old;               /* [stopped] blocks of what survived once, and more often */
    Block *large, *pinned;           /* [stopped] what survived in place; old */
    Block *_Atomic recyclable[NODE_ROWS]; /* [atomic] old blocks with holes, through todo; by rowOf */
    _Atomic bool forgot;             /* [atomic] a slot was not remembered, for want of memory: only a major collection will do */
    Block *quarantine;               /* [stopped] torture: blocks of the last from-space, inaccessible */
} heap;

/* Context: startup.  scanners, tables: NULL-terminated, [const] while the runtime runs. */
bool initHeap(const HeapSettings *settings, const RootScanner *scanners, const GcTable *const *tables);
/* Release every object, external ones included.  Context: exit, nobody holds a capability. */
void freeHeap(void);
/* In a forked child: there is none.  whole: nobody was making or freeing it, and nobody looks into it: give its addresses back. */
void forgetHeap(bool whole);

/* false: no memory for its reserve. */
bool initNursery(Nursery *nursery, unsigned node, void (*wantCollection)(void *nursery));

/* An allocation of so many bytes failed for another reason: as if the limit had been reached. */
void refuseAllocation(Nursery *nursery, size_t bytes);
/* The in-call that memory was refused to is over, or takes the news along. */
static inline void forgetDebts(Nursery *nursery) { nursery->overflowed = nursery->refused = false; }

/* Let an account pay for what is allocated from now on. */
static inline void openAccount(Nursery *nursery, int64_t *account)
{
    nursery->account = account;
    nursery->charged = nursery->r.hp;
}
/* Bring it up to date.  Otherwise that happens when a block is full, and in collections. */
static inline void chargeAccount(Nursery *nursery)
{
    *nursery->account -= (int64_t)((uintptr_t)nursery->r.hp - (uintptr_t)nursery->charged);
    nursery->charged = nursery->r.hp;
}
/* Told by an allocation that brought an account below zero. */
extern void (*accountOverdrawn)(Nursery *nursery);

/* words >= 1 of uninitialised memory, or NULL: then nursery->refused is set.  Never collects, never moves anything. */
StgWord *allocateSlow(Nursery *nursery, size_t words);
static inline StgWord *allocate(Nursery *nursery, size_t words)
{
    StgWord *p = nursery->r.hp;
    /* A large one never comes among the small, though there be room: what copying leaves unused in blocks would not be bounded (COPY_SPACE). */
    if (CAPSTAN_UNLIKELY(words >= LARGE_WORDS || (size_t)(nursery->r.hpLim - p) < words)) return allocateSlow(nursery, words);
    nursery->r.hp = p + words;
    return p;
}
/* The same for a byte array that will never move; its bytes start at a multiple of 16. */
StgWord *allocatePinned(Nursery *nursery, size_t words);

/* Copy what is reachable, free the rest: of the young, or of everything, if major says so or it is time for that.  Where memory for
 * the worst case is refused, nothing is copied: what lives becomes old where it is.  Context: the world is stopped.  own: number of the caller's nursery.  out: all but number and times is filled in. */
void collectHeap(Nursery *const *nurseries, unsigned count, unsigned own, bool major, RtsCollection *out);
/* Overwrite what nothing lives in.  Context: the world is stopped. */
void clearUnused(Nursery *const *nurseries, unsigned count);
/* Is there so little left that only a collection can help?  The thread that asks for it gets HeapOverflow if that leaves a shortage; what others have allocated
 * since is no reason for one: they will ask for a collection themselves. */
bool isHeapOverLimit(void);
/* Did the last collection leave too little, and nothing has happened since that lets the next one find more? */
static inline bool isHeapFull(void) { return heap.shortage != 0 && !heap.released; }
/* A release function or C finalizer has done its work, memory of the host's was given back, or HeapOverflow is raised.  Context: behind that. */
static inline void noteReleased(void)
{
    if (!heap.released) heap.released = true;
}
/* Memory of the host's is about to be given back. */
void easeHeap(size_t bytes);

/* Is it an object of the heap that no minor collection has made old yet? */
static inline bool isYoung(HaskellObj obj)
{
    return !rts_isImmediate(obj) && isInHeap(obj) && (__atomic_load_n(&blockOf(obj)->flags, __ATOMIC_RELAXED) & BLOCK_YOUNG);
}

/* From now on no collection may leave two copies of a constructor or function, which is harmless (and cheaper, with several threads) as long as
 * nobody asks whether two are the same.  By who makes the first weak pointer, stable name or the like. */
static inline void needIdentity(void)
{
    if (!atomic_load_explicit(&heap.identity, memory_order_relaxed)) heap.identity = true;
}

/* Add a slot.  Where memory is refused the next collection will be a major one, which needs no remembered slots. */
void rememberSlot(RememberedSet *set, HaskellObj *slot);
/* The same for who holds a capability.  One that is dead has no heap: what goes on for a moment on it, in a forked child, remembers nothing. */
static inline void rememberFor(Nursery *nursery, HaskellObj *slot)
{
    if (CAPSTAN_LIKELY(nursery->wantCollection != NULL)) rememberSlot(&nursery->remembered, slot);
}
/* While old objects are being marked: one was stored into another, which may have been looked at already. */
void shadeStore(Nursery *nursery, HaskellObj v);
/* The write barrier: v is about to be stored into slot, a word of an old object. */
static inline void rememberStore(Nursery *nursery, HaskellObj *slot, HaskellObj v)
{
    if (!isYoung(v)) {
        if (CAPSTAN_UNLIKELY(atomic_load_explicit(&heap.marking, memory_order_relaxed))) shadeStore(nursery, v);
        return;
    }
    /* What is there already is young: the slot was remembered then.  Acquire: of another capability's, whose block must be seen as it is. */
    HaskellObj before = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
    if (before == NULL || !isYoung(before)) rememberFor(nursery, slot);
}
/* The same where nothing tells whether the object is old but its place. */
static inline void rememberIfOld(Nursery *nursery, HaskellObj obj, HaskellObj *slot, HaskellObj v)
{
    if (isYoung(v)) {
        if (!isYoung(obj)) rememberFor(nursery, slot);
    } else if (CAPSTAN_UNLIKELY(atomic_load_explicit(&heap.marking, memory_order_relaxed))) {
        shadeStore(nursery, v);
    }
}

/* Words of an object, its header included. */
size_t closureWords(const StgClosure *obj);

/* Visit all that collections start from: what the scanners know, and the tables' roots. */
void visitRoots(Visitor *v);
/* Check every object that can be reached from the roots, and that what is old refers to something young only where that is remembered.
 * Context: the world is stopped.  Returns how many were seen; a broken one is logged and counted in *bad. */
size_t verifyHeap(Nursery *const *nurseries, unsigned count, size_t *bad);

/* ---- external byte arrays (external.c) */
typedef struct ExternalBytes_ ExternalBytes;
struct ExternalBytes_ {
    ExternalBytes *next;    /* [lock: externals] */
    StgExternal *object;    /* [stopped] where it is now */
    void *address;
    void (*release)(void *ctx, void *bytes);
    void *ctx;
};
/* Remember an external byte array.  false: no memory. */
bool addExternal(StgExternal *object, void (*release)(void *ctx, void *bytes), void *ctx);
/* Keeps the records of objects that survive, sets the others aside. */
extern const GcTable externalTable;
/* Call the release functions of those set aside (all: of all).  Context: no lock held, the world running; the caller marks its
 * Task as finalizing. */
void runExternalReleases(bool all);
bool haveExternalReleases(void);
/* How many are being called; a futex. */
extern _Atomic uint32_t externalsRunning;
/* In a forked child: the parent's memory is the parent's business, and is not released. */
void forgetExternals(void);

/* ---- threads: objects refer to their records (MVars, ThreadIds), and they to objects; roots.c */
typedef struct {
    void (*begin)(void);                /* no thread has been reached */
    void (*scanAll)(Visitor *v);        /* visit the roots of all threads, whoever reaches them */
    void (*scanDirty)(Visitor *v, Nursery *nursery); /* visit the roots of its dirty threads; any collecting thread, each nursery once */
    void (*reach)(StgTSO *tso);         /* an object refers to it; any collecting thread; not in minor collections */
    StgTSO *(*next)(StgTSO *tso);       /* behind it in the queue of an MVar */
    bool (*scan)(Visitor *v);           /* visit what one of those reached refers to; false: none is left.  The leading thread only */
    bool (*revive)(void);               /* all that can be was visited: reach threads that are blocked for ever; false: none */
    size_t (*count)(void);              /* how many were scanned */
    void (*sweep)(bool minor);          /* cut records off from ThreadIds that are dead; decide which threads are dirty */
} ThreadHooks;
extern ThreadHooks gcThreads; /* [const] */

/* Info tables of variables and arrays that are old (value.c): flags has INFO_OLD, all else is the same. */
extern const StgInfoTable oldMutVar_info, oldArray_info, oldMVar_info;

/* ---- between the collector's files */

/* Where an object of from-space went; NULL: it is dead.  Others: itself.  Context: once all was visited. */
StgClosure *forwardedTo(StgClosure *obj);
/* For a table's visitLive: follow what was just visited as far as this thread can by itself, so that what lives by it is found in the same pass. */
void followNear(Visitor *v);
/* For a table's await: once key is reached visit is called.  lives: it has been already.  itself: not what it stands for.  Without memory nothing happens: a
 * later call of visitLive finds it.  See: keys.h. */
typedef void KeyReached(Visitor *v, void *owner, void *item);
void awaitKey(HaskellObj key, bool lives, bool itself, KeyReached *visit, void *owner, void *item);
/* At the end of a marking (heap.judging): does it live?  Not what stands for it, and its header is not looked at: that would be one more miss. */
bool isJudgedAlive(const StgClosure *obj);
/* Visit the managed words of an object. */
void scavengeObject(StgClosure *obj, Visitor *v);

static inline bool isForwarded(const StgClosure *obj) { return ((StgWord)obj->info & 1) != 0; }
static inline StgClosure *forwardAddress(const StgClosure *obj) { return (StgClosure *)((StgWord)obj->info & ~(StgWord)1); }

/* v is evaluated. */
static inline bool isByteArray(HaskellObj v)
{
    return !rts_isImmediate(v) && v != NULL && (v->info->kind == CLOSURE_BYTES || v->info->kind == CLOSURE_EXTERNAL);
}

/* The state word of a thunk under evaluation: its evaluator, with low bits 100. */
static inline bool isBlackHoleMark(StgWord state) { return (state & 7) == 4; }

#endif

/* thread.h: the records of managed threads.
 *
 * A record (TSO) never moves and is never freed, only used again; values that name a thread (ThreadIds, kind CLOSURE_TSO) point at it and are cut off when it
 * ends.  The bound thread of an in-call has its record inside the InCall; unbound ones come from chunks, through a free list of each capability.
 *
 * Waiting.  Whoever waits has the word wait in state WAITING, with a number that no other wait of this record had.  Exactly one of those who may end the wait wins:
 *   - waits for an MVar: under that MVar's lock, by a plain store;
 *   - all others: by compare-and-swap from (number, WAITING).
 * HANDED: what it waited for is there (for MVars in value).  INTERRUPTED: an exception is pending.  The winner makes the thread runnable.
 * A thread that is in a run queue, or was made runnable, may still be on its way off an OS thread: onCpu is 1 until its registers are saved, and who
 * runs it next waits for 0.
 *
 * Exceptions.  pending has a bit for each kind of exception that waits; PENDING_THROW: the list throwers (under the record's lock) of threads that wait
 * in throwTo, each with its exception in value.  Who adds one sets the bit, issues membarrier, and looks whether the thread waits; who is about to wait stores WAITING
 * and then looks at pending: so one of the two sees the other.
 *
 * Ownership: [owner] who runs it, or holds the capability in whose run queue it is.  link and back belong to the queue that it is in. */
#ifndef THREAD_H
#define THREAD_H

#include "rts/Closures.h"
#include "timekeeper.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { WAIT_RUNNING, WAIT_WAITING, WAIT_HANDED, WAIT_INTERRUPTED, WAIT_STATES = 4 };

enum {
    PENDING_THROW = 1,      /* the list throwers is not empty */
    PENDING_CANCEL = 2,     /* rts_cancel */
    PENDING_TIMEOUT = 4,    /* the in-call's deadline */
    PENDING_LIMIT = 8,      /* the allocation limit */
    PENDING_DEADLOCK = 16,  /* nobody can end its wait for an MVar */
    PENDING_LOOP = 32,      /* nor its wait for a thunk */
    PENDING_OVERFLOWED = 64,/* the nursery's debts to it (gc/heap.h), taken along when it left the capability */
    PENDING_REFUSED = 128,
    PENDING_TIMER = 256,    /* a rts_timeout of its own is due: one of the list timeouts */
};

enum {
    TSO_NO_HOST = 1,   /* makes safe calls: run it on workers only */
    TSO_PINNED = 2,    /* forkOn: not moved */
    TSO_FORGOTTEN = 128, /* its record is in no chunk that we know: never used again */
    TSO_KEPT = 4,      /* [owner] a ThreadId exists, or did */
    TSO_BUDGET = 8,    /* [owner] bound: its in-call can be ended by rts_cancel or by its deadline */
    TSO_EXTRAS = 32,   /* [owner] extras is not NULL, or was not */
    TSO_COUNTED = 16,  /* [owner] what it allocates is counted in allocLeft */
};

/* What a thread does with its closure. */
enum { BODY_GEN, BODY_IO, BODY_STRICT_IO, BODY_NATIVE, BODY_KINDS };

/* What a thread of the runtime's own runs (BODY_NATIVE).  Its closure is the record's address, as a small integer. */
typedef struct NativeBody_ NativeBody;
struct NativeBody_ {
    HaskellObj (*run)(Stack *stack, NativeBody *body);
    void (*unborn)(Capability *cap, NativeBody *body); /* the thread could not begin, for want of a stack, and is no more */
    void (*killed)(NativeBody *body); /* its OS thread ended in the middle of run; unless run has cleared the record's closure */
};
static inline HaskellObj nativeClosure(NativeBody *body) { return CAPSTAN_SMALL_INT((intptr_t)body); }
static inline NativeBody *nativeBodyOf(HaskellObj closure) { return (NativeBody *)rts_smallIntValue(closure); }

/* Beyond RtsThreadStatus: the record is not in use, or belongs to a thread that was not scheduled yet. */
enum { THREAD_FREE = 100, THREAD_NEW = 101 };

struct InCall_;

#define LABEL_BYTES 32

struct StgTSO_ {
    /* A cache line: what a switch and a wait need. */
    StgTSO *link, *back;
    Stack *stack;               /* [owner] NULL until it begins */
    _Atomic uint64_t wait;      /* number * WAIT_STATES + WAIT_* */
    HaskellObj value;           /* a root: handed over, or to be put, or to be thrown */
    HaskellObj blockedOn;       /* a root: the MVar, thunk or ThreadId that it waits for */
    Capability *cap;            /* [owner] where it runs or ran last */
    _Atomic uint32_t onCpu;
    _Atomic uint8_t why;        /* [owner] RtsThreadStatus, or THREAD_* */
    uint8_t flags, body, mask;  /* [owner] mask: when it begins */

    /* And one: what a collection needs besides. */
    HaskellObj closure;         /* [owner] a root: what it evaluates, until it begins */
    HaskellObj handle;          /* its ThreadId, if there is one; not a root */
    StgTSO *throwers;           /* [lock: own] through back, last first */
    StgTSO *waiters;            /* [lock: own] threads that wait for thunks it evaluates, through back */
    struct InCall_ *incall;     /* [const] of a bound thread; NULL: unbound */
    _Atomic(struct Interrupt_ *) breakable; /* [atomic] in an interruptible call: interrupt.h */
    struct Timeout_ *timeouts;  /* [owner] of rts_timeout, the innermost first: timeout.h */
    StgTSO *gray;               /* [stopped] reached and not yet scanned */
    uint32_t marked;            /* [stopped] the walk that reached it */

    _Atomic uint32_t pending;
    _Atomic uint32_t lock;      /* guards throwers, waiters */
    _Atomic uint32_t hasWaiters;
    _Atomic uint8_t known;      /* [lock: own to clear] it may be given a ThreadId by others: unbound ones once they run, bound ones once they have one */
    bool limited;               /* [owner] allocLeft is a limit */
    bool staysDirty;            /* [stopped] something young was left in its roots */
    _Atomic uint32_t dirty;     /* [atomic] the epoch, if it is in the list of those that the next collection scans (gc/heap.h) */
    StgTSO *wakeLink;           /* [stopped] revived */
    void *waitRecord;           /* [owner] memory of a wait for a descriptor; or WAITS_AT + the thread in whose throwers or waiters it is */
    uint64_t id;                /* [owner] */
    int64_t allocLeft;          /* [owner] bytes; the counter of rts_setAllocationCounter */
    char label[LABEL_BYTES];    /* [lock: own, once it is known] */
    StgTSO *dirtyLink;          /* [in the list] next dirty one */
    struct Extras_ *extras;     /* [owner] what a language keeps here, made when first used: language.h */
    Timer timer;                /* delays, deadlines */
};

_Static_assert(sizeof(StgTSO) % 64 == 0, "records lie in whole cache lines");

static inline unsigned waitState(const StgTSO *tso)
{
    /* Pairs with the release of who ended the wait: value comes with it.  Sequentially consistent for those who have just announced
     * where they wait (host.c). */
    return (unsigned)(atomic_load_explicit(&tso->wait, memory_order_seq_cst) % WAIT_STATES);
}
static inline bool isWaiting(const StgTSO *tso) { return waitState(tso) == WAIT_WAITING; }
/* Begin a wait; returns its word, for who may end it. */
static inline uint64_t beginWait(StgTSO *tso, uint8_t why)
{
    uint64_t word = (atomic_load_explicit(&tso->wait, memory_order_relaxed) / WAIT_STATES + 1) * WAIT_STATES + WAIT_WAITING;
    atomic_store_explicit(&tso->why, why, memory_order_relaxed);
    atomic_store_explicit(&tso->wait, word, memory_order_release);
    return word;
}
/* End a wait by compare-and-swap.  word: what beginWait gave. */
static inline bool endWait(StgTSO *tso, uint64_t word, unsigned how)
{
    /* Release: what the thread finds when it goes on; acquire: what it left. */
    return atomic_compare_exchange_strong_explicit(&tso->wait, &word, word - WAIT_WAITING + how, memory_order_acq_rel,
                                                   memory_order_relaxed);
}
/* The same under the lock of the MVar that it waits for. */
static inline void endWaitLocked(StgTSO *tso, unsigned how)
{
    uint64_t word = atomic_load_explicit(&tso->wait, memory_order_relaxed);
    atomic_store_explicit(&tso->wait, word - WAIT_WAITING + how, memory_order_release);
}
static inline void setWhy(StgTSO *tso, uint8_t why) { atomic_store_explicit(&tso->why, why, memory_order_relaxed); }
/* Atomic: who has something for the thread looks from outside where it ran last. */
static inline void setCapOf(StgTSO *tso, Capability *cap) { __atomic_store_n(&tso->cap, cap, __ATOMIC_RELAXED); }
/* Release, acquire: who prods the thread from outside finds a record. */
static inline void setStackOf(StgTSO *tso, Stack *stack) { __atomic_store_n(&tso->stack, stack, __ATOMIC_RELEASE); }
static inline Stack *stackOf(const StgTSO *tso) { return __atomic_load_n(&tso->stack, __ATOMIC_ACQUIRE); }
static inline uint8_t whyOf(const StgTSO *tso) { return atomic_load_explicit(&tso->why, memory_order_relaxed); }
static inline bool isBound(const StgTSO *tso) { return tso->incall != NULL; }
/* Release: pairs with interruptWait, by others, who looks at the object. */
static inline void setBlockedOn(StgTSO *tso, HaskellObj v) { __atomic_store_n(&tso->blockedOn, v, __ATOMIC_RELEASE); }
/* The wait is over, and what it brought was taken: no root of it is left behind in the record. */
static inline void clearWaitRoots(StgTSO *tso)
{
    tso->value = CAPSTAN_UNIT;
    __atomic_store_n(&tso->blockedOn, CAPSTAN_UNIT, __ATOMIC_RELAXED);
}

/* Short spin locks of records and MVars: no safepoint while one is held. */
void lockWordSlow(_Atomic uint32_t *lock);
static inline void lockTSO(StgTSO *tso)
{
    if (atomic_exchange_explicit(&tso->lock, 1, memory_order_acquire) != 0) lockWordSlow(&tso->lock);
}
static inline void unlockTSO(StgTSO *tso) { atomic_store_explicit(&tso->lock, 0, memory_order_release); }

/* The queue of an MVar, under its lock. */
static inline void lockMVar(StgMVar *mvar)
{
    _Atomic uint32_t *lock = (_Atomic uint32_t *)&mvar->lock;
    if (atomic_exchange_explicit(lock, 1, memory_order_acquire) != 0) lockWordSlow(lock);
}
static inline void unlockMVar(StgMVar *mvar)
{
    atomic_store_explicit((_Atomic uint32_t *)&mvar->lock, 0, memory_order_release);
}
static inline void enqueueWaiter(StgMVar *mvar, StgTSO *tso)
{
    tso->link = NULL;
    tso->back = mvar->tail;
    if (mvar->tail != NULL) mvar->tail->link = tso;
    else mvar->head = tso;
    mvar->tail = tso;
}
static inline void unlinkWaiter(StgMVar *mvar, StgTSO *tso)
{
    if (tso->back != NULL) tso->back->link = tso->link;
    else mvar->head = tso->link;
    if (tso->link != NULL) tso->link->back = tso->back;
    else mvar->tail = tso->back;
}
/* The two kinds of waitRecord. */
#define WAITS_AT 1
static inline void setWaitsAt(StgTSO *tso, StgTSO *at) { tso->waitRecord = (char *)at + WAITS_AT; }
static inline StgTSO *waitsAt(const StgTSO *tso)
{
    uintptr_t record = (uintptr_t)tso->waitRecord;
    return record & WAITS_AT ? (StgTSO *)(record - WAITS_AT) : NULL;
}

/* Out of a list of throwers or waiters, under the lock of whose it is.  false: it was not in it. */
static inline bool unlinkBack(StgTSO **list, StgTSO *tso)
{
    while (*list != NULL && *list != tso) list = &(*list)->back;
    if (*list == NULL) return false;
    *list = tso->back;
    return true;
}

/* A record for an unbound thread, on cap, which the caller holds; NULL: no memory. */
StgTSO *newThread(Capability *cap, HaskellObj closure, uint8_t body, uint8_t mask);
/* It has ended (endThread): let the record be used again.  Context: the caller holds cap. */
void retireThread(Capability *cap, StgTSO *tso);
/* The record of a thread that outlived its runtime, by who holds no capability. */
void recycleThread(StgTSO *tso);
/* The thread ends: its ThreadId, if there is one, says how, and nobody gives it another.  Context: its lock. */
void closeThread(StgTSO *tso, uint8_t ended);
/* Its ThreadId; CAPSTAN_POISON: no memory.  Context: the caller holds cap, and the thread is its own, or was not scheduled yet. */
HaskellObj threadHandle(Capability *cap, StgTSO *tso);
/* The same of any thread; NULL: it has ended, or is the bound thread of an in-call that has none. */
HaskellObj handleOfOther(Capability *cap, StgTSO *tso);
/* Visit the bound threads that have a ThreadId, under a lock. */
void eachNamedBound(void (*f)(StgTSO *tso, void *ctx), void *ctx);
/* A bound thread with a ThreadId has ended: nobody looks at it any more. */
void forgetNamed(StgTSO *tso);
/* The same, and of the ThreadId there is nothing left that one could cut off: its runtime ended first. */
void forgetBound(StgTSO *tso);
/* Its in-call was ended by something else than its return: what others left with it is of no use to the next. */
void forgetBoundWaits(StgTSO *tso);
/* Others may be labelling it. */
void copyLabel(StgTSO *tso, char label[LABEL_BYTES]);
/* The record behind a ThreadId; NULL: it has ended, or v is none. */
StgTSO *threadOf(HaskellObj v);

/* Visit every record of unbound threads in use.  Context: the world is stopped, or torn pictures will do. */
void eachThread(void (*f)(StgTSO *tso, void *ctx), void *ctx);
/* In a forked child: there are none. */
void forgetThreads(void);
uint64_t newThreadNumber(void);
uint64_t countThreadsMade(void);
/* Exit: every record that no OS thread is inside of is free.  keep(tso): somebody is. */
void freeThreads(bool (*keep)(StgTSO *tso), void (*drop)(StgTSO *tso));

#endif

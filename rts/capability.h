/* capability.h: the right to run managed code.
 *
 * The word.  holder is FREE, the Task that holds the capability, or STOPPED or CLOSED.  Taking it is one compare-and-swap;
 * giving it up is a plain store of FREE and then a plain load of attention.  Whoever wants something of a holder sets a bit in
 * attention first and issues membarrier, then looks at holder: so either the releaser sees the bit, or the other sees FREE.
 * What a releaser does for others it does after its capability is free, by compare-and-swap from FREE, under the caps lock;
 * except that a hand-over or a stop that it sees beforehand it obeys without freeing the capability.
 *
 * Waiting.  Who finds no free capability spins briefly, then parks in the queue of its NUMA node.  While a queue is not empty
 * every capability has WAITERS set.  At most one wake is in flight: a releaser that sees WAITERS and no flight wakes the front
 * waiter, which looks for a free capability itself (so others may barge in).  If it takes one, the flight passes to the next
 * waiter; if it goes back to sleep in its place, the flight is over and it looks once more (membarrier, scan), because releases
 * during the flight woke nobody: if it finds one then, and another is free, it starts the next wake.  A waiter that has waited long enough sets HANDOVER on a capability that was not handed over
 * for as long; its holder's next release, or safepoint, gives it to the front waiter.
 *
 * doc/memory-model.md has the argument, doc/model/capability.pml the model.
 *
 * Ownership: fields tagged [holder] belong to who holds the capability.  Records are static and never go away. */
#ifndef CAPABILITY_H
#define CAPABILITY_H

#include "base/report.h"
#include "gc/heap.h"
#include "os/os.h"
#include "stack_pool.h"
#include "task.h"

#define MAX_CAPABILITIES 1024

#define HOLDER_FREE    ((uintptr_t)0)
#define HOLDER_STOPPED ((uintptr_t)1)  /* taken by who stops the world */
#define HOLDER_CLOSED  ((uintptr_t)2)  /* there is no runtime, or not this many capabilities */

enum {
    ATTENTION_WAITERS = 1,   /* [lock: caps] somebody is parked */
    ATTENTION_HANDOVER = 2,  /* [lock: caps] give it to the front waiter */
    ATTENTION_STOP = 4,      /* [lock: caps] give it to who stops the world */
    ATTENTION_SHUTDOWN = 8,  /* [lock: caps] evaluations end as Interrupted */
    ATTENTION_COLLECT = 16,  /* [holder] a collection is due at the next safepoint */
    ATTENTION_SLOW = 32,     /* [const] no membarrier: every release fences and looks again */
    ATTENTION_INBOX = 64,    /* [atomic] something came in from outside; the holder clears it, then looks */
    ATTENTION_SLICE = 128,   /* [atomic] the running thread has had its time, and others wait in the queue */
    ATTENTION_SHARE = 256,   /* [atomic] another capability is idle: give it threads */
    ATTENTION_HOST = 512,    /* [atomic] the holder's own thread, which hosts, was woken from elsewhere */
};
/* What a safepoint has to look at. */
#define ATTENTION_POLL                                                                                                 \
    (ATTENTION_HANDOVER | ATTENTION_STOP | ATTENTION_SHUTDOWN | ATTENTION_COLLECT | ATTENTION_INBOX | ATTENTION_SLICE | \
     ATTENTION_SHARE | ATTENTION_HOST)
/* Of these a release has to tell somebody. */
#define ATTENTION_RELEASE (ATTENTION_WAITERS | ATTENTION_HANDOVER | ATTENTION_STOP | ATTENTION_SLOW | ATTENTION_INBOX)

/* Something to be done by whoever holds a capability, posted from outside. */
typedef struct Job_ Job;
struct Job_ {
    Job *next;
    void (*run)(Capability *cap, Job *job); /* owns the job; no safepoint */
};

struct Capability_ {
    Nursery nursery;                      /* [holder]; begins with the registers that public headers know */
    _Atomic(StgTSO *) runHead;            /* [holder to write] threads that can run, through link; none of them bound */
    StgTSO *runTail;                      /* [holder] */
    _Atomic unsigned runLength;           /* [holder to write] */
    bool hostReady;                       /* [holder] its holder hosts, and its own thread has been woken: home at the next safepoint */
    _Atomic bool hostNext;                /* [holder to write] it is its own thread's turn at the next switch */
    unsigned hostTurns;                   /* [holder] not 0: so many switches until hostNext */
    StgTSO *leaving;                      /* [holder] the thread whose stack was just switched away from */
    _Atomic uint32_t switches;            /* [holder to write] counts */
    _Atomic uint64_t census;              /* [holder to write] only the sum over all means something: addToCensus */
    StackCache stacks;                    /* [holder] */
    StgTSO *freeThreads;                  /* [holder] spare records */
    unsigned freeThreadCount;
    uint64_t nextNumber, threadsMade;     /* [holder] */
    uint32_t tickSwitches, stale;         /* [timekeeper] switches at the last tick; ticks since they changed */
    unsigned no;                          /* [const] */
    _Atomic unsigned node;                /* NUMA node; changes with the runtime */
    RtsStatus dead;                       /* [const] RTS_OK, or why this is a dead capability */
    SchedulerStatus deadStatus;           /* [const] */
    _Alignas(64) _Atomic uintptr_t holder;
    _Atomic uint32_t attention;
    _Atomic uint64_t handedOver;          /* [atomic] when a parked waiter last got it, nanoseconds */
    _Atomic(StgTSO *) inboxThreads;       /* [atomic] woken from outside, through link; the holder takes them all */
    _Atomic(Job *) inboxJobs;
} __attribute__((aligned(128)));

/* All capabilities there can be; those that are in use first. */
extern Capability capabilities[MAX_CAPABILITIES];
/* How many; 0 while there is no runtime. */
extern _Atomic unsigned numCapabilities;

/* The last hs_exit is at work. */
extern _Atomic bool runtimeIsEnding;

/* Capabilities that are none: what rts_lock returns when it must not return a real one. */
extern Capability deadNotStarted, deadClosed, deadHolds, deadFinalizer, deadNoMemory, deadInterrupted,
    deadOutOfOrder, deadBusy, deadTimedOut, deadCancelled, deadBadArgument;
/* In Task.cap while the thread runs finalizers without a capability; nobody is ever given it. */
extern Capability finalizerMark;

static inline CapstanRegs *regsOf(Capability *cap) { return &cap->nursery.r; }

/* FREE -> task, or nothing. */
static inline bool tryTakeCapability(Capability *cap, Task *task)
{
    uintptr_t expected = HOLDER_FREE;
    /* Acquire: pairs with the release in releaseCapability, so that the nursery is seen as it was left. */
    return atomic_compare_exchange_strong_explicit(&cap->holder, &expected, (uintptr_t)task, memory_order_acquire,
                                                   memory_order_relaxed);
}

/* last used, if free; preferred; a free one of this node; a free one anywhere; NULL. */
Capability *find_capability_for_task(Task *task);

/* A capability for this Task, waiting if it must.  NULL: the runtime ended; or, with task->wakeup WAIT_GAVE_UP, it is later than
 * task->until, or cancelWait was called. */
Capability *waitForCapabilitySlow(Task *task);
static inline Capability *waitForCapability(Task *task)
{
    Capability *cap = task->last;
    if (CAPSTAN_LIKELY(tryTakeCapability(cap, task))) return cap;
    return waitForCapabilitySlow(task);
}

/* End the wait of a Task for a capability, or its next one, if it has not begun.  Any thread; the caller knows that the Task
 * is in such a wait, about to begin it, or just behind it. */
void cancelWait(Task *task);

/* The first half of a release: cap is free now, unless somebody is to have it, who must not lose it to who barges in.  The result
 * is what is asked of cap; if it is not 0, releaseSlow has the rest to do. */
static inline uint32_t storeFree(Capability *cap)
{
    uint32_t asked = atomic_load_explicit(&cap->attention, memory_order_relaxed);
    if (CAPSTAN_UNLIKELY(asked & (ATTENTION_HANDOVER | ATTENTION_STOP))) return asked;
    /* Release: pairs with the acquire of the next taker. */
    atomic_store_explicit(&cap->holder, HOLDER_FREE, memory_order_release);
    /* Only the compiler must not reorder: the other side's membarrier does the rest. */
    atomic_signal_fence(memory_order_seq_cst);
    return atomic_load_explicit(&cap->attention, memory_order_relaxed);
}
void releaseSlow(Capability *cap, Task *holder);
/* 1: a woken waiter has not yet decided. */
extern _Atomic uint32_t wakeInFlight;
/* What storeFree found is only that somebody waits, who is on the way: nothing is left to do. */
static inline bool isWaiterComing(uint32_t asked)
{
    return asked == ATTENTION_WAITERS && atomic_load_explicit(&wakeInFlight, memory_order_relaxed) != 0;
}
/* Threads wait in its queue.  Anybody may ask; the holder's answer is exact. */
static inline bool hasWork(Capability *cap) { return atomic_load_explicit(&cap->runHead, memory_order_relaxed) != NULL; }
/* A capability is free that has work: see to it that a worker comes by.  Set by worker.c. */
extern void (*wakeWorker)(void);
/* Give up a capability that holder, the calling thread's Task, holds. */
static inline void releaseCapability(Capability *cap, Task *holder)
{
    bool work = hasWork(cap); /* before it is another's */
    uint32_t asked = storeFree(cap);
    if (CAPSTAN_UNLIKELY((asked & ATTENTION_RELEASE) != 0) && !isWaiterComing(asked)) releaseSlow(cap, holder);
    if (CAPSTAN_UNLIKELY(work)) wakeWorker();
}
/* Give cap, which the caller holds, to another Task, which must come to know of it. */
static inline void giveCapability(Capability *cap, Task *heir)
{
    atomic_store_explicit(&cap->holder, (uintptr_t)heir, memory_order_release);
}

/* What poll is when nothing is asked: torture builds stop at every safepoint all the same. */
#ifdef CAPSTAN_TORTURE
#define POLL_IDLE 1
#else
#define POLL_IDLE 0
#endif
static inline bool isPolled(Stack *stack) { return __atomic_load_n(&stack->poll, __ATOMIC_RELAXED) != 0; }

/* What attendStack is for. */
#define ATTENTION_ON_ENTRY                                                                                    \
    (ATTENTION_HANDOVER | ATTENTION_STOP | ATTENTION_SHUTDOWN | ATTENTION_COLLECT | ATTENTION_INBOX | ATTENTION_HOST | \
     ATTENTION_SLOW)

/* The next collection is to scan this thread: it runs, or something was put into its roots.  Context: the caller holds cap. */
static inline void markDirty(Capability *cap, StgTSO *tso)
{
    uint32_t listed = (uint32_t)atomic_load_explicit(&currentEpoch, memory_order_relaxed);
    if (CAPSTAN_LIKELY(atomic_load_explicit(&tso->dirty, memory_order_relaxed) == listed)) return;
    if (atomic_exchange_explicit(&tso->dirty, listed, memory_order_relaxed) == listed) return;
    tso->dirtyLink = cap->nursery.dirty;
    cap->nursery.dirty = tso;
}

/* Make stack the one that cap's holder runs on.  true: something may be asked of it already: call attendStack. */
static inline bool placeStack(Capability *cap, Stack *stack)
{
    stack->cap = cap;
    markDirty(cap, stack->tso);
    /* Release: the record may be a new one; pairs with requestPoll. */
    __atomic_store_n(&regsOf(cap)->stack, stack, __ATOMIC_RELEASE);
    __atomic_store_n(&stack->poll, POLL_IDLE, __ATOMIC_RELAXED);
    /* Pairs with requestPoll: it sets attention, issues membarrier, then reads cap's stack. */
    atomic_signal_fence(memory_order_seq_cst);
    return CAPSTAN_UNLIKELY(atomic_load_explicit(&cap->attention, memory_order_relaxed) & ATTENTION_ON_ENTRY) != 0 ||
           POLL_IDLE != 0;
}
/* Let the stack poll if something is asked of its capability. */
void attendStack(Capability *cap, Stack *stack);

/* The sum of all capabilities' censuses changes with the set of threads there are, and with who of them waits for what kind of thing. */
#define CENSUS_EXISTS 256 /* what each thread counts for; a waiting one counts for its RtsThreadStatus as well */
static inline void addToCensus(Capability *cap, const StgTSO *tso, uint64_t times)
{
    uint64_t census = atomic_load_explicit(&cap->census, memory_order_relaxed) + (uintptr_t)tso * times;
    atomic_store_explicit(&cap->census, census, memory_order_relaxed);
}

/* Allocation counters.  While a thread with TSO_COUNTED runs, its capability's nursery has its account; whoever takes the thread off the capability ends that. */
void endAccount(Capability *cap);
/* tso is about to run: what was allocated before is not its. */
void changeAccount(Capability *cap, StgTSO *tso);
static inline void stopCounting(Capability *cap)
{
    if (CAPSTAN_UNLIKELY(cap->nursery.account != NULL)) endAccount(cap);
}
static inline void setRunningStack(Capability *cap, Stack *stack)
{
    if (placeStack(cap, stack)) attendStack(cap, stack);
    /* An exception's prod may have come before. */
    if (CAPSTAN_UNLIKELY(atomic_load_explicit(&stack->tso->pending, memory_order_relaxed) != 0))
        __atomic_store_n(&stack->poll, 1, __ATOMIC_RELAXED);
    if (CAPSTAN_UNLIKELY((cap->nursery.account != NULL) | (stack->tso->flags & TSO_COUNTED))) changeAccount(cap, stack->tso);
}

/* Set bits that the holder, or who releases next, is to see, and make sure of it.  true: nobody holds cap. */
bool askOf(Capability *cap, uint32_t bits);
void clearAttention(Capability *cap, uint32_t bits);

/* Ask the holder of cap to look at attention at its next safepoint.  The bit is set; unless membarrier was issued since, a holder
 * that just changes its stack may miss it. */
void requestPoll(Capability *cap);

/* Context: startup, as the stopper; nobody holds any. */
void initCapabilities(unsigned n, uint64_t quantum_ns, bool noMembarrier);
/* All capabilities are STOPPED: make them CLOSED and send parked waiters home. */
void closeCapabilities(void);

/* In a forked child: there are none.  Then, before the next start: as if there had never been any. */
void forgetCapabilities(void);
void clearCapabilities(void);

/* ---- for stop.c ---- */
extern Lock capsLock;
/* Called under the caps lock by a releaser that found STOP and turned FREE into STOPPED. */
extern void (*capabilityStopped)(void);
/* After capabilities became free without a release: see to it that waiters come by.  Takes the caps lock. */
void wakeAfterRestart(void);
/* Full barrier against every thread of the process. */
static inline void heavyBarrier(void) { osMembarrier(); }

/* How many are parked; unlocked, for people. */
unsigned parkedWaiters(void);

#ifdef CAPSTAN_DEBUG
void capabilityInvariants(const Capability *cap);
#else
static inline void capabilityInvariants(const Capability *cap) {}
#endif

#endif

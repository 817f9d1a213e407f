#include "capability.h"

#include "arch.h"
#include "gc/crew.h"
#include "os/topology.h"

#include <string.h>

Capability capabilities[MAX_CAPABILITIES] = { [0 ... MAX_CAPABILITIES - 1] = { .holder = HOLDER_CLOSED } };
_Atomic unsigned numCapabilities;
_Atomic bool runtimeIsEnding;

/* Managed code that comes to a safepoint with one of these is to end. */
#define DEAD(why, how) { .dead = (why), .deadStatus = (how), .holder = HOLDER_CLOSED, .attention = ATTENTION_SHUTDOWN }
Capability deadNotStarted = DEAD(RTS_NOT_STARTED, Refused), deadClosed = DEAD(RTS_CLOSED, Refused),
           deadHolds = DEAD(RTS_HOLDS_CAPABILITY, Refused), deadFinalizer = DEAD(RTS_IN_FINALIZER, Refused),
           deadNoMemory = DEAD(RTS_NO_MEMORY, Refused), deadInterrupted = DEAD(RTS_CLOSED, Interrupted),
           deadOutOfOrder = DEAD(RTS_OUT_OF_ORDER, Interrupted), deadBusy = DEAD(RTS_BUSY, Refused),
           deadTimedOut = DEAD(RTS_TIMED_OUT, TimedOut), deadCancelled = DEAD(RTS_CANCELLED, Cancelled),
           deadBadArgument = DEAD(RTS_BAD_ARGUMENT, Refused),
           finalizerMark = DEAD(RTS_IN_FINALIZER, Refused);

Lock capsLock = LOCK_INIT(RANK_CAPS);
void (*capabilityStopped)(void);
static void wakeNobody(void) {}
void (*wakeWorker)(void) = wakeNobody;

/* Waiters of more nodes than this share queues. */
#define MAX_QUEUES 64
/* How often to look for a free capability before parking; more often while the world is stopped, which is soon over. */
#define LOOKS_BEFORE_PARKING 30
#define LOOKS_WHILE_STOPPED  600
/* How long a woken waiter hovers at most, and how long it naps between two looks; the kernel adds up to 50 us. */
#define MAX_HOVER_NS 2000000
#define HOVER_NAP_NS 50000
/* How often a capability must look free to be idle. */
#define LOOKS_AT_IDLE 3
/* Shorter sleeps cost more than they bring. */
#define MIN_PARK_NS 20000
/* How often a woken waiter must have found no capability free to believe that calls are long. */
#define LOOKS_AT_LONG_CALLS 2
/* Changing places costs two trips through the kernel.  Among threads that make short calls it happens this much more seldom than
 * one that makes long calls is asked to yield. */
#define SHORT_CALL_QUANTA 5
/* A waiter of another node goes first if it is older by this many quanta. */
#define FOREIGN_QUANTA 4

static struct {
    struct { Task *head, *tail; } queues[MAX_QUEUES]; /* [lock: caps] */
    _Atomic unsigned nodes;                           /* queues in use; changes only while all are empty */
    _Atomic unsigned parked;                          /* [lock: caps to write] */
    bool closed;                                      /* [lock: caps] */
    _Atomic bool noMembarrier;                        /* changes with the runtime */
    _Atomic uint64_t quantum;                         /* nanoseconds; changes with the runtime */
} waiters = { .nodes = 1, .closed = true };

/* In a cache line of its own: releasers read it. */
_Atomic uint32_t wakeInFlight __attribute__((aligned(128)));

unsigned parkedWaiters(void) { return atomic_load_explicit(&waiters.parked, memory_order_relaxed); }

#ifdef CAPSTAN_DEBUG
void capabilityInvariants(const Capability *cap)
{
    uintptr_t holder = atomic_load_explicit(&cap->holder, memory_order_relaxed);
    ASSERT(holder <= HOLDER_CLOSED || ((Task *)holder)->cap == cap || ((Task *)holder)->cap == NULL);
    ASSERT(cap->no < MAX_CAPABILITIES);
}
#endif

static void setAttention(Capability *cap, uint32_t bits)
{
    if ((atomic_load_explicit(&cap->attention, memory_order_relaxed) & bits) != bits)
        atomic_fetch_or_explicit(&cap->attention, bits, memory_order_relaxed);
}

void clearAttention(Capability *cap, uint32_t bits)
{
    if (atomic_load_explicit(&cap->attention, memory_order_relaxed) & bits)
        atomic_fetch_and_explicit(&cap->attention, ~bits, memory_order_relaxed);
}

void initCapabilities(unsigned n, uint64_t quantum_ns, bool noMembarrier)
{
    osMembarrierForceRefused = noMembarrier;
    waiters.noMembarrier = !osMembarrierInit();
    waiters.quantum = quantum_ns;
    waiters.nodes = topologyNodes() < MAX_QUEUES ? topologyNodes() : MAX_QUEUES;
    acquireLock(&capsLock);
    waiters.closed = false;
    wakeInFlight = 0;
    for (unsigned i = 0; i < n; i++) {
        Capability *cap = &capabilities[i];
        if (cap->no != i) cap->no = i; /* late callers of an earlier runtime may be reading it */
        cap->node = topologyNodeOfCapability(i);
        cap->handedOver = 0;
        cap->attention = waiters.noMembarrier ? ATTENTION_SLOW : 0;
    }
    numCapabilities = n;
    for (unsigned i = 0; i < n; i++)
        atomic_store_explicit(&capabilities[i].holder, HOLDER_FREE, memory_order_release);
    releaseLock(&capsLock);
}

/* ---- Looking for a free one ---- */

static inline bool tryFree(Capability *cap, Task *task)
{
    return atomic_load_explicit(&cap->holder, memory_order_relaxed) == HOLDER_FREE && tryTakeCapability(cap, task);
}

static Capability *findOnNode(Task *task, bool mine)
{
    unsigned n = numCapabilities, start = task->last->no;
    for (unsigned i = 0; i < n; i++) {
        Capability *cap = &capabilities[(start + i) % n];
        bool near = cap->node % waiters.nodes == task->node % waiters.nodes;
        if (near == mine && tryFree(cap, task)) return cap;
    }
    return NULL;
}

Capability *find_capability_for_task(Task *task)
{
    unsigned n = numCapabilities;
    if (n == 0) return NULL;
    if (tryFree(task->last, task)) return task->last;
    if (task->flags & TASK_PREFERS) {
        Capability *preferred = &capabilities[task->preferred % n];
        if (tryFree(preferred, task)) return preferred;
    }
    Capability *cap = findOnNode(task, true);
    return cap != NULL ? cap : findOnNode(task, false);
}

static bool isAnyFree(void)
{
    for (unsigned i = 0, n = numCapabilities; i < n; i++)
        if (atomic_load_explicit(&capabilities[i].holder, memory_order_relaxed) == HOLDER_FREE) return true;
    return false;
}

/* ---- The queue ---- */

static void enqueue(Task *task)
{
    unsigned q = task->node % waiters.nodes;
    task->qnext = NULL;
    task->qprev = waiters.queues[q].tail;
    if (task->qprev) task->qprev->qnext = task;
    else waiters.queues[q].head = task;
    waiters.queues[q].tail = task;
    task->queued = true;
    waiters.parked++;
    for (unsigned i = 0, n = numCapabilities; i < n; i++) setAttention(&capabilities[i], ATTENTION_WAITERS);
}

static void dequeue(Task *task)
{
    unsigned q = task->node % waiters.nodes;
    if (task->qprev) task->qprev->qnext = task->qnext;
    else waiters.queues[q].head = task->qnext;
    if (task->qnext) task->qnext->qprev = task->qprev;
    else waiters.queues[q].tail = task->qprev;
    task->queued = false;
    if (--waiters.parked > 0) return;
    for (unsigned i = 0, n = numCapabilities; i < n; i++)
        clearAttention(&capabilities[i], ATTENTION_WAITERS | ATTENTION_HANDOVER);
}

/* Who should get a capability of this node: its front waiter, unless another node's is much older. */
static Task *frontWaiter(unsigned node)
{
    Task *best = waiters.queues[node % waiters.nodes].head;
    for (unsigned q = 0; q < waiters.nodes; q++) {
        Task *other = waiters.queues[q].head;
        if (other == NULL || other == best) continue;
        if (best == NULL || other->since + FOREIGN_QUANTA * waiters.quantum < best->since) best = other;
    }
    return best;
}

/* Context: the caps lock, under which the Task cannot go away.  The caller, without the lock, gives the result to rouse. */
static _Atomic uint32_t *markWoken(Task *task, uint32_t how)
{
    atomic_store_explicit(&task->wakeup, how, memory_order_release);
    return &task->wakeup;
}

/* The Task may have gone on, or away, since: then this wakes nobody, or somebody who looks again. */
static void rouse(_Atomic uint32_t *word)
{
    if (word != NULL) osFutexWake(word, 1);
}

/* A waiter that had the wake leaves the queue.  Releases during its flight woke nobody; so the next waiter gets the wake, and looks.
 * Context: the caps lock.  Returns whom to rouse. */
static _Atomic uint32_t *passFlight(unsigned node)
{
    Task *next = frontWaiter(node);
    if (next != NULL) return markWoken(next, WAIT_WOKEN);
    atomic_store_explicit(&wakeInFlight, 0, memory_order_relaxed); /* who parks later scans first */
    return NULL;
}

/* Start the one wake, unless it is in flight or nobody is parked. */
static void wakeOneWaiter(unsigned node)
{
    uint32_t none = 0;
    if (atomic_load_explicit(&wakeInFlight, memory_order_relaxed) != 0) return;
    if (!atomic_compare_exchange_strong_explicit(&wakeInFlight, &none, 1, memory_order_seq_cst, memory_order_relaxed))
        return;
    acquireLock(&capsLock);
    _Atomic uint32_t *word = passFlight(node);
    releaseLock(&capsLock);
    rouse(word);
}

/* A capability that is free though somebody sleeps wakes one. */
static void wakeIfFree(unsigned node)
{
    if (parkedWaiters() != 0 && isAnyFree()) wakeOneWaiter(node);
}

/* Capabilities became free without a release. */
void wakeAfterRestart(void)
{
    if (parkedWaiters() == 0) return;
    heavyBarrier();
    wakeIfFree(0);
}

/* ---- Giving up ---- */

/* Give cap to the front waiter: from, its holder that is releasing it, or FREE, unless somebody barged in, whose release will do it.
 * Fills in whom to rouse.  false: nobody got it. */
static bool handOver(Capability *cap, uintptr_t from, _Atomic uint32_t *rousing[2])
{
    Task *heir = frontWaiter(cap->node);
    if (heir == NULL || !atomic_compare_exchange_strong_explicit(&cap->holder, &from, (uintptr_t)heir, memory_order_acq_rel,
                                                                 memory_order_relaxed))
        return false;
    clearAttention(cap, ATTENTION_HANDOVER);
    dequeue(heir);
    heir->given = cap;
    bool flying = atomic_load_explicit(&heir->wakeup, memory_order_relaxed) == WAIT_WOKEN;
    rousing[0] = markWoken(heir, WAIT_GIVEN);
    if (flying) rousing[1] = passFlight(cap->node);
    return true;
}

/* The same for who stops the world. */
static bool stopReleased(Capability *cap, uintptr_t from)
{
    if (!atomic_compare_exchange_strong_explicit(&cap->holder, &from, HOLDER_STOPPED, memory_order_acq_rel,
                                                 memory_order_relaxed))
        return false;
    capabilityStopped();
    return true;
}

/* STOP and HANDOVER, both looked at again under the lock under which they are set and cleared.  from: the releasing holder if
 * cap is still held, else FREE.  false: cap is still held. */
static bool giveToOthers(Capability *cap, uintptr_t from)
{
    _Atomic uint32_t *rousing[2] = { NULL, NULL };
    bool given = false;
    acquireLock(&capsLock);
    uint32_t attention = atomic_load_explicit(&cap->attention, memory_order_relaxed);
    if (attention & ATTENTION_STOP) given = stopReleased(cap, from);
    else if (attention & ATTENTION_HANDOVER) given = handOver(cap, from, rousing);
    releaseLock(&capsLock);
    rouse(rousing[0]);
    rouse(rousing[1]);
    return from == HOLDER_FREE || given;
}

void releaseSlow(Capability *cap, Task *holder)
{
    /* storeFree left it held: nobody else's value can be there then. */
    if (atomic_load_explicit(&cap->holder, memory_order_relaxed) == (uintptr_t)holder) {
        if (giveToOthers(cap, (uintptr_t)holder)) return;
        atomic_store_explicit(&cap->holder, HOLDER_FREE, memory_order_release);
        atomic_signal_fence(memory_order_seq_cst);
    }
    if (waiters.noMembarrier) atomic_thread_fence(memory_order_seq_cst);
    uint32_t attention = atomic_load_explicit(&cap->attention, memory_order_relaxed);
    if (attention & (ATTENTION_STOP | ATTENTION_HANDOVER)) giveToOthers(cap, HOLDER_FREE);
    if (attention & ATTENTION_WAITERS) wakeOneWaiter(cap->node);
    if (attention & ATTENTION_INBOX) wakeWorker();
}

void attendStack(Capability *cap, Stack *stack)
{
    if (waiters.noMembarrier) atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&cap->attention, memory_order_relaxed) & ATTENTION_POLL)
        __atomic_store_n(&stack->poll, 1, __ATOMIC_RELAXED);
}

void endAccount(Capability *cap)
{
    chargeAccount(&cap->nursery);
    cap->nursery.account = NULL;
}

void changeAccount(Capability *cap, StgTSO *tso)
{
    stopCounting(cap);
    if (tso->flags & TSO_COUNTED) openAccount(&cap->nursery, &tso->allocLeft);
}

bool askOf(Capability *cap, uint32_t bits)
{
    /* Always: what was posted before comes before this, for who clears the bit and then looks. */
    atomic_fetch_or_explicit(&cap->attention, bits, memory_order_seq_cst);
    heavyBarrier();
    requestPoll(cap);
    return atomic_load_explicit(&cap->holder, memory_order_relaxed) == HOLDER_FREE;
}

void requestPoll(Capability *cap)
{
    /* The stack may have been given up since; its record is still a Stack, and a poll too many costs little. */
    Stack *stack = __atomic_load_n(&regsOf(cap)->stack, __ATOMIC_ACQUIRE);
    if (stack != NULL) __atomic_store_n(&stack->poll, 1, __ATOMIC_RELAXED);
}

/* ---- Waiting ---- */

/* Ask for a capability, once the task has waited for so long and no waiter got the capability for so long. */
static void askForHandOver(Task *task, uint64_t now, uint64_t patience)
{
    if (now - task->since < patience) return;
    for (unsigned i = 0, n = numCapabilities; i < n; i++) {
        Capability *cap = &capabilities[(task->last->no + i) % n];
        if (now - atomic_load_explicit(&cap->handedOver, memory_order_relaxed) < patience) continue;
        if (atomic_load_explicit(&cap->attention, memory_order_relaxed) & ATTENTION_HANDOVER) {
            requestPoll(cap); /* asked before; the stack that runs now may have come since */
            return;
        }
        acquireLock(&capsLock);
        bool parked = atomic_load_explicit(&task->wakeup, memory_order_relaxed) <= WAIT_WOKEN;
        if (parked) setAttention(cap, ATTENTION_HANDOVER);
        releaseLock(&capsLock);
        /* No barrier: if the holder changes its stack just now it may miss this, but not the next time. */
        if (parked) requestPoll(cap);
        return;
    }
}

/* Leave the queue, with a capability that the task took itself, or with NULL.  Returns what it has then: if it was given one meanwhile
 * it keeps that, and puts its own back. */
static Capability *leaveQueue(Task *task, Capability *cap)
{
    _Atomic uint32_t *word = NULL;
    acquireLock(&capsLock);
    uint32_t how = atomic_load_explicit(&task->wakeup, memory_order_relaxed);
    if (task->queued) {
        dequeue(task);
        atomic_store_explicit(&task->wakeup, WAIT_GAVE_UP, memory_order_relaxed);
        if (how == WAIT_WOKEN) word = passFlight(task->node);
    } /* else it was given one; or sent home, or cancelled: then what it took is one of the new ones, or its caller's to give back */
    releaseLock(&capsLock);
    rouse(word);
    if (how != WAIT_GIVEN) return cap;
    if (cap != NULL) releaseCapability(cap, task);
    return task->given;
}

void cancelWait(Task *task)
{
    _Atomic uint32_t *words[2] = { NULL, NULL };
    acquireLock(&capsLock);
    task->unwilling = true;
    if (task->queued) {
        dequeue(task);
        bool flying = atomic_load_explicit(&task->wakeup, memory_order_relaxed) == WAIT_WOKEN;
        words[0] = markWoken(task, WAIT_GAVE_UP);
        if (flying) words[1] = passFlight(task->node);
    }
    releaseLock(&capsLock);
    rouse(words[0]);
    rouse(words[1]);
}

static bool isTimeUp(const Task *task, uint64_t now) { return CAPSTAN_UNLIKELY(task->until != 0) && now >= task->until; }

static void relax(unsigned n)
{
    while (n-- > 0) archRelax();
}

static bool isWorldStopping(void)
{
    return atomic_load_explicit(&capabilities[0].attention, memory_order_relaxed) & ATTENTION_STOP;
}

static Capability *spinForCapability(Task *task)
{
    for (unsigned i = 0; i < LOOKS_BEFORE_PARKING || (i < LOOKS_WHILE_STOPPED && isWorldStopping()); i++) {
        Capability *cap = find_capability_for_task(task);
        if (cap != NULL) return cap;
        if (CAPSTAN_UNLIKELY(isHelpWanted())) helpCollect(task->last->no);
        relax(4);
    }
    return NULL;
}

static bool isSettled(Task *task) { return atomic_load_explicit(&task->wakeup, memory_order_relaxed) >= WAIT_GIVEN; }

/* A capability that stays free for a moment.  One that is free between two calls of a busy thread is better left to that
 * thread: taking it would only make the two change places. */
static Capability *findIdleCapability(Task *task, bool *seenFree)
{
    for (unsigned i = 0, n = numCapabilities; i < n; i++) {
        Capability *cap = &capabilities[(task->last->no + i) % n];
        unsigned looks = 0;
        while (looks < LOOKS_AT_IDLE && atomic_load_explicit(&cap->holder, memory_order_relaxed) == HOLDER_FREE) {
            relax(8);
            looks++;
        }
        *seenFree |= looks > 0;
        if (looks == LOOKS_AT_IDLE && tryTakeCapability(cap, task)) return cap;
    }
    return NULL;
}

/* What a woken waiter does for a while: it looks now and then, naps in between (looking takes the word from its holder's cache, and the
 * processor from somebody), and asks for a hand-over when that is due.  Meanwhile no release has to wake anybody; a capability that
 * comes free may stay so for a nap.  Where calls are short it goes on until it must have been handed one; so nobody else is woken. */
static Capability *hoverForCapability(Task *task)
{
    uint64_t began = osMonotonicNanos(), quantum = waiters.quantum;
    unsigned looks = 0;
    bool shortCalls = false; /* capabilities come free all the time: somebody makes one short call after the other */
    for (uint64_t now = began, most = quantum; now - began < most && !isSettled(task) && !isTimeUp(task, now);
         now = osMonotonicNanos()) {
        Capability *cap = findIdleCapability(task, &shortCalls);
        if (cap != NULL) return cap;
        if (shortCalls) askForHandOver(task, now, SHORT_CALL_QUANTA * quantum);
        else if (++looks > LOOKS_AT_LONG_CALLS) askForHandOver(task, now, quantum);
        most = (shortCalls ? 2 * SHORT_CALL_QUANTA : 1) * quantum;
        if (most > MAX_HOVER_NS) most = MAX_HOVER_NS;
        osFutexWait(&task->wakeup, WAIT_WOKEN, HOVER_NAP_NS);
    }
    return NULL;
}

/* End the flight and go back to sleep in the same place. */
static void settle(Task *task)
{
    acquireLock(&capsLock);
    if (atomic_load_explicit(&task->wakeup, memory_order_relaxed) == WAIT_WOKEN) {
        atomic_store_explicit(&task->wakeup, WAIT_ASLEEP, memory_order_relaxed);
        atomic_store_explicit(&wakeInFlight, 0, memory_order_seq_cst);
    }
    releaseLock(&capsLock);
}

/* Sleep until woken, until it is time to ask for a hand-over, or to give up.  The front waiter asks each quantum; the others only look
 * after it, so seldom that all together wake about once a quantum, however many they are. */
static uint32_t park(Task *task)
{
    acquireLock(&capsLock);
    uint64_t timeout = waiters.quantum * (task->qprev == NULL ? 1 : waiters.parked);
    releaseLock(&capsLock);
    if (CAPSTAN_UNLIKELY(task->until != 0)) {
        uint64_t now = osMonotonicNanos(), left = task->until > now ? task->until - now : 0;
        if (left < timeout) timeout = left;
    }
    osFutexWait(&task->wakeup, WAIT_ASLEEP, (int64_t)(timeout < MIN_PARK_NS ? MIN_PARK_NS : timeout));
    return atomic_load_explicit(&task->wakeup, memory_order_acquire);
}

static Capability *waitInQueue(Task *task)
{
    Capability *cap = NULL;
    task->since = osMonotonicNanos();
    acquireLock(&capsLock);
    bool waits = !waiters.closed && !task->unwilling;
    atomic_store_explicit(&task->wakeup, task->unwilling ? WAIT_GAVE_UP : WAIT_ASLEEP, memory_order_relaxed);
    if (waits) enqueue(task);
    releaseLock(&capsLock);
    bool changed = true; /* something that a release may not have seen yet: scan once more before sleeping */
    bool settled = false; /* releases during a flight that ended here woke nobody */
    for (uint32_t how = WAIT_ASLEEP; waits; how = park(task)) {
        if (how == WAIT_CLOSED || how == WAIT_GAVE_UP) break;
        if (how == WAIT_GIVEN) {
            cap = task->given;
            break;
        }
        if (how == WAIT_WOKEN) {
            if ((cap = hoverForCapability(task)) != NULL) {
                cap = leaveQueue(task, cap);
                break;
            }
            settle(task);
            changed = settled = true;
        }
        /* Nobody woke it: no capability has come free, the calls are long. */
        if (how == WAIT_ASLEEP) askForHandOver(task, osMonotonicNanos(), waiters.quantum);
        /* Pairs with releaseCapability: WAITERS is set (or the flight over), so a release that came before this is seen here. */
        if (changed) heavyBarrier();
        if ((cap = find_capability_for_task(task)) != NULL) {
            cap = leaveQueue(task, cap);
            if (settled) wakeIfFree(task->node); /* there may have been more than one */
            break;
        }
        if (CAPSTAN_UNLIKELY(task->until != 0) && isTimeUp(task, osMonotonicNanos())) {
            cap = leaveQueue(task, NULL);
            break;
        }
        changed = settled = false;
    }
    if (cap != NULL) atomic_store_explicit(&cap->handedOver, osMonotonicNanos(), memory_order_relaxed);
    task->since = 0;
    return cap;
}

Capability *waitForCapabilitySlow(Task *task)
{
    Capability *cap = find_capability_for_task(task);
    if (cap == NULL && numCapabilities != 0) cap = spinForCapability(task);
    return cap != NULL ? cap : waitInQueue(task);
}

void closeCapabilities(void)
{
    acquireLock(&capsLock);
    waiters.closed = true;
    unsigned n = numCapabilities;
    for (unsigned i = 0; i < n; i++) {
        atomic_store_explicit(&capabilities[i].holder, HOLDER_CLOSED, memory_order_release);
        __atomic_store_n(&regsOf(&capabilities[i])->stack, NULL, __ATOMIC_RELAXED);
    }
    for (unsigned q = 0; q < MAX_QUEUES; q++) {
        for (Task *t = waiters.queues[q].head, *next; t != NULL; t = next) {
            next = t->qnext;
            t->queued = false;
            rouse(markWoken(t, WAIT_CLOSED));
        }
        waiters.queues[q].head = waiters.queues[q].tail = NULL;
    }
    waiters.parked = 0;
    wakeInFlight = 0;
    numCapabilities = 0;
    for (unsigned i = 0; i < n; i++) capabilities[i].attention = 0;
    releaseLock(&capsLock);
}

/* ---- In a forked child ---- */

void forgetCapabilities(void)
{
    renewLock(&capsLock);
    for (unsigned i = 0, n = numCapabilities; i < n; i++) {
        capabilities[i].holder = HOLDER_CLOSED;
        capabilities[i].attention = 0;
        regsOf(&capabilities[i])->stack = NULL;
    }
    numCapabilities = 0;
    memset(&waiters, 0, sizeof waiters);
    waiters.nodes = 1;
    waiters.closed = true;
    wakeInFlight = 0;
    runtimeIsEnding = false;
}

void clearCapabilities(void)
{
    for (unsigned i = 0; i < MAX_CAPABILITIES; i++) {
        memset(&capabilities[i], 0, sizeof capabilities[i]);
        capabilities[i].no = i;
        capabilities[i].holder = HOLDER_CLOSED;
    }
}

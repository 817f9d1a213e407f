#include "run.h"

#include "arch.h"
#include "base/report.h"
#include "rts/Threads.h"
#include "schedule.h"
#include "switch.h"

#include <string.h>

void (*runBody)(Stack *stack, StgTSO *tso);
bool (*collectAtHome)(Task *task);
void (*endUnborn)(Capability *cap, StgTSO *tso, HaskellObj exception);
void (*noteIdle)(void);
_Atomic uint64_t threadsMoved;

static struct {
    uint64_t tick, slice;   /* [const] nanoseconds */
} run;

void initRun(uint64_t tick_ns, uint64_t slice_ns)
{
    run.tick = tick_ns;
    run.slice = slice_ns;
    threadsMoved = 0;
}

/* ---- The queue ---- */

static inline void setHead(Capability *cap, StgTSO *tso)
{
    atomic_store_explicit(&cap->runHead, tso, memory_order_relaxed);
}
static inline StgTSO *headOf(Capability *cap) { return atomic_load_explicit(&cap->runHead, memory_order_relaxed); }

static inline void addLength(Capability *cap, unsigned n)
{
    unsigned length = atomic_load_explicit(&cap->runLength, memory_order_relaxed);
    atomic_store_explicit(&cap->runLength, length + n, memory_order_relaxed);
}

static inline void noteRunnable(Capability *cap, StgTSO *tso)
{
    setCapOf(tso, cap);
    setWhy(tso, ThreadRunning);
    addLength(cap, 1);
    wantTicks();
}

void pushRunQueue(Capability *cap, StgTSO *tso)
{
    tso->link = NULL;
    if (headOf(cap) == NULL) setHead(cap, tso);
    else cap->runTail->link = tso;
    cap->runTail = tso;
    noteRunnable(cap, tso);
}

void pushRunQueueFront(Capability *cap, StgTSO *tso)
{
    tso->link = headOf(cap);
    if (tso->link == NULL) cap->runTail = tso;
    setHead(cap, tso);
    noteRunnable(cap, tso);
}

/* One of the turns that a host gives is taken. */
static inline void countTurn(Capability *cap)
{
    if (CAPSTAN_UNLIKELY(cap->hostTurns != 0) && --cap->hostTurns == 0)
        atomic_store_explicit(&cap->hostNext, true, memory_order_relaxed);
}

static inline StgTSO *popRunQueue(Capability *cap)
{
    StgTSO *tso = headOf(cap);
    if (tso == NULL) return NULL;
    setHead(cap, tso->link);
    addLength(cap, -1u);
    countTurn(cap);
    return tso;
}

/* The first that a host may run. */
static StgTSO *popHostable(Capability *cap)
{
    StgTSO *before = NULL, *tso = headOf(cap);
    while (tso != NULL && tso->flags & TSO_NO_HOST) {
        before = tso;
        tso = tso->link;
    }
    if (tso == NULL || before == NULL) return tso == NULL ? NULL : popRunQueue(cap);
    before->link = tso->link;
    if (cap->runTail == tso) cap->runTail = before;
    countTurn(cap);
    addLength(cap, -1u);
    return tso;
}

/* ---- Switching ---- */

/* On the stack that was switched to: the thread that was left may be run by others now. */
static inline void finishSwitch(Capability *cap)
{
    StgTSO *left = cap->leaving;
    if (left == NULL) return;
    cap->leaving = NULL;
    /* Release: pairs with the acquire in awaitOffCpu. */
    atomic_store_explicit(&left->onCpu, 0, memory_order_release);
}

/* Whoever woke it may have been faster than its own OS thread in leaving its stack. */
static inline bool isOffCpu(StgTSO *tso) { return atomic_load_explicit(&tso->onCpu, memory_order_acquire) == 0; }
/* Context: home, where nothing is held that others could be waiting for. */
static inline void awaitOffCpu(StgTSO *tso)
{
    for (unsigned tries = 0; CAPSTAN_UNLIKELY(!isOffCpu(tso)); tries++) {
        if (tries < 100) archRelax();
        else osYieldThread();
    }
}

static void startOnStack(void *stack);

/* A fresh thread gets a stack.  false: there is none, and it has ended. */
static bool giveStack(Capability *cap, StgTSO *tso)
{
    Stack *stack = takeStack(&cap->stacks);
    if (stack == NULL) {
        endUnborn(cap, tso, &capstan_HeapOverflow_closure);
        retireThread(cap, tso);
        return false;
    }
    stack->tso = tso;
    setStackOf(tso, stack);
    nameFresh(stack);
    archInitStack(stack, (void *)stack->hi, startOnStack, stack);
    return true;
}

/* Let next, which has a stack, run on cap; from sleeps (over: for ever). */
static inline void switchTo(Capability *cap, Stack *from, StgTSO *next, bool over)
{
    atomic_store_explicit(&next->onCpu, 1, memory_order_relaxed);
    atomic_store_explicit(&cap->switches, cap->switches + 1, memory_order_relaxed);
    setCapOf(next, cap);
    Stack *stack = next->stack;
    setRunningStack(cap, stack);
    switchStack(from, stack, over);
}

/* May a thread be followed by another without going home? */
static inline bool isHostsTurn(Capability *cap)
{
    return CAPSTAN_UNLIKELY(cap->hostReady | atomic_load_explicit(&cap->hostNext, memory_order_relaxed));
}
static inline bool isUndisturbed(Capability *cap, Stack *stack) { return !isPolled(stack) && !isHostsTurn(cap); }

/* The next thread that can take over directly; NULL: go home.  One that is still leaving another OS thread is waited for at home: here, two that leave
 * could wait for each other. */
static inline StgTSO *nextThread(Capability *cap)
{
    for (;;) {
        StgTSO *next = headOf(cap);
        if (next == NULL || CAPSTAN_UNLIKELY(!isOffCpu(next))) return NULL;
        if (CAPSTAN_UNLIKELY(next->flags & TSO_NO_HOST) && isHost(holderOf(cap))) return NULL;
        popRunQueue(cap);
        if (CAPSTAN_LIKELY(next->stack != NULL) || giveStack(cap, next)) return next;
    }
}

/* What the nursery owes to the thread goes with it: the next one has nothing to do with that. */
__attribute__((noinline)) static void carryDebtsSlow(Nursery *nursery, StgTSO *tso)
{
    uint32_t bits = (nursery->overflowed ? PENDING_OVERFLOWED : 0) | (nursery->refused ? PENDING_REFUSED : 0);
    atomic_fetch_or_explicit(&tso->pending, bits, memory_order_relaxed);
    forgetDebts(nursery);
}
void carryDebts(Capability *cap, StgTSO *tso)
{
    if (CAPSTAN_UNLIKELY(cap->nursery.overflowed | cap->nursery.refused)) carryDebtsSlow(&cap->nursery, tso);
}

/* Off the processor: to the next thread, or home.  Comes back when the thread is run again. */
static inline void goHome(Stack *stack, Task *task)
{
    task->order = HOME_NOTHING;
    stopCounting(stack->cap); /* once it is off this stack, others may run it */
    switchStack(stack, &task->home, false);
}

static void switchAway(Stack *stack)
{
    Capability *cap = stack->cap;
    carryDebts(cap, stack->tso);
    StgTSO *next = isUndisturbed(cap, stack) ? nextThread(cap) : NULL;
    cap->leaving = stack->tso;
    if (next != NULL) switchTo(cap, stack, next, false);
    else goHome(stack, holderOf(cap));
    arriveOnStack(stack, NULL);
    finishSwitch(stack->cap);
}

void returnToOwnCapability(Stack *stack)
{
    StgTSO *tso = stack->tso;
    if (CAPSTAN_LIKELY(!(tso->flags & TSO_PINNED) || tso->cap == stack->cap)) return;
    postThread(tso); /* onCpu keeps it from being run before it is off this stack */
    switchAway(stack);
}

void switchHome(Stack *stack, HomeOrder order)
{
    Capability *cap = stack->cap;
    Task *task = holderOf(cap);
    task->order = order;
    carryDebts(cap, stack->tso);
    stopCounting(cap);
    cap->leaving = stack->tso;
    switchStack(stack, &task->home, false);
    arriveOnStack(stack, NULL);
    finishSwitch(stack->cap);
}

/* The thread on this stack has ended; the next fresh one takes the stack over.  false: there is none to do so. */
static bool adoptNext(Capability *cap, Stack *stack)
{
    StgTSO *next = headOf(cap);
    if (next == NULL || next->stack != NULL || !isUndisturbed(cap, stack)) return false;
    popRunQueue(cap);
    setCapOf(next, cap);
    setStackOf(next, stack);
    stack->tso = next;
    markDirty(cap, next);
    atomic_store_explicit(&next->onCpu, 1, memory_order_relaxed);
    atomic_store_explicit(&cap->switches, cap->switches + 1, memory_order_relaxed);
    /* Pairs with prodThread: it sees the stack and lets it poll, or this sees what is pending. */
    atomic_signal_fence(memory_order_seq_cst);
    if (CAPSTAN_UNLIKELY(cap->attention & ATTENTION_SLOW)) atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&next->pending, memory_order_relaxed) != 0) __atomic_store_n(&stack->poll, 1, __ATOMIC_RELAXED);
    return true;
}

/* Nobody else can take the stack out of the cache before the switch away from it. */
static void leaveForGood(Capability *cap, Stack *stack)
{
    Task *task = holderOf(cap);
    StgTSO *next = isUndisturbed(cap, stack) && headOf(cap) != NULL && headOf(cap)->stack != NULL ? nextThread(cap) : NULL;
    task->order = HOME_NOTHING;
    cap->leaving = NULL;
    putStack(&cap->stacks, stack);
    /* The record is a link of the cache now: the switch must not write to it. */
    if (next != NULL) switchTo(cap, &task->gone, next, true);
    else switchStack(&task->gone, &task->home, true);
}

/* Back from a safe call, and its runtime is no more: home puts the stack away. */
__attribute__((noinline)) static _Noreturn void leaveEnded(Stack *stack)
{
    Task *task = getMyTask();
    task->order = HOME_LEFT;
    task->left = stack;
    switchStack(stack, &task->home, true);
    __builtin_unreachable();
}

/* What runs at the top of a pooled stack: one thread after the other. */
static void startOnStack(void *arg)
{
    Stack *stack = arg;
    arriveOnStack(stack, &holderOf(stack->cap)->home);
    finishSwitch(stack->cap);
    do {
        StgTSO *tso = stack->tso;
        runBody(stack, tso);
        if (CAPSTAN_UNLIKELY(stack->cap->dead != RTS_OK)) leaveEnded(stack);
        atomic_store_explicit(&tso->onCpu, 0, memory_order_relaxed);
        forgetDebts(&stack->cap->nursery);
        retireThread(stack->cap, tso);
    } while (adoptNext(stack->cap, stack));
    leaveForGood(stack->cap, stack);
}

/* ---- Home ---- */

/* What is asked of the capability, done where no thread runs.  RUN_OUT: go on. */
static RunResult serveAtHome(Task *task)
{
    Capability *cap = task->cap;
    stopCounting(cap);
    __atomic_store_n(&regsOf(cap)->stack, NULL, __ATOMIC_RELAXED);
    for (uint32_t asked; (asked = atomic_load_explicit(&cap->attention, memory_order_relaxed)) & ATTENTION_POLL;) {
        if (asked & ATTENTION_SHUTDOWN) return RUN_ENDING;
        if (asked & (ATTENTION_STOP | ATTENTION_HANDOVER)) return RUN_MAKE_WAY;
        if (asked & ATTENTION_COLLECT) {
            if (!collectAtHome(task)) return RUN_MAKE_WAY;
            continue;
        }
        if (asked & ATTENTION_INBOX) drainInbox(cap);
        if (asked & ATTENTION_SHARE) shareWork(cap);
        /* Acquire: whose wait is over is looked at next. */
        atomic_fetch_and_explicit(&cap->attention, ~(uint32_t)(ATTENTION_SLICE | ATTENTION_SHARE | ATTENTION_HOST),
                                  memory_order_acq_rel);
    }
    return RUN_OUT;
}

/* A cache of nobody's, for stacks that are put away without a capability. */
static struct {
    Lock lock;
    StackCache cache;  /* [lock: left] */
} left = { .lock = LOCK_INIT(RANK_LEFT) };

void putStackAway(Stack *stack)
{
    acquireLock(&left.lock);
    putStack(&left.cache, stack);
    flushStackCache(&left.cache);
    releaseLock(&left.lock);
}

void forgetRun(void)
{
    renewLock(&left.lock);
    memset(&left.cache, 0, sizeof left.cache);
}

/* A thread and its stack that outlived their runtime. */
static void forgetLeft(Task *task)
{
    recycleThread(task->left->tso);
    putStackAway(task->left);
    task->left = NULL;
}

/* How often a host passes a thread by that only workers may run, before it leaves the capability to them. */
#define MOST_PASSED 5
static inline bool isForWorkers(StgTSO *tso) { return tso != NULL && tso->flags & TSO_NO_HOST; }
bool isNextForWorkers(Capability *cap) { return isForWorkers(headOf(cap)); }

/* It waits, and nothing is there to interrupt it. */
static bool goesOnWaiting(StgTSO *host)
{
    return isWaiting(host) && (atomic_load_explicit(&host->pending, memory_order_relaxed) == 0 ||
                               host->stack->mask == MASKED_UNINTERRUPTIBLE);
}

RunResult runThreads(Task *task, StgTSO *host)
{
    unsigned passed = 0;
    nameHome(&task->home);
    for (;;) {
        RunResult asked = serveAtHome(task);
        if (asked != RUN_OUT) return asked;
        Capability *cap = task->cap;
        if (host != NULL && (isHostsTurn(cap) || (cap->hostTurns == 0 && !goesOnWaiting(host)))) return RUN_OWN_TURN;
        if (host != NULL && isForWorkers(headOf(cap)) && ++passed > MOST_PASSED) return RUN_OUT;
        StgTSO *next = host != NULL ? popHostable(cap) : popRunQueue(cap);
        if (next == NULL) return RUN_OUT;
        if (next->stack == NULL && !giveStack(cap, next)) continue;
        task->order = HOME_NOTHING;
        cap->leaving = NULL;
        awaitOffCpu(next);
        switchTo(cap, &task->home, next, false);
        arriveOnStack(&task->home, NULL);
        if (task->order == HOME_LEFT) {
            forgetLeft(task);
            return RUN_LEFT;
        }
        finishSwitch(task->cap);
        if (task->order == HOME_TO_WORKER) return RUN_OUT;
    }
}

/* ---- Waking ---- */

void ringTask(Task *task)
{
    /* Pairs with sleepUntilRung: either it sees what was changed before, or this sees it sleeping. */
    atomic_fetch_add_explicit(&task->bell, 1, memory_order_seq_cst);
    if (atomic_load_explicit(&task->sleeping, memory_order_seq_cst) != SLEEPS_NOT) osFutexWake(&task->bell, INT32_MAX);
}

/* A bound thread whose wait is over, by whoever holds cap (NULL: nobody). */
static void wakeBound(Capability *cap, StgTSO *tso)
{
    Task *task = taskOf(tso->incall); /* it may have gone on by itself, and the record be another OS thread's: then that is rung for nothing */
    if (cap != NULL && task == holderOf(cap)) { /* it hosts the caller */
        cap->hostReady = true;
        Stack *stack = regsOf(cap)->stack;
        if (stack != NULL) __atomic_store_n(&stack->poll, 1, __ATOMIC_RELAXED);
        return;
    }
    ringTask(task);
    Capability *there = atomic_load_explicit(&task->hosting, memory_order_seq_cst);
    if (there == NULL) return;
    atomic_fetch_or_explicit(&there->attention, ATTENTION_HOST, memory_order_relaxed);
    heavyBarrier();
    requestPoll(there);
}

void wakeThread(Capability *cap, StgTSO *tso)
{
    if (CAPSTAN_UNLIKELY(isBound(tso))) wakeBound(cap, tso);
    else if (CAPSTAN_UNLIKELY(tso->flags & TSO_PINNED) && tso->cap != cap) {
        postThread(tso);
        wantOwedTicks();
    } else pushRunQueue(cap, tso);
}

/* ---- From outside ---- */

static void knock(Capability *cap)
{
    if (askOf(cap, ATTENTION_INBOX)) wakeWorker();
}

void postThread(StgTSO *tso)
{
    if (isBound(tso)) {
        wakeBound(NULL, tso);
        return;
    }
    Capability *cap = tso->cap;
    StgTSO *head = atomic_load_explicit(&cap->inboxThreads, memory_order_relaxed);
    do tso->link = head;
    while (!atomic_compare_exchange_weak_explicit(&cap->inboxThreads, &head, tso, memory_order_seq_cst, memory_order_relaxed));
    knock(cap);
}

bool postJob(unsigned n, Job *job)
{
    unsigned all = numCapabilities;
    if (all == 0) return false;
    Capability *cap = &capabilities[n % all];
    Job *head = atomic_load_explicit(&cap->inboxJobs, memory_order_relaxed);
    do job->next = head;
    while (!atomic_compare_exchange_weak_explicit(&cap->inboxJobs, &head, job, memory_order_seq_cst, memory_order_relaxed));
    knock(cap);
    return true;
}

/* First come, first served. */
void drainInbox(Capability *cap)
{
    /* The bit first: who adds something afterwards sets it again. */
    atomic_fetch_and_explicit(&cap->attention, ~(uint32_t)ATTENTION_INBOX, memory_order_seq_cst);
    StgTSO *came = atomic_exchange_explicit(&cap->inboxThreads, NULL, memory_order_seq_cst), *threads = NULL;
    for (StgTSO *next; came != NULL; came = next) {
        next = came->link;
        came->link = threads;
        threads = came;
    }
    for (StgTSO *next; threads != NULL; threads = next) {
        next = threads->link;
        pushRunQueue(cap, threads);
    }
    Job *posted = atomic_exchange_explicit(&cap->inboxJobs, NULL, memory_order_seq_cst), *jobs = NULL;
    for (Job *next; posted != NULL; posted = next) {
        next = posted->next;
        posted->next = jobs;
        jobs = posted;
    }
    for (Job *next; jobs != NULL; jobs = next) {
        next = jobs->next;
        jobs->run(cap, jobs);
    }
}

/* ---- Sharing, ticks ---- */

static bool isIdle(Capability *cap)
{
    return atomic_load_explicit(&cap->holder, memory_order_relaxed) == HOLDER_FREE && !hasWork(cap);
}

/* Move every second thread that may be moved; returns how many. */
static unsigned moveHalf(Capability *cap, Capability *to)
{
    StgTSO *list = headOf(cap);
    unsigned moved = 0, turn = 1;
    setHead(cap, NULL);
    cap->runLength = 0;
    for (StgTSO *next; list != NULL; list = next) {
        next = list->link;
        bool move = !(list->flags & TSO_PINNED) && turn++ % 2 == 1;
        pushRunQueue(move ? to : cap, list);
        moved += move;
    }
    /* A host waits for no more turns than there are threads to take them. */
    if (cap->hostTurns > cap->runLength) {
        cap->hostTurns = cap->runLength + 1;
        countTurn(cap);
    }
    return moved;
}

void shareWork(Capability *cap)
{
    Task *task = holderOf(cap);
    clearAttention(cap, ATTENTION_SHARE);
    for (unsigned i = 1, n = numCapabilities; i < n && headOf(cap) != NULL; i++) {
        Capability *to = &capabilities[(cap->no + i) % n];
        if (!isIdle(to) || !tryTakeCapability(to, task)) continue;
        threadsMoved += moveHalf(cap, to);
        releaseCapability(to, task);
    }
}

static bool isAnyIdle(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (isIdle(&capabilities[i])) return true;
    return false;
}

static void tickQueue(Capability *cap, unsigned n)
{
    uint32_t switches = atomic_load_explicit(&cap->switches, memory_order_relaxed);
    if (atomic_load_explicit(&cap->holder, memory_order_relaxed) == HOLDER_FREE) {
        wakeWorker();
        return;
    }
    cap->stale = switches == cap->tickSwitches ? cap->stale + 1 : 0;
    cap->tickSwitches = switches;
    uint32_t ask = 0;
    unsigned length = atomic_load_explicit(&cap->runLength, memory_order_relaxed);
    /* One thread that waits while others take turns is in a conversation: leave it. */
    if (length > (cap->stale > 0 ? 0 : 1) && isAnyIdle(n)) ask |= ATTENTION_SHARE;
    if (cap->stale * run.tick >= run.slice) {
        ask |= ATTENTION_SLICE;
        cap->stale = 0;
    }
    if (ask == 0) return;
    atomic_fetch_or_explicit(&cap->attention, ask, memory_order_relaxed);
    requestPoll(cap); /* missed by a stack that comes just now: there is another tick */
}

/* Something was posted, and is not taken yet.  Where a worker was refused when that happened, another try may find one. */
static bool tickInbox(Capability *cap)
{
    if (!(atomic_load_explicit(&cap->attention, memory_order_relaxed) & ATTENTION_INBOX)) return false;
    if (atomic_load_explicit(&cap->holder, memory_order_relaxed) == HOLDER_FREE) wakeWorker();
    return true;
}

bool tickQueues(void)
{
    bool any = false;
    for (unsigned i = 0, n = numCapabilities; i < n; i++) {
        any |= tickInbox(&capabilities[i]);
        if (!hasWork(&capabilities[i]) && !atomic_load_explicit(&capabilities[i].hostNext, memory_order_relaxed)) {
            capabilities[i].stale = 0;
            continue;
        }
        any = true;
        tickQueue(&capabilities[i], n);
    }
    return any;
}

/* ---- Waiting ---- */

bool interruptWait(StgTSO *tso)
{
    uint64_t word = atomic_load_explicit(&tso->wait, memory_order_acquire);
    if (word % WAIT_STATES != WAIT_WAITING) return false;
    uint8_t why = whyOf(tso);
    if (why != ThreadBlockedOnMVar && why != ThreadBlockedOnMVarRead) return endWait(tso, word, WAIT_INTERRUPTED);
    HaskellObj v = __atomic_load_n(&tso->blockedOn, __ATOMIC_ACQUIRE);
    /* It may be waiting for something else by now: then its word is another. */
    if (rts_isImmediate(v) || rts_info(v)->kind != CLOSURE_MVAR) return false;
    StgMVar *mvar = (StgMVar *)v;
    lockMVar(mvar);
    bool still = atomic_load_explicit(&tso->wait, memory_order_acquire) == word && tso->blockedOn == v;
    if (still) {
        unlinkWaiter(mvar, tso);
        endWaitLocked(tso, WAIT_INTERRUPTED);
    }
    unlockMVar(mvar);
    return still;
}

static inline bool hasInterrupt(Stack *stack)
{
    return CAPSTAN_UNLIKELY(atomic_load_explicit(&stack->tso->pending, memory_order_relaxed) != 0) &&
           stack->mask != MASKED_UNINTERRUPTIBLE;
}

void yieldThread(Stack *stack)
{
    Capability *cap = stack->cap;
    if (headOf(cap) == NULL && !isHostsTurn(cap)) return;
    if (!isBound(stack->tso)) {
        pushRunQueue(cap, stack->tso);
        switchAway(stack);
    } else {
        hostOthers(stack, cap->runLength);
    }
}

void threadBlock(Stack *stack)
{
    uint64_t why = whyOf(stack->tso);
    addToCensus(stack->cap, stack->tso, why);
    /* Pairs with throwTo, which adds to pending, issues membarrier, and looks at wait. */
    atomic_signal_fence(memory_order_seq_cst);
    if (CAPSTAN_UNLIKELY(stack->cap->attention & ATTENTION_SLOW)) atomic_thread_fence(memory_order_seq_cst);
    if (hasInterrupt(stack) && interruptWait(stack->tso)) {
        /* At once. */
    } else if (CAPSTAN_LIKELY(!isBound(stack->tso))) {
        switchAway(stack);
    } else {
        hostOthers(stack, 0);
    }
    addToCensus(stack->cap, stack->tso, -why);
    setWhy(stack->tso, ThreadRunning);
}

/* ---- Exit ---- */

static bool isInCall(StgTSO *tso) { return whyOf(tso) == ThreadBlockedOnCCall; }
static void dropThread(StgTSO *tso)
{
    if (tso->stack != NULL) putStack(&capabilities[0].stacks, tso->stack);
}

void dropThreads(void)
{
    for (unsigned i = 0; i < MAX_CAPABILITIES; i++) {
        Capability *cap = &capabilities[i];
        for (Job *job = atomic_exchange(&cap->inboxJobs, NULL), *next; job != NULL; job = next) {
            next = job->next;
            job->run(NULL, job);
        }
        cap->inboxThreads = NULL;
        setHead(cap, NULL);
        cap->runLength = cap->hostTurns = 0;
        cap->hostReady = false;
        cap->hostNext = false;
        cap->leaving = NULL;
    }
    freeThreads(isInCall, dropThread);
    for (unsigned i = 0; i < MAX_CAPABILITIES; i++) flushStackCache(&capabilities[i].stacks);
}

#include "schedule.h"

#include "arch.h"
#include "exception.h"
#include "options.h"
#include "roots.h"
#include "run.h"
#include "switch.h"
#include "rts/Threads.h"
#include "throwto.h"
#include "gc/crew.h"
#include "stats.h"
#include "weak.h"
#include "worker.h"

#include <errno.h>
#include <pthread.h>

void (*startFinalizers)(Capability *cap);
void (*tryUnloading)(bool here);

/* ---- Yielding ---- */

/* Until it is taken back, the in-call counts for a collection of its own epoch only. */
void suspendThread(Stack *stack)
{
    InCall *incall = incallOfStack(stack);
    Capability *cap = stack->cap;
    incall->epoch = currentEpoch;
    incall->suspended = true;
    stack->sp = (void *)archStackPointer(); /* for lookAtInCallStack (unload.c) */
    incall->task->cap = NULL;
    incall->task->last = cap;
    stopCounting(cap);
    forgetDebts(&cap->nursery);
    releaseCapability(cap, incall->task);
}

Capability *takeForSuspended(InCall *incall)
{
    Capability *cap = waitForCapability(incall->task);
    if (cap == NULL) return NULL;
    if (incall->epoch != currentEpoch) {
        releaseCapability(cap, incall->task);
        return NULL;
    }
    forgetDebts(&cap->nursery);
    return cap;
}

/* Go on with what takeForSuspended gave.  false: nothing, and never again. */
static bool reenter(Stack *stack, Capability *cap)
{
    InCall *incall = incallOfStack(stack);
    if (cap == NULL) {
        stack->cap = &deadInterrupted;
        return false;
    }
    incall->task->cap = incall->task->last = cap;
    incall->suspended = false;
    setRunningStack(cap, stack);
    return true;
}

bool yieldFor(Stack *stack, uint64_t ns)
{
    if (!isBound(stack->tso)) {
        /* To the front: it has not had its time. */
        pushRunQueueFront(stack->cap, stack->tso);
        switchHome(stack, HOME_YIELD);
        return true;
    }
    Nursery *nursery = &stack->cap->nursery;
    /* What the nursery owes this thread goes with the thread. */
    bool overflowed = nursery->overflowed, refused = nursery->refused;
    suspendThread(stack);
    if (ns != 0) osSleepNanos(ns);
#ifdef CAPSTAN_TORTURE
    Task *task = incallOfStack(stack)->task;
    if (numCapabilities > 1) task->last = &capabilities[(task->last->no + 1) % numCapabilities];
#endif
    if (!reenter(stack, takeForSuspended(incallOfStack(stack)))) return false;
    stack->cap->nursery.overflowed |= overflowed;
    stack->cap->nursery.refused |= refused;
    return true;
}

/* ---- Free memory goes back ---- */

static struct {
    Timer timer;
    _Atomic uint32_t running; /* the timer is started, or a worker on its way */
} decay;

static void armDecay(uint64_t after)
{
    if (after == UINT64_MAX || atomic_exchange(&decay.running, 1) != 0) return;
    if (!startTimer(&decay.timer, osMonotonicNanos() + after)) decay.running = 0;
}

/* On a worker.  A collection that frees more just before it is not running any more leaves it to this. */
static void giveMemoryBack(void)
{
    uint64_t after = decayBlocks(osMonotonicNanos());
    decay.running = 0;
    armDecay(after != UINT64_MAX ? after : decayBlocks(osMonotonicNanos()));
}

static void decayTimerFired(Timer *timer) { runOnWorker(giveMemoryBack); }

/* ---- What a collection when all rests would find: memory to give back, and threads that are blocked for ever ---- */

enum {
    LOOKS = 4,    /* in the idle time */
    CALM = 10,    /* stacks that nobody uses give their memory back after so many idle times */
    SPARING = 50, /* no idle collection before so many times what the last one took has gone by */
};

static struct {
    Timer timer, calm;
    uint64_t delay;              /* [const] nanoseconds */
    _Atomic uint32_t armed;      /* the timer is started, or a worker on its way */
    unsigned looks;              /* [who is armed] so many in a row found that nobody ran, and no block was taken */
    uint64_t blocks;             /* [who is armed] countBlocks at the last look */
    _Atomic uint64_t collected;  /* [stopped to write] blocks of objects that were allocated before the last collection */
    _Atomic uint64_t seenBlocks, seenCensus; /* [stopped to write] countBlocks and takeCensus at the last idle one */
    _Atomic uint64_t notBefore;  /* [stopped to write] when there may be another idle one */
} idleness;

/* What nurseries took since the start.  Collections leave them without a block, so the first object after one counts. */
static uint64_t countBlocks(void) { return idleness.collected + heap.allocated; }

static uint64_t takeCensus(void)
{
    uint64_t sum = 0;
    for (unsigned i = 0, n = numCapabilities; i < n; i++) sum += atomic_load_explicit(&capabilities[i].census, memory_order_relaxed);
    return sum;
}

/* Nothing was allocated since, no thread began or ended, and the same ones wait: there is no more garbage, and nobody is blocked who was not. */
static bool isAllSeen(void) { return countBlocks() == idleness.seenBlocks && takeCensus() == idleness.seenCensus; }

/* The world is stopped. */
static void noteSeen(const RtsCollection *c)
{
    idleness.collected += c->allocated_bytes / BLOCK_BYTES;
    if (c->cause != RtsGcIdle) return; /* whoever runs during others may drop or wait for something afterwards */
    idleness.notBefore = osMonotonicNanos() + SPARING * c->cpu_ns;
    idleness.seenBlocks = countBlocks();
    idleness.seenCensus = takeCensus();
}

/* Somebody who holds a capability, evaluating or not, is not to be held up for this. */
static bool isAllFree(void)
{
    for (unsigned i = 0, n = numCapabilities; i < n; i++)
        if (atomic_load_explicit(&capabilities[i].holder, memory_order_relaxed) != HOLDER_FREE || hasWork(&capabilities[i]))
            return false;
    return true;
}

/* ---- Collecting ---- */

/* The world is stopped. */
static void collectStopped(uint64_t began, unsigned own, bool major, RtsGcCause cause, RtsCollection *c)
{
    Nursery *nurseries[MAX_CAPABILITIES];
    unsigned n = numCapabilities;
    for (unsigned i = 0; i < n; i++) {
        nurseries[i] = &capabilities[i].nursery;
        /* Whoever is owed something by a nursery has taken it along. */
        if (capabilities[i].holder == HOLDER_STOPPED) forgetDebts(nurseries[i]);
    }
    *c = (RtsCollection){ .number = countCollections() + 1, .stop_ns = lastStopNanos(), .cause = cause };
    collectHeap(nurseries, n, own, major, c);
    interruptRevived();
    c->pause_ns = osMonotonicNanos() - began;
    noteCollection(c);
    noteSeen(c);
    armDecay(heap.decayAfter);
}

/* A worker without anything to do helps the others collect. */
static void helpAnybody(void) { helpCollect(UINT32_MAX); }
static void inviteWorker(void) { runOnWorker(helpAnybody); }

/* An OS thread that tells the host of a collection. */
typedef struct {
    Task *task;
    Capability *cap;         /* that it holds, or NULL */
    bool finalizing;         /* before: at a safepoint of a release function, which should have none */
    bool major;
    uint64_t epoch;
} Telling;

/* All is told, or the hook or a release function has ended the OS thread: what is left is for others. */
static void endTelling(void *arg)
{
    Telling *t = arg;
    if (t->cap == NULL) t->task->cap = NULL;
    t->task->finalizing = t->finalizing;
    /* Else one of them forked, and this is the child, where nothing is left. */
    if (t->epoch != currentEpoch) return;
    if (haveDueFinalizers() || haveDueCFinalizers()) startFinalizers(t->cap);
    /* Once nothing is allocated any more everything is worth a look; releases that are left wait for the collection that comes then, at most. */
    if (!t->major || haveExternalReleases()) noteIdle();
}

/* After the world goes on: what the host hears of a collection. */
static void afterCollection(Task *task, const RtsCollection *c)
{
    Telling t = { task, task->cap, task->finalizing, c->major, currentEpoch };
    pthread_cleanup_push(endTelling, &t);
    task->finalizing = true;
    /* Whoever calls in now finds the Task busy, capability or not. */
    if (t.cap == NULL) task->cap = &finalizerMark;
    if (hostConfig.gcDoneHook) hostConfig.gcDoneHook(hostConfig.gcDoneCtx, c);
    if (haveExternalReleases()) runExternalReleases(false);
    if (t.cap == NULL && haveDueCFinalizers()) runCFinalizers(NULL);
    pthread_cleanup_pop(1);
}

/* A collection is due on the capability that the task holds.  false: another thread is stopping the world. */
static bool collectHere(Task *task)
{
    RtsCollection c;
    uint64_t began = osMonotonicNanos();
    if (!stopWorld(task->cap, 0)) return false;
    collectStopped(began, task->cap->no, false, atomic_exchange(&heap.cause, RtsGcAllocation), &c);
    restartWorld(task->cap);
    afterCollection(task, &c);
    if (c.major) tryUnloading(false);
    return true;
}

/* The same on the stack that runs there. */
static bool collectNow(Stack *stack)
{
    return collectHere(holderOf(stack->cap)) || yieldCapability(stack);
}

RtsStatus mayStopWorld(void)
{
    Task *task = getMyTask();
    return task != NULL && task->finalizing ? RTS_IN_FINALIZER : task != NULL && task->cap != NULL ? RTS_HOLDS_CAPABILITY : RTS_OK;
}

/* Collections of threads without a capability that have still to tell the host. */
static _Atomic uint32_t releasesRunning;

void forgetSchedule(void) { releasesRunning = 0; }

bool isReleaseRunning(void) { return releasesRunning != 0; }

void awaitReleases(void)
{
    for (uint32_t n; (n = releasesRunning) != 0;) osFutexWait(&releasesRunning, n, -1);
}

/* Told, or its OS thread ends. */
static void endRelease(void *epoch)
{
    /* Else a release function forked, and this is the child, where none was running. */
    if (*(uint64_t *)epoch == currentEpoch && --releasesRunning == 0) osFutexWake(&releasesRunning, INT32_MAX);
}

/* Let the world go on, and tell the host. */
static void endOutside(Task *task, const RtsCollection *c)
{
    uint64_t epoch = currentEpoch;
    /* While the world is stopped: the end of the runtime comes before this, or waits for it. */
    releasesRunning++;
    pthread_cleanup_push(endRelease, &epoch);
    restartWorld(NULL);
    afterCollection(task, c);
    pthread_cleanup_pop(1);
}

RtsStatus performCollection(bool major, RtsGcCause cause)
{
    RtsCollection c;
    Task *task = newTask();
    if (task == NULL) return RTS_NO_MEMORY;
    uint64_t began = osMonotonicNanos();
    if (!stopFromOutside()) return RTS_NOT_STARTED;
    collectStopped(began, 0, major, cause, &c);
    endOutside(task, &c);
    if (c.major && cause != RtsGcUnload) tryUnloading(true);
    return RTS_OK;
}

RtsStatus clearMemory(void)
{
    Nursery *nurseries[MAX_CAPABILITIES];
    if (!stopFromOutside()) return RTS_NOT_STARTED;
    unsigned n = numCapabilities;
    for (unsigned i = 0; i < n; i++) nurseries[i] = &capabilities[i].nursery;
    clearUnused(nurseries, n);
    restartWorld(NULL);
    return RTS_OK;
}

void rts_collect(Stack *stack, bool major)
{
    forbidInsideUnsafe(stack, "rts_collect");
    if (major) heap.wantMajor = true;
    heap.cause = RtsGcRequest;
    atomic_fetch_or_explicit(&stack->cap->attention, ATTENTION_COLLECT, memory_order_relaxed);
    safepoint(stack);
}

/* ---- Safepoints ---- */

static uint32_t takeRequests(Stack *stack)
{
    __atomic_store_n(&stack->poll, POLL_IDLE, __ATOMIC_RELAXED);
    /* Pairs with requestPoll, which stores poll after its membarrier: either it comes back, or attention is seen now. */
    atomic_signal_fence(memory_order_seq_cst);
    if (stack->cap->attention & ATTENTION_SLOW) atomic_thread_fence(memory_order_seq_cst);
    return atomic_load_explicit(&stack->cap->attention, memory_order_relaxed);
}

/* The runtime ends.  Threads that are not bound are not run again. */
static bool serviceShutdown(Stack *stack)
{
    if (!isBound(stack->tso) && stack->cap->dead == RTS_OK) {
        pushRunQueueFront(stack->cap, stack->tso);
        switchHome(stack, HOME_YIELD);
    }
    /* Whoever goes on all the same hears it again at the next safepoint. */
    __atomic_store_n(&stack->poll, 1, __ATOMIC_RELAXED);
    return false;
}

/* Requests that a bound or an unbound thread serves alike, and turns. */
static bool isBegun(Stack *stack) { return !isBound(stack->tso) || stack->trap != NULL; }

static void serviceQueue(Stack *stack, uint32_t asked)
{
    Capability *cap = stack->cap;
    if (asked & ATTENTION_INBOX) drainInbox(cap);
    if (asked & ATTENTION_SHARE) shareWork(cap);
    atomic_fetch_and_explicit(&cap->attention, ~(uint32_t)(ATTENTION_SLICE | ATTENTION_HOST), memory_order_acq_rel);
    /* The bound thread that this OS thread hosts for was woken from elsewhere. */
    if (asked & ATTENTION_HOST && !isBound(stack->tso) && isHost(holderOf(cap))) cap->hostReady = true;
    if ((asked & ATTENTION_SLICE || cap->hostReady) && isBegun(stack)) yieldThread(stack);
}

static bool serviceAll(Stack *stack)
{
    uint32_t asked;
    while ((asked = takeRequests(stack)) & ATTENTION_POLL || stack->cap->hostReady) {
        bool ok = true;
        if (asked & ATTENTION_SHUTDOWN) return serviceShutdown(stack);
        if (asked & (ATTENTION_STOP | ATTENTION_HANDOVER)) ok = yieldCapability(stack);
        else if (asked & ATTENTION_COLLECT) ok = collectNow(stack);
        else serviceQueue(stack, asked);
        if (!ok) return false;
    }
    return true;
}

#ifdef CAPSTAN_TORTURE
/* Collect at one safepoint in so many, with a full collection in 32, and change the capability at every one. */
bool serviceRequests(Stack *stack)
{
    static _Atomic unsigned turn;
    unsigned now = turn++;
    if (now % 32 == 0) heap.wantMajor = true;
    if (now % tortureEvery == 0) atomic_fetch_or(&stack->cap->attention, ATTENTION_COLLECT);
    if (!serviceAll(stack)) return false;
    return numCapabilities < 2 || (yieldCapability(stack) && serviceAll(stack));
}
#else
bool serviceRequests(Stack *stack) { return serviceAll(stack); }
#endif

static void *callFromBound(Stack *stack, void *(*fn)(void *arg), void *arg);
static void *callFromUnbound(Stack *stack, void *(*fn)(void *arg), void *arg);
static void *callOut(Stack *stack, void *(*fn)(void *arg), void *arg)
{
    return isBound(stack->tso) ? callFromBound(stack, fn, arg) : callFromUnbound(stack, fn, arg);
}

/* Is the heap still full once what the collection found dead has been finalized?  That gives back what was counted, or frees what keeps objects, which
 * another collection finds out.
 *
 * Yes is the answer only for a collection that left a shortage and after which nothing was released, by whomever; and no as soon as there was room once since
 * this began, though others may have taken it by now: the allocation that fails next asks again.  So nobody gets the exception for what others do.  See:
 * doc/model/limit.pml. */
#define MOST_ROUNDS 100
static bool isFullAfterReleases(Stack *stack)
{
    uint64_t eased = heap.eased;
    bool patient = true;
    if (heap.shortage == 0) return false;
    for (int round = 0; round < MOST_ROUNDS && heap.eased == eased; round++) {
        if (isReleasePending()) patient = mayWait(stack) && callOut(stack, callReleases, stack) != NULL;
        /* Others may have collected meanwhile, and more be pending. */
        if (heap.eased != eased || (patient ? isHeapFullForGood() : isHeapFull())) break;
        heap.wantMajor = true;
        heap.cause = RtsGcMemory;
        atomic_fetch_or_explicit(&stack->cap->attention, ATTENTION_COLLECT, memory_order_relaxed);
        if (!serviceRequests(stack)) raiseToBase(stack, CAPSTAN_SHUTDOWN);
    }
    return heap.eased == eased;
}

/* HeapOverflow, if memory ran out and the collection did not help, or poison has gone out. */
static void deliverHeapOverflow(Stack *stack)
{
    bool refused = stack->cap->nursery.refused;
    forgetDebts(&stack->cap->nursery); /* or the safepoint after a call out would be here again */
    if (!refused && !isFullAfterReleases(stack)) return;
    noteReleased(); /* by whoever catches it */
    rts_raise(stack, &capstan_HeapOverflow_closure);
}

void collectSoon(void)
{
    heap.wantMajor = true;
    heap.cause = RtsGcMemory;
    for (unsigned i = 0, n = numCapabilities; i < n; i++) {
        atomic_fetch_or_explicit(&capabilities[i].attention, ATTENTION_COLLECT, memory_order_relaxed);
        requestPoll(&capabilities[i]);
    }
}

void safepoint(Stack *stack)
{
    if (!serviceRequests(stack)) raiseToBase(stack, CAPSTAN_SHUTDOWN);
    if (stack->cap->nursery.overflowed || stack->cap->nursery.refused) deliverHeapOverflow(stack);
    if (CAPSTAN_UNLIKELY(atomic_load_explicit(&stack->tso->pending, memory_order_relaxed) != 0)) deliverPending(stack, false);
}

void rts_pollStackSlow(Stack *stack) { safepoint(stack); }

/* ---- Safe calls ---- */

/* The in-call cannot go on: leave it without touching the heap. */
static _Noreturn void abandonSuspended(Stack *stack, Capability *dead)
{
    stack->cap = dead;
    raiseToBase(stack, CAPSTAN_SHUTDOWN);
}

/* Its frames are about to be left, without a capability: nothing of them is to be found by a collection meanwhile. */
static void hideFrames(Stack *stack)
{
    rearmThunks(stack);
    stack->roots = NULL;
    while (stack->trap->prev != NULL) stack->trap = stack->trap->prev;
}

/* Another in-call of this thread began later and has not ended: the host switched stacks under us. */
static _Noreturn void leaveOutOfOrder(Stack *stack)
{
    InCall *incall = incallOfStack(stack);
    Task *task = incall->task;
    reportError(RTS_OUT_OF_ORDER, "a safe call returned while a later in-call of its thread was still in progress");
    if (task->cap == NULL && incall->epoch == currentEpoch) {
        Capability *cap = takeForSuspended(incall);
        if (cap != NULL) {
            stack->cap = cap;
            hideFrames(stack);
            releaseCapability(cap, task);
        }
    } else if (task->cap != NULL && incall->epoch == currentEpoch) {
        hideFrames(stack);
    }
    abandonSuspended(stack, &deadOutOfOrder);
}

void regainThread(Stack *stack)
{
    if (!reenter(stack, takeForSuspended(incallOfStack(stack)))) abandonSuspended(stack, &deadInterrupted);
}

void resumeThread(Stack *stack)
{
    InCall *incall = incallOfStack(stack);
    if (incall->task->incall != incall) leaveOutOfOrder(stack);
    setWhy(stack->tso, ThreadRunning);
    regainThread(stack);
    rts_poll(stack);
}

static void *callFromBound(Stack *stack, void *(*fn)(void *arg), void *arg)
{
    setWhy(stack->tso, ThreadBlockedOnCCall);
    suspendThread(stack);
    void *result = fn(arg);
    int e = errno;
    resumeThread(stack);
    errno = e;
    return result;
}

/* On a worker, whose own stack the call runs on.  Its hosts leave such a thread alone from then on. */
static void moveToWorker(Stack *stack)
{
    stack->tso->flags |= TSO_NO_HOST;
    if (!isHost(holderOf(stack->cap))) return;
    pushRunQueueFront(stack->cap, stack->tso);
    switchHome(stack, HOME_TO_WORKER);
}

static void leaveForCall(Stack *stack, Task *task)
{
    Capability *cap = stack->cap;
    carryDebts(cap, stack->tso);
    setWhy(stack->tso, ThreadBlockedOnCCall);
    task->calling = stack->tso;
    stack->sp = (void *)archStackPointer(); /* for lookAtOwnStack (unload.c) */
    task->callEpoch = currentEpoch;
    workerCallBegins(cap);
    task->cap = NULL;
    task->last = cap;
    stopCounting(cap);
    __atomic_store_n(&regsOf(cap)->stack, NULL, __ATOMIC_RELAXED);
    releaseCapability(cap, task);
}

Capability *takeAfterCall(Task *task)
{
    Capability *cap = task->callEpoch == currentEpoch ? waitForCapability(task) : NULL;
    if (cap != NULL && task->callEpoch != currentEpoch) {
        releaseCapability(cap, task);
        cap = NULL;
    }
    if (cap == NULL) acquireLock(&tasksLock); /* without a capability, what a collection of the next runtime may be looking at */
    task->calling = NULL;
    if (cap == NULL) releaseLock(&tasksLock);
    return cap;
}

/* Go on with the thread on this worker.  Raises if the runtime ended meanwhile. */
static void comeBackFromCall(Stack *stack, Task *task)
{
    Capability *cap = takeAfterCall(task);
    workerCallEnds(cap);
    if (cap == NULL) abandonSuspended(stack, &deadInterrupted);
    task->cap = task->last = cap;
    cap->leaving = NULL;
    if (!(stack->tso->flags & TSO_PINNED)) setCapOf(stack->tso, cap);
    setWhy(stack->tso, ThreadRunning);
    setRunningStack(cap, stack);
}

/* Compilers keep the address of errno, which is another OS thread's after a safepoint. */
__attribute__((noinline)) static int readErrno(void) { return errno; }
__attribute__((noinline)) static void writeErrno(int e) { errno = e; }

static void *callFromUnbound(Stack *stack, void *(*fn)(void *arg), void *arg)
{
    moveToWorker(stack);
    Task *task = holderOf(stack->cap);
    leaveForCall(stack, task);
    void *result = callOnHome(stack, &task->home, fn, arg);
    int e = readErrno();
    comeBackFromCall(stack, task);
    returnToOwnCapability(stack);
    rts_poll(stack);
    writeErrno(e);
    return result;
}

void *rts_safeCall(Stack *stack, void *(*fn)(void *arg), void *arg)
{
    rts_poll(stack);
    forbidInsideUnsafe(stack, "a safe call");
    return callOut(stack, fn, arg);
}

/* ---- When all rests ---- */

/* On a worker. */
static void collectWhenIdle(void)
{
    cancelTimer(&idleness.calm);
    startTimer(&idleness.calm, osMonotonicNanos() + CALM * idleness.delay); /* without memory for it all stays as it is */
    /* From here on whoever rests arms the timer anew; or has changed its census before the barrier, by a plain store, and that is seen now. */
    idleness.armed = 0;
    heavyBarrier();
    if (!isAllSeen()) performCollection(true, RtsGcIdle);
}

static void idleTimerFired(Timer *timer)
{
    uint64_t blocks = countBlocks();
    idleness.looks = isAllFree() && blocks == idleness.blocks ? idleness.looks + 1 : 0;
    idleness.blocks = blocks;
    if (idleness.looks == LOOKS) runOnWorker(collectWhenIdle);
    else startTimerAgain(timer, osMonotonicNanos() + idleness.delay / LOOKS);
}

static void noteRest(void)
{
    /* What was changed, then the look at armed.  Pairs with collectWhenIdle's barrier. */
    atomic_signal_fence(memory_order_seq_cst);
    if (CAPSTAN_UNLIKELY(!osMembarrierWorks())) atomic_thread_fence(memory_order_seq_cst);
    if (idleness.armed != 0 || isAllSeen() || atomic_exchange(&idleness.armed, 1) != 0) return;
    uint64_t when = osMonotonicNanos() + idleness.delay / LOOKS;
    idleness.looks = 0;
    if (!startTimer(&idleness.timer, when > idleness.notBefore ? when : idleness.notBefore)) idleness.armed = 0;
}

static void trimStacks(void)
{
    Task *task = getMyTask();
    for (unsigned i = 0, n = numCapabilities; i < n; i++) {
        if (!tryTakeCapability(&capabilities[i], task)) continue;
        flushStackCache(&capabilities[i].stacks);
        releaseCapability(&capabilities[i], task);
    }
    trimStackPool();
}

static void calmTimerFired(Timer *timer)
{
    if (isAllFree()) runOnWorker(trimStacks);
    else startTimerAgain(timer, osMonotonicNanos() + CALM * idleness.delay);
}

void initSchedule(uint64_t idle_ns)
{
    inviteHelper = inviteWorker;
    decay.timer.fire = decayTimerFired;
    decay.timer.place = 0;
    decay.running = 0;
    idleness.delay = idle_ns;
    idleness.timer.fire = idleTimerFired;
    idleness.timer.place = idleness.calm.place = 0;
    idleness.calm.fire = calmTimerFired;
    idleness.armed = 0;
    idleness.collected = idleness.seenBlocks = idleness.seenCensus = idleness.notBefore = 0;
    /* Once: threads of the last runtime that are on their way out may be about to read them. */
    if (collectAtHome != collectHere) collectAtHome = collectHere;
    if (noteIdle != noteRest) noteIdle = noteRest;
}

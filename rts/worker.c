#include "worker.h"

#include "arch.h"
#include "base/report.h"
#include "run.h"
#include "timekeeper.h"

#include <string.h>

/* How often the worker on its way looks before it goes to sleep. */
#define LOOKS_FOR_WORK 40
/* What C of safe calls may use. */
#define WORKER_STACK ((size_t)8 << 20)
/* Kinds of errands that there are at most (runOnWorker). */
#define ERRANDS 6

static struct {
    Lock lock;
    Task *idle;                       /* [lock: workers] through qnext, last in first out */
    unsigned idleCount;               /* [lock: workers] */
    _Atomic unsigned count;           /* [lock: workers to write] of those that can be sent */
    _Atomic unsigned threads;         /* OS threads, those included that are about to end */
    _Atomic unsigned endedLate;       /* safe calls that ended after their runtime, less one that a forked child begins with */
    unsigned capabilities;            /* [lock: workers to write] that there have been at most */
    _Atomic unsigned onErrands;
    _Atomic uint32_t flight;          /* [atomic] 1: one is on its way */
    _Atomic bool closing;             /* [lock: workers to write] */
    unsigned most, spare;             /* [const] */
    bool complained;                  /* [lock: workers] */
    _Atomic bool lacking;             /* nobody could be sent, and none has looked around since */
    _Atomic uint32_t leaving;         /* futex word: rung when one ends */
    void (*_Atomic errands[ERRANDS])(void); /* for the next that looks: one of each kind */
} workers = { .lock = LOCK_INIT(RANK_WORKERS), .closing = true };

CallCount callCounts[MAX_CAPABILITIES];

/* Workers in safe calls. */
static unsigned countCalls(void)
{
    unsigned n = -workers.endedLate;
    for (unsigned i = 0; i < workers.capabilities; i++)
        n += atomic_load_explicit(&callCounts[i].begun, memory_order_relaxed) - atomic_load_explicit(&callCounts[i].ended, memory_order_relaxed);
    return n;
}

unsigned countWorkers(unsigned *idle, unsigned *inCalls)
{
    acquireLock(&workers.lock);
    *idle = workers.idleCount;
    *inCalls = countCalls();
    releaseLock(&workers.lock);
    return workers.count;
}

void workerCallEndsLate(void) { workers.endedLate++; }

/* ---- Looking for work ---- */

static inline bool isFree(Capability *cap)
{
    return atomic_load_explicit(&cap->holder, memory_order_relaxed) == HOLDER_FREE;
}
static inline bool wantsWorker(Capability *cap)
{
    return hasWork(cap) || (atomic_load_explicit(&cap->attention, memory_order_relaxed) & ATTENTION_INBOX);
}

static Capability *findWork(Task *task)
{
    for (unsigned i = 0, n = numCapabilities, first = task->last->no; i < n; i++) {
        Capability *cap = &capabilities[(first + i) % n];
        if (isFree(cap) && wantsWorker(cap) && tryTakeCapability(cap, task)) return cap;
    }
    return NULL;
}

static bool isErrandLeft(void)
{
    for (unsigned i = 0; i < ERRANDS; i++)
        if (workers.errands[i] != NULL) return true;
    return false;
}

static bool isWorkLeft(void)
{
    for (unsigned i = 0, n = numCapabilities; i < n; i++)
        if (isFree(&capabilities[i]) && wantsWorker(&capabilities[i])) return true;
    return isErrandLeft();
}

static bool takeFlight(void)
{
    uint32_t none = 0;
    return atomic_load_explicit(&workers.flight, memory_order_relaxed) == 0 &&
           atomic_compare_exchange_strong_explicit(&workers.flight, &none, 1, memory_order_seq_cst, memory_order_relaxed);
}
static void endFlight(void) { atomic_store_explicit(&workers.flight, 0, memory_order_seq_cst); }

/* ---- Going to sleep, and waking ---- */

/* Out of the list of idle ones.  false: it has been sent. */
static bool delist(Task *task)
{
    bool found = false;
    acquireLock(&workers.lock);
    for (Task **link = &workers.idle; *link != NULL; link = &(*link)->qnext) {
        if (*link != task) continue;
        *link = task->qnext;
        workers.idleCount--;
        found = true;
        break;
    }
    releaseLock(&workers.lock);
    return found;
}

/* Context: the lock.  Enlist as idle; false: there are enough, it ends, and does not count any more. */
static bool enlistIdle(Task *task)
{
    bool stays = !workers.closing && workers.idleCount < workers.spare;
    if (stays) {
        task->qnext = workers.idle;
        workers.idle = task;
        workers.idleCount++;
        task->sent = 0;
    } else {
        workers.count--;
    }
    return stays;
}

/* Sleep until sent on the way.  false: end. */
static bool rest(Task *task, bool flying)
{
    acquireLock(&workers.lock);
    bool stays = enlistIdle(task);
    if (flying) endFlight();
    releaseLock(&workers.lock);
    /* Releases during the flight woke nobody.  Pairs with the fence in wakeOneWorker. */
    atomic_thread_fence(memory_order_seq_cst);
    if (isWorkLeft() && takeFlight()) {
        if (!stays) {
            acquireLock(&workers.lock);
            workers.count++;
            releaseLock(&workers.lock);
        } else if (!delist(task)) {
            ASSERT(workers.closing); /* who sends has the flight */
        }
        if (!workers.closing) return true;
        endFlight();
        stays = true;
    } else if (stays) {
        while (atomic_load_explicit(&task->sent, memory_order_acquire) == 0) osFutexWait(&task->sent, 0, -1);
        if (!workers.closing) return true;
    }
    if (stays) {
        acquireLock(&workers.lock);
        workers.count--;
        releaseLock(&workers.lock);
    }
    return false;
}

static void runWorker(void *unused);

/* Context: the lock. */
static Task *popIdle(void)
{
    Task *task = workers.idle;
    if (task == NULL) return NULL;
    workers.idle = task->qnext;
    workers.idleCount--;
    return task;
}

/* Context: the lock.  Whether another worker could hold a capability. */
static bool mayMakeWorker(void)
{
    return !workers.closing && workers.count < workers.most && workers.count - countCalls() - workers.onErrands < numCapabilities + 1;
}

static void sendTask(Task *task)
{
    atomic_store_explicit(&task->sent, 1, memory_order_release);
    osFutexWake(&task->sent, 1);
}

static bool startWorker(void)
{
    OsThread thread;
    workers.threads++;
    if (!osStartThread(&thread, "capstan-worker", WORKER_STACK, runWorker, NULL)) {
        workers.threads--;
        return false;
    }
    osDetachThread(thread); /* stopWorkers counts */
    return true;
}

/* Nobody can be sent: a host that sleeps may do what needs no worker.  Context: no lock of this module. */
static void callHost(void)
{
    /* Pairs with findOrphanedWork, which hosts call when they are known to sleep. */
    atomic_store_explicit(&workers.lacking, true, memory_order_seq_cst);
    Task *host = findWillingTask();
    if (host != NULL) ringTask(host);
}

Capability *findOrphanedWork(Task *task)
{
    if (CAPSTAN_LIKELY(!atomic_load_explicit(&workers.lacking, memory_order_seq_cst))) return NULL;
    for (unsigned i = 0, n = numCapabilities, first = task->last->no + 1; i < n; i++) {
        Capability *cap = &capabilities[(first + i) % n];
        if (isFree(cap) && wantsWorker(cap)) return cap;
    }
    return NULL;
}

/* The new worker cannot be: an idle one goes instead, or the flight is over, decided under the lock under which workers enlist. */
static void withoutNewWorker(void)
{
    acquireLock(&workers.lock);
    workers.count--;
    bool first = !workers.complained;
    workers.complained = true;
    Task *task = popIdle();
    if (task == NULL) endFlight();
    releaseLock(&workers.lock);
    if (task != NULL) sendTask(task);
    else callHost();
    atomic_store_explicit(&ticksOwed, true, memory_order_relaxed); /* another try may find one */
    if (first) logLine(RTS_LOG_WARNING, "the system refuses a thread for a worker: threads wait for those that there are");
}

/* An idle one, or a new one, gets the flight; if there can be none, all there are are busy, and look again when they are done. */
static void wakeOneWorker(void)
{
    /* What made the caller come (a capability that is free, a queue, an inbox) before the look at the flight. */
    atomic_thread_fence(memory_order_seq_cst);
    if (!takeFlight()) return;
    acquireLock(&workers.lock);
    Task *task = popIdle();
    bool make = task == NULL && mayMakeWorker();
    bool lack = task == NULL && !make && workers.count >= workers.most;
    if (make) workers.count++;
    else if (task == NULL) endFlight();
    releaseLock(&workers.lock);
    if (task != NULL) sendTask(task);
    else if (make && !startWorker()) withoutNewWorker();
    else if (lack) callHost();
}

bool runOnWorker(void (*errand)(void))
{
    bool posted = false;
    for (unsigned i = 0; i < ERRANDS && !posted; i++) {
        void (*there)(void) = NULL;
        /* The same errand twice, before anybody has begun it, is one. */
        posted = atomic_compare_exchange_strong(&workers.errands[i], &there, errand) || there == errand;
    }
    ASSERT(posted);
    wakeOneWorker();
    return posted;
}

static void (*takeErrand(void))(void)
{
    void (*errand)(void) = NULL;
    for (unsigned i = 0; i < ERRANDS && errand == NULL; i++) errand = atomic_exchange(&workers.errands[i], NULL);
    return errand;
}

/* ---- A worker's life ---- */

/* The errand may take long, and wait for what threads do: without the flight. */
static void doErrand(void)
{
    void (*errand)(void) = takeErrand();
    workers.onErrands++;
    endFlight();
    wakeOneWorker();
    if (errand != NULL) errand();
    workers.onErrands--;
}

/* With the flight: look around for a while. */
static Capability *lookAround(Task *task)
{
    if (CAPSTAN_UNLIKELY(workers.lacking)) workers.lacking = false;
    for (unsigned i = 0; i < LOOKS_FOR_WORK; i++) {
        Capability *cap = findWork(task);
        if (cap != NULL) return cap;
        for (unsigned j = 0; j < 16; j++) archRelax();
    }
    return NULL;
}

static void work(Task *task, Capability *cap)
{
    task->cap = task->last = cap;
    RunResult result = runThreads(task, NULL);
    cap = task->cap;
    task->cap = NULL;
    if (result == RUN_LEFT || cap == NULL) return;
    if (result != RUN_ENDING && result != RUN_MAKE_WAY) noteIdle();
    releaseCapability(cap, task);
}

static void endWorker(bool counted)
{
    freeMyTask();
    acquireLock(&workers.lock);
    if (counted) workers.count--;
    workers.threads--;
    releaseLock(&workers.lock);
    atomic_fetch_add_explicit(&workers.leaving, 1, memory_order_release);
    osFutexWake(&workers.leaving, INT32_MAX);
}

/* Look for work and do it, until there is none for so many.  false: it does not count any more. */
static bool serve(Task *task)
{
    bool flying = true;
    for (uint64_t epoch = currentEpoch; epoch == currentEpoch;) {
        if (flying && isErrandLeft()) {
            doErrand();
            flying = takeFlight();
            continue;
        }
        Capability *cap = flying ? lookAround(task) : findWork(task);
        if (cap == NULL) {
            if (!rest(task, flying)) return false;
            flying = true;
            continue;
        }
        if (flying) endFlight();
        /* Others that were released meanwhile woke nobody. */
        atomic_thread_fence(memory_order_seq_cst);
        if (isWorkLeft()) wakeOneWorker();
        work(task, cap);
        flying = takeFlight();
    }
    if (flying) { /* the runtime is another: somebody else is to go */
        endFlight();
        wakeOneWorker();
    }
    return true;
}

static void runWorker(void *unused)
{
    Task *task = newWorkerTask();
    if (task == NULL) {
        withoutNewWorker();
        wantOwedTicks();
        endWorker(false);
        return;
    }
    endWorker(serve(task));
}

void loseWorker(void)
{
    acquireLock(&workers.lock);
    workers.count--;
    workers.threads--;
    releaseLock(&workers.lock);
    atomic_fetch_add_explicit(&workers.leaving, 1, memory_order_release);
    osFutexWake(&workers.leaving, INT32_MAX);
    wakeOneWorker(); /* what it was to do next */
}

/* ---- Start, exit ---- */

void initWorkers(unsigned most, unsigned spare, unsigned capabilities)
{
    acquireLock(&workers.lock);
    if (capabilities > workers.capabilities) workers.capabilities = capabilities;
    workers.most = most;
    workers.spare = spare;
    workers.closing = workers.complained = false;
    workers.lacking = false;
    workers.idle = NULL;
    workers.idleCount = 0;
    workers.flight = 0;
    for (unsigned i = 0; i < ERRANDS; i++) workers.errands[i] = NULL;
    releaseLock(&workers.lock);
    if (wakeWorker != wakeOneWorker) wakeWorker = wakeOneWorker; /* a safe call of the last runtime may be about to read it */
}

void forgetWorkers(bool one)
{
    renewLock(&workers.lock);
    memset((char *)&workers + sizeof workers.lock, 0, sizeof workers - sizeof workers.lock);
    memset(callCounts, 0, sizeof callCounts);
    workers.count = workers.threads = one;
    workers.endedLate = -(unsigned)one;
    workers.closing = true;
}

void stopWorkers(void)
{
    acquireLock(&workers.lock);
    workers.closing = true;
    for (Task *t = workers.idle, *next; t != NULL; t = next) {
        next = t->qnext;
        sendTask(t);
    }
    workers.idle = NULL;
    workers.idleCount = 0;
    releaseLock(&workers.lock);
    for (;;) {
        uint32_t seen = workers.leaving;
        if (workers.threads <= countCalls()) break;
        osFutexWait(&workers.leaving, seen, 100 * 1000 * 1000);
    }
}

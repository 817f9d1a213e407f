#include "worker.h"

#include "arch.h"
#include "base/report.h"
#include "run.h"

/* How often the worker on its way looks before it goes to sleep. */
#define LOOKS_FOR_WORK 40
/* What C of safe calls may use. */
#define WORKER_STACK ((size_t)8 << 20)

static struct {
    Lock lock;
    Task *idle;                       /* [lock: workers] through qnext, last in first out */
    unsigned idleCount;               /* [lock: workers] */
    _Atomic unsigned count, inCalls;  /* [lock: workers to raise count] */
    _Atomic uint32_t flight;          /* [atomic] 1: one is on its way */
    bool closing;                     /* [lock: workers] */
    unsigned most, spare;             /* [const] */
    bool complained;                  /* [lock: workers] */
    _Atomic uint32_t leaving;         /* futex word: rung when one ends */
    void (*_Atomic errand)(void);     /* for the next that looks */
} workers = { .lock = LOCK_INIT(RANK_WORKERS), .closing = true };

unsigned countWorkers(unsigned *idle, unsigned *inCalls)
{
    acquireLock(&workers.lock);
    *idle = workers.idleCount;
    releaseLock(&workers.lock);
    *inCalls = workers.inCalls;
    return workers.count;
}

void workerCalls(bool enters)
{
    if (enters) workers.inCalls++;
    else workers.inCalls--;
}

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

static bool isWorkLeft(void)
{
    for (unsigned i = 0, n = numCapabilities; i < n; i++)
        if (isFree(&capabilities[i]) && wantsWorker(&capabilities[i])) return true;
    return workers.errand != NULL;
}

static bool takeFlight(void)
{
    uint32_t none = 0;
    return atomic_load_explicit(&workers.flight, memory_order_relaxed) == 0 &&
           atomic_compare_exchange_strong_explicit(&workers.flight, &none, 1, memory_order_seq_cst, memory_order_relaxed);
}
static void endFlight(void) { atomic_store_explicit(&workers.flight, 0, memory_order_seq_cst); }

/* ---- Going to sleep, and waking ---- */

/* Out of the list of idle ones.  false: somebody has taken it out, and given it the flight. */
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

/* Sleep until woken with the flight.  true: on its way; false: end. */
static bool rest(Task *task, bool flying)
{
    uint32_t bell = atomic_load_explicit(&task->bell, memory_order_acquire);
    acquireLock(&workers.lock);
    bool ends = workers.closing || workers.idleCount >= workers.spare;
    if (!ends) {
        task->qnext = workers.idle;
        workers.idle = task;
        workers.idleCount++;
    }
    releaseLock(&workers.lock);
    if (flying) endFlight();
    /* Releases during the flight woke nobody; those before this barrier are seen now. */
    heavyBarrier();
    if (isWorkLeft() && takeFlight()) {
        if (ends || delist(task)) return !workers.closing;
        endFlight(); /* its waker has given it one as well: there is one flight, and that waker's went to this task */
    }
    if (ends) return false;
    while (atomic_load_explicit(&task->bell, memory_order_acquire) == bell) osFutexWait(&task->bell, bell, -1);
    return !workers.closing;
}

static void runWorker(void *unused);

/* Context: the flight is the caller's.  Makes a worker that has it. */
static bool makeWorker(void)
{
    acquireLock(&workers.lock);
    bool may = !workers.closing && workers.count < workers.most &&
               workers.count - workers.inCalls < numCapabilities + 1; /* more could hold no capability */
    if (may) workers.count++;
    releaseLock(&workers.lock);
    if (!may) return false;
    OsThread thread;
    if (osStartThread(&thread, "capstan-worker", WORKER_STACK, runWorker, NULL)) {
        osDetachThread(thread); /* stopWorkers counts */
        return true;
    }
    acquireLock(&workers.lock);
    workers.count--;
    bool first = !workers.complained;
    workers.complained = true;
    releaseLock(&workers.lock);
    if (first) logLine(RTS_LOG_WARNING, "the system refuses a thread for a worker: threads wait for those that there are");
    return false;
}

/* Context: the flight is the caller's. */
static bool sendWorker(void)
{
    acquireLock(&workers.lock);
    Task *task = workers.idle;
    if (task != NULL) {
        workers.idle = task->qnext;
        workers.idleCount--;
    }
    releaseLock(&workers.lock);
    if (task == NULL) return makeWorker();
    atomic_fetch_add_explicit(&task->bell, 1, memory_order_release);
    osFutexWake(&task->bell, 1);
    return true;
}

static void wakeOneWorker(void)
{
    if (!takeFlight()) return;
    if (!sendWorker()) endFlight(); /* all there can be are busy: they look again when they are done */
}

bool runOnWorker(void (*errand)(void))
{
    workers.errand = errand;
    wakeOneWorker();
    return true;
}

/* ---- A worker's life ---- */

static void doErrand(void)
{
    void (*errand)(void) = atomic_exchange(&workers.errand, NULL);
    if (errand != NULL) errand();
}

/* With the flight: look around for a while. */
static Capability *lookAround(Task *task)
{
    for (unsigned i = 0; i < LOOKS_FOR_WORK; i++) {
        if (workers.errand != NULL) doErrand();
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

static void endWorker(void)
{
    freeMyTask();
    acquireLock(&workers.lock);
    workers.count--;
    releaseLock(&workers.lock);
    atomic_fetch_add_explicit(&workers.leaving, 1, memory_order_release);
    osFutexWake(&workers.leaving, INT32_MAX);
}

static void runWorker(void *unused)
{
    Task *task = newTask();
    bool flying = true;
    if (task != NULL) {
        task->worker = true;
        uint64_t epoch = currentEpoch;
        do {
            Capability *cap = flying ? lookAround(task) : findWork(task);
            if (cap != NULL) {
                if (flying) endFlight();
                flying = false;
                /* Others that were released meanwhile woke nobody. */
                if (isWorkLeft()) wakeOneWorker();
                work(task, cap);
                if (epoch != currentEpoch) break;
                flying = takeFlight();
            } else if (rest(task, flying)) {
                flying = true;
            } else {
                flying = false;
                break;
            }
        } while (epoch == currentEpoch);
    }
    if (flying) endFlight();
    endWorker();
}

/* ---- Start, exit ---- */

void initWorkers(unsigned most, unsigned spare)
{
    acquireLock(&workers.lock);
    workers.most = most;
    workers.spare = spare;
    workers.closing = workers.complained = false;
    workers.idle = NULL;
    workers.idleCount = 0;
    workers.flight = 0;
    workers.errand = NULL;
    releaseLock(&workers.lock);
    wakeWorker = wakeOneWorker;
}

void stopWorkers(void)
{
    acquireLock(&workers.lock);
    workers.closing = true;
    for (Task *t = workers.idle, *next; t != NULL; t = next) {
        next = t->qnext;
        atomic_fetch_add_explicit(&t->bell, 1, memory_order_release);
        osFutexWake(&t->bell, 1);
    }
    workers.idle = NULL;
    workers.idleCount = 0;
    releaseLock(&workers.lock);
    for (;;) {
        uint32_t seen = workers.leaving;
        if (workers.count <= workers.inCalls) break;
        osFutexWait(&workers.leaving, seen, 100 * 1000 * 1000);
    }
}

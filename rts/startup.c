/* Starting and ending the runtime, any number of times.
 *
 * Each start has an epoch.  In-calls that are inside a safe call when the runtime ends find out, when they return, that theirs is over. */
#include "adjustor.h"
#include "adjustor_pool.h"
#include "arch.h"
#include "base/lock.h"
#include "body.h"
#include "budget.h"
#include "bound.h"
#include "capability.h"
#include "exception.h"
#include "foreign_export.h"
#include "finalizer.h"
#include "fork.h"
#include "incall.h"
#include "language.h"
#include "leave.h"
#include "options.h"
#include "os/memory.h"
#include "os/topology.h"
#include "roots.h"
#include "schedule.h"
#include "stable_name.h"
#include "stable_ptr.h"
#include "stats.h"
#include "statics.h"
#include "stop.h"
#include "submit.h"
#include "thunk.h"
#include "timekeeper.h"
#include "unload.h"
#include "weak.h"
#include "weak_table.h"
#include "worker.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct MadeInfo_ {
    struct MadeInfo_ *next;
    StgInfoTable info;
} MadeInfo;

static struct {
    Lock lock;
    unsigned users;         /* [lock: startup] */
    RtsConfig config;       /* [lock: startup] of the running runtime, all defaults filled in */
    unsigned nodesAsked;    /* [lock: startup] debug_numa_nodes of the topology that is loaded */
    bool topologyLoaded;    /* [lock: startup] */
    _Atomic(MadeInfo *) infos; /* made by rts_newInfoTable since the start */
} startup = { .lock = LOCK_INIT(RANK_STARTUP) };

/* Everything that the collector starts from, beside the stable pointers. */
static const RootScanner rootScanners[] = { scanThreadRoots, scanStatics, NULL };
static const GcTable *const gcTables[] = { &externalTable, &weakPointerTable, &weakTableTable, &stableNameTable, &stablePtrTable,
                                         &externalMemoryTable, NULL };

/* The bits that threads outside any in-call put into attention. */
static void wantCollection(void *nursery)
{
    Capability *cap = nursery;
    atomic_fetch_or_explicit(&cap->attention, ATTENTION_COLLECT, memory_order_relaxed);
    Stack *stack = regsOf(cap)->stack;
    if (stack != NULL) __atomic_store_n(&stack->poll, 1, __ATOMIC_RELAXED);
}

/* Tasks may be made before the first start. */
__attribute__((constructor)) static void introduceTasks(void)
{
    initTasks(&deadNotStarted, abandonTask);
    archLeavingSideways = leaveSideways;
    initAdjustors();
}

/* Whoever starts or ends the runtime is not cancelled meanwhile, by what of the host's it calls or in what it writes: nobody else could end what is half done. */
static int lockStartup(void)
{
    int cancelState;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelState);
    acquireLock(&startup.lock);
    return cancelState;
}

static void unlockStartup(int cancelState)
{
    releaseLock(&startup.lock);
    pthread_setcancelstate(cancelState, &cancelState);
}

/* ---- Configuration ---- */

/* A copy of what the host gave, of whatever version, with defaults and options applied. */
static RtsStatus readConfig(RtsConfig *c, const RtsConfig *given, int *argc, char **argv[], char *message, size_t size)
{
    memset(c, 0, sizeof *c);
    if (given != NULL) {
        if (given->size < offsetof(RtsConfig, rts_opts) || given->size > 16 * sizeof *c) {
            if (message) snprintf(message, size, "RtsConfig.size: expected sizeof(RtsConfig); use RTS_CONFIG_INIT");
            return RTS_BAD_OPTION;
        }
        memcpy(c, given, given->size < sizeof *c ? given->size : sizeof *c);
    }
    c->size = sizeof *c;
    if (c->foreign_stack_bytes == 0) c->foreign_stack_bytes = 64 << 10;
    if (c->slice_us == 0) c->slice_us = 20000;
    if (c->stack_bytes == 0) c->stack_bytes = 256 << 10;
    if (c->max_workers == 0) c->max_workers = 10000;
    if (c->spare_workers == 0) c->spare_workers = 6;
    if (c->idle_collection_us == 0) c->idle_collection_us = 300000;
    if (c->submit_queue == 0) c->submit_queue = 4096;
    if (c->long_stop_us == 0) c->long_stop_us = 1000000;
    if (c->quantum_us == 0) c->quantum_us = 200;
    fillDefaultHooks(c);
    RtsStatus status = applyOptions(c, c->rts_opts, message, size);
    if (status == RTS_OK && c->rts_opts_enabled == RtsOptsAll)
        status = applyOptions(c, getenv("CAPSTANRTS"), message, size);
    if (status == RTS_OK && c->rts_opts_enabled != RtsOptsNone) status = applyArgs(c, argc, argv, message, size);
    if (status == RTS_OK && c->capabilities == 0) {
        c->capabilities = osAvailableProcessors();
        if (c->capabilities > MAX_CAPABILITIES) c->capabilities = MAX_CAPABILITIES;
    }
    return status == RTS_OK ? checkConfig(c, message, size) : status;
}

static bool sameSettings(const RtsConfig *a, const RtsConfig *b)
{
    return a->capabilities == b->capabilities && a->nursery_bytes == b->nursery_bytes &&
           a->heap_limit_bytes == b->heap_limit_bytes && a->foreign_stack_bytes == b->foreign_stack_bytes &&
           a->quantum_us == b->quantum_us && a->debug_numa_nodes == b->debug_numa_nodes &&
           a->verify_heap == b->verify_heap && a->poison_from_space == b->poison_from_space &&
           a->no_membarrier == b->no_membarrier && a->logHook == b->logHook && a->errorHook == b->errorHook &&
           a->closedHook == b->closedHook && a->statusHook == b->statusHook && a->onExitHook == b->onExitHook &&
           a->gcDoneHook == b->gcDoneHook && a->outOfHeapHook == b->outOfHeapHook &&
           a->stackOverflowHook == b->stackOverflowHook && a->longStopHook == b->longStopHook &&
           a->showExceptionHook == b->showExceptionHook && a->slice_us == b->slice_us && a->stack_bytes == b->stack_bytes &&
           a->max_workers == b->max_workers && a->spare_workers == b->spare_workers &&
           a->idle_collection_us == b->idle_collection_us && a->submit_queue == b->submit_queue &&
           a->interrupt_signal == b->interrupt_signal && a->uncaughtHook == b->uncaughtHook && a->stats == b->stats &&
           strcmp(a->stats_file, b->stats_file) == 0 && a->long_stop_us == b->long_stop_us;
}

/* ---- Start ---- */

static bool loadTopology(unsigned nodes, char *message, size_t size)
{
    if (startup.topologyLoaded && startup.nodesAsked == nodes) return true;
    startup.topologyLoaded = false; /* a forked child may find it half done */
    startup.topologyLoaded = topologyInit(nodes, message, size);
    startup.nodesAsked = nodes;
    return startup.topologyLoaded;
}

static void ringEverybody(Task *task, void *unused) { ringTask(task); }

static bool startNurseries(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (!initNursery(&capabilities[i].nursery, topologyNodeOfCapability(i), wantCollection)) return false;
    return true;
}

static bool tick(void)
{
    bool queues = tickQueues(), submissions = tickSubmit(), finalizers = tickFinalizers();
    return queues || submissions || finalizers;
}

/* How often the queues are looked at. */
#define TICK_NANOS 1000000u

static void startScheduler(const RtsConfig *c)
{
    uint64_t slice = (uint64_t)c->slice_us * 1000;
    osMembarrierForceRefused = c->no_membarrier;
    osMembarrierInit();
    initThreadRoots();
    initStackPool(c->stack_bytes);
    initRun(TICK_NANOS < slice ? TICK_NANOS : slice, slice);
    initBodies();
    initBudgets();
    initSchedule((uint64_t)c->idle_collection_us * 1000);
    initTimekeeper(TICK_NANOS < slice ? TICK_NANOS : slice, tick);
    initWorkers(c->max_workers, c->spare_workers, c->capabilities);
    initSubmit(c->submit_queue);
    initFinalizers();
    initExternalMemory();
    startAdjustors();
    initUnload();
}

static RtsStatus startRuntime(const RtsConfig *c, char *message, size_t size)
{
    beginStats();
    if (!loadTopology(c->debug_numa_nodes, message, size)) return RTS_NO_MEMORY;
    if (!watchForks()) {
        if (message) snprintf(message, size, "no memory to look after forked children");
        return RTS_NO_MEMORY;
    }
    clearAfterFork();
    initStop();
    HeapSettings heapSettings = { c->nursery_bytes, c->heap_limit_bytes, c->capabilities, c->verify_heap, c->poison_from_space };
    if (!initHeap(&heapSettings, rootScanners, gcTables) || !startNurseries(c->capabilities) || !startForeignExports()) {
        endForeignExports();
        freeAllStablePtrs();
        freeHeap();
        if (message) snprintf(message, size, "no memory for the heap of %u capabilities", c->capabilities);
        return RTS_NO_MEMORY;
    }
    publishConfig(c);
    startScheduler(c);
    /* As the stopper, so that nobody stops a world that is just being made. */
    while (!stopWorld(NULL, 0)) waitForStopper();
    currentEpoch++;
    initCapabilities(c->capabilities, (uint64_t)c->quantum_us * 1000, c->no_membarrier);
    leaveStopped();
    noteStarted();
    return RTS_OK;
}

/* In-calls of a runtime that is over do not count: a forked child may be inside of one for good. */
static bool isInsideInCall(void)
{
    Task *task = myTask;
    if (task == NULL) return false;
    if (task->finalizing || task->cap != NULL) return true;
    InCall *i = task->incall;
    return i != NULL && !(i->suspended && i->epoch != currentEpoch);
}

bool forgetStartup(void)
{
    bool quiet = renewLock(&startup.lock);
    startup.users = 0;
    startup.infos = NULL; /* they stay: constants of languages may refer to them */
    if (!quiet) startup.topologyLoaded = false;
    return quiet;
}

RtsStatus rts_startArgs(const RtsConfig *config, int *argc, char **argv[], char *message, size_t size)
{
    RtsConfig c;
    if (message != NULL && size > 0) message[0] = 0;
    if (isInsideInCall()) {
        if (message) snprintf(message, size, "%s", rts_statusText(RTS_INSIDE_INCALL));
        return RTS_INSIDE_INCALL;
    }
    RtsStatus status = readConfig(&c, config, argc, argv, message, size);
    if (status != RTS_OK) return status;
    int cancelState = lockStartup();
    if (startup.users > 0) {
        if (config != NULL && !sameSettings(&c, &startup.config)) {
            status = RTS_OTHER_SETTINGS;
            if (message) snprintf(message, size, "%s", rts_statusText(status));
        }
    } else {
        status = startRuntime(&c, message, size);
        startup.config = c;
    }
    if (status == RTS_OK || status == RTS_OTHER_SETTINGS) startup.users++;
    unlockStartup(cancelState);
    return status;
}

RtsStatus rts_start(const RtsConfig *config, char *message, size_t size)
{
    return rts_startArgs(config, NULL, NULL, message, size);
}

/* The void forms: what goes wrong reaches the error hook of the configuration that was given. */
static void startOrReport(const RtsConfig *config, int *argc, char **argv[])
{
    char message[512];
    RtsStatus status = rts_startArgs(config, argc, argv, message, sizeof message);
    if (status == RTS_OK) return;
    if (config != NULL && config->size >= sizeof *config && config->errorHook != NULL)
        config->errorHook(config->errorCtx, status, message);
    else
        reportError(status, "hs_init: %s", message);
}

void hs_init(int *argc, char **argv[]) { startOrReport(NULL, argc, argv); }
void hs_init_ghc(int *argc, char **argv[], RtsConfig config) { startOrReport(&config, argc, argv); }

void hs_init_with_rtsopts(int *argc, char **argv[])
{
    RtsConfig config = RTS_CONFIG_INIT;
    config.rts_opts_enabled = RtsOptsAll;
    startOrReport(&config, argc, argv);
}

/* ---- Exit ---- */

static void freeInfoTables(void)
{
    for (MadeInfo *m = atomic_exchange(&startup.infos, NULL), *next; m != NULL; m = next) {
        next = m->next;
        rtsFree(m);
    }
}

/* Others may push meanwhile, in front; nobody else takes any out. */
static void unlinkInfo(MadeInfo *m)
{
    MadeInfo *expected = m;
    if (atomic_compare_exchange_strong(&startup.infos, &expected, m->next)) return;
    MadeInfo *before = atomic_load(&startup.infos);
    while (before->next != m) before = before->next;
    before->next = m->next;
}

void freeInfoTablesIn(const void *lo, const void *hi)
{
    acquireLock(&startup.lock);
    for (MadeInfo *m = atomic_load(&startup.infos), *next; m != NULL; m = next) {
        next = m->next;
        if ((uintptr_t)m->info.entry - (uintptr_t)lo >= (uintptr_t)hi - (uintptr_t)lo) continue;
        unlinkInfo(m);
        rtsFree(m);
    }
    releaseLock(&startup.lock);
}

/* Every capability is taken away, then everything that was reached through one goes. */
static void endRuntime(void)
{
    if (startup.config.onExitHook) startup.config.onExitHook(startup.config.onExitCtx);
    runtimeIsEnding = true;
    closeSubmit();
    while (!stopWorld(NULL, ATTENTION_SHUTDOWN)) waitForStopper();
    closeCapabilities();
    leaveStopped();
    eachTask(ringEverybody, NULL);
    stopTimekeeper();
    stopWorkers();
    awaitBoundThreads();
    awaitReleases();
    writeStats(&startup.config);
    endStats();
    dropThreads();
    endFinalizers();
    finishSubmit();
    revertStatics();
    endAdjustors();
    endForeignExports();
    freeAllStablePtrs();
    Task *task = newTask();
    if (task != NULL) {
        task->finalizing = true;
        task->cap = &finalizerMark;
    }
    endWeaks();
    freeWeakTables();
    freeStableNames(true);
    freeHeap();
    if (task != NULL) {
        task->finalizing = false;
        task->cap = NULL;
        retireTemporary();
    }
    freeInfoTables();
    runtimeIsEnding = false;
}

void hs_exit(void)
{
    if (isInsideInCall()) {
        reportError(RTS_INSIDE_INCALL, "hs_exit: %s", rts_statusText(RTS_INSIDE_INCALL));
        return;
    }
    int cancelState = lockStartup();
    bool surplus = startup.users == 0;
    if (!surplus && --startup.users == 0) endRuntime();
    unlockStartup(cancelState);
    unloadModules();
    if (surplus) reportError(RTS_NOT_STARTED, "hs_exit: more calls than of hs_init");
}

/* ---- Info tables made at run time ---- */

static bool isSensible(const StgInfoTable *m)
{
    if (m == NULL || (m->flags & INFO_STATIC)) return false;
    size_t words = (size_t)m->ptrs + m->nptrs;
    if (words >= LARGE_WORDS - 2) return false;
    switch (m->kind) {
    case CLOSURE_CON: return true;
    case CLOSURE_FUN: return m->entry != NULL && m->arity >= 1 && m->arity <= CAPSTAN_MAX_ARITY;
    case CLOSURE_THUNK: return m->entry != NULL;
    default: return false;
    }
}

static size_t namesSize(const StgInfoTable *m)
{
    size_t n = m->name ? strlen(m->name) + 1 : 0;
    for (size_t i = 0; m->fieldNames && i < m->ptrs; i++) n += sizeof(char *) + strlen(m->fieldNames[i]) + 1;
    return n;
}

static char *copyName(char **to, const char *name)
{
    char *copy = *to;
    size_t n = strlen(name) + 1;
    memcpy(copy, name, n);
    *to += n;
    return copy;
}

const StgInfoTable *rts_newInfoTable(const StgInfoTable *model)
{
    if (!isSensible(model)) {
        reportError(RTS_BAD_ARGUMENT, "rts_newInfoTable: expected a constructor, or a function or thunk with an entry");
        return NULL;
    }
    MadeInfo *made = rtsMalloc(sizeof *made + namesSize(model));
    if (made == NULL) return NULL;
    made->info = *model;
    made->info.flags = INFO_MADE;
    char *text = (char *)(made + 1);
    if (model->fieldNames) {
        char **names = (char **)(void *)text;
        text += model->ptrs * sizeof *names;
        for (size_t i = 0; i < model->ptrs; i++) names[i] = copyName(&text, model->fieldNames[i]);
        made->info.fieldNames = (const char *const *)names;
    }
    if (model->name) made->info.name = copyName(&text, model->name);
    MadeInfo *head = atomic_load(&startup.infos);
    do made->next = head;
    while (!atomic_compare_exchange_weak(&startup.infos, &head, made));
    return &made->info;
}

#include "fork.h"

#include "adjustor_pool.h"
#include "bound.h"
#include "budget.h"
#include "capability.h"
#include "exception.h"
#include "finalizer.h"
#include "foreign_export.h"
#include "module.h"
#include "interrupt.h"
#include "os/memory.h"
#include "os/os.h"
#include "os/topology.h"
#include "roots.h"
#include "run.h"
#include "schedule.h"
#include "stable.h"
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

static struct {
    bool watching;   /* [lock: startup] */
    bool childOfOne; /* [lock: startup] there is something to clear */
    bool heapWhole;  /* [lock: startup] and its heap can be given back: it was complete, and no frame looks into it */
} forks;

/* ---- The thread that forked ---- */

/* Others may have been about to throw at it, or to wait for it; its ThreadId went with the heap. */
static void forgetOthers(StgTSO *tso)
{
    atomic_store_explicit(&tso->lock, 0, memory_order_relaxed);
    atomic_store_explicit(&tso->known, 0, memory_order_relaxed);
    atomic_store_explicit(&tso->hasWaiters, 0, memory_order_relaxed);
    tso->handle = NULL;
    tso->throwers = tso->waiters = NULL;
}

/* It raises Interrupted at its next safepoint. */
static void endStack(Stack *stack)
{
    stack->cap = &deadInterrupted;
    __atomic_store_n(&stack->poll, 1, __ATOMIC_RELAXED);
}

static void endInCalls(Task *task)
{
    for (InCall *i = task->incall; i != NULL; i = i->prev) {
        if (!i->suspended) endStack(&i->stack);
        i->suspended = true; /* in an epoch that is over */
        i->nextNamed = i->prevNamed = NULL;
        forgetOthers(&i->tso);
    }
}

/* An unbound thread that is in a safe call, or (in an unsafe call) runs here. */
static void endUnbound(StgTSO *tso, bool runs)
{
    if (tso == NULL || isBound(tso)) return;
    forgetOthers(tso);
    tso->flags |= TSO_FORGOTTEN;
    if (runs) endStack(tso->stack);
}

/* Returns whether it held a capability. */
static bool leaveTask(Task *task)
{
    Capability *cap = task->cap;
    bool held = cap != NULL && cap->dead == RTS_OK;
    if (held) {
        Stack *stack = regsOf(cap)->stack;
        if (stack != NULL) endUnbound(stack->tso, true);
        task->cap = NULL;
    }
    endUnbound(task->calling, false);
    endInCalls(task);
    forgetInterrupts(task->interrupt);
    task->id = osThreadId();
    task->hosting = NULL;
    task->given = NULL;
    task->qnext = task->qprev = NULL;
    task->queued = false;
    task->since = 0;
    return held;
}

/* ---- The first step ---- */

static void enterChild(void)
{
    Task *task = getMyTask();
    bool started = numCapabilities != 0, held = task != NULL && leaveTask(task);
    bool quiet = forgetStartup();
    forgetCapabilities();
    currentEpoch++;
    forgetTasks();
    forgetThreads();
    forgetRun();
    forgetStop();
    forgetWorkers(task != NULL && task->worker);
    forgetBoundThreads();
    forgetBudgets();
    forgetSubmit();
    forgetSchedule();
    forgetStats();
    forgetTimekeeper();
    forgetStackPool();
    forgetStablePtrs();
    forgetStableLock();
    renewForeignExports();
    renewModules();
    forgetUnload();
    forgetAdjustors();
    forgetSignatures();
    forgetWeaks();
    forgetWeakTables();
    forgetFinalizers();
    forgetStatics();
    forgetExternals();
    forgetBlocks();
    osRenewLocks();
    if (!quiet) topologyForget();
    if (!forks.childOfOne) forks.heapWhole = started && quiet;
    if (held) forks.heapWhole = false;
    forks.childOfOne = true;
}

bool watchForks(void)
{
    if (!forks.watching) forks.watching = osWatchForks(enterChild);
    return forks.watching;
}

/* ---- The second step ---- */

void clearAfterFork(void)
{
    if (!forks.childOfOne) return;
    forks.childOfOne = false;
    revertStatics();
    freeAllStablePtrs();
    freeStableNames(false);
    clearCapabilities();
    forgetThreadRoots();
    forgetHeap(forks.heapWhole);
}

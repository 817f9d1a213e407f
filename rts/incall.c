/* The path of an in-call, from rts_lock to rts_unlock.  Each step is a function; the fast ones are inline in the headers
 * of the modules they belong to. */
#include "incall.h"

#include "apply.h"
#include "arch.h"
#include "body.h"
#include "budget.h"
#include "bound.h"
#include "exception.h"
#include "leave.h"
#include "os/os.h"
#include "os/topology.h"
#include "rts/Threads.h"
#include "stable_ptr.h"
#include "throwto.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- In ---- */

/* The runtime is not running, or ended under the call. */
static Capability *refuseClosed(bool ended, bool hooks)
{
    Capability *dead = ended || runtimeIsEnding ? &deadClosed : &deadNotStarted;
    if (hooks) hostConfig.closedHook(hostConfig.closedCtx, dead->dead);
    return dead;
}

static Capability *refuse(Capability *dead, const char *what, bool hooks)
{
    if (hooks) reportError(dead->dead, "%s: %s", what, rts_statusText(dead->dead));
    return dead;
}

/* Whether in-calls of this thread were jumped over: then they are over.  Only debug builds look. */
static inline bool isJumpNoticed(__attribute__((unused)) Task *task)
{
#ifdef CAPSTAN_DEBUG
    return task != NULL && task->incall != NULL && noticeJump(task, archStackPointer());
#else
    return false;
#endif
}

/* A Task that may begin an in-call; or NULL, and why not. */
static Task *newBoundTask(Capability **dead, bool hooks)
{
    Task *task = getMyTask();
    if (task == NULL && numCapabilities == 0) *dead = refuseClosed(false, hooks);
    else if ((task = newTask()) == NULL) *dead = refuse(&deadNoMemory, "rts_lock", hooks);
    else if (task->finalizing) *dead = refuse(&deadFinalizer, "rts_lock", hooks);
    else if (task->cap != NULL) *dead = refuse(&deadHolds, "rts_lock", hooks);
    else return task;
    return NULL;
}

/* The capability is held: the in-call begins.  true: something is asked of it already. */
static inline bool beginInCall(Task *task, InCall *incall, Capability *cap)
{
    ASSERT(incall->stack.roots == NULL && incall->stack.trap == NULL && incall->exception == CAPSTAN_POISON);
    ASSERT(incall->tso.closure == CAPSTAN_UNIT && incall->tso.value == CAPSTAN_UNIT && incall->tso.blockedOn == CAPSTAN_UNIT);
    pushInCall(task, incall);
    task->cap = cap;
    incall->status = NoStatus;
    return placeStack(cap, &incall->stack);
}

/* The in-call ends without its capability, and without having evaluated anything. */
static void dropUnused(InCall *incall)
{
    if (incall->tso.flags & TSO_BUDGET) closeBudget(incall);
    unlinkInCall(incall->task, incall);
    if (incall->suspended) incall->suspended = false; /* its runtime has ended while it made way */
    returnInCall(incall->task, incall);
}

/* The same after something was evaluated. */
static void dropInCall(InCall *incall)
{
    if (incall->tso.flags & TSO_BUDGET) closeBudget(incall);
    unlinkInCall(incall->task, incall);
    endInCall(incall->task, incall);
}

/* Something is asked of the capability that was just taken: a new in-call does not hold it up.  Nothing is held yet that
 * could move. */
__attribute__((noinline)) static Capability *makeWay(InCall *incall, bool hooks)
{
    Task *task = incall->task;
    attendStack(task->cap, &incall->stack);
    if (!isPolled(&incall->stack)) return task->cap;
    /* What was refused was refused to an in-call that is over. */
    forgetDebts(&task->cap->nursery);
    if (serviceRequests(&incall->stack)) return task->cap;
    Capability *cap = task->cap;
    task->cap = NULL;
    dropUnused(incall);
    if (cap != NULL) releaseCapability(cap, task);
    retireTemporary();
    return refuseClosed(true, hooks);
}

/* The same without waiting: a capability that others are waiting for is as good as busy. */
static Capability *tryMakeWay(InCall *incall)
{
    Task *task = incall->task;
    Capability *cap = task->cap;
    attendStack(cap, &incall->stack);
    uint32_t asked = atomic_load_explicit(&cap->attention, memory_order_relaxed);
    forgetDebts(&cap->nursery);
    if (!(asked & (ATTENTION_STOP | ATTENTION_HANDOVER | ATTENTION_SHUTDOWN))) return cap;
    task->cap = NULL;
    dropUnused(incall);
    releaseCapability(cap, task);
    retireTemporary();
    return asked & ATTENTION_SHUTDOWN ? &deadClosed : &deadBusy;
}

/* The whole of it: newBoundTask, newInCall, waitForCapability. */
__attribute__((noinline)) static Capability *lockSlow(bool wait, bool hooks)
{
    Capability *cap;
    Task *task = newBoundTask(&cap, hooks);
    if (task == NULL) return cap;
    InCall *incall = newInCall(task);
    if (incall == NULL) return refuse(&deadNoMemory, "rts_lock", hooks);
    cap = wait ? waitForCapability(task) : find_capability_for_task(task);
    if (cap == NULL) {
        returnInCall(task, incall);
        bool sentHome = wait && task->wakeup == WAIT_CLOSED, busy = !wait && numCapabilities != 0;
        retireTemporary();
        return busy ? &deadBusy : refuseClosed(sentHome, hooks);
    }
    task->last = cap;
    if (!beginInCall(task, incall, cap)) return cap;
    return wait ? makeWay(incall, hooks) : tryMakeWay(incall);
}

/* The same when nothing is in the way: there is a Task, it has a spare InCall, the capability it used last is free. */
Capability *rts_lock(void)
{
    Task *task = myTask;
    isJumpNoticed(task);
    if (CAPSTAN_UNLIKELY(task == NULL || task->cap != NULL)) return lockSlow(true, true);
    InCall *incall = task->spare;
    Capability *cap = task->last;
    if (CAPSTAN_UNLIKELY(incall == NULL || !tryTakeCapability(cap, task))) return lockSlow(true, true);
    task->spare = incall->prev;
    return CAPSTAN_LIKELY(!beginInCall(task, incall, cap)) ? cap : makeWay(incall, true);
}

RtsStatus rts_tryLock(Capability **out)
{
    isJumpNoticed(myTask);
    *out = lockSlow(false, false);
    return (*out)->dead;
}

Capability *lockQuietly(void) { return lockSlow(true, false); }

/* ---- In, with a budget ---- */

/* Of whatever version. */
static bool readLockOpts(RtsLockOpts *opts, const RtsLockOpts *given)
{
    *opts = (RtsLockOpts)RTS_LOCK_OPTS_INIT;
    if (given == NULL) return true;
    if (given->size < offsetof(RtsLockOpts, alloc_limit_bytes) || given->size > 16 * sizeof *opts) return false;
    memcpy(opts, given, given->size < sizeof *opts ? given->size : sizeof *opts);
    return true;
}

/* Back before beginInCall. */
static void stepBack(InCall *incall)
{
    Task *task = incall->task;
    Capability *cap = task->cap;
    forgetDebts(&cap->nursery);
    task->cap = NULL;
    unlinkInCall(task, incall);
    releaseCapability(cap, task);
}

/* waitForCapability and beginInCall; but a capability that others wait for is left to them: they were first, and waiting for the next one
 * is bounded by the deadline.  NULL: there is none. */
static Capability *enterWithin(InCall *incall, bool wait)
{
    Task *task = incall->task;
    for (;;) {
        Capability *cap = wait ? waitForCapability(task) : find_capability_for_task(task);
        if (cap == NULL) return NULL;
        task->last = cap;
        if (!beginInCall(task, incall, cap)) return cap;
        attendStack(cap, &incall->stack);
        uint32_t asked = atomic_load_explicit(&cap->attention, memory_order_relaxed);
        if (!(asked & (ATTENTION_STOP | ATTENTION_HANDOVER))) return cap;
        stepBack(incall);
        if (!wait) return NULL;
    }
}

/* The in-call does not begin: there is no capability, or its budget was over before. */
static Capability *refuseWithin(InCall *incall, bool got, RtsStatus over, bool wait)
{
    Task *task = incall->task;
    bool sentHome = !got && wait && task->wakeup == WAIT_CLOSED;
    if (got) stepBack(incall);
    if (incall->tso.flags & TSO_BUDGET) closeBudget(incall);
    returnInCall(task, incall);
    retireTemporary();
    if (over == RTS_NO_MEMORY) return &deadNoMemory;
    if (over == RTS_CANCELLED) return &deadCancelled;
    if (sentHome || numCapabilities == 0) return refuseClosed(sentHome, false);
    return over == RTS_TIMED_OUT ? &deadTimedOut : wait ? refuseClosed(true, false) : &deadBusy;
}

/* It has begun: what is asked of its capability, and its limit. */
static Capability *settleWithin(InCall *incall, StgWord64 limit)
{
    Capability *cap = incall->task->cap;
    if (isPolled(&incall->stack)) cap = makeWay(incall, false);
    if (cap->dead != RTS_OK) return cap;
    noticePending(&incall->stack);
    if (limit != 0) limitAllocation(cap, &incall->tso, limit);
    return cap;
}

static Capability *lockWithin(const RtsLockOpts *opts)
{
    Capability *dead;
    uint64_t deadline = deadlineAfter(opts->deadline_us);
    Task *task = newBoundTask(&dead, false);
    if (task == NULL) return dead;
    InCall *incall = newInCall(task);
    if (incall == NULL) return &deadNoMemory;
    bool budget = deadline != NO_DEADLINE || opts->handle != NULL, wait = !opts->no_wait;
    if (budget && !openBudget(incall, deadline, opts->handle != NULL)) return refuseWithin(incall, false, RTS_NO_MEMORY, false);
    /* Release: another thread may be looking for it to cancel the call. */
    if (opts->handle != NULL) __atomic_store_n(opts->handle, handleOf(incall->budget), __ATOMIC_RELEASE);
    bool got = enterWithin(incall, wait) != NULL;
    RtsStatus over = budget ? beginBudget(incall, got) : RTS_OK;
    return got && over == RTS_OK ? settleWithin(incall, opts->alloc_limit_bytes) : refuseWithin(incall, got, over, wait);
}

RtsStatus rts_lockOpt(Capability **out, const RtsLockOpts *given)
{
    RtsLockOpts opts;
    isJumpNoticed(myTask);
    if (given != NULL && given->size >= sizeof *given && given->handle != NULL)
        __atomic_store_n(given->handle, 0, __ATOMIC_RELAXED);
    *out = readLockOpts(&opts, given) ? lockWithin(&opts) : &deadBadArgument;
    return (*out)->dead;
}

/* ---- Out ---- */

__attribute__((noinline)) static void refuseUnlock(Task *task, Capability *cap)
{
    if (cap->dead != RTS_OK) return;
    if (task != NULL && task->cap == cap)
        reportError(RTS_OUT_OF_ORDER, "rts_unlock: managed code of this in-call is running");
    else
        reportError(RTS_NOT_HOLDER, "rts_unlock: %s", rts_statusText(RTS_NOT_HOLDER));
}

/* The in-call was more than its record: others may know its thread, it had a budget, or counted what it allocated. */
__attribute__((noinline)) static void endKnown(Capability *cap, InCall *incall)
{
    if (incall->tso.flags & TSO_BUDGET) closeBudget(incall);
    endThread(cap, &incall->tso, ThreadFinished);
}

/* The Task holds a capability: for its in-call, and nothing is being evaluated?  Else this is an unsafe call; on a worker there may be no in-call at all. */
static inline bool isBetweenEvaluations(Task *task) { return task->incall != NULL && task->incall->stack.trap == NULL; }

/* What is left to do when something is asked of the capability, and what few Tasks need. */
__attribute__((noinline)) static void afterUnlock(Task *task, Capability *cap, uint32_t asked, bool work)
{
    if (asked != 0) releaseSlow(cap, task);
    if (work) wakeWorker();
    unsigned n = numCapabilities;
    if (task->flags & TASK_PREFERS && n != 0) task->last = &capabilities[task->preferred % n];
    retireTemporary();
}

void rts_unlock(Capability *cap)
{
    Task *task = myTask;
    if (isJumpNoticed(task)) return;
    if (CAPSTAN_UNLIKELY(task == NULL || task->cap != cap || !isBetweenEvaluations(task))) {
        refuseUnlock(task, cap);
        return;
    }
    capabilityInvariants(cap);
    InCall *incall = task->incall;
    task->incall = incall->prev;
    /* What endInCall clears, as far as it can be set here. */
    incall->stack.roots = NULL;
    if (CAPSTAN_UNLIKELY(incall->exception != CAPSTAN_POISON)) incall->exception = CAPSTAN_POISON;
    if (CAPSTAN_UNLIKELY(incall->tso.flags != 0)) endKnown(cap, incall);
    incall->prev = task->spare;
    task->spare = incall;
    task->cap = NULL;
    bool work = hasWork(cap);
    uint32_t asked = storeFree(cap);
    if (CAPSTAN_UNLIKELY((asked & ATTENTION_RELEASE) | task->flags | work) && !(isWaiterComing(asked) && task->flags == 0 && !work))
        afterUnlock(task, cap, asked & ATTENTION_RELEASE, work);
}

/* ---- Evaluation ---- */

/* The in-call of the calling thread, if it holds cap and is not evaluating; otherwise says so. */
static inline InCall *checkHolder(Capability *cap, const char *what)
{
    Task *task = myTask;
    if (CAPSTAN_LIKELY(task != NULL && task->cap == cap)) {
        if (CAPSTAN_LIKELY(isBetweenEvaluations(task))) return task->incall;
        reportError(RTS_INSIDE_INCALL, "%s inside an unsafe call: managed code of this in-call is running", what);
    } else if (cap->dead == RTS_OK) {
        reportError(RTS_NOT_HOLDER, "%s: %s", what, rts_statusText(RTS_NOT_HOLDER));
    }
    return NULL;
}

/* An uncaught exception, or the end of the runtime. */
__attribute__((noinline)) static HaskellObj endRaised(InCall *incall, HaskellObj exception)
{
    incall->exception = exception;
    incall->tso.closure = CAPSTAN_UNIT;
    clearWaitRoots(&incall->tso);
    incall->status = statusOfException(exception);
    if (incall->status == HeapExhausted) incall->stack.cap->nursery.refused = false;
    if (exception == CAPSTAN_SHUTDOWN) forgetBoundWaits(&incall->tso); /* the frames that saw to that were left unvisited */
    if (incall->stack.cap->dead == RTS_OK) {
        if (incall->status == HeapExhausted) collectSoon();
        if (incall->tso.flags & TSO_BUDGET) renewBudget(incall);
        noticePending(&incall->stack);
        return CAPSTAN_POISON;
    }
    /* It came back without a capability: the in-call is over. */
    dropInCall(incall);
    retireTemporary();
    return CAPSTAN_POISON;
}

/* Run a thread on the caller's own stack, whose bounds are known by now. */
static inline __attribute__((always_inline)) void runBoundThread(InCall *incall, Capability **cap, HaskellObj closure,
                                                                  HaskellObj *ret, ArchBody *body)
{
    CatchResult result = archEnter(&incall->stack, body, closure);
    *cap = incall->stack.cap;
    if (CAPSTAN_UNLIKELY(result.raised)) {
        result.value = endRaised(incall, result.value);
    } else {
        incall->status = Success;
        /* Poison went out and nothing has come of it: whatever was computed is not to be trusted. */
        if (CAPSTAN_UNLIKELY(incall->stack.cap->nursery.refused)) result.value = CAPSTAN_POISON;
    }
    if (CAPSTAN_LIKELY(ret != NULL)) *ret = result.value;
}

/* On a stack that is new to the Task; or not at all. */
__attribute__((noinline)) static void createBoundThreadSlow(Capability **cap, HaskellObj closure, HaskellObj *ret,
                                                             ArchBody *body)
{
    InCall *incall = checkHolder(*cap, "evaluation");
    if (incall != NULL) {
        findStackBounds(incall->task, &incall->stack, archStackPointer());
        runBoundThread(incall, cap, closure, ret, body);
    } else if (ret != NULL) {
        *ret = CAPSTAN_POISON;
    }
}

static inline __attribute__((always_inline)) void createBoundThread(Capability **cap, HaskellObj closure, HaskellObj *ret,
                                                                     ArchBody *body)
{
    Task *task = myTask;
    if (CAPSTAN_LIKELY(task != NULL && task->cap == *cap && isBetweenEvaluations(task) &&
                       adoptStack(task, &task->incall->stack, archStackPointer())))
        runBoundThread(task->incall, cap, closure, ret, body);
    else
        createBoundThreadSlow(cap, closure, ret, body);
}

static void runGenBound(Capability **cap, HaskellObj p, HaskellObj *ret)
{
    createBoundThread(cap, p, ret, runGenThread);
}
static void runIOBound(Capability **cap, HaskellObj p, HaskellObj *ret)
{
    createBoundThread(cap, p, ret, runIOThread);
}
static void runStrictIOBound(Capability **cap, HaskellObj p, HaskellObj *ret)
{
    createBoundThread(cap, p, ret, runStrictIOThread);
}

void rts_eval(Capability **cap, HaskellObj p, HaskellObj *ret) { runGenBound(cap, p, ret); }
void rts_eval_(Capability **cap, HaskellObj p, unsigned stack_size, HaskellObj *ret) { rts_eval(cap, p, ret); }
void rts_evalIO(Capability **cap, HaskellObj p, HaskellObj *ret) { runStrictIOBound(cap, p, ret); }
void rts_inCall(Capability **cap, HaskellObj p, HaskellObj *ret) { runStrictIOBound(cap, p, ret); }
void rts_evalLazyIO(Capability **cap, HaskellObj p, HaskellObj *ret) { runIOBound(cap, p, ret); }
void rts_evalLazyIO_(Capability **cap, HaskellObj p, unsigned stack_size, HaskellObj *ret) { rts_evalLazyIO(cap, p, ret); }

void rts_evalStableIO(Capability **cap, HsStablePtr s, HsStablePtr *ret)
{
    HaskellObj value = CAPSTAN_POISON;
    if (ret != NULL) *ret = NULL;
    InCall *incall = checkHolder(*cap, "rts_evalStableIO");
    if (incall == NULL) return;
    setMask(&incall->stack, MASKED_INTERRUPTIBLE);
    runStrictIOBound(cap, (HaskellObj)deRefStablePtr(s), &value);
    if ((*cap)->dead == RTS_OK) { /* else it is not ours any more */
        setMask(&incall->stack, UNMASKED);
        noticePending(&incall->stack);
    }
    if (ret != NULL && rts_getSchedStatus(*cap) == Success && (*ret = getStablePtr((StgPtr)value)) == NULL)
        incall->status = HeapExhausted;
}
void rts_evalStableIOMain(Capability **cap, HsStablePtr s, HsStablePtr *ret) { rts_evalStableIO(cap, s, ret); }

/* runIO, runNonIO: what stubs wrap around the closure they evaluate. */
static HaskellObj runIO_entry(Stack *stack, HaskellObj self, HaskellObj io, HaskellObj world)
{
    return passCall1(stack, io, world);
}
static HaskellObj runNonIO_entry(Stack *stack, HaskellObj self, HaskellObj value, HaskellObj world)
{
    return rts_force(stack, value);
}
static const StgInfoTable runIO_info = { CLOSURE_FUN, INFO_STATIC, 2, 0, 0, 0, (StgFunPtr)runIO_entry, "runIO", NULL };
static const StgInfoTable runNonIO_info = { CLOSURE_FUN, INFO_STATIC, 2, 0, 0, 0, (StgFunPtr)runNonIO_entry, "runNonIO",
                                            NULL };
StgWord base_GHCziTopHandler_runIO_closure[] = { (StgWord)&runIO_info };
StgWord base_GHCziTopHandler_runNonIO_closure[] = { (StgWord)&runNonIO_info };

void rts_pollSlow(Capability **cap)
{
    InCall *incall = checkHolder(*cap, "rts_pollCap");
    if (incall == NULL) return;
    bool over = !serviceRequests(&incall->stack);
    *cap = incall->stack.cap;
    if (!over) {
        noticePending(&incall->stack);
        if (incall->tso.flags != 0 && budgetStatus(incall) != NoStatus) incall->status = budgetStatus(incall);
        return;
    }
    incall->status = Interrupted;
    if ((*cap)->dead == RTS_OK) return;
    dropInCall(incall);
    retireTemporary();
}

/* ---- Statuses ---- */

SchedulerStatus rts_getSchedStatus(Capability *cap)
{
    if (cap->dead != RTS_OK) return cap->deadStatus;
    InCall *incall = checkHolder(cap, "rts_getSchedStatus");
    if (incall == NULL) return Refused;
    return cap->nursery.refused && incall->status <= Success ? HeapExhausted : incall->status;
}

bool rts_isDead(Capability *cap) { return cap->dead != RTS_OK; }
RtsStatus rts_getRefusal(Capability *cap) { return cap->dead; }

HaskellObj rts_getException(Capability *cap)
{
    InCall *incall = cap->dead == RTS_OK ? checkHolder(cap, "rts_getException") : NULL;
    return incall == NULL || incall->status == Success ? CAPSTAN_POISON : incall->exception;
}

size_t rts_showException(Capability *cap, HaskellObj exception, char *buf, size_t size)
{
    return showException(exception, buf, size);
}

const char *statusWord(SchedulerStatus status)
{
    static const char *const words[] = { "nothing was evaluated", "success", "uncaught exception", "interrupted",
                                         "heap exhausted", "refused", "timed out", "cancelled",
                                         "allocation limit exceeded" };
    return status <= LimitExceeded ? words[status] : "?";
}

static void describe(Capability *cap, SchedulerStatus status, char *text, size_t size)
{
    if (cap->dead != RTS_OK) snprintf(text, size, "%s", rts_statusText(cap->dead));
    else if (status == Killed) showException(rts_getException(cap), text, size);
    else snprintf(text, size, "%s", statusWord(status));
}

/* As GHC does it: a message, then the end of the process, or of the thread. */
static void defaultStatusHook(const char *site, Capability *cap, SchedulerStatus status, const char *text)
{
    char line[1024];
    snprintf(line, sizeof line, "%s: %s: %s\n", site, statusWord(status), text);
    osWriteAll(STDERR_FILENO, line, strlen(line));
    if (status != Interrupted) exit(EXIT_FAILURE);
    rts_unlock(cap);
    pthread_exit(NULL);
}

__attribute__((noinline)) static void checkSlow(const char *site, Capability *cap)
{
    SchedulerStatus status = rts_getSchedStatus(cap);
    if (status == Success) return;
    char text[512];
    describe(cap, status, text, sizeof text);
    if (hostConfig.statusHook) hostConfig.statusHook(hostConfig.statusCtx, site, cap, status, text);
    else defaultStatusHook(site, cap, status, text);
}

void rts_checkSchedStatus(char *site, Capability *cap)
{
    Stack *stack = regsOf(cap)->stack;
    if (CAPSTAN_LIKELY(stack != NULL && incallOfStack(stack)->status == Success && !cap->nursery.refused)) return;
    checkSlow(site, cap);
}

/* ---- Threads ---- */

void rts_setInCallCapability(int n, int affinity)
{
    unsigned all = numCapabilities;
    Task *task = all == 0 ? NULL : newTask();
    if (task == NULL) {
        RtsStatus why = all == 0 ? RTS_NOT_STARTED : RTS_NO_MEMORY;
        reportError(why, "rts_setInCallCapability: %s", rts_statusText(why));
        return;
    }
    if (task->flags & TASK_TEMPORARY) {
        retireTemporary(); /* a thread that ends has no later in-calls */
        return;
    }
    if (n < 0) {
        task->flags &= ~(uint32_t)TASK_PREFERS;
        return;
    }
    task->preferred = (unsigned)n;
    task->flags |= TASK_PREFERS;
    task->last = &capabilities[task->preferred % all];
    task->node = task->last->node;
    if (affinity && !topologyBindThread(task->preferred % all))
        logLine(RTS_LOG_WARNING, "the thread could not be bound to the processors of capability %u", task->preferred % all);
}

unsigned getNumCapabilities(void) { return numCapabilities; }

void rts_setStackBounds(void *lo, void *hi)
{
    Task *task = newTask();
    if (task == NULL || (uintptr_t)hi - (uintptr_t)lo < 2 * STACK_HEADROOM || hi < lo) {
        reportError(task == NULL ? RTS_NO_MEMORY : RTS_BAD_ARGUMENT, "rts_setStackBounds: a stack has at least %lu bytes",
                    (unsigned long)(2 * STACK_HEADROOM));
        return;
    }
    task->lo = (uintptr_t)lo;
    task->hi = (uintptr_t)hi;
    retireTemporary();
}

void hs_thread_done(void)
{
    Task *task = myTask;
    if (task == NULL) return;
    if (task->finalizing) reportError(RTS_IN_FINALIZER, "hs_thread_done: %s", rts_statusText(RTS_IN_FINALIZER));
    else if (task->incall != NULL || task->worker) reportError(RTS_INSIDE_INCALL, "hs_thread_done: %s", rts_statusText(RTS_INSIDE_INCALL));
    else freeMyTask();
}

void abandonTask(Task *task)
{
    endAbandoned(task);
    loseFork(task);
}

/* Something that stops the world, for a thread that may be doing anything. */
static void withoutCapability(const char *what, RtsStatus (*act)(void))
{
    RtsStatus refused = mayStopWorld();
    if (refused == RTS_OK) refused = numCapabilities == 0 ? RTS_NOT_STARTED : act();
    if (refused != RTS_OK) reportError(refused, "%s: %s", what, rts_statusText(refused));
    retireTemporary();
}

static RtsStatus performMajor(void) { return performCollection(true, RtsGcRequest); }
static RtsStatus performMinor(void) { return performCollection(false, RtsGcRequest); }

void hs_perform_gc(void) { withoutCapability("hs_perform_gc", performMajor); }
void hs_perform_major_gc(void) { withoutCapability("hs_perform_major_gc", performMajor); }
void rts_performMinorGC(void) { withoutCapability("rts_performMinorGC", performMinor); }
void rts_clearMemory(void) { withoutCapability("rts_clearMemory", clearMemory); }

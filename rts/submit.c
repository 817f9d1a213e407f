#include "submit.h"

#include "arch.h"
#include "base/lock.h"
#include "base/report.h"
#include "budget.h"
#include "exception.h"
#include "os/memory.h"
#include "run.h"
#include "schedule.h"
#include "stable_ptr.h"
#include "throwto.h"

#include <stdio.h>
#include <string.h>

#define MAX_ARGS 8
/* How many capabilities are looked at for a free one. */
#define LOOKS_FOR_FREE 16
/* Results are found by their descriptor in one of so many lists. */
#define BUCKETS 64
/* OS threads that call done for those that expired before they began; and their stack. */
#define MAX_CALLERS 64
#define CALLER_STACK ((size_t)1 << 20)

typedef enum {
    FRESH,    /* not accepted yet */
    QUEUED,   /* waits for a thread */
    STARTED,  /* has a thread */
    READY,    /* its thread is about to call done */
    EXPIRED,  /* ended before it had a thread */
    RESULT,   /* waits for rts_takeResult */
} SubmissionState;

typedef struct Submission_ Submission;
struct Submission_ {
    NativeBody body;                /* [const] what its thread runs */
    SubmissionState state;          /* [lock: submit] */
    Submission *next, *prev;        /* [lock: submit] of the list that its state says */
    Submission *fdNext, *fdPrev;    /* [lock: submit] RESULT: of its descriptor's list */
    bool counted;                   /* [lock: submit] towards the limit */
    Job interrupt;                  /* ends the thread's wait, if it waits */
    bool interrupting;              /* [lock: submit] that job is on its way: it frees the record if it is the last (orphan) */
    bool orphan;                    /* [lock: submit] */
    Budget *budget;                 /* [const] the submission's until its handle is closed */
    StgTSO *thread;                 /* [lock: submit] from soon after STARTED on; the budget's tso is it while the handle is good */
    bool argsTaken;                 /* [owner] the stable pointers of the arguments are freed */
    RtsSubmission what;             /* [const] */
    RtsResult result;               /* [owner] */
};

typedef struct {
    Submission *first, *last;
} SubmissionList;

typedef struct {
    Job job;
    bool posted;                    /* [lock: submit] */
} Drain;

static struct {
    Lock lock;
    bool open;                      /* [lock: submit] */
    _Atomic unsigned count, most;   /* [lock: submit to write] accepted and not delivered */
    SubmissionList queue;           /* [lock: submit] QUEUED */
    SubmissionList started;         /* [lock: submit] STARTED, READY */
    SubmissionList expired;         /* [lock: submit] EXPIRED */
    SubmissionList toCall;          /* [lock: submit] EXPIRED, their results made: for callers */
    SubmissionList results;         /* [lock: submit] RESULT, in the order in which they ended */
    SubmissionList byFd[BUCKETS];   /* [lock: submit] the same, through fdNext */
    unsigned callers, coming;       /* [lock: submit] threads that call done; of these, those that will look at toCall next */
    unsigned turn;                  /* [lock: submit] */
    unsigned forks;                 /* changes in a forked child, which has no callers but the one that may have forked */
    Drain drains[MAX_CAPABILITIES];
} submit = { .lock = LOCK_INIT(RANK_SUBMIT) };

/* ---- Lists ---- */

static void append(SubmissionList *list, Submission *s)
{
    s->next = NULL;
    s->prev = list->last;
    if (list->last != NULL) list->last->next = s;
    else list->first = s;
    list->last = s;
}

static void prepend(SubmissionList *list, Submission *s)
{
    s->prev = NULL;
    s->next = list->first;
    if (list->first != NULL) list->first->prev = s;
    else list->last = s;
    list->first = s;
}

static void unlinkFrom(SubmissionList *list, Submission *s)
{
    if (s->prev != NULL) s->prev->next = s->next;
    else list->first = s->next;
    if (s->next != NULL) s->next->prev = s->prev;
    else list->last = s->prev;
}

static SubmissionList *bucketOf(int fd) { return &submit.byFd[(unsigned)fd % BUCKETS]; }

static void appendResult(Submission *s)
{
    SubmissionList *list = bucketOf(s->what.event_fd);
    s->state = RESULT;
    append(&submit.results, s);
    s->fdNext = NULL;
    s->fdPrev = list->last;
    if (list->last != NULL) list->last->fdNext = s;
    else list->first = s;
    list->last = s;
}

static void unlinkResult(Submission *s)
{
    SubmissionList *list = bucketOf(s->what.event_fd);
    unlinkFrom(&submit.results, s);
    if (s->fdPrev != NULL) s->fdPrev->fdNext = s->fdNext;
    else list->first = s->fdNext;
    if (s->fdNext != NULL) s->fdNext->fdPrev = s->fdPrev;
    else list->last = s->fdPrev;
}

/* Context: the lock.  It is out of all lists, its result is delivered or about to be. */
static void uncount(Submission *s)
{
    if (s->counted) submit.count--;
    s->counted = false;
}

/* Nobody names it any more but the job, if that is on its way. */
static void freeSubmission(Submission *s)
{
    acquireLock(&submit.lock);
    bool last = !s->interrupting;
    s->orphan = true;
    releaseLock(&submit.lock);
    if (last) rtsFree(s);
}

/* ---- The end of a submission ---- */

static void freeArgs(Submission *s)
{
    if (s->argsTaken) return;
    s->argsTaken = true;
    for (unsigned i = 0; i < s->what.n_args; i++)
        if (s->what.args[i].kind == RtsValueStable) dropStablePtr(s->what.args[i].u.sp);
}

/* Nothing comes from outside any more. */
static void closeSubmission(Submission *s)
{
    if (s->budget->deadline != NO_DEADLINE) cancelTimer(&s->budget->timer);
    closeHandle(s->budget);
    putBudget(s->budget);
    freeArgs(s);
}

static void setEnd(Submission *s, SchedulerStatus status, const char *text)
{
    s->result.status = status;
    s->result.value = (RtsValue){ .kind = RtsValueUnit };
    snprintf(s->result.text, sizeof s->result.text, "%s", text);
}

static void setInterrupted(Submission *s) { setEnd(s, Interrupted, "the runtime ended"); }

/* It ends without having run to its end. */
static void setEndFromOutside(Submission *s)
{
    uint32_t why = atomic_load_explicit(&s->budget->why, memory_order_relaxed);
    if (why & PENDING_CANCEL) setEnd(s, Cancelled, "cancelled");
    else if (why & PENDING_TIMEOUT) setEnd(s, TimedOut, "timed out");
    else setInterrupted(s);
}

/* Context: the lock.  The descriptor is written to before the result can be taken: afterwards it may be somebody else's. */
static void publishResult(Submission *s)
{
    if (s->what.event_fd >= 0) osAddToEvent(s->what.event_fd);
    appendResult(s);
}

static void callOwner(Submission *s)
{
    s->what.done(s->what.ctx, &s->result);
    freeSubmission(s);
}

/* ---- Those that expired before they began: their callbacks want a thread without a capability ---- */

static void runCaller(void *unused);

/* Context: the lock.  Whether another caller is to be started, which is counted then. */
static bool wantsCaller(void)
{
    bool wanted = submit.toCall.first != NULL && submit.coming == 0 && submit.callers < MAX_CALLERS;
    submit.coming += wanted;
    submit.callers += wanted;
    return wanted;
}

/* Refused by the system: the next tick tries again. */
static void startCaller(void)
{
    OsThread thread;
    if (osStartThread(&thread, "capstan-done", CALLER_STACK, runCaller, NULL)) {
        osDetachThread(thread);
        return;
    }
    acquireLock(&submit.lock);
    submit.coming--;
    submit.callers--;
    releaseLock(&submit.lock);
    wantTicks();
}

static void runCaller(void *unused)
{
    acquireLock(&submit.lock);
    for (Submission *s; (s = submit.toCall.first) != NULL;) {
        unlinkFrom(&submit.toCall, s);
        uncount(s);
        submit.coming--;
        bool another = wantsCaller(); /* this one may be long */
        unsigned forks = submit.forks;
        releaseLock(&submit.lock);
        if (another) startCaller();
        callOwner(s);
        acquireLock(&submit.lock);
        if (forks != submit.forks) { /* counted in the parent */
            releaseLock(&submit.lock);
            return;
        }
        submit.coming++;
    }
    submit.coming--;
    submit.callers--;
    releaseLock(&submit.lock);
}

static Submission *takeExpired(void)
{
    acquireLock(&submit.lock);
    Submission *s = submit.expired.first;
    if (s != NULL) unlinkFrom(&submit.expired, s);
    releaseLock(&submit.lock);
    return s;
}

/* Context: no locks. */
static void finishExpired(void)
{
    for (Submission *s; (s = takeExpired()) != NULL;) {
        setEndFromOutside(s);
        closeSubmission(s);
        acquireLock(&submit.lock);
        if (s->what.done == NULL) publishResult(s);
        else append(&submit.toCall, s);
        releaseLock(&submit.lock);
    }
    acquireLock(&submit.lock);
    bool another = wantsCaller();
    releaseLock(&submit.lock);
    if (another) startCaller();
}

/* ---- In its thread ---- */

static HaskellObj makeValue(Stack *stack, const RtsValue *v)
{
    switch (v->kind) {
    case RtsValueInt: return rts_int(stack, v->u.i);
    case RtsValueDouble: return rts_mkDouble(stack->cap, v->u.d);
    case RtsValueBool: return rts_mkBool(stack->cap, v->u.b);
    case RtsValuePtr: return rts_mkPtr(stack->cap, v->u.p);
    case RtsValueStable: return readStablePtr(v->u.sp);
    default: return CAPSTAN_UNIT;
    }
}

/* Its arguments as values, and the end of what kept them.  NULL, or what is wrong.  No safepoint. */
static const char *takeArgs(Stack *stack, Submission *s, HaskellObj *function, HaskellObj *args)
{
    const char *wrong = NULL;
    *function = s->what.function != NULL ? s->what.function : readStablePtr(s->what.function_sp);
    if (*function == CAPSTAN_POISON) wrong = "the function";
    for (unsigned i = 0; i < s->what.n_args; i++) {
        args[i] = makeValue(stack, &s->what.args[i]);
        if (args[i] == CAPSTAN_POISON && s->what.args[i].kind == RtsValueStable) wrong = "an argument";
    }
    freeArgs(s);
    return wrong;
}

/* Asynchronous exceptions arrive in here only. */
static HaskellObj evaluate(Stack *stack, void *arg)
{
    Submission *s = arg;
    HaskellObj function, args[MAX_ARGS + 1];
    unsigned n = s->what.n_args;
    setMask(stack, UNMASKED);
    noticePending(stack);
    rts_poll(stack);
    /* The timer may be a little late. */
    if (s->budget->deadline != NO_DEADLINE && osMonotonicNanos() >= s->budget->deadline) rts_raise(stack, &capstan_TimedOut_closure);
    if (s->what.alloc_limit_bytes != 0) limitAllocation(stack->cap, stack->tso, s->what.alloc_limit_bytes);
    const char *wrong = takeArgs(stack, s, &function, args);
    if (wrong != NULL) rts_raiseError(stack, "rts_submit: %s is not a stable pointer in use", wrong);
    for (unsigned i = 0; i < n; i++)
        if (args[i] == CAPSTAN_POISON) rts_raise(stack, &capstan_HeapOverflow_closure);
    args[n] = CAPSTAN_WORLD;
    HaskellObj result = rts_force(stack, rts_callN(stack, function, n + 1, args));
    setMask(stack, MASKED_INTERRUPTIBLE);
    return result;
}

/* The value of a result; false: it wants a stable pointer, and there is no memory for one. */
static bool setValue(RtsValue *to, HaskellObj v)
{
    ClosureKind kind = rts_isImmediate(v) ? CLOSURE_KINDS : (ClosureKind)rts_info(v)->kind;
    if (rts_isSmallInt(v) || kind == CLOSURE_INT64) *to = (RtsValue){ .kind = RtsValueInt, .u.i = rts_getInt(v) };
    else if (v == CAPSTAN_UNIT) *to = (RtsValue){ .kind = RtsValueUnit };
    else if (rts_isImmediateOf(v, IMM_BOOL)) *to = (RtsValue){ .kind = RtsValueBool, .u.b = rts_getBool(v) != 0 };
    else if (kind == CLOSURE_DOUBLE) *to = (RtsValue){ .kind = RtsValueDouble, .u.d = rts_getDouble(v) };
    else if (kind == CLOSURE_FLOAT) *to = (RtsValue){ .kind = RtsValueDouble, .u.d = (double)rts_getFloat(v) };
    else if (kind == CLOSURE_PTR) *to = (RtsValue){ .kind = RtsValuePtr, .u.p = rts_getPtr(v) };
    else *to = (RtsValue){ .kind = RtsValueStable, .u.sp = newStablePtr(v) };
    return to->kind != RtsValueStable || to->u.sp != NULL;
}

/* No safepoint. */
static void setResult(Submission *s, bool ok, HaskellObj value)
{
    s->result.status = Success;
    if (ok && setValue(&s->result.value, value)) return;
    if (ok) value = &capstan_HeapOverflow_closure;
    setEnd(s, statusOfException(value), "");
    showException(value, s->result.text, sizeof s->result.text);
}

typedef struct {
    Submission *s;
    bool made;
} DoneCall;

/* In the safe call. */
static void *callDone(void *arg)
{
    DoneCall *call = arg;
    Submission *s = call->s;
    call->made = true;
    acquireLock(&submit.lock);
    unlinkFrom(&submit.started, s);
    uncount(s);
    releaseLock(&submit.lock);
    callOwner(s);
    return NULL;
}

static HaskellObj makeCall(Stack *stack, void *call)
{
    forgetDebts(&stack->cap->nursery);
    rts_safeCall(stack, callDone, call);
    return CAPSTAN_UNIT;
}

static void deliver(Stack *stack, Submission *s)
{
    stack->tso->closure = CAPSTAN_UNIT; /* from here on it may be somebody else's */
    acquireLock(&submit.lock);
    if (s->what.done == NULL) {
        unlinkFrom(&submit.started, s);
        publishResult(s);
    } else {
        s->state = READY;
    }
    bool ready = s->state == READY; /* else somebody may have taken it by now */
    releaseLock(&submit.lock);
    DoneCall call = { s, !ready };
    HaskellObj ignored;
    /* HeapOverflow, though not this thread's, may come at the safepoint before the call. */
    while (!call.made) rts_try(stack, makeCall, &call, &ignored);
}

static HaskellObj runSubmission(Stack *stack, NativeBody *body)
{
    Submission *s = container_of(body, Submission, body);
    HaskellObj value = CAPSTAN_UNIT;
    bool ok = rts_try(stack, evaluate, s, &value);
    setResult(s, ok, value);
    if (s->result.status == HeapExhausted) {
        stack->cap->nursery.refused = false; /* it has been told */
        collectSoon();
    }
    closeSubmission(s);
    deliver(stack, s);
    return CAPSTAN_UNIT;
}

/* What it called has ended its OS thread. */
static void endKilled(NativeBody *body)
{
    Submission *s = container_of(body, Submission, body);
    setEnd(s, Killed, "the OS thread was ended");
    closeSubmission(s);
    acquireLock(&submit.lock);
    unlinkFrom(&submit.started, s);
    if (s->what.done == NULL) {
        publishResult(s);
    } else {
        s->state = EXPIRED;
        append(&submit.toCall, s);
    }
    bool another = wantsCaller();
    releaseLock(&submit.lock);
    if (another) startCaller();
}

/* ---- From the queue to threads ---- */

/* Context: the lock.  It waits (again), or is over. */
static void enqueue(Submission *s, bool again)
{
    bool over = atomic_load_explicit(&s->budget->why, memory_order_relaxed) != 0;
    s->state = over ? EXPIRED : QUEUED;
    if (over) append(&submit.expired, s);
    else if (again) prepend(&submit.queue, s);
    else append(&submit.queue, s);
}

static Submission *takeQueued(void)
{
    acquireLock(&submit.lock);
    Submission *s = submit.queue.first;
    if (s != NULL) {
        unlinkFrom(&submit.queue, s);
        append(&submit.started, s);
        s->state = STARTED;
    }
    releaseLock(&submit.lock);
    return s;
}

/* No memory for a thread: the next tick tries again. */
static void putBack(Submission *s)
{
    lockBudget(s->budget);
    s->budget->tso = NULL;
    unlockBudget(s->budget);
    acquireLock(&submit.lock);
    s->thread = NULL;
    unlinkFrom(&submit.started, s);
    enqueue(s, true);
    releaseLock(&submit.lock);
    wantTicks();
}

static void putBackUnborn(Capability *cap, NativeBody *body) { putBack(container_of(body, Submission, body)); }

/* false: no memory. */
static bool startThread(Capability *cap, Submission *s)
{
    StgTSO *tso = newThread(cap, nativeClosure(&s->body), BODY_NATIVE, MASKED_INTERRUPTIBLE);
    if (tso == NULL) return false;
    lockBudget(s->budget);
    s->budget->tso = tso;
    unlockBudget(s->budget);
    /* What came before there was a thread; what comes later finds it. */
    acquireLock(&submit.lock);
    s->thread = tso;
    uint32_t why = atomic_load_explicit(&s->budget->why, memory_order_relaxed);
    releaseLock(&submit.lock);
    if (why != 0) atomic_fetch_or_explicit(&tso->pending, why, memory_order_relaxed);
    pushRunQueue(cap, tso);
    return true;
}

static void runDrain(Capability *cap, Job *job)
{
    acquireLock(&submit.lock);
    container_of(job, Drain, job)->posted = false;
    releaseLock(&submit.lock);
    if (cap == NULL) return;
    for (Submission *s; (s = takeQueued()) != NULL;) {
        if (startThread(cap, s)) continue;
        putBack(s);
        break;
    }
    finishExpired();
}

/* Context: the lock, and open. */
static void postDrain(void)
{
    unsigned n = numCapabilities;
    if (n == 0) return;
    unsigned no = submit.turn++ % n;
    for (unsigned i = 0; i < n && i < LOOKS_FOR_FREE; i++) {
        Capability *cap = &capabilities[(no + i) % n];
        if (atomic_load_explicit(&cap->holder, memory_order_relaxed) != HOLDER_FREE) continue;
        no = cap->no;
        break;
    }
    Drain *drain = &submit.drains[no];
    if (drain->posted) return;
    drain->job.run = runDrain;
    drain->posted = true;
    if (!postJob(no, &drain->job)) drain->posted = false;
}

bool tickSubmit(void)
{
    acquireLock(&submit.lock);
    if (submit.open && submit.queue.first != NULL) postDrain();
    bool over = submit.expired.first != NULL || submit.toCall.first != NULL;
    bool left = over || submit.queue.first != NULL;
    releaseLock(&submit.lock);
    if (over) finishExpired();
    return left;
}

/* ---- Ending one from outside ---- */

static void runInterrupt(Capability *cap, Job *job)
{
    Submission *s = container_of(job, Submission, interrupt);
    acquireLock(&submit.lock);
    s->interrupting = false;
    bool orphan = s->orphan;
    RtsInCallHandle handle = s->result.handle;
    Budget *b = s->budget;
    releaseLock(&submit.lock);
    if (orphan) rtsFree(s);
    if (orphan || cap == NULL) return;
    lockBudget(b);
    /* While the handle is good the submission is there; while tso is set, the thread. */
    if (b->open && handleOf(b) == handle && b->tso != NULL) pendException(cap, b->tso, 0);
    unlockBudget(b);
}

/* why, which was added to the budget's: it expires, or its thread is told; if that waits, a job has to end the wait.
 * Context: the budget's lock, or its timer's function: so the thread, if it has one, is there while STARTED is seen under the lock. */
static void endSubmission(Submission *s, uint32_t why)
{
    acquireLock(&submit.lock);
    if (s->state == QUEUED) {
        unlinkFrom(&submit.queue, s);
        append(&submit.expired, s);
        s->state = EXPIRED;
    } else if (s->state == STARTED && s->thread != NULL) {
        pendFromOutside(s->thread, why);
        Capability *there = __atomic_load_n(&s->thread->cap, __ATOMIC_RELAXED);
        if (submit.open && !s->interrupting) s->interrupting = postJob(there->no, &s->interrupt);
    }
    releaseLock(&submit.lock);
}

/* Context: the budget's lock. */
static void cancelSubmission(Budget *b) { endSubmission(b->owner, PENDING_CANCEL); }

/* On the timekeeper. */
static void submissionTimedOut(Timer *timer)
{
    Budget *b = container_of(timer, Budget, timer);
    atomic_fetch_or_explicit(&b->why, PENDING_TIMEOUT, memory_order_relaxed);
    endSubmission(b->owner, PENDING_TIMEOUT);
}

/* ---- Submitting ---- */

static bool isSensible(const RtsSubmission *what)
{
    bool function = what->function != NULL ? !rts_isImmediate(what->function) : what->function_sp != NULL;
    if (!function || what->n_args > MAX_ARGS) return false;
    for (unsigned i = 0; i < what->n_args; i++)
        if ((unsigned)what->args[i].kind > RtsValueStable) return false;
    return true;
}

/* A record, of a submission of whatever version, its handle good. */
static RtsStatus newSubmission(const RtsSubmission *given, Submission **made)
{
    if (given == NULL || given->size < sizeof *given || given->size > 16 * sizeof *given || !isSensible(given)) return RTS_BAD_ARGUMENT;
    Submission *s = rtsCalloc(1, sizeof *s);
    if (s == NULL) return RTS_NO_MEMORY;
    s->body = (NativeBody){ runSubmission, putBackUnborn, endKilled };
    s->interrupt.run = runInterrupt;
    s->what = *given;
    s->result.ctx = given->ctx;
    if ((s->budget = takeBudget()) == NULL) {
        rtsFree(s);
        return RTS_NO_MEMORY;
    }
    s->result.handle = openHandle(s->budget, NULL, s, cancelSubmission);
    s->budget->deadline = deadlineAfter(given->deadline_us);
    s->budget->timer.fire = submissionTimedOut;
    *made = s;
    return RTS_OK;
}

/* Not accepted: the arguments stay the caller's. */
static void dropSubmission(Submission *s)
{
    s->argsTaken = true;
    closeSubmission(s);
    rtsFree(s);
}

/* timed: there is a timekeeper, and its timer runs, if it has one. */
static RtsStatus accept(Submission *s, bool timed)
{
    RtsStatus status = timed ? RTS_OK : RTS_NO_MEMORY;
    acquireLock(&submit.lock);
    if (!submit.open) status = runtimeIsEnding ? RTS_CLOSED : RTS_NOT_STARTED;
    else if (submit.count >= submit.most) status = RTS_BUSY;
    if (status == RTS_OK) {
        s->counted = true;
        submit.count++;
        enqueue(s, false);
        postDrain();
    }
    releaseLock(&submit.lock);
    return status;
}

RtsStatus rts_submit(const RtsSubmission *submission, RtsInCallHandle *handle)
{
    Submission *s;
    if (handle != NULL) __atomic_store_n(handle, 0, __ATOMIC_RELAXED);
    if (numCapabilities == 0) return runtimeIsEnding ? RTS_CLOSED : RTS_NOT_STARTED;
    /* Looked at again under the lock: whoever tries until there is room shall be told at once. */
    if (submit.count >= submit.most) return RTS_BUSY;
    RtsStatus status = newSubmission(submission, &s);
    if (status != RTS_OK) return status;
    /* Release: others may be looking for it to cancel the submission; and it may end before this returns. */
    if (handle != NULL) __atomic_store_n(handle, s->result.handle, __ATOMIC_RELEASE);
    uint64_t deadline = s->budget->deadline;
    /* Where no worker can be had, it waits for a tick: nobody may ever call in. */
    status = accept(s, (ticking || canTick()) && (deadline == NO_DEADLINE || startTimer(&s->budget->timer, deadline)));
    if (status == RTS_OK) {
        wantTicks();
        return RTS_OK;
    }
    if (handle != NULL) __atomic_store_n(handle, 0, __ATOMIC_RELAXED);
    dropSubmission(s);
    return status;
}

/* Context: the lock. */
static Submission *findResult(int fd)
{
    if (fd < 0) return submit.results.first;
    Submission *s = bucketOf(fd)->first;
    while (s != NULL && s->what.event_fd != fd) s = s->fdNext;
    return s;
}

bool rts_takeResult(int event_fd, RtsResult *result)
{
    acquireLock(&submit.lock);
    Submission *s = findResult(event_fd);
    if (s != NULL) {
        unlinkResult(s);
        uncount(s);
    }
    releaseLock(&submit.lock);
    if (s == NULL) return false;
    *result = s->result;
    freeSubmission(s);
    return true;
}

/* ---- Start, exit ---- */

void initSubmit(unsigned most)
{
    acquireLock(&submit.lock);
    submit.open = true;
    submit.most = most;
    submit.count = 0;
    releaseLock(&submit.lock);
}

void closeSubmit(void)
{
    acquireLock(&submit.lock);
    submit.open = false;
    releaseLock(&submit.lock);
}

/* Context: the lock.  One whose thread will not deliver it; those in C that have their result are about to. */
static Submission *findAbandoned(void)
{
    Submission *s = submit.started.first;
    while (s != NULL && s->state == READY && whyOf(s->thread) == ThreadBlockedOnCCall) s = s->next;
    return s;
}

/* Context: the lock.  The next one without its result; ready: it has been made.  NULL: none. */
static Submission *takeUnfinished(bool *ready)
{
    SubmissionList *list = &submit.started;
    Submission *s = findAbandoned();
    *ready = s != NULL && s->state == READY;
    if (s == NULL) s = (list = &submit.toCall)->first, *ready = s != NULL;
    if (s == NULL) s = (list = &submit.expired)->first;
    if (s == NULL) s = (list = &submit.queue)->first;
    if (s != NULL) unlinkFrom(list, s);
    return s;
}

/* Context: the lock.  What stable pointers keep goes with the heap; and results do not count any more. */
static void keepResults(void)
{
    for (Submission *s = submit.results.first; s != NULL; s = s->next) {
        s->counted = false;
        if (s->result.value.kind == RtsValueStable) setInterrupted(s);
    }
    for (Submission *s = submit.started.first; s != NULL; s = s->next) s->counted = false;
}

void finishSubmit(void)
{
    for (;;) {
        bool ready;
        acquireLock(&submit.lock);
        Submission *s = takeUnfinished(&ready);
        if (s == NULL) keepResults();
        releaseLock(&submit.lock);
        if (s == NULL) return;
        if (!ready) {
            setEndFromOutside(s);
            closeSubmission(s);
        } else if (s->result.value.kind == RtsValueStable) {
            setInterrupted(s);
        }
        if (s->what.done != NULL) {
            callOwner(s);
        } else {
            acquireLock(&submit.lock);
            publishResult(s);
            releaseLock(&submit.lock);
        }
    }
}

void forgetSubmit(void)
{
    const SubmissionList none = { NULL, NULL };
    renewLock(&submit.lock);
    submit.open = false;
    submit.count = 0;
    submit.queue = submit.started = submit.expired = submit.toCall = submit.results = none;
    memset(submit.byFd, 0, sizeof submit.byFd);
    submit.callers = submit.coming = 0;
    submit.forks++;
    for (unsigned i = 0; i < MAX_CAPABILITIES; i++)
        if (submit.drains[i].posted) submit.drains[i].posted = false;
}

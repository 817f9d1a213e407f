#include "interrupt.h"

#include "exception.h"
#include "os/memory.h"
#include "os/os.h"
#include "rts/Threads.h"
#include "run.h"
#include "schedule.h"

#include <errno.h>
#include <string.h>

/* A call in progress: on the C stack of its OS thread. */
typedef struct Breakable_ {
    struct Breakable_ *outer;  /* the call from inside of which C called in again */
    StgTSO *tso;
    int signal;
    bool wasBlocked;
} Breakable;

enum {
    RESEND_IDLE,     /* nothing is under way */
    RESEND_TIMED,    /* the timer runs, or is being started */
    RESEND_POSTED,   /* it fired, and the job that starts it anew is on its way */
};

/* One OS thread; made by its first interruptible call, kept with its Task's record. */
struct Interrupt_ {
    _Atomic uint32_t lock;
    Breakable *call;           /* [lock] the innermost */
    bool wanted;               /* [lock] it is to be broken off */
    bool starting;             /* [lock] somebody is about to start the timer */
    uint8_t resend;            /* [lock] RESEND_* */
    OsThread thread;           /* [owner, lock to write] */
    Timer timer;
    Job job;
};

static void lockInterrupt(Interrupt *in)
{
    if (atomic_exchange_explicit(&in->lock, 1, memory_order_acquire) != 0) lockWordSlow(&in->lock);
}
static void unlockInterrupt(Interrupt *in) { atomic_store_explicit(&in->lock, 0, memory_order_release); }

/* ---- Sending ---- */

/* Context: the lock.  Only while the call runs, so the thread is there. */
static void sendSignal(Interrupt *in) { osSignalThread(in->thread, in->call->signal); }

/* Context: starting is set, by the caller. */
static void startResending(Interrupt *in)
{
    bool started = startTimer(&in->timer, osMonotonicNanos() + INTERRUPT_NANOS);
    lockInterrupt(in);
    in->starting = false;
    if (!started) in->resend = RESEND_IDLE; /* no memory, or no thread: one signal has to do */
    unlockInterrupt(in);
}

static void postResend(Interrupt *in)
{
    if (postJob(0, &in->job)) return;
    lockInterrupt(in);
    in->resend = RESEND_IDLE;
    unlockInterrupt(in);
}

/* The job.  cap: NULL: the runtime ended. */
static void resendLater(Capability *cap, Job *job)
{
    Interrupt *in = (Interrupt *)(void *)((char *)job - offsetof(Interrupt, job));
    lockInterrupt(in);
    bool goesOn = cap != NULL && in->wanted;
    in->resend = goesOn ? RESEND_TIMED : RESEND_IDLE;
    in->starting = goesOn;
    unlockInterrupt(in);
    if (goesOn) startResending(in);
}

/* On the timekeeper. */
static void resend(Timer *timer)
{
    Interrupt *in = (Interrupt *)(void *)((char *)timer - offsetof(Interrupt, timer));
    lockInterrupt(in);
    bool goesOn = in->wanted;
    if (goesOn) sendSignal(in);
    in->resend = goesOn ? RESEND_POSTED : RESEND_IDLE;
    unlockInterrupt(in);
    if (goesOn) postResend(in);
}

void interruptCall(Interrupt *in, StgTSO *tso, bool outside)
{
    bool start = false, post = false;
    lockInterrupt(in);
    /* It may be another call's by now. */
    if (in->call != NULL && in->call->tso == tso) {
        sendSignal(in);
        in->wanted = true;
        if (in->resend == RESEND_IDLE) {
            post = outside;
            start = in->starting = !outside;
            in->resend = outside ? RESEND_POSTED : RESEND_TIMED;
        }
    }
    unlockInterrupt(in);
    if (start) startResending(in);
    if (post) postResend(in);
}

/* ---- The call ---- */

static Interrupt *myInterrupt(void)
{
    Task *task = getMyTask();
    Interrupt *in = task->interrupt;
    if (in == NULL && (in = rtsCalloc(1, sizeof *in)) != NULL) {
        in->timer.fire = resend;
        in->job.run = resendLater;
        task->interrupt = in;
    }
    if (in != NULL) in->thread = osCurrentThread();
    return in;
}

/* Something is pending that may end the call, though it was there before. */
static void lookAtPending(Interrupt *in, StgTSO *tso)
{
    bool deaf = tso->stack->mask == MASKED_UNINTERRUPTIBLE;
    if (!deaf && atomic_load_explicit(&tso->pending, memory_order_relaxed) != 0) interruptCall(in, tso, false);
}

static void enterCall(Interrupt *in, Breakable *b)
{
    lockInterrupt(in);
    b->outer = in->call;
    in->call = b;
    in->wanted = false; /* the outer one's turn comes again */
    unlockInterrupt(in);
    b->wasBlocked = osAllowSignal(b->signal);
    /* Pairs with breakCall, after whose caller's membarrier one of the two sees the other. */
    atomic_store_explicit(&b->tso->breakable, in, memory_order_seq_cst);
    if (!osMembarrierWorks()) atomic_thread_fence(memory_order_seq_cst);
    lookAtPending(in, b->tso);
}

/* The timer does not run any more, nor does anybody start it for this call. */
static void stopResending(Interrupt *in)
{
    lockInterrupt(in);
    while (in->starting) {
        unlockInterrupt(in);
        osYieldThread();
        lockInterrupt(in);
    }
    bool timed = in->resend == RESEND_TIMED;
    unlockInterrupt(in);
    if (!timed || !cancelTimer(&in->timer)) return; /* or it has fired, and said what comes of it */
    lockInterrupt(in);
    in->resend = RESEND_IDLE;
    unlockInterrupt(in);
}

static void leaveCall(Interrupt *in, Breakable *b)
{
    atomic_store_explicit(&b->tso->breakable, NULL, memory_order_relaxed);
    lockInterrupt(in);
    bool wanted = in->wanted;
    in->call = b->outer;
    in->wanted = false;
    unlockInterrupt(in);
    if (wanted) {
        stopResending(in);
        osTakeSignals();
    }
    if (b->wasBlocked) osForbidSignal(b->signal);
    if (b->outer != NULL) lookAtPending(in, b->outer->tso);
}

void leaveInterruptible(StgTSO *tso)
{
    Interrupt *in = atomic_load_explicit(&tso->breakable, memory_order_relaxed);
    if (in != NULL && in->call != NULL && in->call->tso == tso) leaveCall(in, in->call);
}

void forgetInterrupts(Interrupt *in)
{
    if (in == NULL) return;
    in->lock = 0;
    in->wanted = in->starting = false;
    in->resend = RESEND_IDLE;
    memset(&in->timer, 0, sizeof in->timer);
    in->timer.fire = resend;
}

typedef struct {
    void *(*fn)(void *arg);
    void *arg;
    StgTSO *tso;
    int signal;
    bool refused;  /* there was no memory; fn was not called */
} Call;

static void *callBreakably(void *arg)
{
    Call *c = arg;
    Breakable b = { .tso = c->tso, .signal = c->signal };
    Interrupt *in = myInterrupt();
    if (in == NULL) {
        c->refused = true;
        return NULL;
    }
    enterCall(in, &b);
    void *result = c->fn(c->arg);
    int e = errno;
    leaveCall(in, &b);
    errno = e;
    return result;
}

/* Once in each runtime: between two of them the host may have changed its mind. */
static void prepareOnce(int signal)
{
    static _Atomic uint64_t preparedIn;
    uint64_t epoch = currentEpoch;
    /* Relaxed: who comes at the same time does the same. */
    if (atomic_load_explicit(&preparedIn, memory_order_relaxed) == epoch) return;
    osPrepareInterrupt(signal);
    atomic_store_explicit(&preparedIn, epoch, memory_order_relaxed);
}

void *rts_interruptibleCall(Stack *stack, void *(*fn)(void *arg), void *arg)
{
    int signal = hostConfig.interrupt_signal;
    if (signal == 0) return rts_safeCall(stack, fn, arg);
    prepareOnce(signal);
    Call c = { .fn = fn, .arg = arg, .tso = stack->tso, .signal = signal };
    void *result = rts_safeCall(stack, callBreakably, &c);
    if (c.refused) rts_raise(stack, &capstan_HeapOverflow_closure);
    return result;
}

/* task.h: what the runtime knows about an OS thread, and about the in-calls it is in.
 *
 * A Task is found through a thread-local.  It is made by the thread's first in-call and freed by a key destructor, or early by
 * hs_thread_done.  Its InCalls form a stack: C calls managed code, which calls C, which calls managed code...; the innermost
 * is on top.  Those not in use are kept in a spare list, so that the steady state allocates nothing.
 *
 * Records are recycled, never freed: who wakes a waiter, asks a holder to poll, or names it in a report may be late, and then finds
 * a record that is spare, or another thread's; it does no harm there.
 *
 * Ownership: a Task belongs to its thread; so do its InCalls.  The collector reads both while the world is stopped (no owner changes them
 * then: it would need a capability) under the tasks lock.  The waiter fields belong to the caps lock. */
#ifndef TASK_H
#define TASK_H

#include "base/lock.h"
#include "rts/Config.h"
#include "rts/Closures.h"
#include "thread.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct Task_ Task;
typedef struct InCall_ InCall;

/* One call from C into managed code that is in progress.
 * suspended in-calls are inside a safe call: their thread holds no capability for them. */
struct InCall_ {
    InCall *prev;            /* [owner] next one out; in the spare list: next spare */
    Task *task;              /* [const until the record is another thread's, atomic] taskOf */
    SchedulerStatus status;  /* [owner] of the last evaluation */
    bool suspended;          /* [owner, atomic] in a safe call */
    bool fresh;              /* [const] part of its Task */
    uint64_t epoch;          /* [owner] of the runtime, when it was suspended */
    HaskellObj exception;    /* [owner] of the last evaluation; a root */
    StgTSO tso;              /* the bound thread */
    InCall *nextNamed, *prevNamed; /* [lock: threads] those whose thread has a ThreadId */
    struct Budget_ *budget;  /* [owner] its deadline and handle: made when first needed, then kept; in use with TSO_BUDGET */
    Stack stack;             /* the adopted stack that it runs on */
};

/* Of an in-call that may have ended meanwhile: then it may be the one that has its record now. */
static inline Task *taskOf(const InCall *incall) { return __atomic_load_n(&incall->task, __ATOMIC_RELAXED); }

/* How a parked waiter was woken.  Written under the caps lock. */
enum {
    WAIT_ASLEEP,  /* nobody has */
    WAIT_WOKEN,   /* it has the one wake in flight and looks for a free capability itself */
    WAIT_GIVEN,   /* task->given is held in its name; it has left the queue */
    WAIT_CLOSED,  /* the runtime ends; it has left the queue */
    WAIT_GAVE_UP, /* its time is up, or rts_cancel ended the wait; it has left the queue */
};

enum {
    TASK_TEMPORARY = 1,   /* made after the thread's key destructor ran: freed when its last in-call ends */
    TASK_PREFERS = 2,     /* preferred is set */
};

/* Why an unbound thread switched to the OS thread's own stack. */
typedef enum { HOME_NOTHING, HOME_YIELD, HOME_TO_WORKER, HOME_LEFT } HomeOrder;

/* Task.sleeping. */
enum { SLEEPS_NOT, SLEEPS, SLEEPS_WILLING /* and would host */ };

struct Task_ {
    InCall *incall;          /* [owner] top of the stack of in-calls */
    InCall *spare;           /* [owner] */
    Capability *cap;         /* [owner] the capability that the thread holds, or NULL */
    Capability *last;        /* [owner] where to look first; never NULL */
    uint32_t flags;          /* [owner] */
    bool secondCall;         /* [owner] has begun an in-call: the next may ask for the stack's bounds */
    bool finalizing;         /* [owner] inside a release function: must not call in */
    unsigned node;           /* [owner] NUMA node, when the Task was made */
    unsigned preferred;      /* [owner] capability, with TASK_PREFERS */
    uintptr_t lo, hi;        /* [owner] bounds of the stack that in-calls use, as far as known */
    uintptr_t locals;        /* [const] where its thread-locals are: behind the end of its stack, in the same mapping, but for the main thread */
    uint64_t id;             /* [const] the operating system's number of the thread */
    _Atomic(struct Adjustor_ *) through; /* [owner to write] the adjustor that it is calling through: adjustor_pool.h */
    bool worker;             /* [const] the runtime's own; runs unbound threads */
    bool noHosting;          /* [owner] its blocked in-calls run nobody else */
    HomeOrder order;         /* [owner] */
    StgTSO *calling;         /* [owner] worker: the unbound thread whose safe call it is in */
    uint64_t callEpoch;      /* [owner] of that call */
    struct OsFork_ *fork;    /* [owner] it was made by rts_forkOS */
    Stack *left;             /* [owner] the stack of a thread that outlived its runtime, or that the OS thread left for its own end */
    Stack gone;              /* [owner] what a switch off a stack for good writes to */
    Stack home;              /* [owner] where its own frames sleep while it runs an unbound thread; sp only */

    _Atomic uint32_t sent;   /* [lock: workers to clear] futex word of an idle worker: 1: it has the flight, or is to end */

    _Atomic uint32_t wakeup; /* [lock: caps to write] futex word, WAIT_* */
    Task *qnext, *qprev;     /* [lock: caps] queue of waiters */
    Capability *given;       /* [lock: caps until WAIT_GIVEN is seen] */
    uint64_t since;          /* [owner] when it began to wait, nanoseconds; 0: it does not */
    uint64_t until;          /* [owner] when it gives up waiting for a capability; 0: never */
    bool queued;             /* [lock: caps] in a queue of waiters */
    bool unwilling;          /* [lock: caps] cancelWait was called: it does not wait any more */

    Task *next, *prev;       /* [lock: tasks] all tasks */
    InCall first;            /* the InCall that every Task has */
    /* A late ring may come when the record is another thread's already: these are not cleared with the rest. */
    _Atomic uint32_t bell;   /* futex word of who waits for its own thread to be runnable, or for work: rung by adding 1 */
    _Atomic uint32_t sleeping; /* [owner] SLEEPS_*: somebody has to wake it after ringing */
    _Atomic(Capability *) hosting; /* [owner] where its thread is blocked and it runs others */
    struct Interrupt_ *interrupt; /* [owner] made when first needed, kept with the record: interrupt.h */
    struct Adjustor_ *adjustors;  /* [owner] some spare ones, kept with the record: adjustor_pool.h */
    uint32_t adjustorCount;
} __attribute__((aligned(64)));

/* Counts the starts of the runtime.  Changes only while nobody holds a capability. */
extern _Atomic uint64_t currentEpoch;

/* This thread's Task, or NULL.  Initial-exec: one load, and small enough for a library that is loaded with dlopen.
 * Only the in-call's doors read it directly; they never go on on another thread.  All else calls getMyTask. */
extern _Thread_local Task *myTask __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* Not inlined: compilers keep addresses of thread-locals across calls that may be safepoints. */
Task *getMyTask(void);
/* This thread's Task, made if there is none.  NULL: no memory. */
Task *newTask(void);
/* The same for a new thread of the runtime's own that runs unbound threads. */
Task *newWorkerTask(void);
/* Free it.  It has no in-calls. */
void freeMyTask(void);
/* Free it if it is a temporary one that is in no in-call: whoever made or used it calls this when done. */
void retireTemporary(void);

/* A spare InCall, or a new one.  NULL: no memory. */
InCall *newInCallSlow(Task *task);
static inline InCall *newInCall(Task *task)
{
    InCall *incall = task->spare;
    if (__builtin_expect(incall == NULL, 0)) return newInCallSlow(task);
    task->spare = incall->prev;
    return incall;
}
/* Put one back in which nothing was evaluated: it is as it was.  Nothing is written that a collection reads: the thread may be in the list of those that
 * became dirty. */
static inline void returnInCall(Task *task, InCall *incall)
{
    incall->prev = task->spare;
    task->spare = incall;
}
/* Put one back that is on no stack.  Spare ones are not scanned: nothing may be left in it. */
static inline void endInCall(Task *task, InCall *incall)
{
    if (__builtin_expect(incall->tso.flags != 0, 0)) forgetBound(&incall->tso);
    forgetBoundWaits(&incall->tso);
    incall->stack.roots = NULL;
    incall->stack.trap = NULL;
    __atomic_store_n(&incall->stack.mask, 0, __ATOMIC_RELAXED); /* somebody who throws late may look at it */
    incall->exception = CAPSTAN_POISON;
    incall->tso.closure = CAPSTAN_UNIT;
    clearWaitRoots(&incall->tso);
    incall->suspended = false;
    returnInCall(task, incall);
}

static inline InCall *incallOfStack(Stack *stack) { return (InCall *)(void *)((char *)stack - offsetof(InCall, stack)); }

/* Push and pop an in-call.  Context: the owner holds a capability, so that no collection looks. */
static inline void pushInCall(Task *task, InCall *incall)
{
    incall->prev = task->incall;
    task->incall = incall;
}
/* Take an in-call off its Task's stack, from wherever it is in it, without a capability. */
void unlinkInCall(Task *task, InCall *incall);

/* abandon is called when a thread ends: what it was in the midst of is killed. */
void initTasks(Capability *noCapability, void (*abandon)(Task *task));

/* In a forked child: there are no tasks but that of this thread, if it has one. */
void forgetTasks(void);

/* A Task that sleeps and would host; NULL: none, or the list is just being used.  Any thread, whatever locks it holds. */
Task *findWillingTask(void);

/* Visit all tasks under the tasks lock. */
void eachTask(void (*f)(Task *task, void *ctx), void *ctx);
/* Those of workers not counted. */
unsigned countTasks(void);
/* For the dump: without the lock, as far as it goes. */
Task *firstTaskUnlocked(void);
extern Lock tasksLock;

#endif

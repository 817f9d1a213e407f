/* run.h: threads that take turns on a capability, and threads that wait.
 *
 * The run queue of a capability belongs to its holder: no lock, no atomic read-modify-write.  An unbound thread that blocks or yields switches straight to
 * the next one of the queue.  With none, or when something is asked of the capability, it switches home: to the OS thread's own stack, on which
 * a worker's main loop, or a host, sleeps in runThreads.
 *
 * Hosts.  A bound thread that blocks keeps its OS thread and its capability, and runs unbound threads until it is woken; with none to run it gives the capability up
 * and sleeps on its Task's bell.  Threads marked TSO_NO_HOST are left to workers.
 *
 * Who wakes a thread puts it into the queue of the capability that it holds: threads that talk to each other gather on one capability.  Who holds none
 * posts it into the inbox of the one that it ran on last.  A capability that is released with threads in its queue wakes a worker; ticks find those whose
 * queue does not move, and ask its holder to take turns (SLICE) or to share (SHARE). */
#ifndef RUN_H
#define RUN_H

#include "capability.h"
#include "thread.h"

static inline Task *holderOf(Capability *cap)
{
    return (Task *)atomic_load_explicit(&cap->holder, memory_order_relaxed);
}

/* Unbound threads that run on it are hosted: it has a bound thread of its own; a worker has one while C that it called is calling in. */
static inline bool isHost(const Task *task) { return !task->worker || task->incall != NULL; }

/* Append to the queue of cap, which the caller holds. */
void pushRunQueue(Capability *cap, StgTSO *tso);
/* And at its front. */
void pushRunQueueFront(Capability *cap, StgTSO *tso);

/* Its wait has been ended by the caller, who holds cap: let it run. */
void wakeThread(Capability *cap, StgTSO *tso);
/* The same from outside, without a capability. */
void postThread(StgTSO *tso);
/* Have a job done by whoever holds capability n (or any) next; it must not be freed before.  false: there is no runtime. */
bool postJob(unsigned n, Job *job);
/* Let a bound thread that waits look at what is pending. */
void ringTask(Task *task);

/* Wait: beginWait was called and whoever may end it can find it.  Comes back when the wait is over, or to be interrupted: then false, and
 * the wait is to be ended by the caller (interruptWait).  Raises at the end of the runtime. */
void threadBlock(Stack *stack);
/* Try to end the wait of a thread as INTERRUPTED.  false: it was over.  Context: the caller holds a capability; the thread must be made runnable unless it is
 * the caller's own. */
bool interruptWait(StgTSO *tso);

/* Put value into the MVar if it is empty.  Context: the caller holds cap; no safepoint. */
bool tryPutMVar(Capability *cap, StgMVar *mvar, HaskellObj value);

/* A thread that may not be moved has come to run on another capability than its own: let that one run it. */
void returnToOwnCapability(Stack *stack);

/* The next thread of the queue is one that hosts leave to workers. */
bool isNextForWorkers(Capability *cap);

/* The thread is about to leave cap to others. */
void carryDebts(Capability *cap, StgTSO *tso);

/* Let the others of the queue run first. */
void yieldThread(Stack *stack);

/* What came in from outside: into the queue with it. */
void drainInbox(Capability *cap);
/* Give threads to idle capabilities. */
void shareWork(Capability *cap);

/* Run unbound threads of task->cap on this OS thread.  host: the bound thread that waits here, or NULL on a worker. */
typedef enum {
    RUN_OUT,       /* nothing (that may run here) is left */
    RUN_OWN_TURN,  /* host: its own turn has come */
    RUN_MAKE_WAY,  /* the capability is wanted: release it */
    RUN_ENDING,    /* the runtime ends */
    RUN_LEFT,      /* a thread came back from a safe call into an ended runtime: there is no capability */
} RunResult;
RunResult runThreads(Task *task, StgTSO *host);

/* Leave the unbound thread that runs on stack to the OS thread's own stack.  order: why. */
void switchHome(Stack *stack, HomeOrder order);

/* Let the unbound threads of the queue run on the OS thread of the bound thread on stack: until its wait is over, or is to be interrupted; or, with turns, after so many switches
 * at most.  host.c.  Raises at the end of the runtime. */
void hostOthers(Stack *stack, unsigned turns);
/* Its OS thread does not host on cap any more. */
void endHosting(Task *task, Capability *cap);

/* Back into the pool with a stack, by who holds no capability. */
void putStackAway(Stack *stack);

/* Exit: nobody holds a capability, no worker is left but in safe calls, no timer runs.  What is posted is dropped (jobs run without a capability), threads are
 * forgotten, but for those whose safe calls are still in C. */
void dropThreads(void);

/* In a forked child: nobody puts stacks away. */
void forgetRun(void);

/* About a period: look at the queues.  Returns whether anything is runnable. */
bool tickQueues(void);
void initRun(uint64_t tick_ns, uint64_t slice_ns);

/* What an unbound thread runs: body.c.  Returns when it is over. */
extern void (*runBody)(Stack *stack, StgTSO *tso);
/* An exception ends a thread that has not begun. */
extern void (*endUnborn)(Capability *cap, StgTSO *tso, HaskellObj exception);
/* Collect: schedule.c.  Context: the task holds a capability, no thread runs on it.  false: somebody else is stopping the world. */
extern bool (*collectAtHome)(Task *task);
/* The world came to rest: nothing runs here any more. */
extern void (*noteIdle)(void);

extern _Atomic uint64_t threadsMoved;

#endif

/* schedule.h: what happens at safepoints, and around safe calls. */
#ifndef SCHEDULE_H
#define SCHEDULE_H

#include "capability.h"
#include "stack.h"
#include "stop.h"

/* Do what is asked of this stack's capability: stop, collect, hand over.  May come back with another capability.
 * false: the runtime ends, or ended meanwhile; then stack->cap is &deadInterrupted if the capability is gone. */
bool serviceRequests(Stack *stack);

/* The same in managed code: raises what is due.  Nothing of the heap may be held outside the roots. */
void safepoint(Stack *stack);

/* Give the capability up, sleep for so many nanoseconds, and wait for one behind those who wait then.  false: the runtime
 * ended. */
bool yieldFor(Stack *stack, uint64_t ns);
static inline bool yieldCapability(Stack *stack) { return yieldFor(stack, 0); }

/* The first half of a safe call: give the capability up, the thread stays where it is. */
void suspendThread(Stack *stack);
/* The second: get one again, raise if the runtime ended meanwhile. */
void resumeThread(Stack *stack);
/* The same without the safepoint, and without looking at the order of in-calls. */
void regainThread(Stack *stack);

/* A capability for a suspended in-call; NULL: its runtime has ended. */
Capability *takeForSuspended(InCall *incall);
/* The same for the unbound thread whose safe call the worker is in, which is over. */
Capability *takeAfterCall(Task *task);

/* Memory ran out in what has just ended, and is garbage now.  What is built between rts_lock and the first evaluation finds no safepoint: so all is collected
 * before that, when a capability is taken for the next in-call, or at the next safepoint.  Context: the caller holds a capability. */
void collectSoon(void);

/* Collect for who holds no capability.  RTS_NOT_STARTED; RTS_NO_MEMORY: nothing was collected. */
RtsStatus performCollection(bool major, RtsGcCause cause);
/* Overwrite what nothing lives in.  Context and answer: the same. */
RtsStatus clearMemory(void);
/* RTS_OK: the calling thread may stop the world from outside. */
RtsStatus mayStopWorld(void);

/* A collection made finalizers due: let them run.  cap: the caller's, or NULL.  Set by finalizer.c. */
extern void (*startFinalizers)(Capability *cap);
/* A full collection is over: modules may go.  here: the caller holds no capability and has time.  Set by unload.c. */
extern void (*tryUnloading)(bool here);

/* Wait until release functions and hooks that follow such collections have run.  Context: exit. */
void awaitReleases(void);
/* Whether any are being run. */
bool isReleaseRunning(void);

/* Startup.  idle_ns: how long hardly anything must happen before an idle collection. */
void initSchedule(uint64_t idle_ns);

/* In a forked child: nothing of this is under way. */
void forgetSchedule(void);

#endif

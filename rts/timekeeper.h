/* timekeeper.h: what happens by itself: time that passes, descriptors that become ready.
 *
 * One OS thread of the runtime's own (all signals blocked, made when first needed, joined at exit) sleeps in epoll until the next timer, tick or
 * descriptor; with none of them for ever: an idle process has no context switches.  It holds no capability and runs no managed code: it calls the function that
 * a timer, wait or tick names, which must be short and must not call back into this module except startTimer/cancelTimer of OTHER objects (not from fire).
 *
 * Timers are nodes of the caller's (in a TSO, an in-call), kept in a binary heap of pointers; a million of them are fine.
 *
 * Ownership: nodes belong to this module from start until they fire or are cancelled; everything here is guarded by the time lock (RANK_TIME), under
 * which fire, ready and tick functions run. */
#ifndef TIMEKEEPER_H
#define TIMEKEEPER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Timer_ Timer;
struct Timer_ {
    uint64_t deadline;            /* of osMonotonicNanos */
    size_t place;                 /* [lock: time] 1 + index in the heap; 0: not running */
    void (*fire)(Timer *timer);   /* [owner] set before startTimer; called once, under the time lock */
};
/* Let timer->fire run at (or a little after) deadline; one in the past fires soon.  false: no memory or no thread for it. */
bool startTimer(Timer *timer, uint64_t deadline);
/* Context: its own fire.  Let it run once more. */
void startTimerAgain(Timer *timer, uint64_t deadline);
/* Returns true if it will not fire, false if it has fired (or never ran).  When this returns, fire is not running.  A timer was zeroed before its first use. */
bool cancelTimer(Timer *timer);

typedef struct FdWait_ FdWait;
struct FdWait_ {
    int fd;
    bool write;                            /* ready to write, or to read */
    bool waiting;                          /* [lock: time] */
    FdWait *next, *prev;                   /* [lock: time] all waits of one descriptor */
    void (*ready)(FdWait *wait, int error);/* [owner] called once, under the time lock; error: 0 ready, else an errno (EBADF: it was closed meanwhile) */
};
/* Returns 0 (ready will be called), or an errno: EBADF for a bad descriptor, ENOMEM, EAGAIN for no thread.  A descriptor that epoll refuses because it is
 * always ready (a plain file: EPERM) counts as ready: the answer is EALREADY and ready is not called.  Several waits on one descriptor are allowed, in both directions. */
int startFdWait(FdWait *wait, int fd, bool write);
/* As cancelTimer. */
bool cancelFdWait(FdWait *wait);
/* All waits on fd end with EBADF: for hosts and managed code that are about to close it.  A descriptor closed without it is noticed as far as the system lets us
 * (looked at 1 s, 3 s, 7 s, then every 8 s after the first wait on it began, often somewhat earlier: whether the poller still knows it, which compares the
 * open file itself).  A new wait on its number notices it at once.  Both end the waits with EBADF, on the thread that noticed. */
void closeFdWaits(int fd);

/* Ticks: while somebody wants them, onTick is called about every period, on the timekeeper, with the time lock NOT held; it returns whether to go on, and
 * when it has said no it is asked once more at once.  wantTicks is cheap when ticks are on already (one load); any thread, any time: after the store of what
 * onTick looks at.  Where no thread can be made, a call that comes a period later or more tries again. */
extern _Atomic bool ticking;
void wantTicksSlow(void);
static inline void wantTicks(void)
{
    /* Relaxed: a tick that just turns ticking off looks again at what is runnable (onTick) after it did, with a heavy barrier between.  So only the compiler
     * must not move the load up (callOnTick has the argument). */
    atomic_signal_fence(memory_order_seq_cst);
    if (!atomic_load_explicit(&ticking, memory_order_relaxed)) wantTicksSlow();
}

/* Can there be ticks: is there a thread for them, or could it be made now? */
bool canTick(void);
/* Ticks are wanted by who may hold the time lock, or one that comes after it.  The timekeeper begins them before it sleeps again; others that may have set it say
 * wantOwedTicks when they hold none of these locks any more.  Relaxed: who set it looks. */
extern _Atomic bool ticksOwed;
static inline void wantOwedTicks(void)
{
    if (atomic_load_explicit(&ticksOwed, memory_order_relaxed)) wantTicks();
}

/* Start: remembers the settings, makes no thread.  tickNanos 0: there are no ticks.  Context: startup, after osMembarrierInit. */
void initTimekeeper(uint64_t tickNanos, bool (*onTick)(void));
/* Stop: no function of anybody runs any more when this returns; nodes still waiting are forgotten (their owners are gone; of one that is
 * not, cancelling says that it will not fire); the thread is joined.  Starting something before the next init fails as if there were no thread. */
void stopTimekeeper(void);
/* In a forked child: the thread is gone; forget everything, close the descriptors.  Afterwards as after stop. */
void forgetTimekeeper(void);

#endif

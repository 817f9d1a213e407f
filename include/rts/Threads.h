/* rts/Threads.h: lightweight threads, and what they wait for.
 *
 * A thread is a managed computation with a stack of its own.  Unbound ones are run by the runtime's workers, and by OS threads whose own in-call is
 * blocked ("hosts"); a bound one is run by one OS thread only: every in-call is one, and rts_forkOS makes one with an OS thread of its own.
 *
 * A ThreadId is a value (kind CLOSURE_TSO).  It keeps a blocked thread findable, but not alive for ever: a thread that nobody can wake
 * any more gets BlockedIndefinitely (or NonTermination), found by a collection, unless its ThreadId is still reachable.
 *
 * Functions that take a Stack run in managed code.  Those marked CAPSTAN_SAFEPOINT may move every object and may raise: what the
 * operation itself raises stands in its text, and asynchronous exceptions arrive there if they are not masked.  An operation that blocks is
 * interruptible: while masked (but not uninterruptibly) an exception may still arrive if it really has to wait.
 * "blocked inside an unsafe call or a finalizer": not allowed; it raises an ErrorCall that names the operation. */
#ifndef RTS_THREADS_H
#define RTS_THREADS_H

#include "rts/Managed.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Making threads ------------------------------------------------------------------------------------------------ */

/* From C, between rts_lock and rts_unlock: a thread that evaluates p; runs the action p; runs it and evaluates its result.  It does
 * nothing until it is scheduled.  NULL: no memory (the in-call's status is HeapExhausted).  stack_size has no meaning.
 * The pointer is valid until the next safepoint after it has been scheduled; rts_threadId gives a value that lasts.
 * An uncaught exception ends the thread and reaches RtsConfig.uncaughtHook.   See: GHC's functions of these names. */
CAPSTAN_API StgTSO *createThread(Capability *cap, StgWord stack_size) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API StgTSO *createGenThread(Capability *cap, StgWord stack_size, HaskellObj p) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API StgTSO *createIOThread(Capability *cap, StgWord stack_size, HaskellObj p) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API StgTSO *createStrictIOThread(Capability *cap, StgWord stack_size, HaskellObj p) CAPSTAN_NOSAFEPOINT;
/* Make it runnable: here, or preferably on capability n modulo their number, from which it is not moved. */
CAPSTAN_API void scheduleThread(Capability *cap, StgTSO *tso) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API void scheduleThreadOn(Capability *cap, StgWord n, StgTSO *tso) CAPSTAN_NOSAFEPOINT;
/* Its ThreadId; CAPSTAN_POISON: no memory. */
CAPSTAN_API HaskellObj rts_threadId(Capability *cap, StgTSO *tso) CAPSTAN_NOSAFEPOINT;

/* A new thread that runs the action io, with the masking state of this one; its ThreadId.  Raises HeapOverflow without memory; if a stack
 * cannot be had when it is about to run, the new thread ends with HeapOverflow.  See: forkIO, forkOn. */
CAPSTAN_API HaskellObj rts_fork(Stack *stack, HaskellObj io) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API HaskellObj rts_forkOn(Stack *stack, unsigned n, HaskellObj io) CAPSTAN_NOSAFEPOINT;
/* The same as a bound thread with an OS thread of its own.  Blocks until it has begun.  Raises an ErrorCall if the system refuses
 * the OS thread.  See: forkOS. */
CAPSTAN_API HaskellObj rts_forkOS(Stack *stack, HaskellObj io) CAPSTAN_SAFEPOINT;
/* Run io in a bound thread: here if this one is bound, else in a new one, whose result or exception comes back. */
CAPSTAN_API HaskellObj rts_runInBoundThread(Stack *stack, HaskellObj io) CAPSTAN_SAFEPOINT;
CAPSTAN_API bool rts_isCurrentThreadBound(Stack *stack) CAPSTAN_NOSAFEPOINT;

/* ---- Looking at threads -------------------------------------------------------------------------------------------- */

/* The calling thread's ThreadId. */
CAPSTAN_API HaskellObj rts_myThreadId(Stack *stack) CAPSTAN_NOSAFEPOINT;
/* A number that no other thread of this process has, for people. */
CAPSTAN_API StgWord64 rts_getThreadId(HaskellObj threadId) CAPSTAN_NOSAFEPOINT;

typedef enum {
    ThreadRunning,               /* running, or would be if there were a capability */
    ThreadFinished,
    ThreadDied,                  /* of an exception that nobody caught */
    ThreadBlockedOnMVar, ThreadBlockedOnMVarRead, ThreadBlockedOnBlackHole, ThreadBlockedOnDelay, ThreadBlockedOnRead,
    ThreadBlockedOnWrite, ThreadBlockedOnThrowTo, ThreadBlockedOnCCall, ThreadBlockedOnOther,
} RtsThreadStatus;
/* Old news when it returns.  RTS_WRONG_KIND and ThreadFinished for anything but a ThreadId. */
CAPSTAN_API RtsThreadStatus rts_threadStatus(HaskellObj threadId) CAPSTAN_NOSAFEPOINT;
/* A name for people (dump, uncaught exceptions): at most 31 bytes are kept. */
CAPSTAN_API void rts_labelThread(HaskellObj threadId, const char *label) CAPSTAN_NOSAFEPOINT;
/* An array of the ThreadIds of all threads that have not ended, in no order; of the bound threads of in-calls, those that
 * asked for theirs.  CAPSTAN_POISON: no memory. */
CAPSTAN_API HaskellObj rts_listThreads(Capability *cap) CAPSTAN_NOSAFEPOINT;
/* The capability that the thread is on now, and whether it may be moved (false after forkOn). */
CAPSTAN_API unsigned rts_threadCapability(HaskellObj threadId, bool *movable) CAPSTAN_NOSAFEPOINT;

/* Let the others of this capability run first.  A thread alone goes on at once. */
CAPSTAN_API void rts_yield(Stack *stack) CAPSTAN_SAFEPOINT;

/* ---- MVars ---------------------------------------------------------------------------------------------------------- */
/* A box that is empty or full.  Waiters are served first come, first served, one for each put or take, by direct hand-over: who comes
 * later cannot snatch the value.  Blocked for ever: raises capstan_BlockedIndefinitelyOnMVar. */

/* CAPSTAN_POISON: no memory. */
CAPSTAN_API HaskellObj rts_mkMVar(Capability *cap) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API HaskellObj rts_takeMVar(Stack *stack, HaskellObj mvar) CAPSTAN_SAFEPOINT;
CAPSTAN_API void rts_putMVar(Stack *stack, HaskellObj mvar, HaskellObj value) CAPSTAN_SAFEPOINT;
/* The value without taking it; a waiting reader gets the next value put, before any taker. */
CAPSTAN_API HaskellObj rts_readMVar(Stack *stack, HaskellObj mvar) CAPSTAN_SAFEPOINT;
/* These never wait.  false: it was empty (full, for put). */
CAPSTAN_API bool rts_tryTakeMVar(Stack *stack, HaskellObj mvar, HaskellObj *value) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API bool rts_tryPutMVar(Stack *stack, HaskellObj mvar, HaskellObj value) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API bool rts_tryReadMVar(Stack *stack, HaskellObj mvar, HaskellObj *value) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API bool rts_isEmptyMVar(HaskellObj mvar) CAPSTAN_NOSAFEPOINT;

/* From any C thread, with or without a capability, without waiting for anything, not even a collection: put unit (or the value) into the MVar
 * behind the stable pointer, if it is empty then, and free the stable pointer.  It happens soon.  cap: the capability number to do it on, or -1.
 * value: an immediate (CAPSTAN_SMALL_INT ...), or CAPSTAN_POISON to use that of the stable pointer `sp_value`, which is freed too.
 * Without a runtime: does nothing.  See: hs_try_putmvar. */
CAPSTAN_API void hs_try_putmvar(int cap, HsStablePtr mvar) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API void hs_try_putmvar_with_value(int cap, HsStablePtr mvar, HaskellObj value, HsStablePtr sp_value) CAPSTAN_NOSAFEPOINT;

/* ---- Time and descriptors ------------------------------------------------------------------------------------------- */

/* Sleep for at least so many microseconds; zero or less: a yield; more than 2^62: for ever, or until an exception. */
CAPSTAN_API void rts_threadDelay(Stack *stack, HsInt64 microseconds) CAPSTAN_SAFEPOINT;
/* Wait until the descriptor can be read from (written to) without blocking.  Raises an ErrorCall for a bad descriptor, and
 * when it is closed meanwhile; a plain file is always ready. */
CAPSTAN_API void rts_threadWaitRead(Stack *stack, int fd) CAPSTAN_SAFEPOINT;
CAPSTAN_API void rts_threadWaitWrite(Stack *stack, int fd) CAPSTAN_SAFEPOINT;
/* For who is about to close fd: threads that wait for it get an ErrorCall now.  Any thread. */
CAPSTAN_API void rts_closeFdWith(int fd) CAPSTAN_NOSAFEPOINT;

/* ---- Asynchronous exceptions ---------------------------------------------------------------------------------------- */

/* Raise an exception in another thread, and wait until it has been raised there (or the thread has ended).  In the calling thread: raise at once.
 * Interruptible.  See: throwTo, and the paper "Asynchronous exceptions in Haskell" (Marlow et al. 2001). */
CAPSTAN_API void rts_throwTo(Stack *stack, HaskellObj threadId, HaskellObj exception) CAPSTAN_SAFEPOINT;
/* rts_throwTo of capstan_ThreadKilled. */
CAPSTAN_API void rts_killThread(Stack *stack, HaskellObj threadId) CAPSTAN_SAFEPOINT;

typedef enum { RtsUnmasked = 0, RtsMaskedInterruptible = 1, RtsMaskedUninterruptible = 2 } RtsMaskingState;
CAPSTAN_API RtsMaskingState rts_getMaskingState(Stack *stack) CAPSTAN_NOSAFEPOINT;
/* Run body(stack, arg) in a masking state; the one before is put back on every way out.  Unmasking is a safepoint, before the body. */
CAPSTAN_API HaskellObj rts_withMask(Stack *stack, RtsMaskingState state, HaskellObj (*body)(Stack *stack, void *arg), void *arg)
    CAPSTAN_SAFEPOINT;
/* Let pending exceptions in, though masked (not uninterruptibly).  See: allowInterrupt. */
CAPSTAN_API void rts_allowInterrupt(Stack *stack) CAPSTAN_SAFEPOINT;

/* Run the action io for at most so many microseconds.  true: *result is its result.  false: time was up.  Negative: no limit; 0: false at once.
 * See: System.Timeout. */
CAPSTAN_API bool rts_timeout(Stack *stack, HsInt64 microseconds, HaskellObj io, HaskellObj *result) CAPSTAN_SAFEPOINT;

/* From its first call of set or enable on, the calling thread's allocation counter runs down by what it allocates.  With the limit enabled it gets
 * capstan_AllocationLimitExceeded at a safepoint after the counter went below zero, and may then go on by 100 KB (handlers) before the next one: the
 * counter stands at that.  Whether it is below zero is looked at for every 16 KB, and for each large object.  With the limit disabled none comes any more, were it
 * overdue under a mask.
 * See: setAllocationCounter, enableAllocationLimit. */
CAPSTAN_API void rts_setAllocationCounter(Stack *stack, HsInt64 bytes) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API HsInt64 rts_getAllocationCounter(Stack *stack) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API void rts_enableAllocationLimit(Stack *stack, bool enable) CAPSTAN_NOSAFEPOINT;

CAPSTAN_API extern StgClosure capstan_ThreadKilled_closure, capstan_BlockedIndefinitelyOnMVar_closure,
    capstan_AllocationLimitExceeded_closure, capstan_TimedOut_closure, capstan_Cancelled_closure;

/* ---- Calls out ------------------------------------------------------------------------------------------------------ */
/* rts_safeCall (rts/Managed.h) gives the capability up; rts_unsafeCall keeps it; an interruptible call is a safe one that an
 * asynchronous exception for this thread breaks off by a signal (RtsConfig.interrupt_signal, with a handler that does nothing, installed at the first
 * such call), sent again every 10 ms until fn has returned; fn sees EINTR.  The exception is raised when fn has returned; while masked
 * (interruptibly) the call is broken off as well, but the exception goes on waiting: rts_allowInterrupt lets it in.  In an uninterruptible mask, and
 * without a signal configured, it is a safe call.  The signal is let through to the thread during the call only.  Raises HeapOverflow
 * without memory, fn not called. */
CAPSTAN_API void *rts_interruptibleCall(Stack *stack, void *(*fn)(void *arg), void *arg) CAPSTAN_SAFEPOINT;
static inline void *rts_unsafeCall(__attribute__((unused)) Stack *stack, void *(*fn)(void *arg), void *arg) { return fn(arg); }

/* ---- The same as managed functions, for languages: IO functions of the arguments above ------------------------------- */
CAPSTAN_API extern StgClosure capstan_fork_closure, capstan_yield_closure, capstan_myThreadId_closure, capstan_newMVar_closure,
    capstan_takeMVar_closure, capstan_putMVar_closure, capstan_readMVar_closure, capstan_threadDelay_closure,
    capstan_throwTo_closure, capstan_killThread_closure, capstan_mask_closure, capstan_uninterruptibleMask_closure,
    capstan_unmask_closure;

/* ---- In-calls with a budget ----------------------------------------------------------------------------------------- */

/* Names an in-call or a submission for rts_cancel.  Never reused: a stale one is harmless.  0: none. */
typedef StgWord64 RtsInCallHandle;

typedef struct {
    size_t size;                 /* sizeof(RtsLockOpts) */
    HsInt64 deadline_us;         /* for waiting and running together, from now; negative: none; 0: RTS_TIMED_OUT at once */
    StgWord64 alloc_limit_bytes; /* what the in-call's thread may allocate, C between evaluations included; 0: no limit */
    bool no_wait;                /* do not wait for a capability: RTS_BUSY */
    RtsInCallHandle *handle;     /* NULL, or where to store its name (atomically, release) before it waits; valid until rts_unlock */
} RtsLockOpts;
#define RTS_LOCK_OPTS_INIT { .size = sizeof(RtsLockOpts), .deadline_us = -1 }

/* rts_lock with a budget; opts may be NULL.  Calls no hooks.  *cap is a real capability if and only if the answer is RTS_OK, else a dead one (whose
 * rts_getSchedStatus is TimedOut, Cancelled or Refused).
 * While evaluating, the end of the budget is an asynchronous exception in the in-call's thread (TimedOut, Cancelled, AllocationLimitExceeded);
 * uncaught, it ends the evaluation with the SchedulerStatus of that name, and, but for the last, each later one of the in-call as it begins.  C between
 * evaluations finds that status after rts_pollCap.  Code that masks for ever, or stays in C, holds it up; so does whoever keeps all capabilities when the
 * in-call comes back from a safe call.  An in-call from inside a safe call has a budget of its own.
 * Errors: those of rts_lock; RTS_BAD_ARGUMENT; RTS_TIMED_OUT, RTS_CANCELLED while waiting; RTS_BUSY. */
CAPSTAN_API RtsStatus rts_lockOpt(Capability **cap, const RtsLockOpts *opts) CAPSTAN_NOSAFEPOINT;
/* End an in-call or submission, waiting or running; one that is just ending may get to its end first.  Any thread, never blocks.  false: it had ended. */
CAPSTAN_API bool rts_cancel(RtsInCallHandle handle) CAPSTAN_NOSAFEPOINT;
/* Whether this thread's blocked in-calls may run other threads meanwhile (the default). */
CAPSTAN_API void rts_setInCallHosting(bool allowed) CAPSTAN_NOSAFEPOINT;

/* A value that needs no capability to hold. */
typedef struct {
    enum { RtsValueUnit, RtsValueInt, RtsValueDouble, RtsValueBool, RtsValuePtr, RtsValueStable } kind;
    union { HsInt64 i; HsDouble d; bool b; void *p; HsStablePtr sp; } u;
} RtsValue;
typedef struct {
    SchedulerStatus status;
    RtsValue value;              /* if Success (floats as doubles); a result that is none of the simple kinds comes as a stable pointer, which the
                                    receiver owns */
    char text[256];              /* otherwise: of the exception, UTF-8, truncated */
    void *ctx;
    RtsInCallHandle handle;
} RtsResult;
typedef struct {
    size_t size;                 /* sizeof(RtsSubmission) */
    HaskellObj function;         /* a static closure, or NULL: that of function_sp, which stays the caller's and is read when it runs */
    HsStablePtr function_sp;
    unsigned n_args;             /* at most 8 */
    RtsValue args[8];            /* RtsValueStable: the object behind it; freed by the runtime in every case but an error answer */
    HsInt64 deadline_us;         /* as in RtsLockOpts */
    StgWord64 alloc_limit_bytes;
    void (*done)(void *ctx, const RtsResult *result);  /* on a thread of the runtime's that holds no capability: may block, may call in; or NULL: */
    int event_fd;                /* an eventfd to add 1 to when the result can be had by rts_takeResult; -1: none.  Stays open until it is taken */
    void *ctx;
} RtsSubmission;
#define RTS_SUBMISSION_INIT { .size = sizeof(RtsSubmission), .deadline_us = -1, .event_fd = -1 }
/* Run function(args...) as an action in a thread of its own, and evaluate its result, without waiting.  Any thread.  *handle (may be NULL) is set before
 * it begins; 0 with an error.  Submissions begin in order; where memory for a thread is short they wait for it.
 * Errors: RTS_BUSY: RtsConfig.submit_queue submissions have not had their results delivered, or taken; RTS_NOT_STARTED, RTS_CLOSED, RTS_NO_MEMORY,
 * RTS_BAD_ARGUMENT.  Each accepted submission gets exactly one result.
 * At exit that is Interrupted; hs_exit itself calls done then, which must not start or end the runtime, and finds it closed.  Results that were not taken
 * may be taken after it; those that are stable pointers have become Interrupted. */
CAPSTAN_API RtsStatus rts_submit(const RtsSubmission *submission, RtsInCallHandle *handle) CAPSTAN_NOSAFEPOINT;
/* The next result of submissions without done, in the order in which they ended.  false: none now.  event_fd: only of those with this one; -1: any. */
CAPSTAN_API bool rts_takeResult(int event_fd, RtsResult *result) CAPSTAN_NOSAFEPOINT;

/* ---- Counts ---------------------------------------------------------------------------------------------------------- */
typedef struct {
    StgWord64 threads;           /* not ended, bound ones of in-calls not counted */
    StgWord64 created;
    unsigned workers;            /* OS threads of the runtime that run threads */
    unsigned idle_workers;
    unsigned in_safe_calls;      /* of the workers */
    unsigned hosts;              /* in-calls that are blocked and run others */
    StgWord64 stacks, stacks_in_use;
    StgWord64 moved;             /* threads given to idle capabilities */
} RtsThreadCounts;
CAPSTAN_API void rts_getThreadCounts(RtsThreadCounts *counts) CAPSTAN_NOSAFEPOINT;

#ifdef __cplusplus
}
#endif
#endif

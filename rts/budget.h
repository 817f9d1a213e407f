/* budget.h: what ends in-calls and submissions from outside: deadlines and rts_cancel; and allocation limits.
 *
 * Handles.  A Budget's number and generation make up a handle.  Records are recycled, never freed, and the generation changes when the handle closes; so
 * a stale one names nothing.  An in-call keeps its record for the next time; those of submissions come from a list of spare ones.
 *
 * Who ends it, and when not any more.  rts_cancel compares generations and acts under the record's lock; closing takes the same lock.  The timer's
 * function runs between startTimer and the return of cancelTimer.  So once an in-call has closed its budget (and then cleared what was left pending) nothing of it can
 * reach the next in-call that uses the record.
 *
 * Ownership: the in-call's thread, or the submission (submit.c).  Locks: the record's spin lock is taken before those of ranks TIME and above, never after
 * them; the functions of timers, which run under the time lock, do not take it. */
#ifndef BUDGET_H
#define BUDGET_H

#include "rts/Threads.h"
#include "task.h"
#include "timekeeper.h"

#define NO_DEADLINE UINT64_MAX

typedef struct Budget_ Budget;
struct Budget_ {
    _Atomic uint32_t lock;
    uint32_t number;              /* [const] its place in the table, from 1 */
    uint64_t generation;          /* [lock: own] */
    bool open;                    /* [lock: own] the handle is good */
    _Atomic uint32_t why;         /* [atomic] PENDING_CANCEL, PENDING_TIMEOUT: what has come */
    bool handed;                  /* [owner] somebody was given the handle */
    _Atomic bool fired;           /* [atomic] the timer's function has run, and does not come again */
    Task *waiter;                 /* [lock: own] of an in-call that waits for a capability */
    StgTSO *tso;                  /* [lock: own to write] who is to be interrupted; the timer reads it */
    void (*cancel)(Budget *b);    /* [owner] called under the lock, while the handle is good */
    void *owner;                  /* [owner] a submission's */
    uint64_t deadline;            /* [owner] or NO_DEADLINE */
    Timer timer;
    Budget *next;                 /* [lock: budgets] spare */
};

/* So many microseconds from now; negative: NO_DEADLINE. */
uint64_t deadlineAfter(HsInt64 microseconds);

/* ---- In-calls ---- */

/* The in-call is about to wait for a capability, until the deadline at most.  Its handle is good from now on; handed: somebody gets it.  false: no memory. */
bool openBudget(InCall *incall, uint64_t deadline, bool handed);
/* Its budget may still end a wait.  Context: the world is stopped. */
bool isBudgetToCome(const InCall *incall);
/* The wait is over; got: it has a capability.  RTS_OK, and then the thread is what is ended; or RTS_CANCELLED, RTS_TIMED_OUT; RTS_NO_MEMORY: none for the timer. */
RtsStatus beginBudget(InCall *incall, bool got);
/* The in-call ends: its handle is bad from now on, nothing of it is pending any more. */
void closeBudget(InCall *incall);
/* An exception has ended an evaluation: what ended the budget ends the next one as well. */
void renewBudget(InCall *incall);
/* Which status a budget that is over gives; NoStatus: it is not. */
SchedulerStatus budgetStatus(InCall *incall);

/* ---- Submissions ---- */

/* A record, its handle closed.  NULL: no memory. */
Budget *takeBudget(void);
void putBudget(Budget *b);
RtsInCallHandle openHandle(Budget *b, Task *waiter, void *owner, void (*cancel)(Budget *b));
/* Nobody cancels it any more. */
void closeHandle(Budget *b);
RtsInCallHandle handleOf(const Budget *b);
void lockBudget(Budget *b);
void unlockBudget(Budget *b);

/* ---- Allocation limits ---- */

/* The thread, which runs on cap, may allocate so many bytes. */
void limitAllocation(Capability *cap, StgTSO *tso, StgWord64 bytes);
/* Context: startup. */
void initBudgets(void);
/* In a forked child: all handles are closed. */
void forgetBudgets(void);

#endif

/* adjustor_pool.h: the memory of adjustors, and how long each lives.
 *
 * Arenas (arch.h) hold ARCH_ADJUSTOR_COUNT of them and stay mapped until the process ends: a call that comes too late finds a record that says so.
 *
 * A record's state is a status and, above it, a number of calls that are just using the record:
 *
 *     SPARE --newAdjustor--> LIVE --freeAdjustor--> CLAIMED --nobody uses it--> SPARE
 *                              |                   ^  ^   |
 *                              +--endAdjustors--> ENDED   +--calls do--> FREED --the last one leaves--> CLAIMED
 *
 * Calls and frees.  That a call uses the record is said in one of two places, before it looks at the status:
 * - in Task.through, by a plain store: the usual case.  A thread does so with one record at a time.  After that it makes sure that the record's `caller` says
 *   who may ever have done it: nobody (0), one thread (its number), or several (CALLERS_MANY); it is written once or twice, by a fenced exchange;
 * - in the count, by an atomic addition: where there is no Task, or its place is taken, or membarrier is refused.
 * Who frees it changes the status (a read-modify-write), then looks at the count and at `caller`: nobody, or only the freeing thread itself, says where to look
 * without further ado; otherwise a membarrier, then at all Tasks.  With the barrier, a call's store to `through` and its load of the status come both before
 * it (then the call is seen) or the load comes behind it (then the call sees that it is too late).  Without one: a call that has to write `caller` loads the
 * status behind its fence; one that found there what another wrote loads it behind that (acquire), and the other wrote it after the freer had looked.
 * `caller` outlives the record's life, for a call that comes too late may be just behind it, and find the next life's LIVE.  It begins anew only before such a
 * barrier, if no Task is found: whoever saw the old value would be.
 * A call that leaves takes its mark away and looks at the status; the same barrier makes sure that the freer sees no mark, or this call sees FREED, and looks
 * for others as the freer did.  Who looks has claimed the record (CLAIMED) and is alone: two who both find FREED might otherwise see two lives of it, and
 * the slower one end the second.  Calls that leave meanwhile do nothing, so who gives up a claim looks once more.
 *
 * Ownership: signature, wptr and hptr are written by who takes the record from a list of spare ones, and read by calls that saw LIVE (acquire; pairs with the
 * release in newAdjustor).  A call through a pointer that was freed may read them while they are written: they are atomic, and it does nothing with them that
 * could do harm. */
#ifndef ADJUSTOR_POOL_H
#define ADJUSTOR_POOL_H

#include "arch.h"
#include "signature.h"
#include "task.h"

#include <stdatomic.h>

enum { ADJUSTOR_SPARE, ADJUSTOR_LIVE, ADJUSTOR_FREED, ADJUSTOR_CLAIMED, ADJUSTOR_ENDED, ADJUSTOR_STATUS = 7, ADJUSTOR_CALL = 8 };
#define CALLERS_MANY UINT32_MAX

/* Lies where the assembly has an ArchAdjustor. */
typedef struct Adjustor_ {
    _Atomic(const Signature *) signature;
    _Atomic(StgFunPtr) wptr;     /* the stub, or NULL */
    _Atomic(void *) hptr;        /* the StgStablePtr; NULL in an ended one.  Spare ones: the next in the list */
    _Atomic uint32_t state;
    _Atomic uint32_t caller;
} Adjustor;
_Static_assert(sizeof(Adjustor) == sizeof(ArchAdjustor), "a record is one");

/* One in use.  NULL: refused; reported in `what`'s name. */
Adjustor *newAdjustor(const Signature *signature, StgFunPtr wptr, StgStablePtr hptr, const char *what);
/* Its address as C calls it; and back: NULL if there is none. */
void *codeOfAdjustor(const Adjustor *a);
Adjustor *adjustorOfCode(const void *code);

/* The owner needs it no more; false: it is not in use. */
bool freeAdjustor(Adjustor *a);

/* membarrier works, so that calls need no fence.  Relaxed: calls may come while the runtime begins, and each remembers what it did. */
extern _Atomic bool adjustorsByMark;

static inline unsigned statusOfAdjustor(Adjustor *a)
{
    return (unsigned)(atomic_load_explicit(&a->state, memory_order_acquire) & ADJUSTOR_STATUS);
}

/* A call begins to use the record.  Returns the Task whose mark says so; NULL: it is counted. */
void noteCaller(Adjustor *a, uint32_t me);
static inline Task *enterAdjustor(Adjustor *a, Task *task)
{
    if (task == NULL || !atomic_load_explicit(&adjustorsByMark, memory_order_relaxed) || task->flags & TASK_TEMPORARY ||
        atomic_load_explicit(&task->through, memory_order_relaxed) != NULL) {
        atomic_fetch_add_explicit(&a->state, ADJUSTOR_CALL, memory_order_seq_cst);
        return NULL;
    }
    atomic_store_explicit(&task->through, a, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst); /* the rest is the freer's membarrier */
    uint32_t caller = atomic_load_explicit(&a->caller, memory_order_acquire);
    if (__builtin_expect(caller != (uint32_t)task->id && caller != CALLERS_MANY, 0)) noteCaller(a, (uint32_t)task->id);
    return task;
}

/* And it has done with it.  marked: what enterAdjustor gave, if that is still this thread's Task. */
void reclaimAdjustor(Adjustor *a);
static inline void leaveAdjustor(Adjustor *a, Task *marked, bool counted)
{
    uint32_t state;
    if (counted) {
        /* Release: what the call read, it read before the record is written again. */
        state = atomic_fetch_sub_explicit(&a->state, ADJUSTOR_CALL, memory_order_seq_cst);
    } else {
        if (marked != NULL) atomic_store_explicit(&marked->through, NULL, memory_order_release);
        atomic_signal_fence(memory_order_seq_cst);
        state = atomic_load_explicit(&a->state, memory_order_relaxed);
    }
    if (__builtin_expect((state & ADJUSTOR_STATUS) == ADJUSTOR_FREED, 0)) reclaimAdjustor(a);
}

/* The runtime begins. */
void startAdjustors(void);
/* The runtime ends: what is live is ended, and the stable pointers are nobody's. */
void endAdjustors(void);
/* In a forked child: the same, and the lock is nobody's. */
void forgetAdjustors(void);

/* Is one in use whose stub lies between? */
bool anyAdjustorIn(const void *lo, const void *hi);

/* Tests: how many arenas there may be; 0: as many as fit. */
extern size_t adjustorArenaLimit;

#endif

/* adjustor_pool.h: the memory of adjustors, and how long each lives.
 *
 * Arenas (arch.h) hold ARCH_ADJUSTOR_COUNT of them and stay mapped until the process ends: a call that comes too late finds a record that says so.
 *
 * A record's state is a status and, above it, the number of calls that are just using the record:
 *
 *     SPARE --newAdjustor--> LIVE --freeAdjustor--> FREED --the last call leaves--> SPARE
 *                              |                      ^
 *                              +--endAdjustors--> ENDED
 *
 * Who finds FREED with no calls makes it SPARE by compare-and-swap, and only one does.  Calls count themselves in whatever the status is, before they look at
 * it; so the count survives every change of the status, which are all read-modify-writes.
 *
 * Ownership: signature, wptr and hptr are written by who takes the record from the spare list, and read by calls that are counted and saw LIVE or FREED
 * (acquire; pairs with the release in newAdjustor).  A call through a pointer that was freed may read them while they are written: they are atomic, and it
 * does nothing with them that could do harm. */
#ifndef ADJUSTOR_POOL_H
#define ADJUSTOR_POOL_H

#include "arch.h"
#include "signature.h"

#include <stdatomic.h>

enum { ADJUSTOR_SPARE, ADJUSTOR_LIVE, ADJUSTOR_FREED, ADJUSTOR_ENDED, ADJUSTOR_STATUS = 3, ADJUSTOR_CALL = 4 };

/* Lies where the assembly has an ArchAdjustor. */
typedef struct Adjustor_ {
    _Atomic(const Signature *) signature;
    _Atomic(StgFunPtr) wptr;     /* the stub, or NULL */
    _Atomic(void *) hptr;        /* the StgStablePtr; NULL in a spare or ended one.  [lock: pool] spare: the next one */
    _Atomic uint64_t state;
} Adjustor;
_Static_assert(sizeof(Adjustor) == sizeof(ArchAdjustor), "a record is one");

/* One in use.  NULL: refused; reported in `what`'s name. */
Adjustor *newAdjustor(const Signature *signature, StgFunPtr wptr, StgStablePtr hptr, const char *what);
/* Its address as C calls it; and back: NULL if there is none. */
void *codeOfAdjustor(const Adjustor *a);
Adjustor *adjustorOfCode(const void *code);

/* The owner needs it no more; false: it is not in use. */
bool freeAdjustor(Adjustor *a);

/* A call begins to use the record: its status.  And it has done with it. */
static inline unsigned enterAdjustor(Adjustor *a)
{
    return (unsigned)(atomic_fetch_add_explicit(&a->state, ADJUSTOR_CALL, memory_order_acquire) & ADJUSTOR_STATUS);
}
void recycleAdjustor(Adjustor *a);
static inline void leaveAdjustor(Adjustor *a)
{
    /* Release: what the call read, it read before the record is written again. */
    uint64_t before = atomic_fetch_sub_explicit(&a->state, ADJUSTOR_CALL, memory_order_acq_rel);
    if (__builtin_expect(before == (ADJUSTOR_CALL | ADJUSTOR_FREED), 0)) recycleAdjustor(a);
}
static inline unsigned statusOfAdjustor(Adjustor *a)
{
    return (unsigned)(atomic_load_explicit(&a->state, memory_order_acquire) & ADJUSTOR_STATUS);
}

/* The runtime ends: what is live is ended, and the stable pointers are nobody's. */
void endAdjustors(void);
/* In a forked child: the same, and the lock is nobody's. */
void forgetAdjustors(void);

/* Tests: how many arenas there may be; 0: as many as fit. */
extern size_t adjustorArenaLimit;

#endif

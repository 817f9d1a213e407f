/*
 * For tests of what collections keep and what they let go: values behind stable pointers, collections between in-calls, notes that
 * finalizers make.  Included by one file of a program; brings cmocka.h along.
 */
#ifndef CAPSTAN_TESTS_KEEPING_H
#define CAPSTAN_TESTS_KEEPING_H

#include "sched.h"

static inline HsStablePtr keep(HaskellObj v)
{
    HsStablePtr sp = getStablePtr((StgPtr)v);
    if (sp == NULL) abort();
    return sp;
}
static inline HaskellObj kept(HsStablePtr sp) { return (HaskellObj)deRefStablePtr(sp); }

/* Everything that lives becomes old. */
static inline void growOld(void)
{
    for (int i = 0; i < 3; i++) rts_performMinorGC();
}

/* An object that is nothing but itself. */
static inline HaskellObj thing(Capability *cap, HsInt n) { return rts_mkMutVar(cap, rts_mkInt(cap, n)); }
static inline HsInt numberOf(HaskellObj t) { return rts_getInt(rts_readMutVar(t)); }

/* ---- Notes ---- */

#define MOST_NOTES 100000
static _Atomic unsigned noteCount;
static _Atomic HsInt notes[MOST_NOTES];

static inline void makeNote(HsInt n)
{
    unsigned at = atomic_fetch_add(&noteCount, 1);
    if (at < MOST_NOTES) atomic_store(&notes[at], n);
}
static inline void clearNotes(void) { atomic_store(&noteCount, 0); }

/* Ten seconds at most (sanitizers and torture: more). */
#define AWAIT(condition)                                                                                              \
    do {                                                                                                              \
        for (uint64_t until = nowMs() + (SLOW_BUILD ? 100000 : 10000); !(condition) && nowMs() < until;) sleepMs(1);   \
        assert_true(condition);                                                                                       \
    } while (0)
#define AWAIT_NOTES(n) AWAIT(atomic_load(&noteCount) >= (unsigned)(n))

/* As a finalizer: (note n). */
CAPSTAN_IO(note, n)
{
    makeNote(rts_getInt(rts_force(stack, n)));
    return CAPSTAN_UNIT;
}
static inline HaskellObj noteAction(Capability *cap, HsInt n) { return rts_apply(cap, &note_closure, rts_mkInt(cap, n)); }

/* As a C finalizer: ctx is NULL or where to count, ptr the number. */
static inline void noteInC(void *ctx, void *ptr)
{
    if (ctx != NULL) atomic_fetch_add((_Atomic unsigned *)ctx, 1);
    makeNote((HsInt)(intptr_t)ptr);
}

#endif

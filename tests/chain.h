/*
 * For tests of chains of weak pointers, or of entries of a weak table, whose keys lead to each other. Included by one file of a program.
 */
#ifndef CAPSTAN_TESTS_CHAIN_H
#define CAPSTAN_TESTS_CHAIN_H

#include "keeping.h"
#include "weak.h"

/* A collection looks a few times at each of n, not at each as often as there are of them. */
static inline void collectChain(bool major, HsInt n)
{
    uint64_t before = keyLooks;
    if (major) hs_perform_gc();
    else rts_performMinorGC();
    if (!SLOW_BUILD) assert_in_range(keyLooks - before, 0, 20 * (uint64_t)n + 1000);
}

/* ---- Old objects are marked, if there are enough of them that they would not be copied ---- */

static inline HsStablePtr makeBallast(void)
{
    Capability *cap = rts_lock();
    HsStablePtr ballast = keep(rts_mkBytes(cap, NULL, 16 << 20));
    rts_unlock(cap);
    return ballast;
}

/* Context: nothing is being marked. */
static inline void startMarkingOld(void)
{
    heap.majorAt = SIZE_MAX;
    heap.oldAt = 0;
    rts_performMinorGC();
    assert_true(heap.marking);
}

static inline void endMarkingOld(void)
{
    heap.majorAt = SIZE_MAX;
    for (int i = 0; i < 1000 && heap.marking; i++) rts_performMinorGC();
    assert_false(heap.marking);
}

#endif

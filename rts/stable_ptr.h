/* stable_ptr.h: names for objects that C may keep.
 *
 * Entries live in chunks that never move or go away; chunk k holds CHUNK0 << k entries.  An entry's value and its link in the free
 * list are separate words, so that a thread that reads a link while the entry is being reused reads garbage but breaks nothing: the free
 * list's head carries a count that makes its exchange fail then.  Value 0 means free.
 *
 * A StablePtr is the entry's number plus one, shifted up, with the entry's generation above it: freeing increments the
 * generation, so that debug builds recognise a stale one.
 *
 * Order: an allocation publishes the value by a release store, dereferencing acquires.  Freeing needs no capability and may run
 * beside a collection: the collector writes an entry back by compare-and-swap, which fails if it was freed meanwhile. */
#ifndef STABLE_PTR_H
#define STABLE_PTR_H

#include "gc/heap.h"

/* Context: exit, nobody holds a capability. */
void freeAllStablePtrs(void);

StgStablePtr newStablePtr(HaskellObj obj);   /* NULL: no memory */
HaskellObj readStablePtr(StgStablePtr sp);   /* CAPSTAN_POISON: not in use (always noticed in debug builds) */
bool dropStablePtr(StgStablePtr sp);         /* false: not in use */

/* In a forked child: the lock is nobody's. */
void forgetStablePtrs(void);

void scanStablePtrs(Visitor *v);
uint64_t countStablePtrs(void);

#endif

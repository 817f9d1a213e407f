/* stable_ptr.h: names for objects that C may keep.
 *
 * Entries live in chunks that never move or go away; chunk k holds CHUNK0 << k entries.  An entry's value and its link in the free list are separate
 * words, so that a thread that reads a link while the entry is being reused reads garbage but breaks nothing: the free list's head carries a count that
 * makes its exchange fail then.  Value 0 means free.
 *
 * A StablePtr is the entry's number plus one, shifted up, with the entry's generation above it: freeing increments the generation, so that debug builds
 * recognise a stale one.
 *
 * Young entries.  A minor collection looks only at entries that may hold something young.  Their numbers stand in a list (an array in chunks like the
 * table's), each at most once: the entry's LISTED bit says so.  The protocol:
 * - A maker owns the entry that it popped, and holds a capability.  If the object is young and the bit is clear it appends the number and sets the
 *     bit.  An entry that is freed and used again while it is listed needs nothing.
 * - Freeing does not touch bit or list, so that it may happen at any time, on any thread, also during a collection, and the entry can be used again at
 *     once.
 * - The collector (no maker runs: the world is stopped) visits the listed entries, writes each back by compare-and-swap, which fails if it was freed
 *     meanwhile, and at the end drops from the list those that hold nothing young, clearing their bits.  An entry that is freed during that is dropped or
 *     kept, as it comes: either is right, for the bit tells the next maker which it was.  An entry in use that is not listed never holds a young object:
 *     only makers and the collector write values, and objects do not grow younger.
 *
 * Order: an allocation publishes the value by a release store, dereferencing acquires.  The bit and the list are handed from maker to maker by the free
 * list (release, acquire) and through the collector by the stop of the world. */
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

extern const GcTable stablePtrTable;
uint64_t countStablePtrs(void);
/* Of those, in the list of young ones; for tests. */
uint32_t countYoungStablePtrs(void);

#endif

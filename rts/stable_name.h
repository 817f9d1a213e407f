/* stable_name.h: a number for each object that somebody asked for one: stable names, identity hashes.
 *
 * A table from addresses to numbers, in parts (shards) by a hash of the address, each with a spin lock.  An entry lives as long as its object; the
 * collector, which alone moves objects, puts entries in their new place.  In minor collections only those of young objects, which each part has in a list.
 * Numbers are not used again.
 *
 * A name is one word: that of an immediate value or of a static closure itself; of other objects the number, with low bits 100, which neither of these
 * has. */
#ifndef STABLE_NAME_H
#define STABLE_NAME_H

#include "capability.h"

extern const GcTable stableNameTable;

/* The name of v, which is an immediate or no thunk that was evaluated (whatItIs).  make: give it one.  0: it has none, or there is no memory.
 * Context: the caller holds a capability. */
StgWord nameOf(HaskellObj v, bool make);
/* Different for different names. */
static inline StgWord hashOfName(StgWord name)
{
    name ^= name >> 32;
    name *= 0x9e3779b97f4a7c15u;
    name ^= name >> 29;
    name *= 0xbf58476d1ce4e5b9u;
    return name ^ name >> 32;
}

/* Exit; and in a forked child, before the next start, where locks may be taken and lists be torn (whole: false). */
void freeStableNames(bool whole);

#endif

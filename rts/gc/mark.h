/* gc/mark.h: finding out which old objects live, a little at a time, and giving their neighbours' places to others.
 *
 * A copying collection of a large heap takes long.  So once enough has become old since the last one, old objects are marked instead, in
 * slices that follow minor collections, while the program goes on in between; what is not marked in the end is dead, and its place is a hole in its block that
 * is filled with what becomes old later, while the next marking goes on as well: that marks in another map.  Nothing old moves, unless holes that are too small for
 * what becomes old make up most of the blocks: then all is copied once (isFragmented).
 *
 * What makes that right (the invariant of Dijkstra's on-the-fly marking, with roots looked at again in the end):
 *   - Marked is what was reached; what was marked and not yet looked into is on a stack (shaded), one of each collecting thread and of each nursery.
 *   - A store of an old object into an old one shades the former (shadeStore), since the latter may have been looked into already.
 *   - Each minor collection shades the old objects that its roots and young objects refer to.  What has become old in it is marked, and was looked into.
 *   - When the marking begins, the roots that minor collections leave out are visited: stable pointers, static thunks, threads that rest.  A thread that runs later
 *     is dirty, and scanned by the next minor collection.
 *   - When a slice finds nothing left to look into, it looks at weak pointers and weak tables, once in a cycle: what lives by keys that are marked is marked then
 *     (GcTable.visitEarly), and need not be in the last pause.
 *   - When that has been followed, the next minor collection makes everything old that is young.  So no slot is remembered when dead objects lose their places: one
 *     of theirs would be found in somebody else's object.  In the pause of that collection the marking ends: nothing young refers to an old object that is not
 *     marked; stable pointers and static thunks are visited once more; then what is shaded is followed to its end.
 * Threads that are blocked for ever are not looked for: copying collections of everything do that, those that are asked for and those of an idle program.
 *
 * Where memory for the stack is refused, and a small reserve is full, what is marked is looked at once more, in the last pause, until nothing new is found (Knuth).
 *
 * Marks are bits beside the heap (block.h), for large groups the flag REACHED; pinned ones have both (pinned.h).
 * See: Dijkstra, Lamport et al., On-the-fly garbage collection, 1978; Blackburn, McKinley: Immix, 2008, for filling holes. */
#ifndef GC_MARK_H
#define GC_MARK_H

#include "gc/gct.h"

/* There is a new heap, or none: nothing is being marked. */
void resetMarking(void);
/* A marking begins, before the minor collection that starts it: no mark is set. */
void beginMarking(Nursery *const *nurseries, unsigned count);
/* After a minor collection: look at roots, if it was the first; do a slice; finish, if nothing is left.  true: it is over, and dead objects are gone. */
bool continueMarking(Nursery *const *nurseries, unsigned count);
/* The minor collection that is about to begin must make everything old that is young: the cycle ends with it. */
bool isMarkingEnding(void);
/* Everything is old by now, and nothing is being marked: the whole, in one pause, without any memory. */
void markInPlace(Nursery *const *nurseries, unsigned count);
/* All is going to be copied instead. */
void abandonMarking(Nursery *const *nurseries, unsigned count);

/* Remember to look into an old object that has been marked. */
void pushShaded(RememberedSet *set, StgClosure *obj);
/* A large object or a pinned array, old, was reached. */
void shadeGroup(GcThread *g, StgClosure *obj);

/* Let s be a hole of so many words at least, in an old block of that row.  false: there is none. */
bool takeHole(Space *s, unsigned row, size_t words);
/* No holes are filled any more. */
void forgetHoles(void);

#endif

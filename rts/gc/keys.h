/* gc/keys.h: keys that were not reached yet, by address, with what is to be visited when one is.
 *
 * What lives by keys (values of weak pointers, of weak tables' entries) is found in passes: each looks at all whose keys were not reached, and visits what the
 * others lead to (GcTable.visitLive).  That is cheap, and hardly ever takes more than two or three.  But where keys are reached from each other's values in no
 * particular order, each pass finds a few: then time grows with the square of their number.  So after some passes that still found something (PASSES) an index is
 * made, once, of all keys that are left, and dropped when nothing new is reached through it:
 *
 *   1. Everything that was visited has been followed: nobody copies or marks anything, helpers (crew.h) have no work.  The leader lets the tables name their keys
 *      (GcTable.await, awaitKey), makes the index, and says that keys are awaited.
 *   2. From then on whoever reaches an object (copies it, sets its mark) looks it up; if it is awaited, he pushes what waits for it on a list, unless another has,
 *      who copies it at the same moment.  The index does not change meanwhile.  A helper knows that keys are awaited when he gets work: he takes it under a lock
 *      under which the leader, or who got work from him, has put it there later.  Who takes something off the list may not see the forwarding address yet; but
 *      the object is reached for certain.
 *   3. The leader takes what is on the list, visits what lives by it, and follows that.  When the list is empty and all has been followed, the index goes.
 *
 * Then passes go on.  They are what decides: they update keys and lists, and find what the index missed.  So it may know too little: where memory for it is
 * refused there is none, and such a chain takes the passes that it takes.
 *
 * What has to be reached for a key to live: the key; through indirections and finished thunks, what they stand for; in minor collections, for a pinned array,
 * its block.  Cost: 56 bytes and about two misses for each key, and one for each object that is reached while there is an index. */
#ifndef GC_KEYS_H
#define GC_KEYS_H

#include "gc/heap.h"

#include <stdatomic.h>

/* Passes that found something before there is an index, and before there is another. */
#ifdef CAPSTAN_TORTURE
#define PASSES 1
#else
#define PASSES 3
#endif

extern _Atomic bool keysAwaited; /* written by the leader while nobody else has work */
static inline bool areKeysAwaited(void) { return atomic_load_explicit(&keysAwaited, memory_order_relaxed); }

/* All tables' keys that are left: visit what lives by them, as far as that can be found.  Context: the leader, when all that was visited has been followed. */
void followKeys(Visitor *v);
/* An object, or anything in the group that begins here, is reached.  Context: keys are awaited. */
void noteReached(const void *start);

#endif

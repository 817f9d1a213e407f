/* gc/pinned.h: which byte arrays of pinned blocks live.
 *
 * A pinned block lives as a whole.  Copying everything, and marking, set the marks of the arrays that they reach all the same; when that is over the block is
 * *judged*: what lies below Block.judged and has no mark is dead, and its bytes may be overwritten.  Its header stays, so that the next one is found.  What
 * was made since is not judged.  Minor collections judge nothing: between two of the others marks only become more.
 *
 * Ownership: [stopped]; marks of pinned arrays are set by tryMark. */
#ifndef GC_PINNED_H
#define GC_PINNED_H

#include "gc/heap.h"

/* Arrays start at multiples of 16, so that the bytes behind two header words do too. */
static inline size_t evenWords(size_t words) { return (words + 1) & ~(size_t)1; }

/* All lists of pinned blocks, those that nurseries fill, too. */
void eachPinned(Nursery *const *nurseries, unsigned count, void (*f)(Block *list));
/* Of each block of a list: nothing is marked, nothing judged. */
void forgetJudgement(Block *list);
/* All that lives is marked: judge them. */
void judgePinned(Block *list);
/* Overwrite the bytes of arrays that are known to be dead. */
void clearDeadPinned(Block *list);

#endif

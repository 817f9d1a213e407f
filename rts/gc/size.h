/* gc/size.h: when to collect, how much of the heap, by how many, and how much memory to keep. */
#ifndef GC_SIZE_H
#define GC_SIZE_H

#include "gc/heap.h"

/* Of one capability's allocation area. */
size_t nurseryBlocksOf(const HeapSettings *settings);
/* Of a heap with a limit of so many bytes. */
size_t limitBlocksOf(size_t bytes);
/* The least limit with which so many capabilities have room for anything at all.  That of the settings, if there is one, does not count. */
size_t leastLimit(const HeapSettings *settings);
/* After a collection: what makes the next one due.  old: it is known anew how much of the old objects lives. */
void setThresholds(unsigned nurseries, bool old);
/* Must, or should, the collection that is about to begin be a major one? */
bool isTimeForMajor(Nursery *const *nurseries, unsigned count);
/* Should a marking of the old objects begin? */
bool isTimeToMark(void);
/* So few words live in so many blocks of small objects that they should be copied, once: the holes are too small for what becomes old. */
bool isFragmented(size_t blocks, size_t words);
/* How many threads besides the leader may take part, where so many bytes are young. */
unsigned helpersFor(size_t young, bool minor, unsigned count);
/* So much to do that it is worth waking threads for. */
bool isBigCollection(size_t young, bool minor);
/* What a collection copied, of so many young bytes if it was a minor one, in so many nanoseconds of the leader's processor: for the next one's guess. */
void noteCopied(size_t bytes, size_t young, uint64_t ns, bool minor);
/* Most of what was young survived last time: the next minor collection should make everything old, rather than copy it twice. */
bool doMostSurvive(void);
/* Empty blocks that each nursery keeps after a collection. */
size_t blocksToKeep(unsigned nurseries, bool minor);
/* Free memory that is kept from the operating system after a collection. */
size_t keepBytes(unsigned nurseries);

#endif

#include "gc/size.h"

#include "gc/gct.h"

/* A thread costs a major collection about as much as so many bytes of live data. */
#define THREAD_BYTES 256
/* With less than this to copy another thread costs more than it brings; with more than that it pays to wake one. */
#define BYTES_TO_SHARE  ((size_t)256 << 10)
#define BYTES_TO_INVITE ((size_t)2 << 20)

/* What the copying of a minor collection should take at most; and while old objects are marked, which has the rest of the pause, and is to keep up. */
#define COPYING_NANOS         10000000
#define COPYING_NANOS_MARKING 3000000
/* A heap with more live data than this is marked, which takes no long pause, rather than copied. */
#ifdef CAPSTAN_TORTURE
#define MARKED_HEAP_BYTES 0
#else
#define MARKED_HEAP_BYTES ((size_t)8 << 20)
#endif

static size_t threadWords(void) { return gcThreads.count == NULL ? 0 : gcThreads.count() * (THREAD_BYTES / sizeof(StgWord)); }
static size_t externalWords(void) { return heap.externalBytes / sizeof(StgWord); }

static bool isMarkedHeap(size_t words) { return words * sizeof(StgWord) > MARKED_HEAP_BYTES; }
static size_t oldWords(void) { return heap.oldWords + externalWords(); }

/* Marking begins early enough to end before the heap has doubled; if it cannot keep up, everything is copied after all.  What became old while objects were
 * marked has not been looked at: of a cycle in which much did, the next one begins at once. */
static void setOldThresholds(size_t youngWords)
{
    size_t live = oldWords(), cost = live + threadWords(), growth = cost > 4 * youngWords ? cost : 4 * youngWords;
    heap.oldAt = live + (isMarkedHeap(live) ? growth / 4 : growth) - heap.unseenWords;
    heap.majorAt = live + 4 * growth;
}

/* About what caches hold; less in a small heap. */
#define NURSERY_BYTES ((size_t)4 << 20)
#define LEAST_NURSERY ((size_t)64 << 10)

static size_t nurseryBytes(const HeapSettings *s)
{
    if (s->nurseryBytes != 0) return s->nurseryBytes;
    size_t share = s->limitBytes / s->capabilities / 16;
    return s->limitBytes == 0 || share > NURSERY_BYTES ? NURSERY_BYTES : share < LEAST_NURSERY ? LEAST_NURSERY : share;
}

size_t nurseryBlocksOf(const HeapSettings *s) { return (nurseryBytes(s) + BLOCK_BYTES - 1) / BLOCK_BYTES; }

/* Descriptors and a megablock that is filling up are the heap's too. */
size_t limitBlocksOf(size_t bytes) { return bytes == 0 ? 0 : (bytes / MEGABLOCK_BYTES - 1) * (MEGABLOCK_BLOCKS - 1); }

/* What a capability has before anything lives: its reserve, the block being filled, one of pinned byte arrays. */
#define BLOCKS_EACH (RESERVE_BLOCKS + 2)

static bool isEnough(const HeapSettings *s)
{
    size_t blocks = s->capabilities * BLOCKS_EACH + slackOf(nurseryBlocksOf(s));
    return blocks + COPY_SPACE(blocks) <= limitBlocksOf(s->limitBytes);
}

size_t leastLimit(const HeapSettings *s)
{
    HeapSettings try = *s;
    for (try.limitBytes = 2 * MEGABLOCK_BYTES; !isEnough(&try);) try.limitBytes += MEGABLOCK_BYTES;
    return try.limitBytes;
}

/* With much that lives, more may be allocated between collections, since then fewer of the objects that die soon survive one: twice what lives, up to so many
 * times as much as usual.  With more, areas leave the last cache, and dead objects are a quarter of the peak. */
#define MOST_YOUNG 3
static size_t youngBlocks(unsigned nurseries)
{
    size_t least = heap.nurseryBlocks * nurseries, young = 2 * heap.oldWords / BLOCK_WORDS;
    if (!heap.adaptive || young < least) return least;
    return young < MOST_YOUNG * least ? young : MOST_YOUNG * least;
}

/* Where most objects survive, collecting more often makes the pauses shorter and costs little.  What few objects cost says little about many: unless
 * a size was asked for, at most twice as much as before is allocated. */
static size_t shortened(size_t young)
{
    size_t least = young / 16, most = heap.adaptive ? 2 * heap.lastAllocated : young;
    uint64_t nanos = heap.marking ? COPYING_NANOS_MARKING : COPYING_NANOS;
    if (heap.lastCopying > nanos / 2) most = (size_t)((double)heap.lastAllocated * (double)nanos / (double)heap.lastCopying);
    return most > young ? young : most < least ? least : most;
}

void setThresholds(unsigned nurseries, bool old)
{
    size_t young = youngBlocks(nurseries);
    heap.lastAllocated = heap.allocated;
    heap.allocated = 0;
    heap.threshold = shortened(young);
    if (old) setOldThresholds(heap.nurseryBlocks * nurseries * BLOCK_WORDS);
    if (heap.limitBlocks == 0) return;
    /* Collect before the limit is reached rather than at it, where allocation falls back on the reserve. */
    size_t used = heap.movable + COPY_SPACE(heap.movable) + heap.fixed;
    size_t left = used < heap.limitBlocks ? (heap.limitBlocks - used) * 3 / 7 : 0;
    if (heap.threshold > left - left / 8) heap.threshold = left - left / 8;
    /* But not for every few objects: with so little left the heap counts as full. */
    if (heap.threshold < SLACK_BLOCKS) heap.threshold = SLACK_BLOCKS;
}

bool isTimeForMajor(Nursery *const *nurseries, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (nurseries[i]->overflowed || nurseries[i]->refused) return true;
    size_t old = oldWords();
    return heap.wantMajor || heap.forgot || old >= heap.majorAt || (old >= heap.oldAt && !isMarkedHeap(old));
}

/* Filling holes keeps it at about two, where objects of like sizes take each other's places. */
#define MOST_FRAGMENTED 4
#define FRAGMENTED_SLACK ((size_t)4 << 20)
bool isFragmented(size_t blocks, size_t words) { return blocks * BLOCK_BYTES > MOST_FRAGMENTED * words * sizeof(StgWord) + FRAGMENTED_SLACK; }

bool isTimeToMark(void) { return !heap.marking && oldWords() >= heap.oldAt; }

/* As large a part of what is young as lived the last time; at first, half. */
static size_t bytesToCopy(size_t young, bool minor)
{
    size_t copied = young / 2;
    if (heap.lastYoung != 0) copied = (size_t)((double)young * (double)heap.lastCopied / (double)heap.lastYoung);
    return minor ? copied : heap.oldWords * sizeof(StgWord) + copied;
}

unsigned helpersFor(size_t young, bool minor, unsigned count)
{
    unsigned most = count < MAX_COLLECTORS ? count : MAX_COLLECTORS;
#ifndef CAPSTAN_TORTURE
    size_t worth = bytesToCopy(young, minor) / BYTES_TO_SHARE;
    if (worth + 1 < most) most = (unsigned)worth + 1;
#endif
    return most - 1;
}

bool isBigCollection(size_t young, bool minor) { return bytesToCopy(young, minor) >= BYTES_TO_INVITE; }

void noteCopied(size_t bytes, size_t young, uint64_t ns, bool minor)
{
    /* After a major collection there is nothing aged to copy: half of what the last minor one had will do for a guess. */
    heap.lastCopied = minor ? bytes : heap.lastCopied / 2;
    heap.lastYoung = minor ? young : heap.lastYoung / 2;
    heap.lastCopying = minor ? ns : heap.lastCopying / 2;
}

/* Of little it does not matter. */
bool doMostSurvive(void) { return heap.lastCopied >= BYTES_TO_SHARE && heap.lastCopied >= heap.lastYoung / 4 * 3; }

/* Major ones are rare, or there is little to do. */
size_t blocksToKeep(unsigned nurseries, bool minor)
{
    size_t share = heap.threshold / nurseries;
    return !minor || share < heap.nurseryBlocks ? heap.nurseryBlocks : share;
}

size_t keepBytes(unsigned nurseries)
{
    size_t live = heap.oldWords * sizeof(StgWord);
    return live + 2 * youngBlocks(nurseries) * BLOCK_BYTES + ((size_t)4 << 20);
}

#include "gc/size.h"

#include "gc/gct.h"

/* A thread costs a major collection about as much as so many bytes of live data. */
#define THREAD_BYTES 256
/* With less than this to copy another thread costs more than it brings; with more than that it pays to wake one. */
#define BYTES_TO_SHARE  ((size_t)256 << 10)
#define BYTES_TO_INVITE ((size_t)2 << 20)
/* The old generation may grow to so many times its live size before a major collection. */
#define GROWTH 2

static size_t threadBlocks(void) { return gcThreads.count == NULL ? 0 : gcThreads.count() * THREAD_BYTES / BLOCK_BYTES; }
static size_t externalBlocks(void) { return heap.externalBytes / BLOCK_BYTES; }

void setThresholds(unsigned nurseries, bool major)
{
    size_t young = heap.nurseryBlocks * nurseries;
    heap.allocated = 0;
    heap.threshold = young;
    if (major) {
        size_t old = heap.oldBlocks + externalBlocks() + threadBlocks(), least = 4 * young;
        heap.majorAt = GROWTH * old > old + least ? GROWTH * old : old + least;
        heap.majorAt -= threadBlocks();
        heap.wantMajor = heap.forgot = false;
    }
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
    return heap.wantMajor || heap.forgot || heap.oldBlocks + externalBlocks() >= heap.majorAt;
}

static size_t bytesToCopy(bool minor) { return minor ? heap.lastCopied : heap.oldBlocks * BLOCK_BYTES + heap.lastCopied; }

unsigned helpersFor(bool minor, unsigned count)
{
    unsigned most = count < MAX_COLLECTORS ? count : MAX_COLLECTORS;
#ifndef CAPSTAN_TORTURE
    size_t worth = bytesToCopy(minor) / BYTES_TO_SHARE;
    if (worth + 1 < most) most = (unsigned)worth + 1;
#endif
    return most - 1;
}

bool isBigCollection(bool minor) { return bytesToCopy(minor) >= BYTES_TO_INVITE; }

void noteCopied(size_t bytes, bool minor)
{
    /* After a major collection there is nothing aged to copy: half of what the last minor one had will do for a guess. */
    heap.lastCopied = minor ? bytes : heap.lastCopied / 2;
}

size_t keepBytes(unsigned nurseries)
{
    size_t live = (heap.oldBlocks + heap.fixed) * BLOCK_BYTES;
    return live + 2 * nurseries * heap.nurseryBlocks * BLOCK_BYTES + ((size_t)4 << 20);
}

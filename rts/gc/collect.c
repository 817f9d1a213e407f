/* One collection, from beginning to end. */
#include "base/report.h"
#include "gc/heap.h"
#include "gc/nursery.h"
#include "os/memory.h"
#include "os/os.h"

#include <string.h>

#define POISON_WORD ((StgWord)0xdbdbdbdbdbdbdbd8u)

#define THREAD_BYTES 256

static void setThreshold(unsigned nurseries)
{
    /* A thread costs a collection about as much as so many bytes of live data. */
    size_t threads = gcThreads.count == NULL ? 0 : gcThreads.count() * THREAD_BYTES / BLOCK_BYTES;
    size_t live = heap.movable + heap.fixed + threads, young = heap.nurseryBlocks * nurseries;
    heap.threshold = live > young ? live : young;
    heap.allocated = 0;
    if (heap.limitBlocks == 0) return;
    /* Collect before the limit is reached rather than at it, where allocation falls back on the reserve. */
    size_t used = heap.movable + COPY_SPACE(heap.movable) + heap.fixed;
    size_t left = used < heap.limitBlocks ? (heap.limitBlocks - used) * 3 / 7 : 0;
    if (heap.threshold > left - left / 8) heap.threshold = left - left / 8;
    /* But not for every few objects: with so little left the heap counts as full. */
    if (heap.threshold < SLACK_BLOCKS) heap.threshold = SLACK_BLOCKS;
}

bool initHeap(const HeapSettings *s, const RootScanner *scanners, const GcTable *const *tables)
{
    if (!initBlocks(s->limitBytes)) return false;
    memset(&heap, 0, sizeof heap);
    heap.nurseryBlocks = (s->nurseryBytes + BLOCK_BYTES - 1) / BLOCK_BYTES;
    /* Descriptors and a megablock that is filling up are the heap's too. */
    heap.limitBlocks = s->limitBytes == 0 ? 0 : (s->limitBytes / MEGABLOCK_BYTES - 1) * (MEGABLOCK_BLOCKS - 1);
    heap.verify = s->verify;
    heap.poison = s->poison;
    heap.scanners = scanners;
    heap.tables = tables;
    setThreshold(1);
    return true;
}

void freeHeap(void)
{
    runExternalReleases(true);
    freeAllBlocks();
    memset(&heap, 0, sizeof heap);
}

void forgetHeap(bool whole)
{
    if (whole) freeAllBlocks();
    else forgetAllBlocks();
    memset(&heap, 0, sizeof heap);
}

static void visitRoots(Visitor *v)
{
    for (const RootScanner *scan = heap.scanners; *scan != NULL; scan++) (*scan)(v);
}

static void followLive(Visitor *v)
{
    bool more;
    do {
        scavengeAll();
        more = false;
        for (const GcTable *const *t = heap.tables; *t != NULL; t++)
            if ((*t)->visitLive != NULL) more |= (*t)->visitLive(v);
    } while (more);
}

static void visitDead(Visitor *v)
{
    for (const GcTable *const *t = heap.tables; *t != NULL; t++)
        if ((*t)->visitDead != NULL) (*t)->visitDead(v);
    followLive(v);
}

static void sweepTables(bool minor)
{
    for (const GcTable *const *t = heap.tables; *t != NULL; t++)
        if ((*t)->sweep != NULL) (*t)->sweep(minor);
}

static size_t markFrom(Block *list)
{
    size_t words = 0;
    for (Block *b = list; b != NULL; b = b->link) {
        b->flags |= BLOCK_FROM;
        words += (size_t)(b->free - b->start);
    }
    return words;
}

/* Torture builds keep the old space inaccessible until the next collection, so that a stale pointer faults. */
static void freeFromBlock(Block *b)
{
    heap.movable--;
#ifdef CAPSTAN_TORTURE
    b->link = heap.quarantine;
    heap.quarantine = b;
    osDecommit(b->start, BLOCK_BYTES);
#else
    if (heap.poison)
        for (StgWord *p = b->start; p < b->free; p++) *p = POISON_WORD;
    freeBlocks(b);
#endif
}

static void emptyQuarantine(void)
{
    while (heap.quarantine != NULL) {
        Block *b = heap.quarantine;
        heap.quarantine = b->link;
        if (osCommit(b->start, BLOCK_BYTES)) freeBlocks(b);
    }
}

/* Free the unmarked groups of a list, unmark the others; returns the bytes that stay. */
static size_t sweepGroups(Block **link)
{
    size_t bytes = 0;
    while (*link != NULL) {
        Block *b = *link;
        if (b->flags & BLOCK_MARKED) {
            b->flags &= ~(uint32_t)BLOCK_MARKED;
            bytes += (size_t)(b->free - b->start) * sizeof(StgWord);
            link = &b->link;
        } else {
            *link = b->link;
            heap.fixed -= blocksForGroup(b->blocks);
            freeBlocks(b);
        }
    }
    return bytes;
}

static void freeFromSpace(Block *from)
{
    while (from != NULL) {
        Block *b = from;
        from = b->link;
        freeFromBlock(b);
    }
}

static void countSurvivors(void)
{
    for (Block *b = heap.survivors; b != NULL; b = b->link) heap.movable++;
}

static void verify(const char *when)
{
    size_t bad = 0;
    if (heap.verify) verifyHeap(&bad);
    if (bad != 0) logLine(RTS_LOG_ERROR, "heap check %s the collection: %zu objects are broken", when, bad);
    ASSERT(bad == 0);
}

bool collectHeap(Nursery *const *nurseries, unsigned count, RtsCollection *out)
{
    emptyQuarantine();
    for (unsigned i = 0; i < count; i++) syncNursery(nurseries[i]);
    size_t words = 0;
    for (Block *b = heap.survivors; b != NULL; b = b->link) words += (size_t)(b->free - b->start);
    for (unsigned i = 0; i < count; i++)
        for (Block *b = nurseries[i]->blocks; b != NULL; b = b->link) words += (size_t)(b->free - b->start);
    size_t worst = words / (BLOCK_WORDS - LARGE_WORDS) + 2;
    if (!ensureFreeBlocks(worst)) return false;
    verify("before");
    for (unsigned i = 0; i < count; i++) emptyNursery(nurseries[i]);

    Block *from = heap.survivors;
    out->allocated_bytes = heap.allocated * BLOCK_BYTES;
    markFrom(from);
    heap.survivors = NULL;
    beginEvacuation();
    gcThreads.begin();
    Visitor v = { evacuate, false };
    visitRoots(&v);
    followLive(&v);
    visitDead(&v);
    while (gcThreads.revive()) followLive(&v);
    gcThreads.sweep(false);
    sweepTables(false);
    out->copied_bytes = endEvacuation() * sizeof(StgWord);
    freeFromSpace(from);
    countSurvivors();
    heap.liveBytes = out->copied_bytes + sweepGroups(&heap.large) + sweepGroups(&heap.pinned);
    out->live_bytes = heap.liveBytes;
    for (unsigned i = 0; i < count; i++) refillReserve(nurseries[i]);
    setThreshold(count);
    trimBlocks(2 * heap.liveBytes + 2 * count * heap.nurseryBlocks * BLOCK_BYTES + (4u << 20));
    out->heap_bytes = committedBytes();
    verify("after");
    return true;
}

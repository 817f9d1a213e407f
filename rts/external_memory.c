/* Memory outside the heap that objects keep: how much there is, and when that is a reason to collect.
 *
 * heap.externalBytes is what the collector's sizing counts.  Here: what was added since the last collection. */
#include "language.h"

#include "os/memory.h"

/* So much more asks for a collection, or as much as a quarter of all that lives. */
#define MUCH ((size_t)8 << 20)

static _Atomic size_t added; /* since the last collection, less what was taken back since */

static size_t muchNow(void)
{
    size_t quarter = (heap.liveBytes + atomic_load_explicit(&heap.externalBytes, memory_order_relaxed)) / 4;
    return quarter > MUCH ? quarter : MUCH;
}

/* Up, but not so far that sums of it and of what the heap holds could wrap around.  Returns what it is then. */
#define MOST ((size_t)PTRDIFF_MAX)
static size_t addTo(_Atomic size_t *count, size_t bytes)
{
    size_t before = atomic_load_explicit(count, memory_order_relaxed), after;
    do after = bytes < MOST - before ? before + bytes : MOST;
    while (!atomic_compare_exchange_weak_explicit(count, &before, after, memory_order_relaxed, memory_order_relaxed));
    return after;
}

static void noteAdded(Capability *cap, size_t bytes)
{
    size_t now = addTo(&added, bytes);
    if (cap == NULL || cap->dead != RTS_OK) return;
    if (isHeapOverLimit()) {
        /* As if it had come out of the reserve: HeapOverflow, unless a collection helps. */
        cap->nursery.overflowed = true;
        heap.wantMajor = true;
        heap.cause = RtsGcMemory;
    } else if (now < muchNow()) {
        return;
    } else {
        heap.cause = RtsGcExternal;
    }
    cap->nursery.wantCollection(&cap->nursery);
}

/* Down, but not below zero. */
static void takeFrom(_Atomic size_t *count, size_t bytes)
{
    size_t before = atomic_load_explicit(count, memory_order_relaxed), after;
    do after = before > bytes ? before - bytes : 0;
    while (!atomic_compare_exchange_weak_explicit(count, &before, after, memory_order_relaxed, memory_order_relaxed));
}

void rts_externalMemory(Capability *cap, ptrdiff_t bytes)
{
    if (bytes < 0) {
        easeHeap(-(size_t)bytes); /* first: a collection in between counts these bytes as in use rather than twice as given back */
        takeFrom(&heap.externalBytes, -(size_t)bytes);
        takeFrom(&added, -(size_t)bytes);
        noteReleased();
    } else if (bytes > 0) {
        addTo(&heap.externalBytes, (size_t)bytes);
        noteAdded(cap, (size_t)bytes);
    }
}

size_t rts_getExternalMemory(void) { return atomic_load_explicit(&heap.externalBytes, memory_order_relaxed); }

static void sweepAdded(bool minor) { atomic_store_explicit(&added, 0, memory_order_relaxed); }

const GcTable externalMemoryTable = { .sweep = sweepAdded };

void initExternalMemory(void) { atomic_store_explicit(&added, 0, memory_order_relaxed); }

/* ---- Byte arrays that are counted ---- */

typedef struct {
    void (*release)(void *ctx, void *bytes);
    void *ctx;
    size_t length;
} Counted;

static void releaseCounted(void *arg, void *bytes)
{
    Counted c = *(Counted *)arg;
    rtsFree(arg);
    rts_externalMemory(NULL, c.length > PTRDIFF_MAX ? PTRDIFF_MIN : -(ptrdiff_t)c.length);
    if (c.release != NULL) c.release(c.ctx, bytes);
}

HaskellObj rts_mkBytesExternalCounted(Capability *cap, void *bytes, size_t length, void (*release)(void *ctx, void *bytes), void *ctx)
{
    Counted *c = cap->dead != RTS_OK ? NULL : rtsMalloc(sizeof *c);
    if (c == NULL) {
        if (cap->dead == RTS_OK) refuseAllocation(&cap->nursery, sizeof *c);
        if (release != NULL) release(ctx, bytes);
        return CAPSTAN_POISON;
    }
    *c = (Counted){ release, ctx, length };
    rts_externalMemory(cap, length > PTRDIFF_MAX ? PTRDIFF_MAX : (ptrdiff_t)length);
    return rts_mkBytesExternal(cap, bytes, length, releaseCounted, c);
}

#include "stable_ptr.h"

#include "base/lock.h"
#include "os/memory.h"

#include <stdatomic.h>

#define CHUNK0_SHIFT 6
#define MAX_CHUNKS   26
#define GENERATIONS  0x7fffffu
#define LISTED       1u

typedef struct {
    _Atomic StgWord value;        /* 0: free */
    _Atomic uint32_t link;        /* number + 1 of the next free entry */
    _Atomic uint32_t marks;       /* generation * 2 + LISTED */
} Entry;

/* For each entry there is a place in the list of young ones, so that appending needs no memory. */
typedef struct {
    _Atomic uint32_t *young;
    Entry entries[];
} Chunk;

static struct {
    Lock lock;                          /* growing */
    _Atomic(Chunk *) chunks[MAX_CHUNKS];/* never change once set */
    _Atomic uint32_t size;              /* entries in all chunks */
    _Atomic uint64_t freeHead;          /* low half: number + 1 of the first free entry; high half: count of changes */
    _Atomic uint64_t used;
    _Atomic uint32_t youngCount;        /* numbers in the list of young ones */
} table = { .lock = LOCK_INIT(RANK_STABLE) };

/* Chunk k begins at entry (CHUNK0 << k) - CHUNK0. */
static Chunk *chunkOf(uint32_t number, uint32_t *within)
{
    uint32_t biased = number + (1u << CHUNK0_SHIFT);
    unsigned k = 31u - (unsigned)__builtin_clz(biased) - CHUNK0_SHIFT;
    *within = biased - (1u << (CHUNK0_SHIFT + k));
    return atomic_load_explicit(&table.chunks[k], memory_order_acquire);
}

static Entry *entryAt(uint32_t number)
{
    uint32_t within;
    Chunk *chunk = chunkOf(number, &within);
    return &chunk->entries[within];
}

static _Atomic uint32_t *youngAt(uint32_t place)
{
    uint32_t within;
    Chunk *chunk = chunkOf(place, &within);
    return &chunk->young[within];
}

static uint32_t generationOf(Entry *e) { return atomic_load_explicit(&e->marks, memory_order_relaxed) >> 1; }
static bool isListed(Entry *e) { return (atomic_load_explicit(&e->marks, memory_order_relaxed) & LISTED) != 0; }

static StgStablePtr makeName(uint32_t number, uint32_t generation)
{
    return (StgStablePtr)((((StgWord)(generation & GENERATIONS) << 32 | (number + 1u)) << 3));
}

/* The entry that a name names, or NULL. */
static Entry *findEntry(StgStablePtr sp)
{
    StgWord bits = (StgWord)sp;
    uint32_t number = (uint32_t)(bits >> 3) - 1u;
    if ((bits & 7) != 0 || number >= atomic_load_explicit(&table.size, memory_order_acquire)) return NULL;
    Entry *e = entryAt(number);
    return ((bits >> 35) & GENERATIONS) == (generationOf(e) & GENERATIONS) ? e : NULL;
}

static void pushFree(Entry *e, uint32_t number)
{
    uint64_t head = atomic_load_explicit(&table.freeHead, memory_order_relaxed), next;
    do {
        atomic_store_explicit(&e->link, (uint32_t)head, memory_order_relaxed);
        next = ((head >> 32) + 1) << 32 | (number + 1u);
        /* Release: pairs with popFree's acquire, for the link, and for the marks. */
    } while (!atomic_compare_exchange_weak_explicit(&table.freeHead, &head, next, memory_order_release,
                                                    memory_order_relaxed));
}

/* The number of an entry taken from the free list; UINT32_MAX: it is empty. */
static uint32_t popFree(void)
{
    uint64_t head = atomic_load_explicit(&table.freeHead, memory_order_acquire), next;
    do {
        if ((uint32_t)head == 0) return UINT32_MAX;
        uint32_t link = atomic_load_explicit(&entryAt((uint32_t)head - 1u)->link, memory_order_relaxed);
        next = ((head >> 32) + 1) << 32 | link;
    } while (!atomic_compare_exchange_weak_explicit(&table.freeHead, &head, next, memory_order_acq_rel,
                                                    memory_order_acquire));
    return (uint32_t)head - 1u;
}

static Chunk *newChunk(uint32_t entries)
{
    size_t bytes = sizeof(Chunk) + entries * sizeof(Entry);
    Chunk *chunk = rtsCalloc(1, bytes + entries * sizeof(uint32_t));
    if (chunk != NULL) chunk->young = (_Atomic uint32_t *)(void *)((char *)chunk + bytes);
    return chunk;
}

static bool grow(void)
{
    acquireLock(&table.lock);
    bool ok = true;
    if ((uint32_t)atomic_load(&table.freeHead) == 0) {
        uint32_t size = table.size, entries = size + (1u << CHUNK0_SHIFT);
        unsigned k = 31u - (unsigned)__builtin_clz(entries) - CHUNK0_SHIFT;
        Chunk *chunk = k < MAX_CHUNKS ? newChunk(entries) : NULL;
        ok = chunk != NULL;
        if (ok) {
            atomic_store_explicit(&table.chunks[k], chunk, memory_order_release);
            atomic_store_explicit(&table.size, size + entries, memory_order_release);
            for (uint32_t i = entries; i-- > 0;) pushFree(&chunk->entries[i], size + i);
        }
    }
    releaseLock(&table.lock);
    return ok;
}

/* Context: the caller owns the entry and holds a capability. */
static void listYoung(Entry *e, uint32_t number)
{
    if (isListed(e)) return;
    /* Acquire, release: the chunk that the place is in may be newer than the entry's; who listed an entry of it came before. */
    uint32_t place = atomic_fetch_add_explicit(&table.youngCount, 1, memory_order_acq_rel);
    atomic_store_explicit(youngAt(place), number, memory_order_relaxed);
    atomic_fetch_or_explicit(&e->marks, LISTED, memory_order_relaxed);
}

StgStablePtr newStablePtr(HaskellObj obj)
{
    uint32_t number;
    while ((number = popFree()) == UINT32_MAX)
        if (!grow()) return NULL;
    Entry *e = entryAt(number);
    atomic_fetch_add_explicit(&table.used, 1, memory_order_relaxed);
    if (isYoung(obj)) listYoung(e, number);
    /* Release: pairs with readStablePtr, for the object's contents, and with dropStablePtr, for the marks. */
    atomic_store_explicit(&e->value, (StgWord)obj, memory_order_release);
    return makeName(number, generationOf(e));
}

HaskellObj readStablePtr(StgStablePtr sp)
{
    Entry *e = findEntry(sp);
    StgWord value = e == NULL ? 0 : atomic_load_explicit(&e->value, memory_order_acquire);
    return value == 0 ? CAPSTAN_POISON : (HaskellObj)value;
}

bool dropStablePtr(StgStablePtr sp)
{
    Entry *e = findEntry(sp);
    if (e == NULL || atomic_exchange_explicit(&e->value, 0, memory_order_acquire) == 0) return false;
    /* The next generation; the collector may be clearing LISTED. */
    atomic_fetch_add_explicit(&e->marks, 2, memory_order_relaxed);
    atomic_fetch_sub_explicit(&table.used, 1, memory_order_relaxed);
    pushFree(e, (uint32_t)((StgWord)sp >> 3) - 1u);
    return true;
}

/* ---- Collections ---- */

static void scanEntry(Visitor *v, Entry *e)
{
    StgWord before = atomic_load_explicit(&e->value, memory_order_relaxed);
    if (before == 0) return;
    HaskellObj now = (HaskellObj)before;
    visitRoot(v, &now);
    if ((StgWord)now != before)
        atomic_compare_exchange_strong_explicit(&e->value, &before, (StgWord)now, memory_order_relaxed,
                                                memory_order_relaxed);
    if (v->checks && isYoung(now) && !isListed(e)) v->missed(v, e, "a stable pointer to it is not in the list of young ones");
}

static uint32_t beginOfPart(uint32_t all, unsigned part, unsigned parts) { return (uint32_t)((uint64_t)all * part / parts); }

static void scanStablePtrs(Visitor *v, unsigned part, unsigned parts)
{
    uint32_t all = atomic_load_explicit(v->minor ? &table.youngCount : &table.size, memory_order_acquire);
    uint32_t end = beginOfPart(all, part + 1, parts);
    for (uint32_t i = beginOfPart(all, part, parts); i < end; i++)
        scanEntry(v, entryAt(v->minor ? atomic_load_explicit(youngAt(i), memory_order_relaxed) : i));
}

/* What was written back is where the object is now. */
static void sweepYoung(bool minor)
{
    uint32_t kept = 0, all = atomic_load_explicit(&table.youngCount, memory_order_relaxed);
    for (uint32_t i = 0; i < all; i++) {
        uint32_t number = atomic_load_explicit(youngAt(i), memory_order_relaxed);
        Entry *e = entryAt(number);
        StgWord value = atomic_load_explicit(&e->value, memory_order_relaxed);
        if (value != 0 && isYoung((HaskellObj)value))
            atomic_store_explicit(youngAt(kept++), number, memory_order_relaxed);
        else
            atomic_fetch_and_explicit(&e->marks, ~LISTED, memory_order_relaxed);
    }
    atomic_store_explicit(&table.youngCount, kept, memory_order_relaxed);
}

const GcTable stablePtrTable = { .visitRoots = scanStablePtrs, .sweep = sweepYoung };

/* ---- Exit, counts ---- */

/* The chunks stay: a late hs_free_stable_ptr may still look into them. */
void freeAllStablePtrs(void)
{
    uint32_t size = atomic_load(&table.size);
    for (uint32_t i = 0; i < size; i++) {
        Entry *e = entryAt(i);
        if (atomic_load_explicit(&e->value, memory_order_relaxed) != 0) dropStablePtr(makeName(i, generationOf(e)));
        atomic_fetch_and_explicit(&e->marks, ~LISTED, memory_order_relaxed);
    }
    atomic_store_explicit(&table.youngCount, 0, memory_order_relaxed);
}

uint64_t countStablePtrs(void) { return atomic_load_explicit(&table.used, memory_order_relaxed); }
uint32_t countYoungStablePtrs(void) { return atomic_load_explicit(&table.youngCount, memory_order_relaxed); }

/* Who was in the midst of taking or giving back an entry has lost it; the rest is whole. */
void forgetStablePtrs(void) { renewLock(&table.lock); }

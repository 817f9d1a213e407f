#include "stable_ptr.h"

#include "base/lock.h"
#include "base/report.h"
#include "os/memory.h"

#include <stdatomic.h>
#include <string.h>

#define CHUNK0_SHIFT 6
#define MAX_CHUNKS   26
#define GENERATIONS  0x7fffffu

typedef struct {
    _Atomic StgWord value;        /* 0: free */
    _Atomic uint32_t link;        /* number + 1 of the next free entry */
    _Atomic uint32_t generation;
} Entry;

static struct {
    Lock lock;                          /* growing */
    _Atomic(Entry *) chunks[MAX_CHUNKS];/* never change once set */
    _Atomic uint32_t size;              /* entries in all chunks */
    _Atomic uint64_t freeHead;          /* low half: number + 1 of the first free entry; high half: count of changes */
    _Atomic uint64_t used;
} table = { .lock = LOCK_INIT(RANK_STABLE) };

/* Chunk k begins at entry (CHUNK0 << k) - CHUNK0. */
static Entry *entryAt(uint32_t number)
{
    uint32_t biased = number + (1u << CHUNK0_SHIFT);
    unsigned k = 31u - (unsigned)__builtin_clz(biased) - CHUNK0_SHIFT;
    Entry *chunk = atomic_load_explicit(&table.chunks[k], memory_order_acquire);
    return chunk + (biased - (1u << (CHUNK0_SHIFT + k)));
}

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
    uint32_t generation = atomic_load_explicit(&e->generation, memory_order_relaxed);
    return ((bits >> 35) & GENERATIONS) == (generation & GENERATIONS) ? e : NULL;
}

static void pushFree(Entry *e, uint32_t number)
{
    uint64_t head = atomic_load_explicit(&table.freeHead, memory_order_relaxed), next;
    do {
        atomic_store_explicit(&e->link, (uint32_t)head, memory_order_relaxed);
        next = ((head >> 32) + 1) << 32 | (number + 1u);
        /* Release: pairs with popFree's acquire, for the link. */
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

static bool grow(void)
{
    acquireLock(&table.lock);
    bool ok = true;
    if ((uint32_t)atomic_load(&table.freeHead) == 0) {
        uint32_t size = table.size, entries = size + (1u << CHUNK0_SHIFT);
        unsigned k = 31u - (unsigned)__builtin_clz(entries) - CHUNK0_SHIFT;
        Entry *chunk = k < MAX_CHUNKS ? rtsCalloc(entries, sizeof *chunk) : NULL;
        ok = chunk != NULL;
        if (ok) {
            atomic_store_explicit(&table.chunks[k], chunk, memory_order_release);
            atomic_store_explicit(&table.size, size + entries, memory_order_release);
            for (uint32_t i = entries; i-- > 0;) pushFree(&chunk[i], size + i);
        }
    }
    releaseLock(&table.lock);
    return ok;
}

StgStablePtr newStablePtr(HaskellObj obj)
{
    uint32_t number;
    while ((number = popFree()) == UINT32_MAX)
        if (!grow()) return NULL;
    Entry *e = entryAt(number);
    atomic_fetch_add_explicit(&table.used, 1, memory_order_relaxed);
    /* Release: pairs with readStablePtr, for the object's contents. */
    atomic_store_explicit(&e->value, (StgWord)obj, memory_order_release);
    return makeName(number, atomic_load_explicit(&e->generation, memory_order_relaxed));
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
    if (e == NULL || atomic_exchange_explicit(&e->value, 0, memory_order_relaxed) == 0) return false;
    atomic_fetch_add_explicit(&e->generation, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&table.used, 1, memory_order_relaxed);
    pushFree(e, (uint32_t)((StgWord)sp >> 3) - 1u);
    return true;
}

void scanStablePtrs(Visitor *v)
{
    uint32_t size = atomic_load_explicit(&table.size, memory_order_acquire);
    for (uint32_t i = 0; i < size; i++) {
        Entry *e = entryAt(i);
        StgWord before = atomic_load_explicit(&e->value, memory_order_relaxed);
        if (before == 0) continue;
        HaskellObj now = (HaskellObj)before;
        visitRoot(v, &now);
        if ((StgWord)now != before)
            atomic_compare_exchange_strong_explicit(&e->value, &before, (StgWord)now, memory_order_relaxed,
                                                    memory_order_relaxed);
    }
}

/* The chunks stay: a late hs_free_stable_ptr may still look into them. */
void freeAllStablePtrs(void)
{
    uint32_t size = atomic_load(&table.size);
    for (uint32_t i = 0; i < size; i++) {
        Entry *e = entryAt(i);
        if (atomic_load_explicit(&e->value, memory_order_relaxed) != 0)
            dropStablePtr(makeName(i, atomic_load_explicit(&e->generation, memory_order_relaxed)));
    }
}

/* Who was in the midst of taking or giving back an entry has lost it; the rest is whole. */
void forgetStablePtrs(void) { renewLock(&table.lock); }

uint64_t countStablePtrs(void) { return atomic_load_explicit(&table.used, memory_order_relaxed); }

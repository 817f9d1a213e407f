#include "stack_pool.h"

#include "base/lock.h"
#include "base/report.h"
#include "os/memory.h"
#include "os/os.h"

#include <string.h>

#define LINE 64
#define TOP_BYTES ((size_t)4096)         /* of a larger page, the part that indexes the cache */
#define FIRST_REGION 64                  /* slots */
#define REGION_BYTES ((size_t)1 << 30)   /* at most, or one slot */
#define COMMIT_BYTES ((size_t)64 << 20)  /* at a time, at most */

typedef struct Region_ Region;

/* What lies above the frames.  The pool's words share the lines that a switch touches anyhow.
 * Ownership: of the stack, its holder's; the rest is read by whoever puts the stack back, and written under the stacks lock but for [const]. */
typedef struct Slot_ {
    Region *region;           /* [const] */
    struct Slot_ *nextBatch;  /* [lock: stacks] of the first of a batch in the shared pool */
    uint32_t index;           /* [const] in its region */
    uint32_t count;           /* [lock: stacks] likewise: how many the batch has */
    Stack stack;
} Slot;

#define SLOT_BYTES ((sizeof(Slot) + LINE - 1) / LINE * LINE)
#define COLOURS ((TOP_BYTES - FRAME_ROOM - SLOT_BYTES) / LINE + 1)
/* Neighbours are some lines apart: a few threads already spread.  Prime to COLOURS, or some would not be used. */
#define COLOUR_STEP 7

_Static_assert(FRAME_ROOM + SLOT_BYTES <= TOP_BYTES, "the record and a few frames fit into one page");
_Static_assert(COLOURS % COLOUR_STEP != 0, "all colours are used");

/* One reservation: `made` of its slots exist, of which those are idle that one of the two sets has.  Linked once, never unlinked or released. */
struct Region_ {
    Region *next;        /* [const] */
    char *base;          /* [const] */
    size_t slotBytes;    /* [const] */
    uint32_t count;      /* [const] slots that there is room for */
    uint32_t committed;  /* [lock: stacks] slots that are readable and writable, from the base */
    uint32_t made;       /* [lock: stacks] slots that have a guard as well */
    uint32_t cold;       /* [lock: stacks] how many are in the set of this name: idle, their pages are to be dropped */
    uint32_t bare;       /* [lock: stacks] the same: idle, without pages */
    uint64_t *coldSet, *bareSet;
    uint64_t bits[];
};

static struct {
    Lock lock;
    size_t slotBytes;      /* [lock: stacks] of new slots; 0: nobody has said */
    Region *regions;       /* [lock: stacks] newest first */
    Slot *warmBatches;     /* [lock: stacks] last in first out; each is at most STACK_BATCH stacks of the current size through Stack.sp */
    size_t warm;           /* [lock: stacks] stacks in them */
    size_t cold;           /* [lock: stacks] in the cold sets of all regions */
    size_t made;           /* [lock: stacks] */
    size_t idle;           /* [lock: stacks] warm, cold, bare, and those whose pages are being dropped */
    size_t mappingLimit;   /* [lock: stacks] 0: not asked yet */
    StackCache *caches;    /* [lock: stacks] */
} pool = { .lock = LOCK_INIT(RANK_STACKS) };

/* ---- Sets of slots ---- */

static bool isIn(const uint64_t *set, uint32_t i) { return set[i / 64] >> i % 64 & 1; }
static void addTo(uint64_t *set, uint32_t i) { set[i / 64] |= (uint64_t)1 << i % 64; }
static void removeFrom(uint64_t *set, uint32_t i) { set[i / 64] &= ~((uint64_t)1 << i % 64); }

/* The first member from i on, or end. */
static uint32_t findMember(const uint64_t *set, uint32_t i, uint32_t end)
{
    while (i < end) {
        uint64_t rest = set[i / 64] >> i % 64;
        if (rest != 0) return i + (uint32_t)__builtin_ctzll(rest);
        i = (i / 64 + 1) * 64;
    }
    return end;
}

/* ---- Geometry ---- */

static size_t guardBytes(void)
{
    size_t page = osPageSize();
    return STACK_GUARD > page ? STACK_GUARD : page;
}

static size_t roundSlot(size_t bytes)
{
    size_t page = osPageSize();
    if (bytes < MIN_STACK_SLOT) bytes = MIN_STACK_SLOT;
    if (bytes > MAX_STACK_SLOT) bytes = MAX_STACK_SLOT;
    return ((bytes + page - 1) / page | 1) * page;
}

static char *slotBase(const Region *region, uint32_t index) { return region->base + index * region->slotBytes; }

static Slot *slotAt(const Region *region, uint32_t index)
{
    size_t colour = (size_t)index * COLOUR_STEP % COLOURS;
    return (Slot *)(void *)(slotBase(region, index) + region->slotBytes - colour * LINE - SLOT_BYTES);
}

static Slot *slotOf(Stack *stack) { return container_of(stack, Slot, stack); }

/* Touches the top page, for the first time if it is a new or a bare slot. */
static Stack *initSlot(Region *region, uint32_t index)
{
    Slot *slot = slotAt(region, index);
    slot->region = region;
    slot->nextBatch = NULL;
    slot->index = index;
    slot->stack.lo = (uintptr_t)slotBase(region, index) + guardBytes();
    slot->stack.hi = (uintptr_t)slot;
    return cleanStack(&slot->stack);
}

/* ---- Making slots.  Context of all: the stacks lock. ---- */

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

/* As many of these slots as fit, but at least one. */
static size_t fitting(size_t slots, size_t bytes, size_t slotBytes)
{
    return bytes < slotBytes ? 1 : smaller(slots, bytes / slotBytes);
}

static Region *newRegion(size_t slots)
{
    char *base = NULL;
    for (; slots > 0; slots /= 2)
        if ((base = osReserve(slots * pool.slotBytes, 1)) != NULL) break;
    if (base == NULL) return NULL;
    size_t words = (slots + 63) / 64;
    Region *region = rtsCalloc(1, sizeof *region + 2 * words * sizeof *region->bits);
    if (region == NULL) {
        osRelease(base, slots * pool.slotBytes);
        return NULL;
    }
    osPrepareStacks(base, slots * pool.slotBytes);
    region->base = base;
    region->slotBytes = pool.slotBytes;
    region->count = (uint32_t)slots;
    region->coldSet = region->bits;
    region->bareSet = region->bits + words;
    region->next = pool.regions;
    pool.regions = region;
    return region;
}

/* The newest region of this size, if it has room, or a new one twice as large. */
static Region *findRoom(void)
{
    Region *r = pool.regions;
    while (r != NULL && r->slotBytes != pool.slotBytes) r = r->next;
    if (r != NULL && r->made < r->count) return r;
    return newRegion(fitting(r == NULL ? FIRST_REGION : 2 * (size_t)r->count, REGION_BYTES, pool.slotBytes));
}

/* In bulk, but less where the system promises no more than it has.  What a refused piece leaves accessible is committed anew later. */
static bool commitMore(Region *region)
{
    size_t slots = region->committed < STACK_BATCH ? STACK_BATCH : region->committed;
    slots = smaller(fitting(slots, COMMIT_BYTES, region->slotBytes), region->count - region->committed);
    for (; slots > 0; slots /= 2) {
        if (!osCommit(slotBase(region, region->committed), slots * region->slotBytes)) continue;
        region->committed += (uint32_t)slots;
        return true;
    }
    return false;
}

/* Two mappings a slot, and an eighth of all for the host. */
static size_t mappableGuards(void)
{
    if (osGuardsInPlace()) return SIZE_MAX;
    if (pool.mappingLimit == 0) pool.mappingLimit = osMappingLimit();
    size_t most = (pool.mappingLimit - pool.mappingLimit / 8) / 2;
    return pool.made < most ? most - pool.made : 0;
}

typedef struct {
    Region *region;
    uint32_t index;
} Picked;

static size_t pickNew(Picked *picked, size_t want)
{
    size_t n = 0;
    while (n < want) {
        Region *r = findRoom();
        if (r == NULL || (r->made == r->committed && !commitMore(r))) break;
        size_t most = smaller(smaller(want - n, r->committed - r->made), mappableGuards());
        size_t got = osInstallGuards(slotBase(r, r->made), guardBytes(), r->slotBytes, most);
        for (size_t i = 0; i < got; i++) picked[n++] = (Picked){ r, r->made++ };
        pool.made += got;
        if (got < most || most == 0) break;
    }
    return n;
}

/* ---- Idle slots.  Context of all: the stacks lock. ---- */

static size_t pickFrom(Region *region, uint64_t *set, uint32_t *members, Picked *picked, size_t want)
{
    size_t n = 0;
    for (uint32_t i = 0; n < want && *members > 0; n++, --*members) {
        i = findMember(set, i, region->made);
        removeFrom(set, i);
        picked[n] = (Picked){ region, i };
    }
    return n;
}

/* Cold ones first: they still have their pages. */
static size_t pickIdle(Picked *picked, size_t want)
{
    size_t n = 0;
    if (pool.cold > 0)
        for (Region *r = pool.regions; r != NULL && n < want; r = r->next)
            if (r->slotBytes == pool.slotBytes) n += pickFrom(r, r->coldSet, &r->cold, picked + n, want - n);
    pool.cold -= n;
    if (pool.idle > pool.warm + pool.cold)
        for (Region *r = pool.regions; r != NULL && n < want; r = r->next)
            if (r->slotBytes == pool.slotBytes) n += pickFrom(r, r->bareSet, &r->bare, picked + n, want - n);
    pool.idle -= n;
    return n;
}

static void pushBatch(Stack *list, size_t n)
{
    Slot *batch = slotOf(list);
    batch->nextBatch = pool.warmBatches;
    batch->count = (uint32_t)n;
    pool.warmBatches = batch;
    pool.warm += n;
}

static Stack *popBatch(size_t *n)
{
    Slot *batch = pool.warmBatches;
    if (batch == NULL) return NULL;
    pool.warmBatches = batch->nextBatch;
    *n = batch->count;
    pool.warm -= *n;
    return &batch->stack;
}

static void makeCold(Stack *list)
{
    for (Stack *next; list != NULL; list = next) {
        next = list->sp;
        Slot *slot = slotOf(list);
        addTo(slot->region->coldSet, slot->index);
        slot->region->cold++;
        pool.cold++;
    }
}

static void makeAllCold(void)
{
    size_t n;
    for (Stack *list; (list = popBatch(&n)) != NULL;) makeCold(list);
}

/* A batch enters the shared pool. */
static void giveBatch(Stack *list)
{
    size_t n = 0;
    bool current = true;
    for (Stack *s = list; s != NULL; s = s->sp, n++) current &= slotOf(s)->region->slotBytes == pool.slotBytes;
    pool.idle += n;
    if (current && pool.warm + n <= WARM_STACKS) pushBatch(list, n);
    else makeCold(list);
}

/* Drop the pages of cold slots, one call for each row of neighbours, without the lock: meanwhile those are in no set. */
static void dropCold(void)
{
    for (Region *r = pool.regions; r != NULL; r = r->next) {
        for (uint32_t first = 0, end; r->cold > 0; first = end) {
            first = end = findMember(r->coldSet, first, r->made);
            if (first == r->made) break;
            for (; end < r->made && isIn(r->coldSet, end); end++) removeFrom(r->coldSet, end);
            r->cold -= end - first;
            pool.cold -= end - first;
            releaseLock(&pool.lock);
            osDiscard(slotBase(r, first), (end - first) * r->slotBytes);
            acquireLock(&pool.lock);
            for (uint32_t i = first; i < end; i++) addTo(r->bareSet, i);
            r->bare += end - first;
        }
    }
}

/* ---- Caches ---- */

/* Context: the stacks lock. */
static void linkCache(StackCache *cache)
{
    if (cache->room != 0) return;
    cache->room = STACK_CACHE;
    cache->next = pool.caches;
    pool.caches = cache;
}

static void setCache(StackCache *cache, Stack *free, size_t count)
{
    cache->free = free;
    atomic_store_explicit(&cache->count, (unsigned)count, memory_order_relaxed);
}

Stack *takeStackSlow(StackCache *cache)
{
    Picked picked[STACK_BATCH];
    size_t n = 0;
    acquireLock(&pool.lock);
    linkCache(cache);
    if (pool.slotBytes == 0) pool.slotBytes = roundSlot(0);
    Stack *list = popBatch(&n);
    if (list != NULL) pool.idle -= n;
    else if ((n = pickIdle(picked, STACK_BATCH)) == 0) n = pickNew(picked, STACK_BATCH);
    /* Counted as the cache's before anybody can look: else they would seem to be in use. */
    setCache(cache, NULL, n);
    releaseLock(&pool.lock);
    if (n == 0) return NULL;
    for (size_t i = n; list == NULL && i-- > 0;) {
        Stack *stack = initSlot(picked[i].region, picked[i].index);
        stack->sp = cache->free;
        cache->free = stack;
    }
    if (list != NULL) cache->free = list;
    return takeStack(cache);
}

/* The older half goes: the newest may still be in the processor's caches. */
static void spillCache(StackCache *cache)
{
    Stack *last = cache->free;
    for (unsigned i = 1; i < STACK_CACHE - STACK_BATCH; i++) last = last->sp;
    Stack *older = last->sp;
    last->sp = NULL;
    acquireLock(&pool.lock);
    giveBatch(older);
    setCache(cache, cache->free, STACK_CACHE - STACK_BATCH);
    if (pool.cold >= COLD_STACKS) dropCold();
    releaseLock(&pool.lock);
}

void putStackSlow(StackCache *cache, Stack *stack)
{
    if (cache->room != 0) {
        spillCache(cache);
    } else {
        acquireLock(&pool.lock);
        linkCache(cache);
        releaseLock(&pool.lock);
    }
    putStack(cache, stack);
}

/* Cut off the first stacks of a list, at most a batch: the rest, or NULL. */
static Stack *cutBatch(Stack *list)
{
    for (unsigned i = 1; i < STACK_BATCH && list->sp != NULL; i++) list = list->sp;
    Stack *rest = list->sp;
    list->sp = NULL;
    return rest;
}

void flushStackCache(StackCache *cache)
{
    acquireLock(&pool.lock);
    for (Stack *list = cache->free, *rest; list != NULL; list = rest) {
        rest = cutBatch(list);
        giveBatch(list);
    }
    setCache(cache, NULL, 0);
    StackCache **link = &pool.caches;
    while (*link != NULL && *link != cache) link = &(*link)->next;
    if (*link != NULL) *link = cache->next;
    cache->room = 0;
    if (pool.cold >= COLD_STACKS) dropCold();
    releaseLock(&pool.lock);
}

/* ---- The whole pool ---- */

void initStackPool(size_t slotBytes)
{
    acquireLock(&pool.lock);
    size_t bytes = roundSlot(slotBytes);
    if (bytes != pool.slotBytes) {
        makeAllCold();
        pool.slotBytes = bytes;
        dropCold();
    }
    releaseLock(&pool.lock);
}

void trimStackPool(void)
{
    acquireLock(&pool.lock);
    makeAllCold();
    dropCold();
    releaseLock(&pool.lock);
}

/* What cannot be half done: a region is linked when it is complete, and what is made or committed without being counted is so again. */
static void forgetIdle(void)
{
    pool.warmBatches = NULL;
    pool.warm = pool.cold = pool.idle = pool.made = 0;
    for (Region *r = pool.regions; r != NULL; r = r->next) {
        memset(r->bits, 0, 2 * ((r->count + (size_t)63) / 64) * sizeof *r->bits);
        r->cold = r->bare = 0;
        pool.made += r->made;
    }
}

void forgetStackPool(void)
{
    /* Held by a thread that is not here, which may have been halfway through anything. */
    if (pthread_mutex_trylock(&pool.lock.mutex) != 0) forgetIdle();
    pool.caches = NULL;
    pool.lock = (Lock)LOCK_INIT(RANK_STACKS);
}

size_t stacksInUse(void)
{
    acquireLock(&pool.lock);
    size_t others = pool.idle;
    for (StackCache *c = pool.caches; c != NULL; c = c->next)
        others += atomic_load_explicit(&c->count, memory_order_relaxed);
    size_t n = pool.made > others ? pool.made - others : 0;
    releaseLock(&pool.lock);
    return n;
}

size_t stacksHolding(void)
{
    acquireLock(&pool.lock);
    size_t n = pool.warm + pool.cold;
    for (StackCache *c = pool.caches; c != NULL; c = c->next) n += atomic_load_explicit(&c->count, memory_order_relaxed);
    releaseLock(&pool.lock);
    return n;
}

size_t stacksMade(void)
{
    acquireLock(&pool.lock);
    size_t n = pool.made;
    releaseLock(&pool.lock);
    return n;
}

bool stackGuardsAreCheap(void) { return osGuardsInPlace(); }

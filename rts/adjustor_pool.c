#include "adjustor_pool.h"

#include "base/lock.h"
#include "base/report.h"
#include "os/os.h"
#include "RtsAPI.h"

/* Arenas stand side by side in regions of address space. */
#define REGION_BYTES ((size_t)64 << 20)
#define MAX_REGIONS 256u
#define PAGE_MAX ((size_t)ARCH_ADJUSTOR_CODE_BYTES)
#define DATA_BYTES \
    ((sizeof(ArchAdjustorHead) + ARCH_ADJUSTOR_COUNT * sizeof(Adjustor) + PAGE_MAX - 1) & ~(PAGE_MAX - 1))
#define ARENA_BYTES (ARCH_ADJUSTOR_CODE_BYTES + DATA_BYTES)
#define ARENAS (REGION_BYTES / ARENA_BYTES)

typedef struct {
    char code[ARCH_ADJUSTOR_CODE_BYTES];
    ArchAdjustorHead head;
    Adjustor records[ARCH_ADJUSTOR_COUNT];
} Arena;

/* How many freed ones wait before one is used again. */
#ifdef CAPSTAN_DEBUG
#define PATIENCE 1000
#else
#define PATIENCE 0
#endif

static struct {
    Lock lock;
    Adjustor *first, *last;              /* [lock] spare ones, first in, first out */
    size_t spare;                        /* [lock] how many */
    _Atomic(char *) regions[MAX_REGIONS]; /* [lock to write] */
    _Atomic size_t arenas;               /* [lock to write] made so far */
} pool = { .lock = LOCK_INIT(RANK_ADJUSTORS) };

size_t adjustorArenaLimit;

static const Signature noSignature; /* of records that were never used: takes nothing, gives nothing */

/* ---- Addresses ---- */

static Arena *arenaAt(size_t n)
{
    /* Acquire: pairs with the release in makeArena's region. */
    char *region = atomic_load_explicit(&pool.regions[n / ARENAS], memory_order_acquire);
    return (Arena *)(void *)(region + n % ARENAS * ARENA_BYTES);
}

/* The arena that an address lies in. */
static Arena *arenaOf(const void *p)
{
    size_t arenas = atomic_load_explicit(&pool.arenas, memory_order_acquire);
    for (size_t first = 0; first < arenas; first += ARENAS) {
        size_t offset = (uintptr_t)p - (uintptr_t)arenaAt(first);
        if (offset < REGION_BYTES) return first + offset / ARENA_BYTES < arenas ? arenaAt(first + offset / ARENA_BYTES) : NULL;
    }
    return NULL;
}

void *codeOfAdjustor(const Adjustor *a)
{
    Arena *arena = arenaOf(a);
    return arena->code + (size_t)(a - arena->records) * ARCH_ADJUSTOR_STEP;
}

Adjustor *adjustorOfCode(const void *code)
{
    Arena *arena = arenaOf(code);
    if (arena == NULL) return NULL;
    size_t offset = (uintptr_t)code - (uintptr_t)arena->code, i = offset / ARCH_ADJUSTOR_STEP;
    return i < ARCH_ADJUSTOR_COUNT && offset % ARCH_ADJUSTOR_STEP == 0 ? &arena->records[i] : NULL;
}

/* ---- Spare ones ---- */

/* Context: the lock. */
static void addSpare(Adjustor *a)
{
    atomic_store_explicit(&a->hptr, NULL, memory_order_relaxed);
    if (pool.first == NULL) pool.first = a;
    else atomic_store_explicit(&pool.last->hptr, a, memory_order_relaxed);
    pool.last = a;
    pool.spare++;
}

static Adjustor *takeSpare(void)
{
    Adjustor *a = pool.first;
    pool.first = atomic_load_explicit(&a->hptr, memory_order_relaxed);
    pool.spare--;
    return a;
}

/* Code, and data of zeroes behind it. */
static bool mapArena(Arena *arena)
{
    if (!osMapCode(arena, archAdjustorTemplate, ARCH_ADJUSTOR_CODE_BYTES)) return false;
    if (osCommit(&arena->head, DATA_BYTES)) return true;
    osDecommit(arena, ARCH_ADJUSTOR_CODE_BYTES);
    return false;
}

/* What was refused; NULL: nothing. */
static const char *makeArena(void)
{
    size_t n = atomic_load_explicit(&pool.arenas, memory_order_relaxed);
    if ((adjustorArenaLimit != 0 && n >= adjustorArenaLimit) || n / ARENAS >= MAX_REGIONS) return "there are too many already";
    if (osPageSize() > ARCH_ADJUSTOR_CODE_BYTES) return "the system's pages are too large";
    if (n % ARENAS == 0 && arenaAt(n) == NULL) {
        char *region = osReserve(REGION_BYTES, PAGE_MAX);
        if (region == NULL) return "the system refuses address space";
        atomic_store_explicit(&pool.regions[n / ARENAS], region, memory_order_release);
    }
    Arena *arena = arenaAt(n);
    if (!mapArena(arena)) return "the system refuses executable memory (a security policy, or the number of mappings)";
    arena->head.entry = archAdjustorEntry;
    for (size_t i = 0; i < ARCH_ADJUSTOR_COUNT; i++) {
        atomic_store_explicit(&arena->records[i].signature, &noSignature, memory_order_relaxed);
        addSpare(&arena->records[i]);
    }
    atomic_store_explicit(&pool.arenas, n + 1, memory_order_release);
    return NULL;
}

/* ---- The life of one ---- */

Adjustor *newAdjustor(const Signature *signature, StgFunPtr wptr, StgStablePtr hptr, const char *what)
{
    const char *refused = NULL;
    acquireLock(&pool.lock);
    if (pool.spare <= PATIENCE && (refused = makeArena()) != NULL && pool.first != NULL) refused = NULL;
    Adjustor *a = refused == NULL ? takeSpare() : NULL;
    releaseLock(&pool.lock);
    if (a == NULL) {
        reportError(RTS_NO_MEMORY, "%s: no adjustor: %s", what, refused);
        return NULL;
    }
    atomic_store_explicit(&a->signature, signature, memory_order_relaxed);
    atomic_store_explicit(&a->wptr, wptr, memory_order_relaxed);
    atomic_store_explicit(&a->hptr, hptr, memory_order_relaxed);
    /* An addition: calls that do not know better may be counted.  Release: pairs with enterAdjustor. */
    atomic_fetch_add_explicit(&a->state, ADJUSTOR_LIVE - ADJUSTOR_SPARE, memory_order_release);
    return a;
}

void recycleAdjustor(Adjustor *a)
{
    uint64_t expected = ADJUSTOR_FREED;
    StgStablePtr hptr = atomic_load_explicit(&a->hptr, memory_order_relaxed);
    /* Or another one does it, or one more call has come. */
    if (!atomic_compare_exchange_strong_explicit(&a->state, &expected, ADJUSTOR_SPARE, memory_order_acq_rel, memory_order_relaxed)) return;
    if (hptr != NULL) hs_free_stable_ptr(hptr);
    acquireLock(&pool.lock);
    addSpare(a);
    releaseLock(&pool.lock);
}

/* Another status, the calls being counted on.  false: it is none of those wanted. */
static bool changeStatus(Adjustor *a, unsigned from, unsigned orFrom, unsigned to)
{
    uint64_t seen = atomic_load_explicit(&a->state, memory_order_relaxed);
    do
        if ((seen & ADJUSTOR_STATUS) != from && (seen & ADJUSTOR_STATUS) != orFrom) return false;
    while (!atomic_compare_exchange_weak_explicit(&a->state, &seen, (seen & ~(uint64_t)ADJUSTOR_STATUS) | to, memory_order_acq_rel,
                                                  memory_order_relaxed));
    return true;
}

bool freeAdjustor(Adjustor *a)
{
    if (!changeStatus(a, ADJUSTOR_LIVE, ADJUSTOR_ENDED, ADJUSTOR_FREED)) return false;
    if (atomic_load_explicit(&a->state, memory_order_acquire) == ADJUSTOR_FREED) recycleAdjustor(a);
    return true;
}

/* ---- All of them ---- */

static void eachAdjustor(void (*f)(Adjustor *a, void *ctx), void *ctx)
{
    for (size_t n = atomic_load_explicit(&pool.arenas, memory_order_acquire); n-- > 0;)
        for (size_t i = 0; i < ARCH_ADJUSTOR_COUNT; i++) f(&arenaAt(n)->records[i], ctx);
}

/* One that was freed, and is being left by its last calls, keeps its status. */
static void endOne(Adjustor *a, void *unused)
{
    bool ended = changeStatus(a, ADJUSTOR_LIVE, ADJUSTOR_LIVE, ADJUSTOR_ENDED);
    if (ended || statusOfAdjustor(a) == ADJUSTOR_FREED) atomic_store_explicit(&a->hptr, NULL, memory_order_relaxed);
}

void endAdjustors(void) { eachAdjustor(endOne, NULL); }

void forgetAdjustors(void)
{
    /* A fork amid a change of the list: what it held is lost to the child, which makes new ones. */
    if (!renewLock(&pool.lock)) {
        pool.first = pool.last = NULL;
        pool.spare = 0;
    }
    endAdjustors();
}

static void countOne(Adjustor *a, void *ctx)
{
    RtsAdjustorCounts *counts = ctx;
    unsigned status = statusOfAdjustor(a);
    if (status == ADJUSTOR_LIVE || status == ADJUSTOR_ENDED) counts->live++;
    if (status == ADJUSTOR_FREED) counts->leaving++;
}

void rts_getAdjustorCounts(RtsAdjustorCounts *counts)
{
    size_t arenas = atomic_load_explicit(&pool.arenas, memory_order_acquire);
    *counts = (RtsAdjustorCounts){ .code_bytes = arenas * ARCH_ADJUSTOR_CODE_BYTES, .data_bytes = arenas * DATA_BYTES };
    eachAdjustor(countOne, counts);
}

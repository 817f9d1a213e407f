#include "adjustor_pool.h"

#include "base/lock.h"
#include "base/report.h"
#include "os/os.h"
#include "stable_ptr.h"

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

/* How many freed ones wait before one is used again; how many a Task keeps for itself, so that who makes and frees them takes no lock. */
#ifdef CAPSTAN_DEBUG
#define PATIENCE 1000
#define TASK_KEEPS 0
#else
#define PATIENCE 0
#define TASK_KEEPS 64
#endif

static struct {
    Lock lock;
    Adjustor *first, *last;              /* [lock] spare ones, first in, first out */
    size_t spare;                        /* [lock] how many */
    _Atomic(char *) regions[MAX_REGIONS]; /* [lock to write] */
    _Atomic size_t arenas;               /* [lock to write] made so far */
} pool = { .lock = LOCK_INIT(RANK_ADJUSTORS) };

size_t adjustorArenaLimit;
_Atomic bool adjustorsByMark;

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

/* Context: the lock.  There is one. */
static Adjustor *takeSpare(void)
{
    Adjustor *a = pool.first;
    pool.first = atomic_load_explicit(&a->hptr, memory_order_relaxed);
    pool.spare--;
    return a;
}

/* The calling thread's own, last in, first out. */
static Adjustor *takeOwn(Task *task)
{
    Adjustor *a = task == NULL ? NULL : task->adjustors;
    if (a == NULL) return NULL;
    task->adjustors = atomic_load_explicit(&a->hptr, memory_order_relaxed);
    task->adjustorCount--;
    return a;
}

static bool keepOwn(Task *task, Adjustor *a)
{
    if (task == NULL || task->adjustorCount + 1 > TASK_KEEPS) return false;
    atomic_store_explicit(&a->hptr, task->adjustors, memory_order_relaxed);
    task->adjustors = a;
    task->adjustorCount++;
    return true;
}

/* Code, and data of zeroes behind it. */
static bool mapArena(Arena *arena)
{
    if (!osMapCode(arena, archAdjustorTemplate, ARCH_ADJUSTOR_CODE_BYTES, ARCH_CODE_RIGHTS)) return false;
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
        atomic_store_explicit(&arena->records[i].signature, &noSignature, memory_order_relaxed); /* for who calls it all the same */
        addSpare(&arena->records[i]);
    }
    atomic_store_explicit(&pool.arenas, n + 1, memory_order_release);
    return NULL;
}

/* ---- The life of one ---- */

/* Another thread's spare one, or a new one.  NULL: and why not. */
__attribute__((noinline)) static Adjustor *findSpare(const char **refused)
{
    acquireLock(&pool.lock);
    if (pool.spare <= PATIENCE) *refused = makeArena();
    Adjustor *a = pool.first == NULL ? NULL : takeSpare();
    releaseLock(&pool.lock);
    return a;
}

Adjustor *newAdjustor(const Signature *signature, StgFunPtr wptr, StgStablePtr hptr, const char *what)
{
    const char *refused = NULL;
    Adjustor *a = takeOwn(getMyTask());
    if (a == NULL && (a = findSpare(&refused)) == NULL) {
        reportError(RTS_NO_MEMORY, "%s: no adjustor: %s", what, refused);
        return NULL;
    }
    atomic_store_explicit(&a->signature, signature, memory_order_release); /* pairs with the acquire of a call that comes too late */
    atomic_store_explicit(&a->wptr, wptr, memory_order_relaxed);
    atomic_store_explicit(&a->hptr, hptr, memory_order_relaxed);
    /* An addition: calls that do not know better may be counted.  Release: pairs with the acquire of the status. */
    atomic_fetch_add_explicit(&a->state, ADJUSTOR_LIVE - ADJUSTOR_SPARE, memory_order_release);
    return a;
}

/* Nobody uses it any more.  The state is SPARE by now. */
static void recycle(Adjustor *a, StgStablePtr hptr)
{
    bool gone = hptr != NULL && !dropStablePtr(hptr);
    if (!keepOwn(getMyTask(), a)) {
        acquireLock(&pool.lock);
        addSpare(a);
        releaseLock(&pool.lock);
    }
    if (gone) reportError(RTS_BAD_STABLE_PTR, "the stable pointer %p of a C function pointer was freed before it", hptr);
}

/* Another status instead of one of two, the calls being counted on.  false: it is neither. */
static bool changeStatus(Adjustor *a, unsigned from, unsigned orFrom, unsigned to)
{
    uint32_t seen = atomic_load_explicit(&a->state, memory_order_relaxed);
    do
        if ((seen & ADJUSTOR_STATUS) != from && (seen & ADJUSTOR_STATUS) != orFrom) return false;
    while (!atomic_compare_exchange_weak_explicit(&a->state, &seen, (seen & ~(uint32_t)ADJUSTOR_STATUS) | to, memory_order_seq_cst,
                                                  memory_order_relaxed));
    return true;
}

/* ---- Who uses it ---- */

void noteCaller(Adjustor *a, uint32_t me)
{
    uint32_t nobody = 0;
    if (!atomic_compare_exchange_strong_explicit(&a->caller, &nobody, me, memory_order_seq_cst, memory_order_seq_cst) && nobody != me)
        atomic_store_explicit(&a->caller, CALLERS_MANY, memory_order_seq_cst);
    /* Before the load of the status: pairs with the exchange in changeStatus. */
    atomic_thread_fence(memory_order_seq_cst);
}

typedef struct {
    Adjustor *a;
    bool found;
} Search;
static void lookAtTask(Task *task, void *search)
{
    Search *s = search;
    /* Acquire: pairs with the release in leaveAdjustor. */
    if (atomic_load_explicit(&task->through, memory_order_acquire) == s->a) s->found = true;
}

/* The status has been changed by a read-modify-write: does any call that may have seen the one before still use the record?  alone: nobody else looks. */
static bool isInUse(Adjustor *a, bool alone)
{
    if (atomic_load_explicit(&a->state, memory_order_acquire) >= ADJUSTOR_CALL) return true;
    uint32_t caller = atomic_load_explicit(&a->caller, memory_order_seq_cst);
    Task *me = caller == 0 ? NULL : getMyTask();
    if (caller == 0) return false;
    if (me != NULL && caller == (uint32_t)me->id) return atomic_load_explicit(&me->through, memory_order_relaxed) == a;
    Search search = { a, false };
    if (alone) atomic_store_explicit(&a->caller, 0, memory_order_seq_cst);
    osMembarrier();
    eachTask(lookAtTask, &search);
    if (alone && search.found) atomic_store_explicit(&a->caller, CALLERS_MANY, memory_order_seq_cst);
    return search.found;
}

/* Context: this thread has claimed it.  false: a call uses it, and the claim is given up. */
static bool takeBack(Adjustor *a)
{
    StgStablePtr hptr = atomic_load_explicit(&a->hptr, memory_order_relaxed);
    uint32_t expected = ADJUSTOR_CLAIMED;
    /* The exchange fails when one more call has come. */
    if (!isInUse(a, true) &&
        atomic_compare_exchange_strong_explicit(&a->state, &expected, ADJUSTOR_SPARE, memory_order_seq_cst, memory_order_relaxed)) {
        recycle(a, hptr);
        return true;
    }
    atomic_fetch_sub_explicit(&a->state, ADJUSTOR_CLAIMED - ADJUSTOR_FREED, memory_order_seq_cst);
    return false;
}

void reclaimAdjustor(Adjustor *a)
{
    do
        if (!changeStatus(a, ADJUSTOR_FREED, ADJUSTOR_FREED, ADJUSTOR_CLAIMED) || takeBack(a)) return;
    while (!isInUse(a, false)); /* the last one left while it was claimed */
}

bool freeAdjustor(Adjustor *a)
{
    StgStablePtr hptr = atomic_load_explicit(&a->hptr, memory_order_relaxed);
    /* Relaxed: if this is another's already, the exchange finds out. */
    if (atomic_load_explicit(&a->caller, memory_order_relaxed) == 0 && changeStatus(a, ADJUSTOR_LIVE, ADJUSTOR_LIVE, ADJUSTOR_SPARE)) {
        if (!isInUse(a, true)) {
            recycle(a, hptr);
            return true;
        }
        atomic_fetch_add_explicit(&a->state, ADJUSTOR_CLAIMED - ADJUSTOR_SPARE, memory_order_seq_cst);
    } else if (!changeStatus(a, ADJUSTOR_LIVE, ADJUSTOR_ENDED, ADJUSTOR_CLAIMED)) {
        return false;
    }
    if (!takeBack(a) && !isInUse(a, false)) reclaimAdjustor(a);
    return true;
}

/* ---- All of them ---- */

static void eachAdjustor(void (*f)(Adjustor *a, void *ctx), void *ctx)
{
    for (size_t n = atomic_load_explicit(&pool.arenas, memory_order_acquire); n-- > 0;)
        for (size_t i = 0; i < ARCH_ADJUSTOR_COUNT; i++) f(&arenaAt(n)->records[i], ctx);
}

static bool isLeaving(unsigned status) { return status == ADJUSTOR_FREED || status == ADJUSTOR_CLAIMED; }

/* One that was freed, and is being left by its last calls, keeps its status. */
static void endOne(Adjustor *a, void *unused)
{
    bool ended = changeStatus(a, ADJUSTOR_LIVE, ADJUSTOR_LIVE, ADJUSTOR_ENDED);
    if (ended || isLeaving(statusOfAdjustor(a))) atomic_store_explicit(&a->hptr, NULL, memory_order_relaxed);
}

void startAdjustors(void) { atomic_store_explicit(&adjustorsByMark, osMembarrierWorks(), memory_order_relaxed); }

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

typedef struct {
    uintptr_t lo, hi;
    bool found;
} Range;
static void lookForStub(Adjustor *a, void *ctx)
{
    Range *range = ctx;
    unsigned status = statusOfAdjustor(a);
    uintptr_t stub = (uintptr_t)atomic_load_explicit(&a->wptr, memory_order_relaxed);
    if ((status == ADJUSTOR_LIVE || isLeaving(status)) && stub >= range->lo && stub < range->hi) range->found = true;
}
bool anyAdjustorIn(const void *lo, const void *hi)
{
    Range range = { (uintptr_t)lo, (uintptr_t)hi, false };
    eachAdjustor(lookForStub, &range);
    return range.found;
}

static void countOne(Adjustor *a, void *ctx)
{
    RtsAdjustorCounts *counts = ctx;
    unsigned status = statusOfAdjustor(a);
    if (status == ADJUSTOR_LIVE || status == ADJUSTOR_ENDED) counts->live++;
    if (isLeaving(status)) counts->leaving++;
}

void rts_getAdjustorCounts(RtsAdjustorCounts *counts)
{
    size_t arenas = atomic_load_explicit(&pool.arenas, memory_order_acquire);
    *counts = (RtsAdjustorCounts){ .code_bytes = arenas * ARCH_ADJUSTOR_CODE_BYTES, .data_bytes = arenas * DATA_BYTES };
    eachAdjustor(countOne, counts);
}

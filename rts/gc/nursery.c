#include "base/report.h"
#include "gc/nursery.h"
#include "gc/pinned.h"
#include "os/memory.h"

#include <string.h>

struct Heap heap;
void (*accountOverdrawn)(Nursery *nursery);

static void takeReserve(Nursery *n)
{
    for (size_t have = n->reserve == NULL ? 0 : n->reserve->link == NULL ? 1 : 2; have < RESERVE_BLOCKS; have++) {
        Block *b = allocBlocks(1, n->node);
        if (b == NULL) return;
        heap.movable++;
        b->flags = BLOCK_FROM | BLOCK_YOUNG;
        b->link = n->reserve;
        n->reserve = b;
    }
}

bool initNursery(Nursery *n, unsigned node, void (*wantCollection)(void *nursery))
{
    /* The stack stays: waiters of an earlier runtime may still look at it. */
    n->r.hp = n->r.hpLim = NULL;
    memset((char *)n + sizeof n->r, 0, sizeof *n - sizeof n->r);
    n->wantCollection = wantCollection;
    n->node = n->remembered.node = n->shaded.node = node;
    takeReserve(n);
    return n->reserve != NULL && n->reserve->link != NULL;
}

/* So many blocks more than the limit there would be with n more. */
static size_t excessWith(size_t n, bool movable)
{
    if (heap.limitBlocks == 0) return 0;
    size_t m = heap.movable + (movable ? n : 0), f = heap.fixed + heap.spare + (movable ? 0 : n);
    f += heap.externalBytes / BLOCK_BYTES;
    size_t all = m + COPY_SPACE(m) + f;
    return all <= heap.limitBlocks ? 0 : all - heap.limitBlocks;
}

/* Would n more blocks keep within the limit? */
static bool mayGrow(size_t n, bool movable) { return excessWith(n, movable) == 0; }

bool isHeapOverLimit(void) { return !mayGrow(SLACK_BLOCKS, true); }

void setShortage(void)
{
    heap.shortage = excessWith(SLACK_BLOCKS, true) * BLOCK_BYTES;
    if (heap.shortage == 0) heap.eased++;
}

void easeHeap(size_t bytes)
{
    size_t before = heap.shortage, after;
    do {
        if (before == 0) return;
        after = before > bytes ? before - bytes : 0;
    } while (!atomic_compare_exchange_weak(&heap.shortage, &before, after));
    if (after == 0) heap.eased++;
}

static void tellOutOfHeap(size_t bytes)
{
    if (hostConfig.outOfHeapHook)
        hostConfig.outOfHeapHook(hostConfig.outOfHeapCtx, bytes, heap.limitBlocks * BLOCK_BYTES);
}

static Block *takeBlocks(const Nursery *nursery, size_t n, bool movable)
{
    size_t cost = blocksForGroup(n);
    Block *b = mayGrow(cost, movable) ? allocBlocks(n, nursery->node) : NULL;
    if (b == NULL) return NULL;
    if (movable) heap.movable += cost;
    else heap.fixed += cost;
    heap.allocated += cost;
    return b;
}

/* The next block of the allocation area: objects in it are young, and every collection copies them. */
static Block *takeYoungBlock(Nursery *n)
{
    Block *b = n->spare;
    if (b == NULL) {
        if ((b = takeBlocks(n, 1, true)) != NULL) b->flags = BLOCK_FROM | BLOCK_YOUNG;
        return b;
    }
    heap.spare--;
    if (!mayGrow(1, true)) {
        heap.spare++;
        return NULL;
    }
    n->spare = b->link;
    heap.movable++;
    heap.allocated++;
    return b;
}

static void askForCollection(Nursery *n)
{
    if (heap.allocated >= heap.threshold) n->wantCollection(n);
}

static void pushBlock(Block **list, Block *b)
{
    b->link = *list;
    *list = b;
}

void syncNursery(Nursery *n)
{
    if (n->blocks != NULL) n->blocks->free = n->r.hp;
}

/* The thread that counts what it allocates pays for so many bytes outside the block being filled. */
static void payFor(Nursery *n, size_t bytes)
{
    if (CAPSTAN_LIKELY(n->account == NULL)) return;
    *n->account -= (int64_t)bytes;
    if (*n->account < 0) accountOverdrawn(n);
}

static void fillFrom(Nursery *n, Block *b)
{
    syncNursery(n);
    if (CAPSTAN_UNLIKELY(n->account != NULL)) chargeAccount(n);
    pushBlock(&n->blocks, b);
    n->charged = n->r.hp = b->start;
    n->r.hpLim = blockEnd(b);
    payFor(n, 0);
}

void refuseAllocation(Nursery *n, size_t bytes)
{
    n->refused = true;
    heap.wantMajor = true; /* even if the in-call is over by then */
    heap.cause = RtsGcMemory;
    n->wantCollection(n);
    tellOutOfHeap(bytes);
}

static StgWord *refuse(Nursery *n, size_t words)
{
    refuseAllocation(n, words > SIZE_MAX / sizeof(StgWord) ? SIZE_MAX : words * sizeof(StgWord));
    return NULL;
}

static StgWord *allocateLarge(Nursery *n, size_t words)
{
    if (words > heapSize / sizeof(StgWord)) return refuse(n, words);
    Block *b = takeBlocks(n, (words + BLOCK_WORDS - 1) / BLOCK_WORDS, false);
    if (b == NULL) return refuse(n, words);
    b->flags = BLOCK_LARGE | BLOCK_YOUNG;
    b->free = b->start + words;
    pushBlock(&n->large, b);
    payFor(n, words * sizeof(StgWord));
    askForCollection(n);
    return b->start;
}

/* The limit is reached: small objects still succeed while the reserve lasts. */
static Block *useReserve(Nursery *n)
{
    Block *b = n->reserve;
    if (b == NULL) return NULL;
    if (!n->overflowed) tellOutOfHeap(BLOCK_BYTES); /* which may end the OS thread */
    n->reserve = b->link;
    n->overflowed = true;
    heap.cause = RtsGcMemory;
    n->wantCollection(n);
    return b;
}

StgWord *allocateSlow(Nursery *n, size_t words)
{
    if (n->wantCollection == NULL) return NULL;
    if (words >= LARGE_WORDS) return allocateLarge(n, words);
    Block *b = takeYoungBlock(n);
    if (b != NULL) askForCollection(n);
    else if ((b = useReserve(n)) == NULL) return refuse(n, words);
    fillFrom(n, b);
    StgWord *p = n->r.hp;
    n->r.hp = p + words;
    return p;
}

StgWord *allocatePinned(Nursery *n, size_t words)
{
    if (n->wantCollection == NULL) return NULL;
    if (words >= LARGE_WORDS) return allocateLarge(n, words);
    words = evenWords(words);
    Block *b = n->pinned;
    if (b == NULL || (size_t)(blockEnd(b) - b->free) < words) {
        if ((b = takeBlocks(n, 1, false)) == NULL) return refuse(n, words);
        b->flags = BLOCK_PINNED | BLOCK_YOUNG;
        b->link = NULL;
        forgetJudgement(b);
        pushBlock(&n->pinned, b);
        askForCollection(n);
    }
    payFor(n, words * sizeof(StgWord));
    StgWord *p = b->free;
    b->free = p + words;
    p[words - 1] = 0; /* nobody else's, if the array has no use for it */
    return p;
}

/* ---- what the collector does to nurseries ---- */

/* Torture builds want the memory of every block that was copied from made inaccessible. */
#ifdef CAPSTAN_TORTURE
#define KEEPS_BLOCKS false
#else
#define KEEPS_BLOCKS (!heap.poison)
#endif

/* Returns how many spare blocks are left. */
static size_t trimSpare(Nursery *n, size_t keep)
{
    size_t have = 0;
    Block **end = &n->spare;
    while (*end != NULL && have < keep) {
        end = &(*end)->link;
        have++;
    }
    for (Block *b = *end, *next; b != NULL; b = next) {
        next = b->link;
        freeBlocks(b);
        heap.spare--;
    }
    *end = NULL;
    return have;
}

void emptyNursery(Nursery *n, size_t keep, void (*drop)(Block *b))
{
    size_t have = trimSpare(n, keep);
    for (Block *b = n->blocks, *next; b != NULL; b = next) {
        next = b->link;
        if (!KEEPS_BLOCKS || have >= keep || (heap.limitBlocks != 0 && !mayGrow(heap.nurseryBlocks, true))) {
            drop(b);
            continue;
        }
        b->free = b->start;
        pushBlock(&n->spare, b);
        heap.movable--;
        heap.spare++;
        have++;
    }
    n->blocks = NULL;
    if (n->account != NULL) chargeAccount(n);
    n->charged = n->r.hp = n->r.hpLim = NULL;
}

void refillReserve(Nursery *n)
{
    takeReserve(n);
}

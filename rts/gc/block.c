#include "gc/block.h"

#include "base/lock.h"
#include "base/report.h"
#include "os/memory.h"
#include "os/os.h"

#include <string.h>

/* The first 64 bytes of a megablock, where the descriptor of its block 0 would be. */
typedef struct MegaHeader_ {
    uint64_t freeMask;               /* [lock: blocks] bit i: block i is free */
    struct MegaHeader_ *next, *prev; /* [lock: blocks] list of those with a free block */
} MegaHeader;
_Static_assert(sizeof(MegaHeader) <= sizeof(Block), "the header takes the place of descriptor 0");

#define ALL_FREE (~(uint64_t)1)

enum { MEGA_UNCOMMITTED, MEGA_FREE, MEGA_USED };

uintptr_t heapBase, heapSize;

static struct {
    Lock lock;
    uint8_t *megas;          /* [lock] state of each megablock of the reservation */
    size_t count;            /* [const] of megablocks */
    size_t lowest;           /* [lock] none below this is anything but MEGA_USED */
    size_t top;              /* [lock] none from here on was ever committed */
    size_t freeMegas;        /* [lock] in state MEGA_FREE */
    MegaHeader *partial;     /* [lock] used ones with free blocks */
    size_t freeBlocks;       /* [lock] in those */
    size_t committed, peak;  /* [lock] bytes */
} blocks = { .lock = LOCK_INIT(RANK_BLOCKS) };

bool initBlocks(size_t limit)
{
    size_t size = (size_t)256 << 30;
    /* Fragments and the collector's copy come on top of a limit; address space is cheap. */
    if (limit != 0 && limit < size / 8) size = (limit * 4 + 64 * MEGABLOCK_BYTES) & ~(MEGABLOCK_BYTES - 1);
    void *base = NULL;
    for (; size >= 16 * MEGABLOCK_BYTES && base == NULL; size = base ? size : size / 2 & ~(MEGABLOCK_BYTES - 1))
        base = osReserve(size, MEGABLOCK_BYTES);
    if (base == NULL) return false;
    size_t count = size / MEGABLOCK_BYTES;
    uint8_t *megas = rtsCalloc(count, 1);
    if (megas == NULL) {
        osRelease(base, size);
        return false;
    }
    heapBase = (uintptr_t)base;
    heapSize = size;
    blocks.megas = megas;
    blocks.count = count;
    blocks.lowest = blocks.top = blocks.freeMegas = blocks.freeBlocks = 0;
    blocks.partial = NULL;
    blocks.committed = blocks.peak = 0;
    return true;
}

void freeAllBlocks(void)
{
    if (heapBase == 0) return;
    osRelease((void *)heapBase, heapSize);
    rtsFree(blocks.megas);
    blocks.megas = NULL;
    heapBase = heapSize = 0;
    blocks.committed = 0;
}

void forgetBlocks(void) { renewLock(&blocks.lock); }

void forgetAllBlocks(void)
{
    blocks.megas = NULL;
    heapBase = heapSize = 0;
}

static MegaHeader *megaAt(size_t i) { return (MegaHeader *)(heapBase + i * MEGABLOCK_BYTES); }
static size_t megaIndex(const void *p) { return ((uintptr_t)p - heapBase) / MEGABLOCK_BYTES; }

static void linkPartial(MegaHeader *m)
{
    m->prev = NULL;
    m->next = blocks.partial;
    if (m->next) m->next->prev = m;
    blocks.partial = m;
}

static void unlinkPartial(MegaHeader *m)
{
    if (m->prev) m->prev->next = m->next;
    else blocks.partial = m->next;
    if (m->next) m->next->prev = m->prev;
}

static bool commitMegas(size_t first, size_t n)
{
    for (size_t i = first; i < first + n; i++) {
        if (blocks.megas[i] != MEGA_UNCOMMITTED) continue;
        if (!osCommit(megaAt(i), MEGABLOCK_BYTES)) return false;
        blocks.megas[i] = MEGA_FREE;
        blocks.freeMegas++;
        blocks.committed += MEGABLOCK_BYTES;
        if (i >= blocks.top) blocks.top = i + 1;
    }
    if (blocks.committed > blocks.peak) blocks.peak = blocks.committed;
    return true;
}

/* A megablock that is committed already: there is one. */
static size_t findFreeMega(void)
{
    size_t i = blocks.lowest;
    while (blocks.megas[i] != MEGA_FREE) i++;
    return i;
}

/* n megablocks in a row that are not in use: index of the first, or count. */
static size_t findMegaRun(size_t n)
{
    while (blocks.lowest < blocks.top && blocks.megas[blocks.lowest] == MEGA_USED) blocks.lowest++;
    size_t run = 0;
    for (size_t i = blocks.lowest; i < blocks.count; i++) {
        run = blocks.megas[i] == MEGA_USED ? 0 : run + 1;
        if (run == n) return i + 1 - n;
    }
    return blocks.count;
}

static MegaHeader *takeMegas(size_t n)
{
    /* A collection counts on what is committed: take that first. */
    size_t first = n == 1 && blocks.freeMegas > 0 ? findFreeMega() : findMegaRun(n);
    if (first == blocks.count || !commitMegas(first, n)) return NULL;
    memset(blocks.megas + first, MEGA_USED, n);
    blocks.freeMegas -= n;
    return megaAt(first);
}

static void returnMegas(MegaHeader *m, size_t n)
{
    size_t first = megaIndex(m);
    memset(blocks.megas + first, MEGA_FREE, n);
    blocks.freeMegas += n;
    if (first < blocks.lowest) blocks.lowest = first;
}

/* The lowest bit at which n ones in a row begin, or 64. */
static unsigned findRun(uint64_t mask, size_t n)
{
    for (size_t have = 1; have < n && mask != 0;) {
        size_t step = have < n - have ? have : n - have;
        mask &= mask >> step;
        have += step;
    }
    return mask == 0 ? 64 : (unsigned)__builtin_ctzll(mask);
}

static uint64_t bits(unsigned first, size_t n) { return (n == 64 ? ~(uint64_t)0 : ((uint64_t)1 << n) - 1) << first; }

static Block *initGroup(MegaHeader *m, unsigned first, size_t n)
{
    Block *b = (Block *)m + first;
    b->start = b->free = b->scan = (StgWord *)((uintptr_t)m + first * BLOCK_BYTES);
    b->link = NULL;
    b->blocks = (uint32_t)n;
    b->flags = 0;
    return b;
}

static Block *allocSmallGroup(size_t n)
{
    MegaHeader *m = blocks.partial;
    unsigned first = 64;
    for (; m != NULL; m = m->next)
        if ((first = findRun(m->freeMask, n)) < 64) break;
    if (m == NULL) {
        if ((m = takeMegas(1)) == NULL) return NULL;
        m->freeMask = ALL_FREE;
        blocks.freeBlocks += MEGABLOCK_BLOCKS - 1;
        linkPartial(m);
        first = 1;
    }
    m->freeMask &= ~bits(first, n);
    blocks.freeBlocks -= n;
    if (m->freeMask == 0) unlinkPartial(m);
    return initGroup(m, first, n);
}

size_t blocksForGroup(size_t n)
{
    if (n < MEGABLOCK_BLOCKS) return n;
    return (n + MEGABLOCK_BLOCKS) / MEGABLOCK_BLOCKS * MEGABLOCK_BLOCKS;
}

Block *allocBlocks(size_t n)
{
    if (n > heapSize / BLOCK_BYTES) return NULL;
    acquireLock(&blocks.lock);
    Block *b = NULL;
    if (n < MEGABLOCK_BLOCKS) {
        b = allocSmallGroup(n);
    } else {
        MegaHeader *m = takeMegas(blocksForGroup(n) / MEGABLOCK_BLOCKS);
        if (m != NULL) b = initGroup(m, 1, n);
    }
    releaseLock(&blocks.lock);
    return b;
}

void freeBlocks(Block *b)
{
    size_t n = b->blocks;
    MegaHeader *m = (MegaHeader *)((uintptr_t)b & ~(MEGABLOCK_BYTES - 1));
    acquireLock(&blocks.lock);
    if (n >= MEGABLOCK_BLOCKS) {
        returnMegas(m, blocksForGroup(n) / MEGABLOCK_BLOCKS);
    } else {
        if (m->freeMask == 0) linkPartial(m);
        m->freeMask |= bits((unsigned)(b - (Block *)m), n);
        blocks.freeBlocks += n;
        if (m->freeMask == ALL_FREE) {
            unlinkPartial(m);
            blocks.freeBlocks -= MEGABLOCK_BLOCKS - 1;
            returnMegas(m, 1);
        }
    }
    releaseLock(&blocks.lock);
}

bool ensureFreeBlocks(size_t n)
{
    bool ok = true;
    acquireLock(&blocks.lock);
    for (size_t i = blocks.lowest; ok && blocks.freeBlocks + blocks.freeMegas * (MEGABLOCK_BLOCKS - 1) < n; i++) {
        if (i >= blocks.count) ok = false;
        else if (blocks.megas[i] == MEGA_UNCOMMITTED) ok = commitMegas(i, 1);
    }
    releaseLock(&blocks.lock);
    return ok;
}

void trimBlocks(size_t keep)
{
    acquireLock(&blocks.lock);
    size_t keepMegas = keep / MEGABLOCK_BYTES;
    for (size_t i = blocks.top; i-- > 0 && blocks.freeMegas > keepMegas;) {
        if (blocks.megas[i] != MEGA_FREE) continue;
        osDecommit(megaAt(i), MEGABLOCK_BYTES);
        blocks.megas[i] = MEGA_UNCOMMITTED;
        blocks.freeMegas--;
        blocks.committed -= MEGABLOCK_BYTES;
    }
    releaseLock(&blocks.lock);
}

size_t usedMegablocks(void)
{
    acquireLock(&blocks.lock);
    size_t n = blocks.top;
    releaseLock(&blocks.lock);
    return n;
}

size_t committedBytes(void)
{
    acquireLock(&blocks.lock);
    size_t n = blocks.committed;
    releaseLock(&blocks.lock);
    return n;
}

size_t peakCommittedBytes(void)
{
    acquireLock(&blocks.lock);
    size_t n = blocks.peak;
    releaseLock(&blocks.lock);
    return n;
}

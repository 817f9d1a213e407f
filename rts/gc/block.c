#include "gc/megablock.h"

#include "base/report.h"
#include "os/memory.h"
#include "os/os.h"
#include "os/topology.h"

#include <string.h>

uintptr_t heapBase, heapSize, markMaps[MARK_MAPS], markOrigin;

/* Addresses for a heap without a limit, on each of the first few nodes. */
#define USUAL_RESERVATION ((size_t)256 << 30)
#define LEAST_MEGABLOCKS  16u
#define HUGE_PAGE_BYTES   ((size_t)2 << 20)

/* ---- The reservation: the heap, then its marks ---- */

static size_t wholeReservation(size_t heapBytes) { return heapBytes + heapBytes / MEGABLOCK_BYTES * MEGABLOCK_MARK_BYTES * MARK_MAPS; }

static size_t wantedReservation(size_t limit, size_t nodes)
{
    size_t size = USUAL_RESERVATION;
    /* Fragments and the collector's copy come on top of a limit; address space is cheap. */
    if (limit != 0 && limit < size / 8) size = (limit * 4 + 64 * MEGABLOCK_BYTES) & ~(MEGABLOCK_BYTES - 1);
    /* Each node is to have room for everything. */
    return size * nodes < USUAL_RESERVATION * 4 ? size * nodes : USUAL_RESERVATION * 4;
}

bool initBlocks(size_t limit)
{
    unsigned nodes = topologyNodes();
    size_t size = wantedReservation(limit, nodes), halved = 0;
    void *base = NULL;
    for (; base == NULL; size = halved) {
        if (size < LEAST_MEGABLOCKS * MEGABLOCK_BYTES) return false;
        base = osReserve(wholeReservation(size), HUGE_PAGE_BYTES);
        halved = base ? size : size / 2 & ~(MEGABLOCK_BYTES - 1);
    }
    if (!initMegaTables(size / MEGABLOCK_BYTES, nodes)) {
        osRelease(base, wholeReservation(size));
        return false;
    }
    heapBase = (uintptr_t)base;
    heapSize = size;
    for (size_t i = 0; i < MARK_MAPS; i++)
        markMaps[i] = heapBase + heapSize + i * (heapSize / MEGABLOCK_BYTES * MEGABLOCK_MARK_BYTES) - (heapBase >> 6);
    markOrigin = markMaps[0];
    return true;
}

void freeAllBlocks(void)
{
    if (heapBase == 0) return;
    osRelease((void *)heapBase, wholeReservation(heapSize));
    freeMegaTables();
    heapBase = heapSize = 0;
}

void forgetBlocks(void) { renewLock(&megas.lock); }

void forgetAllBlocks(void)
{
    forgetMegaTables();
    heapBase = heapSize = 0;
}

/* ---- Runs of blocks ---- */

static MegaHeader *headerOf(const Block *b) { return (MegaHeader *)((uintptr_t)b & ~(MEGABLOCK_BYTES - 1)); }
static uint64_t bits(unsigned first, size_t n) { return (n == 64 ? ~(uint64_t)0 : ((uint64_t)1 << n) - 1) << first; }

/* The length of the longest run of ones.  power[k] has a one where a run of 1 << k begins. */
static unsigned longestRun(uint64_t mask)
{
    uint64_t power[6] = { mask };
    unsigned k = 0;
    if (mask == 0) return 0;
    for (; k < 5; k++)
        if ((power[k + 1] = power[k] & power[k] >> (1u << k)) == 0) break;
    unsigned run = 1u << k;
    uint64_t x = power[k];
    while (k-- > 0) {
        uint64_t y = x & power[k] >> run;
        if (y == 0) continue;
        x = y;
        run += 1u << k;
    }
    return run;
}

/* The length of the run that n ones, freed just now, have become part of.  Bit 0 is never one. */
static unsigned runAround(uint64_t mask, unsigned first)
{
    return (unsigned)__builtin_ctzll(~(mask >> first)) + (unsigned)__builtin_clzll(~(mask << (64 - first)));
}

/* Out of its bin; the caller finds it another. */
static void leaveAnyBin(MegaHeader *m)
{
    if (m->bin == BIN_FREE) {
        takeFree(megaOf(m));
        megas.freeBlocks += MEGABLOCK_BLOCKS - 1;
    } else if (m->bin < BIN_FREE) {
        leaveBin(megaOf(m), m->bin);
    }
    m->bin = BIN_NONE;
}

static void enterAnyBin(MegaHeader *m, unsigned run)
{
    if (run == 0) return;
    m->bin = run;
    if (run == BIN_FREE) {
        putFree(megaOf(m));
        megas.freeBlocks -= MEGABLOCK_BLOCKS - 1;
    } else {
        enterBin(megaOf(m), run);
    }
}

static void takeBlocks(MegaHeader *m, unsigned first, size_t n)
{
    leaveAnyBin(m);
    m->freeMask &= ~bits(first, n);
    megas.freeBlocks -= n;
    enterAnyBin(m, longestRun(m->freeMask));
}

/* Single blocks come from elsewhere from now on. */
static void retireSingle(unsigned node)
{
    MegaHeader *m = megas.node[node].single;
    megas.node[node].single = NULL;
    if (m == NULL) return;
    m->bin = BIN_NONE;
    enterAnyBin(m, longestRun(m->freeMask));
}

/* The one with the least room for n blocks in a row among a node's; NULL: none has. */
static MegaHeader *roomInBins(unsigned node, size_t n)
{
    uint64_t fit = megas.node[node].nonEmpty & ~(uint64_t)0 << n;
    if (fit == 0) return NULL;
    unsigned bin = (unsigned)__builtin_ctzll(fit);
    MegaHeader *m = megaAt(lowestInBin(node, bin));
    if (bin == BIN_FREE) *m = (MegaHeader){ .freeMask = ALL_FREE, .bin = BIN_FREE, .node = node };
    return m;
}

static MegaHeader *roomOn(unsigned node, size_t n)
{
    MegaHeader *m = roomInBins(node, n);
    if (m != NULL || megas.node[node].single == NULL) return m;
    retireSingle(node);
    return roomInBins(node, n);
}

static MegaHeader *roomByGrowing(unsigned node, size_t n)
{
    MegaHeader *m = NULL;
    while (m == NULL && growNode(node, 1)) m = roomOn(node, n); /* others may have been faster */
    return m;
}

/* What is committed on other nodes comes behind what can be committed on this. */
static MegaHeader *roomFor(unsigned node, size_t n)
{
    MegaHeader *m = roomOn(node, n);
    if (m == NULL) m = roomByGrowing(node, n);
    for (unsigned i = 1; m == NULL && i < megas.nodes; i++) m = roomOn((node + i) % megas.nodes, n);
    for (unsigned i = 1; m == NULL && i < megas.nodes; i++) m = roomByGrowing((node + i) % megas.nodes, n);
    return m;
}

static Block *initGroup(Block *b, size_t n)
{
    MegaHeader *m = headerOf(b);
    b->live = 0;
    b->start = b->free = (StgWord *)((uintptr_t)m + (size_t)(b - (Block *)m) * BLOCK_BYTES);
    b->limit = b->start + n * BLOCK_WORDS;
    b->link = b->todo = NULL;
    b->blocks = (uint32_t)n;
    b->flags = b->live = 0;
    b->node = m->node;
    return b;
}

size_t blocksForGroup(size_t n)
{
    if (n < MEGABLOCK_BLOCKS) return n;
    return (n + MEGABLOCK_BLOCKS) / MEGABLOCK_BLOCKS * MEGABLOCK_BLOCKS;
}

/* Where single blocks come from, on a node if that can be had; NULL: refused.  It stays the same until it is full, which spares looking after bins. */
static MegaHeader *singlesOn(unsigned node)
{
    MegaHeader *m = megas.node[node].single;
    if (m != NULL) return m;
    if ((m = roomFor(node, 1)) == NULL) return NULL;
    retireSingle(m->node); /* another node's, or another thread's, made while this one committed memory */
    leaveAnyBin(m);
    m->bin = BIN_SINGLE;
    return megas.node[m->node].single = m;
}

/* The lowest one. */
static inline Block *takeSingle(MegaHeader *m)
{
    Block *b = (Block *)m + __builtin_ctzll(m->freeMask);
    megas.freeBlocks--;
    if ((m->freeMask &= m->freeMask - 1) == 0) retireSingle(m->node);
    return b;
}

static Block *takeSmallGroup(size_t n, unsigned node)
{
    MegaHeader *m = n == 1 ? singlesOn(node) : roomFor(node, n);
    if (m == NULL || n == 1) return m == NULL ? NULL : takeSingle(m);
    unsigned first = findOnes(m->freeMask, n);
    takeBlocks(m, first, n);
    return (Block *)m + first;
}

static Block *takeLargeGroup(size_t n, unsigned node)
{
    size_t mega = takeRun(blocksForGroup(n) / MEGABLOCK_BLOCKS, node);
    if (mega == NO_MEGA) return NULL;
    megaAt(mega)->node = nodeOfMega(mega);
    return (Block *)megaAt(mega) + 1;
}

static unsigned nodeInRange(unsigned node) { return node < megas.nodes ? node : node % megas.nodes; }

/* Descriptors are filled in without the lock: they are the new owner's. */
Block *allocBlocks(size_t n, unsigned node)
{
    if (n == 0 || n > heapSize / BLOCK_BYTES) return NULL;
    acquireLock(&megas.lock);
    node = nodeInRange(node);
    Block *b = n < MEGABLOCK_BLOCKS ? takeSmallGroup(n, node) : takeLargeGroup(n, node);
    releaseLock(&megas.lock);
    return b == NULL ? NULL : initGroup(b, n);
}

unsigned allocBlockBatch(Block **out, unsigned count, unsigned node)
{
    unsigned got = 0;
    if (heapSize == 0) return 0;
    acquireLock(&megas.lock);
    node = nodeInRange(node);
    while (got < count && (got == 0 || megas.node[node].single != NULL || roomOn(node, 1) != NULL)) {
        MegaHeader *m = singlesOn(node);
        if (m == NULL) break;
        out[got++] = takeSingle(m);
    }
    releaseLock(&megas.lock);
    for (unsigned i = 0; i < got; i++) initGroup(out[i], 1);
    return got;
}

/* ---- Freeing ---- */

static void putLargeGroup(MegaHeader *m, size_t n)
{
    size_t first = megaOf(m), count = blocksForGroup(n) / MEGABLOCK_BLOCKS;
    for (size_t i = first; i < first + count; i++) putFree(i);
}

/* Single blocks come back by the thousand, and need not change bins each time: one may be in a bin for two thirds of its longest run. */
static bool isNear(unsigned run, unsigned bin) { return run != BIN_FREE && run < bin + bin / 2; }

static void putGroup(Block *b, size_t n)
{
    MegaHeader *m = headerOf(b);
    if (n >= MEGABLOCK_BLOCKS) {
        putLargeGroup(m, n);
        return;
    }
    unsigned first = (unsigned)(b - (Block *)m);
    ASSERT((m->freeMask & bits(first, n)) == 0);
    uint64_t mask = m->freeMask |= bits(first, n);
    megas.freeBlocks += n;
    if (m->bin == BIN_SINGLE) {
        if (mask == ALL_FREE) retireSingle(m->node);
        return;
    }
    unsigned run = runAround(mask, first);
    if (m->bin != BIN_NONE && (run <= m->bin || (n == 1 && isNear(run, m->bin)))) return;
    leaveAnyBin(m);
    enterAnyBin(m, run);
}

void freeBlocks(Block *b)
{
    size_t n = b->blocks;
    acquireLock(&megas.lock);
    putGroup(b, n);
    releaseLock(&megas.lock);
}

/* So many under one acquisition of the lock, at most. */
#define FREE_AT_ONCE 64

void freeBlockList(Block *list)
{
    while (list != NULL) {
        acquireLock(&megas.lock);
        for (int i = 0; i < FREE_AT_ONCE && list != NULL; i++) {
            Block *b = list;
            list = b->link;
            putGroup(b, b->blocks);
        }
        releaseLock(&megas.lock);
    }
}

/* ---- All nodes together ---- */

static size_t countFreeBlocks(void) { return megas.freeBlocks + megas.freeMegas * (MEGABLOCK_BLOCKS - 1); }

/* Nodes take turns, so that collecting threads of each find some of their own. */
bool ensureFreeBlocks(size_t n)
{
    acquireLock(&megas.lock);
    unsigned refused = 0;
    for (unsigned node = 0; refused < megas.nodes && countFreeBlocks() < n; node = (node + 1) % megas.nodes) {
        size_t missing = (n - countFreeBlocks() + MEGABLOCK_BLOCKS - 2) / (MEGABLOCK_BLOCKS - 1);
        size_t share = (missing + megas.nodes - 1) / megas.nodes;
        refused = growNode(node, share) ? 0 : refused + 1;
    }
    bool ok = countFreeBlocks() >= n;
    releaseLock(&megas.lock);
    return ok;
}

size_t usedMegablocks(void)
{
    acquireLock(&megas.lock);
    size_t n = megas.top;
    releaseLock(&megas.lock);
    return n;
}

size_t committedBytes(void)
{
    acquireLock(&megas.lock);
    size_t n = megas.committed;
    releaseLock(&megas.lock);
    return n * MEGABLOCK_BYTES;
}

size_t peakCommittedBytes(void)
{
    acquireLock(&megas.lock);
    size_t n = megas.peak;
    releaseLock(&megas.lock);
    return n * MEGABLOCK_BYTES;
}

void clearMarks(Block *b)
{
    size_t blocks = b->blocks < MEGABLOCK_BLOCKS ? b->blocks : 1;
    memset(markWordOf(b->start), 0, blocks * (BLOCK_WORDS / 8));
}

/* What is in no bin is full, or a large group, over whose later headers the object runs: those only look like one if the bin agrees. */
static bool isTaken(const void *p)
{
    size_t mega = megaOf(p);
    const Stripe *s = &megas.stripe[mega / STRIPE_MEGABLOCKS];
    uint64_t bit = bitOfMega(mega);
    if (!(s->committed & bit) || s->bin[BIN_FREE] & bit) return false;
    const MegaHeader *m = megaAt(mega);
    if (m != megas.node[nodeOfMega(mega)].single && (m->bin >= BINS || !(s->bin[m->bin] & bit))) return true;
    return !(m->freeMask >> ((uintptr_t)p % MEGABLOCK_BYTES >> BLOCK_SHIFT) & 1);
}

bool isAllocated(const void *p)
{
    if (!isInHeap(p)) return false;
    acquireLock(&megas.lock); /* also while all are stopped: a worker may be giving memory back */
    bool taken = isTaken(p);
    releaseLock(&megas.lock);
    return taken;
}

/* ---- What dead objects left ---- */

void clearRange(uintptr_t low, uintptr_t high)
{
    uintptr_t page = osPageSize(), first = (low + page - 1) & ~(page - 1), last = high & ~(page - 1);
    if (first >= last) {
        memset((void *)low, 0, high - low);
        return;
    }
    memset((void *)low, 0, first - low);
    osDiscard((void *)first, last - first);
    memset((void *)last, 0, high - last);
}

static void clearOnes(uintptr_t base, uint64_t ones, size_t bytes)
{
    while (ones != 0) {
        unsigned first = (unsigned)__builtin_ctzll(ones);
        uint64_t rest = ~(ones >> first);
        size_t n = rest == 0 ? 64 : (size_t)__builtin_ctzll(rest);
        clearRange(base + first * bytes, base + (first + n) * bytes);
        ones &= ~bits(first, n);
    }
}

/* Under the lock, so that nobody takes what is being cleared, and a stripe at a time. */
static void clearStripe(size_t stripe)
{
    const Stripe *s = &megas.stripe[stripe];
    size_t first = stripe * STRIPE_MEGABLOCKS;
    retireSingle(nodeOfStripe(stripe));
    clearOnes((uintptr_t)megaAt(first), s->bin[BIN_FREE], MEGABLOCK_BYTES);
    for (unsigned bin = BIN_VACANT + 1; bin < BIN_FREE; bin++)
        for (uint64_t left = s->bin[bin]; left != 0; left &= left - 1) {
            MegaHeader *m = megaAt(first + (size_t)__builtin_ctzll(left));
            clearOnes((uintptr_t)m, m->freeMask, BLOCK_BYTES);
        }
}

void clearFreeBlocks(void)
{
    for (size_t s = 0; s < megas.stripes; s++) {
        acquireLock(&megas.lock);
        if ((s = nextStripe(s)) < megas.stripes) clearStripe(s);
        releaseLock(&megas.lock);
    }
}

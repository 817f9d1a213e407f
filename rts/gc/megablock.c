#include "gc/megablock.h"

#include "base/report.h"
#include "os/memory.h"
#include "os/os.h"
#include "os/topology.h"

#include <string.h>

/* Free megablocks are given back a second or two after they became free, a batch at a time, so that a heap that swings keeps what it needs again at once. */
#define TICK_NANOS    1000000000u
#define BATCH_MEGAS   64u
#define BATCH_RUNS    32
#define BATCH_NANOS   10000000u
/* What the collector wants kept is kept for so long after it said so: an idle heap keeps nothing. */
#define KEEP_NANOS    2000000000u
/* But not worth a timer. */
#define KEEP_ANYWAY   4u
/* A heap grows by a sixteenth, by so much at most, to spare system calls.  What is committed and not touched costs nothing. */
#define GROWTH_MEGAS  16u

struct Megas megas = { .lock = LOCK_INIT(RANK_BLOCKS) };

/* ---- Tables ---- */

static size_t stripesOfNode(unsigned node)
{
    return (megas.stripes - node + megas.nodes - 1) / megas.nodes;
}

void forgetMegaTables(void)
{
    megas.stripe = NULL;
    megas.node = NULL;
    megas.summary = NULL;
    megas.marksReady = NULL;
    acquireLock(&megas.lock); /* for who asks how much there is, runtime or not */
    megas.count = megas.stripes = megas.top = 0;
    megas.freeMegas = megas.freeBlocks = megas.committed = megas.dueMegas = 0;
    releaseLock(&megas.lock);
}

void freeMegaTables(void)
{
    rtsFree(megas.stripe);
    rtsFree(megas.node);
    rtsFree(megas.summary);
    rtsFree((void *)megas.marksReady);
    forgetMegaTables();
}

bool initMegaTables(size_t count, unsigned nodes)
{
    forgetMegaTables();
    megas.count = count;
    megas.stripes = (count + STRIPE_MEGABLOCKS - 1) / STRIPE_MEGABLOCKS;
    megas.nodes = nodes < megas.stripes ? nodes : (unsigned)megas.stripes;
    megas.rowWords = (stripesOfNode(0) + 63) / 64;
    megas.stripe = rtsCalloc(megas.stripes, sizeof *megas.stripe);
    megas.node = rtsCalloc(megas.nodes, sizeof *megas.node);
    megas.summary = rtsCalloc(megas.nodes * BINS * megas.rowWords, sizeof *megas.summary);
    megas.marksReady = rtsCalloc(megas.stripes, sizeof *megas.marksReady);
    acquireLock(&megas.lock);
    megas.peak = megas.keep = 0;
    megas.keepUntil = megas.lastTick = 0;
    releaseLock(&megas.lock);
    if (megas.stripe == NULL || megas.node == NULL || megas.summary == NULL || megas.marksReady == NULL) {
        freeMegaTables();
        return false;
    }
    for (unsigned i = 0; i < megas.nodes; i++) megas.node[i].stripes = (uint32_t)stripesOfNode(i);
    return true;
}

/* ---- Bins ---- */

static uint64_t *summaryRow(unsigned node, unsigned bin)
{
    return megas.summary + (node * BINS + bin) * megas.rowWords;
}

static size_t orderInNode(size_t stripe) { return megas.nodes == 1 ? stripe : stripe / megas.nodes; }

void enterBin(size_t mega, unsigned bin)
{
    size_t stripe = mega / STRIPE_MEGABLOCKS, order = orderInNode(stripe);
    unsigned node = nodeOfStripe(stripe);
    uint64_t *word = &megas.stripe[stripe].bin[bin];
    ASSERT(!(*word & bitOfMega(mega)));
    if (*word == 0) summaryRow(node, bin)[order / 64] |= (uint64_t)1 << order % 64;
    *word |= bitOfMega(mega);
    NodeMegas *n = &megas.node[node];
    if (n->count[bin]++ == 0) n->nonEmpty |= (uint64_t)1 << bin;
}

void leaveBin(size_t mega, unsigned bin)
{
    size_t stripe = mega / STRIPE_MEGABLOCKS, order = orderInNode(stripe);
    unsigned node = nodeOfStripe(stripe);
    uint64_t *word = &megas.stripe[stripe].bin[bin];
    ASSERT(*word & bitOfMega(mega));
    *word &= ~bitOfMega(mega);
    if (*word == 0) summaryRow(node, bin)[order / 64] &= ~((uint64_t)1 << order % 64);
    NodeMegas *n = &megas.node[node];
    if (--n->count[bin] == 0) n->nonEmpty &= ~((uint64_t)1 << bin);
}

size_t lowestInBin(unsigned node, unsigned bin)
{
    const uint64_t *row = summaryRow(node, bin);
    while (*row == 0) row++;
    size_t order = (size_t)(row - summaryRow(node, bin)) * 64 + (size_t)__builtin_ctzll(*row);
    size_t stripe = order * megas.nodes + node;
    return stripe * STRIPE_MEGABLOCKS + (size_t)__builtin_ctzll(megas.stripe[stripe].bin[bin]);
}

void takeFree(size_t mega)
{
    Stripe *s = &megas.stripe[mega / STRIPE_MEGABLOCKS];
    uint64_t bit = bitOfMega(mega);
    leaveBin(mega, BIN_FREE);
    megas.freeMegas--;
    s->idle &= ~bit;
    if (s->due & bit) {
        s->due &= ~bit;
        megas.dueMegas--;
    }
}

void putFree(size_t mega)
{
    enterBin(mega, BIN_FREE);
    megas.freeMegas++;
}

/* ---- Stripes ---- */

static bool hasBegun(size_t stripe)
{
    return orderInNode(stripe) < megas.node[nodeOfStripe(stripe)].begun;
}

size_t nextStripe(size_t from)
{
    while (from < megas.stripes && !hasBegun(from)) from++;
    return from;
}

/* A node's next stripe, all of it vacant; false: it has none left. */
static bool beginStripe(unsigned node)
{
    NodeMegas *n = &megas.node[node];
    if (n->begun == n->stripes) return false;
    size_t first = ((size_t)n->begun++ * megas.nodes + node) * STRIPE_MEGABLOCKS;
    for (size_t i = first; i < first + STRIPE_MEGABLOCKS && i < megas.count; i++) enterBin(i, BIN_VACANT);
    return true;
}

/* ---- Committing ---- */

static bool isCommitted(size_t mega)
{
    return (megas.stripe[mega / STRIPE_MEGABLOCKS].committed & bitOfMega(mega)) != 0;
}

static void claim(size_t first, size_t n)
{
    for (size_t i = first; i < first + n; i++) {
        if (isCommitted(i)) takeFree(i);
        else leaveBin(i, BIN_VACANT);
    }
}

/* Back into the bins that they were in, or are in since. */
static void unclaim(size_t first, size_t n)
{
    for (size_t i = first; i < first + n; i++) {
        if (isCommitted(i)) putFree(i);
        else enterBin(i, BIN_VACANT);
    }
}

/* The marks of a stripe are committed as a whole, once and for all: they are charged for when touched. */
static bool prepareStripe(size_t stripe)
{
    if (atomic_load_explicit(&megas.marksReady[stripe], memory_order_relaxed)) return true;
    size_t first = stripe * STRIPE_MEGABLOCKS, n = megas.count - first;
    if (n > STRIPE_MEGABLOCKS) n = STRIPE_MEGABLOCKS;
    size_t page = osPageSize(), bytes = (n * MEGABLOCK_MARK_BYTES + page - 1) & ~(page - 1);
    for (int i = 0; i < MARK_MAPS; i++) {
        void *marks = markWordIn(markMaps[i], megaAt(first));
        if (!osCommit(marks, bytes)) return false;
        if (megas.nodes > 1) topologyMemoryToNode(marks, bytes, nodeOfStripe(stripe));
    }
    atomic_store_explicit(&megas.marksReady[stripe], 1, memory_order_relaxed);
    return true;
}

/* Claimed ones, without the lock.  A node that the kernel will not prefer leaves placement to the first touch. */
static bool commitRange(size_t first, size_t n)
{
    for (size_t s = first / STRIPE_MEGABLOCKS; s <= (first + n - 1) / STRIPE_MEGABLOCKS; s++)
        if (!prepareStripe(s)) return false;
    if (!osCommit(megaAt(first), n * MEGABLOCK_BYTES)) return false;
    for (size_t i = first, next; megas.nodes > 1 && i < first + n; i = next) {
        next = (i / STRIPE_MEGABLOCKS + 1) * STRIPE_MEGABLOCKS;
        if (next > first + n) next = first + n;
        topologyMemoryToNode(megaAt(i), (next - i) * MEGABLOCK_BYTES, nodeOfMega(i));
    }
    return true;
}

static bool allCommitted(size_t first, size_t n)
{
    while (n > 0 && isCommitted(first)) first++, n--;
    return n == 0;
}

/* Committing again what is committed does no harm. */
static bool commitClaimed(size_t first, size_t n)
{
    if (allCommitted(first, n)) return true;
    releaseLock(&megas.lock);
    bool ok = commitRange(first, n);
    acquireLock(&megas.lock);
    if (!ok) return false;
    for (size_t i = first; i < first + n; i++) {
        if (isCommitted(i)) continue;
        megas.stripe[i / STRIPE_MEGABLOCKS].committed |= bitOfMega(i);
        megas.committed++;
    }
    if (first + n > megas.top) megas.top = first + n;
    if (megas.committed > megas.peak) megas.peak = megas.committed;
    return true;
}

/* The lowest vacant one, and up to `most` that follow it. */
static size_t growBy(unsigned node, size_t most)
{
    NodeMegas *n = &megas.node[node];
    if (n->count[BIN_VACANT] == 0 && !beginStripe(node)) return 0;
    size_t first = lowestInBin(node, BIN_VACANT), got = 1;
    uint64_t vacant = megas.stripe[first / STRIPE_MEGABLOCKS].bin[BIN_VACANT];
    while (got < most && (first + got) % STRIPE_MEGABLOCKS != 0 && (vacant & bitOfMega(first + got))) got++;
    claim(first, got);
    bool ok = commitClaimed(first, got);
    unclaim(first, got);
    return ok ? got : 0;
}

bool growNode(unsigned node, size_t wanted)
{
    size_t most = megas.committed / 16;
    if (most > GROWTH_MEGAS) most = GROWTH_MEGAS;
    if (most < wanted) most = wanted;
    return growBy(node, most) > 0 || (most > 1 && growBy(node, 1) > 0);
}

/* ---- Several in a row ---- */

/* The lowest bit at which n ones in a row begin, or 64. */
unsigned findOnes(uint64_t word, size_t n)
{
    for (size_t have = 1; have < n && word != 0;) {
        size_t step = have < n - have ? have : n - have;
        word &= word >> step;
        have += step;
    }
    return word == 0 ? 64 : (unsigned)__builtin_ctzll(word);
}

static uint64_t available(size_t stripe, bool freeOnly)
{
    if (hasBegun(stripe)) return megas.stripe[stripe].bin[BIN_FREE] | (freeOnly ? 0 : megas.stripe[stripe].bin[BIN_VACANT]);
    if (freeOnly) return 0;
    size_t left = megas.count - stripe * STRIPE_MEGABLOCKS;
    return left >= STRIPE_MEGABLOCKS ? ~(uint64_t)0 : ((uint64_t)1 << left) - 1;
}

/* Within one stripe of a node. */
static size_t findRunOnNode(size_t n, unsigned node, bool freeOnly)
{
    for (size_t s = node; s < megas.stripes; s += megas.nodes) {
        unsigned first = findOnes(available(s, freeOnly), n);
        if (first < 64) return s * STRIPE_MEGABLOCKS + first;
        if (!hasBegun(s)) break;
    }
    return NO_MEGA;
}

/* Across stripes, and so across nodes if there are several: what is larger than a stripe is spread over them. */
static size_t findRunAnywhere(size_t n, bool freeOnly)
{
    size_t run = 0;
    for (size_t s = 0; s < megas.stripes; s++) {
        uint64_t word = available(s, freeOnly);
        size_t begin = s * STRIPE_MEGABLOCKS, low = ~word == 0 ? 64 : (size_t)__builtin_ctzll(~word);
        if (run + low >= n) return begin - run;
        unsigned first = n < 64 ? findOnes(word, n) : 64;
        if (first < 64) return begin + first;
        run = low == 64 ? run + 64 : (size_t)__builtin_clzll(~word);
    }
    return NO_MEGA;
}

static void beginStripes(size_t first, size_t n)
{
    for (size_t s = first / STRIPE_MEGABLOCKS; s <= (first + n - 1) / STRIPE_MEGABLOCKS; s++)
        while (!hasBegun(s)) beginStripe(nodeOfStripe(s));
}

/* What is committed comes first, because a collection may count on it, and because it is there already; a node's own come before any others'. */
size_t takeRun(size_t n, unsigned node)
{
    for (int way = 0; way < 4; way++) {
        bool own = way < 2, freeOnly = way % 2 == 0;
        if ((own && n > STRIPE_MEGABLOCKS) || (freeOnly && megas.freeMegas < n)) continue;
        size_t first = own ? findRunOnNode(n, node, freeOnly) : findRunAnywhere(n, freeOnly);
        if (first == NO_MEGA) continue;
        beginStripes(first, n);
        claim(first, n);
        if (commitClaimed(first, n)) return first;
        unclaim(first, n);
    }
    return NO_MEGA;
}

/* ---- Giving back ---- */

typedef struct {
    size_t first, n;
} Run;

/* Megablocks that are free beyond this are not needed. */
static size_t keptMegas(uint64_t now)
{
    return now < megas.keepUntil && megas.keep > KEEP_ANYWAY ? megas.keep : KEEP_ANYWAY;
}

/* What was free at the last tick, and is, is due; what is free now may be at the next. */
static void ageFree(uint64_t now)
{
    if (now < megas.lastTick + TICK_NANOS) return; /* perhaps before it: somebody who read the clock later was first here */
    megas.lastTick = now;
    megas.dueMegas = 0;
    for (size_t s = nextStripe(0); s < megas.stripes; s = nextStripe(s + 1)) {
        Stripe *stripe = &megas.stripe[s];
        stripe->due |= stripe->idle;
        stripe->idle = stripe->bin[BIN_FREE];
        megas.dueMegas += (size_t)__builtin_popcountll(stripe->due);
    }
}

/* Claim the highest run of a stripe that is due, of at most so many. */
static Run claimDueRun(size_t stripe, size_t most)
{
    uint64_t due = megas.stripe[stripe].due;
    Run run = { (stripe + 1) * STRIPE_MEGABLOCKS - (size_t)__builtin_clzll(due), 0 };
    while (run.n < most && run.first > stripe * STRIPE_MEGABLOCKS && (due & bitOfMega(run.first - 1))) {
        takeFree(--run.first);
        run.n++;
    }
    return run;
}

/* Claim a batch of what is due, from the top, as long as more than `kept` are free.  Returns the number of runs. */
static unsigned claimDue(Run runs[BATCH_RUNS], size_t kept)
{
    unsigned count = 0;
    size_t room = BATCH_MEGAS;
    for (size_t s = (megas.top + STRIPE_MEGABLOCKS - 1) / STRIPE_MEGABLOCKS; s-- > 0;) {
        while (megas.stripe[s].due != 0) {
            size_t spare = megas.freeMegas > kept ? megas.freeMegas - kept : 0;
            if (spare > room) spare = room;
            if (spare == 0 || count == BATCH_RUNS) return count;
            runs[count] = claimDueRun(s, spare);
            room -= runs[count++].n;
        }
    }
    return count;
}

/* The marks of the megablocks go back too, as far as they fill pages. */
static void decommitRun(Run run)
{
    osDecommit(megaAt(run.first), run.n * MEGABLOCK_BYTES);
    for (int i = 0; i < MARK_MAPS; i++) {
        uintptr_t page = osPageSize(), low = (uintptr_t)markWordIn(markMaps[i], megaAt(run.first));
        uintptr_t high = (low + run.n * MEGABLOCK_MARK_BYTES) & ~(page - 1);
        low = (low + page - 1) & ~(page - 1);
        if (low < high) osDiscard((void *)low, high - low);
    }
}

static void vacateRun(Run run)
{
    for (size_t i = run.first; i < run.first + run.n; i++) {
        megas.stripe[i / STRIPE_MEGABLOCKS].committed &= ~bitOfMega(i);
        enterBin(i, BIN_VACANT);
    }
    megas.committed -= run.n;
}

static bool giveBackBatch(size_t kept)
{
    Run runs[BATCH_RUNS];
    acquireLock(&megas.lock);
    unsigned count = claimDue(runs, kept);
    releaseLock(&megas.lock);
    if (count == 0) return false;
    for (unsigned i = 0; i < count; i++) decommitRun(runs[i]);
    acquireLock(&megas.lock);
    for (unsigned i = 0; i < count; i++) vacateRun(runs[i]);
    releaseLock(&megas.lock);
    return true;
}

static uint64_t nextDecay(uint64_t now)
{
    if (megas.freeMegas <= KEEP_ANYWAY) return UINT64_MAX;
    if (megas.dueMegas > 0 && megas.freeMegas > keptMegas(now)) return BATCH_NANOS;
    return megas.lastTick + TICK_NANOS - now;
}

uint64_t trimBlocks(size_t keep, uint64_t now)
{
    acquireLock(&megas.lock);
    megas.keep = (keep + MEGABLOCK_BYTES - 1) / MEGABLOCK_BYTES;
    megas.keepUntil = now + KEEP_NANOS;
    ageFree(now);
    uint64_t next = nextDecay(now);
    releaseLock(&megas.lock);
    return next;
}

uint64_t decayBlocks(uint64_t now)
{
    acquireLock(&megas.lock);
    ageFree(now);
    size_t kept = keptMegas(now);
    releaseLock(&megas.lock);
    giveBackBatch(kept);
    acquireLock(&megas.lock);
    uint64_t next = nextDecay(now);
    releaseLock(&megas.lock);
    return next;
}

void trimBlocksNow(size_t keep)
{
    acquireLock(&megas.lock);
    for (size_t s = nextStripe(0); s < megas.stripes; s = nextStripe(s + 1)) megas.stripe[s].due = megas.stripe[s].bin[BIN_FREE];
    megas.dueMegas = megas.freeMegas;
    releaseLock(&megas.lock);
    while (giveBackBatch(keep / MEGABLOCK_BYTES)) {}
}

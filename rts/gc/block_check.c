/* The block allocator's invariants, one look at everything. */
#include "gc/megablock.h"

#include "base/report.h"

typedef struct {
    size_t megas[BINS], freeBlocks, committed, due;
    const char *wrong;
} Sums;

static void expect(Sums *sums, bool holds, const char *what)
{
    if (!holds && sums->wrong == NULL) sums->wrong = what;
}

static void checkHeader(Sums *sums, size_t mega, unsigned bin)
{
    const MegaHeader *m = megaAt(mega);
    expect(sums, m->bin == bin, "a megablock's header names another bin");
    expect(sums, m->node == nodeOfMega(mega), "a megablock's header names another node");
    expect(sums, findOnes(m->freeMask, bin) < 64 && findOnes(m->freeMask, bin == 1 ? 2 : bin + bin / 2) == 64, "a megablock is in the bin for another run");
    expect(sums, !(m->freeMask & 1), "the block of the descriptors is free");
    sums->freeBlocks += (size_t)__builtin_popcountll(m->freeMask);
}

static void checkStripe(Sums *sums, size_t stripe)
{
    const Stripe *s = &megas.stripe[stripe];
    unsigned node = nodeOfStripe(stripe);
    size_t order = stripe / megas.nodes;
    uint64_t seen = 0;
    for (unsigned bin = 0; bin < BINS; bin++) {
        uint64_t in = s->bin[bin], summary = megas.summary[(node * BINS + bin) * megas.rowWords + order / 64];
        expect(sums, (seen & in) == 0, "a megablock is in two bins");
        expect(sums, (summary >> order % 64 & 1) == (in != 0), "a summary is wrong");
        expect(sums, bin == BIN_VACANT ? (in & s->committed) == 0 : (in & ~s->committed) == 0, "a megablock is vacant and committed, or neither");
        seen |= in;
        sums->megas[bin] += (size_t)__builtin_popcountll(in);
        for (; bin != BIN_VACANT && bin != BIN_FREE && in != 0; in &= in - 1)
            checkHeader(sums, stripe * STRIPE_MEGABLOCKS + (size_t)__builtin_ctzll(in), bin);
    }
    expect(sums, ((s->idle | s->due) & ~s->bin[BIN_FREE]) == 0, "a megablock in use is to be given back");
    sums->committed += (size_t)__builtin_popcountll(s->committed);
    sums->due += (size_t)__builtin_popcountll(s->due);
}

static void checkSingle(Sums *sums, unsigned node)
{
    const MegaHeader *m = megas.node[node].single;
    if (m == NULL) return;
    expect(sums, m->bin == BIN_SINGLE && m->node == node, "the header of the megablock for single blocks says otherwise");
    expect(sums, m->freeMask != 0 && m->freeMask != ALL_FREE && !(m->freeMask & 1), "the megablock for single blocks is full, or entirely free");
    sums->freeBlocks += (size_t)__builtin_popcountll(m->freeMask);
}

static void checkNodes(Sums *sums)
{
    for (unsigned node = 0; node < megas.nodes; node++) checkSingle(sums, node);
    for (unsigned bin = 0; bin < BINS; bin++) {
        size_t count = 0;
        for (unsigned node = 0; node < megas.nodes; node++) {
            const NodeMegas *n = &megas.node[node];
            count += n->count[bin];
            expect(sums, (n->nonEmpty >> bin & 1) == (n->count[bin] != 0), "a node's bins are not those that hold something");
        }
        expect(sums, count == sums->megas[bin], "a bin's count is wrong");
    }
}

const char *checkBlocks(void)
{
    Sums sums = { 0 };
    acquireLock(&megas.lock);
    for (size_t s = nextStripe(0); s < megas.stripes; s = nextStripe(s + 1)) checkStripe(&sums, s);
    checkNodes(&sums);
    expect(&sums, sums.freeBlocks == megas.freeBlocks, "the count of free blocks is wrong");
    expect(&sums, sums.megas[BIN_FREE] == megas.freeMegas, "the count of free megablocks is wrong");
    expect(&sums, sums.committed == megas.committed, "the count of committed megablocks is wrong");
    expect(&sums, sums.due == megas.dueMegas, "the count of megablocks to be given back is wrong");
    releaseLock(&megas.lock);
    return sums.wrong;
}

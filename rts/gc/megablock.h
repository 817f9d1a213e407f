/* gc/megablock.h: which megablocks there are, between block.c, which cuts them into groups, and megablock.c, which gets them from the system.
 *
 * The reservation is cut into stripes of 64 megablocks (64 MiB).  Stripes are dealt to NUMA nodes in turn, so that a megablock's node follows from its
 * address, what lies side by side is one mapping to the kernel, and a heap that grows uses the addresses from below.
 *
 * A megablock is in one bin, or in none:
 *     bin 0         vacant: not committed
 *     bins 1..62    in use, and its longest run of free blocks is at least so long
 *     bin 63        committed, and entirely free
 *     none          full, part of a large group, or claimed by somebody who commits it or gives it back meanwhile;
 *                   or the one that a node takes single blocks from, until it has none left
 * A bin is a bit for each megablock in its stripe's record, a summary of a bit for each stripe in which there is any, and a count for each node: so the
 * lowest megablock of a node with room for n blocks, among those with the least room, is found by looking at a few words.  Lowest and least, so that free
 * memory gathers in few megablocks, at the end, where it can be given back.
 *
 * Committing and giving back are system calls that take long, and happen outside of the block lock: whoever does it has *claimed* the megablocks before,
 * by taking them out of their bins.  Nobody else touches what is in no bin.
 *
 * Ownership: everything here is guarded by the block lock, but what says [const]. */
#ifndef GC_MEGABLOCK_H
#define GC_MEGABLOCK_H

#include "base/lock.h"
#include "gc/block.h"

#define STRIPE_MEGABLOCKS ((size_t)64)
#define BIN_VACANT 0u
#define BIN_FREE   63u
#define BIN_NONE   64u
#define BIN_SINGLE 65u
#define BINS       64u
#define NO_MEGA    SIZE_MAX
#define ALL_FREE   (~(uint64_t)1)

/* The first 64 bytes of a megablock, where the descriptor of its block 0 would be.  Says nothing in bins 0 and 63, and in large groups. */
typedef struct {
    uint64_t freeMask; /* bit i: block i is free */
    uint32_t bin;
    uint32_t node;     /* [const] */
} MegaHeader;
_Static_assert(sizeof(MegaHeader) <= sizeof(Block), "the header takes the place of descriptor 0");

typedef struct {
    uint64_t bin[BINS];
    uint64_t committed; /* bins 1..63, and full ones, large groups, and what is being given back */
    uint64_t idle;      /* of bin 63: free since the last tick of the decay, at least */
    uint64_t due;       /* of bin 63: to be given back */
} Stripe;

typedef struct {
    uint64_t nonEmpty;   /* bit i: there is one in bin i, in a stripe that has begun */
    uint32_t count[BINS];
    uint32_t begun;      /* stripes of this node in use: the others are vacant, and their records blank */
    uint32_t stripes;    /* [const] of this node */
    MegaHeader *single;  /* the one that single blocks are taken from, with BIN_SINGLE in its header; or NULL */
} NodeMegas;

extern struct Megas {
    Lock lock;
    unsigned nodes;                /* [const] */
    size_t count, stripes;         /* [const] of megablocks, and of stripes (the last may be shorter) */
    size_t rowWords;               /* [const] of a summary: one row for each node and bin */
    Stripe *stripe;
    NodeMegas *node;
    uint64_t *summary;
    _Atomic uint8_t *marksReady;   /* [atomic] for each stripe: its marks are committed; said twice does no harm */
    size_t top;                    /* none from here on was ever committed */
    size_t freeMegas;              /* in bin 63 */
    size_t freeBlocks;             /* in bins 1..62, and where single blocks are taken from */
    size_t committed, peak;        /* megablocks */
    size_t dueMegas;               /* of freeMegas: to be given back */
    size_t keep;                   /* so many free megablocks stay, */
    uint64_t keepUntil, lastTick;  /* until then; of the caller's clock */
} megas;

static inline MegaHeader *megaAt(size_t mega) { return (MegaHeader *)(heapBase + mega * MEGABLOCK_BYTES); }
static inline size_t megaOf(const void *p) { return ((uintptr_t)p - heapBase) / MEGABLOCK_BYTES; }
static inline unsigned nodeOfStripe(size_t stripe) { return megas.nodes == 1 ? 0 : (unsigned)(stripe % megas.nodes); }
static inline unsigned nodeOfMega(size_t mega) { return nodeOfStripe(mega / STRIPE_MEGABLOCKS); }
static inline uint64_t bitOfMega(size_t mega) { return (uint64_t)1 << mega % STRIPE_MEGABLOCKS; }

/* Make the tables for a reservation of count megablocks; false: no memory.  Give them back; lose them. */
bool initMegaTables(size_t count, unsigned nodes);
void freeMegaTables(void);
void forgetMegaTables(void);

void enterBin(size_t mega, unsigned bin);
void leaveBin(size_t mega, unsigned bin);
/* The lowest of a node in a bin that is not empty. */
size_t lowestInBin(unsigned node, unsigned bin);

/* Out of bin 63, or into it. */
void takeFree(size_t mega);
void putFree(size_t mega);

/* The lowest n in a row that are vacant or free, claimed and committed; on a node if that can be had.  NO_MEGA: refused.  Lets go of the lock. */
size_t takeRun(size_t n, unsigned node);
/* Commit some of a node's vacant ones, about as many as wanted: they are free then.  false: refused, or none left.  Lets go of the lock. */
bool growNode(unsigned node, size_t wanted);

/* The lowest bit at which n ones in a row begin, or 64. */
unsigned findOnes(uint64_t word, size_t n);

/* The next stripe after `from` that has begun, or megas.stripes. */
size_t nextStripe(size_t from);

#endif

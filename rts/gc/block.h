/* gc/block.h: the memory that the heap is made of.
 *
 * One reservation of address space, made when the runtime starts, is cut into megablocks of 1 MiB, committed as needed.  The first
 * block of a megablock holds its header and the descriptors of the others:
 *
 *     | header, descriptors 1..63 | block 1 | block 2 | ...                                    | block 63 |
 *
 * so that the descriptor of an address is found by arithmetic.  A group of blocks is described by the descriptor of its first
 * one; a group larger than a megablock takes whole ones in a row, the object running over the later headers' places.
 * Ownership: a group belongs to who allocated it; the free ones are guarded by the block lock. */
#ifndef GC_BLOCK_H
#define GC_BLOCK_H

#include "rts/Types.h"

#define BLOCK_SHIFT      14
#define BLOCK_BYTES      ((size_t)1 << BLOCK_SHIFT)
#define BLOCK_WORDS      (BLOCK_BYTES / sizeof(StgWord))
#define MEGABLOCK_BYTES  ((size_t)1 << 20)
#define MEGABLOCK_BLOCKS (MEGABLOCK_BYTES / BLOCK_BYTES)

enum {
    BLOCK_FROM = 1,    /* being evacuated: its objects are to be copied */
    BLOCK_LARGE = 2,   /* holds one object, which is never copied */
    BLOCK_PINNED = 4,  /* holds pinned byte arrays, which are never copied */
    BLOCK_MARKED = 8,  /* large or pinned, and reached by this collection */
};

typedef struct Block_ Block;
struct Block_ {
    StgWord *start;   /* [const] first word */
    StgWord *free;    /* first word not in use */
    StgWord *scan;    /* collector: first word not scavenged */
    Block *link;      /* list of the owner's */
    uint32_t blocks;  /* size of the group */
    uint32_t flags;
    StgWord pad[3];
};
_Static_assert(sizeof(Block) == 64, "descriptors are addressed by shifting");

/* The bounds of the reservation.  [const] while the runtime runs. */
extern uintptr_t heapBase, heapSize;

static inline bool isInHeap(const void *p) { return (uintptr_t)p - heapBase < heapSize; }

/* The descriptor of the group that p, in its first block, belongs to. */
static inline Block *blockOf(const void *p)
{
    uintptr_t a = (uintptr_t)p, mega = a & ~(MEGABLOCK_BYTES - 1);
    return (Block *)(mega + ((a - mega) >> BLOCK_SHIFT) * sizeof(Block));
}

static inline StgWord *blockEnd(const Block *b) { return b->start + b->blocks * BLOCK_WORDS; }

/* Reserve address space for a heap of at most limit bytes (0: as much as the system gives).  false: refused. */
bool initBlocks(size_t limit);
/* Give everything back to the operating system. */
void freeAllBlocks(void);
/* In a forked child: the lock is nobody's; and: there is no heap, its addresses are lost. */
void forgetBlocks(void);
void forgetAllBlocks(void);

/* A group of n blocks, or NULL.  Takes the block lock. */
Block *allocBlocks(size_t n);
void freeBlocks(Block *group);
/* Commit memory until n single blocks are free.  false: refused. */
bool ensureFreeBlocks(size_t n);
/* Give free megablocks back to the operating system until at most keep bytes are free. */
void trimBlocks(size_t keep);

/* Bytes committed now, and the most there ever were since the start. */
size_t committedBytes(void);
size_t peakCommittedBytes(void);

/* Megablocks from the reservation's start to the last that was ever committed. */
size_t usedMegablocks(void);

/* n blocks as megablocks count them: what a group of n costs. */
size_t blocksForGroup(size_t n);

#endif

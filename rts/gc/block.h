/* gc/block.h: the memory that the heap is made of.
 *
 * One reservation of address space, made when the runtime starts, is cut into megablocks of 1 MiB, committed as needed.  The first
 * block of a megablock holds its header and the descriptors of the others:
 *
 *     | header, descriptors 1..63 | block 1 | block 2 | ...                                    | block 63 |
 *
 * so that the descriptor of an address is found by arithmetic.  A group of blocks is described by the descriptor of its first
 * one; a group larger than a megablock takes whole ones in a row, the object running over the later headers' places.
 * Each megablock belongs to a NUMA node, and its pages come from there if the kernel agrees.
 *
 * Behind the heap the reservation holds a bit for each of its words: marks, for the collector.
 *
 * Ownership: a group belongs to who allocated it, and so do its marks; the free ones are guarded by the block lock.  One lock for all nodes: it is held for
 * some fifty instructions (system calls happen outside), collecting threads take blocks by the batch, and a group of any size can be looked for anywhere. */
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
    BLOCK_PINNED = 4,  /* holds pinned byte arrays, which are never copied: pinned.h */
    BLOCK_MARKED = 8,  /* large or pinned, and reached by this collection */
    BLOCK_YOUNG = 16,  /* its objects are young */
    BLOCK_AGED = 32,   /* and have survived a collection */
    BLOCK_REACHED = 64, /* large or pinned, old, and reached by the marking that goes on (mark.h) */
};

typedef struct Block_ Block;
struct Block_ {
    StgWord *start;   /* [const] first word */
    StgWord *limit;   /* [const] one behind the last */
    StgWord *free;    /* first word not in use */
    StgWord *judged;  /* pinned: arrays below it live if they are marked (pinned.h) */
    Block *link;      /* list of the owner's */
    uint32_t blocks;  /* size of the group */
    uint32_t flags;   /* others look at it by blockFlags */
    Block *todo;      /* collector: the next one with holes to be filled; of work that waits */
    uint32_t node;    /* [const] NUMA node, as topology.h numbers them */
    uint32_t live;    /* collector: words of objects that were marked */
};
_Static_assert(sizeof(Block) == 64, "descriptors are addressed by shifting");

/* What is kept for each node stands in rows; with more nodes than that some share one. */
#define NODE_ROWS 8
static inline unsigned rowOf(const Block *b) { return b->node % NODE_ROWS; }

/* The bounds of the reservation.  [const] while the runtime runs. */
extern uintptr_t heapBase, heapSize;

static inline bool isInHeap(const void *p) { return (uintptr_t)p - heapBase < heapSize; }

/* The descriptor of the group that p, in its first block, belongs to. */
static inline Block *blockOf(const void *p)
{
    uintptr_t a = (uintptr_t)p;
    __asm__("" : "+r"(a)); /* or compilers think of static objects, and warn */
    uintptr_t mega = a & ~(MEGABLOCK_BYTES - 1);
    return (Block *)(mega + ((a - mega) >> BLOCK_SHIFT) * sizeof(Block));
}

static inline StgWord *blockEnd(const Block *b) { return b->limit; }

/* The flags of a group, for who does not own it; and their change by one of several.  Relaxed: they say nothing about what lies in the group. */
static inline uint32_t blockFlags(const Block *b) { return __atomic_load_n(&b->flags, __ATOMIC_RELAXED); }
static inline void setBlockFlags(Block *b, uint32_t flags) { __atomic_store_n(&b->flags, flags, __ATOMIC_RELAXED); }
/* true: this call set it. */
static inline bool tryBlockFlag(Block *b, uint32_t flag)
{
    return !(blockFlags(b) & flag) && !(__atomic_fetch_or(&b->flags, flag, __ATOMIC_RELAXED) & flag);
}

/* ---- Marks: a bit for each word of the heap, twice: while marking goes on in one map, the other still says where the holes of the last one are (mark.h).
 * Those of a new group are what its last owner left. */
#define MEGABLOCK_MARK_BYTES (MEGABLOCK_BYTES / sizeof(StgWord) / 8)
enum { MARK_MAPS = 2 };
extern uintptr_t markMaps[MARK_MAPS]; /* [const] where the marks of address 0 would be */
extern uintptr_t markOrigin;          /* [stopped to write] the map in use */

static inline uint64_t *markWordIn(uintptr_t map, const void *p) { return (uint64_t *)(map + ((uintptr_t)p >> 9 << 3)); }
static inline uint64_t *markWordOf(const void *p) { return markWordIn(markOrigin, p); }
static inline uint64_t markBitOf(const void *p) { return (uint64_t)1 << ((uintptr_t)p >> 3 & 63); }
/* Relaxed: a mark says nothing about what the object holds. */
static inline bool isMarked(const void *p) { return (__atomic_load_n(markWordOf(p), __ATOMIC_RELAXED) & markBitOf(p)) != 0; }
/* Nobody else marks in this group meanwhile. */
static inline void setMark(const void *p)
{
    uint64_t *word = markWordOf(p);
    __atomic_store_n(word, __atomic_load_n(word, __ATOMIC_RELAXED) | markBitOf(p), __ATOMIC_RELAXED);
}
/* true: this call marked it. */
static inline bool tryMark(const void *p)
{
    return !isMarked(p) && !(__atomic_fetch_or(markWordOf(p), markBitOf(p), __ATOMIC_RELAXED) & markBitOf(p));
}
/* Marking reached something that does not move.  true: the first of its group. */
static inline bool reachInPlace(Block *b, const void *p)
{
    if (blockFlags(b) & BLOCK_PINNED) tryMark(p);
    return tryBlockFlag(b, BLOCK_REACHED);
}
/* Of a group larger than a megablock, which is one object, only those of the first block. */
void clearMarks(Block *group);

/* Reserve address space for a heap of at most limit bytes (0: as much as the system gives).  false: refused. */
bool initBlocks(size_t limit);
/* Give everything back to the operating system. */
void freeAllBlocks(void);
/* In a forked child: the lock is nobody's; and: there is no heap, its addresses are lost. */
void forgetBlocks(void);
void forgetAllBlocks(void);

/* A group of n blocks, or NULL, on a node if that can be had.  Takes the block lock. */
Block *allocBlocks(size_t n, unsigned node);
/* At most count single blocks under one acquisition of the lock; how many.  0: refused. */
unsigned allocBlockBatch(Block **out, unsigned count, unsigned node);
void freeBlocks(Block *group);
/* All groups of a list by link. */
void freeBlockList(Block *list);
/* Commit memory until n single blocks are free, on whatever node.  false: refused. */
bool ensureFreeBlocks(size_t n);

/* Giving back.  Free megablocks go back to the operating system one to two seconds after they became free, in batches.
 * After each collection: at least keep free bytes are to stay for the next few seconds.  Makes no system call.  And, from a timer: give a batch back.
 * Both return after how many nanoseconds decayBlocks wants to be called; UINT64_MAX: not any more.  now: nanoseconds of any clock that never goes back. */
uint64_t trimBlocks(size_t keep, uint64_t now);
uint64_t decayBlocks(uint64_t now);
/* At once, until at most keep bytes are free. */
void trimBlocksNow(size_t keep);
/* Drop what free memory still holds of dead objects: it reads as zero, and its pages go back. */
void clearFreeBlocks(void);
/* The same for a part of a group that the caller owns.  Whole pages by giving them up, which does not touch those that are not there. */
void clearRange(uintptr_t low, uintptr_t high);

/* Does an address lie in a group that somebody has?  For the verifier. */
bool isAllocated(const void *p);
/* What is wrong with the allocator's tables; NULL: nothing.  Looks at everything.  Claimed megablocks count as full. */
const char *checkBlocks(void);

/* Bytes committed now, and the most there ever were since the start. */
size_t committedBytes(void);
size_t peakCommittedBytes(void);

/* Megablocks from the reservation's start to the last that was ever committed. */
size_t usedMegablocks(void);

/* n blocks as megablocks count them: what a group of n costs. */
size_t blocksForGroup(size_t n);

#endif

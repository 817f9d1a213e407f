/* gc/gct.h: a collecting thread, between the collector's files.
 *
 * In a minor collection each of the threads that ran managed code starts from its own capability's roots and copies what is in its own cache; it takes
 * from others only when they have much more to do.  In a major one everything is everybody's.
 *
 * Each collecting thread copies into blocks of its own, one being filled for aged objects and one for old ones (or a hole in an old block), of each node.  What was
 * copied and not yet scavenged when a block is full is pending: work for its thread or for any other, under the owner's lock.  Objects stay on the NUMA node
 * where they were made; in major collections what is pending on another node is work for a thread of that one, if there is any.  Large objects that
 * were reached are pending as well; of long arrays a piece at a time is taken.  A forwarding address is written by compare-and-swap when others may
 * collect too: who loses takes his copy back.  For constructors and functions a plain store will do, unless their identity matters (needIdentity): the locked
 * instruction is half of what copying one costs.  See: GHC's copy_tag_nolock. */
#ifndef GC_GCT_H
#define GC_GCT_H

#include "gc/heap.h"
#include "os/topology.h"

#include <stdatomic.h>

#define MAX_COLLECTORS 64
#define READY_BLOCKS 4
typedef struct {
    StgWord *scan;         /* what was copied from here on is not yet scavenged */
    StgWord *free, *limit; /* of what is being filled */
    StgWord *counted;      /* what was copied from here on is not yet in words */
    size_t words;          /* that were copied */
    Block *block;          /* NULL: nothing yet */
    Block *full, *lastFull; /* through link; the last is the first that was filled */
    size_t blocks;         /* that were taken for both */
    uint32_t flags;        /* of its blocks */
    bool hole;             /* it is part of a block that is among the heap's old ones */
    Block *holed;          /* the old block whose holes are being filled, from holedAt on */
    StgWord *holedAt;
} Space;

/* Objects one after the other; or, with a large object, words of it. */
typedef struct {
    Block *block;
    StgWord *from, *to;
} Work;

#define WORK_WORDS (sizeof(Work) / sizeof(StgWord))

/* Work that waits, in chunks of memory: link leads to newer ones, todo to older ones. */
typedef struct {
    Block *oldest, *newest;
    size_t begin, end;       /* what waits longest in the oldest chunk; behind what came last, in the newest */
    _Atomic unsigned length; /* [atomic] of all */
} WorkQueue;

enum { TO_AGED, TO_OLD, SPACES };

typedef struct GcThread_ {
    Visitor v;              /* of roots */
    bool parallel;          /* others may be collecting as well */
    bool toOld;             /* what is reached now becomes old at once */
    bool identity;          /* no object may be copied twice */
    bool remembers;         /* what is being scavenged is old: slots that still hold something young are remembered */
    unsigned number, home;  /* home: the nursery whose roots it visits first */
    Space to[NODE_ROWS][SPACES]; /* objects stay on their nodes: see rowOf */
    unsigned rows;          /* that are in use */
    _Atomic uint32_t lock;  /* guards pending */
    WorkQueue pending;      /* [lock] */
    _Atomic unsigned node;  /* [atomic] its own */
    unsigned ready;         /* blocks for to-space that were taken in advance, on that node */
    Block *readyBlocks[READY_BLOCKS];
    RememberedSet kept;     /* for the next minor collection */
    bool marks;             /* old objects that are reached are to be marked: mark.h */
    bool awaits;            /* what is reached may be a key that somebody waits for: keys.h */
    bool notes;             /* one of these two: copies are noted */
    RememberedSet shaded;   /* those that were, and are still to be looked into */
    size_t words, promoted; /* copied; and of these, into the old space: when it has ended */
    uint64_t cpu;           /* nanoseconds of the processor; of a helper, when it has ended */
} __attribute__((aligned(128))) GcThread;

extern GcThread collectors[MAX_COLLECTORS];
static inline GcThread *leader(void) { return &collectors[0]; }

/* Of its spaces. */
static inline unsigned rowsInUse(void) { return topologyNodes() < NODE_ROWS ? topologyNodes() : NODE_ROWS; }
/* A collecting thread begins, with nothing of the last collection but the block of old objects that is not yet full. */
void beginCollector(GcThread *g, bool minor, bool parallel, unsigned home, unsigned node);
/* It ends: what it took in advance goes back. */
void endCollector(GcThread *g);
/* Keys are awaited, or are not any more. */
void setAwaits(GcThread *g);
/* Scavenge what is pending, its own first, then others'.  false: there is none at the moment. */
bool scavengeSome(GcThread *g);
/* Visit the slots of a remembered set; those that still hold something young are kept by the collecting thread. */
void visitRemembered(GcThread *g, RememberedSet *set);
void eachRemembered(RememberedSet *set, void (*f)(HaskellObj *slot, void *ctx), void *ctx);
/* Its first chunk is empty: go on with the next.  false: there is none. */
bool dropFirstChunk(RememberedSet *set);
/* false: memory was refused. */
bool tryRemember(RememberedSet *set, HaskellObj *slot);
/* Free it; add one to another. */
void forgetRemembered(RememberedSet *set);
void moveRemembered(RememberedSet *from, RememberedSet *to);

/* ---- collect.c: parts of a collection */
#define POISON_WORD ((StgWord)0xdbdbdbdbdbdbdbd8u)
#ifdef CAPSTAN_TORTURE
#define POISONS_HOLES true
#else
#define POISONS_HOLES heap.poison
#endif
/* Those of tables: a part of so many; any collecting thread. */
void visitTableRoots(Visitor *v, unsigned part, unsigned parts);
/* Follow what was visited to its end. */
void follow(Visitor *v);
/* The same, and what lives because of that. */
void followLive(Visitor *v);
void visitDead(Visitor *v);
void sweepTables(bool minor);
/* A block of small objects is not used any more. */
void dropBlock(Block *b);
/* The blocks of old objects that collecting threads are still filling become the heap's; holes are left as they are. */
void collectOpenBlocks(void);
/* Marking follows what it shaded (mark.c). */
void followMarks(void);

#endif

/* gc/gct.h: a collecting thread, between the collector's files.
 *
 * In a minor collection each of the threads that ran managed code starts from its own capability's roots and copies what is in its own cache; it takes
 * from others only when they have much more to do.  In a major one everything is everybody's.
 *
 * Each collecting thread copies into blocks of its own, one being filled for aged objects and one for old ones.  A block that is full and not yet scavenged is
 * pending: work for its thread or for any other, under the owner's lock.  Large objects that were reached are pending as well, long arrays in
 * pieces.  A forwarding address is written by compare-and-swap when others may collect too: who loses takes his copy back. */
#ifndef GC_GCT_H
#define GC_GCT_H

#include "gc/heap.h"

#include <stdatomic.h>

#define MAX_COLLECTORS 64
#define READY_BLOCKS 4

typedef struct {
    StgWord *free, *limit; /* of the block being filled */
    Block *block;          /* NULL: none yet */
    Block *full;           /* through link */
    size_t blocks;         /* of both */
    uint32_t flags;        /* of its blocks */
} Space;

enum { TO_AGED, TO_OLD, SPACES };

typedef struct GcThread_ {
    Visitor v;              /* of roots */
    bool parallel;          /* others may be collecting as well */
    bool toOld;             /* what is reached now becomes old at once */
    bool remembers;         /* what is being scavenged is old: slots that still hold something young are remembered */
    unsigned number, home;  /* home: the nursery whose roots it visits first */
    Space to[SPACES];
    Block *scanning;        /* being scavenged by us: it must not be pushed when it is full */
    _Atomic uint32_t lock;  /* guards pending */
    Block *_Atomic pending; /* through todo */
    _Atomic unsigned depth; /* [lock to write] how many are pending */
    unsigned node, ready;   /* blocks for to-space that were taken in advance */
    Block *readyBlocks[READY_BLOCKS];
    RememberedSet kept;     /* for the next minor collection */
    size_t words;           /* copied */
} __attribute__((aligned(128))) GcThread;

extern GcThread collectors[MAX_COLLECTORS];
static inline GcThread *leader(void) { return &collectors[0]; }

/* A collecting thread begins, with nothing of the last collection but the block of old objects that is not yet full. */
void beginCollector(GcThread *g, bool minor, bool parallel, unsigned home, unsigned node);
/* It ends: what it took in advance goes back. */
void endCollector(GcThread *g);
/* Scavenge what is pending, its own first, then others'.  false: there is none at the moment. */
bool scavengeSome(GcThread *g);
/* Visit the slots of a remembered set; those that still hold something young are kept by the collecting thread. */
void visitRemembered(GcThread *g, RememberedSet *set);
void eachRemembered(RememberedSet *set, void (*f)(HaskellObj *slot, void *ctx), void *ctx);
/* Free it; add one to another. */
void forgetRemembered(RememberedSet *set);
void moveRemembered(RememberedSet *from, RememberedSet *to);

#endif

/* slab.h: records of one kind in chunks of C memory, which a collector goes through in the order of addresses, as the cache likes it.
 *
 * The first word of a record is a link, by which those that are not used hang together; another word tells those that are used from those that are not, and is
 * the user's business: 0 in new chunks.  Chunks have four records at first, later 64.
 * Ownership: a lock of the user's, or the collector's while the world is stopped.  Records may move to another slab's unused ones, if all of them are
 * trimmed together (forgetUnused, trimSlab). */
#ifndef SLAB_H
#define SLAB_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct SlabChunk_ SlabChunk;
struct SlabChunk_ {
    SlabChunk *next;
    size_t count; /* of records, which follow */
};

typedef struct {
    SlabChunk *chunks; /* last first */
    void *unused;
    size_t room;       /* of records in chunks */
} Slab;

/* Have an unused record.  Lets go of the spin lock while it asks for memory: what was looked up before is to be looked up again then (true).  Where memory is refused there is none. */
bool prepareRecord(Slab *s, size_t size, _Atomic uint32_t *lock);
/* NULL: there is none. */
static inline void *takeRecord(Slab *s)
{
    void *r = s->unused;
    if (r != NULL) s->unused = *(void **)r;
    return r;
}
static inline void giveRecord(Slab *s, void *record)
{
    *(void **)record = s->unused;
    s->unused = record;
}

/* Give chunks back in which nothing is used. */
static inline void forgetUnused(Slab *s) { s->unused = NULL; }
void trimSlab(Slab *s, size_t size, bool (*isUsed)(const void *record));
/* Everything goes. */
void freeSlab(Slab *s);

/* The records of a chunk. */
static inline void *firstRecord(SlabChunk *c) { return c + 1; }

#endif

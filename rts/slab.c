#include "slab.h"

#include "os/memory.h"
#include "weak.h"

#define FIRST_RECORDS 4
#define MOST_RECORDS  64

static size_t nextCount(const Slab *s) { return s->room < FIRST_RECORDS ? FIRST_RECORDS : s->room < MOST_RECORDS ? s->room : MOST_RECORDS; }

static void *recordAt(SlabChunk *c, size_t i, size_t size) { return (char *)firstRecord(c) + i * size; }

static void addChunk(Slab *s, SlabChunk *c, size_t size)
{
    c->next = s->chunks;
    s->chunks = c;
    s->room += c->count;
    for (size_t i = c->count; i-- > 0;) giveRecord(s, recordAt(c, i, size));
}

bool prepareRecord(Slab *s, size_t size, _Atomic uint32_t *lock)
{
    if (s->unused != NULL) return false;
    size_t count = nextCount(s);
    unlockRecord(lock);
    SlabChunk *c = rtsCalloc(1, sizeof *c + count * size);
    lockRecord(lock);
    if (c == NULL) return true;
    c->count = count;
    addChunk(s, c, size);
    return true;
}

static bool isAnyUsed(SlabChunk *c, size_t size, bool (*isUsed)(const void *record))
{
    for (size_t i = 0; i < c->count; i++)
        if (isUsed(recordAt(c, i, size))) return true;
    return false;
}

void trimSlab(Slab *s, size_t size, bool (*isUsed)(const void *record))
{
    for (SlabChunk **link = &s->chunks, *c; (c = *link) != NULL;) {
        if (!isAnyUsed(c, size, isUsed)) {
            *link = c->next;
            s->room -= c->count;
            rtsFree(c);
            continue;
        }
        for (size_t i = c->count; i-- > 0;)
            if (!isUsed(recordAt(c, i, size))) giveRecord(s, recordAt(c, i, size));
        link = &c->next;
    }
}

void freeSlab(Slab *s)
{
    for (SlabChunk *c = s->chunks, *next; c != NULL; c = next) {
        next = c->next;
        rtsFree(c);
    }
    *s = (Slab){ NULL, NULL, 0 };
}

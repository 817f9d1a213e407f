/* Remembered sets. */
#include "gc/gct.h"

#include "base/report.h"

static bool refillSet(RememberedSet *set)
{
    Block *b = allocBlocks(1, set->node);
    if (b == NULL) return false;
    heap.fixed++;
    if (set->blocks != NULL) set->blocks->free = (StgWord *)(void *)set->free;
    b->link = set->blocks;
    set->blocks = b;
    set->free = (HaskellObj **)(void *)b->start;
    set->limit = (HaskellObj **)(void *)blockEnd(b);
    return true;
}

bool tryRemember(RememberedSet *set, HaskellObj *slot)
{
    if (CAPSTAN_UNLIKELY(set->free == set->limit) && !refillSet(set)) return false;
    *set->free++ = slot;
    return true;
}

void rememberSlot(RememberedSet *set, HaskellObj *slot)
{
    if (!tryRemember(set, slot)) heap.forgot = true;
}

static void emptySet(RememberedSet *set)
{
    set->blocks = NULL;
    set->free = set->limit = NULL;
}

void forgetRemembered(RememberedSet *set)
{
    for (Block *b = set->blocks, *next; b != NULL; b = next) {
        next = b->link;
        heap.fixed--;
        freeBlocks(b);
    }
    emptySet(set);
}

bool dropFirstChunk(RememberedSet *set)
{
    Block *first = set->blocks;
    if (first->link == NULL) return false;
    set->blocks = first->link;
    heap.fixed--;
    freeBlocks(first);
    set->free = (HaskellObj **)(void *)set->blocks->free;
    set->limit = (HaskellObj **)(void *)blockEnd(set->blocks);
    return set->free != (HaskellObj **)(void *)set->blocks->start || dropFirstChunk(set);
}

void eachRemembered(RememberedSet *set, void (*f)(HaskellObj *slot, void *ctx), void *ctx)
{
    if (set->blocks != NULL) set->blocks->free = (StgWord *)(void *)set->free;
    for (Block *b = set->blocks; b != NULL; b = b->link)
        for (HaskellObj **p = (HaskellObj **)(void *)b->start; p < (HaskellObj **)(void *)b->free; p++) f(*p, ctx);
}

void moveRemembered(RememberedSet *from, RememberedSet *to)
{
    if (from->blocks == NULL) return;
    from->blocks->free = (StgWord *)(void *)from->free;
    Block *last = from->blocks;
    while (last->link != NULL) last = last->link;
    if (to->blocks == NULL) {
        to->blocks = from->blocks;
        to->free = from->free;
        to->limit = from->limit;
    } else { /* behind the one that is being filled there */
        last->link = to->blocks->link;
        to->blocks->link = from->blocks;
    }
    emptySet(from);
}

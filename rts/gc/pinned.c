#include "gc/pinned.h"

#include "gc/fields.h"
#include "gc/gct.h"

void eachPinned(Nursery *const *nurseries, unsigned count, void (*f)(Block *list))
{
    f(heap.pinned);
    for (unsigned i = 0; i < count; i++) f(nurseries[i]->pinned);
}

void forgetJudgement(Block *list)
{
    for (Block *b = list; b != NULL; b = b->link) {
        clearMarks(b);
        b->judged = b->start;
    }
}

/* With what allocatePinned added. */
static size_t wordsOfPinned(const StgWord *p) { return evenWords(wordsOf((const StgClosure *)p, ((const StgClosure *)p)->info)); }

static void fillDead(const Block *b, StgWord fill)
{
    size_t words;
    for (StgWord *p = b->start; p < b->judged; p += words) {
        words = wordsOfPinned(p);
        if (isMarked(p)) continue;
        for (size_t i = sizeof(StgBytes) / sizeof(StgWord); i < words; i++) p[i] = fill;
    }
}

void judgePinned(Block *list)
{
    for (Block *b = list; b != NULL; b = b->link) {
        b->judged = b->free;
        if (POISONS_HOLES) fillDead(b, POISON_WORD);
    }
}

void clearDeadPinned(Block *list)
{
    for (const Block *b = list; b != NULL; b = b->link) fillDead(b, 0);
}

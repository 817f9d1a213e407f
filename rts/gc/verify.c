/* The heap verifier: walks everything that the roots reach, checks that each object is one, in memory that somebody has, and that no old object, and no root that
 * a minor collection would leave out, refers to something young unremembered.  What changes and is old has to say so, or stores would not be remembered. */
#include "base/report.h"
#include "gc/fields.h"
#include "gc/gct.h"
#include "os/memory.h"

#include <string.h>

static struct {
    uint64_t *seen;      /* a bit for each word of the reservation's used part */
    uint64_t *slots;     /* the same: this slot is remembered */
    uintptr_t top;
    HaskellObj *todo;    /* stack of objects to look into */
    size_t depth, room;
    size_t objects, bad;
    bool old;            /* the object that is being looked into is old */
} check;

static void complain(const void *where, const char *what)
{
    if (check.bad++ < 10) logLine(RTS_LOG_ERROR, "heap check: %p: %s", where, what);
}

static size_t wordNumber(const void *p) { return ((uintptr_t)p - heapBase) / sizeof(StgWord); }
static bool isBitSet(const uint64_t *map, size_t i) { return map[i / 64] >> (i % 64) & 1; }
static void setBit(uint64_t *map, size_t i) { map[i / 64] |= (uint64_t)1 << (i % 64); }

static void push(HaskellObj obj)
{
    if (check.depth == check.room) {
        size_t room = check.room * 2 + 1024;
        HaskellObj *todo = rtsMalloc(room * sizeof *todo);
        if (todo == NULL) return; /* no memory to look further; what was seen was checked */
        if (check.depth) memcpy(todo, check.todo, check.depth * sizeof *todo);
        rtsFree(check.todo);
        check.todo = todo;
        check.room = room;
    }
    check.todo[check.depth++] = obj;
}

static const char *whatIsWrong(const StgClosure *obj)
{
    if ((uintptr_t)obj % sizeof(StgWord)) return "address is not aligned";
    if ((uintptr_t)obj % MEGABLOCK_BYTES < BLOCK_BYTES) return "address among block descriptors";
    if (!isAllocated(obj)) return "lies in a free block";
    const Block *b = blockOf(obj);
    if (b->flags & BLOCK_FROM && !(b->flags & BLOCK_YOUNG)) return "left behind in from-space";
    if (b->flags & BLOCK_LARGE && (const StgWord *)obj != b->start) return "points into a large object";
    if (isForwarded(obj)) return "is a forwarding pointer";
    if (obj->info == NULL || (StgWord)obj->info % sizeof(StgWord) || isInHeap(obj->info)) return "has no info table";
    if (obj->info->kind >= CLOSURE_KINDS) return "is of no kind";
    if (closureWords(obj) > (size_t)(blockEnd(b) - (const StgWord *)obj)) return "is larger than its block";
    if (!isAllocated((const StgWord *)obj + closureWords(obj) - 1)) return "ends in a free block";
    if (obj->info->flags & INFO_OLD && b->flags & BLOCK_YOUNG) return "says that it is old, but it is young";
    if (!(b->flags & BLOCK_YOUNG) && obj->info != infoWhenOld(obj->info)) return "is old, and does not say so";
    return NULL;
}

/* Nothing is wrong with what was seen before: it is not looked at again, since many slots may refer to it. */
static bool wasSeen(HaskellObj obj) { return (uintptr_t)obj % sizeof(StgWord) == 0 && isBitSet(check.seen, wordNumber(obj)); }

static void checkSlot(Visitor *v, HaskellObj *slot)
{
    HaskellObj obj = *slot;
    if (rts_isImmediate(obj) || obj == NULL) return;
    if (!isInHeap(obj)) {
        if (obj->info == NULL || obj->info->kind >= CLOSURE_KINDS) complain(obj, "static object without an info table");
        return;
    }
    bool inside = (uintptr_t)obj < check.top, seen = inside && wasSeen(obj);
    const char *wrong = !inside ? "address beyond the heap" : seen ? NULL : whatIsWrong(obj);
    if (wrong != NULL) {
        complain(obj, wrong);
        return;
    }
    if (isYoung(obj)) {
        v->sawYoung = true;
        if (check.old && !heap.forgot && !isBitSet(check.slots, wordNumber(slot))) complain(slot, "old, refers to something young, and is not remembered");
    }
    if (seen) return;
    setBit(check.seen, wordNumber(obj));
    push(obj);
}

static void missed(Visitor *v, const void *where, const char *what) { complain(where, what); }

static void noteSlot(HaskellObj *slot, void *unused)
{
    if (!isInHeap(slot)) return; /* a static thunk's */
    if ((uintptr_t)slot >= check.top || !isAllocated(slot)) complain(slot, "is remembered, and lies in a free block");
    else setBit(check.slots, wordNumber(slot));
}

static bool makeMaps(void)
{
    size_t words = (check.top - heapBase) / sizeof(StgWord) / 64 + 1;
    check.seen = rtsCalloc(words, sizeof *check.seen);
    check.slots = rtsCalloc(words, sizeof *check.slots);
    return check.seen != NULL && check.slots != NULL;
}

static void walk(Visitor *v)
{
    visitRoots(v);
    for (const GcTable *const *t = heap.tables; *t != NULL; t++)
        if ((*t)->visitKept != NULL) (*t)->visitKept(v);
    do {
        while (check.depth > 0) {
            StgClosure *obj = check.todo[--check.depth];
            check.objects++;
            check.old = !isYoung(obj);
            scavengeObject(obj, v);
            check.old = false;
        }
    } while (gcThreads.scan(v));
}

size_t verifyHeap(Nursery *const *nurseries, unsigned count, size_t *bad)
{
    Visitor v = { .visit = checkSlot, .checks = true, .missed = missed };
    memset(&check, 0, sizeof check);
    check.top = heapBase + usedMegablocks() * MEGABLOCK_BYTES;
    if (makeMaps()) {
        for (unsigned i = 0; i < count; i++) eachRemembered(&nurseries[i]->remembered, noteSlot, NULL);
        gcThreads.begin();
        walk(&v);
    }
    rtsFree(check.seen);
    rtsFree(check.slots);
    rtsFree(check.todo);
    *bad = check.bad;
    return check.objects;
}

/* The heap verifier: walks everything that the roots reach and checks that each object is one. */
#include "base/report.h"
#include "gc/heap.h"
#include "os/memory.h"

#include <string.h>

static struct {
    uint64_t *seen;      /* a bit for each word of the reservation's used part */
    uintptr_t top;
    HaskellObj *todo;    /* stack of objects to look into */
    size_t depth, room;
    size_t objects, bad;
} check;

static void complain(const StgClosure *obj, const char *what)
{
    if (check.bad++ < 10) logLine(RTS_LOG_ERROR, "heap check: object %p: %s", (const void *)obj, what);
}

static bool firstVisit(const StgClosure *obj)
{
    size_t word = ((uintptr_t)obj - heapBase) / sizeof(StgWord);
    uint64_t bit = (uint64_t)1 << (word % 64);
    if (check.seen[word / 64] & bit) return false;
    check.seen[word / 64] |= bit;
    return true;
}

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
    const Block *b = blockOf(obj);
    if (b->flags & BLOCK_FROM) return "left behind in from-space";
    if (b->flags & BLOCK_LARGE && (const StgWord *)obj != b->start) return "points into a large object";
    if (isForwarded(obj)) return "is a forwarding pointer";
    if (obj->info == NULL || (StgWord)obj->info % sizeof(StgWord) || isInHeap(obj->info)) return "has no info table";
    if (obj->info->kind >= CLOSURE_KINDS) return "is of no kind";
    if (!(b->flags & (BLOCK_LARGE | BLOCK_PINNED)) && closureWords(obj) > BLOCK_WORDS) return "is larger than its block";
    return NULL;
}

static void checkSlot(Visitor *v, HaskellObj *slot)
{
    HaskellObj obj = *slot;
    if (rts_isImmediate(obj) || obj == NULL) return;
    if (!isInHeap(obj)) {
        if (obj->info == NULL || obj->info->kind >= CLOSURE_KINDS) complain(obj, "static object without an info table");
        return;
    }
    const char *wrong = (uintptr_t)obj >= check.top ? "address beyond the heap" : whatIsWrong(obj);
    if (wrong != NULL) {
        complain(obj, wrong);
        return;
    }
    if (firstVisit(obj)) push(obj);
}

size_t verifyHeap(size_t *bad)
{
    Visitor checker = { checkSlot, false };
    memset(&check, 0, sizeof check);
    check.top = heapBase + usedMegablocks() * MEGABLOCK_BYTES;
    check.seen = rtsCalloc((check.top - heapBase) / sizeof(StgWord) / 64 + 1, sizeof *check.seen);
    if (check.seen == NULL) return 0;
    gcThreads.begin();
    for (const RootScanner *scan = heap.scanners; *scan != NULL; scan++) (*scan)(&checker);
    do {
        while (check.depth > 0) {
            check.objects++;
            scavengeObject(check.todo[--check.depth], &checker);
        }
    } while (gcThreads.scan(&checker));
    rtsFree(check.seen);
    rtsFree(check.todo);
    *bad = check.bad;
    return check.objects;
}

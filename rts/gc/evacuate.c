/* Copying: Cheney's algorithm over blocks.  An object that was copied has the new address, with bit 0 set, for its header. */
#include "base/report.h"
#include "gc/heap.h"

#include <string.h>

static struct {
    Block *filled;   /* to-space blocks that are full, not yet scavenged */
    Block *done;     /* scavenged ones */
    Block *current;  /* being filled, and scavenged behind the filling */
    size_t words;    /* copied so far */
} copy;

Block *markedLarge;

size_t closureWords(const StgClosure *obj)
{
    const StgInfoTable *info = obj->info;
    switch (info->kind) {
    case CLOSURE_CON:
    case CLOSURE_FUN: return 1 + (size_t)(info->ptrs + info->nptrs ? info->ptrs + info->nptrs : 1);
    case CLOSURE_THUNK: return 2 + (size_t)info->ptrs + info->nptrs;
    case CLOSURE_AP: return 4;
    case CLOSURE_PAP: return 3 + ((const StgPAP *)obj)->count;
    case CLOSURE_ARRAY: return 2 + ((const StgArray *)obj)->length;
    case CLOSURE_BYTES: return 2 + (((const StgBytes *)obj)->length + sizeof(StgWord) - 1) / sizeof(StgWord);
    case CLOSURE_EXTERNAL: return 4;
    case CLOSURE_MVAR: return sizeof(StgMVar) / sizeof(StgWord);
    case CLOSURE_TSO: return sizeof(StgThreadId) / sizeof(StgWord);
    default: return 2;
    }
}

/* The calling code has seen to it that this many blocks can be had. */
static Block *newToBlock(void)
{
    Block *b = allocBlocks(1);
    ASSERT(b != NULL);
    return b;
}

void beginEvacuation(void)
{
    copy.filled = copy.done = NULL;
    copy.current = newToBlock();
    copy.words = 0;
    markedLarge = NULL;
}

static StgWord *toSpace(size_t words)
{
    Block *b = copy.current;
    if ((size_t)(blockEnd(b) - b->free) < words) {
        b->link = copy.filled;
        copy.filled = b;
        b = copy.current = newToBlock();
    }
    StgWord *p = b->free;
    b->free += words;
    copy.words += words;
    return p;
}

static StgClosure *copyObject(StgClosure *obj)
{
    size_t words = closureWords(obj);
    StgWord *to = toSpace(words);
    memcpy(to, obj, words * sizeof(StgWord));
    obj->info = (const StgInfoTable *)((StgWord)to | 1);
    return (StgClosure *)to;
}

/* The value that a thunk or an indirection stands for; NULL if it must be kept. */
static HaskellObj shortCut(StgClosure *obj)
{
    switch (obj->info->kind) {
    case CLOSURE_IND: return ((StgInd *)obj)->value;
    case CLOSURE_AP:
    case CLOSURE_THUNK: {
        StgWord state = ((StgThunk *)obj)->state;
        return state == 0 || isBlackHoleMark(state) ? NULL : (HaskellObj)state;
    }
    default: return NULL;
    }
}

static void markBlock(Block *b)
{
    if (b->flags & BLOCK_MARKED) return;
    b->flags |= BLOCK_MARKED;
    if (!(b->flags & BLOCK_LARGE)) return;
    b->scan = (StgWord *)markedLarge;
    markedLarge = b;
}

static Visitor evacuator = { evacuate, false };

void evacuate(Visitor *v, HaskellObj *slot)
{
    HaskellObj obj = *slot;
    for (;;) {
        if (rts_isImmediate(obj) || obj == NULL || !isInHeap(obj)) break;
        Block *b = blockOf(obj);
        if (b->flags & (BLOCK_LARGE | BLOCK_PINNED)) {
            markBlock(b);
            break;
        }
        if (!(b->flags & BLOCK_FROM)) break;
        if (isForwarded(obj)) {
            obj = forwardAddress(obj);
            break;
        }
        HaskellObj value = shortCut(obj);
        if (value == NULL) {
            obj = copyObject(obj);
            break;
        }
        obj = value;
    }
    *slot = obj;
}

StgClosure *forwardedTo(StgClosure *obj)
{
    if (!isInHeap(obj) || !(blockOf(obj)->flags & BLOCK_FROM)) return obj;
    return isForwarded(obj) ? forwardAddress(obj) : NULL;
}

static void scavengeBlock(Block *b)
{
    while (b->scan < b->free) {
        StgClosure *obj = (StgClosure *)b->scan;
        b->scan += closureWords(obj);
        scavengeObject(obj, &evacuator);
    }
}

static bool scavengeSome(void)
{
    if (markedLarge != NULL) {
        Block *b = markedLarge;
        markedLarge = (Block *)b->scan;
        scavengeObject((StgClosure *)b->start, &evacuator);
    } else if (copy.filled != NULL) {
        Block *b = copy.filled;
        copy.filled = b->link;
        scavengeBlock(b);
        b->link = copy.done;
        copy.done = b;
    } else if (copy.current->scan < copy.current->free) {
        /* Scavenging may fill this block and start another: then it is met again among the filled ones. */
        Block *b = copy.current;
        StgClosure *obj = (StgClosure *)b->scan;
        b->scan += closureWords(obj);
        scavengeObject(obj, &evacuator);
    } else {
        return false;
    }
    return true;
}

void scavengeAll(void)
{
    /* Threads first: those that a block's objects refer to have just been touched. */
    while (gcThreads.scan(&evacuator) || scavengeSome()) {}
}

size_t endEvacuation(void)
{
    copy.current->link = copy.done;
    heap.survivors = copy.current;
    copy.current = copy.done = NULL;
    return copy.words;
}

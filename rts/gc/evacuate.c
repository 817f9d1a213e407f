/* Copying: Cheney's algorithm over blocks, by one or several threads.  An object that was copied has the new address, with bit 0 set, for its header.
 * Everything is here twice, made from the same text: for one collecting thread alone, and for several. */
#include "gc/fields.h"
#include "gc/gct.h"

#include "base/report.h"
#include "gc/crew.h"

#include <string.h>

/* Elements of a long array that are scavenged at a time. */
#define PIECE_WORDS 2048

GcThread collectors[MAX_COLLECTORS];

size_t closureWords(const StgClosure *obj) { return wordsOf(obj, obj->info); }

/* ---- Work that waits ---- */

static void lockPending(GcThread *g)
{
    while (atomic_exchange_explicit(&g->lock, 1, memory_order_acquire) != 0) crewRelax();
}
static void unlockPending(GcThread *g) { atomic_store_explicit(&g->lock, 0, memory_order_release); }

/* In minor collections what others have is better left to them, unless it is much. */
static unsigned worthStealing(const GcThread *g) { return g->v.minor ? 8 : 1; }

static void pushPending(GcThread *g, Block *b)
{
    lockPending(g);
    b->todo = atomic_load_explicit(&g->pending, memory_order_relaxed);
    atomic_store_explicit(&g->pending, b, memory_order_relaxed);
    unsigned depth = atomic_load_explicit(&g->depth, memory_order_relaxed) + 1;
    atomic_store_explicit(&g->depth, depth, memory_order_relaxed);
    unlockPending(g);
    if (g->parallel && depth >= worthStealing(g)) crewHasWork();
}

/* What is pending can be a large array: then a piece of it. */
typedef struct {
    Block *block;
    StgWord *from, *to; /* words; NULL: the whole block */
} Work;

static bool isLongArray(const Block *b)
{
    return b->flags & BLOCK_LARGE && ((StgClosure *)b->start)->info->kind == CLOSURE_ARRAY;
}

/* Context: the lock. */
static void dropFirst(GcThread *g, const Block *b)
{
    atomic_store_explicit(&g->pending, b->todo, memory_order_relaxed);
    atomic_store_explicit(&g->depth, atomic_load_explicit(&g->depth, memory_order_relaxed) - 1, memory_order_relaxed);
}

/* Context: the lock. */
static Work firstOf(GcThread *g, Block *b)
{
    if (!isLongArray(b)) {
        dropFirst(g, b);
        return (Work){ b, NULL, NULL };
    }
    Work w = { b, b->scan, b->free };
    if (w.to - w.from > PIECE_WORDS) w.to = w.from + PIECE_WORDS;
    else dropFirst(g, b);
    b->scan = w.to;
    return w;
}

static bool popPending(GcThread *g, Work *w)
{
    if (atomic_load_explicit(&g->pending, memory_order_relaxed) == NULL) return false;
    lockPending(g);
    Block *b = atomic_load_explicit(&g->pending, memory_order_relaxed);
    if (b != NULL) *w = firstOf(g, b);
    unlockPending(g);
    return b != NULL;
}

static bool hasToSpare(const GcThread *g)
{
    return atomic_load_explicit(&g->depth, memory_order_relaxed) >= worthStealing(leader());
}

bool isWorkPending(void)
{
    for (unsigned i = 0, n = crewSize(); i < n; i++)
        if (hasToSpare(&collectors[i])) return true;
    return false;
}

static bool steal(GcThread *g, Work *w)
{
    unsigned n = crewSize();
    for (unsigned i = 1; i < n; i++) {
        GcThread *victim = &collectors[(g->number + i) % n];
        if (hasToSpare(victim) && popPending(victim, w)) return true;
    }
    return false;
}

/* ---- To-space ---- */

/* The calling code has seen to it that this many blocks can be had. */
static StgWord *refillSpace(GcThread *g, Space *s)
{
    Block *b = s->block;
    if (b != NULL) {
        b->free = s->free;
        b->link = s->full;
        s->full = b;
        if (b != g->scanning && b->scan < b->free) pushPending(g, b);
    }
    if (g->ready == 0) g->ready = allocBlockBatch(g->readyBlocks, READY_BLOCKS, g->node);
    ASSERT(g->ready != 0);
    b = g->readyBlocks[--g->ready];
    b->flags = s->flags;
    s->block = b;
    s->blocks++;
    s->limit = blockEnd(b);
    return s->free = b->start;
}

GC_INLINE StgWord *bump(GcThread *g, Space *s, size_t words)
{
    StgWord *p = s->free;
    if (CAPSTAN_UNLIKELY((size_t)(s->limit - p) < words)) p = refillSpace(g, s);
    s->free = p + words;
    return p;
}

/* Variables and arrays that become old say so in their headers. */
GC_INLINE const StgInfoTable *infoWhenOld(const StgInfoTable *info)
{
    switch (info->kind) {
    case CLOSURE_MUTVAR: return &oldMutVar_info;
    case CLOSURE_ARRAY: return &oldArray_info;
    case CLOSURE_MVAR: return &oldMVar_info;
    default: return info;
    }
}

GC_INLINE void copyWords(StgWord *to, const StgWord *from, size_t words)
{
    switch (words) {
    case 1: to[1] = from[1]; break;
    case 2: memcpy(to + 1, from + 1, 16); break;
    case 3: memcpy(to + 1, from + 1, 24); break;
    default: memcpy(to + 1, from + 1, words * sizeof(StgWord));
    }
}

GC_INLINE StgClosure *copyObject(GcThread *g, StgClosure *obj, const StgInfoTable *info, uint32_t flags, bool parallel)
{
    bool old = g->toOld || flags & BLOCK_AGED, plain = CAPSTAN_LIKELY(info->kind <= CLOSURE_FUN);
    Space *s = &g->to[old ? TO_OLD : TO_AGED];
    size_t words = plain ? plainWords(info) : wordsOf(obj, info);
    StgWord *to = bump(g, s, words);
    to[0] = (StgWord)(old && !plain ? infoWhenOld(info) : info);
    copyWords(to, (const StgWord *)obj, words - 1);
    const StgInfoTable *forward = (const StgInfoTable *)((StgWord)to | 1);
    if (parallel) {
        /* Release: whoever finds the address finds the copy.  Acquire: the copy of who was first. */
        if (!__atomic_compare_exchange_n(&obj->info, &info, forward, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
            s->free = to;
            return (StgClosure *)((StgWord)info & ~(StgWord)1);
        }
    } else {
        obj->info = forward;
    }
    g->words += words;
    return (StgClosure *)to;
}

/* An object that does not move was reached.  Its group is old from now on. */
static void markGroup(GcThread *g, Block *b)
{
    uint32_t before = __atomic_load_n(&b->flags, __ATOMIC_RELAXED);
    if (before & BLOCK_MARKED || (g->v.minor && !(before & BLOCK_YOUNG))) return;
    do {
        if (before & BLOCK_MARKED) return;
    } while (!__atomic_compare_exchange_n(&b->flags, &before, (before | BLOCK_MARKED) & ~(uint32_t)BLOCK_YOUNG, true, __ATOMIC_RELAXED,
                                          __ATOMIC_RELAXED));
    if (!(before & BLOCK_LARGE)) return;
    StgClosure *obj = (StgClosure *)b->start;
    if (obj->info->kind == CLOSURE_BYTES) return;
    obj->info = infoWhenOld(obj->info);
    b->scan = b->start + (obj->info->kind == CLOSURE_ARRAY ? 2 : 0);
    pushPending(g, b);
}

/* Returns what is in the slot now. */
GC_INLINE HaskellObj evacuateSlot(GcThread *g, HaskellObj *slot, bool parallel)
{
    HaskellObj before = __atomic_load_n(slot, __ATOMIC_RELAXED), obj = before;
    for (;;) {
        if (rts_isImmediate(obj) || obj == NULL || !isInHeap(obj)) break;
        Block *b = blockOf(obj);
        uint32_t flags = __atomic_load_n(&b->flags, __ATOMIC_RELAXED);
        if (flags & (BLOCK_LARGE | BLOCK_PINNED)) {
            markGroup(g, b);
            break;
        }
        if (!(flags & BLOCK_FROM)) break;
        const StgInfoTable *info = __atomic_load_n(&obj->info, parallel ? __ATOMIC_ACQUIRE : __ATOMIC_RELAXED);
        if ((StgWord)info & 1) {
            obj = (StgClosure *)((StgWord)info & ~(StgWord)1);
            break;
        }
        HaskellObj value = info->kind <= CLOSURE_FUN ? NULL : standsFor(obj, info);
        if (CAPSTAN_LIKELY(value == NULL)) {
            obj = copyObject(g, obj, info, flags, parallel);
            break;
        }
        obj = value;
    }
    if (obj != before) __atomic_store_n(slot, obj, __ATOMIC_RELAXED);
    return obj;
}

/* What is young now was copied before, for the sake of something young, and this slot is old. */
GC_INLINE void evacuateField(GcThread *g, HaskellObj *slot, bool parallel)
{
    HaskellObj obj = __atomic_load_n(slot, __ATOMIC_RELAXED);
    if (rts_isImmediate(obj)) return;
    obj = evacuateSlot(g, slot, parallel);
    if (g->remembers && isYoung(obj)) rememberSlot(&g->kept, slot);
}

static void evacuateAlone(Visitor *v, HaskellObj *slot) { evacuateField((GcThread *)v, slot, false); }
static void evacuateTogether(Visitor *v, HaskellObj *slot) { evacuateField((GcThread *)v, slot, true); }

/* Roots: whoever keeps them wants to know whether they hold something young. */
static void evacuateRoot(Visitor *v, HaskellObj *slot)
{
    GcThread *g = (GcThread *)v;
    if (isYoung(evacuateSlot(g, slot, g->parallel))) v->sawYoung = true;
}

StgClosure *forwardedTo(StgClosure *obj)
{
    for (HaskellObj value; !rts_isImmediate(obj) && isInHeap(obj); obj = value) {
        uint32_t flags = blockOf(obj)->flags;
        if (flags & (BLOCK_LARGE | BLOCK_PINNED)) {
            /* The young ones that were reached are old by now. */
            return flags & BLOCK_MARKED || (leader()->v.minor && !(flags & BLOCK_YOUNG)) ? obj : NULL;
        }
        if (!(flags & BLOCK_FROM)) return obj;
        if ((StgWord)obj->info & 1) return (StgClosure *)((StgWord)obj->info & ~(StgWord)1);
        value = standsFor(obj, obj->info);
        if (value == NULL) return NULL;
    }
    return obj;
}

/* ---- Scavenging ---- */

/* How what is found in an object is treated depends on how old it is. */
static void enterBlock(GcThread *g, const Block *b)
{
    bool old = !(__atomic_load_n(&b->flags, __ATOMIC_RELAXED) & BLOCK_YOUNG);
    g->toOld = old || !g->v.minor;
    g->remembers = old && g->v.minor;
}
static void leaveBlock(GcThread *g)
{
    g->toOld = !g->v.minor;
    g->remembers = false;
}

GC_INLINE void scavengeObjects(GcThread *g, Block *b, const Space *s, SlotVisitor *visit)
{
    g->scanning = b;
    for (;;) {
        StgWord *end = b == s->block ? s->free : b->free;
        if (b->scan == end) break;
        while (b->scan < end) {
            StgClosure *obj = (StgClosure *)b->scan;
            const StgInfoTable *info = obj->info;
            if (CAPSTAN_LIKELY(info->kind <= CLOSURE_FUN)) {
                b->scan += plainWords(info);
                visitAll(obj->payload, info->ptrs, visit, &g->v);
            } else {
                b->scan += wordsOf(obj, info);
                eachField(obj, visit, &g->v);
            }
        }
    }
    g->scanning = NULL;
}

static void scavengeBlock(GcThread *g, Block *b)
{
    const Space *s = &g->to[b->flags & BLOCK_YOUNG ? TO_AGED : TO_OLD];
    if (g->parallel) scavengeObjects(g, b, s, evacuateTogether);
    else scavengeObjects(g, b, s, evacuateAlone);
}

static void scavengeWork(GcThread *g, const Work *w)
{
    enterBlock(g, w->block);
    if (w->from != NULL) {
        for (StgWord *p = w->from; p < w->to; p++) evacuateField(g, (HaskellObj *)(void *)p, true);
    } else if (w->block->flags & BLOCK_LARGE) {
        eachField((StgClosure *)w->block->start, evacuateTogether, &g->v);
    } else {
        scavengeBlock(g, w->block);
    }
    leaveBlock(g);
}

static bool scavengeOwn(GcThread *g, Space *s)
{
    if (s->block == NULL || s->block->scan == s->free) return false;
    enterBlock(g, s->block);
    scavengeBlock(g, s->block);
    leaveBlock(g);
    return true;
}

bool scavengeSome(GcThread *g)
{
    Work w;
    if (popPending(g, &w)) scavengeWork(g, &w);
    else if (!scavengeOwn(g, &g->to[TO_OLD]) && !scavengeOwn(g, &g->to[TO_AGED])) {
        if (!g->parallel || !steal(g, &w)) return false;
        scavengeWork(g, &w);
    }
    return true;
}

static void visitSlot(HaskellObj *slot, void *g) { evacuateField(g, slot, ((GcThread *)g)->parallel); }

void visitRemembered(GcThread *g, RememberedSet *set)
{
    g->toOld = g->remembers = true;
    eachRemembered(set, visitSlot, g);
    leaveBlock(g);
}

void endCollector(GcThread *g)
{
    while (g->ready > 0) freeBlocks(g->readyBlocks[--g->ready]);
}

void beginCollector(GcThread *g, bool minor, bool parallel, unsigned home, unsigned node)
{
    g->number = (unsigned)(g - collectors);
    g->home = home;
    g->node = node;
    g->v = (Visitor){ .visit = evacuateRoot, .minor = minor };
    g->parallel = parallel;
    g->words = 0;
    g->scanning = NULL;
    for (int i = 0; i < SPACES; i++) {
        Space *s = &g->to[i];
        s->full = NULL;
        s->blocks = 0;
        s->flags = i == TO_AGED ? BLOCK_YOUNG | BLOCK_AGED : 0;
        if (s->block != NULL) s->block->scan = s->free;
    }
    leaveBlock(g);
}

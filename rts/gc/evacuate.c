/* Copying: Cheney's algorithm over blocks, by one or several threads.  An object that was copied has the new address, with bit 0 set, for its header.
 * Everything is here twice, made from the same text: for one collecting thread alone, and for several. */
#include "gc/fields.h"
#include "gc/gct.h"

#include "base/report.h"
#include "gc/crew.h"
#include "gc/keys.h"
#include "gc/mark.h"

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

/* In minor collections what others have is better left to them, unless there is more of it. */
static unsigned worthStealing(const GcThread *g) { return g->v.minor ? 2 : 1; }

#define CHUNK_WORK (BLOCK_BYTES / sizeof(Work))

static unsigned lengthOf(const WorkQueue *q) { return atomic_load_explicit(&q->length, memory_order_relaxed); }

/* Context: the lock, for all that follow. */
static Work *workAt(Block *chunk, size_t i) { return (Work *)(void *)chunk->start + i; }

/* The calling code has seen to it that there is memory. */
static void pushWork(WorkQueue *q, Work w)
{
    if (q->newest == NULL || q->end == CHUNK_WORK) {
        Block *b = allocBlocks(1, 0);
        ASSERT(b != NULL);
        b->link = NULL;
        b->todo = q->newest;
        if (q->newest != NULL) q->newest->link = b;
        else q->oldest = b;
        q->newest = b;
        q->end = 0;
    }
    *workAt(q->newest, q->end++) = w;
    atomic_store_explicit(&q->length, lengthOf(q) + 1, memory_order_relaxed);
}

/* One has been taken out.  true: there is no other chunk; the last one stays for what comes. */
static bool isLastChunk(WorkQueue *q)
{
    atomic_store_explicit(&q->length, lengthOf(q) - 1, memory_order_relaxed);
    if (q->newest != q->oldest) return false;
    if (q->begin == q->end) q->begin = q->end = 0;
    return true;
}

static void dropNewest(WorkQueue *q)
{
    q->end--;
    if (isLastChunk(q) || q->end != 0) return;
    Block *b = q->newest;
    q->newest = b->todo;
    q->end = CHUNK_WORK;
    freeBlocks(b);
}

static void dropOldest(WorkQueue *q)
{
    q->begin++;
    if (isLastChunk(q) || q->begin != CHUNK_WORK) return;
    Block *b = q->oldest;
    q->oldest = b->link;
    q->begin = 0;
    freeBlocks(b);
}

/* Context: any collecting thread. */
static bool hasToSpare(const GcThread *g) { return lengthOf(&g->pending) >= worthStealing(leader()); }

/* Whoever collects that node; its own thread, if nobody does.  That suits major collections only, in which nothing is too little to be taken from others. */
static GcThread *collectorOn(GcThread *g, unsigned node)
{
    if (g->v.minor || node == g->node) return g;
    for (unsigned i = 0, n = crewSize(); i < n; i++)
        if (collectors[i].node == node) return &collectors[i];
    return g;
}

static void pushPending(GcThread *g, Block *b, StgWord *from, StgWord *to)
{
    GcThread *target = collectorOn(g, b->node);
    lockPending(target);
    pushWork(&target->pending, (Work){ b, from, to });
    unlockPending(target);
    if (g->parallel && hasToSpare(target)) crewHasWork();
}

/* Of a long array a piece is taken. */
static Work take(WorkQueue *q, Work *at, void (*drop)(WorkQueue *))
{
    Work w = *at;
    if (blockFlags(w.block) & BLOCK_LARGE && w.to - w.from > PIECE_WORDS) w.to = at->from = w.from + PIECE_WORDS;
    else drop(q);
    return w;
}

/* Its owner takes what was copied last, which is still in the cache; others take what waits longest, which leads to most. */
static bool takePending(GcThread *g, Work *w, bool owner)
{
    WorkQueue *q = &g->pending;
    if (lengthOf(q) == 0) return false;
    lockPending(g);
    unsigned before = lengthOf(q);
    bool any = before != 0;
    if (any) *w = owner ? take(q, workAt(q->newest, q->end - 1), dropNewest) : take(q, workAt(q->oldest, q->begin), dropOldest);
    bool rest = any && lengthOf(q) == before;
    unlockPending(g);
    /* Of a long array one was told of when it was pushed; what is left of it is for one more. */
    if (rest && hasToSpare(g)) crewHasWork();
    return any;
}

bool isWorkPending(void)
{
    for (unsigned i = 0, n = crewSize(); i < n; i++)
        if (hasToSpare(&collectors[i])) return true;
    return false;
}

static bool stealFrom(GcThread *g, Work *w, bool near)
{
    unsigned n = crewSize();
    for (unsigned i = 1; i < n; i++) {
        GcThread *victim = &collectors[(g->number + i) % n];
        if (near && victim->node != g->node) continue;
        if (hasToSpare(victim) && takePending(victim, w, false)) return true;
    }
    return false;
}
static bool steal(GcThread *g, Work *w) { return (g->rows > 1 && stealFrom(g, w, true)) || stealFrom(g, w, false); }

/* ---- To-space ---- */

/* The calling code has seen to it that this many blocks can be had. */
static Block *takeReady(GcThread *g)
{
    if (g->ready == 0) g->ready = allocBlockBatch(g->readyBlocks, READY_BLOCKS, g->node);
    ASSERT(g->ready != 0);
    return g->readyBlocks[--g->ready];
}

static unsigned rowOfSpace(const GcThread *g, const Space *s) { return (unsigned)(s - (const Space *)(const void *)g->to) / SPACES; }

static Block *takeForRow(GcThread *g, unsigned row)
{
    if (row == g->node % NODE_ROWS) return takeReady(g);
    Block *b = allocBlocks(1, row);
    ASSERT(b != NULL);
    return b;
}

static void countCopied(Space *s)
{
    s->words += (size_t)(s->free - s->counted);
    s->counted = s->free;
}

/* The block, or hole, is full. */
static void closeSpace(GcThread *g, Space *s)
{
    if (s->block == NULL) return;
    countCopied(s);
    if (s->scan < s->free) pushPending(g, s->block, s->scan, s->free);
    if (s->hole) return;
    s->block->free = s->free;
    if (s->full == NULL) s->lastFull = s->block;
    s->block->link = s->full;
    s->full = s->block;
}

static StgWord *refillSpace(GcThread *g, Space *s, size_t words)
{
    unsigned row = rowOfSpace(g, s);
    bool old = s == &g->to[row][TO_OLD];
    closeSpace(g, s);
    s->hole = old && takeHole(s, row, words);
    if (!s->hole) {
        Block *b = s->block = takeForRow(g, row);
        b->flags = s->flags;
        if (g->marks && old) clearMarks(b);
        s->blocks++;
        s->free = b->start;
        s->limit = blockEnd(b);
    }
    return s->scan = s->counted = s->free;
}

GC_INLINE StgWord *bump(GcThread *g, Space *s, size_t words)
{
    StgWord *p = s->free;
    if (CAPSTAN_UNLIKELY((size_t)(s->limit - p) < words)) p = refillSpace(g, s, words);
    s->free = p + words;
    return p;
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

/* Not inlined, so that there is a branch, which is predicted, and nothing waits for the block's descriptor. */
__attribute__((noinline)) static Space *otherSpace(GcThread *g, const Block *from, bool old)
{
    return &g->to[g->rows > 1 ? rowOf(from) : 0][old ? TO_OLD : TO_AGED];
}

/* Before others can find the copy, and look at its mark.  Another thread may be copying the object as well: then somebody says twice that it is reached. */
__attribute__((noinline)) static void noteCopy(GcThread *g, const Space *s, const StgClosure *obj, const StgWord *to, size_t words, bool old)
{
    if (g->marks && old) {
        /* Others may be marking what lies around a hole. */
        if (s->hole) tryMark(to);
        else setMark(to);
        s->block->live += (uint32_t)words;
    }
    if (g->awaits) noteReached(obj);
}

/* from: its block. */
GC_INLINE StgClosure *copyObject(GcThread *g, StgClosure *obj, const StgInfoTable *info, const Block *from, uint32_t flags, bool parallel)
{
    bool old = g->toOld || flags & BLOCK_AGED, plain = CAPSTAN_LIKELY(info->kind <= CLOSURE_FUN);
    Space *s = &g->to[0][TO_OLD];
    if (!old || CAPSTAN_UNLIKELY(g->rows > 1)) s = otherSpace(g, from, old);
    size_t words = plain ? plainWords(info) : wordsOf(obj, info);
    StgWord *to = bump(g, s, words);
    to[0] = (StgWord)(old && !plain ? infoWhenOld(info) : info);
    copyWords(to, (const StgWord *)obj, words - 1);
    if (CAPSTAN_UNLIKELY(g->notes)) noteCopy(g, s, obj, to, words, old);
    const StgInfoTable *forward = (const StgInfoTable *)((StgWord)to | 1);
    if (parallel && plain && !g->identity) {
        /* Should another thread copy it at this moment, there are two, each as good as the other.  Release: whoever finds the address finds the copy. */
        __atomic_store_n(&obj->info, forward, __ATOMIC_RELEASE);
    } else if (parallel) {
        /* Release: whoever finds the address finds the copy.  Acquire: the copy of who was first. */
        if (!__atomic_compare_exchange_n(&obj->info, &info, forward, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
            s->free = to;
            return (StgClosure *)((StgWord)info & ~(StgWord)1);
        }
    } else {
        obj->info = forward;
    }
    return (StgClosure *)to;
}

static uint32_t changeFlags(Block *b, uint32_t set, uint32_t clear)
{
    uint32_t before = blockFlags(b);
    while (!__atomic_compare_exchange_n(&b->flags, &before, (before | set) & ~clear, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
    return before;
}

/* An object that does not move was reached.  Its group is old from now on. */
static void markGroup(GcThread *g, StgClosure *obj, Block *b, uint32_t flags)
{
    if (flags & BLOCK_PINNED && (!g->v.minor || g->marks)) tryMark(obj);
    if (g->awaits) noteReached(g->v.minor ? (const void *)b->start : obj);
    if (flags & BLOCK_MARKED) return;
    if (g->v.minor && !(flags & BLOCK_YOUNG)) {
        if (g->marks) shadeGroup(g, obj);
        return;
    }
    uint32_t before = changeFlags(b, BLOCK_MARKED | (g->marks ? BLOCK_REACHED : 0), BLOCK_YOUNG);
    if (before & BLOCK_MARKED || !(before & BLOCK_LARGE)) return;
    if (obj->info->kind == CLOSURE_BYTES) return;
    obj->info = infoWhenOld(obj->info);
    bool array = obj->info->kind == CLOSURE_ARRAY;
    pushPending(g, b, b->start + 2, array ? b->free : b->start + 2);
}

/* An old object was reached while they are being marked. */
static void shadeObject(GcThread *g, StgClosure *obj)
{
    if (tryMark(obj)) pushShaded(&g->shaded, obj);
}

/* Returns what is in the slot now.  shared: another collecting thread may visit the slot as well. */
GC_INLINE HaskellObj evacuateSlot(GcThread *g, HaskellObj *slot, bool parallel, bool shared)
{
    /* Acquire: the flags of the copy's block, where the other thread was here first. */
    HaskellObj before = shared ? __atomic_load_n(slot, __ATOMIC_ACQUIRE) : __atomic_load_n(slot, __ATOMIC_RELAXED), obj = before;
    for (;;) {
        if (rts_isImmediate(obj) || obj == NULL || !isInHeap(obj)) break;
        Block *b = blockOf(obj);
        uint32_t flags = __atomic_load_n(&b->flags, __ATOMIC_RELAXED);
        if (flags & (BLOCK_LARGE | BLOCK_PINNED)) {
            markGroup(g, obj, b, flags);
            break;
        }
        if (!(flags & BLOCK_FROM)) {
            if (CAPSTAN_UNLIKELY(g->marks) && !(flags & BLOCK_YOUNG)) shadeObject(g, obj);
            break;
        }
        const StgInfoTable *info = __atomic_load_n(&obj->info, parallel ? __ATOMIC_ACQUIRE : __ATOMIC_RELAXED);
        if ((StgWord)info & 1) {
            obj = (StgClosure *)((StgWord)info & ~(StgWord)1);
            break;
        }
        HaskellObj value = info->kind <= CLOSURE_FUN ? NULL : standsFor(obj, info);
        if (CAPSTAN_LIKELY(value == NULL)) {
            obj = copyObject(g, obj, info, b, flags, parallel);
            break;
        }
        obj = value;
    }
    if (obj == before) return obj;
    /* Release: whoever else finds the copy here looks at its block's flags. */
    if (shared) __atomic_store_n(slot, obj, __ATOMIC_RELEASE);
    else __atomic_store_n(slot, obj, __ATOMIC_RELAXED);
    return obj;
}

/* What is young now was copied before, for the sake of something young, and this slot is old. */
GC_INLINE void evacuateField(GcThread *g, HaskellObj *slot, bool parallel, bool shared)
{
    HaskellObj obj = __atomic_load_n(slot, __ATOMIC_RELAXED);
    if (rts_isImmediate(obj)) return;
    obj = evacuateSlot(g, slot, parallel, shared);
    if (g->remembers && isYoung(obj)) rememberSlot(&g->kept, slot);
}

static void evacuateAlone(Visitor *v, HaskellObj *slot) { evacuateField((GcThread *)v, slot, false, false); }
static void evacuateTogether(Visitor *v, HaskellObj *slot) { evacuateField((GcThread *)v, slot, true, false); }

/* Roots: whoever keeps them wants to know whether they hold something young. */
static void evacuateRoot(Visitor *v, HaskellObj *slot)
{
    GcThread *g = (GcThread *)v;
    if (isYoung(evacuateSlot(g, slot, g->parallel, false))) v->sawYoung = true;
}

bool isJudgedAlive(const StgClosure *obj)
{
    uint32_t flags = blockOf(obj)->flags;
    if (flags & BLOCK_YOUNG) return true;
    return flags & BLOCK_LARGE ? flags & BLOCK_REACHED : isMarked(obj);
}

/* Of what does not move.  The young that were reached are old by now, and so is what lies beside them: it counts as alive until the next major collection. */
static bool wasReached(const StgClosure *obj, uint32_t flags)
{
    bool minor = leader()->v.minor;
    if (!minor && flags & BLOCK_PINNED) return isMarked(obj);
    return flags & BLOCK_MARKED || (minor && !(flags & BLOCK_YOUNG));
}

StgClosure *forwardedTo(StgClosure *obj)
{
    for (HaskellObj value; !rts_isImmediate(obj) && isInHeap(obj); obj = value) {
        uint32_t flags = blockFlags(blockOf(obj));
        if (heap.judging) {
            if (isJudgedAlive(obj)) return obj;
            if ((value = standsFor(obj, obj->info)) == NULL) return NULL;
            continue;
        }
        if (flags & (BLOCK_LARGE | BLOCK_PINNED)) return wasReached(obj, flags) ? obj : NULL;
        if (!(flags & BLOCK_FROM)) return obj;
        const StgInfoTable *info = __atomic_load_n(&obj->info, __ATOMIC_ACQUIRE); /* helpers may be copying it */
        if ((StgWord)info & 1) return (StgClosure *)((StgWord)info & ~(StgWord)1);
        if ((value = standsFor(obj, info)) == NULL) return NULL;
    }
    return obj;
}

/* ---- Scavenging ---- */

void setAwaits(GcThread *g)
{
    g->awaits = areKeysAwaited();
    g->notes = g->marks || g->awaits;
}

/* How what is found in an object is treated depends on how old it is. */
static void enterBlock(GcThread *g, const Block *b)
{
    bool old = !(blockFlags(b) & BLOCK_YOUNG);
    g->toOld = old || !g->v.minor || heap.promotesAll;
    g->remembers = old && g->v.minor;
    setAwaits(g);
}
static void leaveBlock(GcThread *g)
{
    g->toOld = !g->v.minor || heap.promotesAll;
    g->remembers = false;
}

/* From *scan to *end; both may change meanwhile, when to-space is refilled. */
GC_INLINE void scavengeObjects(GcThread *g, StgWord **scan, StgWord **end, SlotVisitor *visit, bool parallel)
{
    while (*scan < *end) {
        StgClosure *obj = (StgClosure *)*scan;
        const StgInfoTable *info = obj->info;
        if (CAPSTAN_LIKELY(info->kind <= CLOSURE_FUN)) {
            *scan += plainWords(info);
            for (unsigned i = 0, n = info->ptrs; i < n; i++) evacuateField(g, &obj->payload[i], parallel, false);
        } else {
            *scan += wordsOf(obj, info);
            eachField(obj, visit, &g->v);
        }
    }
}

static void scavengeRange(GcThread *g, StgWord **scan, StgWord **end)
{
    if (g->parallel) scavengeObjects(g, scan, end, evacuateTogether, true);
    else scavengeObjects(g, scan, end, evacuateAlone, false);
}

static void scavengeWork(GcThread *g, Work *w)
{
    enterBlock(g, w->block);
    if (!(blockFlags(w->block) & BLOCK_LARGE)) {
        scavengeRange(g, &w->from, &w->to);
    } else if (((StgClosure *)w->block->start)->info->kind == CLOSURE_ARRAY) {
        for (StgWord *p = w->from; p < w->to; p++) evacuateField(g, (HaskellObj *)(void *)p, true, false);
    } else {
        eachField((StgClosure *)w->block->start, evacuateTogether, &g->v);
    }
    leaveBlock(g);
}

static bool scavengeOwn(GcThread *g, Space *s)
{
    if (s->scan == s->free) return false;
    enterBlock(g, s->block);
    scavengeRange(g, &s->scan, &s->free);
    leaveBlock(g);
    return true;
}

static bool scavengeOpen(GcThread *g)
{
    for (unsigned row = 0; row < g->rows; row++)
        if (scavengeOwn(g, &g->to[row][TO_OLD]) || scavengeOwn(g, &g->to[row][TO_AGED])) return true;
    return false;
}

bool scavengeSome(GcThread *g)
{
    Work w;
    if (takePending(g, &w, true)) {
        scavengeWork(g, &w);
    } else if (!scavengeOpen(g)) {
        if (!g->parallel || !steal(g, &w)) return false;
        scavengeWork(g, &w);
    }
    return true;
}

/* One that threads of two capabilities stored into at the same time stands in the sets of both. */
static void visitSlot(HaskellObj *slot, void *g)
{
    bool parallel = ((GcThread *)g)->parallel;
    evacuateField(g, slot, parallel, parallel);
}

void visitRemembered(GcThread *g, RememberedSet *set)
{
    g->toOld = g->remembers = true;
    eachRemembered(set, visitSlot, g);
    leaveBlock(g);
}

static void giveReadyBack(GcThread *g)
{
    while (g->ready > 0) freeBlocks(g->readyBlocks[--g->ready]);
}

void endCollector(GcThread *g)
{
    giveReadyBack(g);
    for (unsigned row = 0; row < g->rows; row++) {
        for (int i = 0; i < SPACES; i++) countCopied(&g->to[row][i]);
        g->promoted += g->to[row][TO_OLD].words;
        g->words += g->to[row][TO_OLD].words + g->to[row][TO_AGED].words;
    }
    if (g->pending.newest != NULL) freeBlocks(g->pending.newest);
    g->pending.oldest = g->pending.newest = NULL; /* its length is 0, and others may still look at that */
    g->pending.begin = g->pending.end = 0;
}

static void beginSpace(Space *s, uint32_t flags)
{
    s->full = NULL;
    s->blocks = s->words = 0;
    s->flags = flags;
    s->scan = s->counted = s->free;
}

void beginCollector(GcThread *g, bool minor, bool parallel, unsigned home, unsigned node)
{
    g->number = (unsigned)(g - collectors);
    g->home = home;
    g->node = g->kept.node = g->shaded.node = node;
    g->rows = rowsInUse();
    g->v = (Visitor){ .visit = evacuateRoot, .minor = minor };
    g->parallel = parallel;
    g->words = g->promoted = 0;
    g->identity = heap.identity;
    g->marks = minor && heap.marking;
    setAwaits(g);
    for (unsigned row = 0; row < g->rows; row++) {
        beginSpace(&g->to[row][TO_AGED], BLOCK_YOUNG | BLOCK_AGED);
        beginSpace(&g->to[row][TO_OLD], 0);
    }
    leaveBlock(g);
}

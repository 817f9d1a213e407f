#include "gc/mark.h"

#include "base/report.h"
#include "gc/crew.h"
#include "gc/fields.h"
#include "gc/keys.h"
#include "gc/pinned.h"
#include "gc/size.h"
#include "os/os.h"

#include <string.h>

/* How long a slice takes at least, unless less was left, and at most, of the processor; how often it looks at the clock. */
#define LEAST_SLICE_NS 1000000u
#define MOST_SLICE_NS  4000000u
/* What a slice may take together with the copying before it. */
#define PAUSE_NS       10000000u
#define OBJECTS_A_LOOK 64
/* Objects that are on their way into the cache while one is looked into. */
#define AHEAD 8
/* The same for slots: what one refers to is looked at when so many others have been found. */
#define SLOTS_AHEAD 16
/* Elements of an array that are visited at a time. */
#define PIECE 4096
/* Smaller holes are not worth the look. */
#define LEAST_HOLE 16
/* What can be put aside where memory for the stack is refused.  Torture builds act as if it were, when nothing is copied. */
#ifdef CAPSTAN_TORTURE
#define FEW 16
#define REFUSES_STACK mark.inPlace
#else
#define FEW 1024
#define REFUSES_STACK false
#endif

static struct {
    bool rooted;           /* roots have been visited */
    bool ending;           /* nothing was left to look into: the next minor collection is the last of the cycle */
    RememberedSet stack;   /* marked, and still to be looked into */
    StgClosure *few[FEW];  /* more of them */
    unsigned fewLength;
    bool overflowed;       /* something was marked that is on neither: lookAgain */
    bool inPlace;          /* what is found was young until now: markInPlace */
    StgClosure *ring[AHEAD];
    unsigned first, length;
    HaskellObj *slots[SLOTS_AHEAD]; /* of marked objects, still to be visited; NULL: none */
    unsigned nextSlot;
    StgArray *array;       /* a long one that is being looked into */
    size_t next;           /* its next element */
    const GcTable *const *early; /* the table that visitEarly is to be called of next */
    bool earlyBegun;       /* it has been called of that one */
    size_t words;          /* of what was marked */
    size_t oldAtStart;     /* words of old objects when it began */
} mark;

static uintptr_t otherMap(void) { return markOrigin == markMaps[0] ? markMaps[1] : markMaps[0]; }

/* Where marks of the last marking that was finished are. */
static uintptr_t holeMap(void) { return heap.marking ? otherMap() : markOrigin; }

/* The first marked word of a block at or behind p; its limit: none. */
static StgWord *nextMarked(uintptr_t map, const Block *b, StgWord *p)
{
    while (p < b->limit) {
        uint64_t bits = *markWordIn(map, p) & ~(markBitOf(p) - 1);
        StgWord *first = (StgWord *)((uintptr_t)p & ~(uintptr_t)511);
        if (bits != 0) return first + __builtin_ctzll(bits);
        p = first + 64;
    }
    return b->limit;
}

/* ---- The stack ---- */

void pushShaded(RememberedSet *set, StgClosure *obj) { rememberSlot(set, (HaskellObj *)(void *)obj); }

static void count(const StgClosure *obj, Block *b)
{
    size_t words = b->flags & BLOCK_LARGE ? (size_t)(b->free - b->start) : wordsOf(obj, obj->info);
    mark.words += words;
    if (!(b->flags & BLOCK_LARGE)) b->live += (uint32_t)words;
}

static void pushMarked(StgClosure *obj)
{
    if (!REFUSES_STACK && tryRemember(&mark.stack, (HaskellObj *)(void *)obj)) return;
    if (mark.fewLength < FEW) {
        mark.few[mark.fewLength++] = obj;
        return;
    }
    count(obj, blockOf(obj));
    mark.overflowed = true;
}

static StgClosure *popMarked(void)
{
    RememberedSet *set = &mark.stack;
    if (mark.fewLength > 0) return mark.few[--mark.fewLength];
    if (set->blocks == NULL) return NULL;
    if (set->free == (HaskellObj **)(void *)set->blocks->start && !dropFirstChunk(set)) return NULL;
    return (StgClosure *)(void *)*--set->free;
}

/* ---- Marking ---- */

void shadeGroup(GcThread *g, StgClosure *obj)
{
    Block *b = blockOf(obj);
    if (reachInPlace(b, obj) && b->flags & BLOCK_LARGE) pushShaded(&g->shaded, obj);
}

void shadeStore(Nursery *nursery, HaskellObj v)
{
    if (rts_isImmediate(v) || v == NULL || !isInHeap(v) || nursery->wantCollection == NULL) return;
    Block *b = blockOf(v);
    if (blockFlags(b) & (BLOCK_LARGE | BLOCK_PINNED) ? reachInPlace(b, v) : tryMark(v)) pushShaded(&nursery->shaded, v);
}

/* What slot refers to is reached.  Finished thunks on the way are left out, except before something young: that may not come into an old slot
 * unremembered, and is the minor collections' business. */
static void markSlot(Visitor *v, HaskellObj *slot)
{
    HaskellObj before = *slot, obj = before;
    while (!rts_isImmediate(obj) && obj != NULL && isInHeap(obj)) {
        Block *b = blockOf(obj);
        if (b->flags & BLOCK_YOUNG) break;
        if (b->flags & (BLOCK_LARGE | BLOCK_PINNED)) {
            if (areKeysAwaited()) noteReached(obj);
            if (reachInPlace(b, obj) && b->flags & BLOCK_LARGE) pushMarked(obj);
            break;
        }
        HaskellObj value = obj->info->kind <= CLOSURE_FUN ? NULL : standsFor(obj, obj->info);
        if (value == NULL || isYoung(value)) {
            if (isMarked(obj)) break;
            setMark(obj);
            if (CAPSTAN_UNLIKELY(areKeysAwaited())) noteReached(obj);
            pushMarked(obj);
            break;
        }
        obj = value;
    }
    if (obj != before) *slot = obj;
}

static Visitor marker = { .visit = markSlot, .marks = true };

static void visitLater(Visitor *v, HaskellObj *slot)
{
    HaskellObj obj = *slot, *due = mark.slots[mark.nextSlot];
    if (rts_isImmediate(obj) || !isInHeap(obj)) return;
    __builtin_prefetch(obj);
    __builtin_prefetch(markWordOf(obj));
    mark.slots[mark.nextSlot] = slot;
    mark.nextSlot = (mark.nextSlot + 1) % SLOTS_AHEAD;
    if (due != NULL) markSlot(v, due);
}

/* false: there were none. */
static bool visitDue(void)
{
    bool any = false;
    for (unsigned i = 0; i < SLOTS_AHEAD; i++) {
        HaskellObj *due = mark.slots[i];
        mark.slots[i] = NULL;
        if (due == NULL) continue;
        markSlot(&marker, due);
        any = true;
    }
    return any;
}

/* A marked object is looked into. */
static void look(StgClosure *obj)
{
    Block *b = blockOf(obj);
    if (mark.inPlace) obj->info = infoWhenOld(obj->info);
    count(obj, b);
    if (b->flags & BLOCK_LARGE && obj->info->kind == CLOSURE_ARRAY) {
        mark.array = (StgArray *)obj;
        mark.next = 0;
        return;
    }
    eachField(obj, visitLater, &marker);
}

static void lookIntoArray(void)
{
    size_t left = mark.array->length - mark.next, n = left < PIECE ? left : PIECE;
    visitAll(mark.array->elems + mark.next, n, visitLater, &marker);
    mark.next += n;
    if (n == left) mark.array = NULL;
}

/* false: there is nothing to look into. */
static bool lookIntoOne(void)
{
    if (mark.array != NULL) {
        lookIntoArray();
        return true;
    }
    while (mark.length < AHEAD) {
        StgClosure *obj = popMarked();
        if (obj == NULL) break;
        __builtin_prefetch(obj);
        mark.ring[(mark.first + mark.length++) % AHEAD] = obj;
    }
    if (mark.length == 0) return visitDue();
    StgClosure *obj = mark.ring[mark.first];
    mark.first = (mark.first + 1) % AHEAD;
    mark.length--;
    look(obj);
    return true;
}

/* ---- Where the stack was not large enough ---- */

static void lookIntoAgain(StgClosure *obj)
{
    if (mark.inPlace) obj->info = infoWhenOld(obj->info);
    eachField(obj, visitLater, &marker);
    while (lookIntoOne()) {}
}

/* Everything that is marked, since it is not known any more what was not looked into. */
static void lookAgain(void)
{
    for (const Block *b = heap.old; b != NULL; b = b->link)
        for (StgWord *p = b->start; (p = nextMarked(markOrigin, b, p)) < b->limit; p += wordsOf((StgClosure *)p, ((StgClosure *)p)->info)) lookIntoAgain((StgClosure *)p);
    for (const Block *b = heap.large; b != NULL; b = b->link)
        if (b->flags & BLOCK_REACHED) lookIntoAgain((StgClosure *)b->start);
}

void followMarks(void)
{
    for (;;) {
        while (lookIntoOne()) {}
        if (!mark.overflowed) return;
        mark.overflowed = false;
        lookAgain();
    }
}

/* false: there is nothing, or no more. */
static bool visitEarly(void)
{
    while (*mark.early != NULL) {
        bool first = !mark.earlyBegun;
        mark.earlyBegun = true;
        if ((*mark.early)->visitEarly != NULL && (*mark.early)->visitEarly(&marker, first)) return true;
        mark.early++;
        mark.earlyBegun = false;
    }
    return false;
}

/* What must be marked by now, however long it takes: all when three quarters of what may become old meanwhile has, from the first quarter on.  Else everything
 * would be copied in the end, in a far longer pause: where several threads keep all that they make. */
static size_t wordsOverdue(void)
{
    size_t room = heap.majorAt - mark.oldAtStart, became = heap.oldWords - mark.oldAtStart;
    if (became <= room / 4 || became >= room) return 0; /* at once too much: the next collection copies everything, whatever is marked */
    return (size_t)((double)mark.oldAtStart * (double)(became - room / 4) / (double)(room / 2 + 1));
}

/* Nanoseconds of the processor, by the clock as long as that says less than so many, since asking for them takes longer. */
typedef struct {
    uint64_t began, cpu, lost; /* lost: to others, as far as known */
} Watch;

static uint64_t timeTaken(Watch *w, uint64_t most)
{
    uint64_t took = osMonotonicNanos() - w->began - w->lost;
    if (took < most) return took;
    uint64_t used = osThreadCpuNanos() - w->cpu;
    if (used >= took) return took;
    w->lost += took - used;
    return used;
}

/* Until so many words are marked; for LEAST_SLICE_NS in any case, and for no more than MOST_SLICE_NS, or twice that if much has become old meanwhile, or what
 * copying has left of the pause; unless that would be too late.
 * true: nothing is left. */
static bool doSlice(size_t words)
{
    size_t overdue = wordsOverdue();
    bool late = heap.oldWords > mark.oldAtStart + mark.oldAtStart / 2;
    Watch watch = { osMonotonicNanos(), osThreadCpuNanos(), 0 };
    uint64_t most = late ? 2 * MOST_SLICE_NS : MOST_SLICE_NS;
    if (heap.lastCopying + most < PAUSE_NS) most = PAUSE_NS - heap.lastCopying;
    for (unsigned n = 1; lookIntoOne() || visitEarly(); n++) {
        if (mark.words < overdue || (mark.array == NULL && n % OBJECTS_A_LOOK != 0)) continue;
        uint64_t took = timeTaken(&watch, most);
        if (took < most && (took < LEAST_SLICE_NS || mark.words < words)) continue;
        visitDue();
        return false;
    }
    return true;
}

/* It should be over when a twelfth of what may become old meanwhile has: what dies meanwhile stays until the next one. */
static size_t wordsDue(void)
{
    size_t room = (heap.majorAt - mark.oldAtStart) / 12 + 1, became = heap.oldWords - mark.oldAtStart;
    return (size_t)((double)mark.oldAtStart * (double)became / (double)room);
}

/* ---- Holes ---- */

/* The next hole of b at or behind *at, which is left behind it: from *from to *at.  false: there is none. */
static bool nextHole(const Block *b, StgWord **at, StgWord **from)
{
    while (*at < b->limit) {
        StgWord *next = nextMarked(holeMap(), b, *at);
        *from = *at;
        *at = next;
        if (next > *from) return true;
        *at = next + wordsOf((StgClosure *)next, ((StgClosure *)next)->info);
    }
    return false;
}

static Block *popRecyclable(unsigned row)
{
    Block *b = atomic_load_explicit(&heap.recyclable[row], memory_order_acquire);
    /* None comes back while others may pop: so the link is right. */
    while (b != NULL && !atomic_compare_exchange_weak_explicit(&heap.recyclable[row], &b, b->todo, memory_order_acquire, memory_order_acquire)) {}
    return b;
}

bool takeHole(Space *s, unsigned row, size_t words)
{
    for (;;) {
        Block *b = s->holed;
        if (b == NULL) {
            if ((b = popRecyclable(row)) == NULL) return false;
            s->holed = b;
            s->holedAt = b->start;
        }
        for (StgWord *from; nextHole(b, &s->holedAt, &from);) {
            if ((size_t)(s->holedAt - from) < (words < LEAST_HOLE ? LEAST_HOLE : words)) continue;
            s->block = b;
            s->free = from;
            s->limit = s->holedAt;
            if (s->limit == b->limit) b->free = b->limit;
            return true;
        }
        s->holed = NULL;
    }
}

void forgetHoles(void)
{
    for (unsigned row = 0; row < NODE_ROWS; row++) {
        heap.recyclable[row] = NULL;
        for (unsigned i = 0; i < MAX_COLLECTORS; i++) collectors[i].to[row][TO_OLD].holed = NULL;
    }
}

/* ---- The dead ---- */

static bool hasMarks(const Block *b)
{
    return nextMarked(markOrigin, b, b->start) < b->limit;
}

static void poisonHoles(const Block *b)
{
    for (StgWord *at = b->start, *from; nextHole(b, &at, &from);)
        for (StgWord *p = from; p < at; p++) *p = POISON_WORD;
}

static size_t sweepSmall(void)
{
    size_t words = 0, blocks = 0;
    Block *kept = NULL, *recyclable[NODE_ROWS] = { NULL };
    for (Block *b = heap.old, *next; b != NULL; b = next) {
        next = b->link;
        if (!hasMarks(b)) {
            dropBlock(b);
            continue;
        }
        words += b->live;
        blocks++;
        b->link = kept;
        kept = b;
        if (POISONS_HOLES) poisonHoles(b);
        if (b->live > BLOCK_WORDS / 4 * 3) continue;
        b->todo = recyclable[rowOf(b)];
        recyclable[rowOf(b)] = b;
    }
    heap.old = kept;
    for (unsigned row = 0; row < NODE_ROWS; row++) heap.recyclable[row] = recyclable[row];
    if (isFragmented(blocks, words)) heap.wantMajor = true;
    return words;
}

static size_t sweepGroups(Block **list)
{
    size_t words = 0;
    for (Block **link = list; *link != NULL;) {
        Block *b = *link;
        if (b->flags & BLOCK_REACHED) {
            words += (size_t)(b->free - b->start);
            link = &b->link;
            continue;
        }
        *link = b->link;
        heap.fixed -= blocksForGroup(b->blocks);
        freeBlocks(b);
    }
    return words;
}

/* ---- From beginning to end ---- */

static void clearGroups(Block *list)
{
    for (Block *b = list; b != NULL; b = b->link) b->flags &= ~(uint32_t)BLOCK_REACHED;
}

void resetMarking(void) { memset(&mark, 0, sizeof mark); }

void beginMarking(Nursery *const *nurseries, unsigned count)
{
    collectOpenBlocks();
    markOrigin = otherMap();
    for (Block *b = heap.old; b != NULL; b = b->link) {
        clearMarks(b);
        b->live = 0;
    }
    clearGroups(heap.large);
    clearGroups(heap.pinned);
    eachPinned(nurseries, count, forgetJudgement);
    mark.rooted = mark.ending = mark.overflowed = false;
    mark.length = mark.first = mark.fewLength = 0;
    memset(mark.slots, 0, sizeof mark.slots);
    mark.array = NULL;
    mark.early = heap.tables;
    mark.earlyBegun = false;
    mark.words = 0;
    mark.oldAtStart = heap.oldWords;
    heap.marking = true;
}

static void takeShaded(Nursery *const *nurseries, unsigned count)
{
    for (unsigned i = 0; i < crewSize(); i++) moveRemembered(&collectors[i].shaded, &mark.stack);
    for (unsigned i = 0; i < count; i++) moveRemembered(&nurseries[i]->shaded, &mark.stack);
}

void abandonMarking(Nursery *const *nurseries, unsigned count)
{
    if (!heap.marking) return;
    takeShaded(nurseries, count);
    forgetRemembered(&mark.stack);
    heap.marking = mark.ending = false;
}

/* false: something that was reached could not be remembered, for want of memory: the next collection copies everything.  Seen before anything is judged; what
 * weak pointers lead to is followed after that. */
static bool finishMarking(void)
{
    visitRoots(&marker);
    collectOpenBlocks();
    followMarks();
    if (heap.forgot) return false;
    heap.judging = true;
    followLive(&marker);
    visitDead(&marker);
    sweepTables(false);
    heap.judging = false;
    heap.marking = false;
    size_t before = heap.oldWords;
    heap.oldWords = sweepSmall() + sweepGroups(&heap.large) + sweepGroups(&heap.pinned);
    judgePinned(heap.pinned);
    size_t became = before > mark.oldAtStart ? before - mark.oldAtStart : 0;
    heap.unseenWords = became < heap.oldWords ? became : heap.oldWords;
    return true;
}

void markInPlace(Nursery *const *nurseries, unsigned count)
{
    beginMarking(nurseries, count);
    mark.inPlace = true;
    gcThreads.scanAll(&marker);
    bool all = finishMarking();
    ASSERT(all);
    mark.inPlace = false;
}

bool isMarkingEnding(void) { return mark.ending; }

bool continueMarking(Nursery *const *nurseries, unsigned count)
{
    takeShaded(nurseries, count);
    if (!mark.rooted) {
        visitRoots(&marker);
        gcThreads.scanAll(&marker);
        mark.rooted = true;
    }
    if (mark.ending) {
        mark.ending = false;
        return finishMarking();
    }
    mark.ending = doSlice(wordsDue()); /* with heap.forgot set the next one copies everything instead */
    return false;
}

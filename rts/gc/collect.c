/* One collection, from beginning to end. */
#include "base/report.h"
#include "gc/crew.h"
#include "gc/gct.h"
#include "gc/keys.h"
#include "gc/mark.h"
#include "gc/nursery.h"
#include "gc/pinned.h"
#include "gc/size.h"
#include "os/memory.h"
#include "os/os.h"
#include "os/topology.h"

#include <string.h>

ThreadHooks gcThreads;

/* Between two runtimes, too, somebody may be giving memory back, or asking how much there is (rts_externalMemory). */
static void clearHeap(void)
{
    heap.externalBytes = heap.shortage = 0;
    heap.eased = 0;
    heap.released = false;
    memset((char *)&heap + offsetof(struct Heap, nurseryBlocks), 0, sizeof heap - offsetof(struct Heap, nurseryBlocks));
}

bool initHeap(const HeapSettings *s, const RootScanner *scanners, const GcTable *const *tables)
{
    if (!initBlocks(s->limitBytes)) return false;
    clearHeap();
    memset(collectors, 0, sizeof collectors);
    resetMarking();
    heap.nurseryBlocks = nurseryBlocksOf(s);
    heap.adaptive = s->nurseryBytes == 0;
    heap.limitBlocks = limitBlocksOf(s->limitBytes);
    heap.verify = s->verify;
    heap.poison = s->poison;
    heap.scanners = scanners;
    heap.tables = tables;
    heap.allocated = heap.nurseryBlocks * s->capabilities; /* areas grow from what was allocated last: the first ones are whole */
    setThresholds(s->capabilities, true);
    return true;
}

void freeHeap(void)
{
    runExternalReleases(true);
    freeAllBlocks();
    clearHeap();
}

void forgetHeap(bool whole)
{
    if (whole) freeAllBlocks();
    else forgetAllBlocks();
    forgetCrew();
    clearHeap();
}

/* ---- What is reached ---- */

static void callScanners(Visitor *v)
{
    for (const RootScanner *scan = heap.scanners; *scan != NULL; scan++) (*scan)(v);
}

void visitTableRoots(Visitor *v, unsigned part, unsigned parts)
{
    for (const GcTable *const *t = heap.tables; *t != NULL; t++)
        if ((*t)->visitRoots != NULL) (*t)->visitRoots(v, part, parts);
}

void visitRoots(Visitor *v)
{
    callScanners(v);
    visitTableRoots(v, 0, 1);
}

void follow(Visitor *v)
{
    if (v->marks) {
        followMarks();
        return;
    }
    /* Threads first: those that a block's objects refer to have just been touched. */
    do {
        while (gcThreads.scan(v)) {}
        workTogether();
    } while (gcThreads.scan(v));
}

void followNear(Visitor *v)
{
    if (v->marks) followMarks();
    else
        while (scavengeSome(leader())) {}
}

static bool visitLive(Visitor *v)
{
    bool more = false;
    for (const GcTable *const *t = heap.tables; *t != NULL; t++)
        if ((*t)->visitLive != NULL) more |= (*t)->visitLive(v);
    return more;
}

void followLive(Visitor *v)
{
    follow(v);
    for (unsigned passes = 1; visitLive(v); passes++) {
        follow(v);
        if (passes % PASSES == 0) followKeys(v);
    }
}

void visitDead(Visitor *v)
{
    for (const GcTable *const *t = heap.tables; *t != NULL; t++)
        if ((*t)->visitDead != NULL) (*t)->visitDead(v);
    followLive(v);
}

static void reachAll(Nursery *const *nurseries, unsigned count)
{
    GcThread *g = leader();
    Visitor *v = &g->v;
    callScanners(v);
    takeShares(g);
    followLive(v);
    visitDead(v);
    while (!v->minor && gcThreads.revive()) followLive(v);
    for (unsigned i = 0; i < count; i++) forgetRemembered(&nurseries[i]->remembered);
}

void sweepTables(bool minor)
{
    gcThreads.sweep(minor);
    for (const GcTable *const *t = heap.tables; *t != NULL; t++)
        if ((*t)->sweep != NULL) (*t)->sweep(minor);
}

/* ---- From-space and to-space ---- */

static void markFrom(Block *list)
{
    for (Block *b = list; b != NULL; b = b->link) b->flags |= BLOCK_FROM;
}

static size_t wordsIn(const Block *list)
{
    size_t words = 0;
    for (const Block *b = list; b != NULL; b = b->link) words += (size_t)(b->free - b->start);
    return words;
}

static void pushBlock(Block **list, Block *b)
{
    b->link = *list;
    *list = b;
}

static void moveBlocks(Block **from, Block **to)
{
    while (*from != NULL) {
        Block *b = *from;
        *from = b->link;
        pushBlock(to, b);
    }
}

static void collectOpenBlock(Space *s)
{
    if (s->block != NULL && !s->hole) {
        s->block->free = s->free;
        pushBlock(&heap.old, s->block);
    }
    *s = (Space){ .flags = s->flags };
}

void collectOpenBlocks(void)
{
    for (unsigned i = 0; i < MAX_COLLECTORS; i++)
        for (unsigned row = 0; row < NODE_ROWS; row++) collectOpenBlock(&collectors[i].to[row][TO_OLD]);
}

/* Torture builds keep the old space inaccessible until the next collection, so that a stale pointer faults; where a page is no larger than a block. */
void dropBlock(Block *b)
{
    heap.movable--;
#ifdef CAPSTAN_TORTURE
    if (osPageSize() <= BLOCK_BYTES) {
        b->link = heap.quarantine;
        heap.quarantine = b;
        osDecommit(b->start, BLOCK_BYTES);
        return;
    }
#endif
    if (heap.poison)
        for (StgWord *p = b->start; p < b->free; p++) *p = POISON_WORD;
    freeBlocks(b);
}

static void emptyQuarantine(void)
{
    while (heap.quarantine != NULL) {
        Block *b = heap.quarantine;
        heap.quarantine = b->link;
        if (osCommit(b->start, BLOCK_BYTES)) freeBlocks(b);
    }
}

static void freeFromSpace(Block *from)
{
    while (from != NULL) {
        Block *b = from;
        from = b->link;
        dropBlock(b);
    }
}

/* Free the unmarked groups of a list, move the others, unmarked again, to another; returns the bytes that stay. */
static size_t sweepGroups(Block **from, Block **to, bool minor)
{
    size_t bytes = 0;
    Block *next;
    for (Block *b = *from; b != NULL; b = next) {
        next = b->link;
        if (b->flags & BLOCK_MARKED || (minor && !(b->flags & BLOCK_YOUNG))) {
            b->flags &= ~(uint32_t)BLOCK_MARKED;
            bytes += (size_t)(b->free - b->start) * sizeof(StgWord);
            pushBlock(to, b);
        } else {
            heap.fixed -= blocksForGroup(b->blocks);
            freeBlocks(b);
        }
    }
    *from = NULL;
    return bytes;
}

static void takeFull(Space *s, Block **to)
{
    if (s->full == NULL) return;
    s->lastFull->link = *to;
    *to = s->full;
    s->full = NULL;
}

static void gatherRow(Space *to)
{
    Space *old = &to[TO_OLD], *aged = &to[TO_AGED];
    heap.movable += aged->blocks + old->blocks;
    takeFull(old, &heap.old);
    takeFull(aged, &heap.aged);
    if (aged->block != NULL) {
        aged->block->free = aged->free;
        pushBlock(&heap.aged, aged->block);
    }
    *aged = (Space){ .flags = aged->flags };
}

/* What the collecting threads copied becomes the heap's.  The blocks of old objects that are not full stay theirs. */
static size_t gatherSpaces(Nursery *const *nurseries, unsigned count)
{
    size_t words = 0;
    for (unsigned i = 0; i < crewSize(); i++) {
        GcThread *g = &collectors[i];
        words += g->words;
        for (unsigned row = 0; row < g->rows; row++) gatherRow(g->to[row]);
        moveRemembered(&g->kept, &nurseries[g->home]->remembered);
    }
    return words;
}

/* Words that became old, or are old still. */
static size_t promotedWords(void)
{
    size_t words = 0;
    for (unsigned i = 0; i < crewSize(); i++) words += collectors[i].promoted;
    return words;
}

/* Who did how much. */
static void noteWork(RtsCollection *out)
{
    unsigned n = crewSize();
    size_t most = 0, even = 0, all = 0;
    out->cpu_ns = 0; /* the leader's is added when it has done all */
    for (unsigned i = 0; i < n; i++) all += collectors[i].words;
    for (unsigned i = 0; i < n; i++) {
        size_t words = collectors[i].words;
        if (i > 0) out->cpu_ns += collectors[i].cpu;
        if (words > most) most = words;
        even += n * words < all ? n * words : all;
    }
    out->collectors = n;
    out->copied_bytes = all * sizeof(StgWord);
    out->max_copied_bytes = most * sizeof(StgWord);
    /* One did all: even == all; all did the same: even == n * all. */
    out->balanced_copied_bytes = n > 1 ? (even - all) / (n - 1) * sizeof(StgWord) : 0;
}

/* ---- The whole ---- */

static void verify(const char *when, Nursery *const *nurseries, unsigned count)
{
    size_t bad = 0;
    if (heap.verify) verifyHeap(nurseries, count, &bad);
    if (bad != 0) logLine(RTS_LOG_ERROR, "heap check %s the collection: %zu objects are broken", when, bad);
    ASSERT(bad == 0);
}

static size_t youngWords(Nursery *const *nurseries, unsigned count)
{
    size_t words = wordsIn(heap.aged);
    for (unsigned i = 0; i < count; i++) words += wordsIn(nurseries[i]->blocks);
    return words;
}

/* Memory for the worst case: everything lives, and each collecting thread leaves two blocks of each row half empty. */
static bool ensureSpace(size_t young, bool major, unsigned helpers)
{
    if (major) collectOpenBlocks();
    size_t words = young, old = major ? wordsIn(heap.old) : 0;
    words += old < heap.oldWords ? old : heap.oldWords; /* of holes nothing is copied */
    size_t open = (2 * rowsInUse() + READY_BLOCKS) * (helpers + 1);
    words += heap.fixed * WORK_WORDS; /* large objects that wait, though none is copied */
    return ensureFreeBlocks(words / (BLOCK_WORDS - LARGE_WORDS) + 2 + (helpers > 0 ? words / BLOCK_WORDS / 32 : 0) + open);
}

/* The surviving large and pinned objects; returns their bytes. */
static size_t sweepInPlace(Nursery *const *nurseries, unsigned count, bool minor)
{
    size_t bytes = 0;
    Block *large = NULL, *pinned = NULL;
    if (!minor) bytes = sweepGroups(&heap.large, &large, false) + sweepGroups(&heap.pinned, &pinned, false);
    for (unsigned i = 0; i < count; i++) {
        Nursery *n = nurseries[i];
        /* The block that was being filled is filled on, though it is old now: its arrays refer to nothing. */
        Block *filling = n->pinned, *others = filling == NULL ? NULL : filling->link;
        if (filling != NULL) filling->link = NULL;
        n->pinned = NULL;
        bytes += sweepGroups(&n->large, &large, minor) + sweepGroups(&others, &pinned, minor) + sweepGroups(&filling, &n->pinned, minor);
    }
    moveBlocks(&large, &heap.large);
    moveBlocks(&pinned, &heap.pinned);
    return bytes;
}

/* young: words. */
static void collect(Nursery *const *nurseries, unsigned count, unsigned own, size_t young, bool minor, unsigned helpers, RtsCollection *out)
{
    uint64_t cpu = osThreadCpuNanos();
    Block *from = heap.aged, *oldFrom = NULL;
    heap.promotesAll = minor && (isMarkingEnding() || doMostSurvive());
    heap.aged = NULL;
    markFrom(from);
    if (!minor) {
        oldFrom = heap.old;
        heap.old = NULL;
        markFrom(oldFrom);
        forgetHoles();
        eachPinned(nurseries, count, forgetJudgement);
    }
    beginCollector(leader(), minor, helpers > 0, own, nurseries[own]->node);
    gcThreads.begin();
    openCrew(nurseries, count, helpers, minor, helpers > 0 && isBigCollection(young * sizeof(StgWord), minor));
    reachAll(nurseries, count);
    closeCrew();
    endCollector(leader());
    sweepTables(minor);
    size_t copied = gatherSpaces(nurseries, count) * sizeof(StgWord);
    size_t inPlace = sweepInPlace(nurseries, count, minor);
    if (!minor) eachPinned(nurseries, count, judgePinned);
    for (unsigned i = 0; i < count; i++) emptyNursery(nurseries[i], blocksToKeep(count, minor), dropBlock);
    freeFromSpace(from);
    freeFromSpace(oldFrom);
    heap.oldWords = (minor ? heap.oldWords : 0) + promotedWords() + inPlace / sizeof(StgWord);
    if (!minor) heap.unseenWords = 0;
    noteCopied(copied, young * sizeof(StgWord), osThreadCpuNanos() - cpu, minor);
    noteWork(out);
}

static void makeOld(Block **from, Block **to)
{
    for (Block *b = *from; b != NULL; b = b->link) b->flags &= ~(uint32_t)(BLOCK_FROM | BLOCK_YOUNG | BLOCK_AGED);
    moveBlocks(from, to);
}

/* There is no memory to copy anything to: all that is young becomes old where it is, and what is dead is found by marking. */
static void collectInPlace(Nursery *const *nurseries, unsigned count, RtsCollection *out)
{
    abandonMarking(nurseries, count);
    makeOld(&heap.aged, &heap.old);
    for (unsigned i = 0; i < count; i++) {
        Nursery *n = nurseries[i];
        makeOld(&n->blocks, &heap.old);
        makeOld(&n->large, &heap.large);
        makeOld(&n->pinned, &heap.pinned);
        forgetRemembered(&n->remembered);
    }
    heap.forgot = false;
    markInPlace(nurseries, count);
    for (unsigned i = 0; i < count; i++) emptyNursery(nurseries[i], blocksToKeep(count, false), dropBlock);
    out->collectors = 1;
}

#ifdef CAPSTAN_TORTURE
/* Now and then, when nobody asked for more than a minor collection. */
static bool isTurnToCollectInPlace(void)
{
    static unsigned turn;
    return ++turn % 32 == 0;
}
#else
static bool isTurnToCollectInPlace(void) { return false; }
#endif

/* A minor collection that was followed by a full one counts as one with that. */
static void addFirst(RtsCollection *c, const RtsCollection *first)
{
    c->allocated_bytes += first->allocated_bytes;
    c->copied_bytes += first->copied_bytes;
    c->max_copied_bytes += first->max_copied_bytes;
    c->balanced_copied_bytes += first->balanced_copied_bytes;
    c->cpu_ns += first->cpu_ns;
    if (c->collectors < first->collectors) c->collectors = first->collectors;
}

void collectHeap(Nursery *const *nurseries, unsigned count, unsigned own, bool major, RtsCollection *out)
{
    uint64_t cpu = osThreadCpuNanos();
    heap.released = false; /* before roots are visited: who stands behind one that is called meanwhile collects again */
    emptyQuarantine();
    for (unsigned i = 0; i < count; i++) syncNursery(nurseries[i]);
    major |= isTimeForMajor(nurseries, count);
    if (major) abandonMarking(nurseries, count);
    else if (isTimeToMark()) beginMarking(nurseries, count);
    size_t young = youngWords(nurseries, count);
    unsigned helpers = helpersFor(young * sizeof(StgWord), !major, count);
    bool inPlace = !ensureSpace(young, major, helpers) || (!major && isTurnToCollectInPlace()), ended = false;
    verify("before", nurseries, count);
    out->major = major |= inPlace;
    out->allocated_bytes = heap.allocated * BLOCK_BYTES;
    if (inPlace) {
        collectInPlace(nurseries, count, out);
    } else {
        collect(nurseries, count, own, young, !major, helpers, out);
        ended = heap.marking && continueMarking(nurseries, count);
    }
    for (unsigned i = 0; i < count; i++) refillReserve(nurseries[i]);
    heap.liveBytes = heap.oldWords * sizeof(StgWord) + wordsIn(heap.aged) * sizeof(StgWord);
    setThresholds(count, major || ended);
    if (major) heap.wantMajor = heap.forgot = false;
    heap.decayAfter = trimBlocks(keepBytes(count), osMonotonicNanos());
    out->live_bytes = heap.liveBytes;
    out->heap_bytes = committedBytes();
    out->large_bytes = heap.fixed * BLOCK_BYTES;
    out->block_bytes = heap.movable * BLOCK_BYTES;
    verify("after", nurseries, count);
    out->cpu_ns += osThreadCpuNanos() - cpu;
    setShortage();
    if (major || heap.shortage == 0) return;
    RtsCollection first = *out;
    *out = (RtsCollection){ .number = first.number, .stop_ns = first.stop_ns, .cause = RtsGcMemory };
    collectHeap(nurseries, count, own, true, out);
    addFirst(out, &first);
}

/* ---- Memory that nothing lives in ---- */

static void clearEnds(Block *list)
{
    for (Block *b = list; b != NULL; b = b->link) memset(b->free, 0, (size_t)((char *)blockEnd(b) - (char *)b->free));
}

/* A group that takes whole megablocks has the rest of the last one, too. */
static void clearLargeEnds(Block *list)
{
    for (Block *b = list; b != NULL; b = b->link) {
        size_t cost = blocksForGroup(b->blocks), blocks = cost == b->blocks ? cost : cost - 1;
        clearRange((uintptr_t)b->free, (uintptr_t)(b->start + blocks * BLOCK_WORDS));
    }
}

static void clearSpace(const Space *s)
{
    if (s->block != NULL) memset(s->free, 0, (size_t)((char *)s->limit - (char *)s->free));
}

static void clearNursery(Nursery *n)
{
    syncNursery(n);
    clearEnds(n->blocks);
    clearEnds(n->pinned);
    clearLargeEnds(n->large);
    for (Block *b = n->spare; b != NULL; b = b->link) memset(b->start, 0, BLOCK_BYTES);
    for (Block *b = n->reserve; b != NULL; b = b->link) memset(b->start, 0, BLOCK_BYTES);
}

void clearUnused(Nursery *const *nurseries, unsigned count)
{
    emptyQuarantine();
    for (unsigned i = 0; i < count; i++) clearNursery(nurseries[i]);
    clearEnds(heap.aged);
    clearEnds(heap.old);
    clearEnds(heap.pinned);
    eachPinned(nurseries, count, clearDeadPinned);
    clearLargeEnds(heap.large);
    for (unsigned i = 0; i < MAX_COLLECTORS; i++)
        for (unsigned row = 0; row < NODE_ROWS; row++) clearSpace(&collectors[i].to[row][TO_OLD]);
    clearFreeBlocks();
}

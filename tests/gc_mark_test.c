/*
 * Old objects of a large heap: they are marked in several pauses, and not copied.
 */
#include "generation.h"
#include "refuse.h"

#include "capability.h"
#include "gc/heap.h"
#include "gc/mark.h"

#include <rts/Language.h>

enum { MANY = 100000, ROUNDS = 8 }; /* objects of some 120 bytes, with what they refer to */

static struct {
    unsigned majors, marking, longest; /* collections; those in a row with a marking under way, now and at most */
    uint64_t blocks;                   /* bytes in blocks of small objects, at most */
} seen; /* [the hook] */

static void watch(void *ctx, const RtsCollection *c)
{
    seen.majors += c->major;
    if (c->block_bytes > seen.blocks) seen.blocks = c->block_bytes;
    seen.marking = heap.marking ? seen.marking + 1 : 0;
    if (seen.marking > seen.longest) seen.longest = seen.marking;
}

static int setUpMarking(void **state, unsigned capabilities, bool poison)
{
    RtsConfig config = hookedConfig(capabilities);
    config.nursery_bytes = 1 << 20;
    config.poison_from_space = poison;
    config.idle_collection_us = 1000000000;
    config.gcDoneHook = watch;
    return setUpWith(state, &config);
}
static int setUpLarge(void **state) { return setUpMarking(state, 1, false); }
static int setUpPoisoned(void **state) { return setUpMarking(state, 1, true); }
static int setUpPair(void **state) { return setUpMarking(state, 2, true); }

/* Slices of marking are limited by time: where everything is much slower they may not keep up, and then all is copied after all. */
static bool isPaced(void) { return !SLOW_BUILD && !isEmulated(); }

static HsInt next(uint32_t *random) { return (HsInt)((*random = *random * 1664525 + 1013904223) >> 8) % MANY; }

static HaskellObj mkAll(Stack *stack)
{
    HaskellObj all = rts_mkArray(stack->cap, MANY, CAPSTAN_UNIT);
    CAPSTAN_ROOTS(stack, all);
    for (HsInt i = 0; i < MANY; i++) {
        rts_setElem(stack->cap, all, (size_t)i, fresh(stack->cap, i));
        rts_poll(stack);
    }
    rts_collect(stack, true);
    memset(&seen, 0, sizeof seen);
    CAPSTAN_UNROOT(stack);
    return all;
}

static void replaceOne(Stack *stack, HaskellObj all, uint32_t *random)
{
    HsInt i = next(random);
    rts_setElem(stack->cap, all, (size_t)i, fresh(stack->cap, i));
}

static uint64_t liveBytes(void)
{
    RTSStats stats;
    getRTSStats(&stats);
    return stats.gc.live_bytes;
}

/* Every object is replaced several times, one here and one there: all by marking, no cycle of it in one pause, it is known what lives, and the new
 * ones are where the old ones were. */
CASE(largeHeapsAreMarked)
{
    HaskellObj all = mkAll(stack);
    uint32_t random = 4711;
    CAPSTAN_ROOTS(stack, all);
    uint64_t live = liveBytes(), least = UINT64_MAX, most = 0;
    for (HsInt n = 0; n < ROUNDS * MANY; n++) {
        replaceOne(stack, all, &random);
        rts_poll(stack);
        if (n % 1000 != 0) continue;
        uint64_t now = liveBytes();
        least = now < least ? now : least;
        most = now > most ? now : most;
    }
    CHECK(!isPaced() || (seen.majors == 0 && seen.longest >= 3 && seen.blocks <= 4 * live));
    CHECK(least >= live - live / 8 && most <= 3 * live); /* what died since the last cycle, or while it lasted, counts as live */
    for (HsInt i = 0; i < MANY; i++) CHECK(isFresh(rts_getElem(all, (size_t)i), i));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* The next collection begins a cycle of marking, whose first slice does not end it. */
static void beginCycle(Stack *stack)
{
    heap.oldAt = 0;
    rts_collect(stack, false);
    CHECK(heap.marking);
}
static void endCycle(Stack *stack)
{
    while (heap.marking) rts_collect(stack, false);
    CHECK(seen.majors == 0);
}
/* All that is left of it is the next collection. */
static void nearlyEndCycle(Stack *stack)
{
    while (heap.marking && !isMarkingEnding()) rts_collect(stack, false);
    CHECK(heap.marking);
}

/* ---- What does not move ---- */

/* Of each kind, by its number: what is pinned (the smaller ones share blocks) and what is large. */
static HaskellObj mkUnmoved(Capability *cap, HsInt n)
{
    enum { WORDS = 600 };
    if (n % 3 == 0) return rts_mkArray(cap, WORDS, fresh(cap, n));
    size_t length = n % 3 == 1 ? WORDS * sizeof(StgWord) : 100;
    HaskellObj bytes = rts_mkBytesPinned(cap, NULL, length);
    memset(rts_bytes(bytes, NULL), (int)(n % 100), length);
    return bytes;
}
static bool isUnmoved(HaskellObj v, HsInt n)
{
    if (n % 3 == 0) return isFresh(rts_getElem(v, rts_arrayLength(v) - 1), n);
    size_t length;
    const char *bytes = rts_bytes(v, &length);
    for (size_t i = 0; i < length; i++)
        if (bytes[i] != n % 100) return false;
    return true;
}

static bool isReached(HaskellObj v) { return blockOf(v)->flags & BLOCK_PINNED ? isMarked(v) : blockOf(v)->flags & BLOCK_REACHED; }

/* Old ones that marking has not come to yet are taken out of old objects, and are known to a thread or to something young only; others are made meanwhile. */
CASE(unmovedMoveAway)
{
    enum { UNMOVED = 600 };
    HaskellObj all = mkAll(stack), young = CAPSTAN_UNIT, one = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, all, young, one);
    /* What the first elements refer to is looked at last. */
    for (HsInt i = 0; i < UNMOVED; i++) rts_setElem(stack->cap, all, (size_t)i, rts_mkArray(stack->cap, 1, mkUnmoved(stack->cap, i)));
    rts_collect(stack, true);
    memset(&seen, 0, sizeof seen);
    beginCycle(stack);
    young = rts_mkArray(stack->cap, UNMOVED, CAPSTAN_UNIT);
    for (size_t i = 0; i < UNMOVED; i++) {
        HaskellObj holder = rts_getElem(all, i), v = rts_getElem(holder, 0);
        CHECK(!isReached(v));
        rts_setElem(stack->cap, young, i, v);
        rts_setElem(stack->cap, holder, 0, CAPSTAN_UNIT);
        rts_setElem(stack->cap, all, i, mkUnmoved(stack->cap, (HsInt)i)); /* where marking has looked */
    }
    one = rts_getElem(young, 0);
    rts_setElem(stack->cap, young, 0, CAPSTAN_UNIT);
    endCycle(stack);
    for (HsInt i = 0; i < UNMOVED; i++) mkUnmoved(stack->cap, i + 1); /* where the dead were */
    for (HsInt i = 0; i < UNMOVED; i++) CHECK(isUnmoved(i == 0 ? one : rts_getElem(young, (size_t)i), i) && isUnmoved(rts_getElem(all, (size_t)i), i));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

static void *clearNow(void *unused)
{
    rts_clearMemory();
    return NULL;
}

/* Small pinned arrays die one by one, in each cycle and in one of many blocks or in that which is being filled; and none that lives is taken for dead while
 * marking has not come to it. */
CASE(pinnedDieOneByOne)
{
    enum { PINNED = 401 };
    HaskellObj all = mkAll(stack), weaks = rts_mkArray(stack->cap, PINNED, CAPSTAN_UNIT), none = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, all, weaks, none);
    for (HsInt i = 0; i < PINNED; i++) {
        HaskellObj bytes = mkUnmoved(stack->cap, 3 * i + 2);
        rts_setElem(stack->cap, all, (size_t)i, rts_mkArray(stack->cap, 1, bytes));
        rts_setElem(stack->cap, weaks, (size_t)i, rts_mkWeakNoFinalizer(stack->cap, bytes, CAPSTAN_UNIT));
    }
    CHECK(stack->cap->nursery.pinned != NULL); /* the last of them is in there */
    rts_collect(stack, true);
    CHECK(heap.pinned != NULL && stack->cap->nursery.pinned != NULL);
    memset(&seen, 0, sizeof seen);
    for (HsInt cycle = 0; cycle < 5; cycle++) {
        for (size_t i = (size_t)cycle; i < PINNED && cycle > 0; i += 5) rts_setElem(stack->cap, all, i, CAPSTAN_UNIT);
        beginCycle(stack);
        rts_safeCall(stack, clearNow, NULL);
        endCycle(stack);
        for (size_t i = 0; i < PINNED; i++) {
            bool lives = i % 5 == 0 || (HsInt)(i % 5) > cycle;
            CHECK(rts_deRefWeak(rts_getElem(weaks, i), &none) == lives);
            CHECK(!lives || isUnmoved(rts_getElem(rts_getElem(all, i), 0), 3 * (HsInt)i + 2));
        }
    }
    for (size_t i = 0; i < PINNED; i++) rts_setElem(stack->cap, all, i, CAPSTAN_UNIT);
    beginCycle(stack);
    endCycle(stack);
    CHECK(heap.pinned == NULL);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* ---- What is young, or remembered, while old objects are marked ---- */

CAPSTAN_FUN(makeFresh, n) { return fresh(stack->cap, rts_smallIntValue(n)); }

/* Evaluates the first n elements; the values go into another array. */
CAPSTAN_IO(forceAll, all, values, n, done)
{
    size_t count = (size_t)rts_smallIntValue(n);
    CAPSTAN_ROOTS(stack, all, values, done);
    for (size_t i = 0; i < count; i++) {
        HaskellObj v = rts_force(stack, rts_getElem(all, i));
        rts_setElem(stack->cap, values, i, v);
    }
    CAPSTAN_UNROOT(stack);
    rts_putMVar(stack, done, CAPSTAN_UNIT);
    return CAPSTAN_UNIT;
}

/* On the capability that the caller does not run on: what it remembers is looked at after the caller's roots, so what both refer to stays young. */
#define ON_OTHER(stack, done, f, ...) (rts_forkOn((stack), 1 - (stack)->cap->no, APPLY((stack)->cap, f, __VA_ARGS__, (done))), rts_takeMVar((stack), (done)))

/* Old thunks have just got young values, which are not put in the place of the thunks. */
CASE(valuesStayYoung)
{
    enum { THUNKS = 100 };
    HaskellObj all = mkAll(stack), values = CAPSTAN_UNIT, done = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, all, values, done);
    for (HsInt i = 0; i < THUNKS; i++) rts_setElem(stack->cap, all, (size_t)i, rts_apply(stack->cap, &makeFresh_closure, CAPSTAN_SMALL_INT(i)));
    rts_collect(stack, true);
    makeOld(stack); /* little is left to copy: nobody helps */
    memset(&seen, 0, sizeof seen);
    values = rts_mkArray(stack->cap, THUNKS, CAPSTAN_UNIT);
    ON_OTHER(stack, done, forceAll, all, values, CAPSTAN_SMALL_INT(THUNKS));
    beginCycle(stack);
    for (size_t i = 0; i < THUNKS; i++) {
        CHECK(rts_isYoung(rts_getElem(values, i)) && isMarked(rts_getElem(all, i)));
        CHECK(!rts_isYoung(rts_getElem(all, i)));
    }
    values = CAPSTAN_UNIT;
    minor(stack);
    endCycle(stack);
    for (HsInt i = 0; i < THUNKS; i++) CHECK(isFresh(rts_force(stack, rts_getElem(all, (size_t)i)), i));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(storeIn, array, v, done)
{
    for (size_t i = 0; i < rts_arrayLength(array); i++) rts_setElem(stack->cap, array, i, v);
    rts_putMVar(stack, done, CAPSTAN_UNIT);
    return CAPSTAN_UNIT;
}

/* All is marked, but what a weak pointer leads to whose key is dead: that is changed now, and then dies.  Nobody looks there again, where others will lie. */
CASE(slotsOfTheDead)
{
    HaskellObj all = mkAll(stack), done = rts_mkMVar(stack->cap), young = CAPSTAN_UNIT, array = rts_mkArray(stack->cap, 10, CAPSTAN_UNIT);
    HaskellObj key = rts_mkMutVar(stack->cap, CAPSTAN_UNIT), weak = rts_mkWeakNoFinalizer(stack->cap, key, array);
    CAPSTAN_ROOTS(stack, all, done, young, array, key, weak);
    array = CAPSTAN_UNIT;
    rts_collect(stack, true);
    makeOld(stack);
    key = CAPSTAN_UNIT;
    memset(&seen, 0, sizeof seen);
    beginCycle(stack);
    nearlyEndCycle(stack);
    CHECK(rts_deRefWeak(weak, &array) && !rts_isYoung(array) && !isMarked(array));
    young = fresh(stack->cap, 1);
    ON_OTHER(stack, done, storeIn, array, young);
    CHECK(capabilities[1 - stack->cap->no].nursery.remembered.blocks != NULL && rts_isYoung(young));
    array = CAPSTAN_UNIT;
    rts_finalizeWeak(stack, weak);
    rts_collect(stack, false);
    CHECK(!heap.marking && seen.majors == 0 && isFresh(young, 1));
    for (unsigned i = 0; i < 2; i++) CHECK(capabilities[i].nursery.remembered.blocks == NULL);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* ---- Without memory ---- */

static HaskellObj scanned;
static bool refuses;

static void scanRefused(RtsRootScanner *self, RtsVisitor *visitor, bool minor)
{
    if (refuses) refuseMemory();
    rts_visitRoots(visitor, &scanned, 1);
    if (refuses) allowMemory();
    refuses = false;
}

/* The last collection of a cycle reaches something, and has no memory to remember that: the cycle does not end with that. */
CASE(lastIsForgotten)
{
    enum { LENGTH = 100 };
    static RtsRootScanner scanner = { .scan = scanRefused };
    HaskellObj all = mkAll(stack), array = rts_mkArray(stack->cap, LENGTH, CAPSTAN_UNIT);
    HaskellObj key = rts_mkMutVar(stack->cap, CAPSTAN_UNIT), weak = rts_mkWeakNoFinalizer(stack->cap, key, array);
    CAPSTAN_ROOTS(stack, all, array, key, weak);
    for (HsInt i = 0; i < LENGTH; i++) rts_setElem(stack->cap, array, (size_t)i, fresh(stack->cap, i));
    array = scanned = CAPSTAN_UNIT;
    rts_collect(stack, true);
    key = CAPSTAN_UNIT;
    memset(&seen, 0, sizeof seen);
    beginCycle(stack);
    nearlyEndCycle(stack);
    CHECK(rts_deRefWeak(weak, &scanned) && !isMarked(scanned));
    CHECK(rts_addScanner(stack, &scanner));
    refuses = true;
    rts_collect(stack, false);
    CHECK(!refuses && seen.majors == 0 && heap.marking && heap.forgot);
    for (HsInt i = 0; i < LENGTH; i++) CHECK(isFresh(rts_getElem(scanned, (size_t)i), i));
    rts_collect(stack, false);
    CHECK(seen.majors == 1 && !heap.marking && !heap.forgot);
    for (HsInt i = 0; i < LENGTH; i++) CHECK(isFresh(rts_getElem(scanned, (size_t)i), i));
    rts_removeScanner(stack, &scanner);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* A cycle is given up, for a major collection; the next one begins from the beginning, and comes to its end. */
CASE(begunAgain)
{
    HaskellObj all = mkAll(stack);
    CAPSTAN_ROOTS(stack, all);
    for (unsigned round = 0; round < 3; round++) {
        beginCycle(stack);
        for (size_t i = round; i < 3000; i += 3) {
            rts_setElem(stack->cap, all, i, rts_getElem(all, i + 3000)); /* which is to be looked into */
            rts_setElem(stack->cap, all, i, fresh(stack->cap, (HsInt)i));
        }
        rts_collect(stack, true);
        CHECK(seen.majors == 1 && !heap.marking);
        seen.majors = 0;
        beginCycle(stack);
        endCycle(stack);
    }
    for (HsInt i = 0; i < MANY; i++) CHECK(isFresh(rts_getElem(all, (size_t)i), i));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* ---- In time ---- */

CAPSTAN_CON(Cell, 0, next)

/* A large heap, whose marking takes several times as long as a slice may. */
enum { CELLS = SLOW_BUILD ? 1000000 : 4000000 };

static HaskellObj addCells(Stack *stack, HaskellObj list, unsigned count)
{
    CAPSTAN_ROOTS(stack, list);
    for (unsigned i = 0; i < count; i++) {
        list = Cell_new(stack->cap, list);
        rts_poll(stack);
    }
    CAPSTAN_UNROOT(stack);
    return list;
}

/* Much is to be marked, all that is made meanwhile becomes old, and there is little room until everything would be copied: slices take as long as they
 * have to, and the cycle ends before that, however slow the machine is. */
CASE(cyclesEndInTime)
{
    enum { ROOM_WORDS = 320000, STEPS = 10, CELL_WORDS = 2 };
    HaskellObj list = addCells(stack, CAPSTAN_UNIT, CELLS);
    CAPSTAN_ROOTS(stack, list);
    rts_collect(stack, true);
    memset(&seen, 0, sizeof seen);
    size_t start = heap.oldWords;
    beginCycle(stack);
    heap.majorAt = start + ROOM_WORDS;
    for (unsigned i = 0; i < 2 * STEPS && heap.marking; i++) {
        list = addCells(stack, list, ROOM_WORDS / STEPS / CELL_WORDS);
        rts_collect(stack, false);
    }
    CHECK(!heap.marking && seen.majors == 0 && heap.oldWords > start + ROOM_WORDS / 4);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* So much has become old at once that the next collection copies everything: what is left to be marked is left. */
CASE(lateCyclesAreLeft)
{
    enum { FEW_CELLS = 1000 };
    HaskellObj list = addCells(stack, CAPSTAN_UNIT, CELLS);
    CAPSTAN_ROOTS(stack, list);
    rts_collect(stack, true);
    memset(&seen, 0, sizeof seen);
    beginCycle(stack);
    list = addCells(stack, list, FEW_CELLS);
    rts_collect(stack, false);
    heap.majorAt = heap.oldWords + 1;
    rts_collect(stack, false);
    CHECK(heap.oldWords > heap.majorAt && heap.marking && !isMarkingEnding() && seen.majors == 0);
    rts_collect(stack, false);
    CHECK(!heap.marking && seen.majors == 1);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* ---- Fragments ---- */

/* Of two neighbours the larger one dies; what becomes old afterwards is larger still, and fits nowhere: then the others are copied. */
CASE(fragmentsAreCopied)
{
    enum { PAIRS = 2 * MANY, BYTES = 100, MORE = 5000, MORE_BYTES = 200 };
    HaskellObj all = rts_mkArray(stack->cap, 2 * PAIRS, CAPSTAN_UNIT), more = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, all, more);
    for (HsInt i = 0; i < PAIRS; i++) {
        rts_setElem(stack->cap, all, (size_t)(2 * i), rts_mkInt(stack->cap, i + ((HsInt)1 << 62)));
        rts_setElem(stack->cap, all, (size_t)(2 * i + 1), rts_mkBytes(stack->cap, NULL, BYTES));
        rts_poll(stack);
    }
    more = rts_mkArray(stack->cap, MORE, CAPSTAN_UNIT);
    rts_collect(stack, true);
    uint64_t before = liveBytes();
    for (HsInt i = 0; i < PAIRS; i++) rts_setElem(stack->cap, all, (size_t)(2 * i + 1), CAPSTAN_UNIT);
    memset(&seen, 0, sizeof seen);
    for (size_t i = 0; i < MORE; i++) rts_setElem(stack->cap, more, i, rts_mkBytes(stack->cap, NULL, MORE_BYTES));
    beginCycle(stack);
    endCycle(stack);
    rts_collect(stack, false);
    CHECK(seen.majors == 1);
    seen.blocks = 0;
    rts_collect(stack, false);
    CHECK(liveBytes() < before / 2 && seen.blocks < before / 2);
    for (HsInt i = 0; i < PAIRS; i++) CHECK(rts_getInt(rts_getElem(all, (size_t)(2 * i))) == i + ((HsInt)1 << 62));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

#define LARGE(f) { #f, f, setUpLarge, disarmTest, NULL }
#define POISONED(f) { #f, f, setUpPoisoned, disarmTest, NULL }
#define PAIR(f) { #f, f, setUpPair, disarmTest, NULL }

int main(void)
{
    const struct CMUnitTest tests[] = {
        LARGE(largeHeapsAreMarked), POISONED(unmovedMoveAway), POISONED(pinnedDieOneByOne), PAIR(valuesStayYoung), PAIR(slotsOfTheDead),
        POISONED(lastIsForgotten), POISONED(begunAgain), LARGE(cyclesEndInTime), LARGE(lateCyclesAreLeft),
        LARGE(fragmentsAreCopied),
    };
#ifdef CAPSTAN_TORTURE
    puts("torture builds collect all the time");
    return 77;
#endif
    return cmocka_run_group_tests(tests, NULL, NULL);
}

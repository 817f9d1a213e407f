/*
 * Old objects that refer to young ones, in each way that there is but by threads (gc_parked_test.c): make something old by several minor
 * collections, let it refer to something young, collect minor again and again, look after each, and once more after a major one.
 * And what dies young, or lives pinned or large, while only the young are collected.
 */
#include "generation.h"

#include "capability.h"
#include "gc/heap.h"

#include <rts/Language.h>

/* ---- Variables ---- */

CASE(variableWritten)
{
    HaskellObj var = rts_mkMutVar(stack->cap, CAPSTAN_UNIT);
    CAPSTAN_ROOTS(stack, var);
    makeOld(stack);
    for (HsInt n = 0; n < 3; n++) {
        rts_writeMutVar(stack->cap, var, fresh(stack->cap, n));
        CHECK_THROUGH(stack, isFresh(rts_readMutVar(var), n));
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

CASE(variableSetInline)
{
    HaskellObj var = rts_mkMutVar(stack->cap, CAPSTAN_UNIT);
    CAPSTAN_ROOTS(stack, var);
    makeOld(stack);
    rts_setMutVar(stack->cap, var, fresh(stack->cap, 1));
    CHECK_THROUGH(stack, isFresh(rts_readMutVar(var), 1));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

CASE(variableSwapped)
{
    HaskellObj var = rts_mkMutVar(stack->cap, CAPSTAN_UNIT);
    CAPSTAN_ROOTS(stack, var);
    makeOld(stack);
    for (HsInt n = 0; n < 3; n++) {
        CHECK(rts_casMutVar(stack->cap, var, rts_readMutVar(var), fresh(stack->cap, n)));
        CHECK_THROUGH(stack, isFresh(rts_readMutVar(var), n));
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* Written again before, and just after, the collection that remembers it; also with what needs no barrier. */
CASE(variableWrittenOften)
{
    HaskellObj var = rts_mkMutVar(stack->cap, CAPSTAN_UNIT);
    CAPSTAN_ROOTS(stack, var);
    makeOld(stack);
    for (HsInt n = 0; n < 60; n++) {
        if (n % 3 == 1) rts_writeMutVar(stack->cap, var, CAPSTAN_UNIT);
        if (n % 5 == 2) rts_writeMutVar(stack->cap, var, fresh(stack->cap, -n));
        rts_writeMutVar(stack->cap, var, fresh(stack->cap, n));
        if (n % 4 != 3) minor(stack);
        CHECK(isFresh(rts_readMutVar(var), n));
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* A chain from old to younger to youngest; each link is made a collection after the one before. */
CASE(chainOfAges)
{
    enum { LINKS = 12 };
    HaskellObj first = rts_mkMutVar(stack->cap, &Nothing_closure), last = first;
    CAPSTAN_ROOTS(stack, first, last);
    makeOld(stack);
    for (HsInt n = 0; n < LINKS; n++) {
        HaskellObj next = rts_mkMutVar(stack->cap, &Nothing_closure);
        rts_writeMutVar(stack->cap, last, Fresh_new(stack->cap, rts_mkInt(stack->cap, BOXED(n)), next, &Nothing_closure));
        last = next;
        minor(stack);
    }
    for (int round = 0; round < 3; round++) {
        HaskellObj at = first;
        for (HsInt n = 0; n < LINKS; n++) {
            HaskellObj link = rts_readMutVar(at);
            CHECK(CAPSTAN_IS(Fresh, link) && rts_getInt(CAPSTAN_GET(Fresh, link, number)) == BOXED(n));
            at = CAPSTAN_GET(Fresh, link, text);
        }
        CHECK(at == last && rts_readMutVar(at) == &Nothing_closure);
        if (round == 0) minor(stack);
        else major(stack);
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* An old object that only a young one refers to is not needed any more when that dies; and one that is made reachable again lives. */
CASE(oldBehindYoung)
{
    HaskellObj old = fresh(stack->cap, 1), var = rts_mkMutVar(stack->cap, CAPSTAN_UNIT);
    CAPSTAN_ROOTS(stack, old, var);
    makeOld(stack);
    rts_writeMutVar(stack->cap, var, Fresh_new(stack->cap, old, old, &Nothing_closure));
    old = CAPSTAN_UNIT;
    CHECK_THROUGH(stack, isFresh(CAPSTAN_GET(Fresh, rts_readMutVar(var), number), 1));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* ---- Arrays ---- */

/* Elements at borders of whatever size, and in between. */
static const size_t places[] = { 0, 1, 7, 63, 64, 127, 128, 255, 256, 511, 512, 513, 1023, 1024, 2047, 2048, 4095, 4096, 9999 };
enum { PLACES = sizeof places / sizeof *places };

static void checkArray(Stack *stack, size_t length)
{
    HaskellObj array = rts_mkArray(stack->cap, length, CAPSTAN_UNIT);
    CAPSTAN_ROOTS(stack, array);
    makeOld(stack);
    for (HsInt round = 0; round < 3; round++) {
        for (HsInt i = round; i < PLACES; i += 2) {
            size_t place = places[i] % length;
            HaskellObj v = fresh(stack->cap, (HsInt)place + round);
            if (round == 1) rts_setArrayElem(stack->cap, array, place, v);
            else rts_setElem(stack->cap, array, place, v);
            if (round == 2) minor(stack);
        }
        for (int age = 0; age < AGES; age++) {
            minor(stack);
            for (HsInt i = round; i < PLACES; i += 2) {
                size_t place = places[i] % length;
                CHECK(isFresh(rts_getElem(array, place), (HsInt)place + round));
            }
        }
    }
    size_t others = 0;
    for (size_t i = 0; i < length; i++) others += rts_getElem(array, i) == CAPSTAN_UNIT;
    CHECK(others >= length - (length < PLACES ? length : PLACES));
    CAPSTAN_UNROOT(stack);
}

CASE(smallArray)
{
    checkArray(stack, 3);
    checkArray(stack, 100);
    return CAPSTAN_UNIT;
}

CASE(largeArray)
{
    checkArray(stack, 600);
    checkArray(stack, 10000);
    return CAPSTAN_UNIT;
}

/* Millions of elements, of which a few are written between collections. */
CASE(hugeArray)
{
    size_t length = (size_t)many(2000000) + 10000;
    HaskellObj array = rts_mkArray(stack->cap, length, CAPSTAN_UNIT);
    uint64_t seed = 5;
    size_t written[40];
    CAPSTAN_ROOTS(stack, array);
    makeOld(stack);
    for (HsInt round = 0; round < 4; round++) {
        for (size_t i = 0; i < 40; i++) {
            written[i] = i < 2 ? i * (length - 1) : nextRandom(&seed) % length;
            rts_setElem(stack->cap, array, written[i], fresh(stack->cap, (HsInt)written[i]));
            if (i % 10 == 9) minor(stack);
        }
        for (int age = 0; age < 3; age++) {
            for (size_t i = 0; i < 40; i++) CHECK(isFresh(rts_getElem(array, written[i]), (HsInt)written[i]));
            minor(stack);
        }
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* A large array full of young objects survives with them, though it was never written to when it was old. */
CASE(youngLargeArray)
{
    enum { LENGTH = 3000 };
    HaskellObj array = rts_mkArray(stack->cap, LENGTH, CAPSTAN_UNIT);
    for (size_t i = 0; i < LENGTH; i += 7) rts_setElem(stack->cap, array, i, fresh(stack->cap, (HsInt)i));
    CAPSTAN_ROOTS(stack, array);
    for (int age = 0; age <= AGES; age++) {
        minor(stack);
        for (size_t i = 0; i < LENGTH; i++)
            CHECK(i % 7 == 0 ? isFresh(rts_getElem(array, i), (HsInt)i) : rts_getElem(array, i) == CAPSTAN_UNIT);
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* ---- Thunks ---- */

static void collectTimes(Stack *stack, HaskellObj *n)
{
    CAPSTAN_ROOTS(stack, *n);
    for (HsInt left = rts_smallIntValue(*n) % 10; left > 0; left--) minor(stack);
    CAPSTAN_UNROOT(stack);
}

/* The number of minor collections in its midst is n modulo ten. */
CAPSTAN_FUN(makeFresh, n)
{
    collectTimes(stack, &n);
    return fresh(stack->cap, rts_smallIntValue(n));
}
CAPSTAN_THUNK(lazyFresh, 1)
{
    HaskellObj n = rts_thunkVar(self, 0);
    collectTimes(stack, &n);
    return fresh(stack->cap, rts_smallIntValue(n));
}
CAPSTAN_FUN(raiseFresh, n) { rts_raise(stack, fresh(stack->cap, rts_smallIntValue(n))); }
CAPSTAN_FUN(ofThree, a, b, c) { return Fresh_new(stack->cap, a, b, c); }

static HaskellObj forceIt(Stack *stack, void *v) { return rts_force(stack, *(HaskellObj *)v); }

/* thunk: unevaluated, and young.  It is made old, evaluated, and must keep its value. */
static void checkUpdate(Stack *stack, HaskellObj thunk, HsInt n, bool raises)
{
    HaskellObj holder = Fresh_new(stack->cap, thunk, CAPSTAN_UNIT, CAPSTAN_UNIT), result = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, holder, result);
    makeOld(stack);
    thunk = CAPSTAN_GET(Fresh, holder, number);
    CHECK(rts_try(stack, forceIt, &thunk, &result) == !raises);
    CHECK(isFresh(result, n));
    result = CAPSTAN_UNIT;
    for (int age = 0; age <= AGES; age++) {
        if (age < AGES) minor(stack);
        else major(stack);
        thunk = CAPSTAN_GET(Fresh, holder, number);
        CHECK(rts_try(stack, forceIt, &thunk, &result) == !raises);
        CHECK(isFresh(result, n));
        result = CAPSTAN_UNIT;
    }
    CAPSTAN_UNROOT(stack);
}

CASE(thunkUpdated)
{
    HaskellObj n = CAPSTAN_SMALL_INT(20), slow = CAPSTAN_SMALL_INT(33);
    checkUpdate(stack, rts_mkClosure(stack->cap, &lazyFresh_info, &n), 20, false);
    checkUpdate(stack, rts_mkClosure(stack->cap, &lazyFresh_info, &slow), 33, false);
    return CAPSTAN_UNIT;
}

CASE(applicationUpdated)
{
    checkUpdate(stack, rts_apply(stack->cap, &makeFresh_closure, CAPSTAN_SMALL_INT(50)), 50, false);
    checkUpdate(stack, rts_apply(stack->cap, &makeFresh_closure, CAPSTAN_SMALL_INT(58)), 58, false);
    return CAPSTAN_UNIT;
}

CASE(thunkRaised)
{
    checkUpdate(stack, rts_apply(stack->cap, &raiseFresh_closure, CAPSTAN_SMALL_INT(7)), 7, true);
    return CAPSTAN_UNIT;
}

/* It becomes old while it is being evaluated. */
CASE(thunkAgesInside)
{
    HaskellObj n = CAPSTAN_SMALL_INT(149), thunk = rts_mkClosure(stack->cap, &lazyFresh_info, &n);
    HaskellObj holder = Fresh_new(stack->cap, thunk, CAPSTAN_UNIT, CAPSTAN_UNIT);
    CAPSTAN_ROOTS(stack, holder);
    CHECK(isFresh(rts_force(stack, thunk), 149));
    CHECK_THROUGH(stack, isFresh(rts_force(stack, CAPSTAN_GET(Fresh, holder, number)), 149));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* An old application to too few arguments becomes a young partial application. */
CASE(partialUpdated)
{
    HaskellObj ap = rts_apply(stack->cap, &ofThree_closure, fresh(stack->cap, 1));
    HaskellObj holder = Fresh_new(stack->cap, ap, CAPSTAN_UNIT, CAPSTAN_UNIT);
    CAPSTAN_ROOTS(stack, holder);
    makeOld(stack);
    rts_force(stack, CAPSTAN_GET(Fresh, holder, number));
    for (int age = 0; age < AGES; age++) {
        minor(stack);
        HaskellObj partial = CAPSTAN_GET(Fresh, holder, number);
        HaskellObj v = rts_call(stack, partial, CAPSTAN_UNIT, CAPSTAN_TRUE);
        CHECK(CAPSTAN_IS(Fresh, v) && isFresh(CAPSTAN_GET(Fresh, v, number), 1) && CAPSTAN_GET(Fresh, v, self) == CAPSTAN_TRUE);
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* Static thunks: what they become is young at first; and what hangs on it later is. */
CAPSTAN_CAF(global) { return rts_mkMutVar(stack->cap, fresh(stack->cap, 3)); }

CASE(staticThunk)
{
    rts_force(stack, &global_closure);
    CHECK_THROUGH(stack, isFresh(rts_readMutVar(rts_force(stack, &global_closure)), 3));
    HaskellObj var = rts_force(stack, &global_closure);
    rts_writeMutVar(stack->cap, var, fresh(stack->cap, 4));
    CHECK_THROUGH(stack, isFresh(rts_readMutVar(rts_force(stack, &global_closure)), 4));
    return CAPSTAN_UNIT;
}

/* Several threads wait for an old thunk that one of them evaluates. */
CAPSTAN_IO(forceAndReport, holder, done)
{
    CAPSTAN_ROOTS(stack, done);
    HaskellObj v = rts_force(stack, CAPSTAN_GET(Fresh, holder, number));
    CAPSTAN_UNROOT(stack);
    rts_putMVar(stack, done, rts_mkBool(stack->cap, isFresh(v, 89)));
    return CAPSTAN_UNIT;
}

CASE(thunkAwaited)
{
    enum { THREADS = 8 };
    HaskellObj n = CAPSTAN_SMALL_INT(89), thunk = rts_mkClosure(stack->cap, &lazyFresh_info, &n), done = rts_mkMVar(stack->cap);
    HaskellObj holder = Fresh_new(stack->cap, thunk, CAPSTAN_UNIT, CAPSTAN_UNIT);
    CAPSTAN_ROOTS(stack, holder, done);
    makeOld(stack);
    for (int i = 0; i < THREADS; i++) FORK(stack, forceAndReport, holder, done);
    for (int i = 0; i < THREADS; i++) CHECK(rts_takeMVar(stack, done) == CAPSTAN_TRUE);
    CHECK_THROUGH(stack, isFresh(rts_force(stack, CAPSTAN_GET(Fresh, holder, number)), 89));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* ---- Stable pointers ---- */

CASE(stablePointers)
{
    enum { COUNT = 400 };
    static HsStablePtr sp[COUNT];
    for (HsInt i = 0; i < COUNT; i++) sp[i] = getStablePtr((StgPtr)fresh(stack->cap, i));
    makeOld(stack);
    for (HsInt i = 0; i < COUNT; i++) CHECK(isFresh((HaskellObj)deRefStablePtr(sp[i]), i));
    /* Entries that were old are used again, for what is young. */
    for (HsInt round = 1; round < 4; round++) {
        for (HsInt i = round; i < COUNT; i += 3) freeStablePtr(sp[i]);
        for (HsInt i = round; i < COUNT; i += 3) sp[i] = getStablePtr((StgPtr)fresh(stack->cap, i));
        for (int age = 0; age < AGES; age++) {
            minor(stack);
            for (HsInt i = 0; i < COUNT; i++) CHECK(isFresh((HaskellObj)deRefStablePtr(sp[i]), i));
        }
    }
    major(stack);
    for (HsInt i = 0; i < COUNT; i++) {
        CHECK(isFresh((HaskellObj)deRefStablePtr(sp[i]), i));
        freeStablePtr(sp[i]);
    }
    return CAPSTAN_UNIT;
}

/* Both names keep the object; each alone does too. */
CASE(stableAndStored)
{
    HaskellObj var = rts_mkMutVar(stack->cap, CAPSTAN_UNIT), v = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, var, v);
    makeOld(stack);
    v = fresh(stack->cap, 6);
    HsStablePtr sp = getStablePtr((StgPtr)v);
    rts_writeMutVar(stack->cap, var, v);
    v = CAPSTAN_UNIT;
    CHECK_THROUGH(stack, rts_readMutVar(var) == (HaskellObj)deRefStablePtr(sp) && isFresh(rts_readMutVar(var), 6));
    freeStablePtr(sp);
    CHECK_THROUGH(stack, isFresh(rts_readMutVar(var), 6));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* ---- What dies young, what stays where it is ---- */

/* 2 GB of large objects, of which hardly any is ever alive: minor collections alone must get the memory back. */
CASE(largeDieYoung)
{
    HsInt count = many(10000);
    RtsCounts counts;
    HaskellObj kept = rts_mkArray(stack->cap, 10, CAPSTAN_UNIT);
    CAPSTAN_ROOTS(stack, kept);
    for (HsInt i = 0; i < count; i++) {
        HaskellObj bytes = rts_mkBytes(stack->cap, NULL, 200000);
        CHECK(bytes != CAPSTAN_POISON);
        *(HsInt *)rts_bytes(bytes, NULL) = i;
        if (i % 100 == 0) rts_setElem(stack->cap, kept, (size_t)(i / 100) % 10, bytes);
        rts_poll(stack);
    }
    rts_getCounts(&counts);
    CHECK(counts.peak_heap_bytes < 256u << 20);
    for (size_t i = 0; i < 10 && (HsInt)i * 100 < count; i++) CHECK(*(HsInt *)rts_bytes(rts_getElem(kept, i), NULL) % 100 == 0);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* Pinned arrays among garbage of the same kind: addresses and contents stay, and the garbage goes. */
CASE(pinnedStay)
{
    enum { COUNT = 50 };
    HaskellObj array = rts_mkArray(stack->cap, COUNT, CAPSTAN_UNIT);
    char *addresses[COUNT];
    RtsCounts counts;
    CAPSTAN_ROOTS(stack, array);
    for (size_t i = 0; i < COUNT; i++) {
        size_t size = i % 10 == 9 ? 50000 : 40 + i;
        HaskellObj bytes = rts_mkBytesPinned(stack->cap, NULL, size);
        memset(addresses[i] = rts_bytes(bytes, NULL), (int)i, size);
        rts_setElem(stack->cap, array, i, bytes);
        for (int k = 0; k < 20; k++) memset(rts_bytes(rts_mkBytesPinned(stack->cap, NULL, 300), NULL), 0x99, 300);
        if (i % 8 == 0) minor(stack);
    }
    for (int age = 0; age <= AGES; age++) {
        for (HsInt k = 0; k < many(20000); k++) {
            memset(rts_bytes(rts_mkBytesPinned(stack->cap, NULL, 500), NULL), 0x99, 500);
            rts_poll(stack);
        }
        for (size_t i = 0; i < COUNT; i++) {
            size_t length;
            char *bytes = rts_bytes(rts_getElem(array, i), &length);
            CHECK(bytes == addresses[i] && bytes[0] == (char)i && bytes[length - 1] == (char)i);
        }
        if (age == AGES) major(stack);
    }
    rts_getCounts(&counts);
    CHECK(counts.peak_heap_bytes < 64u << 20);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

static _Atomic int released[300];

static void noteRelease(void *ctx, void *bytes)
{
    atomic_fetch_add((_Atomic int *)ctx, 1);
    free(bytes);
}

/* Memory of the host: that of the dead goes back once, that of the living stays, be it young or old. */
CASE(externalOnce)
{
    enum { COUNT = 300 };
    HaskellObj array = rts_mkArray(stack->cap, COUNT / 3, CAPSTAN_UNIT);
    memset(released, 0, sizeof released);
    CAPSTAN_ROOTS(stack, array);
    makeOld(stack);
    for (size_t i = 0; i < COUNT; i++) {
        HaskellObj bytes = rts_mkBytesExternal(stack->cap, calloc(1, 100), 100, noteRelease, &released[i]);
        if (i % 3 == 0) rts_setElem(stack->cap, array, i / 3, bytes);
        if (i % 20 == 0) minor(stack);
    }
    for (int age = 0; age < AGES; age++) {
        minor(stack);
        for (size_t i = 0; i < COUNT; i += 3) CHECK(released[i] == 0);
    }
    major(stack);
    for (size_t i = 0; i < COUNT; i++) CHECK(released[i] == (i % 3 != 0));
    for (size_t i = 0; i < COUNT / 3; i += 2) rts_setElem(stack->cap, array, i, CAPSTAN_UNIT);
    major(stack);
    for (size_t i = 0; i < COUNT; i++) CHECK(released[i] == (i % 6 != 3));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* ---- Long structures ---- */

/* v has so many words. */
static bool isWhereItBelongs(HaskellObj v, size_t words) { return v != CAPSTAN_POISON && !(blockOf(v)->flags & BLOCK_LARGE) == (words < LARGE_WORDS); }

/* Also where the block that is being filled has room for a large one: with those, a collection might need more memory than it sees to. */
CASE(largeStandAlone)
{
    for (size_t n = 0; n < 200; n++) {
        size_t words = n % 2 == 0 ? LARGE_WORDS - 1 + n / 2 % 3 : 1 + n * 10;
        CHECK(isWhereItBelongs(rts_mkArray(stack->cap, words, CAPSTAN_UNIT), 2 + words));
        CHECK(isWhereItBelongs(rts_mkBytes(stack->cap, NULL, words * sizeof(StgWord)), 2 + words));
        StgBytes *own = (StgBytes *)(void *)rts_allocate(stack->cap, 2 + words);
        own->info = &capstan_BYTES_info;
        own->length = words * sizeof(StgWord);
        CHECK(isWhereItBelongs((HaskellObj)own, 2 + words));
        rts_mkInt(stack->cap, BOXED((HsInt)n));
        rts_poll(stack);
    }
    return CAPSTAN_UNIT;
}

/* What something old refers to is old after one collection, and so is what that refers to. */
CASE(eagerPromotion)
{
    HaskellObj old = rts_mkArray(stack->cap, 2, CAPSTAN_UNIT);
    CAPSTAN_ROOTS(stack, old);
    makeOld(stack);
    rts_setElem(stack->cap, old, 0, fresh(stack->cap, 1));
    minor(stack);
    HaskellObj v = rts_getElem(old, 0);
    CHECK(isFresh(v, 1) && !rts_isYoung(v) && !rts_isYoung(CAPSTAN_GET(Fresh, v, number)) && !rts_isYoung(CAPSTAN_GET(Fresh, v, self)));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* 10^5 old cells with a young end: no collection may take time, or stack, by their number; and the end lives. */
CASE(longList)
{
    HsInt length = many(100000);
    HaskellObj last = rts_mkMutVar(stack->cap, &Nothing_closure), list = Fresh_new(stack->cap, CAPSTAN_UNIT, last, CAPSTAN_UNIT);
    CAPSTAN_ROOTS(stack, last, list);
    for (HsInt i = 0; i < length; i++) {
        list = Fresh_new(stack->cap, CAPSTAN_SMALL_INT(i), list, CAPSTAN_UNIT);
        if (i % 1000 == 0) rts_poll(stack);
    }
    makeOld(stack);
    rts_writeMutVar(stack->cap, last, fresh(stack->cap, 4));
    last = CAPSTAN_UNIT;
    for (int age = 0; age < AGES; age++) {
        HaskellObj at = list;
        for (HsInt i = length; i-- > 0; at = CAPSTAN_GET(Fresh, at, text)) CHECK(CAPSTAN_GET(Fresh, at, number) == CAPSTAN_SMALL_INT(i));
        CHECK(isFresh(rts_readMutVar(CAPSTAN_GET(Fresh, at, text)), 4));
        minor(stack);
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* Arguments of a call that is pending. */
CAPSTAN_FUN(passOn, n, x, y)
{
    HsInt left = rts_smallIntValue(n);
    if (left == 0) return Fresh_new(stack->cap, x, y, CAPSTAN_UNIT);
    rts_mkBytes(stack->cap, NULL, 3000);
    return rts_tailCall(stack, &passOn_closure, CAPSTAN_SMALL_INT(left - 1), fresh(stack->cap, left), x);
}

CASE(tailCalls)
{
    HaskellObj v = rts_call(stack, &passOn_closure, CAPSTAN_SMALL_INT(many(5000) + 1), CAPSTAN_UNIT, CAPSTAN_UNIT);
    CHECK(isFresh(CAPSTAN_GET(Fresh, v, number), 1));
    CHECK(isFresh(CAPSTAN_GET(Fresh, v, text), 2));
    return CAPSTAN_UNIT;
}

/* ---- From C, between rts_lock and rts_unlock ---- */

CAPSTAN_IO(collectMinor)
{
    minor(stack);
    return CAPSTAN_UNIT;
}

/* Variables of C are looked at each time, whatever their age: they have no barrier. */
static void rootsOfC(void **state)
{
    Capability *cap = rts_lock();
    HaskellObj a = fresh(cap, 0), b = fresh(cap, 0), var = rts_mkMutVar(cap, CAPSTAN_UNIT);

    CAPSTAN_ROOTS(cap, a, b, var);
    for (HsInt n = 0; n < 4 * AGES; n++) {
        if (n % 2 == 0) a = fresh(cap, n);
        if (n % 5 == 0) b = a;
        rts_writeMutVar(cap, var, fresh(cap, n));
        rts_evalIO(&cap, &collectMinor_closure, NULL);
        assert_int_equal(rts_getSchedStatus(cap), Success);
        assert_true(isFresh(a, n - n % 2));
        assert_true(isFresh(b, n - n % 5 - (n - n % 5) % 2));
        assert_true(isFresh(rts_readMutVar(var), n));
    }
    CAPSTAN_UNROOT(cap);
    rts_unlock(cap);
}

CAPSTAN_IO(raiseTen) { rts_raise(stack, fresh(stack->cap, 10)); }

/* The exception of the last evaluation is kept while it can be asked for. */
static void exceptionOfInCall(void **state)
{
    Capability *cap = rts_lock();

    rts_evalIO(&cap, &raiseTen_closure, NULL);
    assert_int_equal(rts_getSchedStatus(cap), Killed);
    for (int i = 0; i < 2000; i++) {
        rts_mkBytes(cap, NULL, 900);
        rts_pollCap(&cap);
        assert_true(isFresh(rts_getException(cap), 10));
    }
    rts_unlock(cap);
}

/* ---- Asked for from outside ---- */

static _Atomic unsigned minors, majors;

static void countKinds(void *ctx, const RtsCollection *c) { atomic_fetch_add(c->major ? &majors : &minors, 1); }

static int setUpCounting(void **state)
{
    RtsConfig config = schedConfig(2);
    config.gcDoneHook = countKinds;
    return setUpWith(state, &config);
}

static HsStablePtr makeVariable(HsInt n)
{
    Capability *cap = rts_lock();
    HsStablePtr sp = getStablePtr((StgPtr)rts_mkMutVar(cap, fresh(cap, n)));
    rts_unlock(cap);
    return sp;
}

/* Minor ones are minor, and keep what is written between them; major ones are major. */
static void collectFromOutside(void **state)
{
    HsStablePtr sp = makeVariable(-1);

    for (HsInt n = 0; n < 20; n++) {
        unsigned before = minors + majors, majorsBefore = majors;
        if (n % 7 == 6) hs_perform_major_gc();
        else if (n % 7 == 5) hs_perform_gc();
        else rts_performMinorGC();
        assert_true(minors + majors > before);
        if (n % 7 >= 5) assert_true(majors > majorsBefore);
        Capability *cap = rts_lock();
        HaskellObj var = (HaskellObj)deRefStablePtr(sp);
        assert_true(isFresh(rts_readMutVar(var), n - 1));
        rts_writeMutVar(cap, var, fresh(cap, n));
        rts_unlock(cap);
    }
    /* With so little in the heap, what was asked for was enough. */
    assert_true(minors >= 10);
    hs_free_stable_ptr(sp);
}

static void *askMinors(void *stop)
{
    while (!atomic_load((_Atomic int *)stop)) rts_performMinorGC();
    return NULL;
}

/* While others ask for collections all the time, each in-call finds what the ones before it wrote into an old variable. */
static void inCallsAmongCollections(void **state)
{
    enum { ASKERS = 2 };
    _Atomic int stop = 0;
    pthread_t askers[ASKERS];
    HsStablePtr sp = makeVariable(0);

    for (int i = 0; i < AGES; i++) rts_performMinorGC();
    for (int i = 0; i < ASKERS; i++) askers[i] = spawn(askMinors, &stop);
    for (HsInt n = 0; n < many(3000); n++) {
        Capability *cap = rts_lock();
        HaskellObj var = (HaskellObj)deRefStablePtr(sp);
        if (!isFresh(rts_readMutVar(var), n)) failedChecks++;
        rts_writeMutVar(cap, var, fresh(cap, n + 1));
        rts_unlock(cap);
    }
    stop = 1;
    for (int i = 0; i < ASKERS; i++) joinThread(askers[i]);
    assert_int_equal(failedChecks, 0);
    hs_free_stable_ptr(sp);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(variableWritten),
        BOTH(variableSetInline),
        BOTH(variableSwapped),
        BOTH(variableWrittenOften),
        BOTH(chainOfAges),
        BOTH(oldBehindYoung),
        BOTH(smallArray),
        BOTH(largeArray),
        BOTH(hugeArray),
        BOTH(youngLargeArray),
        BOTH(thunkUpdated),
        BOTH(applicationUpdated),
        BOTH(thunkRaised),
        BOTH(thunkAgesInside),
        BOTH(partialUpdated),
        BOTH(staticThunk),
        BOTH(thunkAwaited),
        BOTH(stablePointers),
        BOTH(stableAndStored),
        BOTH(largeDieYoung),
        BOTH(pinnedStay),
        BOTH(externalOnce),
        BOTH(largeStandAlone),
        BOTH(eagerPromotion),
        BOTH(longList),
        BOTH(tailCalls),
        BOTH(rootsOfC),
        BOTH(exceptionOfInCall),
        { "collectFromOutside", collectFromOutside, setUpCounting, disarmTest, NULL },
        BOTH(inCallsAmongCollections),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * Chains of keys in random order: what lives by one leads to the next. By weak pointers, entries of a table, and tables of their own; with keys of each kind
 * that collections treat in its own way. All of a chain lives by its first key, whatever collects it; nothing behind a gap does; and each key is looked at a
 * few times.
 */
#define IDLE_COLLECTION_US 1000000000 /* nobody collects but who is told to */
#include "chain.h"
#include "refuse.h"

#define MOST_LINKS 10000
/* Of so many links one has enough behind it that several collecting threads work on it, and that leads to the next. */
#define WIDE_EVERY (SLOW_BUILD ? 10 : 100)
#define WIDTH      1000

enum { BY_WEAK, BY_ENTRY, BY_OWN_TABLE, WAYS };
enum { OF_VARIABLE, OF_LARGE_ARRAY, OF_PINNED_BYTES, OF_THUNK, KINDS };

static HsInt links, gap; /* the value of link gap does not lead to its next; links: there is none */
static HsInt order[MOST_LINKS];
/* [each entry once] */
static HsStablePtr firstKey, sharedTable, allWeaks;

static unsigned wayOf(HsInt i) { return i == 0 ? BY_WEAK : (unsigned)(i * 7 / 3) % WAYS; }
static unsigned kindOf(HsInt i)
{
    unsigned kind = i % 400 == 7 ? OF_PINNED_BYTES : (unsigned)i % 40;
    /* An entry ends with the evaluation of a thunk.  Pinned bytes live as long as anything in their block, on either side of a gap: so they are few. */
    if (kind >= KINDS || (kind == OF_THUNK && wayOf(i) != BY_WEAK) || (kind == OF_PINNED_BYTES && (gap < links || i % 400 != 7))) return OF_VARIABLE;
    return kind;
}
static bool isWide(HsInt i) { return i % WIDE_EVERY == WIDE_EVERY / 2; }

static void shuffle(uint64_t seed)
{
    for (HsInt i = 0; i < links; i++) order[i] = i;
    for (HsInt i = links; i-- > 1;) {
        HsInt j = (HsInt)(nextRandom(&seed) % (uint64_t)(i + 1)), other = order[i];
        order[i] = order[j];
        order[j] = other;
    }
}

/* ---- Making one ---- */

CAPSTAN_CON(Key, 2, number)
CAPSTAN_THUNK(lateKey, 1) { return Key_new(stack->cap, rts_thunkVar(self, 0)); }

static HaskellObj newKey(Stack *stack, HsInt i)
{
    switch (kindOf(i)) {
    case OF_LARGE_ARRAY: return rts_mkArray(stack->cap, 700, CAPSTAN_SMALL_INT(i));
    case OF_PINNED_BYTES: return rts_mkBytesPinned(stack->cap, NULL, 3000);
    case OF_THUNK: return rts_mkClosure(stack->cap, &lateKey_info, (HaskellObj[]){ CAPSTAN_SMALL_INT(i) });
    default: return rts_mkMutVar(stack->cap, CAPSTAN_SMALL_INT(i));
    }
}

/* The value of link i: number, the next key, the next one's own table, or a wide array whose last element leads to the next key. */
enum { NUMBER, NEXT, TABLE, WIDE, VALUE_LENGTH };

static HaskellObj newValue(Stack *stack, HsInt i, HaskellObj keys, HaskellObj tables)
{
    HaskellObj value = rts_mkArray(stack->cap, VALUE_LENGTH, CAPSTAN_SMALL_INT(i)), wide;
    CAPSTAN_ROOTS(stack, value);
    if (i != gap) {
        rts_setElem(stack->cap, value, TABLE, rts_getElem(tables, (size_t)i + 1));
        if (!isWide(i)) {
            rts_setElem(stack->cap, value, NEXT, rts_getElem(keys, (size_t)i + 1));
        } else {
            wide = rts_mkArray(stack->cap, WIDTH, CAPSTAN_UNIT);
            for (size_t j = 0; j < WIDTH; j++) rts_setElem(stack->cap, wide, j, rts_mkMutVar(stack->cap, rts_getElem(keys, (size_t)i + 1)));
            rts_setElem(stack->cap, value, WIDE, wide);
        }
    }
    CAPSTAN_UNROOT(stack);
    return value;
}

static void addLink(Stack *stack, HsInt i, HaskellObj keys, HaskellObj tables, HaskellObj weaks)
{
    HaskellObj value = newValue(stack, i, keys, tables), key = rts_getElem(keys, (size_t)i);
    if (wayOf(i) == BY_WEAK) rts_setElem(stack->cap, weaks, (size_t)i, rts_mkWeakNoFinalizer(stack->cap, key, value));
    else CHECK(rts_weakTableInsert(stack->cap, wayOf(i) == BY_ENTRY ? kept(sharedTable) : rts_getElem(tables, (size_t)i), key, value));
}

CAPSTAN_IO(makeLinks)
{
    HaskellObj keys = rts_mkArray(stack->cap, (size_t)links + 1, CAPSTAN_UNIT), tables = CAPSTAN_UNIT, weaks = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, keys, tables, weaks);
    tables = rts_mkArray(stack->cap, (size_t)links + 1, CAPSTAN_UNIT);
    weaks = rts_mkArray(stack->cap, (size_t)links, CAPSTAN_UNIT);
    sharedTable = keep(rts_mkWeakTable(stack->cap));
    allWeaks = keep(weaks);
    for (HsInt i = 0; i <= links; i++) {
        rts_setElem(stack->cap, keys, (size_t)i, newKey(stack, i));
        if (wayOf(i) == BY_OWN_TABLE) rts_setElem(stack->cap, tables, (size_t)i, rts_mkWeakTable(stack->cap));
        rts_poll(stack);
    }
    for (HsInt j = 0; j < links; j++) {
        addLink(stack, order[j], keys, tables, weaks);
        rts_poll(stack);
    }
    /* Who is a thunk becomes something else, which is the key from now on. */
    for (HsInt i = 0; i <= links; i++)
        if (kindOf(i) == OF_THUNK) rts_force(stack, rts_getElem(keys, (size_t)i));
    firstKey = keep(rts_getElem(keys, 0));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

static void evaluate(HaskellObj (*action)(Capability *cap))
{
    Capability *cap = rts_lock();
    rts_evalIO(&cap, action(cap), NULL);
    assert_int_equal(rts_getSchedStatus(cap), Success);
    rts_unlock(cap);
    assert_int_equal(failedChecks, 0);
}

static HaskellObj makeLinksAction(Capability *cap)
{
    (void)cap;
    return &makeLinks_closure;
}

/* gapAt: no link of that number leads on; -1: all do. */
static void makeKeyChain(HsInt count, HsInt gapAt, uint64_t seed)
{
    links = many(count);
    gap = gapAt < 0 ? links : gapAt * links / count;
    shuffle(seed);
    evaluate(makeLinksAction);
}

/* ---- Looking at it ---- */

static bool findValue(Capability *cap, HsInt i, HaskellObj key, HaskellObj ownTable, HaskellObj *value)
{
    switch (wayOf(i)) {
    case BY_WEAK: return rts_deRefWeak(rts_getElem(kept(allWeaks), (size_t)i), value);
    case BY_ENTRY: return rts_weakTableLookup(cap, kept(sharedTable), key, value);
    default: return rts_weakTableLookup(cap, ownTable, key, value);
    }
}

static bool isKeyOf(HaskellObj key, HsInt i)
{
    switch (kindOf(i)) {
    case OF_LARGE_ARRAY: return rts_getElem(key, 699) == CAPSTAN_SMALL_INT(i);
    case OF_VARIABLE: return rts_readMutVar(key) == CAPSTAN_SMALL_INT(i);
    default: return true;
    }
}

static size_t countLiveWeaks(HsInt *ofAll)
{
    size_t n = 0;
    HaskellObj value;
    Capability *cap = rts_lock();
    *ofAll = 0;
    for (HsInt i = 0; i < links; i++) {
        if (wayOf(i) != BY_WEAK) continue;
        ++*ofAll;
        n += rts_deRefWeak(rts_getElem(kept(allWeaks), (size_t)i), &value);
    }
    rts_unlock(cap);
    return n;
}

/* From the first key to the gap, or the end; and nothing else lives. */
static void walkKeyChain(void)
{
    HsInt last = gap < links ? gap + 1 : links, weaks = 0, entries = 0, all;
    Capability *cap = rts_lock();
    HaskellObj key = kept(firstKey), table = CAPSTAN_UNIT, value;
    for (HsInt i = 0; i < last; i++) {
        assert_true(isKeyOf(key, i));
        assert_true(findValue(cap, i, key, table, &value));
        assert_ptr_equal(rts_getElem(value, NUMBER), CAPSTAN_SMALL_INT(i));
        weaks += wayOf(i) == BY_WEAK;
        entries += wayOf(i) == BY_ENTRY;
        if (i == gap) break;
        table = rts_getElem(value, TABLE);
        key = isWide(i) ? rts_readMutVar(rts_getElem(rts_getElem(value, WIDE), WIDTH - 1)) : rts_getElem(value, NEXT);
    }
    assert_int_equal(rts_weakTableSize(kept(sharedTable)), entries);
    rts_unlock(cap);
    assert_int_equal(countLiveWeaks(&all), weaks);
}

static void dropKeyChain(void)
{
    HsInt all;
    hs_free_stable_ptr(firstKey);
    hs_perform_gc();
    assert_int_equal(countLiveWeaks(&all), 0);
    Capability *cap = rts_lock();
    assert_int_equal(rts_weakTableSize(kept(sharedTable)), 0);
    rts_unlock(cap);
    hs_free_stable_ptr(sharedTable);
    hs_free_stable_ptr(allWeaks);
}

/* ---- Cases ---- */

static void testMinorsAndMajors(void **state)
{
    for (uint64_t seed = 1; seed < 3; seed++) {
        makeKeyChain(MOST_LINKS, -1, seed);
        for (int round = 0; round < 4; round++) {
            collectChain(round % 2 != 0, links);
            walkKeyChain();
        }
        dropKeyChain();
    }
}

/* What is behind the gap goes, in a minor collection if it is young. */
static void testGap(void **state)
{
    for (HsInt at = 0; at < MOST_LINKS; at += MOST_LINKS / 3) {
        makeKeyChain(MOST_LINKS, at, (uint64_t)at + 9);
        for (int round = 0; round < 2; round++) {
            collectChain(true, links);
            walkKeyChain();
        }
        dropKeyChain();
    }
}

static void testMarking(void **state)
{
    HsStablePtr ballast = makeBallast();
    makeKeyChain(MOST_LINKS, MOST_LINKS / 2, 5);
    growOld();
    for (int round = 0; round < 3; round++) {
        endMarkingOld(); /* one that goes on already takes what became old meanwhile for alive */
        uint64_t before = keyLooks;
        startMarkingOld();
        endMarkingOld();
        if (!SLOW_BUILD) assert_in_range(keyLooks - before, 1, 20 * (uint64_t)links + 1000);
        walkKeyChain();
    }
    dropKeyChain();
    hs_free_stable_ptr(ballast);
}

/* ---- Without memory ---- */

CAPSTAN_IO(collectWithout)
{
    refuseMemory();
    rts_collect(stack, true);
    allowMemory();
    return CAPSTAN_UNIT;
}
static HaskellObj collectWithoutAction(Capability *cap)
{
    (void)cap;
    return &collectWithout_closure;
}

/* Nothing can be copied, and there is no index: it takes long, and comes out right. */
static void testNoMemory(void **state)
{
    makeKeyChain(2000, 1500, 6);
    for (int round = 0; round < 3; round++) {
        evaluate(collectWithoutAction);
        walkKeyChain();
        rts_performMinorGC();
        walkKeyChain();
    }
    dropKeyChain();
}

/* The index gets as much memory as there is: none, some of what it asks for, all. */
CAPSTAN_IO(collectWithLittle, allowed)
{
    osFailAllAfter((long)rts_smallIntValue(allowed));
    rts_collect(stack, rts_smallIntValue(allowed) % 2 != 0);
    osFailAfter(0);
    return CAPSTAN_UNIT;
}
static HsInt allowedNow;
static HaskellObj collectWithLittleAction(Capability *cap) { return rts_apply(cap, &collectWithLittle_closure, CAPSTAN_SMALL_INT(allowedNow)); }

static void testLittleMemory(void **state)
{
    for (allowedNow = 1; allowedNow < 12; allowedNow++) {
        makeKeyChain(4000, 3000, 7);
        evaluate(collectWithLittleAction);
        hs_perform_gc();
        walkKeyChain();
        dropKeyChain();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ONE(testMinorsAndMajors), FOUR(testMinorsAndMajors), ONE(testGap), FOUR(testGap), ONE(testMarking), TWO(testMarking),
        ONE(testNoMemory), TWO(testNoMemory), ONE(testLittleMemory), FOUR(testLittleMemory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

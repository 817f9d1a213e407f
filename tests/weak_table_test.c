/*
 * Weak tables: entries by identity and by content, which vanish with their keys and not before.
 */
#define IDLE_COLLECTION_US 1000000000 /* nobody collects but who is told to */
#include "chain.h"
#include "gc/mark.h"

static HsStablePtr newTable(void)
{
    Capability *cap = rts_lock();
    HsStablePtr table = keep(rts_mkWeakTable(cap));
    rts_unlock(cap);
    return table;
}

static size_t sizeOf(HsStablePtr table)
{
    Capability *cap = rts_lock();
    size_t size = rts_weakTableSize(kept(table));
    rts_unlock(cap);
    return size;
}

static void testByIdentity(void **state)
{
    HsStablePtr table = newTable();
    Capability *cap = rts_lock();
    HaskellObj t = kept(table), a = thing(cap, 1), b = thing(cap, 1), value;
    assert_false(rts_weakTableLookup(cap, t, a, &value));
    assert_ptr_equal(value, CAPSTAN_POISON);
    assert_true(rts_weakTableInsert(cap, t, a, CAPSTAN_SMALL_INT(1)));
    assert_true(rts_weakTableInsert(cap, t, b, CAPSTAN_SMALL_INT(2)));
    assert_true(rts_weakTableInsert(cap, t, CAPSTAN_SMALL_INT(7), CAPSTAN_SMALL_INT(3)));
    assert_true(rts_weakTableInsert(cap, t, &capstan_catch_closure, CAPSTAN_SMALL_INT(4)));
    assert_int_equal(rts_weakTableSize(t), 4);
    assert_true(rts_weakTableLookup(cap, t, a, &value) && value == CAPSTAN_SMALL_INT(1));
    assert_true(rts_weakTableLookup(cap, t, CAPSTAN_SMALL_INT(7), &value) && value == CAPSTAN_SMALL_INT(3));
    assert_true(rts_weakTableInsert(cap, t, a, CAPSTAN_SMALL_INT(9)));
    assert_int_equal(rts_weakTableSize(t), 4);
    HsStablePtr keys[] = { keep(a), keep(b) };
    rts_unlock(cap);
    for (int i = 0; i < 6; i++) {
        if (i == 4) hs_perform_gc();
        else rts_performMinorGC();
        cap = rts_lock();
        t = kept(table);
        assert_int_equal(rts_weakTableSize(t), 4);
        assert_true(rts_weakTableLookup(cap, t, kept(keys[0]), &value) && value == CAPSTAN_SMALL_INT(9));
        assert_true(rts_weakTableLookup(cap, t, kept(keys[1]), &value) && value == CAPSTAN_SMALL_INT(2));
        assert_true(rts_weakTableLookup(cap, t, &capstan_catch_closure, NULL));
        assert_false(rts_weakTableLookup(cap, t, CAPSTAN_SMALL_INT(8), NULL));
        rts_unlock(cap);
    }
    cap = rts_lock();
    t = kept(table);
    assert_true(rts_weakTableRemove(cap, t, kept(keys[0]), &value) && value == CAPSTAN_SMALL_INT(9));
    assert_false(rts_weakTableRemove(cap, t, kept(keys[0]), &value));
    assert_int_equal(rts_weakTableSize(t), 3);
    rts_unlock(cap);
    hs_free_stable_ptr(keys[1]);
    hs_perform_gc();
    assert_int_equal(sizeOf(table), 2);
}

/* Young keys go in minor collections, old ones in major ones; values may be of any age, and may lead to their key. */
static void testVanish(void **state)
{
    enum { COUNT = 2000 };
    HsStablePtr table = newTable(), keys[COUNT];
    for (int old = 0; old < 2; old++) {
        Capability *cap = rts_lock();
        for (int i = 0; i < COUNT; i++) {
            HaskellObj key = thing(cap, i), box = rts_mkMutVar(cap, key);
            assert_true(rts_weakTableInsert(cap, kept(table), key, box));
            keys[i] = i % 2 ? keep(key) : NULL;
        }
        assert_int_equal(rts_weakTableSize(kept(table)), COUNT);
        rts_unlock(cap);
        rts_performMinorGC();
        assert_int_equal(sizeOf(table), COUNT / 2);
        if (old) growOld();
        cap = rts_lock();
        for (int i = 1; i < COUNT; i += 2) {
            HaskellObj value;
            assert_true(rts_weakTableLookup(cap, kept(table), kept(keys[i]), &value));
            assert_ptr_equal(rts_readMutVar(value), kept(keys[i]));
        }
        rts_unlock(cap);
        for (int i = 1; i < COUNT; i += 2) hs_free_stable_ptr(keys[i]);
        hs_perform_gc();
        assert_int_equal(sizeOf(table), 0);
    }
}

/* An old entry whose value is replaced by a young one. */
static void testYoungValueOfOldKey(void **state)
{
    HsStablePtr table = newTable();
    Capability *cap = rts_lock();
    HsStablePtr key = keep(thing(cap, 1));
    assert_true(rts_weakTableInsert(cap, kept(table), kept(key), CAPSTAN_UNIT));
    rts_unlock(cap);
    growOld();
    for (int round = 0; round < 4; round++) {
        cap = rts_lock();
        assert_true(rts_weakTableInsert(cap, kept(table), kept(key), thing(cap, round)));
        rts_unlock(cap);
        for (int i = 0; i < round; i++) rts_performMinorGC();
        HaskellObj value;
        cap = rts_lock();
        assert_true(rts_weakTableLookup(cap, kept(table), kept(key), &value));
        assert_int_equal(numberOf(value), round);
        rts_unlock(cap);
    }
}

/* Entries live only as long as the table; and a table in another's entry lives through that one's key. */
static void testTablesInTables(void **state)
{
    HsStablePtr outer = newTable();
    Capability *cap = rts_lock();
    HaskellObj inner = rts_mkWeakTable(cap), outerKey = thing(cap, 1), innerKey = thing(cap, 2), last = thing(cap, 3);
    HsStablePtr keys[] = { keep(outerKey), keep(innerKey) }, weak = keep(rts_mkWeakNoFinalizer(cap, last, CAPSTAN_UNIT));
    assert_true(rts_weakTableInsert(cap, inner, innerKey, last));
    assert_true(rts_weakTableInsert(cap, kept(outer), outerKey, inner));
    rts_unlock(cap);
    HaskellObj value;
    for (int i = 0; i < 5; i++) {
        if (i == 3) hs_perform_gc();
        else rts_performMinorGC();
        cap = rts_lock();
        assert_true(rts_weakTableLookup(cap, kept(outer), kept(keys[0]), &value));
        assert_true(rts_weakTableLookup(cap, value, kept(keys[1]), &value));
        assert_int_equal(numberOf(value), 3);
        assert_true(rts_deRefWeak(kept(weak), &value));
        rts_unlock(cap);
    }
    hs_free_stable_ptr(keys[0]); /* the inner table goes, and with it what it alone kept */
    hs_perform_gc();
    cap = rts_lock();
    assert_int_equal(rts_weakTableSize(kept(outer)), 0);
    assert_false(rts_deRefWeak(kept(weak), &value));
    rts_unlock(cap);
}

/* ---- Symbols ---- */

CAPSTAN_CON(Symbol, 1, name)

static StgWord hashOfText(const char *text)
{
    StgWord hash = 14695981039346656037u;
    for (; *text != 0; text++) hash = (hash ^ (StgWord8)*text) * 1099511628211u;
    return hash % 64; /* so that there are collisions */
}
static bool isNamed(void *text, HaskellObj symbol)
{
    size_t length;
    const char *name = rts_bytes(CAPSTAN_GET(Symbol, symbol, name), &length);
    return length == strlen(text) && memcmp(name, text, length) == 0;
}
static HaskellObj intern(Capability *cap, HaskellObj table, const char *text)
{
    HaskellObj found;
    if (rts_weakTableFind(cap, table, hashOfText(text), isNamed, (void *)(uintptr_t)text, &found, NULL)) return found;
    HaskellObj symbol = Symbol_new(cap, rts_mkString(cap, text));
    return rts_weakTableIntern(cap, table, hashOfText(text), isNamed, (void *)(uintptr_t)text, symbol, CAPSTAN_UNIT);
}

static void testSymbols(void **state)
{
    enum { COUNT = 500 };
    HsStablePtr table = newTable(), symbols[COUNT];
    char text[32];
    Capability *cap = rts_lock();
    for (int i = 0; i < COUNT; i++) {
        snprintf(text, sizeof text, "symbol-%d", i);
        symbols[i] = keep(intern(cap, kept(table), text));
    }
    rts_unlock(cap);
    for (int round = 0; round < 4; round++) {
        if (round == 2) hs_perform_gc();
        else rts_performMinorGC();
        cap = rts_lock();
        for (int i = 0; i < COUNT; i++) {
            snprintf(text, sizeof text, "symbol-%d", i);
            assert_ptr_equal(intern(cap, kept(table), text), kept(symbols[i]));
        }
        assert_int_equal(rts_weakTableSize(kept(table)), COUNT);
        rts_unlock(cap);
    }
    cap = rts_lock();
    assert_true(rts_weakTableUnintern(cap, kept(table), hashOfText("symbol-3"), isNamed, "symbol-3"));
    assert_false(rts_weakTableUnintern(cap, kept(table), hashOfText("symbol-3"), isNamed, "symbol-3"));
    assert_ptr_not_equal(intern(cap, kept(table), "symbol-3"), kept(symbols[3]));
    rts_unlock(cap);
    for (int i = 10; i < COUNT; i++) hs_free_stable_ptr(symbols[i]);
    hs_perform_gc();
    assert_int_equal(sizeOf(table), 9);
}

static void testEntries(void **state)
{
    enum { COUNT = 300 };
    HsStablePtr table = newTable(), keys[COUNT];
    Capability *cap = rts_lock();
    HaskellObj none = rts_weakTableEntries(cap, kept(table));
    assert_int_equal(rts_arrayLength(none), 0);
    for (int i = 0; i < COUNT; i++) {
        HaskellObj key = thing(cap, i);
        rts_weakTableInsert(cap, kept(table), key, rts_mkInt(cap, 2 * i));
        keys[i] = keep(key);
    }
    rts_unlock(cap);
    growOld();
    cap = rts_lock();
    HsStablePtr entries = keep(rts_weakTableEntries(cap, kept(table)));
    rts_unlock(cap);
    for (int i = 0; i < COUNT; i++) hs_free_stable_ptr(keys[i]);
    hs_perform_gc();
    bool seen[COUNT] = { false };
    cap = rts_lock();
    assert_int_equal(rts_arrayLength(kept(entries)), 2 * COUNT);
    for (size_t i = 0; i < 2 * COUNT; i += 2) {
        HsInt n = numberOf(rts_getElem(kept(entries), i));
        assert_true(n >= 0 && n < COUNT && !seen[n]);
        seen[n] = true;
        assert_int_equal(rts_getInt(rts_getElem(kept(entries), i + 1)), 2 * n);
    }
    assert_int_equal(rts_weakTableSize(kept(table)), COUNT);
    rts_unlock(cap);
    hs_free_stable_ptr(entries);
    hs_perform_gc();
    assert_int_equal(sizeOf(table), 0);
}

/* An entry of a thunk ends with its evaluation: by its value it is not found, and it does not stay for ever. */
CAPSTAN_THUNK(lazyThing, 0) { return thing(stack->cap, 3); }
CAPSTAN_IO(thunkAsKey)
{
    HaskellObj thunk = rts_mkClosure(stack->cap, &lazyThing_info, NULL), table = rts_mkWeakTable(stack->cap), value = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, thunk, table, value);
    CHECK(rts_weakTableInsert(stack->cap, table, thunk, CAPSTAN_SMALL_INT(1)));
    rts_collect(stack, false);
    CHECK(rts_weakTableLookup(stack->cap, table, thunk, NULL));
    value = rts_force(stack, thunk);
    CHECK(!rts_weakTableLookup(stack->cap, table, value, NULL));
    CHECK(!rts_weakTableLookup(stack->cap, table, thunk, NULL));
    rts_collect(stack, true);
    CHECK(rts_weakTableSize(table) == 0);
    CHECK(rts_weakTableInsert(stack->cap, table, thunk, CAPSTAN_SMALL_INT(2)));
    CHECK(rts_weakTableLookup(stack->cap, table, value, NULL));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
static void testThunkAsKey(void **state) { run(&thunkAsKey_closure); }

/* ---- Several threads ---- */

enum { KEYS = 97, USERS = 4 };
typedef struct {
    HsStablePtr table, keys[KEYS];
    _Atomic unsigned wrong;
    _Atomic int64_t inserted; /* less removed */
    int rounds;
    _Atomic unsigned seed;
} Storm;

static void stormStep(Storm *s, Capability *cap, uint64_t *seed)
{
    HaskellObj value, t = kept(s->table);
    unsigned k = nextRandom(seed) % KEYS;
    switch (nextRandom(seed) % 4) {
    case 0: /* whoever comes later finds some value of this key */
        if (!rts_weakTableInsert(cap, t, kept(s->keys[k]), thing(cap, (HsInt)k))) s->wrong++;
        break;
    case 1:
        if (rts_weakTableLookup(cap, t, kept(s->keys[k]), &value) && numberOf(value) != (HsInt)k) s->wrong++;
        break;
    case 2:
        if (rts_weakTableRemove(cap, t, kept(s->keys[k]), &value) && numberOf(value) != (HsInt)k) s->wrong++;
        break;
    default: /* an entry that nobody keeps */
        if (!rts_weakTableInsert(cap, t, thing(cap, 0), CAPSTAN_UNIT)) s->wrong++;
        break;
    }
}

static void *useTable(void *arg)
{
    Storm *s = arg;
    uint64_t seed = atomic_fetch_add(&s->seed, 1);
    for (int round = 0; round < s->rounds; round++) {
        Capability *cap = rts_lock();
        for (int i = 0; i < 50; i++) stormStep(s, cap, &seed);
        rts_unlock(cap);
        if (round % 16 == 0) rts_performMinorGC();
        if (round % 128 == 0) hs_perform_gc();
    }
    return NULL;
}

static void testStorm(void **state)
{
    static Storm s;
    pthread_t ids[USERS];
    memset(&s, 0, sizeof s);
    s.seed = 1;
    s.rounds = (int)many(3000);
    s.table = newTable();
    Capability *cap = rts_lock();
    for (int i = 0; i < KEYS; i++) s.keys[i] = keep(thing(cap, i));
    rts_unlock(cap);
    for (int i = 0; i < USERS; i++) ids[i] = spawn(useTable, &s);
    for (int i = 0; i < USERS; i++) joinThread(ids[i]);
    assert_int_equal(s.wrong, 0);
    hs_perform_gc();
    size_t left = 0;
    cap = rts_lock();
    for (int i = 0; i < KEYS; i++) left += rts_weakTableLookup(cap, kept(s.table), kept(s.keys[i]), NULL);
    assert_int_equal(rts_weakTableSize(kept(s.table)), left);
    rts_unlock(cap);
}

/* Interned by several threads at once: one symbol for each name. */
static HsStablePtr internTable;
static _Atomic unsigned twice;
static _Atomic HsStablePtr first[64];
static void *internOften(void *arg)
{
    char text[32];
    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < 64; i++) {
            snprintf(text, sizeof text, "name %d", i);
            Capability *cap = rts_lock();
            HaskellObj symbol = intern(cap, kept(internTable), text);
            HsStablePtr mine = keep(symbol), none = NULL;
            if (!atomic_compare_exchange_strong(&first[i], &none, mine)) {
                if (kept(none) != symbol) twice++;
                freeStablePtr(mine);
            }
            rts_unlock(cap);
        }
        rts_performMinorGC();
    }
    return NULL;
}
static void testInternStorm(void **state)
{
    pthread_t ids[USERS];
    internTable = newTable();
    twice = 0;
    memset((void *)first, 0, sizeof first);
    for (int i = 0; i < USERS; i++) ids[i] = spawn(internOften, NULL);
    for (int i = 0; i < USERS; i++) joinThread(ids[i]);
    assert_int_equal(twice, 0);
    assert_int_equal(sizeOf(internTable), 64);
}

/* ---- Bad input, no memory ---- */

static void testBadInput(void **state)
{
    Capability *cap = rts_lock();
    HaskellObj t = rts_mkWeakTable(cap), value;
    assert_false(rts_weakTableInsert(cap, CAPSTAN_UNIT, t, t));
    assert_false(rts_weakTableLookup(cap, thing(cap, 1), t, &value));
    assert_int_equal(rts_weakTableSize(CAPSTAN_TRUE), 0);
    assert_int_equal(heardError(RTS_WRONG_KIND), 3);
    assert_false(rts_weakTableInsert(cap, t, CAPSTAN_POISON, CAPSTAN_UNIT));
    assert_false(rts_weakTableInsert(cap, t, CAPSTAN_UNIT, CAPSTAN_POISON));
    assert_false(rts_weakTableLookup(cap, t, CAPSTAN_POISON, &value));
    assert_ptr_equal(rts_weakTableIntern(cap, t, 1, NULL, NULL, CAPSTAN_UNIT, CAPSTAN_UNIT), CAPSTAN_POISON);
    assert_int_equal(heardError(RTS_BAD_ARGUMENT), 1);
    assert_int_equal(rts_weakTableSize(t), 0);
    rts_unlock(cap);
}

void osFailAfter(long n);
long osFailuresInjected(void);
CAPSTAN_IO(pollOnce)
{
    rts_poll(stack);
    return CAPSTAN_UNIT;
}
/* Each allocation of an insertion fails once; what is there stays right. */
static void testNoMemory(void **state)
{
    HsStablePtr table = newTable();
    unsigned failures = 0;
    for (long n = 1; n < 4; n++) {
        Capability *cap = rts_lock();
        HaskellObj key = thing(cap, 1);
        osFailAfter(n);
        bool ok = rts_weakTableInsert(cap, kept(table), key, CAPSTAN_UNIT);
        failures += (unsigned)osFailuresInjected();
        osFailAfter(0);
        assert_int_equal(rts_weakTableLookup(cap, kept(table), key, NULL), ok);
        rts_evalIO(&cap, &pollOnce_closure, NULL);
        assert_int_equal(rts_getSchedStatus(cap), ok ? Success : HeapExhausted);
        rts_unlock(cap);
    }
    assert_true(failures >= 2);
    Capability *cap = rts_lock();
    osFailAfter(1);
    HaskellObj none = rts_mkWeakTable(cap);
    osFailAfter(2);
    HaskellObj neither = rts_mkWeakTable(cap);
    osFailAfter(0);
    assert_ptr_equal(none, CAPSTAN_POISON);
    assert_ptr_equal(neither, CAPSTAN_POISON);
    rts_unlock(cap);
}

/* ---- Chains ---- */

/* Value i leads to key i + 1, and only key 0 is kept; made forwards or backwards. */
CAPSTAN_IO(makeChain, table, count, backwards)
{
    HsInt n = rts_getInt(count);
    bool back = rts_getInt(backwards) != 0;
    HaskellObj keys = rts_mkArray(stack->cap, (size_t)n + 1, CAPSTAN_UNIT);
    CAPSTAN_ROOTS(stack, table, keys);
    for (HsInt i = 0; i <= n; i++) rts_setElem(stack->cap, keys, (size_t)i, thing(stack->cap, i));
    for (HsInt j = 0; j < n; j++) {
        HsInt i = back ? n - 1 - j : j;
        HaskellObj next = rts_mkMutVar(stack->cap, rts_getElem(keys, (size_t)i + 1));
        CHECK(rts_weakTableInsert(stack->cap, table, rts_getElem(keys, (size_t)i), next));
        rts_poll(stack);
    }
    CAPSTAN_UNROOT(stack);
    return rts_getElem(keys, 0);
}

static void walkChain(HsStablePtr table, HsStablePtr first, HsInt n)
{
    Capability *cap = rts_lock();
    HaskellObj key = kept(first), value;
    for (HsInt i = 0; i < n; i++) {
        assert_int_equal(numberOf(key), i);
        assert_true(rts_weakTableLookup(cap, kept(table), key, &value));
        key = rts_readMutVar(value);
    }
    assert_int_equal(numberOf(key), n);
    rts_unlock(cap);
}

static void checkChain(HsInt n, bool backwards)
{
    HsStablePtr table = newTable(), first;
    Capability *cap = rts_lock();
    HaskellObj key = NULL;
    rts_evalIO(&cap, APPLY(cap, makeChain, kept(table), rts_mkInt(cap, n), rts_mkInt(cap, backwards)), &key);
    assert_int_equal(rts_getSchedStatus(cap), Success);
    first = keep(key);
    rts_unlock(cap);
    for (int i = 0; i < 4; i++) {
        collectChain(i % 2 != 0, n);
        walkChain(table, first, n);
        assert_int_equal(sizeOf(table), n);
    }
    hs_free_stable_ptr(first);
    hs_perform_gc();
    assert_int_equal(sizeOf(table), 0);
    hs_free_stable_ptr(table);
}

static void testChains(void **state)
{
    checkChain(many(20000), false);
    checkChain(many(20000), true);
    assert_int_equal(failedChecks, 0);
}

/* Before the pause in which a marking ends, what lives by a key that lives is marked, and what lives by others is not. */
static void testMarkedEarly(void **state)
{
    enum { COUNT = 1000 };
    static HsStablePtr keys[COUNT], weaks[COUNT]; /* of each other key */
    static HaskellObj values[COUNT];
    HsStablePtr table = newTable(), ballast = makeBallast();
    Capability *cap = rts_lock();
    for (int i = 0; i < COUNT; i++) {
        HaskellObj key = thing(cap, i), value = thing(cap, -i);
        keys[i] = keep(key);
        if (i % 2 == 0) assert_true(rts_weakTableInsert(cap, kept(table), key, value));
        else weaks[i] = keep(rts_mkWeakNoFinalizer(cap, key, value));
    }
    rts_unlock(cap);
    endMarkingOld();
    growOld();
    endMarkingOld();
    cap = rts_lock();
    for (int i = 0; i < COUNT; i++) {
        if (i % 2 == 0) assert_true(rts_weakTableLookup(cap, kept(table), kept(keys[i]), &values[i]));
        else assert_true(rts_deRefWeak(kept(weaks[i]), &values[i]));
        assert_false(isYoung(values[i]));
    }
    rts_unlock(cap);
    for (int i = 0; i < COUNT; i += 3) hs_free_stable_ptr(keys[i]);
    startMarkingOld();
    for (int i = 0; i < 1000 && !isMarkingEnding(); i++) rts_performMinorGC();
    assert_true(isMarkingEnding());
    for (int i = 0; i < COUNT; i++) assert_int_equal(isJudgedAlive(values[i]), i % 3 != 0);
    endMarkingOld();
    assert_int_equal(sizeOf(table), COUNT / 2 - (COUNT + 5) / 6);
    hs_free_stable_ptr(ballast);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TWO(testByIdentity), TWO(testVanish), TWO(testYoungValueOfOldKey), TWO(testTablesInTables), TWO(testSymbols), TWO(testEntries),
        ONE(testThunkAsKey), TWO(testThunkAsKey), TWO(testStorm), FOUR(testStorm), TWO(testInternStorm), TWO(testBadInput), TWO(testNoMemory),
        ONE(testChains), TWO(testChains), ONE(testMarkedEarly), TWO(testMarkedEarly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

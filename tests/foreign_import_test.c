/* Imports at run time: every type, every kind of call, wrong use.  Generated signatures are in foreign_types_test. */
#include "foreign.h"

#include <errno.h>
#include <math.h>

/* ---- What is imported ---- */

static int64_t addLongs(int64_t a, int64_t b) { return a + b; }
static double addDoubles(double a, double b) { return a + b; }
static float halve(float x) { return x / 2; }
static int8_t minusOne(void) { return -1; }
static uint8_t allOnes(void) { return 255; }
static void *identity(void *p) { return p; }
static int32_t noted;
static void note(int32_t n) { noted = n; }
static int64_t sumOf30(int64_t a, int64_t b, int64_t c, int64_t d, int64_t e, int64_t f, int64_t g, int64_t h, int64_t i, int64_t j, int64_t k,
                       int64_t l, int64_t m, int64_t n, int64_t o, int64_t p, int64_t q, int64_t r, int64_t s, int64_t t, int64_t u, int64_t v,
                       int64_t w, int64_t x, int64_t y, int64_t z, int64_t aa, int64_t bb, int64_t cc, int64_t dd)
{
    return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 9 * i + 10 * j + 11 * k + 12 * l + 13 * m + 14 * n + 15 * o + 16 * p +
           17 * q + 18 * r + 19 * s + 20 * t + 21 * u + 22 * v + 23 * w + 24 * x + 25 * y + 26 * z + 27 * aa + 28 * bb + 29 * cc + 30 * dd;
}
static int32_t failWith(int32_t e)
{
    errno = e;
    return -1;
}

/* ---- Running them ---- */

typedef struct {
    SchedulerStatus status;
    uint64_t bits;
    char text[200];
} Answer;

/* Apply an import to values of the types given, and run it. */
static Answer answer(StgFunPtr fn, const char *type, RtsCallSafety safety, const uint64_t *bits)
{
    Answer a = { 0 };
    Capability *cap = rts_lock();
    HaskellObj value = CAPSTAN_POISON, call = rts_foreignImport(cap, fn, type, safety);
    if (call == CAPSTAN_POISON) {
        a.status = NoStatus;
    } else {
        for (size_t i = 1, n = 0; type[i] != 0; i++)
            if (type[i] != '.') call = rts_apply(cap, call, madeOf(cap, type[i], bits[n++]));
        if (safety & RtsPure) rts_eval(&cap, call, &value);
        else rts_evalIO(&cap, call, &value);
        a.status = rts_getSchedStatus(cap);
        if (a.status == Success) a.bits = bitsOf(type[0], value);
        else rts_showException(cap, rts_getException(cap), a.text, sizeof a.text);
    }
    rts_unlock(cap);
    return a;
}

static uint64_t bitsOfDouble(double d)
{
    uint64_t bits;
    memcpy(&bits, &d, sizeof bits);
    return bits;
}
static uint64_t bitsOfFloat(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static const RtsCallSafety safeties[] = { RtsUnsafe, RtsSafe, RtsInterruptible, RtsUnsafe | RtsPure, RtsSafe | RtsPure };
#define CALL(fn, type, how, ...) answer((StgFunPtr)(fn), (type), (how), (uint64_t[]){ __VA_ARGS__ })

static void testTypes(void **state)
{
    for (size_t i = 0; i < sizeof safeties / sizeof *safeties; i++) {
        RtsCallSafety how = safeties[i];
        assert_true(CALL(addLongs, "LLL", how, (uint64_t)INT64_MIN, 5).bits == (uint64_t)INT64_MIN + 5);
        assert_true(CALL(addDoubles, "ddd", how, bitsOfDouble(0.25), bitsOfDouble(-3)).bits == bitsOfDouble(-2.75));
        assert_true(CALL(halve, "ff", how, bitsOfFloat(5)).bits == bitsOfFloat(2.5f));
        assert_true(CALL(identity, "pp", how, 0xfedcba9876543210).bits == 0xfedcba9876543210);
        Answer unit = CALL(note, "vW", how, (uint64_t)-77 + i);
        assert_int_equal(unit.status, Success);
        assert_int_equal(unit.bits, 0);
        assert_int_equal(noted, -77 + (int)i);
        if (how & RtsPure) continue;
        assert_true(CALL(minusOne, "B", how, 0).bits == (uint64_t)-1);
        assert_true(CALL(allOnes, "b", how, 0).bits == 255);
    }
    assert_int_equal(heardOtherErrors(), 0);
}

/* More arguments than a managed function can have. */
static void testManyArguments(void **state)
{
    uint64_t bits[30], sum = 0;
    for (unsigned i = 0; i < 30; i++) {
        bits[i] = 1000003u * i;
        sum += (i + 1) * bits[i];
    }
    for (size_t i = 0; i < sizeof safeties / sizeof *safeties; i++)
        assert_true(answer((StgFunPtr)sumOf30, "LLLLLLLLLLLLLLLLLLLLLLLLLLLLLLL", safeties[i], bits).bits == sum);
}

static void testVariadic(void **state)
{
    char buf[100];
    uint64_t at = (uint64_t)(uintptr_t)buf, room = sizeof buf;
    Answer a = CALL(snprintf, "Wplp.WdpLf", RtsUnsafe, at, room, (uint64_t)(uintptr_t)"%d %.3f %s %ld %.1f", (uint64_t)-5, bitsOfDouble(1.5),
                    (uint64_t)(uintptr_t)"x", 1ull << 40, bitsOfFloat(0.5f));
    assert_string_equal(buf, "-5 1.500 x 1099511627776 0.5");
    assert_int_equal(a.bits, strlen(buf));
    a = CALL(snprintf, "Wplp.ddddddddddWB", RtsSafe, at, room, (uint64_t)(uintptr_t)"%g%g%g%g%g%g%g%g%g%g%d%d", bitsOfDouble(0), bitsOfDouble(1),
             bitsOfDouble(2), bitsOfDouble(3), bitsOfDouble(4), bitsOfDouble(5), bitsOfDouble(6), bitsOfDouble(7), bitsOfDouble(8), bitsOfDouble(9),
             10, (uint64_t)-11);
    assert_string_equal(buf, "012345678910-11");
    a = CALL(snprintf, "Wplp.", RtsInterruptible, at, room, (uint64_t)(uintptr_t)"plain");
    assert_string_equal(buf, "plain");
    assert_int_equal(a.bits, 5);
}

/* Arguments are evaluated, also those of a partial application. */
CAPSTAN_FUN(lazyAdd, a, b)
{
    CAPSTAN_ROOTS(stack, b);
    HsInt n = rts_intValue(rts_force(stack, a));
    HsInt m = rts_intValue(rts_force(stack, b));
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, n + m);
}
CAPSTAN_IO(lazyArguments, import)
{
    HaskellObj partial = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, import, partial);
    partial = rts_call(stack, import, APPLY(stack->cap, lazyAdd, CAPSTAN_SMALL_INT(1), CAPSTAN_SMALL_INT(2)));
    rts_collect(stack, true);
    HaskellObj result =
        rts_call(stack, partial, APPLY(stack->cap, lazyAdd, CAPSTAN_SMALL_INT(10), CAPSTAN_SMALL_INT(20)), CAPSTAN_WORLD);
    CAPSTAN_UNROOT(stack);
    return result;
}
static void testLazy(void **state)
{
    Capability *cap = rts_lock();
    HaskellObj value;
    rts_evalIO(&cap, APPLY(cap, lazyArguments, rts_foreignImport(cap, (StgFunPtr)addLongs, "LLL", RtsSafe)), &value);
    assert_int_equal(rts_getSchedStatus(cap), Success);
    assert_int_equal(rts_getInt(value), 33);
    rts_unlock(cap);
}

/* Compilers keep the address of errno, which is another OS thread's after a call. */
__attribute__((noinline)) static int readErrno(void) { return errno; }

/* An import keeps its errno, whatever thread it is called from. */
CAPSTAN_IO(failAndLook, import, e)
{
    CAPSTAN_ROOTS(stack, e);
    HaskellObj result = rts_call(stack, import, e, CAPSTAN_WORLD);
    CHECK(readErrno() == rts_intValue(e));
    CHECK(rts_intValue(result) == -1);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_SMALL_INT(1);
}
static void testErrno(void **state)
{
    for (int i = 0; i < 3; i++) {
        Capability *cap = rts_lock();
        HaskellObj value, import = rts_foreignImport(cap, (StgFunPtr)failWith, "WW", safeties[i]);
        rts_evalIO(&cap, APPLY(cap, failAndLook, import, CAPSTAN_SMALL_INT(ENOTTY)), &value);
        assert_int_equal(rts_getSchedStatus(cap), Success);
        rts_evalIO(&cap, APPLY(cap, schedInThread, APPLY(cap, failAndLook, rts_foreignImport(cap, (StgFunPtr)failWith, "WW", safeties[i]), CAPSTAN_SMALL_INT(EDOM))), &value);
        assert_int_equal(rts_getSchedStatus(cap), Success);
        rts_unlock(cap);
        assert_int_equal(failedChecks, 0);
    }
}

static void testDynamic(void **state)
{
    Capability *cap = rts_lock();
    HaskellObj value, dynamic = rts_foreignImportDynamic(cap, "LLL", RtsSafe);
    HsStablePtr keep = getStablePtr((StgPtr)dynamic);
    rts_evalIO(&cap, applyTo(cap, dynamic, 3, (HaskellObj[]){ rts_mkFunPtr(cap, (HsFunPtr)addLongs), CAPSTAN_SMALL_INT(3), CAPSTAN_SMALL_INT(4) }),
               &value);
    assert_int_equal(rts_getSchedStatus(cap), Success);
    assert_int_equal(rts_getInt(value), 7);
    HaskellObj wrong[] = { rts_mkFunPtr(cap, NULL), CAPSTAN_SMALL_INT(3) };
    const char *texts[] = { "NULL", "expected a function pointer, found an integer" };
    for (int i = 0; i < 2; i++) {
        rts_evalIO(&cap, applyTo(cap, (HaskellObj)deRefStablePtr(keep), 3, (HaskellObj[]){ i == 0 ? rts_mkFunPtr(cap, NULL) : wrong[1], CAPSTAN_SMALL_INT(3), CAPSTAN_SMALL_INT(4) }), &value);
        assert_int_equal(rts_getSchedStatus(cap), Killed);
        assert_non_null(strstr(textOf(cap, rts_getException(cap)), texts[i]));
    }
    freeStablePtr(keep);
    rts_unlock(cap);
}

/* ---- Symbols ---- */

static void testSymbols(void **state)
{
    Capability *cap = rts_lock();
    HaskellObj value;
    rts_evalIO(&cap, rts_apply(cap, rts_foreignImportSymbol(cap, "labs", "LL", RtsUnsafe), CAPSTAN_SMALL_INT(-9)), &value);
    assert_int_equal(rts_getInt(value), 9);
    assert_ptr_equal(rts_foreignImportSymbol(cap, "no_such_symbol_anywhere", "LL", RtsUnsafe), CAPSTAN_POISON);
    assert_int_equal(heardError(RTS_BAD_ARGUMENT), 1);
    assert_non_null(strstr(heard.error, "no_such_symbol_anywhere"));
    assert_null(rts_foreignSymbol(NULL, "nor_this_one"));
    assert_int_equal(heardError(RTS_BAD_ARGUMENT), 1);
    assert_ptr_equal(rts_foreignSymbol(NULL, "strlen") == NULL, false);
    rts_unlock(cap);
}

/* The same from managed code: name -> FunPtr -> function. */
CAPSTAN_IO(importByName, n)
{
    HaskellObj f = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, f, n);
    f = rts_call(stack, &capstan_foreignSymbol_closure, rts_mkString(stack->cap, "labs"), CAPSTAN_WORLD);
    f = rts_call(stack, &capstan_foreignImport_closure, f, rts_mkString(stack->cap, "LL"), CAPSTAN_SMALL_INT(RtsUnsafe | RtsPure), CAPSTAN_WORLD);
    CAPSTAN_UNROOT(stack);
    return rts_call(stack, f, n);
}
CAPSTAN_IO(importUnknown) { return rts_call(stack, &capstan_foreignSymbol_closure, rts_mkString(stack->cap, "no_such_name"), CAPSTAN_WORLD); }
static void testManagedForms(void **state)
{
    char text[200] = "";
    assert_int_equal(runWith(&importByName_closure, CAPSTAN_SMALL_INT(-12)), 12);
    assert_int_equal(runStatus(&importUnknown_closure, NULL, NULL, text, sizeof text), Killed);
    assert_non_null(strstr(text, "no_such_name"));
    assert_int_equal(heardError(RTS_BAD_ARGUMENT), 1);
}

/* ---- Byte arrays as pointers ---- */

static void testBytes(void **state)
{
    char outside[] = "external";
    Capability *cap = rts_lock();
    HaskellObj value;
    for (int i = 0; i < 4; i++) {
        HaskellObj bytes = i == 0 ? rts_mkBytes(cap, "moves", 6) : i == 1 ? rts_mkBytesPinned(cap, "pinned!", 8)
                           : i == 2 ? rts_mkBytesExternal(cap, outside, sizeof outside, NULL, NULL) : rts_mkBytes(cap, "moves", 6);
        rts_evalIO(&cap, rts_apply(cap, rts_foreignImport(cap, (StgFunPtr)strlen, "lp", i == 0 ? RtsUnsafe : RtsSafe), bytes), &value);
        assert_int_equal(rts_getSchedStatus(cap), i == 3 ? Killed : Success);
        if (i < 3) assert_int_equal(rts_getInt(value), i + 5 + (i > 0));
        else assert_non_null(strstr(textOf(cap, rts_getException(cap)), "expected a pointer, found byte array"));
    }
    rts_unlock(cap);
}

/* ---- Wrong use ---- */

static void testWrongKinds(void **state)
{
    static const struct {
        const char *type, *text;
        char given;
    } cases[] = {
        { "LL", "argument 1 of a foreign import of type \"LL\": expected an integer, found double", 'd' },
        { "Ld", "expected a double, found an integer", 'L' },
        { "Lf", "expected a float, found double", 'd' },
        { "Lp", "expected a pointer, found an integer", 'W' },
        { "Lb", "expected an integer, found unit", 'v' },
        { "Lp", "expected a pointer, found unit", 'v' },
        { "Lw", "expected an integer, found pointer", 'p' },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Capability *cap = rts_lock();
        HaskellObj value, import = rts_foreignImport(cap, (StgFunPtr)addLongs, cases[i].type, safeties[i % 5]);
        import = rts_apply(cap, import, madeOf(cap, cases[i].given, 0));
        if (safeties[i % 5] & RtsPure) rts_eval(&cap, import, &value);
        else rts_evalIO(&cap, import, &value);
        assert_int_equal(rts_getSchedStatus(cap), Killed);
        assert_non_null(strstr(textOf(cap, rts_getException(cap)), cases[i].text));
        rts_unlock(cap);
    }
    assert_int_equal(heardOtherErrors(), 0);
}

static void testWrongTypes(void **state)
{
    static const char *const types[] = { "", "x", "Lx", "LLv", "vv", "L.", "L.L", ".L", "LL..", "LL.L.", "L L", "Lc", "\x80", "LLLLLLLL?" };
    Capability *cap = rts_lock();
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        assert_ptr_equal(rts_foreignImport(cap, (StgFunPtr)addLongs, types[i], RtsUnsafe), CAPSTAN_POISON);
        assert_int_equal(heardError(RTS_BAD_ARGUMENT), 1);
        assert_non_null(strstr(heard.error, "rts_foreignImport: the type \""));
        assert_non_null(strstr(heard.error, "expected"));
    }
    char many[RTS_MAX_FOREIGN_ARGS + 3];
    memset(many, 'L', sizeof many);
    many[sizeof many - 1] = 0;
    assert_ptr_equal(rts_foreignImport(cap, (StgFunPtr)addLongs, many, RtsUnsafe), CAPSTAN_POISON);
    assert_ptr_equal(rts_foreignImport(cap, (StgFunPtr)addLongs, NULL, RtsUnsafe), CAPSTAN_POISON);
    assert_ptr_equal(rts_foreignImport(cap, NULL, "LLL", RtsUnsafe), CAPSTAN_POISON);
    assert_ptr_equal(rts_foreignImport(cap, (StgFunPtr)minusOne, "B", RtsPure), CAPSTAN_POISON);
    assert_ptr_equal(rts_foreignImport(cap, (StgFunPtr)addLongs, "LLL", (RtsCallSafety)3), CAPSTAN_POISON);
    assert_ptr_equal(rts_foreignImport(cap, (StgFunPtr)addLongs, "LLL", (RtsCallSafety)8), CAPSTAN_POISON);
    assert_int_equal(heardError(RTS_BAD_ARGUMENT), 6);
    assert_int_equal(heardOtherErrors(), 0);
    rts_unlock(cap);
}

/* ---- Many at once ---- */

CAPSTAN_IO(callMuch, import, n)
{
    HsInt sum = 0;
    CAPSTAN_ROOTS(stack, import, n);
    for (HsInt i = 0; i < rts_intValue(n); i++) {
        sum += rts_intValue(rts_call(stack, import, rts_int(stack, i), rts_int(stack, 1), CAPSTAN_WORLD));
        if (i % 64 == 0) rts_yield(stack);
    }
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, sum);
}
static void *callOnThread(void *how)
{
    HsInt n = many(20000);
    Capability *cap = rts_lock();
    HaskellObj value, import = rts_foreignImport(cap, (StgFunPtr)addLongs, "LLL", *(RtsCallSafety *)how);
    rts_evalIO(&cap, APPLY(cap, callMuch, import, rts_mkInt(cap, n)), &value);
    HsInt sum = rts_getSchedStatus(cap) == Success ? rts_getInt(value) : -1;
    rts_unlock(cap);
    return (void *)(intptr_t)(sum == n * (n - 1) / 2 + n);
}
static void testThreads(void **state)
{
    pthread_t threads[6];
    for (int i = 0; i < 6; i++) threads[i] = spawn(callOnThread, (void *)&safeties[i % 3]);
    for (int i = 0; i < 6; i++) assert_non_null(joinThread(threads[i]));
}

/* A module whose function can be called stays; so does one that a pointer points into. */
static void testUnloading(void **state)
{
    const char *fn = (const char *)addLongs;
    for (int i = 0; i < 2; i++) {
        Capability *cap = rts_lock();
        HsStablePtr keep = getStablePtr(
            (StgPtr)(i == 0 ? rts_foreignImport(cap, (StgFunPtr)addLongs, "LLL", RtsSafe) : rts_mkFunPtr(cap, (HsFunPtr)addLongs)));
        rts_unlock(cap);
        assert_int_equal(rts_forgetStatics(fn, fn + 1), RTS_BUSY);
        assert_int_equal(heardError(RTS_BUSY), 1);
        assert_non_null(strstr(heard.error, i == 0 ? "holds an address in it" : "a pointer into it"));
        hs_free_stable_ptr(keep);
        assert_int_equal(rts_forgetStatics(fn, fn + 1), RTS_OK);
    }
    assert_int_equal(heardOtherErrors(), 0);
}

static void testDeadCapability(void **state)
{
    disarmTest(state);
    Capability *cap = rts_lock();
    assert_true(rts_isDead(cap));
    assert_ptr_equal(rts_foreignImport(cap, (StgFunPtr)addLongs, "LLL", RtsUnsafe), CAPSTAN_POISON);
    assert_ptr_equal(rts_foreignImportSymbol(cap, "labs", "LL", RtsUnsafe), CAPSTAN_POISON);
    rts_unlock(cap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ONE(testTypes), TWO(testTypes), ONE(testManyArguments), ONE(testVariadic), ONE(testLazy), TWO(testErrno), ONE(testDynamic), ONE(testSymbols),
        ONE(testManagedForms), ONE(testBytes), ONE(testWrongKinds), ONE(testWrongTypes), TWO(testThreads), FOUR(testThreads),
        ONE(testUnloading), ONE(testDeadCapability),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

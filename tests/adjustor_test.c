/* Adjustors: every type, stubs of GHC's, life and death, threads, exits, wrong use.  What happens where policies refuse executable memory is in
 * adjustor_policy_test; generated signatures are in foreign_types_test. */
#include "foreign.h"

#include "arch.h"
#include "os/memory.h"
#include "os/os.h"

#include <execinfo.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* ---- Closures ---- */

CAPSTAN_IO(addIO, a, b) { return rts_int(stack, rts_intValue(a) + rts_intValue(b)); }
CAPSTAN_IO(addFloats, a, b) { return rts_mkFloat(stack->cap, rts_getFloat(a) + (HsFloat)rts_getDouble(b)); }
CAPSTAN_IO(same, a) { return a; }
CAPSTAN_IO(constant) { return CAPSTAN_SMALL_INT(77); }
CAPSTAN_FUN(laterSum, a, b) { return rts_int(stack, rts_intValue(a) + rts_intValue(b)); }
CAPSTAN_IO(lazySum, a, b) { return APPLY(stack->cap, laterSum, a, b); }
CAPSTAN_IO(fails, a) { rts_raiseError(stack, "no %ld", (long)rts_intValue(a)); }
CAPSTAN_LAMBDA_IO(addFree, 1, a) { return rts_int(stack, rts_intValue(rts_freeVar(self, 0)) + rts_intValue(a)); }

typedef int64_t LLL(int64_t, int64_t);
typedef int64_t LL(int64_t);

static void testTypes(void **state)
{
    LLL *add = adjustorFor(&addIO_closure, NULL, "LLL");
    assert_int_equal(add(40, 2), 42);
    assert_true(add(INT64_MAX, -1) == INT64_MAX - 1);
    float (*floats)(float, double) = adjustorFor(&addFloats_closure, NULL, "ffd");
    assert_true(floats(1.5f, 0.25) == 1.75f);
    double (*sameDouble)(double) = adjustorFor(&same_closure, NULL, "dd");
    assert_true(sameDouble(-1e300) == -1e300);
    int8_t (*sameByte)(int8_t) = adjustorFor(&same_closure, NULL, "BB");
    assert_int_equal(sameByte(-128), -128);
    uint16_t (*sameWord)(uint16_t) = adjustorFor(&same_closure, NULL, "ss");
    assert_int_equal(sameWord(65535), 65535);
    void *(*samePtr)(void *) = adjustorFor(&same_closure, NULL, "pp");
    assert_ptr_equal(samePtr(&add), &add);
    int (*none)(void) = adjustorFor(&constant_closure, NULL, "W");
    assert_int_equal(none(), 77);
    void (*nothing)(int) = adjustorFor(&same_closure, NULL, "vW");
    nothing(1);
    LLL *lazy = adjustorFor(&lazySum_closure, NULL, "LLL");
    assert_int_equal(lazy(20, 3), 23);
    assert_int_equal(liveAdjustors(), 9);
    void *all[] = { add, floats, sameDouble, sameByte, sameWord, samePtr, none, nothing, lazy };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) freeHaskellFunctionPtr(all[i]);
    assert_int_equal(liveAdjustors(), 0);
    RtsCounts counts;
    rts_getCounts(&counts);
    assert_int_equal(counts.stable_ptrs, 0);
    assert_int_equal(heardOtherErrors(), 0);
}

/* ---- Stubs, in the words of GHC's (zd...mkTen, mkMix) and in those without its dummy ---- */

CAPSTAN_IO(weigh7, a, b, c, d, e, f, g)
{
    return rts_int(stack, rts_intValue(a) + 2 * rts_intValue(b) + 3 * rts_intValue(c) + 4 * rts_intValue(d) + 5 * rts_intValue(e) +
                              6 * rts_intValue(f) + 7 * rts_intValue(g));
}

static HsInt weighStub(StgStablePtr the_stableptr, HsInt a1, HsInt a2, HsInt a3, HsInt a4, HsInt a5, HsInt a6, HsInt a7)
{
    Capability *cap;
    HaskellObj ret;
    HsInt cret;
    cap = rts_lock();
    rts_evalIO(&cap, rts_apply(cap, (HaskellObj)runIO_closure, applyTo(cap, (StgClosure *)deRefStablePtr(the_stableptr), 7, (HaskellObj[]){ rts_mkInt(cap, a1), rts_mkInt(cap, a2), rts_mkInt(cap, a3), rts_mkInt(cap, a4), rts_mkInt(cap, a5), rts_mkInt(cap, a6), rts_mkInt(cap, a7) })), &ret);
    rts_checkSchedStatus("weighStub", cap);
    cret = rts_getInt(ret);
    rts_unlock(cap);
    return cret;
}
static HsInt weighStubOfGhc(StgStablePtr the_stableptr, HsInt a1, HsInt a2, HsInt a3, HsInt a4, HsInt a5, HsInt a6,
#if ARCH_STUB_DUMMY_AFTER == 6
                            void *original_return_addr,
#endif
                            HsInt a7)
{
    return weighStub(the_stableptr, a1, a2, a3, a4, a5, a6, a7);
}
/* Five that are no floats, among these; and six. */
static HsDouble fiveStub(StgStablePtr sp, HsDouble a, HsInt8 b, HsFloat c, HsInt32 d, HsPtr e, HsWord16 f, HsInt g, HsDouble h)
{
    return a + b + (double)c + d + (HsDouble)(intptr_t)e + f + (HsDouble)g + h * 1000;
}
static HsDouble sixStub(StgStablePtr sp, HsInt a, HsInt b, HsInt c, HsDouble d, HsInt e, HsInt f, HsInt g,
#if ARCH_STUB_DUMMY_AFTER == 6
                        void *original_return_addr,
#endif
                        HsDouble h)
{
    return (HsDouble)(a + 2 * b + 3 * c + 4 * e + 5 * f + 6 * g) + d + h * 1000;
}

static void testStubs(void **state)
{
    Capability *cap = rts_lock();
    HsStablePtr sp = getStablePtr((StgPtr)&weigh7_closure), other = getStablePtr((StgPtr)&weigh7_closure);
    rts_unlock(cap);
    HsInt (*ghc)(HsInt, HsInt, HsInt, HsInt, HsInt, HsInt, HsInt) = createAdjustor(sp, (StgFunPtr)weighStubOfGhc, (char *)"LLLLLLLL");
    HsInt (*plain)(HsInt, HsInt, HsInt, HsInt, HsInt, HsInt, HsInt) = rts_createAdjustor(other, (StgFunPtr)weighStub, "LLLLLLLL");
    assert_int_equal(ghc(1, 2, 3, 4, 5, 6, 7), 1 + 4 + 9 + 16 + 25 + 36 + 49);
    assert_int_equal(plain(1, 2, 3, 4, 5, 6, -7), 1 + 4 + 9 + 16 + 25 + 36 - 49);
    HsDouble (*five)(HsDouble, HsInt8, HsFloat, HsInt32, HsPtr, HsWord16, HsInt, HsDouble) =
        adjustorFor(&same_closure, (StgFunPtr)fiveStub, "ddBfWpsLd");
    assert_true(five(0.5, -1, 0.25f, -2, (HsPtr)3, 4, 5, 6) == 0.75 - 1 - 2 + 3 + 4 + 5 + 6000);
    cap = rts_lock();
    HsStablePtr sp6 = getStablePtr((StgPtr)&same_closure);
    rts_unlock(cap);
    HsDouble (*six)(HsInt, HsInt, HsInt, HsDouble, HsInt, HsInt, HsInt, HsDouble) = createAdjustor(sp6, (StgFunPtr)sixStub, (char *)"dLLLdLLLd");
    assert_true(six(1, 2, 3, 0.5, 4, 5, 6, 7) == 1 + 4 + 9 + 16 + 25 + 36 + 0.5 + 7000);
    hs_free_fun_ptr((HsFunPtr)ghc);
    hs_free_fun_ptr((HsFunPtr)plain);
    hs_free_fun_ptr((HsFunPtr)five);
    hs_free_fun_ptr((HsFunPtr)six);
    assert_int_equal(liveAdjustors(), 0);
    assert_int_equal(heardOtherErrors(), 0);
}

/* ---- More than managed functions take, and than registers hold ---- */

/* Adds what it is given, for ever: an argument gives a function that waits for the next, the world the sum. */
CAPSTAN_EXTERN(adder);
static const StgInfoTable adder2_info;
static HaskellObj adderStep(Stack *stack, HsInt sum, HaskellObj next)
{
    if (next == CAPSTAN_WORLD) return rts_int(stack, sum);
    HaskellObj all = rts_int(stack, sum * 3 + rts_intValue(next));
    return rts_mkClosure(stack->cap, &adder2_info, &all);
}
CAPSTAN_FUN(adder, next) { return adderStep(stack, 0, next); }
static HaskellObj adder2_entry(Stack *stack, HaskellObj self, HaskellObj next)
{
    return adderStep(stack, rts_intValue(rts_freeVar(self, 0)), next);
}
static const StgInfoTable adder2_info = { CLOSURE_FUN, 0, 1, 1, 0, 0, (StgFunPtr)adder2_entry, "adder2", NULL };

#define I5(x) int32_t x##1, int32_t x##2, int32_t x##3, int32_t x##4, int32_t x##5
#define V5(x) (x), (x) + 1, (x) + 2, (x) + 3, (x) + 4
static void testManyArguments(void **state)
{
    char type[32] = "L";
    for (int i = 1; i <= 30; i++) type[i] = 'W';
    int64_t (*sum)(I5(a), I5(b), I5(c), I5(d), I5(e), I5(f)) = adjustorFor(&adder_closure, NULL, type);
    uint64_t expected = 0;
    for (int i = 1; i <= 30; i++) expected = expected * 3 + (uint64_t)i;
    assert_true((uint64_t)sum(V5(1), V5(6), V5(11), V5(16), V5(21), V5(26)) == expected);
    freeHaskellFunctionPtr((void *)sum);
}

/* ---- Life and death ---- */

static void *makeWithFree(HsInt n)
{
    Capability *cap = rts_lock();
    HaskellObj free[] = { CAPSTAN_SMALL_INT(n) };
    HsStablePtr hptr = getStablePtr((StgPtr)rts_mkClosure(cap, &addFree_info, free));
    rts_unlock(cap);
    return createAdjustor(hptr, NULL, (char *)"LL");
}

/* More than an arena holds; each finds its own closure, before and after collections; the memory serves again. */
static void testThousands(void **state)
{
    enum { N = 3000 };
    static LL *made[N];
    RtsAdjustorCounts counts, later;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < N; i++) assert_non_null(made[i] = (LL *)makeWithFree(i));
        hs_perform_gc();
        for (int i = 0; i < N; i++) assert_int_equal(made[i](1000000), 1000000 + i);
        rts_getAdjustorCounts(round == 0 ? &counts : &later);
        for (int i = 0; i < N; i += 2) freeHaskellFunctionPtr((void *)made[i]);
        for (int i = 1; i < N; i += 2) assert_int_equal(made[i](5), 5 + i);
        for (int i = 1; i < N; i += 2) freeHaskellFunctionPtr((void *)made[i]);
        assert_int_equal(liveAdjustors(), 0);
    }
    assert_int_equal(counts.live, N);
    assert_true(later.data_bytes <= counts.data_bytes + 8 * 8192); /* debug builds are not quick to use one again */
    RtsCounts all;
    rts_getCounts(&all);
    assert_int_equal(all.stable_ptrs, 0);
}

/* The closure is kept by its adjustor, and no longer. */
static void testClosureDies(void **state)
{
    LL *f = (LL *)makeWithFree(3);
    hs_perform_gc();
    assert_int_equal(f(4), 7);
    RtsCounts counts;
    rts_getCounts(&counts);
    assert_int_equal(counts.stable_ptrs, 1);
    freeHaskellFunctionPtr((void *)f);
    rts_getCounts(&counts);
    assert_int_equal(counts.stable_ptrs, 0);
}

static void *volatile toFree;
CAPSTAN_IO(freeMyself, a)
{
    HsInt n = rts_intValue(a);
    freeHaskellFunctionPtr(toFree);
    rts_collect(stack, true);
    return rts_int(stack, n + 1);
}
static HsInt freeingStub(StgStablePtr sp, HsInt a)
{
    freeHaskellFunctionPtr(toFree);
    assert_int_equal(liveAdjustors(), 1); /* it leaves with this call */
    assert_int_equal(heardOtherErrors(), 0);
    Capability *cap = rts_lock();
    HaskellObj ret;
    rts_evalIO(&cap, rts_apply(cap, (StgClosure *)deRefStablePtr(sp), rts_mkInt(cap, a)), &ret);
    HsInt n = rts_getInt(ret);
    rts_unlock(cap);
    return n;
}
static void testFreedDuringCall(void **state)
{
    LL *f = toFree = adjustorFor(&freeMyself_closure, NULL, "LL");
    assert_int_equal(f(9), 10);
    assert_int_equal(liveAdjustors(), 0);
    f = toFree = adjustorFor(&same_closure, (StgFunPtr)freeingStub, "LL");
    assert_int_equal(f(11), 11);
    assert_int_equal(liveAdjustors(), 0);
    assert_int_equal(heardOtherErrors(), 0);
}

/* One thread waits for a capability inside a call; meanwhile another frees the pointer, and makes others. */
static void *callAndWait(void *f) { return (void *)(intptr_t)((LL *)f)(30); }
static void testFreedWhileWaiting(void **state)
{
    LL *f = (LL *)makeWithFree(12);
    Capability *cap = rts_lock();
    unsigned tasks = tasksNow();
    pthread_t thread = spawn(callAndWait, (void *)f);
    while (tasksNow() == tasks) sleepMs(1); /* it is inside, and about to wait */
    sleepMs(20);
    freeHaskellFunctionPtr((void *)f);
    RtsAdjustorCounts counts;
    rts_getAdjustorCounts(&counts);
    assert_int_equal(counts.leaving, 1);
    rts_unlock(cap);
    for (int i = 0; i < 300; i++) freeHaskellFunctionPtr(makeWithFree(99));
    assert_int_equal((intptr_t)joinThread(thread), 42);
    assert_int_equal(liveAdjustors(), 0);
    assert_int_equal(heardOtherErrors(), 0);
}

/* ---- Threads ---- */

static _Atomic long callsMade;
static void *callMuch(void *f)
{
    long n = many(20000);
    for (long i = 0; i < n; i++)
        if (((LLL *)f)(i, 1) != i + 1) return NULL;
    atomic_fetch_add(&callsMade, n);
    return f;
}
/* Threads that the runtime never saw. */
static void testThreads(void **state)
{
    enum { THREADS = 8 };
    pthread_t threads[THREADS];
    LLL *add = adjustorFor(&addIO_closure, NULL, "LLL");
    atomic_store(&callsMade, 0);
    for (int i = 0; i < THREADS; i++) threads[i] = spawn(callMuch, (void *)add);
    for (int i = 0; i < THREADS; i++) assert_non_null(joinThread(threads[i]));
    assert_int_equal(atomic_load(&callsMade), THREADS * many(20000));
    freeHaskellFunctionPtr((void *)add);
    assert_int_equal(heardOtherErrors(), 0);
}

static void *makeCallFree(void *unused)
{
    for (long i = 0, n = many(5000); i < n; i++) {
        LL *f = (LL *)makeWithFree(i);
        if (f == NULL || f(1) != i + 1) return NULL;
        freeHaskellFunctionPtr((void *)f);
    }
    return &callsMade;
}
static void testMakersEverywhere(void **state)
{
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) threads[i] = spawn(makeCallFree, NULL);
    for (int i = 0; i < 40; i++) hs_perform_gc();
    for (int i = 0; i < 4; i++) assert_non_null(joinThread(threads[i]));
    assert_int_equal(liveAdjustors(), 0);
    assert_int_equal(heardOtherErrors(), 0);
}

/* Threads call a pointer that another keeps freeing and replacing: some calls come too late, which is a mistake, and get zero or the next one's answer;
 * none crashes, and nothing is left over. */
static _Atomic(void *) current;
static _Atomic int stopStorm;
static HsInt addStub(StgStablePtr sp, HsInt a)
{
    Capability *cap = rts_lock();
    HaskellObj ret = CAPSTAN_POISON, f = (HaskellObj)deRefStablePtr(sp);
    if (!rts_isDead(cap) && f != CAPSTAN_POISON) rts_evalIO(&cap, rts_apply(cap, f, rts_mkInt(cap, a)), &ret);
    HsInt n = rts_getInt(ret);
    rts_unlock(cap);
    return n;
}
static void *callCurrent(void *unused)
{
    long calls = 0;
    while (!atomic_load(&stopStorm)) {
        int64_t n = ((LL *)atomic_load(&current))(1000);
        if (n != 0 && (n < 1000 || n >= 1500)) return NULL;
        calls++;
    }
    return (void *)(calls + 1);
}
static void *makeForStorm(long i)
{
    Capability *cap = rts_lock();
    HaskellObj free[] = { CAPSTAN_SMALL_INT(i % 500) };
    HsStablePtr hptr = getStablePtr((StgPtr)rts_mkClosure(cap, &addFree_info, free));
    rts_unlock(cap);
    return rts_createAdjustor(hptr, i % 3 == 0 ? (StgFunPtr)addStub : NULL, "LL");
}
static void testFreesUnderCalls(void **state)
{
    pthread_t threads[3];
    atomic_store(&current, makeForStorm(0));
    atomic_store(&stopStorm, 0);
    for (int i = 0; i < 3; i++) threads[i] = spawn(callCurrent, NULL);
    for (long i = 1, n = many(20000); i < n; i++) {
        freeHaskellFunctionPtr(atomic_exchange(&current, makeForStorm(i)));
        if (i % 512 == 0) hs_perform_gc();
    }
    atomic_store(&stopStorm, 1);
    for (int i = 0; i < 3; i++) assert_non_null(joinThread(threads[i]));
    freeHaskellFunctionPtr(atomic_load(&current));
    assert_int_equal(liveAdjustors(), 0);
    RtsCounts counts;
    rts_getCounts(&counts);
    assert_int_equal(counts.stable_ptrs, 0);
    heardError(RTS_BAD_ARGUMENT); /* late calls */
    unsigned others = heardOtherErrors(); /* a closed runtime or a bad stable pointer: a call used a record that was another's already */
    if (others != 0) fail_msg("%u errors, the last one with a text: %s", others, heard.error);
}

/* ---- From managed code, and back: qsort in a safe call ---- */

CAPSTAN_IO(compareInts, p, q)
{
    int32_t a = *(int32_t *)rts_getPtr(p), b = *(int32_t *)rts_getPtr(q);
    return CAPSTAN_SMALL_INT(a < b ? -1 : a > b);
}
CAPSTAN_IO(sortIn, array, length)
{
    HaskellObj compare = CAPSTAN_UNIT, sort = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, array, length, compare, sort);
    compare = rts_call(stack, &capstan_createAdjustor_closure, rts_mkString(stack->cap, "Wpp"), &compareInts_closure, CAPSTAN_WORLD);
    sort = rts_foreignImportSymbol(stack->cap, "qsort", "vpllp", RtsSafe);
    rts_call(stack, sort, array, length, CAPSTAN_SMALL_INT(sizeof(int32_t)), compare, CAPSTAN_WORLD);
    rts_call(stack, &capstan_freeFunPtr_closure, compare, CAPSTAN_WORLD);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_SMALL_INT(0);
}
static void testSort(void **state)
{
    enum { N = 2000 };
    static int32_t numbers[N];
    uint64_t seed = 1;
    for (int i = 0; i < N; i++) numbers[i] = (int32_t)nextRandom(&seed);
    for (int unbound = 0; unbound < 2; unbound++) {
        Capability *cap = rts_lock();
        HaskellObj value, io = APPLY(cap, sortIn, rts_mkPtr(cap, numbers), CAPSTAN_SMALL_INT(N));
        rts_evalIO(&cap, unbound ? APPLY(cap, schedInThread, io) : io, &value);
        assert_int_equal(rts_getSchedStatus(cap), Success);
        rts_unlock(cap);
        for (int i = 1; i < N; i++) assert_true(numbers[i - 1] <= numbers[i]);
        for (int i = 0; i < N; i++) numbers[i] = (int32_t)nextRandom(&seed);
    }
    assert_int_equal(liveAdjustors(), 0);
}

CAPSTAN_IO(makeWrong, which)
{
    HaskellObj type = which == CAPSTAN_SMALL_INT(0) ? rts_mkString(stack->cap, "L?") : which == CAPSTAN_SMALL_INT(1) ? CAPSTAN_UNIT : CAPSTAN_POISON;
    if (which == CAPSTAN_SMALL_INT(2)) return rts_call(stack, &capstan_freeFunPtr_closure, CAPSTAN_SMALL_INT(3), CAPSTAN_WORLD);
    return rts_call(stack, &capstan_createAdjustor_closure, type, &same_closure, CAPSTAN_WORLD);
}
static void testManagedErrors(void **state)
{
    static const char *const texts[] = { "no C function pointer of type \"L?\"", "expected a byte array, found unit", "expected a pointer, found an integer" };
    for (int i = 0; i < 3; i++) {
        char text[200] = "";
        assert_int_equal(runStatus(&makeWrong_closure, CAPSTAN_SMALL_INT(i), NULL, text, sizeof text), Killed);
        assert_non_null(strstr(text, texts[i]));
    }
    assert_int_equal(heardError(RTS_BAD_ARGUMENT), 1);
    RtsCounts counts;
    rts_getCounts(&counts);
    assert_int_equal(counts.stable_ptrs, 0);
}

/* A comparator is called in a safe call, in a callback, in a safe call ... */
static LL *deeper;
static void *callDeeper(void *n) { return (void *)(intptr_t)deeper((intptr_t)n); }
CAPSTAN_IO(nest, n)
{
    HsInt depth = rts_intValue(n);
    return depth == 0 ? CAPSTAN_SMALL_INT(0) : rts_int(stack, 1 + (HsInt)(intptr_t)rts_safeCall(stack, callDeeper, (void *)(intptr_t)(depth - 1)));
}
static void testNesting(void **state)
{
    deeper = adjustorFor(&nest_closure, NULL, "LL");
    assert_int_equal(deeper(SLOW_BUILD ? 20 : 300), SLOW_BUILD ? 20 : 300);
    freeHaskellFunctionPtr((void *)deeper);
}

/* ---- What goes wrong in a call ---- */

CAPSTAN_IO(wrongResult, a) { return CAPSTAN_UNIT; }
static void testFailing(void **state)
{
    LL *f = adjustorFor(&fails_closure, NULL, "LL");
    assert_int_equal(f(5), 0);
    assert_int_equal(heardStatus(Killed), 1);
    assert_non_null(strstr(heard.text, "no 5"));
    assert_string_equal(heard.site, "adjustor");
    double (*d)(int64_t) = adjustorFor(&fails_closure, NULL, "dL");
    assert_true(d(6) == 0.0);
    assert_int_equal(heardStatus(Killed), 1);
    LL *g = adjustorFor(&wrongResult_closure, NULL, "LL");
    assert_int_equal(g(1), 0);
    assert_int_equal(heardError(RTS_WRONG_KIND), 1);
    assert_non_null(strstr(heard.error, "expected an integer, found unit"));
    freeHaskellFunctionPtr((void *)f);
    freeHaskellFunctionPtr((void *)d);
    freeHaskellFunctionPtr((void *)g);
    assert_int_equal(heardOtherErrors(), 0);
}

static void *callFive(void *f) { return (void *)(intptr_t)((LL *)f)(5); }
/* Not from an unsafe call, nor between rts_lock and rts_unlock. */
static void testHoldingCapability(void **state)
{
    LL *f = adjustorFor(&same_closure, NULL, "LL");
    HsInt value = -1;
    assert_int_equal(callUnsafely(callFive, (void *)f, &value), Success);
    assert_int_equal(value, 0);
    assert_int_equal(heardError(RTS_HOLDS_CAPABILITY), 1);
    assert_int_equal(callSafely(callFive, (void *)f, &value), Success);
    assert_int_equal(value, 5);
    Capability *cap = rts_lock();
    assert_int_equal(f(5), 0);
    assert_int_equal(heardError(RTS_HOLDS_CAPABILITY), 1);
    rts_unlock(cap);
    freeHaskellFunctionPtr((void *)f);
    assert_int_equal(liveAdjustors(), 0);
    assert_int_equal(heardOtherErrors(), 0);
}

/* ---- Wrong use ---- */

static void testWrongTypes(void **state)
{
    static const char *const types[] = { "", "x", "Lx", "LLv", "L.", "LL.L.", "L\n", "\xff" };
    Capability *cap = rts_lock();
    HsStablePtr hptr = getStablePtr((StgPtr)&same_closure);
    rts_unlock(cap);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        assert_null(createAdjustor(hptr, i % 2 ? NULL : (StgFunPtr)weighStub, (char *)types[i]));
        assert_int_equal(heardError(RTS_BAD_ARGUMENT), 1);
        assert_non_null(strstr(heard.error, "createAdjustor: the type \""));
    }
    assert_null(createAdjustor(hptr, NULL, NULL));
    assert_int_equal(heardError(RTS_BAD_ARGUMENT), 1);
    assert_null(createAdjustor(NULL, NULL, (char *)"LL"));
    assert_int_equal(heardError(RTS_BAD_STABLE_PTR), 1);
    hs_free_stable_ptr(hptr); /* it is still ours */
    RtsCounts counts;
    rts_getCounts(&counts);
    assert_int_equal(counts.stable_ptrs, 0);
    assert_int_equal(heardOtherErrors(), 0);
}

/* Where the processor guards pages (HWCAP2_BTI): past the landing pad is no place to jump to, in the copies of the template too. */
static void testGuardedPages(void **state)
{
    if (ARCH_CODE_RIGHTS == 0 || !(getauxval(AT_HWCAP2) & 1ul << 17)) {
        print_message("this processor guards no pages\n");
        skip();
    }
    char *f = adjustorFor(&same_closure, NULL, "LL");
    pid_t child = fork();
    if (child == 0) {
        signal(SIGILL, SIG_DFL);
        setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
        ((LL *)(void *)(f + 4))(1);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGILL);
    freeHaskellFunctionPtr(f);
}

static void testWrongPointers(void **state)
{
    char text[64];
    char *f = adjustorFor(&same_closure, NULL, "LL");
    void *wrong[] = { text, (void *)testWrongPointers, f + 1, f - 1, f + 8, f + 4096, (void *)8, (void *)-8 };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        freeHaskellFunctionPtr(wrong[i]);
        assert_int_equal(heardError(RTS_BAD_ARGUMENT), 1);
    }
    freeHaskellFunctionPtr(NULL);
    freeHaskellFunctionPtr(f);
    assert_int_equal(heardOtherErrors(), 0);
    hs_free_fun_ptr((HsFunPtr)f);
    assert_int_equal(heardError(RTS_BAD_ARGUMENT), 1);
    assert_non_null(strstr(heard.error, "freed already"));
    assert_int_equal(heardOtherErrors(), 0);
}

static void testCalledAfterFree(void **state)
{
    LL *f = (LL *)makeWithFree(1);
    double (*d)(double) = adjustorFor(&same_closure, NULL, "dd");
    freeHaskellFunctionPtr((void *)f);
    freeHaskellFunctionPtr((void *)d);
    assert_int_equal(f(2), 0);
    assert_true(d(2) == 0);
    assert_int_equal(heardError(RTS_BAD_ARGUMENT), 2);
    assert_non_null(strstr(heard.error, "after it was freed"));
    assert_int_equal(heardOtherErrors(), 0);
}

/* The n-th allocation fails, whichever it is. */
static void testNoMemory(void **state)
{
    static const char *const types[] = { "LLLLLLLLLLLLLdd", "dddddddfLLLLLLLLLLLLLLLLLLLLLLL" };
    for (int stub = 0; stub < 2; stub++)
        for (long n = 1; n < 20; n++) {
            Capability *cap = rts_lock();
            HsStablePtr hptr = getStablePtr((StgPtr)&same_closure);
            rts_unlock(cap);
            osFailAfter(n);
            void *f = createAdjustor(hptr, stub ? (StgFunPtr)weighStub : NULL, (char *)types[stub]);
            long failures = osFailuresInjected();
            osFailAfter(0);
            if (failures == 0) {
                assert_non_null(f);
                freeHaskellFunctionPtr(f);
                break;
            }
            if (f == NULL) {
                assert_int_equal(heardError(RTS_NO_MEMORY), 1);
                hs_free_stable_ptr(hptr);
            } else {
                freeHaskellFunctionPtr(f);
            }
        }
    assert_int_equal(liveAdjustors(), 0);
    assert_int_equal(heardOtherErrors(), 0);
}

/* ---- Exit and again ---- */

static void testAfterExit(void **state)
{
    LL *f = (LL *)makeWithFree(1);
    double (*d)(double) = adjustorFor(&same_closure, NULL, "dd");
    HsInt (*stub)(HsInt, HsInt, HsInt, HsInt, HsInt, HsInt, HsInt) = adjustorFor(&weigh7_closure, (StgFunPtr)weighStub, "LLLLLLLL");
    assert_int_equal(f(1), 2);
    hs_exit();
    assert_int_equal(f(1), 0);
    assert_true(d(1.5) == 0);
    assert_int_equal(stub(1, 2, 3, 4, 5, 6, 7), 0);
    assert_int_equal(heardClosed(RTS_NOT_STARTED), 3);
    assert_null(createAdjustor((void *)8, NULL, (char *)"LL"));
    assert_int_equal(heardError(RTS_NOT_STARTED), 1);
    freeHaskellFunctionPtr((void *)d); /* allowed */
    assert_int_equal(heardOtherErrors(), 0);
    RtsConfig config = schedConfig(1);
    assert_int_equal(rts_start(&config, NULL, 0), RTS_OK);
    LL *g = (LL *)makeWithFree(10);
    assert_int_equal(g(1), 11);
    assert_int_equal(f(1), 0); /* its closure was another runtime's */
    assert_int_equal(heardClosed(RTS_CLOSED), 1);
    RtsCounts counts;
    rts_getCounts(&counts);
    assert_int_equal(counts.stable_ptrs, 1);
    freeHaskellFunctionPtr((void *)f);
    freeHaskellFunctionPtr((void *)stub);
    rts_getCounts(&counts);
    assert_int_equal(counts.stable_ptrs, 1);
    assert_int_equal(g(2), 12);
    freeHaskellFunctionPtr((void *)g);
    assert_int_equal(liveAdjustors(), 0);
    assert_int_equal(heardOtherErrors(), 0);
}

/* Threads call while the runtime ends and begins: right, or zero. */
static _Atomic int stopCalling;
static void *callUntilStopped(void *f)
{
    while (!atomic_load(&stopCalling)) {
        int64_t n = ((LLL *)f)(3, 4);
        if (n != 7 && n != 0) return NULL;
    }
    return f;
}
static void testExitsUnderCalls(void **state)
{
    pthread_t threads[3];
    for (int round = 0; round < (int)many(30); round++) {
        LLL *add = adjustorFor(&addIO_closure, NULL, "LLL");
        assert_non_null(add);
        atomic_store(&stopCalling, 0);
        for (int i = 0; i < 3; i++) threads[i] = spawn(callUntilStopped, (void *)add);
        sleepMs(1);
        hs_exit();
        RtsConfig config = schedConfig(2);
        assert_int_equal(rts_start(&config, NULL, 0), RTS_OK);
        sleepMs(1);
        atomic_store(&stopCalling, 1);
        for (int i = 0; i < 3; i++) assert_non_null(joinThread(threads[i]));
        freeHaskellFunctionPtr((void *)add);
    }
    assert_int_equal(liveAdjustors(), 0);
}

/* A module whose stub an adjustor calls stays. */
static void testUnloading(void **state)
{
    const char *stub = (const char *)addStub;
    void *f = adjustorFor(&same_closure, (StgFunPtr)addStub, "LL");
    assert_int_equal(rts_forgetStatics(stub, stub + 1), RTS_BUSY);
    assert_int_equal(heardError(RTS_BUSY), 1);
    assert_non_null(strstr(heard.error, "a stub of it"));
    freeHaskellFunctionPtr(f);
    assert_int_equal(rts_forgetStatics(stub, stub + 1), RTS_OK);
    assert_int_equal(heardOtherErrors(), 0);
}

/* ---- Unwinding: from C through an import, managed code, and an adjustor with a stub, to who called that ---- */

static void *frames[200];
static int frameCount;
static int64_t lookBack(int64_t n)
{
    frameCount = backtrace(frames, 200);
    return n;
}
static HsInt backStub(StgStablePtr sp, double a, HsInt b, HsInt c, HsInt d, HsInt e, HsInt f, HsInt g, HsInt h, HsInt i) { return addStub(sp, b); }
CAPSTAN_IO(callLookBack, a)
{
    HaskellObj import = rts_foreignImport(stack->cap, (StgFunPtr)lookBack, "LL", RtsSafe);
    return rts_call(stack, import, a, CAPSTAN_WORLD);
}
static void testUnwinding(void **state)
{
    void *caller = __builtin_return_address(0);
    HsInt (*f)(double, HsInt, HsInt, HsInt, HsInt, HsInt, HsInt, HsInt, HsInt) =
        adjustorFor(&callLookBack_closure, (StgFunPtr)backStub, "LdLLLLLLLL");
    for (int i = 0; i < 2; i++) {
        frameCount = 0;
        assert_int_equal(f(0.5, 7, 2, 3, 4, 5, 6, 7, 8), 7);
        bool found = false;
        for (int k = 0; k < frameCount; k++) found = found || frames[k] == caller;
        assert_true(found);
    }
    freeHaskellFunctionPtr((void *)f);
}

/* ---- A forked child ---- */

static void testFork(void **state)
{
    LL *f = (LL *)makeWithFree(20);
    assert_int_equal(f(1), 21);
    pid_t child = fork();
    if (child == 0) {
        int64_t dead = f(1);
        hs_init(NULL, NULL);
        LL *g = (LL *)makeWithFree(30);
        int64_t n = g == NULL ? -1 : g(1), again = f(1);
        freeHaskellFunctionPtr((void *)f);
        freeHaskellFunctionPtr((void *)g);
        hs_exit();
        _exit(dead == 0 && again == 0 && n == 31 && liveAdjustors() == 0 ? 0 : 1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    assert_int_equal(f(1), 21);
    freeHaskellFunctionPtr((void *)f);
}

/* ---- Where code comes from ---- */

static void testMemfd(void **state)
{
    enum { N = 1200 };
    static LL *made[N];
    RtsAdjustorCounts before, after;
    rts_getAdjustorCounts(&before);
    osCodeForbidden = OS_CODE_FROM_FILE;
    int n = (int)(before.code_bytes / 4096 * 255) + 300;
    if (n > N) n = N;
    for (int i = 0; i < n; i++) assert_non_null(made[i] = (LL *)makeWithFree(i));
    rts_getAdjustorCounts(&after);
    osCodeForbidden = 0;
    for (int i = 0; i < n; i++) assert_int_equal(made[i](1), i + 1);
    for (int i = 0; i < n; i++) freeHaskellFunctionPtr((void *)made[i]);
    assert_int_equal(liveAdjustors(), 0);
    assert_int_equal(heardOtherErrors(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ONE(testTypes), TWO(testTypes), BARREN(testTypes), ONE(testStubs), ONE(testManyArguments), ONE(testThousands), ONE(testClosureDies),
        ONE(testFreedDuringCall), ONE(testFreedWhileWaiting), ONE(testThreads), FOUR(testThreads), BARREN(testThreads), TWO(testMakersEverywhere),
        TWO(testFreesUnderCalls), BARREN(testFreesUnderCalls),
        TWO(testSort), ONE(testManagedErrors), TWO(testNesting), ONE(testFailing), ONE(testHoldingCapability), ONE(testWrongTypes),
        ONE(testWrongPointers), ONE(testGuardedPages), ONE(testCalledAfterFree), ONE(testNoMemory), TWO(testAfterExit), TWO(testExitsUnderCalls), ONE(testFork), ONE(testUnloading), ONE(testUnwinding),
        ONE(testMemfd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

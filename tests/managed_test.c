/* exception: longer than a file should be: one case a macro of rts/Managed.h. */
/*
 * Managed functions written in C: what each macro of rts/Managed.h makes, roots, tail calls, exceptions, field checks,
 * calls at every arity.
 */
#include <Rts.h>
#include <rts/Managed.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- The runtime of these tests ---- */

static unsigned errors;
static RtsStatus lastError;
static Capability *cap;

static void noteError(void *ctx, RtsStatus status, const char *message)
{
    errors++;
    lastError = status;
}

static int setUp(void **state)
{
    RtsConfig config = RTS_CONFIG_INIT;

    config.capabilities = 1;
    config.nursery_bytes = 256 * 1024;
    config.verify_heap = true;
    config.poison_from_space = true;
    config.errorHook = noteError;
    return rts_start(&config, NULL, 0) == RTS_OK ? 0 : -1;
}

static int tearDown(void **state)
{
    hs_exit();
    return 0;
}

static int lockIt(void **state)
{
    cap = rts_lock();
    errors = 0;
    return rts_isDead(cap) ? -1 : 0;
}

static int unlockIt(void **state)
{
    rts_unlock(cap);
    return 0;
}

static HaskellObj runTo(SchedulerStatus status, HaskellObj action)
{
    HaskellObj result;

    rts_evalIO(&cap, action, &result);
    assert_int_equal(rts_getSchedStatus(cap), status);
    return result;
}

static HsInt runInt(HaskellObj action)
{
    return rts_getInt(runTo(Success, action));
}

static const char *exceptionText(void)
{
    static char text[256];

    rts_showException(cap, rts_getException(cap), text, sizeof text);
    return text;
}

#define small CAPSTAN_SMALL_INT

static void *collectNow(void *arg)
{
    hs_perform_gc();
    return NULL;
}

/* Moves everything. */
static void collect(Stack *stack)
{
    rts_safeCall(stack, collectNow, NULL);
}

static bool isShort(void)
{
    const char *scale = getenv("CAPSTAN_TEST_SCALE");
    return scale != NULL && strcmp(scale, "short") == 0;
}

/* ---- What the macros make ---- */

CAPSTAN_FUN(one, a) { return a; }
CAPSTAN_FUN(two, a, b) { return b; }
CAPSTAN_IO(action) { return small(5); }
CAPSTAN_IO(action1, a) { return rts_force(stack, a); }
CAPSTAN_LAMBDA(lambda, 2, a) { return rts_freeVar(self, 1); }
CAPSTAN_LAMBDA_IO(lambdaIO, 3) { return rts_freeVar(self, 2); }
CAPSTAN_THUNK(thunk, 1) { return rts_thunkVar(self, 0); }
CAPSTAN_CAF(caf) { return small(6); }
CAPSTAN_CON(Triple, 3, x, y, z)
CAPSTAN_CON(Box, 4, content)
CAPSTAN_STATIC_CON(Empty, 0);
CAPSTAN_STATIC(fixed, Triple, small(1), &Empty_closure, &one_closure);

static void checkInfo(const StgInfoTable *info, ClosureKind kind, unsigned arity, unsigned ptrs, const char *name)
{
    assert_int_equal(info->kind, kind);
    assert_int_equal(info->arity, arity);
    assert_int_equal(info->ptrs, ptrs);
    assert_int_equal(info->nptrs, 0);
    assert_string_equal(info->name, name);
}

static void testInfoTables(void **state)
{
    checkInfo(&one_info, CLOSURE_FUN, 1, 0, "one");
    checkInfo(&two_info, CLOSURE_FUN, 2, 0, "two");
    checkInfo(&action_info, CLOSURE_FUN, 1, 0, "action");
    checkInfo(&action1_info, CLOSURE_FUN, 2, 0, "action1");
    checkInfo(&lambda_info, CLOSURE_FUN, 1, 2, "lambda");
    checkInfo(&lambdaIO_info, CLOSURE_FUN, 1, 3, "lambdaIO");
    checkInfo(&thunk_info, CLOSURE_THUNK, 0, 1, "thunk");
    checkInfo(&caf_info, CLOSURE_THUNK, 0, 0, "caf");
    checkInfo(&Triple_info, CLOSURE_CON, 0, 3, "Triple");
    checkInfo(&Empty_info, CLOSURE_CON, 0, 0, "Empty");
    assert_true((one_info.flags & INFO_STATIC) && (caf_info.flags & INFO_STATIC) && (Empty_info.flags & INFO_STATIC));
    assert_false((lambda_info.flags | thunk_info.flags | Triple_info.flags) & INFO_STATIC);
    assert_int_equal(Triple_info.tag, 3);
}

static void testEachKindRuns(void **state)
{
    HaskellObj free[] = { small(10), small(11), small(12) };

    assert_int_equal(runInt(&action_closure), 5);
    assert_int_equal(runInt(rts_apply(cap, &action1_closure, small(8))), 8);
    assert_int_equal(runInt(rts_mkClosure(cap, &lambdaIO_info, free)), 12);
    assert_int_equal(runInt(rts_apply(cap, &action1_closure, &caf_closure)), 6);
    assert_int_equal(runInt(rts_apply(cap, &action1_closure, rts_mkClosure(cap, &thunk_info, free))), 10);
    HaskellObj applied = rts_apply(cap, rts_mkClosure(cap, &lambda_info, free), small(0));
    assert_int_equal(runInt(rts_apply(cap, &action1_closure, applied)), 11);
}

static void testConstructors(void **state)
{
    HaskellObj t = Triple_new(cap, small(1), CAPSTAN_TRUE, &Empty_closure), box = Box_new(cap, t);

    assert_true(CAPSTAN_IS(Triple, t) && CAPSTAN_IS(Box, box) && !CAPSTAN_IS(Box, t) && CAPSTAN_IS(Empty, &Empty_closure));
    assert_ptr_equal(CAPSTAN_GET(Triple, CAPSTAN_GET(Box, box, content), y), CAPSTAN_TRUE);
    assert_int_equal(rts_conTag(box), 4);
    assert_ptr_equal(CAPSTAN_GET(Triple, &fixed_closure, z), &one_closure);
    assert_int_equal(Triple_z, 2);
    assert_int_equal(Box_fields, 1);
}

/* ---- Field checks ---- */

static void testFieldChecks(void **state)
{
#ifndef CAPSTAN_DEBUG
    skip();
#else
    assert_ptr_equal(CAPSTAN_GET(Triple, Box_new(cap, CAPSTAN_UNIT), x), CAPSTAN_POISON);
    assert_int_equal(errors, 1);
    assert_int_equal(lastError, RTS_WRONG_KIND);
    assert_ptr_equal(CAPSTAN_GET(Triple, small(4), x), CAPSTAN_POISON);
    assert_ptr_equal(CAPSTAN_GET(Box, &one_closure, content), CAPSTAN_POISON);
    assert_ptr_equal(CAPSTAN_GET(Box, CAPSTAN_POISON, content), CAPSTAN_POISON);
    assert_int_equal(CAPSTAN_GET(Triple, &fixed_closure, x), small(1));
    assert_in_range(errors, 3, 4); /* of poison there may be nothing to say */
#endif
}

/* ---- Roots ---- */

/* A list of n..1, with a collection every few cells: each cell's successor is in a root when it is made. */
static HaskellObj buildList(Stack *stack, HsInt n)
{
    HaskellObj list = &Empty_closure;

    CAPSTAN_ROOTS(stack, list);
    for (HsInt i = 1; i <= n; i++) {
        HaskellObj number = rts_mkInt(stack->cap, INT64_MAX - i);
        list = Triple_new(stack->cap, number, small(i), list);
        if (i % 16 == 0) collect(stack);
    }
    CAPSTAN_UNROOT(stack);
    return list;
}

static bool checkList(HaskellObj list, HsInt n)
{
    for (; n > 0; n--, list = CAPSTAN_GET(Triple, list, z))
        if (!CAPSTAN_IS(Triple, list) || rts_getInt(CAPSTAN_GET(Triple, list, x)) != INT64_MAX - n ||
            CAPSTAN_GET(Triple, list, y) != small(n))
            return false;
    return CAPSTAN_IS(Empty, list);
}

CAPSTAN_IO(listAcrossCollections, length)
{
    HsInt n = rts_intValue(rts_force(stack, length));
    HaskellObj list = buildList(stack, n);
    CAPSTAN_ROOTS(stack, list);
    collect(stack);
    collect(stack);
    CAPSTAN_UNROOT(stack);
    return rts_mkBool(stack->cap, checkList(list, n));
}

static void testRootsAcrossCollections(void **state)
{
    assert_int_equal(rts_getBool(runTo(Success, rts_apply(cap, &listAcrossCollections_closure, small(200)))), 1);
}

/* A full binary tree, each level with roots of its own. */
static HaskellObj buildTree(Stack *stack, int depth, HsInt label)
{
    HaskellObj left = &Empty_closure, right = &Empty_closure, number = CAPSTAN_UNIT;

    if (depth == 0) return &Empty_closure;
    CAPSTAN_ROOTS(stack, left, right, number);
    number = rts_mkInt(stack->cap, INT64_MIN + label);
    left = buildTree(stack, depth - 1, 2 * label);
    if (label % 5 == 0) collect(stack);
    right = buildTree(stack, depth - 1, 2 * label + 1);
    {
        HaskellObj twice = number;
        CAPSTAN_ROOTS(stack, twice);
        if (label % 7 == 0) collect(stack);
        if (twice != number) number = CAPSTAN_POISON;
        CAPSTAN_UNROOT(stack);
    }
    CAPSTAN_UNROOT(stack);
    return Triple_new(stack->cap, left, number, right);
}

static HsInt countTree(HaskellObj tree, HsInt label)
{
    if (CAPSTAN_IS(Empty, tree)) return 0;
    if (!CAPSTAN_IS(Triple, tree) || rts_getInt(CAPSTAN_GET(Triple, tree, y)) != INT64_MIN + label) return INT32_MIN;
    return 1 + countTree(CAPSTAN_GET(Triple, tree, x), 2 * label) + countTree(CAPSTAN_GET(Triple, tree, z), 2 * label + 1);
}

CAPSTAN_IO(treeAcrossCollections)
{
    CapstanRoots *before = stack->roots;
    HaskellObj tree = buildTree(stack, 9, 1);
    if (stack->roots != before) return small(-1);
    return rts_int(stack, countTree(tree, 1));
}

static void testRootsNest(void **state)
{
    assert_int_equal(runInt(&treeAcrossCollections_closure), 511);
}

/* Between rts_lock and rts_unlock the capability takes the stack's place. */
static void testRootsOfC(void **state)
{
    HaskellObj a = rts_mkInt(cap, INT64_MAX), b = rts_mkString(cap, "kept"), moved = b;

    CAPSTAN_ROOTS(cap, a, b);
    for (int i = 0; i < 5; i++) {
        HaskellObj c = Box_new(cap, a);
        CAPSTAN_ROOTS(cap, c);
        assert_int_equal(rts_getBool(runTo(Success, rts_apply(cap, &listAcrossCollections_closure, small(40)))), 1);
        assert_ptr_equal(CAPSTAN_GET(Box, c, content), a);
        CAPSTAN_UNROOT(cap);
    }
    assert_int_equal(rts_getInt(a), INT64_MAX);
    assert_memory_equal(rts_bytes(b, NULL), "kept", 4);
#ifndef CAPSTAN_TORTURE /* where it may have moved there and back */
    assert_ptr_not_equal(b, moved); /* rootcheck: kept unrooted to see that the object moves */
#else
    (void)moved;
#endif
    CAPSTAN_UNROOT(cap);
}

/* Arguments and self are moved under a function that does not root them, and kept for one that does. */
CAPSTAN_FUN(keepsArguments, a, b, c)
{
    CAPSTAN_ROOTS(stack, self, a, b, c);
    collect(stack);
    a = rts_force(stack, a);
    collect(stack);
    CAPSTAN_UNROOT(stack);
    return rts_mkBool(stack->cap, rts_getInt(a) == INT64_MAX && rts_getInt(b) == INT64_MIN && c == CAPSTAN_UNIT &&
                                      rts_info(self) == &keepsArguments_info);
}

CAPSTAN_IO(callsKeeper)
{
    HaskellObj kept = rts_call(stack, &keepsArguments_closure, rts_mkInt(stack->cap, INT64_MAX),
                               rts_mkInt(stack->cap, INT64_MIN), CAPSTAN_UNIT);
    return kept;
}

static void testArgumentsAsRoots(void **state)
{
    assert_int_equal(rts_getBool(runTo(Success, &callsKeeper_closure)), 1);
}

/* ---- Tail calls ---- */

static uintptr_t lowest, highest;

static void noteDepth(void)
{
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);

    if (here < lowest) lowest = here;
    if (here > highest) highest = here;
}

static void forgetDepth(void)
{
    lowest = UINTPTR_MAX;
    highest = 0;
}

CAPSTAN_FUN(countDown, n, sum)
{
    HsInt left = rts_smallIntValue(n), total = rts_smallIntValue(sum);
    if ((left & 0xfff) == 0) noteDepth();
    if (left == 0) return sum;
    return rts_tailCall(stack, &countDown_closure, small(left - 1), small(total + 1));
}

static void testTailCalls(void **state)
{
    const HsInt rounds = isShort() ? 1000000 : 100000000;
    HaskellObj call = rts_apply(cap, rts_apply(cap, &countDown_closure, small(rounds)), small(0));

    forgetDepth();
    assert_int_equal(runInt(rts_apply(cap, &action1_closure, call)), rounds);
    assert_true(highest - lowest < 4096);
}

/* Between functions of one and of three arguments, with allocation, under a small nursery. */
CAPSTAN_EXTERN(odd);

CAPSTAN_FUN(even, n)
{
    HsInt left = rts_getInt(n) - INT64_MIN;
    noteDepth();
    if (left == 0) return CAPSTAN_TRUE;
    return rts_tailCall(stack, &odd_closure, rts_mkInt(stack->cap, INT64_MIN + left - 1), CAPSTAN_UNIT, small(1));
}

CAPSTAN_FUN(odd, n, unit, one)
{
    HsInt left = rts_getInt(n) - INT64_MIN;
    noteDepth();
    if (left == 0) return CAPSTAN_FALSE;
    return rts_tailCall(stack, &even_closure, rts_mkInt(stack->cap, INT64_MIN + left - 1));
}

static void testMutualTailCalls(void **state)
{
    const HsInt rounds = isShort() ? 20001 : 1000001;
    HaskellObj call = rts_apply(cap, &even_closure, rts_mkInt(cap, INT64_MIN + rounds));

    forgetDepth();
    assert_ptr_equal(runTo(Success, rts_apply(cap, &action1_closure, call)), CAPSTAN_FALSE);
    assert_true(highest - lowest < 4096);
}

CAPSTAN_FUN(digits, a, b, c)
{
    return rts_int(stack, rts_intValue(a) * 100 + rts_intValue(b) * 10 + rts_intValue(c));
}
CAPSTAN_FUN(digitsOf, a)
{
    HaskellObj pap = rts_call(stack, &digits_closure, a);
    return pap;
}
CAPSTAN_FUN(tooMany, a, b, c) { return rts_tailCall(stack, &digitsOf_closure, a, b, c); }
CAPSTAN_FUN(tooFew, a, b) { return rts_tailCall(stack, &digits_closure, a, b); }
CAPSTAN_FUN(toPap, a, b, c)
{
    CAPSTAN_ROOTS(stack, b, c);
    HaskellObj pap = rts_call(stack, &digits_closure, a);
    CAPSTAN_UNROOT(stack);
    return rts_tailCall(stack, pap, b, c);
}
CAPSTAN_FUN(toThunk, a, b)
{
    HaskellObj lazy = rts_apply(stack->cap, &digits_closure, a);
    return rts_tailCall(stack, lazy, b, small(9));
}

static HaskellObj apply3(HaskellObj f, HsInt a, HsInt b, HsInt c)
{
    HaskellObj call = rts_apply(cap, rts_apply(cap, rts_apply(cap, f, small(a)), small(b)), small(c));
    return rts_apply(cap, &action1_closure, call);
}

static void testTailCallArities(void **state)
{
    assert_int_equal(runInt(apply3(&tooMany_closure, 1, 2, 3)), 123);
    assert_int_equal(runInt(apply3(&tooFew_closure, 4, 5, 6)), 456);
    assert_int_equal(runInt(apply3(&toPap_closure, 7, 8, 9)), 789);
    HaskellObj call = rts_apply(cap, rts_apply(cap, &toThunk_closure, small(1)), small(2));
    assert_int_equal(runInt(rts_apply(cap, &action1_closure, call)), 129);
}

/* An IO loop ends by a tail call as well; an exception out of one leaves nothing behind. */
CAPSTAN_IO(loopAndRaise, n)
{
    if (n == small(0)) rts_raiseError(stack, "at the end");
    return rts_tailCall(stack, &loopAndRaise_closure, small(rts_smallIntValue(n) - 1), CAPSTAN_WORLD);
}

static void testRaiseFromTailCalls(void **state)
{
    runTo(Killed, rts_apply(cap, &loopAndRaise_closure, small(1000)));
    assert_non_null(strstr(exceptionText(), "at the end"));
    assert_int_equal(runInt(apply3(&tooMany_closure, 1, 2, 3)), 123);
}

/* ---- Exceptions ---- */

static HaskellObj raiseArg(Stack *stack, void *arg)
{
    rts_raise(stack, small((intptr_t)arg));
}

static HaskellObj returnArg(Stack *stack, void *arg)
{
    return small((intptr_t)arg);
}

CAPSTAN_IO(tries)
{
    HaskellObj result;
    TrapFrame *trap = stack->trap;
    if (!rts_try(stack, returnArg, (void *)1, &result) || result != small(1)) return CAPSTAN_FALSE;
    if (rts_try(stack, raiseArg, (void *)2, &result) || result != small(2)) return CAPSTAN_FALSE;
    if (stack->trap != trap) return CAPSTAN_FALSE;
    for (intptr_t i = 0; i < 1000; i++)
        if (rts_try(stack, i % 2 ? raiseArg : returnArg, (void *)i, &result) != !(i % 2) || result != small(i))
            return CAPSTAN_FALSE;
    return CAPSTAN_TRUE;
}

static void testTry(void **state)
{
    assert_ptr_equal(runTo(Success, &tries_closure), CAPSTAN_TRUE);
}

/* Raises through frames with roots and through frames of thunks; the chain is that of the try again. */
CAPSTAN_FUN(raisesDeep, depth)
{
    HsInt d = rts_intValue(rts_force(stack, depth));
    HaskellObj junk = rts_mkInt(stack->cap, INT64_MAX), result;
    if (d == 0) rts_raise(stack, rts_mkString(stack->cap, "from the deep"));
    CAPSTAN_ROOTS(stack, junk);
    if (d % 8 == 0) collect(stack);
    result = rts_force(stack, rts_apply(stack->cap, &raisesDeep_closure, small(d - 1)));
    CAPSTAN_UNROOT(stack);
    return result;
}

static HaskellObj goDeep(Stack *stack, void *arg)
{
    return rts_call(stack, &raisesDeep_closure, small(50));
}

CAPSTAN_IO(catchesDeep)
{
    HaskellObj kept = rts_mkString(stack->cap, "kept"), exception;
    CAPSTAN_ROOTS(stack, kept);
    CapstanRoots *roots = stack->roots;
    unsigned mask = stack->mask;
    bool done = rts_try(stack, goDeep, NULL, &exception);
    if (done || stack->roots != roots || stack->mask != mask) rts_raiseError(stack, "not as before");
    CAPSTAN_UNROOT(stack);
    bool same = memcmp(rts_bytes(kept, NULL), "kept", 4) == 0 && memcmp(rts_bytes(exception, NULL), "from the deep", 13) == 0;
    return rts_mkBool(stack->cap, same);
}

static void testRaiseThroughRoots(void **state)
{
    for (int i = 0; i < 10; i++) assert_ptr_equal(runTo(Success, &catchesDeep_closure), CAPSTAN_TRUE);
}

static HaskellObj tryInside(Stack *stack, void *arg)
{
    HaskellObj exception;
    intptr_t level = (intptr_t)arg;

    if (level == 0) rts_raise(stack, small(0));
    if (rts_try(stack, tryInside, (void *)(level - 1), &exception)) return CAPSTAN_POISON;
    rts_raise(stack, small(rts_smallIntValue(exception) + 1));
}

CAPSTAN_IO(nestedTries)
{
    HaskellObj exception;
    if (rts_try(stack, tryInside, (void *)40, &exception)) return CAPSTAN_FALSE;
    return exception;
}

static void testNestedTries(void **state)
{
    assert_int_equal(runInt(&nestedTries_closure), 40);
}

/* ---- catch ---- */

CAPSTAN_IO(raisesIt, x)
{
    rts_raise(stack, x);
}
CAPSTAN_IO(handler, exception)
{
    HsInt n = rts_intValue(rts_force(stack, exception));
    return rts_int(stack, n + 1000);
}
CAPSTAN_IO(badHandler, exception)
{
    rts_raiseError(stack, "handler %d", (int)rts_intValue(exception));
}

static HaskellObj catchOf(HaskellObj body, HaskellObj handle)
{
    return rts_apply(cap, rts_apply(cap, &capstan_catch_closure, body), handle);
}

static void testCatch(void **state)
{
    assert_int_equal(runInt(catchOf(&action_closure, &handler_closure)), 5);
    assert_int_equal(runInt(catchOf(rts_apply(cap, &raisesIt_closure, small(7)), &handler_closure)), 1007);
    runTo(Killed, catchOf(rts_apply(cap, &raisesIt_closure, small(7)), &badHandler_closure));
    assert_non_null(strstr(exceptionText(), "handler 7"));
    HaskellObj inner = catchOf(rts_apply(cap, &raisesIt_closure, small(1)), &raisesIt_closure);
    assert_int_equal(runInt(catchOf(inner, &handler_closure)), 1001);
}

/* The handler is not under its own catch. */
static void testCatchNests(void **state)
{
    HaskellObj body = rts_apply(cap, &raisesIt_closure, small(0));

    for (int i = 0; i < 50; i++) body = catchOf(body, i % 2 ? &raisesIt_closure : &handler_closure);
    HaskellObj result = runTo(Success, body);
    assert_int_equal(rts_getInt(result), 1000);
}

CAPSTAN_IO(catchFromManaged)
{
    HaskellObj raising = rts_call(stack, &raisesIt_closure, small(3));
    return rts_call(stack, &capstan_catch_closure, raising, &handler_closure, CAPSTAN_WORLD);
}

static void testCatchFromManaged(void **state)
{
    assert_int_equal(runInt(&catchFromManaged_closure), 1003);
}

static void testAnyValueCanBeRaised(void **state)
{
    runTo(Killed, rts_apply(cap, &raisesIt_closure, small(12)));
    assert_int_equal(rts_getInt(rts_getException(cap)), 12);
    runTo(Killed, rts_apply(cap, &raisesIt_closure, CAPSTAN_UNIT));
    assert_ptr_equal(rts_getException(cap), CAPSTAN_UNIT);
    runTo(Killed, rts_apply(cap, &raisesIt_closure, Triple_new(cap, small(1), small(2), small(3))));
    assert_true(CAPSTAN_IS(Triple, rts_getException(cap)));
    assert_true(strlen(exceptionText()) > 0);
}

/* ---- Calls at every arity ---- */

/* sumN a1 ... aN = 1 a1 + 2 a2 + ... */
#define P(i) , a##i
#define T(i) + (i) * rts_intValue(a##i)
#define SUM(n, params, terms) \
    CAPSTAN_SUM(sum##n, (0 terms), params)
#define CAPSTAN_SUM(fname, value, ...) SUM_CALL(CAPSTAN_FUN, fname __VA_ARGS__) { return rts_int(stack, value); }
#define SUM_CALL(m, ...) m(__VA_ARGS__)
#define L1(F) F(1)
#define L2(F) L1(F) F(2)
#define L3(F) L2(F) F(3)
#define L4(F) L3(F) F(4)
#define L5(F) L4(F) F(5)
#define L6(F) L5(F) F(6)
#define L7(F) L6(F) F(7)
#define L8(F) L7(F) F(8)
#define L9(F) L8(F) F(9)
#define L10(F) L9(F) F(10)
#define L11(F) L10(F) F(11)
#define L12(F) L11(F) F(12)
#define L13(F) L12(F) F(13)
#define L14(F) L13(F) F(14)
#define L15(F) L14(F) F(15)
#define L16(F) L15(F) F(16)
#define L17(F) L16(F) F(17)
#define L18(F) L17(F) F(18)
#define L19(F) L18(F) F(19)
#define L20(F) L19(F) F(20)
#define L21(F) L20(F) F(21)
#define L22(F) L21(F) F(22)
#define L23(F) L22(F) F(23)
#define L24(F) L23(F) F(24)
#define DEFINE_SUM(n) SUM(n, L##n(P), L##n(T))
DEFINE_SUM(1) DEFINE_SUM(2) DEFINE_SUM(3) DEFINE_SUM(4) DEFINE_SUM(5) DEFINE_SUM(6)
DEFINE_SUM(7) DEFINE_SUM(8) DEFINE_SUM(9) DEFINE_SUM(10) DEFINE_SUM(11) DEFINE_SUM(12)
DEFINE_SUM(13) DEFINE_SUM(14) DEFINE_SUM(15) DEFINE_SUM(16) DEFINE_SUM(17) DEFINE_SUM(18)
DEFINE_SUM(19) DEFINE_SUM(20) DEFINE_SUM(21) DEFINE_SUM(22) DEFINE_SUM(23) DEFINE_SUM(24)

#define CLOSURE_OF(n) &sum##n##_closure,
static StgClosure *const sums[] = { L24(CLOSURE_OF) };

enum { ARITIES = 24 };

/* f applied to base + 1 ... base + n in the pieces [0, cut) and [cut, n). */
static HaskellObj callInPieces(Stack *stack, HaskellObj f, size_t n, size_t cut, HsInt base)
{
    HaskellObj args[ARITIES];

    for (size_t i = 0; i < n; i++) args[i] = small(base + (HsInt)i + 1);
    if (cut > 0) f = rts_callN(stack, f, cut, args);
    if (cut < n) f = rts_callN(stack, f, n - cut, args + cut);
    return f;
}

static HsInt expectedSum(HsInt n, HsInt base)
{
    HsInt sum = 0;

    for (HsInt i = 1; i <= n; i++) sum += i * (base + i);
    return sum;
}

/* The numbers are immediate, so that nothing needs a root. */
CAPSTAN_IO(callsAtEveryArity)
{
    for (size_t n = 1; n <= ARITIES; n++)
        for (size_t cut = 0; cut <= n; cut++) {
            HaskellObj result = callInPieces(stack, sums[n - 1], n, cut, (HsInt)cut * 1000);
            if (result != small(expectedSum((HsInt)n, (HsInt)cut * 1000))) return small((HsInt)(n * 100 + cut));
        }
    return small(0);
}

static void testEveryArity(void **state)
{
    assert_int_equal(runInt(&callsAtEveryArity_closure), 0);
}

static void testEveryArityByApply(void **state)
{
    for (size_t n = 1; n <= ARITIES; n++) {
        HaskellObj call = sums[n - 1];
        for (size_t i = 1; i <= n; i++) call = rts_apply(cap, call, small((HsInt)i));
        assert_int_equal(runInt(rts_apply(cap, &action1_closure, call)), expectedSum((HsInt)n, 0));
    }
}

/* give a b = b's sum function: twelve arguments too many. */
CAPSTAN_FUN(give12, x)
{
    return &sum12_closure;
}

CAPSTAN_IO(callsTooMany)
{
    HaskellObj args[13] = { CAPSTAN_UNIT };
    for (int i = 1; i < 13; i++) args[i] = small(i);
    return rts_callN(stack, &give12_closure, 13, args);
}

/* Calling with no arguments is evaluating the function. */
CAPSTAN_IO(callsWithNone)
{
    return rts_callN(stack, &caf_closure, 0, NULL);
}

static void testOddArities(void **state)
{
    assert_int_equal(runInt(&callsTooMany_closure), expectedSum(12, 0));
    assert_int_equal(runInt(&callsWithNone_closure), 6);
}

CAPSTAN_IO(runsActions)
{
    HsInt sum = 0;
    for (int i = 0; i < 100; i++) sum += rts_intValue(rts_runIO(stack, &action_closure));
    return rts_int(stack, sum);
}

static void testRunIO(void **state)
{
    assert_int_equal(runInt(&runsActions_closure), 500);
}

/* ---- Calls out, polls ---- */

static void *setErrno(void *arg)
{
    hs_perform_gc();
    errno = E2BIG;
    return (char *)arg + 1;
}

CAPSTAN_IO(callsOut)
{
    char bytes[2];
    errno = 0;
    void *result = rts_safeCall(stack, setErrno, bytes);
    /* rootcheck: an in-call's thread stays on its OS thread, and whether errno is kept is the question */
    return rts_mkBool(stack->cap, result == bytes + 1 && errno == E2BIG);
}

static void testSafeCall(void **state)
{
    assert_ptr_equal(runTo(Success, &callsOut_closure), CAPSTAN_TRUE);
}

/* Garbage by the gigabyte in a loop whose only safepoint is a poll: the nursery is 256 KiB, so collections come. */
CAPSTAN_IO(churns)
{
    HaskellObj list = &Empty_closure;
    const HsInt rounds = isShort() ? 200000 : 2000000;
    CAPSTAN_ROOTS(stack, list);
    for (HsInt i = 0; i < rounds; i++) {
        list = i % 100 == 0 ? &Empty_closure : list;
        list = Triple_new(stack->cap, small(i), rts_mkInt(stack->cap, INT64_MAX), list);
        rts_poll(stack);
    }
    CAPSTAN_UNROOT(stack);
    HsInt length = 0;
    for (; CAPSTAN_IS(Triple, list); list = CAPSTAN_GET(Triple, list, z)) length++;
    return rts_int(stack, length);
}

static void testPoll(void **state)
{
    RtsCounts before, after;

    rts_getCounts(&before);
    assert_int_equal(runInt(&churns_closure), 100);
    rts_getCounts(&after);
    assert_true(after.collections > before.collections + 10);
    assert_true(after.heap_bytes < (64u << 20));
}

/* The form of it between rts_lock and rts_unlock. */
static void testPollCap(void **state)
{
    HaskellObj kept = rts_mkString(cap, "kept");
    RtsCounts before, after;

    rts_getCounts(&before);
    CAPSTAN_ROOTS(cap, kept);
    for (int i = 0; i < 200000; i++) {
        rts_mkBytes(cap, NULL, 40);
        rts_pollCap(&cap);
    }
    assert_memory_equal(rts_bytes(kept, NULL), "kept", 4);
    CAPSTAN_UNROOT(cap);
    rts_getCounts(&after);
    assert_true(after.collections > before.collections);
}

#define test(name) cmocka_unit_test_setup_teardown(name, lockIt, unlockIt)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(testInfoTables),
        test(testEachKindRuns),
        test(testConstructors),
        test(testFieldChecks),
        test(testRootsAcrossCollections),
        test(testRootsNest),
        test(testRootsOfC),
        test(testArgumentsAsRoots),
        test(testTailCalls),
        test(testMutualTailCalls),
        test(testTailCallArities),
        test(testRaiseFromTailCalls),
        test(testTry),
        test(testRaiseThroughRoots),
        test(testNestedTries),
        test(testCatch),
        test(testCatchNests),
        test(testCatchFromManaged),
        test(testAnyValueCanBeRaised),
        test(testEveryArity),
        test(testEveryArityByApply),
        test(testOddArities),
        test(testRunIO),
        test(testSafeCall),
        test(testPoll),
        test(testPollCap),
    };

    return cmocka_run_group_tests(tests, setUp, tearDown);
}

/* exception: longer than a file should be: one case a rule of evaluation, all on the same few closures. */
/*
 * Evaluation from C: application at every arity, thunks, update frames, what an exception leaves in a thunk, who waits
 * for whom, and what each rts_eval function means.
 */
#include <Rts.h>
#include <rts/Managed.h>

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- The runtime of these tests: started and ended around each ---- */

static _Atomic unsigned errors;
static Capability *cap;

static struct {
    unsigned count;
    SchedulerStatus status;
    char site[32], text[256];
} seen;

static void noteError(void *ctx, RtsStatus status, const char *message)
{
    atomic_fetch_add(&errors, 1);
}

static void noteStatus(void *ctx, const char *site, Capability *c, SchedulerStatus status, const char *text)
{
    seen.count++;
    seen.status = status;
    snprintf(seen.site, sizeof seen.site, "%s", site);
    snprintf(seen.text, sizeof seen.text, "%s", text);
}

static int start(unsigned capabilities)
{
    RtsConfig config = RTS_CONFIG_INIT;

    config.capabilities = capabilities;
    config.verify_heap = true;
    config.poison_from_space = true;
    config.errorHook = noteError;
    config.statusHook = noteStatus;
    memset(&seen, 0, sizeof seen);
    atomic_store(&errors, 0);
    return rts_start(&config, NULL, 0) == RTS_OK ? 0 : -1;
}

static int setUp(void **state)
{
    if (start(2) != 0) return -1;
    cap = rts_lock();
    return rts_isDead(cap) ? -1 : 0;
}

static int tearDown(void **state)
{
    rts_unlock(cap);
    hs_exit();
    return 0;
}

/* Evaluates, and checks the status. */
static HaskellObj evalTo(SchedulerStatus status, HaskellObj v)
{
    HaskellObj result = CAPSTAN_UNIT;

    rts_eval(&cap, v, &result);
    assert_int_equal(rts_getSchedStatus(cap), status);
    if (status != Success) assert_ptr_equal(result, CAPSTAN_POISON);
    return result;
}

static HsInt evalInt(HaskellObj v)
{
    return rts_getInt(evalTo(Success, v));
}

static const char *exceptionText(void)
{
    static char text[256];

    rts_showException(cap, rts_getException(cap), text, sizeof text);
    return text;
}

/* Through a safe call, because who asks for a collection must hold no capability. */
static void *collect(void *arg)
{
    hs_perform_gc();
    return NULL;
}

/* ---- Functions ---- */

static _Atomic unsigned runs; /* how often the body of a counted function ran */

#define small CAPSTAN_SMALL_INT

CAPSTAN_FUN(add, x, y)
{
    CAPSTAN_ROOTS(stack, x, y);
    x = rts_force(stack, x);
    y = rts_force(stack, y);
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, rts_intValue(x) + rts_intValue(y));
}

CAPSTAN_FUN(countedAdd, x, y)
{
    atomic_fetch_add(&runs, 1);
    return rts_tailCall(stack, &add_closure, x, y);
}

/* 100 a + 10 b + c, so that the order of the arguments shows. */
CAPSTAN_FUN(digits, a, b, c)
{
    CAPSTAN_ROOTS(stack, a, b, c);
    a = rts_force(stack, a);
    b = rts_force(stack, b);
    c = rts_force(stack, c);
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, rts_intValue(a) * 100 + rts_intValue(b) * 10 + rts_intValue(c));
}

CAPSTAN_FUN(constant, x, ignored)
{
    return rts_force(stack, x);
}

/* Takes one argument, gives a function of three. */
CAPSTAN_FUN(digitsAfter, ignored)
{
    return &digits_closure;
}

CAPSTAN_LAMBDA(addFree, 1, x)
{
    CAPSTAN_ROOTS(stack, self);
    HsInt n = rts_intValue(rts_force(stack, x));
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, n + rts_intValue(rts_freeVar(self, 0)));
}

/* A function that makes its result at run time. */
CAPSTAN_FUN(adder, n)
{
    n = rts_force(stack, n);
    return rts_mkClosure(stack->cap, &addFree_info, &n);
}

static HaskellObj apply2(HaskellObj f, HaskellObj a, HaskellObj b)
{
    return rts_apply(cap, rts_apply(cap, f, a), b);
}

/* ---- Application ---- */

static void testNestedApply(void **state)
{
    HaskellObj sum = small(0);

    for (HsInt i = 1; i <= 12; i++) sum = apply2(&add_closure, rts_mkInt(cap, i), sum);
    assert_int_equal(evalInt(sum), 78);
}

static void testDeepApply(void **state)
{
    HaskellObj left = small(0), right = small(0);

    for (HsInt i = 1; i <= 500; i++) {
        left = apply2(&add_closure, left, small(i));
        right = apply2(&add_closure, small(i), right);
    }
    assert_int_equal(evalInt(apply2(&add_closure, left, right)), 2 * 125250);
}

static void testUnderSaturated(void **state)
{
    HaskellObj pap = evalTo(Success, rts_apply(cap, &digits_closure, small(1)));

    assert_int_equal(rts_info(pap)->kind, CLOSURE_PAP);
    pap = evalTo(Success, rts_apply(cap, pap, small(2)));
    assert_int_equal(rts_info(pap)->kind, CLOSURE_PAP);
    assert_int_equal(evalInt(rts_apply(cap, pap, small(3))), 123);
}

/* One partial application may be applied many times. */
static void testSharedPap(void **state)
{
    HaskellObj pap = evalTo(Success, apply2(&digits_closure, small(4), small(5)));

    CAPSTAN_ROOTS(cap, pap);
    for (HsInt i = 0; i < 10; i++) assert_int_equal(evalInt(rts_apply(cap, pap, small(i))), 450 + i);
    CAPSTAN_UNROOT(cap);
}

static void testOverSaturated(void **state)
{
    HaskellObj f = rts_apply(cap, &digitsAfter_closure, CAPSTAN_UNIT);

    assert_int_equal(evalInt(rts_apply(cap, apply2(f, small(7), small(8)), small(9))), 789);
    assert_int_equal(evalInt(apply2(&adder_closure, small(40), small(2))), 42);
}

static void testFunctionAsArgument(void **state)
{
    HaskellObj f = rts_apply(cap, rts_apply(cap, &constant_closure, &add_closure), CAPSTAN_UNIT);

    assert_int_equal(evalInt(apply2(f, small(20), small(22))), 42);
}

static void testNotAFunction(void **state)
{
    evalTo(Killed, rts_apply(cap, small(3), small(4)));
    assert_ptr_equal(rts_getException(cap), &capstan_WrongKind_closure);
    evalTo(Killed, rts_apply(cap, rts_mkString(cap, "f"), small(4)));
    assert_int_equal(evalInt(apply2(&add_closure, small(1), small(2))), 3);
}

static void testEvalOfValues(void **state)
{
    HaskellObj text;
    char *copy;

    assert_int_equal(evalInt(small(5)), 5);
    assert_ptr_equal(evalTo(Success, CAPSTAN_UNIT), CAPSTAN_UNIT);
    assert_ptr_equal(evalTo(Success, &add_closure), &add_closure);
    text = rts_mkString(cap, "as it is");
    copy = rts_getString(evalTo(Success, text));
    assert_string_equal(copy, "as it is");
    free(copy);
}

/* ---- Thunks ---- */

static void testSharedThunk(void **state)
{
    HaskellObj thunk = apply2(&countedAdd_closure, small(1), small(2));

    atomic_store(&runs, 0);
    assert_int_equal(evalInt(apply2(&add_closure, thunk, apply2(&add_closure, thunk, thunk))), 9);
    assert_int_equal(runs, 1);
}

static void testThunkAcrossEvaluations(void **state)
{
    HaskellObj thunk = apply2(&countedAdd_closure, small(1), rts_mkInt(cap, INT64_MAX - 1));

    atomic_store(&runs, 0);
    CAPSTAN_ROOTS(cap, thunk);
    for (int i = 0; i < 5; i++) assert_int_equal(evalInt(thunk), INT64_MAX);
    CAPSTAN_UNROOT(cap);
    assert_int_equal(runs, 1);
}

/* A chain in which each thunk needs the next: one update frame each. */
static void testUpdateFrames(void **state)
{
    HaskellObj chain = small(0), first = chain;

    atomic_store(&runs, 0);
    for (HsInt i = 1; i <= 200; i++) {
        chain = apply2(&countedAdd_closure, small(i), chain);
        if (i == 100) first = chain;
    }
    CAPSTAN_ROOTS(cap, chain, first);
    assert_int_equal(evalInt(chain), 20100);
    assert_int_equal(evalInt(first), 5050);
    assert_int_equal(evalInt(chain), 20100);
    CAPSTAN_UNROOT(cap);
    assert_int_equal(runs, 200);
}

CAPSTAN_THUNK(freeSum, 2)
{
    HaskellObj a = rts_thunkVar(self, 0), b = rts_thunkVar(self, 1);
    atomic_fetch_add(&runs, 1);
    return rts_tailCall(stack, &add_closure, a, b);
}

static void testThunkClosure(void **state)
{
    HaskellObj free[] = { small(30), small(12) };
    HaskellObj thunk = rts_mkClosure(cap, &freeSum_info, free);

    atomic_store(&runs, 0);
    CAPSTAN_ROOTS(cap, thunk);
    assert_int_equal(evalInt(thunk), 42);
    assert_int_equal(evalInt(thunk), 42);
    CAPSTAN_UNROOT(cap);
    assert_int_equal(runs, 1);
}

/* ---- Exceptions and thunks ---- */

CAPSTAN_FUN(failing, x)
{
    rts_raiseError(stack, "run %u of %s", atomic_fetch_add(&runs, 1) + 1, "failing");
}

static void testErrorText(void **state)
{
    char small_buffer[4];

    atomic_store(&runs, 0);
    evalTo(Killed, rts_apply(cap, &failing_closure, CAPSTAN_UNIT));
    assert_true(CAPSTAN_IS(capstan_ErrorCall, rts_getException(cap)));
    assert_non_null(strstr(exceptionText(), "run 1 of failing"));
    size_t length = rts_showException(cap, rts_getException(cap), small_buffer, sizeof small_buffer);
    assert_int_equal(length, strlen(exceptionText()));
    assert_int_equal(strlen(small_buffer), 3);
    assert_int_equal(strncmp(small_buffer, exceptionText(), 3), 0);
    assert_int_equal(rts_showException(cap, rts_getException(cap), NULL, 0), length);
}

/* An ordinary exception is the thunk's result: raised again, not found out again. */
static void testExceptionIsShared(void **state)
{
    HaskellObj thunk = rts_apply(cap, &failing_closure, CAPSTAN_UNIT);

    atomic_store(&runs, 0);
    CAPSTAN_ROOTS(cap, thunk);
    for (int i = 0; i < 3; i++) {
        evalTo(Killed, thunk);
        assert_non_null(strstr(exceptionText(), "run 1 of"));
    }
    CAPSTAN_UNROOT(cap);
    assert_int_equal(runs, 1);
    assert_int_equal(evalInt(small(1)), 1);
    assert_ptr_equal(rts_getException(cap), CAPSTAN_POISON);
}

/* Every thunk that the exception passed has it, the innermost as well as those around. */
static void testExceptionThroughFrames(void **state)
{
    HaskellObj inner = rts_apply(cap, &failing_closure, CAPSTAN_UNIT);
    HaskellObj middle = apply2(&add_closure, small(1), inner), outer = apply2(&add_closure, middle, small(2));

    atomic_store(&runs, 0);
    CAPSTAN_ROOTS(cap, inner, middle, outer);
    evalTo(Killed, outer);
    evalTo(Killed, inner);
    evalTo(Killed, middle);
    evalTo(Killed, outer);
    CAPSTAN_UNROOT(cap);
    assert_int_equal(runs, 1);
}

/* The first two runs end as the runtime's own troubles do; the third gives a value. */
CAPSTAN_FUN(troubled, trouble, value)
{
    CAPSTAN_ROOTS(stack, trouble, value);
    trouble = rts_force(stack, trouble);
    value = rts_force(stack, value);
    CAPSTAN_UNROOT(stack);
    if (atomic_fetch_add(&runs, 1) < 2) rts_raise(stack, trouble);
    return value;
}

static void checkRearmed(HaskellObj trouble, SchedulerStatus status)
{
    HaskellObj thunk = apply2(&troubled_closure, trouble, small(42));
    HaskellObj around = apply2(&countedAdd_closure, small(-1), thunk);

    atomic_store(&runs, 0);
    CAPSTAN_ROOTS(cap, thunk, around);
    evalTo(status, thunk);
    assert_ptr_equal(rts_getException(cap), trouble);
    evalTo(status, thunk);
    assert_int_equal(evalInt(thunk), 42);
    assert_int_equal(evalInt(thunk), 42);
    assert_int_equal(runs, 3);
    assert_int_equal(evalInt(around), 41);
    CAPSTAN_UNROOT(cap);
}

static void testStackOverflowRearms(void **state)
{
    checkRearmed(&capstan_StackOverflow_closure, Killed);
}

static void testHeapOverflowRearms(void **state)
{
    checkRearmed(&capstan_HeapOverflow_closure, HeapExhausted);
}

static void testNonTerminationRearms(void **state)
{
    checkRearmed(&capstan_NonTermination_closure, Killed);
}

/* The frames around are re-armed too. */
static void testRearmThroughFrames(void **state)
{
    HaskellObj inner = apply2(&troubled_closure, &capstan_StackOverflow_closure, small(5));
    HaskellObj outer = apply2(&add_closure, apply2(&add_closure, inner, small(1)), small(1));

    atomic_store(&runs, 0);
    CAPSTAN_ROOTS(cap, outer);
    evalTo(Killed, outer);
    evalTo(Killed, outer);
    assert_int_equal(evalInt(outer), 7);
    CAPSTAN_UNROOT(cap);
    assert_int_equal(runs, 3);
}

/* A real one: recursion without end, until it is told to end. */
static _Atomic int bottom;
CAPSTAN_EXTERN(deep);

static HaskellObj descend(Stack *stack, HsInt depth)
{
    HaskellObj n = small(depth + 1), below;

    if (atomic_load(&bottom)) return n;
    CAPSTAN_ROOTS(stack, n);
    below = rts_call(stack, &deep_closure, n);
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, rts_intValue(below) + 1);
}

CAPSTAN_FUN(deep, n)
{
    return descend(stack, rts_intValue(n));
}

static void testDeepRecursion(void **state)
{
    HaskellObj thunk = rts_apply(cap, &deep_closure, small(0));

    atomic_store(&bottom, 0);
    CAPSTAN_ROOTS(cap, thunk);
    for (int i = 0; i < 3; i++) {
        evalTo(Killed, thunk);
        assert_ptr_equal(rts_getException(cap), &capstan_StackOverflow_closure);
    }
    atomic_store(&bottom, 1);
    assert_int_equal(evalInt(thunk), 1);
    CAPSTAN_UNROOT(cap);
}

/* ---- Thunks that need themselves ---- */

CAPSTAN_THUNK(needsWhatIsIn, 1)
{
    HaskellObj var = rts_thunkVar(self, 0);
    atomic_fetch_add(&runs, 1);
    return rts_evaluate(stack, rts_readMutVar(var));
}

/* A thunk that evaluates what its variable holds; at first it holds the thunk. */
static HaskellObj makeKnot(HaskellObj *var)
{
    *var = rts_mkMutVar(cap, CAPSTAN_UNIT);
    HaskellObj knot = rts_mkClosure(cap, &needsWhatIsIn_info, var);
    rts_writeMutVar(cap, *var, knot);
    return knot;
}

static void testNonTermination(void **state)
{
    HaskellObj var, knot = makeKnot(&var);

    atomic_store(&runs, 0);
    CAPSTAN_ROOTS(cap, var, knot);
    evalTo(Killed, knot);
    assert_ptr_equal(rts_getException(cap), &capstan_NonTermination_closure);
    evalTo(Killed, knot);
    assert_int_equal(runs, 2);
    rts_writeMutVar(cap, var, small(8));
    assert_int_equal(evalInt(knot), 8);
    CAPSTAN_UNROOT(cap);
    assert_int_equal(errors, 0);
}

static void testNonTerminationOfTwo(void **state)
{
    HaskellObj var, knot = makeKnot(&var);

    CAPSTAN_ROOTS(cap, var, knot);
    rts_writeMutVar(cap, var, apply2(&add_closure, small(1), knot));
    evalTo(Killed, knot);
    assert_ptr_equal(rts_getException(cap), &capstan_NonTermination_closure);
    CAPSTAN_UNROOT(cap);
}

/* The same through C: the thunk makes a safe call, which calls in and needs the thunk. */
typedef struct {
    StgStablePtr thunk;
    SchedulerStatus status;
    bool nonTermination;
} Inner;

static void *needIt(void *arg)
{
    Inner *inner = arg;
    Capability *mine = rts_lock();
    HaskellObj result;

    rts_eval(&mine, (HaskellObj)deRefStablePtr(inner->thunk), &result);
    inner->status = rts_getSchedStatus(mine);
    inner->nonTermination = rts_getException(mine) == &capstan_NonTermination_closure;
    rts_unlock(mine);
    return NULL;
}

CAPSTAN_FUN(callsOut, pointer)
{
    pointer = rts_force(stack, pointer);
    rts_safeCall(stack, needIt, rts_getPtr(pointer));
    return small(11);
}

static void testNonTerminationAcrossC(void **state)
{
    Inner inner = { 0 };
    HaskellObj thunk = rts_apply(cap, &callsOut_closure, rts_mkPtr(cap, &inner));

    inner.thunk = getStablePtr((StgPtr)thunk);
    assert_int_equal(evalInt(thunk), 11);
    assert_int_equal(inner.status, Killed);
    assert_true(inner.nonTermination);
    assert_int_equal(evalInt((HaskellObj)deRefStablePtr(inner.thunk)), 11);
    freeStablePtr(inner.thunk);
}

/* ---- Poison ---- */

static void testPoison(void **state)
{
    evalTo(HeapExhausted, CAPSTAN_POISON);
    assert_int_equal(evalInt(small(3)), 3);
    evalTo(HeapExhausted, apply2(&add_closure, small(1), CAPSTAN_POISON));
    evalTo(HeapExhausted, rts_apply(cap, CAPSTAN_POISON, small(1)));
    /* Lazily built from poison, and not needed. */
    assert_int_equal(evalInt(apply2(&constant_closure, small(6), small(1))), 6);
    rts_evalIO(&cap, CAPSTAN_POISON, NULL);
    assert_int_equal(rts_getSchedStatus(cap), HeapExhausted);
}

/* ---- The functions of the family ---- */

CAPSTAN_IO(lazySum, x)
{
    return rts_apply(stack->cap, rts_apply(stack->cap, &countedAdd_closure, x), small(1));
}

CAPSTAN_IO(plainAction)
{
    atomic_fetch_add(&runs, 1);
    return small(77);
}

CAPSTAN_IO(failingAction)
{
    rts_raiseError(stack, "no action");
}

CAPSTAN_IO(maskState)
{
    return small(stack->mask);
}

static void testEvalIO(void **state)
{
    HaskellObj result;

    atomic_store(&runs, 0);
    rts_evalIO(&cap, rts_apply(cap, &lazySum_closure, small(4)), &result);
    assert_int_equal(rts_getSchedStatus(cap), Success);
    assert_int_equal(rts_getInt(result), 5);
    assert_int_equal(runs, 1);
    rts_inCall(&cap, rts_apply(cap, &lazySum_closure, small(5)), &result);
    assert_int_equal(rts_getInt(result), 6);
    rts_evalIO(&cap, &plainAction_closure, NULL);
    assert_int_equal(rts_getSchedStatus(cap), Success);
    assert_int_equal(runs, 3);
}

static void testEvalLazyIO(void **state)
{
    HaskellObj result;

    atomic_store(&runs, 0);
    rts_evalLazyIO(&cap, rts_apply(cap, &lazySum_closure, small(4)), &result);
    assert_int_equal(rts_getSchedStatus(cap), Success);
    assert_int_equal(runs, 0);
    assert_true(rts_isThunk(result));
    assert_int_equal(evalInt(result), 5);
    assert_int_equal(runs, 1);
    rts_evalLazyIO_(&cap, rts_apply(cap, &lazySum_closure, small(6)), 1024, &result);
    assert_true(rts_isThunk(result));
    rts_eval_(&cap, result, 1024, &result);
    assert_int_equal(rts_getInt(result), 7);
}

/* rts_eval does not run an action: it has one argument missing. */
static void testEvalDoesNotRun(void **state)
{
    atomic_store(&runs, 0);
    assert_ptr_equal(evalTo(Success, &plainAction_closure), &plainAction_closure);
    assert_int_equal(runs, 0);
}

static void testRunIO(void **state)
{
    HaskellObj result;

    atomic_store(&runs, 0);
    rts_evalIO(&cap, rts_apply(cap, (HaskellObj)runIO_closure, &plainAction_closure), &result);
    assert_int_equal(rts_getInt(result), 77);
    assert_int_equal(runs, 1);
    rts_evalIO(&cap, rts_apply(cap, (HaskellObj)runNonIO_closure, apply2(&add_closure, small(1), small(2))), &result);
    assert_int_equal(rts_getInt(result), 3);
    /* Of an action runNonIO makes the action itself. */
    rts_evalIO(&cap, rts_apply(cap, (HaskellObj)runNonIO_closure, &plainAction_closure), &result);
    assert_ptr_equal(result, &plainAction_closure);
    assert_int_equal(runs, 1);
}

static void testRunIOFails(void **state)
{
    HaskellObj result = CAPSTAN_UNIT;

    rts_evalIO(&cap, rts_apply(cap, (HaskellObj)runIO_closure, &failingAction_closure), &result);
    assert_int_equal(rts_getSchedStatus(cap), Killed);
    assert_ptr_equal(result, CAPSTAN_POISON);
    assert_non_null(strstr(exceptionText(), "no action"));
    result = CAPSTAN_UNIT;
    rts_evalLazyIO(&cap, &failingAction_closure, &result);
    assert_ptr_equal(result, CAPSTAN_POISON);
    rts_inCall(&cap, &failingAction_closure, NULL);
    assert_int_equal(rts_getSchedStatus(cap), Killed);
}

static void testEvalStableIO(void **state)
{
    StgStablePtr action = getStablePtr((StgPtr)rts_apply(cap, &lazySum_closure, small(1)));
    HsStablePtr result = NULL;

    rts_evalStableIO(&cap, action, &result);
    assert_int_equal(rts_getSchedStatus(cap), Success);
    assert_non_null(result);
    assert_int_equal(evalInt((HaskellObj)deRefStablePtr(result)), 2);
    freeStablePtr(result);
    result = NULL;
    rts_evalStableIOMain(&cap, action, &result);
    assert_non_null(result);
    freeStablePtr(result);
    freeStablePtr(action);
}

static void testEvalStableIOFails(void **state)
{
    StgStablePtr action = getStablePtr((StgPtr)&failingAction_closure);
    HsStablePtr result = action;

    rts_evalStableIO(&cap, action, &result);
    assert_int_equal(rts_getSchedStatus(cap), Killed);
    assert_null(result);
    rts_evalStableIO(&cap, action, NULL);
    assert_int_equal(rts_getSchedStatus(cap), Killed);
    freeStablePtr(action);
}

static void testStableIOIsMasked(void **state)
{
    StgStablePtr action = getStablePtr((StgPtr)&maskState_closure);
    HaskellObj plain;
    HsStablePtr result;

    rts_evalIO(&cap, &maskState_closure, &plain);
    assert_int_equal(rts_getInt(plain), 0);
    rts_evalStableIO(&cap, action, &result);
    assert_int_not_equal(rts_getInt((HaskellObj)deRefStablePtr(result)), 0);
    rts_evalIO(&cap, &maskState_closure, &plain);
    assert_int_equal(rts_getInt(plain), 0);
    freeStablePtr(result);
    freeStablePtr(action);
}

/* ---- Statuses ---- */

static void testStatus(void **state)
{
    assert_int_equal(rts_getSchedStatus(cap), NoStatus);
    evalTo(Killed, rts_apply(cap, &failing_closure, CAPSTAN_UNIT));
    evalTo(Success, small(1));
    assert_ptr_equal(rts_getException(cap), CAPSTAN_POISON);
    evalTo(Killed, rts_apply(cap, &failing_closure, CAPSTAN_UNIT));
    rts_unlock(cap);
    cap = rts_lock();
    assert_int_equal(rts_getSchedStatus(cap), NoStatus);
}

static void testCheckSchedStatus(void **state)
{
    evalTo(Success, small(1));
    rts_checkSchedStatus("fine", cap);
    assert_int_equal(seen.count, 0);
    evalTo(Killed, rts_apply(cap, &failing_closure, CAPSTAN_UNIT));
    rts_checkSchedStatus("somewhere", cap);
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.status, Killed);
    assert_string_equal(seen.site, "somewhere");
    assert_non_null(strstr(seen.text, "of failing"));
    evalTo(HeapExhausted, CAPSTAN_POISON);
    rts_checkSchedStatus("heap", cap);
    assert_int_equal(seen.count, 2);
    assert_int_equal(seen.status, HeapExhausted);
}

/* ---- Several threads and one thunk ---- */

typedef struct {
    StgStablePtr thunk;
    HsInt value;
    SchedulerStatus status;
} Evaluator;

static void *evaluateIt(void *arg)
{
    Evaluator *me = arg;
    Capability *mine = rts_lock();
    HaskellObj result;

    rts_eval(&mine, (HaskellObj)deRefStablePtr(me->thunk), &result);
    me->status = rts_getSchedStatus(mine);
    me->value = rts_getInt(result);
    rts_unlock(mine);
    return NULL;
}

static _Atomic int entered;

static void *sleepWell(void *arg)
{
    atomic_store(&entered, 1);
    usleep(100000);
    return NULL;
}

CAPSTAN_FUN(slow, x)
{
    atomic_fetch_add(&runs, 1);
    CAPSTAN_ROOTS(stack, x);
    rts_safeCall(stack, sleepWell, NULL);
    x = rts_force(stack, x);
    CAPSTAN_UNROOT(stack);
    return x;
}

/* Slow, and at the first run overflows. */
CAPSTAN_FUN(slowAndTroubled, x)
{
    CAPSTAN_ROOTS(stack, x);
    rts_safeCall(stack, sleepWell, NULL);
    x = rts_force(stack, x);
    CAPSTAN_UNROOT(stack);
    if (atomic_fetch_add(&runs, 1) == 0) rts_raise(stack, &capstan_StackOverflow_closure);
    return x;
}

enum { WAITERS = 4 };

/* The first evaluator is inside before the others start. */
static void evaluateTogether(HaskellObj thunk, Evaluator *threads)
{
    StgStablePtr stable = getStablePtr((StgPtr)thunk);
    pthread_t ids[WAITERS];

    atomic_store(&runs, 0);
    atomic_store(&entered, 0);
    rts_unlock(cap);
    for (int i = 0; i < WAITERS; i++) {
        threads[i] = (Evaluator){ .thunk = stable };
        assert_int_equal(pthread_create(&ids[i], NULL, evaluateIt, &threads[i]), 0);
        while (!atomic_load(&entered)) usleep(100);
    }
    for (int i = 0; i < WAITERS; i++) pthread_join(ids[i], NULL);
    cap = rts_lock();
    freeStablePtr(stable);
}

static void testSecondThreadWaits(void **state)
{
    Evaluator threads[WAITERS];

    evaluateTogether(rts_apply(cap, &slow_closure, small(9)), threads);
    assert_int_equal(runs, 1);
    for (int i = 0; i < WAITERS; i++) {
        assert_int_equal(threads[i].status, Success);
        assert_int_equal(threads[i].value, 9);
    }
}

static void testWaitersOnOneCapability(void **state)
{
    rts_unlock(cap);
    hs_exit();
    assert_int_equal(start(1), 0);
    cap = rts_lock();
    testSecondThreadWaits(state);
}

/* One that waited takes a re-armed thunk over. */
static void testWaiterTakesOver(void **state)
{
    Evaluator threads[WAITERS];

    evaluateTogether(rts_apply(cap, &slowAndTroubled_closure, small(9)), threads);
    assert_int_equal(runs, 2);
    assert_int_equal(threads[0].status, Killed);
    for (int i = 1; i < WAITERS; i++) {
        assert_int_equal(threads[i].status, Success);
        assert_int_equal(threads[i].value, 9);
    }
}

CAPSTAN_FUN(slowAndFailing, x)
{
    rts_safeCall(stack, sleepWell, NULL);
    rts_raiseError(stack, "run %u", atomic_fetch_add(&runs, 1) + 1);
}

static void testWaitersGetTheException(void **state)
{
    Evaluator threads[WAITERS];

    evaluateTogether(rts_apply(cap, &slowAndFailing_closure, small(9)), threads);
    assert_int_equal(runs, 1);
    for (int i = 0; i < WAITERS; i++) assert_int_equal(threads[i].status, Killed);
}

/* Values and thunks move while a thunk is under evaluation. */
CAPSTAN_FUN(collecting, x)
{
    CAPSTAN_ROOTS(stack, x);
    for (int i = 0; i < 3; i++) rts_safeCall(stack, collect, NULL);
    x = rts_force(stack, x);
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, rts_intValue(x) + 1);
}

static void testCollectionUnderEvaluation(void **state)
{
    HaskellObj thunk = rts_mkInt(cap, INT64_MAX - 21);

    for (int i = 0; i < 20; i++) thunk = rts_apply(cap, &collecting_closure, thunk);
    CAPSTAN_ROOTS(cap, thunk);
    assert_int_equal(evalInt(thunk), INT64_MAX - 1);
    assert_int_equal(evalInt(thunk), INT64_MAX - 1);
    CAPSTAN_UNROOT(cap);
}

/* ---- Constants ---- */

static _Atomic unsigned tableRuns;

CAPSTAN_CAF(table)
{
    atomic_fetch_add(&tableRuns, 1);
    return rts_mkMutVar(stack->cap, small(100));
}

CAPSTAN_CAF(brokenTable)
{
    rts_raiseError(stack, "broken %u", atomic_fetch_add(&tableRuns, 1) + 1);
}

CAPSTAN_CAF(selfish)
{
    return rts_evaluate(stack, self);
}

static void bumpTable(HsInt expected)
{
    HaskellObj var = evalTo(Success, &table_closure);

    assert_int_equal(rts_getInt(rts_readMutVar(var)), expected);
    rts_writeMutVar(cap, var, small(expected + 1));
}

/* The collector keeps what a constant became. */
static void testCaf(void **state)
{
    atomic_store(&tableRuns, 0);
    for (HsInt i = 0; i < 10; i++) {
        bumpTable(100 + i);
        rts_unlock(cap);
        hs_perform_gc();
        cap = rts_lock();
    }
    assert_int_equal(tableRuns, 1);
}

static void testCafAfterRestart(void **state)
{
    for (unsigned round = 1; round <= 3; round++) {
        atomic_store(&tableRuns, 0);
        bumpTable(100);
        bumpTable(101);
        assert_int_equal(tableRuns, 1);
        rts_unlock(cap);
        hs_exit();
        assert_int_equal(start(2), 0);
        cap = rts_lock();
    }
}

static void testBrokenCaf(void **state)
{
    atomic_store(&tableRuns, 0);
    for (int i = 0; i < 3; i++) {
        evalTo(Killed, &brokenTable_closure);
        assert_non_null(strstr(exceptionText(), "broken 1"));
    }
    rts_unlock(cap);
    hs_exit();
    assert_int_equal(start(2), 0);
    cap = rts_lock();
    evalTo(Killed, &brokenTable_closure);
    assert_non_null(strstr(exceptionText(), "broken 2"));
}

static void testSelfishCaf(void **state)
{
    for (int i = 0; i < 2; i++) {
        evalTo(Killed, &selfish_closure);
        assert_ptr_equal(rts_getException(cap), &capstan_NonTermination_closure);
    }
}

/* Many threads race for a constant that nobody has needed yet. */
typedef struct {
    pthread_barrier_t *start;
    unsigned wrong;
} Racer;

static _Atomic unsigned contestedRuns;

CAPSTAN_CAF(contested)
{
    atomic_fetch_add(&contestedRuns, 1);
    return rts_apply(stack->cap, rts_apply(stack->cap, &add_closure, small(20)), small(22));
}

static void *race(void *arg)
{
    Racer *me = arg;
    Capability *mine;
    HaskellObj result;

    pthread_barrier_wait(me->start);
    mine = rts_lock();
    rts_eval(&mine, &contested_closure, &result);
    if (rts_getSchedStatus(mine) != Success || rts_getInt(result) != 42) me->wrong++;
    rts_unlock(mine);
    return NULL;
}

static void testCafRace(void **state)
{
    enum { RACERS = 8, ROUNDS = 20 };

    for (int round = 0; round < ROUNDS; round++) {
        pthread_barrier_t barrier;
        pthread_t ids[RACERS];
        Racer racers[RACERS];
        rts_unlock(cap);
        hs_exit();
        assert_int_equal(start(4), 0);
        atomic_store(&contestedRuns, 0);
        pthread_barrier_init(&barrier, NULL, RACERS);
        for (int i = 0; i < RACERS; i++) {
            racers[i] = (Racer){ &barrier, 0 };
            assert_int_equal(pthread_create(&ids[i], NULL, race, &racers[i]), 0);
        }
        for (int i = 0; i < RACERS; i++) {
            pthread_join(ids[i], NULL);
            assert_int_equal(racers[i].wrong, 0);
        }
        pthread_barrier_destroy(&barrier);
        assert_int_equal(contestedRuns, 1);
        cap = rts_lock();
    }
}

#define test(name) cmocka_unit_test_setup_teardown(name, setUp, tearDown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(testNestedApply),
        test(testDeepApply),
        test(testUnderSaturated),
        test(testSharedPap),
        test(testOverSaturated),
        test(testFunctionAsArgument),
        test(testNotAFunction),
        test(testEvalOfValues),
        test(testSharedThunk),
        test(testThunkAcrossEvaluations),
        test(testUpdateFrames),
        test(testThunkClosure),
        test(testErrorText),
        test(testExceptionIsShared),
        test(testExceptionThroughFrames),
        test(testStackOverflowRearms),
        test(testHeapOverflowRearms),
        test(testNonTerminationRearms),
        test(testRearmThroughFrames),
        test(testDeepRecursion),
        test(testNonTermination),
        test(testNonTerminationOfTwo),
        test(testNonTerminationAcrossC),
        test(testPoison),
        test(testEvalIO),
        test(testEvalLazyIO),
        test(testEvalDoesNotRun),
        test(testRunIO),
        test(testRunIOFails),
        test(testEvalStableIO),
        test(testEvalStableIOFails),
        test(testStableIOIsMasked),
        test(testStatus),
        test(testCheckSchedStatus),
        test(testSecondThreadWaits),
        test(testWaitersOnOneCapability),
        test(testWaiterTakesOver),
        test(testWaitersGetTheException),
        test(testCollectionUnderEvaluation),
        test(testCaf),
        test(testCafAfterRestart),
        test(testBrokenCaf),
        test(testSelfishCaf),
        test(testCafRace),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

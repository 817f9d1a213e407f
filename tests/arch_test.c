/*
 * What arch/arch.h promises: switching, catching and raising, calling across stacks. Leaving sideways: leaving_test.c.
 */
#include "fibers.h"
#include "probe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define MANY 1000000

/* Values that are never looked into. */
static HaskellObj makeValue(uintptr_t n)
{
    return (HaskellObj)(n << 1 | 1);
}

#define assert_value(value, n) assert_int_equal((uintptr_t)(value), (uintptr_t)makeValue(n))

static int ptrEqual(const void *a, const void *b)
{
    return a == b;
}

/* ---- Switching ---- */

/* Two fibers that hand a counter to and fro. */
typedef struct {
    Fiber home, away;
    size_t count;
    int aligned;
    unsigned changed;
    void *seen_arg;
} Pair;

static void goAway(void *arg)
{
    Pair *pair = arg;
    switchFibers(&pair->home, &pair->away);
}

static void goHome(void *arg)
{
    Pair *pair = arg;
    switchFibers(&pair->away, &pair->home);
}

static void noteEntry(void *arg)
{
    Pair *pair = arg;

    pair->aligned = archProbeAlignment();
    beginFiber();
    pair->seen_arg = arg;
    for (;;)
        goHome(pair);
}

static void countEntry(void *arg)
{
    Pair *pair = arg;

    beginFiber();
    for (;;) {
        pair->count++;
        goHome(pair);
    }
}

static void probeEntry(void *arg)
{
    Pair *pair = arg;

    beginFiber();
    for (;;) {
        pair->count++;
        pair->changed += archProbeRegisters(goHome, pair, pair->count << 8);
    }
}

static void makePair(Pair *pair, size_t colour, void (*fn)(void *))
{
    memset(pair, 0, sizeof *pair);
    adoptFiber(&pair->home);
    makeFiber(&pair->away, colour, fn, pair);
}

static void testInitialEntry(void **state)
{
    static const size_t colours[] = { 0, 1, 8, 15, 16, 64, 72, 4096 + 64 };

    for (size_t i = 0; i < sizeof colours / sizeof *colours; i++) {
        Pair pair;
        makePair(&pair, colours[i], noteEntry);
        goAway(&pair);
        assert_ptr_equal(pair.seen_arg, &pair);
        assert_true(pair.aligned);
        freeFiber(&pair.away);
    }
}

static void testInitialStackIsSmall(void **state)
{
    _Alignas(ARCH_STACK_ALIGNMENT) unsigned char memory[4 * ARCH_INITIAL_STACK];
    Stack stack = { .sp = NULL };

    for (size_t colour = 0; colour < 2 * ARCH_STACK_ALIGNMENT; colour++) {
        unsigned char *top = memory + 3 * ARCH_INITIAL_STACK - colour;
        memset(memory, 0xa5, sizeof memory);
        archInitStack(&stack, top, countEntry, NULL);
        for (unsigned char *p = memory; p < memory + sizeof memory; p++)
            assert_true((p >= top - ARCH_INITIAL_STACK && p < top) || *p == 0xa5);
        assert_true((unsigned char *)stack.sp >= top - ARCH_INITIAL_STACK && (unsigned char *)stack.sp < top);
    }
}

static void testSwitchToSelf(void **state)
{
    Fiber fiber;

    adoptFiber(&fiber);
    for (int i = 0; i < 3; i++)
        archSwitch(&fiber.stack, &fiber.stack);
}

static void testSwitchKeepsRegisters(void **state)
{
    Pair pair;
    unsigned changed = 0;

    makePair(&pair, 64, probeEntry);
    for (uintptr_t i = 0; i < 1000; i++)
        changed += archProbeRegisters(goAway, &pair, ~i << 8);
    assert_int_equal(pair.count, 1000);
    assert_int_equal(changed, 0);
    assert_int_equal(pair.changed, 0);
    freeFiber(&pair.away);
}

/* The probe itself must see a change. */
static void clobberNothing(void *arg)
{
}

static void testProbe(void **state)
{
    assert_int_equal(archProbeRegisters(clobberNothing, NULL, 7), 0);
    assert_true(archProbeAlignment());
}

static void testManySwitches(void **state)
{
    Pair pair;
    uintptr_t sp;

    makePair(&pair, 0, countEntry);
    goAway(&pair);
    sp = (uintptr_t)pair.away.stack.sp;
    for (int i = 1; i < MANY / 2; i++)
        goAway(&pair);
    assert_int_equal(pair.count, MANY / 2);
    assert_int_equal((uintptr_t)pair.away.stack.sp, sp);
    freeFiber(&pair.away);
}

static void testSwitchTouchesOnlySp(void **state)
{
    Pair pair;
    Stack before;

    makePair(&pair, 0, countEntry);
    memset(&pair.home.stack, 0x5a, sizeof pair.home.stack);
    before = pair.home.stack;
    goAway(&pair);
    before.sp = pair.home.stack.sp;
    assert_memory_equal(&before, &pair.home.stack, sizeof before);
    freeFiber(&pair.away);
}

/* ---- Catching and raising ---- */

static HaskellObj returnArg(Stack *stack, void *arg)
{
    return (HaskellObj)arg;
}

static HaskellObj raiseArg(Stack *stack, void *arg)
{
    archRaise(stack, (HaskellObj)arg);
}

static HaskellObj spoilAndRaise(Stack *stack, void *arg)
{
    CapstanRoots inner = { .prev = stack->roots };

    stack->roots = &inner;
    stack->mask = 77;
    archRaise(stack, (HaskellObj)arg);
}

typedef CatchResult Guard(Stack *stack, ArchBody *body, void *arg);

static void checkGuard(Guard *guard)
{
    CapstanRoots roots = { .prev = NULL };
    TrapFrame outer = { .prev = NULL };
    Stack stack = { .roots = &roots, .trap = &outer, .mask = 3, .limit = 11, .sp = &stack };
    Stack before = stack;
    CatchResult result;

    result = guard(&stack, returnArg, makeValue(5));
    assert_int_equal(result.raised, 0);
    assert_value(result.value, 5);
    assert_memory_equal(&stack, &before, sizeof stack);

    result = guard(&stack, raiseArg, makeValue(6));
    assert_int_equal(result.raised, 1);
    assert_value(result.value, 6);
    assert_memory_equal(&stack, &before, sizeof stack);

    result = guard(&stack, spoilAndRaise, makeValue(7));
    assert_int_equal(result.raised, 1);
    assert_value(result.value, 7);
    assert_memory_equal(&stack, &before, sizeof stack);
}

static void testCatch(void **state)
{
    checkGuard(archCatch);
}

static void testEnter(void **state)
{
    checkGuard(archEnter);
}

/* The frame that stack->trap points at says what it was entered with. */
static HaskellObj lookAtFrame(Stack *stack, void *arg)
{
    CatchFrame *frame = (CatchFrame *)stack->trap;
    const Stack *before = arg;
    int right = archProbeAlignment() && ptrEqual(frame->trap.prev, before->trap) && frame->stack == stack
        && frame->roots == before->roots && frame->mask == before->mask && frame->trap.handler == (void *)archLand;

    return makeValue((uintptr_t)right);
}

static void testFrame(void **state)
{
    TrapFrame outer = { .prev = NULL };
    Stack stack = { .trap = &outer, .mask = 9 };
    Stack before = stack;

    assert_value(archCatch(&stack, lookAtFrame, &before).value, 1);
    assert_value(archEnter(&stack, lookAtFrame, &before).value, 1);
}

#define DEPTH 1000

typedef struct {
    uintptr_t depth;
    uintptr_t caught;
    int wrong;
} Nest;

/* Every level catches, checks, and raises one more than it got. */
static HaskellObj nestedBody(Stack *stack, void *arg)
{
    Nest *nest = arg;
    CapstanRoots roots = { .prev = stack->roots };
    uint32_t mask = stack->mask;
    TrapFrame *trap = stack->trap;
    CatchResult result;

    if (nest->depth == DEPTH)
        archRaise(stack, makeValue(0));
    stack->roots = &roots;
    stack->mask = (uint32_t)++nest->depth;
    result = nest->depth % 2 ? archCatch(stack, nestedBody, nest) : archEnter(stack, nestedBody, nest);
    nest->wrong += !result.raised || result.value != makeValue(nest->caught) || stack->roots != &roots
        || stack->mask != mask + 1 || stack->trap != trap;
    nest->caught++;
    archRaise(stack, makeValue(nest->caught));
}

static void testNestedRaises(void **state)
{
    Stack stack = { .mask = 0 };
    Nest nest = { .depth = 0 };
    CatchResult result = archCatch(&stack, nestedBody, &nest);

    assert_int_equal(result.raised, 1);
    assert_value(result.value, DEPTH);
    assert_int_equal(nest.wrong, 0);
    assert_null(stack.trap);
    assert_null(stack.roots);
    assert_int_equal(stack.mask, 0);
}

/* Only the innermost frame catches, however deep the frames between. */
__attribute__((noinline)) static uintptr_t recurseAndRaise(Stack *stack, uintptr_t depth)
{
    volatile char pad[64];

    memset((char *)pad, (int)depth, sizeof pad);
    if (depth == 0 && stack->trap != NULL)
        archRaise(stack, makeValue(4));
    if (depth == 0)
        return 0;
    return recurseAndRaise(stack, depth - 1) + (uintptr_t)pad[3];
}

static HaskellObj recursingBody(Stack *stack, void *arg)
{
    return makeValue(recurseAndRaise(stack, (uintptr_t)arg));
}

static HaskellObj innerCatches(Stack *stack, void *arg)
{
    CatchResult result = archCatch(stack, recursingBody, arg);

    return makeValue(result.raised && result.value == makeValue(4));
}

static void testRaiseOutOfDeepFrames(void **state)
{
    Stack stack = { .mask = 0 };
    CatchResult result = archCatch(&stack, innerCatches, (void *)500);

    assert_int_equal(result.raised, 0);
    assert_value(result.value, 1);
}

/* A raise when every callee-saved register holds something else than at the catch. */
static void raiseNow(void *arg)
{
    archRaise(arg, makeValue(8));
}

static HaskellObj raiseWithOtherRegisters(Stack *stack, void *arg)
{
    archProbeRegisters(raiseNow, stack, 0x5555000);
    return makeValue(0);
}

typedef struct {
    Guard *guard;
    Stack stack;
    CatchResult result;
} Guarded;

static void guardIt(void *arg)
{
    Guarded *guarded = arg;
    guarded->result = guarded->guard(&guarded->stack, raiseWithOtherRegisters, NULL);
}

static void testRaiseRestoresRegisters(void **state)
{
    Guard *guards[] = { archCatch, archEnter };

    for (size_t i = 0; i < 2; i++) {
        Guarded guarded = { .guard = guards[i] };
        assert_int_equal(archProbeRegisters(guardIt, &guarded, 0x7777000), 0);
        assert_int_equal(guarded.result.raised, 1);
        assert_value(guarded.result.value, 8);
    }
}

static HaskellObj raiseStackPointer(Stack *stack, void *arg)
{
    archRaise(stack, makeValue(archStackPointer()));
}

static void testManyRaises(void **state)
{
    Stack stack = { .mask = 0 };
    HaskellObj first = archCatch(&stack, raiseStackPointer, NULL).value;

    for (int i = 0; i < MANY; i++) {
        CatchResult result = archCatch(&stack, raiseStackPointer, NULL);
        /* rootcheck: the values are numbers, and there is no heap */
        if (!result.raised || result.value != first)
            fail_msg("raise %d: the stack has moved", i);
    }
    assert_null(stack.trap);
}

/* Catch again where an exception was caught, inside and outside the first body. */
static HaskellObj catchInHandler(Stack *stack, void *arg)
{
    CatchResult first = archCatch(stack, raiseArg, makeValue(1));
    CatchResult second = archCatch(stack, raiseArg, first.value);

    if (!first.raised || !second.raised)
        return makeValue(0);
    archRaise(stack, second.value);
}

static void testCatchInHandler(void **state)
{
    Stack stack = { .mask = 0 };
    CatchResult outer = archCatch(&stack, catchInHandler, NULL);

    assert_int_equal(outer.raised, 1);
    assert_value(outer.value, 1);
    outer = archCatch(&stack, catchInHandler, NULL);
    assert_int_equal(outer.raised, 1);
    assert_null(stack.trap);
}

/* Two stacks in the middle of a catch each; raises in turn land on their own. */
static HaskellObj switchThenRaise(Stack *stack, void *arg)
{
    goHome(arg);
    archRaise(stack, makeValue(3));
}

static void catchEntry(void *arg)
{
    Pair *pair = arg;

    beginFiber();
    for (;;) {
        CatchResult result = archCatch(&pair->away.stack, switchThenRaise, pair);
        pair->count += result.raised && result.value == makeValue(3);
    }
}

static HaskellObj switchAndRaiseAtHome(Stack *stack, void *arg)
{
    goAway(arg);
    archRaise(stack, makeValue(4));
}

static void testRaiseOnTwoStacks(void **state)
{
    Pair pair;

    makePair(&pair, 128, catchEntry);
    for (int i = 0; i < 1000; i++) {
        CatchResult result = archCatch(&pair.home.stack, switchAndRaiseAtHome, &pair);
        assert_int_equal(result.raised, 1);
        assert_value(result.value, 4);
    }
    assert_int_equal(pair.count, 999);
    freeFiber(&pair.away);
}

/* ---- Calls across ---- */

/* Frames of C code that ASan has marked must be unmarked by a raise over them, and be usable again. */
__attribute__((noinline)) static uintptr_t fillBuffer(Stack *stack, uintptr_t n)
{
    volatile char buffer[512];
    uintptr_t sum = 0;

    for (size_t i = 0; i < sizeof buffer; i++)
        buffer[i] = (char)n;
    if (n % 2)
        archRaise(stack, makeValue(n));
    for (size_t i = 0; i < sizeof buffer; i++)
        sum += (uintptr_t)buffer[i];
    return sum;
}

static HaskellObj fillBody(Stack *stack, void *arg)
{
    volatile char small[16] = { 1 };
    return makeValue(fillBuffer(stack, (uintptr_t)arg) + (uintptr_t)small[0]);
}

static void testFramesReusedAfterRaise(void **state)
{
    Stack stack = { .mask = 0 };
    volatile char other[256];

    for (uintptr_t n = 0; n < 50; n++) {
        assert_int_equal(archCatch(&stack, fillBody, (void *)n).raised, n % 2);
        memset((char *)other, 1, sizeof other);
    }
}

typedef struct {
    Pair pair;
    uintptr_t os_sp;   /* free part of the home stack while home sleeps */
    uintptr_t seen_sp; /* where fn ran */
    int aligned;
    int depth;
    unsigned wrong;
} Across;

/* Room below the sleeping home stack. */
static void *homeTop(Across *across, size_t colour)
{
    return (char *)across->pair.home.stack.sp - ARCH_RED_ZONE - colour;
}

static void *noteWhere(void *arg)
{
    Across *across = arg;

    across->aligned += archProbeAlignment();
    across->seen_sp = archStackPointer();
    return &across->depth;
}

static void callHome(void *arg)
{
    Across *across = arg;
    Pair *pair = &across->pair;
    uintptr_t top = (uintptr_t)homeTop(across, 0);

    for (size_t colour = 0; colour < 2 * ARCH_STACK_ALIGNMENT; colour++) {
        void *result = callOnFiber(&pair->away, &pair->home, homeTop(across, colour), noteWhere, across);
        across->wrong += result != &across->depth || across->seen_sp > top || top - across->seen_sp > 16384;
    }
}

static void acrossEntry(void *arg)
{
    Across *across = arg;

    beginFiber();
    for (;;) {
        across->wrong += archProbeRegisters(callHome, across, 0x1234000);
        goHome(&across->pair);
    }
}

static void testCallAcross(void **state)
{
    Across across = { .wrong = 0 };

    makePair(&across.pair, 0, acrossEntry);
    archInitStack(&across.pair.away.stack, across.pair.away.memory + FIBER_SIZE, acrossEntry, &across);
    for (int i = 0; i < 10; i++)
        goAway(&across.pair);
    assert_int_equal(across.wrong, 0);
    assert_int_equal(across.aligned, 10 * 2 * ARCH_STACK_ALIGNMENT);
    freeFiber(&across.pair.away);
}

/* Each stack calls on the next; each level checks its own locals. */
#define ACROSS_DEPTH 8

static Fiber *nestedStacks[ACROSS_DEPTH + 1];

static void *callDeeper(void *arg)
{
    uintptr_t depth = (uintptr_t)arg;
    uintptr_t result = 1;
    volatile uintptr_t mine = depth * 17;

    if (depth < ACROSS_DEPTH) {
        Fiber *next = nestedStacks[depth + 1];
        result += (uintptr_t)callOnFiber(nestedStacks[depth], next, next->stack.sp, callDeeper, (void *)(depth + 1));
    }
    return (void *)(mine == depth * 17 ? result : 0);
}

static void testCallsAcrossNest(void **state)
{
    Fiber home, fibers[ACROSS_DEPTH];

    adoptFiber(&home);
    nestedStacks[0] = &home;
    for (int i = 0; i < ACROSS_DEPTH; i++) {
        makeFiber(&fibers[i], 0, clobberNothing, NULL);
        nestedStacks[i + 1] = &fibers[i];
    }
    for (int i = 0; i < 100; i++)
        assert_ptr_equal(callDeeper((void *)0), (void *)(ACROSS_DEPTH + 1));
    for (int i = 0; i < ACROSS_DEPTH; i++)
        freeFiber(&fibers[i]);
}

/* A catch and a raise on the stack that was called, while the calling one is inside a catch of its own. */
static void *raiseAcross(void *arg)
{
    Stack inner = { .mask = 0 };
    CatchResult result = archCatch(&inner, raiseArg, arg);

    return result.raised ? result.value : NULL;
}

typedef struct {
    Fiber home, other;
} TwoFibers;

static HaskellObj callAndRaise(Stack *stack, void *arg)
{
    TwoFibers *two = arg;
    void *value = callOnFiber(&two->home, &two->other, two->other.stack.sp, raiseAcross, makeValue(21));

    archRaise(stack, value);
}

static void testRaiseAfterCallAcross(void **state)
{
    TwoFibers two;

    adoptFiber(&two.home);
    makeFiber(&two.other, 0, clobberNothing, NULL);
    for (int i = 0; i < 1000; i++) {
        CatchResult result = archCatch(&two.home.stack, callAndRaise, &two);
        assert_int_equal(result.raised, 1);
        assert_value(result.value, 21);
    }
    freeFiber(&two.other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(testProbe),
        cmocka_unit_test(testInitialEntry),
        cmocka_unit_test(testInitialStackIsSmall),
        cmocka_unit_test(testSwitchToSelf),
        cmocka_unit_test(testSwitchKeepsRegisters),
        cmocka_unit_test(testManySwitches),
        cmocka_unit_test(testSwitchTouchesOnlySp),
        cmocka_unit_test(testCatch),
        cmocka_unit_test(testEnter),
        cmocka_unit_test(testFrame),
        cmocka_unit_test(testNestedRaises),
        cmocka_unit_test(testRaiseOutOfDeepFrames),
        cmocka_unit_test(testRaiseRestoresRegisters),
        cmocka_unit_test(testManyRaises),
        cmocka_unit_test(testCatchInHandler),
        cmocka_unit_test(testRaiseOnTwoStacks),
        cmocka_unit_test(testFramesReusedAfterRaise),
        cmocka_unit_test(testCallAcross),
        cmocka_unit_test(testCallsAcrossNest),
        cmocka_unit_test(testRaiseAfterCallAcross),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

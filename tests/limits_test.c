/*
 * Where memory and stacks end: deep recursion, the heap limit wherever it can be met, an operating system that refuses.
 */
#include "misuse.h"

#include <sys/resource.h>
#include <sys/wait.h>

#include <cmocka.h>

/* ---- Deep recursion ---- */

CAPSTAN_FUN(limitsDeep, n)
{
    HsInt k = rts_intValue(rts_force(stack, n));
    if (k == 0) return CAPSTAN_SMALL_INT(0);
    HaskellObj rest = rts_call(stack, &limitsDeep_closure, CAPSTAN_SMALL_INT(k - 1));
    return rts_int(stack, rts_intValue(rest) + 1);
}

static HaskellObj goDeep(Stack *stack, void *arg)
{
    return rts_call(stack, &limitsDeep_closure, CAPSTAN_SMALL_INT(INT64_MAX / 4));
}

CAPSTAN_IO(limitsCatchDeep)
{
    HaskellObj result = CAPSTAN_UNIT;
    if (rts_try(stack, goDeep, NULL, &result)) return CAPSTAN_SMALL_INT(-1);
    return CAPSTAN_SMALL_INT(result == &capstan_StackOverflow_closure);
}

static SchedulerStatus goDown(HsInt depth, HsInt *value)
{
    HaskellObj ret;
    char text[64];
    Capability *cap = rts_lock();
    rts_evalIO(&cap, rts_apply(cap, (HaskellObj)runNonIO_closure, rts_apply(cap, &limitsDeep_closure, rts_mkInt(cap, depth))),
               &ret);
    SchedulerStatus status = rts_getSchedStatus(cap);
    if (status == Killed) {
        rts_showException(cap, rts_getException(cap), text, sizeof text);
        if (strstr(text, "overflow") == NULL || rts_getException(cap) != &capstan_StackOverflow_closure) status = NoStatus;
    }
    *value = rts_getInt(ret);
    rts_unlock(cap);
    return status;
}

static void *goDownTwice(void *arg)
{
    HsInt value;
    for (int i = 0; i < 2; i++)
        if (goDown(INT64_MAX / 4, &value) != Killed || value != 0) return (void *)1;
    if (goDown(100, &value) != Success || value != 100) return (void *)2;
    if (callAction(&limitsCatchDeep_closure, NULL, &value) != Success || value != 1) return (void *)3;
    return callWell() == 42 ? NULL : (void *)4;
}

static void *onStackOf(size_t bytes, void *(*fn)(void *))
{
    pthread_attr_t attributes;
    pthread_t thread;
    void *result = &result;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, bytes);
    assert_int_equal(pthread_create(&thread, &attributes, fn, NULL), 0);
    pthread_join(thread, &result);
    pthread_attr_destroy(&attributes);
    return result;
}

static void test_deep_recursion(void **state)
{
    assert_int_equal(startHooked(1), RTS_OK);
#ifdef MISUSE_TSAN
    /* Its own stack of calls holds 65 536. */
    assert_null(onStackOf(1 << 20, goDownTwice));
#else
    assert_null(goDownTwice(NULL));
#endif
    assert_int_equal(tookUp(&heard.stackOverflows), 3);
    hs_exit();
}

/* The smallest stack that a thread of the host may be expected to have. */
static void test_deep_on_small_stack(void **state)
{
    assert_int_equal(startHooked(1), RTS_OK);
    assert_null(onStackOf(SLOW_BUILD ? 512 << 10 : 128 << 10, goDownTwice));
    hs_exit();
}

/* A chain of thunks that was built lazily. */
static void *evaluateChain(void *arg)
{
    HaskellObj ret;
    Capability *cap = rts_lock();
    HaskellObj chain = rts_mkInt(cap, 0);
    for (int i = 0; i < 1000000; i++) chain = rts_apply(cap, &misuseTwice_closure, chain);
    rts_eval(&cap, chain, &ret);
    bool overflow = rts_getSchedStatus(cap) == Killed && rts_getException(cap) == &capstan_StackOverflow_closure;
    rts_unlock(cap);
    return (void *)(intptr_t)overflow;
}

static void test_deep_thunks(void **state)
{
    assert_int_equal(startHooked(1), RTS_OK);
    assert_non_null(onStackOf(1 << 20, evaluateChain));
    assert_int_equal(callWell(), 42);
    hs_exit();
}

/* ---- Thunks whose evaluation did not come to its end ---- */

static _Atomic int begun, fails;
static HaskellObj failure;

CAPSTAN_THUNK(limitsFragile, 0)
{
    int n = atomic_fetch_add(&begun, 1);
    if (n < atomic_load(&fails)) {
        if (failure == NULL) goDeep(stack, NULL);
        rts_raise(stack, failure);
    }
    return CAPSTAN_SMALL_INT(77);
}

/* Two evaluations fail with status; the thunk may then be good, or fail for ever without being run again. */
static void expectThunk(HaskellObj exception, SchedulerStatus status, bool again)
{
    HaskellObj ret;
    failure = exception;
    atomic_store(&begun, 0);
    atomic_store(&fails, again ? 2 : 1);
    Capability *cap = rts_lock();
    HaskellObj thunk = rts_mkClosure(cap, &limitsFragile_info, NULL);
    HaskellObj outer = rts_apply(cap, &misuseTwice_closure, thunk);
    CAPSTAN_ROOTS(cap, thunk, outer);
    for (int i = 0; i < 2; i++) {
        rts_eval(&cap, outer, &ret);
        assert_int_equal(rts_getSchedStatus(cap), status);
    }
    for (int i = 0; i < 2; i++) {
        rts_eval(&cap, i == 0 ? outer : thunk, &ret);
        assert_int_equal(rts_getSchedStatus(cap), again ? Success : status);
        assert_int_equal(rts_getInt(ret), !again ? 0 : i == 0 ? 154 : 77);
    }
    CAPSTAN_UNROOT(cap);
    rts_unlock(cap);
    assert_int_equal(atomic_load(&begun), again ? 3 : 1);
}

static void *evaluateFragile(void *arg)
{
    expectThunk(&capstan_StackOverflow_closure, Killed, true);
    expectThunk(NULL, Killed, true);
    expectThunk(&capstan_HeapOverflow_closure, HeapExhausted, true);
    expectThunk(&capstan_NonTermination_closure, Killed, true);
    expectThunk(CAPSTAN_SMALL_INT(3), Killed, false);
    expectThunk(&capstan_WrongKind_closure, Killed, false);
    return NULL;
}

static void test_killed_evaluators(void **state)
{
    assert_int_equal(startHooked(1), RTS_OK);
#ifdef MISUSE_TSAN
    onStackOf(1 << 20, evaluateFragile);
#else
    evaluateFragile(NULL);
#endif
    assert_int_equal(callWell(), 42);
    hs_exit();
}

/* ---- The heap limit ---- */

#define LIMIT ((size_t)(SLOW_BUILD ? 8 : 16) << 20)

CAPSTAN_CON(LimitsCell, 1, item, next)
CAPSTAN_STATIC_CON(LimitsNil, 0);

static RtsStatus startLimited(unsigned capabilities)
{
    RtsConfig config = hookedConfig(capabilities);
    config.heap_limit_bytes = LIMIT;
    config.nursery_bytes = 256 << 10;
    config.verify_heap = true;
    config.poison_from_space = true;
    return rts_start(&config, NULL, 0);
}

/* A list of byte arrays (0: of numbers) of that size, to the end of memory; the caller roots nothing. */
static HaskellObj hogList(Stack *stack, HsInt size, HsInt polls)
{
    HaskellObj list = &LimitsNil_closure;
    CAPSTAN_ROOTS(stack, list);
    for (HsInt i = 1;; i++) {
        HaskellObj item = size == 0 ? CAPSTAN_SMALL_INT(i) : rts_mkBytes(stack->cap, NULL, (size_t)size);
        HaskellObj cell = item == CAPSTAN_POISON ? item : LimitsCell_new(stack->cap, item, list);
        if (cell == CAPSTAN_POISON) rts_raise(stack, &capstan_HeapOverflow_closure);
        list = cell;
        if (i % polls == 0) rts_poll(stack);
    }
    CAPSTAN_UNROOT(stack);
    return list;
}

CAPSTAN_IO(limitsHog, size, polls)
{
    return hogList(stack, rts_intValue(size), rts_intValue(polls));
}

typedef struct { HsInt size, polls; } Hog;

static HaskellObj runHog(Stack *stack, void *arg)
{
    Hog *hog = arg;
    return hogList(stack, hog->size, hog->polls);
}

CAPSTAN_IO(limitsCatchHog, hog)
{
    HaskellObj result = CAPSTAN_UNIT;
    if (rts_try(stack, runHog, rts_getPtr(hog), &result)) return CAPSTAN_SMALL_INT(-1);
    return CAPSTAN_SMALL_INT(result == &capstan_HeapOverflow_closure);
}

static SchedulerStatus hogMemory(HsInt size, HsInt polls)
{
    HaskellObj ret = CAPSTAN_UNIT;
    Capability *cap = rts_lock();
    HaskellObj hog = rts_apply(cap, &limitsHog_closure, rts_mkInt(cap, size));
    rts_evalIO(&cap, rts_apply(cap, (HaskellObj)runIO_closure, rts_apply(cap, hog, rts_mkInt(cap, polls))), &ret);
    SchedulerStatus status = rts_getSchedStatus(cap);
    if (ret != CAPSTAN_POISON) status = NoStatus;
    rts_unlock(cap);
    return status;
}

static void test_heap_limit_in_managed_code(void **state)
{
    static const HsInt sizes[] = { 0, 16, 900, 20000, 1 << 20 };
    assert_int_equal(startLimited(2), RTS_OK);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        /* With a safepoint often, and once in a while. */
        for (HsInt polls = SLOW_BUILD ? 2000 : 10; polls <= 100000; polls *= 20) {
            assert_int_equal(hogMemory(sizes[i], polls), HeapExhausted);
            assert_int_equal(callWell(), 42);
        }
    }
    assert_true(tookUp(&heard.outOfHeap) > 0);
    assert_int_equal(heardOtherErrors(), 0);
    hs_exit();
}

static void test_heap_limit_caught(void **state)
{
    HsInt value = 0;
    assert_int_equal(startLimited(1), RTS_OK);
    /* Raised by a safepoint; and by the program, which was answered CAPSTAN_POISON long before the next one: caught, it is over either way. */
    for (HsInt polls = SLOW_BUILD ? 2000 : 100; polls <= 1000000; polls *= 100) {
        Hog hog = { 0, polls };
        assert_int_equal(callAction(&limitsCatchHog_closure, &hog, &value), Success);
        assert_int_equal(value, 1);
        assert_int_equal(callWell(), 42);
    }
    hs_exit();
}

static void *hogOnThread(void *arg)
{
    for (int i = 0; i < (SLOW_BUILD ? 1 : 3); i++)
        if (hogMemory((HsInt)arg, 100) != HeapExhausted) return (void *)1;
    return NULL;
}

static void test_heap_limit_many(void **state)
{
    pthread_t threads[4];
    assert_int_equal(startLimited(2), RTS_OK);
    for (intptr_t i = 0; i < 4; i++) threads[i] = spawn(hogOnThread, (void *)(i * 500));
    for (int i = 0; i < 4; i++) assert_null(joinThread(threads[i]));
    hs_perform_gc();
    assert_int_equal(callWell(), 42);
    hs_exit();
}

/* Nothing may unwind there, and nothing is collected. */
static void test_heap_limit_between_lock_and_unlock(void **state)
{
    static const size_t sizes[] = { 8, 500, 100000, 3 << 20 };
    assert_int_equal(startLimited(1), RTS_OK);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        HaskellObj ret = CAPSTAN_UNIT;
        size_t taken = 0;
        Capability *cap = rts_lock();
        while (taken <= 2 * LIMIT && rts_mkBytes(cap, NULL, sizes[i]) != CAPSTAN_POISON) taken += sizes[i];
        assert_true(taken <= 2 * LIMIT);
        assert_int_equal(rts_getSchedStatus(cap), HeapExhausted);
        /* A stub that goes on has its call end in the same way. */
        rts_evalIO(&cap, rts_apply(cap, &limitsHog_closure, CAPSTAN_POISON), &ret);
        assert_int_equal(rts_getSchedStatus(cap), HeapExhausted);
        assert_true(ret == CAPSTAN_POISON);
        rts_unlock(cap);
        hs_perform_gc();
        assert_int_equal(callWell(), 42);
    }
    hs_exit();
}

/* What lives grows step by step past what a collection has room to copy. */
static void test_heap_limit_during_collection(void **state)
{
    unsigned steps = 0;
    size_t length = SLOW_BUILD ? 6000 : isEmulated() ? 12000 : 3000; /* fewer of them fit: a collection takes long there */
    StgStablePtr kept[1000];
    assert_int_equal(startLimited(2), RTS_OK);
    for (bool full = false; !full && steps < 1000; ) {
        Capability *cap = rts_lock();
        HaskellObj bytes = rts_mkBytes(cap, "kept", 4), array = rts_mkArray(cap, length, bytes);
        full = array == CAPSTAN_POISON;
        if (!full) kept[steps++] = getStablePtr((StgPtr)(void *)array);
        rts_unlock(cap);
        hs_perform_gc();
    }
    assert_true(steps > 100 && steps < 1000);
    /* All of it is still there. */
    Capability *cap = rts_lock();
    for (unsigned i = 0; i < steps; i++) {
        char text[5] = "";
        HaskellObj array = (HaskellObj)(void *)deRefStablePtr(kept[i]);
        assert_int_equal(rts_arrayLength(array), length);
        rts_copyBytes(rts_getElem(array, length - 1), 0, text, 4);
        assert_string_equal(text, "kept");
        freeStablePtr(kept[i]);
    }
    rts_unlock(cap);
    hs_perform_gc();
    assert_int_equal(callWell(), 42);
    assert_int_equal(hogMemory(0, 100), HeapExhausted);
    assert_int_equal(callWell(), 42);
    hs_exit();
}

/* ---- What is given back only by finalizers ---- */

/* A safepoint in so many cells. */
#define SOMETIMES (SLOW_BUILD ? 2000 : 100)

static _Atomic int finalized;

static void giveBack(void *ctx, void *bytes)
{
    rts_externalMemory(NULL, -(ptrdiff_t)(uintptr_t)bytes);
    atomic_fetch_add(&finalized, 1);
}

static void freeKept(void *ctx, void *stable)
{
    freeStablePtr(stable);
    atomic_fetch_add(&finalized, 1);
}

static void attachTo(Stack *stack, HaskellObj key, void (*fn)(void *ctx, void *ptr), void *ptr)
{
    HaskellObj weak = rts_mkWeakNoFinalizer(stack->cap, key, CAPSTAN_UNIT);
    if (!rts_addCFinalizerToWeak(stack->cap, weak, fn, NULL, ptr)) rts_raise(stack, &capstan_HeapOverflow_closure);
}

#define MEGABYTES 200

/* Objects that are dead at once, with a megabyte behind each that its finalizer gives back. */
CAPSTAN_IO(limitsExternal)
{
    for (int i = 0; i < MEGABYTES; i++) {
        attachTo(stack, rts_mkMutVar(stack->cap, CAPSTAN_UNIT), giveBack, (void *)((uintptr_t)1 << 20));
        rts_externalMemory(stack->cap, 1 << 20);
        rts_poll(stack);
    }
    return CAPSTAN_SMALL_INT(1);
}

#define KEPT_CELLS 1000 /* 24 KB */
#define KEPT_LISTS (SLOW_BUILD ? 800 : 2000)

/* The same with what a stable pointer keeps: only the collection behind the finalizers finds it dead. */
CAPSTAN_IO(limitsStable)
{
    for (int i = 0; i < KEPT_LISTS; i++) {
        HaskellObj list = &LimitsNil_closure;
        for (int k = 0; k < KEPT_CELLS; k++) list = LimitsCell_new(stack->cap, CAPSTAN_SMALL_INT(k), list);
        if (list == CAPSTAN_POISON) rts_raise(stack, &capstan_HeapOverflow_closure);
        attachTo(stack, rts_mkMutVar(stack->cap, CAPSTAN_UNIT), freeKept, getStablePtr((StgPtr)(void *)list));
        rts_poll(stack);
    }
    return CAPSTAN_SMALL_INT(1);
}

typedef struct { _Atomic int over; SchedulerStatus status; } Submitted;

static void noteResult(void *ctx, const RtsResult *result)
{
    Submitted *s = ctx;
    s->status = result->status;
    atomic_store(&s->over, 1);
}

/* In a thread that is not bound. */
static SchedulerStatus submitAndWait(HaskellObj action)
{
    Submitted s = { 0, NoStatus };
    RtsSubmission submission = RTS_SUBMISSION_INIT;
    submission.function = action;
    submission.done = noteResult;
    submission.ctx = &s;
    assert_int_equal(rts_submit(&submission, NULL), RTS_OK);
    waitFor(&s.over);
    return s.status;
}

static void test_heap_limit_and_finalizers(void **state)
{
    for (unsigned n = 1; n <= 2; n++) {
        atomic_store(&finalized, 0);
        assert_int_equal(startLimited(n), RTS_OK);
        assert_int_equal(callAction(&limitsExternal_closure, NULL, NULL), Success);
        assert_int_equal(submitAndWait(&limitsExternal_closure), Success);
        assert_true(atomic_load(&finalized) >= 2 * MEGABYTES - 16);
        hs_perform_gc();
        while (atomic_load(&finalized) < 2 * MEGABYTES) sleepMs(1); /* some of them may have been begun by another thread */
        assert_int_equal(rts_getExternalMemory(), 0);
        assert_int_equal(heardOtherErrors(), 0);
        hs_exit();
        assert_int_equal(atomic_load(&finalized), 2 * MEGABYTES);
    }
}

static void *callExternal(void *status)
{
    *(SchedulerStatus *)status = callAction(&limitsExternal_closure, NULL, NULL);
    return NULL;
}

/* Several at once, who fill the heap again while one of them is about to judge what a collection has left. */
static void test_heap_limit_and_many_finalizers(void **state)
{
    enum { CALLERS = 3 };
    for (unsigned n = 1; n <= 2; n++) {
        pthread_t callers[CALLERS];
        SchedulerStatus statuses[CALLERS];
        assert_int_equal(startLimited(n), RTS_OK);
        for (int i = 0; i < CALLERS; i++) callers[i] = spawn(callExternal, &statuses[i]);
        for (int i = 0; i < CALLERS; i++) joinThread(callers[i]);
        for (int i = 0; i < CALLERS; i++) assert_int_equal(statuses[i], Success);
        hs_exit();
    }
}

static void test_heap_limit_and_stable_pointers(void **state)
{
    atomic_store(&finalized, 0);
    assert_int_equal(startLimited(1), RTS_OK);
    assert_int_equal(callAction(&limitsStable_closure, NULL, NULL), Success);
    assert_int_equal(submitAndWait(&limitsStable_closure), Success);
    assert_int_equal(hogMemory(0, SOMETIMES), HeapExhausted);
    hs_exit();
    assert_int_equal(atomic_load(&finalized), 2 * KEPT_LISTS);
}

/* One that takes for ever does not keep the thread from hearing of it. */
static _Atomic int stuckBegun, stuckMayEnd;
static void getStuck(void *ctx, void *ptr)
{
    atomic_store(&stuckBegun, 1);
    waitFor(&stuckMayEnd);
}
CAPSTAN_IO(limitsStick)
{
    attachTo(stack, rts_mkMutVar(stack->cap, CAPSTAN_UNIT), getStuck, NULL);
    return CAPSTAN_SMALL_INT(1);
}
static void *collectAll(void *arg)
{
    hs_perform_gc();
    return NULL;
}

static void test_heap_limit_and_stuck_finalizer(void **state)
{
    atomic_store(&stuckBegun, 0);
    atomic_store(&stuckMayEnd, 0);
    assert_int_equal(startLimited(1), RTS_OK);
    assert_int_equal(callAction(&limitsStick_closure, NULL, NULL), Success);
    pthread_t collector = spawn(collectAll, NULL);
    waitFor(&stuckBegun);
    SchedulerStatus hogged = hogMemory(0, SOMETIMES), other = callAction(&limitsExternal_closure, NULL, NULL);
    atomic_store(&stuckMayEnd, 1);
    joinThread(collector);
    assert_int_equal(hogged, HeapExhausted);
    assert_int_equal(other, Success);
    hs_exit();
}

/* ---- After an in-call that ran out of memory the next one finds room, before it evaluates anything ---- */

CAPSTAN_IO(limitsHogAll)
{
    return hogList(stack, 0, SOMETIMES);
}
CAPSTAN_IO(limitsLength, bytes)
{
    size_t n;
    rts_bytes(rts_force(stack, bytes), &n);
    return rts_int(stack, (HsInt)n);
}

/* In the C code of an in-call. */
static void expectRoom(size_t bytes)
{
    HaskellObj ret;
    Capability *cap = rts_lock();
    HaskellObj argument = rts_mkBytes(cap, NULL, bytes);
    assert_true(argument != CAPSTAN_POISON);
    assert_int_equal(rts_getSchedStatus(cap), NoStatus);
    rts_evalIO(&cap, rts_apply(cap, &limitsLength_closure, argument), &ret);
    assert_int_equal(rts_getSchedStatus(cap), Success);
    assert_int_equal(rts_getInt(ret), bytes);
    rts_unlock(cap);
}

/* Past the end, with nothing but C. */
static void fillFromC(void)
{
    Capability *cap = rts_lock();
    HaskellObj list = &LimitsNil_closure, next;
    for (int i = 0; i < 100 && (next = rts_mkBytes(cap, NULL, 300000)) != CAPSTAN_POISON; i++) list = LimitsCell_new(cap, next, list);
    assert_int_equal(rts_getSchedStatus(cap), HeapExhausted);
    rts_unlock(cap);
}

static void test_heap_limit_then_room(void **state)
{
    size_t much = 4 << 20;
    assert_int_equal(startLimited(2), RTS_OK);
    for (int k = 0; k < (SLOW_BUILD ? 1 : 3); k++) {
        assert_int_equal(hogMemory(0, SOMETIMES), HeapExhausted);
        expectRoom(much);
        rts_setInCallCapability(0, 0);
        assert_int_equal(hogMemory(0, SOMETIMES), HeapExhausted);
        rts_setInCallCapability(1, 0);
        expectRoom(much);
        rts_setInCallCapability(-1, 0);
        assert_int_equal(submitAndWait(&limitsHogAll_closure), HeapExhausted);
        expectRoom(much);
        fillFromC();
        expectRoom(much);
    }
    assert_int_equal(heardOtherErrors(), 0);
    hs_exit();
}

/* ---- A limit for many capabilities ---- */

/* What the message says is needed, in MiB. */
static size_t leastFor(unsigned capabilities, size_t limit)
{
    char message[300] = "";
    unsigned n = 0;
    size_t least = 0;
    RtsConfig config = hookedConfig(capabilities);
    config.heap_limit_bytes = limit;
    assert_int_equal(rts_start(&config, message, sizeof message), RTS_BAD_OPTION);
    assert_int_equal(sscanf(message, "heap_limit_bytes (-M): %u capabilities (-N) need %zu MiB at least", &n, &least), 2);
    assert_int_equal(n, capabilities);
    assert_true(least << 20 > limit);
    return least;
}

static void test_least_limit(void **state)
{
    static const unsigned counts[] = { 64, 200, 1024 };
    for (size_t i = 0; i < (SLOW_BUILD ? 1 : sizeof counts / sizeof *counts); i++) {
        unsigned n = counts[i];
        RtsConfig config = hookedConfig(n);
        config.heap_limit_bytes = leastFor(n, (size_t)4 << 20) << 20;
        leastFor(n, config.heap_limit_bytes - 1);
        assert_int_equal(rts_start(&config, NULL, 0), RTS_OK);
        for (unsigned k = 0; k < n; k++) {
            rts_setInCallCapability((int)k, 0);
            assert_int_equal(callWell(), 42);
        }
        rts_setInCallCapability(-1, 0);
        assert_int_equal(hogMemory(0, SOMETIMES), HeapExhausted);
        assert_int_equal(callWell(), 42);
        expectRoom(100000);
        hs_exit();
    }
}

/* ---- The operating system refuses ---- */

/* Whatever it lets us have, the answer is a status and never a crash. */
static void startInLittleSpace(void)
{
    char message[200] = "";
    RtsConfig config = hookedConfig(2);
    RtsStatus status = rts_start(&config, message, sizeof message);
    if (status != RTS_OK) _exit(status == RTS_NO_MEMORY && message[0] != 0 ? 0 : 1);
    HsInt value = callWell();
    if (value != 42 && value != -(HsInt)HeapExhausted) _exit(2);
    SchedulerStatus hogged = hogMemory(1000, 100);
    if (hogged != HeapExhausted) _exit(3);
    /* Nothing of it lives any more: so there is room. */
    for (int i = 0; i < 3; i++) {
        if (callWell() != 42) _exit(4);
        hs_perform_gc();
    }
    hs_exit();
    _exit(0);
}

static void test_little_address_space(void **state)
{
#if defined(MISUSE_ASAN) || defined(MISUSE_TSAN)
    skip(); /* their shadow takes more */
#endif
    SKIP_EMULATED(LIMITS_NO_ADDRESSES);
    static const rlim_t sizes[] = { 32 << 20, 64 << 20, 200 << 20, (rlim_t)1 << 30 };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        fflush(NULL);
        pid_t child = fork();
        if (child == 0) {
            struct rlimit limit = { sizes[i], sizes[i] };
            signal(SIGSEGV, SIG_DFL);
            alarm(TEST_SECONDS);
            setrlimit(RLIMIT_AS, &limit);
            startInLittleSpace();
        }
        int status = -1;
        waitpid(child, &status, 0);
        if (status != 0) fail_msg("in %lu bytes: wait status %x", (unsigned long)sizes[i], (unsigned)status);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_deep_recursion),
        TEST(test_deep_on_small_stack),
        TEST(test_deep_thunks),
        TEST(test_killed_evaluators),
        TEST(test_heap_limit_in_managed_code),
        TEST(test_heap_limit_caught),
        TEST(test_heap_limit_many),
        TEST(test_heap_limit_between_lock_and_unlock),
        TEST(test_heap_limit_during_collection),
        TEST(test_heap_limit_and_finalizers),
        TEST(test_heap_limit_and_many_finalizers),
        TEST(test_heap_limit_and_stable_pointers),
        TEST(test_heap_limit_and_stuck_finalizer),
        TEST(test_heap_limit_then_room),
        TEST(test_least_limit),
        TEST(test_little_address_space),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

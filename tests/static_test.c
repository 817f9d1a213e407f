/*
 * Static closures that change, modules that are unloaded, memory outside the heap that is counted.
 */
#define IDLE_COLLECTION_US 1000000000 /* nobody collects but who is told to */
#include "keeping.h"

#include <sys/mman.h>

/* ---- Static variables ---- */

CAPSTAN_STATIC_MUTVAR(counter, CAPSTAN_SMALL_INT(5));
CAPSTAN_STATIC_MUTVAR(untouched, &capstan_catch_closure);
CAPSTAN_CAF(table) { return thing(stack->cap, 11); }

static void testStaticVariable(void **state)
{
    for (int restart = 0; restart < 2; restart++) {
        Capability *cap = rts_lock();
        assert_ptr_equal(rts_readMutVar(&counter_closure), CAPSTAN_SMALL_INT(5));
        assert_ptr_equal(rts_readMutVar(&untouched_closure), &capstan_catch_closure);
        rts_writeMutVar(cap, &counter_closure, thing(cap, 1));
        rts_unlock(cap);
        for (int round = 0; round < 30; round++) {
            if (round % 5 == 3) hs_perform_gc();
            else rts_performMinorGC();
            cap = rts_lock();
            HaskellObj was = rts_readMutVar(&counter_closure);
            assert_int_equal(numberOf(was), 1 + round);
            HaskellObj next = thing(cap, 2 + round);
            if (round % 2) rts_writeMutVar(cap, &counter_closure, next);
            else assert_true(rts_casMutVar(cap, &counter_closure, was, next));
            rts_unlock(cap);
        }
        hs_exit();
        assert_int_equal(setUpTwo(state), 0);
    }
}

/* Variables and constants, written and computed by threads that collect. */
CAPSTAN_IO(useStatics, seedValue)
{
    uint64_t seed = (uint64_t)rts_getInt(seedValue);
    for (HsInt i = 0; i < many(2000); i++) {
        HaskellObj was = rts_readMutVar(&counter_closure);
        if (!rts_isImmediate(was)) CHECK(numberOf(was) >= 0);
        rts_setMutVar(stack->cap, &counter_closure, nextRandom(&seed) % 4 ? thing(stack->cap, i) : CAPSTAN_UNIT);
        CHECK(numberOf(rts_force(stack, &table_closure)) == 11);
        if (nextRandom(&seed) % 32 == 0) rts_collect(stack, nextRandom(&seed) % 8 == 0);
        else rts_poll(stack);
    }
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(useStaticsTwice)
{
    HaskellObj done = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, done);
    for (int i = 0; i < 3; i++) FORK(stack, schedReport, APPLY(stack->cap, useStatics, CAPSTAN_SMALL_INT(i)), done);
    for (int i = 0; i < 3; i++) CHECK(rts_takeMVar(stack, done) == CAPSTAN_UNIT);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
static void testStaticsStorm(void **state) { run(&useStaticsTwice_closure); }

/* ---- A module: its static data in pages of their own, which go away ---- */

enum { EXPORTS = 3 };
typedef struct {
    StgInfoTable conInfo, cafInfo, funInfo;
    StgStaticThunk caf;
    StgStaticMutVar variable;
    StgClosure *constant[2];
    StgWord exports[2 + EXPORTS]; /* a ForeignExportsList */
    char code[64]; /* what is called there is not, in this test */
} Module;

static struct ForeignExportsList *exportsOf(Module *m) { return (struct ForeignExportsList *)(void *)m->exports; }

static HaskellObj cafEntry(Stack *stack, HaskellObj self) { return thing(stack->cap, 22); }
static HaskellObj funEntry(Stack *stack, HaskellObj self, HaskellObj x) { return x; }

static Module *load(void)
{
    Module *m = mmap(NULL, sizeof *m, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (m == MAP_FAILED) abort();
    m->conInfo = (StgInfoTable){ .kind = CLOSURE_CON, .ptrs = 1, .name = "of the module" };
    m->cafInfo = (StgInfoTable){ .kind = CLOSURE_THUNK, .flags = INFO_STATIC, .entry = (StgFunPtr)cafEntry, .name = "caf" };
    m->funInfo = (StgInfoTable){ .kind = CLOSURE_FUN, .flags = INFO_STATIC, .arity = 1, .entry = (StgFunPtr)funEntry, .name = "fun" };
    m->caf.info = &m->cafInfo;
    m->variable = (StgStaticMutVar){ &capstan_STATICMUTVAR_info, CAPSTAN_UNIT, NULL, CAPSTAN_UNIT };
    m->constant[0] = (StgClosure *)(void *)&m->funInfo; /* a closure: its first word is the table */
    exportsOf(m)->n_entries = EXPORTS;
    for (int i = 0; i < EXPORTS; i++) exportsOf(m)->exports[i] = (StgPtr)m->constant;
    return m;
}

static RtsStatus forget(Module *m) { return rts_forgetStatics(m, m + 1); }

static void unload(Module *m)
{
    munmap(m, sizeof *m);
    for (int i = 0; i < 3; i++) {
        rts_performMinorGC();
        hs_perform_gc();
    }
}

CAPSTAN_IO(useModule, ptr)
{
    Module *m = rts_getPtr(ptr);
    CHECK(numberOf(rts_force(stack, (HaskellObj)&m->caf)) == 22);
    rts_writeMutVar(stack->cap, (HaskellObj)&m->variable, rts_mkCon(stack->cap, &m->conInfo, (HaskellObj[]){ (HaskellObj)m->constant }));
    CHECK(rts_call(stack, (HaskellObj)m->constant, CAPSTAN_SMALL_INT(3)) == CAPSTAN_SMALL_INT(3));
    rts_collect(stack, true);
    return CAPSTAN_UNIT;
}

static StgWord64 stablePtrs(void)
{
    RtsCounts counts;
    rts_getCounts(&counts);
    return counts.stable_ptrs;
}

static void useIt(Module *m)
{
    assert_int_equal(callAction(&useModule_closure, m, NULL), Success);
    assert_int_equal(failedChecks, 0);
}

static void testUnload(void **state)
{
    for (int i = 0; i < 3; i++) {
        Module *m = load();
        useIt(m);
        assert_non_null(m->caf.link);
        assert_non_null(m->variable.link);
        assert_int_equal(forget(m), RTS_OK);
        assert_null(m->caf.link);
        assert_int_equal(m->caf.state, 0);
        assert_null(m->variable.link);
        assert_ptr_equal(m->variable.value, CAPSTAN_UNIT);
        unload(m);
    }
    assert_int_equal(heardOtherErrors(), 0);
}

/* Its export lists: linked before the start, their stable pointers go too; linked later, and among others. */
static void testExportLists(void **state)
{
    hs_exit();
    Module *m[3] = { load(), load(), load() };
    for (int i = 0; i < 3; i++) registerForeignExports(exportsOf(m[i]));
    assert_int_equal(setUpTwo(state), 0);
    StgWord64 before = stablePtrs();
    assert_true(before >= 3 * EXPORTS);
    assert_int_equal(forget(m[1]), RTS_OK);
    assert_int_equal(stablePtrs(), before - EXPORTS);
    unload(m[1]);
    Module *late = load();
    registerForeignExports(exportsOf(late));
    assert_int_equal(forget(late), RTS_OK);
    unload(late);
    assert_int_equal(forget(m[2]), RTS_OK);
    unload(m[2]);
    hs_exit();
    assert_int_equal(forget(m[0]), RTS_OK); /* without a runtime */
    munmap(m[0], sizeof *m[0]);
    assert_int_equal(setUpTwo(state), 0);
    assert_int_equal(stablePtrs(), before - 3 * EXPORTS);
}

/* Each thing that still refers to it is found, and once it has gone the module can go. */
static void assertBusy(Module *m, const char *what)
{
    assert_int_equal(forget(m), RTS_BUSY);
    assert_int_equal(heardError(RTS_BUSY), 1);
    if (strstr(heard.error, what) == NULL) fail_msg("expected %s in: %s", what, heard.error);
}

static void nothing(void *ctx, void *ptr) {}
static void scanNothing(RtsRootScanner *self, RtsVisitor *visitor, bool minor) {}

static void testBusy(void **state)
{
    Module *m = load();
    Capability *cap = rts_lock();
    HsStablePtr sp = keep(rts_mkCon(cap, &m->conInfo, (HaskellObj[]){ CAPSTAN_UNIT }));
    rts_unlock(cap);
    assertBusy(m, "kinds");
    hs_free_stable_ptr(sp);

    cap = rts_lock();
    sp = keep((HaskellObj)m->constant);
    rts_unlock(cap);
    assertBusy(m, "static closure");
    hs_free_stable_ptr(sp);

    StgInfoTable model = { .kind = CLOSURE_FUN, .arity = 1, .entry = (StgFunPtr)(uintptr_t)m->code, .name = "made" };
    const StgInfoTable *made = rts_newInfoTable(&model);
    cap = rts_lock();
    sp = keep(rts_mkArray(cap, 1, rts_mkClosure(cap, made, NULL)));
    rts_unlock(cap);
    assertBusy(m, "code");
    hs_free_stable_ptr(sp);

    cap = rts_lock();
    HaskellObj weak = rts_mkWeak(cap, &note_closure, thing(cap, 1), (HaskellObj)m->constant); /* never dies */
    assert_true(rts_deRefWeak(weak, &weak));
    rts_unlock(cap);
    assertBusy(m, "static closure");
    hs_exit();
    assert_int_equal(setUpTwo(state), 0);

    cap = rts_lock();
    HsStablePtr key = keep(thing(cap, 1));
    rts_addCFinalizerToWeak(cap, rts_mkWeakNoFinalizer(cap, kept(key), CAPSTAN_UNIT), nothing, m->code, NULL);
    rts_unlock(cap);
    assertBusy(m, "C finalizer");
    hs_free_stable_ptr(key);

    cap = rts_lock();
    sp = keep(rts_mkBytesExternal(cap, m->code, sizeof m->code, NULL, NULL));
    rts_unlock(cap);
    assertBusy(m, "byte array");
    hs_free_stable_ptr(sp);
    assert_int_equal(forget(m), RTS_OK);
    unload(m);
}

/* In a thread that waits. */
CAPSTAN_IO(waitWithModule, ptr, box)
{
    Module *m = rts_getPtr(ptr);
    RtsRootScanner *scanner = (RtsRootScanner *)(void *)m->code;
    *scanner = (RtsRootScanner){ .scan = scanNothing };
    rts_addScanner(stack, scanner);
    makeNote(1);
    rts_takeMVar(stack, box);
    rts_removeScanner(stack, scanner);
    makeNote(2);
    return CAPSTAN_UNIT;
}
static void testBusyInThread(void **state)
{
    Module *m = load();
    Capability *cap = rts_lock();
    HaskellObj box = rts_mkMVar(cap);
    HsStablePtr keeper = keep(box);
    clearNotes();
    scheduleThread(cap, createIOThread(cap, 0, APPLY(cap, waitWithModule, rts_mkPtr(cap, m), box)));
    rts_unlock(cap);
    AWAIT_NOTES(1);
    assertBusy(m, "scanner");
    hs_try_putmvar(-1, keeper);
    AWAIT_NOTES(2);
    assert_int_equal(forget(m), RTS_OK);
    unload(m);
}

static void *forgetInside(void *arg) { return (void *)(intptr_t)rts_forgetStatics(arg, (char *)arg + 8); }
static void testForgetBadInput(void **state)
{
    char here[8] = "";
    HsInt answer = 0;
    assert_int_equal(rts_forgetStatics(here + 1, here), RTS_BAD_ARGUMENT);
    assert_int_equal(heardError(RTS_BAD_ARGUMENT), 1);
    assert_int_equal(rts_forgetStatics(here, here), RTS_OK);
    callUnsafely(forgetInside, here, &answer);
    assert_int_equal(answer, RTS_HOLDS_CAPABILITY);
    assert_int_equal(heardError(RTS_HOLDS_CAPABILITY), 1);
    callSafely(forgetInside, here, &answer);
    assert_int_equal(answer, RTS_OK);
}

/* ---- Memory outside ---- */

static void giveBack(void *ctx, void *ptr)
{
    rts_externalMemory(NULL, -(ptrdiff_t)(uintptr_t)ptr);
    atomic_fetch_add((_Atomic unsigned *)ctx, 1);
}

static void testCounting(void **state)
{
    Capability *cap = rts_lock();
    assert_int_equal(rts_getExternalMemory(), 0);
    rts_externalMemory(cap, 1000);
    rts_externalMemory(cap, -400);
    assert_int_equal(rts_getExternalMemory(), 600);
    rts_externalMemory(NULL, -10000);
    assert_int_equal(rts_getExternalMemory(), 0);
    /* It ends above as well. */
    for (int i = 0; i < 3; i++) {
        rts_externalMemory(NULL, PTRDIFF_MAX);
        assert_true(rts_getExternalMemory() == PTRDIFF_MAX);
        rts_externalMemory(NULL, 1);
        assert_true(rts_getExternalMemory() == PTRDIFF_MAX);
    }
    rts_externalMemory(NULL, -PTRDIFF_MAX);
    assert_int_equal(rts_getExternalMemory(), 0);
    rts_unlock(cap);
}

/* Small objects with a lot of memory behind them: collections come for that memory's sake. */
CAPSTAN_IO(makeBig, counterPtr)
{
    _Atomic unsigned *freed = rts_getPtr(counterPtr);
    for (HsInt i = 0; i < 400; i++) {
        HaskellObj weak = rts_mkWeakNoFinalizer(stack->cap, thing(stack->cap, i), CAPSTAN_UNIT);
        rts_externalMemory(stack->cap, 1 << 20);
        CHECK(rts_addCFinalizerToWeak(stack->cap, weak, giveBack, freed, (void *)(1 << 20)));
        rts_poll(stack);
    }
    return CAPSTAN_UNIT;
}
static void testPace(void **state)
{
    _Atomic unsigned freed = 0;
    assert_int_equal(callAction(&makeBig_closure, &freed, NULL), Success);
    assert_int_equal(failedChecks, 0);
    AWAIT(freed >= 100); /* nobody asked for a collection but the count */
    hs_perform_gc();
    AWAIT(freed == 400); /* some of them may have been begun by another thread */
    assert_int_equal(rts_getExternalMemory(), 0);
}

/* Beyond the limit: HeapOverflow at the next safepoint, as long as it is kept. */
static int setUpLimited(void **state)
{
    RtsConfig config = schedConfig(2);
    config.heap_limit_bytes = 32u << 20;
    return setUpWith(state, &config);
}
CAPSTAN_IO(addMuch, bytes)
{
    rts_externalMemory(stack->cap, (ptrdiff_t)rts_getInt(bytes));
    rts_poll(stack);
    return CAPSTAN_UNIT;
}
static void testLimit(void **state)
{
    assert_int_equal(runStatus(&addMuch_closure, CAPSTAN_SMALL_INT(1 << 20), NULL, NULL, 0), Success);
    assert_int_equal(runStatus(&addMuch_closure, CAPSTAN_SMALL_INT(64 << 20), NULL, NULL, 0), HeapExhausted);
    rts_externalMemory(NULL, -(64 << 20));
    assert_int_equal(runStatus(&addMuch_closure, CAPSTAN_SMALL_INT(1 << 20), NULL, NULL, 0), Success);
    assert_int_equal(callWell(), 42);
}

static void releaseBytes(void *ctx, void *bytes)
{
    free(bytes);
    atomic_fetch_add((_Atomic unsigned *)ctx, 1);
}
static void testCountedBytes(void **state)
{
    _Atomic unsigned released = 0;
    Capability *cap = rts_lock();
    HsStablePtr keys[10];
    for (int i = 0; i < 10; i++) keys[i] = keep(rts_mkBytesExternalCounted(cap, malloc(1000), 1000, releaseBytes, &released));
    rts_unlock(cap);
    assert_int_equal(rts_getExternalMemory(), 10000);
    for (int i = 0; i < 5; i++) hs_free_stable_ptr(keys[i]);
    hs_perform_gc();
    assert_int_equal(released, 5);
    assert_int_equal(rts_getExternalMemory(), 5000);
    hs_exit();
    assert_int_equal(released, 10);
    assert_int_equal(rts_getExternalMemory(), 0);
}

#define ALL_TESTS                                                                                                     \
    TWO(testStaticVariable), ALL(testStaticsStorm), TWO(testUnload), TWO(testExportLists), TWO(testBusy), TWO(testBusyInThread), \
        TWO(testForgetBadInput), TWO(testCounting), TWO(testPace), TWO(testCountedBytes), \
        { "testLimit", testLimit, setUpLimited, disarmTest, NULL }

int main(void)
{
    const struct CMUnitTest tests[] = { ALL_TESTS };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

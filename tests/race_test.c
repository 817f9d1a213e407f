/*
 * Two threads at the same thing, without anything else between them: for ThreadSanitizer, which then need not be lucky.  Each case is a few lines, and over at
 * once; other builds learn only that the answers are sensible.
 */
#include "keeping.h"

static _Atomic bool over;
static HsStablePtr shared; /* what the case is about */

static HsInt rounds(void) { return isEmulated() ? 200 : 20000; }

static _Atomic HsInt began;
static bool isLate(void) { return nowMs() - began > 2000; }

static void setShared(HaskellObj (*make)(Capability *cap))
{
    Capability *cap = rts_lock();
    shared = keep(make(cap));
    rts_unlock(cap);
    over = false;
}

/* One does something, again and again, while another does something else so many times, or for two seconds. */
static void doBeside(void *(*again)(void *), void *(*other)(void *), void *arg)
{
    began = nowMs();
    pthread_t thread = spawn(again, arg);
    onThread(other, arg);
    over = true;
    joinThread(thread);
}

/* ---- Interning what another takes out ---- */

CAPSTAN_CON(Symbol, 7, number)

static bool isSymbol(void *ctx, HaskellObj key) { return CAPSTAN_IS(Symbol, key); }

static void *internAgain(void *wrong)
{
    while (!over) {
        Capability *cap = rts_lock();
        HaskellObj mine = Symbol_new(cap, CAPSTAN_SMALL_INT(1));
        HaskellObj found = rts_weakTableIntern(cap, kept(shared), 1, isSymbol, NULL, mine, CAPSTAN_UNIT);
        if (found == NULL || !CAPSTAN_IS(Symbol, found)) atomic_fetch_add((_Atomic unsigned *)wrong, 1);
        rts_unlock(cap);
    }
    return NULL;
}
static void *uninternOften(void *unused)
{
    for (HsInt taken = 0; taken < rounds() / 4 && !isLate();) {
        Capability *cap = rts_lock();
        taken += rts_weakTableUnintern(cap, kept(shared), 1, isSymbol, NULL);
        rts_unlock(cap);
    }
    return NULL;
}
static void testIntern(void **state)
{
    _Atomic unsigned wrong = 0;
    setShared(rts_mkWeakTable);
    doBeside(internAgain, uninternOften, (void *)&wrong);
    assert_int_equal(wrong, 0);
}

/* ---- Is it empty? ---- */

static void *lookAgain(void *unused)
{
    while (!over) {
        Capability *cap = rts_lock();
        for (int i = 0; i < 100; i++) rts_isEmptyMVar(kept(shared));
        rts_unlock(cap);
    }
    return NULL;
}
CAPSTAN_IO(putAndTake, mvar, n)
{
    HsInt count = rts_intValue(n);
    CAPSTAN_ROOTS(stack, mvar);
    for (HsInt i = 0; i < count && !isLate(); i++) {
        rts_putMVar(stack, mvar, CAPSTAN_SMALL_INT(i));
        CHECK(rts_takeMVar(stack, mvar) == CAPSTAN_SMALL_INT(i));
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
static void *putAndTakeOften(void *unused)
{
    Capability *cap = rts_lock();
    rts_evalIO(&cap, APPLY(cap, putAndTake, kept(shared), CAPSTAN_SMALL_INT(rounds())), NULL);
    rts_unlock(cap);
    return NULL;
}
static void testEmpty(void **state)
{
    setShared(rts_mkMVar);
    doBeside(lookAgain, putAndTakeOften, NULL);
    assert_int_equal(failedChecks, 0);
}

/* ---- An in-call that is masked, and cancelled ---- */

static RtsInCallHandle handle;

static void *cancelAgain(void *unused)
{
    while (!over) rts_cancel(__atomic_load_n(&handle, __ATOMIC_ACQUIRE));
    return NULL;
}
CAPSTAN_IO(doNothing) { return CAPSTAN_UNIT; }
static void *evaluateMasked(void *unused)
{
    RtsLockOpts opts = RTS_LOCK_OPTS_INIT;
    opts.handle = &handle;
    for (HsInt i = 0; i < rounds() && !isLate(); i++) {
        Capability *cap;
        if (rts_lockOpt(&cap, &opts) != RTS_OK) continue;
        rts_evalStableIO(&cap, shared, NULL);
        rts_unlock(cap);
    }
    return NULL;
}
static HaskellObj makeNothing(Capability *cap) { return &doNothing_closure; }
static void testCancelMasked(void **state)
{
    setShared(makeNothing);
    doBeside(cancelAgain, evaluateMasked, NULL);
}

/* ---- Labels ---- */

static char heardLabel[40];

static void hearDeath(void *ctx, StgWord64 id, const char *label, HaskellObj exception, const char *text) { snprintf(heardLabel, sizeof heardLabel, "%s", label); }

CAPSTAN_IO(dieSoon)
{
    rts_yield(stack);
    rts_raise(stack, CAPSTAN_SMALL_INT(1));
}
static HaskellObj makeVar(Capability *cap) { return rts_mkMutVar(cap, CAPSTAN_UNIT); }
static void *labelAgain(void *unused)
{
    while (!over) {
        Capability *cap = rts_lock();
        HaskellObj id = rts_readMutVar(kept(shared));
        for (int i = 0; id != CAPSTAN_UNIT && i < 100; i++) rts_labelThread(id, i % 2 ? "odd" : "even");
        rts_unlock(cap);
    }
    return NULL;
}
CAPSTAN_IO(forkOften, n)
{
    HsInt count = rts_intValue(n);
    for (HsInt i = 0; i < count && !isLate(); i++) {
        HaskellObj id = FORK(stack, dieSoon);
        CAPSTAN_ROOTS(stack, id);
        rts_writeMutVar(stack->cap, kept(shared), id);
        while (!hasEnded(id)) rts_yield(stack);
        CAPSTAN_UNROOT(stack);
        CHECK(heardLabel[0] == 0 || strcmp(heardLabel, "odd") == 0 || strcmp(heardLabel, "even") == 0);
    }
    return CAPSTAN_UNIT;
}
static void *forkAll(void *unused)
{
    Capability *cap = rts_lock();
    rts_evalIO(&cap, APPLY(cap, forkOften, CAPSTAN_SMALL_INT(rounds() / 4)), NULL);
    rts_unlock(cap);
    return NULL;
}
static void testLabels(void **state)
{
    setShared(makeVar);
    pthread_t another = spawn(labelAgain, NULL);
    doBeside(labelAgain, forkAll, NULL);
    joinThread(another);
    assert_int_equal(failedChecks, 0);
}
static int setUpLabels(void **state)
{
    RtsConfig config = schedConfig(3);
    config.uncaughtHook = hearDeath;
    return setUpWith(state, &config);
}

/* ---- A static variable that is written to while one in front of it in the list goes ---- */

enum { VARIABLES = 100 };
static StgStaticMutVar stay[VARIABLES], go[VARIABLES];

static void *writeAgain(void *unused)
{
    while (!over) {
        Capability *cap = rts_lock();
        for (int i = 0; i < VARIABLES; i++) rts_writeMutVar(cap, (HaskellObj)&stay[i], thing(cap, i));
        rts_unlock(cap);
    }
    return NULL;
}
static void *forgetAll(void *unused)
{
    for (int i = 0; i < VARIABLES; i++) assert_int_equal(rts_forgetStatics(&go[i], &go[i] + 1), RTS_OK);
    return NULL;
}
static void testForget(void **state)
{
    const StgStaticMutVar fresh = { &capstan_STATICMUTVAR_info, CAPSTAN_UNIT, NULL, CAPSTAN_UNIT };
    over = false;
    Capability *cap = rts_lock();
    for (int i = 0; i < VARIABLES; i++) {
        go[i] = stay[i] = fresh;
        rts_writeMutVar(cap, (HaskellObj)&go[i], thing(cap, 1));
        rts_writeMutVar(cap, (HaskellObj)&stay[i], thing(cap, i));
    }
    rts_unlock(cap);
    doBeside(writeAgain, forgetAll, NULL);
    cap = rts_lock();
    for (int i = 0; i < VARIABLES; i++) {
        assert_int_equal(numberOf(rts_readMutVar((HaskellObj)&stay[i])), i);
        assert_ptr_equal(rts_readMutVar((HaskellObj)&go[i]), CAPSTAN_UNIT);
    }
    rts_unlock(cap);
}

/* ---- In-calls that go on by themselves just before they are woken, and OS threads that end and leave their records to others ---- */

CAPSTAN_IO(delayShortly)
{
    rts_threadDelay(stack, 1);
    return CAPSTAN_UNIT;
}
static void *delayInside(void *unused)
{
    runStatus(&delayShortly_closure, NULL, NULL, NULL, 0);
    return NULL;
}
static void *callInside(void *unused)
{
    callSafely(delayInside, NULL, NULL);
    return NULL;
}
static void *beginAgain(void *unused)
{
    while (!over) onThread(callInside, NULL);
    return NULL;
}
static void *beginOften(void *unused)
{
    for (HsInt i = 0; i < rounds() / 20 && !isLate(); i++) onThread(callInside, NULL);
    return NULL;
}
static void testLateWaker(void **state)
{
    over = false;
    doBeside(beginAgain, beginOften, NULL);
}

/* ---- A C function pointer that is called after it was freed, while its record becomes another's, of a type that nobody has seen ---- */

static HsInt (*_Atomic stale)(HsInt a, HsInt b, HsInt c);

CAPSTAN_IO(addThree, a, b, c) { return rts_int(stack, 1); }
static void *callAgain(void *unused)
{
    while (!over) {
        HsInt (*f)(HsInt a, HsInt b, HsInt c) = stale;
        if (f != NULL) f(1, 2, 3);
    }
    return NULL;
}
static void *makeAndFreeOften(void *unused)
{
    static const char letters[] = "LlWwSsBb";
    for (unsigned i = 0; i < 8 * 8 * 8 && !isLate(); i++) {
        char type[] = { 'L', letters[i % 8], letters[i / 8 % 8], letters[i / 64], 0 };
        Capability *cap = rts_lock();
        HsStablePtr function = keep(&addThree_closure);
        rts_unlock(cap);
        void *f = createAdjustor(function, NULL, type);
        if (f == NULL) abort();
        stale = (HsInt (*)(HsInt, HsInt, HsInt))f;
        freeHaskellFunctionPtr(f);
    }
    return NULL;
}
static void testStalePointer(void **state)
{
    over = false;
    stale = NULL;
    doBeside(callAgain, makeAndFreeOften, NULL);
}

/* ---- Counts, whether or not there is a runtime ---- */

static void *countAgain(void *unused)
{
    while (!over) {
        RtsCounts counts;
        RtsThreadCounts threads;
        RtsAdjustorCounts adjustors;
        RTSStats stats;
        rts_getCounts(&counts);
        rts_getThreadCounts(&threads);
        rts_getAdjustorCounts(&adjustors);
        getRTSStats(&stats);
        rts_getExternalMemory();
        rts_externalMemory(NULL, 1000);
        rts_externalMemory(NULL, -1000);
        sleepMs(1);
    }
    return NULL;
}
static void *restartOften(void *unused)
{
    for (int i = 0; i < 12; i++) {
        RtsConfig config = schedConfig(1 + (unsigned)i % 4);
        if (rts_start(&config, NULL, 0) != RTS_OK) abort();
        Capability *cap = rts_lock();
        rts_evalIO(&cap, APPLY(cap, schedInThread, &doNothing_closure), NULL);
        rts_unlock(cap);
        hs_exit();
    }
    return NULL;
}
static void testCounts(void **state)
{
    over = false;
    doBeside(countAgain, restartOften, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TWO(testIntern), TWO(testEmpty), TWO(testCancelMasked), { "testLabels", testLabels, setUpLabels, disarmTest, NULL }, TWO(testForget),
        TWO(testLateWaker), TWO(testStalePointer),
        { "testCounts", testCounts, armTest, disarmTest, NULL },
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * The end of the runtime, whatever is going on, and the next beginning.
 */
#include "misuse.h"

#include <sys/wait.h>

#include <cmocka.h>

#include "capability.h"

#define THREADS 6

/* ---- What runs when the end comes ---- */

typedef struct {
    _Atomic int begun, leave;
    SchedulerStatus status;
    RtsStatus refusal;
    bool dead;
    HsInt value;
} Caller;

static void *pollForEver(void *arg)
{
    Caller *caller = arg;
    caller->status = callAction(&misusePoll_closure, &caller->begun, &caller->value);
    return NULL;
}

static void *waitToLeave(void *arg)
{
    Caller *caller = arg;
    atomic_store(&caller->begun, 1);
    while (!atomic_load(&caller->leave)) sleepMs(1);
    return (void *)5;
}

/* The first half of a safe call, and the second when told. */
static void *callOutAndBack(void *arg)
{
    Caller *caller = arg;
    caller->status = callSafely(waitToLeave, caller, &caller->value);
    return NULL;
}

static void expectInterrupted(const Caller *caller)
{
    assert_int_equal(caller->status, Interrupted);
    assert_int_equal(caller->value, 0);
}

static void test_exit_with_calls_running(void **state)
{
    Caller callers[THREADS] = { 0 };
    pthread_t threads[THREADS];
    for (unsigned capabilities = 1; capabilities <= 4; capabilities++) {
        /* As many as run at once. */
        assert_int_equal(startHooked(capabilities), RTS_OK);
        for (unsigned i = 0; i < capabilities; i++) {
            atomic_store(&callers[i].begun, 0);
            threads[i] = spawn(pollForEver, &callers[i]);
        }
        for (unsigned i = 0; i < capabilities; i++) waitFor(&callers[i].begun);
        hs_exit();
        for (unsigned i = 0; i < capabilities; i++) {
            joinThread(threads[i]);
            expectInterrupted(&callers[i]);
        }
        assert_int_equal(heardOtherErrors(), 0);
    }
}

/* More than can run: some wait for a capability, in rts_lock or at a safepoint. */
static void test_exit_with_more_than_can_run(void **state)
{
    Caller callers[THREADS] = { 0 };
    pthread_t threads[THREADS];
    unsigned ended = 0;
    assert_int_equal(startHooked(1), RTS_OK);
    for (int i = 0; i < THREADS; i++) threads[i] = spawn(pollForEver, &callers[i]);
    waitFor(&callers[0].begun);
    sleepMs(20);
    hs_exit();
    for (int i = 0; i < THREADS; i++) {
        joinThread(threads[i]);
        assert_true(callers[i].status == Interrupted || callers[i].status == Refused);
        assert_int_equal(callers[i].value, 0);
        ended += callers[i].status == Interrupted;
    }
    assert_true(ended >= 1);
    unsigned closed = heardClosed(RTS_CLOSED) + heardClosed(RTS_NOT_STARTED);
    assert_int_equal(closed + ended, THREADS);
}

static void *lockOnce(void *arg)
{
    Caller *caller = arg;
    atomic_store(&caller->begun, 1);
    Capability *cap = rts_lock();
    caller->dead = rts_isDead(cap);
    caller->refusal = rts_getRefusal(cap);
    rts_unlock(cap);
    return NULL;
}

static void *exitOnce(void *arg)
{
    hs_exit();
    atomic_store((_Atomic int *)arg, 1);
    return NULL;
}

/* hs_exit waits for the holder; those in the queue get their answer. */
static void test_exit_with_waiters(void **state)
{
    Caller callers[THREADS] = { 0 };
    pthread_t threads[THREADS];
    _Atomic int over = 0;
    assert_int_equal(startHooked(1), RTS_OK);
    Capability *cap = rts_lock();
    for (int i = 0; i < THREADS; i++) threads[i] = spawn(lockOnce, &callers[i]);
    for (int i = 0; i < THREADS; i++) waitFor(&callers[i].begun);
    sleepMs(50);
    pthread_t exiter = spawn(exitOnce, &over);
    /* The others are sent home only once it has begun. */
    while (!(atomic_load(&capabilities[0].attention) & ATTENTION_SHUTDOWN)) sleepMs(1);
    sleepMs(50);
    assert_int_equal(atomic_load(&over), 0);
    /* The capability is as good as ever until its holder gives it up. */
    assert_false(rts_isDead(cap));
    HaskellObj bytes = rts_mkBytes(cap, "abc", 3);
    assert_int_equal(rts_copyBytes(bytes, 0, (char[3]){ 0 }, 3), 3);
    rts_unlock(cap);
    joinThread(exiter);
    assert_int_equal(atomic_load(&over), 1);
    for (int i = 0; i < THREADS; i++) {
        joinThread(threads[i]);
        assert_true(callers[i].dead);
        assert_int_equal(callers[i].refusal, RTS_CLOSED);
    }
    assert_int_equal(heardClosed(RTS_CLOSED), THREADS);
}

/* An evaluation that begins while the end waits for it. */
static void test_exit_before_evaluation(void **state)
{
    HaskellObj ret = CAPSTAN_UNIT;
    _Atomic int over = 0;
    assert_int_equal(startHooked(1), RTS_OK);
    Capability *cap = rts_lock();
    pthread_t exiter = spawn(exitOnce, &over);
    sleepMs(50);
    rts_evalIO(&cap, rts_apply(cap, &misusePoll_closure, rts_mkPtr(cap, &over)), &ret);
    assert_int_equal(rts_getSchedStatus(cap), Interrupted);
    assert_true(ret == CAPSTAN_POISON);
    rts_checkSchedStatus("here", cap);
    assert_int_equal(heardStatus(Interrupted), 1);
    rts_unlock(cap);
    joinThread(exiter);
    assert_int_equal(heardOtherErrors(), 0);
}

/* ---- Safe calls that come back late ---- */

static void startOutCalls(Caller *callers, pthread_t *threads)
{
    memset(callers, 0, THREADS * sizeof *callers);
    for (int i = 0; i < THREADS; i++) threads[i] = spawn(callOutAndBack, &callers[i]);
    for (int i = 0; i < THREADS; i++) waitFor(&callers[i].begun);
}

static void endOutCalls(Caller *callers, pthread_t *threads)
{
    for (int i = 0; i < THREADS; i++) atomic_store(&callers[i].leave, 1);
    for (int i = 0; i < THREADS; i++) {
        joinThread(threads[i]);
        expectInterrupted(&callers[i]);
    }
    assert_int_equal(heardOtherErrors(), 0);
}

static void test_return_after_exit(void **state)
{
    Caller callers[THREADS];
    pthread_t threads[THREADS];
    assert_int_equal(startHooked(2), RTS_OK);
    startOutCalls(callers, threads);
    hs_exit();
    endOutCalls(callers, threads);
}

/* Into a runtime that is not theirs; once while it collects all the time, with everything checked. */
static void expectReturnAfterStarts(int starts)
{
    Caller callers[THREADS];
    pthread_t threads[THREADS];
    RtsConfig config = hookedConfig(2);
    config.verify_heap = config.poison_from_space = true;
    assert_int_equal(rts_start(&config, NULL, 0), RTS_OK);
    startOutCalls(callers, threads);
    for (int i = 0; i < starts; i++) {
        hs_exit();
        assert_int_equal(rts_start(&config, NULL, 0), RTS_OK);
        hs_perform_gc();
        assert_int_equal(callWell(), 42);
    }
    endOutCalls(callers, threads);
    hs_perform_gc();
    assert_int_equal(callWell(), 42);
    assert_int_equal(tasksNow(), 1);
    hs_exit();
}

static void test_return_after_next_init(void **state) { expectReturnAfterStarts(1); }
static void test_return_after_third_init(void **state) { expectReturnAfterStarts(3); }

/* Levels of one thread from several epochs: the outer ones are lost, the inner one is of the new runtime. */
static void *restartInside(void *arg)
{
    Caller *caller = arg;
    waitToLeave(caller);
    caller->value = callWell();
    return NULL;
}

static void *nestAcrossEpochs(void *arg)
{
    Caller *caller = arg;
    caller->status = callSafely(restartInside, caller, NULL);
    return (void *)callWell();
}

static void test_nest_across_epochs(void **state)
{
    Caller caller = { 0 };
    assert_int_equal(startHooked(1), RTS_OK);
    pthread_t thread = spawn(nestAcrossEpochs, &caller);
    waitFor(&caller.begun);
    hs_exit();
    assert_int_equal(startHooked(1), RTS_OK);
    atomic_store(&caller.leave, 1);
    assert_int_equal((HsInt)joinThread(thread), 42);
    assert_int_equal(caller.value, 42);
    assert_int_equal(caller.status, Interrupted);
    hs_exit();
}

/* A thunk that its evaluator left unfinished, and those who wait for it. */
static Caller slowCaller;
static _Atomic int slowStarts;

CAPSTAN_CAF(exitTable)
{
    if (atomic_fetch_add(&slowStarts, 1) == 0) rts_safeCall(stack, waitToLeave, &slowCaller);
    return CAPSTAN_SMALL_INT(99);
}

static void *evaluateTable(void *arg)
{
    HaskellObj ret;
    Caller *caller = arg;
    Capability *cap = rts_lock();
    rts_eval(&cap, &exitTable_closure, &ret);
    caller->status = rts_getSchedStatus(cap);
    caller->value = rts_getInt(ret);
    rts_unlock(cap);
    return NULL;
}

static void test_exit_with_thunk_waiters(void **state)
{
    Caller owner = { 0 }, waiters[3] = { 0 }, later = { 0 };
    pthread_t threads[4];
    memset(&slowCaller, 0, sizeof slowCaller);
    atomic_store(&slowStarts, 0);
    assert_int_equal(startHooked(2), RTS_OK);
    threads[3] = spawn(evaluateTable, &owner);
    waitFor(&slowCaller.begun);
    for (int i = 0; i < 3; i++) threads[i] = spawn(evaluateTable, &waiters[i]);
    sleepMs(50);
    hs_exit();
    for (int i = 0; i < 3; i++) {
        joinThread(threads[i]);
        assert_true(waiters[i].status == Interrupted || waiters[i].status == Refused);
    }
    /* The next runtime evaluates it anew, while the old evaluator is still out; and it stays so when that one comes back. */
    assert_int_equal(startHooked(2), RTS_OK);
    evaluateTable(&later);
    assert_int_equal(later.status, Success);
    assert_int_equal(later.value, 99);
    atomic_store(&slowCaller.leave, 1);
    joinThread(threads[3]);
    expectInterrupted(&owner);
    evaluateTable(&later);
    assert_int_equal(later.value, 99);
    assert_int_equal(atomic_load(&slowStarts), 2);
    hs_exit();
}

/* ---- Who may end it, and how often ---- */

static void test_init_twice_exit_twice(void **state)
{
    assert_int_equal(startHooked(2), RTS_OK);
    assert_int_equal(startHooked(2), RTS_OK);
    hs_init(NULL, NULL);
    hs_exit();
    assert_int_equal(callWell(), 42);
    hs_exit();
    assert_int_equal(callWell(), 42);
    assert_int_equal(tookUp(&heard.exits), 0);
    hs_exit();
    assert_int_equal(tookUp(&heard.exits), 1);
    assert_false(isRunning());
    assert_int_equal(heardOtherErrors(), 0);
    hs_exit();
    hs_exit();
    assert_int_equal(heardError(RTS_NOT_STARTED), 2);
    assert_int_equal(tookUp(&heard.exits), 0);
    /* They are not counted against the next start. */
    assert_int_equal(startHooked(1), RTS_OK);
    assert_int_equal(callWell(), 42);
    hs_exit();
    assert_false(isRunning());
}

static void test_other_settings(void **state)
{
    char message[300] = "";
    RtsConfig other = hookedConfig(3);
    assert_int_equal(startHooked(2), RTS_OK);
    assert_int_equal(rts_start(&other, message, sizeof message), RTS_OTHER_SETTINGS);
    assert_true(strlen(message) > 10);
    assert_int_equal(getNumCapabilities(), 2);
    hs_init_ghc(NULL, NULL, other);
    assert_int_equal(heardError(RTS_OTHER_SETTINGS), 1);
    other = hookedConfig(2);
    other.nursery_bytes = 3 << 20;
    assert_int_equal(rts_start(&other, message, sizeof message), RTS_OTHER_SETTINGS);
    /* A bad one is refused all the same, and not counted. */
    other.rts_opts = "--bogus";
    assert_int_equal(rts_start(&other, message, sizeof message), RTS_BAD_OPTION);
    /* No settings are not other ones. */
    assert_int_equal(rts_start(NULL, message, sizeof message), RTS_OK);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(callWell(), 42);
        hs_exit();
    }
    assert_false(isRunning());
}

static void *exitInside(void *arg)
{
    hs_exit();
    return (void *)(intptr_t)(heardError(RTS_INSIDE_INCALL) == 1);
}

static void test_exit_inside(void **state)
{
    HsInt ok = 0;
    assert_int_equal(startHooked(2), RTS_OK);
    assert_int_equal(callUnsafely(exitInside, NULL, &ok), Success);
    assert_int_equal(ok, 1);
    assert_int_equal(callSafely(exitInside, NULL, &ok), Success);
    assert_int_equal(ok, 1);
    assert_int_equal(callWell(), 42);
    hs_exit();
    assert_false(isRunning());
}

static void *startAndExit(void *arg)
{
    for (int i = 0; i < 50; i++) {
        if (startHooked(2) != RTS_OK || callWell() != 42) return (void *)1;
        hs_exit();
    }
    return NULL;
}

/* Users come and go on several threads; some starts are the first, some exits the last. */
static void test_starts_on_many_threads(void **state)
{
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) threads[i] = spawn(startAndExit, NULL);
    for (int i = 0; i < THREADS; i++) assert_null(joinThread(threads[i]));
    assert_false(isRunning());
    assert_int_equal(heardOtherErrors(), 0);
}

/* ---- What an end leaves, and what it does not ---- */

static _Atomic int tableStarts, released;

CAPSTAN_CAF(exitConstant)
{
    return CAPSTAN_SMALL_INT(atomic_fetch_add(&tableStarts, 1) + 1);
}

static HsInt evaluateConstant(void)
{
    HaskellObj ret;
    Capability *cap = rts_lock();
    rts_eval(&cap, &exitConstant_closure, &ret);
    HsInt value = rts_getInt(ret);
    rts_unlock(cap);
    return value;
}

static void release(void *ctx, void *bytes)
{
    atomic_fetch_add(&released, 1);
    free(bytes);
}

static void makeExternals(void)
{
    Capability *cap = rts_lock();
    HaskellObj kept = rts_mkBytesExternal(cap, malloc(10), 10, release, NULL);
    rts_mkBytesExternal(cap, malloc(10), 10, release, NULL);
    getStablePtr((StgPtr)(void *)kept);
    rts_unlock(cap);
}

static void test_again_and_again(void **state)
{
    RtsCounts counts;
    int rounds = shortLoad() ? 20 : 100;
    atomic_store(&tableStarts, 0);
    atomic_store(&released, 0);
    for (int i = 1; i <= rounds; i++) {
        assert_int_equal(startHooked(1 + (unsigned)i % 4), RTS_OK);
        assert_int_equal(getNumCapabilities(), 1 + i % 4);
        /* Constants are computed anew, once. */
        assert_int_equal(evaluateConstant(), i);
        assert_int_equal(evaluateConstant(), i);
        makeExternals();
        if (i % 2) hs_perform_gc();
        rts_getCounts(&counts);
        assert_int_equal(counts.stable_ptrs, 1);
        hs_exit();
        assert_int_equal(atomic_load(&released), 2 * i);
        rts_getCounts(&counts);
        assert_int_equal(counts.capabilities, 0);
        assert_int_equal(counts.heap_bytes, 0);
    }
    assert_int_equal(heardOtherErrors(), 0);
}

/* What C still does with what it kept: nothing happens. */
static void test_leftovers(void **state)
{
    assert_int_equal(startHooked(1), RTS_OK);
    Capability *cap = rts_lock();
    StgStablePtr ptr = getStablePtr((StgPtr)(void *)rts_mkBytes(cap, "abc", 3));
    rts_unlock(cap);
    hs_exit();
    hs_free_stable_ptr(ptr);
    hs_perform_gc();
    hs_perform_major_gc();
    rts_setInCallCapability(3, 0);
    rts_setInCallCapability(-1, 0);
    hs_thread_done();
    rts_unlock(cap); /* rootcheck: used on purpose when it is held no more */
    assert_int_equal(getNumCapabilities(), 0);
    assert_int_equal(startHooked(1), RTS_OK);
    assert_int_equal(callWell(), 42);
    hs_exit();
}

/* ---- The default answer to Interrupted: the thread ends ---- */

static void *stubPoll(void *arg)
{
Capability *cap;
HaskellObj ret;
HsInt cret;
cap = rts_lock();
rts_evalIO(&cap,rts_apply(cap,(HaskellObj)runIO_closure,rts_apply(cap,&misusePoll_closure,rts_mkPtr(cap,arg))) ,&ret);
rts_checkSchedStatus("stubPoll",cap);
cret=rts_getInt(ret);
rts_unlock(cap);
return (void *)(cret + 1);
}

static void swallowLog(void *ctx, RtsLogLevel level, const char *line) { }

static void test_interrupted_by_default(void **state)
{
    _Atomic int begun = 0;
    RtsConfig config = hookedConfig(1);
    config.statusHook = NULL;
    config.logHook = swallowLog;
    assert_int_equal(rts_start(&config, NULL, 0), RTS_OK);
    pthread_t thread = spawn(stubPoll, &begun);
    waitFor(&begun);
    hs_exit();
    /* It did not come to its return. */
    assert_null(joinThread(thread));
}

/* ---- Threads that end together with the runtime ---- */

static pthread_key_t lateKey;

/* The last of these rounds come when the runtime's own destructor has run.  In the very last TSan has taken leave of the thread. */
#ifdef MISUSE_TSAN
#define LAST_ROUND 3u
#else
#define LAST_ROUND 4u
#endif

static void callInDestructor(void *arg)
{
    uintptr_t round = (uintptr_t)arg;
    Caller caller = { 0 };
    if (round < LAST_ROUND) {
        callWell();
        pthread_setspecific(lateKey, (void *)(round + 1));
    } else if (round == LAST_ROUND) {
        hs_perform_gc();
        pollForEver(&caller);
        rts_setInCallCapability(1, 0);
    }
}

static void *liveWithKey(void *arg)
{
    pthread_setspecific(lateKey, (void *)1);
    return arg != NULL ? (void *)callWell() : NULL;
}

static void test_interrupted_in_destructor(void **state)
{
    pthread_t threads[THREADS];
    pthread_key_create(&lateKey, callInDestructor);
    for (int round = 0; round < 3; round++) {
        assert_int_equal(startHooked(2), RTS_OK);
        for (intptr_t i = 0; i < THREADS; i++) threads[i] = spawn(liveWithKey, (void *)(i % 2));
        sleepMs(50);
        hs_exit();
        for (int i = 0; i < THREADS; i++) joinThread(threads[i]);
        assert_int_equal(startHooked(1), RTS_OK);
        hs_thread_done();
        assert_int_equal(tasksNow(), 0);
        hs_exit();
    }
    pthread_key_delete(lateKey);
}

/* ---- All at once ---- */

typedef struct {
    _Atomic bool *stop;
    uint64_t refused, interrupted, wrong;
} Hammer;

static _Atomic bool anyGood;

static void *hammer(void *arg)
{
    Hammer *h = arg;
    while (!atomic_load(h->stop)) {
        HsInt n = callWell();
        if (n == 42) anyGood = true;
        else if (n == -(HsInt)Interrupted) h->interrupted++;
        else if (n == -100 + RTS_CLOSED || n == -100 + RTS_NOT_STARTED) h->refused++;
        else h->wrong++;
    }
    return NULL;
}

static void test_exit_under_hammers(void **state)
{
    int rounds = shortLoad() || isEmulated() ? 30 : 300; /* qemu takes long to reserve addresses */
    _Atomic bool stop = false;
    Hammer hammers[THREADS] = { 0 };
    pthread_t threads[THREADS];
    anyGood = false;
    for (int i = 0; i < THREADS; i++) {
        hammers[i].stop = &stop;
        threads[i] = spawn(hammer, &hammers[i]);
    }
    for (int i = 0; i < rounds || !anyGood; i++) {
        assert_int_equal(startHooked(1 + (unsigned)i % 3), RTS_OK);
        if (i % 3) sleepMs(1);
        hs_exit();
    }
    atomic_store(&stop, true);
    for (int i = 0; i < THREADS; i++) {
        joinThread(threads[i]);
        assert_int_equal(hammers[i].wrong, 0);
    }
}

/* ---- Cancellation ---- */

static _Atomic int passed; /* points at which a thread might have been cancelled */

static void pass(void)
{
    atomic_fetch_add(&passed, 1);
    pauseCancellably();
}
static void passAtExit(void *ctx) { pass(); }
static void passInFinalizer(void *ctx, void *ptr) { pass(); }
static void passInRelease(void *ctx, void *bytes) { pass(); }
static void passInLine(void *ctx, RtsLogLevel level, const char *line) { pass(); }
static void passInResult(void *ctx, const RtsResult *result) { pass(); }

CAPSTAN_IO(sleepLong)
{
    rts_threadDelay(stack, 1000000000);
    return CAPSTAN_UNIT;
}

static void leaveThingsToTheEnd(void)
{
    static char bytes[64];
    RtsSubmission submission = RTS_SUBMISSION_INIT;
    Capability *cap = rts_lock();
    HaskellObj external = rts_mkBytesExternal(cap, bytes, sizeof bytes, passInRelease, NULL);
    assert_true(rts_addCFinalizerToWeak(cap, rts_mkWeakNoFinalizer(cap, external, CAPSTAN_UNIT), passInFinalizer, NULL, NULL));
    getStablePtr((StgPtr)external);
    rts_unlock(cap);
    submission.function = &sleepLong_closure;
    submission.done = passInResult;
    assert_int_equal(rts_submit(&submission, NULL), RTS_OK);
}

/* Its statistics cannot be written, which the log hook hears. */
static void *exitCancelled(void *arg)
{
    pthread_cancel(pthread_self());
    hs_exit();
    atomic_store((_Atomic int *)arg, 1);
    pauseCancellably();
    return NULL;
}

static void test_cancelled_exit(void **state)
{
    for (int i = 0; i < 3; i++) {
        _Atomic int ended = 0;
        RtsConfig config = hookedConfig(2);
        config.onExitHook = passAtExit;
        config.logHook = passInLine;
        config.stats = RtsStatsText;
        snprintf(config.stats_file, sizeof config.stats_file, "/nonexistent/%d", i);
        assert_int_equal(rts_start(&config, NULL, 0), RTS_OK);
        leaveThingsToTheEnd();
        atomic_store(&passed, 0);
        assert_true(joinThread(spawn(exitCancelled, &ended)) == PTHREAD_CANCELED);
        assert_int_equal(ended, 1);
        assert_true(passed >= 5);
        assert_int_equal(callWell(), -100 + RTS_NOT_STARTED);
    }
    assert_int_equal(startHooked(2), RTS_OK);
    assert_int_equal(callWell(), 42);
    hs_exit();
}

/* Statistics on standard error, by the default hooks. */
static void *useCancelled(void *arg)
{
    static char text[4096];
    RTSStats stats;
    pthread_cancel(pthread_self());
    hs_init(NULL, NULL);
    HsInt good = callWell();
    hs_perform_gc();
    rts_performMinorGC();
    rts_clearMemory();
    getRTSStats(&stats);
    rts_formatStats(RtsStatsJson, text, sizeof text);
    hs_lock_stable_ptr_table();
    hs_unlock_stable_ptr_table();
    Capability *cap = rts_lock();
    HsStablePtr mvar = getStablePtr((StgPtr)rts_mkMVar(cap)), other = getStablePtr((StgPtr)CAPSTAN_UNIT);
    rts_unlock(cap);
    hs_free_stable_ptr(other);
    hs_try_putmvar(-1, mvar);
    rts_setInCallCapability(0, 0);
    hs_exit();
    hs_thread_done();
    atomic_store((_Atomic int *)arg, good == 42);
    pauseCancellably();
    return NULL;
}

static void test_no_cancellation_points(void **state)
{
    for (int i = 0; i < 2; i++) { /* the first one's hs_init starts it; the second one's finds it running */
        _Atomic int ended = 0;
        if (i == 1) assert_int_equal(startHooked(2), RTS_OK);
        assert_true(joinThread(spawn(useCancelled, &ended)) == PTHREAD_CANCELED);
        assert_int_equal(ended, 1);
        if (i == 1) hs_exit();
        assert_int_equal(callWell(), -100 + RTS_NOT_STARTED);
    }
}

/* ---- In a forked child ---- */

static void test_child(void **state)
{
#ifdef MISUSE_TSAN
    skip(); /* its runtime allows little in a child of a process with threads */
#endif
    assert_int_equal(startHooked(2), RTS_OK);
    assert_int_equal(callWell(), 42);
    assert_int_equal((HsInt)onThread(callWellOnThread, NULL), 42);
    hs_exit();
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        alarm(TEST_SECONDS);
        int bad = startHooked(2) != RTS_OK || callWell() != 42 || (HsInt)onThread(callWellOnThread, NULL) != 42;
        hs_exit();
        _exit(bad);
    }
    int status = -1;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_exit_with_calls_running), TEST(test_exit_with_more_than_can_run), TEST(test_exit_with_waiters),
        TEST(test_exit_before_evaluation),  TEST(test_return_after_exit),           TEST(test_return_after_next_init),
        TEST(test_return_after_third_init), TEST(test_nest_across_epochs),          TEST(test_exit_with_thunk_waiters),
        TEST(test_init_twice_exit_twice),   TEST(test_other_settings),              TEST(test_exit_inside),
        TEST(test_starts_on_many_threads),  TEST(test_again_and_again),             TEST(test_leftovers),
        TEST(test_interrupted_by_default),  TEST(test_interrupted_in_destructor),   TEST(test_exit_under_hammers),
        TEST(test_cancelled_exit),          TEST(test_no_cancellation_points),      TEST(test_child),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

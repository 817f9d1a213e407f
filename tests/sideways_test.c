/*
 * Threads that leave in the middle (pthread_exit, cancellation), stacks that the runtime never saw (coroutines of the host), and
 * calls that go far in and out: 300 levels, 10 000 threads, one asleep.
 */
#include "misuse.h"

#include <rts/Language.h>
#include <rts/Weak.h>

#include <sys/syscall.h>
#include <ucontext.h>

#ifdef MISUSE_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#include <cmocka.h>

/* ---- Leaving in the middle ---- */

static _Atomic int ready, unwound;

static void noteUnwound(void *arg) { atomic_fetch_add(&unwound, 1); }

static void *exitHere(void *arg) { pthread_exit(arg); }

/* Comes to a cancellation point again and again. */
static void *awaitCancel(void *arg)
{
    for (;;) {
        atomic_store(&ready, 1);
        pauseCancellably();
    }
    return NULL;
}

static void *leaveInInnerCall(void *fn)
{
    callUnsafely((void *(*)(void *))fn, NULL, NULL);
    return NULL;
}

static void *leaveInInnerSafeCall(void *fn)
{
    callSafely((void *(*)(void *))fn, NULL, NULL);
    return NULL;
}

/* Where a thread is when it leaves by leave(). */
typedef struct {
    void (*place)(void *(*leave)(void *));
    void *(*leave)(void *);
} Leaving;

static void inManaged(void *(*leave)(void *)) { callUnsafely(leave, NULL, NULL); }
static void inSafeCall(void *(*leave)(void *)) { callSafely(leave, NULL, NULL); }
static void inNestedManaged(void *(*leave)(void *)) { callSafely(leaveInInnerCall, (void *)leave, NULL); }
static void inNestedSafeCall(void *(*leave)(void *)) { callSafely(leaveInInnerSafeCall, (void *)leave, NULL); }

/* No frame of the runtime is left through: the thread's end must find out. */
static void betweenLockAndUnlock(void *(*leave)(void *))
{
    Capability *cap = rts_lock();
    rts_mkBytes(cap, "abc", 3);
    leave(NULL);
    rts_unlock(cap);
}

static void *leaveThread(void *arg)
{
    Leaving *leaving = arg;
    pthread_cleanup_push(noteUnwound, NULL);
    leaving->place(leaving->leave);
    pthread_cleanup_pop(0);
    return NULL;
}

static void expectLeft(void (*place)(void *(*)(void *)), bool cancel)
{
    Leaving leaving = { place, cancel ? awaitCancel : exitHere };
    unsigned tasks = tasksNow();
    for (int i = 0; i < 20; i++) {
        atomic_store(&ready, 0);
        atomic_store(&unwound, 0);
        pthread_t thread = spawn(leaveThread, &leaving);
        if (cancel) {
            waitFor(&ready);
            pthread_cancel(thread);
        }
        void *result = joinThread(thread);
        assert_true(result == (cancel ? PTHREAD_CANCELED : NULL));
        assert_int_equal(atomic_load(&unwound), 1);
        /* The only capability is free again, and nothing is left to scan. */
        assert_int_equal(callWell(), 42);
        hs_perform_gc();
        assert_int_equal(tasksNow(), tasks);
    }
}

static void expectLeaving(void (*place)(void *(*)(void *)))
{
    RtsConfig config = hookedConfig(1);
    config.verify_heap = config.poison_from_space = true;
    assert_int_equal(rts_start(&config, NULL, 0), RTS_OK);
    assert_int_equal(callWell(), 42);
    expectLeft(place, false);
    expectLeft(place, true);
    assert_int_equal(heardOtherErrors(), 0);
    hs_exit();
}

static void test_leave_managed(void **state) { expectLeaving(inManaged); }
static void test_leave_safe_call(void **state) { expectLeaving(inSafeCall); }
static void test_leave_nested_managed(void **state) { expectLeaving(inNestedManaged); }
static void test_leave_nested_safe_call(void **state) { expectLeaving(inNestedSafeCall); }
static void test_leave_between(void **state) { expectLeaving(betweenLockAndUnlock); }

/* ---- In what a collection tells the host ---- */

enum Told { C_FINALIZERS, RELEASES, COUNTED_RELEASES, HOOK, KINDS };

#define TOLD 5

static _Atomic int toldCount;
static void *(*_Atomic endsBy)(void *); /* what the second one does, or the hook; NULL: it was done */

static void endHere(void)
{
    void *(*end)(void *) = atomic_exchange(&endsBy, NULL);
    if (end != NULL) end(NULL);
}

static void beTold(void *ctx, void *ptr)
{
    if (atomic_fetch_add(&toldCount, 1) == 1 && ctx != NULL) endHere();
}

static void leaveInHook(void *ctx, const RtsCollection *c) { endHere(); }

static void makeDying(enum Told kind)
{
    static char bytes[4];
    Capability *cap = rts_lock();
    for (int i = 0; i < TOLD; i++) {
        if (kind == C_FINALIZERS)
            rts_addCFinalizerToWeak(cap, rts_mkWeakNoFinalizer(cap, rts_mkMutVar(cap, CAPSTAN_UNIT), CAPSTAN_UNIT), beTold, bytes, NULL);
        else if (kind == COUNTED_RELEASES) rts_mkBytesExternalCounted(cap, bytes, 4, beTold, bytes);
        else rts_mkBytesExternal(cap, bytes, 4, beTold, kind == HOOK ? NULL : bytes);
    }
    rts_unlock(cap);
}

static void *collectAndLeave(void *unused)
{
    pthread_cleanup_push(noteUnwound, NULL);
    hs_perform_gc();
    pthread_cleanup_pop(0);
    return NULL;
}

/* The host's thread ends in its own hs_perform_gc. */
static void leaveTelling(enum Told kind, bool cancel)
{
    atomic_store(&toldCount, 0);
    atomic_store(&ready, 0);
    atomic_store(&unwound, 0);
    makeDying(kind);
    atomic_store(&endsBy, cancel ? awaitCancel : exitHere);
    pthread_t thread = spawn(collectAndLeave, NULL);
    if (cancel) {
        waitFor(&ready);
        pthread_cancel(thread);
    }
    assert_true(joinThread(thread) == (cancel ? PTHREAD_CANCELED : NULL));
    assert_int_equal(atomic_load(&unwound), 1);
}

static void expectTold(int count)
{
    while (atomic_load(&toldCount) < count) sleepMs(1);
}

static void startTelling(enum Told kind, unsigned idle_us)
{
    RtsConfig config = hookedConfig(2);
    config.verify_heap = true;
    config.idle_collection_us = idle_us;
    if (kind == HOOK) config.gcDoneHook = leaveInHook;
    assert_int_equal(rts_start(&config, NULL, 0), RTS_OK);
}

/* Those behind the one that ended the thread are called by somebody else: after the next collection, or at exit. */
static void expectTellingGoesOn(enum Told kind, bool cancel, bool collects)
{
    startTelling(kind, 1000000000);
    unsigned tasks = tasksNow();
    leaveTelling(kind, cancel);
    if (collects) {
        hs_perform_gc();
        expectTold(TOLD);
        assert_int_equal(callWell(), 42);
        /* The thread of C finalizers that are left is the runtime's own. */
        assert_true(kind == C_FINALIZERS || tasksNow() <= tasks + 1);
        assert_int_equal(rts_getExternalMemory(), 0);
    }
    hs_exit();
    assert_int_equal(atomic_load(&toldCount), TOLD);
    assert_int_equal(heardOtherErrors(), 0);
}

static void test_leave_while_told(void **state)
{
    for (int kind = 0; kind < KINDS; kind++)
        for (int i = 0; i < 4; i++) expectTellingGoesOn(kind, i % 2, i / 2);
}

/* When nothing else happens, too. */
static void test_left_releases_come(void **state)
{
    const enum Told kinds[] = { RELEASES, HOOK, C_FINALIZERS };
    for (int i = 0; i < 3; i++) {
        startTelling(kinds[i], 1000000);
        leaveTelling(kinds[i], false);
        expectTold(TOLD);
        hs_exit();
        assert_int_equal(atomic_load(&toldCount), TOLD);
    }
}

/* ---- A thunk whose evaluator is gone ---- */

static _Atomic int thunkStarts;
static void *(*thunkLeaves)(void *); /* what its first evaluator does */

CAPSTAN_CAF(sidewaysValue)
{
    if (atomic_fetch_add(&thunkStarts, 1) == 0) {
        atomic_store(&ready, 1);
        rts_safeCall(stack, thunkLeaves, NULL);
    }
    return CAPSTAN_SMALL_INT(1234);
}

static void *evaluateValue(void *arg)
{
    HaskellObj ret;
    Capability *cap = rts_lock();
    rts_eval(&cap, &sidewaysValue_closure, &ret);
    HsInt value = rts_getSchedStatus(cap) == Success ? rts_getInt(ret) : -(HsInt)rts_getSchedStatus(cap);
    rts_unlock(cap);
    return (void *)value;
}

static void *exitLater(void *arg)
{
    sleepMs(100);
    pthread_exit(NULL);
}

/* Others wait for it meanwhile: one of them must take it up. */
static void test_thunk_of_leaver(void **state)
{
    void *(*const leaves[])(void *) = { exitHere, exitLater, awaitCancel };
    for (int i = 0; i < 3; i++) {
        pthread_t waiters[3];
        assert_int_equal(startHooked(2), RTS_OK);
        atomic_store(&thunkStarts, 0);
        atomic_store(&ready, 0);
        thunkLeaves = leaves[i];
        pthread_t leaver = spawn(evaluateValue, NULL);
        waitFor(&ready);
        for (int k = 0; k < 3; k++) waiters[k] = spawn(evaluateValue, NULL);
        if (i == 2) {
            sleepMs(50);
            pthread_cancel(leaver);
        }
        joinThread(leaver);
        for (int k = 0; k < 3; k++) assert_int_equal((HsInt)joinThread(waiters[k]), 1234);
        assert_int_equal(atomic_load(&thunkStarts), 2);
        assert_int_equal((HsInt)evaluateValue(NULL), 1234);
        assert_int_equal(atomic_load(&thunkStarts), 2);
        hs_exit();
    }
}

/* ---- Coroutines of the host ---- */

#define COROUTINE_BYTES ((size_t)(SLOW_BUILD ? 2 << 20 : 512 << 10))

typedef struct {
    ucontext_t self, home;
    char *memory;
    void (*fn)(void *);
    void *arg;
    bool done;
#ifdef MISUSE_TSAN
    void *fiber, *homeFiber;
#endif
} Coroutine;

static __thread Coroutine *running;

/* TSan keeps a stack of calls for each fiber, so nothing here may be seen to enter on one and leave on another. */
__attribute__((no_sanitize("thread"))) static void switchContext(Coroutine *c, bool home)
{
#ifdef MISUSE_TSAN
    __tsan_switch_to_fiber(home ? c->homeFiber : c->fiber, 0);
#endif
    if (home) swapcontext(&c->self, &c->home);
    else swapcontext(&c->home, &c->self);
}

static void beginCoroutine(void)
{
    Coroutine *c = running;
    c->fn(c->arg);
    c->done = true;
    switchContext(c, true);
}

static void makeCoroutine(Coroutine *c, void (*fn)(void *), void *arg)
{
    memset(c, 0, sizeof *c);
    c->memory = malloc(COROUTINE_BYTES);
    c->fn = fn;
    c->arg = arg;
    getcontext(&c->self);
    c->self.uc_stack.ss_sp = c->memory;
    c->self.uc_stack.ss_size = COROUTINE_BYTES;
    c->self.uc_link = NULL;
    makecontext(&c->self, beginCoroutine, 0);
#ifdef MISUSE_TSAN
    c->fiber = __tsan_create_fiber(0);
#endif
}

/* Run it until it pauses or ends. */
static void resumeCoroutine(Coroutine *c)
{
#ifdef MISUSE_TSAN
    c->homeFiber = __tsan_get_current_fiber();
#endif
    running = c;
    switchContext(c, false);
}

static void freeCoroutine(Coroutine *c)
{
#ifdef MISUSE_TSAN
    __tsan_destroy_fiber(c->fiber);
#endif
    free(c->memory);
}

static void *pauseHere(void *arg)
{
    switchContext(arg, true);
    return (void *)7;
}

/* What a coroutine did. */
typedef struct {
    Coroutine coroutine;
    HsInt value;
    SchedulerStatus status;
} Outing;

static void callOnce(void *arg)
{
    Outing *outing = arg;
    outing->value = callWell();
}

static void callAndPause(void *arg)
{
    Outing *outing = arg;
    outing->status = callSafely(pauseHere, &outing->coroutine, &outing->value);
}

CAPSTAN_FUN(sidewaysDeep, n)
{
    HsInt k = rts_intValue(rts_force(stack, n));
    atomic_store(&ready, (int)k);
    HaskellObj rest = rts_call(stack, &sidewaysDeep_closure, CAPSTAN_SMALL_INT(k + 1));
    return rts_int(stack, rts_intValue(rest) + 1);
}

/* How deep it came. */
static void goDeep(void *arg)
{
    Outing *outing = arg;
    HaskellObj ret;
    Capability *cap = rts_lock();
    rts_eval(&cap, rts_apply(cap, &sidewaysDeep_closure, rts_mkInt(cap, 1)), &ret);
    outing->status = rts_getSchedStatus(cap);
    outing->value = atomic_load(&ready);
    rts_unlock(cap);
}

static void goDeepWithBounds(void *arg)
{
    Outing *outing = arg;
    rts_setStackBounds(outing->coroutine.memory, outing->coroutine.memory + COROUTINE_BYTES);
    goDeep(arg);
}

static HsInt runOuting(void (*fn)(void *), SchedulerStatus *status)
{
    Outing outing = { .value = -1 };
    makeCoroutine(&outing.coroutine, fn, &outing);
    resumeCoroutine(&outing.coroutine);
    freeCoroutine(&outing.coroutine);
    if (status != NULL) *status = outing.status;
    return outing.coroutine.done ? outing.value : -2;
}

static void test_call_on_unknown_stack(void **state)
{
    assert_int_equal(startHooked(1), RTS_OK);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(runOuting(callOnce, NULL), 42);
        assert_int_equal(callWell(), 42);
    }
    assert_int_equal(heardOtherErrors(), 0);
    hs_exit();
}

static void test_deep_on_unknown_stack(void **state)
{
    SchedulerStatus status = NoStatus;
    assert_int_equal(startHooked(1), RTS_OK);
    HsInt unknown = runOuting(goDeep, &status);
    assert_int_equal(status, Killed);
    assert_true(unknown > 5);
    HsInt known = runOuting(goDeepWithBounds, &status);
    assert_int_equal(status, Killed);
    assert_true(known > 2 * unknown);
    /* Forgotten when a call was elsewhere, though the next coroutine may lie in the same memory. */
    assert_int_equal(callWell(), 42);
    assert_int_equal(runOuting(goDeep, &status), unknown);
    assert_int_equal(callWell(), 42);
    hs_exit();
}

/* Between the two halves of a safe call on one stack, calls on others come and go. */
static void test_calls_between(void **state)
{
    Outing outer, inner;
    assert_int_equal(startHooked(1), RTS_OK);
    makeCoroutine(&outer.coroutine, callAndPause, &outer);
    makeCoroutine(&inner.coroutine, callAndPause, &inner);
    resumeCoroutine(&outer.coroutine);
    assert_int_equal(callWell(), 42);
    resumeCoroutine(&inner.coroutine);
    hs_perform_gc();
    assert_int_equal(callWell(), 42);
    resumeCoroutine(&inner.coroutine);
    assert_int_equal(inner.status, Success);
    assert_int_equal(inner.value, 7);
    resumeCoroutine(&outer.coroutine);
    assert_int_equal(outer.status, Success);
    assert_int_equal(outer.value, 7);
    assert_int_equal(heardOtherErrors(), 0);
    freeCoroutine(&outer.coroutine);
    freeCoroutine(&inner.coroutine);
    hs_exit();
}

/* The first to begin comes back first. Its in-call cannot go on; the other one is not to blame. */
static void test_out_of_order_coroutines(void **state)
{
    Outing first, second;
    assert_int_equal(startHooked(1), RTS_OK);
    makeCoroutine(&first.coroutine, callAndPause, &first);
    makeCoroutine(&second.coroutine, callAndPause, &second);
    resumeCoroutine(&first.coroutine);
    resumeCoroutine(&second.coroutine);
    resumeCoroutine(&first.coroutine);
    assert_true(first.coroutine.done);
    assert_int_not_equal(first.status, Success);
    assert_int_equal(heardError(RTS_OUT_OF_ORDER), 1);
    hs_perform_gc();
    resumeCoroutine(&second.coroutine);
    assert_true(second.coroutine.done);
    assert_int_equal(second.status, Success);
    assert_int_equal(second.value, 7);
    assert_int_equal(callWell(), 42);
    assert_int_equal(heardOtherErrors(), 0);
    freeCoroutine(&first.coroutine);
    freeCoroutine(&second.coroutine);
    hs_perform_gc();
    hs_exit();
}

/* An in-call on a coroutine that is never resumed ends with the thread. */
static Outing forgotten;

static void *forgetCoroutine(void *arg)
{
    makeCoroutine(&forgotten.coroutine, callAndPause, &forgotten);
    resumeCoroutine(&forgotten.coroutine);
    return (void *)callWell();
}

static void test_forgotten_coroutine(void **state)
{
    assert_int_equal(startHooked(1), RTS_OK);
    assert_int_equal(callWell(), 42);
    unsigned tasks = tasksNow();
    assert_int_equal((HsInt)onThread(forgetCoroutine, NULL), 42);
    assert_false(forgotten.coroutine.done);
    freeCoroutine(&forgotten.coroutine);
    hs_perform_gc();
    assert_int_equal(tasksNow(), tasks);
    assert_int_equal(callWell(), 42);
    hs_exit();
}

/* ---- Far in, and many ---- */

static void *descend(void *arg)
{
    intptr_t depth = (intptr_t)arg;
    HsInt value = 0;
    if (depth == 0) return (void *)callWell();
    if (callSafely(descend, (void *)(depth - 1), &value) != Success) return (void *)-1;
    return (void *)(value + 1);
}

static void test_nest_300_deep(void **state)
{
    assert_int_equal(startHooked(1), RTS_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal((HsInt)descend((void *)300), 342);
        hs_perform_gc();
    }
    /* From a thread, which then ends. */
    assert_int_equal((HsInt)onThread(descend, (void *)300), 342);
    assert_int_equal(tasksNow(), 1);
    hs_exit();
}

static void test_many_threads(void **state)
{
    enum { BATCH = 50 };
    int batches = shortLoad() ? 10 : 200;
    pthread_t threads[BATCH];
    assert_int_equal(startHooked(2), RTS_OK);
    assert_int_equal(callWell(), 42);
    for (int b = 0; b < batches; b++) {
        for (int i = 0; i < BATCH; i++) threads[i] = spawn(callWellOnThread, NULL);
        for (int i = 0; i < BATCH; i++) assert_int_equal((HsInt)joinThread(threads[i]), 42);
        assert_int_equal(tasksNow(), 1);
    }
    hs_thread_done();
    hs_thread_done();
    assert_int_equal(tasksNow(), 0);
    assert_int_equal(callWell(), 42);
    hs_exit();
}

static void *sleepUntilTold(void *arg)
{
    atomic_store(&ready, 1);
    while (atomic_load(&ready) == 1) sleepMs(1);
    return NULL;
}

static void *sleepInSafeCall(void *arg)
{
    HsInt value = -1;
    SchedulerStatus status = callSafely(sleepUntilTold, NULL, &value);
    return (void *)(intptr_t)(status == Success && value == 0);
}

static void test_sleeper_delays_nobody(void **state)
{
    RtsConfig config = hookedConfig(2);
    config.long_stop_us = 20 * 1000000; /* longer than any machine is busy with other things */
    assert_int_equal(rts_start(&config, NULL, 0), RTS_OK);
    atomic_store(&ready, 0);
    pthread_t sleeper = spawn(sleepInSafeCall, NULL);
    waitFor(&ready);
    /* Who waited for it here would wait for ever. */
    for (int i = 0; i < 20; i++) {
        hs_perform_gc();
        assert_int_equal(callWell(), 42);
    }
    atomic_store(&ready, 2);
    assert_int_equal((HsInt)joinThread(sleeper), 1);
    assert_int_equal(heard.longStops, 0);
    hs_exit();
}

/* ---- Who keeps the world from being stopped is named ---- */

static struct {
    char text[300];
    _Atomic uint64_t count, at;
    _Atomic int until; /* how often it is to be heard before the holder comes to a safepoint */
    long holder;
    bool callsIn;      /* the hook does what it must not */
    RtsStatus locked;  /* what rts_tryLock answers there */
} longStop;

static void hearLongStop(void *ctx, const char *text)
{
    pthread_testcancel(); /* must not end the thread that stops the world */
    if (atomic_load(&longStop.count) == 0) {
        snprintf(longStop.text, sizeof longStop.text, "%s", text);
        atomic_store(&longStop.at, nowMs());
    }
    if (longStop.callsIn) {
        Capability *cap;
        longStop.locked = rts_tryLock(&cap);
        hs_perform_gc();
        rts_clearMemory();
        hs_exit();
    }
    atomic_fetch_add(&longStop.count, 1);
}

static void hearLog(void *ctx, RtsLogLevel level, const char *line)
{
    if (level == RTS_LOG_WARNING) hearLongStop(ctx, line);
}

static void *holdOn(void *arg)
{
    longStop.holder = syscall(SYS_gettid);
    atomic_store(&ready, 1);
    while (atomic_load(&longStop.count) < (uint64_t)atomic_load(&longStop.until)) sleepMs(1);
    return NULL;
}

CAPSTAN_IO(holdOnManaged)
{
    holdOn(NULL);
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(collectManaged)
{
    rts_collect(stack, true);
    return CAPSTAN_UNIT;
}

static void *holdInCall(void *unused)
{
    callUnsafely(holdOn, NULL, NULL);
    return NULL;
}

static void *collectNow(void *unused)
{
    hs_perform_gc();
    return NULL;
}

static void *collectCancelled(void *unused)
{
    pthread_cancel(pthread_self());
    hs_perform_gc();
    atomic_store(&ready, 2);
    pauseCancellably();
    return NULL;
}

static void startLongStops(bool logged, const char *options)
{
    RtsConfig config = hookedConfig(3);
    config.rts_opts = options;
    config.longStopHook = logged ? NULL : hearLongStop;
    if (logged) config.logHook = hearLog;
    assert_int_equal(rts_start(&config, NULL, 0), RTS_OK);
    atomic_store(&longStop.count, 0);
    atomic_store(&longStop.until, 2);
    atomic_store(&ready, 0);
}

/* Once and by nobody else's number, and not before its time. */
static void expectNamed(uint64_t began)
{
    char name[80];
    snprintf(name, sizeof name, "to stop the world for thread %ld (capability ", longStop.holder);
    const char *found = strstr(longStop.text, name);
    assert_non_null(found);
    assert_ptr_equal(strstr(longStop.text, " thread "), found + strlen("to stop the world for"));
    assert_null(strstr(found + strlen(name), " thread "));
    assert_true(atomic_load(&longStop.at) - began >= 49);
    assert_true(atomic_load(&longStop.count) >= 2);
}

static void test_holder_is_named(void **state)
{
    for (int logged = 0; logged < 2; logged++) {
        startLongStops(logged, "--long-stop=50000");
        pthread_t holder = spawn(holdInCall, NULL);
        waitFor(&ready);
        uint64_t began = nowMs();
        assert_true(joinThread(spawn(collectCancelled, NULL)) == PTHREAD_CANCELED);
        assert_int_equal(atomic_load(&ready), 2);
        joinThread(holder);
        expectNamed(began);
        hs_exit();
    }
}

/* A lightweight thread, and one that collects inside of managed code. */
static void test_managed_holder_is_named(void **state)
{
    startLongStops(false, "--long-stop=50000");
    Capability *cap = rts_lock();
    scheduleThread(cap, createIOThread(cap, 0, &holdOnManaged_closure));
    rts_unlock(cap);
    waitFor(&ready);
    assert_int_not_equal(longStop.holder, syscall(SYS_gettid));
    uint64_t began = nowMs();
    assert_int_equal(callAction(&collectManaged_closure, NULL, NULL), Success);
    expectNamed(began);
    hs_exit();
}

static void *clearNow(void *unused)
{
    rts_clearMemory(); /* this thread's first call */
    return NULL;
}

/* Who calls in from the hook would wait for itself; by threads with a record and without. */
static void test_long_stop_hook_calls_in(void **state)
{
    for (int i = 0; i < 2; i++) {
        startLongStops(false, "--long-stop=50000");
        longStop.callsIn = true;
        memset(heard.errors, 0, sizeof heard.errors);
        pthread_t holder = spawn(holdInCall, NULL);
        waitFor(&ready);
        joinThread(spawn(i == 0 ? collectNow : clearNow, NULL));
        joinThread(holder);
        assert_int_equal(longStop.locked, RTS_IN_FINALIZER);
        assert_int_equal(heard.errors[-RTS_IN_FINALIZER], 2 * atomic_load(&longStop.count));
        assert_int_equal(heard.errors[-RTS_INSIDE_INCALL], atomic_load(&longStop.count));
        assert_int_equal(callWell(), 42);
        longStop.callsIn = false;
        hs_exit();
    }
}

/* With more patience nobody is: the default's second has passed. */
static void test_patience(void **state)
{
    RtsConfig config = hookedConfig(2);
    config.long_stop_us = 1000000000;
    assert_int_equal(rts_start(&config, NULL, 0), RTS_OK);
    atomic_store(&ready, 0);
    atomic_store(&longStop.count, 0);
    atomic_store(&longStop.until, 1);
    pthread_t holder = spawn(holdInCall, NULL), collector;
    waitFor(&ready);
    collector = spawn(collectNow, NULL);
    sleepMs(1300);
    atomic_store(&longStop.count, 1);
    joinThread(collector);
    joinThread(holder);
    assert_int_equal(heard.longStops, 0);
    hs_exit();
    config.rts_opts = "--long-stop=0";
    char message[200];
    assert_int_equal(rts_start(&config, message, sizeof message), RTS_BAD_OPTION);
    assert_non_null(strstr(message, "--long-stop"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_leave_managed),
        TEST(test_leave_safe_call),
        TEST(test_leave_nested_managed),
        TEST(test_leave_nested_safe_call),
        TEST(test_leave_between),
        TEST(test_thunk_of_leaver),
        TEST(test_call_on_unknown_stack),
        TEST(test_deep_on_unknown_stack),
        TEST(test_calls_between),
        TEST(test_out_of_order_coroutines),
        TEST(test_forgotten_coroutine),
        TEST(test_nest_300_deep),
        TEST(test_many_threads),
        TEST(test_sleeper_delays_nobody),
        TEST(test_leave_while_told),
        TEST(test_left_releases_come),
        TEST(test_holder_is_named),
        TEST(test_managed_holder_is_named),
        TEST(test_long_stop_hook_calls_in),
        TEST(test_patience),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

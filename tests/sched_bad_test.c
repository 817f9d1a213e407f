/*
 * What threads must not do, and what they may do with nonsense: a clear answer each time, and everything goes on.
 */
#include "sched.h"

#include <fcntl.h>

/* Runs a body; the text of what it raised, or NULL. */
typedef HaskellObj Body(Stack *stack, void *arg);
static const char *textRaised(Stack *stack, Body *body, void *arg)
{
    HaskellObj result = CAPSTAN_UNIT;
    return rts_try(stack, body, arg, &result) ? NULL : textOf(stack->cap, result);
}
static bool says(const char *text, const char *first, const char *second)
{
    bool ok = text != NULL && strstr(text, first) != NULL && strstr(text, second) != NULL;
    if (!ok) fprintf(stderr, "expected \"%s ... %s\", but: %s\n", first, second, text == NULL ? "nothing raised" : text);
    return ok;
}

/* ---- Values that are none of the kind ---- */

static HaskellObj takeNonsense(Stack *stack, void *v) { return rts_takeMVar(stack, *(HaskellObj *)v); }
static HaskellObj readNonsense(Stack *stack, void *v) { return rts_readMVar(stack, *(HaskellObj *)v); }
static HaskellObj putNonsense(Stack *stack, void *v)
{
    rts_putMVar(stack, *(HaskellObj *)v, CAPSTAN_UNIT);
    return CAPSTAN_UNIT;
}
static HaskellObj throwAtNonsense(Stack *stack, void *v)
{
    rts_throwTo(stack, *(HaskellObj *)v, CAPSTAN_UNIT);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(useNonsense)
{
    HaskellObj result = CAPSTAN_UNIT, nonsense[] = { CAPSTAN_SMALL_INT(3), CAPSTAN_UNIT, CAPSTAN_POISON, &capstan_ThreadKilled_closure,
                                                     CAPSTAN_UNIT, CAPSTAN_UNIT };
    Body *const uses[] = { takeNonsense, readNonsense, putNonsense, throwAtNonsense };
    CAPSTAN_ROOTS(stack, result, nonsense[4], nonsense[5]);
    nonsense[4] = rts_mkMutVar(stack->cap, CAPSTAN_UNIT);
    nonsense[5] = rts_mkArray(stack->cap, 3, CAPSTAN_UNIT);
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < 4; j++)
            CHECK(!rts_try(stack, uses[j], &nonsense[i], &result) && result == &capstan_WrongKind_closure);
    CHECK(!rts_isEmptyMVar(CAPSTAN_UNIT) && !rts_isEmptyMVar(nonsense[4]));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_SMALL_INT(1);
}
static void testNonsense(void **state)
{
    assert_int_equal(run(&useNonsense_closure), 1);
    assert_int_equal(runInThread(&useNonsense_closure, NULL), 1);
}

/* Threads that run what is no action die of it, and nobody else. */
static _Atomic int died;
static void noteDeath(void *ctx, StgWord64 threadId, const char *label, HaskellObj exception, const char *text)
{
    died++;
}
static int setUpDeaths(void **state)
{
    RtsConfig config = schedConfig(2);
    config.uncaughtHook = noteDeath;
    died = 0;
    return setUpWith(state, &config);
}
CAPSTAN_IO(forkNonsense)
{
    HaskellObj nonsense[] = { CAPSTAN_SMALL_INT(3), CAPSTAN_UNIT, CAPSTAN_POISON, &capstan_ThreadKilled_closure };
    HaskellObj id = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, id);
    for (int i = 0; i < 4; i++) {
        id = rts_fork(stack, nonsense[i]);
        awaitEnd(stack, &id);
        CHECK(rts_threadStatus(id) == ThreadDied);
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_SMALL_INT(1);
}
static void testForkNonsense(void **state)
{
    assert_int_equal(run(&forkNonsense_closure), 1);
    assert_int_equal(runInThread(&forkNonsense_closure, NULL), 1);
    assert_int_equal(died, 8);
}

/* ---- Delays ---- */

CAPSTAN_IO(sleepForEver)
{
    rts_threadDelay(stack, INT64_MAX);
    CHECK(!"for ever is over");
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(oddDelays)
{
    const HsInt64 none[] = { 0, -1, -1000000, INT64_MIN };
    const HsInt64 endless[] = { INT64_MAX, (INT64_C(1) << 62) + 1, INT64_C(1) << 61, INT64_MAX / 1000 };
    HaskellObj id = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, id);
    uint64_t began = nowMs();
    for (int i = 0; i < 4; i++) rts_threadDelay(stack, none[i]);
    CHECK(nowMs() - began < 5000);
    for (int i = 0; i < 4; i++) {
        id = rts_fork(stack, APPLY(stack->cap, capstan_threadDelay, rts_mkInt64(stack->cap, endless[i])));
        CHECK(awaitStatus(stack, &id, ThreadBlockedOnDelay));
        rts_threadDelay(stack, 5000);
        CHECK(rts_threadStatus(id) == ThreadBlockedOnDelay);
        rts_killThread(stack, id);
        awaitEnd(stack, &id);
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_SMALL_INT(1);
}
static void testDelays(void **state)
{
    assert_int_equal(run(&oddDelays_closure), 1);
    assert_int_equal(runInThread(&oddDelays_closure, NULL), 1);
}

/* ---- Descriptors ---- */

static HaskellObj waitRead(Stack *stack, void *fd)
{
    rts_threadWaitRead(stack, *(int *)fd);
    return CAPSTAN_UNIT;
}
static HaskellObj waitWrite(Stack *stack, void *fd)
{
    rts_threadWaitWrite(stack, *(int *)fd);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(badDescriptors)
{
    int fds[2], bad[] = { -1, INT32_MIN, 1000000, 0 }, file = open("/proc/self/exe", O_RDONLY);
    CHECK(pipe(fds) == 0);
    bad[3] = fcntl(fds[0], F_DUPFD, 300); /* a number that the runtime's own will not get */
    close(bad[3]);
    close(fds[0]);
    for (int i = 0; i < 4; i++) {
        CHECK(says(textRaised(stack, waitRead, &bad[i]), "rts_threadWaitRead", "Bad file descriptor"));
        CHECK(says(textRaised(stack, waitWrite, &bad[i]), "rts_threadWaitWrite", "Bad file descriptor"));
    }
    CHECK(textRaised(stack, waitRead, &file) == NULL); /* always ready */
    CHECK(textRaised(stack, waitWrite, &fds[1]) == NULL); /* broken: writing would not block */
    close(fds[1]);
    close(file);
    return CAPSTAN_SMALL_INT(1);
}

/* Closed under who waits for it, with notice. */
CAPSTAN_IO(waitAndTell, fd, done)
{
    int n = (int)rts_intValue(fd);
    CAPSTAN_ROOTS(stack, done);
    bool ok = says(textRaised(stack, waitRead, &n), "rts_threadWaitRead", "Bad file descriptor");
    rts_putMVar(stack, done, rts_int(stack, ok));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(closeUnderWaiter)
{
    int fds[2];
    HaskellObj done = rts_mkMVar(stack->cap), id = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, done, id);
    CHECK(pipe(fds) == 0);
    id = FORK(stack, waitAndTell, rts_int(stack, fds[0]), done);
    CHECK(awaitStatus(stack, &id, ThreadBlockedOnRead));
    rts_closeFdWith(fds[0]);
    close(fds[0]);
    CHECK(rts_takeMVar(stack, done) == CAPSTAN_SMALL_INT(1));
    close(fds[1]);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_SMALL_INT(1);
}
static void testDescriptors(void **state)
{
    HaskellObj each[] = { &badDescriptors_closure, &closeUnderWaiter_closure };
    for (int i = 0; i < 2; i++) {
        assert_int_equal(run(each[i]), 1);
        assert_int_equal(runInThread(each[i], NULL), 1);
    }
    rts_closeFdWith(-1);
    rts_closeFdWith(123456);
}
/* And without notice. */
CAPSTAN_IO(closeSilently)
{
    int fds[2];
    HaskellObj done = rts_mkMVar(stack->cap), id = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, done, id);
    CHECK(pipe(fds) == 0);
    id = FORK(stack, waitAndTell, rts_int(stack, fds[0]), done);
    CHECK(awaitStatus(stack, &id, ThreadBlockedOnRead));
    close(fds[0]);
    CHECK(rts_takeMVar(stack, done) == CAPSTAN_SMALL_INT(1));
    close(fds[1]);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_SMALL_INT(1);
}
static void testClosedSilently(void **state)
{
    uint64_t began = nowMs();
    assert_int_equal(run(&closeSilently_closure), 1);
    assert_true(nowMs() - began < 20000);
}

/* ---- Doors of the in-call, from an unsafe call ---- */

static Capability *unsafeCap;
static _Atomic int unsafeDone;

/* Everything that is forbidden here; none of it does anything, or harm. */
static void *misuseUnsafe(void *unused)
{
    HaskellObj value = CAPSTAN_UNIT;
    Capability *dead = rts_lock(), *cap = unsafeCap, *tried = NULL;
    CHECK(rts_isDead(dead) && rts_getRefusal(dead) == RTS_HOLDS_CAPABILITY);
    rts_evalIO(&dead, &useNonsense_closure, &value);
    CHECK(value == CAPSTAN_POISON);
    rts_unlock(dead);
    CHECK(rts_tryLock(&tried) == RTS_HOLDS_CAPABILITY);
    rts_evalIO(&cap, &useNonsense_closure, &value);
    CHECK(cap == unsafeCap && value == CAPSTAN_POISON);
    CHECK(rts_getSchedStatus(cap) == Refused);
    CHECK(rts_getException(cap) == CAPSTAN_POISON);
    rts_pollCap(&cap);
    rts_unlock(cap);
    hs_perform_gc();
    hs_thread_done();
    hs_exit();
    unsafeDone++;
    return NULL;
}
CAPSTAN_IO(misuseFromUnsafe)
{
    HaskellObj box = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, box);
    unsafeCap = stack->cap;
    rts_unsafeCall(stack, misuseUnsafe, NULL);
    CHECK(stack->cap == unsafeCap);
    rts_putMVar(stack, box, CAPSTAN_SMALL_INT(1));
    rts_yield(stack);
    HaskellObj value = rts_takeMVar(stack, box);
    CAPSTAN_UNROOT(stack);
    return value;
}
CAPSTAN_IO(misuseAndEnd)
{
    rts_runIO(stack, &misuseFromUnsafe_closure);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(forkMisuse)
{
    FORK(stack, misuseAndEnd);
    return CAPSTAN_UNIT;
}
/* On a worker, where no in-call is. */
static void misuseOnWorker(void)
{
    unsafeDone = 0;
    run(&forkMisuse_closure);
    for (int i = 0; i < 5000 && !unsafeDone; i++) sleepMs(1);
    assert_int_equal(unsafeDone, 1);
}
static void testUnsafe(void **state)
{
    assert_int_equal(run(&misuseFromUnsafe_closure), 1);
    assert_true(heardError(RTS_HOLDS_CAPABILITY) >= 1);
    assert_true(heardError(RTS_INSIDE_INCALL) >= 1);
    assert_int_equal(heardError(RTS_OUT_OF_ORDER), 1);
    assert_int_equal(runInThread(&misuseFromUnsafe_closure, NULL), 1);
    misuseOnWorker();
    assert_int_equal(callWell(), 42);
}

/* ---- In a release function: nothing that waits, and no in-call ---- */

static _Atomic int released;
typedef struct {
    Body *body;
    const char *name;
} Forbidden;
static HaskellObj emptyBox, fullBox;

static HaskellObj doTake(Stack *stack, void *unused) { return rts_takeMVar(stack, emptyBox); }
static HaskellObj doRead(Stack *stack, void *unused) { return rts_readMVar(stack, emptyBox); }
static HaskellObj doPut(Stack *stack, void *unused)
{
    rts_putMVar(stack, fullBox, CAPSTAN_UNIT);
    return CAPSTAN_UNIT;
}
static HaskellObj doDelay(Stack *stack, void *unused)
{
    rts_threadDelay(stack, 1000);
    return CAPSTAN_UNIT;
}
static HaskellObj doWaitRead(Stack *stack, void *unused)
{
    rts_threadWaitRead(stack, 0);
    return CAPSTAN_UNIT;
}
static void *callNothing(void *unused) { return NULL; }
static HaskellObj doCall(Stack *stack, void *unused)
{
    rts_safeCall(stack, callNothing, NULL);
    return CAPSTAN_UNIT;
}
static const Forbidden forbidden[] = {
    { doTake, "rts_takeMVar" }, { doRead, "rts_readMVar" }, { doPut, "rts_putMVar" },
    { doDelay, "rts_threadDelay" }, { doWaitRead, "rts_threadWaitRead" }, { doCall, "a safe call" },
};

static void misuseFinalizer(void *ctx, void *bytes)
{
    Capability *cap = rts_lock();
    CHECK(rts_getRefusal(cap) == RTS_IN_FINALIZER);
    hs_perform_gc();
    hs_thread_done();
    released++;
}

/* One that has kept the stack of managed code, on whose safepoint it runs. */
typedef struct {
    Stack *stack;
    pthread_t thread;
} Keeper;
static void waitInFinalizer(void *ctx, void *bytes)
{
    Keeper *keeper = ctx;
    if (!pthread_equal(keeper->thread, pthread_self())) return;
    for (size_t i = 0; i < sizeof forbidden / sizeof *forbidden; i++)
        CHECK(says(textRaised(keeper->stack, forbidden[i].body, NULL), forbidden[i].name, "not allowed inside an unsafe call or a finalizer"));
    released++;
}
CAPSTAN_IO(collectHereAndNow)
{
    static char bytes[8];
    Keeper keeper = { stack, pthread_self() };
    CAPSTAN_ROOTS(stack, emptyBox, fullBox);
    emptyBox = rts_mkMVar(stack->cap);
    fullBox = rts_mkMVar(stack->cap);
    CHECK(rts_tryPutMVar(stack, fullBox, CAPSTAN_UNIT));
    released = 0;
    rts_mkBytesExternal(stack->cap, bytes, sizeof bytes, waitInFinalizer, &keeper);
    for (int i = 0; i < 1000000 && !released; i++) {
        rts_mkMVar(stack->cap);
        rts_poll(stack);
    }
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, released);
}
static void testWaitInFinalizer(void **state)
{
    assert_int_equal(run(&collectHereAndNow_closure), 1);
    assert_int_equal(callWell(), 42);
}
CAPSTAN_IO(dropMany)
{
    static char bytes[8];
    for (int i = 0; i < 20; i++) rts_mkBytesExternal(stack->cap, bytes, sizeof bytes, misuseFinalizer, NULL);
    return CAPSTAN_UNIT;
}
static void testFinalizers(void **state)
{
    released = 0;
    run(&dropMany_closure);
    runInThread(&dropMany_closure, NULL);
    hs_perform_gc();
    assert_int_equal(released, 40);
    assert_int_equal(heardError(RTS_IN_FINALIZER), 3 * 40);
    assert_int_equal(failedChecks, 0);
    assert_int_equal(callWell(), 42);
}

/* ---- Ends of other threads' in-calls ---- */

static Capability *blockedCap;
static HsStablePtr blockedBox;
static _Atomic int blocked;

CAPSTAN_IO(blockInCall)
{
    HaskellObj box = rts_mkMVar(stack->cap);
    blockedBox = getStablePtr((StgPtr)box);
    blockedCap = stack->cap;
    blocked = 1;
    return rts_takeMVar(stack, box);
}
CAPSTAN_IO(yieldOften, n)
{
    for (HsInt i = rts_intValue(n); i > 0; i--) rts_yield(stack);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(blockAndHost)
{
    FORK(stack, yieldOften, CAPSTAN_SMALL_INT(1000000000));
    return rts_tailCall(stack, &blockInCall_closure, CAPSTAN_WORLD);
}
CAPSTAN_IO(unblock)
{
    rts_putMVar(stack, (HaskellObj)deRefStablePtr(blockedBox), CAPSTAN_SMALL_INT(5));
    return CAPSTAN_UNIT;
}
static void *callBlocked(void *io)
{
    HsInt result = 0;
    SchedulerStatus status = runStatus(io, NULL, &result, NULL, 0);
    return (void *)(status == Success ? result : -(HsInt)status);
}
/* io blocks, hosting or with its capability given up. */
static void unlockFromOutside(HaskellObj io)
{
    HaskellObj value = CAPSTAN_UNIT;
    blocked = 0;
    pthread_t thread = spawn(callBlocked, io);
    waitFor(&blocked);
    sleepMs(5);
    Capability *cap = blockedCap;
    rts_unlock(cap);
    rts_unlock(cap); /* rootcheck: used on purpose when it is held no more */
    rts_evalIO(&cap, &useNonsense_closure, &value);
    assert_true(cap == blockedCap && value == CAPSTAN_POISON);
    assert_int_equal(heardError(RTS_NOT_HOLDER), 3);
    run(&unblock_closure);
    assert_int_equal((HsInt)joinThread(thread), 5);
    hs_free_stable_ptr(blockedBox);
    assert_int_equal(heardOtherErrors(), 0);
}
static void testUnlockOfOthers(void **state)
{
    for (int i = 0; i < 5; i++) {
        unlockFromOutside(&blockInCall_closure);
        unlockFromOutside(&blockAndHost_closure);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ALL(testNonsense), { "testForkNonsense", testForkNonsense, setUpDeaths, disarmTest, NULL }, ALL(testDelays), ALL(testDescriptors),
        ONE(testClosedSilently), ALL(testUnsafe), ALL(testFinalizers), ONE(testWaitInFinalizer), ALL(testUnlockOfOthers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

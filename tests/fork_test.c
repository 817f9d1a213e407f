/* fork() in a host: what a child can do, whatever the parent was doing. */
#include "sched.h"

#include "os/os.h"

#include <errno.h>
#include <sys/wait.h>

/* TSan loses its bearings in the child of a process with threads: there nothing is started anew.  ASan's malloc has locks that another thread may have held. */
#ifdef MISUSE_TSAN
#define CAN_LIVE 0
#else
#define CAN_LIVE 1
#endif
#ifdef MISUSE_ASAN
#define AMONG(child) doExit
#else
#define AMONG(child) (child)
#endif

/* ---- What runtimes are used for ---- */

CAPSTAN_IO(addTo, n, mvar)
{
    CAPSTAN_ROOTS(stack, n, mvar);
    HaskellObj v = rts_takeMVar(stack, mvar);
    rts_putMVar(stack, mvar, rts_int(stack, rts_intValue(v) + rts_intValue(n)));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

static void *doNothing(void *unused) { return NULL; }

static _Atomic int constantMade;
CAPSTAN_CAF(constant)
{
    constantMade++;
    return rts_mkMVar(stack->cap);
}

/* Threads, an MVar, garbage, time, safe calls, a constant. */
CAPSTAN_IO(workALittle)
{
    HaskellObj mvar = rts_mkMVar(stack->cap), done = rts_mkMVar(stack->cap), sum = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, mvar, done, sum);
    rts_putMVar(stack, mvar, CAPSTAN_SMALL_INT(0));
    for (HsInt i = 1; i <= 10; i++) FORK(stack, schedReport, APPLY(stack->cap, addTo, CAPSTAN_SMALL_INT(i), mvar), done);
    for (int i = 0; i < 10; i++) CHECK(rts_takeMVar(stack, done) == CAPSTAN_UNIT);
    for (int i = 0; i < 200; i++) rts_mkArray(stack->cap, 100, mvar);
    rts_safeCall(stack, doNothing, NULL);
    rts_force(stack, &constant_closure);
    rts_threadDelay(stack, 100);
    sum = rts_takeMVar(stack, mvar);
    CAPSTAN_UNROOT(stack);
    return sum;
}

/* ---- Children ---- */

/* Status for _exit: which of these went wrong. */
#define EXPECT(x) \
    do { \
        if (!(x)) { \
            fprintf(stderr, "child: %s:%d: not so: %s\n", __FILE__, __LINE__, #x); \
            return 1; \
        } \
    } while (0)

static int callAndExit(void)
{
    HsInt result = 0;
    EXPECT(runStatus(&workALittle_closure, NULL, &result, NULL, 0) == Success && result == 55 && failedChecks == 0);
    hs_perform_gc();
    EXPECT(runStatus(&workALittle_closure, NULL, &result, NULL, 0) == Success && result == 55 && failedChecks == 0);
    hs_exit();
    return 0;
}

static void *callOnThread(void *unused)
{
    HsInt result = 0;
    for (int i = 0; i < 5; i++) runStatus(&workALittle_closure, NULL, &result, NULL, 0);
    return result == 55 ? NULL : "wrong";
}

CAPSTAN_IO(forkBound) { return rts_forkOS(stack, &workALittle_closure); }

/* Everything anew, twice. */
static int liveAgain(void)
{
    if (!CAN_LIVE) return 0;
    failedChecks = 0;
    EXPECT(rts_isDead(rts_lock())); /* not started */
    for (int i = 0; i < 2; i++) {
        RtsConfig config = schedConfig(2);
        int before = constantMade;
        EXPECT(rts_start(&config, NULL, 0) == RTS_OK);
        RtsThreadCounts counts;
        rts_getThreadCounts(&counts);
        EXPECT(counts.threads == 0 && counts.workers <= 1);
        pthread_t thread = spawn(callOnThread, NULL);
        EXPECT(callOnThread(NULL) == NULL);
        EXPECT(joinThread(thread) == NULL);
        EXPECT(runStatus(&forkBound_closure, NULL, NULL, NULL, 0) == Success);
        EXPECT(callAndExit() == 0);
        EXPECT(constantMade == before + 1);
    }
    return 0;
}
static int doExit(void) { return 0; }
static int doExec(void)
{
    execl("/bin/true", "true", (char *)NULL);
    return 1;
}
/* A child of the child, before and after it has a runtime. */
static int forkAgain(void)
{
    pid_t pid = fork();
    if (pid == 0) _exit(liveAgain());
    int status = 1;
    EXPECT(waitpid(pid, &status, 0) == pid && status == 0);
    RtsConfig config = schedConfig(2);
    EXPECT(rts_start(&config, NULL, 0) == RTS_OK);
    EXPECT(callOnThread(NULL) == NULL);
    pid = fork();
    if (pid == 0) _exit(liveAgain());
    EXPECT(waitpid(pid, &status, 0) == pid && status == 0);
    return callAndExit();
}

/* A child ends in the midst of everything. */
static bool isChild;
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void) { return isChild; }

/* In the child: what it is to do, unless it is to return.  In the parent: how it ended. */
static int forkTo(int (*child)(void))
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) return -errno;
    if (pid == 0) {
        isChild = true;
        pthread_mutex_init(&heard.lock, NULL); /* another thread may have been in one of our hooks */
        alarm(TEST_SECONDS); /* the parent's does not count */
        if (child != NULL) _exit(CAN_LIVE || child == doExec ? child() : 0);
        return -1;
    }
    int status = -1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status;
}

/* ---- Nobody does anything ---- */

static void testNeverStarted(void **state)
{
    armTest(state);
    assert_int_equal(forkTo(doExit), 0);
    assert_int_equal(forkTo(liveAgain), 0);
}

/* The runtime's workers are such threads as well, though they seldom run where nobody does anything: a child hung about once in three runs of all tests. */
#define SKIP_FORKS_EMULATED()                       \
    if (getenv("CAPSTAN_TEST_FORKS") == NULL)       \
    SKIP_EMULATED("a child that is forked among running threads may hang inside the emulator, where no signal reaches it; CAPSTAN_TEST_FORKS=1 tries it")

static void testIdle(void **state)
{
    SKIP_FORKS_EMULATED();
    for (int i = 0; i < 3; i++) { /* without a Task, and with one */
        assert_int_equal(forkTo(doExit), 0);
        assert_int_equal(forkTo(doExec), 0);
        assert_int_equal(forkTo(liveAgain), 0);
        assert_int_equal(run(&workALittle_closure), 55);
    }
    assert_int_equal(forkTo(forkAgain), 0);
    hs_exit();
    assert_int_equal(forkTo(liveAgain), 0);
    assert_int_equal(setUpTwo(state), 0);
    assert_int_equal(run(&workALittle_closure), 55);
}

/* What the child still has of the parent's names nothing. */
static HsStablePtr keptPtr;
static int useStale(void)
{
    Capability *cap;
    EXPECT(rts_tryLock(&cap) == RTS_NOT_STARTED);
    hs_try_putmvar(-1, keptPtr);
    rts_closeFdWith(0);
    rts_setInCallHosting(true);
    EXPECT(setUpTwo(NULL) == 0);
    hs_free_stable_ptr(keptPtr);
    cap = rts_lock();
    HsStablePtr mine = getStablePtr((StgPtr)rts_mkInt64(cap, INT64_MAX));
    EXPECT(mine != keptPtr);
    hs_free_stable_ptr(keptPtr);
    EXPECT(rts_getInt64((HaskellObj)deRefStablePtr(mine)) == INT64_MAX);
    hs_free_stable_ptr(mine);
    rts_unlock(cap);
    heardOtherErrors();
    return callAndExit();
}
static void testStale(void **state)
{
    SKIP_FORKS_EMULATED();
    Capability *cap = rts_lock();
    keptPtr = getStablePtr((StgPtr)rts_mkMVar(cap));
    rts_unlock(cap);
    assert_int_equal(forkTo(useStale), 0);
    hs_free_stable_ptr(keptPtr);
}

/* ---- Everybody does something ---- */

static _Atomic int stopAll;

static void *hammer(void *io)
{
    while (!stopAll) runStatus(io, NULL, NULL, NULL, 0);
    return NULL;
}
static void *hammerCollections(void *unused)
{
    while (!stopAll) hs_perform_gc();
    return NULL;
}
static void *hammerThreads(void *unused)
{
    while (!stopAll) onThread(callOnThread, NULL);
    return NULL;
}

static void forkAmong(HsInt rounds, void *(*fn)(void *), void *arg, int threads, int (*child)(void))
{
    pthread_t all[8];
    SKIP_FORKS_EMULATED();
    stopAll = 0;
    for (int i = 0; i < threads; i++) all[i] = spawn(fn, arg);
    for (HsInt i = 0; i < rounds; i++) {
        if (i % 3 == 0) sleepMs(1);
        assert_int_equal(forkTo(AMONG(child)), 0);
    }
    stopAll = 1;
    for (int i = 0; i < threads; i++) joinThread(all[i]);
}

static HsInt rounds(HsInt n) { return SLOW_BUILD ? n / 10 + 1 : shortLoad() ? n / 4 + 1 : n; }

static void testAmongCalls(void **state)
{
    forkAmong(rounds(40), hammer, &workALittle_closure, 4, liveAgain);
    forkAmong(rounds(40), hammer, &workALittle_closure, 4, doExit);
    assert_int_equal(run(&workALittle_closure), 55);
}
static void testAmongCollections(void **state)
{
    forkAmong(rounds(30), hammerCollections, NULL, 3, liveAgain);
    assert_int_equal(run(&workALittle_closure), 55);
}
static void testAmongThreads(void **state)
{
    forkAmong(rounds(30), hammerThreads, NULL, 3, liveAgain);
    assert_int_equal(run(&workALittle_closure), 55);
}

CAPSTAN_IO(sleepForEver)
{
    rts_threadDelay(stack, INT64_MAX);
    return CAPSTAN_UNIT;
}
static int pipeEnds[2];
CAPSTAN_IO(waitForPipe)
{
    rts_threadWaitRead(stack, pipeEnds[0]);
    return CAPSTAN_UNIT;
}
static void *readPipe(void *unused)
{
    char c;
    while (!stopAll && read(pipeEnds[0], &c, 1) < 0) continue;
    return NULL;
}
CAPSTAN_IO(callPipe)
{
    rts_interruptibleCall(stack, readPipe, NULL);
    return CAPSTAN_UNIT;
}

/* All kinds of waits, some of which end just then. */
CAPSTAN_IO(timeMany)
{
    static StgClosure *const waits[] = { &sleepForEver_closure, &waitForPipe_closure, &callPipe_closure };
    HaskellObj id = CAPSTAN_UNIT, result = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, id, result);
    for (int i = 0; i < 3; i++) {
        id = rts_fork(stack, waits[i]);
        rts_timeout(stack, 500 + 100 * i, waits[i], &result);
        rts_killThread(stack, id);
    }
    rts_forkOS(stack, &workALittle_closure);
    rts_runInBoundThread(stack, &workALittle_closure);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(timeManyInThread)
{
    HaskellObj done = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, done);
    FORK(stack, schedReport, &timeMany_closure, done);
    rts_takeMVar(stack, done);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

static int setUpSignal(void **state)
{
    RtsConfig config = schedConfig(2);
    config.interrupt_signal = SIGUSR2;
    return setUpWith(state, &config);
}
static void testAmongWaits(void **state)
{
    assert_int_equal(pipe(pipeEnds), 0);
    forkAmong(rounds(30), hammer, &timeManyInThread_closure, 3, liveAgain);
    assert_int_equal(run(&workALittle_closure), 55);
    close(pipeEnds[0]);
    close(pipeEnds[1]);
}

/* In-calls with deadlines and handles, submissions. */
static _Atomic(RtsInCallHandle) lastHandle;
static void *hammerBudgets(void *unused)
{
    for (unsigned i = 0; !stopAll; i++) {
        RtsInCallHandle handle = 0;
        RtsLockOpts opts = RTS_LOCK_OPTS_INIT;
        opts.deadline_us = 100 + i % 10 * 100;
        opts.handle = &handle;
        Capability *cap;
        HaskellObj value;
        if (rts_lockOpt(&cap, &opts) == RTS_OK) {
            lastHandle = handle;
            rts_evalIO(&cap, &workALittle_closure, &value);
            rts_unlock(cap);
        }
        RtsSubmission work = RTS_SUBMISSION_INIT;
        work.function = &workALittle_closure;
        work.deadline_us = i % 3 == 0 ? 200 : -1;
        RtsResult result;
        rts_submit(&work, &handle);
        lastHandle = handle;
        if (i % 4 == 0) rts_cancel(handle);
        while (rts_takeResult(-1, &result)) hs_free_stable_ptr(result.value.kind == RtsValueStable ? result.value.u.sp : NULL);
    }
    return NULL;
}
static int liveWithBudgets(void)
{
    if (!CAN_LIVE) return 0;
    RtsResult result;
    RtsInCallHandle handle;
    RtsSubmission work = RTS_SUBMISSION_INIT;
    work.function = &workALittle_closure;
    EXPECT(!rts_cancel(lastHandle));
    EXPECT(!rts_takeResult(-1, &result));
    EXPECT(rts_submit(&work, &handle) == RTS_NOT_STARTED);
    RtsConfig config = schedConfig(2);
    EXPECT(rts_start(&config, NULL, 0) == RTS_OK);
    EXPECT(!rts_cancel(lastHandle));
    EXPECT(!rts_takeResult(-1, &result));
    EXPECT(rts_submit(&work, &handle) == RTS_OK);
    while (!rts_takeResult(-1, &result)) sleepMs(1);
    EXPECT(result.status == Success && result.value.kind == RtsValueInt && result.value.u.i == 55);
    EXPECT(!rts_cancel(handle));
    hs_exit();
    return liveAgain();
}
/* Of what the hammers submit, and do not wait for, only so much may be left at a time: else a slow machine is at it for minutes afterwards. */
static int setUpBudgets(void **state, unsigned capabilities, bool noMembarrier)
{
    RtsConfig config = schedConfig(capabilities);
    config.no_membarrier = noMembarrier;
    config.submit_queue = 20;
    return setUpWith(state, &config);
}
static int setUpBudgetsOne(void **state) { return setUpBudgets(state, 1, false); }
static int setUpBudgetsTwo(void **state) { return setUpBudgets(state, 2, false); }
static int setUpBudgetsBarren(void **state) { return setUpBudgets(state, 2, true); }
static void testAmongBudgets(void **state)
{
    forkAmong(rounds(30), hammerBudgets, NULL, 3, liveWithBudgets);
    RtsResult result;
    while (rts_takeResult(-1, &result)) continue;
    assert_int_equal(run(&workALittle_closure), 55);
}

/* Others start and end the runtime. */
static void *startAndExit(void *unused)
{
    while (!stopAll) {
        RtsConfig config = schedConfig(2);
        if (rts_start(&config, NULL, 0) != RTS_OK) return "not started";
        runStatus(&workALittle_closure, NULL, NULL, NULL, 0);
        hs_exit();
    }
    return NULL;
}
static void testAmongStarts(void **state) { forkAmong(rounds(60), startAndExit, NULL, 2, liveAgain); }

/* ---- Inside calls ---- */

static _Atomic int childEnd;

/* A child that returns from here is inside an in-call of a runtime that is over. */
static void *forkInside(void *child)
{
    int (*fn)(void) = child == NULL ? NULL : *(int (**)(void))child;
    childEnd = forkTo(fn);
    return NULL;
}
static int (*inside)(void);
CAPSTAN_IO(callFork)
{
    rts_safeCall(stack, forkInside, inside == NULL ? NULL : (void *)&inside);
    return CAPSTAN_SMALL_INT(childEnd);
}
/* With an in-call of its own around it, and an unbound thread. */
static void *callInAndFork(void *unused)
{
    SchedulerStatus status = runStatus(&callFork_closure, NULL, NULL, NULL, 0);
    return childEnd == -1 && status != Interrupted ? "not interrupted" : NULL;
}
CAPSTAN_IO(callNested) { return rts_safeCall(stack, callInAndFork, NULL) == NULL ? CAPSTAN_SMALL_INT(childEnd) : CAPSTAN_SMALL_INT(7); }

static void testInsideSafeCall(void **state)
{
    SKIP_FORKS_EMULATED();
    static int (*const children[])(void) = { doExit, doExec, liveAgain, forkAgain };
    for (int i = 0; i < 4; i++) {
        inside = children[i];
        assert_int_equal(run(&callFork_closure), 0);
        assert_int_equal(run(&callNested_closure), 0);
        assert_int_equal(runInThread(&callFork_closure, NULL), 0);
        assert_int_equal(runInThread(&callNested_closure, NULL), 0);
    }
}

/* The child goes on with the in-call. */
static void returnInChild(HaskellObj io)
{
    inside = NULL;
    HsInt result = -7;
    SchedulerStatus status = runStatus(io, NULL, &result, NULL, 0);
    if (childEnd == -1) { /* the child */
        if (status != Interrupted) fprintf(stderr, "child: status %d\n", (int)status);
        if (tasksNow() > 1) fprintf(stderr, "child: tasks %u\n", tasksNow());
        _exit(status != Interrupted || tasksNow() > 1 || liveAgain() != 0);
    }
    assert_int_equal(status, Success);
    assert_int_equal(result, 0);
    assert_int_equal(childEnd, 0);
}
static void testReturnInChild(void **state)
{
    SKIP_FORKS_EMULATED();
    for (int i = 0; i < 5; i++) {
        returnInChild(&callFork_closure);
        returnInChild(&callNested_closure);
    }
}

/* The same after the child has started a runtime in there. */
static int startAndReturn(void)
{
    RtsConfig config = schedConfig(2);
    if (!CAN_LIVE) return 0;
    EXPECT(rts_start(&config, NULL, 0) == RTS_OK);
    EXPECT(callOnThread(NULL) == NULL);
    return 0;
}
static void *forkAndStart(void *unused)
{
    childEnd = forkTo(NULL);
    if (childEnd == -1 && startAndReturn() != 0) _exit(1);
    return NULL;
}
CAPSTAN_IO(callForkAndStart)
{
    rts_safeCall(stack, forkAndStart, NULL);
    return CAPSTAN_SMALL_INT(childEnd);
}
static void testReturnToOld(void **state)
{
    SKIP_FORKS_EMULATED();
    HsInt result = -7;
    SchedulerStatus status = runStatus(&callForkAndStart_closure, NULL, &result, NULL, 0);
    if (childEnd == -1) _exit(status != Interrupted || (CAN_LIVE && callAndExit() != 0));
    assert_int_equal(status, Success);
    assert_int_equal(result, 0);
}

/* A worker that is left alone in the child just ends: the last thread of its process. */
CAPSTAN_IO(callForkUnbound)
{
    HaskellObj done = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, done);
    inside = NULL;
    FORK(stack, schedReport, &callFork_closure, done);
    HaskellObj result = rts_takeMVar(stack, done);
    CAPSTAN_UNROOT(stack);
    return result;
}
/* The leak checker looks at such an end, and does not know the stacks of the parent's threads. */
#ifdef CAPSTAN_ASAN
#define SKIP_UNDER_ASAN() skip()
#else
#define SKIP_UNDER_ASAN() ((void)0)
#endif
static void testReturnUnbound(void **state)
{
    SKIP_FORKS_EMULATED();
    SKIP_UNDER_ASAN();
    for (int i = 0; i < 3; i++) assert_int_equal(run(&callForkUnbound_closure), 0);
}
/* The same of a thread of rts_forkOS. */
CAPSTAN_IO(callForkBound)
{
    HaskellObj done = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, done);
    inside = NULL;
    rts_forkOS(stack, APPLY(stack->cap, schedReport, &callFork_closure, done));
    HaskellObj result = rts_takeMVar(stack, done);
    CAPSTAN_UNROOT(stack);
    return result;
}
static void testReturnForked(void **state)
{
    SKIP_FORKS_EMULATED();
    SKIP_UNDER_ASAN();
    for (int i = 0; i < 3; i++) assert_int_equal(run(&callForkBound_closure), 0);
}

/* Holding a capability: it is dead in the child. */
CAPSTAN_IO(forkUnsafely)
{
    forkInside(inside == NULL ? NULL : (void *)&inside);
    rts_poll(stack);
    return CAPSTAN_SMALL_INT(childEnd);
}
static void testUnsafe(void **state)
{
    SKIP_FORKS_EMULATED();
    static int (*const children[])(void) = { doExit, doExec, liveAgain };
    for (int i = 0; i < 3; i++) {
        inside = children[i];
        assert_int_equal(run(&forkUnsafely_closure), 0);
        assert_int_equal(runInThread(&forkUnsafely_closure, NULL), 0);
    }
    returnInChild(&forkUnsafely_closure);
    inside = NULL;
    Capability *cap = rts_lock();
    childEnd = forkTo(NULL);
    if (childEnd == -1) {
        HaskellObj value = CAPSTAN_UNIT;
        rts_evalIO(&cap, &workALittle_closure, &value);
        bool refused = value == CAPSTAN_POISON;
        rts_unlock(cap);
        _exit(!refused || liveAgain() != 0);
    }
    assert_int_equal(childEnd, 0);
    rts_unlock(cap);
    assert_int_equal(run(&workALittle_closure), 55);
}
/* A hosted thread: the in-call that hosts it is interrupted in the child. */
static void testUnsafeHosted(void **state)
{
    SKIP_FORKS_EMULATED();
    inside = NULL;
    HsInt result = -7;
    HaskellObj value = CAPSTAN_POISON;
    Capability *cap = rts_lock();
    rts_evalIO(&cap, APPLY(cap, schedInThread, &forkUnsafely_closure), &value);
    SchedulerStatus status = rts_getSchedStatus(cap);
    if (status == Success) result = rts_getInt(value);
    rts_unlock(cap);
    if (childEnd == -1) _exit(status != Interrupted || liveAgain() != 0);
    assert_int_equal(status, Success);
    assert_int_equal(result, 0);
}

/* ---- A child costs little ---- */

static void testManyChildren(void **state)
{
    SKIP_FORKS_EMULATED();
    HaskellObj value;
    Capability *cap = rts_lock();
    HsStablePtr big = getStablePtr((StgPtr)rts_mkArray(cap, 1000000, CAPSTAN_UNIT));
    rts_evalIO(&cap, &workALittle_closure, &value);
    rts_unlock(cap);
    for (HsInt i = 0, n = rounds(100); i < n; i++) assert_int_equal(forkTo(doExit), 0);
    assert_int_equal(forkTo(liveAgain), 0);
    hs_free_stable_ptr(big);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(testNeverStarted), ONE(testIdle), TWO(testIdle), TWO(testStale),
        ALL(testAmongCalls), TWO(testAmongCollections), ALL(testAmongThreads),
        { "testAmongWaits", testAmongWaits, setUpSignal, disarmTest, NULL }, { "testAmongBudgets", testAmongBudgets, setUpBudgetsOne, disarmTest, NULL },
        { "testAmongBudgets on two", testAmongBudgets, setUpBudgetsTwo, disarmTest, NULL },
        { "testAmongBudgets without membarrier", testAmongBudgets, setUpBudgetsBarren, disarmTest, NULL }, TEST(testAmongStarts),
        ALL(testInsideSafeCall), ALL(testReturnInChild), ONE(testReturnToOld), TWO(testReturnToOld),
        TWO(testReturnUnbound), TWO(testReturnForked), ONE(testUnsafe), TWO(testUnsafe), ONE(testUnsafeHosted), TWO(testUnsafeHosted),
        TWO(testManyChildren),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

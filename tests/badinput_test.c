/*
 * Wrong use of the interface by a host: each is reported, none does harm, and the next call works.  What ends have to do with
 * it stands in exit_test.c, threads and stacks in sideways_test.c, memory and depth in limits_test.c.
 */
#include "misuse.h"

#include <sys/wait.h>

#include <cmocka.h>

/* ---- Stubs, in the words of generated ones ---- */

CAPSTAN_FUN(badRaise, n)
{
    rts_raiseError(stack, "bad number %ld", (long)rts_intValue(rts_force(stack, n)));
}

CAPSTAN_IO(badHalf, x)
{
    HaskellObj v = rts_force(stack, x);
    return rts_mkDouble(stack->cap, rts_getDouble(v) / 2);
}

static HsInt stubTwice(HsInt a1)
{
Capability *cap;
HaskellObj ret;
HsInt cret;
cap = rts_lock();
rts_evalIO(&cap,rts_apply(cap,(HaskellObj)runNonIO_closure,rts_apply(cap,&misuseTwice_closure,rts_mkInt(cap,a1))) ,&ret);
rts_checkSchedStatus("stubTwice",cap);
cret=rts_getInt(ret);
rts_unlock(cap);
return cret;
}

static HsInt stubRaise(HsInt a1)
{
Capability *cap;
HaskellObj ret;
HsInt cret;
cap = rts_lock();
rts_inCall(&cap,rts_apply(cap,(HaskellObj)runNonIO_closure,rts_apply(cap,&badRaise_closure,rts_mkInt(cap,a1))) ,&ret);
rts_checkSchedStatus("stubRaise",cap);
cret=rts_getInt(ret);
rts_unlock(cap);
return cret;
}

static HsDouble stubHalf(HsDouble a1)
{
Capability *cap;
HaskellObj ret;
HsDouble cret;
cap = rts_lock();
rts_evalIO(&cap,rts_apply(cap,(HaskellObj)runIO_closure,rts_apply(cap,&badHalf_closure,rts_mkDouble(cap,a1))) ,&ret);
rts_checkSchedStatus("stubHalf",cap);
cret=rts_getDouble(ret);
rts_unlock(cap);
return cret;
}

/* ---- The door: rts_lock ---- */

static void expectDead(Capability *cap, RtsStatus why)
{
    HaskellObj ret = CAPSTAN_UNIT;
    char text[8] = "x";
    assert_non_null(cap);
    assert_true(rts_isDead(cap));
    assert_int_equal(rts_getRefusal(cap), why);
    assert_true(rts_mkBytes(cap, "abc", 3) == CAPSTAN_POISON);
    HaskellObj x = rts_apply(cap, &misuseTwice_closure, rts_mkInt(cap, 4));
    CAPSTAN_ROOTS(cap, x);
    rts_evalIO(&cap, rts_apply(cap, (HaskellObj)runIO_closure, x), &ret);
    CAPSTAN_UNROOT(cap);
    assert_true(ret == CAPSTAN_POISON);
    assert_int_equal(rts_getInt(ret), 0);
    assert_int_equal(rts_getSchedStatus(cap), Refused);
    rts_pollCap(&cap);
    rts_showException(cap, rts_getException(cap), text, sizeof text);
    rts_unlock(cap);
    rts_unlock(cap); /* rootcheck: used on purpose when it is held no more */
}

/* Must come first: nothing has been started yet. */
static void test_lock_before_init(void **state)
{
    Capability *cap = NULL;
    RtsCounts counts;
    assert_int_equal(rts_tryLock(&cap), RTS_NOT_STARTED);
    expectDead(rts_lock(), RTS_NOT_STARTED);
    rts_getCounts(&counts);
    assert_int_equal(counts.capabilities, 0);
    hs_thread_done();
    hs_perform_gc();
    hs_exit();
    rts_setInCallCapability(1, 0);
    rts_dump(putDumpLine, NULL);
}

/* The exit status of a child that runs fn. */
static int inChild(void (*fn)(void))
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        alarm(TEST_SECONDS);
        fn();
        _exit(77);
    }
    int status = -1;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void refuseByDefault(void)
{
    if (freopen("/dev/null", "w", stderr) == NULL) _exit(3);
    stubTwice(1);
}

/* No hook has been set yet, so the default ones act: a message and exit(1). */
static void test_default_refusal(void **state)
{
    assert_int_equal(inChild(refuseByDefault), 1);
}

static void test_lock_after_exit(void **state)
{
    Capability *cap = NULL;
    assert_int_equal(startHooked(2), RTS_OK);
    assert_int_equal(callWell(), 42);
    hs_exit();
    assert_int_equal(rts_tryLock(&cap), RTS_NOT_STARTED);
    assert_int_equal(heardClosed(RTS_NOT_STARTED), 0);
    expectDead(rts_lock(), RTS_NOT_STARTED);
    assert_int_equal(heardClosed(RTS_NOT_STARTED), 1);
    assert_int_equal(heardOtherErrors(), 0);
}

/* A stub that goes on after a closed hook that returns gives zero. */
static void test_closed_hook_returns(void **state)
{
    assert_int_equal(startHooked(1), RTS_OK);
    hs_exit();
    assert_int_equal(stubTwice(21), 0);
    assert_true(stubHalf(3.0) == 0);
    assert_int_equal(heardClosed(RTS_NOT_STARTED), 2);
    assert_int_equal(heardStatus(Refused), 2);
    assert_int_equal(startHooked(1), RTS_OK);
    assert_int_equal(stubTwice(21), 42);
    hs_exit();
}

static void *lockHere(void *arg)
{
    Capability *cap = NULL;
    HsInt ok = rts_tryLock(&cap) == RTS_HOLDS_CAPABILITY && heardOtherErrors() == 0;
    cap = rts_lock();
    ok = ok && rts_isDead(cap) && rts_getRefusal(cap) == RTS_HOLDS_CAPABILITY &&
         heardError(RTS_HOLDS_CAPABILITY) == 1;
    rts_unlock(cap);
    ok = ok && stubTwice(21) == 0 && heardStatus(Refused) == 1;
    return (void *)ok;
}

static void test_lock_inside_unsafe_call(void **state)
{
    HsInt ok = 0;
    assert_int_equal(startHooked(2), RTS_OK);
    assert_int_equal(callUnsafely(lockHere, NULL, &ok), Success);
    assert_int_equal(ok, 1);
    assert_int_equal(callWell(), 42);
    hs_exit();
}

static void test_lock_twice(void **state)
{
    assert_int_equal(startHooked(2), RTS_OK);
    Capability *cap = rts_lock();
    assert_false(rts_isDead(cap));
    assert_int_equal((HsInt)lockHere(NULL), 1);
    /* The first one is as good as before. */
    assert_int_equal(rts_getInt(rts_mkInt(cap, 7)), 7);
    rts_unlock(cap);
    assert_int_equal(callWell(), 42);
    assert_int_equal(heardOtherErrors(), 1); /* the one of lockHere's stub */
    hs_exit();
}

static pthread_key_t earlyKey, lateKey;
static _Atomic int destructorResult;

static void callInDestructor(void *arg)
{
    atomic_fetch_add(&destructorResult, (int)callWell());
}

/* A second time round, when the runtime's own destructor has certainly run. */
static void callInDestructorAgain(void *arg)
{
    uintptr_t round = (uintptr_t)arg;
    callInDestructor(NULL);
    if (round < 3) pthread_setspecific(lateKey, (void *)(round + 1));
}

static void *liveWithKeys(void *arg)
{
    pthread_setspecific(earlyKey, (void *)1);
    pthread_setspecific(lateKey, (void *)1);
    return arg != NULL ? (void *)callWell() : NULL;
}

static void test_lock_in_key_destructor(void **state)
{
    /* With luck one key comes before the runtime's and one behind it; rounds see to the rest. */
    pthread_key_create(&earlyKey, callInDestructor);
    assert_int_equal(startHooked(1), RTS_OK);
    assert_int_equal(callWell(), 42);
    pthread_key_create(&lateKey, callInDestructorAgain);
    unsigned tasks = tasksNow();
    for (intptr_t called = 0; called < 2; called++) {
        atomic_store(&destructorResult, 0);
        onThread(liveWithKeys, (void *)called);
        assert_int_equal(atomic_load(&destructorResult), 4 * 42);
        assert_int_equal(tasksNow(), tasks);
    }
    assert_int_equal(callWell(), 42);
    assert_int_equal(heardOtherErrors(), 0);
    hs_exit();
    pthread_key_delete(earlyKey);
    pthread_key_delete(lateKey);
}

/* ---- The door: rts_unlock ---- */

static void *unlockThis(void *cap)
{
    rts_unlock(cap);
    return NULL;
}

static void test_unlock_not_held(void **state)
{
    assert_int_equal(startHooked(1), RTS_OK);
    Capability *cap = rts_lock();
    onThread(unlockThis, cap);
    assert_int_equal(heardError(RTS_NOT_HOLDER), 1);
    /* The owner has not lost it. */
    assert_int_equal(rts_getInt(rts_mkInt(cap, 7)), 7);
    rts_unlock(cap);
    assert_int_equal(heardOtherErrors(), 0);
    rts_unlock(cap); /* rootcheck: used on purpose when it is held no more */
    rts_unlock(cap);
    assert_int_equal(heardError(RTS_NOT_HOLDER), 2);
    assert_int_equal(callWell(), 42);
    hs_exit();
    rts_unlock(cap);
    assert_int_equal(heardError(RTS_NOT_HOLDER), 1);
}

/* In a safe call the outer in-call's capability is not the thread's, even if nobody else has taken it. */
static void *unlockOuter(void *cap)
{
    rts_unlock(cap);
    return NULL;
}

CAPSTAN_IO(badUnlockInSafe)
{
    rts_safeCall(stack, unlockOuter, stack->cap);
    return CAPSTAN_SMALL_INT(1);
}

static void test_unlock_in_safe_call(void **state)
{
    HsInt value = 0;
    assert_int_equal(startHooked(1), RTS_OK);
    assert_int_equal(callAction(&badUnlockInSafe_closure, NULL, &value), Success);
    assert_int_equal(value, 1);
    assert_int_equal(heardError(RTS_NOT_HOLDER), 1);
    assert_int_equal(callWell(), 42);
    hs_exit();
}

/* Managed code has its capability from the in-call, which is still needed. */
static void test_unlock_in_unsafe_call(void **state)
{
    HsInt value = 0;
    assert_int_equal(startHooked(1), RTS_OK);
    Capability *cap = rts_lock();
    rts_unlock(cap); /* the only one there is */
    assert_int_equal(callUnsafely(unlockOuter, cap, &value), Success); /* rootcheck: used on purpose when it is held no more */
    assert_int_equal(heardError(RTS_OUT_OF_ORDER), 1);
    assert_int_equal(callWell(), 42);
    hs_exit();
}

static void *lockAndLeave(void *arg)
{
    rts_lock();
    return (void *)5;
}

static void *returnOutOfOrder(void *arg)
{
    SchedulerStatus status = callSafely(lockAndLeave, NULL, NULL);
    return (void *)(intptr_t)status;
}

/* An in-call that begins in a safe call must end in it. */
static void test_out_of_order(void **state)
{
    assert_int_equal(startHooked(1), RTS_OK);
    SchedulerStatus status = (SchedulerStatus)(intptr_t)onThread(returnOutOfOrder, NULL);
    assert_int_not_equal(status, Success);
    assert_int_equal(heardError(RTS_OUT_OF_ORDER), 1);
    /* With the thread went what it held: the only capability. */
    assert_int_equal(callWell(), 42);
    hs_exit();
}

static void test_not_holder(void **state)
{
    HaskellObj ret = CAPSTAN_UNIT;
    assert_int_equal(startHooked(2), RTS_OK);
    Capability *cap = rts_lock();
    rts_unlock(cap);
    rts_eval(&cap, CAPSTAN_SMALL_INT(3), &ret);
    assert_true(ret == CAPSTAN_POISON);
    assert_int_equal(heardError(RTS_NOT_HOLDER), 1);
    rts_evalIO(&cap, &badRaise_closure, &ret);
    assert_int_equal(heardError(RTS_NOT_HOLDER), 1);
    assert_int_equal(callWell(), 42);
    hs_exit();
}

/* ---- Inside an in-call ---- */

static void *doForbidden(void *arg)
{
    char message[200] = "";
    hs_exit();
    bool ok = heardError(RTS_INSIDE_INCALL) == 1;
    hs_thread_done();
    ok = ok && heardError(RTS_INSIDE_INCALL) == 1;
    ok = ok && rts_start(NULL, message, sizeof message) == RTS_INSIDE_INCALL;
    return (void *)(intptr_t)(ok && message[0] != 0);
}

static void test_inside_incall(void **state)
{
    HsInt ok = 0;
    assert_int_equal(startHooked(2), RTS_OK);
    Capability *cap = rts_lock();
    assert_non_null(doForbidden(NULL));
    rts_unlock(cap);
    assert_int_equal(callUnsafely(doForbidden, NULL, &ok), Success);
    assert_int_equal(ok, 1);
    ok = 0;
    assert_int_equal(callSafely(doForbidden, NULL, &ok), Success);
    assert_int_equal(ok, 1);
    assert_int_equal(callWell(), 42);
    hs_exit();
    assert_false(isRunning());
}

/* ---- Statuses ---- */

static void test_status_hook_returns(void **state)
{
    assert_int_equal(startHooked(1), RTS_OK);
    assert_int_equal(stubTwice(4), 8);
    assert_int_equal(stubRaise(17), 0);
    assert_int_equal(heardStatus(Killed), 1);
    assert_string_equal(heard.site, "stubRaise");
    assert_non_null(strstr(heard.text, "bad number 17"));
    assert_int_equal(stubTwice(5), 10);
    assert_true(stubHalf(5.0) == 2.5);
    assert_int_equal(heardStatus(Success), 0);
    hs_exit();
}

/* Nothing was evaluated. */
static void test_no_status(void **state)
{
    assert_int_equal(startHooked(1), RTS_OK);
    assert_int_equal(callWell(), 42);
    Capability *cap = rts_lock();
    assert_int_equal(rts_getSchedStatus(cap), NoStatus);
    rts_checkSchedStatus("nothing", cap);
    assert_int_equal(heardStatus(NoStatus), 1);
    assert_true(rts_getException(cap) == CAPSTAN_POISON);
    rts_unlock(cap);
    hs_exit();
}

static void raiseByDefault(void)
{
    RtsConfig config = RTS_CONFIG_INIT;
    config.capabilities = 1;
    if (rts_start(&config, NULL, 0) != RTS_OK) _exit(2);
    if (freopen("/dev/null", "w", stderr) == NULL) _exit(3);
    stubRaise(1);
}

/* As in GHC: a message and exit(1). */
static void test_default_status_hook(void **state)
{
    assert_int_equal(inChild(raiseByDefault), 1);
}

static void test_uncaught(void **state)
{
    HaskellObj ret = CAPSTAN_UNIT;
    char text[64], little[5];
    assert_int_equal(startHooked(1), RTS_OK);
    Capability *cap = rts_lock();
    rts_eval(&cap, rts_apply(cap, &badRaise_closure, rts_mkInt(cap, 99)), &ret);
    assert_int_equal(rts_getSchedStatus(cap), Killed);
    assert_true(ret == CAPSTAN_POISON);
    HaskellObj exception = rts_getException(cap);
    assert_true(exception != CAPSTAN_POISON);
    size_t length = rts_showException(cap, exception, text, sizeof text);
    assert_string_equal(text, "bad number 99");
    assert_int_equal(length, strlen(text));
    assert_int_equal(rts_showException(cap, exception, little, sizeof little), length);
    assert_string_equal(little, "bad ");
    assert_int_equal(rts_showException(cap, exception, NULL, 0), length);
    /* In the same in-call, and in the next. */
    rts_eval(&cap, rts_apply(cap, &misuseTwice_closure, rts_mkInt(cap, 4)), &ret);
    assert_int_equal(rts_getSchedStatus(cap), Success);
    assert_int_equal(rts_getInt(ret), 8);
    assert_true(rts_getException(cap) == CAPSTAN_POISON);
    rts_unlock(cap);
    assert_int_equal(callWell(), 42);
    hs_exit();
}

/* ---- Options ---- */

/* Each is refused with a message that names it; nothing is started. */
static void expectBadOption(const char *opts, const char *named)
{
    char message[300] = "";
    RtsConfig config = hookedConfig(1);
    config.rts_opts = opts;
    assert_int_equal(rts_start(&config, message, sizeof message), RTS_BAD_OPTION);
    if (strstr(message, named) == NULL) fail_msg("\"%s\": the message is \"%s\"", opts, message);
    /* More than the name: what was expected. */
    assert_true(strlen(message) > strlen(named) + 8);
    assert_false(isRunning());
    message[0] = 0;
    hs_init_ghc(NULL, NULL, config);
    assert_int_equal(heardError(RTS_BAD_OPTION), 1);
    assert_non_null(strstr(heard.error, named));
    assert_false(isRunning());
}

static void test_bad_options(void **state)
{
    static const char *const cases[][2] = {
        { "--bogus", "--bogus" }, { "-Q", "-Q" },           { "-N0", "-N" },        { "-Nx", "-Nx" },
        { "-N-1", "-N-1" },       { "-N1000000", "-N" },    { "-A", "-A" },         { "-A12q", "-A12q" },
        { "-A1", "-A" },          { "-Mlots", "-Mlots" },   { "-M1k", "-M" },       { "-N2 -Zz -A1m", "-Zz" },
        { "hello", "hello" },     { "--debug-numa", "--debug-numa" },               { "--debug-numa=x", "--debug-numa=x" },
        { "-N99999999999999999999999", "-N" },              { "-A99999999999999999999999g", "-A" },
        { "--verify-heap=3", "--verify-heap=3" },           { "-A64m -M64m", "-M" },
    };
    /* What is expected instead. */
    static const char *const ranges[][2] = {
        { "--idle-gc", "expected --idle-gc=<microseconds, 1 to 1000000000>" },  { "--idle-gc=0", "expected --idle-gc=<microseconds, 1 to 1000000000>" },
        { "--idle-gc=", "expected --idle-gc=<microseconds" },                   { "--idle-gc=1000000001", "1 to 1000000000" },
        { "--long-stop", "expected --long-stop=<microseconds" },                { "--long-stop=0", "1 to 1000000000" },
        { "--debug-numa", "expected --debug-numa=<number of nodes, 1 to 65536>" }, { "--debug-numa=0", "1 to 65536" },
        { "--debug-numa=65537", "1 to 65536" },                                 { "--quantum=0", "1 to 10000000" },
        { "--quantum=10000001", "1 to 10000000" },                              { "--slice=99", "100 to 10000000" },
        { "--workers=0", "1 to 1000000" },                                      { "--spare-workers=0", "1 to 1000000" },
        { "--submit-queue=0", "1 to 1073741824" },                              { "--idle-gcx", "expected one of" },
        { "--idle", "expected one of" },                                        { "--stats-json=", "expected --stats-json or --stats-json=<file" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) expectBadOption(cases[i][0], cases[i][1]);
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) expectBadOption(ranges[i][0], ranges[i][1]);
    assert_int_equal(startHooked(1), RTS_OK);
    assert_int_equal(callWell(), 42);
    hs_exit();
}

/* Names of files that there is no room for are refused, however long they are, and so is what only looks right if the rest is left out. */
static void test_long_options(void **state)
{
    static const struct { const char *begins, *named; } cases[] = { { "-s", "255 bytes at most" }, { "--stats-json=", "255 bytes at most" } };
    char option[2000];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t length = 256; length < 1500; length += length < 310 ? 1 : 100) {
            snprintf(option, sizeof option, "%s%0*d", cases[i].begins, (int)length, 0);
            expectBadOption(option, cases[i].named);
            char *args[] = { "prog", "+RTS", option, NULL }, **argv = args, message[300];
            int argc = 3;
            RtsConfig config = hookedConfig(1);
            config.rts_opts_enabled = RtsOptsAll;
            assert_int_equal(rts_startArgs(&config, &argc, &argv, message, sizeof message), RTS_BAD_OPTION);
            assert_non_null(strstr(message, cases[i].named));
        }
    snprintf(option, sizeof option, "-N%0297dx", 2);
    expectBadOption(option, "-N0");
}

static void test_good_options(void **state)
{
    RtsConfig config = hookedConfig(0);
    config.rts_opts = "  -N3   -A512k --debug-numa=2 --verify-heap --poison --no-membarrier -M64m ";
    assert_int_equal(rts_start(&config, NULL, 0), RTS_OK);
    assert_int_equal(getNumCapabilities(), 3);
    assert_int_equal(callWell(), 42);
    hs_exit();
}

static void expectBadConfig(RtsConfig config)
{
    char message[300] = "";
    assert_int_equal(rts_start(&config, message, sizeof message), RTS_BAD_OPTION);
    assert_true(strlen(message) > 10);
    assert_false(isRunning());
}

static void test_bad_config(void **state)
{
    RtsConfig config = hookedConfig(1);
    config.size = 3;
    expectBadConfig(config);
    config = hookedConfig(1000000);
    expectBadConfig(config);
    config = hookedConfig(1);
    config.heap_limit_bytes = 4096;
    expectBadConfig(config);
    config = hookedConfig(1);
    config.nursery_bytes = (size_t)1 << 60;
    expectBadConfig(config);
    config = hookedConfig(1);
    config.rts_opts_enabled = (RtsOptsEnabled)77;
    expectBadConfig(config);
    /* A message needs no room. */
    config = hookedConfig(1);
    config.rts_opts = "--bogus";
    assert_int_equal(rts_start(&config, NULL, 0), RTS_BAD_OPTION);
    char tiny[4];
    assert_int_equal(rts_start(&config, tiny, sizeof tiny), RTS_BAD_OPTION);
    assert_int_equal(strlen(tiny), 3);
}

static RtsStatus startWithArgs(RtsOptsEnabled enabled, int *argc, char ***argv)
{
    RtsConfig config = hookedConfig(1);
    config.rts_opts_enabled = enabled;
    return rts_startArgs(&config, argc, argv, NULL, 0);
}

static void test_command_line(void **state)
{
    char *all[] = { "prog", "a", "+RTS", "-N2", "-A1m", "-RTS", "b", NULL };
    char *args[8], **argv = args;
    int argc = 7;
    memcpy(args, all, sizeof all);
    assert_int_equal(startWithArgs(RtsOptsNone, &argc, &argv), RTS_OK);
    assert_int_equal(argc, 7);
    assert_int_equal(getNumCapabilities(), 1);
    hs_exit();
    assert_int_equal(startWithArgs(RtsOptsCommandLine, &argc, &argv), RTS_OK);
    assert_int_equal(argc, 3);
    assert_string_equal(argv[0], "prog");
    assert_string_equal(argv[1], "a");
    assert_string_equal(argv[2], "b");
    assert_null(argv[3]);
    assert_int_equal(getNumCapabilities(), 2);
    hs_exit();
    char *bad[] = { "prog", "+RTS", "-Wrong", NULL };
    argv = bad;
    argc = 3;
    assert_int_equal(startWithArgs(RtsOptsAll, &argc, &argv), RTS_BAD_OPTION);
    assert_false(isRunning());
}

static void test_environment(void **state)
{
    RtsConfig config = hookedConfig(1);
    setenv("CAPSTANRTS", "-N3", 1);
    assert_int_equal(rts_start(&config, NULL, 0), RTS_OK);
    assert_int_equal(getNumCapabilities(), 1);
    hs_exit();
    config.rts_opts_enabled = RtsOptsAll;
    assert_int_equal(rts_start(&config, NULL, 0), RTS_OK);
    assert_int_equal(getNumCapabilities(), 3);
    hs_exit();
    setenv("CAPSTANRTS", "-Wrong", 1);
    char message[300] = "";
    assert_int_equal(rts_start(&config, message, sizeof message), RTS_BAD_OPTION);
    assert_non_null(strstr(message, "-Wrong"));
    unsetenv("CAPSTANRTS");
}

/* ---- Stable pointers ---- */

static void test_any_stable_ptr(void **state)
{
    static const uintptr_t patterns[] = { 0, 1, 2, 7, 8, 0xdeadbeef, UINTPTR_MAX, UINTPTR_MAX / 2, (uintptr_t)1 << 63 };
    HaskellObj ret;
    assert_int_equal(startHooked(1), RTS_OK);
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        Capability *cap = rts_lock();
        rts_eval(&cap, rts_mkStablePtr(cap, (HsStablePtr)patterns[i]), &ret);
        assert_true(rts_getStablePtr(ret) == (HsStablePtr)patterns[i]);
        rts_eval(&cap, rts_mkPtr(cap, (HsPtr)patterns[i]), &ret);
        assert_true(rts_getPtr(ret) == (HsPtr)patterns[i]);
        rts_eval(&cap, rts_mkFunPtr(cap, (HsFunPtr)patterns[i]), &ret);
        assert_true(rts_getFunPtr(ret) == (HsFunPtr)patterns[i]);
        rts_unlock(cap);
        hs_perform_gc();
    }
    assert_int_equal(heardOtherErrors(), 0);
    hs_exit();
}

#ifdef CAPSTAN_DEBUG
static void expectStale(StgStablePtr ptr)
{
    assert_true((HaskellObj)(void *)deRefStablePtr(ptr) == CAPSTAN_POISON);
    assert_int_equal(heardError(RTS_BAD_STABLE_PTR), 1);
    freeStablePtr(ptr);
    assert_int_equal(heardError(RTS_BAD_STABLE_PTR), 1);
    hs_free_stable_ptr(ptr);
    assert_int_equal(heardError(RTS_BAD_STABLE_PTR), 1);
}
#endif

static void test_stale_stable_ptr(void **state)
{
#ifndef CAPSTAN_DEBUG
    skip();
#else
    assert_int_equal(startHooked(1), RTS_OK);
    Capability *cap = rts_lock();
    StgStablePtr ptr = getStablePtr((StgPtr)(void *)rts_mkBytes(cap, "abc", 3));
    StgStablePtr other = getStablePtr((StgPtr)(void *)rts_mkInt(cap, 5));
    freeStablePtr(ptr);
    expectStale(ptr);
    expectStale((StgStablePtr)12345677);
    expectStale((StgStablePtr)UINTPTR_MAX);
    expectStale((StgStablePtr)3);
    /* What getStablePtr gives without memory may be freed like any other. */
    assert_true((HaskellObj)(void *)deRefStablePtr(NULL) == CAPSTAN_POISON);
    freeStablePtr(NULL);
    heardOtherErrors();
    assert_int_equal(rts_getInt((HaskellObj)(void *)deRefStablePtr(other)), 5);
    freeStablePtr(other);
    HsStablePtr result = &result;
    rts_evalStableIO(&cap, ptr, &result);
    assert_int_not_equal(rts_getSchedStatus(cap), Success);
    assert_null(result);
    rts_unlock(cap);
    assert_int_equal(callWell(), 42);
    hs_exit();
#endif
}

/* ---- Values of the wrong kind ---- */

typedef HsInt (*Reader)(HaskellObj);
#define READER(name, get) static HsInt name(HaskellObj v) { return (HsInt)get(v); }
READER(readChar, rts_getChar)
READER(readInt, rts_getInt)
READER(readInt64, rts_getInt64)
READER(readInt8, rts_getInt8)
READER(readInt16, rts_getInt16)
READER(readInt32, rts_getInt32)
READER(readWord, rts_getWord)
READER(readWord8, rts_getWord8)
READER(readWord16, rts_getWord16)
READER(readWord32, rts_getWord32)
READER(readWord64, rts_getWord64)
READER(readFloat, rts_getFloat)
READER(readDouble, rts_getDouble)
READER(readBool, rts_getBool)
READER(readPtr, rts_getPtr)
READER(readFunPtr, rts_getFunPtr)
READER(readStablePtr, rts_getStablePtr)
READER(readString, rts_getString)
READER(readArrayLength, rts_arrayLength)
static HsInt readBytes(HaskellObj v) { return (HsInt)rts_bytes(v, NULL); }
static HsInt readCopy(HaskellObj v) { char c; return (HsInt)rts_copyBytes(v, 0, &c, 1); }
static HsInt readTag(HaskellObj v) { return rts_conTag(v) + 1; }

static const Reader readers[] = { readChar, readInt, readInt64, readInt8, readInt16, readInt32, readWord, readWord8, readWord16,
    readWord32, readWord64, readFloat, readDouble, readBool, readPtr, readFunPtr, readStablePtr, readString, readArrayLength,
    readBytes, readCopy, readTag };

static void test_wrong_kinds(void **state)
{
    assert_int_equal(startHooked(1), RTS_OK);
    Capability *cap = rts_lock();
    HaskellObj thunk = rts_apply(cap, &misuseTwice_closure, rts_mkInt(cap, 1));
    HaskellObj var = rts_mkMutVar(cap, rts_mkInt(cap, 1));
    for (size_t i = 0; i < sizeof readers / sizeof *readers; i++) {
        HaskellObj wrong[] = { thunk, var, &misuseTwice_closure, CAPSTAN_UNIT };
        for (size_t k = 0; k < 4; k++) {
            assert_int_equal(readers[i](wrong[k]), 0);
            if (heardError(RTS_WRONG_KIND) != 1) fail_msg("reader %zu says nothing of value %zu", i, k);
        }
        assert_int_equal(readers[i](CAPSTAN_POISON), 0);
    }
    heardOtherErrors(); /* of poison: readers of numbers must not, others may */
    assert_int_equal(rts_getInt(CAPSTAN_POISON), 0);
    assert_true(rts_getDouble(CAPSTAN_POISON) == 0);
    assert_int_equal(heardOtherErrors(), 0);
    rts_unlock(cap);
    hs_exit();
}

static void test_out_of_range(void **state)
{
    assert_int_equal(startHooked(1), RTS_OK);
    Capability *cap = rts_lock();
    HaskellObj array = rts_mkArray(cap, 3, rts_mkInt(cap, 5));
    assert_int_equal(rts_arrayLength(array), 3);
    assert_true(rts_getElem(array, 3) == CAPSTAN_POISON);
    assert_true(rts_getElem(array, SIZE_MAX) == CAPSTAN_POISON);
    rts_setElem(cap, array, 3, CAPSTAN_UNIT);
    assert_int_equal(heardError(RTS_BAD_ARGUMENT), 3);
    HaskellObj bytes = rts_mkBytes(cap, "abcdef", 6);
    char copy[8] = "zzzzzzz";
    assert_int_equal(rts_copyBytes(bytes, 4, copy, 8), 2);
    assert_memory_equal(copy, "efz", 3);
    assert_int_equal(rts_copyBytes(bytes, 6, copy, 8), 0);
    assert_int_equal(rts_copyBytes(bytes, SIZE_MAX, copy, 8), 0);
    assert_true(rts_mkArray(cap, SIZE_MAX / 4, CAPSTAN_UNIT) == CAPSTAN_POISON);
    assert_true(rts_mkBytes(cap, NULL, SIZE_MAX - 3) == CAPSTAN_POISON);
    assert_true(rts_mkBytesPinned(cap, NULL, SIZE_MAX / 2) == CAPSTAN_POISON);
    assert_int_equal(rts_getSchedStatus(cap), HeapExhausted);
    rts_unlock(cap);
    assert_int_equal(callWell(), 42);
    StgInfoTable nonsense = { .kind = CLOSURE_KINDS };
    assert_null(rts_newInfoTable(&nonsense));
    hs_exit();
}

/* ---- Finalizers ---- */

static void callInFinalizer(void *ctx, void *bytes)
{
    int *ok = ctx;
    Capability *cap = NULL;
    *ok = rts_tryLock(&cap) == RTS_IN_FINALIZER;
    cap = rts_lock();
    *ok = *ok && rts_isDead(cap) && rts_getRefusal(cap) == RTS_IN_FINALIZER && heardError(RTS_IN_FINALIZER) == 1;
    rts_unlock(cap);
    free(bytes);
}

static void test_lock_in_finalizer(void **state)
{
    int dead = 0, atEnd = 0;
    assert_int_equal(startHooked(1), RTS_OK);
    Capability *cap = rts_lock();
    rts_mkBytesExternal(cap, malloc(10), 10, callInFinalizer, &dead);
    HaskellObj kept = rts_mkBytesExternal(cap, malloc(10), 10, callInFinalizer, &atEnd);
    StgStablePtr ptr = getStablePtr((StgPtr)(void *)kept);
    assert_non_null(ptr);
    rts_unlock(cap);
    hs_perform_gc();
    assert_int_equal(dead, 1);
    assert_int_equal(callWell(), 42);
    hs_exit();
    /* At the end there is no runtime any more, which may be said first. */
    assert_true(atEnd == 1 || heardClosed(RTS_CLOSED) + heardClosed(RTS_NOT_STARTED) >= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_lock_before_init),     TEST(test_default_refusal),       TEST(test_lock_after_exit),
        TEST(test_closed_hook_returns),
        TEST(test_lock_inside_unsafe_call), TEST(test_lock_twice),         TEST(test_lock_in_key_destructor),
        TEST(test_unlock_not_held),      TEST(test_unlock_in_safe_call),   TEST(test_unlock_in_unsafe_call),
        TEST(test_out_of_order),         TEST(test_not_holder),            TEST(test_inside_incall),
        TEST(test_status_hook_returns),  TEST(test_no_status),             TEST(test_default_status_hook),
        TEST(test_uncaught),             TEST(test_bad_options),           TEST(test_long_options),          TEST(test_good_options),
        TEST(test_bad_config),           TEST(test_command_line),          TEST(test_environment),
        TEST(test_any_stable_ptr),       TEST(test_stale_stable_ptr),      TEST(test_wrong_kinds),
        TEST(test_out_of_range),         TEST(test_lock_in_finalizer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* getRTSStats, what hs_exit writes for -s and --stats-json, causes and balance of collections, rts_clearMemory. */
#include <Rts.h>
#include <rts/Language.h>
#include <rts/Managed.h>
#include <rts/Threads.h>

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "child.h"

CAPSTAN_CON(Pair, 1, first, second)

static _Atomic unsigned causes[RTS_GC_CAUSES], errors;
static RtsCollection last; /* [the hook] of a runtime with one capability */
static char file[] = "capstan-stats-XXXXXX"; /* no blanks: it stands in options */

static void noteCollection(void *ctx, const RtsCollection *c)
{
    causes[c->cause]++;
    last = *c;
}
static void noteError(void *ctx, RtsStatus status, const char *message) { errors++; }

static RtsConfig configure(const char *options)
{
    RtsConfig config = RTS_CONFIG_INIT;
    config.capabilities = 1;
    config.nursery_bytes = 1 << 20;
    config.idle_collection_us = 1000000000; /* collections are counted */
    config.gcDoneHook = noteCollection;
    config.errorHook = noteError;
    config.rts_opts = options;
    for (int i = 0; i < RTS_GC_CAUSES; i++) causes[i] = 0;
    errors = 0;
    return config;
}

static void start(const char *options)
{
    RtsConfig config = configure(options);
    char message[256];
    if (rts_start(&config, message, sizeof message) != RTS_OK) fail_msg("%s", message);
}

/* So many pairs, of which every 64th lives until the next. */
CAPSTAN_IO(churn, count)
{
    HsInt n = rts_intValue(rts_force(stack, count));
    HaskellObj keep = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, keep);
    for (HsInt i = 0; i < n; i++) {
        HaskellObj pair = Pair_new(stack->cap, CAPSTAN_SMALL_INT(i), CAPSTAN_UNIT);
        if (i % 64 == 0) keep = pair;
        rts_poll(stack);
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

static void run(StgClosure *action, HsInt n)
{
    Capability *cap = rts_lock();
    rts_evalIO(&cap, rts_apply(cap, (HaskellObj)action, rts_mkInt(cap, n)), NULL);
    assert_int_equal(rts_getSchedStatus(cap), Success);
    rts_unlock(cap);
}

static void testNothingBefore(void **state)
{
    RTSStats s;
    memset(&s, 0x55, sizeof s);
    getRTSStats(&s);
    assert_int_equal(s.gcs, 0);
    assert_int_equal(s.elapsed_ns, 0);
    assert_int_equal(getRTSStatsEnabled(), 0);
    assert_int_equal(getAllocations(), 0);
}

static void testCounts(void **state)
{
    RTSStats before, after;
    start(NULL);
    assert_int_equal(getRTSStatsEnabled(), 1);
    hs_perform_gc();
    getRTSStats(&before);
    assert_true(before.gcs >= 1 && before.major_gcs >= 1);
    run(&churn_closure, 300000); /* 7.2 MB */
    rts_performMinorGC();
    getRTSStats(&after);
    assert_true(after.gcs - before.gcs >= 6);
    assert_true(after.allocated_bytes - before.allocated_bytes >= 7200000);
    assert_true(after.allocated_bytes - before.allocated_bytes < 14400000 + (uint64_t)(after.gcs - before.gcs) * 65536);
    assert_int_equal(getAllocations(), after.allocated_bytes);
    assert_true(after.gc_elapsed_ns > before.gc_elapsed_ns);
    assert_true(after.max_pause_ns > 0 && after.max_pause_ns <= after.gc_elapsed_ns);
    assert_true(after.elapsed_ns >= after.gc_elapsed_ns + after.init_elapsed_ns);
    assert_int_equal(after.elapsed_ns, after.init_elapsed_ns + after.mutator_elapsed_ns + after.gc_elapsed_ns);
    assert_true(after.cpu_ns > 0 && after.gc_cpu_ns > 0);
    assert_true(after.max_mem_in_use_bytes >= after.gc.mem_in_use_bytes);
    assert_true(after.gc.mem_in_use_bytes >= after.gc.live_bytes);
    uint64_t sum = 0;
    for (int i = 0; i < RTS_GC_CAUSES; i++) {
        assert_int_equal(after.causes[i], causes[i]);
        sum += after.causes[i];
    }
    assert_int_equal(sum, after.gcs);
    hs_exit();
    testNothingBefore(state);
}

static void *majorInCall(void *arg)
{
    hs_perform_gc();
    return NULL;
}
CAPSTAN_IO(collects, how)
{
    HsInt n = rts_intValue(rts_force(stack, how));
    if (n == 0) rts_collect(stack, false);
    else rts_safeCall(stack, majorInCall, NULL);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(external, bytes)
{
    HsInt n = rts_intValue(rts_force(stack, bytes));
    rts_externalMemory(stack->cap, n);
    rts_poll(stack);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(tooMuch, ignored)
{
    rts_mkBytes(stack->cap, NULL, (size_t)1 << 30);
    rts_poll(stack);
    return CAPSTAN_UNIT;
}

static void testCauses(void **state)
{
    start("-M64m");
    run(&churn_closure, 200000);
    assert_true(causes[RtsGcAllocation] > 0);
    assert_int_equal(causes[RtsGcRequest], 0);
    run(&collects_closure, 0);
    assert_int_equal(causes[RtsGcRequest], 1);
    run(&collects_closure, 1);
    assert_int_equal(causes[RtsGcRequest], 2);
    hs_perform_gc();
    rts_performMinorGC();
    assert_int_equal(causes[RtsGcRequest], 4);
    assert_int_equal(causes[RtsGcExternal] + causes[RtsGcMemory] + causes[RtsGcIdle] + causes[RtsGcUnload], 0);
    run(&external_closure, 20 << 20);
    assert_int_equal(causes[RtsGcExternal], 1);
    run(&external_closure, -(20 << 20));
    Capability *cap = rts_lock();
    rts_evalIO(&cap, rts_apply(cap, &tooMuch_closure, rts_mkInt(cap, 0)), NULL);
    assert_int_equal(rts_getSchedStatus(cap), HeapExhausted);
    rts_unlock(cap);
    assert_true(causes[RtsGcMemory] > 0);
    hs_exit();
    assert_string_equal(rts_gcCauseName(RtsGcExternal), "external");
    assert_string_equal(rts_gcCauseName(RTS_GC_CAUSES), "unknown");
}

/* A list of so many pairs. */
CAPSTAN_IO(list, count)
{
    HsInt n = rts_intValue(rts_force(stack, count));
    HaskellObj all = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, all);
    for (HsInt i = 0; i < n; i++) all = Pair_new(stack->cap, CAPSTAN_SMALL_INT(i), all);
    CAPSTAN_UNROOT(stack);
    return all;
}

/* A minor collection that leaves too little is followed by a full one at once: they count as one, which did what both did. */
static void testTwoInOne(void **state)
{
    enum { PAIRS = 10000, BYTES = 24 * PAIRS };
    RTSStats before, after;
    HsStablePtr kept = NULL;
    start("-M4m");
    hs_perform_gc();
    Capability *cap = rts_lock();
    rts_evalStableIO(&cap, getStablePtr((StgPtr)(void *)rts_apply(cap, &list_closure, rts_mkInt(cap, PAIRS))), &kept);
    assert_int_equal(rts_getSchedStatus(cap), Success);
    rts_unlock(cap);
    getRTSStats(&before);
    rts_externalMemory(NULL, 3 << 20);
    rts_performMinorGC();
    getRTSStats(&after);
    assert_int_equal(after.gcs - before.gcs, 1);
    assert_true(last.major);
    assert_int_equal(last.cause, RtsGcMemory);
    assert_true(last.allocated_bytes >= BYTES && last.allocated_bytes < 2 * BYTES + (1 << 16));
    assert_true(last.copied_bytes >= 2 * BYTES);
    assert_true(last.max_copied_bytes == last.copied_bytes && last.cpu_ns > 0);
    assert_int_equal(after.allocated_bytes - before.allocated_bytes, last.allocated_bytes);
    rts_externalMemory(NULL, -(3 << 20));
    hs_exit();
}

/* ---- Idle collections ---- */

static void startIdling(unsigned us)
{
    RtsConfig config = configure(NULL);
    config.idle_collection_us = us;
    assert_int_equal(rts_start(&config, NULL, 0), RTS_OK);
}

static void testIdle(void **state)
{
    startIdling(10000);
    run(&churn_closure, 100000);
    for (int i = 0; i < 1000 && causes[RtsGcIdle] == 0; i++) usleep(10000);
    assert_true(causes[RtsGcIdle] > 0);
    hs_exit();
}

/* A thread that wakes again and again, and allocates nothing. */
static _Atomic unsigned ticks, tickMicros;
CAPSTAN_IO(tick)
{
    for (;;) {
        rts_threadDelay(stack, tickMicros);
        ticks++;
    }
    return CAPSTAN_UNIT;
}
static void startTicking(unsigned us)
{
    tickMicros = us;
    Capability *cap = rts_lock();
    scheduleThread(cap, createIOThread(cap, 0, (HaskellObj)&tick_closure));
    rts_unlock(cap);
}
static void awaitTicks(unsigned n)
{
    for (unsigned from = ticks; ticks - from < n;) usleep(1000);
}

/* Whether there came to be no idle collection for so many ticks. */
static bool comesToRest(unsigned n)
{
    unsigned before = 0;
    for (int i = 0; i < 20; i++) {
        before = causes[RtsGcIdle];
        awaitTicks(n);
        if (before != 0 && causes[RtsGcIdle] == before) return true;
    }
    return false;
}

/* Each rest is longer than the idle time; but nothing is allocated any more. */
static void testIdleTicking(void **state)
{
    startIdling(10000);
    startTicking(50000);
    run(&churn_closure, 100000);
    assert_true(comesToRest(10));
    run(&churn_closure, 10);
    unsigned before = causes[RtsGcIdle];
    for (int i = 0; i < 6000 && causes[RtsGcIdle] == before; i++) usleep(10000);
    assert_true(causes[RtsGcIdle] > before);
    assert_true(comesToRest(10));
    hs_exit();
}

/* So many pairs, all alive until the end. */
CAPSTAN_IO(pile, count)
{
    HsInt n = rts_intValue(rts_force(stack, count));
    HaskellObj top = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, top);
    for (HsInt i = 0; i < n; i++) {
        top = Pair_new(stack->cap, CAPSTAN_SMALL_INT(i), top);
        if (i % 4096 == 0) rts_poll(stack); /* torture builds collect at every fourth */
    }
    rts_collect(stack, true);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* No rest is as long as the idle time, and what died is found dead all the same. */
static void testIdleBeside(void **state)
{
    enum { PAIRS = 400000, LIVE = PAIRS * 24 };
    startIdling(100000);
    run(&pile_closure, PAIRS);
    assert_true(last.live_bytes >= LIVE);
    startTicking(20000);
    for (int i = 0; i < 12000 && causes[RtsGcIdle] == 0; i++) usleep(5000);
    assert_true(causes[RtsGcIdle] > 0);
    hs_exit();
    assert_true(last.live_bytes < LIVE);
}

/* A thread that begins to wait for ever when every idle collection has been, and allocates nothing for it. */
static _Atomic bool isLate, isFound;
static HaskellObj takeIt(Stack *stack, void *mvar) { return rts_takeMVar(stack, *(HaskellObj *)mvar); }
CAPSTAN_IO(waitForEver)
{
    HaskellObj mvar = rts_mkMVar(stack->cap), exception = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, mvar, exception);
    while (!isLate) rts_threadDelay(stack, 20000);
    rts_try(stack, takeIt, &mvar, &exception);
    CAPSTAN_UNROOT(stack);
    isFound = exception == (HaskellObj)&capstan_BlockedIndefinitelyOnMVar_closure;
    return CAPSTAN_UNIT;
}
static void testIdleDeadlock(void **state)
{
    isLate = isFound = false;
    startIdling(100000);
    startTicking(20000);
    Capability *cap = rts_lock();
    scheduleThread(cap, createIOThread(cap, 0, (HaskellObj)&waitForEver_closure));
    rts_unlock(cap);
    assert_true(comesToRest(50));
    isLate = true;
    for (int i = 0; i < 12000 && !isFound; i++) usleep(5000);
    assert_true(isFound);
    hs_exit();
}

/* The share of each collecting thread lies between all the same and one alone. */
static void testBalance(void **state)
{
    start(NULL);
    run(&churn_closure, 200000);
    hs_perform_gc();
    assert_int_equal(last.collectors, 1);
    assert_int_equal(last.max_copied_bytes, last.copied_bytes);
    assert_int_equal(last.balanced_copied_bytes, 0);
    assert_true(last.cpu_ns > 0);
    hs_exit();
}

/* ---- What hs_exit writes ---- */

static char *contents(void)
{
    static char text[8192];
    FILE *f = fopen(file, "r");
    assert_non_null(f);
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = 0;
    return text;
}

static char *written(const char *option)
{
    char options[300];
    snprintf(options, sizeof options, "%s%s", option, file);
    start(options);
    run(&churn_closure, 100000);
    hs_exit();
    return contents();
}

static void testText(void **state)
{
    const char *text = written("-s");
    static const char *const lines[] = { "allocated ", "copied by collections", "most live", "collections ", "pauses ", "start ", "program ", "total " };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) assert_non_null(strstr(text, lines[i]));
    long long bytes = 0;
    assert_int_equal(sscanf(text, "allocated %lld bytes", &bytes), 1);
    assert_true(bytes >= 2400000);
}

static long long numberIn(const char *json, const char *key)
{
    char quoted[80];
    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    const char *at = strstr(json, quoted);
    if (at == NULL) fail_msg("no %s in %s", key, json);
    return atoll(at + strlen(quoted));
}

static void testJson(void **state)
{
    const char *json = written("--stats-json=");
    assert_int_equal(json[0], '{');
    assert_string_equal(json + strlen(json) - 3, "}}\n");
    assert_true(numberIn(json, "gcs") >= 2);
    assert_true(numberIn(json, "allocated_bytes") >= 2400000);
    assert_int_equal(numberIn(json, "gc_elapsed_ns") + numberIn(json, "init_elapsed_ns") + numberIn(json, "mutator_elapsed_ns"), numberIn(json, "elapsed_ns"));
    assert_true(numberIn(json, "allocation") >= 2);
    char own[16];
    assert_int_equal(rts_formatStats(RtsStatsNone, own, sizeof own), 0);
    assert_true(rts_formatStats(RtsStatsJson, own, sizeof own) > 100); /* more than there is room for */
    assert_int_equal(own[0], '{');
    assert_int_equal(strlen(own), sizeof own - 1);
    assert_true(rts_formatStats(RtsStatsText, NULL, 0) > 100);
}

static _Atomic unsigned warnings;
static void noteLine(void *ctx, RtsLogLevel level, const char *text)
{
    if (level == RTS_LOG_WARNING && strstr(text, "/no/such/folder/x") != NULL) warnings++;
}

static void testUnwritable(void **state)
{
    RtsConfig config = configure("-s/no/such/folder/x");
    config.logHook = noteLine;
    assert_int_equal(rts_start(&config, NULL, 0), RTS_OK);
    hs_exit();
    assert_int_equal(warnings, 1);
}

/* ---- Nobody reads ---- */

static bool isPipeSignal(const sigset_t *set) { return sigismember(set, SIGPIPE) == 1; }

/* Standard error is a pipe whose reader has gone; the signal is as a program has it that never thought of it. */
static bool loseReader(void)
{
    int ends[2];
    signal(SIGPIPE, SIG_DFL);
    return pipe(ends) == 0 && dup2(ends[1], STDERR_FILENO) >= 0 && close(ends[0]) == 0;
}

enum { AS_IT_IS, BLOCKED, PENDING, SIGNALS };

/* What is written there is lost, and that is all: no signal is left behind, none that was waiting is taken, and none is blocked that was not. */
static int leaveWithoutReader(size_t how)
{
    bool blocked = how != AS_IT_IS, pending = how == PENDING;
    sigset_t set, after;
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    pthread_sigmask(blocked ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
    if (!loseReader()) return 2;
    if (pending) pthread_kill(pthread_self(), SIGPIPE);
    RtsConfig config = configure("-s");
    if (rts_start(&config, NULL, 0) != RTS_OK) return 3;
    hs_exit();
    hs_exit(); /* one too many, which is said there as well */
    pthread_sigmask(SIG_BLOCK, NULL, &after);
    if (isPipeSignal(&after) != blocked) return 4;
    sigpending(&after);
    return isPipeSignal(&after) == pending ? 0 : 5;
}

/* And this is the last thing that the program does. */
static int failWithoutReader(size_t unused)
{
    if (!loseReader()) return 2;
    RtsConfig config = configure(NULL);
    if (rts_start(&config, NULL, 0) != RTS_OK) return 3;
    Capability *cap = rts_lock();
    rts_evalIO(&cap, CAPSTAN_POISON, NULL);
    rts_checkSchedStatus("a broken pipe", cap);
    return 4;
}

/* Context: no thread but this one yet. */
static void testNobodyReads(void **state)
{
    for (size_t how = 0; how < SIGNALS; how++) assert_int_equal(statusOfChild(leaveWithoutReader, how), 0);
    assert_int_equal(statusOfChild(failWithoutReader, 0), EXIT_FAILURE);
}

static void testBadOptions(void **state)
{
    char message[256], longOne[400];
    memset(longOne, 'x', sizeof longOne);
    memcpy(longOne, "-s", 2);
    longOne[280] = 0;
    const char *const bad[] = { "--stats-json=", "--stats-jsonx", longOne };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        RtsConfig config = configure(bad[i]);
        assert_int_equal(rts_start(&config, message, sizeof message), RTS_BAD_OPTION);
        assert_non_null(strstr(message, "expected"));
    }
    RtsConfig config = configure(NULL);
    config.stats = (RtsStatsFormat)7;
    assert_int_equal(rts_start(&config, message, sizeof message), RTS_BAD_OPTION);
    config = configure(NULL);
    memset(config.stats_file, 'x', sizeof config.stats_file);
    assert_int_equal(rts_start(&config, message, sizeof message), RTS_BAD_OPTION);
}

/* ---- Clearing ---- */

#define SECRET "a secret that nobody is to find "

#define SECRETS 100000

static uintptr_t secretAt[SECRETS];

static int scratch; /* a file in memory */

/* Copies so much of memory that may not be mapped any more: by way of the system, which does not mind.  Returns how much that was.  (Emulators have no
 * /proc/self/mem of the emulated program.) */
static size_t copyMemory(char *to, uintptr_t from, size_t n)
{
    long got = syscall(SYS_pwrite64, scratch, from, n, (off_t)0);
    return got > 0 && pread(scratch, to, (size_t)got, 0) == got ? (size_t)got : 0;
}

/* How many still lie where they were made. */
static int findSecrets(void)
{
    int found = 0;
    for (int i = 0; i < SECRETS; i++) {
        char bytes[sizeof SECRET - 1];
        if (copyMemory(bytes, secretAt[i], sizeof bytes) == sizeof bytes && memcmp(bytes, SECRET, sizeof bytes) == 0) found++;
    }
    return found;
}

/* between: collections may come between them: then they lie in few blocks. */
CAPSTAN_IO(makeSecrets, between)
{
    bool polls = rts_intValue(rts_force(stack, between)) != 0;
    for (int i = 0; i < SECRETS; i++) {
        HaskellObj secret = i % 100 == 0 ? rts_mkBytesPinned(stack->cap, SECRET, sizeof SECRET - 1) : rts_mkBytes(stack->cap, SECRET, sizeof SECRET - 1);
        secretAt[i] = (uintptr_t)rts_bytes(secret, NULL);
        if (polls) rts_poll(stack);
    }
    return CAPSTAN_UNIT;
}

#define NEIGHBOURS 1500

static uintptr_t neighbourAt[NEIGHBOURS];
static size_t neighbourBytes(int i) { return i == 0 ? 2200000 : i % 2 == 1 ? 4200 + (size_t)i * 4 : 64; }

/* Large and pinned byte arrays that live, in memory that held secrets. */
CAPSTAN_IO(makeNeighbours)
{
    HaskellObj all = rts_mkArray(stack->cap, NEIGHBOURS, CAPSTAN_UNIT);
    CAPSTAN_ROOTS(stack, all);
    for (int i = 0; i < NEIGHBOURS; i++) {
        HaskellObj bytes = i % 2 == 1 ? rts_mkBytes(stack->cap, NULL, neighbourBytes(i)) : rts_mkBytesPinned(stack->cap, NULL, neighbourBytes(i));
        char *p = rts_bytes(bytes, NULL);
        memset(p, 'n', neighbourBytes(i));
        neighbourAt[i] = (uintptr_t)p;
        rts_setElem(stack->cap, all, (size_t)i, bytes);
    }
    CAPSTAN_UNROOT(stack);
    return all;
}

/* Secrets that lie behind one of the neighbours, in its last block; or, behind the first, in its last megablock. */
static int findBeside(void)
{
    uintptr_t megablock = (uintptr_t)1 << 20, block = (uintptr_t)1 << 14;
    int beside = 0;
    for (int i = 0; i < NEIGHBOURS; i++) {
        char bytes[1 << 20];
        uintptr_t unit = i == 0 ? megablock : block, from = neighbourAt[i] + neighbourBytes(i), end = (from + unit - 1) & ~(unit - 1);
        size_t n = copyMemory(bytes, from, end - from);
        for (char *p = bytes; n > 0 && (p = memmem(p, (size_t)(bytes + n - p), SECRET, sizeof SECRET - 1)) != NULL; p++) beside++;
    }
    return beside;
}

static bool areNeighboursWhole(void)
{
    for (int i = 0; i < NEIGHBOURS; i++)
        for (size_t k = 0; k < neighbourBytes(i); k++)
            if (((const char *)neighbourAt[i])[k] != 'n') return false;
    return true;
}

/* old: the neighbours have survived a collection. */
static void clearBesideOthers(bool old)
{
    HaskellObj all;
    Capability *cap = rts_lock();
    rts_evalIO(&cap, &makeNeighbours_closure, &all);
    assert_int_equal(rts_getSchedStatus(cap), Success);
    HsStablePtr keeper = getStablePtr((StgPtr)all);
    rts_unlock(cap);
    if (old) hs_perform_gc();
#if !defined(CAPSTAN_TORTURE)
    assert_true(findBeside() > 0); /* otherwise there is nothing to show */
#endif
    rts_clearMemory();
    assert_int_equal(findBeside(), 0);
    assert_int_equal(findSecrets(), 0);
    assert_true(areNeighboursWhole());
    hs_free_stable_ptr(keeper);
}

#define LODGERS 400

static uintptr_t lodgerAt[LODGERS];

/* Pinned arrays that live among secrets: in each block lie some of both. */
CAPSTAN_IO(lodgeSecrets)
{
    HaskellObj all = rts_mkArray(stack->cap, LODGERS, CAPSTAN_UNIT);
    CAPSTAN_ROOTS(stack, all);
    for (int i = 0; i < SECRETS; i++) {
        bool lives = i % (SECRETS / LODGERS) == 0;
        HaskellObj bytes = rts_mkBytesPinned(stack->cap, lives ? "a pinned byte array that lives on" : SECRET, sizeof SECRET - !lives);
        secretAt[i] = (uintptr_t)rts_bytes(bytes, NULL);
        if (!lives) continue;
        lodgerAt[i / (SECRETS / LODGERS)] = secretAt[i];
        rts_setElem(stack->cap, all, (size_t)(i / (SECRETS / LODGERS)), bytes);
    }
    CAPSTAN_UNROOT(stack);
    return all;
}

static void checkLodgers(void)
{
    for (int i = 0; i < LODGERS; i++) assert_memory_equal((const char *)lodgerAt[i], "a pinned byte array that lives on", sizeof SECRET);
}

CAPSTAN_IO(makePinned, count)
{
    for (HsInt n = rts_intValue(rts_force(stack, count)); n > 0; n--) rts_mkBytesPinned(stack->cap, NULL, 33);
    return CAPSTAN_UNIT;
}

/* Dead pinned arrays beside live ones; the live ones, and what was made since, stay as they are. */
static void testClearPinned(void **state)
{
    HaskellObj all, fresh;
    start(NULL);
    Capability *cap = rts_lock();
    rts_evalIO(&cap, &lodgeSecrets_closure, &all);
    assert_int_equal(rts_getSchedStatus(cap), Success);
    HsStablePtr keeper = getStablePtr((StgPtr)all);
    rts_unlock(cap);
    rts_clearMemory(); /* nobody knows yet what is dead */
    checkLodgers();
    hs_perform_gc();
#if !defined(CAPSTAN_TORTURE)
    assert_true(findSecrets() > SECRETS / 2); /* otherwise there is nothing to show */
#endif
    cap = rts_lock();
    fresh = rts_mkBytesPinned(cap, "made since", 11);
    const char *bytes = rts_bytes(fresh, NULL);
    HsStablePtr other = getStablePtr((StgPtr)fresh);
    rts_unlock(cap);
    for (int i = 0; i < 3; i++) {
        rts_clearMemory();
        assert_int_equal(findSecrets(), 0);
        checkLodgers();
        assert_memory_equal(bytes, "made since", 11);
        if (i == 0) rts_performMinorGC();
        else run(&makePinned_closure, 1000);
    }
    hs_free_stable_ptr(keeper);
    hs_perform_gc();
    assert_memory_equal(bytes, "made since", 11);
    hs_free_stable_ptr(other);
    hs_exit();
}

static void testClearMemory(void **state)
{
    for (int old = 0; old < 2; old++) {
        start("-A64k"); /* nurseries keep few of the blocks that become free */
        run(&makeSecrets_closure, 0);
        hs_perform_gc();
        assert_true(findSecrets() > 0); /* otherwise there is nothing to show */
        clearBesideOthers(old);
        hs_exit();
    }
    start(NULL);
    run(&makeSecrets_closure, 1);
    hs_perform_gc();
    rts_clearMemory();
    assert_int_equal(findSecrets(), 0);
    run(&churn_closure, 100000);
    hs_perform_gc();
    assert_int_equal(errors, 0);
    Capability *cap = rts_lock();
    rts_clearMemory();
    assert_int_equal(errors, 1);
    rts_unlock(cap);
    hs_exit();
    rts_clearMemory();
    assert_int_equal(errors, 2);
}

/* What a failed test left running. */
static int stop(void **state)
{
    while (getRTSStatsEnabled()) hs_exit();
    return 0;
}

#define test(name) cmocka_unit_test_teardown(name, stop)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        test(testNobodyReads),   test(testNothingBefore), test(testCounts), test(testCauses),     test(testTwoInOne),   test(testIdle),       test(testBalance),
        test(testText),          test(testJson),   test(testUnwritable), test(testBadOptions), test(testClearMemory),
        test(testClearPinned),         test(testIdleTicking),   test(testIdleBeside), test(testIdleDeadlock),
    };
    const char *folder = getenv("TMPDIR");
    if (chdir(folder != NULL ? folder : "/tmp") != 0) return 99;
    close(mkstemp(file));
    scratch = memfd_create("scratch", MFD_CLOEXEC);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(file);
    return failed;
}

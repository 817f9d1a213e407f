/*
 * For tests of wrong use and of ends: hooks that note what they hear, an alarm for each test, threads.
 * Included by one file of a program, before cmocka.h.
 */
#ifndef CAPSTAN_TESTS_MISUSE_H
#define CAPSTAN_TESTS_MISUSE_H

#include "emulated.h"

#include <Rts.h>
#include <rts/Managed.h>

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
#include <time.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define MISUSE_ASAN 1
#elif defined(__SANITIZE_THREAD__)
#define MISUSE_TSAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MISUSE_ASAN 1
#elif __has_feature(thread_sanitizer)
#define MISUSE_TSAN 1
#endif
#endif
#if defined(MISUSE_ASAN) || defined(MISUSE_TSAN) || defined(CAPSTAN_TORTURE)
#define SLOW_BUILD 1
#else
#define SLOW_BUILD 0
#endif

/* A cancellation point at which the thread may leave.  Frames that are unwound leave marks in ASan's shadow that the next ones on
 * that memory stumble over, unless it is told before (it knows of pthread_exit by itself).  TSan must not be left from
 * inside the functions that it replaces: it would take the rest of the thread for one of them. */
#ifdef MISUSE_ASAN
#include <sanitizer/asan_interface.h>
#define BEFORE_CANCELLATION() __asan_handle_no_return()
#else
#define BEFORE_CANCELLATION() ((void)0)
#endif

static inline void pauseCancellably(void)
{
    struct timespec moment = { 0, 200000 };
    BEFORE_CANCELLATION();
    pthread_testcancel();
#ifdef MISUSE_TSAN
    int before; /* disabled, where the runtime allows none */
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    nanosleep(&moment, NULL);
    pthread_setcancelstate(before, NULL);
#else
    nanosleep(&moment, NULL);
#endif
}

/* ---- What the hooks heard ---- */

#define STATUSES 32

static struct {
    pthread_mutex_t lock;
    unsigned errors[STATUSES]; /* by -RtsStatus */
    unsigned closed[STATUSES];
    unsigned statuses[8];      /* by SchedulerStatus */
    unsigned exits, outOfHeap, stackOverflows, longStops, collections;
    char error[300], site[64], text[300];
} heard = { .lock = PTHREAD_MUTEX_INITIALIZER };

static inline void noteError(void *ctx, RtsStatus status, const char *message)
{
    pthread_mutex_lock(&heard.lock);
    heard.errors[-status % STATUSES]++;
    snprintf(heard.error, sizeof heard.error, "%s", message);
    pthread_mutex_unlock(&heard.lock);
}

static inline void noteClosed(void *ctx, RtsStatus why)
{
    pthread_mutex_lock(&heard.lock);
    heard.closed[-why % STATUSES]++;
    pthread_mutex_unlock(&heard.lock);
}

static inline void noteStatus(void *ctx, const char *site, Capability *cap, SchedulerStatus status, const char *text)
{
    pthread_mutex_lock(&heard.lock);
    heard.statuses[status % 8]++;
    snprintf(heard.site, sizeof heard.site, "%s", site);
    snprintf(heard.text, sizeof heard.text, "%s", text);
    pthread_mutex_unlock(&heard.lock);
}

static inline void countUp(unsigned *count)
{
    pthread_mutex_lock(&heard.lock);
    (*count)++;
    pthread_mutex_unlock(&heard.lock);
}

static inline void noteExit(void *ctx) { countUp(&heard.exits); }
static inline void noteOutOfHeap(void *ctx, size_t wanted, size_t limit) { countUp(&heard.outOfHeap); }
static inline void noteStackOverflow(void *ctx, size_t bytes) { countUp(&heard.stackOverflows); }
static inline void noteLongStop(void *ctx, const char *text) { countUp(&heard.longStops); }
static inline void noteCollection(void *ctx, const RtsCollection *c) { countUp(&heard.collections); }

/* How often since the last question. */
static inline unsigned tookUp(unsigned *count)
{
    pthread_mutex_lock(&heard.lock);
    unsigned n = *count;
    *count = 0;
    pthread_mutex_unlock(&heard.lock);
    return n;
}
static inline unsigned heardError(RtsStatus status) { return tookUp(&heard.errors[-status % STATUSES]); }
static inline unsigned heardClosed(RtsStatus why) { return tookUp(&heard.closed[-why % STATUSES]); }
static inline unsigned heardStatus(SchedulerStatus status) { return tookUp(&heard.statuses[status % 8]); }
/* Of any kind, and not asked for by name. */
static inline unsigned heardOtherErrors(void)
{
    unsigned n = 0;
    for (int i = 0; i < STATUSES; i++) n += tookUp(&heard.errors[i]) + tookUp(&heard.closed[i]);
    return n;
}

static inline void setHooks(RtsConfig *config)
{
    config->errorHook = noteError;
    config->closedHook = noteClosed;
    config->statusHook = noteStatus;
    config->onExitHook = noteExit;
    config->outOfHeapHook = noteOutOfHeap;
    config->stackOverflowHook = noteStackOverflow;
    config->longStopHook = noteLongStop;
    config->gcDoneHook = noteCollection;
}

static inline RtsConfig hookedConfig(unsigned capabilities)
{
    RtsConfig config = RTS_CONFIG_INIT;
    config.capabilities = capabilities;
    setHooks(&config);
    return config;
}

/* ---- One test ---- */

/* What a test takes at most, in seconds; then the runtime's own account is printed. */
#define TEST_SECONDS (SLOW_BUILD || isEmulated() ? 200 : 100)

static inline void putDumpLine(void *ctx, const char *line)
{
    fprintf(stderr, "  %s\n", line);
}

static inline void giveUp(int signal)
{
    fprintf(stderr, "*** the test hangs\n");
    rts_dump(putDumpLine, NULL);
    fflush(NULL);
    _exit(3);
}

static inline int armTest(void **state)
{
    pthread_mutex_lock(&heard.lock);
    size_t start = offsetof(__typeof__(heard), errors);
    memset((char *)&heard + start, 0, sizeof heard - start);
    pthread_mutex_unlock(&heard.lock);
    signal(SIGALRM, giveUp);
    alarm(TEST_SECONDS);
    return 0;
}

static inline bool isRunning(void)
{
    Capability *cap;
    RtsStatus status = rts_tryLock(&cap);
    if (status == RTS_OK) rts_unlock(cap);
    return status == RTS_OK || status == RTS_BUSY;
}

/* Ends what a failed test has left, so that the next one starts anew. */
static inline int disarmTest(void **state)
{
    for (int i = 0; i < 10 && isRunning(); i++) hs_exit();
    alarm(0);
    return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, armTest, disarmTest)

static inline bool shortLoad(void)
{
    const char *scale = getenv("CAPSTAN_TEST_SCALE");
    return SLOW_BUILD || (scale != NULL && strcmp(scale, "short") == 0);
}

static inline RtsStatus startHooked(unsigned capabilities)
{
    RtsConfig config = hookedConfig(capabilities);
    return rts_start(&config, NULL, 0);
}

static inline void sleepMs(int ms)
{
    struct timespec time = { ms / 1000, ms % 1000 * 1000000L };
    while (nanosleep(&time, &time) != 0) {
    }
}

static inline uint64_t nowMs(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static inline pthread_t spawn(void *(*fn)(void *), void *arg)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, fn, arg) != 0) abort();
    return thread;
}

static inline void *joinThread(pthread_t thread)
{
    void *result = NULL;
    pthread_join(thread, &result);
    return result;
}

static inline void *onThread(void *(*fn)(void *), void *arg)
{
    return joinThread(spawn(fn, arg));
}

static inline void waitFor(_Atomic int *flag)
{
    while (!atomic_load(flag)) sleepMs(1);
}

static inline unsigned tasksNow(void)
{
    RtsCounts counts;
    rts_getCounts(&counts);
    return (unsigned)counts.tasks;
}

/* ---- One call ---- */

CAPSTAN_FUN(misuseTwice, x)
{
    return rts_int(stack, 2 * rts_intValue(rts_force(stack, x)));
}

/* 42, by an in-call in which everything must go well; otherwise what went wrong, as a negative number. */
static inline HsInt callWell(void)
{
    HaskellObj ret;
    Capability *cap = rts_lock();
    if (rts_isDead(cap)) return -100 + rts_getRefusal(cap);
    rts_evalIO(&cap, rts_apply(cap, (HaskellObj)runNonIO_closure, rts_apply(cap, &misuseTwice_closure, rts_mkInt(cap, 21))),
               &ret);
    HsInt n = rts_getSchedStatus(cap) == Success ? rts_getInt(ret) : -(HsInt)rts_getSchedStatus(cap);
    rts_unlock(cap);
    return n;
}

static inline void *callWellOnThread(void *arg)
{
    return (void *)callWell();
}

/* An in-call into an IO action; *ret (if not NULL) gets the integer, poison as zero. */
static inline SchedulerStatus callAction(HaskellObj closure, void *ptr, HsInt *value)
{
    HaskellObj ret = CAPSTAN_UNIT;
    Capability *cap = rts_lock();
    HaskellObj action = ptr == NULL ? closure : rts_apply(cap, closure, rts_mkPtr(cap, ptr));
    rts_evalIO(&cap, rts_apply(cap, (HaskellObj)runIO_closure, action), &ret);
    SchedulerStatus status = rts_getSchedStatus(cap);
    if (value != NULL) *value = status == Success ? rts_getInt(ret) : ret == CAPSTAN_POISON ? 0 : -1;
    rts_unlock(cap);
    return status;
}

/* ---- Ways out of managed code ---- */

typedef struct {
    void *(*fn)(void *arg);
    void *arg;
} CallOut;

/* ptr -> IO, what fn returned; the first gives the capability up. */
CAPSTAN_IO(misuseSafely, ptr)
{
    CallOut *out = rts_getPtr(ptr);
    return rts_int(stack, (HsInt)rts_safeCall(stack, out->fn, out->arg));
}

CAPSTAN_IO(misuseUnsafely, ptr)
{
    CallOut *out = rts_getPtr(ptr);
    return rts_int(stack, (HsInt)out->fn(out->arg));
}

static inline SchedulerStatus callSafely(void *(*fn)(void *), void *arg, HsInt *value)
{
    CallOut out = { fn, arg };
    return callAction(&misuseSafely_closure, &out, value);
}

static inline SchedulerStatus callUnsafely(void *(*fn)(void *), void *arg, HsInt *value)
{
    CallOut out = { fn, arg };
    return callAction(&misuseUnsafely_closure, &out, value);
}

/* ptr -> IO, polls until the runtime ends; sets the _Atomic int when it has begun. */
CAPSTAN_IO(misusePoll, ptr)
{
    _Atomic int *begun = rts_getPtr(ptr);
    for (;;) {
        atomic_store(begun, 1);
        rts_poll(stack);
    }
    return CAPSTAN_UNIT;
}

#endif

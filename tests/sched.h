/*
 * For tests of the scheduler: a runtime for each case, checks inside managed code, threads that tell how they ended.
 * Included by one file of a program; brings cmocka.h along.
 */
#ifndef CAPSTAN_TESTS_SCHED_H
#define CAPSTAN_TESTS_SCHED_H

#include "misuse.h"

#include <rts/Threads.h>

#include <cmocka.h>

/* ---- A runtime for each case ---- */

/* Defined before by programs that tell when to collect, and count on what is not collected before. */
#ifndef IDLE_COLLECTION_US
#define IDLE_COLLECTION_US 20000
#endif

static inline RtsConfig schedConfig(unsigned capabilities)
{
    RtsConfig config = hookedConfig(capabilities);
    config.nursery_bytes = 256 * 1024;
    config.verify_heap = true;
    config.poison_from_space = true;
    config.idle_collection_us = IDLE_COLLECTION_US;
    config.slice_us = 2000;
    return config;
}

static _Atomic int failedChecks;

static inline int setUpWith(void **state, const RtsConfig *config)
{
    failedChecks = 0;
    armTest(state);
    char message[200] = "";
    RtsStatus status = rts_start(config, message, sizeof message);
    if (status != RTS_OK) fprintf(stderr, "rts_start: %s: %s\n", rts_statusName(status), message);
    return status == RTS_OK ? 0 : -1;
}
static inline int setUpOn(void **state, unsigned capabilities, bool noMembarrier)
{
    RtsConfig config = schedConfig(capabilities);
    config.no_membarrier = noMembarrier;
    return setUpWith(state, &config);
}
static inline int setUpOne(void **state) { return setUpOn(state, 1, false); }
static inline int setUpTwo(void **state) { return setUpOn(state, 2, false); }
static inline int setUpFour(void **state) { return setUpOn(state, 4, false); }
static inline int setUpBarren(void **state) { return setUpOn(state, 2, true); }

#define ONE(f) { #f, f, setUpOne, disarmTest, NULL }
#define TWO(f) { #f " on two", f, setUpTwo, disarmTest, NULL }
#define FOUR(f) { #f " on four", f, setUpFour, disarmTest, NULL }
#define BARREN(f) { #f " without membarrier", f, setUpBarren, disarmTest, NULL }
#define ALL(f) ONE(f), TWO(f), BARREN(f)

/* So many of something, fewer where each takes long. */
static inline HsInt many(HsInt n) { return SLOW_BUILD ? n / 50 + 1 : shortLoad() ? n / 10 + 1 : n; }

/* ---- Checks inside managed code, which must not be left by longjmp ---- */

static inline void check(bool holds, const char *file, int line, const char *text)
{
    if (holds) return;
    if (failedChecks++ < 20) fprintf(stderr, "%s:%d: not so: %s\n", file, line, text);
}
#define CHECK(x) check((x), __FILE__, __LINE__, #x)

/* ---- Building actions ---- */

static inline HaskellObj applyTo(Capability *cap, HaskellObj f, size_t n, const HaskellObj *args)
{
    for (size_t i = 0; i < n; i++) f = rts_apply(cap, f, args[i]);
    return f;
}
#define APPLY(cap, f, ...) applyTo((cap), &f##_closure, CAPSTAN_NARGS(__VA_ARGS__), (HaskellObj[]){ __VA_ARGS__ })
#define FORK(stack, f, ...) rts_fork((stack), APPLY((stack)->cap, f, __VA_ARGS__))

/* ---- In-calls ---- */

/* Runs an action with at most one argument (NULL: none) in an in-call. */
static inline SchedulerStatus runStatus(HaskellObj io, HaskellObj arg, HsInt *result, char *text, size_t size)
{
    HaskellObj value = CAPSTAN_POISON;
    Capability *cap = rts_lock();
    rts_evalIO(&cap, arg == NULL ? io : rts_apply(cap, io, arg), &value);
    SchedulerStatus status = rts_getSchedStatus(cap);
    if (result != NULL) *result = status == Success && (rts_isSmallInt(value)) ? rts_smallIntValue(value) : 0;
    if (text != NULL) rts_showException(cap, rts_getException(cap), text, size);
    rts_unlock(cap);
    return status;
}

/* The same, for what must go well.  arg: an immediate, a static closure or NULL. */
static inline HsInt runWith(HaskellObj io, HaskellObj arg)
{
    HsInt result = -1;
    char text[200] = "";
    SchedulerStatus status = runStatus(io, arg, &result, text, sizeof text);
    if (status != Success) fprintf(stderr, "status %d: %s\n", (int)status, text);
    assert_int_equal(status, Success);
    assert_int_equal(failedChecks, 0);
    return result;
}
static inline HsInt run(HaskellObj io) { return runWith(io, NULL); }

/* ---- Threads that report ---- */

static HaskellObj schedRunBody(Stack *stack, void *io) { return rts_runIO(stack, *(HaskellObj *)io); }

/* Runs io; puts its result, or the exception, into done. */
CAPSTAN_IO(schedReport, io, done)
{
    HaskellObj result = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, io, done);
    rts_try(stack, schedRunBody, &io, &result);
    rts_putMVar(stack, done, result);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* Runs io in an unbound thread; its result. */
CAPSTAN_IO(schedInThread, io)
{
    HaskellObj done = rts_mkMVar(stack->cap);
    CAPSTAN_ROOTS(stack, done);
    FORK(stack, schedReport, io, done);
    HaskellObj result = rts_takeMVar(stack, done);
    CAPSTAN_UNROOT(stack);
    return result;
}

/* Both ways: in the in-call's own thread, and in an unbound one for which it hosts. */
static inline HsInt runInThread(HaskellObj io, HaskellObj arg)
{
    HaskellObj value = CAPSTAN_POISON;
    Capability *cap = rts_lock();
    rts_evalIO(&cap, APPLY(cap, schedInThread, arg == NULL ? io : rts_apply(cap, io, arg)), &value);
    SchedulerStatus status = rts_getSchedStatus(cap);
    HsInt result = status == Success && rts_isSmallInt(value) ? rts_smallIntValue(value) : -1;
    rts_unlock(cap);
    assert_int_equal(status, Success);
    assert_int_equal(failedChecks, 0);
    return result;
}

/* id: a rooted variable.  false: that did not come about. */
static inline bool awaitStatus(Stack *stack, HaskellObj *id, RtsThreadStatus status)
{
    for (int i = 0; i < 50000; i++) {
        if (rts_threadStatus(*id) == status) return true;
        rts_threadDelay(stack, 200);
    }
    return false;
}
static inline bool hasEnded(HaskellObj id)
{
    RtsThreadStatus status = rts_threadStatus(id);
    return status == ThreadFinished || status == ThreadDied;
}
static inline void awaitEnd(Stack *stack, HaskellObj *id)
{
    while (!hasEnded(*id)) rts_threadDelay(stack, 200);
}

/* The text of an ErrorCall, or of any exception. */
static inline const char *textOf(Capability *cap, HaskellObj exception)
{
    static _Thread_local char text[300];
    rts_showException(cap, exception, text, sizeof text);
    return text;
}

/* Steps of a linear congruential generator, so that a run can be had again. */
static inline uint32_t nextRandom(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33);
}

static inline void *schedJoin(void *thread)
{
    pthread_join(*(pthread_t *)thread, NULL);
    return NULL;
}

#endif

/* stress/incall: actions on what outlives a call. */
#include "incall.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static HaskellObj derefKept(StgStablePtr ptr)
{
    return (HaskellObj)(void *)deRefStablePtr(ptr);
}

static StgStablePtr keepValue(HaskellObj value)
{
    return getStablePtr((StgPtr)(void *)value);
}

/* ---- Stable pointers ----------------------------------------------------------------------------------------------- */

/* The pointers of an epoch that has ended went with it.  Called with a capability held: the epoch cannot change then. */
static void forgetOldKept(Worker *worker)
{
    uint64_t epoch = atomic_load(&game.phase) / 2;
    if (atomic_load(&game.phase) % 2 == 0 && worker->keptEpoch != epoch) {
        memset(worker->kept, 0, sizeof worker->kept);
        worker->keptEpoch = epoch;
    }
}

void dropKept(Worker *worker)
{
    bool current = worker->keptEpoch == atomic_load(&game.phase) / 2;
    for (int i = 0; current && i < KEPT; i++) {
        if (worker->kept[i].ptr == NULL) continue;
        hs_free_stable_ptr(worker->kept[i].ptr);
        worker->kept[i].ptr = NULL;
    }
}

/* An array of two numbers that belong together, so that a pointer to a wrong object is seen. */
static void keepPair(Worker *worker, Call *call, int i)
{
    int64_t value = (int64_t)(nextRandom(worker) >> 8);
    HaskellObj pair = rts_mkArray(call->cap, 2, rts_mkInt(call->cap, value));
    if (pair != CAPSTAN_POISON) {
        rts_setElem(call->cap, pair, 1, rts_mkInt(call->cap, ~value));
        worker->kept[i].ptr = keepValue(pair);
        worker->kept[i].value = value;
    }
    EXPECT(worker, mayBeExhausted() || worker->kept[i].ptr != NULL, "no memory for a stable pointer");
}

static void checkPair(Worker *worker, int i)
{
    HaskellObj pair = derefKept(worker->kept[i].ptr);
    bool right = rts_arrayLength(pair) == 2 && rts_getInt(rts_getElem(pair, 0)) == worker->kept[i].value &&
                 rts_getInt(rts_getElem(pair, 1)) == ~worker->kept[i].value;
    EXPECT(worker, right, "stable pointer %p leads to another object", worker->kept[i].ptr);
    if (oneIn(worker, 2)) return;
    freeStablePtr(worker->kept[i].ptr);
    worker->kept[i].ptr = NULL;
}

/* phase is odd while main is ending the runtime: what is kept then belongs to no epoch, so nothing is. */
static bool runtimeIsStable(Call *call)
{
    uint64_t phase = atomic_load(&game.phase);
    return phase % 2 == 0 && phase == call->phase;
}

void actStable(Worker *worker)
{
    Call call;
    if (worker->host != NULL) { /* a visitor keeps nothing: it cannot give it back */
        actPlain(worker);
        return;
    }
    if (oneIn(worker, 16)) hs_perform_gc();
    if (!beginCall(worker, &call)) return;
    if (runtimeIsStable(&call)) {
        forgetOldKept(worker);
        for (int64_t n = randomBetween(worker, 1, 8); n > 0; n--) {
            int i = (int)(nextRandom(worker) % KEPT);
            if (worker->kept[i].ptr == NULL) keepPair(worker, &call, i);
            else checkPair(worker, i);
        }
    }
    endCall(&call);
}

void actCollect(Worker *worker)
{
    if (oneIn(worker, 2)) hs_perform_gc();
    else hs_perform_major_gc();
    actStable(worker);
}

/* ---- Thunks that several evaluate ---------------------------------------------------------------------------------- */

int64_t newSerial(void)
{
    if (atomic_load(&game.nextSerial) >= RECORDS) return -1;
    uint32_t serial = atomic_fetch_add(&game.nextSerial, 1);
    return serial < RECORDS ? (int64_t)serial : -1;
}

static HaskellObj newShared(Call *call)
{
    int64_t serial = newSerial();
    if (serial < 0) return CAPSTAN_POISON;
    HaskellObj number = rts_mkInt(call->cap, serial);
    return rts_mkClosure(call->cap, &stressShared_info, &number);
}

/* Whether the value is that of a thunk that was evaluated exactly once.  When an end of the runtime or a lack of memory may
 * have killed an evaluator, a thunk may have begun more than once; it never finishes twice. */
static void checkShared(Call *call)
{
    int64_t value = rts_getInt(call->result), serial = (value - sharedValue(0)) / 7;
    bool known = value == sharedValue(serial) && serial >= 0 && serial < RECORDS;
    EXPECT(call->worker, known, "a shared thunk came to %" PRId64, value);
    if (!known) return;
    unsigned starts = atomic_load(&game.records[serial].starts), finishes = atomic_load(&game.records[serial].finishes);
    bool mayRestart = mayBeExhausted() || mayBeInterrupted(call->phase);
    EXPECT(call->worker, finishes == 1 && (starts == 1 || mayRestart),
           "thunk %" PRId64 " began %u times and finished %u times", serial, starts, finishes);
}

void actShared(Worker *worker)
{
    Call call;
    if (!beginCall(worker, &call)) return;
    Shared *shared = atomic_load(&game.shared);
    if (shared != NULL) {
        HaskellObj slots = derefKept(shared->slots);
        size_t i = nextRandom(worker) % SLOTS;
        if (oneIn(worker, 3)) {
            HaskellObj fresh = newShared(&call);
            if (fresh != CAPSTAN_POISON) rts_setElem(call.cap, slots, i, fresh);
        }
        HaskellObj thunk = rts_getElem(slots, i);
        if (!rts_isSmallInt(thunk) && evalPure(&call, thunk, Success)) checkShared(&call);
    }
    endCall(&call);
}

void actCaf(Worker *worker)
{
    Call call;
    if (!beginCall(worker, &call)) return;
    if (evalPure(&call, &stressTable_closure, Success))
        EXPECT(worker, rts_getInt(call.result) == CAF_VALUE, "the constant is %" PRId64, rts_getInt(call.result));
    endCall(&call);
}

/* ---- Thunks whose evaluator is killed ------------------------------------------------------------------------------ */

/* thunk is rooted by the caller. The second evaluation must run the code again and succeed, and a third must not run it. */
static void expectRevival(Call *call, HaskellObj *thunk, int64_t serial)
{
    ThunkRecord *record = &game.records[serial];
    for (int i = 0; i < 2; i++) {
        if (!evalPure(call, *thunk, Success)) return;
        EXPECT(call->worker, rts_getInt(call->result) == sharedValue(serial), "a thunk evaluated again is %" PRId64,
               rts_getInt(call->result));
    }
    unsigned starts = atomic_load(&record->starts), finishes = atomic_load(&record->finishes);
    EXPECT(call->worker, finishes == 1 && (starts == 2 || mayBeExhausted()),
           "a thunk whose evaluator was killed began %u times and finished %u times", starts, finishes);
}

static void reviveFragile(Call *call, int64_t serial)
{
    FragileEnd end = (FragileEnd)randomBetween(call->worker, FRAGILE_STACK, FRAGILE_HEAP);
    HaskellObj free[] = { rts_mkInt(call->cap, serial), rts_mkInt(call->cap, end) };
    HaskellObj thunk = rts_mkClosure(call->cap, &stressFragile_info, free);
    if (thunk == CAPSTAN_POISON) return;
    CAPSTAN_ROOTS(call->cap, thunk);
    if (evalPure(call, thunk, end == FRAGILE_HEAP ? HeapExhausted : Killed)) expectRevival(call, &thunk, serial);
    CAPSTAN_UNROOT(call->cap);
}

/* An ordinary exception is the thunk's value from then on. */
static void repeatStuck(Call *call, int64_t serial)
{
    char text[64], expected[64];
    HaskellObj number = rts_mkInt(call->cap, serial);
    HaskellObj thunk = rts_mkClosure(call->cap, &stressStuck_info, &number);
    if (thunk == CAPSTAN_POISON) return;
    snprintf(expected, sizeof expected, "stress error %" PRId64, serial);
    CAPSTAN_ROOTS(call->cap, thunk);
    for (int i = 0; i < 3 && evalPure(call, thunk, Killed); i++) {
        rts_showException(call->cap, rts_getException(call->cap), text, sizeof text);
        EXPECT(call->worker, strstr(text, expected) != NULL, "a thunk raised \"%s\", not \"%s\"", text, expected);
    }
    CAPSTAN_UNROOT(call->cap);
    unsigned starts = atomic_load(&game.records[serial].starts);
    EXPECT(call->worker, starts == 1 || mayBeExhausted() || call->status != Killed, "a thunk that raised began %u times",
           starts);
}

void actFragile(Worker *worker)
{
    Call call;
    int64_t serial = newSerial();
    if (serial < 0 || !beginCall(worker, &call)) return;
    if (oneIn(worker, 2)) reviveFragile(&call, serial);
    else repeatStuck(&call, serial);
    endCall(&call);
}

/* ---- Byte arrays --------------------------------------------------------------------------------------------------- */

static void fillPattern(unsigned char *bytes, size_t length, unsigned seed)
{
    for (size_t i = 0; i < length; i++) bytes[i] = (unsigned char)(seed + i * 31);
}

static void releaseExternal(void *ctx, void *bytes)
{
    _Atomic uint64_t *released = ctx;
    atomic_fetch_add(released, 1);
    free(bytes);
}

/* Memory that is released twice is a double free, and one that is never released is missing in the sums of the round. */
static HaskellObj makeExternal(Call *call, const void *pattern, size_t length)
{
    void *bytes = malloc(length);
    memcpy(bytes, pattern, length);
    atomic_fetch_add(&game.externalsMade, 1);
    return rts_mkBytesExternal(call->cap, bytes, length, releaseExternal, &game.externalsReleased);
}

static void checkBytes(Worker *worker, HaskellObj bytes, const unsigned char *pattern, size_t length)
{
    unsigned char copy[600];
    size_t seen = 0;
    const void *at = rts_bytes(bytes, &seen);
    EXPECT(worker, at != NULL && seen == length && memcmp(at, pattern, length) == 0, "a byte array of %zu changed", length);
    EXPECT(worker, rts_copyBytes(bytes, 1, copy, sizeof copy) == length - 1 && memcmp(copy, pattern + 1, length - 1) == 0,
           "a copy of a byte array of %zu is wrong", length);
}

/* The array must outlive a collection between two in-calls; where it lies may change only if it is movable. */
static void keepBytes(Worker *worker, StgStablePtr ptr, void *address, const unsigned char *pattern, size_t length,
                      uint64_t phase)
{
    Call call;
    hs_perform_gc();
    if (!beginCall(worker, &call)) return;
    if (call.phase == phase && runtimeIsStable(&call)) {
        HaskellObj bytes = derefKept(ptr);
        checkBytes(worker, bytes, pattern, length);
        EXPECT(worker, address == NULL || rts_bytes(bytes, NULL) == address, "pinned bytes have moved");
        freeStablePtr(ptr);
    }
    endCall(&call);
}

void actBytes(Worker *worker)
{
    Call call;
    unsigned char pattern[600];
    size_t length = (size_t)randomBetween(worker, 1, sizeof pattern);
    int kind = (int)randomBetween(worker, 0, 2);
    StgStablePtr ptr = NULL;
    void *address = NULL;
    fillPattern(pattern, length, (unsigned)nextRandom(worker));
    if (!beginCall(worker, &call)) return;
    HaskellObj bytes = kind == 0   ? rts_mkBytes(call.cap, pattern, length)
                       : kind == 1 ? rts_mkBytesPinned(call.cap, pattern, length)
                                   : makeExternal(&call, pattern, length);
    EXPECT(worker, bytes != CAPSTAN_POISON || mayBeExhausted(), "no memory for %zu bytes", length);
    if (bytes != CAPSTAN_POISON && evalPure(&call, bytes, Success)) {
        checkBytes(worker, call.result, pattern, length);
        if (kind != 0) address = rts_bytes(call.result, NULL);
        if (oneIn(worker, 4) && runtimeIsStable(&call)) ptr = keepValue(call.result);
    }
    endCall(&call);
    /* rootcheck: address is that of pinned or external bytes, which ptr keeps */
    if (ptr != NULL) keepBytes(worker, ptr, address, pattern, length, call.phase);
}

/* ---- Counters ------------------------------------------------------------------------------------------------------ */

void actCounter(Worker *worker)
{
    Call call;
    int64_t n = randomBetween(worker, 1, 1000);
    int i = (int)(nextRandom(worker) % COUNTERS);
    if (!beginCall(worker, &call)) return;
    Shared *shared = atomic_load(&game.shared);
    if (shared != NULL) {
        HaskellObj action = rts_apply(call.cap, &stressAddTo_closure, derefKept(shared->counters[i]));
        action = rts_apply(call.cap, rts_apply(call.cap, action, rts_mkInt(call.cap, i)), rts_mkInt(call.cap, n));
        if (evalAction(&call, action, Success)) worker->counted += n;
    }
    endCall(&call);
}

/* stress/incall: actions that are one call, or a few. */
#include "incall.h"

#include <inttypes.h>
#include <string.h>

/* ---- Values in, values out ----------------------------------------------------------------------------------------- */

void actPlain(Worker *worker)
{
    Call call;
    int64_t n = randomBetween(worker, 0, 1000000);
    if (!beginCall(worker, &call)) return;
    if (oneIn(worker, 2)) {
        if (evalPure(&call, rts_apply(call.cap, &stressDouble_closure, rts_mkInt(call.cap, n)), Success))
            EXPECT(worker, rts_getInt(call.result) == 2 * n + 1, "2 * %" PRId64 " + 1 is %" PRId64, n,
                   rts_getInt(call.result));
    } else if (evalAction(&call, rts_apply(call.cap, &stressCommit_closure, rts_mkInt(call.cap, n)), Success)) {
        worker->committed += n;
        EXPECT(worker, rts_getInt(call.result) == n, "committed %" PRId64 ", got %" PRId64, n, rts_getInt(call.result));
    }
    endCall(&call);
}

/* What does not fit a word's immediates, through an evaluation and back. */
void actValues(Worker *worker)
{
    Call call;
    uint64_t bits = nextRandom(worker) | (uint64_t)1 << 63;
    if (!beginCall(worker, &call)) return;
    int kind = (int)randomBetween(worker, 0, 4);
    HaskellObj value = kind == 0   ? rts_mkInt64(call.cap, (HsInt64)bits)
                       : kind == 1 ? rts_mkWord64(call.cap, bits)
                       : kind == 2 ? rts_mkDouble(call.cap, (double)bits)
                       : kind == 3 ? rts_mkPtr(call.cap, (HsPtr)bits)
                                   : rts_mkChar(call.cap, (HsChar)(bits & 0xffff));
    if (evalPure(&call, value, Success)) {
        HaskellObj result = call.result;
        bool same = kind == 0   ? rts_getInt64(result) == (HsInt64)bits
                    : kind == 1 ? rts_getWord64(result) == bits
                    : kind == 2 ? rts_getDouble(result) == (double)bits
                    : kind == 3 ? rts_getPtr(result) == (HsPtr)bits
                                : rts_getChar(result) == (bits & 0xffff);
        EXPECT(worker, same, "value %" PRIx64 " of kind %d came back as another", bits, kind);
    }
    endCall(&call);
}

void actTry(Worker *worker)
{
    Capability *cap = NULL;
    uint64_t phase = atomic_load(&game.phase);
    RtsStatus status = rts_tryLock(&cap);
    noteStep(worker);
    if (status == RTS_OK) {
        Call call = { .worker = worker, .cap = cap, .phase = phase };
        if (evalPure(&call, rts_apply(cap, &stressDouble_closure, rts_mkInt(cap, 20)), Success))
            EXPECT(worker, rts_getInt(call.result) == 41, "2 * 20 + 1 is %" PRId64, rts_getInt(call.result));
        endCall(&call);
    } else if (status == RTS_BUSY) {
        worker->outcomes.begun++;
        worker->outcomes.busy++;
    } else {
        worker->outcomes.begun++;
        worker->outcomes.refused++;
        EXPECT(worker, mayBeInterrupted(phase) && (status == RTS_CLOSED || status == RTS_NOT_STARTED),
               "rts_tryLock answers %s", rts_statusName(status));
    }
}

void actPrefer(Worker *worker)
{
    rts_setInCallCapability((int)randomBetween(worker, -1, options.capabilities), 0);
    actPlain(worker);
}

/* ---- Exceptions ---------------------------------------------------------------------------------------------------- */

static void expectText(Call *call, const char *expected)
{
    char text[256] = "";
    size_t length = rts_showException(call->cap, rts_getException(call->cap), text, sizeof text);
    EXPECT(call->worker, strstr(text, expected) != NULL && length == strlen(text),
           "the exception reads \"%s\" (%zu), not \"%s\"", text, length, expected);
}

/* The call after a failed one, in the same in-call, must work. */
static void expectWorking(Call *call)
{
    if (evalPure(call, rts_apply(call->cap, &stressDouble_closure, rts_mkInt(call->cap, 7)), Success))
        EXPECT(call->worker, rts_getInt(call->result) == 15, "2 * 7 + 1 is %" PRId64, rts_getInt(call->result));
}

void actRaise(Worker *worker)
{
    Call call;
    char expected[64];
    int64_t n = randomBetween(worker, 0, 1000000);
    bool error = oneIn(worker, 2);
    if (!beginCall(worker, &call)) return;
    StgClosure *raiser = error ? &stressRaise_closure : &stressRaiseValue_closure;
    if (evalPure(&call, rts_apply(call.cap, raiser, rts_mkInt(call.cap, n)), Killed)) {
        snprintf(expected, sizeof expected, "stress error %" PRId64, n);
        if (error) expectText(&call, expected);
        else EXPECT(worker, rts_getInt(rts_getException(call.cap)) == n, "raised %" PRId64 ", got another", n);
        expectWorking(&call);
    }
    endCall(&call);
}

void actCatch(Worker *worker)
{
    Call call;
    int64_t n = randomBetween(worker, 0, 1000000), expected = n;
    HaskellObj action;
    if (!beginCall(worker, &call)) return;
    if (oneIn(worker, 2)) {
        action = rts_apply(call.cap, &stressCatchTry_closure, rts_mkInt(call.cap, n));
    } else {
        HaskellObj thrower = rts_apply(call.cap, &stressThrower_closure, rts_mkInt(call.cap, n));
        action = rts_apply(call.cap, rts_apply(call.cap, &capstan_catch_closure, thrower), &stressHandler_closure);
        expected = n + 1;
    }
    if (evalAction(&call, action, Success))
        EXPECT(worker, rts_getInt(call.result) == expected, "caught %" PRId64 ", expected %" PRId64,
               rts_getInt(call.result), expected);
    endCall(&call);
}

/* ---- Running out of memory ----------------------------------------------------------------------------------------- */

/* Once no hog runs or has just run, a small call works again: garbage must not count for ever. */
static void expectRecovery(Worker *worker)
{
    for (int i = 0; i < 1000 && !atomic_load(&game.stop); i++) {
        Call call;
        uint32_t ends = atomic_load(&game.hogEnds);
        bool quiet = atomic_load(&game.hogs) == 0;
        hs_perform_gc();
        if (!beginCall(worker, &call)) return;
        bool well = evalPure(&call, rts_apply(call.cap, &stressDouble_closure, rts_mkInt(call.cap, 7)), Success);
        SchedulerStatus status = call.status;
        endCall(&call);
        if (well || status != HeapExhausted) return;
        /* Workers that keep much alive are other people's hogs, so one quiet failure is no proof yet. */
        quiet = quiet && atomic_load(&game.hogs) == 0 && atomic_load(&game.hogEnds) == ends;
        EXPECT(worker, !quiet || i < 100, "no memory after a hog was gone and %d collections", i);
    }
}

/* Takes all memory between rts_lock and rts_unlock, where nothing can be collected and nothing may unwind. */
static void hogFromC(Call *call)
{
    HaskellObj list = CAPSTAN_UNIT;
    size_t rounds = options.heapLimit / 65536 + 2, i;
    for (i = 0; i < rounds && list != CAPSTAN_POISON; i++) list = rts_mkBytes(call->cap, NULL, 65536);
    EXPECT(call->worker, list == CAPSTAN_POISON, "took %zu bytes of %zu", i * 65536, options.heapLimit);
    call->result = CAPSTAN_POISON;
    judgeStatus(call, HeapExhausted);
}

void actHog(Worker *worker)
{
    Call call;
    if (!game.limited) {
        actPlain(worker);
        return;
    }
    int64_t kind = randomBetween(worker, 0, 4);
    if (!beginCall(worker, &call)) return;
    atomic_fetch_add(&game.hogs, 1);
    if (kind == 4) hogFromC(&call);
    else evalAction(&call, rts_apply(call.cap, &stressHog_closure, rts_mkInt(call.cap, kind)), HeapExhausted);
    endCall(&call);
    atomic_fetch_add(&game.hogEnds, 1);
    atomic_fetch_sub(&game.hogs, 1);
    expectRecovery(worker);
}

void actList(Worker *worker)
{
    Call call;
    int64_t n = randomBetween(worker, 1, oneIn(worker, 20) ? 20000 : 500), every = randomBetween(worker, 16, 256);
#ifdef CAPSTAN_TORTURE
    n = n % 500 + 1;
#endif
    if (!beginCall(worker, &call)) return;
    HaskellObj list = rts_apply(call.cap, &stressList_closure, rts_mkInt(call.cap, n));
    if (evalAction(&call, rts_apply(call.cap, list, rts_mkInt(call.cap, every)), Success))
        EXPECT(worker, rts_getInt(call.result) == n * (n + 1) / 2, "the sum to %" PRId64 " is %" PRId64, n,
               rts_getInt(call.result));
    endCall(&call);
}

/* ---- Nesting ------------------------------------------------------------------------------------------------------- */

typedef struct { Worker *worker; int depth; uint64_t phase; bool broken; } Nest;

/* The in-call of depth - 1 levels below, made from inside a safe call or from outside.  Its value: the depth. */
static int64_t descend(Nest *nest)
{
    Call call;
    int64_t value = -1;
    Nest below = { nest->worker, nest->depth - 1, nest->phase, false };
    if (!beginCall(nest->worker, &call)) {
        nest->broken = true;
        return -1;
    }
    if (evalAction(&call, rts_apply(call.cap, &stressNest_closure, rts_mkPtr(call.cap, &below)), Success))
        value = rts_getInt(call.result) + 1;
    nest->broken = below.broken || call.status != Success;
    endCall(&call);
    return value;
}

/* At the bottom some random action, which may be another nest; workers of the deep ones keep it plain. */
static void actAtBottom(Worker *worker)
{
    static const ActionKind kinds[] = { ACTION_PLAIN, ACTION_RAISE, ACTION_CATCH, ACTION_STABLE, ACTION_GC,
                                        ACTION_SHARED, ACTION_COUNTER, ACTION_LIST, ACTION_TRY };
    performAction(worker, kinds[nextRandom(worker) % (sizeof kinds / sizeof *kinds)]);
}

void *nestFromC(void *arg)
{
    Nest *nest = arg;
    if (nest->depth > 0) return (void *)(intptr_t)descend(nest);
    actAtBottom(nest->worker);
    return (void *)(intptr_t)0;
}

static void nestTo(Worker *worker, int depth)
{
    Nest nest = { worker, depth, atomic_load(&game.phase), false };
    int64_t value = descend(&nest);
    EXPECT(worker, value == depth || nest.broken, "%d levels came back as %" PRId64, depth, value);
    /* A level that ended otherwise than expected was judged where it happened; those above it gave its -1 on. */
    EXPECT(worker, !nest.broken || mayBeExhausted() || mayBeInterrupted(nest.phase), "a nest broke without a reason");
}

void actNest(Worker *worker)
{
    nestTo(worker, (int)randomBetween(worker, 1, 12));
}

void actBurrow(Worker *worker)
{
    nestTo(worker, 300);
}

/* ---- Long and deep ------------------------------------------------------------------------------------------------- */

void actPoll(Worker *worker)
{
    Call call;
    int64_t n = randomBetween(worker, 1000, 2000000) / (STRESS_SANITIZED ? 20 : 1);
    if (!beginCall(worker, &call)) return;
    if (evalAction(&call, rts_apply(call.cap, &stressPoll_closure, rts_mkInt(call.cap, n)), Success))
        EXPECT(worker, rts_getInt(call.result) == n, "polled %" PRId64 " times of %" PRId64, rts_getInt(call.result), n);
    endCall(&call);
}

static void countDown(Worker *worker, Call *call)
{
    int64_t n = randomBetween(worker, 1, 10000);
    HaskellObj f = rts_apply(call->cap, &stressTail_closure, rts_mkInt(call->cap, n));
    if (evalPure(call, rts_apply(call->cap, f, rts_mkInt(call->cap, 0)), Success))
        EXPECT(worker, rts_getInt(call->result) == n, "%" PRId64 " tail calls counted %" PRId64, n,
               rts_getInt(call->result));
}

void actDeep(Worker *worker)
{
    Call call;
    if (!beginCall(worker, &call)) return;
    switch (randomBetween(worker, 0, 2)) {
    case 0: countDown(worker, &call); break;
    case 1:
        if (evalPure(&call, rts_apply(call.cap, &stressDeep_closure, rts_mkInt(call.cap, 0)), Killed)) {
            EXPECT(worker, rts_getException(call.cap) == &capstan_StackOverflow_closure, "a deep call raised another");
            expectWorking(&call);
        }
        break;
    default:
        if (evalAction(&call, &stressDeepCaught_closure, Success))
            EXPECT(worker, rts_getInt(call.result) == 1 || mayBeExhausted(), "caught something else than StackOverflow");
    }
    endCall(&call);
}

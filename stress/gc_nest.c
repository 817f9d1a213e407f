/* stress/gc: steps that call C, wait for time, or let others do something with objects. */
#include "gc.h"

#include <errno.h>
#include <time.h>

void *majorFromOutside(void *unused)
{
    hs_perform_major_gc();
    return NULL;
}

void *minorFromOutside(void *unused)
{
    rts_performMinorGC();
    return NULL;
}

void sleepMicroseconds(uint64_t us)
{
    struct timespec time = { (time_t)(us / 1000000), (long)(us % 1000000 * 1000) };
    nanosleep(&time, NULL);
}

void pollAt(At *at)
{
    if (at->stack != NULL) rts_poll(at->stack);
    else rts_pollCap(at->cap);
}

/* From C between rts_lock and rts_unlock an action does it. */
CAPSTAN_IO(gcCollect, major)
{
    rts_collect(stack, major == CAPSTAN_TRUE);
    return CAPSTAN_UNIT;
}

void collectAt(At *at, bool major)
{
    if (at->stack != NULL) {
        if (oneIn(&at->m->random, 2)) rts_collect(at->stack, major);
        else rts_safeCall(at->stack, major ? majorFromOutside : minorFromOutside, NULL);
        return;
    }
    rts_evalIO(at->cap, rts_apply(*at->cap, &gcCollect_closure, major ? CAPSTAN_TRUE : CAPSTAN_FALSE), NULL);
    DEMAND(at->m, rts_getSchedStatus(*at->cap) == Success, "a collection ended with status %d", (int)rts_getSchedStatus(*at->cap));
}

void stepYield(At *at) { rts_yield(at->stack); }
void stepDelay(At *at) { rts_threadDelay(at->stack, (HsInt64)below(&at->m->random, 400)); }

/* ---- Calls back in ------------------------------------------------------------------------------------------------- */

typedef struct { Mutator *inner; uint64_t steps; } Nested;

static void *callNested(void *arg)
{
    Nested *n = arg;
    callIn(n->inner, n->steps);
    return NULL;
}

/* C works on another graph, below this one's roots; or just stays away for a while. */
void stepNest(At *at)
{
    Mutator *m = at->m;
    Nested n = { m->inner, below(&m->random, 30) };
    if (n.inner != NULL) rts_safeCall(at->stack, callNested, &n);
    else rts_safeCall(at->stack, minorFromOutside, NULL);
}

/* ---- Other threads ------------------------------------------------------------------------------------------------- */

static Word mirrorOfPair(At *at, Word x, Word y, HaskellObj v)
{
    uint32_t node = newNode(at->m, NODE_CON, &gcPair_info, 2);
    nodeAt(at->m, node)->edges[0] = x.edge;
    nodeAt(at->m, node)->edges[1] = y.edge;
    Found f = meetWord(at, edgeToNode(node), v, "what another thread made");
    meetEdge(at, f, 0);
    meetEdge(at, f, 1);
    return wordOf(f);
}

CAPSTAN_IO(gcSwap, x, y)
{
    CAPSTAN_ROOTS(stack, x, y);
    for (int i = 0; i < 4; i++) {
        rts_mkBytes(stack->cap, NULL, 500);
        rts_yield(stack);
    }
    CAPSTAN_UNROOT(stack);
    return newPair(stack->cap, y, x);
}

void stepBound(At *at)
{
    Word x = makeValue(at, 2), y = makeValue(at, 2);
    HaskellObj action = rts_apply(capOf(at), rts_apply(capOf(at), &gcSwap_closure, x.v), y.v);
    HaskellObj v = rts_runInBoundThread(at->stack, action);
    keepWord(at, mirrorOfPair(at, y, x, v));
}

/* Behind a stable pointer, with a result behind another. */
void stepStableIO(At *at)
{
    Mutator *m = at->m;
    Word x = makeValue(at, 2), y = makeValue(at, 2);
    if (at->stack != NULL) return stepBound(at);
    HsStablePtr result = NULL, action = getStablePtr((StgPtr)rts_apply(capOf(at), rts_apply(capOf(at), &gcSwap_closure, x.v), y.v));
    rts_evalStableIO(at->cap, action, &result);
    DEMAND(m, rts_getSchedStatus(*at->cap) == Success && result != NULL, "rts_evalStableIO: status %d", (int)rts_getSchedStatus(*at->cap));
    pollAt(at);
    keepWord(at, mirrorOfPair(at, y, x, (HaskellObj)deRefStablePtr(result)));
    freeStablePtr(action);
    freeStablePtr(result);
}

/* An action that waits, with objects on its stack, for longer than it may. */
CAPSTAN_IO(gcTooLong, x)
{
    CAPSTAN_ROOTS(stack, x);
    rts_threadDelay(stack, 3600 * INT64_C(1000000));
    CAPSTAN_UNROOT(stack);
    return x;
}

void stepTimeout(At *at)
{
    Mutator *m = at->m;
    Word x = makeValue(at, 2), y = makeValue(at, 2);
    HaskellObj result = CAPSTAN_UNIT;
    if (oneIn(&m->random, 3)) {
        bool done = rts_timeout(at->stack, (HsInt64)below(&m->random, 300), rts_apply(capOf(at), &gcTooLong_closure, x.v), &result);
        DEMAND(m, !done, "an hour has passed");
        return;
    }
    HaskellObj action = rts_apply(capOf(at), rts_apply(capOf(at), &gcSwap_closure, x.v), y.v);
    DEMAND(m, rts_timeout(at->stack, INT64_C(1) << 40, action, &result), "a fortnight has passed");
    keepWord(at, mirrorOfPair(at, y, x, result));
}

/* ---- Threads for a while ------------------------------------------------------------------------------------------- */

/* Waits for its turn with one object, then works with it and young ones on its stack.  It goes by its own serial: nobody waits for it. */
CAPSTAN_IO(gcErrand, mutator, parcel, number)
{
    const Mutator *m = rts_getPtr(mutator);
    uint64_t serial = (uint64_t)rts_smallIntValue(number);
    HaskellObj mine = newParcel(stack->cap, serial);
    CAPSTAN_ROOTS(stack, parcel, mine);
    for (uint64_t n = 2 + numberOf(serial, 4) % 6; n > 0; n--) {
        rts_mkBytes(stack->cap, NULL, 800);
        if (n % 3 == 0) rts_collect(stack, false);
        else if (n % 3 == 1) rts_yield(stack);
        DEMAND(m, isRightParcel(parcel, serial) && isRightParcel(mine, serial), "a thread lost an object on its stack");
    }
    CAPSTAN_UNROOT(stack);
    atomic_fetch_sub(&game.errands, 1);
    return CAPSTAN_UNIT;
}

/* Several at once, so that they wait for each other; with and without a ThreadId. */
void stepFork(At *at)
{
    Mutator *m = at->m;
    Capability *cap = capOf(at);
    uint64_t serial = numberOf(m->random, 5) >> 4;
    for (uint64_t n = 1 + below(&m->random, 8); n > 0 && atomic_load(&game.errands) < 60; n--, serial++) {
        HaskellObj f = rts_apply(cap, &gcErrand_closure, rts_mkPtr(cap, m));
        HaskellObj action = rts_apply(cap, rts_apply(cap, f, newParcel(cap, serial)), CAPSTAN_SMALL_INT(serial));
        atomic_fetch_add(&game.errands, 1);
        if (at->stack != NULL && n % 2 == 0) {
            rts_fork(at->stack, action);
            continue;
        }
        StgTSO *tso = createIOThread(cap, 0, action);
        DEMAND(m, tso != NULL, "no memory for a thread");
        if (n % 4 == 1) scheduleThreadOn(cap, below(&m->random, options.capabilities), tso);
        else scheduleThread(cap, tso);
    }
}

/* Whatever threads there are get a ThreadId, wherever they wait. */
void stepList(At *at)
{
    HaskellObj list = rts_listThreads(capOf(at));
    DEMAND(at->m, isOf(list, &capstan_ARRAY_info), "the list of threads is none");
    for (size_t i = 0; i < rts_arrayLength(list); i++) {
        HaskellObj id = rts_getElem(list, i);
        DEMAND(at->m, isOf(id, &capstan_TSO_info) && rts_getThreadId(id) != 0, "a ThreadId is none");
        rts_threadStatus(id);
    }
}

/* ---- Submissions --------------------------------------------------------------------------------------------------- */

typedef struct {
    HsStablePtr x, y;
    RtsResult result;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done;
    RtsStatus answer;
} Errand;

static void noteDone(void *ctx, const RtsResult *result)
{
    Errand *e = ctx;
    pthread_mutex_lock(&e->lock);
    e->result = *result;
    e->done = true;
    pthread_cond_signal(&e->changed);
    pthread_mutex_unlock(&e->lock);
}

static void *submitAndWait(void *arg)
{
    Errand *e = arg;
    RtsSubmission s = RTS_SUBMISSION_INIT;
    s.function = &gcSwap_closure;
    s.n_args = 2;
    s.args[0] = (RtsValue){ .kind = RtsValueStable, .u.sp = e->x };
    s.args[1] = (RtsValue){ .kind = RtsValueStable, .u.sp = e->y };
    s.done = noteDone;
    s.ctx = e;
    while ((e->answer = rts_submit(&s, NULL)) == RTS_BUSY) sleepMicroseconds(1000);
    if (e->answer != RTS_OK) return NULL;
    pthread_mutex_lock(&e->lock);
    while (!e->done) pthread_cond_wait(&e->changed, &e->lock);
    pthread_mutex_unlock(&e->lock);
    return NULL;
}

void stepSubmit(At *at)
{
    Mutator *m = at->m;
    Word x = makeObject(at, 1), y = makeObject(at, 1);
    Errand e = { .x = getStablePtr((StgPtr)x.v), .y = getStablePtr((StgPtr)y.v) };
    pthread_mutex_init(&e.lock, NULL);
    pthread_cond_init(&e.changed, NULL);
    rts_safeCall(at->stack, submitAndWait, &e);
    pthread_mutex_destroy(&e.lock);
    pthread_cond_destroy(&e.changed);
    DEMAND(m, e.answer == RTS_OK && e.result.status == Success && e.result.value.kind == RtsValueStable,
           "a submission is answered by %s, ends with status %d: %s", rts_statusName(e.answer), (int)e.result.status, e.result.text);
    HaskellObj v = (HaskellObj)deRefStablePtr(e.result.value.u.sp);
    keepWord(at, mirrorOfPair(at, y, x, v));
    freeStablePtr(e.result.value.u.sp);
}

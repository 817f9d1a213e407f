/* rts_submit: results, ends, queues, event loops, exit. */
#include "misuse.h"

#include "endless.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "os/memory.h"
#include "os/os.h"

/* ---- What is submitted ---- */

CAPSTAN_IO(add, a, b) { return rts_int(stack, rts_intValue(a) + rts_intValue(b)); }
CAPSTAN_IO(same, a) { return a; }
CAPSTAN_IO(nothing) { return CAPSTAN_UNIT; }
CAPSTAN_IO(nothingMuch, flag) { return CAPSTAN_UNIT; }
CAPSTAN_IO(sleepFor, ms)
{
    rts_threadDelay(stack, rts_intValue(ms) * 1000);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(failing, text) { rts_raiseError(stack, "it went %s", (const char *)rts_getPtr(text)); }
CAPSTAN_IO(waste, bytes)
{
    for (HsInt n = rts_intValue(bytes); n > 0; n -= 16) {
        rts_mkDouble(stack->cap, 1.5);
        if (n / 16 % 256 == 0) rts_poll(stack);
    }
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(countBytes, bytes)
{
    size_t length;
    rts_bytes(bytes, &length);
    return rts_int(stack, (HsInt)length);
}

/* ---- Receiving ---- */

typedef struct {
    _Atomic int times;
    RtsResult result;
} Receiver;

static void receive(void *ctx, const RtsResult *result)
{
    Receiver *r = ctx;
    r->result = *result;
    atomic_fetch_add(&r->times, 1);
}

static RtsSubmission submission(HaskellObj function, Receiver *r)
{
    RtsSubmission s = RTS_SUBMISSION_INIT;
    s.function = function;
    s.done = receive;
    s.ctx = r;
    memset(r, 0, sizeof *r);
    return s;
}

static void addInt(RtsSubmission *s, HsInt i) { s->args[s->n_args++] = (RtsValue){ .kind = RtsValueInt, .u.i = i }; }
static void addPtr(RtsSubmission *s, void *p) { s->args[s->n_args++] = (RtsValue){ .kind = RtsValuePtr, .u.p = p }; }
static void addStable(RtsSubmission *s, HsStablePtr sp) { s->args[s->n_args++] = (RtsValue){ .kind = RtsValueStable, .u.sp = sp }; }

static RtsInCallHandle submitWell(const RtsSubmission *s)
{
    RtsInCallHandle handle = 0;
    assert_int_equal(rts_submit(s, &handle), RTS_OK);
    assert_true(handle != 0);
    return handle;
}

static const RtsResult *await(Receiver *r)
{
    waitFor(&r->times);
    assert_int_equal(r->times, 1);
    return &r->result;
}

static HsStablePtr keep(HaskellObj (*make)(Capability *cap))
{
    Capability *cap = rts_lock();
    HsStablePtr sp = getStablePtr((StgPtr)make(cap));
    rts_unlock(cap);
    return sp;
}
static HaskellObj makeText(Capability *cap) { return rts_mkString(cap, "twelve bytes"); }

static unsigned stablePtrs(void)
{
    RtsCounts counts;
    rts_getCounts(&counts);
    return (unsigned)counts.stable_ptrs;
}

static void stopWell(void)
{
    assert_int_equal(callWell(), 42);
    assert_int_equal(stablePtrs(), 0);
    hs_exit();
    assert_int_equal(heardOtherErrors(), 0);
    RtsResult result;
    assert_false(rts_takeResult(-1, &result));
}

/* ---- Results ---- */

static void testValues(void **state)
{
    assert_int_equal(startHooked(2), RTS_OK);
    Receiver r;
    RtsSubmission s = submission(&add_closure, &r);
    addInt(&s, 2);
    addInt(&s, 40);
    RtsInCallHandle handle = submitWell(&s);
    const RtsResult *result = await(&r);
    assert_int_equal(result->status, Success);
    assert_int_equal(result->value.kind, RtsValueInt);
    assert_int_equal(result->value.u.i, 42);
    assert_ptr_equal(result->ctx, &r);
    assert_true(result->handle == handle);
    assert_string_equal(result->text, "");
    s = submission(&nothing_closure, &r);
    submitWell(&s);
    assert_int_equal(await(&r)->value.kind, RtsValueUnit);
    RtsValue values[] = {
        { .kind = RtsValueUnit }, { .kind = RtsValueInt, .u.i = INT64_MIN }, { .kind = RtsValueDouble, .u.d = 0.1 },
        { .kind = RtsValueBool, .u.b = true }, { .kind = RtsValueBool, .u.b = false }, { .kind = RtsValuePtr, .u.p = &r },
    };
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        s = submission(&same_closure, &r);
        s.args[0] = values[i];
        s.n_args = 1;
        submitWell(&s);
        result = await(&r);
        assert_int_equal(result->status, Success);
        assert_int_equal(result->value.kind, values[i].kind);
        size_t size = values[i].kind == RtsValueUnit ? 0 : values[i].kind == RtsValueBool ? 1 : 8;
        assert_memory_equal(&result->value.u, &values[i].u, size);
    }
    stopWell();
}

static void testStable(void **state)
{
    assert_int_equal(startHooked(1), RTS_OK);
    Receiver r;
    RtsSubmission s = submission(&countBytes_closure, &r);
    addStable(&s, keep(makeText));
    submitWell(&s);
    assert_int_equal(await(&r)->value.u.i, 12);
    assert_int_equal(stablePtrs(), 0);
    s = submission(&same_closure, &r);
    addStable(&s, keep(makeText));
    submitWell(&s);
    const RtsResult *result = await(&r);
    assert_int_equal(result->value.kind, RtsValueStable);
    assert_int_equal(stablePtrs(), 1);
    Capability *cap = rts_lock();
    char *text = rts_getString((HaskellObj)deRefStablePtr(result->value.u.sp));
    rts_unlock(cap);
    assert_string_equal(text, "twelve bytes");
    free(text);
    freeStablePtr(result->value.u.sp);
    /* The function by a stable pointer, which stays ours. */
    cap = rts_lock();
    HsStablePtr f = getStablePtr((StgPtr)rts_apply(cap, &add_closure, rts_mkInt(cap, 100)));
    rts_unlock(cap);
    for (int i = 0; i < 3; i++) {
        s = submission(NULL, &r);
        s.function_sp = f;
        addInt(&s, i);
        submitWell(&s);
        assert_int_equal(await(&r)->value.u.i, 100 + i);
    }
    freeStablePtr(f);
    s.function_sp = f;
    memset(&r, 0, sizeof r);
    submitWell(&s);
    assert_int_equal(await(&r)->status, Killed);
    assert_non_null(strstr(r.result.text, "stable pointer"));
    stopWell();
}

static void testErrors(void **state)
{
    Receiver r;
    RtsSubmission s = submission(&nothing_closure, &r);
    RtsInCallHandle handle = 5;
    assert_int_equal(rts_submit(&s, &handle), RTS_NOT_STARTED);
    assert_true(handle == 0);
    assert_int_equal(startHooked(1), RTS_OK);
    assert_int_equal(rts_submit(NULL, NULL), RTS_BAD_ARGUMENT);
    s.size = 8;
    assert_int_equal(rts_submit(&s, NULL), RTS_BAD_ARGUMENT);
    s = submission(NULL, &r);
    assert_int_equal(rts_submit(&s, NULL), RTS_BAD_ARGUMENT);
    s = submission(&nothing_closure, &r);
    s.n_args = 9;
    assert_int_equal(rts_submit(&s, NULL), RTS_BAD_ARGUMENT);
    s.n_args = 1;
    s.args[0].kind = 77;
    assert_int_equal(rts_submit(&s, NULL), RTS_BAD_ARGUMENT);
    s = submission(&failing_closure, &r);
    addPtr(&s, "wrong");
    assert_int_equal(rts_submit(&s, NULL), RTS_OK);
    assert_int_equal(await(&r)->status, Killed);
    assert_string_equal(r.result.text, "it went wrong");
    assert_int_equal(r.result.value.kind, RtsValueUnit);
    assert_false(rts_cancel(r.result.handle));
    stopWell();
}

/* ---- Ends from outside ---- */

/* The first four go on until they are ended from outside. */
static HaskellObj const longActions[] = { &spin_closure, &sleepLong_closure, &waitForBox_closure, &callOut_closure, &nothingMuch_closure };

static RtsSubmission longSubmission(int i, Receiver *r, _Atomic int *flag)
{
    RtsSubmission s = submission(longActions[i], r);
    addPtr(&s, (void *)flag);
    return s;
}

static void stopWithBox(void)
{
    freeStablePtr(quietBox);
    stopWell();
}

static void testDeadline(void **state)
{
    startWithBox(1);
    for (int i = 0; i < 4; i++) {
        Receiver r;
        _Atomic int flag = 0;
        RtsSubmission s = longSubmission(i, &r, &flag);
        s.deadline_us = 20000;
        uint64_t began = nowMs();
        submitWell(&s);
        assert_int_equal(await(&r)->status, TimedOut);
        assert_true(nowMs() - began >= 19);
        assert_string_equal(r.result.text, "timed out");
    }
    Receiver r;
    RtsSubmission s = submission(&nothing_closure, &r);
    s.deadline_us = 0;
    submitWell(&s);
    assert_int_equal(await(&r)->status, TimedOut);
    s = submission(&nothing_closure, &r);
    s.deadline_us = 100 * INT64_C(1000000);
    submitWell(&s);
    assert_int_equal(await(&r)->status, Success);
    stopWithBox();
}

static void testCancel(void **state)
{
    startWithBox(1);
    for (int i = 0; i < 8; i++) {
        Receiver r;
        _Atomic int flag = 0;
        RtsSubmission s = longSubmission(i % 4, &r, &flag);
        RtsInCallHandle handle = submitWell(&s);
        if (i < 4) waitFor(&flag);
        assert_true(rts_cancel(handle));
        assert_int_equal(await(&r)->status, Cancelled);
        assert_false(rts_cancel(handle));
    }
    stopWithBox();
}

static void testLimit(void **state)
{
    assert_int_equal(startHooked(1), RTS_OK);
    for (int i = 0; i < 10; i++) {
        Receiver r;
        RtsSubmission s = submission(&waste_closure, &r);
        s.alloc_limit_bytes = 1000000;
        addInt(&s, i % 2 ? 900000 : 1100000);
        submitWell(&s);
        assert_int_equal(await(&r)->status, i % 2 ? Success : LimitExceeded);
    }
    stopWell();
}

/* Every capability is kept by C that does not let go: those that have not begun end all the same. */
static void testQueued(void **state)
{
    assert_int_equal(startHooked(1), RTS_OK);
    Holder h;
    beginHolding(&h);
    Receiver r[4];
    int fd = eventfd(0, EFD_NONBLOCK);
    for (int i = 0; i < 4; i++) {
        RtsSubmission s = submission(&countBytes_closure, &r[i]);
        if (i % 2) s.done = NULL;
        s.event_fd = i == 3 ? fd : -1;
        if (i >= 2) s.deadline_us = 10000;
        /* No stable pointer without a capability: one that is none will do, as nobody will look. */
        addStable(&s, NULL);
        RtsInCallHandle handle = submitWell(&s);
        if (i < 2) {
            sleepMs(i * 5);
            assert_true(rts_cancel(handle));
        }
        RtsResult result;
        if (i % 2) {
            while (!rts_takeResult(s.event_fd, &result)) sleepMs(1);
        } else {
            result = *await(&r[i]);
        }
        assert_int_equal(result.status, i < 2 ? Cancelled : TimedOut);
        assert_false(rts_cancel(handle));
    }
    uint64_t count = 0;
    assert_int_equal(read(fd, &count, sizeof count), sizeof count);
    assert_int_equal(count, 1);
    close(fd);
    endHolding(&h);
    stopWell();
}

/* ---- The queue ---- */

static void testFull(void **state)
{
    RtsConfig config = hookedConfig(1);
    config.submit_queue = 10;
    assert_int_equal(rts_start(&config, NULL, 0), RTS_OK);
    Holder h;
    beginHolding(&h);
    Receiver r[11];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 10; i++) {
            RtsSubmission s = submission(&add_closure, &r[i]);
            addInt(&s, i);
            addInt(&s, round);
            if (round == 2) s.done = NULL;
            submitWell(&s);
        }
        RtsSubmission s = submission(&nothing_closure, &r[10]);
        RtsInCallHandle handle = 1;
        if (round != 1) { /* there they may have ended by now */
            assert_int_equal(rts_submit(&s, &handle), RTS_BUSY);
            assert_true(handle == 0);
        }
        if (round == 0) endHolding(&h);
        for (int i = 0; i < 10 && round < 2; i++) assert_int_equal(await(&r[i])->value.u.i, i + round);
    }
    /* Those that were not taken count. */
    sleepMs(20);
    RtsSubmission s = submission(&nothing_closure, &r[10]);
    assert_int_equal(rts_submit(&s, NULL), RTS_BUSY);
    HsInt sum = 0;
    for (int i = 0; i < 10; i++) {
        RtsResult result;
        while (!rts_takeResult(-1, &result)) sleepMs(1);
        sum += result.value.u.i;
    }
    assert_int_equal(sum, 45 + 20);
    submitWell(&s);
    await(&r[10]);
    stopWell();
}

/* One capability is kept by C for long; what was put there goes to the other. */
static void testStuckHolder(void **state)
{
#ifdef CAPSTAN_TORTURE
    skip(); /* collections wait for C */
#endif
    assert_int_equal(startHooked(2), RTS_OK);
    Holder a, b;
    beginHolding(&a);
    beginHolding(&b);
    Receiver r[6];
    for (int i = 0; i < 6; i++) {
        RtsSubmission s = submission(&add_closure, &r[i]);
        addInt(&s, i);
        addInt(&s, 1);
        submitWell(&s);
    }
    endHolding(&a);
    for (int i = 0; i < 6; i++) assert_int_equal(await(&r[i])->value.u.i, i + 1);
    endHolding(&b);
    stopWell();
}

/* ---- Many ---- */

static _Atomic HsInt total; /* of all submissions */
static _Atomic int finished;

static void addUp(void *ctx, const RtsResult *result)
{
    if (result->status == Success) atomic_fetch_add(&total, result->value.u.i);
    atomic_fetch_add(&finished, 1);
}

#define SUBMITTERS 4
static int perSubmitter;

static void *submitMany(void *arg)
{
    for (int i = 0; i < perSubmitter; i++) {
        RtsSubmission s = RTS_SUBMISSION_INIT;
        s.function = &add_closure;
        s.done = addUp;
        addInt(&s, i);
        addInt(&s, 1);
        RtsStatus status;
        while ((status = rts_submit(&s, NULL)) == RTS_BUSY) sleepMs(1);
        if (status != RTS_OK) return (void *)1;
    }
    return NULL;
}

static void testMany(void **state)
{
    perSubmitter = shortLoad() ? 500 : 2500;
    for (unsigned n = 1; n <= 3; n++) {
        assert_int_equal(startHooked(n), RTS_OK);
        total = 0;
        finished = 0;
        pthread_t threads[SUBMITTERS];
        for (int i = 0; i < SUBMITTERS; i++) threads[i] = spawn(submitMany, NULL);
        for (int i = 0; i < SUBMITTERS; i++) assert_ptr_equal(joinThread(threads[i]), NULL);
        while (finished != SUBMITTERS * perSubmitter) sleepMs(1);
        assert_true(total == (HsInt)SUBMITTERS * perSubmitter * (perSubmitter + 1) / 2);
        stopWell();
    }
}

/* ---- An event loop ---- */

#define LOOPS 3
#define PER_LOOP (shortLoad() ? 100 : 1000)

typedef struct {
    int fd, me;
    HsInt sum, wrong;
} EventLoop;

static void *runLoop(void *arg)
{
    EventLoop *loop = arg;
    int set = epoll_create1(0), submitted = 0, taken = 0;
    struct epoll_event event = { .events = EPOLLIN };
    epoll_ctl(set, EPOLL_CTL_ADD, loop->fd, &event);
    while (taken < PER_LOOP) {
        for (int i = 0; i < 7 && submitted < PER_LOOP; i++) {
            RtsSubmission s = RTS_SUBMISSION_INIT;
            s.function = &add_closure;
            s.event_fd = loop->fd;
            s.ctx = loop;
            addInt(&s, submitted++);
            addInt(&s, 1000000 * loop->me);
            if (rts_submit(&s, NULL) != RTS_OK) loop->wrong++;
        }
        if (epoll_wait(set, &event, 1, 20000) != 1) {
            loop->wrong++;
            break;
        }
        uint64_t count = 0;
        if (read(loop->fd, &count, sizeof count) != sizeof count) loop->wrong++;
        RtsResult result;
        while (rts_takeResult(loop->fd, &result)) {
            taken++;
            loop->sum += result.value.u.i - 1000000 * loop->me;
            if (result.ctx != loop || result.status != Success) loop->wrong++;
        }
    }
    close(set);
    return NULL;
}

static void testEventLoop(void **state)
{
    assert_int_equal(startHooked(2), RTS_OK);
    EventLoop loops[LOOPS];
    pthread_t threads[LOOPS];
    for (int i = 0; i < LOOPS; i++) {
        loops[i] = (EventLoop){ .fd = eventfd(0, EFD_NONBLOCK), .me = i };
        threads[i] = spawn(runLoop, &loops[i]);
    }
    for (int i = 0; i < LOOPS; i++) {
        joinThread(threads[i]);
        close(loops[i].fd);
        assert_int_equal(loops[i].wrong, 0);
        assert_int_equal(loops[i].sum, PER_LOOP * (PER_LOOP - 1) / 2);
    }
    stopWell();
}

/* ---- Callbacks ---- */

typedef struct {
    _Atomic int left, wrong;
    _Atomic int over;
} Chain;

static void nextLink(void *ctx, const RtsResult *result)
{
    Chain *chain = ctx;
    if (result->status != Success || callWell() != 42) chain->wrong++;
    if (--chain->left == 0) {
        chain->over = 1;
        return;
    }
    RtsSubmission s = RTS_SUBMISSION_INIT;
    s.function = &nothing_closure;
    s.done = nextLink;
    s.ctx = chain;
    if (rts_submit(&s, NULL) != RTS_OK) chain->wrong++;
}

/* Callbacks that call in, and that submit again. */
static void testChain(void **state)
{
    for (unsigned n = 1; n <= 2; n++) {
        assert_int_equal(startHooked(n), RTS_OK);
        Chain chains[3];
        for (int i = 0; i < 3; i++) {
            chains[i] = (Chain){ .left = 50 };
            RtsSubmission s = RTS_SUBMISSION_INIT;
            s.function = &nothing_closure;
            s.done = nextLink;
            s.ctx = &chains[i];
            submitWell(&s);
        }
        for (int i = 0; i < 3; i++) {
            waitFor(&chains[i].over);
            assert_int_equal(chains[i].wrong, 0);
        }
        stopWell();
    }
}

static _Atomic int gate, atGate;

static void waitAtGate(void *ctx, const RtsResult *result)
{
    atomic_fetch_add(&atGate, 1);
    while (!gate) sleepMs(1);
    receive(ctx, result);
}

/* Callbacks that block hold nobody up; neither those on workers, nor those of submissions that never began. */
static void testBlockingCallbacks(void **state)
{
    assert_int_equal(startHooked(1), RTS_OK);
    gate = atGate = 0;
    Receiver r[10], last;
    for (int i = 0; i < 10; i++) {
        RtsSubmission s = submission(&nothing_closure, &r[i]);
        s.done = waitAtGate;
        if (i >= 5) s.deadline_us = 0;
        submitWell(&s);
    }
    while (atGate != 10) sleepMs(1);
    RtsSubmission s = submission(&nothing_closure, &last);
    submitWell(&s);
    await(&last);
    assert_int_equal(callWell(), 42);
    gate = 1;
    for (int i = 0; i < 10; i++) assert_int_equal(await(&r[i])->status, i < 5 ? Success : TimedOut);
    stopWell();
}

/* ---- No memory ---- */

static void testNoMemory(void **state)
{
    int refused = 0;
    assert_int_equal(startHooked(1), RTS_OK);
    for (long n = 1; n < 60; n++) {
        Receiver r;
        RtsSubmission s = submission(&add_closure, &r);
        addInt(&s, n);
        addInt(&s, 1);
        s.deadline_us = n % 3 == 0 ? 0 : n % 3 == 1 ? -1 : 100 * INT64_C(1000000);
        RtsInCallHandle handle;
        osFailAfter(n);
        RtsStatus status = rts_submit(&s, &handle);
        if (status == RTS_OK) {
            SchedulerStatus ended = await(&r)->status;
            if (n % 3 == 0) assert_int_equal(ended, TimedOut);
            else assert_true(ended == Success || ended == HeapExhausted);
        } else {
            assert_int_equal(status, RTS_NO_MEMORY);
            assert_true(osFailuresInjected() > 0);
            assert_true(handle == 0);
            refused++;
        }
        osFailAfter(0);
        assert_int_equal(callWell(), 42);
    }
    assert_true(refused > 0);
    stopWell();
}

/* No memory for threads, or their stacks, for a while: it waits. */
static void testNoThreads(void **state)
{
    assert_int_equal(startHooked(1), RTS_OK);
    assert_int_equal(callWell(), 42);
    Receiver r[20];
    osFailAllAfter(200);
    int accepted = 0;
    for (int i = 0; i < 20; i++) {
        RtsSubmission s = submission(&add_closure, &r[i]);
        addInt(&s, i);
        addInt(&s, 1);
        RtsStatus status = rts_submit(&s, NULL);
        if (status != RTS_OK) {
            assert_int_equal(status, RTS_NO_MEMORY);
            break;
        }
        accepted++;
    }
    sleepMs(20);
    osFailAfter(0);
    for (int i = 0; i < accepted; i++) {
        SchedulerStatus ended = await(&r[i])->status;
        assert_true(ended == Success || ended == HeapExhausted);
    }
    stopWell();
}

/* ---- Exit ---- */

/* Of each kind some are under way; each gets one result, and the next start knows nothing of them. */
static void testExit(void **state)
{
    for (int round = 0; round < (shortLoad() ? 3 : 10); round++) {
        startWithBox(1 + (unsigned)round % 2);
        Receiver r[40];
        static _Atomic int flags[40]; /* C that is called may be late */
        int results = 0;
        for (int i = 0; i < 40; i++) {
            RtsSubmission s = longSubmission(i % 5, &r[i], &flags[i]);
            if (i % 7 == 0) s.deadline_us = 1000000;
            if (i % 3 == 0) {
                s.done = NULL;
                results++;
            }
            submitWell(&s);
        }
        if (round % 3 > 0) sleepMs(round);
        hs_exit();
        if (round % 2) assert_int_equal(startHooked(1), RTS_OK);
        for (RtsResult result; rts_takeResult(-1, &result); results--)
            assert_true(result.status == Interrupted || result.status == Success);
        assert_int_equal(results, 0);
        for (int i = 0; i < 40; i++) {
            if (i % 3 == 0) continue;
            waitFor(&r[i].times); /* one that was in C may be a little late */
            SchedulerStatus ended = r[i].result.status;
            assert_true(ended == Interrupted || (i % 5 == 4 && ended == Success));
        }
        if (round % 2) {
            assert_int_equal(callWell(), 42);
            hs_exit();
        }
        sleepMs(2);
        for (int i = 0; i < 40; i++) assert_int_equal(r[i].times, i % 3 == 0 ? 0 : 1);
        assert_int_equal(heardOtherErrors(), 0);
    }
}

/* What the child of a fork does, which has the parent's budget and submissions under way before its eyes. */
static int beChild(Capability *cap, RtsInCallHandle handle)
{
    Receiver r;
    RtsResult result;
    rts_unlock(cap);
    if (rts_cancel(handle) || rts_takeResult(-1, &result)) return 2;
    RtsSubmission s = submission(&add_closure, &r);
    addInt(&s, 2);
    addInt(&s, 3);
    s.deadline_us = 60 * 1000000;
    if (rts_submit(&s, NULL) != RTS_NOT_STARTED || startHooked(1) != RTS_OK || rts_submit(&s, NULL) != RTS_OK) return 3;
    waitFor(&r.times);
    if (r.result.status != Success || r.result.value.u.i != 5 || callWell() != 42) return 4;
    hs_exit();
    return 0;
}

static void testFork(void **state)
{
#ifdef MISUSE_TSAN
    skip(); /* it ends children that make threads */
#endif
    startWithBox(1);
    Receiver r[3];
    Capability *cap;
    RtsInCallHandle handle;
    RtsLockOpts opts = RTS_LOCK_OPTS_INIT;
    opts.deadline_us = 60 * 1000000;
    opts.handle = &handle;
    assert_int_equal(rts_lockOpt(&cap, &opts), RTS_OK);
    for (int i = 0; i < 3; i++) {
        RtsSubmission s = submission(&nothing_closure, &r[i]);
        if (i == 2) s.deadline_us = 0;
        submitWell(&s);
    }
    await(&r[2]);
    pid_t child = fork();
    if (child == 0) {
        alarm(TEST_SECONDS);
        _exit(beChild(cap, handle));
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_true(rts_cancel(handle));
    rts_unlock(cap);
    for (int i = 0; i < 2; i++) assert_int_equal(await(&r[i])->status, Success);
    stopWithBox();
}

/* Submitters, cancellers and deadlines while the runtime comes and goes: accepted and delivered must be the same in the end. */
static _Atomic int accepted, delivered, stormOver;
static _Atomic RtsInCallHandle lastHandles[SUBMITTERS];

static void countDelivery(void *ctx, const RtsResult *result) { atomic_fetch_add(&delivered, 1); }

static void *submitInStorm(void *arg)
{
    int me = (int)(intptr_t)arg;
    unsigned seed = 91u * (unsigned)(me + 1);
    static _Atomic int flag;
    while (!stormOver) {
        seed = seed * 1103515245u + 12345u;
        unsigned dice = seed >> 16;
        RtsSubmission s = RTS_SUBMISSION_INIT;
        s.function = dice % 5 == 0 ? &spin_closure : dice % 5 == 1 ? &sleepFor_closure : &nothing_closure;
        if (dice % 5 == 0) addPtr(&s, (void *)&flag);
        if (dice % 5 == 1) addInt(&s, 1);
        s.deadline_us = dice % 5 == 0 || dice / 8 % 3 == 0 ? (HsInt64)(dice / 32 % 2000) : -1;
        if (dice / 8 % 2) s.done = countDelivery;
        RtsInCallHandle handle;
        RtsStatus status = rts_submit(&s, &handle);
        if (status == RTS_OK) {
            accepted++;
            lastHandles[me] = handle;
        } else if (status != RTS_BUSY && status != RTS_NOT_STARTED && status != RTS_CLOSED) {
            return (void *)1;
        }
        RtsResult result;
        if (rts_takeResult(-1, &result)) delivered++;
        if (dice / 16 % 8 == 0) rts_cancel(lastHandles[dice % SUBMITTERS]);
        if (dice / 32 % 16 == 0) osSleepNanos(50000);
    }
    return NULL;
}

static void testStorm(void **state)
{
    accepted = delivered = stormOver = 0;
    pthread_t threads[SUBMITTERS];
    for (intptr_t i = 0; i < SUBMITTERS; i++) threads[i] = spawn(submitInStorm, (void *)i);
    for (int round = 0; round < (shortLoad() ? 6 : 20); round++) {
        RtsConfig config = hookedConfig(1 + (unsigned)round % 3);
        config.submit_queue = 100;
        config.no_membarrier = round % 5 == 4;
        assert_int_equal(rts_start(&config, NULL, 0), RTS_OK);
        sleepMs(20 + round);
        hs_exit();
    }
    stormOver = 1;
    for (int i = 0; i < SUBMITTERS; i++) assert_ptr_equal(joinThread(threads[i]), NULL);
    RtsResult result;
    while (rts_takeResult(-1, &result)) delivered++;
    for (int i = 0; i < 10000 && accepted != delivered; i++) sleepMs(1);
    assert_true(accepted > 0);
    assert_int_equal(accepted, delivered);
    assert_int_equal(heardOtherErrors(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(testValues), TEST(testStable), TEST(testErrors), TEST(testDeadline), TEST(testCancel), TEST(testLimit),
        TEST(testQueued), TEST(testFull), TEST(testStuckHolder), TEST(testMany), TEST(testEventLoop), TEST(testChain),
        TEST(testBlockingCallbacks), TEST(testNoMemory), TEST(testNoThreads), TEST(testExit), TEST(testFork), TEST(testStorm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

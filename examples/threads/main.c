/* threads: a host whose requests are answered by managed threads.
 *
 *     threads [WORKERS]
 *
 * WORKERS lightweight threads (4) wait at an MVar for pieces of work.  A request, which is an in-call of some C thread, cuts its work into pieces, lets a
 * thread of its own feed them to the workers, and collects the answers; while it waits, its OS thread runs the others ("hosting").  Four requests:
 *
 *   - one that ends by itself;
 *   - one that is given 100 ms and needs minutes: rts_lockOpt with a deadline;
 *   - one that another C thread gives up: rts_cancel;
 *   - the first again: of those that were ended nothing is left but the pieces that were begun.
 *
 * The work is to count primes, in the slowest way. */
#include <Rts.h>
#include <rts/Managed.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { PIECE = 20000 };

/* ---- Managed code ---- */

CAPSTAN_CON(Piece, 0, from, answer)

/* Where workers take pieces from: a channel with one place. */
CAPSTAN_CAF(pieces) { return rts_mkMVar(stack->cap); }

static HsInt countPrimes(Stack *stack, HsInt from)
{
    HsInt count = 0;
    for (HsInt n = from < 2 ? 2 : from; n < from + PIECE; n++) {
        HsInt d = 2;
        while (d * d <= n && n % d != 0) d++;
        count += d * d > n;
        rts_poll(stack); /* let others in, and exceptions */
    }
    return count;
}

/* worker :: IO (), for ever */
CAPSTAN_IO(worker)
{
    HaskellObj piece = rts_takeMVar(stack, rts_force(stack, &pieces_closure));
    HaskellObj answer = CAPSTAN_GET(Piece, piece, answer);
    HsInt from = rts_intValue(CAPSTAN_GET(Piece, piece, from));
    CAPSTAN_ROOTS(stack, answer);
    HaskellObj count = rts_int(stack, countPrimes(stack, from));
    CAPSTAN_UNROOT(stack);
    /* Never waits: nobody else puts into it, and there may be nobody any more to take. */
    rts_tryPutMVar(stack, answer, count);
    return rts_tailCall(stack, &worker_closure, CAPSTAN_WORLD);
}

/* startWorkers :: Int -> IO () */
CAPSTAN_IO(startWorkers, n)
{
    for (HsInt i = rts_intValue(n); i > 0; i--) rts_fork(stack, &worker_closure);
    return CAPSTAN_UNIT;
}

/* feed :: Array (MVar Int) -> IO () */
CAPSTAN_IO(feed, answers)
{
    size_t n = rts_arrayLength(answers);
    CAPSTAN_ROOTS(stack, answers);
    for (size_t i = 0; i < n; i++) {
        HaskellObj channel = rts_force(stack, &pieces_closure);
        rts_putMVar(stack, channel, Piece_new(stack->cap, rts_int(stack, (HsInt)i * PIECE), rts_getElem(answers, i)));
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

static HaskellObj collect(Stack *stack, void *arg)
{
    HaskellObj *answers = arg;
    HsInt count = 0;
    for (size_t i = 0; i < rts_arrayLength(*answers); i++) count += rts_intValue(rts_takeMVar(stack, rts_getElem(*answers, i)));
    return rts_int(stack, count);
}

/* countBelow :: Int -> IO Int */
CAPSTAN_IO(countBelow, limit)
{
    size_t n = (size_t)rts_intValue(limit) / PIECE;
    HaskellObj answers = rts_mkArray(stack->cap, n, CAPSTAN_UNIT), feeder = CAPSTAN_UNIT, result;
    CAPSTAN_ROOTS(stack, answers, feeder);
    for (size_t i = 0; i < n; i++) rts_setElem(stack->cap, answers, i, rts_mkMVar(stack->cap));
    rts_poll(stack); /* raises if memory ran out above */
    feeder = rts_fork(stack, rts_apply(stack->cap, &feed_closure, answers));
    bool done = rts_try(stack, collect, &answers, &result);
    if (!done) {
        CAPSTAN_ROOTS(stack, result);
        rts_killThread(stack, feeder); /* the deadline, or rts_cancel: no more pieces */
        CAPSTAN_UNROOT(stack);
    }
    CAPSTAN_UNROOT(stack);
    if (!done) rts_raise(stack, result);
    return result;
}

/* ---- The host ---- */

/* deadline_us: negative: none.  handle: NULL, or where to tell others how to cancel it. */
static void request(const char *name, HsInt limit, HsInt64 deadline_us, _Atomic RtsInCallHandle *handle)
{
    Capability *cap;
    HaskellObj count;
    RtsInCallHandle mine;
    RtsLockOpts opts = RTS_LOCK_OPTS_INIT;
    opts.deadline_us = deadline_us;
    opts.handle = &mine;
    RtsStatus refused = rts_lockOpt(&cap, &opts);
    if (refused != RTS_OK) {
        /* A time may be up before there was a capability. */
        printf("%s: %s\n", name, refused == RTS_TIMED_OUT ? "its time was up" : rts_statusText(refused));
        return;
    }
    if (handle != NULL) *handle = mine;
    rts_evalIO(&cap, rts_apply(cap, &countBelow_closure, rts_mkInt(cap, limit)), &count);
    SchedulerStatus status = rts_getSchedStatus(cap);
    if (status == Success) printf("%s: %ld primes below %ld\n", name, (long)rts_getInt(count), (long)limit);
    else printf("%s: %s\n", name, status == TimedOut ? "its time was up" : status == Cancelled ? "cancelled" : "failed");
    rts_unlock(cap);
}

static _Atomic RtsInCallHandle third;

static void *requestThird(void *arg)
{
    request("third", 100000000, -1, &third);
    return arg;
}

static void start(HsInt workers)
{
    Capability *cap = rts_lock();
    rts_evalIO(&cap, rts_apply(cap, &startWorkers_closure, rts_mkInt(cap, workers)), NULL);
    rts_checkSchedStatus("startWorkers", cap);
    rts_unlock(cap);
}

int main(int argc, char **argv)
{
    pthread_t thread;
    RtsConfig config = RTS_CONFIG_INIT;
    char message[200];
    long workers = argc > 1 ? strtol(argv[1], NULL, 10) : 4;
    if (workers < 1 || workers > 1000) {
        fprintf(stderr, "usage: threads [WORKERS]\n");
        return 2;
    }
    if (rts_start(&config, message, sizeof message) != RTS_OK) {
        fprintf(stderr, "threads: %s\n", message);
        return 1;
    }
    start(workers);
    request("first", 200000, -1, NULL);
    request("second", 100000000, 100000, NULL);
    if (pthread_create(&thread, NULL, requestThird, NULL) != 0) return 1;
    while (third == 0) usleep(1000);
    usleep(50000);
    rts_cancel(third);
    pthread_join(thread, NULL);
    request("fourth", 200000, -1, NULL);
    hs_exit();
    return 0;
}

/* stress/incall: rounds.  A round starts the runtime, lets the workers run, ends the runtime (calmly or under them), and
 * compares the totals. */
#include "incall.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

Game game = { .phase = 1 };

static Shared sharedObjects;
static RtsCounts atStart;               /* after the shared objects were made */
static int64_t countedAtStart[COUNTERS];
static Worker mainWorker;               /* for calls and random numbers of the main thread */
static _Atomic unsigned roundNumber;
static unsigned starts;                 /* of the runtime, in this round */

/* Where workers wait between rounds. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned waiting;     /* workers that have arrived */
    unsigned round;       /* the one they may play */
    bool over;            /* there will be no other */
    _Atomic bool ending;  /* no new action in this round */
} gate = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

unsigned countRounds(void)
{
    return roundNumber;
}

static void sleepMicroseconds(int64_t us)
{
    struct timespec time = { us / 1000000, us % 1000000 * 1000 };
    nanosleep(&time, NULL);
}

/* ---- Hooks --------------------------------------------------------------------------------------------------------- */

/* The actions make no mistakes; only an end under them can make their calls wrong. */
static void noteError(void *ctx, RtsStatus status, const char *message)
{
    bool late = status == RTS_NOT_STARTED || status == RTS_CLOSED || status == RTS_BAD_STABLE_PTR;
    EXPECT(NULL, late && game.mode != RESTART_CALM, "the error hook hears %s: %s", rts_statusName(status), message);
}

static void noteClosed(void *ctx, RtsStatus why)
{
    EXPECT(NULL, game.mode != RESTART_CALM, "the closed hook hears %s", rts_statusName(why));
}

static void noteCollection(void *ctx, const RtsCollection *collection)
{
    atomic_fetch_add(&game.collections, 1);
}

static void noteOutOfHeap(void *ctx, size_t wanted, size_t limit)
{
    atomic_fetch_add(&game.outOfHeaps, 1);
    EXPECT(NULL, game.limited, "out of heap without a limit: %zu wanted, limit %zu", wanted, limit);
}

static void noteStackOverflow(void *ctx, size_t bytes)
{
    atomic_fetch_add(&game.stackOverflows, 1);
}

static void noteLongStop(void *ctx, const char *text)
{
    atomic_fetch_add(&game.longStops, 1);
}

static void noteLog(void *ctx, RtsLogLevel level, const char *line)
{
    if (level <= RTS_LOG_WARNING) fprintf(stderr, "stress: the runtime says: %s\n", line);
}

/* ---- Start and end ------------------------------------------------------------------------------------------------- */

static bool startRuntime(void)
{
    char message[300] = "";
    RtsConfig config = RTS_CONFIG_INIT;
    config.capabilities = options.capabilities;
    config.nursery_bytes = options.nursery;
    config.heap_limit_bytes = game.limited ? options.heapLimit : 0;
    config.verify_heap = options.verifyHeap;
    config.poison_from_space = options.poison;
    config.no_membarrier = options.noMembarrier;
    config.errorHook = noteError;
    config.closedHook = noteClosed;
    config.gcDoneHook = noteCollection;
    config.outOfHeapHook = noteOutOfHeap;
    config.stackOverflowHook = noteStackOverflow;
    config.longStopHook = noteLongStop;
    config.logHook = noteLog;
    RtsStatus status = rts_start(&config, message, sizeof message);
    EXPECT(NULL, status == RTS_OK, "rts_start answers %s: %s", rts_statusName(status), message);
    starts++;
    return status == RTS_OK;
}

/* What all workers share.  Nobody has a reason to be out of memory yet, except workers that never stopped. */
static void makeShared(void)
{
    Capability *cap = rts_lock();
    for (int i = 0; i < COUNTERS; i++) {
        countedAtStart[i] = atomic_load(&game.counted[i]);
        sharedObjects.counters[i] = getStablePtr((StgPtr)(void *)rts_mkMutVar(cap, rts_mkInt(cap, 0)));
    }
    sharedObjects.slots = getStablePtr((StgPtr)(void *)rts_mkArray(cap, SLOTS, rts_mkInt(cap, 0)));
    rts_unlock(cap);
    rts_getCounts(&atStart);
    atomic_store(&game.shared, &sharedObjects);
}

static bool beginEpoch(void)
{
    if (!startRuntime()) return false;
    makeShared();
    atomic_fetch_add(&game.phase, 1);
    return true;
}

static void endEpoch(void)
{
    if (atomic_load(&game.phase) % 2 == 0) atomic_fetch_add(&game.phase, 1);
    hs_exit();
    atomic_store(&game.shared, NULL);
}

/* ---- The gate ------------------------------------------------------------------------------------------------------ */

bool roundIsOver(Worker *worker)
{
    if (atomic_load(&game.stop) || atomic_load(&gate.ending)) return true;
    if (options.iters != 0 && worker->iterations >= options.iters) return true;
    return game.mode == RESTART_CALM && options.restartEvery != 0 && worker->roundIterations >= options.restartEvery;
}

bool waitForNextRound(Worker *worker)
{
    pthread_mutex_lock(&gate.lock);
    unsigned round = gate.round;
    atomic_store(&worker->arrived, true);
    gate.waiting++;
    pthread_cond_broadcast(&gate.changed);
    while (gate.round == round && !gate.over) pthread_cond_wait(&gate.changed, &gate.lock);
    atomic_store(&worker->arrived, false);
    bool more = !gate.over;
    pthread_mutex_unlock(&gate.lock);
    return more;
}

static void waitForWorkers(void)
{
    pthread_mutex_lock(&gate.lock);
    while (gate.waiting < options.threads) pthread_cond_wait(&gate.changed, &gate.lock);
    pthread_mutex_unlock(&gate.lock);
}

static bool allArrived(void)
{
    pthread_mutex_lock(&gate.lock);
    bool all = gate.waiting == options.threads;
    pthread_mutex_unlock(&gate.lock);
    return all;
}

static void openGate(bool over)
{
    pthread_mutex_lock(&gate.lock);
    gate.waiting = 0;
    gate.round++;
    gate.over = over;
    atomic_store(&gate.ending, false);
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.lock);
}

/* ---- One round ----------------------------------------------------------------------------------------------------- */

static uint64_t sumSteps(void)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < options.threads; i++) sum += atomic_load(&game.workers[i].steps);
    return sum;
}

/* Let the workers do about a quota of steps together. */
static void letRun(uint64_t steps)
{
    uint64_t begin = sumSteps();
    while (sumSteps() - begin < steps && !atomic_load(&game.stop) && !allArrived()) sleepMicroseconds(500);
}

/* The runtime ends under the workers; in the overlapping kind they see it start again, several times. */
static void endRoughly(void)
{
    uint64_t quota = options.restartEvery * options.threads + 1;
    letRun((uint64_t)randomBetween(&mainWorker, 1, (int64_t)quota));
    for (int64_t n = randomBetween(&mainWorker, 2, 10); game.mode == RESTART_OVERLAP && n > 0; n--) {
        endEpoch();
        if (oneIn(&mainWorker, 2)) sleepMicroseconds(randomBetween(&mainWorker, 1, 3000));
        if (!beginEpoch()) break;
        letRun((uint64_t)randomBetween(&mainWorker, 1, (int64_t)quota / 4 + 1));
    }
    endEpoch();
    if (oneIn(&mainWorker, 2)) sleepMicroseconds(randomBetween(&mainWorker, 1, 3000));
    atomic_store(&gate.ending, true);
    waitForWorkers();
}

/* What managed code did against what calls said. Some calls may have done it and then been ended. */
static void compareEffects(const char *what, int64_t done, int64_t said, bool exact)
{
    EXPECT(NULL, exact ? done == said : done >= said, "%s: managed code did %" PRId64 ", the calls that succeeded %" PRId64,
           what, done, said);
}

static void checkEffects(void)
{
    bool exact = game.mode == RESTART_CALM && !game.limited;
    int64_t committed = 0, counted = 0, done = 0;
    for (unsigned i = 0; i < options.threads; i++) {
        committed += game.workers[i].committed;
        counted += game.workers[i].counted;
    }
    for (int i = 0; i < COUNTERS; i++) done += atomic_load(&game.counted[i]);
    compareEffects("commits", atomic_load(&game.committed), committed, exact);
    compareEffects("counters", done, counted, exact);
    uint64_t begun = atomic_load(&game.cafStarts), finished = atomic_load(&game.cafFinishes);
    EXPECT(NULL, finished <= starts && (exact ? begun == finished : begun >= finished),
           "the constant began %" PRIu64 " times and finished %" PRIu64 " times in %u starts", begun, finished, starts);
}

static void readCounters(void)
{
    Capability *cap = rts_lock();
    for (int i = 0; i < COUNTERS; i++) {
        int64_t value = rts_getInt(rts_readMutVar((HaskellObj)(void *)deRefStablePtr(sharedObjects.counters[i])));
        int64_t expected = atomic_load(&game.counted[i]) - countedAtStart[i];
        EXPECT(NULL, value == expected, "counter %d holds %" PRId64 " after additions of %" PRId64, i, value, expected);
    }
    rts_unlock(cap);
}

/* All workers wait at the gate. */
static void endCalmly(void)
{
    RtsCounts counts;
    waitForWorkers();
    readCounters();
    for (unsigned i = 0; i < options.threads; i++) dropKept(&game.workers[i]);
    hs_perform_gc();
    rts_getCounts(&counts);
    EXPECT(NULL, counts.stable_ptrs == atStart.stable_ptrs, "%" PRIu64 " stable pointers, %" PRIu64 " at the start",
           counts.stable_ptrs, atStart.stable_ptrs);
    EXPECT(NULL, counts.tasks <= options.threads + 1, "%" PRIu64 " tasks for %u threads", counts.tasks,
           options.threads + 1);
    endEpoch();
}

static void checkEnded(void)
{
    Capability *cap = NULL;
    uint64_t made = atomic_load(&game.externalsMade), released = atomic_load(&game.externalsReleased);
    EXPECT(NULL, made == released, "%" PRIu64 " external byte arrays, %" PRIu64 " released", made, released);
    EXPECT(NULL, rts_tryLock(&cap) == RTS_NOT_STARTED, "the runtime answers after its end");
}

static void resetRound(void)
{
    bool last = options.restartEvery == 0;
    game.mode = options.restartMode == RESTART_MIXED && !last ? (RestartMode)randomBetween(&mainWorker, 0, 2)
                : last                                        ? RESTART_CALM
                                                              : options.restartMode;
    game.limited = options.heapLimit != 0 && options.weights[ACTION_HOG] != 0 && (last || oneIn(&mainWorker, 3));
    memset(game.records, 0, RECORDS * sizeof *game.records);
    game.nextSerial = 0;
    game.committed = 0;
    game.cafStarts = game.cafFinishes = 0;
    starts = 0;
    for (int i = 0; i < COUNTERS; i++) game.counted[i] = 0;
    for (unsigned i = 0; i < options.threads; i++)
        game.workers[i].committed = game.workers[i].counted = (int64_t)(game.workers[i].roundIterations = 0);
}

static bool moreToDo(void)
{
    if (atomic_load(&game.stop)) return false;
    if (options.iters == 0) return true;
    for (unsigned i = 0; i < options.threads; i++)
        if (game.workers[i].iterations < options.iters) return true;
    return false;
}

static void playRound(void)
{
    roundNumber++;
    resetRound();
    if (!beginEpoch()) return;
    openGate(false);
    if (game.mode == RESTART_CALM) endCalmly();
    else endRoughly();
    checkEffects();
    checkEnded();
}

/* ---- All rounds ---------------------------------------------------------------------------------------------------- */

pthread_attr_t *stressThreadAttributes(void)
{
    static pthread_attr_t attributes;
    static bool made;
    if (!made) {
        pthread_attr_init(&attributes);
        pthread_attr_setstacksize(&attributes, STRESS_STACK_BYTES);
        made = true;
    }
    return &attributes;
}

static bool createWorkers(void)
{
    for (unsigned i = 0; i < options.threads; i++) {
        Worker *worker = &game.workers[i];
        seedWorker(worker, i, i + 1);
        /* They begin at the gate, so that the first round is like the others. */
        int error = pthread_create(&worker->thread, stressThreadAttributes(), runWorker, worker);
        if (error != 0) {
            fail(NULL, "cannot create worker %u: %s", i, strerror(error));
            return false;
        }
    }
    return true;
}

void playRounds(void)
{
    seedWorker(&mainWorker, UINT32_MAX, 0);
    game.records = calloc(RECORDS, sizeof *game.records);
    atomic_store(&gate.ending, true);
    if (game.records == NULL || !createWorkers()) return;
    waitForWorkers();
    while (moreToDo()) playRound();
    openGate(true);
    for (unsigned i = 0; i < options.threads; i++) pthread_join(game.workers[i].thread, NULL);
    free(game.records);
}

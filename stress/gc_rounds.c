/* stress/gc: rounds.  A round starts the runtime, lets the mutators work, ends it, and counts what must come out exactly. */
#include "gc.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

Game game;

/* What is left when all is dropped: the shared array, and what an unlucky block of pinned arrays keeps. */
#define LITTLE (4u << 20)

/* ---- Hooks --------------------------------------------------------------------------------------------------------- */

static void noteError(void *ctx, RtsStatus status, const char *message)
{
    die(NULL, "the error hook hears %s: %s", rts_statusName(status), message);
}

static void noteLog(void *ctx, RtsLogLevel level, const char *line)
{
    if (level <= RTS_LOG_WARNING) fprintf(stderr, "stress: the runtime says: %s\n", line);
    if (level == RTS_LOG_ERROR) die(NULL, "the runtime reports an error");
}

static void noteCollection(void *ctx, const RtsCollection *c)
{
    EXPECT(NULL, c->number > 0 && c->pause_ns >= c->stop_ns, "collection %" PRIu64 ": stopped %" PRIu64 " ns, paused %" PRIu64 " ns",
           (uint64_t)c->number, (uint64_t)c->stop_ns, (uint64_t)c->pause_ns);
    atomic_fetch_add(&game.collections, 1);
}

static void noteUncaught(void *ctx, StgWord64 id, const char *label, HaskellObj exception, const char *text)
{
    die(NULL, "thread %" PRIu64 " ended by the exception %s", (uint64_t)id, text);
}

static bool startRuntime(void)
{
    char message[300] = "";
    RtsConfig config = RTS_CONFIG_INIT;
    config.capabilities = options.capabilities;
    config.nursery_bytes = options.nursery;
    config.heap_limit_bytes = options.limit;
    config.verify_heap = options.verifyHeap;
    config.poison_from_space = options.poison;
    config.no_membarrier = options.noMembarrier;
    config.debug_numa_nodes = options.debugNuma;
    config.idle_collection_us = 20000;
    config.errorHook = noteError;
    config.logHook = noteLog;
    config.gcDoneHook = noteCollection;
    config.uncaughtHook = noteUncaught;
    RtsStatus status = rts_start(&config, message, sizeof message);
    DEMAND(NULL, status == RTS_OK, "rts_start answers %s: %s", rts_statusName(status), message);
    return true;
}

/* ---- The mutators' threads ----------------------------------------------------------------------------------------- */

static void *runThread(void *arg)
{
    Mutator *m = arg;
    runInCalls(m);
    atomic_store(&m->ended, true);
    return NULL;
}

static void startThread(Mutator *m)
{
    int error = pthread_create(&m->thread, NULL, runThread, m);
    DEMAND(m, error == 0, "pthread_create: %s", strerror(error));
}

static void startManaged(Mutator *m)
{
    Capability *cap = rts_lock();
    StgTSO *tso = createIOThread(cap, 0, rts_apply(cap, &gcManaged_closure, rts_mkPtr(cap, m)));
    DEMAND(m, tso != NULL, "no memory for a thread");
    scheduleThreadOn(cap, m->number, tso);
    rts_unlock(cap);
}

/* Collections that nobody inside asks for. */
static void *askFromOutside(void *arg)
{
    uint64_t random = *(uint64_t *)arg;
    while (!atomic_load(&game.closing)) {
        sleepMicroseconds(below(&random, 2 * options.collectEvery + 1));
        if (majorIn(&random, 16)) majorFromOutside(NULL);
        else minorFromOutside(NULL);
    }
    return NULL;
}

/* ---- The beginning ------------------------------------------------------------------------------------------------- */

/* The shared array, and what a thunk looks like that has raised. */
static void makeFirst(void)
{
    Capability *cap = rts_lock();
    HaskellObj fields[3] = { CAPSTAN_SMALL_INT(BREW_RAISE), CAPSTAN_UNIT, CAPSTAN_UNIT }, thunk, v;
    rts_eval(&cap, &gcShared_closure, &v);
    DEMAND(NULL, rts_getSchedStatus(cap) == Success, "the shared CAF: status %d", (int)rts_getSchedStatus(cap));
    thunk = rts_mkClosure(cap, &gcLazy_info, fields);
    CAPSTAN_ROOTS(cap, thunk);
    rts_eval(&cap, thunk, &v);
    DEMAND(NULL, rts_getSchedStatus(cap) == Killed, "a raising thunk: status %d", (int)rts_getSchedStatus(cap));
    CAPSTAN_UNROOT(cap);
    learnRaising(thunk);
    if (atomic_load(&game.identity)) rts_makeStableName(cap, &gcShared_closure);
    rts_unlock(cap);
}

static void beginAll(uint64_t seed)
{
    atomic_store(&game.closing, false);
    for (unsigned i = 0; i < game.count; i++) beginRound(&game.mutators[i], seed);
    startRuntime();
    makeShapes();
    beginShared(game.round);
    makeFirst();
    for (unsigned i = 0; i < game.count; i++) {
        if (game.mutators[i].isManaged) startManaged(&game.mutators[i]);
        else startThread(&game.mutators[i]);
    }
}

/* ---- The end ------------------------------------------------------------------------------------------------------- */

static void drain(void)
{
    Capability *cap = rts_lock();
    drainShared(&cap);
    rts_unlock(cap);
}

static void awaitMutators(void)
{
    for (unsigned i = 0; i < options.threads; i++) pthread_join(game.mutators[i].thread, NULL);
    atomic_store(&game.closing, true);
    for (unsigned i = 0; i < game.count; i++)
        while (!atomic_load(&game.mutators[i].ended)) {
            drain();
            sleepMicroseconds(500);
        }
    while (atomic_load(&game.errands) > 0) sleepMicroseconds(200);
    drain();
}

static void dropGraphs(Mutator *m)
{
    if (!m->isManaged) dropKept(m);
    if (m->inner != NULL) dropGraphs(m->inner);
}

static unsigned countSleeping(const Mutator *m)
{
    unsigned n = m->inner != NULL ? countSleeping(m->inner) : 0;
    for (const Sleeper *s = m->sleepers; s != NULL; s = s->next) n += !atomic_load(&s->ended);
    return n;
}

static unsigned countFinalizers(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < 2 * game.count; i++) n += countUnfinalized(&game.mutators[i]);
    return n;
}

static unsigned countAllSleeping(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < game.count; i++) n += countSleeping(&game.mutators[i]);
    return n;
}

/* Nothing is left of any graph: parked threads are told, stable pointers and threads are gone. */
static void endCalmly(void)
{
    RtsCounts counts;
    RtsThreadCounts threads;
    for (unsigned i = 0; i < game.count; i++) dropGraphs(&game.mutators[i]);
    for (unsigned tries = 0; countAllSleeping() + countFinalizers() > 0 && tries < 2000; tries++) {
        majorFromOutside(NULL);
        sleepMicroseconds(1000);
    }
    EXPECT(NULL, countAllSleeping() == 0, "%u parked threads were not told that nobody can wake them", countAllSleeping());
    EXPECT(NULL, countFinalizers() == 0, "%u finalizers have not run", countFinalizers());
    for (unsigned tries = 0; tries < 5000; tries++) {
        rts_getThreadCounts(&threads);
        rts_getCounts(&counts);
        if (threads.threads == 0 && counts.stable_ptrs == 0) break;
        sleepMicroseconds(1000);
    }
    EXPECT(NULL, threads.threads == 0 && counts.stable_ptrs == 0, "all graphs are dropped: %" PRIu64 " threads, %" PRIu64
           " stable pointers are left", (uint64_t)threads.threads, (uint64_t)counts.stable_ptrs);
    majorFromOutside(NULL);
    rts_getCounts(&counts);
    EXPECT(NULL, counts.live_bytes < LITTLE + 2 * options.ballast, "all graphs are dropped: %" PRIu64 " bytes live", (uint64_t)counts.live_bytes);
}

/* After the runtime's end: everything was released once; nothing is needed any more. */
static void settle(Mutator *m)
{
    for (External *e = m->externals, *next; e != NULL; e = next) {
        next = e->next;
        EXPECT(m, atomic_load(&e->released) == 1, "an external array was released %d times", atomic_load(&e->released));
        free(e->bytes);
        free(e);
    }
    for (Sleeper *s = m->sleepers, *next; s != NULL; s = next) {
        next = s->next;
        free(s);
    }
    m->externals = NULL;
    settleWeaks(m);
    m->sleepers = NULL;
    clearMirror(m);
    if (m->inner != NULL) settle(m->inner);
}

static void playRound(uint64_t *random)
{
    uint64_t seed = nextRandom(random), asker = nextRandom(random);
    pthread_t outside;
    atomic_fetch_add(&game.round, 1);
    atomic_store(&game.abrupt, oneIn(random, 3));
    atomic_store(&game.rarely, !oneIn(random, 3));
    atomic_store(&game.identity, atomic_load(&game.round) % 2 == 0);
    beginAll(seed);
    bool asked = options.collectEvery != 0 && pthread_create(&outside, NULL, askFromOutside, &asker) == 0;
    awaitMutators();
    if (asked) pthread_join(outside, NULL);
    if (!atomic_load(&game.abrupt)) endCalmly();
    checkShared();
    hs_exit();
    for (unsigned i = 0; i < game.count; i++) settle(&game.mutators[i]);
}

/* ---- All rounds ---------------------------------------------------------------------------------------------------- */

bool createMutators(void)
{
    game.count = options.threads + options.managed;
    game.mutators = calloc(2 * game.count, sizeof *game.mutators);
    if (game.mutators == NULL) return false;
    for (unsigned i = 0; i < 2 * game.count; i++) {
        Mutator *m = &game.mutators[i];
        m->isInner = i >= game.count;
        m->number = i % game.count;
        m->isManaged = !m->isInner && i >= options.threads;
        m->inner = m->isInner ? NULL : &game.mutators[i + game.count];
        if (!initMirror(m)) return false;
    }
    return true;
}

void freeMutators(void)
{
    for (unsigned i = 0; i < 2 * game.count; i++) freeMirror(&game.mutators[i]);
    free(game.mutators);
}

void playRounds(void)
{
    uint64_t random = options.seed;
    do playRound(&random);
    while (!atomic_load(&game.stop) && (options.rounds == 0 || game.round < options.rounds) && options.steps != 0);
}

/* stress/sched: rounds.  A round starts the runtime, lets the C threads play, and ends the runtime, calmly or under them. */
#include "sched.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

Game game = { .phase = 1 };

static uint64_t mainRandom;
static _Atomic unsigned roundNumber;

/* Where players wait between rounds. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned waiting;     /* players that have arrived */
    unsigned round;       /* the one they may play */
    bool over;            /* there will be no other */
    _Atomic bool ending;  /* no new scene in this round */
} gate = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

unsigned countRounds(void) { return roundNumber; }

void noteStep(Player *player) { atomic_fetch_add_explicit(&player->steps, 1, memory_order_relaxed); }

static void sleepMicroseconds(int64_t us)
{
    struct timespec time = { us / 1000000, us % 1000000 * 1000 };
    nanosleep(&time, NULL);
}

/* ---- Hooks --------------------------------------------------------------------------------------------------------- */

static void noteError(void *ctx, RtsStatus status, const char *message)
{
    bool late = status == RTS_NOT_STARTED || status == RTS_CLOSED || status == RTS_BAD_STABLE_PTR;
    EXPECT(NULL, late && game.mode != RESTART_CALM, "the error hook hears %s: %s", rts_statusName(status), message);
}

static void noteClosed(void *ctx, RtsStatus why)
{
    EXPECT(NULL, game.mode != RESTART_CALM, "the closed hook hears %s", rts_statusName(why));
}

static void noteCollection(void *ctx, const RtsCollection *collection) { atomic_fetch_add(&game.collections, 1); }

static void noteLog(void *ctx, RtsLogLevel level, const char *line)
{
    if (level <= RTS_LOG_WARNING) fprintf(stderr, "stress: the runtime says: %s\n", line);
}

/* Actors catch everything. */
static void noteUncaught(void *ctx, StgWord64 id, const char *label, HaskellObj exception, const char *text)
{
    bool quiet = exception == &capstan_ThreadKilled_closure || exception == &capstan_BlockedIndefinitelyOnMVar_closure ||
                 exception == &capstan_NonTermination_closure;
    if (!quiet || strcmp(label, FLY_LABEL) != 0) fail(NULL, "thread %" PRIu64 " ended by the exception %s", (uint64_t)id, text);
}

/* Of throws nothing but the number. */
static bool showThrow(void *ctx, HaskellObj exception, char *text, size_t size)
{
    if (throwOf(exception) < 0) return false;
    snprintf(text, size, "%d", throwOf(exception));
    return true;
}

/* ---- Start and end ------------------------------------------------------------------------------------------------- */

static bool startRuntime(void)
{
    char message[300] = "";
    RtsConfig config = RTS_CONFIG_INIT;
    config.capabilities = options.capabilities;
    config.nursery_bytes = options.nursery;
    config.verify_heap = options.verifyHeap;
    config.poison_from_space = options.poison;
    config.no_membarrier = options.noMembarrier;
    config.idle_collection_us = 20000;
    config.interrupt_signal = SIGRTMIN + 4;
    config.submit_queue = 32;
    config.showExceptionHook = showThrow;
    config.errorHook = noteError;
    config.closedHook = noteClosed;
    config.gcDoneHook = noteCollection;
    config.logHook = noteLog;
    config.uncaughtHook = noteUncaught;
    RtsStatus status = rts_start(&config, message, sizeof message);
    EXPECT(NULL, status == RTS_OK, "rts_start answers %s: %s", rts_statusName(status), message);
    return status == RTS_OK;
}

static bool beginEpoch(void)
{
    if (!startRuntime()) return false;
    atomic_fetch_add(&game.phase, 1);
    return true;
}

static void endEpoch(void)
{
    if (atomic_load(&game.phase) % 2 == 0) atomic_fetch_add(&game.phase, 1);
    hs_exit();
    atomic_store(&game.ends, (atomic_load(&game.phase) + 1) / 2);
}

/* ---- The gate ------------------------------------------------------------------------------------------------------ */

bool roundIsOver(Player *player)
{
    if (atomic_load(&game.stop) || atomic_load(&gate.ending)) return true;
    if (options.iters != 0 && player->iterations >= options.iters) return true;
    return game.mode == RESTART_CALM && options.restartEvery != 0 && player->roundIterations >= options.restartEvery;
}

static bool waitForNextRound(Player *player)
{
    pthread_mutex_lock(&gate.lock);
    unsigned round = gate.round;
    atomic_store(&player->arrived, true);
    gate.waiting++;
    pthread_cond_broadcast(&gate.changed);
    while (gate.round == round && !gate.over) pthread_cond_wait(&gate.changed, &gate.lock);
    atomic_store(&player->arrived, false);
    player->roundIterations = 0;
    bool more = !gate.over;
    pthread_mutex_unlock(&gate.lock);
    return more;
}

static void waitForPlayers(void)
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

static void *runPlayer(void *arg)
{
    Player *player = arg;
    while (waitForNextRound(player)) {
        while (!roundIsOver(player)) {
            rts_setInCallHosting(!oneIn(&player->random, 8));
            if (oneIn(&player->random, 3)) visitScene(player);
            else playScene(player);
            player->iterations++;
            player->roundIterations++;
            if (oneIn(&player->random, 50)) hs_thread_done();
        }
    }
    return NULL;
}

/* ---- One round ----------------------------------------------------------------------------------------------------- */

static void letRun(int64_t us)
{
    for (; us > 0 && !atomic_load(&game.stop) && !allArrived(); us -= 500) sleepMicroseconds(us < 500 ? us : 500);
}

/* The runtime ends under the players; in the overlapping kind they see it start again, several times. */
static void endRoughly(void)
{
    letRun(below(&mainRandom, 300000));
    for (unsigned n = 2 + below(&mainRandom, 8); game.mode == RESTART_OVERLAP && n > 0; n--) {
        endEpoch();
        if (oneIn(&mainRandom, 2)) sleepMicroseconds(below(&mainRandom, 3000));
        if (!beginEpoch()) break;
        letRun(below(&mainRandom, 100000));
    }
    endEpoch();
    if (oneIn(&mainRandom, 2)) sleepMicroseconds(below(&mainRandom, 3000));
    atomic_store(&gate.ending, true);
    waitForPlayers();
}

/* All scenes are over: their threads are on their way out, and nothing is left of them. */
static void expectNoThreads(void)
{
    RtsThreadCounts counts;
    for (unsigned tries = 0; tries < 5000; tries++) {
        rts_getThreadCounts(&counts);
        if (counts.threads == 0 && counts.hosts == 0 && counts.in_safe_calls == 0 && counts.stacks_in_use == 0) return;
        sleepMicroseconds(1000);
    }
    fail(NULL, "all scenes are over: %" PRIu64 " threads, %u hosts, %u in safe calls, %" PRIu64 " stacks in use", (uint64_t)counts.threads,
         counts.hosts, counts.in_safe_calls, (uint64_t)counts.stacks_in_use);
}

/* All players wait at the gate. */
static void endCalmly(void)
{
    RtsCounts counts;
    waitForPlayers();
    expectNoThreads();
    rts_getCounts(&counts);
    EXPECT(NULL, counts.stable_ptrs == 0, "%" PRIu64 " stable pointers are left", counts.stable_ptrs);
    endEpoch();
}

static bool moreToDo(void)
{
    if (atomic_load(&game.stop)) return false;
    if (options.iters == 0) return true;
    for (unsigned i = 0; i < options.threads; i++)
        if (game.players[i].iterations < options.iters) return true;
    return false;
}

static void playRound(void)
{
    roundNumber++;
    bool last = options.restartEvery == 0;
    game.mode = last ? RESTART_CALM : options.restartMode == RESTART_MIXED ? (int)below(&mainRandom, 3) : (int)options.restartMode;
    if (!beginEpoch()) return;
    openGate(false);
    if (game.mode == RESTART_CALM) endCalmly();
    else endRoughly();
    Capability *cap = NULL;
    EXPECT(NULL, rts_tryLock(&cap) == RTS_NOT_STARTED, "the runtime answers after its end");
}

/* ---- All rounds ---------------------------------------------------------------------------------------------------- */

static bool createPlayers(void)
{
    for (unsigned i = 0; i < options.threads; i++) {
        Player *player = &game.players[i];
        player->number = i;
        player->random = options.seed ^ ((i + 1) * 0xd1342543de82ef95u);
        nextRandom(&player->random);
        player->scene = newScene(player);
        int error = player->scene == NULL ? ENOMEM : 0;
        if (error == 0) continue;
        fail(NULL, "cannot create player %u: %s", i, strerror(error));
        return false;
    }
    for (unsigned i = 0; i < options.threads; i++)
        if (pthread_create(&game.players[i].thread, NULL, runPlayer, &game.players[i]) != 0) abort();
    return true;
}

void playRounds(void)
{
    mainRandom = options.seed;
    atomic_store(&gate.ending, true);
    if (!createPlayers()) return;
    waitForPlayers();
    while (moreToDo()) playRound();
    openGate(true);
    for (unsigned i = 0; i < options.threads; i++) pthread_join(game.players[i].thread, NULL);
}

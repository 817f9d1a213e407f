/* stress/sched: what is printed while it runs, failures, and the watchdog. */
#include "sched.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define TICKS_PER_SECOND 10
#define SHOWN_FAILURES 20

static pthread_t watcher;
static _Atomic bool watching;

/* ---- Failures ------------------------------------------------------------------------------------------------------ */

void fail(const Scene *scene, const char *format, ...)
{
    char text[500];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    atomic_store(&game.stop, true);
    if (atomic_fetch_add(&game.failures, 1) < SHOWN_FAILURES) {
        if (scene == NULL) fprintf(stderr, "stress: round %u: %s\n", countRounds(), text);
        else fprintf(stderr, "stress: round %u, scene of player %u: %s\n", countRounds(), scene->owner->number, text);
    }
    if (getenv("STRESS_ABORT") != NULL) abort(); /* for a debugger */
}

/* ---- Progress ------------------------------------------------------------------------------------------------------ */

static uint64_t sumSteps(void)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < options.threads; i++) sum += atomic_load(&game.players[i].steps);
    return sum;
}

static void printProgress(unsigned second)
{
    static uint64_t before;
    uint64_t steps = sumSteps();
    fprintf(stderr, "stress: %u s, round %u (%s), %" PRIu64 " steps (+%" PRIu64 "), %" PRIu64 " collections\n", second,
            countRounds(), restartNames[game.mode], steps, steps - before, atomic_load(&game.collections));
    before = steps;
}

/* ---- The watchdog -------------------------------------------------------------------------------------------------- */

static void putLine(void *ctx, const char *line) { fprintf(ctx, "  %s\n", line); }

static void dumpScene(const Scene *scene)
{
    static const char *const kinds[] = { "owner", "forked", "nested", "guest", "forked with its OS thread", "run bound", "submitted", "leaver" };
    fprintf(stderr, "    scene: seed %" PRIu64 ", %s%s, %u actors, %u ended, %u helpers, %u in C, %u guests, %u submissions\n", scene->seed,
            scene->open ? "open" : "closed", scene->lost ? ", lost" : "", scene->begun, atomic_load(&scene->ended),
            atomic_load(&scene->helpers), atomic_load(&scene->inC),
            atomic_load(&scene->guests), atomic_load(&scene->submits));
    for (unsigned i = 0; i < scene->begun; i++) {
        const Slot *slot = &scene->slots[i];
        if (slot->ended) continue;
        fprintf(stderr, "      actor %u: %s, %s, step %" PRIu64 " of %u: %s\n", i, kinds[slot->kind],
                slot->registered ? "on the board" : "not yet on the board", atomic_load(&slot->done), slot->steps,
                stepNames[atomic_load(&slot->doing)]);
    }
    for (unsigned i = 0; i < scene->thrown && i < MAX_THROWS; i++)
        if (scene->throws[i].outcome == THROW_PENDING)
            fprintf(stderr, "      throw %u at actor %d is pending, received %d times%s\n", i, scene->throws[i].target,
                    scene->throws[i].received, scene->throws[i].last ? ", by the reaper" : "");
}

__attribute__((noreturn)) static void giveUp(const char *who)
{
    fprintf(stderr, "stress: no progress of %s for %u s (round %u, %s, phase %" PRIu64 ")\n", who, options.patience,
            countRounds(), restartNames[game.mode], atomic_load(&game.phase));
    for (unsigned i = 0; i < options.threads; i++) {
        Player *player = &game.players[i];
        fprintf(stderr, "  player %u%s, %" PRIu64 " steps\n", i,
                atomic_load(&player->arrived) ? " (waits for the next round)" : "", atomic_load(&player->steps));
        if (player->scene != NULL && !player->arrived) dumpScene(player->scene);
    }
    rts_dump(putLine, stderr);
    fprintf(stderr, "stress: FAILED: hangs; replay: ");
    printReplay(stderr);
    fflush(NULL);
    if (getenv("STRESS_STAY") != NULL) sleep(3600); /* for a debugger */
    _exit(3);
}

/* How long nothing, and each player, has not moved, in ticks.  One player may wait three times as long as all. */
typedef struct { uint64_t steps; unsigned still; } Pulse;

static unsigned beat(Pulse *pulse, uint64_t steps)
{
    pulse->still = pulse->steps == steps ? pulse->still + 1 : 0;
    pulse->steps = steps;
    return pulse->still;
}

static void feelPulses(Pulse *all, Pulse *each)
{
    char name[40];
    unsigned limit = options.patience * TICKS_PER_SECOND;
    if (beat(all, sumSteps() + countRounds() + atomic_load(&game.phase)) > limit) giveUp("anybody");
    for (unsigned i = 0; i < options.threads; i++) {
        Player *player = &game.players[i];
        if (atomic_load(&player->arrived)) each[i].still = 0;
        snprintf(name, sizeof name, "player %u", i);
        if (beat(&each[i], atomic_load(&player->steps)) > 3 * limit) giveUp(name);
    }
}

static void *watch(void *arg)
{
    Pulse all = { 0, 0 }, *each = arg;
    struct timespec tick = { 0, 1000000000 / TICKS_PER_SECOND };
    for (unsigned ticks = 1; atomic_load(&watching); ticks++) {
        nanosleep(&tick, NULL);
        if (options.seconds > 0 && ticks >= options.seconds * TICKS_PER_SECOND) atomic_store(&game.stop, true);
        feelPulses(&all, each);
        if (!options.quiet && ticks % TICKS_PER_SECOND == 0) printProgress(ticks / TICKS_PER_SECOND);
    }
    free(each);
    return NULL;
}

void startWatch(void)
{
    Pulse *each = calloc(options.threads, sizeof *each);
    atomic_store(&watching, true);
    if (each == NULL || pthread_create(&watcher, NULL, watch, each) != 0) {
        fputs("stress: cannot start the watchdog\n", stderr);
        exit(1);
    }
}

void stopWatch(void)
{
    atomic_store(&watching, false);
    pthread_join(watcher, NULL);
}

/* stress/incall: what is printed while it runs, failures, and the watchdog. */
#include "incall.h"

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

void fail(Worker *worker, const char *format, ...)
{
    char text[500];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    atomic_store(&game.stop, true);
    if (atomic_fetch_add(&game.failures, 1) >= SHOWN_FAILURES) return;
    if (worker == NULL) fprintf(stderr, "stress: round %u: %s\n", countRounds(), text);
    else
        fprintf(stderr, "stress: round %u, worker %u%s, %s: %s\n", countRounds(), worker->number,
                worker->host != NULL ? "'s visitor" : "", actionNames[atomic_load(&worker->doing)], text);
}

/* ---- Progress ------------------------------------------------------------------------------------------------------ */

static uint64_t sumAllSteps(void)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < options.threads; i++) sum += atomic_load(&game.workers[i].steps);
    return sum;
}

static void printProgress(unsigned second)
{
    static uint64_t before;
    uint64_t steps = sumAllSteps();
    RtsCounts counts;
    rts_getCounts(&counts);
    fprintf(stderr, "stress: %u s, round %u (%s%s), %" PRIu64 " steps (+%" PRIu64 "), %" PRIu64
            " collections, %.1f MiB live\n", second, countRounds(), restartNames[game.mode],
            game.limited ? ", limited" : "", steps, steps - before, atomic_load(&game.collections),
            (double)counts.live_bytes / (1 << 20));
    before = steps;
}

/* ---- The watchdog -------------------------------------------------------------------------------------------------- */

static void putLine(void *ctx, const char *line)
{
    fprintf(ctx, "  %s\n", line);
}

__attribute__((noreturn)) static void giveUp(const char *who)
{
    fprintf(stderr, "stress: no progress of %s for %u s (round %u, %s, phase %" PRIu64 ")\n", who, options.patience,
            countRounds(), restartNames[game.mode], atomic_load(&game.phase));
    for (unsigned i = 0; i < options.threads; i++) {
        Worker *worker = &game.workers[i];
        fprintf(stderr, "  worker %u: %s%s, %" PRIu64 " steps\n", i, actionNames[atomic_load(&worker->doing)],
                atomic_load(&worker->arrived) ? " (waits for the next round)" : "", atomic_load(&worker->steps));
    }
    rts_dump(putLine, stderr);
    fprintf(stderr, "stress: FAILED: hangs; replay: ");
    printReplay(stderr);
    fflush(NULL);
    if (getenv("STRESS_STAY") != NULL) sleep(3600); /* for a debugger */
    _exit(3);
}

/* How long nothing, and each worker, has not moved, in ticks. One worker may wait three times as long as all. */
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
    if (beat(all, sumAllSteps() + countRounds()) > limit) giveUp("anybody");
    for (unsigned i = 0; i < options.threads; i++) {
        Worker *worker = &game.workers[i];
        if (atomic_load(&worker->arrived)) each[i].still = 0;
        snprintf(name, sizeof name, "worker %u", i);
        if (beat(&each[i], atomic_load(&worker->steps)) > 3 * limit) giveUp(name);
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

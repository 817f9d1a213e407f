/* stress/gc: what is printed while it runs, failures, and the watchdog. */
#include "gc.h"

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

static void show(const Mutator *m, const char *format, va_list args)
{
    char text[800];
    vsnprintf(text, sizeof text, format, args);
    if (m == NULL)
        fprintf(stderr, "stress: round %u, collection %" PRIu64 ": %s\n", game.round, atomic_load(&game.collections), text);
    else
        fprintf(stderr, "stress: round %u, %s%s mutator %u, step %" PRIu64 " (\"%s\"), collection %" PRIu64 ": %s\n", game.round,
                m->isInner ? "inner " : "", m->isManaged ? "managed" : "C", m->number, m->stepsDone, stepNames[m->doing],
                atomic_load(&game.collections), text);
}

void fail(const Mutator *m, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    atomic_store(&game.stop, true);
    if (atomic_fetch_add(&game.failures, 1) < SHOWN_FAILURES) show(m, format, args);
    va_end(args);
    if (getenv("STRESS_ABORT") != NULL) abort(); /* for a debugger */
}

/* Several mutators may find it at once: they are shown one after the other, until the first has ended the program. */
void die(const Mutator *m, const char *format, ...)
{
    static pthread_mutex_t dying = PTHREAD_MUTEX_INITIALIZER;
    va_list args;
    pthread_mutex_lock(&dying);
    va_start(args, format);
    show(m, format, args);
    va_end(args);
    if (getenv("STRESS_ABORT") != NULL) abort();
    if (getenv("STRESS_STAY") != NULL) sleep(3600);
    fprintf(stderr, "stress: FAILED; replay: ");
    printReplay(stderr);
    fflush(NULL);
    _exit(1);
}

/* ---- Progress ------------------------------------------------------------------------------------------------------ */

static uint64_t sumSteps(void)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < 2 * game.count; i++) sum += atomic_load(&game.mutators[i].progress);
    return sum;
}

static void printProgress(unsigned second)
{
    static uint64_t stepsBefore, collectionsBefore;
    uint64_t steps = sumSteps(), collections = atomic_load(&game.collections);
    RtsCounts counts;
    rts_getCounts(&counts);
    fprintf(stderr, "stress: %u s, round %u, %" PRIu64 " steps (+%" PRIu64 "), %" PRIu64 " collections (+%" PRIu64 "), %.1f MB live\n",
            second, game.round, steps, steps - stepsBefore, collections, collections - collectionsBefore, (double)counts.live_bytes * 1e-6);
    stepsBefore = steps;
    collectionsBefore = collections;
}

/* ---- The watchdog -------------------------------------------------------------------------------------------------- */

static void putLine(void *ctx, const char *line) { fprintf(ctx, "  %s\n", line); }

__attribute__((noreturn)) static void giveUp(void)
{
    fprintf(stderr, "stress: no progress for %u s (round %u%s)\n", options.patience, game.round, game.closing ? ", closing" : "");
    for (unsigned i = 0; i < 2 * game.count; i++) {
        const Mutator *m = &game.mutators[i];
        if (m->isInner && m->progress == 0) continue;
        fprintf(stderr, "  %s%s mutator %u: %" PRIu64 " steps in this round, \"%s\"%s, %u parked\n", m->isInner ? "inner " : "",
                m->isManaged ? "managed" : "C", m->number, m->stepsDone, stepNames[m->doing], m->ended ? ", ended" : "", m->awake);
    }
    rts_dump(putLine, stderr);
    fprintf(stderr, "stress: FAILED: hangs; replay: ");
    printReplay(stderr);
    fflush(NULL);
    if (getenv("STRESS_STAY") != NULL) sleep(3600); /* for a debugger */
    _exit(3);
}

static void *watch(void *unused)
{
    struct timespec tick = { 0, 1000000000 / TICKS_PER_SECOND };
    uint64_t before = 0;
    unsigned still = 0;
    for (unsigned ticks = 1; atomic_load(&watching); ticks++) {
        nanosleep(&tick, NULL);
        if (options.seconds > 0 && ticks >= options.seconds * TICKS_PER_SECOND) atomic_store(&game.stop, true);
        uint64_t now = sumSteps() + game.round + game.closing;
        still = now == before ? still + 1 : 0;
        before = now;
        if (still > options.patience * TICKS_PER_SECOND) giveUp();
        if (!options.quiet && ticks % TICKS_PER_SECOND == 0) printProgress(ticks / TICKS_PER_SECOND);
    }
    return NULL;
}

void startWatch(void)
{
    atomic_store(&watching, true);
    if (pthread_create(&watcher, NULL, watch, NULL) != 0) {
        fputs("stress: cannot start the watchdog\n", stderr);
        exit(1);
    }
}

void stopWatch(void)
{
    atomic_store(&watching, false);
    pthread_join(watcher, NULL);
}

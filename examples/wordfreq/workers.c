#include "workers.h"
#include "Rts.h"
#include "incall.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { TICK_TERMINAL_NS = 200000000, TICK_FILE_NS = 1000000000 };

/* Ownership: the main thread makes it, all threads share it. */
typedef struct {
    const Text *text;
    atomic_uint_fast64_t turn;  /* [atomic] relaxed: the next chunk to read */
    atomic_uint stop;           /* [atomic] relaxed: something went wrong */
    pthread_mutex_t lock;
    pthread_cond_t ended;       /* [lock] signalled with each thread that ends */
    unsigned running;           /* [lock] */
    char *problem;              /* [lock] the first one stays */
} Team;

/* Ownership: its thread; the main thread reads the atomics at any time and the rest when the thread has ended. */
typedef struct {
    _Alignas(64) Team *team;
    pthread_t thread;
    atomic_uint_fast64_t calls, words;  /* [atomic] relaxed */
    uint64_t largestNs;
    Histogram latency;
} Worker;

static uint64_t nowNs(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- A worker ----------------------------------------------------------------------------------------------------- */

static void reportProblem(Team *team, const char *problem)
{
    pthread_mutex_lock(&team->lock);
    if (!atomic_exchange_explicit(&team->stop, true, memory_order_relaxed)) strcpy(team->problem, problem);
    pthread_mutex_unlock(&team->lock);
}

static bool countChunk(Worker *worker, const Chunk *chunk, Buffer *buffer, char *problem)
{
    if (!readChunk(worker->team->text, chunk, buffer, problem)) return false;
    if (buffer->length == 0) return true;
    uint64_t begin = nowNs();
    int64_t words = countText(buffer, chunk->external, problem);
    uint64_t ns = nowNs() - begin;
    if (words < 0) return false;
    recordValue(&worker->latency, ns);
    if (ns > worker->largestNs) worker->largestNs = ns;
    atomic_fetch_add_explicit(&worker->calls, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&worker->words, (uint64_t)words, memory_order_relaxed);
    return true;
}

static void *work(void *arg)
{
    Worker *worker = arg;
    Team *team = worker->team;
    Buffer buffer = { 0 };
    char problem[PROBLEM_SIZE];
    uint64_t turn, turns = countChunks(team->text);
    while (!atomic_load_explicit(&team->stop, memory_order_relaxed) &&
           (turn = atomic_fetch_add_explicit(&team->turn, 1, memory_order_relaxed)) < turns)
        if (!countChunk(worker, chunkOfTurn(team->text, turn), &buffer, problem)) reportProblem(team, problem);
    free(buffer.block);
    hs_thread_done();
    pthread_mutex_lock(&team->lock);
    team->running--;
    pthread_cond_signal(&team->ended);
    pthread_mutex_unlock(&team->lock);
    return NULL;
}

/* ---- The team ----------------------------------------------------------------------------------------------------- */

static void showProgress(const Team *team, const Worker *workers, unsigned count, uint64_t beginNs, bool terminal)
{
    uint64_t calls = 0, words = 0, turns = countChunks(team->text);
    uint64_t turn = atomic_load_explicit(&team->turn, memory_order_relaxed);
    for (unsigned i = 0; i < count; i++) {
        calls += atomic_load_explicit(&workers[i].calls, memory_order_relaxed);
        words += atomic_load_explicit(&workers[i].words, memory_order_relaxed);
    }
    double seconds = (double)(nowNs() - beginNs) / 1e9;
    RtsCounts counts;
    rts_getCounts(&counts);
    fprintf(stderr, "%swordfreq: %llu%% of %llu chunks, %llu words, %.0f calls/s, %llu collections%s", terminal ? "\r" : "",
            (unsigned long long)((turn < turns ? turn : turns) * 100 / (turns > 0 ? turns : 1)), (unsigned long long)turns,
            (unsigned long long)words, (double)calls / (seconds > 0 ? seconds : 1),
            (unsigned long long)counts.collections, terminal ? "\033[K" : "\n");
}

/* Waits for all threads to end, showing progress if asked. */
static void watchTeam(Team *team, const Worker *workers, unsigned count, bool quiet)
{
    bool terminal = isatty(STDERR_FILENO) != 0, shown = false;
    uint64_t begin = nowNs(), tick = terminal ? TICK_TERMINAL_NS : TICK_FILE_NS, next = begin + tick;
    pthread_mutex_lock(&team->lock);
    while (team->running > 0) {
        struct timespec until = { (time_t)(next / 1000000000u), (long)(next % 1000000000u) };
        if (quiet) pthread_cond_wait(&team->ended, &team->lock);
        else if (pthread_cond_timedwait(&team->ended, &team->lock, &until) == ETIMEDOUT) {
            pthread_mutex_unlock(&team->lock);
            showProgress(team, workers, count, begin, terminal);
            shown = true;
            next += tick;
            pthread_mutex_lock(&team->lock);
        }
    }
    pthread_mutex_unlock(&team->lock);
    if (shown && terminal) fputs("\r\033[K", stderr);
}

/* Starts the threads; if one cannot be started, the others stop. */
static unsigned startWorkers(Team *team, Worker *workers, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        char problem[PROBLEM_SIZE];
        workers[i].team = team;
        pthread_mutex_lock(&team->lock);
        team->running++;
        pthread_mutex_unlock(&team->lock);
        int error = pthread_create(&workers[i].thread, NULL, work, &workers[i]);
        if (error == 0) continue;
        pthread_mutex_lock(&team->lock);
        team->running--;
        pthread_mutex_unlock(&team->lock);
        snprintf(problem, sizeof problem, "thread %u of %u cannot be started: %s", i + 1, count, strerror(error));
        reportProblem(team, problem);
        return i;
    }
    return count;
}

static void addUp(Work *total, Worker *workers, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        pthread_join(workers[i].thread, NULL);
        total->calls += atomic_load_explicit(&workers[i].calls, memory_order_relaxed);
        total->words += atomic_load_explicit(&workers[i].words, memory_order_relaxed);
        if (workers[i].largestNs > total->largestNs) total->largestNs = workers[i].largestNs;
        addHistogram(&total->latency, &workers[i].latency);
    }
}

static void initTeam(Team *team, const Text *text, char *problem)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    *team = (Team){ .text = text, .problem = problem };
    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->ended, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

bool runWorkers(const Text *text, const Options *options, Work *total, char *problem)
{
    Team team;
    size_t size = sizeof(Worker) * options->workers;
    Worker *workers = aligned_alloc(_Alignof(Worker), size);
    if (workers == NULL) {
        snprintf(problem, PROBLEM_SIZE, "no memory for %u threads", options->workers);
        return false;
    }
    memset(workers, 0, size);
    memset(total, 0, sizeof *total);
    initTeam(&team, text, problem);
    uint64_t begin = nowNs();
    unsigned count = startWorkers(&team, workers, options->workers);
    watchTeam(&team, workers, count, options->quiet);
    addUp(total, workers, count);
    total->seconds = (double)(nowNs() - begin) / 1e9;
    pthread_cond_destroy(&team.ended);
    pthread_mutex_destroy(&team.lock);
    free(workers);
    return !atomic_load_explicit(&team.stop, memory_order_relaxed);
}

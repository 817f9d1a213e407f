/* Host of the in-call benchmarks (figures B1, B1a, B2, B2-1, B2-p, B2-w), linked with one subject.
 *
 *     incall-SUBJECT FIGURE [--capabilities=N] [--threads=N] [--seconds=S] [--rounds=N] [--calls=N]
 *
 * prints `metric<TAB>value<TAB>unit` a line:
 *     roundtrip    ns of one call from one attached thread: the fastest batch
 *     firstcall    ns of a new thread's first call and detach, beyond making and joining the thread
 *     throughput   million calls a second of all threads together
 *     latency      p50, p99, p99.9 and largest of one call in us, one clock reading included, and how evenly threads are served
 *     calibrate    the rounds of subjectWork that take about 1 us
 *     work         million calls a second of subjectWork(--rounds)
 *     count        makes exactly --calls calls and prints nothing (for counting instructions)
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* processor sets */
#endif
#include "callers.h"
#include "clock.h"
#include "subject.h"
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 10000
#define MAX_PAIRS 200000
#define WORK_NS 1000.0

typedef struct Options {
    const char *figure;
    int capabilities;
    int threads;
    double seconds;
    int64_t rounds;
    int64_t calls;
} Options;

static void giveUp(const char *what)
{
    fprintf(stderr, "bench: %s\n", what);
    exit(1);
}

static void printFigure(const char *metric, double value, const char *unit)
{
    printf("%s\t%.6g\t%s\n", metric, value, unit);
}

static double timeBatch(int64_t calls)
{
    uint64_t start = nowNs();
    for (int64_t i = 0; i < calls; i++)
        if (subjectCall(i) != i + 1) giveUp("a call returned a wrong value");
    return (double)(nowNs() - start) / (double)calls;
}

static int measureRoundTrip(const Options *o)
{
    uint64_t warm = nowNs() + 100000000u;
    while (nowNs() < warm) timeBatch(BATCH);
    uint64_t end = nowNs() + (uint64_t)(o->seconds * 1e9);
    double best = timeBatch(BATCH);
    while (nowNs() < end) {
        double ns = timeBatch(BATCH);
        if (ns < best) best = ns;
    }
    printFigure("round_trip", best, "ns");
    return 0;
}

static void *callOnce(void *unused)
{
    (void)unused;
    if (subjectAttach() != 0 || subjectCall(1) != 2) giveUp("the first call of a new thread failed");
    subjectDetach();
    return NULL;
}

static void *callNever(void *unused)
{
    return unused;
}

static double timeThread(void *(*body)(void *))
{
    pthread_t thread;
    uint64_t start = nowNs();
    if (pthread_create(&thread, NULL, body, NULL) != 0) giveUp("cannot create a thread");
    pthread_join(thread, NULL);
    return (double)(nowNs() - start);
}

static int compareDoubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double lowerQuartile(double *values, size_t count)
{
    qsort(values, count, sizeof *values, compareDoubles);
    return values[count / 4];
}

/* On one processor the new thread runs when its maker sleeps, and no wake-up crosses processors: a quarter of the spread. */
static void stayOnThisProcessor(void)
{
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET((size_t)sched_getcpu(), &here);
    if (pthread_setaffinity_np(pthread_self(), sizeof here, &here) != 0) fprintf(stderr, "bench: cannot pin the thread\n");
}

/* A thread costs ten times what is measured here, and on some occasions far more: hence both kinds in turn, first the one and
 * then the other in front, and the difference of their lower quartiles, which repeats better than medians do. */
static int measureFirstCall(const Options *o)
{
    double *calling = malloc(MAX_PAIRS * sizeof *calling), *idle = malloc(MAX_PAIRS * sizeof *idle);
    if (calling == NULL || idle == NULL) giveUp("out of memory");
    stayOnThisProcessor();
    for (int i = 0; i < 200; i++) timeThread(i & 1 ? callOnce : callNever);
    uint64_t end = nowNs() + (uint64_t)(o->seconds * 1e9);
    size_t count = 0;
    for (; count == 0 || (count < MAX_PAIRS && nowNs() < end); count++) {
        if (count & 1) idle[count] = timeThread(callNever);
        calling[count] = timeThread(callOnce);
        if (!(count & 1)) idle[count] = timeThread(callNever);
    }
    printFigure("first_call", lowerQuartile(calling, count) - lowerQuartile(idle, count), "ns");
    free(calling);
    free(idle);
    return 0;
}

static int measureThroughput(const Options *o, CallKind kind)
{
    static CallerTotals totals;
    CallerPlan plan = {.kind = kind, .threads = o->threads, .seconds = o->seconds, .rounds = o->rounds};
    if (runCallers(&plan, &totals) != 0) return 1;
    printFigure("calls", (double)totals.calls / totals.seconds / 1e6, "M/s");
    return 0;
}

static int measureLatency(const Options *o)
{
    static CallerTotals totals;
    CallerPlan plan = {.kind = CALL_TIMED, .threads = o->threads, .seconds = o->seconds};
    if (runCallers(&plan, &totals) != 0) return 1;
    printFigure("p50", (double)histogramQuantile(&totals.latency, 0.5) / 1e3, "us");
    printFigure("p99", (double)histogramQuantile(&totals.latency, 0.99) / 1e3, "us");
    printFigure("p99.9", (double)histogramQuantile(&totals.latency, 0.999) / 1e3, "us");
    printFigure("max", (double)histogramQuantile(&totals.latency, 1.0) / 1e3, "us");
    printFigure("least_over_best", totals.most == 0 ? 0 : (double)totals.least / (double)totals.most, "ratio");
    return 0;
}

/* ns of one subjectWork(rounds): the fastest of a few batches. */
static double timeWork(int64_t rounds)
{
    double best = 1e300;
    int64_t expected = expectedWork(rounds);
    for (int batch = 0; batch < 50; batch++) {
        uint64_t start = nowNs();
        for (int i = 0; i < 1000; i++)
            if (subjectWork(rounds) != expected) giveUp("a working call returned a wrong value");
        double ns = (double)(nowNs() - start) / 1000;
        if (ns < best) best = ns;
    }
    return best;
}

static int calibrateWork(void)
{
    timeWork(100);
    double base = timeWork(0), slope = (timeWork(200) - base) / 200;
    double rounds = base < WORK_NS && slope > 0 ? (WORK_NS - base) / slope : 0;
    printFigure("rounds", (double)(int64_t)(rounds + 0.5), "steps");
    return 0;
}

static int countCalls(const Options *o)
{
    for (int64_t i = 0; i < o->calls; i++)
        if (subjectCall(i) != i + 1) giveUp("a call returned a wrong value");
    return 0;
}

static int runFigure(const Options *o)
{
    if (strcmp(o->figure, "roundtrip") == 0) return measureRoundTrip(o);
    if (strcmp(o->figure, "firstcall") == 0) return measureFirstCall(o);
    if (strcmp(o->figure, "throughput") == 0) return measureThroughput(o, CALL_PLAIN);
    if (strcmp(o->figure, "latency") == 0) return measureLatency(o);
    if (strcmp(o->figure, "calibrate") == 0) return calibrateWork();
    if (strcmp(o->figure, "work") == 0) return measureThroughput(o, CALL_WORK);
    if (strcmp(o->figure, "count") == 0) return countCalls(o);
    giveUp("unknown figure");
    return 1;
}

static double numberAfter(const char *arg, const char *name, double otherwise)
{
    size_t length = strlen(name);
    if (strncmp(arg, name, length) != 0) return otherwise;
    char *end;
    double value = strtod(arg + length, &end);
    if (*end != '\0' || end == arg + length || value < 0) giveUp("an option's value is not a number");
    return value;
}

static Options readOptions(int argc, char **argv)
{
    Options o = {.capabilities = 2, .threads = 8, .seconds = 0.5, .rounds = 100, .calls = 100000};
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) != 0) {
            o.figure = argv[i];
            continue;
        }
        o.capabilities = (int)numberAfter(argv[i], "--capabilities=", o.capabilities);
        o.threads = (int)numberAfter(argv[i], "--threads=", o.threads);
        o.seconds = numberAfter(argv[i], "--seconds=", o.seconds);
        o.rounds = (int64_t)numberAfter(argv[i], "--rounds=", (double)o.rounds);
        o.calls = (int64_t)numberAfter(argv[i], "--calls=", (double)o.calls);
    }
    if (o.figure == NULL || o.threads < 1 || o.capabilities < 1) giveUp("usage: incall-SUBJECT FIGURE [--option=number …]");
    return o;
}

/* Ends at once, without stopping the runtime: how long a runtime takes to end is no figure here. */
int main(int argc, char **argv)
{
    Options o = readOptions(argc, argv);
    if (subjectStart(o.capabilities) != 0) giveUp("the runtime did not start");
    int status = runFigure(&o);
    fflush(stdout);
    _Exit(status);
}

/* Lightweight threads and calls of C on Capstan (figures B4, B5, B6, B6b, B7, B7a). The peers' programs (peers/sched.*) do the
 * same work under the same options.
 *
 *     sched-SUBJECT FIGURE [--capabilities=N] [--seconds=S] [--count=N]
 *
 * prints `metric<TAB>value<TAB>unit` a line:
 *     calls     ns of an unsafe and of a safe call of C, from a bound and from an unbound thread
 *     threads   ns to start and to finish a thread
 *     switch    ns of a switch between two unbound threads, by yielding and by a ball that goes back and forth through two MVars
 *     bound     ns of a switch between a bound and an unbound thread, by the same ball
 *     parked    bytes of resident memory and us of creation, of each of --count threads that wait
 *     collect   ms of a full and of a minor collection while they wait
 * and fails when a result is wrong: what was called, started, switched, parked and released is counted.
 *
 * The first four repeat batches for --seconds each. The size of a batch is doubled, as warm-up, until one takes 10 ms. On one
 * capability the figure is the fastest batch's; on more it is that of all batches together, since there the cost lies in
 * what happens now and then, a thread that is moved for instance. With --count they run one batch of so many operations.
 */
#include "clock.h"
#include "sched_managed.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FIRST_BATCH 1000
#define BATCH_NS 10000000u
#define PARKED 1000000
#define COLLECTIONS 5

typedef struct Options {
    const char *figure;
    int capabilities;
    double seconds;
    int64_t count;    /* 0: not said */
} Options;

static _Noreturn void giveUp(const char *what)
{
    fprintf(stderr, "bench: %s\n", what);
    exit(1);
}

static void printFigure(const char *metric, double value, const char *unit)
{
    printf("%s\t%.6g\t%s\n", metric, value, unit);
}

static _Noreturn void giveUpOver(Capability *cap)
{
    char text[256] = "";
    HaskellObj exception = rts_getException(cap);
    if (exception != CAPSTAN_POISON) rts_showException(cap, exception, text, sizeof text);
    fprintf(stderr, "bench: an in-call ended with status %d: %s\n", (int)rts_getSchedStatus(cap), text);
    exit(1);
}

static int64_t callManaged(HaskellObj function, int64_t n)
{
    HaskellObj result;
    Capability *cap = rts_lock();
    rts_evalIO(&cap, rts_apply(cap, function, rts_mkInt(cap, n)), &result);
    if (rts_getSchedStatus(cap) != Success) giveUpOver(cap);
    int64_t value = rts_getInt(result);
    rts_unlock(cap);
    return value;
}

/* ---- Batches ---------------------------------------------------------------------------------------------------- */

typedef struct Work {
    const char *metric;
    HaskellObj function;
    int64_t leastPercent;    /* of the operations asked for that must be seen to have happened */
} Work;

/* Nanoseconds of n operations. */
static uint64_t timeBatch(const Work *work, int64_t n)
{
    uint64_t start = nowNs();
    int64_t seen = callManaged(work->function, n);
    uint64_t took = nowNs() - start;
    if (seen <= n && seen * 100 >= n * work->leastPercent) return took;
    fprintf(stderr, "bench: %s: of %lld operations %lld happened\n", work->metric, (long long)n, (long long)seen);
    exit(1);
}

static double timeBatches(const Options *o, const Work *work)
{
    int64_t n = FIRST_BATCH, batches = 0;
    while (timeBatch(work, n) < BATCH_NS) n *= 2;
    uint64_t fastest = UINT64_MAX, all = 0, end = nowNs() + (uint64_t)(o->seconds * 1e9);
    do {
        uint64_t took = timeBatch(work, n);
        if (took < fastest) fastest = took;
        all += took;
        batches++;
    } while (nowNs() < end);
    return o->capabilities == 1 ? (double)fastest / (double)n : (double)all / (double)n / (double)batches;
}

static void measure(const Options *o, const char *metric, HaskellObj function, int64_t leastPercent)
{
    Work work = {metric, function, leastPercent};
    double ns = o->count > 0 ? (double)timeBatch(&work, o->count) / (double)o->count : timeBatches(o, &work);
    printFigure(metric, ns, "ns");
}

static void measureCalls(const Options *o)
{
    measure(o, "unsafe_call", &callUnsafe_closure, 100);
    measure(o, "safe_call", &callSafe_closure, 100);
    measure(o, "unsafe_call_unbound", &callUnsafeUnbound_closure, 100);
    measure(o, "safe_call_unbound", &callSafeUnbound_closure, 100);
}

static void measureThreads(const Options *o)
{
    measure(o, "start_finish", &startThreads_closure, 100);
}

/* A thread whose time is up amid its turn yields once more: a few yields are no switch. */
static void measureSwitch(const Options *o)
{
    measure(o, "yield", &switchByYield_closure, 90);
    measure(o, "mvar", &switchByMVar_closure, 100);
    if (o->capabilities > 1) measure(o, "mvar_together", &switchByMVarTogether_closure, 100);
}

static void measureBound(const Options *o)
{
    measure(o, "mvar_bound", &switchBound_closure, 100);
}

/* ---- Parked threads --------------------------------------------------------------------------------------------- */

static double residentBytes(void)
{
    long long all, resident;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL || fscanf(file, "%lld %lld", &all, &resident) != 2) giveUp("cannot read /proc/self/statm");
    fclose(file);
    return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

static void parkAll(int64_t count)
{
    if (callManaged(&parkThreads_closure, count) != count) giveUp("not every thread came to the gate");
    if (threadsReleased() != 0) giveUp("a thread passed the closed gate");
}

static void releaseAll(int64_t count)
{
    if (threadsParked() != count || threadsReleased() != 0) giveUp("a parked thread did not stay so");
    if (callManaged(&releaseThreads_closure, count) != count) giveUp("not every thread passed the gate");
}

static void measureParked(int64_t count)
{
    double before = residentBytes();
    uint64_t start = nowNs();
    parkAll(count);
    uint64_t took = nowNs() - start;
    printFigure("resident", (residentBytes() - before) / (double)count, "B");
    printFigure("create", (double)took / 1e3 / (double)count, "us");
    releaseAll(count);
}

static int compareNumbers(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* ms, the median. */
static double timeCollections(void (*collect)(void))
{
    uint64_t took[COLLECTIONS];
    for (int i = 0; i < COLLECTIONS; i++) {
        uint64_t start = nowNs();
        collect();
        took[i] = nowNs() - start;
    }
    qsort(took, COLLECTIONS, sizeof *took, compareNumbers);
    return (double)took[COLLECTIONS / 2] / 1e6;
}

static void measureCollections(int64_t count)
{
    double before = residentBytes();
    parkAll(count);
    printFigure("full", timeCollections(hs_perform_major_gc), "ms");
    printFigure("minor", timeCollections(rts_performMinorGC), "ms");
    printFigure("resident_after", (residentBytes() - before) / (double)count, "B");
    releaseAll(count);
}

/* ---- Command line ----------------------------------------------------------------------------------------------- */

static void runFigure(const Options *o)
{
    int64_t threads = o->count > 0 ? o->count : PARKED;
    if (strcmp(o->figure, "calls") == 0) measureCalls(o);
    else if (strcmp(o->figure, "threads") == 0) measureThreads(o);
    else if (strcmp(o->figure, "switch") == 0) measureSwitch(o);
    else if (strcmp(o->figure, "bound") == 0) measureBound(o);
    else if (strcmp(o->figure, "parked") == 0) measureParked(threads);
    else if (strcmp(o->figure, "collect") == 0) measureCollections(threads);
    else giveUp("unknown figure");
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
    Options o = {.capabilities = 1, .seconds = 0.3};
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) != 0) {
            o.figure = argv[i];
            continue;
        }
        o.capabilities = (int)numberAfter(argv[i], "--capabilities=", o.capabilities);
        o.seconds = numberAfter(argv[i], "--seconds=", o.seconds);
        o.count = (int64_t)numberAfter(argv[i], "--count=", (double)o.count);
    }
    if (o.figure == NULL || o.capabilities < 1 || o.count % 2 != 0)
        giveUp("usage: sched-SUBJECT FIGURE [--capabilities=N] [--seconds=S] [--count=EVEN]");
    return o;
}

static void start(int capabilities)
{
    char message[256];
    RtsConfig config = RTS_CONFIG_INIT;
    config.capabilities = (unsigned)capabilities;
    config.rts_opts_enabled = RtsOptsAll; /* for experiments: CAPSTANRTS=-A4m bench/driver ... */
    if (rts_start(&config, message, sizeof message) != RTS_OK) giveUp(message);
}

/* Ends at once, without stopping the runtime: how long a runtime takes to end is no figure here. */
int main(int argc, char **argv)
{
    Options o = readOptions(argc, argv);
    start(o.capabilities);
    runFigure(&o);
    fflush(stdout);
    _Exit(0);
}

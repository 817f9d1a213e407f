/* wordfreq: the most frequent words of text files, counted in managed code that many threads of C call at once.
 *
 *     options.c   the command line
 *     text.c      files, and chunks of them in which no word is cut
 *     workers.c   the threads: each reads a chunk, calls in, reads the next
 *     incall.c    the calls from C into managed code, and what they give
 *     map.c       managed code: a map on the shared heap that all threads count in
 *     report.c    the table, or JSON
 */
#include "Rts.h"
#include "incall.h"
#include "map.h"
#include "report.h"
#include "workers.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

/* What gcDone adds to.  The hook may run on several threads at once. */
typedef struct {
    atomic_uint_fast64_t count, totalNs, largestNs;  /* [atomic] relaxed */
} PauseCounts;

static bool complain(const char *problem)
{
    fprintf(stderr, "wordfreq: %s\n", problem);
    return false;
}

static void gcDone(void *ctx, const RtsCollection *collection)
{
    PauseCounts *pauses = ctx;
    uint_fast64_t largest = atomic_load_explicit(&pauses->largestNs, memory_order_relaxed);
    atomic_fetch_add_explicit(&pauses->count, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&pauses->totalNs, collection->pause_ns, memory_order_relaxed);
    while (largest < collection->pause_ns &&
           !atomic_compare_exchange_weak_explicit(&pauses->largestNs, &largest, collection->pause_ns, memory_order_relaxed,
                                                  memory_order_relaxed)) {}
}

static RtsStatus startRuntime(const Options *options, PauseCounts *pauses)
{
    char message[PROBLEM_SIZE] = "";
    RtsConfig config = RTS_CONFIG_INIT;
    config.capabilities = options->capabilities;
    config.nursery_bytes = options->nursery;
    config.heap_limit_bytes = options->heapLimit;
    config.rts_opts = options->rtsOptions;
    config.gcDoneHook = gcDone;
    config.gcDoneCtx = pauses;
    RtsStatus status = rts_start(&config, message, sizeof message);
    if (status != RTS_OK) complain(message[0] != '\0' ? message : rts_statusText(status));
    return status;
}

static uint64_t peakRssBytes(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (uint64_t)usage.ru_maxrss * 1024 : 0;
}

static bool report(const Options *options, const Text *text, const Work *work, const Totals *totals,
                   const PauseCounts *pauses)
{
    Report r = { .options = options, .text = text, .totals = totals, .work = work, .peakRssBytes = peakRssBytes() };
    r.pauses = (Pauses){ atomic_load_explicit(&pauses->count, memory_order_relaxed),
                         atomic_load_explicit(&pauses->totalNs, memory_order_relaxed),
                         atomic_load_explicit(&pauses->largestNs, memory_order_relaxed) };
    rts_getCounts(&r.counts);
    bool ok = options->json ? printJson(&r) : options->all ? printWords(&r) : printTable(&r);
    if (!ok) return complain("no memory for the report");
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "wordfreq: standard output: %s\n", strerror(errno));
        return false;
    }
    return true;
}

/* Every in-call said how many words it had counted: the map must hold as many. */
static bool checkTotals(const Work *work, const Totals *totals)
{
    if (work->words == totals->words) return true;
    fprintf(stderr, "wordfreq: the calls counted %llu words and the map holds %llu\n", (unsigned long long)work->words,
            (unsigned long long)totals->words);
    return false;
}

static bool countAndReport(const Options *options, const Text *text, const PauseCounts *pauses)
{
    static Work work;
    Totals totals = { 0 };
    char problem[PROBLEM_SIZE];
    int64_t top = options->all ? -1 : (int64_t)options->top;
    bool ok = runWorkers(text, options, &work, problem) && fetchTotals(top, &totals, problem);
    if (!ok) complain(problem);
    ok = ok && checkTotals(&work, &totals) && report(options, text, &work, &totals, pauses);
    freeTotals(&totals);
    return ok;
}

int main(int argc, char **argv)
{
    static PauseCounts pauses;
    Options options;
    Text text;
    char problem[PROBLEM_SIZE];
    int result = 1;
    parseOptions(argc, argv, &options);
    setHashBits(options.hashBits);
    if (!openText(&text, &options, problem)) {
        complain(problem);
    } else {
        RtsStatus status = startRuntime(&options, &pauses);
        if (status == RTS_BAD_OPTION) result = 2;
        if (status == RTS_OK) {
            result = countAndReport(&options, &text, &pauses) ? 0 : 1;
            hs_exit();
        }
    }
    freeText(&text);
    return result;
}

#include "report.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

static const struct {
    const char *name, *key;
    double part;
} quantiles[] = { { "p50", "p50", 0.5 }, { "p99", "p99", 0.99 }, { "p99.9", "p99_9", 0.999 } };

enum { QUANTILES = sizeof quantiles / sizeof *quantiles };

/* A step of the histogram may reach beyond the largest value of all. */
static uint64_t latencyAt(const Work *work, double part)
{
    uint64_t ns = histogramQuantile(&work->latency, part);
    return ns < work->largestNs ? ns : work->largestNs;
}

static double perSecond(const Work *work) { return work->seconds > 0 ? (double)work->calls / work->seconds : 0; }

static uint64_t meanPause(const Report *r) { return r->pauses.count > 0 ? r->pauses.totalNs / r->pauses.count : 0; }

/* ---- For people --------------------------------------------------------------------------------------------------- */

static void printTime(const char *name, uint64_t ns) { printf("  %-18s %12.1f us\n", name, (double)ns / 1e3); }

static void printNumber(const char *name, uint64_t n) { printf("%-20s %12" PRIu64 "\n", name, n); }

static void printMiB(const char *name, uint64_t bytes) { printf("  %-18s %12.1f MiB\n", name, (double)bytes / 1048576); }

static void printTop(const Totals *totals)
{
    if (totals->topCount > 0) puts("most frequent");
    for (size_t i = 0; i < totals->topCount; i++)
        printf("  %-18s %12" PRIu64 "\n", totals->top[i].word, totals->top[i].count);
}

bool printTable(const Report *r)
{
    printNumber("files", r->text->fileCount);
    printNumber("bytes", r->text->bytes * r->text->repeat);
    printNumber("words", r->totals->words);
    printNumber("distinct words", r->totals->distinct);
    printTop(r->totals);
    printNumber("calls", r->work->calls);
    printf("%-20s %12.3f s, %u workers, %u capabilities\n", "time", r->work->seconds, r->options->workers,
           r->counts.capabilities);
    printf("%-20s %12.0f\n", "calls per second", perSecond(r->work));
    puts("latency of a call");
    for (size_t i = 0; i < QUANTILES; i++) printTime(quantiles[i].name, latencyAt(r->work, quantiles[i].part));
    printTime("largest", r->work->largestNs);
    printNumber("collections", r->pauses.count);
    printTime("pauses, mean", meanPause(r));
    printTime("pauses, largest", r->pauses.largestNs);
    printTime("pauses, total", r->pauses.totalNs);
    puts("memory");
    printMiB("allocated", r->counts.allocated_bytes);
    printMiB("heap, largest", r->counts.peak_heap_bytes);
    printMiB("process, largest", r->peakRssBytes);
    return true;
}

bool printWords(const Report *r)
{
    for (size_t i = 0; i < r->totals->topCount; i++) printf("%" PRIu64 " %s\n", r->totals->top[i].count, r->totals->top[i].word);
    return true;
}

/* ---- For programs ------------------------------------------------------------------------------------------------- */
/* The "_new" functions take the references over that they get, so a NULL on the way makes the whole NULL. */

static json_t *integer(uint64_t n) { return json_integer((json_int_t)n); }

static json_t *topAsJson(const Totals *totals)
{
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < totals->topCount; i++) {
        json_t *entry = json_pack("{s:s, s:o}", "word", totals->top[i].word, "count", integer(totals->top[i].count));
        if (json_array_append_new(list, entry) == 0) continue;
        json_decref(list);
        list = NULL;
    }
    return list;
}

static json_t *latencyAsJson(const Work *work)
{
    json_t *latency = json_object();
    int failed = latency == NULL;
    for (size_t i = 0; i < QUANTILES; i++)
        failed |= json_object_set_new(latency, quantiles[i].key, integer(latencyAt(work, quantiles[i].part)));
    failed |= json_object_set_new(latency, "largest", integer(work->largestNs));
    if (!failed) return latency;
    json_decref(latency);
    return NULL;
}

static json_t *settingsAsJson(const Report *r)
{
    return json_pack("{s:i, s:i, s:o, s:o, s:o}", "workers", (int)r->options->workers, "capabilities",
                     (int)r->counts.capabilities, "repeat", integer(r->options->repeat), "seed", integer(r->options->seed),
                     "chunk", integer(r->options->chunk));
}

bool printJson(const Report *r)
{
    json_t *pauses = json_pack("{s:o, s:o, s:o, s:o}", "count", integer(r->pauses.count), "total_ns",
                               integer(r->pauses.totalNs), "mean_ns", integer(meanPause(r)), "largest_ns",
                               integer(r->pauses.largestNs));
    json_t *memory = json_pack("{s:o, s:o, s:o}", "allocated_bytes", integer(r->counts.allocated_bytes), "peak_heap_bytes",
                               integer(r->counts.peak_heap_bytes), "peak_rss_bytes", integer(r->peakRssBytes));
    json_t *all = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:f, s:f, s:o, s:o, s:o}", "settings", settingsAsJson(r),
                            "files", integer(r->text->fileCount), "bytes", integer(r->text->bytes * r->text->repeat),
                            "words", integer(r->totals->words), "distinct", integer(r->totals->distinct), "top",
                            topAsJson(r->totals), "calls", integer(r->work->calls), "seconds", r->work->seconds,
                            "calls_per_second", perSecond(r->work), "latency_ns", latencyAsJson(r->work), "collections",
                            pauses, "memory", memory);
    if (all == NULL) return false;
    json_dumpf(all, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(all);
    return true;
}

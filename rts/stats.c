#include "stats.h"

#include "base/lock.h"
#include "base/report.h"
#include "gc/heap.h"
#include "os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct {
    Lock lock;
    bool counting;        /* [lock] there is a runtime */
    RTSStats sums;        /* [lock] but for the times that only a reader knows */
    uint64_t began, beganCpu; /* [lock] */
} stats = { .lock = LOCK_INIT(RANK_STATS) };

static _Atomic uint64_t collectionsMade; /* [stopped to write] for who may not wait: dumps */

uint64_t countCollections(void) { return collectionsMade; }

const char *rts_gcCauseName(RtsGcCause cause)
{
    static const char *const names[RTS_GC_CAUSES] = { "allocation", "request", "memory", "external", "idle", "unload" };
    return (unsigned)cause < RTS_GC_CAUSES ? names[cause] : "unknown";
}

void beginStats(void)
{
    acquireLock(&stats.lock);
    stats.sums = (RTSStats){ 0 };
    collectionsMade = 0;
    stats.began = osMonotonicNanos();
    stats.beganCpu = osProcessCpuNanos();
    stats.counting = true;
    releaseLock(&stats.lock);
}

void noteStarted(void)
{
    acquireLock(&stats.lock);
    stats.sums.init_elapsed_ns = (Time)(osMonotonicNanos() - stats.began);
    stats.sums.init_cpu_ns = (Time)(osProcessCpuNanos() - stats.beganCpu);
    releaseLock(&stats.lock);
}

void endStats(void)
{
    acquireLock(&stats.lock);
    stats.counting = false;
    releaseLock(&stats.lock);
}

void forgetStats(void)
{
    renewLock(&stats.lock);
    stats.counting = false;
}

/* ---- Counting ---- */

static uint64_t less(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

static GCDetails detailsOf(const RtsCollection *c)
{
    return (GCDetails){
        .gen = c->major,
        .threads = c->collectors,
        .allocated_bytes = c->allocated_bytes,
        .live_bytes = c->live_bytes,
        .large_objects_bytes = c->large_bytes,
        .slop_bytes = less(c->block_bytes, less(c->live_bytes, c->large_bytes)),
        .mem_in_use_bytes = c->heap_bytes,
        .copied_bytes = c->copied_bytes,
        .block_fragmentation_bytes = less(c->heap_bytes, c->large_bytes + c->block_bytes),
        .par_max_copied_bytes = c->max_copied_bytes,
        .par_balanced_copied_bytes = c->balanced_copied_bytes,
        .sync_elapsed_ns = (Time)c->stop_ns,
        .cpu_ns = (Time)c->cpu_ns,
        .elapsed_ns = (Time)c->pause_ns,
    };
}

static void raiseTo(uint64_t *most, uint64_t n)
{
    if (n > *most) *most = n;
}

static void addCollection(RTSStats *s, const RtsCollection *c)
{
    GCDetails *d = &s->gc;
    *d = detailsOf(c);
    s->gcs++;
    s->causes[c->cause]++;
    s->allocated_bytes += d->allocated_bytes;
    s->copied_bytes += d->copied_bytes;
    s->gc_cpu_ns += d->cpu_ns;
    s->gc_elapsed_ns += d->elapsed_ns;
    if (d->elapsed_ns > s->max_pause_ns) s->max_pause_ns = d->elapsed_ns;
    raiseTo(&s->max_live_bytes, d->live_bytes);
    raiseTo(&s->max_large_objects_bytes, d->large_objects_bytes);
    raiseTo(&s->max_slop_bytes, d->slop_bytes);
    raiseTo(&s->max_mem_in_use_bytes, d->mem_in_use_bytes);
    if (c->major) {
        s->major_gcs++;
        s->cumulative_live_bytes += d->live_bytes;
    }
    if (c->collectors > 1) {
        s->par_copied_bytes += d->copied_bytes;
        s->cumulative_par_max_copied_bytes += d->par_max_copied_bytes;
        s->cumulative_par_balanced_copied_bytes += d->par_balanced_copied_bytes;
    }
}

void noteCollection(const RtsCollection *c)
{
    collectionsMade++;
    acquireLock(&stats.lock);
    addCollection(&stats.sums, c);
    releaseLock(&stats.lock);
}

/* ---- Reading ---- */

void getRTSStats(RTSStats *s)
{
    uint64_t now = osMonotonicNanos(), cpu = osProcessCpuNanos();
    acquireLock(&stats.lock);
    *s = stats.sums;
    s->elapsed_ns = (Time)less(now, stats.began);
    s->cpu_ns = (Time)less(cpu, stats.beganCpu);
    bool counting = stats.counting;
    releaseLock(&stats.lock);
    if (!counting) {
        *s = (RTSStats){ 0 };
        return;
    }
    raiseTo(&s->max_mem_in_use_bytes, peakCommittedBytes());
    s->mutator_elapsed_ns = s->elapsed_ns - s->init_elapsed_ns - s->gc_elapsed_ns;
    s->mutator_cpu_ns = s->cpu_ns - s->init_cpu_ns - s->gc_cpu_ns;
    /* Of two clocks that tick differently. */
    if (s->mutator_cpu_ns < 0) s->mutator_cpu_ns = 0;
    if (s->mutator_elapsed_ns < 0) s->mutator_elapsed_ns = 0;
}

int getRTSStatsEnabled(void)
{
    acquireLock(&stats.lock);
    bool counting = stats.counting;
    releaseLock(&stats.lock);
    return counting;
}

uint64_t getAllocations(void)
{
    RTSStats s;
    getRTSStats(&s);
    return s.allocated_bytes;
}

/* ---- As text ---- */

/* What appends to a buffer, as far as there is room, and counts the rest. */
typedef struct {
    char *buf;
    size_t size, length;
} Text;

__attribute__((format(printf, 2, 3))) static void put(Text *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    size_t room = t->length < t->size ? t->size - t->length : 0;
    int n = vsnprintf(room > 0 ? t->buf + t->length : NULL, room, format, args);
    va_end(args);
    if (n > 0) t->length += (size_t)n;
}

static double seconds(Time ns) { return (double)ns * 1e-9; }
static double percent(Time part, Time whole) { return whole > 0 ? 100.0 * (double)part / (double)whole : 0; }

static void putMemory(Text *t, const char *what, uint64_t bytes) { put(t, "%-32s %15" PRIu64 " bytes\n", what, bytes); }

static void putTime(Text *t, const char *what, Time cpu, Time elapsed, const RTSStats *s)
{
    put(t, "%-12s %9.3f s processor %9.3f s elapsed (%4.1f %%)\n", what, seconds(cpu), seconds(elapsed), percent(elapsed, s->elapsed_ns));
}

static void formatText(Text *t, const RTSStats *s)
{
    putMemory(t, "allocated", s->allocated_bytes);
    putMemory(t, "copied by collections", s->copied_bytes);
    putMemory(t, "most live", s->max_live_bytes);
    putMemory(t, "most large and pinned objects", s->max_large_objects_bytes);
    putMemory(t, "most unused in blocks", s->max_slop_bytes);
    putMemory(t, "most held from the system", s->max_mem_in_use_bytes);
    put(t, "collections %u minor, %u major;", s->gcs - s->major_gcs, s->major_gcs);
    for (unsigned i = 0; i < RTS_GC_CAUSES; i++)
        if (s->causes[i] != 0) put(t, " %s %" PRIu64, rts_gcCauseName((RtsGcCause)i), s->causes[i]);
    put(t, "\npauses      %9.3f ms mean %9.3f ms longest\n", s->gcs > 0 ? seconds(s->gc_elapsed_ns) * 1e3 / s->gcs : 0, seconds(s->max_pause_ns) * 1e3);
    if (s->par_copied_bytes > 0)
        put(t, "balance     %9.1f %% of the work of collections by several threads (0: one did all, 100: all did the same)\n",
            100.0 * (double)s->cumulative_par_balanced_copied_bytes / (double)s->par_copied_bytes);
    putTime(t, "start", s->init_cpu_ns, s->init_elapsed_ns, s);
    putTime(t, "program", s->mutator_cpu_ns, s->mutator_elapsed_ns, s);
    putTime(t, "collections", s->gc_cpu_ns, s->gc_elapsed_ns, s);
    putTime(t, "total", s->cpu_ns, s->elapsed_ns, s);
}

#define FIELD(name) { #name, offsetof(RTSStats, name) }
static const struct { const char *name; size_t at; } jsonFields[] = {
    FIELD(allocated_bytes), FIELD(max_live_bytes), FIELD(max_large_objects_bytes), FIELD(max_slop_bytes), FIELD(max_mem_in_use_bytes),
    FIELD(cumulative_live_bytes), FIELD(copied_bytes), FIELD(par_copied_bytes), FIELD(cumulative_par_max_copied_bytes),
    FIELD(cumulative_par_balanced_copied_bytes), FIELD(init_cpu_ns), FIELD(init_elapsed_ns), FIELD(mutator_cpu_ns), FIELD(mutator_elapsed_ns),
    FIELD(gc_cpu_ns), FIELD(gc_elapsed_ns), FIELD(cpu_ns), FIELD(elapsed_ns), FIELD(max_pause_ns),
};
#undef FIELD

/* Numbers only: nothing of it needs quoting. */
static void formatJson(Text *t, const RTSStats *s)
{
    put(t, "{\"gcs\":%u,\"major_gcs\":%u", s->gcs, s->major_gcs);
    for (size_t i = 0; i < sizeof jsonFields / sizeof *jsonFields; i++) {
        uint64_t n; /* every field is of 64 bits, and no time is negative */
        memcpy(&n, (const char *)s + jsonFields[i].at, sizeof n);
        put(t, ",\"%s\":%" PRIu64, jsonFields[i].name, n);
    }
    put(t, ",\"causes\":{");
    for (unsigned i = 0; i < RTS_GC_CAUSES; i++) put(t, "%s\"%s\":%" PRIu64, i > 0 ? "," : "", rts_gcCauseName((RtsGcCause)i), s->causes[i]);
    put(t, "}}\n");
}

size_t rts_formatStats(RtsStatsFormat format, char *buf, size_t size)
{
    RTSStats s;
    Text t = { buf, size, 0 };
    if (size > 0) *buf = 0;
    getRTSStats(&s);
    if (format == RtsStatsText) formatText(&t, &s);
    else if (format == RtsStatsJson) formatJson(&t, &s);
    return t.length;
}

/* ---- At exit ---- */

void writeStats(const RtsConfig *config)
{
    char text[4096];
    if (config->stats == RtsStatsNone) return;
    acquireLock(&stats.lock);
    stats.sums.allocated_bytes += heap.allocated * BLOCK_BYTES; /* since the last collection */
    releaseLock(&stats.lock);
    size_t length = rts_formatStats(config->stats, text, sizeof text);
    const char *file = config->stats_file;
    int fd = *file == 0 ? STDERR_FILENO : open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    int why = fd < 0 ? errno : osWriteAll(fd, text, length);
    if (why != 0) logLine(RTS_LOG_WARNING, "statistics: %s: %s", *file == 0 ? "standard error" : file, strerror(why));
    if (fd >= 0 && *file != 0) close(fd);
}

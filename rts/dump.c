/* What everybody is doing, for watchdogs and people.  Reads without locks: what it shows may be torn. */
#include "capability.h"
#include "gc/block.h"
#include "RtsAPI.h"
#include "schedule.h"
#include "stable_ptr.h"
#include "stats.h"

#include "os/topology.h"

#include <stdarg.h>
#include <stdio.h>

/* Reads what others write, on purpose. */
#define NO_SANITIZE __attribute__((no_sanitize("thread"), no_sanitize("address")))

typedef struct {
    void (*put)(void *ctx, const char *line);
    void *ctx;
} Out;

__attribute__((format(printf, 2, 3))) static void line(const Out *out, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    out->put(out->ctx, text);
}

NO_SANITIZE static void dumpCapability(const Out *out, Capability *cap)
{
    static const char *const names[] = { "waiters", "handover", "stop", "shutdown", "collect", "slow" };
    uintptr_t holder = atomic_load_explicit(&cap->holder, memory_order_relaxed);
    uint32_t attention = atomic_load_explicit(&cap->attention, memory_order_relaxed);
    char asked[80] = "";
    for (int i = 0, n = 0; i < 6; i++)
        if (attention >> i & 1) n += snprintf(asked + n, sizeof asked - (size_t)n, " %s", names[i]);
    if (holder > HOLDER_CLOSED)
        line(out, "capability %u (node %u): held by thread %lu;%s", cap->no, cap->node, (unsigned long)((Task *)holder)->id,
             asked);
    else
        line(out, "capability %u (node %u): %s;%s", cap->no, cap->node,
             holder == HOLDER_FREE ? "free" : holder == HOLDER_STOPPED ? "stopped" : "closed", asked);
}

NO_SANITIZE static void dumpTask(const Out *out, Task *task)
{
    static const char *const waits[] = { "asleep", "woken", "given one", "sent home" };
    uint32_t wakeup = atomic_load_explicit(&task->wakeup, memory_order_relaxed);
    line(out, "task of thread %lu: node %u, %s%s%s", (unsigned long)task->id, task->node,
         task->cap ? "holds a capability" : "holds none", task->since ? ", waits for one: " : "",
         task->since && wakeup <= WAIT_CLOSED ? waits[wakeup] : "");
    int depth = 0;
    for (InCall *i = task->incall; i != NULL && depth < 400; i = i->prev) depth++;
    int shown = 0;
    for (InCall *i = task->incall; i != NULL && shown < 4; i = i->prev, shown++)
        line(out, "  in-call %d of %d: thread %p, %s, poll %u", depth - shown, depth, (void *)&i->tso,
             i->suspended ? "in a safe call" : i->stack.trap ? "evaluating" : "in C", i->stack.poll);
}

NO_SANITIZE void rts_dump(void (*put)(void *ctx, const char *line), void *ctx)
{
    Out out = { put, ctx };
    unsigned n = numCapabilities;
    line(&out, "capstan: epoch %lu, %u capabilities, %u waiting, %lu collections", (unsigned long)currentEpoch, n,
         parkedWaiters(), (unsigned long)countCollections());
    for (unsigned i = 0; i < n; i++) dumpCapability(&out, &capabilities[i]);
    int shown = 0;
    for (Task *t = firstTaskUnlocked(); t != NULL && shown < 1000; t = t->next, shown++) dumpTask(&out, t);
}

void rts_getCounts(RtsCounts *c)
{
    *c = (RtsCounts){ .tasks = countTasks(), .capabilities = numCapabilities };
    if (c->capabilities == 0) return;
    RTSStats s;
    getRTSStats(&s);
    c->collections = s.gcs;
    c->collection_ns = (StgWord64)s.gc_elapsed_ns;
    c->max_pause_ns = (StgWord64)s.max_pause_ns;
    c->live_bytes = s.gc.live_bytes;
    c->allocated_bytes = s.allocated_bytes;
    c->heap_bytes = committedBytes();
    c->peak_heap_bytes = peakCommittedBytes();
    c->stable_ptrs = countStablePtrs();
    c->nodes = topologyNodes();
}

/* What languages call by name: looking at threads, and operations of Threads.h as managed functions. */
#include "exception.h"
#include "os/memory.h"
#include "rts/Threads.h"
#include "run.h"
#include "stack_pool.h"
#include "worker.h"

#include <string.h>

/* ---- Counts ---- */

static void countThread(StgTSO *tso, void *n) { ++*(StgWord64 *)n; }

static void countHost(Task *task, void *n)
{
    if (atomic_load_explicit(&task->hosting, memory_order_relaxed) != NULL) ++*(unsigned *)n;
}

void rts_getThreadCounts(RtsThreadCounts *counts)
{
    *counts = (RtsThreadCounts){ .created = countThreadsMade(), .stacks = stacksMade(), .stacks_in_use = stacksInUse() };
    counts->workers = countWorkers(&counts->idle_workers, &counts->in_safe_calls);
    counts->moved = atomic_load_explicit(&threadsMoved, memory_order_relaxed);
    eachThread(countThread, &counts->threads);
    eachTask(countHost, &counts->hosts);
}

/* ---- All threads ---- */

/* Objects do not move meanwhile: the caller holds a capability. */
typedef struct {
    Capability *cap;
    HaskellObj *ids;
    size_t count, room;
    bool failed;
} ThreadList;

static bool makeRoom(ThreadList *list)
{
    size_t room = list->room == 0 ? 64 : 2 * list->room;
    HaskellObj *ids = rtsMalloc(room * sizeof *ids);
    if (ids == NULL) {
        refuseAllocation(&list->cap->nursery, room * sizeof *ids);
        return false;
    }
    if (list->ids != NULL) memcpy(ids, list->ids, list->count * sizeof *ids);
    rtsFree(list->ids);
    list->ids = ids;
    list->room = room;
    return true;
}

static void listThread(StgTSO *tso, void *ctx)
{
    ThreadList *list = ctx;
    if (list->failed) return;
    HaskellObj id = handleOfOther(list->cap, tso);
    if (id == NULL) return;
    list->failed = id == CAPSTAN_POISON || (list->count == list->room && !makeRoom(list));
    if (!list->failed) list->ids[list->count++] = id;
}

HaskellObj rts_listThreads(Capability *cap)
{
    if (cap->dead != RTS_OK) return CAPSTAN_POISON;
    ThreadList list = { .cap = cap };
    eachThread(listThread, &list);
    eachNamedBound(listThread, &list);
    HaskellObj array = list.failed ? CAPSTAN_POISON : rts_mkArray(cap, list.count, CAPSTAN_UNIT);
    for (size_t i = 0; array != CAPSTAN_POISON && i < list.count; i++) ((StgArray *)array)->elems[i] = list.ids[i];
    rtsFree(list.ids);
    return array;
}

/* ---- Hosting ---- */

void rts_setInCallHosting(bool allowed)
{
    Task *task = newTask();
    if (task == NULL) {
        reportError(RTS_NO_MEMORY, "rts_setInCallHosting: %s", rts_statusText(RTS_NO_MEMORY));
        return;
    }
    task->noHosting = !allowed;
    retireTemporary();
}

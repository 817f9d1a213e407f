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

/* ---- The operations as managed functions: arguments may be thunks ---- */

/* Evaluate *v; *other, which is left as it is, moves along. */
static void forceKeeping(Stack *stack, HaskellObj *v, HaskellObj *other)
{
    CAPSTAN_ROOTS(stack, *other);
    *v = rts_force(stack, *v);
    CAPSTAN_UNROOT(stack);
}

static HsInt forceInt(Stack *stack, HaskellObj v)
{
    v = rts_force(stack, v);
    if (rts_isSmallInt(v)) return rts_smallIntValue(v);
    if (rts_isImmediate(v) || (rts_info(v)->kind != CLOSURE_INT64 && rts_info(v)->kind != CLOSURE_WORD64))
        rts_raise(stack, &capstan_WrongKind_closure);
    return rts_getInt(v);
}

static HaskellObj orRaise(Stack *stack, HaskellObj made)
{
    if (made == CAPSTAN_POISON) rts_raise(stack, &capstan_HeapOverflow_closure);
    return made;
}

CAPSTAN_IO(capstan_fork, io) { return rts_fork(stack, io); }
CAPSTAN_IO(capstan_yield)
{
    rts_yield(stack);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(capstan_myThreadId) { return orRaise(stack, rts_myThreadId(stack)); }
CAPSTAN_IO(capstan_newMVar) { return orRaise(stack, rts_mkMVar(stack->cap)); }
CAPSTAN_IO(capstan_takeMVar, mvar) { return rts_takeMVar(stack, rts_force(stack, mvar)); }
CAPSTAN_IO(capstan_readMVar, mvar) { return rts_readMVar(stack, rts_force(stack, mvar)); }
CAPSTAN_IO(capstan_putMVar, mvar, value)
{
    forceKeeping(stack, &mvar, &value);
    rts_putMVar(stack, mvar, value);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(capstan_threadDelay, microseconds)
{
    rts_threadDelay(stack, forceInt(stack, microseconds));
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(capstan_throwTo, threadId, exception)
{
    forceKeeping(stack, &threadId, &exception);
    rts_throwTo(stack, threadId, exception);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(capstan_killThread, threadId)
{
    rts_killThread(stack, rts_force(stack, threadId));
    return CAPSTAN_UNIT;
}

static HaskellObj runMasked(Stack *stack, void *io) { return rts_runIO(stack, *(HaskellObj *)io); }

/* A state that is there already needs no frame: a loop through it does not grow the stack. */
static HaskellObj withMask(Stack *stack, RtsMaskingState state, HaskellObj io)
{
    if (rts_getMaskingState(stack) == state) return rts_tailCall(stack, io, CAPSTAN_WORLD);
    CAPSTAN_ROOTS(stack, io);
    HaskellObj result = rts_withMask(stack, state, runMasked, &io);
    CAPSTAN_UNROOT(stack);
    return result;
}

CAPSTAN_IO(capstan_mask, io)
{
    RtsMaskingState now = rts_getMaskingState(stack);
    return withMask(stack, now == RtsUnmasked ? RtsMaskedInterruptible : now, io);
}
CAPSTAN_IO(capstan_uninterruptibleMask, io) { return withMask(stack, RtsMaskedUninterruptible, io); }
CAPSTAN_IO(capstan_unmask, io) { return withMask(stack, RtsUnmasked, io); }

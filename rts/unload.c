#include "unload.h"

#include "adjustor_pool.h"
#include "foreign_export.h"
#include "language.h"
#include "os/memory.h"
#include "schedule.h"
#include "statics.h"
#include "stop.h"
#include "weak.h"

#include <string.h>

/* ---- The search: everything that the roots reach, with the world stopped ---- */

static struct {
    Visitor v;
    uintptr_t lo, size;    /* the module */
    const char *found;     /* what refers to it */
    uint64_t *seen;        /* a bit for each word of the heap's used part */
    HaskellObj *todo;      /* objects to be looked into */
    size_t depth, room;
    bool noMemory;
} search; /* [stopped] */

static bool isInside(const void *p) { return (uintptr_t)p - search.lo < search.size; }
static void find(const char *what)
{
    if (search.found == NULL) search.found = what;
}

static bool firstVisit(HaskellObj obj)
{
    size_t word = ((uintptr_t)obj - heapBase) / sizeof(StgWord);
    uint64_t bit = (uint64_t)1 << word % 64, before = search.seen[word / 64];
    search.seen[word / 64] |= bit;
    return !(before & bit);
}

static bool growTodo(void)
{
    size_t room = search.room * 2 + 1024;
    HaskellObj *todo = rtsMalloc(room * sizeof *todo);
    if (todo == NULL) return false;
    if (search.depth != 0) memcpy(todo, search.todo, search.depth * sizeof *todo);
    rtsFree(search.todo);
    search.todo = todo;
    search.room = room;
    return true;
}

static void lookAtSlot(Visitor *v, HaskellObj *slot)
{
    HaskellObj obj = *slot;
    if (rts_isImmediate(obj) || obj == NULL) return;
    if (!isInHeap(obj)) {
        if (isInside(obj)) find("a static closure of it can be reached");
    } else if (firstVisit(obj)) {
        if (search.depth == search.room && !growTodo()) search.noMemory = true;
        else search.todo[search.depth++] = obj;
    }
}

/* Raw words of functions may be what they call: those of foreign imports are.  A number that looks like it holds the module up in vain, which is rare. */
static void lookAtRawWords(HaskellObj fun, const StgInfoTable *info)
{
    for (size_t i = info->ptrs; i < (size_t)info->ptrs + info->nptrs; i++)
        if (isInside(fun->payload[i])) find("a function that holds an address in it can be reached");
}

static void lookIntoObject(HaskellObj obj)
{
    const StgInfoTable *info = obj->info;
    if (info->kind == CLOSURE_FUN) lookAtRawWords(obj, info);
    if (info->kind == CLOSURE_PTR && isInside((const void *)((StgBoxed *)obj)->bits)) find("a pointer into it can be reached");
    if (isInside(info)) find("an object of one of its kinds can be reached");
    else if (isInside((const void *)(uintptr_t)info->entry)) find("an object with code of it can be reached");
    if (info->kind == CLOSURE_EXTERNAL) {
        const ExternalBytes *e = ((StgExternal *)obj)->record;
        if (isInside((const void *)(uintptr_t)e->release) || isInside(e->ctx) || isInside(e->address)) find("a byte array over memory of it can be reached");
    }
    scavengeObject(obj, &search.v);
}

static void lookAtThread(StgTSO *tso, void *unused)
{
    if (isScannerIn(tso, (const void *)search.lo, (const void *)(search.lo + search.size))) find("a thread has a root scanner of it");
}
static void lookAtTask(Task *task, void *unused)
{
    for (InCall *i = task->incall; i != NULL; i = i->prev) lookAtThread(&i->tso, NULL);
}

static void lookAround(void)
{
    eachThread(lookAtThread, NULL);
    eachTask(lookAtTask, NULL);
    if (anyCFinalizerIn((const void *)search.lo, (const void *)(search.lo + search.size))) find("a C finalizer of it is still to be called");
    if (anyAdjustorIn((const void *)search.lo, (const void *)(search.lo + search.size))) find("a C function pointer with a stub of it is in use");
    gcThreads.begin();
    for (const RootScanner *scan = heap.scanners; *scan != NULL; scan++) (*scan)(&search.v);
    for (const GcTable *const *t = heap.tables; *t != NULL; t++)
        if ((*t)->visitKept != NULL) (*t)->visitKept(&search.v);
    do {
        while (search.depth > 0 && search.found == NULL) lookIntoObject(search.todo[--search.depth]);
    } while (search.found == NULL && gcThreads.scan(&search.v));
    while (gcThreads.scan(&search.v)) {} /* who was reached is not left behind in the collector's list */
}

/* Context: the world is stopped. */
static RtsStatus searchModule(const void *lo, const void *hi)
{
    memset(&search, 0, sizeof search);
    search.v.visit = lookAtSlot;
    search.lo = (uintptr_t)lo;
    search.size = (uintptr_t)hi - search.lo;
    search.seen = rtsCalloc(usedMegablocks() * (MEGABLOCK_BYTES / sizeof(StgWord) / 64) + 1, sizeof *search.seen);
    if (search.seen != NULL) lookAround();
    RtsStatus status = search.found != NULL ? RTS_BUSY : search.seen == NULL || search.noMemory ? RTS_NO_MEMORY : RTS_OK;
    rtsFree(search.seen);
    rtsFree(search.todo);
    return status;
}

/* ---- The operation ---- */

static RtsStatus forget(const void *lo, const void *hi)
{
    revertStaticsIn(lo, hi);
    forgetForeignExports(lo, hi);
    if (numCapabilities == 0 || !performCollection(true, RtsGcUnload)) return RTS_OK;
    if (!stopFromOutside()) return RTS_OK;
    RtsStatus status = searchModule(lo, hi);
    const char *found = search.found;
    restartWorld(NULL);
    if (found != NULL) reportError(RTS_BUSY, "rts_forgetStatics: the module is still in use: %s", found);
    if (status == RTS_OK) freeInfoTablesIn(lo, hi);
    return status;
}

RtsStatus rts_forgetStatics(const void *lo, const void *hi)
{
    Task *task = getMyTask();
    RtsStatus status = (uintptr_t)lo > (uintptr_t)hi ? RTS_BAD_ARGUMENT
                       : task != NULL && task->finalizing ? RTS_IN_FINALIZER
                       : task != NULL && task->cap != NULL ? RTS_HOLDS_CAPABILITY : RTS_OK;
    if (status != RTS_OK) {
        reportError(status, "rts_forgetStatics: %s", rts_statusText(status));
        return status;
    }
    status = forget(lo, hi);
    retireTemporary();
    return status;
}

#include "unload.h"

#include "adjustor_pool.h"
#include "foreign_export.h"
#include "language.h"
#include "module.h"
#include "os/memory.h"
#include "os/os.h"
#include "schedule.h"
#include "stack.h"
#include "statics.h"
#include "stop.h"
#include "task.h"
#include "weak.h"
#include "worker.h"

#include <pthread.h>
#include <string.h>

/* ---- Stacks: anything that looks like an address in the module ---- */

typedef struct {
    uintptr_t lo, size;    /* the module */
    const char *found;     /* what refers to it */
    const Task *asker;     /* whose stack is not looked at: the bounds are what it says itself; or NULL */
} Suspect;

static void accuse(Suspect *s, const char *what)
{
    if (s->found == NULL) s->found = what;
}

/* Return addresses may be signed: the signature is in the bits that addresses of programs have not. */
#define ADDRESS_BITS (((uintptr_t)1 << 48) - 1)

__attribute__((no_sanitize("address", "thread"))) static bool isNamedBetween(const Suspect *s, const void *from, uintptr_t to)
{
    for (const uintptr_t *word = from; (uintptr_t)word < to; word++)
        if ((*word & ADDRESS_BITS) - s->lo < s->size) return true;
    return false;
}

/* An unbound thread's own stack: it switched away from it, or left it for a safe call. */
static void lookAtOwnStack(const StgTSO *tso, Suspect *s)
{
    const Stack *stack = tso->stack;
    if (stack == NULL || isBound(tso)) return;
    bool known = (uintptr_t)stack->sp - stack->lo < stack->hi - stack->lo; /* else it was never off it */
    if (isNamedBetween(s, known ? stack->sp : (const void *)stack->lo, stack->hi)) accuse(s, "a thread is inside of it");
}

/* The stack of an OS thread, from where it was suspended up to its end: the stub that called in is above the in-call. */
static void lookAtInCallStack(const InCall *i, Suspect *s)
{
    uintptr_t sp = (uintptr_t)i->stack.sp, end = stackEnd(i->task, sp);
    if (sp == 0) return; /* it has not evaluated anything yet */
    if (end == 0) accuse(s, "a call is in progress on a stack of which nothing is known");
    else if (isNamedBetween(s, i->stack.sp, end)) accuse(s, "a call is inside of it");
}

static void lookAtTaskStacks(Task *task, void *suspect)
{
    Suspect *s = suspect;
    for (const InCall *i = task->incall; i != NULL && task != s->asker; i = i->prev) lookAtInCallStack(i, s);
    if (task->calling != NULL) lookAtOwnStack(task->calling, s);
}

/* Of whose stacks nothing is known. */
static void lookAtReleases(Suspect *s)
{
    if (isCFinalizerRunning()) accuse(s, "C finalizers are being called");
    if (isReleaseRunning()) accuse(s, "a collection is still telling the host");
    if (haveExternalReleases() || externalsRunning != 0) accuse(s, "release functions are being called");
}

/* ---- The search: everything that the roots reach, with the world stopped ---- */

static struct {
    Visitor v;
    Suspect module;
    uint64_t *seen;        /* a bit for each word of the heap's used part */
    HaskellObj *todo;      /* objects to be looked into */
    size_t depth, room;
    bool noMemory;
} search; /* [stopped] */

static bool isInside(const void *p) { return (uintptr_t)p - search.module.lo < search.module.size; }
static void find(const char *what) { accuse(&search.module, what); }
static const void *from(void) { return (const void *)search.module.lo; }
static const void *to(void) { return (const void *)(search.module.lo + search.module.size); }

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
    if (rts_isImmediate(obj) || obj == NULL || isInside(slot)) return; /* what it holds itself goes with it */
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
    if (isScannerIn(tso, from(), to())) find("a thread has a root scanner of it");
    if (whyOf(tso) != THREAD_FREE) lookAtOwnStack(tso, &search.module);
}
static void lookAtTask(Task *task, void *unused)
{
    for (InCall *i = task->incall; i != NULL; i = i->prev) lookAtThread(&i->tso, NULL);
    lookAtTaskStacks(task, &search.module);
}

static void lookAround(void)
{
    eachThread(lookAtThread, NULL);
    eachTask(lookAtTask, NULL);
    lookAtReleases(&search.module);
    if (anyCFinalizerIn(from(), to())) find("a C finalizer of it is still to be called");
    if (anyAdjustorIn(from(), to())) find("a C function pointer with a stub of it is in use");
    gcThreads.begin();
    visitRoots(&search.v);
    for (const GcTable *const *t = heap.tables; *t != NULL; t++)
        if ((*t)->visitKept != NULL) (*t)->visitKept(&search.v);
    do {
        while (search.depth > 0 && search.module.found == NULL) lookIntoObject(search.todo[--search.depth]);
    } while (search.module.found == NULL && gcThreads.scan(&search.v));
    while (gcThreads.scan(&search.v)) {} /* who was reached is not left behind in the collector's list */
}

/* Context: the world is stopped. */
static RtsStatus searchModule(const void *lo, const void *hi, const Task *asker)
{
    memset(&search, 0, sizeof search);
    search.v.visit = lookAtSlot;
    search.module = (Suspect){ (uintptr_t)lo, (uintptr_t)hi - (uintptr_t)lo, NULL, asker };
    search.seen = rtsCalloc(usedMegablocks() * (MEGABLOCK_BYTES / sizeof(StgWord) / 64) + 1, sizeof *search.seen);
    if (search.seen != NULL) lookAround();
    RtsStatus status = search.module.found != NULL ? RTS_BUSY : search.seen == NULL || search.noMemory ? RTS_NO_MEMORY : RTS_OK;
    rtsFree(search.seen);
    rtsFree(search.todo);
    return status;
}

/* ---- Made code, and modules that the host closes itself ---- */

/* Stop and search; revert: if nothing is found, revert the static closures there.  RTS_NOT_STARTED: there is no runtime. */
static RtsStatus searchStopped(const void *lo, const void *hi, const Task *asker, bool revert, const char **found)
{
    if (!stopFromOutside()) return RTS_NOT_STARTED;
    RtsStatus status = searchModule(lo, hi, asker);
    *found = search.module.found;
    if (status == RTS_OK && revert) revertStaticsIn(lo, hi);
    restartWorld(NULL);
    return status;
}

static RtsStatus forget(const void *lo, const void *hi)
{
    const char *found;
    revertStaticsIn(lo, hi);
    takeForeignExports(lo, hi);
    RtsStatus status = numCapabilities == 0 ? RTS_NOT_STARTED : performCollection(true, RtsGcUnload);
    if (status == RTS_OK) status = searchStopped(lo, hi, getMyTask(), false, &found);
    if (status == RTS_BUSY) reportError(RTS_BUSY, "rts_forgetStatics: the module is still in use: %s", found);
    if (status == RTS_OK) freeInfoTablesIn(lo, hi);
    return status == RTS_NOT_STARTED ? RTS_OK : status;
}

RtsStatus rts_forgetStatics(const void *lo, const void *hi)
{
    RtsStatus status = (uintptr_t)lo > (uintptr_t)hi ? RTS_BAD_ARGUMENT : mayStopWorld();
    if (status != RTS_OK) {
        reportError(status, "rts_forgetStatics: %s", rts_statusText(status));
        return status;
    }
    /* What the host hears of the collection is no place to leave half of it. */
    int cancelState;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelState);
    status = forget(lo, hi);
    if (status == RTS_OK) unpinModulesIn(lo, hi);
    pthread_setcancelstate(cancelState, &cancelState);
    retireTemporary();
    return status;
}

/* ---- Modules that the host has given away ---- */

static _Atomic uint32_t unloading; /* 1: one thread is at it; who comes then leaves it to that, or to the next collection */

/* Without a runtime there is no heap to be searched, and nobody who holds a capability: but some may still be on their way out of a safe call. */
static RtsStatus searchStacks(const void *lo, const void *hi, const char **found)
{
    Suspect s = { (uintptr_t)lo, (uintptr_t)hi - (uintptr_t)lo, NULL, NULL };
    if (runtimeIsEnding) accuse(&s, "the runtime is ending, and has finalizers still to call"); /* it tries again itself */
    eachTask(lookAtTaskStacks, &s);
    lookAtReleases(&s);
    *found = s.found;
    return s.found != NULL ? RTS_BUSY : RTS_OK;
}

/* Steps 2 to 5 of unload.h. */
static RtsStatus isolate(const void *lo, const void *hi, const char **found)
{
    RtsStatus status = searchStopped(lo, hi, NULL, true, found);
    if (status == RTS_OK) status = performCollection(true, RtsGcUnload);
    if (status == RTS_OK) status = searchStopped(lo, hi, NULL, false, found);
    return status == RTS_NOT_STARTED ? searchStacks(lo, hi, found) : status;
}

static void closeAndLook(Module *m, unsigned given, struct ForeignExportsList *exports)
{
    struct OsModule before;
    uintptr_t lo = m->lo;
    bool known = osModuleOfHandle(m->handle, &before);
    closeModule(m, given);
    void *still = known ? osKeepModule(&before) : NULL;
    logLine(RTS_LOG_DEBUG, "rts_unloadModule: %s %s", known ? before.name : "?", still == NULL ? "is unloaded" : "stays: there are other handles");
    if (still == NULL) return;
    if (!isModulePinned(lo)) putForeignExportsBack(exports); /* else it went and came again */
    osCloseModule(still);
}

static void putExportsBack(void *exports) { putForeignExportsBack(exports); }

static void tryModule(Module *m, unsigned given)
{
    const char *found = NULL;
    const void *lo = (const void *)m->lo, *hi = (const void *)m->hi;
    struct ForeignExportsList *exports = takeForeignExports(lo, hi);
    RtsStatus status;
    /* Release functions and hooks that follow the collection may end the OS thread. */
    pthread_cleanup_push(putExportsBack, exports);
    status = isolate(lo, hi, &found);
    pthread_cleanup_pop(0);
    if (status == RTS_OK) {
        freeInfoTablesIn(lo, hi);
        closeAndLook(m, given, exports);
        return;
    }
    putForeignExportsBack(exports);
    if (found != NULL) logLine(RTS_LOG_DEBUG, "rts_unloadModule: the module at %p stays: %s", lo, found);
    else reportError(status, "rts_unloadModule: %s", rts_statusText(status));
}

static void endUnloading(void *unused) { unloading = 0; }

void unloadModules(void)
{
    if (!isAnyModuleGiven() || atomic_exchange(&unloading, 1) != 0) return;
    pthread_cleanup_push(endUnloading, NULL);
    unsigned given;
    for (Module *m = nextGivenModule(true, &given); m != NULL; m = nextGivenModule(false, &given)) tryModule(m, given);
    pthread_cleanup_pop(1);
}

RtsStatus rts_unloadModule(void *handle)
{
    RtsStatus status = giveModule(handle);
    if (status != RTS_OK) reportError(status, "rts_unloadModule: %s", rts_statusText(status));
    else if (numCapabilities == 0 && mayStopWorld() == RTS_OK) unloadModules();
    return status;
}

static void tryAfterCollection(bool here)
{
    if (!isAnyModuleGiven()) return;
    if (here) unloadModules();
    else runOnWorker(unloadModules);
}

void initUnload(void)
{
    /* Once: who collected in the last runtime may be about to read it. */
    if (tryUnloading != tryAfterCollection) tryUnloading = tryAfterCollection;
}

void forgetUnload(void) { unloading = 0; }

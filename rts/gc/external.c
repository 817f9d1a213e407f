/* Byte arrays over memory of the host: who releases what, and when. */
#include "base/lock.h"
#include "gc/heap.h"
#include "os/memory.h"
#include "os/os.h"

#include <pthread.h>

static struct {
    Lock lock;
    ExternalBytes *live;  /* [lock] */
    ExternalBytes *dead;  /* [lock] their release functions are due */
    unsigned forks;       /* how many children deep this process is */
} externals = { .lock = LOCK_INIT(RANK_EXTERNALS) };

_Atomic uint32_t externalsRunning;

bool addExternal(StgExternal *object, void (*release)(void *ctx, void *bytes), void *ctx)
{
    ExternalBytes *e = rtsMalloc(sizeof *e);
    if (e == NULL) return false;
    *e = (ExternalBytes){ NULL, object, object->address, release, ctx };
    object->record = e;
    acquireLock(&externals.lock);
    e->next = externals.live;
    externals.live = e;
    releaseLock(&externals.lock);
    return true;
}

static void sweepExternals(bool minor)
{
    acquireLock(&externals.lock);
    for (ExternalBytes **link = &externals.live; *link != NULL;) {
        ExternalBytes *e = *link;
        StgClosure *now = forwardedTo((StgClosure *)e->object);
        if (now != NULL) {
            e->object = (StgExternal *)now;
            link = &e->next;
            continue;
        }
        *link = e->next;
        e->next = externals.dead;
        __atomic_store_n(&externals.dead, e, __ATOMIC_RELAXED);
    }
    releaseLock(&externals.lock);
}

const GcTable externalTable = { .sweep = sweepExternals };

void forgetExternals(void)
{
    renewLock(&externals.lock);
    externals.live = externals.dead = NULL;
    externals.forks++;
    externalsRunning = 0;
}

bool haveExternalReleases(void) { return __atomic_load_n(&externals.dead, __ATOMIC_ACQUIRE) != NULL; }

static ExternalBytes *takeOne(bool all)
{
    acquireLock(&externals.lock);
    ExternalBytes **list = externals.dead != NULL || !all ? &externals.dead : &externals.live;
    ExternalBytes *e = *list;
    if (e != NULL) {
        externalsRunning++; /* first, and release: who misses it in the list finds it here */
        __atomic_store_n(list, e->next, __ATOMIC_RELEASE);
    }
    releaseLock(&externals.lock);
    return e;
}

/* Called, or the function has ended its OS thread. */
static void endCall(void *forks)
{
    /* Else it forked, and this is the child, where none was running. */
    if (*(unsigned *)forks != externals.forks) return;
    noteReleased();
    if (--externalsRunning == 0) osFutexWake(&externalsRunning, INT32_MAX);
}

void runExternalReleases(bool all)
{
    unsigned forks = externals.forks;
    for (ExternalBytes *first; (first = takeOne(all)) != NULL;) {
        ExternalBytes e = *first;
        rtsFree(first); /* before the call, which may end the OS thread */
        pthread_cleanup_push(endCall, &forks);
        if (e.release != NULL) e.release(e.ctx, e.address);
        pthread_cleanup_pop(1);
    }
}

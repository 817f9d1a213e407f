#include "stop.h"

#include "arch.h"

#include <pthread.h>
#include <stdio.h>

static struct {
    _Atomic uint32_t stopping;    /* [atomic] futex word: 1 while somebody is the stopper */
    _Atomic uint32_t missing;     /* [lock: caps to write] futex word: capabilities not yet stopped */
    uint64_t took;                /* [stopper] */
    int cancelState;              /* [stopper] of its OS thread, before */
} stop;

static void oneStopped(void)
{
    if (--stop.missing == 0) osFutexWake(&stop.missing, 1);
}

void forgetStop(void) { stop.stopping = stop.missing = 0; }

void initStop(void) { capabilityStopped = oneStopped; }

/* Context: the caps lock. */
static void stopFree(Capability *cap)
{
    uintptr_t expected = HOLDER_FREE;
    if (atomic_compare_exchange_strong_explicit(&cap->holder, &expected, HOLDER_STOPPED, memory_order_acquire,
                                                memory_order_relaxed))
        stop.missing--;
}

/* A hook that calls in would wait for the thread that it is on: it gets RTS_IN_FINALIZER instead. */
static void tellOfLongStop(const char *text)
{
    Task *task = newTask();
    bool before = task != NULL && task->finalizing;
    if (task != NULL) task->finalizing = true;
    if (hostConfig.longStopHook) hostConfig.longStopHook(hostConfig.longStopCtx, text);
    else logLine(RTS_LOG_WARNING, "%s", text);
    if (task != NULL) task->finalizing = before;
}

typedef struct {
    char text[256];
    int n;
} Culprits;

/* Under the tasks lock, as who took a capability does not publish its record by that. */
static void nameIfHolder(Task *task, void *culprits)
{
    Culprits *c = culprits;
    for (unsigned i = 0; i < numCapabilities && c->n < (int)sizeof c->text - 40 && task != getMyTask(); i++)
        if (atomic_load_explicit(&capabilities[i].holder, memory_order_relaxed) == (uintptr_t)task)
            c->n += snprintf(c->text + c->n, sizeof c->text - (size_t)c->n, " thread %lu (capability %u)", (unsigned long)task->id, i);
}

static void nameCulprits(uint64_t waited)
{
    Culprits c;
    c.n = snprintf(c.text, sizeof c.text, "waiting %.1f s to stop the world for", (double)waited * 1e-9);
    eachTask(nameIfHolder, &c);
    tellOfLongStop(c.text);
}

static void waitForAll(uint64_t began)
{
    /* Most holders release within a microsecond. */
    for (int spin = 0; spin < 200 && stop.missing != 0; spin++) archRelax();
    if (stop.missing == 0) return;
    uint64_t patience = (uint64_t)hostConfig.long_stop_us * 1000;
    for (uint32_t missing; (missing = stop.missing) != 0;) {
        uint64_t waited = osMonotonicNanos() - began;
        if (waited >= patience) {
            nameCulprits(waited);
            patience = 4 * waited;
            continue;
        }
        osFutexWait(&stop.missing, missing, (int64_t)(patience - waited));
    }
}

bool stopWorld(Capability *mine, uint32_t also)
{
    uint32_t nobody = 0;
    if (!atomic_compare_exchange_strong(&stop.stopping, &nobody, 1)) return false;
    /* Hooks and what the log hook writes are cancellation points; nobody else could let the world go on. */
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &stop.cancelState);
    uint64_t began = osMonotonicNanos();
    unsigned n = numCapabilities;
    acquireLock(&capsLock);
    stop.missing = mine == NULL ? n : n - 1;
    for (unsigned i = 0; i < n; i++)
        if (&capabilities[i] != mine) atomic_fetch_or(&capabilities[i].attention, ATTENTION_STOP | also);
    releaseLock(&capsLock);
    heavyBarrier();
    acquireLock(&capsLock);
    for (unsigned i = 0; i < n; i++) {
        if (&capabilities[i] == mine) continue;
        stopFree(&capabilities[i]);
        requestPoll(&capabilities[i]);
    }
    releaseLock(&capsLock);
    waitForAll(began);
    /* Acquire: pairs with the exchanges of those who stopped their capabilities, under the lock. */
    acquireLock(&capsLock);
    releaseLock(&capsLock);
    stop.took = osMonotonicNanos() - began;
    return true;
}

void leaveStopped(void)
{
    int before = stop.cancelState; /* while it is ours */
    atomic_store(&stop.stopping, 0);
    osFutexWake(&stop.stopping, INT32_MAX);
    pthread_setcancelstate(before, &before);
}

void restartWorld(Capability *mine)
{
    unsigned n = numCapabilities;
    acquireLock(&capsLock);
    for (unsigned i = 0; i < n; i++) {
        Capability *cap = &capabilities[i];
        atomic_fetch_and(&cap->attention, ~(uint32_t)(ATTENTION_STOP | ATTENTION_COLLECT));
        if (cap != mine) atomic_store_explicit(&cap->holder, HOLDER_FREE, memory_order_release);
    }
    releaseLock(&capsLock);
    leaveStopped();
    wakeAfterRestart();
    for (unsigned i = 0; i < n; i++) {
        uint32_t asked = atomic_load_explicit(&capabilities[i].attention, memory_order_relaxed);
        if (hasWork(&capabilities[i]) || asked & ATTENTION_INBOX) {
            wakeWorker();
            break;
        }
    }
}

void waitForStopper(void)
{
    osFutexWait(&stop.stopping, 1, 10 * 1000 * 1000);
}

bool stopFromOutside(void)
{
    while (!stopWorld(NULL, 0)) waitForStopper();
    if (numCapabilities != 0) return true;
    leaveStopped();
    return false;
}

uint64_t lastStopNanos(void) { return stop.took; }

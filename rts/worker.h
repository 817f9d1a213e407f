/* worker.h: the runtime's own OS threads, which run unbound threads.
 *
 * A worker has a capability with work, looks for one, is in a safe call of a thread, or is idle and sleeps on its Task's bell.
 * At most one is on its way (flight): who releases a capability with threads in its queue, or posts something into the inbox of a free one,
 * wakes an idle worker, or makes one, unless one is on its way.  The one on its way takes a free capability that has work; then it
 * ends the flight, and starts the next if another capability is free with work.  If it finds none, it enlists as idle, ends the
 * flight, issues membarrier, and looks once more: a release during the flight woke nobody.
 *
 * There are as many as capabilities and safe calls need; RtsConfig.max_workers bounds them, and those that stay idle beyond RtsConfig.spare_workers end. */
#ifndef WORKER_H
#define WORKER_H

#include "capability.h"

void initWorkers(unsigned most, unsigned spare, unsigned capabilities);
/* Exit: idle ones end, and those that come back from runThreads.  Those in safe calls end when they return.  Context: capabilities are closed.
 * Returns when all others have ended. */
void stopWorkers(void);
/* In a forked child: none is left, but for the calling thread (one: it is a worker), which counts as being in a safe call. */
void forgetWorkers(bool one);
/* A worker's OS thread ends from the middle of its work. */
void loseWorker(void);
/* Workers in safe calls: those that began at a capability, less those that ended at one, which need not be the same.  Each count is written by the holder
 * alone, so that no call pays for an atomic operation; who finds the capability free afterwards sees it. */
typedef struct {
    _Atomic uint32_t begun, ended; /* [holder] */
} __attribute__((aligned(64))) CallCount;
extern CallCount callCounts[MAX_CAPABILITIES];

static inline void addOne(_Atomic uint32_t *count)
{
    atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + 1, memory_order_relaxed);
}
/* The calling worker, which holds cap, is about to give it up for a safe call; is back from one, with cap, or with none because its runtime is over. */
static inline void workerCallBegins(Capability *cap) { addOne(&callCounts[cap->no].begun); }
void workerCallEndsLate(void);
static inline void workerCallEnds(Capability *cap)
{
    if (cap == NULL) workerCallEndsLate();
    else addOne(&callCounts[cap->no].ended);
}
/* Have an idle worker, or a new one, run a function that needs no capability but may take one; false: there is none.  Used for collections while all rests. */
bool runOnWorker(void (*errand)(void));

/* A capability that a worker should come to, and none can: the system refuses threads, or all there may be are in safe calls.  Then hosts see to it. */
Capability *findOrphanedWork(Task *task);

unsigned countWorkers(unsigned *idle, unsigned *inCalls);

#endif

/* base/lock.h: the runtime's locks.
 *
 * All are slow-path locks.  Each has a rank; a thread takes locks in rising ranks only, which debug builds check.  The whole
 * order, lowest (taken first) on top: */
#ifndef BASE_LOCK_H
#define BASE_LOCK_H

#include <pthread.h>
#include <stdbool.h>

typedef enum {
    RANK_STARTUP,    /* startup.c: one start or exit at a time */
    RANK_TASKS,      /* task.c: the list of all tasks, the stacks of in-calls against collections, spare records */
    RANK_CAPS,       /* capability.c: waiters, hand-over, stopping */
    RANK_TIME,       /* timekeeper.c: timers and waits for descriptors */
    RANK_SUBMIT,     /* submit.c: submissions and results */
    RANK_WORKERS,    /* worker.c: idle workers */
    RANK_BOUND,      /* bound.c: OS threads of rts_forkOS */
    RANK_THREADS,    /* thread.c: spare records */
    RANK_LEFT,       /* run.c: stacks put away without a capability */
    RANK_STACKS,     /* stack_pool.c: the shared pool */
    RANK_BUDGETS,    /* budget.c: growing the table, spare records */
    RANK_FINALIZERS, /* finalizer.c: batches of finalizers */
    RANK_EXPORTS,    /* foreign_export.c: unlinking lists, their stable pointers */
    RANK_MODULES,    /* module.c: which shared objects are kept loaded */
    RANK_ADJUSTORS,  /* adjustor_pool.c: spare adjustors; signature.c: the table */
    RANK_STABLE,     /* stable_ptr.c: growing the table */
    RANK_STATICS,    /* statics.c: the list of static closures in use */
    RANK_EXTERNALS,  /* gc/external.c: records of external byte arrays */
    RANK_WEAKS,      /* weak.c: C finalizers that are due */
    RANK_BLOCKS,     /* gc/block.c: the block allocator */
    RANK_STATS,      /* stats.c: what was counted */
    RANK_COUNT
} LockRank;

typedef struct {
    pthread_mutex_t mutex;
    LockRank rank;
} Lock;

#define LOCK_INIT(r) { PTHREAD_MUTEX_INITIALIZER, (r) }

void acquireLock(Lock *lock);
void releaseLock(Lock *lock);
/* Take it if nobody holds it; whatever locks the caller holds. */
bool tryLock(Lock *lock);

/* In a forked child, whose other threads are gone: free again, whoever held it.  Returns whether nobody did: what it guards is whole. */
bool renewLock(Lock *lock);

/* Debug builds: does this thread hold it?  (Always true in others.) */
bool holdsLock(Lock *lock);

/* For the checker's own test: the rank that a violation was found at, or -1; debug builds only. */
extern void (*lockOrderViolated)(LockRank held, LockRank wanted);

#endif

#include "base/lock.h"
#include "base/report.h"

void (*lockOrderViolated)(LockRank held, LockRank wanted);

bool renewLock(Lock *lock)
{
    bool free = pthread_mutex_trylock(&lock->mutex) == 0;
    lock->mutex = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    return free;
}

#ifdef CAPSTAN_DEBUG
/* A bit for each rank that this thread holds. */
static _Thread_local unsigned heldRanks __attribute__((tls_model("initial-exec")));

static void checkOrder(Lock *lock)
{
    unsigned higherOrSame = heldRanks >> lock->rank;
    if (higherOrSame == 0) return;
    LockRank held = (LockRank)(lock->rank + __builtin_ctz(higherOrSame));
    if (lockOrderViolated != NULL) lockOrderViolated(held, lock->rank);
    else assertionFailed("locks are taken in rising ranks", "lock rank", (int)held * 100 + (int)lock->rank);
}

void acquireLock(Lock *lock)
{
    checkOrder(lock);
    pthread_mutex_lock(&lock->mutex);
    heldRanks |= 1u << lock->rank;
}

bool tryLock(Lock *lock)
{
    if (pthread_mutex_trylock(&lock->mutex) != 0) return false;
    heldRanks |= 1u << lock->rank;
    return true;
}

void releaseLock(Lock *lock)
{
    heldRanks &= ~(1u << lock->rank);
    pthread_mutex_unlock(&lock->mutex);
}

bool holdsLock(Lock *lock) { return (heldRanks >> lock->rank & 1u) != 0; }
#else
void acquireLock(Lock *lock) { pthread_mutex_lock(&lock->mutex); }
bool tryLock(Lock *lock) { return pthread_mutex_trylock(&lock->mutex) == 0; }
void releaseLock(Lock *lock) { pthread_mutex_unlock(&lock->mutex); }
bool holdsLock(Lock *lock) { return true; }
#endif

/* Threads that wait for time or descriptors. */
#include "exception.h"
#include "os/memory.h"
#include "os/os.h"
#include "rts/Threads.h"
#include "run.h"
#include "schedule.h"
#include "throwto.h"

#include <errno.h>
#include <string.h>

/* ---- Time ---- */

static void endDelay(Timer *timer)
{
    StgTSO *tso = (StgTSO *)(void *)((char *)timer - offsetof(StgTSO, timer));
    uint64_t word = atomic_load_explicit(&tso->wait, memory_order_acquire);
    /* Who ended the wait otherwise cancels the timer before it waits again, and that waits for this. */
    if (word % WAIT_STATES == WAIT_WAITING && whyOf(tso) == ThreadBlockedOnDelay && endWait(tso, word, WAIT_HANDED)) postThread(tso);
}

/* The wait cannot be: end it, or, if somebody was faster and has made the thread runnable, let that have its course. */
static void takeBack(Stack *stack, uint64_t word)
{
    if (!endWait(stack->tso, word, WAIT_HANDED)) threadBlock(stack);
    setWhy(stack->tso, ThreadRunning);
}

/* Wait until then.  false: interrupted. */
static bool delayUntil(Stack *stack, uint64_t deadline)
{
    StgTSO *tso = stack->tso;
    tso->timer.fire = endDelay;
    uint64_t word = beginWait(tso, ThreadBlockedOnDelay);
    if (!startTimer(&tso->timer, deadline)) {
        takeBack(stack, word);
        rts_raiseError(stack, "rts_threadDelay: no memory, or no thread, for a timer");
    }
    threadBlock(stack);
    if (waitState(tso) == WAIT_HANDED) return true;
    cancelTimer(&tso->timer);
    return false;
}

void rts_threadDelay(Stack *stack, HsInt64 microseconds)
{
    rts_poll(stack);
    if (microseconds <= 0) {
        yieldThread(stack);
        return;
    }
    forbidInsideUnsafe(stack, "rts_threadDelay");
    uint64_t now = osMonotonicNanos(), most = (UINT64_MAX - 1 - now) / 1000;
    uint64_t deadline = (uint64_t)microseconds > most ? UINT64_MAX : now + (uint64_t)microseconds * 1000;
    while (!delayUntil(stack, deadline)) raiseInterrupted(stack);
}

/* ---- Descriptors ---- */

/* Its own piece of memory: the thread's stack is nobody else's business, and few threads need one. */
typedef struct {
    FdWait wait;
    StgTSO *tso;
    uint64_t word;
    int error;
} FdRecord;

static void endFdWait(FdWait *wait, int error)
{
    FdRecord *record = (FdRecord *)wait;
    StgTSO *tso = record->tso; /* the record is its own again once its wait is over */
    record->error = error;
    if (endWait(tso, record->word, WAIT_HANDED)) postThread(tso);
}

static int waitForFd(Stack *stack, FdRecord *record, int fd, bool write)
{
    StgTSO *tso = stack->tso;
    for (;;) {
        record->wait.ready = endFdWait;
        record->error = 0;
        record->word = beginWait(tso, write ? ThreadBlockedOnWrite : ThreadBlockedOnRead);
        int error = startFdWait(&record->wait, fd, write);
        if (error != 0) {
            takeBack(stack, record->word);
            return error == EALREADY ? 0 : error;
        }
        threadBlock(stack);
        if (waitState(tso) == WAIT_HANDED) return record->error;
        cancelFdWait(&record->wait);
        return EINTR;
    }
}

static void threadWaitFd(Stack *stack, int fd, bool write, const char *what)
{
    rts_poll(stack);
    forbidInsideUnsafe(stack, what);
    int error;
    do {
        FdRecord *record = rtsMalloc(sizeof *record);
        if (record == NULL) rts_raiseError(stack, "%s: no memory", what);
        record->tso = stack->tso;
        stack->tso->waitRecord = record; /* found there if the runtime ends */
        error = waitForFd(stack, record, fd, write);
        stack->tso->waitRecord = NULL;
        rtsFree(record);
        if (error == EINTR) raiseInterrupted(stack);
    } while (error == EINTR);
    if (error != 0) rts_raiseError(stack, "%s: descriptor %d: %s", what, fd, strerrordesc_np(error));
}

void rts_threadWaitRead(Stack *stack, int fd) { threadWaitFd(stack, fd, false, "rts_threadWaitRead"); }
void rts_threadWaitWrite(Stack *stack, int fd) { threadWaitFd(stack, fd, true, "rts_threadWaitWrite"); }
void rts_closeFdWith(int fd) { closeFdWaits(fd); }

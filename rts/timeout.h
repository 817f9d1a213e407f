/* timeout.h: rts_timeout's exceptions.
 *
 * Each call has a record with a timer and an exception of its own, an object that nobody else has; so nested ones tell theirs apart, and one that is caught on
 * its way means what it means for every other exception.  The records of a thread hang from its TSO, the innermost first.
 *
 * A timer fires on the timekeeper, which holds no capability.  For a bound thread it can do everything; the wait of an unbound one can be ended only by who
 * holds one: so a job is posted, and the record is the job's while that is on its way (state).
 *
 * Ownership: the thread's, but for due (the timer sets it) and state (see there). */
#ifndef TIMEOUT_H
#define TIMEOUT_H

#include "capability.h"
#include "timekeeper.h"

enum {
    TIMEOUT_QUIET,      /* no job was posted */
    TIMEOUT_POSTED,     /* the job is on its way */
    TIMEOUT_AT_WORK,    /* it uses the thread's record */
    TIMEOUT_ABANDONED,  /* the call is over: the job frees the record, and touches nothing else */
};

typedef struct Timeout_ {
    Timer timer;
    Job job;
    struct Timeout_ *outer;
    StgTSO *tso;            /* [const] */
    unsigned where;         /* [const] the capability to post the job to */
    HaskellObj exception;   /* a root */
    _Atomic bool due;       /* time is up, and it was not raised */
    bool raised;            /* it was: nothing comes of it any more */
    _Atomic uint32_t state; /* [atomic] TIMEOUT_* */
} Timeout;

extern const StgInfoTable capstan_Timeout_info;

/* The exception of one that is due, the outermost; NULL: there is none.  The thread's own. */
HaskellObj takeTimeout(StgTSO *tso);
/* One of them can still end a wait.  Context: the thread's own, or the world is stopped. */
static inline bool hasTimeoutToCome(const StgTSO *tso)
{
    for (const Timeout *t = tso->timeouts; t != NULL; t = t->outer)
        if (!t->raised) return true;
    return false;
}
/* The thread ends, or its runtime does: free the records that were left behind.  Touches nothing of the heap. */
void freeTimeouts(StgTSO *tso);
static inline void dropTimeouts(StgTSO *tso)
{
    if (__builtin_expect(__atomic_load_n(&tso->timeouts, __ATOMIC_RELAXED) != NULL, 0)) freeTimeouts(tso);
}

#endif

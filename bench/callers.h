/* A group of threads that call one subject without pause: all attach, meet at a barrier, warm up, and are then counted for a
 * given time. Nothing but the phase is shared between them, and only read. */
#ifndef BENCH_CALLERS_H
#define BENCH_CALLERS_H

#include "histogram.h"
#include <stdint.h>

typedef enum CallKind {
    CALL_PLAIN,    /* subjectCall, counted */
    CALL_TIMED,    /* subjectCall, counted, and the time from the end of one call to the end of the next recorded */
    CALL_WORK      /* subjectWork, counted */
} CallKind;

typedef struct CallerPlan {
    CallKind kind;
    int threads;
    double seconds;    /* counted; the warm-up comes before it */
    int64_t rounds;    /* CALL_WORK: how much work */
} CallerPlan;

typedef struct CallerTotals {
    double seconds;            /* as it came out */
    uint64_t calls;
    uint64_t least, most;      /* calls of the least and the best served thread */
    Histogram latency;         /* CALL_TIMED only; includes one clock reading a call */
} CallerTotals;

/* Runs the plan. Returns 0, or -1 after a message when a thread could not start or a call returned a wrong value. */
int runCallers(const CallerPlan *plan, CallerTotals *totals);

/* What subjectWork(rounds) must return. */
int64_t expectedWork(int64_t rounds);

#endif

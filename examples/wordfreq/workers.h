/* workers.h: the threads that read chunks and call in with them. */
#ifndef WORDFREQ_WORKERS_H
#define WORDFREQ_WORKERS_H

#include "../../bench/histogram.h"
#include "text.h"

typedef struct {
    uint64_t calls, words, largestNs;
    double seconds;     /* from the start of the first thread to the end of the last */
    Histogram latency;  /* of the calls, in nanoseconds, from rts_lock to rts_unlock */
} Work;

/* Count every chunk of the text.  Returns when all threads have ended; shows progress on standard error.
 * false: problem says what went wrong first; some chunks may not have been counted then. */
bool runWorkers(const Text *text, const Options *options, Work *work, char *problem);

#endif

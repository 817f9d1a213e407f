/* submit.h: closures that run in threads of their own, for C that does not wait (rts_submit).
 *
 *     rts_submit          the drain job           the thread           its safe call, or the list of results
 *     QUEUED ----------------> STARTED ----------------> READY ------------------> gone, or a RESULT
 *        |   no memory: back      |
 *        |                        +--- rts_cancel, deadline: an exception in the thread, by a job
 *        +--- rts_cancel, deadline: EXPIRED ---> the tick ---> a thread that calls done, or a RESULT
 *
 * A submission waits in one queue for all capabilities.  To each capability a job can be posted that makes threads of all that is queued; rts_submit posts
 * it to a free one if there is one, and as long as something is queued each tick does so again: then no single holder that does not come to a safepoint,
 * and no lack of memory for a thread, holds it up for ever.
 *
 * Who ends it.  Whoever takes a submission out of a list, under the lock, has it; so its result is delivered once.  Exit takes what is left, when no thread runs any
 * more, except what a thread in C is just about to deliver.
 *
 * Ownership: the list that it is in; STARTED and READY ones belong to their thread, but the list of those names them for exit. */
#ifndef SUBMIT_H
#define SUBMIT_H

#include <stdbool.h>

/* Startup; most: how many may be without their result delivered. */
void initSubmit(unsigned most);
/* Exit, before capabilities are closed for good: nothing is accepted, nothing posted any more. */
void closeSubmit(void);
/* Exit, after dropThreads: everything that was accepted gets its result.  Calls out. */
void finishSubmit(void);
/* In a forked child: there are none, and no results. */
void forgetSubmit(void);
/* On the timekeeper, every tick: see to what is queued or has expired.  Returns whether anything is left. */
bool tickSubmit(void);

#endif

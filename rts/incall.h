/* incall.h: the doors from C into managed code. */
#ifndef INCALL_H
#define INCALL_H

#include "schedule.h"

/* End the in-calls of a thread that goes away with some in progress. */
void abandonTask(Task *task);

/* rts_lock for the runtime's own threads: no hook hears that there is no runtime. */
Capability *lockQuietly(void);

/* "timed out": for people. */
const char *statusWord(SchedulerStatus status);

#endif

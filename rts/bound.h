/* bound.h: bound threads with an OS thread of their own (rts_forkOS). */
#ifndef BOUND_H
#define BOUND_H

#include "task.h"

/* Exit, capabilities are closed: wait for these OS threads, but for those that are in a safe call. */
void awaitBoundThreads(void);
/* In a forked child: there are none. */
void forgetBoundThreads(void);

/* The OS thread ends, and not by running to its end. */
void loseFork(Task *task);

#endif

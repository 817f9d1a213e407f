/* roots.h: what the collector starts from among threads and in-calls, and threads that are blocked for ever. */
#ifndef ROOTS_H
#define ROOTS_H

#include "gc/heap.h"

/* Every thread that runs, can run, or waits for something outside: time, descriptors, C.  Threads that wait for MVars, thunks or other threads are
 * found through those.  The in-calls of one OS thread go together: all of them wait for the innermost one. */
void scanThreadRoots(Visitor *v);
void initThreadRoots(void);
/* In a forked child: no collection is under way. */
void forgetThreadRoots(void);


/* After a collection, the world still stopped: threads found to be blocked for ever get their exception. */
void interruptRevived(void);

#endif

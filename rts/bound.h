/* bound.h: bound threads with an OS thread of their own (rts_forkOS). */
#ifndef BOUND_H
#define BOUND_H

/* Exit, capabilities are closed: wait for these OS threads, but for those that are in a safe call. */
void awaitBoundThreads(void);
/* In a forked child: there are none. */
void forgetBoundThreads(void);

#endif

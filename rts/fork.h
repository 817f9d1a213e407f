/* fork.h: fork() in a host.
 *
 * The child has one thread, the one that forked, and a picture of everything that the others were in the midst of.  Nothing of the runtime is gone on with
 * there: it is as before the first start, and the in-calls that the thread is inside of belong to a runtime that is over.
 *
 * In two steps, for most children call exec or exit at once, and every page that they write to is copied.  In the child of fork() itself: locks are nobody's, there
 * are no capabilities, lists that others may have been editing are forgotten, their memory with them; a few hundred words are written.  In the child's first hs_init: what is
 * large is put in order.  Nothing is done before fork(): not a lock is taken, the parent notices nothing.
 *
 * Who forks while it holds a capability (between rts_lock and rts_unlock, inside an unsafe call or a hook) has in the child a capability that is dead. */
#ifndef FORK_H
#define FORK_H

#include <stdbool.h>

/* From now on children are looked after.  Context: the startup lock.  false: no memory. */
bool watchForks(void);
/* The first start in a child: the second step.  Context: the startup lock. */
void clearAfterFork(void);

/* Of startup.c.  Returns whether no start or exit was under way. */
bool forgetStartup(void);

#endif

/* finalizer.h: who runs finalizers.
 *
 * After a collection the finalizers that it made due are run by a thread of the runtime's own, one after the other (a batch), which hosts leave to
 * workers.  C finalizers are called by the OS thread that collected, if it holds no capability then; else by that thread of the runtime's, in a safe call,
 * before the managed ones.  If there is no memory for a thread, or no stack, ticks try again. */
#ifndef FINALIZER_H
#define FINALIZER_H

#include <stdbool.h>

void initFinalizers(void);
/* On the timekeeper: is anything left to start? */
bool tickFinalizers(void);
/* Exit, after dropThreads: the batches are forgotten. */
void endFinalizers(void);
/* In a forked child: there are none. */
void forgetFinalizers(void);

#endif

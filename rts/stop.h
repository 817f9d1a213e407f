/* stop.h: stopping the world.
 *
 * One thread at a time is the stopper.  It sets STOP on every capability but its own, issues membarrier, turns the free ones from FREE
 * into STOPPED, asks the holders of the others to poll, and sleeps until all are STOPPED.  Whoever releases a capability that has STOP
 * set turns it into STOPPED for the stopper, under the caps lock, under which STOP is set and cleared: nobody acts on a stop that is
 * over.  Who wanted to stop at the same time gives its capability up as at any safepoint. */
#ifndef STOP_H
#define STOP_H

#include "capability.h"

/* Stop everybody.  mine: the capability that the caller holds and keeps, or NULL.  false: another thread is stopping the world;
 * the caller must come to a safepoint (or, with none, may call again).  also: further attention bits to set. */
bool stopWorld(Capability *mine, uint32_t also);
/* Let everybody go on.  Context: the thread that stopped. */
void restartWorld(Capability *mine);
/* Be the stopper no more, with the capabilities as they are. */
void leaveStopped(void);
/* For who holds no capability and lost: sleep until the other stop is over. */
void waitForStopper(void);
/* Stop the world for who holds no capability, whoever else wants to; restartWorld(NULL) ends that.  false: there is no runtime, and nothing is stopped. */
bool stopFromOutside(void);
/* How long the last stopWorld took, nanoseconds. */
uint64_t lastStopNanos(void);

void initStop(void);
/* In a forked child: nobody stops the world. */
void forgetStop(void);

#endif

/* What Capstan's threads do in figures B4 to B7a: IO functions of the number of operations wanted, which return how many were
 * seen to happen. */
#ifndef BENCH_SCHED_MANAGED_H
#define BENCH_SCHED_MANAGED_H

#include <Rts.h>
#include <rts/Managed.h>
#include <stdint.h>

/* Calls of C: by the in-call itself, and by an unbound thread that it waits for. */
CAPSTAN_EXTERN(callUnsafe);
CAPSTAN_EXTERN(callSafe);
CAPSTAN_EXTERN(callUnsafeUnbound);
CAPSTAN_EXTERN(callSafeUnbound);

/* Threads that are started, count themselves and end: a thousand, then the in-call waits for the last of them, and so on. */
CAPSTAN_EXTERN(startThreads);

/* Switches between two unbound threads. Yielding ones are kept on one capability, where alone a yield is a switch; a turn
 * after which the other thread has not run in between is not counted. */
CAPSTAN_EXTERN(switchByYield);
/* A number goes back and forth through two MVars, one more each time: wherever the runtime puts the threads, and kept on one
 * capability. */
CAPSTAN_EXTERN(switchByMVar);
CAPSTAN_EXTERN(switchByMVarTogether);
/* The same between the in-call itself and an unbound thread. */
CAPSTAN_EXTERN(switchBound);

/* Threads that wait at one gate, an MVar; returns when each is there. */
CAPSTAN_EXTERN(parkThreads);
/* Lets them pass, one by one; returns when each has ended. */
CAPSTAN_EXTERN(releaseThreads);
/* How many have come to the gate, and have passed it. */
int64_t threadsParked(void);
int64_t threadsReleased(void);

#endif

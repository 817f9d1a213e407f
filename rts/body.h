/* body.h: what threads do, from their first safepoint to their end. */
#ifndef BODY_H
#define BODY_H

#include "run.h"

/* Bodies, by the relatives of createThread: evaluate; run an action; run an action and evaluate its result. */
HaskellObj runGenThread(Stack *stack, void *closure);
HaskellObj runIOThread(Stack *stack, void *closure);
HaskellObj runStrictIOThread(Stack *stack, void *closure);

/* An exception ended a thread: tell the host. */
void reportUncaught(Capability *cap, StgTSO *tso, HaskellObj exception);

/* Make unbound threads run these. */
void initBodies(void);

#endif

/* exception.h: raising, and what a raise does to the frames it crosses. */
#ifndef EXCEPTION_H
#define EXCEPTION_H

#include "rts/Managed.h"
#include "stack.h"

/* Whether an exception says something about the evaluator rather than about the value: then thunks under evaluation are
 * re-armed instead of getting it for their result. */
bool isAsynchronous(HaskellObj exception);

/* Let the thunks under evaluation on this stack be evaluated again.  Context: the calling thread holds a capability. */
void rearmThunks(Stack *stack);

/* The status of an evaluation that an exception ended. */
SchedulerStatus statusOfException(HaskellObj exception);

/* Leave all frames up to the base of the in-call without touching the heap. */
_Noreturn void raiseToBase(Stack *stack, HaskellObj exception);

/* A thunk that raises this exception whenever it is evaluated; NULL: no memory. */
HaskellObj newRaisingThunk(Capability *cap, HaskellObj exception);
extern const StgInfoTable raisingThunk_info;

/* Text of an exception; returns its length. */
size_t showException(HaskellObj exception, char *buf, size_t size);

#endif

/* leave.h: OS threads that leave in the middle: pthread_exit, cancellation.
 *
 * Who leaves through the base frame of an in-call (archEnter) kills that in-call, and may go on in the C below it.  Who leaves through the base frame of an unbound
 * thread never comes back: there is nothing to unwind below, so libc goes to the end of the OS thread at once.  With the unbound thread everything goes that
 * the OS thread was doing: the in-call that hosted it, and what that one was called from.  All of this happens while the frames that are left still stand, for
 * thunks under evaluation are found through them.  What is left for the key destructor, which runs on the OS thread's own stack, is the machine stack that was
 * left, and the worker's place among workers. */
#ifndef LEAVE_H
#define LEAVE_H

#include "task.h"

/* Kill the evaluation of an in-call that will never return, and end it: its thunks are re-armed, its roots dropped, its capability
 * given up if it holds one. */
void killInCall(InCall *incall);

/* Kill whatever the calling OS thread is inside of, of its Task: it is about to end. */
void abandonAll(Task *task);

/* For archLeavingSideways. */
void leaveSideways(void *catchFrame, bool forced);

/* Debug builds, when the calling thread, at sp, begins or ends an in-call: in-calls whose frames are gone, though nobody unwound them, are reported
 * (RTS_LEFT_SIDEWAYS) and ended; whether there were any.  Frames above sp that nobody has written over yet look as if they were still there.  What they were evaluating stays under evaluation for ever: its marks went with the frames. */
bool noticeJump(Task *task, uintptr_t sp);

/* The key destructor's part: all the rest. */
void endAbandoned(Task *task);

#endif

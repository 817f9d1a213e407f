/* interrupt.h: breaking off calls out of managed code by a signal (rts_interruptibleCall).
 *
 * While such a call runs, its thread's field breakable names the record of the OS thread that it is on.  Who adds to the thread's pending exceptions issues membarrier
 * and looks at breakable; who begins a call sets breakable, and then looks at pending: so one of the two sees the other.
 *
 * The first signal may come before the system call that it is to break off.  So it is sent again, every INTERRUPT_NANOS, until the call is over; by a timer, which
 * cannot start itself anew where it fires: a job does that.  No signal is sent after the call is over, and the last one has arrived by then. */
#ifndef INTERRUPT_H
#define INTERRUPT_H

#include "thread.h"

#define INTERRUPT_NANOS UINT64_C(10000000)

typedef struct Interrupt_ Interrupt;

/* An exception was added to the pending ones of tso, and in is its breakable.  outside: from where timers cannot be started. */
void interruptCall(Interrupt *in, StgTSO *tso, bool outside);
static inline void breakCall(StgTSO *tso, bool outside)
{
    /* Acquire: the record may be a new one; pairs with enterCall. */
    Interrupt *in = atomic_load_explicit(&tso->breakable, memory_order_acquire);
    if (__builtin_expect(in != NULL, 0)) interruptCall(in, tso, outside);
}
/* The call's frames are left sideways. */
void leaveInterruptible(StgTSO *tso);
/* In a forked child: nobody sends signals. */
void forgetInterrupts(Interrupt *in);

#endif

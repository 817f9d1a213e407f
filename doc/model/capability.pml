/*
 * Threads that acquire and release capabilities, over the protocol of core.pml. README.md lists the switches.
 *
 * Each thread makes ROUNDS acquisitions (one more for thread 0 with EXTRA), and may decide to keep one for ever, so
 * that a lost wake-up is not healed by a later release. When nothing can move any more the Monitor looks:
 *   - no capability is free while a thread sleeps;
 *   - no wake is in flight, no HANDOVER and no WAITERS bit is left without a waiter;
 *   - every capability that is not free is held by a thread that chose to keep it.
 * With PRESET the first threads begin as holders, which spares the search their ways there; with PRESET_LEAVE they never
 * keep a capability, and the others always do.
 * With ENDLESS the threads go on for ever: no cycle may go without an acquisition (progress_got), and with SERVED the
 * claim below is checked.
 */
#include "core.pml"

#ifndef ROUNDS
#define ROUNDS 2
#endif

inline enter()
{
    atomic {
        assert(got < NC);
        assert(holder[got] == me + 1);
        assert(inUse[got] == 0);
        inUse[got] = me + 1
    }
}

bool waiting[NT];

proctype Caller(byte me)
{
    LOCALS;
    byte rounds = ROUNDS;
#ifdef PRESET
    bool begun = 0;
#endif

#ifdef EXTRA
    if :: me == 0 -> rounds = rounds + EXTRA :: else fi;
#endif
    do
    :: rounds > 0 ->
#ifndef ENDLESS
        rounds--;
#endif
        waiting[me] = 1;
#ifdef PRESET
        if
        :: me < NC && !begun -> got = me
        :: else -> waitForCapability()
        fi;
        begun = 1;
#else
        waitForCapability();
#endif
        enter();
progress_got:                   /* somebody always gets on */
        waiting[me] = 0;
#ifdef HOLD
        if
#ifdef PRESET_LEAVE
        :: me < NC
        :: me >= NC -> stays[me] = 1;
#else
        :: true
        :: stays[me] = 1;
#endif
end_hold:
            false
        fi;
#endif
        atomic { assert(inUse[got] == me + 1); inUse[got] = 0 };
        releaseCapability(got);
        got = NONE
    :: else -> break
    od;
    gone[me] = 1
}

#ifdef SERVED
/* Who waits gets one: holds only if the lock is fair and a hand-over does not free the capability (not LATE). */
ltl served { [] (waiting[1] -> <> !waiting[1]) }
#endif

proctype Monitor()
{
    byte c;
    byte t;

    timeout ->
    d_step {
        assert(!flight && qlock == 0);
        c = 0;
        do
        :: c < NC ->
            assert(holder[c] == 0 || stays[holder[c] - 1]);
            assert(holder[c] == inUse[c]);
            assert(nempty(queue) || (att[c] & ~SLOW) == 0);
            t = 0;
            do
            :: t < NT ->
                assert(!(asleep[t] && holder[c] == 0));
                t++
            :: else -> break
            od;
            c++
        :: else -> break
        od
    }
}

init
{
    byte t;

    atomic {
#ifdef PRESET
        holder[0] = 1;
        holder[NC - 1] = NC;
#endif
        t = 0;
        do
        :: t < NT -> run Drain(t); run Caller(t); t++
        :: else -> break
        od;
#ifndef ENDLESS
        run Monitor()
#endif
    }
}

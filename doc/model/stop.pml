/*
 * Stopping the world, polls, two stoppers at once, and exit, over the protocol of core.pml. README.md lists the switches.
 *
 * Threads 0 .. STOPPERS-1 stop the world once, holding a capability; the others only run. With EXIT the last thread is
 * hs_exit, which holds none and closes instead of restarting. A thread may decide to run for ever (HOLD): then it only
 * watches its stack's poll word, so a lost request shows as a stopper that waits for ever. The Monitor looks when
 * nothing can move any more; with ENDLESS the LTL claim is checked instead.
 */
#define STOPS
#ifndef DEPTH
#define DEPTH 4
#endif
#include "core.pml"

#ifndef ROUNDS
#define ROUNDS 1
#endif
#ifndef STOPPERS
#define STOPPERS 1
#endif

bool worldStopped;              /* ghost */
bool awaited;                   /* ghost: a stopper has begun and does not have the world yet */
bool running[NT];               /* ghost: in managed code */

#ifdef HAND
#define YIELD_BITS (STOP | HANDOVER)
#else
#define YIELD_BITS STOP
#endif

inline putPoll(v)
{
    atomic { put(L_POLL + s, v); pending[s]++; newest[s] = v }
}

#define POLLED ((pending[s] != 0 && newest[s]) || (pending[s] == 0 && poll[s]))

/* Publishes the stack now running, and hands a request that came before to it. */
inline runStack()
{
#ifdef BUG_LOAD_FIRST
    lookAtAttention(got);
    put(L_STACK + got, s + 1);
    putPoll(0);
#else
    put(L_STACK + got, s + 1);
    putPoll(0);
    lookAtAttention(got);
#endif
    if
    :: a & YIELD_BITS -> putPoll(1)
    :: else
    fi;
    a = 0
}

inline enterManaged()
{
    atomic {
        assert(got < NC && holder[got] == me + 1 && inUse[got] == 0);
        assert(!worldStopped);
        inUse[got] = me + 1;
        running[me] = 1
    };
    runStack()
}

inline leaveManaged()
{
    atomic { running[me] = 0; inUse[got] = 0; put(L_STACK + got, 0) }
}

inline enterAgain()
{
    got = NONE;
    waitForCapability();
    if
    :: got != DEAD -> enterManaged()
    :: else
    fi
}

inline safepoint()
{
    putPoll(0);
    lookAtAttention(got);
    if
    :: a & YIELD_BITS -> a = 0; leaveManaged(); releaseCapability(got); enterAgain()
    :: else -> a = 0
    fi
}

/* --- the stopper, holding `got` or (exit) NONE -------------------------------------------------------------------- */

inline becomeStopper()
{
    atomic {
        EMPTY ->
        if
        :: stopping == 0 -> stopping = me + 1; count = 0; won = 1; awaited = 1
        :: else
        fi
    }
}

inline setStop(c)
{
#ifdef BUG_PLAIN_OR
    a = att[c] | STOP;
    att[c] = a;
    a = 0
#else
    atomic { att[c] = att[c] | STOP }
#endif
}

inline lockCaps()
{
    WANT_LOCK
    atomic { LOCKABLE -> LOCKED qlock = me + 1 }
}

inline stopOne(c)               /* holding qlock */
{
    atomic { EMPTY -> if :: holder[c] == 0 -> holder[c] = STOPPED; count++ :: else fi };
#ifndef BUG_NO_POLL
    requestPoll(c)
#endif
}

inline allStopped()
{
    assert(count == NC - (got != NONE));
    j = 0;
    do
    :: j < NT -> assert(j == me || !running[j]); j++
    :: else -> break
    od;
    j = 0;
    worldStopped = 1;
    awaited = 0
}

inline stopWorld()
{
#ifndef BUG_PLAIN_OR
    lockCaps();
#endif
    j = 0;
    do
    :: j < NC -> if :: j != got -> setStop(j) :: else fi; j++
    :: else -> break
    od;
#ifndef BUG_PLAIN_OR
    qlock = 0;
#endif
    heavyBarrier();
    lockCaps();
    j = 0;
    do
    :: j < NC -> if :: j != got -> stopOne(j) :: else fi; j++
    :: else -> break
    od;
    j = 0;
    qlock = 0;
    atomic { count >= NC - (got != NONE) -> allStopped() };
    worldStopped = 0
}

/* STOP goes before its capability is free; waiters hear of it last, as of releases during a flight. */
inline restartWorld()
{
#ifdef BUG_STOPPING_EARLY
    atomic { EMPTY -> stopping = 0 };
#endif
#ifndef BUG_FREE_BEFORE_CLEAR    /* and without the lock that keeps releasers from acting between */
    lockCaps();
#endif
    j = 0;
    do
    :: j < NC && j == got -> j++
    :: j < NC && j != got ->
        assert(holder[j] == STOPPED);
#ifdef BUG_FREE_BEFORE_CLEAR
        put(j, 0);
        att[j] = att[j] & ~STOP;
#else
        att[j] = att[j] & ~STOP;
        put(j, 0);
#endif
        j++
    :: j == NC -> break
    od;
    j = 0;
#ifndef BUG_FREE_BEFORE_CLEAR
    qlock = 0;
#endif
    atomic { EMPTY -> stopping = 0 };
#ifndef BUG_NO_RESTART_WAKE
    wakeAfterRestart()
#endif
}

/* Exit: nobody gets a capability any more, and every waiter hears of it. */
inline closeWorld()
{
    lockCaps();
    j = 0;
    do
    :: j < NC -> atomic { EMPTY -> assert(holder[j] == STOPPED); holder[j] = CLOSED; att[j] = att[j] & ~STOP; j++ }
    :: else -> break
    od;
    j = 0;
    atomic {
#ifdef BUG_CLOSE_WAKES_ONE
        if
        :: nempty(queue) -> queue?<j>; word[j] = 1
        :: empty(queue)
        fi;
#else
        do
        :: j < NT ->
            if
            :: queue??[eval(j)] -> word[j] = 1
            :: !(queue??[eval(j)])
            fi;
            j++
        :: j >= NT -> break
        od;
#endif
        j = 0;
        qlock = 0
    };
    atomic { EMPTY -> stopping = 0 }
}

proctype Mutator(byte me)
{
    LOCALS;
    byte rounds = ROUNDS;
    bool wants = (me < STOPPERS);
    bool won = 0;
    byte j = 0;
    byte s = 2 * me;

    do
    :: rounds > 0 && got != DEAD ->
#ifndef ENDLESS
        rounds--;
#endif
        enterAgain();
end_running:
        do
        :: got == DEAD -> break
        :: got != DEAD && POLLED -> safepoint()
        :: got != DEAD && !stays[me] -> leaveManaged(); releaseCapability(got); break
#ifdef SWITCH
        :: got != DEAD && !stays[me] && s == 2 * me -> s = s + 1; runStack()
#endif
#ifdef HOLD
        :: got != DEAD && !stays[me] && !wants -> stays[me] = 1
#endif
        :: got != DEAD && !stays[me] && wants ->
            becomeStopper();
            if
            :: won ->
                stopWorld();
                restartWorld();
                won = 0;
#ifndef ENDLESS
                wants = 0
#endif
            :: else ->          /* the other one stops first */
                leaveManaged();
                releaseCapability(got);
                enterAgain()
            fi
        od;
        s = 2 * me
    :: else -> break
    od;
    gone[me] = 1
}

#ifdef EXIT
proctype Exiter(byte me)
{
    LOCALS;
    bool won = 0;
    byte j = 0;

    do
    :: !won -> stopping == 0; becomeStopper()
    :: else -> break
    od;
    stopWorld();
    closeWorld();
    gone[me] = 1
}
#endif

#ifdef ENDLESS
/* Who sets out to stop the world gets it. */
ltl stopped { [] (awaited -> <> !awaited) }
#endif

proctype Monitor()
{
    byte c;
    byte t;

    timeout ->
    d_step {
        assert(!flight && qlock == 0 && stopping == 0);
        c = 0;
        do
        :: c < NC ->
            assert(holder[c] != STOPPED);
            assert(holder[c] == 0 || holder[c] == CLOSED || stays[holder[c] - 1]);
            assert(holder[c] == CLOSED || holder[c] == inUse[c]);
            assert(!(att[c] & STOP));
            assert(nempty(queue) || (att[c] & ~SLOW) == 0);
            t = 0;
            do
            :: t < NT ->
                assert(!(asleep[t] && (holder[c] == 0 || holder[c] == CLOSED)));
#ifdef EXIT
                assert(gone[t]);
#endif
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
        t = 0;
        do
        :: t < NT ->
            run Drain(t);
#ifdef EXIT
            if
            :: t == NT - 1 -> run Exiter(t)
            :: else -> run Mutator(t)
            fi;
#else
            run Mutator(t);
#endif
            t++
        :: else -> break
        od;
#ifndef ENDLESS
        run Monitor()
#endif
    }
}

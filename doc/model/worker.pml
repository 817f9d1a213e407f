/*
 * Workers' sleep and wake, over the store buffers of memory.pml. README.md says which C function each inline stands for,
 * and lists the switches.
 *
 * A capability has a run queue, which only its holder touches (others look whether it is empty), and an inbox, which
 * anybody adds to. Threads 0 .. NW-1 are workers; then NH callers, who take a free capability, leave threads in its queue
 * or do not, and release; then NP posters, who hold none and post to an inbox; with STOPPER one who stops the world. Callers
 * wait without a protocol of their own here: capability.pml has that. Workers that are more than SPARE end when
 * idle, and are made again, at most MOST at a time. With HOLD who holds a capability may keep it for ever, so that no later
 * release heals a lost wake-up. When nothing can move any more the Monitor looks:
 *   - no capability is free with work or an inbox while a worker sleeps, or could be made;
 *   - no wake is in flight, and who sleeps is in the list of idle ones;
 *   - who keeps a capability has seen its inbox.
 */
#ifndef NC
#define NC 2
#endif
#ifndef NW
#define NW 2
#endif
#ifndef NH
#define NH 1
#endif
#ifndef NP
#define NP 1
#endif
#ifndef DEPTH
#define DEPTH 2
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif
#ifndef SPARE
#define SPARE (NW + 1)
#endif
#ifndef MOST
#define MOST NW
#endif
#ifdef STOPPER
#define NT (NW + NH + NP + 1)
#else
#define NT (NW + NH + NP)
#endif

#define NONE    255
#define STOPPED 101

byte holder[NC];                /* 0 free, t + 1 held by thread t */
bool inboxBit[NC];              /* attention: INBOX */
byte inbox[NC];                 /* threads that were posted */
byte runq[NC];                  /* [holder] threads in the queue */
bool head[NC];                  /* what the others see of it: are there any? */
bool flight;                    /* a worker is on its way */
byte wlock;                     /* the workers lock: guards idle, sent, alive */
chan idle = [NW] of { byte };
bool sent[NW];                  /* [wlock] woken with the flight; a futex word */
bool rung[NW];                  /* a bell that others ring as well */
byte alive;                     /* [wlock] workers that there are */
chan unborn = [NW] of { byte };  /* those that may be made */

/* ghosts */
bool asleep[NW];
bool stays[NT];
byte inUse[NC];

/* locations: holder 0.., flight 10, head 20.. */
#define L_FLIGHT 10
#define L_HEAD   20

inline apply(t, l, v)
{
    if
    :: l < L_FLIGHT -> holder[l] = v
    :: l == L_FLIGHT -> flight = v
    :: l >= L_HEAD -> head[l - L_HEAD] = v
    fi
}

#include "memory.pml"

#ifdef WEAK
#define RMW       true
#define RMW_ON(c) (!(buf[me]??[eval(c), 0]))
#else
#define RMW       EMPTY
#define RMW_ON(c) EMPTY
#endif

#define LOCKABLE  (RMW && wlock == 0)

/* Behind a store that others must see before what is read next. */
inline fenceReleaser()
{
#if defined(BUG_NO_FENCE) || (defined(BARRIERS) && !defined(REFUSED))
    skip
#else
    fence()
#endif
}

/* BARRIERS: the other way, a heavy barrier wherever a flight ends, and no fence in releasers. */
inline fenceWorker()
{
#if defined(BUG_NO_FENCE_AT_END)
    skip
#elif defined(BARRIERS)
    heavyBarrier()
#else
    fence()
#endif
}

/* --- waking ----------------------------------------------------------------------------------------------------- */

inline takeFlight()             /* -> flies */
{
    if
    :: flight
    :: !flight -> atomic { RMW -> if :: !flight -> flight = 1; flies = 1 :: else fi }
    fi
}

inline endFlight()
{
    put(L_FLIGHT, 0)
}

/* Somebody has the flight: an idle worker gets it, or a new one, or it ends, as all there can be are busy. */
inline sendWorker()
{
    atomic {
        LOCKABLE ->
        if
        :: nempty(idle) -> idle?w; sent[w] = 1; rung[w] = 1
        :: empty(idle) && alive < MOST && nempty(unborn) -> unborn?w; alive++; sent[w] = 1
#ifdef BUG_EMPTY_OUTSIDE_LOCK
        :: empty(idle) && alive >= MOST -> refused = 1
#else
        :: empty(idle) && alive >= MOST -> flight = 0
#endif
        fi;
        w = 0
    };
    if
    :: refused -> refused = 0; endFlight()
    :: else
    fi
}

/* A capability was left free with work. */
inline wakeWorker()
{
    fenceReleaser();            /* it is free before this looks at the flight */
    takeFlight();
    if
    :: flies -> flies = 0; sendWorker()
    :: else
    fi
}

inline lookForMore()            /* -> remain */
{
    i = 0;
    do
    :: i < NC && !remain ->
        if
        :: holder[i] == 0 -> remain = (head[i] || inboxBit[i])
        :: holder[i] != 0
        fi;
        i++
    :: else -> break
    od;
    i = 0
}

/* --- capabilities ----------------------------------------------------------------------------------------------- */

inline tryTake(c)               /* -> got */
{
    atomic {
        RMW_ON(c) ->
        if
        :: holder[c] == 0 ->
            assert(inUse[c] == 0 && head[c] == (runq[c] > 0));
            holder[c] = me + 1;
            inUse[c] = me + 1;
            got = c
        :: else
        fi
    }
}

inline setQueue(c, n)
{
    atomic { runq[c] = n; put(L_HEAD + c, (runq[c] > 0)) }
}

/* The holder: what came from outside goes into the queue. The bit first: who adds something afterwards sets it again. */
inline drainInbox(c)
{
#ifdef BUG_BIT_LAST
    atomic { RMW -> w = inbox[c]; inbox[c] = 0 };
    if :: w > 0 -> setQueue(c, runq[c] + w) :: else fi;
    w = 0;
    atomic { RMW -> inboxBit[c] = 0 }
#else
    atomic { RMW -> inboxBit[c] = 0 };
    atomic { RMW -> w = inbox[c]; inbox[c] = 0 };
    if :: w > 0 -> setQueue(c, runq[c] + w) :: else fi;
    w = 0
#endif
}

inline releaseCapability(c)
{
    atomic { assert(inUse[c] == me + 1); inUse[c] = 0; remain = (runq[c] > 0) };
#ifdef BUG_BIT_FIRST
    remain = remain || inboxBit[c];
    put(c, 0);
#else
    put(c, 0);
#if defined(REFUSED)
    fence();
#endif
    remain = remain || inboxBit[c];
#endif
    if
#ifndef BUG_WORK_LEFT
    :: remain -> remain = 0; wakeWorker()
#else
    :: remain -> remain = 0; if :: inboxBit[c] -> wakeWorker() :: else fi
#endif
    :: else
    fi
}

/* For ever: its thread runs, and polls. */
inline stay(c)
{
    stays[me] = 1;
end_stay:
    do
    :: inboxBit[c] -> drainInbox(c)
    od
}

/* --- workers ---------------------------------------------------------------------------------------------------- */

inline findWork()               /* -> got */
{
    i = 0;
    do
    :: i < NC && got == NONE ->
        if
        :: holder[i] == 0 ->
            if
            :: head[i] || inboxBit[i] -> tryTake(i)
            :: else
            fi
        :: holder[i] != 0
        fi;
        i++
    :: else -> break
    od;
    i = 0
}

/* Its threads, until there are none, or the capability is wanted for something else. */
inline runThreads(c)
{
    do
    :: inboxBit[c] -> drainInbox(c)
    :: !inboxBit[c] && runq[c] > 0 ->
        setQueue(c, runq[c] - 1);
#ifdef HOLD
        if
        :: true
        :: true -> stay(c)
        fi
#endif
    :: !inboxBit[c] && runq[c] == 0 -> break
#ifdef MAKE_WAY
    :: !inboxBit[c] -> break
#endif
    od
}

/* Into the list, or over. The flight, if this worker has it, ends; then one more look, as those who saw it woke nobody. */
inline rest()                   /* -> flies: on its way; else it has to be sent */
{
#ifdef BUG_SCAN_FIRST
    lookForMore();
#endif
    atomic {
        LOCKABLE ->
        if
        :: len(idle) >= SPARE ->
            ends = 1;
#ifndef BUG_COUNT_LATE
            alive--
#endif
        :: else -> assert(!(idle??[eval(me)])); idle!me; rung[me] = 0
        fi;
        if
#ifdef BUG_FLIGHT_LEAK
        :: flies && !ends -> flies = 0
        :: flies && ends -> flies = 0; flight = 0
#else
        :: flies -> flies = 0; flight = 0
#endif
        :: !flies
        fi
    };
    fenceWorker();
#if !defined(BUG_SCAN_FIRST) && !defined(BUG_NOT_RESCANNED)
    lookForMore();
#endif
    if
    :: remain -> remain = 0; takeFlight()
    :: else
    fi;
    atomic {
        LOCKABLE ->
        if
        :: flies && !ends ->    /* who sends has the flight, which this one has: so it is in the list */
            assert(idle??[eval(me)]);
            idle??eval(me)
#ifdef BUG_COUNT_LATE
        :: flies && ends
        :: !flies && ends -> alive--; unborn!me
#else
        :: flies && ends -> alive++
        :: !flies && ends -> unborn!me
#endif
        :: !flies && !ends
        fi;
        ends = 0
    }
}

#ifdef BUG_BELL_ALONE
#define WOKEN (sent[me] || rung[me])
#else
#define WOKEN sent[me]
#endif

inline sleepUntilSent()
{
    asleep[me] = 1;
end_asleep:
    atomic { WOKEN -> sent[me] = 0; asleep[me] = 0; flies = 1 }
}

proctype Worker(byte me)
{
    byte got = NONE; byte i = 0; byte w = 0; byte bt = 0; byte bl = 0; byte bv = 0;
    bool remain = 0; bool flies = 0; bool refused = 0; bool ends = 0;

    do
    :: sleepUntilSent();
        do
        :: true ->
            findWork();
            if
            :: got != NONE ->
                if
                :: flies -> flies = 0; endFlight(); fenceWorker()
                :: else
                fi;
#ifndef BUG_SECOND_FORGOTTEN
                lookForMore();  /* others that were released meanwhile woke nobody */
                if
                :: remain -> remain = 0; wakeWorker()
                :: else
                fi;
#endif
                runThreads(got);
                releaseCapability(got);
                got = NONE;
                takeFlight()
            :: else ->
                rest();
                if
                :: flies
                :: else -> break
                fi
            fi
        od
    od
}

/* --- the others ------------------------------------------------------------------------------------------------- */

proctype Caller(byte me)
{
    byte got = NONE; byte i = 0; byte w = 0; byte bt = 0; byte bl = 0; byte bv = 0;
    bool remain = 0; bool flies = 0; bool refused = 0;
    byte rounds = ROUNDS;

    do
    :: rounds > 0 ->
        rounds--;
end_waiting:
        do
        :: holder[0] == 0 && got == NONE -> tryTake(0)
#if NC > 1
        :: holder[1] == 0 && got == NONE -> tryTake(1)
#endif
        :: got != NONE -> break
        od;
        if
        :: true
        :: setQueue(got, runq[got] + 1)
        :: inboxBit[got] -> drainInbox(got)
#ifdef HOLD
        :: stay(got)
#endif
        fi;
        releaseCapability(got);
        got = NONE
    :: else -> break
    od
}

proctype Poster(byte me)
{
    byte i = 0; byte w = 0; byte bt = 0; byte bl = 0; byte bv = 0;
    bool remain = 0; bool flies = 0; bool refused = 0;

    if
    :: true
#if NC > 1
    :: i = 1
#endif
    fi;
#ifdef BUG_BIT_EARLY
    atomic { RMW -> inboxBit[i] = 1 };
    atomic { RMW -> inbox[i]++ };
#else
    atomic { RMW -> inbox[i]++ };
    atomic { RMW -> inboxBit[i] = 1 };
#endif
    heavyBarrier();
    if
    :: holder[i] == 0 -> i = 0; wakeWorker()
    :: holder[i] != 0 -> i = 0
    fi
}

#ifdef STOPPER
/* Who releases meanwhile wakes somebody who finds nothing; who posts sees no free capability. */
proctype Stopper(byte me)
{
    byte i = 0; byte w = 0; byte bt = 0; byte bl = 0; byte bv = 0;
    bool remain = 0; bool flies = 0; bool refused = 0;

    do
    :: i < NC ->
end_stopping:
        atomic { holder[i] == 0 -> holder[i] = STOPPED };
        i++
    :: else -> break
    od;
    i = 0;
    do
    :: i < NC -> put(i, 0); i++
    :: else -> break
    od;
    fence();
#ifndef BUG_NO_RESTART_WAKE
    lookForMore();
    if
    :: remain -> remain = 0; wakeWorker()
    :: else
    fi
#endif
}
#endif

#ifdef STRAY
/* Somebody else who rings a worker's bell. */
proctype Stray()
{
    rung[0] = 1
}
#endif

proctype Monitor()
{
    byte c;
    byte t;

    timeout ->
    d_step {
        assert(!flight && wlock == 0);
        c = 0;
        do
        :: c < NC ->
            assert(holder[c] == inUse[c] || holder[c] == STOPPED);
            assert(holder[c] == 0 || holder[c] == STOPPED || (stays[holder[c] - 1] && inbox[c] == 0));
            assert(!(holder[c] == 0 && (runq[c] > 0 || inbox[c] > 0) && (len(idle) > 0 || alive < MOST)));
            c++
        :: else -> break
        od;
        t = 0;
        do
        :: t < NW -> assert(!(asleep[t] && sent[t])); t++
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
            if
            :: t < NW && t < SPARE && t < MOST -> idle!t; alive++; run Worker(t)
            :: t < NW && !(t < SPARE && t < MOST) -> unborn!t; run Worker(t)
            :: t >= NW && t < NW + NH -> run Caller(t)
            :: t >= NW + NH && t < NW + NH + NP -> run Poster(t)
#ifdef STOPPER
            :: t == NW + NH + NP -> run Stopper(t)
#endif
            fi;
            t++
        :: else -> break
        od;
#ifdef STRAY
        run Stray();
#endif
        run Monitor()
    }
}

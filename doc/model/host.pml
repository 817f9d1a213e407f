/*
 * A bound thread that waits while its OS thread hosts others, over the store buffers of memory.pml. README.md says which C
 * function each inline stands for, and lists the switches.
 *
 * OS thread 0 is the host: it holds capability 0, whose queue has the unbound threads 0 .. NU-1, and its own, bound thread
 * waits, ROUNDS times. OS threads 1 .. NW are workers, who take any free capability with threads in its queue (how they
 * come to know of it is in worker.pml). The last one, unless LONELY, is outside: it holds no capability, as the one that
 * keeps time. Whoever finds the bound thread waiting may wake it, once for each wait: a hosted thread, one on a worker, the
 * one outside. What may run for ever does nothing but poll, so that a lost request shows. An unbound
 * thread ends, or makes a safe call first, or runs for ever and only polls. At every moment: one holder for each capability,
 * a thread runs in one place, what has made a safe call runs on workers. When nothing can move any more the Monitor looks:
 *   - the bound thread is not held up: if its wait is over, its OS thread has gone on, or waits for a capability while none
 *     is free;
 *   - no capability is free with threads in its queue while a worker has nothing to do;
 *   - who holds one runs a thread for ever.
 */
#ifndef NC
#define NC 1
#endif
#ifndef NU
#define NU 2
#endif
#ifndef NW
#define NW 1
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif
#ifndef DEPTH
#define DEPTH 4
#endif
#define NT (NW + 2)
#define HOST    0
#define OUTSIDE (NW + 1)
#define NONE 255

/* the bound thread's word */
#define RUNNING 0
#define WAITING 1
#define HANDED  2

/* what runThreads comes back with */
#define RUN_OUT      1
#define RUN_OWN_TURN 2

byte holder[NC];                /* 0 free, t + 1 held by OS thread t */
bool hostBit[NC];               /* attention: HOST */
byte stackOf[NC];               /* u + 1: the stack that runs there */
chan runq[NC] = [NU] of { byte };       /* [holder] */
bool head[NC];                  /* what the others see of it: are there any? */
bool poll[NU];                  /* of the stacks */
byte pending[NU];               /* stores of the host's to it still in the buffer, and the newest of them: */
bool newest[NU];                /* a thread sees its own buffered stores */
bool noHost[NU];                /* has made a safe call */

byte wait;                      /* the bound thread's word */
bool offer;                     /* it can be found: it is in an MVar's queue, or its timer runs */
byte bell;                      /* futex word of the host */
bool sleeping;                  /* [host] it has to be woken after ringing */
byte hosting;                   /* [host] c + 1: where it hosts */

/* ghosts */
bool asleep;                    /* in futex_wait */
bool done;                      /* the bound thread has ended */
bool stays[NT];                 /* runs a thread for ever */
bool runs[NU];
byte inUse[NC];

/* locations: holder 0.., head 10.., stackOf 20.., poll 30.., wait 40, offer 41, hosting 42, sleeping 43 */
#define L_HEAD     10
#define L_STACK    20
#define L_POLL     30
#define L_WAIT     40
#define L_OFFER    41
#define L_HOSTING  42
#define L_SLEEPING 43

inline apply(t, l, v)
{
    if
    :: l < L_HEAD -> holder[l] = v
    :: l >= L_HEAD && l < L_STACK -> head[l - L_HEAD] = v
    :: l >= L_STACK && l < L_POLL -> stackOf[l - L_STACK] = v
    :: l >= L_POLL && l < L_WAIT ->
        poll[l - L_POLL] = v;
        if
        :: t == HOST ->
            pending[l - L_POLL]--;
            if
            :: pending[l - L_POLL] == 0 -> newest[l - L_POLL] = 0
            :: else
            fi
        :: else
        fi
    :: l == L_WAIT -> wait = v
    :: l == L_OFFER -> offer = v
    :: l == L_HOSTING -> hosting = v
    :: l == L_SLEEPING -> sleeping = v
    fi
}

#include "memory.pml"

#define RMW EMPTY

inline putPoll(u, b)            /* by the host, on whose OS thread u runs */
{
    atomic { put(L_POLL + u, b); pending[u]++; newest[u] = b }
}
#define POLLED(u) ((pending[u] != 0 && newest[u]) || (pending[u] == 0 && poll[u]))

/* --- capabilities ----------------------------------------------------------------------------------------------- */

inline noteHead(c)
{
    put(L_HEAD + c, (len(runq[c]) > 0))
}

inline takeAny()                /* -> cap; waits as long as it must */
{
    do
    :: cap == NONE ->
end_waiting:
        atomic {
            if
            :: RMW && holder[0] == 0 -> cap = 0
#if NC > 1
            :: RMW && holder[1] == 0 -> cap = 1
#endif
            fi;
            assert(inUse[cap] == 0);
            holder[cap] = me + 1;
            inUse[cap] = me + 1
        }
    :: cap != NONE -> break
    od
}

inline releaseCapability()
{
    atomic { assert(inUse[cap] == me + 1); inUse[cap] = 0; put(L_STACK + cap, 0); put(cap, 0); cap = NONE }
}

/* --- waking the bound thread ------------------------------------------------------------------------------------- */

/* If it is there to be found: by a plain store under a lock, or (TIMER) by exchange. */
inline endWait()                /* -> won */
{
    atomic { RMW -> if :: offer -> offer = 0; won = 1 :: !offer fi };
    if
#ifdef TIMER
    :: won && me == OUTSIDE -> atomic { RMW -> wait = HANDED }
    :: won && me != OUTSIDE -> put(L_WAIT, HANDED)
#else
    :: won -> put(L_WAIT, HANDED)
#endif
    :: !won
    fi
}

/* By who is not its OS thread. */
inline wakeBound()
{
#ifdef BUG_PLAIN_BELL
    bell = (bell + 1) % 4;
#else
    atomic { RMW -> bell = (bell + 1) % 4 };
#endif
    if
    :: sleeping -> asleep = 0   /* futex_wake */
    :: !sleeping
    fi;
    there = hosting;
    if
    :: there != 0 ->
        atomic { RMW -> hostBit[there - 1] = 1 };
        heavyBarrier();
        there = stackOf[there - 1];
        if
        :: there != 0 -> put(L_POLL + there - 1, 1)
        :: there == 0
        fi;
        there = 0
    :: there == 0
    fi
}

inline wakeIfWaiting()
{
    endWait();
    if
    :: won -> won = 0; wakeBound()
    :: !won
    fi
}

inline fenceIfRefused()
{
#if defined(REFUSED) && !defined(BUG_NO_FENCE)
    fence()
#else
    skip
#endif
}

/* --- the host ----------------------------------------------------------------------------------------------------- */

/* Let u run on this OS thread. */
inline switchTo(u)
{
    atomic { assert(!runs[u] && !noHost[u]); runs[u] = 1; put(L_STACK + cap, u + 1) };
    putPoll(u, 0);
    fenceIfRefused();
#ifndef BUG_NOT_ON_ENTRY
    if
    :: hostBit[cap] -> putPoll(u, 1)
    :: !hostBit[cap]
    fi
#endif
}

/* The first of the queue that may be run here -> u; NONE: there is none. */
inline popHostable()
{
    atomic {
        u = NONE;
        n = len(runq[cap]);
        do
        :: n > 0 ->
            runq[cap]?w;
            if
            :: u == NONE && !noHost[w] -> u = w
            :: else -> runq[cap]!w
            fi;
            n--
        :: n == 0 -> break
        od;
        w = 0;
        noteHead(cap)
    }
}

/* At the front of the queue. */
inline pushFront(x)
{
    atomic {
        n = len(runq[cap]);
        runq[cap]!x;
        do
        :: n > 0 -> runq[cap]?w; runq[cap]!w; n--
        :: n == 0 -> break
        od;
        w = 0;
        noteHead(cap)
    }
}

/* The thread u leaves the processor: for the next one, or home. */
inline switchAway()
{
    runs[u] = 0;
    if
    :: !POLLED(u) && !hostReady && len(runq[cap]) > 0 ->
        atomic { runq[cap]?<w>; if :: noHost[w] -> w = NONE :: !noHost[w] -> runq[cap]?w; noteHead(cap) fi; u = w; w = 0 };
        if
        :: u != NONE -> switchTo(u)
        :: u == NONE
        fi
    :: POLLED(u) || hostReady || len(runq[cap]) == 0 -> u = NONE
    fi
}

inline safepoint()
{
    putPoll(u, 0);
    fenceIfRefused();
    if
    :: hostBit[cap] -> atomic { RMW -> hostBit[cap] = 0 };
#ifndef BUG_NEXT_NOT_HOME
        hostReady = 1
#else
        atomic { runq[cap]!u; noteHead(cap) };
        switchAway()
#endif
    :: !hostBit[cap]
    fi;
    if
#ifdef BUG_YIELD_TO_OTHERS
    :: hostReady && u != NONE && len(runq[cap]) > 0 ->
#else
    :: hostReady && u != NONE ->
#endif
        atomic { runs[u] = 0; runq[cap]!u; noteHead(cap); u = NONE }
    :: else
    fi
}

/* The hosted thread u, until this OS thread is home. */
inline runHosted()
{
end_hosted:
    do
    :: u == NONE -> break
    :: u != NONE && POLLED(u) -> safepoint()
    :: u != NONE && !stays[me] && offer ->
        endWait();
        if
        :: won -> won = 0; hostReady = 1; putPoll(u, 1)
        :: !won
        fi
    :: u != NONE && !stays[me] && !noHost[u] ->         /* a safe call: on a worker, and no more hosts from now on */
        noHost[u] = 1;
        pushFront(u);
        atomic { runs[u] = 0; u = NONE };
        result = RUN_OUT
    :: u != NONE && !stays[me] -> switchAway()          /* it ends */
    :: u != NONE && !stays[me] -> stays[me] = 1
    od;
    stays[me] = 0
}

/* -> result */
inline runThreads()
{
    result = 0;
    do
    :: result == 0 ->
        put(L_STACK + cap, 0);
#ifdef BUG_CLEAR_LAST
        if
        :: hostReady || wait != WAITING -> result = RUN_OWN_TURN
        :: !hostReady && wait == WAITING
        fi;
#endif
        if
        :: hostBit[cap] -> atomic { RMW -> hostBit[cap] = 0 }
        :: !hostBit[cap]
#ifdef MAKE_WAY
        :: result = RUN_OUT     /* the capability is wanted */
#endif
        fi;
#ifndef BUG_CLEAR_LAST
        if
        :: hostReady || wait != WAITING -> result = RUN_OWN_TURN
        :: !hostReady && wait == WAITING
        fi;
#endif
        if
        :: result == 0 ->
            popHostable();
            if
            :: u != NONE -> switchTo(u); runHosted()
            :: u == NONE -> result = RUN_OUT
            fi
        :: result != 0
        fi
    :: result != 0 -> break
    od
}

inline sleepUntilRung()
{
    do
    :: true ->
        seen = bell;
#ifdef BUG_PLAIN_SLEEPING
        put(L_SLEEPING, 1);
#else
        atomic { RMW -> sleeping = 1 };
#endif
        if
        :: wait != WAITING -> break
        :: wait == WAITING
        fi;
        atomic { if :: bell == seen -> asleep = 1 :: bell != seen fi };
end_asleep:
        !asleep
    od;
    seen = 0;
    put(L_SLEEPING, 0)
}

inline hostUntilWoken()
{
    do
    :: EMPTY && wait == WAITING ->
        hostReady = 0;
#ifdef BUG_PLAIN_HOSTING
        put(L_HOSTING, cap + 1);
#else
        atomic { RMW -> hosting = cap + 1 };
#endif
        runThreads();
        if
        :: result == RUN_OUT ->
            hostReady = 0;
#ifndef BUG_KEEPS_CAPABILITY
            put(L_HOSTING, 0);
            releaseCapability();
#endif
            sleepUntilRung();
            takeAny()
        :: result == RUN_OWN_TURN
        fi;
        result = 0
    :: EMPTY && wait != WAITING -> break
    od;
    hostReady = 0;
    put(L_HOSTING, 0)
}

proctype Host(byte me)
{
    byte cap = 0; byte u = 0; byte w = 0; byte n = 0; byte result = 0; byte seen = 0; byte there = 0;
    byte bt = 0; byte bl = 0; byte bv = 0; byte rounds = ROUNDS;
    bool hostReady = 0; bool won = 0;

    do
    :: rounds > 0 ->
        rounds--;
        put(L_WAIT, WAITING);
        put(L_OFFER, 1);
        hostUntilWoken()
    :: rounds == 0 -> break
    od;
    releaseCapability();
    done = 1
}

/* --- the others ---------------------------------------------------------------------------------------------------- */

inline safeCall()
{
    releaseCapability();
    takeAny()
}

inline tryTake(c)
{
    atomic {
        RMW ->
        if
        :: holder[c] == 0 -> assert(inUse[c] == 0); holder[c] = me + 1; inUse[c] = me + 1; cap = c
        :: else
        fi
    }
}

proctype Worker(byte me)
{
    byte cap = NONE; byte u = NONE; byte there = 0; byte bt = 0; byte bl = 0; byte bv = 0;
    bool won = 0;

end_idle:
    do
    :: cap == NONE && head[0] && holder[0] == 0 -> tryTake(0)
#if NC > 1
    :: cap == NONE && head[1] && holder[1] == 0 -> tryTake(1)
#endif
    :: cap != NONE && hostBit[cap] -> atomic { RMW -> hostBit[cap] = 0 }        /* it came late */
    :: cap != NONE && nempty(runq[cap]) ->
        atomic { runq[cap]?u; noteHead(cap); assert(!runs[u]); runs[u] = 1 };
        if
        :: noHost[u] -> safeCall()
        :: true
        :: atomic { !noHost[u] -> noHost[u] = 1 }; safeCall()
        fi;
        if
        :: offer -> wakeIfWaiting()
        :: true
        :: stays[me] = 1;
end_stays:
            false
        fi;
        atomic { runs[u] = 0; u = NONE }
    :: cap != NONE && empty(runq[cap]) -> releaseCapability()
    od
}

proctype Outside(byte me)
{
    byte there = 0; byte bt = 0; byte bl = 0; byte bv = 0;
    bool won = 0;

end:
    do
    :: offer -> wakeIfWaiting()
    od
}

proctype Monitor()
{
    byte c;

    timeout ->
    d_step {
        assert(done || wait == WAITING || (holder[0] != 0 && holder[NC - 1] != 0 && hosting == 0));
        assert(wait != WAITING || offer);
        c = 0;
        do
        :: c < NC ->
            assert(holder[c] == inUse[c]);
            assert(!(holder[c] == 0 && len(runq[c]) > 0) || (stays[1] && stays[NW]));
            assert(holder[c] == 0 || stays[holder[c] - 1]);
            c++
        :: else -> break
        od
    }
}

init
{
    byte t;

    atomic {
        holder[0] = HOST + 1;
        inUse[0] = HOST + 1;
        t = 0;
        do
        :: t < NU -> runq[0]!t; t++
        :: else -> break
        od;
        head[0] = 1;
        run Drain(HOST);
        run Host(HOST);
        t = 1;
        do
        :: t <= NW -> run Drain(t); run Worker(t); t++
        :: else -> break
        od;
#ifndef LONELY
        run Drain(OUTSIDE);
        run Outside(OUTSIDE);
#endif
        run Monitor()
    }
}

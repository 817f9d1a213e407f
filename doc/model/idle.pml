/*
 * When an idle collection comes (schedule.c: noteRest, collectWhenIdle, isAllSeen, noteSeen). README.md lists the switches.
 *
 * Threads hold a capability each; in ROUNDS turns each changes something that only a collection of everything finds (its census: a thread that
 * waits now, or has ended), by a plain store, and then says that it rests, before or after it gives the capability up. Who finds nobody armed, and
 * something unseen, arms: the timer is started. When it has fired its worker disarms, and collects unless all is seen. That the timer waits until all is calm
 * spares collections, and is left out: it fires any time.
 *
 * When nothing can move any more, the last collection has found all that was changed.
 * What nurseries take is counted by atomic additions; so only the census is modelled.
 */
#ifndef THREADS
#define THREADS 2
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif
#define NT (THREADS + 1)        /* the last one is the worker */
#ifndef DEPTH
#define DEPTH 3
#endif

byte census[NT];                /* [holder to write] of a thread's capability */
bool held[NT];                  /* its capability is */
bool stopped;                   /* the world is to be */
bool armed;                     /* the timer is started, or its worker on the way */
bool timer;                     /* started, and not fired */
byte seen;                      /* the sum of the censuses at the last idle collection */

/* ghosts */
byte made;                      /* changes, seen or not */
byte found;                     /* those that were there when the world was last stopped for a collection */

/* locations: censuses 0 .., capabilities 10 .. */
#define L_HELD 10

inline apply(t, l, v)
{
    if
    :: l < L_HELD -> census[l] = v
    :: l >= L_HELD -> held[l - L_HELD] = v
    fi
}

#include "memory.pml"

/* isAllSeen: the censuses are read one after the other, and what was seen before or after that. */
inline lookWhatIsSeen()
{
    first = seen;
    sum = 0; k = 0;
    do
    :: k < THREADS ->
        if
        :: k == me -> sum = sum + mine  /* its own, from its buffer */
        :: k != me -> sum = sum + census[k]
        fi;
        k++
    :: else -> break
    od;
    k = 0;
    if
    :: allSeen = (sum == first)
    :: allSeen = (sum == seen)
    fi
}

inline arm()
{
#ifdef BUG_PLAIN_ARM
    atomic { EMPTY -> armed = 1 };
    old = 0
#else
    atomic { EMPTY -> old = armed; armed = 1 }
#endif
    ;
    if
    :: !old -> atomic { assert(!timer); timer = 1 }
    :: old
    fi;
    old = 0
}

inline noteRest()
{
#if defined(REFUSED) && !defined(BUG_NO_FENCE)
    fence();
#endif
    if
    :: armed
    :: !armed ->
        lookWhatIsSeen();
        if
        :: allSeen
        :: !allSeen -> arm()
        fi;
        sum = 0; first = 0; allSeen = 0
    fi
}

#define LOCALS byte bt, bl, bv, k, sum, first, mine; bool old, allSeen

proctype Thread(byte me)
{
    LOCALS;
    byte rounds = ROUNDS;

    do
    :: rounds > 0 ->
        rounds--;
        atomic { EMPTY && !stopped -> held[me] = 1 };
#ifdef BUG_LOOK_BEFORE
        noteRest();
#endif
        atomic { mine++; made++; buf[me]!me,mine };
#ifdef BUG_LOOK_BEFORE
        put(L_HELD + me, 0)
#else
        if                      /* a worker; a bound thread that sleeps */
        :: noteRest(); put(L_HELD + me, 0)
        :: put(L_HELD + me, 0); noteRest()
        fi
#endif
    :: else -> break
    od
}

/* noteSeen */
inline noteWhatIsSeen()
{
    d_step {
        sum = 0; k = 0;
        do
        :: k < THREADS -> sum = sum + census[k]; k++
        :: else -> break
        od;
        seen = sum;
        k = 0; sum = 0
    }
}

inline collect()
{
    stopped = 1;
    k = 0;
    do
    :: k < THREADS -> !held[k]; k++
    :: else -> break
    od;
    k = 0;
    found = made;
#ifndef BUG_SEEN_LATE
    noteWhatIsSeen();
#endif
    stopped = 0
#ifdef BUG_SEEN_LATE
    ; noteWhatIsSeen()
#endif
}

proctype Worker(byte me)
{
    LOCALS;

end:
    do
    :: atomic { timer -> timer = 0 };
#ifndef BUG_DISARM_LAST
        armed = 0;
        heavyBarrier();
#endif
        lookWhatIsSeen();
        if
        :: allSeen
        :: !allSeen -> collect()
        fi;
        sum = 0; first = 0; allSeen = 0
#ifdef BUG_DISARM_LAST
        ; armed = 0
#endif
    od
}

proctype Monitor()
{
    timeout ->
    assert(found == made);
    assert(!armed)
}

init
{
    byte t;

    atomic {
        do
        :: t < THREADS -> run Thread(t); run Drain(t); t++
        :: else -> break
        od;
        run Worker(THREADS);
        run Monitor();
        t = 0
    }
}

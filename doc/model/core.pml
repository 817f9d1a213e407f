/*
 * The capability word, the attention word, parking and hand-over, over explicit store buffers.
 * Included by capability.pml and stop.pml; README.md says which C function each inline stands for, and lists the switches.
 *
 * Bounds: NC capabilities, NT threads, buffers of DEPTH stores (memory.pml).
 */

#ifndef NC
#define NC 2
#endif
#ifndef NT
#define NT 3
#endif
#ifndef DEPTH
#define DEPTH 2
#endif

/* holder[c]: 0 free, t + 1 held by thread t, or one of these */
#define STOPPED 101
#define CLOSED  102

/* values of `got` that are no capability */
#define NONE 255
#define DEAD 254

/* attention bits */
#define WAITERS  1
#define HANDOVER 2
#define STOP     4
#define SLOW     8

#ifdef REFUSED                  /* membarrier refused: every release takes the slow path */
#define ATT0 SLOW
#else
#define ATT0 0
#endif

byte holder[NC];                /* the capability words */
byte att[NC] = ATT0;            /* the attention words: changed by read-modify-write only */
bool flight;                    /* a wake is on its way */
byte qlock;                     /* the caps lock: guards queue, granted, woken, count and the setting of att's bits */
#ifdef FAIRLOCK
chan lockers = [NT] of { byte };
#endif
chan queue = [NT] of { byte };  /* parked threads, oldest first */
bool word[NT];                  /* futex words */
bool woken[NT];                 /* [qlock] the wake in flight is this thread's */
byte granted[NT];               /* [qlock] c + 1: the capability given to it */

#ifdef STOPS
byte stopping;                  /* t + 1: who stops the world */
byte count;                     /* capabilities turned over so far */
#endif

/* ghosts: no thread reads them to decide anything */
bool asleep[NT];                /* in futex_wait */
bool stays[NT];                 /* keeps what it holds for ever */
bool gone[NT];                  /* the thread's record may have been freed */
byte inUse[NC];                 /* who believes to hold it */

/* locations: holder 0.., flight 10, cap->stack 20.., stack->poll 40.. */
#define L_FLIGHT 10
#define L_STACK  20
#define L_POLL   40

#ifdef STOPS
byte stackOf[NC];               /* cap->stack: s + 1, 0 none */
bool poll[2 * NT];              /* stack->poll; thread t owns stacks 2t and 2t + 1 */
byte pending[2 * NT];           /* stores to it still in the owner's buffer, and the newest of them: */
bool newest[2 * NT];            /* a thread sees its own buffered stores */
#endif

inline apply(t, l, v)
{
    if
    :: l < L_FLIGHT -> holder[l] = v
    :: l == L_FLIGHT -> flight = v
#ifdef STOPS
    :: l >= L_STACK && l < L_POLL -> stackOf[l - L_STACK] = v
    :: l >= L_POLL ->
        poll[l - L_POLL] = v;
        if
#ifdef STACKS_FREED             /* a thread's stacks go when it ends: the requester's store must not come later */
        :: (l - L_POLL) / 2 != t -> assert(!gone[(l - L_POLL) / 2])
#endif
        :: (l - L_POLL) / 2 == t ->
            pending[l - L_POLL]--;
            if
            :: pending[l - L_POLL] == 0 -> newest[l - L_POLL] = 0
            :: else
            fi
#ifndef STACKS_FREED
        :: else
#endif
        fi
#endif
    fi
}

#include "memory.pml"

/*
 * What a read-modify-write waits for. WEAK: on processors other than x86 it need not drain stores to other words.
 * RMW is for any word that this thread has no buffered store to, RMW_ON(c) for holder[c].
 */
#ifdef WEAK
#define RMW       true
#define RMW_ON(c) (!(buf[me]??[eval(c), 0]))
#else
#define RMW       EMPTY
#define RMW_ON(c) EMPTY
#endif

/*
 * The lock: WANT_LOCK; atomic { LOCKABLE -> LOCKED ... }. FAIRLOCK serves the threads in turn, which the liveness claims
 * need: weak fairness alone lets a thread lose the race for the lock for ever.
 */
#ifdef FAIRLOCK
#define WANT_LOCK lockers!me;
#define LOCKABLE  (RMW && qlock == 0 && lockers?[eval(me)])
#define LOCKED    lockers?eval(me);
#else
#define WANT_LOCK
#define LOCKABLE  (RMW && qlock == 0)
#define LOCKED
#endif

/* --- acquiring -------------------------------------------------------------------------------------------------- */

inline tryAcquire(c)
{
    atomic {
        RMW_ON(c) ->
        if
        :: holder[c] == 0 -> holder[c] = me + 1; got = c
#ifdef STOPS
        :: holder[c] == CLOSED -> got = DEAD
        :: holder[c] != 0 && holder[c] != CLOSED
#else
        :: holder[c] != 0
#endif
        fi
    }
}

inline tryAll()
{
    i = 0;
    do
    :: i < NC && got == NONE -> tryAcquire(i); i++
    :: else -> break
    od;
    i = 0
}

/* --- waking ----------------------------------------------------------------------------------------------------- */

/* The front waiter's, or nobody's: the flight was claimed. Nothing may touch a waiter once the lock is free. */
inline chooseFront()
{
#if defined(BUG_EMPTY_OUTSIDE_LOCK)
    WANT_LOCK
    atomic {
        LOCKABLE -> LOCKED
        if
        :: nempty(queue) -> queue?<w>; woken[w] = 1; word[w] = 1; claimed = 0; w = 0
        :: empty(queue)
        fi
    };
    if
    :: claimed -> flight = 0
    :: else
    fi
#elif defined(BUG_WORD_AFTER_UNLOCK)
    WANT_LOCK
    atomic {
        LOCKABLE -> LOCKED
        if
        :: nempty(queue) -> queue?<w>; woken[w] = 1
        :: empty(queue) -> flight = 0; claimed = 0
        fi
    };
    if
    :: claimed -> assert(!gone[w]); word[w] = 1
    :: else
    fi;
    w = 0
#else
    WANT_LOCK
    atomic {
        LOCKABLE -> LOCKED
        if
        :: nempty(queue) -> queue?<w>; woken[w] = 1; word[w] = 1; w = 0
        :: empty(queue) -> flight = 0
        fi
    }
#endif
}

/* A plain look at the flight first: what makes that safe is the barrier after settle. */
inline wakeOneWaiter()
{
    claimed = 0;
    if
    :: flight
    :: !flight -> atomic { RMW -> if :: !flight -> flight = 1; claimed = 1 :: else fi }
    fi;
    if
    :: claimed -> chooseFront(); claimed = 0
    :: else
    fi
}

/* A capability that is free, though somebody sleeps, wakes one. */
inline wakeIfFree()
{
    if
    :: nempty(queue) ->
        remain = 0;
        i = 0;
        do
        :: i < NC && !remain -> atomic { remain = (holder[i] == 0); i++ }
        :: else -> break
        od;
        i = 0;
        if
        :: remain -> remain = 0; wakeOneWaiter()
        :: else
        fi
    :: empty(queue)
    fi
}

/* Capabilities became free without a release. */
inline wakeAfterRestart()
{
    if
    :: nempty(queue) -> heavyBarrier(); wakeIfFree()
    :: empty(queue)             /* who parks later looks first */
    fi
}

inline clearAttentionIfEmpty()  /* holding qlock, after a waiter left the queue */
{
#ifdef BUG_NODE_CLEARS
    /* a queue for each of two nodes, and a node clears the bits when its own is empty */
    remain = (me % 2 == 0 && (queue??[0] || queue??[2])) || (me % 2 == 1 && (queue??[1] || queue??[3]));
#else
    remain = nempty(queue);
#endif
    if
    :: !remain ->
        i = 0;
        do
        :: i < NC -> atomic { att[i] = att[i] & ~(WAITERS | HANDOVER); i++ }
        :: else -> break
        od;
        i = 0
    :: else -> remain = 0
    fi
}

/* --- releasing -------------------------------------------------------------------------------------------------- */

inline lookAtAttention(c)
{
    a = att[c];
#if defined(REFUSED) && !defined(BUG_NO_FENCE)
    if
    :: a & SLOW -> fence(); a = att[c]
    :: else
    fi
#endif
}

/* Under the lock: the flight's waiter has left the queue; the next one takes over, as releases during a flight wake nobody. */
inline passFlight()
{
#ifdef BUG_FLIGHT_NOT_PASSED
    flight = 0
#else
    if
    :: nempty(queue) -> queue?<w>; woken[w] = 1; word[w] = 1; w = 0
    :: empty(queue) -> flight = 0
    fi
#endif
}

/* Under the lock: cap c, whose word is `from`, goes to the front waiter. */
inline giveToFront(c)
{
    queue?w;
    holder[c] = w + 1;
    granted[w] = c + 1;
    att[c] = att[c] & ~HANDOVER;
    word[w] = 1;
    if
    :: woken[w] -> woken[w] = 0; passFlight()
    :: else
    fi;
    w = 0;
    handed = 1;
    qlock = me + 1
}

#ifdef BUG_HANDOVER_BY_STORE
#define GIVEABLE(c, from) (from == 0 || holder[c] == from)
#else
#define GIVEABLE(c, from) (holder[c] == from)
#endif

/*
 * STOP and HANDOVER, looked at again under the lock under which they are set and cleared: what the releaser read may
 * be over. from: me + 1 if it still holds c, 0 if it has freed it. `handed`: c is no longer this thread's business.
 */
inline giveToOthers(c, from)
{
    WANT_LOCK
    atomic {
        LOCKABLE && RMW_ON(c) -> LOCKED
        handed = 0;
        if
#ifdef STOPS
        :: (att[c] & STOP) ->
            if
            :: holder[c] == from -> holder[c] = STOPPED; count++; handed = 1
            :: else
            fi
#endif
        :: !(att[c] & STOP) && (att[c] & HANDOVER) && nempty(queue) && GIVEABLE(c, from) -> giveToFront(c)
        :: !(att[c] & STOP) && (att[c] & HANDOVER) && nempty(queue) && !GIVEABLE(c, from)
        :: !(att[c] & STOP) && (!(att[c] & HANDOVER) || empty(queue))
        fi
    };
    if
    :: qlock == me + 1 -> clearAttentionIfEmpty(); qlock = 0
    :: else
    fi
}

#ifdef BUG_STALE_STOP
/* Acts on the STOP that it read, though that stop may be over. */
#define giveAfterFree(c) \
    if \
    :: a & STOP -> atomic { EMPTY -> if :: holder[c] == 0 -> holder[c] = STOPPED; count++ :: else fi } \
    :: else -> giveToOthers(c, 0) \
    fi
#else
#define giveAfterFree(c) giveToOthers(c, 0)
#endif

/* Bits that a releaser obeys before it frees its capability, so that nobody can barge in between. */
#if defined(LATE)
#define FIRST_LOOK 0
#elif defined(LATE_STOP)
#define FIRST_LOOK HANDOVER
#else
#define FIRST_LOOK (HANDOVER | STOP)
#endif

inline releaseCapability(c)
{
    a = att[c];
    if
    :: a & FIRST_LOOK -> giveToOthers(c, me + 1)
    :: else
    fi;
    if
    :: handed
    :: !handed ->
        put(c, 0);
        lookAtAttention(c);
        if
        :: a & (STOP | HANDOVER) -> giveAfterFree(c)
        :: else
        fi;
        if
        :: a & WAITERS -> wakeOneWaiter()
        :: else
        fi
    fi;
    handed = 0;
    a = 0
}

/* --- waiting ---------------------------------------------------------------------------------------------------- */

inline enqueue()
{
    WANT_LOCK
    atomic { LOCKABLE -> LOCKED qlock = me + 1; queue!me; word[me] = 0 };
    i = 0;
    do
    :: i < NC -> atomic { att[i] = att[i] | WAITERS; i++ }
    :: else -> break
    od;
    i = 0;
    qlock = 0
}

/* The woken thread got nothing: the next release may wake again. */
inline settle()
{
    WANT_LOCK
    atomic {
        LOCKABLE -> LOCKED
        if
        :: woken[me] -> woken[me] = 0; flight = 0
        :: else
        fi
    }
}

#ifdef STOPS
inline requestPoll(c)
{
    w = stackOf[c];
    if
    :: w != 0 -> put(L_POLL + w - 1, 1)
    :: else
    fi;
    w = 0
}
#define pollHolder(c) requestPoll(c)
#else
#define pollHolder(c) skip
#endif

inline askFor(c)
{
    WANT_LOCK
    atomic {
        LOCKABLE -> LOCKED
        if
        :: granted[me] == 0 -> att[c] = att[c] | HANDOVER
        :: else
        fi
    };
    pollHolder(c)
}

/* Has waited long enough, or not; any capability. */
inline askForHandOver()
{
#ifdef HAND
    if
#ifndef ALWAYS_OLD
    :: true
#endif
    :: !(att[0] & HANDOVER) -> askFor(0)
    :: att[0] & HANDOVER -> pollHolder(0)
#if NC > 1
    :: !(att[1] & HANDOVER) -> askFor(1)
    :: att[1] & HANDOVER -> pollHolder(1)
#endif
    fi
#else
    skip
#endif
}

/*
 * Out of the queue with what this thread took itself, or DEAD. It may have been given another capability meanwhile: then
 * it keeps that one; or have been chosen as the wake's target: then it passes the flight on.
 */
inline leaveQueue()
{
    WANT_LOCK
    atomic {
        LOCKABLE -> LOCKED
        if
        :: granted[me] != 0 ->
#ifndef BUG_GRANT_IGNORED
            extra = got;
            got = granted[me] - 1;
#endif
            granted[me] = 0
        :: granted[me] == 0 -> queue??eval(me); qlock = me + 1
        fi
    };
    if
    :: qlock == me + 1 ->
        clearAttentionIfEmpty();
        atomic {
            if
#ifdef BUG_FLIGHT_LEAK
            :: woken[me] && slept -> passFlight()
#else
            :: woken[me] -> passFlight()
#endif
            :: else
            fi;
            woken[me] = 0;
            qlock = 0
        }
    :: else -> assert(got != DEAD)
    fi;
    if
    :: extra != NONE -> releaseCapability(extra)
    :: else
    fi;
    extra = NONE
}

inline sleep()
{
    asleep[me] = 1;
end_asleep:
    atomic {
        if
        :: word[me] -> word[me] = 0
#ifdef TIMEOUTS
        :: timeouts > 0 -> timeouts--
#endif
        fi;
        asleep[me] = 0;
        slept = 1
    }
}

inline waitInQueue()
{
    enqueue();
    changed = 1;                /* a release before WAITERS was set may have woken nobody */
    do
    :: true ->
        if
        :: granted[me] != 0 -> got = granted[me] - 1; granted[me] = 0; break
        :: granted[me] == 0
        fi;
        if
        :: woken[me] ->         /* the woken thread's turn, before the flight ends */
            tryAll();
            if
            :: got != NONE -> leaveQueue(); break
            :: else
            fi;
            askForHandOver();
            settle();
            changed = 1;
            settled = 1
        :: !woken[me] ->
            if
            :: slept -> askForHandOver()
            :: else
            fi
        fi;
        if
#ifdef BUG_FLIGHT_NOT_RESCANNED
        :: changed && !slept -> heavyBarrier(); tryAll()
        :: slept
#elif defined(BUG_NO_BARRIER_AGAIN)
        :: changed && !slept -> heavyBarrier()
        :: changed && slept
#else
        :: changed -> heavyBarrier()
#endif
        :: !changed
        fi;
        changed = 0;
#ifndef BUG_FLIGHT_NOT_RESCANNED
        tryAll();
#endif
        if
        :: got != NONE ->
            leaveQueue();
#ifndef BUG_SECOND_FORGOTTEN
            if
            :: settled && got != DEAD -> wakeIfFree()       /* more than one release may have woken nobody */
            :: else
            fi;
#endif
            break
        :: else
        fi;
        settled = 0;
        sleep()
    od;
    settled = 0;
    slept = 0
}

/* got: the capability, or DEAD */
inline waitForCapability()
{
    got = NONE;
    tryAll();
    if
    :: got == NONE -> waitInQueue()
    :: else
    fi
}

#ifdef TIMEOUTS                 /* sleeps that end by themselves, each thread */
#define TIMEOUTS0 TIMEOUTS
#else
#define TIMEOUTS0 0
#endif

#define LOCALS \
    byte got = NONE; byte extra = NONE; byte i = 0; byte w = 0; byte a = 0; \
    byte bt = 0; byte bl = 0; byte bv = 0; byte timeouts = TIMEOUTS0; \
    bool claimed = 0; bool handed = 0; bool remain = 0; bool settled = 0; bool slept = 0; bool changed = 0

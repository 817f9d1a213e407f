/*
 * The threads that collect together, over the store buffers of memory.pml. README.md says which C function each inline stands
 * for, and lists the switches.
 *
 * Thread 0 leads. It opens the crew, COLLECTIONS times; threads 1 .. NH may join, or not. A collection has PHASES:
 * in each the leader alone reaches up to ROOTS pieces of work, while the others may begin on them, then all work together. In
 * the first there are SHARES as well. Who works may push MORE pieces, in all; with ARRAYS one may be the rest of what was taken.
 * A queue in which somebody changes something is locked until its new length has left the buffer. In minor collections another's
 * queue is worth looking at if it has two pieces; in MAJOR ones one will do, there are no shares, and with NODES a piece may go to
 * another thread's queue. With HOLD who works on a piece may do so for ever, so that nobody comes by later who
 * heals a lost wake-up. At every moment:
 *   - a piece, or a share, is taken once; who leaves busy, or the crew, was counted in;
 *   - when workTogether ends each piece has been worked off;
 *   - nobody works, or begins or ends to collect, once the crew is closed.
 * When nothing can move any more the Monitor looks:
 *   - nobody sleeps while there is something that he may take;
 *   - the leader is through, with nobody inside, unless somebody works for ever.
 */
#ifndef NH
#define NH 2
#endif
#ifndef COLLECTIONS
#define COLLECTIONS 1
#endif
#ifndef PHASES
#define PHASES 1
#endif
#ifndef ROOTS
#define ROOTS 1
#endif
#ifndef MORE
#define MORE 1
#endif
#ifndef SHARES
#define SHARES 0
#endif
#ifndef DEPTH
#ifdef WEAK
#define DEPTH 3
#else
#define DEPTH 2
#endif
#endif
#define NT (NH + 1)
#define LEADER 0

#ifdef MAJOR
#define WORTH 1
#else
#define WORTH 2
#endif

byte mayJoin;                   /* crewState, both halves in one step */
byte inside;
bool closed;
byte size;                      /* collecting threads that began */
byte busy;
byte sleeping;                  /* those that sleep on the bell, or are about to */
bool seen[NT];                  /* what the thread read of the bell is still there: the value that futex_wait compares */
byte shares;                    /* nobody has taken */
#if SHARES > 0
bool share[SHARES];
#endif

/* Queues, by the number that a thread gets when it joins. */
byte lock[NT];                  /* t + 1: locked by thread t */
byte items[NT];                 /* [lock] pieces of work */
byte length[NT];                /* the same, as others see it */

byte more;                      /* pieces that may still be pushed */

/* ghosts */
bool asleep[NT];                /* in futex_wait, on the bell */
bool leaderWaits;               /* the same, on crewState */
byte left;                      /* pieces, and shares, that are not worked off */
bool open;                      /* the collection is going on */
bool stays[NT];                 /* works on a piece for ever */
bool done;

/* locations: queues 0.., busy 10, crewState 11, sleeping 12 */
#define L_BUSY     10
#define L_STATE    11
#define L_SLEEPING 12

inline apply(t, l, v)
{
    if
    :: l < L_BUSY -> length[l] = items[l]; lock[l] = 0
    :: l == L_BUSY -> busy = v
    :: l == L_STATE -> mayJoin = v
    :: l == L_SLEEPING && v -> sleeping++
    :: l == L_SLEEPING && !v -> sleeping--
    fi
}

#include "memory.pml"

/*
 * What a read-modify-write waits for. WEAK: one that is only an acquire need not drain stores to other words, and an addition
 * whose result nobody looks at may be seen later than what its thread loads next.
 */
#define RMW EMPTY
#ifdef WEAK
#define RMW_ACQUIRE true
#else
#define RMW_ACQUIRE EMPTY
#endif

inline addToSleeping(b)
{
#ifdef WEAK
    put(L_SLEEPING, b)
#else
    atomic { RMW -> if :: b -> sleeping++ :: !b -> sleeping-- fi }
#endif
}

/* --- the bell --------------------------------------------------------------------------------------------------- */

inline bellRings()
{
    k = 0;
    do
    :: k < NT -> seen[k] = 0; k++
    :: else -> break
    od;
    k = 0
}

/* futex_wake of one is a step of its own, and wakes any that sleeps then. */
inline ringOne()
{
    atomic { RMW -> bellRings() };
    atomic {
        if
        :: asleep[0] -> asleep[0] = 0
        :: asleep[1] -> asleep[1] = 0
#if NT > 2
        :: asleep[2] -> asleep[2] = 0
#endif
#if NT > 3
        :: asleep[3] -> asleep[3] = 0
#endif
        :: else
        fi
    }
}

inline ringAll()
{
    atomic { RMW -> bellRings() };
    d_step {
        do
        :: k < NT -> asleep[k] = 0; k++
        :: else -> break
        od;
        k = 0
    }
}

/* --- what is pending -------------------------------------------------------------------------------------------- */

/* A thread sees its own stores at once. */
#define LENGTH(q) (lock[q] == me + 1 -> items[q] : length[q])

inline crewHasWork()
{
#ifndef BUG_NO_FENCE
    fence();
#endif
    if
    :: sleeping != 0 -> ringOne()
    :: sleeping == 0
    fi
}

inline ringIfSpare(q)
{
    if
#ifdef BUG_RING_ONCE
    :: LENGTH(q) == WORTH -> crewHasWork()
#else
    :: LENGTH(q) >= WORTH -> crewHasWork()
#endif
    :: else
    fi
}

inline pushPending()
{
    q = num;
#if defined(NODES) || defined(BUG_AWAY_IN_MINOR)
    if
    :: true
    :: size > 1 -> q = (num + 1) % size
    :: size > 2 -> q = (num + 2) % size
    fi;
#endif
    atomic {
        RMW_ACQUIRE && lock[q] == 0 ->
        assert(open);
        lock[q] = me + 1;
        items[q]++;
        put(q, 0)
    };
    ringIfSpare(q);
    q = 0
}

/* From queue q -> got */
inline takePending()
{
    if
    :: LENGTH(q) == 0
    :: LENGTH(q) != 0 ->
        atomic {
            RMW_ACQUIRE && lock[q] == 0 ->
            assert(open);
            lock[q] = me + 1;
#ifdef BUG_NOT_LOOKED_AGAIN
            assert(items[q] > 0);
#endif
            if
            :: items[q] > 0 -> items[q]--; got = 1
#ifdef ARRAYS
            :: items[q] > 0 && more > 0 -> more--; left++; got = 1; rest = 1
#endif
            :: items[q] == 0
            fi;
            put(q, 0)
        }
#ifdef ARRAYS
        ;
        if
        :: rest -> rest = 0;
#ifndef BUG_REST_UNSAID
            ringIfSpare(q)
#endif
        :: else
        fi
#endif
    fi
}

/* Its own first -> got */
inline takeWork()
{
    atomic { got = 0; q = num };
    takePending();
    atomic { i = 1; n = size };
    do
    :: atomic { !got && i < n -> q = (num + i) % n; i++ };
        if
        :: LENGTH(q) >= WORTH -> takePending()
        :: else
        fi
    :: atomic { else -> i = 0; n = 0; q = 0; break }
    od
}

/* Work on what was taken: it leads to more. */
inline work()
{
    do
    :: atomic { more > 0 -> more--; left++ }; pushPending()
#ifdef HOLD
    :: stays[me] = 1;
end_stays:
        false
#endif
    :: break
    od;
    atomic { assert(open && left > 0); left--; got = 0 }
}

inline takeShare()              /* -> got */
{
#if SHARES > 0
    do
    :: !got && i < SHARES && shares != 0 ->
        if
        :: share[(num + i) % SHARES] ->
#ifdef BUG_SHARE_BY_LOAD
            atomic { share[(num + i) % SHARES] = 0; got = 1 }
#else
            atomic { RMW_ACQUIRE -> got = share[(num + i) % SHARES]; share[(num + i) % SHARES] = 0 }
#endif
        :: else
        fi;
        i++
    :: atomic { else -> i = 0; break }
    od;
    if
    :: got -> atomic { RMW -> assert(shares > 0); shares-- }
    :: !got
    fi
#else
    skip
#endif
}

inline isWorkLeft()             /* -> got */
{
#if SHARES > 0
    got = (shares != 0);
#endif
    n = size;
    do
    :: atomic { !got && i < n -> got = (LENGTH(i) >= WORTH); i++ }
    :: atomic { else -> i = 0; n = 0; break }
    od
}

/* --- busy ------------------------------------------------------------------------------------------------------- */

inline enterBusy()              /* -> got */
{
    atomic {
        RMW ->
#ifdef BUG_ENTER_ANY
        got = 1; busy++
#else
        if
        :: busy == 0 -> got = 0
        :: busy != 0 -> busy++
        fi
#endif
    }
}

inline leaveBusy()
{
    atomic { RMW -> assert(busy > 0); busy--; got = (busy == 0) };
    if
    :: got && sleeping != 0 ->
#ifdef BUG_END_WAKES_ONE
        ringOne()
#else
        ringAll()
#endif
    :: else
    fi;
    got = 0
}

inline workOff()
{
    do
    :: takeWork();
        if
        :: got -> again = 0; work()
        :: !got && again -> break
        :: !got && !again ->
            takeShare();
            if
            :: got -> work()
            :: !got -> again = 1
            fi
        fi
    od;
    again = 0;
    leaveBusy()
}

/* Nothing was there.  over: what else the caller waits for. */
inline waitForWork(over)
{
#ifndef BUG_BELL_LATE
    seen[me] = 1;
#endif
#ifndef BUG_LOOK_FIRST
    addToSleeping(1);
#ifndef BUG_NO_FENCE_AT_SLEEP
    fence();
#endif
#endif
    if
    :: over -> got = 1
    :: else -> isWorkLeft()
    fi;
#ifdef BUG_LOOK_FIRST
    addToSleeping(1);
#endif
#ifdef BUG_BELL_LATE
    seen[me] = 1;
#endif
    if
    :: !got ->
        atomic { EMPTY -> asleep[me] = seen[me]; seen[me] = 0 };
end_asleep:
        !asleep[me]
    :: got -> atomic { got = 0; seen[me] = 0 }
    fi;
    addToSleeping(0)
}

/* If there is work and somebody in busy, join them; else wait. */
inline workOrWait(over)
{
    isWorkLeft();
    if
    :: got -> enterBusy()
    :: !got
    fi;
    if
    :: got -> workOff()
    :: !got -> waitForWork(over)
    fi
}

/* --- the leader ------------------------------------------------------------------------------------------------- */

inline workTogether()
{
    workOff();
    do
    :: busy != 0 -> workOrWait(busy == 0)
    :: busy == 0 -> break
    od;
    assert(left == 0);
#ifndef BUG_NOT_BACK
    put(L_BUSY, 1)
#endif
}

inline openCrew()
{
    atomic {
        EMPTY ->
        open = 1;
        shares = SHARES;
        left = SHARES;
#if SHARES > 0
        do
        :: k < SHARES -> share[k] = 1; k++
        :: else -> break
        od;
        k = 0;
#endif
        size = 1; busy = 1; closed = 0;
        more = MORE;
        put(L_STATE, NH)
    }
}

inline closeCrew()
{
#ifdef BUG_CLOSE_BY_STORE
    k = inside;
    atomic { RMW -> mayJoin = 0; inside = k; k = 0 };
#else
    atomic { RMW -> mayJoin = 0 };
#endif
    atomic { RMW -> closed = 1 };
    if
    :: sleeping != 0 ->
#ifdef BUG_CLOSE_WAKES_ONE
        ringOne()
#else
        ringAll()
#endif
    :: sleeping == 0
    fi;
    do
    :: atomic { inside == 0 -> break }
    :: atomic { inside != 0 -> k = inside };
        atomic { leaderWaits = (inside == k); k = 0 };
end_closing:
        !leaderWaits
#ifdef BUG_WAITS_ONCE
        ; break
#endif
    od;
    open = 0
}

proctype Leader(byte me)
{
    byte q = 0; byte i = 0; byte n = 0; byte k = 0; byte roots = 0; byte phase = 0; byte collection = 0;
    bool got = 0; bool again = 0; bool rest = 0;
    byte num = 0;

    do
    :: collection < COLLECTIONS ->
        openCrew();
        do
        :: phase < PHASES ->
            roots = ROOTS;
            do
            :: roots > 0 -> roots--; left++; pushPending()
            :: roots = 0; break
            od;
            if
            :: phase == 0 ->
                do
                :: takeShare();
                    if
                    :: got -> work()
                    :: !got -> break
                    fi;
                    do
                    :: takeWork();
                        if
                        :: got -> work()
                        :: !got -> break
                        fi
                    od
                od
            :: phase != 0
            fi;
            workTogether();
            phase++
        :: else -> break
        od;
        phase = 0;
        closeCrew();
        collection++
    :: else -> break
    od;
    done = 1
}

/* --- helpers ---------------------------------------------------------------------------------------------------- */

/* Helpers are all alike: in a single collection it is enough to look at the runs in which they join, and are numbered, in order. */
#if COLLECTIONS == 1
#define MY_TURN  (mayJoin == NH - me + 1)
#define NUMBERED (size == me)
#else
#define MY_TURN  (mayJoin > 0)
#define NUMBERED true
#endif

proctype Helper(byte me)
{
    byte q = 0; byte i = 0; byte n = 0; byte k = 0;
    bool got = 0; bool again = 0; bool rest = 0;
    byte num = 0;

end_outside:
    do
    :: atomic { MY_TURN -> mayJoin--; inside++ };
        atomic { NUMBERED -> assert(open); num = size; size++ };
#ifdef BUG_QUEUE_RESET
        items[num] = 0; length[num] = 0;
#endif
        do
        :: !closed -> workOrWait(closed)
        :: closed -> break
        od;
#ifndef BUG_LEAVES_EARLY
        assert(open);           /* what it copied is handed over */
#endif
        atomic { RMW -> assert(inside > 0); inside--; got = (inside == 0) };
#ifdef BUG_LEAVES_EARLY
        assert(open);
#endif
        atomic {
            if
            :: got -> leaderWaits = 0
            :: !got
            fi;
            got = 0; num = 0
        }
    od
}

/* --- when nothing can move -------------------------------------------------------------------------------------- */

proctype Monitor()
{
    byte t;
    byte q;
    bool spare;
    bool held;

    timeout ->
    d_step {
        do
        :: q < NT -> assert(lock[q] == 0 && length[q] == items[q]); spare = spare || length[q] >= WORTH; q++
        :: else -> break
        od;
        do
        :: t < NT -> held = held || stays[t]; t++
        :: else -> break
        od;
        assert(done || held);
        assert(!done || inside == 0);
        t = 0;
        do
        :: t < NT -> assert(!(asleep[t] && spare)); t++
        :: else -> break
        od
    }
}

#ifdef FINISHES
ltl finishes { <> done }
#endif

init
{
    byte t;

    atomic {
        run Drain(LEADER);
        run Leader(LEADER);
        t = 1;
        do
        :: t < NT -> run Drain(t); run Helper(t); t++
        :: else -> break
        od;
        run Monitor()
    }
}

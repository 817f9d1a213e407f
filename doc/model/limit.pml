/*
 * Who gets HeapOverflow, with memory that only release functions give back. README.md says which C function each inline stands for,
 * and lists the switches.
 *
 * Each thread makes OPS objects, of a unit of memory each, and either drops them at once or keeps them for good; HELD units are kept from the
 * beginning. With more than LIMIT units the heap is full: whoever made the last one collects, or is stopped by another who does. A collection
 * finds what is dead; the functions that are due then give the units back one by one, or, with STABLE, free what kept something, so that only
 * the next collection gives a unit back; with PLAIN there are no functions. Anybody may be calling them.
 *   - At every moment: nobody gets the exception unless more than LIMIT units are kept, whatever the others allocate and release meanwhile.
 *   - If there are, everybody gets it who asks often enough, and all threads come to an end (FINISHES).
 * Everything here is sequentially consistent, as in C.
 */
#ifndef NT
#define NT 2
#endif
#ifndef OPS
#define OPS 2
#endif
#ifndef LIMIT
#define LIMIT 1
#endif
#ifndef HELD
#define HELD 0
#endif
#ifndef CAPS
#define CAPS NT
#endif

byte used = HELD;               /* heap.externalBytes; with STABLE what lives in the heap */
byte kept = HELD;               /* of those: alive for good */
byte garbage;                   /* dead, and no collection has found it */
byte freed;                     /* STABLE: nothing keeps it any more, and no collection has found it */
byte due;                       /* [lock] found: their functions are to be called */
byte running;                   /* externalsRunning */
bool locked;                    /* externals.lock */
byte shortage;                  /* heap.shortage, heap.eased, heap.released */
byte eased;
bool released;
byte inside;                    /* capabilities that run managed code */
bool stopping;                  /* somebody stops the world, or has */
byte ended;

inline takeCapability() { atomic { !stopping && inside < CAPS -> inside++ } }
inline giveCapability() { inside-- }

/* ---- release functions ---- */

inline takeOne(any)
{
    atomic { !locked -> locked = true }
    any = due > 0;
    if
    :: any ->
#ifdef BUG_TAKEN_FIRST
        due--;
        running++;
#else
        running++;
        due--;
#endif
    :: else
    fi;
    locked = false
}

inline callOne()
{
#ifdef BUG_FLAG_FIRST
    released = true;
#endif
#ifdef STABLE
    freed++;
#else
    atomic {
        if
        :: shortage > 0 -> shortage--; back = shortage == 0
        :: else -> back = false
        fi
    }
    if
    :: back -> eased++
    :: else
    fi;
    used--;
#endif
#ifndef BUG_FLAG_FIRST
    released = true;
#endif
    running--
}

inline runReleases()
{
    do
    :: takeOne(any);
        if
        :: any -> callOne()
        :: else -> break
        fi
    od
}

inline isReleasePending(answer)
{
    answer = due > 0;
#ifndef BUG_NOT_RUNNING
    if
    :: !answer -> answer = running > 0
    :: else
    fi
#endif
}

/* ---- collections ---- */

inline collectHeap()
{
#ifndef BUG_CLEAR_LATE
    released = false;
#endif
    atomic { used = used - freed; freed = 0 }
#ifdef PLAIN
    atomic { used = used - garbage; garbage = 0 }
#else
    atomic { !locked -> due = due + garbage; garbage = 0 }
#endif
    short_ = (used > LIMIT -> used - LIMIT : 0);
    shortage = short_;
    if
    :: short_ == 0 -> eased++
    :: else
    fi;
#ifdef BUG_CLEAR_LATE
    released = false;
#endif
}

/* The thread has a capability. mine: it was this thread that collected. */
inline collectNow(mine)
{
    atomic {
        mine = !stopping;
        stopping = true;
        inside--
    }
    if
    :: mine ->
        inside == 0;
        collectHeap();
        atomic { inside++; stopping = false }
    :: else -> takeCapability()
    fi
}

/* ---- whose exception it is ---- */

inline isHeapFull(answer)
{
#ifdef BUG_JUDGED_NOW
    answer = used > LIMIT;
#else
    answer = shortage > 0;
#endif
#ifndef BUG_NO_FLAG
    if
    :: answer -> answer = !released
    :: else
    fi
#endif
}

/* Holding a capability, so that no collection comes between. */
inline isFullForGood(answer)
{
#ifdef BUG_PENDING_LAST
    isHeapFull(answer);
    isReleasePending(any);
#else
    isReleasePending(any);
#ifdef BUG_PENDING_ONCE
    any = false;
#endif
    isHeapFull(answer);
#endif
    answer = answer && !any
}

inline isFullAfterReleases(answer)
{
    before = eased;
    answer = shortage > 0;
    do
    :: !answer -> break
    :: else ->
        isReleasePending(any);
        if
        :: any ->
            giveCapability();
            runReleases();
            running == 0;
            takeCapability()
        :: else
        fi;
        if
        :: eased != before -> answer = false; break
        :: else
        fi;
        isFullForGood(answer);
        if
        :: answer -> break
        :: else
        fi;
        collectNow(mine);
        answer = eased == before
    od
}

/* Stopped by another's collection.  again: it is to collect itself. */
inline takeDebts(answer, again)
{
    again = false;
    answer = used > LIMIT;
    if
    :: answer ->
        isFullForGood(answer);
        again = !answer
    :: else
    fi
}

inline askForMore()
{
    do
    :: collectNow(mine);
        if
        :: mine -> isFullAfterReleases(refused); again = false
        :: else -> takeDebts(refused, again)
        fi;
        assert(!refused || kept > LIMIT);
        if
        :: refused -> released = true; break
        :: !refused && !again && kept <= LIMIT -> break
        :: else /* or the next object asks again */
        fi
    od
}

active [NT] proctype Thread()
{
    byte ops = OPS, short_, before;
    bool any, back, mine, refused, again, over;

    takeCapability();
    do
    :: ops > 0 ->
        ops--;
        if
        :: atomic { used++; garbage++ }
        :: atomic { kept < LIMIT -> used++; kept++ }
        fi;
        over = used > LIMIT;
        if
        :: over -> askForMore()
        :: else
        fi;
        /* A safepoint; or a safe call that releases something, as every collection does behind it. */
        if
        :: giveCapability(); takeCapability()
        :: giveCapability(); takeOne(any);
            if
            :: any -> callOne()
            :: else
            fi;
            takeCapability()
        :: true
        fi
    :: else -> break
    od;
    giveCapability();
    ended++
}

#ifdef FINISHES
ltl finishes { <> (ended == NT) }
#endif

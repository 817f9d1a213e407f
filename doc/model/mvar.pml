/*
 * Hand-over in MVars against throwTo, timers, and switching stacks, over the store buffers of memory.pml. README.md says
 * which C function each inline stands for, and lists the switches.
 *
 * NK OS threads, each with a capability that it keeps, run NR managed threads. Managed thread t does N operations of the
 * kinds in OPSt, chosen freely: takes, puts and reads of the one MVar, throws to thread TARGET, delays. Thread t begins on
 * OS thread t modulo NK; who wakes a thread puts it into its own queue; who blocks switches straight to the next one. With
 * MASKS each thread is unmasked, masked, or masked uninterruptibly. An exception ends the operation in which
 * it is raised. At every moment:
 *   - nobody is in two queues, made runnable while it runs, or on two OS threads;
 *   - a throw that was given up was not delivered, one that was not given up not twice.
 * When nothing can move any more the Monitor looks:
 *   - no OS thread is stuck, no thread is runnable;
 *   - who waits has a reason to: nobody waits for a full MVar that is full, or the other way round, or with an exception
 *     that it may take, or in a delay, or to throw at a thread that has ended;
 *   - what was put was taken once, or is there.
 * With FINISHES a claim is checked instead: all threads come to an end.
 */
#ifndef NK
#define NK 2
#endif
#ifndef NR
#define NR 3
#endif
#ifndef DEPTH
#define DEPTH 4
#endif
#ifndef N
#define N 1
#endif
#ifndef TARGET
#define TARGET 0
#endif

#define TAKE  1
#define PUT   2
#define READ  4
#define THROW 8
#define DELAY 16

#ifndef OPS0
#define OPS0 TAKE
#endif
#ifndef OPS1
#define OPS1 PUT
#endif
#ifndef OPS2
#define OPS2 THROW
#endif
#ifndef OPS3
#define OPS3 0
#endif
/* Whom a thrower throws at. */
#define VICTIM(t) ((t == TARGET -> (TARGET + 1) % NR : TARGET))
#define OPS(t) ((t == 0 -> OPS0 : (t == 1 -> OPS1 : (t == 2 -> OPS2 : OPS3))))
#define DELAYS ((OPS0 | OPS1 | OPS2 | OPS3) & DELAY)

/* buffers: of the OS threads, and of the one that keeps time */
#define NT (NK + 1)
#define NONE 255

/* the wait word: number * 4 + one of these */
#define RUNNING     0
#define WAITING     1
#define HANDED      2
#define INTERRUPTED 3
#define STATE(word) ((word) & 3)

/* mask */
#define UNMASKED        0
#define INTERRUPTIBLE   1
#define UNINTERRUPTIBLE 2

byte wait[NR];                  /* [who runs it to begin; then who wins] */
byte on[NR];                    /* what it waits for: a kind of operation */
bool pending[NR];               /* the list throwers is not empty */
bool tlock[NR];                 /* guards throwers, ended */
chan throwers[NR] = [NR] of { byte };
bool ended[NR];
bool onCpu[NR];                 /* its registers are not saved */
byte mask[NR];
byte op[NR];                    /* what it is doing; 0: nothing yet */
byte left[NR] = N;              /* operations */

bool mlock;                     /* the MVar's, guards filled, waiters */
bool filled;
chan waiters = [NR] of { byte };
chan runq[NK] = [NR] of { byte };
chan inbox[NK] = [NR] of { byte };

#if DELAYS
bool armed[NR];                 /* timers */
byte firing = NONE;
#endif

/* ghosts */
bool blocked[NR];               /* from the beginning of a wait until it goes on */
bool queued[NR];                /* in a run queue or inbox */
byte stackOf[NR];               /* k + 1: OS thread k is on its stack */
bool delivered[NR];             /* the throw that it is in was */
bool listed[NR];                /* in a list of throwers */
byte puts; byte takes;
byte atHome;                    /* OS threads with nothing to do */
byte finished;

/* locations: wait words 0.., on 10.., onCpu 20.., tlock 30.., mlock 40 */
#define L_ON    10
#define L_ONCPU 20
#define L_TLOCK 30
#define L_MLOCK 40

inline apply(t, l, v)
{
    if
    :: l < L_ON -> wait[l] = v
    :: l >= L_ON && l < L_ONCPU -> on[l - L_ON] = v
    :: l >= L_ONCPU && l < L_TLOCK -> onCpu[l - L_ONCPU] = v
    :: l >= L_TLOCK && l < L_MLOCK -> tlock[l - L_TLOCK] = v
    :: l == L_MLOCK -> mlock = v
    fi
}

#include "memory.pml"

/* WEAK: a read-modify-write drains nothing else. Nobody exchanges a word that it has a buffered store to. */
#ifdef WEAK
#define RMW true
#else
#define RMW EMPTY
#endif

/* --- run queues ------------------------------------------------------------------------------------------------- */

inline checkRunnable(u)
{
    assert(blocked[u] && !queued[u]);
#ifdef BUG_ONE_LINK
    assert(!listed[u]);         /* a run queue and a list of throwers through the same field */
#endif
    queued[u] = 1
}

/* The wait of u has been ended by this OS thread. */
inline wakeThread(u)
{
    atomic { checkRunnable(u); runq[me]!u }
}

/* --- waiting ---------------------------------------------------------------------------------------------------- */

#ifdef BUG_NO_NUMBER
#define NEXT_WAIT(t) WAITING
#else
#define NEXT_WAIT(t) ((wait[t] / 4 + 1) * 4 + WAITING)
#endif

inline beginWait(t, kind)       /* t runs here, and no store to its word is in the buffer */
{
    blocked[t] = 1;
    put(L_ON + t, kind);
    put(t, NEXT_WAIT(t))
}

/* Under the MVar's lock. */
inline endWaitLocked(u, how)
{
    put(u, wait[u] - WAITING + how)
}

/* By exchange; -> won */
inline endWait(u, seen, how)
{
    if
    :: wait[u] == seen -> wait[u] = seen - WAITING + how; won = 1
    :: else -> won = 0
    fi
}

/* -> won: u's wait ended here, as INTERRUPTED. */
inline interruptWait(u)
{
    won = 0;
    word = wait[u];
    if
    :: STATE(word) == WAITING ->
        kind = on[u];
        if
#ifndef BUG_EXCHANGE_ON_MVAR
        :: kind & (TAKE | PUT | READ) ->
            atomic {
                RMW && !mlock ->
                mlock = 1;
                if
#ifdef BUG_NOT_LOOKED_AGAIN
                :: waiters??[eval(u)] ->
                    waiters??eval(u);
                    endWaitLocked(u, INTERRUPTED);
                    won = 1
                :: else -> endWaitLocked(u, INTERRUPTED); won = 1
#else
                :: wait[u] == word && on[u] == kind ->
                    assert(waiters??[eval(u)]);
                    waiters??eval(u);
                    endWaitLocked(u, INTERRUPTED);
                    won = 1
                :: else
#endif
                fi;
                put(L_MLOCK, 0)
            }
        :: !(kind & (TAKE | PUT | READ)) -> atomic { RMW -> endWait(u, word, INTERRUPTED) }
#else
        :: true -> atomic { RMW -> endWait(u, word, INTERRUPTED) }
#endif
        fi;
        kind = 0
    :: else
    fi;
    word = 0
}

/* The registers of t are saved from now on. */
inline leave()
{
    stackOf[t] = 0;
    put(L_ONCPU + t, 0)
}

/*
 * Off the processor: to the next thread of the queue, or home. Who woke the next one may have been faster than its OS thread
 * in leaving its stack: that is waited for at home, where nobody can be waiting for this one.
 */
inline switchAway()
{
    if
    :: runq[me]?<next> ->
        if
#ifdef BUG_NO_WAIT_FOR_CPU
        :: true ->
#else
        :: onCpu[next] == 0 ->
#endif
            atomic {
                runq[me]?next;
                queued[next] = 0;
                assert(stackOf[next] == 0 && next != t && (blocked[next] || op[next] == 0));
                put(L_ONCPU + next, 1);
                stackOf[next] = me + 1
            };
            leave();
            t = next;
#if !defined(BUG_WAIT_ON_STACK) && !defined(BUG_NO_WAIT_FOR_CPU)
        :: onCpu[next] != 0 -> leave(); t = NONE
#endif
        fi;
        next = 0
    :: empty(runq[me]) -> leave(); t = NONE
    fi
}

/* beginWait was called. */
inline threadBlock()
{
#ifdef BUG_LOOK_BEFORE
    skip
#else
#if defined(REFUSED) && !defined(BUG_NO_FENCE)
    fence();
#endif
    if
    :: pending[t] && mask[t] != UNINTERRUPTIBLE -> fence(); interruptWait(t)
    :: !pending[t] || mask[t] == UNINTERRUPTIBLE
    fi;
#endif
    if
    :: won -> won = 0           /* goes on without leaving */
    :: !won -> switchAway()
    fi
}

/* --- exceptions ------------------------------------------------------------------------------------------------- */

/* Under t's lock: the exception of the oldest thrower, who goes on, unless it was interrupted just now. -> raised */
inline takeThrown()
{
    atomic {
        RMW && !tlock[t] ->
        if
        :: nempty(throwers[t]) ->
            throwers[t]?w;
            listed[w] = 0;
            assert(!delivered[w]);
            delivered[w] = 1;
            raised = 1;
            tlock[t] = 1;
            word = wait[w];
            if
            :: STATE(word) == WAITING -> endWait(w, word, HANDED)
            :: else
            fi;
            if
            :: won -> won = 0; checkRunnable(w); runq[me]!w
            :: !won
            fi;
            w = 0;
            word = 0
        :: empty(throwers[t]) -> tlock[t] = 1
        fi;
        if
        :: empty(throwers[t]) -> pending[t] = 0
        :: nempty(throwers[t])
        fi;
        put(L_TLOCK + t, 0)
    }
}

/* The operation is over. */
inline endOperation()
{
    atomic { op[t] = 0; left[t]--; delivered[t] = 0 }
}

/* Looks at what is pending, as its wait was interrupted. -> raised */
inline takePending()
{
    if
    :: mask[t] != UNINTERRUPTIBLE && pending[t] -> takeThrown()
    :: mask[t] == UNINTERRUPTIBLE || !pending[t]
    fi
}

/* pending was added to: end the wait of u. It may have ended, and u wait for something else: then it has looked itself. */
inline prodThread(u)
{
    heavyBarrier();
    if
    :: STATE(wait[u]) == WAITING && mask[u] != UNINTERRUPTIBLE ->
        interruptWait(u);
        if
        :: won -> won = 0; wakeThread(u)
        :: !won
        fi
    :: STATE(wait[u]) != WAITING || mask[u] == UNINTERRUPTIBLE
    fi
}

/* -> won: in the list of throwers */
inline enlist(u)
{
    atomic {
        RMW && !tlock[u] ->
        if
        :: ended[u]
        :: !ended[u] -> tlock[u] = 1; throwers[u]!t; listed[t] = 1; beginWait(t, THROW); won = 1
        fi
    };
    if
    :: won -> atomic { RMW -> pending[u] = 1; put(L_TLOCK + u, 0) }
    :: !won
    fi
}

/* -> still: it was in the list; else it was delivered, or the target has ended */
inline withdraw(u)
{
    atomic {
        RMW && !tlock[u] ->
        tlock[u] = 1;
        if
        :: throwers[u]??[eval(t)] -> throwers[u]??eval(t); listed[t] = 0; still = 1
        :: else
        fi;
        if
        :: empty(throwers[u]) -> pending[u] = 0
        :: nempty(throwers[u])
        fi;
        put(L_TLOCK + u, 0)
    }
}

inline throwTo(u)
{
    enlist(u);
    if
    :: won -> won = 0; prodThread(u); threadBlock()
    :: !won -> endOperation()
    fi
}

inline endThread()
{
    atomic {
        RMW && !tlock[t] ->
        tlock[t] = 1;
        ended[t] = 1;
        pending[t] = 0;
        finished++;
        do
        :: nempty(throwers[t]) ->
            throwers[t]?w;
            listed[w] = 0;
            word = wait[w];
            if
            :: STATE(word) == WAITING -> endWait(w, word, HANDED)
            :: else
            fi;
            if
            :: won -> won = 0; checkRunnable(w); runq[me]!w
            :: !won
            fi
        :: empty(throwers[t]) -> break
        od;
        w = 0;
        word = 0;
        put(L_TLOCK + t, 0)
    }
}

/* --- the MVar --------------------------------------------------------------------------------------------------- */

/* What is done under a lock is one step, as nobody can look; that it is free again others see when the store drains. */
inline takeMVar()
{
    atomic {
        RMW && !mlock ->
        mlock = 1;
        if
        :: filled ->
            takes++;
            if
            :: nempty(waiters) -> waiters?w; puts++; endWaitLocked(w, HANDED)
            :: empty(waiters) -> filled = 0; w = NONE
            fi;
            won = 1
        :: !filled -> waiters!t; beginWait(t, TAKE)
        fi;
        put(L_MLOCK, 0)
    };
    if
    :: won ->
        won = 0;
        if
        :: w != NONE -> wakeThread(w)
        :: w == NONE
        fi;
        atomic { w = 0; endOperation() }
    :: !won -> threadBlock()
    fi
}

/* Readers are in front. */
inline readMVar()
{
    atomic {
        RMW && !mlock ->
        if
        :: filled -> won = 1
        :: !filled ->
            mlock = 1;
            n = len(waiters);
            waiters!t;
            do
            :: n > 0 -> waiters?w; waiters!w; n--
            :: n == 0 -> break
            od;
            w = 0;
            beginWait(t, READ);
            put(L_MLOCK, 0)
        fi
    };
    if
    :: won -> won = 0; endOperation()
    :: !won -> threadBlock()
    fi
}

/* All readers, and the first taker. */
inline putMVar()
{
    atomic {
        RMW && !mlock ->
        mlock = 1;
        if
        :: !filled ->
            puts++;
            filled = 1;
            do
            :: nempty(waiters) && filled ->
                waiters?w;
                woken!w;
                if
                :: on[w] == TAKE -> filled = 0
                :: on[w] == READ
                fi;
                endWaitLocked(w, HANDED)
            :: empty(waiters) || !filled -> break
            od;
            w = 0;
            won = 1
        :: filled -> waiters!t; beginWait(t, PUT)
        fi;
        put(L_MLOCK, 0)
    };
    if
    :: won ->
        won = 0;
        do
        :: woken?w -> wakeThread(w)
        :: empty(woken) -> break
        od;
        atomic { w = 0; endOperation() }
    :: !won -> threadBlock()
    fi
}

/* What it waited for came: a take has its value now. */
inline afterHanded()
{
    if
    :: op[t] == TAKE -> takes++
    :: op[t] == THROW -> assert(delivered[t] || ended[VICTIM(t)])
    :: op[t] & (PUT | READ | DELAY)
    fi;
    endOperation()
}

/* Its wait was interrupted: it raises, or is over, or begins again. */
inline afterInterrupted()
{
#if DELAYS
    if
    :: op[t] == DELAY -> atomic { firing != t -> armed[t] = 0 }
    :: op[t] != DELAY
    fi;
#endif
#ifndef BUG_WITHDRAW_FIRST
    takePending();
#endif
    if
    :: op[t] == THROW -> who = VICTIM(t); withdraw(who)
    :: op[t] != THROW -> still = 1
    fi;
#ifdef BUG_WITHDRAW_FIRST
    takePending();
#endif
#ifdef BUG_THROWN_AGAIN
    still = 1;
#endif
    if
    :: raised || !still -> assert(raised || delivered[t] || ended[who]); endOperation()
    :: !raised && still         /* nothing to raise: again */
    fi;
    atomic { raised = 0; still = 0 }
}

/* A wait is over. */
inline goOn()
{
    atomic { assert(!(waiters??[eval(t)])); blocked[t] = 0 };
    if
#ifdef BUG_PENDING_FIRST
    :: pending[t] && mask[t] != UNINTERRUPTIBLE -> afterInterrupted()
    :: STATE(wait[t]) == HANDED && (!pending[t] || mask[t] == UNINTERRUPTIBLE) -> afterHanded()
    :: STATE(wait[t]) == INTERRUPTED && (!pending[t] || mask[t] == UNINTERRUPTIBLE) -> afterInterrupted()
#else
    :: STATE(wait[t]) == HANDED -> afterHanded()
    :: STATE(wait[t]) == INTERRUPTED -> afterInterrupted()
#endif
    fi
}

/* --- time ------------------------------------------------------------------------------------------------------- */

#if DELAYS
inline delay()
{
    atomic { beginWait(t, DELAY) };
    if
    :: atomic { EMPTY -> armed[t] = 1 }; threadBlock()
#ifdef FAILS
    /* There is no timer. Who ended the wait meanwhile has made the thread runnable. */
    :: atomic {
            EMPTY ->
            if
            :: STATE(wait[t]) == WAITING -> word = wait[t]; endWait(t, word, HANDED); word = 0
            :: else
            fi
        };
        if
        :: won -> atomic { won = 0; blocked[t] = 0; endOperation() }
#ifdef BUG_WAKE_NOT_CONSUMED
        :: !won -> blocked[t] = 0; endOperation()
#else
        :: !won -> threadBlock()
#endif
        fi
#endif
    fi
}

inline endDelay(u)
{
    word = wait[u];
    if
    :: STATE(word) == WAITING && on[u] == DELAY -> atomic { RMW -> endWait(u, word, HANDED) }
    :: STATE(word) != WAITING || on[u] != DELAY
    fi;
    if
    :: won -> won = 0; atomic { checkRunnable(u); inbox[u % NK]!u }
    :: !won
    fi;
    atomic { firing = NONE; word = 0 }
}

proctype Timekeeper(byte me)
{
    byte word = 0; bool won = 0;

end:
    do
    :: atomic { armed[0] -> armed[0] = 0; firing = 0 }; endDelay(0)
    :: atomic { armed[1] -> armed[1] = 0; firing = 1 }; endDelay(1)
#if NR > 2
    :: atomic { armed[2] -> armed[2] = 0; firing = 2 }; endDelay(2)
#endif
    od
}
#endif

/* --- OS threads ------------------------------------------------------------------------------------------------- */

inline safepoint()
{
    if
    :: pending[t] && mask[t] == UNMASKED -> takeThrown(); raised = 0
    :: !pending[t] || mask[t] != UNMASKED
    fi
}

inline chooseOperation()
{
    if
    :: OPS(t) & TAKE -> op[t] = TAKE
    :: OPS(t) & PUT -> op[t] = PUT
    :: OPS(t) & READ -> op[t] = READ
    :: OPS(t) & THROW -> op[t] = THROW
    :: OPS(t) & DELAY -> op[t] = DELAY
    fi
}

proctype Cpu(byte me)
{
    byte t = NONE; byte next = 0; byte who = 0; byte w = 0; byte n = 0; byte word = 0; byte kind = 0;
    byte bt = 0; byte bl = 0; byte bv = 0;
    bool won = 0; bool raised = 0; bool still = 0;
    chan woken = [NR] of { byte };

    do
    :: t == NONE ->             /* home */
end_home:
        atomic {
            if
            :: runq[me]?next
            :: inbox[me]?next
            fi;
            queued[next] = 0
        };
#ifndef BUG_NO_WAIT_FOR_CPU
        onCpu[next] == 0;
#endif
        atomic {
            assert(stackOf[next] == 0 && (blocked[next] || op[next] == 0));
            put(L_ONCPU + next, 1);
            stackOf[next] = me + 1;
            t = next;
            next = 0
        }
    :: t != NONE && blocked[t] ->       /* it has been switched to; what this OS thread wrote it sees */
        EMPTY;
        assert(STATE(wait[t]) == HANDED || STATE(wait[t]) == INTERRUPTED);
        goOn()
    :: t != NONE && !blocked[t] && left[t] > 0 ->
        if
        :: op[t] == 0 -> safepoint(); chooseOperation()
        :: op[t] != 0
        fi;
        if
        :: op[t] == TAKE -> takeMVar()
        :: op[t] == PUT -> putMVar()
        :: op[t] == READ -> readMVar()
        :: op[t] == THROW -> who = VICTIM(t); throwTo(who)
#if DELAYS
        :: op[t] == DELAY -> delay()
#endif
        fi
    :: t != NONE && !blocked[t] && left[t] == 0 -> endThread(); switchAway()
    od
}

#ifdef FINISHES
ltl finishes { <> (finished == NR) }
#endif

proctype Monitor()
{
    byte t;

    timeout ->
    d_step {
        assert(!mlock && puts == takes + filled);
        t = 0;
        do
        :: t < NR ->
            assert(!onCpu[t] && stackOf[t] == 0 && !queued[t] && !tlock[t]);
            assert(ended[t] || (blocked[t] && STATE(wait[t]) == WAITING));
            assert(ended[t] || !pending[t] || mask[t] == UNINTERRUPTIBLE);
            assert(ended[t] || op[t] != PUT || filled);
            assert(ended[t] || !(op[t] & (TAKE | READ)) || !filled);
            assert(ended[t] || op[t] != THROW || !ended[VICTIM(t)]);
            assert(ended[t] || op[t] != DELAY);
            t++
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
        :: t < NR ->
#ifdef MASKS
            if
            :: mask[t] = UNMASKED
            :: mask[t] = INTERRUPTIBLE
            :: mask[t] = UNINTERRUPTIBLE
            fi;
#endif
            queued[t] = 1;
            runq[t % NK]!t;
            t++
        :: else -> break
        od;
        t = 0;
        do
        :: t < NK -> run Drain(t); run Cpu(t); t++
        :: else -> break
        od;
#if DELAYS
        run Drain(NK);
        run Timekeeper(NK);
#endif
#ifndef FINISHES
        run Monitor()
#endif
    }
}

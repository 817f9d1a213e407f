#include "roots.h"

#include "budget.h"
#include "language.h"
#include "rts/Threads.h"
#include "run.h"
#include "stack.h"
#include "throwto.h"
#include "timeout.h"

/* How many threads are on their way into the cache while one is scanned: a parked one is four cache lines that nobody has touched for long. */
#define AHEAD 16

static struct {
    uint32_t number;         /* [stopped] of this walk */
    StgTSO *_Atomic gray;    /* [atomic] reached, not yet scanned */
    StgTSO *ring[AHEAD];     /* [stopped] the next of them, being fetched */
    unsigned first, length;  /* [stopped] of the ring */
    size_t scanned;          /* [stopped] threads */
    size_t unbound, seen;    /* [stopped] unbound ones that were scanned; that there are */
    StgTSO *revived;         /* [stopped] blocked for ever, through wakeLink */
    StgTSO *standing;        /* [stopped] lost in-calls that others of their OS thread wait for, still to be looked at, through wakeLink */
    StgTSO *current;         /* [stopped] the one among them whose others are being scanned */
    StgTSO *unreached;       /* [stopped] those that were not reached by that, through wakeLink */
    StgTSO *inOwnWay;        /* [stopped] the first that is known only to those below itself */
    enum { LOOK_FOR_STANDING, LOOK_BELOW, LOOK_FOR_ALL, LOOKED } search; /* [stopped] */
} roots;

/* By any collecting thread. */
static void reach(StgTSO *tso)
{
    if (__atomic_load_n(&tso->marked, __ATOMIC_RELAXED) == roots.number || __atomic_exchange_n(&tso->marked, roots.number, __ATOMIC_RELAXED) == roots.number) return;
    tso->gray = atomic_load_explicit(&roots.gray, memory_order_relaxed);
    /* Release: pairs with fillRing, for the link. */
    while (!atomic_compare_exchange_weak_explicit(&roots.gray, &tso->gray, tso, memory_order_release, memory_order_relaxed)) {}
}

static StgTSO *nextInQueue(StgTSO *tso) { return tso->link; }

static void begin(void)
{
    roots.number++;
    roots.gray = NULL;
    roots.length = roots.first = 0;
    roots.scanned = roots.unbound = roots.seen = 0;
    roots.standing = roots.current = roots.unreached = roots.inOwnWay = NULL;
    roots.search = LOOK_FOR_STANDING;
}

/* A rts_timeout, a deadline, or who has the in-call's handle, can end the wait. */
static bool canBeEnded(const StgTSO *tso)
{
    if (!hasTimeoutToCome(tso) && !(tso->flags & TSO_BUDGET && isBudgetToCome(tso->incall))) return false;
    return tso->stack->mask != MASKED_UNINTERRUPTIBLE; /* last: nobody has touched the stack for long */
}

/* Waits for something that only managed code can bring about. */
static bool isWaitingInside(const StgTSO *tso)
{
    if (!isWaiting(tso) || canBeEnded(tso)) return false;
    uint8_t why = whyOf(tso);
    return why == ThreadBlockedOnMVar || why == ThreadBlockedOnMVarRead || why == ThreadBlockedOnBlackHole ||
           why == ThreadBlockedOnThrowTo;
}

/* ---- Scanning one ---- */

static void reachList(StgTSO *list)
{
    for (; list != NULL; list = list->back) reach(list);
}

/* Of an earlier runtime, inside a safe call: it has nothing in this heap, nor has what is below it. */
static bool isOld(const InCall *i) { return i->suspended && i->epoch != currentEpoch; }

/* Unbound threads in safe calls are found through their Tasks only: those of earlier runtimes that have not come back stand among all threads too, and have
 * nothing in this heap. */
static bool isInSafeCall(const Task *task) { return task->calling != NULL && task->callEpoch == currentEpoch; }

/* Further in-calls and the safe call of the same OS thread wait for this one. */
static void reachBelow(InCall *incall)
{
    Task *task = incall->task;
    if (incall->prev != NULL && !isOld(incall->prev)) reach(&incall->prev->tso);
    if (isInSafeCall(task)) reach(task->calling);
}

static void scanThread(StgTSO *tso, Visitor *v)
{
    v->sawYoung = false;
    visitRoot(v, &tso->closure);
    visitRoot(v, &tso->value);
    visitRoot(v, &tso->blockedOn);
    for (Timeout *t = tso->timeouts; t != NULL; t = t->outer) visitRoot(v, &t->exception);
    if (tso->stack != NULL) scanStack(tso->stack, v);
    scanExtras(tso, v);
    if (isBound(tso)) visitRoot(v, &tso->incall->exception);
    if (v->checks && v->sawYoung && tso->dirty != (uint32_t)currentEpoch) v->missed(v, tso, "a thread that refers to something young, and is not dirty");
    if (v->minor || v->marks) return;
    reachList(tso->throwers);
    reachList(tso->waiters);
    if (isBound(tso)) reachBelow(tso->incall);
}

static size_t countScanned(void) { return roots.scanned; }

/* Into the ring with the next ones.  First the record is fetched, half a ring later its stack, a quarter later the roots there. */
static void fillRing(void)
{
    while (roots.length < AHEAD) {
        StgTSO *tso = atomic_load_explicit(&roots.gray, memory_order_acquire);
        /* Nobody else takes any out, and none comes in twice: so its link is right. */
        while (tso != NULL && !atomic_compare_exchange_weak_explicit(&roots.gray, &tso, tso->gray, memory_order_acquire, memory_order_acquire)) {}
        if (tso == NULL) return;
        if (tso->gray != NULL) __builtin_prefetch(&tso->gray->gray);
        __builtin_prefetch(tso);
        roots.ring[(roots.first + roots.length++) % AHEAD] = tso;
    }
}

static inline Stack *stackInRing(unsigned i)
{
    return i < roots.length ? roots.ring[(roots.first + i) % AHEAD]->stack : NULL;
}

static bool scanOne(Visitor *v)
{
    fillRing();
    if (roots.length == 0) return false;
    Stack *stack = stackInRing(AHEAD / 2);
    if (stack != NULL) __builtin_prefetch(&stack->roots);
    if ((stack = stackInRing(AHEAD / 4)) != NULL) __builtin_prefetch(stack->roots);
    StgTSO *tso = roots.ring[roots.first];
    roots.first = (roots.first + 1) % AHEAD;
    roots.length--;
    scanThread(tso, v);
    roots.scanned++;
    roots.unbound += !isBound(tso);
    return true;
}

/* ---- Roots ---- */

/* In-calls of an earlier runtime have nothing in this heap. */
static InCall *topInCall(Task *task)
{
    InCall *i = task->incall;
    return i == NULL || isOld(i) ? NULL : i;
}

static void scanTask(Task *task, void *unused)
{
    InCall *top = topInCall(task);
    if (top != NULL) {
        if (!isWaitingInside(&top->tso)) reach(&top->tso);
    } else if (isInSafeCall(task) && task->incall == NULL) {
        reach(task->calling);
    }
}

static void scanUnbound(StgTSO *tso, void *unused)
{
    roots.seen++;
    if (whyOf(tso) != ThreadBlockedOnCCall && !isWaitingInside(tso)) reach(tso);
}

/* A record that is not in use, or is a runtime's that has ended. */
static bool hasNoRoots(const StgTSO *tso)
{
    return isBound(tso) ? isOld(tso->incall) : whyOf(tso) == THREAD_FREE;
}

static void scanDirty(Visitor *v, Nursery *nursery)
{
    for (StgTSO *t = nursery->dirty; t != NULL; t = t->dirtyLink) {
        t->staysDirty = false;
        if (hasNoRoots(t)) continue;
        scanThread(t, v);
        t->staysDirty = v->sawYoung;
    }
}

static Visitor *visitor; /* of scanAll */
static void scanUnlessInCall(StgTSO *tso, void *unused)
{
    if (whyOf(tso) != ThreadBlockedOnCCall) scanThread(tso, visitor);
}
static void scanOfTask(Task *task, void *unused)
{
    for (InCall *i = task->incall; i != NULL; i = i->prev)
        if (!isOld(i)) scanThread(&i->tso, visitor);
    if (isInSafeCall(task)) scanThread(task->calling, visitor);
}
static void scanAll(Visitor *v)
{
    visitor = v;
    eachTask(scanOfTask, NULL);
    eachThread(scanUnlessInCall, NULL);
}

void scanThreadRoots(Visitor *v)
{
    if (v->minor || v->marks) return; /* scanDirty, scanAll */
    eachTask(scanTask, NULL);
    eachThread(scanUnbound, NULL);
    while (scanOne(v)) {}
}

/* ---- Blocked for ever ---- */

static bool isLost(const StgTSO *tso) { return tso->marked != roots.number && isWaitingInside(tso); }
static void reviveIfLost(StgTSO *tso)
{
    if (!isLost(tso)) return;
    tso->wakeLink = roots.revived;
    roots.revived = tso;
    reach(tso); /* its blockedOn is a root by that, so what it waits for is where that says */
}
static void reviveUnbound(StgTSO *tso, void *unused) { reviveIfLost(tso); }
static void reviveTask(Task *task, void *unused)
{
    InCall *top = topInCall(task);
    if (top != NULL) reviveIfLost(&top->tso);
}

/* A lost in-call that was made from a safe call stands on threads that go on once it has ended, and may wake others then.  So who is known to
 * these is not lost, in-calls of the same kind included: only what no other one's threads know is.  Where all know each other in a ring, one is enough. */
static void noteStanding(Task *task, void *unused)
{
    InCall *top = topInCall(task);
    if (top == NULL || (top->prev == NULL && task->calling == NULL) || !isLost(&top->tso)) return;
    top->tso.wakeLink = roots.standing;
    roots.standing = &top->tso;
}

static void judgeCurrent(void)
{
    StgTSO *tso = roots.current;
    roots.current = NULL;
    if (tso == NULL) return;
    if (isLost(tso)) {
        tso->wakeLink = roots.unreached;
        roots.unreached = tso;
    } else if (roots.inOwnWay == NULL) {
        roots.inOwnWay = tso;
    }
}

/* false: there is no further one. */
static bool scanBelowNext(void)
{
    judgeCurrent();
    for (StgTSO *tso; (tso = roots.standing) != NULL;) {
        roots.standing = tso->wakeLink;
        if (!isLost(tso)) continue;
        roots.current = tso;
        reachBelow(tso->incall);
        return true;
    }
    return false;
}

static void reviveStanding(void)
{
    for (StgTSO *t = roots.unreached, *next; t != NULL; t = next) {
        next = t->wakeLink;
        reviveIfLost(t);
    }
    if (roots.revived != NULL || roots.inOwnWay == NULL) return;
    roots.revived = roots.inOwnWay;
    roots.revived->wakeLink = NULL;
}

/* Called until it says false; what it reached is scanned in between. */
static bool revive(void)
{
    switch (roots.search) {
    case LOOK_FOR_STANDING:
        eachTask(noteStanding, NULL);
        roots.search = LOOK_BELOW;
        return true;
    case LOOK_BELOW:
        if (scanBelowNext()) return true;
        reviveStanding();
        roots.search = LOOK_FOR_ALL;
        return true;
    case LOOK_FOR_ALL:
        if (roots.unbound < roots.seen) eachThread(reviveUnbound, NULL);
        eachTask(reviveTask, NULL);
        roots.search = LOOKED; /* nothing new can be lost */
        return true;
    default: return false;
    }
}

void interruptRevived(void)
{
    for (StgTSO *t = roots.revived, *next; t != NULL; t = next) {
        next = t->wakeLink;
        uint8_t why = whyOf(t);
        /* Who waits in throwTo is let go by its target, which was revived too or can be reached. */
        if (why == ThreadBlockedOnThrowTo || !interruptWait(t)) continue;
        atomic_fetch_or_explicit(&t->pending, why == ThreadBlockedOnBlackHole ? PENDING_LOOP : PENDING_DEADLOCK,
                                 memory_order_relaxed);
        postThread(t);
    }
    roots.revived = NULL;
}

/* ---- ThreadIds ---- */

static void sweepHandle(StgTSO *tso, void *unused)
{
    if (tso->handle != NULL) tso->handle = forwardedTo((StgClosure *)tso->handle);
}
static void sweepTask(Task *task, void *unused)
{
    for (InCall *i = task->incall; i != NULL; i = i->prev) sweepHandle(&i->tso, NULL);
}

/* Threads that still refer to something young go back into the list. */
static void sweepDirty(Capability *cap, bool minor)
{
    StgTSO *t = cap->nursery.dirty;
    cap->nursery.dirty = NULL;
    for (StgTSO *next; t != NULL; t = next) {
        next = t->dirtyLink;
        sweepHandle(t, NULL);
        bool stays = minor && (t->staysDirty || (t->handle != NULL && isYoung(t->handle)));
        t->dirty = 0;
        if (stays) markDirty(cap, t);
    }
}

static void sweep(bool minor)
{
    if (!minor) {
        eachThread(sweepHandle, NULL);
        eachTask(sweepTask, NULL);
    }
    if (heap.judging) return; /* the minor collection before has done the rest */
    for (unsigned i = 0; i < numCapabilities; i++) sweepDirty(&capabilities[i], minor);
    /* What runs goes on without being put on its capability again. */
    for (unsigned i = 0; i < numCapabilities; i++) {
        Stack *stack = regsOf(&capabilities[i])->stack;
        if (stack != NULL) markDirty(&capabilities[i], stack->tso);
    }
}

void forgetThreadRoots(void)
{
    roots.gray = NULL;
    roots.revived = NULL;
}

void initThreadRoots(void)
{
    gcThreads = (ThreadHooks){ .begin = begin, .scanAll = scanAll, .scanDirty = scanDirty, .reach = reach, .next = nextInQueue, .scan = scanOne, .count = countScanned, .revive = revive, .sweep = sweep };
}

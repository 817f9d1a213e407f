/* stress/incall: threads that come and go. */
#include "incall.h"

#include <inttypes.h>
#include <sched.h>
#include <time.h>

/* How a visitor ends. */
typedef enum {
    END_RETURN, END_DONE, END_EXIT,            /* outside any in-call; DONE after hs_thread_done */
    END_LOCKED,                                /* pthread_exit between rts_lock and rts_unlock */
    END_MANAGED, END_SAFE, END_NESTED,         /* pthread_exit from managed code, from a safe call, from an in-call in one */
    END_THUNK,                                 /* pthread_exit while it evaluates a thunk that others need */
    END_CANCEL_MANAGED, END_CANCEL_SAFE,       /* pthread_cancel by its host */
    END_DESTRUCTOR,                            /* calls in from the destructor of a key */
    ENDS
} VisitEnd;

typedef struct {
    Worker worker;
    VisitEnd end;
    int actions;
    StgStablePtr thunk;      /* END_THUNK */
    uint64_t thunkPhase;
    _Atomic int waiting;     /* nonzero: it waits to be cancelled, or never will */
} Visit;

static pthread_key_t lateKey;
static pthread_once_t lateKeyOnce = PTHREAD_ONCE_INIT;

static void callLate(void *arg)
{
    Worker *worker = arg;
    actPlain(worker);
    actCounter(worker);
}

static void makeLateKey(void)
{
    pthread_key_create(&lateKey, callLate);
}

/* ---- The visitor's side -------------------------------------------------------------------------------------------- */

static void *exitFromC(void *arg)
{
    pthread_exit(arg);
}

static void *awaitCancel(void *arg)
{
    _Atomic int *waiting = arg;
    struct timespec moment = { 0, 200000 };
    for (;;) {
        BEFORE_CANCELLATION();
        atomic_store(waiting, 1);
        pthread_testcancel();
        if (CANCELLABLE_SLEEP) nanosleep(&moment, NULL);
        else sched_yield();
    }
    return NULL;
}

static void runAction(Call *call, HaskellObj action)
{
    evalAction(call, action, Success);
}

/* None of these comes back, unless the call was refused or interrupted. */
static void leaveSafely(Call *call, void *(*fn)(void *), void *arg)
{
    SafeWork work = { fn, arg };
    runAction(call, rts_apply(call->cap, &stressSafely_closure, rts_mkPtr(call->cap, &work)));
}

static void *leaveNested(void *arg)
{
    Call call;
    if (!beginCall(arg, &call)) return NULL;
    runAction(&call, &stressLeave_closure);
    endCall(&call);
    return NULL;
}

static void leaveInThunk(Visit *visit, Call *call)
{
    if (call->phase != visit->thunkPhase || atomic_load(&game.phase) != visit->thunkPhase) return;
    evalPure(call, (HaskellObj)(void *)deRefStablePtr(visit->thunk), Success);
}

static void leaveInCall(Visit *visit)
{
    Call call;
    if (!beginCall(&visit->worker, &call)) return;
    switch (visit->end) {
    case END_LOCKED: pthread_exit(NULL);
    case END_MANAGED: runAction(&call, &stressLeave_closure); break;
    case END_SAFE: leaveSafely(&call, exitFromC, NULL); break;
    case END_NESTED: leaveSafely(&call, leaveNested, &visit->worker); break;
    case END_THUNK: leaveInThunk(visit, &call); break;
    case END_CANCEL_SAFE: leaveSafely(&call, awaitCancel, &visit->waiting); break;
    case END_CANCEL_MANAGED:
        runAction(&call, rts_apply(call.cap, &stressAwaitCancel_closure, rts_mkPtr(call.cap, &visit->waiting)));
        break;
    default: break;
    }
    endCall(&call);
}

static void *runVisit(void *arg)
{
    static const ActionKind kinds[] = { ACTION_PLAIN, ACTION_RAISE, ACTION_CATCH, ACTION_NEST, ACTION_GC,
                                        ACTION_SHARED, ACTION_COUNTER, ACTION_LIST, ACTION_TRY };
    Visit *visit = arg;
    Worker *worker = &visit->worker;
    for (int i = 0; i < visit->actions; i++)
        performAction(worker, kinds[nextRandom(worker) % (sizeof kinds / sizeof *kinds)]);
    switch (visit->end) {
    case END_RETURN: break;
    case END_DONE: hs_thread_done(); break;
    case END_EXIT: pthread_exit(NULL);
    case END_DESTRUCTOR: pthread_setspecific(lateKey, worker); break;
    default: leaveInCall(visit);
    }
    atomic_store(&visit->waiting, 1);
    return NULL;
}

/* ---- The host's side ----------------------------------------------------------------------------------------------- */

/* A thunk whose first evaluation ends its thread. */
static bool makeTrap(Visit *visit, Worker *host, int64_t *serial)
{
    Call call;
    *serial = newSerial();
    if (*serial < 0 || !beginCall(host, &call)) return false;
    HaskellObj free[] = { rts_mkInt(call.cap, *serial), rts_mkInt(call.cap, FRAGILE_THREAD) };
    HaskellObj thunk = rts_mkClosure(call.cap, &stressFragile_info, free);
    if (thunk != CAPSTAN_POISON && atomic_load(&game.phase) == call.phase && call.phase % 2 == 0) {
        visit->thunk = getStablePtr((StgPtr)(void *)thunk);
        visit->thunkPhase = call.phase;
    }
    endCall(&call);
    return visit->thunk != NULL;
}

/* The visitor is gone: its thunk must be as good as new, unless it was refused and never began it. */
static void springTrap(Visit *visit, Worker *host, int64_t serial)
{
    Call call;
    bool sprung = atomic_load(&game.records[serial].starts) != 0;
    if (!beginCall(host, &call)) return;
    if (call.phase == visit->thunkPhase && atomic_load(&game.phase) == call.phase) {
        HaskellObj thunk = (HaskellObj)(void *)deRefStablePtr(visit->thunk);
        freeStablePtr(visit->thunk);
        if (sprung && evalPure(&call, thunk, Success)) {
            unsigned starts = atomic_load(&game.records[serial].starts);
            EXPECT(host, rts_getInt(call.result) == sharedValue(serial) && (starts == 2 || mayBeExhausted()),
                   "a thunk whose thread ended came to %" PRId64 " after %u beginnings", rts_getInt(call.result), starts);
        }
    }
    endCall(&call);
}

static void cancelVisitor(Visit *visit)
{
    struct timespec moment = { 0, 50000 };
    while (!atomic_load(&visit->waiting)) nanosleep(&moment, NULL);
    pthread_cancel(visit->worker.thread);
}

void actVisit(Worker *worker)
{
    Visit visit = { .end = (VisitEnd)randomBetween(worker, 0, ENDS - 1), .actions = (int)randomBetween(worker, 0, 3) };
    int64_t serial = -1;
    pthread_once(&lateKeyOnce, makeLateKey);
    seedWorker(&visit.worker, worker->number, nextRandom(worker));
    visit.worker.host = worker;
    if (visit.end == END_THUNK && !makeTrap(&visit, worker, &serial)) visit.end = END_RETURN;
    if (pthread_create(&visit.worker.thread, stressThreadAttributes(), runVisit, &visit) != 0) {
        fail(worker, "cannot create a thread");
        return;
    }
    if (visit.end == END_CANCEL_MANAGED || visit.end == END_CANCEL_SAFE) cancelVisitor(&visit);
    pthread_join(visit.worker.thread, NULL);
    if (visit.end == END_THUNK) springTrap(&visit, worker, serial);
    dropVisitor(&visit.worker, worker);
}

/* stress/incall: many C threads call in, in every way at once, and every status, result and total is checked.
 *
 * incall.c          options, the beginning and the end
 * incall_rounds.c   rounds: start the runtime, let the workers run, end it calmly or under them, compare totals
 * incall_worker.c   the worker threads, and one call with its outcome
 * incall_calls.c    actions that are one call or a few: plain, raise, catch, nest, poll, deep, try, list, hog, prefer
 * incall_keep.c     actions on what outlives a call: stable pointers, byte arrays, shared thunks, counters
 * incall_visit.c    threads that come and go
 * incall_managed.c  the managed functions behind all of them
 * incall_watch.c    progress lines and the watchdog
 */
#ifndef STRESS_INCALL_H
#define STRESS_INCALL_H

#include <Rts.h>
#include <rts/Managed.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#if defined(__SANITIZE_THREAD__)
#define STRESS_TSAN 1
#elif defined(__SANITIZE_ADDRESS__)
#define STRESS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define STRESS_TSAN 1
#elif __has_feature(address_sanitizer)
#define STRESS_ASAN 1
#endif
#endif

/* Stacks of workers and visitors: room for 300 levels of calls, and no more than a stack overflow is to touch. */
#if defined(STRESS_TSAN)
#define STRESS_SANITIZED 1
#define STRESS_STACK_BYTES ((size_t)1 << 20) /* its own stack of calls holds 65 536, and a recursion fills a stack with small ones */
#elif defined(STRESS_ASAN)
#define STRESS_SANITIZED 1
#define STRESS_STACK_BYTES ((size_t)16 << 20)
#else
#define STRESS_SANITIZED 0
#define STRESS_STACK_BYTES ((size_t)2 << 20)
#endif

/* Before a cancellation point at which a thread may leave: frames that are unwound there leave marks in ASan's shadow that the
 * next ones on that memory stumble over.  And TSan must not be left from inside the functions that it replaces. */
#ifdef STRESS_ASAN
#include <sanitizer/asan_interface.h>
#define BEFORE_CANCELLATION() __asan_handle_no_return()
#else
#define BEFORE_CANCELLATION() ((void)0)
#endif
#ifdef STRESS_TSAN
#define CANCELLABLE_SLEEP 0
#else
#define CANCELLABLE_SLEEP 1
#endif

/* ---- Options (incall.c) ------------------------------------------------------------------------------------------ */

typedef enum { ACTION_PLAIN, ACTION_VALUES, ACTION_RAISE, ACTION_CATCH, ACTION_HOG, ACTION_NEST, ACTION_BURROW,
               ACTION_STABLE, ACTION_GC, ACTION_SHARED, ACTION_CAF, ACTION_FRAGILE, ACTION_BYTES, ACTION_COUNTER,
               ACTION_VISIT, ACTION_POLL, ACTION_DEEP, ACTION_TRY, ACTION_LIST, ACTION_PREFER, ACTIONS } ActionKind;

/* How the runtime is ended between rounds. */
typedef enum {
    RESTART_CALM,     /* no call is running; all totals must be exact */
    RESTART_ROUGH,    /* calls are running; the workers then wait for the next start */
    RESTART_OVERLAP,  /* calls are running and go on while it ends and starts again */
    RESTART_MIXED     /* each round one of these by chance */
} RestartMode;

typedef struct {
    uint64_t seed;
    unsigned threads;
    uint64_t iters;            /* of each worker; 0: until the time is over */
    double seconds;            /* 0: until the iterations are done */
    unsigned capabilities;
    size_t nursery, heapLimit; /* heapLimit 0: none, and no hogs */
    uint64_t restartEvery;     /* iterations of each worker in one round; 0: one round */
    RestartMode restartMode;
    unsigned weights[ACTIONS];
    bool verifyHeap, poison, noMembarrier, quiet;
    unsigned patience;         /* seconds without progress that the watchdog bears */
} Options;

extern Options options;
extern const char *const actionNames[ACTIONS];
extern const char *const restartNames[RESTART_MIXED + 1];

/* ---- Workers (incall_worker.c) ----------------------------------------------------------------------------------- */

/* What calls came to. Everything that was begun ends as exactly one of the others. */
typedef struct {
    uint64_t begun, succeeded, killed, exhausted, interrupted, refused, busy;
} Outcomes;

#define KEPT 32

/* Ownership: its thread; the watchdog reads the atomic ones. */
typedef struct Worker {
    unsigned number;
    struct Worker *host;           /* of a thread that a worker made for one action; else NULL */
    uint64_t random;               /* state of its random numbers */
    pthread_t thread;
    _Atomic uint64_t steps;        /* grows with all that it does */
    _Atomic int doing;             /* ActionKind, for the dump */
    _Atomic bool arrived;          /* waits for the next round, or has finished */
    uint64_t iterations, roundIterations;
    Outcomes outcomes;
    int64_t committed;             /* sum of what successful calls committed */
    int64_t counted;               /* sum of what successful calls added to counters */
    struct { StgStablePtr ptr; int64_t value; } kept[KEPT];
    uint64_t keptEpoch;            /* of the runtime that kept belongs to */
} Worker;

/* One in-call from C. */
typedef struct {
    Worker *worker;
    Capability *cap;
    uint64_t phase;                /* game.phase when it began */
    HaskellObj result;
    SchedulerStatus status;
} Call;

void noteStep(Worker *worker);
uint64_t nextRandom(Worker *worker);
/* From low to high, both included. */
int64_t randomBetween(Worker *worker, int64_t low, int64_t high);
bool oneIn(Worker *worker, unsigned n);

void seedWorker(Worker *worker, unsigned number, uint64_t stream);
void *runWorker(void *worker);
void performAction(Worker *worker, ActionKind kind);
ActionKind chooseAction(Worker *worker);
void addOutcomes(Outcomes *to, const Outcomes *from);
/* What a visitor did counts as its host's. */
void dropVisitor(Worker *visitor, Worker *host);

/* false: refused, which is checked to be right; then there is nothing to end. */
bool beginCall(Worker *worker, Call *call);
void endCall(Call *call);
/* Evaluate, and say whether it ended as expected (Success, Killed, HeapExhausted). false: it ended otherwise for a
 * reason that the options allow, and the caller ends the call; any other reason is a failure. */
bool evalPure(Call *call, HaskellObj value, SchedulerStatus expected);
bool evalAction(Call *call, HaskellObj action, SchedulerStatus expected);
/* The same judgement of a status that is already there. */
bool judgeStatus(Call *call, SchedulerStatus expected);
/* Whether a call may end so for reasons of others. */
bool mayBeExhausted(void);
bool mayBeInterrupted(uint64_t phaseAtBegin);

/* ---- The game (incall_rounds.c) ---------------------------------------------------------------------------------- */

#define COUNTERS 4
#define SLOTS 16
#define RECORDS (1u << 20) /* shared thunks in one round */

/* What one shared thunk did; its serial is its place. */
typedef struct { _Atomic uint32_t starts, finishes; } ThunkRecord;

/* What all workers share in one epoch; behind stable pointers. */
typedef struct {
    StgStablePtr counters[COUNTERS];  /* MutVars */
    StgStablePtr slots;               /* an array of shared thunks */
} Shared;

typedef struct {
    /* Even: started and not ending. main adds one before it ends the runtime, and one after it started it again. */
    _Atomic uint64_t phase;
    _Atomic(Shared *) shared;         /* NULL between an end and the next beginning; stays while a capability is held */
    _Atomic bool stop;                /* time is over, or something failed */
    _Atomic int mode;                 /* RestartMode of this round; changes while no worker runs */
    _Atomic bool limited;                 /* this round has a heap limit, and hogs */
    _Atomic unsigned failures;
    Worker *workers;
    /* Effects, counted by managed code, without a safepoint between effect and count. */
    _Atomic int64_t committed, counted[COUNTERS];
    _Atomic uint64_t cafStarts, cafFinishes;
    _Atomic uint64_t externalsMade, externalsReleased;
    ThunkRecord *records;
    _Atomic uint32_t nextSerial;
    _Atomic uint32_t hogs, hogEnds;   /* now running; ever ended */
    /* Seen by hooks. */
    _Atomic uint64_t collections, longStops, outOfHeaps, stackOverflows;
} Game;

extern Game game;

bool roundIsOver(Worker *worker);
/* Returns false when there is none. */
bool waitForNextRound(Worker *worker);
/* All rounds, from the first start of the runtime to its last end. */
void playRounds(void);
unsigned countRounds(void);
pthread_attr_t *stressThreadAttributes(void);

/* ---- Actions ------------------------------------------------------------------------------------------------------ */

void actPlain(Worker *worker);
void actValues(Worker *worker);
void actRaise(Worker *worker);
void actCatch(Worker *worker);
void actHog(Worker *worker);
void actNest(Worker *worker);
void actBurrow(Worker *worker);
void actPoll(Worker *worker);
void actDeep(Worker *worker);
void actTry(Worker *worker);
void actList(Worker *worker);
void actPrefer(Worker *worker);

void actStable(Worker *worker);
void actCollect(Worker *worker);
void actShared(Worker *worker);
void actCaf(Worker *worker);
void actFragile(Worker *worker);
void actBytes(Worker *worker);
void actCounter(Worker *worker);
/* A number for a new shared thunk, or -1 when all are used up. */
int64_t newSerial(void);
void dropKept(Worker *worker);

void actVisit(Worker *worker);

/* ---- Managed functions (incall_managed.c) ------------------------------------------------------------------------- */

CAPSTAN_EXTERN(stressDouble);       /* x -> 2x + 1 */
CAPSTAN_EXTERN(stressCommit);       /* n -> IO n, adds n to game.committed */
CAPSTAN_EXTERN(stressAddTo);        /* var i n -> IO (), adds n to a MutVar and to game.counted[i] */
CAPSTAN_EXTERN(stressRaise);        /* n -> raises an ErrorCall with "stress error n" */
CAPSTAN_EXTERN(stressRaiseValue);   /* x -> raises x */
CAPSTAN_EXTERN(stressCatchTry);     /* n -> IO n, raised and caught by rts_try, kind n % 3 */
CAPSTAN_EXTERN(stressHandler);      /* e -> IO (the integer e, plus 1) */
CAPSTAN_EXTERN(stressThrower);      /* n -> IO, raises the integer n */
CAPSTAN_EXTERN(stressList);         /* n every -> IO (sum of a list of n cells) */
CAPSTAN_EXTERN(stressHog);          /* kind -> IO, takes memory until there is none */
CAPSTAN_EXTERN(stressNest);         /* depth ptr -> IO, a safe call of nestFromC(ptr) */
CAPSTAN_EXTERN(stressPoll);         /* n -> IO n, polls n times */
CAPSTAN_EXTERN(stressDeep);         /* n -> recursion without end */
CAPSTAN_EXTERN(stressDeepCaught);   /* () -> IO 1 when the overflow was caught */
CAPSTAN_EXTERN(stressTail);         /* n acc -> n + acc by tail calls */
CAPSTAN_EXTERN(stressLeave);        /* IO, ends the calling thread */
CAPSTAN_EXTERN(stressAwaitCancel);  /* ptr -> IO, sets the _Atomic int and waits for pthread_cancel */
CAPSTAN_EXTERN(stressSafely);       /* ptr -> IO, a safe call of SafeWork.fn */
CAPSTAN_EXTERN(stressTable);        /* a CAF: the integer CAF_VALUE */
extern const StgInfoTable stressShared_info;   /* thunk of a serial */
extern const StgInfoTable stressFragile_info;  /* thunk of a serial and a FragileEnd: the first evaluation is killed */
extern const StgInfoTable stressStuck_info;    /* thunk of a serial: raises an ErrorCall, always the same */

#define CAF_VALUE 20250117
static inline int64_t sharedValue(int64_t serial) { return serial * 7 + 3; }

typedef enum { FRAGILE_STACK, FRAGILE_DEEP, FRAGILE_HEAP, FRAGILE_THREAD } FragileEnd;
/* fn(arg), called by stressSafely. */
typedef struct { void *(*fn)(void *arg); void *arg; } SafeWork;

void *nestFromC(void *nest);

/* ---- Failures and the watchdog (incall_watch.c) ------------------------------------------------------------------- */

/* Says what went wrong, with the way to replay it; the workers stop soon after. worker may be NULL. */
__attribute__((format(printf, 2, 3))) void fail(Worker *worker, const char *format, ...);
#define EXPECT(worker, condition, ...) ((condition) ? (void)0 : fail((worker), __VA_ARGS__))

void printReplay(FILE *to);
void startWatch(void);
void stopWatch(void);

#endif

/* stress/sched: random programs of threads whose every outcome is computed beside them.
 *
 * A scene is one program: some MVars, tokens that wander between them, thunks that all may evaluate, and actors.  An actor is a thread with a
 * number: forked, or an in-call of the C thread that owns the scene, of another one (a guest), or of C that an actor called.  Each plays its own
 * random script, masked, and is thrown exceptions by others at any time.  What comes of it is exact all the same: each token is at one
 * place; each throw is received exactly once, unless its target ended or its thrower was interrupted: then once at most; each actor says how it ended.
 *
 * sched.c           options, the beginning and the end
 * sched_rounds.c    rounds: start the runtime, let the C threads play scenes, end it calmly or under them
 * sched_scene.c     one scene: the board that its actors share, the owner, the reaper, and what must be true at the end
 * sched_actor.c     an actor's life: its script, what it catches, its end
 * sched_steps.c     the steps of scripts that deal with tokens, thunks, and other actors
 * sched_calls.c     the steps that wait, call C, or come back from there
 * sched_threads.c   the steps that need bound threads, time limits, or look at others
 * sched_budget.c    in-calls with a budget, and who cancels them; allocation limits
 * sched_submit.c    actors that were submitted, and their results
 * sched_watch.c     progress lines, failures and the watchdog
 */
#ifndef STRESS_SCHED_H
#define STRESS_SCHED_H

#include <Rts.h>
#include <rts/Managed.h>
#include <rts/Threads.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* ---- Options (sched.c) -------------------------------------------------------------------------------------------- */

typedef enum {
    STEP_TAKE, STEP_PUT, STEP_TRY_TAKE, STEP_TRY_PUT, STEP_READ, STEP_MINT, STEP_BURN, STEP_THUNK, STEP_THROW, STEP_FORK, STEP_LOCK,
    STEP_UNMASK, STEP_ALLOW, STEP_YIELD, STEP_DELAY, STEP_SPIN, STEP_ALLOCATE, STEP_CALL, STEP_NEST, STEP_COLLECT, STEP_OUTSIDE,
    STEP_PIPE, STEP_LOSE, STEP_LOOP, STEP_TIMEOUT, STEP_FORK_OS, STEP_BOUND, STEP_BREAK, STEP_LOOK, STEP_BUDGET, STEP_CANCEL,
    STEP_LIMIT, STEP_SWAT, STEP_SUBMIT, STEP_LEAVE, STEPS
} StepKind;

typedef enum { RESTART_CALM, RESTART_ROUGH, RESTART_OVERLAP, RESTART_MIXED } RestartMode;

typedef struct {
    uint64_t seed;
    unsigned threads;          /* C threads */
    uint64_t iters;            /* scenes and visits of each; 0: until the time is over */
    double seconds;            /* 0: until the iterations are done */
    unsigned capabilities;
    size_t nursery;
    unsigned actors;           /* in a scene, at most */
    unsigned script;           /* steps of an actor, at most */
    uint64_t restartEvery;     /* scenes and visits of each C thread in one round; 0: one round */
    RestartMode restartMode;
    unsigned weights[STEPS];
    bool verifyHeap, poison, noMembarrier, quiet, all;
    unsigned patience;         /* seconds without progress that the watchdog bears */
} Options;

extern Options options;
extern const char *const stepNames[STEPS];
extern const char *const restartNames[RESTART_MIXED + 1];

/* Frames that pthread_exit unwinds leave marks in ASan's shadow, over which the next ones on that memory stumble. */
#if defined(__SANITIZE_ADDRESS__)
#define STRESS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define STRESS_ASAN 1
#endif
#endif
#ifdef STRESS_ASAN
#include <sanitizer/asan_interface.h>
#define BEFORE_LEAVING() __asan_handle_no_return()
#else
#define BEFORE_LEAVING() ((void)0)
#endif

/* Where every safepoint collects, fewer of them make the same test. */
#ifdef CAPSTAN_TORTURE
#define POLLS(n) ((n) / 256)
#else
#define POLLS(n) (n)
#endif

/* ---- Random numbers ------------------------------------------------------------------------------------------------ */

static inline uint64_t nextRandom(uint64_t *state)
{
    /* splitmix64: any seed will do, and neighbours give unrelated streams. */
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}
/* From 0 to n - 1. */
static inline unsigned below(uint64_t *state, uint64_t n) { return (unsigned)(nextRandom(state) % n); }
static inline bool oneIn(uint64_t *state, unsigned n) { return below(state, n) == 0; }

/* ---- Scenes (sched_scene.c) ---------------------------------------------------------------------------------------- */

#define MAX_ACTORS 64
#define MAX_TOKENS 64
#define MAX_THROWS 4096
#define MAX_MVARS 8
#define THUNKS 12

/* Where a token is, besides in the hands of actor number 0, 1, ... */
enum { IN_MVAR = -1, NOWHERE = -2 };

/* What the thrower knows of a throw. */
enum { THROW_PENDING, THROW_RETURNED, THROW_FOUND_ENDED, THROW_INTERRUPTED };

typedef struct {
    int target;
    bool last;                     /* of the reaper: the target's script ends */
    _Atomic int outcome;           /* THROW_* */
    _Atomic int received;          /* how often */
} Throw;

typedef enum { ACTOR_OWNER, ACTOR_FORKED, ACTOR_NESTED, ACTOR_GUEST, ACTOR_FORKED_OS, ACTOR_BOUND, ACTOR_SUBMITTED,
               ACTOR_LEAVER } ActorKind;
typedef enum { END_NONE, END_SCRIPT, END_THROWN, ENDS } ActorEnd;

/* The budget of an in-call. */
typedef struct {
    uint64_t deadline;             /* microseconds; UINT64_MAX: none */
    StgWord64 limit;               /* bytes; 0: none */
    bool noWait;
    struct Ticket *ticket;         /* where its handle is; NULL: it has none */
} Terms;

/* What is known of one actor outside the heap. */
typedef struct {
    ActorKind kind;
    uint64_t random;
    unsigned steps;                /* of its script */
    _Atomic bool registered;       /* its ThreadId is on the board */
    _Atomic bool ended;            /* its script is over */
    bool hunted;                   /* [reaper] a killer is about */
    _Atomic int end;               /* ActorEnd */
    const Terms *terms;            /* of its in-call; NULL: no budget */
    SchedulerStatus verdict;       /* how its in-call has to end; NoStatus: with Success */
    bool limited;                  /* it set itself a limit, whose exception may come late */
    _Atomic int doing;             /* StepKind, for the dump */
    _Atomic uint64_t done;         /* steps */
} Slot;

struct Player;

/* Ownership: the C thread that plays it.  Actors know it by address: it is used again only when none is left, but for C that a thread of an
 * ended runtime called, which may come late; so it is never freed. */
typedef struct Scene {
    struct Player *owner;
    _Atomic uint64_t phase;        /* of the game, when it began */
    pthread_mutex_t lock;
    bool open;                     /* [lock] actors may be added */
    unsigned begun;                /* [lock] actors */
    _Atomic unsigned ended;        /* of them */
    _Atomic unsigned helpers;      /* the reaper and its killers */
    unsigned weights[STEPS];       /* [const] while open */
    unsigned mvars;                /* [const] while open */
    bool lost;                     /* [const] a scene without a reaper, in which all get lost */
    uint64_t seed;
    HsStablePtr board;             /* [const] while open */
    int pipe[2];                   /* [const] non-blocking */
    _Atomic bool closed;           /* for the reaper */
    _Atomic unsigned inC;          /* actors in safe calls */
    _Atomic unsigned guests;       /* guests that are looking at it */
    _Atomic unsigned submits;      /* accepted submissions without a result */
    Slot slots[MAX_ACTORS];
    _Atomic int holder[MAX_TOKENS];
    _Atomic unsigned minted;
    Throw throws[MAX_THROWS];
    _Atomic unsigned thrown;
    _Atomic int thunkStarts[THUNKS], thunkEnds[THUNKS];
    _Atomic bool thunkSeen[THUNKS];
    _Atomic int insideLock;
    _Atomic uint64_t written, read;
} Scene;

/* Places on the board, an array that all actors know. */
enum { BOARD_BELL, BOARD_LOCK, BOARD_PAIR, BOARD_MVARS = BOARD_PAIR + 2, BOARD_THUNKS = BOARD_MVARS + MAX_MVARS,
       BOARD_ACTORS = BOARD_THUNKS + THUNKS, BOARD_SIZE = BOARD_ACTORS + MAX_ACTORS };

/* (f scene number board), an action. */
HaskellObj actionOf(Capability *cap, HaskellObj f, Scene *scene, int number, HaskellObj board);
/* A number for a new actor, or -1: none is left, or the scene is over. */
int claimSlot(Scene *scene, ActorKind kind, uint64_t random, const Terms *terms);
void playScene(struct Player *player);
/* By who holds a capability: play an actor in a scene, if it is open and of this runtime. */
bool joinScene(Scene *scene, Capability **cap, ActorKind kind, uint64_t random, const Terms *terms);
void visitScene(struct Player *player);
Scene *newScene(struct Player *player);

/* ---- Actors (sched_actor.c) ---------------------------------------------------------------------------------------- */

/* An actor at work; on its own stack. */
typedef struct {
    Scene *scene;
    Slot *slot;
    int number;
    HaskellObj board, hand;        /* rooted; hand: the token */
    int token;                     /* its serial, or -1 */
    bool putting;                  /* it was on its way into an MVar */
    int throwing;                  /* the throw that was begun, or -1 */
    bool ending;
    unsigned within;               /* time limits that it is inside of */
} Actor;

/* Its script is over: nothing more is expected of it. */
void endActor(Stack *stack, Actor *actor);
/* Let the owner look whether all is over. */
void ringOwner(Stack *stack, HaskellObj board);
/* Play the script of an actor, masked. */
void playActor(Stack *stack, Scene *scene, int number, HaskellObj board);
CAPSTAN_EXTERN(schedActor);        /* scene number board -> IO (): the same, masked first */
void playStep(Stack *stack, Actor *actor);
/* What it was about when an exception came has not happened.  received: the throw that it was, or -1. */
void undoStep(Actor *actor, int received);
/* Look at what came; ends its script perhaps. */
void receiveException(Actor *actor, Stack *stack, HaskellObj exception);
/* Note that an actor received a throw; whether it is to end. */
bool receiveThrow(Scene *scene, int number, int serial);
/* Small integers, or objects that the collector moves. */
HaskellObj newThrow(Stack *stack, int serial);
/* The serial of a throw that was received; -1: something else. */
int throwOf(HaskellObj exception);

/* ---- Steps --------------------------------------------------------------------------------------------------------- */

typedef void Step(Stack *stack, Actor *actor);
extern Step *const stepTable[STEPS];
Step stepTake, stepPut, stepTryTake, stepTryPut, stepRead, stepMint, stepBurn, stepThunk, stepThrow, stepFork, stepLock;
Step stepUnmask, stepAllow, stepYield, stepDelay, stepSpin, stepAllocate, stepCall, stepNest, stepCollect, stepOutside, stepPipe,
    stepLose, stepLoop;
Step stepTimeout, stepForkOS, stepBound, stepBreak, stepLook, stepBudget, stepCancel, stepLimit, stepSwat, stepSubmit, stepLeave;

HaskellObj newToken(Stack *stack, Scene *scene, uint64_t random, int holder, int *serial);
int tokenOf(HaskellObj token);
void retireToken(Scene *scene, int serial, int holder);
/* The token goes from one to the other; it is an error if it was not with the first. */
void moveToken(Scene *scene, int serial, int from, int to);
HaskellObj newThunk(Capability *cap, Scene *scene, int place, HaskellObj board);
HsInt thunkValue(const Scene *scene, int place);
HaskellObj newPairThunk(Capability *cap, int other, HaskellObj board);
/* C that a step calls safely. */
typedef struct { Scene *scene; uint64_t random; } Errand;
void *callOut(Stack *stack, Actor *actor, void *(*fn)(void *), Errand *errand);
uint64_t nowMicroseconds(void);
/* Its address is not kept across safepoints. */
int errnoNow(void);
/* Whether a status of an in-call, or an answer, is one that its terms allow. */
bool termsAllow(const Terms *terms, SchedulerStatus status);
SchedulerStatus statusFor(HaskellObj exception);
void drawTerms(Terms *terms, RtsLockOpts *opts, uint64_t *random);
/* Raise what ended the actor's budget, if anything has. */
void raiseVerdict(Stack *stack, const Slot *slot);
/* Of submissions without a callback. */
void takeResults(void);
/* Call in with a budget, and play an actor if that is granted. */
bool joinWithin(Scene *scene, ActorKind kind, uint64_t random);
CAPSTAN_EXTERN(schedBudgeted);     /* as schedActor, in an in-call with terms */
/* Throw at an actor whose ThreadId is known; last: it has to end. */
void throwAt(Stack *stack, Actor *actor, int target, bool last);

/* ---- C threads, rounds (sched_rounds.c) ---------------------------------------------------------------------------- */

typedef struct {
    uint64_t scenes, visits, actors, throws, received, tokens, ends[ENDS], interrupted, refused;
} Outcomes;

typedef struct Player {
    unsigned number;
    uint64_t random;
    pthread_t thread;
    _Atomic uint64_t steps;        /* grows with all that it, and its scene's actors, do */
    _Atomic bool arrived;
    uint64_t iterations, roundIterations;
    Outcomes outcomes;
    Scene *scene;
} Player;

typedef struct {
    /* Even: started and not ending. main adds one before it ends the runtime, and one after it started it again. */
    _Atomic uint64_t phase;
    _Atomic uint64_t ends;         /* phases whose runtime has ended: hs_exit came back */
    _Atomic bool stop;
    _Atomic int mode;
    _Atomic unsigned failures;
    _Atomic uint64_t collections;
    Player *players;
} Game;

extern Game game;

/* Threads of this name may die of an exception. */
#define FLY_LABEL "fly"

void noteStep(Player *player);
bool roundIsOver(Player *player);
void playRounds(void);
unsigned countRounds(void);
/* Whether a call that began in this phase may have been ended by the runtime's end. */
static inline bool mayBeInterrupted(uint64_t phase) { return phase % 2 != 0 || atomic_load(&game.phase) != phase; }

/* ---- Failures and the watchdog (sched_watch.c) --------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) void fail(const Scene *scene, const char *format, ...);
#define EXPECT(scene, condition, ...) ((condition) ? (void)0 : fail((scene), __VA_ARGS__))
void printReplay(FILE *to);
void startWatch(void);
void stopWatch(void);

#endif

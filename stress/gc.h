/* stress/gc: random graphs of managed objects, each mirrored in C memory and compared with its mirror after every collection.
 *
 * A mutator is one thread of control with a graph of its own: a C thread that calls in, or a managed thread on one of the capabilities.  It makes random
 * steps: makes objects of every kind, writes young ones into old ones in every way there is, evaluates, forks threads that keep objects
 * on their stacks, drops things; and does the same to the mirror.  Nobody else touches its graph, so the mirror is exact: after each collection, at the
 * next safepoint, the whole graph is compared with it, contents and sharing, and the first difference ends the program with a report.
 * What mutators share (gc_shared.c) goes by serial numbers: objects whose contents follow from a number, and a table in C that knows who has it.
 *
 * The decisions of a mutator follow from the seed, the round and its number alone, but for what comes from others.
 *
 * gc.c           options, the beginning and the end
 * gc_rounds.c    rounds: start the runtime, let the mutators work, end it, count
 * gc_mutator.c   one mutator: its roots, its steps, its life as a C thread's in-calls or as a managed thread
 * gc_mirror.c    nodes and edges; what nobody can reach any more
 * gc_compare.c   the comparison
 * gc_make.c      making objects and their mirrors
 * gc_write.c     steps that write, forget, allocate, collect
 * gc_lazy.c      steps that evaluate, call, raise
 * gc_park.c      threads that wait with roots on their stacks, MVars
 * gc_nest.c      steps that call C, or run elsewhere
 * gc_long.c      lists of many cells
 * gc_shared.c    what all mutators share
 * gc_weak.c      weak pointers, finalizers, names
 * gc_watch.c     progress lines, failures and the watchdog
 */
#ifndef STRESS_GC_H
#define STRESS_GC_H

#include <Rts.h>
#include <rts/Managed.h>
#include <rts/Threads.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* ---- Options (gc.c) ------------------------------------------------------------------------------------------------ */

typedef enum {
    STEP_NEW, STEP_WRITE, STEP_CAS, STEP_ELEM, STEP_FILL, STEP_MOVE, STEP_COPY, STEP_DROP, STEP_STABLE, STEP_GARBAGE, STEP_POLL,
    STEP_MINOR, STEP_MAJOR, STEP_COMPARE, STEP_FORCE, STEP_CALL, STEP_TAIL, STEP_RAISE, STEP_PUT, STEP_TAKE, STEP_PARK, STEP_SLEEPER,
    STEP_TALK, STEP_THROW, STEP_FORK, STEP_LIST, STEP_YIELD, STEP_DELAY, STEP_NEST, STEP_BOUND, STEP_SUBMIT, STEP_STABLE_IO,
    STEP_TIMEOUT, STEP_LONG, STEP_BALLAST, STEP_SEND, STEP_RECEIVE, STEP_PUSH, STEP_POP, STEP_STALL, STEP_SHARED, STEP_CAF, STEP_WEAK,
    STEPS
} StepKind;

typedef struct {
    uint64_t seed;
    unsigned threads;          /* C threads */
    unsigned managed;          /* managed threads */
    uint64_t steps;            /* of each mutator in a round; 0: one round */
    unsigned rounds;           /* 0: until the time is over */
    double seconds;            /* 0: until the rounds are done */
    unsigned capabilities;
    size_t nursery, live;      /* live: bytes of each mutator's graph, about */
    size_t limit;              /* of the heap; 0: none.  Far from it: nobody here copes with refused memory */
    size_t ballast;            /* bytes of lists that all share */
    size_t longest;            /* cells of a list */
    unsigned largest;          /* elements of an array */
    unsigned collectEvery;     /* microseconds between collections that are asked for from outside, on average; 0: none */
    unsigned weights[STEPS];
    bool verifyHeap, poison, noMembarrier, quiet;
    unsigned debugNuma;
    unsigned patience;         /* seconds without progress that the watchdog bears */
    unsigned shortcut;         /* comparisons of which one follows long lists to the end */
} Options;

extern Options options;
extern const char *const stepNames[STEPS];

/* Where every safepoint collects, or every access costs ten, less of everything makes the same test. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STRESS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define STRESS_SANITIZED 1
#endif
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
static inline uint64_t below(uint64_t *state, uint64_t n) { return nextRandom(state) % n; }
static inline bool oneIn(uint64_t *state, unsigned n) { return below(state, n) == 0; }
/* The i-th number that follows from a seed. */
static inline uint64_t numberOf(uint64_t seed, uint64_t i)
{
    uint64_t state = seed + i * 0xd1342543de82ef95u;
    return nextRandom(&state);
}

/* ---- The mirror (gc_mirror.c) -------------------------------------------------------------------------------------- */

/* What a managed word has to be: a value that never moves (an immediate, a static closure), or a node, as its number with low bits 100. */
typedef uintptr_t Edge;
#define NO_EDGE ((Edge)0)
static inline bool isNodeEdge(Edge e) { return (e & 7) == 4; }
static inline uint32_t nodeOfEdge(Edge e) { return (uint32_t)(e >> 3); }
static inline Edge edgeToNode(uint32_t node) { return (Edge)node << 3 | 4; }
static inline Edge edgeToValue(HaskellObj v) { return (Edge)v; }

typedef enum {
    NODE_FREE,
    NODE_CON,        /* edges: fields; raw words behind them follow from seed */
    NODE_FUN,        /* the same with free variables */
    NODE_PAP,        /* edges: function, arguments */
    NODE_THUNK,      /* edges: free variables */
    NODE_AP,         /* edges: function, arguments; further applications inside are its own */
    NODE_MUTVAR, NODE_ARRAY,
    NODE_BYTES, NODE_PINNED, NODE_EXTERNAL, /* size bytes that follow from seed */
    NODE_BOXED,      /* info says what; the bits follow from seed */
    NODE_MVAR,       /* edges: value or NO_EDGE; then the values of parked putters, in order */
    NODE_SLEEPER,    /* a gcSleeper constructor; edges: what the parked thread keeps on its stack; what it was given and has not answered */
    NODE_LONG,       /* the head of a list of size cells */
    NODE_PARCEL,     /* an object whose contents follow from seed, its serial (gc_shared.c) */
    NODE_KINDS
} NodeKind;

/* Of thunks and applications.  Once it is done there is one edge: the value, or the exception. */
typedef enum { LAZY_WAITS, LAZY_DONE, LAZY_RAISES } LazyState;

typedef struct {
    uint8_t kind;              /* NodeKind */
    uint8_t lazy;              /* LazyState */
    uint8_t wrote;             /* StepKind of the last write */
    uint32_t next;             /* free nodes */
    uint32_t count;            /* edges */
    uint32_t stamp;            /* the traversal that met it */
    uint64_t seed;
    size_t size;
    const StgInfoTable *info;
    Edge *edges;
    HaskellObj seen;           /* [stamp] where it is */
    void *record;              /* its address (pinned), External, Sleeper; of an MVar: Putters */
    uint64_t born, written;    /* collections then, for reports */
} Node;

/* Memory under an external byte array.  Ownership: the mutator; released is written by the runtime. */
typedef struct External {
    struct External *next;
    _Atomic int released;
    bool dropped;              /* the mirror can reach it no more */
    size_t size;
    unsigned char *bytes;
} External;

/* A parked thread's record in C.  Ownership: the mutator; the thread writes the atomics. */
typedef struct Sleeper {
    struct Sleeper *next;
    struct Mutator *mutator;
    bool dropped;
    bool reads;                /* it reads what is put before it takes it */
    _Atomic bool lost;         /* it was told that nobody can wake it */
    _Atomic bool ended;
    struct Sleeper *queue;     /* of putters of one MVar */
    uint64_t turns;            /* [owner] how often it was woken */
} Sleeper;

#define TABLE     64           /* elements of the array that is root 0 */
#define ROOTS     8            /* it, and registers */
#define STABLES   24
#define STALLS    16           /* elements of the shared array that a mutator owns */
#define KEPT      4            /* objects on a sleeper's stack */
#define KEYS      24           /* weak pointers whose keys a mutator keeps */
#define PARKED    24           /* parked threads of a mutator at most */

typedef struct { HsStablePtr sp; Edge edge; } Stable;
typedef struct WeakRecord WeakRecord;

typedef struct Mutator {
    unsigned number;
    bool isManaged, isInner;
    uint64_t random;
    uint64_t stepsDone, stepsEnd;  /* in this round */
    _Atomic uint64_t progress;     /* over all rounds, for the watchdog */
    _Atomic int doing;             /* StepKind */
    _Atomic bool ended;            /* its round is over */
    pthread_t thread;
    Node *nodes;
    uint32_t capacity, used, free; /* used: nodes in use; free: list of others */
    uint32_t stamp;
    uint32_t *work;                /* nodes still to be scanned by a traversal */
    uint32_t *table;               /* of a comparison: addresses met, as a hash table of nodes */
    size_t live;                   /* bytes, as of the last sweep */
    Edge roots[ROOTS];
    Stable stables[STABLES];
    HsStablePtr keep[ROOTS];       /* the roots between in-calls */
    uint64_t stalls[STALLS];       /* serials */
    External *externals;
    Sleeper *sleepers;
    struct WeakRecord *weaks, *keys[KEYS];
    HsStablePtr weakTable;
    unsigned awake;                /* sleepers and putters that are in the graph */
    uint64_t compared;             /* the collection after which it last compared */
    uint64_t comparisons, objects, made, sent, received, talks;
    struct Mutator *inner;         /* what nested calls work on; or NULL */
} Mutator;

/* Where a mutator works: in managed code on a stack, or in C between rts_lock and rts_unlock (stack is NULL then). */
typedef struct {
    Mutator *m;
    Stack *stack;
    Capability **cap;
    HaskellObj *roots;             /* rooted */
} At;

static inline Capability *capOf(const At *at) { return at->stack != NULL ? at->stack->cap : *at->cap; }

/* An object together with its node (0: none). */
typedef struct { uint32_t node; HaskellObj obj; } Found;
/* A value together with what it has to be. */
typedef struct { Edge edge; HaskellObj v; } Word;

bool initMirror(Mutator *m);
/* Forget the graph: its runtime is over. */
void clearMirror(Mutator *m);
void freeMirror(Mutator *m);
static inline Node *nodeAt(const Mutator *m, uint32_t i) { return &m->nodes[i]; }
/* A node with that many edges, all NO_EDGE. */
uint32_t newNode(Mutator *m, NodeKind kind, const StgInfoTable *info, size_t edges);
void setEdges(Node *node, size_t count);
/* Free what cannot be reached from roots and stable pointers.  Its owner calls it at steps that follow from the seed. */
void sweepMirror(Mutator *m);
/* The node or value that an edge comes to when thunks that are done are followed. */
Edge resolveEdge(const Mutator *m, Edge e);
void noteWrite(Mutator *m, uint32_t node);
extern const char *const kindNames[NODE_KINDS];

/* ---- Comparison (gc_compare.c) ------------------------------------------------------------------------------------- */

/* Compare the whole graph. */
void compareAll(At *at);
/* The same, if there was a collection since the last time. */
void compareIfCollected(At *at);
/* Follow a word; what it comes to is checked as far as one object goes.  Immediates: node 0. */
Found meetWord(At *at, Edge e, HaskellObj v, const char *where);
/* The same of an edge of a node that was found. */
Found meetEdge(At *at, Found parent, uint32_t i);
/* What thunks that are done come to. */
HaskellObj resolveValue(HaskellObj v);
/* Whether a word is an object of that info table, or of its twin: variables and arrays get another one when they are old. */
bool isOf(HaskellObj v, const StgInfoTable *info);
/* The bytes of a byte array that follow from a seed. */
void fillPattern(unsigned char *bytes, size_t size, uint64_t seed);
void learnRaising(HaskellObj thunk);

/* Managed words of objects, as the mirror numbers them. */
HaskellObj readEdge(At *at, Found f, uint32_t i);

/* ---- Making (gc_make.c) -------------------------------------------------------------------------------------------- */

void makeShapes(void);
/* A random object, whose fields are new ones and old ones.  No safepoint. */
Word makeObject(At *at, unsigned depth);
/* A random value to store somewhere: young or old, immediate or static.  No safepoint. */
Word makeValue(At *at, unsigned depth);
Word makeBoxed(At *at);
Word makePair(At *at, Word a, Word b);
/* An object that can be reached from the roots, by a random walk; node 0: the walk came to none. */
Found pickObject(At *at);
/* One of that kind; kind NODE_KINDS: any. */
Found findKind(At *at, NodeKind kind);
/* Keep a word in a random place of the roots. */
void keepWord(At *at, Word w);
static inline Word wordOf(Found f) { return (Word){ edgeToNode(f.node), f.obj }; }
static inline Word plainWord(HaskellObj v) { return (Word){ edgeToValue(v), v }; }

extern const StgInfoTable gcPair_info, gcTriple_info, gcLazy_info, gcSleeping_info, gcAnswer_info, gcLambda_info;
CAPSTAN_EXTERN(gcMix);
HaskellObj newPair(Capability *cap, HaskellObj first, HaskellObj second);
/* What evaluating gcLazy and gcMix does; the mode is their first word. */
enum { BREW_PAIR, BREW_FIRST, BREW_RAISE, BREW_SLOWLY, BREW_FORCE, BREW_ARRAY, BREW_COLLECT, BREW_MODES };

/* ---- Mutators (gc_mutator.c) --------------------------------------------------------------------------------------- */

typedef void Step(At *at);
extern Step *const stepTable[STEPS];
/* Those that only managed code can do. */
extern const bool stepIsManaged[STEPS];
Step stepNew, stepWrite, stepCas, stepElem, stepFill, stepMove, stepCopy, stepDrop, stepStable, stepGarbage, stepPoll, stepMinor,
    stepMajor, stepCompare, stepForce, stepCall, stepTail, stepRaise, stepPut, stepTake, stepPark, stepSleeper, stepTalk, stepThrow,
    stepFork, stepList, stepYield, stepDelay, stepNest, stepBound, stepSubmit, stepStableIO, stepTimeout, stepLong, stepBallast,
    stepSend, stepReceive, stepPush, stepPop, stepStall, stepShared, stepCaf, stepWeak;

/* The round of a mutator, as a C thread's in-calls. */
void runInCalls(Mutator *m);
/* One in-call that makes so many steps. */
void callIn(Mutator *m, uint64_t steps);
/* The round of a managed mutator, an action of its address. */
CAPSTAN_EXTERN(gcManaged);
void beginRound(Mutator *m, uint64_t seed);
/* Let go of a graph that is kept between in-calls; at once, in an in-call of the calling thread. */
void dropKept(Mutator *m);
/* Let go of everything; context: a capability is held. */
void dropAll(At *at);
bool isRoundOver(const Mutator *m);
#define ALL_ROOTS(r) r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7]
/* A safepoint. */
void pollAt(At *at);
/* A collection, by whatever way this place has. */
void collectAt(At *at, bool major);
/* Garbage of so many bytes, and safepoints. */
void allocateGarbage(At *at, size_t bytes);
#ifdef CAPSTAN_TORTURE
#define GARBAGE(n) ((n) / 64)
#else
#define GARBAGE(n) (n)
#endif
HaskellObj evaluateAt(At *at, HaskellObj v, bool *raised);

/* ---- Lists, parked threads, shared things -------------------------------------------------------------------------- */

/* The first cells of a list (all: all of them). */
void compareLong(At *at, uint32_t node, HaskellObj head, bool all);
size_t countBallast(void);
HaskellObj sharedBallast(void);

/* The array that all share, a CAF. */
CAPSTAN_EXTERN(gcShared);
/* Weak pointers whose keys are kept; let go of the keys; how many finalizers have not run; after the runtime's end. */
void compareWeaks(At *at);
void dropWeaks(Mutator *m);
unsigned countUnfinalized(const Mutator *m);
void settleWeaks(Mutator *m);

void beginShared(uint64_t round);
/* Parcels that others sent go to nobody; and who waits for one, or for a place, gets it. */
void drainShared(Capability **cap);
/* Every parcel that was sent was received once. */
void checkShared(void);
Word makeParcel(At *at);
HaskellObj newParcel(Capability *cap, uint64_t serial);
/* Two collecting threads may each copy an object that never changes, as long as nobody asks which is which. */
bool mayBeTwo(HaskellObj v);
bool isRightParcel(HaskellObj v, uint64_t serial);
void compareParcel(At *at, HaskellObj v, uint64_t serial);
void compareStalls(At *at);

/* ---- Rounds (gc_rounds.c) ------------------------------------------------------------------------------------------ */

typedef struct {
    _Atomic bool stop;             /* the time is over */
    _Atomic bool closing;          /* the round is: nobody waits for others any more */
    _Atomic bool rarely;           /* few major collections are asked for in this round: old objects are marked bit by bit instead */
    _Atomic bool identity;         /* each object has one address from the beginning of this round; else from when its first weak pointer is made */
    _Atomic bool abrupt;           /* the round's graphs are left for the runtime's end to free */
    _Atomic unsigned failures;
    _Atomic uint64_t collections;
    _Atomic unsigned errands;      /* threads that were forked for a while, and have not ended */
    _Atomic unsigned round;
    unsigned count;
    Mutator *mutators;             /* C threads first */
} Game;

extern Game game;

/* One in n, in rounds where major collections are not rare. */
static inline bool majorIn(uint64_t *random, unsigned n) { return oneIn(random, game.rarely ? 300 * n : n); }

bool createMutators(void);
void freeMutators(void);
void playRounds(void);
void *majorFromOutside(void *unused);
void *minorFromOutside(void *unused);
void sleepMicroseconds(uint64_t us);

/* ---- Failures and the watchdog (gc_watch.c) ------------------------------------------------------------------------ */

/* The graph is not what it has to be: says so, and ends the program, before it runs on with what is broken. */
__attribute__((noreturn, format(printf, 2, 3))) void die(const Mutator *m, const char *format, ...);
/* Something else came out wrong. */
__attribute__((format(printf, 2, 3))) void fail(const Mutator *m, const char *format, ...);
#define EXPECT(m, condition, ...) ((condition) ? (void)0 : fail((m), __VA_ARGS__))
#define DEMAND(m, condition, ...) ((condition) ? (void)0 : die((m), __VA_ARGS__))
void printReplay(FILE *to);
void startWatch(void);
void stopWatch(void);

#endif

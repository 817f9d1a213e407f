/* rts/Config.h: how a host sets the runtime up, and how the runtime tells it what went wrong. */
#ifndef RTS_CONFIG_H
#define RTS_CONFIG_H

#include "rts/Stats.h"
#include "rts/Types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a call of the interface can answer.  rts_statusName and rts_statusText read the same table. */
typedef enum {
    RTS_OK = 0,
    RTS_OTHER_SETTINGS = -1,    /* started already, with other settings; the running ones stay */
    RTS_BAD_OPTION = -2,        /* an option string or a field of the configuration is wrong */
    RTS_NO_MEMORY = -3,         /* the operating system refused memory */
    RTS_NOT_STARTED = -4,       /* before the first hs_init, or after the last hs_exit */
    RTS_CLOSED = -5,            /* the runtime ended, or is ending, under this call */
    RTS_HOLDS_CAPABILITY = -6,  /* the thread holds a capability already: inside an unsafe call, or rts_lock twice */
    RTS_NOT_HOLDER = -7,        /* the thread does not hold this capability */
    RTS_OUT_OF_ORDER = -8,      /* in-calls of one thread must end in the reverse order of their beginning */
    RTS_INSIDE_INCALL = -9,     /* not allowed inside an in-call */
    RTS_BAD_STABLE_PTR = -10,   /* not a stable pointer in use */
    RTS_WRONG_KIND = -11,       /* the value is of another kind than the function reads */
    RTS_BUSY = -12,             /* no capability is free now */
    RTS_IN_FINALIZER = -13,     /* not allowed in a free function or another finalizer */
    RTS_BAD_ARGUMENT = -14,     /* an argument is out of range */
    RTS_TIMED_OUT = -15,        /* the deadline passed before a capability was free */
    RTS_CANCELLED = -16,        /* rts_cancel ended it */
    RTS_LEFT_SIDEWAYS = -17,    /* a C++ exception, or longjmp, went through managed code */
} RtsStatus;

/* "RTS_BUSY" and a sentence.  Static strings; any thread, any time. */
CAPSTAN_API const char *rts_statusName(RtsStatus status) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API const char *rts_statusText(RtsStatus status) CAPSTAN_NOSAFEPOINT;

/* How an in-call ended.  The first five as in GHC. */
typedef enum {
    NoStatus,        /* nothing was evaluated yet */
    Success,
    Killed,          /* an exception that nobody caught */
    Interrupted,     /* the runtime ended while it ran */
    HeapExhausted,   /* HeapOverflow that nobody caught, or no memory to build the call */
    Refused,         /* the call never got a capability: see rts_getRefusal */
    TimedOut,        /* its deadline passed */
    Cancelled,       /* rts_cancel ended it */
    LimitExceeded,   /* it allocated more than its limit */
} SchedulerStatus;

typedef enum { RTS_LOG_ERROR, RTS_LOG_WARNING, RTS_LOG_INFO, RTS_LOG_DEBUG } RtsLogLevel;

/* Why a collection was made. */
typedef enum {
    RtsGcAllocation, /* so much had been allocated */
    RtsGcRequest,    /* hs_perform_gc and its kin */
    RtsGcMemory,     /* the limit, or that of the operating system, was near */
    RtsGcExternal,   /* memory of the host's that objects keep (rts_externalMemory) */
    RtsGcIdle,       /* nothing had run for a while */
    RtsGcUnload,     /* a module is to be unloaded */
    RTS_GC_CAUSES
} RtsGcCause;
/* "allocation", "request" ...: static strings. */
CAPSTAN_API const char *rts_gcCauseName(RtsGcCause cause) CAPSTAN_NOSAFEPOINT;

/* What one collection did; times in nanoseconds. */
typedef struct {
    StgWord64 number;          /* of this collection since the start */
    StgWord64 stop_ns;         /* from asking everybody to stop until they had */
    StgWord64 pause_ns;        /* from asking until everybody might go on */
    StgWord64 live_bytes, copied_bytes, allocated_bytes;  /* allocated: since the collection before */
    StgWord64 heap_bytes;      /* held from the operating system afterwards */
    bool major;                /* everything was collected, not only what is young */
    unsigned collectors;       /* threads that took part */
    RtsGcCause cause;
    StgWord64 cpu_ns;          /* of the threads that took part */
    /* Balance of work: what the thread copied that copied most, and from 0 (one copied all) to copied_bytes (all copied the same). */
    StgWord64 max_copied_bytes, balanced_copied_bytes;
    StgWord64 large_bytes;     /* blocks of large and of pinned objects, afterwards */
    StgWord64 block_bytes;     /* blocks of other objects, afterwards */
} RtsCollection;

typedef enum {
    RtsOptsNone,         /* no options but the configuration's (default) */
    RtsOptsCommandLine,  /* also +RTS ... -RTS in argv */
    RtsOptsAll,          /* also the environment variable CAPSTANRTS, read before argv */
} RtsOptsEnabled;

/* Everything that can be set.  Start from RTS_CONFIG_INIT; fields are added at the end, size tells which are there.
 * Every hook has a context pointer that it gets as its first argument; NULL hooks mean the default.
 * Hooks may be called from any thread that calls in, at any time, several at once; they must not call in. */
typedef struct {
    size_t size;                      /* sizeof(RtsConfig) of the host's header */
    unsigned capabilities;            /* -N: 0 = as many as there are processors for this process */
    size_t nursery_bytes;             /* -A: allocation area of one capability; 0 = 4 MiB (less under a small limit), and up to three times as
                                         much beside much live data */
    size_t heap_limit_bytes;          /* -M: 0 = none.  At least 4 MiB, four nurseries, and some 150 KiB a capability */
    size_t foreign_stack_bytes;       /* how much of a stack of unknown bounds an in-call may use; 0 = 64 KiB */
    unsigned quantum_us;              /* how long a holder keeps its capability from waiters at least; 0 = 200 */
    unsigned debug_numa_nodes;        /* --debug-numa: pretend this many nodes; 0 = ask the machine */
    bool verify_heap;                 /* --verify-heap: check the whole heap around each collection */
    bool poison_from_space;           /* --poison: overwrite what a collection left behind */
    bool no_membarrier;               /* --no-membarrier: act as where the kernel refuses membarrier */
    RtsOptsEnabled rts_opts_enabled;
    const char *rts_opts;             /* further options, as on the command line: "-N2 -A4m" */

    /* One line for people.  Default: standard error, from RTS_LOG_WARNING up; where nobody reads that any more the line is lost, and no SIGPIPE comes.  Its thread is
     * not cancelled meanwhile, and must come back. */
    void (*logHook)(void *ctx, RtsLogLevel level, const char *line);
    void *logCtx;
    /* A call was wrong, or hs_init failed.  Default: the log hook.  May return. */
    void (*errorHook)(void *ctx, RtsStatus status, const char *message);
    void *errorCtx;
    /* rts_lock found no running runtime.  May return: rts_lock then gives a dead capability, on which every call is
     * a harmless no-op.  Default: the error hook. */
    void (*closedHook)(void *ctx, RtsStatus why);
    void *closedCtx;
    /* rts_checkSchedStatus found another status than Success.  May return: the results then read as zero.
     * Default, as in GHC: Killed, HeapExhausted, NoStatus, Refused: a message and exit(1); Interrupted: a message, rts_unlock and
     * the end of the calling thread. */
    void (*statusHook)(void *ctx, const char *site, Capability *cap, SchedulerStatus status, const char *text);
    void *statusCtx;
    /* The last hs_exit begins. */
    void (*onExitHook)(void *ctx);
    void *onExitCtx;
    /* A collection ended. */
    void (*gcDoneHook)(void *ctx, const RtsCollection *collection);
    void *gcDoneCtx;
    /* The heap limit, or the operating system's, was reached. */
    void (*outOfHeapHook)(void *ctx, size_t wanted_bytes, size_t limit_bytes);
    void *outOfHeapCtx;
    /* Managed code went below its stack's limit. */
    void (*stackOverflowHook)(void *ctx, size_t stack_bytes);
    void *stackOverflowCtx;
    /* Stopping the world has taken long_stop_us, and again after four times as long: text names the threads that hold capabilities, by the operating
     * system's numbers.  Called by the thread that stops the world, which goes on with that afterwards: must return, and what calls in
     * or collects gets RTS_IN_FINALIZER.  Default: the log hook, RTS_LOG_WARNING. */
    void (*longStopHook)(void *ctx, const char *text);
    void *longStopCtx;
    /* Text of an exception of a language's own, UTF-8 into buf (cap bytes with the final zero); returns false to leave
     * it to the default.  Holds a capability: may read objects, must not allocate or evaluate. */
    bool (*showExceptionHook)(void *ctx, HaskellObj exception, char *buf, size_t cap);
    void *showExceptionCtx;

    unsigned slice_us;                /* --slice: how long a thread runs while others wait for its capability; 0 = 20000 */
    size_t stack_bytes;               /* --stack: address space of one thread's stack; 0 = 256 KiB; at least 128 KiB */
    unsigned max_workers;             /* --workers: how many OS threads of the runtime's own at most; 0 = 10000 */
    unsigned spare_workers;           /* --spare-workers: how many of them stay without work; 0 = 6 */
    unsigned idle_collection_us;      /* --idle-gc: how long hardly anything must happen before a collection gives memory back, and looks for
                                         threads that are blocked for ever; 0 = 300000 */
    unsigned submit_queue;            /* --submit-queue: submissions without their result delivered or taken, at most; 0 = 4096 */
    int interrupt_signal;             /* breaks off interruptible calls; 0: none, they are safe calls */
    /* A thread ended by an exception that nobody caught (in-calls have their status instead).  Holds a capability; must not call in.
     * Default: a warning with its text, but none for ThreadKilled and BlockedIndefinitely. */
    void (*uncaughtHook)(void *ctx, StgWord64 threadId, const char *label, HaskellObj exception, const char *text);
    void *uncaughtCtx;

    RtsStatsFormat stats;             /* -s: as text, --stats-json: as JSON: hs_exit writes what getRTSStats counted */
    char stats_file[256];             /* -s<file>, --stats-json=<file>: where to, in place of what was there; empty: standard error */
    unsigned long_stop_us;            /* --long-stop: who keeps the world from being stopped so long is named (longStopHook); 0 = 1000000 */
} RtsConfig;

#define RTS_CONFIG_INIT { .size = sizeof(RtsConfig) }

/* Start the runtime, or count one more user of it.  config may be NULL: all defaults.  message (if not NULL, of the
 * given size) gets one sentence when the status is not RTS_OK: which setting or option, and what was expected.
 * Context: any thread, not inside an in-call.
 * Errors: RTS_BAD_OPTION, RTS_NO_MEMORY, RTS_INSIDE_INCALL; RTS_OTHER_SETTINGS: counted as a user all the same, so that
 * each rts_start that returned RTS_OK or this pairs with one hs_exit. */
CAPSTAN_API RtsStatus rts_start(const RtsConfig *config, char *message, size_t size) CAPSTAN_NOSAFEPOINT;

/* hs_init with a configuration, and with options of the command line.  See: GHC's functions of these names. */
CAPSTAN_API void hs_init_ghc(int *argc, char **argv[], RtsConfig config) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API void hs_init_with_rtsopts(int *argc, char **argv[]) CAPSTAN_NOSAFEPOINT;
/* The same as rts_start with argv as well. */
CAPSTAN_API RtsStatus rts_startArgs(const RtsConfig *config, int *argc, char **argv[], char *message, size_t size)
    CAPSTAN_NOSAFEPOINT;

#ifdef __cplusplus
}
#endif
#endif

/* rts/Closures.h: how values look.  For managed functions written in C, for languages, for people who debug.
 *
 * A value is one word (HaskellObj).  The low bits tell immediates from addresses:
 *     ...xxx1   an integer of 63 bits
 *     ...xx10   another immediate: bits 2-5 say which kind, the upper 58 bits carry it
 *     ...x000   the address of a closure, eight-byte aligned, never NULL
 * The closure's info table says its kind; each kind has one of the layouts below.  In a payload managed words come first. */
#ifndef RTS_CLOSURES_H
#define RTS_CLOSURES_H

#include "rts/Types.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CAPSTAN_LIKELY(x)   __builtin_expect(!!(x), 1)
#define CAPSTAN_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* ---- Immediates ------------------------------------------------------------------------------------------------ */

typedef enum { IMM_CHAR, IMM_BOOL, IMM_UNIT, IMM_WORLD, IMM_POISON, IMM_TAILCALL, IMM_SHUTDOWN } ImmediateKind;

#define CAPSTAN_IMMEDIATE(kind, bits) ((HaskellObj)(((StgWord)(bits) << 6) | ((StgWord)(kind) << 2) | 2u))
/* An integer that fits in 63 bits, as a constant expression: for static closures. */
#define CAPSTAN_SMALL_INT(n)  ((HaskellObj)(((StgWord)(n) << 1) | 1u))
#define CAPSTAN_FALSE  CAPSTAN_IMMEDIATE(IMM_BOOL, 0)
#define CAPSTAN_TRUE   CAPSTAN_IMMEDIATE(IMM_BOOL, 1)
#define CAPSTAN_UNIT   CAPSTAN_IMMEDIATE(IMM_UNIT, 0)
/* What an IO action is applied to; carries nothing. */
#define CAPSTAN_WORLD  CAPSTAN_IMMEDIATE(IMM_WORLD, 0)
/* What comes back when there was no memory, or no runtime: rts_get* read it as zero, evaluating it raises HeapOverflow. */
#define CAPSTAN_POISON CAPSTAN_IMMEDIATE(IMM_POISON, 0)
/* What a managed function returns after rts_tailCallN; seen by the apply loop only. */
#define CAPSTAN_TAILCALL CAPSTAN_IMMEDIATE(IMM_TAILCALL, 0)
/* The exception that ends an in-call when the runtime ends. */
#define CAPSTAN_SHUTDOWN CAPSTAN_IMMEDIATE(IMM_SHUTDOWN, 0)

#define CAPSTAN_SMALL_INT_MIN (INT64_MIN / 2)
#define CAPSTAN_SMALL_INT_MAX (INT64_MAX / 2)

static inline bool rts_isSmallInt(HaskellObj v) { return ((StgWord)v & 1u) != 0; }
static inline bool rts_isImmediate(HaskellObj v) { return ((StgWord)v & 3u) != 0; }
static inline StgInt rts_smallIntValue(HaskellObj v) { return (StgInt)(StgWord)v >> 1; }
static inline bool rts_isImmediateOf(HaskellObj v, ImmediateKind kind)
{
    return ((StgWord)v & 0x3fu) == (((StgWord)kind << 2) | 2u);
}
static inline StgWord rts_immediateBits(HaskellObj v) { return (StgWord)v >> 6; }

/* ---- Kinds and layouts ------------------------------------------------------------------------------------------ */

typedef enum {
    CLOSURE_CON,        /* [info][ptrs fields][nptrs raw words] */
    CLOSURE_FUN,        /* [info][ptrs free variables][nptrs raw words]; entry takes arity arguments */
    CLOSURE_PAP,        /* [info][function][count][arguments...] */
    CLOSURE_THUNK,      /* [info][state][ptrs free variables][nptrs raw words]; entry takes none */
    CLOSURE_AP,         /* [info][state][function][argument]; the thunk that rts_apply builds; more arguments nest */
    CLOSURE_IND,        /* [info][value] */
    CLOSURE_MUTVAR,     /* [info][value] */
    CLOSURE_ARRAY,      /* [info][length][elements...] */
    CLOSURE_BYTES,      /* [info][length in bytes][bytes, padded to words]; may be pinned */
    CLOSURE_EXTERNAL,   /* [info][length in bytes][address][ExternalBytes record of the runtime] */
    CLOSURE_INT64,      /* [info][the bits] : integers outside 63 bits */
    CLOSURE_WORD64,     /* [info][the bits] : words that do not fit a small integer */
    CLOSURE_DOUBLE,     /* [info][the bits] */
    CLOSURE_FLOAT,      /* [info][the bits] */
    CLOSURE_PTR,        /* [info][the address]; also function pointers and stable pointers */
    CLOSURE_MVAR,       /* [info][lock][value][first waiter][last waiter] */
    CLOSURE_TSO,        /* [info][record of the thread][its number and how it ended]; a ThreadId */
    CLOSURE_WEAK,       /* [info][record of the runtime]; a weak pointer: rts/Weak.h, as the next two */
    CLOSURE_STABLE_NAME,/* [info][number of the object] */
    CLOSURE_WEAK_TABLE, /* [info][record of the runtime] */
    CLOSURE_KINDS
} ClosureKind;

enum {
    INFO_STATIC = 1,    /* closures of this table are static objects, never in the heap */
    INFO_MADE = 2,      /* made by rts_newInfoTable */
    INFO_OLD = 4,       /* of variables and arrays that the collector has made old: stores into them are remembered */
};

/* What the first word of a closure points to.  Static by the macros of rts/Managed.h, or made by rts_newInfoTable.
 * Must not change, and must stay while a closure refers to it. */
struct StgInfoTable_ {
    StgWord8 kind;                   /* ClosureKind */
    StgWord8 flags;
    StgWord16 arity;                 /* FUN: arguments that entry takes after stack and self */
    StgWord16 ptrs;                  /* CON, FUN, THUNK: managed words in the payload */
    StgWord16 nptrs;                 /* and raw words behind them */
    StgWord32 tag;                   /* CON: which constructor of its type */
    StgFunPtr entry;                 /* FUN, THUNK: HaskellObj entry(Stack *, HaskellObj self, HaskellObj ...) */
    const char *name;
    const char *const *fieldNames;   /* CON: ptrs names, or NULL */
};

/* The layouts of thunks.  state: 0 not begun; a value when done; otherwise the mark of the evaluator (low bits 100). */
__extension__ typedef struct { const StgInfoTable *info; StgWord state; HaskellObj payload[]; } StgThunk;
typedef struct { const StgInfoTable *info; StgWord state; HaskellObj fun, arg; } StgAP;
__extension__ typedef struct { const StgInfoTable *info; HaskellObj fun; StgWord count; HaskellObj args[]; } StgPAP;
typedef struct { const StgInfoTable *info; HaskellObj value; } StgMutVar;
typedef struct { const StgInfoTable *info; HaskellObj value; } StgInd;
__extension__ typedef struct { const StgInfoTable *info; StgWord length; HaskellObj elems[]; } StgArray;
__extension__ typedef struct { const StgInfoTable *info; StgWord length; StgWord8 bytes[]; } StgBytes;
typedef struct { const StgInfoTable *info; StgWord length; void *address; void *record; } StgExternal;
typedef struct { const StgInfoTable *info; StgWord bits; } StgBoxed;
/* value: NULL when empty.  Waiting are takers and readers when it is empty, putters when it is full.  All under the lock. */
typedef struct { const StgInfoTable *info; StgWord lock; HaskellObj value; StgTSO *head, *tail; } StgMVar;
/* tso: NULL once the thread has ended; then ended says how (an RtsThreadStatus). */
typedef struct { const StgInfoTable *info; StgTSO *tso; StgWord64 id; StgWord ended; } StgThreadId;

typedef struct { const StgInfoTable *info; void *record; } StgWeak;
typedef struct { const StgInfoTable *info; StgWord number; } StgStableName;

/* Objects of so many words and more never move: they have blocks of their own. */
#define CAPSTAN_LARGE_WORDS 512

/* A static thunk has, behind what its kind says, the link by which the collector and exit find it once it was entered. */
typedef struct StgStaticThunk_ {
    const StgInfoTable *info;
    StgWord state;
    struct StgStaticThunk_ *link;
} StgStaticThunk;
/* A static MutVar (rts/Language.h) looks like one as far as the collector cares. */
typedef struct { const StgInfoTable *info; HaskellObj value; StgStaticThunk *link; HaskellObj initial; } StgStaticMutVar;

/* Info tables of the runtime's own kinds. */
CAPSTAN_API extern const StgInfoTable capstan_PAP_info, capstan_AP_info, capstan_IND_info, capstan_MUTVAR_info,
    capstan_ARRAY_info, capstan_BYTES_info, capstan_EXTERNAL_info, capstan_INT64_info, capstan_WORD64_info,
    capstan_DOUBLE_info, capstan_FLOAT_info, capstan_PTR_info, capstan_MVAR_info, capstan_TSO_info,
    capstan_WEAK_info, capstan_STABLE_NAME_info, capstan_WEAK_TABLE_info, capstan_STATICMUTVAR_info;

/* Data that other capabilities may have published is read with an acquire load where a header is followed, else relaxed.
 * TSan knows no data dependencies: there all are acquire. */
#if defined(__SANITIZE_THREAD__)
#define CAPSTAN_LOAD_ORDER __ATOMIC_ACQUIRE
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CAPSTAN_LOAD_ORDER __ATOMIC_ACQUIRE
#endif
#endif
#ifndef CAPSTAN_LOAD_ORDER
#define CAPSTAN_LOAD_ORDER __ATOMIC_RELAXED
#endif

/* The info table of a closure.  v must not be an immediate. */
static inline const StgInfoTable *rts_info(HaskellObj v)
{
    return __atomic_load_n(&v->info, CAPSTAN_LOAD_ORDER);
}
static inline bool rts_isThunk(HaskellObj v)
{
    if (rts_isImmediate(v)) return false;
    StgWord8 kind = rts_info(v)->kind;
    return kind == CLOSURE_AP || kind == CLOSURE_THUNK || kind == CLOSURE_IND;
}

#ifdef __cplusplus
}
#endif
#endif

/* rts/Types.h: the types that every part of the interface, and generated text, is written in. */
#ifndef RTS_TYPES_H
#define RTS_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Every function that the library exports carries this mark; nothing else is visible outside it. */
#define CAPSTAN_API __attribute__((visibility("default")))

/* At a safepoint objects may move, the thread may be preempted, and an exception may arrive.  Every public function says
 * which it is, for people and for the root checker (clang keeps the annotation in its syntax tree). */
#if defined(__clang__)
#define CAPSTAN_SAFEPOINT   __attribute__((annotate("capstan_safepoint")))
#define CAPSTAN_NOSAFEPOINT __attribute__((annotate("capstan_nosafepoint")))
#else
#define CAPSTAN_SAFEPOINT
#define CAPSTAN_NOSAFEPOINT
#endif

typedef int8_t    StgInt8;
typedef int16_t   StgInt16;
typedef int32_t   StgInt32;
typedef int64_t   StgInt64;
typedef uint8_t   StgWord8;
typedef uint16_t  StgWord16;
typedef uint32_t  StgWord32;
typedef uint64_t  StgWord64;
typedef intptr_t  StgInt;
typedef uintptr_t StgWord;
typedef uint32_t  StgChar;
typedef float     StgFloat;
typedef double    StgDouble;
typedef StgWord  *StgPtr;
typedef void     *StgStablePtr;
typedef void    (*StgFunPtr)(void);

typedef struct StgInfoTable_ StgInfoTable;
typedef struct StgClosure_ StgClosure;
typedef struct StgTSO_ StgTSO;
typedef struct Capability_ Capability;
typedef struct Stack_ Stack;
typedef struct TrapFrame_ TrapFrame;
typedef struct CapstanRoots_ CapstanRoots;

/* A managed value in one word.  Either an immediate (low bit 1: an integer of 63 bits; low bits 10: character, boolean,
 * unit and the runtime's own marks) or the address of a closure.  Never dereference it by hand: it may be an immediate. */
typedef StgClosure *HaskellObj;

/* A closure: its first word says what it is (rts/Closures.h), the rest depends on that.  (__extension__, here and below: pedantic C++ compilers
 * do not know arrays without a length.) */
__extension__ struct StgClosure_ {
    const StgInfoTable *info;
    HaskellObj payload[];
};

/* The most arguments that one managed function takes, the hidden one of IO functions included. */
#define CAPSTAN_MAX_ARITY 24

/* One link of a root chain: the collector updates the variables named by slots.  Made by CAPSTAN_ROOTS. */
struct CapstanRoots_ {
    CapstanRoots *prev;
    size_t count;
    HaskellObj *const *slots;
};

/* What raising an exception looks for: catch frames, update frames and the base of an in-call, linked through Stack.trap.
 * handler is the address to go on at, or a tag of the runtime's. */
struct TrapFrame_ {
    void *handler;
    TrapFrame *prev;
};

/* The machine stack that managed code runs on, its first argument everywhere.  The record never moves.
 * Ownership: the OS thread that runs on it; poll is written by others.
 * cap and tso may change at every safepoint: read them again after one. */
struct Stack_ {
    Capability *cap;      /* the capability that this stack runs on now */
    StgTSO *tso;          /* the thread that it runs for now */
    CapstanRoots *roots;  /* innermost link of the root chain */
    TrapFrame *trap;      /* innermost trap frame */
    uintptr_t limit;      /* managed code that finds the stack pointer below this raises StackOverflow */
    uint32_t poll;        /* [atomic] nonzero: something waits for the next safepoint */
    uint32_t mask;        /* masking state of asynchronous exceptions */
    /* The rest belongs to the runtime. */
    void *sp;             /* saved stack pointer while another stack runs */
    uintptr_t lo, hi;     /* bounds, as far as known */
    void *sanitizer;      /* what sanitizers keep of it */
    HaskellObj pendingFun;                     /* the call that rts_tailCallN left for the apply loop */
    size_t pendingCount;
    HaskellObj pendingArgs[CAPSTAN_MAX_ARITY];
};

/* The first words of a Capability, for the inline functions of these headers. */
typedef struct {
    StgWord *hp;     /* [holder] next free word of the nursery block */
    StgWord *hpLim;  /* [holder] its end */
    Stack *stack;    /* [holder] stack of the in-call or thread that holds the capability */
} CapstanRegs;

/* Called for each start of a generated stub file's export list; one static object a file. */
__extension__ struct ForeignExportsList {
    struct ForeignExportsList *next;  /* the runtime's: links the registered lists */
    int n_entries;
    StgPtr exports[];
};

/* Link an export list.  Called by constructors; needs no runtime, and for the program itself it allocates nothing.  In a shared object that is loaded while the
 * runtime runs, its closures get their stable pointers at once.  A shared object is kept loaded from then on, whatever its host closes: rts_unloadModule
 * (rts/Language.h).  Without memory for either: RTS_NO_MEMORY through the error hook.
 * See: registerForeignExports in GHC's ForeignExports.c. */
CAPSTAN_API void registerForeignExports(struct ForeignExportsList *exports) CAPSTAN_NOSAFEPOINT;

#ifdef __cplusplus
}
#endif
#endif

/* rts/Foreign.h: C functions as managed functions, and managed functions as C functions, by a type that is known at run time.
 *
 * A type is a string: the result's letter, then one for each argument.
 *
 *     letter   C                      managed
 *     v        void (result only)     CAPSTAN_UNIT
 *     f d      float, double          a float, a double
 *     L W S B  int64_t ... int8_t     an integer
 *     l w s b  uint64_t ... uint8_t   an integer
 *     p        any pointer            a pointer (Ptr, FunPtr, StablePtr)
 *
 * "LLd" is int64_t(int64_t, double).  A '.' stands before the first variadic argument: printf is "Wp." with a p, a W ... behind it; what follows is promoted as
 * C does it (an f is passed as a double).  The letters are those of GHC's adjustors.  Managed integers become C's by truncation, as in GHC; where C wants an
 * integer a character or boolean will do as well.  At most RTS_MAX_FOREIGN_ARGS arguments.
 *
 * Each distinct type string that is used takes some memory (a few hundred bytes) until the process ends.  doc/foreign.md is the guide. */
#ifndef RTS_FOREIGN_H
#define RTS_FOREIGN_H

#include "rts/Managed.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RTS_MAX_FOREIGN_ARGS 1000

/* ---- Imports ---------------------------------------------------------------------------------------------------------- */

typedef enum {
    RtsUnsafe = 0,         /* a plain call: C must neither block nor call in */
    RtsSafe = 1,           /* rts_safeCall: it may do both; objects may move meanwhile */
    RtsInterruptible = 2,  /* rts_interruptibleCall */
    RtsPure = 4,           /* or-ed to the others: the function is pure, and not an IO function.  Needs an argument */
} RtsCallSafety;

/* A managed function of the arguments of `type` that calls the C function fn, as an IO function unless RtsPure says otherwise.  It evaluates its
 * arguments, and raises an ErrorCall if one is of the wrong kind.  errno is, after an unsafe call and until the next safepoint, what C left; after the
 * others too, on the OS thread that the managed thread then runs on.
 * For p a byte array may be given: its address; in calls that are not unsafe one that may move (not pinned, not external) is the wrong kind.
 * Errors: CAPSTAN_POISON; through the error hook RTS_BAD_ARGUMENT for fn == NULL, a type that is wrong (the message says where and what was expected), an
 * unknown safety; without memory HeapExhausted, as in rts_mkInt. */
CAPSTAN_API HaskellObj rts_foreignImport(Capability *cap, StgFunPtr fn, const char *type, RtsCallSafety safety) CAPSTAN_NOSAFEPOINT;
/* The same for any function of that type: the managed function takes one argument more, in front, the FunPtr to call; NULL raises.
 * See: "dynamic" of the FFI chapter. */
CAPSTAN_API HaskellObj rts_foreignImportDynamic(Capability *cap, const char *type, RtsCallSafety safety) CAPSTAN_NOSAFEPOINT;
/* The same for the function that the program and its libraries know by that name.  Errors: also RTS_BAD_ARGUMENT for a name that is not found. */
CAPSTAN_API HaskellObj rts_foreignImportSymbol(Capability *cap, const char *symbol, const char *type, RtsCallSafety safety)
    CAPSTAN_NOSAFEPOINT;
/* The address itself ("&name").  library: a handle of dlopen, or NULL: the program and its libraries.  NULL, with RTS_BAD_ARGUMENT through the error hook:
 * there is none. */
CAPSTAN_API void *rts_foreignSymbol(void *library, const char *symbol) CAPSTAN_NOSAFEPOINT;

/* ---- Adjustors: C function pointers to managed functions ------------------------------------------------------------------ */

/* A C function of that type, at an address of its own, until it is freed.
 *
 * wptr == NULL: the function makes managed values of its arguments, runs (closure arguments...) as an IO action, where closure is what hptr stands for, and
 * turns the result back.  An evaluation that fails goes the way of rts_checkSchedStatus, and the result is zero if that returns; a result of the wrong kind is
 * reported as RTS_WRONG_KIND and zero.
 * Otherwise wptr is a C function (a stub, generated or by hand) that is called with hptr as its first argument, then the adjustor's own.  For createAdjustor it
 * has the parameters that GHC gives its stubs: on x86-64, if at least six of the arguments are not floats or doubles, a void * that means nothing follows after
 * the sixth of these; elsewhere there is none.  For rts_createAdjustor there never is: the form for stubs that are to be the same everywhere.
 *
 * The function may be called from any thread, whether the runtime knows it or not, but not from inside an unsafe call (RTS_HOLDS_CAPABILITY through the error
 * hook, result zero), and not from a signal handler that interrupted something.  After hs_exit, and in a forked child, it answers zero (RTS_CLOSED, or
 * RTS_NOT_STARTED, through the closed hook), also once there is a new runtime, until it is freed.
 *
 * Context: any thread, holding a capability or not; the runtime is started.
 * Owns: hptr belongs to the adjustor, and is freed with it (not when NULL is returned).
 * Errors: NULL, and through the error hook RTS_BAD_ARGUMENT (the type), RTS_NOT_STARTED, RTS_NO_MEMORY (memory, mappings, or executable memory refused by a
 * policy; the message says which).  See: GHC's function of this name. */
CAPSTAN_API void *createAdjustor(StgStablePtr hptr, StgFunPtr wptr, char *typeString) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API void *rts_createAdjustor(StgStablePtr hptr, StgFunPtr wptr, const char *type) CAPSTAN_NOSAFEPOINT;

/* Free it; calls that have begun, this one's caller among them, end as if nothing had happened, and the last of them frees its hptr.
 * Context: any thread, also after hs_exit, also in finalizers.  NULL: nothing.
 * Errors: RTS_BAD_ARGUMENT: what is no adjustor, or freed already.  A later call of the pointer is a mistake, which is reported (RTS_BAD_ARGUMENT, result
 * zero) until the memory serves a new adjustor; debug builds wait long with that. */
CAPSTAN_API void freeHaskellFunctionPtr(void *ptr) CAPSTAN_NOSAFEPOINT;

/* For managed code: the FunPtr of a function.  Raises an ErrorCall where createAdjustor gives NULL. */
CAPSTAN_API HaskellObj rts_newAdjustor(Stack *stack, HaskellObj function, const char *type) CAPSTAN_SAFEPOINT;

/* Adjustors that are in use now, those among them that were freed during a call, and what all of them take. */
typedef struct {
    size_t live, leaving;
    size_t code_bytes, data_bytes;
} RtsAdjustorCounts;
CAPSTAN_API void rts_getAdjustorCounts(RtsAdjustorCounts *counts) CAPSTAN_NOSAFEPOINT;

/* ---- The same as managed functions, for languages: IO functions ----------------------------------------------------------- */
/* capstan_createAdjustor: type (a byte array), function -> FunPtr.  capstan_freeFunPtr: FunPtr -> unit.
 * capstan_foreignImport: FunPtr, type, safety (the number) -> function.  capstan_foreignSymbol: name (a byte array) -> FunPtr. */
CAPSTAN_API extern StgClosure capstan_createAdjustor_closure, capstan_freeFunPtr_closure, capstan_foreignImport_closure,
    capstan_foreignSymbol_closure;

#ifdef __cplusplus
}
#endif
#endif

/* RtsAPI.h: calling managed code from C.
 *
 *     Capability *cap = rts_lock();                          the right to run managed code
 *     rts_evalIO(&cap, rts_apply(cap, f, rts_mkInt(cap, 42)), &result);
 *     rts_checkSchedStatus("where", cap);                    or look at rts_getSchedStatus yourself
 *     n = rts_getInt(result);
 *     rts_unlock(cap);
 *
 * What holds for every function here unless it says otherwise:
 *   - "cap" must be the capability that the calling thread got from rts_lock or from the last evaluation.  If it is not,
 *     RtsConfig.errorHook hears RTS_NOT_HOLDER and the call does nothing (functions that give a value give CAPSTAN_POISON).
 *     Making and writing values is checked in debug builds only.
 *   - On a dead capability (what rts_lock gives when it must not give a real one) every call is a harmless no-op.
 *   - Nothing here unwinds the caller.  Functions that allocate and find no memory return CAPSTAN_POISON; the status of the
 *     in-call is then HeapExhausted.
 *   - Values that C holds are valid until the next safepoint, except those named by CAPSTAN_ROOTS (rts/Managed.h) and those
 *     behind a stable pointer. */
#ifndef RTSAPI_H
#define RTSAPI_H

#include "HsFFI.h"
#include "rts/Closures.h"
#include "rts/Config.h"
#include "rts/Types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- In and out ------------------------------------------------------------------------------------------------- */

/* Begin an in-call: get a capability, waiting for one if none is free.  Never NULL.
 * Context: any thread, also inside a safe call; not while it holds a capability.  Not async-signal-safe (the first in-call of a thread, and one within
 * another, allocate): a signal handler may call in only where its signal was raised by the thread itself, or cannot have interrupted malloc or this runtime.
 * Errors: RTS_HOLDS_CAPABILITY, RTS_IN_FINALIZER, RTS_NO_MEMORY through the error hook; RTS_NOT_STARTED and RTS_CLOSED through the
 * closed hook; if the hook returns, a dead capability.  See: rts_lock in GHC. */
CAPSTAN_API Capability *rts_lock(void) CAPSTAN_NOSAFEPOINT;

/* The same without hooks and without waiting.  *cap is a real capability if and only if the status is RTS_OK. */
CAPSTAN_API RtsStatus rts_tryLock(Capability **cap) CAPSTAN_NOSAFEPOINT;

/* End the in-call that holds cap.  Errors: RTS_NOT_HOLDER; RTS_OUT_OF_ORDER from an unsafe call of its managed code. */
CAPSTAN_API void rts_unlock(Capability *cap) CAPSTAN_NOSAFEPOINT;

/* Whether cap is a dead one, and why it was given. */
CAPSTAN_API bool rts_isDead(Capability *cap) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API RtsStatus rts_getRefusal(Capability *cap) CAPSTAN_NOSAFEPOINT;

/* Prefer capability n (modulo their number) for the calling thread's in-calls; with affinity, also bind the OS thread to
 * that capability's processors.  n < 0 takes the preference back.  Context: any thread, while the runtime runs.
 * Errors: RTS_NOT_STARTED, RTS_NO_MEMORY.  See: GHC's function of this name. */
CAPSTAN_API void rts_setInCallCapability(int n, int affinity) CAPSTAN_NOSAFEPOINT;

CAPSTAN_API unsigned getNumCapabilities(void) CAPSTAN_NOSAFEPOINT;

/* Tell the bounds of the stack that this thread runs on now, for hosts that switch stacks under their threads: in-calls
 * on it may then use it down to lo plus the headroom.  Without it an in-call on an unknown stack may use
 * RtsConfig.foreign_stack_bytes.  Forgotten when an in-call finds itself on another stack. */
CAPSTAN_API void rts_setStackBounds(void *lo, void *hi) CAPSTAN_NOSAFEPOINT;

/* ---- Evaluation ------------------------------------------------------------------------------------------------- */
/* Each takes the capability in *cap and leaves the one that is held afterwards there: always use that.  The status is
 * read by rts_getSchedStatus; unless it is Success, *ret is CAPSTAN_POISON.  ret may be NULL.
 * Safepoint: yes.  Blocks: yes. */

/* Evaluate p to a value that is not a thunk. */
CAPSTAN_API void rts_eval(Capability **cap, HaskellObj p, HaskellObj *ret) CAPSTAN_SAFEPOINT;
/* The same with a stack size, which has no meaning here: in-calls run on the caller's stack. */
CAPSTAN_API void rts_eval_(Capability **cap, HaskellObj p, unsigned stack_size, HaskellObj *ret) CAPSTAN_SAFEPOINT;
/* Run the IO action p and evaluate its result. */
CAPSTAN_API void rts_evalIO(Capability **cap, HaskellObj p, HaskellObj *ret) CAPSTAN_SAFEPOINT;
/* Run the IO action p; its result may be a thunk. */
CAPSTAN_API void rts_evalLazyIO(Capability **cap, HaskellObj p, HaskellObj *ret) CAPSTAN_SAFEPOINT;
CAPSTAN_API void rts_evalLazyIO_(Capability **cap, HaskellObj p, unsigned stack_size, HaskellObj *ret) CAPSTAN_SAFEPOINT;
/* Run the IO action behind a stable pointer, asynchronous exceptions masked (interruptibly); the result gets a stable
 * pointer of its own, which the caller owns.  *ret is NULL unless the status is Success. */
CAPSTAN_API void rts_evalStableIO(Capability **cap, HsStablePtr s, HsStablePtr *ret) CAPSTAN_SAFEPOINT;
CAPSTAN_API void rts_evalStableIOMain(Capability **cap, HsStablePtr s, HsStablePtr *ret) CAPSTAN_SAFEPOINT;
/* rts_evalIO for generated code.  See: rts_inCall in GHC. */
CAPSTAN_API void rts_inCall(Capability **cap, HaskellObj p, HaskellObj *ret) CAPSTAN_SAFEPOINT;

/* A safepoint for C that runs several evaluations in one in-call, or computes long between them. */
CAPSTAN_API void rts_pollSlow(Capability **cap) CAPSTAN_SAFEPOINT;
static inline void rts_pollCap(Capability **cap)
{
    Stack *stack = ((CapstanRegs *)*cap)->stack;
    if (CAPSTAN_UNLIKELY(stack == NULL || __atomic_load_n(&stack->poll, __ATOMIC_RELAXED) != 0)) rts_pollSlow(cap);
}

/* Pass the status of the last evaluation of this in-call to RtsConfig.statusHook unless it is Success. */
CAPSTAN_API void rts_checkSchedStatus(char *site, Capability *cap) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API SchedulerStatus rts_getSchedStatus(Capability *cap) CAPSTAN_NOSAFEPOINT;
/* The exception of the last evaluation; CAPSTAN_POISON if there was none. */
CAPSTAN_API HaskellObj rts_getException(Capability *cap) CAPSTAN_NOSAFEPOINT;
/* The text of an exception into buf, always ended by a zero; returns the length that the whole text has. */
CAPSTAN_API size_t rts_showException(Capability *cap, HaskellObj exception, char *buf, size_t size) CAPSTAN_NOSAFEPOINT;

/* IO actions for rts_evalIO: (runIO io) runs io; (runNonIO x) evaluates x.  Arrays, because stubs cast them. */
CAPSTAN_API extern StgWord base_GHCziTopHandler_runIO_closure[];
CAPSTAN_API extern StgWord base_GHCziTopHandler_runNonIO_closure[];
#define runIO_closure    base_GHCziTopHandler_runIO_closure
#define runNonIO_closure base_GHCziTopHandler_runNonIO_closure

/* ---- Making values ---------------------------------------------------------------------------------------------- */
/* They nest freely: allocation never moves anything. */

/* The lazy application of f to arg. */
CAPSTAN_API HaskellObj rts_apply(Capability *cap, HaskellObj f, HaskellObj arg) CAPSTAN_NOSAFEPOINT;

CAPSTAN_API HaskellObj rts_mkChar(Capability *cap, HsChar c) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API HaskellObj rts_mkInt(Capability *cap, HsInt i) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API HaskellObj rts_mkInt8(Capability *cap, HsInt8 i) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API HaskellObj rts_mkInt16(Capability *cap, HsInt16 i) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API HaskellObj rts_mkInt32(Capability *cap, HsInt32 i) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API HaskellObj rts_mkInt64(Capability *cap, HsInt64 i) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API HaskellObj rts_mkWord(Capability *cap, HsWord w) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API HaskellObj rts_mkWord8(Capability *cap, HsWord8 w) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API HaskellObj rts_mkWord16(Capability *cap, HsWord16 w) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API HaskellObj rts_mkWord32(Capability *cap, HsWord32 w) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API HaskellObj rts_mkWord64(Capability *cap, HsWord64 w) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API HaskellObj rts_mkFloat(Capability *cap, HsFloat f) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API HaskellObj rts_mkDouble(Capability *cap, HsDouble f) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API HaskellObj rts_mkBool(Capability *cap, HsBool b) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API HaskellObj rts_mkPtr(Capability *cap, HsPtr a) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API HaskellObj rts_mkFunPtr(Capability *cap, HsFunPtr a) CAPSTAN_NOSAFEPOINT;
/* Any bit pattern may pass through: the pointer is not looked at. */
CAPSTAN_API HaskellObj rts_mkStablePtr(Capability *cap, HsStablePtr s) CAPSTAN_NOSAFEPOINT;
/* A byte array with the bytes of the string, without its final zero. */
CAPSTAN_API HaskellObj rts_mkString(Capability *cap, const char *s) CAPSTAN_NOSAFEPOINT;

/* A byte array with a copy of the bytes; bytes may be NULL: zeros. */
CAPSTAN_API HaskellObj rts_mkBytes(Capability *cap, const void *bytes, size_t length) CAPSTAN_NOSAFEPOINT;
/* The same at an address (16-byte aligned) that never changes while the object lives. */
CAPSTAN_API HaskellObj rts_mkBytesPinned(Capability *cap, const void *bytes, size_t length) CAPSTAN_NOSAFEPOINT;
/* A byte array over memory of the host.  Owns: the runtime calls release(ctx, bytes) once, when the object is found
 * dead or when the runtime ends, on a thread that must not call in then (RTS_IN_FINALIZER); at once if the answer is
 * CAPSTAN_POISON.  release may be NULL. */
CAPSTAN_API HaskellObj rts_mkBytesExternal(Capability *cap, void *bytes, size_t length,
                                           void (*release)(void *ctx, void *bytes), void *ctx) CAPSTAN_NOSAFEPOINT;
/* An array of length elements, all initial. */
CAPSTAN_API HaskellObj rts_mkArray(Capability *cap, size_t length, HaskellObj initial) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API HaskellObj rts_mkMutVar(Capability *cap, HaskellObj initial) CAPSTAN_NOSAFEPOINT;
/* A constructor with the info->ptrs fields given (and info->nptrs raw words behind them, if any). */
CAPSTAN_API HaskellObj rts_mkCon(Capability *cap, const StgInfoTable *info, const HaskellObj *fields) CAPSTAN_NOSAFEPOINT;
/* A function closure, or a thunk, with its free variables. */
CAPSTAN_API HaskellObj rts_mkClosure(Capability *cap, const StgInfoTable *info, const HaskellObj *free) CAPSTAN_NOSAFEPOINT;
/* An info table made at run time: a copy of *model, names included; freed when the runtime ends.  NULL: no memory, or
 * a model that makes no sense.  Context: the runtime is started. */
CAPSTAN_API const StgInfoTable *rts_newInfoTable(const StgInfoTable *model) CAPSTAN_NOSAFEPOINT;

/* ---- Reading values --------------------------------------------------------------------------------------------- */
/* The object must be evaluated.  CAPSTAN_POISON reads as zero; an object of another kind too, after RTS_WRONG_KIND. */

CAPSTAN_API HsChar rts_getChar(HaskellObj p) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API HsInt rts_getInt(HaskellObj p) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API HsInt8 rts_getInt8(HaskellObj p) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API HsInt16 rts_getInt16(HaskellObj p) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API HsInt32 rts_getInt32(HaskellObj p) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API HsInt64 rts_getInt64(HaskellObj p) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API HsWord rts_getWord(HaskellObj p) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API HsWord8 rts_getWord8(HaskellObj p) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API HsWord16 rts_getWord16(HaskellObj p) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API HsWord32 rts_getWord32(HaskellObj p) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API HsWord64 rts_getWord64(HaskellObj p) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API HsFloat rts_getFloat(HaskellObj p) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API HsDouble rts_getDouble(HaskellObj p) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API HsBool rts_getBool(HaskellObj p) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API HsPtr rts_getPtr(HaskellObj p) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API HsFunPtr rts_getFunPtr(HaskellObj p) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API HsStablePtr rts_getStablePtr(HaskellObj p) CAPSTAN_NOSAFEPOINT;
/* A copy of a byte array with a final zero.  Owns: the caller, free().  NULL: no memory, or not a byte array. */
CAPSTAN_API char *rts_getString(HaskellObj p) CAPSTAN_NOSAFEPOINT;

/* The address and (if length is not NULL) the length of a byte array.  Valid until the next safepoint, for pinned and
 * external ones while the object lives.  NULL with RTS_WRONG_KIND for anything else. */
CAPSTAN_API void *rts_bytes(HaskellObj p, size_t *length) CAPSTAN_NOSAFEPOINT;
/* Copy up to size bytes from offset on; returns how many were copied. */
CAPSTAN_API size_t rts_copyBytes(HaskellObj p, size_t offset, void *to, size_t size) CAPSTAN_NOSAFEPOINT;

CAPSTAN_API size_t rts_arrayLength(HaskellObj array) CAPSTAN_NOSAFEPOINT;
/* Errors: an index out of range is RTS_BAD_ARGUMENT and reads as CAPSTAN_POISON, writes nothing. */
CAPSTAN_API HaskellObj rts_getElem(HaskellObj array, size_t i) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API void rts_setElem(Capability *cap, HaskellObj array, size_t i, HaskellObj v) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API HaskellObj rts_readMutVar(HaskellObj var) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API void rts_writeMutVar(Capability *cap, HaskellObj var, HaskellObj v) CAPSTAN_NOSAFEPOINT;
/* Put desired in place of expected, compared as words: equal small integers are equal, equal boxed numbers need not be.
 * Sequentially consistent.  After a collection by several threads a constructor may exist twice (doc/gc.md): then this may fail though nobody
 * wrote to var, as on a machine whose compare-and-swap is weak: read it again, and try again. */
CAPSTAN_API bool rts_casMutVar(Capability *cap, HaskellObj var, HaskellObj expected, HaskellObj desired)
    CAPSTAN_NOSAFEPOINT;
/* A field of a constructor, by its place. */
CAPSTAN_API HaskellObj rts_getField(HaskellObj con, size_t i) CAPSTAN_NOSAFEPOINT;
/* Which constructor; -1 with RTS_WRONG_KIND if it is none. */
CAPSTAN_API int rts_conTag(HaskellObj con) CAPSTAN_NOSAFEPOINT;

/* ---- What C keeps ----------------------------------------------------------------------------------------------- */

/* A stable pointer keeps its object alive and findable; free it with freeStablePtr or hs_free_stable_ptr.
 * Context: the thread holds a capability.  NULL: no memory.
 * deRefStablePtr of one that is not in use: in debug builds RTS_BAD_STABLE_PTR and CAPSTAN_POISON. */
CAPSTAN_API StgStablePtr getStablePtr(StgPtr p) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API StgPtr deRefStablePtr(StgStablePtr sp) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API void freeStablePtr(StgStablePtr sp) CAPSTAN_NOSAFEPOINT;

/* ---- Looking at the runtime ------------------------------------------------------------------------------------- */

/* Counts since the start; any thread, any time; zeros when there is no runtime. */
typedef struct {
    StgWord64 collections, collection_ns, max_pause_ns;
    StgWord64 live_bytes, heap_bytes, peak_heap_bytes, allocated_bytes;
    StgWord64 tasks, stable_ptrs;
    unsigned capabilities, nodes;
} RtsCounts;
CAPSTAN_API void rts_getCounts(RtsCounts *counts) CAPSTAN_NOSAFEPOINT;

/* Write what every capability, task and in-call is doing to put(ctx, line), a line at a time.  Takes no lock that a hung
 * program could hold for ever, so that a watchdog may call it; what it shows may be torn. */
CAPSTAN_API void rts_dump(void (*put)(void *ctx, const char *line), void *ctx) CAPSTAN_NOSAFEPOINT;

#ifdef __cplusplus
}
#endif
#endif

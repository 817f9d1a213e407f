/* rts/Language.h: what an implementation of a language tells the runtime about itself: roots of its own, memory of its own, what is
 * unloaded. */
#ifndef RTS_LANGUAGE_H
#define RTS_LANGUAGE_H

#include "rts/Managed.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Roots of a thread ------------------------------------------------------------------------------------------------ */
/* What managed values a thread keeps outside the heap and outside CAPSTAN_ROOTS: an interpreter's stack, its registers.  The record belongs to the
 * language, and stays where it is from rts_addScanner until rts_removeScanner, or until ended is called. */

typedef struct RtsVisitor_ RtsVisitor;
typedef struct RtsRootScanner_ RtsRootScanner;
struct RtsRootScanner_ {
    /* Show every slot to the collector (rts_visitRoots), which changes those whose object moves.  minor: slots that hold nothing young may be left out; which
     * are, rts_isYoung tells.  A minor collection that finds nothing young among a thread's roots does not come back to a thread that has not run since.
     * Context: a collecting thread, the world stopped: may read and write this record and its slots; no allocation, no locks, no objects looked into. */
    void (*scan)(RtsRootScanner *self, RtsVisitor *visitor, bool minor);
    /* The thread has ended (returned, was killed, or the runtime ended): the record is the language's again.  NULL: it need not know.  Must not call in, nor
     * allocate from the heap. */
    void (*ended)(RtsRootScanner *self);
    RtsRootScanner *next;  /* the runtime's */
};

/* Slots that may hold NULL, and are left alone then. */
CAPSTAN_API void rts_visitRoots(RtsVisitor *visitor, HaskellObj *slots, size_t count) CAPSTAN_NOSAFEPOINT;
/* Is it an object that minor collections look at?  Context: scan, or managed code. */
CAPSTAN_API bool rts_isYoung(HaskellObj v) CAPSTAN_NOSAFEPOINT;

/* Let the calling thread have it.  false: nothing was done: there is no memory (HeapOverflow is due), it has no scan function, or the thread has it already
 * (RTS_BAD_ARGUMENT to the error hook).  A record belongs to one thread at a time.  remove: false: it is not there.  Between rts_lock and
 * rts_unlock the stack is that of the in-call: rts_stackOf. */
CAPSTAN_API bool rts_addScanner(Stack *stack, RtsRootScanner *scanner) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API bool rts_removeScanner(Stack *stack, RtsRootScanner *scanner) CAPSTAN_NOSAFEPOINT;

/* A stack of values that grows upwards, of which minor collections scan only what has changed.
 *
 * base <= low <= top.  The slots from base to top - 1 are roots.  The language moves top as it pushes and pops; at each safepoint it is exact.  low is the
 * low-water mark: no slot below it was written to since the last collection.  Whoever pops to below low, or writes to a slot below it, lowers it
 * (rts_lowerStack); a collection raises it to top.  The memory belongs to the language, which may move it (at no safepoint, setting base, top and low).
 * See: Cheng, Harper, Lee, "Generational stack collection and profile-driven pretenuring" (1998). */
typedef struct {
    RtsRootScanner scanner;
    HaskellObj *base, *top, *low;
    size_t young;          /* the runtime's: so many slots from base on held nothing young after the last collection */
} RtsVirtualStack;
/* For a new one, without slots, over memory that begins at base. */
CAPSTAN_API void rts_initVirtualStack(RtsVirtualStack *stack, HaskellObj *base, void (*ended)(RtsRootScanner *self)) CAPSTAN_NOSAFEPOINT;
/* The slot is about to be written, or what lies from it on to be popped. */
static inline void rts_lowerStack(RtsVirtualStack *stack, HaskellObj *slot)
{
    if (slot < stack->low) stack->low = slot;
}
static inline void rts_pushSlot(RtsVirtualStack *stack, HaskellObj v) { *stack->top++ = v; }
static inline HaskellObj rts_popSlot(RtsVirtualStack *stack)
{
    rts_lowerStack(stack, --stack->top);
    return *stack->top;
}

/* The stack of the in-call that holds cap; NULL on a dead capability. */
static inline Stack *rts_stackOf(Capability *cap) { return ((CapstanRegs *)cap)->stack; }

/* A word of the thread's for the language: any value, a root.  CAPSTAN_UNIT until it is set.  A thread that is forked (rts_fork and its relatives,
 * rts_runInBoundThread, and createThread and its relatives from an in-call's thread) begins with its maker's; an in-call begins with CAPSTAN_UNIT.
 * set: false: no memory (HeapOverflow is due), nothing was done. */
CAPSTAN_API HaskellObj rts_getThreadWord(Stack *stack) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API bool rts_setThreadWord(Stack *stack, HaskellObj v) CAPSTAN_NOSAFEPOINT;

/* ---- Memory outside the heap ------------------------------------------------------------------------------------------ */

/* Objects keep so many bytes more (fewer, if negative) of memory that is not the heap's: C data behind pointers, with a finalizer that gives it back.
 * Counted towards the pace of collections and the heap's limit (-M): who adds a lot gets a collection at the next safepoint, and HeapOverflow if that,
 * and the C finalizers that are due behind it, leave too much.
 * cap may be NULL: then it only counts; any thread, also in a finalizer.  A count that would go below zero, or above PTRDIFF_MAX, stays there. */
CAPSTAN_API void rts_externalMemory(Capability *cap, ptrdiff_t bytes) CAPSTAN_NOSAFEPOINT;
/* Bytes counted now. */
CAPSTAN_API size_t rts_getExternalMemory(void) CAPSTAN_NOSAFEPOINT;

/* rts_mkBytesExternal whose length is counted so until the object's release is called. */
CAPSTAN_API HaskellObj rts_mkBytesExternalCounted(Capability *cap, void *bytes, size_t length, void (*release)(void *ctx, void *bytes),
                                                  void *ctx) CAPSTAN_NOSAFEPOINT;

/* ---- Static variables, unloading --------------------------------------------------------------------------------------- */

/* A mutable variable in static memory, vname_closure, for rts_readMutVar, rts_writeMutVar and rts_casMutVar.  initial: a static closure, or an immediate
 * constant.
 * It is a root from the first time that an object is written into it, until hs_exit (then it holds initial again) or rts_forgetStatics. */
#define CAPSTAN_STATIC_MUTVAR(vname, initial) CAPSTAN_STATIC_MUTVAR_(vname, initial)
#define CAPSTAN_STATIC_MUTVAR_(vname, initial) \
    StgClosure vname##_closure = { &capstan_STATICMUTVAR_info, { (initial), NULL, (initial) } } /* a StgStaticMutVar */

/* A module (a shared object, made code) whose static closures, info tables and code lie between lo and hi is about to be unloaded.  Static thunks and
 * variables there are as if never used, and its export lists are unlinked: both for good, whatever the answer.  Then the heap is collected and searched.
 * RTS_OK: nothing refers to the range any more.  RTS_BUSY: something does, and the module must stay: an object or a static closure that can be reached, a
 * stable pointer, a finalizer or release function, a scanner, a function pointer into it (rts_mkFunPtr, a foreign import, an adjustor's stub), an info table of rts_newInfoTable that is in use (those that are not are freed).  The error
 * hook hears what was found first.  Call again when it may be gone.  With RTS_OK the runtime's own handle to a shared object there is closed: dlclose of the host's
 * then unloads it.  (For shared objects rts_unloadModule is simpler, and also sees threads that are inside of it.)
 * Context: any thread that holds no capability; nobody runs code of the module, or calls rts_forgetStatics for it, meanwhile.
 * Blocks: for one or two major collections.  Errors: RTS_HOLDS_CAPABILITY, RTS_NO_MEMORY, RTS_BAD_ARGUMENT (lo > hi).  RTS_OK without a runtime. */
CAPSTAN_API RtsStatus rts_forgetStatics(const void *lo, const void *hi) CAPSTAN_SAFEPOINT;

/* The host is done with a shared object that it loaded with dlopen: in place of dlclose(handle).  It is closed after the next full collection (hs_perform_gc,
 * an idle one, or any other that copies everything; hs_exit) that finds nothing which refers to it, as for rts_forgetStatics, and no thread inside
 * of its code; its static variables hold their initial values again then.  Each later one tries again; RTS_LOG_DEBUG says what was found.  Without a runtime it is closed at once.
 * Each handle is given once; one that is still open elsewhere keeps the object loaded, as the loader counts them.
 * An object that registered exports is kept loaded by the runtime, whatever the host closes: dlclose(handle) leaves it so for good.
 * Context: any; no call of a C function of the object is in progress or begins later, but through another handle.  Destructors may run on any thread that
 * collects, or on one of the runtime's.
 * Owns: takes the handle.  Errors: RTS_BAD_ARGUMENT (the program itself), RTS_NO_MEMORY: the handle was not taken.  See: unloadNativeObj of GHC. */
CAPSTAN_API RtsStatus rts_unloadModule(void *handle);

#ifdef __cplusplus
}
#endif
#endif

/* Calls that come in through adjustors, and making and freeing them. */
#include "adjustor.h"

#include "adjustor_pool.h"
#include "base/report.h"
#include "capability.h"
#include "exception.h"
#include "incall.h"
#include "stable_ptr.h"

#include <stdlib.h>

/* ---- Calls ---- */

/* A pointer that must not be called (any more). */
__attribute__((noinline)) static void refuseCall(unsigned status)
{
    if (status == ADJUSTOR_ENDED)
        hostConfig.closedHook(hostConfig.closedCtx, numCapabilities == 0 ? RTS_NOT_STARTED : RTS_CLOSED);
    else
        reportError(RTS_BAD_ARGUMENT, "a C function pointer to a managed function was called after it was freed");
}

/* Of the type that the caller expects; of a pointer that was freed that may be another's by now. */
static void setZero(ArchFrame *frame, const Signature *s)
{
    frame->integerResult = 0;
    frame->floatResult = s->result == 'f' ? archFloatWord(0) : 0;
}

static inline uint64_t argumentOf(const ArchFrame *frame, const Signature *s, size_t i)
{
    return ((const uint64_t *)frame)[s->words[i]];
}

/* The result as C is to have it; zero if there is none. */
static uint64_t wordOfResult(const Signature *s, HaskellObj value)
{
    uint64_t word;
    if (CAPSTAN_LIKELY(wordOfValue(s->result, value, false, &word))) return word;
    if (value != CAPSTAN_POISON)
        reportError(RTS_WRONG_KIND, "the result of a managed function called from C: expected %s, found %s", nameOfType(s->result),
                    nameOfValue(value));
    return s->result == 'f' ? archFloatWord(0) : 0;
}

/* How a call says that it uses its record. */
typedef struct {
    Adjustor *a;
    Task *marked;
    bool counted;
} Use;

static inline Use beginUse(Adjustor *a)
{
    Task *task = myTask, *marked = enterAdjustor(a, task);
    return (Use){ a, marked, marked == NULL };
}

/* The Task may have been freed meanwhile (hs_thread_done), and its record may be another thread's. */
static inline void endUse(const Use *use) { leaveAdjustor(use->a, use->marked == getMyTask() ? use->marked : NULL, use->counted); }

/* The closure, when the record need not be looked at any more; NULL: there is none, which was said. */
static inline HaskellObj closureOf(const Use *use)
{
    unsigned status = statusOfAdjustor(use->a);
    void *hptr = atomic_load_explicit(&use->a->hptr, memory_order_relaxed);
    HaskellObj closure = CAPSTAN_UNLIKELY(status == ADJUSTOR_ENDED || hptr == NULL) ? NULL : (HaskellObj)deRefStablePtr(hptr);
    endUse(use);
    if (CAPSTAN_UNLIKELY(closure == NULL)) refuseCall(ADJUSTOR_ENDED); /* the runtime has begun anew since the call came in */
    return closure;
}

/* (closure arguments...), evaluated. */
static void evaluateCall(Capability *cap, const Signature *s, HaskellObj call, ArchFrame *frame)
{
    HaskellObj value;
    for (size_t i = 0; i < s->count; i++) call = rts_apply(cap, call, valueOf(cap, s->types[i], argumentOf(frame, s, i)));
    rts_evalIO(&cap, call, &value);
    rts_checkSchedStatus("adjustor", cap);
    setFrameResult(frame, s->result, wordOfResult(s, value));
    rts_unlock(cap);
}

/* Without a stub. */
static inline void callClosure(const Use *use, const Signature *s, ArchFrame *frame)
{
    Capability *cap = rts_lock();
    if (CAPSTAN_UNLIKELY(cap->dead != RTS_OK)) { /* the hooks know */
        endUse(use);
        setZero(frame, s);
        return;
    }
    HaskellObj closure = closureOf(use);
    if (CAPSTAN_LIKELY(closure != NULL)) {
        evaluateCall(cap, s, closure, frame);
    } else {
        rts_unlock(cap);
        setZero(frame, s);
    }
}

/* The stub is called with hptr in front, and something between where it has GHC's parameters; words are passed on as they are. */
__attribute__((noinline)) static void callStub(const Signature *s, StgFunPtr wptr, void *hptr, ArchFrame *frame)
{
    const Signature *stub = s->stub;
    size_t words = ARCH_FRAME_WORDS + stub->layout.stackWords;
    uint64_t room[words];
    ArchFrame *call = (ArchFrame *)(void *)room;
    if (s->dummy != 0) room[s->dummy] = 0;
    room[stub->words[0]] = (uint64_t)(uintptr_t)hptr;
    for (size_t i = 0; i < s->count; i++) room[s->to[i]] = argumentOf(frame, s, i);
    call->floatsUsed = stub->layout.floats;
    call->stackWords = stub->layout.stackWords;
    archCall(wptr, call);
    setFrameResult(frame, s->result, resultOfFrame(s->result, call)); /* as it is */
}

static void handleCall(ArchAdjustor *record, ArchFrame *frame)
{
    Adjustor *a = (Adjustor *)(void *)record;
    Use use = beginUse(a);
    unsigned status = statusOfAdjustor(a);
    const Signature *s = atomic_load_explicit(&a->signature, memory_order_relaxed);
    if (CAPSTAN_UNLIKELY(status != ADJUSTOR_LIVE)) {
        /* Acquire: the record may be on its way to its next life, with a signature that was just made. */
        s = atomic_load_explicit(&a->signature, memory_order_acquire);
        endUse(&use);
        refuseCall(status);
        setZero(frame, s);
    } else if (s->stub == NULL) {
        callClosure(&use, s, frame);
    } else {
        callStub(s, atomic_load_explicit(&a->wptr, memory_order_relaxed), atomic_load_explicit(&a->hptr, memory_order_relaxed), frame);
        endUse(&use);
    }
}

void initAdjustors(void) { archAdjustorHandler = handleCall; }

/* ---- Making and freeing ---- */

static void *makeAdjustor(StgStablePtr hptr, StgFunPtr wptr, const char *type, SignatureUse use, const char *what)
{
    const Signature *s = findSignature(type, wptr == NULL ? SIGNATURE_PLAIN : use, what);
    if (s == NULL) return NULL;
    if (numCapabilities == 0) {
        reportError(RTS_NOT_STARTED, "%s: %s", what, rts_statusText(RTS_NOT_STARTED));
        return NULL;
    }
    if (hptr == NULL) {
        reportError(RTS_BAD_STABLE_PTR, "%s: the stable pointer is NULL", what);
        return NULL;
    }
    Adjustor *a = newAdjustor(s, wptr, hptr, what);
    return a == NULL ? NULL : codeOfAdjustor(a);
}

void *createAdjustor(StgStablePtr hptr, StgFunPtr wptr, char *typeString)
{
    return makeAdjustor(hptr, wptr, typeString, SIGNATURE_GHC, "createAdjustor");
}

void *rts_createAdjustor(StgStablePtr hptr, StgFunPtr wptr, const char *type)
{
    return makeAdjustor(hptr, wptr, type, SIGNATURE_STUB, "rts_createAdjustor");
}

static void freeFunPtr(void *ptr, const char *what)
{
    if (ptr == NULL) return;
    Adjustor *a = adjustorOfCode(ptr);
    if (a == NULL) reportError(RTS_BAD_ARGUMENT, "%s(%p): this is not a function pointer that was made from a managed function", what, ptr);
    else if (!freeAdjustor(a)) reportError(RTS_BAD_ARGUMENT, "%s(%p): it was freed already", what, ptr);
}

void freeHaskellFunctionPtr(void *ptr) { freeFunPtr(ptr, "freeHaskellFunctionPtr"); }
void hs_free_fun_ptr(HsFunPtr fp) { freeFunPtr((void *)fp, "hs_free_fun_ptr"); }

/* ---- From managed code ---- */

HaskellObj rts_newAdjustor(Stack *stack, HaskellObj function, const char *type)
{
    HaskellObj box = rts_mkFunPtr(stack->cap, NULL);
    StgStablePtr hptr = box == CAPSTAN_POISON ? NULL : newStablePtr(function);
    if (hptr == NULL) rts_raise(stack, &capstan_HeapOverflow_closure);
    void *code = rts_createAdjustor(hptr, NULL, type);
    if (code == NULL) {
        dropStablePtr(hptr);
        rts_raiseError(stack, "rts_newAdjustor: no C function pointer of type \"%.60s\"", type);
    }
    ((StgBoxed *)box)->bits = (StgWord)code;
    return box;
}

char *stringOf(Stack *stack, HaskellObj bytes)
{
    if (rts_isImmediate(bytes) || (rts_info(bytes)->kind != CLOSURE_BYTES && rts_info(bytes)->kind != CLOSURE_EXTERNAL))
        rts_raiseError(stack, "expected a byte array, found %s", nameOfValue(bytes));
    char *s = rts_getString(bytes);
    if (s == NULL) rts_raise(stack, &capstan_HeapOverflow_closure);
    return s;
}

static HaskellObj createIn(Stack *stack, void *arg)
{
    void **a = arg;
    return rts_newAdjustor(stack, *(HaskellObj *)a[0], a[1]);
}

CAPSTAN_IO(capstan_createAdjustor, type, function)
{
    CAPSTAN_ROOTS(stack, function);
    type = rts_force(stack, type);
    char *text = stringOf(stack, type);
    HaskellObj result;
    bool made = rts_try(stack, createIn, (void *[]){ &function, text }, &result);
    free(text);
    CAPSTAN_UNROOT(stack);
    if (!made) rts_raise(stack, result);
    return result;
}

CAPSTAN_IO(capstan_freeFunPtr, pointer)
{
    pointer = rts_force(stack, pointer);
    if (rts_isImmediate(pointer) || rts_info(pointer)->kind != CLOSURE_PTR)
        rts_raiseError(stack, "capstan_freeFunPtr: expected a pointer, found %s", nameOfValue(pointer));
    freeHaskellFunctionPtr(rts_getPtr(pointer));
    return CAPSTAN_UNIT;
}

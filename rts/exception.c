#include "exception.h"

#include "arch.h"
#include "base/report.h"
#include "rts/Threads.h"
#include "thunk.h"
#include "timeout.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

CAPSTAN_STATIC_CON(capstan_StackOverflow, 0);
CAPSTAN_STATIC_CON(capstan_HeapOverflow, 1);
CAPSTAN_STATIC_CON(capstan_NonTermination, 2);
CAPSTAN_STATIC_CON(capstan_WrongKind, 3);
static const char *const errorCallFields[] = { "message" };
const StgInfoTable capstan_ErrorCall_info = { CLOSURE_CON, 0, 0, 1, 0, 4, NULL, "ErrorCall", errorCallFields };

/* Its entry is never called: rts_evaluate knows it by its info table. */
const StgInfoTable raisingThunk_info = { CLOSURE_THUNK, 0, 0, 1, 0, 0, NULL, "raise", NULL };

bool isAsynchronous(HaskellObj e)
{
    return e == &capstan_StackOverflow_closure || e == &capstan_HeapOverflow_closure ||
           e == &capstan_NonTermination_closure || e == &capstan_BlockedIndefinitelyOnMVar_closure ||
           e == &capstan_ThreadKilled_closure || e == &capstan_TimedOut_closure || e == &capstan_Cancelled_closure ||
           e == &capstan_AllocationLimitExceeded_closure || e == CAPSTAN_SHUTDOWN ||
           (!rts_isImmediate(e) && rts_info(e) == &capstan_Timeout_info);
}

SchedulerStatus statusOfException(HaskellObj e)
{
    return e == CAPSTAN_SHUTDOWN ? Interrupted
           : e == &capstan_HeapOverflow_closure ? HeapExhausted
           : e == &capstan_TimedOut_closure ? TimedOut
           : e == &capstan_Cancelled_closure ? Cancelled
           : e == &capstan_AllocationLimitExceeded_closure ? LimitExceeded
           : Killed;
}

HaskellObj newRaisingThunk(Capability *cap, HaskellObj exception)
{
    StgThunk *thunk = (StgThunk *)rts_allocate(cap, 3);
    if (thunk == NULL) return NULL;
    thunk->info = &raisingThunk_info;
    thunk->state = 0;
    thunk->payload[0] = exception;
    return (HaskellObj)thunk;
}

/* What becomes of a thunk whose evaluation ended with an exception. */
static void settleThunk(Stack *stack, HaskellObj thunk, HaskellObj exception)
{
    HaskellObj result = isAsynchronous(exception) ? NULL : newRaisingThunk(stack->cap, exception);
    setThunkState(stack, thunk, (StgWord)result); /* 0 re-arms */
}

void rearmThunks(Stack *stack)
{
    for (TrapFrame *f = stack->trap; f != NULL; f = f->prev)
        if (isUpdateFrame(f)) rearmThunk(stack, ((UpdateFrame *)f)->thunk);
}

void rts_raise(Stack *stack, HaskellObj exception)
{
    /* Who was answered CAPSTAN_POISON and raises this is not told again once it is caught. */
    if (exception == &capstan_HeapOverflow_closure) forgetDebts(&stack->cap->nursery);
    while (isUpdateFrame(stack->trap)) {
        settleThunk(stack, ((UpdateFrame *)stack->trap)->thunk, exception);
        stack->trap = stack->trap->prev;
    }
    archRaise(stack, exception);
}

void raiseToBase(Stack *stack, HaskellObj exception)
{
    while (stack->trap->prev != NULL) stack->trap = stack->trap->prev;
    archRaise(stack, exception);
}

void rts_raiseError(Stack *stack, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    HaskellObj error = rts_allocateCon(stack->cap, &capstan_ErrorCall_info, 1);
    HaskellObj message = rts_mkString(stack->cap, text);
    if (error == CAPSTAN_POISON || message == CAPSTAN_POISON) rts_raise(stack, &capstan_HeapOverflow_closure);
    error->payload[0] = message;
    rts_raise(stack, error);
}

bool rts_try(Stack *stack, HaskellObj (*body)(Stack *stack, void *arg), void *arg, HaskellObj *result)
{
    CatchResult r = archCatch(stack, body, arg);
    /* The mask is what it was at entry: an exception that it held back may come now. */
    if (r.raised && atomic_load_explicit(&stack->tso->pending, memory_order_relaxed) != 0)
        __atomic_store_n(&stack->poll, 1, __ATOMIC_RELAXED);
    *result = r.value;
    return !r.raised;
}

/* ---- catch, as a managed function ---- */

static HaskellObj runAction(Stack *stack, void *action) { return rts_runIO(stack, *(HaskellObj *)action); }

typedef struct {
    HaskellObj handler, exception;
} Handling;

static HaskellObj runHandler(Stack *stack, void *arg)
{
    Handling *h = arg;
    return rts_call(stack, h->handler, h->exception, CAPSTAN_WORLD);
}

/* The handler runs with asynchronous exceptions masked, or it would be one of two that come together which decides whether the other is
 * handled.  Where they are masked anyway it is a tail call, so that a loop through handlers does not grow the stack. */
CAPSTAN_IO(capstan_catch, action, handler)
{
    HaskellObj result = CAPSTAN_UNIT;
    bool ok;
    {
        CAPSTAN_ROOTS(stack, action, handler);
        ok = rts_try(stack, runAction, &action, &result);
        CAPSTAN_UNROOT(stack);
    }
    if (ok) return result;
    if (stack->mask != UNMASKED) return rts_tailCall(stack, handler, result, CAPSTAN_WORLD);
    Handling h = { handler, result };
    CAPSTAN_ROOTS(stack, h.handler, h.exception);
    result = rts_withMask(stack, RtsMaskedInterruptible, runHandler, &h);
    CAPSTAN_UNROOT(stack);
    return result;
}

/* ---- Text ---- */

static size_t showBytes(HaskellObj bytes, char *buf, size_t size)
{
    size_t length;
    const char *text = rts_bytes(bytes, &length);
    if (text == NULL) length = 0;
    if (size > 0) {
        size_t n = length < size - 1 ? length : size - 1;
        if (n > 0) memcpy(buf, text, n);
        buf[n] = 0;
    }
    return length;
}

static size_t showText(const char *text, char *buf, size_t size)
{
    if (size > 0) snprintf(buf, size, "%s", text);
    return strlen(text);
}

static const struct {
    HaskellObj exception;
    const char *text;
} ownExceptions[] = {
    { &capstan_StackOverflow_closure, "stack overflow" },
    { &capstan_HeapOverflow_closure, "heap exhausted" },
    { &capstan_NonTermination_closure, "non-termination: a value needs itself" },
    { &capstan_WrongKind_closure, "a value of the wrong kind was called or read" },
    { &capstan_ThreadKilled_closure, "thread killed" },
    { &capstan_BlockedIndefinitelyOnMVar_closure, "thread blocked indefinitely in an MVar operation" },
    { &capstan_AllocationLimitExceeded_closure, "allocation limit exceeded" },
    { &capstan_TimedOut_closure, "timed out" },
    { &capstan_Cancelled_closure, "cancelled" },
    { CAPSTAN_SHUTDOWN, "the runtime ended" },
    { CAPSTAN_POISON, "no exception" },
};

size_t showException(HaskellObj e, char *buf, size_t size)
{
    if (size > 0) buf[0] = 0;
    if (hostConfig.showExceptionHook && size > 0 && hostConfig.showExceptionHook(hostConfig.showExceptionCtx, e, buf, size))
        return strlen(buf);
    for (size_t i = 0; i < sizeof ownExceptions / sizeof *ownExceptions; i++)
        if (ownExceptions[i].exception == e) return showText(ownExceptions[i].text, buf, size);
    char number[32];
    if (rts_isSmallInt(e)) {
        snprintf(number, sizeof number, "%ld", (long)rts_smallIntValue(e));
        return showText(number, buf, size);
    }
    if (rts_isImmediate(e)) return showText("an exception", buf, size);
    if (rts_info(e) == &capstan_ErrorCall_info) return showBytes(e->payload[0], buf, size);
    if (rts_info(e)->kind == CLOSURE_BYTES || rts_info(e)->kind == CLOSURE_EXTERNAL) return showBytes(e, buf, size);
    return showText(rts_info(e)->name ? rts_info(e)->name : "an exception", buf, size);
}

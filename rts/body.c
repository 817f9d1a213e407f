#include "body.h"

#include "apply.h"
#include "arch.h"
#include "base/report.h"
#include "exception.h"
#include "language.h"
#include "rts/Threads.h"
#include "schedule.h"
#include "throwto.h"

#include <stdio.h>

/* How threads begin: what createThread's relatives put on the stack. */
__attribute__((noinline)) static HaskellObj pollFirst(Stack *stack, HaskellObj closure)
{
    stack->tso->closure = closure;
    safepoint(stack);
    closure = stack->tso->closure;
    stack->tso->closure = CAPSTAN_UNIT;
    return closure;
}

/* The first safepoint of a thread, before anything runs. */
static inline HaskellObj beginThread(Stack *stack, void *closure)
{
    return CAPSTAN_LIKELY(!isPolled(stack)) ? closure : pollFirst(stack, closure);
}

HaskellObj runGenThread(Stack *stack, void *closure)
{
    return rts_force(stack, beginThread(stack, closure));
}

HaskellObj runIOThread(Stack *stack, void *closure)
{
    return finishCall(stack, passCall1(stack, beginThread(stack, closure), CAPSTAN_WORLD));
}

HaskellObj runStrictIOThread(Stack *stack, void *closure)
{
    HaskellObj io = beginThread(stack, closure);
    /* (runIO io), which stubs build, is io. */
    if (CAPSTAN_LIKELY(!rts_isImmediate(io) && rts_info(io) == &capstan_AP_info &&
                       ((StgAP *)io)->fun == (HaskellObj)runIO_closure))
        io = ((StgAP *)io)->arg;
    return rts_force(stack, finishCall(stack, passCall1(stack, io, CAPSTAN_WORLD)));
}

/* ---- Unbound threads ---- */

static HaskellObj runNative(Stack *stack, void *closure)
{
    NativeBody *body = nativeBodyOf(closure);
    stack->tso->closure = closure; /* for who kills it */
    return body->run(stack, body);
}

static ArchBody *const bodies[BODY_KINDS] = { runGenThread, runIOThread, runStrictIOThread, runNative };

/* Ends that are nobody's mistake. */
static bool isQuietDeath(HaskellObj exception)
{
    return exception == &capstan_ThreadKilled_closure || exception == &capstan_BlockedIndefinitelyOnMVar_closure ||
           exception == CAPSTAN_SHUTDOWN;
}

void reportUncaught(Capability *cap, StgTSO *tso, HaskellObj exception)
{
    char text[256], label[LABEL_BYTES];
    if (hostConfig.uncaughtHook == NULL && isQuietDeath(exception)) return;
    showException(exception, text, sizeof text);
    copyLabel(tso, label);
    if (hostConfig.uncaughtHook != NULL)
        hostConfig.uncaughtHook(hostConfig.uncaughtCtx, tso->id, label, exception, text);
    else
        logLine(RTS_LOG_WARNING, "thread %lu%s%s ended by an exception: %s", (unsigned long)tso->id, label[0] ? " " : "",
                label, text);
}

static void dieUnborn(Capability *cap, StgTSO *tso, HaskellObj exception)
{
    NativeBody *native = tso->body == BODY_NATIVE ? nativeBodyOf(tso->closure) : NULL;
    if (native == NULL) reportUncaught(cap, tso, exception);
    endThread(cap, tso, ThreadDied);
    if (native != NULL) native->unborn(cap, native);
}

static void runUnbound(Stack *stack, StgTSO *tso)
{
    HaskellObj closure = tso->closure;
    /* Release: pairs with the acquire in handleOfOther, for the handle. */
    atomic_store_explicit(&tso->known, 1, memory_order_release);
    tso->closure = CAPSTAN_UNIT;
    stack->roots = NULL;
    stack->trap = NULL;
    setMask(stack, tso->mask);
    CatchResult result = archEnter(stack, bodies[tso->body], closure);
    Capability *cap = stack->cap;
    if (cap->dead != RTS_OK) return;
    if (CAPSTAN_UNLIKELY(result.raised)) {
        reportUncaught(cap, tso, result.value);
        if (statusOfException(result.value) == HeapExhausted) collectSoon();
    }
    endThread(cap, tso, result.raised ? ThreadDied : ThreadFinished);
}

void initBodies(void)
{
    runBody = runUnbound;
    endUnborn = dieUnborn;
}

/* ---- Making them ---- */

static StgTSO *create(Capability *cap, HaskellObj closure, uint8_t body)
{
    if (cap->dead != RTS_OK || closure == CAPSTAN_POISON) return NULL;
    StgTSO *tso = newThread(cap, closure, body, UNMASKED), *maker = regsOf(cap)->stack == NULL ? NULL : regsOf(cap)->stack->tso;
    if (tso != NULL && maker != NULL && !inheritWord(tso, maker)) {
        retireThread(cap, tso);
        tso = NULL;
    }
    if (tso == NULL) refuseAllocation(&cap->nursery, sizeof *tso);
    else atomic_store_explicit(&tso->known, 1, memory_order_release); /* for rts_listThreads, though it has no ThreadId */
    return tso;
}

StgTSO *createThread(Capability *cap, StgWord stack_size) { return create(cap, CAPSTAN_UNIT, BODY_GEN); }
StgTSO *createGenThread(Capability *cap, StgWord stack_size, HaskellObj p) { return create(cap, p, BODY_GEN); }
StgTSO *createIOThread(Capability *cap, StgWord stack_size, HaskellObj p) { return create(cap, p, BODY_IO); }
StgTSO *createStrictIOThread(Capability *cap, StgWord stack_size, HaskellObj p) { return create(cap, p, BODY_STRICT_IO); }

void scheduleThread(Capability *cap, StgTSO *tso)
{
    if (tso != NULL && cap->dead == RTS_OK) pushRunQueue(cap, tso);
}

void scheduleThreadOn(Capability *cap, StgWord n, StgTSO *tso)
{
    if (tso == NULL || cap->dead != RTS_OK) return;
    unsigned all = numCapabilities;
    tso->flags |= TSO_PINNED;
    Capability *there = &capabilities[n % (all == 0 ? 1 : all)];
    if (there == cap) {
        pushRunQueue(cap, tso);
    } else {
        setWhy(tso, ThreadRunning);
        tso->cap = there;
        postThread(tso);
    }
}

static StgTSO *forkHere(Stack *stack, HaskellObj io, HaskellObj *handle)
{
    StgTSO *tso = newThread(stack->cap, io, BODY_IO, (uint8_t)stack->mask);
    *handle = CAPSTAN_LIKELY(tso != NULL && inheritWord(tso, stack->tso)) ? threadHandle(stack->cap, tso) : CAPSTAN_POISON;
    if (CAPSTAN_LIKELY(*handle != CAPSTAN_POISON)) return tso;
    if (tso != NULL) {
        dropExtras(tso);
        retireThread(stack->cap, tso);
    }
    rts_raise(stack, &capstan_HeapOverflow_closure);
}

HaskellObj rts_fork(Stack *stack, HaskellObj io)
{
    HaskellObj handle;
    StgTSO *tso = forkHere(stack, io, &handle);
    pushRunQueue(stack->cap, tso);
    return handle;
}

HaskellObj rts_forkOn(Stack *stack, unsigned n, HaskellObj io)
{
    HaskellObj handle;
    StgTSO *tso = forkHere(stack, io, &handle);
    scheduleThreadOn(stack->cap, n, tso);
    return handle;
}

bool rts_isCurrentThreadBound(Stack *stack) { return isBound(stack->tso); }

void rts_yield(Stack *stack)
{
    rts_poll(stack);
    yieldThread(stack);
}

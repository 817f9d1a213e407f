/* For tests of what ends managed code from outside: actions of one argument that go on for ever, or long.  The argument is an
 * _Atomic int (or NULL), which is 1 once they have begun.  Included by one file of a program, after misuse.h. */
#ifndef CAPSTAN_TESTS_ENDLESS_H
#define CAPSTAN_TESTS_ENDLESS_H

#include <rts/Threads.h>

static inline void sayBegun(HaskellObj flag)
{
    _Atomic int *begun = rts_getPtr(flag);
    if (begun != NULL) atomic_store(begun, 1);
}

CAPSTAN_IO(spin, flag)
{
    sayBegun(flag);
    for (;;) rts_poll(stack);
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(sleepLong, flag)
{
    sayBegun(flag);
    rts_threadDelay(stack, 3600 * INT64_C(1000000));
    return CAPSTAN_UNIT;
}

/* An MVar that nobody fills, kept from being found lost by a stable pointer. */
static HsStablePtr quietBox;

CAPSTAN_IO(makeBox)
{
    quietBox = getStablePtr((StgPtr)rts_mkMVar(stack->cap));
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(waitForBox, flag)
{
    sayBegun(flag);
    return rts_takeMVar(stack, (HaskellObj)deRefStablePtr(quietBox));
}

static inline void *pauseInC(void *flag)
{
    atomic_store((_Atomic int *)flag, 1);
    sleepMs(60);
    return NULL;
}

CAPSTAN_IO(callOut, flag)
{
    void *begun = rts_getPtr(flag);
    rts_safeCall(stack, pauseInC, begun);
    return rts_int(stack, 7);
}

/* Stays in C until the flag is 2. */
static inline void *stayInC(void *flag)
{
    atomic_store((_Atomic int *)flag, 1);
    while (atomic_load((_Atomic int *)flag) != 2) sleepMs(1);
    return NULL;
}

CAPSTAN_IO(callOutLong, flag)
{
    void *begun = rts_getPtr(flag);
    rts_safeCall(stack, stayInC, begun);
    return rts_int(stack, 8);
}

/* Act as where the system has no membarrier. */
static bool withoutMembarrier;

static inline void startWithBox(unsigned capabilities)
{
    RtsConfig config = hookedConfig(capabilities);
    config.no_membarrier = withoutMembarrier;
    if (rts_start(&config, NULL, 0) != RTS_OK || callAction(&makeBox_closure, NULL, NULL) != Success) abort();
}

/* ---- C that keeps a capability ---- */

typedef struct {
    _Atomic int begun, stop;
    pthread_t thread;
} Holder;

static inline void *holdCapability(void *arg)
{
    Holder *h = arg;
    Capability *cap = rts_lock();
    h->begun = 1;
    while (!h->stop) sleepMs(1);
    rts_unlock(cap);
    return NULL;
}

static inline void beginHolding(Holder *h)
{
    h->begun = h->stop = 0;
    h->thread = spawn(holdCapability, h);
    waitFor(&h->begun);
}

static inline void endHolding(Holder *h)
{
    h->stop = 1;
    joinThread(h->thread);
}

#endif

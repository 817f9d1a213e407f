/* A module for tests/foreign/modules.c and host.c: something of each kind that the heap may refer to. */
#include <Rts.h>
#include <rts/Language.h>
#include <rts/Managed.h>
#include <rts/Threads.h>
#include <rts/Weak.h>

#include "plug_stub.h"

#include <time.h>

/* Constructors and destructors have the loader's lock, and may want a capability. */
static void callIn(void)
{
    if (getNumCapabilities() == 0) return;
    Capability *cap = rts_lock();
    rts_mkInt(cap, HS_INT_MAX);
    rts_unlock(cap);
}
__attribute__((constructor)) static void noteBeginning(void) { callIn(); }

int *plug_gone; /* the host's: counts how often the module went */
__attribute__((destructor)) static void noteEnd(void)
{
    callIn();
    int *counter = __atomic_load_n(&plug_gone, __ATOMIC_RELAXED);
    if (counter != NULL) __atomic_fetch_add(counter, 1, __ATOMIC_SEQ_CST);
}

CAPSTAN_CON(Pair, 0, left, right)
CAPSTAN_IO(pair, n)
{
    n = rts_force(stack, n);
    return rts_mkStablePtr(stack->cap, getStablePtr((StgPtr)Pair_new(stack->cap, n, n)));
}
static HaskellObj pointedTo(Stack *stack, HaskellObj p) { return (HaskellObj)deRefStablePtr(rts_getStablePtr(rts_force(stack, p))); }
CAPSTAN_IO(first, p) { return CAPSTAN_GET(Pair, pointedTo(stack, p), left); }

/* A thunk with code of ours. */
CAPSTAN_THUNK(triple, 1) { return rts_int(stack, 3 * rts_getInt(rts_thunkVar(self, 0))); }
CAPSTAN_IO(lazy, n)
{
    n = rts_force(stack, n);
    return rts_mkStablePtr(stack->cap, getStablePtr((StgPtr)rts_mkClosure(stack->cap, &triple_info, &n)));
}
CAPSTAN_IO(force, p) { return rts_force(stack, pointedTo(stack, p)); }

/* Static closures that change, and hold objects of ours: they alone do not keep the module. */
CAPSTAN_STATIC_CON(Nothing, 0);
static CAPSTAN_STATIC_MUTVAR(last, &Nothing_closure);
CAPSTAN_CAF(table) { return rts_mkMutVar(stack->cap, Pair_new(stack->cap, CAPSTAN_SMALL_INT(0), CAPSTAN_UNIT)); }
CAPSTAN_IO(count)
{
    HaskellObj var = rts_force(stack, &table_closure);
    HaskellObj now = rts_int(stack, rts_getInt(CAPSTAN_GET(Pair, rts_readMutVar(var), left)) + 1);
    HaskellObj made = Pair_new(stack->cap, now, (HaskellObj)&last_closure);
    rts_writeMutVar(stack->cap, var, made);
    rts_writeMutVar(stack->cap, (HaskellObj)&last_closure, made);
    return now;
}

/* Threads that are inside of our code, and have no object of ours. */
int plug_inside; /* counts those that came in */
CAPSTAN_IO(await, p)
{
    __atomic_fetch_add(&plug_inside, 1, __ATOMIC_SEQ_CST);
    HaskellObj got = rts_takeMVar(stack, pointedTo(stack, p));
    return got == CAPSTAN_UNIT ? CAPSTAN_SMALL_INT(1) : CAPSTAN_SMALL_INT(2);
}
CAPSTAN_LAMBDA_IO(awaiting, 1)
{
    HaskellObj box = rts_freeVar(self, 0);
    __atomic_fetch_add(&plug_inside, 1, __ATOMIC_SEQ_CST);
    rts_takeMVar(stack, box);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(spawn, p)
{
    HaskellObj box = pointedTo(stack, p);
    rts_fork(stack, rts_mkClosure(stack->cap, &awaiting_info, &box));
    return CAPSTAN_UNIT;
}

/* C function pointers, C finalizers, C functions that take long. */
CAPSTAN_LAMBDA_IO(adding, 1, n)
{
    HsInt by = rts_getInt(rts_freeVar(self, 0));
    return rts_int(stack, rts_getInt(rts_force(stack, n)) + by);
}
CAPSTAN_IO(adder, n)
{
    n = rts_force(stack, n);
    return rts_call(stack, &mkAdder_closure, rts_mkClosure(stack->cap, &adding_info, &n), CAPSTAN_WORLD);
}

static void note(__attribute__((unused)) void *ctx, void *ptr) { __atomic_fetch_add((HsInt *)ptr, 1, __ATOMIC_SEQ_CST); }
CAPSTAN_IO(tie, p, counter)
{
    CAPSTAN_ROOTS(stack, p);
    counter = rts_force(stack, counter);
    HsInt *address = rts_getPtr(counter);
    HaskellObj key = pointedTo(stack, p);
    CAPSTAN_UNROOT(stack);
    HaskellObj weak = rts_mkWeakNoFinalizer(stack->cap, key, CAPSTAN_UNIT);
    rts_addCFinalizerToWeak(stack->cap, weak, note, NULL, address);
    return CAPSTAN_UNIT;
}

void plug_nap(HsInt *until)
{
    __atomic_fetch_add(&plug_inside, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(until, __ATOMIC_SEQ_CST) == 0) nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
}

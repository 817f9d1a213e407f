/* stress/gc: weak pointers, their finalizers, stable names, identity hashes and entries of a weak table, all of keys that stable pointers keep.
 *
 * As long as its key is kept, a weak pointer is alive, with the value that it was made with, and its finalizers have not run; name, hash and entry are
 * what they were.  Once the key was let go each of its finalizers runs once, and the entry vanishes: at the end of a calm round all have. */
#include "gc.h"

#include <rts/Weak.h>

#include <stdlib.h>

/* Ownership: the mutator; the counts are written by finalizers. */
struct WeakRecord {
    WeakRecord *next;
    Mutator *mutator;
    uint64_t serial;               /* of the value; the finalizer holds the parcel behind it */
    HsStablePtr key, weak;         /* NULL: let go */
    HsInt name;
    StgWord hash;
    _Atomic unsigned managedRuns, cRuns;
    bool byHand;
};

static void finalizeInC(void *ctx, void *ptr)
{
    WeakRecord *w = ctx;
    EXPECT(w->mutator, ptr == &w->serial, "a C finalizer got the pointer %p", ptr);
    EXPECT(w->mutator, atomic_fetch_add(&w->cRuns, 1) == 0, "a C finalizer ran twice");
}

/* An action with a free variable of its own: what it refers to lives until it has run. */
CAPSTAN_IO(gcFinalize, where, parcel)
{
    WeakRecord *w = rts_getPtr(where);
    DEMAND(w->mutator, isRightParcel(parcel, w->serial + 1), "a finalizer lost its object");
    EXPECT(w->mutator, atomic_fetch_add(&w->managedRuns, 1) == 0, "a finalizer ran twice");
    return CAPSTAN_UNIT;
}

static HaskellObj deRef(HsStablePtr sp) { return (HaskellObj)deRefStablePtr(sp); }

/* Kept by a stable pointer from the first weak pointer of the round on. */
static HaskellObj weakTable(At *at)
{
    Mutator *m = at->m;
    if (m->weakTable == NULL) m->weakTable = getStablePtr((StgPtr)rts_mkWeakTable(capOf(at)));
    return deRef(m->weakTable);
}

static HaskellObj newKey(At *at)
{
    switch (below(&at->m->random, 3)) {
    case 0: return rts_mkMutVar(capOf(at), CAPSTAN_UNIT);
    case 1: return rts_mkArray(capOf(at), below(&at->m->random, 700), CAPSTAN_TRUE);
    default: return newPair(capOf(at), CAPSTAN_UNIT, CAPSTAN_FALSE);
    }
}

static void makeOne(At *at, WeakRecord **place)
{
    Mutator *m = at->m;
    Capability *cap = capOf(at);
    WeakRecord *w = calloc(1, sizeof *w);
    DEMAND(m, w != NULL, "no memory");
    *w = (WeakRecord){ .next = m->weaks, .mutator = m, .serial = nextRandom(&m->random) >> 5 };
    m->weaks = *place = w;
    /* The value leads to its own key: that keeps nothing alive. */
    HaskellObj key = newKey(at), value = newPair(cap, newParcel(cap, w->serial), key);
    HaskellObj finalizer = rts_apply(cap, rts_apply(cap, &gcFinalize_closure, rts_mkPtr(cap, w)), newParcel(cap, w->serial + 1));
    HaskellObj weak = rts_mkWeak(cap, key, value, finalizer), name = rts_makeStableName(cap, key);
    DEMAND(m, weak != CAPSTAN_POISON && name != CAPSTAN_POISON, "no memory for a weak pointer");
    DEMAND(m, rts_addCFinalizerToWeak(cap, weak, finalizeInC, w, &w->serial), "a new weak pointer takes no finalizer");
    DEMAND(m, rts_weakTableInsert(cap, weakTable(at), key, value), "a weak table takes no entry");
    w->name = rts_stableNameToInt(name);
    w->hash = rts_identityHash(cap, key);
    w->key = getStablePtr((StgPtr)key);
    w->weak = getStablePtr((StgPtr)weak);
}

static bool isValue(HaskellObj v, const WeakRecord *w)
{
    return isOf(v, &gcPair_info) && isRightParcel(rts_getField(v, 0), w->serial) && rts_getField(v, 1) == deRef(w->key);
}

static void checkOne(At *at, const WeakRecord *w)
{
    Mutator *m = at->m;
    HaskellObj value, key = deRef(w->key), name;
    DEMAND(m, rts_deRefWeak(deRef(w->weak), &value), "a weak pointer died before its key");
    DEMAND(m, isValue(value, w), "the value of a weak pointer is not what it was, at %p", (void *)value);
    DEMAND(m, w->managedRuns + w->cRuns == 0, "a finalizer ran before its key died");
    DEMAND(m, rts_weakTableLookup(capOf(at), weakTable(at), key, &value) && isValue(value, w), "an entry of a weak table is not what it was");
    name = rts_makeStableName(capOf(at), key);
    DEMAND(m, rts_stableNameToInt(name) == w->name, "a stable name was %zd, and is %zd", (ssize_t)w->name, (ssize_t)rts_stableNameToInt(name));
    DEMAND(m, rts_identityHash(capOf(at), key) == w->hash, "an identity hash is another");
}

static void letGo(WeakRecord **place)
{
    WeakRecord *w = *place;
    freeStablePtr(w->key);
    freeStablePtr(w->weak);
    w->key = w->weak = NULL;
    *place = NULL;
}

/* By hand, now and at once. */
static void finalizeOne(At *at, WeakRecord **place)
{
    WeakRecord *w = *place;
    HaskellObj key = deRef(w->key), value;
    rts_weakTableRemove(capOf(at), weakTable(at), key, NULL);
    rts_finalizeWeak(at->stack, deRef(w->weak));
    DEMAND(at->m, w->managedRuns == 1 && w->cRuns == 1, "after rts_finalizeWeak its finalizers have run %u and %u times", w->managedRuns, w->cRuns);
    DEMAND(at->m, !rts_deRefWeak(deRef(w->weak), &value), "a weak pointer that was finalized is alive");
    letGo(place);
}

void stepWeak(At *at)
{
    Mutator *m = at->m;
    WeakRecord **place = &m->keys[below(&m->random, KEYS)];
    if (*place == NULL) makeOne(at, place);
    else if (!oneIn(&m->random, 3)) checkOne(at, *place);
    else if (at->stack != NULL && oneIn(&m->random, 4)) finalizeOne(at, place);
    else letGo(place);
}

void compareWeaks(At *at)
{
    for (int i = 0; i < KEYS; i++)
        if (at->m->keys[i] != NULL) checkOne(at, at->m->keys[i]);
}

void dropWeaks(Mutator *m)
{
    for (int i = 0; i < KEYS; i++)
        if (m->keys[i] != NULL) letGo(&m->keys[i]);
    if (m->weakTable != NULL) freeStablePtr(m->weakTable);
    m->weakTable = NULL;
}

/* Finalizers that are still to run. */
unsigned countUnfinalized(const Mutator *m)
{
    unsigned n = 0;
    for (const WeakRecord *w = m->weaks; w != NULL; w = w->next) n += (w->managedRuns == 0) + (w->cRuns == 0);
    return n;
}

/* The runtime is over: what it did not get to do, it does not do; but C finalizers run in any case. */
void settleWeaks(Mutator *m)
{
    for (WeakRecord *w = m->weaks, *next; w != NULL; w = next) {
        next = w->next;
        EXPECT(m, w->cRuns == 1 && w->managedRuns <= 1, "finalizers ran %u and %u times", w->managedRuns, w->cRuns);
        free(w);
    }
    m->weaks = NULL;
    m->weakTable = NULL;
    for (int i = 0; i < KEYS; i++) m->keys[i] = NULL;
}

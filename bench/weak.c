#include "weak.h"
#include <rts/Weak.h>

#define OBJECTS 1000000
/* A cycle takes one to three times as many replacements as there are objects. */
#define MOST_REPLACEMENTS_OF_CYCLE (32 * (HsInt)OBJECTS)
/* The end of a cycle takes a fifth and more from what counts as live; a minor collection, which finds only what died young, next to nothing. */
#define LEAST_PART_OF_CYCLE 16

void notePause(void *context, const RtsCollection *c)
{
    CyclePauses *p = context;
    double ms = (double)c->pause_ns / 1e6;
    /* Of an idle program, by a thread of the runtime's own: the pauses belong to the one that churns. */
    if (c->cause == RtsGcIdle || p->ended >= p->wanted) return;
    bool ends = c->live_bytes + c->live_bytes / LEAST_PART_OF_CYCLE < p->liveBytes;
    p->liveBytes = c->live_bytes;
    if (ms > p->longestSoFar) p->longestSoFar = ms;
    if (!ends && !c->major) return;
    /* One that copies everything breaks the cycle off: that is none. */
    if (!c->major) {
        p->last[p->ended] = ms;
        p->longest[p->ended++] = p->longestSoFar;
    }
    p->longestSoFar = 0;
}

/* An object that is replaced, or the value of an entry. number :: Int */
CAPSTAN_CON(Numbered, 0, number, nothing)

static HaskellObj numbered(Stack *stack, HsInt number)
{
    return Numbered_new(stack->cap, rts_int(stack, number), CAPSTAN_UNIT);
}

enum { PLACE_OBJECTS, PLACE_KEYS, PLACE_POINTERS, PLACE_TABLE, WEAK_PLACES };

CAPSTAN_CAF(weakPlaces)
{
    return rts_mkArray(stack->cap, WEAK_PLACES, CAPSTAN_UNIT);
}

static HaskellObj kept(Stack *stack, size_t place)
{
    return rts_getElem(rts_force(stack, &weakPlaces_closure), place);
}

/* An array of so many units. */
static HaskellObj keepArray(Stack *stack, size_t place, HsInt count)
{
    HaskellObj places = rts_force(stack, &weakPlaces_closure), array = rts_mkArray(stack->cap, (size_t)count, CAPSTAN_UNIT);
    rts_setElem(stack->cap, places, place, array);
    CAPSTAN_ROOTS(stack, array);
    rts_poll(stack);
    CAPSTAN_UNROOT(stack);
    return array;
}

CAPSTAN_IO(makeKeys, countValue)
{
    HsInt count = rts_intValue(countValue);
    HaskellObj objects = keepArray(stack, PLACE_OBJECTS, OBJECTS), keys = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, objects, keys);
    for (HsInt i = 0; i < OBJECTS; i++) {
        rts_setElem(stack->cap, objects, (size_t)i, numbered(stack, i));
        rts_poll(stack);
    }
    keys = keepArray(stack, PLACE_KEYS, count);
    for (HsInt i = 0; i < count; i++) {
        rts_setElem(stack->cap, keys, (size_t)i, rts_mkMutVar(stack->cap, rts_int(stack, i)));
        rts_poll(stack);
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

static void makeEntry(Stack *stack, const WeakEntries *e, HsInt i, HaskellObj key, HaskellObj holder)
{
    bool made = true;
    switch (e->kind) {
    case ENTRY_NAME: made = (e->hashes[i] = rts_identityHash(stack->cap, key)) != 0; break;
    case ENTRY_POINTER: rts_setElem(stack->cap, holder, (size_t)i, rts_mkWeakNoFinalizer(stack->cap, key, numbered(stack, i))); break;
    case ENTRY_OF_TABLE: made = rts_weakTableInsert(stack->cap, holder, key, numbered(stack, i)); break;
    }
    if (!made) rts_raiseError(stack, "no memory for entry %ld", (long)i);
}

/* What holds the entries: an array of weak pointers, the table, or nothing. */
static HaskellObj keepHolder(Stack *stack, const WeakEntries *e)
{
    if (e->kind == ENTRY_NAME) return CAPSTAN_UNIT;
    if (e->kind == ENTRY_POINTER) return keepArray(stack, PLACE_POINTERS, e->count);
    HaskellObj places = rts_force(stack, &weakPlaces_closure), table = rts_mkWeakTable(stack->cap);
    rts_setElem(stack->cap, places, PLACE_TABLE, table);
    return table;
}

CAPSTAN_IO(makeEntries, entriesValue)
{
    const WeakEntries *e = rts_getPtr(entriesValue);
    HaskellObj holder = keepHolder(stack, e), keys = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, holder, keys);
    keys = kept(stack, PLACE_KEYS);
    for (HsInt n = 0; n < e->count; n++) {
        makeEntry(stack, e, e->order[n], rts_getElem(keys, (size_t)e->order[n]), holder);
        rts_poll(stack);
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

static bool isValue(HaskellObj value, HsInt number)
{
    return CAPSTAN_IS(Numbered, value) && rts_intValue(CAPSTAN_GET(Numbered, value, number)) == number;
}

static bool isEntryRight(Stack *stack, const WeakEntries *e, HsInt i, HaskellObj key, HaskellObj holder)
{
    HaskellObj value;
    switch (e->kind) {
    case ENTRY_NAME: return rts_identityHash(stack->cap, key) == e->hashes[i];
    case ENTRY_POINTER: return rts_deRefWeak(rts_getElem(holder, (size_t)i), &value) && isValue(value, i);
    case ENTRY_OF_TABLE: return rts_weakTableLookup(stack->cap, holder, key, &value) && isValue(value, i);
    }
    return false;
}

CAPSTAN_IO(checkEntries, entriesValue)
{
    const WeakEntries *e = rts_getPtr(entriesValue);
    HaskellObj holder = kept(stack, e->kind == ENTRY_POINTER ? PLACE_POINTERS : PLACE_TABLE), keys = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, holder, keys);
    keys = kept(stack, PLACE_KEYS);
    if (e->kind == ENTRY_OF_TABLE && rts_weakTableSize(holder) != (size_t)e->count) rts_raiseError(stack, "the table has lost or won entries");
    for (HsInt i = 0; i < e->count; i++) {
        if (!isEntryRight(stack, e, i, rts_getElem(keys, (size_t)i), holder))
            rts_raiseError(stack, "entry %ld gives another value than it was made with", (long)i);
        rts_poll(stack);
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* Knuth's constants for a linear congruential generator modulo 2^64; its upper bits. */
static size_t pickObject(uint64_t *random)
{
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return (size_t)((*random >> 33) % OBJECTS);
}

CAPSTAN_IO(churnCycles, pausesValue)
{
    const CyclePauses *p = rts_getPtr(pausesValue);
    HaskellObj objects = kept(stack, PLACE_OBJECTS);
    uint64_t random = 1;
    CAPSTAN_ROOTS(stack, objects);
    for (HsInt left = p->wanted * MOST_REPLACEMENTS_OF_CYCLE; p->ended < p->wanted; left--) {
        size_t i = pickObject(&random);
        rts_setElem(stack->cap, objects, i, numbered(stack, (HsInt)i));
        rts_poll(stack);
        if (left == 0) rts_raiseError(stack, "only %d of %d marking cycles have ended", p->ended, p->wanted);
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

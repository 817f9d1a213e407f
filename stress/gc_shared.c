/* stress/gc: what all mutators share, in an array that a CAF keeps:
 *
 *   channels   MVars, in which parcels are sent; who waits there does so with its own graph on its stack
 *   stacks     MutVars, onto which parcels are pushed by compare-and-swap
 *   stalls     one large array, of which each element is some mutator's: several capabilities write side by side
 *   thunks     MutVars with a thunk each, which any of them evaluate at once; each runs once
 *   ballast    lists (gc_long.c)
 *
 * A parcel is an object whose contents follow from its serial, and the table below says who has it. */
#include "gc.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#define CHANNELS 6
#define PILES    3
#define LAZIES   16
#define SERIALS  ((uint64_t)1 << 22)

enum { SHARED_CHANNELS, SHARED_PILES, SHARED_STALLS, SHARED_LAZIES, SHARED_BALLAST, SHARED_PARTS };
enum { PARCEL_UNKNOWN, PARCEL_SENT, PARCEL_RECEIVED };

static struct {
    _Atomic uint64_t serials;            /* given out */
    _Atomic uint32_t state[SERIALS];     /* PARCEL_*, by serial modulo their number */
    _Atomic uint64_t sent, received;
    _Atomic uint32_t locks[LAZIES];      /* held where nothing moves */
    uint64_t lazySerials[LAZIES];        /* [lock] */
    _Atomic uint32_t runs[SERIALS];      /* of shared thunks, by serial */
} shared;

static uint64_t nextSerial(void) { return atomic_fetch_add(&shared.serials, 1) + 1; }

void beginShared(uint64_t round)
{
    for (size_t i = 0; i < SERIALS; i++) atomic_store_explicit(&shared.state[i], PARCEL_UNKNOWN, memory_order_relaxed);
    for (size_t i = 0; i < SERIALS; i++) atomic_store_explicit(&shared.runs[i], 0, memory_order_relaxed);
    memset(shared.lazySerials, 0, sizeof shared.lazySerials);
    shared.sent = shared.received = 0;
    shared.serials = round << 40;
}

void checkShared(void)
{
    EXPECT(NULL, shared.sent == shared.received, "%zu parcels were sent, %zu received", (size_t)shared.sent, (size_t)shared.received);
}

/* ---- Parcels ------------------------------------------------------------------------------------------------------- */

CAPSTAN_CON(gcParcel, 16, serial, number, bytes, array, pair)

HaskellObj newParcel(Capability *cap, uint64_t serial)
{
    unsigned char pattern[200];
    size_t size = numberOf(serial, 1) % sizeof pattern, length = 1 + numberOf(serial, 2) % 20;
    fillPattern(pattern, size, serial);
    HaskellObj id = CAPSTAN_SMALL_INT(serial), number = rts_mkDouble(cap, (double)serial);
    HaskellObj bytes = serial % 8 == 0 ? rts_mkBytesPinned(cap, pattern, size) : rts_mkBytes(cap, pattern, size);
    HaskellObj pair = newPair(cap, number, id), array = rts_mkArray(cap, length, pair);
    rts_setElem(cap, array, length / 2, number);
    return gcParcel_new(cap, id, number, bytes, array, pair);
}

static bool bytesAreRight(HaskellObj bytes, uint64_t serial)
{
    unsigned char pattern[200];
    size_t size = numberOf(serial, 1) % sizeof pattern, length;
    if (!isOf(bytes, &capstan_BYTES_info)) return false;
    fillPattern(pattern, size, serial);
    const void *found = rts_bytes(bytes, &length);
    return length == size && memcmp(found, pattern, size) == 0;
}

static bool isNumber(HaskellObj v, uint64_t serial) { return isOf(v, &capstan_DOUBLE_info) && rts_getDouble(v) == (double)serial; }

/* It, or a copy of it. */
static bool isTheNumber(HaskellObj v, HaskellObj number, uint64_t serial) { return v == number || (mayBeTwo(v) && isNumber(v, serial)); }
static bool isPair(HaskellObj v, HaskellObj number, uint64_t serial)
{
    return isOf(v, &gcPair_info) && isTheNumber(rts_getField(v, 0), number, serial) && rts_getField(v, 1) == CAPSTAN_SMALL_INT(serial);
}
static bool isThePair(HaskellObj v, HaskellObj pair, HaskellObj number, uint64_t serial) { return v == pair || (mayBeTwo(v) && isPair(v, number, serial)); }

static bool arrayIsRight(HaskellObj array, HaskellObj pair, HaskellObj number, uint64_t serial)
{
    size_t length = 1 + numberOf(serial, 2) % 20;
    if (!isOf(array, &capstan_ARRAY_info) || rts_arrayLength(array) != length) return false;
    for (size_t i = 0; i < length; i++) {
        HaskellObj v = rts_getElem(array, i);
        if (i == length / 2 ? !isTheNumber(v, number, serial) : !isThePair(v, pair, number, serial)) return false;
    }
    return true;
}

bool isRightParcel(HaskellObj v, uint64_t serial)
{
    if (!isOf(v, &gcParcel_info) || CAPSTAN_GET(gcParcel, v, serial) != CAPSTAN_SMALL_INT(serial)) return false;
    HaskellObj number = CAPSTAN_GET(gcParcel, v, number), pair = CAPSTAN_GET(gcParcel, v, pair);
    return isNumber(number, serial) && isPair(pair, number, serial) && bytesAreRight(CAPSTAN_GET(gcParcel, v, bytes), serial) && arrayIsRight(CAPSTAN_GET(gcParcel, v, array), pair, number, serial);
}

void compareParcel(At *at, HaskellObj v, uint64_t serial)
{
    DEMAND(at->m, isRightParcel(v, serial), "parcel %#zx at %p is not what it was", (size_t)serial, (void *)v);
}

/* ---- From hand to hand --------------------------------------------------------------------------------------------- */

static void noteSent(Mutator *m, uint64_t serial)
{
    atomic_store(&shared.state[serial % SERIALS], PARCEL_SENT);
    atomic_fetch_add(&shared.sent, 1);
    m->sent++;
}

static uint64_t noteReceived(const Mutator *m, HaskellObj v)
{
    DEMAND(m, isOf(v, &gcParcel_info) && rts_isSmallInt(CAPSTAN_GET(gcParcel, v, serial)), "something else than a parcel was received: %p", (void *)v);
    uint64_t serial = (uint64_t)rts_smallIntValue(CAPSTAN_GET(gcParcel, v, serial));
    DEMAND(m, isRightParcel(v, serial), "parcel %#zx, received at %p, is not what it was", (size_t)serial, (void *)v);
    uint32_t before = atomic_exchange(&shared.state[serial % SERIALS], PARCEL_RECEIVED);
    DEMAND(m, before == PARCEL_SENT, "parcel %#zx was %s", (size_t)serial, before == PARCEL_RECEIVED ? "received twice" : "never sent");
    atomic_fetch_add(&shared.received, 1);
    return serial;
}

static void keepParcel(At *at, HaskellObj v)
{
    Mutator *m = at->m;
    uint64_t serial = noteReceived(m, v);
    m->received++;
    if (oneIn(&m->random, 2)) return;
    uint32_t node = newNode(m, NODE_PARCEL, &gcParcel_info, 0);
    nodeAt(m, node)->seed = serial;
    keepWord(at, (Word){ edgeToNode(node), v });
}

/* ---- The array ----------------------------------------------------------------------------------------------------- */

static HaskellObj newVars(Capability *cap, size_t count, bool mvars)
{
    HaskellObj array = rts_mkArray(cap, count, CAPSTAN_UNIT);
    for (size_t i = 0; i < count; i++) rts_setElem(cap, array, i, mvars ? rts_mkMVar(cap) : rts_mkMutVar(cap, CAPSTAN_UNIT));
    return array;
}

CAPSTAN_CAF(gcShared)
{
    HaskellObj parts = rts_mkArray(stack->cap, SHARED_PARTS, CAPSTAN_UNIT);
    rts_setElem(stack->cap, parts, SHARED_CHANNELS, newVars(stack->cap, CHANNELS, true));
    rts_setElem(stack->cap, parts, SHARED_PILES, newVars(stack->cap, PILES, false));
    rts_setElem(stack->cap, parts, SHARED_STALLS, rts_mkArray(stack->cap, 2 * STALLS * game.count + 600, CAPSTAN_UNIT));
    rts_setElem(stack->cap, parts, SHARED_LAZIES, newVars(stack->cap, LAZIES, false));
    rts_setElem(stack->cap, parts, SHARED_BALLAST, rts_mkArray(stack->cap, countBallast() + 1, CAPSTAN_UNIT));
    return parts;
}

static HaskellObj partOf(HaskellObj parts, int part) { return rts_getElem(parts, (size_t)part); }

/* Without a safepoint: it was evaluated when the round began. */
static HaskellObj sharedPart(int part)
{
    StgWord state = __atomic_load_n(&((StgStaticThunk *)(void *)&gcShared_closure)->state, __ATOMIC_ACQUIRE);
    DEMAND(NULL, state != 0 && (state & 7) == 0, "the shared CAF is not evaluated: %#zx", (size_t)state);
    return partOf((HaskellObj)state, part);
}

HaskellObj sharedBallast(void) { return sharedPart(SHARED_BALLAST); }

/* ---- Channels ------------------------------------------------------------------------------------------------------ */

static bool mayWait(const At *at) { return at->m->isManaged && !atomic_load(&game.closing); }

void stepSend(At *at)
{
    Mutator *m = at->m;
    size_t channel = below(&m->random, CHANNELS);
    bool waits = oneIn(&m->random, 3);
    uint64_t serial = nextSerial();
    HaskellObj parcel = newParcel(capOf(at), serial), mvar = rts_getElem(sharedPart(SHARED_CHANNELS), channel);
    noteSent(m, serial);
    if (waits && mayWait(at)) {
        rts_putMVar(at->stack, mvar, parcel);
    } else if (!rts_tryPutMVar(at->stack, mvar, parcel)) {
        keepParcel(at, parcel);
    }
}

void stepReceive(At *at)
{
    Mutator *m = at->m;
    size_t channel = below(&m->random, CHANNELS);
    bool waits = oneIn(&m->random, 3);
    HaskellObj mvar = rts_getElem(sharedPart(SHARED_CHANNELS), channel), parcel = CAPSTAN_UNIT;
    if (waits && mayWait(at)) parcel = rts_takeMVar(at->stack, mvar);
    else if (!rts_tryTakeMVar(at->stack, mvar, &parcel)) return;
    /* At the end of a round those that wait are given nothing. */
    if (parcel != CAPSTAN_FALSE) keepParcel(at, parcel);
}

/* ---- Piles --------------------------------------------------------------------------------------------------------- */

void stepPush(At *at)
{
    Mutator *m = at->m;
    uint64_t serial = nextSerial();
    HaskellObj var = rts_getElem(sharedPart(SHARED_PILES), below(&m->random, PILES)), top;
    noteSent(m, serial);
    HaskellObj parcel = newParcel(capOf(at), serial);
    do top = rts_readMutVar(var);
    while (!rts_casMutVar(capOf(at), var, top, newPair(capOf(at), parcel, top)));
}

static void takePile(At *at, const Mutator *m, Capability *cap, HaskellObj var)
{
    HaskellObj top;
    do top = rts_readMutVar(var);
    while (!rts_casMutVar(cap, var, top, CAPSTAN_UNIT));
    for (; top != CAPSTAN_UNIT; top = rts_getField(top, 1)) {
        DEMAND(m, isOf(top, &gcPair_info), "a pile has no end, but %p", (void *)top);
        if (at != NULL) keepParcel(at, rts_getField(top, 0));
        else noteReceived(m, rts_getField(top, 0));
    }
}

void stepPop(At *at)
{
    takePile(at, at->m, capOf(at), rts_getElem(sharedPart(SHARED_PILES), below(&at->m->random, PILES)));
}

/* ---- Stalls -------------------------------------------------------------------------------------------------------- */

/* Of neighbours each is somebody else's. */
static size_t stallIndex(const Mutator *m, size_t i)
{
    return i * 2 * game.count + 2 * m->number + m->isInner;
}

void stepStall(At *at)
{
    Mutator *m = at->m;
    size_t i = below(&m->random, STALLS);
    m->stalls[i] = oneIn(&m->random, 8) ? 0 : nextSerial();
    rts_setElem(capOf(at), sharedPart(SHARED_STALLS), stallIndex(m, i),
                m->stalls[i] == 0 ? CAPSTAN_UNIT : newParcel(capOf(at), m->stalls[i]));
}

void compareStalls(At *at)
{
    Mutator *m = at->m;
    HaskellObj stalls = sharedPart(SHARED_STALLS);
    for (size_t i = 0; i < STALLS; i++) {
        HaskellObj v = rts_getElem(stalls, stallIndex(m, i));
        DEMAND(m, m->stalls[i] == 0 ? v == CAPSTAN_UNIT : isRightParcel(v, m->stalls[i]),
               "element %zu of the shared array should be parcel %#zx, and is %p", stallIndex(m, i), (size_t)m->stalls[i], (void *)v);
    }
}

/* ---- Thunks -------------------------------------------------------------------------------------------------------- */

CAPSTAN_THUNK(gcCommon, 1)
{
    uint64_t serial = (uint64_t)rts_smallIntValue(rts_thunkVar(self, 0));
    atomic_fetch_add(&shared.runs[serial % SERIALS], 1);
    for (uint64_t n = numberOf(serial, 3) % 8; n > 0; n--) {
        rts_mkBytes(stack->cap, NULL, 300);
        if (n % 4 == 0) rts_yield(stack);
        else rts_poll(stack);
    }
    return newParcel(stack->cap, serial);
}

static void lockPlace(size_t i)
{
    while (atomic_exchange_explicit(&shared.locks[i], true, memory_order_acquire)) sched_yield();
}
static void unlockPlace(size_t i) { atomic_store_explicit(&shared.locks[i], false, memory_order_release); }

/* Evaluate one, together with whoever else does; or put another in its place. */
void stepShared(At *at)
{
    Mutator *m = at->m;
    size_t i = below(&m->random, LAZIES);
    HaskellObj var = rts_getElem(sharedPart(SHARED_LAZIES), i);
    lockPlace(i);
    if (shared.lazySerials[i] == 0 || oneIn(&m->random, 4)) {
        shared.lazySerials[i] = nextSerial();
        HaskellObj serial = CAPSTAN_SMALL_INT(shared.lazySerials[i]);
        atomic_store(&shared.runs[shared.lazySerials[i] % SERIALS], 0);
        rts_writeMutVar(capOf(at), var, rts_mkClosure(capOf(at), &gcCommon_info, &serial));
    }
    uint64_t serial = shared.lazySerials[i];
    HaskellObj thunk = rts_readMutVar(var);
    unlockPlace(i);
    bool raised;
    HaskellObj v = evaluateAt(at, thunk, &raised);
    DEMAND(m, !raised && isRightParcel(v, serial), "a shared thunk %s instead of parcel %#zx, %p", raised ? "raised" : "gave", (size_t)serial, (void *)v);
    unsigned runs = atomic_load(&shared.runs[serial % SERIALS]);
    DEMAND(m, runs == 1, "a shared thunk ran %u times", runs);
}

/* The CAF itself, as anybody would. */
void stepCaf(At *at)
{
    bool raised;
    HaskellObj parts = evaluateAt(at, &gcShared_closure, &raised);
    DEMAND(at->m, !raised && rts_arrayLength(parts) == SHARED_PARTS, "the shared CAF is not what it was");
    DEMAND(at->m, rts_arrayLength(partOf(parts, SHARED_CHANNELS)) == CHANNELS, "the channels are not what they were");
}

/* ---- The end ------------------------------------------------------------------------------------------------------- */

/* Wakes who waits, and takes what is left; again and again, until all are gone. */
CAPSTAN_IO(gcDrain)
{
    for (size_t i = 0; i < CHANNELS; i++) {
        HaskellObj v = CAPSTAN_UNIT, mvar = rts_getElem(sharedPart(SHARED_CHANNELS), i);
        if (rts_tryTakeMVar(stack, mvar, &v)) {
            if (v != CAPSTAN_FALSE) noteReceived(NULL, v);
        } else {
            rts_tryPutMVar(stack, mvar, CAPSTAN_FALSE);
        }
    }
    for (size_t i = 0; i < PILES; i++) takePile(NULL, NULL, stack->cap, rts_getElem(sharedPart(SHARED_PILES), i));
    return CAPSTAN_UNIT;
}

void drainShared(Capability **cap)
{
    rts_evalIO(cap, &gcDrain_closure, NULL);
    DEMAND(NULL, rts_getSchedStatus(*cap) == Success, "draining ended with status %d", (int)rts_getSchedStatus(*cap));
}

/*
 * For the tests of imports and adjustors: managed values made and read by the letters of a type string, closures that note what they are given.
 * Included by one file of a program; brings cmocka.h along.
 */
#ifndef CAPSTAN_TESTS_FOREIGN_H
#define CAPSTAN_TESTS_FOREIGN_H

#include "sched.h"

/* A C value of any type of the alphabet, as its bits. */
static inline HaskellObj madeOf(Capability *cap, char type, uint64_t bits)
{
    float f;
    double d;
    memcpy(&f, &bits, sizeof f); /* the low half, on machines that begin with it */
    memcpy(&d, &bits, sizeof d);
    switch (type) {
    case 'f': return rts_mkFloat(cap, f);
    case 'd': return rts_mkDouble(cap, d);
    case 'p': return rts_mkPtr(cap, (void *)(uintptr_t)bits);
    case 'L': return rts_mkInt64(cap, (HsInt64)bits);
    case 'W': return rts_mkInt32(cap, (HsInt32)bits);
    case 'S': return rts_mkInt16(cap, (HsInt16)bits);
    case 'B': return rts_mkInt8(cap, (HsInt8)bits);
    case 'l': return rts_mkWord64(cap, bits);
    case 'w': return rts_mkWord32(cap, (HsWord32)bits);
    case 's': return rts_mkWord16(cap, (HsWord16)bits);
    case 'b': return rts_mkWord8(cap, (HsWord8)bits);
    default: return CAPSTAN_UNIT;
    }
}

/* The bits that the managed value has as a value of that type; ~0 in the upper half where it is none. */
static inline uint64_t bitsOf(char type, HaskellObj v)
{
    uint64_t bits = 0;
    HsFloat f;
    HsDouble d;
    switch (type) {
    case 'f':
        f = rts_getFloat(v);
        memcpy(&bits, &f, sizeof f);
        return bits;
    case 'd':
        d = rts_getDouble(v);
        memcpy(&bits, &d, sizeof d);
        return bits;
    case 'p': return (uint64_t)(uintptr_t)rts_getPtr(v);
    case 'v': return v == CAPSTAN_UNIT ? 0 : 1;
    default: return (uint64_t)rts_getInt(v);
    }
}

/* What bitsOf gives for a C value of that type whose bits are these. */
static inline uint64_t canonical(char type, uint64_t bits)
{
    switch (type) {
    case 'f': case 'w': return (uint32_t)bits;
    case 's': return (uint16_t)bits;
    case 'b': return (uint8_t)bits;
    case 'W': return (uint64_t)(int64_t)(int32_t)bits;
    case 'S': return (uint64_t)(int64_t)(int16_t)bits;
    case 'B': return (uint64_t)(int64_t)(int8_t)bits;
    case 'v': return 0;
    default: return bits;
    }
}

/* An adjustor for a closure, made on a thread that holds no capability. */
static inline void *adjustorFor(HaskellObj closure, StgFunPtr wptr, const char *type)
{
    Capability *cap = rts_lock();
    HsStablePtr hptr = getStablePtr((StgPtr)closure);
    rts_unlock(cap);
    void *code = rts_createAdjustor(hptr, wptr, type);
    if (code == NULL) hs_free_stable_ptr(hptr);
    return code;
}

static inline size_t liveAdjustors(void)
{
    RtsAdjustorCounts counts;
    rts_getAdjustorCounts(&counts);
    return counts.live + counts.leaving;
}

#endif

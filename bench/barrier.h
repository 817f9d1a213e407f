/* barrier.h: managed loops over one operation of the heap, for figures B8a and B8w: an allocation, a store into a MutVar or an array.
 *
 * Each loop has a plain one beside it: the same loop with the same loads and stores, but without what the heap adds (the bump of the
 * allocation pointer and its test; the write barrier, and the calls around it if it is no inline function). The difference of the two is what
 * the heap costs. */
#ifndef BENCH_BARRIER_H
#define BENCH_BARRIER_H

#include <Rts.h>
#include <rts/Managed.h>

typedef struct Operation {
    const char *figure, *metric;
    HaskellObj loop, plain;    /* IO functions of how often; the answer is how often it was done */
    HsInt most;                /* 0: any number; else how often at most in one call, and each call wants a minor collection before it */
} Operation;

/* The last one has no metric. */
extern const Operation operations[];

/* An action that makes the old objects of the loops; they are old when three major collections have passed. */
CAPSTAN_EXTERN(makeOldObjects);

/* allocateObjects :: Int -> IO Int. So many objects of two words, dead at once. */
CAPSTAN_EXTERN(allocateObjects);

#endif

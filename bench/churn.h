/* churn.h: a live map that is churned, and the gaps that the program sees meanwhile (figure B8m).
 *
 * The map goes from numbers to messages. key(i) = i * 2654435761 mod 2^32, so that keys are scattered and no two of 2^32 are the
 * same; message i is a fresh object of two numbers, i and its key. First the messages 0 … entries - 1 are inserted. Then one
 * operation after the other, operation n (n = entries, entries + 1 ...) inserts message n under its key, takes the message n - entries out, and
 * checks that it is the one. So the map always has as many entries, each entry lives for that many operations, and
 * what dies is old. Behind each operation the thread reads the monotonic clock; a gap is what passed since the reading before: one
 * operation, one reading, and whatever the collector and the kernel did to the thread meanwhile. At the end the numbers in the map
 * are added up.
 *
 * Several workers have a map each, of entries / workers, and do count / workers operations each: together they have the same
 * live data and do the same work. Each program uses the map that its language's users would: here, and in C, a hash table of
 * at least as many buckets as entries whose chains are immutable here; in Java HashMap, in Go map, in Haskell IntMap, in OCaml Hashtbl. */
#ifndef BENCH_CHURN_H
#define BENCH_CHURN_H

#include "histogram.h"
#include <Rts.h>
#include <rts/Managed.h>
#include <stdint.h>

/* What one worker does, and what it saw. */
typedef struct Churn {
    int64_t entries, operations;    /* given */
    int64_t sum;                    /* of the numbers in its map at the end */
    uint64_t took, largest;         /* ns: all operations; the largest gap */
    Histogram gaps;
} Churn;

/* The sum that is right. */
static inline int64_t rightSum(const Churn *churn)
{
    int64_t n = churn->entries, first = churn->operations;
    return n * first + n * (n - 1) / 2;
}

static inline int64_t keyOf(int64_t i)
{
    return (int64_t)((uint64_t)i * 2654435761u & 0xffffffffu);
}

/* A power of two, as buckets for so many entries. */
static inline int64_t bucketsFor(int64_t entries)
{
    int64_t buckets = 16;
    while (buckets < entries) buckets *= 2;
    return buckets;
}

/* churnMaps :: Int -> Ptr -> IO (). How many workers, the calling thread being the first of them; as many Churns. */
CAPSTAN_EXTERN(churnMaps);

#endif

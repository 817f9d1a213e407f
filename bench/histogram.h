/* Log-linear histogram of nanoseconds, after Gil Tene's HdrHistogram (whose C library Debian 12 lacks): exact below 128, 64
 * equal steps to each power of two above, so that a value read back is at most 1.6% too large. */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_STEPS_LOG2 6
#define HISTOGRAM_STEPS (1u << HISTOGRAM_STEPS_LOG2)
#define HISTOGRAM_BUCKETS ((64 - HISTOGRAM_STEPS_LOG2 + 1) * HISTOGRAM_STEPS)

typedef struct Histogram {
    uint64_t total;
    uint64_t buckets[HISTOGRAM_BUCKETS];
} Histogram;

static inline uint32_t histogramBucket(uint64_t value)
{
    if (value < HISTOGRAM_STEPS) return (uint32_t)value;
    uint32_t scale = 63u - (uint32_t)__builtin_clzll(value) - HISTOGRAM_STEPS_LOG2;
    return scale * HISTOGRAM_STEPS + (uint32_t)(value >> scale);
}

/* Counts one value; the total is counted when histograms are added up. */
static inline void recordValue(Histogram *h, uint64_t value)
{
    h->buckets[histogramBucket(value)]++;
}

void addHistogram(Histogram *into, const Histogram *from);

/* The least value that at least the given part (0 … 1) of all values does not exceed; 0 of an empty histogram. */
uint64_t histogramQuantile(const Histogram *h, double part);

#endif

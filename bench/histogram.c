#include "histogram.h"

void addHistogram(Histogram *into, const Histogram *from)
{
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        into->buckets[i] += from->buckets[i];
        into->total += from->buckets[i];
    }
}

static uint64_t largestInBucket(uint32_t bucket)
{
    if (bucket < HISTOGRAM_STEPS) return bucket;
    uint32_t scale = bucket / HISTOGRAM_STEPS - 1;
    uint64_t step = bucket - scale * HISTOGRAM_STEPS;
    return ((step + 1) << scale) - 1;
}

uint64_t histogramQuantile(const Histogram *h, double part)
{
    double wanted = part * (double)h->total;
    uint64_t seen = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen > 0 && (double)seen >= wanted) return largestInBucket(i);
    }
    return 0;
}

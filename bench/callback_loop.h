/* The callers of figures B3 and B3a: C that knows a function pointer and nothing else.  Shared by all subjects. */
#ifndef BENCH_CALLBACK_LOOP_H
#define BENCH_CALLBACK_LOOP_H

#include "clock.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_NS 10000000u

typedef int64_t Callback(int64_t);

/* Calls f, which adds one, so many times.  Not inlined: the compiler is not to see what f is. */
__attribute__((noinline)) static int64_t callOften(Callback *f, int64_t times)
{
    int64_t n = 0;
    for (int64_t i = 0; i < times; i++) n = f(n);
    return n;
}

/* ns of one operation in the fastest batch within the seconds; batch(ctx, n) does n operations, and is doubled until it takes 10 ms. */
static double fastestBatch(void (*batch)(void *ctx, int64_t n), void *ctx, double seconds)
{
    int64_t n = 1000;
    double best = 1e30;
    for (uint64_t end = nowNs() + (uint64_t)(seconds * 1e9), now = 0; now < end || best == 1e30;) {
        uint64_t start = nowNs();
        batch(ctx, n);
        now = nowNs();
        if (now - start < BATCH_NS) n *= 2;
        else if ((double)(now - start) / (double)n < best) best = (double)(now - start) / (double)n;
    }
    return best;
}

static void callBatch(void *f, int64_t n)
{
    if (callOften((Callback *)f, n) == n) return;
    fprintf(stderr, "bench: a callback did not add one\n");
    exit(1);
}

static inline void printFigure(const char *metric, double value, const char *unit)
{
    printf("%s\t%.6g\t%s\n", metric, value, unit);
}

/* FIGURE --seconds=S */
static inline double readSeconds(int argc, char **argv, const char **figure)
{
    double seconds = 0.3;
    *figure = "";
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--seconds=", 10) == 0) seconds = strtod(argv[i] + 10, NULL);
        else *figure = argv[i];
    }
    return seconds;
}

#endif

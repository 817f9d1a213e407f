/* What the programs of the heap's figures share, ours (heap_capstan.c) and those of the peers in C (peers/heap.c): the command
 * line, figures on standard output, and how much memory the process has. */
#ifndef BENCH_HEAP_OPTIONS_H
#define BENCH_HEAP_OPTIONS_H

#include <stdint.h>

typedef struct HeapOptions {
    const char *figure;
    const char *operation;    /* NULL: not said */
    int workers;
    int64_t depth, entries, count;    /* 0: not said */
    double seconds;
} HeapOptions;

/* FIGURE [--workers=N] [--depth=N] [--entries=N] [--count=N] [--seconds=S] [--operation=NAME]; ends the process with a message if
 * it makes no sense. */
HeapOptions readHeapOptions(int argc, char **argv);

/* The value, or what it is when it was not said. */
static inline int64_t saidOr(int64_t value, int64_t otherwise)
{
    return value != 0 ? value : otherwise;
}

/* metric<TAB>value<TAB>unit */
void printFigure(const char *metric, double value, const char *unit);

/* Prints why and ends the process. */
_Noreturn void giveUp(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Memory of the process: resident now, and at most so far. Bytes. */
double residentBytes(void);
double peakResidentBytes(void);

/* The nodes of a full binary tree, and what the figure `trees` has alive at most, in nodes: the stretch tree, or the long-lived
 * tree and one of the same depth of each worker. */
static inline int64_t nodesOfTree(int64_t depth)
{
    return ((int64_t)1 << (depth + 1)) - 1;
}
int64_t mostNodesAlive(int64_t depth, int workers);

/* The median; sorts the values. */
double medianOf(double *values, int count);

#endif

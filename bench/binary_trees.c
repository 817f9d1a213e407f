/* binary-trees of the Computer Language Benchmarks Game in managed C; trees.h says what it does, trees.c does it.
 *
 *     binary-trees [DEPTH [WORKERS]]        default: 16 1; a DEPTH below 6 counts as 6, as in the game
 *
 * Prints what the game's programs print. Options of the runtime come from the environment: CAPSTANRTS='-A4m --verify-heap'. */
#include "trees.h"
#include <stdio.h>
#include <stdlib.h>

#define MOST_DEPTH 28
#define MOST_WORKERS 64

static void printTree(const char *which, long depth, int64_t nodes)
{
    printf("%s tree of depth %ld\t check: %lld\n", which, depth, (long long)nodes);
}

static void printCounts(const TreeCounts *counts, long depth)
{
    printTree("stretch", depth + 1, counts->stretch);
    for (long d = LEAST_TREE; d <= depth; d += 2)
        printf("%lld\t trees of depth %ld\t check: %lld\n", (long long)counts->trees[d], d, (long long)counts->nodes[d]);
    printTree("long lived", depth, counts->longLived);
}

/* Whether it came to its end. */
static bool runIt(long depth, long workers, TreeCounts *counts)
{
    Capability *cap = rts_lock();
    HaskellObj action = rts_apply(cap, &runTrees_closure, rts_mkInt(cap, depth));
    action = rts_apply(cap, rts_apply(cap, action, rts_mkInt(cap, workers)), rts_mkPtr(cap, counts));
    rts_evalIO(&cap, action, NULL);
    bool done = rts_getSchedStatus(cap) == Success;
    if (!done) {
        char text[256] = "";
        rts_showException(cap, rts_getException(cap), text, sizeof text);
        fprintf(stderr, "binary-trees: %s\n", text);
    }
    rts_unlock(cap);
    return done;
}

/* A whole number from least to most, or -1. */
static long numberOf(const char *text, long least, long most)
{
    char *end;
    long n = strtol(text, &end, 10);
    return end == text || *end != '\0' || n < least || n > most ? -1 : n;
}

int main(int argc, char **argv)
{
    static TreeCounts counts;
    char message[256];
    RtsConfig config = RTS_CONFIG_INIT;
    long depth = argc > 1 ? numberOf(argv[1], 0, MOST_DEPTH) : 16, workers = argc > 2 ? numberOf(argv[2], 1, MOST_WORKERS) : 1;
    if (argc > 3 || depth < 0 || workers < 0) {
        fprintf(stderr, "usage: binary-trees [DEPTH [WORKERS]], at most %d and %d\n", MOST_DEPTH, MOST_WORKERS);
        return 2;
    }
    if (depth < LEAST_TREE + 2) depth = LEAST_TREE + 2;
    config.capabilities = (unsigned)workers;
    config.rts_opts_enabled = RtsOptsAll;
    if (rts_start(&config, message, sizeof message) != RTS_OK) {
        fprintf(stderr, "binary-trees: %s\n", message);
        return 1;
    }
    bool done = runIt(depth, workers, &counts);
    if (done) printCounts(&counts, depth);
    hs_exit();
    return done && fflush(stdout) == 0 ? 0 : 1;
}

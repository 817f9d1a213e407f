/* The heap of C: the work and the options of ../heap_capstan.c, whose head says what is printed. Compiled twice: with BOEHM defined memory comes
 * from Boehm's conservative collector and nobody frees it, else from malloc (linked with jemalloc), and what is dead is freed at once.
 * No figures for operations, stable and major. */
#ifdef BOEHM
#define GC_THREADS
#include <gc/gc.h>
#endif
#include "clock.h"
#include "heap_options.h"
#include "histogram.h"
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_WORKERS 64
#define LEAST_TREE 4
#define TREE_DEPTHS 32
#define BURST_DEPTH 16

static void *newObject(size_t size)
{
#ifdef BOEHM
    void *object = GC_MALLOC(size);
#else
    void *object = malloc(size);
#endif
    if (object == NULL) giveUp("no memory");
    return object;
}

static void dropObject(void *object)
{
#ifndef BOEHM
    free(object);
#else
    (void)object;
#endif
}

/* ---- Trees ------------------------------------------------------------------------------------------------------ */

typedef struct Tree {
    struct Tree *left, *right;
} Tree;

static Tree *makeTree(int64_t depth)
{
    Tree *tree = newObject(sizeof *tree);
    tree->left = tree->right = NULL;
    if (depth > 0) {
        tree->left = makeTree(depth - 1);
        tree->right = makeTree(depth - 1);
    }
    return tree;
}

static int64_t countNodes(const Tree *tree)
{
    return tree->left == NULL ? 1 : 1 + countNodes(tree->left) + countNodes(tree->right);
}

static void dropTree(Tree *tree)
{
#ifndef BOEHM
    if (tree->left != NULL) {
        dropTree(tree->left);
        dropTree(tree->right);
    }
    free(tree);
#else
    (void)tree;
#endif
}

static int64_t makeAndCount(int64_t depth)
{
    Tree *tree = makeTree(depth);
    int64_t nodes = countNodes(tree);
    dropTree(tree);
    return nodes;
}

/* ---- Workers ---------------------------------------------------------------------------------------------------- */

/* Runs body(0) here and the others in threads of their own. */
static void share(int workers, void *(*body)(void *me))
{
    pthread_t threads[MOST_WORKERS];
    for (intptr_t me = 1; me < workers; me++)
        if (pthread_create(&threads[me], NULL, body, (void *)me) != 0) giveUp("no thread");
    body((void *)0);
    for (int me = 1; me < workers; me++) pthread_join(threads[me], NULL);
}

/* ---- trees ------------------------------------------------------------------------------------------------------ */

static HeapOptions options;
static int64_t treeDepth;
static _Atomic int64_t nodesOfDepth[TREE_DEPTHS];

static int64_t treesOf(int64_t depth)
{
    return (int64_t)1 << (treeDepth - depth + LEAST_TREE);
}

static void *buildShare(void *number)
{
    intptr_t me = (intptr_t)number;
    for (int64_t d = LEAST_TREE; d <= treeDepth; d += 2) {
        int64_t trees = treesOf(d), nodes = 0;
        for (int64_t i = trees * me / options.workers; i < trees * (me + 1) / options.workers; i++) nodes += makeAndCount(d);
        nodesOfDepth[d] += nodes;
    }
    return NULL;
}

static void measureTrees(void)
{
    treeDepth = saidOr(options.depth, 18);
    uint64_t start = nowNs();
    int64_t stretch = makeAndCount(treeDepth + 1);
    Tree *longLived = makeTree(treeDepth);
    share(options.workers, buildShare);
    int64_t last = countNodes(longLived);
    dropTree(longLived);
    double seconds = (double)(nowNs() - start) / 1e9;
    bool right = stretch == nodesOfTree(treeDepth + 1) && last == nodesOfTree(treeDepth);
    for (int64_t d = LEAST_TREE; d <= treeDepth; d += 2) right = right && nodesOfDepth[d] == treesOf(d) * nodesOfTree(d);
    if (!right) giveUp("the trees have lost or won nodes");
    printFigure("seconds", seconds, "s");
    printFigure("peak", peakResidentBytes() / 1e6, "MB");
    printFigure("peak_over_live", peakResidentBytes() / (double)(mostNodesAlive(treeDepth, options.workers) * (int64_t)sizeof(Tree)), "ratio");
}

/* ---- gaps ------------------------------------------------------------------------------------------------------- */

typedef struct Message {
    int64_t number, key;
} Message;

typedef struct Link {
    int64_t key;
    Message *message;
    struct Link *next;
} Link;

typedef struct Worker {
    int64_t sum;
    uint64_t took, largest;
    Histogram gaps;
} Worker;

static Worker *workers;
static int64_t entries, operations, buckets;

static int64_t keyOf(int64_t i)
{
    return (int64_t)((uint64_t)i * 2654435761u & 0xffffffffu);
}

static Link **bucketOf(Link **map, int64_t key)
{
    uint64_t bits = (uint64_t)key;
    return &map[(bits ^ bits >> 16) & (uint64_t)(buckets - 1)];
}

static void insert(Link **map, int64_t number)
{
    int64_t key = keyOf(number);
    Message *message = newObject(sizeof *message);
    Link *link = newObject(sizeof *link), **bucket = bucketOf(map, key);
    *message = (Message){number, key};
    *link = (Link){key, message, *bucket};
    *bucket = link;
}

static void take(Link **map, int64_t number)
{
    int64_t key = keyOf(number);
    Link **at = bucketOf(map, key), *link;
    while ((link = *at) != NULL && link->key != key) at = &link->next;
    if (link == NULL || link->message->number != number) giveUp("message %lld is not in the map", (long long)number);
    *at = link->next;
    dropObject(link->message);
    dropObject(link);
}

static void churn(Link **map, Worker *w)
{
    int64_t n = 0;
    for (; n < entries; n++) insert(map, n);
    uint64_t start = nowNs(), last = start;
    for (; n < entries + operations; n++) {
        insert(map, n);
        take(map, n - entries);
        uint64_t now = nowNs(), gap = now - last;
        recordValue(&w->gaps, gap);
        if (gap > w->largest) w->largest = gap;
        last = now;
    }
    w->took = last - start;
}

static void *churnOne(void *number)
{
    Worker *w = &workers[(intptr_t)number];
    Link **map = newObject((size_t)buckets * sizeof *map);
    memset(map, 0, (size_t)buckets * sizeof *map);
    churn(map, w);
    for (int64_t i = 0; i < buckets; i++)
        for (Link *link = map[i]; link != NULL; link = link->next) w->sum += link->message->number;
    return NULL;
}

static void measureGaps(void)
{
    static Histogram all;
    uint64_t largest = 0, took = 0;
    entries = saidOr(options.entries, 1000000) / options.workers;
    operations = saidOr(options.count, 2000000) / options.workers;
    for (buckets = 16; buckets < entries; ) buckets *= 2;
    workers = calloc((size_t)options.workers, sizeof *workers);
    if (workers == NULL) giveUp("no memory");
    share(options.workers, churnOne);
    for (int i = 0; i < options.workers; i++) {
        if (workers[i].sum != entries * operations + entries * (entries - 1) / 2) giveUp("the map does not hold what was put into it");
        addHistogram(&all, &workers[i].gaps);
        if (workers[i].largest > largest) largest = workers[i].largest;
        took += workers[i].took;
    }
    printFigure("gap_max", (double)largest / 1e6, "ms");
    printFigure("gap_p99.9", (double)histogramQuantile(&all, 0.999) / 1e3, "us");
    printFigure("operation", (double)took / (double)(operations * options.workers), "ns");
}

/* ---- burst ------------------------------------------------------------------------------------------------------ */

static __attribute__((noinline)) void makeBurst(void)
{
    int64_t treeNodes = nodesOfTree(BURST_DEPTH), count = (int64_t)(1e9 / (double)sizeof(Tree) / (double)treeNodes) + 1, nodes = 0;
    Tree **trees = newObject((size_t)count * sizeof *trees);
    for (int64_t i = 0; i < count; i++) trees[i] = makeTree(BURST_DEPTH);
    for (int64_t i = 0; i < count; i++) nodes += countNodes(trees[i]);
    if (nodes != count * treeNodes) giveUp("the trees have lost or won nodes");
    for (int64_t i = 0; i < count; i++) {
        dropTree(trees[i]);
        trees[i] = NULL;
    }
    dropObject(trees);
}

static void measureBurst(void)
{
    int64_t depth = saidOr(options.depth, 20);
    Tree *live = makeTree(depth);
    makeBurst();
    sleepSeconds(options.seconds > 1 ? options.seconds : 5);
    double resident = residentBytes(), bytes = (double)nodesOfTree(depth) * sizeof(Tree);
    if (countNodes(live) != nodesOfTree(depth)) giveUp("the trees have lost or won nodes");
    printFigure("resident", resident / 1e6, "MB");
    printFigure("burst_peak", peakResidentBytes() / 1e6, "MB");
    printFigure("over_allowed", resident / (1.3 * bytes + 16e6), "ratio");
}

/* ---- Start ------------------------------------------------------------------------------------------------------ */

int main(int argc, char **argv)
{
#ifdef BOEHM
    GC_INIT();
    GC_allow_register_threads();
#endif
    options = readHeapOptions(argc, argv);
    if (strcmp(options.figure, "trees") == 0) measureTrees();
    else if (strcmp(options.figure, "gaps") == 0) measureGaps();
    else if (strcmp(options.figure, "burst") == 0) measureBurst();
    else giveUp("unknown figure %s", options.figure);
    fflush(stdout);
    _Exit(0);
}

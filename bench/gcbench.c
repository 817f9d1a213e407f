/* GCBench in managed C: the artificial benchmark of garbage collectors by John Ellis and Pete Kovac (Post Communications), changed
 * by Hans Boehm, written anew after his description and program of 2000 (https://www.hboehm.info/gc/gc_bench/).
 *
 * Complete binary trees of objects of four words (left, right, two numbers) are built: a stretch tree first, to grow the heap, which is
 * dropped; then a long-lived tree, top down, and a long-lived array of numbers; then, for each depth of 4, 6, 8 ... up to the long-lived
 * tree's, as many trees as have twice the stretch tree's nodes together: once top down (a parent is made before its children, which
 * are then written into it), once bottom up (children before parents). Nothing but the long-lived data survives its turn.
 * At the end the long-lived data are looked at.
 *
 * What Boehm's program has as struct fields is an array of four elements here, since constructors never change. Arrays of doubles
 * there; here an array of boxed numbers, the first half of which are set.
 *
 *     gcbench [STRETCH [LONG-LIVED [ELEMENTS]]]     default: 18 16 500000
 *
 * Prints a line a depth, with the number of trees, the nodes counted in the last one built each way, and ms; and a line at the end.
 * Options of the runtime come from the environment, as in CAPSTANRTS='-A4m --verify-heap'. */
#include "clock.h"
#include <Rts.h>
#include <rts/Managed.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define LEAST_DEPTH 4
#define MOST_DEPTH 26
#define BATCH 1000
#define LINE 200

enum { NODE_LEFT, NODE_RIGHT, NODE_I, NODE_J, NODE_WORDS };

typedef struct Sizes {
    long stretch, longLived, elements;
} Sizes;

static void *putLine(void *line)
{
    puts(line);
    return NULL;
}

/* Writing may block: so by a safe call. */
static __attribute__((format(printf, 2, 3))) void say(Stack *stack, const char *format, ...)
{
    char line[LINE];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    rts_safeCall(stack, putLine, line);
}

static int64_t treeSize(long depth)
{
    return ((int64_t)1 << (depth + 1)) - 1;
}

static HaskellObj newNode(Stack *stack, HaskellObj left, HaskellObj right)
{
    HaskellObj node = rts_mkArray(stack->cap, NODE_WORDS, CAPSTAN_SMALL_INT(0));
    rts_setElem(stack->cap, node, NODE_LEFT, left);
    rts_setElem(stack->cap, node, NODE_RIGHT, right);
    return node;
}

/* Gives node, which is a leaf, children down to the depth. Raises without memory: before it would write into poison. */
static void populate(Stack *stack, long depth, HaskellObj node)
{
    if (depth <= 0) return;
    CAPSTAN_ROOTS(stack, node);
    rts_poll(stack);
    rts_setElem(stack->cap, node, NODE_LEFT, newNode(stack, CAPSTAN_UNIT, CAPSTAN_UNIT));
    rts_setElem(stack->cap, node, NODE_RIGHT, newNode(stack, CAPSTAN_UNIT, CAPSTAN_UNIT));
    populate(stack, depth - 1, rts_getElem(node, NODE_LEFT));
    populate(stack, depth - 1, rts_getElem(node, NODE_RIGHT));
    CAPSTAN_UNROOT(stack);
}

static HaskellObj makeBottomUp(Stack *stack, long depth)
{
    if (depth <= 0) return newNode(stack, CAPSTAN_UNIT, CAPSTAN_UNIT);
    rts_poll(stack);
    HaskellObj left = makeBottomUp(stack, depth - 1);
    CAPSTAN_ROOTS(stack, left);
    HaskellObj right = makeBottomUp(stack, depth - 1);
    CAPSTAN_UNROOT(stack);
    return newNode(stack, left, right);
}

static HaskellObj makeTopDown(Stack *stack, long depth)
{
    HaskellObj tree = newNode(stack, CAPSTAN_UNIT, CAPSTAN_UNIT);
    CAPSTAN_ROOTS(stack, tree);
    populate(stack, depth, tree);
    CAPSTAN_UNROOT(stack);
    return tree;
}

/* Nodes of a tree; a leaf's left child is unit. */
static int64_t countNodes(Stack *stack, HaskellObj node)
{
    if (node == CAPSTAN_UNIT) return 0;
    HaskellObj right = rts_getElem(node, NODE_RIGHT);
    CAPSTAN_ROOTS(stack, right);
    int64_t nodes = 1 + countNodes(stack, rts_getElem(node, NODE_LEFT));
    CAPSTAN_UNROOT(stack);
    nodes += countNodes(stack, right);
    rts_poll(stack);
    return nodes;
}

/* Builds so many, counts the last. */
static int64_t buildTrees(Stack *stack, HaskellObj (*make)(Stack *stack, long depth), long depth, int64_t count)
{
    HaskellObj tree = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, tree);
    for (int64_t i = 0; i < count; i++) {
        tree = CAPSTAN_UNIT;
        tree = make(stack, depth);
    }
    rts_poll(stack);
    int64_t nodes = countNodes(stack, tree);
    CAPSTAN_UNROOT(stack);
    return nodes;
}

static void timeConstruction(Stack *stack, const Sizes *sizes, long depth)
{
    int64_t count = 2 * treeSize(sizes->stretch) / treeSize(depth);
    uint64_t start = nowNs();
    int64_t down = buildTrees(stack, makeTopDown, depth, count);
    uint64_t middle = nowNs();
    int64_t up = buildTrees(stack, makeBottomUp, depth, count);
    uint64_t end = nowNs();
    say(stack, "%lld trees of depth %ld: top down %lld nodes, bottom up %lld nodes; %.1f and %.1f ms", (long long)count, depth,
        (long long)down, (long long)up, (double)(middle - start) / 1e6, (double)(end - middle) / 1e6);
}

static HaskellObj makeArray(Stack *stack, long elements)
{
    HaskellObj array = rts_mkArray(stack->cap, (size_t)elements, CAPSTAN_UNIT);
    CAPSTAN_ROOTS(stack, array);
    rts_poll(stack);
    for (long i = 1; i < elements / 2; i++) {
        rts_setElem(stack->cap, array, (size_t)i, rts_mkDouble(stack->cap, 1.0 / (double)i));
        if (i % BATCH == 0) rts_poll(stack);
    }
    CAPSTAN_UNROOT(stack);
    return array;
}

/* Whether each number is what it was. */
static bool arrayIsRight(HaskellObj array, long elements)
{
    bool right = rts_arrayLength(array) == (size_t)elements;
    for (long i = 1; right && i < elements / 2; i++) right = rts_getDouble(rts_getElem(array, (size_t)i)) == 1.0 / (double)i;
    return right;
}

/* bench :: Ptr -> IO Bool. The Sizes; whether the long-lived data are right at the end. */
CAPSTAN_IO(bench, sizesValue)
{
    const Sizes *sizes = rts_getPtr(sizesValue);
    HaskellObj longLived = CAPSTAN_UNIT, array = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, longLived, array);
    int64_t nodes = buildTrees(stack, makeBottomUp, sizes->stretch, 1);
    say(stack, "stretch tree of depth %ld: %lld nodes", sizes->stretch, (long long)nodes);
    longLived = makeTopDown(stack, sizes->longLived);
    array = makeArray(stack, sizes->elements);
    for (long depth = LEAST_DEPTH; depth <= sizes->longLived; depth += 2) timeConstruction(stack, sizes, depth);
    nodes = countNodes(stack, longLived);
    bool right = nodes == treeSize(sizes->longLived) && arrayIsRight(array, sizes->elements);
    CAPSTAN_UNROOT(stack);
    say(stack, "long-lived tree of depth %ld: %lld nodes; array of %ld elements: %s", sizes->longLived, (long long)nodes,
        sizes->elements, right ? "right" : "WRONG");
    return right ? CAPSTAN_TRUE : CAPSTAN_FALSE;
}

/* ---- The host ---------------------------------------------------------------------------------------------------- */

static bool runBench(Sizes *sizes)
{
    HaskellObj right;
    Capability *cap = rts_lock();
    rts_evalIO(&cap, rts_apply(cap, &bench_closure, rts_mkPtr(cap, sizes)), &right);
    if (rts_getSchedStatus(cap) != Success) {
        char text[256] = "";
        rts_showException(cap, rts_getException(cap), text, sizeof text);
        fprintf(stderr, "gcbench: %s\n", text);
    }
    bool done = rts_getSchedStatus(cap) == Success && rts_getBool(right);
    rts_unlock(cap);
    return done;
}

static bool readNumber(const char *text, long least, long most, long *number)
{
    char *end;
    *number = strtol(text, &end, 10);
    return end != text && *end == '\0' && *number >= least && *number <= most;
}

int main(int argc, char **argv)
{
    Sizes sizes = {18, 16, 500000};
    char message[256];
    RtsConfig config = RTS_CONFIG_INIT;
    if (argc > 4 || (argc > 1 && !readNumber(argv[1], LEAST_DEPTH, MOST_DEPTH, &sizes.stretch)) ||
        (argc > 2 && !readNumber(argv[2], LEAST_DEPTH, MOST_DEPTH, &sizes.longLived)) ||
        (argc > 3 && !readNumber(argv[3], 0, 100000000, &sizes.elements))) {
        fprintf(stderr, "usage: gcbench [STRETCH [LONG-LIVED [ELEMENTS]]]: depths from %d to %d\n", LEAST_DEPTH, MOST_DEPTH);
        return 2;
    }
    config.capabilities = 1;
    config.rts_opts_enabled = RtsOptsAll;
    if (rts_start(&config, message, sizeof message) != RTS_OK) {
        fprintf(stderr, "gcbench: %s\n", message);
        return 1;
    }
    uint64_t start = nowNs();
    bool done = runBench(&sizes);
    if (done) printf("%.1f ms in all\n", (double)(nowNs() - start) / 1e6);
    hs_exit();
    return done && fflush(stdout) == 0 ? 0 : 1;
}

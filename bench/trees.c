#include "trees.h"
#include <rts/Threads.h>
#include <stdatomic.h>

/* Both children are unit in a leaf. */
CAPSTAN_CON(TreeNode, 0, left, right)

/* Polls where nothing of this frame is alive yet: only the callers' left halves are rooted. */
HaskellObj makeTree(Stack *stack, HsInt depth)
{
    if (depth == 0) return TreeNode_new(stack->cap, CAPSTAN_UNIT, CAPSTAN_UNIT);
    rts_poll(stack);
    HaskellObj left = makeTree(stack, depth - 1);
    CAPSTAN_ROOTS(stack, left);
    HaskellObj right = makeTree(stack, depth - 1);
    CAPSTAN_UNROOT(stack);
    return TreeNode_new(stack->cap, left, right);
}

/* Polls where nothing of this frame is alive any more. */
HsInt countNodes(Stack *stack, HaskellObj tree)
{
    HaskellObj left = CAPSTAN_GET(TreeNode, tree, left), right = CAPSTAN_GET(TreeNode, tree, right);
    if (left == CAPSTAN_UNIT) return 1;
    CAPSTAN_ROOTS(stack, right);
    HsInt nodes = 1 + countNodes(stack, left);
    CAPSTAN_UNROOT(stack);
    nodes += countNodes(stack, right);
    rts_poll(stack);
    return nodes;
}

/* Without memory there may be poison in the tree: the poll raises then, before anybody reads it. */
static HaskellObj makeWholeTree(Stack *stack, HsInt depth)
{
    HaskellObj tree = makeTree(stack, depth);
    CAPSTAN_ROOTS(stack, tree);
    rts_poll(stack);
    CAPSTAN_UNROOT(stack);
    return tree;
}

/* The trees that worker number me of so many builds. */
static void buildShare(Stack *stack, HsInt me, HsInt workers, HsInt depth, TreeCounts *counts)
{
    for (HsInt d = LEAST_TREE; d <= depth; d += 2) {
        HsInt trees = counts->trees[d], nodes = 0;
        for (HsInt i = trees * me / workers; i < trees * (me + 1) / workers; i++)
            nodes += countNodes(stack, makeWholeTree(stack, d));
        atomic_fetch_add_explicit(&counts->nodes[d], nodes, memory_order_relaxed);
    }
}

enum { SHARE_ME, SHARE_WORKERS, SHARE_DEPTH, SHARE_COUNTS, SHARE_DONE, SHARE_VARIABLES };

CAPSTAN_LAMBDA_IO(buildShareAndSay, SHARE_VARIABLES)
{
    HsInt me = rts_intValue(rts_freeVar(self, SHARE_ME)), workers = rts_intValue(rts_freeVar(self, SHARE_WORKERS));
    HsInt depth = rts_intValue(rts_freeVar(self, SHARE_DEPTH));
    TreeCounts *counts = rts_getPtr(rts_freeVar(self, SHARE_COUNTS));
    HaskellObj done = rts_freeVar(self, SHARE_DONE);
    CAPSTAN_ROOTS(stack, done);
    buildShare(stack, me, workers, depth, counts);
    rts_putMVar(stack, done, CAPSTAN_UNIT);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

static void buildAll(Stack *stack, HsInt workers, HsInt depth, TreeCounts *counts)
{
    HaskellObj variables[SHARE_VARIABLES] = {
        [SHARE_WORKERS] = rts_int(stack, workers), [SHARE_DEPTH] = rts_int(stack, depth),
        [SHARE_COUNTS] = rts_mkPtr(stack->cap, counts), [SHARE_DONE] = rts_mkMVar(stack->cap),
    };
    for (HsInt me = 1; me < workers; me++) {
        variables[SHARE_ME] = rts_int(stack, me);
        rts_fork(stack, rts_mkClosure(stack->cap, &buildShareAndSay_info, variables));
    }
    HaskellObj done = variables[SHARE_DONE];
    CAPSTAN_ROOTS(stack, done);
    buildShare(stack, 0, workers, depth, counts);
    for (HsInt me = 1; me < workers; me++) rts_takeMVar(stack, done);
    CAPSTAN_UNROOT(stack);
}

CAPSTAN_IO(runTrees, depthValue, workersValue, countsValue)
{
    HsInt depth = rts_intValue(depthValue), workers = rts_intValue(workersValue);
    TreeCounts *counts = rts_getPtr(countsValue);
    if (depth < LEAST_TREE || depth >= TREE_DEPTHS - 1 || workers < 1) rts_raiseError(stack, "runTrees: no such depth or number of workers");
    for (HsInt d = LEAST_TREE; d <= depth; d += 2) counts->trees[d] = (int64_t)1 << (depth - d + LEAST_TREE);
    counts->stretch = countNodes(stack, makeWholeTree(stack, depth + 1));
    HaskellObj longLived = makeWholeTree(stack, depth);
    CAPSTAN_ROOTS(stack, longLived);
    buildAll(stack, workers, depth, counts);
    CAPSTAN_UNROOT(stack);
    counts->longLived = countNodes(stack, longLived);
    return CAPSTAN_UNIT;
}

/* ---- Trees that stay -------------------------------------------------------------------------------------------- */

#define PLACES 2

CAPSTAN_CAF(places)
{
    HaskellObj none = rts_mkArray(stack->cap, 0, CAPSTAN_UNIT);
    return rts_mkArray(stack->cap, PLACES, none);
}

static size_t placeOf(Stack *stack, HaskellObj place)
{
    HsInt n = rts_intValue(rts_force(stack, place));
    if (n < 0 || n >= PLACES) rts_raiseError(stack, "no place %ld for trees", (long)n);
    return (size_t)n;
}

/* What was there may be collected while the new ones are made. */
CAPSTAN_IO(keepTrees, placeValue, countValue, depthValue)
{
    HsInt count = rts_intValue(countValue), depth = rts_intValue(depthValue);
    size_t place = placeOf(stack, placeValue);
    HaskellObj all = rts_force(stack, &places_closure), trees = rts_mkArray(stack->cap, (size_t)count, CAPSTAN_UNIT);
    rts_setElem(stack->cap, all, place, trees);
    CAPSTAN_ROOTS(stack, trees);
    rts_poll(stack);
    for (HsInt i = 0; i < count; i++) {
        HaskellObj tree = makeWholeTree(stack, depth);
        rts_setElem(stack->cap, trees, (size_t)i, tree);
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(countKept, placeValue)
{
    size_t place = placeOf(stack, placeValue);
    HaskellObj trees = rts_getElem(rts_force(stack, &places_closure), place);
    HsInt nodes = 0;
    CAPSTAN_ROOTS(stack, trees);
    for (size_t i = 0; i < rts_arrayLength(trees); i++) nodes += countNodes(stack, rts_getElem(trees, i));
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, nodes);
}

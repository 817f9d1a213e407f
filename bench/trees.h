/* trees.h: the binary-trees program of the Computer Language Benchmarks Game in managed C, with its trees shared out among threads.
 *
 * A stretch tree of depth + 1 is built, its nodes are counted, and it is dropped. A long-lived tree of the given depth is built and
 * kept. Then for each d of 4, 6, 8 ... up to the depth, 2^(depth - d + 4) trees of depth d are built, one after the other, their nodes
 * counted, and dropped. At the end the nodes of the long-lived tree are counted. A leaf is a node without children. */
#ifndef BENCH_TREES_H
#define BENCH_TREES_H

#include <Rts.h>
#include <rts/Managed.h>
#include <stdint.h>

#define LEAST_TREE 4
#define TREE_DEPTHS 32

/* Nodes counted; trees and nodes by depth. */
typedef struct TreeCounts {
    int64_t stretch, longLived;
    int64_t trees[TREE_DEPTHS];
    _Atomic int64_t nodes[TREE_DEPTHS];
} TreeCounts;

/* runTrees :: Int -> Int -> Ptr -> IO (). The depth (4 to 30); how many threads share the trees of each depth, the calling one being
 * the first of them (1 or more); a TreeCounts, all zeros. */
CAPSTAN_EXTERN(runTrees);

/* Trees that stay alive in one of two places, 0 and 1.
 * keepTrees :: Int -> Int -> Int -> IO (). A place, and how many trees of which depth take the place of those that are there.
 * countKept :: Int -> IO Int. The nodes of those that are there. */
CAPSTAN_EXTERN(keepTrees);
CAPSTAN_EXTERN(countKept);

/* A full tree of the depth; how many nodes it has. Recursive, with a frame each level. */
HaskellObj makeTree(Stack *stack, HsInt depth) CAPSTAN_SAFEPOINT;
HsInt countNodes(Stack *stack, HaskellObj tree) CAPSTAN_SAFEPOINT;

/* What a node takes in the heap. */
#define TREE_NODE_BYTES 24

#endif

/* What the tests of the block allocator share: a start and an end at which its tables add up, and groups with a stamp in each block. */
#ifndef TESTS_BLOCKS_H
#define TESTS_BLOCKS_H

#include "gc/megablock.h"
#include "os/memory.h"
#include "os/os.h"
#include "os/topology.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SECOND ((uint64_t)1000000000)
#define MIB    ((size_t)1 << 20)

static inline bool isShort(void)
{
    const char *scale = getenv("CAPSTAN_TEST_SCALE");
    return scale != NULL && strcmp(scale, "short") == 0;
}

static inline void assertSound(void)
{
    const char *wrong = checkBlocks();
    if (wrong != NULL) fail_msg("%s", wrong);
}

static inline void begin(unsigned nodes, size_t limit)
{
    assert_true(topologyInit(nodes, NULL, 0));
    assert_true(initBlocks(limit));
    assertSound();
    assert_int_equal(committedBytes(), 0);
}

static inline void end(void)
{
    assertSound();
    freeAllBlocks();
    assert_int_equal(heapSize, 0);
    assert_int_equal(committedBytes(), 0);
    topologyDestroy();
}

/* ---- A group that a test holds, stamped so that an overlap shows ---- */

static inline void stamp(Block *b, StgWord with)
{
    for (StgWord *p = b->start; p < blockEnd(b); p += BLOCK_WORDS) p[0] = p[BLOCK_WORDS - 1] = with;
}

static inline bool isStamped(const Block *b, StgWord with)
{
    for (const StgWord *p = b->start; p < blockEnd(b); p += BLOCK_WORDS)
        if (p[0] != with || p[BLOCK_WORDS - 1] != with) return false;
    return true;
}

static inline void assertGroup(const Block *b, size_t n)
{
    assert_non_null(b);
    assert_ptr_equal(b->free, b->start);
    assert_ptr_equal(blockEnd(b), b->start + n * BLOCK_WORDS);
    assert_int_equal(b->blocks, n);
    assert_int_equal(b->flags, 0);
    assert_null(b->link);
    assert_ptr_equal(blockOf(b->start), b);
    assert_ptr_equal(blockOf((char *)b->start + BLOCK_BYTES - 1), b);
    assert_true(isInHeap(b->start) && isInHeap(blockEnd(b) - 1));
    assert_int_equal((uintptr_t)b->start % BLOCK_BYTES, 0);
    assert_true(isAllocated(b->start) && isAllocated(blockEnd(b) - 1));
}

static inline Block *take(size_t n, unsigned node)
{
    Block *b = allocBlocks(n, node);
    assertGroup(b, n);
    return b;
}

static inline uintptr_t megaAddress(const Block *b) { return (uintptr_t)b & ~(MEGABLOCK_BYTES - 1); }

#endif

/*
 * The memory that the heap is made of: groups and where they lie, what is free and what comes of it, nodes, marks. After each step the allocator's tables
 * have to add up.
 */
#include "blocks.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- Groups ---- */

static void testGroupsOfEachSize(void **state)
{
    static const size_t large[] = { 64, 126, 127, 128, 191, 4000, 4031, 4032, 4095, 9000 };
    Block *held[80];
    size_t count = 0;
    begin(1, 0);
    for (size_t n = 1; n <= 63; n++) held[count++] = take(n, 0);
    for (size_t i = 0; i < sizeof large / sizeof *large; i++) {
        held[count++] = take(large[i], 0);
        assert_true(blocksForGroup(large[i]) >= large[i] + 1);
        assert_int_equal(blocksForGroup(large[i]) % 64, 0);
    }
    for (size_t i = 0; i < count; i++) stamp(held[i], i);
    assertSound();
    for (size_t i = 0; i < count; i++) {
        assert_true(isStamped(held[i], i));
        StgWord *last = blockEnd(held[i]) - 1;
        freeBlocks(held[i]);
        assert_false(isAllocated(last));
        assertSound();
    }
    assert_int_equal(megas.freeBlocks, 0);
    assert_int_equal(megas.freeMegas * MEGABLOCK_BYTES, committedBytes());
    assert_null(allocBlocks(0, 0));
    assert_null(allocBlocks(heapSize / BLOCK_BYTES, 0));
    assert_null(allocBlocks(heapSize / BLOCK_BYTES + 1, 0));
    assert_null(allocBlocks(SIZE_MAX, 0));
    assert_false(isAllocated(held) || isAllocated((void *)heapBase) || isAllocated((char *)heapBase - 1));
    end();
}

/* What was freed block by block is whole again. */
static void testFreeBlocksGrowTogether(void **state)
{
    Block *b[63];
    begin(1, 0);
    for (unsigned order = 0; order < 4; order++) {
        for (unsigned i = 0; i < 63; i++) b[i] = take(1, 0);
        assert_int_equal(committedBytes(), MEGABLOCK_BYTES);
        assert_int_equal(megas.freeMegas + megas.freeBlocks, 0);
        for (unsigned i = 0; i < 63; i++) {
            freeBlocks(b[order == 0 ? i : order == 1 ? 62 - i : order == 2 ? i * 2 % 63 : i * 5 % 63]);
            assertSound();
        }
        assert_int_equal(megas.freeMegas, 1);
        freeBlocks(take(63, 0));
        assert_int_equal(committedBytes(), MEGABLOCK_BYTES);
    }
    end();
}

/* Which megablock a group comes from: where there is least room for it, and then the lowest.  Single blocks stay with one until it is full. */
static void testLeastRoomThenLowest(void **state)
{
    Block *whole[4], *part[4][2];
    begin(1, 0);
    for (unsigned i = 0; i < 4; i++) {
        part[i][0] = take(40, 0);
        part[i][1] = take(i == 2 ? 20 : 18, 0);
        whole[i] = take(i == 2 ? 3 : 5, 0);
        assert_int_equal(megaAddress(part[i][0]), heapBase + i * MEGABLOCK_BYTES);
        assert_int_equal(megaAddress(whole[i]), megaAddress(part[i][0]));
    }
    for (unsigned i = 4; i-- > 0;) freeBlocks(whole[i]);
    static const unsigned sizes[] = { 1, 1, 2, 3, 1, 4, 5, 1 }, from[] = { 2, 2, 0, 0, 2, 1, 3, 1 };
    for (unsigned i = 0; i < 8; i++) {
        Block *b = take(sizes[i], 0);
        assert_int_equal((megaAddress(b) - heapBase) / MEGABLOCK_BYTES, from[i]);
        whole[i % 4] = b;
    }
    assert_int_equal(megas.freeBlocks, 0);
    assert_int_equal(committedBytes(), 4 * MEGABLOCK_BYTES);
    /* Wholly free ones come last, the lowest of them first. */
    freeBlocks(part[1][0]), freeBlocks(part[1][1]), freeBlocks(whole[1]), freeBlocks(whole[3]);
    freeBlocks(part[3][0]), freeBlocks(part[3][1]), freeBlocks(whole[2]);
    assert_int_equal(megas.freeMegas, 2);
    assert_int_equal(megaAddress(take(63, 0)), heapBase + MEGABLOCK_BYTES);
    assert_int_equal(megaAddress(take(63, 0)), heapBase + 3 * MEGABLOCK_BYTES);
    end();
}

static int compareBlocks(const void *a, const void *b)
{
    const Block *const *x = a, *const *y = b;
    return *x < *y ? -1 : *x > *y;
}

static void testBatches(void **state)
{
    Block *out[500];
    begin(2, 0);
    assert_int_equal(allocBlockBatch(out, 0, 0), 0);
    size_t count = 0;
    for (unsigned n = 1; count + n <= 500; n += 7) {
        unsigned got = 0;
        while (got < n) {
            unsigned more = allocBlockBatch(out + count + got, n - got, 1);
            assert_in_range(more, 1, n - got);
            got += more;
        }
        count += n;
    }
    for (size_t i = 0; i < count; i++) {
        assertGroup(out[i], 1);
        assert_int_equal(out[i]->node, 1);
    }
    qsort(out, count, sizeof *out, compareBlocks);
    for (size_t i = 1; i < count; i++) assert_ptr_not_equal(out[i - 1], out[i]);
    assertSound();
    /* What one node has is taken before anything is committed. */
    size_t before = committedBytes();
    for (size_t i = 0; i < count; i++) out[i]->link = i + 1 < count ? out[i + 1] : NULL;
    freeBlockList(out[0]);
    freeBlockList(NULL);
    assertSound();
    assert_int_equal(megas.freeBlocks, 0);
    assert_int_equal(allocBlockBatch(out, (unsigned)count, 1), count);
    assert_int_equal(committedBytes(), before);
    end();
}

/* A hole across stripes is found by who fits in exactly. */
static void testExactHole(void **state)
{
    Block *b[200];
    begin(1, 0);
    for (unsigned i = 0; i < 200; i++) {
        b[i] = take(63, 0);
        assert_int_equal(megaAddress(b[i]), heapBase + i * MEGABLOCK_BYTES);
    }
    for (unsigned i = 30; i < 100; i++) freeBlocks(b[i]);
    assert_int_equal(megaAddress(take(64 * 71 - 1, 0)), heapBase + 200 * MEGABLOCK_BYTES);
    assert_int_equal(megaAddress(take(64 * 70 - 1, 0)), heapBase + 30 * MEGABLOCK_BYTES);
    end();
}

/* An object may look like a header where one would be. */
static void testObjectOverHeaders(void **state)
{
    begin(1, 0);
    Block *part[2] = { take(30, 0), take(20, 0) }, *large = take(64 * 3 - 1, 0);
    freeBlocks(part[0]);
    for (unsigned bin = 0; bin < 70; bin++) {
        MegaHeader likeness = { .freeMask = ~(uint64_t)0, .bin = bin < 68 ? bin : UINT32_MAX - bin };
        for (unsigned i = 1; i < 3; i++) {
            memcpy((char *)megaAddress(large) + i * MEGABLOCK_BYTES, &likeness, sizeof likeness);
            assert_true(isAllocated((char *)megaAddress(large) + i * MEGABLOCK_BYTES + 5 * BLOCK_BYTES));
        }
        assertSound();
    }
    Block *one = take(1, 0);
    assert_true(isAllocated(part[1]->start) && isAllocated(one->start));
    assert_false(isAllocated(part[0]->start + BLOCK_WORDS));
    end();
}

/* Single blocks, groups and large groups in any order, against a stamp in each. */
enum { SLOTS = 600 };

static void randomSteps(unsigned seed, unsigned steps, unsigned check)
{
    static Block *held[SLOTS];
    memset(held, 0, sizeof held);
    for (unsigned i = 0; i < steps; i++) {
        unsigned slot = (unsigned)rand_r(&seed) % SLOTS, kind = (unsigned)rand_r(&seed) % 100;
        if (held[slot] != NULL) {
            assert_true(isStamped(held[slot], slot));
            freeBlocks(held[slot]);
            held[slot] = NULL;
        } else {
            size_t n = kind < 50 ? 1 : 1 + (unsigned)rand_r(&seed) % (kind < 90 ? 20 : kind < 98 ? 70 : 600);
            held[slot] = take(n, (unsigned)rand_r(&seed) % 4);
            stamp(held[slot], slot);
        }
        if (i % check == 0) assertSound();
        if (i % 997 == 0) decayBlocks(i * (SECOND / 1000));
    }
    for (unsigned slot = 0; slot < SLOTS; slot++)
        if (held[slot] != NULL) freeBlocks(held[slot]);
}

static void testRandom(void **state)
{
    for (unsigned nodes = 1; nodes <= 4; nodes++) {
        begin(nodes, 0);
        randomSteps(nodes, isShort() ? 3000 : 30000, 50);
        assert_int_equal(megas.freeBlocks, 0);
        assert_true(peakCommittedBytes() >= committedBytes());
        end();
    }
}

/* ---- Several threads ---- */

static _Atomic bool threadsEnd;

static void *takeAndFree(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg, got;
    Block *held[50] = { NULL }, *batch[20];
    for (unsigned i = 0; i < (isShort() ? 2000u : 20000u); i++) {
        unsigned slot = (unsigned)rand_r(&seed) % 50;
        if (held[slot] != NULL) {
            if (!isStamped(held[slot], (StgWord)arg)) return "another thread wrote into a block";
            if (!isAllocated(held[slot]->start)) return "a block in use counts as free";
            freeBlocks(held[slot]);
            held[slot] = NULL;
        } else {
            held[slot] = allocBlocks(rand_r(&seed) % 30 == 0 ? 70 : 1 + (unsigned)rand_r(&seed) % 9, seed % 3);
            if (held[slot] == NULL) return "memory was refused";
            stamp(held[slot], (StgWord)arg);
        }
        if (i % 8 != 0) continue;
        got = allocBlockBatch(batch, 20, seed % 3);
        for (unsigned b = 0; b < got; b++) {
            stamp(batch[b], (StgWord)arg);
            batch[b]->link = b + 1 < got ? batch[b + 1] : NULL;
        }
        for (unsigned b = 0; b < got; b++)
            if (!isStamped(batch[b], (StgWord)arg)) return "another thread wrote into a batch";
        if (got > 0) freeBlockList(batch[0]);
    }
    for (unsigned slot = 0; slot < 50; slot++)
        if (held[slot] != NULL) freeBlocks(held[slot]);
    return NULL;
}

/* Time flies: everything that is free for a moment is given back at once. */
static void *giveBackAll(void *arg)
{
    uint64_t time = 0;
    while (!atomic_load(&threadsEnd)) {
        time += SECOND;
        decayBlocks(time);
        if (time % (16 * SECOND) == 0) clearFreeBlocks();
        if (time % (64 * SECOND) == 0) trimBlocksNow(0);
    }
    return NULL;
}

static void testThreads(void **state)
{
    pthread_t thread[4], decay;
    begin(3, 0);
    atomic_store(&threadsEnd, false);
    pthread_create(&decay, NULL, giveBackAll, NULL);
    for (uintptr_t i = 0; i < 4; i++) pthread_create(&thread[i], NULL, takeAndFree, (void *)(i + 1));
    for (unsigned i = 0; i < 4; i++) {
        void *wrong;
        pthread_join(thread[i], &wrong);
        if (wrong != NULL) fail_msg("%s", (char *)wrong);
    }
    atomic_store(&threadsEnd, true);
    pthread_join(decay, NULL);
    assert_int_equal(megas.freeBlocks, 0);
    assert_int_equal(megas.freeMegas * MEGABLOCK_BYTES, committedBytes());
    end();
}

/* ---- Nodes ---- */

static void testNodes(void **state)
{
    Block *b[3][200];
    begin(3, 0);
    for (unsigned i = 0; i < 200; i++)
        for (unsigned node = 0; node < 3; node++) {
            b[node][i] = take(i % 60 + 1, node);
            assert_int_equal(b[node][i]->node, node);
            assert_int_equal((b[node][i]->start - (StgWord *)heapBase) / (64 * MIB / sizeof(StgWord)) % 3, node);
        }
    Block *large = take(64 * 64 - 1, 2), *larger = take(64 * 64 * 2, 2); /* a stripe is filled; and crossed */
    assert_int_equal(large->node, 2);
    stamp(large, 1), stamp(larger, 2);
    assert_true(isStamped(large, 1) && isStamped(larger, 2));
    assertSound();
    /* What is freed goes back where it came from. */
    size_t before = committedBytes();
    for (unsigned node = 0; node < 3; node++)
        for (unsigned i = 0; i < 200; i++) freeBlocks(b[node][i]);
    for (unsigned i = 0; i < 1000; i++) assert_int_equal(take(i % 5 + 1, 1)->node, 1);
    assert_int_equal(committedBytes(), before);
    /* A node that there is not. */
    assert_true(take(1, 77)->node < 3);
    end();
}

/* When a node has nothing left, the others help. */
static void testNodeUsedUp(void **state)
{
    begin(2, MIB);
    size_t own = 0, all = heapSize / MEGABLOCK_BYTES * 63;
    Block *b, *list = NULL;
    size_t count = 0;
    unsigned lastNode = 1;
    while ((b = allocBlocks(1, 1)) != NULL) {
        assert_true(b->node <= lastNode);
        lastNode = b->node;
        own += b->node;
        b->link = list;
        list = b;
        count++;
    }
    assert_int_equal(count, all);
    assert_in_range(own, all / 3, all - 1);
    assert_null(allocBlocks(1, 0));
    assert_null(allocBlocks(64, 1));
    assert_false(ensureFreeBlocks(1));
    assert_true(ensureFreeBlocks(0));
    freeBlockList(list);
    assert_true(ensureFreeBlocks(all));
    end();
}

/* On a machine with nodes the kernel puts pages where they belong, whoever touches them, also when they had been given back. */
static void testPlacement(void **state)
{
    begin(0, 0);
    unsigned nodes = topologyNodes();
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned node = 0; node < nodes; node++) {
            Block *b = take(63 * (round + 1), node);
            for (char *p = (char *)b->start; p < (char *)blockEnd(b); p += osPageSize()) {
                int found = -1;
                void *page = p;
                *p = 1;
                if (syscall(SYS_move_pages, 0, 1ul, &page, NULL, &found, 0) != 0) assert_int_equal(nodes, 1); /* not everybody may ask */
                if (found >= 0) assert_int_equal(found, topologyOsNode(b->node));
            }
            freeBlocks(b);
        }
        trimBlocksNow(0);
    }
    end();
    if (nodes == 1) skip();
}

#ifdef HAVE_HWLOC
/* Nodes that the kernel does not have: it refuses them, and memory comes from anywhere. */
static void testPlacementRefused(void **state)
{
    setenv("HWLOC_SYNTHETIC", "node:512 pu:1", 1);
    setenv("HWLOC_THISSYSTEM", "1", 1);
    begin(0, 0);
    for (unsigned node = 0; node < topologyNodes(); node++) {
        Block *b = take(70, node);
        assert_int_equal(b->node, node);
        stamp(b, node);
        assert_true(isStamped(b, node));
    }
    end();
    unsetenv("HWLOC_SYNTHETIC");
    unsetenv("HWLOC_THISSYSTEM");
}
#endif

/* More nodes than the reservation has stripes: they share. */
static void testManyNodes(void **state)
{
    begin(60000, MIB);
    for (unsigned node = 0; node < 60000; node += 999) {
        Block *b = take(1, node);
        assert_int_equal(b->node, node % megas.nodes);
    }
    end();
}

/* ---- Marks ---- */

static void testMarks(void **state)
{
    begin(1, 0);
    Block *b = take(3, 0), *other = take(3, 0), *large = take(100, 0);
    for (StgWord *p = b->start; p < blockEnd(b); p += 7) {
        assert_false(isMarked(p));
        setMark(p);
    }
    assert_true(tryMark(b->start + 1));
    assert_false(tryMark(b->start + 1));
    for (StgWord *p = b->start; p < blockEnd(b); p++) assert_int_equal(isMarked(p), (p - b->start) % 7 == 0 || p == b->start + 1);
    for (StgWord *p = other->start; p < blockEnd(other); p++) assert_false(isMarked(p));
    assert_true(tryMark(blockEnd(b) - 1) && tryMark(other->start) && tryMark(large->start));
    assert_int_equal(markBitOf(b->start), 1);
    assert_ptr_equal(markWordOf(b->start + 64), markWordOf(b->start) + 1);
    assert_ptr_equal(markWordOf((void *)heapBase), (char *)heapBase + heapSize);
    clearMarks(b);
    for (StgWord *p = b->start; p < blockEnd(b); p++) assert_false(isMarked(p));
    assert_true(isMarked(other->start) && isMarked(large->start));
    clearMarks(large);
    assert_false(isMarked(large->start));
    /* The last word of the first stripe, and what lies behind it. */
    setMark((StgWord *)(heapBase + 64 * MIB) - 1);
    assert_true(isMarked((StgWord *)(heapBase + 64 * MIB) - 1));
    end();
}

enum { MARKED_WORDS = 10000 };

static void *markAll(void *block)
{
    uintptr_t first = 0;
    for (unsigned i = 0; i < MARKED_WORDS; i++) first += tryMark(((Block *)block)->start + i);
    return (void *)first;
}

static void *setFlags(void *block)
{
    uintptr_t first = 0;
    for (unsigned i = 0; i < 24; i++) first += tryBlockFlag(block, 1u << i);
    return (void *)first;
}

/* Each word is marked by exactly one of those who try, each flag set by one. */
static void testMarkingTogether(void **state)
{
    begin(1, 0);
    Block *b = take(10, 0);
    for (unsigned round = 0; round < 2; round++) {
        pthread_t thread[4];
        uintptr_t sum = 0;
        for (unsigned i = 0; i < 4; i++) pthread_create(&thread[i], NULL, round ? setFlags : markAll, b);
        for (unsigned i = 0; i < 4; i++) {
            void *first;
            pthread_join(thread[i], &first);
            sum += (uintptr_t)first;
        }
        assert_int_equal(sum, round ? 24 : MARKED_WORDS);
    }
    assert_int_equal(blockFlags(b), 0xffffff);
    setBlockFlags(b, 5);
    assert_int_equal(b->flags, 5);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(testGroupsOfEachSize),
        cmocka_unit_test(testFreeBlocksGrowTogether),
        cmocka_unit_test(testLeastRoomThenLowest),
        cmocka_unit_test(testBatches),
        cmocka_unit_test(testExactHole),
        cmocka_unit_test(testObjectOverHeaders),
        cmocka_unit_test(testRandom),
        cmocka_unit_test(testThreads),
        cmocka_unit_test(testNodes),
        cmocka_unit_test(testNodeUsedUp),
        cmocka_unit_test(testPlacement),
#ifdef HAVE_HWLOC
        cmocka_unit_test(testPlacementRefused),
#endif
        cmocka_unit_test(testManyNodes),
        cmocka_unit_test(testMarks),
        cmocka_unit_test(testMarkingTogether),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

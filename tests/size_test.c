/*
 * When collections come, and how large areas are: the figures that doc/gc.md promises, asked of gc/size.c with a heap that is only numbers.
 */
#include "gc/size.h"

#include "gc/gct.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#ifdef CAPSTAN_TORTURE
#define TORTURE true
#else
#define TORTURE false
#endif

#define MIB      ((size_t)1 << 20)
#define MS       ((uint64_t)1000000)
#define AREA     (4 * MIB / BLOCK_BYTES)

static size_t words(size_t bytes) { return bytes / sizeof(StgWord); }

/* So many bytes of old objects, found out just now, beside so many default areas, when much had been allocated. */
static void setHeap(size_t old, unsigned areas)
{
    memset(&heap, 0, sizeof heap);
    heap.nurseryBlocks = AREA;
    heap.adaptive = true;
    heap.oldWords = words(old);
    heap.allocated = 1000 * AREA;
    setThresholds(areas, true);
}

static int reset(void **state)
{
    memset(&heap, 0, sizeof heap);
    return 0;
}

/* Twice what lives, and no less than the usual nor more than three times as much. */
static void testAreasGrow(void **state)
{
    setHeap(0, 2);
    assert_int_equal(heap.threshold, 2 * AREA);
    setHeap(6 * MIB, 2);
    assert_int_equal(heap.threshold, 12 * MIB / BLOCK_BYTES);
    setHeap(1000 * MIB, 2);
    assert_int_equal(heap.threshold, 2 * 12 * MIB / BLOCK_BYTES);
    assert_int_equal(blocksToKeep(2, true), 12 * MIB / BLOCK_BYTES);
    assert_int_equal(blocksToKeep(2, false), AREA);
    heap.adaptive = false;
    setThresholds(2, false);
    assert_int_equal(heap.threshold, 2 * AREA);
}

/* Where copying took longer than 10 ms, 3 ms while old objects are marked, areas shrink in proportion, to a sixteenth at most. */
static void testAreasShrink(void **state)
{
    setHeap(0, 1);
    heap.allocated = AREA;
    heap.lastCopying = 9 * MS;
    setThresholds(1, false);
    assert_int_equal(heap.threshold, AREA);
    heap.allocated = AREA;
    heap.lastCopying = 20 * MS;
    setThresholds(1, false);
    assert_in_range(heap.threshold, AREA / 2 - 1, AREA / 2);
    heap.marking = true;
    heap.allocated = AREA;
    heap.lastCopying = 12 * MS;
    setThresholds(1, false);
    assert_in_range(heap.threshold, AREA / 4 - 1, AREA / 4);
    heap.allocated = AREA;
    heap.lastCopying = 10000 * MS;
    setThresholds(1, false);
    assert_int_equal(heap.threshold, AREA / 16);
}

/* They grow to twice what was allocated last, however fast that was copied. */
static void testAreasGrowInSteps(void **state)
{
    setHeap(0, 1);
    for (size_t last = AREA / 16; last < AREA; last *= 2) {
        heap.allocated = last;
        heap.lastCopying = MS / 100;
        setThresholds(1, false);
        assert_int_equal(heap.threshold, 2 * last);
    }
    heap.allocated = AREA;
    setThresholds(1, false);
    assert_int_equal(heap.threshold, AREA);
    heap.allocated = 0;
    setThresholds(1, false);
    assert_int_equal(heap.threshold, AREA / 16);
    heap.adaptive = false;
    setThresholds(1, false);
    assert_int_equal(heap.threshold, AREA);
}

static bool isMajorDue(void) { return isTimeForMajor(NULL, 0); }

/* Up to 8 MiB old objects are copied when they have doubled (grown by four areas, if that is more). */
static void testSmallHeapsAreCopied(void **state)
{
    if (TORTURE) skip(); /* marks all of them */
    setHeap(MIB, 1);
    heap.nurseryBlocks = MIB / 4 / BLOCK_BYTES;
    setThresholds(1, true);
    heap.oldWords = words(2 * MIB) - 1;
    assert_false(isMajorDue());
    heap.oldWords = words(2 * MIB);
    assert_true(isMajorDue());
    setHeap(MIB, 1);
    heap.oldWords = words(8 * MIB);
    assert_false(isMajorDue() || isTimeToMark());
    heap.oldAt = heap.oldWords;
    assert_true(isMajorDue());
    heap.oldAt = ++heap.oldWords; /* a large one */
    assert_true(isTimeToMark() && !isMajorDue());
}

/* A larger one is marked when it has grown by a quarter; copied all the same when it has grown by four times its size. */
static void testLargeHeapsAreMarked(void **state)
{
    setHeap(100 * MIB, 1);
    heap.oldWords = words(125 * MIB) - 1;
    assert_false(isTimeToMark() || isMajorDue());
    heap.oldWords = words(125 * MIB);
    assert_true(isTimeToMark());
    assert_false(isMajorDue());
    heap.marking = true;
    assert_false(isTimeToMark());
    heap.oldWords = words(500 * MIB) - 1;
    assert_false(isMajorDue());
    heap.oldWords = words(500 * MIB);
    assert_true(isMajorDue());
}

/* What became old while others were marked was not looked at: the next marking comes the sooner. */
static void testUnseenComesSooner(void **state)
{
    setHeap(100 * MIB, 1);
    heap.unseenWords = words(10 * MIB);
    setThresholds(1, true);
    heap.oldWords = words(115 * MIB);
    assert_true(isTimeToMark());
}

/* Memory of the host's counts as old objects do. */
static void testExternalMemoryCounts(void **state)
{
    setHeap(100 * MIB, 1);
    heap.externalBytes = 30 * MIB;
    assert_true(isTimeToMark());
    setThresholds(1, true);
    assert_false(isTimeToMark());
    heap.externalBytes = 550 * MIB;
    assert_true(isMajorDue());
}

/* Whoever asked, forgot a slot, or was refused memory gets one. */
static void testMajorIsDue(void **state)
{
    Nursery nursery = { .overflowed = false }, *nurseries[] = { &nursery };
    setHeap(MIB, 1);
    assert_false(isTimeForMajor(nurseries, 1));
    heap.wantMajor = true;
    assert_true(isTimeForMajor(nurseries, 1));
    heap.wantMajor = false;
    heap.forgot = true;
    assert_true(isTimeForMajor(nurseries, 1));
    heap.forgot = false;
    nursery.overflowed = true;
    assert_true(isTimeForMajor(nurseries, 1));
    nursery.overflowed = false;
    nursery.refused = true;
    assert_true(isTimeForMajor(nurseries, 1));
}

/* Of what lives beside a limit, three sevenths of the rest (what copying may need counts) less an eighth; with nothing left, a few blocks. */
static void testLimit(void **state)
{
    setHeap(0, 4);
    heap.limitBlocks = 2048;
    heap.movable = 500;
    setThresholds(4, false);
    size_t left = (2048 - 500 - COPY_SPACE(500)) * 3 / 7;
    assert_in_range(heap.threshold, SLACK_BLOCKS, left - left / 8);
    heap.movable = 2000;
    setThresholds(4, false);
    assert_int_equal(heap.threshold, SLACK_BLOCKS);
}

/* Where three quarters of 256 KiB or more survived, the next minor collection makes all old. */
static void testMostSurvive(void **state)
{
    setHeap(0, 1);
    noteCopied(3 * MIB, 4 * MIB, MS, true);
    assert_true(doMostSurvive());
    noteCopied(3 * MIB - 8, 4 * MIB, MS, true);
    assert_false(doMostSurvive());
    noteCopied(100 << 10, 100 << 10, MS, true);
    assert_false(doMostSurvive());
}

/* One helper for each 256 KiB that may be copied, going by what lived the last time; from 2 MiB on a worker is asked to come. */
static void testHelpers(void **state)
{
    setHeap(0, 1);
    assert_int_equal(helpersFor(MIB / 2 - 16, true, 4), TORTURE ? 3 : 0); /* nothing is known yet: half of it may live */
    assert_int_equal(helpersFor(MIB, true, 4), TORTURE ? 3 : 2);
    noteCopied(MIB / 4, MIB, MS, true);
    assert_int_equal(helpersFor(MIB - 32, true, 4), TORTURE ? 3 : 0);
    assert_int_equal(helpersFor(2 * MIB, true, 4), TORTURE ? 3 : 2);
    assert_int_equal(helpersFor(2 * MIB, true, 2), 1);
    assert_false(isBigCollection(8 * MIB - 32, true));
    assert_true(isBigCollection(8 * MIB, true));
    noteCopied(0, MIB, MS, true);
    assert_false(isBigCollection(1000 * MIB, true));
    heap.oldWords = words(8 * MIB);
    assert_int_equal(helpersFor(MIB, false, MAX_COLLECTORS + 9), TORTURE ? MAX_COLLECTORS - 1 : 32);
}

/* What is kept from the system: as much again as lives, two rounds of areas, 4 MiB. */
static void testKept(void **state)
{
    setHeap(0, 2);
    assert_int_equal(keepBytes(2), (2 * 8 + 4) * MIB);
    setHeap(100 * MIB, 1);
    assert_int_equal(keepBytes(1), (100 + 2 * 12 + 4) * MIB);
}

#define test(name) cmocka_unit_test_teardown(name, reset)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(testAreasGrow),         test(testAreasShrink), test(testAreasGrowInSteps), test(testSmallHeapsAreCopied), test(testLargeHeapsAreMarked),
        test(testUnseenComesSooner), test(testExternalMemoryCounts), test(testMajorIsDue),   test(testLimit),
        test(testMostSurvive),       test(testHelpers),     test(testKept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

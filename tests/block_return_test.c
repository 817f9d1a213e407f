/*
 * The memory that the heap is made of, and the operating system: what is free goes back, by a clock of the test's own; what is refused leaves all as it was.
 */
#include "blocks.h"
#include "child.h"
#include "emulated.h"

#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>

/* ---- Giving back ---- */

static bool isReadable(const void *address)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    bool done = write(ends[1], address, 1) == 1;
    close(ends[0]), close(ends[1]);
    return done;
}

static size_t residentPages(const void *p, size_t bytes)
{
    size_t page = osPageSize(), pages = bytes / page, resident = 0;
    unsigned char *present = malloc(pages);
    if (mincore((void *)p, bytes, present) == 0)
        for (size_t i = 0; i < pages; i++) resident += present[i] & 1;
    free(present);
    return resident;
}

/* A burst of so many megablocks, all of it free afterwards. */
static void burst(size_t count)
{
    Block **b = malloc(count * sizeof *b);
    for (size_t i = 0; i < count; i++) {
        b[i] = take(63, (unsigned)(i % 2));
        stamp(b[i], 1);
        setMark(b[i]->start);
    }
    for (size_t i = 0; i < count; i++) freeBlocks(b[i]);
    free(b);
}

/* Calls as the timer does, until a time or until it is not wanted any more; returns the time. */
static uint64_t runDecay(uint64_t now, uint64_t next, uint64_t until)
{
    while (next != UINT64_MAX && now + next <= until) {
        size_t before = committedBytes();
        now += next;
        next = decayBlocks(now);
        assert_true(before - committedBytes() <= 64 * MIB); /* a batch keeps nobody waiting for long */
        assert_true(next > 0 && (next == UINT64_MAX || next <= SECOND));
        assertSound();
    }
    return now;
}

static void testDecay(void **state)
{
    for (unsigned nodes = 1; nodes <= 2; nodes++) {
        uint64_t start = 1234 * SECOND, now;
        begin(nodes, 0);
        Block *kept = take(1, 0);
        stamp(kept, 9);
        setMark(kept->start);
        burst(300);
        size_t full = committedBytes();
        assert_true(full >= 300 * MIB);
        uint64_t next = trimBlocks(0, start);
        assert_int_equal(committedBytes(), full);
        assert_true(next <= SECOND);
        runDecay(start, next, start + SECOND * 9 / 10);
        assert_int_equal(committedBytes(), full); /* may be needed again at once */
        now = runDecay(start, next, start + 100 * SECOND);
        assert_true(now < start + 3 * SECOND);
        assert_true(committedBytes() <= 5 * MIB);
        assert_int_equal(peakCommittedBytes(), full);
        assert_int_equal(decayBlocks(now + 5 * SECOND), UINT64_MAX);
        assert_true(isStamped(kept, 9) && isMarked(kept->start));
        assert_false(isReadable((char *)heapBase + 290 * MIB));
        assert_true(residentPages((void *)(heapBase + heapSize), 400 * MEGABLOCK_MARK_BYTES) <= 8 * MEGABLOCK_MARK_BYTES / 4096);
        burst(300); /* and once more, from what was given back */
        assert_int_equal(committedBytes(), full);
        end();
    }
}

/* Half is used again and again: that stays, however long it takes. */
static void testDecayKeepsWhatIsUsed(void **state)
{
    uint64_t now = 77, next;
    begin(1, 0);
    burst(200);
    for (unsigned round = 0; round < 20; round++) {
        burst(100);
        next = trimBlocks(100 * MIB, now);
        runDecay(now, next, now + SECOND / 2);
        now += SECOND / 2;
    }
    assert_in_range(committedBytes(), 100 * MIB, 110 * MIB);
    next = trimBlocks(100 * MIB, now);
    runDecay(now, next, now + 10 * SECOND);
    assert_true(committedBytes() <= 4 * MIB);
    end();
}

/* What is taken between two ticks is not given back at the second. */
static void testDecayMeetsUse(void **state)
{
    Block *b[64];
    begin(1, 0);
    burst(64);
    trimBlocks(0, SECOND);
    decayBlocks(2 * SECOND - 1);
    for (unsigned i = 0; i < 64; i++) b[i] = take(63, 0), stamp(b[i], i);
    for (uint64_t now = 2 * SECOND; now < 9 * SECOND; now += SECOND / 4) decayBlocks(now);
    for (unsigned i = 0; i < 64; i++) assert_true(isStamped(b[i], i));
    for (unsigned i = 0; i < 64; i += 2) freeBlocks(b[i]); /* no two side by side: as many runs as there are megablocks */
    uint64_t next = trimBlocks(0, 9 * SECOND);
    runDecay(9 * SECOND, next, 20 * SECOND);
    assert_int_equal(committedBytes(), (32 + 4) * MIB);
    for (unsigned i = 1; i < 64; i += 2) assert_true(isStamped(b[i], i));
    end();
}

/* Two look at the clock, and the later one has the lock first: that is no second tick for the other. */
static void testDecayComesLate(void **state)
{
    begin(1, 0);
    trimBlocks(0, 5 * SECOND);
    burst(64);
    trimBlocks(0, 6 * SECOND);
    decayBlocks(6 * SECOND - 1000);
    assert_int_equal(megas.dueMegas, 0);
    decayBlocks(7 * SECOND - 1);
    assert_int_equal(committedBytes(), 64 * MIB);
    decayBlocks(7 * SECOND);
    assert_int_equal(committedBytes(), 4 * MIB);
    end();
}

static void testTrimNow(void **state)
{
    begin(2, 0);
    Block *kept = take(5, 0);
    stamp(kept, 4);
    burst(100);
    trimBlocksNow(200 * MIB);
    assert_true(committedBytes() >= 100 * MIB);
    trimBlocksNow(50 * MIB);
    assert_int_equal(committedBytes(), 51 * MIB);
    assertSound();
    trimBlocksNow(0);
    assert_int_equal(committedBytes(), MIB);
    assert_true(isStamped(kept, 4));
    end();
}

static void testClear(void **state)
{
    Block *b[40];
    begin(2, 0);
    for (unsigned i = 0; i < 40; i++) b[i] = take(i + 1, i % 2), stamp(b[i], ~(StgWord)0);
    burst(20);
    for (unsigned i = 0; i < 40; i += 3) freeBlocks(b[i]);
    for (unsigned node = 0; node < 2; node++)
        while (megas.node[node].single == NULL) take(1, node);
    size_t before = committedBytes();
    clearFreeBlocks();
    assertSound();
    assert_int_equal(committedBytes(), before);
    for (unsigned i = 0; i < 40; i++)
        if (i % 3 != 0) assert_true(isStamped(b[i], ~(StgWord)0));
    for (unsigned i = 0; i < 10; i++) assert_int_equal(take(1, i % 2)->start[0], 0);
    for (unsigned i = 0; i < 40; i++) {
        Block *again = take(i + 1, i % 2);
        for (StgWord *p = again->start; p < blockEnd(again); p++) assert_int_equal(*p, 0);
    }
    for (unsigned i = 0; i < 100; i++) assert_int_equal(take(1, i % 2)->start[0], 0);
    for (unsigned i = 0; i < 20; i++) {
        Block *again = take(63, 0);
        for (StgWord *p = again->start; p < blockEnd(again); p += 64) assert_int_equal(*p, 0);
    }
    end();
}

/* ---- Refusals ---- */

static void testRefusedAtStart(void **state)
{
    assert_true(topologyInit(3, NULL, 0));
    bool done = false;
    for (long n = 1; !done; n++) {
        osFailAfter(n);
        done = initBlocks(0);
        long failed = osFailuresInjected();
        osFailAfter(-1);
        assert_int_equal(done, failed == 0);
        assert_true(n < 20);
        if (!done) assert_int_equal(heapBase, 0);
    }
    end();
}

/* No memory at all: what is committed can be had, from whatever node, and nothing else; nothing is lost. */
static void testRefusedLater(void **state)
{
    begin(3, 0);
    Block *b = take(1, 0);
    assert_true(ensureFreeBlocks(200));
    size_t before = committedBytes(), had = 0;
    Block *list = NULL, *more;
    osFailAllAfter(1);
    assert_null(allocBlocks(64 * 20, 0));
    assert_false(ensureFreeBlocks(4000));
    while ((more = allocBlocks(1, 1)) != NULL) {
        more->link = list;
        list = more;
        had++;
    }
    assert_null(allocBlocks(64, 2));
    assert_int_equal(allocBlockBatch(&more, 1, 0), 0);
    assert_true(osFailuresInjected() > 0);
    osFailAfter(-1);
    assertSound();
    assert_true(had >= 200);
    assert_int_equal(committedBytes(), before);
    freeBlockList(list);
    freeBlocks(b);
    assert_int_equal(megas.freeMegas * MEGABLOCK_BYTES, before);
    assert_int_equal(take(64 * 20 - 1, 0)->node, 0);
    end();
}

/* A heap grows by several at once, or by one if that is all that there is. */
static void testRefusedSeveral(void **state)
{
    begin(1, 0);
    burst(100);
    while (megas.freeMegas > 0) take(63, 0);
    size_t before = committedBytes();
    osFailAfter(1);
    take(1, 0);
    assert_int_equal(osFailuresInjected(), 1);
    osFailAfter(-1);
    assert_int_equal(committedBytes(), before + MEGABLOCK_BYTES);
    take(63, 0);
    assert_true(committedBytes() > before + 2 * MEGABLOCK_BYTES);
    end();
}

/* One refusal in the middle of things, at each place in turn. */
static void testRefusedOnce(void **state)
{
    for (long n = 1; n < 12; n++) {
        begin(2, 0);
        burst(40);
        size_t before = committedBytes();
        osFailAfter(n);
        Block *large = allocBlocks(64 * 70, 0), *small = allocBlocks(1, 1);
        bool ensured = ensureFreeBlocks(63 * 200);
        osFailAfter(-1);
        assertSound();
        if (large == NULL) assert_int_equal(n <= 4, true);
        if (small != NULL) freeBlocks(small);
        if (large != NULL) freeBlocks(large);
        assert_true(ensured || ensureFreeBlocks(63 * 200));
        assert_true(committedBytes() >= before);
        assertSound();
        end();
    }
}

/* Little address space beyond what the process has: the heap is as large as it may be, or is refused. */
static int inLittleSpace(size_t bytes)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL || fscanf(file, "%lu", &pages) != 1) return 4;
    fclose(file);
    struct rlimit limit = { pages * osPageSize() + bytes, RLIM_INFINITY };
    if (setrlimit(RLIMIT_AS, &limit) != 0 || !initBlocks(0)) return 1;
    if (heapSize < 16 * MIB || heapSize > bytes) return 2;
    size_t count = 0;
    while (allocBlocks(1, 0) != NULL) count++;
    return count >= 63 * 16 && checkBlocks() == NULL ? 0 : 3;
}

static void testLittleAddressSpace(void **state)
{
#if defined(CAPSTAN_ASAN) || defined(CAPSTAN_TSAN)
    skip(); /* their shadows are larger */
#endif
    SKIP_EMULATED(LIMITS_NO_ADDRESSES);
    assert_true(topologyInit(1, NULL, 0));
    assert_int_equal(statusOfChild(inLittleSpace, 600 * MIB), 0);
    assert_int_equal(statusOfChild(inLittleSpace, 40 * MIB), 0);
    assert_int_equal(statusOfChild(inLittleSpace, 16 * MIB), 1);
    topologyDestroy();
}

static void testAgainAndAgain(void **state)
{
    for (unsigned i = 0; i < 50; i++) {
        begin(i % 5, i % 2 ? 100 * MIB : 0);
        take(i * 3 + 1, i);
        end();
        freeAllBlocks();
        assert_null(allocBlocks(1, 0));
        Block *none;
        assert_int_equal(allocBlockBatch(&none, 1, 0), 0);
        assert_int_equal(decayBlocks(SECOND * i), UINT64_MAX);
        trimBlocksNow(0);
        clearFreeBlocks();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(testDecay),
        cmocka_unit_test(testDecayKeepsWhatIsUsed),
        cmocka_unit_test(testDecayMeetsUse),
        cmocka_unit_test(testDecayComesLate),
        cmocka_unit_test(testTrimNow),
        cmocka_unit_test(testClear),
        cmocka_unit_test(testRefusedAtStart),
        cmocka_unit_test(testRefusedLater),
        cmocka_unit_test(testRefusedSeveral),
        cmocka_unit_test(testRefusedOnce),
        cmocka_unit_test(testLittleAddressSpace),
        cmocka_unit_test(testAgainAndAgain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

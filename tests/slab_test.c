/*
 * Slabs: records come from chunks that grow, go back, wander between slabs, and whole chunks go when nothing in them is used.
 */
#include "slab.h"

#include "os/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define RECORDS 1000

typedef struct {
    void *link;
    uintptr_t number; /* 0: unused */
    char filler[24];
} Record;

static _Atomic uint32_t lock;
static bool isUsed(const void *record) { return ((const Record *)record)->number != 0; }

static Record *make(Slab *s, uintptr_t number)
{
    lock = 1; /* what lockRecord does, of whom nobody else knows */
    prepareRecord(s, sizeof(Record), &lock);
    assert_int_equal(lock, 1);
    Record *r = takeRecord(s);
    if (r != NULL) r->number = number;
    lock = 0;
    return r;
}

static void give(Slab *s, Record *r)
{
    r->number = 0;
    giveRecord(s, r);
}

static void trim(Slab *s)
{
    forgetUnused(s);
    trimSlab(s, sizeof(Record), isUsed);
}

/* The sum of all numbers. */
static uintptr_t total(const Slab *s)
{
    uintptr_t sum = 0;
    for (SlabChunk *c = s->chunks; c != NULL; c = c->next)
        for (Record *r = firstRecord(c), *end = r + c->count; r < end; r++) sum += r->number;
    return sum;
}

static void testTakeAndGive(void **state)
{
    static Record *all[RECORDS];
    Slab s = { NULL, NULL, 0 };
    assert_null(takeRecord(&s));
    for (uintptr_t i = 0; i < RECORDS; i++) {
        all[i] = make(&s, i + 1);
        assert_non_null(all[i]);
    }
    assert_int_equal(total(&s), RECORDS * (RECORDS + 1) / 2);
    assert_in_range(s.room, RECORDS, RECORDS + 64);
    /* Those that went back are used before there is another chunk. */
    size_t room = s.room;
    for (int i = 0; i < RECORDS; i += 2) give(&s, all[i]);
    for (uintptr_t i = 0; i < RECORDS; i += 2) all[i] = make(&s, i + 1);
    assert_int_equal(s.room, room);
    assert_int_equal(total(&s), RECORDS * (RECORDS + 1) / 2);
    freeSlab(&s);
    assert_int_equal(s.room, 0);
    assert_null(s.chunks);
    assert_null(takeRecord(&s));
}

/* A slab of one record is small. */
static void testFew(void **state)
{
    Slab s = { NULL, NULL, 0 };
    assert_non_null(make(&s, 1));
    assert_in_range(s.room, 1, 4);
    freeSlab(&s);
}

/* What is used stays where it is; other chunks go; what is not used in those that stay can be taken. */
static void testTrim(void **state)
{
    static Record *all[RECORDS];
    Slab s = { NULL, NULL, 0 };
    for (uintptr_t i = 0; i < RECORDS; i++) all[i] = make(&s, i + 1);
    for (int i = 0; i < RECORDS; i++)
        if (i != 500) give(&s, all[i]);
    trim(&s);
    assert_in_range(s.room, 1, 64);
    assert_int_equal(total(&s), 501);
    assert_int_equal(all[500]->number, 501);
    size_t room = s.room;
    for (uintptr_t i = 1; i < room; i++) assert_non_null(make(&s, i));
    assert_int_equal(s.room, room);
    assert_null(takeRecord(&s));
    freeSlab(&s);

    s = (Slab){ NULL, NULL, 0 };
    give(&s, make(&s, 1));
    trim(&s);
    assert_int_equal(s.room, 0);
    assert_null(s.chunks);
}

/* Records of one are among the other's unused ones: nobody takes what went with its chunk. */
static void testWander(void **state)
{
    Slab a = { NULL, NULL, 0 }, b = { NULL, NULL, 0 };
    Record *kept = make(&b, 7);
    for (int i = 0; i < 200; i++) give(&b, make(&a, 1));
    Record *moved = takeRecord(&b);
    moved->number = 5;
    forgetUnused(&a);
    forgetUnused(&b);
    trimSlab(&a, sizeof(Record), isUsed);
    trimSlab(&b, sizeof(Record), isUsed);
    assert_int_equal(total(&a) + total(&b), 12);
    assert_int_equal(kept->number, 7);
    size_t room = a.room + b.room, taken = 2;
    while ((moved = takeRecord(&a)) != NULL || (moved = takeRecord(&b)) != NULL) {
        moved->number = 1;
        taken++;
    }
    assert_int_equal(taken, room);
    assert_int_equal(total(&a) + total(&b), 12 + taken - 2);
    freeSlab(&a);
    freeSlab(&b);
}

static void testRefused(void **state)
{
    Slab s = { NULL, NULL, 0 };
    osFailAfter(1);
    assert_null(make(&s, 1));
    assert_int_equal(s.room, 0);
    osFailAfter(0);
    assert_non_null(make(&s, 1));
    freeSlab(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(testTakeAndGive), cmocka_unit_test(testFew),     cmocka_unit_test(testTrim),
        cmocka_unit_test(testWander),      cmocka_unit_test(testRefused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

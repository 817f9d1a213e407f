/*
 * What languages keep outside the heap: virtual stacks of which minor collections look only at what changed, scanners of their own,
 * a word in each thread.
 */
#include "keeping.h"

/* ---- Virtual stacks ---- */

enum { ROOM = 4096 };

static HaskellObj numbered(Capability *cap, HsInt n) { return rts_mkInt(cap, INT64_MIN + n); }
static HsInt numberIn(HaskellObj v) { return rts_getInt(v) - INT64_MIN; }

static bool isStackRight(RtsVirtualStack *s, const HsInt *mirror)
{
    for (HaskellObj *slot = s->base; slot < s->top; slot++)
        if (numberIn(*slot) != mirror[slot - s->base]) return false;
    return true;
}

/* Pushes, pops and overwrites at random against a mirror, with collections between. */
CAPSTAN_IO(useStack, seedValue)
{
    uint64_t seed = (uint64_t)rts_getInt(seedValue);
    HaskellObj *memory = malloc(ROOM * sizeof *memory);
    HsInt *mirror = malloc(ROOM * sizeof *mirror), counter = 0;
    RtsVirtualStack s;
    rts_initVirtualStack(&s, memory, NULL);
    CHECK(rts_addScanner(stack, &s.scanner));
    for (HsInt round = 0; round < many(3000); round++) {
        unsigned n = nextRandom(&seed) % 30;
        switch (nextRandom(&seed) % 5) {
        case 0:
        case 1:
            for (; n > 0 && s.top < s.base + ROOM; n--) {
                mirror[s.top - s.base] = ++counter;
                rts_pushSlot(&s, numbered(stack->cap, counter));
            }
            break;
        case 2:
            for (; n > 0 && s.top > s.base; n--) CHECK(numberIn(rts_popSlot(&s)) == mirror[s.top - s.base]);
            break;
        case 3: /* somewhere below the top */
            if (s.top > s.base) {
                HaskellObj *slot = s.base + nextRandom(&seed) % (s.top - s.base);
                rts_lowerStack(&s, slot);
                mirror[slot - s.base] = ++counter;
                *slot = numbered(stack->cap, counter);
            }
            break;
        default:
            if (n < 10) rts_collect(stack, n == 0);
            break;
        }
        if (round % 16 == 0) CHECK(isStackRight(&s, mirror));
    }
    CHECK(rts_removeScanner(stack, &s.scanner));
    CHECK(!rts_removeScanner(stack, &s.scanner));
    free(memory);
    free(mirror);
    return CAPSTAN_UNIT;
}
static void testRandomUse(void **state)
{
    runWith(&useStack_closure, CAPSTAN_SMALL_INT(1));
    runInThread(&useStack_closure, CAPSTAN_SMALL_INT(2));
}

/* A scanner of the test's own around the runtime's: how many slots does each collection see? */
typedef struct {
    RtsVirtualStack s;
    void (*inner)(RtsRootScanner *self, RtsVisitor *visitor, bool minor);
    size_t minors, majors;
} Watched;

static void watch(RtsRootScanner *self, RtsVisitor *visitor, bool minor)
{
    Watched *w = (Watched *)(void *)self;
    w->minors += minor;
    w->majors += !minor;
    w->inner(self, visitor, minor);
}

CAPSTAN_IO(deepStack)
{
    static HaskellObj memory[ROOM];
    Watched w = { .minors = 0 };
    rts_initVirtualStack(&w.s, memory, NULL);
    w.inner = w.s.scanner.scan;
    w.s.scanner.scan = watch;
    CHECK(rts_addScanner(stack, &w.s.scanner));
    for (int i = 0; i < 1000; i++) rts_pushSlot(&w.s, numbered(stack->cap, i));
    CHECK(w.s.low == w.s.base);
    rts_collect(stack, false);
    CHECK(w.s.low == w.s.top); /* what it saw is aged, so it is looked at once more */
    rts_collect(stack, false);
    rts_collect(stack, false);
    CHECK(w.s.low == w.s.top && w.s.young == 1000);
    rts_pushSlot(&w.s, numbered(stack->cap, 1000));
    rts_collect(stack, false);
    CHECK(w.s.low == w.s.top);
    CHECK(w.s.young >= 1000); /* from there on, and not below */
    rts_popSlot(&w.s);
    rts_popSlot(&w.s);
    CHECK(w.s.low == w.s.base + 999);
    rts_collect(stack, true);
    for (int i = 0; i < 999; i++) CHECK(numberIn(memory[i]) == i);
    CHECK(w.minors >= 1 && w.majors >= 1);
    rts_removeScanner(stack, &w.s.scanner);
    return CAPSTAN_UNIT;
}
static void testLowWaterMark(void **state) { run(&deepStack_closure); }

/* A parked thread's stack lives through collections that do not look at it. */
CAPSTAN_IO(parkWithStack, box)
{
    HaskellObj memory[64]; /* each thread's own: testExit parks several */
    RtsVirtualStack s;
    rts_initVirtualStack(&s, memory, NULL);
    CAPSTAN_ROOTS(stack, box);
    rts_addScanner(stack, &s.scanner);
    for (int i = 0; i < 64; i++) rts_pushSlot(&s, numbered(stack->cap, i));
    rts_takeMVar(stack, box);
    for (int i = 0; i < 64; i++) CHECK(numberIn(s.base[i]) == i);
    rts_removeScanner(stack, &s.scanner);
    CAPSTAN_UNROOT(stack);
    makeNote(1);
    return CAPSTAN_UNIT;
}
static void testParked(void **state)
{
    Capability *cap = rts_lock();
    HaskellObj box = rts_mkMVar(cap);
    HsStablePtr keeper = keep(box);
    clearNotes();
    scheduleThread(cap, createIOThread(cap, 0, rts_apply(cap, &parkWithStack_closure, box)));
    rts_unlock(cap);
    for (int i = 0; i < 10; i++) {
        sleepMs(1);
        if (i % 4 == 3) hs_perform_gc();
        else rts_performMinorGC();
    }
    hs_try_putmvar(-1, keeper);
    AWAIT_NOTES(1);
    assert_int_equal(failedChecks, 0);
}

/* ---- Scanners and ends ---- */

static _Atomic unsigned ends;
typedef struct {
    RtsRootScanner scanner;
    HaskellObj slots[8];
} Own;
static void scanOwn(RtsRootScanner *self, RtsVisitor *visitor, bool minor) { rts_visitRoots(visitor, ((Own *)(void *)self)->slots, 8); }
static void endOwn(RtsRootScanner *self)
{
    ends++;
    free(self);
}
static Own *newOwn(void)
{
    Own *own = calloc(1, sizeof *own);
    own->scanner = (RtsRootScanner){ .scan = scanOwn, .ended = endOwn };
    return own;
}

CAPSTAN_IO(endSomehow, how)
{
    HsInt n = rts_getInt(how);
    Own *a = newOwn(), *b = newOwn();
    rts_addScanner(stack, &a->scanner);
    rts_addScanner(stack, &b->scanner);
    a->slots[0] = numbered(stack->cap, 1);
    b->slots[7] = numbered(stack->cap, 2);
    CHECK(rts_setThreadWord(stack, numbered(stack->cap, 3)));
    rts_collect(stack, false);
    rts_collect(stack, true);
    CHECK(numberIn(a->slots[0]) == 1 && numberIn(b->slots[7]) == 2 && numberIn(rts_getThreadWord(stack)) == 3);
    if (n == 1) rts_raiseError(stack, "ended");
    if (n == 2) rts_killThread(stack, rts_myThreadId(stack));
    if (n == 3) {
        CHECK(rts_removeScanner(stack, &a->scanner));
        free(a);
    }
    return CAPSTAN_UNIT;
}
static void testEnds(void **state)
{
    for (HsInt how = 0; how < 4; how++) {
        ends = 0;
        runStatus(&endSomehow_closure, CAPSTAN_SMALL_INT(how), NULL, NULL, 0);
        assert_int_equal(ends, how == 3 ? 1 : 2); /* the in-call has ended */
        ends = 0;
        Capability *cap = rts_lock();
        scheduleThread(cap, createIOThread(cap, 0, rts_apply(cap, &endSomehow_closure, CAPSTAN_SMALL_INT(how))));
        rts_unlock(cap);
        AWAIT(ends == (how == 3 ? 1 : 2));
    }
    assert_int_equal(failedChecks, 0);
    /* The in-call's own record is used again, without a trace. */
    Capability *cap = rts_lock();
    assert_ptr_equal(rts_getThreadWord(rts_stackOf(cap)), CAPSTAN_UNIT);
    rts_unlock(cap);
}

CAPSTAN_IO(collectInside, major)
{
    rts_collect(stack, major == CAPSTAN_TRUE);
    return CAPSTAN_UNIT;
}

/* Between evaluations, on the in-call's own stack. */
static void testFromC(void **state)
{
    Capability *cap = rts_lock();
    Own *own = newOwn();
    ends = 0;
    assert_true(rts_addScanner(rts_stackOf(cap), &own->scanner));
    for (int i = 0; i < 8; i++) own->slots[i] = numbered(cap, i);
    assert_true(rts_setThreadWord(rts_stackOf(cap), numbered(cap, 9)));
    for (int i = 0; i < 3; i++) {
        rts_evalIO(&cap, rts_apply(cap, &collectInside_closure, rts_mkBool(cap, i == 1)), NULL);
        assert_int_equal(rts_getSchedStatus(cap), Success);
        for (int j = 0; j < 8; j++) assert_int_equal(numberIn(own->slots[j]), j);
        assert_int_equal(numberIn(rts_getThreadWord(rts_stackOf(cap))), 9);
    }
    rts_unlock(cap);
    assert_int_equal(ends, 1);
}

/* Exit tells those of threads that are still there. */
static void testExit(void **state)
{
    Capability *cap = rts_lock();
    ends = 0;
    for (int i = 0; i < 10; i++) {
        Own *own = newOwn();
        assert_true(rts_addScanner(rts_stackOf(cap), &own->scanner));
    }
    rts_unlock(cap);
    assert_int_equal(ends, 10);
    ends = 0;
    cap = rts_lock();
    HaskellObj box = rts_mkMVar(cap);
    keep(box);
    for (int i = 0; i < 5; i++) scheduleThread(cap, createIOThread(cap, 0, rts_apply(cap, &parkWithStack_closure, box)));
    rts_unlock(cap);
    sleepMs(10);
    hs_exit();
}

/* ---- The word ---- */

CAPSTAN_IO(readWord) { return rts_getThreadWord(stack); }
CAPSTAN_IO(changeWord)
{
    CHECK(rts_setThreadWord(stack, CAPSTAN_SMALL_INT(99)));
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(wordOfForked, how)
{
    HaskellObj done = rts_mkMVar(stack->cap), result = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, done, result);
    CHECK(rts_getThreadWord(stack) == CAPSTAN_UNIT);
    CHECK(rts_setThreadWord(stack, numbered(stack->cap, 12)));
    HaskellObj action = APPLY(stack->cap, schedReport, &readWord_closure, done);
    switch (rts_getInt(how)) {
    case 0: rts_fork(stack, action); break;
    case 1: rts_forkOn(stack, 1, action); break;
    case 2: rts_forkOS(stack, action); break;
    case 3:
        result = rts_runInBoundThread(stack, &readWord_closure);
        rts_putMVar(stack, done, result);
        break;
    default: scheduleThread(stack->cap, createIOThread(stack->cap, 0, action)); break;
    }
    result = rts_takeMVar(stack, done);
    CHECK(numberIn(result) == 12);
    rts_fork(stack, &changeWord_closure);
    rts_threadDelay(stack, 1000);
    CHECK(numberIn(rts_getThreadWord(stack)) == 12); /* a thread of its own has one of its own */
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
static void testWordIsInherited(void **state)
{
    for (HsInt how = 0; how < 5; how++) {
        runWith(&wordOfForked_closure, CAPSTAN_SMALL_INT(how));
        runInThread(&wordOfForked_closure, CAPSTAN_SMALL_INT(how));
    }
}

CAPSTAN_IO(forkMany)
{
    rts_setThreadWord(stack, numbered(stack->cap, 4));
    for (int i = 0; i < 300; i++) {
        rts_fork(stack, &readWord_closure);
        rts_fork(stack, &changeWord_closure);
    }
    rts_collect(stack, false);
    return CAPSTAN_UNIT;
}
static void testManyWords(void **state)
{
    for (int i = 0; i < 5; i++) run(&forkMany_closure);
}

void osFailAfter(long n);
static void testNoMemory(void **state)
{
    Capability *cap = rts_lock();
    Own *own = newOwn();
    osFailAfter(1);
    assert_false(rts_addScanner(rts_stackOf(cap), &own->scanner));
    osFailAfter(1);
    assert_false(rts_setThreadWord(rts_stackOf(cap), CAPSTAN_SMALL_INT(1)));
    osFailAfter(0);
    assert_ptr_equal(rts_getThreadWord(rts_stackOf(cap)), CAPSTAN_UNIT);
    free(own);
    RtsRootScanner nothing = { NULL, NULL, NULL };
    assert_false(rts_addScanner(rts_stackOf(cap), &nothing));
    assert_int_equal(heardError(RTS_BAD_ARGUMENT), 1);
    rts_unlock(cap);
}

/* A record that the thread has is refused, wherever it stands in the list: once more in it, the list would have no end. */
CAPSTAN_IO(addTwice)
{
    Own *own[3];
    for (int i = 0; i < 3; i++) {
        own[i] = newOwn();
        own[i]->slots[0] = numbered(stack->cap, i);
        CHECK(rts_addScanner(stack, &own[i]->scanner));
    }
    for (int i = 0; i < 3; i++) {
        CHECK(!rts_addScanner(stack, &own[i]->scanner));
        CHECK(heardError(RTS_BAD_ARGUMENT) == 1);
        rts_collect(stack, i == 1);
    }
    for (int i = 0; i < 3; i++) {
        CHECK(numberIn(own[i]->slots[0]) == i);
        CHECK(rts_removeScanner(stack, &own[i]->scanner));
        CHECK(!rts_removeScanner(stack, &own[i]->scanner));
        CHECK(rts_addScanner(stack, &own[i]->scanner));
    }
    rts_collect(stack, false);
    return CAPSTAN_UNIT;
}
static void testAddedTwice(void **state)
{
    ends = 0;
    run(&addTwice_closure);
    assert_int_equal(ends, 3);
    assert_int_equal(failedChecks, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ALL(testRandomUse), TWO(testLowWaterMark), ONE(testParked), TWO(testParked), ALL(testEnds), TWO(testFromC), TWO(testExit),
        ALL(testWordIsInherited), TWO(testManyWords), TWO(testNoMemory), TWO(testAddedTwice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * Threads that leave through base frames by pthread_exit or cancellation: archLeavingSideways hears of each base frame
 * once, while what is inside is intact, and cleanup handlers of the C frames between run in their turn.
 */
#include "fibers.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

/* A frame of another kind on the trap chain, as update frames are. */
typedef struct {
    TrapFrame trap;
    uintptr_t magic;
} MarkFrame;

#define MAGIC 0x600dcafe

static int markTag;

/* What happened while a thread left: i, o: inner, outer base frame; c: a cleanup handler between them; z: one outside
 * all. */
typedef struct {
    char events[16];
    size_t count;
    unsigned marks;  /* intact mark frames found */
    unsigned wrong;
    int cancel;      /* by cancellation, not by pthread_exit */
    Stack stack;
    pthread_barrier_t ready;
} Leaving;

static __thread Leaving *leaving;

static void noteEvent(Leaving *record, char event)
{
    if (record->count < sizeof record->events - 1)
        record->events[record->count++] = event;
}

/* Walk the frames that are being left, then unlink them with their base. */
static void onLeaving(void *trap_frame_address, bool forced)
{
    CatchFrame *base = trap_frame_address;
    Leaving *record = leaving;
    TrapFrame *frame;

    if (base->stack != &record->stack) {
        record->wrong++;
        return;
    }
    for (frame = base->stack->trap; frame != NULL && frame != &base->trap; frame = frame->prev)
        if (frame->handler == &markTag)
            record->marks += ((MarkFrame *)frame)->magic == MAGIC;
    record->wrong += frame == NULL;
    record->wrong += !forced;
    noteEvent(record, base->trap.prev == NULL ? 'o' : 'i');
    base->stack->trap = base->trap.prev;
}

static void pushMark(Stack *stack, MarkFrame *mark)
{
    mark->trap.handler = &markTag;
    mark->trap.prev = stack->trap;
    mark->magic = MAGIC;
    stack->trap = &mark->trap;
}

/* Some frames in, each with a mark, then leave. */
__attribute__((noinline)) static int leaveFrom(Leaving *record, int depth)
{
    MarkFrame mark;

    pushMark(&record->stack, &mark);
    if (depth > 0)
        return leaveFrom(record, depth - 1) + (mark.magic == MAGIC);
    if (!record->cancel)
        pthread_exit(record);
    pthread_barrier_wait(&record->ready);
    while (record->wrong == 0)
        pthread_testcancel();
    return 0;
}

static HaskellObj innerBody(Stack *stack, void *arg)
{
    return leaveFrom(arg, 4) == 4 ? arg : NULL;
}

static void noteCleanup(void *arg)
{
    noteEvent(leaving, *(char *)arg);
}

static HaskellObj catchingBody(Stack *stack, void *arg)
{
    return archCatch(stack, innerBody, arg).value;
}

static HaskellObj outerBody(Stack *stack, void *arg)
{
    MarkFrame mark;
    CatchResult result;
    char event = 'c';

    pushMark(stack, &mark);
    pthread_cleanup_push(noteCleanup, &event);
    result = archEnter(stack, catchingBody, arg);
    pthread_cleanup_pop(0);
    return result.value;
}

static void *leaveThread(void *arg)
{
    Leaving *record = arg;
    char event = 'z';

    leaving = record;
    pthread_cleanup_push(noteCleanup, &event);
    archEnter(&record->stack, outerBody, record);
    pthread_cleanup_pop(0);
    record->wrong++;
    return NULL;
}

static void checkLeaving(int cancel, void *(*thread)(void *), const char *events, unsigned marks)
{
    Leaving record = { .cancel = cancel };
    pthread_t id;
    void *result;

    pthread_barrier_init(&record.ready, NULL, 2);
    assert_int_equal(pthread_create(&id, NULL, thread, &record), 0);
    if (cancel) {
        pthread_barrier_wait(&record.ready);
        pthread_cancel(id);
    }
    assert_int_equal(pthread_join(id, &result), 0);
    assert_ptr_equal(result, cancel ? PTHREAD_CANCELED : &record);
    assert_string_equal(record.events, events);
    assert_int_equal(record.marks, marks);
    assert_int_equal(record.wrong, 0);
    pthread_barrier_destroy(&record.ready);
}

static void testPthreadExit(void **state)
{
    archLeavingSideways = onLeaving;
    for (int i = 0; i < 100; i++)
        checkLeaving(0, leaveThread, "icoz", 6);
    archLeavingSideways = NULL;
}

static void testPthreadCancel(void **state)
{
    archLeavingSideways = onLeaving;
    for (int i = 0; i < 100; i++)
        checkLeaving(1, leaveThread, "icoz", 6);
    archLeavingSideways = NULL;
}

static void testLeavingUnobserved(void **state)
{
    archLeavingSideways = NULL;
    checkLeaving(0, leaveThread, "cz", 0);
    checkLeaving(1, leaveThread, "cz", 0);
}

static HaskellObj returnOrRaise(Stack *stack, void *arg)
{
    if (arg == NULL)
        return NULL;
    archRaise(stack, arg);
}

/* A raise to a base frame, or an ordinary return, is no leaving. */
static void testRaiseIsNotLeaving(void **state)
{
    Leaving record = { .cancel = 0 };

    leaving = &record;
    archLeavingSideways = onLeaving;
    for (int i = 0; i < 2; i++)
        assert_int_equal(archEnter(&record.stack, returnOrRaise, i ? &record : NULL).raised, i);
    archLeavingSideways = NULL;
    assert_int_equal(record.count, 0);
    assert_int_equal(record.wrong, 0);
}

/* Leaving from a stack of our own: its frames first, then whatever the thread's own stack registered. Not under a
 * sanitizer, which would hear of a thread that ends on a stack that is not its own. */
#if !ARCH_RAISE_BY_LONGJMP && !defined(FIBERS_ASAN)
static void leaveEntry(void *arg)
{
    Leaving *record = arg;

    archEnter(&record->stack, outerBody, record);
    record->wrong++;
    for (;;)
        pthread_testcancel();
}

static char *foreignMemory;

static void *leaveOnFiber(void *arg)
{
    Fiber home, away;
    char event = 'z';

    leaving = arg;
    adoptFiber(&home);
    pthread_cleanup_push(noteCleanup, &event);
    makeFiber(&away, 0, leaveEntry, arg);
    foreignMemory = away.memory;
    switchFibers(&home, &away);
    pthread_cleanup_pop(0);
    return NULL;
}

static void *leaveNow(void *arg)
{
    leaveEntry(arg);
    return NULL;
}

static HaskellObj acrossBody(Stack *stack, void *arg)
{
    foreignMemory = malloc(FIBER_SIZE);
    return archCallOnStack(foreignMemory + FIBER_SIZE, leaveNow, arg);
}

static void *leaveAcross(void *arg)
{
    Leaving *record = arg;
    char event = 'z';

    leaving = record;
    pthread_cleanup_push(noteCleanup, &event);
    archEnter(&record->stack, acrossBody, record);
    pthread_cleanup_pop(0);
    return NULL;
}

static void testLeavingFromFiber(void **state)
{
    archLeavingSideways = onLeaving;
    for (int cancel = 0; cancel < 2; cancel++) {
        checkLeaving(cancel, leaveOnFiber, "icoz", 6);
        free(foreignMemory);
    }
    archLeavingSideways = NULL;
}

static void testLeavingAcross(void **state)
{
    archLeavingSideways = onLeaving;
    for (int cancel = 0; cancel < 2; cancel++) {
        checkLeaving(cancel, leaveAcross, "icioz", 6);
        free(foreignMemory);
    }
    archLeavingSideways = NULL;
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(testPthreadExit),
        cmocka_unit_test(testPthreadCancel),
        cmocka_unit_test(testLeavingUnobserved),
        cmocka_unit_test(testRaiseIsNotLeaving),
#if !ARCH_RAISE_BY_LONGJMP && !defined(FIBERS_ASAN)
        cmocka_unit_test(testLeavingFromFiber),
        cmocka_unit_test(testLeavingAcross),
#endif
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

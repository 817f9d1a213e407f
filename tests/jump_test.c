/*
 * longjmp through managed code, which is forbidden: debug builds notice it at the next rts_lock or rts_unlock of the thread, say so, and end the in-calls that
 * were jumped over.
 */
#include "misuse.h"

#include <cmocka.h>

#ifdef CAPSTAN_DEBUG
#define JUMP_SKIP() ((void)0)
#else
#define JUMP_SKIP() skip()
#endif

static jmp_buf home;

static void *jumpHome(void *arg) { longjmp(home, 1); }

static void *jumpFromInnerCall(void *arg)
{
    callUnsafely(jumpHome, NULL, NULL);
    return NULL;
}

/* A capability is free, nothing is left to scan, and all was said. */
static void expectOver(int reports)
{
    assert_int_equal(callWell(), 42);
    hs_perform_gc();
    assert_int_equal(callWell(), 42);
    assert_int_equal(heardError(RTS_LEFT_SIDEWAYS), reports);
    assert_int_equal(heardOtherErrors(), 0);
}

static void startChecked(void)
{
    RtsConfig config = hookedConfig(1);
    config.verify_heap = config.poison_from_space = true;
    assert_int_equal(rts_start(&config, NULL, 0), RTS_OK);
    assert_int_equal(callWell(), 42);
}

static void test_jump_from_unsafe(void **state)
{
    JUMP_SKIP();
    startChecked();
    if (setjmp(home) == 0) callUnsafely(jumpHome, NULL, NULL);
    rts_unlock(rts_lock()); /* from higher up than the frames that are gone */
    expectOver(1);
    hs_exit();
}

static void test_jump_from_safe(void **state)
{
    JUMP_SKIP();
    startChecked();
    if (setjmp(home) == 0) callSafely(jumpHome, NULL, NULL);
    rts_unlock(rts_lock());
    expectOver(1);
    hs_exit();
}

/* Two in-calls at once. */
static void test_jump_from_nested(void **state)
{
    JUMP_SKIP();
    startChecked();
    if (setjmp(home) == 0) callSafely(jumpFromInnerCall, NULL, NULL);
    rts_unlock(rts_lock());
    expectOver(2);
    hs_exit();
}

/* Whoever ends the in-call hears of it, and need not end it again. */
static void test_jump_then_unlock(void **state)
{
    Capability *volatile held = NULL;
    static CallOut out = { jumpHome, NULL };
    JUMP_SKIP();
    startChecked();
    if (setjmp(home) == 0) {
        Capability *cap = held = rts_lock();
        rts_evalIO(&cap, rts_apply(cap, &misuseUnsafely_closure, rts_mkPtr(cap, &out)), NULL);
    }
    rts_unlock(held); /* rootcheck: the jump came before anything could change it */
    expectOver(1);
    hs_exit();
}

/* Over frames of C alone, and inside a safe call: nobody's business. */
static void *jumpInside(void *arg)
{
    jmp_buf here;
    if (setjmp(here) == 0) longjmp(here, 1);
    return (void *)callWell();
}

static void test_jump_inside(void **state)
{
    HsInt value = 0;
    startChecked();
    assert_int_equal(callSafely(jumpInside, NULL, &value), Success);
    assert_int_equal(value, 42);
    expectOver(0);
    hs_exit();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_jump_from_unsafe),
        TEST(test_jump_from_safe),
        TEST(test_jump_from_nested),
        TEST(test_jump_then_unlock),
        TEST(test_jump_inside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

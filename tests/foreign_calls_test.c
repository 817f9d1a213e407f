/* What capstan-foreign makes of tests/foreign/calls.ffi, called from C threads: results, exceptions, budgets, strings, errno. */
#include "misuse.h"

#include <rts/Marshal.h>
#include <rts/Try.h>

#include <errno.h>
#include <math.h>

#include <cmocka.h>

#include "tests/foreign/calls_stub.h"

/* ---- Managed functions ---- */

CAPSTAN_FUN(add, x, y)
{
    CAPSTAN_ROOTS(stack, x, y);
    x = rts_force(stack, x);
    y = rts_force(stack, y);
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, rts_intValue(x) + rts_intValue(y));
}
CAPSTAN_IO(raiseText, text)
{
    size_t length;
    const char *bytes = rts_bytes(rts_force(stack, text), &length);
    rts_raiseError(stack, "%.*s", (int)length, bytes);
}
CAPSTAN_CON(Trouble, 0, number)
CAPSTAN_IO(raiseNumber, n)
{
    n = rts_force(stack, n);
    rts_raise(stack, Trouble_new(stack->cap, n));
}
CAPSTAN_IO(spin)
{
    while (true) rts_poll(stack);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(hog, n)
{
    HsInt bytes = rts_intValue(rts_force(stack, n));
    for (HsInt done = 0; done < bytes; done += 4096) {
        rts_mkBytes(stack->cap, NULL, 4096);
        rts_poll(stack);
    }
    return rts_int(stack, bytes);
}
CAPSTAN_IO(napLong)
{
    rts_threadDelay(stack, 60000000);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(pointOf, p) { return rts_force(stack, p); }
CAPSTAN_CAF(answer) { return CAPSTAN_SMALL_INT(42); }
static _Atomic int touched;
CAPSTAN_IO(touch)
{
    touched++;
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(greet, name)
{
    char text[100];
    size_t length;
    name = rts_force(stack, name);
    if (name == CAPSTAN_UNIT) return name;
    const char *bytes = rts_bytes(name, &length);
    snprintf(text, sizeof text, "hello, %.*s", (int)length, bytes);
    return rts_mkString(stack->cap, text);
}
/* The first, if the second is empty; else the second. */
CAPSTAN_IO(echoBytes, first, second)
{
    size_t length = 0;
    CAPSTAN_ROOTS(stack, first, second);
    first = rts_force(stack, first);
    second = rts_force(stack, second);
    CAPSTAN_UNROOT(stack);
    if (second != CAPSTAN_UNIT) rts_bytes(second, &length);
    return length == 0 ? first : second;
}
CAPSTAN_IO(firstOf, text)
{
    const char *bytes = rts_bytes(rts_force(stack, text), NULL);
    return rts_mkChar(stack->cap, (HsChar)(unsigned char)bytes[0]);
}
/* errno is still there when the next import asks for it: first after a safe call, then after an unsafe one. */
CAPSTAN_IO(errnoAfter, e)
{
    CAPSTAN_ROOTS(stack, e);
    rts_runIO(stack, rts_apply(stack->cap, &failWithS_closure, e));
    HsInt safe = rts_getInt32(rts_runIO(stack, &getErrno_closure));
    rts_runIO(stack, rts_apply(stack->cap, &failWithU_closure, e));
    HsInt unsafe = rts_getInt32(rts_runIO(stack, &getErrno_closure));
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, safe == unsafe ? safe : -1);
}

/* Ascending or descending, by its free variable. */
CAPSTAN_LAMBDA_IO(compareInts, 1, p, q)
{
    bool descending = rts_getBool(rts_freeVar(self, 0));
    int a = *(int *)rts_getPtr(p), b = *(int *)rts_getPtr(q);
    return rts_int(stack, descending ? (a < b) - (a > b) : (a > b) - (a < b));
}
CAPSTAN_IO(newCompare, descending)
{
    descending = rts_force(stack, descending);
    return rts_call(stack, &mkCompare_closure, rts_mkClosure(stack->cap, &compareInts_info, &descending), CAPSTAN_WORLD);
}
/* Sorted by C, with a comparison of ours that is freed again. */
CAPSTAN_IO(sortInts, array, n, descending)
{
    CAPSTAN_ROOTS(stack, array, n, descending);
    HaskellObj compare = rts_call(stack, &newCompare_closure, descending, CAPSTAN_WORLD);
    HsFunPtr code = rts_getFunPtr(compare);
    HaskellObj size = rts_int(stack, sizeof(int));
    rts_call(stack, &c_qsort_closure, array, n, size, compare, CAPSTAN_WORLD);
    rts_call(stack, &hs_free_fun_ptr_closure, rts_mkFunPtr(stack->cap, code), CAPSTAN_WORLD);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(mix, a, b, c, d, p, e, f, g, h, i, j)
{
    return rts_mkWord64(stack->cap, (HsWord64)(rts_getInt8(a) + rts_getWord16(b) + (HsInt)rts_getFloat(c) + (HsInt)rts_getDouble(d) + (HsInt)rts_getChar(e) +
                                               rts_getBool(f) + rts_getInt(g) + rts_getInt32(h) + rts_getWord8(i)) * (HsWord64)rts_getDouble(j) +
                                        (HsWord64)(uintptr_t)rts_getPtr(p));
}
CAPSTAN_IO(newMix) { return rts_call(stack, &mkMix_closure, &mix_closure, CAPSTAN_WORLD); }
CAPSTAN_IO(shout, text, bytes, a, b, c)
{
    char all[100];
    size_t n, m;
    const char *t = rts_bytes(text, &n), *u = rts_bytes(bytes, &m);
    int length = snprintf(all, sizeof all, "%.*s%.*s%d", (int)n, t, (int)m, u, (int)(rts_getInt(a) + rts_getInt(b) + rts_getInt(c)));
    return rts_mkBytes(stack->cap, all, (size_t)length);
}
CAPSTAN_IO(newShout) { return rts_call(stack, &mkShout_closure, &shout_closure, CAPSTAN_WORLD); }
CAPSTAN_FUN(twice, d) { return rts_mkDouble(stack->cap, 2 * rts_getDouble(d)); }
CAPSTAN_IO(newPure) { return rts_call(stack, &mkPure_closure, &twice_closure, CAPSTAN_WORLD); }
CAPSTAN_IO(newUnit) { return rts_call(stack, &mkUnit_closure, &touch_closure, CAPSTAN_WORLD); }

/* ---- C functions that it imports; declared where they are defined, since the stub has declarations of its own ---- */

HsInt32 getErrno(void);
HsInt32 getErrno(void) { return errno; }
void failWith(HsInt32 e);
void failWith(HsInt32 e) { errno = e; }
extern int theCounter;
int theCounter;
void countOne(void);
void countOne(void) { theCounter++; }
HsInt32 callBack(HsInt32 n);
HsInt32 callBack(HsInt32 n) { return (HsInt32)add(n, 1) + (n > 0 ? call_back(n - 1) : 0); }

static char kept[100];
char *duplicate(const char *s);
char *duplicate(const char *s) { return s == NULL ? NULL : strdup(s); }
const char *lookAt(const char *s);
const char *lookAt(const char *s)
{
    if (s == NULL) return NULL;
    snprintf(kept, sizeof kept, "%s!", s);
    return kept;
}
/* All three after another; the first two are ours now. */
void *swallow(char *text, void *owned, size_t owned_length, const void *lent, size_t lent_length, size_t *length);
void *swallow(char *text, void *owned, size_t owned_length, const void *lent, size_t lent_length, size_t *length)
{
    size_t n = text == NULL ? 0 : strlen(text);
    *length = n + owned_length + lent_length;
    char *all = malloc(*length + 1);
    if (n != 0) memcpy(all, text, n);
    if (owned_length != 0) memcpy(all + n, owned, owned_length);
    if (lent_length != 0) memcpy(all + n + owned_length, lent, lent_length);
    free(text);
    free(owned);
    return all;
}
const void *someBytes(HsInt32 n, size_t *length);
const void *someBytes(HsInt32 n, size_t *length)
{
    *length = (size_t)n;
    return n < 0 ? NULL : "0123456789";
}
static HsDouble halve(HsDouble d) { return d / 2; }

/* ---- Results ---- */

static void testResults(void **state)
{
    assert_int_equal(startHooked(2), RTS_OK);
    assert_int_equal(add(40, 2), 42);
    assert_int_equal(the_answer(), 42);
    int here;
    assert_ptr_equal(point_of(&here), &here);
    touch();
    assert_int_equal(touched, 1);
    assert_true(sinus(1.0) == sin(1.0));
    assert_true(power(2, 10) == 1024);
    assert_int_equal(c_eof(), EOF);
    assert_int_equal(absolute(-7), 7);
    assert_ptr_equal(counter(), &theCounter);
    assert_true(counting() == (HsFunPtr)countOne);
    assert_true(freeing() == (HsFunPtr)free);
    run_plain(counting());
    assert_int_equal(theCounter, 1);
    assert_true(apply_double((HsFunPtr)halve, 5) == 2.5);
    assert_int_equal(call_back(3), 4 + 3 + 2 + 1);
    assert_int_equal(errno_after(ENOTTY), ENOTTY);
    hs_exit();
    assert_int_equal(heardOtherErrors(), 0);
}

/* The same constants after another start. */
static void testAgain(void **state)
{
    for (int i = 0; i < 2; i++) {
        assert_int_equal(startHooked(1), RTS_OK);
        assert_int_equal(the_answer(), 42);
        assert_ptr_equal(counter(), &theCounter);
        assert_int_equal(c_eof(), EOF);
        hs_exit();
    }
}

static void *addMany(void *arg)
{
    intptr_t wrong = 0;
    for (HsInt i = 0; i < (shortLoad() ? 1000 : 20000); i++) {
        HsInt sum = 0;
        RtsError error = RTS_ERROR_INIT;
        wrong += add(i, (HsInt)(intptr_t)arg) != i + (HsInt)(intptr_t)arg;
        wrong += add_try(i, 1, &sum, NULL) != Success || sum != i + 1;
        wrong += raise_number_try(i, &error) != Killed || strcmp(error.exception_class, "Trouble") != 0;
    }
    return (void *)wrong;
}
static void testThreads(void **state)
{
    pthread_t threads[4];
    assert_int_equal(startHooked(2), RTS_OK);
    for (intptr_t i = 0; i < 4; i++) threads[i] = spawn(addMany, (void *)i);
    for (int i = 0; i < 4; i++) assert_null(joinThread(threads[i]));
    hs_exit();
}

/* ---- Exceptions ---- */

static void testPlainFailure(void **state)
{
    assert_int_equal(startHooked(1), RTS_OK);
    assert_int_equal(raise_text("no luck"), 0);
    assert_int_equal(heardStatus(Killed), 1);
    assert_string_equal(heard.site, "raise_text");
    assert_string_equal(heard.text, "no luck");
    hs_exit();
}

static void testErrorRecord(void **state)
{
    RtsError error = RTS_ERROR_INIT;
    HsInt result = 17;
    assert_int_equal(startHooked(1), RTS_OK);
    assert_int_equal(raise_text_try("no luck", &result, &error), Killed);
    assert_int_equal(result, 17);
    assert_int_equal(error.status, Killed);
    assert_int_equal(error.refusal, RTS_OK);
    assert_string_equal(error.exception_class, "ErrorCall");
    assert_string_equal(error.message, "no luck");
    assert_null(error.exception);
    assert_int_equal(raise_text_try("nobody asks", NULL, NULL), Killed);
    /* The record says of a success that there was nothing. */
    assert_int_equal(add_try(1, 2, &result, &error), Success);
    assert_int_equal(result, 3);
    assert_int_equal(error.status, Success);
    assert_string_equal(error.exception_class, "");
    assert_string_equal(error.message, "");
    assert_int_equal(touch_try(&error), Success);
    assert_int_equal(add_try(1, 2, NULL, NULL), Success);
    assert_int_equal(heardStatus(Killed), 0);
    hs_exit();
}

static void testKeptException(void **state)
{
    RtsError error = RTS_ERROR_INIT;
    error.keep = true;
    assert_int_equal(startHooked(1), RTS_OK);
    assert_int_equal(raise_number_try(1234, &error), Killed);
    assert_string_equal(error.exception_class, "Trouble");
    assert_non_null(error.exception);
    hs_perform_gc();
    Capability *cap = rts_lock();
    HaskellObj e = (HaskellObj)deRefStablePtr(error.exception);
    assert_true(CAPSTAN_IS(Trouble, e));
    assert_int_equal(rts_getInt(CAPSTAN_GET(Trouble, e, number)), 1234);
    rts_unlock(cap);
    hs_free_stable_ptr(error.exception);
    assert_int_equal(touch_try(&error), Success);
    assert_null(error.exception);
    hs_exit();
    assert_int_equal(heardOtherErrors(), 0);
}

/* Texts that are too long are cut between characters; what is no UTF-8 is shown as such. */
static void testMessages(void **state)
{
    RtsError error = RTS_ERROR_INIT;
    char text[600];
    assert_int_equal(startHooked(1), RTS_OK);
    for (size_t shift = 0; shift < 4; shift++) {
        memset(text, 'x', shift);
        for (size_t i = 0; i < 100; i++) memcpy(text + shift + 4 * i, "\xf0\x9d\x84\x9e", 5);
        assert_int_equal(raise_text_try(text, NULL, &error), Killed);
        size_t length = strlen(error.message);
        assert_int_equal((length - shift) % 4, 0);
        assert_in_range(length, sizeof error.message - 4, sizeof error.message - 1);
        assert_memory_equal(error.message, text, length);
    }
    assert_int_equal(raise_text_try("a\xff" "b\xc3", NULL, &error), Killed);
    assert_string_equal(error.message, "a?b?");
    hs_exit();
}

/* ---- Budgets ---- */

static void testBudgets(void **state)
{
    RtsLockOpts opts = RTS_LOCK_OPTS_INIT;
    RtsError error = RTS_ERROR_INIT;
    HsInt result = 17;
    assert_int_equal(startHooked(2), RTS_OK);
    /* On a busy machine a time so short may be up before the call begins. */
    for (opts.deadline_us = 30000, error.refusal = RTS_TIMED_OUT; error.refusal == RTS_TIMED_OUT; opts.deadline_us *= 2)
        assert_int_equal(spin_try_opt(&opts, &result, &error), TimedOut);
    assert_int_equal(error.refusal, RTS_OK);
    assert_int_equal(result, 17);
    assert_int_equal(error.status, TimedOut);
    assert_string_equal(error.message, "timed out");
    assert_int_equal(nap_long_try_opt(&opts, NULL), TimedOut);
    opts.deadline_us = 0;
    assert_int_equal(add_try_opt(&opts, 1, 2, &result, &error), TimedOut);
    assert_int_equal(error.refusal, RTS_TIMED_OUT);
    opts = (RtsLockOpts)RTS_LOCK_OPTS_INIT;
    opts.alloc_limit_bytes = 1 << 20;
    assert_int_equal(hog_try_opt(&opts, 64 << 20, &result, &error), LimitExceeded);
    assert_int_equal(error.status, LimitExceeded);
    assert_int_equal(hog_try_opt(&opts, 1 << 16, &result, &error), Success);
    assert_int_equal(result, 1 << 16);
    assert_int_equal(add_try_opt(NULL, 1, 2, &result, NULL), Success);
    assert_int_equal(result, 3);
    hs_exit();
}

typedef struct { RtsInCallHandle handle; SchedulerStatus status; RtsError error; } Cancelled1;
static void *spinAlong(void *arg)
{
    Cancelled1 *c = arg;
    RtsLockOpts opts = RTS_LOCK_OPTS_INIT;
    opts.handle = &c->handle;
    c->status = spin_try_opt(&opts, NULL, &c->error);
    return NULL;
}
static void testCancel(void **state)
{
    Cancelled1 c = { 0, NoStatus, RTS_ERROR_INIT };
    assert_int_equal(startHooked(2), RTS_OK);
    pthread_t thread = spawn(spinAlong, &c);
    RtsInCallHandle handle;
    while ((handle = __atomic_load_n(&c.handle, __ATOMIC_ACQUIRE)) == 0) sleepMs(1);
    assert_true(rts_cancel(handle));
    joinThread(thread);
    assert_int_equal(c.status, Cancelled);
    assert_int_equal(c.error.status, Cancelled);
    hs_exit();
}

static void testNoRuntime(void **state)
{
    RtsError error = RTS_ERROR_INIT;
    HsInt result = 17;
    char *text = (char *)"before";
    assert_int_equal(add_try(1, 2, &result, &error), Refused);
    assert_int_equal(result, 17);
    assert_in_range(-error.refusal, -RTS_NOT_STARTED, -RTS_CLOSED);
    assert_string_equal(error.message, rts_statusText(error.refusal));
    /* What is handed over is freed all the same: the leak checkers look. */
    assert_int_equal(first_of_try(strdup("gone"), NULL, NULL), Refused);
    assert_int_equal(echo_bytes_try(malloc(10), 10, NULL, 0, NULL, NULL, NULL), Refused);
    assert_int_equal(greet_try("you", &text, &error), Refused);
    assert_string_equal(text, "before");
}

/* ---- Strings and bytes ---- */

static void assertOwned(char *text, const char *expected)
{
    if (expected == NULL) assert_null(text);
    else assert_string_equal(text, expected);
    free(text);
}

static void testStrings(void **state)
{
    char *text = NULL;
    assert_int_equal(startHooked(2), RTS_OK);
    assertOwned(greet("you"), "hello, you");
    assertOwned(greet(NULL), NULL);
    assert_int_equal(greet_try("you", &text, NULL), Success);
    assertOwned(text, "hello, you");
    assert_int_equal(greet_try(NULL, &text, NULL), Success);
    assert_null(text);
    assert_int_equal(first_of(strdup("xyz")), 'x');
    assertOwned(x_duplicate("again"), "again");
    assertOwned(x_duplicate(""), "");
    assertOwned(x_duplicate(NULL), NULL);
    assertOwned(x_duplicate_u("again"), "again");
    assertOwned(x_look_at("look"), "look!");
    assertOwned(x_look_at(NULL), NULL);
    hs_exit();
    assert_int_equal(heardOtherErrors(), 0);
}

static void testZeroInside(void **state)
{
    RtsError error = RTS_ERROR_INIT;
    void *result = NULL;
    size_t length = 0;
    assert_int_equal(startHooked(1), RTS_OK);
    assert_int_equal(x_duplicate_bytes_try("a\0b", 3, &result, &length, &error), Killed);
    assert_string_equal(error.exception_class, "ErrorCall");
    assert_non_null(strstr(error.message, "a zero in it"));
    assert_int_equal(x_duplicate_bytes_try("ab", 2, &result, &length, &error), Success);
    assert_int_equal(length, 2);
    assert_memory_equal(result, "ab", 2);
    free(result);
    hs_exit();
}

static char *heapText(const char *text) { return text == NULL ? NULL : strdup(text); }

static void swallowAll(void *(*call)(char *, void *, size_t, const void *, size_t, size_t *))
{
    size_t length = 99;
    char *all = call(heapText("one"), heapText("two"), 3, "three", 5, &length);
    assert_int_equal(length, 11);
    assert_memory_equal(all, "onetwothree", 11);
    free(all);
    all = call(NULL, NULL, 0, NULL, 0, &length);
    assert_int_equal(length, 0);
    assert_non_null(all);
    free(all);
}

static void testBytes(void **state)
{
    size_t length = 99;
    assert_int_equal(startHooked(2), RTS_OK);
    char *back = echo_bytes(heapText("first"), 6, "se\0cond", 7, &length);
    assert_int_equal(length, 7);
    assert_memory_equal(back, "se\0cond", 7);
    free(back);
    back = echo_bytes(heapText("first"), 6, NULL, 0, &length);
    assert_int_equal(length, 6);
    assert_string_equal(back, "first");
    free(back);
    assert_null(echo_bytes(NULL, 0, NULL, 0, &length));
    assert_int_equal(length, 0);
    swallowAll(x_swallow);
    swallowAll(x_swallow_u);
    back = x_some_bytes(4, &length);
    assert_int_equal(length, 4);
    assert_memory_equal(back, "0123", 4);
    free(back);
    assert_null(x_some_bytes(-1, &length));
    hs_perform_gc();
    hs_exit();
    assert_int_equal(heardOtherErrors(), 0);
}

/* The declaration promises a string, and the managed function gives a number. */
static void testWrongResult(void **state)
{
    RtsError error = RTS_ERROR_INIT;
    char *text = NULL;
    void *bytes = NULL;
    size_t length = 7;
    error.keep = true;
    assert_int_equal(startHooked(1), RTS_OK);
    RtsCounts before, after;
    rts_getCounts(&before);
    assert_int_equal(no_text_try(&text, &error), Killed);
    assert_null(text);
    assert_string_equal(error.exception_class, "capstan_WrongKind");
    assert_non_null(strstr(error.message, "expected a byte array"));
    assert_int_equal(error.refusal, RTS_OK);
    assert_non_null(error.exception);
    rts_getCounts(&after);
    assert_int_equal(after.stable_ptrs, before.stable_ptrs + 1);
    hs_free_stable_ptr(error.exception);
    assert_int_equal(no_bytes_try(&bytes, &length, &error), Killed);
    assert_null(bytes);
    assert_int_equal(length, 0);
    hs_free_stable_ptr(error.exception);
    assert_int_equal(no_text_try(&text, NULL), Killed);
    assert_int_equal(no_text_try(NULL, &error), Success); /* nobody wants it: nobody looks */
    assert_int_equal(heardError(RTS_WRONG_KIND), 3);
    hs_exit();
    assert_int_equal(heardOtherErrors(), 0);
}

/* With collections between, and from several threads: what is lent must stay where it is. */
static void *swallowMany(void *arg)
{
    for (int i = 0; i < (shortLoad() ? 200 : 3000); i++) {
        swallowAll(x_swallow);
        assertOwned(x_duplicate("some text of some length"), "some text of some length");
        if (i % 64 == 0) hs_perform_gc();
    }
    return NULL;
}
static void testLending(void **state)
{
    RtsConfig config = hookedConfig(2);
    pthread_t threads[3];
    config.nursery_bytes = 1 << 16;
    config.poison_from_space = true;
    assert_int_equal(rts_start(&config, NULL, 0), RTS_OK);
    for (int i = 0; i < 3; i++) threads[i] = spawn(swallowMany, NULL);
    for (int i = 0; i < 3; i++) joinThread(threads[i]);
    hs_exit();
    assert_int_equal(heardOtherErrors(), 0);
}

/* ---- Function pointers ---- */

static void testWrappers(void **state)
{
    assert_int_equal(startHooked(2), RTS_OK);
    int array[100];
    for (int descending = 0; descending < 2; descending++) {
        for (int i = 0; i < 100; i++) array[i] = i * 37 % 100;
        sort_ints(array, 100, descending);
        for (int i = 0; i < 100; i++) assert_int_equal(array[i], descending ? 99 - i : i);
    }
    HsFunPtr twiceAgain = new_pure();
    assert_true(((HsDouble(*)(HsDouble))twiceAgain)(1.25) == 2.5);
    assert_true(apply_double((HsFunPtr)halve, 3) == 1.5);
    hs_free_fun_ptr(twiceAgain);
    touched = 0;
    HsFunPtr unit = new_unit();
    ((void (*)(void))unit)();
    run_plain(unit); /* from C through managed code through C into managed code */
    assert_int_equal(touched, 2);
    hs_free_fun_ptr(unit);
    hs_exit();
    assert_int_equal(heardOtherErrors(), 0);
}

/* More integers, and more of both kinds, than there are registers; there and back. */
static void testMix(void **state)
{
    typedef HsWord64 (*Mix)(HsInt8, HsWord16, HsFloat, HsDouble, HsPtr, HsChar, HsBool, HsInt, HsInt32, HsWord8, HsDouble);
    assert_int_equal(startHooked(1), RTS_OK);
    HsFunPtr mixed = new_mix();
    const HsWord64 expected = (HsWord64)(-5 + 7 + 2 + 3 + 'A' + 1 - 1000 + 70000 + 200) * 3 + 0x1000;
    assert_true(((Mix)mixed)(-5, 7, 2.5f, 3.5, (HsPtr)0x1000, 'A', 1, -1000, 70000, 200, 3) == expected);
    assert_true(call_mix(mixed, -5, 7, 2.5f, 3.5, (HsPtr)0x1000, 'A', 1, -1000, 70000, 200, 3) == expected);
    HsWord64 result = 0;
    RtsError error = RTS_ERROR_INIT;
    assert_int_equal(call_mix_try(NULL, -5, 7, 2.5f, 3.5, NULL, 'A', 1, -1000, 70000, 200, 3, &result, &error), Killed);
    assert_string_equal(error.message, "callMix: the function pointer is NULL");
    hs_free_fun_ptr(mixed);
    hs_exit();
    assert_int_equal(heardOtherErrors(), 0);
}

static void testWrappedStrings(void **state)
{
    typedef void *(*Shout)(const char *, void *, size_t, HsInt, HsInt, HsInt, size_t *);
    assert_int_equal(startHooked(1), RTS_OK);
    HsFunPtr shouting = new_shout();
    size_t length = 0;
    char *all = ((Shout)shouting)("one", heapText("two"), 3, 1, 2, 3, &length);
    assert_int_equal(length, 7);
    assert_memory_equal(all, "onetwo6", 7);
    free(all);
    hs_free_fun_ptr(shouting);
    hs_exit();
    assert_int_equal(heardOtherErrors(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(testNoRuntime), TEST(testResults),  TEST(testAgain),     TEST(testThreads), TEST(testPlainFailure), TEST(testErrorRecord), TEST(testKeptException),
        TEST(testMessages),  TEST(testBudgets),  TEST(testCancel),    TEST(testStrings), TEST(testZeroInside),   TEST(testWrongResult),   TEST(testBytes),       TEST(testLending),
        TEST(testWrappers),  TEST(testMix),      TEST(testWrappedStrings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Values of every type through exports and imports of every kind: tests/foreign/cross.ffi.  What comes back is compared bit by bit. */
#include "misuse.h"

#include <math.h>
#include <wchar.h>

#include <rts/Try.h>

#include <cmocka.h>

#include "tests/foreign/cross_stub.h"

/* The C functions: each gives the value back, and counts.  Those of C types have C's types, of which the stubs only know the width. */
static unsigned calls;
#define NEXT(name, type)                                        \
    type next##name(type v);                                    \
    type next##name(type v)                                     \
    {                                                           \
        calls++;                                                \
        return v;                                               \
    }
NEXT(Char, HsChar) NEXT(Int, HsInt) NEXT(Int8, HsInt8) NEXT(Int16, HsInt16) NEXT(Int32, HsInt32) NEXT(Int64, HsInt64)
NEXT(Word, HsWord) NEXT(Word8, HsWord8) NEXT(Word16, HsWord16) NEXT(Word32, HsWord32) NEXT(Word64, HsWord64)
NEXT(Float, HsFloat) NEXT(Double, HsDouble) NEXT(Bool, HsBool) NEXT(Ptr, HsPtr) NEXT(FunPtr, HsFunPtr) NEXT(StablePtr, HsStablePtr)
NEXT(CInt, int) NEXT(CUInt, unsigned) NEXT(CLong, long) NEXT(CULong, unsigned long) NEXT(CLLong, long long) NEXT(CULLong, unsigned long long)
NEXT(CShort, short) NEXT(CUShort, unsigned short) NEXT(CChar, char) NEXT(CSChar, signed char) NEXT(CUChar, unsigned char) NEXT(CBool, bool)
NEXT(CFloat, float) NEXT(CDouble, double) NEXT(CSize, size_t) NEXT(CPtrdiff, ptrdiff_t) NEXT(CWchar, wchar_t) NEXT(CTime, time_t)
NEXT(CPid, pid_t) NEXT(COff, off_t) NEXT(CMode, mode_t)

#define CROSS_BY(function, type, value)                                  \
    do {                                                                 \
        const type before = (type)(value), after = function(before);     \
        assert_memory_equal(&before, &after, sizeof before);             \
    } while (0)
#define CROSS(name, type, value)                     \
    do {                                             \
        CROSS_BY(cross##name##U, type, value);       \
        CROSS_BY(cross##name##S, type, value);       \
        CROSS_BY(cross##name##I, type, value);       \
        CROSS_BY(crossPure##name, type, value);      \
        assert_int_equal(calls, 4);                  \
        calls = 0;                                   \
    } while (0)

/* For each width: the ends, and what changes if it is extended in the wrong way. */
static const int64_t signedValues[] = { 0, 1, -1, 127, -128, 32767, -32768, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN, 0x5a5a5a5a5a5a5a5a };
static const uint64_t words[] = { 0, 1, 255, 65535, UINT32_MAX, UINT64_MAX, 0x8000000000000000, 0xa5a5a5a5a5a5a5a5 };
static const double doubles[] = { 0.0, -0.0, 1.5, -2.25, 1e300, 5e-324, INFINITY, -INFINITY };
static const float floats[] = { 0.0f, -0.0f, 1.5f, 3.4e38f, 1e-45f, INFINITY };
#define EACH(values, name, type) \
    for (size_t i = 0; i < sizeof(values) / sizeof *(values); i++) CROSS(name, type, (values)[i])

static void testIntegers(void **state)
{
    EACH(signedValues, Int, HsInt);
    EACH(signedValues, Int8, HsInt8);
    EACH(signedValues, Int16, HsInt16);
    EACH(signedValues, Int32, HsInt32);
    EACH(signedValues, Int64, HsInt64);
    EACH(words, Word, HsWord);
    EACH(words, Word8, HsWord8);
    EACH(words, Word16, HsWord16);
    EACH(words, Word32, HsWord32);
    EACH(words, Word64, HsWord64);
}

static void testOthers(void **state)
{
    EACH(doubles, Double, HsDouble);
    EACH(floats, Float, HsFloat);
    CROSS(Char, HsChar, 0);
    CROSS(Char, HsChar, 'a');
    CROSS(Char, HsChar, 0x10ffff);
    CROSS(Bool, HsBool, 0);
    CROSS(Bool, HsBool, 1);
    EACH(words, Ptr, HsPtr);
    EACH(words, FunPtr, HsFunPtr);
    EACH(words, StablePtr, HsStablePtr);
}

static void testCTypes(void **state)
{
    EACH(signedValues, CInt, int);
    EACH(signedValues, CLong, long);
    EACH(signedValues, CLLong, long long);
    EACH(signedValues, CShort, short);
    EACH(signedValues, CChar, char);
    EACH(signedValues, CSChar, signed char);
    EACH(signedValues, CPtrdiff, ptrdiff_t);
    EACH(signedValues, CWchar, wchar_t);
    EACH(signedValues, CTime, time_t);
    EACH(signedValues, CPid, pid_t);
    EACH(signedValues, COff, off_t);
    EACH(words, CUInt, unsigned);
    EACH(words, CULong, unsigned long);
    EACH(words, CULLong, unsigned long long);
    EACH(words, CUShort, unsigned short);
    EACH(words, CUChar, unsigned char);
    EACH(words, CSize, size_t);
    EACH(words, CMode, mode_t);
    CROSS(CBool, bool, 0);
    CROSS(CBool, bool, 1);
    EACH(doubles, CDouble, double);
    EACH(floats, CFloat, float);
}

static int start(void **state)
{
    armTest(state);
    RtsConfig config = hookedConfig(1);
    config.interrupt_signal = SIGUSR1;
    return rts_start(&config, NULL, 0) != RTS_OK;
}
static int stop(void **state)
{
    assert_int_equal(heardOtherErrors(), 0);
    return disarmTest(state);
}
#define CROSSING(f) cmocka_unit_test_setup_teardown(f, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = { CROSSING(testIntegers), CROSSING(testOthers), CROSSING(testCTypes) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

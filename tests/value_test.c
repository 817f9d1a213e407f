/*
 * Making and reading values from C: every rts_mk and rts_get at its limits, boxed and immediate, strings, bytes, arrays,
 * records, MutVars, info tables static and made at run time; and what reading the wrong kind gives.
 */
#include <Rts.h>
#include <rts/Managed.h>

#include <float.h>
#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- The runtime of these tests: one capability, held by each test from beginning to end ---- */

static unsigned errors;
static RtsStatus lastError;
static Capability *cap;

static void noteError(void *ctx, RtsStatus status, const char *message)
{
    errors++;
    lastError = status;
}

static int setUp(void **state)
{
    RtsConfig config = RTS_CONFIG_INIT;

    config.capabilities = 1;
    config.verify_heap = true;
    config.errorHook = noteError;
    return rts_start(&config, NULL, 0) == RTS_OK ? 0 : -1;
}

static int tearDown(void **state)
{
    hs_exit();
    return 0;
}

static int lockIt(void **state)
{
    cap = rts_lock();
    errors = 0;
    return rts_isDead(cap) ? -1 : 0;
}

static int unlockIt(void **state)
{
    rts_unlock(cap);
    return 0;
}

#define assert_poison(value) assert_ptr_equal((value), CAPSTAN_POISON)
#define assert_error(status)                     \
    do {                                         \
        assert_int_equal(errors, 1);             \
        assert_int_equal(lastError, (status));   \
        errors = 0;                              \
    } while (0)
#define assert_no_error() assert_int_equal(errors, 0)

static ClosureKind kindOf(HaskellObj v)
{
    assert_false(rts_isImmediate(v));
    return (ClosureKind)rts_info(v)->kind;
}

/* ---- Integers ---- */

#define CHECK_ROUND(T, value) assert_true(rts_get##T(rts_mk##T(cap, (value))) == (value))

static void testIntLimits(void **state)
{
    static const HsInt values[] = { 0, 1, -1, 42, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN };

    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        CHECK_ROUND(Int, values[i]);
        CHECK_ROUND(Int64, values[i]);
        CHECK_ROUND(Word, (HsWord)values[i]);
        CHECK_ROUND(Word64, (HsWord64)values[i]);
    }
    CHECK_ROUND(Int8, INT8_MIN);
    CHECK_ROUND(Int8, INT8_MAX);
    CHECK_ROUND(Int16, INT16_MIN);
    CHECK_ROUND(Int16, INT16_MAX);
    CHECK_ROUND(Int32, INT32_MIN);
    CHECK_ROUND(Int32, INT32_MAX);
    CHECK_ROUND(Word8, UINT8_MAX);
    CHECK_ROUND(Word16, UINT16_MAX);
    CHECK_ROUND(Word32, UINT32_MAX);
    assert_no_error();
}

/* Integers of 63 bits are immediate, the others boxed, and the seam does not show. */
static void testIntSeam(void **state)
{
    const HsInt edge = (HsInt)1 << 62;

    for (HsInt d = -4; d < 4; d++) {
        HsInt high = edge + d, low = -edge + d;
        CHECK_ROUND(Int, high);
        CHECK_ROUND(Int, low);
        CHECK_ROUND(Int64, high);
        assert_int_equal(rts_isSmallInt(rts_mkInt(cap, high)), d < 0);
        assert_int_equal(rts_isSmallInt(rts_mkInt(cap, low)), d >= 0);
    }
    assert_int_equal(kindOf(rts_mkInt(cap, edge)), CLOSURE_INT64);
    assert_true(rts_mkInt(cap, edge - 1) == CAPSTAN_SMALL_INT(CAPSTAN_SMALL_INT_MAX));
    assert_true(rts_mkInt(cap, -edge) == CAPSTAN_SMALL_INT(CAPSTAN_SMALL_INT_MIN));
    assert_no_error();
}

static void testWordSeam(void **state)
{
    static const HsWord64 edges[] = { (HsWord64)1 << 62, (HsWord64)1 << 63, 0 };

    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++)
        for (HsWord64 d = 0; d < 8; d++) {
            CHECK_ROUND(Word, edges[i] + d - 4);
            CHECK_ROUND(Word64, edges[i] + d - 4);
        }
    assert_true(rts_isSmallInt(rts_mkWord(cap, ((HsWord)1 << 62) - 1)));
    assert_int_equal(kindOf(rts_mkWord(cap, HS_WORD_MAX)), CLOSURE_WORD64);
    assert_no_error();
}

/* Reading at a smaller width takes the low bits, as a C conversion does. */
static void testWraparound(void **state)
{
    assert_int_equal(rts_getInt8(rts_mkInt(cap, 300)), 44);
    assert_int_equal(rts_getInt8(rts_mkInt(cap, 200)), -56);
    assert_int_equal(rts_getWord8(rts_mkInt(cap, -1)), 255);
    assert_int_equal(rts_getInt16(rts_mkInt(cap, 65535)), -1);
    assert_int_equal(rts_getWord16(rts_mkInt(cap, -1)), 65535);
    assert_int_equal(rts_getInt32(rts_mkInt64(cap, ((HsInt64)1 << 32) | 5)), 5);
    assert_true(rts_getWord32(rts_mkInt(cap, -1)) == UINT32_MAX);
    assert_true(rts_getInt32(rts_mkInt(cap, INT64_MIN)) == 0);
    assert_true(rts_getInt32(rts_mkInt(cap, INT64_MAX)) == -1);
    assert_true(rts_getInt8(rts_mkWord64(cap, UINT64_MAX)) == -1);
    assert_no_error();
}

/* Int and Word of the same bits read as each other, immediate or boxed. */
static void testIntAsWord(void **state)
{
    assert_true(rts_getWord(rts_mkInt(cap, -1)) == UINT64_MAX);
    assert_true(rts_getInt(rts_mkWord(cap, UINT64_MAX)) == -1);
    assert_true(rts_getWord64(rts_mkInt(cap, INT64_MIN)) == (HsWord64)1 << 63);
    assert_true(rts_getInt64(rts_mkWord64(cap, (HsWord64)1 << 63)) == INT64_MIN);
    assert_no_error();
}

static void testCharBool(void **state)
{
    static const HsChar chars[] = { 0, 'a', 0x3bb, 0xD800, 0xFFFF, HS_CHAR_MAX };

    for (size_t i = 0; i < sizeof chars / sizeof *chars; i++) {
        HaskellObj c = rts_mkChar(cap, chars[i]);
        assert_true(rts_isImmediateOf(c, IMM_CHAR));
        assert_int_equal(rts_getChar(c), chars[i]);
    }
    assert_ptr_equal(rts_mkBool(cap, HS_BOOL_TRUE), CAPSTAN_TRUE);
    assert_ptr_equal(rts_mkBool(cap, HS_BOOL_FALSE), CAPSTAN_FALSE);
    assert_int_equal(rts_getBool(rts_mkBool(cap, 2)), HS_BOOL_TRUE);
    assert_int_equal(rts_getBool(rts_mkBool(cap, -1)), HS_BOOL_TRUE);
    assert_int_equal(rts_getBool(CAPSTAN_FALSE), HS_BOOL_FALSE);
    assert_no_error();
}

/* ---- Floating point, pointers ---- */

static HsWord64 doubleBits(HsDouble d)
{
    HsWord64 bits;

    memcpy(&bits, &d, sizeof bits);
    return bits;
}

static HsWord32 floatBits(HsFloat f)
{
    HsWord32 bits;

    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static void testDoubles(void **state)
{
    static const HsDouble values[] = { 0.0, -0.0, 1.0 / 3, DBL_MAX, -DBL_MIN, DBL_TRUE_MIN, INFINITY, -INFINITY };
    static const HsWord64 nans[] = { 0x7ff8000000000000u, 0x7ff8000000000001u, 0xfff8123456789abcu };

    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        assert_true(doubleBits(rts_getDouble(rts_mkDouble(cap, values[i]))) == doubleBits(values[i]));
    for (size_t i = 0; i < sizeof nans / sizeof *nans; i++) {
        HsDouble nan;
        memcpy(&nan, &nans[i], sizeof nan);
        assert_true(doubleBits(rts_getDouble(rts_mkDouble(cap, nan))) == nans[i]);
    }
    assert_true(signbit(rts_getDouble(rts_mkDouble(cap, -0.0))) != 0);
    assert_no_error();
}

static void testFloats(void **state)
{
    static const HsFloat values[] = { 0.0f, -0.0f, 1.0f / 3, FLT_MAX, -FLT_MIN, FLT_TRUE_MIN, INFINITY, -INFINITY };
    static const HsWord32 nans[] = { 0x7fc00000u, 0x7fc00001u, 0xffc12345u };

    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        assert_true(floatBits(rts_getFloat(rts_mkFloat(cap, values[i]))) == floatBits(values[i]));
    for (size_t i = 0; i < sizeof nans / sizeof *nans; i++) {
        HsFloat nan;
        memcpy(&nan, &nans[i], sizeof nan);
        assert_true(floatBits(rts_getFloat(rts_mkFloat(cap, nan))) == nans[i]);
    }
    assert_no_error();
}

static void testPointers(void **state)
{
    static const uintptr_t addresses[] = { 0, 1, 2, 7, 0x1234, UINTPTR_MAX, UINTPTR_MAX / 2 + 1 };

    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        assert_true((uintptr_t)rts_getPtr(rts_mkPtr(cap, (HsPtr)addresses[i])) == addresses[i]);
        assert_true((uintptr_t)rts_getFunPtr(rts_mkFunPtr(cap, (HsFunPtr)addresses[i])) == addresses[i]);
        assert_true((uintptr_t)rts_getStablePtr(rts_mkStablePtr(cap, (HsStablePtr)addresses[i])) == addresses[i]);
    }
    assert_no_error();
}

/* ---- Strings and bytes ---- */

static void checkString(const char *text)
{
    HaskellObj v = rts_mkString(cap, text);
    size_t length = 0;
    char *copy = rts_getString(v);

    assert_int_equal(kindOf(v), CLOSURE_BYTES);
    assert_non_null(copy);
    assert_string_equal(copy, text);
    free(copy);
    assert_memory_equal(rts_bytes(v, &length), text, strlen(text));
    assert_int_equal(length, strlen(text));
}

static void testStrings(void **state)
{
    char *copy;

    checkString("hello");
    checkString("seven..");
    checkString("eight...");
    checkString("\xce\xbb, with bytes above 127 \xff");
    copy = rts_getString(rts_mkString(cap, ""));
    assert_string_equal(copy, "");
    free(copy);
    copy = rts_getString(rts_mkBytes(cap, "a\0b", 3));
    assert_memory_equal(copy, "a\0b", 4);
    free(copy);
    assert_no_error();
}

/* Bytes of every length around a word, a block and a large object. */
static void checkBytes(HaskellObj (*make)(Capability *, const void *, size_t), size_t length)
{
    unsigned char *pattern = calloc(1, length + 1);
    size_t found = SIZE_MAX;

    for (size_t i = 0; i < length; i++) pattern[i] = (unsigned char)(i * 7 + length);
    HaskellObj v = make(cap, pattern, length), zeros = make(cap, NULL, length);
    const unsigned char *bytes = rts_bytes(v, &found), *blank = rts_bytes(zeros, NULL);
    assert_non_null(bytes);
    assert_int_equal(found, length);
    assert_int_equal(memcmp(bytes, pattern, length), 0);
    for (size_t i = 0; i < length; i++) assert_int_equal(blank[i], 0);
    free(pattern);
}

static void testBytes(void **state)
{
    static const size_t lengths[] = { 3000, 3276, 3277, 4000, 4096, 32768, 65536, 1000003, 4u << 20 };

    for (size_t length = 0; length <= 40; length++) {
        checkBytes(rts_mkBytes, length);
        checkBytes(rts_mkBytesPinned, length);
    }
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        checkBytes(rts_mkBytes, lengths[i]);
        checkBytes(rts_mkBytesPinned, lengths[i]);
    }
    assert_no_error();
}

static void testPinnedAlignment(void **state)
{
    for (size_t length = 0; length < 300; length += 7)
        assert_int_equal((uintptr_t)rts_bytes(rts_mkBytesPinned(cap, NULL, length), NULL) % 16, 0);
    assert_int_equal((uintptr_t)rts_bytes(rts_mkBytesPinned(cap, NULL, 3u << 20), NULL) % 16, 0);
}

static void testCopyBytes(void **state)
{
    HaskellObj v = rts_mkString(cap, "0123456789");
    char to[16] = "................";

    assert_int_equal(rts_copyBytes(v, 2, to, 3), 3);
    assert_memory_equal(to, "234.", 4);
    assert_int_equal(rts_copyBytes(v, 7, to, sizeof to), 3);
    assert_memory_equal(to, "789.", 4);
    assert_int_equal(rts_copyBytes(v, 10, to, 4), 0);
    assert_int_equal(rts_copyBytes(v, 11, to, 4), 0);
    assert_int_equal(rts_copyBytes(v, SIZE_MAX, to, 4), 0);
    assert_int_equal(rts_copyBytes(v, 1, to, SIZE_MAX), 9);
    assert_int_equal(rts_copyBytes(v, 0, to, 0), 0);
    assert_memory_equal(to, "123456789.", 10);
}

static unsigned released;
static void *releasedBytes, *releasedCtx;

static void release(void *ctx, void *bytes)
{
    released++;
    releasedCtx = ctx;
    releasedBytes = bytes;
}

/* Read like any byte array; given back at the latest when the runtime ends. */
static void testExternal(void **state)
{
    static char memory[] = "of the host";
    static const int context = 1;
    size_t length = 0;
    HaskellObj v = rts_mkBytesExternal(cap, memory, sizeof memory - 1, release, (void *)&context);
    HaskellObj unowned = rts_mkBytesExternal(cap, memory, 2, NULL, NULL);

    assert_int_equal(kindOf(v), CLOSURE_EXTERNAL);
    assert_ptr_equal(rts_bytes(v, &length), memory);
    assert_int_equal(length, sizeof memory - 1);
    char *copy = rts_getString(v);
    assert_string_equal(copy, memory);
    free(copy);
    assert_ptr_equal(rts_bytes(unowned, &length), memory);
    assert_int_equal(length, 2);
    assert_int_equal(released, 0);
    rts_unlock(cap);
    hs_exit();
    assert_int_equal(released, 1);
    assert_ptr_equal(releasedBytes, memory);
    assert_ptr_equal(releasedCtx, &context);
    assert_int_equal(setUp(state), 0);
    cap = rts_lock();
}

/* ---- Arrays ---- */

static void testArrays(void **state)
{
    HaskellObj array = rts_mkArray(cap, 10, CAPSTAN_UNIT);

    assert_int_equal(rts_arrayLength(array), 10);
    for (size_t i = 0; i < 10; i++) assert_ptr_equal(rts_getElem(array, i), CAPSTAN_UNIT);
    for (size_t i = 0; i < 10; i++) rts_setElem(cap, array, i, rts_mkInt(cap, (HsInt)i * i));
    for (size_t i = 0; i < 10; i++) assert_int_equal(rts_getInt(rts_getElem(array, i)), i * i);
    assert_int_equal(rts_arrayLength(rts_mkArray(cap, 0, CAPSTAN_UNIT)), 0);
    assert_no_error();
}

static void testArrayBounds(void **state)
{
    HaskellObj array = rts_mkArray(cap, 3, CAPSTAN_SMALL_INT(7));

    assert_poison(rts_getElem(array, 3));
    assert_error(RTS_BAD_ARGUMENT);
    assert_poison(rts_getElem(array, SIZE_MAX));
    assert_error(RTS_BAD_ARGUMENT);
    rts_setElem(cap, array, 3, CAPSTAN_UNIT);
    assert_error(RTS_BAD_ARGUMENT);
    for (size_t i = 0; i < 3; i++) assert_int_equal(rts_getInt(rts_getElem(array, i)), 7);
    assert_poison(rts_getElem(rts_mkArray(cap, 0, CAPSTAN_UNIT), 0));
    assert_error(RTS_BAD_ARGUMENT);
}

static void testLargeArray(void **state)
{
    const size_t length = 1000000;
    HaskellObj array = rts_mkArray(cap, length, CAPSTAN_SMALL_INT(-1));

    assert_int_equal(rts_arrayLength(array), length);
    for (size_t i = 0; i < length; i += 997) rts_setElem(cap, array, i, CAPSTAN_SMALL_INT(i));
    for (size_t i = 0; i < length; i++)
        if (rts_getElem(array, i) != (i % 997 == 0 ? CAPSTAN_SMALL_INT(i) : CAPSTAN_SMALL_INT(-1)))
            fail_msg("element %zu", i);
    assert_no_error();
}

/* A size that no machine has is no memory, not a wrapped-around small one. */
static void testAbsurdSizes(void **state)
{
    static const size_t sizes[] = { SIZE_MAX, SIZE_MAX - 7, SIZE_MAX / 2, SIZE_MAX / 8, SIZE_MAX / 8 - 1, (size_t)1 << 60 };

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        assert_poison(rts_mkBytes(cap, NULL, sizes[i]));
        assert_poison(rts_mkBytesPinned(cap, NULL, sizes[i]));
        assert_poison(rts_mkArray(cap, sizes[i], CAPSTAN_UNIT));
    }
    assert_int_equal(rts_getSchedStatus(cap), HeapExhausted);
    rts_unlock(cap);
    cap = rts_lock();
    assert_int_equal(rts_getInt(rts_mkInt(cap, INT64_MAX)), INT64_MAX);
}

/* ---- MutVars ---- */

static void testMutVar(void **state)
{
    HaskellObj var = rts_mkMutVar(cap, CAPSTAN_SMALL_INT(1));

    assert_int_equal(rts_getInt(rts_readMutVar(var)), 1);
    rts_writeMutVar(cap, var, rts_mkInt(cap, INT64_MAX));
    assert_int_equal(rts_getInt(rts_readMutVar(var)), INT64_MAX);
    assert_no_error();
}

static void testMutVarCas(void **state)
{
    HaskellObj var = rts_mkMutVar(cap, CAPSTAN_SMALL_INT(1));
    HaskellObj boxed = rts_mkInt(cap, INT64_MAX);

    assert_false(rts_casMutVar(cap, var, CAPSTAN_SMALL_INT(2), CAPSTAN_SMALL_INT(3)));
    assert_int_equal(rts_getInt(rts_readMutVar(var)), 1);
    assert_true(rts_casMutVar(cap, var, rts_mkInt(cap, 1), boxed));
    assert_ptr_equal(rts_readMutVar(var), boxed);
    /* Compared as words: an equal number in another box is another value. */
    assert_false(rts_casMutVar(cap, var, rts_mkInt(cap, INT64_MAX), CAPSTAN_UNIT));
    assert_true(rts_casMutVar(cap, var, boxed, CAPSTAN_UNIT));
    assert_ptr_equal(rts_readMutVar(var), CAPSTAN_UNIT);
    assert_no_error();
}

/* ---- Records ---- */

CAPSTAN_CON(Node, 1, left, key, right)
CAPSTAN_STATIC_CON(Leaf, 0);
CAPSTAN_STATIC(fixedNode, Node, &Leaf_closure, CAPSTAN_SMALL_INT(17), &Leaf_closure);

static void testRecords(void **state)
{
    HaskellObj node = Node_new(cap, &Leaf_closure, rts_mkInt(cap, 5), CAPSTAN_TRUE);

    assert_int_equal(Node_fields, 3);
    assert_true(CAPSTAN_IS(Node, node));
    assert_false(CAPSTAN_IS(Leaf, node));
    assert_false(CAPSTAN_IS(Node, CAPSTAN_SMALL_INT(3)));
    assert_true(CAPSTAN_IS(Leaf, CAPSTAN_GET(Node, node, left)));
    assert_int_equal(rts_getInt(CAPSTAN_GET(Node, node, key)), 5);
    assert_ptr_equal(CAPSTAN_GET(Node, node, right), CAPSTAN_TRUE);
    assert_int_equal(rts_conTag(node), 1);
    assert_int_equal(rts_conTag(&Leaf_closure), 0);
    assert_ptr_equal(rts_getField(node, Node_left), &Leaf_closure);
    assert_int_equal(rts_getInt(rts_getField(node, Node_key)), 5);
    assert_string_equal(Node_info.name, "Node");
    assert_string_equal(Node_info.fieldNames[Node_right], "right");
    assert_no_error();
}

static void testStaticRecords(void **state)
{
    assert_true(CAPSTAN_IS(Node, &fixedNode_closure));
    assert_int_equal(rts_getInt(CAPSTAN_GET(Node, &fixedNode_closure, key)), 17);
    assert_ptr_equal(rts_getField(&fixedNode_closure, Node_right), &Leaf_closure);
    assert_no_error();
}

static void testFieldOutOfRange(void **state)
{
    HaskellObj node = Node_new(cap, CAPSTAN_UNIT, CAPSTAN_UNIT, CAPSTAN_UNIT);

    assert_poison(rts_getField(node, 3));
    assert_error(RTS_BAD_ARGUMENT);
    assert_poison(rts_getField(&Leaf_closure, 0));
    assert_error(RTS_BAD_ARGUMENT);
}

static void testMkCon(void **state)
{
    HaskellObj fields[] = { CAPSTAN_SMALL_INT(1), CAPSTAN_SMALL_INT(2), CAPSTAN_SMALL_INT(3) };
    HaskellObj node = rts_mkCon(cap, &Node_info, fields);

    assert_true(CAPSTAN_IS(Node, node));
    for (size_t i = 0; i < 3; i++) assert_int_equal(rts_getInt(rts_getField(node, i)), i + 1);
    assert_no_error();
}

/* ---- Info tables made at run time ---- */

static void testRuntimeInfo(void **state)
{
    char name[] = "Pair", first[] = "first", second[] = "second";
    const char *fieldNames[] = { first, second };
    StgInfoTable model = { .kind = CLOSURE_CON, .ptrs = 2, .nptrs = 1, .tag = 9, .name = name, .fieldNames = fieldNames };
    const StgInfoTable *info = rts_newInfoTable(&model);
    HaskellObj fields[] = { CAPSTAN_SMALL_INT(4), CAPSTAN_TRUE, (HaskellObj)(StgWord)0x1238 /* a raw word */ };

    assert_non_null(info);
    memset(name, 'x', sizeof name - 1);
    memset(first, 'x', sizeof first - 1);
    fieldNames[1] = NULL;
    model.ptrs = 0;
    assert_string_equal(info->name, "Pair");
    assert_string_equal(info->fieldNames[0], "first");
    assert_string_equal(info->fieldNames[1], "second");
    assert_true((info->flags & INFO_MADE) != 0);
    HaskellObj pair = rts_mkCon(cap, info, fields);
    assert_int_equal(rts_conTag(pair), 9);
    assert_int_equal(rts_getInt(rts_getField(pair, 0)), 4);
    assert_ptr_equal(rts_getField(pair, 1), CAPSTAN_TRUE);
    assert_true((StgWord)pair->payload[2] == 0x1238);
    assert_no_error();
}

static HaskellObj addEntry(Stack *stack, HaskellObj self, HaskellObj x)
{
    CAPSTAN_ROOTS(stack, self);
    HsInt n = rts_intValue(rts_force(stack, x));
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, n + rts_intValue(rts_freeVar(self, 0)));
}

static void testRuntimeFunction(void **state)
{
    const StgInfoTable model = { .kind = CLOSURE_FUN, .arity = 1, .ptrs = 1, .entry = (StgFunPtr)addEntry, .name = "add" };
    const StgInfoTable *info = rts_newInfoTable(&model);
    HaskellObj free[] = { CAPSTAN_SMALL_INT(40) }, result;

    assert_non_null(info);
    rts_eval(&cap, rts_apply(cap, rts_mkClosure(cap, info, free), CAPSTAN_SMALL_INT(2)), &result);
    assert_int_equal(rts_getSchedStatus(cap), Success);
    assert_int_equal(rts_getInt(result), 42);
}

static void testNonsenseInfo(void **state)
{
    const StgFunPtr entry = (StgFunPtr)addEntry;
    const StgInfoTable models[] = {
        { .kind = CLOSURE_KINDS, .name = "no such kind" },
        { .kind = CLOSURE_FUN, .arity = 1, .name = "no entry" },
        { .kind = CLOSURE_FUN, .arity = 0, .entry = entry, .name = "a function of nothing" },
        { .kind = CLOSURE_FUN, .arity = CAPSTAN_MAX_ARITY + 1, .entry = entry, .name = "too many arguments" },
        { .kind = CLOSURE_THUNK, .ptrs = 1, .name = "no entry" },
    };

    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        if (rts_newInfoTable(&models[i]) != NULL) fail_msg("model %zu, %s", i, models[i].name);
    assert_null(rts_newInfoTable(NULL));
}

/* ---- The wrong kind ---- */

#define assert_wrong_kind(expression, zero)        \
    do {                                           \
        assert_true((expression) == (zero));       \
        assert_error(RTS_WRONG_KIND);              \
    } while (0)

static void checkNoNumber(HaskellObj v)
{
    assert_wrong_kind(rts_getInt(v), 0);
    assert_wrong_kind(rts_getInt8(v), 0);
    assert_wrong_kind(rts_getInt16(v), 0);
    assert_wrong_kind(rts_getInt32(v), 0);
    assert_wrong_kind(rts_getInt64(v), 0);
    assert_wrong_kind(rts_getWord(v), 0);
    assert_wrong_kind(rts_getWord8(v), 0);
    assert_wrong_kind(rts_getWord16(v), 0);
    assert_wrong_kind(rts_getWord32(v), 0);
    assert_wrong_kind(rts_getWord64(v), 0);
    assert_wrong_kind(rts_getFloat(v), 0);
    assert_wrong_kind(rts_getDouble(v), 0);
}

static void checkNoPointer(HaskellObj v)
{
    assert_wrong_kind(rts_getPtr(v), NULL);
    assert_wrong_kind(rts_getFunPtr(v), NULL);
    assert_wrong_kind(rts_getStablePtr(v), NULL);
}

static void checkNoAggregate(HaskellObj v)
{
    char to[4];
    size_t length = 9;

    assert_wrong_kind(rts_getString(v), NULL);
    assert_wrong_kind(rts_bytes(v, &length), NULL);
    assert_wrong_kind(rts_copyBytes(v, 0, to, sizeof to), 0);
    assert_wrong_kind(rts_arrayLength(v), 0);
    assert_wrong_kind(rts_getElem(v, 0), CAPSTAN_POISON);
    assert_wrong_kind(rts_readMutVar(v), CAPSTAN_POISON);
    rts_setElem(cap, v, 0, CAPSTAN_UNIT);
    assert_error(RTS_WRONG_KIND);
    rts_writeMutVar(cap, v, CAPSTAN_UNIT);
    assert_error(RTS_WRONG_KIND);
    assert_wrong_kind(rts_casMutVar(cap, v, CAPSTAN_UNIT, CAPSTAN_UNIT), false);
}

static void testWrongKinds(void **state)
{
    HaskellObj record = Node_new(cap, CAPSTAN_UNIT, CAPSTAN_UNIT, CAPSTAN_UNIT);

    checkNoNumber(CAPSTAN_UNIT);
    checkNoNumber(record);
    checkNoNumber(rts_mkString(cap, "12"));
    checkNoNumber(rts_mkArray(cap, 1, CAPSTAN_SMALL_INT(1)));
    checkNoPointer(CAPSTAN_SMALL_INT(8));
    checkNoPointer(record);
    checkNoAggregate(record);
    checkNoAggregate(CAPSTAN_SMALL_INT(0));
    checkNoAggregate(CAPSTAN_UNIT);
    checkNoAggregate(rts_mkDouble(cap, 1.5));
}

static void testWrongKindsOfScalars(void **state)
{
    assert_wrong_kind(rts_getChar(CAPSTAN_SMALL_INT('a')), 0);
    assert_wrong_kind(rts_getChar(CAPSTAN_TRUE), 0);
    assert_wrong_kind(rts_getBool(CAPSTAN_SMALL_INT(1)), 0);
    assert_wrong_kind(rts_getBool(CAPSTAN_UNIT), 0);
    assert_wrong_kind(rts_getInt(rts_mkChar(cap, 'a')), 0);
    assert_wrong_kind(rts_getInt(rts_mkDouble(cap, 1.0)), 0);
    assert_wrong_kind(rts_getDouble(rts_mkInt(cap, 1)), 0);
    assert_wrong_kind(rts_getDouble(rts_mkFloat(cap, 1.0f)), 0);
    assert_wrong_kind(rts_getFloat(rts_mkDouble(cap, 1.0)), 0);
    assert_wrong_kind(rts_conTag(CAPSTAN_SMALL_INT(1)), -1);
    assert_wrong_kind(rts_conTag(rts_mkMutVar(cap, CAPSTAN_UNIT)), -1);
    assert_wrong_kind(rts_getField(rts_mkArray(cap, 2, CAPSTAN_UNIT), 0), CAPSTAN_POISON);
}

CAPSTAN_FUN(identity, x)
{
    return rts_force(stack, x);
}

/* A thunk must be evaluated first; a function is no value to read either. */
static void testUnevaluated(void **state)
{
    HaskellObj thunk = rts_apply(cap, &identity_closure, CAPSTAN_SMALL_INT(1));

    assert_wrong_kind(rts_getInt(thunk), 0);
    assert_wrong_kind(rts_conTag(thunk), -1);
    assert_wrong_kind(rts_getInt(&identity_closure), 0);
    assert_wrong_kind(rts_getString(&identity_closure), NULL);
}

static void testPoisonReadsAsZero(void **state)
{
    const HaskellObj p = CAPSTAN_POISON;

    assert_true(rts_getInt(p) == 0 && rts_getWord64(p) == 0 && rts_getInt8(p) == 0);
    assert_true(rts_getChar(p) == 0 && rts_getBool(p) == 0);
    assert_true(rts_getFloat(p) == 0 && rts_getDouble(p) == 0);
    assert_true(rts_getPtr(p) == NULL && rts_getFunPtr(p) == NULL && rts_getStablePtr(p) == NULL);
    assert_no_error();
}

/* ---- A capability that is not held ---- */

/* Making a value is too cheap for a check of this in every build. */
static void testNotHeld(void **state)
{
#ifndef CAPSTAN_DEBUG
    skip();
#else
    Capability *before = cap;

    rts_unlock(cap);
    assert_poison(rts_mkInt(before, INT64_MAX));
    assert_error(RTS_NOT_HOLDER);
    assert_poison(rts_mkString(before, "x"));
    assert_error(RTS_NOT_HOLDER);
    assert_poison(rts_apply(before, &identity_closure, CAPSTAN_UNIT));
    assert_error(RTS_NOT_HOLDER);
    cap = rts_lock();
#endif
}

#define test(name) cmocka_unit_test_setup_teardown(name, lockIt, unlockIt)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(testIntLimits),
        test(testIntSeam),
        test(testWordSeam),
        test(testWraparound),
        test(testIntAsWord),
        test(testCharBool),
        test(testDoubles),
        test(testFloats),
        test(testPointers),
        test(testStrings),
        test(testBytes),
        test(testPinnedAlignment),
        test(testCopyBytes),
        test(testExternal),
        test(testArrays),
        test(testArrayBounds),
        test(testLargeArray),
        test(testAbsurdSizes),
        test(testMutVar),
        test(testMutVarCas),
        test(testRecords),
        test(testStaticRecords),
        test(testFieldOutOfRange),
        test(testMkCon),
        test(testRuntimeInfo),
        test(testRuntimeFunction),
        test(testNonsenseInfo),
        test(testWrongKinds),
        test(testWrongKindsOfScalars),
        test(testUnevaluated),
        test(testPoisonReadsAsZero),
        test(testNotHeld),
    };

    return cmocka_run_group_tests(tests, setUp, tearDown);
}

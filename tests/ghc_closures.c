/*
 * Managed functions of ours behind the closure names that GHC's stubs for S1Prims, S2Arity, S3CTypes and S4Wrapper refer
 * to: one row for each export, with the type that its Haskell source gives it. tests/ghc_stubs.sh compiles and runs them.
 *
 *     FUN(S2(11, a2), Int, x * 10 + y, (Int, x), (Int, y))      a2 :: Int -> Int -> Int; a2 x y = x * 10 + y
 *     IO_(...)                                                   the same for a result in IO
 *     CONST(S2(16, a0), Int, 42)                                 a constant, computed once
 *
 * In the expression the parameters are plain C values; "stack" is there as in every managed function.
 */
#include <Rts.h>
#include <rts/Managed.h>

#include <string.h>

/* The number is the one that the stub's closure name carries. */
#define NAME(module, n, name) module##_zdfstableZZC##n##ZZCmainZZC##module##ZZC##name
#define S1(n, name) NAME(S1Prims, n, name)
#define S2(n, name) NAME(S2Arity, n, name)
#define S3(n, name) NAME(S3CTypes, n, name)
#define S4(n, name) NAME(S4Wrapper, n, name)

/* The function's parameter for (T, x) is x_, a value; the expression sees x, of type HsT. */
#define PARAMETER(_, typed) , UNBOXED_NAME typed
#define UNBOXED_NAME(T, x) x##_
#define FORCED(_, typed) FORCE_ONE typed
#define FORCE_ONE(T, x) x##_ = rts_force(stack, x##_);
#define READ(_, typed) READ_ONE typed
#define READ_ONE(T, x) __attribute__((unused)) Hs##T x = rts_get##T(x##_);

/* Functions, so that the capability is read after the value has been computed: that may be a safepoint. */
#define MAKE(T, value) make##T(stack, (value))
#define MAKER(T) static HaskellObj make##T(Stack *stack, Hs##T v) { return rts_mk##T(stack->cap, v); }
MAKER(Int)   MAKER(Int64)  MAKER(Int32) MAKER(Int16)  MAKER(Word64) MAKER(Word32) MAKER(Word8)
MAKER(Float) MAKER(Double) MAKER(Bool)  MAKER(FunPtr)
#define makeUnit(stack, v) ((v), CAPSTAN_UNIT)

/* Expands its arguments before m counts them. */
#define CALL(m, ...) m(__VA_ARGS__)
#define DEFINE(kind, closure, T, value, ...)                                          \
    CALL(kind, closure CAPSTAN_EACH(PARAMETER, , __VA_ARGS__))                        \
    {                                                                                 \
        CALL(CAPSTAN_ROOTS, stack CAPSTAN_EACH(PARAMETER, , __VA_ARGS__));            \
        CAPSTAN_EACH(FORCED, , __VA_ARGS__)                                           \
        CAPSTAN_UNROOT(stack);                                                        \
        CAPSTAN_EACH(READ, , __VA_ARGS__)                                             \
        return MAKE(T, value);                                                        \
    }
#define FUN(closure, T, value, ...) DEFINE(CAPSTAN_FUN, closure, T, value, __VA_ARGS__)
#define IO_(closure, T, value, ...) DEFINE(CAPSTAN_IO, closure, T, value, __VA_ARGS__)
#define ACTION(closure, T, value) CAPSTAN_IO(closure) { return MAKE(T, value); }
#define CONST(closure, T, value) CAPSTAN_CAF(closure) { return MAKE(T, value); }

/* ---- S1Prims: the identity at every primitive type --------------------------------------------------------------- */

#define PURE_ID(n, name) CAPSTAN_FUN(S1(n, name), x) { return rts_force(stack, x); }
#define IO_ID(n, name) CAPSTAN_IO(S1(n, name), x) { return rts_force(stack, x); }

PURE_ID(33, idInt)     PURE_ID(32, idWord)
PURE_ID(31, idInt8)    PURE_ID(30, idInt16)   PURE_ID(29, idInt32)   PURE_ID(28, idInt64)
PURE_ID(27, idWord8)   PURE_ID(26, idWord16)  PURE_ID(25, idWord32)  PURE_ID(24, idWord64)
PURE_ID(23, idChar)    PURE_ID(22, idBool)    PURE_ID(21, idFloat)   PURE_ID(20, idDouble)
PURE_ID(19, idPtr)     PURE_ID(18, idFunPtr)  PURE_ID(17, idStable)
IO_ID(16, ioInt)       IO_ID(15, ioWord)
IO_ID(14, ioInt8)      IO_ID(13, ioInt16)     IO_ID(12, ioInt32)     IO_ID(11, ioInt64)
IO_ID(10, ioWord8)     IO_ID(9, ioWord16)     IO_ID(8, ioWord32)     IO_ID(7, ioWord64)
IO_ID(6, ioChar)       IO_ID(5, ioBool)       IO_ID(4, ioFloat)      IO_ID(3, ioDouble)
IO_ID(2, ioPtr)        IO_ID(1, ioFunPtr)     IO_ID(0, ioStable)

/* ---- S2Arity: no to ten arguments -------------------------------------------------------------------------------- */

CAPSTAN_CAF(cell)
{
    return rts_mkMutVar(stack->cap, CAPSTAN_SMALL_INT(0));
}

static void setCell(Stack *stack, HsInt value)
{
    HaskellObj var = rts_force(stack, &cell_closure);
    rts_writeMutVar(stack->cap, var, rts_int(stack, value));
}

static HsInt cellValue(Stack *stack)
{
    return rts_getInt(rts_readMutVar(rts_force(stack, &cell_closure)));
}

CONST(S2(16, a0), Int, 42)
ACTION(S2(15, a0io), Int, 43)
ACTION(S2(14, a0u), Unit, setCell(stack, 44))
CONST(S2(13, a0d), Double, 2.5)
IO_(S2(12, a1u), Unit, setCell(stack, x), (Int, x))
FUN(S2(11, a2), Int, x * 10 + y, (Int, x), (Int, y))
IO_(S2(10, a3), Double, (HsDouble)x + y * 10 + (HsDouble)z * 100, (Int, x), (Double, y), (Int, z))
IO_(S2(9, a4), Int, a + b + (HsInt)c + (HsInt)d, (Word8, a), (Int16, b), (Float, c), (Char, d))
FUN(S2(8, a5), Double, a + 2 * b + 3 * c + 4 * d + 5 * e,
    (Double, a), (Double, b), (Double, c), (Double, d), (Double, e))
FUN(S2(7, a6), Int, a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f,
    (Int, a), (Int, b), (Int, c), (Int, d), (Int, e), (Int, f))
IO_(S2(6, a7), Int, a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g,
    (Int, a), (Int, b), (Int, c), (Int, d), (Int, e), (Int, f), (Int, g))
IO_(S2(5, a8), Float, a + b + c + d + e + (HsFloat)f + g + (HsFloat)h,
    (Float, a), (Int8, b), (Float, c), (Int16, d), (Float, e), (Int32, f), (Float, g), (Int64, h))
IO_(S2(4, a9), Double, a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 9 * i,
    (Double, a), (Double, b), (Double, c), (Double, d), (Double, e), (Double, f), (Double, g), (Double, h), (Double, i))
IO_(S2(3, a10), Double, a + b + c + d + (HsDouble)e + f + (HsDouble)g + (HsDouble)h + (HsDouble)i + j,
    (Int8, a), (Word8, b), (Int16, c), (Word16, d), (Int32, e), (Word32, f), (Int64, g), (Word64, h), (Float, i),
    (Double, j))
IO_(S2(2, a10b), Bool, a && b && c && d && p == q && q == r,
    (Bool, a), (Char, x), (Ptr, p), (Bool, b), (Char, y), (Ptr, q), (Bool, c), (Char, z), (Ptr, r), (Bool, d))
IO_(S2(1, a10u), Unit, setCell(stack, a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 9 * i + 10 * j),
    (Int, a), (Int, b), (Int, c), (Int, d), (Int, e), (Int, f), (Int, g), (Int, h), (Int, i), (Int, j))
ACTION(S2(0, getCell), Int, cellValue(stack))

/* ---- S3CTypes: the types of C, each as wide as it is here -------------------------------------------------------- */

IO_(S3(13, f1), Int32, n + 1, (Int32, n))
FUN(S3(12, f2), Word32, n + 2, (Word32, n))
IO_(S3(11, f3), Word64, (HsWord64)n, (Int64, n))
IO_(S3(10, f4), Word64, (HsWord64)n, (Int64, n))
IO_(S3(9, f5), Int32, a + b + c, (Int8, a), (Int8, b), (Word8, c))
IO_(S3(8, f6), Int16, (HsInt16)(a + b), (Int16, a), (Word16, b))
IO_(S3(7, f7), Word64, a + (HsWord64)b, (Word64, a), (Int64, b))
IO_(S3(6, f8), Double, (HsDouble)a + b, (Float, a), (Double, b))
IO_(S3(5, f9), Word64, strlen(text), (Ptr, text))
IO_(S3(4, f10), Word8, b == 0, (Word8, b))
IO_(S3(3, f11), Int32, (HsInt32)(a + b + c), (Int32, a), (Int64, b), (Word32, c))
IO_(S3(2, f12), Int64, a + (HsInt64)b + c + (HsInt64)d, (Int64, a), (Word64, b), (Int64, c), (Word64, d))
IO_(S3(1, f13), Int64, a, (Int64, a), (Int64, clock))
IO_(S3(0, f14), Int32, a, (Int32, a), (Int32, atom))

/* ---- S4Wrapper: calls of function pointers, and what needs adjustors ---------------------------------------------- */

typedef struct {
    HsFunPtr function;
    HsInt32 n;
} CallII;

static void *callII(void *arg)
{
    CallII *call = arg;
    call->n = ((HsInt32 (*)(HsInt32))call->function)(call->n);
    return NULL;
}

/* A "dynamic" import is a safe call. */
static HsInt32 applyII(Stack *stack, HsFunPtr function, HsInt32 n)
{
    CallII call = { function, n };
    rts_safeCall(stack, callII, &call);
    return call.n;
}

/* ---- "wrapper" imports: GHC's stub is the adjustor's, the closure is ours ---- */

/* The stubs' text has their types; here only their addresses are needed. */
extern void zdmainzdS4WrapperzdS4WrapperzumkII(void), zdmainzdS4WrapperzdS4WrapperzumkMix(void), zdmainzdS4WrapperzdS4WrapperzumkTen(void),
    zdmainzdS4WrapperzdS4WrapperzumkTenD(void), zdmainzdS4WrapperzdS4WrapperzumkAlt(void), zdmainzdS4WrapperzdS4WrapperzumkV(void);

static HsFunPtr wrap(Stack *stack, HaskellObj function, StgFunPtr stub, const char *type)
{
    StgStablePtr hptr = getStablePtr((StgPtr)function);
    void *adjustor = hptr == NULL ? NULL : createAdjustor(hptr, stub, (char *)type);
    if (adjustor == NULL) rts_raiseError(stack, "no adjustor");
    return (HsFunPtr)adjustor;
}

/* A closure with one free variable. */
static HaskellObj with(Stack *stack, const StgInfoTable *info, HaskellObj free)
{
    return rts_mkClosure(stack->cap, info, &free);
}


CAPSTAN_LAMBDA_IO(plus, 1, n)
{
    HaskellObj k = rts_freeVar(self, 0);
    CAPSTAN_ROOTS(stack, k);
    n = rts_force(stack, n);
    CAPSTAN_UNROOT(stack);
    return rts_mkInt32(stack->cap, rts_getInt32(k) + rts_getInt32(n));
}

CAPSTAN_LAMBDA_IO(mixed, 1, a, b, c, d, unused, e, f)
{
    HaskellObj k = rts_freeVar(self, 0);
    CAPSTAN_ROOTS(stack, k, a, b, c, d, e, f);
    a = rts_force(stack, a);
    b = rts_force(stack, b);
    c = rts_force(stack, c);
    d = rts_force(stack, d);
    e = rts_force(stack, e);
    f = rts_force(stack, f);
    CAPSTAN_UNROOT(stack);
    return rts_mkWord64(stack->cap, rts_getWord64(k) + (HsWord64)rts_getInt8(a) + rts_getWord16(b) + (HsWord64)rts_getFloat(c) +
                                        (HsWord64)rts_getDouble(d) + rts_getChar(e) + (HsWord64)rts_getBool(f));
}

IO_(ten, Int, a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 9 * i + 10 * j,
    (Int, a), (Int, b), (Int, c), (Int, d), (Int, e), (Int, f), (Int, g), (Int, h), (Int, i), (Int, j))
IO_(tenD, Double, a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 9 * i + 10 * j,
       (Double, a), (Double, b), (Double, c), (Double, d), (Double, e), (Double, f), (Double, g), (Double, h), (Double, i), (Double, j))
IO_(alt, Float, a + (HsFloat)b + c + (HsFloat)d + e + (HsFloat)f + g + (HsFloat)h + i + (HsFloat)j + k + (HsFloat)l + (HsFloat)(m + n + o + p),
       (Float, a), (Int32, b), (Float, c), (Int32, d), (Float, e), (Int32, f), (Float, g), (Int32, h), (Float, i), (Int32, j), (Float, k),
       (Int32, l), (Double, m), (Double, n), (Double, o), (Double, p))

#define STUB(name) zdmainzdS4WrapperzdS4Wrapperzu##name
IO_(S4(7, newII), FunPtr, wrap(stack, with(stack, &plus_info, rts_mkInt32(stack->cap, k)), STUB(mkII), "WW"), (Int32, k))
IO_(S4(6, newMix), FunPtr, wrap(stack, with(stack, &mixed_info, rts_mkWord64(stack->cap, k)), STUB(mkMix), "lBsfdpwL"), (Word64, k))
ACTION(S4(5, newTen), FunPtr, wrap(stack, &ten_closure, STUB(mkTen), "LLLLLLLLLLL"))
ACTION(S4(4, newTenD), FunPtr, wrap(stack, &tenD_closure, STUB(mkTenD), "ddddddddddd"))
ACTION(S4(3, newAlt), FunPtr, wrap(stack, &alt_closure, STUB(mkAlt), "ffWfWfWfWfWfWdddd"))
IO_(S4(2, newV), FunPtr, wrap(stack, (HaskellObj)deRefStablePtr(action), STUB(mkV), "v"), (StablePtr, action))
IO_(S4(1, applyII), Int32, applyII(stack, function, n), (FunPtr, function), (Int32, n))
IO_(S4(0, freeII), Unit, freeHaskellFunctionPtr((void *)function), (FunPtr, function))

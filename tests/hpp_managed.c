/* Managed functions for tests/hpp_test.cpp, which C++ could not define. */
#include "hpp_managed.h"

#include <string.h>

/* same :: a -> IO a */
CAPSTAN_IO(hppSame, v) { return rts_force(stack, v); }

/* add :: Int -> Int -> IO Int */
CAPSTAN_IO(hppAdd, a, b)
{
    CAPSTAN_ROOTS(stack, b);
    a = rts_force(stack, a);
    CAPSTAN_UNROOT(stack);
    HsInt n = rts_intValue(a);
    return rts_int(stack, n + rts_intValue(rts_force(stack, b)));
}

/* square :: Int -> Int */
CAPSTAN_FUN(hppSquare, n)
{
    HsInt i = rts_intValue(rts_force(stack, n));
    return rts_int(stack, i * i);
}

/* fail :: Bytes -> IO a */
CAPSTAN_IO(hppFail, text)
{
    text = rts_force(stack, text);
    rts_raise(stack, rts_mkCon(stack->cap, &capstan_ErrorCall_info, &text));
}

/* throw :: a -> IO b */
CAPSTAN_IO(hppThrow, v) { rts_raise(stack, rts_force(stack, v)); }

/* A thunk-maker for an argument that raises when it is needed. */
CAPSTAN_FUN(hppBottom, v) { rts_raise(stack, v); }

CAPSTAN_CON(HppTrouble, 0, code)
/* trouble :: Int -> IO a */
CAPSTAN_IO(hppTrouble, code)
{
    code = rts_force(stack, code);
    rts_raise(stack, HppTrouble_new(stack->cap, code));
}
/* codeOf :: Trouble -> IO Int */
CAPSTAN_IO(hppCodeOf, v)
{
    v = rts_force(stack, v);
    return CAPSTAN_IS(HppTrouble, v) ? CAPSTAN_GET(HppTrouble, v, code) : CAPSTAN_SMALL_INT(-1);
}

/* list :: Int -> IO List: n, n-1 .. 1, with a byte array at each */
CAPSTAN_STATIC_CON(HppNil, 0);
CAPSTAN_CON(HppCons, 1, head, text, tail)
CAPSTAN_IO(hppList, n)
{
    HsInt count = rts_intValue(rts_force(stack, n));
    HaskellObj list = &HppNil_closure;
    CAPSTAN_ROOTS(stack, list);
    for (HsInt i = 1; i <= count; i++) {
        char text[24];
        memset(text, (int)('a' + i % 26), sizeof text);
        HaskellObj bytes = rts_mkBytes(stack->cap, text, sizeof text);
        list = HppCons_new(stack->cap, rts_int(stack, i), bytes, list);
        rts_poll(stack);
    }
    CAPSTAN_UNROOT(stack);
    return list;
}
/* check :: List -> IO Int: the sum of the heads; -1 if something is not as hppList made it */
CAPSTAN_IO(hppCheck, list)
{
    HsInt sum = 0;
    for (list = rts_force(stack, list); CAPSTAN_IS(HppCons, list); list = CAPSTAN_GET(HppCons, list, tail)) {
        size_t length;
        HsInt head = rts_intValue(CAPSTAN_GET(HppCons, list, head));
        const char *text = rts_bytes(CAPSTAN_GET(HppCons, list, text), &length);
        for (size_t k = 0; k < length; k++)
            if (text[k] != (char)('a' + head % 26)) return CAPSTAN_SMALL_INT(-1);
        if (length != 24) return CAPSTAN_SMALL_INT(-1);
        sum += head;
    }
    return rts_int(stack, sum);
}

/* collect :: IO () */
CAPSTAN_IO(hppCollect)
{
    rts_collect(stack, true);
    return CAPSTAN_UNIT;
}

/* endless :: IO () */
CAPSTAN_IO(hppEndless)
{
    for (;;) rts_poll(stack);
    return CAPSTAN_UNIT;
}

/* greedy :: IO () */
CAPSTAN_IO(hppGreedy)
{
    for (;;) {
        rts_mkBytes(stack->cap, NULL, 1000);
        rts_poll(stack);
    }
    return CAPSTAN_UNIT;
}

/* twice :: (Int -> IO Int) -> Int -> IO Int */
CAPSTAN_IO(hppTwice, f, n)
{
    CAPSTAN_ROOTS(stack, f);
    n = rts_call(stack, f, n, CAPSTAN_WORLD);
    CAPSTAN_UNROOT(stack);
    return rts_call(stack, f, n, CAPSTAN_WORLD);
}

/* rescue :: IO Bytes -> IO Bytes: its result, or the text of the exception that it raised */
static HaskellObj runIt(Stack *stack, void *io) { return rts_runIO(stack, *(HaskellObj *)io); }
CAPSTAN_IO(hppRescue, io)
{
    HaskellObj result;
    char text[300];
    CAPSTAN_ROOTS(stack, io);
    bool done = rts_try(stack, runIt, &io, &result);
    CAPSTAN_UNROOT(stack);
    if (done) return result;
    rts_showException(stack->cap, result, text, sizeof text);
    return rts_mkString(stack->cap, text);
}

/* Calls fn(arg) as a plain C call, and as a safe one. */
/* plainly, safely :: Ptr -> Ptr -> IO () */
CAPSTAN_IO(hppPlainly, fn, arg)
{
    HppFunction *f = (HppFunction *)rts_getFunPtr(fn);
    f(rts_getPtr(arg));
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(hppSafely, fn, arg)
{
    HppFunction *f = (HppFunction *)rts_getFunPtr(fn);
    rts_safeCall(stack, f, rts_getPtr(arg));
    return CAPSTAN_UNIT;
}

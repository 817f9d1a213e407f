/* CAPSTAN_ROOTS and CAPSTAN_UNROOT that do not go together. */
#include <Rts.h>

CAPSTAN_IO(returns, x)
{
    CAPSTAN_ROOTS(stack, x);
    if (rts_isSmallInt(x)) return x;                                    /* expect: roots */
    rts_poll(stack);
    CAPSTAN_UNROOT(stack);
    return x;
}

CAPSTAN_IO(never, x)
{
    CAPSTAN_ROOTS(stack, x);
    rts_poll(stack);
    return x;                                                           /* expect: roots */
}

static void noReturn(Stack *stack, HaskellObj x)
{
    CAPSTAN_ROOTS(stack, x);
    rts_poll(stack);
}                                                                       /* expect: roots */

CAPSTAN_IO(blockEnds, x)
{
    {
        CAPSTAN_ROOTS(stack, x);
        rts_poll(stack);
    }                                                                   /* expect: roots */
    noReturn(stack, CAPSTAN_UNIT);
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(breaks, n)
{
    HsInt count = rts_intValue(n);
    for (HsInt i = 0; i < count; i++) {
        HaskellObj var = rts_mkMutVar(stack->cap, CAPSTAN_UNIT);
        CAPSTAN_ROOTS(stack, var);
        rts_poll(stack);
        if (i == 7) break;                                              /* expect: roots */
        if (i == 5) continue;                                           /* expect: roots */
        CAPSTAN_UNROOT(stack);
    }
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(jumps, x)
{
    {
        CAPSTAN_ROOTS(stack, x);
        if (rts_isSmallInt(x)) goto out;                                /* expect: roots */
        rts_poll(stack);
        CAPSTAN_UNROOT(stack);
    }
out:
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(twice, x)
{
    CAPSTAN_ROOTS(stack, x);
    rts_poll(stack);
    CAPSTAN_UNROOT(stack);
    CAPSTAN_UNROOT(stack);                                              /* expect: roots */
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(oneWay, x)
{
    CAPSTAN_ROOTS(stack, x);                                            /* expect: roots */
    rts_poll(stack);
    if (rts_isSmallInt(x)) CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(eachRound, x)
{
    CAPSTAN_ROOTS(stack, x);                                            /* expect: roots */
    for (int i = 0; i < 3; i++) {
        rts_poll(stack);
        CAPSTAN_UNROOT(stack);
    }
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(noValue)
{
    HaskellObj result;
    CAPSTAN_ROOTS(stack, result);                                       /* expect: roots */
    result = rts_force(stack, rts_myThreadId(stack));
    CAPSTAN_UNROOT(stack);
    return result;
}

CAPSTAN_IO(noValues)
{
    HaskellObj results[2];
    results[0] = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, results[0], results[1]);                       /* expect: roots */
    results[0] = rts_force(stack, rts_myThreadId(stack));
    CAPSTAN_UNROOT(stack);
    return results[0];
}

/* The call comes after this frame is gone. */
CAPSTAN_IO(tail, x)
{
    CAPSTAN_ROOTS(stack, x);
    x = rts_force(stack, x);
    return rts_tailCall(stack, &twice_closure, x, CAPSTAN_WORLD);       /* expect: tail */
}

CAPSTAN_IO(notReturned, x)
{
    HaskellObj result = rts_tailCall(stack, &twice_closure, x, CAPSTAN_WORLD); /* expect: tail */
    rts_yield(stack);
    return result;
}

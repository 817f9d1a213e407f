/* C evaluates operands in any order. */
#include <Rts.h>

CAPSTAN_CON(Pair, 0, first, second)

CAPSTAN_IO(capability, var)
{
    rts_writeMutVar(stack->cap, rts_force(stack, var), CAPSTAN_UNIT);   /* expect: order */
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(freshObject, var, d)
{
    HsDouble number = rts_getDouble(d);
    rts_setElem(stack->cap, rts_force(stack, var), 0, rts_mkDouble(stack->cap, number)); /* expect: order, order */
    return CAPSTAN_UNIT;
}

CAPSTAN_FUN(callee, f, x) { return rts_call(stack, f, rts_force(stack, x)); } /* expect: order */

CAPSTAN_FUN(twoForces, x, y)
{
    CAPSTAN_ROOTS(stack, x, y);
    bool same = rts_force(stack, x) == rts_force(stack, y);             /* expect: order, order */
    CAPSTAN_UNROOT(stack);
    return rts_mkBool(stack->cap, same);
}

CAPSTAN_FUN(readLater, x, y) { return rts_int(stack, rts_intValue(x) + rts_intValue(rts_force(stack, y))); } /* expect: order */

CAPSTAN_FUN(inList, x, y)
{
    HaskellObj both[] = { rts_force(stack, x), rts_force(stack, y) };   /* expect: order, order, order, unrooted */
    return rts_mkCon(stack->cap, &Pair_info, both);
}

CAPSTAN_FUN(target, pair, x)
{
    pair->payload[0] = rts_force(stack, x);                             /* expect: order */
    return CAPSTAN_UNIT;
}

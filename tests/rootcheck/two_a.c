/* A program of two files: whether a function is a safepoint is found in the other one. */
#include "two.h"

CAPSTAN_FUN(across, x, y)
{
    HsInt n = forced(stack, x);
    return rts_int(stack, n + rts_intValue(y));                         /* expect: unrooted */
}

CAPSTAN_FUN(acrossToo, x, y)
{
    HsInt n = read(x);
    return rts_int(stack, n + rts_intValue(y));
}

CAPSTAN_FUN(between, x, y)
{
    struct Sum sum = { x, y };
    return rts_int(stack, sumOf(stack, &sum));                          /* expect: unrooted, unrooted */
}

/* Nothing is known of it but its type. */
CAPSTAN_FUN(elsewhere, x)
{
    HsInt n = unknown(stack);
    return rts_int(stack, n + rts_intValue(x));                         /* expect: unrooted */
}
CAPSTAN_FUN(marked, x)
{
    HsInt n = promised(stack);
    return rts_int(stack, n + rts_intValue(x));
}

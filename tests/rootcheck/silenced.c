/* Comments that silence. */
#include <Rts.h>

CAPSTAN_IO(silenced, x)
{
    rts_yield(stack);
    return x; /* rootcheck: only static closures come here */
}

CAPSTAN_IO(silencedBelow, x)
{
    rts_yield(stack);
    /* rootcheck: only static closures come here */
    return x;
}

CAPSTAN_IO(noReason, x)
{
    rts_yield(stack);
    return x; /* rootcheck: */                                          /* expect: comment, unrooted */
}

CAPSTAN_IO(nothing, x)
{
    return x; /* rootcheck: nothing is wrong here */                    /* expect: comment */
}

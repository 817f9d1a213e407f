#include "two.h"

HsInt forced(Stack *stack, HaskellObj x) { return rts_intValue(rts_force(stack, x)); }
HsInt read(HaskellObj x) { return rts_intValue(x); }
HsInt sumOf(Stack *stack, struct Sum *sum) { return forced(stack, sum->x) + forced(stack, sum->y); }

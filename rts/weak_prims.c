/* What languages call by name: operations of rts/Weak.h as managed functions. */
#include "exception.h"
#include "rts/Weak.h"

static HaskellObj orRaise(Stack *stack, HaskellObj made)
{
    if (made == CAPSTAN_POISON) rts_raise(stack, &capstan_HeapOverflow_closure);
    return made;
}

/* The weak pointer that an argument is once it is evaluated; other, which is left as it is, moves along. */
static HaskellObj forceWeak(Stack *stack, HaskellObj weak, HaskellObj *other)
{
    CAPSTAN_ROOTS(stack, *other);
    weak = rts_force(stack, weak);
    CAPSTAN_UNROOT(stack);
    if (rts_isImmediate(weak) || rts_info(weak)->kind != CLOSURE_WEAK) rts_raise(stack, &capstan_WrongKind_closure);
    return weak;
}

CAPSTAN_IO(capstan_mkWeak, key, value, finalizer) { return orRaise(stack, rts_mkWeak(stack->cap, key, value, finalizer)); }
CAPSTAN_IO(capstan_mkWeakNoFinalizer, key, value) { return orRaise(stack, rts_mkWeakNoFinalizer(stack->cap, key, value)); }
CAPSTAN_IO(capstan_deRefWeak, weak, otherwise)
{
    HaskellObj value;
    weak = forceWeak(stack, weak, &otherwise);
    return rts_deRefWeak(weak, &value) ? value : otherwise;
}
CAPSTAN_IO(capstan_finalizeWeak, weak)
{
    HaskellObj none = CAPSTAN_UNIT;
    rts_finalizeWeak(stack, forceWeak(stack, weak, &none));
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(capstan_makeStableName, v) { return orRaise(stack, rts_makeStableName(stack->cap, v)); }

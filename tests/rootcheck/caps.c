/* A capability, or the thread's record, that was read before a safepoint. */
#include <Rts.h>

CAPSTAN_IO(cached, x)
{
    Capability *cap = stack->cap;
    CAPSTAN_ROOTS(stack, x);
    rts_force(stack, x);
    CAPSTAN_UNROOT(stack);
    return rts_apply(cap, x, CAPSTAN_UNIT);                             /* expect: cap */
}

CAPSTAN_IO(inLoop, n)
{
    Capability *cap = stack->cap;
    HsInt count = rts_intValue(n);
    for (HsInt i = 0; i < count; i++) {
        rts_mkMutVar(cap, CAPSTAN_UNIT);                                /* expect: cap */
        rts_poll(stack);
    }
    return CAPSTAN_UNIT;
}

struct Work { Capability *cap; HsInt n; };
static HsInt count(struct Work *work) { return rts_getInt(rts_mkInt(work->cap, work->n)); }
CAPSTAN_IO(inStruct)
{
    struct Work work = { stack->cap, 3 };
    rts_yield(stack);
    return rts_int(stack, count(&work));                                /* expect: cap */
}

CAPSTAN_IO(registers)
{
    CapstanRegs *regs = (CapstanRegs *)stack->cap;
    rts_yield(stack);
    return rts_mkBool(stack->cap, regs->hp == regs->hpLim);             /* expect: cap */
}

CAPSTAN_IO(record)
{
    StgTSO *tso = stack->tso;
    rts_yield(stack);
    return rts_threadId(stack->cap, tso);                               /* expect: cap */
}

/* In C each evaluation says which capability is held afterwards: here nobody hears it. */
static HsInt evaluate(Capability *cap, HaskellObj p)
{
    HaskellObj value;
    rts_eval(&cap, p, &value);
    return rts_getInt(value);
}
HsInt byValue(HaskellObj f)
{
    Capability *cap = rts_lock();
    HsInt n = evaluate(cap, rts_apply(cap, f, rts_mkInt(cap, 1)));
    rts_unlock(cap);                                                    /* expect: cap */
    return n;
}

HsInt twoNames(void)
{
    Capability *cap = rts_lock(), *same = cap;
    HaskellObj p = rts_mkInt(cap, 3);
    rts_eval(&cap, p, &p);
    HsInt n = rts_getInt(p);
    rts_unlock(same);                                                   /* expect: cap */
    return n;
}

HsInt unlocked(void)
{
    Capability *cap = rts_lock();
    rts_unlock(cap);
    return rts_getInt(rts_mkInt(cap, 3));                               /* expect: cap */
}

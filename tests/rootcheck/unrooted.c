/* Values that are used after a safepoint and were not rooted.  Each line with a planted mistake names its kind. */
#include <Rts.h>

CAPSTAN_STATIC_CON(Nil, 0);
CAPSTAN_CON(Cell, 1, head, tail)

CAPSTAN_FUN(argument, x, y)
{
    x = rts_force(stack, x);
    y = rts_force(stack, y);                                            /* expect: unrooted */
    return Cell_new(stack->cap, x, y);                                  /* expect: unrooted */
}

CAPSTAN_LAMBDA(freeVariable, 2, x)
{
    HsInt n = rts_intValue(rts_force(stack, x));
    return rts_int(stack, n + rts_intValue(rts_freeVar(self, 0)));      /* expect: unrooted */
}

CAPSTAN_IO(local)
{
    HaskellObj cell = Cell_new(stack->cap, CAPSTAN_UNIT, &Nil_closure);
    rts_poll(stack);
    return cell;                                                        /* expect: unrooted */
}

/* On one way only. */
CAPSTAN_IO(sometimes, x)
{
    HaskellObj cell = Cell_new(stack->cap, x, &Nil_closure);
    if (rts_isSmallInt(x)) rts_yield(stack);
    return cell;                                                        /* expect: unrooted */
}

CAPSTAN_IO(chosen, x)
{
    HaskellObj cell = Cell_new(stack->cap, x, &Nil_closure);
    HsInt n = rts_isSmallInt(x) ? 0 : rts_intValue(rts_force(stack, x));
    return n == 0 ? &Nil_closure : cell;                                /* expect: unrooted */
}

CAPSTAN_IO(shortCut, x)
{
    HaskellObj cell = Cell_new(stack->cap, x, &Nil_closure);
    bool both = rts_isSmallInt(x) && rts_intValue(rts_runIO(stack, &local_closure)) > 0;
    return both ? cell : CAPSTAN_UNIT;                                  /* expect: unrooted */
}

/* What is fresh in the first round is stale in the second. */
CAPSTAN_IO(again, n)
{
    HaskellObj list = &Nil_closure;
    HsInt count = rts_intValue(n);
    for (HsInt i = 0; i < count; i++) {
        list = Cell_new(stack->cap, CAPSTAN_SMALL_INT(i), list);        /* expect: unrooted */
        rts_poll(stack);
    }
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(inLoopHead, list)
{
    while (CAPSTAN_IS(Cell, list)) {                                    /* expect: unrooted */
        list = CAPSTAN_GET(Cell, list, tail);
        if (rts_tryPutMVar(stack, list, CAPSTAN_UNIT)) continue;
        rts_poll(stack);
    }
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(backwards, mvar)
{
    HaskellObj value;
again:
    if (rts_tryTakeMVar(stack, mvar, &value)) return value;             /* expect: unrooted */
    rts_yield(stack);
    goto again;
}

CAPSTAN_IO(fallsThrough, how, mvar)
{
    switch (rts_intValue(how)) {
    case 0: rts_yield(stack); /* fall through */
    case 1: rts_putMVar(stack, mvar, CAPSTAN_UNIT); break;              /* expect: unrooted */
    default: break;
    }
    return CAPSTAN_UNIT;
}

/* A function that calls one is one. */
static HsInt lower(Stack *stack, HaskellObj x) { return rts_intValue(rts_force(stack, x)); }
static HsInt upper(Stack *stack, HaskellObj x) { return lower(stack, x) + 1; }

CAPSTAN_FUN(below, x, list)
{
    HsInt n = upper(stack, x);
    return Cell_new(stack->cap, rts_int(stack, n), list);               /* expect: unrooted */
}

/* So is one that is known by a pointer that takes a stack. */
static HaskellObj through(Stack *stack, HaskellObj (*f)(Stack *, HsInt), HaskellObj list)
{
    HaskellObj head = f(stack, 1);
    return Cell_new(stack->cap, head, list);                            /* expect: unrooted */
}
static HaskellObj makeInt(Stack *stack, HsInt n) { return rts_int(stack, n); }
CAPSTAN_FUN(callsThrough, list) { return through(stack, makeInt, list); }

/* And one that gets a safepoint to call. */
static HsInt twice(HsInt (*f)(void *), void *arg) { return f(arg) + f(arg); }
struct Job { Stack *stack; };
static HsInt pollOnce(void *arg)
{
    rts_poll(((struct Job *)arg)->stack);
    return 1;
}
CAPSTAN_FUN(passesOn, list)
{
    struct Job job = { stack };
    HsInt n = twice(pollOnce, &job);
    return Cell_new(stack->cap, rts_int(stack, n), list);               /* expect: unrooted */
}

/* Too late: the collector would follow a stale address. */
CAPSTAN_FUN(late, x, list)
{
    HsInt n = upper(stack, x);
    CAPSTAN_ROOTS(stack, list);                                         /* expect: unrooted */
    rts_poll(stack);
    CAPSTAN_UNROOT(stack);
    return Cell_new(stack->cap, rts_int(stack, n), list);
}

/* Not long enough. */
CAPSTAN_FUN(early, x, list)
{
    CAPSTAN_ROOTS(stack, list);
    HsInt n = upper(stack, x);
    CAPSTAN_UNROOT(stack);
    rts_poll(stack);
    return Cell_new(stack->cap, rts_int(stack, n), list);               /* expect: unrooted */
}

/* One of them forgotten, and found in the arguments of a call. */
CAPSTAN_FUN(forgotten, f, x, y)
{
    CAPSTAN_ROOTS(stack, f, x);
    rts_force(stack, x);
    CAPSTAN_UNROOT(stack);
    return rts_call(stack, f, x, y);                                    /* expect: unrooted */
}

CAPSTAN_IO(array, n)
{
    HaskellObj cells[3] = { rts_mkMVar(stack->cap), rts_mkMVar(stack->cap), rts_mkMVar(stack->cap) };
    CAPSTAN_ROOTS(stack, cells[0], cells[2]);
    HsInt which = upper(stack, n);
    CAPSTAN_UNROOT(stack);
    return cells[which];                                                /* expect: unrooted */
}

/* Comparing is using, unless with what does not move. */
CAPSTAN_IO(compares, x)
{
    HaskellObj before = rts_mkMVar(stack->cap), after;
    CAPSTAN_ROOTS(stack, x);
    after = rts_force(stack, x);
    CAPSTAN_UNROOT(stack);
    if (after == CAPSTAN_POISON || before == CAPSTAN_POISON) return CAPSTAN_UNIT;
    return rts_mkBool(stack->cap, after == before);                     /* expect: unrooted */
}

/* In C, between rts_lock and rts_unlock. */
HsInt sumInC(void)
{
    Capability *cap = rts_lock();
    HaskellObj a, b;
    rts_evalIO(&cap, &local_closure, &a);
    rts_evalIO(&cap, &local_closure, &b);
    HsInt sum = rts_getInt(a) + rts_getInt(b);                          /* expect: unrooted */
    rts_unlock(cap);
    return sum;
}

/* Roots do not help beyond the in-call. */
HsInt afterInC(void)
{
    Capability *cap = rts_lock();
    HaskellObj a = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(cap, a);
    rts_evalIO(&cap, &local_closure, &a);
    CAPSTAN_UNROOT(cap);
    rts_unlock(cap);
    return rts_getInt(a);                                               /* expect: unrooted */
}

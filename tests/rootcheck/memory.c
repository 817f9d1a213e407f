/* Values in structures, behind pointers, and in variables with static storage. */
#include <Rts.h>

#include <stdlib.h>

struct Two { HaskellObj first, second; HsInt count; };

CAPSTAN_IO(fields, x)
{
    struct Two two = { .first = x, .second = x };
    CAPSTAN_ROOTS(stack, two.first);
    rts_poll(stack);
    CAPSTAN_UNROOT(stack);
    rts_fork(stack, two.first);
    rts_fork(stack, two.second);                                        /* expect: unrooted */
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(copies, x)
{
    struct Two two = { .first = x, .second = CAPSTAN_UNIT }, other = two;
    CAPSTAN_ROOTS(stack, two.first);
    rts_poll(stack);
    CAPSTAN_UNROOT(stack);
    return other.first;                                                 /* expect: unrooted */
}

CAPSTAN_IO(byPointer, x)
{
    struct Two two = { .first = x, .second = CAPSTAN_UNIT }, *here = &two;
    rts_poll(stack);
    return here->first;                                                 /* expect: unrooted */
}

/* The function reads it after a safepoint, so that the caller has to root it. */
static HsInt sum(Stack *stack, struct Two *two)
{
    HsInt first = rts_intValue(rts_force(stack, two->first));
    return first + rts_intValue(rts_force(stack, two->second));
}
CAPSTAN_IO(needed, x, y)
{
    struct Two two = { .first = x, .second = y };
    return rts_int(stack, sum(stack, &two));                            /* expect: unrooted */
}

/* Through another function. */
static HsInt sumTwice(Stack *stack, struct Two *two) { return 2 * sum(stack, two); }
CAPSTAN_IO(neededBelow, x, y)
{
    struct Two two = { .first = x, .second = y };
    CAPSTAN_ROOTS(stack, two.first);
    HsInt n = sumTwice(stack, &two);                                    /* expect: unrooted */
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, n);
}

/* And through one of the runtime's. */
static HaskellObj sumBody(Stack *stack, void *arg) { return rts_int(stack, sum(stack, arg)); }
CAPSTAN_IO(neededByBody, x, y)
{
    HaskellObj result;
    struct Two two = { .first = x, .second = y };
    bool done = rts_try(stack, sumBody, &two, &result);                 /* expect: unrooted */
    return done ? result : CAPSTAN_UNIT;
}

/* The structure says where the variable is. */
struct Duel { HaskellObj *other; };
static HaskellObj killOther(Stack *stack, void *arg)
{
    struct Duel *duel = arg;
    rts_yield(stack);
    rts_killThread(stack, *duel->other);
    return CAPSTAN_UNIT;
}
CAPSTAN_IO(throughTwo, other)
{
    struct Duel duel = { &other };
    return rts_withMask(stack, RtsMaskedInterruptible, killOther, &duel); /* expect: unrooted */
}

/* One of several functions. */
static HaskellObj ignoreOther(Stack *stack, void *arg) { return rts_int(stack, arg != NULL); }
CAPSTAN_IO(oneOfTwo, other)
{
    struct Duel duel = { &other };
    bool kills = rts_isSmallInt(rts_myThreadId(stack));
    return rts_withMask(stack, RtsMaskedInterruptible, kills ? killOther : ignoreOther, &duel); /* expect: unrooted */
}

/* Nothing is known of the function: what was there before it only reads. */
static HsInt (*const steps[])(Stack *, struct Two *) = { sum, sumTwice };
CAPSTAN_IO(byTable, x, y, n)
{
    struct Two two = { .first = x, .second = y };
    HsInt total = steps[rts_intValue(n)](stack, &two);
    return rts_int(stack, total + rts_intValue(two.second));            /* expect: unrooted */
}

/* Stale when the function gets it. */
static HsInt first(struct Two *two) { return rts_intValue(two->first); }
CAPSTAN_IO(tooLate, x)
{
    struct Two two = { .first = x };
    rts_yield(stack);
    return rts_int(stack, first(&two));                                 /* expect: unrooted */
}

CAPSTAN_IO(arguments, f, x)
{
    HaskellObj all[] = { x, CAPSTAN_WORLD };
    CAPSTAN_ROOTS(stack, f);
    f = rts_force(stack, f);
    CAPSTAN_UNROOT(stack);
    return rts_callN(stack, f, 2, all);                                 /* expect: unrooted */
}

/* Only what the function reads of it matters. */
static HsInt firstOf(struct Two two) { return rts_intValue(two.first); }
static HsInt countOf(struct Two two) { return two.count; }
CAPSTAN_IO(copyPassed, x)
{
    struct Two two = { .first = x, .count = 2 };
    rts_yield(stack);
    HsInt n = countOf(two);
    return rts_int(stack, n + firstOf(two));                            /* expect: unrooted */
}

/* The collector does not look into what malloc gave. */
CAPSTAN_IO(allocated, x)
{
    struct Two *two = malloc(sizeof *two);
    if (two == NULL) return CAPSTAN_UNIT;
    two->first = x;
    rts_yield(stack);
    HaskellObj found = two->first;                                      /* expect: unrooted */
    free(two);
    return found;
}

/* An argument that was a value under another type. */
static HaskellObj later(Stack *stack, void *value)
{
    rts_yield(stack);
    return (HaskellObj)value;                                           /* expect: unrooted */
}
CAPSTAN_IO(asPointer, x) { return rts_withMask(stack, RtsMaskedInterruptible, later, x); }

static HaskellObj kept;
static struct Two keptTwo;
static HaskellObj keptMany[4];
CAPSTAN_IO(keep, x)
{
    kept = x;                                                           /* expect: static */
    keptTwo.first = x;                                                  /* expect: static */
    keptMany[rts_intValue(x)] = x;                                      /* expect: static */
    kept = &keep_closure;
    return CAPSTAN_UNIT;
}

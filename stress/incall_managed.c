/* stress/incall: the managed functions. */
#include "incall.h"

/* Where every safepoint collects, fewer of them make the same test. */
#ifdef CAPSTAN_TORTURE
#define POLLS(n) ((n) / 256)
#define CELLS_PER_POLL 8192
#else
#define POLLS(n) (n)
#define CELLS_PER_POLL 64
#endif

CAPSTAN_CON(StressCell, 1, number, next)
CAPSTAN_STATIC_CON(StressNil, 0);

static HsInt forceInt(Stack *stack, HaskellObj v)
{
    return rts_intValue(rts_force(stack, v));
}

CAPSTAN_FUN(stressDouble, x)
{
    return rts_int(stack, 2 * forceInt(stack, x) + 1);
}

CAPSTAN_IO(stressCommit, n)
{
    HsInt value = forceInt(stack, n);
    atomic_fetch_add(&game.committed, value);
    return rts_int(stack, value);
}

CAPSTAN_IO(stressAddTo, var, place, n)
{
    HsInt i = rts_intValue(place), add = rts_intValue(n);
    CAPSTAN_ROOTS(stack, var);
    for (;;) {
        HaskellObj old = rts_readMutVar(var);
        if (rts_casMutVar(stack->cap, var, old, CAPSTAN_SMALL_INT(rts_smallIntValue(old) + add))) break;
        rts_poll(stack);
    }
    CAPSTAN_UNROOT(stack);
    atomic_fetch_add(&game.counted[i], add);
    return CAPSTAN_UNIT;
}

/* ---- Exceptions ---------------------------------------------------------------------------------------------------- */

CAPSTAN_FUN(stressRaise, n)
{
    rts_raiseError(stack, "stress error %ld", (long)forceInt(stack, n));
}

CAPSTAN_FUN(stressRaiseValue, x)
{
    rts_raise(stack, x);
}

static HaskellObj raiseInt(Stack *stack, void *arg)
{
    rts_raise(stack, CAPSTAN_SMALL_INT((intptr_t)arg));
}

static HaskellObj raiseDeep(Stack *stack, void *arg)
{
    HaskellObj n = CAPSTAN_SMALL_INT((intptr_t)arg);
    return rts_call(stack, &stressRaiseValue_closure, n);
}

static HaskellObj raiseNothing(Stack *stack, void *arg)
{
    rts_poll(stack);
    return CAPSTAN_SMALL_INT((intptr_t)arg);
}

CAPSTAN_IO(stressCatchTry, n)
{
    HsInt value = forceInt(stack, n);
    HaskellObj (*const bodies[])(Stack *, void *) = { raiseInt, raiseDeep, raiseNothing };
    HaskellObj result = CAPSTAN_UNIT;
    bool returned = rts_try(stack, bodies[value % 3], (void *)(intptr_t)value, &result);
    if (returned != (value % 3 == 2)) return CAPSTAN_SMALL_INT(-1);
    return result;
}

CAPSTAN_IO(stressThrower, n)
{
    rts_raise(stack, n);
}

CAPSTAN_IO(stressHandler, exception)
{
    return rts_int(stack, forceInt(stack, exception) + 1);
}

/* ---- Memory -------------------------------------------------------------------------------------------------------- */

static HaskellObj makeCells(Stack *stack, HsInt n, HsInt every)
{
    HaskellObj list = &StressNil_closure;
    CAPSTAN_ROOTS(stack, list);
    for (HsInt i = 1; i <= n; i++) {
        HaskellObj cell = StressCell_new(stack->cap, CAPSTAN_SMALL_INT(i), list);
        if (cell == CAPSTAN_POISON) rts_raise(stack, &capstan_HeapOverflow_closure);
        list = cell;
        if (i % every == 0) rts_poll(stack);
    }
    CAPSTAN_UNROOT(stack);
    return list;
}

/* Reading moves nothing, so no root is needed. */
CAPSTAN_IO(stressList, n, every)
{
    HaskellObj list = makeCells(stack, rts_intValue(n), rts_intValue(every));
    HsInt sum = 0;
    for (; CAPSTAN_IS(StressCell, list); list = CAPSTAN_GET(StressCell, list, next))
        sum += rts_intValue(CAPSTAN_GET(StressCell, list, number));
    return rts_int(stack, sum);
}

/* A list of arrays or byte arrays until there is no memory. */
static void hogObjects(Stack *stack, bool bytes, size_t size)
{
    HaskellObj list = &StressNil_closure;
    CAPSTAN_ROOTS(stack, list);
    for (;;) {
        HaskellObj object = bytes ? rts_mkBytes(stack->cap, NULL, size)
                                  : rts_mkArray(stack->cap, size / sizeof(StgWord), CAPSTAN_UNIT);
        HaskellObj cell = object == CAPSTAN_POISON ? object : StressCell_new(stack->cap, object, list);
        if (cell == CAPSTAN_POISON) rts_raise(stack, &capstan_HeapOverflow_closure);
        list = cell;
        rts_poll(stack);
    }
}

CAPSTAN_IO(stressHog, kind)
{
    switch (rts_intValue(kind)) {
    case 0: return makeCells(stack, INT64_MAX, CELLS_PER_POLL);
    case 1: return makeCells(stack, INT64_MAX, 100000);
    case 2: hogObjects(stack, true, 100 * 1000); break;
    default: hogObjects(stack, false, 900); break;
    }
    return CAPSTAN_UNIT;
}

/* ---- Calls out ----------------------------------------------------------------------------------------------------- */

CAPSTAN_IO(stressNest, nest)
{
    return rts_int(stack, (HsInt)(intptr_t)rts_safeCall(stack, nestFromC, rts_getPtr(nest)));
}

CAPSTAN_IO(stressSafely, ptr)
{
    SafeWork *work = rts_getPtr(ptr);
    return rts_int(stack, (HsInt)(intptr_t)rts_safeCall(stack, work->fn, work->arg));
}

CAPSTAN_IO(stressLeave)
{
    pthread_exit(NULL);
}

CAPSTAN_IO(stressAwaitCancel, ptr)
{
    _Atomic int *waiting = rts_getPtr(ptr);
    for (;;) {
        BEFORE_CANCELLATION();
        atomic_store(waiting, 1);
        pthread_testcancel();
        rts_poll(stack);
    }
    return CAPSTAN_UNIT;
}

/* ---- Long and deep ------------------------------------------------------------------------------------------------- */

CAPSTAN_IO(stressPoll, n)
{
    HsInt count = rts_intValue(n);
    for (HsInt i = 0; i < POLLS(count); i++) rts_poll(stack);
    return rts_int(stack, count);
}

CAPSTAN_FUN(stressDeep, n)
{
    HaskellObj rest = rts_call(stack, &stressDeep_closure, CAPSTAN_SMALL_INT(rts_intValue(n) + 1));
    return rts_int(stack, rts_intValue(rest) + 1);
}

static HaskellObj goDeep(Stack *stack, void *arg)
{
    return rts_call(stack, &stressDeep_closure, CAPSTAN_SMALL_INT(0));
}

CAPSTAN_IO(stressDeepCaught)
{
    HaskellObj result = CAPSTAN_UNIT;
    bool returned = rts_try(stack, goDeep, NULL, &result);
    return CAPSTAN_SMALL_INT(!returned && result == &capstan_StackOverflow_closure);
}

CAPSTAN_FUN(stressTail, n, sum)
{
    HsInt left = rts_intValue(n);
    if (left == 0) return sum;
    return rts_tailCall(stack, &stressTail_closure, CAPSTAN_SMALL_INT(left - 1),
                        CAPSTAN_SMALL_INT(rts_intValue(sum) + 1));
}

/* ---- Thunks that several evaluate ---------------------------------------------------------------------------------- */

CAPSTAN_CAF(stressTable)
{
    atomic_fetch_add(&game.cafStarts, 1);
    for (int i = 0; i < POLLS(20000); i++) rts_poll(stack);
    atomic_fetch_add(&game.cafFinishes, 1);
    return CAPSTAN_SMALL_INT(CAF_VALUE);
}

/* Some are long enough to be met under evaluation. */
CAPSTAN_THUNK(stressShared, 1)
{
    HsInt serial = rts_intValue(rts_thunkVar(self, 0));
    atomic_fetch_add(&game.records[serial].starts, 1);
    HsInt polls = serial % 8 == 0 ? POLLS(5000) : serial % 8;
    for (HsInt i = 0; i < polls; i++) rts_poll(stack);
    atomic_fetch_add(&game.records[serial].finishes, 1);
    return rts_int(stack, sharedValue(serial));
}

CAPSTAN_THUNK(stressFragile, 2)
{
    HsInt serial = rts_intValue(rts_thunkVar(self, 0));
    HsInt end = rts_intValue(rts_thunkVar(self, 1));
    if (atomic_fetch_add(&game.records[serial].starts, 1) == 0) switch (end) {
        case FRAGILE_STACK: rts_raise(stack, &capstan_StackOverflow_closure);
        case FRAGILE_DEEP: return rts_call(stack, &stressDeep_closure, CAPSTAN_SMALL_INT(0));
        case FRAGILE_HEAP: rts_raise(stack, &capstan_HeapOverflow_closure);
        default: pthread_exit(NULL);
        }
    atomic_fetch_add(&game.records[serial].finishes, 1);
    return rts_int(stack, sharedValue(serial));
}

CAPSTAN_THUNK(stressStuck, 1)
{
    HsInt serial = rts_intValue(rts_thunkVar(self, 0));
    atomic_fetch_add(&game.records[serial].starts, 1);
    rts_raiseError(stack, "stress error %ld", (long)serial);
}

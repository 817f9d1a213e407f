/* Nothing is wrong here: each function is one that a coarser checker would find fault with. */
#include <Rts.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

CAPSTAN_STATIC_CON(Nil, 0);
CAPSTAN_CON(Cell, 1, head, tail)

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

/* Rooted, also when it is written meanwhile; and right until the next safepoint when the roots are gone. */
CAPSTAN_FUN(rooted, x, list)
{
    CAPSTAN_ROOTS(stack, x, list);
    x = rts_force(stack, x);
    list = rts_force(stack, list);
    CAPSTAN_UNROOT(stack);
    return Cell_new(stack->cap, x, list);
}

/* On every way out. */
CAPSTAN_IO(waysOut, x)
{
    CAPSTAN_ROOTS(stack, x);
    for (int i = 0; i < 10; i++) {
        rts_poll(stack);
        if (i == 3 && rts_isSmallInt(x)) {
            CAPSTAN_UNROOT(stack);
            return x;
        }
        if (i == 4) break;
        if (i == 5) rts_raise(stack, x);
        if (i == 6) goto out;
    }
out:
    CAPSTAN_UNROOT(stack);
    return x;
}

CAPSTAN_IO(inner, x)
{
    HaskellObj result = CAPSTAN_UNIT;
    for (int i = 0; i < 10; i++) {
        HaskellObj var = rts_mkMutVar(stack->cap, CAPSTAN_UNIT);
        CAPSTAN_ROOTS(stack, var, x, result);
        rts_poll(stack);
        {
            HaskellObj other = rts_mkMutVar(stack->cap, var);
            CAPSTAN_ROOTS(stack, other);
            rts_yield(stack);
            CAPSTAN_UNROOT(stack);
            rts_writeMutVar(stack->cap, other, x);
        }
        result = var;
        CAPSTAN_UNROOT(stack);
        if (i == 7) break;
    }
    return result;
}

/* What does not move. */
CAPSTAN_IO(immediate, how)
{
    HaskellObj a = CAPSTAN_UNIT, b = &Nil_closure, c = rts_mkBool(stack->cap, true), d = CAPSTAN_SMALL_INT(3);
    HaskellObj e = rts_int(stack, 5), f = (HaskellObj)runIO_closure;
    rts_force(stack, how);
    return rts_call(stack, f, a, b, c, d, e);
}
CAPSTAN_IO(tested, x)
{
    if (!rts_isSmallInt(x)) return CAPSTAN_UNIT;
    rts_yield(stack);
    return x;
}
CAPSTAN_IO(poisoned, x)
{
    HaskellObj cell = Cell_new(stack->cap, x, &Nil_closure);
    if (cell == CAPSTAN_POISON) {
        rts_yield(stack);
        return cell;
    }
    return CAPSTAN_GET(Cell, cell, head);
}

/* A function of this file that gets nothing else. */
static HaskellObj constant(Stack *stack, HaskellObj f, HsInt n)
{
    rts_yield(stack);
    return rts_call(stack, f, rts_int(stack, n));
}
CAPSTAN_IO(constants) { return constant(stack, &rooted_closure, 3); }
CAPSTAN_IO(moreConstants) { return constant(stack, &inner_closure, 4); }

/* Not on the way that has the safepoint. */
CAPSTAN_IO(eitherOr, x)
{
    HaskellObj cell = Cell_new(stack->cap, CAPSTAN_UNIT, &Nil_closure);
    if (rts_isSmallInt(x)) {
        rts_yield(stack);
        return CAPSTAN_UNIT;
    }
    return cell;
}
CAPSTAN_IO(switched, n)
{
    HaskellObj cell = Cell_new(stack->cap, CAPSTAN_UNIT, &Nil_closure);
    switch (rts_intValue(n)) {
    case 0: rts_yield(stack); break;
    case 1: return cell;
    default: rts_raiseError(stack, "neither");
    }
    return CAPSTAN_UNIT;
}

/* Fresh in each round. */
CAPSTAN_IO(rounds, var)
{
    HaskellObj old, new;
    CAPSTAN_ROOTS(stack, var);
    do {
        rts_poll(stack);
        old = rts_readMutVar(var);
        new = Cell_new(stack->cap, CAPSTAN_UNIT, old);
    } while (!rts_casMutVar(stack->cap, var, old, new));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* Structures, arrays. */
struct Two { HaskellObj first, second; Capability *cap; };
static HsInt sum(Stack *stack, struct Two *two)
{
    HsInt n = rts_intValue(rts_force(stack, two->first));
    n += rts_intValue(rts_force(stack, two->second));
    two->cap = stack->cap;
    return n + rts_getInt(rts_mkInt(two->cap, 1));
}
static HaskellObj sumBody(Stack *stack, void *arg) { return rts_int(stack, sum(stack, arg)); }
CAPSTAN_IO(structure, x, y)
{
    struct Two two = { x, y, stack->cap };
    HaskellObj result = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, two.first, two.second);
    HsInt n = sum(stack, &two);
    bool done = rts_try(stack, sumBody, &two, &result);
    CAPSTAN_UNROOT(stack);
    if (!done) rts_raise(stack, result);
    return rts_int(stack, n + rts_intValue(result));
}
CAPSTAN_IO(array, n)
{
    HaskellObj all[3] = { CAPSTAN_UNIT, CAPSTAN_UNIT, CAPSTAN_UNIT };
    HsInt which = rts_intValue(n);
    CAPSTAN_ROOTS(stack, all[0], all[1], all[2]);
    for (int i = 0; i < 3; i++) {
        all[i] = rts_mkMutVar(stack->cap, CAPSTAN_UNIT);
        rts_poll(stack);
    }
    CAPSTAN_UNROOT(stack);
    return all[which];
}

/* The structure says where the rooted variable is, and where the results go. */
struct Duel { HaskellObj *other; HaskellObj first; HsInt rounds; };
static HaskellObj killOther(Stack *stack, void *arg)
{
    struct Duel *duel = arg;
    for (HsInt i = 0; i < duel->rounds; i++) {
        rts_yield(stack);
        rts_killThread(stack, *duel->other);
    }
    duel->first = rts_mkMVar(stack->cap);
    return CAPSTAN_UNIT;
}
static HaskellObj keepOther(Stack *stack, void *arg) { return *((struct Duel *)arg)->other = rts_myThreadId(stack); }
CAPSTAN_IO(throughTwo, other)
{
    struct Duel duel = { .other = &other, .rounds = 3 };
    CAPSTAN_ROOTS(stack, other);
    rts_withMask(stack, RtsMaskedInterruptible, killOther, &duel);
    HaskellObj first = duel.first;
    CAPSTAN_UNROOT(stack);
    rts_writeMutVar(stack->cap, first, other);
    return rts_withMask(stack, RtsMaskedInterruptible, keepOther, &duel);
}

/* The caller has rooted it, or the function does. */
static void fill(Stack *stack, HaskellObj *box)
{
    *box = rts_mkMVar(stack->cap);
    rts_yield(stack);
    rts_putMVar(stack, *box, CAPSTAN_UNIT);
}
static void keepRight(Stack *stack, HaskellObj *box)
{
    CAPSTAN_ROOTS(stack, *box);
    rts_yield(stack);
    CAPSTAN_UNROOT(stack);
}
CAPSTAN_IO(pointers)
{
    HaskellObj box = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, box);
    fill(stack, &box);
    CAPSTAN_UNROOT(stack);
    keepRight(stack, &box);
    return box;
}

/* Where a result comes through a pointer, it is as fresh as one that is returned. */
static bool takeSoon(Stack *stack, HaskellObj mvar, HaskellObj *value)
{
    CAPSTAN_ROOTS(stack, mvar);
    rts_poll(stack);
    CAPSTAN_UNROOT(stack);
    return rts_tryTakeMVar(stack, mvar, value);
}
CAPSTAN_IO(result, mvar)
{
    HaskellObj value;
    CAPSTAN_ROOTS(stack, mvar);
    if (!takeSoon(stack, mvar, &value)) value = rts_takeMVar(stack, mvar);
    CAPSTAN_UNROOT(stack);
    return value;
}

/* Addresses. */
CAPSTAN_IO(pinned)
{
    HaskellObj bytes = rts_mkBytesPinned(stack->cap, "pinned", 6);
    const char *at = rts_bytes(bytes, NULL);
    CAPSTAN_ROOTS(stack, bytes);
    rts_yield(stack);
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, at[0]);
}
CAPSTAN_IO(readAgain, text)
{
    const char *at = rts_bytes(text, NULL);
    HsInt n = at[0];
    CAPSTAN_ROOTS(stack, text);
    rts_yield(stack);
    CAPSTAN_UNROOT(stack);
    at = rts_bytes(text, NULL);
    return rts_int(stack, n + at[0]);
}
CAPSTAN_IO(copied, text)
{
    char *copy = rts_getString(text);
    rts_yield(stack);
    HsInt n = copy == NULL ? 0 : copy[0];
    free(copy);
    return rts_int(stack, n);
}
CAPSTAN_IO(stable, x)
{
    StgStablePtr ptr = getStablePtr((StgPtr)x);
    rts_yield(stack);
    HaskellObj found = (HaskellObj)deRefStablePtr(ptr);
    freeStablePtr(ptr);
    return found;
}

/* The order is given where it matters. */
CAPSTAN_IO(ordered, var, x)
{
    CAPSTAN_ROOTS(stack, var, x);
    var = rts_force(stack, var);
    HsInt n = rts_intValue(x) + rts_intValue(rts_force(stack, x));
    CAPSTAN_UNROOT(stack);
    rts_writeMutVar(stack->cap, var, rts_int(stack, n));
    return rts_tailCall(stack, &rooted_closure, x, var);
}
CAPSTAN_IO(last, x)
{
    return rts_isSmallInt(x) ? rts_tailCall(stack, &rooted_closure, x, x) : (rts_yield(stack), CAPSTAN_UNIT);
}

/* C that calls in. */
static HsInt askTwice(Capability **cap, HaskellObj f)
{
    HaskellObj a, b;
    CAPSTAN_ROOTS(*cap, f);
    rts_eval(cap, rts_apply(*cap, f, rts_mkInt(*cap, 1)), &a);
    HsInt first = rts_getInt(a);
    rts_eval(cap, rts_apply(*cap, f, rts_mkInt(*cap, 2)), &b);
    CAPSTAN_UNROOT(*cap);
    return first + rts_getInt(b);
}
HsInt ask(void)
{
    Capability *cap = rts_lock();
    HsInt n = askTwice(&cap, &rooted_closure);
    rts_pollCap(&cap);
    rts_checkSchedStatus("ask", cap);
    rts_unlock(cap);
    cap = rts_lock();
    n += rts_getInt(rts_mkInt(cap, 1));
    rts_unlock(cap);
    return n;
}
struct Call { Capability **cap; HaskellObj result; };
static void makeCall(struct Call *call, HaskellObj p) { rts_eval(call->cap, p, &call->result); }
HsInt askByStructure(HaskellObj f)
{
    Capability *cap = rts_lock();
    struct Call call = { &cap, CAPSTAN_UNIT };
    makeCall(&call, rts_apply(cap, f, CAPSTAN_UNIT));
    HsInt n = rts_getInt(call.result) + rts_getInt(rts_mkInt(cap, 1));
    rts_unlock(cap);
    return n;
}

/* Only what never moves can be kept from one in-call to the next. */
static HsInt askAgain(HaskellObj io)
{
    HsInt n = 0;
    for (int i = 0; i < 3; i++) {
        Capability *cap = rts_lock();
        HaskellObj value = CAPSTAN_POISON;
        rts_evalIO(&cap, io, &value);
        n += rts_getInt(value);
        rts_unlock(cap);
    }
    return n;
}
HsInt askOften(void) { return askAgain(&pointers_closure) + askAgain(&pinned_closure); }

/* What belongs to OS threads, in functions of its own. */
static __attribute__((noinline)) int tryRead(int fd, char *byte) { return read(fd, byte, 1) < 0 ? errno : 0; }
CAPSTAN_IO(receive, fd)
{
    char byte = 0;
    int from = (int)rts_intValue(fd);
    while (tryRead(from, &byte) == EAGAIN) rts_threadWaitRead(stack, from);
    pthread_mutex_lock(&mutex);
    byte++;
    pthread_mutex_unlock(&mutex);
    rts_yield(stack);
    return rts_int(stack, byte);
}
struct Written { char text[32]; size_t length; };
static void *writeAll(void *arg)
{
    struct Written *w = arg;
    return write(1, w->text, w->length) < 0 ? arg : NULL;
}
CAPSTAN_IO(writes, text)
{
    struct Written w;
    w.length = rts_copyBytes(text, 0, w.text, sizeof w.text);
    bool ok = rts_safeCall(stack, writeAll, &w) == NULL;
    return rts_mkBool(stack->cap, ok);
}

static HaskellObj shared;
CAPSTAN_IO(rootedStatic)
{
    shared = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, shared);
    shared = rts_mkMVar(stack->cap);
    rts_yield(stack);
    CAPSTAN_UNROOT(stack);
    shared = CAPSTAN_UNIT;
    return CAPSTAN_UNIT;
}

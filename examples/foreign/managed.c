/* The managed functions of the example: a shelf of named weights, which all threads share. */
#include <Rts.h>
#include <rts/Managed.h>

#include "shelf_stub.h"

#include <stdio.h>
#include <string.h>

CAPSTAN_STATIC_CON(Nil, 0);
CAPSTAN_CON(Item, 1, name, weight, rest)

CAPSTAN_CAF(shelf) { return rts_mkMutVar(stack->cap, &Nil_closure); }

static HaskellObj items(Stack *stack) { return rts_readMutVar(rts_force(stack, &shelf_closure)); }

/* put :: String -> Int -> IO () */
CAPSTAN_IO(put, name, weight)
{
    CAPSTAN_ROOTS(stack, name, weight);
    name = rts_force(stack, name);
    weight = rts_force(stack, weight);
    HaskellObj var = rts_force(stack, &shelf_closure);
    CAPSTAN_UNROOT(stack);
    if (rts_getInt(weight) < 0) rts_raiseError(stack, "a weight of %ld", (long)rts_getInt(weight));
    HaskellObj before;
    do before = rts_readMutVar(var);
    while (!rts_casMutVar(stack->cap, var, before, Item_new(stack->cap, name, weight, before)));
    return CAPSTAN_UNIT;
}

static bool isNamed(HaskellObj item, HaskellObj name)
{
    size_t n, m;
    const char *a = rts_bytes(CAPSTAN_GET(Item, item, name), &n), *b = rts_bytes(name, &m);
    return n == m && memcmp(a, b, n) == 0;
}

/* The list without its first item of that name; *found is that item. No safepoint, so nothing is rooted. */
static HaskellObj without(Stack *stack, HaskellObj list, HaskellObj name, HaskellObj *found)
{
    if (!CAPSTAN_IS(Item, list)) return list;
    HaskellObj rest = CAPSTAN_GET(Item, list, rest);
    if (isNamed(list, name)) {
        *found = list;
        return rest;
    }
    return Item_new(stack->cap, CAPSTAN_GET(Item, list, name), CAPSTAN_GET(Item, list, weight), without(stack, rest, name, found));
}

/* take :: String -> IO Int: its weight; an exception if there is none */
CAPSTAN_IO(take, name)
{
    CAPSTAN_ROOTS(stack, name);
    name = rts_force(stack, name);
    HaskellObj var = rts_force(stack, &shelf_closure);
    CAPSTAN_UNROOT(stack);
    HaskellObj before, after, found;
    do {
        found = &Nil_closure;
        before = rts_readMutVar(var);
        after = without(stack, before, name, &found);
    } while (found != &Nil_closure && !rts_casMutVar(stack->cap, var, before, after));
    if (found == &Nil_closure) {
        size_t length;
        const char *text = rts_bytes(name, &length);
        rts_raiseError(stack, "there is no %.*s on the shelf", (int)length, text);
    }
    return CAPSTAN_GET(Item, found, weight);
}

/* visit :: FunPtr (String -> Int -> IO ()) -> IO (): calls back for each item */
CAPSTAN_IO(visit, callback)
{
    CAPSTAN_ROOTS(stack, callback);
    HaskellObj list = items(stack);
    {
        CAPSTAN_ROOTS(stack, list);
        while (CAPSTAN_IS(Item, list)) {
            rts_call(stack, &callVisit_closure, callback, CAPSTAN_GET(Item, list, name), CAPSTAN_GET(Item, list, weight), CAPSTAN_WORLD);
            list = CAPSTAN_GET(Item, list, rest);
        }
        CAPSTAN_UNROOT(stack);
    }
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* label :: IO String */
CAPSTAN_IO(label)
{
    char text[100];
    int n = 0;
    HsInt weight = 0, most = rts_getInt32(rts_force(stack, &c_int_max_closure));
    for (HaskellObj list = items(stack); CAPSTAN_IS(Item, list); list = CAPSTAN_GET(Item, list, rest), n++) weight += rts_getInt(CAPSTAN_GET(Item, list, weight));
    snprintf(text, sizeof text, "%d items, %ld of at most %ld", n, (long)weight, (long)most);
    return rts_mkString(stack->cap, text);
}

/* watch :: IO (): never ends by itself */
CAPSTAN_IO(watch)
{
    while (true) rts_threadDelay(stack, 1000000);
    return CAPSTAN_UNIT;
}

/* Which of two numbers is nearer to the free variable. */
CAPSTAN_LAMBDA_IO(isNearer, 1, p, q)
{
    HsInt to = rts_getInt(rts_freeVar(self, 0)), a = *(int *)rts_getPtr(p), b = *(int *)rts_getPtr(q);
    a = rts_getInt64(rts_call(stack, &c_labs_closure, rts_int(stack, a - to)));
    b = rts_getInt64(rts_call(stack, &c_labs_closure, rts_int(stack, b - to)));
    return rts_int(stack, (a > b) - (a < b));
}

/* nearestTo :: Int -> IO (FunPtr (Ptr Int -> Ptr Int -> IO Int)) */
CAPSTAN_IO(nearestTo, n)
{
    n = rts_force(stack, n);
    return rts_call(stack, &mkOrder_closure, rts_mkClosure(stack->cap, &isNearer_info, &n), CAPSTAN_WORLD);
}

#include "churn.h"
#include "clock.h"
#include <rts/Threads.h>
#include <stdlib.h>

/* number, key :: Int */
CAPSTAN_CON(Message, 0, number, key)
/* A link of a chain; next is unit at its end. Never changed: the chain's beginning is copied where something behind goes. */
CAPSTAN_CON(Link, 1, key, message, next)

/* Between the safepoints of the caller: nothing here is one. */
static size_t bucketOf(HaskellObj map, HsInt key)
{
    uint64_t bits = (uint64_t)key;
    return (size_t)(bits ^ bits >> 16) & (rts_arrayLength(map) - 1);
}

static void insert(Stack *stack, HaskellObj map, HsInt key, HaskellObj message)
{
    size_t bucket = bucketOf(map, key);
    rts_setElem(stack->cap, map, bucket, Link_new(stack->cap, rts_int(stack, key), message, rts_getElem(map, bucket)));
}

static bool isKey(HaskellObj link, HsInt key)
{
    return rts_intValue(CAPSTAN_GET(Link, link, key)) == key;
}

/* The chain without the link of this key, which is in it behind the given one. */
static HaskellObj without(Stack *stack, HaskellObj link, HsInt key)
{
    HaskellObj next = CAPSTAN_GET(Link, link, next);
    if (isKey(link, key)) return next;
    return Link_new(stack->cap, CAPSTAN_GET(Link, link, key), CAPSTAN_GET(Link, link, message), without(stack, next, key));
}

/* The message under key, which is taken out; poison if there is none. */
static HaskellObj take(Stack *stack, HaskellObj map, HsInt key)
{
    size_t bucket = bucketOf(map, key);
    HaskellObj chain = rts_getElem(map, bucket);
    for (HaskellObj link = chain; CAPSTAN_IS(Link, link); link = CAPSTAN_GET(Link, link, next)) {
        if (!isKey(link, key)) continue;
        rts_setElem(stack->cap, map, bucket, without(stack, chain, key));
        return CAPSTAN_GET(Link, link, message);
    }
    return CAPSTAN_POISON;
}

/* Who runs out of memory may have put poison in: the caller polls before anybody reads. */
static void insertMessage(Stack *stack, HaskellObj map, HsInt number)
{
    HsInt key = keyOf(number);
    insert(stack, map, key, Message_new(stack->cap, rts_int(stack, number), rts_int(stack, key)));
}

/* take gives poison when it finds nothing, and what is missing when memory ran out. */
static void takeMessage(Stack *stack, HaskellObj map, HsInt number)
{
    HaskellObj message = take(stack, map, keyOf(number));
    if (!CAPSTAN_IS(Message, message) || rts_intValue(CAPSTAN_GET(Message, message, number)) != number)
        rts_raiseError(stack, "churn: message %ld is not in the map", (long)number);
}

static void noteGap(Churn *churn, uint64_t gap)
{
    recordValue(&churn->gaps, gap);
    if (gap > churn->largest) churn->largest = gap;
}

static HsInt sumOf(Stack *stack, HaskellObj map)
{
    HsInt sum = 0;
    CAPSTAN_ROOTS(stack, map);
    for (size_t bucket = 0; bucket < rts_arrayLength(map); bucket++) {
        for (HaskellObj link = rts_getElem(map, bucket); CAPSTAN_IS(Link, link); link = CAPSTAN_GET(Link, link, next))
            sum += rts_intValue(CAPSTAN_GET(Message, CAPSTAN_GET(Link, link, message), number));
        rts_poll(stack);
    }
    CAPSTAN_UNROOT(stack);
    return sum;
}

static void churnMap(Stack *stack, Churn *churn)
{
    HaskellObj map = rts_mkArray(stack->cap, (size_t)bucketsFor(churn->entries), CAPSTAN_UNIT);
    HsInt entries = churn->entries, n = 0;
    CAPSTAN_ROOTS(stack, map);
    rts_poll(stack);
    for (; n < entries; n++) {
        insertMessage(stack, map, n);
        rts_poll(stack);
    }
    uint64_t start = nowNs(), last = start;
    for (; n < entries + churn->operations; n++) {
        insertMessage(stack, map, n);
        rts_poll(stack);
        takeMessage(stack, map, n - entries);
        uint64_t now = nowNs();
        noteGap(churn, now - last);
        last = now;
    }
    churn->took = last - start;
    churn->sum = sumOf(stack, map);
    CAPSTAN_UNROOT(stack);
}

enum { CHURN_MINE, CHURN_DONE, CHURN_VARIABLES };

CAPSTAN_LAMBDA_IO(churnAndSay, CHURN_VARIABLES)
{
    Churn *churn = rts_getPtr(rts_freeVar(self, CHURN_MINE));
    HaskellObj done = rts_freeVar(self, CHURN_DONE);
    CAPSTAN_ROOTS(stack, done);
    churnMap(stack, churn);
    rts_putMVar(stack, done, CAPSTAN_UNIT);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(churnMaps, workersValue, churnsValue)
{
    HsInt workers = rts_intValue(workersValue);
    Churn *churns = rts_getPtr(churnsValue);
    HaskellObj done = rts_mkMVar(stack->cap);
    for (HsInt i = 1; i < workers; i++) {
        HaskellObj variables[CHURN_VARIABLES] = {[CHURN_MINE] = rts_mkPtr(stack->cap, &churns[i]), [CHURN_DONE] = done};
        rts_fork(stack, rts_mkClosure(stack->cap, &churnAndSay_info, variables));
    }
    CAPSTAN_ROOTS(stack, done);
    churnMap(stack, &churns[0]);
    for (HsInt i = 1; i < workers; i++) rts_takeMVar(stack, done);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

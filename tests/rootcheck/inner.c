/* Addresses inside objects: no root keeps them right. */
#include <Rts.h>

CAPSTAN_CON(Pair, 0, first, second)

CAPSTAN_IO(bytes, text)
{
    size_t length;
    CAPSTAN_ROOTS(stack, text);
    const unsigned char *at = rts_bytes(text, &length);
    rts_poll(stack);
    HsInt first = length > 0 ? at[0] : 0;                               /* expect: inner */
    CAPSTAN_UNROOT(stack);
    return rts_int(stack, first);
}

/* From an address another one. */
CAPSTAN_IO(words, text)
{
    const char *word = rts_bytes(text, NULL), *end = word;
    while (*end != ' ') end++;
    CAPSTAN_ROOTS(stack, text);
    rts_poll(stack);
    CAPSTAN_UNROOT(stack);
    return rts_mkBytes(stack->cap, word, (size_t)(end - word));         /* expect: inner, inner */
}

static const char *textOf(HaskellObj text) { return rts_bytes(text, NULL); }
CAPSTAN_IO(byFunction, text)
{
    const char *at = textOf(text);
    rts_yield(stack);
    return rts_int(stack, *at);                                         /* expect: inner */
}

CAPSTAN_IO(payload, pair)
{
    CAPSTAN_ROOTS(stack, pair);
    HaskellObj *fields = pair->payload;
    rts_force(stack, fields[Pair_first]);
    HaskellObj second = fields[Pair_second];                            /* expect: inner */
    CAPSTAN_UNROOT(stack);
    return second;
}

CAPSTAN_IO(field, pair)
{
    CAPSTAN_ROOTS(stack, pair);
    HaskellObj *second = &pair->payload[Pair_second];
    rts_yield(stack);
    HaskellObj value = *second;                                         /* expect: inner */
    CAPSTAN_UNROOT(stack);
    return value;
}

/* A copy under another type is not what was rooted. */
CAPSTAN_IO(casted, var)
{
    CAPSTAN_ROOTS(stack, var);
    StgMutVar *cell = (StgMutVar *)var;
    rts_yield(stack);
    HaskellObj value = cell->value;                                     /* expect: unrooted */
    CAPSTAN_UNROOT(stack);
    return value;
}

CAPSTAN_IO(anyPointer, var)
{
    CAPSTAN_ROOTS(stack, var);
    void *cell = var;
    rts_yield(stack);
    HaskellObj value = rts_readMutVar(cell);                            /* expect: inner */
    CAPSTAN_UNROOT(stack);
    return value;
}

/* An address as a number is no better. */
CAPSTAN_IO(asNumber, var)
{
    CAPSTAN_ROOTS(stack, var);
    StgWord key = (StgWord)var;
    rts_yield(stack);
    bool same = key == (StgWord)var;                                    /* expect: inner */
    CAPSTAN_UNROOT(stack);
    return rts_mkBool(stack->cap, same);
}

CAPSTAN_IO(stable, ptr)
{
    StgPtr object = deRefStablePtr(rts_getStablePtr(ptr));
    rts_yield(stack);
    return (HaskellObj)object;                                          /* expect: unrooted */
}

CAPSTAN_IO(uninitialised)
{
    StgWord *words = rts_allocate(stack->cap, 3);
    rts_poll(stack);
    words[0] = 0;                                                       /* expect: inner */
    return CAPSTAN_UNIT;
}

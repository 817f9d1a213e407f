/* SQL functions as managed functions. */
#include "functions.h"

#include <rts/Managed.h>

/* Arguments come as SQL has them: of any type. */
static HsInt integerAt(Stack *stack, HaskellObj arguments, size_t i)
{
    HaskellObj v = rts_getElem(arguments, i);
    if (!rts_isSmallInt(v) && (rts_isImmediate(v) || rts_info(v)->kind != CLOSURE_INT64))
        rts_raiseError(stack, "argument %zu is no integer", i + 1);
    return rts_getInt(v);
}

static HaskellObj textAt(Stack *stack, HaskellObj arguments, size_t i)
{
    HaskellObj v = rts_getElem(arguments, i);
    if (rts_isImmediate(v) || rts_info(v)->kind != CLOSURE_BYTES) rts_raiseError(stack, "argument %zu is no text", i + 1);
    return v;
}

/* mix a b: some integer of two. */
CAPSTAN_IO(mix, arguments)
{
    uint64_t a = (uint64_t)integerAt(stack, arguments, 0), b = (uint64_t)integerAt(stack, arguments, 1);
    return rts_int(stack, (HsInt)((a * 0x9E3779B97F4A7C15u ^ b) >> 7));
}

/* shout text: in capitals, with as many exclamation marks as it has words.  Refuses the empty text. */
CAPSTAN_IO(shout, arguments)
{
    size_t length, words = 1;
    const unsigned char *text = rts_bytes(textAt(stack, arguments, 0), &length);
    if (length == 0) rts_raiseError(stack, "shout: there is nothing to say");
    for (size_t i = 0; i < length; i++) words += text[i] == ' ';
    HaskellObj result = rts_mkBytes(stack->cap, NULL, length + words);
    unsigned char *loud = rts_bytes(result, NULL); /* allocation moves nothing: text is still good */
    if (loud == NULL) return result;
    for (size_t i = 0; i < length; i++) loud[i] = text[i] >= 'a' && text[i] <= 'z' ? (unsigned char)(text[i] - 32) : text[i];
    for (size_t i = 0; i < words; i++) loud[length + i] = '!';
    return result;
}

/* power x n: x to the n-th, n at least 0. */
CAPSTAN_IO(power, arguments)
{
    HaskellObj base = rts_getElem(arguments, 0);
    if (rts_isImmediate(base) || rts_info(base)->kind != CLOSURE_DOUBLE) rts_raiseError(stack, "argument 1 is no real number");
    double x = rts_getDouble(base), result = 1;
    HsInt n = integerAt(stack, arguments, 1);
    if (n < 0) rts_raiseError(stack, "power: %ld is negative", (long)n);
    for (HsInt i = 0; i < n; i++) {
        result *= x;
        rts_poll(stack);
    }
    return rts_mkDouble(stack->cap, result);
}

/* ---- spread n: the greatest less the least ---- */

CAPSTAN_CON(Spread, 0, least, greatest)

CAPSTAN_IO(spreadStart) { return rts_mkMutVar(stack->cap, CAPSTAN_UNIT); }

CAPSTAN_IO(spreadStep, state, arguments)
{
    HsInt i = integerAt(stack, arguments, 0);
    HaskellObj n = rts_int(stack, i), so_far = rts_readMutVar(state), least = n, greatest = n;
    if (so_far != CAPSTAN_UNIT) {
        least = CAPSTAN_GET(Spread, so_far, least);
        greatest = CAPSTAN_GET(Spread, so_far, greatest);
        if (i < rts_intValue(least)) least = n;
        if (i > rts_intValue(greatest)) greatest = n;
    }
    HaskellObj next = Spread_new(stack->cap, least, greatest);
    if (next == CAPSTAN_POISON) rts_raise(stack, &capstan_HeapOverflow_closure);
    rts_writeMutVar(stack->cap, state, next);
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(spreadEnd, state)
{
    HaskellObj so_far = rts_readMutVar(state);
    if (so_far == CAPSTAN_UNIT) return CAPSTAN_UNIT;
    return rts_int(stack, rts_intValue(CAPSTAN_GET(Spread, so_far, greatest)) - rts_intValue(CAPSTAN_GET(Spread, so_far, least)));
}

/* ---- longest text: the first of those that are longest ---- */

CAPSTAN_IO(longestStart) { return rts_mkMutVar(stack->cap, CAPSTAN_UNIT); }

CAPSTAN_IO(longestStep, state, arguments)
{
    HaskellObj text = textAt(stack, arguments, 0), so_far = rts_readMutVar(state);
    size_t length, longest = 0;
    rts_bytes(text, &length);
    if (so_far != CAPSTAN_UNIT) rts_bytes(so_far, &longest);
    if (so_far == CAPSTAN_UNIT || length > longest) rts_writeMutVar(stack->cap, state, text);
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(longestEnd, state) { return rts_readMutVar(state); }

/* ---- natural ---- */

CAPSTAN_IO(natural, a, b)
{
    size_t n, m;
    const unsigned char *left = rts_bytes(a, &n), *right = rts_bytes(b, &m);
    return rts_int(stack, compareNaturally(left, n, right, m));
}

/* Strings and byte arrays between C and managed code. */
#include "RtsAPI.h"
#include "gc/heap.h"
#include "rts/Language.h"
#include "rts/Managed.h"
#include "rts/Marshal.h"

#include <stdlib.h>
#include <string.h>

/* ---- From C ---- */

HaskellObj rts_borrowString(Capability *cap, const char *s) { return s == NULL ? CAPSTAN_UNIT : rts_mkString(cap, s); }
HaskellObj rts_borrowBytes(Capability *cap, const void *bytes, size_t length) { return bytes == NULL ? CAPSTAN_UNIT : rts_mkBytes(cap, bytes, length); }

HaskellObj rts_takeString(Capability *cap, char *s)
{
    HaskellObj v = rts_borrowString(cap, s);
    free(s);
    return v;
}

static void freeBytes(void *ctx, void *bytes) { free(bytes); }
HaskellObj rts_takeBytes(Capability *cap, void *bytes, size_t length)
{
    return bytes == NULL ? CAPSTAN_UNIT : rts_mkBytesExternalCounted(cap, bytes, length, freeBytes, NULL);
}

/* ---- To C ---- */

void rts_raiseNoMemory(Stack *stack) { rts_raise(stack, &capstan_HeapOverflow_closure); }

void rts_checkBytes(Stack *stack, HaskellObj v)
{
    if (v == CAPSTAN_POISON) rts_raiseNoMemory(stack);
    if (v != CAPSTAN_UNIT && !isByteArray(v)) rts_raiseError(stack, "a foreign call: expected a byte array or unit, found another value");
}

void rts_checkString(Stack *stack, HaskellObj v)
{
    size_t length;
    rts_checkBytes(stack, v);
    if (v == CAPSTAN_UNIT) return;
    const char *bytes = rts_bytes(v, &length);
    if (length != 0 && memchr(bytes, 0, length) != NULL) rts_raiseError(stack, "a foreign call: a string with a zero in it, which C would take for its end");
}

char *rts_giveString(HaskellObj v) { return v == CAPSTAN_UNIT || v == CAPSTAN_POISON ? NULL : rts_getString(v); }

void *rts_giveBytes(HaskellObj v, size_t *length)
{
    *length = 0;
    const void *bytes = v == CAPSTAN_UNIT || v == CAPSTAN_POISON ? NULL : rts_bytes(v, length);
    void *copy = bytes == NULL ? NULL : malloc(*length + 1);
    if (copy == NULL) *length = 0;
    else memcpy(copy, bytes, *length);
    return copy;
}

void rts_freeGiven(void *given) { free(given); }

static HaskellObj copyFor(Stack *stack, HaskellObj v, size_t extra, bool pinned)
{
    size_t length;
    rts_bytes(v, &length);
    HaskellObj copy = (pinned ? rts_mkBytesPinned : rts_mkBytes)(stack->cap, NULL, length + extra);
    if (copy == CAPSTAN_POISON) rts_raiseNoMemory(stack);
    rts_copyBytes(v, 0, rts_bytes(copy, NULL), length);
    return copy;
}

HaskellObj rts_lendString(Stack *stack, HaskellObj v, bool pinned)
{
    rts_checkString(stack, v);
    return v == CAPSTAN_UNIT ? v : copyFor(stack, v, 1, pinned);
}

HaskellObj rts_lendBytes(Stack *stack, HaskellObj v, bool pinned)
{
    rts_checkBytes(stack, v);
    return v == CAPSTAN_UNIT || !pinned || rts_info(v)->kind == CLOSURE_EXTERNAL ? v : copyFor(stack, v, 0, true);
}

const void *rts_lentBytes(HaskellObj lent, size_t *length)
{
    *length = 0;
    return lent == CAPSTAN_UNIT ? NULL : rts_bytes(lent, length);
}
const char *rts_lentString(HaskellObj lent)
{
    size_t length;
    return rts_lentBytes(lent, &length);
}

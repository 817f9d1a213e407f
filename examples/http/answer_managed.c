/* The handler as a managed function. */
#include "answer.h"

#include <rts/Managed.h>

#include <stdio.h>
#include <string.h>

/* How many were greeted: a MutVar that all threads share. */
CAPSTAN_CAF(greeted) { return rts_mkMutVar(stack->cap, CAPSTAN_SMALL_INT(0)); }

static HsInt countOne(Stack *stack)
{
    HaskellObj var = rts_force(stack, &greeted_closure), old;
    do old = rts_readMutVar(var);
    while (!rts_casMutVar(stack->cap, var, old, CAPSTAN_SMALL_INT(rts_smallIntValue(old) + 1)));
    return rts_smallIntValue(old) + 1;
}

/* A managed byte array, so that a request's text is nobody's to free. */
static HaskellObj greeting(Stack *stack, const char *name, HsInt number)
{
    char text[300];
    int length = snprintf(text, sizeof text, "hello %.200s, you are number %ld\n", name, (long)number);
    return rts_mkBytes(stack->cap, text, (size_t)length);
}

CAPSTAN_IO(answer, cls, connection, url, method, version, data, size, state)
{
    /* No safepoint from here on but the first use of the counter: the pointers are C's. */
    struct MHD_Connection *to = rts_getPtr(connection);
    const char *path = rts_getPtr(url), *verb = rts_getPtr(method);
    char count[32];
    if (strcmp(verb, "GET") != 0) return CAPSTAN_SMALL_INT(respond(to, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET\n", 9));
    if (strncmp(path, "/hello/", 7) == 0) {
        HaskellObj text = greeting(stack, path + 7, countOne(stack));
        size_t length;
        const char *bytes = rts_bytes(text, &length);
        if (bytes == NULL) rts_raise(stack, &capstan_HeapOverflow_closure);
        return CAPSTAN_SMALL_INT(respond(to, MHD_HTTP_OK, bytes, length));
    }
    if (strcmp(path, "/count") != 0) return CAPSTAN_SMALL_INT(respond(to, MHD_HTTP_NOT_FOUND, "not here\n", 9));
    HaskellObj var = rts_force(stack, &greeted_closure);
    int length = snprintf(count, sizeof count, "%ld\n", (long)rts_smallIntValue(rts_readMutVar(var)));
    return CAPSTAN_SMALL_INT(respond(to, MHD_HTTP_OK, count, (size_t)length));
}

/*
 * For tests of old objects that refer to young ones: young values that know what they have to be, collections, cases.
 * Included by one file of a program.
 */
#ifndef CAPSTAN_TESTS_GENERATION_H
#define CAPSTAN_TESTS_GENERATION_H

#include "sched.h"

enum { AGES = 6 }; /* minor collections that make anything old */

/* A number that does not fit a word. */
#define BOXED(n) (INT64_MIN + 1000000 + (n))

/* ---- Young values ---- */

CAPSTAN_CON(Fresh, 1, number, text, self)
CAPSTAN_STATIC_CON(Nothing, 0);

/* Several objects, which know what they have to be. */
static inline HaskellObj fresh(Capability *cap, HsInt n)
{
    char text[32];
    snprintf(text, sizeof text, "fresh %ld", (long)n);
    HaskellObj number = rts_mkInt(cap, BOXED(n)), string = rts_mkString(cap, text), array = rts_mkArray(cap, 3, number);
    return Fresh_new(cap, number, string, array);
}

static inline bool isFresh(HaskellObj v, HsInt n)
{
    char text[32];
    size_t length;
    if (v == NULL || !CAPSTAN_IS(Fresh, v)) return false;
    snprintf(text, sizeof text, "fresh %ld", (long)n);
    HaskellObj number = CAPSTAN_GET(Fresh, v, number), array = CAPSTAN_GET(Fresh, v, self);
    const char *bytes = rts_bytes(CAPSTAN_GET(Fresh, v, text), &length);
    return rts_getInt(number) == BOXED(n) && length == strlen(text) && memcmp(bytes, text, length) == 0 &&
           rts_arrayLength(array) == 3 && rts_getInt(rts_getElem(array, 0)) == BOXED(n) && rts_getInt(rts_getElem(array, 2)) == BOXED(n); /* or a copy of it */
}

/* ---- Collections ---- */

/* What the nurseries were is written over. */
static inline void litter(Stack *stack)
{
    for (int i = 0; i < 300; i++) memset(rts_bytes(rts_mkBytes(stack->cap, NULL, 900), NULL), 0x77, 900);
}

static inline void minor(Stack *stack)
{
    rts_collect(stack, false);
    litter(stack);
}
static inline void major(Stack *stack)
{
    rts_collect(stack, true);
    litter(stack);
}

/* v: rooted. */
static inline void makeOld(Stack *stack)
{
    for (int i = 0; i < AGES; i++) minor(stack);
}

/* After each of several collections: does the expression hold?  The last is major. */
#define CHECK_THROUGH(stack, x)                                                                                       \
    do {                                                                                                              \
        for (int age_ = 0; age_ <= AGES; age_++) {                                                                    \
            CHECK(x);                                                                                                 \
            if (age_ < AGES) minor(stack);                                                                            \
            else major(stack);                                                                                        \
        }                                                                                                             \
        CHECK(x);                                                                                                     \
    } while (0)

/* A case is an action. */
#define CASE(name)                                                                                                    \
    CAPSTAN_EXTERN(name##Case);                                                                                       \
    static void name(void **state) { run(&name##Case_closure); }                                                      \
    CAPSTAN_IO(name##Case)

/* On one capability, where forked threads wait until the forker does, and on two. */
#define BOTH(f) ONE(f), TWO(f)

#endif

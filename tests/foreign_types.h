/*
 * What the functions of foreign_types_gen.c, which foreign_types.awk makes, and foreign_types_test.c share.
 */
#ifndef CAPSTAN_TESTS_FOREIGN_TYPES_H
#define CAPSTAN_TESTS_FOREIGN_TYPES_H

#include "arch.h"

#include <stdarg.h>
#include <string.h>

typedef struct {
    const char *type;
    StgFunPtr callee;                                 /* notes its arguments, returns the answer */
    uint64_t (*caller)(void *f, const uint64_t *v);   /* calls f with the values; its result's bits */
    StgFunPtr stub;                                   /* of an adjustor; NULL: the type is variadic */
} ForeignType;

extern const unsigned foreignSeed, foreignCount;
extern const ForeignType foreignTypes[];

#define MOST_ARGUMENTS 64
extern uint64_t seenBits[MOST_ARGUMENTS], answerBits;
extern unsigned seenCount;
extern void *seenStable;

#if ARCH_STUB_DUMMY_AFTER == 6
#define GHC_DUMMY , __attribute__((unused)) void *original_return_addr
#else
#define GHC_DUMMY
#endif

typedef void T_v;
typedef float T_f;
typedef double T_d;
typedef int64_t T_L;
typedef uint64_t T_l;
typedef int32_t T_W;
typedef uint32_t T_w;
typedef int16_t T_S;
typedef uint16_t T_s;
typedef int8_t T_B;
typedef uint8_t T_b;
typedef void *T_p;

/* Bits as a value, and back: extended as the type says. */
#define INTEGER(t)                                                                              \
    static inline __attribute__((unused)) T_##t as_##t(uint64_t bits) { return (T_##t)bits; }   \
    static inline __attribute__((unused)) uint64_t of_##t(T_##t v) { return (uint64_t)v; }
INTEGER(L) INTEGER(l) INTEGER(W) INTEGER(w) INTEGER(S) INTEGER(s) INTEGER(B) INTEGER(b) INTEGER(p)

#define FLOATING(t, word)                                                       \
    static inline __attribute__((unused)) T_##t as_##t(uint64_t bits)           \
    {                                                                           \
        word w = (word)bits;                                                    \
        T_##t v;                                                                \
        memcpy(&v, &w, sizeof v);                                               \
        return v;                                                               \
    }                                                                           \
    static inline __attribute__((unused)) uint64_t of_##t(T_##t v)              \
    {                                                                           \
        word w;                                                                 \
        memcpy(&w, &v, sizeof w);                                               \
        return w;                                                               \
    }
FLOATING(f, uint32_t)
FLOATING(d, uint64_t)

static inline void as_v(uint64_t bits) { (void)bits; }

#endif

/* signature.h: the types of C functions that are known at run time, and values on their way in and out of them.
 *
 * A Signature is made once for each type string (and use) and never goes away: closures and adjustors, of which late calls may come at any time, just point to
 * it.  [const] once it can be found. */
#ifndef SIGNATURE_H
#define SIGNATURE_H

#include "arch.h"
#include "rts/Foreign.h"

/* What the string is the type of. */
typedef enum {
    SIGNATURE_PLAIN,  /* a C function */
    SIGNATURE_STUB,   /* an adjustor with a stub */
    SIGNATURE_GHC,    /* an adjustor with a stub that has GHC's parameters */
} SignatureUse;

typedef struct Signature_ Signature;
struct Signature_ {
    ArchLayout layout;         /* of the arguments; first, for adjustors */
    char result;
    SignatureUse use;
    uint32_t hash;
    uint32_t count;            /* arguments */
    uint32_t dummy;            /* where in the stub's frame the parameter is that means nothing; 0: nowhere */
    const Signature *stub;     /* the C function that the adjustor calls; NULL: SIGNATURE_PLAIN */
    _Atomic(Signature *) next; /* in the table */
    const char *text;          /* as given */
    const char *types;         /* the arguments' letters, as they are passed: promoted, and without the dot */
    const uint32_t *to;        /* with a stub: where in its frame each argument goes */
    uint32_t words[];          /* where in the frame each is */
};

/* The signature of a string.  NULL: it is wrong, or there is no memory; reported through the error hook, in `what`'s name. */
const Signature *findSignature(const char *text, SignatureUse use, const char *what);

/* In a forked child. */
void forgetSignatures(void);

/* A word of that type, as C left it, as a value.  CAPSTAN_POISON without memory. */
HaskellObj valueOfWord(Capability *cap, char type, uint64_t word);
static inline HaskellObj valueOf(Capability *cap, char type, uint64_t word)
{
    if (CAPSTAN_LIKELY(type == 'L' || type == 'W')) return rts_mkInt(cap, type == 'W' ? (int32_t)word : (int64_t)word);
    return valueOfWord(cap, type, word);
}

/* The evaluated value as a word of that type.  false: it is of another kind.  mayMove: whether the address of a byte array that may move will do for p. */
bool wordOfValue(char type, HaskellObj v, bool mayMove, uint64_t *word);

/* What a value of that type is, for people; what the value is. */
const char *nameOfType(char type);
const char *nameOfValue(HaskellObj v);

/* The result, in or out of the frame. */
static inline uint64_t resultOfFrame(char type, const ArchFrame *frame)
{
    return type == 'd' || type == 'f' ? frame->floatResult : frame->integerResult;
}
static inline void setFrameResult(ArchFrame *frame, char type, uint64_t word)
{
    if (type == 'd' || type == 'f') frame->floatResult = word;
    else frame->integerResult = word;
}

#endif

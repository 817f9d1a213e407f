#include "signature.h"

#include "base/lock.h"
#include "base/report.h"
#include "gc/heap.h"
#include "os/memory.h"

#include <stdatomic.h>
#include <string.h>

static const char letters[] = "fdLlWwSsBbp";

/* ---- Reading the string ---- */

/* What it is made of; or what is wrong with it. */
typedef struct {
    size_t count, fixed;   /* arguments, and those before the dot */
    const char *error;     /* what was expected */
    size_t at;             /* where */
} TypeText;

static TypeText wrongAt(size_t at, const char *expected) { return (TypeText){ .error = expected, .at = at }; }

static TypeText readType(const char *text)
{
    if (text[0] == 0) return wrongAt(0, "the result's letter, v or one of fdLlWwSsBbp");
    if (text[0] != 'v' && strchr(letters, text[0]) == NULL) return wrongAt(0, "the result's letter, v or one of fdLlWwSsBbp");
    TypeText t = { 0 };
    bool dot = false;
    for (size_t i = 1; text[i] != 0; i++) {
        if (text[i] == '.' && dot) return wrongAt(i, "one '.' at most");
        if (text[i] == '.' && t.count == 0) return wrongAt(i, "an argument before the '.'");
        if (text[i] == '.') {
            dot = true;
            t.fixed = t.count;
            continue;
        }
        if (strchr(letters, text[i]) == NULL) return wrongAt(i, text[i] == 'v' ? "no v: nothing can be a result only" : "one of fdLlWwSsBbp");
        if (++t.count > RTS_MAX_FOREIGN_ARGS) return wrongAt(i, "no more than 1000 arguments");
    }
    if (!dot) t.fixed = t.count;
    return t;
}

/* C's default promotions. */
static char promoted(char type)
{
    return type == 'f' ? 'd' : type == 'S' || type == 'B' || type == 's' || type == 'b' ? 'W' : type;
}

/* ---- Making one ---- */

/* A stub's type: hptr, then the arguments, with what GHC puts between them.  Room for two more than the arguments, and the result. */
static void stubType(const Signature *s, char *text)
{
    size_t integers = 0;
    *text++ = s->result;
    *text++ = 'p';
    for (size_t i = 0; i < s->count; i++) {
        *text++ = s->types[i];
        bool isFloat = s->types[i] == 'f' || s->types[i] == 'd';
        if (s->use == SIGNATURE_GHC && !isFloat && ++integers == ARCH_STUB_DUMMY_AFTER) *text++ = 'p';
    }
    *text = 0;
}

/* One block holds it all. */
static Signature *allocateSignature(const char *text, const TypeText *t, bool stub)
{
    size_t length = strlen(text), words = t->count * sizeof(uint32_t), room = stub ? t->count + 4 : 0;
    Signature *s = rtsMalloc(sizeof *s + (stub ? 2 : 1) * words + length + 1 + t->count + 1 + room);
    if (s == NULL) return NULL;
    uint32_t *to = s->words + t->count;
    char *p = (char *)(to + (stub ? t->count : 0)), *types = p + length + 1;
    *s = (Signature){ .result = text[0], .count = (uint32_t)t->count, .text = p, .types = types, .to = stub ? to : NULL };
    memcpy(p, text, length + 1);
    for (size_t i = 1, n = 0; i < length; i++)
        if (text[i] != '.') {
            types[n] = n < t->fixed ? text[i] : promoted(text[i]);
            n++;
        }
    types[t->count] = 0;
    archPlaceArgs(types, t->count, t->fixed, s->words, &s->layout);
    return s;
}

/* ---- The table ---- */

enum { BUCKETS = 256 };
/* Chains grow in front, under the lock, and are read without it: a new one's link is written before it is published by a release store. */
static _Atomic(Signature *) table[BUCKETS];
static Lock tableLock = LOCK_INIT(RANK_ADJUSTORS);

void forgetSignatures(void) { renewLock(&tableLock); }

static uint32_t hashText(const char *text, SignatureUse use)
{
    uint32_t h = 2166136261u ^ (uint32_t)use;
    for (; *text != 0; text++) h = (h ^ (uint8_t)*text) * 16777619u;
    return h;
}

static const Signature *lookUp(const char *text, SignatureUse use, uint32_t hash)
{
    /* Acquire: pairs with the release in publish. */
    Signature *s = atomic_load_explicit(&table[hash % BUCKETS], memory_order_acquire);
    while (s != NULL && (s->hash != hash || s->use != use || strcmp(s->text, text) != 0))
        s = atomic_load_explicit(&s->next, memory_order_relaxed);
    return s;
}

/* Or that of another thread, which was faster. */
static const Signature *publish(Signature *s)
{
    acquireLock(&tableLock);
    const Signature *known = lookUp(s->text, s->use, s->hash);
    if (known == NULL) {
        _Atomic(Signature *) *head = &table[s->hash % BUCKETS];
        atomic_store_explicit(&s->next, atomic_load_explicit(head, memory_order_relaxed), memory_order_relaxed);
        atomic_store_explicit(head, s, memory_order_release);
    }
    releaseLock(&tableLock);
    if (known != NULL) rtsFree(s);
    return known != NULL ? known : s;
}

static const Signature *internText(const char *text, const TypeText *t, SignatureUse use, uint32_t hash);

/* The stub's signature, and where the arguments go in its frame.  false: no memory. */
static bool completeStub(Signature *s)
{
    char *text = (char *)s->types + s->count + 1;
    stubType(s, text);
    TypeText t = { .count = strlen(text) - 1, .fixed = strlen(text) - 1 };
    s->stub = internText(text, &t, SIGNATURE_PLAIN, hashText(text, SIGNATURE_PLAIN));
    if (s->stub == NULL) return false;
    uint32_t *to = (uint32_t *)s->to;
    size_t integers = 0, at = 1;
    for (size_t i = 0; i < s->count; i++) {
        to[i] = s->stub->words[at++];
        bool isFloat = s->types[i] == 'f' || s->types[i] == 'd';
        if (s->use == SIGNATURE_GHC && !isFloat && ++integers == ARCH_STUB_DUMMY_AFTER) s->dummy = s->stub->words[at++];
    }
    return true;
}

static const Signature *internText(const char *text, const TypeText *t, SignatureUse use, uint32_t hash)
{
    const Signature *known = lookUp(text, use, hash);
    if (known != NULL) return known;
    Signature *s = allocateSignature(text, t, use != SIGNATURE_PLAIN);
    if (s == NULL) return NULL;
    s->use = use;
    s->hash = hash;
    if (use == SIGNATURE_PLAIN || completeStub(s)) return publish(s);
    rtsFree(s);
    return NULL;
}

__attribute__((noinline)) static const Signature *makeSignature(const char *text, SignatureUse use, uint32_t hash, const char *what)
{
    TypeText t = readType(text);
    if (t.error != NULL) {
        reportError(RTS_BAD_ARGUMENT, "%s: the type \"%.60s%s\" is wrong at place %zu: expected %s", what, text, strlen(text) > 60 ? "..." : "",
                    t.at + 1, t.error);
        return NULL;
    }
    const Signature *s = internText(text, &t, use, hash);
    if (s == NULL) reportError(RTS_NO_MEMORY, "%s: %s", what, rts_statusText(RTS_NO_MEMORY));
    return s;
}

const Signature *findSignature(const char *text, SignatureUse use, const char *what)
{
    if (text == NULL) {
        reportError(RTS_BAD_ARGUMENT, "%s: the type is NULL", what);
        return NULL;
    }
    uint32_t hash = hashText(text, use);
    const Signature *s = lookUp(text, use, hash);
    return CAPSTAN_LIKELY(s != NULL) ? s : makeSignature(text, use, hash, what);
}

/* ---- Values ---- */

static float floatOfBits(uint64_t bits)
{
    uint32_t low = (uint32_t)bits;
    float f;
    memcpy(&f, &low, sizeof f);
    return f;
}
static double doubleOfBits(uint64_t bits)
{
    double d;
    memcpy(&d, &bits, sizeof d);
    return d;
}

HaskellObj valueOfWord(Capability *cap, char type, uint64_t word)
{
    switch (type) {
    case 'v': return CAPSTAN_UNIT;
    case 'f': return rts_mkFloat(cap, floatOfBits(word));
    case 'd': return rts_mkDouble(cap, doubleOfBits(word));
    case 'L': return rts_mkInt64(cap, (HsInt64)word);
    case 'l': return rts_mkWord64(cap, word);
    case 'W': return rts_mkInt32(cap, (HsInt32)word);
    case 'w': return rts_mkWord32(cap, (HsWord32)word);
    case 'S': return rts_mkInt16(cap, (HsInt16)word);
    case 's': return rts_mkWord16(cap, (HsWord16)word);
    case 'B': return rts_mkInt8(cap, (HsInt8)word);
    case 'b': return rts_mkWord8(cap, (HsWord8)word);
    default: return rts_mkPtr(cap, (HsPtr)word);
    }
}

static uint64_t truncated(char type, uint64_t v)
{
    switch (type) {
    case 'W': return (uint64_t)(int64_t)(int32_t)v;
    case 'w': return (uint32_t)v;
    case 'S': return (uint64_t)(int64_t)(int16_t)v;
    case 's': return (uint16_t)v;
    case 'B': return (uint64_t)(int64_t)(int8_t)v;
    case 'b': return (uint8_t)v;
    default: return v;
    }
}

static bool bitsOf(HaskellObj v, ClosureKind kind, uint64_t *bits)
{
    if (rts_isImmediate(v) || rts_info(v)->kind != kind) return false;
    *bits = ((StgBoxed *)v)->bits;
    return true;
}

static bool integerOf(char type, HaskellObj v, uint64_t *word)
{
    if (rts_isSmallInt(v)) *word = (uint64_t)rts_smallIntValue(v);
    else if (rts_isImmediateOf(v, IMM_CHAR) || rts_isImmediateOf(v, IMM_BOOL)) *word = rts_immediateBits(v);
    else if (!bitsOf(v, CLOSURE_INT64, word) && !bitsOf(v, CLOSURE_WORD64, word)) return false;
    *word = archExtend(type, truncated(type, *word));
    return true;
}

/* A float becomes a double without loss, and must where C promotes it; not the other way round. */
static bool doubleOf(HaskellObj v, uint64_t *word)
{
    if (bitsOf(v, CLOSURE_DOUBLE, word)) return true;
    if (!bitsOf(v, CLOSURE_FLOAT, word)) return false;
    double d = (double)floatOfBits(*word);
    memcpy(word, &d, sizeof d);
    return true;
}

/* Does the byte array stay where it is?  Static ones do, too. */
static bool staysInPlace(HaskellObj bytes)
{
    return !isInHeap(bytes) || (blockFlags(blockOf(bytes)) & (BLOCK_PINNED | BLOCK_LARGE)) != 0;
}

static bool addressOf(HaskellObj v, bool mayMove, uint64_t *word)
{
    if (bitsOf(v, CLOSURE_PTR, word)) return true;
    if (rts_isImmediate(v)) return false;
    StgWord8 kind = rts_info(v)->kind;
    if (kind != CLOSURE_EXTERNAL && (kind != CLOSURE_BYTES || !(mayMove || staysInPlace(v)))) return false;
    *word = (uint64_t)(uintptr_t)rts_bytes(v, NULL);
    return true;
}

bool wordOfValue(char type, HaskellObj v, bool mayMove, uint64_t *word)
{
    switch (type) {
    case 'v':
        *word = 0;
        return true;
    case 'd':
        return doubleOf(v, word);
    case 'f':
        if (!bitsOf(v, CLOSURE_FLOAT, word)) return false;
        *word = archFloatWord((uint32_t)*word);
        return true;
    case 'p':
        return addressOf(v, mayMove, word);
    default:
        return integerOf(type, v, word);
    }
}

const char *nameOfType(char type)
{
    switch (type) {
    case 'f': return "a float";
    case 'd': return "a double";
    case 'p': return "a pointer";
    default: return "an integer";
    }
}

const char *nameOfValue(HaskellObj v)
{
    if (rts_isSmallInt(v)) return "an integer";
    if (rts_isImmediateOf(v, IMM_CHAR)) return "a character";
    if (rts_isImmediateOf(v, IMM_BOOL)) return "a boolean";
    if (v == CAPSTAN_UNIT) return "unit";
    if (rts_isImmediate(v)) return "a mark of the runtime's";
    return rts_info(v)->name != NULL ? rts_info(v)->name : "a closure";
}

/* Managed functions that call C functions of a type that is known at run time.
 *
 * An import is a function closure: one word for what was applied to it so far, three raw words that say what to call.  Managed functions take at most
 * CAPSTAN_MAX_ARITY arguments; an import of more gives, applied to so many, an import of the rest, which keeps them in an array. */
#include "adjustor.h"
#include "apply.h"
#include "base/report.h"
#include "capability.h"
#include "exception.h"
#include "os/os.h"
#include "rts/Threads.h"
#include "signature.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The payload. */
typedef struct {
    const StgInfoTable *info;
    HaskellObj before;           /* the arguments that were collected already: an array, or unit */
    const Signature *signature;
    StgFunPtr fn;                /* NULL: the first argument is the function */
    StgWord how;                 /* RtsCallSafety */
} Import;

/* All arguments of the managed function, world included. */
static size_t arityOf(const Signature *s, StgFunPtr fn, StgWord how) { return s->count + (fn == NULL) + !(how & RtsPure); }

/* ---- The call ---- */

typedef struct {
    StgFunPtr fn;
    ArchFrame *frame;
} Out;

static void *callOut(void *arg)
{
    Out *out = arg;
    archCall(out->fn, out->frame);
    return NULL;
}

static void callWith(Stack *stack, StgWord how, Out *out)
{
    switch (how & (StgWord)~RtsPure) {
    case RtsSafe: rts_safeCall(stack, callOut, out); break;
    case RtsInterruptible: rts_interruptibleCall(stack, callOut, out); break;
    default: archCall(out->fn, out->frame);
    }
}

static HaskellObj orOverflow(Stack *stack, HaskellObj made)
{
    if (CAPSTAN_UNLIKELY(made == CAPSTAN_POISON)) rts_raise(stack, &capstan_HeapOverflow_closure);
    return made;
}

/* The arguments have been evaluated; args is rooted: an address of a byte array among them stays right as long as the object does. */
static HaskellObj callEvaluated(Stack *stack, const Signature *s, StgFunPtr fn, StgWord how, const HaskellObj *args)
{
    size_t words = ARCH_FRAME_WORDS + s->layout.stackWords;
    uint64_t room[words];
    ArchFrame *frame = (ArchFrame *)(void *)room;
    for (size_t i = 0; i < s->count; i++)
        if (CAPSTAN_UNLIKELY(!wordOfValue(s->types[i], args[i], (how & ~(StgWord)RtsPure) == RtsUnsafe, &room[s->words[i]])))
            rts_raiseError(stack, "argument %zu of a foreign import of type \"%.60s\": expected %s, found %s", i + 1, s->text,
                           nameOfType(s->types[i]), nameOfValue(args[i]));
    frame->floatsUsed = s->layout.floats;
    frame->stackWords = s->layout.stackWords;
    Out out = { fn, frame };
    callWith(stack, how, &out);
    return orOverflow(stack, valueOf(stack->cap, s->result, resultOfFrame(s->result, frame)));
}

static StgFunPtr functionOf(Stack *stack, HaskellObj v)
{
    if (rts_isImmediate(v) || rts_info(v)->kind != CLOSURE_PTR)
        rts_raiseError(stack, "a dynamic foreign import: expected a function pointer, found %s", nameOfValue(v));
    StgFunPtr fn = rts_getFunPtr(v);
    if (fn == NULL) rts_raiseError(stack, "a dynamic foreign import: the function pointer is NULL");
    return fn;
}

/* ---- The managed function ---- */

static inline bool isEvaluated(HaskellObj v) { return rts_isSmallInt(v) || (!rts_isThunk(v) && v != CAPSTAN_POISON); }

/* With n arguments in args, world not among them: evaluate them where they have to be. */
static HaskellObj callImport(Stack *stack, const Signature *s, StgFunPtr fn, StgWord how, size_t n, HaskellObj *args)
{
    HaskellObj *slots[n + 1];
    for (size_t i = 0; i < n; i++) slots[i] = &args[i];
    CapstanRoots link;
    checkStack(stack);
    capstanPushRoots(stack, &link, n, slots);
    for (size_t i = 0; i < n; i++)
        if (CAPSTAN_UNLIKELY(!isEvaluated(args[i]))) args[i] = rts_evaluate(stack, args[i]);
    if (fn == NULL) {
        fn = functionOf(stack, args[0]);
        args++;
    }
    HaskellObj result = callEvaluated(stack, s, fn, how, args);
    capstanPopRoots(stack, &link);
    return result;
}

static const StgInfoTable importInfos[CAPSTAN_MAX_ARITY + 1];

static HaskellObj makeImport(Capability *cap, HaskellObj before, const Signature *s, StgFunPtr fn, StgWord how, size_t collected)
{
    size_t left = arityOf(s, fn, how) - collected;
    HaskellObj payload[4] = { before, (HaskellObj)(void *)s, (HaskellObj)(void *)fn, (HaskellObj)how };
    return rts_mkClosure(cap, &importInfos[left < CAPSTAN_MAX_ARITY ? left : CAPSTAN_MAX_ARITY], payload);
}

static HaskellObj collectMore(Stack *stack, const Import *import, size_t have, size_t n, const HaskellObj *args)
{
    HaskellObj all = orOverflow(stack, rts_mkArray(stack->cap, have + n, CAPSTAN_UNIT));
    for (size_t i = 0; i < have; i++) ((StgArray *)all)->elems[i] = rts_getElem(import->before, i);
    for (size_t i = 0; i < n; i++) ((StgArray *)all)->elems[have + i] = args[i];
    return orOverflow(stack, makeImport(stack->cap, all, import->signature, import->fn, import->how, have + n));
}

/* Applied to n arguments.  Nothing moves before all of it has been copied. */
static HaskellObj applyImport(Stack *stack, HaskellObj self, size_t n, HaskellObj *args)
{
    const Import import = *(Import *)self;
    size_t have = import.before == CAPSTAN_UNIT ? 0 : rts_arrayLength(import.before);
    size_t arity = arityOf(import.signature, import.fn, import.how), given = arity - !(import.how & RtsPure);
    if (CAPSTAN_UNLIKELY(have + n < arity)) return collectMore(stack, &import, have, n, args);
    if (CAPSTAN_LIKELY(have == 0)) return callImport(stack, import.signature, import.fn, import.how, given, args);
    HaskellObj all[arity];
    for (size_t i = 0; i < have; i++) all[i] = rts_getElem(import.before, i);
    memcpy(all + have, args, n * sizeof *args);
    return callImport(stack, import.signature, import.fn, import.how, given, all);
}

/* One entry for each number of arguments. */
#define P1 HaskellObj a1
#define P2 P1, HaskellObj a2
#define P3 P2, HaskellObj a3
#define P4 P3, HaskellObj a4
#define P5 P4, HaskellObj a5
#define P6 P5, HaskellObj a6
#define P7 P6, HaskellObj a7
#define P8 P7, HaskellObj a8
#define P9 P8, HaskellObj a9
#define P10 P9, HaskellObj a10
#define P11 P10, HaskellObj a11
#define P12 P11, HaskellObj a12
#define P13 P12, HaskellObj a13
#define P14 P13, HaskellObj a14
#define P15 P14, HaskellObj a15
#define P16 P15, HaskellObj a16
#define P17 P16, HaskellObj a17
#define P18 P17, HaskellObj a18
#define P19 P18, HaskellObj a19
#define P20 P19, HaskellObj a20
#define P21 P20, HaskellObj a21
#define P22 P21, HaskellObj a22
#define P23 P22, HaskellObj a23
#define P24 P23, HaskellObj a24
#define L1 a1
#define L2 L1, a2
#define L3 L2, a3
#define L4 L3, a4
#define L5 L4, a5
#define L6 L5, a6
#define L7 L6, a7
#define L8 L7, a8
#define L9 L8, a9
#define L10 L9, a10
#define L11 L10, a11
#define L12 L11, a12
#define L13 L12, a13
#define L14 L13, a14
#define L15 L14, a15
#define L16 L15, a16
#define L17 L16, a17
#define L18 L17, a18
#define L19 L18, a19
#define L20 L19, a20
#define L21 L20, a21
#define L22 L21, a22
#define L23 L22, a23
#define L24 L23, a24
#define EACH_ARITY(M)                                                                                                            \
    M(1) M(2) M(3) M(4) M(5) M(6) M(7) M(8) M(9) M(10) M(11) M(12) M(13) M(14) M(15) M(16) M(17) M(18) M(19) M(20) M(21) M(22) \
    M(23) M(24)
#define ENTRY(n)                                                                        \
    static HaskellObj importEntry##n(Stack *stack, HaskellObj self, P##n)               \
    {                                                                                   \
        HaskellObj args[n] = { L##n };                                                  \
        return applyImport(stack, self, n, args);                                       \
    }
EACH_ARITY(ENTRY)

#define INFO(n) [n] = { CLOSURE_FUN, 0, n, 1, 3, 0, (StgFunPtr)importEntry##n, "foreign import", NULL },
static const StgInfoTable importInfos[CAPSTAN_MAX_ARITY + 1] = { EACH_ARITY(INFO) };

/* ---- Making them ---- */

static HaskellObj importAs(Capability *cap, StgFunPtr fn, const char *type, RtsCallSafety safety, const char *what)
{
    if (cap->dead != RTS_OK) return CAPSTAN_POISON;
    if (((unsigned)safety & ~(unsigned)RtsPure) > RtsInterruptible) {
        reportError(RTS_BAD_ARGUMENT, "%s: %u is not an RtsCallSafety", what, (unsigned)safety);
        return CAPSTAN_POISON;
    }
    const Signature *s = findSignature(type, SIGNATURE_PLAIN, what);
    if (s == NULL) return CAPSTAN_POISON;
    if (arityOf(s, fn, safety) == 0) {
        reportError(RTS_BAD_ARGUMENT, "%s: a pure function of no arguments is not a function", what);
        return CAPSTAN_POISON;
    }
    return makeImport(cap, CAPSTAN_UNIT, s, fn, safety, 0);
}

HaskellObj rts_foreignImport(Capability *cap, StgFunPtr fn, const char *type, RtsCallSafety safety)
{
    if (fn != NULL) return importAs(cap, fn, type, safety, "rts_foreignImport");
    if (cap->dead == RTS_OK) reportError(RTS_BAD_ARGUMENT, "rts_foreignImport: the function pointer is NULL");
    return CAPSTAN_POISON;
}

HaskellObj rts_foreignImportDynamic(Capability *cap, const char *type, RtsCallSafety safety)
{
    return importAs(cap, NULL, type, safety, "rts_foreignImportDynamic");
}

static void *findSymbol(void *library, const char *symbol, const char *what)
{
    const char *why = NULL;
    void *address = symbol == NULL ? NULL : osFindSymbol(library, symbol, &why);
    if (address == NULL) reportError(RTS_BAD_ARGUMENT, "%s: no symbol \"%s\": %s", what, symbol == NULL ? "" : symbol, why == NULL ? "its address is NULL" : why);
    return address;
}

HaskellObj rts_foreignImportSymbol(Capability *cap, const char *symbol, const char *type, RtsCallSafety safety)
{
    if (cap->dead != RTS_OK) return CAPSTAN_POISON;
    void *fn = findSymbol(NULL, symbol, "rts_foreignImportSymbol");
    return fn == NULL ? CAPSTAN_POISON : importAs(cap, (StgFunPtr)fn, type, safety, "rts_foreignImportSymbol");
}

void *rts_foreignSymbol(void *library, const char *symbol) { return findSymbol(library, symbol, "rts_foreignSymbol"); }

/* ---- From managed code ---- */

CAPSTAN_IO(capstan_foreignSymbol, name)
{
    name = rts_force(stack, name);
    char *text = stringOf(stack, name);
    void *address = rts_foreignSymbol(NULL, text);
    bool found = address != NULL;
    char copy[64];
    strncpy(copy, text, sizeof copy - 1);
    copy[sizeof copy - 1] = 0;
    free(text);
    if (!found) rts_raiseError(stack, "no C symbol \"%s\"", copy);
    return orOverflow(stack, rts_mkFunPtr(stack->cap, (HsFunPtr)address));
}

CAPSTAN_IO(capstan_foreignImport, pointer, type, safety)
{
    CAPSTAN_ROOTS(stack, pointer, type, safety);
    pointer = rts_force(stack, pointer);
    type = rts_force(stack, type);
    safety = rts_force(stack, safety);
    CAPSTAN_UNROOT(stack);
    StgFunPtr fn = functionOf(stack, pointer);
    if (!rts_isSmallInt(safety)) rts_raiseError(stack, "capstan_foreignImport: expected the number of a safety, found %s", nameOfValue(safety));
    char *text = stringOf(stack, type);
    HsInt how = rts_getInt(safety);
    HaskellObj import = how < 0 || how > 7 ? CAPSTAN_POISON : rts_foreignImport(stack->cap, fn, text, (RtsCallSafety)how);
    free(text);
    if (import == CAPSTAN_POISON) rts_raiseError(stack, "capstan_foreignImport: not a type, or not a safety");
    return import;
}

/* Making and reading values from C, as RtsAPI.h has it. */
#include "base/report.h"
#include "capability.h"
#include "exception.h"
#include "statics.h"

#include <stdlib.h>
#include <string.h>

/* The same kinds, once the collector has made the object old. */
#define OLD_INFO(K, text) { CLOSURE_##K, INFO_OLD, 0, 0, 0, 0, NULL, text, NULL }
const StgInfoTable oldMutVar_info = OLD_INFO(MUTVAR, "MutVar"), oldArray_info = OLD_INFO(ARRAY, "array"), oldMVar_info = OLD_INFO(MVAR, "MVar");

#define KIND_INFO(K, text) const StgInfoTable capstan_##K##_info = { CLOSURE_##K, 0, 0, 0, 0, 0, NULL, text, NULL }
KIND_INFO(PAP, "partial application");
KIND_INFO(AP, "application");
KIND_INFO(IND, "indirection");
KIND_INFO(MUTVAR, "mutable variable");
KIND_INFO(ARRAY, "array");
KIND_INFO(BYTES, "byte array");
KIND_INFO(EXTERNAL, "external byte array");
KIND_INFO(INT64, "integer");
KIND_INFO(WORD64, "word");
KIND_INFO(DOUBLE, "double");
KIND_INFO(FLOAT, "float");
KIND_INFO(PTR, "pointer");
KIND_INFO(MVAR, "MVar");
KIND_INFO(TSO, "ThreadId");

/* ---- Allocation ---- */

/* Debug builds: is cap the caller's?  A dead one is everybody's. */
static inline bool mayUse(Capability *cap)
{
#ifdef CAPSTAN_DEBUG
    Task *task = getMyTask();
    if (cap->dead != RTS_OK || (task != NULL && task->cap == cap)) return true;
    reportError(RTS_NOT_HOLDER, "a value is being made on capability %u by a thread that does not hold it", cap->no);
    return false;
#else
    return true;
#endif
}

static inline StgWord *newObject(Capability *cap, size_t words)
{
    return mayUse(cap) ? allocate(&cap->nursery, words) : NULL;
}

StgWord *rts_allocateSlow(Capability *cap, size_t words)
{
    return mayUse(cap) ? allocateSlow(&cap->nursery, words) : NULL;
}

static inline HaskellObj fillApplication(StgAP *ap, HaskellObj f, HaskellObj arg)
{
    ap->info = &capstan_AP_info;
    ap->state = 0;
    ap->fun = f;
    ap->arg = arg;
    return (HaskellObj)ap;
}

__attribute__((noinline)) static HaskellObj applySlow(Capability *cap, HaskellObj f, HaskellObj arg)
{
    StgAP *ap = (StgAP *)newObject(cap, 4);
    return ap == NULL ? CAPSTAN_POISON : fillApplication(ap, f, arg);
}

/* Stubs call this once an argument: written so that the usual case needs no frame. */
HaskellObj rts_apply(Capability *cap, HaskellObj f, HaskellObj arg)
{
    CapstanRegs *regs = regsOf(cap);
    StgAP *ap = (StgAP *)regs->hp;
    if (!mayUse(cap)) return CAPSTAN_POISON;
    if (CAPSTAN_UNLIKELY(regs->hpLim - regs->hp < 4)) return applySlow(cap, f, arg);
    regs->hp += 4;
    return fillApplication(ap, f, arg);
}

static HaskellObj makeBoxed(Capability *cap, const StgInfoTable *info, StgWord bits)
{
    StgBoxed *box = (StgBoxed *)newObject(cap, 2);
    if (CAPSTAN_UNLIKELY(box == NULL)) return CAPSTAN_POISON;
    box->info = info;
    box->bits = bits;
    return (HaskellObj)box;
}

HaskellObj rts_mkInt(Capability *cap, HsInt i)
{
    if (CAPSTAN_LIKELY(i >= CAPSTAN_SMALL_INT_MIN && i <= CAPSTAN_SMALL_INT_MAX))
        return CAPSTAN_SMALL_INT(i);
    return makeBoxed(cap, &capstan_INT64_info, (StgWord)i);
}

HaskellObj rts_mkWord(Capability *cap, HsWord w)
{
    if (CAPSTAN_LIKELY(w <= (HsWord)CAPSTAN_SMALL_INT_MAX)) return CAPSTAN_SMALL_INT(w);
    return makeBoxed(cap, &capstan_WORD64_info, w);
}

static inline HaskellObj smallInt(Capability *cap, StgInt i)
{
    return CAPSTAN_UNLIKELY(cap->dead != RTS_OK) ? CAPSTAN_POISON : CAPSTAN_SMALL_INT(i);
}

HaskellObj rts_mkInt8(Capability *cap, HsInt8 i) { return smallInt(cap, i); }
HaskellObj rts_mkInt16(Capability *cap, HsInt16 i) { return smallInt(cap, i); }
HaskellObj rts_mkInt32(Capability *cap, HsInt32 i) { return smallInt(cap, i); }
HaskellObj rts_mkInt64(Capability *cap, HsInt64 i) { return rts_mkInt(cap, i); }
HaskellObj rts_mkWord8(Capability *cap, HsWord8 w) { return smallInt(cap, w); }
HaskellObj rts_mkWord16(Capability *cap, HsWord16 w) { return smallInt(cap, w); }
HaskellObj rts_mkWord32(Capability *cap, HsWord32 w) { return smallInt(cap, w); }
HaskellObj rts_mkWord64(Capability *cap, HsWord64 w) { return rts_mkWord(cap, w); }
HaskellObj rts_mkChar(Capability *cap, HsChar c) { return CAPSTAN_IMMEDIATE(IMM_CHAR, c); }
HaskellObj rts_mkBool(Capability *cap, HsBool b) { return b ? CAPSTAN_TRUE : CAPSTAN_FALSE; }
HaskellObj rts_mkPtr(Capability *cap, HsPtr a) { return makeBoxed(cap, &capstan_PTR_info, (StgWord)a); }
HaskellObj rts_mkFunPtr(Capability *cap, HsFunPtr a) { return makeBoxed(cap, &capstan_PTR_info, (StgWord)a); }
HaskellObj rts_mkStablePtr(Capability *cap, HsStablePtr s) { return makeBoxed(cap, &capstan_PTR_info, (StgWord)s); }

HaskellObj rts_mkFloat(Capability *cap, HsFloat f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return makeBoxed(cap, &capstan_FLOAT_info, bits);
}

HaskellObj rts_mkDouble(Capability *cap, HsDouble d)
{
    StgWord bits;
    memcpy(&bits, &d, sizeof bits);
    return makeBoxed(cap, &capstan_DOUBLE_info, bits);
}

/* ---- Bytes ---- */

/* Words of a byte array, or 0 if no memory could ever hold it. */
static size_t byteArrayWords(size_t length)
{
    return length > SIZE_MAX / 2 ? 0 : 2 + (length + sizeof(StgWord) - 1) / sizeof(StgWord);
}

static HaskellObj fillBytes(StgWord *p, const void *bytes, size_t length)
{
    StgBytes *b = (StgBytes *)p;
    if (b == NULL) return CAPSTAN_POISON;
    b->info = &capstan_BYTES_info;
    b->length = length;
    if (length % sizeof(StgWord) != 0) p[byteArrayWords(length) - 1] = 0; /* what is left of the last word is nobody else's */
    if (bytes != NULL) memcpy(b->bytes, bytes, length);
    else memset(b->bytes, 0, length);
    return (HaskellObj)b;
}

static HaskellObj newBytes(Capability *cap, const void *bytes, size_t length,
                           StgWord *(*allocator)(Nursery *nursery, size_t words))
{
    size_t words = byteArrayWords(length);
    if (!mayUse(cap)) return CAPSTAN_POISON;
    if (words == 0) words = heapSize; /* more than there is: refused in the usual way */
    return fillBytes(allocator(&cap->nursery, words), bytes, length);
}

HaskellObj rts_mkBytes(Capability *cap, const void *bytes, size_t length)
{
    return newBytes(cap, bytes, length, allocate);
}

HaskellObj rts_mkBytesPinned(Capability *cap, const void *bytes, size_t length)
{
    return newBytes(cap, bytes, length, allocatePinned);
}

HaskellObj rts_mkString(Capability *cap, const char *s) { return rts_mkBytes(cap, s, strlen(s)); }

HaskellObj rts_mkBytesExternal(Capability *cap, void *bytes, size_t length, void (*release)(void *ctx, void *bytes),
                               void *ctx)
{
    StgExternal *e = (StgExternal *)newObject(cap, 4);
    if (e != NULL) {
        e->info = &capstan_EXTERNAL_info;
        e->length = length;
        e->address = bytes;
        if (addExternal(e, release, ctx)) return (HaskellObj)e;
        /* The object is garbage already; it only has to look like something. */
        e->info = &capstan_PTR_info;
        refuseAllocation(&cap->nursery, sizeof(ExternalBytes));
    }
    if (release != NULL) release(ctx, bytes);
    return CAPSTAN_POISON;
}

static HaskellObj wrongKind(HaskellObj p, const char *wanted)
{
    if (p == CAPSTAN_POISON) return CAPSTAN_POISON;
    reportError(RTS_WRONG_KIND, "expected %s, found %s", wanted,
                p == NULL ? "NULL" : rts_isSmallInt(p) ? "a small integer" : rts_isImmediate(p) ? "an immediate"
                : rts_info(p)->name ? rts_info(p)->name : "a closure");
    return CAPSTAN_POISON;
}

/* What p stands for once indirections and finished thunks are followed; NULL for immediates. */
static HaskellObj follow(HaskellObj p)
{
    while (p != NULL && !rts_isImmediate(p)) {
        StgWord8 kind = rts_info(p)->kind;
        if (kind == CLOSURE_IND) {
            p = ((StgInd *)p)->value;
        } else if (kind == CLOSURE_AP || kind == CLOSURE_THUNK) {
            StgWord state = __atomic_load_n(&((StgThunk *)p)->state, __ATOMIC_ACQUIRE);
            if (state == 0 || isBlackHoleMark(state)) return p;
            p = (HaskellObj)state;
        } else {
            return p;
        }
    }
    return p;
}

/* The closure of this kind that p is, or NULL after complaining. */
static HaskellObj expect(HaskellObj p, ClosureKind kind, const char *wanted)
{
    p = follow(p);
    if (p != NULL && !rts_isImmediate(p) && rts_info(p)->kind == kind) return p;
    wrongKind(p, wanted);
    return NULL;
}

void *rts_bytes(HaskellObj p, size_t *length)
{
    p = follow(p);
    if (p != NULL && !rts_isImmediate(p)) {
        StgWord8 kind = rts_info(p)->kind;
        if (kind == CLOSURE_BYTES || kind == CLOSURE_EXTERNAL) {
            if (length) *length = ((StgBytes *)p)->length;
            return kind == CLOSURE_BYTES ? ((StgBytes *)p)->bytes : ((StgExternal *)p)->address;
        }
    }
    wrongKind(p, "a byte array");
    if (length) *length = 0;
    return NULL;
}

size_t rts_copyBytes(HaskellObj p, size_t offset, void *to, size_t size)
{
    size_t length;
    const char *bytes = rts_bytes(p, &length);
    if (bytes == NULL || offset >= length) return 0;
    size_t n = length - offset < size ? length - offset : size;
    memcpy(to, bytes + offset, n);
    return n;
}

char *rts_getString(HaskellObj p)
{
    size_t length;
    const char *bytes = rts_bytes(p, &length);
    char *s = bytes == NULL ? NULL : malloc(length + 1);
    if (s == NULL) return NULL;
    memcpy(s, bytes, length);
    s[length] = 0;
    return s;
}

/* ---- Arrays, variables, records ---- */

HaskellObj rts_mkArray(Capability *cap, size_t length, HaskellObj initial)
{
    StgArray *a = (StgArray *)newObject(cap, length > SIZE_MAX / 16 ? heapSize : length + 2);
    if (a == NULL) return CAPSTAN_POISON;
    a->info = &capstan_ARRAY_info;
    a->length = length;
    for (size_t i = 0; i < length; i++) a->elems[i] = initial;
    return (HaskellObj)a;
}

size_t rts_arrayLength(HaskellObj array)
{
    array = expect(array, CLOSURE_ARRAY, "an array");
    return array == NULL ? 0 : ((StgArray *)array)->length;
}

static HaskellObj *elementAt(HaskellObj array, size_t i)
{
    array = expect(array, CLOSURE_ARRAY, "an array");
    if (array == NULL) return NULL;
    if (i < ((StgArray *)array)->length) return &((StgArray *)array)->elems[i];
    reportError(RTS_BAD_ARGUMENT, "element %zu of an array of %zu", i, (size_t)((StgArray *)array)->length);
    return NULL;
}

HaskellObj rts_getElem(HaskellObj array, size_t i)
{
    HaskellObj *p = elementAt(array, i);
    return p == NULL ? CAPSTAN_POISON : __atomic_load_n(p, CAPSTAN_LOAD_ORDER);
}

/* The element of an array of cap's holder that may be written; NULL after complaining. */
static HaskellObj *elementToWrite(Capability *cap, HaskellObj *array, size_t i)
{
    if (cap->dead != RTS_OK || !mayUse(cap)) return NULL;
    *array = follow(*array);
    return elementAt(*array, i);
}

void (rts_setElem)(Capability *cap, HaskellObj array, size_t i, HaskellObj v)
{
    HaskellObj *p = elementToWrite(cap, &array, i);
    if (p != NULL) rts_storeSlot(cap, array, p, v);
}

void rts_rememberStore(Capability *cap, HaskellObj *slot, HaskellObj v)
{
    if (CAPSTAN_UNLIKELY(!isInHeap(slot))) noteStatic((StgStaticThunk *)(void *)((char *)slot - offsetof(StgStaticMutVar, value)));
    rememberStore(&cap->nursery, slot, v);
}

HaskellObj rts_mkMutVar(Capability *cap, HaskellObj initial)
{
    return makeBoxed(cap, &capstan_MUTVAR_info, (StgWord)initial);
}

HaskellObj rts_readMutVar(HaskellObj var)
{
    var = expect(var, CLOSURE_MUTVAR, "a mutable variable");
    return var == NULL ? CAPSTAN_POISON : __atomic_load_n(&((StgMutVar *)var)->value, __ATOMIC_ACQUIRE);
}

void (rts_writeMutVar)(Capability *cap, HaskellObj var, HaskellObj v)
{
    if (cap->dead != RTS_OK || !mayUse(cap)) return;
    var = expect(var, CLOSURE_MUTVAR, "a mutable variable");
    if (var != NULL) rts_storeSlot(cap, var, &((StgMutVar *)var)->value, v);
}

bool rts_casMutVar(Capability *cap, HaskellObj var, HaskellObj expected, HaskellObj desired)
{
    if (cap->dead != RTS_OK || !mayUse(cap)) return false;
    var = expect(var, CLOSURE_MUTVAR, "a mutable variable");
    if (var == NULL) return false;
    if (CAPSTAN_UNLIKELY(rts_info(var)->flags & INFO_OLD)) rts_rememberStore(cap, &((StgMutVar *)var)->value, desired);
    return __atomic_compare_exchange_n(&((StgMutVar *)var)->value, &expected, desired, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

HaskellObj rts_mkCon(Capability *cap, const StgInfoTable *info, const HaskellObj *fields)
{
    if (info == NULL || info->kind != CLOSURE_CON) {
        reportError(RTS_BAD_ARGUMENT, "rts_mkCon: the info table is not a constructor's");
        return CAPSTAN_POISON;
    }
    size_t n = (size_t)info->ptrs + info->nptrs;
    StgClosure *con = (StgClosure *)newObject(cap, 1 + (n ? n : 1));
    if (con == NULL) return CAPSTAN_POISON;
    con->info = info;
    if (n) memcpy(con->payload, fields, n * sizeof *fields);
    return con;
}

HaskellObj rts_mkClosure(Capability *cap, const StgInfoTable *info, const HaskellObj *free)
{
    bool thunk = info != NULL && info->kind == CLOSURE_THUNK;
    if (info == NULL || (info->kind != CLOSURE_FUN && !thunk) || info->entry == NULL) {
        reportError(RTS_BAD_ARGUMENT, "rts_mkClosure: the info table is neither a function's nor a thunk's");
        return CAPSTAN_POISON;
    }
    size_t n = (size_t)info->ptrs + info->nptrs;
    StgWord *p = newObject(cap, thunk ? 2 + n : 1 + (n ? n : 1));
    if (p == NULL) return CAPSTAN_POISON;
    p[0] = (StgWord)info;
    if (thunk) p[1] = 0;
    if (n) memcpy(p + (thunk ? 2 : 1), free, n * sizeof *free);
    return (HaskellObj)(void *)p;
}

HaskellObj rts_getField(HaskellObj con, size_t i)
{
    con = expect(con, CLOSURE_CON, "a constructor");
    if (con == NULL) return CAPSTAN_POISON;
    if (i < rts_info(con)->ptrs) return __atomic_load_n(&con->payload[i], CAPSTAN_LOAD_ORDER);
    reportError(RTS_BAD_ARGUMENT, "field %zu of %s, which has %u", i, rts_info(con)->name, rts_info(con)->ptrs);
    return CAPSTAN_POISON;
}

int rts_conTag(HaskellObj con)
{
    con = expect(con, CLOSURE_CON, "a constructor");
    return con == NULL ? -1 : (int)rts_info(con)->tag;
}

HaskellObj rts_checkedField(HaskellObj con, const StgInfoTable *info, size_t i)
{
    if (con == NULL || rts_isImmediate(con) || rts_info(con) != info) return wrongKind(con, info->name);
    return __atomic_load_n(&con->payload[i], CAPSTAN_LOAD_ORDER);
}

/* ---- Reading ---- */

static HsInt readInt(HaskellObj p)
{
    p = follow(p);
    if (rts_isSmallInt(p)) return rts_smallIntValue(p);
    if (p != NULL && !rts_isImmediate(p) && (rts_info(p)->kind == CLOSURE_INT64 || rts_info(p)->kind == CLOSURE_WORD64))
        return (HsInt)((StgBoxed *)p)->bits;
    wrongKind(p, "an integer");
    return 0;
}

HsInt rts_getInt(HaskellObj p) { return CAPSTAN_LIKELY(rts_isSmallInt(p)) ? rts_smallIntValue(p) : readInt(p); }
HsInt8 rts_getInt8(HaskellObj p) { return (HsInt8)rts_getInt(p); }
HsInt16 rts_getInt16(HaskellObj p) { return (HsInt16)rts_getInt(p); }
HsInt32 rts_getInt32(HaskellObj p) { return (HsInt32)rts_getInt(p); }
HsInt64 rts_getInt64(HaskellObj p) { return rts_getInt(p); }
HsWord rts_getWord(HaskellObj p) { return (HsWord)rts_getInt(p); }
HsWord8 rts_getWord8(HaskellObj p) { return (HsWord8)rts_getInt(p); }
HsWord16 rts_getWord16(HaskellObj p) { return (HsWord16)rts_getInt(p); }
HsWord32 rts_getWord32(HaskellObj p) { return (HsWord32)rts_getInt(p); }
HsWord64 rts_getWord64(HaskellObj p) { return (HsWord64)rts_getInt(p); }

static StgWord readImmediate(HaskellObj p, ImmediateKind kind, const char *wanted)
{
    p = follow(p);
    if (p != NULL && rts_isImmediateOf(p, kind)) return rts_immediateBits(p);
    wrongKind(p, wanted);
    return 0;
}

HsChar rts_getChar(HaskellObj p) { return (HsChar)readImmediate(p, IMM_CHAR, "a character"); }
HsBool rts_getBool(HaskellObj p) { return (HsBool)readImmediate(p, IMM_BOOL, "a boolean"); }

static StgWord readBits(HaskellObj p, ClosureKind kind, const char *wanted)
{
    p = expect(p, kind, wanted);
    return p == NULL ? 0 : ((StgBoxed *)p)->bits;
}

HsFloat rts_getFloat(HaskellObj p)
{
    uint32_t bits = (uint32_t)readBits(p, CLOSURE_FLOAT, "a float");
    HsFloat f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

HsDouble rts_getDouble(HaskellObj p)
{
    StgWord bits = readBits(p, CLOSURE_DOUBLE, "a double");
    HsDouble d;
    memcpy(&d, &bits, sizeof d);
    return d;
}

HsPtr rts_getPtr(HaskellObj p) { return (HsPtr)readBits(p, CLOSURE_PTR, "a pointer"); }
HsFunPtr rts_getFunPtr(HaskellObj p) { return (HsFunPtr)readBits(p, CLOSURE_PTR, "a function pointer"); }
HsStablePtr rts_getStablePtr(HaskellObj p) { return (HsStablePtr)readBits(p, CLOSURE_PTR, "a stable pointer"); }

/* rts/Managed.h: managed functions written in C.  doc/managed-c.md is the guide; this is the reference.
 *
 *     CAPSTAN_FUN(add, x, y) { return rts_mkInt(stack->cap, rts_getInt(x) + rts_getInt(y)); }     add_closure, pure
 *     CAPSTAN_IO(bump, var)  { ... return CAPSTAN_UNIT; }                                         bump_closure, an action
 *     CAPSTAN_CON(Node, 1, left, key, right)                                                      Node_new, Node_info, fields
 *     CAPSTAN_STATIC_CON(Leaf, 0)                                                                 Leaf_closure
 *     CAPSTAN_CAF(table)     { return rts_mkMutVar(stack->cap, CAPSTAN_UNIT); }                   table_closure, made once
 *
 * In a body, "stack" is the machine stack it runs on and "self" its own closure.  Arguments may be thunks: rts_force them.
 * Functions marked CAPSTAN_SAFEPOINT may move every object: what is needed afterwards is rooted, self and arguments too. */
#ifndef RTS_MANAGED_H
#define RTS_MANAGED_H

#include "RtsAPI.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What defines and roots by macros is C: in C++, capstan.hpp makes functions of lambdas, and roots of objects. */
#ifndef __cplusplus
/* ---- Counting and repeating, for the macros below ---------------------------------------------------------------- */
#define CAPSTAN_CAT_(a, b) a##b
#define CAPSTAN_CAT(a, b) CAPSTAN_CAT_(a, b)
#define CAPSTAN_NARGS_(_0, _1, _2, _3, _4, _5, _6, _7, _8, _9, _10, _11, _12, _13, _14, _15, _16, _17, _18, _19, _20, \
                       _21, _22, _23, _24, n, ...) n
#define CAPSTAN_NARGS(...)                                                                                            \
    CAPSTAN_NARGS_(0 __VA_OPT__(, ) __VA_ARGS__, 24, 23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6,  \
                   5, 4, 3, 2, 1, 0)
/* m(x, a) for each a, one after the other.  Written out: a recursive macro would put pages into each error message. */
#define CAPSTAN_EACH(m, x, ...) CAPSTAN_CAT(CAPSTAN_EACH_, CAPSTAN_NARGS(__VA_ARGS__))(m, x __VA_OPT__(, ) __VA_ARGS__)
#define CAPSTAN_EACH_0(m, x)
#define CAPSTAN_EACH_1(m, x, a) m(x, a)
#define CAPSTAN_EACH_2(m, x, a, ...) m(x, a) CAPSTAN_EACH_1(m, x, __VA_ARGS__)
#define CAPSTAN_EACH_3(m, x, a, ...) m(x, a) CAPSTAN_EACH_2(m, x, __VA_ARGS__)
#define CAPSTAN_EACH_4(m, x, a, ...) m(x, a) CAPSTAN_EACH_3(m, x, __VA_ARGS__)
#define CAPSTAN_EACH_5(m, x, a, ...) m(x, a) CAPSTAN_EACH_4(m, x, __VA_ARGS__)
#define CAPSTAN_EACH_6(m, x, a, ...) m(x, a) CAPSTAN_EACH_5(m, x, __VA_ARGS__)
#define CAPSTAN_EACH_7(m, x, a, ...) m(x, a) CAPSTAN_EACH_6(m, x, __VA_ARGS__)
#define CAPSTAN_EACH_8(m, x, a, ...) m(x, a) CAPSTAN_EACH_7(m, x, __VA_ARGS__)
#define CAPSTAN_EACH_9(m, x, a, ...) m(x, a) CAPSTAN_EACH_8(m, x, __VA_ARGS__)
#define CAPSTAN_EACH_10(m, x, a, ...) m(x, a) CAPSTAN_EACH_9(m, x, __VA_ARGS__)
#define CAPSTAN_EACH_11(m, x, a, ...) m(x, a) CAPSTAN_EACH_10(m, x, __VA_ARGS__)
#define CAPSTAN_EACH_12(m, x, a, ...) m(x, a) CAPSTAN_EACH_11(m, x, __VA_ARGS__)
#define CAPSTAN_EACH_13(m, x, a, ...) m(x, a) CAPSTAN_EACH_12(m, x, __VA_ARGS__)
#define CAPSTAN_EACH_14(m, x, a, ...) m(x, a) CAPSTAN_EACH_13(m, x, __VA_ARGS__)
#define CAPSTAN_EACH_15(m, x, a, ...) m(x, a) CAPSTAN_EACH_14(m, x, __VA_ARGS__)
#define CAPSTAN_EACH_16(m, x, a, ...) m(x, a) CAPSTAN_EACH_15(m, x, __VA_ARGS__)
#define CAPSTAN_EACH_17(m, x, a, ...) m(x, a) CAPSTAN_EACH_16(m, x, __VA_ARGS__)
#define CAPSTAN_EACH_18(m, x, a, ...) m(x, a) CAPSTAN_EACH_17(m, x, __VA_ARGS__)
#define CAPSTAN_EACH_19(m, x, a, ...) m(x, a) CAPSTAN_EACH_18(m, x, __VA_ARGS__)
#define CAPSTAN_EACH_20(m, x, a, ...) m(x, a) CAPSTAN_EACH_19(m, x, __VA_ARGS__)
#define CAPSTAN_EACH_21(m, x, a, ...) m(x, a) CAPSTAN_EACH_20(m, x, __VA_ARGS__)
#define CAPSTAN_EACH_22(m, x, a, ...) m(x, a) CAPSTAN_EACH_21(m, x, __VA_ARGS__)
#define CAPSTAN_EACH_23(m, x, a, ...) m(x, a) CAPSTAN_EACH_22(m, x, __VA_ARGS__)
#define CAPSTAN_EACH_24(m, x, a, ...) m(x, a) CAPSTAN_EACH_23(m, x, __VA_ARGS__)

#define CAPSTAN_PARAM_(x, a) , __attribute__((unused)) HaskellObj a
#define CAPSTAN_ADDRESS_(x, a) &a,
#define CAPSTAN_FIELD_INDEX_(Con, field) Con##_##field,
#define CAPSTAN_FIELD_NAME_(Con, field) #field,
#define CAPSTAN_FIELD_VALUE_(Con, field) field,

/* ---- Definitions ------------------------------------------------------------------------------------------------ */

#define CAPSTAN_FUN_(fname, nargs, ...)                                                                              \
    static HaskellObj fname##_entry(Stack *stack, HaskellObj self CAPSTAN_EACH(CAPSTAN_PARAM_, , __VA_ARGS__));       \
    const StgInfoTable fname##_info = { CLOSURE_FUN, INFO_STATIC, (nargs), 0, 0, 0, (StgFunPtr)fname##_entry,         \
                                        #fname, NULL };                                                              \
    StgClosure fname##_closure = { &fname##_info, {} };                                                              \
    static HaskellObj fname##_entry(__attribute__((unused)) Stack *stack,                                            \
                                    __attribute__((unused)) HaskellObj self CAPSTAN_EACH(CAPSTAN_PARAM_, , __VA_ARGS__))

/* A pure function of one or more arguments: fname_closure.  The body follows. */
#define CAPSTAN_FUN(fname, ...) CAPSTAN_FUN_(fname, CAPSTAN_NARGS(__VA_ARGS__), __VA_ARGS__)
/* A function whose full application is an IO action; with no arguments, an action. */
#define CAPSTAN_IO(fname, ...) \
    CAPSTAN_FUN_(fname, CAPSTAN_NARGS(__VA_ARGS__) + 1, __VA_ARGS__ __VA_OPT__(, ) world)

#define CAPSTAN_LAMBDA_(fname, kind, nfree, nargs, ...)                                                              \
    static HaskellObj fname##_entry(Stack *stack, HaskellObj self CAPSTAN_EACH(CAPSTAN_PARAM_, , __VA_ARGS__));       \
    const StgInfoTable fname##_info = { kind, 0, (nargs), (nfree), 0, 0, (StgFunPtr)fname##_entry, #fname, NULL };   \
    static HaskellObj fname##_entry(__attribute__((unused)) Stack *stack,                                            \
                                    __attribute__((unused)) HaskellObj self CAPSTAN_EACH(CAPSTAN_PARAM_, , __VA_ARGS__))
/* A function, or an IO function, with free variables: only fname_info; rts_mkClosure(cap, &fname_info, free) makes one, and
 * the body reads rts_freeVar(self, i) before its first safepoint. */
#define CAPSTAN_LAMBDA(fname, nfree, ...) \
    CAPSTAN_LAMBDA_(fname, CLOSURE_FUN, nfree, CAPSTAN_NARGS(__VA_ARGS__), __VA_ARGS__)
#define CAPSTAN_LAMBDA_IO(fname, nfree, ...) \
    CAPSTAN_LAMBDA_(fname, CLOSURE_FUN, nfree, CAPSTAN_NARGS(__VA_ARGS__) + 1, __VA_ARGS__ __VA_OPT__(, ) world)
/* A thunk with free variables: the body computes its value, once.  Made by rts_mkClosure as well; the body reads
 * rts_thunkVar(self, i). */
#define CAPSTAN_THUNK(fname, nfree) CAPSTAN_LAMBDA_(fname, CLOSURE_THUNK, nfree, 0)

/* A constant computed when it is first needed (and anew after hs_exit and hs_init): fname_closure. */
#define CAPSTAN_CAF(fname) CAPSTAN_CAF_(fname)
#define CAPSTAN_CAF_(fname)                                                                                          \
    static HaskellObj fname##_entry(Stack *stack, HaskellObj self);                                                  \
    const StgInfoTable fname##_info = { CLOSURE_THUNK, INFO_STATIC, 0, 0, 0, 0, (StgFunPtr)fname##_entry, #fname,     \
                                        NULL };                                                                      \
    StgClosure fname##_closure = { &fname##_info, { NULL, NULL } }; /* a StgStaticThunk */                           \
    static HaskellObj fname##_entry(__attribute__((unused)) Stack *stack, __attribute__((unused)) HaskellObj self)

/* A constructor with named fields, the contag-th of its type:
 *   Con_new(cap, fields...) makes one (CAPSTAN_POISON without memory), CAPSTAN_IS(Con, v) tests an evaluated value,
 *   CAPSTAN_GET(Con, v, field) reads, Con_field is the field's place, Con_info the table. */
#define CAPSTAN_CON(Con, contag, ...) CAPSTAN_CON_(Con, contag, __VA_ARGS__)
#define CAPSTAN_CON_(Con, contag, ...)                                                                                \
    enum { CAPSTAN_EACH(CAPSTAN_FIELD_INDEX_, Con, __VA_ARGS__) Con##_fields };                                      \
    static const char *const Con##_fieldNames[] = { CAPSTAN_EACH(CAPSTAN_FIELD_NAME_, Con, __VA_ARGS__) };           \
    const StgInfoTable Con##_info = { CLOSURE_CON, 0, 0, Con##_fields, 0, (contag), NULL, #Con, Con##_fieldNames };  \
    __attribute__((unused)) static inline HaskellObj Con##_new(Capability *cap                                       \
                                                               CAPSTAN_EACH(CAPSTAN_PARAM_, Con, __VA_ARGS__))       \
    {                                                                                                                \
        HaskellObj con = rts_allocateCon(cap, &Con##_info, Con##_fields);                                            \
        if (CAPSTAN_LIKELY(con != CAPSTAN_POISON)) {                                                                 \
            HaskellObj fields[] = { CAPSTAN_EACH(CAPSTAN_FIELD_VALUE_, Con, __VA_ARGS__) };                          \
            __builtin_memcpy(con->payload, fields, sizeof fields);                                                   \
        }                                                                                                            \
        return con;                                                                                                  \
    }
/* A constructor without fields: Con_closure is its one value. */
#define CAPSTAN_STATIC_CON(Con, contag) CAPSTAN_STATIC_CON_(Con, contag)
#define CAPSTAN_STATIC_CON_(Con, contag)                                                                              \
    const StgInfoTable Con##_info = { CLOSURE_CON, INFO_STATIC, 0, 0, 0, (contag), NULL, #Con, NULL };               \
    StgClosure Con##_closure = { &Con##_info, {} }
/* A constant constructor: name_closure, whose fields are static closures and CAPSTAN_SMALL_INT(...)s. */
#define CAPSTAN_STATIC(name, Con, ...) CAPSTAN_STATIC_(name, Con, __VA_ARGS__)
#define CAPSTAN_STATIC_(name, Con, ...) StgClosure name##_closure = { &Con##_info, { __VA_ARGS__ } }

#endif /* !__cplusplus */

/* For use in other files. */
#define CAPSTAN_EXTERN(name) extern StgClosure name##_closure

/* In builds with CAPSTAN_DEBUG defined, reading a field checks that the value is of that constructor, and raises
 * through the error hook (RTS_WRONG_KIND, CAPSTAN_POISON) if it is not. */
CAPSTAN_API HaskellObj rts_checkedField(HaskellObj con, const StgInfoTable *info, size_t i) CAPSTAN_NOSAFEPOINT;
#ifdef CAPSTAN_DEBUG
#define CAPSTAN_GET(Con, v, field) rts_checkedField((v), &Con##_info, Con##_##field)
#else
#define CAPSTAN_GET(Con, v, field) __atomic_load_n(&(v)->payload[Con##_##field], CAPSTAN_LOAD_ORDER)
#endif
#define CAPSTAN_IS(Con, v) (!rts_isImmediate(v) && rts_info(v) == &Con##_info)

static inline HaskellObj rts_freeVar(HaskellObj fun, size_t i) { return fun->payload[i]; }
static inline HaskellObj rts_thunkVar(HaskellObj thunk, size_t i) { return ((StgThunk *)thunk)->payload[i]; }

/* ---- Roots ------------------------------------------------------------------------------------------------------- */
/* CAPSTAN_ROOTS(stack, a, b, ...) names variables of type HaskellObj (initialised!) that the collector keeps right from
 * here to CAPSTAN_UNROOT(stack), which stands in the same block and on every way out of it except a raise.  One pair a block;
 * pairs nest.  Between rts_lock and rts_unlock C gives the Capability * instead of the stack; UNROOT takes the capability
 * held then.  In both cases the chain is the in-call's, so the last one pushed is the first to go. */
static inline void capstanPushRoots(Stack *stack, CapstanRoots *link, size_t count, HaskellObj *const *slots)
{
    link->count = count;
    link->slots = slots;
    link->prev = stack->roots;
    stack->roots = link;
}
static inline void capstanPopRoots(Stack *stack, CapstanRoots *link) { stack->roots = link->prev; }

/* A dead capability has no stack, and nothing to keep. */
static inline void capstanPushRootsOfCap(Capability *cap, CapstanRoots *link, size_t count, HaskellObj *const *slots)
{
    Stack *stack = ((CapstanRegs *)cap)->stack;
    if (CAPSTAN_LIKELY(stack != NULL)) capstanPushRoots(stack, link, count, slots);
}
static inline void capstanPopRootsOfCap(Capability *cap, CapstanRoots *link)
{
    Stack *stack = ((CapstanRegs *)cap)->stack;
    if (CAPSTAN_LIKELY(stack != NULL)) capstanPopRoots(stack, link);
}

#ifndef __cplusplus
#define CAPSTAN_ROOTS(where, ...)                                                                                    \
    HaskellObj *const capstan_slots_[] = { CAPSTAN_EACH(CAPSTAN_ADDRESS_, , __VA_ARGS__) };                          \
    CapstanRoots capstan_roots_;                                                                                     \
    _Generic((where), Stack *: capstanPushRoots, Capability *: capstanPushRootsOfCap)(                               \
        (where), &capstan_roots_, sizeof capstan_slots_ / sizeof *capstan_slots_, capstan_slots_)
#define CAPSTAN_UNROOT(where)                                                                                        \
    _Generic((where), Stack *: capstanPopRoots, Capability *: capstanPopRootsOfCap)((where), &capstan_roots_)
#endif

/* ---- Allocation -------------------------------------------------------------------------------------------------- */

/* words of the nursery, uninitialised, or NULL.  The caller fills them in before the next safepoint. */
CAPSTAN_API StgWord *rts_allocateSlow(Capability *cap, size_t words) CAPSTAN_NOSAFEPOINT;
static inline StgWord *rts_allocate(Capability *cap, size_t words)
{
    CapstanRegs *regs = (CapstanRegs *)cap;
    StgWord *p = regs->hp;
    /* A constant is compared as an address: it is far too small to lead out of all. */
    if (CAPSTAN_LIKELY(words < CAPSTAN_LARGE_WORDS && (__builtin_constant_p(words) ? p + words <= regs->hpLim : (size_t)(regs->hpLim - p) >= words))) {
        /* Callers need not look whether it is NULL, or what else an object never is. */
        if (p == NULL || p == (StgWord *)(void *)CAPSTAN_POISON) __builtin_unreachable();
        regs->hp = p + words;
        return p;
    }
    return rts_allocateSlow(cap, words);
}
static inline HaskellObj rts_allocateCon(Capability *cap, const StgInfoTable *info, size_t fields)
{
    StgWord *p = rts_allocate(cap, fields + 1 > 1 ? fields + 1 : 2);
    if (CAPSTAN_UNLIKELY(p == NULL)) return CAPSTAN_POISON;
    HaskellObj con = (HaskellObj)(void *)p;
    con->info = info;
    return con;
}
/* The write barrier: v is stored into slot, a word of obj, which is a MutVar or an array (of its elements), not a thunk for one.  Whatever is
 * reached through v is visible to who reads the slot.  Everything else that changes objects does this by itself.
 * See: generational collectors' remembered sets; GHC's dirty_MUT_VAR. */
CAPSTAN_API void rts_rememberStore(Capability *cap, HaskellObj *slot, HaskellObj v) CAPSTAN_NOSAFEPOINT;
static inline void rts_storeSlot(Capability *cap, HaskellObj obj, HaskellObj *slot, HaskellObj v)
{
    if (CAPSTAN_UNLIKELY(rts_info(obj)->flags & INFO_OLD) && !rts_isImmediate(v)) rts_rememberStore(cap, slot, v);
    __atomic_store_n(slot, v, __ATOMIC_RELEASE);
}
/* rts_writeMutVar and rts_setElem without their checks, inline. */
static inline void rts_setMutVar(Capability *cap, HaskellObj var, HaskellObj v)
{
    rts_storeSlot(cap, var, &((StgMutVar *)var)->value, v);
}
static inline void rts_setArrayElem(Capability *cap, HaskellObj array, size_t i, HaskellObj v)
{
    rts_storeSlot(cap, array, &((StgArray *)array)->elems[i], v);
}
/* rts_writeMutVar and rts_setElem, inline where all is as it should be. */
static inline void capstanWriteMutVar(Capability *cap, HaskellObj var, HaskellObj v)
{
    if (CAPSTAN_LIKELY(!rts_isImmediate(var) && var != NULL && rts_info(var)->kind == CLOSURE_MUTVAR)) rts_setMutVar(cap, var, v);
    else (rts_writeMutVar)(cap, var, v);
}
static inline void capstanSetElem(Capability *cap, HaskellObj array, size_t i, HaskellObj v)
{
    if (CAPSTAN_LIKELY(!rts_isImmediate(array) && array != NULL && rts_info(array)->kind == CLOSURE_ARRAY && i < ((StgArray *)array)->length))
        rts_setArrayElem(cap, array, i, v);
    else (rts_setElem)(cap, array, i, v);
}
#ifndef CAPSTAN_DEBUG
#define rts_writeMutVar(cap, var, v) capstanWriteMutVar(cap, var, v)
#define rts_setElem(cap, array, i, v) capstanSetElem(cap, array, i, v)
#endif

/* Integers of 63 bits without a call. */
static inline HaskellObj rts_int(Stack *stack, HsInt i)
{
    if (CAPSTAN_LIKELY(i >= CAPSTAN_SMALL_INT_MIN && i <= CAPSTAN_SMALL_INT_MAX)) return CAPSTAN_SMALL_INT(i);
    return rts_mkInt(stack->cap, i);
}
static inline HsInt rts_intValue(HaskellObj v)
{
    return CAPSTAN_LIKELY(rts_isSmallInt(v)) ? rts_smallIntValue(v) : rts_getInt(v);
}

/* ---- Calls, evaluation ------------------------------------------------------------------------------------------- */
/* All are safepoints and may raise.  Over- and under-saturated calls work: too few arguments make a partial application,
 * too many apply the result.  The callee's arity is looked at here; nobody else has to. */

CAPSTAN_API HaskellObj rts_callN(Stack *stack, HaskellObj f, size_t n, const HaskellObj *args) CAPSTAN_SAFEPOINT;
/* The same with one argument. */
CAPSTAN_API HaskellObj rts_call1(Stack *stack, HaskellObj f, HaskellObj arg) CAPSTAN_SAFEPOINT;
/* rts_call(stack, f, a, b): up to 24 arguments. */
#ifndef __cplusplus
#define rts_call(stack, f, ...) \
    rts_callN((stack), (f), CAPSTAN_NARGS(__VA_ARGS__), (HaskellObj[]){ __VA_ARGS__ })
#endif
/* Run an IO action. */
static inline HaskellObj rts_runIO(Stack *stack, HaskellObj action)
{
    return rts_call1(stack, action, CAPSTAN_WORLD);
}

/* return rts_tailCallN(...): the call happens after the caller's frame is gone.  Not a safepoint itself; n up to
 * CAPSTAN_MAX_ARITY.  Only as the operand of return, in a managed function, with no roots pushed. */
static inline HaskellObj rts_tailCallN(Stack *stack, HaskellObj f, size_t n, const HaskellObj *args)
{
    stack->pendingFun = f;
    stack->pendingCount = n;
    for (size_t i = 0; i < n; i++) stack->pendingArgs[i] = args[i];
    return CAPSTAN_TAILCALL;
}
#ifndef __cplusplus
#define rts_tailCall(stack, f, ...) \
    rts_tailCallN((stack), (f), CAPSTAN_NARGS(__VA_ARGS__), (HaskellObj[]){ __VA_ARGS__ })
#endif

/* Evaluate v until it is not a thunk. */
CAPSTAN_API HaskellObj rts_evaluate(Stack *stack, HaskellObj v) CAPSTAN_SAFEPOINT;
static inline HaskellObj rts_force(Stack *stack, HaskellObj v)
{
    return CAPSTAN_LIKELY(rts_isSmallInt(v) || (!rts_isThunk(v) && v != CAPSTAN_POISON)) ? v : rts_evaluate(stack, v);
}

/* Collect here: the young objects, or everything. */
CAPSTAN_API void rts_collect(Stack *stack, bool major) CAPSTAN_SAFEPOINT;

CAPSTAN_API void rts_pollStackSlow(Stack *stack) CAPSTAN_SAFEPOINT;
/* A safepoint: one load and one branch.  Loops that neither call nor force anything need one. */
static inline void rts_poll(Stack *stack)
{
    if (CAPSTAN_UNLIKELY(__atomic_load_n(&stack->poll, __ATOMIC_RELAXED) != 0)) rts_pollStackSlow(stack);
}

/* ---- Exceptions --------------------------------------------------------------------------------------------------- */

/* Raise an exception; any value will do.  Frames of C between here and the handler vanish without running anything: release
 * what they hold before, or catch. */
CAPSTAN_API __attribute__((noreturn)) void rts_raise(Stack *stack, HaskellObj exception) CAPSTAN_SAFEPOINT;
/* Raise an ErrorCall with a text, made as by printf. */
CAPSTAN_API __attribute__((noreturn, format(printf, 2, 3))) void rts_raiseError(Stack *stack, const char *format, ...)
    CAPSTAN_SAFEPOINT;
/* Run body(stack, arg).  true: *result is its value.  false: *result is the exception that it raised. */
CAPSTAN_API bool rts_try(Stack *stack, HaskellObj (*body)(Stack *stack, void *arg), void *arg, HaskellObj *result)
    CAPSTAN_SAFEPOINT;
/* catch as a managed IO function of an action and a handler (a function from the exception to an action).  The handler runs with
 * asynchronous exceptions masked (interruptibly). */
CAPSTAN_API extern StgClosure capstan_catch_closure;

/* The runtime's own exceptions: constructors without fields, except ErrorCall, which has a message (a byte array). */
CAPSTAN_API extern StgClosure capstan_StackOverflow_closure, capstan_HeapOverflow_closure, capstan_NonTermination_closure,
    capstan_WrongKind_closure;
CAPSTAN_API extern const StgInfoTable capstan_ErrorCall_info;

/* ---- Calls out ---------------------------------------------------------------------------------------------------- */

/* Call fn(arg) with the capability given up: it may block, and may call in.  Keeps errno.  Objects may move meanwhile:
 * fn must not touch managed values.  An unsafe call is a plain C call: it may do neither. */
CAPSTAN_API void *rts_safeCall(Stack *stack, void *(*fn)(void *arg), void *arg) CAPSTAN_SAFEPOINT;

#ifdef __cplusplus
}
#endif
#endif

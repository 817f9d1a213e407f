#include "apply.h"

#include "base/report.h"
#include "exception.h"
#include "schedule.h"
#include "thunk.h"

#include <string.h>

/* The most arguments that can come together: a partial application's and a call's. */
#define MAX_ARGS (2 * CAPSTAN_MAX_ARITY)

/* A call that is being made.  args is rooted as a whole where that is needed. */
typedef struct {
    HaskellObj fun;
    size_t n;
    HaskellObj args[MAX_ARGS];
} Call;

/* ---- Entering code: one case an arity ---- */

#define A0
#define A1 A0, a[0]
#define A2 A1, a[1]
#define A3 A2, a[2]
#define A4 A3, a[3]
#define A5 A4, a[4]
#define A6 A5, a[5]
#define A7 A6, a[6]
#define A8 A7, a[7]
#define A9 A8, a[8]
#define A10 A9, a[9]
#define A11 A10, a[10]
#define A12 A11, a[11]
#define A13 A12, a[12]
#define A14 A13, a[13]
#define A15 A14, a[14]
#define A16 A15, a[15]
#define A17 A16, a[16]
#define A18 A17, a[17]
#define A19 A18, a[18]
#define A20 A19, a[19]
#define A21 A20, a[20]
#define A22 A21, a[21]
#define A23 A22, a[22]
#define A24 A23, a[23]
#define T0
#define T1 T0, HaskellObj
#define T2 T1, HaskellObj
#define T3 T2, HaskellObj
#define T4 T3, HaskellObj
#define T5 T4, HaskellObj
#define T6 T5, HaskellObj
#define T7 T6, HaskellObj
#define T8 T7, HaskellObj
#define T9 T8, HaskellObj
#define T10 T9, HaskellObj
#define T11 T10, HaskellObj
#define T12 T11, HaskellObj
#define T13 T12, HaskellObj
#define T14 T13, HaskellObj
#define T15 T14, HaskellObj
#define T16 T15, HaskellObj
#define T17 T16, HaskellObj
#define T18 T17, HaskellObj
#define T19 T18, HaskellObj
#define T20 T19, HaskellObj
#define T21 T20, HaskellObj
#define T22 T21, HaskellObj
#define T23 T22, HaskellObj
#define T24 T23, HaskellObj
#define ENTER(n) \
    case n: return ((HaskellObj(*)(Stack *, HaskellObj T##n))code)(stack, fun A##n);

__attribute__((noinline)) static HaskellObj enterMany(Stack *stack, HaskellObj fun, const StgInfoTable *info,
                                                      const HaskellObj *a)
{
    StgFunPtr code = info->entry;
    switch (info->arity) {
        ENTER(4) ENTER(5) ENTER(6) ENTER(7) ENTER(8) ENTER(9) ENTER(10) ENTER(11) ENTER(12)
        ENTER(13) ENTER(14) ENTER(15) ENTER(16) ENTER(17) ENTER(18) ENTER(19) ENTER(20) ENTER(21) ENTER(22) ENTER(23)
        ENTER(24)
    default: rts_raise(stack, &capstan_WrongKind_closure);
    }
}

/* Call a function with exactly as many arguments as it takes. */
static inline HaskellObj enterFunction(Stack *stack, HaskellObj fun, const StgInfoTable *info, const HaskellObj *a)
{
    StgFunPtr code = info->entry;
    switch (info->arity) {
        ENTER(1) ENTER(2) ENTER(3)
    default: return enterMany(stack, fun, info, a);
    }
}

/* ---- Keeping a call right across safepoints ---- */

typedef struct {
    CapstanRoots link;
    HaskellObj *slots[MAX_ARGS + 1];
} CallRoots;

static void rootCall(Stack *stack, Call *call, CallRoots *roots)
{
    roots->slots[0] = &call->fun;
    for (size_t i = 0; i < call->n; i++) roots->slots[i + 1] = &call->args[i];
    capstanPushRoots(stack, &roots->link, call->n + 1, roots->slots);
}

static void pollWithCall(Stack *stack, Call *call)
{
    CallRoots roots;
    rootCall(stack, call, &roots);
    safepoint(stack);
    capstanPopRoots(stack, &roots.link);
}

static void forceFunction(Stack *stack, Call *call)
{
    CallRoots roots;
    rootCall(stack, call, &roots);
    HaskellObj fun = rts_evaluate(stack, call->fun);
    capstanPopRoots(stack, &roots.link);
    call->fun = fun;
}

/* ---- The pieces of a call ---- */

void checkStackSlow(Stack *stack)
{
    if (isStackOverflow(stack, archStackPointer())) rts_raise(stack, &capstan_StackOverflow_closure);
}

static void prependArgs(Call *call, const HaskellObj *args, size_t n)
{
    memmove(call->args + n, call->args, call->n * sizeof *call->args);
    memcpy(call->args, args, n * sizeof *args);
    call->n += n;
}

static void takePending(Stack *stack, Call *call)
{
    call->fun = stack->pendingFun;
    call->n = stack->pendingCount;
    memcpy(call->args, stack->pendingArgs, call->n * sizeof *call->args);
}

static HaskellObj makePartial(Stack *stack, HaskellObj fun, size_t n, const HaskellObj *args)
{
    StgPAP *pap = (StgPAP *)rts_allocate(stack->cap, 3 + n);
    if (pap == NULL) rts_raise(stack, &capstan_HeapOverflow_closure);
    pap->info = &capstan_PAP_info;
    pap->fun = fun;
    pap->count = n;
    memcpy(pap->args, args, n * sizeof *args);
    return (HaskellObj)pap;
}

/* How many arguments a function value still takes; 0: it is none. */
static size_t arityOf(HaskellObj f)
{
    if (rts_isImmediate(f)) return 0;
    const StgInfoTable *info = rts_info(f);
    if (info->kind == CLOSURE_FUN) return info->arity;
    if (info->kind == CLOSURE_PAP) return arityOf(((StgPAP *)f)->fun) - ((StgPAP *)f)->count;
    return 0;
}

/* The arguments of a nest of applications that were not begun, innermost last, and what they are applied to. */
static HaskellObj unwindSpine(HaskellObj ap, HaskellObj *spine, size_t *depth)
{
    HaskellObj f = ap;
    *depth = 0;
    while (!rts_isImmediate(f)) {
        StgWord8 kind = rts_info(f)->kind;
        if (kind == CLOSURE_IND) {
            f = __atomic_load_n(&((StgInd *)f)->value, __ATOMIC_ACQUIRE);
        } else if (kind == CLOSURE_AP || kind == CLOSURE_THUNK) {
            StgWord state = thunkState(f);
            if (isBlackHoleMark(state)) break;
            if (state != 0) {
                f = (HaskellObj)state;
            } else if (kind == CLOSURE_AP && *depth < CAPSTAN_MAX_ARITY) {
                spine[(*depth)++] = ((StgAP *)f)->arg;
                f = ((StgAP *)f)->fun;
            } else {
                break;
            }
        } else {
            break;
        }
    }
    return f;
}

static void reverse(HaskellObj *a, size_t n)
{
    for (size_t i = 0; i < n / 2; i++) {
        HaskellObj x = a[i];
        a[i] = a[n - 1 - i];
        a[n - 1 - i] = x;
    }
}

HaskellObj partialApplication(Stack *stack, HaskellObj ap)
{
    HaskellObj spine[CAPSTAN_MAX_ARITY];
    size_t depth;
    if (arityOf(((StgAP *)ap)->fun) == 1) return NULL;
    HaskellObj head = unwindSpine(ap, spine, &depth);
    size_t arity = arityOf(head);
    if (arity <= depth) return NULL;
    reverse(spine, depth);
    HaskellObj pap;
    if (rts_info(head)->kind == CLOSURE_PAP) {
        Call call = { .fun = ((StgPAP *)head)->fun, .n = depth };
        memcpy(call.args, spine, depth * sizeof *spine);
        prependArgs(&call, ((StgPAP *)head)->args, ((StgPAP *)head)->count);
        pap = makePartial(stack, call.fun, call.n, call.args);
    } else {
        pap = makePartial(stack, head, depth, spine);
    }
    StgWord expected = 0;
    rememberIfOld(&stack->cap->nursery, ap, (HaskellObj *)&((StgThunk *)ap)->state, pap);
    /* Somebody else may have been faster; then there are two, which are the same. */
    __atomic_compare_exchange_n(&((StgThunk *)ap)->state, &expected, (StgWord)pap, false, __ATOMIC_RELEASE,
                                __ATOMIC_RELAXED);
    return pap;
}

/* The function is an application: take its arguments over if it needs more than it has, evaluate it otherwise. */
static void openApplication(Stack *stack, Call *call)
{
    HaskellObj spine[CAPSTAN_MAX_ARITY];
    size_t depth;
    HaskellObj head = unwindSpine(call->fun, spine, &depth);
    if (depth > 0 && arityOf(head) > depth && call->n + depth <= MAX_ARGS) {
        reverse(spine, depth);
        prependArgs(call, spine, depth);
        call->fun = head;
    } else {
        forceFunction(stack, call);
    }
}

static HaskellObj runCall(Stack *stack, Call *call);

/* More arguments than the function takes: call it with its own, the result with the others. */
static void callWithSome(Stack *stack, Call *call, size_t arity)
{
    Call first = { .fun = call->fun, .n = arity };
    memcpy(first.args, call->args, arity * sizeof *first.args);
    CallRoots roots;
    rootCall(stack, call, &roots);
    HaskellObj fun = runCall(stack, &first);
    capstanPopRoots(stack, &roots.link);
    call->fun = fun;
    call->n -= arity;
    memmove(call->args, call->args + arity, call->n * sizeof *call->args);
}

static _Noreturn void raiseNotAFunction(Stack *stack)
{
    rts_raise(stack, &capstan_WrongKind_closure);
}

/* The apply loop: what a call comes to, whatever is called with however many arguments; tail calls included. */
static HaskellObj runCall(Stack *stack, Call *call)
{
    for (;;) {
        if (CAPSTAN_UNLIKELY(isPolled(stack))) pollWithCall(stack, call);
        if (call->n == 0) return rts_force(stack, call->fun);
        if (rts_isImmediate(call->fun)) {
            if (call->fun == CAPSTAN_POISON) rts_raise(stack, &capstan_HeapOverflow_closure);
            raiseNotAFunction(stack);
        }
        const StgInfoTable *info = rts_info(call->fun);
        switch (info->kind) {
        case CLOSURE_FUN:
            if (call->n == info->arity) {
                HaskellObj result = enterFunction(stack, call->fun, info, call->args);
                if (result != CAPSTAN_TAILCALL) return result;
                takePending(stack, call);
            } else if (call->n < info->arity) {
                return makePartial(stack, call->fun, call->n, call->args);
            } else {
                callWithSome(stack, call, info->arity);
            }
            break;
        case CLOSURE_PAP: {
            StgPAP *pap = (StgPAP *)call->fun;
            prependArgs(call, pap->args, pap->count);
            call->fun = pap->fun;
            break;
        }
        case CLOSURE_AP:
        case CLOSURE_THUNK:
        case CLOSURE_IND:
            openApplication(stack, call);
            break;
        default:
            raiseNotAFunction(stack);
        }
    }
}

/* ---- What the outside calls ---- */

__attribute__((noinline)) static HaskellObj callSlow(Stack *stack, HaskellObj f, size_t n, const HaskellObj *args)
{
    Call call;
    if (n > CAPSTAN_MAX_ARITY) rts_raiseError(stack, "rts_callN: %zu arguments; at most %d", n, CAPSTAN_MAX_ARITY);
    call.fun = f;
    call.n = n;
    if (n > 0) memcpy(call.args, args, n * sizeof *args);
    return runCall(stack, &call);
}

__attribute__((noinline)) HaskellObj runPending(Stack *stack)
{
    Call call;
    takePending(stack, &call);
    return runCall(stack, &call);
}

/* The common case of C's lazy applications: f is a nest of them, none begun, around a function that takes exactly
 * their arguments and these.  Generated stubs build nothing else. */
__attribute__((noinline)) static HaskellObj callApplication(Stack *stack, HaskellObj f, size_t n, const HaskellObj *args)
{
    HaskellObj all[CAPSTAN_MAX_ARITY], *a = all + CAPSTAN_MAX_ARITY - n, fun = f;
    if (n > CAPSTAN_MAX_ARITY) return callSlow(stack, f, n, args);
    if (n == 1) a[0] = args[0]; /* a copying loop costs more to begin than this */
    else memcpy(a, args, n * sizeof *a);
    const StgInfoTable *info;
    while ((info = rts_info(fun)) == &capstan_AP_info) {
        if (a == all || thunkState(fun) != 0) return callSlow(stack, f, n, args);
        *--a = ((StgAP *)fun)->arg;
        fun = ((StgAP *)fun)->fun;
        if (rts_isImmediate(fun)) return callSlow(stack, f, n, args);
    }
    if (info->kind != CLOSURE_FUN || a + info->arity != all + CAPSTAN_MAX_ARITY) return callSlow(stack, f, n, args);
    return finishCall(stack, enterFunction(stack, fun, info, a));
}

HaskellObj rts_callN(Stack *stack, HaskellObj f, size_t n, const HaskellObj *args)
{
    checkStack(stack);
    if (CAPSTAN_LIKELY(!isPolled(stack) && !rts_isImmediate(f))) {
        const StgInfoTable *info = rts_info(f);
        if (CAPSTAN_LIKELY(info->kind == CLOSURE_FUN && info->arity == n))
            return finishCall(stack, enterFunction(stack, f, info, args));
        if (info == &capstan_AP_info && n > 0) return callApplication(stack, f, n, args);
    }
    return callSlow(stack, f, n, args);
}

__attribute__((noinline)) static HaskellObj call1Slow(Stack *stack, HaskellObj f, HaskellObj arg)
{
    return rts_callN(stack, f, 1, &arg);
}

/* One argument, the world of an IO action mostly: f is a function, or the application of one to all its others. */
HaskellObj passCall1(Stack *stack, HaskellObj f, HaskellObj arg)
{
    if (CAPSTAN_UNLIKELY(rts_isImmediate(f))) return call1Slow(stack, f, arg);
    const StgInfoTable *info = rts_info(f);
    if (info == &capstan_AP_info) {
        StgAP *ap = (StgAP *)f;
        if (CAPSTAN_UNLIKELY(thunkState(f) != 0 || rts_isImmediate(ap->fun))) return call1Slow(stack, f, arg);
        info = rts_info(ap->fun);
        if (info->kind == CLOSURE_FUN && info->arity == 2)
            return ((HaskellObj(*)(Stack *, HaskellObj, HaskellObj, HaskellObj))info->entry)(stack, ap->fun, ap->arg, arg);
    } else if (info->kind == CLOSURE_FUN && info->arity == 1) {
        return ((HaskellObj(*)(Stack *, HaskellObj, HaskellObj))info->entry)(stack, f, arg);
    }
    return call1Slow(stack, f, arg);
}

HaskellObj rts_call1(Stack *stack, HaskellObj f, HaskellObj arg)
{
    checkStack(stack);
    if (CAPSTAN_UNLIKELY(isPolled(stack))) return call1Slow(stack, f, arg);
    return finishCall(stack, passCall1(stack, f, arg));
}

HaskellObj enterThunk(Stack *stack, HaskellObj thunk)
{
    return finishCall(stack, ((HaskellObj(*)(Stack *, HaskellObj))thunk->info->entry)(stack, thunk));
}

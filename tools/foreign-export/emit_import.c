/* Imports: managed closures that call C.
 *
 *     struct stub_f_call { HsDouble a1; HsDouble result; };
 *     static void *stub_f_run(void *arg)                      the call itself, with its C types
 *     static HaskellObj stub_f_entry(Stack *stack, HaskellObj self, HaskellObj x1)
 *     static const StgInfoTable stub_f_info; StgClosure f_closure
 *
 * An unsafe call is a plain one of stub_f_run, which compilers put in its place; the others hand it to the runtime. */
#include "foreign.h"

#include <string.h>

static Arena *arenaOf(const Plan *plan) { return &plan->source->arena; }
static bool isUnsafe(const Call *call) { return call->decl->safety == UNSAFE || call->entity.kind == ENTITY_VALUE; }
static bool isOwned(const Value *v) { return v->ownership == OWNED; }
static bool isBorrowed(const Value *v) { return v->ownership == BORROWED; }
static bool needsWorld(const Call *call) { return call->sig.io || call->entity.kind == ENTITY_WRAPPER; }

static bool anyOwnedArg(const Signature *sig)
{
    for (unsigned i = 0; i < sig->n; i++)
        if (isOwned(&sig->args[i])) return true;
    return false;
}
/* Something would leak if an exception came out of the call. */
static bool isGuarded(const Call *call) { return !isUnsafe(call) && (anyOwnedArg(&call->sig) || isOwned(&call->sig.result)); }

/* ---- The C call ---- */

/* Argument i as the C function takes it; functions of headers have types of their own. */
static void putArgument(const Plan *plan, const Call *call, unsigned i, Buffer *out)
{
    const Value *v = &call->sig.args[i];
    bool header = call->entity.header != NULL && call->entity.kind == ENTITY_FUNCTION;
    put(out, "%s", i > 0 ? ", " : "");
    if (header && v->base == B_PTR && v->pointee != NULL) put(out, "(%s)call->a%u", declare(arenaOf(plan), v->pointee, "*"), i + 1);
    else if (header && (v->base == B_PTR || v->base == B_FUNPTR)) put(out, "STUB_POINTER(call->a%u)", i + 1);
    else put(out, "call->a%u", i + 1);
    if (v->base == B_BYTES) put(out, ", call->a%u_length", i + 1);
}

static const char *functionName(const Plan *plan, const Call *call)
{
    if (call->entity.kind == ENTITY_DYNAMIC) return "call->function";
    return call->entity.header != NULL ? call->entity.c_name : takeFormat(arenaOf(plan), "%s_c", call->id);
}

static void putCall(const Plan *plan, const Call *call, Buffer *out)
{
    const Signature *sig = &call->sig;
    if (sig->result.base != B_UNIT) {
        const char *type = valueType(arenaOf(plan), &sig->result);
        put(out, "    call->result = ");
        if (call->entity.header != NULL) put(out, "(%s)", type);
    } else {
        put(out, "    ");
    }
    if (call->entity.kind == ENTITY_VALUE) {
        put(out, "%s;\n", call->entity.c_name);
        return;
    }
    if (call->entity.kind == ENTITY_DYNAMIC) {
        put(out, "((%s(*)(", declare(arenaOf(plan), valueType(arenaOf(plan), &sig->result), ""));
        putParams(arenaOf(plan), sig, "", out);
        put(out, "))call->function)(");
    } else {
        put(out, "%s(", functionName(plan, call));
    }
    for (unsigned i = 0; i < sig->n; i++) putArgument(plan, call, i, out);
    if (sig->result.base == B_BYTES) put(out, "%s&call->length", sig->n > 0 ? ", " : "");
    put(out, ");\n");
}

/* Under a name of the stub's own, so that no declaration of a header or of the compiler is in its way. */
static void putSymbol(const Plan *plan, const Call *call, Buffer *out)
{
    if (call->entity.kind != ENTITY_FUNCTION || call->entity.header != NULL) return;
    put(out, "extern %s(", declare(arenaOf(plan), valueType(arenaOf(plan), &call->sig.result), takeFormat(arenaOf(plan), "%s_c", call->id)));
    putParams(arenaOf(plan), &call->sig, "", out);
    put(out, ") __asm__(\"%s\");\n", call->entity.c_name);
}

static void putRun(const Plan *plan, const Call *call, Buffer *out)
{
    const Signature *sig = &call->sig;
    Param params[MAX_PARAMS];
    unsigned n = listParams(arenaOf(plan), sig, params) - (sig->result.base == B_BYTES);
    putSymbol(plan, call, out);
    put(out, "struct %s_call {\n", call->id);
    for (unsigned i = 0; i < n; i++) put(out, "    %s;\n", declare(arenaOf(plan), params[i].type, params[i].name));
    if (call->entity.kind == ENTITY_DYNAMIC) put(out, "    HsFunPtr function;\n");
    if (sig->result.base == B_BYTES) put(out, "    size_t length;\n");
    if (isGuarded(call)) put(out, "    bool called;\n");
    if (sig->result.base != B_UNIT) put(out, "    %s;\n", declare(arenaOf(plan), valueType(arenaOf(plan), &sig->result), "result"));
    else put(out, "    char none;\n");
    put(out, "};\nstatic void *%s_run(void *arg)\n{\n    struct %s_call *call = (struct %s_call *)arg;\n", call->id, call->id, call->id);
    put(out, "%s", isGuarded(call) ? "    call->called = true;\n" : "");
    if (n == 0 && sig->result.base == B_UNIT && call->entity.kind != ENTITY_DYNAMIC && !isGuarded(call)) put(out, "    (void)call;\n");
    putCall(plan, call, out);
    put(out, "    return NULL;\n}\n");
}

/* ---- The managed function ---- */

/* Arguments as they come: x1 ... xn; for "dynamic" x0, the function pointer, comes first. */
static unsigned firstOf(const Call *call) { return call->entity.kind == ENTITY_DYNAMIC ? 0 : 1; }

static void putEntryHead(const Call *call, unsigned last, Buffer *out)
{
    put(out, "static HaskellObj %s_entry(Stack *stack, HaskellObj self", call->id);
    for (unsigned i = firstOf(call); i <= last; i++) put(out, ", HaskellObj x%u", i);
    put(out, "%s)\n{\n    (void)stack;\n    (void)self;\n%s", needsWorld(call) ? ", HaskellObj world" : "", needsWorld(call) ? "    (void)world;\n" : "");
}

/* Arguments are evaluated, and checked: what may raise comes first.  Meanwhile all are rooted; behind it nothing moves before the call. */
static void putForce(const Call *call, Buffer *out)
{
    unsigned first = firstOf(call), last = call->sig.n, n = last + 1 - first;
    bool rooted = n > 1 || anyOwnedArg(&call->sig);
    if (rooted) {
        put(out, "    {\n    HaskellObj *const slots[] = {");
        for (unsigned i = first; i <= last; i++) put(out, " &x%u%s", i, i < last ? "," : "");
        put(out, " };\n    CapstanRoots roots;\n    capstanPushRoots(stack, &roots, %u, slots);\n", n);
    }
    for (unsigned i = first; i <= last; i++) put(out, "    x%u = rts_force(stack, x%u);\n", i, i);
    for (unsigned i = 1; i <= last; i++) {
        const Value *v = &call->sig.args[i - 1];
        if (isBorrowed(v)) put(out, "    x%u = %s(stack, x%u, %s);\n", i, v->base == B_STRING ? "rts_lendString" : "rts_lendBytes", i, isUnsafe(call) ? "false" : "true");
        else if (isOwned(v)) put(out, "    %s(stack, x%u);\n", v->base == B_STRING ? "rts_checkString" : "rts_checkBytes", i);
    }
    if (rooted) put(out, "    capstanPopRoots(stack, &roots);\n    }\n");
}

static void putFreeOwned(const Call *call, const char *margin, Buffer *out)
{
    for (unsigned i = 1; i <= call->sig.n; i++)
        if (isOwned(&call->sig.args[i - 1])) put(out, "%srts_freeGiven(call.a%u);\n", margin, i);
}

/* From here on nothing raises but what frees before: what is given away is C's memory. */
static void putArguments(const Call *call, Buffer *out)
{
    const Signature *sig = &call->sig;
    if (call->entity.kind == ENTITY_DYNAMIC)
        put(out, "    call.function = rts_getFunPtr(x0);\n    if (call.function == NULL) rts_raiseError(stack, \"%s: the function pointer is NULL\");\n",
            call->decl->name.text);
    for (unsigned i = 1; i <= sig->n; i++) {
        const Value *v = &sig->args[i - 1];
        if (v->base == B_STRING) put(out, "    call.a%u = %s(x%u);\n", i, isOwned(v) ? "rts_giveString" : "rts_lentString", i);
        else if (v->base == B_BYTES) put(out, "    call.a%u = %s(x%u, &call.a%u_length);\n", i, isOwned(v) ? "rts_giveBytes" : "rts_lentBytes", i, i);
        else put(out, "    call.a%u = rts_get%s(x%u);\n", i, bases[v->base].suffix, i);
    }
    for (unsigned i = 1; i <= sig->n; i++) {
        if (!isOwned(&sig->args[i - 1])) continue;
        put(out, "    if (call.a%u == NULL && x%u != CAPSTAN_UNIT) {\n", i, i);
        putFreeOwned(call, "        ", out);
        put(out, "        rts_raiseNoMemory(stack);\n    }\n");
    }
}

static void putReturn(const Call *call, Buffer *out)
{
    const Value *v = &call->sig.result;
    switch (v->base) {
    case B_UNIT: put(out, "    return CAPSTAN_UNIT;\n"); break;
    case B_STRING: put(out, "    return %s(stack->cap, call.result);\n", isOwned(v) ? "rts_takeString" : "rts_borrowString"); break;
    case B_BYTES: put(out, "    return %s(stack->cap, call.result, call.length);\n", isOwned(v) ? "rts_takeBytes" : "rts_borrowBytes"); break;
    default: put(out, "    return rts_mk%s(stack->cap, call.result);\n", bases[v->base].suffix);
    }
}

static const char *callerOf(const Call *call) { return call->decl->safety == INTERRUPTIBLE ? "rts_interruptibleCall" : "rts_safeCall"; }

/* A body for rts_try: what was handed over and did not arrive is freed, and the exception goes on. */
static void putGuard(const Call *call, Buffer *out)
{
    put(out, "static HaskellObj %s_guarded(Stack *stack, void *arg)\n{\n    %s(stack, %s_run, arg);\n    return CAPSTAN_UNIT;\n}\n", call->id, callerOf(call),
        call->id);
}

static void putGuardedCall(const Call *call, Buffer *out)
{
    put(out, "    call.called = false;\n    {\n    HaskellObj exception;\n    if (!rts_try(stack, %s_guarded, &call, &exception)) {\n", call->id);
    if (anyOwnedArg(&call->sig)) {
        put(out, "        if (!call.called) {\n");
        putFreeOwned(call, "            ", out);
        put(out, "        }\n");
    }
    if (isOwned(&call->sig.result)) put(out, "        if (call.called) rts_freeGiven(call.result);\n");
    put(out, "        rts_raise(stack, exception);\n    }\n    }\n");
}

/* What is lent stays where it is, and alive, while the call lasts. */
static void putSafeCall(const Call *call, Buffer *out)
{
    unsigned lent = 0;
    for (unsigned i = 1; i <= call->sig.n; i++) {
        if (!isBorrowed(&call->sig.args[i - 1])) continue;
        put(out, "%s &x%u", lent++ == 0 ? "    {\n    HaskellObj *const slots[] = {" : ",", i);
    }
    if (lent > 0) put(out, " };\n    CapstanRoots roots;\n    capstanPushRoots(stack, &roots, %u, slots);\n", lent);
    if (isGuarded(call)) putGuardedCall(call, out);
    else put(out, "    %s(stack, %s_run, &call);\n", callerOf(call), call->id);
    if (lent > 0) put(out, "    capstanPopRoots(stack, &roots);\n    }\n");
}

static void putEntry(const Call *call, Buffer *out)
{
    putEntryHead(call, call->sig.n, out);
    put(out, "    struct %s_call call;\n", call->id);
    putForce(call, out);
    putArguments(call, out);
    if (isUnsafe(call)) put(out, "    %s_run(&call);\n", call->id);
    else putSafeCall(call, out);
    putReturn(call, out);
    put(out, "}\n");
}

/* ---- The closure ---- */

static void putClosure(const Call *call, unsigned arity, Buffer *out)
{
    arity += needsWorld(call);
    put(out, "static const StgInfoTable %s_info = { %s, INFO_STATIC, %u, 0, 0, 0, (StgFunPtr)%s_entry, \"%s\", NULL };\n", call->id,
        arity > 0 ? "CLOSURE_FUN" : "CLOSURE_THUNK", arity, call->id, call->decl->name.text);
    /* A thunk is longer than what StgClosure says; its name in C says no more. */
    if (arity > 0) put(out, "StgClosure %s_closure = { &%s_info, { } };\n\n", call->closure, call->id);
    else
        put(out, "extern StgStaticThunk %s_thunk __asm__(\"%s_closure\");\nStgStaticThunk %s_thunk = { &%s_info, 0, NULL };\n\n", call->id, call->closure, call->id,
            call->id);
}

static void emitWrapperImport(const Plan *plan, const Call *call, Buffer *out)
{
    const Signature *sig = &call->sig;
    bool ghc = plan->options->names == CLOSURES_GHC;
    put(out, "static HaskellObj %s_entry(Stack *stack, HaskellObj self, HaskellObj function, HaskellObj world)\n{\n"
             "    StgStablePtr hptr = getStablePtr((StgPtr)function);\n    void *code = NULL;\n    (void)self;\n    (void)world;\n"
             "    if (hptr == NULL) rts_raiseNoMemory(stack);\n    code = %s(hptr, (StgFunPtr)%s, %s\"%c", call->id, ghc ? "createAdjustor" : "rts_createAdjustor",
        call->wrapper, ghc ? "(char *)" : "", bases[sig->result.base].letter);
    for (unsigned i = 0; i < sig->n; i++) put(out, "%c%s", bases[sig->args[i].base].letter, sig->args[i].base == B_BYTES ? "l" : "");
    put(out, "%s\");\n    if (code == NULL) {\n        freeStablePtr(hptr);\n        rts_raiseError(stack, \"%s: no C function pointer could be made\");\n    }\n"
             "    return rts_mkFunPtr(stack->cap, (HsFunPtr)code);\n}\n", sig->result.base == B_BYTES ? "p" : "", call->decl->name.text);
    putClosure(call, 1, out);
}

/* Function addresses go through void *, as dlsym gives them. */
static void emitAddress(const Call *call, Buffer *out)
{
    const char *suffix = bases[call->address.base].suffix;
    if (call->entity.header == NULL) put(out, "extern char %s_c[] __asm__(\"%s\");\n", call->id, call->entity.c_name);
    put(out, "static HaskellObj %s_entry(Stack *stack, HaskellObj self)\n{\n    (void)self;\n    return rts_mk%s(stack->cap, (Hs%s)", call->id, suffix, suffix);
    if (call->entity.header == NULL) put(out, "(void *)%s_c);\n}\n", call->id);
    else put(out, "&%s);\n}\n", call->entity.c_name);
    putClosure(call, 0, out);
}

void emitImport(const Plan *plan, const Call *call, Buffer *out)
{
    switch (call->entity.kind) {
    case ENTITY_WRAPPER: emitWrapperImport(plan, call, out); return;
    case ENTITY_ADDRESS: emitAddress(call, out); return;
    default: break;
    }
    putRun(plan, call, out);
    if (isGuarded(call)) putGuard(call, out);
    putEntry(call, out);
    putClosure(call, call->sig.n + 1 - firstOf(call), out);
}

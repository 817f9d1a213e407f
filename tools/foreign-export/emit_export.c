/* Exports: C functions that call managed ones; and the same for what adjustors call. */
#include "foreign.h"

static Arena *arenaOf(const Plan *plan) { return &plan->source->arena; }

/* The managed value of parameter i. */
static void putMake(const Value *v, unsigned i, Buffer *out)
{
    switch (v->base) {
    case B_STRING: put(out, "%s(cap,a%u)", v->ownership == OWNED ? "rts_takeString" : "rts_borrowString", i); break;
    case B_BYTES: put(out, "%s(cap,a%u,a%u_length)", v->ownership == OWNED ? "rts_takeBytes" : "rts_borrowBytes", i, i); break;
    default: put(out, "rts_mk%s(cap,a%u)", bases[v->base].suffix, i);
    }
}

/* The C value of the managed result "ret". */
static void putGet(const Value *v, Buffer *out)
{
    switch (v->base) {
    case B_STRING: put(out, "rts_giveString(ret)"); break;
    case B_BYTES: put(out, "rts_giveBytes(ret,length)"); break;
    default: put(out, "rts_get%s(ret)", bases[v->base].suffix);
    }
}

/* runIO (function a1 a2 ...), as GHC nests it. */
static void putAction(const Signature *sig, const char *function, Buffer *out)
{
    put(out, "rts_apply(cap,(HaskellObj)%s,", sig->io ? "runIO_closure" : "runNonIO_closure");
    for (unsigned i = 0; i < sig->n; i++) put(out, "rts_apply(cap,");
    put(out, "%s", function);
    for (unsigned i = 0; i < sig->n; i++) {
        put(out, ",");
        putMake(&sig->args[i], i + 1, out);
        put(out, ")");
    }
    put(out, ")");
}

static void putBody(const Plan *plan, const Signature *sig, const char *function, const char *site, Buffer *out)
{
    bool returns = sig->result.base != B_UNIT;
    put(out, "\n{\nCapability *cap;\nHaskellObj ret;\n");
    if (returns) put(out, "%s;\n", declare(arenaOf(plan), valueType(arenaOf(plan), &sig->result), "cret"));
    put(out, "cap = rts_lock();\nrts_inCall(&cap,");
    putAction(sig, function, out);
    put(out, ",&ret);\nrts_checkSchedStatus((char *)\"%s\",cap);\n", site);
    if (returns) {
        put(out, "cret=");
        putGet(&sig->result, out);
        put(out, ";\n");
    }
    put(out, "rts_unlock(cap);\n%s}\n\n", returns ? "return cret;\n" : "");
}

static void putTry(const Plan *plan, const Call *call, Buffer *out)
{
    Param params[MAX_PARAMS];
    unsigned n = listParams(arenaOf(plan), &call->sig, params);
    bool bytes = call->sig.result.base == B_BYTES;
    putTryPrototype(plan, call, false, out);
    put(out, "\n{\nreturn %s_try_opt(NULL, ", call->entity.c_name);
    for (unsigned i = 0; i < n - bytes; i++) put(out, "%s, ", params[i].name);
    put(out, "%s%serror);\n}\n\n", call->sig.result.base != B_UNIT ? "result, " : "", bytes ? "length, " : "");
}

static void putTryOpt(const Plan *plan, const Call *call, const char *function, Buffer *out)
{
    const Value *result = &call->sig.result;
    putTryPrototype(plan, call, true, out);
    put(out, "\n{\nCapability *cap;\nHaskellObj ret;\nSchedulerStatus status;\nrts_lockOpt(&cap, opts);\nrts_inCall(&cap,");
    putAction(&call->sig, function, out);
    put(out, ",&ret);\nstatus = rts_getError(cap, error);\n");
    if (result->base != B_UNIT) {
        put(out, "if (status == Success && result != NULL) *result = ");
        putGet(result, out);
        put(out, ";\n");
    }
    if (result->ownership != NOT_OWNED)
        put(out, "if (status == Success && result != NULL && *result == NULL && ret != CAPSTAN_UNIT) status = rts_notGivenError(ret, error);\n");
    put(out, "rts_unlock(cap);\nreturn status;\n}\n\n");
}

void emitExport(const Plan *plan, const Call *call, Buffer *out)
{
    const char *function = takeFormat(arenaOf(plan), "&%s_closure", call->closure);
    put(out, "extern StgClosure %s_closure;\n", call->closure);
    putPrototype(plan, call, out);
    putBody(plan, &call->sig, function, call->entity.c_name, out);
    if (!plan->options->tries) return;
    putTryOpt(plan, call, function, out);
    putTry(plan, call, out);
}

void emitWrapped(const Plan *plan, const Call *call, Buffer *out)
{
    Param params[MAX_PARAMS];
    unsigned n = listParams(arenaOf(plan), &call->sig, params), integers = 0;
    if (plan->options->names != CLOSURES_GHC) put(out, "static ");
    putWrapperPrototype(plan, call, out);
    Buffer body = { 0 };
    putBody(plan, &call->sig, "(StgClosure*)(void *)deRefStablePtr(the_stableptr)", call->decl->name.text, &body);
    for (unsigned i = 0; i < n; i++) integers += params[i].integer;
    if (plan->options->names == CLOSURES_GHC && integers >= 6) put(out, "\n{\n#if defined(__x86_64__)\n(void)original_return_addr;\n#endif\n%s", body.text + 3);
    else put(out, "%s", body.text);
    freeBuffer(&body);
}

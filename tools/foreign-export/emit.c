/* The files as a whole, and what prototypes are made of. */
#include "foreign.h"

#include <stdio.h>
#include <string.h>

/* ---- Types in C ---- */

const char *valueType(Arena *arena, const Value *value)
{
    switch (value->base) {
    case B_UNIT: return "void";
    case B_STRING: return value->ownership == OWNED ? "char *" : "const char *";
    case B_BYTES: return value->ownership == OWNED ? "void *" : "const void *";
    default: return takeFormat(arena, "Hs%s", bases[value->base].suffix);
    }
}

const char *declare(Arena *arena, const char *type, const char *name)
{
    return takeFormat(arena, "%s%s%s", type, type[strlen(type) - 1] == '*' ? "" : " ", name);
}

unsigned listParams(Arena *arena, const Signature *sig, Param *params)
{
    unsigned n = 0;
    for (unsigned i = 0; i < sig->n; i++) {
        const Value *v = &sig->args[i];
        const char *name = takeFormat(arena, "a%u", i + 1);
        params[n++] = (Param){ valueType(arena, v), name, v->base != B_FLOAT && v->base != B_DOUBLE };
        if (v->base == B_BYTES) params[n++] = (Param){ "size_t", takeFormat(arena, "%s_length", name), true };
    }
    if (sig->result.base == B_BYTES) params[n++] = (Param){ "size_t *", "length", true };
    return n;
}

void putParams(Arena *arena, const Signature *sig, const char *front, Buffer *out)
{
    Param params[MAX_PARAMS];
    unsigned n = listParams(arena, sig, params);
    put(out, "%s", front);
    for (unsigned i = 0; i < n; i++) put(out, "%s%s", i > 0 || front[0] != 0 ? ", " : "", declare(arena, params[i].type, params[i].name));
    if (n == 0 && front[0] == 0) put(out, "void");
}

static Arena *arenaOf(const Plan *plan) { return &plan->source->arena; }

void putPrototype(const Plan *plan, const Call *call, Buffer *out)
{
    put(out, "%s(", declare(arenaOf(plan), valueType(arenaOf(plan), &call->sig.result), call->entity.c_name));
    putParams(arenaOf(plan), &call->sig, "", out);
    put(out, ")");
}

/* The result, if there is one, goes where a pointer says, before the record. */
void putTryPrototype(const Plan *plan, const Call *call, bool opt, Buffer *out)
{
    Arena *arena = arenaOf(plan);
    Param params[MAX_PARAMS];
    const Signature *sig = &call->sig;
    unsigned n = listParams(arena, sig, params);
    bool bytes = sig->result.base == B_BYTES;
    put(out, "SchedulerStatus %s_try%s(%s", call->entity.c_name, opt ? "_opt" : "", opt ? "const RtsLockOpts *opts, " : "");
    for (unsigned i = 0; i < n - bytes; i++) put(out, "%s, ", declare(arena, params[i].type, params[i].name));
    if (sig->result.base != B_UNIT) {
        const char *type = valueType(arena, &sig->result);
        put(out, "%s%s*result, ", type, type[strlen(type) - 1] == '*' ? "" : " ");
    }
    put(out, "%sRtsError *error)", bytes ? "size_t *length, " : "");
}

/* Under GHC's names it has GHC's shape: on x86-64 with a parameter that means nothing. */
void putWrapperPrototype(const Plan *plan, const Call *call, Buffer *out)
{
    Arena *arena = arenaOf(plan);
    Param params[MAX_PARAMS];
    unsigned n = listParams(arena, &call->sig, params), integers = 0;
    put(out, "%s(StgStablePtr the_stableptr", declare(arena, valueType(arena, &call->sig.result), call->wrapper));
    for (unsigned i = 0; i < n; i++) {
        put(out, ", %s", declare(arena, params[i].type, params[i].name));
        integers += params[i].integer;
        if (plan->options->names == CLOSURES_GHC && integers == 6 && params[i].integer) put(out, "\n#if defined(__x86_64__)\n, void* original_return_addr\n#endif\n");
    }
    put(out, ")");
}

/* ---- The header ---- */

static void putBegin(Buffer *out) { put(out, "#if defined(__cplusplus)\nextern \"C\" {\n#endif\n"); }
static void putEnd(Buffer *out) { put(out, "#if defined(__cplusplus)\n}\n#endif\n"); }

static void putDeclarations(const Plan *plan, Buffer *out)
{
    for (const PlanModule *m = plan->modules; m != NULL; m = m->next) {
        for (const Call *c = m->exports; c != NULL; c = c->next) {
            put(out, "extern ");
            putPrototype(plan, c, out);
            put(out, ";\n");
        }
        for (const Call *c = m->imports; c != NULL && plan->options->names == CLOSURES_GHC; c = c->next) {
            if (c->entity.kind != ENTITY_WRAPPER) continue;
            put(out, "extern ");
            putWrapperPrototype(plan, c, out);
            put(out, ";\n");
        }
        for (const Call *c = m->exports; c != NULL && plan->options->tries; c = c->next)
            for (int opt = 0; opt < 2; opt++) {
                put(out, "extern ");
                putTryPrototype(plan, c, opt, out);
                put(out, ";\n");
            }
        for (const Call *c = m->imports; c != NULL; c = c->next) put(out, "extern StgClosure %s_closure;\n", c->closure);
    }
}

static bool hasExports(const Plan *plan)
{
    for (const PlanModule *m = plan->modules; m != NULL; m = m->next)
        if (m->exports != NULL) return true;
    return false;
}

static void putOrigin(const Plan *plan, Buffer *out)
{
    const char *slash = strrchr(plan->source->name, '/');
    put(out, "/* Made by capstan-foreign from %s. */\n", slash != NULL ? slash + 1 : plan->source->name);
}

void emitHeader(const Plan *plan, Buffer *out)
{
    putOrigin(plan, out);
    put(out, "#include <HsFFI.h>\n");
    if (plan->options->tries && hasExports(plan)) put(out, "#include <rts/Try.h>\n");
    putBegin(out);
    putDeclarations(plan, out);
    putEnd(out);
}

/* ---- The stub ---- */

static void putTargetCheck(const Plan *plan, Buffer *out)
{
    static const char *const macros[TARGETS] = { "__x86_64__", "__aarch64__", "__riscv" };
    if (plan->targeted)
        put(out, "#if !defined(%s)\n#error \"types of other widths: give capstan-foreign another --target\"\n#endif\n", macros[plan->options->target]);
}

/* What C converts by itself, C++ is told to. */
static void putAnyPointer(Buffer *out)
{
    put(out, "#if defined(__cplusplus)\n"
             "namespace {\n"
             "struct StubPointer {\n"
             "    void *p;\n"
             "    template <class T> operator T *() const { return reinterpret_cast<T *>(p); }\n"
             "};\n"
             "}\n"
             "#define STUB_POINTER(p) (StubPointer{ (void *)(p) })\n"
             "#else\n"
             "#define STUB_POINTER(p) ((void *)(p))\n"
             "#endif\n");
}

static void putIncludes(const Plan *plan, Buffer *out)
{
    put(out, "#include <Rts.h>\n#include <rts/Managed.h>\n#include <rts/Marshal.h>\n#include <rts/Try.h>\n");
    if (plan->adjustors) put(out, "#include <rts/Foreign.h>\n");
    for (const PlanModule *m = plan->modules; m != NULL; m = m->next)
        for (const Call *c = m->imports; c != NULL; c = c->next) {
            bool again = false;
            for (const PlanModule *n = plan->modules; n != m->next && !again && c->entity.header != NULL; n = n->next)
                for (const Call *d = n->imports; d != NULL && d != c && !again; d = d->next)
                    again = d->entity.header != NULL && strcmp(d->entity.header, c->entity.header) == 0;
            if (c->entity.header != NULL && !again) put(out, "#include \"%s\"\n", c->entity.header);
        }
}

static void putExportList(const PlanModule *module, Buffer *out)
{
    if (module->exports == NULL) return;
    /* A struct ForeignExportsList: C++ does not initialise those. */
    put(out, "static struct { struct ForeignExportsList *next; int n_entries; StgPtr exports[%u]; } stg_exports_%s = { NULL, %u, {\n", module->nExports, module->id,
        module->nExports);
    for (const Call *c = module->exports; c != NULL; c = c->next) put(out, "    (StgPtr)&%s_closure%s\n", c->closure, c->next != NULL ? "," : "");
    put(out, "} };\n"
             "static void stginit_export_%s(void) __attribute__((constructor));\n"
             "static void stginit_export_%s(void) { registerForeignExports((struct ForeignExportsList *)(void *)&stg_exports_%s); }\n", module->id, module->id, module->id);
}

void emitStub(const Plan *plan, Buffer *out)
{
    putOrigin(plan, out);
    put(out, "#define IN_STG_CODE 0\n");
    putIncludes(plan, out);
    putTargetCheck(plan, out);
    if (plan->pointers) putAnyPointer(out);
    putBegin(out);
    putDeclarations(plan, out);
    for (const PlanModule *m = plan->modules; m != NULL; m = m->next) {
        for (const Call *c = m->exports; c != NULL; c = c->next) emitExport(plan, c, out);
        for (const Call *c = m->imports; c != NULL; c = c->next) {
            if (c->entity.kind == ENTITY_WRAPPER) emitWrapped(plan, c, out);
            emitImport(plan, c, out);
        }
        putExportList(m, out);
    }
    putEnd(out);
}

bool compileText(Source *source, const Options *options, Buffer *stub, Buffer *header)
{
    File file = { .source = source };
    Plan plan = { .source = source };
    if (!checkText(source)) return false;
    parseFile(&file, source);
    if (!makePlan(&plan, &file, options)) return false;
    emitHeader(&plan, header);
    emitStub(&plan, stub);
    return true;
}

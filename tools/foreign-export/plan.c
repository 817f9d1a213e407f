/* From declarations to what is written: which C functions and closures there will be, and by what names. */
#include "foreign.h"

#include <string.h>

/* ---- C names: each has one meaning in a program ---- */

typedef struct CName {
    struct CName *next;
    const char *name;
    Span at;
    bool shared;             /* a closure that exports refer to: any number of times */
} CName;
enum { BUCKETS = 1024 };
typedef struct {
    Plan *plan;
    File *file;
    Types types;
    CName *names[BUCKETS];
    CName *functions[BUCKETS]; /* the names of each module's imports: "M.f" */
} Planner;

static CName *findName(CName **table, const char *name, CName ***bucket)
{
    unsigned hash = 5381;
    for (const char *c = name; *c != 0; c++) hash = hash * 33 + (unsigned char)*c;
    *bucket = &table[hash % BUCKETS];
    CName *found = **bucket;
    while (found != NULL && strcmp(found->name, name) != 0) found = found->next;
    return found;
}

static bool addTo(Planner *p, CName **table, const char *name, Span at, bool shared, const char *message)
{
    CName **bucket, *found = findName(table, name, &bucket);
    if (found != NULL && shared && found->shared) return true;
    if (found != NULL) {
        errorAt(p->plan->source, at, message, name);
        noteAt(p->plan->source, found->at, "the first one is here");
        return false;
    }
    CName *new = takeMemory(&p->plan->source->arena, sizeof *new);
    *new = (CName){ *bucket, name, at, shared };
    *bucket = new;
    return true;
}

static bool addCName(Planner *p, const char *name, Span at)
{
    return addTo(p, p->names, name, at, false, "the C name '%s' is taken: expected another one, as a string in front of the name, or other --closure-names");
}

static Arena *arenaOf(Planner *p) { return &p->plan->source->arena; }

/* ---- Closures ---- */

static const char *moduleId(Planner *p, const Module *module) { return encodeName(arenaOf(p), module->name.text, p->plan->options->names != CLOSURES_GHC); }

/* GHC gives stable names to what it exports: "$fstable:N:PACKAGE:MODULE:NAME", encoded twice. */
static const char *ghcExportName(Planner *p, const PlanModule *module, const char *name, unsigned n)
{
    Arena *arena = arenaOf(p);
    const char *inner = takeFormat(arena, ":%u:%s:%s:%s", n, p->plan->options->package, module->module->name.text, name);
    inner = takeFormat(arena, "$fstable%s", encodeName(arena, inner, false));
    return takeFormat(arena, "%s_%s", module->id, encodeName(arena, inner, false));
}

static const char *closureName(Planner *p, const PlanModule *module, const char *name)
{
    const char *encoded = encodeName(arenaOf(p), name, p->plan->options->names != CLOSURES_GHC);
    return p->plan->options->names == CLOSURES_PLAIN ? encoded : takeFormat(arenaOf(p), "%s_%s", module->id, encoded);
}

static const char *ghcWrapperName(Planner *p, const PlanModule *module, const char *name)
{
    const char *m = module->module->name.text;
    return encodeName(arenaOf(p), takeFormat(arenaOf(p), "$%s$%s$%s_%s", p->plan->options->package, m, m, name), false);
}

/* GHC counts down, so it must be known how many there are. */
static void nameExports(Planner *p, PlanModule *module)
{
    unsigned n = module->nExports;
    for (Call *c = module->exports; c != NULL; c = c->next) {
        const char *name = c->decl->name.text;
        c->closure = p->plan->options->names == CLOSURES_GHC ? ghcExportName(p, module, name, --n) : closureName(p, module, name);
        addTo(p, p->names, takeFormat(arenaOf(p), "%s_closure", c->closure), c->decl->name.at, true, "the C name '%s' of a closure is taken by a function");
    }
}

static bool nameImport(Planner *p, const PlanModule *module, Call *call)
{
    const Decl *d = call->decl;
    call->closure = closureName(p, module, d->name.text);
    call->id = takeFormat(arenaOf(p), "stub_%s", call->closure);
    if (call->entity.kind == ENTITY_WRAPPER) {
        call->wrapper = p->plan->options->names == CLOSURES_GHC ? ghcWrapperName(p, module, d->name.text) : takeFormat(arenaOf(p), "%s_wrapped", call->id);
        p->plan->adjustors = true;
    }
    const char *full = takeFormat(arenaOf(p), "%s.%s", module->module->name.text, d->name.text);
    if (!addTo(p, p->functions, full, d->name.at, false, "'%s' is declared twice")) return false;
    /* An export may export what was imported: both name one closure. */
    return addTo(p, p->names, takeFormat(arenaOf(p), "%s_closure", call->closure), d->name.at, true,
                 "the C name '%s' of a closure is taken by a function") &&
           addTo(p, p->functions, takeFormat(arenaOf(p), "%s_closure", call->closure), d->name.at, false,
                 "the closure '%s' would be defined twice: expected another name, or --closure-names=module");
}

/* ---- One declaration ---- */

static bool noBorrowedResult(Planner *p, const Signature *sig, const char *whose)
{
    if (sig->result.ownership != BORROWED) return true;
    errorAt(p->plan->source, sig->result.at, "the result of %s cannot be borrowed, since the collector moves it: expected 'Owned'", whose);
    return false;
}

static bool readExport(Planner *p, PlanModule *module, Call *call)
{
    const Decl *d = call->decl;
    if (d->convention != CONV_CCALL) return errorAt(p->plan->source, d->name.at, "what is exported is called by 'ccall'"), false;
    if (!readSignature(&p->types, d, d->type, &call->sig) || !noBorrowedResult(p, &call->sig, "an export")) return false;
    Span at = d->entity.text != NULL ? d->entity.at : d->name.at;
    bool free = addCName(p, call->entity.c_name, at);
    if (free && p->plan->options->tries)
        free = addCName(p, takeFormat(arenaOf(p), "%s_try", call->entity.c_name), at) && addCName(p, takeFormat(arenaOf(p), "%s_try_opt", call->entity.c_name), at);
    if (!free) return false;
    *module->exportsEnd = call;
    module->exportsEnd = &call->next;
    module->nExports++;
    return true;
}

static bool readImport(Planner *p, Call *call)
{
    const Decl *d = call->decl;
    switch (call->entity.kind) {
    case ENTITY_WRAPPER: return readWrapper(&p->types, d, &call->sig) && noBorrowedResult(p, &call->sig, "a \"wrapper\"");
    case ENTITY_DYNAMIC: return readDynamic(&p->types, d, &call->sig);
    case ENTITY_ADDRESS: return readAddress(&p->types, d, &call->address);
    case ENTITY_VALUE:
        if (!readSignature(&p->types, d, d->type, &call->sig)) return false;
        if (call->entity.header == NULL) return errorAt(p->plan->source, d->entity.at, "expected a header in front of 'value'"), false;
        if (call->sig.n != 0) return errorAt(p->plan->source, d->type->at, "a value takes no arguments"), false;
        if (call->sig.result.base == B_UNIT || call->sig.result.ownership != NOT_OWNED)
            return errorAt(p->plan->source, d->type->at, "the value of '%s' must have a type of C's", call->entity.c_name), false;
        return true;
    default: break;
    }
    if (!readSignature(&p->types, d, d->type, &call->sig)) return false;
    for (unsigned i = 0; call->entity.header != NULL && i < call->sig.n; i++)
        p->plan->pointers |= (call->sig.args[i].base == B_PTR && call->sig.args[i].pointee == NULL) || call->sig.args[i].base == B_FUNPTR;
    return true;
}

static void readDecl(Planner *p, PlanModule *module, const Decl *decl)
{
    Call *call = takeMemory(arenaOf(p), sizeof *call);
    call->decl = decl;
    if (!readEntity(p->plan->source, decl, &call->entity)) return;
    if (decl->kind == DECL_EXPORT) {
        readExport(p, module, call);
    } else if (readImport(p, call) && nameImport(p, module, call)) {
        *module->importsEnd = call;
        module->importsEnd = &call->next;
    }
}

static void readModule(Planner *p, PlanModule *module)
{
    module->id = moduleId(p, module->module);
    module->exportsEnd = &module->exports;
    module->importsEnd = &module->imports;
    for (const Decl *d = module->module->decls; d != NULL; d = d->next)
        if (d->kind == DECL_IMPORT || d->kind == DECL_EXPORT) readDecl(p, module, d);
    nameExports(p, module);
}

/* An export of one module and an import of another meet in a closure only if somebody means it to. */
bool makePlan(Plan *plan, File *file, const Options *options)
{
    Planner p = { .plan = plan, .file = file, .types = { .file = file, .target = options->target } };
    PlanModule **end = &plan->modules;
    *plan = (Plan){ .source = file->source, .options = options };
    end = &plan->modules;
    linkImports(file);
    checkTypes(&p.types);
    for (const Module *m = file->modules; m != NULL; m = m->next) {
        PlanModule *module = takeMemory(&plan->source->arena, sizeof *module);
        module->module = m;
        if (!addTo(&p, p.functions, takeFormat(&plan->source->arena, "module %s", m->name.text), m->name.at, false, "'%s' stands here twice")) continue;
        readModule(&p, module);
        *end = module;
        end = &module->next;
    }
    if (file->foreign == 0 && plan->source->errors == 0)
        errorAt(plan->source, (Span){ plan->source->length, plan->source->length }, "no foreign declarations, expected 'foreign import' or 'foreign export'");
    plan->targeted = p.types.targeted;
    return plan->source->errors == 0;
}

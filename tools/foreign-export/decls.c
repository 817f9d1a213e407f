/* The declarations of a file, as the parser finds them. */
#include "foreign.h"

#include <string.h>

static unsigned bucketOf(const char *name)
{
    unsigned hash = 5381;
    for (; *name != 0; name++) hash = hash * 33 + (unsigned char)*name;
    return hash % (sizeof((Module *)NULL)->types / sizeof *((Module *)NULL)->types);
}

void beginModule(File *file, Name name)
{
    if (++file->nModules > MAX_MODULES) {
        if (file->nModules == MAX_MODULES + 1) errorAt(file->source, name.at, "more than %d modules in one file", MAX_MODULES);
        return;
    }
    Module *module = takeMemory(&file->source->arena, sizeof *module);
    module->name = name;
    module->end = &module->decls;
    if (file->last == NULL) file->modules = module;
    else file->last->next = module;
    file->last = module;
}

Decl *addDecl(File *file, DeclKind kind, Name name)
{
    if (++file->decls > MAX_DECLS) {
        if (file->decls == MAX_DECLS + 1) errorAt(file->source, name.at, "more than %d declarations in one file", MAX_DECLS);
        return NULL;
    }
    /* As a Haskell file without a header is the module Main. */
    if (file->last == NULL) beginModule(file, (Name){ "Main", name.at });
    Module *module = file->last;
    Decl *decl = takeMemory(&file->source->arena, sizeof *decl);
    *decl = (Decl){ .kind = kind, .name = name, .module = module };
    *module->end = decl;
    module->end = &decl->next;
    file->foreign += kind == DECL_IMPORT || kind == DECL_EXPORT;
    if (kind == DECL_SYNONYM || kind == DECL_NEWTYPE || kind == DECL_DATA) {
        Decl **bucket = &module->types[bucketOf(name.text)];
        decl->nextType = *bucket;
        *bucket = decl;
    }
    return decl;
}

Decl *findType(const Module *module, const char *name)
{
    Decl *found = NULL;
    for (Decl *d = module->types[bucketOf(name)]; d != NULL; d = d->nextType)
        if (strcmp(d->name.text, name) == 0) found = d;
    return found;
}

static void linkImport(File *file, Module *module, Decl *decl)
{
    for (const Module *m = file->modules; decl->imported == NULL && m != NULL; m = m->next)
        if (m != module && strcmp(m->name.text, decl->name.text) == 0) decl->imported = m;
    for (const Decl *d = module->imports; d != NULL; d = d->nextImport)
        if (d->imported == decl->imported) decl->imported = NULL;
    if (decl->imported == NULL) return;
    decl->nextImport = module->imports;
    module->imports = decl;
}

void linkImports(File *file)
{
    for (Module *m = file->modules; m != NULL; m = m->next)
        for (Decl *d = m->decls; d != NULL; d = d->next)
            if (d->kind == DECL_IMPORT_MODULE) linkImport(file, m, d);
}

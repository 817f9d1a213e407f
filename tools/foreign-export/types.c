/* Types: from what is declared to what crosses.  Synonyms and newtypes are opened only as far as the question at hand needs, so that none
 * grows out of proportion; a count of the steps ends what needs itself. */
#include "foreign.h"

#include <string.h>

const char *const targetNames[TARGETS] = { "x86_64", "aarch64", "riscv64" };

const BaseInfo bases[] = {
    [B_UNIT] = { "", 'v' },        [B_CHAR] = { "Char", 'w' },      [B_INT] = { "Int", 'L' },       [B_INT8] = { "Int8", 'B' },
    [B_INT16] = { "Int16", 'S' },  [B_INT32] = { "Int32", 'W' },    [B_INT64] = { "Int64", 'L' },   [B_WORD] = { "Word", 'l' },
    [B_WORD8] = { "Word8", 'b' },  [B_WORD16] = { "Word16", 's' },  [B_WORD32] = { "Word32", 'w' }, [B_WORD64] = { "Word64", 'l' },
    [B_FLOAT] = { "Float", 'f' },  [B_DOUBLE] = { "Double", 'd' },  [B_BOOL] = { "Bool", 'L' },     [B_PTR] = { "Ptr", 'p' },
    [B_FUNPTR] = { "FunPtr", 'p' }, [B_STABLEPTR] = { "StablePtr", 'p' }, [B_STRING] = { "", 'p' },  [B_BYTES] = { "", 'p' },
};

/* ---- The types that everybody has ---- */

typedef struct {
    const char *name;
    Base base;                /* on x86-64 */
    unsigned char arity;      /* types that it is applied to */
    const char *c_name;       /* what a pointer to it is in C; NULL: unknown */
    Base aarch64, riscv64;    /* other ones there; B_UNIT: the same */
} Known;

/* The chapter's own, Foreign.C.Types, Foreign.C.String, System.Posix.Types, with the widths that GHC gives them. */
static const Known knownTypes[] = {
    { "Char", B_CHAR, 0, "HsChar", 0, 0 }, { "Int", B_INT, 0, "HsInt", 0, 0 }, { "Int8", B_INT8, 0, "int8_t", 0, 0 },
    { "Int16", B_INT16, 0, "int16_t", 0, 0 }, { "Int32", B_INT32, 0, "int32_t", 0, 0 }, { "Int64", B_INT64, 0, "int64_t", 0, 0 },
    { "Word", B_WORD, 0, "HsWord", 0, 0 }, { "Word8", B_WORD8, 0, "uint8_t", 0, 0 }, { "Word16", B_WORD16, 0, "uint16_t", 0, 0 },
    { "Word32", B_WORD32, 0, "uint32_t", 0, 0 }, { "Word64", B_WORD64, 0, "uint64_t", 0, 0 }, { "Float", B_FLOAT, 0, "float", 0, 0 },
    { "Double", B_DOUBLE, 0, "double", 0, 0 }, { "Bool", B_BOOL, 0, "HsBool", 0, 0 }, { "Ptr", B_PTR, 1, NULL, 0, 0 },
    { "FunPtr", B_FUNPTR, 1, NULL, 0, 0 }, { "StablePtr", B_STABLEPTR, 1, "HsStablePtr", 0, 0 }, { "IntPtr", B_INT, 0, "intptr_t", 0, 0 },
    { "WordPtr", B_WORD, 0, "uintptr_t", 0, 0 },
    { "CChar", B_INT8, 0, "char", B_WORD8, B_WORD8 }, { "CSChar", B_INT8, 0, "signed char", 0, 0 }, { "CUChar", B_WORD8, 0, "unsigned char", 0, 0 },
    { "CShort", B_INT16, 0, "short", 0, 0 }, { "CUShort", B_WORD16, 0, "unsigned short", 0, 0 }, { "CInt", B_INT32, 0, "int", 0, 0 },
    { "CUInt", B_WORD32, 0, "unsigned int", 0, 0 }, { "CLong", B_INT64, 0, "long", 0, 0 }, { "CULong", B_WORD64, 0, "unsigned long", 0, 0 },
    { "CLLong", B_INT64, 0, "long long", 0, 0 }, { "CULLong", B_WORD64, 0, "unsigned long long", 0, 0 }, { "CBool", B_WORD8, 0, "bool", 0, 0 },
    { "CFloat", B_FLOAT, 0, "float", 0, 0 }, { "CDouble", B_DOUBLE, 0, "double", 0, 0 }, { "CPtrdiff", B_INT64, 0, "ptrdiff_t", 0, 0 },
    { "CSize", B_WORD64, 0, "size_t", 0, 0 }, { "CWchar", B_INT32, 0, "wchar_t", B_WORD32, 0 }, { "CSigAtomic", B_INT32, 0, "int", 0, 0 },
    { "CIntPtr", B_INT64, 0, "intptr_t", 0, 0 }, { "CUIntPtr", B_WORD64, 0, "uintptr_t", 0, 0 }, { "CIntMax", B_INT64, 0, "intmax_t", 0, 0 },
    { "CUIntMax", B_WORD64, 0, "uintmax_t", 0, 0 }, { "CClock", B_INT64, 0, "long", 0, 0 }, { "CTime", B_INT64, 0, "long", 0, 0 },
    { "CUSeconds", B_WORD32, 0, "unsigned int", 0, 0 }, { "CSUSeconds", B_INT64, 0, "long", 0, 0 },
    { "CDev", B_WORD64, 0, "unsigned long", 0, 0 }, { "CIno", B_WORD64, 0, "unsigned long", 0, 0 }, { "CMode", B_WORD32, 0, "unsigned int", 0, 0 },
    { "COff", B_INT64, 0, "long", 0, 0 }, { "CPid", B_INT32, 0, "int", 0, 0 }, { "CSsize", B_INT64, 0, "long", 0, 0 },
    { "CGid", B_WORD32, 0, "unsigned int", 0, 0 }, { "CUid", B_WORD32, 0, "unsigned int", 0, 0 },
    { "CNlink", B_WORD64, 0, NULL, B_WORD32, B_WORD32 }, { "CCc", B_WORD8, 0, "unsigned char", 0, 0 },
    { "CSpeed", B_WORD32, 0, "unsigned int", 0, 0 }, { "CTcflag", B_WORD32, 0, "unsigned int", 0, 0 }, { "CRLim", B_WORD64, 0, "unsigned long", 0, 0 },
    { "CBlkSize", B_INT64, 0, NULL, B_INT32, B_INT32 }, { "CBlkCnt", B_INT64, 0, "long", 0, 0 }, { "CClockId", B_INT32, 0, "int", 0, 0 },
    { "CFsBlkCnt", B_WORD64, 0, "unsigned long", 0, 0 }, { "CFsFilCnt", B_WORD64, 0, "unsigned long", 0, 0 }, { "CId", B_WORD32, 0, "unsigned int", 0, 0 },
    { "CKey", B_INT32, 0, "int", 0, 0 }, { "CTimer", B_PTR, 0, NULL, 0, 0 }, { "CSocklen", B_WORD32, 0, "unsigned int", 0, 0 },
    { "CNfds", B_WORD64, 0, "unsigned long", 0, 0 }, { "Fd", B_INT32, 0, "int", 0, 0 }, { "Errno", B_INT32, 0, "int", 0, 0 },
    { "CString", B_PTR, 0, "char *", 0, 0 }, { "CWString", B_PTR, 0, "wchar_t *", 0, 0 },
};

/* What has a meaning and cannot cross, or only in another form. */
static const struct { const char *name, *advice; } refusedTypes[] = {
    { "IO", "an action is a result, no argument" }, { "String", "expected 'Borrowed CString', 'Owned CString' or 'CString', a pointer" },
    { "Text", "expected 'Borrowed CString' or 'Owned CString'" }, { "ByteString", "expected 'Borrowed ByteArray' or 'Owned ByteArray'" },
    { "ByteArray", "expected 'Borrowed ByteArray' or 'Owned ByteArray'" }, { "CStringLen", "expected 'Borrowed ByteArray', or a pointer and a length" },
    { "CWStringLen", "expected a pointer and a length" }, { "Integer", "expected 'Int64' or another type of a fixed width" },
    { "Rational", "expected 'Double'" }, { "Maybe", "expected a type of the FFI chapter" }, { "Either", "expected a type of the FFI chapter" },
    { "Ordering", "expected 'Int'" }, { "ForeignPtr", "expected 'Ptr'" }, { "CFile", "expected 'Ptr CFile'" }, { "CFpos", "expected 'Ptr CFpos'" },
    { "CJmpBuf", "expected 'Ptr CJmpBuf'" }, { "Borrowed", "expected 'Borrowed CString' or 'Borrowed ByteArray'" },
    { "Owned", "expected 'Owned CString' or 'Owned ByteArray'" },
};

static const Known *findKnown(const char *name)
{
    for (size_t i = 0; i < sizeof knownTypes / sizeof *knownTypes; i++)
        if (strcmp(knownTypes[i].name, name) == 0) return &knownTypes[i];
    return NULL;
}

static const char *findAdvice(const char *name)
{
    for (size_t i = 0; i < sizeof refusedTypes / sizeof *refusedTypes; i++)
        if (strcmp(refusedTypes[i].name, name) == 0) return refusedTypes[i].advice;
    return NULL;
}

/* ---- The types that the file declares ---- */

static bool declaresType(const Decl *d) { return d->kind == DECL_SYNONYM || d->kind == DECL_NEWTYPE || d->kind == DECL_DATA; }

/* In the module itself, then in those of this file that it imports. */
static const Decl *findDeclared(const Module *module, const char *name)
{
    const Decl *found = findType(module, name);
    for (const Decl *d = module->imports; found == NULL && d != NULL; d = d->nextImport) found = findType(d->imported, name);
    return found;
}

/* ---- Opening types ---- */

/* A type, where its parameters are bound to others. */
typedef struct Bound { const Type *type; const struct Env *env; const Module *module; } Bound;
typedef struct Env { const struct Env *next; const char *name; Bound bound; } Env;

typedef struct {
    Types *types;
    const Decl *decl;
    Span at;              /* what to point at in messages: always of the declaration itself */
    unsigned steps;
} Opening;

enum { MAX_APPLIED = 32 };
/* A type down to what it is headed by. */
typedef struct {
    const Type *head;     /* CON (nothing that can be opened), VAR, ARROW, UNIT, TUPLE, LIST */
    Bound self, args[MAX_APPLIED];
    unsigned n;
} Head;

static Source *sourceOf(const Opening *o) { return o->types->file->source; }

static const Env *bindParams(Opening *o, const Decl *d, Head *head)
{
    const Env *env = NULL;
    unsigned n = 0;
    for (const NameList *p = d->params; p != NULL; p = p->next, n++) {
        if (n == head->n) {
            errorAt(sourceOf(o), o->at, "the type '%s' is applied to too few types: it has more than %u parameters", d->name.text, n);
            return NULL;
        }
        Env *e = takeMemory(&sourceOf(o)->arena, sizeof *e);
        *e = (Env){ env, p->name.text, head->args[n] };
        env = e;
    }
    memmove(head->args, head->args + n, (head->n - n) * sizeof *head->args);
    head->n -= n;
    return env != NULL ? env : takeMemory(&sourceOf(o)->arena, sizeof *env);
}

static const Env *lookUp(const Env *env, const char *name)
{
    while (env != NULL && (env->name == NULL || strcmp(env->name, name) != 0)) env = env->next;
    return env;
}

/* Put the arguments of an application before those that are there. */
static bool unwind(Opening *o, Bound *b, Head *head)
{
    while (b->type->kind == TYPE_APPLY) {
        if (head->n == MAX_APPLIED) return errorAt(sourceOf(o), o->at, "a type applied to more than %d types", MAX_APPLIED), false;
        memmove(head->args + 1, head->args, head->n++ * sizeof *head->args);
        head->args[0] = (Bound){ b->type->right, b->env, b->module };
        b->type = b->type->left;
    }
    return true;
}

/* One step: a parameter, a synonym or a newtype.  1: done; 0: nothing to open; -1: reported. */
static int openOnce(Opening *o, Bound *b, Head *head)
{
    if (b->type->kind == TYPE_VAR) {
        const Env *e = lookUp(b->env, b->type->name);
        if (e == NULL) return 0;
        *b = e->bound;
        return 1;
    }
    const Decl *d = b->type->kind == TYPE_CON ? findDeclared(b->module, b->type->name) : NULL;
    if (d == NULL || d->kind == DECL_DATA) return 0;
    const Env *env = bindParams(o, d, head);
    if (env == NULL) return -1;
    *b = (Bound){ d->type, env, d->module };
    return 1;
}

static bool openType(Opening *o, Bound b, Head *head)
{
    *head = (Head){ .n = 0 };
    for (;;) {
        if (!unwind(o, &b, head)) return false;
        int opened = openOnce(o, &b, head);
        if (opened < 0) return false;
        if (opened == 0) break;
        if (++o->steps > MAX_STEPS) {
            errorAt(sourceOf(o), o->at, "this type is declared by way of itself, or too deeply (more than %d steps)", MAX_STEPS);
            return false;
        }
    }
    head->head = b.type;
    head->self = b;
    return true;
}

/* ---- What crosses ---- */

static Base baseOn(const Known *k, Types *types)
{
    if (k->aarch64 != B_UNIT || k->riscv64 != B_UNIT) types->targeted = true;
    Base other = types->target == TARGET_AARCH64 ? k->aarch64 : types->target == TARGET_RISCV64 ? k->riscv64 : B_UNIT;
    return other != B_UNIT ? other : k->base;
}

/* "char *" for Ptr (Ptr CChar) and so on, where all is known. */
static const char *pointeeOf(Opening *o, Bound b)
{
    Head head;
    unsigned stars = 0;
    for (;; stars++) {
        if (!openType(o, b, &head) || head.head->kind != TYPE_CON || findDeclared(head.self.module, head.head->name) != NULL) return NULL;
        if (strcmp(head.head->name, "Ptr") != 0 || head.n != 1 || stars == 8) break;
        b = head.args[0];
    }
    const Known *k = findKnown(head.head->name);
    if (k == NULL || k->arity != head.n || k->c_name == NULL || k->base == B_FUNPTR) return NULL;
    bool starred = k->c_name[strlen(k->c_name) - 1] == '*';
    return takeFormat(&sourceOf(o)->arena, "%s%s%.*s", k->c_name, stars > 0 && !starred ? " " : "", (int)stars, "********");
}

/* Borrowed or Owned, applied to CString or ByteArray. */
static bool readOwned(Opening *o, const Head *head, Value *value)
{
    Head what;
    value->ownership = strcmp(head->head->name, "Owned") == 0 ? OWNED : BORROWED;
    if (head->n != 1) return errorAt(sourceOf(o), o->at, "%s", findAdvice(head->head->name)), false;
    /* CString is a synonym of nothing here, so opening it leaves it. */
    if (!openType(o, head->args[0], &what)) return false;
    if (what.head->kind == TYPE_CON && what.n == 0 && strcmp(what.head->name, "CString") == 0) value->base = B_STRING;
    else if (what.head->kind == TYPE_CON && what.n == 0 && strcmp(what.head->name, "ByteArray") == 0) value->base = B_BYTES;
    else return errorAt(sourceOf(o), o->at, "'%s' says who frees a 'CString' or a 'ByteArray', and nothing else", head->head->name), false;
    return true;
}

static bool readCon(Opening *o, const Head *head, Value *value)
{
    const char *name = head->head->name;
    const Decl *declared = findDeclared(head->self.module, name);
    if (declared != NULL) {
        errorAt(sourceOf(o), o->at, "the type '%s' cannot cross: it is declared by 'data', expected 'newtype', or 'Ptr %s'", name, name);
        return noteAt(sourceOf(o), declared->name.at, "declared here"), false;
    }
    if (strcmp(name, "Borrowed") == 0 || strcmp(name, "Owned") == 0) return readOwned(o, head, value);
    const Known *k = findKnown(name);
    const char *advice = findAdvice(name);
    if (k == NULL && advice != NULL) return errorAt(sourceOf(o), o->at, "the type '%s' cannot cross: %s", name, advice), false;
    if (k == NULL) return false; /* checkTypes has said it */
    if (head->n != k->arity) return errorAt(sourceOf(o), o->at, "the type '%s' takes %s, found %u", name, k->arity == 1 ? "one type" : "no types", head->n), false;
    value->base = baseOn(k, o->types);
    if (value->base == B_PTR) value->pointee = k->c_name != NULL ? takeText(&sourceOf(o)->arena, k->c_name, strcspn(k->c_name, " *")) : k->arity == 1 ? pointeeOf(o, head->args[0]) : NULL;
    return true;
}

static bool readValue(Opening *o, Bound b, Value *value)
{
    Head head;
    *value = (Value){ .at = o->at };
    if (!openType(o, b, &head)) return false;
    switch (head.head->kind) {
    case TYPE_CON: return readCon(o, &head, value);
    case TYPE_UNIT: return errorAt(sourceOf(o), o->at, "'()' is a result, no argument"), false;
    case TYPE_VAR: return errorAt(sourceOf(o), o->at, "a type variable cannot cross, expected a type of the FFI chapter"), false;
    case TYPE_ARROW: return errorAt(sourceOf(o), o->at, "a function cannot cross, expected 'FunPtr (...)'"), false;
    case TYPE_TUPLE: return errorAt(sourceOf(o), o->at, "a tuple cannot cross, expected a type of the FFI chapter"), false;
    default: return errorAt(sourceOf(o), o->at, "a list cannot cross, expected a pointer, 'Borrowed ByteArray' or 'Owned ByteArray'"), false;
    }
}

/* Messages point at the part of the declaration that a type came from, not into the declaration of a synonym. */
static Span spanOf(const Opening *o, Bound b) { return b.env == NULL ? b.type->at : o->at; }

static bool readResult(Opening *o, Bound b, Signature *sig)
{
    Head head;
    if (!openType(o, b, &head)) return false;
    if (head.head->kind == TYPE_CON && strcmp(head.head->name, "IO") == 0 && head.n == 1) {
        sig->io = true;
        b = head.args[0];
        o->at = spanOf(o, b);
        if (!openType(o, b, &head)) return false;
    }
    sig->result = (Value){ .at = o->at };
    if (head.head->kind == TYPE_UNIT) return true;
    return readValue(o, b, &sig->result);
}

static bool readArrows(Opening *o, Bound b, Signature *sig)
{
    Span whole = o->at;
    *sig = (Signature){ 0 };
    for (;;) {
        Head head;
        o->at = b.env == NULL ? b.type->at : whole;
        if (!openType(o, b, &head)) return false;
        if (head.head->kind != TYPE_ARROW) break;
        const Bound from = { head.head->left, head.self.env, head.self.module };
        o->at = from.env == NULL ? from.type->at : whole;
        if (sig->n == MAX_ARGS) return errorAt(sourceOf(o), o->at, "more than %d arguments", MAX_ARGS), false;
        if (!readValue(o, from, &sig->args[sig->n])) return false;
        sig->n++;
        b = (Bound){ head.head->right, head.self.env, head.self.module };
        if (b.env == NULL) whole = b.type->at;
    }
    return readResult(o, b, sig);
}

static Opening begin(Types *types, const Decl *decl) { return (Opening){ .types = types, .decl = decl, .at = decl->type->at }; }

bool readSignature(Types *types, const Decl *decl, const Type *type, Signature *sig)
{
    Opening o = begin(types, decl);
    o.at = type->at;
    return readArrows(&o, (Bound){ type, NULL, decl->module }, sig);
}

/* ---- wrapper, dynamic, addresses ---- */

static bool isSame(const Signature *a, const Signature *b)
{
    if (a->n != b->n || a->io != b->io || a->result.base != b->result.base || a->result.ownership != b->result.ownership) return false;
    for (unsigned i = 0; i < a->n; i++)
        if (a->args[i].base != b->args[i].base || a->args[i].ownership != b->args[i].ownership) return false;
    return true;
}

/* b is FunPtr of a type that has the same parts as sig. */
static bool pointsTo(Opening *o, Bound b, const Signature *sig, const char *expected)
{
    Head head;
    Signature of;
    o->at = spanOf(o, b);
    if (!openType(o, b, &head)) return false;
    if (head.head->kind != TYPE_CON || strcmp(head.head->name, "FunPtr") != 0 || head.n != 1)
        return errorAt(sourceOf(o), o->at, "%s", expected), false;
    if (!readArrows(o, head.args[0], &of)) return false;
    if (!isSame(&of, sig)) return errorAt(sourceOf(o), o->decl->type->at, "the function and what the 'FunPtr' points to have different types, %s", expected), false;
    return true;
}

bool readWrapper(Types *types, const Decl *decl, Signature *of)
{
    static const char expected[] = "expected 't -> IO (FunPtr t)' for \"wrapper\"";
    Opening o = begin(types, decl);
    Head head, result;
    if (!openType(&o, (Bound){ decl->type, NULL, decl->module }, &head)) return false;
    if (head.head->kind != TYPE_ARROW) return errorAt(sourceOf(&o), o.at, "%s", expected), false;
    Bound from = { head.head->left, head.self.env, head.self.module }, to = { head.head->right, head.self.env, head.self.module };
    o.at = spanOf(&o, from);
    if (!readArrows(&o, from, of)) return false;
    o.at = spanOf(&o, to);
    if (!openType(&o, to, &result)) return false;
    if (result.head->kind != TYPE_CON || strcmp(result.head->name, "IO") != 0 || result.n != 1)
        return errorAt(sourceOf(&o), o.at, "%s", expected), false;
    return pointsTo(&o, result.args[0], of, expected);
}

bool readDynamic(Types *types, const Decl *decl, Signature *of)
{
    static const char expected[] = "expected 'FunPtr t -> t' for \"dynamic\"";
    Opening o = begin(types, decl);
    Head head;
    if (!openType(&o, (Bound){ decl->type, NULL, decl->module }, &head)) return false;
    if (head.head->kind != TYPE_ARROW) return errorAt(sourceOf(&o), o.at, "%s", expected), false;
    Bound from = { head.head->left, head.self.env, head.self.module }, to = { head.head->right, head.self.env, head.self.module };
    o.at = spanOf(&o, to);
    if (!readArrows(&o, to, of)) return false;
    if (of->n == MAX_ARGS) return errorAt(sourceOf(&o), o.at, "more than %d arguments, the function pointer among them", MAX_ARGS), false;
    return pointsTo(&o, from, of, expected);
}

bool readAddress(Types *types, const Decl *decl, Value *value)
{
    Opening o = begin(types, decl);
    if (!readValue(&o, (Bound){ decl->type, NULL, decl->module }, value)) return false;
    if (value->base == B_PTR || value->base == B_FUNPTR) return true;
    return errorAt(sourceOf(&o), o.at, "the address of something is a 'Ptr' or a 'FunPtr'"), false;
}

/* ---- Declarations of types by themselves ---- */

static void checkNames(Types *types, const Decl *decl, const Type *type, unsigned depth)
{
    for (; type != NULL && depth < MAX_STEPS; type = type->kind == TYPE_APPLY ? type->left : type->right) {
        const char *name = type->name;
        if (type->kind == TYPE_CON && findDeclared(decl->module, name) == NULL && findKnown(name) == NULL && findAdvice(name) == NULL)
            errorAt(types->file->source, type->at, "unknown type '%s', expected one of the FFI chapter or of Foreign.C.Types, or a declaration: 'type', 'newtype', or 'data %s' for what pointers point to", name, name);
        if (type->kind == TYPE_APPLY) checkNames(types, decl, type->right, depth + 1);
        else checkNames(types, decl, type->left, depth + 1);
    }
}

static void checkParams(Types *types, const Decl *d)
{
    for (const NameList *p = d->params; p != NULL; p = p->next)
        for (const NameList *q = d->params; q != p; q = q->next)
            if (strcmp(p->name.text, q->name.text) == 0) {
                errorAt(types->file->source, p->name.at, "the parameter '%s' stands here twice", p->name.text);
                return;
            }
}

void checkTypes(Types *types)
{
    for (const Module *m = types->file->modules; m != NULL; m = m->next)
        for (const Decl *d = m->decls; d != NULL; d = d->next) {
            if (declaresType(d)) {
                const Decl *first = findType(m, d->name.text);
                checkParams(types, d);
                if (first != d) {
                    errorAt(types->file->source, d->name.at, "the type '%s' is declared twice", d->name.text);
                    noteAt(types->file->source, first->name.at, "declared here first");
                }
            }
            if (d->type != NULL) checkNames(types, d, d->type, 0);
        }
}

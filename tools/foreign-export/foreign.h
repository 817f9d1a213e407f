/* foreign.h: capstan-foreign reads foreign declarations and writes C.
 *
 *     text --scan.l, parse.y--> declarations (File) --types.c, entity.c, check.c--> plan (Call) --emit*.c--> C text
 *
 * All of it works in memory and keeps no state between runs: the fuzzer runs it many times in one process.  Only main.c and
 * output.c touch files.  Running out of memory ends the program (takeMemory). */
#ifndef FOREIGN_H
#define FOREIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- Limits, as doc/foreign.md gives them ---- */
enum {
    MAX_FILE = 16 << 20,     /* bytes of a file */
    MAX_LINE = 4096,         /* bytes of a line */
    MAX_NAME = 255,          /* bytes of a name, and of an entity string */
    MAX_DECLS = 4096,        /* declarations in a file */
    MAX_MODULES = 256,
    MAX_ARGS = 23,           /* arguments; the runtime's CAPSTAN_MAX_ARITY, less the world that actions take */
    MAX_STEPS = 1000,        /* synonyms and newtypes opened in one type */
    MAX_ERRORS = 50,         /* reported in a run */
};

/* ---- Memory ---- */

typedef struct { struct Chunk *chunks; } Arena;
void *takeMemory(Arena *arena, size_t size);                 /* zeroed; never NULL */
char *takeText(Arena *arena, const char *text, size_t length); /* a copy, ended by a zero */
char *takeFormat(Arena *arena, const char *format, ...) __attribute__((format(printf, 2, 3), nonnull(2)));
void freeArena(Arena *arena);

typedef struct { char *text; size_t length, room; } Buffer;  /* text: ended by a zero once something was put */
void put(Buffer *buffer, const char *format, ...) __attribute__((format(printf, 2, 3), nonnull(2)));
void putBytes(Buffer *buffer, const char *bytes, size_t length);
void freeBuffer(Buffer *buffer);

/* ---- The text, and what is wrong with it ---- */

typedef struct { size_t begin, end; } Span;                  /* bytes of the text, end excluded */

typedef struct {
    const char *name;        /* of the file, for messages */
    const char *text;
    size_t length;
    Buffer messages;
    unsigned errors;
    Arena arena;
} Source;

/* FILE:LINE:COLUMN: error: ..., the line, and a caret.  Columns count characters. */
void errorAt(Source *source, Span at, const char *format, ...) __attribute__((format(printf, 3, 4)));
void noteAt(Source *source, Span at, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Without a place in the file. */
void errorIn(Source *source, const char *format, ...) __attribute__((format(printf, 2, 3), nonnull(2)));
/* What can be said of the text before it is read: size, lines, NUL bytes, UTF-8. */
bool checkText(Source *source);

/* ---- Declarations ---- */

typedef struct { const char *text; Span at; } Name;          /* text NULL: left out */

typedef enum { TYPE_CON, TYPE_VAR, TYPE_APPLY, TYPE_ARROW, TYPE_UNIT, TYPE_TUPLE, TYPE_LIST } TypeKind;
typedef struct Type {
    TypeKind kind;
    Span at;
    const char *name;                 /* CON, VAR */
    const struct Type *left, *right;  /* APPLY: function and argument; ARROW: from and to; LIST: left; TUPLE: its first two */
} Type;

typedef struct NameList { struct NameList *next; Name name; } NameList;

typedef enum { DECL_IMPORT_MODULE, DECL_SYNONYM, DECL_NEWTYPE, DECL_DATA, DECL_IMPORT, DECL_EXPORT } DeclKind;
typedef enum { CONV_CCALL, CONV_CAPI } Convention;
typedef enum { SAFE, UNSAFE, INTERRUPTIBLE } Safety;
typedef struct Decl {
    struct Decl *next;
    struct Decl *nextType;            /* in its bucket of Module.types */
    DeclKind kind;
    Name name;                        /* of the module, type or function */
    NameList *params;                 /* SYNONYM, NEWTYPE, DATA */
    const Type *type;
    Convention convention;            /* IMPORT, EXPORT */
    Safety safety;                    /* IMPORT */
    Name entity;                      /* the string, without its quotes; its place has them */
    struct Module *module;            /* where it stands */
    const struct Module *imported;    /* IMPORT_MODULE: that module of this file, if it is here */
    struct Decl *nextImport;
} Decl;

typedef struct Module {
    struct Module *next;
    Name name;
    Decl *decls, **end;
    Decl *types[64];                  /* declared here, by a hash of the name; the first of a name comes last */
    Decl *imports;                    /* of modules of this file, each once */
} Module;

typedef struct {
    Source *source;
    Module *modules, *last;
    unsigned decls, foreign, nModules; /* how many */
} File;

/* Read the declarations.  What is wrong is reported, and what could be read is kept. */
void parseFile(File *file, Source *source);
/* For parse.y. */
Decl *addDecl(File *file, DeclKind kind, Name name); /* NULL: too many, reported */
void beginModule(File *file, Name name);
/* Which modules of the file import which others. */
void linkImports(File *file);
Decl *findType(const Module *module, const char *name); /* declared in it */

/* ---- Types ---- */

/* How a value crosses: the C type HsX, by rts_mkX and rts_getX. */
typedef enum {
    B_UNIT, B_CHAR, B_INT, B_INT8, B_INT16, B_INT32, B_INT64, B_WORD, B_WORD8, B_WORD16, B_WORD32, B_WORD64, B_FLOAT, B_DOUBLE,
    B_BOOL, B_PTR, B_FUNPTR, B_STABLEPTR, B_STRING, B_BYTES
} Base;
typedef enum { NOT_OWNED, BORROWED, OWNED } Ownership;       /* strings and byte arrays are one of the last two */
typedef struct {
    Base base;
    Ownership ownership;
    const char *pointee;              /* PTR: the C type that it is known to point to, as "char" or "char *"; NULL: unknown */
    Span at;
} Value;

typedef struct {
    unsigned n;
    Value args[MAX_ARGS + 1];
    Value result;
    bool io;
} Signature;

typedef struct { const char *suffix; char letter; } BaseInfo; /* Hs<suffix>; its letter in a type string of createAdjustor */
extern const BaseInfo bases[];

typedef enum { TARGET_X86_64, TARGET_AARCH64, TARGET_RISCV64, TARGETS } Target;
extern const char *const targetNames[TARGETS];

typedef struct {
    File *file;
    Target target;
    bool targeted;                    /* [out] a type was met whose width or sign is another one on other targets */
} Types;

/* The type of a foreign declaration as arguments and a result.  false: reported. */
bool readSignature(Types *types, const Decl *decl, const Type *type, Signature *sig);
/* The same for the types of "wrapper" and "dynamic": of: what the FunPtr points to; for dynamic the other arguments are in sig. */
bool readWrapper(Types *types, const Decl *decl, Signature *of);
bool readDynamic(Types *types, const Decl *decl, Signature *of);
/* "&name": a Ptr or a FunPtr. */
bool readAddress(Types *types, const Decl *decl, Value *value);
/* Report types that are declared twice, and names that nobody declares. */
void checkTypes(Types *types);

/* ---- Entity strings ---- */

typedef enum { ENTITY_FUNCTION, ENTITY_ADDRESS, ENTITY_VALUE, ENTITY_DYNAMIC, ENTITY_WRAPPER } EntityKind;
typedef struct {
    EntityKind kind;
    const char *header;               /* NULL: none */
    const char *c_name;
} Entity;
bool readEntity(Source *source, const Decl *decl, Entity *entity);

/* ---- Names ---- */

typedef enum { CLOSURES_PLAIN, CLOSURES_MODULE, CLOSURES_GHC } ClosureNames;
bool isCName(const char *name);
bool isCWord(const char *name);       /* a keyword of C11 or C++17, or another word that no function can have as its name */
/* A name in the letters of C, as GHC encodes it; plain leaves letters, digits and underscores as they are. */
const char *encodeName(Arena *arena, const char *name, bool plain);

/* ---- The plan: what is written ---- */

typedef struct Call {
    struct Call *next;
    const Decl *decl;
    Entity entity;
    Signature sig;                    /* WRAPPER, DYNAMIC: of the function pointed to */
    Value address;                    /* ADDRESS */
    const char *id;                   /* what static names are made of */
    const char *closure;              /* without _closure */
    const char *wrapper;              /* WRAPPER: the name of its C function */
} Call;

typedef struct {
    ClosureNames names;
    const char *package;              /* GHC's names have it */
    Target target;
    const char *stub_header;          /* as the stub includes it */
    bool tries;                       /* NAME_try and NAME_try_opt too */
} Options;

typedef struct PlanModule {
    struct PlanModule *next;
    const Module *module;
    const char *id;
    Call *exports, **exportsEnd, *imports, **importsEnd;
    unsigned nExports;
} PlanModule;

typedef struct {
    Source *source;
    const Options *options;
    PlanModule *modules;
    bool targeted;
    bool pointers;                    /* a C function of a header gets a pointer of an unknown type */
    bool adjustors;
} Plan;

bool makePlan(Plan *plan, File *file, const Options *options);

/* ---- What is written ---- */

/* Each source into C text.  false: something was reported. */
bool compileText(Source *source, const Options *options, Buffer *stub, Buffer *header);
void emitHeader(const Plan *plan, Buffer *out);
void emitStub(const Plan *plan, Buffer *out);
void emitExport(const Plan *plan, const Call *call, Buffer *out);
void emitImport(const Plan *plan, const Call *call, Buffer *out);
/* The C function behind the adjustors of a wrapper import. */
void emitWrapped(const Plan *plan, const Call *call, Buffer *out);

/* A parameter of a C function; a byte array is two, and the length of one that is a result another. */
typedef struct { const char *type, *name; bool integer; } Param;
enum { MAX_PARAMS = 2 * (MAX_ARGS + 1) + 1 };
unsigned listParams(Arena *arena, const Signature *sig, Param *params);
/* "HsInt a1, HsPtr a2", or "void".  front: what comes before them, or "". */
void putParams(Arena *arena, const Signature *sig, const char *front, Buffer *out);
const char *valueType(Arena *arena, const Value *value);  /* "HsInt", "const char *" */
const char *declare(Arena *arena, const char *type, const char *name);
/* Without ; or {. */
void putPrototype(const Plan *plan, const Call *call, Buffer *out);
void putTryPrototype(const Plan *plan, const Call *call, bool opt, Buffer *out);
void putWrapperPrototype(const Plan *plan, const Call *call, Buffer *out);

/* ---- Files ---- */

/* The whole file ("-": standard input) into text.  false: *why says why, errno-like text. */
bool readWhole(const char *path, Buffer *text, const char **why);
/* Replace files together: all are written beside their names, then all are renamed.  A text equal to what is there leaves the file
 * alone.  false: reported on standard error, nothing was changed (but for a rename that failed after another). */
typedef struct { const char *path; const Buffer *text; char *temporary; } Output;
bool writeAll(const char *program, Output *outputs, size_t n);

#endif

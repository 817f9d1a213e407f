%code top {
/* The grammar of foreign declarations: chapter 8 of the Haskell 2010 report, and the declarations of types that it needs. */
}
%require "3.6"
%define api.pure full
%define parse.error custom
%define parse.lac full
%define api.location.type {Span}
%locations
%param { Reader *reader }
%expect 0

%code requires {
#include "parse.h"

/* The entity string and the name. */
typedef struct { Name entity, name; } What;
}

%code provides {
int nextToken(YYSTYPE *value, Span *at, Reader *reader);
}

%union {
    const char *text;
    Name name;
    NameList *names;
    const Type *type;
    What what;
    Safety safety;
    Convention convention;
}

%code {
#include <string.h>

#define yylex nextToken
#define YYMAXDEPTH 1000
#define YYINITDEPTH 1000 /* it does not grow */
#define YYLLOC_DEFAULT(now, rhs, n)                                                                    \
    do {                                                                                               \
        (now).begin = (n) != 0 ? YYRHSLOC(rhs, 1).begin : YYRHSLOC(rhs, 0).end;                        \
        (now).end = YYRHSLOC(rhs, n).end;                                                              \
    } while (0)

static void yyerror(const Span *at, Reader *reader, const char *text);
static Type *newType(Reader *reader, TypeKind kind, Span at, const char *name, const Type *left, const Type *right);
static NameList *addName(Reader *reader, NameList *names, Name name);
static void foreign(Reader *reader, DeclKind kind, Convention convention, Safety safety, What what, const Type *type);
static void typeDecl(Reader *reader, DeclKind kind, Name name, NameList *params, const Type *type);
}

%token END 0 "the end of the file"
%token FOREIGN "'foreign'" IMPORT "'import'" EXPORT "'export'" MODULE "'module'" WHERE "'where'" TYPE "'type'" NEWTYPE "'newtype'"
%token DATA "'data'" DERIVING "'deriving'" FORALL "'forall'"
%token <text> CCALL "'ccall'" CAPI "'capi'" SAFE_WORD "'safe'" UNSAFE_WORD "'unsafe'" INTERRUPTIBLE_WORD "'interruptible'"
%token <text> QUALIFIED "'qualified'" AS "'as'" HIDING "'hiding'"
%token DOT_DOT "'..'" DOUBLE_COLON "'::'" ARROW "'->'" DOUBLE_ARROW "'=>'"
%token <text> VARID "a name" CONID "a name with a capital" QCONID "a qualified name" STRING "a string" SYMBOL "an operator"
%token LPAREN "'('" LBRACKET "'['" SEMICOLON "';'"
%token NUMBER "a number" STRAY "a character that begins nothing"

%type <name> var tyvar con conname tycon
%type <what> what
%type <names> tyvars
%type <type> type btype atype types
%type <safety> safety
%type <convention> convention

%%

file: decls ;

decls:
    decl
  | decls SEMICOLON { yyerrok; } decl
  ;

decl:
    %empty
  | module
  | import
  | TYPE tycon tyvars '=' type               { typeDecl(reader, DECL_SYNONYM, $2, $3, $5); }
  | NEWTYPE tycon tyvars '=' con atype deriving
      { typeDecl(reader, DECL_NEWTYPE, $2, $3, $6); }
  | NEWTYPE tycon tyvars '=' con '{' var DOUBLE_COLON type '}' deriving
      { typeDecl(reader, DECL_NEWTYPE, $2, $3, $9); }
  | DATA tycon tyvars                        { typeDecl(reader, DECL_DATA, $2, $3, NULL); }
  | FOREIGN IMPORT convention what DOUBLE_COLON type
      { foreign(reader, DECL_IMPORT, $3, SAFE, $4, $6); }
  | FOREIGN IMPORT convention safety what DOUBLE_COLON type
      { foreign(reader, DECL_IMPORT, $3, $4, $5, $7); }
  | FOREIGN EXPORT convention what DOUBLE_COLON type
      { foreign(reader, DECL_EXPORT, $3, SAFE, $4, $6); }
  | error
  ;

module:
    MODULE conname exports WHERE             { beginModule(reader->file, $2); }
  ;
exports: %empty | LPAREN things ')' ;
things: %empty | thing | things ',' | things ',' thing ;
thing:
    var | tycon | tycon LPAREN names ')' | MODULE conname
  ;
names: %empty | name | names ',' name ;
name: var | con | DOT_DOT ;

import:
    IMPORT conname asPart list                     { addDecl(reader->file, DECL_IMPORT_MODULE, $2); }
  | IMPORT QUALIFIED conname asPart list           { addDecl(reader->file, DECL_IMPORT_MODULE, $3); }
  ;
asPart: %empty | QUALIFIED | AS conname | QUALIFIED AS conname ;
list: %empty | LPAREN things ')' | HIDING LPAREN things ')' ;

deriving: %empty | deriving DERIVING strategy classes ;
strategy: %empty | NEWTYPE | VARID ;
classes: conname | LPAREN ')' | LPAREN classList ')' ;
classList: conname | classList ',' conname ;

convention:
    CCALL { $$ = CONV_CCALL; }
  | CAPI  { $$ = CONV_CAPI; }
  | VARID {
        errorAt(reader->source, @1, "unknown calling convention '%s', expected 'ccall' or 'capi'", $1);
        $$ = CONV_CCALL;
    }
  ;
safety:
    SAFE_WORD          { $$ = SAFE; }
  | UNSAFE_WORD        { $$ = UNSAFE; }
  | INTERRUPTIBLE_WORD { $$ = INTERRUPTIBLE; }
  ;
what:
    var        { $$ = (What){ { NULL, @1 }, $1 }; }
  | STRING var { $$ = (What){ { $1, @1 }, $2 }; }
  ;
var:
    VARID              { $$ = (Name){ $1, @1 }; }
  | CCALL              { $$ = (Name){ $1, @1 }; }
  | CAPI               { $$ = (Name){ $1, @1 }; }
  | SAFE_WORD          { $$ = (Name){ $1, @1 }; }
  | UNSAFE_WORD        { $$ = (Name){ $1, @1 }; }
  | INTERRUPTIBLE_WORD { $$ = (Name){ $1, @1 }; }
  | QUALIFIED          { $$ = (Name){ $1, @1 }; }
  | AS                 { $$ = (Name){ $1, @1 }; }
  | HIDING             { $$ = (Name){ $1, @1 }; }
  | LPAREN SYMBOL ')'     { $$ = (Name){ $2, @2 }; }
  ;
con: CONID             { $$ = (Name){ $1, @1 }; } ;
tycon: CONID           { $$ = (Name){ $1, @1 }; } ;
conname:
    CONID              { $$ = (Name){ $1, @1 }; }
  | QCONID             { $$ = (Name){ $1, @1 }; }
  ;
tyvars:
    %empty             { $$ = NULL; }
  | tyvars tyvar       { $$ = addName(reader, $1, $2); }
  ;
tyvar: VARID           { $$ = (Name){ $1, @1 }; } ;

type:
    btype
  | btype ARROW type   { $$ = newType(reader, TYPE_ARROW, @$, NULL, $1, $3); }
  | FORALL tyvars '.' type { $$ = $4; }
  ;
btype:
    atype
  | btype atype        { $$ = newType(reader, TYPE_APPLY, @$, NULL, $1, $2); }
  ;
atype:
    CONID              { $$ = newType(reader, TYPE_CON, @1, $1, NULL, NULL); }
  | QCONID             { $$ = newType(reader, TYPE_CON, @1, strrchr($1, '.') + 1, NULL, NULL); }
  | VARID              { $$ = newType(reader, TYPE_VAR, @1, $1, NULL, NULL); }
  | LPAREN ')'            { $$ = newType(reader, TYPE_UNIT, @$, NULL, NULL, NULL); }
  | LPAREN type ')'       { $$ = $2; }
  | LPAREN type ',' types ')' { $$ = newType(reader, TYPE_TUPLE, @$, NULL, $2, $4); }
  | LBRACKET type ']'       { $$ = newType(reader, TYPE_LIST, @$, NULL, $2, NULL); }
  ;
types:
    type
  | types ',' type     { $$ = $1; }
  ;

%%

/* ---- Making what the grammar reads ---- */

static Type *newType(Reader *reader, TypeKind kind, Span at, const char *name, const Type *left, const Type *right)
{
    Type *type = takeMemory(&reader->source->arena, sizeof *type);
    *type = (Type){ kind, at, name, left, right };
    return type;
}

static NameList *addName(Reader *reader, NameList *names, Name name)
{
    NameList *item = takeMemory(&reader->source->arena, sizeof *item), **link = &names;
    item->name = name;
    while (*link != NULL) link = &(*link)->next;
    *link = item;
    return names;
}

static void typeDecl(Reader *reader, DeclKind kind, Name name, NameList *params, const Type *type)
{
    Decl *decl = addDecl(reader->file, kind, name);
    if (decl == NULL) return;
    decl->params = params;
    decl->type = type;
}

static void foreign(Reader *reader, DeclKind kind, Convention convention, Safety safety, What what, const Type *type)
{
    Decl *decl = addDecl(reader->file, kind, what.name);
    if (decl == NULL) return;
    decl->convention = convention;
    decl->safety = safety;
    decl->entity = what.entity;
    decl->type = type;
}

/* ---- What is wrong ---- */

typedef struct { yysymbol_kind_t kinds[YYNTOKENS]; int n; } Expected;

static bool isIn(const Expected *expected, yysymbol_kind_t kind)
{
    for (int i = 0; i < expected->n; i++)
        if (expected->kinds[i] == kind) return true;
    return false;
}

/* Take out these kinds (to the first that is END); whether all were there. */
static bool takeOut(Expected *expected, const yysymbol_kind_t *kinds)
{
    int n = 0;
    for (int k = 0; kinds[k] != YYSYMBOL_YYEOF; k++)
        if (!isIn(expected, kinds[k])) return false;
    for (int i = 0; i < expected->n; i++) {
        bool out = false;
        for (int k = 0; kinds[k] != YYSYMBOL_YYEOF; k++) out |= expected->kinds[i] == kinds[k];
        if (!out) expected->kinds[n++] = expected->kinds[i];
    }
    expected->n = n;
    return true;
}

/* Tokens that together have a name of their own, the larger sets first. */
static const struct { const char *name; yysymbol_kind_t kinds[12]; } groups[] = {
    { "a type", { YYSYMBOL_CONID, YYSYMBOL_QCONID, YYSYMBOL_VARID, YYSYMBOL_LPAREN, YYSYMBOL_LBRACKET, YYSYMBOL_FORALL } },
    { "a type", { YYSYMBOL_CONID, YYSYMBOL_QCONID, YYSYMBOL_VARID, YYSYMBOL_LPAREN, YYSYMBOL_LBRACKET } },
    { "a name", { YYSYMBOL_VARID, YYSYMBOL_CCALL, YYSYMBOL_CAPI, YYSYMBOL_SAFE_WORD, YYSYMBOL_UNSAFE_WORD, YYSYMBOL_INTERRUPTIBLE_WORD,
                  YYSYMBOL_QUALIFIED, YYSYMBOL_AS, YYSYMBOL_HIDING, YYSYMBOL_LPAREN } },
    { "'ccall' or 'capi'", { YYSYMBOL_CCALL, YYSYMBOL_CAPI, YYSYMBOL_VARID } },
    { "a declaration ('foreign', 'module', 'import', 'type', 'newtype', 'data')",
      { YYSYMBOL_FOREIGN, YYSYMBOL_MODULE, YYSYMBOL_IMPORT, YYSYMBOL_TYPE, YYSYMBOL_NEWTYPE, YYSYMBOL_DATA, YYSYMBOL_SEMICOLON } },
    { "the next declaration", { YYSYMBOL_SEMICOLON } },
    { "the name of a module", { YYSYMBOL_CONID, YYSYMBOL_QCONID } },
    { "a parameter", { YYSYMBOL_VARID } },
};

/* "a type, '->' or the next declaration" */
static void putExpected(Buffer *out, Expected *expected)
{
    const char *names[YYNTOKENS + sizeof groups / sizeof *groups];
    int n = 0;
    if (expected->n > 1) takeOut(expected, (yysymbol_kind_t[]){ YYSYMBOL_DERIVING, YYSYMBOL_YYEOF });
    for (size_t g = 0; g < sizeof groups / sizeof *groups; g++)
        if (takeOut(expected, groups[g].kinds)) names[n++] = groups[g].name;
    for (int i = 0; i < expected->n; i++) names[n++] = yysymbol_name(expected->kinds[i]);
    for (int i = 0; i < n; i++) put(out, "%s%s", i == 0 ? ", expected " : i == n - 1 ? " or " : ", ", names[i]);
}

static void yyerror(const Span *at, Reader *reader, const char *text)
{
    errorAt(reader->source, *at, "%s", strstr(text, "exhausted") != NULL ? "nested too deeply" : text);
}

static int yyreport_syntax_error(const yypcontext_t *context, Reader *reader)
{
    Expected expected;
    Buffer text = { 0 };
    yysymbol_kind_t found = yypcontext_token(context);
    Span at = *yypcontext_location(context);
    /* A declaration ends because the next begins: that is what the reader of the message sees. */
    if (found == YYSYMBOL_SEMICOLON && reader->held != 0) at = reader->heldAt;
    expected.n = yypcontext_expected_tokens(context, expected.kinds, YYNTOKENS);
    if (expected.n < 0) expected.n = 0;
    /* The end of the file may stand wherever a declaration may end. */
    if (expected.n > 1 && isIn(&expected, YYSYMBOL_SEMICOLON)) {
        int n = 0;
        for (int i = 0; i < expected.n; i++)
            if (expected.kinds[i] != YYSYMBOL_YYEOF) expected.kinds[n++] = expected.kinds[i];
        expected.n = n;
    }
    if (found == YYSYMBOL_YYEOF) put(&text, "unexpected end of the file");
    else put(&text, "unexpected '%.*s'", (int)(at.end - at.begin < 60 ? at.end - at.begin : 60), reader->source->text + at.begin);
    putExpected(&text, &expected);
    errorAt(reader->source, at, "%s", text.text);
    freeBuffer(&text);
    return 0;
}

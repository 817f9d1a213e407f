/* Entity strings.  ccall: ["static"] [header] ["&"] [name], "dynamic", "wrapper"; capi: ["static"] [header] ["value"] [name]; exports: [name]. */
#include "foreign.h"

#include <string.h>

enum { MAX_WORDS = 8 };
typedef struct { const char *text[MAX_WORDS]; Span at[MAX_WORDS]; unsigned n, i; } Words;

/* & is a word by itself. */
static bool split(Source *source, const Decl *decl, Words *words)
{
    const char *s = decl->entity.text;
    size_t begin = decl->entity.at.begin + 1;
    *words = (Words){ .n = 0 };
    for (size_t i = 0; s[i] != 0;) {
        size_t length = s[i] == '&' ? 1 : strcspn(s + i, " \t&");
        if (length == 0) {
            i++;
            continue;
        }
        if (words->n == MAX_WORDS) return errorAt(source, decl->entity.at, "an entity string of more than %d words", MAX_WORDS), false;
        words->at[words->n] = (Span){ begin + i, begin + i + length };
        words->text[words->n++] = takeText(&source->arena, s + i, length);
        i += length;
    }
    return true;
}

static bool take(Words *words, const char *text)
{
    if (words->i == words->n || strcmp(words->text[words->i], text) != 0) return false;
    words->i++;
    return true;
}

static bool isHeader(const char *text)
{
    static const char *const endings[] = { ".h", ".hh", ".hpp", ".hxx" };
    size_t length = strlen(text);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t n = strlen(endings[i]);
        if (length > n && strcmp(text + length - n, endings[i]) == 0) return true;
    }
    return false;
}

static bool checkHeader(Source *source, const char *header, Span at)
{
    for (const char *c = header; *c != 0; c++)
        if (strchr("<>\\*", *c) != NULL || (unsigned char)*c < 32) return errorAt(source, at, "a header's name with '%c'", *c < 32 ? '?' : *c), false;
    return true;
}

/* The name, or that of the declaration. */
static bool readName(Source *source, const Decl *decl, Words *words, Entity *entity)
{
    Span at = words->i < words->n ? words->at[words->i] : decl->name.at;
    entity->c_name = words->i < words->n ? words->text[words->i++] : decl->name.text;
    if (words->i < words->n) return errorAt(source, words->at[words->i], "unexpected '%s' behind the C name '%s'", words->text[words->i], entity->c_name), false;
    if (!isCName(entity->c_name)) return errorAt(source, at, "'%s' is no C name, expected one, as in \"%s%s\"", entity->c_name,
                                                 entity->header != NULL ? "header.h " : "", "c_name"), false;
    /* A header's name is written out; and what is exported must be declared, in C++ too. */
    if (isCWord(entity->c_name) && (decl->kind == DECL_EXPORT || entity->header != NULL))
        return errorAt(source, at, "'%s' is a word of C or C++, expected a name", entity->c_name), false;
    return true;
}

static bool readImport(Source *source, const Decl *decl, Words *words, Entity *entity)
{
    bool capi = decl->convention == CONV_CAPI;
    if (!capi && words->n == 1 && (take(words, "dynamic") || take(words, "wrapper"))) {
        entity->kind = strcmp(words->text[0], "dynamic") == 0 ? ENTITY_DYNAMIC : ENTITY_WRAPPER;
        return true;
    }
    take(words, "static");
    if (words->i < words->n && isHeader(words->text[words->i])) {
        if (!checkHeader(source, words->text[words->i], words->at[words->i])) return false;
        entity->header = words->text[words->i++];
    }
    if (words->i < words->n && strcmp(words->text[words->i], "&") == 0) {
        if (capi) return errorAt(source, words->at[words->i], "'&' is for ccall, expected a name, or 'value' and a name"), false;
        entity->kind = ENTITY_ADDRESS;
        words->i++;
    } else if (capi && words->i + 1 < words->n && take(words, "value")) {
        entity->kind = ENTITY_VALUE;
    }
    return readName(source, decl, words, entity);
}

bool readEntity(Source *source, const Decl *decl, Entity *entity)
{
    Words words = { .n = 0 };
    *entity = (Entity){ .kind = ENTITY_FUNCTION };
    if (decl->entity.text != NULL && !split(source, decl, &words)) return false;
    return decl->kind == DECL_IMPORT ? readImport(source, decl, &words, entity) : readName(source, decl, &words, entity);
}

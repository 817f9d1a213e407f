#include "foreign.h"

#include <ctype.h>
#include <string.h>

bool isCName(const char *name)
{
    if (!isalpha((unsigned char)name[0]) && name[0] != '_') return false;
    for (const char *c = name + 1; *c != 0; c++)
        if (!isalnum((unsigned char)*c) && *c != '_') return false;
    return true;
}

bool isCWord(const char *name)
{
    static const char words[] =
        " _Alignas _Alignof _Atomic _Bool _Complex _Generic _Imaginary _Noreturn _Static_assert _Thread_local alignas alignof and and_eq asm "
        "auto bitand bitor bool break case catch char char16_t char32_t class compl const const_cast constexpr continue decltype default "
        "delete do double dynamic_cast else enum explicit export extern false float for friend goto if inline int long mutable namespace new "
        "noexcept not not_eq nullptr operator or or_eq private protected public register reinterpret_cast restrict return short signed sizeof "
        "static static_assert static_cast struct switch template this thread_local throw true try typedef typeid typename typeof union "
        "unsigned using virtual void volatile wchar_t while xor xor_eq main ";
    size_t length = strlen(name);
    for (const char *found = words; (found = strstr(found, name)) != NULL; found += length)
        if (found > words && found[-1] == ' ' && found[length] == ' ') return length > 0;
    return false;
}

static const char *symbolName(char c)
{
    static const struct { char c; const char *name; } names[] = {
        { '(', "ZL" }, { ')', "ZR" }, { '[', "ZM" }, { ']', "ZN" }, { ':', "ZC" }, { '&', "za" }, { '|', "zb" }, { '^', "zc" },
        { '$', "zd" }, { '=', "ze" }, { '>', "zg" }, { '#', "zh" }, { '.', "zi" }, { '<', "zl" }, { '-', "zm" }, { '!', "zn" },
        { '+', "zp" }, { '\'', "zq" }, { '\\', "zr" }, { '/', "zs" }, { '*', "zt" }, { '_', "zu" }, { '%', "zv" }, { '?', "zz03fU" },
        { '@', "zz040U" }, { '~', "zz07eU" },
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].c == c) return names[i].name;
    return "zz";
}

const char *encodeName(Arena *arena, const char *name, bool plain)
{
    char *code = takeMemory(arena, strlen(name) * 6 + 1), *to = code;
    for (const char *c = name; *c != 0; c++) {
        bool doubled = !plain && (*c == 'z' || *c == 'Z');
        if (doubled) *to++ = *c;
        if (isalnum((unsigned char)*c) || (plain && *c == '_')) *to++ = *c;
        else if (*c == '?' || *c == '@' || *c == '~') to = stpcpy(to, symbolName(*c) + 1); /* z and the number */
        else to = stpcpy(to, symbolName(*c));
    }
    *to = 0;
    return code;
}

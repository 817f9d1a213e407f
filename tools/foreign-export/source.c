/* The text of a file, and messages about it. */
#include "foreign.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { SHOWN = 100 }; /* bytes of a source line in a message, about */

static bool isInsideChar(char c) { return ((unsigned char)c & 0xc0) == 0x80; }

typedef struct { size_t begin, end; unsigned line, column; } Line;

static Line findLine(const Source *source, size_t at)
{
    Line line = { .line = 1, .column = 1 };
    if (at > source->length) at = source->length;
    for (size_t i = 0; i < at; i++) {
        if (source->text[i] != '\n') continue;
        line.line++;
        line.begin = i + 1;
    }
    const char *end = memchr(source->text + at, '\n', source->length - at);
    line.end = end == NULL ? source->length : (size_t)(end - source->text);
    if (line.end > line.begin && source->text[line.end - 1] == '\r' && at < line.end) line.end--;
    for (size_t i = line.begin; i < at; i++) line.column += !isInsideChar(source->text[i]);
    return line;
}

/* What a terminal must not get as it is becomes a question mark. */
static void putShown(Buffer *out, char c) { putBytes(out, (unsigned char)c < 32 && c != '\t' ? "?" : c == 127 ? "?" : &c, 1); }

/* The line, or the part of a long one around the place, and below it the caret with a tilde for each further character. */
static void putLine(Source *source, Line line, Span at)
{
    Buffer *out = &source->messages;
    const char *text = source->text;
    size_t begin = line.begin, end = line.end;
    if (end - begin > SHOWN) {
        if (at.begin - begin > SHOWN / 2) begin = at.begin - SHOWN / 2;
        while (begin > line.begin && isInsideChar(text[begin])) begin--;
        if (end - begin > SHOWN) end = begin + SHOWN;
        while (end < line.end && isInsideChar(text[end])) end++;
    }
    put(out, "    %s", begin > line.begin ? "..." : "");
    for (size_t i = begin; i < end; i++) putShown(out, text[i]);
    put(out, "%s\n    %s", end < line.end ? "..." : "", begin > line.begin ? "   " : "");
    for (size_t i = begin; i < at.begin && i < end; i++)
        if (!isInsideChar(text[i])) putBytes(out, text[i] == '\t' ? "\t" : " ", 1);
    put(out, "^");
    for (size_t i = at.begin + 1; i < at.end && i < end; i++)
        if (!isInsideChar(text[i])) put(out, "~");
    put(out, "\n");
}

static void messageAt(Source *source, Span at, const char *kind, const char *format, va_list args)
{
    char text[1024];
    vsnprintf(text, sizeof text, format, args);
    if (at.begin > source->length) at.begin = at.end = source->length;
    Line line = findLine(source, at.begin);
    put(&source->messages, "%s:%u:%u: %s: %s\n", source->name, line.line, line.column, kind, text);
    putLine(source, line, at);
}

void errorAt(Source *source, Span at, const char *format, ...)
{
    if (source->errors++ >= MAX_ERRORS) {
        if (source->errors == MAX_ERRORS + 1) put(&source->messages, "%s: too many errors, the rest is not reported\n", source->name);
        return;
    }
    va_list args;
    va_start(args, format);
    messageAt(source, at, "error", format, args);
    va_end(args);
}

void noteAt(Source *source, Span at, const char *format, ...)
{
    if (source->errors > MAX_ERRORS) return;
    va_list args;
    va_start(args, format);
    messageAt(source, at, "note", format, args);
    va_end(args);
}

void errorIn(Source *source, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    source->errors++;
    put(&source->messages, "%s: error: %s\n", source->name, text);
}

/* How many bytes the character at s has; 0: it is not UTF-8. */
static size_t charLength(const unsigned char *s, size_t left)
{
    static const struct { unsigned char mask, lead, lo; } forms[] = { { 0x80, 0, 0 }, { 0xe0, 0xc0, 0 }, { 0xf0, 0xe0, 0 }, { 0xf8, 0xf0, 0 } };
    static const uint32_t least[] = { 0, 0x80, 0x800, 0x10000 };
    for (size_t n = 0; n < 4; n++) {
        if ((s[0] & forms[n].mask) != forms[n].lead) continue;
        if (left <= n) return 0;
        uint32_t c = s[0] & (uint32_t)(unsigned char)~forms[n].mask;
        for (size_t i = 1; i <= n; i++) {
            if ((s[i] & 0xc0) != 0x80) return 0;
            c = c << 6 | (s[i] & 0x3fu);
        }
        return c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ? 0 : n + 1;
    }
    return 0;
}

static bool checkChars(Source *source)
{
    size_t begin = 0;
    for (size_t i = 0; i < source->length;) {
        size_t n = charLength((const unsigned char *)source->text + i, source->length - i);
        Span at = { i, i + 1 };
        if (source->text[i] == 0) return errorAt(source, at, "a NUL byte: this is no text"), false;
        if (n == 0) return errorAt(source, at, "the byte 0x%02X is not UTF-8", (unsigned char)source->text[i]), false;
        i += n;
        if (source->text[i - 1] == '\n') begin = i;
        else if (i - begin > MAX_LINE) return errorAt(source, at, "this line is longer than %d bytes", MAX_LINE), false;
    }
    return true;
}

bool checkText(Source *source)
{
    if (source->length > MAX_FILE) return errorIn(source, "more than %d bytes", MAX_FILE), false;
    if (source->length == 0) return errorIn(source, "the file is empty, expected foreign declarations"), false;
    return checkChars(source);
}

#include "foreign.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Chunks are freed together. */
struct Chunk {
    struct Chunk *next;
    size_t used, room;
    _Alignas(max_align_t) char bytes[];
};

static void *orEnd(void *memory)
{
    if (memory != NULL) return memory;
    fputs("capstan-foreign: out of memory\n", stderr);
    exit(EXIT_FAILURE);
}

void *takeMemory(Arena *arena, size_t size)
{
    size = (size + 15) & ~(size_t)15;
    struct Chunk *c = arena->chunks;
    if (c == NULL || c->room - c->used < size) {
        size_t room = size > 16384 ? size : 16384;
        c = orEnd(malloc(sizeof *c + room));
        *c = (struct Chunk){ .next = arena->chunks, .room = room };
        arena->chunks = c;
    }
    void *memory = c->bytes + c->used;
    c->used += size;
    return memset(memory, 0, size);
}

char *takeText(Arena *arena, const char *text, size_t length)
{
    char *copy = takeMemory(arena, length + 1);
    if (length != 0) memcpy(copy, text, length);
    return copy;
}

char *takeFormat(Arena *arena, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = takeMemory(arena, (size_t)length + 1);
    vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    return text;
}

void freeArena(Arena *arena)
{
    for (struct Chunk *c = arena->chunks, *next; c != NULL; c = next) {
        next = c->next;
        free(c);
    }
    arena->chunks = NULL;
}

static char *makeRoom(Buffer *buffer, size_t more)
{
    if (buffer->room - buffer->length <= more) {
        buffer->room = (buffer->length + more + 1) * 2;
        buffer->text = orEnd(realloc(buffer->text, buffer->room));
    }
    return buffer->text + buffer->length;
}

void putBytes(Buffer *buffer, const char *bytes, size_t length)
{
    char *to = makeRoom(buffer, length);
    if (length != 0) memcpy(to, bytes, length);
    to[length] = 0;
    buffer->length += length;
}

void put(Buffer *buffer, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    vsnprintf(makeRoom(buffer, (size_t)length), (size_t)length + 1, format, again);
    va_end(again);
    buffer->length += (size_t)length;
}

void freeBuffer(Buffer *buffer)
{
    free(buffer->text);
    *buffer = (Buffer){ 0 };
}

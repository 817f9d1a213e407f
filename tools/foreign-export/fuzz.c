/* For libFuzzer: any bytes are either refused with a message or become C text; nothing else may happen. */
#include "foreign.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* The way of naming closures and the target follow from the size, so that all are tried. */
    const Options options = { .names = (ClosureNames)(size % 3), .package = "main", .target = (Target)(size / 3 % 3), .tries = size % 5 != 0 };
    Source source = { .name = "fuzz", .text = (const char *)data, .length = size };
    Buffer stub = { 0 }, header = { 0 };
    bool done = compileText(&source, &options, &stub, &header);
    /* Refused is said; written is complete. */
    if (done != (source.errors == 0) || done == (source.messages.length != 0) || done != (stub.length != 0 && header.length != 0)) abort();
    if (done && strstr(stub.text, "(null)") != NULL) abort();
    freeBuffer(&stub);
    freeBuffer(&header);
    freeBuffer(&source.messages);
    freeArena(&source.arena);
    return 0;
}

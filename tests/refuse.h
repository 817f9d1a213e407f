/* Collections without memory, for tests of the runtime's inside. */
#ifndef TESTS_REFUSE_H
#define TESTS_REFUSE_H

#include "gc/block.h"
#include "os/memory.h"

static Block *taken;

/* From now on the system gives none, and no block is free. */
static inline void refuseMemory(void)
{
    osFailAllAfter(1);
    for (Block *b; (b = allocBlocks(1, 0)) != NULL; taken = b) b->link = taken;
}

static inline void allowMemory(void)
{
    osFailAfter(0);
    freeBlockList(taken);
    taken = NULL;
}

#endif

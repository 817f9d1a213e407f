/*
 * The heap verifier finds what is planted: each kind of mistake once, alone, and said in so many words; and nothing where there is none.
 */
#include "generation.h"

#include "capability.h"
#include "gc/heap.h"
#include "stack.h"
#include "thread.h"

/* ---- What it says ---- */

static unsigned complaints;
static char complaint[200]; /* the first */

static void noteLog(void *ctx, RtsLogLevel level, const char *text)
{
    if (strstr(text, "heap check") != NULL && complaints++ == 0) snprintf(complaint, sizeof complaint, "%s", text);
}

/* One capability, which the caller holds, and nobody else is about to do anything: the world is as good as stopped. */
static size_t findBad(Stack *stack)
{
    Nursery *nursery = &stack->cap->nursery;
    size_t bad = 0;
    complaints = 0;
    complaint[0] = 0;
    verifyHeap(&nursery, 1, &bad);
    return bad;
}

/* Is that found, and nothing else? */
static void expectFound(Stack *stack, const char *what)
{
    bool found = findBad(stack) == 1 && complaints == 1 && strstr(complaint, what) != NULL;
    if (!found) fprintf(stderr, "expected: %s; %u complaints: %s\n", what, complaints, complaint);
    CHECK(found);
}
static void expectClean(Stack *stack) { CHECK(findBad(stack) == 0 && complaints == 0); }

static int setUpLogged(void **state)
{
    RtsConfig config = hookedConfig(1);
    config.idle_collection_us = 1000000000;
    config.logHook = noteLog;
    return setUpWith(state, &config);
}

/* ---- Headers ---- */

/* v has another header while it is looked at. */
static void plantInfo(Stack *stack, HaskellObj v, const StgInfoTable *info, const char *what)
{
    const StgInfoTable *before = v->info;
    v->info = info;
    expectFound(stack, what);
    v->info = before;
}

static const StgInfoTable noKind = { .kind = CLOSURE_KINDS };

CASE(headers)
{
    HaskellObj v = fresh(stack->cap, 1);
    CAPSTAN_ROOTS(stack, v);
    expectClean(stack);
    plantInfo(stack, v, NULL, "has no info table");
    plantInfo(stack, v, (const StgInfoTable *)(void *)v, "has no info table");
    plantInfo(stack, v, (const StgInfoTable *)((const char *)(void *)v + 1), "is a forwarding pointer");
    plantInfo(stack, v, &noKind, "is of no kind");
    expectClean(stack);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* Variables, arrays (small and large) and MVars have other headers when they are old. */
CASE(ages)
{
    HaskellObj all[4] = { rts_mkMutVar(stack->cap, CAPSTAN_UNIT), rts_mkArray(stack->cap, 5, CAPSTAN_UNIT), rts_mkArray(stack->cap, 5000, CAPSTAN_UNIT),
                          rts_mkMVar(stack->cap) };
    const StgInfoTable *young[4], *old[4] = { &oldMutVar_info, &oldArray_info, &oldArray_info, &oldMVar_info };
    CAPSTAN_ROOTS(stack, all[0], all[1], all[2], all[3]);
    for (int i = 0; i < 4; i++) {
        young[i] = all[i]->info;
        plantInfo(stack, all[i], old[i], "says that it is old, but it is young");
    }
    makeOld(stack);
    expectClean(stack);
    for (int i = 0; i < 4; i++) {
        CHECK(all[i]->info == old[i]);
        plantInfo(stack, all[i], young[i], "is old, and does not say so");
    }
    expectClean(stack);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

CASE(lengths)
{
    HaskellObj small = rts_mkArray(stack->cap, 5, CAPSTAN_UNIT), large = rts_mkBytes(stack->cap, NULL, 10000), pinned = rts_mkBytesPinned(stack->cap, NULL, 100);
    CAPSTAN_ROOTS(stack, small, large, pinned);
    StgWord *lengths[] = { &((StgArray *)small)->length, &((StgBytes *)large)->length, &((StgBytes *)pinned)->length };
    for (int i = 0; i < 3; i++) {
        StgWord before = *lengths[i];
        *lengths[i] = 4 * BLOCK_BYTES;
        expectFound(stack, "is larger than its block");
        *lengths[i] = before;
    }
    expectClean(stack);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* ---- Addresses ---- */

static HaskellObj at(const void *p, ptrdiff_t bytes) { return (HaskellObj)((uintptr_t)p + (uintptr_t)bytes); }

/* p is taken for an object, by a root. */
static void plantRoot(Stack *stack, HaskellObj p, const char *what)
{
    CAPSTAN_ROOTS(stack, p);
    expectFound(stack, what);
    p = CAPSTAN_UNIT;
    CAPSTAN_UNROOT(stack);
}

CASE(addresses)
{
    HaskellObj large = rts_mkArray(stack->cap, 5000, CAPSTAN_UNIT), v = fresh(stack->cap, 1);
    CAPSTAN_ROOTS(stack, large, v);
    plantRoot(stack, at(v, 4), "address is not aligned");
    plantRoot(stack, at(large, 8 * 8), "points into a large object");
    plantRoot(stack, at(blockOf(v), 0), "address among block descriptors");
    plantRoot(stack, at((void *)heapBase, (ptrdiff_t)(usedMegablocks() * MEGABLOCK_BYTES + BLOCK_BYTES)), "address beyond the heap");
    plantRoot(stack, (HaskellObj)(const void *)&(const struct { const StgInfoTable *info; }){ &noKind }, "static object without an info table");
    makeOld(stack);
    blockOf(v)->flags |= BLOCK_FROM;
    size_t bad = findBad(stack);
    CHECK(bad >= 1 && bad == complaints && strstr(complaint, "left behind in from-space") != NULL); /* what it refers to as well */
    blockOf(v)->flags &= ~(uint32_t)BLOCK_FROM;
    expectClean(stack);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* What looks like an object of so many words, in blocks that are given back. */
static void plantFree(Stack *stack, size_t words)
{
    Block *b = allocBlocks((words + BLOCK_WORDS - 1) / BLOCK_WORDS, 0);
    CHECK(b != NULL);
    if (b == NULL) return;
    b->flags = words < LARGE_WORDS ? 0 : BLOCK_LARGE;
    b->free = b->start + words;
    HaskellObj v = (HaskellObj)(void *)b->start;
    v->info = &capstan_BYTES_info;
    ((StgBytes *)v)->length = (words - 2) * sizeof(StgWord);
    HaskellObj root = v;
    CAPSTAN_ROOTS(stack, root);
    expectClean(stack);
    freeBlocks(b);
    expectFound(stack, "lies in a free block");
    root = CAPSTAN_UNIT;
    CAPSTAN_UNROOT(stack);
}

CASE(freeBlocksInUse)
{
    plantFree(stack, 10);
    plantFree(stack, LARGE_WORDS);
    plantFree(stack, 3 * BLOCK_WORDS);
    plantFree(stack, 2 * MEGABLOCK_BYTES / sizeof(StgWord));
    expectClean(stack);
    return CAPSTAN_UNIT;
}

/* ---- What is remembered ---- */

/* A word of an object gets a value without the barrier. */
static void plantStore(Stack *stack, HaskellObj *slot, HaskellObj v)
{
    HaskellObj before = *slot;
    *slot = v;
    expectFound(stack, "old, refers to something young, and is not remembered");
    *slot = before;
}

CASE(slots)
{
    HaskellObj var = rts_mkMutVar(stack->cap, CAPSTAN_UNIT), array = rts_mkArray(stack->cap, 5000, CAPSTAN_UNIT), box = fresh(stack->cap, 1);
    CAPSTAN_ROOTS(stack, var, array, box);
    makeOld(stack);
    plantStore(stack, &((StgMutVar *)var)->value, fresh(stack->cap, 2));
    plantStore(stack, &((StgArray *)array)->elems[4711], fresh(stack->cap, 2));
    plantStore(stack, &box->payload[1], fresh(stack->cap, 2));
    rts_writeMutVar(stack->cap, var, fresh(stack->cap, 3));
    expectClean(stack);
    minor(stack);
    CHECK(stack->cap->nursery.remembered.blocks == NULL);
    Block *b = allocBlocks(1, 0);
    rememberFor(&stack->cap->nursery, (HaskellObj *)(void *)b->start);
    freeBlocks(b);
    expectFound(stack, "is remembered, and lies in a free block");
    minor(stack);
    expectClean(stack);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

/* A thread that the next minor collection would not look at. */
CASE(threadsThatRest)
{
    StgTSO *runs = stack->tso;
    HaskellObj young = fresh(stack->cap, 1);
    CAPSTAN_ROOTS(stack, young);
    uint32_t before = runs->dirty;
    expectClean(stack);
    runs->dirty = 0;
    expectFound(stack, "a thread that refers to something young, and is not dirty");
    runs->dirty = before;
    expectClean(stack);
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

#define LOGGED(f) { #f, f, setUpLogged, disarmTest, NULL }

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOGGED(headers), LOGGED(ages), LOGGED(lengths), LOGGED(addresses), LOGGED(freeBlocksInUse), LOGGED(slots), LOGGED(threadsThatRest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* stress/gc: making objects, and the same in the mirror.  Nothing here is a safepoint. */
#include "gc.h"

#include <stdlib.h>
#include <string.h>

/* ---- Shapes: info tables with their fields, from one word to nearly what counts as large --------------------------------------- */

#define SHAPES 12
#define WIDE   480

static const struct { StgWord16 ptrs, nptrs; } shapeSizes[SHAPES] = {
    { 0, 1 }, { 0, 3 }, { 1, 0 }, { 1, 1 }, { 2, 0 }, { 2, 3 }, { 3, 1 }, { 5, 0 }, { 9, 8 }, { 24, 1 }, { 130, 4 }, { WIDE, 6 },
};
static const StgInfoTable *conShapes[SHAPES], *funShapes[SHAPES];
const StgInfoTable *gcWideLazy;

static const StgInfoTable *makeShape(const StgInfoTable *model, StgWord16 ptrs, StgWord16 nptrs)
{
    StgInfoTable table = *model;
    table.flags = 0;
    table.ptrs = ptrs;
    table.nptrs = nptrs;
    const StgInfoTable *made = rts_newInfoTable(&table);
    DEMAND(NULL, made != NULL, "rts_newInfoTable answers NULL");
    return made;
}

void makeShapes(void)
{
    static const StgInfoTable con = { .kind = CLOSURE_CON, .tag = 3, .name = "shape" };
    for (int i = 0; i < SHAPES; i++) {
        conShapes[i] = makeShape(&con, shapeSizes[i].ptrs, shapeSizes[i].nptrs);
        funShapes[i] = makeShape(&gcLambda_info, shapeSizes[i].ptrs, shapeSizes[i].nptrs);
    }
    gcWideLazy = makeShape(&gcLazy_info, WIDE, 2);
}

/* Wide ones are rare. */
static unsigned drawShape(Mutator *m)
{
    unsigned i = (unsigned)below(&m->random, SHAPES);
    return i >= SHAPES - 2 && !oneIn(&m->random, 8) ? i - 6 : i;
}

/* ---- Values -------------------------------------------------------------------------------------------------------- */

static HaskellObj check(At *at, HaskellObj v)
{
    DEMAND(at->m, v != CAPSTAN_POISON && v != NULL, "no memory for an object");
    return v;
}

static HaskellObj drawImmediate(Mutator *m)
{
    switch (below(&m->random, 5)) {
    case 0: return CAPSTAN_UNIT;
    case 1: return CAPSTAN_TRUE;
    case 2: return CAPSTAN_IMMEDIATE(IMM_CHAR, below(&m->random, 0x110000));
    default: return CAPSTAN_SMALL_INT((StgInt)nextRandom(&m->random) >> 1);
    }
}

CAPSTAN_STATIC_CON(gcNil, 0);
CAPSTAN_STATIC(gcConstant, gcPair, &gcNil_closure, CAPSTAN_SMALL_INT(77));

static HaskellObj drawStatic(Mutator *m)
{
    HaskellObj statics[] = { &gcNil_closure, &gcConstant_closure, &gcMix_closure };
    return statics[below(&m->random, 3)];
}

Word makeBoxed(At *at)
{
    Mutator *m = at->m;
    static const StgInfoTable *const infos[] = { &capstan_INT64_info, &capstan_WORD64_info, &capstan_DOUBLE_info, &capstan_PTR_info };
    uint64_t which = below(&m->random, 4), bits = nextRandom(&m->random) | (uint64_t)1 << 63 | 1;
    if (which == 0) bits &= ~((uint64_t)1 << 62); /* or the number would fit 63 bits */
    double number;
    memcpy(&number, &bits, sizeof number);
    HaskellObj v = which == 0   ? rts_mkInt(capOf(at), (HsInt)bits)
                   : which == 1 ? rts_mkWord(capOf(at), bits)
                   : which == 2 ? rts_mkDouble(capOf(at), number)
                                : rts_mkPtr(capOf(at), (HsPtr)bits);
    check(at, v);
    uint32_t node = newNode(m, NODE_BOXED, infos[which], 0);
    nodeAt(m, node)->seed = bits;
    return (Word){ edgeToNode(node), v };
}

Word makeValue(At *at, unsigned depth)
{
    Mutator *m = at->m;
    uint64_t which = below(&m->random, 16);
    if (which < 2) return plainWord(drawImmediate(m));
    if (which == 2) return plainWord(drawStatic(m));
    if (which < 7) return makeBoxed(at);
    if (which < 11) {
        Found f = pickObject(at);
        return f.node == 0 ? plainWord(CAPSTAN_UNIT) : wordOf(f);
    }
    return depth == 0 ? makeBoxed(at) : makeObject(at, depth - 1);
}

/* ---- Objects with fields ------------------------------------------------------------------------------------------- */

static Word nodeWithWords(At *at, NodeKind kind, const StgInfoTable *info, const Word *words, size_t count, HaskellObj v)
{
    uint32_t node = newNode(at->m, kind, info, count);
    for (size_t i = 0; i < count; i++) nodeAt(at->m, node)->edges[i] = words[i].edge;
    return (Word){ edgeToNode(node), check(at, v) };
}

Word makePair(At *at, Word a, Word b)
{
    Word words[] = { a, b };
    return nodeWithWords(at, NODE_CON, &gcPair_info, words, 2, newPair(capOf(at), a.v, b.v));
}

/* A constructor, function or thunk of a shape: some fields are drawn, the rest repeat them; raw words follow. */
static Word makeShaped(At *at, NodeKind kind, const StgInfoTable *info, unsigned depth)
{
    Mutator *m = at->m;
    static _Thread_local HaskellObj fields[WIDE + 8];
    static _Thread_local Word words[WIDE + 8];
    size_t drawn = info->ptrs < 6 ? info->ptrs : 6;
    Word some[6];
    for (size_t i = 0; i < drawn; i++) some[i] = makeValue(at, depth);
    if (kind == NODE_THUNK) some[0] = plainWord(CAPSTAN_SMALL_INT(below(&m->random, BREW_COLLECT)));
    uint64_t seed = nextRandom(&m->random);
    for (size_t i = 0; i < info->ptrs; i++) {
        words[i] = some[i % drawn]; /* rootcheck: too big for a small stack, and read before the next safepoint */
        fields[i] = words[i].v;     /* rootcheck: the same */
    }
    for (size_t i = 0; i < info->nptrs; i++) fields[info->ptrs + i] = (HaskellObj)numberOf(seed, i);
    HaskellObj v = kind == NODE_CON ? rts_mkCon(capOf(at), info, fields) : rts_mkClosure(capOf(at), info, fields);
    Word made = nodeWithWords(at, kind, info, words, info->ptrs, v);
    nodeAt(m, nodeOfEdge(made.edge))->seed = seed;
    return made;
}

/* The first free variable says what evaluation does. */
static Word makeThunk(At *at, unsigned depth)
{
    Mutator *m = at->m;
    if (oneIn(&m->random, 40)) return makeShaped(at, NODE_THUNK, gcWideLazy, depth);
    uint64_t mode = below(&m->random, BREW_MODES);
    if (mode == BREW_COLLECT && !oneIn(&m->random, 8)) mode = BREW_PAIR;
    Word words[3] = { plainWord(CAPSTAN_SMALL_INT(mode)), makeValue(at, depth), makeValue(at, depth) };
    HaskellObj fields[3] = { words[0].v, words[1].v, words[2].v };
    return nodeWithWords(at, NODE_THUNK, &gcLazy_info, words, 3, rts_mkClosure(capOf(at), &gcLazy_info, fields));
}

static Word makeApplication(At *at, unsigned depth)
{
    Mutator *m = at->m;
    Word words[4];
    size_t count = 2;
    if (oneIn(&m->random, 3)) {
        words[0] = makeShaped(at, NODE_FUN, funShapes[drawShape(m) % 8], depth);
    } else {
        count = 2 + below(&m->random, 3);
        words[0] = plainWord(&gcMix_closure);
    }
    words[1] = count == 2 && words[0].v != &gcMix_closure ? makeValue(at, depth)
                                                          : plainWord(CAPSTAN_SMALL_INT(below(&m->random, BREW_COLLECT)));
    for (size_t i = 2; i < count; i++) words[i] = makeValue(at, depth);
    HaskellObj v = words[0].v;
    for (size_t i = 1; i < count; i++) v = rts_apply(capOf(at), v, words[i].v);
    return nodeWithWords(at, NODE_AP, &capstan_AP_info, words, count, v);
}

static Word makeMutVar(At *at, unsigned depth)
{
    Word value = makeValue(at, depth);
    return nodeWithWords(at, NODE_MUTVAR, &capstan_MUTVAR_info, &value, 1, rts_mkMutVar(capOf(at), value.v));
}

static size_t drawSize(Mutator *m, size_t small, size_t middle, size_t large)
{
    uint64_t which = below(&m->random, 256);
    return below(&m->random, which == 0 ? large + 1 : which < 12 ? middle + 1 : small + 1);
}

static Word makeArray(At *at, unsigned depth)
{
    Mutator *m = at->m;
    size_t length = drawSize(m, 12, 1200, options.largest);
    Word initial = makeValue(at, depth);
    HaskellObj v = check(at, rts_mkArray(capOf(at), length, initial.v));
    uint32_t node = newNode(m, NODE_ARRAY, &capstan_ARRAY_info, length);
    for (size_t i = 0; i < length; i++) nodeAt(m, node)->edges[i] = initial.edge;
    for (size_t n = length < 8 ? length : 8; n > 0; n--) {
        size_t i = below(&m->random, length);
        Word w = makeValue(at, 0);
        rts_setElem(capOf(at), v, i, w.v);
        nodeAt(m, node)->edges[i] = w.edge;
    }
    return (Word){ edgeToNode(node), v };
}

static Word makeMVar(At *at, unsigned depth)
{
    HaskellObj v = check(at, rts_mkMVar(capOf(at)));
    Word made = { edgeToNode(newNode(at->m, NODE_MVAR, &capstan_MVAR_info, 1)), v };
    if (at->stack == NULL || oneIn(&at->m->random, 3)) return made;
    Word value = makeValue(at, depth);
    DEMAND(at->m, rts_tryPutMVar(at->stack, v, value.v), "a new MVar is full");
    nodeAt(at->m, nodeOfEdge(made.edge))->edges[0] = value.edge;
    return made;
}

/* ---- Bytes --------------------------------------------------------------------------------------------------------- */

static Word makeBytes(At *at, bool pinned)
{
    Mutator *m = at->m;
    size_t size = drawSize(m, 80, 6000, 100000);
    HaskellObj v = check(at, pinned ? rts_mkBytesPinned(capOf(at), NULL, size) : rts_mkBytes(capOf(at), NULL, size));
    unsigned char *bytes = rts_bytes(v, NULL);
    DEMAND(m, !pinned || (uintptr_t)bytes % 16 == 0, "a pinned array at %p", (void *)bytes);
    uint32_t node = newNode(m, pinned ? NODE_PINNED : NODE_BYTES, &capstan_BYTES_info, 0);
    nodeAt(m, node)->size = size;
    nodeAt(m, node)->seed = nextRandom(&m->random);
    nodeAt(m, node)->record = pinned ? bytes : NULL;
    fillPattern(bytes, size, nodeAt(m, node)->seed);
    return (Word){ edgeToNode(node), v };
}

/* Contents that nobody expects: who reads them after this notices. */
static void release(void *ctx, void *bytes)
{
    External *e = ctx;
    EXPECT(NULL, bytes == e->bytes, "a release function gets the address %p instead of %p", bytes, (void *)e->bytes);
    memset(bytes, 0xee, e->size);
    unsigned before = (unsigned)atomic_fetch_add(&e->released, 1);
    EXPECT(NULL, before == 0, "an external array was released %u times", before + 1);
}

static Word makeExternal(At *at)
{
    Mutator *m = at->m;
    External *e = calloc(1, sizeof *e);
    DEMAND(m, e != NULL, "no memory");
    e->size = 1 + drawSize(m, 40, 3000, 50000);
    e->bytes = malloc(e->size);
    DEMAND(m, e->bytes != NULL, "no memory");
    e->next = m->externals;
    m->externals = e;
    uint64_t seed = nextRandom(&m->random);
    fillPattern(e->bytes, e->size, seed);
    HaskellObj v = check(at, rts_mkBytesExternal(capOf(at), e->bytes, e->size, release, e));
    uint32_t node = newNode(m, NODE_EXTERNAL, &capstan_EXTERNAL_info, 0);
    nodeAt(m, node)->size = e->size;
    nodeAt(m, node)->seed = seed;
    nodeAt(m, node)->record = e;
    return (Word){ edgeToNode(node), v };
}

Word makeObject(At *at, unsigned depth)
{
    Mutator *m = at->m;
    switch (below(&m->random, 24)) {
    case 0: case 1: case 2: case 3: case 4: return makeShaped(at, NODE_CON, conShapes[drawShape(m)], depth);
    case 5: case 6: return makeShaped(at, NODE_FUN, funShapes[drawShape(m)], depth);
    case 7: case 8: case 9: return makeThunk(at, depth);
    case 10: case 11: return makeApplication(at, depth);
    case 12: case 13: case 14: return makeMutVar(at, depth);
    case 15: case 16: case 17: return makeArray(at, depth);
    case 18: return makeMVar(at, depth);
    case 19: case 20: return makeBytes(at, false);
    case 21: return makeBytes(at, true);
    case 22: return makeExternal(at);
    default: return makePair(at, makeValue(at, depth), makeValue(at, depth));
    }
}

/* ---- Walks --------------------------------------------------------------------------------------------------------- */

static Found pickRoot(At *at)
{
    Mutator *m = at->m;
    uint64_t which = below(&m->random, 8);
    if (which == 0) {
        Stable *s = &m->stables[below(&m->random, STABLES)];
        if (s->sp != NULL) return meetWord(at, s->edge, (HaskellObj)deRefStablePtr(s->sp), "a stable pointer");
    }
    if (which < 3) {
        size_t i = 1 + below(&m->random, ROOTS - 1);
        return meetWord(at, m->roots[i], at->roots[i], "a register");
    }
    Found table = { nodeOfEdge(m->roots[0]), at->roots[0] };
    return meetEdge(at, table, (uint32_t)below(&m->random, TABLE));
}

static uint32_t edgesToWalk(const Node *node)
{
    if (node->kind == NODE_SLEEPER) return 0;
    return node->kind == NODE_MVAR ? node->edges[0] != NO_EDGE : node->count;
}

/* A walk ends where its length is used up, where it meets what is no node, or where it meets the kind that is wanted. */
static Found walk(At *at, NodeKind wanted)
{
    Mutator *m = at->m;
    Found f = pickRoot(at);
    for (uint64_t n = below(&m->random, 6); f.node != 0 && n > 0; n--) {
        const Node *node = nodeAt(m, f.node);
        uint32_t edges = edgesToWalk(node);
        if (node->kind == wanted || edges == 0) break;
        Found next = meetEdge(at, f, (uint32_t)below(&m->random, edges));
        if (next.node == 0) break;
        f = next;
    }
    return f;
}

Found pickObject(At *at) { return walk(at, NODE_KINDS); }

Found findKind(At *at, NodeKind kind)
{
    for (int tries = 0; tries < 16; tries++) {
        Found f = walk(at, kind);
        if (f.node != 0 && (kind == NODE_KINDS || nodeAt(at->m, f.node)->kind == kind)) return f;
    }
    return (Found){ 0, CAPSTAN_UNIT };
}

void keepWord(At *at, Word w)
{
    Mutator *m = at->m;
    if (oneIn(&m->random, 4)) {
        size_t i = 1 + below(&m->random, ROOTS - 1);
        m->roots[i] = w.edge;
        at->roots[i] = w.v;
        return;
    }
    size_t i = below(&m->random, TABLE);
    uint32_t table = nodeOfEdge(m->roots[0]);
    rts_setElem(capOf(at), at->roots[0], i, w.v);
    nodeAt(m, table)->edges[i] = w.edge;
    noteWrite(m, table);
}

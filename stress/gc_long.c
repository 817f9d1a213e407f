/* stress/gc: lists of many cells.  What cell i is made of, and holds, follows from the list's seed; the cell behind it is cell i - 1. */
#include "gc.h"

CAPSTAN_CON(gcCell, 14, number, tail)
CAPSTAN_LAMBDA(gcLongLambda, 2, x) { return rts_freeVar(self, 0); }
CAPSTAN_THUNK(gcLongLazy, 2) { return rts_thunkVar(self, 0); }
CAPSTAN_STATIC_CON(gcEnd, 15);

typedef enum { CELL_CON, CELL_FUN, CELL_LAZY, CELL_ARRAY, CELL_VAR, CELLS } CellKind;

static CellKind cellKind(uint64_t seed, uint64_t i) { return (CellKind)(numberOf(seed, i) % CELLS); }
static HaskellObj cellNumber(uint64_t i) { return CAPSTAN_SMALL_INT(i * 3); }

static HaskellObj newCell(Capability *cap, uint64_t seed, uint64_t i, HaskellObj tail)
{
    HaskellObj fields[2] = { cellNumber(i), tail };
    switch (cellKind(seed, i)) {
    case CELL_FUN: return rts_mkClosure(cap, &gcLongLambda_info, fields);
    case CELL_LAZY: return rts_mkClosure(cap, &gcLongLazy_info, fields);
    case CELL_ARRAY: {
        HaskellObj array = rts_mkArray(cap, 2, fields[0]);
        rts_setElem(cap, array, 1, tail);
        return array;
    }
    case CELL_VAR: return gcCell_new(cap, fields[0], rts_mkMutVar(cap, tail));
    default: return gcCell_new(cap, fields[0], tail);
    }
}

static HaskellObj load(HaskellObj const *p) { return __atomic_load_n(p, CAPSTAN_LOAD_ORDER); }

/* Where the words of a cell are, whatever it is made of; NULL: that is not the cell. */
static HaskellObj *cellWords(uint64_t seed, uint64_t i, HaskellObj v)
{
    switch (cellKind(seed, i)) {
    case CELL_FUN: return isOf(v, &gcLongLambda_info) ? v->payload : NULL;
    case CELL_LAZY: return isOf(v, &gcLongLazy_info) ? ((StgThunk *)v)->payload : NULL;
    case CELL_ARRAY: return isOf(v, &capstan_ARRAY_info) ? ((StgArray *)v)->elems : NULL;
    default: return isOf(v, &gcCell_info) ? v->payload : NULL;
    }
}

/* The cell behind; dies if this is not the one that it has to be. */
static HaskellObj nextCell(Mutator *m, uint64_t seed, uint64_t i, HaskellObj v)
{
    HaskellObj *words = cellWords(seed, i, v);
    DEMAND(m, words != NULL && load(&words[0]) == cellNumber(i), "cell %zu of a list is not what it was, at %p", (size_t)i, (void *)v);
    HaskellObj tail = load(&words[1]);
    if (cellKind(seed, i) != CELL_VAR) return tail;
    DEMAND(m, isOf(tail, &capstan_MUTVAR_info), "the MutVar of cell %zu of a list is not what it was, at %p", (size_t)i, (void *)tail);
    return rts_readMutVar(tail);
}

void compareLong(At *at, uint32_t node, HaskellObj head, bool all)
{
    Mutator *m = at->m;
    uint64_t length = nodeAt(m, node)->size, seed = nodeAt(m, node)->seed, i = length;
    for (; i > 0 && (all || i + 200 > length); i--) head = nextCell(m, seed, i, head);
    DEMAND(m, i > 0 || head == &gcEnd_closure, "a list has no end");
}

static void growList(At *at, uint64_t seed, uint64_t from, uint64_t to, HaskellObj *v)
{
    CAPSTAN_ROOTS(capOf(at), *v);
    for (uint64_t i = from + 1; i <= to; i++) {
        *v = newCell(capOf(at), seed, i, *v);
        if (i % 500 == 0) pollAt(at);
    }
    CAPSTAN_UNROOT(capOf(at));
}

static void keepList(At *at, uint64_t seed, uint64_t length, HaskellObj v)
{
    uint32_t node = newNode(at->m, NODE_LONG, NULL, 0);
    nodeAt(at->m, node)->seed = seed;
    nodeAt(at->m, node)->size = length;
    keepWord(at, (Word){ edgeToNode(node), v });
}

/* The tail behind some cell that can be written is made anew: as many young cells as there are left hang on an old one. */
static void renewTail(At *at, uint64_t seed, uint64_t length, HaskellObj cell)
{
    Mutator *m = at->m;
    HaskellObj tail = &gcEnd_closure;
    uint64_t i = length, stop = below(&m->random, length < 2000 ? length : 2000);
    for (; i > stop; i--) cell = nextCell(m, seed, i, cell);
    for (; i > 0 && cellKind(seed, i) != CELL_VAR && cellKind(seed, i) != CELL_ARRAY; i--) cell = nextCell(m, seed, i, cell);
    if (i == 0) return;
    CAPSTAN_ROOTS(capOf(at), cell);
    growList(at, seed, 0, i - 1, &tail);
    CAPSTAN_UNROOT(capOf(at));
    nextCell(m, seed, i, cell);
    if (cellKind(seed, i) == CELL_ARRAY) rts_setElem(capOf(at), cell, 1, tail);
    else rts_writeMutVar(capOf(at), load(&cellWords(seed, i, cell)[1]), tail);
}

void stepLong(At *at)
{
    Mutator *m = at->m;
    size_t longest = m->isInner || m->number % 4 != 0 ? options.longest / 100 : options.longest;
    Found f = findKind(at, NODE_LONG);
    HaskellObj v = f.node == 0 ? &gcEnd_closure : f.obj;
    uint64_t seed = f.node == 0 ? nextRandom(&m->random) : nodeAt(m, f.node)->seed;
    uint64_t length = f.node == 0 ? 0 : nodeAt(m, f.node)->size;
    if (f.node != 0 && (length >= longest || oneIn(&m->random, 2))) {
        renewTail(at, seed, length, v);
        noteWrite(m, f.node);
        return;
    }
    uint64_t more = 1 + below(&m->random, oneIn(&m->random, 4) ? longest : longest / 10 + 1);
    /* A list may come to be evaluated, as a value like any other, and must then be one. */
    while (cellKind(seed, length + more) == CELL_LAZY) more++;
    growList(at, seed, length, length + more, &v);
    keepList(at, seed, length + more, v);
}

/* ---- Ballast ------------------------------------------------------------------------------------------------------- */

/* Small heaps are collected in other ways than larger ones.  So there are lists that all share, whose number says what they are: whoever makes one
 * anew, or a part of it, makes the same.  Nobody has to know who did. */
#define BALLAST_CELLS 5000
#define CELL_BYTES    32

size_t countBallast(void) { return (options.ballast + BALLAST_CELLS * CELL_BYTES - 1) / (BALLAST_CELLS * CELL_BYTES); }

static HaskellObj makeBallast(At *at, uint64_t seed)
{
    HaskellObj v = &gcEnd_closure;
    growList(at, seed, 0, BALLAST_CELLS, &v);
    return v;
}

static void checkBallast(Mutator *m, uint64_t seed, HaskellObj v)
{
    for (uint64_t i = BALLAST_CELLS; i > 0; i--) v = nextCell(m, seed, i, v);
    DEMAND(m, v == &gcEnd_closure, "a shared list has no end");
}

/* Look at one; make it anew, or its end, now and then. */
void stepBallast(At *at)
{
    Mutator *m = at->m;
    size_t count = countBallast();
    if (count == 0) return;
    size_t seed = below(&m->random, count);
    HaskellObj v = rts_getElem(sharedBallast(), seed);
    if (v == CAPSTAN_UNIT || oneIn(&m->random, 8)) {
        v = makeBallast(at, seed);
        rts_setElem(capOf(at), sharedBallast(), seed, v);
    } else if (oneIn(&m->random, 2)) {
        renewTail(at, seed, BALLAST_CELLS, v);
    } else {
        checkBallast(m, seed, v);
    }
}

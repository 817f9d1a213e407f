/* stress/gc: steps that write, forget, allocate, collect. */
#include "gc.h"

#include <stdlib.h>

static void setEdge(Mutator *m, uint32_t node, size_t i, Edge e)
{
    nodeAt(m, node)->edges[i] = e;
    noteWrite(m, node);
}

void stepNew(At *at) { keepWord(at, makeObject(at, 2)); }

void stepWrite(At *at)
{
    Found f = findKind(at, NODE_MUTVAR);
    if (f.node == 0) return stepNew(at);
    Word w = makeValue(at, 2);
    if (oneIn(&at->m->random, 2)) rts_writeMutVar(capOf(at), f.obj, w.v);
    else rts_setMutVar(capOf(at), f.obj, w.v);
    setEdge(at->m, f.node, 0, w.edge);
}

void stepCas(At *at)
{
    Mutator *m = at->m;
    Found f = findKind(at, NODE_MUTVAR);
    if (f.node == 0) return stepNew(at);
    Word w = makeValue(at, 2);
    if (oneIn(&m->random, 4)) {
        DEMAND(m, !rts_casMutVar(capOf(at), f.obj, CAPSTAN_POISON, w.v), "a compare-and-swap found what was never there");
        return;
    }
    DEMAND(m, rts_casMutVar(capOf(at), f.obj, rts_readMutVar(f.obj), w.v), "a compare-and-swap failed, with nobody else about");
    setEdge(m, f.node, 0, w.edge);
}

/* Near the borders of whatever arrays are cut into, or anywhere. */
static size_t drawIndex(Mutator *m, size_t length)
{
    if (length < 64 || oneIn(&m->random, 2)) return below(&m->random, length);
    size_t i = below(&m->random, length / 64) * 64 + (oneIn(&m->random, 2) ? 0 : 63);
    return oneIn(&m->random, 16) ? length - 1 : i;
}

void stepElem(At *at)
{
    Mutator *m = at->m;
    Found f = findKind(at, NODE_ARRAY);
    if (f.node == 0 || nodeAt(m, f.node)->count == 0) return stepNew(at);
    size_t i = drawIndex(m, nodeAt(m, f.node)->count);
    Word w = makeValue(at, 2);
    if (oneIn(&m->random, 2)) rts_setElem(capOf(at), f.obj, i, w.v);
    else rts_setArrayElem(capOf(at), f.obj, i, w.v);
    setEdge(m, f.node, i, w.edge);
}

/* Many writes into one array, most of them forgotten by later ones. */
void stepFill(At *at)
{
    Mutator *m = at->m;
    Found f = findKind(at, NODE_ARRAY);
    if (f.node == 0 || nodeAt(m, f.node)->count == 0) return stepNew(at);
    size_t count = nodeAt(m, f.node)->count, first = drawIndex(m, count);
    for (size_t n = below(&m->random, 40); n > 0; n--) {
        size_t i = oneIn(&m->random, 2) ? (first + n) % count : drawIndex(m, count);
        Word w = makeValue(at, 0);
        rts_setElem(capOf(at), f.obj, i, w.v);
        setEdge(m, f.node, i, w.edge);
    }
}

static Found findVariable(At *at)
{
    Found f = findKind(at, oneIn(&at->m->random, 3) ? NODE_MUTVAR : NODE_ARRAY);
    return f.node != 0 && nodeAt(at->m, f.node)->count == 0 ? (Found){ 0, f.obj } : f;
}

static void store(At *at, Found f, size_t i, Word w)
{
    if (nodeAt(at->m, f.node)->kind == NODE_MUTVAR) rts_setMutVar(capOf(at), f.obj, w.v);
    else rts_setArrayElem(capOf(at), f.obj, i, w.v);
    setEdge(at->m, f.node, i, w.edge);
}

/* What one variable refers to goes to another, without a safepoint: a collector that looks at one after the other, with the program running in between, may
 * find it at neither.  Several at once, and back and forth. */
void stepMove(At *at)
{
    Mutator *m = at->m;
    for (uint64_t n = 1 + below(&m->random, 12); n > 0; n--) {
        Found from = findVariable(at), to = findVariable(at);
        if (from.node == 0 || to.node == 0) return;
        size_t i = below(&m->random, nodeAt(m, from.node)->count), k = below(&m->random, nodeAt(m, to.node)->count);
        if (!isNodeEdge(nodeAt(m, from.node)->edges[i]) || (from.node == to.node && i == k)) continue;
        Found x = meetEdge(at, from, (uint32_t)i);
        if (x.node == 0) continue;
        store(at, to, k, wordOf(x));
        store(at, from, i, plainWord(CAPSTAN_UNIT));
    }
}

void stepCopy(At *at)
{
    Found f = pickObject(at);
    if (f.node != 0) keepWord(at, wordOf(f));
}

/* ---- Forgetting ---------------------------------------------------------------------------------------------------- */

static void clearRoot(At *at, size_t i)
{
    at->m->roots[i] = edgeToValue(CAPSTAN_UNIT);
    at->roots[i] = CAPSTAN_UNIT;
}

static void clearSlot(At *at, size_t i)
{
    rts_setElem(capOf(at), at->roots[0], i, CAPSTAN_UNIT);
    setEdge(at->m, nodeOfEdge(at->m->roots[0]), i, edgeToValue(CAPSTAN_UNIT));
}

static void freeStable(At *at, Stable *s)
{
    if (s->sp == NULL) return;
    if (oneIn(&at->m->random, 2)) freeStablePtr(s->sp);
    else hs_free_stable_ptr(s->sp);
    s->sp = NULL;
}

void stepDrop(At *at)
{
    Mutator *m = at->m;
    bool over = m->live > options.live / (m->isInner ? 4 : 1);
    for (size_t n = over ? 1 + below(&m->random, TABLE / 2) : 1; n > 0; n--) clearSlot(at, below(&m->random, TABLE));
    if (oneIn(&m->random, over ? 1 : 4)) clearRoot(at, 1 + below(&m->random, ROOTS - 1));
    if (over) freeStable(at, &m->stables[below(&m->random, STABLES)]);
}

void dropAll(At *at)
{
    for (size_t i = 0; i < TABLE; i++) clearSlot(at, i);
    for (size_t i = 1; i < ROOTS; i++) clearRoot(at, i);
    for (size_t i = 0; i < STABLES; i++) freeStable(at, &at->m->stables[i]);
    dropWeaks(at->m);
    sweepMirror(at->m);
}

void stepStable(At *at)
{
    Mutator *m = at->m;
    Stable *s = &m->stables[below(&m->random, STABLES)];
    if (s->sp != NULL) {
        freeStable(at, s);
        return;
    }
    Found f = pickObject(at);
    Word w = f.node == 0 || oneIn(&m->random, 2) ? makeObject(at, 1) : wordOf(f);
    s->edge = w.edge;
    s->sp = getStablePtr((StgPtr)w.v);
    DEMAND(m, s->sp != NULL, "no memory for a stable pointer");
}

/* ---- Allocation, collection ---------------------------------------------------------------------------------------- */

void allocateGarbage(At *at, size_t bytes)
{
    for (size_t done = 0, n = 0; done < bytes; n++) {
        size_t size = below(&at->m->random, n % 64 == 63 ? 5000 : 300);
        if (n % 16 == 5) rts_mkBytesPinned(capOf(at), NULL, size);
        else rts_mkBytes(capOf(at), NULL, size);
        done += size + 16;
        if (n % 8 == 0) pollAt(at);
    }
}

void stepGarbage(At *at) { allocateGarbage(at, below(&at->m->random, GARBAGE(options.nursery / 4))); }

void stepPoll(At *at) { pollAt(at); }

/* By filling a nursery, or by asking. */
void stepMinor(At *at)
{
    if (oneIn(&at->m->random, 2)) allocateGarbage(at, GARBAGE(options.nursery + options.nursery / 4));
    else collectAt(at, false);
}

/* Rarely: there is much to be copied. */
void stepMajor(At *at) { collectAt(at, majorIn(&at->m->random, 8)); }

void stepCompare(At *at) { compareAll(at); }

/* stress/gc: the comparison of a graph with its mirror.  Nothing of an object is used before its info pointer is the expected one. */
#include "gc.h"

#include <inttypes.h>
#include <string.h>

/* What an evaluation that ended with an exception leaves behind: an object of the runtime's own, with the exception in it. */
static _Atomic(const StgInfoTable *) raisingInfo;

void learnRaising(HaskellObj thunk) { atomic_store(&raisingInfo, rts_info(resolveValue(thunk))); }

static inline HaskellObj load(HaskellObj const *p) { return __atomic_load_n(p, CAPSTAN_LOAD_ORDER); }

extern const StgInfoTable *gcWideLazy, gcLongLazy_info;

static bool isLazyInfo(const StgInfoTable *info)
{
    return info == &gcLazy_info || info == &capstan_AP_info || info == &capstan_IND_info || info == gcWideLazy ||
           info == &gcLongLazy_info;
}

HaskellObj resolveValue(HaskellObj v)
{
    while (v != NULL && !rts_isImmediate(v) && isLazyInfo(rts_info(v))) {
        if (rts_info(v) == &capstan_IND_info) {
            v = load(&((StgInd *)v)->value);
            continue;
        }
        StgWord state = __atomic_load_n(&((StgThunk *)v)->state, __ATOMIC_ACQUIRE);
        if (state == 0 || (state & 7) == 4) return v;
        v = (HaskellObj)state;
    }
    return v;
}

/* A wrong pointer must not be followed: twins lie next to each other. */
bool isOf(HaskellObj v, const StgInfoTable *info)
{
    if (v == NULL || rts_isImmediate(v)) return false;
    const StgInfoTable *found = rts_info(v);
    if (found == info) return true;
    bool twins = info == &capstan_MUTVAR_info || info == &capstan_ARRAY_info || info == &capstan_MVAR_info;
    uintptr_t distance = (uintptr_t)found - (uintptr_t)info + (1u << 16);
    return twins && distance < 1u << 17 && ((uintptr_t)found & 7) == 0 && found->kind == info->kind && found->flags & INFO_OLD;
}

void fillPattern(unsigned char *bytes, size_t size, uint64_t seed)
{
    for (size_t i = 0; i < size; i += 8) {
        uint64_t word = numberOf(seed, i);
        memcpy(bytes + i, &word, size - i < 8 ? size - i : 8);
    }
}

static size_t findDifference(const unsigned char *bytes, size_t size, uint64_t seed)
{
    for (size_t i = 0; i < size; i += 8) {
        uint64_t word = numberOf(seed, i);
        if (memcmp(bytes + i, &word, size - i < 8 ? size - i : 8) != 0) return i;
    }
    return size;
}

/* ---- Reports ------------------------------------------------------------------------------------------------------- */

static const char *showNode(const Mutator *m, uint32_t i, char *text, size_t size)
{
    const Node *node = nodeAt(m, i);
    if (i == 0) snprintf(text, size, "a root");
    else snprintf(text, size, "node %u (%s of %u, made at collection %" PRIu64 ", last written by \"%s\" at %" PRIu64 ")", i,
                  kindNames[node->kind], node->count, node->born, stepNames[node->wrote], node->written);
    return text;
}

static const char *showFound(HaskellObj v, char *text, size_t size)
{
    StgWord info = v == NULL || rts_isImmediate(v) ? 0 : (StgWord)rts_info(v);
    if (info == 0) snprintf(text, size, "the word %p", (void *)v);
    else snprintf(text, size, "an object at %p whose info pointer is %#" PRIxPTR "%s", (void *)v, info,
                  info & 1 ? " (it has moved)" : info >> 32 == 0xdbdbdbdb ? " (poison)" : "");
    return text;
}

__attribute__((noreturn)) static void dieOf(const Mutator *m, uint32_t i, HaskellObj v, const char *what)
{
    char node[200], found[200];
    die(m, "%s: expected %s, found %s", what, showNode(m, i, node, sizeof node), showFound(v, found, sizeof found));
}

/* ---- One object ---------------------------------------------------------------------------------------------------- */

static const StgInfoTable *infoOf(const Node *node)
{
    return node->lazy == LAZY_RAISES ? atomic_load(&raisingInfo) : node->info;
}

static bool headIsRight(const Node *node, HaskellObj v)
{
    if (!isOf(v, infoOf(node))) return false;
    if (node->lazy == LAZY_RAISES) return true;
    switch ((NodeKind)node->kind) {
    case NODE_PAP: return ((StgPAP *)v)->count == node->count - 1;
    case NODE_ARRAY: return ((StgArray *)v)->length == node->count;
    case NODE_BYTES: return ((StgBytes *)v)->length == node->size;
    case NODE_PINNED: return ((StgBytes *)v)->length == node->size && ((StgBytes *)v)->bytes == node->record;
    case NODE_EXTERNAL: {
        const External *e = node->record;
        return ((StgExternal *)v)->length == node->size && ((StgExternal *)v)->address == e->bytes;
    }
    default: return true;
    }
}

static void checkHead(At *at, uint32_t i, HaskellObj v, const char *where)
{
    const Node *node = nodeAt(at->m, i);
    /* A list begins with one of several kinds of cells: gc_long.c looks at them. */
    if (node->kind == NODE_LONG || node->kind == NODE_PARCEL) return;
    if (!headIsRight(node, v)) dieOf(at->m, i, v, where);
}

/* The k-th part (0: the function) of an application to n arguments, which nests. */
static HaskellObj readApplication(At *at, uint32_t node, HaskellObj v, uint32_t n, uint32_t k)
{
    for (uint32_t i = n;; i--) {
        StgAP *ap = (StgAP *)v;
        if (i == k) return load(&ap->arg);
        if (i == 1) return load(&ap->fun);
        v = resolveValue(load(&ap->fun));
        if (v == NULL || rts_isImmediate(v)) dieOf(at->m, node, v, "inside an application");
        if (rts_info(v) == &capstan_PAP_info && ((StgPAP *)v)->count == i - 1)
            return k == 0 ? load(&((StgPAP *)v)->fun) : load(&((StgPAP *)v)->args[k - 1]);
        if (rts_info(v) != &capstan_AP_info) dieOf(at->m, node, v, "inside an application");
    }
}

HaskellObj readEdge(At *at, Found f, uint32_t i)
{
    const Node *node = nodeAt(at->m, f.node);
    if (node->lazy == LAZY_RAISES) return load(&((StgThunk *)f.obj)->payload[0]);
    switch ((NodeKind)node->kind) {
    case NODE_PAP: return i == 0 ? load(&((StgPAP *)f.obj)->fun) : load(&((StgPAP *)f.obj)->args[i - 1]);
    case NODE_THUNK: return load(&((StgThunk *)f.obj)->payload[i]);
    case NODE_AP: return readApplication(at, f.node, f.obj, node->count - 1, i);
    case NODE_MUTVAR: return __atomic_load_n(&((StgMutVar *)f.obj)->value, __ATOMIC_ACQUIRE);
    case NODE_ARRAY: return load(&((StgArray *)f.obj)->elems[i]);
    case NODE_MVAR: return __atomic_load_n(&((StgMVar *)f.obj)->value, __ATOMIC_ACQUIRE);
    default: return load(&f.obj->payload[i]);
    }
}

Found meetWord(At *at, Edge e, HaskellObj v, const char *where)
{
    e = resolveEdge(at->m, e);
    v = resolveValue(v);
    if (!isNodeEdge(e)) {
        char found[200];
        DEMAND(at->m, (Edge)v == e, "%s: expected the word %#" PRIxPTR ", found %s", where, e, showFound(v, found, sizeof found));
        return (Found){ 0, v };
    }
    checkHead(at, nodeOfEdge(e), v, where);
    return (Found){ nodeOfEdge(e), v };
}

Found meetEdge(At *at, Found parent, uint32_t i)
{
    return meetWord(at, nodeAt(at->m, parent.node)->edges[i], readEdge(at, parent, i), "while walking");
}

/* ---- Raw contents -------------------------------------------------------------------------------------------------- */

static void checkRaw(At *at, uint32_t i, const StgWord *raw, size_t count)
{
    for (size_t k = 0; k < count; k++)
        if (raw[k] != numberOf(nodeAt(at->m, i)->seed, k)) dieOf(at->m, i, (HaskellObj)raw[k], "a raw word");
}

static void checkBytes(At *at, uint32_t i, const unsigned char *bytes)
{
    const Node *node = nodeAt(at->m, i);
    size_t where = findDifference(bytes, node->size, node->seed);
    char text[200];
    DEMAND(at->m, where == node->size, "byte %zu of %zu of %s is wrong", where, node->size, showNode(at->m, i, text, sizeof text));
}

static void checkExternal(At *at, uint32_t i)
{
    const External *e = nodeAt(at->m, i)->record;
    char text[200];
    DEMAND(at->m, atomic_load(&e->released) == 0, "%s was released, but can be reached", showNode(at->m, i, text, sizeof text));
    checkBytes(at, i, e->bytes);
}

static void checkBits(At *at, uint32_t i, HaskellObj v)
{
    const Node *node = nodeAt(at->m, i);
    if (((StgBoxed *)v)->bits != node->seed) dieOf(at->m, i, v, "the bits of a number");
}

static void checkMVar(At *at, uint32_t i, HaskellObj v)
{
    const Node *node = nodeAt(at->m, i);
    HaskellObj value = __atomic_load_n(&((StgMVar *)v)->value, __ATOMIC_ACQUIRE);
    if ((value == NULL) != (node->edges[0] == NO_EDGE)) dieOf(at->m, i, v, value == NULL ? "an MVar became empty" : "an MVar became full");
    for (const Sleeper *s = node->record; s != NULL; s = s->queue)
        DEMAND(at->m, !atomic_load(&s->lost), "a putter was told that nobody can wake it, but its MVar can be reached");
}

static void checkContents(At *at, uint32_t i, HaskellObj v, bool all)
{
    const Node *node = nodeAt(at->m, i);
    if (node->lazy == LAZY_RAISES) return;
    switch ((NodeKind)node->kind) {
    case NODE_CON:
    case NODE_FUN: checkRaw(at, i, (StgWord *)v->payload + node->info->ptrs, node->info->nptrs); break;
    case NODE_THUNK: checkRaw(at, i, (StgWord *)((StgThunk *)v)->payload + node->info->ptrs, node->info->nptrs); break;
    case NODE_BYTES:
    case NODE_PINNED: checkBytes(at, i, ((StgBytes *)v)->bytes); break;
    case NODE_EXTERNAL: checkExternal(at, i); break;
    case NODE_BOXED: checkBits(at, i, v); break;
    case NODE_MVAR: checkMVar(at, i, v); break;
    case NODE_LONG: compareLong(at, i, v, all); break;
    case NODE_PARCEL: compareParcel(at, v, node->seed); break;
    case NODE_SLEEPER:
        DEMAND(at->m, !atomic_load(&((Sleeper *)node->record)->lost), "a sleeper was told that nobody can wake it, but it can be reached");
        break;
    default: break;
    }
}

/* Of how many edges the graph itself has words: the others are on stacks, and in threads. */
static uint32_t wordsOf(const Node *node)
{
    return node->kind == NODE_SLEEPER ? 0 : node->kind == NODE_MVAR ? (node->edges[0] != NO_EDGE) : node->count;
}

/* ---- All of them --------------------------------------------------------------------------------------------------- */

typedef struct { At *at; size_t length; } Comparison;

/* Two nodes at one address would be two objects that have become one. */
static void claimAddress(Comparison *c, uint32_t i, HaskellObj v)
{
    Mutator *m = c->at->m;
    size_t mask = 2 * (size_t)m->capacity - 1, h = (size_t)(((StgWord)v >> 3) * 0x9e3779b97f4a7c15u >> 20) & mask;
    for (; m->table[h] != 0; h = (h + 1) & mask)
        if (nodeAt(m, m->table[h])->seen == v) {
            char other[200];
            showNode(m, m->table[h], other, sizeof other);
            fail(m, "the address is that of %s as well", other);
            dieOf(m, i, v, "two objects at one address");
        }
    m->table[h] = i;
}

bool mayBeTwo(HaskellObj v)
{
    return !atomic_load(&game.identity) && (rts_info(v)->kind == CLOSURE_CON || rts_info(v)->kind == CLOSURE_FUN);
}

static void compareWord(Comparison *c, Edge e, HaskellObj v, const char *where)
{
    Mutator *m = c->at->m;
    Found f = meetWord(c->at, e, v, where);
    if (f.node == 0) return;
    Node *node = nodeAt(m, f.node);
    if (node->stamp == m->stamp) {
        if (node->seen != f.obj && !mayBeTwo(f.obj)) dieOf(m, f.node, f.obj, "one object has become two");
        return;
    }
    node->stamp = m->stamp;
    node->seen = f.obj;
    /* A list's address may be that of a list further back in it, and parcels have parts. */
    if (node->kind != NODE_LONG) claimAddress(c, f.node, f.obj);
    m->work[c->length++] = f.node;
}

static void compareFields(Comparison *c, uint32_t i)
{
    char where[240], text[200];
    const Node *node = nodeAt(c->at->m, i);
    uint32_t words = wordsOf(node);
    Found f = { i, node->seen };
    for (uint32_t k = 0; k < words; k++) {
        /* Quick for what is nothing to look at; the text is made for what might be wrong. */
        Edge e = resolveEdge(c->at->m, node->edges[k]);
        HaskellObj v = resolveValue(readEdge(c->at, f, k));
        if (!isNodeEdge(e) && (Edge)v == e) continue;
        const Node *child = isNodeEdge(e) ? nodeAt(c->at->m, nodeOfEdge(e)) : NULL;
        if (child != NULL && child->stamp == c->at->m->stamp && child->seen == v) continue;
        bool plain = child != NULL && headIsRight(child, v);
        if (!plain) snprintf(where, sizeof where, "word %u of %s", k, showNode(c->at->m, i, text, sizeof text));
        compareWord(c, e, v, plain ? "" : where);
    }
}

static void compareRoots(Comparison *c)
{
    Mutator *m = c->at->m;
    char where[40];
    for (int i = 0; i < ROOTS; i++) {
        snprintf(where, sizeof where, "root %d", i);
        compareWord(c, m->roots[i], c->at->roots[i], where);
    }
    for (int i = 0; i < STABLES; i++) {
        if (m->stables[i].sp == NULL) continue;
        snprintf(where, sizeof where, "stable pointer %d", i);
        compareWord(c, m->stables[i].edge, (HaskellObj)deRefStablePtr(m->stables[i].sp), where);
    }
}

void compareAll(At *at)
{
    Mutator *m = at->m;
    Comparison c = { at, 0 };
    m->compared = atomic_load(&game.collections);
    bool all = ++m->comparisons % options.shortcut == 0;
    m->stamp++;
    memset(m->table, 0, 2 * m->capacity * sizeof *m->table);
    compareRoots(&c);
    while (c.length > 0) {
        uint32_t i = m->work[--c.length];
        m->objects++;
        compareFields(&c, i);
        checkContents(at, i, nodeAt(m, i)->seen, all);
    }
    compareStalls(at);
    compareWeaks(at);
}

void compareIfCollected(At *at)
{
    if (atomic_load_explicit(&game.collections, memory_order_relaxed) != at->m->compared) compareAll(at);
}

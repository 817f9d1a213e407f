/* stress/gc: steps that evaluate, call, raise; and what the mirror thinks of it. */
#include "gc.h"

/* ---- Managed code: results are made of the arguments --------------------------------------------------------------- */

CAPSTAN_CON(gcPair, 11, first, second)

HaskellObj newPair(Capability *cap, HaskellObj first, HaskellObj second) { return gcPair_new(cap, first, second); }

/* Garbage and safepoints in the midst of an evaluation; the arguments are rooted. */
static void dawdle(Stack *stack, HaskellObj *x, HaskellObj *y, bool collect)
{
    CAPSTAN_ROOTS(stack, *x, *y);
    for (int i = 0; i < 6; i++) {
        rts_mkBytes(stack->cap, NULL, 200);
        rts_poll(stack);
    }
    if (collect) rts_collect(stack, false);
    CAPSTAN_UNROOT(stack);
}

static unsigned modeOf(HaskellObj v) { return (unsigned)((uint64_t)rts_smallIntValue(v) % BREW_MODES); }

static HaskellObj brew(Stack *stack, HaskellObj mode, HaskellObj x, HaskellObj y)
{
    switch (modeOf(mode)) {
    case BREW_PAIR: break;
    case BREW_FIRST: return x;
    case BREW_RAISE: rts_raise(stack, gcPair_new(stack->cap, x, y));
    case BREW_FORCE: {
        CAPSTAN_ROOTS(stack, y);
        x = rts_force(stack, x);
        CAPSTAN_UNROOT(stack);
        break;
    }
    case BREW_ARRAY: {
        HaskellObj array = rts_mkArray(stack->cap, 3, x);
        rts_setElem(stack->cap, array, 1, y);
        return array;
    }
    default: /* BREW_SLOWLY, BREW_COLLECT */
        dawdle(stack, &x, &y, modeOf(mode) == BREW_COLLECT);
        return gcPair_new(stack->cap, y, x);
    }
    return gcPair_new(stack->cap, x, y);
}

CAPSTAN_FUN(gcMix, mode, x, y) { return brew(stack, mode, x, y); }

CAPSTAN_THUNK(gcLazy, 3) { return brew(stack, rts_thunkVar(self, 0), rts_thunkVar(self, 1), rts_thunkVar(self, 2)); }

/* Also of other shapes: a pair of the last free variable and the argument. */
CAPSTAN_LAMBDA(gcLambda, 2, x)
{
    unsigned n = rts_info(self)->ptrs;
    HaskellObj last = n > 0 ? rts_freeVar(self, n - 1) : CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, last, x);
    rts_poll(stack);
    CAPSTAN_UNROOT(stack);
    return gcPair_new(stack->cap, last, x);
}

CAPSTAN_FUN(gcLoop, n, x, y)
{
    HsInt left = rts_smallIntValue(n);
    if (left == 0) return gcPair_new(stack->cap, x, y);
    rts_mkBytes(stack->cap, NULL, 100);
    return rts_tailCall(stack, &gcLoop_closure, CAPSTAN_SMALL_INT(left - 1), y, x);
}

/* ---- The mirror's opinion ------------------------------------------------------------------------------------------ */

typedef struct { bool raised; Edge value; } Outcome;

static Outcome mirrorForce(Mutator *m, Edge e);

static Edge mirrorPair(Mutator *m, Edge x, Edge y)
{
    uint32_t node = newNode(m, NODE_CON, &gcPair_info, 2);
    nodeAt(m, node)->edges[0] = x;
    nodeAt(m, node)->edges[1] = y;
    return edgeToNode(node);
}

static Edge mirrorTriple(Mutator *m, Edge x, Edge y)
{
    uint32_t node = newNode(m, NODE_ARRAY, &capstan_ARRAY_info, 3);
    nodeAt(m, node)->edges[0] = nodeAt(m, node)->edges[2] = x;
    nodeAt(m, node)->edges[1] = y;
    return edgeToNode(node);
}

static Outcome mirrorBrew(Mutator *m, Edge mode, Edge x, Edge y)
{
    switch (modeOf((HaskellObj)mode)) {
    case BREW_PAIR: return (Outcome){ false, mirrorPair(m, x, y) };
    case BREW_FIRST: return (Outcome){ false, x };
    case BREW_RAISE: return (Outcome){ true, mirrorPair(m, x, y) };
    case BREW_FORCE: {
        Outcome o = mirrorForce(m, x);
        if (!o.raised) o.value = mirrorPair(m, o.value, y);
        return o;
    }
    case BREW_ARRAY: return (Outcome){ false, mirrorTriple(m, x, y) };
    default: return (Outcome){ false, mirrorPair(m, y, x) };
    }
}

/* Of a function and its arguments, one edge after the other. */
static Outcome mirrorCall(Mutator *m, const Edge *edges, size_t count)
{
    Edge f = edges[0];
    if (isNodeEdge(f)) {
        const Node *fun = nodeAt(m, nodeOfEdge(f));
        Edge last = fun->count > 0 ? fun->edges[fun->count - 1] : edgeToValue(CAPSTAN_UNIT);
        return (Outcome){ false, mirrorPair(m, last, edges[1]) };
    }
    if (count == 4) return mirrorBrew(m, edges[1], edges[2], edges[3]);
    uint32_t pap = newNode(m, NODE_PAP, &capstan_PAP_info, count);
    for (size_t i = 0; i < count; i++) nodeAt(m, pap)->edges[i] = edges[i];
    return (Outcome){ false, edgeToNode(pap) };
}

/* What its evaluation comes to, and what becomes of the thunk. */
static Outcome mirrorThunk(Mutator *m, uint32_t i)
{
    Edge edges[4];
    size_t count = nodeAt(m, i)->count < 4 ? nodeAt(m, i)->count : 4;
    for (size_t k = 0; k < count; k++) edges[k] = nodeAt(m, i)->edges[k];
    Outcome o = nodeAt(m, i)->kind == NODE_AP ? mirrorCall(m, edges, count) : mirrorBrew(m, edges[0], edges[1], edges[2]);
    if (!o.raised) o = mirrorForce(m, o.value);
    Node *node = nodeAt(m, i);
    setEdges(node, 1);
    node->edges[0] = o.value;
    node->lazy = o.raised ? LAZY_RAISES : LAZY_DONE;
    noteWrite(m, i);
    return o;
}

static Outcome mirrorForce(Mutator *m, Edge e)
{
    e = resolveEdge(m, e);
    if (!isNodeEdge(e)) return (Outcome){ false, e };
    const Node *node = nodeAt(m, nodeOfEdge(e));
    if (node->kind != NODE_THUNK && node->kind != NODE_AP) return (Outcome){ false, e };
    if (node->lazy == LAZY_RAISES) return (Outcome){ true, node->edges[0] };
    return mirrorThunk(m, nodeOfEdge(e));
}

/* ---- Evaluation ---------------------------------------------------------------------------------------------------- */

static HaskellObj forceBody(Stack *stack, void *v) { return rts_force(stack, *(HaskellObj *)v); }

HaskellObj evaluateAt(At *at, HaskellObj v, bool *raised)
{
    HaskellObj result = CAPSTAN_UNIT;
    if (at->stack != NULL) {
        *raised = !rts_try(at->stack, forceBody, &v, &result);
        return result;
    }
    rts_eval(at->cap, v, &result);
    SchedulerStatus status = rts_getSchedStatus(*at->cap);
    DEMAND(at->m, status == Success || status == Killed, "an evaluation ended with status %d", (int)status);
    *raised = status == Killed;
    if (!*raised) return result;
    /* The runtime keeps it while it can be asked for. */
    if (oneIn(&at->m->random, 4)) allocateGarbage(at, GARBAGE(options.nursery));
    else pollAt(at);
    return rts_getException(*at->cap);
}

static void judge(At *at, Outcome o, bool raised, HaskellObj result, const char *what)
{
    DEMAND(at->m, raised == o.raised, "%s %s an exception", what, raised ? "raised" : "should have raised");
    Found f = meetWord(at, o.value, result, what);
    if (oneIn(&at->m->random, 2)) keepWord(at, f.node == 0 ? plainWord(f.obj) : wordOf(f));
}

/* Thunks that raised are evaluated again: they raise the same. */
void stepForce(At *at)
{
    Mutator *m = at->m;
    Found f = findKind(at, oneIn(&m->random, 3) ? NODE_AP : NODE_THUNK);
    if (f.node == 0) return stepNew(at);
    bool raised;
    HaskellObj result = evaluateAt(at, f.obj, &raised);
    judge(at, mirrorForce(m, edgeToNode(f.node)), raised, result, "an evaluation");
}

typedef struct { HaskellObj f, args[3]; size_t n; } Calling;

static HaskellObj callBody(Stack *stack, void *arg)
{
    Calling *c = arg;
    return rts_callN(stack, c->f, c->n, c->args);
}

/* A function, a partial application or gcMix itself, with one argument or up to all. */
void stepCall(At *at)
{
    Mutator *m = at->m;
    Calling c = { .n = 1 };
    Edge edges[4];
    size_t known = 0;
    Found f = findKind(at, oneIn(&m->random, 3) ? NODE_PAP : NODE_FUN);
    if (f.node != 0 && nodeAt(m, f.node)->kind == NODE_PAP) {
        known = nodeAt(m, f.node)->count;
        for (size_t i = 0; i < known; i++) edges[i] = nodeAt(m, f.node)->edges[i];
        c.n = 1 + below(&m->random, 4 - known);
    } else if (f.node == 0 || oneIn(&m->random, 4)) {
        f = (Found){ 0, &gcMix_closure };
        c.n = 1 + below(&m->random, 3);
    }
    c.f = f.obj;
    if (known == 0) edges[known++] = f.node == 0 ? edgeToValue(c.f) : edgeToNode(f.node);
    for (size_t i = 0; i < c.n; i++) {
        bool mode = f.node == 0 && i == 0;
        Word w = mode ? plainWord(CAPSTAN_SMALL_INT(below(&m->random, BREW_COLLECT))) : makeValue(at, 1);
        c.args[i] = w.v;
        edges[known++] = w.edge;
    }
    HaskellObj result = CAPSTAN_UNIT;
    bool raised = !rts_try(at->stack, callBody, &c, &result);
    judge(at, mirrorCall(m, edges, known), raised, result, "a call");
}

void stepTail(At *at)
{
    Mutator *m = at->m;
    HsInt n = (HsInt)below(&m->random, 200);
    Word x = makeValue(at, 2), y = makeValue(at, 2);
    HaskellObj result = rts_call(at->stack, &gcLoop_closure, CAPSTAN_SMALL_INT(n), x.v, y.v);
    Edge pair = n % 2 == 0 ? mirrorPair(m, x.edge, y.edge) : mirrorPair(m, y.edge, x.edge);
    judge(at, (Outcome){ false, pair }, false, result, "a loop of tail calls");
}

/* ---- Exceptions ---------------------------------------------------------------------------------------------------- */

typedef struct { HaskellObj x, y; int depth; } Raising;

/* The exception is caught and raised again on its way, at safepoints. */
static HaskellObj raiseBody(Stack *stack, void *arg)
{
    Raising *r = arg;
    HaskellObj result = CAPSTAN_UNIT, unit = CAPSTAN_UNIT;
    if (r->depth-- == 0) {
        dawdle(stack, &r->x, &r->y, false);
        rts_raise(stack, gcPair_new(stack->cap, r->x, r->y));
    }
    if (!rts_try(stack, raiseBody, r, &result)) {
        dawdle(stack, &result, &unit, false);
        rts_raise(stack, result);
    }
    return CAPSTAN_UNIT;
}

void stepRaise(At *at)
{
    Mutator *m = at->m;
    Word x = makeValue(at, 2), y = makeValue(at, 2);
    Raising r = { x.v, y.v, (int)below(&m->random, 4) };
    HaskellObj result = CAPSTAN_UNIT;
    bool raised = !rts_try(at->stack, raiseBody, &r, &result);
    judge(at, (Outcome){ true, mirrorPair(m, x.edge, y.edge) }, raised, result, "raising");
}

/* stress/gc: MVars, and threads that wait with objects on their stacks.
 *
 * A sleeper waits for an MVar of its own, with some objects in the frames of its stack.  What it is given it answers, together with those, through
 * another MVar, and puts it in the place of one of them: a young object on an old stack.  A putter waits to put its object into a full MVar.  Both
 * are part of their mutator's graph: they can be reached as long as their MVar can, and are told so by the runtime if it cannot. */
#include "gc.h"

#include <stdlib.h>

/* ---- MVars --------------------------------------------------------------------------------------------------------- */

static void setValue(Mutator *m, uint32_t node, Edge e)
{
    nodeAt(m, node)->edges[0] = e;
    noteWrite(m, node);
}

void stepPut(At *at)
{
    Mutator *m = at->m;
    Found f = findKind(at, NODE_MVAR);
    if (f.node == 0) return stepNew(at);
    Word w = makeValue(at, 2);
    if (nodeAt(m, f.node)->edges[0] != NO_EDGE) {
        DEMAND(m, !rts_tryPutMVar(at->stack, f.obj, w.v), "a full MVar was filled");
        return;
    }
    if (oneIn(&m->random, 2)) rts_putMVar(at->stack, f.obj, w.v);
    else DEMAND(m, rts_tryPutMVar(at->stack, f.obj, w.v), "an empty MVar could not be filled");
    setValue(m, f.node, w.edge);
}

/* The first of those that wait has put its value. */
static void advanceQueue(Mutator *m, uint32_t i)
{
    Node *node = nodeAt(m, i);
    Sleeper *first = node->record;
    for (uint32_t k = 1; k < node->count; k++) node->edges[k - 1] = node->edges[k];
    if (first == NULL) {
        node->edges[0] = NO_EDGE;
    } else {
        node->count--;
        node->record = first->queue;
        first->queue = NULL;
        first->dropped = true;
        m->awake--;
    }
    noteWrite(m, i);
}

void stepTake(At *at)
{
    Mutator *m = at->m;
    Found f = findKind(at, NODE_MVAR);
    HaskellObj v = CAPSTAN_UNIT;
    if (f.node == 0) return stepNew(at);
    Edge e = nodeAt(m, f.node)->edges[0];
    if (e == NO_EDGE) {
        DEMAND(m, !rts_tryTakeMVar(at->stack, f.obj, &v), "an empty MVar had a value");
        return;
    }
    if (oneIn(&m->random, 3)) {
        v = rts_readMVar(at->stack, f.obj);
    } else {
        if (oneIn(&m->random, 2)) v = rts_takeMVar(at->stack, f.obj);
        else DEMAND(m, rts_tryTakeMVar(at->stack, f.obj, &v), "a full MVar had no value");
        advanceQueue(m, f.node);
    }
    Found value = meetWord(at, e, v, "the value of an MVar");
    if (oneIn(&m->random, 2)) keepWord(at, value.node == 0 ? plainWord(value.obj) : wordOf(value));
}

/* ---- Threads ------------------------------------------------------------------------------------------------------- */

static Sleeper *newSleeper(Mutator *m)
{
    Sleeper *s = calloc(1, sizeof *s);
    DEMAND(m, s != NULL, "no memory");
    s->mutator = m;
    s->next = m->sleepers;
    m->sleepers = s;
    m->awake++;
    return s;
}

typedef struct { HaskellObj io, id; } Forking;

static HaskellObj forkBody(Stack *stack, void *arg)
{
    Forking *f = arg;
    return rts_fork(stack, f->io);
}

/* Masked, so that exceptions come where it waits; on whatever capability. */
static HaskellObj forkMasked(Stack *stack, HaskellObj io)
{
    Forking f = { .io = io };
    return rts_withMask(stack, RtsMaskedInterruptible, forkBody, &f);
}

static void awaitParked(At *at, HaskellObj *id)
{
    for (unsigned n = 0; rts_threadStatus(*id) != ThreadBlockedOnMVar && rts_threadStatus(*id) != ThreadBlockedOnMVarRead; n++) {
        if (n % 16 < 12) rts_yield(at->stack);
        else rts_threadDelay(at->stack, 50);
    }
}

/* ---- Putters ------------------------------------------------------------------------------------------------------- */

typedef struct { Sleeper *record; HaskellObj mvar, value; } Putting;

static HaskellObj putBody(Stack *stack, void *arg)
{
    Putting *p = arg;
    rts_putMVar(stack, p->mvar, p->value);
    return CAPSTAN_UNIT;
}

static void noteLoss(Sleeper *s, HaskellObj exception)
{
    EXPECT(s->mutator, exception == &capstan_BlockedIndefinitelyOnMVar_closure, "a parked thread got an exception that nobody threw");
    atomic_store(&s->lost, true);
}

CAPSTAN_IO(gcPutter, record, mvar, value)
{
    Putting p = { rts_getPtr(record), mvar, value };
    HaskellObj result = CAPSTAN_UNIT;
    if (!rts_try(stack, putBody, &p, &result)) noteLoss(p.record, result);
    atomic_store(&p.record->ended, true);
    return CAPSTAN_UNIT;
}

static HaskellObj apply3(Capability *cap, HaskellObj f, HaskellObj a, HaskellObj b, HaskellObj c)
{
    return rts_apply(cap, rts_apply(cap, rts_apply(cap, f, a), b), c);
}

/* One more putter waits for a full MVar. */
void stepPark(At *at)
{
    Mutator *m = at->m;
    Found f = findKind(at, NODE_MVAR);
    if (f.node == 0 || m->awake >= PARKED) return stepTake(at);
    if (nodeAt(m, f.node)->edges[0] == NO_EDGE) return stepPut(at);
    Word w = makeValue(at, 2);
    Sleeper *s = newSleeper(m);
    HaskellObj mvar = f.obj, id = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(at->stack, id, mvar);
    id = forkMasked(at->stack, apply3(at->stack->cap, &gcPutter_closure, rts_mkPtr(at->stack->cap, s), mvar, w.v));
    awaitParked(at, &id);
    CAPSTAN_UNROOT(at->stack);
    Node *node = nodeAt(m, f.node);
    setEdges(node, node->count + 1);
    node->edges[node->count - 1] = w.edge;
    noteWrite(m, f.node);
    Sleeper *last = node->record;
    while (last != NULL && last->queue != NULL) last = last->queue;
    if (last == NULL) node->record = s;
    else last->queue = s;
}

/* ---- Sleepers ------------------------------------------------------------------------------------------------------ */

CAPSTAN_CON(gcSleeping, 12, in, out, id)
CAPSTAN_CON(gcAnswer, 13, given, a, b, c, d)

/* Its life, the part on its stack.  slots: a variable in each of KEPT frames. */
typedef struct {
    Sleeper *record;
    HaskellObj in, out;
    HaskellObj *slots[KEPT];
    uint64_t turns;
} Life;

static HaskellObj waitBody(Stack *stack, void *arg)
{
    Life *life = arg;
    if (!life->record->reads) return rts_takeMVar(stack, life->in);
    HaskellObj read = rts_readMVar(stack, life->in), taken;
    CAPSTAN_ROOTS(stack, read);
    taken = rts_takeMVar(stack, life->in);
    CAPSTAN_UNROOT(stack);
    DEMAND(life->record->mutator, resolveValue(read) == resolveValue(taken), "a parked reader was given something else than the taker");
    return taken;
}

/* Waits and answers until it is lost. */
static void liveOn(Stack *stack, Life *life)
{
    for (;;) {
        HaskellObj given = CAPSTAN_UNIT;
        bool ok = rts_try(stack, waitBody, life, &given);
        if (!ok && given == &capstan_BlockedIndefinitelyOnMVar_closure) {
            noteLoss(life->record, given);
            return;
        }
        HaskellObj answer = gcAnswer_new(stack->cap, given, *life->slots[0], *life->slots[1], *life->slots[2], *life->slots[3]);
        *life->slots[life->turns++ % KEPT] = given;
        rts_putMVar(stack, life->out, answer);
    }
}

/* The frames: each keeps one object. */
static void liveBelow(Stack *stack, Life *life, unsigned level, HaskellObj objects)
{
    if (level == KEPT) {
        liveOn(stack, life);
        return;
    }
    HaskellObj mine = rts_getElem(objects, level);
    life->slots[level] = &mine;
    CAPSTAN_ROOTS(stack, mine);
    liveBelow(stack, life, level + 1, objects);
    CAPSTAN_UNROOT(stack);
}

CAPSTAN_IO(gcSleeper, record, in, out, objects)
{
    Life life = { .record = rts_getPtr(record), .in = in, .out = out };
    CAPSTAN_ROOTS(stack, life.in, life.out);
    liveBelow(stack, &life, 0, objects);
    CAPSTAN_UNROOT(stack);
    atomic_store(&life.record->ended, true);
    return CAPSTAN_UNIT;
}

void stepSleeper(At *at)
{
    Mutator *m = at->m;
    Stack *stack = at->stack;
    if (m->awake >= PARKED) return stepTalk(at);
    Word kept[KEPT];
    for (int i = 0; i < KEPT; i++) kept[i] = makeValue(at, 1);
    Sleeper *s = newSleeper(m);
    s->reads = oneIn(&m->random, 4);
    HaskellObj in = rts_mkMVar(stack->cap), out = rts_mkMVar(stack->cap), objects = rts_mkArray(stack->cap, KEPT, CAPSTAN_UNIT);
    for (int i = 0; i < KEPT; i++) rts_setElem(stack->cap, objects, (size_t)i, kept[i].v);
    HaskellObj io = rts_apply(stack->cap, apply3(stack->cap, &gcSleeper_closure, rts_mkPtr(stack->cap, s), in, out), objects);
    CAPSTAN_ROOTS(stack, in, out);
    HaskellObj id = forkMasked(stack, io);
    CAPSTAN_UNROOT(stack);
    HaskellObj v = gcSleeping_new(stack->cap, in, out, id);
    uint32_t node = newNode(m, NODE_SLEEPER, &gcSleeping_info, KEPT + 1);
    for (int i = 0; i < KEPT; i++) nodeAt(m, node)->edges[i] = kept[i].edge;
    nodeAt(m, node)->record = s;
    keepWord(at, (Word){ edgeToNode(node), v });
}

/* What it answered, against what it should have. */
static void takeAnswer(At *at, uint32_t node, HaskellObj sleeping)
{
    Mutator *m = at->m;
    HaskellObj answer = rts_takeMVar(at->stack, CAPSTAN_GET(gcSleeping, sleeping, out));
    uint32_t expected = newNode(m, NODE_CON, &gcAnswer_info, KEPT + 1);
    Edge *edges = nodeAt(m, node)->edges, given = edges[KEPT];
    nodeAt(m, expected)->edges[0] = given;
    for (int i = 0; i < KEPT; i++) nodeAt(m, expected)->edges[i + 1] = edges[i];
    Sleeper *s = nodeAt(m, node)->record;
    edges[s->turns++ % KEPT] = given;
    edges[KEPT] = NO_EDGE;
    noteWrite(m, node);
    m->talks++;
    Found f = meetWord(at, edgeToNode(expected), answer, "the answer of a parked thread");
    for (uint32_t i = 0; i <= KEPT; i++) meetEdge(at, f, i);
    if (oneIn(&m->random, 2)) keepWord(at, wordOf(f));
}

/* Give a sleeper something; from outside the heap, now and then. */
static void giveSleeper(At *at, Found f, Word w)
{
    HaskellObj in = CAPSTAN_GET(gcSleeping, f.obj, in);
    if (oneIn(&at->m->random, 4)) {
        HsStablePtr mvar = getStablePtr((StgPtr)in), value = getStablePtr((StgPtr)w.v);
        hs_try_putmvar_with_value(-1, mvar, CAPSTAN_POISON, value);
    } else {
        rts_putMVar(at->stack, in, w.v);
    }
}

void stepTalk(At *at)
{
    Mutator *m = at->m;
    Found f = findKind(at, NODE_SLEEPER);
    if (f.node == 0) return m->awake < PARKED ? stepSleeper(at) : stepTake(at);
    if (nodeAt(m, f.node)->edges[KEPT] == NO_EDGE) {
        HaskellObj sleeping = f.obj;
        Word w = makeValue(at, 2);
        nodeAt(m, f.node)->edges[KEPT] = w.edge;
        noteWrite(m, f.node);
        CAPSTAN_ROOTS(at->stack, sleeping);
        giveSleeper(at, f, w);
        if (oneIn(&m->random, 3)) stepPoll(at);
        CAPSTAN_UNROOT(at->stack);
        f.obj = sleeping;
        if (oneIn(&m->random, 2)) return;
    }
    takeAnswer(at, f.node, f.obj);
}

/* A young exception for a parked thread, which takes it for something that it was given. */
void stepThrow(At *at)
{
    Mutator *m = at->m;
    Found f = findKind(at, NODE_SLEEPER);
    if (f.node == 0) return stepTalk(at);
    if (nodeAt(m, f.node)->edges[KEPT] != NO_EDGE) {
        takeAnswer(at, f.node, f.obj);
        return;
    }
    Word w = makePair(at, makeValue(at, 1), makeValue(at, 1));
    HaskellObj sleeping = f.obj;
    nodeAt(m, f.node)->edges[KEPT] = w.edge;
    noteWrite(m, f.node);
    CAPSTAN_ROOTS(at->stack, sleeping);
    rts_throwTo(at->stack, CAPSTAN_GET(gcSleeping, sleeping, id), w.v);
    CAPSTAN_UNROOT(at->stack);
    if (oneIn(&m->random, 2)) takeAnswer(at, f.node, sleeping);
}

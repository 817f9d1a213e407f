/* stress/gc: the mirror: nodes, edges, and what nobody can reach any more. */
#include "gc.h"

#include <stdlib.h>
#include <string.h>

const char *const kindNames[NODE_KINDS] = {
    [NODE_FREE] = "nothing",         [NODE_CON] = "constructor",     [NODE_FUN] = "function",      [NODE_PAP] = "partial application",
    [NODE_THUNK] = "thunk",          [NODE_AP] = "application",      [NODE_MUTVAR] = "MutVar",     [NODE_ARRAY] = "array",
    [NODE_BYTES] = "byte array",     [NODE_PINNED] = "pinned array", [NODE_EXTERNAL] = "external array",
    [NODE_BOXED] = "boxed number",   [NODE_MVAR] = "MVar",           [NODE_SLEEPER] = "sleeper",   [NODE_LONG] = "list",
    [NODE_PARCEL] = "parcel",
};

static void *demandMemory(const Mutator *m, void *p)
{
    if (p == NULL) die(m, "no memory for the mirror");
    return p;
}

static void growMirror(Mutator *m, uint32_t capacity)
{
    m->nodes = demandMemory(m, realloc(m->nodes, capacity * sizeof *m->nodes));
    memset(m->nodes + m->capacity, 0, (capacity - m->capacity) * sizeof *m->nodes);
    /* Number 0 is no node; low numbers are taken first. */
    for (uint32_t i = capacity; i-- > (m->capacity > 0 ? m->capacity : 1);) {
        m->nodes[i].next = m->free;
        m->free = i;
    }
    m->work = demandMemory(m, realloc(m->work, capacity * sizeof *m->work));
    free(m->table);
    m->table = demandMemory(m, malloc(2 * capacity * sizeof *m->table));
    m->capacity = capacity;
}

bool initMirror(Mutator *m)
{
    growMirror(m, 1024);
    return true;
}

static void freeNode(Mutator *m, uint32_t i)
{
    Node *node = nodeAt(m, i);
    free(node->edges);
    *node = (Node){ .next = m->free };
    m->free = i;
    m->used--;
}

void clearMirror(Mutator *m)
{
    for (uint32_t i = 1; i < m->capacity; i++)
        if (nodeAt(m, i)->kind != NODE_FREE) freeNode(m, i);
    memset(m->roots, 0, sizeof m->roots);
    memset(m->keep, 0, sizeof m->keep);
    memset(m->stables, 0, sizeof m->stables);
    memset(m->stalls, 0, sizeof m->stalls);
    m->live = 0;
    m->awake = 0;
}

void freeMirror(Mutator *m)
{
    clearMirror(m);
    free(m->nodes);
    free(m->work);
    free(m->table);
}

void setEdges(Node *node, size_t count)
{
    node->edges = count == 0 ? node->edges : demandMemory(NULL, realloc(node->edges, count * sizeof *node->edges));
    for (size_t i = node->count; i < count; i++) node->edges[i] = NO_EDGE;
    node->count = (uint32_t)count;
}

uint32_t newNode(Mutator *m, NodeKind kind, const StgInfoTable *info, size_t edges)
{
    if (m->free == 0) growMirror(m, 2 * m->capacity);
    uint32_t i = m->free;
    Node *node = nodeAt(m, i);
    m->free = node->next;
    m->used++;
    m->made++;
    *node = (Node){ .kind = (uint8_t)kind, .info = info, .wrote = (uint8_t)m->doing, .born = atomic_load(&game.collections) };
    node->written = node->born;
    setEdges(node, edges);
    return i;
}

void noteWrite(Mutator *m, uint32_t node)
{
    nodeAt(m, node)->wrote = (uint8_t)m->doing;
    nodeAt(m, node)->written = atomic_load(&game.collections);
}

static bool isDone(const Node *node) { return (node->kind == NODE_THUNK || node->kind == NODE_AP) && node->lazy == LAZY_DONE; }

Edge resolveEdge(const Mutator *m, Edge e)
{
    while (isNodeEdge(e) && isDone(nodeAt(m, nodeOfEdge(e)))) e = nodeAt(m, nodeOfEdge(e))->edges[0];
    return e;
}

/* ---- What can be reached ------------------------------------------------------------------------------------------- */

static void markEdge(Mutator *m, Edge *e, size_t *length)
{
    *e = resolveEdge(m, *e);
    if (!isNodeEdge(*e)) return;
    Node *node = nodeAt(m, nodeOfEdge(*e));
    if (node->stamp == m->stamp) return;
    node->stamp = m->stamp;
    m->work[(*length)++] = nodeOfEdge(*e);
}

static size_t bytesOf(const Node *node)
{
    size_t words = 2 + node->count;
    return node->kind == NODE_LONG ? node->size * 32 : words * sizeof(StgWord) + (node->kind == NODE_EXTERNAL ? 0 : node->size);
}

static void dropQueue(Sleeper *queue)
{
    for (; queue != NULL; queue = queue->queue) queue->dropped = true;
}

static void forget(Mutator *m, uint32_t i)
{
    Node *node = nodeAt(m, i);
    if (node->kind == NODE_EXTERNAL) {
        ((External *)node->record)->dropped = true;
    } else if (node->kind == NODE_SLEEPER) {
        ((Sleeper *)node->record)->dropped = true;
        m->awake--;
    } else if (node->kind == NODE_MVAR) {
        dropQueue(node->record);
        m->awake -= node->count - 1;
    }
    freeNode(m, i);
}

/* Records of what the runtime has given back. */
static void freeReleased(Mutator *m)
{
    for (External **link = &m->externals; *link != NULL;) {
        External *e = *link;
        if (e->dropped && atomic_load(&e->released) == 1) {
            *link = e->next;
            free(e->bytes);
            free(e);
        } else {
            link = &e->next;
        }
    }
}

void sweepMirror(Mutator *m)
{
    size_t length = 0, live = 0;
    m->stamp++;
    for (int i = 0; i < ROOTS; i++) markEdge(m, &m->roots[i], &length);
    for (int i = 0; i < STABLES; i++)
        if (m->stables[i].sp != NULL) markEdge(m, &m->stables[i].edge, &length);
    while (length > 0) {
        Node *node = nodeAt(m, m->work[--length]);
        live += bytesOf(node);
        for (uint32_t i = 0; i < node->count; i++) markEdge(m, &node->edges[i], &length);
    }
    m->live = live;
    for (uint32_t i = 1; i < m->capacity; i++)
        if (nodeAt(m, i)->kind != NODE_FREE && nodeAt(m, i)->stamp != m->stamp) forget(m, i);
    freeReleased(m);
}

#include "language.h"

#include "os/memory.h"

/* ---- The record ---- */

static struct Extras_ *extrasOf(StgTSO *tso)
{
    if (tso->extras != NULL) return tso->extras;
    struct Extras_ *x = rtsMalloc(sizeof *x);
    if (x == NULL) return NULL;
    *x = (struct Extras_){ NULL, CAPSTAN_UNIT };
    tso->extras = x;
    tso->flags |= TSO_EXTRAS; /* so that the end of an in-call is not the short one */
    return x;
}

void dropExtrasSlow(StgTSO *tso)
{
    /* Exit, and the thread that comes back from C into an ended runtime, may both be here: one has them. */
    struct Extras_ *x = __atomic_exchange_n(&tso->extras, NULL, __ATOMIC_ACQ_REL);
    if (x == NULL) return;
    for (RtsRootScanner *s = x->scanners, *next; s != NULL; s = next) {
        next = s->next;
        s->next = NULL;
        if (s->ended != NULL) s->ended(s);
    }
    rtsFree(x);
}

/* ---- The word ---- */

bool setWordSlow(StgTSO *tso, HaskellObj word)
{
    if (word == CAPSTAN_UNIT && tso->extras == NULL) return true;
    struct Extras_ *x = extrasOf(tso);
    if (x != NULL) x->word = word;
    return x != NULL;
}

HaskellObj rts_getThreadWord(Stack *stack) { return wordOf(stack->tso); }

bool rts_setThreadWord(Stack *stack, HaskellObj v)
{
    if (v == NULL || v == CAPSTAN_POISON) return false;
    bool ok = setWordSlow(stack->tso, v);
    if (!ok) refuseAllocation(&stack->cap->nursery, sizeof(struct Extras_));
    return ok;
}

/* ---- Scanners ---- */

static bool hasScanner(const struct Extras_ *x, const RtsRootScanner *scanner)
{
    const RtsRootScanner *s = x->scanners;
    while (s != NULL && s != scanner) s = s->next;
    return s != NULL;
}

bool rts_addScanner(Stack *stack, RtsRootScanner *scanner)
{
    if (scanner == NULL || scanner->scan == NULL) {
        reportError(RTS_BAD_ARGUMENT, "rts_addScanner: there is no scan function");
        return false;
    }
    struct Extras_ *x = extrasOf(stack->tso);
    if (x == NULL) {
        refuseAllocation(&stack->cap->nursery, sizeof *x);
        return false;
    }
    if (hasScanner(x, scanner)) {
        reportError(RTS_BAD_ARGUMENT, "rts_addScanner: the thread has this scanner already");
        return false;
    }
    scanner->next = x->scanners;
    x->scanners = scanner;
    return true;
}

bool rts_removeScanner(Stack *stack, RtsRootScanner *scanner)
{
    struct Extras_ *x = stack->tso->extras;
    RtsRootScanner **link = x == NULL ? NULL : &x->scanners;
    while (link != NULL && *link != NULL && *link != scanner) link = &(*link)->next;
    if (link == NULL || *link == NULL) return false;
    *link = scanner->next;
    scanner->next = NULL;
    return true;
}

/* RtsVisitor is what the public header calls a Visitor. */
static RtsVisitor *publicVisitor(Visitor *v) { return (RtsVisitor *)(void *)v; }
static Visitor *innerVisitor(RtsVisitor *v) { return (Visitor *)(void *)v; }

void rts_visitRoots(RtsVisitor *visitor, HaskellObj *slots, size_t count)
{
    Visitor *v = innerVisitor(visitor);
    for (size_t i = 0; i < count; i++)
        if (slots[i] != NULL) visitRoot(v, &slots[i]);
}

bool rts_isYoung(HaskellObj v) { return v != NULL && isYoung(v); }

void scanExtrasSlow(StgTSO *tso, Visitor *v)
{
    visitRoot(v, &tso->extras->word);
    for (RtsRootScanner *s = tso->extras->scanners; s != NULL; s = s->next) s->scan(s, publicVisitor(v), v->minor);
}

bool isScannerIn(const StgTSO *tso, const void *lo, const void *hi)
{
    uintptr_t from = (uintptr_t)lo, size = (uintptr_t)hi - from;
    for (RtsRootScanner *s = tso->extras == NULL ? NULL : tso->extras->scanners; s != NULL; s = s->next)
        if ((uintptr_t)s - from < size || (uintptr_t)s->scan - from < size || (uintptr_t)s->ended - from < size) return true;
    return false;
}

/* ---- Virtual stacks ---- */

/* Slots below both marks hold nothing young: they were not written since a collection found nothing young there, and objects do not grow younger. */
static HaskellObj *firstToScan(RtsVirtualStack *s)
{
    HaskellObj *young = s->base + s->young, *first = s->low < young ? s->low : young;
    return first < s->top ? first : s->top;
}

static void checkBelow(RtsVirtualStack *s, Visitor *v, HaskellObj *end)
{
    for (HaskellObj *slot = s->base; slot < end; slot++)
        if (*slot != NULL && isYoung(*slot)) v->missed(v, slot, "a virtual stack was written to below its low-water mark");
}

/* What the collector that comes next has to look at begins with the first slot that still holds something young. */
static void scanVirtualStack(RtsRootScanner *self, RtsVisitor *visitor, bool minor)
{
    RtsVirtualStack *s = (RtsVirtualStack *)(void *)self;
    Visitor *v = innerVisitor(visitor);
    HaskellObj *first = firstToScan(s), *young = s->top;
    if (v->checks) checkBelow(s, v, first);
    for (HaskellObj *slot = minor ? first : s->base; slot < s->top; slot++) {
        if (*slot == NULL) continue;
        visitRoot(v, slot);
        if (young == s->top && isYoung(*slot)) young = slot;
    }
    s->young = (size_t)(young - s->base);
    s->low = s->top;
}

void rts_initVirtualStack(RtsVirtualStack *stack, HaskellObj *base, void (*ended)(RtsRootScanner *self))
{
    *stack = (RtsVirtualStack){ .scanner = { scanVirtualStack, ended, NULL }, .base = base, .top = base, .low = base };
}

#include "weak.h"

#include "exception.h"
#include "gc/fields.h"
#include "os/memory.h"
#include "rts/Weak.h"

const StgInfoTable capstan_WEAK_info = { CLOSURE_WEAK, 0, 0, 0, 0, 0, NULL, "weak pointer", NULL };

static struct {
    Lock lock;                   /* C finalizers that are due */
    _Atomic(Weak *) fresh;       /* [atomic] just made, last first */
    Weak *young, *old;           /* [stopped] */
    Weak *unseen, *seen;         /* [stopped] during a collection, of the lists that it looks at: key not found alive yet; all others */
    bool begun;                  /* [stopped] these two are set up */
    Weak *early;                 /* [stopped] of the old ones: visitEarly goes on here */
    Weak *_Atomic dueFirst, *dueLast; /* [stopped, or who holds a capability and the lock] */
    CFinalizer *_Atomic cFirst, *cLast; /* [lock: weaks] due */
    _Atomic uint64_t numbers;
    _Atomic uint32_t running;    /* threads that run C finalizers; a futex word */
} weaks = { .lock = LOCK_INIT(RANK_WEAKS) };

uint64_t keyLooks;

/* How many visitEarly looks at. */
#define EARLY 64

/* ---- Shared with the other tables ---- */

HaskellObj whatItIs(HaskellObj v)
{
    while (v != NULL && !rts_isImmediate(v)) {
        StgWord8 kind = rts_info(v)->kind;
        if (kind == CLOSURE_IND) {
            v = __atomic_load_n(&((StgInd *)v)->value, __ATOMIC_ACQUIRE);
        } else if (kind == CLOSURE_AP || kind == CLOSURE_THUNK) {
            StgWord state = __atomic_load_n(&((StgThunk *)v)->state, __ATOMIC_ACQUIRE);
            if (state == 0 || isBlackHoleMark(state)) return v;
            v = (HaskellObj)state;
        } else {
            return v;
        }
    }
    return v;
}

HaskellObj whereItIs(HaskellObj key) { return rts_isImmediate(key) ? key : forwardedTo(key); }

HaskellObj whereTheSameIs(HaskellObj obj)
{
    if (rts_isImmediate(obj)) return obj;
    /* A thunk that was marked before it was evaluated is there until the next time. */
    if (heap.judging) return !isInHeap(obj) || isJudgedAlive(obj) ? obj : NULL;
    const StgInfoTable *info = __atomic_load_n(&obj->info, __ATOMIC_ACQUIRE); /* helpers may be copying it */
    if (!((StgWord)info & 1) && standsFor(obj, info) != NULL) return NULL;
    return forwardedTo(obj);
}

HaskellObj expectKind(HaskellObj v, ClosureKind kind, const char *function)
{
    v = whatItIs(v);
    if (v != NULL && !rts_isImmediate(v) && rts_info(v)->kind == kind) return v;
    if (v != CAPSTAN_POISON) reportError(RTS_WRONG_KIND, "%s: %s", function, rts_statusText(RTS_WRONG_KIND));
    return NULL;
}

static Weak *weakOf(HaskellObj v, const char *function)
{
    v = expectKind(v, CLOSURE_WEAK, function);
    return v == NULL ? NULL : ((StgWeak *)v)->record;
}

/* ---- Making, looking ---- */

static void pushFresh(Weak *w)
{
    w->next = atomic_load_explicit(&weaks.fresh, memory_order_relaxed);
    /* Release: the collector, which takes the whole list, reads them; it stops everybody first, this is for who walks past it. */
    while (!atomic_compare_exchange_weak_explicit(&weaks.fresh, &w->next, w, memory_order_release, memory_order_relaxed)) {}
}

HaskellObj rts_mkWeak(Capability *cap, HaskellObj key, HaskellObj value, HaskellObj finalizer)
{
    needIdentity();
    if (cap->dead != RTS_OK || key == CAPSTAN_POISON || value == CAPSTAN_POISON || finalizer == CAPSTAN_POISON) return CAPSTAN_POISON;
    if (key == NULL || value == NULL) {
        reportError(RTS_BAD_ARGUMENT, "rts_mkWeak: the key or the value is NULL");
        return CAPSTAN_POISON;
    }
    Weak *w = rtsMalloc(sizeof *w);
    HaskellObj object = w == NULL ? NULL : newNamingObject(cap, &capstan_WEAK_info, (StgWord)w);
    if (object == NULL) {
        if (w == NULL) refuseAllocation(&cap->nursery, sizeof *w);
        rtsFree(w);
        return CAPSTAN_POISON;
    }
    *w = (Weak){ .object = object, .key = whatItIs(key), .value = value, .finalizer = finalizer };
    w->number = atomic_fetch_add_explicit(&weaks.numbers, 1, memory_order_relaxed);
    pushFresh(w);
    return object;
}

HaskellObj rts_mkWeakNoFinalizer(Capability *cap, HaskellObj key, HaskellObj value) { return rts_mkWeak(cap, key, value, NULL); }

bool rts_deRefWeak(HaskellObj weak, HaskellObj *value)
{
    Weak *w = weakOf(weak, "rts_deRefWeak");
    HaskellObj v = w == NULL ? NULL : __atomic_load_n(&w->value, __ATOMIC_ACQUIRE);
    *value = v == NULL ? CAPSTAN_POISON : v;
    return v != NULL;
}

bool rts_addCFinalizerToWeak(Capability *cap, HaskellObj weak, void (*fn)(void *ctx, void *ptr), void *ctx, void *ptr)
{
    Weak *w = cap->dead != RTS_OK ? NULL : weakOf(weak, "rts_addCFinalizerToWeak");
    if (w == NULL) return false;
    CFinalizer *c = rtsMalloc(sizeof *c);
    if (c == NULL) {
        refuseAllocation(&cap->nursery, sizeof *c);
        return false;
    }
    *c = (CFinalizer){ .fn = fn, .ctx = ctx, .ptr = ptr };
    lockRecord(&w->lock);
    bool alive = w->value != NULL;
    if (alive) {
        c->next = w->cFinalizers;
        w->cFinalizers = c;
    }
    unlockRecord(&w->lock);
    if (!alive) rtsFree(c);
    return alive;
}

/* ---- C finalizers that are due ---- */

/* The list, whose last one is last, behind those that are due already; by this owner. */
static void makeCDue(CFinalizer *list, const void *owner)
{
    if (list == NULL) return;
    CFinalizer *last = list;
    for (last->owner = owner; last->next != NULL; last->owner = owner) last = last->next;
    acquireLock(&weaks.lock);
    if (weaks.cFirst == NULL) weaks.cFirst = list;
    else weaks.cLast->next = list;
    weaks.cLast = last;
    releaseLock(&weaks.lock);
}

bool haveDueCFinalizers(void) { return atomic_load_explicit(&weaks.cFirst, memory_order_acquire) != NULL; }

bool isCFinalizerRunning(void) { return weaks.running != 0; }

/* Out of the list: those of this owner, or all. */
static CFinalizer *takeCDue(const void *owner, bool all)
{
    CFinalizer *taken = NULL, **takenEnd = &taken, *left = NULL, *leftLast = NULL;
    acquireLock(&weaks.lock);
    for (CFinalizer *c = weaks.cFirst, *next; c != NULL; c = next) {
        next = c->next;
        c->next = NULL;
        if (all || c->owner == owner) {
            *takenEnd = c;
            takenEnd = &c->next;
        } else {
            if (left == NULL) left = c;
            else leftLast->next = c;
            leftLast = c;
        }
    }
    if (taken != NULL) weaks.running++; /* first: who misses it in the list finds it here */
    weaks.cFirst = left;
    weaks.cLast = leftLast;
    releaseLock(&weaks.lock);
    return taken;
}

/* The owner will not come: anybody may run them. */
static void disownCDue(const void *owner)
{
    acquireLock(&weaks.lock);
    for (CFinalizer *c = weaks.cFirst; c != NULL; c = c->next)
        if (c->owner == owner) c->owner = NULL;
    releaseLock(&weaks.lock);
}

typedef struct {
    CFinalizer *volatile left; /* still to be called; changes behind pthread_cleanup_push, which is a setjmp */
    uint64_t epoch;            /* in which they were taken */
} CRun;

/* All were called, or one of them has ended its OS thread: the others are for somebody else. */
static void endRun(void *arg)
{
    CRun *run = arg;
    /* Else one of them forked, and this is the child, where nothing was running. */
    if (run->epoch != currentEpoch) return;
    makeCDue(run->left, NULL);
    noteReleased();
    if (--weaks.running == 0) osFutexWake(&weaks.running, INT32_MAX);
}

static void runTaken(CFinalizer *list)
{
    if (list == NULL) return;
    CRun run = { list, currentEpoch };
    pthread_cleanup_push(endRun, &run);
    for (CFinalizer c; run.left != NULL;) {
        CFinalizer *first = run.left;
        c = *first;
        run.left = c.next;
        rtsFree(first);
        c.fn(c.ctx, c.ptr);
    }
    pthread_cleanup_pop(1);
}

void runCFinalizers(const void *owner) { runTaken(takeCDue(owner, false)); }

/* How long who is out of memory waits for those that others are calling. */
#define PATIENCE_NANOS 1000000000u

/* Until nobody calls any of these.  false: that takes too long. */
static bool awaitCalls(_Atomic uint32_t *running, uint64_t until)
{
    for (uint32_t n; (n = *running) != 0;) {
        uint64_t now = osMonotonicNanos();
        if (now >= until) return false;
        osFutexWait(running, n, (int64_t)(until - now));
    }
    return true;
}

typedef struct {
    Task *task;
    Capability *cap;
    bool finalizing;
} Marks;

static void takeMarksBack(void *arg)
{
    Marks *m = arg;
    m->task->cap = m->cap;
    m->task->finalizing = m->finalizing;
}

static void runMarked(void (*run)(void *arg), void *arg)
{
    Task *task = getMyTask();
    Marks before = { task, task->cap, task->finalizing };
    pthread_cleanup_push(takeMarksBack, &before);
    task->finalizing = true;
    if (before.cap == NULL) task->cap = &finalizerMark;
    run(arg);
    pthread_cleanup_pop(1);
}

static void runOwned(void *owner) { runCFinalizers(owner); }
void *callCFinalizers(void *owner)
{
    runMarked(runOwned, owner);
    return NULL;
}

bool isReleasePending(void)
{
    return haveExternalReleases() || haveDueCFinalizers() || isCFinalizerRunning() || externalsRunning != 0;
}

/* In this order: of what is not pending any more it is noted that it was released. */
bool isHeapFullForGood(void) { return !isReleasePending() && isHeapFull(); }

static void runPending(void *all)
{
    runExternalReleases(false);
    runCFinalizers(NULL); /* those of an owner are left to it */
    uint64_t until = osMonotonicNanos() + PATIENCE_NANOS;
    *(bool *)all = awaitCalls(&weaks.running, until) && awaitCalls(&externalsRunning, until);
}
void *callReleases(void *answer)
{
    bool all;
    runMarked(runPending, &all);
    return all ? answer : NULL;
}

/* ---- Finalizing by hand ---- */

/* Let it die; its managed finalizer, or NULL.  Its C finalizers are due, and owner's; *any: there are some. */
static HaskellObj killWeak(Weak *w, const void *owner, bool *any)
{
    lockRecord(&w->lock);
    bool alive = __atomic_exchange_n(&w->value, NULL, __ATOMIC_ACQ_REL) != NULL;
    HaskellObj finalizer = alive ? w->finalizer : NULL;
    CFinalizer *list = alive ? w->cFinalizers : NULL;
    if (alive) {
        w->finalizer = NULL;
        w->cFinalizers = NULL;
    }
    unlockRecord(&w->lock);
    *any = list != NULL;
    makeCDue(list, owner);
    return finalizer;
}

static HaskellObj callMine(Stack *stack, void *owner)
{
    rts_safeCall(stack, callCFinalizers, owner);
    return CAPSTAN_UNIT;
}

void rts_finalizeWeak(Stack *stack, HaskellObj weak)
{
    Weak *w = weakOf(weak, "rts_finalizeWeak");
    if (w == NULL) rts_raise(stack, &capstan_WrongKind_closure);
    char me = 0; /* its address is a name that nobody else has meanwhile */
    bool any;
    HaskellObj finalizer = killWeak(w, &me, &any), ignored = CAPSTAN_UNIT;
    if (finalizer == NULL) finalizer = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, finalizer);
    /* An exception may come before the call: then a collection, or exit, finds them. */
    if (any && !rts_try(stack, callMine, &me, &ignored)) {
        disownCDue(&me);
        rts_raise(stack, ignored);
    }
    CAPSTAN_UNROOT(stack);
    if (finalizer != CAPSTAN_UNIT) rts_runIO(stack, finalizer);
}

/* ---- Managed finalizers that are due ---- */

bool haveDueFinalizers(void) { return atomic_load_explicit(&weaks.dueFirst, memory_order_relaxed) != NULL; }

static void appendDue(Weak *w)
{
    w->due = true;
    w->dueNext = NULL;
    if (weaks.dueFirst == NULL) weaks.dueFirst = w;
    else weaks.dueLast->dueNext = w;
    weaks.dueLast = w;
}

Weak *takeDueWeaks(void)
{
    acquireLock(&weaks.lock);
    Weak *first = weaks.dueFirst;
    weaks.dueFirst = weaks.dueLast = NULL;
    releaseLock(&weaks.lock);
    return first;
}

void putBackDueWeaks(Weak *first)
{
    if (first == NULL) return;
    Weak *last = first;
    while (last->dueNext != NULL) last = last->dueNext;
    acquireLock(&weaks.lock);
    last->dueNext = weaks.dueFirst;
    if (weaks.dueFirst == NULL) weaks.dueLast = last;
    weaks.dueFirst = first;
    releaseLock(&weaks.lock);
}

HaskellObj takeFinalizer(Weak *w)
{
    HaskellObj finalizer = w->finalizer;
    w->finalizer = NULL;
    w->due = false;
    return finalizer;
}

/* ---- Collections ---- */

static void moveAll(Weak **from, Weak **to)
{
    for (Weak *w = *from, *next; w != NULL; w = next) {
        next = w->next;
        w->next = *to;
        *to = w;
    }
    *from = NULL;
}

static void begin(bool minor)
{
    Weak *fresh = atomic_exchange_explicit(&weaks.fresh, NULL, memory_order_acquire);
    weaks.begun = true;
    weaks.unseen = weaks.seen = NULL;
    moveAll(&fresh, &weaks.unseen);
    moveAll(&weaks.young, &weaks.unseen);
    if (!minor) moveAll(&weaks.old, &weaks.unseen);
}

/* Visit what lives by it, if it is known by now that something does. */
static bool seeWeak(Visitor *v, Weak *w)
{
    if (w->value == NULL) {
        if (w->due) visitRoot(v, &w->finalizer);
        return true;
    }
    keyLooks++;
    HaskellObj key = whereItIs(w->key);
    if (key == NULL) return false;
    w->key = key;
    visitRoot(v, &w->value);
    if (w->finalizer != NULL) visitRoot(v, &w->finalizer);
    return true;
}

/* From the second pass on what lives by one is followed before the next is looked at, and each pass goes the other way than the one before: so a chain of keys
 * that lead to each other takes two passes if it was made in order, whichever. */
static bool visitLiveWeaks(Visitor *v)
{
    bool any = false, again = weaks.begun;
    if (!again) begin(v->minor);
    Weak *all = weaks.unseen;
    weaks.unseen = NULL;
    for (Weak *w = all, *next; w != NULL; w = next) {
        next = w->next;
        bool lives = seeWeak(v, w);
        Weak **list = lives ? &weaks.seen : &weaks.unseen;
        w->next = *list;
        *list = w;
        any |= lives;
        if (lives && again) followNear(v);
    }
    return any;
}

static void visitParts(Visitor *v, void *owner, void *item)
{
    Weak *w = item;
    visitRoot(v, &w->value);
    if (w->finalizer != NULL) visitRoot(v, &w->finalizer);
}

/* Old ones stay in that list up to the next major collection or the end of a marking. */
static bool visitEarlyWeaks(Visitor *v, bool first)
{
    if (first) weaks.early = weaks.old;
    for (unsigned i = 0; i < EARLY && weaks.early != NULL; i++, weaks.early = weaks.early->next)
        if (weaks.early->value != NULL && isMarkedAlive(weaks.early->key)) visitParts(v, NULL, weaks.early);
    return weaks.early != NULL;
}

static void awaitKeys(void)
{
    for (Weak *w = weaks.unseen; w != NULL; w = w->next) {
        keyLooks++;
        awaitKey(w->key, whereItIs(w->key) != NULL, false, visitParts, NULL, w);
    }
}

/* In the order of creation: merge sort. */
static Weak *merge(Weak *a, Weak *b)
{
    Weak *merged = NULL, **end = &merged;
    while (a != NULL && b != NULL) {
        Weak **first = a->number < b->number ? &a : &b;
        *end = *first;
        *first = (*first)->next;
        end = &(*end)->next;
    }
    *end = a != NULL ? a : b;
    return merged;
}

static Weak *sortWeaks(Weak *list)
{
    Weak *runs[64] = { NULL };
    while (list != NULL) {
        Weak *run = list;
        list = list->next;
        run->next = NULL;
        unsigned i = 0;
        for (; runs[i] != NULL; i++) {
            run = merge(runs[i], run);
            runs[i] = NULL;
        }
        runs[i] = run;
    }
    for (unsigned i = 0; i < 64; i++) list = merge(list, runs[i]);
    return list;
}

static void visitDeadWeaks(Visitor *v)
{
    Weak *dead = sortWeaks(weaks.unseen);
    weaks.unseen = NULL;
    for (Weak *w = dead; w != NULL; w = w->next) {
        __atomic_store_n(&w->value, NULL, __ATOMIC_RELAXED);
        if (w->finalizer == NULL) continue;
        appendDue(w);
        visitRoot(v, &w->finalizer);
    }
    moveAll(&dead, &weaks.seen);
}

static void placeWeak(Weak *w)
{
    bool young = w->object != NULL && isYoung(w->object);
    young |= isYoung(w->key);
    young |= w->value != NULL && isYoung(w->value);
    young |= w->finalizer != NULL && isYoung(w->finalizer);
    Weak **list = young ? &weaks.young : &weaks.old;
    w->next = *list;
    *list = w;
}

/* The key of a dead one matters as long as it has C finalizers.  true: nothing reaches it: they are due. */
static bool isKeyGone(Weak *w)
{
    if (w->value != NULL) return false;
    HaskellObj key = w->cFinalizers == NULL ? CAPSTAN_UNIT : whereItIs(w->key);
    w->key = key == NULL ? CAPSTAN_UNIT : key;
    return key == NULL;
}

static void keepOrFree(Weak *w)
{
    if (w->value != NULL || w->object != NULL || w->due || w->cFinalizers != NULL) placeWeak(w);
    else rtsFree(w);
}

static void sweepWeaks(bool minor)
{
    Weak *gone = NULL;
    for (Weak *w = weaks.seen, *next; w != NULL; w = next) {
        next = w->next;
        if (w->object != NULL) w->object = forwardedTo(w->object);
        if (isKeyGone(w)) {
            w->next = gone;
            gone = w;
        } else {
            keepOrFree(w);
        }
    }
    for (Weak *w = sortWeaks(gone), *next; w != NULL; w = next) {
        next = w->next;
        makeCDue(w->cFinalizers, NULL);
        w->cFinalizers = NULL;
        keepOrFree(w);
    }
    weaks.seen = NULL;
    weaks.begun = false;
}

/* ---- Who looks at everything ---- */

static void visitKeptWeak(Visitor *v, Weak *w, bool old)
{
    HaskellObj *parts[] = { v->checks ? &w->key : NULL, &w->value, &w->finalizer };
    for (unsigned i = 0; i < 3; i++) {
        if (parts[i] == NULL || *parts[i] == NULL) continue;
        HaskellObj part = *parts[i];
        visitRoot(v, &part);
        if (old && v->checks && isYoung(part)) v->missed(v, w, "a weak pointer in the list of old ones has something young");
    }
}

static void visitKeptWeaks(Visitor *v)
{
    for (Weak *w = weaks.fresh; w != NULL; w = w->next) visitKeptWeak(v, w, false);
    for (Weak *w = weaks.young; w != NULL; w = w->next) visitKeptWeak(v, w, false);
    for (Weak *w = weaks.old; w != NULL; w = w->next) visitKeptWeak(v, w, true);
}

const GcTable weakPointerTable = {
    .visitEarly = visitEarlyWeaks, .visitLive = visitLiveWeaks, .await = awaitKeys, .visitDead = visitDeadWeaks, .sweep = sweepWeaks, .visitKept = visitKeptWeaks
};

static bool isCodeIn(CFinalizer *list, uintptr_t lo, uintptr_t hi)
{
    for (CFinalizer *c = list; c != NULL; c = c->next)
        if ((uintptr_t)c->fn - lo < hi - lo || (uintptr_t)c->ctx - lo < hi - lo || (uintptr_t)c->ptr - lo < hi - lo) return true;
    return false;
}

bool anyCFinalizerIn(const void *lo, const void *hi)
{
    Weak *lists[] = { weaks.fresh, weaks.young, weaks.old };
    acquireLock(&weaks.lock);
    bool any = isCodeIn(weaks.cFirst, (uintptr_t)lo, (uintptr_t)hi);
    releaseLock(&weaks.lock);
    for (unsigned i = 0; i < 3; i++)
        for (Weak *w = lists[i]; w != NULL && !any; w = w->next) any = isCodeIn(w->cFinalizers, (uintptr_t)lo, (uintptr_t)hi);
    return any;
}

/* ---- Exit ---- */

void endWeaks(void)
{
    Weak *all = atomic_exchange_explicit(&weaks.fresh, NULL, memory_order_acquire);
    /* Those in the midst of safe calls, too: hosts count on it that all have run. */
    for (uint32_t n; (n = weaks.running) != 0;) osFutexWait(&weaks.running, n, -1);
    moveAll(&weaks.young, &all);
    moveAll(&weaks.old, &all);
    weaks.dueFirst = weaks.dueLast = NULL;
    for (Weak *w = sortWeaks(all), *next; w != NULL; w = next) {
        next = w->next;
        makeCDue(w->cFinalizers, NULL);
        rtsFree(w);
    }
    runTaken(takeCDue(NULL, true));
}

void forgetWeaks(void)
{
    renewLock(&weaks.lock);
    weaks.fresh = weaks.young = weaks.old = weaks.seen = weaks.unseen = NULL;
    weaks.begun = false;
    weaks.dueFirst = weaks.dueLast = NULL;
    weaks.cFirst = weaks.cLast = NULL;
    weaks.running = 0;
}

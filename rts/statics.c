#include "statics.h"

#include "base/lock.h"
#include "rts/Language.h"

#include <stdatomic.h>

/* As if old from the beginning: what is written into one is remembered. */
const StgInfoTable capstan_STATICMUTVAR_info = { CLOSURE_MUTVAR, INFO_STATIC | INFO_OLD, 0, 0, 0, 0, NULL, "static MutVar", NULL };

#define END_OF_LIST ((StgStaticThunk *)1)

static struct {
    Lock lock;
    StgStaticThunk *used;     /* [lock] through link; END_OF_LIST ends it */
    StgStaticThunk *_Atomic changing; /* [lock] just being put in or out, for a forked child; NULL: none */
} statics = { .lock = LOCK_INIT(RANK_STATICS), .used = END_OF_LIST };

/* A child may see each of these stores, or none from one of them on: so they stay in order. */
static void beginChange(StgStaticThunk *closure)
{
    atomic_store_explicit(&statics.changing, closure, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
}
static void endChange(void)
{
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(&statics.changing, NULL, memory_order_release);
}

/* Acquire, release: who finds it in the list stores into it what a collection will look for. */
static bool isNoted(const StgStaticThunk *closure) { return __atomic_load_n(&closure->link, __ATOMIC_ACQUIRE) != NULL; }
static void setLink(StgStaticThunk *closure, StgStaticThunk *link) { __atomic_store_n(&closure->link, link, __ATOMIC_RELEASE); }

void noteStatic(StgStaticThunk *closure)
{
    if (isNoted(closure)) return;
    acquireLock(&statics.lock);
    if (!isNoted(closure)) {
        beginChange(closure);
        setLink(closure, statics.used);
        statics.used = closure;
        endChange();
    }
    releaseLock(&statics.lock);
}

static bool isVariable(const StgStaticThunk *closure) { return closure->info->kind == CLOSURE_MUTVAR; }

void scanStatics(Visitor *v)
{
    if (v->minor) return;
    acquireLock(&statics.lock);
    for (StgStaticThunk *t = statics.used; t != END_OF_LIST; t = t->link)
        if (isVariable(t) || (t->state != 0 && !isBlackHoleMark(t->state))) visitRoot(v, (HaskellObj *)&t->state);
    releaseLock(&statics.lock);
}

static void revertOne(StgStaticThunk *t)
{
    setLink(t, NULL);
    StgWord initial = isVariable(t) ? (StgWord)((StgStaticMutVar *)(void *)t)->initial : 0;
    __atomic_store_n(&t->state, initial, __ATOMIC_RELEASE);
}

/* Those in a range that may be all there is. */
static void revertBetween(uintptr_t lo, uintptr_t size)
{
    acquireLock(&statics.lock);
    for (StgStaticThunk **link = &statics.used, *t; (t = *link) != END_OF_LIST;) {
        if ((uintptr_t)t - lo >= size) {
            link = &t->link;
            continue;
        }
        beginChange(t);
        __atomic_store_n(link, t->link, __ATOMIC_RELEASE); /* another closure's, perhaps, which is in use: see isNoted */
        revertOne(t);
        endChange();
    }
    releaseLock(&statics.lock);
}

void revertStatics(void) { revertBetween(0, UINTPTR_MAX); }
void revertStaticsIn(const void *lo, const void *hi) { revertBetween((uintptr_t)lo, (uintptr_t)hi - (uintptr_t)lo); }

static bool isInList(const StgStaticThunk *closure)
{
    StgStaticThunk *t = statics.used;
    while (t != END_OF_LIST && t != closure) t = t->link;
    return t == closure;
}

void forgetStatics(void)
{
    StgStaticThunk *changing = statics.changing;
    renewLock(&statics.lock);
    /* Out of the list: something names it while it is in, or not yet out. */
    if (changing != NULL && !isInList(changing)) revertOne(changing);
    statics.changing = NULL;
}

/* Which words of an object are managed. */
#include "gc/heap.h"

static void visitAll(HaskellObj *p, size_t n, Visitor *v)
{
    for (size_t i = 0; i < n; i++) visitRoot(v, &p[i]);
}

ThreadHooks gcThreads;

void scavengeObject(StgClosure *obj, Visitor *v)
{
    const StgInfoTable *info = obj->info;
    switch (info->kind) {
    case CLOSURE_CON:
    case CLOSURE_FUN:
        visitAll(obj->payload, info->ptrs, v);
        break;
    case CLOSURE_THUNK: {
        StgThunk *thunk = (StgThunk *)obj;
        if (thunk->state != 0 && !isBlackHoleMark(thunk->state)) visitRoot(v, (HaskellObj *)&thunk->state);
        visitAll(thunk->payload, info->ptrs, v);
        break;
    }
    case CLOSURE_AP: {
        StgAP *ap = (StgAP *)obj;
        if (ap->state != 0 && !isBlackHoleMark(ap->state)) visitRoot(v, (HaskellObj *)&ap->state);
        visitRoot(v, &ap->fun);
        visitRoot(v, &ap->arg);
        break;
    }
    case CLOSURE_PAP: {
        StgPAP *pap = (StgPAP *)obj;
        visitRoot(v, &pap->fun);
        visitAll(pap->args, pap->count, v);
        break;
    }
    case CLOSURE_IND:
    case CLOSURE_MUTVAR:
        visitRoot(v, &((StgMutVar *)obj)->value);
        break;
    case CLOSURE_ARRAY:
        visitAll(((StgArray *)obj)->elems, ((StgArray *)obj)->length, v);
        break;
    case CLOSURE_MVAR: {
        StgMVar *mvar = (StgMVar *)obj;
        if (mvar->value != NULL) visitRoot(v, &mvar->value);
        for (StgTSO *t = mvar->head; t != NULL; t = gcThreads.next(t)) gcThreads.reach(t);
        break;
    }
    case CLOSURE_TSO:
        if (((StgThreadId *)obj)->tso != NULL) gcThreads.reach(((StgThreadId *)obj)->tso);
        break;
    default: /* bytes and boxed numbers hold nothing managed */
        break;
    }
}

/* gc/fields.h: which words of an object are managed, and how many words it has.  Inlined into each collector's loop. */
#ifndef GC_FIELDS_H
#define GC_FIELDS_H

#include "gc/heap.h"

#define GC_INLINE static inline __attribute__((always_inline))

/* Of constructors and functions, which most objects are. */
_Static_assert(CLOSURE_CON == 0 && CLOSURE_FUN == 1, "they are the first kinds");
GC_INLINE size_t plainWords(const StgInfoTable *info)
{
    size_t fields = (size_t)info->ptrs + info->nptrs;
    return 1 + fields + (fields == 0);
}

/* Words of an object with this header: the header word itself may hold a forwarding address by now. */
GC_INLINE size_t wordsOf(const StgClosure *obj, const StgInfoTable *info)
{
    switch (info->kind) {
    case CLOSURE_CON:
    case CLOSURE_FUN: return plainWords(info);
    case CLOSURE_THUNK: return 2 + (size_t)info->ptrs + info->nptrs;
    case CLOSURE_AP: return 4;
    case CLOSURE_PAP: return 3 + ((const StgPAP *)obj)->count;
    case CLOSURE_ARRAY: return 2 + ((const StgArray *)obj)->length;
    case CLOSURE_BYTES: return 2 + (((const StgBytes *)obj)->length + sizeof(StgWord) - 1) / sizeof(StgWord);
    case CLOSURE_EXTERNAL: return 4;
    case CLOSURE_MVAR: return sizeof(StgMVar) / sizeof(StgWord);
    case CLOSURE_TSO: return sizeof(StgThreadId) / sizeof(StgWord);
    default: return 2;
    }
}

typedef void SlotVisitor(Visitor *v, HaskellObj *slot);

GC_INLINE void visitAll(HaskellObj *p, size_t n, SlotVisitor *visit, Visitor *v)
{
    for (size_t i = 0; i < n; i++) visit(v, &p[i]);
}

/* The value of a finished thunk, which needs nothing else any more.  false: it is not finished. */
GC_INLINE bool visitState(StgWord *state, SlotVisitor *visit, Visitor *v)
{
    if (*state == 0 || isBlackHoleMark(*state)) return false;
    visit(v, (HaskellObj *)state);
    return true;
}

GC_INLINE void visitMVar(StgMVar *mvar, SlotVisitor *visit, Visitor *v)
{
    if (mvar->value != NULL) visit(v, &mvar->value);
    if (v->minor || v->marks) return; /* whatever waits is alive, and dirty if it holds anything young */
    for (StgTSO *t = mvar->head; t != NULL; t = gcThreads.next(t)) gcThreads.reach(t);
}

/* visit is known where this is inlined. */
GC_INLINE void eachField(StgClosure *obj, SlotVisitor *visit, Visitor *v)
{
    const StgInfoTable *info = obj->info;
    switch (info->kind) {
    case CLOSURE_CON:
    case CLOSURE_FUN:
        visitAll(obj->payload, info->ptrs, visit, v);
        break;
    case CLOSURE_THUNK:
        if (!visitState(&((StgThunk *)obj)->state, visit, v)) visitAll(((StgThunk *)obj)->payload, info->ptrs, visit, v);
        break;
    case CLOSURE_AP:
        if (!visitState(&((StgAP *)obj)->state, visit, v)) visitAll(&((StgAP *)obj)->fun, 2, visit, v);
        break;
    case CLOSURE_PAP:
        visit(v, &((StgPAP *)obj)->fun);
        visitAll(((StgPAP *)obj)->args, ((StgPAP *)obj)->count, visit, v);
        break;
    case CLOSURE_IND:
    case CLOSURE_MUTVAR:
        visit(v, &((StgMutVar *)obj)->value);
        break;
    case CLOSURE_ARRAY:
        visitAll(((StgArray *)obj)->elems, ((StgArray *)obj)->length, visit, v);
        break;
    case CLOSURE_MVAR:
        visitMVar((StgMVar *)obj, visit, v);
        break;
    case CLOSURE_TSO:
        if (!v->minor && !v->marks && ((StgThreadId *)obj)->tso != NULL) gcThreads.reach(((StgThreadId *)obj)->tso);
        break;
    default: /* bytes and boxed numbers hold nothing managed */
        break;
    }
}

/* Variables and arrays that become old say so in their headers. */
GC_INLINE const StgInfoTable *infoWhenOld(const StgInfoTable *info)
{
    switch (info->kind) {
    case CLOSURE_MUTVAR: return &oldMutVar_info;
    case CLOSURE_ARRAY: return &oldArray_info;
    case CLOSURE_MVAR: return &oldMVar_info;
    default: return info;
    }
}

/* What a finished thunk or an indirection stands for; NULL if the object must be kept. */
GC_INLINE HaskellObj standsFor(const StgClosure *obj, const StgInfoTable *info)
{
    switch (info->kind) {
    case CLOSURE_IND: return ((const StgInd *)obj)->value;
    case CLOSURE_AP:
    case CLOSURE_THUNK: {
        StgWord state = ((const StgThunk *)obj)->state;
        return state == 0 || isBlackHoleMark(state) ? NULL : (HaskellObj)state;
    }
    default: return NULL;
    }
}

#endif

/* thunk.h: evaluating each thunk once.
 *
 * A thunk's second word is its state: 0 not begun; a value when done (acquire to read, release to write: the value's
 * contents come with it); otherwise the evaluator, a StgTSO with low bits 100, set by compare-and-swap from 0.  The payload stays
 * until the thunk is done, so that it can be re-armed by writing 0 again. */
#ifndef THUNK_H
#define THUNK_H

#include "gc/heap.h"
#include "rts/Managed.h"

/* Roots: values of static thunks. */
void scanStaticThunks(RootVisitor visit);
/* Exit: static thunks are as if never entered. */
void revertStaticThunks(void);

static inline StgWord thunkState(HaskellObj thunk)
{
    return __atomic_load_n(&((StgThunk *)thunk)->state, __ATOMIC_ACQUIRE);
}

#endif

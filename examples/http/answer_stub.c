/* As a compiler would generate it from the declaration in answer.h. */
#include "answer.h"

extern StgClosure answer_closure;
HsInt32 answerManaged(HsPtr a1, HsPtr a2, HsPtr a3, HsPtr a4, HsPtr a5, HsPtr a6, HsPtr a7, HsPtr a8)
{
    Capability *cap;
    HaskellObj ret;
    HsInt32 cret;
    cap = rts_lock();
    rts_evalIO(&cap, rts_apply(cap, (HaskellObj)runIO_closure, rts_apply(cap, rts_apply(cap, rts_apply(cap, rts_apply(cap, rts_apply(cap, rts_apply(cap, rts_apply(cap, rts_apply(cap, &answer_closure, rts_mkPtr(cap, a1)), rts_mkPtr(cap, a2)), rts_mkPtr(cap, a3)), rts_mkPtr(cap, a4)), rts_mkPtr(cap, a5)), rts_mkPtr(cap, a6)), rts_mkPtr(cap, a7)), rts_mkPtr(cap, a8))), &ret);
    rts_checkSchedStatus("answerManaged", cap);
    cret = rts_getInt32(ret);
    rts_unlock(cap);
    return cret;
}

static struct ForeignExportsList answerExports = { .n_entries = 1, .exports = { (StgPtr)&answer_closure } };
static void __attribute__((constructor)) initAnswer(void) { registerForeignExports(&answerExports); }

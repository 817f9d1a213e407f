#include "arch.h"

#include <unwind.h>

void (*archLeavingSideways)(void *trap_frame_address, bool forced);

_Unwind_Reason_Code archPersonality(int version, _Unwind_Action actions, _Unwind_Exception_Class kind,
                                    struct _Unwind_Exception *exception, struct _Unwind_Context *context);

/* Named by the CFI of archEnter. The search phase passes by: nothing here catches. What unwinders call the CFA of a
 * frame is the stack pointer at its call, and there archEnter keeps its frame. */
_Unwind_Reason_Code archPersonality(int version, _Unwind_Action actions, _Unwind_Exception_Class kind,
                                    struct _Unwind_Exception *exception, struct _Unwind_Context *context)
{
    if (version != 1)
        return _URC_FATAL_PHASE1_ERROR;
    if ((actions & _UA_CLEANUP_PHASE) != 0 && archLeavingSideways != NULL)
        archLeavingSideways((void *)_Unwind_GetCFA(context), (actions & _UA_FORCE_UNWIND) != 0);
    return _URC_CONTINUE_UNWIND;
}

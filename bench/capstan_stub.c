/* The text that GHC 9.0.2 generates for
 *     foreign export ccall subjectCall :: Int -> IO Int
 *     foreign export ccall subjectWork :: Int -> IO Int
 * in a module Calls (peers/Calls.hs), to the letter, so that B1 and B2 measure what a generated stub gets. */
#define IN_STG_CODE 0
#include <Rts.h>
#include "Stg.h"
#if defined(__cplusplus)
extern "C" {
#endif
 
extern StgClosure Calls_zdfstableZZC1ZZCmainZZCCallsZZCsubjectCall_closure;
HsInt subjectCall(HsInt a1)
{
Capability *cap;
HaskellObj ret;
HsInt cret;
cap = rts_lock();
rts_evalIO(&cap,rts_apply(cap,(HaskellObj)runIO_closure,rts_apply(cap,&Calls_zdfstableZZC1ZZCmainZZCCallsZZCsubjectCall_closure,rts_mkInt(cap,a1))) ,&ret);
rts_checkSchedStatus("subjectCall",cap);
cret=rts_getInt(ret);
rts_unlock(cap);
return cret;
}
 
extern StgClosure Calls_zdfstableZZC0ZZCmainZZCCallsZZCsubjectWork_closure;
HsInt subjectWork(HsInt a1)
{
Capability *cap;
HaskellObj ret;
HsInt cret;
cap = rts_lock();
rts_evalIO(&cap,rts_apply(cap,(HaskellObj)runIO_closure,rts_apply(cap,&Calls_zdfstableZZC0ZZCmainZZCCallsZZCsubjectWork_closure,rts_mkInt(cap,a1))) ,&ret);
rts_checkSchedStatus("subjectWork",cap);
cret=rts_getInt(ret);
rts_unlock(cap);
return cret;
}
static struct ForeignExportsList stg_exports_Calls = {.exports =  {(StgPtr) &Calls_zdfstableZZC1ZZCmainZZCCallsZZCsubjectCall_closure,
                                                                   (StgPtr) &Calls_zdfstableZZC0ZZCmainZZCCallsZZCsubjectWork_closure}, .n_entries =  2};
static void stginit_export_Calls(void)  __attribute__((constructor));
static void stginit_export_Calls()
{registerForeignExports(&stg_exports_Calls);}
#if defined(__cplusplus)
}
#endif


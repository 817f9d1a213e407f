/* What tests/hpp_test.cpp calls. */
#ifndef HPP_MANAGED_H
#define HPP_MANAGED_H

#include <Rts.h>
#include <rts/Managed.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef void *HppFunction(void *arg);

CAPSTAN_EXTERN(hppSame);
CAPSTAN_EXTERN(hppAdd);
CAPSTAN_EXTERN(hppSquare);
CAPSTAN_EXTERN(hppFail);
CAPSTAN_EXTERN(hppThrow);
CAPSTAN_EXTERN(hppBottom);
CAPSTAN_EXTERN(hppTrouble);
CAPSTAN_EXTERN(hppCodeOf);
CAPSTAN_EXTERN(hppList);
CAPSTAN_EXTERN(hppCheck);
CAPSTAN_EXTERN(hppCollect);
CAPSTAN_EXTERN(hppEndless);
CAPSTAN_EXTERN(hppGreedy);
CAPSTAN_EXTERN(hppTwice);
CAPSTAN_EXTERN(hppRescue);
CAPSTAN_EXTERN(hppPlainly);
CAPSTAN_EXTERN(hppSafely);

#ifdef __cplusplus
}
#endif
#endif

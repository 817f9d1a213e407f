/* rts/Try.h: how an in-call ended, in a record that needs no capability to read.  The NAME_try functions of capstan-foreign fill it. */
#ifndef RTS_TRY_H
#define RTS_TRY_H

#include "rts/Config.h"
#include "rts/Threads.h"
#include "rts/Types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Set size, and keep if wanted; the rest is filled in by every call that gets the record, whatever the status.  Start from RTS_ERROR_INIT. */
typedef struct {
    size_t size;               /* sizeof(RtsError) */
    bool keep;                 /* in: give a stable pointer to the exception */
    SchedulerStatus status;
    RtsStatus refusal;         /* Refused, TimedOut, Cancelled before it began: why; else RTS_OK */
    char exception_class[64];  /* the constructor of the exception: "ErrorCall"; empty if there was none */
    char message[256];         /* UTF-8, cut at a character; bytes of the exception's text that are none are question marks */
    StgStablePtr exception;    /* Owns: the receiver, hs_free_stable_ptr.  NULL unless kept, or without memory */
} RtsError;
#define RTS_ERROR_INIT { sizeof(RtsError), false, NoStatus, RTS_OK, "", "", NULL }

/* rts_getSchedStatus; *error, unless it is NULL, says more.  cap may be a dead one. */
CAPSTAN_API SchedulerStatus rts_getError(Capability *cap, RtsError *error) CAPSTAN_NOSAFEPOINT;
/* Why a result could not be given to C as a string or byte array, into *error (may be NULL).  HeapExhausted: C's malloc had no memory for it.  Killed, as if the
 * call had raised WrongKind: it is no byte array. */
CAPSTAN_API SchedulerStatus rts_notGivenError(HaskellObj result, RtsError *error) CAPSTAN_NOSAFEPOINT;

#ifdef __cplusplus
}
#endif
#endif

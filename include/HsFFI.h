/* HsFFI.h: the C types and the few functions that the FFI chapter of the Haskell 2010 report gives to C.
 *
 * Generated stub headers include this file and nothing else.  Names and signatures follow the report and GHC. */
#ifndef HSFFI_H
#define HSFFI_H

#include "rts/Types.h"
#include <float.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef StgChar    HsChar;
typedef StgInt     HsInt;
typedef StgInt8    HsInt8;
typedef StgInt16   HsInt16;
typedef StgInt32   HsInt32;
typedef StgInt64   HsInt64;
typedef StgWord    HsWord;
typedef StgWord8   HsWord8;
typedef StgWord16  HsWord16;
typedef StgWord32  HsWord32;
typedef StgWord64  HsWord64;
typedef StgFloat   HsFloat;
typedef StgDouble  HsDouble;
typedef StgInt     HsBool;
typedef void      *HsPtr;
typedef void     (*HsFunPtr)(void);
typedef void      *HsStablePtr;

#define HS_CHAR_MIN    0
#define HS_CHAR_MAX    0x10FFFF
#define HS_BOOL_FALSE  0
#define HS_BOOL_TRUE   1
#define HS_BOOL_MIN    HS_BOOL_FALSE
#define HS_BOOL_MAX    HS_BOOL_TRUE
#define HS_INT_MIN     INT64_MIN
#define HS_INT_MAX     INT64_MAX
#define HS_WORD_MAX    UINT64_MAX
#define HS_INT8_MIN    INT8_MIN
#define HS_INT8_MAX    INT8_MAX
#define HS_INT16_MIN   INT16_MIN
#define HS_INT16_MAX   INT16_MAX
#define HS_INT32_MIN   INT32_MIN
#define HS_INT32_MAX   INT32_MAX
#define HS_INT64_MIN   INT64_MIN
#define HS_INT64_MAX   INT64_MAX
#define HS_WORD8_MAX   UINT8_MAX
#define HS_WORD16_MAX  UINT16_MAX
#define HS_WORD32_MAX  UINT32_MAX
#define HS_WORD64_MAX  UINT64_MAX
#define HS_FLOAT_RADIX   FLT_RADIX
#define HS_FLOAT_DIG     FLT_DIG
#define HS_FLOAT_EPSILON FLT_EPSILON
#define HS_FLOAT_MIN     FLT_MIN
#define HS_FLOAT_MAX     FLT_MAX
#define HS_DOUBLE_DIG     DBL_DIG
#define HS_DOUBLE_EPSILON DBL_EPSILON
#define HS_DOUBLE_MIN     DBL_MIN
#define HS_DOUBLE_MAX     DBL_MAX

/* Cancellation (pthread_cancel; of the deferred kind: the other never).  No function of the runtime, here and in the other headers, is a cancellation point of
 * its own, wait as it may.  What it calls of the host's may be: hooks but the log hook, C finalizers, release functions, C that managed code calls.  A thread that
 * ends there leaves nothing locked, the world going on, its in-calls as doc/scheduler.md says; what it had still to do for others is done by others. */

/* Start the runtime, or count one more user of it.  argc and argv may be NULL.
 * With argv, options between +RTS and -RTS are taken out of it if the host's configuration allows them.
 * Context: any thread, not inside an in-call (but those of a runtime that is over).  Blocks: while another thread starts or ends the runtime.
 * Errors: reach RtsConfig.errorHook (default: a line through the log hook); rts_start gives them as a status.
 * fork(): the child may exec, exit, or call hs_init, whatever the parent's threads were doing; it has no runtime until then, and what it
 * knows of the parent's (stable pointers, handles) names nothing.  A safe call that returns in the child ends its in-call as
 * Interrupted.  Who forks while holding a capability, or inside a hook, should exec or exit.
 * Cancellation: waits until it has ended (but for the error hook).
 * See: hs_init in GHC and in the FFI chapter. */
CAPSTAN_API void hs_init(int *argc, char **argv[]) CAPSTAN_NOSAFEPOINT;

/* Drop one user; the last one ends the runtime: running in-calls end as Interrupted at their next safepoint, waiting
 * ones get the closed answer, safe calls in progress find out when they return.  A later hs_init starts afresh.
 * Context: any thread, not inside an in-call (reported as RTS_INSIDE_INCALL, nothing done).
 * Blocks: until every capability has been given up.
 * Cancellation: waits until it has ended.  What it calls of the host's (onExitHook, finalizers, release functions, results of submissions) must return.
 * Errors: a surplus call is reported as RTS_NOT_STARTED. */
CAPSTAN_API void hs_exit(void) CAPSTAN_NOSAFEPOINT;

/* Free the calling thread's Task at once instead of when the thread ends.  Does nothing without one; repeatable.
 * A thread whose very first in-call comes in the last round of its key destructors is told by nobody of its end: it calls this, or its record (1.5 KB)
 * stays until the process ends.
 * Errors: inside an in-call RTS_INSIDE_INCALL is reported and nothing done. */
CAPSTAN_API void hs_thread_done(void) CAPSTAN_NOSAFEPOINT;

/* Ask for a collection of the whole heap and wait until one that began after the call has ended.
 * Context: a thread that holds no capability.  Modules that the host gave away (rts_unloadModule) may be unloaded here.
 * Cancellation: when all is collected and the world goes on, in gcDoneHook, C finalizers and release functions.
 * Errors: RTS_NOT_STARTED, RTS_HOLDS_CAPABILITY, RTS_IN_FINALIZER, RTS_NO_MEMORY (nothing was collected), through the error hook.
 * See: hs_perform_gc of the FFI chapter. */
CAPSTAN_API void hs_perform_gc(void) CAPSTAN_SAFEPOINT;
CAPSTAN_API void hs_perform_major_gc(void) CAPSTAN_SAFEPOINT;
/* The same of the young objects only (of everything, if that is due).  See: performMinorGC of GHC's System.Mem. */
CAPSTAN_API void rts_performMinorGC(void) CAPSTAN_SAFEPOINT;

/* Give a stable pointer back.  Needs no capability and waits for no collection (but for who has locked the table).
 * Errors: one that is not in use is reported as RTS_BAD_STABLE_PTR in debug builds, ignored in others. */
CAPSTAN_API void hs_free_stable_ptr(HsStablePtr sp) CAPSTAN_NOSAFEPOINT;

/* Free a function pointer made by a wrapper import (rts/Foreign.h: freeHaskellFunctionPtr, which is the same). */
CAPSTAN_API void hs_free_fun_ptr(HsFunPtr fp) CAPSTAN_NOSAFEPOINT;

/* Lock the table of stable pointers: until it is unlocked again (as often as it was locked), other threads that make or free one wait.  Reading them does
 * not wait, nor do collections: a thread that holds a capability and waits here goes on once somebody wants to stop the world, or waits for a capability.  An operation that has begun
 * may end after the locking.  Context: any thread; one that holds a capability keeps it while it waits for the lock.
 * hs_free_stable_ptr_unsafe: the same as hs_free_stable_ptr, but never waits.
 * Errors: unlocking what this thread has not locked is reported as RTS_BAD_ARGUMENT.  So is, by one who waits for it, that a thread has ended with the table
 * locked; it is open then.  See: GHC's functions of these names; the last two are
 * the old ones. */
CAPSTAN_API void hs_lock_stable_ptr_table(void) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API void hs_unlock_stable_ptr_table(void) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API void hs_free_stable_ptr_unsafe(HsStablePtr sp) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API void hs_lock_stable_tables(void) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API void hs_unlock_stable_tables(void) CAPSTAN_NOSAFEPOINT;

#ifdef __cplusplus
}
#endif
#endif

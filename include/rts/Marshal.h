/* rts/Marshal.h: strings and byte arrays between C and managed code, with their owners.  What capstan-foreign writes for Borrowed and Owned.
 *
 * A managed string is a byte array without a final zero; C's NULL is managed unit, in both directions.  C's memory is malloc's and free's. */
#ifndef RTS_MARSHAL_H
#define RTS_MARSHAL_H

#include "rts/Types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- From C.  CAPSTAN_POISON: no memory.  The capability may be a dead one ---- */

/* A copy; C keeps its own. */
CAPSTAN_API HaskellObj rts_borrowString(Capability *cap, const char *s) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API HaskellObj rts_borrowBytes(Capability *cap, const void *bytes, size_t length) CAPSTAN_NOSAFEPOINT;
/* Owns: these, in every case.  The string is copied and freed; the bytes become an external byte array, freed when that is dead. */
CAPSTAN_API HaskellObj rts_takeString(Capability *cap, char *s) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API HaskellObj rts_takeBytes(Capability *cap, void *bytes, size_t length) CAPSTAN_NOSAFEPOINT;

/* ---- To C ---- */

/* Raise unless v is unit or a byte array; for strings, one without a zero in it. */
CAPSTAN_API void rts_checkString(Stack *stack, HaskellObj v) CAPSTAN_SAFEPOINT;
CAPSTAN_API void rts_checkBytes(Stack *stack, HaskellObj v) CAPSTAN_SAFEPOINT;
/* A copy by malloc.  Owns: the receiver, free().  NULL: unit, no memory, or (after RTS_WRONG_KIND) another value. */
CAPSTAN_API char *rts_giveString(HaskellObj v) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API void *rts_giveBytes(HaskellObj v, size_t *length) CAPSTAN_NOSAFEPOINT;
/* free(), for what was given and did not arrive. */
CAPSTAN_API void rts_freeGiven(void *given) CAPSTAN_NOSAFEPOINT;
/* The value whose bytes can be lent: with a final zero if it is a string; pinned: at an address that stays while the value is rooted.  Raises as the
 * checks do, and HeapOverflow.  rts_lendBytes gives v itself where that will do. */
CAPSTAN_API HaskellObj rts_lendString(Stack *stack, HaskellObj v, bool pinned) CAPSTAN_SAFEPOINT;
CAPSTAN_API HaskellObj rts_lendBytes(Stack *stack, HaskellObj v, bool pinned) CAPSTAN_SAFEPOINT;
/* The address of what those gave; NULL for unit. */
CAPSTAN_API const char *rts_lentString(HaskellObj lent) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API const void *rts_lentBytes(HaskellObj lent, size_t *length) CAPSTAN_NOSAFEPOINT;
/* Raises HeapOverflow. */
CAPSTAN_API __attribute__((noreturn)) void rts_raiseNoMemory(Stack *stack) CAPSTAN_SAFEPOINT;

#ifdef __cplusplus
}
#endif
#endif

/* rts/Weak.h: references that keep nothing alive, and identity.  Weak pointers with finalizers, stable names, identity hashes, weak tables.
 *
 * An object is *reachable* if a root leads to it (threads, stable pointers, static closures, what C has rooted), through fields of reachable objects, and
 * through weak pointers and weak tables as follows: the value and the finalizer of a weak pointer are reachable if its key is; the value of an entry of a
 * weak table is reachable if its key is and the table is.  A key that is reachable only from its own value, or round a circle of such, is not reachable
 * (an ephemeron).
 * See: Hayes, "Ephemerons" (1997); Peyton Jones, Marlow, Elliott, "Stretching the storage manager: weak pointers and stable names in Haskell" (1999).
 *
 * Which collection finds that a key is not reachable any more is not specified: a minor one looks at young keys only.  Immediate values and static
 * closures are always reachable: what hangs on them never dies.  Take keys that have an identity: MutVars, MVars, arrays, byte arrays.  (A ThreadId is one
 * only as long as something refers to it: the thread does not keep it.)
 *
 * A thunk is another object than its value.  Functions that take a key or an object here evaluate nothing; what is evaluated already stands for its value.
 * A weak pointer to a thunk is from its evaluation on one to the value.  Names, hashes and entries of a thunk end with its evaluation: evaluate first.
 *
 * Unless it says otherwise a function here may be used by any number of capabilities at once; "cap" is the caller's, and on a dead one nothing is done. */
#ifndef RTS_WEAK_H
#define RTS_WEAK_H

#include "rts/Managed.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Weak pointers --------------------------------------------------------------------------------------------------- */

/* A weak pointer (kind CLOSURE_WEAK) from key to value.  finalizer: an IO action, or NULL: none.  CAPSTAN_POISON: no memory.
 *
 * When a collection finds that the key is not reachable, the weak pointer dies: rts_deRefWeak finds nothing any more, and the finalizer, if there is one,
 * is run once, in a thread of the runtime's own (never on an OS thread of a host's), unmasked.  Nothing else is said about when.  That the weak pointer
 * itself is not reachable changes nothing: it does its work all the same.
 *
 * Order: the finalizers of weak pointers that die in the same collection run one after the other, in one thread, in the order in which the weak pointers
 * were made.  Between collections there is no order.  A finalizer that waits holds up those behind it, and no others.  An exception ends one finalizer and
 * reaches RtsConfig.uncaughtHook.
 * A finalizer may refer to the key and so revive it; its other weak pointers have died by then.
 * At hs_exit finalizers that have not run are not run.  See: mkWeak#, mkWeakNoFinalizer# in GHC.Exts, System.Mem.Weak. */
CAPSTAN_API HaskellObj rts_mkWeak(Capability *cap, HaskellObj key, HaskellObj value, HaskellObj finalizer) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API HaskellObj rts_mkWeakNoFinalizer(Capability *cap, HaskellObj key, HaskellObj value) CAPSTAN_NOSAFEPOINT;

/* Its value into *value.  false: it is dead (or RTS_WRONG_KIND was reported), and *value is CAPSTAN_POISON.  See: deRefWeak#. */
CAPSTAN_API bool rts_deRefWeak(HaskellObj weak, HaskellObj *value) CAPSTAN_NOSAFEPOINT;

/* Let it die now, and run its finalizers in the calling thread: the C ones first (as by rts_safeCall), then the managed one.  Nothing, if it is dead.
 * Raises what the managed finalizer raises.  See: finalizeWeak#, System.Mem.Weak.finalize. */
CAPSTAN_API void rts_finalizeWeak(Stack *stack, HaskellObj weak) CAPSTAN_SAFEPOINT;

/* Have fn(ctx, ptr) called once, when the key can not be reached any more by anything, finalizers and threads that are blocked for ever included (so it
 * may be later than the death of the weak pointer); or by rts_finalizeWeak; or, if neither has come, by hs_exit.  On a thread that must not call in then
 * (RTS_IN_FINALIZER) and holds no capability.  Several of one weak pointer are called in the reverse order of their addition; those of weak pointers whose
 * keys die in the same collection in the order in which these were made.
 * false: not added: the weak pointer is dead, or there is no memory (then the in-call's status is HeapExhausted).  See: addCFinalizerToWeak#. */
CAPSTAN_API bool rts_addCFinalizerToWeak(Capability *cap, HaskellObj weak, void (*fn)(void *ctx, void *ptr), void *ctx, void *ptr)
    CAPSTAN_NOSAFEPOINT;

/* As managed IO functions: (mkWeak key value finalizer), (mkWeakNoFinalizer key value), (deRefWeak weak default), (finalizeWeak weak). */
CAPSTAN_API extern StgClosure capstan_mkWeak_closure, capstan_mkWeakNoFinalizer_closure, capstan_deRefWeak_closure,
    capstan_finalizeWeak_closure;

/* ---- Stable names and identity hashes -------------------------------------------------------------------------------- */

/* A value (kind CLOSURE_STABLE_NAME) that names the object v: names of the same object are equal, names of two objects that exist at the same time are
 * not.  (Nor is one of an object that is dead equal to any other: numbers are not used again; except of static closures of a module that was unloaded.)  A
 * name keeps its object neither alive nor findable.  CAPSTAN_POISON: no memory.  See: makeStableName#. */
CAPSTAN_API HaskellObj rts_makeStableName(Capability *cap, HaskellObj v) CAPSTAN_NOSAFEPOINT;
/* A number for each name, the same if and only if the names are equal.  See: stableNameToInt#. */
CAPSTAN_API HsInt rts_stableNameToInt(HaskellObj name) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API bool rts_eqStableName(HaskellObj a, HaskellObj b) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API extern StgClosure capstan_makeStableName_closure;

/* A hash of the object's identity, well mixed: the same as long as it lives, wherever it is moved to, and another than any other living object's.  The
 * first time takes about 32 bytes of C memory, which go with the object; immediates and static closures take none.  0: no memory (then the in-call's
 * status is HeapExhausted). */
CAPSTAN_API StgWord rts_identityHash(Capability *cap, HaskellObj v) CAPSTAN_NOSAFEPOINT;

/* ---- Weak tables ----------------------------------------------------------------------------------------------------- */

/* A mutable table (kind CLOSURE_WEAK_TABLE) of entries, each of which vanishes with its key.  Property lists: the identity forms.  Symbol tables: the
 * forms with a hash and a test of the caller's own, so that a symbol is found by its name, and vanishes when nobody refers to it any more.
 * Every function is one step to all others on the same table: it has a short lock of its own. */

/* CAPSTAN_POISON: no memory. */
CAPSTAN_API HaskellObj rts_mkWeakTable(Capability *cap) CAPSTAN_NOSAFEPOINT;

/* By identity.  insert replaces the value of a key that is there; false: no memory (the in-call's status is HeapExhausted), or an argument is CAPSTAN_POISON.
 * lookup, remove: false: it is not there, and *value is CAPSTAN_POISON; value may be NULL. */
CAPSTAN_API bool rts_weakTableInsert(Capability *cap, HaskellObj table, HaskellObj key, HaskellObj value) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API bool rts_weakTableLookup(Capability *cap, HaskellObj table, HaskellObj key, HaskellObj *value) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API bool rts_weakTableRemove(Capability *cap, HaskellObj table, HaskellObj key, HaskellObj *value) CAPSTAN_NOSAFEPOINT;

/* By content: is(ctx, key) says whether a key whose entry was made with the same hash is the one that is meant.  It runs under the table's lock: it may
 * read objects, and nothing else.
 * find: the entry's key and value (either may be NULL); false: there is none.
 * intern: the key that is there already, or key itself, now in the table with that value.  CAPSTAN_POISON: no memory. */
typedef bool RtsKeyTest(void *ctx, HaskellObj key);
CAPSTAN_API bool rts_weakTableFind(Capability *cap, HaskellObj table, StgWord hash, RtsKeyTest *is, void *ctx, HaskellObj *key,
                                   HaskellObj *value) CAPSTAN_NOSAFEPOINT;
CAPSTAN_API HaskellObj rts_weakTableIntern(Capability *cap, HaskellObj table, StgWord hash, RtsKeyTest *is, void *ctx, HaskellObj key,
                                           HaskellObj value) CAPSTAN_NOSAFEPOINT;
/* Take the entry out.  false: there is none. */
CAPSTAN_API bool rts_weakTableUnintern(Capability *cap, HaskellObj table, StgWord hash, RtsKeyTest *is, void *ctx) CAPSTAN_NOSAFEPOINT;

/* Entries now; some of them may be about to vanish. */
CAPSTAN_API size_t rts_weakTableSize(HaskellObj table) CAPSTAN_NOSAFEPOINT;
/* An array of all of them as they are now, in no order: key, value, key, value ...  It keeps them alive while it lives.  CAPSTAN_POISON: no memory. */
CAPSTAN_API HaskellObj rts_weakTableEntries(Capability *cap, HaskellObj table) CAPSTAN_NOSAFEPOINT;

#ifdef __cplusplus
}
#endif
#endif

/* language.h: what a thread carries for an implementation of a language: scanners of its roots, a word.
 *
 * The record hangs on the TSO and is made when first used.  It belongs to the thread: changed by the thread that runs, by who makes the thread before it
 * is scheduled, and dropped by who ends it.  A thread that ran since the last collection is scanned by the next one, so changing one's own needs no
 * barrier.  Records are freed with the thread: at its end, with those that exit drops, or when its in-call's record becomes spare. */
#ifndef LANGUAGE_H
#define LANGUAGE_H

#include "capability.h"
#include "rts/Language.h"

struct Extras_ {
    RtsRootScanner *scanners;
    HaskellObj word;        /* a root */
};

/* Visit what they refer to. */
void scanExtrasSlow(StgTSO *tso, Visitor *v);
static inline void scanExtras(StgTSO *tso, Visitor *v)
{
    if (tso->extras != NULL) scanExtrasSlow(tso, v);
}

/* The thread ends: scanners are told.  Context: its own, or the world is stopped, or there is no runtime any more. */
void dropExtrasSlow(StgTSO *tso);
static inline void dropExtras(StgTSO *tso)
{
    if (CAPSTAN_UNLIKELY(__atomic_load_n(&tso->extras, __ATOMIC_RELAXED) != NULL)) dropExtrasSlow(tso);
}

/* A new thread begins with its maker's word.  false: no memory. */
bool setWordSlow(StgTSO *tso, HaskellObj word);
static inline HaskellObj wordOf(const StgTSO *tso) { return tso->extras == NULL ? CAPSTAN_UNIT : tso->extras->word; }
static inline bool inheritWord(StgTSO *child, const StgTSO *maker)
{
    return CAPSTAN_LIKELY(maker->extras == NULL) || setWordSlow(child, maker->extras->word);
}

/* The counts of rts_externalMemory, for each collection. */
extern const GcTable externalMemoryTable;
void initExternalMemory(void);

/* Does the record of a scanner, or its code, lie there?  Context: the world is stopped. */
bool isScannerIn(const StgTSO *tso, const void *lo, const void *hi);

#endif

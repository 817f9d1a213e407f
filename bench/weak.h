/* weak.h: many weak entries, and the pauses of whole marking cycles (figure B8n).
 *
 * An array holds a million objects, another the keys, --entries MutVars. All are old. Then objects of the first array, picked by chance, are replaced
 * by fresh ones, one after the other, so that what dies is old: marking cycles follow each other, and --count (7) of them are looked at. The same again when
 * each key has its entry, and all of these are old too:
 *     names       its identity hash: it must stay the same
 *     pointers    a weak pointer to an object that nothing else refers to: it must stay alive, and give its own
 *     table       an entry of one weak table, by identity, for such an object
 * Entries are made in the order of their keys, or in one by chance (shuffled).
 *
 * Of each cycle two pauses are kept: that which ended it, in which the entries are looked at, and the longest, which is what a program notices. Figures are
 * medians over the cycles: what others do to the machine only lengthens pauses, so the longest of all cycles would be theirs; the shortest flatters, since
 * cycles differ in what their last slice has to do; a median holds until half of the cycles were disturbed. What entries add is a difference of two medians.
 * That of the pauses that ended cycles is the steady one. That of the longest is less, and varies: without entries another pause than the last is the longest, one
 * that copied much. */
#ifndef BENCH_WEAK_H
#define BENCH_WEAK_H

#include <Rts.h>
#include <rts/Managed.h>
#include <stdint.h>

#define MOST_CYCLES 1001

/* Of marking cycles, in ms. Noted by the thread that churns, since it makes the collections. */
typedef struct CyclePauses {
    int wanted, ended;                  /* cycles; nothing is noted once as many have ended */
    uint64_t liveBytes;                 /* after the collection before; 0: none yet */
    double longestSoFar;                /* of the cycle that goes on */
    double longest[MOST_CYCLES], last[MOST_CYCLES];
} CyclePauses;

/* RtsConfig.gcDoneHook; the context is a CyclePauses. */
void notePause(void *pauses, const RtsCollection *c);

typedef enum EntryKind { ENTRY_NAME, ENTRY_POINTER, ENTRY_OF_TABLE } EntryKind;

typedef struct WeakEntries {
    EntryKind kind;
    int64_t count;
    int64_t *order;                     /* of the keys whose entries are made */
    StgWord *hashes;                    /* of each key, for names */
} WeakEntries;

/* Actions; they raise when something is wrong. */
CAPSTAN_EXTERN(makeKeys);               /* :: Int -> IO (): so many; the million objects too */
CAPSTAN_EXTERN(makeEntries);            /* :: Ptr WeakEntries -> IO () */
CAPSTAN_EXTERN(checkEntries);           /* :: Ptr WeakEntries -> IO () */
CAPSTAN_EXTERN(churnCycles);            /* :: Ptr CyclePauses -> IO (): until as many have ended as are wanted */

#endif

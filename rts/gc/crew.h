/* gc/crew.h: the threads that collect together.
 *
 * The leader stopped the world.  If there is enough to do it opens the crew; threads that wait for a capability then, and workers that were
 * invited, join as helpers, and work on what is pending until the leader closes the crew.  Nobody has to come.
 *
 * The leader stays in busy until it has visited all roots that are not shared out, and again between the phases of a collection.
 * busy counts those who have work or look for it, and only they make more: so when it is 0 nothing is left.  Who has none leaves busy, and comes back only while
 * somebody else is in it.  state holds how many may still join and how many are inside, in one word, so that the leader's closing misses nobody.
 * Sleeping: who goes to sleep announces it and looks again; who pushes work, or ends it, does so and then looks who sleeps (sequentially consistent both). */
#ifndef GC_CREW_H
#define GC_CREW_H

#include "gc/heap.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct GcThread_;

extern _Atomic uint32_t crewState; /* helpers that may still join * 65536 + helpers inside */

/* Let up to so many helpers in; invites: big enough that some are asked to come. */
void openCrew(Nursery *const *nurseries, unsigned count, unsigned helpers, bool minor, bool invites);
/* Take the shares that nobody has taken yet, its own first.  One for each nursery: an equal part of the tables' roots (stable pointers); in minor
 * collections its remembered slots and dirty threads, too. */
void takeShares(struct GcThread_ *g);
/* Let nobody in any more, and wait until all have left. */
void closeCrew(void);
/* Collecting threads there have been since the crew was opened, the leader included. */
unsigned crewSize(void);
/* The leader: work until nothing is pending anywhere. */
void workTogether(void);

static inline bool isHelpWanted(void) { return atomic_load_explicit(&crewState, memory_order_relaxed) >> 16 != 0; }
/* Help, if it is still wanted.  own: the nursery that it used last; others than its own it takes from later.  Context: the caller holds no capability,
 * and has nothing that the leader waits for. */
void helpCollect(unsigned own);
/* Ask for a thread that calls helpCollect.  Set by schedule.c. */
extern void (*inviteHelper)(void);

/* Something was pushed that others may work on. */
void crewHasWork(void);
bool isWorkPending(void); /* evacuate.c */
void crewRelax(void);
/* In a forked child. */
void forgetCrew(void);

#endif

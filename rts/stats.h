/* stats.h: what getRTSStats counts.  Collections are noted with the world stopped; readers come at any time. */
#ifndef STATS_H
#define STATS_H

#include "rts/Config.h"

/* The runtime begins to start; has started. */
void beginStats(void);
void noteStarted(void);
/* A collection ended.  Context: the world is stopped. */
void noteCollection(const RtsCollection *c);
/* Collections since the start. */
uint64_t countCollections(void);
/* The runtime ends: write what config asks for.  Then there is nothing to say any more. */
void writeStats(const RtsConfig *config);
void endStats(void);
/* In a forked child: nothing of this is under way. */
void forgetStats(void);

#endif

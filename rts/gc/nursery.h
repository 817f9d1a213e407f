/* gc/nursery.h: what the collector does to nurseries. */
#ifndef GC_NURSERY_H
#define GC_NURSERY_H

#include "gc/heap.h"

/* Note how far the block being filled is filled. */
void syncNursery(Nursery *nursery);
/* Its objects were copied or are dead: keep so many blocks for its allocation area, as far as the limit allows, and drop the others. */
void emptyNursery(Nursery *nursery, size_t keep, void (*drop)(Block *b));
/* Replace what was used of the reserve, as far as memory goes. */
void refillReserve(Nursery *nursery);

/* After a collection: how much it left too little (heap.shortage). */
void setShortage(void);

#endif

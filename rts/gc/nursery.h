/* gc/nursery.h: what the collector does to nurseries. */
#ifndef GC_NURSERY_H
#define GC_NURSERY_H

#include "gc/heap.h"

/* Note how far the block being filled is filled. */
void syncNursery(Nursery *nursery);
/* Take over everything that was allocated; the nursery is empty afterwards. */
void emptyNursery(Nursery *nursery);
/* Replace what was used of the reserve, as far as memory goes. */
void refillReserve(Nursery *nursery);

#endif

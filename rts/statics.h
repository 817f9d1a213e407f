/* statics.h: static closures that change: thunks that were entered (CAPSTAN_CAF), variables that were written to (CAPSTAN_STATIC_MUTVAR).
 *
 * They are found again through a list, which a closure enters when it is first used, for good: until exit, or until its module is unloaded.  What they
 * hold are roots of major collections; a young value of one is remembered (rememberStore), as in every old object, so minor ones need not look. */
#ifndef STATICS_H
#define STATICS_H

#include "gc/heap.h"

/* Into the list, if it is not there.  Before a value is stored into it. */
void noteStatic(StgStaticThunk *closure);

/* Roots: what is in the list. */
void scanStatics(Visitor *v);
/* Exit: as if never used. */
void revertStatics(void);
/* The same of those in [lo, hi). */
void revertStaticsIn(const void *lo, const void *hi);
/* In a forked child: the lock is nobody's, and the list whole. */
void forgetStatics(void);

#endif

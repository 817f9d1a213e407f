/* unload.h: does anything refer to a module that is about to be unloaded? */
#ifndef UNLOAD_H
#define UNLOAD_H

/* Of startup.c: free the info tables of rts_newInfoTable whose code lies in [lo, hi).  Nobody uses them. */
void freeInfoTablesIn(const void *lo, const void *hi);

#endif

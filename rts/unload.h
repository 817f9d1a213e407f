/* unload.h: does anything refer to a module that is about to be unloaded?
 *
 * A module that the host gave away (rts_unloadModule) is tried after each full collection:
 *   1. Its exports are taken out: what only they hold is not held.
 *   2. With the world stopped, everything that the roots reach is searched for objects of its kinds, with its code, for its static closures, and for
 *      C function pointers into it; the stacks of all threads and in-calls, word by word, for return addresses and other pointers into it.  The module's own
 *      static variables and thunks do not count as roots.  Is something found, the exports go back, and the next full collection tries again.
 *   3. Still stopped, its static closures are reverted: nobody is inside its code who could be about to change them.
 *   4. A second full collection: objects of its kinds that only its static closures held, or that were dead and old, are in the heap no more.
 *   5. A second search, for who has called in meanwhile.
 *   6. The handles are closed, with no lock held and the world running (module.h says why).  Whoever uses the module between the last search and this has a handle
 *      of his own, or has given one since, which the next round closes.  So what is loaded still is taken for loaded anew: pinned, its exports registered.
 *
 * Why the host has to say that it is done: the loader does not tell how many handles there are, and a pin can only be tried by closing it, while
 * the host may be calling in, and then close its own, before anybody has noticed.  And the search costs as much as the collection: not for modules that are wanted. */
#ifndef UNLOAD_H
#define UNLOAD_H

/* Of startup.c: free the info tables of rts_newInfoTable whose code lies in [lo, hi).  Nobody uses them. */
void freeInfoTablesIn(const void *lo, const void *hi);

/* Try the modules that were given away; with or without a runtime.  Context: no capability, no locks. */
void unloadModules(void);

/* Startup: full collections try them. */
void initUnload(void);
/* In a forked child: nobody is at it. */
void forgetUnload(void);

#endif

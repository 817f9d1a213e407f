/* module.h: shared objects that are kept loaded.
 *
 * A shared object that registers exports is one in which objects may have their kinds, code and static closures, for as long as the heap says.  So its first
 * registration, in its constructor, takes a handle of the loader's to it, the pin; dlclose by the host then unmaps nothing.  The program itself, and memory that
 * the loader knows nothing of, need no pin.
 *
 * The pin goes when the host has said that it is done with the object (rts_unloadModule, which gives us the host's own handle) and a full collection
 * finds nothing that refers to it: unload.c.
 *
 * The loader's lock.  Constructors and destructors run under it, and may register exports, call in, or wait for whatever their authors think of.  So calls of
 * the loader are made with no lock of ours held, no capability that this would have to wait for, and not while the world is stopped.  The locks of this file
 * and of foreign_export.c are taken under the loader's. */
#ifndef MODULE_H
#define MODULE_H

#include "rts/Config.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct Module_ Module;
struct Module_ {
    Module *next;         /* [lock: modules] */
    uintptr_t lo, hi;     /* [const] */
    void *handle;         /* [const] what the loader calls it: the same for everybody */
    bool pinned;          /* [lock: modules] one of its handles is ours */
    unsigned given;       /* [lock: modules] so many are the host's, and ours to close */
    unsigned round;       /* [lock: modules] the last in which it was looked at */
};

/* Pin the shared object that address lies in, if it is one and is not pinned.  Without memory for it it is not: the error hook is told. */
void keepModuleOf(const void *address);
bool isModulePinned(uintptr_t lo);

/* The host gives a handle away.  RTS_BAD_ARGUMENT: the program's own; RTS_NO_MEMORY: it was not taken. */
RtsStatus giveModule(void *handle);
bool isAnyModuleGiven(void);
/* The next one of which handles were given, and how many by now; NULL: this round is over.  Context: one thread at a time. */
Module *nextGivenModule(bool newRound, unsigned *given);

/* Close the pin and so many of the given handles.  Context: no locks.  The object, and m, may be gone then. */
void closeModule(Module *m, unsigned given);
/* Unpin those between lo and hi. */
void unpinModulesIn(const void *lo, const void *hi);

/* In a forked child: the lock is nobody's. */
void renewModules(void);

#endif

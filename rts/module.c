#include "module.h"

#include "base/lock.h"
#include "base/report.h"
#include "os/memory.h"
#include "os/os.h"

#include <stdatomic.h>

static struct {
    Lock lock;
    Module *all;            /* [lock: modules] changed by single stores: a forked child finds it whole */
    _Atomic unsigned given; /* [lock: modules to write] modules of which handles were given */
    unsigned round;         /* [lock: modules] */
} modules = { .lock = LOCK_INIT(RANK_MODULES) };

/* Context: the lock. */
static Module *findModule(uintptr_t lo)
{
    Module *m = modules.all;
    while (m != NULL && m->lo != lo) m = m->next;
    return m;
}

/* Found or made.  Context: the lock. */
static Module *moduleAt(const struct OsModule *found, void *handle)
{
    Module *m = findModule(found->lo);
    if (m != NULL || (m = rtsMalloc(sizeof *m)) == NULL) return m;
    *m = (Module){ .next = modules.all, .lo = found->lo, .hi = found->hi, .handle = handle };
    modules.all = m;
    return m;
}

/* Of which nothing is left to be closed.  Context: the lock. */
static void dropIfEmpty(Module *m)
{
    if (m->pinned || m->given > 0) return;
    Module **link = &modules.all;
    while (*link != m) link = &(*link)->next;
    *link = m->next;
    rtsFree(m);
}

/* ---- Pins ---- */

bool isModulePinned(uintptr_t lo)
{
    acquireLock(&modules.lock);
    const Module *m = findModule(lo);
    bool pinned = m != NULL && m->pinned;
    releaseLock(&modules.lock);
    return pinned;
}

/* false: there is a pin already. */
static bool notePin(const struct OsModule *found, void *handle)
{
    acquireLock(&modules.lock);
    Module *m = moduleAt(found, handle);
    bool first = m == NULL || !m->pinned;
    if (m != NULL) m->pinned = true;
    releaseLock(&modules.lock);
    if (m == NULL) reportError(RTS_NO_MEMORY, "registerForeignExports: no memory for the record of %s, which stays loaded for good", found->name);
    return first;
}

void keepModuleOf(const void *address)
{
    struct OsModule found;
    if (!osFindModule(address, &found) || isModulePinned(found.lo)) return;
    void *handle = osKeepModule(&found);
    if (handle == NULL) reportError(RTS_NO_MEMORY, "registerForeignExports: %s cannot be kept loaded", found.name);
    else if (!notePin(&found, handle)) osCloseModule(handle);
}

void unpinModulesIn(const void *lo, const void *hi)
{
    void *handle;
    do {
        handle = NULL;
        acquireLock(&modules.lock);
        for (Module *m = modules.all, *next; m != NULL && handle == NULL; m = next) {
            next = m->next;
            if (!m->pinned || m->lo - (uintptr_t)lo >= (uintptr_t)hi - (uintptr_t)lo) continue;
            handle = m->handle;
            m->pinned = false;
            dropIfEmpty(m);
        }
        releaseLock(&modules.lock);
        if (handle != NULL) osCloseModule(handle);
    } while (handle != NULL);
}

/* ---- Handles that were given ---- */

RtsStatus giveModule(void *handle)
{
    struct OsModule found;
    if (handle == NULL || !osModuleOfHandle(handle, &found)) return RTS_BAD_ARGUMENT;
    acquireLock(&modules.lock);
    Module *m = moduleAt(&found, handle);
    if (m != NULL && m->given++ == 0) modules.given++;
    releaseLock(&modules.lock);
    return m == NULL ? RTS_NO_MEMORY : RTS_OK;
}

bool isAnyModuleGiven(void) { return modules.given != 0; }

Module *nextGivenModule(bool newRound, unsigned *given)
{
    acquireLock(&modules.lock);
    if (newRound) modules.round++;
    Module *m = modules.all;
    while (m != NULL && (m->given == 0 || m->round == modules.round)) m = m->next;
    if (m != NULL) {
        m->round = modules.round;
        *given = m->given;
    }
    releaseLock(&modules.lock);
    return m;
}

void closeModule(Module *m, unsigned given)
{
    void *handle = m->handle;
    acquireLock(&modules.lock);
    unsigned count = given + m->pinned;
    m->pinned = false;
    m->given -= given;
    if (m->given == 0) modules.given--;
    dropIfEmpty(m);
    releaseLock(&modules.lock);
    while (count-- > 0) osCloseModule(handle);
}

void renewModules(void) { renewLock(&modules.lock); }

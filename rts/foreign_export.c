#include "foreign_export.h"

#include "base/lock.h"
#include "base/report.h"
#include "module.h"
#include "os/memory.h"
#include "stable_ptr.h"

#include <stdatomic.h>
#include <string.h>

/* Lists are linked by constructors, before anything else of the runtime runs or, in a shared object that is loaded later, at any time; they stay linked
 * until their module is unloaded. */
static _Atomic(struct ForeignExportsList *) exportLists;

/* The stable pointers of a list. */
typedef struct Export_ {
    struct Export_ *next;
    const struct ForeignExportsList *list;
    int count;
    StgStablePtr made[];
} Export;

static struct {
    Lock lock;      /* taking out lists, and what follows */
    Export *made;   /* [lock] */
    /* [lock] for writing: lists get their stable pointers.  Sequentially consistent, as are the links of lists: of who links a list and who starts the
     * runtime, one sees what the other did. */
    _Atomic bool running;
} exports = { .lock = LOCK_INIT(RANK_EXPORTS) };

static bool startList(const struct ForeignExportsList *list)
{
    int n = list->n_entries > 0 ? list->n_entries : 0;
    Export *e = rtsMalloc(sizeof *e + (size_t)n * sizeof e->made[0]);
    if (e == NULL) return false;
    *e = (Export){ .next = exports.made, .list = list };
    exports.made = e;
    while (e->count < n && (e->made[e->count] = newStablePtr((HaskellObj)list->exports[e->count])) != NULL) e->count++;
    return e->count == n;
}

static bool isStarted(const struct ForeignExportsList *list)
{
    const Export *e = exports.made;
    while (e != NULL && e->list != list) e = e->next;
    return e != NULL;
}

static void startLate(const struct ForeignExportsList *list)
{
    bool ok = true;
    acquireLock(&exports.lock);
    if (atomic_load(&exports.running) && !isStarted(list)) ok = startList(list);
    releaseLock(&exports.lock);
    if (!ok) reportError(RTS_NO_MEMORY, "registerForeignExports: no memory for the stable pointers of a module");
}

void registerForeignExports(struct ForeignExportsList *list)
{
    keepModuleOf(list); /* before anybody can find the list */
    struct ForeignExportsList *head = atomic_load(&exportLists);
    do list->next = head;
    while (!atomic_compare_exchange_weak(&exportLists, &head, list));
    if (atomic_load(&exports.running)) startLate(list);
}

int startForeignExports(void)
{
    bool ok = true;
    acquireLock(&exports.lock);
    atomic_store(&exports.running, true);
    for (const struct ForeignExportsList *list = atomic_load(&exportLists); ok && list != NULL; list = list->next) ok = startList(list);
    releaseLock(&exports.lock);
    return ok;
}

void endForeignExports(void)
{
    acquireLock(&exports.lock);
    atomic_store(&exports.running, false);
    for (Export *e = exports.made, *next; e != NULL; e = next) {
        next = e->next;
        rtsFree(e);
    }
    exports.made = NULL;
    releaseLock(&exports.lock);
}

/* ---- Unloading ---- */

static bool isIn(const void *p, const void *lo, const void *hi) { return (uintptr_t)p - (uintptr_t)lo < (uintptr_t)hi - (uintptr_t)lo; }

/* Only this takes lists out, under the lock, and others are pushed only in front.  false: it is in front no more. */
static bool unlinkFirst(struct ForeignExportsList *list)
{
    struct ForeignExportsList *expected = list;
    return atomic_compare_exchange_strong(&exportLists, &expected, list->next);
}

static void unlinkList(struct ForeignExportsList *list)
{
    if (unlinkFirst(list)) return;
    struct ForeignExportsList *before = atomic_load(&exportLists);
    while (before->next != list) before = before->next;
    before->next = list->next;
}

static struct ForeignExportsList *unlinkLists(const void *lo, const void *hi)
{
    struct ForeignExportsList *taken = NULL;
    for (struct ForeignExportsList *list = atomic_load(&exportLists), *next; list != NULL; list = next) {
        next = list->next;
        if (!isIn(list, lo, hi)) continue;
        unlinkList(list);
        list->next = taken;
        taken = list;
    }
    return taken;
}

struct ForeignExportsList *takeForeignExports(const void *lo, const void *hi)
{
    acquireLock(&exports.lock);
    struct ForeignExportsList *taken = unlinkLists(lo, hi);
    for (Export **link = &exports.made, *e; (e = *link) != NULL;) {
        if (!isIn(e->list, lo, hi)) {
            link = &e->next;
            continue;
        }
        *link = e->next;
        for (int i = 0; i < e->count; i++) dropStablePtr(e->made[i]);
        rtsFree(e);
    }
    releaseLock(&exports.lock);
    return taken;
}

void putForeignExportsBack(struct ForeignExportsList *taken)
{
    for (struct ForeignExportsList *next; taken != NULL; taken = next) {
        next = taken->next;
        registerForeignExports(taken);
    }
}

void renewForeignExports(void)
{
    renewLock(&exports.lock);
    exports.made = NULL;
    atomic_store(&exports.running, false);
}

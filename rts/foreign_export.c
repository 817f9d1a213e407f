#include "foreign_export.h"

#include "stable_ptr.h"

#include <stdatomic.h>

/* Lists are linked by constructors, before anything else of the runtime runs, and stay linked for good. */
static _Atomic(struct ForeignExportsList *) exportLists;

void registerForeignExports(struct ForeignExportsList *exports)
{
    struct ForeignExportsList *head = atomic_load(&exportLists);
    do exports->next = head;
    while (!atomic_compare_exchange_weak(&exportLists, &head, exports));
}

int startForeignExports(void)
{
    for (struct ForeignExportsList *list = atomic_load(&exportLists); list != NULL; list = list->next)
        for (int i = 0; i < list->n_entries; i++)
            if (newStablePtr((HaskellObj)list->exports[i]) == NULL) return 0;
    return 1;
}

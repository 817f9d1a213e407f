/* foreign_export.h: closures that generated stubs export. */
#ifndef FOREIGN_EXPORT_H
#define FOREIGN_EXPORT_H

#include <stdbool.h>

/* Give every exported closure a stable pointer.  Context: startup.  0: no memory. */
int startForeignExports(void);
/* Exit, before the table of stable pointers goes: lists that are registered from now on get none. */
void endForeignExports(void);
/* Unlink the lists that lie in [lo, hi), and free the stable pointers that startForeignExports made for them.  Returns them, linked to each other. */
struct ForeignExportsList *takeForeignExports(const void *lo, const void *hi);
/* They are registered again. */
void putForeignExportsBack(struct ForeignExportsList *taken);
/* In a forked child: the lock is nobody's. */
void renewForeignExports(void);

#endif

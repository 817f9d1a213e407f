/* foreign_export.h: closures that generated stubs export. */
#ifndef FOREIGN_EXPORT_H
#define FOREIGN_EXPORT_H

/* Give every exported closure a stable pointer.  Context: startup.  0: no memory. */
int startForeignExports(void);

#endif

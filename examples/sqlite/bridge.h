/* Managed functions as SQL functions.  Each takes a static closure; SQLite keeps a stable pointer to it as long as the function is registered.
 * The answers are SQLite's. */
#ifndef EXAMPLE_SQLITE_BRIDGE_H
#define EXAMPLE_SQLITE_BRIDGE_H

#include <Rts.h>

#include <sqlite3.h>

int addScalar(sqlite3 *db, const char *name, int arguments, HaskellObj function);
int addAggregate(sqlite3 *db, const char *name, int arguments, HaskellObj start, HaskellObj step, HaskellObj end);
int addCollation(sqlite3 *db, const char *name, HaskellObj compare);

#endif

/* weak_table.h: tables whose entries vanish with their keys.
 *
 * A table is a record in C memory and an object (CLOSURE_WEAK_TABLE) that names it; the record goes when the object is dead.  Entries hang in buckets by
 * their hash, which does not depend on addresses: that of the key's name (stable_name.h), or the caller's.
 *
 * In minor collections only *listed* entries are looked at, whose key or value may be young; and only of tables in the list of young ones, which have any,
 * or are young themselves.  Tables that are old are in the list of old ones as well.
 *
 * Ownership: everything in a record is guarded by its lock, under which there is no safepoint; or belongs to the collector while the world is stopped. */
#ifndef WEAK_TABLE_H
#define WEAK_TABLE_H

#include "gc/heap.h"

extern const GcTable weakTableTable;

/* Exit: free all of them. */
void freeWeakTables(void);
/* In a forked child: there are none. */
void forgetWeakTables(void);

#endif

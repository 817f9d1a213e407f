/* What SQL sees, twice: as managed functions, and as plain C to compare with. */
#ifndef EXAMPLE_SQLITE_FUNCTIONS_H
#define EXAMPLE_SQLITE_FUNCTIONS_H

#include <Rts.h>

#include <sqlite3.h>

/* Scalar functions: an array of the arguments -> IO value. */
extern StgClosure mix_closure, shout_closure, power_closure;
/* Aggregates.  start :: IO state; step :: state -> array of the arguments -> IO (); end :: state -> IO value. */
extern StgClosure spreadStart_closure, spreadStep_closure, spreadEnd_closure;
extern StgClosure longestStart_closure, longestStep_closure, longestEnd_closure;
/* A collation: text -> text -> IO Int. */
extern StgClosure natural_closure;

void plainMix(sqlite3_context *context, int count, sqlite3_value **values);
void plainShout(sqlite3_context *context, int count, sqlite3_value **values);
void plainPower(sqlite3_context *context, int count, sqlite3_value **values);
void plainSpreadStep(sqlite3_context *context, int count, sqlite3_value **values);
void plainSpreadEnd(sqlite3_context *context);
void plainLongestStep(sqlite3_context *context, int count, sqlite3_value **values);
void plainLongestEnd(sqlite3_context *context);
int plainNatural(void *user, int n, const void *a, int m, const void *b);

/* The order of both: runs of digits compare as numbers. */
int compareNaturally(const unsigned char *a, size_t n, const unsigned char *b, size_t m);

#endif

#include "bridge.h"

#include <stdlib.h>

/* ---- Values ---- */
/* NULL is unit, an integer an integer, a real a double, text and blobs are byte arrays.  No safepoint. */

static HaskellObj fromSql(Capability *cap, sqlite3_value *value)
{
    switch (sqlite3_value_type(value)) {
    case SQLITE_INTEGER: return rts_mkInt64(cap, sqlite3_value_int64(value));
    case SQLITE_FLOAT: return rts_mkDouble(cap, sqlite3_value_double(value));
    case SQLITE_NULL: return CAPSTAN_UNIT;
    default: {
        const void *bytes = sqlite3_value_blob(value); /* before its length: it may convert */
        return rts_mkBytes(cap, bytes, (size_t)sqlite3_value_bytes(value));
    }
    }
}

static HaskellObj fromSqlAll(Capability *cap, int count, sqlite3_value **values)
{
    HaskellObj array = rts_mkArray(cap, (size_t)count, CAPSTAN_UNIT);
    for (int i = 0; array != CAPSTAN_POISON && i < count; i++) rts_setElem(cap, array, (size_t)i, fromSql(cap, values[i]));
    return array;
}

static void giveResult(sqlite3_context *context, HaskellObj v)
{
    StgWord8 kind = rts_isImmediate(v) ? CLOSURE_KINDS : rts_info(v)->kind;
    if (rts_isSmallInt(v) || kind == CLOSURE_INT64) {
        sqlite3_result_int64(context, rts_getInt64(v));
    } else if (kind == CLOSURE_DOUBLE) {
        sqlite3_result_double(context, rts_getDouble(v));
    } else if (kind == CLOSURE_BYTES) {
        size_t length;
        const void *bytes = rts_bytes(v, &length);
        sqlite3_result_text64(context, bytes, length, SQLITE_TRANSIENT, SQLITE_UTF8);
    } else if (v == CAPSTAN_UNIT) {
        sqlite3_result_null(context);
    } else {
        sqlite3_result_error(context, "a managed function gave what SQL has no type for", -1);
    }
}

/* ---- Calls ---- */

/* Run an action; false: it failed, and SQLite has been told. */
static bool run(Capability **cap, HaskellObj io, HaskellObj *result, sqlite3_context *context)
{
    char text[256];
    rts_evalIO(cap, io, result);
    SchedulerStatus status = rts_getSchedStatus(*cap);
    if (status == Success) return true;
    if (status == HeapExhausted) {
        sqlite3_result_error_nomem(context);
        return false;
    }
    rts_showException(*cap, rts_getException(*cap), text, sizeof text);
    sqlite3_result_error(context, status == Killed ? text : "the call into managed code was ended", -1);
    return false;
}

static HaskellObj behind(HsStablePtr sp) { return (HaskellObj)deRefStablePtr(sp); }

static void callScalar(sqlite3_context *context, int count, sqlite3_value **values)
{
    HaskellObj result;
    Capability *cap = rts_lock();
    HaskellObj io = rts_apply(cap, behind(sqlite3_user_data(context)), fromSqlAll(cap, count, values));
    if (run(&cap, io, &result, context)) giveResult(context, result);
    rts_unlock(cap);
}

typedef struct {
    HsStablePtr start, step, end;
} Aggregate;

/* The state of this group, from its first row on; NULL: SQLite has been told why not. */
static HsStablePtr *stateOf(Capability **cap, sqlite3_context *context)
{
    const Aggregate *aggregate = sqlite3_user_data(context);
    HsStablePtr *state = sqlite3_aggregate_context(context, sizeof *state);
    HaskellObj made;
    if (state == NULL) sqlite3_result_error_nomem(context);
    if (state == NULL || *state != NULL) return state;
    if (!run(cap, behind(aggregate->start), &made, context)) return NULL;
    *state = getStablePtr((StgPtr)made);
    if (*state == NULL) sqlite3_result_error_nomem(context);
    return *state == NULL ? NULL : state;
}

static void callStep(sqlite3_context *context, int count, sqlite3_value **values)
{
    const Aggregate *aggregate = sqlite3_user_data(context);
    Capability *cap = rts_lock();
    HsStablePtr *state = stateOf(&cap, context);
    if (state != NULL)
        run(&cap, rts_apply(cap, rts_apply(cap, behind(aggregate->step), behind(*state)), fromSqlAll(cap, count, values)), NULL, context);
    rts_unlock(cap);
}

/* Also when a query is broken off, so that no state is left over. */
static void callEnd(sqlite3_context *context)
{
    const Aggregate *aggregate = sqlite3_user_data(context);
    HaskellObj result;
    Capability *cap = rts_lock();
    HsStablePtr *state = stateOf(&cap, context);
    if (state != NULL && run(&cap, rts_apply(cap, behind(aggregate->end), behind(*state)), &result, context)) giveResult(context, result);
    rts_unlock(cap);
    if (state != NULL) hs_free_stable_ptr(*state);
}

/* A collation cannot fail: what cannot be compared is equal. */
static int callCompare(void *user, int n, const void *a, int m, const void *b)
{
    HaskellObj order;
    Capability *cap = rts_lock();
    HaskellObj left = rts_mkBytes(cap, a, (size_t)n), right = rts_mkBytes(cap, b, (size_t)m);
    rts_evalIO(&cap, rts_apply(cap, rts_apply(cap, behind(user), left), right), &order);
    int result = rts_getSchedStatus(cap) == Success ? (int)rts_getInt(order) : 0;
    rts_unlock(cap);
    return result;
}

/* ---- Registering ---- */

static HsStablePtr keep(HaskellObj closure)
{
    Capability *cap = rts_lock();
    HsStablePtr sp = getStablePtr((StgPtr)closure);
    rts_unlock(cap);
    return sp;
}

static void freeAggregate(void *user)
{
    Aggregate *aggregate = user;
    hs_free_stable_ptr(aggregate->start);
    hs_free_stable_ptr(aggregate->step);
    hs_free_stable_ptr(aggregate->end);
    free(aggregate);
}

/* Of the same arguments the same: SQLite may then compute them once. */
#define FLAGS (SQLITE_UTF8 | SQLITE_DETERMINISTIC)

int addScalar(sqlite3 *db, const char *name, int arguments, HaskellObj function)
{
    return sqlite3_create_function_v2(db, name, arguments, FLAGS, keep(function), callScalar, NULL, NULL, hs_free_stable_ptr);
}

int addAggregate(sqlite3 *db, const char *name, int arguments, HaskellObj start, HaskellObj step, HaskellObj end)
{
    Aggregate *aggregate = malloc(sizeof *aggregate);
    if (aggregate == NULL) return SQLITE_NOMEM;
    *aggregate = (Aggregate){ keep(start), keep(step), keep(end) };
    return sqlite3_create_function_v2(db, name, arguments, FLAGS, aggregate, NULL, callStep, callEnd, freeAggregate);
}

int addCollation(sqlite3 *db, const char *name, HaskellObj compare)
{
    HsStablePtr sp = keep(compare);
    int status = sqlite3_create_collation_v2(db, name, SQLITE_UTF8, sp, callCompare, hs_free_stable_ptr);
    if (status != SQLITE_OK) hs_free_stable_ptr(sp); /* alone of these it does not call the destructor */
    return status;
}

/* sqlite: SQL functions, aggregates and a collation that are managed functions.
 *
 *     sqlite [THREADS [ROUNDS]]
 *
 * THREADS threads (8), each with a connection of its own to one database, ask ROUNDS times (20) what managed functions and plain C make of the same rows; both
 * must be the same.  Then each asks for what the functions refuse, and must get their message as SQLite's error.  Ends with 1 if anything is not so. */
#include "bridge.h"
#include "functions.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ROWS = 500 };

static char path[1000];
static int rounds = 20;
static _Atomic long rowsCompared, errorsHeard, wrong;

/* ---- The database ---- */

static bool exec(sqlite3 *db, const char *sql)
{
    char *message = NULL;
    if (sqlite3_exec(db, sql, NULL, NULL, &message) == SQLITE_OK) return true;
    fprintf(stderr, "sqlite: %s: %s\n", sql, message);
    sqlite3_free(message);
    return false;
}

static bool fill(void)
{
    static const char insert[] =
        "create table t (id integer primary key, a integer, b integer, x real, name text);"
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < %d)"
        "insert into t select i, i * 7919 %% 1000 - 500, i * i, i / 7.0, printf('word%%d of %%03d', i * 31 %% 97, i %% 50) from n;";
    sqlite3 *db;
    char sql[sizeof insert + 16];
    snprintf(sql, sizeof sql, insert, ROWS);
    bool done = sqlite3_open(path, &db) == SQLITE_OK && exec(db, sql);
    sqlite3_close(db);
    return done;
}

static bool addAll(sqlite3 *db)
{
    return addScalar(db, "m_mix", 2, &mix_closure) == SQLITE_OK && addScalar(db, "m_shout", 1, &shout_closure) == SQLITE_OK &&
           addScalar(db, "m_power", 2, &power_closure) == SQLITE_OK &&
           addAggregate(db, "m_spread", 1, &spreadStart_closure, &spreadStep_closure, &spreadEnd_closure) == SQLITE_OK &&
           addAggregate(db, "m_longest", 1, &longestStart_closure, &longestStep_closure, &longestEnd_closure) == SQLITE_OK &&
           addCollation(db, "m_natural", &natural_closure) == SQLITE_OK &&
           sqlite3_create_function(db, "c_mix", 2, SQLITE_UTF8, NULL, plainMix, NULL, NULL) == SQLITE_OK &&
           sqlite3_create_function(db, "c_shout", 1, SQLITE_UTF8, NULL, plainShout, NULL, NULL) == SQLITE_OK &&
           sqlite3_create_function(db, "c_power", 2, SQLITE_UTF8, NULL, plainPower, NULL, NULL) == SQLITE_OK &&
           sqlite3_create_function(db, "c_spread", 1, SQLITE_UTF8, NULL, NULL, plainSpreadStep, plainSpreadEnd) == SQLITE_OK &&
           sqlite3_create_function(db, "c_longest", 1, SQLITE_UTF8, NULL, NULL, plainLongestStep, plainLongestEnd) == SQLITE_OK &&
           sqlite3_create_collation(db, "c_natural", SQLITE_UTF8, NULL, plainNatural) == SQLITE_OK;
}

/* ---- Queries ---- */

static void fail(sqlite3 *db, const char *sql, const char *what)
{
    fprintf(stderr, "sqlite: %s: %s (%s)\n", sql, what, sqlite3_errmsg(db));
    wrong++;
}

/* Every row has an even number of columns: the first half must be what the second half is, types included. */
static void compareHalves(sqlite3 *db, const char *sql, int parameter, int rows)
{
    sqlite3_stmt *statement;
    int got = 0, step = SQLITE_ROW;
    if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) != SQLITE_OK) {
        fail(db, sql, "not prepared");
        return;
    }
    sqlite3_bind_int(statement, 1, parameter);
    for (; (step = sqlite3_step(statement)) == SQLITE_ROW; got++) {
        int half = sqlite3_column_count(statement) / 2;
        for (int i = 0; i < half; i++) {
            const unsigned char *mine = sqlite3_column_text(statement, i), *theirs = sqlite3_column_text(statement, half + i);
            if (sqlite3_column_type(statement, i) != sqlite3_column_type(statement, half + i) ||
                (mine == NULL) != (theirs == NULL) || (mine != NULL && strcmp((const char *)mine, (const char *)theirs) != 0))
                fail(db, sql, "not the same");
        }
    }
    if (step != SQLITE_DONE || got != rows) fail(db, sql, "ended early");
    sqlite3_finalize(statement);
    rowsCompared += got;
}

static void expectError(sqlite3 *db, const char *sql, const char *message)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK || strcmp(sqlite3_errmsg(db), message) != 0) fail(db, sql, "not refused as it should be");
    else errorsHeard++;
}

static void *ask(void *arg)
{
    int me = (int)(intptr_t)arg;
    sqlite3 *db;
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK || !addAll(db)) {
        fail(db, path, "not opened");
        return NULL;
    }
    for (int i = 0; i < rounds && wrong == 0; i++) {
        int n = me * 1000 + i;
        compareHalves(db, "select m_mix(a, ?1), m_shout(name), m_power(x, id % 20), c_mix(a, ?1), c_shout(name), c_power(x, id % 20) from t", n, ROWS);
        compareHalves(db, "select m_spread(a + ?1), m_longest(name), c_spread(a + ?1), c_longest(name) from t group by id % 10", n, 10);
        /* Aggregates of no rows; nested, in a subquery, and in an order. */
        compareHalves(db, "select m_spread(a), m_longest(name), c_spread(a), c_longest(name) from t where a = 5000 + ?1", n, 1);
        compareHalves(db, "select m_spread(m_mix(a, ?1) % 1000), c_spread(c_mix(a, ?1) % 1000) from t", n, 1);
        compareHalves(db, "select l.id, r.id from (select id, row_number() over (order by name collate m_natural, id) as place from t) l"
                          " join (select id, row_number() over (order by name collate c_natural, id) as place from t) r using (place)"
                          " where ?1 is not null", n, ROWS);
        expectError(db, "select m_shout('')", "shout: there is nothing to say");
        expectError(db, "select m_power(2.0, -3)", "power: -3 is negative");
        expectError(db, "select m_mix(1, 'two')", "argument 2 is no integer");
        expectError(db, "select m_spread(name) from t", "argument 1 is no integer");
        expectError(db, "select m_longest(null)", "argument 1 is no text");
    }
    if (sqlite3_close(db) != SQLITE_OK) fail(db, path, "not closed");
    hs_thread_done();
    return NULL;
}

static int askAll(long count)
{
    pthread_t threads[256];
    RtsCounts counts;
    for (long i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, ask, (void *)i) != 0) {
            fprintf(stderr, "sqlite: no more threads\n");
            exit(1);
        }
    for (long i = 0; i < count; i++) pthread_join(threads[i], NULL);
    rts_getCounts(&counts);
    printf("%ld threads: %ld rows compared, %ld refusals, %lu collections, %lu stable pointers left\n", count, (long)rowsCompared, (long)errorsHeard,
           (unsigned long)counts.collections, (unsigned long)counts.stable_ptrs);
    bool right = wrong == 0 && counts.stable_ptrs == 0 && errorsHeard == 5 * count * rounds && rowsCompared == count * rounds * (2 * ROWS + 12);
    return right ? 0 : 1;
}

int main(int argc, char **argv)
{
    RtsConfig config = RTS_CONFIG_INIT;
    char message[200];
    long threads = argc > 1 ? strtol(argv[1], NULL, 10) : 8;
    if (argc > 2) rounds = atoi(argv[2]);
    if (threads < 1 || threads > 256 || rounds < 1) {
        fprintf(stderr, "usage: sqlite [THREADS [ROUNDS]]\n");
        return 2;
    }
    if (rts_start(&config, message, sizeof message) != RTS_OK) {
        fprintf(stderr, "sqlite: %s\n", message);
        return 1;
    }
    const char *folder = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/capstan-sqlite-XXXXXX", folder != NULL ? folder : "/tmp");
    int fd = mkstemp(path);
    if (fd < 0) {
        perror("sqlite: mkstemp");
        return 1;
    }
    close(fd);
    int status = fill() ? askAll(threads) : 1;
    unlink(path);
    hs_exit();
    return status;
}

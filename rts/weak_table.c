#include "weak_table.h"

#include "os/memory.h"
#include "rts/Weak.h"
#include "slab.h"
#include "stable_name.h"
#include "weak.h"

const StgInfoTable capstan_WEAK_TABLE_info = { CLOSURE_WEAK_TABLE, 0, 0, 0, 0, 0, NULL, "weak table", NULL };

#define FIRST_BUCKETS 16

typedef struct Entry_ Entry;
struct Entry_ {
    Entry *next;            /* of its bucket, or unused */
    Entry *nextListed;      /* of the listed ones; in a collection, of unseen */
    StgWord hash;           /* [const] */
    HaskellObj key, value;  /* key: NULL: unused, or taken out while it was listed */
    bool listed;
};

typedef struct Table_ Table;
struct Table_ {
    _Atomic uint32_t lock;
    HaskellObj object;      /* [stopped] where it is */
    Entry **buckets;        /* size of them, a power of two */
    size_t size;
    _Atomic size_t count;
    Slab entries;
    Entry *listed;
    Table *nextYoung;       /* [atomic push] of the young ones */
    bool young;             /* is in that list */
    bool old;               /* [stopped] is in the list of old ones */
    Table *nextOld;         /* [stopped] */
    Entry *unseen;          /* [stopped] of the entries that a collection looks at: key not found alive yet */
    bool whole;             /* [stopped] none was looked at yet, and all in buckets are to be: they are not in unseen */
};

static struct {
    _Atomic(Table *) young; /* through nextYoung */
    Table *old;             /* [stopped] through nextOld */
    Table *working;         /* [stopped] those that this collection looks at, through nextYoung */
    bool begun;             /* [stopped] */
    Table *early;           /* [stopped] what visitEarly looks at next: of this old table */
    SlabChunk *earlyChunk;  /* [stopped] these; NULL: the next table */
} tables;

/* ---- One table, under its lock ---- */

static Entry **bucketOf(Table *t, StgWord hash) { return &t->buckets[hash % t->size]; }

static size_t countOf(Table *t) { return atomic_load_explicit(&t->count, memory_order_relaxed); }
static void setCount(Table *t, size_t n) { atomic_store_explicit(&t->count, n, memory_order_relaxed); }

static void insert(Table *t, Entry *e)
{
    Entry **bucket = bucketOf(t, e->hash);
    e->next = *bucket;
    *bucket = e;
    setCount(t, countOf(t) + 1);
}

static void giveEntry(Table *t, Entry *e)
{
    e->key = e->value = NULL;
    giveRecord(&t->entries, e);
}

static void eachEntry(Table *t, void (*f)(Table *t, Entry *e, void *ctx), void *ctx)
{
    for (SlabChunk *c = t->entries.chunks; c != NULL; c = c->next)
        for (Entry *e = firstRecord(c), *end = e + c->count; e < end; e++)
            if (e->key != NULL) f(t, e, ctx);
}

static void insertAgain(Table *t, Entry *e, void *unused) { insert(t, e); }

/* false: no memory; nothing was changed. */
static bool resize(Table *t, size_t size)
{
    Entry **new = rtsCalloc(size, sizeof *new);
    if (new == NULL) return false;
    rtsFree(t->buckets);
    t->buckets = new;
    t->size = size;
    setCount(t, 0);
    eachEntry(t, insertAgain, NULL);
    return true;
}

static void pushYoung(Table *t)
{
    t->young = true;
    t->nextYoung = atomic_load_explicit(&tables.young, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&tables.young, &t->nextYoung, t, memory_order_release, memory_order_relaxed)) {}
}

/* Something was written into it. */
static void listIfYoung(Table *t, Entry *e)
{
    if (e->listed || !(isYoung(e->key) || isYoung(e->value))) return;
    e->listed = true;
    e->nextListed = t->listed;
    t->listed = e;
    if (!t->young) pushYoung(t);
}

/* What an operation looks for: the key itself, or what a test of the caller's says. */
typedef struct {
    StgWord hash;
    HaskellObj key;
    RtsKeyTest *is;
    void *ctx;
} Sought;

static bool isSought(const Sought *s, const Entry *e)
{
    if (e->hash != s->hash) return false;
    return s->is == NULL ? e->key == s->key : s->is(s->ctx, e->key);
}

/* The link that leads to the entry, or to the end of its bucket. */
static Entry **findLink(Table *t, const Sought *s)
{
    Entry **link = bucketOf(t, s->hash);
    while (*link != NULL && !isSought(s, *link)) link = &(*link)->next;
    return link;
}

/* NULL: no memory. */
static Entry *addEntry(Table *t, StgWord hash, HaskellObj key, HaskellObj value)
{
    Entry *e = takeRecord(&t->entries);
    if (e == NULL) return NULL;
    /* Without memory for more buckets the chains grow longer. */
    if (countOf(t) >= t->size) resize(t, 2 * t->size);
    *e = (Entry){ .hash = hash, .key = key, .value = value };
    insert(t, e);
    listIfYoung(t, e);
    return e;
}

/* The entry is out of its bucket.  One that is listed stays in that list without a key, for the collector to free. */
static void dropEntry(Table *t, Entry *e)
{
    setCount(t, countOf(t) - 1);
    if (e->listed) e->key = e->value = NULL;
    else giveEntry(t, e);
}

/* ---- The operations ---- */

static Table *tableOf(HaskellObj v, const char *function)
{
    v = expectKind(v, CLOSURE_WEAK_TABLE, function);
    return v == NULL ? NULL : ((StgWeak *)v)->record;
}

HaskellObj rts_mkWeakTable(Capability *cap)
{
    needIdentity();
    if (cap->dead != RTS_OK) return CAPSTAN_POISON;
    Table *t = rtsCalloc(1, sizeof *t);
    bool ok = t != NULL && resize(t, FIRST_BUCKETS);
    if (!ok) refuseAllocation(&cap->nursery, sizeof *t);
    HaskellObj object = ok ? newNamingObject(cap, &capstan_WEAK_TABLE_info, (StgWord)t) : NULL;
    if (object == NULL) {
        if (ok) rtsFree(t->buckets);
        rtsFree(t);
        return CAPSTAN_POISON;
    }
    t->object = object;
    pushYoung(t);
    return object;
}

/* The key by identity.  false: it has no name, so it is in no table. */
static bool seekObject(Capability *cap, HaskellObj key, bool make, Sought *s)
{
    if (key == NULL || key == CAPSTAN_POISON) return false;
    key = whatItIs(key);
    StgWord name = nameOf(key, make);
    if (name == 0 && make) refuseAllocation(&cap->nursery, 64);
    *s = (Sought){ .hash = hashOfName(name), .key = key };
    return name != 0;
}

/* The key that is there, or becomes the entry's; NULL: no memory.  Read under the lock: others may take the entry out at once. */
static HaskellObj findOrAdd(Capability *cap, Table *t, const Sought *s, HaskellObj key, HaskellObj value, bool replace)
{
    lockRecord(&t->lock);
    Entry *e = *findLink(t, s);
    if (e == NULL && prepareRecord(&t->entries, sizeof *e, &t->lock)) e = *findLink(t, s);
    if (e == NULL) {
        e = addEntry(t, s->hash, key, value);
    } else if (replace) {
        e->value = value;
        listIfYoung(t, e);
    }
    HaskellObj found = e == NULL ? NULL : e->key;
    unlockRecord(&t->lock);
    if (found == NULL) refuseAllocation(&cap->nursery, sizeof *e);
    return found;
}

bool rts_weakTableInsert(Capability *cap, HaskellObj table, HaskellObj key, HaskellObj value)
{
    Sought s;
    Table *t = cap->dead != RTS_OK ? NULL : tableOf(table, "rts_weakTableInsert");
    if (t == NULL || value == NULL || value == CAPSTAN_POISON || !seekObject(cap, key, true, &s)) return false;
    return findOrAdd(cap, t, &s, s.key, value, true) != NULL;
}

static bool look(Table *t, const Sought *s, HaskellObj *key, HaskellObj *value)
{
    lockRecord(&t->lock);
    Entry *e = *findLink(t, s);
    if (key != NULL) *key = e == NULL ? CAPSTAN_POISON : e->key;
    if (value != NULL) *value = e == NULL ? CAPSTAN_POISON : e->value;
    unlockRecord(&t->lock);
    return e != NULL;
}

static bool takeOut(Table *t, const Sought *s, HaskellObj *value)
{
    lockRecord(&t->lock);
    Entry **link = findLink(t, s), *e = *link;
    if (value != NULL) *value = e == NULL ? CAPSTAN_POISON : e->value;
    if (e != NULL) {
        *link = e->next;
        dropEntry(t, e);
    }
    unlockRecord(&t->lock);
    return e != NULL;
}

bool rts_weakTableLookup(Capability *cap, HaskellObj table, HaskellObj key, HaskellObj *value)
{
    Sought s;
    Table *t = cap->dead != RTS_OK ? NULL : tableOf(table, "rts_weakTableLookup");
    if (value != NULL) *value = CAPSTAN_POISON;
    return t != NULL && seekObject(cap, key, false, &s) && look(t, &s, NULL, value);
}

bool rts_weakTableRemove(Capability *cap, HaskellObj table, HaskellObj key, HaskellObj *value)
{
    Sought s;
    Table *t = cap->dead != RTS_OK ? NULL : tableOf(table, "rts_weakTableRemove");
    if (value != NULL) *value = CAPSTAN_POISON;
    return t != NULL && seekObject(cap, key, false, &s) && takeOut(t, &s, value);
}

/* Of the forms with a test. */
static Table *tableToSeek(Capability *cap, HaskellObj table, RtsKeyTest *is, const char *function)
{
    if (cap->dead != RTS_OK) return NULL;
    if (is != NULL) return tableOf(table, function);
    reportError(RTS_BAD_ARGUMENT, "%s: there is no test for keys", function);
    return NULL;
}

bool rts_weakTableFind(Capability *cap, HaskellObj table, StgWord hash, RtsKeyTest *is, void *ctx, HaskellObj *key, HaskellObj *value)
{
    const Sought s = { .hash = hash, .is = is, .ctx = ctx };
    Table *t = tableToSeek(cap, table, is, "rts_weakTableFind");
    if (key != NULL) *key = CAPSTAN_POISON;
    if (value != NULL) *value = CAPSTAN_POISON;
    return t != NULL && look(t, &s, key, value);
}

HaskellObj rts_weakTableIntern(Capability *cap, HaskellObj table, StgWord hash, RtsKeyTest *is, void *ctx, HaskellObj key, HaskellObj value)
{
    const Sought s = { .hash = hash, .is = is, .ctx = ctx };
    HaskellObj found;
    Table *t = tableToSeek(cap, table, is, "rts_weakTableIntern");
    if (t == NULL || key == NULL || key == CAPSTAN_POISON || value == NULL || value == CAPSTAN_POISON) return CAPSTAN_POISON;
    if (look(t, &s, &found, NULL)) return found;
    found = findOrAdd(cap, t, &s, whatItIs(key), value, false);
    return found == NULL ? CAPSTAN_POISON : found;
}

bool rts_weakTableUnintern(Capability *cap, HaskellObj table, StgWord hash, RtsKeyTest *is, void *ctx)
{
    const Sought s = { .hash = hash, .is = is, .ctx = ctx };
    Table *t = tableToSeek(cap, table, is, "rts_weakTableUnintern");
    return t != NULL && takeOut(t, &s, NULL);
}

size_t rts_weakTableSize(HaskellObj table)
{
    Table *t = tableOf(table, "rts_weakTableSize");
    return t == NULL ? 0 : countOf(t);
}

static void copyEntry(Table *t, Entry *e, void *arg)
{
    StgArray *array = arg;
    array->elems[array->length++] = e->key;
    array->elems[array->length++] = e->value;
}

/* false: there are more than the array has room for. */
static bool copyEntries(Table *t, StgArray *array)
{
    lockRecord(&t->lock);
    bool fits = 2 * countOf(t) <= array->length;
    if (fits) {
        array->length = 0;
        eachEntry(t, copyEntry, array);
    }
    unlockRecord(&t->lock);
    return fits;
}

HaskellObj rts_weakTableEntries(Capability *cap, HaskellObj table)
{
    Table *t = cap->dead != RTS_OK ? NULL : tableOf(table, "rts_weakTableEntries");
    if (t == NULL) return CAPSTAN_POISON;
    for (size_t room = countOf(t);; room += room / 8 + 8) {
        HaskellObj array = rts_mkArray(cap, 2 * room, CAPSTAN_UNIT);
        if (array == CAPSTAN_POISON || copyEntries(t, (StgArray *)array)) return array;
    }
}

/* ---- Collections ---- */

/* Those that were taken out while they were listed are in no bucket. */
static void giveTakenOut(Table *t)
{
    for (Entry *e = t->listed; e != NULL; e = e->nextListed)
        if (e->key == NULL) giveEntry(t, e);
}

static void beginTable(Table *t, bool minor)
{
    if (!minor) giveTakenOut(t);
    t->whole = !minor;
    t->unseen = minor ? t->listed : NULL;
    t->listed = NULL;
}

static void begin(bool minor)
{
    tables.begun = true;
    tables.working = atomic_exchange_explicit(&tables.young, NULL, memory_order_acquire);
    if (!minor)
        for (Table *t = tables.old; t != NULL; t = t->nextOld) {
            if (t->young) continue; /* it is there already */
            t->nextYoung = tables.working;
            tables.working = t;
        }
    for (Table *t = tables.working; t != NULL; t = t->nextYoung) beginTable(t, minor);
}

/* Its key lives: visit the value.  Nothing moves once more in this collection: so it is done with.  false: not found alive. */
static bool seeEntry(Visitor *v, Table *t, Entry *e)
{
    keyLooks++;
    HaskellObj key = e->key == NULL ? NULL : whereTheSameIs(e->key);
    if (key == NULL) return false;
    if (key != e->key) e->key = key;
    visitRoot(v, &e->value);
    bool young = isYoung(key) || isYoung(e->value);
    if (young != e->listed) e->listed = young;
    if (!young) return true;
    e->nextListed = t->listed;
    t->listed = e;
    return true;
}

static void lookLater(Table *t, Entry *e)
{
    e->nextListed = t->unseen;
    t->unseen = e;
}

/* again: what lives by one is followed before the next is looked at; each pass goes the other way than the one before.  See: visitLiveWeaks. */
static bool seeUnseen(Visitor *v, Table *t, bool again)
{
    bool any = false;
    Entry *all = t->unseen;
    t->unseen = NULL;
    for (Entry *e = all, *next; e != NULL; e = next) {
        next = e->nextListed;
        if (!seeEntry(v, t, e)) {
            lookLater(t, e);
            continue;
        }
        any = true;
        if (again) followNear(v);
    }
    return any;
}

static bool seeWhole(Visitor *v, Table *t)
{
    bool any = false;
    t->whole = false;
    for (SlabChunk *c = t->entries.chunks; c != NULL; c = c->next)
        for (Entry *e = firstRecord(c), *end = e + c->count; e < end; e++) {
            if (end - e > FETCH_AHEAD) {
                fetchKey(e[FETCH_AHEAD].key);
                fetchKey(e[FETCH_AHEAD].value);
            }
            if (e->key == NULL) continue;
            if (seeEntry(v, t, e)) any = true;
            else lookLater(t, e);
        }
    return any;
}

static bool visitLiveTables(Visitor *v)
{
    bool any = false, again = tables.begun;
    if (!again) begin(v->minor);
    for (Table *t = tables.working; t != NULL; t = t->nextYoung)
        if ((t->whole || t->unseen != NULL) && forwardedTo(t->object) != NULL) any |= t->whole ? seeWhole(v, t) : seeUnseen(v, t, again);
    return any;
}

static void visitIfMarked(Visitor *v, SlabChunk *c)
{
    for (Entry *e = firstRecord(c), *end = e + c->count; e < end; e++)
        if (e->key != NULL && isMarkedAlive(e->key)) visitRoot(v, &e->value);
}

static void turnToEarly(Table *t)
{
    tables.early = t;
    tables.earlyChunk = t != NULL && isMarkedAlive(t->object) ? t->entries.chunks : NULL;
}

/* Old tables, and chunks, go at the ends of markings and in major collections only. */
static bool visitEarlyTables(Visitor *v, bool first)
{
    if (first) turnToEarly(tables.old);
    if (tables.early == NULL) return false;
    if (tables.earlyChunk == NULL) {
        turnToEarly(tables.early->nextOld);
        return true;
    }
    visitIfMarked(v, tables.earlyChunk);
    tables.earlyChunk = tables.earlyChunk->next;
    return true;
}

static void visitValue(Visitor *v, void *table, void *entry)
{
    if (forwardedTo(((Table *)table)->object) != NULL) visitRoot(v, &((Entry *)entry)->value);
}

static bool isKeyFound(const Entry *e)
{
    keyLooks++;
    return e->key != NULL && whereTheSameIs(e->key) != NULL;
}

/* f of each entry that visitLive would look at. */
static void eachUnseen(Table *t, void (*f)(Table *t, Entry *e, void *ctx), void *ctx)
{
    for (Entry *e = t->unseen; e != NULL; e = e->nextListed) f(t, e, ctx);
    if (t->whole) eachEntry(t, f, ctx);
}

static void visitIfFound(Table *t, Entry *e, void *visitor)
{
    if (isKeyFound(e)) visitRoot(visitor, &e->value);
}

static void visitValues(Visitor *v, void *table, void *nothing) { eachUnseen(table, visitIfFound, v); }

static void awaitEntry(Table *t, Entry *e, void *nothing)
{
    if (e->key != NULL) awaitKey(e->key, isKeyFound(e), true, visitValue, t, e);
}

/* An entry's value lives once both table and key do, whichever is found last.  Where several threads reach them at once the next pass may have to find it. */
static void awaitKeys(void)
{
    for (Table *t = tables.working; t != NULL; t = t->nextYoung) {
        if (!t->whole && t->unseen == NULL) continue;
        if (forwardedTo(t->object) == NULL) awaitKey(t->object, false, true, visitValues, t, NULL);
        eachUnseen(t, awaitEntry, NULL);
    }
}

static void unlinkEntry(Table *t, Entry *e)
{
    Entry **link = bucketOf(t, e->hash);
    while (*link != e) link = &(*link)->next;
    *link = e->next;
    setCount(t, countOf(t) - 1);
}

static bool isUsed(const void *entry) { return ((const Entry *)entry)->key != NULL; }

static void sweepEntries(Table *t, bool minor)
{
    for (Entry *e = t->unseen, *next; e != NULL; e = next) {
        next = e->nextListed;
        if (e->key != NULL) unlinkEntry(t, e);
        giveEntry(t, e);
    }
    t->unseen = NULL;
    while (t->size > FIRST_BUCKETS && countOf(t) < t->size / 4 && resize(t, t->size / 2)) {}
    if (minor || countOf(t) >= t->entries.room / 4) return;
    forgetUnused(&t->entries);
    trimSlab(&t->entries, sizeof(Entry), isUsed);
}

/* Its object is dead. */
static void freeTable(Table *t)
{
    freeSlab(&t->entries);
    rtsFree(t->buckets);
    rtsFree(t);
}

static void sweepTable(Table *t, bool minor)
{
    t->object = forwardedTo(t->object);
    t->young = false;
    if (t->object == NULL) {
        if (!t->old) freeTable(t); /* else with the list */
        return;
    }
    sweepEntries(t, minor);
    bool old = !isYoung(t->object);
    if (old && !t->old) {
        t->old = true;
        t->nextOld = tables.old;
        tables.old = t;
    }
    if (!old || t->listed != NULL) pushYoung(t);
}

static void sweepTables(bool minor)
{
    for (Table *t = tables.working, *next; t != NULL; t = next) {
        next = t->nextYoung;
        sweepTable(t, minor);
    }
    tables.working = NULL;
    tables.begun = false;
    if (minor) return;
    for (Table **link = &tables.old, *t; (t = *link) != NULL;) {
        if (t->object != NULL) {
            link = &t->nextOld;
            continue;
        }
        *link = t->nextOld;
        freeTable(t);
    }
}

/* ---- Who looks at everything: entries of tables that can be reached or are young, with keys that may be dead, but not gone ---- */

static void visitKeptEntry(Table *t, Entry *e, void *visitor)
{
    Visitor *v = visitor;
    HaskellObj key = e->key, value = e->value;
    if (v->checks) visitRoot(v, &key);
    visitRoot(v, &value);
    if (v->checks && !e->listed && (isYoung(key) || isYoung(value)))
        v->missed(v, e, "an entry of a weak table that is not listed has something young");
}

static void visitKeptTables(Visitor *v)
{
    for (Table *t = tables.young; t != NULL; t = t->nextYoung) eachEntry(t, visitKeptEntry, v);
    for (Table *t = tables.old; t != NULL; t = t->nextOld)
        if (!t->young) eachEntry(t, visitKeptEntry, v);
}

const GcTable weakTableTable = {
    .visitEarly = visitEarlyTables, .visitLive = visitLiveTables, .await = awaitKeys, .sweep = sweepTables, .visitKept = visitKeptTables
};

/* ---- Exit ---- */

void freeWeakTables(void)
{
    Table *young = atomic_exchange_explicit(&tables.young, NULL, memory_order_acquire);
    for (Table *t = young, *next; t != NULL; t = next) {
        next = t->nextYoung;
        if (!t->old) freeTable(t);
    }
    for (Table *t = tables.old, *next; t != NULL; t = next) {
        next = t->nextOld;
        freeTable(t);
    }
    tables.old = NULL;
}

void forgetWeakTables(void)
{
    tables.young = NULL;
    tables.old = tables.working = NULL;
    tables.begun = false;
}

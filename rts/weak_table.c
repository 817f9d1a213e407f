#include "weak_table.h"

#include "base/sort.h"
#include "os/memory.h"
#include "rts/Weak.h"
#include "stable_name.h"
#include "weak.h"

const StgInfoTable capstan_WEAK_TABLE_info = { CLOSURE_WEAK_TABLE, 0, 0, 0, 0, 0, NULL, "weak table", NULL };

#define FIRST_BUCKETS 16

typedef struct Entry_ Entry;
struct Entry_ {
    Entry *next;            /* of its bucket */
    Entry *nextListed;      /* of the listed ones; in a collection, of unseen */
    StgWord hash;           /* [const] */
    HaskellObj key, value;
    uint32_t number;        /* [const] in the order of creation, as long as that does not wrap */
    bool listed;
};

typedef struct Table_ Table;
struct Table_ {
    _Atomic uint32_t lock;
    HaskellObj object;      /* [stopped] where it is */
    Entry **buckets;        /* size of them, a power of two */
    size_t size;
    _Atomic size_t count;
    uint32_t numbers;       /* given to entries */
    Entry *listed;
    Table *nextYoung;       /* [atomic push] of the young ones */
    bool young;             /* is in that list */
    bool old;               /* [stopped] is in the list of old ones */
    Table *nextOld;         /* [stopped] */
    Entry *unseen;          /* [stopped] of the entries that a collection looks at: key not found alive yet */
    unsigned passes;        /* [stopped] over unseen that found something alive */
    bool whole;             /* [stopped] none was looked at yet, and all in buckets are to be: they are not in unseen */
};

static struct {
    _Atomic(Table *) young; /* through nextYoung */
    Table *old;             /* [stopped] through nextOld */
    Table *working;         /* [stopped] those that this collection looks at, through nextYoung */
    bool begun;             /* [stopped] */
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

/* false: no memory; nothing was changed. */
static bool resize(Table *t, size_t size)
{
    Entry **old = t->buckets, **new = rtsCalloc(size, sizeof *new);
    size_t oldSize = t->size;
    if (new == NULL) return false;
    t->buckets = new;
    t->size = size;
    setCount(t, 0);
    for (size_t i = 0; i < oldSize; i++)
        for (Entry *e = old[i], *next; e != NULL; e = next) {
            next = e->next;
            insert(t, e);
        }
    rtsFree(old);
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

static void addEntry(Table *t, Entry *e)
{
    /* Without memory for more buckets the chains grow longer. */
    if (countOf(t) >= t->size) resize(t, 2 * t->size);
    e->number = t->numbers++;
    insert(t, e);
    listIfYoung(t, e);
}

/* The entry is out of its bucket.  One that is listed stays in that list without a key, for the collector to free. */
static void dropEntry(Table *t, Entry *e)
{
    setCount(t, countOf(t) - 1);
    if (e->listed) e->key = e->value = NULL;
    else rtsFree(e);
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

/* The entry that is there, or a new one; NULL: no memory. */
static Entry *findOrAdd(Capability *cap, Table *t, const Sought *s, HaskellObj key, HaskellObj value, bool replace)
{
    Entry *fresh = rtsMalloc(sizeof *fresh);
    lockRecord(&t->lock);
    Entry *e = *findLink(t, s);
    if (e != NULL && replace) {
        e->value = value;
        listIfYoung(t, e);
    } else if (e == NULL && fresh != NULL) {
        e = fresh;
        *e = (Entry){ .hash = s->hash, .key = key, .value = value };
        addEntry(t, e);
    }
    unlockRecord(&t->lock);
    if (e == NULL) refuseAllocation(&cap->nursery, sizeof *fresh);
    if (e != fresh) rtsFree(fresh);
    return e;
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
    Entry *e = findOrAdd(cap, t, &s, whatItIs(key), value, false);
    return e == NULL ? CAPSTAN_POISON : e->key;
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

/* false: there are more than the array has room for. */
static bool copyEntries(Table *t, StgArray *array)
{
    size_t n = 0;
    lockRecord(&t->lock);
    bool fits = 2 * countOf(t) <= array->length;
    for (size_t i = 0; fits && i < t->size; i++)
        for (Entry *e = t->buckets[i]; e != NULL; e = e->next) {
            array->elems[n++] = e->key;
            array->elems[n++] = e->value;
        }
    unlockRecord(&t->lock);
    if (fits) array->length = n;
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
static void freeTakenOut(Entry *list)
{
    for (Entry *e = list, *next; e != NULL; e = next) {
        next = e->nextListed;
        if (e->key == NULL) rtsFree(e);
    }
}

static void beginTable(Table *t, bool minor)
{
    if (!minor) freeTakenOut(t->listed);
    t->whole = !minor;
    t->passes = 0;
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

static bool isOlder(const void *a, const void *b) { return ((const Entry *)a)->number < ((const Entry *)b)->number; }

/* So many passes that found something alive tell of chains; what came out of buckets is then brought into the order of creation, once. */
#define CHAIN_PASSES 3

/* again: what lives by one is followed before the next is looked at; each pass goes the other way than the one before.  See: visitLiveWeaks. */
static bool seeUnseen(Visitor *v, Table *t, bool again)
{
    bool any = false;
    Entry *all = t->passes == CHAIN_PASSES ? sortList(t->unseen, offsetof(Entry, nextListed), isOlder) : t->unseen;
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
    t->passes += any;
    return any;
}

/* Each entry of a large table is a miss, and so is what it refers to.  See: FETCH_AHEAD. */
static void fetchBucket(Table *t, size_t i)
{
    const Entry *e;
    if (i + 3 * FETCH_AHEAD < t->size && (e = t->buckets[i + 3 * FETCH_AHEAD]) != NULL) __builtin_prefetch(e);
    if (i + 2 * FETCH_AHEAD < t->size && (e = t->buckets[i + 2 * FETCH_AHEAD]) != NULL) {
        __builtin_prefetch(e->next);
        fetchKey(e->key);
        fetchObject(e->value);
    }
    if (i + FETCH_AHEAD >= t->size || (e = t->buckets[i + FETCH_AHEAD]) == NULL || (e = e->next) == NULL) return;
    fetchKey(e->key);
    fetchObject(e->value);
}

static bool seeBuckets(Visitor *v, Table *t)
{
    bool any = false;
    t->whole = false;
    for (size_t i = 0; i < t->size; i++) {
        fetchBucket(t, i);
        for (Entry *e = t->buckets[i]; e != NULL; e = e->next)
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
        if ((t->whole || t->unseen != NULL) && forwardedTo(t->object) != NULL) any |= t->whole ? seeBuckets(v, t) : seeUnseen(v, t, again);
    return any;
}

static void unlinkEntry(Table *t, Entry *e)
{
    Entry **link = bucketOf(t, e->hash);
    while (*link != e) link = &(*link)->next;
    *link = e->next;
    setCount(t, countOf(t) - 1);
}

static void sweepEntries(Table *t)
{
    for (Entry *e = t->unseen, *next; e != NULL; e = next) {
        next = e->nextListed;
        if (e->key != NULL) unlinkEntry(t, e);
        rtsFree(e);
    }
    t->unseen = NULL;
    while (t->size > FIRST_BUCKETS && countOf(t) < t->size / 4 && resize(t, t->size / 2)) {}
}

/* Its object is dead.  All entries are in buckets, but for those taken out while they were listed, which are in unseen if they are not freed yet. */
static void freeTable(Table *t)
{
    freeTakenOut(t->unseen);
    for (size_t i = 0; i < t->size; i++)
        for (Entry *e = t->buckets[i], *next; e != NULL; e = next) {
            next = e->next;
            rtsFree(e);
        }
    rtsFree(t->buckets);
    rtsFree(t);
}

static void sweepTable(Table *t)
{
    t->object = forwardedTo(t->object);
    t->young = false;
    if (t->object == NULL) {
        if (!t->old) freeTable(t); /* else with the list */
        return;
    }
    sweepEntries(t);
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
        sweepTable(t);
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

static void visitKeptEntries(Visitor *v, Table *t)
{
    for (size_t i = 0; i < t->size; i++)
        for (Entry *e = t->buckets[i]; e != NULL; e = e->next) {
            HaskellObj key = e->key, value = e->value;
            if (v->checks) visitRoot(v, &key);
            visitRoot(v, &value);
            if (v->checks && !e->listed && (isYoung(key) || isYoung(value)))
                v->missed(v, e, "an entry of a weak table that is not listed has something young");
        }
}

static void visitKeptTables(Visitor *v)
{
    for (Table *t = tables.young; t != NULL; t = t->nextYoung) visitKeptEntries(v, t);
    for (Table *t = tables.old; t != NULL; t = t->nextOld)
        if (!t->young) visitKeptEntries(v, t);
}

const GcTable weakTableTable = { .visitLive = visitLiveTables, .sweep = sweepTables, .visitKept = visitKeptTables };

/* ---- Exit ---- */

void freeWeakTables(void)
{
    Table *young = atomic_exchange_explicit(&tables.young, NULL, memory_order_acquire);
    for (Table *t = young, *next; t != NULL; t = next) {
        next = t->nextYoung;
        t->unseen = t->listed;
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

#include "stable_name.h"

#include "os/memory.h"
#include "rts/Weak.h"
#include "weak.h"

const StgInfoTable capstan_STABLE_NAME_info = { CLOSURE_STABLE_NAME, 0, 0, 0, 0, 0, NULL, "stable name", NULL };

#define SHARDS        64
#define FIRST_BUCKETS 16

typedef struct Entry_ Entry;
struct Entry_ {
    Entry *next;        /* [lock: shard] of its bucket */
    Entry *nextYoung;   /* [lock: shard] */
    HaskellObj object;  /* [stopped] where it is */
    StgWord number;     /* [const] */
};

typedef struct {
    _Atomic uint32_t lock;
    Entry **buckets;    /* [lock] size of them, a power of two; NULL: none yet */
    size_t size, count; /* [lock] */
    Entry *young;       /* [lock] entries of young objects */
    StgWord numbers;    /* [lock] given out */
} __attribute__((aligned(64))) Shard;

static Shard shards[SHARDS];

static StgWord hashOf(HaskellObj v) { return hashOfName((StgWord)v >> 3); }
static Shard *shardOf(StgWord hash) { return &shards[hash % SHARDS]; }
static Entry **bucketOf(Shard *s, StgWord hash) { return &s->buckets[hash / SHARDS % s->size]; }

/* ---- One part, under its lock ---- */

static Entry *find(Shard *s, StgWord hash, HaskellObj v)
{
    Entry *e = s->buckets == NULL ? NULL : *bucketOf(s, hash);
    while (e != NULL && e->object != v) e = e->next;
    return e;
}

static void insert(Shard *s, Entry *e)
{
    Entry **bucket = bucketOf(s, hashOf(e->object));
    e->next = *bucket;
    *bucket = e;
    s->count++;
}

static bool resize(Shard *s, size_t size)
{
    Entry **old = s->buckets, **new = rtsCalloc(size, sizeof *new);
    size_t oldSize = s->size;
    if (new == NULL) return false;
    s->buckets = new;
    s->size = size;
    s->count = 0;
    for (size_t i = 0; i < oldSize; i++)
        for (Entry *e = old[i], *next; e != NULL; e = next) {
            next = e->next;
            insert(s, e);
        }
    rtsFree(old);
    return true;
}

/* Room for one more.  Without memory for more buckets the chains grow longer. */
static bool makeRoom(Shard *s)
{
    if (s->count < s->size) return true;
    return resize(s, s->size == 0 ? FIRST_BUCKETS : 2 * s->size) || s->size != 0;
}

static StgWord nameOfNumber(StgWord number) { return number << 3 | 4; }

/* The entry of v, made of fresh if it has none; NULL: no memory. */
static Entry *findOrInsert(Shard *s, StgWord hash, HaskellObj v, Entry *fresh)
{
    lockRecord(&s->lock);
    Entry *e = find(s, hash, v);
    if (e == NULL && fresh != NULL && makeRoom(s)) {
        e = fresh;
        *e = (Entry){ .object = v, .number = s->numbers++ * SHARDS + (StgWord)(s - shards) };
        insert(s, e);
        if (isYoung(v)) {
            e->nextYoung = s->young;
            s->young = e;
        }
    }
    unlockRecord(&s->lock);
    return e;
}

StgWord nameOf(HaskellObj v, bool make)
{
    if (rts_isImmediate(v) || !isInHeap(v)) return (StgWord)v;
    StgWord hash = hashOf(v);
    Shard *s = shardOf(hash);
    Entry *e = findOrInsert(s, hash, v, NULL);
    if (e == NULL && make) {
        /* Not under the lock: it may take long. */
        Entry *fresh = rtsMalloc(sizeof *fresh);
        e = findOrInsert(s, hash, v, fresh);
        if (e != fresh) rtsFree(fresh);
    }
    return e == NULL ? 0 : nameOfNumber(e->number);
}

/* ---- Collections: by one thread, nobody else looks ---- */

static void listYoung(Entry *e, Shard *s)
{
    if (!isYoung(e->object)) return;
    e->nextYoung = s->young;
    s->young = e;
}

/* What a sweep has taken out, to be put in again when all that moved is out: where one object goes another may still be. */
static void putMoved(Entry *moved)
{
    for (Entry *e = moved, *next; e != NULL; e = next) {
        next = e->next;
        Shard *s = shardOf(hashOf(e->object));
        if (makeRoom(s)) {
            insert(s, e);
            listYoung(e, s);
        } else {
            rtsFree(e); /* not one bucket: its object gets another name */
        }
    }
}

/* Where the link leads to an entry: leave it there (true), take it to those that moved, or free it. */
static bool sweepEntry(Shard *s, Entry **link, Entry **moved)
{
    Entry *e = *link;
    HaskellObj now = whereTheSameIs(e->object);
    if (now == e->object) {
        listYoung(e, s);
        return true;
    }
    *link = e->next;
    s->count--;
    if (now == NULL) {
        rtsFree(e);
    } else {
        e->object = now;
        e->next = *moved;
        *moved = e;
    }
    return false;
}

static void sweepYoung(Entry **moved)
{
    for (Shard *s = shards; s < shards + SHARDS; s++) {
        Entry *young = s->young, *next;
        s->young = NULL;
        for (Entry *e = young; e != NULL; e = next) {
            next = e->nextYoung;
            Entry **link = bucketOf(s, hashOf(e->object));
            while (*link != e) link = &(*link)->next;
            sweepEntry(s, link, moved);
        }
    }
}

/* See: FETCH_AHEAD. */
static void fetchBucket(const Shard *s, size_t i)
{
    const Entry *e;
    if (i + 3 * FETCH_AHEAD < s->size && (e = s->buckets[i + 3 * FETCH_AHEAD]) != NULL) __builtin_prefetch(e);
    if (i + 2 * FETCH_AHEAD < s->size && (e = s->buckets[i + 2 * FETCH_AHEAD]) != NULL) {
        __builtin_prefetch(e->next);
        fetchKey(e->object);
    }
    if (i + FETCH_AHEAD < s->size && (e = s->buckets[i + FETCH_AHEAD]) != NULL && e->next != NULL) fetchKey(e->next->object);
}

static void sweepAll(Entry **moved)
{
    for (Shard *s = shards; s < shards + SHARDS; s++) {
        s->young = NULL;
        for (size_t i = 0; i < s->size; i++) {
            fetchBucket(s, i);
            for (Entry **link = &s->buckets[i], *e; (e = *link) != NULL;)
                if (sweepEntry(s, link, moved)) link = &e->next;
        }
    }
}

/* Many have gone. */
static void shrink(Shard *s)
{
    size_t size = s->size;
    while (size > FIRST_BUCKETS && s->count < size / 4) size /= 2;
    if (size < s->size) resize(s, size);
}

static void sweepNames(bool minor)
{
    Entry *moved = NULL;
    if (minor) sweepYoung(&moved);
    else sweepAll(&moved);
    putMoved(moved);
    if (minor) return;
    for (Shard *s = shards; s < shards + SHARDS; s++) shrink(s);
}

static void visitObjects(Visitor *v)
{
    if (!v->checks) return; /* nothing is kept */
    for (Shard *s = shards; s < shards + SHARDS; s++)
        for (size_t i = 0; i < s->size; i++)
            for (Entry *e = s->buckets[i]; e != NULL; e = e->next) {
                HaskellObj object = e->object;
                visitRoot(v, &object);
            }
}

const GcTable stableNameTable = { .sweep = sweepNames, .visitKept = visitObjects };

void freeStableNames(bool whole)
{
    for (Shard *s = shards; s < shards + SHARDS; s++) {
        for (size_t i = 0; whole && i < s->size; i++)
            for (Entry *e = s->buckets[i], *next; e != NULL; e = next) {
                next = e->next;
                rtsFree(e);
            }
        if (whole) rtsFree(s->buckets);
        /* Numbers go on: names of the last runtime's objects may have been written down. */
        *s = (Shard){ .numbers = s->numbers };
    }
}

/* ---- The public face ---- */

/* 0, after refusing memory. */
static StgWord makeName(Capability *cap, HaskellObj v)
{
    if (cap->dead != RTS_OK || v == CAPSTAN_POISON || v == NULL) return 0;
    StgWord name = nameOf(whatItIs(v), true);
    if (name == 0) refuseAllocation(&cap->nursery, sizeof(Entry));
    return name;
}

HaskellObj rts_makeStableName(Capability *cap, HaskellObj v)
{
    needIdentity();
    StgWord name = makeName(cap, v);
    HaskellObj object = name == 0 ? NULL : newNamingObject(cap, &capstan_STABLE_NAME_info, name);
    return object == NULL ? CAPSTAN_POISON : object;
}

HsInt rts_stableNameToInt(HaskellObj name)
{
    HaskellObj object = expectKind(name, CLOSURE_STABLE_NAME, "rts_stableNameToInt");
    return object == NULL ? 0 : (HsInt)((StgStableName *)object)->number;
}

bool rts_eqStableName(HaskellObj a, HaskellObj b)
{
    HaskellObj x = expectKind(a, CLOSURE_STABLE_NAME, "rts_eqStableName"), y = expectKind(b, CLOSURE_STABLE_NAME, "rts_eqStableName");
    return x != NULL && y != NULL && ((StgStableName *)x)->number == ((StgStableName *)y)->number;
}

StgWord rts_identityHash(Capability *cap, HaskellObj v)
{
    needIdentity();
    StgWord name = makeName(cap, v);
    return name == 0 ? 0 : hashOfName(name);
}

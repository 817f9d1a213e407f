#include "stable_name.h"

#include "os/memory.h"
#include "rts/Weak.h"
#include "slab.h"
#include "weak.h"

#include <string.h>

const StgInfoTable capstan_STABLE_NAME_info = { CLOSURE_STABLE_NAME, 0, 0, 0, 0, 0, NULL, "stable name", NULL };

#define SHARDS        64
#define FIRST_BUCKETS 16

typedef struct Entry_ Entry;
struct Entry_ {
    Entry *next;        /* [lock: shard] of its bucket, or unused */
    Entry *nextYoung;   /* [lock: shard] */
    HaskellObj object;  /* [stopped] where it is; NULL: unused */
    StgWord number;     /* [const] */
};

typedef struct {
    _Atomic uint32_t lock;
    Entry **buckets;    /* [lock] size of them, a power of two; NULL: none yet */
    size_t size, count; /* [lock] */
    Entry *young;       /* [lock] entries of young objects */
    Slab entries;       /* [lock] chunks that were made here.  The unused ones may be of other parts' chunks: entries move with their objects */
    Entry *first[FIRST_BUCKETS]; /* [lock] buckets that need no memory: a collection that moves objects loses no entry */
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

static void resize(Shard *s, size_t size)
{
    Entry **old = s->buckets, **new = rtsCalloc(size, sizeof *new);
    size_t oldSize = s->size;
    if (new == NULL) return;
    s->buckets = new;
    s->size = size;
    s->count = 0;
    for (size_t i = 0; i < oldSize; i++)
        for (Entry *e = old[i], *next; e != NULL; e = next) {
            next = e->next;
            insert(s, e);
        }
    if (old != s->first) rtsFree(old);
}

/* For one more.  Without memory for more buckets the chains grow longer. */
static void makeRoom(Shard *s)
{
    if (s->buckets == NULL) {
        s->buckets = s->first;
        s->size = FIRST_BUCKETS;
    } else if (s->count >= s->size) {
        resize(s, 2 * s->size);
    }
}

static StgWord nameOfNumber(StgWord number) { return number << 3 | 4; }

static void listYoung(Shard *s, Entry *e)
{
    if (!isYoung(e->object)) return;
    e->nextYoung = s->young;
    s->young = e;
}

static Entry *addEntry(Shard *s, HaskellObj v)
{
    Entry *e = takeRecord(&s->entries);
    if (e == NULL) return NULL;
    makeRoom(s);
    *e = (Entry){ .object = v, .number = s->numbers++ * SHARDS + (StgWord)(s - shards) };
    insert(s, e);
    listYoung(s, e);
    return e;
}

StgWord nameOf(HaskellObj v, bool make)
{
    if (rts_isImmediate(v) || !isInHeap(v)) return (StgWord)v;
    StgWord hash = hashOf(v);
    Shard *s = shardOf(hash);
    lockRecord(&s->lock);
    Entry *e = find(s, hash, v);
    if (e == NULL && make && prepareRecord(&s->entries, sizeof *e, &s->lock)) e = find(s, hash, v);
    if (e == NULL && make) e = addEntry(s, v);
    StgWord name = e == NULL ? 0 : nameOfNumber(e->number);
    unlockRecord(&s->lock);
    return name;
}

/* ---- Collections: by one thread, nobody else looks ---- */

static void unlinkEntry(Entry *e)
{
    Shard *s = shardOf(hashOf(e->object));
    Entry **link = bucketOf(s, hashOf(e->object));
    while (*link != e) link = &(*link)->next;
    *link = e->next;
    s->count--;
}

/* Into the buckets, where its object is now; NULL: the object is dead. */
static void place(Entry *e, HaskellObj now)
{
    Shard *s = shardOf(hashOf(now != NULL ? now : e->object));
    e->object = now;
    if (now == NULL) {
        giveRecord(&s->entries, e);
        return;
    }
    makeRoom(s);
    insert(s, e);
    listYoung(s, e);
}

/* Those of objects that moved, or died, are taken out first, and then put in again: where one object goes another may still be. */
static void sweepYoung(void)
{
    Entry *moved = NULL;
    for (Shard *s = shards; s < shards + SHARDS; s++) {
        Entry *young = s->young, *next;
        s->young = NULL;
        for (Entry *e = young; e != NULL; e = next) {
            next = e->nextYoung;
            if (whereTheSameIs(e->object) == e->object) {
                listYoung(s, e);
                continue;
            }
            unlinkEntry(e);
            e->nextYoung = moved;
            moved = e;
        }
    }
    for (Entry *e = moved, *next; e != NULL; e = next) {
        next = e->nextYoung;
        place(e, whereTheSameIs(e->object));
    }
}

static void eachEntry(void (*f)(Entry *e, void *ctx), void *ctx)
{
    for (Shard *s = shards; s < shards + SHARDS; s++)
        for (SlabChunk *c = s->entries.chunks; c != NULL; c = c->next)
            for (Entry *e = firstRecord(c), *end = e + c->count; e < end; e++)
                if (e->object != NULL) f(e, ctx);
}

/* Nothing moved, and everything that lives is old. */
static void dropIfDead(Entry *e, void *unused)
{
    if (whereTheSameIs(e->object) != NULL) return;
    unlinkEntry(e);
    place(e, NULL);
}

static void placeAgain(Entry *e, void *unused) { place(e, whereTheSameIs(e->object)); }

static void emptyBuckets(Shard *s)
{
    memset(s->buckets, 0, s->size * sizeof *s->buckets);
    s->count = 0;
}

static void sweepAll(void)
{
    for (Shard *s = shards; s < shards + SHARDS; s++) {
        s->young = NULL;
        if (!heap.judging && s->buckets != NULL) emptyBuckets(s);
    }
    eachEntry(heap.judging ? dropIfDead : placeAgain, NULL);
}

/* Many have gone. */
static void shrink(Shard *s)
{
    size_t size = s->size;
    while (size > FIRST_BUCKETS && s->count < size / 4) size /= 2;
    if (size < s->size) resize(s, size);
}

static bool isUsed(const void *entry) { return ((const Entry *)entry)->object != NULL; }

static void trimEntries(void)
{
    size_t room = 0, count = 0;
    for (Shard *s = shards; s < shards + SHARDS; s++) {
        room += s->entries.room;
        count += s->count;
    }
    if (count >= room / 4) return;
    for (Shard *s = shards; s < shards + SHARDS; s++) forgetUnused(&s->entries);
    for (Shard *s = shards; s < shards + SHARDS; s++) trimSlab(&s->entries, sizeof(Entry), isUsed);
}

static void sweepNames(bool minor)
{
    if (minor) {
        sweepYoung();
        return;
    }
    sweepAll();
    for (Shard *s = shards; s < shards + SHARDS; s++) shrink(s);
    trimEntries();
}

static void visitObject(Entry *e, void *visitor)
{
    HaskellObj object = e->object;
    visitRoot(visitor, &object);
}

static void visitObjects(Visitor *v)
{
    if (v->checks) eachEntry(visitObject, v); /* nothing is kept */
}

const GcTable stableNameTable = { .sweep = sweepNames, .visitKept = visitObjects };

void freeStableNames(bool whole)
{
    for (Shard *s = shards; s < shards + SHARDS; s++) {
        if (whole) freeSlab(&s->entries);
        if (whole && s->buckets != s->first) rtsFree(s->buckets);
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

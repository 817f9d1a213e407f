#include "gc/keys.h"

#include "gc/fields.h"
#include "gc/gct.h"
#include "os/memory.h"

typedef struct Awaited_ Awaited;
struct Awaited_ {
    Awaited *next;        /* [const while keys are awaited] of its bucket */
    Awaited *nextReached; /* of the list of those whose key was reached */
    const void *key;      /* [const] */
    KeyReached *visit;    /* [const] */
    void *owner, *item;   /* [const] */
    _Atomic uint32_t listed; /* [atomic] it is in that list, or was; a word, since RISC-V exchanges no bytes */
};

#define CHUNK 1000
typedef struct Chunk_ Chunk;
struct Chunk_ {
    Chunk *next;
    size_t used;
    Awaited all[CHUNK];
};

static struct {
    Chunk *chunks;               /* [leader] the one being filled first */
    size_t count;                /* [leader] in all of them */
    bool refused;                /* [leader] there was no memory for one */
    Awaited **buckets;           /* [const while keys are awaited] size of them, a power of two */
    size_t size;
    _Atomic(Awaited *) reached;  /* [atomic] through nextReached */
} keys;

_Atomic bool keysAwaited;

static Awaited **bucketOf(const void *key) { return &keys.buckets[((uintptr_t)key >> 4) * 0x9e3779b97f4a7c15u >> 20 & (keys.size - 1)]; }

/* Once.  Release: pairs with takeReached. */
static void pushReached(Awaited *a)
{
    if (atomic_exchange_explicit(&a->listed, 1, memory_order_relaxed)) return;
    a->nextReached = atomic_load_explicit(&keys.reached, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&keys.reached, &a->nextReached, a, memory_order_release, memory_order_relaxed)) {}
}

static Awaited *takeReached(void) { return atomic_exchange_explicit(&keys.reached, NULL, memory_order_acquire); }

void noteReached(const void *start)
{
    for (Awaited *a = *bucketOf(start); a != NULL; a = a->next)
        if (a->key == start) pushReached(a);
}

/* ---- Making the index ---- */

/* Minor collections know of pinned arrays by their block only. */
static const void *whatDecides(HaskellObj key, bool itself)
{
    for (HaskellObj value;; key = value) {
        Block *b = blockOf(key);
        if (blockFlags(b) & (BLOCK_LARGE | BLOCK_PINNED)) return leader()->v.minor && !heap.judging ? (const void *)b->start : key;
        if (itself || (value = standsFor(key, key->info)) == NULL) return key;
    }
}

static Awaited *newAwaited(void)
{
    if (keys.refused) return NULL;
    if (keys.chunks == NULL || keys.chunks->used == CHUNK) {
        Chunk *chunk = rtsMalloc(sizeof *chunk);
        keys.refused = chunk == NULL;
        if (chunk == NULL) return NULL;
        chunk->next = keys.chunks;
        chunk->used = 0;
        keys.chunks = chunk;
    }
    keys.count++;
    return &keys.chunks->all[keys.chunks->used++];
}

void awaitKey(HaskellObj key, bool lives, bool itself, KeyReached *visit, void *owner, void *item)
{
    Awaited *a = newAwaited();
    if (a == NULL) return;
    *a = (Awaited){ .key = lives ? NULL : whatDecides(key, itself), .visit = visit, .owner = owner, .item = item };
}

/* Where each of a chunk goes is a miss: that of a later one is on its way meanwhile. */
static void fileChunk(Chunk *chunk)
{
    for (size_t i = 0; i < chunk->used; i++) {
        Awaited *a = &chunk->all[i];
        if (i + 8 < chunk->used) __builtin_prefetch(bucketOf(chunk->all[i + 8].key), 1);
        if (a->key == NULL) {
            pushReached(a);
            continue;
        }
        Awaited **bucket = bucketOf(a->key);
        a->next = *bucket;
        *bucket = a;
    }
}

/* false: there is nothing to wait for, or no memory. */
static bool makeIndex(void)
{
    for (const GcTable *const *t = heap.tables; *t != NULL; t++)
        if ((*t)->await != NULL) (*t)->await();
    if (keys.count == 0) return false;
    for (keys.size = 64; keys.size < keys.count;) keys.size *= 2;
    keys.buckets = rtsCalloc(keys.size, sizeof *keys.buckets);
    if (keys.buckets == NULL) return false;
    for (Chunk *chunk = keys.chunks; chunk != NULL; chunk = chunk->next) fileChunk(chunk);
    return true;
}

static void dropIndex(void)
{
    for (Chunk *chunk = keys.chunks, *next; chunk != NULL; chunk = next) {
        next = chunk->next;
        rtsFree(chunk);
    }
    rtsFree(keys.buckets);
    keys.chunks = NULL;
    keys.buckets = NULL;
    keys.count = 0;
    keys.refused = false;
}

/* ---- Using it ---- */

static void visitReached(Visitor *v, Awaited *list)
{
    for (Awaited *a = list; a != NULL; a = a->nextReached) {
        a->visit(v, a->owner, a->item);
        followNear(v);
    }
}

static void setAwaited(bool awaited)
{
    atomic_store_explicit(&keysAwaited, awaited, memory_order_relaxed);
    setAwaits(leader());
}

void followKeys(Visitor *v)
{
    if (makeIndex()) {
        setAwaited(true);
        for (Awaited *list; (list = takeReached()) != NULL;) {
            do visitReached(v, list);
            while ((list = takeReached()) != NULL);
            follow(v);
        }
        setAwaited(false);
    }
    dropIndex();
}

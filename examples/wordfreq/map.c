#include "map.h"
#include "text.h"

#include <string.h>

enum {
    SHARDS = 256,       /* tries, so that threads seldom swap the same root; a power of two */
    MAX_DEPTH = 64,     /* of a trie: it tests each bit of a hash once at most */
    SPAN = 128,         /* bytes of text between two safepoints, about: what is allocated for them fits the heap's reserve */
    STEPS = 256,        /* steps of other loops between two safepoints */
};

/* A trie is CAPSTAN_UNIT, an Entry, or a Branch: on the left the words whose hash has a 0 at that bit, on the right the others.
 * The bits of branches fall from the root down.  next: the next entry with the same hash, or CAPSTAN_UNIT. */
CAPSTAN_CON(Entry, 0, hash, word, count, next)
CAPSTAN_CON(Branch, 1, bit, left, right)
CAPSTAN_CON(Summary, 0, words, distinct, top)

_Static_assert((int)Entry_word == ENTRY_WORD && (int)Entry_count == ENTRY_COUNT, "as in map.h");
_Static_assert((int)Summary_words == SUMMARY_WORDS && (int)Summary_top == SUMMARY_TOP, "as in map.h");

/* A word in the text, in whatever case it stands there. */
typedef struct {
    const StgWord8 *letters;
    size_t length;
    uint64_t hash;
} Word;

static uint64_t hashMask = (UINT64_C(1) << 62) - 1;

void setHashBits(unsigned bits) { hashMask = (UINT64_C(1) << bits) - 1; }

/* The map.  Computed once, by whoever needs it first; the others wait for it. */
CAPSTAN_CAF(wordMap)
{
    HaskellObj shards = rts_mkArray(stack->cap, SHARDS, CAPSTAN_UNIT);
    for (size_t i = 0; i < SHARDS && shards != CAPSTAN_POISON; i++) {
        HaskellObj root = rts_mkMutVar(stack->cap, CAPSTAN_UNIT);
        if (root == CAPSTAN_POISON) shards = root;
        else rts_setElem(stack->cap, shards, i, root);
    }
    if (shards == CAPSTAN_POISON) rts_raise(stack, &capstan_HeapOverflow_closure);
    return shards;
}

/* A safepoint, now and then. */
static inline void step(Stack *stack, unsigned *left)
{
    if (--*left > 0) return;
    *left = STEPS;
    rts_poll(stack);
}

/* ---- Counting one word: nothing here is a safepoint --------------------------------------------------------------- */
/* All of these give CAPSTAN_POISON if there is no memory; what they built by then is garbage. */

static inline int64_t field(HaskellObj smallInt) { return rts_smallIntValue(smallInt); }
static inline HaskellObj smallInt(uint64_t n) { return CAPSTAN_SMALL_INT((StgInt)n); }

static inline StgWord8 toLower(StgWord8 letter) { return letter | 0x20; }

static bool isWord(HaskellObj entry, const Word *word)
{
    size_t length;
    const StgWord8 *key = rts_bytes(CAPSTAN_GET(Entry, entry, word), &length);
    if (length != word->length) return false;
    for (size_t i = 0; i < length; i++)
        if (key[i] != toLower(word->letters[i])) return false;
    return true;
}

static HaskellObj newEntry(Capability *cap, const Word *word, HaskellObj next)
{
    HaskellObj key = rts_mkBytes(cap, NULL, word->length);
    if (key == CAPSTAN_POISON) return key;
    StgWord8 *bytes = rts_bytes(key, NULL);
    for (size_t i = 0; i < word->length; i++) bytes[i] = toLower(word->letters[i]);
    return Entry_new(cap, smallInt(word->hash), key, smallInt(1), next);
}

/* The entries of one hash with one more of the word.  Those before its entry come after it in the new list. */
static HaskellObj countInList(Capability *cap, HaskellObj entries, const Word *word)
{
    HaskellObj found = entries;
    while (found != CAPSTAN_UNIT && !isWord(found, word)) found = CAPSTAN_GET(Entry, found, next);
    if (found == CAPSTAN_UNIT) return newEntry(cap, word, entries);
    HaskellObj rest = CAPSTAN_GET(Entry, found, next);
    for (HaskellObj e = entries; e != found && rest != CAPSTAN_POISON; e = CAPSTAN_GET(Entry, e, next))
        rest = Entry_new(cap, CAPSTAN_GET(Entry, e, hash), CAPSTAN_GET(Entry, e, word), CAPSTAN_GET(Entry, e, count), rest);
    if (rest == CAPSTAN_POISON) return rest;
    return Entry_new(cap, CAPSTAN_GET(Entry, found, hash), CAPSTAN_GET(Entry, found, word),
                     smallInt((uint64_t)field(CAPSTAN_GET(Entry, found, count)) + 1), rest);
}

static inline unsigned bitOf(HaskellObj branch) { return (unsigned)field(CAPSTAN_GET(Branch, branch, bit)); }

static HaskellObj newBranch(Capability *cap, unsigned bit, uint64_t hash, HaskellObj same, HaskellObj other)
{
    return hash >> bit & 1 ? Branch_new(cap, smallInt(bit), other, same) : Branch_new(cap, smallInt(bit), same, other);
}

/* The trie with one more of the word. */
static HaskellObj countInTrie(Capability *cap, HaskellObj trie, const Word *word)
{
    HaskellObj path[MAX_DEPTH], node = trie;
    unsigned depth = 0;
    if (trie == CAPSTAN_UNIT) return newEntry(cap, word, CAPSTAN_UNIT);
    while (CAPSTAN_IS(Branch, node)) {
        path[depth++] = node;
        node = word->hash >> bitOf(node) & 1 ? CAPSTAN_GET(Branch, node, right) : CAPSTAN_GET(Branch, node, left);
    }
    uint64_t differ = (uint64_t)field(CAPSTAN_GET(Entry, node, hash)) ^ word->hash;
    if (differ == 0) {
        node = countInList(cap, node, word);
    } else { /* a new branch where the two hashes part, among those above it */
        unsigned bit = 63u - (unsigned)__builtin_clzll(differ);
        for (; depth > 0 && bitOf(path[depth - 1]) < bit; depth--) node = path[depth - 1];
        HaskellObj entry = newEntry(cap, word, CAPSTAN_UNIT);
        node = entry == CAPSTAN_POISON ? entry : newBranch(cap, bit, word->hash, entry, node);
    }
    while (depth > 0 && node != CAPSTAN_POISON) {
        HaskellObj old = path[--depth];
        bool right = word->hash >> bitOf(old) & 1;
        node = newBranch(cap, bitOf(old), word->hash, node,
                         right ? CAPSTAN_GET(Branch, old, left) : CAPSTAN_GET(Branch, old, right));
    }
    return node;
}

static bool countWord(Capability *cap, HaskellObj shards, const Word *word)
{
    HaskellObj var = rts_getElem(shards, word->hash % SHARDS), old, new;
    do {
        old = rts_readMutVar(var);
        new = countInTrie(cap, old, word);
        if (new == CAPSTAN_POISON) return false;
    } while (!rts_casMutVar(cap, var, old, new));
    return true;
}

/* ---- Splitting text into words ------------------------------------------------------------------------------------ */

/* FNV-1a over the lower-case letters, then mixed so that all bits are as good as its middle ones. */
static size_t scanWord(const StgWord8 *text, size_t length, Word *word)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    size_t n = 0;
    for (; n < length && isLetter(text[n]); n++) h = (h ^ toLower(text[n])) * UINT64_C(0x100000001b3);
    h = (h ^ (h >> 32)) * UINT64_C(0x9e3779b97f4a7c15);
    *word = (Word){ text, n, (h ^ (h >> 29)) & hashMask };
    return n;
}

/* Counts the words that begin in the next SPAN bytes.  Returns where to go on; *words < 0 without memory.  Not a safepoint: the
 * text's address holds throughout. */
static size_t countSpan(Capability *cap, HaskellObj shards, HaskellObj chunk, size_t from, int64_t *words)
{
    size_t length, at = from;
    const StgWord8 *text = rts_bytes(chunk, &length);
    size_t end = length - from > SPAN ? from + SPAN : length;
    while (at < end) {
        Word word;
        if (!isLetter(text[at])) {
            at++;
            continue;
        }
        at += scanWord(text + at, length - at, &word);
        if (!countWord(cap, shards, &word)) {
            *words = -1;
            return length;
        }
        ++*words;
    }
    return at;
}

CAPSTAN_IO(countWords, chunk)
{
    HaskellObj shards = CAPSTAN_UNIT;
    int64_t words = 0;
    CAPSTAN_ROOTS(stack, chunk, shards);
    chunk = rts_force(stack, chunk);
    shards = rts_force(stack, &wordMap_closure);
    if (chunk == CAPSTAN_POISON) rts_raise(stack, &capstan_HeapOverflow_closure);
    size_t at = 0, length = 0;
    rts_bytes(chunk, &length);
    while (at < length) {
        at = countSpan(stack->cap, shards, chunk, at, &words);
        if (words < 0) rts_raise(stack, &capstan_HeapOverflow_closure);
        rts_poll(stack);
    }
    CAPSTAN_UNROOT(stack);
    return smallInt((uint64_t)words);
}

/* ---- The most frequent words -------------------------------------------------------------------------------------- */
/* They are kept in an array in heap order, the least frequent of them first: it is the one to give way to a better one.  A
 * Ranking's array must be rooted. */

typedef struct {
    Capability *cap;
    HaskellObj array;
    size_t used, limit;
    uint64_t words, distinct;  /* of all that were looked at */
} Ranking;

static bool isBetter(HaskellObj a, HaskellObj b)
{
    int64_t countA = field(CAPSTAN_GET(Entry, a, count)), countB = field(CAPSTAN_GET(Entry, b, count));
    if (countA != countB) return countA > countB;
    size_t lengthA, lengthB;
    const void *wordA = rts_bytes(CAPSTAN_GET(Entry, a, word), &lengthA);
    const void *wordB = rts_bytes(CAPSTAN_GET(Entry, b, word), &lengthB);
    int order = memcmp(wordA, wordB, lengthA < lengthB ? lengthA : lengthB);
    return order != 0 ? order < 0 : lengthA < lengthB;
}

/* Puts entry at place i of the first n, or below it. */
static void siftDown(Ranking *r, size_t i, size_t n, HaskellObj entry)
{
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        HaskellObj least = rts_getElem(r->array, child);
        if (child + 1 < n && isBetter(least, rts_getElem(r->array, child + 1)))
            least = rts_getElem(r->array, ++child);
        if (!isBetter(entry, least)) break;
        rts_setElem(r->cap, r->array, i, least);
    }
    rts_setElem(r->cap, r->array, i, entry);
}

/* Puts entry at place i, or above it. */
static void siftUp(Ranking *r, size_t i, HaskellObj entry)
{
    for (size_t parent; i > 0; i = parent) {
        parent = (i - 1) / 2;
        HaskellObj above = rts_getElem(r->array, parent);
        if (!isBetter(above, entry)) break;
        rts_setElem(r->cap, r->array, i, above);
    }
    rts_setElem(r->cap, r->array, i, entry);
}

static void rankEntry(Ranking *r, HaskellObj entry)
{
    r->words += (uint64_t)field(CAPSTAN_GET(Entry, entry, count));
    r->distinct++;
    if (r->used < r->limit) siftUp(r, r->used++, entry);
    else if (r->limit > 0 && isBetter(entry, rts_getElem(r->array, 0))) siftDown(r, 0, r->limit, entry);
}

static void rankTrie(Stack *stack, Ranking *r, unsigned *left, HaskellObj node)
{
    CAPSTAN_ROOTS(stack, node);
    step(stack, left);
    while (!rts_isImmediate(node) && CAPSTAN_IS(Branch, node)) {
        rankTrie(stack, r, left, CAPSTAN_GET(Branch, node, left));
        node = CAPSTAN_GET(Branch, node, right);
    }
    r->cap = stack->cap;
    for (HaskellObj e = node; e != CAPSTAN_UNIT; e = CAPSTAN_GET(Entry, e, next)) rankEntry(r, e);
    CAPSTAN_UNROOT(stack);
}

/* Looks at every word.  The map may grow meanwhile: then it is as good a picture as any. */
static void rankWords(Stack *stack, Ranking *r, HaskellObj shards)
{
    unsigned left = STEPS;
    r->used = r->words = r->distinct = 0;
    CAPSTAN_ROOTS(stack, shards);
    for (size_t i = 0; i < SHARDS; i++) rankTrie(stack, r, &left, rts_readMutVar(rts_getElem(shards, i)));
    CAPSTAN_UNROOT(stack);
}

/* The heap becomes a list in order: its first, the worst, goes to the end, time and again. */
static void sortRanking(Stack *stack, Ranking *r)
{
    unsigned left = STEPS;
    for (size_t n = r->used; n > 1; n--) {
        HaskellObj worst = rts_getElem(r->array, 0), last = rts_getElem(r->array, n - 1);
        r->cap = stack->cap;
        rts_setElem(r->cap, r->array, n - 1, worst);
        siftDown(r, 0, n - 1, last);
        step(stack, &left);
    }
}

CAPSTAN_IO(summarise, howMany)
{
    Ranking ranking = { .cap = stack->cap, .array = CAPSTAN_UNIT };
    HaskellObj shards = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, howMany, shards, ranking.array);
    howMany = rts_force(stack, howMany);
    shards = rts_force(stack, &wordMap_closure);
    rankWords(stack, &ranking, shards);
    int64_t n = rts_intValue(howMany);
    ranking.limit = n < 0 || (uint64_t)n > ranking.distinct ? ranking.distinct : (size_t)n;
    ranking.array = rts_mkArray(stack->cap, ranking.limit, CAPSTAN_UNIT);
    if (ranking.array == CAPSTAN_POISON) rts_raise(stack, &capstan_HeapOverflow_closure);
    rankWords(stack, &ranking, shards);
    sortRanking(stack, &ranking);
    CAPSTAN_UNROOT(stack);
    HaskellObj summary = Summary_new(stack->cap, smallInt(ranking.words), smallInt(ranking.distinct), ranking.array);
    if (summary == CAPSTAN_POISON) rts_raise(stack, &capstan_HeapOverflow_closure);
    return summary;
}

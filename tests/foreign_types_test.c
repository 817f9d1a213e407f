/* Calls in both directions through types made at random (foreign_types.awk): C's side is what the compiler makes of them, and every value must come
 * through bit by bit. */
#include "foreign.h"
#include "foreign_types.h"

uint64_t seenBits[MOST_ARGUMENTS], answerBits;
unsigned seenCount;
void *seenStable;

/* ---- Values ---- */

static uint64_t randomState;

static uint64_t randomBits(void)
{
    static const uint64_t special[] = { 0, 1, (uint64_t)-1, 0x7f, 0x80, 0x7fff, 0x8000, 0x7fffffff, 0x80000000, 0x7fffffffffffffff, 0x8000000000000000 };
    uint64_t high = nextRandom(&randomState), low = nextRandom(&randomState), kind = nextRandom(&randomState) % 8;
    return kind == 0 ? special[low % (sizeof special / sizeof *special)] : (high << 33) ^ (low << 7) ^ high;
}

/* No NaNs: a conversion may change theirs, and a variadic f is converted. */
static uint64_t bitsFor(char type)
{
    uint64_t bits = randomBits();
    if (type == 'f') bits &= ~UINT64_C(0x00800000);
    if (type == 'd') bits &= ~UINT64_C(0x0010000000000000);
    return canonical(type, bits);
}

typedef struct {
    char letters[MOST_ARGUMENTS];
    uint64_t bits[MOST_ARGUMENTS], result;
    unsigned count;
} Values;

static Values valuesFor(const char *type)
{
    Values v = { .count = 0 };
    for (const char *t = type + 1; *t != 0; t++)
        if (*t != '.') {
            v.letters[v.count] = *t;
            v.bits[v.count++] = bitsFor(*t);
        }
    v.result = bitsFor(type[0]);
    answerBits = v.result;
    seenCount = ~0u;
    memset(seenBits, 0x55, sizeof seenBits);
    return v;
}

static unsigned failures;
static void differ(const char *way, unsigned k, const char *what, uint64_t wanted, uint64_t found)
{
    if (failures++ < 20)
        print_message("%s, type %u \"%s\" of seed %u: %s: %016llx, and was %016llx\n", way, k, foreignTypes[k].type, foreignSeed, what,
                      (unsigned long long)wanted, (unsigned long long)found);
}

static void compare(const char *way, unsigned k, const Values *v, uint64_t result)
{
    if (seenCount != v->count) differ(way, k, "arguments", v->count, seenCount);
    for (unsigned i = 0; i < v->count; i++) {
        char what[32];
        snprintf(what, sizeof what, "argument %u", i + 1);
        if (seenBits[i] != v->bits[i]) differ(way, k, what, v->bits[i], seenBits[i]);
    }
    if (result != v->result) differ(way, k, "the result", v->result, result);
}

/* ---- Managed code calls C ---- */

static void callImport(unsigned k, RtsCallSafety how)
{
    const ForeignType *f = &foreignTypes[k];
    Values v = valuesFor(f->type);
    HaskellObj value;
    Capability *cap = rts_lock();
    HaskellObj call = rts_foreignImport(cap, f->callee, f->type, how);
    for (unsigned i = 0; i < v.count; i++) call = rts_apply(cap, call, madeOf(cap, v.letters[i], v.bits[i]));
    rts_evalIO(&cap, call, &value);
    if (rts_getSchedStatus(cap) == Success) compare("import", k, &v, bitsOf(f->type[0], value));
    else differ("import", k, "status", Success, rts_getSchedStatus(cap));
    rts_unlock(cap);
}
static void testImports(void **state)
{
    failures = 0;
    for (unsigned k = 0; k < foreignCount; k++)
        for (int how = RtsUnsafe; how <= RtsInterruptible; how++) callImport(k, (RtsCallSafety)how);
    assert_int_equal(failures, 0);
    assert_int_equal(heardOtherErrors(), 0);
}

/* ---- C calls managed code ---- */

static const char *wantedLetters;
/* Takes one argument after the other, notes it, and gives itself, until the world comes. */
CAPSTAN_EXTERN(collector);
CAPSTAN_FUN(collector, next)
{
    if (next == CAPSTAN_WORLD) return madeOf(stack->cap, wantedLetters[-1], answerBits);
    seenBits[seenCount] = bitsOf(wantedLetters[seenCount], next);
    seenCount++;
    return &collector_closure;
}
/* The same all at once. */
CAPSTAN_IO(collectFour, a, b, c, d)
{
    HaskellObj all[] = { a, b, c, d };
    for (; seenCount < 4; seenCount++) seenBits[seenCount] = bitsOf(wantedLetters[seenCount], all[seenCount]);
    return madeOf(stack->cap, wantedLetters[-1], answerBits);
}

/* A variadic f comes as the double that C has made of it: a managed double. */
static void promoteLetters(const char *type, char *letters)
{
    bool dot = false;
    for (; *type != 0; type++) {
        if (*type == '.') dot = true;
        else *letters++ = dot && *type == 'f' ? 'd' : *type;
    }
    *letters = 0;
}

static void callAdjustor(unsigned k)
{
    const ForeignType *f = &foreignTypes[k];
    char letters[MOST_ARGUMENTS + 2];
    Values v = valuesFor(f->type);
    void *code = adjustorFor(v.count == 4 ? &collectFour_closure : &collector_closure, NULL, f->type);
    if (code == NULL) {
        differ("adjustor", k, "made", 1, 0);
        return;
    }
    promoteLetters(f->type, letters);
    wantedLetters = letters + 1;
    seenCount = 0;
    uint64_t result = f->caller(code, v.bits);
    for (unsigned i = 0; i < v.count; i++)
        if (v.letters[i] == 'f' && wantedLetters[i] == 'd') v.bits[i] = of_d((double)as_f(v.bits[i]));
    compare("adjustor", k, &v, result);
    freeHaskellFunctionPtr(code);
}
static void testAdjustors(void **state)
{
    failures = 0;
    for (unsigned k = 0; k < foreignCount; k++) callAdjustor(k);
    assert_int_equal(failures, 0);
    assert_int_equal(heardOtherErrors(), 0);
    assert_int_equal(liveAdjustors(), 0);
}

/* ---- C calls C through an adjustor with a stub ---- */

static void callStub(unsigned k)
{
    const ForeignType *f = &foreignTypes[k];
    Values v = valuesFor(f->type);
    Capability *cap = rts_lock();
    HsStablePtr hptr = getStablePtr((StgPtr)&collector_closure);
    rts_unlock(cap);
    void *code = k % 2 == 0 ? createAdjustor(hptr, f->stub, (char *)f->type) : rts_createAdjustor(hptr, f->stub, f->type);
    seenStable = NULL;
    compare("stub", k, &v, f->caller(code, v.bits));
    if (seenStable != hptr) differ("stub", k, "the stable pointer", (uintptr_t)hptr, (uintptr_t)seenStable);
    freeHaskellFunctionPtr(code);
}
static void testStubs(void **state)
{
    failures = 0;
    for (unsigned k = 0; k < foreignCount; k++)
        if (foreignTypes[k].stub != NULL) callStub(k);
    assert_int_equal(failures, 0);
    assert_int_equal(heardOtherErrors(), 0);
}

/* What the types are worth as a test: all letters, registers used up, variadic ones. */
static void testCoverage(void **state)
{
    unsigned many = 0, variadic = 0, results[128] = { 0 };
    for (unsigned k = 0; k < foreignCount; k++) {
        many += strlen(foreignTypes[k].type) > 17;
        variadic += strchr(foreignTypes[k].type, '.') != NULL;
        results[(unsigned char)foreignTypes[k].type[0]]++;
    }
    assert_true(many > foreignCount / 40 && variadic > foreignCount / 20);
    for (const char *r = "vfdLlWwSsBbp"; *r != 0; r++) assert_true(results[(unsigned char)*r] > foreignCount / 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = { ONE(testCoverage), ONE(testImports), TWO(testImports), ONE(testAdjustors), TWO(testStubs) };
    randomState = foreignSeed;
    printf("%u types, seed %u\n", foreignCount, foreignSeed);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

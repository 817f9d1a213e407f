/*
 * The pool of machine stacks: what a slot looks like, that it is guarded by either means, that caches and the shared pool lose none and give none
 * twice, that memory goes back, and what happens when there is none, no address space, or no mapping left.
 */
#include "emulated.h"
#include "os/memory.h"
#include "os/os.h"
#include "stack_pool.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#if defined(CAPSTAN_ASAN) || defined(CAPSTAN_TSAN)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

static size_t scaled(size_t n)
{
    const char *scale = getenv("CAPSTAN_TEST_SCALE");
    return scale != NULL && strcmp(scale, "short") == 0 ? n / 10 : n;
}

/* ---- Slots held by a test ---- */

typedef struct {
    Stack **at;
    size_t count, room;
} Held;

static void hold(Held *held, Stack *stack)
{
    if (held->count == held->room) {
        held->room = held->room == 0 ? 64 : 2 * held->room;
        held->at = realloc(held->at, held->room * sizeof *held->at);
        if (held->at == NULL) abort();
    }
    held->at[held->count++] = stack;
}

/* Up to n; how many there were. */
static size_t takeMany(Held *held, StackCache *cache, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        Stack *stack = takeStack(cache);
        if (stack == NULL) return i;
        hold(held, stack);
    }
    return n;
}

static void putAll(Held *held, StackCache *cache)
{
    while (held->count > 0) putStack(cache, held->at[--held->count]);
    free(held->at);
    *held = (Held){ 0 };
}

static int compareStacks(const void *a, const void *b)
{
    const Stack *x = *(Stack *const *)a, *y = *(Stack *const *)b;
    return (x->lo > y->lo) - (x->lo < y->lo);
}

static size_t guardSize(void) { return STACK_GUARD > osPageSize() ? STACK_GUARD : osPageSize(); }

/* From the guard to the record's end, none overlaps another. */
static bool areDisjoint(Held *held)
{
    qsort(held->at, held->count, sizeof *held->at, compareStacks);
    for (size_t i = 1; i < held->count; i++)
        if ((uintptr_t)(held->at[i - 1] + 1) > held->at[i]->lo - guardSize()) return false;
    return true;
}

/* ---- Is it accessible?  The kernel says so without a signal. ---- */

static int pipeEnds[2];

static bool isReadable(uintptr_t address)
{
    char c;
    if (write(pipeEnds[1], (void *)address, 1) != 1) return false;
    return read(pipeEnds[0], &c, 1) == 1;
}

static bool isGuarded(const Stack *stack)
{
    for (uintptr_t p = stack->lo - guardSize(); p < stack->lo; p += osPageSize())
        if (isReadable(p)) return false;
    return !isReadable(stack->lo - 1) && isReadable(stack->lo);
}

/* Where a slot is, when its record has gone with its pages. */
typedef struct {
    uintptr_t lo, end;
} Place;

static Place placeOf(const Stack *stack)
{
    return (Place){ stack->lo, ((uintptr_t)(stack + 1) + osPageSize() - 1) & -(uintptr_t)osPageSize() };
}

/* Pages of a slot that are in memory. */
static size_t residentPages(Place place)
{
    size_t pages = (place.end - place.lo) / osPageSize(), n = 0;
    unsigned char *map = malloc(pages);
    assert_int_equal(mincore((void *)place.lo, place.end - place.lo, map), 0);
    for (size_t i = 0; i < pages; i++) n += map[i] & 1;
    free(map);
    return n;
}

/* ---- Runs check() in a child; 0, or the line of what was wrong there. ---- */

#define CHECK(e) do { if (!(e)) return __LINE__; } while (0)

static int inChild(int (*check)(void))
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct rlimit none = { 0, 0 };
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGSEGV, SIG_DFL);
        signal(SIGBUS, SIG_DFL);
        int line = check();
        _exit(line == 0 ? 0 : line % 199 + 1); /* a status has eight bits: good enough to find it */
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

/* ---- One slot ---- */

static void testSlot(void **state)
{
    StackCache cache = { 0 };
    Stack *s = takeStack(&cache);
    assert_non_null(s);
    assert_int_equal(stacksInUse(), 1);
    assert_true(stacksMade() >= 1);
    assert_int_equal(s->lo % osPageSize(), 0);
    assert_int_equal(s->hi % 64, 0);
    assert_int_equal(s->limit, s->lo + STACK_HEADROOM);
    assert_true(s->hi > s->limit && s->hi - s->lo >= MIN_STACK_SLOT - 2 * guardSize());
    assert_true((uintptr_t)s >= s->hi);
    assert_null(s->cap);
    assert_null(s->tso);
    assert_null(s->roots);
    assert_null(s->trap);
    assert_null(s->sp);
    assert_null(s->pendingFun);
    assert_int_equal(s->pendingCount, 0);
    assert_int_equal(s->poll, 0);
    assert_int_equal(s->mask, 0);
    assert_true(isGuarded(s));
    memset((void *)s->lo, 7, s->hi - s->lo);
    assert_int_equal(s->limit, s->lo + STACK_HEADROOM);
    putStack(&cache, s);
    assert_int_equal(stacksInUse(), 0);
    flushStackCache(&cache);
    assert_int_equal(stacksInUse(), 0);
}

/* A parked thread with small frames costs the page that its record is in. */
static void testTopPage(void **state)
{
    StackCache cache = { 0 };
    Held held = { 0 };
    assert_int_equal(takeMany(&held, &cache, 100), 100);
    size_t page = osPageSize();
    for (size_t i = 0; i < held.count; i++) {
        Stack *s = held.at[i];
        uintptr_t bottom = s->hi - FRAME_ROOM;
        assert_int_equal(bottom / page, ((uintptr_t)(s + 1) - 1) / page);
    }
    putAll(&held, &cache);
    flushStackCache(&cache);
}

/* What the last user left is gone, all but the frames; and a late poll does no harm to an idle slot, whether or not it has pages. */
static void testClean(void **state)
{
    StackCache cache = { 0 };
    Stack *s = takeStack(&cache);
    s->cap = (Capability *)s;
    s->tso = (StgTSO *)s;
    s->roots = (CapstanRoots *)s;
    s->trap = (TrapFrame *)s;
    s->limit = s->hi;
    s->mask = 2;
    s->pendingFun = (HaskellObj)s;
    s->pendingCount = 3;
    putStack(&cache, s);
    __atomic_store_n(&s->poll, 1, __ATOMIC_RELAXED);
    assert_ptr_equal(takeStack(&cache), s);
    assert_true(s->cap == NULL && s->tso == NULL && s->roots == NULL && s->trap == NULL && s->sp == NULL);
    assert_true(s->mask == 0 && s->poll == 0 && s->pendingFun == NULL && s->pendingCount == 0);
    assert_int_equal(s->limit, s->lo + STACK_HEADROOM);
    putStack(&cache, s);
    flushStackCache(&cache);
    trimStackPool();
    __atomic_store_n(&s->poll, 1, __ATOMIC_RELAXED);
    Held held = { 0 };
    takeMany(&held, &cache, stacksMade());
    for (size_t i = 0; i < held.count; i++) assert_int_equal(held.at[i]->poll, 0);
    putAll(&held, &cache);
    flushStackCache(&cache);
}

/* ---- Many ---- */

static void testManyAreDistinct(void **state)
{
    size_t n = scaled(20000);
    StackCache cache = { 0 };
    Held held = { 0 };
    assert_int_equal(takeMany(&held, &cache, n), n);
    assert_int_equal(stacksInUse(), n);
    assert_true(stacksMade() >= n);
    for (size_t i = 0; i < n; i++) {
        Stack *s = held.at[i];
        ((size_t *)s->hi)[-1] = i;
        *(char *)s->lo = 1;
    }
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(((size_t *)held.at[i]->hi)[-1], i);
        assert_true(isGuarded(held.at[i]));
    }
    assert_true(areDisjoint(&held));
    putAll(&held, &cache);
    assert_int_equal(stacksInUse(), 0);
    size_t made = stacksMade();
    assert_int_equal(takeMany(&held, &cache, made - STACK_BATCH), made - STACK_BATCH);
    assert_true(stacksMade() <= made); /* idle ones come before new ones */
    assert_true(areDisjoint(&held));
    putAll(&held, &cache);
    flushStackCache(&cache);
    assert_int_equal(stacksInUse(), 0);
}

static void testColours(void **state)
{
    enum { COUNT = 200 };
    StackCache cache = { 0 };
    Held held = { 0 };
    assert_int_equal(takeMany(&held, &cache, COUNT), COUNT);
    qsort(held.at, COUNT, sizeof *held.at, compareStacks);
    unsigned tops[64] = { 0 }, records[64] = { 0 }, pages[16] = { 0 }, topColours = 0, recordColours = 0, pageColours = 0;
    for (size_t i = 0; i < COUNT; i++) {
        Stack *s = held.at[i];
        if (i > 0 && s->lo - held.at[i - 1]->lo <= 2 * MIN_STACK_SLOT)
            assert_int_not_equal(s->hi / 64 % 64, held.at[i - 1]->hi / 64 % 64);
        topColours += tops[s->hi / 64 % 64]++ == 0;
        recordColours += records[(uintptr_t)s / 64 % 64]++ == 0;
        pageColours += pages[s->hi / osPageSize() % 16]++ == 0;
    }
    assert_true(topColours >= 16 && recordColours >= 16);
    assert_int_equal(pageColours, 16);
    for (size_t i = 0; i < 64; i++) assert_true(tops[i] <= COUNT / 8);
    for (size_t i = 0; i < 16; i++) assert_true(pages[i] <= COUNT / 8);
    putAll(&held, &cache);
    flushStackCache(&cache);
}

/* ---- Caches ---- */

static void testLastInFirstOut(void **state)
{
    StackCache cache = { 0 };
    Stack *a = takeStack(&cache), *b = takeStack(&cache), *c = takeStack(&cache);
    putStack(&cache, b);
    putStack(&cache, c);
    putStack(&cache, a);
    assert_ptr_equal(takeStack(&cache), a);
    assert_ptr_equal(takeStack(&cache), c);
    assert_ptr_equal(takeStack(&cache), b);
    putStack(&cache, a);
    putStack(&cache, b);
    putStack(&cache, c);
    flushStackCache(&cache);
    assert_null(cache.free);
    assert_int_equal(atomic_load(&cache.count), 0);
    flushStackCache(&cache); /* of an empty one: nothing */

    Stack *again = takeStack(&cache); /* the batch that came last */
    assert_ptr_equal(again, c);
    putStack(&cache, again);
    flushStackCache(&cache);
}

static void testSpillKeepsTheNewest(void **state)
{
    enum { COUNT = 5 * STACK_CACHE };
    StackCache from = { 0 }, to = { 0 };
    Held held = { 0 };
    assert_int_equal(takeMany(&held, &from, COUNT), COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        putStack(&to, held.at[i]); /* into a cache that none was taken from */
        assert_true(atomic_load(&to.count) <= STACK_CACHE);
        assert_int_equal(stacksInUse(), COUNT - 1 - i);
    }
    for (size_t i = 0; i < STACK_CACHE - STACK_BATCH; i++) assert_ptr_equal(takeStack(&to), held.at[COUNT - 1 - i]);
    for (size_t i = 0; i < STACK_CACHE - STACK_BATCH; i++) putStack(&to, held.at[COUNT - 1 - i]);
    free(held.at);
    flushStackCache(&to);
    flushStackCache(&from);
    assert_int_equal(stacksInUse(), 0);
}

/* Threads with a cache each take, mark, look, and put; some slots go through a shared place, so that they end elsewhere than they began. */
enum { THREADS = 4, PLACES = 64, MOST_HELD = 100 };
static _Atomic(Stack *) places[PLACES];
static _Atomic unsigned wrong;

static void *takeAndPut(void *seed)
{
    StackCache cache = { 0 };
    Stack *mine[MOST_HELD];
    size_t held = 0, rounds = scaled(200000);
    uint64_t random = (uintptr_t)seed;
    for (size_t i = 0; i < rounds; i++) {
        random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        unsigned pick = (unsigned)(random >> 33);
        if (held < MOST_HELD && pick % 2 == 0) {
            Stack *s = takeStack(&cache);
            if (s == NULL) { atomic_fetch_add(&wrong, 1); break; }
            ((uintptr_t *)s->hi)[-1] = (uintptr_t)s;
            mine[held++] = s;
        } else if (held > 0) {
            Stack *s = mine[--held];
            if (pick % 8 == 1) s = atomic_exchange(&places[pick / 8 % PLACES], s);
            if (s == NULL) continue;
            if (((uintptr_t *)s->hi)[-1] != (uintptr_t)s) atomic_fetch_add(&wrong, 1);
            ((uintptr_t *)s->hi)[-1] = 0;
            putStack(&cache, s);
        }
        if (pick % 10007 == 0) flushStackCache(&cache);
        if (pick % 20011 == 0) trimStackPool();
        if (pick % 5003 == 0) stacksInUse();
    }
    while (held > 0) putStack(&cache, mine[--held]);
    flushStackCache(&cache);
    return NULL;
}

static void testThreads(void **state)
{
    pthread_t thread[THREADS];
    size_t made = stacksMade();
    for (uintptr_t i = 0; i < THREADS; i++) assert_int_equal(pthread_create(&thread[i], NULL, takeAndPut, (void *)(i + 1)), 0);
    for (size_t i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
    assert_int_equal(atomic_load(&wrong), 0);
    StackCache cache = { 0 };
    for (size_t i = 0; i < PLACES; i++) {
        Stack *s = atomic_exchange(&places[i], NULL);
        if (s != NULL) putStack(&cache, s);
    }
    flushStackCache(&cache);
    assert_int_equal(stacksInUse(), 0);
    assert_true(stacksMade() <= made + THREADS * (MOST_HELD + STACK_CACHE) + PLACES + WARM_STACKS);
    Held held = { 0 };
    made = stacksMade();
    assert_int_equal(takeMany(&held, &cache, made), made);
    assert_true(areDisjoint(&held));
    putAll(&held, &cache);
    flushStackCache(&cache);
}

/* ---- Memory ---- */

static void testTrim(void **state)
{
    enum { COUNT = 300, DEEP = 64 * 1024 };
    StackCache cache = { 0 };
    Held held = { 0 };
    trimStackPool();
    assert_int_equal(takeMany(&held, &cache, COUNT), COUNT);
    for (size_t i = 0; i < COUNT; i++) memset((void *)(held.at[i]->hi - DEEP), 7, DEEP);
    Stack *kept = held.at[--held.count];
    Place idle[COUNT];
    size_t n = held.count, page = osPageSize();
    for (size_t i = 0; i < n; i++) idle[i] = placeOf(held.at[i]);
    size_t full = osResidentBytes();
    putAll(&held, &cache);
    flushStackCache(&cache);
    trimStackPool();
    if (!SANITIZED) assert_true(osResidentBytes() + n * DEEP / 2 <= full);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(residentPages(idle[i]), 0);
        assert_false(isReadable(idle[i].lo - 1)); /* guarded while idle as well */
    }
    assert_true(residentPages(placeOf(kept)) >= DEEP / page);
    assert_int_equal(((char *)kept->hi)[-1], 7);
    assert_true(isGuarded(kept));

    assert_int_equal(takeMany(&held, &cache, n), n);
    for (size_t i = 0; i < n; i++) {
        assert_true(isGuarded(held.at[i]));
        assert_int_equal(((char *)held.at[i]->hi)[-1], 0);
    }
    putAll(&held, &cache);
    putStack(&cache, kept);
    flushStackCache(&cache);
}

/* Without anybody's asking, no more than the high-water mark keeps its pages. */
static void testHighWater(void **state)
{
    enum { COUNT = 4 * WARM_STACKS };
    StackCache cache = { 0 };
    Held held = { 0 };
    assert_int_equal(takeMany(&held, &cache, COUNT), COUNT);
    Place *all = malloc(COUNT * sizeof *all);
    for (size_t i = 0; i < COUNT; i++) all[i] = placeOf(held.at[i]);
    putAll(&held, &cache);
    flushStackCache(&cache);
    size_t resident = 0;
    for (size_t i = 0; i < COUNT; i++) resident += residentPages(all[i]) > 0;
    free(all);
    assert_true(resident <= WARM_STACKS + COLD_STACKS);
    assert_true(resident >= WARM_STACKS / 2);
}

static void testResidentBytes(void **state)
{
    if (SANITIZED) skip();
    enum { FRAME = 600 };
    const char *asked = getenv("CAPSTAN_STACKS"); /* for people who want a million */
    size_t n = asked != NULL ? strtoul(asked, NULL, 10) : scaled(20000);
    StackCache cache = { 0 };
    Held held = { 0 };
    trimStackPool();
    size_t made = stacksMade(), before = osResidentBytes();
    uint64_t start = osMonotonicNanos();
    assert_int_equal(takeMany(&held, &cache, n), n);
    uint64_t taken = osMonotonicNanos();
    for (size_t i = 0; i < n; i++) memset((void *)(held.at[i]->hi - FRAME), 1, FRAME);
    size_t each = (osResidentBytes() - before - held.room * sizeof *held.at) / n;
    print_message("%zu stacks, %zu of them new, with a frame of %d bytes: %zu bytes resident each; taken in %u ns each\n", n,
                  stacksMade() - made, FRAME, each, (unsigned)((taken - start) / n));
    assert_true(each <= osPageSize() + 904);
    start = osMonotonicNanos();
    putAll(&held, &cache);
    flushStackCache(&cache);
    print_message("put back, and pages dropped, in %u ns each\n", (unsigned)((osMonotonicNanos() - start) / n));
}

/* ---- Guards ---- */

static Stack *victim;

static int touchGuard(void)
{
    *(volatile char *)(victim->lo - 1) = 1;
    return 0;
}
static int touchLowest(void)
{
    *(volatile char *)victim->lo = 1;
    return 0;
}
static int lookAtGuard(void)
{
    CHECK(isGuarded(victim));
    return 0;
}

static void testGuardKills(void **state)
{
    StackCache cache = { 0 };
    victim = takeStack(&cache);
    assert_int_equal(inChild(touchLowest), 0);
    assert_int_equal(inChild(lookAtGuard), 0); /* fork keeps it */
    if (!SANITIZED) assert_int_equal(inChild(touchGuard), -SIGSEGV);
    putStack(&cache, victim);
    flushStackCache(&cache);
}

/* The other kind.  In children: the mappings are gone for good. */
static int useMappings(void)
{
    StackCache cache = { 0 };
    Held held = { 0 };
    osGuardForceMapping = true;
    CHECK(!stackGuardsAreCheap());
    size_t made = stacksMade(), n = made + 200;
    CHECK(takeMany(&held, &cache, n) == n);
    CHECK(stacksMade() > made);
    for (size_t i = 0; i < n; i++) CHECK(isGuarded(held.at[i]));
    CHECK(areDisjoint(&held));
    putAll(&held, &cache);
    flushStackCache(&cache);
    trimStackPool();
    CHECK(takeMany(&held, &cache, n) == n);
    for (size_t i = 0; i < n; i++) CHECK(isGuarded(held.at[i]));
    CHECK(((char *)held.at[0]->hi)[-1] == 0);
    CHECK(stacksMade() < n + STACK_BATCH);
    return 0;
}

/* The pool stops before the host has no mappings left, and goes on with what comes back. */
static int reachMappingLimit(void)
{
    StackCache cache = { 0 };
    Held held = { 0 };
    osGuardForceMapping = true;
    size_t limit = osMappingLimit();
    CHECK(takeMany(&held, &cache, limit) < limit / 2);
    CHECK(takeStack(&cache) == NULL);
    size_t n = held.count;
    CHECK(stacksInUse() == n && stacksMade() == n);
    CHECK(2 * n >= limit / 2 && 2 * n <= limit - limit / 8 + 1);
    CHECK(areDisjoint(&held));
    for (size_t i = n - 100; i < n; i++) CHECK(isGuarded(held.at[i]));
    char *host = mmap(NULL, 2000 * osPageSize(), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (size_t i = 0; i < 2000; i += 2) CHECK(mprotect(host + i * osPageSize(), osPageSize(), PROT_NONE) == 0);
    putStack(&cache, held.at[--held.count]);
    CHECK(takeStack(&cache) != NULL);
    CHECK(takeStack(&cache) == NULL);
    return 0;
}

/* The host has used them up itself. */
static int runOutOfMappings(void)
{
    StackCache cache = { 0 };
    Held held = { 0 };
    size_t limit = osMappingLimit(), page = osPageSize(), bytes = 2 * limit * page;
    CHECK(takeMany(&held, &cache, stacksMade()) > 0);
    char *all = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(all != MAP_FAILED);
    size_t i = 0;
    while (mprotect(all + i * page, page, PROT_READ) == 0) i += 2;
    osGuardForceMapping = true;
    size_t before = held.count, got = takeMany(&held, &cache, limit);
    CHECK(got < 100);
    CHECK(takeStack(&cache) == NULL);
    CHECK(stacksInUse() == before + got);
    munmap(all, bytes);
    CHECK(takeMany(&held, &cache, 200) == 200);
    for (i = held.count - 200; i < held.count; i++) CHECK(isGuarded(held.at[i]));
    CHECK(areDisjoint(&held));
    return 0;
}

static void testMappings(void **state) { assert_int_equal(inChild(useMappings), 0); }

static void testMappingsRunOut(void **state)
{
    if (osMappingLimit() > 200000) skip(); /* a test of gigabytes */
    if (SANITIZED) skip();                 /* their own mappings run out */
    assert_int_equal(inChild(reachMappingLimit), 0);
    assert_int_equal(inChild(runOutOfMappings), 0);
}

/* ---- Refusals ---- */

static int runOutOfAddresses(void)
{
    StackCache cache = { 0 };
    Held held = { 0 };
    char statm[64] = { 0 };
    int fd = open("/proc/self/statm", O_RDONLY);
    CHECK(fd >= 0 && read(fd, statm, sizeof statm - 1) > 0);
    size_t now = strtoul(statm, NULL, 10) * osPageSize();
    struct rlimit old, tight;
    CHECK(getrlimit(RLIMIT_AS, &old) == 0);
    size_t made = stacksMade(), more = 100;
    tight = (struct rlimit){ now + more * 2 * MIN_STACK_SLOT, old.rlim_max };
    CHECK(setrlimit(RLIMIT_AS, &tight) == 0);
    size_t got = takeMany(&held, &cache, 1 << 20);
    CHECK(got < 1 << 20 && got >= made);
    CHECK(takeStack(&cache) == NULL);
    CHECK(stacksInUse() == got);
    CHECK(setrlimit(RLIMIT_AS, &old) == 0);
    CHECK(takeMany(&held, &cache, 100) == 100);
    CHECK(areDisjoint(&held));
    return 0;
}

static void testAddressSpace(void **state)
{
    if (SANITIZED) skip(); /* terabytes of shadow */
    SKIP_EMULATED(LIMITS_NO_ADDRESSES);
    assert_int_equal(inChild(runOutOfAddresses), 0);
}

/* Each call fails in turn, alone or with all that follow; what was had before stays, and all goes on afterwards. */
static void testInjectedFaults(void **state)
{
    StackCache cache = { 0 };
    Held held = { 0 };
    size_t made = stacksMade();
    assert_int_equal(takeMany(&held, &cache, made), made);
    for (long n = 1; n <= 60; n++) {
        osFailAllAfter(n);
        while (takeMany(&held, &cache, 1) == 1) continue;
        assert_true(osFailuresInjected() > 0);
        assert_null(takeStack(&cache));
        osFailAfter(0);
        assert_int_equal(stacksInUse(), held.count);
        osFailAfter(n);
        takeMany(&held, &cache, 100);
        osFailAfter(0);
        assert_int_equal(takeMany(&held, &cache, 1), 1);
        assert_int_equal(stacksInUse(), held.count);
    }
    assert_true(areDisjoint(&held));
    for (size_t i = 0; i < held.count; i += 10) assert_true(isGuarded(held.at[i]));
    errno = 0;
    osFailAllAfter(1);
    while (takeMany(&held, &cache, 1) == 1) continue;
    osFailAfter(0);
    assert_int_equal(errno, 0);
    putAll(&held, &cache);
    flushStackCache(&cache);
    assert_int_equal(stacksInUse(), 0);
}

/* ---- Sizes, forks ---- */

static void testSizes(void **state)
{
    StackCache cache = { 0 };
    Held held = { 0 };
    size_t big = (size_t)1 << 20, page = osPageSize();
    assert_int_equal(takeMany(&held, &cache, 40), 40);
    Stack *late = held.at[--held.count];
    uintptr_t lateLo = late->lo;
    putAll(&held, &cache);
    flushStackCache(&cache);

    initStackPool(big); /* what is idle is of no use any more, what is in use stays as it is */
    assert_int_equal(takeMany(&held, &cache, 40), 40);
    for (size_t i = 0; i < 40; i++) {
        Stack *s = held.at[i];
        assert_true(s->hi - s->lo >= big - guardSize() - page && s->hi - s->lo <= big + 2 * page);
        assert_true(isGuarded(s));
        memset((void *)s->lo, 3, s->hi - s->lo);
    }
    StackCache last = { 0 };
    putStack(&last, late);
    flushStackCache(&last);
    assert_int_equal(stacksInUse(), 40);
    size_t made = stacksMade();
    putAll(&held, &cache);
    flushStackCache(&cache);
    assert_int_equal(takeMany(&held, &cache, 40), 40);
    assert_int_equal(stacksMade(), made);
    assert_int_equal(takeMany(&held, &cache, 100), 100); /* and no other */
    for (size_t i = 0; i < held.count; i++) assert_true(held.at[i]->hi - held.at[i]->lo >= big - guardSize() - page);
    putAll(&held, &cache);
    flushStackCache(&cache);

    initStackPool(0); /* less than there may be: those of the beginning serve again */
    size_t n = 0, small = stacksMade() - 200;
    assert_int_equal(takeMany(&held, &cache, small), small);
    for (size_t i = 0; i < small; i++) {
        assert_true(held.at[i]->hi - held.at[i]->lo <= MIN_STACK_SLOT + 2 * page);
        n += held.at[i]->lo == lateLo;
    }
    assert_int_equal(n, 1);
    assert_true(areDisjoint(&held));
    putAll(&held, &cache);
    flushStackCache(&cache);
    assert_int_equal(stacksInUse(), 0);

    initStackPool(SIZE_MAX);
    Stack *s = takeStack(&cache);
    assert_true(s != NULL && s->hi - s->lo >= MAX_STACK_SLOT - guardSize() - page && isGuarded(s));
    putStack(&cache, s);
    flushStackCache(&cache);
    initStackPool(0);
    trimStackPool();
}

static StackCache parents;
static Stack *parentsStack;

static int useInChild(void)
{
    forgetStackPool();
    StackCache cache = { 0 };
    Held held = { 0 };
    hold(&held, parentsStack);
    if (parents.free != NULL) hold(&held, takeStack(&parents));
    CHECK(takeMany(&held, &cache, 300) == 300);
    CHECK(areDisjoint(&held));
    for (size_t i = 0; i < held.count; i++) CHECK(isGuarded(held.at[i]));
    CHECK(stacksInUse() >= held.count);
    putAll(&held, &cache);
    flushStackCache(&parents);
    flushStackCache(&cache);
    trimStackPool();
    CHECK(takeMany(&held, &cache, 300) == 300);
    return 0;
}

static void testFork(void **state)
{
    parentsStack = takeStack(&parents);
    assert_int_equal(inChild(useInChild), 0);
    putStack(&parents, parentsStack);
    flushStackCache(&parents);
}

static _Atomic bool stop;

static void *keepLocked(void *arg)
{
    StackCache cache = { 0 };
    Held held = { 0 };
    while (!atomic_load(&stop)) {
        takeMany(&held, &cache, 3 * STACK_CACHE);
        putAll(&held, &cache);
        flushStackCache(&cache);
        trimStackPool();
    }
    return NULL;
}

/* While another thread changes the pool; TSan and ASan cannot fork so. */
static void testForkAmongThreads(void **state)
{
    if (SANITIZED) skip();
    pthread_t thread;
    parentsStack = takeStack(&parents);
    assert_int_equal(pthread_create(&thread, NULL, keepLocked, NULL), 0);
    for (int i = 0; i < 40; i++) assert_int_equal(inChild(useInChild), 0);
    atomic_store(&stop, true);
    pthread_join(thread, NULL);
    putStack(&parents, parentsStack);
    flushStackCache(&parents);
    assert_int_equal(stacksInUse(), 0);
}

static int openPipe(void **state)
{
    return pipe(pipeEnds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(testSlot),
        cmocka_unit_test(testTopPage),
        cmocka_unit_test(testClean),
        cmocka_unit_test(testColours),
        cmocka_unit_test(testLastInFirstOut),
        cmocka_unit_test(testSpillKeepsTheNewest),
        cmocka_unit_test(testTrim),
        cmocka_unit_test(testHighWater),
        cmocka_unit_test(testGuardKills),
        cmocka_unit_test(testThreads),
        cmocka_unit_test(testInjectedFaults),
        cmocka_unit_test(testAddressSpace),
        cmocka_unit_test(testMappings),
        cmocka_unit_test(testMappingsRunOut),
        cmocka_unit_test(testFork),
        cmocka_unit_test(testForkAmongThreads),
        cmocka_unit_test(testManyAreDistinct),
        cmocka_unit_test(testResidentBytes),
        cmocka_unit_test(testSizes), /* last: others count on all that were made to be alike */
    };
    return cmocka_run_group_tests(tests, openPipe, NULL);
}

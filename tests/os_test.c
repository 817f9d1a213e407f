/* os_test.c: what os.h and memory.h promise; topology_test.c has the nodes. */
#include "os/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "emulated.h"
#include "os/memory.h"
#include "os/os.h"
#include "os/topology.h"

#define MIB ((size_t)1 << 20)
#define MILLISECOND UINT64_C(1000000)

/* Built a second time with this defined, and without jemalloc: a program that brings a part of the interface only. */
#ifdef OS_TEST_PARTIAL_JEMALLOC
__attribute__((visibility("default"))) void *mallocx(size_t size, int flags);
void *mallocx(size_t size, int flags) {
    abort();
}
#endif

/* ---------------------------------------------------------------- address space */

/* How a child ends that runs touch(p): the signal, or 0 when it lives. */
static int signalOfChild(void (*touch)(void *), void *p) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        struct rlimit noCore = {0, 0};
        setrlimit(RLIMIT_CORE, &noCore);
        touch(p);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status) ? -1 : 0;
}

/* Of a stack, too, whose red zones of AddressSanitizer are memory like any other. */
__attribute__((no_sanitize("address"))) static void readByte(void *p) {
    (void)*(volatile char *)p;
}

static void writeByte(void *p) {
    *(volatile char *)p = 1;
}

static void testReserve(void **state) {
    for (size_t align = 1; align <= 64 * MIB; align *= 2) {
        char *p = osReserve(3 * osPageSize(), align);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % align, 0);
        assert_int_equal((uintptr_t)p % osPageSize(), 0);
        osRelease(p, 3 * osPageSize());
    }
    size_t large = (size_t)(isEmulated() ? 4 : 16) << 30; /* more than there is memory: reserving charges none */
    char *p = osReserve(large, MIB);
    assert_non_null(p);
    assert_true(osCommit(p + large - osPageSize(), osPageSize()));
    p[large - 1] = 1;
    osRelease(p, large);
}

static void testReserveRefused(void **state) {
    errno = 0;
    assert_null(osReserve(0, 1));
    assert_null(osReserve(MIB, 3 * osPageSize()));
    assert_null(osReserve(SIZE_MAX, 1));
    assert_null(osReserve(SIZE_MAX - 2 * MIB, MIB));
    assert_null(osReserve(MIB, (size_t)1 << 63));
    assert_null(osReserve((size_t)1 << 62, 1));
    assert_int_equal(errno, 0);
}

static void testCommitAndDecommit(void **state) {
    size_t page = osPageSize();
    char *p = osReserve(4 * page, page);
    assert_int_equal(signalOfChild(readByte, p), SIGSEGV);
    assert_int_equal(signalOfChild(writeByte, p + page), SIGSEGV);
    assert_true(osCommit(p + page, 2 * page));
    assert_int_equal(signalOfChild(writeByte, p + page), 0);
    assert_int_equal(signalOfChild(writeByte, p), SIGSEGV);
    assert_int_equal(signalOfChild(writeByte, p + 3 * page), SIGSEGV);
    for (size_t i = page; i < 3 * page; i++) assert_int_equal(p[i], 0);

    memset(p + page, 7, 2 * page);
    assert_true(osCommit(p, 4 * page)); /* over what is committed: keeps it */
    assert_int_equal(p[page], 7);
    osDecommit(p + page, page);
    assert_int_equal(signalOfChild(readByte, p + page), SIGSEGV);
    assert_int_equal(p[2 * page], 7);
    assert_true(osCommit(p + page, page));
    for (size_t i = page; i < 2 * page; i++) assert_int_equal(p[i], 0);
    osRelease(p, 4 * page);
    assert_int_equal(signalOfChild(readByte, p), SIGSEGV);
}

static void testDecommitLocked(void **state) {
    size_t page = osPageSize();
    char *p = osReserve(2 * page, page);
    assert_true(osCommit(p, 2 * page));
    memset(p, 7, 2 * page);
    if (mlock(p, 2 * page) != 0) {
        osRelease(p, 2 * page);
        skip();
    }
    osDecommit(p, page);
    assert_int_equal(signalOfChild(readByte, p), SIGSEGV);
    assert_int_equal(p[page], 7);
    assert_true(osCommit(p, page));
    assert_int_equal(p[0], 0);
    osRelease(p, 2 * page);
}

static void testCommitRefused(void **state) {
    SKIP_EMULATED("mprotect accepts what is not mapped");
    size_t page = osPageSize();
    char *p = osReserve(2 * page, page);
    osRelease(p + page, page);
    errno = 0;
    assert_false(osCommit(p, 2 * page)); /* the second page is nobody's */
    assert_int_equal(errno, 0);
    osRelease(p, page);
}

static void testResidentBytes(void **state) {
    size_t bytes = 32 * MIB, slack = 4 * MIB, before = osResidentBytes();
    assert_true(before > 0);
    char *p = osReserve(bytes, MIB);
    assert_true(osCommit(p, bytes));
    memset(p, 1, bytes);
    size_t full = osResidentBytes();
    assert_true(full + slack >= before + bytes);
    assert_true(osPeakResidentBytes() + slack >= full);
    osDecommit(p, bytes);
    assert_true(osResidentBytes() + bytes <= full + slack);
    assert_true(osPeakResidentBytes() + slack >= full);
    osRelease(p, bytes);
}

/* ---------------------------------------------------------------- futexes */

static void testFutexTimeout(void **state) {
    _Atomic uint32_t word = 5;
    uint64_t start = osMonotonicNanos();
    osFutexWait(&word, 4, -1); /* another value: returns at once */
    osFutexWait(&word, 5, 0);
    assert_true(osMonotonicNanos() - start < 5000 * MILLISECOND);
    static const uint64_t waits[] = {1, 100000, 20 * MILLISECOND, 1100 * MILLISECOND};
    for (size_t i = 0; i < sizeof waits / sizeof waits[0]; i++) {
        start = osMonotonicNanos();
        osFutexWait(&word, 5, (int64_t)waits[i]);
        assert_true(osMonotonicNanos() - start >= waits[i]);
    }
    osFutexWake(&word, INT_MAX); /* nobody: nothing */
}

struct PingPong {
    _Atomic uint32_t turn;
    uint32_t rounds;
    unsigned total; /* written by whose turn it is */
};

static void playPingPong(struct PingPong *game, uint32_t parity) {
    for (;;) {
        uint32_t turn = atomic_load_explicit(&game->turn, memory_order_acquire);
        if (turn >= game->rounds) return;
        if (turn % 2 != parity) {
            osFutexWait(&game->turn, turn, -1);
            continue;
        }
        game->total++;
        atomic_store_explicit(&game->turn, turn + 1, memory_order_release);
        osFutexWake(&game->turn, 1);
    }
}

static void *playOdd(void *game) {
    playPingPong(game, 1);
    return NULL;
}

static void testFutexWake(void **state) {
    struct PingPong game = {.rounds = 5000};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, playOdd, &game), 0);
    playPingPong(&game, 0);
    pthread_join(thread, NULL);
    assert_int_equal(game.total, game.rounds);
}

struct Sleepers {
    _Atomic uint32_t gate, asleep, awake;
};

static void *sleepAtGate(void *context) {
    struct Sleepers *all = context;
    atomic_fetch_add(&all->asleep, 1);
    osFutexWait(&all->gate, 0, -1);
    atomic_fetch_add(&all->awake, 1);
    return NULL;
}

/* The gate's value never changes: only the wakes let threads through, and each at most as many as it says. */
static void testFutexWakeCounts(void **state) {
    enum { THREADS = 4 };
    struct Sleepers all = {0};
    pthread_t thread[THREADS];
    for (int i = 0; i < THREADS; i++) pthread_create(&thread[i], NULL, sleepAtGate, &all);
    while (atomic_load(&all.asleep) < THREADS) osSleepNanos(MILLISECOND);
    osSleepNanos(50 * MILLISECOND);
    assert_int_equal(atomic_load(&all.awake), 0);
    osFutexWake(&all.gate, 1);
    osSleepNanos(50 * MILLISECOND);
    assert_true(atomic_load(&all.awake) <= 1);
    while (atomic_load(&all.awake) < THREADS) { /* a thread may have come to its sleep late */
        osFutexWake(&all.gate, INT_MAX);
        osSleepNanos(MILLISECOND);
    }
    for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
}

/* ---------------------------------------------------------------- the one-sided barrier */

/* Store buffering: the light side has a compiler barrier (or a fence where membarrier is refused), the heavy side osMembarrier.
 * Not both may read the other's old value. */
struct Litmus {
    _Atomic uint32_t x __attribute__((aligned(128)));
    _Atomic uint32_t y __attribute__((aligned(128)));
    _Atomic uint32_t round __attribute__((aligned(128)));
    _Atomic uint32_t done __attribute__((aligned(128)));
    bool refused;
    uint32_t sawX; /* written before `done`, read after */
    uint32_t rounds;
};

/* Spins, so that both sides leave at the same instant; yields in case they share a processor. */
static void awaitRound(_Atomic uint32_t *word, uint32_t round) {
    for (unsigned spins = 0; atomic_load_explicit(word, memory_order_acquire) != round; spins++)
        if (spins % 4096 == 4095) osYieldThread();
}

static void *runLightSide(void *context) {
    struct Litmus *t = context;
    for (uint32_t i = 1; i <= t->rounds; i++) {
        awaitRound(&t->round, i);
        atomic_store_explicit(&t->y, i, memory_order_relaxed);
        if (t->refused)
            osMembarrier(); /* in this mode it is a fence of this thread */
        else
            atomic_signal_fence(memory_order_seq_cst);
        t->sawX = atomic_load_explicit(&t->x, memory_order_relaxed);
        atomic_store_explicit(&t->done, i, memory_order_release);
    }
    return NULL;
}

static void runLitmus(bool refused, uint32_t rounds) {
    struct Litmus t = {.refused = refused, .rounds = rounds};
    pthread_t light;
    assert_int_equal(pthread_create(&light, NULL, runLightSide, &t), 0);
    for (uint32_t i = 1; i <= rounds; i++) {
        atomic_store_explicit(&t.round, i, memory_order_release);
        for (volatile uint32_t delay = i % 64; delay > 0;) delay = delay - 1;
        atomic_store_explicit(&t.x, i, memory_order_relaxed);
        osMembarrier();
        uint32_t sawY = atomic_load_explicit(&t.y, memory_order_relaxed);
        awaitRound(&t.done, i);
        assert_true(sawY == i || t.sawX == i);
    }
    pthread_join(light, NULL);
}

static void testMembarrier(void **state) {
    osMembarrierForceRefused = true;
    assert_false(osMembarrierInit());
    runLitmus(true, 50000);
    osMembarrierForceRefused = false;
    errno = 0;
    bool registered = osMembarrierInit();
    assert_int_equal(registered, osMembarrierInit());
    assert_int_equal(errno, 0);
    runLitmus(!registered, 50000);
}

/* ---------------------------------------------------------------- threads and time */

static void assertStackHolds(const void *local) {
    uintptr_t lo = 0, hi = 0;
    for (int i = 0; i < 2; i++) { /* asked, then known */
        assert_true(osThreadStackBounds(&lo, &hi));
        assert_in_range((uintptr_t)local, lo, hi - 1);
    }
}

static void *checkStackOfThread(void *stack) {
    uintptr_t lo, hi;
    assertStackHolds(__builtin_frame_address(0));
    assert_true(osThreadStackBounds(&lo, &hi));
    if (stack) {
        assert_int_equal(lo, (uintptr_t)stack);
        assert_int_equal(hi, (uintptr_t)stack + MIB);
    }
    return NULL;
}

static void testStackBoundsOfThreads(void **state) {
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, checkStackOfThread, NULL), 0);
    pthread_join(thread, NULL);

    void *stack = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    assert_int_equal(pthread_attr_setstack(&attr, stack, MIB), 0);
    assert_int_equal(pthread_create(&thread, &attr, checkStackOfThread, stack), 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attr);
    munmap(stack, MIB);
}

static void testStackBoundsOfMainThread(void **state) {
    struct rlimit limit;
    uintptr_t lo, hi;
    assertStackHolds(__builtin_frame_address(0));
    assert_true(osThreadStackBounds(&lo, &hi));
    assert_int_equal(getrlimit(RLIMIT_STACK, &limit), 0);
    assert_true(hi - lo <= (limit.rlim_cur < (rlim_t)1 << 30 ? limit.rlim_cur : (rlim_t)1 << 30) + osPageSize());
    assert_true(hi - lo >= 64 * 1024);
}

/* In a child, whose thread is the main one and knows nothing yet: touches the far end of what it is told under a limit. */
static void touchLowestStack(void *limit) {
    uintptr_t lo, hi;
    struct rlimit set = {*(rlim_t *)limit, RLIM_INFINITY};
    getrlimit(RLIMIT_STACK, &(struct rlimit){0});
    if (setrlimit(RLIMIT_STACK, &set) != 0) _exit(0); /* not permitted: nothing to show */
    if (!osThreadStackBounds(&lo, &hi)) _exit(1);
    if (hi - lo > (size_t)1 << 30) _exit(1);
    for (char *p = (char *)(hi - osPageSize()); (uintptr_t)p >= lo; p -= 64 * 1024) readByte(p);
    readByte((char *)lo);
}

static void testStackGrowsAsFarAsToldUnder(void **state) {
    static rlim_t limits[] = {MIB, 8 * MIB, 32 * MIB, 1u << 30, RLIM_INFINITY};
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++)
        assert_int_equal(signalOfChild(touchLowestStack, &limits[i]), 0);
}

static void testTime(void **state) {
    uint64_t before = osMonotonicNanos();
    osSleepNanos(10 * MILLISECOND);
    assert_true(osMonotonicNanos() - before >= 10 * MILLISECOND);
    osSleepNanos(0);
    osYieldThread();
    assert_true(osThreadId() == (uint64_t)getpid());
    assert_true(osRandomSeed() != osRandomSeed());
    assert_true(osCurrentCpu() < (unsigned)sysconf(_SC_NPROCESSORS_CONF));
    assert_true(osPageSize() >= 4096);
}

static void ignoreSignal(int number) {
}

static void testSleepOutlastsSignals(void **state) {
    struct sigaction act = {.sa_handler = ignoreSignal}, old;
    sigaction(SIGALRM, &act, &old);
    uint64_t before = osMonotonicNanos();
    ualarm(5000, 5000);
    osSleepNanos(60 * MILLISECOND);
    ualarm(0, 0);
    assert_true(osMonotonicNanos() - before >= 60 * MILLISECOND);
    sigaction(SIGALRM, &old, NULL);
}

/* A cancellation that waits for its point finds none in here. */
static void *callEverythingCancelled(void *reached) {
    char err[64];
    uintptr_t lo, hi;
    _Atomic uint32_t word = 0;
    int ignored;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &ignored);
    pthread_cancel(pthread_self());
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &ignored);
    osSleepNanos(1000);
    osFutexWait(&word, 0, 1000);
    osThreadStackBounds(&lo, &hi);
    osAvailableProcessors();
    osResidentBytes();
    osPeakResidentBytes();
    osRandomSeed();
    osMembarrierInit();
    topologyInit(0, err, sizeof err);
    topologyDestroy();
    *(bool *)reached = true;
    return NULL;
}

static void testNoCancellationPoints(void **state) {
    bool reached = false;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, callEverythingCancelled, &reached), 0);
    pthread_join(thread, NULL);
    assert_true(reached);
}

/* ---------------------------------------------------------------- processors */

static void testProcessorsFollowAffinity(void **state) {
    cpu_set_t old, one;
    assert_true(osAvailableProcessors() >= 1);
    assert_int_equal(sched_getaffinity(0, sizeof old, &old), 0);
    assert_true(osAvailableProcessors() <= (unsigned)CPU_COUNT(&old));
    if (readCpuQuota("") == 0) assert_int_equal(osAvailableProcessors(), CPU_COUNT(&old));
    unsigned cpu = osCurrentCpu();
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(osAvailableProcessors(), 1);
    assert_int_equal(osCurrentCpu(), cpu);
    assert_int_equal(sched_setaffinity(0, sizeof old, &old), 0);
}

static void writeFile(const char *root, const char *path, const char *text) {
    char name[512];
    snprintf(name, sizeof name, "%s%s", root, path);
    for (char *slash = name + strlen(root); (slash = strchr(slash + 1, '/'));) {
        *slash = 0;
        mkdir(name, 0700);
        *slash = '/';
    }
    FILE *file = fopen(name, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void testQuotaOfCgroups(void **state) {
    char root[] = "./os_testXXXXXX", command[64];
    assert_non_null(mkdtemp(root));
    assert_int_equal(readCpuQuota(root), 0); /* no such files */
    writeFile(root, "/proc/self/mountinfo",
              "20 1 0:1 / / rw - ext4 /dev/root rw\n"
              "30 20 0:2 / /sys/fs/cgroup/cpuset rw shared:3 - cgroup cgroup rw,cpuset\n"
              "31 20 0:3 /pod /sys/fs/cgroup/cpu rw shared:4 master:5 - cgroup cgroup rw,cpu,cpuacct\n"
              "32 20 0:4 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n");
    writeFile(root, "/proc/self/cgroup", "3:cpuset:/pod/a\n2:cpuacct,cpu:/pod/a\n0::/x/y\n");
    assert_int_equal(readCpuQuota(root), 0); /* no quota anywhere */
    writeFile(root, "/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "-1\n");
    writeFile(root, "/sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n");
    writeFile(root, "/sys/fs/cgroup/unified/x/y/cpu.max", "max 100000\n");
    assert_int_equal(readCpuQuota(root), 0); /* unlimited */
    writeFile(root, "/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "650000\n");
    assert_int_equal(readCpuQuota(root), 7); /* rounded up */
    writeFile(root, "/sys/fs/cgroup/unified/x/cpu.max", "400000 100000\n");
    assert_int_equal(readCpuQuota(root), 4); /* a parent, in the other version */
    writeFile(root, "/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "10000\n");
    writeFile(root, "/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    assert_int_equal(readCpuQuota(root), 1); /* the top as it is seen here */
    writeFile(root, "/proc/self/cgroup", "2:cpu,cpuacct:/podium\n0::/../x/y\nnonsense\n");
    assert_int_equal(readCpuQuota(root), 0); /* groups outside of what is mounted */
    snprintf(command, sizeof command, "rm -r %s", root);
    assert_int_equal(system(command), 0);
}

static bool appendNumber(void *context, unsigned number) {
    char *text = context;
    snprintf(text + strlen(text), 8, "%u ", number);
    return strlen(text) < 60;
}

static void testCpuLists(void **state) {
    static const struct {
        const char *list, *numbers;
        bool good;
    } cases[] = {{"0-3,8,10-11\n", "0 1 2 3 8 10 11 ", true},
                 {"", "", true},
                 {"\n", "", true},
                 {"5", "5 ", true},
                 {"1,x", "1 ", false},
                 {"a", "", false},
                 {"0-99999999999999999999", "", false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char numbers[128] = "";
        assert_int_equal(forEachInCpuList(cases[i].list, appendNumber, numbers), cases[i].good);
        assert_string_equal(numbers, cases[i].numbers);
    }
}

static void testLargeCpuMasks(void **state) {
    struct CpuMask mask;
    assert_true(makeCpuMask(&mask, 5000));
    assert_true(roomOfCpuMask(&mask) >= 5000);
    static const unsigned some[] = {0, 63, 64, 1024, 4999};
    for (int i = 0; i < 5; i++) {
        assert_false(isInCpuMask(&mask, some[i]));
        addToCpuMask(&mask, some[i]);
        assert_true(isInCpuMask(&mask, some[i]));
    }
    assert_false(isInCpuMask(&mask, 1 << 20));
    freeCpuMask(&mask);
}

/* ---------------------------------------------------------------- memory and its failing */

static void testMalloc(void **state) {
    for (size_t size = 0; size < 100000; size = size * 3 + 1) {
        char *p = rtsMalloc(size), *q = rtsCalloc(size, 3), *r = rtsMallocNode(size, 0), *s = rtsMallocNode(size, 12345);
        assert_true(p && q && r && s && p != r);
        for (size_t i = 0; i < 3 * size; i++) assert_int_equal(q[i], 0);
        memset(p, 1, size);
        memset(q, 2, 3 * size);
        memset(r, 3, size);
        errno = 17;
        rtsFree(p);
        rtsFree(q);
        rtsFreeNode(r);
        rtsFreeNode(s);
        assert_int_equal(errno, 17);
    }
    rtsFree(NULL);
    rtsFreeNode(NULL);
}

static void testMallocRefused(void **state) {
    volatile size_t tooLarge = PTRDIFF_MAX; /* volatile: compilers know what malloc cannot give */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(__clang__)
    assert_null(rtsMalloc(tooLarge)); /* sanitizers would end the process here */
    assert_null(rtsMallocNode(tooLarge, 0));
    assert_int_equal(errno, ENOMEM);
#endif
    errno = 0;
    assert_null(rtsCalloc(tooLarge, 4));
    assert_int_equal(errno, ENOMEM);
}

static bool isSanitized(void) {
    return dlsym(RTLD_DEFAULT, "__asan_init") || dlsym(RTLD_DEFAULT, "__tsan_init");
}

static void testJemallocIsFound(void **state) {
    bool complete = dlsym(RTLD_DEFAULT, "mallocx") && dlsym(RTLD_DEFAULT, "dallocx") && dlsym(RTLD_DEFAULT, "mallctl");
    assert_int_equal(rtsMallocIsJemalloc(), complete && !isSanitized());
    print_message("rtsMalloc is %s\n", rtsMallocIsJemalloc() ? "jemalloc's" : "libc's");
}

static int callsThatFail(int calls, char *page) {
    int failed = 0;
    for (int i = 0; i < calls; i++) {
        void *p = NULL;
        bool fails = i % 4 == 0   ? !osCommit(page, osPageSize())
                     : i % 4 == 1 ? !(p = rtsMalloc(10))
                     : i % 4 == 2 ? !(p = rtsCalloc(1, 10))
                                  : !(p = rtsMallocNode(10, 0));
        failed += fails;
        rtsFree(p);
    }
    return failed;
}

struct Failing {
    char *page;
    _Atomic int failed;
};

static void *failInThread(void *context) {
    struct Failing *failing = context;
    failing->failed += callsThatFail(1000, failing->page);
    return NULL;
}

static int failInThreads(char *page) {
    enum { THREADS = 4 };
    struct Failing failing = {.page = page};
    pthread_t thread[THREADS];
    for (int i = 0; i < THREADS; i++) pthread_create(&thread[i], NULL, failInThread, &failing);
    for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
    return failing.failed;
}

static void testFaultInjection(void **state) {
    char *page = osReserve(osPageSize(), 1);
    for (long n = 1; n <= 8; n++) {
        osFailAfter(n);
        assert_int_equal(callsThatFail((int)n - 1, page), 0);
        assert_int_equal(osFailuresInjected(), 0);
        assert_int_equal(callsThatFail(1, page), 1);
        assert_int_equal(callsThatFail(20, page), 0);
        assert_int_equal(osFailuresInjected(), 1);
        osFailAllAfter(n);
        assert_int_equal(callsThatFail(20, page), 20 - (n - 1));
        assert_int_equal(osFailuresInjected(), 20 - (n - 1));
    }
    osFailAfter(4000); /* 4 threads make as many calls: the very last one fails */
    assert_int_equal(failInThreads(page), 1);
    osFailAfter(4001);
    assert_int_equal(failInThreads(page), 0);
    assert_int_equal(callsThatFail(1, page), 1);
    osFailAllAfter(1001);
    assert_int_equal(failInThreads(page), 3000);
    osFailAfter(-1);
    assert_int_equal(failInThreads(page), 0);
    osFailAllAfter(0);
    assert_int_equal(callsThatFail(20, page), 0);
    osRelease(page, osPageSize());
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(testReserve),
        cmocka_unit_test(testReserveRefused),
        cmocka_unit_test(testCommitAndDecommit),
        cmocka_unit_test(testDecommitLocked),
        cmocka_unit_test(testCommitRefused),
        cmocka_unit_test(testResidentBytes),
        cmocka_unit_test(testStackGrowsAsFarAsToldUnder), /* before anything is known of the main thread */
        cmocka_unit_test(testStackBoundsOfMainThread),
        cmocka_unit_test(testStackBoundsOfThreads),
        cmocka_unit_test(testFutexTimeout),
        cmocka_unit_test(testFutexWake),
        cmocka_unit_test(testFutexWakeCounts),
        cmocka_unit_test(testMembarrier),
        cmocka_unit_test(testTime),
        cmocka_unit_test(testSleepOutlastsSignals),
        cmocka_unit_test(testNoCancellationPoints),
        cmocka_unit_test(testProcessorsFollowAffinity),
        cmocka_unit_test(testQuotaOfCgroups),
        cmocka_unit_test(testCpuLists),
        cmocka_unit_test(testLargeCpuMasks),
        cmocka_unit_test(testMalloc),
        cmocka_unit_test(testMallocRefused),
        cmocka_unit_test(testJemallocIsFound),
        cmocka_unit_test(testFaultInjection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* thread.c: the calling thread, and time (os.h). */
#include "os/internal.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "os/os.h"

#define NANOS_PER_SECOND UINT64_C(1000000000)

static uint64_t nanosOf(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * NANOS_PER_SECOND + (uint64_t)now.tv_nsec;
}

uint64_t osMonotonicNanos(void) {
    return nanosOf(CLOCK_MONOTONIC);
}

uint64_t osProcessCpuNanos(void) {
    return nanosOf(CLOCK_PROCESS_CPUTIME_ID);
}

uint64_t osThreadCpuNanos(void) {
    return nanosOf(CLOCK_THREAD_CPUTIME_ID);
}

void osSleepNanos(uint64_t ns) {
    int error = errno;
    uint64_t end = osMonotonicNanos();
    end = ns > UINT64_MAX - end ? UINT64_MAX : end + ns;
    struct timespec until = {.tv_sec = (time_t)(end / NANOS_PER_SECOND), .tv_nsec = (long)(end % NANOS_PER_SECOND)};
    /* libc's clock_nanosleep is a cancellation point, the bare call is not. */
    while (syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) != 0 && errno == EINTR) continue;
    errno = error;
}

void osYieldThread(void) {
    sched_yield();
}

uint64_t osThreadId(void) {
    return (uint64_t)syscall(SYS_gettid);
}

bool osThreadLives(uint64_t id) {
    int error = errno;
    bool lives = syscall(SYS_tgkill, getpid(), (pid_t)id, 0) == 0 || errno != ESRCH;
    errno = error;
    return lives;
}

unsigned osCurrentCpu(void) {
    int error = errno, cpu = sched_getcpu();
    errno = error;
    return cpu < 0 ? 0 : (unsigned)cpu;
}

/* ---------------------------------------------------------------- stack bounds */

enum { UNLIMITED_STACK = 1 << 30, GUARD_GAP_PAGES = 256 };

/* What the calling thread found out. A thread's stack never moves, not even into a forked child; only the main thread's grows,
 * as far as the limit it was asked under. */
struct KnownStack {
    uintptr_t lo, hi;
    bool grows;
    rlim_t limit;
};
static _Thread_local struct KnownStack known; /* [owner: thread] */

static rlim_t readStackLimit(void) {
    struct rlimit limit;
    return getrlimit(RLIMIT_STACK, &limit) == 0 ? limit.rlim_cur : RLIM_INFINITY;
}

/* libc extends the main thread's stack down to the limit or to the next mapping. The kernel lets it grow no nearer to a mapping
 * than its guard gap (256 pages unless it was booted otherwise), and without a limit the distance to that mapping is no bound
 * that anybody meant. */
static void narrowGrowingStack(struct KnownStack *stack) {
    if (stack->limit == RLIM_INFINITY || stack->limit > UNLIMITED_STACK)
        if (stack->hi - stack->lo > UNLIMITED_STACK) stack->lo = stack->hi - UNLIMITED_STACK;
    if (stack->limit > stack->hi - stack->lo) { /* the mapping was nearer than the limit */
        uintptr_t gap = GUARD_GAP_PAGES * osPageSize();
        if (stack->lo + gap < (uintptr_t)__builtin_frame_address(0)) stack->lo += gap;
    }
}

static bool askForStack(struct KnownStack *stack) {
    pthread_attr_t attr;
    if (pthread_getattr_np(pthread_self(), &attr) != 0) return false;
    void *lo;
    size_t bytes;
    bool told = pthread_attr_getstack(&attr, &lo, &bytes) == 0;
    pthread_attr_destroy(&attr);
    if (!told) return false;
    *stack = (struct KnownStack){.lo = (uintptr_t)lo, .hi = (uintptr_t)lo + bytes};
    if (getpid() == (pid_t)osThreadId()) {
        stack->grows = true;
        stack->limit = readStackLimit();
        narrowGrowingStack(stack);
    }
    return true;
}

/* Whether asking the system again could tell more. */
static bool knowsStack(void) {
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    if (known.hi == 0) return false;
    if (here - known.lo < known.hi - known.lo || !known.grows) return true;
    return readStackLimit() == known.limit;
}

bool osThreadStackBounds(uintptr_t *lo, uintptr_t *hi) {
    if (!knowsStack()) {
        struct Quiet quiet = osBeginQuiet();
        bool told = askForStack(&known);
        osEndQuiet(quiet);
        if (!told) return false;
    }
    *lo = known.lo;
    *hi = known.hi;
    return true;
}

/* timekeeping.h: what the tests of the timekeeper share. Every function of its clients runs under its lock or on its thread, so they count in atomics and the tests
 * assert; asserting elsewhere than in the main thread would leave by longjmp. */
#ifndef TESTS_TIMEKEEPING_H
#define TESTS_TIMEKEEPING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "os/memory.h"
#include "os/os.h"
#include "os/poller.h"
#include "timekeeper.h"

#define MILLISECOND UINT64_C(1000000)
#define SECOND (1000 * MILLISECOND)
#define PATIENCE (30 * SECOND)

static inline bool isShort(void)
{
    const char *scale = getenv("CAPSTAN_TEST_SCALE");
    return scale && strcmp(scale, "short") == 0;
}

static inline uint32_t nextRandom(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*seed >> 33);
}

/* Whether a counter reaches a value in time. */
static inline bool reaches(_Atomic int *counter, int value)
{
    for (uint64_t end = osMonotonicNanos() + PATIENCE; atomic_load(counter) < value; osSleepNanos(MILLISECOND / 5))
        if (osMonotonicNanos() > end) return false;
    return true;
}

static _Atomic int onTickCalls;
static _Atomic int reasons;

/* Ticks go on as long as there are reasons; each tick deals with one. */
static inline bool onTick(void)
{
    atomic_fetch_add(&onTickCalls, 1);
    if (atomic_load(&reasons) == 0) return false;
    atomic_fetch_sub(&reasons, 1);
    return true;
}

static inline int start(void **state)
{
    onTickCalls = reasons = 0;
    osMembarrierInit();
    initTimekeeper(MILLISECOND, onTick);
    return 0;
}

static inline int stop(void **state)
{
    osFailAfter(0);
    stopTimekeeper();
    osMembarrierForceRefused = osPollerForceFallback = false;
    return 0;
}

/* ---------------------------------------------------------------- timers */

typedef struct {
    Timer timer;
    _Atomic int fired;
    uint64_t firedAt;
    int order;
} Alarm;

static _Atomic int fires;

static inline void noteFire(Timer *timer)
{
    Alarm *alarm = (Alarm *)timer;
    alarm->firedAt = osMonotonicNanos();
    alarm->order = atomic_load(&fires);
    atomic_fetch_add(&alarm->fired, 1);
    atomic_fetch_add(&fires, 1);
}

static inline Alarm *makeAlarms(int count)
{
    Alarm *alarms = calloc((size_t)count, sizeof *alarms);
    for (int i = 0; i < count; i++) alarms[i].timer.fire = noteFire;
    fires = 0;
    return alarms;
}

/* ---------------------------------------------------------------- races */

struct Race {
    int number, rounds;
    int fired, cancelled, neither, both;
};

static inline void runRace(void *(*body)(void *), int rounds, const char *what)
{
    enum { THREADS = 4 };
    pthread_t thread[THREADS];
    struct Race race[THREADS] = {{0}};
    int fired = 0, cancelled = 0;
    for (int i = 0; i < THREADS; i++) {
        race[i].number = i;
        race[i].rounds = isShort() ? rounds / 5 : rounds;
        assert_int_equal(pthread_create(&thread[i], NULL, body, &race[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(race[i].neither, 0);
        assert_int_equal(race[i].both, 0);
        fired += race[i].fired;
        cancelled += race[i].cancelled;
    }
    print_message("%s: %d ended by themselves, %d were cancelled\n", what, fired, cancelled);
    assert_true(fired > 0);
    assert_true(cancelled > 0);
}

/* ---------------------------------------------------------------- waits */

typedef struct {
    FdWait wait;
    _Atomic int ended;
    _Atomic int error;
} Watch;

static _Atomic int ends;

static inline void noteReady(FdWait *wait, int error)
{
    Watch *watch = (Watch *)wait;
    atomic_store(&watch->error, error);
    atomic_fetch_add(&watch->ended, 1);
    atomic_fetch_add(&ends, 1);
}

static inline int watch(Watch *watch, int fd, bool write)
{
    atomic_store(&watch->ended, 0);
    atomic_store(&watch->error, -1);
    watch->wait.ready = noteReady;
    return startFdWait(&watch->wait, fd, write);
}

static inline void makePair(int pair[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
}

static inline void closePair(int pair[2])
{
    closeFdWaits(pair[0]);
    closeFdWaits(pair[1]);
    close(pair[0]);
    close(pair[1]);
}

static inline bool staysAt(_Atomic int *counter, int value)
{
    osSleepNanos(20 * MILLISECOND);
    return atomic_load(counter) == value;
}

/* ---------------------------------------------------------------- the thread, as the system shows it */

static inline bool readTaskFile(const char *task, const char *file, char *text, size_t room)
{
    char path[300];
    snprintf(path, sizeof path, "/proc/self/task/%s/%s", task, file);
    FILE *f = fopen(path, "re");
    if (!f) return false;
    size_t got = fread(text, 1, room - 1, f);
    text[got] = 0;
    fclose(f);
    return true;
}

/* Puts a field of the timekeeper's status into value; false when there is no such thread. */
static inline bool readThreadStatus(const char *field, char *value, size_t room)
{
    DIR *tasks = opendir("/proc/self/task");
    struct dirent *task;
    bool found = false;
    while (!found && (task = readdir(tasks))) {
        char text[4096], *at;
        if (!readTaskFile(task->d_name, "comm", text, sizeof text) || strcmp(text, "capstan-time\n") != 0) continue;
        found = readTaskFile(task->d_name, "status", text, sizeof text) && (at = strstr(text, field));
        if (found) snprintf(value, room, "%.*s", (int)strcspn(at, "\n"), at);
    }
    closedir(tasks);
    return found;
}

static inline bool hasThread(void)
{
    char name[100];
    return readThreadStatus("Name:", name, sizeof name);
}

/* One that has just been joined may still be listed. */
static inline bool hasNoThread(void)
{
    for (uint64_t end = osMonotonicNanos() + PATIENCE; hasThread() && osMonotonicNanos() < end;) osSleepNanos(MILLISECOND);
    return !hasThread();
}

static inline long countSwitches(void)
{
    char text[100];
    /* A thread that was just made has no name yet. */
    for (uint64_t end = osMonotonicNanos() + PATIENCE; !readThreadStatus("voluntary_ctxt_switches:", text, sizeof text);)
        assert_true(osMonotonicNanos() < end);
    return strtol(strchr(text, ':') + 1, NULL, 10);
}

/* Not where it has been woken and waits for a processor. */
static inline bool isAsleep(void)
{
    char text[100];
    return readThreadStatus("State:", text, sizeof text) && strstr(text, "\tS") != NULL;
}

/* How often the thread wakes in a time, once it has fallen asleep. */
static inline long countSwitchesIn(uint64_t time)
{
    long before, after = countSwitches();
    do {
        before = after;
        osSleepNanos(50 * MILLISECOND);
        after = countSwitches();
    } while (after != before || !isAsleep());
    osSleepNanos(time);
    return countSwitches() - before;
}

/* ---------------------------------------------------------------- descriptors of the timekeeper's own */

/* The first descriptor from fd on whose file is of a kind, or -1. */
static inline int findOwnDescriptor(int fd, const char *kind)
{
    for (; fd < 256; fd++) {
        char path[40], target[100];
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(path, target, sizeof target - 1);
        if (length <= 0) continue;
        target[length] = 0;
        if (strstr(target, kind)) return fd;
    }
    return -1;
}

/* How many there are; -1 when one would survive execve. */
static inline int countDescriptors(const char *kind)
{
    int count = 0;
    for (int fd = -1; (fd = findOwnDescriptor(fd + 1, kind)) >= 0; count++)
        if (fcntl(fd, F_GETFD) != FD_CLOEXEC) return -1;
    return count;
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, start, stop)

#endif

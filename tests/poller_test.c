/* poller_test.c: what poller.h promises, and threads of our own (os.h); timekeeper_test.c has what is built on them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "emulated.h"
#include "os/memory.h"
#include "os/os.h"
#include "os/poller.h"

#define MILLISECOND UINT64_C(1000000)
#define SOON (osMonotonicNanos() + 20 * MILLISECOND)
#define LATE (osMonotonicNanos() + 10000 * MILLISECOND)

static OsPoller poller;
static OsPollEvent event[OS_POLL_EVENTS];

static int openPoller(void **state)
{
    return osOpenPoller(&poller) ? 0 : -1;
}

static int closePoller(void **state)
{
    osClosePoller(&poller);
    return 0;
}

/* ---------------------------------------------------------------- events */

static void testReadAndWrite(void **state)
{
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    assert_int_equal(osAddDescriptor(&poller, ends[0], OS_POLL_READ | OS_POLL_WRITE, 7), 0);
    assert_int_equal(osAddDescriptor(&poller, ends[0], OS_POLL_READ, 8), EEXIST);
    assert_int_equal(osAwaitEvents(&poller, event, LATE), 1);
    assert_int_equal(event[0].fd, ends[0]);
    assert_int_equal(event[0].tag, 7);
    assert_int_equal(event[0].ready, OS_POLL_WRITE);
    assert_int_equal(osAwaitEvents(&poller, event, SOON), 0); /* once only */

    assert_int_equal(write(ends[1], "x", 1), 1);
    assert_int_equal(osAwaitEvents(&poller, event, SOON), 0); /* disarmed in both directions */
    assert_int_equal(osRearmDescriptor(&poller, ends[0], OS_POLL_READ, UINT32_MAX), 0);
    assert_int_equal(osAwaitEvents(&poller, event, LATE), 1);
    assert_int_equal(event[0].tag, UINT32_MAX);
    assert_int_equal(event[0].ready, OS_POLL_READ);

    close(ends[1]);
    assert_int_equal(osRearmDescriptor(&poller, ends[0], OS_POLL_WRITE, 0), 0);
    assert_int_equal(osAwaitEvents(&poller, event, LATE), 1);
    assert_int_equal(event[0].ready, OS_POLL_READ | OS_POLL_WRITE); /* a hang-up is for both */
    osRemoveDescriptor(&poller, ends[0]);
    assert_int_equal(osRearmDescriptor(&poller, ends[0], OS_POLL_READ, 0), ENOENT);
    close(ends[0]);
}

static void testErrors(void **state)
{
    int plain = open(".", O_RDONLY);
    assert_true(plain >= 0);
    errno = 0;
    assert_int_equal(osAddDescriptor(&poller, -1, OS_POLL_READ, 0), EBADF);
    assert_int_equal(osAddDescriptor(&poller, 1 << 30, OS_POLL_READ, 0), EBADF);
    assert_int_equal(osRearmDescriptor(&poller, -1, OS_POLL_READ, 0), EBADF);
    assert_int_equal(osAddDescriptor(&poller, plain, OS_POLL_READ, 0), EPERM);
    assert_int_equal(osRearmDescriptor(&poller, plain, OS_POLL_READ, 0), EPERM);
    assert_int_equal(osRearmDescriptor(&poller, 0x7fffffff, OS_POLL_READ, 0), EBADF);
    osRemoveDescriptor(&poller, -1);
    osRemoveDescriptor(&poller, plain);
    osFailAfter(1);
    assert_int_equal(osAddDescriptor(&poller, plain, OS_POLL_READ, 0), ENOMEM);
    osFailAfter(0);
    assert_int_equal(errno, 0);
    close(plain);
}

static void testDeadlines(void **state)
{
    for (int i = 0; i < 20; i++) {
        uint64_t deadline = osMonotonicNanos() + (uint64_t)i * MILLISECOND / 4;
        while (osMonotonicNanos() < deadline) assert_int_equal(osAwaitEvents(&poller, event, deadline), 0);
    }
    assert_int_equal(osAwaitEvents(&poller, event, 0), 0); /* long past */
    osInterruptPoller(&poller);
    assert_int_equal(osAwaitEvents(&poller, event, UINT64_MAX), 0);
    osInterruptPoller(&poller);
    assert_int_equal(osAwaitEvents(&poller, event, UINT64_MAX - 1), 0);
}

static void testInterruptionsAreNotLost(void **state)
{
    for (int i = 0; i < 1000; i++) {
        osInterruptPoller(&poller);
        if (i % 3 == 0) osInterruptPoller(&poller);
        assert_int_equal(osAwaitEvents(&poller, event, UINT64_MAX), 0);
    }
    uint64_t before = osMonotonicNanos();
    assert_int_equal(osAwaitEvents(&poller, event, before + 20 * MILLISECOND), 0);
    assert_true(osMonotonicNanos() - before >= 20 * MILLISECOND); /* several counted as one */
}

static void testTooManyEventsForOneSleep(void **state)
{
    enum { PIPES = OS_POLL_EVENTS + 10 };
    int ends[PIPES][2];
    bool seen[PIPES] = {false};
    for (int i = 0; i < PIPES; i++) {
        assert_int_equal(pipe(ends[i]), 0);
        assert_int_equal(osAddDescriptor(&poller, ends[i][1], OS_POLL_WRITE, (uint32_t)i), 0);
    }
    int total = 0, got;
    while ((got = osAwaitEvents(&poller, event, SOON)) > 0) {
        for (int i = 0; i < got; i++) {
            assert_false(seen[event[i].tag]);
            seen[event[i].tag] = true;
        }
        total += got;
    }
    assert_int_equal(total, PIPES);
    for (int i = 0; i < PIPES; i++) close(ends[i][0]), close(ends[i][1]);
}

static void testWithoutPwait2(void **state)
{
    osPollerForceFallback = true;
    testReadAndWrite(state);
    testDeadlines(state);
    testInterruptionsAreNotLost(state);
    testTooManyEventsForOneSleep(state);
    osPollerForceFallback = false;
}

static void testClosedByOthers(void **state)
{
    OsPoller own;
    assert_true(osOpenPoller(&own));
    OsPoller copy = own;
    close(own.set);
    assert_int_equal(osAwaitEvents(&copy, event, UINT64_MAX), -1);
    osClosePoller(&own);
}

static void testNoDescriptorsLeft(void **state)
{
    struct rlimit before, none = {0, 0};
    OsPoller other;
    getrlimit(RLIMIT_NOFILE, &before);
    none.rlim_max = before.rlim_max;
    errno = 0;
    for (rlim_t room = 3; room <= 4; room++) { /* none, then one too few */
        none.rlim_cur = (rlim_t)poller.wake + room - 2;
        setrlimit(RLIMIT_NOFILE, &none);
        assert_false(osOpenPoller(&other));
        assert_int_equal(other.set, -1);
        assert_int_equal(other.wake, -1);
    }
    setrlimit(RLIMIT_NOFILE, &before);
    osFailAfter(1);
    assert_false(osOpenPoller(&other));
    osFailAfter(0);
    assert_int_equal(errno, 0);
    assert_true(osOpenPoller(&other));
    assert_int_equal(fcntl(other.set, F_GETFD), FD_CLOEXEC);
    assert_int_equal(fcntl(other.wake, F_GETFD), FD_CLOEXEC);
    osClosePoller(&other);
}

/* ---------------------------------------------------------------- threads */

static _Thread_local volatile char manyLocals[512 * 1024];

struct Seen {
    char name[32];
    bool blocked, faultsOpen;
    size_t stackRoom;
    char *room;
};

static void lookAround(void *context)
{
    struct Seen *seen = context;
    sigset_t mask;
    pthread_getname_np(pthread_self(), seen->name, sizeof seen->name);
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    seen->blocked = sigismember(&mask, SIGTERM) && sigismember(&mask, SIGPROF) &&
                    (sigismember(&mask, SIGRTMAX) || isEmulated()); /* the emulator keeps the last one for itself */
    seen->faultsOpen = !sigismember(&mask, SIGSEGV) && !sigismember(&mask, SIGTRAP);
    manyLocals[sizeof manyLocals - 1] = 1;
    uintptr_t lo, hi;
    if (osThreadStackBounds(&lo, &hi)) seen->stackRoom = (uintptr_t)__builtin_frame_address(0) - lo;
}

static void testThread(void **state)
{
    struct Seen seen = {.stackRoom = 0};
    sigset_t before, after;
    OsThread thread;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    errno = 0;
    assert_true(osStartThread(&thread, "a name that is too long", 200 * 1024, lookAround, &seen));
    osJoinThread(thread);
    assert_int_equal(errno, 0);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    assert_int_equal(sigismember(&after, SIGTERM), sigismember(&before, SIGTERM));
    assert_string_equal(seen.name, "a name that is ");
    assert_true(seen.blocked);
    assert_true(seen.faultsOpen);
    assert_true(seen.stackRoom >= 200 * 1024);
    assert_true(seen.stackRoom < 8 * 1024 * 1024);
}

static void testThreadRefused(void **state)
{
    struct Seen seen;
    OsThread thread;
    errno = 0;
    osFailAfter(1);
    assert_false(osStartThread(&thread, "no", 1, lookAround, &seen));
    osFailAfter(0);
    assert_false(osStartThread(&thread, "no", (size_t)1 << 50, lookAround, &seen)); /* no address space for its stack */
    assert_int_equal(errno, 0);
}

/* Whoever is about to be cancelled gets through all of it. */
static void *useEverything(void *done)
{
    OsThread thread;
    OsPoller own;
    struct Seen seen;
    int ends[2] = {-1, -1};
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    if (pipe(ends) != 0) return NULL;
    pthread_cancel(pthread_self());
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
    if (osStartThread(&thread, "x", 1 << 16, lookAround, &seen)) osJoinThread(thread);
    if (osOpenPoller(&own)) {
        osInterruptPoller(&own);
        osAwaitEvents(&own, event, 0);
        osPollerForceFallback = true;
        osAwaitEvents(&own, event, 0);
        osPollerForceFallback = false;
        osAddDescriptor(&own, ends[0], OS_POLL_READ, 0);
        osRearmDescriptor(&own, ends[0], OS_POLL_READ, 0);
        osRemoveDescriptor(&own, ends[0]);
        osClosePoller(&own);
    }
    *(bool *)done = true;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    close(ends[0]);
    close(ends[1]);
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
    pthread_testcancel();
    return NULL;
}

static void testNoCancellationPoints(void **state)
{
    bool done = false;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, useEverything, &done), 0);
    void *result;
    pthread_join(thread, &result);
    assert_true(done);
    assert_ptr_equal(result, PTHREAD_CANCELED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(testReadAndWrite, openPoller, closePoller),
        cmocka_unit_test_setup_teardown(testErrors, openPoller, closePoller),
        cmocka_unit_test_setup_teardown(testDeadlines, openPoller, closePoller),
        cmocka_unit_test_setup_teardown(testInterruptionsAreNotLost, openPoller, closePoller),
        cmocka_unit_test_setup_teardown(testTooManyEventsForOneSleep, openPoller, closePoller),
        cmocka_unit_test_setup_teardown(testWithoutPwait2, openPoller, closePoller),
        cmocka_unit_test(testClosedByOthers),
        cmocka_unit_test_setup_teardown(testNoDescriptorsLeft, openPoller, closePoller),
        cmocka_unit_test(testThread),
        cmocka_unit_test(testThreadRefused),
        cmocka_unit_test(testNoCancellationPoints),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

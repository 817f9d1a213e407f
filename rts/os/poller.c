/* poller.c: epoll, and an eventfd in it for interruptions (poller.h).
 *
 * By direct system calls where libc's functions are cancellation points. The eventfd is reported at each write (edge-triggered),
 * so that nobody has to read it.
 */
#include "os/internal.h"

#include "os/poller.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "os/os.h"

#define NANOS_PER_SECOND UINT64_C(1000000000)
#define INTERRUPTION UINT64_MAX

enum { KERNEL_SIGSET_BYTES = 8 };

bool osPollerForceFallback;
static _Atomic bool lacksPwait2; /* [atomic] relaxed: a thing to remember, nothing hangs from it */

/* ---------------------------------------------------------------- making one */

static bool registerWake(OsPoller *poller) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = INTERRUPTION};
    return epoll_ctl(poller->set, EPOLL_CTL_ADD, poller->wake, &event) == 0;
}

bool osOpenPoller(OsPoller *poller) {
    int error = errno;
    *poller = (OsPoller){.set = epoll_create1(EPOLL_CLOEXEC), .wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    bool done = !osShouldFail() && poller->set >= 0 && poller->wake >= 0 && registerWake(poller);
    if (!done) osClosePoller(poller);
    errno = error;
    return done;
}

void osClosePoller(OsPoller *poller) {
    int error = errno;
    if (poller->set >= 0) syscall(SYS_close, poller->set);
    if (poller->wake >= 0) syscall(SYS_close, poller->wake);
    *poller = (OsPoller){.set = -1, .wake = -1};
    errno = error;
}

/* ---------------------------------------------------------------- descriptors */

static int control(OsPoller *poller, int operation, int fd, unsigned want, uint32_t tag) {
    int before = errno;
    struct epoll_event event = {.events = EPOLLONESHOT, .data.u64 = (uint64_t)tag << 32 | (uint32_t)fd};
    if (want & OS_POLL_READ) event.events |= EPOLLIN;
    if (want & OS_POLL_WRITE) event.events |= EPOLLOUT;
    int error = epoll_ctl(poller->set, operation, fd, &event) == 0 ? 0 : errno;
    errno = before;
    return error;
}

int osAddDescriptor(OsPoller *poller, int fd, unsigned want, uint32_t tag) {
    return osShouldFail() ? ENOMEM : control(poller, EPOLL_CTL_ADD, fd, want, tag);
}

int osRearmDescriptor(OsPoller *poller, int fd, unsigned want, uint32_t tag) {
    return control(poller, EPOLL_CTL_MOD, fd, want, tag);
}

void osRemoveDescriptor(OsPoller *poller, int fd) {
    control(poller, EPOLL_CTL_DEL, fd, 0, 0);
}

/* ---------------------------------------------------------------- sleeping */

void osInterruptPoller(OsPoller *poller) {
    int error = errno;
    uint64_t one = 1;
    syscall(SYS_write, poller->wake, &one, sizeof one);
    errno = error;
}

/* The time until a deadline, as a pointer that is null for ever. */
static struct timespec *findTimeout(uint64_t deadline, struct timespec *timeout) {
    if (deadline == UINT64_MAX) return NULL;
    uint64_t now = osMonotonicNanos(), left = deadline > now ? deadline - now : 0;
    *timeout = (struct timespec){.tv_sec = (time_t)(left / NANOS_PER_SECOND), .tv_nsec = (long)(left % NANOS_PER_SECOND)};
    return timeout;
}

/* A set of events can itself be waited for, with nanoseconds; then there is something to fetch or nothing. */
static int awaitInTwoSteps(OsPoller *poller, struct epoll_event *found, struct timespec *timeout) {
    struct pollfd set = {.fd = poller->set, .events = POLLIN};
    long ready = syscall(SYS_ppoll, &set, 1, timeout, NULL, KERNEL_SIGSET_BYTES);
    if (ready <= 0) return (int)ready;
    return (int)syscall(SYS_epoll_pwait, poller->set, found, OS_POLL_EVENTS, 0, NULL, KERNEL_SIGSET_BYTES);
}

static int await(OsPoller *poller, struct epoll_event *found, struct timespec *timeout) {
#ifdef SYS_epoll_pwait2
    if (!osPollerForceFallback && !atomic_load_explicit(&lacksPwait2, memory_order_relaxed)) {
        long count = syscall(SYS_epoll_pwait2, poller->set, found, OS_POLL_EVENTS, timeout, NULL, KERNEL_SIGSET_BYTES);
        /* EPERM: filters of system calls give it for what they do not know. */
        if (count >= 0 || (errno != ENOSYS && errno != EPERM)) return (int)count;
        atomic_store_explicit(&lacksPwait2, true, memory_order_relaxed);
    }
#endif
    return awaitInTwoSteps(poller, found, timeout);
}

static unsigned findReady(uint32_t events) {
    if (events & (EPOLLERR | EPOLLHUP)) return OS_POLL_READ | OS_POLL_WRITE;
    return (events & EPOLLIN ? OS_POLL_READ : 0u) | (events & EPOLLOUT ? OS_POLL_WRITE : 0u);
}

int osAwaitEvents(OsPoller *poller, OsPollEvent event[OS_POLL_EVENTS], uint64_t deadline) {
    int error = errno;
    struct epoll_event found[OS_POLL_EVENTS];
    struct timespec timeout;
    int count = await(poller, found, findTimeout(deadline, &timeout)), events = 0;
    if (count < 0) events = errno == EINTR ? 0 : -1;
    for (int i = 0; i < count; i++) {
        uint64_t data = found[i].data.u64;
        if (data == INTERRUPTION) continue;
        event[events++] = (OsPollEvent){(int)(uint32_t)data, (uint32_t)(data >> 32), findReady(found[i].events)};
    }
    errno = error;
    return events;
}

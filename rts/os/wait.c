/* wait.c: futexes and the one-sided barrier (os.h), by direct system calls: libc has no names for them. */
#include "os/internal.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "os/os.h"

/* The call takes two longs, which is what struct timespec is on every machine with 64 bits. */
_Static_assert(sizeof(struct timespec) == 2 * sizeof(long), "futex needs the kernel's timespec");

void osFutexWait(_Atomic uint32_t *word, uint32_t expected, int64_t timeout_ns) {
    int error = errno;
    struct timespec timeout = {.tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000};
    /* Ends by a wake, another value, the time, or a signal: the caller looks again in each case. */
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, timeout_ns < 0 ? NULL : &timeout, NULL, 0);
    errno = error;
}

void osFutexWake(_Atomic uint32_t *word, int count) {
    int error = errno;
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
    errno = error;
}

/* ---------------------------------------------------------------- membarrier */

bool osMembarrierForceRefused;
static _Atomic bool membarrierRegistered; /* [atomic] relaxed: set before threads of ours exist */

/* A full barrier of the calling thread. TSan knows no fences, and gcc rejects them under it: an exchange does the same there. */
static void fenceFully(void) {
#ifdef __SANITIZE_THREAD__
    static _Atomic int anything;
    atomic_exchange_explicit(&anything, 0, memory_order_seq_cst);
#else
    atomic_thread_fence(memory_order_seq_cst);
#endif
}

static bool registerMembarrier(void) {
    long commands = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
    return commands >= 0 && (commands & MEMBARRIER_CMD_PRIVATE_EXPEDITED) &&
           syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0 &&
           /* Emulators are known to accept what they do not do: only the call itself counts. */
           syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0;
}

bool osMembarrierInit(void) {
    int error = errno;
    bool registered = !osMembarrierForceRefused && registerMembarrier();
    atomic_store_explicit(&membarrierRegistered, registered, memory_order_relaxed);
    errno = error;
    return registered;
}

bool osMembarrierWorks(void) {
    return atomic_load_explicit(&membarrierRegistered, memory_order_relaxed);
}

void osMembarrier(void) {
    fenceFully();
    if (!osMembarrierWorks()) return;
    int error = errno;
    syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
    errno = error;
}

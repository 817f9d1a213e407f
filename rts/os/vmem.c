/* vmem.c: address space by mmap, mprotect and madvise (os.h). */
#include "os/internal.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "os/os.h"

/* Newer than some libcs' headers. */
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif
#ifndef PIDFD_SELF_THREAD
#define PIDFD_SELF_THREAD (-10000)
#endif

enum { RESERVED = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, GUARD_ROW = 16 };

size_t osPageSize(void) {
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* Unmaps what lies outside [want, want + bytes) of a larger mapping. */
static void trimMapping(char *p, size_t whole, char *want, size_t bytes) {
    size_t before = (size_t)(want - p), after = whole - before - bytes;
    if (before) munmap(p, before);
    if (after) munmap(want + bytes, after);
}

void *osReserve(size_t bytes, size_t align) {
    size_t page = osPageSize();
    if (align & (align - 1)) return NULL;
    if (align < page) align = page;
    if (bytes == 0 || bytes > SIZE_MAX - page - align) return NULL;
    bytes = (bytes + page - 1) & ~(page - 1);

    /* A page of any mapping is aligned to a page: only the rest of the alignment has to be mapped too. */
    size_t whole = bytes + align - page;
    int error = errno;
    char *p = mmap(NULL, whole, PROT_NONE, RESERVED, -1, 0);
    if (p == MAP_FAILED) {
        errno = error;
        return NULL;
    }
    size_t skip = -(uintptr_t)p & (align - 1);
    trimMapping(p, whole, p + skip, bytes);
    errno = error;
    return p + skip;
}

bool osCommit(void *p, size_t bytes) {
    if (osShouldFail()) return false;
    int error = errno;
    bool done = mprotect(p, bytes, PROT_READ | PROT_WRITE) == 0;
    errno = error;
    return done;
}

void osDecommit(void *p, size_t bytes) {
    int error = errno;
    /* Pages that the host locked (mlockall) refuse the advice; mapping anew drops those too, but loses a node preference.
     * Not done always, because the preference is to outlive the contents. */
    if (madvise(p, bytes, MADV_DONTNEED) == 0)
        mprotect(p, bytes, PROT_NONE);
    else if (errno == EINVAL)
        mmap(p, bytes, PROT_NONE, RESERVED | MAP_FIXED, -1, 0);
    errno = error;
}

void osRelease(void *p, size_t bytes) {
    int error = errno;
    size_t page = osPageSize();
    munmap(p, (bytes + page - 1) & ~(page - 1));
    errno = error;
}

/* Two requests, because the second is newer than the first and the only one for pages that the host locked. */
void osDiscard(void *p, size_t bytes) {
    int error = errno;
    if (madvise(p, bytes, MADV_DONTNEED) != 0) madvise(p, bytes, MADV_DONTNEED_LOCKED);
    errno = error;
}

/* ---------------------------------------------------------------- stacks and guards */

void osPrepareStacks(void *p, size_t bytes) {
    int error = errno;
    madvise(p, bytes, MADV_NOHUGEPAGE); /* fails where the kernel has none: just as well */
    munlock(p, bytes);
    errno = error;
}

enum { USUAL_MAPPING_LIMIT = 65530 };

size_t osMappingLimit(void) {
    char text[32];
    unsigned long limit = osReadFile("/proc/sys/vm/max_map_count", text, sizeof text) > 0 ? strtoul(text, NULL, 10) : 0;
    return limit > 0 ? limit : USUAL_MAPPING_LIMIT;
}

bool osGuardForceMapping;

enum { GUARDS_UNTRIED, GUARDS_BY_MAPPING, GUARDS_IN_PLACE, GUARDS_IN_ROWS };
static _Atomic int guardKind; /* [atomic] relaxed: whoever tries finds the same */

/* A wait for the wrong value is over at once, and reads the word first: the kernel tells what a touch would do, at the price of
 * neither a signal nor a descriptor. */
static bool canRead(void *word) {
    return syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0) == 0 || errno != EFAULT;
}

static bool tryGuard(void *page, size_t bytes) {
    return canRead(page) && madvise(page, bytes, MADV_GUARD_INSTALL) == 0 && !canRead(page) &&
           madvise(page, bytes, MADV_DONTNEED) == 0 && !canRead(page);
}

/* Several guards by one call, a third off the price of each; how many were installed. */
static size_t installRow(char *first, size_t bytes, size_t stride, size_t count) {
    struct iovec range[GUARD_ROW];
    if (count > GUARD_ROW) count = GUARD_ROW;
    for (size_t i = 0; i < count; i++) range[i] = (struct iovec){first + i * stride, bytes};
    long advised = syscall(SYS_process_madvise, PIDFD_SELF_THREAD, range, count, MADV_GUARD_INSTALL, 0);
    return advised > 0 ? (size_t)advised / bytes : 0;
}

static bool saysUnfiltered(void *context, char *line) {
    unsigned mode;
    if (sscanf(line, "Seccomp: %u", &mode) != 1) return false;
    *(bool *)context = mode == 0;
    return true;
}

/* A filter that does not know the newer call may well kill the process. */
static bool tryRow(char *page, size_t bytes) {
    bool unfiltered = false;
    osForEachLine("/proc/self/status", saysUnfiltered, &unfiltered);
    return unfiltered && installRow(page, bytes, bytes, 1) == 1 && !canRead(page);
}

/* No memory for the trial says nothing about guards: it is not remembered. */
static int tryGuards(void) {
    size_t bytes = osPageSize();
    char *page = mmap(NULL, 2 * bytes, PROT_READ | PROT_WRITE, RESERVED, -1, 0);
    if (page == MAP_FAILED) return GUARDS_BY_MAPPING;
    munlock(page, 2 * bytes); /* locked pages take no guard, those of osPrepareStacks are not locked */
    int kind = !tryGuard(page, bytes) ? GUARDS_BY_MAPPING : tryRow(page + bytes, bytes) ? GUARDS_IN_ROWS : GUARDS_IN_PLACE;
    munmap(page, 2 * bytes);
    atomic_store_explicit(&guardKind, kind, memory_order_relaxed);
    return kind;
}

static int findGuardKind(void) {
    if (osGuardForceMapping) return GUARDS_BY_MAPPING;
    int kind = atomic_load_explicit(&guardKind, memory_order_relaxed);
    if (kind != GUARDS_UNTRIED) return kind;
    int error = errno;
    kind = tryGuards();
    errno = error;
    return kind;
}

bool osGuardsInPlace(void) {
    return findGuardKind() >= GUARDS_IN_PLACE;
}

/* Pages that the host has locked since take a guard of the other kind only. */
static bool installGuard(void *p, size_t bytes) {
    return (osGuardsInPlace() && madvise(p, bytes, MADV_GUARD_INSTALL) == 0) || mprotect(p, bytes, PROT_NONE) == 0;
}

size_t osInstallGuards(void *first, size_t bytes, size_t stride, size_t count) {
    size_t allowed = 0, done = 0;
    while (allowed < count && !osShouldFail()) allowed++;
    int error = errno;
    if (findGuardKind() == GUARDS_IN_ROWS) done = installRow(first, bytes, stride, allowed);
    while (done < allowed && installGuard((char *)first + done * stride, bytes)) done++;
    errno = error;
    return done;
}

/* vmem.c: address space by mmap, mprotect and madvise (os.h). */
#include "os/internal.h"

#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "os/os.h"

enum { RESERVED = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE };

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

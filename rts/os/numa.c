/* numa.c: asking for memory of a node, through libnuma's wrappers of the system calls only. Its other functions may print, and
 * exit when memory is short. */
#include "os/internal.h"

#ifdef HAVE_LIBNUMA

#include <errno.h>
#include <limits.h>
#include <numa.h>
#include <numaif.h>

enum { WORD_BITS = sizeof(long) * CHAR_BIT, NODE_LIMIT = 4096 }; /* the kernel ends at 1024 */

bool preferNode(void *p, size_t bytes, unsigned osNode) {
    unsigned long mask[NODE_LIMIT / WORD_BITS] = {0};
    if (osNode >= NODE_LIMIT) return false;
    mask[osNode / WORD_BITS] = 1ul << osNode % WORD_BITS;
    int error = errno;
    /* Preferred, not bound: a full node must not look like a machine out of memory. The kernel reads one bit less than told. */
    bool done = numa_available() >= 0 && mbind(p, bytes, MPOL_PREFERRED, mask, NODE_LIMIT + 1, 0) == 0;
    errno = error;
    return done;
}

#else

bool preferNode(void *p, size_t bytes, unsigned osNode) {
    (void)p, (void)bytes, (void)osNode;
    return false;
}

#endif

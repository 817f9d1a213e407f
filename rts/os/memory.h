/* memory.h: malloc for what the runtime keeps outside its heap, and the failing of allocations on purpose.
 *
 * Where the program links jemalloc, its extended interface (mallocx, dallocx, mallctl) is found through weak references and each
 * NUMA node has an arena of its own, made when first used and kept for the life of the process. Otherwise everything is libc's.
 * Nothing here replaces or configures the host's malloc. Builds under a sanitizer stay with libc, whose malloc the sanitizer
 * watches. (Loading a copy of jemalloc by ourselves was rejected: Debian's cannot be loaded with dlopen.)
 */
#ifndef RTS_OS_MEMORY_H
#define RTS_OS_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

/* malloc, calloc, free. A size of 0 gives a pointer that can be freed. rtsFree(NULL) does nothing and leaves errno alone.
 * Owns: the caller frees, with rtsFree only. Errors: NULL when refused. */
void *rtsMalloc(size_t size);
void *rtsCalloc(size_t count, size_t size);
void rtsFree(void *p);

/* rtsMalloc near a node of topology.h; a node that there is not, or whose memory is full, means anywhere. Slower than rtsMalloc
 * (a lock for each node): for what lives long.
 * Owns: the caller frees, with rtsFreeNode only. Errors: NULL when refused. */
void *rtsMallocNode(size_t size, unsigned node);
void rtsFreeNode(void *p);

/* Whether jemalloc serves the functions above. */
bool rtsMallocIsJemalloc(void);

/* In a forked child: locks are nobody's. */
void osRenewLocks(void);

/* ---------------------------------------------------------------- fault injection, for tests
 *
 * Calls of osCommit, osInstallGuard, osOpenPoller, osAddDescriptor, rtsMalloc, rtsCalloc, rtsMallocNode, osMapCode and osKeepModule are counted
 * together, over all threads (osStartThread calls rtsMalloc). While switched off (as at start) each costs one relaxed load. Switch while no
 * other thread allocates, if the count is to be exact.
 */

/* Makes the n-th following call fail, and only it: 1 is the next one. n < 1 switches the injection off. */
void osFailAfter(long n);

/* Makes the n-th following call and every later one fail. n < 1 switches the injection off. */
void osFailAllAfter(long n);

/* How many calls were made to fail since the last osFailAfter or osFailAllAfter; 0 says that n was not reached. */
long osFailuresInjected(void);

#endif

/* memory.c: jemalloc's extended interface where the program brings it, libc's otherwise (memory.h). */
#include "os/internal.h"

#include "os/memory.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

#include "os/topology.h"

/* Of jemalloc's interface only the names and flag bits below are used, which have been the same since version 4. Its header is not
 * needed, and the references stay null when nothing defines them. */
#define WEAK __attribute__((weak, visibility("default")))
extern void *mallocx(size_t size, int flags) WEAK;
extern void dallocx(void *p, int flags) WEAK;
extern int mallctl(const char *name, void *old, size_t *oldSize, void *new, size_t newSize) WEAK;

enum { ZEROED = 0x40, NO_THREAD_CACHE = 1 << 8, ARENA_SHIFT = 20 };

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

bool rtsMallocIsJemalloc(void) {
    return !SANITIZED && mallocx && dallocx && mallctl;
}

static void *refuse(void) {
    errno = ENOMEM;
    return NULL;
}

static void *allocate(size_t size, int flags) {
    void *p = mallocx(size ? size : 1, flags); /* jemalloc leaves size 0 undefined here */
    return p ? p : refuse();
}

void *rtsMalloc(size_t size) {
    if (osShouldFail()) return refuse();
    return rtsMallocIsJemalloc() ? allocate(size, 0) : malloc(size ? size : 1);
}

void *rtsCalloc(size_t count, size_t size) {
    size_t bytes;
    if (osShouldFail() || __builtin_mul_overflow(count, size, &bytes)) return refuse();
    return rtsMallocIsJemalloc() ? allocate(bytes, ZEROED) : calloc(1, bytes ? bytes : 1);
}

void rtsFree(void *p) {
    if (!p) return;
    int error = errno;
    if (rtsMallocIsJemalloc())
        dallocx(p, 0);
    else
        free(p);
    errno = error;
}

/* ---------------------------------------------------------------- an arena for each node */

/* jemalloc's table of how an arena gets its memory; only the first entry is called here. */
typedef struct ExtentHooks ExtentHooks;
struct ExtentHooks {
    void *(*alloc)(ExtentHooks *hooks, void *where, size_t size, size_t align, bool *zero, bool *commit, unsigned arena);
    void (*others[8])(void);
};

struct NodeArena {
    ExtentHooks hooks; /* [const] first: jemalloc hands back its address */
    unsigned arena;    /* [const] */
    unsigned node;     /* [const] */
};

enum { NODES_WITH_ARENA = 1024 }; /* as many as the kernel can be built for; nodes beyond have memory from anywhere */

static struct NodeArena *_Atomic arenaOfNode[NODES_WITH_ARENA]; /* [atomic] set once; made under the lock */
static pthread_mutex_t arenaLock = PTHREAD_MUTEX_INITIALIZER;
static ExtentHooks *usualHooks; /* [lock: arenaLock until the first arena is made, then const] */

/* Memory for a node's arena: as jemalloc would get it, and then meant for the node before anybody touches it. */
static void *allocateExtent(ExtentHooks *hooks, void *where, size_t size, size_t align, bool *zero, bool *commit,
                            unsigned arena) {
    void *p = usualHooks->alloc(usualHooks, where, size, align, zero, commit, arena);
    if (p) topologyMemoryToNode(p, size, ((struct NodeArena *)hooks)->node);
    return p;
}

/* Without the hooks (an older jemalloc) the arena is the node's all the same, and the first touch places its pages. */
static bool createArena(struct NodeArena *made) {
    size_t size = sizeof usualHooks;
    ExtentHooks *hooks = NULL;
    if (mallctl("arena.0.extent_hooks", &usualHooks, &size, NULL, 0) == 0) {
        made->hooks = *usualHooks;
        made->hooks.alloc = allocateExtent;
        hooks = &made->hooks;
    }
    size = sizeof made->arena;
    return mallctl("arenas.create", &made->arena, &size, hooks ? (void *)&hooks : NULL, hooks ? sizeof hooks : 0) == 0;
}

/* Under the lock. Not counted as a call that fails on purpose: whoever asked for memory was counted. */
static struct NodeArena *makeArenaOfNode(unsigned node) {
    struct NodeArena *made = atomic_load_explicit(&arenaOfNode[node], memory_order_relaxed);
    if (made) return made;
    made = allocate(sizeof *made, ZEROED);
    if (!made) return NULL;
    made->node = node;
    if (!createArena(made)) {
        dallocx(made, 0);
        return NULL;
    }
    /* Release pairs with the acquire in findArena. */
    atomic_store_explicit(&arenaOfNode[node], made, memory_order_release);
    return made;
}

static struct NodeArena *findArena(unsigned node) {
    if (node >= topologyNodes() || topologyNodes() == 1 || node >= NODES_WITH_ARENA) return NULL;
    struct NodeArena *found = atomic_load_explicit(&arenaOfNode[node], memory_order_acquire);
    if (found) return found;
    int error = errno;
    pthread_mutex_lock(&arenaLock);
    found = makeArenaOfNode(node);
    pthread_mutex_unlock(&arenaLock);
    errno = error;
    return found;
}

void osRenewLocks(void) {
    arenaLock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
}

void *rtsMallocNode(size_t size, unsigned node) {
    if (osShouldFail()) return refuse();
    if (!rtsMallocIsJemalloc()) return malloc(size ? size : 1);
    struct NodeArena *arena = findArena(node);
    /* A thread's cache mixes arenas: without it what is freed goes back to where it came from. */
    void *p = arena ? allocate(size, (int)((arena->arena + 1) << ARENA_SHIFT) | NO_THREAD_CACHE) : NULL;
    return p ? p : allocate(size, 0);
}

void rtsFreeNode(void *p) {
    if (!p) return;
    if (!rtsMallocIsJemalloc()) {
        rtsFree(p);
        return;
    }
    int error = errno;
    dallocx(p, NO_THREAD_CACHE);
    errno = error;
}

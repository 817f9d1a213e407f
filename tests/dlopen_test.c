/*
 * A host that knows nothing of Capstan loads libcapstan.so with
 * RTLD_LOCAL | RTLD_NOW, as a server loads a plugin. What must hold:
 * the host's malloc stays the one it had, no allocator comes along, none of
 * our names enters the host's scope, in-calls work, from several threads
 * too, and after dlclose the library is still there.
 *
 * The types below are written out because such a host has no header of ours:
 * they are GHC's for the same names.
 */

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SKIPPED = 77, THREADS = 4, CALLS = 1000 };

typedef struct Capability_ Capability;
typedef void *Object;

static struct {
    void (*hs_init)(int *argc, char ***argv);
    void (*hs_exit)(void);
    void (*hs_thread_done)(void);
    Capability *(*rts_lock)(void);
    void (*rts_unlock)(Capability *cap);
    Object (*rts_mkInt)(Capability *cap, int64_t n);
    int64_t (*rts_getInt)(Object object);
    void (*rts_eval)(Capability **cap, Object object, Object *result);
} api;

static int failures;

static bool check(bool holds, const char *what)
{
    printf("%s: %s\n", holds ? "ok" : "FAILED", what);
    if (!holds) failures++;
    return holds;
}

/* ---- The host's allocator ---- */

struct Allocator {
    void *functions[6];
    char object[512]; /* the file that malloc comes from */
};

static void findAllocator(struct Allocator *found)
{
    static const char *const names[] = {
        "malloc", "free", "calloc", "realloc", "posix_memalign", "mallocx"};
    Dl_info info;
    memset(found, 0, sizeof *found);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        found->functions[i] = dlsym(RTLD_DEFAULT, names[i]);
    if (dladdr(found->functions[0], &info) && info.dli_fname)
        snprintf(found->object, sizeof found->object, "%s", info.dli_fname);
}

static bool isMapped(const char *part)
{
    char line[1024];
    bool found = false;
    FILE *maps = fopen("/proc/self/maps", "r");
    if (!maps) return false;
    while (fgets(line, sizeof line, maps)) found |= strstr(line, part) != NULL;
    fclose(maps);
    return found;
}

static void checkAllocator(const struct Allocator *before, const char *when)
{
    struct Allocator now;
    char text[128];
    findAllocator(&now);
    snprintf(text, sizeof text, "malloc is the host's own (%s)", when);
    check(memcmp(&now, before, sizeof now) == 0, text);
    snprintf(text, sizeof text, "no jemalloc came along (%s)", when);
    check(!isMapped("libjemalloc"), text);
#if !defined CAPSTAN_ASAN && !defined CAPSTAN_TSAN
    snprintf(text, sizeof text, "malloc is libc's: %.60s", now.object);
    check(strstr(now.object, "libc.") || strstr(now.object, "libc-"), text);
#endif
}

/* ---- The library ---- */

static bool findName(void *library, const char *name, void *where)
{
    void *address = dlsym(library, name);
    memcpy(where, &address, sizeof address);
    if (!address) printf("FAILED: no %s in the library\n", name);
    return address != NULL;
}

static bool findApi(void *library)
{
#define FIND(name) findName(library, #name, &api.name)
    return FIND(hs_init) && FIND(hs_exit) && FIND(hs_thread_done) && FIND(rts_lock) &&
           FIND(rts_unlock) && FIND(rts_mkInt) && FIND(rts_getInt) && FIND(rts_eval);
#undef FIND
}

static bool callIn(int64_t n)
{
    Object result = NULL;
    Capability *cap = api.rts_lock();
    if (!cap) return false;
    api.rts_eval(&cap, api.rts_mkInt(cap, n), &result);
    int64_t got = api.rts_getInt(result);
    api.rts_unlock(cap);
    return got == n;
}

static void *callManyTimes(void *argument)
{
    intptr_t wrong = 0;
    for (int64_t i = 0; i < CALLS; i++) wrong += !callIn(i * 1000003);
    api.hs_thread_done();
    return (void *)wrong;
}

static bool callFromThreads(void)
{
    pthread_t threads[THREADS];
    int started = 0;
    bool good = true;
    while (started < THREADS &&
                  pthread_create(&threads[started], NULL, callManyTimes, NULL) == 0)
        started++;
    for (int i = 0; i < started; i++) {
        void *wrong = NULL;
        pthread_join(threads[i], &wrong);
        good &= wrong == NULL;
    }
    return good && started == THREADS;
}

static void runOnce(void)
{
    char name[] = "host";
    char *words[] = {name, NULL}, **argv = words;
    int argc = 1;
    api.hs_init(&argc, &argv);
    check(callIn(42) && callIn(-1), "an in-call returns what it was given");
    check(callFromThreads(), "in-calls from several threads");
    api.hs_exit();
}

/* The path of the library, from the command line or the environment. */
static const char *libraryPath(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : getenv("CAPSTAN_SO");
    return path && *path ? path : NULL;
}

int main(int argc, char **argv)
{
    struct Allocator before;
    const char *path = libraryPath(argc, argv);
    if (!path) {
        puts("no shared library was built (or CAPSTAN_SO does not name it)");
        return SKIPPED;
    }
    findAllocator(&before);
    check(!isMapped("libcapstan.so"), "the host does not link the library");

    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        printf("FAILED: %s\n", dlerror());
        return 1;
    }
    checkAllocator(&before, "after dlopen");
    check(!dlsym(RTLD_DEFAULT, "rts_lock"), "our names stay out of the host's scope");
    if (!findApi(library)) return 1;

    runOnce();
    checkAllocator(&before, "after a run");
    runOnce();
    dlclose(library);
    check(isMapped("libcapstan.so"), "dlclose leaves the library in place");
    checkAllocator(&before, "after dlclose");
    return failures ? 1 : 0;
}

/* process.c: the process as a whole (os.h). */
#include "os/internal.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "os/os.h"

unsigned osAvailableProcessors(void) {
    struct CpuMask mask;
    unsigned allowed = 0;
    if (readCpuMask(&mask)) {
        for (size_t i = 0; i < mask.words; i++) allowed += (unsigned)__builtin_popcountl(mask.word[i]);
        freeCpuMask(&mask);
    }
    if (allowed == 0) allowed = 1;
    unsigned quota = readCpuQuota("");
    return quota != 0 && quota < allowed ? quota : allowed;
}

size_t osResidentBytes(void) {
    char text[128], *end;
    if (osReadFile("/proc/self/statm", text, sizeof text) < 0) return 0;
    strtoull(text, &end, 10); /* the size of the address space; resident pages come second */
    return (size_t)strtoull(end, NULL, 10) * osPageSize();
}

static bool readPeak(void *peak, char *line) {
    static const char name[] = "VmHWM:";
    if (strncmp(line, name, sizeof name - 1) != 0) return false;
    *(size_t *)peak = (size_t)strtoull(line + sizeof name - 1, NULL, 10) * 1024;
    return true;
}

size_t osPeakResidentBytes(void) {
    /* Not getrusage at once: its number survives execve and may be the parent's. */
    size_t peak = 0;
    osForEachLine("/proc/self/status", readPeak, &peak);
    struct rusage usage;
    if (peak == 0 && getrusage(RUSAGE_SELF, &usage) == 0) peak = (size_t)usage.ru_maxrss * 1024;
    return peak;
}

bool osWatchForks(void (*inChild)(void)) {
    return pthread_atfork(NULL, NULL, inChild) == 0;
}

/* Steele, Lea, Flood (2014): makes neighbours differ in half their bits. */
static uint64_t scramble(uint64_t x) {
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

uint64_t osRandomSeed(void) {
    static _Atomic uint64_t calls;
    uint64_t seed = 0;
    int error = errno;
    /* The bare call, without waiting for entropy: libc's is a cancellation point. */
    if (syscall(SYS_getrandom, &seed, sizeof seed, GRND_NONBLOCK) != sizeof seed)
        seed = osMonotonicNanos() ^ osThreadId() << 40 ^ (uintptr_t)&calls;
    errno = error;
    return scramble(seed + atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed));
}

void *osFindSymbol(void *library, const char *symbol, const char **why) {
    int error = errno;
    dlerror();
    void *address = dlsym(library == NULL ? RTLD_DEFAULT : library, symbol);
    *why = dlerror();
    errno = error;
    return address;
}

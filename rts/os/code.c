/* code.c: memory that is executed (os.h). Never writable and executable, neither at once nor one after the other. */
#include "os/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "os/os.h"

/* Newer than some libcs' headers. */
#ifndef MFD_CLOEXEC
#define MFD_CLOEXEC 1u
#endif
#ifndef MFD_ALLOW_SEALING
#define MFD_ALLOW_SEALING 2u
#endif
#ifndef MFD_EXEC
#define MFD_EXEC 0x10u
#endif
#ifndef F_ADD_SEALS
#define F_ADD_SEALS 1033
#endif

enum { SEAL_ALL = 1 | 2 | 4 | 8 /* F_SEAL_SEAL, _SHRINK, _GROW, _WRITE */, OWN_PATH = 4096 };

unsigned osCodeForbidden;

/* ---------------------------------------------------------------- from the file that the code came from */

/* The file and the place in it that an address was mapped from. */
struct Origin {
    uintptr_t address;
    char path[OWN_PATH];
    off_t offset;
    bool found;
};

static bool findOrigin(void *context, char *text) {
    struct Origin *origin = context;
    uintptr_t start, end;
    uint64_t offset;
    int path = 0;
    /* start-end rights offset device inode path */
    if (sscanf(text, "%" SCNxPTR "-%" SCNxPTR " %*s %" SCNx64 " %*s %*s %n", &start, &end, &offset, &path) < 3) return false;
    if (origin->address < start || origin->address >= end) return false;
    size_t length = path > 0 ? strcspn(text + path, "\n") : 0;
    if (length > 0 && length < sizeof origin->path && text[path] == '/') {
        memcpy(origin->path, text + path, length);
        origin->path[length] = 0;
        origin->offset = (off_t)(offset + (origin->address - start));
        origin->found = true;
    }
    return true;
}

/* With the further rights, unless they are unknown here. */
static bool mapReadable(void *at, size_t bytes, int rights, int fd, off_t offset) {
    return mmap(at, bytes, PROT_READ | PROT_EXEC | rights, MAP_PRIVATE | MAP_FIXED, fd, offset) == at ||
           (rights != 0 && mmap(at, bytes, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, fd, offset) == at);
}

/* The file's contents decide whether it is still the right one: what was compared is what is mapped. */
static bool mapFromPath(const char *path, off_t offset, void *at, const void *code, size_t bytes, int rights) {
    struct stat about;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    bool mapped = fstat(fd, &about) == 0 && about.st_size - offset >= (off_t)bytes &&
                  mapReadable(at, bytes, rights, fd, offset);
    close(fd);
    return mapped && memcmp(at, code, bytes) == 0;
}

static bool mapFromFile(void *at, const void *code, size_t bytes, int rights) {
    struct Origin origin = {.address = (uintptr_t)code};
    if (!osForEachLine("/proc/self/maps", findOrigin, &origin) || !origin.found) return false;
    /* A program that was deleted or replaced while it runs is still to be had by the second name. */
    return mapFromPath(origin.path, origin.offset, at, code, bytes, rights) ||
           mapFromPath("/proc/self/exe", origin.offset, at, code, bytes, rights);
}

/* ---------------------------------------------------------------- from a file without a name */

static int openMemfd(void) {
    int fd = (int)syscall(SYS_memfd_create, "capstan-adjustors", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
    if (fd < 0 && errno == EINVAL) /* a kernel that does not ask whether it is to be executed */
        fd = (int)syscall(SYS_memfd_create, "capstan-adjustors", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return fd;
}

static bool writeAll(int fd, const char *from, size_t bytes) {
    while (bytes > 0) {
        ssize_t put = write(fd, from, bytes);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return false;
        from += put;
        bytes -= (size_t)put;
    }
    return true;
}

static bool mapFromMemfd(void *at, const void *code, size_t bytes, int rights) {
    int fd = openMemfd();
    if (fd < 0) return false;
    bool mapped = writeAll(fd, code, bytes) && fcntl(fd, F_ADD_SEALS, SEAL_ALL) == 0 &&
                  mapReadable(at, bytes, rights, fd, 0);
    close(fd);
    return mapped;
}

bool osMapCode(void *at, const void *code, size_t bytes, int rights) {
    if (osShouldFail()) return false;
    struct Quiet quiet = osBeginQuiet();
    bool mapped = (!(osCodeForbidden & OS_CODE_FROM_FILE) && mapFromFile(at, code, bytes, rights)) ||
                  (!(osCodeForbidden & OS_CODE_FROM_MEMFD) && mapFromMemfd(at, code, bytes, rights));
    /* What another file may have left there goes. */
    if (!mapped) mmap(at, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    osEndQuiet(quiet);
    return mapped;
}

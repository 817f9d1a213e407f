/* notify.c: telling a host's event loop (os.h). */
#include "os/internal.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "os/os.h"

bool osAddToEvent(int fd) {
    int error = errno;
    uint64_t one = 1;
    /* By a direct call: libc's write is a cancellation point. */
    long written = syscall(SYS_write, fd, &one, sizeof one);
    errno = error;
    return written == (long)sizeof one;
}

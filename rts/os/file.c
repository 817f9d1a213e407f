/* file.c: reading the system's small text files, and writing texts (os.h). */
#include "os/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "os/os.h"

struct Quiet osBeginQuiet(void) {
    struct Quiet quiet = {.error = errno};
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &quiet.cancelState);
    return quiet;
}

void osEndQuiet(struct Quiet quiet) {
    int ignored;
    pthread_setcancelstate(quiet.cancelState, &ignored);
    errno = quiet.error;
}

/* Fills buf from fd as far as both reach. */
static long readAll(int fd, char *buf, size_t room) {
    size_t have = 0;
    while (have < room) {
        ssize_t got = read(fd, buf + have, room - have);
        if (got == 0) break;
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return -1;
        have += (size_t)got;
    }
    return (long)have;
}

long osReadFile(const char *path, char *buf, size_t room) {
    struct Quiet quiet = osBeginQuiet();
    long length = -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        length = readAll(fd, buf, room - 1);
        close(fd);
    }
    buf[length < 0 ? 0 : length] = 0;
    osEndQuiet(quiet);
    return length;
}

bool osForEachLine(const char *path, bool (*line)(void *context, char *text), void *context) {
    struct Quiet quiet = osBeginQuiet();
    FILE *file = fopen(path, "re");
    if (file) {
        /* Lines of mountinfo have no bound: an overlay names every layer. */
        char *text = NULL;
        size_t room = 0;
        while (getline(&text, &room, file) >= 0 && !line(context, text)) continue;
        free(text);
        fclose(file);
    }
    osEndQuiet(quiet);
    return file != NULL;
}

/* 0, or why not. */
static int writeWhole(int fd, const char *text, size_t length) {
    while (length > 0) {
        long put = syscall(SYS_write, fd, text, length);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return put < 0 ? errno : EIO;
        text += put;
        length -= (size_t)put;
    }
    return 0;
}

/* The signal of a write goes to the thread that wrote: blocked there it waits, and is taken off again. */
int osWriteAll(int fd, const char *text, size_t length) {
    struct Quiet quiet = osBeginQuiet();
    sigset_t pipeSignal, before, pending;
    sigemptyset(&pipeSignal);
    sigaddset(&pipeSignal, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipeSignal, &before);
    bool waits = sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE) == 1;
    int why = writeWhole(fd, text, length);
    if (why == EPIPE && !waits)
        while (sigtimedwait(&pipeSignal, NULL, &(struct timespec){0}) < 0 && errno == EINTR) continue;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    osEndQuiet(quiet);
    return why;
}

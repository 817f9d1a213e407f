/* file.c: reading the system's small text files. */
#include "os/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

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

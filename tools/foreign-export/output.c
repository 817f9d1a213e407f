/* Files: read as a whole, written as a whole or not at all. */
#include "foreign.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool readWhole(const char *path, Buffer *text, const char **why)
{
    bool standard = strcmp(path, "-") == 0;
    int fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    char bytes[65536];
    ssize_t n = -1;
    putBytes(text, "", 0);
    if (fd >= 0)
        while ((n = read(fd, bytes, sizeof bytes)) > 0 || (n < 0 && errno == EINTR)) {
            if (n > 0) putBytes(text, bytes, (size_t)n);
            if (text->length > MAX_FILE) break; /* checkText says so */
        }
    if (n < 0) *why = strerror(errno);
    if (fd >= 0 && !standard) close(fd);
    return n >= 0;
}

static bool isSameFile(const Output *o)
{
    Buffer there = { 0 };
    const char *why;
    bool same = readWhole(o->path, &there, &why) && there.length == o->text->length && memcmp(there.text, o->text->text, there.length) == 0;
    freeBuffer(&there);
    return same;
}

static bool writeTo(int fd, const Buffer *text)
{
    for (size_t done = 0; done < text->length;) {
        ssize_t n = write(fd, text->text + done, text->length - done);
        if (n < 0 && errno != EINTR) return false;
        if (n > 0) done += (size_t)n;
    }
    return true;
}

static bool isPlain(const char *path)
{
    struct stat there;
    return stat(path, &there) != 0 || S_ISREG(there.st_mode);
}

/* The permissions that a file made by open would have. */
static mode_t usualMode(void)
{
    mode_t mask = umask(0);
    umask(mask);
    return 0666 & ~mask;
}

static bool writeTemporary(Output *o)
{
    size_t length = strlen(o->path);
    o->temporary = malloc(length + sizeof ".XXXXXX");
    if (o->temporary == NULL) return false;
    memcpy(o->temporary, o->path, length);
    strcpy(o->temporary + length, ".XXXXXX");
    int fd = mkstemp(o->temporary);
    if (fd < 0) {
        free(o->temporary);
        o->temporary = NULL;
        return false;
    }
    bool done = writeTo(fd, o->text) && fchmod(fd, usualMode()) == 0;
    int why = errno;
    if (close(fd) != 0 && done) return false;
    errno = why;
    return done;
}

/* Standard output, a device or a pipe: written where it is. */
static bool writeThrough(const char *path, const Buffer *text)
{
    bool standard = strcmp(path, "-") == 0;
    int fd = standard ? STDOUT_FILENO : open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return false;
    bool done = writeTo(fd, text);
    return (standard || close(fd) == 0) && done;
}

static bool prepare(Output *o)
{
    if (strcmp(o->path, "-") == 0 || !isPlain(o->path)) return writeThrough(o->path, o->text);
    return isSameFile(o) || writeTemporary(o);
}

static bool finish(Output *o)
{
    if (o->temporary == NULL || rename(o->temporary, o->path) != 0) return o->temporary == NULL;
    free(o->temporary);
    o->temporary = NULL;
    return true;
}

bool writeAll(const char *program, Output *outputs, size_t n)
{
    size_t i = 0, j = 0;
    while (i < n && prepare(&outputs[i])) i++;
    bool done = i == n;
    if (done)
        while (j < n && finish(&outputs[j])) j++;
    done = done && j == n;
    if (!done) fprintf(stderr, "%s: cannot write %s: %s\n", program, outputs[i < n ? i : j].path, strerror(errno));
    for (size_t k = 0; k < n; k++)
        if (outputs[k].temporary != NULL) {
            unlink(outputs[k].temporary);
            free(outputs[k].temporary);
        }
    return done;
}

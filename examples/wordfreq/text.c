#include "text.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    EXTERNAL_FROM = 16384,  /* bytes: smaller texts are cheaper to copy than to have released later */
    READ_MORE = 256,        /* bytes to read first after the end of a chunk for the rest of its last word */
    SLURP_STEP = 65536,
};

static bool sayProblem(char *problem, const char *name, const char *what)
{
    snprintf(problem, PROBLEM_SIZE, "%s: %s", name, what);
    return false;
}

/* A step of splitmix64. */
static uint64_t scramble(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* ---- Files ------------------------------------------------------------------------------------------------------ */

/* A whole number of bytes, or fewer at the end of the file; -1 with errno. */
static ssize_t readFully(int fd, char *to, size_t size, size_t offset)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = pread(fd, to + done, size - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return -1;
        if (n == 0) break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

static bool slurp(int fd, File *file)
{
    for (;;) {
        char *grown = realloc(file->content, file->size + SLURP_STEP);
        if (grown == NULL) return false;
        file->content = grown;
        ssize_t n = read(fd, grown + file->size, SLURP_STEP);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return false;
        if (n == 0) return true;
        file->size += (size_t)n;
    }
}

/* Regular files are read by whoever needs a part of them, the others here and now: a pipe gives its bytes once.  A size
 * of 0 says little, as for the files of /proc. */
static bool lookAtFile(File *file, char *problem)
{
    struct stat st;
    int fd = open(file->name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return sayProblem(problem, file->name, strerror(errno));
    bool ok = fstat(fd, &st) == 0;
    if (ok && S_ISDIR(st.st_mode)) {
        ok = false;
        errno = EISDIR;
    }
    if (ok && S_ISREG(st.st_mode) && st.st_size > 0) file->size = (size_t)st.st_size;
    else if (ok) ok = slurp(fd, file);
    if (!ok) sayProblem(problem, file->name, strerror(errno));
    close(fd);
    return ok;
}

static int isFile(const struct dirent *entry)
{
    char path[sizeof DEFAULT_FOLDER "/" + sizeof entry->d_name];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", DEFAULT_FOLDER, entry->d_name);
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

static bool nameDefaultFiles(Text *text, char *problem)
{
    struct dirent **entries;
    int n = scandir(DEFAULT_FOLDER, &entries, isFile, alphasort);
    if (n < 0) return sayProblem(problem, DEFAULT_FOLDER, strerror(errno));
    text->entries = entries;
    text->entryCount = (size_t)n;
    if (n == 0) return sayProblem(problem, DEFAULT_FOLDER, "there are no files in it, and none were given");
    text->files = calloc((size_t)n, sizeof *text->files);
    if (text->files == NULL) return sayProblem(problem, DEFAULT_FOLDER, strerror(errno));
    for (; text->fileCount < (size_t)n; text->fileCount++) {
        char *path;
        if (asprintf(&path, "%s/%s", DEFAULT_FOLDER, entries[text->fileCount]->d_name) < 0)
            return sayProblem(problem, DEFAULT_FOLDER, strerror(ENOMEM));
        text->files[text->fileCount].name = path;
    }
    return true;
}

static bool nameGivenFiles(Text *text, const Options *options, char *problem)
{
    text->files = calloc(options->fileCount, sizeof *text->files);
    if (text->files == NULL) return sayProblem(problem, "the list of files", strerror(errno));
    text->fileCount = options->fileCount;
    for (size_t i = 0; i < text->fileCount; i++) text->files[i].name = options->files[i];
    return true;
}

/* ---- Chunks ----------------------------------------------------------------------------------------------------- */

/* From half of the size to one and a half. */
static size_t varySize(size_t size, uint64_t *random)
{
    *random = scramble(*random);
    size_t varied = size / 2 + (size_t)(*random % (size + 1));
    return varied > 0 ? varied : 1;
}

static bool addChunk(Text *text, size_t *room, Chunk chunk)
{
    if (text->chunkCount == *room) {
        *room = *room != 0 ? 2 * *room : 256;
        Chunk *grown = reallocarray(text->chunks, *room, sizeof *grown);
        if (grown == NULL) return false;
        text->chunks = grown;
    }
    text->chunks[text->chunkCount++] = chunk;
    return true;
}

static void shuffleChunks(Text *text, uint64_t *random)
{
    for (size_t i = text->chunkCount; i > 1; i--) {
        *random = scramble(*random);
        size_t j = (size_t)(*random % i);
        Chunk other = text->chunks[j];
        text->chunks[j] = text->chunks[i - 1];
        text->chunks[i - 1] = other;
    }
}

static bool layOutChunks(Text *text, const Options *options, char *problem)
{
    size_t room = 0;
    uint64_t random = options->seed;
    for (size_t f = 0; f < text->fileCount; f++) {
        size_t length, size = text->files[f].size;
        for (size_t offset = 0; offset < size; offset += length) {
            length = options->seed != 0 ? varySize(options->chunk, &random) : options->chunk;
            if (length > size - offset) length = size - offset;
            bool external = options->seed != 0 ? (random >> 32) % 2 != 0 : length >= EXTERNAL_FROM;
            if (!addChunk(text, &room, (Chunk){ f, offset, length, external }))
                return sayProblem(problem, "the list of chunks", strerror(errno));
        }
        text->bytes += size;
    }
    if (options->seed != 0) shuffleChunks(text, &random);
    return true;
}

bool openText(Text *text, const Options *options, char *problem)
{
    *text = (Text){ .seed = options->seed, .repeat = options->repeat };
    bool ok = options->fileCount > 0 ? nameGivenFiles(text, options, problem) : nameDefaultFiles(text, problem);
    for (size_t i = 0; ok && i < text->fileCount; i++) ok = lookAtFile(&text->files[i], problem);
    return ok && layOutChunks(text, options, problem);
}

void freeText(Text *text)
{
    for (size_t i = 0; i < text->fileCount; i++) {
        free(text->files[i].content);
        if (text->entries != NULL) free((char *)text->files[i].name);
    }
    for (size_t i = 0; i < text->entryCount; i++) free(text->entries[i]);
    free(text->entries);
    free(text->files);
    free(text->chunks);
}

uint64_t countChunks(const Text *text) { return text->chunkCount * text->repeat; }

const Chunk *chunkOfTurn(const Text *text, uint64_t turn)
{
    uint64_t place = turn % text->chunkCount, pass = turn / text->chunkCount;
    if (text->seed != 0) place = (place + scramble(text->seed ^ pass) % text->chunkCount) % text->chunkCount;
    return &text->chunks[place];
}

/* ---- Reading ---------------------------------------------------------------------------------------------------- */

static bool makeRoom(Buffer *buffer, size_t size)
{
    if (size <= buffer->capacity) return true;
    char *grown = realloc(buffer->block, size);
    if (grown == NULL) return false;
    buffer->block = grown;
    buffer->capacity = size;
    return true;
}

/* Bytes [from, to) of the file behind what the buffer has. */
static bool append(const File *file, int fd, Buffer *buffer, size_t from, size_t to)
{
    if (!makeRoom(buffer, buffer->length + (to - from))) return false;
    char *place = buffer->block + buffer->length;
    if (file->content != NULL) {
        memcpy(place, file->content + from, to - from);
    } else {
        ssize_t n = readFully(fd, place, to - from, from);
        if (n >= 0 && (size_t)n < to - from) errno = ESTALE; /* the file was longer when we looked at it */
        if (n < 0 || (size_t)n < to - from) return false;
    }
    buffer->length += to - from;
    return true;
}

/* The byte before the chunk comes along, to see whether a word goes on into it. */
static bool readWords(const File *file, int fd, const Chunk *chunk, Buffer *buffer)
{
    size_t first = chunk->offset > 0 ? chunk->offset - 1 : 0, last = chunk->offset + chunk->length;
    buffer->begin = buffer->length = 0;
    if (!append(file, fd, buffer, first, last)) return false;
    size_t begin = 0, end = buffer->length, step = READ_MORE;
    if (chunk->offset > 0)
        while (begin < end && isLetter((unsigned char)buffer->block[begin])) begin++;
    if (begin == end) return buffer->length = 0, true; /* nothing begins here */
    while (isLetter((unsigned char)buffer->block[end - 1])) {
        if (end == buffer->length) {
            if (last == file->size) break;
            size_t more = file->size - last < step ? file->size - last : step;
            if (!append(file, fd, buffer, last, last + more)) return false;
            last += more;
            step *= 2;
        }
        end++;
    }
    buffer->begin = begin;
    buffer->length = end - begin;
    return true;
}

/* The file is opened anew for each chunk: there may be more files than a process may have open. */
bool readChunk(const Text *text, const Chunk *chunk, Buffer *buffer, char *problem)
{
    const File *file = &text->files[chunk->file];
    int fd = file->content != NULL ? -1 : open(file->name, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && file->content == NULL) return sayProblem(problem, file->name, strerror(errno));
    bool ok = readWords(file, fd, chunk, buffer);
    if (!ok) sayProblem(problem, file->name, errno == ESTALE ? "it became shorter while it was read" : strerror(errno));
    if (fd >= 0) close(fd);
    return ok;
}

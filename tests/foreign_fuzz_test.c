/* The reader of foreign declarations meets what fuzzers found worth keeping (tests/foreign/corpus), the other declarations of the tests, and, for a few
 * seconds, changed pieces of them.  ./bootstrap fuzz looks further. */
#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_FILES = 4000, MAX_BYTES = 1 << 16 };
static struct { uint8_t *bytes; size_t size; } files[MAX_FILES];
static unsigned count;

static void readFolder(const char *folder)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/tests/foreign/%s", getenv("abs_srcdir") != NULL ? getenv("abs_srcdir") : ".", folder);
    DIR *dir = opendir(path);
    for (struct dirent *e; dir != NULL && count < MAX_FILES && (e = readdir(dir)) != NULL;) {
        if (e->d_name[0] == '.') continue;
        char name[8192];
        snprintf(name, sizeof name, "%s/%s", path, e->d_name);
        FILE *file = fopen(name, "rb");
        if (file == NULL) continue;
        uint8_t *bytes = malloc(MAX_BYTES);
        if (bytes == NULL) abort();
        size_t size = fread(bytes, 1, MAX_BYTES, file);
        fclose(file);
        files[count].bytes = bytes;
        files[count++].size = size;
    }
    if (dir != NULL) closedir(dir);
}

static uint64_t state;
static uint64_t next(uint64_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return below == 0 ? 0 : state % below;
}

/* A piece of one file, a piece of another behind it, and some bytes changed. */
static size_t mix(uint8_t *out)
{
    size_t size = 0;
    for (int piece = 0; piece < 2; piece++) {
        size_t i = next(count), from = next(files[i].size), n = next(files[i].size - from + 1);
        if (n > 2000) n = 2000;
        memcpy(out + size, files[i].bytes + from, n);
        size += n;
    }
    for (uint64_t n = next(4); n > 0 && size > 0; n--) out[next(size)] = (uint8_t)(next(3) == 0 ? next(256) : (uint64_t) "():->\"{}\n ,;.=&aA"[next(17)]);
    return size;
}

int main(void)
{
    static uint8_t bytes[4096];
    const char *seed = getenv("CAPSTAN_TEST_SEED"), *scale = getenv("CAPSTAN_TEST_SCALE");
    time_t until = time(NULL) + (scale != NULL && strcmp(scale, "short") == 0 ? 2 : 5);
    unsigned long tried = 0;
    readFolder("corpus");
    unsigned kept = count;
    readFolder("bad");
    readFolder("good");
    if (kept == 0 || count == kept) {
        puts("no corpus was found");
        return 99;
    }
    state = seed != NULL ? strtoull(seed, NULL, 0) | 1 : (uint64_t)time(NULL) * 2654435761u | 1;
    printf("%u files of the corpus, %u others; CAPSTAN_TEST_SEED=%llu\n", kept, count - kept, (unsigned long long)state);
    fflush(stdout);
    for (unsigned i = 0; i < count; i++) LLVMFuzzerTestOneInput(files[i].bytes, files[i].size);
    for (; time(NULL) < until; tried++) {
        /* In memory of exactly that size, so that ASan sees who reads beyond it. */
        size_t size = mix(bytes);
        uint8_t *exact = malloc(size == 0 ? 1 : size);
        if (exact == NULL) abort();
        memcpy(exact, bytes, size);
        LLVMFuzzerTestOneInput(exact, size);
        free(exact);
    }
    printf("%lu texts more, none of them trouble\n", tried);
    for (unsigned i = 0; i < count; i++) free(files[i].bytes);
    return 0;
}

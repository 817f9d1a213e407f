/* cpus.c: sets and lists of CPUs of any size. */
#include "os/internal.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdlib.h>

#include "os/memory.h"

enum { WORD_BITS = sizeof(long) * CHAR_BIT, LARGEST_MASK_WORDS = 1 << 16 };

static bool makeMaskOfWords(struct CpuMask *mask, size_t words) {
    *mask = (struct CpuMask){.word = rtsCalloc(words, sizeof(long)), .words = words};
    return mask->word != NULL;
}

bool makeCpuMask(struct CpuMask *mask, unsigned cpus) {
    return makeMaskOfWords(mask, cpus / WORD_BITS + 1);
}

void freeCpuMask(struct CpuMask *mask) {
    rtsFree(mask->word);
    *mask = (struct CpuMask){0};
}

bool readCpuMask(struct CpuMask *mask) {
    int error = errno;
    bool done = false;
    /* The kernel does not say how large its sets are: it refuses too small a one with EINVAL. */
    for (size_t words = 16; !done && words <= LARGEST_MASK_WORDS; words *= 2) {
        if (!makeMaskOfWords(mask, words)) break;
        done = sched_getaffinity(0, words * sizeof(long), (cpu_set_t *)mask->word) == 0;
        bool larger = !done && errno == EINVAL;
        if (!done) freeCpuMask(mask);
        if (!larger) break;
    }
    errno = error;
    return done;
}

void addToCpuMask(struct CpuMask *mask, unsigned cpu) {
    mask->word[cpu / WORD_BITS] |= 1ul << cpu % WORD_BITS;
}

bool isInCpuMask(const struct CpuMask *mask, unsigned cpu) {
    return cpu / WORD_BITS < mask->words && (mask->word[cpu / WORD_BITS] >> cpu % WORD_BITS & 1);
}

unsigned roomOfCpuMask(const struct CpuMask *mask) {
    return (unsigned)mask->words * WORD_BITS;
}

bool applyCpuMask(const struct CpuMask *mask) {
    int error = errno;
    bool done = sched_setaffinity(0, mask->words * sizeof(long), (const cpu_set_t *)mask->word) == 0;
    errno = error;
    return done;
}

bool forEachInCpuList(const char *text, bool (*add)(void *context, unsigned number), void *context) {
    const unsigned long most = roomOfCpuMask(&(struct CpuMask){.words = LARGEST_MASK_WORDS});
    while (*text >= '0' && *text <= '9') {
        char *end;
        unsigned long first = strtoul(text, &end, 10), last = first;
        if (*end == '-') last = strtoul(end + 1, &end, 10);
        if (last >= most) return false;
        for (unsigned long i = first; i <= last; i++)
            if (!add(context, (unsigned)i)) return false;
        text = *end == ',' ? end + 1 : end;
    }
    return *text == '\n' || *text == 0;
}

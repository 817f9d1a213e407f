/*
 * Is this another processor, emulated (configure's EMULATOR)?  qemu's emulation of single programs lacks a few things; a case that is about these is
 * skipped there, and says why.
 */
#ifndef CAPSTAN_TESTS_EMULATED_H
#define CAPSTAN_TESTS_EMULATED_H

#include <stdbool.h>
#include <stdlib.h>

static inline bool isEmulated(void)
{
    const char *emulator = getenv("CAPSTAN_EMULATOR");
    return emulator != NULL && *emulator != 0;
}

/* For cases of cmocka. */
#define SKIP_EMULATED(why)                                             \
    do                                                                 \
        if (isEmulated()) {                                            \
            print_message("not under emulation, where %s\n", why);     \
            skip();                                                    \
        }                                                              \
    while (0)
#define LIMITS_NO_ADDRESSES "RLIMIT_AS limits nothing"

#endif

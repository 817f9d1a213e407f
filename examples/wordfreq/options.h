/* options.h: what the command line asks for. */
#ifndef WORDFREQ_OPTIONS_H
#define WORDFREQ_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    unsigned workers;       /* threads that read and call in */
    unsigned capabilities;  /* how many of them may run managed code at once; 0: as many as there are processors */
    uint64_t repeat;        /* how often everything is read */
    uint64_t seed;          /* 0: chunks of equal size, in order; else sizes, order and kind of hand-over at random */
    size_t chunk;           /* bytes of one chunk, about */
    size_t nursery;         /* bytes; 0: the runtime's default */
    size_t heapLimit;       /* bytes; 0: none */
    size_t top;             /* how many words the report shows */
    unsigned hashBits;      /* fewer make words collide, for tests */
    bool all, json, quiet;
    const char *rtsOptions; /* further options of the runtime, or NULL */
    char **files;           /* names from the command line */
    size_t fileCount;       /* 0: everything in DEFAULT_FOLDER */
} Options;

#define DEFAULT_FOLDER "/usr/share/common-licenses"

/* Ends the program after --help, and with status 2 after a message if something is wrong. */
void parseOptions(int argc, char **argv, Options *options);

#endif

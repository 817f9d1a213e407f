#include "options.h"

#include <argp.h>
#include <errno.h>
#include <stdlib.h>

enum { KEY_RTS = 256, KEY_HASH_BITS };

static const struct argp_option known[] = {
    { "workers", 'w', "N", 0, "Threads that read and call in (default 8)", 1 },
    { "capabilities", 'c', "N", 0, "How many run managed code at once (default: one for each processor)", 1 },
    { "repeat", 'r', "N", 0, "Read everything N times (default 1)", 1 },
    { "seed", 's', "N", 0, "Shuffle the chunks and vary their sizes; 0: in order (default)", 1 },
    { "chunk", 'k', "BYTES", 0, "Size of a chunk, about (default 1k)", 1 },
    { "top", 't', "N", 0, "How many of the most frequent words to show (default 20)", 2 },
    { "all", 'a', NULL, 0, "Print every word as a line \"count word\" and nothing else", 2 },
    { "json", 'j', NULL, 0, "Print the report as JSON", 2 },
    { "quiet", 'q', NULL, 0, "No progress line", 2 },
    { "nursery", 'A', "BYTES", 0, "Allocation area of one capability", 3 },
    { "heap-limit", 'M', "BYTES", 0, "Limit of the managed heap (default: none)", 3 },
    { "rts", KEY_RTS, "OPTIONS", 0, "Further options of the runtime, as \"--verify-heap --poison\"", 3 },
    { "hash-bits", KEY_HASH_BITS, "N", OPTION_HIDDEN, NULL, 0 },
    { 0 },
};

static const char about[] =
    "Count the words of text files: threads of C read them in chunks and hand each chunk to managed code, which counts its "
    "words in one map on the shared heap."
    "\v"
    "Without FILE: every file in " DEFAULT_FOLDER ". A name counts as often as it is given or found, whether or not it is a link "
    "to another. BYTES may end in k, m or g.\n"
    "\n"
    "The counts are those of\n"
    "  for f in FILE...; do cat \"$f\"; echo; done | tr -cs A-Za-z '\\n' | tr A-Z a-z | grep . | sort | uniq -c\n"
    "under LC_ALL=C; words of equal count come in the order of their bytes.\n"
    "\n"
    "Exit status: 0 if all was counted, 1 if not, 2 if the command line is wrong.";

/* A number from least to most; factor letters only where the option is a size. */
static uint64_t parseNumber(struct argp_state *state, const char *option, const char *text, bool isSize, uint64_t least,
                            uint64_t most)
{
    char *end;
    unsigned shift = 0;
    errno = 0;
    uint64_t n = strtoull(text, &end, 10);
    bool bad = errno != 0 || *text < '0' || *text > '9';
    if (isSize && !bad && *end != '\0') {
        shift = *end == 'k' || *end == 'K' ? 10 : *end == 'm' || *end == 'M' ? 20 : *end == 'g' || *end == 'G' ? 30 : 0;
        if (shift != 0) end++;
    }
    bad = bad || *end != '\0' || n > most >> shift || n << shift < least;
    if (bad)
        argp_error(state, "--%s: '%s' is not a %s from %llu to %llu", option, text, isSize ? "size" : "number",
                   (unsigned long long)least, (unsigned long long)most);
    return n << shift;
}

static error_t parseOption(int key, char *arg, struct argp_state *state)
{
    Options *o = state->input;
    switch (key) {
    case 'w': o->workers = (unsigned)parseNumber(state, "workers", arg, false, 1, 4096); break;
    case 'c': o->capabilities = (unsigned)parseNumber(state, "capabilities", arg, false, 1, 1024); break;
    case 'r': o->repeat = parseNumber(state, "repeat", arg, false, 1, 1000000000); break;
    case 's': o->seed = parseNumber(state, "seed", arg, false, 0, UINT64_MAX); break;
    case 't': o->top = parseNumber(state, "top", arg, false, 0, 1000000000); break;
    case 'k': o->chunk = parseNumber(state, "chunk", arg, true, 1, 1u << 30); break;
    case 'A': o->nursery = parseNumber(state, "nursery", arg, true, 1, SIZE_MAX); break;
    case 'M': o->heapLimit = parseNumber(state, "heap-limit", arg, true, 1, SIZE_MAX); break;
    case KEY_HASH_BITS: o->hashBits = (unsigned)parseNumber(state, "hash-bits", arg, false, 0, 62); break;
    case KEY_RTS: o->rtsOptions = arg; break;
    case 'a': o->all = true; break;
    case 'j': o->json = true; break;
    case 'q': o->quiet = true; break;
    case ARGP_KEY_ARGS:
        o->files = state->argv + state->next;
        o->fileCount = (size_t)(state->argc - state->next);
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

void parseOptions(int argc, char **argv, Options *options)
{
    static const struct argp parser = { known, parseOption, "[FILE...]", about, NULL, NULL, NULL };
    *options = (Options){ .workers = 8, .repeat = 1, .chunk = 1024, .top = 20, .hashBits = 62 };
    argp_err_exit_status = 2;
    if (argp_parse(&parser, argc, argv, 0, NULL, options) != 0) exit(2);
}

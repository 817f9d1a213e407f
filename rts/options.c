#include "options.h"

#include "capability.h"
#include "gc/size.h"
#include "os/topology.h"
#include "stack_pool.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIN_NURSERY (4 * BLOCK_BYTES)
#define MAX_NURSERY ((size_t)1 << 36)
#define MIN_LIMIT   ((size_t)4 << 20)
#define MAX_QUANTUM 10000000

enum Form { COUNT, SIZE, FLAG, STATS };

/* Every option: its name, the field, what may follow, for the message. */
static const struct {
    const char *name;
    enum Form form;
    size_t field, min, max;
    const char *expected;
} optionTable[] = {
    { "-N", COUNT, offsetof(RtsConfig, capabilities), 1, MAX_CAPABILITIES, "-N or -N<number of capabilities, 1 to 1024>" },
    { "-A", SIZE, offsetof(RtsConfig, nursery_bytes), MIN_NURSERY, MAX_NURSERY, "-A<size>, as -A1m: 64k to 64g" },
    { "-M", SIZE, offsetof(RtsConfig, heap_limit_bytes), MIN_LIMIT, SIZE_MAX, "-M<size>, as -M512m: 4m and four -A at least" },
    { "--quantum=", COUNT, offsetof(RtsConfig, quantum_us), 1, MAX_QUANTUM, "--quantum=<microseconds, 1 to 10000000>" },
    { "--foreign-stack=", SIZE, offsetof(RtsConfig, foreign_stack_bytes), 16 << 10, SIZE_MAX,
      "--foreign-stack=<size>, 16k at least" },
    { "--slice=", COUNT, offsetof(RtsConfig, slice_us), 100, MAX_QUANTUM, "--slice=<microseconds, 100 to 10000000>" },
    { "--stack=", SIZE, offsetof(RtsConfig, stack_bytes), MIN_STACK_SLOT, MAX_STACK_SLOT, "--stack=<size, 128k to 1g>" },
    { "--workers=", COUNT, offsetof(RtsConfig, max_workers), 1, 1000000, "--workers=<how many at most, 1 to 1000000>" },
    { "--spare-workers=", COUNT, offsetof(RtsConfig, spare_workers), 1, 1000000, "--spare-workers=<how many, 1 to 1000000>" },
    { "--idle-gc=", COUNT, offsetof(RtsConfig, idle_collection_us), 1, 1000000000, "--idle-gc=<microseconds, 1 to 1000000000>" },
    { "--long-stop=", COUNT, offsetof(RtsConfig, long_stop_us), 1, 1000000000, "--long-stop=<microseconds, 1 to 1000000000>" },
    { "--submit-queue=", COUNT, offsetof(RtsConfig, submit_queue), 1, 1u << 30, "--submit-queue=<how many submissions, 1 to 1073741824>" },
    { "--debug-numa=", COUNT, offsetof(RtsConfig, debug_numa_nodes), 1, TOPOLOGY_NODES_PRETENDED_MAX,
      "--debug-numa=<number of nodes, 1 to 65536>" },
    { "--verify-heap", FLAG, offsetof(RtsConfig, verify_heap), 0, 0, "--verify-heap" },
    { "--poison", FLAG, offsetof(RtsConfig, poison_from_space), 0, 0, "--poison" },
    { "--stats-json", STATS, offsetof(RtsConfig, stats), RtsStatsJson, 0, "--stats-json or --stats-json=<file, its name of 255 bytes at most>" },
    { "-s", STATS, offsetof(RtsConfig, stats), RtsStatsText, 0, "-s or -s<file, its name of 255 bytes at most>" },
    { "--no-membarrier", FLAG, offsetof(RtsConfig, no_membarrier), 0, 0, "--no-membarrier" },
};
#define OPTIONS (sizeof optionTable / sizeof *optionTable)
_Static_assert(MAX_CAPABILITIES == 1024 && TOPOLOGY_NODES_PRETENDED_MAX == 65536 && sizeof ((RtsConfig *)0)->stats_file == 256, "as the messages say");

static RtsStatus complain(char *message, size_t size, const char *option, const char *expected)
{
    if (message != NULL && size > 0)
        snprintf(message, size, "option '%.80s': expected %s", option, expected);
    return RTS_BAD_OPTION;
}

/* A number of at least one digit, with a suffix k, m, g or t for sizes. */
static bool parseNumber(const char *s, bool isSize, size_t *out)
{
    char *end;
    if (!isdigit((unsigned char)*s)) return false;
    errno = 0;
    unsigned long long n = strtoull(s, &end, 10);
    if (errno != 0) return false;
    unsigned shift = 0;
    if (isSize && *end != 0) {
        const char *suffix = strchr("kmgt", tolower((unsigned char)*end));
        if (suffix == NULL) return false;
        shift = 10 * (unsigned)(suffix - "kmgt" + 1);
        end++;
    }
    if (*end != 0 || n > (SIZE_MAX >> 1) >> shift) return false;
    *out = (size_t)n << shift;
    return true;
}

/* What follows is a file, after an equals sign where the option is a long one. */
static bool setStats(RtsConfig *config, size_t i, const char *file)
{
    if (optionTable[i].name[1] == '-' && *file != 0 && (*file++ != '=' || *file == 0)) return false;
    if (strlen(file) >= sizeof config->stats_file) return false;
    config->stats = (RtsStatsFormat)optionTable[i].min;
    strcpy(config->stats_file, file);
    return true;
}

static bool setField(RtsConfig *config, size_t i, const char *rest)
{
    void *field = (char *)config + optionTable[i].field;
    size_t n = 0;
    switch (optionTable[i].form) {
    case FLAG:
        if (*rest != 0) return false;
        *(bool *)field = true;
        return true;
    case SIZE:
        if (!parseNumber(rest, true, &n) || n < optionTable[i].min || n > optionTable[i].max) return false;
        *(size_t *)field = n;
        return true;
    case STATS: return setStats(config, i, rest);
    case COUNT:
        if (i == 0 && *rest == 0) {
            *(unsigned *)field = 0; /* -N alone: as many as there are processors */
            return true;
        }
        if (!parseNumber(rest, false, &n) || n < optionTable[i].min || n > optionTable[i].max) return false;
        *(unsigned *)field = (unsigned)n;
        return true;
    }
    return false;
}

RtsStatus applyOption(RtsConfig *config, const char *option, char *message, size_t size)
{
    for (size_t i = 0; i < OPTIONS; i++) {
        const char *name = optionTable[i].name;
        size_t length = strlen(name);
        bool lacksValue = name[length - 1] == '=' && strlen(option) == length - 1 && strncmp(option, name, length - 1) == 0;
        if (!lacksValue && strncmp(option, name, length) != 0) continue;
        if (!lacksValue && setField(config, i, option + length)) return RTS_OK;
        return complain(message, size, option, optionTable[i].expected);
    }
    char known[600] = "one of";
    for (size_t i = 0, n = strlen(known); i < OPTIONS; i++)
        n += (size_t)snprintf(known + n, sizeof known - n, " %s", optionTable[i].name);
    return complain(message, size, option, known);
}

RtsStatus applyOptions(RtsConfig *config, const char *options, char *message, size_t size)
{
    char one[300];
    while (options != NULL && *options != 0) {
        while (*options == ' ') options++;
        size_t length = strcspn(options, " ");
        if (length == 0) break;
        size_t kept = length < sizeof one ? length : sizeof one - 1; /* more than any option has */
        memcpy(one, options, kept);
        one[kept] = 0;
        RtsStatus status = applyOption(config, one, message, size);
        if (status == RTS_OK && kept < length) return complain(message, size, one, "something shorter");
        if (status != RTS_OK) return status;
        options += length;
    }
    return RTS_OK;
}

RtsStatus applyArgs(RtsConfig *config, int *argc, char **argv[], char *message, size_t size)
{
    if (argc == NULL || argv == NULL || *argv == NULL) return RTS_OK;
    RtsStatus status = RTS_OK;
    char **args = *argv;
    int kept = 0;
    bool ours = false, over = false;
    for (int i = 0; i < *argc; i++) {
        if (!over && i > 0) {
            if (strcmp(args[i], "--") == 0 && !ours) over = true;
            else if (strcmp(args[i], "--RTS") == 0) { over = true; continue; }
            else if (strcmp(args[i], "+RTS") == 0) { ours = true; continue; }
            else if (strcmp(args[i], "-RTS") == 0 && ours) { ours = false; continue; }
            else if (ours) {
                if (status == RTS_OK) status = applyOption(config, args[i], message, size);
                continue;
            }
        }
        args[kept++] = args[i];
    }
    if (kept < *argc) args[kept] = NULL;
    *argc = kept;
    return status;
}

static RtsStatus wrong(char *message, size_t size, const char *what)
{
    if (message != NULL && size > 0) snprintf(message, size, "%s", what);
    return RTS_BAD_OPTION;
}

/* Reserves alone may exceed a limit: then nothing would ever run. */
static RtsStatus checkLimit(const RtsConfig *c, char *message, size_t size)
{
    if (c->heap_limit_bytes == 0) return RTS_OK;
    if (c->heap_limit_bytes < MIN_LIMIT || c->heap_limit_bytes < 4 * c->nursery_bytes)
        return wrong(message, size, "heap_limit_bytes (-M): expected 0 (none), or 4 MiB and four nurseries (-A) at least");
    HeapSettings s = { .nurseryBytes = c->nursery_bytes, .limitBytes = c->heap_limit_bytes, .capabilities = c->capabilities };
    size_t least = leastLimit(&s);
    if (c->heap_limit_bytes >= least) return RTS_OK;
    char text[120];
    snprintf(text, sizeof text, "heap_limit_bytes (-M): %u capabilities (-N) need %zu MiB at least", c->capabilities, least >> 20);
    return wrong(message, size, text);
}

#ifdef CAPSTAN_TORTURE
_Atomic unsigned tortureEvery = 4;

static RtsStatus readTorture(char *message, size_t size)
{
    size_t n = 4;
    const char *text = getenv("CAPSTAN_TORTURE_EVERY");
    if (text != NULL && (!parseNumber(text, false, &n) || n < 1 || n > 1000000))
        return wrong(message, size, "CAPSTAN_TORTURE_EVERY: expected a number of safepoints, 1 to 1000000");
    tortureEvery = (unsigned)n;
    return RTS_OK;
}
#else
static RtsStatus readTorture(char *message, size_t size) { return RTS_OK; }
#endif

RtsStatus checkConfig(const RtsConfig *c, char *message, size_t size)
{
    if ((unsigned)c->rts_opts_enabled > RtsOptsAll) return wrong(message, size, "rts_opts_enabled: expected one of RtsOptsEnabled");
    if (c->capabilities > MAX_CAPABILITIES) return wrong(message, size, "capabilities (-N): expected 1 to 1024");
    if (c->nursery_bytes != 0 && (c->nursery_bytes < MIN_NURSERY || c->nursery_bytes > MAX_NURSERY))
        return wrong(message, size, "nursery_bytes (-A): expected 64 KiB to 64 GiB");
    RtsStatus status = checkLimit(c, message, size);
    if (status == RTS_OK) status = readTorture(message, size);
    if (status != RTS_OK) return status;
    if (c->debug_numa_nodes > TOPOLOGY_NODES_PRETENDED_MAX)
        return wrong(message, size, "debug_numa_nodes (--debug-numa): expected 0 (as the machine has) to 65536");
    if (c->foreign_stack_bytes < 16 << 10)
        return wrong(message, size, "foreign_stack_bytes (--foreign-stack): expected 16 KiB at least");
    if (c->slice_us < 100 || c->slice_us > MAX_QUANTUM)
        return wrong(message, size, "slice_us (--slice): expected 100 microseconds to ten seconds");
    if (c->stack_bytes < MIN_STACK_SLOT || c->stack_bytes > MAX_STACK_SLOT)
        return wrong(message, size, "stack_bytes (--stack): expected 128 KiB to 1 GiB");
    if (c->interrupt_signal != 0 && !osIsInterrupt(c->interrupt_signal))
        return wrong(message, size, "interrupt_signal: expected 0 (none), or a signal that can be caught and means no fault");
    if ((unsigned)c->stats > RtsStatsJson) return wrong(message, size, "stats (-s, --stats-json): expected one of RtsStatsFormat");
    if (memchr(c->stats_file, 0, sizeof c->stats_file) == NULL) return wrong(message, size, "stats_file: expected a final zero");
    if (c->quantum_us > MAX_QUANTUM) return wrong(message, size, "quantum_us (--quantum): expected at most ten seconds");
    return RTS_OK;
}

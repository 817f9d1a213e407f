/* stress/incall: options, the beginning and the end.
 *
 *     stress/incall --threads=8 --capabilities=2 --seconds=600
 *
 * Exit status: 0 all well, 1 something came out wrong, 2 bad usage, 3 it hangs. */
#include "incall.h"

#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#if defined(__has_include)
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#endif
#endif
#ifndef RUNNING_ON_VALGRIND
#define RUNNING_ON_VALGRIND 0
#endif

const char *const actionNames[ACTIONS] = {
    [ACTION_PLAIN] = "plain",     [ACTION_VALUES] = "values", [ACTION_RAISE] = "raise",     [ACTION_CATCH] = "catch",
    [ACTION_HOG] = "hog",         [ACTION_NEST] = "nest",     [ACTION_BURROW] = "burrow",   [ACTION_STABLE] = "stable",
    [ACTION_GC] = "gc",           [ACTION_SHARED] = "shared", [ACTION_CAF] = "caf",         [ACTION_FRAGILE] = "fragile",
    [ACTION_BYTES] = "bytes",     [ACTION_COUNTER] = "counter", [ACTION_VISIT] = "visit",   [ACTION_POLL] = "poll",
    [ACTION_DEEP] = "deep",       [ACTION_TRY] = "try",       [ACTION_LIST] = "list",       [ACTION_PREFER] = "prefer",
};
const char *const restartNames[RESTART_MIXED + 1] = { "calm", "rough", "overlap", "mixed" };

Options options = {
    .threads = 8,
    .seconds = 10,
    .capabilities = 2,
    .nursery = 256 << 10,
    .heapLimit = 32 << 20,
    .restartEvery = 2000,
    .restartMode = RESTART_MIXED,
    .weights = { [ACTION_PLAIN] = 400, [ACTION_VALUES] = 100, [ACTION_RAISE] = 80, [ACTION_CATCH] = 80, [ACTION_HOG] = 2,
                 [ACTION_NEST] = 60, [ACTION_BURROW] = 2, [ACTION_STABLE] = 100, [ACTION_GC] = 5, [ACTION_SHARED] = 150,
                 [ACTION_CAF] = 30, [ACTION_FRAGILE] = 40, [ACTION_BYTES] = 100, [ACTION_COUNTER] = 150,
                 [ACTION_VISIT] = 25, [ACTION_POLL] = 3, [ACTION_DEEP] = 8, [ACTION_TRY] = 60, [ACTION_LIST] = 80,
                 [ACTION_PREFER] = 10 },
};

/* ---- Options ------------------------------------------------------------------------------------------------------- */

enum { KEY_THREADS = 256, KEY_ITERS, KEY_SECONDS, KEY_SEED, KEY_CAPABILITIES, KEY_NURSERY, KEY_HEAP_LIMIT, KEY_MIX,
       KEY_RESTART_EVERY, KEY_RESTART_MODE, KEY_VERIFY_HEAP, KEY_POISON, KEY_NO_MEMBARRIER, KEY_PATIENCE, KEY_QUIET };

static const struct argp_option argpOptions[] = {
    { "threads", KEY_THREADS, "N", 0, "Worker threads (8)", 0 },
    { "iters", KEY_ITERS, "N", 0, "Actions of each worker; 0, the default, for as many as the time allows", 0 },
    { "seconds", KEY_SECONDS, "S", 0, "Longest time to run (10); 0: until the iterations are done", 0 },
    { "seed", KEY_SEED, "N", 0, "Seed of all random choices; by default another at each run", 0 },
    { "capabilities", KEY_CAPABILITIES, "N", 0, "Capabilities (2); 0: as many as processors", 0 },
    { "nursery", KEY_NURSERY, "SIZE", 0, "Nursery of a capability (256k)", 0 },
    { "heap-limit", KEY_HEAP_LIMIT, "SIZE", 0, "Limit of the heap in rounds that have one (32m); 0: none has", 0 },
    { "mix", KEY_MIX, "NAME=N,...", 0, "Weights of actions; all=N sets those that follow none", 0 },
    { "restart-every", KEY_RESTART_EVERY, "N", 0, "Actions of each worker in a round (2000); 0: never restart", 0 },
    { "restart-mode", KEY_RESTART_MODE, "MODE", 0,
      "calm: no call is running when the runtime ends; rough: they are; overlap: and go on; mixed, the default", 0 },
    { "verify-heap", KEY_VERIFY_HEAP, NULL, 0, "Check the heap around each collection", 0 },
    { "poison", KEY_POISON, NULL, 0, "Overwrite what collections leave behind", 0 },
    { "no-membarrier", KEY_NO_MEMBARRIER, NULL, 0, "As where the kernel refuses membarrier", 0 },
    { "patience", KEY_PATIENCE, "S", 0, "Seconds without progress that count as hanging (20, slow builds 200)", 0 },
    { "quiet", KEY_QUIET, NULL, 0, "No progress lines", 0 },
    { 0 },
};

/* A number with k, m or g behind it. */
static uint64_t parseSize(struct argp_state *state, const char *text)
{
    char *end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 0);
    switch (*end) {
    case 'g': case 'G': value <<= 10; /* fall through */
    case 'm': case 'M': value <<= 10; /* fall through */
    case 'k': case 'K': value <<= 10; end++;
    }
    if (errno != 0 || end == text || *end != 0) argp_error(state, "'%s' is not a number", text);
    return value;
}

static int findName(const char *const *names, int count, const char *name, size_t length)
{
    for (int i = 0; i < count; i++)
        if (strlen(names[i]) == length && strncmp(names[i], name, length) == 0) return i;
    return -1;
}

static void parseMix(struct argp_state *state, const char *text)
{
    while (*text != 0) {
        size_t item = strcspn(text, ","), name = strcspn(text, "=,");
        int action = findName(actionNames, ACTIONS, text, name);
        bool all = name == 3 && strncmp(text, "all", 3) == 0;
        if ((action < 0 && !all) || text[name] != '=') argp_error(state, "in the mix: '%.*s'", (int)item, text);
        unsigned weight = (unsigned)strtoul(text + name + 1, NULL, 10);
        for (int i = 0; all && i < ACTIONS; i++) options.weights[i] = weight;
        if (!all) options.weights[action] = weight;
        text += item;
        if (*text == ',') text++;
    }
}

static void parseRestartMode(struct argp_state *state, const char *text)
{
    int mode = findName(restartNames, RESTART_MIXED + 1, text, strlen(text));
    if (mode < 0) argp_error(state, "'%s' is none of calm, rough, overlap, mixed", text);
    options.restartMode = (RestartMode)mode;
}

static error_t parseOption(int key, char *arg, struct argp_state *state)
{
    switch (key) {
    case KEY_THREADS: options.threads = (unsigned)parseSize(state, arg); break;
    case KEY_ITERS: options.iters = parseSize(state, arg); break;
    case KEY_SECONDS: options.seconds = strtod(arg, NULL); break;
    case KEY_SEED: options.seed = parseSize(state, arg); break;
    case KEY_CAPABILITIES: options.capabilities = (unsigned)parseSize(state, arg); break;
    case KEY_NURSERY: options.nursery = parseSize(state, arg); break;
    case KEY_HEAP_LIMIT: options.heapLimit = parseSize(state, arg); break;
    case KEY_MIX: parseMix(state, arg); break;
    case KEY_RESTART_EVERY: options.restartEvery = parseSize(state, arg); break;
    case KEY_RESTART_MODE: parseRestartMode(state, arg); break;
    case KEY_VERIFY_HEAP: options.verifyHeap = true; break;
    case KEY_POISON: options.poison = true; break;
    case KEY_NO_MEMBARRIER: options.noMembarrier = true; break;
    case KEY_PATIENCE: options.patience = (unsigned)parseSize(state, arg); break;
    case KEY_QUIET: options.quiet = true; break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp argpParser = { argpOptions, parseOption, NULL,
    "Many C threads call in, in every way at once; every status, result and total is checked.", NULL, NULL, NULL };

static void parseOptions(int argc, char **argv)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    options.seed = (uint64_t)now.tv_nsec ^ (uint64_t)now.tv_sec << 10 ^ (uint64_t)getpid() << 40;
    bool slow = STRESS_SANITIZED || RUNNING_ON_VALGRIND;
#ifdef CAPSTAN_TORTURE
    slow = true;
    options.nursery = 64 << 10;
    options.heapLimit = 5 << 20; /* filled with a collection at every safepoint */
#endif
    options.patience = slow ? 200 : 20;
    argp_err_exit_status = 2;
    argp_parse(&argpParser, argc, argv, 0, NULL, NULL);
    uint64_t weights = 0;
    for (int i = 0; i < ACTIONS; i++) weights += options.weights[i];
    if (options.threads == 0 || weights == 0 || (options.iters == 0 && options.seconds <= 0)) {
        fputs("stress: nothing to do\n", stderr);
        exit(2);
    }
}

void printReplay(FILE *to)
{
    fprintf(to, "stress/incall --seed=%" PRIu64 " --threads=%u --iters=%" PRIu64 " --seconds=%g --capabilities=%u"
            " --nursery=%zu --heap-limit=%zu --restart-every=%" PRIu64 " --restart-mode=%s%s%s%s --mix=", options.seed,
            options.threads, options.iters, options.seconds, options.capabilities, options.nursery, options.heapLimit,
            options.restartEvery, restartNames[options.restartMode], options.verifyHeap ? " --verify-heap" : "",
            options.poison ? " --poison" : "", options.noMembarrier ? " --no-membarrier" : "");
    for (int i = 0; i < ACTIONS; i++)
        fprintf(to, "%s%s=%u", i > 0 ? "," : "", actionNames[i], options.weights[i]);
    fputc('\n', to);
}

/* ---- The end ------------------------------------------------------------------------------------------------------- */

static void checkOutcomes(const Outcomes *all)
{
    uint64_t ended = all->succeeded + all->killed + all->exhausted + all->interrupted + all->refused + all->busy;
    EXPECT(NULL, all->begun == ended, "%" PRIu64 " calls began and %" PRIu64 " ended", all->begun, ended);
}

static void printEnd(const Outcomes *all)
{
    printf("stress: %u rounds; %" PRIu64 " calls: %" PRIu64 " succeeded, %" PRIu64 " killed, %" PRIu64 " exhausted, %" PRIu64
           " interrupted, %" PRIu64 " refused, %" PRIu64 " busy; %" PRIu64 " collections, %" PRIu64 " long stops\n",
           countRounds(), all->begun, all->succeeded, all->killed, all->exhausted, all->interrupted, all->refused, all->busy,
           atomic_load(&game.collections), atomic_load(&game.longStops));
    unsigned failures = atomic_load(&game.failures);
    if (failures == 0) {
        printf("stress: ok, seed %" PRIu64 "\n", options.seed);
    } else {
        printf("stress: FAILED: %u times; replay: ", failures);
        printReplay(stdout);
    }
}

int main(int argc, char **argv)
{
    Outcomes all = { 0 };
    parseOptions(argc, argv);
    printf("stress: ");
    printReplay(stdout);
    fflush(stdout);
    game.workers = calloc(options.threads, sizeof *game.workers);
    if (game.workers == NULL) return 1;
    startWatch();
    playRounds();
    stopWatch();
    for (unsigned i = 0; i < options.threads; i++) addOutcomes(&all, &game.workers[i].outcomes);
    checkOutcomes(&all);
    printEnd(&all);
    free(game.workers);
    return atomic_load(&game.failures) == 0 ? 0 : 1;
}

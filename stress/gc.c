/* stress/gc: options, the beginning and the end.
 *
 *     stress/gc --threads=3 --managed=4 --capabilities=2 --seconds=600
 *
 * The seed gives every mutator's decisions; what comes from the others depends on time.
 * Exit status: 0 all well, 1 something came out wrong, 2 bad usage, 3 it hangs. */
#include "gc.h"

#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

const char *const stepNames[STEPS] = {
    [STEP_NEW] = "new",             [STEP_WRITE] = "write",         [STEP_CAS] = "cas",             [STEP_ELEM] = "elem",
    [STEP_FILL] = "fill",           [STEP_MOVE] = "move",           [STEP_COPY] = "copy",           [STEP_DROP] = "drop",
    [STEP_STABLE] = "stable",       [STEP_GARBAGE] = "garbage",     [STEP_POLL] = "poll",           [STEP_MINOR] = "minor",
    [STEP_MAJOR] = "major",         [STEP_COMPARE] = "compare",     [STEP_FORCE] = "force",         [STEP_CALL] = "call",
    [STEP_TAIL] = "tail",           [STEP_RAISE] = "raise",         [STEP_PUT] = "put",             [STEP_TAKE] = "take",
    [STEP_PARK] = "park",           [STEP_SLEEPER] = "sleeper",     [STEP_TALK] = "talk",           [STEP_THROW] = "throw",
    [STEP_FORK] = "fork",           [STEP_LIST] = "list",           [STEP_YIELD] = "yield",         [STEP_DELAY] = "delay",
    [STEP_NEST] = "nest",           [STEP_BOUND] = "bound",         [STEP_SUBMIT] = "submit",       [STEP_STABLE_IO] = "stable-io",
    [STEP_TIMEOUT] = "timeout",     [STEP_LONG] = "long",           [STEP_BALLAST] = "ballast",     [STEP_SEND] = "send",
    [STEP_RECEIVE] = "receive",     [STEP_PUSH] = "push",           [STEP_POP] = "pop",             [STEP_STALL] = "stall",
    [STEP_SHARED] = "shared",       [STEP_CAF] = "caf",             [STEP_WEAK] = "weak",
};

#if defined(CAPSTAN_TORTURE)
#define SCALE 64
#define BALLAST (160 << 10)
#elif defined(STRESS_SANITIZED)
#define SCALE 4
#define BALLAST (12 << 20)
#else
#define SCALE 1
#define BALLAST (12 << 20)
#endif

Options options = {
    .threads = 3,
    .managed = 4,
    .steps = 20000 / SCALE,
    .seconds = 10,
    .capabilities = 2,
    .nursery = 64 << 10,
    .live = (400 << 10) / SCALE,
    .ballast = BALLAST,
    .longest = 100000 / SCALE / SCALE,
    .largest = 20000 / SCALE,
    .collectEvery = 20000,
    .shortcut = 16,
    .weights = { [STEP_NEW] = 100, [STEP_WRITE] = 120, [STEP_CAS] = 60, [STEP_ELEM] = 100, [STEP_FILL] = 20, [STEP_MOVE] = 60,
                 [STEP_COPY] = 40, [STEP_DROP] = 30, [STEP_STABLE] = 30, [STEP_GARBAGE] = 60, [STEP_POLL] = 20, [STEP_MINOR] = 6,
                 [STEP_MAJOR] = 1, [STEP_COMPARE] = 2, [STEP_FORCE] = 100, [STEP_CALL] = 50, [STEP_TAIL] = 8, [STEP_RAISE] = 20,
                 [STEP_PUT] = 40, [STEP_TAKE] = 30, [STEP_PARK] = 20, [STEP_SLEEPER] = 15, [STEP_TALK] = 60, [STEP_THROW] = 15,
                 [STEP_FORK] = 6, [STEP_LIST] = 2, [STEP_YIELD] = 10, [STEP_DELAY] = 2, [STEP_NEST] = 8, [STEP_BOUND] = 3,
                 [STEP_SUBMIT] = 3, [STEP_STABLE_IO] = 5, [STEP_TIMEOUT] = 3, [STEP_LONG] = 2, [STEP_BALLAST] = 12, [STEP_SEND] = 20,
                 [STEP_RECEIVE] = 25, [STEP_PUSH] = 20, [STEP_POP] = 8, [STEP_STALL] = 25, [STEP_SHARED] = 20, [STEP_CAF] = 5,
                 [STEP_WEAK] = 25 },
};

/* ---- Options ------------------------------------------------------------------------------------------------------- */

enum { KEY_THREADS = 256, KEY_MANAGED, KEY_STEPS, KEY_ROUNDS, KEY_SECONDS, KEY_SEED, KEY_CAPABILITIES, KEY_NURSERY, KEY_LIVE, KEY_LIMIT, KEY_BALLAST,
       KEY_LONGEST, KEY_LARGEST, KEY_COLLECT_EVERY, KEY_SHORTCUT, KEY_MIX, KEY_VERIFY_HEAP, KEY_POISON, KEY_NO_MEMBARRIER, KEY_DEBUG_NUMA,
       KEY_PATIENCE, KEY_QUIET };

static const struct argp_option argpOptions[] = {
    { "threads", KEY_THREADS, "N", 0, "C threads that call in (3)", 0 },
    { "managed", KEY_MANAGED, "N", 0, "Managed threads (4), each on a capability", 0 },
    { "steps", KEY_STEPS, "N", 0, "Steps of each in a round (20000); 0: one round", 0 },
    { "rounds", KEY_ROUNDS, "N", 0, "Rounds; 0, the default, for as many as the time allows", 0 },
    { "seconds", KEY_SECONDS, "S", 0, "Longest time to run (10); 0: until the rounds are done", 0 },
    { "seed", KEY_SEED, "N", 0, "Seed of all random choices; by default another at each run", 0 },
    { "capabilities", KEY_CAPABILITIES, "N", 0, "Capabilities (2)", 0 },
    { "nursery", KEY_NURSERY, "SIZE", 0, "Nursery of a capability (64k)", 0 },
    { "live", KEY_LIVE, "SIZE", 0, "Bytes of each graph, about (400k)", 0 },
    { "limit", KEY_LIMIT, "SIZE", 0, "Limit of the heap (none), many times of what all graphs need", 0 },
    { "ballast", KEY_BALLAST, "SIZE", 0, "Bytes of lists that all share (12m)", 0 },
    { "longest", KEY_LONGEST, "N", 0, "Cells of a list (100000)", 0 },
    { "largest", KEY_LARGEST, "N", 0, "Elements of an array (20000)", 0 },
    { "collect-every", KEY_COLLECT_EVERY, "US", 0, "Microseconds between collections from outside, on average (20000); 0: none", 0 },
    { "shortcut", KEY_SHORTCUT, "N", 0, "Follow long lists to their ends at each N-th comparison (16)", 0 },
    { "mix", KEY_MIX, "NAME=W,...", 0, "Weights of steps; \"only\" first sets all others to 0", 0 },
    { "verify-heap", KEY_VERIFY_HEAP, NULL, 0, "Let the collector check the heap", 0 },
    { "poison", KEY_POISON, NULL, 0, "Let the collector overwrite what it leaves", 0 },
    { "no-membarrier", KEY_NO_MEMBARRIER, NULL, 0, "Act as where the kernel refuses membarrier", 0 },
    { "debug-numa", KEY_DEBUG_NUMA, "N", 0, "Pretend so many nodes", 0 },
    { "patience", KEY_PATIENCE, "S", 0, "Seconds without progress before giving up (60)", 0 },
    { "quiet", KEY_QUIET, NULL, 0, "No progress lines", 0 },
    { 0 },
};

static uint64_t parseNumber(const char *text, struct argp_state *state)
{
    char *end;
    errno = 0;
    uint64_t number = strtoull(text, &end, 0);
    unsigned shift = *end == 'k' ? 10 : *end == 'm' ? 20 : *end == 'g' ? 30 : 0;
    if (errno != 0 || end == text || end[shift != 0] != 0) argp_error(state, "\"%s\" is no number", text);
    return number << shift;
}

static int findStep(const char *name, size_t length)
{
    for (int i = 0; i < STEPS; i++)
        if (strlen(stepNames[i]) == length && memcmp(stepNames[i], name, length) == 0) return i;
    return -1;
}

static void parseMix(char *text, struct argp_state *state)
{
    for (char *item = strtok(text, ","); item != NULL; item = strtok(NULL, ",")) {
        if (strcmp(item, "only") == 0) {
            memset(options.weights, 0, sizeof options.weights);
            continue;
        }
        size_t length = strcspn(item, "=");
        int kind = findStep(item, length);
        if (kind < 0 || item[length] == 0) argp_error(state, "--mix: what is \"%s\"?", item);
        else options.weights[kind] = (unsigned)parseNumber(item + length + 1, state);
    }
}

static error_t parseOption(int key, char *arg, struct argp_state *state)
{
    switch (key) {
    case KEY_THREADS: options.threads = (unsigned)parseNumber(arg, state); break;
    case KEY_MANAGED: options.managed = (unsigned)parseNumber(arg, state); break;
    case KEY_STEPS: options.steps = parseNumber(arg, state); break;
    case KEY_ROUNDS: options.rounds = (unsigned)parseNumber(arg, state); break;
    case KEY_SECONDS: options.seconds = strtod(arg, NULL); break;
    case KEY_SEED: options.seed = parseNumber(arg, state); break;
    case KEY_CAPABILITIES: options.capabilities = (unsigned)parseNumber(arg, state); break;
    case KEY_NURSERY: options.nursery = parseNumber(arg, state); break;
    case KEY_LIVE: options.live = parseNumber(arg, state); break;
    case KEY_LIMIT: options.limit = parseNumber(arg, state); break;
    case KEY_BALLAST: options.ballast = parseNumber(arg, state); break;
    case KEY_LONGEST: options.longest = parseNumber(arg, state); break;
    case KEY_LARGEST: options.largest = (unsigned)parseNumber(arg, state); break;
    case KEY_COLLECT_EVERY: options.collectEvery = (unsigned)parseNumber(arg, state); break;
    case KEY_SHORTCUT: options.shortcut = (unsigned)parseNumber(arg, state); break;
    case KEY_MIX: parseMix(arg, state); break;
    case KEY_VERIFY_HEAP: options.verifyHeap = true; break;
    case KEY_POISON: options.poison = true; break;
    case KEY_NO_MEMBARRIER: options.noMembarrier = true; break;
    case KEY_DEBUG_NUMA: options.debugNuma = (unsigned)parseNumber(arg, state); break;
    case KEY_PATIENCE: options.patience = (unsigned)parseNumber(arg, state); break;
    case KEY_QUIET: options.quiet = true; break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static void parseOptions(int argc, char **argv)
{
    static const struct argp parser = { argpOptions, parseOption, NULL,
                                        "Random graphs of managed objects, compared with mirrors in C memory.", NULL, NULL, NULL };
    argp_err_exit_status = 2;
    options.seed = (uint64_t)time(NULL) * 1000003u ^ (uint64_t)getpid();
    options.patience = 60;
    argp_parse(&parser, argc, argv, 0, NULL, NULL);
    uint64_t weights = 0;
    for (int i = 0; i < STEPS; i++) weights += options.weights[i];
    if (options.capabilities == 0) options.capabilities = 1;
    if (options.shortcut == 0) options.shortcut = 1;
    if (options.longest < 200) options.longest = 200;
    if (options.threads + options.managed == 0 || weights == 0 || (options.seconds <= 0 && (options.rounds == 0 || options.steps == 0))) {
        fputs("stress: nothing to do, or no end to it\n", stderr);
        exit(2);
    }
}

void printReplay(FILE *to)
{
    const Options *o = &options;
    fprintf(to, "stress/gc --seed=%" PRIu64 " --threads=%u --managed=%u --steps=%" PRIu64 " --rounds=%u --seconds=%g --capabilities=%u"
            " --nursery=%zu --live=%zu --ballast=%zu --longest=%zu --largest=%u --collect-every=%u --shortcut=%u%s%s%s", o->seed, o->threads, o->managed,
            o->steps, o->rounds, o->seconds, o->capabilities, o->nursery, o->live, o->ballast, o->longest, o->largest, o->collectEvery, o->shortcut,
            o->verifyHeap ? " --verify-heap" : "", o->poison ? " --poison" : "", o->noMembarrier ? " --no-membarrier" : "");
    if (o->limit != 0) fprintf(to, " --limit=%zu", o->limit);
    if (o->debugNuma != 0) fprintf(to, " --debug-numa=%u", o->debugNuma);
    fputs(" --mix=", to);
    for (int i = 0; i < STEPS; i++) fprintf(to, "%s%s=%u", i > 0 ? "," : "", stepNames[i], o->weights[i]);
    fputc('\n', to);
}

/* ---- The end ------------------------------------------------------------------------------------------------------- */

static void printEnd(const uint64_t totals[6])
{
    printf("stress: %u rounds, %" PRIu64 " steps, %" PRIu64 " objects made; %" PRIu64 " collections, %" PRIu64 " comparisons of %" PRIu64
           " objects; %" PRIu64 " parcels received, %" PRIu64 " answers of parked threads\n", game.round, totals[0], totals[1],
           atomic_load(&game.collections), totals[2], totals[3], totals[4], totals[5]);
    unsigned failures = atomic_load(&game.failures);
    if (failures == 0) {
        printf("stress: ok, seed %" PRIu64 "\n", options.seed);
    } else {
        printf("stress: FAILED: %u times; replay: ", failures);
        printReplay(stdout);
    }
}

static void sumUp(uint64_t totals[6])
{
    for (unsigned i = 0; i < 2 * game.count; i++) {
        const Mutator *m = &game.mutators[i];
        totals[0] += m->progress;
        totals[1] += m->made;
        totals[2] += m->comparisons;
        totals[3] += m->objects;
        totals[4] += m->received;
        totals[5] += m->talks;
    }
}

int main(int argc, char **argv)
{
    uint64_t totals[6] = { 0 };
    parseOptions(argc, argv);
    printf("stress: ");
    printReplay(stdout);
    fflush(stdout);
    if (!createMutators()) {
        fputs("stress: no memory\n", stderr);
        return 1;
    }
    startWatch();
    playRounds();
    stopWatch();
    sumUp(totals);
    printEnd(totals);
    freeMutators();
    return atomic_load(&game.failures) == 0 ? 0 : 1;
}

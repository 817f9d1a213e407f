/* stress/sched: options, the beginning and the end.
 *
 *     stress/sched --threads=4 --capabilities=2 --seconds=600
 *
 * The seed gives every script; what the threads make of them depends on time.
 * Exit status: 0 all well, 1 something came out wrong, 2 bad usage, 3 it hangs. */
#include "sched.h"

#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

const char *const stepNames[STEPS] = {
    [STEP_TAKE] = "take",         [STEP_PUT] = "put",         [STEP_TRY_TAKE] = "try-take", [STEP_TRY_PUT] = "try-put",
    [STEP_READ] = "read",         [STEP_MINT] = "mint",       [STEP_BURN] = "burn",         [STEP_THUNK] = "thunk",
    [STEP_THROW] = "throw",       [STEP_FORK] = "fork",       [STEP_LOCK] = "lock",         [STEP_UNMASK] = "unmask",
    [STEP_ALLOW] = "allow",       [STEP_YIELD] = "yield",     [STEP_DELAY] = "delay",       [STEP_SPIN] = "spin",
    [STEP_ALLOCATE] = "allocate", [STEP_CALL] = "call",       [STEP_NEST] = "nest",         [STEP_COLLECT] = "collect",
    [STEP_OUTSIDE] = "outside",   [STEP_PIPE] = "pipe",       [STEP_LOSE] = "lose",         [STEP_LOOP] = "loop",
    [STEP_TIMEOUT] = "timeout",   [STEP_FORK_OS] = "fork-os", [STEP_BOUND] = "bound",       [STEP_BREAK] = "break",
    [STEP_LOOK] = "look",         [STEP_BUDGET] = "budget",   [STEP_CANCEL] = "cancel",     [STEP_LIMIT] = "limit",
    [STEP_SWAT] = "swat",         [STEP_SUBMIT] = "submit",   [STEP_LEAVE] = "leave",
};
const char *const restartNames[RESTART_MIXED + 1] = { "calm", "rough", "overlap", "mixed" };

Options options = {
    .threads = 4,
    .seconds = 10,
    .capabilities = 2,
    .nursery = 256 << 10,
    .actors = 24,
    .script = 40,
    .restartEvery = 100,
    .restartMode = RESTART_MIXED,
    .weights = { [STEP_TAKE] = 100, [STEP_PUT] = 100, [STEP_TRY_TAKE] = 20, [STEP_TRY_PUT] = 20, [STEP_READ] = 20,
                 [STEP_MINT] = 30, [STEP_BURN] = 10, [STEP_THUNK] = 40, [STEP_THROW] = 40, [STEP_FORK] = 20, [STEP_LOCK] = 20,
                 [STEP_UNMASK] = 20, [STEP_ALLOW] = 20, [STEP_YIELD] = 40, [STEP_DELAY] = 15, [STEP_SPIN] = 10,
                 [STEP_ALLOCATE] = 10, [STEP_CALL] = 15, [STEP_NEST] = 10, [STEP_COLLECT] = 2, [STEP_OUTSIDE] = 15,
                 [STEP_PIPE] = 15, [STEP_LOSE] = 2, [STEP_LOOP] = 4, [STEP_TIMEOUT] = 30, [STEP_FORK_OS] = 5,
                 [STEP_BOUND] = 8, [STEP_BREAK] = 4, [STEP_LOOK] = 8, [STEP_BUDGET] = 15, [STEP_CANCEL] = 15, [STEP_LIMIT] = 5,
                 [STEP_SWAT] = 10, [STEP_SUBMIT] = 10,
                 [STEP_LEAVE] = 10 },
};

/* ---- Options ------------------------------------------------------------------------------------------------------- */

enum { KEY_THREADS = 256, KEY_ITERS, KEY_SECONDS, KEY_SEED, KEY_CAPABILITIES, KEY_NURSERY, KEY_ACTORS, KEY_SCRIPT, KEY_MIX,
       KEY_RESTART_EVERY, KEY_RESTART_MODE, KEY_VERIFY_HEAP, KEY_POISON, KEY_NO_MEMBARRIER, KEY_PATIENCE, KEY_QUIET, KEY_ALL };

static const struct argp_option argpOptions[] = {
    { "threads", KEY_THREADS, "N", 0, "C threads (4)", 0 },
    { "iters", KEY_ITERS, "N", 0, "Scenes and visits of each; 0, the default, for as many as the time allows", 0 },
    { "seconds", KEY_SECONDS, "S", 0, "Longest time to run (10); 0: until the iterations are done", 0 },
    { "seed", KEY_SEED, "N", 0, "Seed of all random choices; by default another at each run", 0 },
    { "capabilities", KEY_CAPABILITIES, "N", 0, "Capabilities (2); 0: as many as processors", 0 },
    { "nursery", KEY_NURSERY, "SIZE", 0, "Nursery of a capability (256k)", 0 },
    { "actors", KEY_ACTORS, "N", 0, "Actors of a scene at most (24)", 0 },
    { "script", KEY_SCRIPT, "N", 0, "Steps of an actor at most (40)", 0 },
    { "mix", KEY_MIX, "NAME=W,...", 0, "Weights of steps; \"only\" first sets all others to 0", 0 },
    { "all-steps", KEY_ALL, NULL, 0, "No scene leaves a part of the steps out", 0 },
    { "restart-every", KEY_RESTART_EVERY, "N", 0, "Scenes and visits of each C thread in a round (100); 0: one round", 0 },
    { "restart-mode", KEY_RESTART_MODE, "MODE", 0, "How a round ends: calm, rough, overlap or mixed (mixed)", 0 },
    { "verify-heap", KEY_VERIFY_HEAP, NULL, 0, "Let the collector check the heap", 0 },
    { "poison", KEY_POISON, NULL, 0, "Let the collector overwrite what it leaves", 0 },
    { "no-membarrier", KEY_NO_MEMBARRIER, NULL, 0, "Act as where the kernel refuses membarrier", 0 },
    { "patience", KEY_PATIENCE, "S", 0, "Seconds without progress before giving up (30)", 0 },
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

static int findName(const char *name, size_t length, const char *const names[], int count)
{
    for (int i = 0; i < count; i++)
        if (strlen(names[i]) == length && memcmp(names[i], name, length) == 0) return i;
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
        int kind = findName(item, length, stepNames, STEPS);
        if (kind < 0 || item[length] == 0) argp_error(state, "--mix: what is \"%s\"?", item);
        else options.weights[kind] = (unsigned)parseNumber(item + length + 1, state);
    }
}

static void parseRestartMode(const char *name, struct argp_state *state)
{
    int mode = findName(name, strlen(name), restartNames, RESTART_MIXED + 1);
    if (mode < 0) argp_error(state, "--restart-mode: calm, rough, overlap or mixed");
    else options.restartMode = (RestartMode)mode;
}

static error_t parseOption(int key, char *arg, struct argp_state *state)
{
    switch (key) {
    case KEY_THREADS: options.threads = (unsigned)parseNumber(arg, state); break;
    case KEY_ITERS: options.iters = parseNumber(arg, state); break;
    case KEY_SECONDS: options.seconds = strtod(arg, NULL); break;
    case KEY_SEED: options.seed = parseNumber(arg, state); break;
    case KEY_CAPABILITIES: options.capabilities = (unsigned)parseNumber(arg, state); break;
    case KEY_NURSERY: options.nursery = parseNumber(arg, state); break;
    case KEY_ACTORS: options.actors = (unsigned)parseNumber(arg, state); break;
    case KEY_SCRIPT: options.script = (unsigned)parseNumber(arg, state); break;
    case KEY_MIX: parseMix(arg, state); break;
    case KEY_ALL: options.all = true; break;
    case KEY_RESTART_EVERY: options.restartEvery = parseNumber(arg, state); break;
    case KEY_RESTART_MODE: parseRestartMode(arg, state); break;
    case KEY_VERIFY_HEAP: options.verifyHeap = true; break;
    case KEY_POISON: options.poison = true; break;
    case KEY_NO_MEMBARRIER: options.noMembarrier = true; break;
    case KEY_PATIENCE: options.patience = (unsigned)parseNumber(arg, state); break;
    case KEY_QUIET: options.quiet = true; break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static void parseOptions(int argc, char **argv)
{
    static const struct argp parser = { argpOptions, parseOption, NULL,
                                        "Random programs of threads, every outcome checked.", NULL, NULL, NULL };
    argp_err_exit_status = 2;
    options.seed = (uint64_t)time(NULL) * 1000003u ^ (uint64_t)getpid();
    options.patience = 30;
    argp_parse(&parser, argc, argv, 0, NULL, NULL);
    uint64_t weights = 0;
    for (int i = 0; i < STEPS; i++) weights += options.weights[i];
    if (options.actors > MAX_ACTORS) options.actors = MAX_ACTORS;
    if (options.actors < 2) options.actors = 2;
    if (options.script == 0) options.script = 1;
    if (options.threads == 0 || weights == 0 || (options.iters == 0 && options.seconds <= 0)) {
        fputs("stress: nothing to do\n", stderr);
        exit(2);
    }
}

void printReplay(FILE *to)
{
    fprintf(to, "stress/sched --seed=%" PRIu64 " --threads=%u --iters=%" PRIu64 " --seconds=%g --capabilities=%u"
            " --nursery=%zu --actors=%u --script=%u --restart-every=%" PRIu64 " --restart-mode=%s%s%s%s%s --mix=", options.seed,
            options.threads, options.iters, options.seconds, options.capabilities, options.nursery, options.actors,
            options.script, options.restartEvery, restartNames[options.restartMode], options.verifyHeap ? " --verify-heap" : "",
            options.poison ? " --poison" : "", options.noMembarrier ? " --no-membarrier" : "", options.all ? " --all-steps" : "");
    for (int i = 0; i < STEPS; i++) fprintf(to, "%s%s=%u", i > 0 ? "," : "", stepNames[i], options.weights[i]);
    fputc('\n', to);
}

/* ---- The end ------------------------------------------------------------------------------------------------------- */

static void printEnd(void)
{
    Outcomes all = { 0 };
    for (unsigned i = 0; i < options.threads; i++) {
        const Outcomes *o = &game.players[i].outcomes;
        all.scenes += o->scenes;
        all.visits += o->visits;
        all.actors += o->actors;
        all.throws += o->throws;
        all.received += o->received;
        all.tokens += o->tokens;
        all.interrupted += o->interrupted;
        all.refused += o->refused;
        for (int e = 0; e < ENDS; e++) all.ends[e] += o->ends[e];
    }
    printf("stress: %u rounds; %" PRIu64 " scenes, %" PRIu64 " visits, %" PRIu64 " in-calls interrupted, %" PRIu64
           " refused; %" PRIu64 " actors (%" PRIu64 " to the end, %" PRIu64 " thrown out), %" PRIu64 " tokens, %" PRIu64
           " throws (%" PRIu64 " received); %" PRIu64 " collections\n", countRounds(), all.scenes, all.visits, all.interrupted,
           all.refused, all.actors, all.ends[END_SCRIPT], all.ends[END_THROWN], all.tokens, all.throws, all.received,
           atomic_load(&game.collections));
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
    parseOptions(argc, argv);
    printf("stress: ");
    printReplay(stdout);
    fflush(stdout);
    game.players = calloc(options.threads, sizeof *game.players);
    if (game.players == NULL) return 1;
    startWatch();
    playRounds();
    stopWatch();
    printEnd();
    return atomic_load(&game.failures) == 0 ? 0 : 1;
}

/* stress/million: so many threads parked on MVars of their own, woken in random order, and joined in another, while collections run.
 *
 *     stress/million --threads=1000000 --capabilities=2 --rounds=2
 *
 * Each thread takes a number from its MVar, and puts back what that and its own number give, which must come out so.
 * Exit status: 0 all well, 1 something came out wrong, 2 bad usage. */
#include <Rts.h>
#include <rts/Threads.h>

#include <argp.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static struct {
    unsigned long threads, rounds, seed;
    unsigned capabilities;
    bool verify;
} options = { 1000000, 1, 0, 2, false };

static _Atomic unsigned long parked, wrong, passed;
static _Atomic bool collecting;
static uint32_t *order; /* in which they are woken, or joined */

/* ---- Random order ---- */

static uint64_t nextRandom(void)
{
    static uint64_t state;
    if (state == 0) state = options.seed;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return state >> 33;
}

static void shuffle(void)
{
    for (unsigned long i = 0; i < options.threads; i++) order[i] = (uint32_t)i;
    for (unsigned long i = options.threads; i-- > 1;) {
        unsigned long j = nextRandom() % (i + 1);
        uint32_t there = order[j];
        order[j] = order[i];
        order[i] = there;
    }
}

/* ---- Managed code ---- */

#define APPLY(cap, f, a, b) rts_apply((cap), rts_apply((cap), &f##_closure, (a)), (b))

static HsInt answer(HsInt number, HsInt given) { return number * 31 + given; }

CAPSTAN_IO(park, number, box)
{
    HsInt n = rts_intValue(number);
    CAPSTAN_ROOTS(stack, box);
    parked++;
    HsInt given = rts_intValue(rts_takeMVar(stack, box));
    rts_putMVar(stack, box, rts_int(stack, answer(n, given)));
    CAPSTAN_UNROOT(stack);
    return CAPSTAN_UNIT;
}

static void forkAll(Stack *stack, HaskellObj boxes)
{
    HaskellObj box = CAPSTAN_UNIT;
    CAPSTAN_ROOTS(stack, boxes, box);
    for (unsigned long i = 0; i < options.threads; i++) {
        box = rts_mkMVar(stack->cap);
        rts_setElem(stack->cap, boxes, i, box);
        rts_fork(stack, APPLY(stack->cap, park, rts_mkInt(stack->cap, (HsInt)i), box));
        if (i % 1000 == 0) rts_yield(stack);
        else rts_poll(stack);
    }
    while (parked < options.threads) rts_threadDelay(stack, 1000);
    rts_threadDelay(stack, 10000); /* the last one is on its way into its MVar */
    CAPSTAN_UNROOT(stack);
}

static void wakeAll(Stack *stack, HaskellObj boxes)
{
    CAPSTAN_ROOTS(stack, boxes);
    for (unsigned long i = 0; i < options.threads; i++) rts_putMVar(stack, rts_getElem(boxes, order[i]), rts_int(stack, (HsInt)i));
    CAPSTAN_UNROOT(stack);
}

/* given[i]: what thread i was given. */
static void joinAll(Stack *stack, HaskellObj boxes, const uint32_t *given)
{
    CAPSTAN_ROOTS(stack, boxes);
    for (unsigned long i = 0; i < options.threads; i++) {
        HaskellObj got = rts_takeMVar(stack, rts_getElem(boxes, order[i]));
        if (rts_isSmallInt(got) && rts_intValue(got) == answer(order[i], given[order[i]])) passed++;
        else if (wrong++ < 10) fprintf(stderr, "million: thread %" PRIu32 " has a wrong answer\n", order[i]);
    }
    CAPSTAN_UNROOT(stack);
}

CAPSTAN_IO(runRound)
{
    uint32_t *given = malloc(options.threads * sizeof *given);
    HaskellObj boxes = rts_mkArray(stack->cap, options.threads, CAPSTAN_UNIT);
    if (given == NULL || boxes == CAPSTAN_POISON) {
        free(given);
        rts_raiseError(stack, "no memory");
    }
    CAPSTAN_ROOTS(stack, boxes);
    forkAll(stack, boxes);
    shuffle();
    for (unsigned long i = 0; i < options.threads; i++) given[order[i]] = (uint32_t)i;
    wakeAll(stack, boxes);
    shuffle();
    joinAll(stack, boxes, given);
    CAPSTAN_UNROOT(stack);
    free(given);
    return CAPSTAN_UNIT;
}

/* ---- Around it ---- */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void *collect(void *unused)
{
    /* Two thirds of the time are the threads'. */
    while (collecting) {
        double began = now();
        hs_perform_gc();
        usleep(100000 + (useconds_t)(2e6 * (now() - began)));
    }
    return NULL;
}

static void playRound(void)
{
    double began = now();
    char text[200] = "";
    parked = passed = 0;
    Capability *cap = rts_lock();
    rts_evalIO(&cap, &runRound_closure, NULL);
    SchedulerStatus status = rts_getSchedStatus(cap);
    if (status != Success) rts_showException(cap, rts_getException(cap), text, sizeof text);
    rts_unlock(cap);
    if (status != Success) fprintf(stderr, "million: status %d: %s\n", (int)status, text);
    wrong += status != Success || passed != options.threads;
    RtsThreadCounts counts;
    rts_getThreadCounts(&counts);
    printf("million: %lu threads, %lu answers right, %.2f s; stacks made %llu\n", options.threads, (unsigned long)passed, now() - began,
           (unsigned long long)counts.stacks);
}

enum { KEY_THREADS = 256, KEY_ROUNDS, KEY_SEED, KEY_CAPABILITIES, KEY_VERIFY };
static const struct argp_option argpOptions[] = {
    { "threads", KEY_THREADS, "N", 0, "Threads (1000000)", 0 },
    { "rounds", KEY_ROUNDS, "N", 0, "How often (1)", 0 },
    { "seed", KEY_SEED, "N", 0, "Seed of the orders; by default another at each run", 0 },
    { "capabilities", KEY_CAPABILITIES, "N", 0, "Capabilities (2)", 0 },
    { "verify-heap", KEY_VERIFY, NULL, 0, "Let the collector check the heap", 0 },
    { 0 },
};
static error_t parseOption(int key, char *arg, struct argp_state *state)
{
    switch (key) {
    case KEY_THREADS: options.threads = strtoul(arg, NULL, 0); break;
    case KEY_ROUNDS: options.rounds = strtoul(arg, NULL, 0); break;
    case KEY_SEED: options.seed = strtoul(arg, NULL, 0); break;
    case KEY_CAPABILITIES: options.capabilities = (unsigned)strtoul(arg, NULL, 0); break;
    case KEY_VERIFY: options.verify = true; break;
    case ARGP_KEY_ARG: argp_usage(state); break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

int main(int argc, char **argv)
{
    const struct argp argp = { argpOptions, parseOption, NULL, "Threads parked on MVars, woken and joined in random order", NULL, NULL, NULL };
    argp_err_exit_status = 2;
    argp_parse(&argp, argc, argv, 0, NULL, NULL);
    if (options.threads == 0 || options.threads > UINT32_MAX) return 2;
    if (options.seed == 0) options.seed = (unsigned long)time(NULL) * 1000003 + (unsigned long)getpid();
    printf("million: --threads=%lu --capabilities=%u --rounds=%lu --seed=%lu\n", options.threads, options.capabilities, options.rounds, options.seed);
    order = malloc(options.threads * sizeof *order);
    RtsConfig config = RTS_CONFIG_INIT;
    config.capabilities = options.capabilities;
    config.verify_heap = options.verify;
    char message[200] = "no memory";
    if (order == NULL || rts_start(&config, message, sizeof message) != RTS_OK) {
        fprintf(stderr, "million: %s\n", message);
        return 1;
    }
    pthread_t collector;
    collecting = true;
    bool collects = pthread_create(&collector, NULL, collect, NULL) == 0;
    for (unsigned long i = 0; i < options.rounds; i++) playRound();
    collecting = false;
    if (collects) pthread_join(collector, NULL);
    RtsCounts counts;
    rts_getCounts(&counts);
    printf("million: %llu collections, the longest %.1f ms\n", (unsigned long long)counts.collections, (double)counts.max_pause_ns * 1e-6);
    wrong += counts.collections == 0;
    hs_exit();
    free(order);
    return wrong != 0;
}

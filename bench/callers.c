#include "callers.h"
#include "clock.h"
#include "subject.h"
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CACHE_LINES 128
#define WARM_UP_SECONDS 0.1
#define ARGUMENT 41

enum { PHASE_WARM_UP, PHASE_COUNT, PHASE_STOP };

typedef struct Group {
    _Alignas(CACHE_LINES) _Atomic int phase;
    _Alignas(CACHE_LINES) pthread_barrier_t ready;
    sem_t done;
    const CallerPlan *plan;
    int64_t expected;
} Group;

typedef struct Caller {
    _Alignas(CACHE_LINES) Group *group;
    uint64_t calls;
    int failed;
    Histogram latency;
} Caller;

int64_t expectedWork(int64_t rounds)
{
    int64_t x = WORK_CELLS * (WORK_CELLS + 1) / 2;
    for (int64_t i = 0; i < rounds; i++) x = x * WORK_FACTOR % WORK_MODULUS;
    return x;
}

static inline int phaseIs(Group *group, int phase)
{
    return atomic_load_explicit(&group->phase, memory_order_relaxed) == phase;
}

static void callPlain(Caller *c, int phase)
{
    uint64_t calls = 0, sum = 0;
    for (; phaseIs(c->group, phase); calls++) sum += (uint64_t)subjectCall(ARGUMENT);
    c->calls = calls;
    if (sum != calls * (ARGUMENT + 1)) c->failed = 1;
}

static void callTimed(Caller *c, int phase)
{
    uint64_t calls = 0, sum = 0, last = nowNs();
    for (; phaseIs(c->group, phase); calls++) {
        sum += (uint64_t)subjectCall(ARGUMENT);
        uint64_t now = nowNs();
        recordValue(&c->latency, now - last);
        last = now;
    }
    c->calls = calls;
    if (sum != calls * (ARGUMENT + 1)) c->failed = 1;
}

static void callWork(Caller *c, int phase)
{
    uint64_t calls = 0;
    int64_t rounds = c->group->plan->rounds, expected = c->group->expected;
    for (; phaseIs(c->group, phase); calls++)
        if (subjectWork(rounds) != expected) c->failed = 1;
    c->calls = calls;
}

static void callInPhase(Caller *c, int phase)
{
    switch (c->group->plan->kind) {
    case CALL_PLAIN: callPlain(c, phase); break;
    case CALL_TIMED: callTimed(c, phase); break;
    case CALL_WORK:  callWork(c, phase); break;
    }
}

static void *runCaller(void *arg)
{
    Caller *c = arg;
    int attached = subjectAttach() == 0;
    pthread_barrier_wait(&c->group->ready);
    if (attached) {
        callInPhase(c, PHASE_WARM_UP);
        memset(&c->latency, 0, sizeof c->latency);
        callInPhase(c, PHASE_COUNT);
        subjectDetach();
    } else {
        c->failed = 1;
    }
    sem_post(&c->group->done);
    return NULL;
}

/* Weak, so that a subject can bring its own. */
__attribute__((weak)) int subjectSpawn(void *(*body)(void *), void *arg)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, body, arg) != 0) return -1;
    return pthread_detach(thread) == 0 ? 0 : -1;
}

static void startCallers(Group *group, Caller *callers)
{
    for (int i = 0; i < group->plan->threads; i++) {
        callers[i].group = group;
        if (subjectSpawn(runCaller, &callers[i]) == 0) continue;
        /* The barrier waits for every thread, so a host with too few of them can only give up. */
        fprintf(stderr, "bench: cannot start thread %d of %d\n", i + 1, group->plan->threads);
        exit(1);
    }
    pthread_barrier_wait(&group->ready);
}

static double timePhases(Group *group)
{
    sleepSeconds(WARM_UP_SECONDS);
    uint64_t start = nowNs();
    atomic_store(&group->phase, PHASE_COUNT);
    sleepSeconds(group->plan->seconds);
    atomic_store(&group->phase, PHASE_STOP);
    return (double)(nowNs() - start) / 1e9;
}

static int addUpCallers(const Caller *callers, int threads, CallerTotals *totals)
{
    int failed = 0;
    totals->least = UINT64_MAX;
    for (int i = 0; i < threads; i++) {
        const Caller *c = &callers[i];
        totals->calls += c->calls;
        if (c->calls < totals->least) totals->least = c->calls;
        if (c->calls > totals->most) totals->most = c->calls;
        addHistogram(&totals->latency, &c->latency);
        failed |= c->failed;
    }
    if (failed) fprintf(stderr, "bench: a thread could not attach, or a call returned a wrong value\n");
    return failed ? -1 : 0;
}

int runCallers(const CallerPlan *plan, CallerTotals *totals)
{
    Group group = {.phase = PHASE_WARM_UP, .plan = plan, .expected = expectedWork(plan->rounds)};
    size_t size = (size_t)plan->threads * sizeof(Caller);
    Caller *callers = aligned_alloc(CACHE_LINES, size);
    if (callers == NULL) return -1;
    memset(callers, 0, size);
    memset(totals, 0, sizeof *totals);
    pthread_barrier_init(&group.ready, NULL, (unsigned)plan->threads + 1);
    sem_init(&group.done, 0, 0);
    startCallers(&group, callers);
    totals->seconds = timePhases(&group);
    for (int i = 0; i < plan->threads; i++)
        while (sem_wait(&group.done) != 0) { }
    int status = addUpCallers(callers, plan->threads, totals);
    free(callers);
    return status;
}

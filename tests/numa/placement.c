/*
 * Asks the kernel on which NUMA node the pages of objects lie: new ones, pinned and large ones, and those that collections moved. For a machine with
 * several nodes; tests/numa/run emulates one.
 *
 *   placement [--promoted PERCENT]   each capability's objects lie on its node, also after collections: at least so many of a hundred (90).
 *   placement --full                 more than one node has, from one capability: the others' memory is used
 *   placement --refused              placement may be refused: everything works all the same
 *
 * The threads run on processors of other nodes than their capability's, so that nothing lies right because it was touched there.
 */
#include "capability.h"
#include "gc/block.h"
#include "os/topology.h"

#include <Rts.h>
#include <rts/Managed.h>

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CELLS = 40000, CELLS_OF_EACH = 500, MAX_NODES = 64, PINNED_BYTES = 2000, LARGE_BYTES_EACH = 100000 };

static bool mayBeRefused;
static unsigned promotedPercent = 90;
static _Atomic unsigned failures;

/* ---- What the kernel says ---- */

typedef struct {
    size_t pages, onNode[MAX_NODES], misplaced; /* misplaced: not on the node that their block is of */
} Tally;

/* The nodes of the pages that an object of so many bytes covers. */
static void tallyObject(Tally *tally, const void *object, size_t bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    unsigned expected = topologyOsNode(blockOf(object)->node);
    for (uintptr_t p = (uintptr_t)object & ~(page - 1); p < (uintptr_t)object + bytes; p += page) {
        void *address = (void *)p;
        int node = -1;
        if (syscall(SYS_move_pages, 0, 1ul, &address, NULL, &node, 0) != 0 || node < 0 || node >= MAX_NODES) continue;
        tally->pages++;
        tally->onNode[node]++;
        tally->misplaced += (unsigned)node != expected;
    }
}

static unsigned percentOn(const Tally *tally, unsigned capability)
{
    size_t here = tally->onNode[topologyOsNode(topologyNodeOfCapability(capability))];
    return tally->pages == 0 ? 0 : (unsigned)(here * 100 / tally->pages);
}

static void expect(bool holds, const char *what, unsigned capability, unsigned found, unsigned expected)
{
    if (holds || mayBeRefused) return;
    failures++;
    printf("FAILED: capability %u: %s: %u, expected %u\n", capability, what, found, expected);
}

/* ---- A list of cells, some of which hold something else ---- */

CAPSTAN_CON(Cell, 1, next, value, number)
CAPSTAN_STATIC_CON(End, 0);

static HaskellObj makeList(Capability *cap, unsigned cells)
{
    HaskellObj list = &End_closure;
    for (unsigned i = 0; i < cells; i++) {
        HaskellObj value = &End_closure;
        if (i % CELLS_OF_EACH == 0) value = rts_mkBytesPinned(cap, NULL, PINNED_BYTES);
        if (i % CELLS_OF_EACH == 1) value = rts_mkBytes(cap, NULL, LARGE_BYTES_EACH);
        list = Cell_new(cap, list, value, CAPSTAN_SMALL_INT(i));
    }
    return list;
}

typedef struct {
    Tally cells, pinned, large;
    unsigned length;
} Survey;

static void surveyList(Survey *survey, HaskellObj list)
{
    memset(survey, 0, sizeof *survey);
    for (; CAPSTAN_IS(Cell, list); list = CAPSTAN_GET(Cell, list, next)) {
        unsigned number = (unsigned)rts_intValue(CAPSTAN_GET(Cell, list, number));
        HaskellObj value = CAPSTAN_GET(Cell, list, value);
        tallyObject(&survey->cells, list, 4 * sizeof(StgWord));
        if (number % CELLS_OF_EACH == 0) tallyObject(&survey->pinned, value, PINNED_BYTES);
        if (number % CELLS_OF_EACH == 1) tallyObject(&survey->large, value, LARGE_BYTES_EACH);
        survey->length++;
    }
}

static void report(const char *when, unsigned capability, const Survey *s, unsigned leastPercent)
{
    printf("capability %u (node %u), %s: on its node: cells %u%% of %zu looks, pinned %u%%, large %u%%\n", capability,
           topologyNodeOfCapability(capability), when, percentOn(&s->cells, capability), s->cells.pages,
           percentOn(&s->pinned, capability), percentOn(&s->large, capability));
    expect(s->length == CELLS, "cells in the list", capability, s->length, CELLS);
    expect(percentOn(&s->cells, capability) >= leastPercent, "cells on the node, per cent", capability,
           percentOn(&s->cells, capability), leastPercent);
    expect(percentOn(&s->pinned, capability) == 100, "pinned on the node, per cent", capability, percentOn(&s->pinned, capability), 100);
    expect(percentOn(&s->large, capability) == 100, "large on the node, per cent", capability, percentOn(&s->large, capability), 100);
    size_t misplaced = s->cells.misplaced + s->pinned.misplaced + s->large.misplaced;
    expect(misplaced == 0, "pages not on the node of their block", capability, (unsigned)misplaced, 0);
}

/* ---- Every capability at once ---- */

static pthread_barrier_t barrier;

static void leaveHome(unsigned capability)
{
    const unsigned *cpu;
    unsigned other = (topologyNodeOfCapability(capability) + 1) % topologyNodes(), count = topologyCpusOfNode(other, &cpu);
    cpu_set_t set;
    CPU_ZERO(&set);
    for (unsigned i = 0; i < count; i++) CPU_SET(cpu[i], &set);
    if (count > 0 && sched_setaffinity(0, sizeof set, &set) != 0) perror("sched_setaffinity");
}

enum { NOTHING, MINOR, MAJOR };
static const char *const kinds[] = { "nothing", "minor collection", "major collection" };

static void *collectTogether(void *kind)
{
    pthread_barrier_wait(&barrier);
    if ((uintptr_t)kind == MINOR) rts_performMinorGC();
    if ((uintptr_t)kind == MAJOR) hs_perform_major_gc();
    pthread_barrier_wait(&barrier);
    return NULL;
}

/* A collection, by one of the threads, while all are in this call. */
CAPSTAN_IO(collect, kind)
{
    rts_safeCall(stack, collectTogether, (void *)(uintptr_t)rts_intValue(rts_force(stack, kind)));
    return CAPSTAN_UNIT;
}

static void *surveyCapability(void *arg)
{
    unsigned no = (unsigned)(uintptr_t)arg;
    Survey survey;
    leaveHome(no);
    rts_setInCallCapability((int)no, 0);
    Capability *cap = rts_lock();
    expect(cap->no == no, "the capability that was asked for", no, cap->no, no);
    HaskellObj list = makeList(cap, CELLS);
    CAPSTAN_ROOTS(cap, list);
    surveyList(&survey, list);
    report("new", no, &survey, 100);
    static const unsigned rounds[] = { MINOR, MINOR, MINOR, MAJOR };
    for (unsigned i = 0; i < 4; i++) {
        char when[32];
        rts_evalIO(&cap, rts_apply(cap, &collect_closure, rts_mkInt(cap, no == 0 ? rounds[i] : NOTHING)), NULL);
        if (rts_getSchedStatus(cap) != Success) failures++;
        snprintf(when, sizeof when, "%s %u", kinds[rounds[i]], i + 1);
        surveyList(&survey, list);
        report(when, no, &survey, promotedPercent);
    }
    CAPSTAN_UNROOT(cap);
    rts_unlock(cap);
    return NULL;
}

static void surveyAll(void)
{
    pthread_t thread[MAX_CAPABILITIES];
    unsigned n = getNumCapabilities();
    pthread_barrier_init(&barrier, NULL, n);
    for (uintptr_t i = 0; i < n; i++) pthread_create(&thread[i], NULL, surveyCapability, (void *)i);
    for (unsigned i = 0; i < n; i++) pthread_join(thread[i], NULL);
    pthread_barrier_destroy(&barrier);
}

/* ---- More than one node has ---- */

static void fillNode(void)
{
    size_t each = 4u << 20, total = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE) / 100 * 65;
    Tally tally = { 0 };
    rts_setInCallCapability(1, 0);
    Capability *cap = rts_lock();
    HaskellObj list = &End_closure;
    for (size_t had = 0; had < total; had += each) {
        HaskellObj bytes = rts_mkBytes(cap, NULL, each);
        if (bytes == CAPSTAN_POISON) {
            printf("FAILED: memory was refused after %zu MiB\n", had >> 20);
            failures++;
            break;
        }
        tallyObject(&tally, bytes, each);
        list = Cell_new(cap, list, bytes, CAPSTAN_SMALL_INT(0));
    }
    rts_unlock(cap);
    unsigned percent = percentOn(&tally, 1);
    printf("%zu MiB from capability 1: %u%% on its node\n", total >> 20, percent);
    expect(percent > 20 && percent < 100, "per cent on the node", 1, percent, 50);
}

int main(int argc, char **argv)
{
    bool full = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--full") == 0) full = true;
        else if (strcmp(argv[i], "--refused") == 0) mayBeRefused = true;
        else if (strcmp(argv[i], "--promoted") == 0 && i + 1 < argc) promotedPercent = (unsigned)atoi(argv[++i]);
        else return fprintf(stderr, "placement [--promoted PERCENT | --full | --refused]\n"), 2;
    }
    RtsConfig config = RTS_CONFIG_INIT;
    char message[256];
    config.capabilities = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    config.verify_heap = !full;
    if (rts_start(&config, message, sizeof message) != RTS_OK) return fprintf(stderr, "%s\n", message), 2;
    printf("%u nodes, %u capabilities\n", topologyNodes(), getNumCapabilities());
    expect(topologyNodes() > 1, "nodes", 0, topologyNodes(), 2);
    if (full) fillNode();
    else surveyAll();
    hs_exit();
    printf("%s\n", failures ? "FAILED" : "all as expected");
    return failures != 0;
}

/* topology_test.c: what topology.h promises, and memory.h where it speaks of nodes. */
#include "os/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "os/memory.h"
#include "os/os.h"
#include "os/topology.h"

#define MIB ((size_t)1 << 20)

/* ---------------------------------------------------------------- topology: what must hold in each */

static void initTopology(unsigned pretended) {
    char err[128] = "untouched";
    assert_true(topologyInit(pretended, err, sizeof err));
    assert_string_equal(err, "untouched");
}

static void assertTopologyAddsUp(void) {
    unsigned nodes = topologyNodes(), total = 0;
    assert_true(nodes >= 1);
    assert_true(topologyCurrentNode() < nodes);
    for (unsigned node = 0; node < nodes; node++) {
        const unsigned *cpu = NULL;
        unsigned count = topologyCpusOfNode(node, &cpu);
        assert_int_equal(count, topologyCpusOfNode(node, NULL));
        for (unsigned i = 0; i < count; i++) {
            assert_int_equal(topologyNodeOfCpu(cpu[i]), node);
            assert_true(i == 0 || cpu[i - 1] < cpu[i]);
        }
        total += count;
    }
    assert_true(total >= 1);
    assert_int_equal(topologyCpusOfNode(nodes, NULL), 0);
    for (unsigned cpu = 0; cpu < 10000; cpu++) assert_true(topologyNodeOfCpu(cpu) < nodes);
    assert_true(topologyNodeOfCpu(UINT_MAX) < nodes);
    for (unsigned cap = 0; cap < 300; cap++) assert_int_equal(topologyNodeOfCapability(cap), cap % nodes);
}

static void testTopologyPretended(void **state) {
    static const unsigned counts[] = {1, 2, 5, 80, TOPOLOGY_NODES_PRETENDED_MAX};
    unsigned usable = 0;
    cpu_set_t set;
    sched_getaffinity(0, sizeof set, &set);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        initTopology(counts[i]);
        assert_int_equal(topologyNodes(), counts[i]);
        assert_false(topologyIsReal());
        assertTopologyAddsUp();
        unsigned dealt = 0;
        for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++)
            if (CPU_ISSET(cpu, &set)) assert_int_equal(topologyNodeOfCpu(cpu), dealt++ % counts[i]);
        usable = dealt;
        assert_int_equal(topologyCpusOfNode(0, NULL), (usable + counts[i] - 1) / counts[i]);
        char *p = osReserve(osPageSize(), 1);
        assert_false(topologyMemoryToNode(p, osPageSize(), 0)); /* pretended nodes have no memory */
        osRelease(p, osPageSize());
    }
    topologyDestroy();
}

static void testTopologyErrors(void **state) {
    char err[64] = "";
    assert_false(topologyInit(TOPOLOGY_NODES_PRETENDED_MAX + 1, err, sizeof err));
    assert_non_null(strstr(err, "65537"));
    assert_false(topologyInit(UINT_MAX, NULL, 0));
    assert_int_equal(topologyNodes(), 1);
    topologyDestroy();
    topologyDestroy();
    assert_int_equal(topologyNodes(), 1);
    assert_int_equal(topologyNodeOfCpu(77), 0);
    assert_int_equal(topologyCurrentNode(), 0);
    assert_int_equal(topologyCpusOfNode(0, NULL), 0);
    assert_false(topologyBindThread(0));
    assert_false(topologyPinThreadToNode(0));
    assert_false(topologyMemoryToNode(err, sizeof err, 0));
}

static void testTopologyOutOfMemory(void **state) {
    static const unsigned counts[] = {0, 5};
    for (int i = 0; i < 2; i++) {
        long n = 0;
        bool done;
        do {
            char err[64] = "";
            osFailAfter(++n);
            done = topologyInit(counts[i], err, sizeof err);
            long failed = osFailuresInjected();
            osFailAfter(-1);
            /* What fails is said, or another source stood in; nothing is half there. */
            if (!done) assert_string_equal(err, "out of memory while reading the machine's topology");
            if (done) assertTopologyAddsUp();
            if (!done) assert_int_equal(topologyNodes(), 1);
            if (failed == 0) break;
        } while (n < 1000);
        assert_true(done);
        assert_in_range(n, 4, 999);
    }
    topologyDestroy();
}

/* ---------------------------------------------------------------- topology: binding, this machine, synthetic ones */

static cpu_set_t affinityNow(void) {
    cpu_set_t set;
    assert_int_equal(sched_getaffinity(0, sizeof set, &set), 0);
    return set;
}

static void testBinding(void **state) {
    cpu_set_t old = affinityNow();
    for (unsigned pretended = 0; pretended <= 3; pretended++) {
        initTopology(pretended);
        for (unsigned cap = 0; cap < 8; cap++) {
            unsigned node = topologyNodeOfCapability(cap), count = topologyCpusOfNode(node, NULL);
            assert_int_equal(topologyBindThread(cap), count > 0);
            cpu_set_t now = affinityNow();
            if (count) {
                assert_int_equal(CPU_COUNT(&now), 1);
                assert_true(CPU_ISSET(osCurrentCpu(), &now));
                assert_int_equal(topologyCurrentNode(), node);
            }
            assert_int_equal(topologyPinThreadToNode(node), count > 0);
            now = affinityNow();
            if (count) assert_int_equal(CPU_COUNT(&now), count);
            assert_int_equal(sched_setaffinity(0, sizeof old, &old), 0);
        }
        assert_false(topologyPinThreadToNode(topologyNodes()));
    }
    topologyDestroy();
}

/* Capabilities of one node spread over all its CPUs before any of them is used twice. */
static void testBindingSpreads(void **state) {
    cpu_set_t old = affinityNow(), seen;
    initTopology(1);
    unsigned count = topologyCpusOfNode(0, NULL);
    CPU_ZERO(&seen);
    for (unsigned cap = 0; cap < count; cap++) {
        assert_true(topologyBindThread(cap));
        cpu_set_t now = affinityNow();
        CPU_OR(&seen, &seen, &now);
        assert_int_equal(sched_setaffinity(0, sizeof old, &old), 0);
    }
    assert_int_equal(CPU_COUNT(&seen), count);
    topologyDestroy();
}

static void testThisMachine(void **state) {
    uint64_t before = osMonotonicNanos();
    initTopology(0);
    uint64_t took = osMonotonicNanos() - before;
    assert_true(topologyIsReal());
    assertTopologyAddsUp();
    unsigned total = 0;
    for (unsigned node = 0; node < topologyNodes(); node++) total += topologyCpusOfNode(node, NULL);
    cpu_set_t set = affinityNow();
    assert_int_equal(total, CPU_COUNT(&set));
    assert_int_equal(topologyNodeOfCpu(osCurrentCpu()), topologyCurrentNode());
    print_message("%u node(s), %u CPUs, read in %llu us\n", topologyNodes(), total, (unsigned long long)took / 1000);
    topologyDestroy();
}

static void testTopologyKeepsToAffinity(void **state) {
    cpu_set_t old = affinityNow(), one;
    unsigned cpu = osCurrentCpu();
    const unsigned *cpus;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof one, &one);
    initTopology(0);
    assert_int_equal(topologyNodes(), 1);
    assert_int_equal(topologyCpusOfNode(0, &cpus), 1);
    assert_int_equal(cpus[0], cpu);
    assertTopologyAddsUp();
    sched_setaffinity(0, sizeof old, &old);
    topologyDestroy();
}

/* The system's number of the node that holds a page. */
static int nodeOfPage(void *p) {
    enum { BY_ADDRESS = 3 }; /* MPOL_F_NODE | MPOL_F_ADDR */
    int node = -1;
    return syscall(SYS_get_mempolicy, &node, NULL, 0ul, p, BY_ADDRESS) == 0 ? node : -1;
}

static void testMemoryToNode(void **state) {
    initTopology(0);
    size_t bytes = 8 * osPageSize();
    unsigned nodes = topologyNodes();
    for (unsigned node = 0; node < nodes; node++) {
        char *p = osReserve(bytes, MIB);
        assert_true(osCommit(p, bytes));
        bool placed = topologyMemoryToNode(p, bytes, node);
        memset(p, 1, bytes);
        if (placed) assert_int_equal(nodeOfPage(p), topologyOsNode(node));
        osDecommit(p, bytes); /* the preference outlives the contents */
        assert_true(osCommit(p, bytes));
        memset(p, 1, bytes);
        if (placed) assert_int_equal(nodeOfPage(p + bytes - 1), topologyOsNode(node));
        if (node == 0) print_message("%s memory on %u node(s)\n", placed ? "placed" : "could not place", nodes);
        assert_false(topologyMemoryToNode(p + 1, bytes, node)); /* not at a page's beginning */
        osRelease(p, bytes);
    }
    assert_false(topologyMemoryToNode(NULL, bytes, nodes));
    topologyDestroy();
}

#ifdef HAVE_HWLOC
static void testSyntheticMachine(void **state) {
    setenv("HWLOC_SYNTHETIC", "node:2 core:2 pu:1", 1);
    cpu_set_t old = affinityNow();
    initTopology(0);
    assert_int_equal(topologyNodes(), 2);
    assert_false(topologyIsReal());
    for (unsigned cpu = 0; cpu < 4; cpu++) assert_int_equal(topologyNodeOfCpu(cpu), cpu / 2);
    assert_int_equal(topologyCpusOfNode(1, NULL), 2);
    assertTopologyAddsUp();
    assert_false(topologyBindThread(0));
    assert_false(topologyPinThreadToNode(1));
    cpu_set_t now = affinityNow();
    assert_true(CPU_EQUAL(&old, &now));
    char *p = osReserve(osPageSize(), 1);
    assert_false(topologyMemoryToNode(p, osPageSize(), 1));
    osRelease(p, osPageSize());

    setenv("HWLOC_SYNTHETIC", "node:90 core:1 pu:2", 1);
    initTopology(0); /* without destroy */
    assert_int_equal(topologyNodes(), 90);
    assert_int_equal(topologyNodeOfCpu(179), 89);
    assertTopologyAddsUp();
    initTopology(3); /* pretending comes first */
    assert_int_equal(topologyNodes(), 3);
    unsetenv("HWLOC_SYNTHETIC");
    topologyDestroy();
}

/* Somebody insists that the synthetic machine is this one: nodes without CPUs here do not count, memory of those that do is
 * asked for, and nothing worse than a refusal comes of it. */
static void testSyntheticTakenForThisMachine(void **state) {
    setenv("HWLOC_SYNTHETIC", "node:512 pu:1", 1);
    setenv("HWLOC_THISSYSTEM", "1", 1);
    cpu_set_t old = affinityNow();
    initTopology(0);
    assert_true(topologyIsReal());
    assertTopologyAddsUp();
    unsigned last = topologyNodes() - 1;
    char *p = osReserve(osPageSize(), 1);
    if (last > 0 && access("/sys/devices/system/node/node1", F_OK) != 0)
        assert_false(topologyMemoryToNode(p, osPageSize(), last));
    osRelease(p, osPageSize());
    assert_true(topologyPinThreadToNode(last));
    sched_setaffinity(0, sizeof old, &old);
    unsetenv("HWLOC_SYNTHETIC");
    unsetenv("HWLOC_THISSYSTEM");
    topologyDestroy();
}
#endif

static void testSystemsOwnFiles(void **state) {
    struct PlaceList list = {0};
    bool found = findPlacesBySystem(&list);
    assert_int_equal(found, access("/sys/devices/system/node/online", R_OK) == 0);
    if (found) {
        assert_true(list.count >= 1);
        assert_false(list.foreign);
    }
    freePlaces(&list);
}

/* ---------------------------------------------------------------- memory on nodes */

/* The arena of a piece of memory. */
static unsigned lookUpArena(void *p) {
    int (*mallctl)(const char *, void *, size_t *, void *, size_t) = dlsym(RTLD_DEFAULT, "mallctl");
    unsigned arena = UINT_MAX;
    size_t size = sizeof arena;
    assert_int_equal(mallctl("arenas.lookup", &arena, &size, &p, sizeof p), 0);
    return arena;
}

static void *allocateOnNodes(void *arenas) {
    for (unsigned i = 0; i < 2000; i++) {
        unsigned *p = rtsMallocNode(100 + i % 5000, i % 3);
        assert_non_null(p);
        *p = i;
        if (arenas) assert_int_equal(lookUpArena(p), ((unsigned *)arenas)[i % 3]);
        rtsFreeNode(p);
    }
    return NULL;
}

static void testArenaForEachNode(void **state) {
    enum { THREADS = 4 };
    unsigned arena[3];
    pthread_t thread[THREADS];
    initTopology(3);
    void *ordinary = rtsMalloc(100);
    for (unsigned node = 0; node < 3 && rtsMallocIsJemalloc(); node++) {
        void *p = rtsMallocNode(100, node);
        arena[node] = lookUpArena(p);
        assert_int_not_equal(arena[node], lookUpArena(ordinary));
        assert_true(node == 0 || arena[node] != arena[node - 1]);
        rtsFreeNode(p);
    }
    void *arenas = rtsMallocIsJemalloc() ? arena : NULL;
    for (int i = 0; i < THREADS; i++) pthread_create(&thread[i], NULL, allocateOnNodes, arenas);
    for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
    rtsFree(ordinary);
    topologyDestroy();
}

/* On a machine with nodes, an arena's memory lies on its node whoever touches it first. */
static void testArenaMemoryLiesOnNode(void **state) {
    initTopology(0);
    unsigned nodes = topologyNodes();
    char *page = osReserve(osPageSize(), 1);
    bool places = nodes > 1 && rtsMallocIsJemalloc() && topologyMemoryToNode(page, osPageSize(), 0);
    for (unsigned node = 0; node < nodes && places; node++) {
        char *p = rtsMallocNode(4 * MIB, node);
        memset(p, 1, 4 * MIB);
        assert_int_equal(nodeOfPage(p + 2 * MIB), topologyOsNode(node));
        rtsFreeNode(p);
    }
    osRelease(page, osPageSize());
    topologyDestroy();
    if (!places) skip();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(testTopologyPretended),
        cmocka_unit_test(testTopologyErrors),
        cmocka_unit_test(testTopologyOutOfMemory),
        cmocka_unit_test(testBinding),
        cmocka_unit_test(testBindingSpreads),
        cmocka_unit_test(testThisMachine),
        cmocka_unit_test(testTopologyKeepsToAffinity),
        cmocka_unit_test(testMemoryToNode),
#ifdef HAVE_HWLOC
        cmocka_unit_test(testSyntheticMachine),
        cmocka_unit_test(testSyntheticTakenForThisMachine),
#endif
        cmocka_unit_test(testSystemsOwnFiles),
        cmocka_unit_test(testArenaForEachNode),
        cmocka_unit_test(testArenaMemoryLiesOnNode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

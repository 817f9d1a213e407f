/* topology.c: from a list of "this CPU is near that node" to the tables that topology.h answers from. */
#include "os/internal.h"

#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "os/memory.h"
#include "os/os.h"
#include "os/topology.h"

#define NO_NODE UINT_MAX

struct Node {
    unsigned osNode;   /* [const] the system's number */
    unsigned cpus;     /* [const] how many */
    unsigned firstCpu; /* [const] where they begin in struct Topology's list */
};

/* Ownership: see topology.h; all fields are [const] between init and destroy. */
static struct Topology {
    unsigned nodes;       /* 0 means not initialised: one node without CPUs */
    bool real, foreign;   /* memory can be placed; CPUs are not this machine's */
    struct Node *node;    /* [nodes] */
    unsigned *cpu;        /* the CPUs of node 0, then those of node 1, … */
    unsigned *nodeOfCpu;  /* [cpuLimit] the node of each CPU */
    unsigned cpuLimit;
} topology;

/* What threads ask that know nothing of inits: a copy of nodeOfCpu. Somebody may always be reading the last one, so they are kept, each content
 * once: there are as many as different topologies were asked for. */
struct NodeMap {
    struct NodeMap *next; /* [const] */
    unsigned nodes;       /* [const] */
    unsigned cpuLimit;    /* [const] */
    unsigned nodeOfCpu[]; /* [const] */
};
static struct NodeMap *maps;           /* written by init */
static _Atomic(struct NodeMap *) current; /* NULL: one node. Release to write, acquire to read: its content */

/* ---------------------------------------------------------------- lists of places */

bool addPlace(struct PlaceList *list, unsigned cpu, unsigned osNode) {
    if (list->count == list->room) {
        size_t room = list->room ? list->room * 2 : 64;
        struct CpuPlace *place = rtsMalloc(room * sizeof *place);
        if (!place) return false;
        if (list->count) memcpy(place, list->place, list->count * sizeof *place);
        rtsFree(list->place);
        list->place = place;
        list->room = room;
    }
    list->place[list->count++] = (struct CpuPlace){.cpu = cpu, .osNode = osNode};
    return true;
}

void freePlaces(struct PlaceList *list) {
    rtsFree(list->place);
    *list = (struct PlaceList){0};
}

/* The CPUs this thread may use, dealt to so many nodes. */
static bool dealPlaces(struct PlaceList *list, const struct CpuMask *usable, unsigned nodes) {
    unsigned dealt = 0;
    for (unsigned cpu = 0; cpu < roomOfCpuMask(usable); cpu++)
        if (isInCpuMask(usable, cpu) && !addPlace(list, cpu, dealt++ % nodes)) return false;
    return true;
}

/* This machine's CPUs by the best source that answers. */
static bool findPlaces(struct PlaceList *list, const struct CpuMask *usable) {
    if (findPlacesByHwloc(list) && list->count) return true;
    freePlaces(list);
    if (findPlacesBySystem(list) && list->count) return true;
    freePlaces(list);
    return dealPlaces(list, usable, 1);
}

static bool isUsable(const struct PlaceList *list, const struct CpuMask *usable, size_t i) {
    return list->foreign || isInCpuMask(usable, list->place[i].cpu);
}

/* ---------------------------------------------------------------- the tables */

static unsigned findNode(unsigned osNode) {
    for (unsigned i = 0; i < topology.nodes; i++)
        if (topology.node[i].osNode == osNode) return i;
    return NO_NODE;
}

/* Numbers the nodes that have a usable CPU which no earlier node has, and says for each CPU which is its own. A memory of
 * another kind that shares a node's CPUs comes later in the list and so does not count. */
static void numberNodes(const struct PlaceList *list, const struct CpuMask *usable) {
    for (size_t i = 0; i < list->count; i++) {
        struct CpuPlace place = list->place[i];
        if (topology.nodeOfCpu[place.cpu] != NO_NODE || !isUsable(list, usable, i)) continue;
        unsigned node = findNode(place.osNode);
        if (node == NO_NODE) {
            node = topology.nodes++;
            topology.node[node] = (struct Node){.osNode = place.osNode};
        }
        topology.nodeOfCpu[place.cpu] = node;
        topology.node[node].cpus++;
    }
}

/* Lists each node's CPUs, and gives those without a node to some node: affinities may change later, to CPUs now excluded. */
static void listCpus(void) {
    unsigned filled = 0;
    for (unsigned i = 0; i < topology.nodes; i++) {
        topology.node[i].firstCpu = filled;
        filled += topology.node[i].cpus;
        topology.node[i].cpus = 0;
    }
    for (unsigned cpu = 0; cpu < topology.cpuLimit; cpu++) {
        unsigned n = topology.nodeOfCpu[cpu];
        if (n == NO_NODE) {
            topology.nodeOfCpu[cpu] = cpu % topology.nodes;
            continue;
        }
        struct Node *node = &topology.node[n];
        topology.cpu[node->firstCpu + node->cpus++] = cpu;
    }
}

/* The tables, empty, for any outcome: at most as many nodes as places, or as many as are pretended. */
static bool makeTables(const struct PlaceList *list, unsigned pretended) {
    unsigned limit = 0;
    for (size_t i = 0; i < list->count; i++)
        if (list->place[i].cpu >= limit) limit = list->place[i].cpu + 1;
    topology.cpuLimit = limit;
    topology.node = rtsCalloc(pretended ? pretended : list->count + 1, sizeof *topology.node);
    topology.cpu = rtsCalloc((size_t)limit + 1, sizeof *topology.cpu);
    topology.nodeOfCpu = rtsCalloc((size_t)limit + 1, sizeof *topology.nodeOfCpu);
    if (!topology.node || !topology.cpu || !topology.nodeOfCpu) return false;
    for (unsigned cpu = 0; cpu < limit; cpu++) topology.nodeOfCpu[cpu] = NO_NODE;
    for (unsigned i = 0; i < pretended; i++) topology.node[i].osNode = i;
    return true;
}

static struct NodeMap *findMap(void) {
    struct NodeMap *map = maps;
    size_t bytes = topology.cpuLimit * sizeof *map->nodeOfCpu;
    while (map && (map->nodes != topology.nodes || map->cpuLimit != topology.cpuLimit || memcmp(map->nodeOfCpu, topology.nodeOfCpu, bytes) != 0))
        map = map->next;
    return map;
}

static bool publishMap(void) {
    struct NodeMap *map = topology.nodes > 1 ? findMap() : NULL;
    if (!map && topology.nodes > 1) {
        size_t bytes = topology.cpuLimit * sizeof *map->nodeOfCpu;
        if (!(map = rtsMalloc(sizeof *map + bytes))) return false;
        *map = (struct NodeMap){.next = maps, .nodes = topology.nodes, .cpuLimit = topology.cpuLimit};
        memcpy(map->nodeOfCpu, topology.nodeOfCpu, bytes);
        maps = map;
    }
    atomic_store_explicit(&current, map, memory_order_release);
    return true;
}

static bool buildTopology(struct PlaceList *list, const struct CpuMask *usable, unsigned pretended) {
    if (!(pretended ? dealPlaces(list, usable, pretended) : findPlaces(list, usable))) return false;
    if (!makeTables(list, pretended)) return false;
    topology.nodes = pretended;
    numberNodes(list, usable);
    if (topology.nodes == 0) topology.nodes = 1; /* none of the CPUs found may be used: the zeroed node will do */
    listCpus();
    topology.foreign = list->foreign;
    topology.real = !pretended && !list->foreign;
    return publishMap();
}

bool topologyInit(unsigned debug_numa_nodes, char *err, size_t n) {
    topologyDestroy();
    if (debug_numa_nodes > TOPOLOGY_NODES_PRETENDED_MAX) {
        snprintf(err, n, "cannot pretend %u NUMA nodes: expected 1 to %d", debug_numa_nodes, TOPOLOGY_NODES_PRETENDED_MAX);
        return false;
    }
    struct CpuMask usable = {0};
    struct PlaceList list = {0};
    if (!readCpuMask(&usable) && makeCpuMask(&usable, 1)) addToCpuMask(&usable, 0);
    bool done = usable.word && buildTopology(&list, &usable, debug_numa_nodes);
    freePlaces(&list);
    freeCpuMask(&usable);
    if (!done) {
        topologyDestroy();
        snprintf(err, n, "out of memory while reading the machine's topology");
    }
    return done;
}

void topologyDestroy(void) {
    rtsFree(topology.node);
    rtsFree(topology.cpu);
    rtsFree(topology.nodeOfCpu);
    topology = (struct Topology){0};
    atomic_store_explicit(&current, NULL, memory_order_relaxed);
}

void topologyForget(void) {
    atomic_store_explicit(&current, NULL, memory_order_relaxed);
    topology = (struct Topology){0};
}

/* ---------------------------------------------------------------- answers */

unsigned topologyNodes(void) {
    const struct NodeMap *map = atomic_load_explicit(&current, memory_order_acquire);
    return map ? map->nodes : 1;
}

bool topologyIsReal(void) {
    return topology.real;
}

unsigned topologyNodeOfCpu(unsigned cpu) {
    const struct NodeMap *map = atomic_load_explicit(&current, memory_order_acquire);
    if (!map) return 0;
    return cpu < map->cpuLimit ? map->nodeOfCpu[cpu] : cpu % map->nodes;
}

unsigned topologyCurrentNode(void) {
    return atomic_load_explicit(&current, memory_order_relaxed) ? topologyNodeOfCpu(osCurrentCpu()) : 0;
}

unsigned topologyNodeOfCapability(unsigned capno) {
    return topology.nodes <= 1 ? 0 : capno % topology.nodes;
}

unsigned topologyCpusOfNode(unsigned node, const unsigned **cpus) {
    if (node >= topology.nodes) return 0;
    if (cpus) *cpus = topology.cpu + topology.node[node].firstCpu;
    return topology.node[node].cpus;
}

unsigned topologyOsNode(unsigned node) {
    return node < topology.nodes ? topology.node[node].osNode : 0;
}

/* ---------------------------------------------------------------- binding */

static bool bindToCpus(const unsigned *cpu, unsigned count) {
    struct CpuMask mask;
    if (count == 0 || topology.foreign || !makeCpuMask(&mask, topology.cpuLimit)) return false;
    for (unsigned i = 0; i < count; i++) addToCpuMask(&mask, cpu[i]);
    bool done = applyCpuMask(&mask);
    freeCpuMask(&mask);
    return done;
}

bool topologyBindThread(unsigned capno) {
    const unsigned *cpu;
    unsigned count = topologyCpusOfNode(topologyNodeOfCapability(capno), &cpu);
    return count != 0 && bindToCpus(&cpu[capno / topology.nodes % count], 1);
}

bool topologyPinThreadToNode(unsigned node) {
    const unsigned *cpu;
    unsigned count = topologyCpusOfNode(node, &cpu);
    return count != 0 && bindToCpus(cpu, count);
}

bool topologyMemoryToNode(void *p, size_t bytes, unsigned node) {
    return topology.real && node < topology.nodes && preferNode(p, bytes, topology.node[node].osNode);
}

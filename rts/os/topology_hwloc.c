/* topology_hwloc.c: the machine as hwloc sees it. Only NUMA nodes and their CPUs are wanted. What takes most of hwloc's time by
 * default is the survey by cpuid, which moves the calling thread over all CPUs: it is switched off. Devices are off by default. */
#include "os/internal.h"

#ifdef HAVE_HWLOC

#include <errno.h>
#include <hwloc.h>

/* Distances, memory attributes and CPU kinds are of no use to us. */
#if HWLOC_API_VERSION >= 0x00020800
#define LOAD_FLAGS (HWLOC_TOPOLOGY_FLAG_NO_DISTANCES | HWLOC_TOPOLOGY_FLAG_NO_MEMATTRS | HWLOC_TOPOLOGY_FLAG_NO_CPUKINDS)
#else
#define LOAD_FLAGS 0
#endif

static bool loadHwloc(hwloc_topology_t topology) {
    /* Objects that a node may hang from have to stay: a node's CPUs are those of what it hangs from, and without them all nodes
     * would hang from the machine. No node hangs from a cache this small. */
    hwloc_topology_set_type_filter(topology, HWLOC_OBJ_L1CACHE, HWLOC_TYPE_FILTER_KEEP_NONE);
    hwloc_topology_set_type_filter(topology, HWLOC_OBJ_L2CACHE, HWLOC_TYPE_FILTER_KEEP_NONE);
    hwloc_topology_set_components(topology, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST, "x86");
    return hwloc_topology_set_flags(topology, LOAD_FLAGS) == 0 && hwloc_topology_load(topology) == 0;
}

static bool addNodeOfHwloc(struct PlaceList *list, hwloc_obj_t node) {
    unsigned cpu;
    hwloc_bitmap_foreach_begin(cpu, node->cpuset)
        if (!addPlace(list, cpu, node->os_index)) return false;
    hwloc_bitmap_foreach_end();
    return true;
}

static bool readHwloc(struct PlaceList *list, hwloc_topology_t topology) {
    list->foreign = !hwloc_topology_is_thissystem(topology);
    hwloc_obj_t node = NULL;
    while ((node = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_NUMANODE, node)))
        if (!addNodeOfHwloc(list, node)) return false;
    return true;
}

bool findPlacesByHwloc(struct PlaceList *list) {
    struct Quiet quiet = osBeginQuiet();
    bool done = false;
    hwloc_topology_t topology;
    /* A library of another generation has other structures. */
    if (hwloc_get_api_version() >> 16 == HWLOC_API_VERSION >> 16 && hwloc_topology_init(&topology) == 0) {
        done = loadHwloc(topology) && readHwloc(list, topology);
        hwloc_topology_destroy(topology);
    }
    osEndQuiet(quiet);
    return done;
}

#else

bool findPlacesByHwloc(struct PlaceList *list) {
    (void)list;
    return false;
}

#endif

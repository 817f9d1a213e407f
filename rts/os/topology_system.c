/* topology_system.c: the machine as the kernel's own files show it, for builds without hwloc. */
#include "os/internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "os/memory.h"

#define NODES "/sys/devices/system/node/"

enum { LIST_ROOM = 64 * 1024 };

struct Reading {
    struct PlaceList *list;
    unsigned osNode;
    char *text; /* LIST_ROOM bytes for the node's list of CPUs */
};

static bool addCpuOfNode(void *context, unsigned cpu) {
    struct Reading *reading = context;
    return addPlace(reading->list, cpu, reading->osNode);
}

static bool addNodeOfSystem(void *context, unsigned osNode) {
    struct Reading *reading = context;
    char path[64];
    snprintf(path, sizeof path, NODES "node%u/cpulist", osNode);
    reading->osNode = osNode;
    return osReadFile(path, reading->text, LIST_ROOM) >= 0 && forEachInCpuList(reading->text, addCpuOfNode, reading);
}

bool findPlacesBySystem(struct PlaceList *list) {
    char nodes[4096];
    struct Reading reading = {.list = list, .text = rtsMalloc(LIST_ROOM)};
    bool done = reading.text && osReadFile(NODES "online", nodes, sizeof nodes) > 0 &&
                forEachInCpuList(nodes, addNodeOfSystem, &reading);
    rtsFree(reading.text);
    return done;
}

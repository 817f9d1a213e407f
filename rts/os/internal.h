/* internal.h: what the files of rts/os share. Included first by each of them, and by nobody else but their test. */
#ifndef RTS_OS_INTERNAL_H
#define RTS_OS_INTERNAL_H

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#ifndef __linux__
#error "rts/os has a port for Linux only"
#endif

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

/* ---------------------------------------------------------------- fault.c */

enum FailMode { FAIL_OFF, FAIL_ONE, FAIL_ALL };

extern _Atomic int osFailMode; /* [atomic] an enum FailMode */

/* Counts a call; true when it has to fail. */
bool osCountFailure(void);

static inline bool osShouldFail(void) {
    /* Relaxed: a switch is not used to pass anything else on. */
    return __builtin_expect(atomic_load_explicit(&osFailMode, memory_order_relaxed) != FAIL_OFF, 0) && osCountFailure();
}

/* ---------------------------------------------------------------- file.c */

/* Reads the beginning of a small file into buf, as a string. Returns its length, -1 when it cannot be read. */
long osReadFile(const char *path, char *buf, size_t room);

/* Calls line(context, text) for each line of a file of any size, until one returns true or the file ends. The text may be
 * changed, and lives until the return. False when the file cannot be read. */
bool osForEachLine(const char *path, bool (*line)(void *context, char *text), void *context);

/* What the thread saves around calls that are cancellation points or set errno. */
struct Quiet {
    int cancelState, error;
};
struct Quiet osBeginQuiet(void);
void osEndQuiet(struct Quiet quiet);

/* ---------------------------------------------------------------- cpus.c */

/* A set of CPUs of any size, as the system's calls take it. */
struct CpuMask {
    unsigned long *word;
    size_t words;
};

/* An empty mask with room for CPUs 0 .. cpus-1; false when memory is refused. */
bool makeCpuMask(struct CpuMask *mask, unsigned cpus);
/* The calling thread's affinity; false when memory is refused or the system does not say. */
bool readCpuMask(struct CpuMask *mask);
void freeCpuMask(struct CpuMask *mask);
void addToCpuMask(struct CpuMask *mask, unsigned cpu);
bool isInCpuMask(const struct CpuMask *mask, unsigned cpu);
/* One more than the largest CPU there is room for. */
unsigned roomOfCpuMask(const struct CpuMask *mask);
/* Restricts the calling thread to a mask; false when refused. */
bool applyCpuMask(const struct CpuMask *mask);

/* Calls add(context, number) for each number of a list like "0-3,8,10-11", until one returns false; false then, or when the
 * text is none such. */
bool forEachInCpuList(const char *text, bool (*add)(void *context, unsigned number), void *context);

/* ---------------------------------------------------------------- cgroup.c */

/* Processors that the CPU quotas of this process's cgroups (versions 1 and 2, and their parents) amount to, rounded up; 0 when
 * there is no quota. `root` is put before every path: "" but in tests. */
unsigned readCpuQuota(const char *root);

/* ---------------------------------------------------------------- where the topology comes from */

/* One CPU, near one node of the system's numbering. */
struct CpuPlace {
    unsigned cpu, osNode;
};

/* What a source found. The first place of a CPU counts, and nodes are numbered as they appear. */
struct PlaceList {
    struct CpuPlace *place;
    size_t count, room;
    bool foreign; /* these are not this machine's CPUs and nodes */
};

/* False when memory is refused. */
bool addPlace(struct PlaceList *list, unsigned cpu, unsigned osNode);
void freePlaces(struct PlaceList *list);

/* A source: fills the list, or leaves it incomplete and returns false. */
bool findPlacesByHwloc(struct PlaceList *list); /* topology_hwloc.c */
bool findPlacesBySystem(struct PlaceList *list); /* topology_system.c */

/* numa.c: prefers a node of the system's numbering for pages still to be touched. */
bool preferNode(void *p, size_t bytes, unsigned osNode);

#endif

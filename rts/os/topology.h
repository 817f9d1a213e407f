/* topology.h: which processors are near which memory, as far as the runtime cares: a number of nodes, and for each its CPUs.
 *
 * Nodes are numbered 0 .. topologyNodes()-1 without holes. A node counts if some CPU that this process may use is its own;
 * memory without CPUs does not. There may be any number of them. Everything is soft: a machine without NUMA, a container
 * without permission, a build without hwloc or libnuma work, with one node or without placement.
 *
 * Three sources, in this order:
 *   pretended  topologyInit(n > 0): n nodes, the usable CPUs dealt to them in turn; the CPUs are real, the memory is not.
 *   hwloc      if built with it. It follows its own environment: HWLOC_SYNTHETIC gives a machine that is not this one, whose
 *              nodes count but to which nothing is bound (unless HWLOC_THISSYSTEM=1 insists).
 *   the system's own files, else one node.
 *
 * Ownership: written by topologyInit and topologyDestroy, which nobody may overlap; constant in between, read without locks.
 * Before the first init and after destroy there is one node without CPUs. Only topologyNodes, topologyNodeOfCpu and topologyCurrentNode may be called at any time: what they read
 * stays.
 */
#ifndef RTS_OS_TOPOLOGY_H
#define RTS_OS_TOPOLOGY_H

#include <stdbool.h>
#include <stddef.h>

/* The most nodes that topologyInit pretends. */
enum { TOPOLOGY_NODES_PRETENDED_MAX = 65536 };

/* Reads the topology, once: what changes later is not seen. 0: this machine's; n: pretend n nodes. After a former init without
 * destroy it starts over.
 * Errors: false when memory is refused or n is too large; err (of n bytes) says which, and the former state is gone. */
bool topologyInit(unsigned debug_numa_nodes, char *err, size_t n);

/* Frees everything. May be called twice, and before init. */
void topologyDestroy(void);

/* In a forked child, if somebody was perhaps in the midst of either: as after topologyDestroy; memory is lost. */
void topologyForget(void);

/* Number of nodes, at least 1. */
unsigned topologyNodes(void);

/* Whether nodes and CPUs are this machine's, so that memory can be placed. */
bool topologyIsReal(void);

/* The node of a CPU, always in range; an unknown CPU gets some node, always the same. */
unsigned topologyNodeOfCpu(unsigned cpu);

/* The node under the caller's feet. A few nanoseconds; with one node, a load. */
unsigned topologyCurrentNode(void);

/* The node that a capability belongs to: capabilities are dealt to nodes in turn. */
unsigned topologyNodeOfCapability(unsigned capno);

/* The usable CPUs of a node, in ascending order: returns how many, and where they stand if cpus is not NULL. A pretended node
 * may have none. Owns: the topology, until destroy. */
unsigned topologyCpusOfNode(unsigned node, const unsigned **cpus);

/* The system's number for a node, as numactl shows it. */
unsigned topologyOsNode(unsigned node);

/* Pins the calling thread to the CPU that fits a capability: its node's CPUs are taken in turn.
 * Errors: false when that node has no CPU, none of this machine's, or the system refuses; the thread then runs where it did. */
bool topologyBindThread(unsigned capno);

/* Pins the calling thread to all usable CPUs of a node. Errors: as above. */
bool topologyPinThreadToNode(unsigned node);

/* Asks that pages of a range that are touched from now on come from a node, if it has any left.
 * Errors: false when the node is not this machine's, the system refuses, or the build lacks libnuma; who touches first decides. */
bool topologyMemoryToNode(void *p, size_t bytes, unsigned node);

#endif

/* rts/Stats.h: what the runtime has done and used so far. */
#ifndef RTS_STATS_H
#define RTS_STATS_H

#include "rts/Types.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Nanoseconds.  See: Time in GHC's RtsAPI.h. */
typedef int64_t Time;

/* The last collection.  Field names are GHC's; those of its compact regions and of its concurrent collector are not there. */
typedef struct {
    uint32_t gen;                         /* the oldest generation that was collected: 0 young objects, 1 all */
    uint32_t threads;                     /* that took part */
    uint64_t allocated_bytes;             /* since the collection before, in whole blocks */
    uint64_t live_bytes;                  /* what a minor collection did not look at counts as live */
    uint64_t large_objects_bytes;         /* blocks of large and of pinned objects */
    uint64_t slop_bytes;                  /* of the blocks of other objects, what holds none that live */
    uint64_t mem_in_use_bytes;            /* held from the operating system */
    uint64_t copied_bytes;
    uint64_t block_fragmentation_bytes;   /* held, and in no block in use */
    uint64_t par_max_copied_bytes;        /* by the thread that copied most */
    uint64_t par_balanced_copied_bytes;   /* 0: one thread copied all; copied_bytes: all copied the same */
    Time sync_elapsed_ns;                 /* until everybody had stopped */
    Time cpu_ns;                          /* of the threads that took part */
    Time elapsed_ns;                      /* the pause, sync_elapsed_ns included */
} GCDetails;

typedef struct RTSStats_ {
    uint32_t gcs, major_gcs;
    uint64_t allocated_bytes;             /* up to the last collection */
    uint64_t max_live_bytes, max_large_objects_bytes, max_slop_bytes, max_mem_in_use_bytes;
    uint64_t cumulative_live_bytes;       /* the sum over the major collections */
    uint64_t copied_bytes;
    uint64_t par_copied_bytes;            /* in collections by several threads; so the next two */
    uint64_t cumulative_par_max_copied_bytes, cumulative_par_balanced_copied_bytes;
    Time init_cpu_ns, init_elapsed_ns;    /* hs_init */
    Time mutator_cpu_ns, mutator_elapsed_ns; /* what is neither of the others; the host's own work included */
    Time gc_cpu_ns, gc_elapsed_ns;
    Time cpu_ns, elapsed_ns;              /* of the process, since the start of the runtime */
    GCDetails gc;
    Time max_pause_ns;
    uint64_t causes[6];                   /* collections by RtsGcCause */
} RTSStats;

/* Counts since the start of the runtime; zeros when there is none.  Any thread, any time; costs a short lock.  See: getRTSStats. */
CAPSTAN_API void getRTSStats(RTSStats *stats) CAPSTAN_NOSAFEPOINT;
/* Whether getRTSStats has anything to say: always, while the runtime runs. */
CAPSTAN_API int getRTSStatsEnabled(void) CAPSTAN_NOSAFEPOINT;
/* Bytes that were allocated, up to the last collection.  See: getAllocations. */
CAPSTAN_API uint64_t getAllocations(void) CAPSTAN_NOSAFEPOINT;

typedef enum { RtsStatsNone, RtsStatsText, RtsStatsJson } RtsStatsFormat;
/* The same, for people or as one JSON object, into buf, always ended by a zero; returns the length that the whole text has.  Any thread.
 * hs_exit writes it if RtsConfig.stats says so (-s, --stats-json). */
CAPSTAN_API size_t rts_formatStats(RtsStatsFormat format, char *buf, size_t size) CAPSTAN_NOSAFEPOINT;

/* Overwrite what free memory still holds of dead objects: it reads as zero, and its pages go back to the operating system.  A secret, or a small
 * image of the process: collect first (hs_perform_gc).  Free are blocks in no use, what lies behind the last object of those in use, and
 * pinned byte arrays that the last major collection found dead.  Not cleared: after minor collections only, dead old objects among live ones; what is outside the heap
 * (stacks, memory of the host).  Who keeps a secret in a byte array overwrites it when done.  Errors: RTS_HOLDS_CAPABILITY, RTS_IN_FINALIZER, RTS_NOT_STARTED through the error hook.
 * Context: a thread that holds no capability.  Stops the world.  See: rts_clearMemory. */
CAPSTAN_API void rts_clearMemory(void) CAPSTAN_NOSAFEPOINT;

#ifdef __cplusplus
}
#endif
#endif

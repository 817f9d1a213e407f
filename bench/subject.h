/* What one runtime shows to the in-call benchmarks.
 *
 * Each host program is incall_host.c, callers.c and histogram.c linked with one implementation of these functions, so that the
 * same threads, the same warm-up and the same clocks measure every runtime. A host calls subjectStart once; the thread that did
 * so counts as attached from then on. Every other thread attaches before its first call and detaches after its last.
 */
#ifndef BENCH_SUBJECT_H
#define BENCH_SUBJECT_H

#include <stdint.h>

/* Starts the runtime so that at most `capabilities` threads run managed code at a time, where it has such a setting.
 * Returns 0, or -1 after a message on stderr. */
int subjectStart(int capabilities);

/* Makes the calling thread known to the runtime; 0 or -1. Nothing to do in runtimes that learn of a thread by its first call. */
int subjectAttach(void);

/* Calls a managed `Int -> IO Int`, from any attached thread, at any time. Returns n + 1. */
int64_t subjectCall(int64_t n);

/* A call with something to do: about 200 bytes of managed allocation that hold 1 … 8, whose sum seeds `rounds` steps of
 * x = x * WORK_FACTOR mod WORK_MODULUS. Returns x. */
int64_t subjectWork(int64_t rounds);

/* Tells the runtime that the calling thread makes no more calls. */
void subjectDetach(void);

/* Runs body(arg) on a thread of its own, which nobody joins; 0 or -1. The host has one that uses pthread_create; a runtime
 * that lets only threads of its own making run in parallel brings another. */
int subjectSpawn(void *(*body)(void *), void *arg);

#define WORK_CELLS 8
#define WORK_FACTOR 16807
#define WORK_MODULUS 2147483647

#endif

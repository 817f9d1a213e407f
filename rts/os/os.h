/* os.h: what the runtime asks of the operating system, in words that fit any of them.
 *
 * This header, memory.h and topology.h are the whole contract. Nothing above this directory includes a system header to map
 * memory, to sleep, or to count processors, and nothing in this directory knows a capability, a thread of ours or the heap.
 *
 * Holds for every function here unless it says otherwise:
 *   Context: any thread, with or without a capability; not a signal handler.
 *   Errors:  told by the result. errno is left as it was, nothing is printed, and no call is a cancellation point, so that none
 *            of these shows in the host's thread.
 */
#ifndef RTS_OS_OS_H
#define RTS_OS_OS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---------------------------------------------------------------- address space
 *
 *              osReserve             osCommit
 *     nothing ----------> reserved ------------> committed
 *        ^                 |    ^                    |
 *        +-----------------+    +--------------------+
 *             osRelease               osDecommit
 *
 * Reserved: addresses are ours, touching them is a fault, no memory is charged. Committed: readable and writable, zero until
 * written, charged when touched (or at once, where the system promises only what it has). Sizes and addresses are multiples of
 * the page size, except that osReserve rounds its size up.
 */

/* The size of the smallest piece that can be committed. */
size_t osPageSize(void);

/* Reserves `bytes` of address space at a multiple of `align`, a power of two (anything up to a page means a page).
 * Errors: NULL when refused, when bytes is 0, or when align is not a power of two. */
void *osReserve(size_t bytes, size_t align);

/* Makes a reserved range readable and writable; pages already committed keep their contents.
 * Errors: false when refused (memory, number of mappings, fault injection); then part of the range may be accessible. */
bool osCommit(void *p, size_t bytes);

/* Drops the contents of a range, gives its memory back and makes it inaccessible; it stays reserved. A later osCommit finds
 * zeroes. Errors: none; where the system has no mappings left the range stays accessible, but is empty all the same. */
void osDecommit(void *p, size_t bytes);

/* Gives up the addresses themselves: a whole reservation or part of one. */
void osRelease(void *p, size_t bytes);

/* Drops the contents of a committed range and gives its memory back; it stays committed, and guards in it stay. The next read
 * finds zeroes. */
void osDiscard(void *p, size_t bytes);

/* ---------------------------------------------------------------- code
 *
 * Maps a copy of a piece of this library's own text, in whole pages, over the reserved range at `at`: readable and executable, shared with the
 * page cache where that can be. No memory is ever writable and executable, nor executable after it was writable:
 * 1. from the file that the text itself was mapped from, found by /proc/self/maps, if it still says the same: what policies that forbid
 *    execution of written memory (SELinux's execmem and execmod, PaX, seccomp filters) leave alone;
 * 2. from a sealed memfd, written by write().
 * Errors: false when both are refused (by policy, or number of mappings, memory, fault injection); then the range
 * is reserved as before.
 * rights: what the processor knows beyond reading and executing, as mmap takes it; not an error where the kernel does not. */
bool osMapCode(void *at, const void *code, size_t bytes, int rights);
enum { OS_CODE_FROM_FILE = 1, OS_CODE_FROM_MEMFD = 2 };
extern unsigned osCodeForbidden; /* behave as if these ways were refused (tests) */

/* ---------------------------------------------------------------- many stacks in one reservation */

/* Says that a reserved range will hold stacks, before any of it is committed: no huge pages, which would make a stack that is a page
 * deep cost megabytes, and nothing of it locked: under a host's mlockall every stack would be filled from end to end. */
void osPrepareStacks(void *p, size_t bytes);

/* Makes ranges of `bytes`, `stride` apart, guards: touching one is a fault, and a system call that is handed it fails. Each lies in
 * committed memory, and is a guard until its addresses are released; osDiscard over it and fork leave it in place.
 * Returns how many there are now, from the first on; all but `count` of them mean a refusal (number of mappings, memory, fault injection,
 * for which each guard is a call), and the next one may be a guard or not. */
size_t osInstallGuards(void *first, size_t bytes, size_t stride, size_t count);

/* Whether a guard is a mark in the page table and costs nothing else. Otherwise each in the midst of a committed range makes two
 * mappings more, which the process shares with its host and has only so many of. Tried once, by touching: emulators are known to
 * accept the request without doing anything.
 * A filter of system calls that the host installs later must let process_madvise pass; under one that is there already it is not used. */
bool osGuardsInPlace(void);
extern bool osGuardForceMapping; /* behave as if not (tests); set while no guard is being installed */

/* How many mappings the process may have; a usual number where the system does not say. Reads a file. */
size_t osMappingLimit(void);

/* ---------------------------------------------------------------- sleeping and waking
 *
 * A word of this process on which threads sleep. The system compares and falls asleep in one step, so that a wake between the
 * caller's look at the word and its sleep is not lost. Both give no memory ordering: the accesses to *word have to.
 */

/* Sleeps while *word == expected, at most timeout_ns (negative: for ever). May return early for no reason: look again.
 * Blocks: yes; the caller holds no capability. */
void osFutexWait(_Atomic uint32_t *word, uint32_t expected, int64_t timeout_ns);

/* Wakes at most `count` of the threads asleep on the word. */
void osFutexWake(_Atomic uint32_t *word, int count);

/* Adds 1 to an eventfd of the host's. Blocks: no, but where the descriptor is something else that does.
 * Errors: false when the descriptor is not one to write to. */
bool osAddToEvent(int fd);

/* ---------------------------------------------------------------- writing for people
 *
 * All of the text, to whatever the descriptor is. A pipe or socket without a reader is an error like any other, and kills nobody: the signal that
 * comes with it is taken back (unless one was pending before). No cancellation point.
 * Errors: 0, or the system's number. */
int osWriteAll(int fd, const char *text, size_t length);

/* ---------------------------------------------------------------- the one-sided memory barrier
 *
 * One side of a store-buffering pair (store mine; load yours) runs often and has a compiler barrier only; the other calls
 * osMembarrier between its store and its load. When that returns, every thread of the process has passed a full barrier, so that
 * one of the two sees the other's store. Where osMembarrierInit said false the barrier is only the caller's own, and the
 * frequent side needs an atomic_thread_fence(memory_order_seq_cst) of its own.
 */

/* Set before osMembarrierInit: behave as if the system refused (tests, and an option). */
extern bool osMembarrierForceRefused;

/* Registers the process; may be called again, also in a forked child. False: refused, see above.
 * A filter of system calls that the host installs later must let membarrier pass. */
bool osMembarrierInit(void);

/* What osMembarrierInit said last. */
bool osMembarrierWorks(void);

/* The rare side's barrier. */
void osMembarrier(void);

/* ---------------------------------------------------------------- time, threads, processors */

/* Nanoseconds of a clock that never goes back, from an arbitrary start. */
uint64_t osMonotonicNanos(void);
/* Nanoseconds that processors have worked for the process; for the calling thread. */
uint64_t osProcessCpuNanos(void);
uint64_t osThreadCpuNanos(void);

/* Sleeps for at least ns nanoseconds, also if signals arrive. Blocks: yes. */
void osSleepNanos(uint64_t ns);

/* A thread of the runtime's own: run(context) in it, and it ends when that returns. It has a stack with at least stackBytes of room
 * (beyond its thread-locals, which libc takes from the stack), and the name, of which 15 characters count, in tools. All signals are
 * blocked in it but those of its own faults: blocking these would only end the process past the host's crash handler.
 * Owns: the caller joins it, once. Errors: false when memory or the thread is refused, or by fault injection. */
typedef uintptr_t OsThread;
bool osStartThread(OsThread *thread, const char *name, size_t stackBytes, void (*run)(void *context), void *context);

/* Waits for its end. What it did happened before the return. Blocks: yes. Not in a forked child, which has no such thread. */
void osJoinThread(OsThread thread);

/* Instead of joining it: its end is awaited by other means, or not at all. */
void osDetachThread(OsThread thread);

/* ---------------------------------------------------------------- breaking off system calls
 *
 * A signal to one thread, with a handler that does nothing, lets the system call that the thread is in fail with EINTR. */

/* Whether a number is that of a signal that can serve for this. */
bool osIsInterrupt(int signal);

/* Sees to it that the signal does no harm: gives it a handler that does nothing, without SA_RESTART, if nobody has done anything about it.
 * Errors: none; a disposition that somebody chose stays. */
void osPrepareInterrupt(int signal);

/* Lets the signal through to the calling thread; returns whether it was blocked. And blocks it again. */
bool osAllowSignal(int signal);
void osForbidSignal(int signal);

/* The calling thread; a signal for a thread that has not ended. */
OsThread osCurrentThread(void);
void osSignalThread(OsThread thread, int signal);

/* Returns when the handlers of all signals that were sent to the calling thread so far, and that are not blocked, have run. */
void osTakeSignals(void);

/* Lets another runnable thread have this processor. */
void osYieldThread(void);

/* The number under which tools show the calling thread. Changes in a forked child. */
uint64_t osThreadId(void);
/* Has the thread of this process with that number not ended?  A number may be another thread's by now. */
bool osThreadLives(uint64_t id);

/* The calling thread's stack as the system made it: lo is its lowest usable address, hi one past the highest. A stack that the
 * host switched to by itself is not seen: the caller compares with its stack pointer. The first call in a thread costs
 * microseconds (tens in the main thread), later ones nanoseconds.
 * The main thread's stack grows: lo is as far as RLIMIT_STACK and the mapping below allow now, at most 1 GiB under an
 * unlimited stack; a raised limit is noticed when the caller's stack pointer lies outside what was known.
 * Errors: false when the system cannot say; lo and hi are then untouched. */
bool osThreadStackBounds(uintptr_t *lo, uintptr_t *hi);

/* How many threads can run at once: processors that the calling thread may use, or fewer if a cgroup's CPU quota (rounded up)
 * says so. Read anew in each call (a tenth of a millisecond), never 0. */
unsigned osAvailableProcessors(void);

/* The processor under the caller's feet; old news when it returns. 0 when unknown. */
unsigned osCurrentCpu(void);

/* Memory of the process in RAM, now and at most so far; 0 when unknown. */
size_t osResidentBytes(void);
size_t osPeakResidentBytes(void);

/* Has a function called in each child of fork(), in its one thread, before fork returns there. For ever; later ones are called after earlier ones.
 * Errors: false when memory is refused. */
bool osWatchForks(void (*inChild)(void));

/* The address that the program and its libraries (or one of these, by a handle of dlopen) know by a name.
 * Errors: NULL, and *why, if there is none; *why is the system's text, until its next such call in this thread. */
void *osFindSymbol(void *library, const char *symbol, const char **why);

/* A shared object that the loader has loaded. */
struct OsModule {
    uintptr_t lo, hi; /* it lies between these */
    char name[4096];  /* as the loader knows it */
};

/* The object that holds an address, or that a handle of dlopen means. Waits for the loader's lock, which its constructors are run under: they
 * may call this. Errors: false when there is none, and for the program itself, which has no name and is never unloaded. */
bool osFindModule(const void *address, struct OsModule *module);
bool osModuleOfHandle(void *handle, struct OsModule *module);

/* A handle of its own to an object that is loaded, so that it stays so; ended by osCloseModule, which may run its destructors and unmap it.
 * Both wait for the loader's lock: no lock of ours may be held, nor a stop of the world, for what a constructor may want.
 * Errors: NULL when it is not loaded any more, or memory is refused. */
void *osKeepModule(const struct OsModule *module);
void osCloseModule(void *handle);

/* 64 bits to seed a generator with: different in each call and each process; not for secrets. */
uint64_t osRandomSeed(void);

#endif

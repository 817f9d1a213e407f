/* stack_pool.h: machine stacks for unbound threads and fibers.
 *
 * A slot is one of many equally sized pieces of a large reservation.  Memory is what has been touched of it:
 *
 *     low                                                                       high
 *     | guard | ................ frames grow down ....... | record, Stack | colour |
 *             lo                                          hi
 *                                                     |<-------- top page -------->|
 *
 * The record and the frames below it share the slot's top page, and at least FRAME_ROOM of that page is left for frames: a thread that
 * is parked a few calls deep costs one page.  The colour, never touched, differs from slot to slot by cache lines, so that records and
 * tops of many threads spread over the cache's sets; a slot is an odd number of pages long, so that their pages spread over the TLB's.
 * (Starting some threads a few pages lower would do the same for the TLB, but takes the pages from the frames.)
 *
 * No slot lacks a guard: where it cannot be guarded, it is not handed out.  A C frame smaller than the guard cannot step over it.  Where
 * guards cost mappings, the pool leaves the host an eighth of what the process may have.  Huge pages are off.
 *
 * Slots are recycled last in, first out through a cache of the capability, without a lock or a call; caches are filled from, and spill
 * to, the shared pool in batches, under its lock.  A slot that comes back keeps its pages; in the shared pool WARM_STACKS and a few
 * more do, and the system gets back the rest.  Addresses are never given up: who asks a stack to poll may be late, and then hits an
 * idle record, or a page of zeroes.
 *
 * Ownership: a StackCache belongs to who holds its capability; the pool to the stacks lock (RANK_STACKS).  The pool outlives the runtime:
 * slots of safe calls that are still in C when it ends come back later, through a cache of the caller's own: putStack, then
 * flushStackCache. */
#ifndef STACK_POOL_H
#define STACK_POOL_H

#include "rts/Types.h"
#include "stack.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#ifdef CAPSTAN_ASAN
#include <sanitizer/asan_interface.h>
#endif

#define MIN_STACK_SLOT ((size_t)128 * 1024)
#define MAX_STACK_SLOT ((size_t)1 << 30)
#define STACK_GUARD ((size_t)16 * 1024) /* or a page */
#define FRAME_ROOM 2560

enum {
#ifdef CAPSTAN_TORTURE
    STACK_BATCH = 3,     /* slots that go between a cache and the shared pool at a time */
    WARM_STACKS = 7,     /* idle slots of the shared pool that keep their pages */
    COLD_STACKS = 5,     /* idle ones beyond those that are collected before their pages are dropped together */
#else
    STACK_BATCH = 16,
    WARM_STACKS = 512,
    COLD_STACKS = 256,
#endif
    STACK_CACHE = 2 * STACK_BATCH
};

/* A zeroed one is an empty one. */
typedef struct StackCache_ {
    Stack *free;               /* [owner] through Stack.sp */
    _Atomic unsigned count;    /* [owner writes] relaxed: stacksInUse reads it, and a number is all it wants */
    unsigned room;             /* [owner] how many it may hold; 0: the pool does not know it */
    struct StackCache_ *next;  /* [lock: stacks] all caches that the pool knows */
} StackCache;

/* Set the size of slots made from now on: at least this, within the bounds above.  Slots in use keep theirs; idle ones of another size give
 * up their pages and wait until it is asked for again.  Context: startup, nobody holds a capability, all caches are flushed. */
void initStackPool(size_t slotBytes);

/* In a forked child, before anything else of the pool: the lock is nobody's.  Slots stay as they are, but the shared pool's idle ones are lost
 * if another thread was changing it just then.  Those of the parent's other threads stay in use: nobody knows which they are.  Caches stay
 * good, or may be forgotten without a flush. */
void forgetStackPool(void);

Stack *takeStackSlow(StackCache *cache);
void putStackSlow(StackCache *cache, Stack *stack);

/* As it was when fresh.  poll has late writers, and mask late readers. */
static inline Stack *cleanStack(Stack *stack)
{
    stack->cap = NULL;
    stack->tso = NULL;
    stack->roots = NULL;
    stack->trap = NULL;
    stack->limit = stack->lo + STACK_HEADROOM;
    __atomic_store_n(&stack->poll, 0, __ATOMIC_RELAXED);
    setMask(stack, UNMASKED);
    stack->sp = NULL;
    stack->pendingFun = NULL;
    stack->pendingCount = 0;
#ifdef CAPSTAN_ASAN
    /* Frames that were left without returning. */
    ASAN_UNPOISON_MEMORY_REGION((void *)stack->lo, stack->hi - stack->lo);
#endif
    return stack;
}

/* A stack with lo (lowest usable address, just above the guard), hi (where frames begin: a multiple of 64, coloured) and limit (lo plus
 * STACK_HEADROOM of stack.h) set, everything else zero but contents of old frames below hi, and of pendingArgs.  NULL: no memory, no
 * addresses, no mappings, or no way to guard it; a later call may have more luck. */
static inline Stack *takeStack(StackCache *cache)
{
    Stack *stack = cache->free;
    if (__builtin_expect(stack == NULL, 0)) return takeStackSlow(cache);
    cache->free = stack->sp;
    unsigned count = atomic_load_explicit(&cache->count, memory_order_relaxed);
    atomic_store_explicit(&cache->count, count - 1, memory_order_relaxed);
    return cleanStack(stack);
}

/* Put one back, taken from whichever cache; never fails.  Nothing runs on it, or only the caller, who switches away next without having its
 * stack pointer saved there: a full cache spills its older half, never the stack that is being put. */
static inline void putStack(StackCache *cache, Stack *stack)
{
    unsigned count = atomic_load_explicit(&cache->count, memory_order_relaxed);
    if (__builtin_expect(count >= cache->room, 0)) {
        putStackSlow(cache, stack);
        return;
    }
    stack->sp = cache->free;
    cache->free = stack;
    atomic_store_explicit(&cache->count, count + 1, memory_order_relaxed);
}

/* Give all slots of a cache to the shared pool, which forgets the cache: a cache is flushed before its memory goes away or is zeroed. */
void flushStackCache(StackCache *cache);
/* Give back what idle slots of the shared pool hold in memory.  Any thread. */
void trimStackPool(void);
/* Slots that are not in use, and hold memory all the same; exact while nobody takes or puts. */
size_t stacksHolding(void);

/* Slots handed out and not put back in a pool or cache; slots that exist; for people and tests.  The first is exact while nobody takes
 * or puts. */
size_t stacksInUse(void);
size_t stacksMade(void);
/* Whether guards are installed in place (MADV_GUARD_INSTALL) or cost a mapping each (mprotect). */
bool stackGuardsAreCheap(void);

#endif

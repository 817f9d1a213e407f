/*
 * Stacks to switch among, for tests of arch/ alone: memory, bounds, and what the sanitizers must hear about a switch.
 */
#ifndef CAPSTAN_TESTS_FIBERS_H
#define CAPSTAN_TESTS_FIBERS_H

#include "arch.h"

#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#define FIBERS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBERS_ASAN 1
#endif
#endif

#ifdef FIBERS_ASAN
#include <pthread.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if ARCH_RAISE_BY_LONGJMP
#include <sanitizer/tsan_interface.h>
#endif

#define FIBER_SIZE (256 * 1024)

/* Ownership: one thread. The fiber of a thread's own stack has no memory. */
typedef struct {
    Stack stack;
    char *memory;
    char *low; /* lowest address of the stack, where somebody needs to know */
    size_t size;
    void *sanitizer; /* TSan: its fiber; ASan: its fake stack while it sleeps */
} Fiber;

/* Describe the stack that is running. */
static inline void adoptFiber(Fiber *fiber)
{
    memset(fiber, 0, sizeof *fiber);
#ifdef FIBERS_ASAN
    pthread_attr_t attributes;
    void *low;
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstack(&attributes, &low, &fiber->size);
    pthread_attr_destroy(&attributes);
    fiber->low = low;
#endif
#if ARCH_RAISE_BY_LONGJMP
    fiber->sanitizer = __tsan_get_current_fiber();
#endif
}

/* Make a sleeping fiber; `colour`: how far below the end of its memory it starts. */
static inline void makeFiber(Fiber *fiber, size_t colour, void (*fn)(void *), void *arg)
{
    memset(fiber, 0, sizeof *fiber);
    fiber->memory = malloc(FIBER_SIZE);
    fiber->low = fiber->memory;
    fiber->size = FIBER_SIZE;
    archInitStack(&fiber->stack, fiber->memory + FIBER_SIZE - colour, fn, arg);
#if ARCH_RAISE_BY_LONGJMP
    fiber->sanitizer = __tsan_create_fiber(0);
#endif
}

static inline void freeFiber(Fiber *fiber)
{
#if ARCH_RAISE_BY_LONGJMP
    __tsan_destroy_fiber(fiber->sanitizer);
#endif
    free(fiber->memory);
}

/* The first act of a fiber's function. */
static inline void beginFiber(void)
{
#ifdef FIBERS_ASAN
    __sanitizer_finish_switch_fiber(NULL, NULL, NULL);
#endif
}

/* TSan keeps a stack of calls for each fiber: a function whose entry it sees on one and whose exit on another would
 * upset it. */
__attribute__((no_sanitize("thread"))) static inline void switchFibers(Fiber *from, Fiber *to)
{
#ifdef FIBERS_ASAN
    __sanitizer_start_switch_fiber(&from->sanitizer, to->low, to->size);
#endif
#if ARCH_RAISE_BY_LONGJMP
    __tsan_switch_to_fiber(to->sanitizer, 0);
#endif
    archSwitch(&from->stack, &to->stack);
#ifdef FIBERS_ASAN
    __sanitizer_finish_switch_fiber(from->sanitizer, NULL, NULL);
#endif
}

/* A call from fiber `from` on the stack of `to`, which sleeps. */
typedef struct {
    void *(*fn)(void *);
    void *arg;
    void *result;
    void *fake_stack;
} AcrossCall;

static void *runAcross(void *arg)
{
    AcrossCall *call = arg;

#ifdef FIBERS_ASAN
    const void *from_low;
    size_t from_size;
    __sanitizer_finish_switch_fiber(NULL, &from_low, &from_size);
#endif
    call->result = call->fn(call->arg);
#ifdef FIBERS_ASAN
    __sanitizer_start_switch_fiber(NULL, from_low, from_size);
#endif
    return call;
}

/* Returns what fn returned, or NULL if archCallOnStack lost its result. */
__attribute__((no_sanitize("thread"))) static inline void *callOnFiber(Fiber *from, Fiber *to, void *sp,
                                                                       void *(*fn)(void *), void *arg)
{
    AcrossCall call = { .fn = fn, .arg = arg };
    void *result;

#ifdef FIBERS_ASAN
    __sanitizer_start_switch_fiber(&call.fake_stack, to->low, to->size);
#endif
#if ARCH_RAISE_BY_LONGJMP
    __tsan_switch_to_fiber(to->sanitizer, 0);
#endif
    result = archCallOnStack(sp, runAcross, &call);
#if ARCH_RAISE_BY_LONGJMP
    __tsan_switch_to_fiber(from->sanitizer, 0);
#endif
#ifdef FIBERS_ASAN
    __sanitizer_finish_switch_fiber(call.fake_stack, NULL, NULL);
#endif
    return result == &call ? call.result : NULL;
}

#endif

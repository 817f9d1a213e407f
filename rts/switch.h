/* switch.h: archSwitch, with what sanitizers have to be told about it. */
#ifndef SWITCH_H
#define SWITCH_H

#include "arch.h"
#include "os/os.h"
#include "rts/Types.h"

#if defined(CAPSTAN_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(CAPSTAN_TSAN)
#include <sanitizer/tsan_interface.h>
#endif

/* Announce that this OS thread's own stack is about to be left for the first time, so that sanitizers know it and one can come back to it. */
static inline void nameHome(Stack *home)
{
#if defined(CAPSTAN_TSAN)
    home->sanitizer = __tsan_get_current_fiber();
#elif defined(CAPSTAN_ASAN)
    /* The first switch away may be to a stack that has been run before, which does not ask where it comes from. */
    uintptr_t lo, hi, here = (uintptr_t)__builtin_frame_address(0);
    if (home->hi != 0 || !osThreadStackBounds(&lo, &hi) || here - lo >= hi - lo) return;
    home->lo = lo;
    home->hi = hi;
#else
    (void)home;
#endif
}

/* A stack on which somebody is about to begin. */
static inline void nameFresh(Stack *stack)
{
#if defined(CAPSTAN_TSAN)
    /* Kept with the slot: TSan has a place for only so many. */
    if (stack->sanitizer == NULL) stack->sanitizer = __tsan_create_fiber(0);
#else
    stack->sanitizer = NULL;
#endif
}

/* What the first frame of a fresh stack does, and who comes back from a switch: tell ASan; from: where the switch came from, if its bounds are unknown. */
static inline void arriveOnStack(Stack *here, Stack *home)
{
#if defined(CAPSTAN_ASAN)
    const void *bottom;
    size_t size;
    __sanitizer_finish_switch_fiber(here->sanitizer, &bottom, &size);
    if (home != NULL && home->hi == 0) {
        home->lo = (uintptr_t)bottom;
        home->hi = (uintptr_t)bottom + size;
    }
#else
    (void)here;
    (void)home;
#endif
}

/* The OS thread runs on its own stack again, and nobody switched. */
static inline void comeHomeSideways(Stack *home)
{
#if defined(CAPSTAN_ASAN)
    __sanitizer_start_switch_fiber(NULL, (void *)home->lo, home->hi - home->lo);
    __sanitizer_finish_switch_fiber(home->sanitizer, NULL, NULL);
    ASAN_UNPOISON_MEMORY_REGION((void *)home->lo, home->hi - home->lo); /* of frames that were left without returning */
#elif defined(CAPSTAN_TSAN)
    __tsan_switch_to_fiber(home->sanitizer, 0);
#else
    (void)home;
#endif
}

/* Leave from for to.  over: from will never be gone back to. */
#if defined(CAPSTAN_TSAN)
__attribute__((no_sanitize("thread")))
#endif
static inline void switchStack(Stack *from, Stack *to, bool over)
{
#if defined(CAPSTAN_ASAN)
    from->sanitizer = NULL;
    __sanitizer_start_switch_fiber(over ? NULL : &from->sanitizer, (void *)to->lo, to->hi - to->lo);
#endif
#if defined(CAPSTAN_TSAN)
    __tsan_switch_to_fiber(to->sanitizer, 0);
#endif
    (void)over;
    archSwitch(from, to);
}

#if defined(CAPSTAN_ASAN) || defined(CAPSTAN_TSAN)
typedef struct {
    void *(*fn)(void *arg);
    void *arg;
    Stack *from, *home;
} HomeCall;

/* Begins on one of TSan's shadow stacks and returns on another: TSan must count neither, or each call would leave an entry behind on the
 * one, and take one too many off the other. */
#if defined(CAPSTAN_TSAN)
__attribute__((noinline, disable_sanitizer_instrumentation))
#endif
static void *runOnHome(void *call)
{
    HomeCall *c = call;
    arriveOnStack(c->home, NULL);
    void *result = c->fn(c->arg);
#if defined(CAPSTAN_ASAN)
    c->home->sanitizer = NULL;
    __sanitizer_start_switch_fiber(&c->home->sanitizer, (void *)c->from->lo, c->from->hi - c->from->lo);
#endif
#if defined(CAPSTAN_TSAN)
    __tsan_switch_to_fiber(c->from->sanitizer, 0);
#endif
    return result;
}
#endif

/* Call fn(arg) on the OS thread's own stack, below what sleeps there. */
static inline void *callOnHome(Stack *from, Stack *home, void *(*fn)(void *arg), void *arg)
{
#if defined(CAPSTAN_ASAN) || defined(CAPSTAN_TSAN)
    HomeCall call = { fn, arg, from, home };
#if defined(CAPSTAN_ASAN)
    from->sanitizer = NULL;
    __sanitizer_start_switch_fiber(&from->sanitizer, (void *)home->lo, home->hi - home->lo);
#else
    __tsan_switch_to_fiber(home->sanitizer, 0);
#endif
    void *result = archCallOnStack(home->sp, runOnHome, &call);
    arriveOnStack(from, NULL);
    return result;
#else
    (void)from;
    return archCallOnStack(home->sp, fn, arg);
#endif
}

#endif

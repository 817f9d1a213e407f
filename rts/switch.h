/* switch.h: archSwitch, with what sanitizers have to be told about it. */
#ifndef SWITCH_H
#define SWITCH_H

#include "arch.h"
#include "rts/Types.h"

#if defined(CAPSTAN_ASAN)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(CAPSTAN_TSAN)
#include <sanitizer/tsan_interface.h>
#endif

/* Announce that this OS thread's own stack is about to be left for the first time (TSan), so that one can come back to it. */
static inline void nameHome(Stack *home)
{
#if defined(CAPSTAN_TSAN)
    home->sanitizer = __tsan_get_current_fiber();
#else
    (void)home;
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

/* Call fn(arg) on the OS thread's own stack, below what sleeps there. */
static inline void *callOnHome(Stack *from, Stack *home, void *(*fn)(void *arg), void *arg)
{
#if defined(CAPSTAN_ASAN)
    from->sanitizer = NULL;
    __sanitizer_start_switch_fiber(&from->sanitizer, (void *)home->lo, home->hi - home->lo);
#endif
#if defined(CAPSTAN_TSAN)
    __tsan_switch_to_fiber(home->sanitizer, 0);
#endif
    void *result = archCallOnStack(home->sp, fn, arg);
#if defined(CAPSTAN_TSAN)
    __tsan_switch_to_fiber(from->sanitizer, 0);
#endif
    arriveOnStack(from, NULL);
    return result;
}

#endif

/* fault.c: the allocation that fails on purpose (memory.h). */
#include "os/internal.h"

#include "os/memory.h"

_Atomic int osFailMode = FAIL_OFF;
static _Atomic long callsLeft;   /* [atomic] 1 before the call that fails; goes on below */
static _Atomic long failuresMade; /* [atomic] */

bool osCountFailure(void) {
    /* Acquire pairs with the release in switchFailures: who sees the mode sees its count. */
    int mode = atomic_load_explicit(&osFailMode, memory_order_acquire);
    if (mode == FAIL_OFF) return false;
    long left = atomic_fetch_sub_explicit(&callsLeft, 1, memory_order_relaxed);
    bool fails = mode == FAIL_ONE ? left == 1 : left <= 1;
    if (fails) atomic_fetch_add_explicit(&failuresMade, 1, memory_order_relaxed);
    return fails;
}

static void switchFailures(enum FailMode mode, long n) {
    /* Off in between, so that no call counts by the old mode on the new count. */
    atomic_store_explicit(&osFailMode, FAIL_OFF, memory_order_relaxed);
    atomic_store_explicit(&callsLeft, n, memory_order_relaxed);
    atomic_store_explicit(&failuresMade, 0, memory_order_relaxed);
    if (n >= 1) atomic_store_explicit(&osFailMode, mode, memory_order_release);
}

void osFailAfter(long n) {
    switchFailures(FAIL_ONE, n);
}

void osFailAllAfter(long n) {
    switchFailures(FAIL_ALL, n);
}

long osFailuresInjected(void) {
    return atomic_load_explicit(&failuresMade, memory_order_relaxed);
}

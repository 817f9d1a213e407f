/*
 * For the tests of a port: what only assembly can see.
 */
#ifndef CAPSTAN_ARCH_PROBE_H
#define CAPSTAN_ARCH_PROBE_H

#include <stdint.h>

/* Call fn(arg) with values that depend on `seed` in all callee-saved registers. Returns how many of them it changed. */
unsigned archProbeRegisters(void (*fn)(void *), void *arg, uintptr_t seed);

/* Whether the stack pointer was aligned at this call as the ABI wants it. Does an aligned access that faults if it
 * was not. */
int archProbeAlignment(void);

#endif

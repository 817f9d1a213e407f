/* What managed code calls in figure B4: one instruction, in a file of its own, so that no compiler sees through it. */
#ifndef BENCH_NEXT_H
#define BENCH_NEXT_H

#include <stdint.h>

/* address + 1 */
void *nextAddress(void *address);

/* n + 1: the same instruction with the type that the peers pass */
int64_t nextNumber(int64_t n);

#endif

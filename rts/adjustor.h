/* adjustor.h: calls that come in through adjustors. */
#ifndef ADJUSTOR_H
#define ADJUSTOR_H

#include "rts/Types.h"

/* Before the first start. */
void initAdjustors(void);

/* A copy of a byte array as a C string, for free(); raises if it is none. */
char *stringOf(Stack *stack, HaskellObj bytes);

#endif

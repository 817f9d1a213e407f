/* incall.h: how C calls the managed side. */
#ifndef WORDFREQ_INCALL_H
#define WORDFREQ_INCALL_H

#include "text.h"

typedef struct {
    char *word;
    uint64_t count;
} WordCount;

typedef struct {
    uint64_t words, distinct;
    WordCount *top;
    size_t topCount;
} Totals;

/* Count the words of the buffer's text.  If external, the managed side takes the block over and *buffer is left empty.
 * Returns how many there were, or -1: problem says why. */
int64_t countText(Buffer *buffer, bool external, char *problem);

/* Fetch the totals and the n most frequent words (n < 0: all).  false: problem says why.  freeTotals in any case. */
bool fetchTotals(int64_t n, Totals *totals, char *problem);
void freeTotals(Totals *totals);

#endif

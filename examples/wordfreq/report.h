/* report.h: what is printed at the end. */
#ifndef WORDFREQ_REPORT_H
#define WORDFREQ_REPORT_H

#include "Rts.h"
#include "incall.h"
#include "workers.h"

typedef struct {
    uint64_t count, totalNs, largestNs;  /* collections and their pauses */
} Pauses;

typedef struct {
    const Options *options;
    const Text *text;
    const Totals *totals;
    const Work *work;
    Pauses pauses;
    RtsCounts counts;
    uint64_t peakRssBytes;
} Report;

/* Each prints one form of it on standard output.  false: no memory; what fails to be written shows in ferror(stdout). */
bool printTable(const Report *report);
bool printJson(const Report *report);
bool printWords(const Report *report);

#endif

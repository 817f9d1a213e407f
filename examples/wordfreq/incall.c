#include "incall.h"
#include "map.h"

#include <stdio.h>
#include <stdlib.h>

/* Whether the last evaluation went well. */
static bool checkCall(Capability *cap, char *problem)
{
    char text[256];
    SchedulerStatus status = rts_getSchedStatus(cap);
    switch (status) {
    case Success: return true;
    case HeapExhausted: snprintf(problem, PROBLEM_SIZE, "the managed heap is full (see --heap-limit)"); break;
    case Refused: snprintf(problem, PROBLEM_SIZE, "the call was refused: %s", rts_statusText(rts_getRefusal(cap))); break;
    case Interrupted: snprintf(problem, PROBLEM_SIZE, "the runtime ended during the call"); break;
    case Killed:
        rts_showException(cap, rts_getException(cap), text, sizeof text);
        snprintf(problem, PROBLEM_SIZE, "the call ended by an exception: %s", text);
        break;
    default: snprintf(problem, PROBLEM_SIZE, "the call ended with status %d", (int)status); break;
    }
    return false;
}

static void releaseBlock(void *block, void *bytes) { free(block); }

/* The text as a managed byte array. */
static HaskellObj handOver(Capability *cap, Buffer *buffer, bool external)
{
    char *text = buffer->block + buffer->begin;
    if (!external) return rts_mkBytes(cap, text, buffer->length);
    char *block = buffer->block;
    size_t length = buffer->length;
    *buffer = (Buffer){ 0 };
    return rts_mkBytesExternal(cap, text, length, releaseBlock, block);
}

int64_t countText(Buffer *buffer, bool external, char *problem)
{
    HaskellObj result = CAPSTAN_POISON;
    Capability *cap = rts_lock();
    HaskellObj text = handOver(cap, buffer, external);
    rts_evalIO(&cap, rts_apply(cap, &countWords_closure, text), &result);
    int64_t words = checkCall(cap, problem) ? rts_getInt(result) : -1;
    rts_unlock(cap);
    return words;
}

/* Copies a Summary out of the heap.  Nothing here is a safepoint, so the values stay where they are. */
static bool copySummary(HaskellObj summary, Totals *totals)
{
    HaskellObj top = rts_getField(summary, SUMMARY_TOP);
    totals->words = rts_getWord(rts_getField(summary, SUMMARY_WORDS));
    totals->distinct = rts_getWord(rts_getField(summary, SUMMARY_DISTINCT));
    size_t n = rts_arrayLength(top);
    totals->top = calloc(n + 1, sizeof *totals->top);
    if (totals->top == NULL) return false;
    for (; totals->topCount < n; totals->topCount++) {
        HaskellObj entry = rts_getElem(top, totals->topCount);
        char *word = rts_getString(rts_getField(entry, ENTRY_WORD));
        if (word == NULL) return false;
        totals->top[totals->topCount] = (WordCount){ word, rts_getWord(rts_getField(entry, ENTRY_COUNT)) };
    }
    return true;
}

bool fetchTotals(int64_t n, Totals *totals, char *problem)
{
    HaskellObj result = CAPSTAN_POISON;
    *totals = (Totals){ 0 };
    Capability *cap = rts_lock();
    rts_evalIO(&cap, rts_apply(cap, &summarise_closure, rts_mkInt(cap, n)), &result);
    bool ok = checkCall(cap, problem);
    if (ok && !copySummary(result, totals)) {
        snprintf(problem, PROBLEM_SIZE, "no memory for the list of words");
        ok = false;
    }
    rts_unlock(cap);
    return ok;
}

void freeTotals(Totals *totals)
{
    for (size_t i = 0; i < totals->topCount; i++) free(totals->top[i].word);
    free(totals->top);
}

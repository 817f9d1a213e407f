/* How an in-call ended, for C that reads it later. */
#include "exception.h"
#include "gc/heap.h"
#include "incall.h"
#include "rts/Threads.h"
#include "rts/Try.h"

#include <string.h>

/* The length of the character at s, which ends in a zero; 0: it is not UTF-8, or not all there. */
static size_t charLength(const unsigned char *s)
{
    size_t n = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    /* Longer forms than needed, surrogates, beyond U+10FFFF. */
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f)) return 0;
    return n;
}

/* cut: the text went on, so that the last character may not be all there. */
static void makeUtf8(char *text, bool cut)
{
    size_t end = strlen(text);
    for (size_t i = 0, n; i < end; i += n) {
        n = charLength((unsigned char *)text + i);
        if (n != 0) continue;
        if (cut && end - i < 4 && (unsigned char)text[i] >= 0xc2) {
            text[i] = 0;
            return;
        }
        text[i] = '?';
        n = 1;
    }
}

static const char *className(HaskellObj e)
{
    if (rts_isSmallInt(e)) return "Int";
    if (e == CAPSTAN_SHUTDOWN) return "Interrupted";
    if (rts_isImmediate(e)) return rts_isImmediateOf(e, IMM_CHAR) ? "Char" : rts_isImmediateOf(e, IMM_BOOL) ? "Bool" : "()";
    return rts_info(e)->name != NULL ? rts_info(e)->name : "";
}

static void copyText(char *to, size_t size, const char *text)
{
    size_t n = strlen(text);
    memcpy(to, text, n < size ? n + 1 : size - 1);
    to[n < size ? n : size - 1] = 0;
    makeUtf8(to, n >= size);
}

static void clearError(RtsError *error, SchedulerStatus status, RtsStatus refusal, const char *message)
{
    error->status = status;
    error->refusal = refusal;
    error->exception_class[0] = 0;
    error->exception = NULL;
    copyText(error->message, sizeof error->message, message);
}

SchedulerStatus rts_getError(Capability *cap, RtsError *error)
{
    SchedulerStatus status = rts_getSchedStatus(cap);
    if (error == NULL) return status;
    RtsStatus refusal = rts_getRefusal(cap);
    HaskellObj e = refusal == RTS_OK ? rts_getException(cap) : CAPSTAN_POISON;
    clearError(error, status, refusal, refusal != RTS_OK ? rts_statusText(refusal) : status == Success ? "" : statusWord(status));
    if (status == Success || e == CAPSTAN_POISON || e == NULL) return status;
    copyText(error->exception_class, sizeof error->exception_class, className(e));
    if (status == Killed) {
        size_t length = showException(e, error->message, sizeof error->message);
        makeUtf8(error->message, length >= sizeof error->message);
    }
    if (error->keep) error->exception = getStablePtr((StgPtr)e);
    return status;
}

SchedulerStatus rts_notGivenError(HaskellObj result, RtsError *error)
{
    if (result == CAPSTAN_POISON || isByteArray(result)) {
        if (error != NULL) clearError(error, HeapExhausted, RTS_NO_MEMORY, rts_statusText(RTS_NO_MEMORY));
        return HeapExhausted;
    }
    if (error != NULL) {
        clearError(error, Killed, RTS_OK, "the result of an export: expected a byte array or unit, found another value");
        copyText(error->exception_class, sizeof error->exception_class, className(&capstan_WrongKind_closure));
        if (error->keep) error->exception = getStablePtr((StgPtr)&capstan_WrongKind_closure);
    }
    return Killed;
}

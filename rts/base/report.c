#include "base/report.h"

#include "os/os.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* What of a line reaches the log. */
#define LINE_BYTES 512

static const struct {
    RtsStatus status;
    const char *name, *text;
} statusTable[] = {
    { RTS_OK, "RTS_OK", "all went well" },
    { RTS_OTHER_SETTINGS, "RTS_OTHER_SETTINGS", "the runtime is running with other settings, and they stay" },
    { RTS_BAD_OPTION, "RTS_BAD_OPTION", "an option or a setting is wrong" },
    { RTS_NO_MEMORY, "RTS_NO_MEMORY", "the operating system refused memory" },
    { RTS_NOT_STARTED, "RTS_NOT_STARTED", "the runtime is not running" },
    { RTS_CLOSED, "RTS_CLOSED", "the runtime ended during the call" },
    { RTS_HOLDS_CAPABILITY, "RTS_HOLDS_CAPABILITY",
      "the thread holds a capability already: it is inside an unsafe call, or between rts_lock and rts_unlock" },
    { RTS_NOT_HOLDER, "RTS_NOT_HOLDER", "the thread does not hold this capability" },
    { RTS_OUT_OF_ORDER, "RTS_OUT_OF_ORDER", "the in-calls of a thread must end in the reverse order of their beginning" },
    { RTS_INSIDE_INCALL, "RTS_INSIDE_INCALL", "not allowed inside an in-call" },
    { RTS_BAD_STABLE_PTR, "RTS_BAD_STABLE_PTR", "not a stable pointer in use" },
    { RTS_WRONG_KIND, "RTS_WRONG_KIND", "the value is of another kind" },
    { RTS_BUSY, "RTS_BUSY", "no capability is free" },
    { RTS_IN_FINALIZER, "RTS_IN_FINALIZER", "not allowed in a free function or another finalizer" },
    { RTS_BAD_ARGUMENT, "RTS_BAD_ARGUMENT", "an argument is out of range" },
    { RTS_TIMED_OUT, "RTS_TIMED_OUT", "the deadline passed" },
    { RTS_CANCELLED, "RTS_CANCELLED", "rts_cancel ended it" },
    { RTS_LEFT_SIDEWAYS, "RTS_LEFT_SIDEWAYS", "a C++ exception, or longjmp, went through managed code" },
};

static int findStatus(RtsStatus status)
{
    for (int i = 0; i < (int)(sizeof statusTable / sizeof *statusTable); i++)
        if (statusTable[i].status == status) return i;
    return -1;
}

const char *rts_statusName(RtsStatus status)
{
    int i = findStatus(status);
    return i < 0 ? "RTS_?" : statusTable[i].name;
}

const char *rts_statusText(RtsStatus status)
{
    int i = findStatus(status);
    return i < 0 ? "unknown status" : statusTable[i].text;
}

static void logToStandardError(void *ctx, RtsLogLevel level, const char *line)
{
    char text[LINE_BYTES + 16];
    if (level > RTS_LOG_WARNING) return;
    snprintf(text, sizeof text, "capstan: %s\n", line);
    osWriteAll(STDERR_FILENO, text, strlen(text)); /* where it cannot be said, nothing can */
}

static void errorToLog(void *ctx, RtsStatus status, const char *message)
{
    logLine(RTS_LOG_ERROR, "%s: %s", rts_statusName(status), message);
}

static void closedToError(void *ctx, RtsStatus why)
{
    reportError(why, "rts_lock: %s", rts_statusText(why));
}

static const RtsConfig defaults = { .logHook = logToStandardError, .errorHook = errorToLog, .closedHook = closedToError };
_Atomic(const RtsConfig *) currentConfig = &defaults;

void publishConfig(const RtsConfig *config)
{
    static RtsConfig copies[64];
    static unsigned starts;
    RtsConfig *copy = &copies[starts++ % 64];
    *copy = *config;
    atomic_store_explicit(&currentConfig, copy, memory_order_release);
}

void fillDefaultHooks(RtsConfig *config)
{
    if (config->logHook == NULL) config->logHook = logToStandardError;
    if (config->errorHook == NULL) config->errorHook = errorToLog;
    if (config->closedHook == NULL) config->closedHook = closedToError;
}

void logLine(RtsLogLevel level, const char *format, ...)
{
    char line[LINE_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    /* Most lines are said in the middle of something, and writing is a cancellation point. */
    int cancelState;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelState);
    hostConfig.logHook(hostConfig.logCtx, level, line);
    pthread_setcancelstate(cancelState, &cancelState);
}

void reportError(RtsStatus status, const char *format, ...)
{
    char line[LINE_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    hostConfig.errorHook(hostConfig.errorCtx, status, line);
}

#ifdef CAPSTAN_DEBUG
void assertionFailed(const char *what, const char *file, int line)
{
    logLine(RTS_LOG_ERROR, "broken invariant at %s:%d: %s", file, line, what);
    __builtin_trap();
}
#endif

/* base/report.h: how the runtime says that something is wrong.  It never prints, exits or aborts: every line goes to a hook. */
#ifndef BASE_REPORT_H
#define BASE_REPORT_H

#include "rts/Config.h"

#include <stdatomic.h>

/* The configuration in force: a copy of the host's; the defaults before the first start. */
extern _Atomic(const RtsConfig *) currentConfig;
#define hostConfig (*atomic_load_explicit(&currentConfig, memory_order_acquire))

/* Put a configuration in force.  Context: startup.  Some copies are kept for who is late. */
void publishConfig(const RtsConfig *config);

/* Fill in what the host left NULL. */
void fillDefaultHooks(RtsConfig *config);

/* One line to the log hook. */
__attribute__((format(printf, 2, 3))) void logLine(RtsLogLevel level, const char *format, ...);

/* A call that was wrong: to the error hook. */
__attribute__((format(printf, 2, 3))) void reportError(RtsStatus status, const char *format, ...);

/* Invariants.  Checked in debug builds: a broken one is logged and traps, for the debugger to stop at. */
#ifdef CAPSTAN_DEBUG
_Noreturn void assertionFailed(const char *what, const char *file, int line);
#define ASSERT(e) ((e) ? (void)0 : assertionFailed(#e, __FILE__, __LINE__))
#else
#define ASSERT(e) ((void)sizeof(e))
#endif

#define container_of(p, type, member) ((type *)(void *)((char *)(p) - offsetof(type, member)))

#endif

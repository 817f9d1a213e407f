/* options.h: settings from option strings. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include "rts/Config.h"

/* Apply one option ("-N2", "--verify-heap") to the configuration.  On RTS_BAD_OPTION message says which, and what was expected. */
RtsStatus applyOption(RtsConfig *config, const char *option, char *message, size_t size);
/* Apply options separated by blanks. */
RtsStatus applyOptions(RtsConfig *config, const char *options, char *message, size_t size);
/* Apply what stands between +RTS and -RTS (or --RTS, or the end) in argv and take it out. */
RtsStatus applyArgs(RtsConfig *config, int *argc, char **argv[], char *message, size_t size);
#ifdef CAPSTAN_TORTURE
/* One safepoint in so many collects: CAPSTAN_TORTURE_EVERY. */
extern _Atomic unsigned tortureEvery; /* changes with the runtime */
#endif

/* Are the settings possible, together?  In torture builds also reads what the environment says of these. */
RtsStatus checkConfig(const RtsConfig *config, char *message, size_t size);

#endif

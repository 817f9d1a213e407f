/* GHC -threaded: the calls are foreign exports, in GHC's own stub text (Calls.hs). */
#include "subject.h"
#include <Rts.h>
#include <stdio.h>

int subjectStart(int capabilities)
{
    static char option[16];
    static char *argv[] = {"bench", NULL};
    char **arguments = argv;
    int argc = 1;
    snprintf(option, sizeof option, "-N%d", capabilities);
    RtsConfig config = defaultRtsConfig;
    config.rts_opts_enabled = RtsOptsAll;
    config.rts_opts = option;
    hs_init_ghc(&argc, &arguments, config);
    return 0;
}

int subjectAttach(void)
{
    return 0;
}

void subjectDetach(void)
{
    hs_thread_done();
}

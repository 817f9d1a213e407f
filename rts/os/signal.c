/* signal.c: a signal that breaks off system calls (os.h). */
#include "os/internal.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "os/os.h"

_Static_assert(sizeof(pthread_t) <= sizeof(OsThread), "a thread's handle fits into a word");

bool osIsInterrupt(int signal) {
    static const int unfit[] = {SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT};
    for (size_t i = 0; i < sizeof unfit / sizeof *unfit; i++)
        if (signal == unfit[i]) return false;
    /* Between the two kinds are those that libc keeps to itself. */
    return (signal >= 1 && signal < 32) || (signal >= SIGRTMIN && signal <= SIGRTMAX);
}

static void doNothing(int signal) {
    (void)signal;
}

void osPrepareInterrupt(int signal) {
    int error = errno;
    struct sigaction action;
    if (sigaction(signal, NULL, &action) == 0 && !(action.sa_flags & SA_SIGINFO) && action.sa_handler == SIG_DFL) {
        action = (struct sigaction){.sa_handler = doNothing, .sa_flags = SA_ONSTACK};
        sigaction(signal, &action, NULL);
    }
    errno = error;
}

bool osAllowSignal(int signal) {
    sigset_t set, before;
    sigemptyset(&set);
    sigaddset(&set, signal);
    return pthread_sigmask(SIG_UNBLOCK, &set, &before) == 0 && sigismember(&before, signal) == 1;
}

void osForbidSignal(int signal) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

OsThread osCurrentThread(void) {
    return (OsThread)pthread_self();
}

void osSignalThread(OsThread thread, int signal) {
    pthread_kill((pthread_t)thread, signal);
}

void osTakeSignals(void) {
    /* Any call will do: the way back from it leads through the handlers. */
    int error = errno;
    syscall(SYS_gettid);
    errno = error;
}

/* spawn.c: threads of the runtime's own (os.h). */
#include "os/internal.h"

#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include "os/memory.h"
#include "os/os.h"

enum { NAME_ROOM = 16 }; /* what the kernel keeps of a name */

_Static_assert(sizeof(pthread_t) <= sizeof(OsThread), "a thread's handle fits into a word");

/* What the maker tells the thread. Made by the one, freed by the other. */
struct Start {
    void (*run)(void *context);
    void *context;
    char name[NAME_ROOM];
};

static void *enterThread(void *argument) {
    struct Start start = *(struct Start *)argument;
    rtsFree(argument);
    pthread_setname_np(pthread_self(), start.name);
    start.run(start.context);
    return NULL;
}

/* Everything but what a fault of the thread itself raises: the host's crash handler, if it has one, is to see that, and a blocked
 * one would only end the process past it. */
static void blockSignals(sigset_t *before) {
    sigset_t all;
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
    sigfillset(&all);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) sigdelset(&all, faults[i]);
    pthread_sigmask(SIG_SETMASK, &all, before);
}

static int addThreadLocals(struct dl_phdr_info *object, size_t infoBytes, void *sum) {
    (void)infoBytes;
    for (size_t i = 0; i < object->dlpi_phnum; i++)
        if (object->dlpi_phdr[i].p_type == PT_TLS) *(size_t *)sum += object->dlpi_phdr[i].p_memsz;
    return 0;
}

/* libc carves the thread-locals of the program and its libraries out of the stack. */
static size_t findStackSize(size_t bytes) {
    size_t locals = 0, page = osPageSize();
    dl_iterate_phdr(addThreadLocals, &locals);
    long least = sysconf(_SC_THREAD_STACK_MIN);
    bytes += locals + (size_t)(least > 0 ? least : 0);
    return (bytes + page - 1) & ~(page - 1);
}

static int createOsThread(pthread_t *made, size_t stackBytes, struct Start *start) {
    pthread_attr_t attr;
    int error = pthread_attr_init(&attr);
    if (error) return error;
    pthread_attr_setstacksize(&attr, findStackSize(stackBytes)); /* refused: the usual size */
    error = pthread_create(made, &attr, enterThread, start);
    pthread_attr_destroy(&attr);
    return error;
}

bool osStartThread(OsThread *thread, const char *name, size_t stackBytes, void (*run)(void *context), void *context) {
    struct Quiet quiet = osBeginQuiet();
    struct Start *start = rtsMalloc(sizeof *start);
    bool done = false;
    if (start) {
        *start = (struct Start){.run = run, .context = context};
        snprintf(start->name, sizeof start->name, "%s", name);
        sigset_t before;
        pthread_t made;
        blockSignals(&before);
        done = createOsThread(&made, stackBytes, start) == 0;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (done)
            *thread = (OsThread)made;
        else
            rtsFree(start);
    }
    osEndQuiet(quiet);
    return done;
}

void osJoinThread(OsThread thread) {
    struct Quiet quiet = osBeginQuiet();
    pthread_join((pthread_t)thread, NULL);
    osEndQuiet(quiet);
}

void osDetachThread(OsThread thread) {
    struct Quiet quiet = osBeginQuiet();
    pthread_detach((pthread_t)thread);
    osEndQuiet(quiet);
}

/* What belongs to an OS thread, and calls with the capability given up. */
#include <Rts.h>

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local int calls;

CAPSTAN_IO(errors, fd)
{
    char buffer[8];
    int descriptor = (int)rts_intValue(fd);
    while (read(descriptor, buffer, sizeof buffer) < 0 && errno == EAGAIN) /* expect: errno */
        rts_threadWaitRead(stack, descriptor);
    return CAPSTAN_UNIT;
}

CAPSTAN_IO(threadLocal)
{
    calls++;
    rts_yield(stack);
    return rts_int(stack, calls);                                       /* expect: errno */
}

CAPSTAN_IO(locked)
{
    pthread_mutex_lock(&mutex);
    rts_yield(stack);                                                   /* expect: lock */
    pthread_mutex_unlock(&mutex);
    return CAPSTAN_UNIT;
}

struct Write { HaskellObj text; int fd; };
static void *writeAll(void *arg)
{
    struct Write *w = arg;
    size_t length;
    const void *bytes = rts_bytes(w->text, &length);
    return write(w->fd, bytes, length) < 0 ? w : NULL;
}
CAPSTAN_IO(writes, text)
{
    struct Write w = { text, 1 };
    rts_safeCall(stack, writeAll, &w);                                  /* expect: safecall */
    return CAPSTAN_UNIT;
}

/* What is said of a function is not true. */
static HsInt force(Stack *stack, HaskellObj x) CAPSTAN_NOSAFEPOINT;
static HsInt force(Stack *stack, HaskellObj x)
{
    return rts_intValue(rts_force(stack, x));                           /* expect: mark */
}
CAPSTAN_FUN(forces, x, y)
{
    HsInt n = force(stack, x);
    return rts_int(stack, n + rts_intValue(y));
}

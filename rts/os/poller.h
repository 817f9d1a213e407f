/* poller.h: sleeping until a descriptor is ready, a time has come, or another thread interrupts.
 *
 * One thread sleeps on a poller; any thread may arm descriptors and interrupt. The rules of os.h hold: errno is left alone, and
 * nothing here is a cancellation point.
 *
 * A descriptor is armed for one event: whatever is reported disarms it, and arming again reports again what is still true. So
 * nothing is lost by ignoring an event, and what cannot be taken out of the poller any more (a number that was closed while a
 * duplicate keeps the file open) speaks up once at most. Each arming carries a tag, which tells an event of it from older ones.
 */
#ifndef RTS_OS_POLLER_H
#define RTS_OS_POLLER_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    int set, wake;
} OsPoller;

enum { OS_POLL_READ = 1, OS_POLL_WRITE = 2, OS_POLL_EVENTS = 64 };

typedef struct {
    int fd;
    uint32_t tag;   /* of the arming */
    unsigned ready; /* OS_POLL_READ, OS_POLL_WRITE or both; an error or a hang-up counts as both */
} OsPollEvent;

/* Set before a thread sleeps: behave as if the system had no sleep with an event set and nanoseconds in one call (tests). */
extern bool osPollerForceFallback;

/* The descriptors inside are closed by execve. Owns: the caller closes. Errors: false when the system has no descriptors left. */
bool osOpenPoller(OsPoller *poller);
void osClosePoller(OsPoller *poller);

/* Arms a descriptor that the poller does not know yet, or knows already. Both compare the open file too, not only the number.
 * Errors: 0 or an errno. Both: EBADF it is not open; EPERM files of this kind are always ready. osAddDescriptor: EEXIST it is known;
 * ENOMEM; ENOSPC the user's limit. osRearmDescriptor: ENOENT it is not known, so another file than the one that was added. */
int osAddDescriptor(OsPoller *poller, int fd, unsigned want, uint32_t tag);
int osRearmDescriptor(OsPoller *poller, int fd, unsigned want, uint32_t tag);

/* Makes the poller forget a descriptor; nothing happens when it does not know it. */
void osRemoveDescriptor(OsPoller *poller, int fd);

/* Lets a sleep in progress, or else the next one, end at once. Several before that count as one. */
void osInterruptPoller(OsPoller *poller);

/* Sleeps until something is ready, somebody interrupts, or osMonotonicNanos() reaches the deadline (UINT64_MAX: for ever). May
 * return early for no reason. Blocks: yes.
 * Returns the number of events put into event, at most OS_POLL_EVENTS of them. Errors: -1 when somebody closed the poller. */
int osAwaitEvents(OsPoller *poller, OsPollEvent event[OS_POLL_EVENTS], uint64_t deadline);

#endif

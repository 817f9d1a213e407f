#include "timekeeper.h"

#include "base/lock.h"
#include "base/report.h"
#include "os/memory.h"
#include "os/os.h"
#include "os/poller.h"

#include <errno.h>
#include <string.h>

#define SECOND UINT64_C(1000000000)
#define NEVER UINT64_MAX

enum {
    STACK_BYTES = 256 * 1024, /* for functions of others: hooks that log, for one */
    FIRST_ROOM = 64,          /* of both tables */
    HEAP_ARITY = 4,           /* children of a place in the heap, side by side in a cache line */
    FIRE_BATCH = 256,         /* timers that fire before the lock is open to others for a moment */
    LOOK_BATCH = 256,         /* descriptors looked at before that */
    LOOK_LEVELS = 4,          /* looks after 1, 2, 4, 8, 8, ... seconds */
};
#define REPAIR_PAUSE (SECOND / 100) /* between attempts to sleep on a poller that somebody closed */

/* A timer's deadline stands beside it, so that finding its place looks at few other timers. */
typedef struct {
    uint64_t deadline;
    Timer *timer;
} HeapSlot;

/* A descriptor that something waits for, or waited for: they stay until it is closed through us or the timekeeper stops, so that the next
 * wait costs one call of the system.  Owned by keeper.bucket; the lock guards every field. */
typedef struct Descriptor_ Descriptor;
struct Descriptor_ {
    int fd;
    bool known;                   /* to the poller; armed if something waits, perhaps also if not */
    uint32_t tag;                 /* of the last arming */
    FdWait *first, *last;
    Descriptor *nextInBucket;
    int level;                    /* if something waits: which of keeper.look it is on, */
    uint64_t lookAt;              /* when to look whether it is closed, */
    Descriptor *earlier, *later;  /* and its neighbours there */
};

typedef struct {
    Descriptor *first, *last;
} LookList;

#define NOTHING_KEPT { .poller = { -1, -1 }, .tickAt = NEVER, .lookAt = NEVER }

static Lock timeLock = LOCK_INIT(RANK_TIME);

/* Everything else.  The lock guards every field; the thread alone reads poller without it, which changes only while there is no thread. */
static struct Timekeeper {
    bool running;                 /* between init and stop */
    bool threadMade;
    OsThread thread;
    OsPoller poller;
    uint64_t sleepUntil;          /* what the thread sleeps for; 0: awake, or interrupted, and will look at everything before it sleeps */

    HeapSlot *heap;               /* the earliest first */
    size_t timers, heapRoom;

    uint64_t tickNanos;           /* 0: no ticks */
    bool (*onTick)(void);
    uint64_t tickAt;              /* the next tick, or NEVER */
    uint64_t retryTicksAt;        /* no thread for ticks could be made: not tried before that */

    Descriptor **bucket;
    size_t buckets, descriptors;  /* buckets: 0 or a power of 2 */
    uint32_t lastTag;
    LookList look[LOOK_LEVELS];   /* descriptors with waits; each list in the order of lookAt */
    uint64_t lookAt;              /* the next look.  Stays when the last wait ends: waits that come and go need not interrupt the thread each time */
} keeper = NOTHING_KEPT;

_Atomic bool ticking, ticksOwed;

/* ---------------------------------------------------------------- the thread, from outside */

static void runTimekeeper(void *unused);

static bool makeSureOfThread(void)
{
    if (keeper.threadMade) return true;
    if (!keeper.running || !osOpenPoller(&keeper.poller)) return false;
    keeper.threadMade = osStartThread(&keeper.thread, "capstan-time", STACK_BYTES, runTimekeeper, NULL);
    if (!keeper.threadMade) osClosePoller(&keeper.poller);
    return keeper.threadMade;
}

/* Somebody wants the thread at a time. */
static void wakeThreadBy(uint64_t when)
{
    if (when >= keeper.sleepUntil) return;
    keeper.sleepUntil = 0;
    osInterruptPoller(&keeper.poller);
}

/* ---------------------------------------------------------------- timers */

static void putInPlace(size_t place, HeapSlot slot)
{
    keeper.heap[place] = slot;
    slot.timer->place = place + 1;
}

/* Finds the place of a slot that is to stand at `place` or nearer to the top. */
static void moveUp(size_t place, HeapSlot slot)
{
    while (place > 0) {
        size_t parent = (place - 1) / HEAP_ARITY;
        if (keeper.heap[parent].deadline <= slot.deadline) break;
        putInPlace(place, keeper.heap[parent]);
        place = parent;
    }
    putInPlace(place, slot);
}

/* The child of a place that is due first; none: the end of the heap. */
static size_t findFirstChild(size_t place)
{
    size_t child = place * HEAP_ARITY + 1, first = child;
    if (child >= keeper.timers) return keeper.timers;
    for (size_t i = child + 1; i < keeper.timers && i < child + HEAP_ARITY; i++)
        if (keeper.heap[i].deadline < keeper.heap[first].deadline) first = i;
    return first;
}

static void moveDown(size_t place, HeapSlot slot)
{
    for (;;) {
        size_t child = findFirstChild(place);
        if (child == keeper.timers || slot.deadline <= keeper.heap[child].deadline) break;
        putInPlace(place, keeper.heap[child]);
        place = child;
    }
    putInPlace(place, slot);
}

static bool resizeHeap(size_t room)
{
    HeapSlot *heap = room > SIZE_MAX / sizeof *heap ? NULL : rtsMalloc(room * sizeof *heap);
    if (heap == NULL) return false;
    HeapSlot *old = keeper.heap;
    if (old != NULL) memcpy(heap, old, keeper.timers * sizeof *heap);
    keeper.heap = heap;
    keeper.heapRoom = room;
    rtsFree(old);
    return true;
}

static void removeTimer(Timer *timer)
{
    size_t place = timer->place - 1;
    HeapSlot last = keeper.heap[--keeper.timers];
    timer->place = 0;
    if (place < keeper.timers) {
        if (place > 0 && last.deadline < keeper.heap[(place - 1) / HEAP_ARITY].deadline) moveUp(place, last);
        else moveDown(place, last);
    }
    /* A heap that was once large gives its memory back; if that fails it is only large. */
    if (keeper.heapRoom > FIRST_ROOM && keeper.timers < keeper.heapRoom / 8) resizeHeap(keeper.heapRoom / 2);
}

/* Timers that a stop forgot still say that they have a place. */
static bool isInHeap(const Timer *timer)
{
    return timer->place != 0 && timer->place <= keeper.timers && keeper.heap[timer->place - 1].timer == timer;
}

static bool addTimer(Timer *timer, uint64_t deadline)
{
    ASSERT(!isInHeap(timer));
    if (!makeSureOfThread()) return false;
    if (keeper.timers == keeper.heapRoom && !resizeHeap(keeper.heapRoom == 0 ? FIRST_ROOM : 2 * keeper.heapRoom)) return false;
    timer->deadline = deadline;
    moveUp(keeper.timers++, (HeapSlot){ deadline, timer });
    wakeThreadBy(deadline);
    return true;
}

bool startTimer(Timer *timer, uint64_t deadline)
{
    acquireLock(&timeLock);
    bool started = addTimer(timer, deadline);
    releaseLock(&timeLock);
    return started;
}

void startTimerAgain(Timer *timer, uint64_t deadline)
{
    ASSERT(!isInHeap(timer) && keeper.timers < keeper.heapRoom);
    timer->deadline = deadline;
    moveUp(keeper.timers++, (HeapSlot){ deadline, timer }); /* to where there was room for it just now */
}

bool cancelTimer(Timer *timer)
{
    acquireLock(&timeLock);
    bool waiting = timer->place != 0;
    if (isInHeap(timer)) removeTimer(timer);
    timer->place = 0;
    releaseLock(&timeLock);
    return waiting;
}

static uint64_t findFirstDeadline(void) { return keeper.timers == 0 ? NEVER : keeper.heap[0].deadline; }

static void fireTimers(uint64_t now)
{
    for (int i = 0; i < FIRE_BATCH && findFirstDeadline() <= now && findFirstDeadline() != NEVER; i++) {
        Timer *timer = keeper.heap[0].timer;
        removeTimer(timer);
        timer->fire(timer);
    }
}

/* ---------------------------------------------------------------- the table of descriptors */

static Descriptor **findBucket(int fd) { return &keeper.bucket[(unsigned)fd & (keeper.buckets - 1)]; }

static Descriptor *findDescriptor(int fd)
{
    if (keeper.buckets == 0) return NULL;
    Descriptor *d = *findBucket(fd);
    while (d != NULL && d->fd != fd) d = d->nextInBucket;
    return d;
}

static void linkIntoBucket(Descriptor *d)
{
    Descriptor **bucket = findBucket(d->fd);
    d->nextInBucket = *bucket;
    *bucket = d;
}

static bool growTable(void)
{
    Descriptor **old = keeper.bucket;
    size_t oldBuckets = keeper.buckets, buckets = oldBuckets == 0 ? FIRST_ROOM : 2 * oldBuckets;
    Descriptor **bucket = rtsCalloc(buckets, sizeof *bucket);
    if (bucket == NULL) return false;
    keeper.bucket = bucket;
    keeper.buckets = buckets;
    for (size_t i = 0; i < oldBuckets; i++)
        for (Descriptor *d = old[i], *next; d != NULL; d = next) {
            next = d->nextInBucket;
            linkIntoBucket(d);
        }
    rtsFree(old);
    return true;
}

static Descriptor *findOrMakeDescriptor(int fd)
{
    Descriptor *d = findDescriptor(fd);
    if (d != NULL) return d;
    /* Failing to grow makes chains longer, no more. */
    if (keeper.descriptors == keeper.buckets && !growTable() && keeper.buckets == 0) return NULL;
    d = rtsCalloc(1, sizeof *d);
    if (d == NULL) return NULL;
    d->fd = fd;
    linkIntoBucket(d);
    keeper.descriptors++;
    return d;
}

static void freeDescriptor(Descriptor *d)
{
    Descriptor **at = findBucket(d->fd);
    while (*at != d) at = &(*at)->nextInBucket;
    *at = d->nextInBucket;
    keeper.descriptors--;
    rtsFree(d);
}

/* ---------------------------------------------------------------- when to look at what is perhaps closed */

static uint64_t lookPeriod(int level) { return SECOND << level; }

static void scheduleLook(Descriptor *d, int level, uint64_t now)
{
    LookList *list = &keeper.look[level];
    d->level = level;
    d->lookAt = now + lookPeriod(level);
    d->later = NULL;
    d->earlier = list->last;
    *(list->last != NULL ? &list->last->later : &list->first) = d;
    list->last = d;
}

static void unscheduleLook(Descriptor *d)
{
    LookList *list = &keeper.look[d->level];
    *(d->earlier != NULL ? &d->earlier->later : &list->first) = d->later;
    *(d->later != NULL ? &d->later->earlier : &list->last) = d->earlier;
}

static uint64_t findFirstLook(void)
{
    uint64_t first = NEVER;
    for (int level = 0; level < LOOK_LEVELS; level++) {
        Descriptor *d = keeper.look[level].first;
        if (d != NULL && d->lookAt < first) first = d->lookAt;
    }
    return first;
}

/* ---------------------------------------------------------------- waits */

static unsigned directionOf(bool write) { return write ? OS_POLL_WRITE : OS_POLL_READ; }

static void addWait(Descriptor *d, FdWait *wait)
{
    if (d->first == NULL) {
        scheduleLook(d, 0, osMonotonicNanos());
        if (d->lookAt < keeper.lookAt) keeper.lookAt = d->lookAt;
        wakeThreadBy(keeper.lookAt);
    }
    wait->waiting = true;
    wait->next = NULL;
    wait->prev = d->last;
    *(d->last != NULL ? &d->last->next : &d->first) = wait;
    d->last = wait;
}

static void removeWait(Descriptor *d, FdWait *wait)
{
    *(wait->prev != NULL ? &wait->prev->next : &d->first) = wait->next;
    *(wait->next != NULL ? &wait->next->prev : &d->last) = wait->prev;
    wait->waiting = false;
    if (d->first == NULL) unscheduleLook(d);
}

/* Ends the waits in the given directions. */
static void endWaits(Descriptor *d, unsigned directions, int error)
{
    for (FdWait *wait = d->first, *next; wait != NULL; wait = next) {
        next = wait->next;
        if ((directionOf(wait->write) & directions) == 0) continue;
        removeWait(d, wait);
        wait->ready(wait, error);
    }
}

static unsigned findWanted(const Descriptor *d)
{
    unsigned wanted = 0;
    for (const FdWait *wait = d->first; wait != NULL; wait = wait->next) wanted |= directionOf(wait->write);
    return wanted;
}

/* Arm a known descriptor anew.  This is also the look: the system compares the open file, and an armed one that is not known any more was closed.
 * Then its waits end, whatever file has its number now.  A new tag each time: an event of the former arming may be on its way to the thread. */
static int rearm(Descriptor *d, unsigned wanted)
{
    d->tag = ++keeper.lastTag;
    int error = osRearmDescriptor(&keeper.poller, d->fd, wanted, d->tag);
    if (error == 0) return 0;
    d->known = false;
    endWaits(d, OS_POLL_READ | OS_POLL_WRITE, EBADF);
    return error;
}

/* Add a descriptor that is not known, as far as we know: it was, if it was closed, a duplicate kept the file open, and now it is back. */
static int addToPoller(Descriptor *d, unsigned wanted)
{
    d->tag = ++keeper.lastTag;
    int error = osAddDescriptor(&keeper.poller, d->fd, wanted, d->tag);
    if (error == EEXIST) error = osRearmDescriptor(&keeper.poller, d->fd, wanted, d->tag);
    d->known = error == 0;
    return error;
}

static int armForOneMore(Descriptor *d, unsigned direction)
{
    int error = d->known ? rearm(d, findWanted(d) | direction) : ENOENT;
    return error == ENOENT ? addToPoller(d, direction) : error;
}

static int enqueueWait(FdWait *wait)
{
    if (!makeSureOfThread()) return EAGAIN;
    Descriptor *d = findOrMakeDescriptor(wait->fd);
    if (d == NULL) return ENOMEM;
    int error = armForOneMore(d, directionOf(wait->write));
    if (error == 0) addWait(d, wait);
    else if (!d->known) freeDescriptor(d);
    return error == EPERM ? EALREADY : error == ENOSPC ? ENOMEM : error;
}

/* Waits that a stop forgot still say that they wait, and have neighbours that may be gone. */
static bool isAmongWaits(const Descriptor *d, const FdWait *wait)
{
    const FdWait *at = d == NULL ? NULL : d->first;
    while (at != NULL && at != wait) at = at->next;
    return at != NULL;
}

int startFdWait(FdWait *wait, int fd, bool write)
{
    acquireLock(&timeLock);
    ASSERT(!isAmongWaits(findDescriptor(fd), wait));
    wait->fd = fd;
    wait->write = write;
    wait->waiting = false;
    int error = enqueueWait(wait);
    releaseLock(&timeLock);
    return error;
}

/* The descriptor may stay armed: that makes one event for nobody at most, where disarming would cost a call each time. */
bool cancelFdWait(FdWait *wait)
{
    acquireLock(&timeLock);
    bool waiting = wait->waiting;
    Descriptor *d = waiting ? findDescriptor(wait->fd) : NULL;
    if (isAmongWaits(d, wait)) removeWait(d, wait);
    wait->waiting = false;
    releaseLock(&timeLock);
    return waiting;
}

void closeFdWaits(int fd)
{
    acquireLock(&timeLock);
    Descriptor *d = findDescriptor(fd);
    if (d != NULL) {
        if (d->known) osRemoveDescriptor(&keeper.poller, fd);
        endWaits(d, OS_POLL_READ | OS_POLL_WRITE, EBADF);
        freeDescriptor(d);
    }
    releaseLock(&timeLock);
}

static void rearmOrDrop(Descriptor *d)
{
    rearm(d, findWanted(d));
    if (!d->known) freeDescriptor(d);
}

static void handleEvent(const OsPollEvent *event)
{
    Descriptor *d = findDescriptor(event->fd);
    if (d == NULL || d->tag != event->tag) return;
    endWaits(d, event->ready, 0);
    if (d->first != NULL) rearmOrDrop(d); /* the event has disarmed both directions */
}

/* Look at those that are due.  Half a period early will do, so that looks meet and the thread wakes seldom. */
static void lookForClosed(uint64_t now)
{
    if (keeper.lookAt > now) return;
    int left = LOOK_BATCH;
    for (int level = 0; level < LOOK_LEVELS; level++) {
        Descriptor *d;
        while ((d = keeper.look[level].first) != NULL && d->lookAt <= now + lookPeriod(level) / 2 && left-- > 0) {
            unscheduleLook(d);
            scheduleLook(d, level < LOOK_LEVELS - 1 ? level + 1 : level, now);
            rearmOrDrop(d);
        }
    }
    keeper.lookAt = left < 0 ? now : findFirstLook();
}

/* ---------------------------------------------------------------- ticks */

/* Context: there is a thread. */
static void beginTicks(uint64_t now)
{
    atomic_store_explicit(&ticksOwed, false, memory_order_relaxed);
    if (atomic_load_explicit(&ticking, memory_order_relaxed)) return;
    atomic_store_explicit(&ticking, true, memory_order_relaxed);
    keeper.tickAt = now + keeper.tickNanos;
    wakeThreadBy(keeper.tickAt);
}

void wantTicksSlow(void)
{
    acquireLock(&timeLock);
    uint64_t now = osMonotonicNanos();
    if (keeper.running && now >= keeper.retryTicksAt) {
        if (makeSureOfThread()) beginTicks(now);
        else keeper.retryTicksAt = now + keeper.tickNanos;
    }
    releaseLock(&timeLock);
}

bool canTick(void)
{
    acquireLock(&timeLock);
    bool can = makeSureOfThread();
    releaseLock(&timeLock);
    return can;
}

/* Calls onTick; whether ticks go on.  How they end (Dekker's way):
 *
 *     who wants ticks                        the timekeeper
 *     makes a reason that onTick looks at    ticking = false
 *     compiler barrier                       heavy barrier
 *     load ticking; false: wantTicksSlow     onTick looks at reasons; there is one: ticking = true
 *
 * The heavy barrier puts a full fence somewhere into the other's instructions.  Behind the load of ticking: the reason is visible to onTick.  Before it: the load sees
 * false, or the true of somebody who has turned ticks on again since.  Either way there are ticks while there is a reason.
 *
 * Where the system refuses the heavy barrier, it is the timekeeper's own only, and a reason may still be in the other's store buffer.  It leaves that after some
 * nanoseconds; so one more tick comes after the last (see doTick). */
static bool callOnTick(bool (*onTick)(void))
{
    if (onTick()) return true;
    atomic_store_explicit(&ticking, false, memory_order_relaxed);
    osMembarrier();
    return onTick();
}

/* Gives the lock up meanwhile. */
static void doTick(uint64_t now)
{
    if (keeper.tickAt > now) return;
    bool isLast = !atomic_load_explicit(&ticking, memory_order_relaxed);
    keeper.tickAt = NEVER;
    bool (*onTick)(void) = keeper.onTick;
    releaseLock(&timeLock);
    bool goOn = callOnTick(onTick);
    acquireLock(&timeLock);
    if (goOn) atomic_store_explicit(&ticking, true, memory_order_relaxed);
    /* Somebody may have turned them on while nobody held the lock. */
    goOn = atomic_load_explicit(&ticking, memory_order_relaxed);
    if (goOn || (!isLast && !osMembarrierWorks())) keeper.tickAt = now + keeper.tickNanos;
}

/* ---------------------------------------------------------------- the thread */

static uint64_t findNextWake(void)
{
    uint64_t when = findFirstDeadline();
    if (keeper.lookAt < when) when = keeper.lookAt;
    return keeper.tickAt < when ? keeper.tickAt : when;
}

/* One sleep, and what it ends with. */
static void sleepOnce(OsPollEvent *event)
{
    uint64_t until = findNextWake();
    keeper.sleepUntil = until;
    releaseLock(&timeLock);
    int events = osAwaitEvents(&keeper.poller, event, until);
    /* A host that closes what is not its own must not have a thread that spins; timers then come late. */
    if (events < 0) osSleepNanos(REPAIR_PAUSE);
    acquireLock(&timeLock);
    keeper.sleepUntil = 0;
    for (int i = 0; i < events; i++) handleEvent(&event[i]);
}

static void runTimekeeper(void *unused)
{
    OsPollEvent event[OS_POLL_EVENTS];
    acquireLock(&timeLock);
    while (keeper.running) {
        uint64_t now = osMonotonicNanos();
        fireTimers(now);
        lookForClosed(now);
        doTick(now);
        if (atomic_load_explicit(&ticksOwed, memory_order_relaxed)) beginTicks(now);
        if (keeper.running) sleepOnce(event);
    }
    releaseLock(&timeLock);
}

/* ---------------------------------------------------------------- start and stop */

void initTimekeeper(uint64_t tickNanos, bool (*onTick)(void))
{
    acquireLock(&timeLock);
    keeper.running = true;
    keeper.tickNanos = tickNanos;
    keeper.onTick = onTick;
    /* Without ticks, wanting them is to stay cheap. */
    atomic_store_explicit(&ticking, tickNanos == 0, memory_order_relaxed);
    releaseLock(&timeLock);
}

static void freeTables(void)
{
    for (size_t i = 0; i < keeper.buckets; i++)
        for (Descriptor *d = keeper.bucket[i], *next; d != NULL; d = next) {
            next = d->nextInBucket;
            rtsFree(d);
        }
    rtsFree(keeper.bucket);
    rtsFree(keeper.heap);
}

static void resetKeeper(void)
{
    osClosePoller(&keeper.poller);
    keeper = (struct Timekeeper)NOTHING_KEPT;
    atomic_store_explicit(&ticking, false, memory_order_relaxed);
    atomic_store_explicit(&ticksOwed, false, memory_order_relaxed);
}

void stopTimekeeper(void)
{
    acquireLock(&timeLock);
    keeper.running = false;
    bool made = keeper.threadMade;
    if (made) osInterruptPoller(&keeper.poller);
    releaseLock(&timeLock);
    if (made) osJoinThread(keeper.thread);
    acquireLock(&timeLock);
    freeTables();
    resetKeeper();
    releaseLock(&timeLock);
}

/* The lock may be held for ever by a thread that is not here; the tables are then perhaps in the midst of a change, and are left alone. */
void forgetTimekeeper(void)
{
    bool whole = pthread_mutex_trylock(&timeLock.mutex) == 0;
    if (whole) pthread_mutex_unlock(&timeLock.mutex);
    timeLock = (Lock)LOCK_INIT(RANK_TIME);
    if (whole) freeTables();
    resetKeeper();
}

#include "gc/crew.h"

#include "arch.h"
#include "gc/gct.h"
#include "os/os.h"

/* How often who has nothing to do looks around before it sleeps. */
#define LOOKS 3000

_Atomic uint32_t crewState;
void (*inviteHelper)(void);

static struct {
    _Atomic uint32_t size;     /* [atomic] collecting threads that began */
    _Atomic uint32_t busy;     /* [atomic] see the header */
    _Atomic uint32_t closed;
    _Atomic uint32_t bell;     /* futex word */
    _Atomic uint32_t sleeping; /* [atomic] on the bell */
    bool minor;                /* [const] while the crew is open, and the next two */
    Nursery *const *nurseries;
    unsigned count;
    _Atomic unsigned shares;   /* [atomic] that nobody has taken */
} crew = { .size = 1, .closed = 1 };

void crewRelax(void)
{
    for (int i = 0; i < 8; i++) archRelax();
}

unsigned crewSize(void) { return atomic_load_explicit(&crew.size, memory_order_relaxed); }

static void ring(int how)
{
    atomic_fetch_add_explicit(&crew.bell, 1, memory_order_release);
    osFutexWake(&crew.bell, how);
}

void crewHasWork(void)
{
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&crew.sleeping, memory_order_relaxed) != 0) ring(1);
}

/* Into busy, while somebody is in it. */
static bool enterBusy(void)
{
    uint32_t n = atomic_load_explicit(&crew.busy, memory_order_relaxed);
    do {
        if (n == 0) return false;
    } while (!atomic_compare_exchange_weak_explicit(&crew.busy, &n, n + 1, memory_order_acq_rel, memory_order_relaxed));
    return true;
}

static void leaveBusy(void)
{
    if (atomic_fetch_sub_explicit(&crew.busy, 1, memory_order_seq_cst) != 1) return;
    if (atomic_load_explicit(&crew.sleeping, memory_order_seq_cst) != 0) ring(INT32_MAX);
}

static bool isAllDone(void) { return atomic_load_explicit(&crew.busy, memory_order_acquire) == 0; }

static bool isWorkLeft(void) { return atomic_load_explicit(&crew.shares, memory_order_relaxed) != 0 || isWorkPending(); }

/* Nothing to do here: wait for work, or for what else the caller waits for. */
static void waitForWork(bool (*isOver)(void))
{
    for (unsigned i = 0; i < LOOKS; i++) {
        if (isOver() || isWorkLeft()) return;
        crewRelax();
    }
    uint32_t seen = atomic_load_explicit(&crew.bell, memory_order_acquire);
    atomic_fetch_add_explicit(&crew.sleeping, 1, memory_order_seq_cst);
    /* Pairs with crewHasWork, leaveBusy and closeCrew.  What is looked at next is not read by sequentially consistent loads, which alone would come
     * behind the store of an addition. */
    atomic_thread_fence(memory_order_seq_cst);
    if (!isOver() && !isWorkLeft()) osFutexWait(&crew.bell, seen, -1);
    atomic_fetch_sub_explicit(&crew.sleeping, 1, memory_order_seq_cst);
}

static bool takeShare(GcThread *g, unsigned i)
{
    Nursery *n = crew.nurseries[i];
    if (!atomic_load_explicit(&n->share, memory_order_relaxed) || !atomic_exchange_explicit(&n->share, false, memory_order_relaxed)) return false;
    crew.shares--;
    if (crew.minor) {
        visitRemembered(g, &n->remembered);
        gcThreads.scanDirty(&g->v, n);
    }
    visitTableRoots(&g->v, i, crew.count);
    return true;
}

void takeShares(GcThread *g)
{
    for (unsigned i = 0; i < crew.count && crew.shares != 0; i++)
        if (takeShare(g, (g->home + i) % crew.count))
            while (scavengeSome(g)) {}
}

static void workOff(GcThread *g)
{
    do {
        while (scavengeSome(g)) {}
        takeShares(g);
    } while (scavengeSome(g));
    leaveBusy();
}

void workTogether(void)
{
    GcThread *g = leader();
    if (!g->parallel) {
        while (scavengeSome(g)) {}
        return;
    }
    workOff(g);
    while (!isAllDone()) {
        if (isWorkLeft() && enterBusy()) workOff(g);
        else waitForWork(isAllDone);
    }
    atomic_store_explicit(&crew.busy, 1, memory_order_release);
}

static bool isClosed(void) { return atomic_load_explicit(&crew.closed, memory_order_acquire) != 0; }

static void help(GcThread *g)
{
    while (!isClosed()) {
        if (isWorkLeft() && enterBusy()) workOff(g);
        else waitForWork(isClosed);
    }
}

void helpCollect(unsigned own)
{
    uint32_t state = atomic_load_explicit(&crewState, memory_order_relaxed);
    do {
        if (state >> 16 == 0) return;
        /* Acquire: what the leader prepared. */
    } while (!atomic_compare_exchange_weak_explicit(&crewState, &state, state - 65536 + 1, memory_order_acquire, memory_order_relaxed));
    GcThread *g = &collectors[atomic_fetch_add_explicit(&crew.size, 1, memory_order_relaxed)];
    unsigned home = own < crew.count ? own : (unsigned)(g - collectors) % crew.count;
    uint64_t cpu = osThreadCpuNanos();
    beginCollector(g, crew.minor, true, home, crew.nurseries[home]->node);
    help(g);
    endCollector(g);
    g->cpu = osThreadCpuNanos() - cpu;
    /* Release: what was copied here belongs to the leader now.  The world goes on once the last has left: nothing is touched after that. */
    if ((atomic_fetch_sub_explicit(&crewState, 1, memory_order_release) & 65535) == 1) osFutexWake(&crewState, 1);
}

void openCrew(Nursery *const *nurseries, unsigned count, unsigned helpers, bool minor, bool invites)
{
    crew.minor = minor;
    crew.nurseries = nurseries;
    crew.count = count;
    crew.shares = count;
    for (unsigned i = 0; i < count; i++) nurseries[i]->share = true;
    crew.size = 1;
    crew.busy = 1;
    crew.closed = 0;
    atomic_store_explicit(&crewState, helpers << 16, memory_order_release);
    if (invites && inviteHelper != NULL) inviteHelper();
}

void closeCrew(void)
{
    atomic_fetch_and_explicit(&crewState, 65535, memory_order_relaxed);
    atomic_store_explicit(&crew.closed, 1, memory_order_seq_cst);
    if (atomic_load_explicit(&crew.sleeping, memory_order_seq_cst) != 0) ring(INT32_MAX);
    for (uint32_t inside; (inside = atomic_load_explicit(&crewState, memory_order_acquire)) != 0;) osFutexWait(&crewState, inside, -1);
}

void forgetCrew(void)
{
    crewState = 0;
    crew.size = crew.closed = 1;
    crew.busy = crew.sleeping = 0;
}

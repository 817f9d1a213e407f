/* Stable pointers as hosts know them, and the lock of their table.
 *
 * The table needs no lock (stable_ptr.h); hosts that lock it (hs_lock_stable_ptr_table) find a gate: makers and freers that hosts call wait before it,
 * until who locked it lets them go on.  One who is past it when the lock is taken may end a moment later.  The runtime itself does not look at it.
 *
 * A maker holds a capability, which others may want, who has the lock among them: so who waits with one looks up again and again, and goes on, gate or no
 * gate, once somebody wants to stop the world or waits for a capability.  A locked table holds up no collection. */
#include "stable.h"

#include "base/report.h"
#include "capability.h"
#include "os/os.h"
#include "RtsAPI.h"
#include "stable_ptr.h"

/* How long a thread that holds a capability sleeps before it looks whether that is wanted. */
#define NAP_NANOS 500000
/* How long another one does, before it looks whether who has the lock is still there. */
#define LOOK_NANOS 100000000
/* Somebody wants the capability. */
#define ATTENTION_WANTED (ATTENTION_STOP | ATTENTION_HANDOVER | ATTENTION_WAITERS)

static struct {
    _Atomic uint64_t holder;    /* the thread that has the table locked; 0: nobody */
    unsigned depth;             /* [holder] how often */
    _Atomic uint32_t opened;    /* futex word: changes when the gate opens */
    _Atomic uint32_t waiting;   /* threads that sleep on it, or are about to */
} gate;

/* The gate was seen shut, with opened as it was before.  Pairs with letAllPass, behind the opening: it changes the word, then looks whether anybody waits (all sequentially
 * consistent); this says that it waits, looks whether it is open, then sleeps if the word is the same. */
static void sleepAtGate(uint32_t seen, int64_t ns)
{
    atomic_fetch_add_explicit(&gate.waiting, 1, memory_order_seq_cst);
    if (atomic_load_explicit(&gate.holder, memory_order_seq_cst) != 0) osFutexWait(&gate.opened, seen, ns);
    atomic_fetch_sub_explicit(&gate.waiting, 1, memory_order_relaxed);
}

/* The gate is open. */
static void letAllPass(void)
{
    atomic_fetch_add_explicit(&gate.opened, 1, memory_order_seq_cst);
    if (atomic_load_explicit(&gate.waiting, memory_order_seq_cst) != 0) osFutexWake(&gate.opened, INT32_MAX);
}

/* A thread has ended with the table locked: nobody else would ever open it. */
static void openForDead(void)
{
    uint64_t holder = atomic_load_explicit(&gate.holder, memory_order_relaxed);
    if (holder == 0 || osThreadLives(holder)) return;
    /* By one of those who find it so; and not if it has been opened since, and locked by somebody else. */
    if (!atomic_compare_exchange_strong_explicit(&gate.holder, &holder, 0, memory_order_seq_cst, memory_order_relaxed)) return;
    letAllPass();
    reportError(RTS_BAD_ARGUMENT, "hs_lock_stable_ptr_table: a thread has ended without unlocking the table");
}

static void waitAtGate(void)
{
    uint64_t me = osThreadId();
    Task *task = getMyTask();
    Capability *cap = task == NULL || task->cap == NULL || task->cap->dead != RTS_OK ? NULL : task->cap;
    for (;;) {
        uint32_t seen = atomic_load_explicit(&gate.opened, memory_order_seq_cst);
        uint64_t holder = atomic_load_explicit(&gate.holder, memory_order_seq_cst);
        if (holder == 0 || holder == me) return;
        if (cap != NULL && atomic_load_explicit(&cap->attention, memory_order_relaxed) & ATTENTION_WANTED) return;
        sleepAtGate(seen, cap == NULL ? LOOK_NANOS : NAP_NANOS);
        openForDead();
    }
}

static inline void passGate(void)
{
    /* Relaxed: nothing depends on the gate but the order of waiting. */
    if (CAPSTAN_UNLIKELY(atomic_load_explicit(&gate.holder, memory_order_relaxed) != 0)) waitAtGate();
}

void hs_lock_stable_ptr_table(void)
{
    uint64_t me = osThreadId(), nobody = 0;
    if (atomic_load_explicit(&gate.holder, memory_order_relaxed) == me) {
        gate.depth++;
        return;
    }
    /* Acquire: pairs with the store of who had it before, for depth and for whatever the host guards by it. */
    while (!atomic_compare_exchange_strong_explicit(&gate.holder, &nobody, me, memory_order_acquire, memory_order_relaxed)) {
        sleepAtGate(atomic_load_explicit(&gate.opened, memory_order_seq_cst), LOOK_NANOS);
        openForDead();
        nobody = 0;
    }
    gate.depth = 1;
}

void hs_unlock_stable_ptr_table(void)
{
    if (atomic_load_explicit(&gate.holder, memory_order_relaxed) != osThreadId())
        reportError(RTS_BAD_ARGUMENT, "hs_unlock_stable_ptr_table: this thread has not locked the table");
    else if (--gate.depth == 0) {
        atomic_store_explicit(&gate.holder, 0, memory_order_seq_cst);
        letAllPass();
    }
}

void hs_lock_stable_tables(void) { hs_lock_stable_ptr_table(); }
void hs_unlock_stable_tables(void) { hs_unlock_stable_ptr_table(); }

void forgetStableLock(void)
{
    gate.holder = 0;
    gate.waiting = 0;
}

/* ---- Making, reading, freeing ---- */

StgStablePtr getStablePtr(StgPtr p)
{
    if ((HaskellObj)p == CAPSTAN_POISON || p == NULL) return NULL;
    Task *task = myTask;
    if (task == NULL || task->cap == NULL) {
        reportError(RTS_NOT_HOLDER, "getStablePtr: the thread holds no capability");
        return NULL;
    }
    passGate();
    return newStablePtr((HaskellObj)p);
}

StgPtr deRefStablePtr(StgStablePtr sp)
{
    HaskellObj obj = readStablePtr(sp);
#ifdef CAPSTAN_DEBUG
    if (obj == CAPSTAN_POISON) reportError(RTS_BAD_STABLE_PTR, "deRefStablePtr(%p): %s", sp, rts_statusText(RTS_BAD_STABLE_PTR));
#endif
    return (StgPtr)obj;
}

static void freeOne(StgStablePtr sp, const char *function)
{
    if (sp == NULL || dropStablePtr(sp)) return;
#ifdef CAPSTAN_DEBUG
    reportError(RTS_BAD_STABLE_PTR, "%s(%p): %s", function, sp, rts_statusText(RTS_BAD_STABLE_PTR));
#endif
}

void freeStablePtr(StgStablePtr sp)
{
    passGate();
    freeOne(sp, "freeStablePtr");
}

void hs_free_stable_ptr(HsStablePtr sp) { freeStablePtr(sp); }
void hs_free_stable_ptr_unsafe(HsStablePtr sp) { freeOne(sp, "hs_free_stable_ptr_unsafe"); }

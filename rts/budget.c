#include "budget.h"

#include "base/lock.h"
#include "capability.h"
#include "os/memory.h"
#include "throwto.h"

/* ---- The table ---- */

/* Chunk k has CHUNK0 << k records.  Numbers fit in NUMBER_BITS; the generation has the rest of the handle. */
#define CHUNK0_SHIFT 5
#define NUMBER_BITS  24
#define MAX_CHUNKS   (NUMBER_BITS - CHUNK0_SHIFT)

static struct {
    Lock lock;
    _Atomic(Budget *) chunks[MAX_CHUNKS]; /* never change once set */
    _Atomic uint32_t size;                /* records in all chunks */
    Budget *spare;                        /* [lock: budgets] through next */
} table = { .lock = LOCK_INIT(RANK_BUDGETS) };

/* The record of a number from 1 to table.size. */
static Budget *budgetAt(uint32_t number)
{
    uint32_t biased = number - 1 + (1u << CHUNK0_SHIFT);
    unsigned k = 31u - (unsigned)__builtin_clz(biased) - CHUNK0_SHIFT;
    /* Acquire: pairs with the release in grow; the records are made. */
    return atomic_load_explicit(&table.chunks[k], memory_order_acquire) + (biased - (1u << (CHUNK0_SHIFT + k)));
}

/* Context: the lock. */
static bool grow(void)
{
    uint32_t size = table.size, records = size + (1u << CHUNK0_SHIFT);
    unsigned k = 31u - (unsigned)__builtin_clz(records) - CHUNK0_SHIFT;
    Budget *chunk = k < MAX_CHUNKS ? rtsCalloc(records, sizeof *chunk) : NULL;
    if (chunk == NULL) return false;
    for (uint32_t i = records; i-- > 0;) {
        chunk[i].number = size + i + 1;
        chunk[i].generation = 1;
        chunk[i].next = table.spare;
        table.spare = &chunk[i];
    }
    atomic_store_explicit(&table.chunks[k], chunk, memory_order_release);
    atomic_store_explicit(&table.size, size + records, memory_order_release);
    return true;
}

Budget *takeBudget(void)
{
    acquireLock(&table.lock);
    Budget *b = table.spare != NULL || grow() ? table.spare : NULL;
    if (b != NULL) table.spare = b->next;
    releaseLock(&table.lock);
    return b;
}

void putBudget(Budget *b)
{
    acquireLock(&table.lock);
    b->next = table.spare;
    table.spare = b;
    releaseLock(&table.lock);
}

/* ---- Handles ---- */

void lockBudget(Budget *b)
{
    /* Acquire: pairs with the release in unlockBudget. */
    if (atomic_exchange_explicit(&b->lock, 1, memory_order_acquire) != 0) lockWordSlow(&b->lock);
}

void unlockBudget(Budget *b) { atomic_store_explicit(&b->lock, 0, memory_order_release); }

RtsInCallHandle handleOf(const Budget *b) { return b->generation << NUMBER_BITS | b->number; }

RtsInCallHandle openHandle(Budget *b, Task *waiter, void *owner, void (*cancel)(Budget *b))
{
    lockBudget(b);
    b->waiter = waiter;
    b->owner = owner;
    b->cancel = cancel;
    atomic_store_explicit(&b->why, 0, memory_order_relaxed);
    b->open = true;
    RtsInCallHandle handle = handleOf(b);
    unlockBudget(b);
    return handle;
}

void closeHandle(Budget *b)
{
    lockBudget(b);
    b->open = false;
    b->generation++;
    b->waiter = NULL;
    b->tso = NULL;
    unlockBudget(b);
}

bool rts_cancel(RtsInCallHandle handle)
{
    uint32_t number = (uint32_t)handle & ((1u << NUMBER_BITS) - 1);
    if (number == 0 || number > atomic_load_explicit(&table.size, memory_order_acquire)) return false;
    Budget *b = budgetAt(number);
    lockBudget(b);
    bool live = b->open && handleOf(b) == handle;
    if (live) {
        atomic_fetch_or_explicit(&b->why, PENDING_CANCEL, memory_order_relaxed);
        b->cancel(b);
    }
    unlockBudget(b);
    wantOwedTicks();
    return live;
}

/* The list may be half edited, and records locked, by threads that are gone.  Only what has to be is written. */
void forgetBudgets(void)
{
    renewLock(&table.lock);
    table.spare = NULL;
    for (uint32_t number = 1; number <= table.size; number++) {
        Budget *b = budgetAt(number);
        if (b->lock != 0) b->lock = 0;
        if (b->open) closeHandle(b);
    }
}

/* ---- In-calls ---- */

uint64_t deadlineAfter(HsInt64 microseconds)
{
    if (microseconds < 0) return NO_DEADLINE;
    uint64_t now = osMonotonicNanos(), most = (NO_DEADLINE - 1 - now) / 1000;
    return (uint64_t)microseconds > most ? NO_DEADLINE : now + (uint64_t)microseconds * 1000;
}

static void cancelInCall(Budget *b)
{
    if (b->waiter != NULL) cancelWait(b->waiter);
    else if (b->tso != NULL) pendFromOutside(b->tso, PENDING_CANCEL);
}

static void deadlinePassed(Timer *timer)
{
    Budget *b = container_of(timer, Budget, timer);
    atomic_fetch_or_explicit(&b->why, PENDING_TIMEOUT, memory_order_relaxed);
    pendFromOutside(b->tso, PENDING_TIMEOUT);
    /* Release: pairs with isBudgetToCome.  Behind the above: until then the wait is about to be ended. */
    atomic_store_explicit(&b->fired, true, memory_order_release);
}

bool isBudgetToCome(const InCall *incall)
{
    Budget *b = incall->budget;
    return b->handed || (b->deadline != NO_DEADLINE && !atomic_load_explicit(&b->fired, memory_order_acquire));
}

bool openBudget(InCall *incall, uint64_t deadline, bool handed)
{
    if (incall->budget == NULL && (incall->budget = takeBudget()) == NULL) return false;
    Budget *b = incall->budget;
    Task *task = incall->task;
    b->deadline = deadline;
    b->handed = handed;
    atomic_store_explicit(&b->fired, false, memory_order_relaxed);
    b->timer.fire = deadlinePassed;
    task->until = deadline == NO_DEADLINE ? 0 : deadline;
    incall->tso.flags |= TSO_BUDGET;
    openHandle(b, task, NULL, cancelInCall);
    return true;
}

RtsStatus beginBudget(InCall *incall, bool got)
{
    Budget *b = incall->budget;
    Task *task = incall->task;
    lockBudget(b);
    bool cancelled = atomic_load_explicit(&b->why, memory_order_relaxed) & PENDING_CANCEL;
    b->waiter = NULL;
    if (got) b->tso = &incall->tso;
    unlockBudget(b);
    /* The next wait of this Task is another in-call's: nobody calls cancelWait any more. */
    task->until = 0;
    task->unwilling = false;
    if (cancelled) return RTS_CANCELLED;
    if (b->deadline == NO_DEADLINE) return RTS_OK;
    if (osMonotonicNanos() >= b->deadline) return RTS_TIMED_OUT;
    return !got || startTimer(&b->timer, b->deadline) ? RTS_OK : RTS_NO_MEMORY;
}

/* What a budget leaves behind, or a limit. */
#define PENDING_BUDGET (PENDING_CANCEL | PENDING_TIMEOUT | PENDING_LIMIT)

void closeBudget(InCall *incall)
{
    Budget *b = incall->budget;
    if (b->deadline != NO_DEADLINE) cancelTimer(&b->timer);
    closeHandle(b);
    incall->tso.flags &= (uint8_t)~TSO_BUDGET;
    atomic_fetch_and_explicit(&incall->tso.pending, ~(uint32_t)PENDING_BUDGET, memory_order_relaxed);
}

void renewBudget(InCall *incall)
{
    uint32_t why = atomic_load_explicit(&incall->budget->why, memory_order_relaxed);
    if (why == 0) return;
    atomic_fetch_or_explicit(&incall->tso.pending, why, memory_order_relaxed);
    __atomic_store_n(&incall->stack.poll, 1, __ATOMIC_RELAXED);
}

SchedulerStatus budgetStatus(InCall *incall)
{
    uint32_t why = atomic_load_explicit(&incall->tso.pending, memory_order_relaxed);
    return why & PENDING_CANCEL ? Cancelled : why & PENDING_TIMEOUT ? TimedOut : why & PENDING_LIMIT ? LimitExceeded : NoStatus;
}

/* ---- Allocation limits ---- */

/* What a thread may allocate beyond its limit for every exception that says so: for handlers. */
#define GRACE_BYTES (100 * 1024)
/* Counters stay within this, so that they cannot overflow. */
#define MAX_COUNTER (INT64_C(1) << 62)

static void limitReached(Nursery *nursery)
{
    StgTSO *tso = container_of(nursery->account, StgTSO, allocLeft);
    if (!tso->limited) return;
    tso->allocLeft = GRACE_BYTES;
    atomic_fetch_or_explicit(&tso->pending, PENDING_LIMIT, memory_order_relaxed);
    __atomic_store_n(&tso->stack->poll, 1, __ATOMIC_RELAXED);
}

/* From now on what the thread allocates is counted. */
static void countAllocation(Capability *cap, StgTSO *tso)
{
    if (!(tso->flags & TSO_COUNTED)) {
        tso->flags |= TSO_COUNTED;
        tso->limited = false;
        tso->allocLeft = 0;
    }
    if (cap->nursery.account == NULL) openAccount(&cap->nursery, &tso->allocLeft);
    else chargeAccount(&cap->nursery);
}

void limitAllocation(Capability *cap, StgTSO *tso, StgWord64 bytes)
{
    countAllocation(cap, tso);
    tso->allocLeft = bytes < MAX_COUNTER ? (int64_t)bytes : MAX_COUNTER;
    tso->limited = true;
}

void rts_setAllocationCounter(Stack *stack, HsInt64 bytes)
{
    countAllocation(stack->cap, stack->tso);
    stack->tso->allocLeft = bytes > MAX_COUNTER ? MAX_COUNTER : bytes < -MAX_COUNTER ? -MAX_COUNTER : bytes;
}

HsInt64 rts_getAllocationCounter(Stack *stack)
{
    if (!(stack->tso->flags & TSO_COUNTED)) return 0;
    countAllocation(stack->cap, stack->tso);
    return stack->tso->allocLeft;
}

void rts_enableAllocationLimit(Stack *stack, bool enable)
{
    countAllocation(stack->cap, stack->tso);
    stack->tso->limited = enable;
    /* It may have been reached under a mask. */
    if (!enable) atomic_fetch_and_explicit(&stack->tso->pending, ~(uint32_t)PENDING_LIMIT, memory_order_relaxed);
}

void initBudgets(void) { accountOverdrawn = limitReached; }

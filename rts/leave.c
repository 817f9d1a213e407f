#include "leave.h"

#include "arch.h"
#include "base/report.h"
#include "budget.h"
#include "exception.h"
#include "interrupt.h"
#include "run.h"
#include "schedule.h"
#include "switch.h"
#include "throwto.h"
#include "worker.h"

/* ---- In-calls ---- */

void killInCall(InCall *incall)
{
    Task *task = incall->task;
    Stack *stack = &incall->stack;
    /* The thread goes, and with it what it called from inside. */
    while (task->incall != NULL && task->incall != incall) killInCall(task->incall);
    leaveInterruptible(stack->tso);
    if (incall->tso.flags & TSO_BUDGET) closeBudget(incall);
    Capability *cap = task->cap;
    if (cap == NULL) cap = takeForSuspended(incall);
    if (cap != NULL) {
        stack->cap = cap;
        leaveWait(stack->tso); /* it hosted who leaves */
        rearmThunks(stack);
        endThread(cap, stack->tso, ThreadDied);
    }
    unlinkInCall(task, incall);
    endInCall(task, incall);
    task->cap = NULL;
    if (cap == NULL) return;
    forgetDebts(&cap->nursery);
    releaseCapability(cap, task);
}

/* ---- Unbound threads ---- */

/* Context: the caller holds cap. */
static void killUnbound(Capability *cap, Stack *stack)
{
    StgTSO *tso = stack->tso;
    NativeBody *native = tso->body == BODY_NATIVE && tso->closure != CAPSTAN_UNIT ? nativeBodyOf(tso->closure) : NULL;
    stack->cap = cap;
    leaveInterruptible(tso);
    rearmThunks(stack);
    endThread(cap, tso, ThreadDied);
    if (native != NULL) native->killed(native);
    atomic_store_explicit(&tso->onCpu, 0, memory_order_relaxed);
    retireThread(cap, tso);
}

/* The unbound thread that runs here.  Its machine stack is what the caller runs on. */
static void killRunning(Task *task)
{
    Capability *cap = task->cap;
    Stack *stack = regsOf(cap)->stack;
    if (stack == NULL || isBound(stack->tso)) return;
    stopCounting(cap);
    forgetDebts(&cap->nursery);
    killUnbound(cap, stack);
    cap->leaving = NULL;
    __atomic_store_n(&regsOf(cap)->stack, NULL, __ATOMIC_RELAXED);
    task->left = stack;
}

/* The one whose safe call this worker is in.  Nothing runs on its stack. */
static void killCalling(Task *task)
{
    StgTSO *tso = task->calling;
    Stack *stack = tso->stack;
    leaveInterruptible(tso);
    Capability *cap = takeAfterCall(task);
    workerCallEnds(cap);
    if (cap == NULL) {
        recycleThread(tso);
        putStackAway(stack);
        return;
    }
    killUnbound(cap, stack);
    putStack(&cap->stacks, stack);
    releaseCapability(cap, task);
}

/* ---- All ---- */

void abandonAll(Task *task)
{
    if (task->cap != NULL && task->cap->dead == RTS_OK) {
        killRunning(task);
        endHosting(task, task->cap);
    }
    while (task->incall != NULL) killInCall(task->incall);
    if (task->calling != NULL) killCalling(task);
    Capability *cap = task->cap;
    task->cap = NULL;
    if (cap != NULL && cap->dead == RTS_OK) releaseCapability(cap, task);
}

/* NULL: an unwinder that cannot say which frame.  Base frames are left from the innermost on. */
static Stack *innermost(Task *task)
{
    Stack *running = task->cap == NULL ? NULL : regsOf(task->cap)->stack;
    if (running != NULL && !isBound(running->tso)) return running;
    if (task->incall != NULL) return &task->incall->stack;
    return task->calling == NULL ? NULL : task->calling->stack;
}

void leaveSideways(void *catchFrame, bool forced)
{
    Task *task = getMyTask();
    if (!forced) reportError(RTS_LEFT_SIDEWAYS, "an exception of C++, or of another language, went through managed code: its in-call is over");
    Stack *stack = catchFrame != NULL ? ((CatchFrame *)catchFrame)->stack : task != NULL ? innermost(task) : NULL;
    if (stack == NULL) return;
    if (isBound(stack->tso)) killInCall(incallOfStack(stack));
    else abandonAll(task);
}

/* Are the frames of this evaluation, on the stack from lo to hi, where the chain says, and not written over?  They may be anything by now. */
__attribute__((no_sanitize("address", "thread"))) static bool areFramesIntact(const Stack *stack, uintptr_t lo, uintptr_t hi)
{
    for (const TrapFrame *f = stack->trap; f != NULL; f = f->prev) {
        if ((uintptr_t)f < lo || (uintptr_t)f > hi - sizeof(CatchFrame) || (uintptr_t)f % sizeof(void *) != 0) return false;
        lo = (uintptr_t)f + 1; /* older ones are further up */
        if (!isUpdateFrame(f) && (f->handler != (void *)archLand || ((const CatchFrame *)f)->stack != stack)) return false;
    }
    return true;
}

bool noticeJump(Task *task, uintptr_t sp)
{
    bool noticed = false;
    uintptr_t size = task->hi - task->lo;
    for (InCall *incall = task->incall; incall != NULL; incall = task->incall) {
        Stack *stack = &incall->stack;
        /* Live frames are above the stack pointer, if it is the same stack. */
        if (stack->trap == NULL || sp - task->lo >= size || (uintptr_t)stack->trap - task->lo >= size) break;
        if (areFramesIntact(stack, sp, task->hi)) break;
        reportError(RTS_LEFT_SIDEWAYS, "longjmp, or a switch of stacks, went through managed code: its in-call is over");
        stack->roots = NULL;
        stack->trap = NULL;
        killInCall(incall);
        noticed = true;
    }
    return noticed;
}

void endAbandoned(Task *task)
{
    Stack *left = task->left;
    if (left != NULL) {
        task->left = NULL;
        comeHomeSideways(&task->home);
        putStackAway(left);
    }
    abandonAll(task);
    if (task->worker) loseWorker();
}

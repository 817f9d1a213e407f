#include "stack.h"

#include "base/report.h"
#include "os/os.h"

char updateFrameTag[1];

/* An in-call is cheap, asking the system for a stack's bounds is not: a new thread's first one gets this much at once, and asks
 * only if it goes below. */
#define FIRST_GUESS ((uintptr_t)16 * 1024)
/* But not if the thread has already used this much of its stack: that much may not be left.  (Of less than twice both one should not make a thread's stack.) */
#define SHALLOW ((uintptr_t)32 * 1024)

/* Thread-locals lie where a thread's stack begins, but for the main thread. */
static bool isShallow(uintptr_t sp) { return (uintptr_t)&myTask - sp < SHALLOW; }

/* As long as the bounds were not asked for it has not gone deeper than the guess, and a little. */
uintptr_t stackEnd(const Task *task, uintptr_t sp)
{
    if (sp - task->lo < task->hi - task->lo) return task->hi;
    return task->locals - sp < SHALLOW + FIRST_GUESS + STACK_HEADROOM ? task->locals : 0;
}

/* false: the thread runs on a stack of the host's own making. */
static bool askForBounds(Task *task, Stack *stack, uintptr_t sp)
{
    uintptr_t lo, hi;
    if (!osThreadStackBounds(&lo, &hi) || sp - lo >= hi - lo) return false;
    task->lo = lo;
    task->hi = hi;
    stack->limit = lo + STACK_HEADROOM;
    return true;
}

void findStackBounds(Task *task, Stack *stack, uintptr_t sp)
{
    if ((task->secondCall || !isShallow(sp)) && askForBounds(task, stack, sp)) return;
    task->secondCall = true;
    stack->lo = sp - FIRST_GUESS;
    stack->hi = 0; /* a guess */
    stack->limit = stack->lo;
}

bool isStackOverflow(Stack *stack, uintptr_t sp)
{
    if (stack->tso->incall == NULL) { /* a pooled one: its bounds are known */
        if (sp >= stack->limit) return false;
        if (hostConfig.stackOverflowHook) hostConfig.stackOverflowHook(hostConfig.stackOverflowCtx, stack->hi - stack->lo);
        return true;
    }
    Task *task = incallOfStack(stack)->task;
    if (stack->hi == 0 && stack->limit == stack->lo) {
        if (!askForBounds(task, stack, sp)) {
            size_t budget = hostConfig.foreign_stack_bytes;
            uintptr_t top = stack->lo + FIRST_GUESS;
            stack->limit = top - (budget > FIRST_GUESS ? budget < top ? budget : top : FIRST_GUESS);
        }
        stack->hi = 1;
    }
    if (sp >= stack->limit) return false;
    if (hostConfig.stackOverflowHook)
        hostConfig.stackOverflowHook(hostConfig.stackOverflowCtx, task->hi > task->lo ? task->hi - task->lo : 0);
    return true;
}

void scanStack(Stack *stack, Visitor *v)
{
    for (CapstanRoots *r = stack->roots; r != NULL; r = r->prev)
        for (size_t i = 0; i < r->count; i++) visitRoot(v, r->slots[i]);
    for (TrapFrame *f = stack->trap; f != NULL; f = f->prev)
        if (isUpdateFrame(f)) visitRoot(v, &((UpdateFrame *)f)->thunk);
}

/* stack.h: machine stacks.  Here: the adopted ones, on which in-calls run.
 *
 * Headroom is what managed code leaves to C below the limit at which it raises StackOverflow. */
#ifndef STACK_H
#define STACK_H

#include "gc/heap.h"
#include "task.h"

#define STACK_HEADROOM ((uintptr_t)48 * 1024)

/* Stack.mask. */
enum { UNMASKED, MASKED_INTERRUPTIBLE, MASKED_UNINTERRUPTIBLE };
/* Atomic: who throws, or cancels, looks whether the thread is deaf (isDeaf). */
static inline void setMask(Stack *stack, uint32_t mask) { __atomic_store_n(&stack->mask, mask, __ATOMIC_RELAXED); }

/* Set stack->limit for an in-call that begins at stack pointer sp.  false: not within the bounds that are known. */
static inline bool adoptStack(Task *task, Stack *stack, uintptr_t sp)
{
    stack->limit = task->lo + STACK_HEADROOM;
    return sp - task->lo < task->hi - task->lo;
}
/* The same on a stack of unknown bounds. */
void findStackBounds(Task *task, Stack *stack, uintptr_t sp);

/* Where the stack ends on which this task's in-calls are that have come down to sp; 0: unknown. */
uintptr_t stackEnd(const Task *task, uintptr_t sp);

/* The stack pointer is below the limit.  Looks again, if the limit was a guess; true: it is an overflow. */
bool isStackOverflow(Stack *stack, uintptr_t sp);

/* Visit a stack's roots: its chain, and the thunks of its update frames. */
void scanStack(Stack *stack, Visitor *v);

/* The tag of update frames in TrapFrame.handler. */
extern char updateFrameTag[];
typedef struct {
    TrapFrame trap;
    HaskellObj thunk;
} UpdateFrame;
static inline bool isUpdateFrame(const TrapFrame *f) { return f->handler == (void *)updateFrameTag; }

#endif

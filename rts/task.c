#include "task.h"

#include "base/report.h"
#include "os/memory.h"
#include "os/os.h"
#include "os/topology.h"

#include <pthread.h>
#include <string.h>

_Thread_local Task *myTask __attribute__((tls_model("initial-exec")));
/* This thread's key destructor has run: no Task can count on being freed by it again. */
static _Thread_local bool threadIsDying __attribute__((tls_model("initial-exec")));

_Atomic uint64_t currentEpoch;
Lock tasksLock = LOCK_INIT(RANK_TASKS);

static struct {
    pthread_once_t once;
    pthread_key_t key;          /* [const] its destructor frees the Task */
    bool haveKey;               /* [const] or every Task is a temporary one */
    Task *all;                  /* [lock: tasks] */
    Task *recycled;             /* [lock: tasks] records of ended threads, through next */
    InCall *spareInCalls;       /* [lock: tasks] of ended threads, through prev */
    Capability *noCapability;   /* [const] what Task.last is before the first in-call */
    void (*abandon)(Task *task);
} tasks = { .once = PTHREAD_ONCE_INIT };

static void threadEnds(void *task)
{
    threadIsDying = true;
    myTask = task;
    if (tasks.abandon) tasks.abandon(task);
    freeMyTask();
}

static void makeKey(void) { tasks.haveKey = pthread_key_create(&tasks.key, threadEnds) == 0; }

void initTasks(Capability *noCapability, void (*abandon)(Task *task))
{
    tasks.noCapability = noCapability;
    tasks.abandon = abandon;
    pthread_once(&tasks.once, makeKey);
}

__attribute__((noinline)) Task *getMyTask(void) { return myTask; }

static void initInCall(Task *task, InCall *incall)
{
    memset(incall, 0, sizeof *incall);
    incall->task = task;
    incall->exception = CAPSTAN_POISON;
    incall->stack.tso = &incall->tso;
    incall->tso.stack = &incall->stack;
    incall->tso.incall = incall;
    incall->tso.handle = NULL;
    incall->tso.closure = CAPSTAN_UNIT;
    clearWaitRoots(&incall->tso);
}

static Task *takeRecord(void)
{
    acquireLock(&tasksLock);
    Task *task = tasks.recycled;
    if (task != NULL) tasks.recycled = task->next;
    releaseLock(&tasksLock);
    if (task != NULL) return task;
    /* Aligned by hand: rtsMalloc need not.  Never freed. */
    void *raw = rtsMalloc(sizeof(Task) + 64);
    if (raw == NULL) return NULL;
    task = (Task *)(((uintptr_t)raw + 63) & ~(uintptr_t)63);
    initInCall(task, &task->first);
    task->first.fresh = true;
    task->interrupt = NULL;
    task->adjustors = NULL;
    task->adjustorCount = 0;
    task->bell = 0;
    return task;
}

static void linkTask(Task *task)
{
    acquireLock(&tasksLock);
    task->next = tasks.all;
    if (tasks.all) tasks.all->prev = task;
    tasks.all = task;
    releaseLock(&tasksLock);
}

static Task *makeTask(bool worker)
{
    pthread_once(&tasks.once, makeKey);
    Task *task = takeRecord();
    if (task == NULL) return NULL;
    /* All but the InCall, which was left as a spare one has to be: somebody may still be writing its poll. */
    memset(task, 0, offsetof(Task, first));
    atomic_store_explicit(&task->sleeping, SLEEPS_NOT, memory_order_relaxed);
    atomic_store_explicit(&task->hosting, NULL, memory_order_relaxed);
    task->first.prev = NULL;
    task->spare = &task->first;
    task->last = tasks.noCapability;
    task->node = topologyCurrentNode();
    task->id = osThreadId();
    task->locals = (uintptr_t)&myTask;
    task->worker = worker;
    if (threadIsDying || !tasks.haveKey) task->flags |= TASK_TEMPORARY;
    else if (pthread_setspecific(tasks.key, task) != 0) task->flags |= TASK_TEMPORARY;
    myTask = task;
    linkTask(task);
    return task;
}

Task *newTask(void) { return myTask != NULL ? myTask : makeTask(false); }
Task *newWorkerTask(void) { return makeTask(true); }

InCall *newInCallSlow(Task *task)
{
    InCall *incall = task->spare;
    if (incall != NULL) {
        task->spare = incall->prev;
        return incall;
    }
    acquireLock(&tasksLock);
    incall = tasks.spareInCalls;
    if (incall != NULL) tasks.spareInCalls = incall->prev;
    releaseLock(&tasksLock);
    if (incall != NULL) __atomic_store_n(&incall->task, task, __ATOMIC_RELAXED); /* a late waker of the last thread may look: taskOf */
    else if ((incall = rtsMalloc(sizeof *incall)) != NULL) initInCall(task, incall);
    return incall;
}

/* The lock keeps a collection away, which holds it while it looks at in-calls. */
void unlinkInCall(Task *task, InCall *incall)
{
    acquireLock(&tasksLock);
    InCall **link = &task->incall;
    while (*link != NULL && *link != incall) link = &(*link)->prev;
    if (*link != NULL) *link = incall->prev;
    releaseLock(&tasksLock);
}

/* Context: the tasks lock. */
static void recycleSpares(Task *task)
{
    for (InCall *i = task->spare, *next; i != NULL; i = next) {
        next = i->prev;
        if (i->fresh) continue;
        i->prev = tasks.spareInCalls;
        tasks.spareInCalls = i;
    }
}

void freeMyTask(void)
{
    Task *task = myTask;
    if (task == NULL) return;
    myTask = NULL;
    if (!(task->flags & TASK_TEMPORARY)) pthread_setspecific(tasks.key, NULL);
    acquireLock(&tasksLock);
    recycleSpares(task);
    if (task->prev) task->prev->next = task->next;
    else tasks.all = task->next;
    if (task->next) task->next->prev = task->prev;
    task->next = tasks.recycled;
    tasks.recycled = task;
    releaseLock(&tasksLock);
}

void retireTemporary(void)
{
    Task *task = myTask;
    if (task != NULL && task->flags & TASK_TEMPORARY && !task->worker && task->incall == NULL && task->cap == NULL) freeMyTask();
}

void eachTask(void (*f)(Task *task, void *ctx), void *ctx)
{
    acquireLock(&tasksLock);
    for (Task *task = tasks.all; task != NULL; task = task->next) f(task, ctx);
    releaseLock(&tasksLock);
}

Task *findWillingTask(void)
{
    if (!tryLock(&tasksLock)) return NULL;
    Task *task = tasks.all;
    while (task != NULL && atomic_load_explicit(&task->sleeping, memory_order_seq_cst) != SLEEPS_WILLING) task = task->next;
    releaseLock(&tasksLock);
    return task;
}

unsigned countTasks(void)
{
    acquireLock(&tasksLock);
    unsigned n = 0;
    for (Task *task = tasks.all; task != NULL; task = task->next) n += !task->worker;
    releaseLock(&tasksLock);
    return n;
}

void forgetTasks(void)
{
    /* What is forgotten stays findable, for leak checkers. */
    static struct { Task *all, *recycled; InCall *spareInCalls; } volatile forgotten __attribute__((unused));
    Task *task = myTask;
    renewLock(&tasksLock);
    forgotten.all = tasks.all;
    forgotten.recycled = tasks.recycled;
    forgotten.spareInCalls = tasks.spareInCalls;
    tasks.all = task;
    tasks.recycled = NULL;
    tasks.spareInCalls = NULL;
    if (task == NULL) return;
    if (task->prev != NULL) task->prev->next = task->next;
    else forgotten.all = task->next;
    task->next = task->prev = NULL;
}

Task *firstTaskUnlocked(void) { return tasks.all; }

/* The simplest peer: a C function under one pthread mutex. No managed language at all, so a lower bound of what a lock costs. */
#include "subject.h"
#include <pthread.h>
#include <stdlib.h>

typedef struct Cell {
    int64_t number;
    struct Cell *next;
    int64_t spare;
} Cell;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((noinline)) static int64_t addOne(int64_t n)
{
    return n + 1;
}

__attribute__((noinline)) static int64_t sumCells(void)
{
    Cell *list = NULL;
    for (int64_t i = 1; i <= WORK_CELLS; i++) {
        Cell *cell = malloc(sizeof *cell);
        if (cell == NULL) abort();
        *cell = (Cell){i, list, 0};
        list = cell;
    }
    int64_t sum = 0;
    while (list != NULL) {
        Cell *next = list->next;
        sum += list->number;
        free(list);
        list = next;
    }
    return sum;
}

static int64_t work(int64_t rounds)
{
    int64_t x = sumCells();
    for (int64_t i = 0; i < rounds; i++) x = x * WORK_FACTOR % WORK_MODULUS;
    return x;
}

/* Through pointers that the compiler must load, as any runtime's entry is. */
static int64_t (*volatile addOneEntry)(int64_t) = addOne;
static int64_t (*volatile workEntry)(int64_t) = work;

int subjectStart(int capabilities)
{
    (void)capabilities;
    return 0;
}

int subjectAttach(void)
{
    return 0;
}

int64_t subjectCall(int64_t n)
{
    pthread_mutex_lock(&lock);
    int64_t result = addOneEntry(n);
    pthread_mutex_unlock(&lock);
    return result;
}

int64_t subjectWork(int64_t rounds)
{
    pthread_mutex_lock(&lock);
    int64_t result = workEntry(rounds);
    pthread_mutex_unlock(&lock);
    return result;
}

void subjectDetach(void)
{
}

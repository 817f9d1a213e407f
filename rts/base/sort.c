#include "base/sort.h"

#include <string.h>

#define MOST_RUNS 64 /* of 1, 2, 4 … nodes */

typedef struct {
    size_t link;
    bool (*isBefore)(const void *a, const void *b);
} Order;

static void *nextOf(const void *node, size_t link)
{
    void *next;
    memcpy(&next, (const char *)node + link, sizeof next);
    return next;
}

static void setNext(void *node, size_t link, void *next) { memcpy((char *)node + link, &next, sizeof next); }

static void *merge(const Order *o, void *a, void *b)
{
    void *merged = NULL, *last = NULL;
    while (a != NULL && b != NULL) {
        void **from = o->isBefore(a, b) ? &a : &b, *first = *from;
        *from = nextOf(first, o->link);
        if (last == NULL) merged = first;
        else setNext(last, o->link, first);
        last = first;
    }
    void *rest = a != NULL ? a : b;
    if (last == NULL) return rest;
    setNext(last, o->link, rest);
    return merged;
}

void *sortList(void *list, size_t link, bool (*isBefore)(const void *a, const void *b))
{
    const Order o = { link, isBefore };
    void *runs[MOST_RUNS] = { NULL };
    while (list != NULL) {
        void *run = list;
        list = nextOf(run, link);
        setNext(run, link, NULL);
        unsigned i = 0;
        for (; runs[i] != NULL; i++) {
            run = merge(&o, runs[i], run);
            runs[i] = NULL;
        }
        runs[i] = run;
    }
    for (unsigned i = 0; i < MOST_RUNS; i++) list = merge(&o, list, runs[i]);
    return list;
}

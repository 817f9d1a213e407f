/* base/sort.h: putting lists in order. */
#ifndef BASE_SORT_H
#define BASE_SORT_H

#include <stdbool.h>
#include <stddef.h>

/* Merge sort of a list, by no memory but the nodes'.  link: where in a node the pointer to the next one is. */
void *sortList(void *list, size_t link, bool (*isBefore)(const void *a, const void *b));

#endif

/* A C host that calls managed functions as if they were C's: examples/foreign/shelf.ffi declares them, managed.c has them. */
#include <HsFFI.h>

#include "shelf_stub.h"

#include <stdio.h>
#include <stdlib.h>

static void print(const char *name, HsInt32 weight) { printf("  %s: %d\n", name, weight); }

int main(int argc, char **argv)
{
    hs_init(&argc, &argv);

    shelf_put("a kettle", 900);
    shelf_put("a jar", 450);
    shelf_put("a cup", 200);
    shelf_visit((HsFunPtr)print);
    printf("taken: %d\n", shelf_take("a jar"));
    char *label = shelf_label();
    printf("label: %s\n", label);
    free(label); /* Owned */

    /* How a call ended, instead of the end of the program. */
    RtsError error = RTS_ERROR_INIT;
    HsInt32 weight;
    if (shelf_take_try("a jar", &weight, &error) != Success) printf("%s: %s\n", error.exception_class, error.message);

    /* Not longer than 50 ms, begun or not. */
    RtsLockOpts opts = RTS_LOCK_OPTS_INIT;
    opts.deadline_us = 50000;
    if (shelf_watch_try_opt(&opts, &error) == TimedOut) printf("watching: timed out\n");

    /* A C function pointer to a managed function. */
    int numbers[] = { 3, 14, 15, 92, 65, 35, 89, 79 };
    HsFunPtr order = nearest_to(51);
    qsort(numbers, 8, sizeof *numbers, (int (*)(const void *, const void *))order);
    hs_free_fun_ptr(order);
    printf("nearest to 51:");
    for (int i = 0; i < 8; i++) printf(" %d", numbers[i]);
    printf("\n");

    hs_exit();
    return 0;
}

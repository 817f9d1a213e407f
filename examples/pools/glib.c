/* glib: a thread pool of GLib whose threads call in.
 *
 *     glib [TASKS]
 */
#include "bank.h"

#include <glib.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

static _Atomic HsInt done, numbers;
static _Atomic bool failed;

static void runTask(gpointer task, gpointer user)
{
    HsInt number = work(GPOINTER_TO_UINT(task));
    if (number < 0) failed = true;
    if (number <= 0) return;
    done++;
    numbers += number;
}

int main(int argc, char **argv)
{
    GError *error = NULL;
    long tasks = argc > 1 ? strtol(argv[1], NULL, 10) : 100000;
    if (tasks < 1 || tasks > 100000000) {
        fprintf(stderr, "usage: glib [TASKS]\n");
        return 2;
    }
    if (!openBank("glib")) return 1;
    GThreadPool *pool = g_thread_pool_new(runTask, NULL, 8, TRUE, &error);
    if (pool == NULL) {
        fprintf(stderr, "glib: %s\n", error->message);
        return 1;
    }
    for (long i = 1; i <= tasks; i++) g_thread_pool_push(pool, GUINT_TO_POINTER((guint)i), NULL);
    g_thread_pool_free(pool, FALSE, TRUE); /* when all is done */
    bool right = report("glib", done, numbers) && !failed;
    closeBank();
    return right ? 0 : 1;
}

/* The C side of Callback.hs. */
#include "callback_loop.h"

void measureCallback(Callback *f, double seconds);
void measureMaking(void (*batch)(int64_t n), double seconds);

void measureCallback(Callback *f, double seconds)
{
    printFigure("callback", fastestBatch(callBatch, (void *)f, seconds), "ns");
    fflush(stdout);
}

static void runBatch(void *batch, int64_t n) { ((void (*)(int64_t))batch)(n); }

void measureMaking(void (*batch)(int64_t n), double seconds)
{
    printFigure("make_free", fastestBatch(runBatch, (void *)batch, seconds), "ns");
    fflush(stdout);
}

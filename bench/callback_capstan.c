/* C function pointers to managed functions, on Capstan (figures B3, B3a).
 *
 *     callback-SUBJECT FIGURE [--seconds=S]
 *
 * prints `metric<TAB>value<TAB>unit` a line:
 *     call    ns of a call by C, which holds no capability, of a managed Int -> IO Int: the runtime makes the values; the same through a stub of GHC's text; and
 *             from inside a safe call of managed code
 *     make    ns to make an adjustor (its stable pointer included) and to free it, and bytes of each of ten thousand
 */
#include "callback_loop.h"

#include <Rts.h>
#include <rts/Managed.h>

CAPSTAN_IO(increment, n) { return rts_int(stack, rts_intValue(rts_force(stack, n)) + 1); }

/* GHC's text for a wrapper of type Int -> IO Int. */
static HsInt incrementStub(StgStablePtr the_stableptr, HsInt a1)
{
Capability *cap;
HaskellObj ret;
HsInt cret;
cap = rts_lock();
rts_evalIO(&cap,rts_apply(cap,(HaskellObj)runIO_closure,rts_apply(cap,(StgClosure*)deRefStablePtr(the_stableptr),rts_mkInt(cap,a1))) ,&ret);
rts_checkSchedStatus("incrementStub",cap);
cret=rts_getInt(ret);
rts_unlock(cap);
return cret;
}

static _Noreturn void giveUp(const char *what)
{
    fprintf(stderr, "bench: %s\n", what);
    exit(1);
}

static void *makeAdjustor(StgFunPtr stub)
{
    Capability *cap = rts_lock();
    StgStablePtr hptr = getStablePtr((StgPtr)&increment_closure);
    rts_unlock(cap);
    void *f = createAdjustor(hptr, stub, (char *)"LL");
    if (f == NULL) giveUp("no adjustor");
    return f;
}

typedef struct {
    void *f;
    double seconds, best;
} SafeCalls;
static void *callFromSafe(void *arg)
{
    SafeCalls *calls = arg;
    calls->best = fastestBatch(callBatch, calls->f, calls->seconds);
    return NULL;
}
CAPSTAN_IO(callSafely, calls)
{
    rts_safeCall(stack, callFromSafe, rts_getPtr(calls));
    return CAPSTAN_UNIT;
}

static void measureCalls(double seconds)
{
    void *plain = makeAdjustor(NULL), *stub = makeAdjustor((StgFunPtr)incrementStub);
    printFigure("callback", fastestBatch(callBatch, plain, seconds), "ns");
    printFigure("callback_stub", fastestBatch(callBatch, stub, seconds), "ns");
    SafeCalls calls = { .f = plain, .seconds = seconds };
    HaskellObj value;
    Capability *cap = rts_lock();
    rts_evalIO(&cap, rts_apply(cap, &callSafely_closure, rts_mkPtr(cap, &calls)), &value);
    rts_unlock(cap);
    printFigure("callback_safe", calls.best, "ns");
}

/* The capability is held all the while, as by managed code that makes its callbacks. */
static void makeBatch(void *unused, int64_t n)
{
    Capability *cap = rts_lock();
    for (int64_t i = 0; i < n; i++) freeHaskellFunctionPtr(createAdjustor(getStablePtr((StgPtr)&increment_closure), NULL, (char *)"LL"));
    rts_unlock(cap);
}

static void measureMaking(double seconds)
{
    enum { MANY = 10000 };
    static void *made[MANY];
    RtsAdjustorCounts counts;
    printFigure("make_free", fastestBatch(makeBatch, NULL, seconds), "ns");
    for (int i = 0; i < MANY; i++) made[i] = makeAdjustor(NULL);
    rts_getAdjustorCounts(&counts);
    printFigure("bytes", (double)(counts.code_bytes + counts.data_bytes) / MANY, "B");
    for (int i = 0; i < MANY; i++) freeHaskellFunctionPtr(made[i]);
}

int main(int argc, char **argv)
{
    char message[256];
    const char *figure;
    RtsConfig config = RTS_CONFIG_INIT;
    double seconds = readSeconds(argc, argv, &figure);
    config.capabilities = 1;
    config.rts_opts_enabled = RtsOptsAll;
    if (rts_start(&config, message, sizeof message) != RTS_OK) giveUp(message);
    if (strcmp(figure, "call") == 0) measureCalls(seconds);
    else if (strcmp(figure, "make") == 0) measureMaking(seconds);
    else giveUp("usage: callback-SUBJECT call|make [--seconds=S]");
    hs_exit();
    return 0;
}

/* Capstan: managed functions behind the closure names of capstan_stub.c, whose stubs are the subject's calls. */
#include "subject.h"
#include <Rts.h>
#include <rts/Managed.h>
#include <stdio.h>

#define subjectCallIO Calls_zdfstableZZC1ZZCmainZZCCallsZZCsubjectCall
#define subjectWorkIO Calls_zdfstableZZC0ZZCmainZZCCallsZZCsubjectWork

int subjectStart(int capabilities)
{
    char message[256];
    RtsConfig config = RTS_CONFIG_INIT;
    config.capabilities = (unsigned)capabilities;
    config.rts_opts_enabled = RtsOptsAll; /* for experiments: CAPSTANRTS=-A4m bench/driver ... */
    if (rts_start(&config, message, sizeof message) == RTS_OK) return 0;
    fprintf(stderr, "bench: %s\n", message);
    return -1;
}

int subjectAttach(void)
{
    return 0;
}

void subjectDetach(void)
{
    hs_thread_done();
}

CAPSTAN_IO(subjectCallIO, n)
{
    return rts_int(stack, rts_intValue(rts_force(stack, n)) + 1);
}

CAPSTAN_CON(Cell, 1, number, next)
CAPSTAN_STATIC_CON(Nil, 0);

/* Nothing in the two loops is a safepoint: eight cells cannot hold anybody up. */
static HaskellObj makeCells(Stack *stack)
{
    HaskellObj list = &Nil_closure;
    for (HsInt i = 1; i <= WORK_CELLS && list != CAPSTAN_POISON; i++) list = Cell_new(stack->cap, rts_int(stack, i), list);
    return list;
}

static HsInt sumCells(HaskellObj list)
{
    HsInt sum = 0;
    for (; CAPSTAN_IS(Cell, list); list = CAPSTAN_GET(Cell, list, next))
        sum += rts_intValue(CAPSTAN_GET(Cell, list, number));
    return sum;
}

CAPSTAN_IO(subjectWorkIO, n)
{
    HsInt rounds = rts_intValue(rts_force(stack, n));
    HaskellObj list = makeCells(stack);
    if (list == CAPSTAN_POISON) return list;
    HsInt x = sumCells(list);
    for (HsInt i = 0; i < rounds; i++) {
        x = x * WORK_FACTOR % WORK_MODULUS;
        rts_poll(stack);
    }
    return rts_int(stack, x);
}

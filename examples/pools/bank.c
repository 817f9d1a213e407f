#include "bank.h"

#include <rts/Managed.h>

#include <stdio.h>

/* ---- Managed code ---- */

/* The accounts: an array of MutVars. */
CAPSTAN_CAF(accounts)
{
    HaskellObj array = rts_mkArray(stack->cap, ACCOUNTS, CAPSTAN_UNIT);
    for (size_t i = 0; i < ACCOUNTS; i++) rts_setElem(stack->cap, array, i, rts_mkMutVar(stack->cap, CAPSTAN_SMALL_INT(FIRST_BALANCE)));
    return array;
}

CAPSTAN_CAF(transfers) { return rts_mkMutVar(stack->cap, CAPSTAN_SMALL_INT(0)); }

/* Add to a MutVar, unless it would go below zero; the sum, or -1. */
static HsInt add(Stack *stack, HaskellObj var, HsInt amount)
{
    HaskellObj old;
    HsInt sum;
    do {
        old = rts_readMutVar(var);
        sum = rts_smallIntValue(old) + amount;
        if (sum < 0) return -1;
    } while (!rts_casMutVar(stack->cap, var, old, CAPSTAN_SMALL_INT(sum)));
    return sum;
}

/* transfer :: Int -> Int -> Int -> IO Int */
CAPSTAN_IO(bankTransfer, from, to, amount)
{
    HsInt source = rts_intValue(from), target = rts_intValue(to), n = rts_intValue(amount);
    if (source < 0 || source >= ACCOUNTS || target < 0 || target >= ACCOUNTS || n < 0) rts_raiseError(stack, "no such account");
    HaskellObj all = rts_force(stack, &accounts_closure);
    if (add(stack, rts_getElem(all, (size_t)source), -n) < 0) return CAPSTAN_SMALL_INT(0);
    add(stack, rts_getElem(all, (size_t)target), n);
    return CAPSTAN_SMALL_INT(add(stack, rts_force(stack, &transfers_closure), 1));
}

/* audit :: IO (Array Int): the sum, and the number of transfers */
CAPSTAN_IO(bankAudit)
{
    HaskellObj all = rts_force(stack, &accounts_closure), result;
    HsInt sum = 0;
    for (size_t i = 0; i < ACCOUNTS; i++) sum += rts_smallIntValue(rts_readMutVar(rts_getElem(all, i)));
    HaskellObj count = rts_readMutVar(rts_force(stack, &transfers_closure));
    result = rts_mkArray(stack->cap, 2, count);
    rts_setElem(stack->cap, result, 0, CAPSTAN_SMALL_INT(sum));
    return result;
}

/* ---- C ---- */

bool openBank(const char *program)
{
    RtsConfig config = RTS_CONFIG_INIT;
    char message[200];
    if (rts_start(&config, message, sizeof message) == RTS_OK) return true;
    fprintf(stderr, "%s: %s\n", program, message);
    return false;
}

HsInt transfer(HsInt from, HsInt to, HsInt amount)
{
    HaskellObj number;
    Capability *cap = rts_lock();
    HaskellObj call = rts_apply(cap, rts_apply(cap, &bankTransfer_closure, rts_mkInt(cap, from)), rts_mkInt(cap, to));
    rts_evalIO(&cap, rts_apply(cap, call, rts_mkInt(cap, amount)), &number);
    HsInt n = rts_getSchedStatus(cap) == Success ? rts_getInt(number) : -1;
    rts_unlock(cap);
    return n;
}

void audit(HsInt *sum, HsInt *transfers)
{
    HaskellObj result;
    Capability *cap = rts_lock();
    rts_evalIO(&cap, &bankAudit_closure, &result);
    rts_checkSchedStatus((char *)"audit", cap);
    *sum = rts_getInt(rts_getElem(result, 0));
    *transfers = rts_getInt(rts_getElem(result, 1));
    rts_unlock(cap);
}

void closeBank(void) { hs_exit(); }

HsInt work(unsigned i) { return transfer((HsInt)(i * 7u % ACCOUNTS), (HsInt)(i * 13u % ACCOUNTS), (HsInt)(i % 100u)); }

bool report(const char *program, HsInt done, HsInt numbers)
{
    HsInt sum, transfers;
    audit(&sum, &transfers);
    printf("%s: %ld transfers, %ld in all accounts\n", program, (long)transfers, (long)sum);
    return sum == (HsInt)ACCOUNTS * FIRST_BALANCE && transfers == done && numbers == done * (done + 1) / 2;
}

/* A bank of managed accounts, into which the threads of other libraries call. */
#ifndef EXAMPLE_POOLS_BANK_H
#define EXAMPLE_POOLS_BANK_H

#include <Rts.h>

enum { ACCOUNTS = 64, FIRST_BALANCE = 1000 };

/* Start the runtime; false, with a message on standard error: it did not. */
bool openBank(const char *program);
/* Move so much from one account to another; the number of the transfer, counted from 1; 0: the account has not that much; -1: there is no such account.
 * Any thread. */
HsInt transfer(HsInt from, HsInt to, HsInt amount);
/* The sum of all accounts, and how many transfers there were.  While nobody transfers. */
void audit(HsInt *sum, HsInt *transfers);
void closeBank(void);

/* Work number i of a run, the same whoever does it: some transfer. */
HsInt work(unsigned i);

/* Print what came of the run, and say whether it is right: done are the transfers that callers saw succeed, numbers the sum of their numbers. */
bool report(const char *program, HsInt done, HsInt numbers);

#endif

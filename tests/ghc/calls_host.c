/*
 * The managed functions behind the stubs that ghc makes of Calls.hs, and a host that calls them.
 *
 * ghc numbers its closure names; ghc_stubs.sh reads the names from the stubs and defines CALLS_name for each export.
 */
#include "Calls_stub.h"

#include <Rts.h>
#include <rts/Managed.h>

#include <stdio.h>
#include <string.h>

/* A force is a safepoint: the other argument is rooted meanwhile. */
#define FORCE2(stack, a, b)               \
    do {                                  \
        CAPSTAN_ROOTS(stack, a, b);       \
        a = rts_force(stack, a);          \
        b = rts_force(stack, b);          \
        CAPSTAN_UNROOT(stack);            \
    } while (0)

CAPSTAN_IO(CALLS_successor, n)
{
    return rts_int(stack, rts_intValue(rts_force(stack, n)) + 1);
}

CAPSTAN_FUN(CALLS_half, x)
{
    HsDouble value = rts_getDouble(rts_force(stack, x));
    return rts_mkDouble(stack->cap, value / 2);
}

CAPSTAN_FUN(CALLS_clip, n, most)
{
    FORCE2(stack, n, most);
    HsInt16 value = rts_getInt16(n), limit = rts_getWord8(most);
    return rts_mkInt16(stack->cap, value < limit ? value : limit);
}

CAPSTAN_IO(CALLS_isUpper, c)
{
    HsChar value = rts_getChar(rts_force(stack, c));
    return rts_mkBool(stack->cap, value >= 'A' && value <= 'Z');
}

CAPSTAN_IO(CALLS_poke32, address, value)
{
    FORCE2(stack, address, value);
    *(HsWord32 *)rts_getPtr(address) = rts_getWord32(value);
    return CAPSTAN_UNIT;
}

/* One more step, in which the name is expanded. */
#define CAF(name) CAPSTAN_CAF(name)
CAF(CALLS_answer)
{
    return CAPSTAN_SMALL_INT(42);
}

CAPSTAN_IO(CALLS_divide, a, b)
{
    FORCE2(stack, a, b);
    if (rts_intValue(b) == 0) rts_raiseError(stack, "divide by zero");
    return rts_int(stack, rts_intValue(a) / rts_intValue(b));
}

static int wrong;

static void check(int holds, const char *what)
{
    if (!holds) {
        wrong++;
        printf("FAILED: %s\n", what);
    }
}
#define CHECK(condition) check((condition), #condition)

static char failedSite[32], failedText[64];
static SchedulerStatus failedStatus;

static void noteStatus(void *ctx, const char *site, Capability *cap, SchedulerStatus status, const char *text)
{
    (void)ctx;
    (void)cap;
    snprintf(failedSite, sizeof failedSite, "%s", site);
    snprintf(failedText, sizeof failedText, "%s", text);
    failedStatus = status;
}

/* A status hook that returns: the stub goes on, and gives zero. */
static void checkFailure(void)
{
    CHECK(divide(84, 0) == 0);
    CHECK(strcmp(failedSite, "divide") == 0);
    CHECK(failedStatus == Killed);
    CHECK(strstr(failedText, "divide by zero") != NULL);
}

static void checkCalls(void)
{
    HsWord32 word = 0;

    CHECK(successor(HS_INT_MAX - 1) == HS_INT_MAX);
    CHECK(successor(-1) == 0);
    CHECK(half(-0.5) == -0.25);
    CHECK(clip(300, 255) == 255);
    CHECK(clip(-7, 255) == -7);
    CHECK(isUpper('Q') == HS_BOOL_TRUE);
    CHECK(isUpper(0x3bb) == HS_BOOL_FALSE);
    poke32(&word, 4000000000u);
    CHECK(word == 4000000000u);
    CHECK(answer() == 42);
    checkFailure();
    CHECK(divide(84, 2) == 42);
}

int main(void)
{
    RtsConfig config = RTS_CONFIG_INIT;
    char message[128] = "";

    config.capabilities = 2;
    config.statusHook = noteStatus;
    if (rts_start(&config, message, sizeof message) != RTS_OK) {
        printf("FAILED: %s\n", message);
        return 1;
    }
    checkCalls();
    hs_exit();
    return wrong != 0;
}

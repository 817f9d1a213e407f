/*
 * On which node objects lie, on a machine that pretends to have several: what a capability made stays on its node, whoever collects. tests/numa
 * asks the kernel of an emulated one.
 */
#include "capability.h"
#include "gc/block.h"
#include "os/topology.h"

#include <Rts.h>
#include <rts/Managed.h>

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { CAPABILITIES = 3, CELLS = 20000, CELLS_OF_EACH_ARRAY = 100, ARRAY = 40 };

CAPSTAN_CON(Cell, 1, next, value, number)
CAPSTAN_STATIC_CON(End, 0);

static struct {
    HsStablePtr cells;
    unsigned node; /* of the capability that made them, which need not be the one that was asked for */
} lists[CAPABILITIES];

static void *makeList(void *arg)
{
    unsigned no = (unsigned)(uintptr_t)arg;
    rts_setInCallCapability((int)no, 0);
    Capability *cap = rts_lock();
    HaskellObj list = &End_closure;
    for (HsInt i = 0; i < CELLS; i++) {
        HaskellObj value = i % CELLS_OF_EACH_ARRAY == 0 ? rts_mkArray(cap, ARRAY, list) : &End_closure;
        list = Cell_new(cap, list, value, CAPSTAN_SMALL_INT(i));
    }
    lists[no].cells = getStablePtr((StgPtr)list);
    lists[no].node = topologyNodeOfCapability(cap->no);
    rts_unlock(cap);
    return NULL;
}

/* How many cells and arrays of a list lie on its node; all of them are there. */
static unsigned countAtHome(unsigned no)
{
    unsigned atHome = 0, node = lists[no].node;
    Capability *cap = rts_lock();
    HsInt number = CELLS;
    for (HaskellObj cell = (HaskellObj)deRefStablePtr(lists[no].cells); CAPSTAN_IS(Cell, cell); cell = CAPSTAN_GET(Cell, cell, next)) {
        HaskellObj value = CAPSTAN_GET(Cell, cell, value);
        assert_int_equal(rts_smallIntValue(CAPSTAN_GET(Cell, cell, number)), --number);
        atHome += blockOf(cell)->node == node;
        if (number % CELLS_OF_EACH_ARRAY != 0) continue;
        assert_int_equal(rts_arrayLength(value), ARRAY);
        assert_ptr_equal(rts_getElem(value, ARRAY - 1), CAPSTAN_GET(Cell, cell, next));
        atHome += blockOf(value)->node == node;
    }
    assert_int_equal(number, 0);
    rts_unlock(cap);
    return atHome;
}

static void startOn(unsigned nodes)
{
    char message[256] = "";
    RtsConfig config = RTS_CONFIG_INIT;
    config.capabilities = CAPABILITIES;
    config.debug_numa_nodes = nodes;
    config.verify_heap = true;
    if (rts_start(&config, message, sizeof message) != RTS_OK) fail_msg("%s", message);
    Capability *cap = rts_lock();
    rts_makeStableName(cap, &End_closure); /* from now on nothing immutable has two copies, which the lists compare by address */
    rts_unlock(cap);
    for (uintptr_t i = 0; i < CAPABILITIES; i++) {
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, makeList, (void *)i), 0);
        pthread_join(thread, NULL);
    }
}

static void testStaysAtHome(void **state)
{
    unsigned before[CAPABILITIES];
    startOn(CAPABILITIES);
    for (int i = 0; i < 4; i++) rts_performMinorGC();
    for (unsigned i = 0; i < CAPABILITIES; i++) {
        before[i] = countAtHome(i);
        assert_in_range(before[i], CELLS * 9 / 10, CELLS + CELLS / CELLS_OF_EACH_ARRAY);
    }
    for (int round = 0; round < 3; round++) {
        hs_perform_gc();
        for (unsigned i = 0; i < CAPABILITIES; i++) assert_int_equal(countAtHome(i), before[i]);
    }
    hs_exit();
}

/* A first major collection finds objects in nurseries; and there may be more nodes than the collecting threads keep blocks of. */
static void testManyNodes(void **state)
{
    for (unsigned nodes = 2; nodes <= 16; nodes += 7) {
        startOn(nodes);
        for (int round = 0; round < 3; round++) {
            hs_perform_gc();
            for (unsigned i = 0; i < CAPABILITIES; i++) countAtHome(i);
            rts_performMinorGC();
        }
        hs_exit();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(testStaysAtHome),
        cmocka_unit_test(testManyNodes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

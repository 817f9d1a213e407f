/* The heap on Capstan (figures B8, B8a, B8g, B8m, B8n, B8r, B8s, B8w). The peers' programs (peers/heap.c for Boehm's collector and jemalloc,
 * peers/Heap.hs, peers/Heap.java, peers/heap.go, peers/heap.ml) do the same work under the same options, as far as they can.
 *
 *     heap-SUBJECT FIGURE [--workers=N] [--depth=N] [--entries=N] [--count=N] [--seconds=S] [--operation=NAME]
 *
 * prints `metric<TAB>value<TAB>unit` a line:
 *     trees     binary-trees of --depth (18), shared by --workers: what trees.h says. Seconds; MB of memory resident at most; and how
 *               many times as much as what is alive at most: the nodes of the stretch tree, or those of the long-lived tree and
 *               one of the same depth of each worker, by what a node takes
 *     gaps      a map of --entries (a million) is churned by --count operations (2 million): what churn.h says. The largest gap, that
 *               which one in a thousand exceeds, and the mean of an operation
 *     operations
 *               ns of each operation of barrier.h, or of --operation alone, beyond what its plain loop takes; of an allocation all.
 *               For callgrind: with --count nothing is printed, each is done so often; --operation=plain:NAME does its plain loop,
 *               --operation=list:NAME prints figure and name of those that need no collections between them
 *     stable    us that --entries (a million) old stable pointers add to a minor collection
 *     major     ms of a major collection of a tree of --depth (22), with as many capabilities as --workers says
 *     weak      what --entries (a million) weak entries add to the pauses of a marking cycle: what weak.h says. --operation=names, pointers or table, or
 *               shuffled:table and the like. Medians of --count (7) cycles without and with them, in ms: *end*, the pause that ended each, and *max*, the
 *               longest of each; of a collection that copies everything too
 *     burst     a tree of --depth (20) stays, 1 GB more is made, and dropped: the memory resident after five seconds
 *               (--seconds, if more than 1) in which nothing runs, and what part that is of 1.3 * live + 16 MB
 * and fails when a result is wrong: nodes and entries are counted, what is stored is read back.
 */
#include "barrier.h"
#include "churn.h"
#include "clock.h"
#include "heap_options.h"
#include "trees.h"
#include "weak.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TREE_DEPTH 18
#define MAP_ENTRIES 1000000
#define MAP_OPERATIONS 2000000
#define FIRST_BATCH 1000
#define BATCH_NS 5000000u
#define STABLE_POINTERS 1000000
#define MINOR_COLLECTIONS 101
#define WEAK_ENTRIES 1000000
#define MARKING_CYCLES 7
#define MAJOR_DEPTH 22
#define MAJOR_COLLECTIONS 7
#define LIVE_DEPTH 20
#define BURST_DEPTH 16
#define BURST_BYTES 1e9
#define IDLE_SECONDS 5
/* How often a major collection makes an object old, whatever the number of steps. */
#define UNTIL_OLD 3

/* ---- In-calls --------------------------------------------------------------------------------------------------- */

static _Noreturn void giveUpOver(Capability *cap)
{
    char text[256] = "";
    HaskellObj exception = rts_getException(cap);
    if (exception != CAPSTAN_POISON) rts_showException(cap, exception, text, sizeof text);
    giveUp("an in-call ended with status %d: %s", (int)rts_getSchedStatus(cap), text);
}

/* The application is kept until it has run; nothing moves before that. */
static HaskellObj applyInts(Capability *cap, HaskellObj function, int count, const int64_t *args)
{
    for (int i = 0; i < count; i++) function = rts_apply(cap, function, rts_mkInt(cap, args[i]));
    return function;
}

static int64_t run(Capability *cap, HaskellObj action)
{
    HaskellObj result;
    rts_evalIO(&cap, action, &result);
    if (rts_getSchedStatus(cap) != Success) giveUpOver(cap);
    int64_t value = rts_isSmallInt(result) ? rts_smallIntValue(result) : 0;
    rts_unlock(cap);
    return value;
}

/* An action of up to three numbers; what it gives if that is a number. */
static int64_t callInts(HaskellObj function, int count, const int64_t *args)
{
    Capability *cap = rts_lock();
    return run(cap, applyInts(cap, function, count, args));
}
#define call(function, ...) \
    callInts((function), sizeof(int64_t[]){__VA_ARGS__} / sizeof(int64_t), (int64_t[]){__VA_ARGS__})

static void makeOld(void)
{
    for (int i = 0; i < UNTIL_OLD; i++) hs_perform_major_gc();
}

/* ---- trees ------------------------------------------------------------------------------------------------------ */

static void checkTrees(const TreeCounts *counts, int64_t depth)
{
    bool right = counts->stretch == nodesOfTree(depth + 1) && counts->longLived == nodesOfTree(depth);
    for (int64_t d = LEAST_TREE; d <= depth; d += 2) right = right && counts->nodes[d] == counts->trees[d] * nodesOfTree(d);
    if (!right) giveUp("the trees have lost or won nodes");
}

static void measureTrees(const HeapOptions *o)
{
    static TreeCounts counts;
    int64_t depth = saidOr(o->depth, TREE_DEPTH);
    uint64_t start = nowNs();
    Capability *cap = rts_lock();
    HaskellObj action = applyInts(cap, &runTrees_closure, 2, (int64_t[]){depth, o->workers});
    run(cap, rts_apply(cap, action, rts_mkPtr(cap, &counts)));
    double seconds = (double)(nowNs() - start) / 1e9;
    checkTrees(&counts, depth);
    printFigure("seconds", seconds, "s");
    printFigure("peak", peakResidentBytes() / 1e6, "MB");
    printFigure("peak_over_live", peakResidentBytes() / (double)(mostNodesAlive(depth, o->workers) * TREE_NODE_BYTES), "ratio");
}

/* ---- gaps ------------------------------------------------------------------------------------------------------- */

static void printGaps(const Churn *churns, int workers)
{
    static Histogram all;
    uint64_t largest = 0, took = 0;
    int64_t operationsDone = 0;
    for (int i = 0; i < workers; i++) {
        if (churns[i].sum != rightSum(&churns[i])) giveUp("the map does not hold what was put into it");
        addHistogram(&all, &churns[i].gaps);
        if (churns[i].largest > largest) largest = churns[i].largest;
        took += churns[i].took;
        operationsDone += churns[i].operations;
    }
    printFigure("gap_max", (double)largest / 1e6, "ms");
    printFigure("gap_p99.9", (double)histogramQuantile(&all, 0.999) / 1e3, "us");
    printFigure("operation", (double)took / (double)operationsDone, "ns");
}

static void measureGaps(const HeapOptions *o)
{
    Churn *churns = calloc((size_t)o->workers, sizeof *churns);
    if (churns == NULL) giveUp("no memory");
    for (int i = 0; i < o->workers; i++) {
        churns[i].entries = saidOr(o->entries, MAP_ENTRIES) / o->workers;
        churns[i].operations = saidOr(o->count, MAP_OPERATIONS) / o->workers;
    }
    Capability *cap = rts_lock();
    HaskellObj action = rts_apply(cap, &churnMaps_closure, rts_mkInt(cap, o->workers));
    run(cap, rts_apply(cap, action, rts_mkPtr(cap, churns)));
    printGaps(churns, o->workers);
    free(churns);
}

/* ---- operations ------------------------------------------------------------------------------------------------- */

static double timeLoop(HaskellObj loop, int64_t n)
{
    uint64_t start = nowNs();
    if (call(loop, n) != n) giveUp("not every operation was done");
    return (double)(nowNs() - start) / (double)n;
}

/* ns of one, the fastest of many batches. */
static double timeOperation(const HeapOptions *o, HaskellObj loop, int64_t most)
{
    int64_t n = most != 0 ? most : FIRST_BATCH;
    while (most == 0 && timeLoop(loop, n) * (double)n < BATCH_NS) n *= 2;
    double fastest = 1e300;
    uint64_t end = nowNs() + (uint64_t)(o->seconds * 1e9);
    do {
        if (most != 0) rts_performMinorGC();
        double ns = timeLoop(loop, n); /* rootcheck: a static closure */
        if (ns < fastest) fastest = ns;
    } while (nowNs() < end);
    return fastest;
}

static void measureOperation(const HeapOptions *o, const Operation *op)
{
    double ns = timeOperation(o, op->loop, op->most), plain = timeOperation(o, op->plain, op->most);
    if (strcmp(op->metric, "object") == 0) printFigure(op->metric, ns, "ns");
    else printFigure(op->metric, ns > plain ? ns - plain : 0, "ns");
}

/* So often in all, in calls of at most so many. */
static void repeatOperation(const Operation *op, bool plain, int64_t count)
{
    int64_t batch = op->most != 0 ? op->most : count;
    for (int64_t left = count; left > 0; left -= batch) {
        if (op->most != 0) rts_performMinorGC();
        timeLoop(plain ? op->plain : op->loop, left < batch ? left : batch);
    }
}

static bool isWanted(const char *name, const Operation *op)
{
    return name == NULL || strcmp(name, op->metric) == 0 || strcmp(name, op->figure) == 0;
}

/* The text behind the prefix, or NULL. */
static const char *behind(const char *prefix, const char *text)
{
    size_t length = strlen(prefix);
    return text != NULL && strncmp(text, prefix, length) == 0 ? text + length : NULL;
}

static void listOperations(const char *name)
{
    bool any = false;
    for (const Operation *op = operations; op->metric != NULL; op++) {
        if (op->most != 0 || !isWanted(name, op)) continue;
        printf("%s\t%s\n", op->figure, op->metric);
        any = true;
    }
    if (!any) giveUp("no operation %s", name);
}

static void measureOperations(const HeapOptions *o)
{
    const char *list = behind("list:", o->operation), *plain = behind("plain:", o->operation);
    const char *name = plain != NULL ? plain : o->operation;
    bool any = false;
    if (list != NULL) {
        listOperations(list);
        return;
    }
    callInts(&makeOldObjects_closure, 0, NULL);
    makeOld();
    for (const Operation *op = operations; op->metric != NULL; op++) {
        if (!isWanted(name, op)) continue;
        any = true;
        if (o->count != 0) repeatOperation(op, plain != NULL, o->count);
        else measureOperation(o, op);
    }
    if (!any) giveUp("no operation %s", name);
}

/* ---- stable ----------------------------------------------------------------------------------------------------- */

/* us, the median; something is allocated before each, so that there is something to collect. */
static double timeMinorCollection(void)
{
    double us[MINOR_COLLECTIONS];
    for (int i = 0; i < MINOR_COLLECTIONS; i++) {
        call(&allocateObjects_closure, 1000);
        uint64_t start = nowNs();
        rts_performMinorGC();
        us[i] = (double)(nowNs() - start) / 1e3;
    }
    return medianOf(us, MINOR_COLLECTIONS);
}

static void makeStablePointers(HsStablePtr *pointers, int64_t count)
{
    Capability *cap = rts_lock();
    for (int64_t i = 0; i < count; i++) {
        pointers[i] = getStablePtr((StgPtr)(void *)rts_mkDouble(cap, (double)i));
        if (pointers[i] == NULL) giveUp("no memory for stable pointers");
        if (i % 1000 == 0) rts_pollCap(&cap);
    }
    rts_unlock(cap);
}

static void checkStablePointers(const HsStablePtr *pointers, int64_t count)
{
    Capability *cap = rts_lock();
    for (int64_t i = 0; i < count; i++) {
        if (rts_getDouble((HaskellObj)(void *)deRefStablePtr(pointers[i])) != (double)i) giveUp("a stable pointer names another object");
        freeStablePtr(pointers[i]);
    }
    rts_unlock(cap);
}

static void measureStable(const HeapOptions *o)
{
    int64_t count = saidOr(o->entries, STABLE_POINTERS);
    HsStablePtr *pointers = malloc((size_t)count * sizeof *pointers);
    if (pointers == NULL) giveUp("no memory");
    makeOld();
    double without = timeMinorCollection();
    makeStablePointers(pointers, count);
    makeOld();
    double with = timeMinorCollection();
    checkStablePointers(pointers, count);
    free(pointers);
    printFigure("minor", without, "us");
    printFigure("stable_added", with > without ? with - without : 0, "us");
}

/* ---- major, burst ----------------------------------------------------------------------------------------------- */

static void checkKept(int64_t place, int64_t nodes)
{
    if (call(&countKept_closure, place) != nodes) giveUp("the trees have lost or won nodes");
}

/* ms, the median; all is old. */
static double timeMajorCollection(void)
{
    double ms[MAJOR_COLLECTIONS];
    makeOld();
    for (int i = 0; i < MAJOR_COLLECTIONS; i++) {
        uint64_t start = nowNs();
        hs_perform_major_gc();
        ms[i] = (double)(nowNs() - start) / 1e6;
    }
    return medianOf(ms, MAJOR_COLLECTIONS);
}

static void measureMajor(const HeapOptions *o)
{
    int64_t depth = saidOr(o->depth, MAJOR_DEPTH);
    call(&keepTrees_closure, 0, 1, depth);
    double ms = timeMajorCollection();
    checkKept(0, nodesOfTree(depth));
    printFigure("major", ms, "ms");
}

static void measureBurst(const HeapOptions *o)
{
    int64_t depth = saidOr(o->depth, LIVE_DEPTH), treeNodes = nodesOfTree(BURST_DEPTH);
    int64_t trees = (int64_t)(BURST_BYTES / TREE_NODE_BYTES / (double)treeNodes) + 1;
    call(&keepTrees_closure, 0, 1, depth);
    call(&keepTrees_closure, 1, trees, BURST_DEPTH);
    checkKept(1, trees * treeNodes);
    call(&keepTrees_closure, 1, 0, 0);
    sleepSeconds(o->seconds > 1 ? o->seconds : IDLE_SECONDS);
    double resident = residentBytes(), live = (double)(nodesOfTree(depth) * TREE_NODE_BYTES);
    checkKept(0, nodesOfTree(depth));
    printFigure("resident", resident / 1e6, "MB");
    printFigure("burst_peak", peakResidentBytes() / 1e6, "MB");
    printFigure("over_allowed", resident / (1.3 * live + 16e6), "ratio");
}

/* ---- weak ------------------------------------------------------------------------------------------------------- */

static CyclePauses pauses;

static void callPtr(HaskellObj function, void *arg)
{
    Capability *cap = rts_lock();
    run(cap, rts_apply(cap, function, rts_mkPtr(cap, arg)));
}

/* The order of the keys; by chance (Fisher and Yates), the same each time. */
static void orderKeys(int64_t *order, int64_t count, bool shuffled)
{
    srandom(1);
    for (int64_t i = 0; i < count; i++) {
        int64_t other = shuffled ? random() % (i + 1) : i;
        order[i] = order[other];
        order[other] = i;
    }
}

static WeakEntries entriesWanted(const HeapOptions *o)
{
    const char *behindShuffled = behind("shuffled:", o->operation), *name = behindShuffled != NULL ? behindShuffled : o->operation;
    static const char *const names[] = {[ENTRY_NAME] = "names", [ENTRY_POINTER] = "pointers", [ENTRY_OF_TABLE] = "table"};
    int kind = ENTRY_NAME;
    while (kind <= ENTRY_OF_TABLE && (name == NULL || strcmp(name, names[kind]) != 0)) kind++;
    if (kind > ENTRY_OF_TABLE) giveUp("--operation expects names, pointers or table, or shuffled: and one of them");
    int64_t count = saidOr(o->entries, WEAK_ENTRIES), *order = calloc((size_t)count, sizeof *order);
    WeakEntries e = {.kind = (EntryKind)kind, .count = count, .order = order, .hashes = malloc((size_t)count * sizeof *e.hashes)};
    if (order == NULL || e.hashes == NULL) giveUp("no memory");
    orderKeys(order, count, behindShuffled != NULL);
    return e;
}

typedef struct CycleMedians {
    double last, longest;     /* ms: of the pauses that ended the cycles, and of the longest of each */
} CycleMedians;

static CycleMedians measureCycles(int cycles, const char *last, const char *longest)
{
    makeOld();
    pauses = (CyclePauses){.wanted = cycles};
    callPtr(&churnCycles_closure, &pauses);
    CycleMedians m = {medianOf(pauses.last, cycles), medianOf(pauses.longest, cycles)};
    printFigure(last, m.last, "ms");
    printFigure(longest, m.longest, "ms");
    return m;
}

static void measureWeak(const HeapOptions *o)
{
    WeakEntries e = entriesWanted(o);
    if (o->count > MOST_CYCLES) giveUp("--count expects at most %d", MOST_CYCLES);
    int cycles = (int)saidOr(o->count, MARKING_CYCLES);
    call(&makeKeys_closure, e.count);
    CycleMedians without = measureCycles(cycles, "end", "max");
    printFigure("major", timeMajorCollection(), "ms");
    callPtr(&makeEntries_closure, &e);
    CycleMedians with = measureCycles(cycles, "end_with", "max_with");
    printFigure("major_with", timeMajorCollection(), "ms");
    callPtr(&checkEntries_closure, &e);
    printFigure("end_added", with.last - without.last, "ms");
    printFigure("max_added", with.longest - without.longest, "ms");
    free(e.order);
    free(e.hashes);
}

/* ---- Start ------------------------------------------------------------------------------------------------------ */

static void runFigure(const HeapOptions *o)
{
    if (strcmp(o->figure, "trees") == 0) measureTrees(o);
    else if (strcmp(o->figure, "gaps") == 0) measureGaps(o);
    else if (strcmp(o->figure, "operations") == 0) measureOperations(o);
    else if (strcmp(o->figure, "stable") == 0) measureStable(o);
    else if (strcmp(o->figure, "major") == 0) measureMajor(o);
    else if (strcmp(o->figure, "weak") == 0) measureWeak(o);
    else if (strcmp(o->figure, "burst") == 0) measureBurst(o);
    else giveUp("unknown figure %s", o->figure);
}

static void start(int workers)
{
    char message[256];
    RtsConfig config = RTS_CONFIG_INIT;
    config.capabilities = (unsigned)workers;
    config.gcDoneHook = notePause;
    config.gcDoneCtx = &pauses;
    config.rts_opts_enabled = RtsOptsAll; /* for experiments: CAPSTANRTS=-A4m bench/driver ... */
    if (rts_start(&config, message, sizeof message) != RTS_OK) giveUp("%s", message);
}

/* Ends at once, without stopping the runtime: how long a runtime takes to end is no figure here. */
int main(int argc, char **argv)
{
    HeapOptions o = readHeapOptions(argc, argv);
    start(o.workers);
    runFigure(&o);
    fflush(stdout);
    _Exit(0);
}

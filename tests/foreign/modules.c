/* For tests/unload_test.sh: modules that the host closes while something refers to them.  ./plug.so and its copies ./plug1.so … are tests/foreign/plug.c. */
#include <Rts.h>
#include <rts/Language.h>
#include <rts/Threads.h>

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int failures;
static const char *scenario;
#define check(holds, ...)                                        \
    do {                                                         \
        if (holds) break;                                        \
        printf("FAILED: %s (line %d): ", scenario, __LINE__);    \
        printf(__VA_ARGS__);                                     \
        printf("\n");                                            \
        failures++;                                              \
    } while (0)

static void nap(long ms) { nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000 }, NULL); }

static bool isMapped(const char *name)
{
    char line[4400];
    bool found = false;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps != NULL && fgets(line, sizeof line, maps) != NULL) found |= strstr(line, name) != NULL;
    if (maps != NULL) fclose(maps);
    return found;
}

static unsigned long stablePtrs(void)
{
    RtsCounts counts;
    rts_getCounts(&counts);
    return (unsigned long)counts.stable_ptrs;
}

/* ---- The module's functions ---- */

typedef struct {
    void *handle;
    HsStablePtr (*pair)(HsInt);
    HsInt (*first)(HsStablePtr);
    HsStablePtr (*lazy)(HsInt);
    HsInt (*force)(HsStablePtr);
    HsInt (*count)(void);
    HsInt (*wait)(HsStablePtr);
    void (*fork)(HsStablePtr);
    HsFunPtr (*adder)(HsInt);
    void (*tie)(HsStablePtr, HsPtr);
    void (*sleep)(HsPtr);
    int *inside;
} Plug;

static _Atomic int gone; /* destructors that ran */

static Plug loadFrom(const char *path)
{
    Plug p = { .handle = dlopen(path, RTLD_NOW | RTLD_LOCAL) };
    if (p.handle == NULL) {
        printf("%s\n", dlerror());
        exit(99);
    }
#define FIND(member) *(void **)&p.member = dlsym(p.handle, "plug_" #member)
    FIND(pair), FIND(first), FIND(lazy), FIND(force), FIND(count), FIND(wait), FIND(fork), FIND(adder), FIND(tie), FIND(sleep);
    p.inside = dlsym(p.handle, "plug_inside");
    return p;
}
static Plug load(void)
{
    Plug p = loadFrom("./plug.so");
    *(_Atomic int **)dlsym(p.handle, "plug_gone") = &gone;
    gone = 0;
    return p;
}

static void unload(const Plug *p) { check(rts_unloadModule(p->handle) == RTS_OK, "the handle is taken"); }
static void expectStays(const char *why)
{
    for (int i = 0; i < 2; i++) hs_perform_gc();
    check(isMapped("plug.so") && gone == 0, "it stays: %s", why);
}
static void expectGoes(const char *why)
{
    hs_perform_gc();
    /* What keeps it a moment longer: C finalizers that another thread calls. */
    for (int i = 0; i < 2000 && isMapped("plug.so"); i++) nap(2), hs_perform_gc();
    check(!isMapped("plug.so") && gone == 1, "it goes: %s", why);
}

/* ---- What refers to it ---- */

static HsStablePtr newBox(void)
{
    Capability *cap = rts_lock();
    HsStablePtr box = getStablePtr((StgPtr)rts_mkMVar(cap));
    rts_unlock(cap);
    return box;
}

static void keepsObjects(void)
{
    unsigned long before = stablePtrs();
    Plug p = load();
    check(stablePtrs() > before, "the exports are registered");
    HsStablePtr pair = p.pair(42), lazy = p.lazy(5);
    unload(&p);
    expectStays("an object");
    check(p.first(pair) == 42 && p.force(lazy) == 15, "its code can still be called");
    hs_free_stable_ptr(pair);
    lazy = (hs_free_stable_ptr(lazy), p.lazy(6));
    expectStays("a thunk");
    check(p.force(lazy) == 18, "the thunk is evaluated");
    hs_free_stable_ptr(lazy);
    expectGoes("no object");
    check(stablePtrs() == before, "no stable pointer is left");
}

static void keepsFunctionPointers(void)
{
    Plug p = load();
    HsInt (*add)(HsInt) = (HsInt (*)(HsInt))p.adder(40);
    unload(&p);
    expectStays("a C function pointer");
    check(add(2) == 42, "it can be called");
    hs_free_fun_ptr((HsFunPtr)add);
    expectGoes("no C function pointer");
}

static void keepsFinalizers(void)
{
    HsInt calls = 0;
    Plug p = load();
    HsStablePtr key = newBox(); /* it is the host's own object that has the finalizer */
    p.tie(key, &calls);
    unload(&p);
    expectStays("a C finalizer");
    check(calls == 0, "it was not called");
    hs_free_stable_ptr(key);
    expectGoes("no C finalizer");
    check(calls == 1, "it was called once");
}

static void losesStatics(void)
{
    for (int round = 0; round < 2; round++) {
        Plug p = load();
        for (HsInt i = 1; i <= 3; i++) check(p.count() == i, "static closures begin anew");
        hs_perform_gc();
        check(p.count() == 4, "and live while it is wanted");
        unload(&p);
        expectGoes("static closures do not keep it");
    }
}

/* Until somebody has come in: before, nothing may keep the module.  A moment more, for it to wait there. */
static void awaitInside(const Plug *p)
{
    while (__atomic_load_n(p->inside, __ATOMIC_SEQ_CST) == 0) nap(1);
    nap(20);
}

static HsInt awake; /* of the thread that is inside */
typedef struct {
    HsInt (*wait)(HsStablePtr);
    void (*sleep)(HsPtr);
    HsStablePtr box;
    HsInt got;
} Inside;
static void *goInside(void *arg)
{
    Inside *in = arg;
    if (in->wait != NULL) in->got = in->wait(in->box);
    else in->sleep(&awake);
    return NULL;
}

static void keepsWhoIsInside(void)
{
    Plug p = load();
    HsStablePtr box = newBox();
    Inside in = { p.wait, NULL, box, 0 };
    pthread_t thread;
    pthread_create(&thread, NULL, goInside, &in);
    awaitInside(&p);
    unload(&p);
    expectStays("an in-call waits inside of it");
    hs_try_putmvar(-1, box); /* frees the stable pointer */
    pthread_join(thread, NULL);
    check(in.got == 1, "the in-call has returned");
    expectGoes("nobody is inside");

    p = load();
    box = newBox();
    p.fork(box);
    awaitInside(&p);
    unload(&p);
    expectStays("a thread waits inside of it");
    hs_try_putmvar(-1, box);
    nap(20);
    expectGoes("the thread has ended");

    p = load();
    awake = 0;
    in = (Inside){ .sleep = p.sleep };
    pthread_create(&thread, NULL, goInside, &in);
    awaitInside(&p);
    unload(&p);
    expectStays("a safe call is inside of it");
    __atomic_store_n(&awake, 1, __ATOMIC_SEQ_CST);
    pthread_join(thread, NULL);
    expectGoes("the safe call has returned");
}

/* ---- Handles ---- */

static void staysAfterDlclose(void)
{
    Plug p = load();
    HsStablePtr pair = p.pair(7), box = newBox();
    p.fork(box);
    HsInt (*add)(HsInt) = (HsInt (*)(HsInt))p.adder(1);
    check(dlclose(p.handle) == 0, "dlclose");
    expectStays("dlclose is not enough");
    check(p.first(pair) == 7 && add(1) == 2 && p.count() == 1, "all of it works");
    hs_free_stable_ptr(pair);
    hs_try_putmvar(-1, box);
    hs_free_fun_ptr((HsFunPtr)add);
    expectStays("for good");
    p = load();
    check(p.count() == 2, "it is the same one");
    unload(&p);
    expectGoes("now it may");
}

static void countsHandles(void)
{
    Plug one = load(), two = load();
    unload(&one);
    hs_perform_gc();
    check(isMapped("plug.so") && gone == 0, "there is another handle");
    HsStablePtr pair = two.pair(3);
    check(dlclose(two.handle) == 0, "dlclose");
    expectStays("it was pinned again");
    check(two.first(pair) == 3, "and works");
    one = load(), two = load();
    unload(&one), unload(&two);
    expectStays("the object");
    hs_free_stable_ptr(pair);
    expectGoes("two handles were given");
}

static int refusals;
static void refuse(void *ctx, RtsStatus status, const char *message)
{
    (void)ctx;
    refusals++;
    if (status != RTS_BAD_ARGUMENT) printf("FAILED: %s: %s\n", scenario, message), failures++;
}
static void refusesOthers(void)
{
    refusals = 0;
    void *program = dlopen(NULL, RTLD_NOW);
    check(rts_unloadModule(NULL) == RTS_BAD_ARGUMENT && rts_unloadModule(program) == RTS_BAD_ARGUMENT, "no module");
    check(refusals == 2, "the error hook hears it");
    dlclose(program);
}

/* Collected by managed code, which holds a capability: a thread of the runtime's own unloads it. */
static HaskellObj collectEntry(Stack *stack, HaskellObj self, HaskellObj world)
{
    (void)self, (void)world;
    rts_collect(stack, true);
    return CAPSTAN_UNIT;
}
static const StgInfoTable collectInfo = { CLOSURE_FUN, INFO_STATIC, 1, 0, 0, 0, (StgFunPtr)collectEntry, "collect", NULL };
static StgClosure collectClosure = { &collectInfo, {} };
static void collectInside(void)
{
    Capability *cap = rts_lock();
    rts_evalIO(&cap, &collectClosure, NULL);
    rts_unlock(cap);
}
static void goesByAnyCollection(void)
{
    Plug p = load();
    HsStablePtr pair = p.pair(1);
    unload(&p);
    collectInside();
    nap(50);
    check(isMapped("plug.so") && p.first(pair) == 1, "it stays");
    hs_free_stable_ptr(pair);
    for (int i = 0; i < 1000 && isMapped("plug.so"); i++) collectInside(), nap(5);
    check(!isMapped("plug.so") && gone == 1, "a collection by managed code lets it go");
}

/* ---- Many at once ---- */

enum { THREADS = 6, COPIES = 3 };
static int rounds = 60;
static _Atomic int running;
static _Atomic int went; /* how often any of them was unmapped */
static void *comeAndGo(void *arg)
{
    unsigned seed = (unsigned)(size_t)arg;
    char path[40];
    for (int i = 0; i < rounds; i++) {
        unsigned which = (unsigned)rand_r(&seed) % COPIES + 1;
        snprintf(path, sizeof path, "./plug%u.so", which);
        Plug p = loadFrom(path);
        __atomic_store_n((_Atomic int **)dlsym(p.handle, "plug_gone"), &went, __ATOMIC_RELAXED);
        HsStablePtr pair = p.pair(i), lazy = p.lazy(i);
        HsInt (*add)(HsInt) = (HsInt (*)(HsInt))p.adder(i);
        p.count();
        if (rand_r(&seed) % 4 == 0) unload(&(Plug){ .handle = dlopen(path, RTLD_NOW) });
        if (p.first(pair) != i || p.force(lazy) != 3 * i || add(1) != i + 1) abort();
        hs_free_stable_ptr(pair), hs_free_stable_ptr(lazy), hs_free_fun_ptr((HsFunPtr)add);
        unload(&p);
        nap(rand_r(&seed) % 8);
    }
    running--;
    return NULL;
}
static void manyAtOnce(void)
{
    unsigned long before = stablePtrs();
    pthread_t threads[THREADS];
    running = THREADS;
    for (size_t i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, comeAndGo, (void *)(i + 1));
    for (unsigned i = 0; running > 0; i++) {
        if (i % 4 == 0) collectInside();
        else hs_perform_gc();
    }
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < 1000 && (isMapped("plug1.so") || isMapped("plug2.so") || isMapped("plug3.so")); i++) hs_perform_gc(), nap(2);
    check(!isMapped("plug1.so") && !isMapped("plug2.so") && !isMapped("plug3.so"), "all of them go in the end");
    check(went >= COPIES, "they came and went");
    printf("%d threads, %d rounds: unloaded %d times\n", THREADS, rounds, (int)went);
    went = 0;
    check(stablePtrs() == before, "stable pointers: %lu, before %lu", stablePtrs(), before);
}

/* ---- Without a runtime ---- */

/* An in-call whose runtime ended; nothing else goes wrong here. */
static void ended(void *ctx, const char *site, Capability *cap, SchedulerStatus status, const char *text)
{
    (void)ctx, (void)cap;
    if (status == Interrupted) return;
    printf("FAILED: %s: %s: %s\n", scenario, site, text);
    exit(1);
}

/* Why modules stay. */
static void tell(void *ctx, RtsLogLevel level, const char *line)
{
    (void)ctx;
    if (level <= RTS_LOG_WARNING || getenv("UNLOAD_TEST_LOG") != NULL) printf("%s\n", line);
}

static void start(void)
{
    RtsConfig config = RTS_CONFIG_INIT;
    config.capabilities = 2;
    config.idle_collection_us = 1000000000; /* collections are counted on to come when asked for */
    config.errorHook = refuse;
    config.statusHook = ended;
    config.logHook = tell;
    char message[200];
    if (rts_start(&config, message, sizeof message) == RTS_OK) return;
    printf("%s\n", message);
    exit(99);
}

static void withoutRuntime(const char *when)
{
    Plug p = load();
    check(dlclose(p.handle) == 0 && isMapped("plug.so"), "%s: dlclose leaves it", when);
    p = load();
    unload(&p);
    check(!isMapped("plug.so") && gone == 1, "%s: unloaded at once", when);
}

static void loadedBefore(void)
{
    Plug p = load();
    dlclose(p.handle);
    start();
    check(isMapped("plug.so") && p.count() == 1, "loaded before hs_init, closed, and used");
    hs_exit();
    check(isMapped("plug.so"), "it was not given");
    p = load();
    start();
    HsStablePtr pair = p.pair(8);
    unload(&p);
    expectStays("an object");
    check(p.first(pair) == 8, "it works");
    hs_exit();
    check(!isMapped("plug.so") && gone == 1, "the end of the runtime lets it go");
}

/* A forked child has no runtime, and the modules all the same. */
static void inChild(void)
{
    start();
    Plug p = load();
    HsStablePtr pair = p.pair(1);
    unload(&p);
    expectStays("an object");
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        bool stayed = isMapped("plug.so");
        hs_init(NULL, NULL);
        stayed &= p.count() == 1;
        hs_exit(); /* the parent gave it */
        _exit(stayed && !isMapped("plug.so") ? 0 : 1);
    }
    int status = 0;
    check(waitpid(child, &status, 0) == child && status == 0, "the child lets it go: %#x", status);
    check(p.first(pair) == 1, "the parent does not");
    hs_exit();
    check(!isMapped("plug.so"), "but then");
}

/* The runtime ends under a safe call: who comes back from it finds the code still there. */
static void insideAtExit(void)
{
    start();
    Plug p = load();
    awake = 0;
    Inside in = { .sleep = p.sleep };
    pthread_t thread;
    pthread_create(&thread, NULL, goInside, &in);
    awaitInside(&p);
    unload(&p);
    hs_exit();
    check(isMapped("plug.so"), "a call is still inside");
    __atomic_store_n(&awake, 1, __ATOMIC_SEQ_CST);
    pthread_join(thread, NULL);
    start();
    expectGoes("it was left");
    hs_exit();
}

static void run(const char *name, void (*f)(void))
{
    scenario = name;
    int before = failures;
    printf("[ RUN      ] %s\n", name);
    f();
    printf(failures == before ? "[       OK ] %s\n" : "[  FAILED  ] %s\n", name);
    fflush(stdout);
}
static void beforeStart(void) { withoutRuntime("before hs_init"); }
static void afterExit(void) { withoutRuntime("after hs_exit"); }

int main(int argc, char **argv)
{
    if (argc > 1) rounds = atoi(argv[1]);
    run("before_start", beforeStart);
    run("loaded_before", loadedBefore);
    run("inside_at_exit", insideAtExit);
    run("in_child", inChild);
    for (int i = 0; i < 2; i++) {
        start();
        run("keeps_objects", keepsObjects);
        run("keeps_function_pointers", keepsFunctionPointers);
        run("keeps_finalizers", keepsFinalizers);
        run("loses_statics", losesStatics);
        run("keeps_who_is_inside", keepsWhoIsInside);
        run("stays_after_dlclose", staysAfterDlclose);
        run("counts_handles", countsHandles);
        run("refuses_others", refusesOthers);
        run("goes_by_any_collection", goesByAnyCollection);
        run("many_at_once", manyAtOnce);
        hs_exit();
        run("after_exit", afterExit);
    }
    return failures != 0;
}

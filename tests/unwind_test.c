/*
 * Walks up the stack through the frames that arch/ builds, by the compiler's unwinder and by libunwind: the functions
 * on the way appear in order, and the walk ends. With the argument --plain it does the same calls without cmocka, for
 * gdb_unwind.sh to stop in.
 */
#include "fibers.h"
#include "probe.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unwind.h>

#ifdef HAVE_LIBUNWIND
#define UNW_LOCAL_ONLY
#include <libunwind.h>
#endif

#include <cmocka.h>

int main(int argc, char **argv);

#define MAX_FRAMES 128

/* The starts of the functions met, innermost first. */
typedef struct {
    uintptr_t start[MAX_FRAMES];
    size_t count;
    int ended; /* at the end of the stack, not by an error */
} Walk;

/* ---- The two walkers ---- */

/* The compiler's unwinder, its own functions even where libunwind hides them. */
static struct {
    _Unwind_Reason_Code (*backtrace)(_Unwind_Trace_Fn, void *);
    uintptr_t (*get_ip)(struct _Unwind_Context *);
    uintptr_t (*get_region_start)(struct _Unwind_Context *);
} unwinder;

static void findUnwinder(void)
{
    void *library = dlopen("libgcc_s.so.1", RTLD_NOW);

    unwinder.backtrace = _Unwind_Backtrace;
    unwinder.get_ip = _Unwind_GetIP;
    unwinder.get_region_start = _Unwind_GetRegionStart;
    if (library == NULL)
        return;
    *(void **)&unwinder.backtrace = dlsym(library, "_Unwind_Backtrace");
    *(void **)&unwinder.get_ip = dlsym(library, "_Unwind_GetIP");
    *(void **)&unwinder.get_region_start = dlsym(library, "_Unwind_GetRegionStart");
}

/* Told once more about a frame without an address when the outermost one has no caller. */
static _Unwind_Reason_Code noteFrame(struct _Unwind_Context *context, void *arg)
{
    Walk *walk = arg;

    if (unwinder.get_ip(context) == 0)
        return _URC_NO_REASON;
    if (walk->count == MAX_FRAMES)
        return _URC_NORMAL_STOP;
    walk->start[walk->count++] = unwinder.get_region_start(context);
    return _URC_NO_REASON;
}

static void walkByUnwinder(Walk *walk)
{
    walk->ended = unwinder.backtrace(noteFrame, walk) == _URC_END_OF_STACK;
}

#ifdef HAVE_LIBUNWIND
static void walkByLibunwind(Walk *walk)
{
    unw_context_t context;
    unw_cursor_t cursor;
    unw_proc_info_t info;
    int more;

    unw_getcontext(&context);
    unw_init_local(&cursor, &context);
    do {
        walk->start[walk->count++] = unw_get_proc_info(&cursor, &info) == 0 ? info.start_ip : 0;
        more = unw_step(&cursor);
    } while (more > 0 && walk->count < MAX_FRAMES);
    walk->ended = more == 0;
}
#endif

/* ---- What is expected ---- */

static void (*walkStack)(Walk *);
static unsigned walks, wrong;

static int isBoot(uintptr_t function)
{
    return function == (uintptr_t)archBootStack;
}

/* Walk from here, and look for `expected` (ends with 0) in that order, gaps allowed. A stack of ours ends in
 * archBootStack, and nothing comes after that. */
__attribute__((noinline)) static void expectCallers(const uintptr_t *expected)
{
    Walk walk = { .count = 0 };
    const uintptr_t *next = expected;

    walks++;
    if (walkStack == NULL)
        return;
    walkStack(&walk);
    for (size_t i = 0; i < walk.count; i++) {
        if (*next != 0 && walk.start[i] == *next)
            next++;
        wrong += isBoot(walk.start[i]) && i + 1 != walk.count;
    }
    wrong += *next != 0 || !walk.ended;
    if (*next == 0 && walk.ended)
        return;
    fprintf(stderr, "walk %u: %zu frames, ended %d, %td found\n", walks, walk.count, walk.ended, next - expected);
}

#define EXPECT_CALLERS(...) expectCallers((const uintptr_t[]){ __VA_ARGS__, 0 })
#define AT(function) ((uintptr_t)(function))

/* ---- The calls ---- */

static void runScenes(void *arg);

static HaskellObj bodyOfCatch(Stack *stack, void *arg)
{
    EXPECT_CALLERS(AT(bodyOfCatch), AT(archCatch), AT(runScenes), AT(main));
    return NULL;
}

static HaskellObj bodyOfEnter(Stack *stack, void *arg)
{
    EXPECT_CALLERS(AT(bodyOfEnter), AT(archEnter), AT(runScenes), AT(main));
    return NULL;
}

static HaskellObj raisingBody(Stack *stack, void *arg)
{
    archRaise(stack, arg);
}

/* A catch within an in-call; the inner body raises. */
static HaskellObj bodyOfBoth(Stack *stack, void *arg)
{
    CatchResult result = archCatch(stack, raisingBody, stack);

    EXPECT_CALLERS(AT(bodyOfBoth), AT(archEnter), AT(runScenes), AT(main));
    archRaise(stack, result.value);
}

/* What lives on the fiber, and its ways home. */
static Fiber home, away;

static void *calledAtHome(void *arg);
static void fiberEntry(void *arg);

static HaskellObj bodyOnFiber(Stack *stack, void *arg)
{
    EXPECT_CALLERS(AT(bodyOnFiber), AT(archCatch), AT(fiberEntry), AT(archBootStack));
    switchFibers(&away, &home);
    EXPECT_CALLERS(AT(bodyOnFiber), AT(archCatch), AT(fiberEntry), AT(archBootStack));
    callOnFiber(&away, &home, (char *)home.stack.sp - ARCH_RED_ZONE, calledAtHome, NULL);
    return NULL;
}

static void *calledAtHome(void *arg)
{
    EXPECT_CALLERS(AT(calledAtHome), AT(archCallOnStack), AT(bodyOnFiber), AT(archCatch), AT(fiberEntry),
                   AT(archBootStack));
    return NULL;
}

static void switchHome(void *arg)
{
    switchFibers(&away, &home);
}

static void fiberEntry(void *arg)
{
    beginFiber();
    EXPECT_CALLERS(AT(fiberEntry), AT(archBootStack));
    for (;;) {
        archCatch(&away.stack, bodyOnFiber, NULL);
        archProbeRegisters(switchHome, NULL, (uintptr_t)arg);
    }
}

/* Two stacks away, with an in-call on the first. */
static Fiber first, second;

static void *calledOnSecond(void *arg);

static HaskellObj bodyOnFirst(Stack *stack, void *arg)
{
    callOnFiber(&first, &second, second.stack.sp, calledOnSecond, NULL);
    return NULL;
}

static void *calledOnFirst(void *arg)
{
    EXPECT_CALLERS(AT(calledOnFirst), AT(archCallOnStack), AT(runScenes), AT(main));
    archEnter(&first.stack, bodyOnFirst, NULL);
    return NULL;
}

static void *calledOnSecond(void *arg)
{
    EXPECT_CALLERS(AT(calledOnSecond), AT(archCallOnStack), AT(bodyOnFirst), AT(archEnter), AT(calledOnFirst),
                   AT(archCallOnStack), AT(runScenes), AT(main));
    return NULL;
}

static void neverEntered(void *arg)
{
}

#define SEED 0x1122334455667700

__attribute__((noinline)) static void runScenes(void *arg)
{
    adoptFiber(&home);
    makeFiber(&away, 0, fiberEntry, (void *)(SEED >> 8));
    makeFiber(&first, 64, neverEntered, NULL);
    makeFiber(&second, 128, neverEntered, NULL);

    archCatch(&home.stack, bodyOfCatch, NULL);
    archEnter(&home.stack, bodyOfEnter, NULL);
    archEnter(&home.stack, bodyOfBoth, NULL);
    for (int i = 0; i < 4; i++)
        switchFibers(&home, &away);
    callOnFiber(&home, &first, first.stack.sp, calledOnFirst, NULL);

    freeFiber(&away);
    freeFiber(&first);
    freeFiber(&second);
}

/* The walks of one run: 3 bodies; 1 at the fiber's entry, 2 in its body and 1 called from there, 1 in the body's
 * second run; 2 away. */
#define WALKS (3 + 1 + 3 + 3 + 2)

/* ---- Tests ---- */

static void checkWalks(void (*walker)(Walk *))
{
    walkStack = walker;
    walks = wrong = 0;
    assert_int_equal(archProbeRegisters(runScenes, NULL, SEED), 0);
    assert_int_equal(walks, WALKS);
    assert_int_equal(wrong, 0);
}

static void testUnwinder(void **state)
{
    checkWalks(walkByUnwinder);
}

static void testLibunwind(void **state)
{
#ifdef HAVE_LIBUNWIND
    if (ARCH_SIGNS_RETURN_ADDRESSES) {
        puts("libunwind (1.6, that of Debian 12) cannot read signed return addresses");
        skip();
    }
    checkWalks(walkByLibunwind);
#else
    skip();
#endif
}

/* Sanitizer builds have other code in the place of the assembly, or around it: nothing for gdb_unwind.sh. */
static int runPlain(void)
{
#if ARCH_RAISE_BY_LONGJMP || defined(FIBERS_ASAN)
    return 77;
#else
    return archProbeRegisters(runScenes, NULL, SEED) != 0;
#endif
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(testUnwinder),
        cmocka_unit_test(testLibunwind),
    };
    int failed;

    findUnwinder();
    if (argc > 1 && strcmp(argv[1], "--plain") == 0)
        return runPlain();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    __asm__ volatile("" : : : "memory"); /* main stays on the stack: no tail call */
    return failed;
}

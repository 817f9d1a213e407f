/* Adjustors where a security policy, here a filter of system calls, refuses executable memory: of some kinds, or of any. Each case in a process of its own,
 * for a filter stays. */
#include "emulated.h"
#include "foreign.h"

#include "adjustor_pool.h"
#include "os/os.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

CAPSTAN_IO(same, a) { return a; }
typedef int64_t LL(int64_t);

/* ---- Filters ---- */

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
/* The low half, on machines that begin with it. */
#define LOAD_ARG(n) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args) + (n) * 8)
#define SKIP_UNLESS_SET(bits, n) BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, (bits), 0, (n))
#define SKIP_UNLESS(number, n) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, (n))
#define REFUSE BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES)
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

/* No memory that is writable and executable at once or one after the other: no mprotect to executable, no anonymous executable mapping, no writable one. */
static struct sock_filter neverBoth[] = {
    LOAD(nr),
    SKIP_UNLESS(SYS_mprotect, 4), LOAD_ARG(2), SKIP_UNLESS_SET(PROT_EXEC, 1), REFUSE, ALLOW,
    SKIP_UNLESS(SYS_mmap, 8), LOAD_ARG(2), SKIP_UNLESS_SET(PROT_EXEC, 5), SKIP_UNLESS_SET(PROT_WRITE, 1), REFUSE,
    LOAD_ARG(3), SKIP_UNLESS_SET(MAP_ANONYMOUS, 1), REFUSE, ALLOW,
    ALLOW,
};
static struct sock_filter noMemfd[] = { LOAD(nr), SKIP_UNLESS(SYS_memfd_create, 1), REFUSE, ALLOW };
/* Nothing executable any more. */
static struct sock_filter nothing[] = {
    LOAD(nr),
    SKIP_UNLESS(SYS_mprotect, 4), LOAD_ARG(2), SKIP_UNLESS_SET(PROT_EXEC, 1), REFUSE, ALLOW,
    SKIP_UNLESS(SYS_mmap, 4), LOAD_ARG(2), SKIP_UNLESS_SET(PROT_EXEC, 1), REFUSE, ALLOW,
    ALLOW,
};

static bool install(struct sock_filter *filter, size_t length)
{
    struct sock_fprog program = { (unsigned short)length, filter };
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}
#define INSTALL(filter) install(filter, sizeof filter / sizeof *filter)

/* ---- Cases, in a child: 0 is well, 77 that there are no filters here ---- */

enum { WELL = 0, NO_FILTERS = 77 };
#define WANT(x)                                                                 \
    do {                                                                        \
        if (!(x)) {                                                             \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #x);     \
            return 1;                                                           \
        }                                                                       \
    } while (0)

/* Does the filter do what it is there for? */
static bool isRefused(int prot, int flags)
{
    size_t page = osPageSize();
    void *p = mmap(NULL, page, prot, flags | MAP_PRIVATE, -1, 0);
    if (p == MAP_FAILED) return errno == EACCES;
    munmap(p, page);
    return false;
}
static bool isExecRefused(void)
{
    size_t page = osPageSize();
    void *p = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool refused = mprotect(p, page, PROT_READ | PROT_EXEC) != 0;
    munmap(p, page);
    return refused;
}

/* A thousand are made, and called. */
static int useMany(void)
{
    static LL *made[1000];
    for (int i = 0; i < 1000; i++) WANT((made[i] = adjustorFor(&same_closure, NULL, "LL")) != NULL);
    for (int i = 0; i < 1000; i++) WANT(made[i](i) == i);
    for (int i = 0; i < 1000; i++) freeHaskellFunctionPtr((void *)made[i]);
    WANT(heardOtherErrors() == 0);
    return WELL;
}

static int underPolicy(void)
{
    if (!INSTALL(neverBoth)) return NO_FILTERS;
    WANT(isRefused(PROT_READ | PROT_WRITE | PROT_EXEC, MAP_ANONYMOUS) && isRefused(PROT_READ | PROT_EXEC, MAP_ANONYMOUS) && isExecRefused());
    WANT(startHooked(2) == RTS_OK);
    return useMany();
}
/* From the file alone: no memfd either. */
static int withoutMemfd(void)
{
    if (!INSTALL(noMemfd) || !INSTALL(neverBoth)) return NO_FILTERS;
    WANT(startHooked(2) == RTS_OK);
    return useMany();
}
/* From memfd alone. */
static int withoutFile(void)
{
    osCodeForbidden = OS_CODE_FROM_FILE;
    if (!INSTALL(neverBoth)) return NO_FILTERS;
    WANT(startHooked(2) == RTS_OK);
    return useMany();
}

static void *tryToMake(const char **why)
{
    void *code = adjustorFor(&same_closure, NULL, "LL");
    *why = strstr(heard.error, "executable memory");
    return code;
}

/* Refused from the first on; everything else works. */
static int refusedAltogether(void)
{
    const char *why;
    if (!INSTALL(nothing)) return NO_FILTERS;
    WANT(startHooked(2) == RTS_OK);
    for (int i = 0; i < 3; i++) {
        WANT(tryToMake(&why) == NULL);
        WANT(heardError(RTS_NO_MEMORY) == 1 && why != NULL);
    }
    WANT(callWell() == 42);
    Capability *cap = rts_lock();
    HaskellObj value;
    rts_evalIO(&cap, rts_apply(cap, rts_foreignImportSymbol(cap, "labs", "LL", RtsSafe), CAPSTAN_SMALL_INT(-3)), &value);
    WANT(rts_getSchedStatus(cap) == Success && rts_getInt(value) == 3);
    rts_unlock(cap);
    hs_perform_gc();
    WANT(liveAdjustors() == 0 && heardOtherErrors() == 0);
    hs_exit();
    return WELL;
}

/* Refused from some moment on: what there is goes on working, and is used again. */
static int refusedLater(void)
{
    const char *why;
    WANT(startHooked(2) == RTS_OK);
    LL *first = adjustorFor(&same_closure, NULL, "LL"), *next;
    WANT(first != NULL);
    if (!INSTALL(nothing)) return NO_FILTERS;
    int n = 0;
    LL *last = first;
    while ((next = (LL *)tryToMake(&why)) != NULL && n < 20000) {
        last = next;
        n++;
    }
    WANT(next == NULL && n >= 200 && n < 20000 && why != NULL);
    WANT(heardError(RTS_NO_MEMORY) == 1);
    WANT(first(4) == 4 && last(5) == 5);
    freeHaskellFunctionPtr((void *)first);
    WANT((first = (LL *)tryToMake(&why)) != NULL && first(6) == 6);
    WANT(heardOtherErrors() == 0);
    return WELL;
}

/* No address space left; sanitizers do not survive that. */
static int withoutAddresses(void)
{
#if defined(MISUSE_ASAN) || defined(MISUSE_TSAN)
    return NO_FILTERS;
#endif
    struct rlimit limit = { 0, RLIM_INFINITY };
    if (isEmulated()) return NO_FILTERS; /* RLIMIT_AS limits nothing there */
    WANT(startHooked(1) == RTS_OK);
    if (setrlimit(RLIMIT_AS, &limit) != 0) return NO_FILTERS;
    HsStablePtr hptr;
    Capability *cap = rts_lock();
    hptr = getStablePtr((StgPtr)&same_closure);
    rts_unlock(cap);
    WANT(createAdjustor(hptr, NULL, (char *)"L") == NULL);
    WANT(heardError(RTS_NO_MEMORY) == 1);
    limit.rlim_cur = RLIM_INFINITY;
    WANT(setrlimit(RLIMIT_AS, &limit) == 0);
    int (*f)(void) = createAdjustor(hptr, NULL, (char *)"WW");
    WANT(f != NULL && ((int (*)(int))(void *)f)(3) == 3);
    return WELL;
}

static int tooMany(void)
{
    int n = 0;
    adjustorArenaLimit = 5;
    WANT(startHooked(1) == RTS_OK);
    while (adjustorFor(&same_closure, NULL, "LL") != NULL && n < 100000) n++;
    WANT(n == 5 * ARCH_ADJUSTOR_COUNT || n == 100000);
    WANT(heardError(RTS_NO_MEMORY) == (n < 100000));
    WANT(n == 100000 || strstr(heard.error, "too many") != NULL);
    return WELL;
}

/* Nothing that the process has mapped is writable and executable. */
static int neverMappedBoth(void)
{
    char line[500];
    WANT(startHooked(1) == RTS_OK);
    for (int i = 0; i < 1000; i++) WANT(adjustorFor(&same_closure, NULL, "LL") != NULL);
    FILE *maps = fopen("/proc/self/maps", "r");
    WANT(maps != NULL);
    while (fgets(line, sizeof line, maps) != NULL) {
        char rights[8] = "";
        WANT(sscanf(line, "%*s %7s", rights) == 1);
        WANT(strchr(rights, 'w') == NULL || strchr(rights, 'x') == NULL);
    }
    fclose(maps);
    return WELL;
}

static void inChild(int (*body)(void))
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        int result = body();
        fflush(NULL);
        _exit(result);
    }
    int status = -1;
    waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == NO_FILTERS) {
        print_message("SKIP: no filters of system calls, or no limits, here\n");
        skip();
    }
    assert_int_equal(status, 0);
}

#define IN_CHILD(f) \
    static void f##Test(void **state) { inChild(f); }
IN_CHILD(underPolicy)
IN_CHILD(withoutMemfd)
IN_CHILD(withoutFile)
IN_CHILD(refusedAltogether)
IN_CHILD(refusedLater)
IN_CHILD(withoutAddresses)
IN_CHILD(tooMany)
IN_CHILD(neverMappedBoth)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(underPolicyTest),       TEST(withoutMemfdTest), TEST(withoutFileTest), TEST(refusedAltogetherTest), TEST(refusedLaterTest),
        TEST(withoutAddressesTest),  TEST(tooManyTest),      TEST(neverMappedBothTest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * Which shared objects are kept loaded, and what happens without memory for that.  tests/unload_test.sh has modules that something refers to.
 */
#include "keeping.h"

#include "capability.h"
#include "module.h"
#include "os/memory.h"
#include "os/os.h"
#include "unload.h"

#include <dlfcn.h>

/* libm: loaded, and needed by others, so that it stays whatever is closed. */
static struct OsModule libm;
static void *openLibm(void)
{
    void *library = dlopen("libm.so.6", RTLD_NOW);
    assert_non_null(library);
    assert_true(osFindModule(dlsym(library, "lgamma"), &libm));
    return library;
}

static void testFinding(void **state)
{
    struct OsModule m;
    void *library = openLibm(), *program = dlopen(NULL, RTLD_NOW);
    int here = 0;
    assert_non_null(strstr(libm.name, "libm"));
    assert_true(osModuleOfHandle(library, &m));
    assert_true(m.lo == libm.lo && m.hi == libm.hi && strcmp(m.name, libm.name) == 0);
    assert_true(m.lo < (uintptr_t)dlsym(library, "lgamma") && (uintptr_t)dlsym(library, "lgamma") < m.hi);
    assert_false(osFindModule(&here, &m));
    assert_false(osFindModule((void *)testFinding, &m));
    assert_false(osModuleOfHandle(program, &m));
    keepModuleOf(&here); /* neither is the loader's to unmap */
    keepModuleOf((void *)testFinding);
    m.lo = libm.lo;
    strcpy(m.name, "no such object");
    assert_null(osKeepModule(&m));
    strcpy(m.name, libm.name);
    m.lo++; /* the name is another one's by now */
    assert_null(osKeepModule(&m));
    assert_null(dlerror());
    assert_int_equal(rts_unloadModule(program), RTS_BAD_ARGUMENT);
    assert_int_equal(rts_unloadModule(NULL), RTS_BAD_ARGUMENT);
    assert_int_equal(heardError(RTS_BAD_ARGUMENT), 2);
    dlclose(library);
    dlclose(program);
}

/* With a second registration nothing happens; the pin goes with the first full collection after the host's handle. */
static void testPinning(void **state)
{
    void *library = openLibm();
    keepModuleOf((void *)libm.lo);
    keepModuleOf((void *)(libm.hi - 1));
    assert_true(isModulePinned(libm.lo));
    hs_perform_gc();
    assert_true(isModulePinned(libm.lo));
    assert_int_equal(rts_unloadModule(library), RTS_OK);
    assert_int_equal(rts_unloadModule(openLibm()), RTS_OK);
    assert_true(isAnyModuleGiven());
    rts_performMinorGC();
    assert_true(isAnyModuleGiven());
    hs_perform_gc();
    assert_false(isAnyModuleGiven() || isModulePinned(libm.lo));

    keepModuleOf((void *)libm.lo);
    assert_int_equal(rts_forgetStatics((void *)libm.lo, (void *)libm.hi), RTS_OK);
    assert_false(isModulePinned(libm.lo));
    assert_int_equal(heardOtherErrors(), 0);
}

/* Of an end of the runtime: it is the same as a collection. */
static void testExit(void **state)
{
    assert_int_equal(rts_unloadModule(openLibm()), RTS_OK);
    hs_exit();
    assert_false(isAnyModuleGiven());
    assert_int_equal(rts_unloadModule(openLibm()), RTS_OK);
    assert_false(isAnyModuleGiven());
}

/* Somebody is inside of a release function, which may be the module's: its byte array is gone. */
static void testReleases(void **state)
{
    externalsRunning++;
    assert_int_equal(rts_unloadModule(openLibm()), RTS_OK);
    hs_perform_gc();
    assert_true(isAnyModuleGiven());
    externalsRunning--;
    hs_perform_gc();
    assert_false(isAnyModuleGiven());
}

/* The runtime is ending: nobody can be stopped any more, but finalizers that may be the module's are still to be called.  Then it tries itself. */
static void testWhileEnding(void **state)
{
    hs_exit();
    runtimeIsEnding = true;
    assert_int_equal(rts_unloadModule(openLibm()), RTS_OK);
    assert_true(isAnyModuleGiven());
    runtimeIsEnding = false;
    unloadModules();
    assert_false(isAnyModuleGiven());
}

/* Without a runtime nobody else counts the calls. */
static void testNoMemory(void **state)
{
    void *library = openLibm();
    hs_exit();
    for (long n = 1; n <= 2; n++) { /* the handle; the record, without which it is kept for good */
        osFailAfter(n);
        keepModuleOf((void *)libm.lo);
        assert_int_equal(osFailuresInjected(), 1);
        osFailAfter(0);
        assert_int_equal(heardError(RTS_NO_MEMORY), 1);
        assert_false(isModulePinned(libm.lo));
    }
    osFailAfter(1);
    assert_int_equal(rts_unloadModule(library), RTS_NO_MEMORY);
    osFailAfter(0);
    assert_int_equal(heardError(RTS_NO_MEMORY), 1);
    assert_false(isAnyModuleGiven());
    assert_int_equal(rts_unloadModule(library), RTS_OK); /* it was not taken before */
}

int main(void)
{
    const struct CMUnitTest tests[] = { TWO(testFinding), TWO(testPinning), TWO(testExit), TWO(testReleases), TWO(testWhileEnding), TWO(testNoMemory) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

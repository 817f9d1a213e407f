/* For tests/foreign_example_test.sh: loads ./plug.so while the runtime runs, uses it, and unloads it when nothing refers to it any more; several times. */
#include <Rts.h>
#include <rts/Language.h>

#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures;
static void check(bool holds, const char *what)
{
    if (holds) return;
    printf("FAILED: %s\n", what);
    failures++;
}

static unsigned long stablePtrs(void)
{
    RtsCounts counts;
    rts_getCounts(&counts);
    return (unsigned long)counts.stable_ptrs;
}

typedef struct { ElfW(Addr) base; uintptr_t lo, hi; } Bounds;
static int findBounds(struct dl_phdr_info *info, size_t size, void *arg)
{
    Bounds *b = arg;
    (void)size;
    if (info->dlpi_addr != b->base) return 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type != PT_LOAD) continue;
        if (b->lo == 0 || b->base + p->p_vaddr < b->lo) b->lo = b->base + p->p_vaddr;
        if (b->base + p->p_vaddr + p->p_memsz > b->hi) b->hi = b->base + p->p_vaddr + p->p_memsz;
    }
    return 1;
}

static RtsStatus forget(void *plugin)
{
    struct link_map *map = NULL;
    Bounds b = { 0, 0, 0 };
    if (dlinfo(plugin, RTLD_DI_LINKMAP, &map) != 0) return RTS_BAD_ARGUMENT;
    b.base = map->l_addr;
    if (dl_iterate_phdr(findBounds, &b) != 1) return RTS_BAD_ARGUMENT;
    return rts_forgetStatics((void *)b.lo, (void *)b.hi);
}

static void quiet(void *ctx, RtsStatus status, const char *message)
{
    (void)ctx;
    if (status != RTS_BUSY) check(false, message);
}

static void loadOnce(void)
{
    unsigned long before = stablePtrs();
    void *plugin = dlopen("./plug.so", RTLD_NOW | RTLD_LOCAL);
    if (plugin == NULL) {
        check(false, dlerror());
        return;
    }
    check(stablePtrs() == before + 2, "both exports have stable pointers");
    HsStablePtr (*pair)(HsInt);
    HsInt (*first)(HsStablePtr);
    *(void **)&pair = dlsym(plugin, "plug_pair");
    *(void **)&first = dlsym(plugin, "plug_first");
    HsStablePtr p = pair(42);
    hs_perform_gc();
    check(first(p) == 42, "calls into the plugin work");
    check(forget(plugin) == RTS_BUSY, "an object of the plugin's is found");
    check(stablePtrs() == before + 1, "the exports are forgotten, the host's pointer is not");
    check(first(p) == 42, "and it still works");
    hs_free_stable_ptr(p);
    check(forget(plugin) == RTS_OK, "nothing refers to it");
    check(stablePtrs() == before, "no stable pointer is left");
    check(dlclose(plugin) == 0, "it goes");
    hs_perform_gc();
}

int main(void)
{
    for (int round = 0; round < 2; round++) {
        RtsConfig config = RTS_CONFIG_INIT;
        config.capabilities = 2;
        config.errorHook = quiet;
        if (rts_start(&config, NULL, 0) != RTS_OK) return 99;
        for (int i = 0; i < 3; i++) loadOnce();
        hs_exit();
    }
    return failures != 0;
}

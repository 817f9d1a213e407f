/* loader.c: shared objects that come and go (os.h). */
#include "os/internal.h"

#include <dlfcn.h>
#include <link.h>
#include <stdint.h>
#include <string.h>

#include "os/os.h"

/* What is looked for: the object that holds an address, or the one that was loaded at base. */
struct Search {
    uintptr_t address;
    uintptr_t base;
    bool byBase;
    struct OsModule *module;
};

static void readSegments(struct OsModule *m, const struct dl_phdr_info *info) {
    m->lo = UINTPTR_MAX;
    m->hi = 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type != PT_LOAD) continue;
        uintptr_t lo = info->dlpi_addr + p->p_vaddr;
        if (lo < m->lo) m->lo = lo;
        if (lo + p->p_memsz > m->hi) m->hi = lo + p->p_memsz;
    }
}

static int lookAtObject(struct dl_phdr_info *info, size_t size, void *arg) {
    struct Search *search = arg;
    (void)size;
    readSegments(search->module, info);
    bool found = search->byBase ? info->dlpi_addr == search->base
                                : search->address >= search->module->lo && search->address < search->module->hi;
    if (!found) return 0;
    /* The program itself has no name. */
    size_t length = info->dlpi_name == NULL ? 0 : strlen(info->dlpi_name);
    if (length >= sizeof search->module->name) length = 0;
    memcpy(search->module->name, info->dlpi_name == NULL ? "" : info->dlpi_name, length);
    search->module->name[length] = 0;
    return 1;
}

bool osFindModule(const void *address, struct OsModule *module) {
    struct Search search = {.address = (uintptr_t)address, .module = module};
    return dl_iterate_phdr(lookAtObject, &search) == 1 && module->name[0] != 0;
}

bool osModuleOfHandle(void *handle, struct OsModule *module) {
    struct link_map *map = NULL;
    if (dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0 || map == NULL) return false;
    struct Search search = {.base = map->l_addr, .byBase = true, .module = module};
    return dl_iterate_phdr(lookAtObject, &search) == 1 && module->name[0] != 0;
}

void *osKeepModule(const struct OsModule *module) {
    struct Quiet quiet = osBeginQuiet();
    struct OsModule now;
    void *handle = osShouldFail() ? NULL : dlopen(module->name, RTLD_LAZY | RTLD_NOLOAD);
    /* Another one of the same name, meanwhile? */
    if (handle != NULL && !(osModuleOfHandle(handle, &now) && now.lo == module->lo && now.hi == module->hi)) {
        dlclose(handle);
        handle = NULL;
    }
    if (handle == NULL) dlerror(); /* not for the host to hear */
    osEndQuiet(quiet);
    return handle;
}

void osCloseModule(void *handle) {
    /* Its destructors may be cancellation points, and the loader's lock would stay held. */
    struct Quiet quiet = osBeginQuiet();
    dlclose(handle);
    osEndQuiet(quiet);
}

/*
 * Loaded before a program on aarch64 (LD_PRELOAD, with LD_BIND_NOW): while main runs, indirect branches into the program and into libcapstan must land on
 * landing pads, or are illegal instructions. The system does that by itself for files whose start-up code has landing pads too; Debian's has none.
 * For code that was compiled with -mbranch-protection=bti or =standard (./bootstrap cross aarch64 --guarded).
 */
#include <dlfcn.h>
#include <link.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef PROT_BTI
#define PROT_BTI 0x10
#endif

typedef int Main(int argc, char **argv, char **environment);
typedef int StartMain(Main *run, int argc, char **argv, void (*init)(void), void (*fini)(void), void (*loader)(void), void *stack);

StartMain __libc_start_main;

static Main *realMain;

/* The executable segments of one file.  guarded: points at a bool. */
static int protectFile(struct dl_phdr_info *file, size_t size, void *guarded)
{
    if (file->dlpi_name[0] != 0 && strstr(file->dlpi_name, "libcapstan") == NULL) return 0;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    for (int i = 0; i < file->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &file->dlpi_phdr[i];
        if (segment->p_type != PT_LOAD || (segment->p_flags & PF_X) == 0) continue;
        uintptr_t begin = (file->dlpi_addr + segment->p_vaddr) & -page, end = file->dlpi_addr + segment->p_vaddr + segment->p_memsz;
        int access = PROT_READ | PROT_EXEC | (*(bool *)guarded ? PROT_BTI : 0);
        if (mprotect((void *)begin, end - begin, access) != 0) {
            perror("landing_pads: mprotect");
            _exit(99);
        }
    }
    return 0;
}

/* What the C library calls after main has no landing pads. */
static void endGuard(void) { dl_iterate_phdr(protectFile, &(bool){ false }); }

static int guardedMain(int argc, char **argv, char **environment)
{
    dl_iterate_phdr(protectFile, &(bool){ true });
    atexit(endGuard);
    return realMain(argc, argv, environment);
}

int __libc_start_main(Main *run, int argc, char **argv, void (*init)(void), void (*fini)(void), void (*loader)(void), void *stack)
{
    StartMain *start = (StartMain *)dlsym(RTLD_NEXT, "__libc_start_main");
    realMain = run;
    return start(guardedMain, argc, argv, init, fini, loader, stack);
}

/* libffi's closures (figures B3, B3a): what a function pointer that finds data of its own costs, with nothing managed behind it. */
#include "callback_loop.h"

#include <ffi.h>

static void increment(ffi_cif *cif, void *result, void **args, void *data)
{
    *(int64_t *)result = *(int64_t *)args[0] + 1;
}

static ffi_cif cif;
static ffi_type *types[] = { &ffi_type_sint64 };

static ffi_closure *makeClosure(void **code)
{
    ffi_closure *closure = ffi_closure_alloc(sizeof *closure, code);
    if (closure == NULL || ffi_prep_closure_loc(closure, &cif, increment, NULL, *code) != FFI_OK) abort();
    return closure;
}

static void makeBatch(void *unused, int64_t n)
{
    void *code;
    for (int64_t i = 0; i < n; i++) ffi_closure_free(makeClosure(&code));
}

int main(int argc, char **argv)
{
    const char *figure;
    void *code;
    double seconds = readSeconds(argc, argv, &figure);
    if (ffi_prep_cif(&cif, FFI_DEFAULT_ABI, 1, &ffi_type_sint64, types) != FFI_OK) abort();
    makeClosure(&code);
    if (strcmp(figure, "call") == 0) printFigure("callback", fastestBatch(callBatch, code, seconds), "ns");
    else printFigure("make_free", fastestBatch(makeBatch, NULL, seconds), "ns");
    return 0;
}

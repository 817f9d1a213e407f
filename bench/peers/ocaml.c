/* OCaml: registered C threads take the runtime's lock, call back, and let go. OCaml 4 has one lock for all; OCaml 5 has one for
 * each domain, and ocaml5.c adds the second domain. */
#include "ocaml.h"
#include "subject.h"
#define CAML_NAME_SPACE
#include <caml/callback.h>
#include <caml/mlvalues.h>
#include <caml/threads.h>

static const value *callClosure, *workClosure;

int subjectStart(int capabilities)
{
    static char *argv[] = {"bench", NULL};
    caml_startup(argv);
    callClosure = caml_named_value("bench_call");
    workClosure = caml_named_value("bench_work");
    if (callClosure == NULL || workClosure == NULL) return -1;
    int status = startDomains(capabilities);
    caml_release_runtime_system();
    return status;
}

int subjectAttach(void)
{
    return bornInOCaml() || caml_c_thread_register() ? 0 : -1;
}

int64_t subjectCall(int64_t n)
{
    caml_acquire_runtime_system();
    int64_t result = Long_val(caml_callback_exn(*callClosure, Val_long(n)));
    caml_release_runtime_system();
    return result;
}

int64_t subjectWork(int64_t rounds)
{
    caml_acquire_runtime_system();
    int64_t result = Long_val(caml_callback_exn(*workClosure, Val_long(rounds)));
    caml_release_runtime_system();
    return result;
}

void subjectDetach(void)
{
    if (!bornInOCaml()) caml_c_thread_unregister();
}

/* OCaml 5 registers a C thread with the first domain only. To have callers on a second one, every other thread is made by
 * OCaml, in a domain that waits for such requests (domains.ml), and its body runs with the domain's lock released. */
#include "ocaml.h"
#include "subject.h"
#define CAML_NAME_SPACE
#include <caml/alloc.h>
#include <caml/callback.h>
#include <caml/memory.h>
#include <caml/mlvalues.h>
#include <caml/threads.h>
#include <pthread.h>
#include <stdlib.h>

typedef struct Request {
    void *(*body)(void *);
    void *arg;
    struct Request *next;
} Request;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t arrived = PTHREAD_COND_INITIALIZER;
static Request *requests;
static int domainCount = 1, nextDomain;
static _Thread_local int isBornInOCaml;

int startDomains(int domains)
{
    const value *start = caml_named_value("bench_start_domain");
    if (start == NULL || domains > 2) return -1;
    domainCount = domains;
    return domains == 2 && Is_exception_result(caml_callback_exn(*start, Val_unit)) ? -1 : 0;
}

int bornInOCaml(void)
{
    return isBornInOCaml;
}

static int spawnInFirstDomain(void *(*body)(void *), void *arg)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, body, arg) != 0) return -1;
    return pthread_detach(thread) == 0 ? 0 : -1;
}

static int spawnInSecondDomain(void *(*body)(void *), void *arg)
{
    Request *request = malloc(sizeof *request);
    if (request == NULL) return -1;
    pthread_mutex_lock(&lock);
    *request = (Request){body, arg, requests};
    requests = request;
    pthread_cond_signal(&arrived);
    pthread_mutex_unlock(&lock);
    return 0;
}

int subjectSpawn(void *(*body)(void *), void *arg)
{
    int domain = nextDomain;
    nextDomain = (nextDomain + 1) % domainCount;
    return domain == 0 ? spawnInFirstDomain(body, arg) : spawnInSecondDomain(body, arg);
}

CAMLprim value benchNextBody(value unit)
{
    caml_release_runtime_system();
    pthread_mutex_lock(&lock);
    while (requests == NULL) pthread_cond_wait(&arrived, &lock);
    Request *request = requests;
    requests = request->next;
    pthread_mutex_unlock(&lock);
    caml_acquire_runtime_system();
    return caml_copy_nativeint((intnat)request);
}

CAMLprim value benchRunBody(value boxed)
{
    Request *request = (Request *)Nativeint_val(boxed);
    caml_release_runtime_system();
    isBornInOCaml = 1;
    request->body(request->arg);
    free(request);
    caml_acquire_runtime_system();
    return Val_unit;
}

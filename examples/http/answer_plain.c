/* The same handler without the runtime, to measure against; and what both use of libmicrohttpd. */
#include "answer.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static _Atomic long greeted;

enum MHD_Result answerPlain(void *cls, struct MHD_Connection *connection, const char *url, const char *method, const char *version, const char *data,
                            size_t *size, void **state)
{
    char text[300];
    int length;
    if (strcmp(method, "GET") != 0) return respond(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET\n", 9);
    if (strncmp(url, "/hello/", 7) == 0) length = snprintf(text, sizeof text, "hello %.200s, you are number %ld\n", url + 7, ++greeted);
    else if (strcmp(url, "/count") == 0) length = snprintf(text, sizeof text, "%ld\n", (long)greeted);
    else return respond(connection, MHD_HTTP_NOT_FOUND, "not here\n", 9);
    return respond(connection, MHD_HTTP_OK, text, (size_t)length);
}

enum MHD_Result respond(struct MHD_Connection *connection, unsigned status, const char *text, size_t length)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(length, (void *)(uintptr_t)text, MHD_RESPMEM_MUST_COPY);
    if (response == NULL) return MHD_NO;
    enum MHD_Result queued = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return queued;
}

/* What answers a request: an exported managed function, or plain C.  Both are handlers of libmicrohttpd, and both do the same: GET /hello/NAME counts itself,
 * and gives "hello NAME, you are number N"; GET /count the number of those so far; anything else is 404, other methods 405. */
#ifndef EXAMPLE_HTTP_ANSWER_H
#define EXAMPLE_HTTP_ANSWER_H

#include <Rts.h>

#include <microhttpd.h>

#include "answer_stub.h" /* answerManaged */

enum MHD_Result answerPlain(void *cls, struct MHD_Connection *connection, const char *url, const char *method, const char *version, const char *data,
                            size_t *size, void **state);

/* Hand a response with this text to libmicrohttpd. */
enum MHD_Result respond(struct MHD_Connection *connection, unsigned status, const char *text, size_t length);

#endif

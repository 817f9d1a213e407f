/* http: a server of libmicrohttpd whose requests are answered by an exported managed function, on the library's own threads.
 *
 *     http [--plain] [--port=N] [--threads=N] [--capabilities=N]
 *
 * Listens on 127.0.0.1 (port 0, the default: any that is free), prints "listening on port N", and ends when its standard input does; then it
 * prints how many answers of each kind went out.  --plain answers by plain C instead, to measure against. */
#include "answer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    bool plain;
    unsigned port, threads, capabilities;
} Options;

static _Atomic long answered, brokenOff;

/* Adapts the type: libmicrohttpd's results are an enumeration. */
static enum MHD_Result answerByExport(void *cls, struct MHD_Connection *connection, const char *url, const char *method, const char *version,
                                      const char *data, size_t *size, void **state)
{
    return answerManaged(cls, connection, (HsPtr)url, (HsPtr)method, (HsPtr)version, (HsPtr)data, size, state) == MHD_YES ? MHD_YES : MHD_NO;
}

static void noteEnd(void *cls, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode how)
{
    if (how == MHD_REQUEST_TERMINATED_COMPLETED_OK) answered++;
    else brokenOff++;
}

static bool readNumber(const char *arg, const char *name, unsigned least, unsigned most, unsigned *to)
{
    char *end;
    size_t length = strlen(name);
    if (strncmp(arg, name, length) != 0) return false;
    unsigned long n = strtoul(arg + length, &end, 10);
    if (arg[length] < '0' || arg[length] > '9' || *end != 0 || n < least || n > most) return false;
    *to = (unsigned)n;
    return true;
}

static bool readOptions(Options *o, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--plain") == 0) o->plain = true;
        else if (!readNumber(argv[i], "--port=", 0, 65535, &o->port) && !readNumber(argv[i], "--threads=", 2, 1000, &o->threads) &&
                 !readNumber(argv[i], "--capabilities=", 1, 256, &o->capabilities))
            return false;
    return true;
}

static int serve(const Options *o)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)o->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct MHD_Daemon *daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_EPOLL, 0, NULL, NULL, o->plain ? answerPlain : answerByExport,
                                                 NULL, MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&address, MHD_OPTION_THREAD_POOL_SIZE, o->threads,
                                                 MHD_OPTION_NOTIFY_COMPLETED, noteEnd, NULL, MHD_OPTION_END);
    char byte[64];
    if (daemon == NULL) {
        perror("http: the server does not start");
        return 1;
    }
    printf("listening on port %u\n", MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT)->port);
    fflush(stdout);
    while (read(0, byte, sizeof byte) > 0) {}
    MHD_stop_daemon(daemon);
    printf("answered %ld, broken off %ld\n", (long)answered, (long)brokenOff);
    return 0;
}

int main(int argc, char **argv)
{
    Options o = { .threads = 8 };
    RtsConfig config = RTS_CONFIG_INIT;
    char message[200];
    if (!readOptions(&o, argc, argv)) {
        fprintf(stderr, "usage: http [--plain] [--port=N] [--threads=N (2...)] [--capabilities=N]\n");
        return 2;
    }
    config.capabilities = o.capabilities;
    signal(SIGPIPE, SIG_IGN);
    if (!o.plain && rts_start(&config, message, sizeof message) != RTS_OK) {
        fprintf(stderr, "http: %s\n", message);
        return 1;
    }
    int status = serve(&o);
    if (!o.plain) hs_exit();
    return status;
}

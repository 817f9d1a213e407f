#include "heap_options.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_WORKERS 64
#define MOST_DEPTH 30

void giveUp(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("bench: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

void printFigure(const char *metric, double value, const char *unit)
{
    printf("%s\t%.6g\t%s\n", metric, value, unit);
}

/* The text behind "name" if the argument begins with it, else NULL. */
static const char *valueOf(const char *arg, const char *name)
{
    size_t length = strlen(name);
    return strncmp(arg, name, length) == 0 ? arg + length : NULL;
}

static double numberOf(const char *text)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= 0 && value < 1e15)) giveUp("'%s' is not a number", text);
    return value;
}

static void readOption(HeapOptions *o, const char *arg)
{
    const char *value;
    if ((value = valueOf(arg, "--workers=")) != NULL) o->workers = (int)numberOf(value);
    else if ((value = valueOf(arg, "--depth=")) != NULL) o->depth = (int64_t)numberOf(value);
    else if ((value = valueOf(arg, "--entries=")) != NULL) o->entries = (int64_t)numberOf(value);
    else if ((value = valueOf(arg, "--count=")) != NULL) o->count = (int64_t)numberOf(value);
    else if ((value = valueOf(arg, "--seconds=")) != NULL) o->seconds = numberOf(value);
    else if ((value = valueOf(arg, "--operation=")) != NULL) o->operation = value;
    else giveUp("no option %s", arg);
}

HeapOptions readHeapOptions(int argc, char **argv)
{
    HeapOptions o = {.workers = 1, .seconds = 0.3};
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) == 0) readOption(&o, argv[i]);
        else o.figure = argv[i];
    }
    if (o.figure == NULL)
        giveUp("usage: heap-SUBJECT FIGURE [--workers=N] [--depth=N] [--entries=N] [--count=N] [--seconds=S] [--operation=NAME]");
    if (o.workers < 1 || o.workers > MOST_WORKERS) giveUp("--workers expects 1 to %d", MOST_WORKERS);
    if (o.depth > MOST_DEPTH) giveUp("--depth expects at most %d", MOST_DEPTH);
    return o;
}

static double statusBytes(const char *name)
{
    char line[256];
    double kilobytes = -1;
    FILE *file = fopen("/proc/self/status", "r");
    if (file == NULL) giveUp("cannot read /proc/self/status");
    while (kilobytes < 0 && fgets(line, sizeof line, file) != NULL) {
        const char *value = valueOf(line, name);
        if (value != NULL) kilobytes = strtod(value, NULL);
    }
    fclose(file);
    if (kilobytes < 0) giveUp("no %s in /proc/self/status", name);
    return kilobytes * 1024;
}

double residentBytes(void)
{
    return statusBytes("VmRSS:");
}

double peakResidentBytes(void)
{
    return statusBytes("VmHWM:");
}

int64_t mostNodesAlive(int64_t depth, int workers)
{
    int64_t stretch = nodesOfTree(depth + 1), late = (1 + workers) * nodesOfTree(depth);
    return stretch > late ? stretch : late;
}

static int compareNumbers(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double medianOf(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, compareNumbers);
    return count % 2 == 1 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

/* capstan-foreign: the command line. */
#include "foreign.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "Usage: capstan-foreign [OPTION]... FILE\n"
    "Read foreign declarations, as in the Haskell 2010 report, and write C stubs and a header.\n"
    "\n"
    "  -o, --output=FILE       the stubs (default: NAME_stub.c for NAME.ffi, in this folder)\n"
    "      --header=FILE       the header (default: the name of the stubs, with .h)\n"
    "  -M, --dependencies=FILE a rule for make: what the outputs are made of\n"
    "      --closure-names=HOW plain: f_closure (default); module: M_f_closure; ghc: as GHC\n"
    "                          names them\n"
    "      --package=NAME      of GHC's names (default: main)\n"
    "      --no-try            without NAME_try and NAME_try_opt\n"
    "      --target=CPU        x86_64, aarch64 or riscv64 (default: this one); others are known\n"
    "                          by their first part (aarch64-linux-gnu)\n"
    "      --check             read and report, write nothing\n"
    "  -h, --help\n"
    "      --version\n"
    "\n"
    "FILE may be -, standard input; then -o is needed. Exit status: 0; 1: something was wrong with\n"
    "FILE, or a file could not be read or written; 2: a wrong command line. doc/foreign.md has the rest.\n";

static const char program[] = "capstan-foreign";

typedef struct {
    const char *input, *stub, *header, *dependencies;
    bool check;
    Options options;
    Arena arena;
} Settings;

static bool complain(const char *what, const char *which)
{
    fprintf(stderr, "%s: %s%s; see capstan-foreign --help\n", program, what, which);
    return false;
}

static bool chooseNames(Settings *s, const char *how)
{
    static const char *const names[] = { "plain", "module", "ghc" };
    for (int i = 0; i < 3; i++)
        if (strcmp(how, names[i]) == 0) return s->options.names = (ClosureNames)i, true;
    return complain("--closure-names: expected plain, module or ghc, found ", how);
}

static bool chooseTarget(Settings *s, const char *cpu)
{
    for (int i = 0; i < TARGETS; i++) {
        size_t n = strlen(targetNames[i]);
        if (strncmp(cpu, targetNames[i], n) == 0 && (cpu[n] == 0 || cpu[n] == '-')) return s->options.target = (Target)i, true;
    }
    return complain("--target: expected x86_64, aarch64 or riscv64, found ", cpu);
}

static bool choosePackage(Settings *s, const char *name)
{
    if (*name == 0 || strlen(name) > MAX_NAME) return complain("--package: expected a name", "");
    s->options.package = name;
    return true;
}

enum { OPT_HEADER = 256, OPT_NAMES, OPT_PACKAGE, OPT_NO_TRY, OPT_TARGET, OPT_CHECK, OPT_VERSION };
static const struct option longOptions[] = {
    { "output", required_argument, NULL, 'o' },      { "header", required_argument, NULL, OPT_HEADER },
    { "dependencies", required_argument, NULL, 'M' }, { "closure-names", required_argument, NULL, OPT_NAMES },
    { "package", required_argument, NULL, OPT_PACKAGE }, { "no-try", no_argument, NULL, OPT_NO_TRY },
    { "target", required_argument, NULL, OPT_TARGET }, { "check", no_argument, NULL, OPT_CHECK },
    { "help", no_argument, NULL, 'h' },              { "version", no_argument, NULL, OPT_VERSION },
    { NULL, 0, NULL, 0 },
};

static bool readOption(Settings *s, int option)
{
    switch (option) {
    case 'o': s->stub = optarg; return true;
    case 'M': s->dependencies = optarg; return true;
    case OPT_HEADER: s->header = optarg; return true;
    case OPT_NAMES: return chooseNames(s, optarg);
    case OPT_PACKAGE: return choosePackage(s, optarg);
    case OPT_NO_TRY: s->options.tries = false; return true;
    case OPT_TARGET: return chooseTarget(s, optarg);
    case OPT_CHECK: s->check = true; return true;
    case 'h': fputs(usage, stdout); exit(fflush(stdout) == 0 ? 0 : 1);
    case OPT_VERSION: puts("capstan-foreign " PACKAGE_VERSION); exit(fflush(stdout) == 0 ? 0 : 1);
    default: return complain("wrong option", "");
    }
}

/* The name without its folder and its ending. */
static const char *stemOf(Arena *arena, const char *path, bool folder)
{
    const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path, *dot = strrchr(name, '.');
    size_t length = dot != NULL && dot > name ? (size_t)(dot - name) : strlen(name);
    return folder ? takeText(arena, path, (size_t)(name - path) + length) : takeText(arena, name, length);
}

static bool chooseOutputs(Settings *s)
{
    if (s->check) return true;
    if (s->stub == NULL && strcmp(s->input, "-") == 0) return complain("standard input has no name: give -o", "");
    if (s->stub == NULL) s->stub = takeFormat(&s->arena, "%s_stub.c", stemOf(&s->arena, s->input, false));
    if (s->header == NULL && strcmp(s->stub, "-") == 0) return complain("standard output has no name: give --header", "");
    if (s->header == NULL) s->header = takeFormat(&s->arena, "%s.h", stemOf(&s->arena, s->stub, true));
    const char *const all[] = { s->input, s->stub, s->header, s->dependencies };
    for (size_t i = 0; i < 4; i++)
        for (size_t j = 0; j < i; j++)
            if (all[i] != NULL && all[j] != NULL && strcmp(all[i], all[j]) == 0 && strncmp(all[i], "/dev/", 5) != 0 && (strcmp(all[i], "-") != 0 || j > 0))
                return complain("two files with one name: ", all[i]);
    return true;
}

static bool readCommandLine(Settings *s, int argc, char **argv)
{
    *s = (Settings){ .options = { .package = "main", .tries = true } };
    if (!chooseTarget(s, DEFAULT_TARGET)) return false;
    for (int option; (option = getopt_long(argc, argv, "o:M:h", longOptions, NULL)) != -1;)
        if (!readOption(s, option)) return false;
    if (optind == argc) return complain("expected a file", "");
    if (optind + 1 < argc) return complain("expected one file, found also ", argv[optind + 1]);
    s->input = argv[optind];
    return chooseOutputs(s);
}

/* A name as make wants it. */
static void putName(Buffer *out, const char *name)
{
    for (; *name != 0; name++) put(out, "%s%c", *name == ' ' || *name == '#' ? "\\" : *name == '$' ? "$" : "", *name);
}

static void putRule(const Settings *s, Buffer *out)
{
    putName(out, s->stub);
    put(out, " ");
    putName(out, s->header);
    put(out, ":");
    if (strcmp(s->input, "-") != 0) {
        put(out, " ");
        putName(out, s->input);
        put(out, "\n\n"); /* so that make goes on when the file has been renamed */
        putName(out, s->input);
        put(out, ":");
    }
    put(out, "\n");
}

static bool run(const Settings *s, Source *source)
{
    Buffer text = { 0 }, stub = { 0 }, header = { 0 }, rule = { 0 };
    const char *why = "";
    bool done = readWhole(s->input, &text, &why);
    if (!done) fprintf(stderr, "%s: cannot read %s: %s\n", program, s->input, why);
    if (done) {
        source->text = text.text;
        source->length = text.length;
        done = compileText(source, &s->options, &stub, &header);
        if (source->messages.length != 0) fputs(source->messages.text, stderr);
    }
    if (done && !s->check) {
        Output outputs[] = { { s->stub, &stub, NULL }, { s->header, &header, NULL }, { s->dependencies, &rule, NULL } };
        putRule(s, &rule);
        done = writeAll(program, outputs, s->dependencies != NULL ? 3 : 2);
    }
    freeBuffer(&text);
    freeBuffer(&stub);
    freeBuffer(&header);
    freeBuffer(&rule);
    return done;
}

int main(int argc, char **argv)
{
    Settings settings;
    if (!readCommandLine(&settings, argc, argv)) return 2;
    Source source = { .name = strcmp(settings.input, "-") == 0 ? "standard input" : settings.input };
    bool done = run(&settings, &source);
    freeBuffer(&source.messages);
    freeArena(&source.arena);
    freeArena(&settings.arena);
    return done ? 0 : 1;
}

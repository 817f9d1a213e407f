# C functions of random types, for tests/foreign_types_test.c: of each a callee, a caller, and (if not variadic) a stub.
#
#   awk -v seed=1 -v count=400 -f foreign_types.awk >foreign_types_gen.c
#
# The generator is the "minimal standard" of Park and Miller: the same with every awk.

function random(n) { state = state * 16807 % 2147483647; return state % n }
function pick(letters) { return substr(letters, random(length(letters)) + 1, 1) }
function isFloat(t) { return t == "f" || t == "d" }
function promoted(t) { return t == "f" ? "d" : index("SBsb", t) ? "W" : t }

# How many arguments: mostly as many as people write, sometimes far more than there are registers.
function length_of_type(  kind) {
    kind = random(20)
    return kind < 2 ? random(40) : kind < 8 ? 6 + random(12) : random(10)
}

# Rows of one kind find the ends of one kind of register.
function letters_of_type(  kind) {
    kind = random(6)
    return kind == 0 ? "fd" : kind == 1 ? "LlWwSsBbp" : kind == 2 ? "BbSsWwf" : "fdLlWwSsBbp"
}

function make_type(  letters) {
    n = length_of_type(); fixed = n
    letters = letters_of_type()
    result = pick("vfdLlWwSsBbp")
    for (i = 1; i <= n; i++) arg[i] = pick(letters)
    if (n > 0 && random(5) == 0) {
        fixed = 1 + random(n)
        arg[fixed] = promoted(arg[fixed]) # va_start wants it so
    }
    variadic = fixed < n || (n > 0 && random(40) == 0)
    text = result
    for (i = 1; i <= n; i++) text = text arg[i] (variadic && i == fixed ? "." : "")
}

function parameters(first, last,  list) {
    list = ""
    for (i = first; i <= last; i++) list = list (list == "" ? "" : ", ") "T_" arg[i] " a" i
    return list
}

function put_callee(k,  list) {
    list = n == 0 ? "void" : parameters(1, fixed) (variadic ? ", ..." : "")
    printf "static T_%s callee%d(%s)\n{\n", result, k, list
    if (fixed < n) printf "    va_list ap;\n    va_start(ap, a%d);\n", fixed
    for (i = 1; i <= n; i++)
        if (i <= fixed) printf "    seenBits[%d] = of_%s(a%d);\n", i - 1, arg[i], i
        else printf "    seenBits[%d] = of_%s((T_%s)va_arg(ap, T_%s));\n", i - 1, arg[i], arg[i], promoted(arg[i])
    if (fixed < n) print "    va_end(ap);"
    printf "    seenCount = %d;\n    return as_%s(answerBits);\n}\n", n, result
}

function put_caller(k,  list, values) {
    list = ""; values = ""
    for (i = 1; i <= fixed; i++) list = list (list == "" ? "" : ", ") "T_" arg[i]
    for (i = 1; i <= n; i++) values = values (values == "" ? "" : ", ") "as_" arg[i] "(v[" i - 1 "])"
    printf "static uint64_t caller%d(void *f, const uint64_t *v)\n{\n", k
    printf "    T_%s (*fn)(%s) = f;\n", result, n == 0 ? "void" : list (variadic ? ", ..." : "")
    if (result == "v") printf "    fn(%s);\n    return 0;\n}\n", values
    else printf "    return of_%s(fn(%s));\n}\n", result, values
}

# GHC's form, where it has one of its own, for each second type.
function put_stub(k,  list, integers) {
    printf "static T_%s stub%d(void *sp", result, k
    integers = 0
    for (i = 1; i <= n; i++) {
        printf ", T_%s a%d", arg[i], i
        if (!isFloat(arg[i]) && ++integers == 6 && k % 2 == 0) printf " GHC_DUMMY"
    }
    print ")\n{\n    seenStable = sp;"
    for (i = 1; i <= n; i++) printf "    seenBits[%d] = of_%s(a%d);\n", i - 1, arg[i], i
    printf "    seenCount = %d;\n    return as_%s(answerBits);\n}\n", n, result
}

BEGIN {
    state = seed % 2147483646 + 1
    for (i = 0; i < 10; i++) random(2)
    print "/* Made by foreign_types.awk. */\n#include \"foreign_types.h\"\n"
    printf "const unsigned foreignSeed = %d, foreignCount = %d;\n\n", seed, count
    for (k = 0; k < count; k++) {
        make_type()
        put_callee(k); put_caller(k)
        if (!variadic) put_stub(k)
        row[k] = sprintf("    { \"%s\", (StgFunPtr)callee%d, caller%d, %s },", text, k, k, variadic ? "NULL" : "(StgFunPtr)stub" k)
    }
    print "\nconst ForeignType foreignTypes[] = {"
    for (k = 0; k < count; k++) print row[k]
    print "};"
}

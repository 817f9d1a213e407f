#!/usr/bin/env bash
# examples/foreign prints what it should; with CAPSTAN_EMULATOR as well. And what a user meets who goes without: a managed function that nobody
# defines is named by the linker, and by dlopen.
set -u
abs_srcdir=${abs_srcdir:-$(cd "$(dirname "$0")/.." && pwd)}
abs_builddir=${abs_builddir:-$PWD}
example=$abs_builddir/examples/foreign/foreign
[ -x "$example" ] || { echo "there is no $example: build first"; exit 99; }
work=$(mktemp -d "${TMPDIR:-/tmp}/capstan-foreign.XXXXXX") || exit 99
trap 'rm -rf "$work"' EXIT
failed=0
result() {
  echo "[ RUN      ] $1"
  if [ "$2" -eq 0 ]; then echo "[       OK ] $1"; else echo "[  FAILED  ] $1"; failed=$((failed + 1)); fi
}

# shellcheck disable=SC2086
${CAPSTAN_RUN:-} "$example" >"$work/printed" && diff "$abs_srcdir/examples/foreign/expected" "$work/printed"
result example $?

cd "$work" || exit 99
echo 'foreign export ccall "c_gone" gone :: Int -> IO Int' >gone.ffi
"$CAPSTAN_FOREIGN" gone.ffi
echo '#include "gone_stub.h"
int main(void) { return (int)c_gone(1); }' >main.c
# The words of a compiler and of its flags are meant to fall apart.
# shellcheck disable=SC2086
compile() { $CC ${SAN_FLAGS:-} -Wall -I"$abs_srcdir/include" "$@"; }
compile -fPIC -c gone_stub.c -o gone_stub.o && compile -c main.c -o main.o || exit 99

# shellcheck disable=SC2086
link() { "$abs_builddir/libtool" --silent --tag=CC --mode=link $CC ${SAN_FLAGS:-} -no-install -pthread -o "$@" "$abs_builddir/libcapstan.la"; }
! link program main.o gone_stub.o 2>messages && grep -q 'undefined reference to.*gone_closure' messages
result missing_at_link_time $?

# As a plugin: the loader says which name is missing, and the host goes on.
[ -n "${CAPSTAN_SO:-}" ] || { echo "no shared library: the rest is left out"; exit $((failed > 0)); }
compile -shared -o plugin.so gone_stub.o || exit 99
cat >host.c <<'HOST'
#include <dlfcn.h>
#include <stdio.h>
#include <HsFFI.h>
int main(int argc, char **argv)
{
    hs_init(&argc, &argv);
    void *plugin = dlopen("./plugin.so", RTLD_NOW);
    printf("%s\n", plugin == NULL ? dlerror() : "loaded");
    hs_perform_gc();
    hs_exit();
    return 0;
}
HOST
compile -c host.c -o host.o && link host host.o || exit 99
# shellcheck disable=SC2086
${CAPSTAN_RUN:-} ./host >printed && grep -q 'undefined symbol: gone_closure' printed
result missing_at_load_time $?

# A plugin that is loaded while the runtime runs: its exports are registered, and it is in use until a full collection finds nothing that refers to it.
echo 'foreign export ccall "plug_pair" pair :: Int -> IO (StablePtr a)
foreign export ccall "plug_first" first :: StablePtr a -> IO Int' >plug.ffi
"$CAPSTAN_FOREIGN" plug.ffi
cat >plug.c <<'PLUG'
#include <Rts.h>
#include <rts/Managed.h>
CAPSTAN_CON(Pair, 0, first, second)
CAPSTAN_IO(pair, n)
{
    n = rts_force(stack, n);
    return rts_mkStablePtr(stack->cap, getStablePtr((StgPtr)Pair_new(stack->cap, n, n)));
}
CAPSTAN_IO(first, p)
{
    p = (HaskellObj)deRefStablePtr(rts_getStablePtr(rts_force(stack, p)));
    return CAPSTAN_GET(Pair, p, first);
}
PLUG
compile -fPIC -c plug.c -o plug.o && compile -fPIC -c plug_stub.c -o plug_stub.o && compile -shared -o plug.so plug.o plug_stub.o || exit 99
cp "$abs_srcdir/tests/foreign/host.c" . && compile -D_GNU_SOURCE -c host.c -o host.o && link host host.o || exit 99
# shellcheck disable=SC2086
${CAPSTAN_RUN:-} ./host
result loaded_while_it_runs $?
[ $failed -eq 0 ] || exit 1

#!/usr/bin/env bash
# Modules that are loaded with dlopen, register exports, and are closed by the host while something refers to them: tests/foreign/modules.c.
set -u
abs_srcdir=${abs_srcdir:-$(cd "$(dirname "$0")/.." && pwd)}
abs_builddir=${abs_builddir:-$PWD}
[ -n "${CAPSTAN_SO:-}" ] || { echo "there is no shared library, which modules need"; exit 77; }
work=$(mktemp -d "${TMPDIR:-/tmp}/capstan-unload.XXXXXX") || exit 99
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 99
cp "$abs_srcdir"/tests/foreign/{plug.ffi,plug.c,plug.h,modules.c} . || exit 99
"$CAPSTAN_FOREIGN" plug.ffi || exit 99
# The words of a compiler and of its flags are meant to fall apart.
# shellcheck disable=SC2086
compile() { $CC ${SAN_FLAGS:-} -O1 -g -Wall -Wextra -I"$abs_srcdir/include" "$@"; }
compile -fPIC -c plug.c && compile -fPIC -c plug_stub.c && compile -shared -o plug.so plug.o plug_stub.o || exit 99
for copy in 1 2 3; do cp plug.so plug$copy.so || exit 99; done
compile -D_GNU_SOURCE -c modules.c || exit 99
# shellcheck disable=SC2086
"$abs_builddir/libtool" --silent --tag=CC --mode=link $CC ${SAN_FLAGS:-} -no-install -pthread -o modules modules.o "$abs_builddir/libcapstan.la" || exit 99
rounds=60
[ "${CAPSTAN_TEST_SCALE:-}" != short ] || rounds=20
# shellcheck disable=SC2086
exec ${CAPSTAN_RUN:-} ./modules $rounds

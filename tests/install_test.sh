#!/usr/bin/env bash
# What a newcomer does: installs, pastes the program of README.md, compiles it
# by pkg-config, runs it and sees what README.md promises; once with the
# shared library, once with the static one.
#
# README.md marks the program by a line "<!-- example: main -->" before its
# fence, and what it prints by "<!-- output: main -->".
set -u
readme=$abs_srcdir/README.md

# block KIND: the text of the fence that follows the mark
block() {
  awk -v mark="<!-- $1: main -->" '
    index($0, mark) == 1 { wanted = 1; next }
    wanted && /^```/ { if (inside) exit; inside = 1; next }
    inside { print }' "$readme" 2>/dev/null
}
program=$(block example)
[ -n "$program" ] || { echo "README.md has no '<!-- example: main -->' yet"; exit 77; }
pkg_config=${PKG_CONFIG:-pkg-config}
"$pkg_config" --version >/dev/null 2>&1 || { echo "no pkg-config"; exit 77; }

work=$(mktemp -d "${TMPDIR:-/tmp}/capstan-install.XXXXXX") || exit 99
trap 'rm -rf "$work"' EXIT
root=$work/root
unset MAKEFLAGS MFLAGS MAKELEVEL
"${MAKE:-make}" -C "$abs_builddir" install DESTDIR="$root" >"$work/install.log" 2>&1 ||
  { cat "$work/install.log"; echo "make install failed"; exit 1; }

export PKG_CONFIG_SYSROOT_DIR=$root PKG_CONFIG_ALLOW_SYSTEM_LIBS=1
export PKG_CONFIG_PATH=$root$libdir/pkgconfig
printf '%s\n' "$program" >"$work/main.c"
block output >"$work/expected"

# try NAME LIBS…: compiles, runs, compares
status=0
try() {
  local name=$1
  shift
  # The words of CC and of the flags are meant to fall apart. Nobody's host
  # is compiled with our flags, but for those that a sanitizer needs.
  # shellcheck disable=SC2046,SC2086
  if ! $CC $SAN_FLAGS -Wall -Wextra -Werror $("$pkg_config" --cflags capstan) \
      -o "$work/$name" "$work/main.c" "$@"; then
    echo "$name: does not compile"
    status=1
    return
  fi
  LD_LIBRARY_PATH="$root$libdir${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" \
    ${CAPSTAN_RUN:-} "$work/$name" >"$work/$name.out" 2>"$work/$name.err" ||
    { echo "$name: exit status $?"; cat "$work/$name.err"; status=1; }
  diff "$work/expected" "$work/$name.out" ||
    { echo "$name: prints other lines than README.md says"; status=1; }
}

version=$("$pkg_config" --modversion capstan) || { echo "capstan.pc is not found"; exit 1; }
for header in Rts.h RtsAPI.h HsFFI.h Stg.h; do
  # shellcheck disable=SC2046,SC2086
  echo "#include <$header>" | $CC $("$pkg_config" --cflags capstan) -std=c11 \
    -Wall -Wextra -Werror -fsyntax-only -x c - ||
    { echo "$header cannot be included by itself"; status=1; }
done
# shellcheck disable=SC2046
[ -z "$CAPSTAN_SO" ] || try shared $("$pkg_config" --libs capstan)
if [ -f "$root$libdir/libcapstan.a" ]; then
  # shellcheck disable=SC2046
  try static $("$pkg_config" --static --libs capstan | sed 's/-lcapstan/-l:libcapstan.a/')
  # One object whose inner names are local, where objcopy could do that.
  [ -z "$CAPSTAN_ARCHIVE" ] || cmp "$CAPSTAN_ARCHIVE" "$root$libdir/libcapstan.a" ||
    { echo "the archive was installed with its inner names"; status=1; }
fi
# capstan-foreign is found, and what examples/foreign/Makefile does with it works.
foreignExample() {
  local tool=${CAPSTAN_EMULATOR:+$CAPSTAN_FOREIGN}
  : "${tool:=$root$("$pkg_config" --variable=foreign capstan | sed "s|^$root||")}"
  [ -f "$root$mandir/man1/capstan-foreign.1" ] || { echo "there is no man page"; return 1; }
  cp "$abs_srcdir"/examples/foreign/{main.c,managed.c,shelf.ffi,Makefile} "$work/example/" && chmod -R u+w "$work/example" &&
    "${MAKE:-make}" -s -C "$work/example" CC="$CC $SAN_FLAGS" FOREIGN="$tool" shelf &&
    LD_LIBRARY_PATH="$root$libdir${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" ${CAPSTAN_EMULATOR:-} "$work/example/shelf" >"$work/shelf.out" &&
    diff "$abs_srcdir/examples/foreign/expected" "$work/shelf.out"
}
mkdir -p "$work/example"
[ -z "$CAPSTAN_SO" ] || foreignExample || { echo "examples/foreign does not work where it is installed"; status=1; }
[ $status -ne 0 ] || echo "capstan $version installs, and README.md's program runs"
exit $status

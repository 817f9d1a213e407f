#!/usr/bin/env bash
# include/capstan.hpp: compiled without a warning as C++17 and C++20 by every C++ compiler here, with all the C headers; tests/hpp_test.cpp
# and the program of doc/foreign.md run as each of them compiles it.
set -u
abs_srcdir=${abs_srcdir:-$(cd "$(dirname "$0")/.." && pwd)}
abs_builddir=${abs_builddir:-$PWD}
include=$abs_srcdir/include
[ -n "${CAPSTAN_SO:-}" ] || { echo "no shared library was built"; exit 77; }

# A short run takes the one that goes with CC.  Another compiler's sanitizers are other ones, and only configure knows one that makes programs for another processor.
compilers=("${CXX:-g++}")
if [ -n "${CAPSTAN_SANITIZERS:-}" ] || [ "${CAPSTAN_TEST_SCALE:-}" = short ] && [ -z "${CAPSTAN_EMULATOR:-}" ]; then
  case ${CC:-gcc} in *clang*) compilers=(clang++) ;; *) compilers=(g++) ;; esac
elif [ -z "${CAPSTAN_EMULATOR:-}" ]; then
  mapfile -t compilers < <(printf '%s\n' "${compilers[@]}" g++ clang++ | sort -u | grep -vx no)
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/capstan-hpp.XXXXXX") || exit 99
trap 'rm -rf "$work"' EXIT
status=0
tried=0
warnings="-Wall -Wextra -Wpedantic -Werror"
# Unwind tables, for destructors are to run behind it: not every processor's compiler makes them for C unasked.
# The words of CC and of the flags are meant to fall apart.
# shellcheck disable=SC2086
${CC:-gcc} ${SAN_FLAGS:-} -std=gnu11 -g -O1 -fPIC -fasynchronous-unwind-tables -pthread -Wall -Wextra -Werror -D_GNU_SOURCE -I"$include" -c "$abs_srcdir/tests/hpp_managed.c" \
  -o "$work/managed.o" || exit 1

# block KIND: the text of the fence in doc/foreign.md that follows the mark
block() {
  awk -v mark="<!-- $1: cpp -->" '
    index($0, mark) == 1 { wanted = 1; next }
    wanted && /^```/ { if (inside) exit; inside = 1; next }
    inside { print }' "$abs_srcdir/doc/foreign.md"
}
block example >"$work/example.cpp"
block output >"$work/expected"
[ -s "$work/example.cpp" ] || { echo "doc/foreign.md has no example"; status=1; }

# compile COMPILER SOURCE OBJECT... PROGRAM
# shellcheck disable=SC2086
compile() {
  $1 ${SAN_FLAGS:-} -std=c++17 -g -O1 -pthread $warnings -I"$include" "${@:2:$#-2}" \
    -L"$(dirname "$CAPSTAN_SO")" -lcapstan -Wl,-rpath,"$(dirname "$CAPSTAN_SO")" -o "${!#}" || { echo "FAILED: by $1"; status=1; return 1; }
}

# try COMPILER
# shellcheck disable=SC2086
try() {
  local standard text program=$work/test
  for standard in c++17 c++20; do
    for text in '#include <capstan.hpp>' '#include <Rts.h>' '#include <Stg.h>'; do
      printf '%s\n%s\n' "$text" "$text" |
        $1 -x c++ -std=$standard $warnings -I"$include" -fsyntax-only - || { echo "FAILED: $text as $standard by $1"; status=1; }
    done
  done
  $1 -std=c++20 $warnings -I"$include" -fsyntax-only "$abs_srcdir/tests/hpp_test.cpp" || { echo "FAILED: as C++20 by $1"; status=1; }
  compile "$1" "$work/example.cpp" "$program" && timeout 60 ${CAPSTAN_RUN:-} "$program" >"$work/printed"
  diff "$work/expected" "$work/printed" || { echo "FAILED: the program of doc/foreign.md, by $1"; status=1; }
  compile "$1" "$abs_srcdir/tests/hpp_test.cpp" "$work/managed.o" "$program" || return
  echo "== $1"
  timeout 250 ${CAPSTAN_RUN:-} "$program" | sed "s|^\(\[[A-Z ]*\] .*\)|\1 ($1)|"
  [ "${PIPESTATUS[0]}" -eq 0 ] || { echo "FAILED: as $1 compiles it"; status=1; }
}

for cxx in "${compilers[@]}"; do
  command -v "${cxx%% *}" >/dev/null || { echo "no $cxx: not tried"; continue; }
  tried=$((tried + 1))
  try "$cxx"
done
[ $tried -gt 0 ] || { echo "no C++ compiler"; exit 77; }
exit $status

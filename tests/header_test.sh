#!/usr/bin/env bash
# Each public header compiles alone, as C11 by gcc and clang without a warning; those that a C++ host needs as C++17 too.
set -u
abs_srcdir=${abs_srcdir:-$(cd "$(dirname "$0")/.." && pwd)}
include=$abs_srcdir/include
status=0
count=0

# try COMPILER LANGUAGE STANDARD HEADER
try() {
  if printf '#include <%s>\n#include <%s>\nint main(void) { return 0; }\n' "$4" "$4" |
      "$1" -x "$2" -std="$3" -Wall -Wextra -Werror -I"$include" -fsyntax-only -; then
    count=$((count + 1))
  else
    echo "FAILED: $4 as $3 by $1"
    status=1
  fi
}

headers=$(cd "$include" && find . -name '*.h' | sed 's|^\./||' | sort)
for cc in gcc clang; do
  command -v $cc >/dev/null || { echo "no $cc"; continue; }
  for header in $headers; do
    try $cc c c11 "$header"
    try $cc c gnu11 "$header"
  done
done
for cxx in g++ clang++; do
  command -v $cxx >/dev/null || { echo "no $cxx"; continue; }
  for header in HsFFI.h RtsAPI.h rts/Types.h rts/Config.h; do try $cxx c++ c++17 $header; done
done
[ $count -gt 0 ] || { [ $status -ne 0 ] || { echo "no compiler to try"; exit 77; }; }
echo "$count headers compiled"
exit $status

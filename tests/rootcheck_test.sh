#!/usr/bin/env bash
# tools/rootcheck finds the mistakes planted in tests/rootcheck, in their lines and of their kinds, and nothing else; nor
# anything in the examples of doc/managed-c.md but in the one that is there to be wrong.
#
# A line with a planted mistake says "expect: KIND" in a comment, with one KIND for each message.
set -u
abs_srcdir=${abs_srcdir:-$(cd "$(dirname "$0")/.." && pwd)}
export LC_ALL=C.UTF-8
unset CLANG

command -v python3 >/dev/null || { echo "there is no python3"; exit 77; }
"$abs_srcdir/tools/rootcheck" "$abs_srcdir/tests/rootcheck/right.c" >/dev/null 2>&1
[ $? -ne 77 ] || { echo "there is no clang"; exit 77; }
work=$(mktemp -d "${TMPDIR:-/tmp}/capstan-rootcheck.XXXXXX") || exit 99
trap 'rm -rf "$work"' EXIT
failed=0 passed=0

# result NAME STATUS: cmocka's form, so that the driver counts each case
result() {
  echo "[ RUN      ] $1"
  if [ "$2" -eq 0 ]; then
    echo "[       OK ] $1"
    passed=$((passed + 1))
  else
    echo "[  FAILED  ] $1"
    failed=$((failed + 1))
  fi
}

rootcheck() { "$abs_srcdir/tools/rootcheck" -I"$abs_srcdir/include" "$@"; }

# FILE:LINE KIND for each mistake planted in these files
planted() {
  awk '{ if (!match($0, /expect: [a-z, ]+/)) next
         n = split(substr($0, RSTART + 8, RLENGTH - 8), kinds, /[, ]+/)
         for (i = 1; i <= n; i++) if (kinds[i] != "") print FILENAME ":" FNR " " kinds[i] }' "$@" | sort
}

# planted_in NAME FILE…: a program, with the mistakes that it must have
planted_in() {
  local name=$1 status
  shift
  planted "$@" >"$work/planted"
  rootcheck "$@" >"$work/out" 2>&1
  status=$?
  sed -nE 's/^([^:]+:[0-9]+):[0-9]+: .* \[([a-z]+)\]$/\1 \2/p' "$work/out" | sort >"$work/found"
  if diff "$work/planted" "$work/found" >"$work/diff" && [ $status -eq "$([ -s "$work/planted" ] && echo 1 || echo 0)" ]; then
    result "$name: $(wc -l <"$work/planted") mistakes" 0
  else
    echo "$name: status $status; < is planted, > is found"
    cat "$work/diff" "$work/out"
    result "$name" 1
  fi
}

cd "$abs_srcdir/tests/rootcheck" || exit 99
for file in *.c; do
  case $file in
    two_a.c) planted_in "two files" two_a.c two_b.c ;;
    two_b.c) ;;
    *) planted_in "${file%.c}" "$file" ;;
  esac
done

# What a comment silences can be seen all the same.
rootcheck --silenced silenced.c | grep -c ' silenced (only static closures come here): ' >"$work/count"
result "silenced" "$([ "$(cat "$work/count")" = 2 ]; echo $?)"

# The examples of the guide are one program; "roots" is the one that is wrong, as the text says.
{
  echo '#include <Rts.h>'
  printf '#include <%s.h>\n' errno stdlib string time unistd
  awk '/^<!-- example: / { name = $3; next }
       /^```c/ && name != "" { inside = 1; print "/* " name " */"; next }
       /^```/ { inside = 0; name = ""; next }
       inside' "$abs_srcdir/doc/managed-c.md"
} >"$work/guide.c"
rootcheck "$work/guide.c" >"$work/out" 2>&1
status=$?
from=$(grep -n '^/\* roots \*/' "$work/guide.c" | cut -d: -f1)
to=$(grep -n '^/\* rooted \*/' "$work/guide.c" | cut -d: -f1)
awk -F: -v from="$from" -v to="$to" '$2 <= from || $2 >= to { print; bad = 1 } END { exit bad || NR != 4 }' "$work/out"
result "the guide's examples" $?
[ $status -eq 1 ] || cat "$work/out"

# Bad input.
rootcheck no-such-file.c >"$work/out" 2>&1
result "no such file" "$([ $? -eq 2 ] && grep -q 'no-such-file.c: no such file' "$work/out"; echo $?)"
echo 'int f( {' >"$work/broken.c"
rootcheck "$work/broken.c" >"$work/out" 2>&1
result "what does not compile" "$([ $? -eq 2 ] && grep -q 'broken.c:1:' "$work/out"; echo $?)"
rootcheck >"$work/out" 2>&1
result "no files" "$([ $? -eq 2 ]; echo $?)"
rootcheck --nonsense right.c >"$work/out" 2>&1
result "an unknown option" "$([ $? -eq 2 ]; echo $?)"
CLANG=/no/such/clang rootcheck right.c >"$work/out" 2>&1
result "no clang" "$([ $? -eq 77 ]; echo $?)"

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]

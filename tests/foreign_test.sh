#!/usr/bin/env bash
# capstan-foreign by itself: what it writes (foreign/good), what it says of mistakes (foreign/bad), GHC's prototypes, its command line, and that
# stubs compile as C and as C++ without a warning.
#
#   $CAPSTAN_FOREIGN     the program
#   $CAPSTAN_GHC_STUBS   a folder with S*.hs and stubs/ by GHC (left out where there is none)
#   foreign_test.sh --write   makes the expected files anew from what it writes now: then read the diff
set -u
abs_srcdir=${abs_srcdir:-$(cd "$(dirname "$0")/.." && pwd)}
tool=${CAPSTAN_FOREIGN:-./capstan-foreign}
stubs=${CAPSTAN_GHC_STUBS:-$abs_srcdir/../shared/ghc-stubs}
here=$abs_srcdir/tests/foreign
export LC_ALL=C
case $tool in /*) ;; *) tool=$PWD/$tool ;; esac
[ -x "$tool" ] || { echo "there is no $tool: build first"; exit 99; }
work=$(mktemp -d "${TMPDIR:-/tmp}/capstan-foreign.XXXXXX") || exit 99
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
cd "$work" || exit 99
failed=0

# result NAME STATUS: cmocka's form, so that the driver counts each case
result() {
  echo "[ RUN      ] $1"
  if [ "$2" -eq 0 ]; then echo "[       OK ] $1"; else echo "[  FAILED  ] $1"; failed=$((failed + 1)); fi
}

# ---- What it writes -----------------------------------------------------------------------------------------------

# names NAME: how closures are named in that file
names() { case $1 in wrapper) echo ghc ;; modules) echo module ;; *) echo plain ;; esac; }

makeGood() { # NAME
  (cd "$here/good" && "$tool" --target=x86_64 --closure-names="$(names "$1")" -o "$work/$1_stub.c" "$1.ffi") >"$work/out" 2>&1 || { cat "$work/out"; return 1; }
}
makeBad() { # NAME: its messages, and its status in the last line
  local status=0
  (cd "$here/bad" && "$tool" --target=x86_64 -o "$work/bad_stub.c" "$1.ffi") >"$work/$1.err" 2>&1 || status=$?
  echo "status $status" >>"$work/$1.err"
  [ ! -e "$work/bad_stub.c" ] && [ ! -e "$work/bad_stub.h" ]
}

if [ "${1:-}" = --write ]; then
  for file in "$here"/good/*.ffi; do
    name=$(basename "$file" .ffi)
    makeGood "$name" && cp "${name}_stub.c" "$here/good/$name.c.expected" && cp "${name}_stub.h" "$here/good/$name.h.expected"
  done
  for file in "$here"/bad/*.ffi; do
    name=$(basename "$file" .ffi)
    makeBad "$name"
    cp "$name.err" "$here/bad/"
  done
  exit
fi

for file in "$here"/good/*.ffi; do
  name=$(basename "$file" .ffi)
  makeGood "$name" && diff "$here/good/$name.c.expected" "${name}_stub.c" && diff "$here/good/$name.h.expected" "${name}_stub.h"
  result "writes_$name" $?
done
for file in "$here"/bad/*.ffi; do
  name=$(basename "$file" .ffi)
  makeBad "$name" && diff "$here/bad/$name.err" "$name.err"
  result "refuses_$name" $?
done

# ---- Compilers ----------------------------------------------------------------------------------------------------

# The words of a compiler and of its flags are meant to fall apart.
compiles() { # COMPILER…: all that was written, and the headers by themselves
  local file
  for file in ./*_stub.c; do
    "$@" -Wall -Wextra -Werror -O1 -I"$abs_srcdir/include" -I. -c "$file" -o object.o || return 1
    echo "#include \"${file#./}\"" | sed 's/\.c"$/.h"/' >header.c
    cat header.c header.c >headers.c # twice
    "$@" -Wall -Wextra -Werror -I"$abs_srcdir/include" -I. -fsyntax-only headers.c || return 1
  done
}
rm -f ./*_stub.[ch]
for name in good/modules good/owners good/wrapper calls cross; do
  "$tool" --closure-names="$(names "${name#good/}")" -o "$(basename "$name")_stub.c" "$here/$name.ffi" || result "makes_$name" 1
done
# What is made for this processor is compiled for it: in a cross build by its compiler alone.
if [ -z "${CAPSTAN_EMULATOR:-}" ]; then
  for cc in gcc clang; do ! command -v $cc >/dev/null || { compiles $cc -std=c11 -x c; result "compiles_by_$cc" $?; }; done
  for cxx in g++ clang++; do
    ! command -v $cxx >/dev/null || { compiles $cxx -std=c++17 -x c++; result "compiles_by_$cxx" $?; }
  done
else
  # shellcheck disable=SC2086
  compiles $CC -std=c11 -x c
  result "compiles_by_the_cross_compiler" $?
fi
# Types of other widths: a stub for one processor is refused by the compiler of another.
if [ "${CAPSTAN_ARCH:-x86_64}" = x86_64 ]; then other=riscv64; else other=x86_64; fi
echo 'foreign export ccall f :: CNlink -> IO ()' >width.ffi
"$tool" --target=$other width.ffi && ! ${CC:-cc} -I"$abs_srcdir/include" -fsyntax-only width_stub.c 2>width.err && grep -q -- '--target' width.err &&
  "$tool" --target="${CAPSTAN_ARCH:-x86_64}-linux-gnu" width.ffi && ${CC:-cc} -I"$abs_srcdir/include" -fsyntax-only width_stub.c
result "knows_the_target" $?

# ---- GHC ------------------------------------------------------------------------------------------------------------

# The prototypes of a header, one a line, as on x86-64; NAME_try is nobody's but ours.
prototypes() {
  tr '\n' ' ' <"$1" | sed -E 's/#(if defined\(__x86_64__\)|endif)//g; s/;/;\n/g' | tr -s ' ' | sed -E 's/^.*(extern [^"]*\(.*);$/\1/; s/ ,/,/g; s/\( /(/g' |
    grep '^extern.*(' | grep -v '_try' | LC_ALL=C sort
}
asGhc() { # NAME
  grep -E '^(module|import|foreign|type|newtype) ' "$stubs/$1.hs" >"$1.ffi" &&
    "$tool" --target=x86_64 --closure-names=ghc -o "$1_stub.c" "$1.ffi" && prototypes "$1_stub.h" >ours && prototypes "$stubs/stubs/$1_stub.h" >theirs &&
    [ -s theirs ] && diff theirs ours &&
    diff <(grep '^extern StgClosure.*fstable' "$stubs/stubs/$1_stub.c" | sort) <(grep '^extern StgClosure.*fstable' "$1_stub.c" | sort)
}
if [ -d "$stubs/stubs" ]; then
  for name in S1Prims S2Arity S3CTypes S4Wrapper; do asGhc $name; result "as_ghc_$name" $?; done
else
  echo "no stubs by GHC in $stubs: left out"
fi

# ---- The command line ---------------------------------------------------------------------------------------------

echo 'foreign export ccall f :: Int -> IO Int' >f.ffi
fails() { # STATUS PATTERN ARGUMENT…: ends so, says that, and leaves no file
  local status=$1 pattern=$2
  shift 2
  rm -rf out && mkdir out
  "$tool" "$@" >messages 2>&1
  [ $? -eq "$status" ] && grep -q -- "$pattern" messages && [ -z "$(ls -A out)" ] && return
  cat messages
  ls -A out
  return 1
}
fails 2 'expected a file'; result "no_file" $?
fails 2 'expected one file' f.ffi f.ffi; result "two_files" $?
fails 2 'wrong option' --nonsense f.ffi; result "wrong_option" $?
fails 2 'expected plain, module or ghc' --closure-names=own f.ffi; result "wrong_names" $?
fails 2 'expected x86_64, aarch64 or riscv64' --target=vax f.ffi; result "wrong_target" $?
fails 2 'two files with one name' -o f.ffi f.ffi; result "output_is_input" $?
fails 2 'give -o' -; result "standard_input_without_o" $?
fails 1 'cannot read none.ffi: No such file' -o out/f.c none.ffi; result "unreadable" $?
fails 1 'cannot read out: Is a directory' out; result "folder_as_input" $?
fails 1 'cannot write none/f.c: No such file' -o none/f.c --header=out/f.h f.ffi; result "unwritable_folder" $?
fails 1 'cannot write none/f.h: No such file' -o out/f.c --header=none/f.h f.ffi; result "unwritable_header" $?
[ ! -w /dev/full ] || { fails 1 'cannot write /dev/full: No space' -o /dev/full --header=out/f.h f.ffi; result "full_disk" $?; }
if (ulimit -f 0; trap '' XFSZ; ! echo x >limited) 2>/dev/null; then
  (ulimit -f 0; trap '' XFSZ; rm -rf out; mkdir out; "$tool" -o out/f.c f.ffi) 2>limit.err
  [ $? -eq 1 ] && [ -z "$(ls -A out)" ]
  result "no_half_written_file" $?
fi
"$tool" --help | grep -q -- --closure-names && "$tool" --version | grep -q '^capstan-foreign [0-9]'; result "help_and_version" $?
"$tool" --check f.ffi && [ ! -e f_stub.c ]; result "check_writes_nothing" $?
"$tool" f.ffi && [ -s f_stub.c ] && [ -s f_stub.h ]; result "default_names" $?
touch -d '2001-01-01' f_stub.c f_stub.h && "$tool" f.ffi && [ ! f_stub.c -nt f_stub.h ] && [ "$(date -r f_stub.c +%Y)" = 2001 ]; result "leaves_what_is_right" $?
"$tool" -o - --header=in.h - <f.ffi >standard.c && sed 's/standard input/f.ffi/' standard.c | cmp - f_stub.c; result "standard_input_and_output" $?
mkdir -p deps && cp f.ffi deps/ && "$tool" -M deps/f.d -o deps/f.c deps/f.ffi && diff deps/f.d - <<'RULE'
deps/f.c deps/f.h: deps/f.ffi

deps/f.ffi:
RULE
result "dependencies" $?
"$tool" --no-try -o g.c f.ffi && ! grep -q _try g.c g.h; result "no_try" $?

[ $failed -eq 0 ] || exit 1

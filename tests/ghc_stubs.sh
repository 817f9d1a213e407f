#!/usr/bin/env bash
# GHC's generated stubs compile unchanged and run, with managed functions of ours behind their closure names.
#
#   $CAPSTAN_GHC_STUBS   a folder with stubs/*_stub.{c,h}, acceptance.c and acceptance.expected, the output under GHC
#                        itself (default: ../shared/ghc-stubs beside the sources); the functions are in ghc_closures.c
#   ghc, if installed    makes stubs of ghc/Calls.hs; the functions and the host are in ghc/calls_host.c
#
# With neither the test is skipped.
set -u
abs_srcdir=${abs_srcdir:-$(cd "$(dirname "$0")/.." && pwd)}
abs_builddir=${abs_builddir:-$PWD}
stubs=${CAPSTAN_GHC_STUBS:-$abs_srcdir/../shared/ghc-stubs}
tests=$abs_srcdir/tests
library=$abs_builddir/libcapstan.la
[ -f "$library" ] || { echo "there is no $library: build first"; exit 99; }

work=$(mktemp -d "${TMPDIR:-/tmp}/capstan-ghc.XXXXXX") || exit 99
trap 'rm -rf "$work"' EXIT
status=0
fail() { echo "FAILED: $*"; status=1; }

# A sanitizer's runtime must be the one that the library was built for; and so must the processor.
compilers=()
if [ -n "${SAN_FLAGS:-}${CAPSTAN_EMULATOR:-}" ]; then
  compilers=("${CC:-cc}")
else
  for cc in gcc clang; do command -v $cc >/dev/null && compilers+=("$cc"); done
  [ ${#compilers[@]} -gt 0 ] || compilers=("${CC:-cc}")
fi

# The words of a compiler and of its flags are meant to fall apart.
# shellcheck disable=SC2086
compile() { # CC STANDARD SOURCE OBJECT FLAG…
  local cc=$1 standard=$2 source=$3 object=$4
  shift 4
  $cc ${SAN_FLAGS:-} -O1 -g -std="$standard" -Wall -Werror -I"$abs_srcdir/include" "$@" -c "$source" -o "$object"
}

# shellcheck disable=SC2086
link() { # CC PROGRAM OBJECT…
  local cc=$1 program=$2
  shift 2
  "$abs_builddir/libtool" --silent --tag=CC --mode=link $cc ${SAN_FLAGS:-} -no-install -pthread -o "$program" "$@" \
    "$library"
}

# ---- The folder of stubs ------------------------------------------------------------------------------------------

# The stubs that adjustors call have, where they have six integers or more, a parameter on x86-64 that they have nowhere else (doc/foreign.md); this folder's
# are from there.
case $(${CC:-cc} -dumpmachine) in
  x86_64*) other_text= ;;
  *) other_text='\<(newTen|newAlt)[(]' ;;
esac

# The lines of acceptance.c without those, and of acceptance.expected without what they would have printed.
cutAcceptance() {
  if [ -z "$other_text" ]; then
    cp "$stubs/acceptance.c" "$stubs/acceptance.expected" "$work"
    return
  fi
  sed -E "/$other_text/d" "$stubs/acceptance.c" >"$work/acceptance.c"
  grep -E "$other_text" "$stubs/acceptance.c" >"$work/dropped" || true
  awk -v dropped="$work/dropped" '
    BEGIN { while ((getline line < dropped) > 0) text = text line "\n" }
    { call = $0; sub(/ = [^=]*$/, "", call) }
    !index(text, "(" call ");")' "$stubs/acceptance.expected" >"$work/acceptance.expected"
}

runAcceptance() { # CC
  local cc=$1 out=$work/${1##*/} stub name
  local objects=()
  mkdir -p "$out"
  for stub in "$stubs"/stubs/*_stub.c; do
    name=$(basename "$stub" .c)
    compile "$cc" c11 "$stub" "$out/$name.o" || { fail "$name.c does not compile with $cc"; return; }
    objects+=("$out/$name.o")
  done
  compile "$cc" gnu11 "$tests/ghc_closures.c" "$out/closures.o" || { fail "ghc_closures.c: $cc"; return; }
  compile "$cc" c11 "$work/acceptance.c" "$out/acceptance.o" -I"$stubs/stubs" || { fail "acceptance.c: $cc"; return; }
  link "$cc" "$out/acceptance" "$out/acceptance.o" "$out/closures.o" "${objects[@]}" ||
    { fail "the acceptance program does not link with $cc"; return; }
  ${CAPSTAN_RUN:-} "$out/acceptance" >"$out/lines" || fail "the acceptance program, $cc: status $?"
  if diff "$work/acceptance.expected" "$out/lines"; then
    echo "$cc: $(wc -l <"$out/lines") of $total lines as from GHC"
  else
    fail "the acceptance program compiled by $cc prints other lines"
  fi
}

ran=no
if [ -f "$stubs/acceptance.c" ]; then
  ran=yes
  cutAcceptance
  total=$(wc -l <"$stubs/acceptance.expected")
  # A cut that goes wrong must not pass for a test of everything.
  [ "$(wc -l <"$work/acceptance.expected")" -ge $((total - 2)) ] || fail "of $total expected lines the cut left $(wc -l <"$work/acceptance.expected")"
  for cc in "${compilers[@]}"; do runAcceptance "$cc"; done
else
  echo "no stubs in $stubs"
fi

# ---- Stubs made now -----------------------------------------------------------------------------------------------

# The text of a stub is among the files that ghc keeps if asked to.
makeStub() {
  mkdir -p "$work/made/tmp"
  (cd "$work/made" && ghc -v0 -keep-tmp-files -tmpdir tmp -outputdir . -stubdir . -c "$tests/ghc/Calls.hs" -o Calls.o) ||
    return
  stub=$(grep -rl --include='*.c' 'rts_lock' "$work/made/tmp" | head -n 1)
  [ -n "$stub" ] && cp "$stub" "$work/made/Calls_stub.c" &&
    sed -nE 's/^extern StgClosure (.*ZZC([A-Za-z0-9]+))_closure;$/#define CALLS_\2 \1/p' "$stub" >"$work/made/names.h"
}

runCalls() { # CC
  local cc=$1 out=$work/made
  compile "$cc" c11 "$out/Calls_stub.c" "$out/stub.o" || { fail "the stub of Calls.hs does not compile with $cc"; return; }
  compile "$cc" gnu11 "$tests/ghc/calls_host.c" "$out/host.o" -I"$out" -include "$out/names.h" ||
    { fail "calls_host.c: $cc"; return; }
  link "$cc" "$out/calls" "$out/host.o" "$out/stub.o" || { fail "the host of Calls.hs does not link with $cc"; return; }
  if ${CAPSTAN_RUN:-} "$out/calls"; then echo "$cc: stubs made by ghc $(ghc --numeric-version) work"
  else fail "the host of Calls.hs compiled by $cc: status $?"; fi
}

if command -v ghc >/dev/null; then
  ran=yes
  if makeStub; then
    for cc in "${compilers[@]}"; do runCalls "$cc"; done
  else
    fail "ghc made no stub of Calls.hs"
  fi
fi
[ $ran = yes ] || { echo "neither a folder of stubs nor ghc: nothing to compile"; exit 77; }
exit $status

#!/usr/bin/env bash
# bench/binary-trees and bench/gcbench lose and win no node, with one worker and with several, on a small nursery, and with the heap checked
# around each collection; and they refuse what makes no sense.
#
#   BINARY_TREES, GCBENCH   the programs (default: those of the build)
#   CAPSTAN_TEST_SCALE=short   smaller trees
set -u
trees=${BINARY_TREES:-./bench/binary-trees}
gcbench=${GCBENCH:-./bench/gcbench}
for program in "$trees" "$gcbench"; do
  [ -x "$program" ] || { echo "$program was not built"; exit 77; }
done
failed=0 passed=0
depth=12 checked=8 sizes=(12 10 5000) many=100000
if [ "${CAPSTAN_TEST_SCALE:-}" = short ]; then depth=7 checked=6 sizes=(7 6 1000) many=3000; fi

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

nodes() { echo $(((2 << $1) - 1)); } # of a full tree of that depth

# What binary-trees must print for a depth.
expectedTrees() {
  local d
  printf 'stretch tree of depth %d\t check: %d\n' $(($1 + 1)) "$(nodes $(($1 + 1)))"
  for ((d = 4; d <= $1; d += 2)); do
    printf '%d\t trees of depth %d\t check: %d\n' $((1 << ($1 - d + 4))) $d $(($(nodes $d) << ($1 - d + 4)))
  done
  printf 'long lived tree of depth %d\t check: %d\n' "$1" "$(nodes "$1")"
}

# What gcbench must print, but for the times.
expectedBench() { # expectedBench STRETCH LONG-LIVED ELEMENTS
  local d
  echo "stretch tree of depth $1: $(nodes "$1") nodes"
  for ((d = 4; d <= $2; d += 2)); do
    echo "$((2 * $(nodes "$1") / $(nodes $d))) trees of depth $d: top down $(nodes $d) nodes, bottom up $(nodes $d) nodes"
  done
  echo "long-lived tree of depth $2: $(nodes "$2") nodes; array of $3 elements: right"
}

# same NAME EXPECTED OPTIONS PROGRAM ARG…: that output, with these options of the runtime
same() {
  local name=$1 expected=$2 options=$3 got status=0
  shift 3
  got=$(CAPSTANRTS=$options ${CAPSTAN_RUN:-} "$@" 2>&1) || { echo "exit status $?"; status=1; }
  got=$(sed -e 's/; [0-9.]* and [0-9.]* ms$//' -e '/^[0-9.]* ms in all$/d' <<<"$got")
  [ "$got" = "$expected" ] || { diff <(echo "$expected") <(echo "$got") | head -n 10; status=1; }
  result "$name" $status
}

fails() { # fails NAME STATUS PATTERN OPTIONS PROGRAM ARG…
  local name=$1 wanted=$2 pattern=$3 options=$4 got status
  shift 4
  got=$(CAPSTANRTS=$options ${CAPSTAN_RUN:-} "$@" 2>&1 >/dev/null)
  status=$?
  [ $status -eq "$wanted" ] && grep -q -- "$pattern" <<<"$got"
  status=$?
  [ $status -eq 0 ] || echo "not refused as it should be: $got"
  result "$name" $status
}

for workers in 1 2 5; do
  same "binary-trees, $workers workers" "$(expectedTrees $depth)" "" "$trees" $depth $workers
done
same "binary-trees, a small nursery" "$(expectedTrees $depth)" "-A64k" "$trees" $depth 2
same "binary-trees, the heap checked" "$(expectedTrees $checked)" "-A64k --verify-heap --poison" "$trees" $checked 2
same "binary-trees, an odd depth" "$(expectedTrees 7)" "" "$trees" 7
same "binary-trees, the least depth" "$(expectedTrees 6)" "" "$trees" 0
same "gcbench" "$(expectedBench "${sizes[@]}")" "" "$gcbench" "${sizes[@]}"
same "gcbench, a small nursery" "$(expectedBench "${sizes[@]:0:2}" $many)" "-A64k" "$gcbench" "${sizes[@]:0:2}" $many
same "gcbench, the heap checked" "$(expectedBench 6 4 1000)" "-A64k --verify-heap --poison" "$gcbench" 6 4 1000

fails "binary-trees, no depth" 2 usage "" "$trees" x
fails "binary-trees, no workers" 2 usage "" "$trees" 8 0
fails "binary-trees, too deep" 2 usage "" "$trees" 99
fails "gcbench, no depth" 2 usage "" "$gcbench" 3
fails "gcbench, a number too many" 2 usage "" "$gcbench" 8 8 8 8
fails "binary-trees, an option that is none" 1 no-such-option --no-such-option "$trees" 8
fails "gcbench, an array too large" 1 "heap exhausted" "-M8m -A256k" "$gcbench" 4 4 100000000
# A build that collects at each safepoint would take minutes to fill a heap.
if [ "${CAPSTAN_TEST_SCALE:-}" != short ]; then
  fails "binary-trees, a full heap" 1 "heap exhausted" "-M8m -A256k" "$trees" 20 2
  fails "gcbench, a full heap" 1 "heap exhausted" "-M8m -A256k" "$gcbench" 18 4 0
fi

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]

#!/usr/bin/env bash
# examples/wordfreq counts what tr, sort and uniq -c count, however many
# threads, capabilities and chunks it does it with, and says what is wrong
# with bad input.
#
#   WORDFREQ   the program (default: examples/wordfreq/wordfreq of the build)
#   CAPSTAN_TEST_SCALE=short   fewer files and runs
set -u
wordfreq=${WORDFREQ:-./examples/wordfreq/wordfreq}
licenses=/usr/share/common-licenses
export LC_ALL=C

[ -d $licenses ] || { echo "there is no $licenses"; exit 77; }
[ -x "$wordfreq" ] || { echo "$wordfreq was not built"; exit 77; }
work=$(mktemp -d "${TMPDIR:-/tmp}/capstan-wordfreq.XXXXXX") || exit 99
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

# pipeline TIMES FILE…: the counts that we must get
pipeline() {
  local times=$1 f
  shift
  for f in "$@"; do cat "$f"; echo; done | tr -cs A-Za-z '\n' | tr A-Z a-z |
    grep . | sort | uniq -c |
    awk -v times="$times" '{ print $1 * times, $2 }' | sort -k1,1nr -k2,2
}

# same NAME EXPECTED ARG…: all counts, in order
same() {
  local name=$1 expected=$2 status=0
  shift 2
  if ${CAPSTAN_RUN:-} "$wordfreq" --quiet --all "$@" >"$work/out" 2>"$work/err"; then
    cmp "$expected" "$work/out" || { diff "$expected" "$work/out" | head -n 10; status=1; }
  else
    echo "exit status $?"
    status=1
  fi
  [ ! -s "$work/err" ] || { cat "$work/err"; status=1; }
  result "$name" $status
}

# fails NAME STATUS PATTERN ARG…: that exit status, a message, no output
fails() {
  local name=$1 wanted=$2 pattern=$3 status=0 got
  shift 3
  ${CAPSTAN_RUN:-} "$wordfreq" --quiet "$@" >"$work/out" 2>"$work/err" </dev/null
  got=$?
  [ $got -eq "$wanted" ] || { echo "exit status $got, not $wanted"; status=1; }
  grep -Eq -- "$pattern" "$work/err" || { echo "says nothing of '$pattern':"; cat "$work/err"; status=1; }
  [ ! -s "$work/out" ] || { echo "prints all the same:"; head -n 5 "$work/out"; status=1; }
  result "$name" $status
}

# ---- Right counts -----------------------------------------------------------

files=()
for f in "$licenses"/*; do [ -f "$f" ] && files+=("$f"); done
[ ${#files[@]} -gt 0 ] || { echo "there is nothing in $licenses"; exit 77; }
if [ "${CAPSTAN_TEST_SCALE:-}" = short ]; then
  files=("${files[@]:0:4}") # the plain run below takes all of them
  repeat=2
else
  repeat=10
fi
pipeline 1 "$licenses"/* >"$work/default"
pipeline 1 "${files[@]}" >"$work/once"
pipeline $repeat "${files[@]}" >"$work/often"

same "no arguments" "$work/default"
for capabilities in 1 2 4; do
  for workers in 1 3 8; do
    same "$workers workers, $capabilities capabilities" "$work/once" \
      --workers $workers --capabilities $capabilities "${files[@]}"
  done
done
for seed in 1 2 3; do
  same "small nursery, seed $seed" "$work/often" --nursery 64k --seed $seed \
    --repeat $repeat --capabilities $((seed + 1)) "${files[@]}"
done
same "verified heap" "$work/once" --nursery 256k --capabilities 2 \
  --rts '--verify-heap --poison' "${files[@]}"
same "without membarrier" "$work/once" --capabilities 2 --rts --no-membarrier "${files[@]}"
same "large chunks" "$work/often" --chunk 1m --repeat $repeat --nursery 64k "${files[@]}"
same "hashes that collide" "$work/once" --hash-bits 9 --capabilities 2 "${files[@]}"
same "16 workers for 1 capability" "$work/often" --workers 16 --capabilities 1 \
  --repeat $repeat --nursery 64k --seed 7 "${files[@]}"

# ---- Odd texts --------------------------------------------------------------

printf 'one two' >"$work/open-end"                # the next file's first word is another
printf 'Three\0one\377TWO-two\n' >"$work/bytes"
: >"$work/empty"
printf '\n\n123 !?\n' >"$work/no-words"
head -c 100000 /dev/zero | tr '\0' x >"$work/long"  # one word over many chunks
{ printf 'a '; cat "$work/long"; printf ' B'; } >"$work/long-between"
odd=("$work/open-end" "$work/bytes" "$work/empty" "$work/no-words" "$work/long" "$work/long-between")
pipeline 1 "${odd[@]}" >"$work/odd-once"
for chunk in 1 2 7 4096 1m; do
  same "odd texts, chunks of $chunk" "$work/odd-once" --chunk $chunk "${odd[@]}"
done
same "odd texts, seed 5" "$work/odd-once" --chunk 16 --seed 5 "${odd[@]}"
same "a file twice" <(pipeline 1 "$work/bytes" "$work/bytes") "$work/bytes" "$work/bytes"
same "a pipe" <(pipeline 1 "$work/open-end") <(cat "$work/open-end")
same "no words" /dev/null "$work/no-words"
same "an empty file" /dev/null "$work/empty"

# ---- The reports ------------------------------------------------------------

words=$(awk '{ n += $1 } END { print n }' "$work/once")
distinct=$(wc -l <"$work/once")
${CAPSTAN_RUN:-} "$wordfreq" --quiet --top 3 "${files[@]}" >"$work/table" 2>"$work/err"
status=$?
grep -Eq "^words +$words\$" "$work/table" || status=1
grep -Eq "^distinct words +$distinct\$" "$work/table" || status=1
awk '/^most frequent/ { on = 1; next } /^[^ ]/ { on = 0 } on { print $2, $1 }' "$work/table" |
  cmp - <(head -n 3 "$work/once") || status=1
for row in 'calls per second' 'p50' 'p99' 'p99\.9' 'largest' 'collections' 'heap, largest'; do
  grep -Eq "^ *$row +[0-9.]+" "$work/table" || { echo "no row: $row"; status=1; }
done
[ $status -eq 0 ] || cat "$work/table" "$work/err"
result "table" $status

${CAPSTAN_RUN:-} "$wordfreq" --quiet --json --top 3 --repeat 2 "${files[@]}" >"$work/json" 2>"$work/err"
status=$?
for member in "\"words\": $((2 * words))," "\"distinct\": $distinct," '"p99_9": [0-9]' \
    '"largest_ns": [0-9]' '"peak_rss_bytes": [1-9]' '"calls_per_second": [0-9.]'; do
  grep -Eq "$member" "$work/json" || { echo "no member: $member"; status=1; }
done
if command -v python3 >/dev/null; then python3 -m json.tool "$work/json" >/dev/null || status=1; fi
[ $status -eq 0 ] || cat "$work/json" "$work/err"
result "JSON" $status

# ---- Bad input --------------------------------------------------------------

fails "a missing file" 1 'no-such-file: No such file' "$work/bytes" "$work/no-such-file"
fails "a folder" 1 'Is a directory' "$work"
if [ "$(id -u)" != 0 ]; then
  : >"$work/locked"
  chmod 0 "$work/locked"
  fails "an unreadable file" 1 'locked: Permission denied' "$work/locked"
fi
for bad in --workers=0 --workers=x --workers=-1 --workers= --workers=5000 --capabilities=0 --repeat=0 \
    --repeat=1x --seed=-1 --seed=99999999999999999999 --chunk=0 --chunk=1z --chunk=2g --top=-3 --nursery=16777216t; do
  fails "$bad" 2 "${bad%%=*}: '.*' is not a (number|size)" "$bad" "$work/bytes"
done
fails "an unknown option" 2 'no-such-option' --no-such-option
fails "an option of the runtime that it does not know" 2 'no-such-option' --rts --no-such-option "$work/bytes"
fails "a heap limit that is too small" 2 'heap' --heap-limit 1k "$work/bytes"

# More distinct words than the heap may hold.
awk 'BEGIN { for (i = 0; i < 400000; i++) {
  w = ""; for (n = i + 1; n > 0; n = int(n / 26)) w = w sprintf("%c", 97 + n % 26); print w "x" } }' >"$work/many"
fails "a full heap" 1 'the managed heap is full' --heap-limit 8m --nursery 256k --capabilities 2 "$work/many"

${CAPSTAN_RUN:-} "$wordfreq" --quiet "$work/bytes" >/dev/full 2>"$work/err"
status=$?
[ $status -eq 1 ] && grep -q 'standard output' "$work/err"
result "a full disk" $?

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]

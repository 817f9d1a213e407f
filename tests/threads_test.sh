#!/usr/bin/env bash
# examples/threads answers its four requests, with few workers and with many.
#
#   THREADS   the program (default: examples/threads/threads of the build)
#   CAPSTAN_TEST_SCALE=short   one number of workers
set -u
threads=${THREADS:-./examples/threads/threads}
[ -x "$threads" ] || { echo "$threads was not built"; exit 77; }
failed=0
expected='first: 17984 primes below 200000
second: its time was up
third: cancelled
fourth: 17984 primes below 200000'
counts='1 4 20'
[ "${CAPSTAN_TEST_SCALE:-}" != short ] || counts=3
for workers in $counts; do
  got=$(${CAPSTAN_RUN:-} "$threads" $workers 2>&1)
  status=$?
  [ $status -eq 0 ] && [ "$got" = "$expected" ] ||
    { echo "$workers workers: exit status $status, and prints:"; echo "$got"; failed=1; }
done
for bad in 0 -1 x 1001; do
  ${CAPSTAN_RUN:-} "$threads" $bad >/dev/null 2>&1
  [ $? -eq 2 ] || { echo "$bad workers are not refused"; failed=1; }
done
exit $failed

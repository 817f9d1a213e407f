#!/usr/bin/env bash
# stress/gc for half a minute: random graphs, compared with their mirrors after every collection; each time with other seeds.
set -u
program=$abs_builddir/stress/gc
[ -x "$program" ] || { echo "no $program"; exit 77; }
seconds=10
[ "${CAPSTAN_TEST_SCALE:-}" != short ] || seconds=7

# A graph that differs says where, and how to have the run again.
run() { ${CAPSTAN_RUN:-} "$program" --quiet --seconds="$seconds" "$@" || exit 1; }

run
run --capabilities=4 --threads=2 --managed=8 --poison --verify-heap
run --capabilities=1 --threads=1 --managed=1 --live=2m --nursery=1m --collect-every=1000

#!/usr/bin/env bash
# examples/sqlite: what SQLite's threads get from managed functions is what plain C gives.
#
#   SQLITE   the program (default: examples/sqlite/sqlite of the build)
#   CAPSTAN_TEST_SCALE=short   fewer rounds
set -u
program=${SQLITE:-./examples/sqlite/sqlite}
[ -x "$program" ] || { echo "$program was not built: configure found no sqlite3 (Debian: libsqlite3-dev)"; exit 77; }
failed=0
rounds=20
[ "${CAPSTAN_TEST_SCALE:-}" != short ] || rounds=3
# shellcheck disable=SC2086
${CAPSTAN_RUN:-} "$program" 8 $rounds || { echo "exit status $?"; failed=1; }
for bad in 0 -1 x 257; do
  # shellcheck disable=SC2086
  ${CAPSTAN_RUN:-} "$program" $bad >/dev/null 2>&1
  [ $? -eq 2 ] || { echo "$bad threads are not refused"; failed=1; }
done
exit $failed

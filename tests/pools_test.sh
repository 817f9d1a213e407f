#!/usr/bin/env bash
# examples/pools: the threads of a GLib pool and of an OpenMP region call in; no transfer is lost.
#
#   POOLS   folder of the programs (default: examples/pools of the build)
#   CAPSTAN_TEST_SCALE=short   fewer calls
set -u
folder=${POOLS:-./examples/pools}
# Neither library is compiled for it: it does not see what their barriers and locks order.
case ${CAPSTAN_SANITIZERS:-} in *thread*) echo "GLib and OpenMP are not made for the thread sanitizer"; exit 77 ;; esac
calls=100000
[ "${CAPSTAN_TEST_SCALE:-}" != short ] || calls=10000
failed=0
tried=0
for name in glib openmp; do
  if [ ! -x "$folder/$name" ]; then
    echo "$name was not built: configure did not find what it needs"
    continue
  fi
  tried=$((tried + 1))
  # shellcheck disable=SC2086
  ${CAPSTAN_RUN:-} "$folder/$name" $calls || { echo "$name: exit status $?"; failed=1; }
  # shellcheck disable=SC2086
  ${CAPSTAN_RUN:-} "$folder/$name" x >/dev/null 2>&1
  [ $? -eq 2 ] || { echo "$name: a wrong argument is not refused"; failed=1; }
done
[ $tried -gt 0 ] || { echo "neither GLib (Debian: libglib2.0-dev) nor OpenMP was found by configure"; exit 77; }
exit $failed

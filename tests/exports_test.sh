#!/usr/bin/env bash
# The libraries export the names of rts/exports.list and no other; the shared
# one cannot be unloaded and does not need an executable stack.
set -u
[ -z "${CAPSTAN_SANITIZERS:-}" ] || { echo "sanitizers add names of their own"; exit 77; }
list=$abs_srcdir/rts/exports.list
[ -f "$list" ] || { echo "there is no $list"; exit 1; }
[ -n "$CAPSTAN_SO$CAPSTAN_ARCHIVE" ] || { echo "no library to look at"; exit 77; }

status=0
for library in $CAPSTAN_SO $CAPSTAN_ARCHIVE; do
  "$BASH" "$abs_srcdir/tools/check-exports" "$list" "$library" || status=1
done
if [ -n "$CAPSTAN_SO" ] && command -v readelf >/dev/null; then
  readelf -dW "$CAPSTAN_SO" | grep -q NODELETE ||
    { echo "$CAPSTAN_SO: could be unloaded (no NODELETE)"; status=1; }
  readelf -lW "$CAPSTAN_SO" | grep 'GNU_STACK' | grep -q 'RWE' &&
    { echo "$CAPSTAN_SO: asks for an executable stack"; status=1; }
  readelf -dW "$CAPSTAN_SO" | grep -q TEXTREL &&
    { echo "$CAPSTAN_SO: has relocations in its text"; status=1; }
  readelf -dW "$CAPSTAN_SO" | grep -i 'NEEDED.*jemalloc' &&
    { echo "$CAPSTAN_SO: links jemalloc, which only programs may do"; status=1; }
  readelf -sW "$CAPSTAN_SO" | grep ' UND __atomic_' &&
    { echo "$CAPSTAN_SO: an atomic access that this processor has no instruction for, of a byte perhaps"; status=1; }
fi
exit $status

#!/usr/bin/env bash
# examples/http: what wrk gets from the server is what the server counted, answer by answer.
#
#   HTTP   the program (default: examples/http/http of the build)
#   CAPSTAN_TEST_SCALE=short   fewer requests
set -u
program=${HTTP:-./examples/http/http}
here=$(cd "$(dirname "$0")" && pwd)
[ -x "$program" ] || { echo "$program was not built: configure found no libmicrohttpd (Debian: libmicrohttpd-dev)"; exit 77; }
quota=3000
[ "${CAPSTAN_TEST_SCALE:-}" != short ] || quota=300
work=$(mktemp -d "${TMPDIR:-/tmp}/capstan-http.XXXXXX") || exit 99
failed=0
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null; rm -rf "$work"' EXIT

complain() { echo "$*"; failed=1; }

# start OPTION…: sets port.  The server ends when descriptor 9 is closed.
start() {
  mkfifo "$work/input"
  # shellcheck disable=SC2086
  ${CAPSTAN_RUN:-} "$program" "$@" <"$work/input" >"$work/output" 2>&1 &
  server=$!
  exec 9>"$work/input"
  rm "$work/input"
  for _ in $(seq 300); do
    port=$(sed -n 's/^listening on port //p' "$work/output")
    [ -z "$port" ] || return 0
    kill -0 $server 2>/dev/null || break
    sleep 0.1
  done
  cat "$work/output"
  echo "the server did not start"
  exit 1
}
stop() {
  exec 9>&-
  wait $server || complain "the server's exit status is $?"
  server=
}

# get METHOD PATH: the answer, headers and all
get() {
  exec 5<>"/dev/tcp/127.0.0.1/$port" || return
  printf '%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$1" "$2" >&5
  tr -d '\r' <&5
  exec 5>&-
}
# expect STATUS BODY METHOD PATH
expect() {
  local got
  got=$(get "$3" "$4")
  case $got in "HTTP/1.1 $1 "*) ;; *) complain "$3 $4 gives: $got" ;; esac
  [ -z "$2" ] || [ "$(tail -n 1 <<<"$got")" = "$2" ] || complain "$3 $4 gives: $got"
}

# load QUOTA: by two threads of wrk, ended when both have their answers, however long these take.
load() {
  : >"$work/wrk"
  wrk -t2 -c16 -d1000s --timeout 100s -s "$here/http_load.lua" "http://127.0.0.1:$port" -- "$1" >>"$work/wrk" 2>&1 9>&- &
  local wrk=$!
  for _ in $(seq 1200); do
    [ "$(grep -cx 'all answered' "$work/wrk")" -lt 2 ] || break
    kill -0 $wrk 2>/dev/null || break
    sleep 0.1
  done
  # Again and again: the first may come before it waits.
  while kill -INT $wrk 2>/dev/null; do sleep 0.1; done
  wait $wrk
}

# try OPTION…: 5 answers by hand, and the load
try() {
  start "$@"
  expect 200 "0" GET /count
  expect 404 "not here" GET /
  expect 405 "only GET" DELETE /hello/you
  expect 405 "" HEAD /hello/you
  local sum=0 all=0 answers=5
  if command -v wrk >/dev/null; then
    all=$((2 * quota)) sum=$((quota * (2 * quota + 1)))
    load $quota
    grep -qx "greeted $all, numbers $sum, wrong 0, requests $all, errors 0" "$work/wrk" ||
      { cat "$work/wrk"; complain "expected: greeted $all, numbers $sum, wrong 0, requests $all, errors 0"; }
  fi
  expect 200 "$all" GET /count
  stop
  grep -qx "answered $((all + answers)), broken off 0" "$work/output" || { cat "$work/output"; complain "not $((all + answers)) answers"; }
  echo "$*: $all requests of wrk answered, and counted"
}

try --threads=8
try --plain --threads=8
for bad in --port=70000 --threads=0 --threads=x --nonsense; do
  # shellcheck disable=SC2086
  ${CAPSTAN_RUN:-} "$program" $bad </dev/null >/dev/null 2>&1
  [ $? -eq 2 ] || complain "$bad is not refused"
done
command -v wrk >/dev/null || echo "no wrk: only requests by hand"
exit $failed

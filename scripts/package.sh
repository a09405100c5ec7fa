#!/bin/sh
# package.sh: whether what npm would publish can be imported, and has its types, wherever a program may ask for them.
set -eu
cd "$(dirname "$0")/.."
PATH=$PWD/node_modules/.bin:$PATH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
npm pack --silent --ignore-scripts --pack-destination "$work" >/dev/null
publint --strict "$work"/*.tgz
# Who has no modules imports it dynamically.
attw --quiet --profile esm-only "$work"/*.tgz

#!/bin/bash
# run.sh unit|e2e [FILE…]: runs the tests of one layer from what `npm run build` has made. FILEs are test/….test.ts.
# run.sh attack|soak: the long programs of test/attack and test/soak, in the same kind of "host".
#
# End-to-end tests need a "host" of their own; test/lab.sh makes it. As root they run three times over: everything as
# root, then with tslirp as an ordinary user without any capability, then all of it in a user namespace of that user's. An
# ordinary user gets the third. TSLIRP_E2E_MODES="root user nested" chooses among them.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin

layer=${1-}
[ $# -gt 0 ] && shift
work=$(mktemp -d "${TMPDIR:-/tmp}/tslirp-test-XXXXXX")
user=
finish() {
  [ -n "$user" ] && userdel "$user" 2>/dev/null
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
chmod 755 "$work"

# The list comes from the sources: dist may still hold tests that are gone. Prints compiled names of those given or found.
compiled() {
  if [ $# -gt 0 ]; then printf '%s\n' "$@"; else find test -name '*.test.ts' | sort; fi |
    sed -e 's|^\./||' -e 's|^|dist/|' -e 's|\.ts$|.js|'
}

failed=0
# pass NAME PREFIX… -- OPTION… FILE…: one run of the test runner; its totals are kept for the last line.
pass() {
  local name=$1 report=$work/$1.tap
  shift
  local prefix=()
  while [ "$1" != -- ]; do prefix+=("$1"); shift; done
  shift
  echo "== $name"
  : >"$report"
  chmod 666 "$report"
  "${prefix[@]}" node --test --test-reporter=spec --test-reporter-destination=stdout \
    --test-reporter=tap --test-reporter-destination="$report" "$@" </dev/null || failed=1
}

# The closing line: what all passes together have done.
total() {
  awk -v failed="$failed" '
    /^# (tests|pass|fail|cancelled|skipped|todo) [0-9]+$/ { sum[$2] += $3 }
    END {
      printf "== all: %d tests, %d passed, %d failed, %d cancelled, %d skipped\n",
        sum["tests"], sum["pass"], sum["fail"], sum["cancelled"], sum["skipped"] + sum["todo"]
      exit (failed || sum["fail"] + sum["cancelled"] > 0 || sum["tests"] == 0)
    }' "$work"/*.tap
}

case $layer in
  unit)
    mapfile -t files < <(compiled "$@" | grep -v '^dist/test/e2e/')
    pass unit -- --test-timeout=120000 "${files[@]}"
    ;;
  e2e)
    mapfile -t files < <(compiled "$@" | grep '^dist/test/e2e/')
    home=$PWD
    if [ "$(id -u)" -eq 0 ]; then
      modes=${TSLIRP_E2E_MODES:-root user nested}
      user=tslirp-e2e-$$
      useradd --system --no-create-home --shell /bin/sh "$user"
      # The user must be able to read what is run; a clone in /root, say, is not for everybody.
      if ! runuser -u "$user" -- test -r "$home/bin/tslirp" ||
        ! runuser -u "$user" -- test -r "$home/node_modules/koffi/package.json"; then
        home=$work/copy
        mkdir "$home"
        cp -R bin dist node_modules package.json "$home"
        cp -R --parents test/lab.sh "$home"
        chmod -R a+rX "$home"
      fi
    else
      modes=${TSLIRP_E2E_MODES:-nested}
    fi
    cd "$home"
    for mode in $modes; do
      chosen=("${files[@]}")
      # FILEs that were asked for are run in every mode.
      if [ $# -eq 0 ] && [ "$modes" = 'root user nested' ]; then
        case $mode in
          user) long='/(stall|capture|load|attack|tcp-oracle)\.test' ;;
          nested) long='/(stall|capture|attack|load|tcp-oracle|clients|devices|policy|udp|udp-local|udp-remote|udp-slirpnetstack|podman|slirpnetstack-flows|forward-range)\.test' ;;
          *) long='/podman\.test' ;;
        esac
        mapfile -t chosen < <(printf '%s\n' "${files[@]}" | grep -vE "$long")
      fi
      pass "e2e-$mode" test/lab.sh enter "$mode" "$work" "$user" -- \
        --test-timeout=240000 --test-concurrency=1 "${chosen[@]}"
    done
    ;;
  attack | soak)
    mode=root
    [ "$(id -u)" -eq 0 ] || mode=nested
    test/lab.sh enter "$mode" "$work" "$(id -un)" node "dist/test/$layer/main.js"
    exit
    ;;
  *)
    echo "usage: run.sh unit|e2e [test/….test.ts…], run.sh attack|soak" >&2
    exit 2
    ;;
esac
total

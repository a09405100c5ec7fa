#!/bin/bash
# run.sh unit|e2e [FILE…]: runs the tests of one layer from what `npm run build` has made. FILEs are test/….test.ts.
# run.sh attack|soak: the long programs of test/attack and test/soak, in the same kind of "host".
# run.sh totals: the closing line of all runs that kept theirs in the file TSLIRP_TEST_TOTALS.
#
# TSLIRP_TEST_JOBS files are at work at a time: as many as processors, and half as many again end to end, where tests wait
# for most of the time.
#
# End-to-end tests need a "host" of their own; test/lab.sh makes one for each file. As root they run three times over:
# everything as root, then with tslirp as an ordinary user without any capability, then all of it in a user namespace of
# that user's. An ordinary user gets the third. TSLIRP_E2E_MODES="root user nested" chooses among them.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin

layer=${1-}
[ $# -gt 0 ] && shift
work=$(mktemp -d "${TMPDIR:-/tmp}/tslirp-test-XXXXXX")
user=
declare -A running=()
finish() {
  # A lab's first process; the kernel ends all the others with it.
  [ ${#running[@]} -eq 0 ] || kill -KILL "${!running[@]}" 2>/dev/null || :
  wait
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
# Of a test and of a file, in ms: whoever takes longer hangs. No test is that slow, but a machine may be.
patience=600000
# The test runner with OPTION… FILE…; its totals, and what failed and why, are kept for the last lines.
runner=(node --test --test-reporter=spec --test-reporter-destination=stdout
  --test-reporter=./dist/test/support/failures.js)

# report NAME: where the totals of that run go; whoever runs it must be able to write there.
report() {
  : >"$work/$1.report"
  chmod 666 "$work/$1.report"
  echo "$work/$1.report"
}

# ended NAME STATUS OUTPUT: a run is over. If it failed: the report says why, or nobody does, and then the last it printed.
ended() {
  [ "$2" -ne 0 ] || return 0
  failed=1
  {
    echo "== $1 FAILED"
    grep -a '^\(✖\|    \)' "$work/$1.report" || { echo "    no test: status $2"; tail -n 8 "$3" | sed 's/^/    /'; }
  } >>"$work/failed"
}

# collect: waits for one of the labs and prints what it said.
collect() {
  local pid status=0
  wait -n -p pid "${!running[@]}" || status=$?
  echo "== ${running[$pid]}"
  cat "$work/${running[$pid]}.out"
  ended "${running[$pid]}" $status "$work/${running[$pid]}.out"
  unset "running[$pid]"
}

# in_lab LABS MODE FILE: runs a file in a lab of its own, as soon as fewer than LABS are at work.
in_lab() {
  local labs=$1 mode=$2 file=$3 name
  while [ ${#running[@]} -ge "$labs" ]; do collect; done
  name=e2e-$mode-$(basename "$file" .test.js)
  mkdir "$work/$name"
  (exec test/lab.sh enter "$mode" "$work/$name" "$user" "${runner[@]}" \
    --test-reporter-destination="$(report "$name")" --test-timeout="$patience" "$file" \
    </dev/null >"$work/$name.out" 2>&1) &
  running[$!]=$name
}

# closing FILE…: what the passes of which these are the totals have done together.
closing() {
  awk -v failed="$failed" '
    /^# (tests|pass|fail|cancelled|skipped|todo) [0-9]+$/ { sum[$2] += $3 }
    END {
      printf "== all: %d tests, %d passed, %d failed, %d cancelled, %d skipped\n",
        sum["tests"], sum["pass"], sum["fail"], sum["cancelled"], sum["skipped"] + sum["todo"]
      exit (failed || sum["fail"] + sum["cancelled"] > 0 || sum["tests"] == 0)
    }' "$@"
}

# The last lines: what failed and why, as far as can be overlooked, and the totals.
total() {
  if [ -e "$work/failed" ]; then
    head -n 36 "$work/failed"
    [ "$(wc -l <"$work/failed")" -le 36 ] || echo '== and more, above'
  fi
  [ -z "${TSLIRP_TEST_TOTALS-}" ] || cat "$work"/*.report >>"$TSLIRP_TEST_TOTALS"
  closing "$work"/*.report
}

case $layer in
  unit)
    mapfile -t files < <(compiled "$@" | grep -v '^dist/test/e2e/')
    echo '== unit'
    # One file for each processor; by itself the runner leaves one of them idle.
    "${runner[@]}" --test-reporter-destination="$(report unit)" --test-timeout="$patience" \
      --test-concurrency="${TSLIRP_TEST_JOBS:-$(nproc)}" "${files[@]}" </dev/null || ended unit $? /dev/null
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
      left_out='^$'
      # FILEs that were asked for are run in every mode.
      if [ $# -eq 0 ] && [ "$modes" = 'root user nested' ]; then
        # What the network does is the same whoever runs it, and root has shown it; what needs no rights, an ordinary user shows: the
        # life of a process, links, another front end's options. Root inside a user namespace (as rootless Podman has it) differs in
        # what it may enter and give up, not in the rest.
        # A new file is run in every mode.
        same='stall|capture|load|attack|mtu|tcp-oracle|bad-link|clients|forward-range|slirpnetstack-flows|tcp|udp|udp-local|udp-remote'
        same="$same|udp-slirpnetstack|published-udp|policy|forward-tcp|dns|flow-log"
        unprivileged='lifecycle|links|machines|pasta-network|pasta-ports|podman|port-maps|process|serve|slirpnetstack|tunnel|web-socket|wireguard'
        case $mode in
          user) left_out="/($same)\.test" ;;
          nested)
            rest='api|devices|events|flows-end|forward-events|pasta|run-files|udp-unix'
            left_out="/($same|$unprivileged|$rest)\.test"
            ;;
          *) left_out="/($unprivileged)\.test" ;;
        esac
      fi
      for file in "${files[@]}"; do
        [[ $file =~ $left_out ]] || echo "$mode $file"
      done
    done >"$work/queue"
    # These measure: they come last, and each has the machine for itself.
    measuring='/(stall|load|flows-end|attack)\.test'
    mapfile -t queue < <(grep -vE "$measuring" "$work/queue")
    for job in "${queue[@]}"; do in_lab "${TSLIRP_TEST_JOBS:-$(($(nproc) * 3 / 2))}" $job; done
    mapfile -t queue < <(grep -E "$measuring" "$work/queue")
    for job in "${queue[@]}"; do in_lab 1 $job; done
    while [ ${#running[@]} -gt 0 ]; do collect; done
    ;;
  attack | soak)
    mode=root
    [ "$(id -u)" -eq 0 ] || mode=nested
    test/lab.sh enter "$mode" "$work" "$(id -un)" node "dist/test/$layer/main.js"
    exit
    ;;
  totals)
    closing "$TSLIRP_TEST_TOTALS"
    exit
    ;;
  *)
    echo "usage: run.sh unit|e2e [test/….test.ts…], run.sh attack|soak|totals" >&2
    exit 2
    ;;
esac
total

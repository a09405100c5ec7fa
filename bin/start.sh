# The end of what a shell does of the programs here, which have set `for`, `how` and `early` (launch.pl) and `self`. `for`
# is empty when nothing is to be served.
# shellcheck shell=sh disable=SC2154
here=${self%/*}
main=$here/../dist/bundle/${self##*/}.cjs
[ -e "$main" ] || { echo "$0: $main is missing: build it with \`npm run build\`" >&2; exit 127; }
# What is opened next would take the place of a standard stream that is closed.
closed=
[ -e /proc/self/fd/0 ] || { closed=0; exec </dev/null; }
[ -e /proc/self/fd/1 ] || { closed=$closed,1; exec >/dev/null; }
[ -e /proc/self/fd/2 ] || { closed=$closed,2; exec 2>/dev/null; }
# Whoever starts again knows better.
for=${TSLIRP_FOR-$for}
how=${TSLIRP_HOW-$how}
unset TSLIRP_FOR TSLIRP_HOW
if command -v perl >/dev/null; then
  exec perl "$here/launch.pl" "$for" "$how" "${closed#,}" "$early" "$0" "$main" "$@"
fi
unset NODE_OPTIONS NODE_V8_COVERAGE NODE_EXTRA_CA_CERTS
command -v "${TSLIRP_NODE-node}" >/dev/null ||
  { echo "$0: node cannot be started; Node.js 20.19 or newer has to be in PATH" >&2; exit 127; }
export TSLIRP_BROKER=none TSLIRP_NAME="$0"
exec "${TSLIRP_NODE-node}" "$main" "$@"

#!/bin/sh
# `make demo`: tslirp at work, for root and for an ordinary user alike.
#
# Nothing here touches the real network: the "host" is a network namespace of its own, with two server addresses on its
# loopback interface. The guest is what `tslirp run` makes inside it. Both are gone when the demo ends, however it ends.
set -eu
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin

if [ "${1-}" = inside ]; then
  ip link set lo up
  ip address add 198.51.100.1/32 dev lo
  ip address add 198.51.100.2/32 dev lo
  ip address add 2001:db8::1/128 dev lo nodad
  # Who may use ping sockets is a setting of each network namespace.
  echo "0 0" >/proc/sys/net/ipv4/ping_group_range
  exec node dist/test/demo/main.js
fi

scripts/need.sh demo
if ! { : <>/dev/net/tun; } 2>/dev/null; then
  echo "demo: /dev/net/tun cannot be opened; as root: modprobe tun; chmod 0666 /dev/net/tun" >&2
  exit 1
fi
if [ "$(id -u)" -eq 0 ]; then
  set -- --net --mount
else
  set -- --user --map-root-user --net --mount
fi
if ! unshare "$@" true; then
  echo "demo: this system lets $(id -un) make no namespaces (unshare $*)" >&2
  exit 1
fi
DEMO_USER=$(id -un) exec unshare "$@" -- setpriv --pdeathsig KILL -- "$0" inside

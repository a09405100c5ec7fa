#!/bin/sh
# lab.sh enter MODE DIRECTORY USER COMMAND…: runs COMMAND in a "host" for end-to-end tests.
#
# That host is a set of network, mount and PID namespaces: nothing of the real network is in it, and when COMMAND ends the
# kernel ends everything that was started inside. MODE: `root` and `user` are made by root (in `user`, tests start tslirp
# as USER); `nested` is made by an ordinary user (USER, when we are root) in a user namespace.
#
# What is in the host: server addresses on srv0; routes to addresses that never answer (void0) or that cannot be reached;
# an /etc/resolv.conf that tests may write.
set -eu

namespaces='--net --mount --pid --fork --kill-child --mount-proc'

case $1 in
  enter)
    mode=$2 directory=$3 user=$4
    shift 4
    export TSLIRP_E2E_MODE="$mode" TSLIRP_E2E_USER="$user" TSLIRP_E2E_DIRECTORY="$directory/lab"
    mkdir -p "$directory/lab"
    if [ "$mode" = nested ] && [ "$(id -u)" -ne 0 ]; then
      # shellcheck disable=SC2086
      exec unshare --user --map-root-user $namespaces -- "$0" host "$@"
    fi
    # shellcheck disable=SC2086
    exec unshare $namespaces -- "$0" prepare "$@"
    ;;

  # Root, before anything else: a TAP device file for everybody, without touching the system's own.
  prepare)
    shift
    mount -t tmpfs -o mode=0755 lab "$TSLIRP_E2E_DIRECTORY"
    if ! runuser -u "$TSLIRP_E2E_USER" -- sh -c ': <>/dev/net/tun' 2>/dev/null; then
      mkdir -p /dev/net
      [ -e /dev/net/tun ] || : >/dev/net/tun
      mknod "$TSLIRP_E2E_DIRECTORY/tun" c 10 200
      chmod 666 "$TSLIRP_E2E_DIRECTORY/tun"
      mount --bind "$TSLIRP_E2E_DIRECTORY/tun" /dev/net/tun
    fi
    [ "$TSLIRP_E2E_MODE" = nested ] || exec "$0" host "$@"
    # shellcheck disable=SC2086
    exec runuser -u "$TSLIRP_E2E_USER" -- unshare --user --map-root-user $namespaces -- "$0" host "$@"
    ;;

  host)
    shift
    mount -t tmpfs -o mode=1777 lab "$TSLIRP_E2E_DIRECTORY"
    export TMPDIR="$TSLIRP_E2E_DIRECTORY"
    echo 'nameserver 198.51.100.1' >"$TSLIRP_E2E_DIRECTORY/resolv.conf"
    chmod 666 "$TSLIRP_E2E_DIRECTORY/resolv.conf"
    mount --bind "$TSLIRP_E2E_DIRECTORY/resolv.conf" "$(readlink -f /etc/resolv.conf)"
    ip -batch - <<'NETWORK'
link set lo up
link add srv0 type veth peer name srv1
link set srv0 up
link set srv1 up
address add 198.51.100.1/24 dev srv0
address add 198.51.100.2/24 dev srv0
address add 2001:db8:1::1/64 dev srv0 nodad
address add 2001:db8:1::2/64 dev srv0 nodad
link add void0 type veth peer name void1
link set void0 arp off up
link set void1 arp off up
route add 203.0.113.0/24 dev void0
route add 198.18.0.0/15 dev void0
route add 2001:db8:dead::/48 dev void0
route add unreachable 192.0.2.64/26
route add unreachable 2001:db8:bad::/64
NETWORK
    if [ "$TSLIRP_E2E_MODE" = nested ]; then everybody='0 0'; else everybody='0 2147483647'; fi
    echo "$everybody" >/proc/sys/net/ipv4/ping_group_range
    echo 8192 >/proc/sys/net/core/somaxconn
    # Not exec: process 1 collects the orphans, which the runner would not.
    "$@"
    ;;
esac

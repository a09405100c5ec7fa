#!/bin/sh
# need.sh build|check|demo|test|bench: sees to it that the programs for that purpose are there.
#
# As root, Debian packages that are missing are installed; for everybody else the answer is one line that says which.
# Already complete = no output and no access to the network.
set -eu

# program:package, by purpose
check='perl:perl-base perlcritic:libperl-critic-perl'
demo='unshare:util-linux setpriv:util-linux nsenter:util-linux perl:perl-base ip:iproute2 ping:iputils-ping'
test="$demo busybox:busybox bwrap:bubblewrap chromium:chromium crun:crun curl:curl dig:bind9-dnsutils iperf3:iperf3 newuidmap:uidmap
  nginx:nginx-light podman:podman prlimit:util-linux qemu-system-x86_64:qemu-system-x86 rootlesskit:rootlesskit
  runsc:runsc runuser:util-linux socat:socat strace:strace traceroute:traceroute tshark:tshark udhcpc:udhcpc
  useradd:passwd wg:wireguard-tools wireguard-go:wireguard-go"
bench="$demo iperf3:iperf3 pasta:passt slirp4netns:slirp4netns sysctl:procps taskset:util-linux"

case ${1-} in
  build) wanted='' ;;
  check) wanted=$check ;;
  demo) wanted=$demo ;;
  test) wanted=$test ;;
  bench) wanted=$bench ;;
  *) echo "usage: need.sh build|check|demo|test|bench" >&2; exit 2 ;;
esac

# Where Debian keeps what an ordinary user has no PATH to.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

if ! command -v node >/dev/null || ! command -v npm >/dev/null ||
  ! node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)'; then
  echo "missing: Node.js 20.19 or newer with npm" >&2
  exit 1
fi

# A kernel for virtual machines, and the modules of its network, of Debian's package, which is not installed.
machine=/var/cache/tslirp-test
kernel() {
  [ "${1-}" = test ] && [ ! -e "$machine/vmlinuz" ] || return 0
  if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "missing, run as root: scripts/need.sh test ($machine/vmlinuz)" >&2
    exit 1
  fi
  echo "fetching a kernel for virtual machines"
  work=$(mktemp -d)
  (
    cd "$work"
    apt-get -q update
    package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9][^ ]*\).*/\1/p' | head -n 1)
    apt-get -q download "$package"
    dpkg-deb --fsys-tarfile ./*.deb | tar -x --wildcards './boot/vmlinuz-*' './lib/modules/*/drivers/virtio/*.ko' \
      './lib/modules/*/failover.ko' './lib/modules/*/net_failover.ko' './lib/modules/*/virtio_net.ko'
  ) >"$work/log" 2>&1 </dev/null || { tail -n 20 "$work/log" >&2; echo "no kernel for virtual machines" >&2; exit 1; }
  mkdir -p "$machine"
  find "$work/lib" -name '*.ko' -exec cp {} "$machine" \;
  cp "$work"/boot/vmlinuz-* "$machine/vmlinuz"
  chmod -R a+rX "$machine"
  rm -rf "$work"
}

packages=
for entry in $wanted; do
  command -v "${entry%%:*}" >/dev/null && continue
  case " $packages " in *" ${entry#*:} "*) ;; *) packages="$packages ${entry#*:}" ;; esac
done
[ -n "$packages" ] || { kernel "$1"; exit 0; }

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "missing, install as root: apt-get install$packages" >&2
  exit 1
fi
echo "installing$packages"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086
if ! { apt-get -q update && apt-get -q install -y --no-install-recommends $packages; } >"$log" 2>&1 </dev/null; then
  tail -n 20 "$log" >&2
  echo "apt-get could not install:$packages" >&2
  exit 1
fi
kernel "$1"

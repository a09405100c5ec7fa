/**
 * The network that `pasta` gives: on a routed "host" of its own, with rights as podman has them.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { asOwner, directory, programPath } from '../support/namespaces.ts';
import { must } from '../support/processes.ts';

/**
 * Makes the host; then runs the pasta $2 with what else is given on a namespace that the file $1 is mounted on, and says what
 * there is inside, in sections.
 */
const HOST = `
ip -batch - <<'NETWORK'
link set lo up
link add eth0 type veth peer name out0
address add 192.0.2.10/24 dev eth0
address add 192.0.2.11/24 dev eth0
address add 2001:db8::10/64 dev eth0 nodad
link set eth0 up
link set out0 up
route add default via 192.0.2.1 metric 100
route add 10.99.0.1/32 dev eth0
route add 10.99.1.0/24 via 10.99.0.1
NETWORK
ip -6 route add default via fe80::1 dev eth0
echo '0 0' >/proc/sys/net/ipv4/ping_group_range
socat TCP6-LISTEN:8123,fork,reuseaddr,ipv6only=0 SYSTEM:'echo peer $SOCAT_PEERADDR' & server=$!
file=$1; shift
inside() { nsenter --net="$file" "$@" 2>&1; }
section() { echo "== $1"; shift; "$@"; }
peer() { inside socat -t 20 -T 20 "TCP:$1:8123,connect-timeout=20" - </dev/null; }
: >"$file"; unshare --net="$file" true
"$@" -t none -u none -T none -U none --pid "$file.pid" --netns "$file" >"$file.said" 2>&1
section status echo $?
section said cat "$file.said"
`;
const STATE = `
section lo inside ip -br link show lo
section address inside ip -o address show scope global
section tentative inside ip -6 -o address show tentative
section link inside ip link show
section routes inside ip -4 route
section routes6 inside ip -6 route
`;
const REACH = `
section gateway peer 192.0.2.1
section gateway6 peer "[fe80::1%eth0]"
section ping inside ping -c 1 -W 20 192.0.2.1
`;
/** Sends $2 to all DHCPv6 servers on the interface with the number $1, and says what comes back. */
const ASK = `
  my $socket;
  socket($socket, AF_INET6, SOCK_DGRAM, 0) && bind($socket, pack_sockaddr_in6(546, IN6ADDR_ANY)) or die;
  send($socket, pack("H*", $ARGV[1]), 0, pack_sockaddr_in6(547, inet_pton(AF_INET6, "ff02::1:2"), $ARGV[0])) or die;
  alarm(20); recv($socket, my $answer, 2048, 0) // die; print unpack("H*", $answer)`;
const SLAAC = `
section lo inside ip -br link show lo
section link inside ip -br link show eth0
inside ip link set eth0 up
for try in $(seq 100); do
  inside ip -6 -o address show scope global -tentative | grep -q inet6 && break
  sleep 0.1
done
section address6 inside ip -6 -o address show scope global
section routes6 inside ip -6 route
index=$(inside ip -o link show eth0 | cut -d: -f1)
section dhcpv6 inside perl -MSocket=:all -e '${ASK}' "$index" 01aabbcc000100060003000103050003000c000000070000000000000000
`;
/** Waits until the command prints a line that the pattern fits. */
const AWAIT = `
await() { pattern=$1; shift; for try in $(seq 300); do "$@" | grep -q "$pattern" && return; sleep 0.1; done; echo "never: $pattern"; }
`;
const FOLLOW = `${AWAIT}
ip address add 192.0.2.12/24 dev eth0
ip address del 192.0.2.11/24 dev eth0
ip route add 10.99.2.0/24 via 192.0.2.7
ip route del 10.99.1.0/24
ip route replace default via 192.0.2.3 metric 100
section more await 10.99.2.0/24 inside ip -4 route
section address inside ip -o address show scope global
section routes inside ip -4 route
section gateway peer 192.0.2.3
ip link del eth0
ip link add eth0 type veth peer name out0
ip link set eth0 up
ip link set out0 up
ip address add 198.51.100.5/24 dev eth0
ip route add default via 198.51.100.1
section other await 'via 198.51.100.1 ' inside ip -4 route
section elsewhere inside ip -o address show scope global
section mapped peer 169.254.1.2
`;
/** The host gets its network after pasta has begun. */
const LATE = `${AWAIT}
section before inside ip -o -4 address show scope global
ip address add 192.0.2.10/24 dev eth0
ip route add default via 192.0.2.1
section late await 'default via 192.0.2.1 ' inside ip -4 route
section address inside ip -o -4 address show scope global
section gateway peer 192.0.2.1
section mapped peer 169.254.1.2
`;
const END = `
kill "$(cat "$file.pid")" $server
umount -l "$file"; rm "$file"
`;

let runs = 0;
type Sections = Record<string, string>;

async function network(script: string, program: string, args: string, host = HOST): Promise<Sections> {
  const file = join(directory, `pasta-network-${process.pid}-${runs++}`);
  const namespaces = ['unshare', '--user', '--map-root-user', '--net', '--mount'];
  const shell = ['sh', '-c', host + script + END, 'sh', file, program, ...args.split(' ')];
  const said = await must(asOwner(...namespaces, ...shell));
  return Object.fromEntries(
    said
      .split(/^== /m)
      .slice(1)
      .map((text) => [text.slice(0, text.indexOf('\n')), text.slice(text.indexOf('\n') + 1).trim()]),
  );
}

const PASTA = programPath('pasta');
const PODMAN = '--config-net --map-guest-addr 169.254.1.2 --quiet';
const addresses = ({ address = '' }: Sections): string[] =>
  [...address.matchAll(/inet6? (\S+)/g)].map(([, text = '']) => text);

describe('pasta §4.3, §12: --config-net', () => {
  let found: Sections;
  before(async () => {
    found = await network(`${STATE}${REACH}section mapped peer 169.254.1.2\n`, PASTA, PODMAN);
  });

  test('silence, lo up, the host’s addresses and routes, all of it usable at once', () => {
    assert.deepEqual([found['status'], found['said'], found['tentative']], ['0', '', '']);
    assert.match(found['lo'] ?? '', /,UP/);
    assert.deepEqual(addresses(found), ['192.0.2.10/24', '192.0.2.11/24', '2001:db8::10/64']);
    assert.match(found['link'] ?? '', /: eth0: .*,UP.* mtu 65520/);
    assert.deepEqual(
      found['routes']?.split('\n').map((line) => line.trim()),
      [
        'default via 192.0.2.1 dev eth0 metric 100',
        '10.99.0.1 dev eth0 scope link',
        '10.99.1.0/24 via 10.99.0.1 dev eth0',
        '192.0.2.0/24 dev eth0 proto kernel scope link src 192.0.2.10',
      ],
    );
    assert.match(found['routes6'] ?? '', /^default via fe80::1 dev eth0/m);
  });

  test('the gateway is the host’s loopback, --map-guest-addr the host itself', () => {
    assert.match(found['gateway'] ?? '', /^peer .*7f00:0001\]$/);
    assert.match(found['gateway6'] ?? '', /^peer \[(0000:){7}0001\]$/);
    assert.match(found['mapped'] ?? '', /^peer .*c000:020a\]$/);
    assert.match(found['ping'] ?? '', / 0% packet loss/);
  });

  test('-a, -g, -m, -I: that address and route alone, the other family copied', async () => {
    const given = await network(
      STATE,
      PASTA,
      '--config-net -a 10.0.2.100 -n 24 -g 10.7.7.7 -m 1280 -I myname',
    );
    assert.deepEqual(addresses(given), ['10.0.2.100/24', '2001:db8::10/64']);
    assert.match(given['link'] ?? '', /: myname: .* mtu 1280/);
    // A gateway beyond the network: the original fails.
    assert.match(given['routes'] ?? '', /^default via 10\.7\.7\.7 dev myname onlink/m);
    assert.deepEqual(addresses(await network(STATE, PASTA, '--config-net -6')), ['2001:db8::10/64']);
  });
});

test('pasta §4.3, §7: without --config-net lo is up, the TAP down; brought up, it finds its address', async () => {
  const found = await network(SLAAC, PASTA, '--quiet');
  assert.match(found['lo'] ?? '', /,UP/);
  assert.match(found['link'] ?? '', /^eth0 +DOWN/);
  assert.match(found['address6'] ?? '', /inet6 2001:db8::[^/]+\/64/);
  assert.match(found['routes6'] ?? '', /^default via fe80::1 dev eth0 proto ra/m);
  // An advertisement of the host's address.
  assert.match(found['dhcpv6'] ?? '', /^02aabbcc000100060003000103050002.*0005001820010db8(0000){5}0010/);
});

describe('pasta §15.2: the host’s network is followed', () => {
  test('addresses, routes and the gateway come and go with the host’s, also with another interface', async () => {
    const found = await network(FOLLOW, PASTA, PODMAN);
    assert.deepEqual([found['status'], found['more'], found['other']], ['0', '', '']);
    assert.deepEqual(addresses(found), ['192.0.2.10/24', '192.0.2.12/24', '2001:db8::10/64']);
    assert.match(found['routes'] ?? '', /^default via 192\.0\.2\.3 dev eth0 metric 100/m);
    assert.doesNotMatch(found['routes'] ?? '', /10\.99\.1\.0|192\.0\.2\.1 /);
    assert.match(found['gateway'] ?? '', /^peer .*7f00:0001\]$/);
    assert.match(found['elsewhere'] ?? '', /inet 198\.51\.100\.5\/24/);
    assert.doesNotMatch(found['elsewhere'] ?? '', /inet 192\./);
    assert.match(found['mapped'] ?? '', /^peer .*c633:6405\]$/);
  });

  test('a host without any gets one: so does the guest', async () => {
    const isolated = HOST.replace(/^(address|route) add .*$/gm, '').replace(/^ip -6 route.*$/m, '');
    const found = await network(LATE, PASTA, PODMAN, isolated);
    assert.match(found['before'] ?? '', /inet 169\.254\.2\.1\/16/);
    assert.equal(found['late'], '');
    assert.match(found['address'] ?? '', /inet 192\.0\.2\.10\/24/);
    assert.doesNotMatch(found['address'] ?? '', /169\.254/);
    assert.match(found['gateway'] ?? '', /^peer .*7f00:0001\]$/);
    assert.match(found['mapped'] ?? '', /^peer .*c000:020a\]$/);
  });
});

/**
 * A machine with the plainest tunnel there is: a namespace with a cable to the "host", and a program of twenty lines that copies
 * packets between a TUN device and datagrams, as a server (whoever sent last is its client) or as a client.
 */
import { bareNamespace, type Namespace } from './namespaces.ts';
import { must, type Running, run } from './processes.ts';
import { until } from './wait.ts';

export const OURS = { outer4: '10.78.0.1', outer6: 'fd78::1' };
export const THEIRS = { outer4: '10.78.0.2', outer6: 'fd78::2' };
const DEVICE = 'lab0';

/** Arguments: its port, and where the other end is, or nothing. */
const PROGRAM = `use strict; use Socket; use Fcntl;
my ($port, $host, $to) = @ARGV;
sysopen(my $tun, '/dev/net/tun', O_RDWR) or die "tun: $!";
# TUNSETIFF: IFF_TUN | IFF_NO_PI
ioctl($tun, 0x400454ca, my $request = pack('Z16 s x22', '${DEVICE}', 0x1001)) or die "ioctl: $!";
socket(my $udp, PF_INET, SOCK_DGRAM, 0) or die "socket: $!";
bind($udp, sockaddr_in($port, INADDR_ANY)) or die "bind: $!";
my $peer = $host ? sockaddr_in($to, inet_aton($host)) : undef;
syswrite(STDOUT, "up\\n");
my ($in, $packet) = ('', '');
vec($in, fileno($_), 1) = 1 for $tun, $udp;
while (select(my $ready = $in, undef, undef, undef)) {
  if (vec($ready, fileno($tun), 1)) {
    sysread($tun, $packet, 2048);
    send($udp, $packet, 0, $peer) if $peer;
  }
  if (vec($ready, fileno($udp), 1)) {
    $peer = recv($udp, $packet, 2048, 0) // next;
    syswrite($tun, $packet) if length $packet;
  }
}
`;

export class LabTunnel {
  readonly namespace: Namespace;
  readonly #anchor: Running;
  #program: Running | undefined;

  private constructor(namespace: Namespace, anchor: Running) {
    this.namespace = namespace;
    this.#anchor = anchor;
  }

  static async make(): Promise<LabTunnel> {
    const { namespace, anchor } = await bareNamespace({ plain: true });
    await must(['ip', '-batch', '-'], {
      input: `link add labc0 type veth peer name eth0 netns ${namespace.pid}
link set labc0 up
address add ${OURS.outer4}/24 dev labc0
address add ${OURS.outer6}/64 dev labc0 nodad
`,
    });
    await namespace.ip(
      'link set eth0 up',
      `address add ${THEIRS.outer4}/24 dev eth0`,
      `address add ${THEIRS.outer6}/64 dev eth0 nodad`,
    );
    return new LabTunnel(namespace, anchor);
  }

  /** The program, with this address inside; these prefixes are reached through it. */
  async up(port: number, to: readonly string[], address: string, ...routes: string[]): Promise<void> {
    this.#program = this.namespace.start(['perl', '-e', PROGRAM, String(port), ...to]);
    await this.#program.firstLine();
    await this.namespace.ip(
      `link set ${DEVICE} up`,
      `address add ${address} dev ${DEVICE}`,
      ...routes.map((route) => `route add ${route} dev ${DEVICE}`),
    );
  }

  async down(): Promise<void> {
    await this.#program?.stop('SIGKILL');
  }

  /** Whether an echo request is answered within two seconds; with `size` bytes, not to be cut. */
  async pings(address: string, size = 56): Promise<boolean> {
    const argv = ['ping', '-n', '-c', '1', '-W', '2', '-M', 'do', '-s', String(size), address];
    return (await this.namespace.run(argv)).status === 0;
  }

  async end(): Promise<void> {
    await this.down();
    await this.#anchor.stop();
    await until(async () => (await run(['ip', 'link', 'show', 'labc0'])).status !== 0, 'the cable gone');
  }
}

/**
 * The laboratory of one sample: a "host" and a "guest" network namespace, each held by a sleeping process and gone
 * with it.
 *
 * The host namespace has the servers on 198.51.100.1–.64, addresses of one end of a veth pair: no contender may treat them as loopback.
 * There are 64 of them because connection-rate tests rotate the destination: a 4-tuple is then never used twice
 * within a run, neither by the guest nor by the stack's own sockets. (The destination, not the source: pasta serves one
 * guest address.) Its resolver is at the first of them. The guest namespace starts empty, for the contender to fill, and belongs to a user namespace of its
 * own, as a container's does: pasta insists on joining one.
 */
import { readFileSync } from 'node:fs';
import { DIE_WITH_PARENT, kill, type Owned, run, start, until } from './processes.ts';

/** The address that the servers are reached at. */
export const SERVER_ADDRESS = '198.51.100.1';
/** The address that every contender gives the guest. */
export const GUEST_ADDRESS = '10.0.2.100';
/** Where a stack answers the guest's DNS queries with what the host's resolver says. */
export const DNS_ADDRESS = '10.0.2.3';
/** All addresses of the host namespace, for workloads that rotate. */
export const SERVER_ADDRESSES: readonly string[] = Array.from(
  { length: 64 },
  (_, index) => `198.51.100.${index + 1}`,
);

/** One pair of namespaces. */
export interface Lab {
  /** A process inside the host namespace. */
  readonly hostPid: number;
  /** A process inside the guest namespace: what a stack attaches to. */
  readonly guestPid: number;
  destroy(): Promise<void>;
}

/** `argv` as run inside the network namespace of `pid`. */
export function inside(pid: number, argv: readonly string[]): string[] {
  return ['nsenter', `--net=/proc/${pid}/ns/net`, '--', ...argv];
}

/** `argv` as run in the host namespaces: of the network, and of mounts, for the host's resolv.conf. */
export function onHost(pid: number, argv: readonly string[]): string[] {
  return ['nsenter', `--mount=/proc/${pid}/ns/mnt`, `--net=/proc/${pid}/ns/net`, '--', ...argv];
}

/** Run `ip` commands, one a line, inside the network namespace of `pid`. */
export async function ip(pid: number, lines: readonly string[]): Promise<void> {
  await run(inside(pid, ['ip', '-batch', '-']), 5000, `${lines.join('\n')}\n`);
}

async function sysctl(pid: number, values: readonly string[]): Promise<void> {
  await run(inside(pid, ['sysctl', '-q', '-w', ...values]), 5000);
}

/** A process that sleeps in new namespaces made by `unshare` with `flags`. */
async function anchor(flags: readonly string[]): Promise<Owned> {
  // A new user namespace clears the parent-death signal, hence once more behind unshare.
  const sleep = [...DIE_WITH_PARENT, 'sleep', '3600'];
  const owned = start(['unshare', ...flags, '--', ...sleep], 'ignore');
  await until(() => nameOf(owned.pid) === 'sleep', 'new network namespace', 2000, 1);
  return owned;
}

function nameOf(pid: number): string {
  return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
}

const RESOLV_CONF = `mount -t tmpfs resolver /mnt
echo nameserver ${SERVER_ADDRESS} >/mnt/resolv.conf
mount --bind /mnt/resolv.conf "$(readlink -f /etc/resolv.conf)"
umount -l /mnt`;

// Servers listen below 10000, so that an ephemeral port can never be theirs.
const PORTS = 'net.ipv4.ip_local_port_range=10000 65535';

/** Make both namespaces and configure the host one. */
export async function createLab(): Promise<Lab> {
  const anchors: Owned[] = [];
  const destroy = async (): Promise<void> => {
    await Promise.all(anchors.map((owned) => kill(owned)));
  };
  try {
    const host = await anchor(['--net', '--mount']);
    anchors.push(host);
    // Written where nothing else sees it.
    await run(onHost(host.pid, ['sh', '-ec', RESOLV_CONF]), 5000);
    const guest = await anchor(['--user', '--map-root-user', '--net']);
    anchors.push(guest);
    await sysctl(host.pid, [
      PORTS,
      'net.core.somaxconn=65535',
      'net.ipv4.tcp_max_syn_backlog=65535',
      'net.ipv4.tcp_max_tw_buckets=262144',
      'net.ipv4.ping_group_range=0 2147483647',
    ]);
    await ip(host.pid, [
      'link set lo up',
      'link add host0 type veth peer name host1',
      'link set host0 up',
      'link set host1 up',
      ...SERVER_ADDRESSES.map((address) => `addr add ${address}/24 dev host0`),
      // pasta looks for the interface of the default route and has no IPv4 without one.
      'route add default via 198.51.100.254 dev host0',
    ]);
    await sysctl(guest.pid, [PORTS, 'net.ipv4.tcp_max_tw_buckets=262144']);
    await ip(guest.pid, ['link set lo up']);
    return { hostPid: host.pid, guestPid: guest.pid, destroy };
  } catch (error) {
    await destroy();
    throw error;
  }
}

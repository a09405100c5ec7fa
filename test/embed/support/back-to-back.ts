/**
 * Two tunnels at the two ends of one pair of sockets, each the guest of the other: what the one dials, the other listens on. So
 * that both have a guest that answers, and nobody needs rights.
 */
import { closeSync, readdirSync, readlinkSync } from 'node:fs';
import { openTunnel } from '../../../src/embed/open-tunnel.ts';
import type { Tunnel } from '../../../src/embed/tunnel.ts';
import type { OpenOptions, TunnelConfig } from '../../../src/embed/types.ts';
import { setStatusFlags } from '../../../src/sys/io.ts';
import { Memory } from '../../../src/sys/memory.ts';
import { AF_UNIX, SOCK_SEQPACKET, SOCK_STREAM, socketpair } from '../../../src/sys/socket.ts';
import { PATIENCE_MS } from '../../support/wait.ts';

export const GUEST = '10.0.2.100';
export const GATEWAY = '10.0.2.2';

const memory = new Memory(new ArrayBuffer(64));

/** The caller closes both. */
export function socketPair(type: number = SOCK_STREAM): [number, number] {
  const result = socketpair(memory, AF_UNIX, type, 0);
  if (result < 0) throw new Error(`socketpair: errno ${-result}`);
  return [memory.view.getInt32(0, true), memory.view.getInt32(4, true)];
}

/** The same, but reading waits. */
export function blockingPair(): [number, number] {
  const pair = socketPair();
  for (const fd of pair) setStatusFlags(fd, 2);
  return pair;
}

/** What the other end of a tunnel with the usual addresses has. */
export const facing: NonNullable<TunnelConfig['addresses']> = {
  guest: [`${GATEWAY}/24`],
  gateway: [GUEST],
  dns: ['10.0.2.99'],
};

export class BackToBack {
  readonly near: Tunnel;
  readonly far: Tunnel;
  readonly #fds: number[];

  private constructor(near: Tunnel, far: Tunnel, fds: number[]) {
    this.near = near;
    this.far = far;
    this.#fds = fds;
  }

  static async open(
    options: OpenOptions,
    near: Partial<TunnelConfig> = {},
    far: Partial<TunnelConfig> = {},
  ): Promise<BackToBack> {
    const fds = socketPair(SOCK_SEQPACKET);
    // Twenty at once take their time.
    const patient = { startTimeoutMs: PATIENCE_MS, ...options };
    const [one, other] = fds;
    const tunnels = await Promise.all([
      openTunnel({ link: { fd: one }, ...near }, patient),
      openTunnel(
        { link: { fd: other }, addresses: facing, ...far },
        { ...patient, applySettings: () => undefined },
      ),
    ]);
    return new BackToBack(tunnels[0], tunnels[1], fds);
  }

  async close(): Promise<void> {
    await Promise.all([this.near.stop(), this.far.stop()]);
    for (const fd of this.#fds.splice(0)) closeSync(fd);
  }
}

/** How many threads this process has, and descriptors of each kind. */
export function held(): Record<string, number> {
  const count: Record<string, number> = { threads: readdirSync('/proc/self/task').length };
  for (const fd of readdirSync('/proc/self/fd')) {
    let kind: string;
    try {
      kind = readlinkSync(`/proc/self/fd/${fd}`).replace(/\d+/g, 'N');
    } catch {
      // The directory that is being read.
      continue;
    }
    count[kind] = (count[kind] ?? 0) + 1;
  }
  return count;
}

/** Of what there is more than there was. Less is nobody's fault: a data plane that has just begun rehearses with sockets. */
export function more(before: Readonly<Record<string, number>>): Record<string, number> {
  const grown = Object.entries(held()).map(([kind, now]) => [kind, now - (before[kind] ?? 0)] as const);
  return Object.fromEntries(grown.filter(([, by]) => by > 0));
}

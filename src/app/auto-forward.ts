/**
 * Following the services of a guest in a network namespace (`--auto-forward`): somebody of ours is put inside, by whose socket
 * the guest's are seen, and the broker tells whose they are. Both go on in the sandbox.
 *
 * Files of /proc are opened too, while they are in sight, for the case that the kernel does not answer.
 */
import { closeSync } from 'node:fs';
import type { AutoForwardSpec } from '../config.ts';
import type { Log } from '../control/log.ts';
import type { EventSink } from '../expose/event.ts';
import { defaultEphemeral } from '../expose/judge.ts';
import { ListenerWatch, type Owner } from '../expose/listener-watch.ts';
import { NetlinkSource } from '../expose/netlink-source.ts';
import { ProcSource } from '../expose/proc-source.ts';
import type { ServiceSink } from '../expose/service.ts';
import type { SocketSource } from '../expose/socket-source.ts';
import { type Inside, orderInside, orderOwners } from '../sandbox/broker.ts';
import type { NamespaceRef } from '../sandbox/namespace.ts';

export type SightMethod = SocketSource['method'] | 'none';

/** Sets how it is looked: for tests, and where sock_diag(7) misleads. */
const METHOD_VARIABLE = 'TSLIRP_LISTENERS';

export class AutoForward {
  readonly method: SightMethod;
  readonly #watch: ListenerWatch | null;
  readonly #inside: Inside | null;

  private constructor(method: SightMethod, watch: ListenerWatch | null, inside: Inside | null) {
    this.method = method;
    this.#watch = watch;
    this.#inside = inside;
  }

  /** Looks for the first time. */
  static async start(
    from: NamespaceRef,
    spec: AutoForwardSpec,
    events: EventSink,
    sink: ServiceSink,
    log: Log,
  ): Promise<AutoForward> {
    const files = openFiles(from);
    const inside = await enter(from, log);
    const asks = inside !== null && process.env[METHOD_VARIABLE] !== 'procfs';
    const netlink = asks ? new NetlinkSource(inside.sockets) : null;
    const source = netlink ?? files;
    if (source === null) {
      log.log('warn', 'services of the guest cannot be seen: --auto-forward does nothing');
      return new AutoForward('none', null, inside);
    }
    const watch = new ListenerWatch({
      source,
      fallback: source === files ? null : files,
      owners: async (inodes) => toOwners(await orderOwners(inodes)),
      judging: { spec, reachesLoopback: false, ephemeral: defaultEphemeral, device: 0 },
      events,
      sink,
      sourceLost: (method, why) =>
        log.log('warn', 'services of the guest are looked for in another way', { method, reason: why }),
    });
    watch.start();
    return new AutoForward(source.method, watch, inside);
  }

  /** All that was told of is told to be gone; what is published is for the publisher. */
  stop(): void {
    this.#watch?.end();
    if (this.#inside !== null) closeSync(this.#inside.channel);
  }
}

/** Null: not to be had. */
async function enter(from: NamespaceRef, log: Log): Promise<Inside | null> {
  try {
    return await orderInside(from);
  } catch (error) {
    log.log('debug', 'nobody of ours is in the namespace', { reason: (error as Error).message });
    return null;
  }
}

function openFiles({ pid }: NamespaceRef): ProcSource | null {
  if (pid === 0) return null;
  try {
    return new ProcSource(`/proc/${pid}/net`);
  } catch {
    return null;
  }
}

/** The name is whatever the process calls itself. */
function toOwners(found: readonly string[]): Map<number, Owner> {
  const owners = new Map<number, Owner>();
  for (const line of found) {
    const [, inode, pid, name = ''] = /^(\d+) (\d+) (.*)$/s.exec(line) ?? [];
    if (inode === undefined) continue;
    owners.set(Number(inode), { pid: Number(pid), process: Buffer.from(name, 'latin1').toString('utf8') });
  }
  return owners;
}

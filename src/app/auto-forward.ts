/**
 * Following the services of a guest in a network namespace (`--auto-forward`): somebody of ours is inside, by whose socket
 * the guest's are seen, and the broker tells whose they are. Both go on in the sandbox.
 *
 * Files of /proc are opened too, while they are in sight, for the case that the kernel does not answer.
 */
import type { AutoForwardSpec } from '../config.ts';
import type { Log } from '../control/log.ts';
import type { EventSink } from '../expose/event.ts';
import { defaultEphemeral } from '../expose/judge.ts';
import { ListenerWatch, type Owner } from '../expose/listener-watch.ts';
import { NetlinkSource } from '../expose/netlink-source.ts';
import { ProcSource } from '../expose/proc-source.ts';
import type { ServiceSink } from '../expose/service.ts';
import type { SocketSource } from '../expose/socket-source.ts';
import { type Inside, orderOwners } from '../sandbox/broker.ts';
import type { NamespaceRef } from '../sandbox/namespace.ts';

export type SightMethod = SocketSource['method'] | 'none';

/** Sets how it is looked: for tests, and where sock_diag(7) misleads. */
const METHOD_VARIABLE = 'TSLIRP_LISTENERS';

export class AutoForward {
  readonly method: SightMethod;
  readonly #watch: ListenerWatch | null;

  private constructor(method: SightMethod, watch: ListenerWatch | null) {
    this.method = method;
    this.#watch = watch;
  }

  /** Looks for the first time. `inside`: null where nobody of ours could be put there. */
  static start(
    from: NamespaceRef,
    inside: Inside | null,
    spec: AutoForwardSpec,
    events: EventSink,
    sink: ServiceSink,
    log: Log,
  ): AutoForward {
    const files = openFiles(from);
    const asks = inside !== null && process.env[METHOD_VARIABLE] !== 'procfs';
    const netlink = asks ? new NetlinkSource(inside.sockets) : null;
    const source = netlink ?? files;
    if (source === null) {
      log.log('warn', 'services of the guest cannot be seen: --auto-forward does nothing');
      return new AutoForward('none', null);
    }
    const watch = new ListenerWatch({
      source,
      fallback: source === files ? null : files,
      owners: async (inodes) => (inside === null ? new Map() : toOwners(await orderOwners(inside, inodes))),
      judging: {
        spec,
        reachesLoopback: spec.loopback && inside !== null,
        ephemeral: defaultEphemeral,
        device: 0,
      },
      events,
      sink,
      sourceLost: (method, why) =>
        log.log('warn', 'services of the guest are looked for in another way', { method, reason: why }),
    });
    watch.start();
    return new AutoForward(source.method, watch);
  }

  /** The guest has refused a client. */
  lookNow(): void {
    this.#watch?.lookNow();
  }

  /** All that was told of is told to be gone; what is published is for the publisher. */
  stop(): void {
    this.#watch?.end();
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

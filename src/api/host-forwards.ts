/**
 * The published ports as the API numbers and shows them. Its numbers begin at 1, grow by one with each forward that
 * could be opened, and are never used again; the data plane's own also count those that failed. Forwards of the command
 * line, which are open before there is an API, have the first numbers.
 */
import type { ForwardSpec, LocalForwardSpec } from '../config.ts';
import type { EngineClient, OpenForward } from '../control/engine-client.ts';
import { ForwardRefused } from '../control/engine-client.ts';
import type { End, Published } from '../expose/event.ts';
import type { Present } from '../expose/event-hub.ts';
import type { RuleForwards } from '../expose/rule-forwards.ts';
import { ApiError, addressField, field, integerField, type JsonObject } from './fields.ts';

/** One forward as `list_hostfwd` shows it; the order of the keys is part of the interface. */
export interface HostForward {
  id: number;
  proto: string;
  host_addr: string;
  host_port: number;
  guest_addr: string;
  guest_port: number;
}

/** One forward as `list_forwards` shows it. */
export interface ListedForward extends Omit<Published, 'hostEnd' | 'source'> {
  id: number | null;
  hostEnd: End | { path: string };
}

export type ForwardEngine = Pick<EngineClient, 'addForward' | 'removeForward' | 'listForwards'>;

/** Where a forward leads that names no guest address, by protocol family; empty = it has to name one. */
export interface ForwardDefaults {
  guest4: string;
  guest6: string;
}

const PORT_MAX = 65535;
const protocols = ['tcp', 'udp', 'tcp6', 'udp6'] as const;

export class HostForwards {
  private readonly engine: ForwardEngine;
  private readonly defaults: ForwardDefaults;
  private readonly heard: Pick<RuleForwards, 'added' | 'removed' | 'has'>;
  /** Each by its number here. */
  private readonly open = new Map<number, OpenForward>();
  /** Each that `list_hostfwd` shows, as JSON, by its number and so in order. */
  private readonly shown = new Map<number, string>();
  private listing: Buffer | undefined;
  private nextId = 1;

  constructor(
    engine: ForwardEngine,
    defaults: ForwardDefaults,
    heard: Pick<RuleForwards, 'added' | 'removed' | 'has'>,
  ) {
    this.engine = engine;
    this.defaults = defaults;
    this.heard = heard;
    for (const forward of engine.listForwards()) {
      if (forward.spec.direction === 'local' && heard.has(forward.id)) this.enter(forward);
    }
  }

  /** The answer to `add_hostfwd`. */
  async add(args: JsonObject): Promise<{ id: number; host_port?: number }> {
    const { spec, anyPort } = this.read(args);
    let open: OpenForward;
    try {
      open = await this.engine.addForward(spec);
    } catch (error) {
      if (error instanceof ForwardRefused) throw new ApiError('add_hostfwd: slirp_add_hostfwd failed');
      throw error;
    }
    const id = this.enter(open);
    this.heard.added(open);
    return anyPort && open.listen.kind === 'ip' ? { id, host_port: open.listen.port } : { id };
  }

  /**
   * The answer to `list_hostfwd`, as JSON: the manual of slirp4netns documents the first shape, the program sends the
   * second. There may be thousands, so it is made once for all who ask before it changes.
   */
  list(): Buffer {
    if (this.listing === undefined) {
      const entries = `[${[...this.shown.values()].join(',')}]`;
      this.listing = Buffer.from(`{"return":{"entries":${entries}},"entries":${entries}}`);
    }
    return this.listing;
  }

  async remove(args: JsonObject): Promise<Record<string, never>> {
    const id = integerField(args, 'id', 1, Number.MAX_SAFE_INTEGER) ?? 0;
    const forward = this.open.get(id);
    if (forward === undefined) throw new ApiError('remove_hostfwd: bad arguments.id');
    // Gone from here on: a second request for it is told so.
    this.open.delete(id);
    this.shown.delete(id);
    this.listing = undefined;
    const existed = await this.engine.removeForward(forward.id);
    this.heard.removed(forward.id);
    if (existed) return {};
    throw new ApiError('remove_hostfwd: slirp_remove_hostfwd failed');
  }

  /**
   * Also what `list_hostfwd` has no words for: those that listen on unix sockets, and what is published without a rule, which
   * has no number.
   */
  all(present: readonly Present[]): ListedForward[] {
    const ruled = [...this.open].map(([id, { spec, listen }]): ListedForward => {
      const { protocol, target } = spec as LocalForwardSpec;
      const hostEnd =
        listen.kind === 'ip'
          ? { ip: listen.address, port: listen.port }
          : { path: printablePath(listen.path) };
      const guestEnd = { ip: target.address, port: target.port };
      return { id, proto: protocol, guestEnd, hostEnd, reason: 'fixed', process: null };
    });
    const keys = new Set(ruled.map(hostKey));
    const published = present
      .flatMap(({ forwards }) => forwards)
      .filter((forward) => !keys.has(hostKey(forward)))
      .map(({ proto, guestEnd, hostEnd, reason, process }) => {
        return { id: null, proto, guestEnd, hostEnd, reason, process };
      });
    return [...ruled, ...published];
  }

  /** Gives it its number. */
  private enter(forward: OpenForward): number {
    const id = this.nextId++;
    this.open.set(id, forward);
    const entry = describe(forward, id);
    if (entry !== undefined) this.shown.set(id, JSON.stringify(entry));
    this.listing = undefined;
    return id;
  }

  /** In the order in which the interface says that they are looked at. */
  private read(args: JsonObject): { spec: ForwardSpec; anyPort: boolean } {
    const bad = (name: string): ApiError => new ApiError(`add_hostfwd: bad arguments.${name}`);
    const proto = protocols.find((name) => name === field(args, 'proto'));
    if (proto === undefined) throw bad('proto');
    const v6 = proto.endsWith('6');
    const address = addressField(args, 'host_addr', v6 ? [6] : [4], v6 ? '::' : '0.0.0.0');
    if (address === undefined) throw bad('host_addr');
    // Port 0, said in so many words, leaves the choice to the kernel.
    const port = integerField(args, 'host_port', 0, PORT_MAX);
    if (port === undefined) throw bad('host_port');
    const guest = v6 ? this.defaults.guest6 : this.defaults.guest4;
    const guestAddress = addressField(args, 'guest_addr', v6 ? [4, 6] : [4], guest);
    if (guestAddress === undefined) throw bad('guest_addr');
    const guestPort = integerField(args, 'guest_port', 1, PORT_MAX);
    if (guestPort === undefined) throw bad('guest_port');
    const local: LocalForwardSpec = {
      protocol: proto.startsWith('tcp') ? 'tcp' : 'udp',
      listen: { kind: 'ip', address, port },
      dualStack: false,
      target: { address: guestAddress, port: guestPort },
      proxyHeader: false,
      rpc: false,
      source: '',
      isIdle: false,
    };
    return { spec: { direction: 'local', ...local }, anyPort: port === 0 };
  }
}

function hostKey({ proto, hostEnd }: Pick<ListedForward, 'proto' | 'hostEnd'>): string {
  return 'path' in hostEnd ? hostEnd.path : `${proto} ${hostEnd.ip} ${hostEnd.port}`;
}

/** An abstract one begins with a NUL, which is written as @. */
function printablePath(path: string): string {
  return path.replace(/^\0/, '@');
}

function describe({ spec, listen }: OpenForward, id: number): HostForward | undefined {
  if (spec.direction !== 'local' || listen.kind !== 'ip') return undefined;
  const { protocol, target } = spec;
  return {
    id,
    proto: listen.address.includes(':') ? `${protocol}6` : protocol,
    host_addr: listen.address,
    host_port: listen.port,
    guest_addr: target.address,
    guest_port: target.port,
  };
}

/**
 * The published ports as the API numbers and shows them. Its numbers begin at 1, grow by one with each forward that
 * could be opened, and are never used again; the data plane's own also count those that failed. Forwards of the command
 * line, which are open before there is an API, have the first numbers.
 */
import type { ForwardSpec, LocalForwardSpec } from '../config.ts';
import type { EngineClient, OpenForward } from '../control/engine-client.ts';
import { ForwardRefused } from '../control/engine-client.ts';
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
  /** The data plane's number of each of ours. */
  private readonly numbers = new Map<number, number>();
  /** Each that `list_hostfwd` shows, as JSON, by its number and so in order. */
  private readonly shown = new Map<number, string>();
  private listing: Buffer | undefined;
  private nextId = 1;

  constructor(engine: ForwardEngine, defaults: ForwardDefaults) {
    this.engine = engine;
    this.defaults = defaults;
    for (const forward of engine.listForwards()) if (forward.spec.direction === 'local') this.enter(forward);
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
    const number = this.numbers.get(id);
    if (number === undefined) throw new ApiError('remove_hostfwd: bad arguments.id');
    // Gone from here on: a second request for it is told so.
    this.numbers.delete(id);
    this.shown.delete(id);
    this.listing = undefined;
    if (await this.engine.removeForward(number)) return {};
    throw new ApiError('remove_hostfwd: slirp_remove_hostfwd failed');
  }

  /** Gives it its number. */
  private enter(forward: OpenForward): number {
    const id = this.nextId++;
    this.numbers.set(id, forward.id);
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
    };
    return { spec: { direction: 'local', ...local }, anyPort: port === 0 };
  }
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

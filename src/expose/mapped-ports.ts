/**
 * The ports of the host that port maps keep: bound from the start, whether their services are there or not, so that nobody
 * else has them when they come, and so that a port that cannot be had is known at once. As long as its service is away, a
 * port leads nowhere.
 */
import type { AddressPlan, LocalForwardSpec, PortMap } from '../config.ts';
import { ForwardRefused, type OpenForward } from '../control/engine-client.ts';
import type { End, EventSink, Protocol } from './event.ts';
import {
  closeHostListeners,
  type ForwardEngine,
  isRefused,
  openHostListeners,
  openSomewhere,
} from './host-listeners.ts';
import { byOwner } from './port-owner.ts';
import type { Service } from './service.ts';

/** How often a port that is waited for is tried. */
const RETRY_MS = 1000;

export interface MappedPortsOptions {
  engine: ForwardEngine;
  events: EventSink;
  maps: readonly PortMap[];
  /** A port that is in use is waited for. */
  waits: boolean;
  plan: Pick<AddressPlan, 'guest4' | 'guest6'>;
  minPort: number;
  /** The host has IPv6. */
  hasIpv6: boolean;
}

type Aim = Pick<LocalForwardSpec, 'target' | 'source' | 'isIdle'>;

export class MappedPorts {
  readonly #options: MappedPortsOptions;
  readonly #open = new Map<PortMap, readonly OpenForward[]>();
  #isClosed = false;

  constructor(options: MappedPortsOptions) {
    this.#options = options;
  }

  /** Binds them all. `late` hears of each that had to wait. Rejects with one line. */
  async bind(late: (map: PortMap) => void): Promise<void> {
    for (const map of this.#options.maps) {
      try {
        await this.#bindOne(map);
      } catch (error) {
        if (!(error instanceof ForwardRefused)) throw error;
        if (!this.#options.waits || !isRefused(error, 'EADDRINUSE')) throw this.#explain(map, error);
        const { protocol: proto, guestPort: port } = map;
        const guestEnd = { ip: endAddress(map), port };
        this.#options.events.emit({
          ...{ type: 'forward.failed', proto, guestEnd, reason: 'EADDRINUSE', errno: 'EADDRINUSE' },
        });
        this.#retry(map, late);
      }
    }
  }

  /** Whether a port is kept for a map. */
  isReserved(proto: Protocol, port: number): boolean {
    return this.#options.maps.some(({ protocol, hostPort }) => protocol === proto && hostPort === port);
  }

  /** Those that name (`ip`, `port`), or any address with it. */
  find(proto: Protocol, { ip, port }: End): PortMap[] {
    return this.#options.maps.filter(
      ({ protocol, guest, guestPort }) =>
        protocol === proto && guestPort === port && (guest === '*' || guest === ip),
    );
  }

  /** Addresses that maps name; `at`: only with a port. */
  addresses(proto: Protocol, at: number): string[] {
    return this.#options.maps
      .filter(({ protocol, guestPort }) => protocol === proto && guestPort === at)
      .map(({ guest }) => guest)
      .filter((guest) => guest !== '*');
  }

  /** Where the host listens for `map`; empty = it waits. */
  listeners(map: PortMap): readonly OpenForward[] {
    return this.#open.get(map) ?? [];
  }

  /** Lead to a service, or with `isIdle` nowhere. @throws ForwardRefused */
  async aim(map: PortMap, aim: Aim): Promise<void> {
    const { engine } = this.#options;
    await Promise.all(this.listeners(map).map((open) => engine.aimForward(open, aim)));
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await closeHostListeners(this.#options.engine, [...this.#open.values()].flat());
    this.#open.clear();
  }

  async #bindOne(map: PortMap): Promise<void> {
    const { engine, minPort } = this.#options;
    const addresses = this.#addressesOf(map);
    const rest = {
      ...{ protocol: map.protocol, proxyHeader: false, rpc: false, source: map.source },
      ...{ target: this.idleTarget(map), isIdle: true },
    };
    if (map.hostPort !== 0) {
      this.#open.set(map, await openHostListeners(engine, addresses, map.hostPort, rest));
      return;
    }
    const isReserved = (proto: Protocol, port: number): boolean => this.isReserved(proto, port);
    const wish = { addresses, port: map.guestPort, kept: undefined, minPort, isReserved, rest };
    this.#open.set(map, (await openSomewhere(engine, wish)).open);
  }

  /** Something that is an address of the guest's. */
  idleTarget({ guest, guestPort: port }: PortMap): { address: string; port: number } {
    const { guest4, guest6 } = this.#options.plan;
    const address = guest === '*' || guest === '0.0.0.0' ? guest4 : guest === '::' ? guest6 : guest;
    return { address, port };
  }

  #addressesOf({ host }: PortMap): string[] {
    if (host !== '') return [host];
    return this.#options.hasIpv6 ? ['0.0.0.0', '::'] : ['0.0.0.0'];
  }

  #retry(map: PortMap, late: (map: PortMap) => void): void {
    const again = async (): Promise<void> => {
      if (this.#isClosed) return;
      try {
        await this.#bindOne(map);
        // Closed while it was being bound.
        if (this.#isClosed) await this.close();
        else late(map);
      } catch (error) {
        // Otherwise the data plane is gone, and everything with it.
        if (error instanceof ForwardRefused) this.#retry(map, late);
      }
    };
    setTimeout(() => void again(), RETRY_MS).unref();
  }

  #explain(map: PortMap, error: ForwardRefused): Error {
    const { protocol, hostPort, text } = map;
    const [address = ''] = this.#addressesOf(map);
    const place = `${address.includes(':') ? `[${address}]` : address}:${hostPort}/${protocol}`;
    let what = error.message;
    if (isRefused(error, 'EADDRINUSE')) what = `host ${place} is in use${byOwner(protocol, hostPort)}`;
    return new Error(`port map ${text}: ${what}`, { cause: error });
  }
}

/** As an end is told: any address is the wildcard. */
export function endAddress({ guest }: PortMap): string {
  return guest === '*' ? '0.0.0.0' : guest;
}

/** What a map stands for where nobody looks for services: that its service is there. */
export function serviceOf(map: PortMap): Service {
  const { protocol: proto, guestPort: port } = map;
  const ip = endAddress(map);
  return {
    ...{ proto, guestEnd: { ip, port }, dualStack: false, process: null },
    ...{ hostPort: 0, hostAddress: '', source: '' },
  };
}

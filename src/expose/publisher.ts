/**
 * Gives services of the guest ports of the host, and takes them back.
 *
 * What is wanted changes at once, what is open follows in turns, one service at a time and in the order of their coming, so
 * that the ports come out the same each time. A service that goes and comes back before its turn changes nothing. A service
 * that was here before gets the port that it had, if that is still free.
 *
 * A service that listens on all addresses is one, and reached at the guest's own. It is one more for each address that a port
 * map names, and with `perAddress` for each that any service was seen at.
 *
 * Limits: `PublishSpec.max` services at a time besides those of maps, the others wait; `ADDRESSES_MAX` addresses.
 */
import { getSystemErrorName } from 'node:util';
import type { AddressPlan, Endpoint, PortMap, PublishSpec } from '../config.ts';
import { ForwardRefused, type OpenForward } from '../control/engine-client.ts';
import type { FlowReport } from '../engine/messages.ts';
import { parseIpAddress } from '../stack/wire/address.ts';
import type { End, EventSink, Protocol, Published } from './event.ts';
import {
  closeHostListeners,
  countFlows,
  type ForwardEngine,
  isRefused,
  type Opened,
  openHostListeners,
  openSomewhere,
} from './host-listeners.ts';
import { KeptPorts } from './kept-ports.ts';
import { endAddress, MappedPorts, serviceOf } from './mapped-ports.ts';
import type { Service, ServiceSink } from './service.ts';

/** How often a port that has to be the one is tried again. */
const RETRY_MS = 5000;
/** How long a guest that is there does not take to answer. */
const UNANSWERED_MS = 1000;
/** Of the guest's, that count with `perAddress`. */
const ADDRESSES_MAX = 256;

export interface PublisherOptions {
  engine: ForwardEngine;
  events: EventSink;
  spec: PublishSpec;
  /** Where a wildcard service is reached. */
  plan: Pick<AddressPlan, 'guest4' | 'guest6'>;
  /** See `lowestPort`. */
  minPort: number;
  /** The host has IPv6. */
  hasIpv6: boolean;
}

/** One end of the guest's that is to be reached. */
interface Publication {
  readonly key: string;
  readonly proto: Protocol;
  /** Whose port it has; null: one of its own. */
  readonly map: PortMap | null;
  /** Those that have this end, and how each has it; none: it is to be closed. */
  readonly services: Map<Service, End>;
  /** The one that is reached. */
  served: Service | undefined;
  guestEnd: End;
  /** Why it was closed. */
  cause: 'closed' | 'policy' | 'stop';
  /** The host's end; empty = there is none. */
  open: readonly OpenForward[];
  /** Whom the service sees. */
  source: string;
  /** That nothing comes back from there was told. */
  isWarned: boolean;
  /** The one port that it may have is in use, which was told; it is tried again. */
  isRetried: boolean;
  /** As it was told when it was opened; null: it is not open. */
  told: Published | null;
  /** Why not, or empty. */
  failure: string;
}

function isWildcard(ip: string): boolean {
  return ip === '0.0.0.0' || ip === '::';
}

/** Whether a client at the address of family `ip` reaches a service that listens on all. */
function covers({ guestEnd, dualStack }: Service, ip: string): boolean {
  return dualStack || ip.includes(':') === guestEnd.ip.includes(':');
}

export class Publisher implements ServiceSink {
  readonly #options: PublisherOptions;
  readonly #mapped: MappedPorts;
  readonly #kept: KeptPorts;
  readonly #publications = new Map<string, Publication>();
  readonly #ofService = new Map<Service, Set<Publication>>();
  /** Addresses of the guest's that count, in the order of their coming. */
  readonly #addresses = new Set<string>();
  /** Whose turn is to come, in order. */
  readonly #changed = new Set<Publication>();
  /** Those that have a place: open, or tried again. */
  readonly #placed = new Set<Publication>();
  /** Those for which there was no place, in order. */
  readonly #waiting = new Set<Publication>();
  #work: Promise<void> | undefined;
  #isStopped = false;

  /** @throws Error with one line */
  constructor(options: PublisherOptions) {
    const { engine, events, spec, plan, minPort, hasIpv6 } = options;
    const { maps, waitsForMaps: waits } = spec;
    this.#options = options;
    this.#mapped = new MappedPorts({ engine, events, maps, waits, plan, minPort, hasIpv6 });
    this.#kept = new KeptPorts(spec.statePath);
    if (!spec.perAddress) return;
    for (const map of maps) if (!isWildcard(endAddress(map))) this.#addresses.add(map.guest);
  }

  /** Binds the ports of the maps. Rejects with one line. */
  async start(): Promise<void> {
    const { spec } = this.#options;
    await this.#mapped.bind((map) => {
      for (const publication of this.#publications.values())
        if (publication.map === map) this.#change(publication);
    });
    if (!spec.findsServices) for (const map of spec.maps) this.appear(serviceOf(map));
    await this.settled();
  }

  appear(service: Service): void {
    if (this.#isStopped) return;
    const { guestEnd } = service;
    this.#ofService.set(service, new Set());
    if (isWildcard(guestEnd.ip)) {
      this.#publish(service, guestEnd);
      for (const ip of this.#addressesFor(service)) this.#publish(service, { ip, port: guestEnd.port });
      return;
    }
    this.#noteAddress(guestEnd.ip);
    this.#publish(service, guestEnd);
  }

  vanish(service: Service, cause: 'closed' | 'policy'): void {
    for (const publication of this.#ofService.get(service) ?? []) {
      publication.services.delete(service);
      publication.cause = cause;
      this.#change(publication);
    }
    this.#ofService.delete(service);
  }

  /**
   * A connection that the guest has not answered, as if it had not come to it: whoever it seems to come from may be reached
   * another way than through us, so that the answer goes there.
   */
  heard(report: FlowReport): void {
    if (report.type !== 'flow' || report.kind !== 'local' || report.failure !== 'left') return;
    if (report.protocol !== 'tcp' || report.ageMs < UNANSWERED_MS) return;
    for (const publication of this.#publications.values()) {
      const { proto, guestEnd, open, source, isWarned } = publication;
      if (isWarned || source === 'gateway' || source === '') continue;
      if (!open.some(({ id }) => id === report.forward)) continue;
      publication.isWarned = true;
      this.#options.events.emit({ type: 'forward.warning', proto, guestEnd, reason: 'asymmetric' });
    }
  }

  /** How a service is published at the moment, and why it is not: an errno's name, or empty where it waits for a place. */
  outcome(service: Service): { published: Published[]; failure: string } {
    const published: Published[] = [];
    let failure = '';
    for (const publication of this.#ofService.get(service) ?? []) {
      if (publication.told !== null) published.push(publication.told);
      failure ||= publication.failure;
    }
    return { published, failure };
  }

  /** Resolves when what is open is what is wanted. */
  async settled(): Promise<void> {
    while (this.#work !== undefined) await this.#work;
  }

  /** Closes everything, for good. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#ofService.clear();
    for (const publication of this.#publications.values()) {
      publication.services.clear();
      publication.cause = 'stop';
      this.#change(publication);
    }
    await this.settled();
    await this.#mapped.close();
  }

  /** The addresses, besides the guest's own, at which a service that listens on all is published. */
  #addressesFor(service: Service): string[] {
    const { proto, guestEnd } = service;
    const named = this.#options.spec.perAddress
      ? [...this.#addresses]
      : this.#mapped.addresses(proto, guestEnd.port);
    return named.filter((ip) => !isWildcard(ip) && covers(service, ip));
  }

  /** Those that listen on all addresses listen on this one too. */
  #noteAddress(ip: string): void {
    const addresses = this.#addresses;
    if (!this.#options.spec.perAddress || addresses.has(ip) || addresses.size >= ADDRESSES_MAX) return;
    addresses.add(ip);
    for (const service of this.#ofService.keys()) {
      const { guestEnd } = service;
      if (isWildcard(guestEnd.ip) && covers(service, ip)) this.#publish(service, { ip, port: guestEnd.port });
    }
  }

  /** Has `service` published at one of its ends: at the ports that maps keep for that, else at one of its own. */
  #publish(service: Service, end: End): void {
    const maps = this.#mapped.find(service.proto, end);
    for (const map of maps) this.#want(service, end, map);
    // Where a map leads to the address at which it is reached anyway, that is enough.
    const isMapped =
      isWildcard(end.ip) &&
      !this.#options.spec.perAddress &&
      this.#mapped.find(service.proto, { ip: this.#addressOf(service, end.ip), port: end.port }).length > 0;
    if (maps.length === 0 && !isMapped) this.#want(service, end, null);
  }

  #want(service: Service, end: End, map: PortMap | null): void {
    const { proto } = service;
    const key = map === null ? `${proto} ${end.ip} ${end.port}` : `map ${map.text}`;
    let publication = this.#publications.get(key);
    if (publication === undefined) {
      publication = {
        ...{ key, proto, map, guestEnd: end, served: undefined },
        services: new Map<Service, End>(),
        ...{
          cause: 'closed',
          open: [],
          source: '',
          isWarned: false,
          isRetried: false,
          told: null,
          failure: '',
        },
      };
      this.#publications.set(key, publication);
    }
    if (!publication.services.has(service)) publication.services.set(service, end);
    this.#ofService.get(service)?.add(publication);
    this.#change(publication);
  }

  /** Where `service`, which listens at `ip`, is reached. */
  #addressOf({ dualStack }: Service, ip: string): string {
    const { guest4, guest6 } = this.#options.plan;
    if (ip === '0.0.0.0') return guest4;
    if (ip === '::') return dualStack ? guest4 : guest6;
    return ip;
  }

  #change(publication: Publication): void {
    this.#changed.add(publication);
    this.#work ??= this.#takeTurns();
  }

  async #takeTurns(): Promise<void> {
    // Not before whoever changes something has changed all of it.
    await Promise.resolve();
    for (const publication of this.#changed) {
      this.#changed.delete(publication);
      const { services, guestEnd } = publication;
      const [[, end] = []] = services;
      // A map for any address leads on to where its service is now.
      const isRight = end !== undefined && end.ip === guestEnd.ip;
      if (publication.open.length > 0) {
        if (isRight) continue;
        await this.#close(publication);
      }
      if (services.size > 0) await this.#open(publication);
      // It may be wanted again by now.
      else this.#forget(publication);
    }
    this.#work = undefined;
  }

  async #open(publication: Publication): Promise<void> {
    const { events, spec } = this.#options;
    const { proto, services } = publication;
    const [[service, guestEnd] = []] = services;
    if (service === undefined || guestEnd === undefined || !this.#hasPlace(publication)) return;
    const source = service.source || publication.map?.source || spec.source;
    publication.guestEnd = guestEnd;
    publication.source = source;
    try {
      const opened = await this.#bind(publication, service, source);
      publication.open = opened.open;
      publication.isRetried = false;
      publication.failure = '';
      // It waits for the port of its map.
      if (opened.open.length === 0) return;
      const { reason } = opened;
      const hostEnd = hostEndOf(opened.open);
      const { process } = service;
      publication.told = { proto, guestEnd, hostEnd, reason, process, source: source || 'client' };
      events.emit({ type: 'forward.added', ...publication.told });
    } catch (error) {
      this.#failed(publication, error);
    }
  }

  async #close(publication: Publication): Promise<void> {
    const { engine, events } = this.#options;
    const { proto, map, guestEnd, open, cause } = publication;
    publication.open = [];
    publication.told = null;
    const counts = await countFlows(engine, open);
    if (map === null) await closeHostListeners(engine, open);
    else await this.#mapped.aim(map, { target: this.#mapped.idleTarget(map), source: '', isIdle: true });
    events.emit({ type: 'forward.removed', proto, guestEnd, hostEnd: hostEndOf(open), cause, ...counts });
  }

  #failed(publication: Publication, error: unknown): void {
    // Otherwise the data plane is gone, and everything with it.
    if (!(error instanceof ForwardRefused)) return;
    const { proto, guestEnd } = publication;
    const errno = getSystemErrorName(-error.errno);
    if (!publication.isRetried)
      this.#options.events.emit({ type: 'forward.failed', proto, guestEnd, reason: errno, errno });
    publication.failure = errno;
    publication.isRetried = isRefused(error, 'EADDRINUSE');
    if (publication.isRetried) setTimeout(() => this.#change(publication), RETRY_MS).unref();
    else this.#giveUpPlace(publication);
  }

  /** Whether `publication` may have one of the places; otherwise it waits. Maps have their own. */
  #hasPlace(publication: Publication): boolean {
    const { spec, events } = this.#options;
    if (publication.map !== null || this.#placed.has(publication)) return true;
    if (this.#placed.size < spec.max) {
      this.#placed.add(publication);
      return true;
    }
    const { proto, guestEnd } = publication;
    if (this.#waiting.size === 0) events.emit({ type: 'forward.failed', proto, guestEnd, reason: 'limit' });
    this.#waiting.add(publication);
    return false;
  }

  #giveUpPlace(publication: Publication): void {
    this.#waiting.delete(publication);
    const [next] = this.#waiting;
    if (!this.#placed.delete(publication) || next === undefined) return;
    this.#waiting.delete(next);
    this.#change(next);
  }

  /** Nobody wants it. */
  #forget(publication: Publication): void {
    this.#giveUpPlace(publication);
    if (this.#publications.get(publication.key) === publication) this.#publications.delete(publication.key);
  }

  /** Has a port of the host lead to it. @throws ForwardRefused */
  async #bind({ proto, map, guestEnd }: Publication, service: Service, source: string): Promise<Opened> {
    const { engine, spec, minPort } = this.#options;
    const { port } = guestEnd;
    const aim = { target: this.#targetOf(service, guestEnd), source, isIdle: false };
    if (map !== null) {
      await this.#mapped.aim(map, aim);
      return { open: this.#mapped.listeners(map), reason: 'fixed' };
    }
    const addresses = this.#hostAddresses(service);
    const rest = { protocol: proto, proxyHeader: false, rpc: false, ...aim };
    const { hostPort } = service;
    if (hostPort !== 0)
      return { open: await openHostListeners(engine, addresses, hostPort, rest), reason: 'fixed' };
    if (spec.exact) return { open: await openHostListeners(engine, addresses, port, rest), reason: 'same' };
    const kept = this.#kept.get(proto, guestEnd);
    const isReserved = (of: Protocol, host: number): boolean => this.#mapped.isReserved(of, host);
    const opened = await openSomewhere(engine, { addresses, port, kept, minPort, isReserved, rest });
    this.#kept.set(proto, guestEnd, hostEndOf(opened.open).port);
    return opened;
  }

  #targetOf(service: Service, { ip, port }: End): Endpoint {
    return { address: this.#addressOf(service, ip), port };
  }

  /** What the guest has on its loopback is for the host's alone. */
  #hostAddresses({ hostAddress, guestEnd }: Service): string[] {
    const { spec, hasIpv6 } = this.#options;
    const bind = parseIpAddress(guestEnd.ip).isLoopback ? ['127.0.0.1', '::1'] : spec.bind;
    const wanted = hostAddress === '' ? bind : isWildcard(hostAddress) ? ['0.0.0.0', '::'] : [hostAddress];
    return wanted.filter((address, _, all) => hasIpv6 || all.length === 1 || !address.includes(':'));
  }
}

/** As it is told: the first of several addresses. */
function hostEndOf([first]: readonly OpenForward[]): End {
  return first?.listen.kind === 'ip'
    ? { ip: first.listen.address, port: first.listen.port }
    : { ip: '', port: 0 };
}

/**
 * Gives services of the guest ports of the host, and takes them back.
 *
 * What is wanted changes at once, what is open follows in turns, one service at a time and in the order of their coming, so
 * that the ports come out the same each time. A service that goes and comes back before its turn changes nothing. A service
 * that was here before gets the port that it had, if that is still free.
 *
 * Limits: `PublishSpec.max` services at a time, the others wait; `KEPT_MAX` ports are remembered.
 */
import { getSystemErrorName } from 'node:util';
import type { AddressPlan, Endpoint, PublishSpec } from '../config.ts';
import { ForwardRefused, type OpenForward } from '../control/engine-client.ts';
import type { End, EventSink, PortReason, Protocol } from './event.ts';
import { closeHostListeners, type ForwardEngine, isRefused, openHostListeners } from './host-listeners.ts';
import { candidates } from './host-ports.ts';
import type { Service, ServiceSink } from './service.ts';

const KEPT_MAX = 4096;
/** How often a port that has to be the one is tried again. */
const RETRY_MS = 5000;

export interface PublisherOptions {
  engine: ForwardEngine;
  events: EventSink;
  spec: PublishSpec;
  /** Where a wildcard service is reached. */
  plan: Pick<AddressPlan, 'guest4' | 'guest6'>;
  /** See `lowestPort`. */
  minPort: number;
}

/** One end of the guest's that is to be reached. */
interface Publication {
  readonly key: string;
  readonly proto: Protocol;
  readonly guestEnd: End;
  readonly target: Endpoint;
  /** Those that have this end; none: it is to be closed. */
  readonly services: Set<Service>;
  /** Why it was closed. */
  cause: 'closed' | 'policy' | 'stop';
  /** The host's end; empty = there is none. */
  open: readonly OpenForward[];
  /** The one port that it may have is in use, which was told; it is tried again. */
  isRetried: boolean;
}

interface Opened {
  open: readonly OpenForward[];
  reason: PortReason;
}

export class Publisher implements ServiceSink {
  readonly #options: PublisherOptions;
  readonly #publications = new Map<string, Publication>();
  readonly #ofService = new Map<Service, Publication[]>();
  /** Whose turn is to come, in order. */
  readonly #changed = new Set<Publication>();
  /** Those that are open, or tried again. */
  readonly #placed = new Set<Publication>();
  /** Those for which there was no place, in order. */
  readonly #waiting = new Set<Publication>();
  /** Ports that were given, by key; the oldest are forgotten. */
  readonly #kept = new Map<string, number>();
  #work: Promise<void> | undefined;

  constructor(options: PublisherOptions) {
    this.#options = options;
  }

  appear(service: Service): void {
    const publications = [this.#publicationOf(service, service.guestEnd)];
    this.#ofService.set(service, publications);
    for (const publication of publications) {
      publication.services.add(service);
      this.#change(publication);
    }
  }

  vanish(service: Service, cause: 'closed' | 'policy'): void {
    for (const publication of this.#ofService.get(service) ?? []) {
      publication.services.delete(service);
      publication.cause = cause;
      this.#change(publication);
    }
    this.#ofService.delete(service);
  }

  /** Resolves when what is open is what is wanted. */
  async settled(): Promise<void> {
    while (this.#work !== undefined) await this.#work;
  }

  /** Closes everything, for good. */
  async stop(): Promise<void> {
    this.#ofService.clear();
    for (const publication of this.#publications.values()) {
      publication.services.clear();
      publication.cause = 'stop';
      this.#change(publication);
    }
    await this.settled();
  }

  #publicationOf(service: Service, guestEnd: End): Publication {
    const { proto } = service;
    const key = `${proto} ${guestEnd.ip} ${guestEnd.port}`;
    let publication = this.#publications.get(key);
    if (publication === undefined) {
      const target = { address: this.#addressOf(service, guestEnd.ip), port: guestEnd.port };
      publication = {
        ...{ key, proto, guestEnd, target, services: new Set<Service>() },
        ...{ cause: 'closed', open: [], isRetried: false },
      };
      this.#publications.set(key, publication);
    }
    return publication;
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
      const isOpen = publication.open.length > 0;
      if (publication.services.size > 0) {
        if (!isOpen) await this.#open(publication);
        continue;
      }
      if (isOpen) await this.#close(publication);
      // It may be wanted again by now.
      if (publication.services.size === 0) this.#forget(publication);
    }
    this.#work = undefined;
  }

  async #open(publication: Publication): Promise<void> {
    const { events } = this.#options;
    const { proto, guestEnd, services } = publication;
    const [service] = services;
    if (service === undefined || !this.#hasPlace(publication)) return;
    try {
      const { open, reason } = await this.#bind(publication, service);
      publication.open = open;
      publication.isRetried = false;
      const hostEnd = hostEndOf(open);
      this.#keep(publication.key, hostEnd.port);
      const { process } = service;
      const source = service.source || 'client';
      events.emit({ type: 'forward.added', proto, guestEnd, hostEnd, reason, process, source });
    } catch (error) {
      this.#failed(publication, error);
    }
  }

  async #close(publication: Publication): Promise<void> {
    const { engine, events } = this.#options;
    const { proto, guestEnd, open, cause } = publication;
    publication.open = [];
    await closeHostListeners(engine, open);
    const counts = { connections: 0, bytesIn: 0, bytesOut: 0 };
    events.emit({ type: 'forward.removed', proto, guestEnd, hostEnd: hostEndOf(open), cause, ...counts });
  }

  #failed(publication: Publication, error: unknown): void {
    // Otherwise the data plane is gone, and everything with it.
    if (!(error instanceof ForwardRefused)) return;
    const { proto, guestEnd } = publication;
    const errno = getSystemErrorName(-error.errno);
    if (!publication.isRetried)
      this.#options.events.emit({ type: 'forward.failed', proto, guestEnd, reason: errno, errno });
    publication.isRetried = isRefused(error, 'EADDRINUSE');
    if (publication.isRetried) setTimeout(() => this.#change(publication), RETRY_MS).unref();
    else this.#giveUpPlace(publication);
  }

  /** Whether `publication` may have one of the places; otherwise it waits. */
  #hasPlace(publication: Publication): boolean {
    const { spec, events } = this.#options;
    if (this.#placed.has(publication)) return true;
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

  /** Listens for it at the first port that can be had. */
  async #bind(publication: Publication, service: Service): Promise<Opened> {
    const { spec, minPort } = this.#options;
    const { key, guestEnd } = publication;
    const addresses = service.hostAddress === '' ? spec.bind : [service.hostAddress];
    const rest = {
      ...{ protocol: publication.proto, target: publication.target },
      ...{ proxyHeader: false, rpc: false },
    };
    const listen = (port: number): Promise<readonly OpenForward[]> =>
      openHostListeners(this.#options.engine, addresses, port, rest);

    if (service.hostPort !== 0) return { open: await listen(service.hostPort), reason: 'fixed' };
    if (spec.exact) return { open: await listen(guestEnd.port), reason: 'same' };
    let isPrivileged = guestEnd.port < minPort;
    for (const port of inOrder(this.#kept.get(key), candidates(guestEnd.port, minPort))) {
      try {
        const open = await listen(port);
        if (port === guestEnd.port) return { open, reason: 'same' };
        return { open, reason: isPrivileged ? 'privileged' : 'busy' };
      } catch (error) {
        if (!isRefused(error, 'EADDRINUSE', 'EACCES')) throw error;
        if (port === guestEnd.port && isRefused(error, 'EACCES')) isPrivileged = true;
      }
    }
    return { open: await listen(0), reason: 'random' };
  }

  #keep(key: string, port: number): void {
    this.#kept.delete(key);
    this.#kept.set(key, port);
    if (this.#kept.size > KEPT_MAX) this.#kept.delete(this.#kept.keys().next().value as string);
  }
}

/** The port that it had first. */
function* inOrder(kept: number | undefined, others: Iterable<number>): Generator<number, void, undefined> {
  if (kept !== undefined) yield kept;
  yield* others;
}

/** As it is told: the first of several addresses. */
function hostEndOf([first]: readonly OpenForward[]): End {
  return first?.listen.kind === 'ip'
    ? { ip: first.listen.address, port: first.listen.port }
    : { ip: '', port: 0 };
}

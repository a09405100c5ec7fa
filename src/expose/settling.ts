/**
 * From what one look after the other finds to what is there for good: which service has come, gone, or only been started
 * again. No clock of its own and no timers: the time comes with each look, in ms.
 *
 *     pending ── confirmed by another look, UDP for longer ──→ present ── away for a while ──→ gone
 *        └── away: it was never there                             └── back meanwhile: a flap
 *
 * Sockets with the same key are one service (SO_REUSEPORT).
 */
import { type OpenSocket, socketKey } from './open-socket.ts';

/** A socket that lasts no longer than this is not told of. */
export const CONFIRM_MS = 55;
/** UDP sockets of clients come and go more often than services. */
export const UDP_CONFIRM_MS = 500;
/** A service that is started again is back by then. */
export const ABSENCE_MS = 2000;
/** So many of those make it unstable. */
export const UNSTABLE_FLAPS = 3;
/** Of one guest. Sockets beyond that are overlooked until others have gone. */
export const SERVICES_MAX = 4096;

/** A service, from its first look to its last. */
export interface Settled {
  readonly key: string;
  /** One of its sockets, as it was last seen. */
  socket: OpenSocket;
  /** Those that it has. */
  inodes: ReadonlySet<number>;
  readonly firstSeen: number;
  isPresent: boolean;
  /** Since when it is away; 0: it is not. */
  awaySince: number;
  /** Looks that have missed it one after the other. */
  misses: number;
  flaps: number;
}

/** What a look has changed; each is told once. */
export interface Changes {
  /** May be there, and will be told of if it stays. */
  pending: Settled[];
  added: Settled[];
  removed: Settled[];
  flapped: Settled[];
}

export class Settling {
  readonly #services = new Map<string, Settled>();
  /** There were more than `SERVICES_MAX`. */
  isFull = false;
  /** When another look can change something although the sockets stay the same; Infinity: never. */
  due: number = Number.POSITIVE_INFINITY;

  /** `sockets`: all that there are now. */
  look(sockets: readonly OpenSocket[], now: number): Changes {
    const changes: Changes = { pending: [], added: [], removed: [], flapped: [] };
    const found = new Map<string, { socket: OpenSocket; inodes: Set<number> }>();
    for (const socket of sockets) {
      const key = socketKey(socket);
      const known = found.get(key);
      if (known === undefined) found.set(key, { socket, inodes: new Set([socket.inode]) });
      else known.inodes.add(socket.inode);
    }
    for (const service of this.#services.values()) {
      if (!found.has(service.key)) this.#miss(service, now, changes);
    }
    this.isFull = false;
    for (const [key, { socket, inodes }] of found) {
      const service = this.#services.get(key);
      if (service !== undefined) this.#meet(service, socket, inodes, now, changes);
      else if (this.#services.size >= SERVICES_MAX) this.isFull = true;
      else {
        const newcomer: Settled = {
          ...{ key, socket, inodes, firstSeen: now },
          ...{ isPresent: false, awaySince: 0, misses: 0, flaps: 0 },
        };
        this.#services.set(key, newcomer);
        changes.pending.push(newcomer);
      }
    }
    this.due = this.#nextDue();
    return changes;
  }

  /** Whether it has not gone. */
  has(service: Settled): boolean {
    return this.#services.get(service.key) === service;
  }

  #nextDue(): number {
    let due = Number.POSITIVE_INFINITY;
    for (const { isPresent, awaySince, firstSeen, socket } of this.#services.values()) {
      if (awaySince > 0) due = Math.min(due, awaySince + ABSENCE_MS);
      else if (!isPresent) due = Math.min(due, firstSeen + confirmMs(socket));
    }
    return due;
  }

  #miss(service: Settled, now: number, { removed }: Changes): void {
    if (!service.isPresent) {
      this.#services.delete(service.key);
      return;
    }
    if (service.awaySince === 0) service.awaySince = now;
    service.misses += 1;
    if (service.misses < 2 || now - service.awaySince < ABSENCE_MS) return;
    this.#services.delete(service.key);
    removed.push(service);
  }

  #meet(
    service: Settled,
    socket: OpenSocket,
    inodes: ReadonlySet<number>,
    now: number,
    { added, flapped }: Changes,
  ): void {
    const isOther = ![...inodes].some((inode) => service.inodes.has(inode));
    const wasAway = service.awaySince > 0;
    service.socket = socket;
    service.inodes = inodes;
    service.awaySince = 0;
    service.misses = 0;
    if (service.isPresent) {
      if (!wasAway && !isOther) return;
      service.flaps += 1;
      flapped.push(service);
    } else if (now - service.firstSeen >= confirmMs(socket)) {
      service.isPresent = true;
      added.push(service);
    }
  }
}

function confirmMs({ proto }: OpenSocket): number {
  return proto === 'tcp' ? CONFIRM_MS : UDP_CONFIRM_MS;
}

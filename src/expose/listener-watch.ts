/**
 * Follows the sockets of a guest that wait for clients: looks again and again, tells of those that stay and of those that go,
 * and hands what is to be a forward to whoever publishes. All of it on the main thread.
 *
 * Work is bounded, whatever the guest does: a look that takes long is followed by a longer wait, the owners of sockets are asked for only
 * so often, and what is kept is bounded by `SERVICES_MAX`.
 */
import type { AutoForwardSpec } from '../config.ts';
import type { EventSink, Listener } from './event.ts';
import { type JudgeOptions, judge } from './judge.ts';
import type { OpenSocket } from './open-socket.ts';
import type { Service, ServiceSink } from './service.ts';
import { type Changes, type Settled, Settling, UNSTABLE_FLAPS } from './settling.ts';
import type { SocketSource } from './socket-source.ts';

/** Of a process that has a socket, as the host sees it. */
export interface Owner {
  pid: number;
  process: string;
}

export interface WatchOptions {
  source: SocketSource;
  /** Where it is looked when that comes to nothing; null: nowhere. */
  fallback: SocketSource | null;
  /** By inode, of those that are to be found. */
  owners: (inodes: readonly number[]) => Promise<ReadonlyMap<number, Owner>>;
  judging: JudgeOptions;
  events: EventSink;
  sink: ServiceSink;
  /** There is another source from now on, or none. */
  sourceLost: (method: SocketSource['method'] | 'none', why: string) => void;
  /** ms since the epoch; does not jump. */
  now?: () => number;
  /** ms, to measure turns by. */
  elapsed?: () => number;
}

/** The files in /proc are not read more often, ms. */
const PROC_INTERVAL_MS = 1000;
/** A turn that takes longer is followed by twice the wait, ms; less than half of it, and the wait is as it was. */
const LONG_TURN_MS = 5;
const INTERVAL_MAX_MS = 5000;
/** Looks that are asked for are so far apart, ms. */
const ASKED_INTERVAL_MS = 50;
/** A twentieth of a core at most. */
const TURN_SHARE = 20;
/** Owners are asked for at most so often in a row, and twice a second: each time it may take 20 ms. */
const ASKS_MAX = 10;
const ASK_EVERY_MS = 500;
/** In one order to the broker. */
const INODES_MAX = 1000;
/** Nobody waits longer for a name, ms. */
const OWNERS_MS = 1000;

/** One that was told of. */
interface Announced {
  readonly listener: Listener;
  /** What it is for the publisher; null: nothing. */
  readonly service: Service | null;
}

export class ListenerWatch {
  readonly #options: WatchOptions;
  readonly #settling = new Settling();
  readonly #announced = new Map<Settled, Announced>();
  /** Wildcard services of one port in both families are one for clients: the first has the forward. */
  readonly #sharing = new Map<string, Settled[]>();
  readonly #now: () => number;
  readonly #elapsed: () => number;
  #source: SocketSource;
  #fallback: SocketSource | null;
  #found: readonly OpenSocket[] | null = null;
  #timer: NodeJS.Timeout | undefined;
  #slowness = 1;
  /** When the next look may be, if it is asked for. */
  #mayLookAt = 0;
  #asks = ASKS_MAX;
  #askedAt = 0;
  #isOver = false;

  constructor(options: WatchOptions) {
    this.#options = options;
    this.#source = options.source;
    this.#fallback = options.fallback;
    this.#elapsed = options.elapsed ?? (() => performance.now());
    this.#now = options.now ?? (() => Math.round(performance.timeOrigin + performance.now()));
  }

  start(): void {
    this.#turn();
  }

  /** The guest has refused a client: something has changed. */
  lookNow(): void {
    if (this.#isOver || this.#elapsed() < this.#mayLookAt) return;
    clearTimeout(this.#timer);
    this.#turn();
  }

  /** Nothing is looked for any more; what is published stays. */
  stop(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#source.close();
    this.#fallback?.close();
  }

  /** The guest is gone, and everything of it. */
  end(): void {
    this.stop();
    const now = this.#now();
    for (const settled of [...this.#announced.keys()]) {
      settled.awaySince ||= now;
      this.#remove(settled);
    }
  }

  #turn(): void {
    const begun = this.#elapsed();
    const sockets = this.#look();
    if (sockets === null) return;
    const now = this.#now();
    if (sockets !== this.#found || now >= this.#settling.due) {
      this.#found = sockets;
      const { judging } = this.#options;
      const services = sockets.filter((socket) => judge(socket, judging).kind !== 'ignored');
      this.#apply(this.#settling.look(services, now));
    }
    this.#schedule(this.#elapsed() - begun, now);
  }

  /** Null: there is nowhere to look any more. */
  #look(): readonly OpenSocket[] | null {
    for (;;) {
      try {
        return this.#source.look();
      } catch (error) {
        const fallback = this.#fallback;
        this.#fallback = null;
        const why = error instanceof Error ? error.message : String(error);
        this.#options.sourceLost(fallback?.method ?? 'none', why);
        if (fallback === null) {
          this.stop();
          return null;
        }
        this.#source.close();
        this.#source = fallback;
      }
    }
  }

  #schedule(took: number, now: number): void {
    if (took > LONG_TURN_MS) this.#slowness *= 2;
    else if (took < LONG_TURN_MS / 2) this.#slowness = Math.max(1, this.#slowness / 2);
    const { intervalMs }: AutoForwardSpec = this.#options.judging.spec;
    const least = this.#source.method === 'procfs' ? Math.max(intervalMs, PROC_INTERVAL_MS) : intervalMs;
    const interval = Math.max(least, Math.min(INTERVAL_MAX_MS, least * this.#slowness));
    this.#slowness = Math.max(1, Math.min(this.#slowness, INTERVAL_MAX_MS / least));
    // Only where that costs next to nothing it is looked sooner, for what wants to be confirmed.
    const wait = this.#slowness > 1 ? interval : Math.min(interval, this.#settling.due - now);
    this.#mayLookAt = this.#elapsed() + Math.max(ASKED_INTERVAL_MS, took * TURN_SHARE);
    this.#timer = setTimeout(() => this.#turn(), Math.max(1, wait, took * TURN_SHARE)).unref();
  }

  #apply({ added, removed, flapped }: Changes): void {
    for (const settled of removed) this.#remove(settled);
    for (const settled of flapped) this.#flap(settled);
    if (added.length > 0) void this.#announce(added);
  }

  async #announce(added: readonly Settled[]): Promise<void> {
    const owners = await this.#owners(added.map(({ socket }) => socket.inode));
    if (this.#isOver) return;
    for (const settled of added) {
      // It may have gone by now.
      if (this.#settling.has(settled)) this.#add(settled, owners.get(settled.socket.inode));
    }
  }

  async #owners(inodes: readonly number[]): Promise<ReadonlyMap<number, Owner>> {
    const none: ReadonlyMap<number, Owner> = new Map();
    const now = this.#now();
    this.#asks = Math.min(ASKS_MAX, this.#asks + (now - this.#askedAt) / ASK_EVERY_MS);
    this.#askedAt = now;
    if (this.#asks < 1) return none;
    this.#asks -= 1;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<ReadonlyMap<number, Owner>>((resolve) => {
      timer = setTimeout(() => resolve(none), OWNERS_MS).unref();
    });
    const found = await Promise.race([
      this.#options.owners(inodes.slice(0, INODES_MAX)).catch(() => none),
      late,
    ]);
    clearTimeout(timer);
    return found;
  }

  #add(settled: Settled, owner: Owner | undefined): void {
    const { events, judging } = this.#options;
    const { socket, firstSeen } = settled;
    const { device: _, ...shown } = socket;
    const { pid = null, process = null } = owner ?? {};
    const listener: Listener = { ...shown, process, pid, firstSeen };
    events.emit({ type: 'listener.added', ...listener });
    const { proto, ip, port, family, v6only } = socket;
    const guestEnd = { ip, port };
    const judgement = judge(socket, judging);
    if (judgement.kind === 'skipped')
      events.emit({ type: 'forward.skipped', proto, guestEnd, reason: judgement.reason });
    const service: Service | null =
      judgement.kind === 'forward'
        ? {
            ...{ proto, guestEnd, dualStack: family === 6 && !v6only, process },
            ...{ hostPort: 0, hostAddress: '', source: '' },
          }
        : null;
    this.#announced.set(settled, { listener, service });
    if (service !== null) this.#publish(settled, service);
  }

  #publish(settled: Settled, service: Service): void {
    const key = sharedKey(service);
    const sharing = this.#sharing.get(key);
    if (sharing === undefined) {
      this.#sharing.set(key, [settled]);
      this.#options.sink.appear(service);
    } else sharing.push(settled);
  }

  #remove(settled: Settled): void {
    const announced = this.#announced.get(settled);
    if (announced === undefined) return;
    this.#announced.delete(settled);
    const { listener, service } = announced;
    const lastedMs = Math.max(0, settled.awaySince - settled.firstSeen);
    this.#options.events.emit({ type: 'listener.removed', lastedMs, flaps: settled.flaps, ...listener });
    if (service !== null) this.#withdraw(settled, service);
  }

  #withdraw(settled: Settled, service: Service): void {
    const key = sharedKey(service);
    const sharing = this.#sharing.get(key) ?? [];
    const rest = sharing.filter((other) => other !== settled);
    if (rest.length === 0) this.#sharing.delete(key);
    else this.#sharing.set(key, rest);
    if (sharing[0] !== settled) return;
    const { sink } = this.#options;
    sink.vanish(service, 'closed');
    const [next] = rest;
    const other = next === undefined ? null : (this.#announced.get(next)?.service ?? null);
    if (other !== null) sink.appear(other);
  }

  #flap(settled: Settled): void {
    const service = this.#announced.get(settled)?.service ?? null;
    if (service === null) return;
    const { proto, guestEnd } = service;
    const { flaps } = settled;
    const unstable = flaps >= UNSTABLE_FLAPS;
    this.#options.events.emit({ type: 'forward.flap', proto, guestEnd, flaps, unstable });
  }
}

function sharedKey({ proto, guestEnd: { ip, port } }: Service): string {
  return `${proto} ${ip === '::' ? '0.0.0.0' : ip} ${port}`;
}

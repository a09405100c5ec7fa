/**
 * Which query stands behind an id on a socket. A query is asked once of a resolver, by one id on one socket, and may be
 * asked of several resolvers: each of them may yet answer until the query is over. Typed arrays: `ASKS` places for each
 * slot of `DnsQueries`, chained by id and socket, and by socket.
 */
import type { Rng } from '../../stack/rng.ts';
import type { DnsSocket } from './sockets.ts';

/** Resolvers that one query may be asked of at a time. */
export const ASKS = 4;
export const NO_ASK = -1;

/** Slots that there is room for at the beginning. */
const MIN_SLOTS = 16;

export class DnsAsks {
  readonly #rng: Rng;
  /** Null: the place is free. */
  readonly #socket: (DnsSocket | null)[] = [];
  #id: Uint16Array = new Uint16Array(0);
  /** As many as there are places, which is a power of two. */
  #heads: Int32Array = new Int32Array(0);
  #chain: Int32Array = new Int32Array(0);
  #next: Int32Array = new Int32Array(0);
  #previous: Int32Array = new Int32Array(0);

  constructor(rng: Rng) {
    this.#rng = rng;
    this.#resize(MIN_SLOTS * ASKS);
  }

  slotOf(ask: number): number {
    return Math.floor(ask / ASKS);
  }

  socketOf(ask: number): DnsSocket {
    return this.#socket[ask] as DnsSocket;
  }

  idOf(ask: number): number {
    return this.#id[ask] as number;
  }

  /** How the query in `slot` was asked of the resolver of `place`, or `NO_ASK`. */
  ofResolver(slot: number, resolver: object): number {
    for (let ask = slot * ASKS; ask < (slot + 1) * ASKS; ask++)
      if (this.#socket[ask]?.resolver === resolver) return ask;
    return NO_ASK;
  }

  isAsked(slot: number): boolean {
    for (let ask = slot * ASKS; ask < this.#endOf(slot); ask++) if (this.#socket[ask] !== null) return true;
    return false;
  }

  /** The query behind `id` on `socket`, or `NO_ASK`. */
  find(socket: DnsSocket, id: number): number {
    let ask = this.#heads[this.#bucketOf(socket, id)] as number;
    while (ask !== NO_ASK && (this.#socket[ask] !== socket || this.#id[ask] !== id))
      ask = this.#chain[ask] as number;
    return ask;
  }

  /** Have the query in `slot` go by `socket`, under an id that nobody can guess; `NO_ASK`: it has no place left. */
  add(slot: number, socket: DnsSocket): number {
    let ask = slot * ASKS;
    const end = ask + ASKS;
    while (end > this.#socket.length) this.#resize(2 * this.#socket.length);
    while (ask < end && this.#socket[ask] !== null) ask++;
    if (ask === end) return NO_ASK;
    let id: number;
    // A socket carries few queries in its life, of 65,536.
    do id = this.#rng.u32() >>> 16;
    while (this.find(socket, id) !== NO_ASK);
    this.#socket[ask] = socket;
    this.#id[ask] = id;
    this.#enter(ask);
    this.#previous[ask] = NO_ASK;
    this.#next[ask] = socket.newest;
    if (socket.newest !== NO_ASK) this.#previous[socket.newest] = ask;
    socket.newest = ask;
    socket.outstanding++;
    return ask;
  }

  /** The one that was asked on the same socket before `ask`, or `NO_ASK`. */
  earlier(ask: number): number {
    return this.#next[ask] as number;
  }

  remove(ask: number): void {
    const socket = this.socketOf(ask);
    const bucket = this.#bucketOf(socket, this.idOf(ask));
    let other = this.#heads[bucket] as number;
    if (other === ask) this.#heads[bucket] = this.#chain[ask] as number;
    else {
      while (this.#chain[other] !== ask) other = this.#chain[other] as number;
      this.#chain[other] = this.#chain[ask] as number;
    }
    const next = this.#next[ask] as number;
    const previous = this.#previous[ask] as number;
    if (next !== NO_ASK) this.#previous[next] = previous;
    if (previous === NO_ASK) socket.newest = next;
    else this.#next[previous] = next;
    this.#socket[ask] = null;
    socket.outstanding--;
    socket.closeIfDone();
  }

  /** The query in `slot` is over. */
  removeAll(slot: number): void {
    for (let ask = slot * ASKS; ask < this.#endOf(slot); ask++)
      if (this.#socket[ask] !== null) this.remove(ask);
  }

  /** One past the places of `slot`, as far as there are any. */
  #endOf(slot: number): number {
    return Math.min((slot + 1) * ASKS, this.#socket.length);
  }

  /** Have `ask` found by its socket and id. */
  #enter(ask: number): void {
    const bucket = this.#bucketOf(this.socketOf(ask), this.idOf(ask));
    this.#chain[ask] = this.#heads[bucket] as number;
    this.#heads[bucket] = ask;
  }

  #bucketOf(socket: DnsSocket, id: number): number {
    return (id ^ Math.imul(socket.number, 0x9e3b)) & (this.#heads.length - 1);
  }

  #resize(places: number): void {
    const before = this.#socket.length;
    const id = new Uint16Array(places);
    const next = new Int32Array(places);
    const previous = new Int32Array(places);
    id.set(this.#id);
    next.set(this.#next);
    previous.set(this.#previous);
    this.#id = id;
    this.#next = next;
    this.#previous = previous;
    this.#chain = new Int32Array(places);
    this.#heads = new Int32Array(places).fill(NO_ASK);
    for (let ask = 0; ask < before; ask++) if (this.#socket[ask] !== null) this.#enter(ask);
    while (this.#socket.length < places) this.#socket.push(null);
  }
}

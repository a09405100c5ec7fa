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

const BUCKETS = 4096;

export class DnsAsks {
  readonly #rng: Rng;
  /** Null: the place is free. */
  readonly #socket: (DnsSocket | null)[];
  readonly #id: Uint16Array;
  readonly #heads = new Int32Array(BUCKETS).fill(NO_ASK);
  readonly #chain: Int32Array;
  readonly #next: Int32Array;
  readonly #previous: Int32Array;

  constructor(rng: Rng, slots: number) {
    this.#rng = rng;
    const places = slots * ASKS;
    this.#socket = new Array<DnsSocket | null>(places).fill(null);
    this.#id = new Uint16Array(places);
    this.#chain = new Int32Array(places);
    this.#next = new Int32Array(places);
    this.#previous = new Int32Array(places);
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
    for (let ask = slot * ASKS; ask < (slot + 1) * ASKS; ask++) if (this.#socket[ask] !== null) return true;
    return false;
  }

  /** The query behind `id` on `socket`, or `NO_ASK`. */
  find(socket: DnsSocket, id: number): number {
    let ask = this.#heads[bucketOf(socket, id)] as number;
    while (ask !== NO_ASK && (this.#socket[ask] !== socket || this.#id[ask] !== id))
      ask = this.#chain[ask] as number;
    return ask;
  }

  /** Have the query in `slot` go by `socket`, under an id that nobody can guess; `NO_ASK`: it has no place left. */
  add(slot: number, socket: DnsSocket): number {
    let ask = slot * ASKS;
    const end = ask + ASKS;
    while (ask < end && this.#socket[ask] !== null) ask++;
    if (ask === end) return NO_ASK;
    let id: number;
    // A socket carries few queries in its life, of 65,536.
    do id = this.#rng.u32() >>> 16;
    while (this.find(socket, id) !== NO_ASK);
    const bucket = bucketOf(socket, id);
    this.#socket[ask] = socket;
    this.#id[ask] = id;
    this.#chain[ask] = this.#heads[bucket] as number;
    this.#heads[bucket] = ask;
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
    const bucket = bucketOf(socket, this.idOf(ask));
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
    for (let ask = slot * ASKS; ask < (slot + 1) * ASKS; ask++)
      if (this.#socket[ask] !== null) this.remove(ask);
  }
}

function bucketOf(socket: DnsSocket, id: number): number {
  return (id ^ Math.imul(socket.number, 0x9e3b)) & (BUCKETS - 1);
}

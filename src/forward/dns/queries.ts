/**
 * The queries of a guest that wait for an answer: typed arrays by slot, because one object a query is what a crawler's
 * rate would drown in. What an answer is compared with (header and question) is always in `bytes`; the rare query longer
 * than a stride is kept whole beside it.
 *
 * A slot is in one of two lists, each in the order in which its entries are due: `waiting`, whose guest waits for an answer
 * and whose key can be found, and `lingering`, whose guest was told SERVFAIL although a resolver may yet answer.
 */
import type { HalfSipHash } from '../../stack/half-sip-hash.ts';
import { IpAddress } from '../../stack/wire/address.ts';
import { PROTOCOL_UDP } from '../../stack/wire/udp.ts';

/** Bytes of a slot: more than header and question can have (12 + 255 + 4), and most queries whole. */
const STRIDE = 512;
export const NO_SLOT = -1;
/** Slots at the beginning: a quiet guest never needs more. */
const MIN_CAPACITY = 16;

/** Neighbours of each slot in the list it is in. */
class Links {
  next: Int32Array = new Int32Array(0);
  previous: Int32Array = new Int32Array(0);
}

/** Slots in the order in which they were added. */
export class SlotList {
  readonly #links: Links;
  first: number = NO_SLOT;
  #last: number = NO_SLOT;
  size = 0;

  /** `links` are shared: a slot is in one list at a time. */
  constructor(links: Links) {
    this.#links = links;
  }

  add(slot: number): void {
    const { next, previous } = this.#links;
    next[slot] = NO_SLOT;
    previous[slot] = this.#last;
    if (this.#last === NO_SLOT) this.first = slot;
    else next[this.#last] = slot;
    this.#last = slot;
    this.size++;
  }

  remove(slot: number): void {
    const links = this.#links;
    const next = links.next[slot] as number;
    const previous = links.previous[slot] as number;
    if (previous === NO_SLOT) this.first = next;
    else links.next[previous] = next;
    if (next === NO_SLOT) this.#last = previous;
    else links.previous[next] = previous;
    this.size--;
  }

  after(slot: number): number {
    return this.#links.next[slot] as number;
  }
}

export class DnsQueries {
  readonly waiting: SlotList;
  readonly lingering: SlotList;
  /** The query as the guest sent it, at `at(slot)`; valid up to `length`, or `STRIDE` of it. */
  bytes: Uint8Array = new Uint8Array(0);
  view: DataView = new DataView(this.bytes.buffer);
  /** Guest port in the upper 16 bits, the guest's id in the lower. */
  ports: Uint32Array = new Uint32Array(0);
  length: Uint16Array = new Uint16Array(0);
  questionEnd: Uint16Array = new Uint16Array(0);
  /** Bytes of the largest answer that the guest takes. */
  udpSize: Uint16Array = new Uint16Array(0);
  /** When it was asked first, and when something is to happen if nothing comes. */
  since: Float64Array = new Float64Array(0);
  deadline: Float64Array = new Float64Array(0);
  /** Place of the resolver that was asked first, and how many were since; a bit for each that said no. */
  start: Uint8Array = new Uint8Array(0);
  tries: Uint8Array = new Uint8Array(0);
  failed: Uint8Array = new Uint8Array(0);
  readonly #links = new Links();
  readonly #guest: IpAddress[] = [];
  readonly #remote: IpAddress[] = [];
  readonly #long = new Map<number, Uint8Array>();
  #isLingering: Uint8Array = new Uint8Array(0);
  readonly #hash: HalfSipHash;
  /** By hash of guest, port and id: chains of slots. */
  #heads: Int32Array = new Int32Array(0);
  #chain: Int32Array = new Int32Array(0);
  #keyHash: Uint32Array = new Uint32Array(0);
  readonly #free: number[] = [];
  #freeCount = 0;
  readonly #most: number;
  /** Slots that there are by now, up to `#most`. */
  #capacity = 0;

  /** There are never more than `most` queries. */
  constructor(hash: HalfSipHash, most: number) {
    this.#hash = hash;
    this.#most = most;
    this.waiting = new SlotList(this.#links);
    this.lingering = new SlotList(this.#links);
    this.#grow(MIN_CAPACITY);
  }

  get isFull(): boolean {
    return this.#freeCount === 0 && this.#capacity === this.#most;
  }

  at(slot: number): number {
    return slot * STRIDE;
  }

  guest(slot: number): IpAddress {
    return this.#guest[slot] as IpAddress;
  }

  /** The address of ours that was asked. */
  remote(slot: number): IpAddress {
    return this.#remote[slot] as IpAddress;
  }

  isLingering(slot: number): boolean {
    return this.#isLingering[slot] === 1;
  }

  /** The waiting query of these ends and this id, or `NO_SLOT`. */
  find(guest: IpAddress, remote: IpAddress, ports: number): number {
    const hash = this.#hash.tuple(guest, remote, ports, PROTOCOL_UDP);
    let slot = this.#heads[hash & (this.#heads.length - 1)] as number;
    while (slot !== NO_SLOT) {
      if (this.ports[slot] === ports && this.guest(slot).equals(guest) && this.remote(slot).equals(remote))
        return slot;
      slot = this.#chain[slot] as number;
    }
    return NO_SLOT;
  }

  /** A lingering query of the same `length` bytes but for the id, or `NO_SLOT`. Long ones are not looked for. */
  findLingering(source: Uint8Array, from: number, length: number): number {
    if (length > STRIDE) return NO_SLOT;
    for (let slot = this.lingering.first; slot !== NO_SLOT; slot = this.lingering.after(slot)) {
      if (this.length[slot] !== length) continue;
      const at = this.at(slot);
      let i = 2;
      while (i < length && this.bytes[at + i] === source[from + i]) i++;
      if (i === length) return slot;
    }
    return NO_SLOT;
  }

  /** Keep the query of `length` bytes at `from`; there must be room. It is in no list yet, and cannot be found. */
  add(source: Uint8Array, from: number, length: number): number {
    if (this.#freeCount === 0) this.#grow(2 * this.#capacity);
    const slot = this.#free[--this.#freeCount] as number;
    this.length[slot] = length;
    const kept = Math.min(length, STRIDE);
    const at = this.at(slot);
    // A loop: these are 40 bytes or so, for which making a subarray costs more.
    for (let i = 0; i < kept; i++) this.bytes[at + i] = source[from + i] as number;
    if (length > STRIDE) this.#long.set(slot, source.slice(from, from + length));
    return slot;
  }

  /** Who waits for it, from now on. */
  await(slot: number, guest: IpAddress, remote: IpAddress, ports: number): void {
    this.ports[slot] = ports;
    if (this.#guest[slot] === undefined) {
      this.#guest[slot] = new IpAddress();
      this.#remote[slot] = new IpAddress();
    }
    this.guest(slot).copyFrom(guest);
    this.remote(slot).copyFrom(remote);
    this.#keyHash[slot] = this.#hash.tuple(guest, remote, ports, PROTOCOL_UDP);
    this.#enter(slot);
    if (this.isLingering(slot)) this.lingering.remove(slot);
    this.#isLingering[slot] = 0;
    this.waiting.add(slot);
  }

  /** Nobody waits for it any more. */
  linger(slot: number): void {
    this.#forget(slot);
    this.#isLingering[slot] = 1;
    this.lingering.add(slot);
  }

  remove(slot: number): void {
    if (this.isLingering(slot)) this.lingering.remove(slot);
    else this.#forget(slot);
    this.#isLingering[slot] = 0;
    if ((this.length[slot] as number) > STRIDE) this.#long.delete(slot);
    this.#free[this.#freeCount++] = slot;
  }

  /** Write the query to `at` of `out`; its length. */
  copyTo(slot: number, out: Uint8Array, at: number): number {
    const length = this.length[slot] as number;
    const long = this.#long.get(slot);
    if (long === undefined) out.set(this.bytes.subarray(this.at(slot), this.at(slot) + length), at);
    else out.set(long, at);
    return length;
  }

  #forget(slot: number): void {
    this.waiting.remove(slot);
    const bucket = (this.#keyHash[slot] as number) & (this.#heads.length - 1);
    let other = this.#heads[bucket] as number;
    if (other === slot) {
      this.#heads[bucket] = this.#chain[slot] as number;
      return;
    }
    while (this.#chain[other] !== slot) other = this.#chain[other] as number;
    this.#chain[other] = this.#chain[slot] as number;
  }

  /** More slots, `wanted` in all or as many as there may be. */
  #grow(wanted: number): void {
    const before = this.#capacity;
    const capacity = Math.min(wanted, this.#most);
    this.#capacity = capacity;
    const links = this.#links;
    links.next = grown(links.next, new Int32Array(capacity));
    links.previous = grown(links.previous, new Int32Array(capacity));
    this.bytes = grown(this.bytes, new Uint8Array(capacity * STRIDE));
    this.view = new DataView(this.bytes.buffer);
    this.ports = grown(this.ports, new Uint32Array(capacity));
    this.length = grown(this.length, new Uint16Array(capacity));
    this.questionEnd = grown(this.questionEnd, new Uint16Array(capacity));
    this.udpSize = grown(this.udpSize, new Uint16Array(capacity));
    this.since = grown(this.since, new Float64Array(capacity));
    this.deadline = grown(this.deadline, new Float64Array(capacity));
    this.start = grown(this.start, new Uint8Array(capacity));
    this.tries = grown(this.tries, new Uint8Array(capacity));
    this.failed = grown(this.failed, new Uint8Array(capacity));
    this.#isLingering = grown(this.#isLingering, new Uint8Array(capacity));
    this.#keyHash = grown(this.#keyHash, new Uint32Array(capacity));
    this.#chain = new Int32Array(capacity);
    this.#heads = headsFor(capacity);
    const { waiting } = this;
    for (let slot = waiting.first; slot !== NO_SLOT; slot = waiting.after(slot)) this.#enter(slot);
    // Reused last in, first out.
    for (let slot = capacity - 1; slot >= before; slot--) this.#free[this.#freeCount++] = slot;
  }

  /** Have the slot found by its `#keyHash`. */
  #enter(slot: number): void {
    const bucket = (this.#keyHash[slot] as number) & (this.#heads.length - 1);
    this.#chain[slot] = this.#heads[bucket] as number;
    this.#heads[bucket] = slot;
  }
}

function headsFor(capacity: number): Int32Array {
  let buckets = 1;
  while (buckets < capacity) buckets *= 2;
  return new Int32Array(buckets).fill(NO_SLOT);
}

/** `to`, which begins with what is in `from`. */
function grown<T extends { set(from: T): void }>(from: T, to: T): T {
  to.set(from);
  return to;
}

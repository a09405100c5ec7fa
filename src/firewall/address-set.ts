/**
 * An immutable set of prefixes of both families with longest-match lookup.
 *
 * Theory: two prefixes are either nested or apart, so sorted by (address, length) every prefix directly follows the ones
 * it lies in. Each entry knows the closest entry around it. The prefixes that contain an address are then the last entry
 * not above it, or entries around that one: a binary search and a walk outwards. 10 000 prefixes take 14 steps, and at
 * most 128 levels can nest. Everything is in typed arrays; lookups allocate nothing.
 *
 * IPv4 addresses are ::ffff:a.b.c.d inside, so an IPv6 prefix shorter than 96 bits (`::/0`) can contain one as a number.
 * It must not: the families are kept apart by length.
 */
import type { IpAddress } from '../stack/wire/address.ts';
import { type Prefix, V4_BITS, wordMask } from './prefix.ts';

export class AddressSet {
  /** Distinct prefixes. */
  readonly size: number;
  /** Entry number of the n-th prefix given to the constructor. */
  readonly entryOf: Int32Array;
  readonly #words: Uint32Array;
  readonly #bits: Uint8Array;
  /** Closest entry around this one as numbers go, whatever its family; −1 = none. */
  readonly #around: Int32Array;
  /** The same within one family. */
  readonly #parent: Int32Array;

  /** @param prefixes with host bits zero; duplicates share one entry */
  constructor(prefixes: readonly Prefix[]) {
    const order = prefixes.map((_, index) => index);
    order.sort((a, b) => comparePrefixes(prefixes[a]!, prefixes[b]!));

    this.entryOf = new Int32Array(prefixes.length);
    this.#words = new Uint32Array(prefixes.length * 4);
    this.#bits = new Uint8Array(prefixes.length);
    this.#around = new Int32Array(prefixes.length);
    this.#parent = new Int32Array(prefixes.length);

    let size = 0;
    let previous: Prefix | undefined;
    for (const index of order) {
      const prefix = prefixes[index]!;
      if (previous === undefined || comparePrefixes(previous, prefix) !== 0) this.#append(size++, prefix);
      this.entryOf[index] = size - 1;
      previous = prefix;
    }
    this.size = size;
  }

  #append(entry: number, { address, bits }: Prefix): void {
    this.#words[entry * 4] = address.w0;
    this.#words[entry * 4 + 1] = address.w1;
    this.#words[entry * 4 + 2] = address.w2;
    this.#words[entry * 4 + 3] = address.w3;
    this.#bits[entry] = bits;
    let around = entry - 1;
    while (around >= 0 && !this.#contains(around, address)) around = this.#around[around]!;
    this.#around[entry] = around;
    const familyEnds = around >= 0 && address.isV4 && this.#bits[around]! < V4_BITS;
    this.#parent[entry] = familyEnds ? -1 : around;
  }

  /** The longest prefix that contains `addr`, as entry number; −1 = none. */
  find(addr: IpAddress): number {
    let low = 0;
    let high = this.size;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#notAbove(middle, addr)) low = middle + 1;
      else high = middle;
    }
    const shortest = addr.isV4 ? V4_BITS : 0;
    let entry = low - 1;
    while (entry >= 0 && this.#bits[entry]! >= shortest) {
      if (this.#contains(entry, addr)) return entry;
      entry = this.#around[entry]!;
    }
    return -1;
  }

  /** The next longer-reaching prefix of the same family around an entry, or −1. */
  parentOf(entry: number): number {
    return this.#parent[entry]!;
  }

  /** Prefix length of an entry in the 128-bit form. */
  bitsOf(entry: number): number {
    return this.#bits[entry]!;
  }

  has(addr: IpAddress): boolean {
    return this.find(addr) >= 0;
  }

  #notAbove(entry: number, addr: IpAddress): boolean {
    const words = this.#words;
    const at = entry * 4;
    if (words[at]! !== addr.w0) return words[at]! < addr.w0;
    if (words[at + 1]! !== addr.w1) return words[at + 1]! < addr.w1;
    if (words[at + 2]! !== addr.w2) return words[at + 2]! < addr.w2;
    return words[at + 3]! <= addr.w3;
  }

  #contains(entry: number, addr: IpAddress): boolean {
    const words = this.#words;
    const bits = this.#bits[entry]!;
    const at = entry * 4;
    return (
      ((words[at]! ^ addr.w0) & wordMask(bits)) === 0 &&
      ((words[at + 1]! ^ addr.w1) & wordMask(bits - 32)) === 0 &&
      ((words[at + 2]! ^ addr.w2) & wordMask(bits - 64)) === 0 &&
      ((words[at + 3]! ^ addr.w3) & wordMask(bits - 96)) === 0
    );
  }
}

/** By address, then length: what lies in a prefix follows it. */
export function comparePrefixes(a: Prefix, b: Prefix): number {
  return (
    a.address.w0 - b.address.w0 ||
    a.address.w1 - b.address.w1 ||
    a.address.w2 - b.address.w2 ||
    a.address.w3 - b.address.w3 ||
    a.bits - b.bits
  );
}

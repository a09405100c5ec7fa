/**
 * A growing set of prefixes with a cheap "does any contain this address": one open-addressing hash table over
 * (words, length), probed once for each prefix length that is present. Adding touches one slot, so a host with a hundred
 * thousand routes can gain another without a rebuild. Lookups allocate nothing.
 */
import { IpAddress } from '../stack/wire/address.ts';
import { maskAddress, type Prefix, V4_BITS, wordMask } from './prefix.ts';

const INITIAL_SLOTS = 64;
/** Length of the prefix in a slot that has none. */
const FREE = 255;

export class PrefixSet {
  /** How many there are; the table doubles when half of its slots are used. */
  size = 0;
  #slots = INITIAL_SLOTS;
  /** Four words a slot. */
  #words = new Uint32Array(INITIAL_SLOTS * 4);
  #bits = new Uint8Array(INITIAL_SLOTS).fill(FREE);
  /** By family, 1 for each length that is present: others are not probed. */
  readonly #lengths4 = new Uint8Array(129);
  readonly #lengths6 = new Uint8Array(129);

  /** `bits` in the 128-bit form; host bits are ignored. */
  add(prefix: IpAddress, bits: number): void {
    if (this.#find(prefix, bits) >= 0) return;
    if ((this.size + 1) * 2 > this.#slots) this.#grow();
    this.size++;
    this.#put(prefix, bits);
    const lengths = prefix.isV4 && bits >= V4_BITS ? this.#lengths4 : this.#lengths6;
    lengths[bits] = 1;
  }

  contains(address: IpAddress): boolean {
    const v4 = address.isV4;
    const lengths = v4 ? this.#lengths4 : this.#lengths6;
    for (let bits = 128; bits >= (v4 ? V4_BITS : 0); bits--)
      if (lengths[bits] === 1 && this.#find(address, bits) >= 0) return true;
    return false;
  }

  /** Each prefix, in no order. */
  prefixes(): Prefix[] {
    const found: Prefix[] = [];
    for (let slot = 0; slot < this.#slots; slot++) {
      if (this.#bits[slot] === FREE) continue;
      const words = this.#words.subarray(slot * 4, slot * 4 + 4);
      const address = new IpAddress().set(words[0]!, words[1]!, words[2]!, words[3]!);
      found.push({ address, bits: this.#bits[slot]! });
    }
    return found;
  }

  /** The slot of the first `bits` bits of `address`, or ~(the free slot where they belong). */
  #find(address: IpAddress, bits: number): number {
    const w0 = (address.w0 & wordMask(bits)) >>> 0;
    const w1 = (address.w1 & wordMask(bits - 32)) >>> 0;
    const w2 = (address.w2 & wordMask(bits - 64)) >>> 0;
    const w3 = (address.w3 & wordMask(bits - 96)) >>> 0;
    const mask = this.#slots - 1;
    let slot = hash(w0, w1, w2, w3, bits) & mask;
    while (this.#bits[slot] !== FREE) {
      const at = slot * 4;
      if (
        this.#words[at + 3] === w3 &&
        this.#words[at + 2] === w2 &&
        this.#words[at + 1] === w1 &&
        this.#words[at] === w0 &&
        this.#bits[slot] === bits
      )
        return slot;
      slot = (slot + 1) & mask;
    }
    return ~slot;
  }

  /** One that is not there yet, in a table that has room. */
  #put(prefix: IpAddress, bits: number): void {
    const slot = ~this.#find(prefix, bits);
    const { w0, w1, w2, w3 } = maskAddress(prefix.clone(), bits);
    this.#words.set([w0, w1, w2, w3], slot * 4);
    this.#bits[slot] = bits;
  }

  #grow(): void {
    const prefixes = this.prefixes();
    this.#slots *= 2;
    this.#words = new Uint32Array(this.#slots * 4);
    this.#bits = new Uint8Array(this.#slots).fill(FREE);
    for (const { address, bits } of prefixes) this.#put(address, bits);
  }
}

function hash(w0: number, w1: number, w2: number, w3: number, bits: number): number {
  let h = Math.imul(w0 ^ bits, 0x9e3779b1);
  h = Math.imul(h ^ (h >>> 15) ^ w1, 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13) ^ w2, 0xc2b2ae35);
  h = Math.imul(h ^ (h >>> 16) ^ w3, 0x27d4eb2f);
  return (h ^ (h >>> 15)) >>> 0;
}

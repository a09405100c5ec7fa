/**
 * A mutable multiset of prefixes with a cheap "does any contain this address": one open-addressing hash table over
 * (words, length), probed once for each prefix length that is present. Adding and removing touch one slot, so a host
 * with a hundred thousand routes can change them without a rebuild. Lookups allocate nothing.
 */
import { IpAddress } from '../stack/wire/address.ts';
import { type Prefix, V4_BITS, wordMask } from './prefix.ts';

const INITIAL_SLOTS = 64;

export class PrefixCounter {
  /** Slots used; the table doubles when half of them are. */
  #size = 0;
  #slots = INITIAL_SLOTS;
  /** Four words a slot. */
  #words = new Uint32Array(INITIAL_SLOTS * 4);
  #bits = new Uint8Array(INITIAL_SLOTS);
  /** How often the prefix was added; 0 = free slot. */
  #count = new Uint32Array(INITIAL_SLOTS);
  /** Distinct prefixes of each length, by family: a length without prefixes is not probed. */
  readonly #lengths4 = new Uint32Array(129);
  readonly #lengths6 = new Uint32Array(129);

  /** Distinct prefixes. */
  get size(): number {
    return this.#size;
  }

  clear(): void {
    this.#allocate(INITIAL_SLOTS);
    this.#lengths4.fill(0);
    this.#lengths6.fill(0);
  }

  /** `bits` in the 128-bit form; host bits are ignored. */
  add(prefix: IpAddress, bits: number): void {
    const w0 = (prefix.w0 & wordMask(bits)) >>> 0;
    const w1 = (prefix.w1 & wordMask(bits - 32)) >>> 0;
    const w2 = (prefix.w2 & wordMask(bits - 64)) >>> 0;
    const w3 = (prefix.w3 & wordMask(bits - 96)) >>> 0;
    let slot = this.#find(w0, w1, w2, w3, bits);
    if (slot < 0) {
      if ((this.#size + 1) * 2 > this.#slots) {
        this.#grow();
        slot = this.#find(w0, w1, w2, w3, bits);
      }
      slot = ~slot;
      this.#put(slot, w0, w1, w2, w3, bits, 0);
      this.#size++;
      this.#lengthsOf(prefix, bits)[bits]! += 1;
    }
    this.#count[slot]! += 1;
  }

  /** Takes back one `add`. False when there was none. */
  remove(prefix: IpAddress, bits: number): boolean {
    const slot = this.#find(
      (prefix.w0 & wordMask(bits)) >>> 0,
      (prefix.w1 & wordMask(bits - 32)) >>> 0,
      (prefix.w2 & wordMask(bits - 64)) >>> 0,
      (prefix.w3 & wordMask(bits - 96)) >>> 0,
      bits,
    );
    if (slot < 0) return false;
    this.#count[slot]! -= 1;
    if (this.#count[slot] === 0) {
      this.#size--;
      this.#lengthsOf(prefix, bits)[bits]! -= 1;
      this.#close(slot);
    }
    return true;
  }

  contains(addr: IpAddress): boolean {
    const v4 = addr.isV4;
    const lengths = v4 ? this.#lengths4 : this.#lengths6;
    for (let bits = 128; bits >= (v4 ? V4_BITS : 0); bits--) {
      if (lengths[bits] === 0) continue;
      const slot = this.#find(
        (addr.w0 & wordMask(bits)) >>> 0,
        (addr.w1 & wordMask(bits - 32)) >>> 0,
        (addr.w2 & wordMask(bits - 64)) >>> 0,
        (addr.w3 & wordMask(bits - 96)) >>> 0,
        bits,
      );
      if (slot >= 0) return true;
    }
    return false;
  }

  /** Each distinct prefix, in no order. */
  prefixes(): Prefix[] {
    const found: Prefix[] = [];
    for (let slot = 0; slot < this.#slots; slot++) {
      if (this.#count[slot] === 0) continue;
      const words = this.#words.subarray(slot * 4, slot * 4 + 4);
      const address = new IpAddress().set(words[0]!, words[1]!, words[2]!, words[3]!);
      found.push({ address, bits: this.#bits[slot]! });
    }
    return found;
  }

  #lengthsOf(prefix: IpAddress, bits: number): Uint32Array {
    return prefix.isV4 && bits >= V4_BITS ? this.#lengths4 : this.#lengths6;
  }

  /** The slot of a prefix, or ~(the free slot where it belongs). */
  #find(w0: number, w1: number, w2: number, w3: number, bits: number): number {
    const mask = this.#slots - 1;
    let slot = hash(w0, w1, w2, w3, bits) & mask;
    while (this.#count[slot] !== 0) {
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

  #put(slot: number, w0: number, w1: number, w2: number, w3: number, bits: number, count: number): void {
    this.#words[slot * 4] = w0;
    this.#words[slot * 4 + 1] = w1;
    this.#words[slot * 4 + 2] = w2;
    this.#words[slot * 4 + 3] = w3;
    this.#bits[slot] = bits;
    this.#count[slot] = count;
  }

  #hashAt(slot: number): number {
    const at = slot * 4;
    const words = this.#words;
    return hash(words[at]!, words[at + 1]!, words[at + 2]!, words[at + 3]!, this.#bits[slot]!);
  }

  /** Frees a slot and moves later members of its run forward, so that no tombstones are needed (Knuth 6.4, R). */
  #close(slot: number): void {
    const mask = this.#slots - 1;
    let hole = slot;
    for (let next = (hole + 1) & mask; this.#count[next] !== 0; next = (next + 1) & mask) {
      const home = this.#hashAt(next) & mask;
      if (((next - home) & mask) < ((next - hole) & mask)) continue;
      this.#words.copyWithin(hole * 4, next * 4, next * 4 + 4);
      this.#bits[hole] = this.#bits[next]!;
      this.#count[hole] = this.#count[next]!;
      hole = next;
    }
    this.#count[hole] = 0;
  }

  #allocate(slots: number): void {
    this.#size = 0;
    this.#slots = slots;
    this.#words = new Uint32Array(slots * 4);
    this.#bits = new Uint8Array(slots);
    this.#count = new Uint32Array(slots);
  }

  #grow(): void {
    const words = this.#words;
    const bits = this.#bits;
    const count = this.#count;
    const size = this.#size;
    this.#allocate(this.#slots * 2);
    for (let slot = 0; slot < count.length; slot++) {
      if (count[slot] === 0) continue;
      const at = slot * 4;
      const w0 = words[at]!;
      const w1 = words[at + 1]!;
      const w2 = words[at + 2]!;
      const w3 = words[at + 3]!;
      this.#put(~this.#find(w0, w1, w2, w3, bits[slot]!), w0, w1, w2, w3, bits[slot]!, count[slot]!);
    }
    this.#size = size;
  }
}

function hash(w0: number, w1: number, w2: number, w3: number, bits: number): number {
  let h = Math.imul(w0 ^ bits, 0x9e3779b1);
  h = Math.imul(h ^ (h >>> 15) ^ w1, 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13) ^ w2, 0xc2b2ae35);
  h = Math.imul(h ^ (h >>> 16) ^ w3, 0x27d4eb2f);
  return (h ^ (h >>> 15)) >>> 0;
}

/**
 * Who sent the frame at hand. It is learned as a neighbour once the packet's source address has been checked, and before
 * anything is answered. Most frames come from the same sender as the last, which then is not learned again.
 */
import type { NeighborTable } from './neighbor.ts';
import { IpAddress } from './wire/address.ts';

export class FrameSender {
  readonly #neighbors: NeighborTable;
  /** -1: the medium has no link addresses. */
  #macHi = -1;
  #macLo = -1;
  readonly #learned = new IpAddress();
  #learnedHi = -1;
  #learnedLo = -1;

  constructor(neighbors: NeighborTable) {
    this.#neighbors = neighbors;
  }

  /** The link address that the frame came from. */
  set(macHi: number, macLo: number): void {
    this.#macHi = macHi;
    this.#macLo = macLo;
  }

  /** `src`, which proved good, is at that address. */
  learn(src: IpAddress, nowMs: number): void {
    const hi = this.#macHi;
    const lo = this.#macLo;
    if (hi < 0 || (lo === this.#learnedLo && hi === this.#learnedHi && src.equals(this.#learned))) return;
    this.#learned.copyFrom(src);
    this.#learnedHi = hi;
    this.#learnedLo = lo;
    this.#neighbors.learn(src, hi, lo, nowMs);
  }
}

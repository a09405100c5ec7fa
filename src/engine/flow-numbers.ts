/**
 * Numbers of flows, which no other flow of the server has or had, whichever data plane it is on: each data plane takes
 * them in blocks from a counter that all share.
 */

/** Few enough blocks, and so many of them that a counter of 32 bits lasts for 2^51 numbers. */
const BLOCK = 2 ** 20;

export class FlowNumbers {
  readonly #blocks: Int32Array;
  #next = 0;
  #left = 0;

  /** `blocks` holds one Int32: how many blocks are taken. */
  constructor(blocks: SharedArrayBuffer) {
    this.#blocks = new Int32Array(blocks);
  }

  next(): number {
    if (this.#left === 0) {
      this.#next = (Atomics.add(this.#blocks, 0, 1) >>> 0) * BLOCK;
      this.#left = BLOCK;
    }
    this.#left--;
    return ++this.#next;
  }
}

/**
 * A doubly linked list of slot numbers, without allocation: how bounded tables remember which entry is oldest.
 * A slot is in the list at most once; who calls keeps track of whether it is in.
 */
export class SlotList {
  /** Oldest slot, or -1. */
  head = -1;
  /** Youngest slot, or -1. */
  tail = -1;
  length = 0;
  readonly #next: Int32Array;
  readonly #previous: Int32Array;

  /** @param slots slot numbers are 0 … slots−1 */
  constructor(slots: number) {
    this.#next = new Int32Array(slots).fill(-1);
    this.#previous = new Int32Array(slots).fill(-1);
  }

  /** Append `slot`, which must not be in the list. */
  push(slot: number): void {
    this.#next[slot] = -1;
    this.#previous[slot] = this.tail;
    if (this.tail < 0) this.head = slot;
    else this.#next[this.tail] = slot;
    this.tail = slot;
    this.length++;
  }

  /** Take out `slot`, which must be in the list. */
  remove(slot: number): void {
    const next = this.#next[slot] as number;
    const previous = this.#previous[slot] as number;
    if (previous < 0) this.head = next;
    else this.#next[previous] = next;
    if (next < 0) this.tail = previous;
    else this.#previous[next] = previous;
    this.length--;
  }

  /** Make `slot`, which must be in the list, the youngest. */
  touch(slot: number): void {
    if (this.tail === slot) return;
    this.remove(slot);
    this.push(slot);
  }

  /** The slot after `slot` (the next younger one), or -1. */
  after(slot: number): number {
    return this.#next[slot] as number;
  }
}

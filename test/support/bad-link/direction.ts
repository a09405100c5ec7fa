/**
 * One direction of a bad link: what becomes of a frame, and when it arrives. Everything random comes from a seed, drawn
 * per frame, so the n-th frame meets the same fate in every run. Times in milliseconds, fractions count.
 */
import { seededRng } from '../seeded-rng.ts';

export interface BadLinkOptions {
  seed: number;
  /** Probabilities per frame, 0 … 1. */
  loss: number;
  duplication: number;
  reorder: number;
  /** One way; a reordered frame comes up to `jitterMs` later. */
  delayMs: number;
  jitterMs: number;
  /** Mbit/s, 0 = no limit; and bytes that wait for it before frames are dropped. */
  rateMbit: number;
  queueBytes: number;
}

/** Ethernet preamble, gap and checksum are not counted: a rate is that of frames. */
const BITS = 8;
/** Frames on their way in one direction, at most. */
export const MAX_FRAMES = 16384;

export class Direction {
  readonly #options: BadLinkOptions;
  readonly #rng;
  #freeAt = 0;
  // A binary heap of what is on its way: when it arrives, in which order it was sent, where it is, how long it is.
  readonly #due = new Float64Array(MAX_FRAMES);
  readonly #order = new Float64Array(MAX_FRAMES);
  readonly #slot = new Int32Array(MAX_FRAMES);
  readonly #length = new Int32Array(MAX_FRAMES);
  #sent = 0;
  count = 0;

  constructor(options: BadLinkOptions, index: number) {
    this.#options = options;
    this.#rng = seededRng(options.seed * 2 + index + 1);
  }

  /** A frame of `length` bytes was sent at `now`: how many copies arrive (0 … 2). Place them with `push`. */
  copies(length: number, now: number): number {
    const { loss, duplication, rateMbit, queueBytes } = this.#options;
    const lost = this.#chance(loss);
    const twice = this.#chance(duplication);
    if (rateMbit > 0) {
      const bytesPerMs = (rateMbit * 1000) / BITS;
      const waits = Math.max(0, this.#freeAt - now);
      if (waits * bytesPerMs + length > queueBytes) return 0;
      this.#freeAt = now + waits + length / bytesPerMs;
    } else {
      this.#freeAt = now;
    }
    if (lost) return 0;
    return twice ? 2 : 1;
  }

  /** Put the frame in `slot` on its way. */
  push(slot: number, length: number): void {
    const { delayMs, jitterMs, reorder } = this.#options;
    const late = this.#chance(reorder) ? (this.#rng.u32() / 2 ** 32) * jitterMs : 0;
    let i = this.count++;
    const due = this.#freeAt + delayMs + late;
    const order = this.#sent++;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!this.#before(due, order, parent)) break;
      this.#move(parent, i);
      i = parent;
    }
    this.#put(i, due, order, slot, length);
  }

  /** When the next frame arrives; Infinity when there is none. */
  get nextAt(): number {
    return this.count > 0 ? (this.#due[0] as number) : Number.POSITIVE_INFINITY;
  }

  get nextSlot(): number {
    return this.#slot[0] as number;
  }

  get nextLength(): number {
    return this.#length[0] as number;
  }

  /** The next frame has arrived. */
  pop(): void {
    const last = --this.count;
    const due = this.#due[last] as number;
    const order = this.#order[last] as number;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= last) break;
      if (
        child + 1 < last &&
        this.#before(this.#due[child + 1] as number, this.#order[child + 1] as number, child)
      ) {
        child++;
      }
      if (this.#before(due, order, child)) break;
      this.#move(child, i);
      i = child;
    }
    this.#put(i, due, order, this.#slot[last] as number, this.#length[last] as number);
  }

  #before(due: number, order: number, i: number): boolean {
    const other = this.#due[i] as number;
    return due < other || (due === other && order < (this.#order[i] as number));
  }

  #move(from: number, to: number): void {
    this.#put(
      to,
      this.#due[from] as number,
      this.#order[from] as number,
      this.#slot[from] as number,
      this.#length[from] as number,
    );
  }

  #put(i: number, due: number, order: number, slot: number, length: number): void {
    this.#due[i] = due;
    this.#order[i] = order;
    this.#slot[i] = slot;
    this.#length[i] = length;
  }

  #chance(p: number): boolean {
    return this.#rng.u32() < p * 2 ** 32;
  }
}

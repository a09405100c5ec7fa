/**
 * Giving memory back after a burst. Once a second while there is traffic, and once more after it has ended: free packet
 * pages go back to the kernel, and when many flows have ended, so does the heap they lived in: V8 by itself collects
 * when it allocates, and a quiet data plane does not. One collection frees the objects, a second one a moment later the
 * pages they were on (V8 keeps those it has just emptied).
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { TimerNode, type Timers } from '../loop.ts';
import { PAGE_SIZE, type Slab } from '../stack/buffer/slab.ts';

const INTERVAL_MS = 1000;
/** Free pages worth a system call. */
const DISCARD_BYTES = 4 * 1024 * 1024;
/** Ended flows worth a collection: about 2 MiB of heap. */
const COLLECT_FLOWS = 500;

export class Housekeeping extends TimerNode {
  readonly #timers: Timers;
  readonly #slab: Slab;
  readonly #discard: (offset: number, length: number) => number;
  readonly #onFailure: (result: number) => void;
  #hasFailed = false;
  readonly #flowCount: () => number;
  readonly #collect: () => void;
  #mostFlows = 0;
  #flowsBefore = 0;
  /** A collection has just freed pages of the heap; the next one gives them back. */
  #again = false;

  /**
   * `flowCount` tells how many flows there are; `discard` gives arena memory back to the kernel, 0 or `-errno`;
   * `onFailure` is told when that fails, once.
   */
  constructor(
    timers: Timers,
    slab: Slab,
    flowCount: () => number,
    discard: (offset: number, length: number) => number,
    onFailure: (result: number) => void,
  ) {
    super();
    this.#timers = timers;
    this.#slab = slab;
    this.#flowCount = flowCount;
    this.#discard = discard;
    this.#onFailure = onFailure;
    setFlagsFromString('--expose-gc');
    this.#collect = runInNewContext('gc') as () => void;
  }

  /** There was traffic: look again in a second. */
  arm(nowMs: number): void {
    if (this.deadline !== Number.POSITIVE_INFINITY) return;
    this.deadline = nowMs + INTERVAL_MS;
    this.#timers.update(this);
  }

  onTimer(nowMs: number): void {
    const slab = this.#slab;
    if ((slab.pagesResident - slab.pagesUsed) * PAGE_SIZE >= DISCARD_BYTES) this.#reclaim();
    const flows = this.#flowCount();
    this.#mostFlows = Math.max(this.#mostFlows, flows);
    // Not in the middle of a burst: a collection takes some milliseconds in which no packet moves.
    const quiet = Math.abs(flows - this.#flowsBefore) < COLLECT_FLOWS / 10;
    this.#flowsBefore = flows;
    const ended = this.#mostFlows - flows >= COLLECT_FLOWS;
    if ((ended || this.#again) && quiet) {
      this.#mostFlows = flows;
      this.#collect();
      this.#again = ended;
    }
    // Where there are many, they may end with nobody saying anything: TIME-WAIT does.
    if (this.#again || this.#mostFlows >= COLLECT_FLOWS) this.arm(nowMs);
  }

  #reclaim(): void {
    const result = this.#slab.reclaim(this.#discard);
    if (result === 0 || this.#hasFailed) return;
    this.#hasFailed = true;
    this.#onFailure(result);
  }
}

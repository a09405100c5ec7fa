/**
 * Giving memory back after a burst. Once a second while there is traffic, and until there is nothing left to do: free
 * packet pages go back to the kernel, and when the heap has grown or many flows have ended, so does the heap they lived in:
 * V8 by itself collects when it allocates, and a quiet data plane does not. One collection frees the objects, a second one
 * a moment later the pages they were on (V8 keeps those it has just emptied). Each takes about 10 ms in which no packet
 * moves, so it waits for a second of next to no traffic; until then V8 collects by itself, beside the traffic, when the
 * heap has about doubled.
 */
import { getHeapSpaceStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { TimerNode, type Timers } from '../loop.ts';
import { PAGE_SIZE, type Slab } from '../stack/buffer/slab.ts';

const INTERVAL_MS = 1000;
/** Free pages worth a system call. */
const DISCARD_BYTES = 4 * 1024 * 1024;
/** What the old heap has grown by since the last collection, and ended flows, that are worth one: flows of about 2 MiB. */
const COLLECT_BYTES = 2 * 1024 * 1024;
const COLLECT_FLOWS = 500;
/** Events that make a second one with traffic: some 30 requests with their answers. */
const BUSY_EVENTS = 100;

/** Bytes of the old heap's pages, which stay: with objects, with garbage, or left empty by a collection of V8's own. */
function oldHeap(): number {
  return getHeapSpaceStatistics().find((space) => space.space_name === 'old_space')?.space_size ?? 0;
}

export class Housekeeping extends TimerNode {
  readonly #timers: Timers;
  readonly #slab: Slab;
  readonly #discard: (offset: number, length: number) => number;
  readonly #onFailure: (result: number) => void;
  #hasFailed = false;
  readonly #flowCount: () => number;
  #collect: (() => void) | null = null;
  #mostFlows = 0;
  #events = 0;
  /** The old heap after the last collection, in bytes. */
  #heapKept = oldHeap();
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
  }

  /** There was traffic, so many events: look again in a second. */
  arm(nowMs: number, events: number): void {
    this.#events += events;
    if (this.deadline === Number.POSITIVE_INFINITY) this.#lookAt(nowMs + INTERVAL_MS);
  }

  onTimer(nowMs: number): void {
    const slab = this.#slab;
    if ((slab.pagesResident - slab.pagesUsed) * PAGE_SIZE >= DISCARD_BYTES) this.#reclaim();
    const isIdle = this.#events < BUSY_EVENTS;
    this.#events = 0;
    const flows = this.#flowCount();
    this.#mostFlows = Math.max(this.#mostFlows, flows);
    const isWorthIt = this.#mostFlows - flows >= COLLECT_FLOWS || oldHeap() - this.#heapKept >= COLLECT_BYTES;
    if ((isWorthIt || this.#again) && isIdle) {
      this.#mostFlows = flows;
      this.#collect ??= garbageCollector();
      this.#collect();
      this.#heapKept = oldHeap();
      this.#again = isWorthIt;
    }
    // Where there are many, they may end with nobody saying anything: TIME-WAIT does.
    if (isWorthIt || this.#again || this.#mostFlows >= COLLECT_FLOWS) this.#lookAt(nowMs + INTERVAL_MS);
  }

  #lookAt(deadlineMs: number): void {
    this.deadline = deadlineMs;
    this.#timers.update(this);
  }

  #reclaim(): void {
    const result = this.#slab.reclaim(this.#discard);
    if (result === 0 || this.#hasFailed) return;
    this.#hasFailed = true;
    this.#onFailure(result);
  }
}

/** Not made at the start: it takes a context of V8's, a millisecond. */
function garbageCollector(): () => void {
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc') as () => void;
}

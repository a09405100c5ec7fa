/**
 * What comes first is slow in a program that has just started: every function is found, compiled and interpreted without
 * knowing its types. So while nothing else is to be done after the start, a small guest of our own has a few conversations with
 * the host's loopback: the same stack, flows and system calls, in a world of its own (memory, loop, device) that is
 * dropped afterwards. Nothing of it can be seen by the real guest, and nobody but us is asked.
 *
 * Not while there is traffic: that teaches the same, and shall not wait. A slice takes about a millisecond.
 */
import { TimerNode, type Timers } from '../loop.ts';

/** Between two slices. */
const PAUSE_MS = 1;
/** After traffic. Neighbour discovery of a new interface comes in bursts with longer pauses. */
const QUIET_MS = 20;
const SLICE_MS = 1;

export class Rehearsal extends TimerNode {
  readonly #timers: Timers;
  readonly #clock: { readonly turn: number };
  readonly #open: () => Iterator<void, boolean>;
  readonly #now: () => number;
  #scenes: Iterator<void, boolean> | null = null;
  #turn = 0;

  /**
   * `open` makes what there is to rehearse, a step at a time; it must clean up when it is ended early. `now` is monotonic, in
   * milliseconds.
   */
  constructor(
    timers: Timers,
    clock: { readonly turn: number },
    open: () => Iterator<void, boolean>,
    now: () => number = () => performance.now(),
  ) {
    super();
    this.#timers = timers;
    this.#clock = clock;
    this.#open = open;
    this.#now = now;
  }

  /** Begin as soon as it is quiet. Only the first call counts. */
  start(nowMs: number): void {
    if (this.#scenes !== null) return;
    this.#scenes = this.#open();
    this.#wait(nowMs, QUIET_MS);
  }

  onTimer(nowMs: number): void {
    // The turn of the timer itself is the only one since the last look when nothing else happened.
    if (this.#clock.turn - this.#turn > 1) {
      this.#wait(nowMs, QUIET_MS);
      return;
    }
    const end = this.#now() + SLICE_MS;
    do {
      if (this.#scenes?.next().done === true) return;
    } while (this.#now() < end);
    this.#wait(nowMs, PAUSE_MS);
  }

  #wait(nowMs: number, pauseMs: number): void {
    this.#turn = this.#clock.turn;
    this.deadline = nowMs + pauseMs;
    this.#timers.update(this);
  }

  /** The process ends. */
  close(): void {
    this.#timers.cancel(this);
    this.#scenes?.return?.();
  }
}

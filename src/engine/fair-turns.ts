/**
 * Who has the next turn when several guests want one: whoever has had least time for its weight (start-time fair queueing,
 * Goyal et al. 1996). Time that is measured and not bytes: whoever floods us with what costs much pays for it.
 *
 * An event makes its guest runnable. A guest that runs does so for its quantum, or until it has moved a share of bytes;
 * then another one may, and the kernel is asked for events every `TURN_MS`. What runs cannot be interrupted: a handler that
 * takes longer has its guest wait longer afterwards. Who had little to do is owed for it, and so goes first, but not for long.
 *
 * All this is only while guests compete (event-loop.ts): one alone has the loop to itself.
 */
import type { Clock, IoHandler, Poller } from '../loop.ts';

/** Of a guest of weight 100. */
const QUANTUM_MS = 0.05;
/** What a guest that had less than others is owed at most. */
const CREDIT_MS = 1;
/** So long guests run before the kernel is asked for events again. */
const TURN_MS = 0.05;
/** What a guest may move before another one's turn: frames from its device, host bytes to it, and what is sent to it. */
const RUN_FRAMES = 8;
const RUN_BYTES = 64 * 1024;
const RUN_SEND_BYTES = 256 * 1024;

/** What the loop does for shares. */
export interface SharedLoop {
  add(fd: number, events: number, handler: IoHandler, first: boolean, share: GuestShare | null): number;
  modify(token: number, events: number): number;
  remove(token: number): void;
  forget(token: number): void;
  readyFor(share: GuestShare, handler: IoHandler): void;
  readClock(): void;
  /** Hand the events that wait for `token` to its handler. */
  deliver(token: number): void;
  call(handler: IoHandler, events: number): void;
}

/** The loop, as a guest has it. */
export class GuestShare implements Poller {
  /** When there was last something for it to do. */
  seenMs: number = Number.NEGATIVE_INFINITY;
  /** The time that it has had, for a weight of 100. */
  hadMs = 0;
  isListed = false;
  readonly #loop: SharedLoop;
  /** 100 = as much as any other. */
  readonly #weight: () => number;
  // What it has to do, in order: a handler that asked for another turn, or a token (null) that there are events for.
  #handlers: (IoHandler | null)[] = [];
  #tokens: number[] = [];
  #next = 0;

  constructor(loop: SharedLoop, weight: () => number) {
    this.#loop = loop;
    this.#weight = weight;
  }

  add(fd: number, events: number, handler: IoHandler, first = false): number {
    return this.#loop.add(fd, events, handler, first, this);
  }

  modify(token: number, events: number): number {
    return this.#loop.modify(token, events);
  }

  remove(token: number): void {
    this.#loop.remove(token);
  }

  forget(token: number): void {
    this.#loop.forget(token);
  }

  ready(handler: IoHandler): void {
    this.#loop.readyFor(this, handler);
  }

  readClock(): void {
    this.#loop.readClock();
  }

  get weight(): number {
    return this.#weight();
  }

  get hasWork(): boolean {
    return this.#next < this.#tokens.length;
  }

  push(handler: IoHandler | null, token: number): void {
    this.#handlers.push(handler);
    this.#tokens.push(token);
  }

  /** Do the next of what there is to do. */
  step(): void {
    const index = this.#next++;
    const handler = this.#handlers[index] as IoHandler | null;
    const token = this.#tokens[index] as number;
    this.#handlers[index] = null;
    if (!this.hasWork) {
      this.#handlers.length = 0;
      this.#tokens.length = 0;
      this.#next = 0;
    }
    if (handler === null) {
      this.#loop.deliver(token);
      return;
    }
    handler.waiting = false;
    this.#loop.call(handler, 0);
  }
}

export class FairTurns {
  readonly #clock: Clock;
  readonly #now: () => number;
  /** Those that have something to do. */
  readonly #listed: GuestShare[] = [];
  /** The most that any that ran had had. */
  #mostMs = 0;

  constructor(clock: Clock, now: () => number) {
    this.#clock = clock;
    this.#now = now;
  }

  get hasWork(): boolean {
    return this.#listed.length > 0;
  }

  /** There is something for `share` to do. */
  list(share: GuestShare): void {
    if (share.isListed) return;
    share.isListed = true;
    share.hadMs = Math.max(share.hadMs, this.#mostMs - CREDIT_MS);
    this.#listed.push(share);
  }

  /** Let guests run for a while; how often one did. */
  run(): number {
    const clock = this.#clock;
    const listed = this.#listed;
    const start = this.#now();
    let now = start;
    let runs = 0;
    let leastMs = 0;
    while (listed.length > 0 && now - start < TURN_MS) {
      const index = this.#least();
      const share = listed[index] as GuestShare;
      if (runs++ === 0) leastMs = share.hadMs;
      // Those that have had less may have something to do again: the kernel knows.
      if (share.hadMs > leastMs + QUANTUM_MS) break;
      this.#mostMs = Math.max(this.#mostMs, share.hadMs);
      clock.batchFrames = RUN_FRAMES;
      clock.bytesLeft = RUN_BYTES;
      clock.sendLeft = RUN_SEND_BYTES;
      const weight = share.weight / 100;
      const until = now + QUANTUM_MS * weight;
      const began = now;
      while (share.hasWork && now < until && clock.bytesLeft > 0 && clock.sendLeft > 0) {
        share.step();
        now = this.#now();
      }
      share.hadMs += (now - began) / weight;
      if (share.hasWork) continue;
      share.isListed = false;
      listed[index] = listed[listed.length - 1] as GuestShare;
      listed.pop();
    }
    return runs;
  }

  /** Nobody competes any more: what is left is done as it comes. */
  drain(): void {
    for (const share of this.#listed.splice(0)) {
      share.isListed = false;
      while (share.hasWork) share.step();
    }
  }

  /** Where the one is that has had least. */
  #least(): number {
    const listed = this.#listed;
    let least = 0;
    for (let i = 1; i < listed.length; i++) {
      if ((listed[i] as GuestShare).hadMs < (listed[least] as GuestShare).hadMs) least = i;
    }
    return least;
  }
}

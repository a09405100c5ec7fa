/**
 * Names of host services. The control plane resolves them, for each flow anew; here a question waits for its answer
 * without holding anything else up. Bounded in number, and none waits longer than `ANSWER_MS`.
 */
import type { HostEnd } from '../../config.ts';
import { type Clock, TimerNode, type Timers } from '../../loop.ts';

/** More than a resolver needs for its own timeouts, less than a client's patience. */
const ANSWER_MS = 20_000;

/** Who asked. */
export interface NameWaiter {
  /** `end` is where to connect, null on failure, with one line of `reason`. Called once, unless cancelled. */
  onResolved(end: HostEnd | null, reason: string): void;
}

interface Question {
  waiter: NameWaiter;
  deadline: number;
}

/** Hands a question to the control plane. */
export type AskHost = (request: number, label: string, port: number, protocol: 'tcp' | 'udp') => void;

export class HostNames extends TimerNode {
  readonly #ask: AskHost;
  readonly #clock: Clock;
  readonly #timers: Timers;
  readonly #most: number;
  /** In order of their deadlines: they all wait equally long. */
  readonly #questions = new Map<number, Question>();
  #next = 1;

  /** `most`: questions that may wait. */
  constructor(ask: AskHost, clock: Clock, timers: Timers, most: number) {
    super();
    this.#ask = ask;
    this.#clock = clock;
    this.#timers = timers;
    this.#most = most;
  }

  /** Ask for the address of `label`; the number to cancel with, or -1 when too many questions wait. */
  resolve(label: string, port: number, protocol: 'tcp' | 'udp', waiter: NameWaiter): number {
    if (this.#questions.size >= this.#most) return -1;
    const request = this.#next++;
    this.#questions.set(request, { waiter, deadline: this.#clock.nowMs + ANSWER_MS });
    this.#arm();
    this.#ask(request, label, port, protocol);
    return request;
  }

  cancel(request: number): void {
    this.#questions.delete(request);
  }

  /** The control plane's answer; one that nobody waits for any more is ignored. */
  answer(request: number, end: HostEnd | null, reason: string): void {
    const question = this.#questions.get(request);
    if (question === undefined) return;
    this.#questions.delete(request);
    question.waiter.onResolved(end, reason);
  }

  /** The guest is gone: nobody waits any more. */
  close(): void {
    this.#questions.clear();
    this.#timers.cancel(this);
  }

  onTimer(nowMs: number): void {
    for (const [request, question] of this.#questions) {
      if (question.deadline > nowMs) break;
      this.answer(request, null, 'no answer in time');
    }
    this.#arm();
  }

  #arm(): void {
    const first = this.#questions.values().next();
    this.deadline = first.done === true ? Number.POSITIVE_INFINITY : first.value.deadline;
    this.#timers.update(this);
  }
}

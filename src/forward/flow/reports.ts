/**
 * Telling the control plane of flows that open and end, as many as it can pass on: a guest may open tens of thousands a
 * second, and each would be lines of text and memory in a thread that has other things to do.
 *
 * A flow is told of wholly or not at all: one whose opening was left out ends in silence. How many there were is counted,
 * and told once a second while it goes on.
 */

import { type Clock, TimerNode, type Timers } from '../../loop.ts';
import { Counter, type Counters } from '../../stack/counters.ts';
import { RateLimit } from '../../stack/rate-limit.ts';
import type { FlowEvent, FlowReport } from './info.ts';

/** Flows told of at once, of those in a second. Each is up to two messages of half a kibibyte. */
const AT_ONCE_FACTOR = 5;
const SUMMARY_MS = 1000;

export interface FlowReportServices {
  readonly clock: Clock;
  readonly timers: Timers;
  report(event: FlowReport): void;
}

export class FlowReports extends TimerNode {
  readonly #services: FlowReportServices;
  readonly #counters: Counters;
  readonly #limit: RateLimit;
  #leftOut = 0;

  constructor(services: FlowReportServices, counters: Counters, perSecond: number) {
    super();
    this.#services = services;
    this.#counters = counters;
    this.#limit = new RateLimit(perSecond, perSecond * AT_ONCE_FACTOR);
  }

  /** Whether one more flow may be told of. */
  mayTell(): boolean {
    const { clock, timers } = this.#services;
    if (this.#limit.allow(clock.nowMs)) return true;
    this.#counters.add(Counter.FlowsLeftOut, 1);
    if (this.#leftOut++ === 0) {
      this.deadline = clock.nowMs + SUMMARY_MS;
      timers.update(this);
    }
    return false;
  }

  tell(event: FlowEvent): void {
    this.#services.report(event);
  }

  /** The guest is gone; what was left out is said now. */
  close(): void {
    this.#services.timers.cancel(this);
    if (this.#leftOut > 0) this.onTimer(0);
  }

  onTimer(_nowMs: number): void {
    this.#services.report({ type: 'flowsLeftOut', flows: this.#leftOut });
    this.#leftOut = 0;
  }
}

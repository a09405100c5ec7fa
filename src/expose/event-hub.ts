/**
 * The events of a process: numbered in the order in which they come, without gaps, and handed to everybody who listens. A
 * listener that throws is a defect; one that cannot keep up loses events on its own account (see docs/events.md).
 */
import type { EventSink, GuestEvent } from './event.ts';

/** A line of the stream. */
export type StreamEvent = { v: 1; seq: number; t: string; guest: string } & GuestEvent;

export class EventHub {
  readonly #listeners = new Set<(event: StreamEvent) => void>();
  readonly #now: () => number;
  #seq = 0;

  /** `now`: ms since the epoch. */
  constructor(now: () => number = Date.now) {
    this.#now = now;
  }

  /** Where the events of the guest of that name go. */
  sink(guest: string): EventSink {
    return {
      emit: (event) => {
        this.#seq += 1;
        const line = {
          v: 1,
          seq: this.#seq,
          t: new Date(this.#now()).toISOString(),
          guest,
          ...event,
        } as const;
        for (const listener of this.#listeners) listener(line);
      },
    };
  }

  /** Told of every event from now on. Returns what ends that. */
  listen(listener: (event: StreamEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

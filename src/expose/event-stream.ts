/**
 * What one reader is told: every event as it comes, numbered from 1 without gaps. Who does not keep up loses what comes
 * until everything that waits for him is taken, and is then told how much that was and, in a snapshot, what is there by
 * now. So a reader that is stuck costs `WAITING_MAX` bytes and one snapshot, whatever the guest does.
 */
import type { EventHub, StampedEvent } from './event-hub.ts';
import { eventLine, type Line, snapshotLines } from './event-line.ts';

/** Bytes that wait for a reader. */
const WAITING_MAX = 256 * 1024;

/** Where lines go, without ever waiting for it. Whoever has it calls `EventStream.taken` when nothing waits any more. */
export interface EventOutput {
  /** Bytes that the reader has not taken. */
  readonly waiting: number;
  line(text: string): void;
}

export class EventStream {
  readonly #hub: EventHub;
  readonly #output: EventOutput;
  readonly #stop: () => void;
  #seq = 0;
  #lost = 0;
  #owesSnapshot = false;

  constructor(hub: EventHub, output: EventOutput) {
    this.#hub = hub;
    this.#output = output;
    this.#stop = hub.listen((event) => this.#receive(event));
  }

  /** Tell what is there, as soon as everything before it is taken. */
  snapshot(): void {
    this.#owesSnapshot = true;
    if (this.#output.waiting === 0) this.taken();
  }

  /** The reader has taken all. */
  taken(): void {
    if (this.#lost > 0) {
      const count = this.#lost;
      this.#lost = 0;
      this.#owesSnapshot = true;
      this.#write({ t: this.#hub.time(), type: 'dropped', count });
    }
    if (!this.#owesSnapshot) return;
    this.#owesSnapshot = false;
    const t = this.#hub.time();
    for (const [guest, present] of this.#hub.present())
      for (const part of snapshotLines(t, guest, present)) this.#write(part);
  }

  close(): void {
    this.#stop();
  }

  #receive(event: StampedEvent): void {
    if (this.#lost > 0 || this.#output.waiting > WAITING_MAX) this.#lost++;
    else this.#write(event);
  }

  #write(event: StampedEvent | Line): void {
    this.#seq++;
    this.#output.line(eventLine(this.#seq, event));
  }
}

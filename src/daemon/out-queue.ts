/**
 * What waits for the other end to read. When it does not fit, events are left out first, the oldest of them, then logs; what
 * somebody waits for never is. How many were left out is told in their place.
 */
import { encodeFrame } from './frames.ts';

/** `call`: requests, answers, and what may not be lost. */
export type Kind = 'call' | 'log' | 'event';

/** Bytes that wait. Calls may take more: whoever fills the queue has to ask for no more of them. */
export const QUEUE_MAX: number = 256 * 1024;

interface Waiting {
  kind: Kind;
  frame: Buffer;
}

export class OutQueue {
  readonly #max: number;
  #waiting: Waiting[] = [];
  #bytes = 0;
  /** Of `#bytes`. */
  #callBytes = 0;
  #dropped = { event: 0, log: 0 };

  constructor(max: number = QUEUE_MAX) {
    this.#max = max;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get callBytes(): number {
    return this.#callBytes;
  }

  add(kind: Kind, message: object): void {
    const frame = encodeFrame(message);
    this.#leaveOut('event', frame.length);
    if (kind !== 'event') this.#leaveOut('log', frame.length);
    if (kind !== 'call' && this.#bytes + frame.length > this.#max) {
      this.#dropped[kind]++;
      return;
    }
    this.#waiting.push({ kind, frame });
    this.#bytes += frame.length;
    if (kind === 'call') this.#callBytes += frame.length;
  }

  /** The next frame to be sent. */
  take(): Buffer | undefined {
    const first = this.#waiting[0];
    // Of what came before it. Calls come through without.
    if (first === undefined || first.kind !== 'call') {
      const told = this.#tellDropped('event') ?? this.#tellDropped('log');
      if (told !== undefined) return told;
    }
    if (first === undefined) return undefined;
    this.#waiting.shift();
    this.#bytes -= first.frame.length;
    if (first.kind === 'call') this.#callBytes -= first.frame.length;
    return first.frame;
  }

  /** Until `length` bytes more fit, or there is none left of this kind. */
  #leaveOut(kind: 'event' | 'log', length: number): void {
    let surplus = this.#bytes + length - this.#max;
    if (surplus <= 0) return;
    this.#waiting = this.#waiting.filter((each) => {
      if (each.kind !== kind || surplus <= 0) return true;
      surplus -= each.frame.length;
      this.#bytes -= each.frame.length;
      this.#dropped[kind]++;
      return false;
    });
  }

  #tellDropped(kind: 'event' | 'log'): Buffer | undefined {
    const count = this.#dropped[kind];
    if (count === 0) return undefined;
    this.#dropped[kind] = 0;
    return encodeFrame({ type: 'dropped', what: `${kind}s`, count });
  }
}

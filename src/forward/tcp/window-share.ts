/**
 * The receive windows of flows that upload at the same time. What guests have in flight lies in the device's queue,
 * first in, first out, and every frame behind it waits: a ping, an acknowledgment of a download. One flow alone may have
 * its full window; several share `QUEUE_BYTES`, which the data plane takes in about a millisecond.
 *
 * A window that becomes smaller takes nothing back (RFC 9293 §3.8.6): it only opens no further until it fits.
 */

/** Bytes that uploads may have in the device's queue, all together. */
const QUEUE_BYTES = 1024 * 1024;
/** A frame of the largest size. */
const LEAST_WINDOW = 64 * 1024;
/** A flow counts for as long after its last burst, and this is how often that is looked at. */
const BUSY_MS = 100;
/** Bytes in one batch of frames that make a flow one of those that upload. */
export const BURST_BYTES: number = 16 * 1024;

/** No time of this clock. */
export const NOT_LISTED: number = -1;

/** A flow as this file sees it. */
export interface Uploader {
  /** Time of its last burst, or `NOT_LISTED`. */
  burstAt: number;
  readonly over: boolean;
}

export class WindowShare {
  /** What one flow's window may be at the moment, in bytes. */
  window: number;
  readonly #full: number;
  readonly #flows: (Uploader | null)[] = [];
  #count = 0;
  #lookAt = 0;

  /** `full` is the window of a flow alone. */
  constructor(full: number) {
    this.#full = full;
    this.window = full;
  }

  /** `flow` has sent a burst. */
  note(flow: Uploader, nowMs: number): void {
    if (flow.burstAt === NOT_LISTED) {
      this.#flows[this.#count++] = flow;
      this.#divide();
    }
    flow.burstAt = nowMs;
    if (nowMs >= this.#lookAt) this.#forget(nowMs);
  }

  #forget(nowMs: number): void {
    this.#lookAt = nowMs + BUSY_MS;
    let kept = 0;
    for (let i = 0; i < this.#count; i++) {
      const flow = this.#flows[i] as Uploader;
      this.#flows[i] = null;
      if (flow.over || nowMs - flow.burstAt > BUSY_MS) flow.burstAt = NOT_LISTED;
      else this.#flows[kept++] = flow;
    }
    this.#count = kept;
    this.#divide();
  }

  #divide(): void {
    const share = Math.max(LEAST_WINDOW, Math.floor(QUEUE_BYTES / Math.max(1, this.#count)));
    this.window = Math.min(this.#full, share);
  }
}

/**
 * At most so many in a second. For what costs the host far more than the guest: a flood of it would take the turns of
 * everything else (U-04).
 */
const WINDOW_MS = 1000;

/** Datagram flows that give way to newer ones in a second: closing and opening a socket each. */
export const MAX_EVICTIONS_PER_SECOND = 8192;
/** The same for pings: with the flows there may be, 10,000 identifiers at once are answered (C-01). */
export const MAX_PING_EVICTIONS_PER_SECOND = 9000;
/** DNS queries that are passed on in a second: a socket each, for every resolver that is tried. */
export const MAX_QUERIES_PER_SECOND = 4096;

export class RateWindow {
  readonly #perSecond: number;
  #startMs: number = Number.NEGATIVE_INFINITY;
  #count = 0;

  constructor(perSecond: number) {
    this.#perSecond = perSecond;
  }

  /** Whether one more may be done at `nowMs`; true counts it. */
  allow(nowMs: number): boolean {
    if (nowMs - this.#startMs >= WINDOW_MS) {
      this.#startMs = nowMs;
      this.#count = 0;
    }
    if (this.#count >= this.#perSecond) return false;
    this.#count++;
    return true;
  }
}

/** A token bucket: so many a second, so many at once. For what cannot be a side channel (see icmp/limit.ts for what can). */
export class RateLimit {
  readonly #ratePerMs: number;
  readonly #burst: number;
  #tokens: number;
  #refilledMs = Number.NEGATIVE_INFINITY;

  constructor(ratePerSecond: number, burst: number) {
    this.#ratePerMs = ratePerSecond / 1000;
    this.#burst = burst;
    this.#tokens = burst;
  }

  /** Whether one more may pass at `nowMs` (monotonic); true uses up a token. */
  allow(nowMs: number): boolean {
    if (!this.hasRoom(nowMs)) return false;
    this.#tokens -= 1;
    return true;
  }

  /** Whether one more would pass. */
  hasRoom(nowMs: number): boolean {
    if (nowMs > this.#refilledMs) {
      this.#tokens = Math.min(this.#burst, this.#tokens + (nowMs - this.#refilledMs) * this.#ratePerMs);
      this.#refilledMs = nowMs;
    }
    return this.#tokens >= 1;
  }
}

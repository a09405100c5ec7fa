/**
 * Rate limit for ICMP errors (RFC 1812 §4.3.2.8, RFC 4443 §2.4 (f)): a token bucket whose refill is random.
 *
 * A limiter shared by all flows is a side channel when it can be predicted: a peer that spends exactly the whole
 * burst learns from the one error that is missing whether somebody else caused an error meanwhile (the way in which
 * open UDP ports were found behind Linux before 5.10). Here the times of refill, the amount and the capacity of each
 * refill are random: at most `burst` errors at once, `ratePerSecond` on average, and no exact number to count on.
 */
import type { Rng } from '../rng.ts';

/** Milliseconds between refills: uniform in this range, 50 ms in the middle. */
const REFILL_MIN_MS = 20;
const REFILL_SPREAD_MS = 60;

const TWO_POW_32 = 0x1_0000_0000;

export class ErrorLimiter {
  readonly #ratePerMs: number;
  readonly #burst: number;
  readonly #rng: Rng;
  #tokens: number;
  #refilledMs = -1;
  #nextRefillMs = 0;

  /**
   * @param ratePerSecond errors per second in the long run
   * @param burst most errors in an instant; the bucket holds between three quarters of it and all of it
   */
  constructor(ratePerSecond: number, burst: number, rng: Rng) {
    this.#ratePerMs = ratePerSecond / 1000;
    this.#burst = burst;
    this.#rng = rng;
    this.#tokens = this.#capacity();
  }

  /** Whether one more error may be sent at `nowMs` (monotonic); true uses up a token. */
  allow(nowMs: number): boolean {
    if (this.#refilledMs < 0) {
      this.#refilledMs = nowMs;
      this.#scheduleRefill(nowMs);
    } else if (nowMs >= this.#nextRefillMs) {
      const gain = (nowMs - this.#refilledMs) * this.#ratePerMs * (0.5 + this.#unit());
      this.#tokens = Math.min(this.#tokens + gain, this.#capacity());
      this.#refilledMs = nowMs;
      this.#scheduleRefill(nowMs);
    }
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }

  #scheduleRefill(nowMs: number): void {
    this.#nextRefillMs = nowMs + REFILL_MIN_MS + this.#unit() * REFILL_SPREAD_MS;
  }

  #capacity(): number {
    return Math.max(1, this.#burst * (0.75 + 0.25 * this.#unit()));
  }

  #unit(): number {
    return this.#rng.u32() / TWO_POW_32;
  }
}

/**
 * HyStart++ (RFC 9406): leaving slow start when the round trip grows, before the queue on the way overflows. A round is
 * as many acknowledged bytes as the window had when it began. Milliseconds and bytes.
 */

/** §4.3. */
const MIN_RTT_THRESHOLD_MS = 4;
const MAX_RTT_THRESHOLD_MS = 16;
const MIN_RTT_DIVISOR = 8;
const RTT_SAMPLES = 8;
const CSS_GROWTH_DIVISOR = 4;
const CSS_ROUNDS = 5;

export class HyStart {
  #roundLeft = 0;
  #lastRoundMinMs: number = Number.POSITIVE_INFINITY;
  #roundMinMs: number = Number.POSITIVE_INFINITY;
  #samples = 0;
  /** Smallest round trip when Conservative Slow Start began; -1 = it has not. */
  #baselineMs = -1;
  #conservativeRounds = 0;

  /** By what the growth of slow start is to be divided; 0 = slow start is over. */
  onAck(acked: number, cwnd: number, rttMs: number): number {
    this.#roundLeft -= acked;
    if (this.#roundLeft <= 0 && this.#startRound(cwnd)) return 0;
    if (rttMs >= 0) {
      if (rttMs < this.#roundMinMs) this.#roundMinMs = rttMs;
      this.#samples++;
      if (this.#samples >= RTT_SAMPLES) this.#judge();
    }
    return this.#baselineMs >= 0 ? CSS_GROWTH_DIVISOR : 1;
  }

  /** True when the last conservative round is over. */
  #startRound(cwnd: number): boolean {
    this.#roundLeft = cwnd;
    this.#lastRoundMinMs = this.#roundMinMs;
    this.#roundMinMs = Number.POSITIVE_INFINITY;
    this.#samples = 0;
    return this.#baselineMs >= 0 && ++this.#conservativeRounds >= CSS_ROUNDS;
  }

  #judge(): void {
    if (this.#baselineMs >= 0) {
      // It was a burst, not a queue that stays: back to slow start.
      if (this.#roundMinMs < this.#baselineMs) {
        this.#baselineMs = -1;
        this.#conservativeRounds = 0;
      }
      return;
    }
    if (this.#lastRoundMinMs === Number.POSITIVE_INFINITY) return;
    const eighth = this.#lastRoundMinMs / MIN_RTT_DIVISOR;
    const threshold = Math.min(MAX_RTT_THRESHOLD_MS, Math.max(MIN_RTT_THRESHOLD_MS, eighth));
    if (this.#roundMinMs >= this.#lastRoundMinMs + threshold) this.#baselineMs = this.#roundMinMs;
  }
}

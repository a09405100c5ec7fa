/**
 * Leaving slow start before the queue on the way overflows: HyStart++ (RFC 9406), and before it the acknowledgment train
 * of the first HyStart (Ha and Rhee, 2011), as Linux has it. Milliseconds and bytes.
 *
 * A growing round trip tells of a full network one round trip too late, and by then the window has doubled. So when the
 * acknowledgments of one round come without a pause for a whole round trip, which is when the network has no gap left,
 * growth becomes that of Conservative Slow Start. That goes on until a queue stays (the round trip has grown for good),
 * or its rounds are over. Half a round trip, as Linux has it for senders that do not pace, would tell of nothing but our
 * own pace: at twice the window per round trip (pacing.ts) a round's acknowledgments always take two thirds of one.
 *
 * A round is as many acknowledged bytes as the window had when it began.
 */

/** RFC 9406 §4.3. */
const MIN_RTT_THRESHOLD_MS = 4;
const MAX_RTT_THRESHOLD_MS = 16;
const MIN_RTT_DIVISOR = 8;
const RTT_SAMPLES = 8;
const CSS_GROWTH_DIVISOR = 4;
const CSS_ROUNDS = 5;
/** A longer pause between acknowledgments ends a train. */
const TRAIN_GAP_MS = 2;

const Phase = { SlowStart: 0, AfterDelay: 1, AfterTrain: 2 } as const;

export class HyStart {
  #phase: (typeof Phase)[keyof typeof Phase] = Phase.SlowStart;
  #roundLeft = 0;
  #roundStart = 0;
  #trainEnd = 0;
  #minRttMs: number = Number.POSITIVE_INFINITY;
  #lastRoundMinMs: number = Number.POSITIVE_INFINITY;
  #roundMinMs: number = Number.POSITIVE_INFINITY;
  #samples = 0;
  /** Smallest round trip of the round in which growth was slowed down. */
  #baselineMs = 0;
  #conservativeRounds = 0;

  /** By what the growth of slow start is to be divided; 0 = slow start is over. */
  onAck(acked: number, cwnd: number, nowMs: number, rttMs: number): number {
    this.#roundLeft -= acked;
    if (this.#roundLeft <= 0) this.#startRound(cwnd, nowMs);
    if (nowMs - this.#trainEnd <= TRAIN_GAP_MS) this.#trainEnd = nowMs;
    if (rttMs >= 0) {
      if (rttMs < this.#roundMinMs) this.#roundMinMs = rttMs;
      if (rttMs < this.#minRttMs) this.#minRttMs = rttMs;
      this.#samples++;
    }
    if (this.#phase === Phase.SlowStart) this.#judge(nowMs);
    else if (this.#isOver()) return 0;
    return this.#phase === Phase.SlowStart ? 1 : CSS_GROWTH_DIVISOR;
  }

  #startRound(cwnd: number, nowMs: number): void {
    this.#roundLeft = cwnd;
    this.#roundStart = nowMs;
    this.#trainEnd = nowMs;
    this.#lastRoundMinMs = this.#roundMinMs;
    this.#roundMinMs = Number.POSITIVE_INFINITY;
    this.#samples = 0;
    if (this.#phase !== Phase.SlowStart) this.#conservativeRounds++;
  }

  get #thresholdMs(): number {
    const eighth = this.#minRttMs / MIN_RTT_DIVISOR;
    return Math.min(MAX_RTT_THRESHOLD_MS, Math.max(MIN_RTT_THRESHOLD_MS, eighth));
  }

  #judge(nowMs: number): void {
    if (this.#samples < RTT_SAMPLES) return;
    if (this.#roundMinMs >= this.#lastRoundMinMs + this.#thresholdMs) this.#slowDown(Phase.AfterDelay);
    else if (this.#trainEnd === nowMs && nowMs - this.#roundStart >= this.#minRttMs) {
      this.#slowDown(Phase.AfterTrain);
    }
  }

  #slowDown(phase: (typeof Phase)[keyof typeof Phase]): void {
    this.#phase = phase;
    this.#baselineMs = this.#roundMinMs;
    this.#conservativeRounds = 0;
  }

  #isOver(): boolean {
    if (this.#conservativeRounds >= CSS_ROUNDS) return true;
    if (this.#samples < RTT_SAMPLES) return false;
    if (this.#phase === Phase.AfterTrain) return this.#roundMinMs >= this.#baselineMs + this.#thresholdMs;
    // It was a burst, not a queue that stays: back to slow start.
    if (this.#roundMinMs < this.#baselineMs) this.#phase = Phase.SlowStart;
    return false;
  }
}
